"""Calls in the homeserver: the gate, the follower, timers, history and TURN, on a fake homeserver."""

import base64
import hashlib
import hmac
from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeHomeserver
from prometheus_client import REGISTRY
from synapse.module_api.errors import ConfigError, SynapseError

from super_app.calls.model import MAX_RUNG

EVERYONE = {"default_who": ["everyone"], "default_rate": {"caller": 0, "server": 0, "strangers": 0}}
REMOTE = "@remote:hs2.test"
STRANGER = "@stranger:hs3.test"
POLICY = "org.superapp.call.policy"
RING = "org.superapp.call.ring"
INVITE = "m.call.invite"
RTC_RING = "org.matrix.msc4075.rtc.notification"
ENCRYPTED = "m.room.encrypted"
MEMBER = "org.matrix.msc3401.call.member"


def homeserver(**calls: Any) -> FakeHomeserver:
    config = {"features": {"directory": False, "payments": False, "web": False}, "calls": {**EVERYONE, **calls}}
    made = FakeHomeserver(config=config)
    made.start()
    return made


@pytest.fixture
def hs() -> FakeHomeserver:
    return homeserver()


@pytest.fixture
def alice(hs: FakeHomeserver) -> str:
    return hs.register("alice")


@pytest.fixture
def bob(hs: FakeHomeserver) -> str:
    return hs.register("bob")


def ring(call_id: str = "call-1", **more: Any) -> dict[str, Any]:
    return {"call_id": call_id, "media": "audio", **more}


def invite(call_id: str = "call-1", **more: Any) -> dict[str, Any]:
    return {"call_id": call_id, "version": "1", "party_id": "D", "lifetime": 60_000, "offer": {}, **more}


def rtc_ring(member: str = "$member", **more: Any) -> dict[str, Any]:
    return {
        "notification_type": "ring",
        "m.mentions": {"room": True},
        "m.relates_to": {"rel_type": "m.reference", "event_id": member},
        "lifetime": 30_000,
        **more,
    }


RINGS = pytest.mark.parametrize(
    ("event_type", "content"),
    [(RING, ring()), (INVITE, invite()), (RTC_RING, rtc_ring())],
    ids=["ours", "legacy", "rtc"],
)


def calls(hs: FakeHomeserver, user_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = hs.call("GET", "calls", user_id)["calls"]
    return found


def outcomes(hs: FakeHomeserver, user_id: str) -> list[str]:
    return [each["outcome"] for each in calls(hs, user_id)]


def set_policy(hs: FakeHomeserver, user_id: str, **policy: Any) -> None:
    hs.account_data[(user_id, POLICY)] = {"v": 1, **policy}


def is_hidden(hs: FakeHomeserver, event_id: str) -> bool:
    return bool(hs.events[event_id].internal_metadata.is_soft_failed())


def refused(hs: FakeHomeserver, *arguments: Any, **more: Any) -> tuple[int, str]:
    with pytest.raises(SynapseError) as refusal:
        hs.send(*arguments, **more)
    return refusal.value.code, str(refusal.value.errcode)


class TestRinging:
    @RINGS
    def test_a_ring_between_two_people_here_is_recorded_for_both(
        self, hs: FakeHomeserver, alice: str, bob: str, event_type: str, content: dict[str, Any]
    ) -> None:
        room = hs.room(alice, bob)
        hs.send(alice, room, event_type, content)
        (mine,), (theirs,) = calls(hs, alice), calls(hs, bob)
        assert (mine["direction"], mine["peer"], mine["outcome"]) == ("outgoing", bob, "ringing")
        assert (theirs["direction"], theirs["peer"], theirs["outcome"]) == ("incoming", alice, "ringing")
        assert mine["room_id"] == room

    @RINGS
    def test_a_ring_from_another_homeserver_is_recorded_for_the_callee(
        self, hs: FakeHomeserver, bob: str, event_type: str, content: dict[str, Any]
    ) -> None:
        room = hs.room(bob, REMOTE)
        event_id = hs.receive(REMOTE, room, event_type, content)
        assert not is_hidden(hs, event_id)
        (record,) = calls(hs, bob)
        assert (record["direction"], record["peer"], record["outcome"]) == ("incoming", REMOTE, "ringing")
        assert record["ring_ts"] == hs.now_ms()

    def test_the_callees_homeserver_says_that_it_rings(self, hs: FakeHomeserver, bob: str) -> None:
        room = hs.room(bob, REMOTE)
        event_id = hs.receive(REMOTE, room, RING, ring())
        (said,) = hs.sent(room, "org.superapp.call.ringing")
        assert said.sender == bob
        assert dict(said.content) == {
            "call_id": "call-1",
            "offers": ["message"],
            "m.relates_to": {"rel_type": "m.reference", "event_id": event_id},
        }

    def test_answered_hung_up_and_timed_by_this_homeserver(self, hs: FakeHomeserver, alice: str) -> None:
        room = hs.room(alice, REMOTE)
        hs.send(alice, room, INVITE, invite())
        began = hs.now_ms()
        hs.advance(5)
        hs.receive(REMOTE, room, "m.call.answer", {"call_id": "call-1", "version": "1", "answer": {}})
        hs.send(alice, room, "m.call.select_answer", {"call_id": "call-1", "version": "1"})
        hs.advance(60)
        hs.receive(REMOTE, room, "m.call.hangup", {"call_id": "call-1", "version": "1", "duration": 10**9})
        (record,) = calls(hs, alice)
        assert (record["outcome"], record["ended_by"]) == ("answered", REMOTE)
        assert [record[key] - began for key in ("ring_ts", "answer_ts", "end_ts")] == pytest.approx(
            [0, 5_000, 65_000], abs=50
        )

    @pytest.mark.parametrize(
        ("event_type", "content", "outcome"),
        [
            ("m.call.reject", {}, "declined"),
            ("m.call.reject", {"reason": "user_busy"}, "busy"),
            ("m.call.hangup", {"reason": "ice_failed"}, "failed"),
        ],
    )
    def test_what_the_callee_says_instead_is_recorded(
        self, hs: FakeHomeserver, alice: str, event_type: str, content: dict[str, Any], outcome: str
    ) -> None:
        room = hs.room(alice, REMOTE)
        hs.send(alice, room, RING, ring())
        hs.receive(REMOTE, room, event_type, {"call_id": "call-1", "version": "1", **content})
        assert outcomes(hs, alice) == [outcome]
        (end,) = hs.sent(room, "org.superapp.call.end")
        assert (end.sender, end.content["outcome"]) == (alice, outcome)

    def test_a_matrixrtc_call_is_answered_left_and_declined_by_its_events(
        self, hs: FakeHomeserver, alice: str, bob: str
    ) -> None:
        room = hs.room(alice, bob)
        hs.send(alice, room, MEMBER, {"application": "m.call"}, state_key=f"_{alice}_A_m.call")
        hs.send(alice, room, RTC_RING, rtc_ring())
        hs.send(bob, room, MEMBER, {"application": "m.call"}, state_key=f"_{bob}_B_m.call")
        hs.send(bob, room, MEMBER, {"application": "m.call"}, state_key=f"_{bob}_C_m.call")
        hs.send(bob, room, MEMBER, {}, state_key=f"_{bob}_C_m.call")
        assert (outcomes(hs, bob), "end_ts" in calls(hs, bob)[0]) == (["answered"], False)
        hs.send(bob, room, MEMBER, {}, state_key=f"_{bob}_B_m.call")
        left_ms = hs.now_ms()
        hs.advance(9)
        assert calls(hs, alice)[0]["end_ts"] == pytest.approx(left_ms, abs=50)
        assert "end_ts" in calls(hs, bob)[0]
        other = hs.room(bob, REMOTE)
        event_id = hs.receive(REMOTE, other, RTC_RING, rtc_ring("$other"))
        relation = {"rel_type": "m.reference", "event_id": event_id}
        hs.send(bob, other, "org.matrix.msc4310.rtc.decline", {"m.relates_to": relation})
        assert outcomes(hs, bob)[0] == "declined"

    def test_an_answer_by_a_third_person_is_none(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        room = hs.room(alice, bob, REMOTE)
        hs.send(alice, room, RING, ring(callee=bob))
        hs.receive(REMOTE, room, "m.call.answer", {"call_id": "call-1"})
        assert outcomes(hs, bob) == ["ringing"]

    def test_the_same_people_may_call_again(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        room = hs.room(alice, bob)
        for call_id in ("one", "two"):
            hs.send(alice, room, INVITE, invite(call_id))
            hs.send(bob, room, "m.call.reject", {"call_id": call_id})
        assert [each["call_id"] for each in calls(hs, bob)] == ["two", "one"]
        assert refused(hs, alice, room, INVITE, invite("one")) == (409, "ORG.SUPERAPP.CONFLICT")


class TestTime:
    def test_a_ring_that_nobody_answers_is_missed_on_time(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        room = hs.room(alice, bob)
        hs.send(alice, room, RING, ring(lifetime=30_000))
        hs.advance(29)
        assert outcomes(hs, bob) == ["ringing"]
        hs.advance(2.5)
        assert outcomes(hs, alice) == outcomes(hs, bob) == ["missed"]
        (end,) = hs.sent(room, "org.superapp.call.end")
        assert end.content["outcome"] == "missed"

    def test_it_is_missed_after_a_restart_too(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        hs.send(alice, hs.room(alice, bob), RING, ring())
        hs.restart()
        hs.advance(59)
        assert outcomes(hs, bob) == ["ringing"]
        hs.advance(3)
        assert outcomes(hs, bob) == ["missed"]

    def test_an_answer_before_a_crash_counts_though_it_is_read_after_the_ring_was_over(
        self, hs: FakeHomeserver, alice: str, bob: str
    ) -> None:
        room = hs.room(alice, bob)
        hs.send(alice, room, RING, ring())
        hs.module.runtime.follower._handlers["m.call.answer"] = _crashes
        hs.send(bob, room, "m.call.answer", {"call_id": "call-1"})
        hs.query("DELETE FROM superapp_follower_parked")
        hs.query("UPDATE superapp_follower SET position = position - 1")
        _dies(hs)
        hs.clock.advance(120)
        hs.restart()
        hs.advance(10)
        assert outcomes(hs, bob) == ["answered"]

    def test_nothing_is_asked_of_the_database_while_nothing_rings(
        self, hs: FakeHomeserver, alice: str, bob: str
    ) -> None:
        hs.send(alice, hs.room(alice, bob), INVITE, invite())
        hs.advance(90)
        hs.statements.clear()
        hs.advance(600)
        assert [name for name in hs.statements if "calls" in name] == []

    def test_calls_are_forgotten_after_their_retention(self, alice: str, bob: str) -> None:
        made = FakeHomeserver(
            config={
                "features": {"directory": False, "payments": False, "web": False},
                "calls": EVERYONE,
                "retention": {"call_records": "2h"},
            }
        )
        made.start()
        alice, bob = made.register("alice"), made.register("bob")
        made.send(alice, made.room(alice, bob), INVITE, invite())
        made.advance(3_700)
        assert outcomes(made, bob) == ["missed"]
        made.advance(2 * 3_700)
        assert calls(made, bob) == []


class TestScreening:
    @RINGS
    def test_a_caller_here_gets_the_polite_refusal_as_the_answer(
        self, hs: FakeHomeserver, alice: str, bob: str, event_type: str, content: dict[str, Any]
    ) -> None:
        set_policy(hs, bob, who=["nobody"])
        room = hs.room(alice, bob)
        with pytest.raises(SynapseError) as refusal:
            hs.send(alice, room, event_type, content)
        assert (refusal.value.code, refusal.value.errcode) == (403, "ORG.SUPERAPP.NOT_AVAILABLE")
        assert not any(word in str(refusal.value.msg) for word in ("policy", "contact", "block", "screen"))
        assert hs.sent(room, event_type) == []
        (theirs,), (mine,) = calls(hs, bob), calls(hs, alice)
        assert (theirs["outcome"], theirs["screened_by"]) == ("screened", "who")
        assert mine["outcome"] == "screened"
        assert "screened_by" not in mine
        hs.advance(60)
        assert said_by(hs, bob, room) == []

    @RINGS
    def test_a_ring_of_a_stranger_elsewhere_is_hidden_recorded_and_politely_refused(
        self, hs: FakeHomeserver, bob: str, event_type: str, content: dict[str, Any]
    ) -> None:
        set_policy(hs, bob, who=["contacts"])
        room = hs.room(bob, STRANGER)
        event_id = hs.receive(STRANGER, room, event_type, content)
        assert is_hidden(hs, event_id)
        (record,) = calls(hs, bob)
        assert (record["outcome"], record["peer"], record["screened_by"]) == ("screened", STRANGER, "who")
        hs.advance(0.7)
        assert hs.sent(room, "org.superapp.call.screened") == []
        hs.advance(3)
        (screened,) = hs.sent(room, "org.superapp.call.screened")
        assert (screened.sender, screened.content["reason"]) == (bob, "not_available")
        decline = {RTC_RING: "org.matrix.msc4310.rtc.decline"}.get(event_type, "m.call.reject")
        assert [event.sender for event in hs.sent(room, decline)] == [bob]

    def test_a_contact_rings_where_a_stranger_does_not(self, hs: FakeHomeserver, bob: str) -> None:
        set_policy(hs, bob, who=["contacts"])
        add_contact(hs, bob, REMOTE)
        assert not is_hidden(hs, hs.receive(REMOTE, hs.room(bob, REMOTE), RING, ring()))
        assert is_hidden(hs, hs.receive(STRANGER, hs.room(bob, STRANGER), RING, ring("call-2")))
        assert {each["peer"]: each["outcome"] for each in calls(hs, bob)} == {REMOTE: "ringing", STRANGER: "screened"}

    def test_the_refusal_is_sent_after_a_restart_too_and_once_in_ten_minutes(
        self, hs: FakeHomeserver, bob: str
    ) -> None:
        set_policy(hs, bob, who=["nobody"])
        room = hs.room(bob, STRANGER)
        hs.receive(STRANGER, room, RING, ring())
        hs.restart()
        hs.advance(10)
        assert len(hs.sent(room, "org.superapp.call.screened")) == 1
        hs.receive(STRANGER, room, RING, ring("call-2"))
        hs.advance(10)
        assert len(hs.sent(room, "org.superapp.call.screened")) == 1
        hs.advance(600)
        hs.receive(STRANGER, room, RING, ring("call-3"))
        hs.advance(10)
        assert len(hs.sent(room, "org.superapp.call.screened")) == 2

    def test_silence_is_silence(self, hs: FakeHomeserver, bob: str) -> None:
        set_policy(hs, bob, who=["nobody"], refusal="silent")
        room = hs.room(bob, STRANGER)
        hs.receive(STRANGER, room, INVITE, invite())
        hs.advance(60)
        assert said_by(hs, bob, room) == []
        assert outcomes(hs, bob) == ["screened"]

    def test_nobody_gets_past_screening_by_naming_somebody_else(self, hs: FakeHomeserver, bob: str) -> None:
        set_policy(hs, bob, who=["nobody"])
        room = hs.room(bob, STRANGER)
        assert is_hidden(hs, hs.receive(STRANGER, room, INVITE, invite(invitee=REMOTE)))
        for_another = {**rtc_ring(), "m.mentions": {"user_ids": [REMOTE]}}
        assert is_hidden(hs, hs.receive(STRANGER, room, RTC_RING, for_another))

    def test_shared_rooms_are_rooms_other_than_the_one_that_rings(self, bob: str) -> None:
        hs = homeserver(default_who=["shared_rooms"])
        bob = hs.register("bob")
        room = hs.room(bob, STRANGER)
        assert is_hidden(hs, hs.receive(STRANGER, room, RING, ring()))
        hs.room(bob, STRANGER, REMOTE)
        assert not is_hidden(hs, hs.receive(STRANGER, room, RING, ring("call-2")))

    def test_whom_the_callee_ignores_never_rings(self, hs: FakeHomeserver, bob: str) -> None:
        hs.account_data[(bob, "m.ignored_user_list")] = {"ignored_users": {STRANGER: {}}}
        set_policy(hs, bob, who=["everyone"], allow=[STRANGER])
        assert is_hidden(hs, hs.receive(STRANGER, hs.room(bob, STRANGER), RING, ring()))
        assert calls(hs, bob)[0]["screened_by"] == "ignored"

    def test_quiet_hours_are_by_the_callees_clock(self, hs: FakeHomeserver, bob: str) -> None:
        always = [{"from": "00:00", "to": "00:00"}]
        set_policy(hs, bob, who=["everyone"], quiet={"time_zone": "Europe/Berlin", "windows": always})
        assert is_hidden(hs, hs.receive(STRANGER, hs.room(bob, STRANGER), RING, ring()))
        assert calls(hs, bob)[0]["screened_by"] == "quiet"

    @pytest.mark.parametrize("zone", ["Mars/Olympus", "../../../etc/passwd", "/etc/localtime", "\x00", ""])
    def test_a_policy_that_cannot_be_read_lets_rings_through_and_is_warned_of(
        self, hs: FakeHomeserver, bob: str, zone: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        before = REGISTRY.get_sample_value("superapp_call_policy_malformed_total", {"key": "quiet"}) or 0
        set_policy(hs, bob, who=["everyone"], quiet={"time_zone": zone, "windows": [{"from": "00:00", "to": "00:00"}]})
        assert not is_hidden(hs, hs.receive(STRANGER, hs.room(bob, STRANGER), RING, ring()))
        assert "cannot be read at ['quiet']" in caplog.text
        assert (REGISTRY.get_sample_value("superapp_call_policy_malformed_total", {"key": "quiet"}) or 0) > before

    def test_the_default_rate_shows_ten_rings_of_a_flood(self) -> None:
        hs = homeserver(default_rate={})
        bob = hs.register("bob")
        room = hs.room(bob, STRANGER)
        shown = [
            not is_hidden(hs, hs.receive(STRANGER, room, INVITE, invite(f"call-{number}"))) for number in range(30)
        ]
        assert sum(shown) == 10
        assert not is_hidden(hs, hs.receive(REMOTE, hs.room(bob, REMOTE), INVITE, invite("other")))

    def test_in_a_group_the_ring_stays_for_the_others(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        set_policy(hs, bob, who=["nobody"])
        room = hs.room(alice, bob, REMOTE)
        event_id = hs.receive(REMOTE, room, RING, ring())
        assert not is_hidden(hs, event_id)
        assert (outcomes(hs, alice), outcomes(hs, bob)) == (["ringing"], ["screened"])
        hs.advance(10)
        assert hs.sent(room, "org.superapp.call.screened") == []

    def test_a_ring_for_a_large_room_is_an_announcement(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        room = hs.room(alice, bob, *[f"@p{number}:hs2.test" for number in range(MAX_RUNG)])
        hs.send(alice, room, RING, ring())
        assert calls(hs, alice) == calls(hs, bob) == []
        hs.send(alice, room, RING, ring("call-2", callee=bob))
        assert outcomes(hs, bob) == ["ringing"]

    def test_a_ring_that_says_it_is_old_is_screened_without_a_record(self, hs: FakeHomeserver, bob: str) -> None:
        set_policy(hs, bob, who=["contacts"])
        add_contact(hs, bob, REMOTE)
        old = hs.now_ms() - 10 * 86_400_000
        assert is_hidden(hs, receive_dated(hs, STRANGER, hs.room(bob, STRANGER), old))
        assert not is_hidden(hs, receive_dated(hs, REMOTE, hs.room(bob, REMOTE), old))
        assert calls(hs, bob) == []

    def test_a_ring_that_was_delayed_on_its_way_is_a_missed_call(self, hs: FakeHomeserver, bob: str) -> None:
        receive_dated(hs, REMOTE, hs.room(bob, REMOTE), hs.now_ms() - 3_600_000)
        hs.advance(3)
        assert outcomes(hs, bob) == ["missed"]

    def test_call_memberships_are_never_touched(self, hs: FakeHomeserver, bob: str) -> None:
        set_policy(hs, bob, who=["nobody"])
        room = hs.room(bob, STRANGER)
        key = f"_{STRANGER}_D_m.call"
        assert not is_hidden(hs, hs.receive(STRANGER, room, MEMBER, {"application": "m.call"}, state_key=key))

    def test_an_encrypted_message_passes_when_screening_fails(
        self, hs: FakeHomeserver, alice: str, bob: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        room = hs.room(alice, bob, encrypted=True)

        async def broken(*_: object, **__: object) -> object:
            raise SynapseError(404, "no such thing", "M_NOT_FOUND")

        monkeypatch.setattr(hs.private, "members", broken)
        hs.gate_only(
            alice, room, ENCRYPTED, {"m.relates_to": {"rel_type": "m.reference", "event_id": "$x"}, "ciphertext": "x"}
        )

    def test_when_screening_fails_stock_calls_pass_and_ours_do_not(
        self, hs: FakeHomeserver, alice: str, bob: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        room = hs.room(alice, bob)

        async def broken(*_: object, **__: object) -> object:
            raise ZeroDivisionError

        monkeypatch.setattr(hs.private, "members", broken)
        with pytest.raises(ZeroDivisionError):
            hs.send(alice, room, RING, ring())
        hs.gate_only(alice, room, INVITE, invite())


class TestEncryptedRooms:
    """Of a MatrixRTC ring only the relation to the caller's membership is in clear."""

    def reference(self, event_id: str) -> dict[str, Any]:
        return {
            "algorithm": "m.megolm.v1.aes-sha2",
            "ciphertext": "opaque",
            "m.relates_to": {"rel_type": "m.reference", "event_id": event_id},
        }

    def join(self, hs: FakeHomeserver, user_id: str, room: str) -> str:
        content = {"application": "m.call", "m.call.intent": "audio"}
        key = f"_{user_id}_D_m.call"
        if user_id.endswith(hs.server_name):
            return hs.send(user_id, room, MEMBER, content, state_key=key)
        return hs.receive(user_id, room, MEMBER, content, state_key=key)

    def test_a_ring_is_known_by_it_and_answered_by_joining(self, hs: FakeHomeserver, bob: str) -> None:
        room = hs.room(bob, REMOTE, encrypted=True)
        member = self.join(hs, REMOTE, room)
        assert not is_hidden(hs, hs.receive(REMOTE, room, ENCRYPTED, self.reference(member)))
        (record,) = calls(hs, bob)
        assert (record["outcome"], record["call_id"], record["media"]) == ("ringing", member, "audio")
        self.join(hs, bob, room)
        assert outcomes(hs, bob) == ["answered"]

    def test_the_callers_homeserver_records_it_too_and_hears_the_decline(self, hs: FakeHomeserver, alice: str) -> None:
        room = hs.room(alice, REMOTE, encrypted=True)
        member = self.join(hs, alice, room)
        event_id = hs.send(alice, room, ENCRYPTED, self.reference(member))
        assert outcomes(hs, alice) == ["ringing"]
        hs.receive(REMOTE, room, ENCRYPTED, self.reference(event_id))
        assert outcomes(hs, alice) == ["declined"]

    def test_a_strangers_is_hidden_with_all_that_refers_to_the_same_membership(
        self, hs: FakeHomeserver, bob: str
    ) -> None:
        set_policy(hs, bob, who=["contacts"])
        room = hs.room(bob, STRANGER, encrypted=True)
        member = self.join(hs, STRANGER, room)
        event_id = hs.receive(STRANGER, room, ENCRYPTED, self.reference(member))
        assert is_hidden(hs, event_id)
        hs.advance(120)
        assert is_hidden(hs, hs.receive(STRANGER, room, ENCRYPTED, self.reference(member)))
        assert outcomes(hs, bob) == ["screened"]
        (decline,) = hs.sent(room, "org.matrix.msc4310.rtc.decline")
        assert decline.content["m.relates_to"]["event_id"] == event_id

    def test_a_local_stranger_gets_the_polite_answer(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        set_policy(hs, bob, who=["contacts"])
        room = hs.room(alice, bob, encrypted=True)
        member = self.join(hs, alice, room)
        for _ in range(2):
            assert refused(hs, alice, room, ENCRYPTED, self.reference(member)) == (403, "ORG.SUPERAPP.NOT_AVAILABLE")

    def test_a_ring_that_overtakes_its_membership_waits_for_it(
        self, hs: FakeHomeserver, bob: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_policy(hs, bob, who=["nobody"])
        room = hs.room(bob, STRANGER, encrypted=True)
        member = self.join(hs, STRANGER, room)
        asked: list[str] = []
        get_event = hs.private.get_event

        async def not_yet(event_id: Any) -> Any:
            asked.append(event_id)
            return None if len(asked) < 3 else await get_event(event_id)

        monkeypatch.setattr(hs.private, "get_event", not_yet)
        assert is_hidden(hs, hs.receive(STRANGER, room, ENCRYPTED, self.reference(member)))

    def test_other_encrypted_references_pass_whoever_sends_them(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        set_policy(hs, bob, who=["nobody"])
        set_policy(hs, alice, who=["nobody"])
        room = hs.room(bob, STRANGER, encrypted=True)
        poll = hs.receive(STRANGER, room, ENCRYPTED, {"ciphertext": "a poll"})
        mine = self.join(hs, bob, room)
        theirs = self.join(hs, STRANGER, room)
        for parent in (poll, mine, theirs, "$unknown"):  # theirs: bob is in the call, so nobody is rung
            assert not is_hidden(hs, hs.receive(STRANGER, room, ENCRYPTED, self.reference(parent)))
        assert calls(hs, bob) == calls(hs, alice) == []

    def test_in_a_group_each_records_it_and_who_does_not_want_it_is_not_notified(
        self, hs: FakeHomeserver, alice: str, bob: str
    ) -> None:
        set_policy(hs, bob, who=["nobody"])
        group = hs.room(alice, bob, STRANGER, encrypted=True)
        member = self.join(hs, STRANGER, group)
        assert not is_hidden(hs, hs.receive(STRANGER, group, ENCRYPTED, self.reference(member)))
        assert (outcomes(hs, alice), outcomes(hs, bob)) == (["ringing"], ["screened"])
        ((person, _),) = hs.push_rules
        (properties,) = hs.push_rules.values()
        assert person == bob
        assert properties == {"room_id": group, "sender": STRANGER, "content.m\\.relates_to.event_id": member}

    def test_a_membership_that_a_crash_left_behind_lets_no_ring_past_screening(
        self, hs: FakeHomeserver, bob: str
    ) -> None:
        set_policy(hs, bob, who=["nobody"])
        room = hs.room(bob, STRANGER, encrypted=True)
        left_behind = {"application": "m.call", "created_ts": hs.now_ms(), "expires": 60_000}
        hs.send(bob, room, MEMBER, left_behind, state_key=f"_{bob}_D_m.call")
        hs.advance(61)
        theirs = self.join(hs, STRANGER, room)
        assert is_hidden(hs, hs.receive(STRANGER, room, ENCRYPTED, self.reference(theirs)))

    def test_a_rooms_history_rings_nobody(self, hs: FakeHomeserver, bob: str) -> None:
        room = hs.room(bob, REMOTE, encrypted=True)
        member = self.join(hs, REMOTE, room)
        old = hs.now_ms() - 10 * 86_400_000
        assert not is_hidden(hs, receive_dated(hs, REMOTE, room, old, ENCRYPTED, self.reference(member)))
        assert calls(hs, bob) == []

    def test_what_is_said_in_a_call_that_rang_is_no_other_ring(self, hs: FakeHomeserver, bob: str) -> None:
        room = hs.room(bob, REMOTE, encrypted=True)
        member = self.join(hs, REMOTE, room)
        hs.receive(REMOTE, room, ENCRYPTED, self.reference(member))
        hs.advance(90)
        assert not is_hidden(hs, hs.receive(REMOTE, room, ENCRYPTED, self.reference(member)))
        assert outcomes(hs, bob) == ["missed"]

    @pytest.mark.parametrize(
        "content",
        [
            {"ciphertext": "opaque"},
            {"m.relates_to": "nonsense"},
            {"m.relates_to": {"rel_type": "m.thread", "event_id": "$x"}},
            {"m.relates_to": {"rel_type": "m.replace", "event_id": "$x"}},
            {"m.relates_to": {"m.in_reply_to": {"event_id": "$x"}}},
        ],
        ids=str,
    )
    def test_ordinary_encrypted_messages_cost_no_statement_and_no_look_up(
        self, hs: FakeHomeserver, alice: str, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        room = hs.room(alice, REMOTE, encrypted=True)

        async def never(*_: object, **__: object) -> object:
            raise AssertionError("a look-up for an ordinary message")

        monkeypatch.setattr(hs.private, "members", never)
        monkeypatch.setattr(hs.private, "get_event", never)
        hs.statements.clear()
        hs.gate_only(alice, room, ENCRYPTED, content)
        assert hs.statements == []

    def test_the_follower_reads_no_encrypted_events(self, hs: FakeHomeserver) -> None:
        assert ENCRYPTED not in hs.module.runtime.follower._handlers


class TestForgeries:
    @pytest.mark.parametrize("what", ["ringing", "screened", "end"])
    def test_what_only_homeservers_send_is_refused_from_clients(
        self, hs: FakeHomeserver, alice: str, bob: str, what: str
    ) -> None:
        room = hs.room(alice, bob)
        hs.send(alice, room, RING, ring())
        for person in (alice, bob):
            forged = refused(hs, person, room, f"org.superapp.call.{what}", {"call_id": "call-1", "v": 1.5})
            assert forged == (403, "ORG.SUPERAPP.SERVER_ONLY")
        assert outcomes(hs, bob) == ["ringing"]

    @pytest.mark.parametrize("what", ["screened", "end"])
    def test_a_homeserver_speaks_for_its_own_side_only(self, hs: FakeHomeserver, alice: str, what: str) -> None:
        room = hs.room(alice, REMOTE)
        if what == "screened":
            hs.receive(REMOTE, room, RING, ring())
        else:
            hs.send(alice, room, RING, ring())
        hs.receive(REMOTE, room, f"org.superapp.call.{what}", {"call_id": "call-1", "outcome": "answered"})
        assert calls(hs, alice)[0]["outcome"] == "ringing"

    @pytest.mark.parametrize("what", ["ring", "ringing", "screened", "end"])
    def test_they_are_messages_and_nothing_else(self, hs: FakeHomeserver, alice: str, bob: str, what: str) -> None:
        room = hs.room(alice, bob)
        event_type = f"org.superapp.call.{what}"
        not_a_message = (422, "ORG.SUPERAPP.NOT_A_MESSAGE")
        assert refused(hs, alice, room, event_type, ring(), state_key="") == not_a_message
        assert refused(hs, alice, room, event_type, ring(), sticky=True) == not_a_message
        assert refused(hs, alice, room, event_type, ring(), delayed=True) == not_a_message
        assert calls(hs, bob) == []

    @pytest.mark.parametrize("what", ["ring", "ringing", "screened", "end"])
    def test_they_come_into_no_room_by_its_initial_state_and_are_not_scheduled_as_state(
        self, hs: FakeHomeserver, alice: str, what: str
    ) -> None:
        (may_create,) = hs.api.callbacks["user_may_create_room"]
        (may_send,) = hs.api.callbacks["user_may_send_state_event"]
        event_type = f"org.superapp.call.{what}"
        with pytest.raises(SynapseError) as refusal:
            hs.result(may_create(alice, {"initial_state": [{"type": event_type, "content": {}}]}))
        assert (refusal.value.code, refusal.value.errcode) == (422, "ORG.SUPERAPP.NOT_A_MESSAGE")
        with pytest.raises(SynapseError) as refusal:
            hs.result(may_send(alice, "!room", event_type, "", {}))
        assert (refusal.value.code, refusal.value.errcode) == (422, "ORG.SUPERAPP.NOT_A_MESSAGE")

    @pytest.mark.parametrize(
        "config",
        [{}, {"initial_state": "x"}, {"initial_state": ["x", {}, {"type": []}, {"type": "org.superapp.call.link"}]}],
        ids=str,
    )
    def test_other_rooms_are_made_and_other_state_is_sent(
        self, hs: FakeHomeserver, alice: str, config: dict[str, Any]
    ) -> None:
        (may_create,) = hs.api.callbacks["user_may_create_room"]
        (may_send,) = hs.api.callbacks["user_may_send_state_event"]
        assert hs.result(may_create(alice, config)) == "NOT_SPAM"
        assert hs.result(may_send(alice, "!room", "org.superapp.call.link", "", {})) == "NOT_SPAM"

    def test_a_ring_of_another_homeserver_as_state_is_nothing(self, hs: FakeHomeserver, bob: str) -> None:
        set_policy(hs, bob, who=["nobody"])
        room = hs.room(bob, REMOTE)
        assert not is_hidden(hs, hs.receive(REMOTE, room, RING, ring(), state_key=""))
        assert calls(hs, bob) == []

    @pytest.mark.parametrize(
        ("content", "refusal"),
        [
            ({"media": "audio"}, (422, "ORG.SUPERAPP.INVALID_VALUE")),
            (ring(lifetime=10**9), (422, "ORG.SUPERAPP.INVALID_VALUE")),
            (ring(callee="@nobody:hs1.test"), (422, "ORG.SUPERAPP.INVALID_VALUE")),
            (ring(callee="@alice:hs1.test"), (422, "ORG.SUPERAPP.INVALID_VALUE")),
            (ring(duration=5), (422, "ORG.SUPERAPP.UNKNOWN_FIELD")),
        ],
    )
    def test_a_wrong_ring_is_refused_by_name(
        self, hs: FakeHomeserver, alice: str, bob: str, content: dict[str, Any], refusal: tuple[int, str]
    ) -> None:
        assert refused(hs, alice, hs.room(alice, bob), RING, content) == refusal

    def test_nobody_rings_alone(self, hs: FakeHomeserver, alice: str) -> None:
        assert refused(hs, alice, hs.room(alice), RING, ring()) == (422, "ORG.SUPERAPP.INVALID_VALUE")

    def test_a_wrong_ring_of_another_homeserver_is_nothing(self, hs: FakeHomeserver, bob: str) -> None:
        room = hs.room(bob, REMOTE)
        for content in ({}, ring(lifetime="long"), ring(callee=7)):
            assert not is_hidden(hs, hs.receive(REMOTE, room, RING, content))
        assert calls(hs, bob) == []

    def test_who_is_not_in_the_room_rings_nobody(self, hs: FakeHomeserver, bob: str) -> None:
        room = hs.room(bob, REMOTE)
        hs.gate_only(STRANGER, room, RING, ring())
        assert calls(hs, bob) == []


class TestHistory:
    def test_it_comes_in_pages(self, hs: FakeHomeserver, bob: str) -> None:
        room = hs.room(bob, REMOTE)
        for number in range(5):
            hs.receive(REMOTE, room, INVITE, invite(f"call-{number}"))
            hs.advance(1)
        first = hs.call("GET", "calls", bob, query={"limit": "2"})
        second = hs.call("GET", "calls", bob, query={"limit": "2", "since": first["next"]})
        last = hs.call("GET", "calls", bob, query={"limit": "2", "since": second["next"]})
        seen = [each["call_id"] for page in (first, second, last) for each in page["calls"]]
        assert seen == [f"call-{number}" for number in reversed(range(5))]
        assert "next" not in last

    @pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "101"}, {"limit": "many"}, {"since": "yesterday"}])
    def test_a_wrong_query_is_refused(self, hs: FakeHomeserver, bob: str, query: dict[str, str]) -> None:
        with pytest.raises(SynapseError) as refusal:
            hs.call("GET", "calls", bob, query=query)
        assert (refusal.value.code, refusal.value.errcode) == (422, "ORG.SUPERAPP.INVALID_VALUE")


class TestTurn:
    @pytest.fixture
    def hs(self, tmp_path: Path) -> FakeHomeserver:
        secret = tmp_path / "turn"
        secret.write_text("north\n")
        return homeserver(turn_uris=["turn:turn.test:3478?transport=udp"], turn_secret_path=str(secret))

    def credentials(self, hs: FakeHomeserver, user_id: str, call_id: str = "call-1") -> dict[str, Any]:
        return hs.call("GET", f"calls/{call_id}/turn", user_id)

    def test_credentials_last_ten_minutes_and_verify_with_the_shared_secret(
        self, hs: FakeHomeserver, alice: str, bob: str
    ) -> None:
        hs.send(alice, hs.room(alice, bob), RING, ring())
        given = self.credentials(hs, bob)
        expiry, _, name = given["username"].partition(":")
        assert int(expiry) == hs.now_ms() // 1000 + 600
        assert (given["ttl"], given["uris"]) == (600, ["turn:turn.test:3478?transport=udp"])
        mac = hmac.new(b"north", given["username"].encode(), hashlib.sha1)
        assert given["password"] == base64.b64encode(mac.digest()).decode()
        assert "bob" not in name
        assert self.credentials(hs, bob)["username"].partition(":")[2] == name
        assert self.credentials(hs, alice)["username"].partition(":")[2] != name

    def test_they_are_for_those_who_take_part_and_while_it_lasts(
        self, hs: FakeHomeserver, alice: str, bob: str
    ) -> None:
        carol = hs.register("carol")
        room = hs.room(alice, bob)
        hs.send(alice, room, RING, ring())
        assert _refusal_of(lambda: self.credentials(hs, carol)) == (404, "ORG.SUPERAPP.UNKNOWN_CALL")
        assert _refusal_of(lambda: self.credentials(hs, bob, "other")) == (404, "ORG.SUPERAPP.UNKNOWN_CALL")
        hs.send(bob, room, "m.call.answer", {"call_id": "call-1"})
        self.credentials(hs, bob)
        hs.send(bob, room, "m.call.hangup", {"call_id": "call-1"})
        assert _refusal_of(lambda: self.credentials(hs, bob)) == (404, "ORG.SUPERAPP.UNKNOWN_CALL")

    def test_who_is_screened_gets_none(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        set_policy(hs, bob, who=["nobody"])
        refused(hs, alice, hs.room(alice, bob), RING, ring())
        assert _refusal_of(lambda: self.credentials(hs, alice)) == (404, "ORG.SUPERAPP.UNKNOWN_CALL")

    def test_without_a_turn_server_it_says_so(self) -> None:
        hs = homeserver()
        alice, bob = hs.register("alice"), hs.register("bob")
        hs.send(alice, hs.room(alice, bob), RING, ring())
        assert _refusal_of(lambda: self.credentials(hs, bob)) == (404, "ORG.SUPERAPP.NO_TURN")

    def test_half_a_configuration_stops_the_start(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="turn_uris and turn_secret_path belong together"):
            homeserver(turn_uris=["turn:turn.test"])
        with pytest.raises(ConfigError, match=r"turn_secret_path: cannot read"):
            homeserver(turn_uris=["turn:turn.test"], turn_secret_path=str(tmp_path / "none"))
        (tmp_path / "empty").write_text("\n")
        with pytest.raises(ConfigError, match="is empty"):
            homeserver(turn_uris=["turn:turn.test"], turn_secret_path=str(tmp_path / "empty"))


def test_outcomes_and_decisions_are_counted(hs: FakeHomeserver, bob: str) -> None:
    def counted(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0

    missed = counted("superapp_call_rings_total", direction="incoming", outcome="missed")
    shown = counted("superapp_call_screening_total", rule="who", verdict="shown")
    timed = counted("superapp_call_screening_seconds_count")
    hs.receive(REMOTE, hs.room(bob, REMOTE), INVITE, invite())
    hs.advance(90)
    assert counted("superapp_call_rings_total", direction="incoming", outcome="missed") == missed + 1
    assert counted("superapp_call_screening_total", rule="who", verdict="shown") == shown + 1
    assert counted("superapp_call_screening_seconds_count") == timed + 1


def test_candidates_and_chat_do_not_reach_the_gate(hs: FakeHomeserver) -> None:
    gated = hs.module.runtime.gate._handlers
    assert "m.call.candidates" not in gated
    assert "m.call.negotiate" not in gated
    assert "m.room.message" not in gated


def _dies(hs: FakeHomeserver) -> None:
    """Nothing that was under way in this process happens any more."""
    calls_under_way: list[Any] = list(hs.clock.getDelayedCalls())
    for call in calls_under_way:
        call.cancel()


async def _crashes(_event: object) -> None:
    raise RuntimeError("the process died here")


def _refusal_of(call: Any) -> tuple[int, str]:
    with pytest.raises(SynapseError) as refusal:
        call()
    return refusal.value.code, str(refusal.value.errcode)


def said_by(hs: FakeHomeserver, user_id: str, room: str) -> list[str]:
    return [event.type for event in hs.rooms[room].timeline if event.sender == user_id and not event.is_state()]


def add_contact(hs: FakeHomeserver, owner: str, peer: str) -> None:
    acct = hs.result(hs.module.runtime.accounts.acct_of(owner))  # type: ignore[arg-type]
    hs.query(
        "INSERT INTO superapp_contact (owner_acct, peer_user_id, peer_acct, handle, since_ms) VALUES (?, ?, '', ?, 1)",
        acct,
        peer,
        peer,
    )


def receive_dated(
    hs: FakeHomeserver,
    sender: str,
    room: str,
    origin_server_ts: int,
    event_type: str = INVITE,
    content: dict[str, Any] | None = None,
) -> str:
    """An event arrives that says it is as old as that, in a way that no homeserver vouches for."""
    now_ms = hs.now_ms
    hs.now_ms = lambda: origin_server_ts  # type: ignore[method-assign]
    event = hs._event(sender, room, event_type, content or invite(f"dated-{sender}"))
    hs.now_ms = now_ms  # type: ignore[method-assign]
    event.internal_metadata.soft_failed = hs.result(hs.gate(event)) != "NOT_SPAM"
    hs._persist(event)
    hs.settle()
    return str(event.event_id)
