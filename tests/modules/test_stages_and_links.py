"""Live rooms and links into calls: roles in the token and at the SFU, hands, opening hours, waiting rooms."""

from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeHomeserver, FakeRoom
from fake_livekit import FakeLiveKit
from synapse.module_api import EventBase
from synapse.module_api.errors import SynapseError
from test_conferences import HS2, SERVICE, code_of, config_of, get_token, sfu_get, video_of

from super_app.conferences.content import LAST_TIME_MS

ROLES = "org.superapp.call.roles"
LINK = "org.superapp.call.link"
HAND = "org.superapp.call.hand"
NEVER = "f" * 32


def started(server: str, folder: Path, **more: Any) -> FakeHomeserver:
    homeserver = FakeHomeserver(server, config=config_of(folder), **more)
    homeserver.proxy_tokens["rtc/livekit"] = SERVICE
    homeserver.start()
    return homeserver


@pytest.fixture
def hs(tmp_path: Path) -> FakeHomeserver:
    return started("hs1.test", tmp_path)


@pytest.fixture
def sfu(hs: FakeHomeserver) -> FakeLiveKit:
    return FakeLiveKit(hs)


@pytest.fixture
def hs2(hs: FakeHomeserver, tmp_path: Path) -> FakeHomeserver:
    other = started(HS2, tmp_path, clock=hs.clock)
    hs.reachable[HS2], other.reachable["hs1.test"] = other, hs
    return other


@pytest.fixture
def alice(hs: FakeHomeserver) -> str:
    return hs.register("alice")


@pytest.fixture
def bob(hs: FakeHomeserver) -> str:
    return hs.register("bob")


@pytest.fixture
def room(hs: FakeHomeserver, alice: str, bob: str) -> str:
    return hs.room(alice, bob)


def refusal(hs: FakeHomeserver, method: str, path: str, user_id: str, body: Any = None) -> tuple[int, str]:
    with pytest.raises(SynapseError) as refused:
        hs.call(method, path, user_id, body)
    return refused.value.code, code_of(refused.value).removeprefix("ORG.SUPERAPP.")


def stage(hs: FakeHomeserver, host: str, room: str, **more: Any) -> dict[str, Any]:
    return hs.call("PUT", f"call_rooms/{room}", host, {"stage": True, **more})


def promote(hs: FakeHomeserver, host: str, room: str, user_id: str, role: str) -> dict[str, Any]:
    return hs.call("PUT", f"call_rooms/{room}/roles/{user_id}", host, {"role": role})


def permission(sfu: FakeLiveKit, identity: str) -> dict[str, Any]:
    found: dict[str, Any] = next(people[identity] for people in sfu.rooms.values() if identity in people)["permission"]
    return found


class TestStages:
    def test_a_listeners_token_does_not_let_them_speak(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, bob: str, room: str
    ) -> None:
        shown = stage(hs, alice, room)
        assert (shown["hosts"], shown["your_role"], shown["stage"]) == ([alice], "host", True)
        assert video_of(get_token(hs, alice, room))["canPublish"]
        video = video_of(get_token(hs, bob, room))
        assert (video["canPublish"], video["canPublishData"], video["canSubscribe"]) == (False, False, True)
        assert not video_of(sfu_get(hs, bob, room))["canPublish"]

    def test_who_is_promoted_or_demoted_is_so_at_the_sfu_at_once(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, bob: str, room: str
    ) -> None:
        stage(hs, alice, room)
        his = sfu.enter(get_token(hs, bob, room))
        assert promote(hs, alice, room, bob, "speaker")["speakers"] == [bob]
        hs.advance(2)
        assert permission(sfu, his)["can_publish"]
        promote(hs, alice, room, bob, "listener")
        hs.advance(2)
        assert not permission(sfu, his)["can_publish"]

    def test_a_token_of_better_days_does_not_help(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, bob: str, room: str
    ) -> None:
        before = get_token(hs, bob, room)
        stage(hs, alice, room)
        get_token(hs, bob, room)
        his = sfu.enter(before)
        hs.advance(2)
        assert not permission(sfu, his)["can_publish"]

    def test_a_new_token_does_not_hide_that_the_old_one_said_more(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, bob: str, room: str
    ) -> None:
        his = sfu.enter(get_token(hs, bob, room))
        hs.advance(2)
        stage(hs, alice, room)
        get_token(hs, bob, room)
        hs.advance(2)
        assert not permission(sfu, his)["can_publish"]

    def test_roles_that_the_sfu_did_not_take_are_given_again(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, bob: str, room: str
    ) -> None:
        his = sfu.enter(get_token(hs, bob, room))
        sfu.is_up = False
        stage(hs, alice, room)
        hs.advance(5)
        sfu.is_up = True
        hs.advance(2)
        assert not permission(sfu, his)["can_publish"]

    def test_who_may_show_a_screen_stands_in_the_token(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, bob: str, room: str
    ) -> None:
        shown = hs.call("PUT", f"call_rooms/{room}", alice, {"screen_share": "hosts"})
        assert (shown["stage"], "screen_share" in shown["can_publish"]) == (False, True)
        assert video_of(get_token(hs, bob, room))["canPublishSources"] == ["camera", "microphone"]
        assert "canPublishSources" not in video_of(get_token(hs, alice, room))
        hs.call("PUT", f"call_rooms/{room}", alice, {"screen_share": "nobody", "media": "audio"})
        assert video_of(get_token(hs, alice, room))["canPublishSources"] == ["microphone"]

    def test_only_hosts_change_roles_and_only_of_people_in_the_room(
        self, hs: FakeHomeserver, alice: str, bob: str, room: str
    ) -> None:
        stage(hs, alice, room)
        carol = hs.register("carol")
        path = f"call_rooms/{room}/roles"
        assert refusal(hs, "PUT", f"{path}/{bob}", bob, {"role": "speaker"}) == (403, "NOT_ALLOWED")
        assert refusal(hs, "PUT", f"call_rooms/{room}", bob, {"stage": False}) == (403, "NOT_ALLOWED")
        assert refusal(hs, "PUT", f"{path}/{carol}", alice, {"role": "speaker"}) == (403, "NOT_IN_ROOM")
        assert refusal(hs, "PUT", f"{path}/nobody", alice, {"role": "speaker"}) == (422, "INVALID_VALUE")
        assert refusal(hs, "PUT", f"{path}/{alice}", alice, {"role": "listener"}) == (409, "CONFLICT")
        for method, body in (("GET", None), ("PUT", {"stage": True})):
            assert refusal(hs, method, f"call_rooms/{room}", carol, body) == (403, "NOT_IN_ROOM")
        assert refusal(hs, "PUT", f"call_rooms/{room}/hand", carol, {"raised": True}) == (403, "NOT_IN_ROOM")

    def test_a_raised_hand_is_seen_by_all_until_its_owner_speaks(
        self, hs: FakeHomeserver, alice: str, bob: str, room: str
    ) -> None:
        stage(hs, alice, room)
        hs.call("PUT", f"call_rooms/{room}/hand", bob, {"raised": True})
        hs.advance(1)
        assert hs.call("GET", f"call_rooms/{room}", alice)["hands"] == [bob]
        promote(hs, alice, room, bob, "speaker")
        assert hs.call("GET", f"call_rooms/{room}", bob)["hands"] == []

    def test_so_is_that_of_somebody_of_another_homeserver(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        guest = f"@guest:{HS2}"
        room = hs.room(alice, bob, guest)
        stage(hs, alice, room)
        hs.receive(guest, room, HAND, {"raised": True})
        hs.advance(3)
        assert hs.call("GET", f"call_rooms/{room}", alice)["hands"] == [guest]
        hs.receive(guest, room, HAND, {"raised": False})
        hs.advance(3)
        assert hs.call("GET", f"call_rooms/{room}", alice)["hands"] == []

    def test_a_hand_that_is_raised_while_a_host_promotes_somebody_is_not_lost(
        self, hs: FakeHomeserver, alice: str, bob: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        guest = f"@guest:{HS2}"
        room = hs.room(alice, bob, guest)
        stage(hs, alice, room)
        send = hs.api.create_and_send_event_into_room

        async def slowly(event: dict[str, Any]) -> EventBase:
            await hs.api.sleep(0.5)
            return await send(event)

        monkeypatch.setattr(hs.api, "create_and_send_event_into_room", slowly)
        hs.receive(guest, room, HAND, {"raised": True})
        promote(hs, alice, room, bob, "speaker")
        hs.advance(3)
        shown = hs.call("GET", f"call_rooms/{room}", alice)
        assert (shown["speakers"], shown["hands"]) == ([bob], [guest])

    def test_the_hands_of_another_homeservers_stage_are_its_business(self, hs: FakeHomeserver, bob: str) -> None:
        host = f"@host:{HS2}"
        room = hs.room(host, bob)
        hs.receive(host, room, ROLES, {"stage": True, "hosts": [host]}, state_key="")
        hs.call("PUT", f"call_rooms/{room}/hand", bob, {"raised": True})
        hs.advance(3)
        assert len(hs.sent(room, ROLES)) == 1

    @pytest.mark.parametrize(
        ("event_type", "said", "state_key"),
        [
            (ROLES, {"stage": "yes"}, ""),
            (ROLES, {"stage": True}, None),
            (ROLES, {"stage": True}, "other"),
            (LINK, {"link_id": "x"}, ""),
            (HAND, {"raised": 1}, None),
            (HAND, {"raised": True, "more": 1}, None),
            (HAND, {"raised": True}, ""),
        ],
        ids=str,
    )
    def test_what_has_another_shape_is_refused(
        self, hs: FakeHomeserver, alice: str, room: str, event_type: str, said: dict[str, Any], state_key: str | None
    ) -> None:
        with pytest.raises(SynapseError) as refused:
            hs.send(alice, room, event_type, said, state_key=state_key)
        assert (refused.value.code, refused.value.errcode) == (422, "ORG.SUPERAPP.INVALID_VALUE")

    def test_garbled_rules_of_another_homeserver_let_nobody_speak(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, bob: str
    ) -> None:
        host = f"@host:{HS2}"
        room = hs.room(host, bob)
        hs.receive(host, room, ROLES, {"stage": "yes"}, state_key="")
        assert not video_of(get_token(hs, bob, room))["canPublish"]
        hs.receive(host, room, ROLES, {}, state_key="")
        assert video_of(get_token(hs, bob, room))["canPublish"]


class TestLinks:
    def make(self, hs: FakeHomeserver, host: str, **more: Any) -> dict[str, Any]:
        return hs.call("POST", "call_links", host, {"title": "Office", **more})

    def test_whoever_has_the_link_comes_in(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        made = self.make(hs, alice)
        assert (made["title"], made["host"], made["is_open"]) == ("Office", alice, True)
        looked = hs.call("GET", f"call_links/{made['link']}", bob)
        assert "room_id" not in looked
        joined = hs.call("POST", f"call_links/{made['link']}/join", bob)
        assert joined == {"state": "joined", "room_id": made["room_id"]}
        assert hs.memberships(made["room_id"]) == {alice: "join", bob: "join"}
        assert hs.call("POST", f"call_links/{made['link']}/join", bob) == joined

    def test_a_waiting_room_lets_in_whom_a_host_admits(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        made = self.make(hs, alice, waiting_room=True)
        link = f"call_links/{made['link']}"
        assert hs.call("POST", f"{link}/join", bob) == {"state": "waiting"}
        assert hs.call("POST", f"{link}/join", bob) == {"state": "waiting"}
        assert bob not in hs.memberships(made["room_id"])
        assert [each["user_id"] for each in hs.call("GET", f"{link}/waiting", alice)["waiting"]] == [bob]
        assert hs.call("GET", link, alice)["waiting"] == 1
        assert hs.call("POST", f"{link}/admit", alice, {"user_id": bob}) == {"waiting": []}
        assert hs.call("POST", f"{link}/join", bob)["state"] == "joined"
        assert hs.memberships(made["room_id"])[bob] == "join"

    def test_whom_a_host_turns_away_stays_out(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        made = self.make(hs, alice, waiting_room=True)
        link = f"call_links/{made['link']}"
        hs.call("POST", f"{link}/join", bob)
        hs.call("POST", f"{link}/turn_away", alice, {"user_id": bob})
        assert refusal(hs, "POST", f"{link}/join", bob) == (403, "TURNED_AWAY")

    def test_nobody_else_decides_who_comes_in(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        link = f"call_links/{self.make(hs, alice, waiting_room=True)['link']}"
        for method, path, body in (
            ("GET", f"{link}/waiting", None),
            ("POST", f"{link}/admit", {"user_id": bob}),
            ("POST", f"{link}/turn_away", {"user_id": alice}),
            ("DELETE", link, None),
        ):
            assert refusal(hs, method, path, bob, body) == (403, "NOT_ALLOWED")

    def test_a_closed_call_tells_when_it_opens_and_gives_no_tokens(
        self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, bob: str
    ) -> None:
        opens = hs.now_ms() + 3_600_000
        made = self.make(hs, alice, opens_ts=opens, closes_ts=opens + 3_600_000)
        link = f"call_links/{made['link']}"
        assert (made["is_open"], made["opens_ts"]) == (False, opens)
        with pytest.raises(SynapseError) as refused:
            hs.call("POST", f"{link}/join", bob)
        assert code_of(refused.value) == "ORG.SUPERAPP.CALL_CLOSED"
        assert refused.value.error_dict(None)["opens_ts"] == opens
        hs.advance(3_600)
        hs.call("POST", f"{link}/join", bob)
        sfu.enter(get_token(hs, bob, made["room_id"]))
        hs.advance(3_600)
        with pytest.raises(SynapseError) as over:
            get_token(hs, bob, made["room_id"])
        assert (over.value.code, code_of(over.value)) == (403, "M_FORBIDDEN")
        # Its host comes in at any time.
        sfu.enter(get_token(hs, alice, made["room_id"]))

    def test_a_full_call_takes_nobody_more(self, hs: FakeHomeserver, sfu: FakeLiveKit, alice: str, bob: str) -> None:
        made = self.make(hs, alice, max=1)
        link = f"call_links/{made['link']}"
        hs.call("POST", f"{link}/join", bob)
        sfu.enter(get_token(hs, bob, made["room_id"]))
        carol = hs.register("carol")
        assert refusal(hs, "POST", f"{link}/join", carol) == (403, "CALL_FULL")
        # Who is in it may come with another device.
        sfu.enter(get_token(hs, bob, made["room_id"], member_id="M2"))

    def test_a_link_leads_across_homeservers(self, hs: FakeHomeserver, hs2: FakeHomeserver, alice: str) -> None:
        carol = hs2.register("carol")
        made = self.make(hs, alice, waiting_room=True)
        hs2.rooms[made["room_id"]] = hs.rooms[made["room_id"]]
        link = f"call_links/{made['link']}"
        looked = hs2.call("GET", link, carol)
        assert (looked["title"], looked["host"]) == ("Office", alice)
        assert hs2.call("POST", f"{link}/join", carol) == {"state": "waiting"}
        hs.call("POST", f"{link}/admit", alice, {"user_id": carol})
        assert hs.memberships(made["room_id"])[carol] == "invite"
        assert hs2.call("POST", f"{link}/join", carol)["state"] == "joined"
        assert hs.memberships(made["room_id"])[carol] == "join"

    def test_its_refusals_come_across_too(self, hs: FakeHomeserver, hs2: FakeHomeserver, alice: str) -> None:
        carol = hs2.register("carol")
        opens = hs.now_ms() + 1_000
        link = f"call_links/{self.make(hs, alice, opens_ts=opens)['link']}"
        with pytest.raises(SynapseError) as refused:
            hs2.call("POST", f"{link}/join", carol)
        assert (code_of(refused.value), refused.value.error_dict(None)["opens_ts"]) == (
            "ORG.SUPERAPP.CALL_CLOSED",
            opens,
        )
        assert refusal(hs2, "GET", f"call_links/{NEVER}@hs1.test", carol) == (404, "UNKNOWN_CALL_LINK")
        assert refusal(hs2, "GET", f"call_links/{NEVER}@hs9.test", carol) == (502, "PEER_UNREACHABLE")
        assert refusal(hs2, "GET", f"call_links/{NEVER}@not a server", carol) == (404, "UNKNOWN_CALL_LINK")

    def test_a_homeserver_asks_for_its_own_people_only(
        self, hs: FakeHomeserver, hs2: FakeHomeserver, alice: str, bob: str
    ) -> None:
        made = self.make(hs, alice)
        ask = hs.private.queries[LINK]  # type: ignore[index]
        for user_id in (bob, "nobody", f"@x:{HS2}.evil"):
            arguments = {"origin": HS2, "user_id": user_id, "link_id": made["link"].partition("@")[0], "act": "join"}
            with pytest.raises(SynapseError) as refused:
                hs.result(ask(arguments))
            assert code_of(refused.value) == "ORG.SUPERAPP.WRONG_ORIGIN"
        assert bob not in hs.memberships(made["room_id"])

    def test_links_are_tried_out_only_so_often(self, hs: FakeHomeserver, bob: str) -> None:
        for _ in range(60):
            assert refusal(hs, "GET", f"call_links/{NEVER}", bob) == (404, "UNKNOWN_CALL_LINK")
        assert refusal(hs, "GET", f"call_links/{NEVER}", bob) == (429, "TOO_MANY_REQUESTS")

    def test_a_deleted_link_leads_nowhere_and_who_is_in_stays(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        made = self.make(hs, alice)
        link = f"call_links/{made['link']}"
        hs.call("POST", f"{link}/join", bob)
        assert hs.call("GET", "call_links", alice)["links"][0]["link"] == made["link"]
        assert hs.call("DELETE", link, alice) == {"links": []}
        assert refusal(hs, "POST", f"{link}/join", bob) == (404, "UNKNOWN_CALL_LINK")
        assert hs.memberships(made["room_id"])[bob] == "join"

    def test_a_link_into_a_room_is_made_by_who_hosts_its_call(
        self, hs: FakeHomeserver, alice: str, bob: str, room: str
    ) -> None:
        stage(hs, alice, room)
        made = self.make(hs, alice, room_id=room, stage=True)
        assert made["room_id"] == room
        assert refusal(hs, "POST", "call_links", bob, {"room_id": room}) == (403, "NOT_ALLOWED")
        carol = hs.register("carol")
        assert refusal(hs, "POST", "call_links", carol, {"room_id": room}) == (403, "NOT_IN_ROOM")
        wrong = {"opens_ts": 5, "closes_ts": 4}
        assert refusal(hs, "POST", "call_links", alice, wrong) == (422, "INVALID_VALUE")
        # A time that nobody could be told would break every list that the link is in.
        for name in ("opens_ts", "closes_ts"):
            assert refusal(hs, "POST", "call_links", alice, {name: LAST_TIME_MS + 1}) == (422, "INVALID_VALUE")
        assert self.make(hs, alice, opens_ts=LAST_TIME_MS)["opens_ts"] == LAST_TIME_MS
        # Another one takes its place.
        again = self.make(hs, alice, room_id=room)
        assert refusal(hs, "GET", f"call_links/{made['link']}", bob) == (404, "UNKNOWN_CALL_LINK")
        assert hs.call("GET", f"call_links/{again['link']}", bob)["is_open"]

    def test_somebody_who_was_banned_is_not_let_in_by_a_link(
        self, hs: FakeHomeserver, alice: str, bob: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = self.make(hs, alice)
        hs.set_state(made["room_id"], alice, "m.room.member", bob, {"membership": "ban"})

        async def refused(*_: Any, **__: Any) -> None:
            raise SynapseError(403, f"{bob} is banned from the room", "M_FORBIDDEN")

        monkeypatch.setattr(hs.api, "update_room_membership", refused)
        assert refusal(hs, "POST", f"call_links/{made['link']}/join", bob) == (403, "NOT_ALLOWED")


def test_the_state_of_a_room_without_rules_rules_nothing(hs: FakeHomeserver, sfu: FakeLiveKit, alice: str) -> None:
    room = hs.room(alice)
    assert isinstance(hs.rooms[room], FakeRoom)
    shown = hs.call("GET", f"call_rooms/{room}", alice)
    assert (shown["stage"], shown["your_role"], shown["hosts"]) == (False, "speaker", [])
    sfu.enter(get_token(hs, alice, room))
    hs.advance(1)
    assert hs.call("GET", f"call_rooms/{room}", alice)["present"] == [alice]
