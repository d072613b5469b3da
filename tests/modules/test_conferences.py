"""Calls of many: tokens for the SFU, who must leave it, leave events, webhooks; on a LiveKit that checks tokens."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from fake_api import FakeHomeserver
from fake_livekit import KEY, SECRET, URL, FakeLiveKit, Refused, asks
from synapse.module_api.errors import ConfigError, SynapseError

from super_app.conferences.model import CONNECT_MS, REFRESHED_MS
from super_app.conferences.rules import identity_of, identity_of_device, sfu_room_of
from super_app.ids import RoomId, UserId
from synapse_super_app.private_api import NoAnswer

HS2 = "hs2.test"
REMOTE = f"@remote:{HS2}"
SERVICE = "a-service-token-of-synapse"
SLOT = "m.call#ROOM"
CLIENT = "_matrix/client/unstable/io.element.msc4195/rtc/livekit"
FEDERATION = "_matrix/federation/unstable/io.element.msc4195/rtc/livekit"


def config_of(folder: Path, **more: Any) -> dict[str, Any]:
    (folder / "secret").write_text(SECRET)
    livekit = {"url": URL, "key": KEY, "secret_path": str(folder / "secret"), **more}
    return {
        "features": {"directory": False, "payments": False, "web": False},
        "calls": {"default_who": ["everyone"], "livekit": livekit},
    }


@pytest.fixture
def hs(tmp_path: Path) -> FakeHomeserver:
    homeserver = FakeHomeserver(config=config_of(tmp_path))
    homeserver.proxy_tokens["rtc/livekit"] = SERVICE
    homeserver.start()
    return homeserver


@pytest.fixture
def sfu(hs: FakeHomeserver) -> FakeLiveKit:
    return FakeLiveKit(hs)


@pytest.fixture
def alice(hs: FakeHomeserver) -> str:
    return hs.register("alice")


@pytest.fixture
def bob(hs: FakeHomeserver) -> str:
    return hs.register("bob")


@pytest.fixture
def room(hs: FakeHomeserver, alice: str, bob: str) -> str:
    return hs.room(alice, bob, REMOTE)


def code_of(error: SynapseError) -> str:
    return str(getattr(error.errcode, "value", error.errcode))


def openid(hs: FakeHomeserver, user_id: str, server: str = "") -> dict[str, Any]:
    """An OpenID token that somebody got of their homeserver, here or elsewhere."""
    token = f"openid-of-{user_id}"
    home = hs
    if server:
        home = hs.reachable.setdefault(server, FakeHomeserver(server, clock=hs.clock))
    home.openid_tokens[token] = (UserId(user_id), hs.now_ms() + 3_600_000)
    return {
        "access_token": token,
        "token_type": "Bearer",
        "matrix_server_name": server or hs.server_name,
        "expires_in": 1,
    }


def sfu_get(hs: FakeHomeserver, user_id: str, room: str, device: str = "DEV", server: str = "", **more: Any) -> str:
    body = {"room": room, "openid_token": openid(hs, user_id, server), "device_id": device, **more}
    answer = asks(hs, "sfu/get", body)
    assert answer["url"] == URL
    return str(answer["jwt"])


def get_token(hs: FakeHomeserver, user_id: str, room: str, **more: Any) -> str:
    body = {"url": URL, "room_id": room, "slot_id": SLOT, "member_id": "M1", **more}
    headers = {"Authorization": f"Bearer {SERVICE}", "X_Matrix_User_Identifier": user_id}
    return str(asks(hs, f"{CLIENT}/get_token", body, **headers)["jwt"])


def get_token_from(hs: FakeHomeserver, origin: str, user_id: str, room: str, **more: Any) -> str:
    body = {"url": URL, "room_id": room, "slot_id": SLOT, "member_id": "M9", "user_id": user_id, **more}
    headers = {"Authorization": f"Bearer {SERVICE}", "X_Matrix_Origin": origin}
    return str(asks(hs, f"{FEDERATION}/get_token", body, **headers)["jwt"])


def refusal(hs: FakeHomeserver, path: str, body: object, **headers: str) -> tuple[int, str]:
    with pytest.raises(SynapseError) as refused:
        asks(hs, path, body, **headers)
    assert refused.value.msg.endswith(".") or refused.value.code == 404
    return refused.value.code, code_of(refused.value)


def refused_token(hs: FakeHomeserver, user_id: str, room: str, **more: Any) -> tuple[int, str]:
    with pytest.raises(SynapseError) as refused:
        get_token(hs, user_id, room, **more)
    return refused.value.code, code_of(refused.value)


def video_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    video: dict[str, Any] = claims["video"]
    return video


class TestTokens:
    def test_a_member_of_the_room_enters_its_call_as_todays_clients_do(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, room: str
    ) -> None:
        assert sfu.enter(sfu_get(hs, alice, room)) == f"{alice}:DEV"
        assert list(sfu.rooms) == [sfu_room_of(RoomId(room), SLOT)]

    def test_a_member_enters_with_the_identity_that_others_derive(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, bob: str, room: str
    ) -> None:
        assert sfu.enter(get_token(hs, alice, room)) == identity_of(UserId(alice), "M1")
        member = {"id": "M2", "claimed_user_id": bob, "claimed_device_id": "D"}
        of_the_service = {"room_id": room, "slot_id": SLOT, "openid_token": openid(hs, bob), "member": member}
        assert sfu.enter(asks(hs, "get_token", of_the_service)["jwt"]) == identity_of_device(UserId(bob), "D", "M2")
        assert sfu.enter(get_token(hs, bob, room, member_id=None, member=member)) in sfu.people()
        assert len(sfu.rooms) == 1

    def test_the_name_of_a_room_tells_the_sfu_nothing_and_is_another_for_each_slot(self, room: str) -> None:
        one, other = sfu_room_of(RoomId(room), SLOT), sfu_room_of(RoomId(room), "m.call#SIDE")
        assert one != other
        assert "room" not in one

    def test_a_token_lets_nobody_make_rooms_hide_or_change_what_it_says(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, room: str
    ) -> None:
        video = video_of(get_token(hs, alice, room))
        assert (video["roomCreate"], video["hidden"], video["canUpdateOwnMetadata"]) == (False, False, False)
        assert (video["roomJoin"], video["canSubscribe"], video["canPublish"]) == (True, True, True)
        assert "roomAdmin" not in video

    def test_it_ends_after_ten_minutes(self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, room: str) -> None:
        token = get_token(hs, alice, room)
        hs.advance(601)
        with pytest.raises(Refused):
            sfu.enter(token)

    def test_whoever_is_not_in_the_room_gets_none(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, room: str
    ) -> None:
        carol = hs.register("carol")
        assert refused_token(hs, carol, room) == (403, "M_FORBIDDEN")
        assert refused_token(hs, alice, "!elsewhere:hs1.test") == (403, "M_FORBIDDEN")
        hs.set_state(room, alice, "m.room.member", carol, {"membership": "invite"})
        assert refused_token(hs, carol, room) == (403, "M_FORBIDDEN")
        body = {"room": room, "openid_token": openid(hs, carol), "device_id": "D"}
        assert refusal(hs, "sfu/get", body) == (403, "M_FORBIDDEN")
        assert sfu.rooms == {}

    def test_an_openid_token_that_nobody_was_given_is_refused(self, hs: FakeHomeserver, alice: str, room: str) -> None:
        token = openid(hs, alice)
        body = {"room": room, "openid_token": {**token, "access_token": "made-up"}, "device_id": "D"}
        assert refusal(hs, "sfu/get", body) == (401, "M_UNAUTHORIZED")
        hs.advance(3_601)
        assert refusal(hs, "sfu/get", {**body, "openid_token": token}) == (401, "M_UNAUTHORIZED")

    def test_nobody_claims_to_be_somebody_else(self, hs: FakeHomeserver, alice: str, bob: str, room: str) -> None:
        member = {"id": "M", "claimed_user_id": alice, "claimed_device_id": "D"}
        body = {"room_id": room, "slot_id": SLOT, "openid_token": openid(hs, bob), "member": member}
        assert refusal(hs, "get_token", body) == (401, "M_UNAUTHORIZED")
        assert refused_token(hs, bob, room, member_id=None, member=member) == (403, "M_FORBIDDEN")

    @pytest.mark.parametrize("missing", ["room", "openid_token", "device_id"])
    def test_a_request_that_lacks_something_is_told_so(
        self, hs: FakeHomeserver, alice: str, room: str, missing: str
    ) -> None:
        body = {"room": room, "openid_token": openid(hs, alice), "device_id": "D"}
        del body[missing]
        assert refusal(hs, "sfu/get", body) == (400, "M_BAD_JSON")
        assert refusal(hs, "sfu/get", b"{") == (400, "M_NOT_JSON")

    def test_a_person_asks_for_tokens_only_so_often(self, tmp_path: Path) -> None:
        config = config_of(tmp_path)
        config["calls"]["limits"] = {"tokens": 2, "server_tokens": 1}
        hs = FakeHomeserver(config=config)
        hs.proxy_tokens["rtc/livekit"] = SERVICE
        hs.start()
        FakeLiveKit(hs)
        alice = hs.register("alice")
        room = hs.room(alice, REMOTE)
        get_token(hs, alice, room)
        get_token(hs, alice, room)
        assert refused_token(hs, alice, room) == (429, "M_LIMIT_EXCEEDED")
        get_token_from(hs, HS2, REMOTE, room)
        with pytest.raises(SynapseError) as refused:
            get_token_from(hs, HS2, f"@other:{HS2}", room)
        assert refused.value.code == 429
        hs.advance(601)
        get_token(hs, alice, room)

    def test_without_an_answer_of_the_sfu_there_is_no_token(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, room: str
    ) -> None:
        sfu.is_up = False
        assert refused_token(hs, alice, room) == (502, "M_UNKNOWN")
        sfu.is_up = True
        sfu.enter(get_token(hs, alice, room))

    def test_a_room_that_was_just_made_is_not_made_again_until_the_sfu_closed_it(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, bob: str, room: str
    ) -> None:
        get_token(hs, alice, room)
        get_token(hs, bob, room)
        assert sfu.requests.count("CreateRoom") == 1
        (name,) = sfu.rooms
        authorization, body = sfu.webhook({"event": "room_finished", "room": {"name": name}})
        asks(hs, "sfu_webhook", body, Authorization=authorization)
        get_token(hs, alice, room)
        assert sfu.requests.count("CreateRoom") == 2


class TestAcrossHomeservers:
    def test_somebody_of_another_homeserver_speaks_as_todays_clients_do(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, room: str
    ) -> None:
        token = sfu_get(hs, REMOTE, room, server=HS2)
        assert sfu.enter(token) == f"{REMOTE}:DEV"
        assert video_of(token)["canPublish"]

    def test_a_homeserver_vouches_for_its_own_people_only(self, hs: FakeHomeserver, alice: str, room: str) -> None:
        token = openid(hs, REMOTE, HS2)
        hs.reachable[HS2].openid_tokens[token["access_token"]] = (UserId(alice), hs.now_ms() + 1_000)
        body = {"room": room, "openid_token": token, "device_id": "D"}
        assert refusal(hs, "sfu/get", body) == (401, "M_UNAUTHORIZED")

    def test_a_homeserver_that_is_not_in_the_room_is_not_even_asked(self, hs: FakeHomeserver, room: str) -> None:
        for server in ("hs3.test", "127.0.0.1:1/../..", "hs2.test/path"):
            body = {"room": room, "openid_token": {"access_token": "t", "matrix_server_name": server}, "device_id": "D"}
            assert refusal(hs, "sfu/get", body) == (403, "M_FORBIDDEN")
        assert hs.asked == []

    def test_one_that_does_not_answer_is_no_ones_word(self, hs: FakeHomeserver, room: str) -> None:
        token = {"access_token": "t", "matrix_server_name": HS2}
        with pytest.raises((SynapseError, NoAnswer)) as refused:
            asks(hs, "sfu/get", {"room": room, "openid_token": token, "device_id": "D"})
        assert getattr(refused.value, "code", None) == 502

    def test_by_msc4195_they_listen_here_and_speak_at_home(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, room: str
    ) -> None:
        video = video_of(get_token_from(hs, HS2, REMOTE, room))
        assert (video["canPublish"], video["canSubscribe"]) == (False, True)

    def test_a_homeserver_gets_tokens_for_its_own_members_only(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, room: str
    ) -> None:
        for user_id in (alice, "@remote:hs3.test", f"@nobody:{HS2}", "nobody"):
            with pytest.raises(SynapseError) as refused:
                get_token_from(hs, HS2, user_id, room)
            assert (refused.value.code, code_of(refused.value)) == (403, "M_FORBIDDEN")

    def test_a_token_of_another_sfu_is_fetched_from_its_homeserver_for_a_member(
        self, hs: FakeHomeserver, alice: str, room: str
    ) -> None:
        asked: list[tuple[str, str, Mapping[str, Any]]] = []

        async def take(origin: str, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
            asked.append((origin, path, body))
            return {"jwt": "theirs"}

        other = FakeHomeserver(HS2, clock=hs.clock)
        other.take_post = take
        hs.reachable[HS2] = other
        assert get_token(hs, alice, room, server_name=HS2, url="wss://sfu.hs2.test") == "theirs"
        ((origin, path, body),) = asked
        assert (origin, path) == (hs.server_name, f"/{FEDERATION}/get_token")
        assert body == {
            "url": "wss://sfu.hs2.test",
            "room_id": room,
            "slot_id": SLOT,
            "member_id": "M1",
            "user_id": alice,
        }
        carol = hs.register("carol")
        assert refused_token(hs, carol, room, server_name=HS2) == (403, "M_FORBIDDEN")
        assert refused_token(hs, alice, room, server_name="hs3.test") == (403, "M_FORBIDDEN")
        assert len(asked) == 1

    @pytest.mark.parametrize(
        ("answer", "seen"),
        [
            (NoAnswer(403, "", {"errcode": "M_FORBIDDEN", "error": "You may not."}), (403, "M_FORBIDDEN")),
            (NoAnswer(400, "", {"errcode": "M_INVALID_PARAM", "error": "No such SFU."}), (400, "M_INVALID_PARAM")),
            (NoAnswer(429, "", {"errcode": "M_LIMIT_EXCEEDED"}), (502, "M_UNKNOWN")),
            (NoAnswer(None, "silence"), (502, "M_UNKNOWN")),
        ],
        ids=["forbidden", "no such url", "busy", "silent"],
    )
    def test_its_refusal_is_passed_on(
        self, hs: FakeHomeserver, alice: str, room: str, answer: NoAnswer, seen: tuple[int, str]
    ) -> None:
        async def take(_origin: str, _path: str, _body: Mapping[str, Any]) -> Mapping[str, Any]:
            raise answer

        hs.reachable[HS2] = FakeHomeserver(HS2, clock=hs.clock)
        hs.reachable[HS2].take_post = take
        assert refused_token(hs, alice, room, server_name=HS2) == seen


class TestTheProxy:
    def test_who_asks_is_believed_only_of_synapse_itself(self, hs: FakeHomeserver, alice: str, room: str) -> None:
        body = {"url": URL, "room_id": room, "slot_id": SLOT, "member_id": "M1"}
        for authorization in ("", "Bearer ", "Bearer wrong", SERVICE, f"Bearer {SERVICE}x"):
            seen = refusal(hs, f"{CLIENT}/get_token", body, Authorization=authorization, X_Matrix_User_Identifier=alice)
            assert seen == (403, "M_FORBIDDEN")

    def test_where_synapse_passes_nothing_on_nobody_is_believed(
        self, hs: FakeHomeserver, alice: str, room: str
    ) -> None:
        del hs.proxy_tokens["rtc/livekit"]
        body = {"url": URL, "room_id": room, "slot_id": SLOT, "member_id": "M1"}
        for authorization in ("Bearer None", "Bearer ", ""):
            seen = refusal(hs, f"{CLIENT}/get_token", body, Authorization=authorization, X_Matrix_User_Identifier=alice)
            assert seen == (403, "M_FORBIDDEN")

    def test_another_sfu_than_ours_is_refused(self, hs: FakeHomeserver, alice: str, room: str) -> None:
        assert refused_token(hs, alice, room, url="wss://evil.test") == (400, "M_INVALID_PARAM")

    def test_unknown_paths_are_not_there(self, hs: FakeHomeserver) -> None:
        assert refusal(hs, f"{CLIENT}/other", {}, Authorization=f"Bearer {SERVICE}") == (404, "M_UNRECOGNIZED")
        assert refusal(hs, "sfu/other", {}) == (404, "M_UNRECOGNIZED")


class TestLeaving:
    @pytest.mark.parametrize("membership", ["leave", "ban"])
    def test_who_is_kicked_or_leaves_is_removed_within_two_seconds(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, bob: str, room: str, membership: str
    ) -> None:
        mine = sfu.enter(sfu_get(hs, alice, room))
        sfu.enter(sfu_get(hs, bob, room))
        sfu.enter(sfu_get(hs, bob, room, "SECOND"))
        hs.set_state(room, alice, "m.room.member", bob, {"membership": membership})
        hs.advance(2)
        assert sfu.people() == {mine}

    def test_so_is_somebody_of_another_homeserver(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, room: str
    ) -> None:
        sfu.enter(sfu_get(hs, REMOTE, room, server=HS2))
        hs.set_state(room, alice, "m.room.member", REMOTE, {"membership": "leave"})
        hs.advance(2)
        assert sfu.people() == set()

    def test_a_token_from_before_lets_nobody_back_in(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, bob: str, room: str
    ) -> None:
        token = sfu_get(hs, bob, room)
        hs.set_state(room, alice, "m.room.member", bob, {"membership": "ban"})
        hs.advance(5)
        sfu.enter(token)
        assert sfu.people() == set()

    def test_neither_when_the_webhook_is_lost(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, bob: str, room: str
    ) -> None:
        token = sfu_get(hs, bob, room)
        hs.set_state(room, alice, "m.room.member", bob, {"membership": "leave"})
        hs.advance(5)
        sfu.webhooks = False
        sfu.enter(token)
        assert sfu.people()
        hs.advance(20)
        assert sfu.people() == set()

    def test_an_sfu_that_does_not_answer_is_asked_again(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, bob: str, room: str
    ) -> None:
        sfu.enter(sfu_get(hs, bob, room))
        sfu.is_up = False
        hs.set_state(room, alice, "m.room.member", bob, {"membership": "leave"})
        hs.advance(10)
        sfu.is_up = True
        hs.advance(2)
        assert sfu.people() == set()

    def test_so_is_one_while_the_homeserver_was_down(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, bob: str, room: str
    ) -> None:
        sfu.enter(sfu_get(hs, bob, room))
        hs.set_state(room, alice, "m.room.member", bob, {"membership": "leave"})
        hs.restart()
        hs.advance(2)
        assert sfu.people() == set()

    def test_who_comes_back_into_the_room_comes_back_into_the_call(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, bob: str, room: str
    ) -> None:
        sfu.enter(sfu_get(hs, bob, room))
        hs.set_state(room, alice, "m.room.member", bob, {"membership": "leave"})
        hs.advance(2)
        hs.set_state(room, bob, "m.room.member", bob, {"membership": "join"})
        sfu.enter(sfu_get(hs, bob, room))
        hs.advance(30)
        assert sfu.people() == {f"{bob}:DEV"}

    def test_who_has_no_seat_is_removed_and_what_is_not_ours_is_left_alone(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, room: str
    ) -> None:
        mine = sfu.enter(sfu_get(hs, alice, room))
        (name,) = sfu.rooms
        sfu.rooms["of another service"] = {"theirs": {"sid": "PA_x"}}
        sfu.rooms[name]["stranger"] = {"sid": "PA_y"}
        hs.advance(20)
        assert sfu.people() == {mine, "theirs"}
        said = {"event": "participant_joined", "room": {"name": "of another service"}}
        authorization, body = sfu.webhook({**said, "participant": {"identity": "theirs", "sid": "PA_x"}})
        asks(hs, "sfu_webhook", body, Authorization=authorization)
        assert sfu.people() == {mine, "theirs"}

    def test_seats_that_nobody_can_take_any_more_are_forgotten(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, room: str
    ) -> None:
        identity = sfu.enter(sfu_get(hs, alice, room))
        (name,) = sfu.rooms
        sfu.leave(name, identity)
        hs.advance(REFRESHED_MS / 1_000 + 3_700)
        assert hs.query("SELECT * FROM superapp_calls_sfu_seat") == []
        assert hs.query("SELECT * FROM superapp_calls_sfu_room") == []


class TestWebhooks:
    def test_one_that_the_sfu_did_not_sign_is_refused(self, hs: FakeHomeserver, sfu: FakeLiveKit, room: str) -> None:
        said = {"event": "participant_left", "room": {"name": "x"}, "participant": {"identity": "i", "sid": "s"}}
        good, body = sfu.webhook(said)
        asks(hs, "sfu_webhook", body, Authorization=good)
        other_body = json.dumps({**said, "event": "room_finished"}).encode()
        unsigned = jwt.encode({"iss": KEY, "exp": 2**40, "sha256": "x"}, "", algorithm="none")
        for authorization, content in (
            ("", body),
            ("nonsense", body),
            (good, other_body),
            (unsigned, body),
            (sfu.webhook(said, secret="another-secret-that-is-as-long-as-it-should-be")[0], body),
            (sfu.webhook(said, key="APIother")[0], body),
            (sfu.webhook(said, age_s=3_600)[0], body),
            (sfu.webhook(said, age_s=-3_600)[0], body),
        ):
            assert refusal(hs, "sfu_webhook", content, Authorization=authorization) == (401, "M_UNAUTHORIZED")

    def test_a_late_word_of_a_first_connection_does_not_end_the_second(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, room: str
    ) -> None:
        hs.delayed["d1"] = (UserId(alice), RoomId(room), 60_000)
        sfu.enter(sfu_get(hs, alice, room, delay_id="d1", delay_timeout=60_000))
        # The same device connects anew; the SFU then tells that the first connection is gone.
        sfu.enter(sfu_get(hs, alice, room))
        hs.advance(10)
        assert hs.sent_delayed == []


class TestLeaveEvents:
    def test_one_is_restarted_while_its_device_is_connected_and_sent_when_it_is_gone(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, room: str
    ) -> None:
        hs.delayed["d1"] = (UserId(alice), RoomId(room), 30_000)
        identity = sfu.enter(sfu_get(hs, alice, room, delay_id="d1", delay_timeout=30_000))
        hs.advance(300)
        times = [now_ms for _, now_ms in hs.restarts]
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert len(times) > 10
        assert max(gaps) < 20_000
        assert hs.sent_delayed == []
        (name,) = sfu.rooms
        sfu.leave(name, identity, "SIGNAL_CLOSE")
        hs.advance(2)
        assert hs.sent_delayed == ["d1"]
        assert hs.query("SELECT * FROM superapp_calls_sfu_leave") == []

    def test_it_is_sent_also_when_the_webhook_is_lost(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, room: str
    ) -> None:
        hs.delayed["d1"] = (UserId(alice), RoomId(room), 60_000)
        identity = sfu.enter(get_token(hs, alice, room))
        body = {"url": URL, "room_id": room, "slot_id": SLOT, "member_id": "M1", "delay_id": "d1"}
        headers = {"Authorization": f"Bearer {SERVICE}", "X_Matrix_User_Identifier": alice}
        assert asks(hs, f"{CLIENT}/delegate_delayed_leave", body, **headers) == {}
        hs.advance(20)
        sfu.webhooks = False
        (name,) = sfu.rooms
        sfu.leave(name, identity)
        hs.advance(20)
        assert hs.sent_delayed == ["d1"]

    def test_it_is_restarted_until_its_device_connects_but_not_for_ever(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, room: str
    ) -> None:
        hs.delayed["d1"] = (UserId(alice), RoomId(room), 10_000)
        sfu_get(hs, alice, room, delay_id="d1", delay_timeout=10_000)
        hs.advance(60)
        assert hs.restarts
        hs.advance(CONNECT_MS / 1_000)
        assert hs.query("SELECT * FROM superapp_calls_sfu_leave") == []
        assert hs.sent_delayed == []

    def test_a_later_one_of_the_same_device_takes_its_place(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, room: str
    ) -> None:
        for delay_id in ("d1", "d2"):
            hs.delayed[delay_id] = (UserId(alice), RoomId(room), 60_000)
        identity = sfu.enter(sfu_get(hs, alice, room, delay_id="d1", delay_timeout=1))
        sfu_get(hs, alice, room, delay_id="d2", delay_timeout=1)
        (name,) = sfu.rooms
        sfu.leave(name, identity)
        hs.advance(2)
        assert hs.sent_delayed == ["d2"]

    def test_one_that_its_client_sent_or_cancelled_is_let_go(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, room: str
    ) -> None:
        hs.delayed["d1"] = (UserId(alice), RoomId(room), 30_000)
        sfu.enter(sfu_get(hs, alice, room, delay_id="d1", delay_timeout=30_000))
        hs.delayed.clear()
        hs.advance(30)
        assert hs.query("SELECT * FROM superapp_calls_sfu_leave") == []

    def test_it_outlives_a_restart_of_the_homeserver(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, room: str
    ) -> None:
        hs.delayed["d1"] = (UserId(alice), RoomId(room), 30_000)
        sfu.enter(sfu_get(hs, alice, room, delay_id="d1", delay_timeout=30_000))
        hs.restart()
        before = len(hs.restarts)
        hs.advance(60)
        assert len(hs.restarts) > before

    def test_what_is_not_ones_own_or_too_soon_or_elsewhere_is_refused(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, bob: str, room: str
    ) -> None:
        hs.delayed["his"] = (UserId(bob), RoomId(room), 60_000)
        hs.delayed["elsewhere"] = (UserId(alice), RoomId("!other:hs1.test"), 60_000)
        hs.delayed["soon"] = (UserId(alice), RoomId(room), 1_000)
        headers = {"Authorization": f"Bearer {SERVICE}", "X_Matrix_User_Identifier": alice}
        body = {"url": URL, "room_id": room, "slot_id": SLOT, "member_id": "M1"}
        path = f"{CLIENT}/delegate_delayed_leave"
        for delay_id in ("his", "elsewhere", "soon", "none"):
            assert refusal(hs, path, {**body, "delay_id": delay_id}, **headers) == (400, "M_INVALID_PARAM")
        wrong = {**body, "delay_id": "soon", "url": "wss://other"}
        assert refusal(hs, path, wrong, **headers) == (400, "M_INVALID_PARAM")
        assert refusal(hs, path, body, **headers) == (400, "M_BAD_JSON")

    def test_one_of_another_homeserver_is_its_own_business(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, room: str
    ) -> None:
        body = {"room": room, "openid_token": openid(hs, REMOTE, HS2), "device_id": "D", "delay_id": "d1"}
        assert refusal(hs, "sfu/get", body) == (400, "M_INVALID_PARAM")


class TestConfig:
    def test_clients_are_told_where_the_sfu_is(self, hs: FakeHomeserver) -> None:
        service = "https://hs1.test/_synapse/client/superapp/livekit"
        assert hs.transports == [
            {"type": "livekit", "url": URL, "livekit_service_url": service},
            {"type": "m.livekit", "url": URL},
        ]

    def test_without_an_sfu_there_are_no_paths_for_it(self) -> None:
        hs = FakeHomeserver(config={"features": {"directory": False, "payments": False}})
        hs.start()
        assert not [path for path in hs.api.web_resources if "livekit" in path]
        assert hs.transports == []

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"secret_path": "/nowhere/secret"}, "calls.livekit.secret_path: cannot read"),
            ({"url": "https://sfu.test"}, "calls.livekit.url"),
            ({"token_ttl": "2h"}, "token_ttl must be from 1m to 15m"),
            ({"secret": "plain"}, "calls.livekit.secret is not a known key"),
        ],
        ids=["no file", "no websocket", "too long", "in the open"],
    )
    def test_a_wrong_value_stops_the_start_and_is_named(self, tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
        with pytest.raises(ConfigError) as stopped:
            FakeHomeserver(config=config_of(tmp_path, **wrong)).start()
        assert said in str(stopped.value.msg)

    def test_a_short_secret_stops_the_start(self, tmp_path: Path) -> None:
        config = config_of(tmp_path)
        (tmp_path / "secret").write_text("short")
        with pytest.raises(ConfigError, match="at least 32"):
            FakeHomeserver(config=config).start()
