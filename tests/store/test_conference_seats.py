"""Seats at the SFU, leave events and links in the database."""

from dataclasses import replace

import pytest

from super_app.conferences import service, store
from super_app.conferences.model import (
    REFRESHED_MS,
    ROOM_KNOWN_MS,
    WAITING_MAX,
    Grant,
    Guest,
    GuestState,
    Identity,
    Leave,
    Link,
    Seat,
    SfuRoom,
    Source,
)
from super_app.db import Cursor, Transaction
from super_app.errors import Reason, Refused
from super_app.ids import RoomId, UserId

pytestmark = pytest.mark.packages("super_app.conferences")

SFU, ROOM, BOB, ME = SfuRoom("sfu"), RoomId("!room:hs1"), UserId("@bob:hs1"), Identity("bob")
LISTENER, SPEAKER = Grant(can_publish=False), Grant(can_publish=True, sources=frozenset({Source.MICROPHONE}))
SEAT = Seat(sfu_room=SFU, identity=ME, room_id=ROOM, user_id=BOB, publishes_here=True, grant=LISTENER, until_ms=1_000)
LINK = Link(link_id="l1", room_id=ROOM, host=BOB, made_ms=5)


def sit(transaction: Transaction, seat: Seat = SEAT, now_ms: int = 0) -> bool:
    return transaction(lambda cur: service.take_seat(cur, seat, "slot", now_ms))


def seat(transaction: Transaction) -> Seat | None:
    return transaction(lambda cur: store.seat_of(cur, SFU, ME))


def comes(transaction: Transaction, participant: str = "P1") -> Seat | None:
    return transaction(lambda cur: service.came(cur, SFU, ME, participant))


def test_the_first_seat_of_a_room_has_it_made_and_then_for_a_while_nobody_has(transaction: Transaction) -> None:
    assert sit(transaction, now_ms=ROOM_KNOWN_MS)
    assert sit(transaction, now_ms=ROOM_KNOWN_MS)
    transaction(lambda cur: store.ensure(cur, SFU, ROOM, "slot", 10_000))
    assert not sit(transaction, now_ms=10_000 + ROOM_KNOWN_MS - 1)
    assert sit(transaction, now_ms=10_000 + ROOM_KNOWN_MS)
    transaction(lambda cur: store.room_ended(cur, SFU))
    assert sit(transaction, now_ms=ROOM_KNOWN_MS)


def test_a_seat_is_what_was_given_until_its_device_connects(transaction: Transaction) -> None:
    sit(transaction)
    sit(transaction, replace(SEAT, grant=SPEAKER, until_ms=500))
    assert seat(transaction) == replace(SEAT, grant=SPEAKER)
    assert comes(transaction) == replace(SEAT, grant=None, participant="P1")
    # A further token changes nothing of who is connected.
    sit(transaction, replace(SEAT, grant=LISTENER, until_ms=2_000))
    assert seat(transaction) == replace(SEAT, grant=None, participant="P1", until_ms=2_000)
    transaction(lambda cur: store.regrant(cur, SFU, ME, SPEAKER))
    assert comes(transaction) == replace(SEAT, grant=SPEAKER, participant="P1", until_ms=2_000)
    assert comes(transaction, "P2") == replace(SEAT, grant=None, participant="P2", until_ms=2_000)


def test_the_end_of_an_earlier_connection_is_not_that_of_a_later_one(transaction: Transaction) -> None:
    sit(transaction)
    comes(transaction, "P1")
    comes(transaction, "P2")
    transaction(lambda cur: service.went(cur, SFU, ME, "P1", 5_000))
    found = seat(transaction)
    assert found is not None
    assert found.participant == "P2"
    transaction(lambda cur: service.went(cur, SFU, ME, "P2", 5_000))
    found = seat(transaction)
    assert found is not None
    assert (found.participant, found.until_ms) == (None, 5_000 + REFRESHED_MS)


def test_who_has_no_seat_has_none_by_coming(transaction: Transaction) -> None:
    assert comes(transaction) is None
    assert seat(transaction) is None


def test_a_count_finds_who_came_who_went_and_who_has_no_seat(transaction: Transaction) -> None:
    sit(transaction)
    census = transaction(lambda cur: service.count(cur, SFU, {ME: "P1", Identity("x"): "P9"}, 0))
    assert [each.identity for each in census.returned] == [ME]
    assert census.strangers == (Identity("x"),)
    assert transaction(lambda cur: service.count(cur, SFU, {ME: "P1"}, 0)).returned == ()
    assert transaction(lambda cur: store.people_in(cur, ROOM)) == {BOB}
    transaction(lambda cur: service.count(cur, SFU, {}, 0))
    assert transaction(lambda cur: store.people_in(cur, ROOM)) == frozenset()


def test_who_was_barred_is_looked_at_again_only_once_they_are_back(transaction: Transaction) -> None:
    sit(transaction)
    transaction(lambda cur: store.bar(cur, SFU, ME, 9_000))
    assert transaction(lambda cur: store.open_seats(cur, 100, 10)) == ()
    comes(transaction)
    assert [each.user_id for each in transaction(lambda cur: store.open_seats(cur, 100, 10))] == [BOB]
    transaction(lambda cur: store.bar(cur, SFU, ME, 9_000))
    sit(transaction)
    assert len(transaction(lambda cur: store.open_seats(cur, 100, 10))) == 1


def test_seats_and_rooms_that_are_over_are_forgotten(transaction: Transaction) -> None:
    sit(transaction)
    comes(transaction)
    transaction(lambda cur: store.forget(cur, 10**9))
    assert seat(transaction) is not None
    transaction(lambda cur: service.went(cur, SFU, ME, "P1", 0))
    assert transaction(lambda cur: store.occupied_rooms(cur, 0)) == (SFU,)
    transaction(lambda cur: store.forget(cur, REFRESHED_MS))
    assert seat(transaction) is None
    assert transaction(lambda cur: store.ensured(cur, SFU)) == 0
    transaction(lambda cur: store.forget(cur, 10**9))
    assert transaction(lambda cur: store.ensured(cur, SFU)) is None


def test_one_leave_event_per_device_is_looked_after(transaction: Transaction) -> None:
    leave = Leave(
        sfu_room=SFU,
        identity=ME,
        delay_id="d1",
        delay_ms=1_000,
        delegated_ms=5,
        restarted_ms=0,
        was_connected=False,
        is_connected=False,
    )
    transaction(lambda cur: service.delegate(cur, leave))
    assert transaction(lambda cur: store.leaves(cur, 10)) == (leave,)
    sit(transaction)
    comes(transaction)
    connected = replace(leave, was_connected=True, is_connected=True)
    assert transaction(lambda cur: store.leaves(cur, 10)) == (connected,)
    later = replace(leave, delay_id="d2")
    transaction(lambda cur: service.delegate(cur, later))
    assert transaction(lambda cur: store.leaves(cur, 10)) == (replace(connected, delay_id="d2"),)
    # What was found out about the first one is no more of interest.
    transaction(lambda cur: store.drop_leave(cur, leave))
    transaction(lambda cur: store.restarted(cur, leave, 77))
    assert transaction(lambda cur: store.leaves(cur, 10))[0].restarted_ms == 0
    transaction(lambda cur: service.went(cur, SFU, ME, "P1", 0))
    assert not transaction(lambda cur: store.leaves(cur, 10))[0].is_connected
    transaction(lambda cur: store.drop_leave(cur, later))
    assert transaction(lambda cur: store.leaves(cur, 10)) == ()


def test_a_guest_waits_once_and_a_host_decides(transaction: Transaction) -> None:
    transaction(lambda cur: store.add_link(cur, LINK))
    assert transaction(lambda cur: store.link_of(cur, "l1")) == LINK
    assert transaction(lambda cur: service.knock(cur, "l1", BOB, 10, waiting_room=True)) is GuestState.WAITING
    assert transaction(lambda cur: service.knock(cur, "l1", BOB, 20, waiting_room=True)) is GuestState.WAITING
    assert transaction(lambda cur: store.waiting(cur, "l1")) == (
        Guest(user_id=BOB, asked_ms=10, state=GuestState.WAITING),
    )
    transaction(lambda cur: service.decide(cur, "l1", BOB, GuestState.ADMITTED, 30))
    assert transaction(lambda cur: service.knock(cur, "l1", BOB, 40, waiting_room=True)) is GuestState.ADMITTED
    transaction(lambda cur: service.decide(cur, "l1", BOB, GuestState.AWAY, 50))
    refused = transaction(lambda cur: service.knock(cur, "l1", BOB, 60, waiting_room=False))
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.TURNED_AWAY
    transaction(lambda cur: store.drop_link(cur, "l1"))
    assert transaction(lambda cur: store.link_of(cur, "l1")) is None
    assert transaction(lambda cur: store.guest_of(cur, "l1", BOB)) is None


def test_so_many_wait_and_no_more(transaction: Transaction) -> None:
    transaction(lambda cur: store.add_link(cur, LINK))

    def crowd(number: int) -> UserId:
        return UserId(f"@guest{number}:hs1")

    def fill(cur: Cursor) -> None:
        for number in range(WAITING_MAX):
            guest = Guest(user_id=crowd(number), asked_ms=number, state=GuestState.WAITING)
            store.put_guest(cur, "l1", guest)

    transaction(fill)
    refused = transaction(lambda cur: service.knock(cur, "l1", BOB, 60, waiting_room=True))
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.CALL_FULL
    assert transaction(lambda cur: service.knock(cur, "l1", crowd(1), 60, waiting_room=True)) is GuestState.WAITING


def test_ones_links_are_listed_newest_first(transaction: Transaction) -> None:
    newer = replace(LINK, link_id="l2", made_ms=9)
    others = replace(LINK, link_id="l3", host=UserId("@other:hs1"))
    transaction(lambda cur: store.add_link(cur, LINK))
    transaction(lambda cur: store.add_link(cur, newer))
    transaction(lambda cur: store.add_link(cur, others))
    assert transaction(lambda cur: store.links_of(cur, BOB)) == (newer, LINK)
    assert service.too_many_links([LINK]) is None
    assert isinstance(service.too_many_links([LINK] * 200), Refused)
