"""SQL of calls."""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any, Final, LiteralString, cast

from super_app.calls.model import (
    SCREENED_RECORDS_WINDOW_MS,
    CallId,
    Direction,
    HistoryEntry,
    Media,
    Offer,
    Outgoing,
    Protocol,
    Quality,
    RecentRing,
    Record,
    Relayed,
    RoomPlace,
    Rule,
    Session,
    SessionId,
    State,
)
from super_app.db import Cursor, Row
from super_app.ids import Acct, EventId, RoomId, ServerName, UserId

_SESSION: Final = (
    "s.session_id, s.room_id, s.call_id, s.caller, s.callee, s.protocol, s.media, s.ring_ms, s.ring_until_ms,"
    " s.due_ms, s.rtc_event_id, s.superapp_event_id, s.rtc_ring_id, s.legacy_party, s.offers"
)
_SESSION_COLUMNS: Final = 15
_RECORD: Final = (
    "r.session_id, r.owner_acct, r.user_id, r.direction, r.peer, r.peer_server, r.state, r.ring_ms, r.answer_ms,"
    " r.end_ms, r.ended_by, r.screened_by, r.media_ms, r.media_by_ms, r.left_ms, r.left_by, r.callback_ms, r.quality"
)
_OPEN_STATES: Final[LiteralString] = "('ringing', 'answered')"

# Sessions.


def add_session(cur: Cursor, session: Session) -> None:
    """Add a session; one that exists stays as it is."""
    cur.execute(
        "INSERT INTO superapp_calls_session (session_id, room_id, call_id, caller, callee, protocol, media, ring_ms,"
        " ring_until_ms, due_ms, rtc_event_id, superapp_event_id, rtc_ring_id, legacy_party, offers)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (session_id) DO NOTHING",
        (
            session.session_id,
            session.room_id,
            session.call_id,
            session.caller,
            session.callee,
            session.protocol,
            session.media,
            session.ring_ms,
            session.ring_until_ms,
            session.due_ms,
            session.rtc_event_id,
            session.superapp_event_id,
            session.rtc_ring_id,
            session.legacy_party,
            _offers_text(session.offers),
        ),
    )


def locked(cur: Cursor, session_id: SessionId) -> Session | None:
    """The session, which nobody else changes until this transaction ends: writing to a row locks it everywhere."""
    cur.execute("UPDATE superapp_calls_session SET call_id = call_id WHERE session_id = ?", (session_id,))
    cur.execute("SELECT " + _SESSION + " FROM superapp_calls_session s WHERE s.session_id = ?", (session_id,))
    row = cur.fetchone()
    return None if row is None else _session(row)


def update_session(cur: Cursor, session: Session) -> None:
    cur.execute(
        "UPDATE superapp_calls_session SET due_ms = ?, rtc_event_id = ?, superapp_event_id = ?, rtc_ring_id = ?,"
        " legacy_party = ?, offers = ? WHERE session_id = ?",
        (
            session.due_ms,
            session.rtc_event_id,
            session.superapp_event_id,
            session.rtc_ring_id,
            session.legacy_party,
            _offers_text(session.offers),
            session.session_id,
        ),
    )


def delete_session(cur: Cursor, session_id: SessionId) -> None:
    """Remove a session and all that hangs on it."""
    cur.execute("DELETE FROM superapp_calls_event WHERE session_id = ?", (session_id,))
    cur.execute("DELETE FROM superapp_calls_record WHERE session_id = ?", (session_id,))
    cur.execute("DELETE FROM superapp_calls_session WHERE session_id = ?", (session_id,))


def of_call(cur: Cursor, room_id: RoomId, call_id: CallId) -> tuple[SessionId, ...]:
    """The sessions of a room that have this call id: one for each caller that used it."""
    cur.execute(
        "SELECT session_id FROM superapp_calls_session WHERE room_id = ? AND call_id = ? ORDER BY ring_ms, session_id",
        (room_id, call_id),
    )
    return _ids(cur)


def of_event(cur: Cursor, room_id: RoomId, event_id: EventId) -> tuple[SessionId, ...]:
    """The sessions of a room that an event was applied to."""
    cur.execute(
        "SELECT e.session_id FROM superapp_calls_event e JOIN superapp_calls_session s ON s.session_id = e.session_id"
        " WHERE e.event_id = ? AND s.room_id = ? ORDER BY e.session_id",
        (event_id, room_id),
    )
    return _ids(cur)


def open_rtc(cur: Cursor, room_id: RoomId) -> tuple[SessionId, ...]:
    """The open sessions of a room in which MatrixRTC memberships tell who answers and leaves."""
    cur.execute(
        "SELECT session_id FROM superapp_calls_session WHERE room_id = ? AND due_ms IS NOT NULL"
        " AND (protocol = 'matrixrtc' OR rtc_event_id IS NOT NULL) ORDER BY ring_ms, session_id",
        (room_id,),
    )
    return _ids(cur)


def open_of_caller(cur: Cursor, room_id: RoomId, caller: UserId) -> tuple[SessionId, ...]:
    cur.execute(
        "SELECT session_id FROM superapp_calls_session WHERE room_id = ? AND due_ms IS NOT NULL AND caller = ?"
        " ORDER BY ring_ms, session_id",
        (room_id, caller),
    )
    return _ids(cur)


def rtc_of_caller(
    cur: Cursor, room_id: RoomId, caller: UserId, reference: EventId | None, since_ms: int
) -> SessionId | None:
    """The session that a MatrixRTC ring belongs to: the newest that is open for its membership, or that began just now.

    Just now counts where one of the two names no membership, as the deprecated twin of a ring does not; then also if it
    was screened, so that the twin of a screened ring is screened with it.
    """
    wanted = reference or ""
    cur.execute(
        "SELECT s.session_id FROM superapp_calls_session s"
        " WHERE s.caller = ? AND s.room_id = ?"
        " AND (s.rtc_event_id = ?"
        " OR (s.protocol = 'matrixrtc' AND s.ring_ms >= ? AND (s.rtc_event_id IS NULL OR ? = '')))"
        " AND (s.due_ms IS NOT NULL OR (s.ring_ms >= ? AND EXISTS ("
        " SELECT 1 FROM superapp_calls_record r WHERE r.session_id = s.session_id AND r.state = 'screened')))"
        " ORDER BY s.ring_ms DESC, s.session_id LIMIT 1",
        (caller, room_id, wanted, since_ms, wanted, since_ms),
    )
    found = _ids(cur)
    return found[0] if found else None


def of_membership(cur: Cursor, room_id: RoomId, caller: UserId, reference: EventId) -> SessionId | None:
    """The newest session that a caller's call.member event rang for, whatever became of it."""
    cur.execute(
        "SELECT session_id FROM superapp_calls_session WHERE caller = ? AND room_id = ? AND rtc_event_id = ?"
        " ORDER BY ring_ms DESC, session_id LIMIT 1",
        (caller, room_id, reference),
    )
    found = _ids(cur)
    return found[0] if found else None


def exists(cur: Cursor, session_id: SessionId) -> bool:
    cur.execute("SELECT 1 FROM superapp_calls_session WHERE session_id = ?", (session_id,))
    return cur.fetchone() is not None


def due_sessions(cur: Cursor, now_ms: int, limit: int) -> tuple[SessionId, ...]:
    cur.execute(
        "SELECT session_id FROM superapp_calls_session WHERE due_ms <= ? ORDER BY due_ms, session_id LIMIT ?",
        (now_ms, limit),
    )
    return _ids(cur)


def aged_sessions(cur: Cursor, before_ms: int, limit: int) -> tuple[SessionId, ...]:
    """Sessions that began before a time and in which nothing is open."""
    cur.execute(
        "SELECT session_id FROM superapp_calls_session WHERE ring_ms < ? AND due_ms IS NULL ORDER BY ring_ms LIMIT ?",
        (before_ms, limit),
    )
    return _ids(cur)


def note_event(cur: Cursor, event_id: EventId, session_id: SessionId) -> bool:
    """Remember that an event was applied to a session; False if it was before."""
    cur.execute(
        "INSERT INTO superapp_calls_event (event_id, session_id) VALUES (?, ?)"
        " ON CONFLICT (event_id, session_id) DO NOTHING",
        (event_id, session_id),
    )
    return cur.rowcount == 1


def forget_event(cur: Cursor, event_id: EventId, session_id: SessionId) -> None:
    """Take back that an event was applied to a session."""
    cur.execute("DELETE FROM superapp_calls_event WHERE event_id = ? AND session_id = ?", (event_id, session_id))


# Records.


def records(cur: Cursor, session_id: SessionId) -> tuple[Record, ...]:
    cur.execute(
        "SELECT " + _RECORD + " FROM superapp_calls_record r WHERE r.session_id = ? ORDER BY r.owner_acct",
        (session_id,),
    )
    return tuple(_record(row) for row in cur.fetchall())


def put_record(cur: Cursor, record: Record) -> None:
    """Write a record as it now is."""
    cur.execute(
        "INSERT INTO superapp_calls_record (session_id, owner_acct, user_id, direction, peer, peer_server, state,"
        " ring_ms, answer_ms, end_ms, ended_by, screened_by, media_ms, media_by_ms, left_ms, left_by, callback_ms,"
        " quality) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (session_id, owner_acct) DO UPDATE SET state = excluded.state, answer_ms = excluded.answer_ms,"
        " end_ms = excluded.end_ms, ended_by = excluded.ended_by, screened_by = excluded.screened_by,"
        " media_ms = excluded.media_ms, media_by_ms = excluded.media_by_ms, left_ms = excluded.left_ms,"
        " left_by = excluded.left_by, callback_ms = excluded.callback_ms, quality = excluded.quality",
        (
            record.session_id,
            record.owner,
            record.user_id,
            record.direction,
            record.peer,
            record.peer_server,
            record.state,
            record.ring_ms,
            record.answer_ms,
            record.end_ms,
            record.ended_by,
            record.screened_by,
            record.media_ms,
            record.media_by_ms,
            record.left_ms,
            record.left_by,
            record.callback_ms,
            None if record.quality is None else json.dumps(asdict(record.quality)),
        ),
    )


def recent_rings(cur: Cursor, owner: Acct, since_ms: int, limit: int) -> tuple[RecentRing, ...]:
    """The newest rings that somebody got since a time: those that were shown, and those that were not."""
    cur.execute(
        "SELECT ring_ms, peer, 1 FROM superapp_calls_record WHERE owner_acct = ? AND ring_ms > ?"
        " AND direction = 'incoming' AND state <> 'screened' ORDER BY ring_ms DESC LIMIT ?",
        (owner, since_ms, limit),
    )
    rows = cur.fetchall()
    cur.execute(
        "SELECT ring_ms, peer, 0 FROM superapp_calls_record WHERE owner_acct = ? AND ring_ms > ?"
        " AND direction = 'incoming' AND state = 'screened' ORDER BY ring_ms DESC LIMIT ?",
        (owner, since_ms, limit),
    )
    return tuple(
        RecentRing(ring_ms=_int(row[0]), caller=UserId(str(row[1])), shown=row[2] == 1)
        for row in [*rows, *cur.fetchall()]
    )


def shown_since(cur: Cursor, owner: Acct, caller: UserId, since_ms: int) -> int:
    """How many rings of a caller somebody was shown since a time."""
    cur.execute(
        "SELECT COUNT(*) FROM superapp_calls_record WHERE owner_acct = ? AND peer = ? AND ring_ms > ?"
        " AND direction = 'incoming' AND state <> 'screened'",
        (owner, caller, since_ms),
    )
    return _int(_only(cur)[0])


def acquaintances(cur: Cursor, owner: Acct, limit: int) -> frozenset[UserId]:
    """The people with whom somebody has talked, or whom they have rung themselves."""
    cur.execute(
        "SELECT peer FROM superapp_calls_record WHERE owner_acct = ?"
        " AND (direction = 'outgoing' OR state IN ('answered', 'ended')) GROUP BY peer"
        " ORDER BY MAX(ring_ms) DESC LIMIT ?",
        (owner, limit),
    )
    return frozenset(UserId(str(row[0])) for row in cur.fetchall() if str(row[0]).startswith("@"))


def screened_records(cur: Cursor, owner: Acct, server: ServerName, now_ms: int) -> int:
    """How many rings of a server the owner's history keeps as screened in the current window."""
    cur.execute(
        "SELECT COUNT(*) FROM superapp_calls_record WHERE owner_acct = ? AND peer_server = ? AND ring_ms > ?"
        " AND direction = 'incoming' AND state = 'screened'",
        (owner, server, now_ms - SCREENED_RECORDS_WINDOW_MS),
    )
    return _int(_only(cur)[0])


def history(cur: Cursor, owner: Acct, before: tuple[int, SessionId] | None, limit: int) -> tuple[HistoryEntry, ...]:
    """A person's records before a place in their history, newest first. What the gate alone knows is not yet theirs."""
    ring_ms, session_id = before or (2**62, SessionId(""))
    cur.execute(
        "SELECT " + _SESSION + ", " + _RECORD + " FROM superapp_calls_record r"
        " JOIN superapp_calls_session s ON s.session_id = r.session_id"
        " WHERE r.owner_acct = ? AND r.state <> 'new'"
        " AND (r.ring_ms < ? OR (r.ring_ms = ? AND r.session_id < ?))"
        " ORDER BY r.ring_ms DESC, r.session_id DESC LIMIT ?",
        (owner, ring_ms, ring_ms, session_id, limit),
    )
    return tuple(
        HistoryEntry(session=_session(row[:_SESSION_COLUMNS]), record=_record(row[_SESSION_COLUMNS:]))
        for row in cur.fetchall()
    )


def live(cur: Cursor, owner: Acct, call_id: CallId) -> SessionId | None:
    """The newest session with this call id that rings or is answered for a person."""
    cur.execute(
        "SELECT s.session_id FROM superapp_calls_record r"
        " JOIN superapp_calls_session s ON s.session_id = r.session_id"
        " WHERE r.owner_acct = ? AND s.call_id = ? AND r.state IN " + _OPEN_STATES + " ORDER BY r.ring_ms DESC LIMIT 1",
        (owner, call_id),
    )
    found = _ids(cur)
    return found[0] if found else None


def newest(cur: Cursor, owner: Acct, call_id: CallId) -> HistoryEntry | None:
    """The newest call of this id in a person's records."""
    cur.execute(
        "SELECT " + _SESSION + ", " + _RECORD + " FROM superapp_calls_record r"
        " JOIN superapp_calls_session s ON s.session_id = r.session_id"
        " WHERE r.owner_acct = ? AND s.call_id = ? AND r.state <> 'new' ORDER BY r.ring_ms DESC LIMIT 1",
        (owner, call_id),
    )
    row = cur.fetchone()
    if row is None:
        return None
    return HistoryEntry(session=_session(row[:_SESSION_COLUMNS]), record=_record(row[_SESSION_COLUMNS:]))


def of_person(cur: Cursor, owner: Acct, session_id: SessionId) -> HistoryEntry | None:
    """One call in a person's records."""
    cur.execute(
        "SELECT " + _SESSION + ", " + _RECORD + " FROM superapp_calls_record r"
        " JOIN superapp_calls_session s ON s.session_id = r.session_id"
        " WHERE r.owner_acct = ? AND r.session_id = ?",
        (owner, session_id),
    )
    row = cur.fetchone()
    if row is None:
        return None
    return HistoryEntry(session=_session(row[:_SESSION_COLUMNS]), record=_record(row[_SESSION_COLUMNS:]))


def with_peer(
    cur: Cursor, owner: Acct, peer: str, direction: Direction, since_ms: int, limit: int
) -> tuple[SessionId, ...]:
    """Calls of a person with another since a time that rang, or are about to, the oldest first."""
    cur.execute(
        "SELECT session_id FROM superapp_calls_record WHERE owner_acct = ? AND ring_ms >= ? AND peer = ?"
        " AND direction = ? AND state <> 'screened' ORDER BY ring_ms, session_id LIMIT ?",
        (owner, since_ms, peer, direction, limit),
    )
    return _ids(cur)


def erase_records(cur: Cursor, owner: Acct, session_id: SessionId | None) -> int:
    """Delete a person's records of calls that are over, or of one of them; how many."""
    one = session_id or ""
    cur.execute(
        "DELETE FROM superapp_calls_record WHERE owner_acct = ? AND (? = '' OR session_id = ?)"
        " AND state NOT IN ('new', 'ringing', 'answered')",
        (owner, one, one),
    )
    return cur.rowcount


def erase_person(cur: Cursor, owner: Acct, user_id: UserId) -> int:
    """Delete all that calls keep of somebody, whatever is going on; how many records."""
    cur.execute("DELETE FROM superapp_calls_record WHERE owner_acct = ?", (owner,))
    erased = cur.rowcount
    cur.execute("DELETE FROM superapp_calls_refusal WHERE owner_acct = ?", (owner,))
    # The name alone stays, of no call that goes on, so that what is relayed under it is ended.
    cur.execute(
        "UPDATE superapp_calls_relayed SET owner_acct = '', user_id = '', session_id = '', room_id = NULL"
        " WHERE owner_acct = ?",
        (owner,),
    )
    cur.execute("DELETE FROM superapp_calls_order WHERE owner_acct = ?", (owner,))
    cur.execute("DELETE FROM superapp_calls_outbox WHERE sender = ?", (user_id,))
    cur.execute("DELETE FROM superapp_calls_member WHERE user_id = ?", (user_id,))
    return erased


def delete_orphans(cur: Cursor) -> int:
    """Delete sessions that are in nobody's records any more; how many."""
    cur.execute(
        "DELETE FROM superapp_calls_event WHERE session_id NOT IN (SELECT session_id FROM superapp_calls_record)"
    )
    cur.execute(
        "DELETE FROM superapp_calls_session WHERE session_id NOT IN (SELECT session_id FROM superapp_calls_record)"
    )
    return cur.rowcount


def owners(cur: Cursor, after: Acct, limit: int) -> tuple[tuple[Acct, UserId], ...]:
    """The people who have records, by acct."""
    cur.execute(
        "SELECT DISTINCT owner_acct, user_id FROM superapp_calls_record WHERE owner_acct > ?"
        " ORDER BY owner_acct LIMIT ?",
        (after, limit),
    )
    return tuple((Acct(str(row[0])), UserId(str(row[1]))) for row in cur.fetchall())


# Sticky memberships.


def put_member(cur: Cursor, room_id: RoomId, user_id: UserId, key: str, event_id: EventId, until_ms: int) -> None:
    cur.execute(
        "INSERT INTO superapp_calls_member (room_id, user_id, member_key, event_id, until_ms) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (room_id, user_id, member_key) DO UPDATE SET event_id = excluded.event_id,"
        " until_ms = excluded.until_ms",
        (room_id, user_id, key, event_id, until_ms),
    )


def delete_member(cur: Cursor, room_id: RoomId, user_id: UserId, key: str) -> None:
    cur.execute(
        "DELETE FROM superapp_calls_member WHERE room_id = ? AND user_id = ? AND member_key = ?",
        (room_id, user_id, key),
    )


def members_of(cur: Cursor, room_id: RoomId, now_ms: int) -> frozenset[UserId]:
    """Who is in a room's call by a sticky membership."""
    cur.execute("SELECT user_id FROM superapp_calls_member WHERE room_id = ? AND until_ms > ?", (room_id, now_ms))
    return frozenset(UserId(str(row[0])) for row in cur.fetchall())


def member_keys(cur: Cursor, room_id: RoomId, user_id: UserId, now_ms: int) -> tuple[str, ...]:
    """The keys of somebody's sticky memberships of a room's call, one for each device."""
    cur.execute(
        "SELECT member_key FROM superapp_calls_member WHERE room_id = ? AND user_id = ? AND until_ms > ?"
        " ORDER BY member_key",
        (room_id, user_id, now_ms),
    )
    return tuple(str(row[0]) for row in cur.fetchall())


def has_member(cur: Cursor, room_id: RoomId, user_id: UserId, but: str, now_ms: int) -> bool:
    """Whether somebody is in a room's call by a sticky membership with another key than ``but``."""
    cur.execute(
        "SELECT 1 FROM superapp_calls_member WHERE room_id = ? AND user_id = ? AND member_key <> ? AND until_ms > ?",
        (room_id, user_id, but, now_ms),
    )
    return cur.fetchone() is not None


def lapsed_members(cur: Cursor, now_ms: int, limit: int) -> tuple[tuple[RoomId, UserId, str, EventId, int], ...]:
    """Sticky memberships whose time is over: room, person, key, event and when they ended."""
    cur.execute(
        "SELECT room_id, user_id, member_key, event_id, until_ms FROM superapp_calls_member WHERE until_ms <= ?"
        " ORDER BY until_ms, room_id, user_id, member_key LIMIT ?",
        (now_ms, limit),
    )
    return tuple(
        (RoomId(str(row[0])), UserId(str(row[1])), str(row[2]), EventId(str(row[3])), _int(row[4]))
        for row in cur.fetchall()
    )


# Calls that were begun through the API.


def add_order(
    cur: Cursor, owner: Acct, call_id: CallId, body_hash: str, room_id: RoomId, session_id: SessionId, now_ms: int
) -> tuple[str, RoomId, SessionId]:
    """Remember what was asked for under a call id; what stands there, now or since before."""
    cur.execute(
        "INSERT INTO superapp_calls_order (owner_acct, call_id, body_hash, room_id, session_id, ordered_ms)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (owner_acct, call_id) DO NOTHING",
        (owner, call_id, body_hash, room_id, session_id, now_ms),
    )
    found = order(cur, owner, call_id)
    if found is None:
        raise RuntimeError("an order vanished inside its own transaction")
    return found


def order(cur: Cursor, owner: Acct, call_id: CallId) -> tuple[str, RoomId, SessionId] | None:
    cur.execute(
        "SELECT body_hash, room_id, session_id FROM superapp_calls_order WHERE owner_acct = ? AND call_id = ?",
        (owner, call_id),
    )
    row = cur.fetchone()
    return None if row is None else (str(row[0]), RoomId(str(row[1])), SessionId(str(row[2])))


def forget_orders(cur: Cursor, before_ms: int) -> None:
    cur.execute("DELETE FROM superapp_calls_order WHERE ordered_ms < ?", (before_ms,))


# Silences.


def add_silence(cur: Cursor, user_id: UserId, rule_id: str, until_ms: int) -> None:
    cur.execute(
        "INSERT INTO superapp_calls_silence (user_id, rule_id, until_ms) VALUES (?, ?, ?)"
        " ON CONFLICT (user_id, rule_id) DO UPDATE SET until_ms = excluded.until_ms",
        (user_id, rule_id, until_ms),
    )


def count_silences(cur: Cursor, user_id: UserId) -> int:
    cur.execute("SELECT COUNT(*) FROM superapp_calls_silence WHERE user_id = ?", (user_id,))
    return _int(_only(cur)[0])


def lapsed_silences(cur: Cursor, now_ms: int, limit: int) -> tuple[tuple[UserId, str], ...]:
    cur.execute(
        "SELECT user_id, rule_id FROM superapp_calls_silence WHERE until_ms <= ? ORDER BY until_ms LIMIT ?",
        (now_ms, limit),
    )
    return tuple((UserId(str(row[0])), str(row[1])) for row in cur.fetchall())


def delete_silence(cur: Cursor, user_id: UserId, rule_id: str) -> None:
    cur.execute("DELETE FROM superapp_calls_silence WHERE user_id = ? AND rule_id = ?", (user_id, rule_id))


# Refusals and the outbox.


def last_refusal(cur: Cursor, owner: Acct, caller: UserId) -> tuple[SessionId, int] | None:
    """The call about which a caller was last told that ``owner`` is not available, and when."""
    cur.execute(
        "SELECT session_id, refused_ms FROM superapp_calls_refusal WHERE owner_acct = ? AND caller = ?", (owner, caller)
    )
    row = cur.fetchone()
    return None if row is None else (SessionId(str(row[0])), _int(row[1]))


def put_refusal(cur: Cursor, owner: Acct, caller: UserId, session_id: SessionId, now_ms: int) -> None:
    cur.execute(
        "INSERT INTO superapp_calls_refusal (owner_acct, caller, session_id, refused_ms) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (owner_acct, caller) DO UPDATE SET session_id = excluded.session_id,"
        " refused_ms = excluded.refused_ms",
        (owner, caller, session_id, now_ms),
    )


def forget_refusals(cur: Cursor, before_ms: int) -> None:
    cur.execute("DELETE FROM superapp_calls_refusal WHERE refused_ms < ?", (before_ms,))


def post(cur: Cursor, outgoing: Outgoing) -> None:
    """Put an event into the outbox; one that is there already stays as it is."""
    cur.execute(
        "INSERT INTO superapp_calls_outbox (outbox_id, due_ms, attempts, room_id, sender, type, content)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (outbox_id) DO NOTHING",
        (
            outgoing.outbox_id,
            outgoing.due_ms,
            outgoing.attempts,
            outgoing.room_id,
            outgoing.sender,
            outgoing.event_type,
            json.dumps(outgoing.content),
        ),
    )


def due_outgoing(cur: Cursor, now_ms: int, limit: int) -> tuple[Outgoing, ...]:
    cur.execute(
        "SELECT outbox_id, due_ms, attempts, room_id, sender, type, content FROM superapp_calls_outbox"
        " WHERE due_ms <= ? ORDER BY due_ms, outbox_id LIMIT ?",
        (now_ms, limit),
    )
    return tuple(_outgoing(row) for row in cur.fetchall())


def claim(cur: Cursor, outbox_id: str) -> bool:
    """Take an event out of the outbox; False if somebody else did."""
    cur.execute("DELETE FROM superapp_calls_outbox WHERE outbox_id = ?", (outbox_id,))
    return cur.rowcount == 1


def next_due_ms(cur: Cursor) -> int | None:
    """The earliest time at which a session or the outbox needs attention."""
    cur.execute(
        "SELECT MIN(due_ms) FROM ("
        " SELECT MIN(due_ms) AS due_ms FROM superapp_calls_session WHERE due_ms IS NOT NULL"
        " UNION ALL SELECT MIN(due_ms) AS due_ms FROM superapp_calls_outbox"
        " UNION ALL SELECT MIN(until_ms) AS due_ms FROM superapp_calls_member) AS due"
    )
    value = _only(cur)[0]
    return None if value is None else _int(value)


# Rows.


def _only(cur: Cursor) -> Row:
    row = cur.fetchone()
    if row is None:
        raise RuntimeError("an aggregate gave no row")
    return row


def _ids(cur: Cursor) -> tuple[SessionId, ...]:
    return tuple(SessionId(str(row[0])) for row in cur.fetchall())


def _int(value: str | int | None) -> int:
    return int(value or 0)


def _maybe_int(value: str | int | None) -> int | None:
    return None if value is None else int(value)


def _session(row: Sequence[str | int | None]) -> Session:
    return Session(
        session_id=SessionId(str(row[0])),
        room_id=RoomId(str(row[1])),
        call_id=CallId(str(row[2])),
        caller=UserId(str(row[3])),
        callee=None if row[4] is None else UserId(str(row[4])),
        protocol=Protocol(str(row[5])),
        media=Media(str(row[6])),
        ring_ms=_int(row[7]),
        ring_until_ms=_int(row[8]),
        due_ms=_maybe_int(row[9]),
        rtc_event_id=None if row[10] is None else EventId(str(row[10])),
        superapp_event_id=None if row[11] is None else EventId(str(row[11])),
        rtc_ring_id=None if row[12] is None else EventId(str(row[12])),
        legacy_party=None if row[13] is None else str(row[13]),
        offers=frozenset(Offer(each) for each in json.loads(str(row[14] or "[]"))),
    )


def _offers_text(offers: frozenset[Offer]) -> str | None:
    return json.dumps(sorted(offers)) if offers else None


def _record(row: Sequence[str | int | None]) -> Record:
    return Record(
        session_id=SessionId(str(row[0])),
        owner=Acct(str(row[1])),
        user_id=UserId(str(row[2])),
        direction=Direction(str(row[3])),
        peer=str(row[4]),
        peer_server=ServerName(str(row[5])),
        state=State(str(row[6])),
        ring_ms=_int(row[7]),
        answer_ms=_maybe_int(row[8]),
        end_ms=_maybe_int(row[9]),
        ended_by=None if row[10] is None else UserId(str(row[10])),
        screened_by=None if row[11] is None else Rule(str(row[11])),
        media_ms=_maybe_int(row[12]),
        media_by_ms=_maybe_int(row[13]),
        left_ms=_maybe_int(row[14]),
        left_by=None if row[15] is None else UserId(str(row[15])),
        callback_ms=_maybe_int(row[16]),
        quality=None if row[17] is None else Quality(**json.loads(str(row[17]))),
    )


def _outgoing(row: Row) -> Outgoing:
    return Outgoing(
        outbox_id=str(row[0]),
        due_ms=_int(row[1]),
        attempts=_int(row[2]),
        room_id=RoomId(str(row[3])),
        sender=UserId(str(row[4])),
        event_type=str(row[5]),
        content=cast(dict[str, Any], json.loads(str(row[6]))),
    )


# Limits of several processes.

_SLOTS: Final = 20


def take(cur: Cursor, name: str, subject: str, *, most: int, window_ms: int, now_ms: int) -> int | None:
    """Count one, and None; or, if there were too many in the window, nothing, and how many milliseconds to wait.

    Those who count at once wait for each other at the row of the present slot, so none is counted past the limit; at
    the border of two slots there may be as many too many as processes count at that moment.
    """
    slot_ms = max(1, window_ms // _SLOTS)
    slot = now_ms // slot_ms
    cur.execute(
        "INSERT INTO superapp_calls_taken AS held (limit_name, subject, slot, taken, until_ms) VALUES (?, ?, ?, 1, ?)"
        " ON CONFLICT (limit_name, subject, slot) DO UPDATE SET taken = held.taken + 1",
        (name, subject, slot, (slot + _SLOTS) * slot_ms),
    )
    cur.execute(
        "SELECT SUM(taken), MIN(slot) FROM superapp_calls_taken"
        " WHERE limit_name = ? AND subject = ? AND slot > ? AND taken > 0",
        (name, subject, slot - _SLOTS),
    )
    row = cur.fetchone()
    if row is None or row[1] is None:
        raise RuntimeError("what was just counted is not there")
    taken, oldest = int(row[0] or 0), int(row[1])
    if taken <= most:
        return None
    cur.execute(
        "UPDATE superapp_calls_taken SET taken = taken - 1 WHERE limit_name = ? AND subject = ? AND slot = ?",
        (name, subject, slot),
    )
    return max(1, (oldest + _SLOTS) * slot_ms - now_ms)


def forget_taken(cur: Cursor, now_ms: int) -> None:
    cur.execute("DELETE FROM superapp_calls_taken WHERE until_ms <= ?", (now_ms,))


# Who relays.


def add_relayed(cur: Cursor, relayed: Relayed) -> None:
    """Remember a name; one that is known holds for as long as its newest credentials."""
    cur.execute(
        "INSERT INTO superapp_calls_relayed (name, owner_acct, user_id, session_id, room_id, until_ms)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET until_ms = excluded.until_ms",
        (
            relayed.name,
            relayed.owner,
            relayed.user_id,
            None if isinstance(relayed.place, RoomPlace) else relayed.place,
            relayed.place.room_id if isinstance(relayed.place, RoomPlace) else None,
            relayed.until_ms,
        ),
    )


def relayed_over(cur: Cursor, limit: int) -> tuple[Relayed, ...]:
    """Names for calls that are over for their person, those first whose credentials end first."""
    cur.execute(
        "SELECT n.name, n.owner_acct, n.user_id, n.session_id, n.room_id, n.until_ms FROM superapp_calls_relayed n"
        " WHERE n.session_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM superapp_calls_record r"
        " WHERE r.session_id = n.session_id AND r.owner_acct = n.owner_acct AND r.state IN " + _OPEN_STATES + ")"
        " ORDER BY n.until_ms, n.name LIMIT ?",
        (limit,),
    )
    return tuple(_relayed(row) for row in cur.fetchall())


def relayed_in_rooms(cur: Cursor, limit: int) -> tuple[Relayed, ...]:
    """Names for the calls of rooms, those first whose credentials end first."""
    cur.execute(
        "SELECT name, owner_acct, user_id, session_id, room_id, until_ms FROM superapp_calls_relayed"
        " WHERE room_id IS NOT NULL ORDER BY until_ms, name LIMIT ?",
        (limit,),
    )
    return tuple(_relayed(row) for row in cur.fetchall())


def forget_relayed(cur: Cursor, names: Collection[str], now_ms: int) -> None:
    """Forget names, unless they were given out anew."""
    for name in names:
        cur.execute("DELETE FROM superapp_calls_relayed WHERE name = ? AND until_ms <= ?", (name, now_ms))


def _relayed(row: Row) -> Relayed:
    name, owner, user_id, session_id, room_id, until_ms = row
    return Relayed(
        name=str(name),
        owner=Acct(str(owner)),
        user_id=UserId(str(user_id)),
        place=RoomPlace(room_id=RoomId(str(room_id))) if session_id is None else SessionId(str(session_id)),
        until_ms=_int(until_ms),
    )
