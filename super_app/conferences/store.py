"""SQL of conferences."""

from typing import Final

from super_app.conferences.model import (
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
from super_app.db import Cursor, Row
from super_app.ids import RoomId, UserId

_SEAT: Final = (
    "s.sfu_room, s.identity, s.room_id, s.user_id, s.publishes_here, s.can_publish, s.sources, s.until_ms,"
    " s.participant, s.barred"
)

# Rooms.


def ensured(cur: Cursor, sfu_room: SfuRoom) -> int | None:
    """When a room of the SFU was last seen to exist; None if we know of none."""
    cur.execute("SELECT ensured_ms FROM superapp_calls_sfu_room WHERE sfu_room = ?", (sfu_room,))
    row = cur.fetchone()
    return None if row is None else int(row[0] or 0)


def ensure(cur: Cursor, sfu_room: SfuRoom, room_id: RoomId, slot_id: str, now_ms: int) -> None:
    cur.execute(
        "INSERT INTO superapp_calls_sfu_room (sfu_room, room_id, slot_id, ensured_ms) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (sfu_room) DO UPDATE SET ensured_ms = excluded.ensured_ms",
        (sfu_room, room_id, slot_id, now_ms),
    )


def room_ended(cur: Cursor, sfu_room: SfuRoom) -> None:
    """The SFU has closed a room; the next token makes it anew."""
    cur.execute("UPDATE superapp_calls_sfu_room SET ensured_ms = 0 WHERE sfu_room = ?", (sfu_room,))


def occupied_rooms(cur: Cursor, now_ms: int) -> tuple[SfuRoom, ...]:
    """The rooms in which somebody is, or may be."""
    cur.execute(
        "SELECT DISTINCT sfu_room FROM superapp_calls_sfu_seat WHERE participant IS NOT NULL OR until_ms > ?"
        " ORDER BY sfu_room",
        (now_ms,),
    )
    return tuple(SfuRoom(str(row[0])) for row in cur.fetchall())


# Seats.


def take_seat(cur: Cursor, seat: Seat) -> None:
    """Give a device a seat, or a new token for the one that it has; it stays connected as it is."""
    can_publish, sources = _grant_columns(seat.grant)
    cur.execute(
        "INSERT INTO superapp_calls_sfu_seat AS seat (sfu_room, identity, room_id, user_id, publishes_here,"
        " can_publish, sources, until_ms, participant, barred) VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, 0)"
        " ON CONFLICT (sfu_room, identity) DO UPDATE SET publishes_here = excluded.publishes_here, barred = 0,"
        " can_publish = CASE WHEN seat.participant IS NULL THEN excluded.can_publish ELSE seat.can_publish END,"
        " sources = CASE WHEN seat.participant IS NULL THEN excluded.sources ELSE seat.sources END,"
        " until_ms = CASE WHEN seat.until_ms > excluded.until_ms THEN seat.until_ms ELSE excluded.until_ms END",
        (
            seat.sfu_room,
            seat.identity,
            seat.room_id,
            seat.user_id,
            int(seat.publishes_here),
            can_publish,
            sources,
            seat.until_ms,
        ),
    )


def seat_of(cur: Cursor, sfu_room: SfuRoom, identity: Identity) -> Seat | None:
    cur.execute(
        "SELECT " + _SEAT + " FROM superapp_calls_sfu_seat s WHERE s.sfu_room = ? AND s.identity = ?",
        (sfu_room, identity),
    )
    row = cur.fetchone()
    return None if row is None else _seat(row)


def seats_in(cur: Cursor, sfu_room: SfuRoom) -> tuple[Seat, ...]:
    cur.execute(
        "SELECT " + _SEAT + " FROM superapp_calls_sfu_seat s WHERE s.sfu_room = ? ORDER BY s.identity", (sfu_room,)
    )
    return tuple(_seat(row) for row in cur.fetchall())


def open_seats(cur: Cursor, now_ms: int, limit: int) -> tuple[Seat, ...]:
    """Those who are connected, and those who may come and were not barred."""
    cur.execute(
        "SELECT " + _SEAT + " FROM superapp_calls_sfu_seat s"
        " WHERE s.participant IS NOT NULL OR (s.until_ms > ? AND s.barred = 0)"
        " ORDER BY s.room_id, s.user_id, s.identity LIMIT ?",
        (now_ms, limit),
    )
    return tuple(_seat(row) for row in cur.fetchall())


def connected(cur: Cursor, sfu_room: SfuRoom, identity: Identity, participant: str) -> None:
    cur.execute(
        "UPDATE superapp_calls_sfu_seat SET participant = ?, sources = ? WHERE sfu_room = ? AND identity = ?"
        " AND (participant IS NULL OR participant <> ?)",
        (participant, _UNKNOWN, sfu_room, identity, participant),
    )
    cur.execute(
        "UPDATE superapp_calls_sfu_leave SET was_connected = 1 WHERE sfu_room = ? AND identity = ?",
        (sfu_room, identity),
    )


def disconnected(cur: Cursor, sfu_room: SfuRoom, identity: Identity, participant: str | None, until_ms: int) -> None:
    """A connection ended; ``participant`` None for whichever it was. A later one of the same device stays."""
    if participant is None:
        cur.execute(
            "UPDATE superapp_calls_sfu_seat SET participant = NULL, until_ms = ?"
            " WHERE sfu_room = ? AND identity = ? AND participant IS NOT NULL",
            (until_ms, sfu_room, identity),
        )
        return
    cur.execute(
        "UPDATE superapp_calls_sfu_seat SET participant = NULL, until_ms = ?"
        " WHERE sfu_room = ? AND identity = ? AND participant = ?",
        (until_ms, sfu_room, identity, participant),
    )


def bar(cur: Cursor, sfu_room: SfuRoom, identity: Identity, until_ms: int) -> None:
    cur.execute(
        "UPDATE superapp_calls_sfu_seat SET barred = 1, participant = NULL, until_ms = ?"
        " WHERE sfu_room = ? AND identity = ?",
        (until_ms, sfu_room, identity),
    )


def regrant(cur: Cursor, sfu_room: SfuRoom, identity: Identity, grant: Grant) -> None:
    cur.execute(
        "UPDATE superapp_calls_sfu_seat SET can_publish = ?, sources = ? WHERE sfu_room = ? AND identity = ?",
        (*_grant_columns(grant), sfu_room, identity),
    )


def forget(cur: Cursor, now_ms: int) -> None:
    """Forget seats that nobody can take any more, and rooms without seats."""
    cur.execute("DELETE FROM superapp_calls_sfu_seat WHERE participant IS NULL AND until_ms <= ?", (now_ms,))
    cur.execute(
        "DELETE FROM superapp_calls_sfu_room WHERE ensured_ms < ? AND NOT EXISTS"
        " (SELECT 1 FROM superapp_calls_sfu_seat s WHERE s.sfu_room = superapp_calls_sfu_room.sfu_room)",
        (now_ms - 3_600_000,),
    )


def people_in(cur: Cursor, room_id: RoomId) -> frozenset[UserId]:
    """Who is connected in the calls of a Matrix room."""
    cur.execute(
        "SELECT DISTINCT user_id FROM superapp_calls_sfu_seat WHERE room_id = ? AND participant IS NOT NULL", (room_id,)
    )
    return frozenset(UserId(str(row[0])) for row in cur.fetchall())


# Leave events.


def delegate(cur: Cursor, leave: Leave) -> None:
    """Look after a leave event; one that the same device handed over before is no more looked after."""
    cur.execute(
        "INSERT INTO superapp_calls_sfu_leave (sfu_room, identity, delay_id, delay_ms, delegated_ms, restarted_ms,"
        " was_connected) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (sfu_room, identity) DO UPDATE SET"
        " delay_id = excluded.delay_id, delay_ms = excluded.delay_ms, delegated_ms = excluded.delegated_ms,"
        " restarted_ms = excluded.restarted_ms, was_connected = excluded.was_connected",
        (
            leave.sfu_room,
            leave.identity,
            leave.delay_id,
            leave.delay_ms,
            leave.delegated_ms,
            leave.restarted_ms,
            int(leave.was_connected),
        ),
    )


def leaves(cur: Cursor, limit: int) -> tuple[Leave, ...]:
    cur.execute(
        "SELECT l.sfu_room, l.identity, l.delay_id, l.delay_ms, l.delegated_ms, l.restarted_ms, l.was_connected,"
        " CASE WHEN s.participant IS NULL THEN 0 ELSE 1 END FROM superapp_calls_sfu_leave l"
        " LEFT JOIN superapp_calls_sfu_seat s ON s.sfu_room = l.sfu_room AND s.identity = l.identity"
        " ORDER BY l.restarted_ms LIMIT ?",
        (limit,),
    )
    return tuple(
        Leave(
            sfu_room=SfuRoom(str(row[0])),
            identity=Identity(str(row[1])),
            delay_id=str(row[2]),
            delay_ms=int(row[3] or 0),
            delegated_ms=int(row[4] or 0),
            restarted_ms=int(row[5] or 0),
            was_connected=bool(row[6]),
            is_connected=bool(row[7]),
        )
        for row in cur.fetchall()
    )


def restarted(cur: Cursor, leave: Leave, now_ms: int) -> None:
    cur.execute(
        "UPDATE superapp_calls_sfu_leave SET restarted_ms = ? WHERE sfu_room = ? AND identity = ? AND delay_id = ?",
        (now_ms, leave.sfu_room, leave.identity, leave.delay_id),
    )


def drop_leave(cur: Cursor, leave: Leave) -> None:
    cur.execute(
        "DELETE FROM superapp_calls_sfu_leave WHERE sfu_room = ? AND identity = ? AND delay_id = ?",
        (leave.sfu_room, leave.identity, leave.delay_id),
    )


# Links.


def add_link(cur: Cursor, link: Link) -> None:
    cur.execute(
        "INSERT INTO superapp_calls_link (link_id, room_id, host, made_ms) VALUES (?, ?, ?, ?)",
        (link.link_id, link.room_id, link.host, link.made_ms),
    )


def link_of(cur: Cursor, link_id: str) -> Link | None:
    cur.execute("SELECT link_id, room_id, host, made_ms FROM superapp_calls_link WHERE link_id = ?", (link_id,))
    row = cur.fetchone()
    return None if row is None else _link(row)


def links_of(cur: Cursor, host: UserId) -> tuple[Link, ...]:
    """Newest first."""
    cur.execute(
        "SELECT link_id, room_id, host, made_ms FROM superapp_calls_link WHERE host = ? ORDER BY made_ms DESC, link_id",
        (host,),
    )
    return tuple(_link(row) for row in cur.fetchall())


def drop_link(cur: Cursor, link_id: str) -> None:
    cur.execute("DELETE FROM superapp_calls_link_guest WHERE link_id = ?", (link_id,))
    cur.execute("DELETE FROM superapp_calls_link WHERE link_id = ?", (link_id,))


def guest_of(cur: Cursor, link_id: str, user_id: UserId) -> Guest | None:
    cur.execute(
        "SELECT user_id, asked_ms, state FROM superapp_calls_link_guest WHERE link_id = ? AND user_id = ?",
        (link_id, user_id),
    )
    row = cur.fetchone()
    return None if row is None else _guest(row)


def waiting(cur: Cursor, link_id: str) -> tuple[Guest, ...]:
    """Who waits, the first first."""
    cur.execute(
        "SELECT user_id, asked_ms, state FROM superapp_calls_link_guest WHERE link_id = ? AND state = 'waiting'"
        " ORDER BY asked_ms, user_id",
        (link_id,),
    )
    return tuple(_guest(row) for row in cur.fetchall())


def put_guest(cur: Cursor, link_id: str, guest: Guest) -> None:
    cur.execute(
        "INSERT INTO superapp_calls_link_guest (link_id, user_id, asked_ms, state) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (link_id, user_id) DO UPDATE SET state = excluded.state",
        (link_id, guest.user_id, guest.asked_ms, guest.state),
    )


def _link(row: Row) -> Link:
    return Link(link_id=str(row[0]), room_id=RoomId(str(row[1])), host=UserId(str(row[2])), made_ms=int(row[3] or 0))


def _guest(row: Row) -> Guest:
    return Guest(user_id=UserId(str(row[0])), asked_ms=int(row[1] or 0), state=GuestState(str(row[2])))


_UNKNOWN: Final = "?"


def _grant_columns(grant: Grant | None) -> tuple[int, str]:
    if grant is None:
        return 0, _UNKNOWN
    return int(grant.can_publish), "" if grant.sources is None else " ".join(sorted(grant.sources))


def _grant(can_publish: int, sources: str) -> Grant | None:
    if sources == _UNKNOWN:
        return None
    return Grant(
        can_publish=bool(can_publish), sources=frozenset(Source(each) for each in sources.split()) if sources else None
    )


def _seat(row: Row) -> Seat:
    return Seat(
        sfu_room=SfuRoom(str(row[0])),
        identity=Identity(str(row[1])),
        room_id=RoomId(str(row[2])),
        user_id=UserId(str(row[3])),
        publishes_here=bool(row[4]),
        grant=_grant(int(row[5] or 0), str(row[6])),
        until_ms=int(row[7] or 0),
        participant=None if row[8] is None else str(row[8]),
        barred=bool(row[9]),
    )


def erase_person(cur: Cursor, user_id: UserId) -> int:
    """Forget the links that somebody made to calls, and where they were a guest; how much."""
    cur.execute(
        "DELETE FROM superapp_calls_link_guest WHERE user_id = ? OR link_id IN"
        " (SELECT link_id FROM superapp_calls_link WHERE host = ?)",
        (user_id, user_id),
    )
    erased = cur.rowcount
    cur.execute("DELETE FROM superapp_calls_link WHERE host = ?", (user_id,))
    return erased + cur.rowcount
