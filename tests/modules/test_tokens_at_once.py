"""Tokens that wait for no database: what they still hold to, and that Synapse passes nothing on to itself."""

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_api import FakeHomeserver
from fake_livekit import FakeLiveKit
from synapse.federation.transport.server import appservice_proxy as of_servers
from synapse.http import server as http_server
from synapse.rest.client import appservice_proxy as of_clients
from test_conferences import SERVICE, config_of, get_token, refused_token, video_of

from synapse_super_app.private_api import PrivateApi

PREFIX, OWN_PATH = "rtc/livekit", "/own/path"


@pytest.fixture
def hs(tmp_path: Path) -> FakeHomeserver:
    homeserver = FakeHomeserver(config=config_of(tmp_path))
    homeserver.proxy_tokens[PREFIX] = SERVICE
    homeserver.start()
    return homeserver


@pytest.fixture
def sfu(hs: FakeHomeserver) -> FakeLiveKit:
    return FakeLiveKit(hs)


def waited_for(hs: FakeHomeserver) -> list[str]:
    """The transactions about tokens since the last time."""
    found = [each for each in hs.statements if "conferences_token" in each]
    hs.statements.clear()
    return found


class TestAtOnce:
    def test_once_a_room_is_known_its_members_wait_for_no_transaction_and_have_seats(
        self, hs: FakeHomeserver, sfu: FakeLiveKit
    ) -> None:
        alice, bob = hs.register("alice"), hs.register("bob")
        room = hs.room(alice, bob)
        get_token(hs, alice, room)
        assert waited_for(hs)
        token = get_token(hs, bob, room, member_id="M2")
        assert not waited_for(hs)
        sfu.enter(token)
        hs.advance(20)
        assert len(sfu.people()) == 1
        assert video_of(token)["canPublish"]

    def test_who_is_kicked_gets_none_and_is_shown_out(self, hs: FakeHomeserver, sfu: FakeLiveKit) -> None:
        alice, bob = hs.register("alice"), hs.register("bob")
        room = hs.room(alice, bob)
        get_token(hs, alice, room)
        sfu.enter(get_token(hs, bob, room, member_id="M2"))
        hs.set_state(room, alice, "m.room.member", bob, {"membership": "leave"})
        assert refused_token(hs, bob, room, member_id="M2") == (403, "M_FORBIDDEN")
        hs.advance(2)
        assert sfu.people() == set()

    def test_rules_that_change_count_for_the_next_token(self, hs: FakeHomeserver, sfu: FakeLiveKit) -> None:
        alice, bob = hs.register("alice"), hs.register("bob")
        room = hs.room(alice, bob)
        assert video_of(get_token(hs, bob, room))["canPublish"]
        hs.call("PUT", f"call_rooms/{room}", alice, {"stage": True})
        assert not video_of(get_token(hs, bob, room))["canPublish"]
        assert sfu.rooms

    def test_a_room_that_the_sfu_closed_is_made_again(self, hs: FakeHomeserver, sfu: FakeLiveKit) -> None:
        alice = hs.register("alice")
        room = hs.room(alice)
        identity = sfu.enter(get_token(hs, alice, room))
        (name,) = sfu.rooms
        sfu.leave(name, identity)
        del sfu.rooms[name]
        authorization, body = sfu.webhook({"event": "room_finished", "room": {"name": name}})
        hs.result(
            hs.api.web_resources["/_synapse/client/superapp/livekit"].answer(
                "POST", "sfu_webhook", {"Authorization": authorization}, body
            )
        )
        get_token(hs, alice, room)
        assert set(sfu.rooms) == {name}

    def test_a_seat_that_could_not_be_written_is_written_later(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alice, bob = hs.register("alice"), hs.register("bob")
        room = hs.room(alice, bob)
        get_token(hs, alice, room)
        transact = hs.transact

        def failing(desc: str, *args: Any, **kwargs: Any) -> Any:
            if "conferences_seats" in desc:
                raise RuntimeError("the database is away")
            return transact(desc, *args, **kwargs)

        with monkeypatch.context() as patched:
            patched.setattr(hs, "transact", failing)
            get_token(hs, bob, room, member_id="M2")
            with pytest.raises(AssertionError, match="superapp_seats"):
                hs.advance(0.2)
        hs.background_errors.clear()
        hs.advance(2)
        assert hs.query("SELECT COUNT(*) FROM superapp_calls_sfu_seat") == [(2,)]


class TestProxy:
    """On Synapse's own proxies (MSC4512)."""

    @pytest.fixture
    def passed_on(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """What Synapse passes on over HTTP."""
        passed_on: list[Any] = []

        async def pass_on(*arguments: Any) -> None:
            passed_on.append(arguments)

        for module in (of_clients, of_servers):
            monkeypatch.setattr(module, "proxy_request_to_appservice", pass_on)
        return passed_on

    def ask(
        self, monkeypatch: pytest.MonkeyPatch, module: Any, proxy_url: str, headers: dict[bytes, bytes]
    ) -> tuple[list[Any], list[Any]]:
        """What the module was asked, and what it answered with."""
        asked: list[Any] = []
        answered: list[Any] = []
        homeserver = SimpleNamespace()

        async def answer(*arguments: Any) -> tuple[int, dict[str, Any]]:
            asked.append(arguments)
            return 200, {"jwt": "x"}

        monkeypatch.setattr(http_server, "respond_with_json", lambda *said, **_: answered.append(said[1:]))
        private = PrivateApi.__new__(PrivateApi)
        monkeypatch.setattr(private, "_hs", homeserver, raising=False)
        private.answer_proxied(PREFIX, OWN_PATH, answer)
        body = io.BytesIO(json.dumps({"room_id": "!r"}).encode())
        body.read()
        request: Any = SimpleNamespace(path=b"/_matrix/x/get_token", method=b"POST", content=body)
        service = SimpleNamespace(proxy_prefix=PREFIX, proxy_url=proxy_url, hs_token="T")
        work = module.proxy_request_to_appservice(request, homeserver, service, None, headers)
        with pytest.raises(StopIteration):
            work.send(None)
        return asked, answered

    @pytest.mark.parametrize("module", [of_clients, of_servers])
    def test_what_would_come_back_to_this_process_is_answered_without_a_second_request(
        self, monkeypatch: pytest.MonkeyPatch, passed_on: list[Any], module: Any
    ) -> None:
        asked, answered = self.ask(
            monkeypatch, module, f"http://127.0.0.1:8008{OWN_PATH}/", {b"X-Matrix-Origin": b"hs2.test"}
        )
        headers = {"X-Matrix-Origin": "hs2.test", "Authorization": "Bearer T"}
        assert asked == [("POST", "_matrix/x/get_token", headers, b'{"room_id": "!r"}')]
        assert answered == [(200, {"jwt": "x"})]
        assert passed_on == []

    def test_where_the_operator_has_another_service_synapse_passes_on(
        self, monkeypatch: pytest.MonkeyPatch, passed_on: list[Any]
    ) -> None:
        asked, answered = self.ask(monkeypatch, of_clients, "http://127.0.0.1:9000/another", {})
        assert (asked, answered) == ([], [])
        assert len(passed_on) == 1
