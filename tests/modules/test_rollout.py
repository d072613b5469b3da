"""A careful start on a running Synapse: some people first, and a dry run that lets through what it would refuse."""

from pathlib import Path

import pytest
from fake_api import FakeHomeserver
from prometheus_client import REGISTRY
from synapse.module_api.errors import SynapseError

from super_app.names import EventType

RING = {"call_id": "one", "version": "1", "party_id": "A", "lifetime": 60_000, "offer": {"type": "offer", "sdp": "v=0"}}


def dry(what: str, why: str) -> float:
    return REGISTRY.get_sample_value("superapp_dry_run_refusals_total", {"what": what, "why": why}) or 0.0


@pytest.fixture
def people(tmp_path: Path) -> Path:
    path = tmp_path / "people"
    path.write_text("@alice:hs1.test\n@carol:hs1.test\n", encoding="utf-8")
    return path


def some(people: Path) -> FakeHomeserver:
    homeserver = FakeHomeserver(config={"rollout": {"users_file": str(people)}, "calls": {"default_who": ["nobody"]}})
    homeserver.start()
    return homeserver


def test_who_is_not_let_in_sends_nothing_of_ours_and_chats_on(people: Path) -> None:
    homeserver = some(people)
    bob, alice = homeserver.register("bob"), homeserver.register("alice")
    room = homeserver.room(bob, alice)
    with pytest.raises(SynapseError) as refusal:
        homeserver.send(bob, room, EventType.PAYMENT, {})
    assert (refusal.value.code, refusal.value.errcode) == (403, "ORG.SUPERAPP.NOT_ROLLED_OUT")
    homeserver.send(bob, room, "m.room.message", {"msgtype": "m.text", "body": "as ever"})


def test_who_is_not_let_in_is_rung_as_ever_and_who_is_has_their_policy(people: Path) -> None:
    homeserver = some(people)
    alice, bob, carol = (homeserver.register(name) for name in ("alice", "bob", "carol"))
    homeserver.send(alice, homeserver.room(alice, bob), "m.call.invite", RING)
    with pytest.raises(SynapseError) as refusal:
        homeserver.send(alice, homeserver.room(alice, carol), "m.call.invite", {**RING, "call_id": "two"})
    assert refusal.value.errcode == "ORG.SUPERAPP.NOT_AVAILABLE"


def test_nobody_is_paid_who_is_not_let_in(people: Path) -> None:
    homeserver = some(people)
    operator, alice, bob, carol = (
        homeserver.register(name, admin=name == "operator") for name in ("operator", "alice", "bob", "carol")
    )
    issue = {"user_id": alice, "amount": 10, "currency": "PTS", "reference": "a start"}
    homeserver.call("POST", "admin/issue", operator, issue)
    order = {"payment_id": "1" * 32, "payee": bob, "amount": 1, "currency": "PTS"}
    with pytest.raises(SynapseError) as refusal:
        homeserver.call("POST", "payments", alice, order)
    assert refusal.value.errcode == "ORG.SUPERAPP.UNKNOWN_PAYEE"
    paid = homeserver.call("POST", "payments", alice, {**order, "payment_id": "2" * 32, "payee": carol})
    assert paid["state"] == "completed"


def test_in_a_dry_run_what_would_be_refused_passes_and_is_counted() -> None:
    homeserver = FakeHomeserver(config={"rollout": {"dry_run": True}, "calls": {"default_who": ["nobody"]}})
    homeserver.start()
    alice, bob = homeserver.register("alice"), homeserver.register("bob")
    room = homeserver.room(alice, bob)
    before = dry("ring", "who"), dry(EventType.PAYMENT, "ORG.SUPERAPP.INVALID_VALUE")
    homeserver.send(alice, room, "m.call.invite", RING)
    event_id = homeserver.send(alice, room, EventType.PAYMENT, {"nonsense": True})
    assert homeserver.query("SELECT count(*) FROM superapp_payment") == [(0,)]
    assert not homeserver.events[event_id].internal_metadata.is_soft_failed()
    after = dry("ring", "who"), dry(EventType.PAYMENT, "ORG.SUPERAPP.INVALID_VALUE")
    # The gate runs more than once for a send.
    assert all(now > then for now, then in zip(after, before, strict=True))


def test_what_only_homeservers_say_is_refused_in_a_dry_run_too() -> None:
    homeserver = FakeHomeserver(config={"rollout": {"dry_run": True}})
    homeserver.start()
    alice, bob = homeserver.register("alice"), homeserver.register("bob")
    with pytest.raises(SynapseError) as refusal:
        homeserver.send(alice, homeserver.room(alice, bob), EventType.PAYMENT_RECEIPT, {"outcome": "completed"})
    assert refusal.value.errcode == "ORG.SUPERAPP.SERVER_ONLY"


def test_our_routes_are_for_those_who_are_let_in(people: Path) -> None:
    homeserver = some(people)
    assert homeserver.call("GET", "wallet", homeserver.register("alice"))["accounts"]
    with pytest.raises(SynapseError) as refusal:
        homeserver.call("GET", "wallet", homeserver.register("bob"))
    assert refusal.value.errcode == "ORG.SUPERAPP.NOT_ROLLED_OUT"
