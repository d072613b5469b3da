"""Rings that are replayed, that lie about time, or that refer to nothing: from another homeserver, through the gate."""

import pytest
from fake_api import FakeHomeserver
from test_calls_shell import (
    INVITE,
    MEMBER,
    REMOTE,
    RING,
    RTC_RING,
    calls,
    homeserver,
    invite,
    is_hidden,
    outcomes,
    receive_dated,
    ring,
    rtc_ring,
)

_DAY_MS = 86_400_000


@pytest.fixture
def hs() -> FakeHomeserver:
    return homeserver()


@pytest.fixture
def bob(hs: FakeHomeserver) -> str:
    return hs.register("bob")


@pytest.mark.parametrize(
    ("event_type", "content", "end"),
    [
        (RING, ring(), ("m.call.hangup", {"call_id": "call-1"})),
        (INVITE, invite(), ("m.call.hangup", {"call_id": "call-1", "version": "1"})),
    ],
    ids=["ours", "legacy"],
)
def test_a_ring_that_is_sent_again_rings_nobody_twice_and_after_the_end_nobody_at_all(
    hs: FakeHomeserver, bob: str, event_type: str, content: dict[str, object], end: tuple[str, dict[str, object]]
) -> None:
    room = hs.room(bob, REMOTE)
    for _ in range(3):
        hs.receive(REMOTE, room, event_type, content)
    assert outcomes(hs, bob) == ["ringing"]
    hs.receive(REMOTE, room, *end)
    for _ in range(3):
        assert is_hidden(hs, hs.receive(REMOTE, room, event_type, content))
    hs.restart()
    assert is_hidden(hs, hs.receive(REMOTE, room, event_type, content))
    assert outcomes(hs, bob) == ["cancelled"]


def test_a_matrixrtc_ring_for_a_membership_that_was_rung_for_before_begins_no_second_call_while_it_rings(
    hs: FakeHomeserver, bob: str
) -> None:
    room = hs.room(bob, REMOTE)
    member = hs.receive(REMOTE, room, MEMBER, {"application": "m.call"}, state_key=f"_{REMOTE}_D_m.call")
    for _ in range(3):
        hs.receive(REMOTE, room, RTC_RING, rtc_ring(member))
    assert outcomes(hs, bob) == ["ringing"]


@pytest.mark.parametrize("ahead_ms", [3_600_000, 10 * _DAY_MS, 10**15])
def test_a_ring_from_the_future_rings_now_and_no_longer_than_others(
    hs: FakeHomeserver, bob: str, ahead_ms: int
) -> None:
    receive_dated(hs, REMOTE, hs.room(bob, REMOTE), hs.now_ms() + ahead_ms)
    (call,) = calls(hs, bob)
    assert call["outcome"] == "ringing"
    assert call["ring_ts"] == pytest.approx(hs.now_ms(), abs=1_000)
    hs.advance(63)
    assert outcomes(hs, bob) == ["missed"]


@pytest.mark.parametrize("lifetime", [10**9, 2**53, 10**30])
def test_a_lifetime_of_days_is_two_minutes(hs: FakeHomeserver, bob: str, lifetime: int) -> None:
    hs.receive(REMOTE, hs.room(bob, REMOTE), INVITE, invite(lifetime=lifetime))
    hs.advance(115)
    assert outcomes(hs, bob) == ["ringing"]
    hs.advance(10)
    assert outcomes(hs, bob) == ["missed"]


def test_a_ring_that_was_over_when_it_came_is_a_missed_call_and_one_of_last_week_is_none(
    hs: FakeHomeserver, bob: str
) -> None:
    room = hs.room(bob, REMOTE)
    receive_dated(hs, REMOTE, room, hs.now_ms() - 3_600_000, content=invite("an-hour-ago"))
    receive_dated(hs, REMOTE, room, hs.now_ms() - 7 * _DAY_MS, content=invite("last-week"))
    hs.advance(3)
    assert [(call["call_id"], call["outcome"]) for call in calls(hs, bob)] == [("an-hour-ago", "missed")]


@pytest.mark.parametrize(
    "event_type",
    ["org.matrix.msc4310.rtc.decline", *(f"org.superapp.call.{what}" for what in ("screened", "ringing", "end"))],
)
@pytest.mark.parametrize("relation", [{"rel_type": "m.reference", "event_id": "$nobody-knows"}, {}, "x", None])
def test_what_refers_to_an_event_that_nobody_knows_changes_no_call(
    hs: FakeHomeserver, bob: str, event_type: str, relation: object
) -> None:
    room = hs.room(bob, REMOTE)
    hs.send(bob, room, RING, ring())
    hs.receive(REMOTE, room, event_type, {"m.relates_to": relation, "call_id": "another"})
    assert outcomes(hs, bob) == ["ringing"]
