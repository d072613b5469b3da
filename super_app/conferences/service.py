"""What happens to seats, each in one transaction: taken, connected, left, counted, and looked after leave events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from super_app.conferences import store
from super_app.conferences.model import (
    LINKS_MAX,
    REFRESHED_MS,
    ROOM_KNOWN_MS,
    WAITING_MAX,
    Guest,
    GuestState,
    Identity,
    Leave,
    Link,
    Seat,
    SfuRoom,
)
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """What a look into a room of the SFU showed: seats that were taken again, and who has none."""

    returned: tuple[Seat, ...]
    strangers: tuple[Identity, ...]


def take_seat(cur: Cursor, seat: Seat, slot_id: str, now_ms: int) -> bool:
    """Give a seat. Whether the room may not exist at the SFU, so that it has to be made first."""
    ensured_ms = store.ensured(cur, seat.sfu_room)
    is_known = ensured_ms is not None and now_ms - ensured_ms < ROOM_KNOWN_MS
    if ensured_ms is None:
        # Known from now on, and not yet made.
        store.ensure(cur, seat.sfu_room, seat.room_id, slot_id, 0)
    store.take_seat(cur, seat)
    return not is_known


def came(cur: Cursor, sfu_room: SfuRoom, identity: Identity, participant: str) -> Seat | None:
    """Somebody connected. Their seat, or None if they have none."""
    store.connected(cur, sfu_room, identity, participant)
    return store.seat_of(cur, sfu_room, identity)


def went(cur: Cursor, sfu_room: SfuRoom, identity: Identity, participant: str, now_ms: int) -> None:
    store.disconnected(cur, sfu_room, identity, participant, now_ms + REFRESHED_MS)


def count(cur: Cursor, sfu_room: SfuRoom, present: Mapping[Identity, str], now_ms: int) -> Census:
    """Bring seats in line with who is in a room, as webhooks may be lost. ``present``: participants by identity."""
    returned: list[Seat] = []
    seats = {seat.identity: seat for seat in store.seats_in(cur, sfu_room)}
    for identity, seat in seats.items():
        participant = present.get(identity)
        if participant is None:
            store.disconnected(cur, sfu_room, identity, None, now_ms + REFRESHED_MS)
        elif participant != seat.participant:
            store.connected(cur, sfu_room, identity, participant)
            returned.append(seat)
    strangers = tuple(identity for identity in present if identity not in seats)
    return Census(returned=tuple(returned), strangers=strangers)


def delegate(cur: Cursor, leave: Leave) -> None:
    """Look after a leave event from now on, in the place of an earlier one of the same device."""
    seat = store.seat_of(cur, leave.sfu_room, leave.identity)
    is_connected = seat is not None and seat.participant is not None
    store.delegate(
        cur,
        Leave(
            sfu_room=leave.sfu_room,
            identity=leave.identity,
            delay_id=leave.delay_id,
            delay_ms=leave.delay_ms,
            delegated_ms=leave.delegated_ms,
            restarted_ms=leave.restarted_ms,
            was_connected=is_connected,
            is_connected=is_connected,
        ),
    )


# Links.


def too_many_links(links: Sequence[Link]) -> Refused | None:
    if len(links) < LINKS_MAX:
        return None
    return Refused(
        reason=Reason.CONFLICT, message=f"You have {LINKS_MAX} links to calls; delete one that is over first."
    )


def knock(cur: Cursor, link_id: str, user_id: UserId, now_ms: int, *, waiting_room: bool) -> GuestState | Refused:
    """Somebody asks to be let in; the same again changes nothing."""
    guest = store.guest_of(cur, link_id, user_id)
    if guest is not None and guest.state is GuestState.AWAY:
        return Refused(reason=Reason.TURNED_AWAY, message="The host of this call has turned you away.")
    if guest is not None and (guest.state is GuestState.ADMITTED or waiting_room):
        return guest.state
    if waiting_room and len(store.waiting(cur, link_id)) >= WAITING_MAX:
        return Refused(reason=Reason.CALL_FULL, message="Too many people wait for this call; try again later.")
    state = GuestState.WAITING if waiting_room else GuestState.ADMITTED
    store.put_guest(cur, link_id, Guest(user_id=user_id, asked_ms=now_ms, state=state))
    return state


def decide(cur: Cursor, link_id: str, user_id: UserId, state: GuestState, now_ms: int) -> None:
    """A host lets somebody in, or turns them away, whether they asked or not."""
    store.put_guest(cur, link_id, Guest(user_id=user_id, asked_ms=now_ms, state=state))
