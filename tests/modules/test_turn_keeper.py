"""Who is in no call any more relays no more: the homeserver beside coturn's command line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeHomeserver
from fake_coturn import PASSWORD, FakeCoturn, commanded
from prometheus_client import REGISTRY
from synapse.module_api.errors import ConfigError
from test_calls_shell import RING, homeserver, ring

from synapse_super_app.calls.coturn import Coturn


@pytest.fixture
def coturn() -> Iterator[FakeCoturn]:
    with commanded() as fake:
        yield fake


@pytest.fixture
def config(tmp_path: Path, coturn: FakeCoturn) -> dict[str, Any]:
    for name, text in (("secret", "north"), ("password", PASSWORD)):
        (tmp_path / name).write_text(f"{text}\n")
    return {
        "turn_uris": ["turn:turn.test"],
        "turn_secret_path": str(tmp_path / "secret"),
        "turn_cli": [coturn.place],
        "turn_cli_password_path": str(tmp_path / "password"),
    }


@pytest.fixture
def hs(config: dict[str, Any]) -> FakeHomeserver:
    return homeserver(**config)


def given(hs: FakeHomeserver, user_id: str, place: str = "calls/call-1") -> str:
    return str(hs.call("GET", f"{place}/turn", user_id)["username"])


def names(hs: FakeHomeserver) -> int:
    ((count,),) = hs.query("SELECT COUNT(*) FROM superapp_calls_relayed")
    return int(count)


def test_who_goes_on_relaying_after_the_end_is_out_within_two_seconds(hs: FakeHomeserver, coturn: FakeCoturn) -> None:
    alice, bob = hs.register("alice"), hs.register("bob")
    room = hs.room(alice, bob)
    hs.send(alice, room, RING, ring())
    coturn.relaying = {1: given(hs, alice), 2: given(hs, bob), 3: "1800000000:@stock:hs1.test", 4: f"18:{'x' * 20}"}
    hs.send(bob, room, "m.call.answer", {"call_id": "call-1"})
    hs.send(alice, room, "m.call.select_answer", {"call_id": "call-1"})
    hs.advance(60)
    # While the call lasts nobody is asked and nobody goes.
    assert (coturn.asked, set(coturn.relaying)) == (0, {1, 2, 3, 4})
    before = REGISTRY.get_sample_value("superapp_turn_removed_total") or 0
    hs.send(bob, room, "m.call.hangup", {"call_id": "call-1"})
    hs.advance(2)
    assert set(coturn.relaying) == {3, 4}
    assert REGISTRY.get_sample_value("superapp_turn_removed_total") == before + 2


def test_credentials_that_are_used_again_after_the_end_are_of_no_use(hs: FakeHomeserver, coturn: FakeCoturn) -> None:
    alice, bob = hs.register("alice"), hs.register("bob")
    room = hs.room(alice, bob)
    hs.send(alice, room, RING, ring())
    kept = given(hs, alice)
    hs.send(bob, room, "m.call.reject", {"call_id": "call-1"})
    for minute in range(9):
        coturn.relaying = {minute: kept}
        hs.advance(2)
        assert coturn.relaying == {}
        hs.advance(58)
    # What was allocated in the last moment is refreshed for ever; it goes all the same.
    hs.advance(58)
    coturn.relaying = {10: kept}
    hs.advance(4)
    assert coturn.relaying == {}
    hs.advance(4)
    assert names(hs) == 0
    asked = coturn.asked
    hs.advance(60)
    assert coturn.asked == asked


def test_in_a_room_one_relays_for_as_long_as_one_is_in_it(hs: FakeHomeserver, coturn: FakeCoturn) -> None:
    alice, bob = hs.register("alice"), hs.register("bob")
    room = hs.room(alice, bob)
    coturn.relaying = {1: given(hs, alice, f"call_rooms/{room}"), 2: given(hs, bob, f"call_rooms/{room}")}
    hs.advance(1_200)
    assert set(coturn.relaying) == {1, 2}
    hs.set_state(room, bob, "m.room.member", bob, {"membership": "leave"})
    hs.advance(2)
    assert set(coturn.relaying) == {1}
    coturn.relaying = {}
    hs.advance(120)
    assert names(hs) == 0


def test_who_closes_their_account_relays_no_more_and_leaves_no_trace(hs: FakeHomeserver, coturn: FakeCoturn) -> None:
    alice, bob = hs.register("alice"), hs.register("bob")
    room = hs.room(alice, bob)
    coturn.relaying = {1: given(hs, bob, f"call_rooms/{room}")}
    for deactivated in hs.api.callbacks["on_user_deactivation_status_changed"]:
        hs.result(deactivated(bob, True, False))
    assert hs.query("SELECT owner_acct, user_id, session_id, room_id FROM superapp_calls_relayed") == [
        ("", "", "", None)
    ]
    hs.advance(2)
    assert coturn.relaying == {}


def test_a_server_that_does_not_answer_is_asked_again(hs: FakeHomeserver, coturn: FakeCoturn) -> None:
    alice, bob = hs.register("alice"), hs.register("bob")
    room = hs.room(alice, bob)
    hs.send(alice, room, RING, ring())
    coturn.relaying = {1: given(hs, alice)}
    before = REGISTRY.get_sample_value("superapp_turn_unanswered_total") or 0
    away = Coturn(coturn.place, "another password")
    with pytest.raises(ValueError, match="refuses the password"):
        away.show_out(())
    coturn.refuses = True
    hs.send(bob, room, "m.call.reject", {"call_id": "call-1"})
    hs.advance(700)
    assert (REGISTRY.get_sample_value("superapp_turn_unanswered_total") or 0) > before
    # Who was not shown out is not forgotten, though their credentials are over.
    assert names(hs) == 1
    coturn.refuses = False
    hs.advance(4)
    assert (coturn.relaying, names(hs)) == ({}, 0)


def test_half_a_configuration_stops_the_start(config: dict[str, Any], tmp_path: Path) -> None:
    for wrong, said in (
        ({"turn_cli_password_path": None}, "turn_cli and turn_cli_password_path belong together"),
        ({"turn_uris": [], "turn_secret_path": None}, "of no use without turn_uris"),
        ({"turn_cli_password_path": str(tmp_path / "none")}, "turn_cli_password_path: cannot read"),
        ({"turn_cli": ["turn.test"]}, "turn_cli"),
    ):
        with pytest.raises(ConfigError, match=said):
            homeserver(**{**config, **wrong})
