"""Calls by the minute over MatrixRTC: by state, by sticky events, and through the SFU; they end when the money does."""

from pathlib import Path
from typing import Any

import pytest
from fake_livekit import FakeLiveKit
from test_calls_shell import RTC_RING, rtc_ring
from test_conferences import config_of, sfu_get
from test_paid_calls import CAROL, HANGUP, House
from test_payments_pair import ALICE

STATE_MEMBER = "org.matrix.msc3401.call.member"
STICKY_MEMBERS = ("m.rtc.member", "org.matrix.msc4143.rtc.member")


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = House(calls={"livekit": config_of(tmp_path)["calls"]["livekit"]})
    house.sticks_ms = 3_600_000
    return house


@pytest.fixture
def sfu(house: House) -> FakeLiveKit:
    return FakeLiveKit(house)


def joins(house: House, who: str, kind: str) -> str:
    if kind == STATE_MEMBER:
        return house.send(who, house.direct, kind, {"application": "m.call"}, state_key=f"_{who}_DEV")
    return house.send(who, house.direct, kind, {"application": {}, "msc4354_sticky_key": f"of {who}"}, sticky=True)


def talk(house: House, kind: str) -> None:
    """They talk for as long as is paid, less a little."""
    house.confirm(minutes=1)
    house.send(ALICE, house.direct, RTC_RING, rtc_ring(joins(house, ALICE, kind)))
    joins(house, CAROL, kind)
    house.advance(58)
    assert house.fare()["state"] == "running"


def left(house: House, kind: str) -> list[Any]:
    return [event for event in house.sent(house.direct, kind) if "application" not in event.content]


@pytest.mark.parametrize("kind", [STATE_MEMBER, *STICKY_MEMBERS])
def test_it_ends_in_the_words_of_its_protocol_when_the_confirmed_minutes_are_over(house: House, kind: str) -> None:
    talk(house, kind)
    assert left(house, kind) == []
    house.advance(3)
    goodbye = left(house, kind)[0]
    assert goodbye.sender == ALICE
    if kind in STICKY_MEMBERS:
        assert goodbye.content["msc4354_sticky_key"] == f"of {ALICE}"
        assert "msc4354_sticky" in goodbye.get_dict()
    house.advance(20)
    assert {event.sender for event in house.sent(house.direct, HANGUP)} == {ALICE}
    assert (house.fare()["reason"], house.has(CAROL)) == ("used_up", 60)
    (call,) = house.call("GET", "calls", CAROL)["calls"]
    assert (call["outcome"], call["ended_by"]) == ("answered", ALICE)
    house.assert_books_are_right()


def test_who_goes_on_talking_through_the_sfu_is_removed_from_it(house: House, sfu: FakeLiveKit) -> None:
    dave = house.register("dave")
    other = house.room(dave)
    stays = sfu.enter(sfu_get(house, dave, other))
    talk(house, STATE_MEMBER)
    talking = {sfu.enter(sfu_get(house, each, house.direct)) for each in (ALICE, CAROL)}
    house.advance(1)
    assert sfu.people() == talking | {stays}
    house.advance(4)
    assert sfu.people() == {stays}
    # A new ring, paid anew, brings them together again.
    house.advance(20)
    sfu.enter(sfu_get(house, ALICE, house.direct))
    house.advance(4)
    assert len(sfu.people()) == 2
