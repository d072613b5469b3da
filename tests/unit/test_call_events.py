"""How room events of three protocols become rings and signals."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from super_app.calls import events
from super_app.calls.events import RoomEvent
from super_app.calls.model import (
    DEFAULT_LIFETIME_MS,
    LATE_RING_MS,
    MAX_LIFETIME_MS,
    Act,
    CallId,
    Media,
    Offer,
    Protocol,
    Ring,
    Side,
    State,
)
from super_app.errors import Reason, Refused
from super_app.ids import EventId, RoomId, UserId

ALICE = UserId("@alice:hs1.test")
BOB = UserId("@bob:hs2.test")
NOW_MS = 1_700_000_000_000
VIDEO_OFFER = {"type": "offer", "sdp": "v=0\r\nm=audio 9 UDP/TLS\r\nm=video 9 UDP/TLS\r\n"}


def event(
    event_type: str,
    content: dict[str, Any],
    *,
    is_state: bool = False,
    origin_server_ts: int = NOW_MS,
    age_ts: int | None = None,
) -> RoomEvent:
    return RoomEvent(
        event_id=EventId("$event"),
        event_type=event_type,
        room_id=RoomId("!room:hs1.test"),
        sender=ALICE,
        content=content,
        is_state=is_state,
        origin_server_ts=origin_server_ts,
        age_ts=age_ts,
        arrived_ms=NOW_MS,
    )


def ring(event_type: str, content: dict[str, Any], **more: Any) -> Ring:
    found = events.read_ring(event(event_type, content, **more))
    assert isinstance(found, Ring)
    return found


OUR_RING: dict[str, Any] = {"call_id": "call-1", "media": "video"}


class TestOurRing:
    def test_it_names_the_call_the_media_and_perhaps_the_callee(self) -> None:
        found = ring("org.superapp.call.ring", {**OUR_RING, "callee": BOB, "lifetime": 30_000})
        assert (found.call_id, found.media, found.callees) == (CallId("call-1"), Media.VIDEO, frozenset({BOB}))
        assert (found.protocol, found.lifetime_ms) == (Protocol.SUPERAPP, 30_000)

    def test_without_a_callee_it_is_for_everybody_and_lasts_a_minute(self) -> None:
        found = ring("org.superapp.call.ring", OUR_RING)
        assert (found.callees, found.lifetime_ms) == (None, DEFAULT_LIFETIME_MS)

    def test_it_may_mention_people_and_refer_to_a_call_membership(self) -> None:
        relation = {"rel_type": "m.reference", "event_id": "$member"}
        content = {**OUR_RING, "m.mentions": {"user_ids": [BOB]}, "m.relates_to": relation}
        assert ring("org.superapp.call.ring", content).reference == "$member"

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"call_id": ""}, Reason.INVALID_VALUE),
            ({"call_id": "call 1"}, Reason.INVALID_VALUE),
            ({"call_id": "x" * 256}, Reason.INVALID_VALUE),
            ({"call_id": 1}, Reason.INVALID_VALUE),
            ({"media": "smell"}, Reason.INVALID_VALUE),
            ({"lifetime": 999}, Reason.INVALID_VALUE),
            ({"lifetime": MAX_LIFETIME_MS + 1}, Reason.INVALID_VALUE),
            ({"lifetime": 10**9}, Reason.INVALID_VALUE),
            ({"lifetime": True}, Reason.INVALID_VALUE),
            ({"lifetime": "60000"}, Reason.INVALID_VALUE),
            ({"callee": "bob"}, Reason.INVALID_VALUE),
            ({"callee": ALICE}, Reason.INVALID_VALUE),
            ({"m.relates_to": {"rel_type": "m.thread", "event_id": "$x"}}, Reason.INVALID_VALUE),
            ({"body": "phantom"}, Reason.UNKNOWN_FIELD),
        ],
    )
    def test_a_wrong_one_is_refused_by_field(self, change: dict[str, Any], reason: Reason) -> None:
        found = events.read_ring(event("org.superapp.call.ring", {**OUR_RING, **change}))
        assert isinstance(found, Refused)
        assert found.reason is reason


class TestStockRings:
    def test_a_legacy_invite(self) -> None:
        content = {"call_id": "c", "version": "1", "party_id": "D", "lifetime": 30_000, "offer": VIDEO_OFFER}
        found = ring("m.call.invite", content)
        assert (found.protocol, found.call_id, found.media) == (Protocol.LEGACY, "c", Media.VIDEO)
        assert (found.lifetime_ms, found.callees) == (30_000, None)

    def test_a_legacy_invite_for_one_of_a_group(self) -> None:
        assert ring("m.call.invite", {"call_id": "c", "invitee": BOB}).callees == frozenset({BOB})

    @pytest.mark.parametrize("lifetime", [10**9, MAX_LIFETIME_MS])
    def test_no_ring_lasts_longer_than_two_minutes(self, lifetime: int) -> None:
        assert ring("m.call.invite", {"call_id": "c", "lifetime": lifetime}).lifetime_ms == MAX_LIFETIME_MS

    @pytest.mark.parametrize("lifetime", [None, "60000", 1.5, True])
    def test_a_lifetime_that_is_none_is_a_minute(self, lifetime: object) -> None:
        assert ring("m.call.invite", {"call_id": "c", "lifetime": lifetime}).lifetime_ms == DEFAULT_LIFETIME_MS

    @pytest.mark.parametrize("call_id", [None, 7, "", "x" * 256, "a\x00b", "\ud800"])
    def test_an_invite_without_a_sensible_call_id_is_nothing(self, call_id: object) -> None:
        assert events.read_ring(event("m.call.invite", {"call_id": call_id})) is None

    @pytest.mark.parametrize("event_type", sorted(events.RTC_NOTIFICATIONS))
    def test_a_matrixrtc_ring_refers_to_the_callers_membership(self, event_type: str) -> None:
        content = {
            "notification_type": "ring",
            "m.mentions": {"user_ids": [], "room": True},
            "m.relates_to": {"rel_type": "m.reference", "event_id": "$member"},
            "sender_ts": NOW_MS,
            "lifetime": 30_000,
            "m.call.intent": "audio",
        }
        found = ring(event_type, content)
        assert (found.protocol, found.call_id, found.reference) == (Protocol.MATRIXRTC, None, "$member")
        assert (found.media, found.lifetime_ms, found.callees) == (Media.AUDIO, 30_000, None)

    def test_a_matrixrtc_ring_that_mentions_people_is_for_them(self) -> None:
        content = {"notification_type": "ring", "m.mentions": {"user_ids": [BOB, "junk", 1]}}
        assert ring("org.matrix.msc4075.rtc.notification", content).callees == frozenset({BOB})

    def test_a_matrixrtc_notification_that_does_not_ring_is_no_ring(self) -> None:
        content = {"notification_type": "notification", "m.mentions": {"room": True}}
        assert events.read_ring(event("org.matrix.msc4075.rtc.notification", content)) is None

    @pytest.mark.parametrize(("kind", "is_ring"), [("ring", True), ("notify", False)])
    def test_the_deprecated_twin_of_a_matrixrtc_ring(self, kind: str, is_ring: bool) -> None:
        content = {"application": "m.call", "notify_type": kind, "call_id": ""}
        assert (events.read_ring(event("org.matrix.msc4075.call.notify", content)) is not None) == is_ring

    @pytest.mark.parametrize("event_type", sorted(events.RING_TYPES))
    def test_no_ring_is_a_state_event(self, event_type: str) -> None:
        content = {"call_id": "c", "media": "audio", "notification_type": "ring", "notify_type": "ring"}
        assert events.read_ring(event(event_type, content, is_state=True)) is None


INVITE: dict[str, Any] = {"call_id": "c", "lifetime": 60_000}


class TestWhenItBegan:
    def test_a_ring_from_the_future_begins_when_it_arrives(self) -> None:
        assert ring("m.call.invite", INVITE, origin_server_ts=NOW_MS + 10**9).start_ms == NOW_MS

    def test_what_the_sending_homeserver_says_of_its_age_counts_where_its_clock_is_behind(self) -> None:
        behind = ring("m.call.invite", INVITE, origin_server_ts=NOW_MS - 300_000, age_ts=NOW_MS - 200)
        assert behind.start_ms == NOW_MS - 200
        assert not events.is_late(behind, NOW_MS)

    @pytest.mark.parametrize(("ago_ms", "late"), [(79_999, False), (80_001, True)])
    def test_a_ring_is_late_once_its_lifetime_and_the_tolerance_for_clocks_are_over(
        self, ago_ms: int, late: bool
    ) -> None:
        found = ring("m.call.invite", INVITE, origin_server_ts=NOW_MS - ago_ms)
        assert events.is_late(found, NOW_MS) == late

    def test_after_a_day_it_is_history(self) -> None:
        found = ring("m.call.invite", INVITE, origin_server_ts=NOW_MS - LATE_RING_MS - 1)
        assert events.is_history(found, NOW_MS)


class TestSignals:
    @pytest.mark.parametrize(
        ("event_type", "content", "act", "side"),
        [
            ("m.call.answer", {}, Act.ANSWER, Side.CALLEE),
            ("m.call.select_answer", {"selected_party_id": "D"}, Act.CONFIRM, Side.CALLER),
            ("m.call.reject", {}, Act.DECLINE, Side.CALLEE),
            ("m.call.reject", {"reason": "user_busy"}, Act.BUSY, Side.CALLEE),
            ("m.call.hangup", {}, Act.HANG_UP, Side.EITHER),
            ("m.call.hangup", {"reason": "user_hangup"}, Act.HANG_UP, Side.EITHER),
            ("m.call.hangup", {"reason": "invite_timeout"}, Act.GIVE_UP, Side.EITHER),
            ("m.call.hangup", {"reason": "user_busy"}, Act.BUSY, Side.EITHER),
            ("m.call.hangup", {"reason": "ice_failed"}, Act.FAIL, Side.EITHER),
            ("m.call.hangup", {"reason": ["ice_failed"]}, Act.HANG_UP, Side.EITHER),
            ("org.superapp.call.screened", {"reason": "not_available"}, Act.SCREEN, Side.CALLEE),
            ("org.superapp.call.end", {"outcome": "cancelled"}, Act.HANG_UP, Side.CALLER),
            ("org.superapp.call.end", {"outcome": "missed"}, Act.GIVE_UP, Side.CALLER),
            ("org.superapp.call.end", {"outcome": "answered"}, Act.HANG_UP, Side.CALLER),
        ],
    )
    def test_what_is_said_about_a_call_by_its_id(
        self, event_type: str, content: dict[str, Any], act: Act, side: Side
    ) -> None:
        signal = events.read_signal(event(event_type, {"call_id": "c", **content}))
        assert signal is not None
        assert (signal.act, signal.side, signal.call_id) == (act, side, "c")
        assert events.read_signal(event(event_type, content)) is None

    @pytest.mark.parametrize("event_type", sorted(events.RTC_DECLINES))
    def test_a_matrixrtc_decline_refers_to_the_ring(self, event_type: str) -> None:
        content = {"m.relates_to": {"rel_type": "m.reference", "event_id": "$ring"}}
        signal = events.read_signal(event(event_type, content))
        assert signal is not None
        assert (signal.act, signal.side, signal.reference) == (Act.DECLINE, Side.CALLEE, "$ring")
        assert events.read_signal(event(event_type, {})) is None

    @pytest.mark.parametrize(
        ("content", "act"),
        [
            ({"application": "m.call", "device_id": "D"}, Act.JOIN),
            ({}, Act.LEAVE),
            ({"memberships": [{"application": "m.call"}]}, Act.JOIN),
            ({"memberships": []}, Act.LEAVE),
        ],
    )
    def test_a_membership_joins_or_leaves(self, content: dict[str, Any], act: Act) -> None:
        signal = events.read_signal(event(events.CALL_MEMBER, content, is_state=True))
        assert signal is not None
        assert (signal.act, signal.call_id, signal.reference) == (act, None, None)

    def test_a_membership_that_is_no_state_and_an_answer_that_is_state_say_nothing(self) -> None:
        assert events.read_signal(event(events.CALL_MEMBER, {"application": "m.call"})) is None
        assert events.read_signal(event("m.call.answer", {"call_id": "c"}, is_state=True)) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=6,
)
KEYS = [
    "call_id",
    "media",
    "callee",
    "lifetime",
    "m.relates_to",
    "m.mentions",
    "offer",
    "invitee",
    "version",
    "notification_type",
    "notify_type",
    "reason",
    "outcome",
    "memberships",
    "application",
    "m.call.intent",
]
likely = json_values | st.sampled_from(["c", "ring", "audio", "$x", BOB, {"rel_type": "m.reference", "event_id": "$x"}])


@given(
    event_type=st.sampled_from(sorted(events.RING_TYPES | events.SIGNAL_TYPES)),
    content=st.dictionaries(st.sampled_from(KEYS), likely).map(lambda content: {"call_id": "c", **content}),
    is_state=st.booleans(),
)
@settings(max_examples=500)
def test_whatever_others_write_into_these_events_is_read_or_left(
    event_type: str, content: dict[str, Any], is_state: bool
) -> None:
    read = event(event_type, content, is_state=is_state)
    found = events.read_ring(read)
    assert found is None or isinstance(found, Ring | Refused)
    assert not isinstance(found, Refused) or event_type == "org.superapp.call.ring"
    events.read_signal(read)


class TestWriting:
    def test_a_screened_ring_says_the_one_reason_there_is(self) -> None:
        content = events.screened_content(CallId("c"), EventId("$ring"), frozenset({Offer.VOICEMAIL, Offer.MESSAGE}))
        assert content == {
            "call_id": "c",
            "reason": "not_available",
            "offers": ["message", "voicemail"],
            "m.relates_to": {"rel_type": "m.reference", "event_id": "$ring"},
        }

    @pytest.mark.parametrize(
        ("event_type", "content", "declined"),
        [
            ("m.call.invite", {"call_id": "c", "version": "1"}, "m.call.reject"),
            ("m.call.invite", {"call_id": "c", "version": 0}, "m.call.hangup"),
            ("org.superapp.call.ring", {"call_id": "c", "media": "audio"}, "m.call.reject"),
            ("org.matrix.msc4075.rtc.notification", {"notification_type": "ring"}, events.RTC_DECLINE),
        ],
    )
    def test_each_protocol_is_declined_in_its_own_words(
        self, event_type: str, content: dict[str, Any], declined: str
    ) -> None:
        said_type, said = events.stock_decline(ring(event_type, content), CallId("c"))
        assert said_type == declined
        signal = events.read_signal(event(said_type, said))
        assert signal is not None
        assert signal.act in (Act.DECLINE, Act.HANG_UP)

    def test_what_we_say_of_an_end_is_understood_by_us(self) -> None:
        content = events.end_content(CallId("c"), EventId("$ring"), State.MISSED)
        signal = events.read_signal(event("org.superapp.call.end", content))
        assert signal is not None
        assert signal.act is Act.GIVE_UP

    def test_no_event_of_ours_has_a_body_that_would_notify(self) -> None:
        made = [
            events.ringing_content(CallId("c"), EventId("$ring"), frozenset()),
            events.screened_content(CallId("c"), EventId("$ring"), frozenset()),
            events.end_content(CallId("c"), EventId("$ring"), State.MISSED),
        ]
        assert all("body" not in content for content in made)
