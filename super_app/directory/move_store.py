"""SQL of moves between homeservers."""

import json
from collections.abc import Mapping
from typing import Any, Final, LiteralString

from super_app.db import Cursor, Row
from super_app.directory.move_model import Arrival, ArrivalState, Departure, Forward, Recovery
from super_app.ids import Acct, Handle, UserId
from super_app.signing import canonical

_DEPARTURES: Final[LiteralString] = (
    "SELECT acct, user_id, to_user_id, to_acct, to_handle, moved_ms, told_ms, ended_ms"
    " FROM superapp_directory_departure"
)
_ARRIVALS: Final[LiteralString] = (
    "SELECT acct, from_user_id, from_acct, claim, state, announced_ms, done_ms FROM superapp_directory_arrival"
)
_RECOVERIES: Final[LiteralString] = (
    "SELECT acct, user_id, to_user_id, to_acct, first_seen_ms, contested_ms FROM superapp_directory_recovery"
)


# What records say.


def set_moved_to(cur: Cursor, acct: Acct, content: Mapping[str, Any] | None) -> None:
    _ensure_owner(cur, acct)
    text = None if content is None else canonical(dict(content)).decode()
    cur.execute("UPDATE superapp_directory_owner SET moved_to = ? WHERE acct = ?", (text, acct))
    cur.execute("UPDATE superapp_directory_handle SET renew_ms = 0 WHERE acct = ?", (acct,))


def set_moved_from(cur: Cursor, acct: Acct, content: Mapping[str, Any] | None) -> None:
    _ensure_owner(cur, acct)
    text = None if content is None else canonical(dict(content)).decode()
    cur.execute("UPDATE superapp_directory_owner SET moved_from = ? WHERE acct = ?", (text, acct))
    cur.execute("UPDATE superapp_directory_handle SET renew_ms = 0 WHERE acct = ?", (acct,))


def _ensure_owner(cur: Cursor, acct: Acct) -> None:
    cur.execute(
        "INSERT INTO superapp_directory_owner (acct, primary_name, last_primary, renamed_ms) VALUES (?, NULL, NULL, 0)"
        " ON CONFLICT (acct) DO NOTHING",
        (acct,),
    )


def arrivals_before(cur: Cursor, before_ms: int) -> tuple[tuple[Acct, UserId], ...]:
    """Accounts that came so long ago that their records need not say from where any more."""
    cur.execute(
        "SELECT r.acct, a.user_id FROM superapp_directory_arrival r JOIN superapp_account a ON a.acct = r.acct"
        " JOIN superapp_directory_owner o ON o.acct = r.acct"
        " WHERE r.state = 'done' AND r.done_ms < ? AND o.moved_from IS NOT NULL LIMIT 100",
        (before_ms,),
    )
    return tuple((Acct(str(row[0])), UserId(str(row[1]))) for row in cur.fetchall())


# Departures.


def departure(cur: Cursor, acct: Acct) -> Departure | None:
    cur.execute(_DEPARTURES + " WHERE acct = ?", (acct,))
    row = cur.fetchone()
    return None if row is None else _departure(row)


def departure_of(cur: Cursor, user_id: UserId) -> Departure | None:
    cur.execute(
        "SELECT d.acct, d.user_id, d.to_user_id, d.to_acct, d.to_handle, d.moved_ms, d.told_ms, d.ended_ms"
        " FROM superapp_account a JOIN superapp_directory_departure d ON d.acct = a.acct WHERE a.user_id = ?",
        (user_id,),
    )
    row = cur.fetchone()
    return None if row is None else _departure(row)


def add_departure(cur: Cursor, gone: Departure) -> None:
    cur.execute(
        "INSERT INTO superapp_directory_departure (acct, user_id, to_user_id, to_acct, to_handle, moved_ms)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (gone.acct, gone.user_id, gone.to_user_id, gone.to_acct, gone.to_handle, gone.moved_ms),
    )


def set_told(cur: Cursor, acct: Acct, now_ms: int) -> None:
    cur.execute(
        "UPDATE superapp_directory_departure SET told_ms = ? WHERE acct = ? AND told_ms IS NULL", (now_ms, acct)
    )


def untold(cur: Cursor, limit: int) -> tuple[Departure, ...]:
    """Departures of which the new homeserver has not heard yet, oldest first."""
    cur.execute(_DEPARTURES + " WHERE told_ms IS NULL AND ended_ms IS NULL ORDER BY moved_ms LIMIT ?", (limit,))
    return tuple(_departure(row) for row in cur.fetchall())


def departures_before(cur: Cursor, before_ms: int, limit: int) -> tuple[Departure, ...]:
    """Departures that are forwarded no more."""
    cur.execute(_DEPARTURES + " WHERE ended_ms IS NULL AND moved_ms < ? ORDER BY moved_ms LIMIT ?", (before_ms, limit))
    return tuple(_departure(row) for row in cur.fetchall())


def end_departure(cur: Cursor, acct: Acct, now_ms: int) -> None:
    cur.execute("UPDATE superapp_directory_departure SET ended_ms = ? WHERE acct = ?", (now_ms, acct))


# Arrivals.


def arrival(cur: Cursor, acct: Acct) -> Arrival | None:
    cur.execute(_ARRIVALS + " WHERE acct = ?", (acct,))
    row = cur.fetchone()
    return None if row is None else _arrival(row)


def arrival_of(cur: Cursor, user_id: UserId) -> Arrival | None:
    """The arrival of a local user."""
    cur.execute(
        "SELECT r.acct, r.from_user_id, r.from_acct, r.claim, r.state, r.announced_ms, r.done_ms"
        " FROM superapp_account a JOIN superapp_directory_arrival r ON r.acct = a.acct WHERE a.user_id = ?",
        (user_id,),
    )
    row = cur.fetchone()
    return None if row is None else _arrival(row)


def put_arrival(cur: Cursor, arrival: Arrival, claim: Mapping[str, Any] | None) -> None:
    """Write an arrival in place of one that is not done."""
    cur.execute(
        "INSERT INTO superapp_directory_arrival (acct, from_user_id, from_acct, claim, state, announced_ms, done_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (acct) DO UPDATE SET from_user_id = excluded.from_user_id,"
        " from_acct = excluded.from_acct, claim = excluded.claim, state = excluded.state,"
        " announced_ms = excluded.announced_ms, done_ms = excluded.done_ms",
        (
            arrival.acct,
            arrival.from_user_id,
            arrival.from_acct,
            None if claim is None else canonical(dict(claim)).decode(),
            arrival.state.value,
            arrival.announced_ms,
            arrival.done_ms,
        ),
    )


def drop_arrival(cur: Cursor, acct: Acct) -> bool:
    """Forget an arrival that is not done; whether there was one."""
    cur.execute("DELETE FROM superapp_directory_arrival WHERE acct = ? AND state <> 'done'", (acct,))
    return cur.rowcount == 1


def awaited(cur: Cursor, limit: int) -> tuple[Arrival, ...]:
    """Arrivals that the former homeserver may have carried out by now, oldest first."""
    cur.execute(_ARRIVALS + " WHERE state = 'accepted' AND claim IS NULL ORDER BY announced_ms LIMIT ?", (limit,))
    return tuple(_arrival(row) for row in cur.fetchall())


def forget_announced(cur: Cursor, before_ms: int) -> None:
    """Announcements that nobody followed up."""
    cur.execute(
        "DELETE FROM superapp_directory_arrival WHERE state <> 'done' AND claim IS NULL AND announced_ms < ?",
        (before_ms,),
    )


# Forwards.


def forward_of(cur: Cursor, user_id: UserId) -> Forward | None:
    cur.execute(
        "SELECT user_id, acct, to_user_id, to_acct, moved_ms, seen_ms FROM superapp_directory_forward"
        " WHERE user_id = ?",
        (user_id,),
    )
    row = cur.fetchone()
    if row is None:
        return None
    return Forward(
        user_id=UserId(str(row[0])),
        acct=Acct(str(row[1])),
        to_user_id=UserId(str(row[2])),
        to_acct=Acct(str(row[3])),
        moved_ms=int(row[4] or 0),
        seen_ms=int(row[5] or 0),
    )


def put_forward(cur: Cursor, forward: Forward) -> None:
    cur.execute(
        "INSERT INTO superapp_directory_forward (user_id, acct, to_user_id, to_acct, moved_ms, seen_ms)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (user_id) DO UPDATE SET acct = excluded.acct,"
        " to_user_id = excluded.to_user_id, to_acct = excluded.to_acct, moved_ms = excluded.moved_ms,"
        " seen_ms = excluded.seen_ms",
        (forward.user_id, forward.acct, forward.to_user_id, forward.to_acct, forward.moved_ms, forward.seen_ms),
    )


# Recoveries.


def is_replicated(cur: Cursor, acct: Acct, user_id: UserId) -> bool:
    """Whether a verified record of somebody's homeserver gave this user id this acct."""
    cur.execute("SELECT 1 FROM superapp_directory_replica WHERE user_id = ? AND acct = ? LIMIT 1", (user_id, acct))
    return cur.fetchone() is not None


def recovery(cur: Cursor, acct: Acct) -> Recovery | None:
    cur.execute(_RECOVERIES + " WHERE acct = ?", (acct,))
    row = cur.fetchone()
    return None if row is None else _recovery(row)


def put_recovery(cur: Cursor, found: Recovery) -> None:
    cur.execute(
        "INSERT INTO superapp_directory_recovery"
        " (acct, user_id, to_acct, to_user_id, first_seen_ms, asked_ms, contested_ms) VALUES (?, ?, ?, ?, ?, 0, NULL)"
        " ON CONFLICT (acct) DO UPDATE SET user_id = excluded.user_id, to_acct = excluded.to_acct,"
        " to_user_id = excluded.to_user_id, first_seen_ms = excluded.first_seen_ms, asked_ms = 0, contested_ms = NULL",
        (found.acct, found.user_id, found.to_acct, found.to_user_id, found.first_seen_ms),
    )


def recoveries_to_ask(cur: Cursor, asked_before_ms: int, limit: int) -> tuple[Recovery, ...]:
    cur.execute(
        _RECOVERIES + " WHERE contested_ms IS NULL AND asked_ms <= ? ORDER BY asked_ms, acct LIMIT ?",
        (asked_before_ms, limit),
    )
    return tuple(_recovery(row) for row in cur.fetchall())


def set_asked(cur: Cursor, acct: Acct, now_ms: int) -> None:
    cur.execute("UPDATE superapp_directory_recovery SET asked_ms = ? WHERE acct = ?", (now_ms, acct))


def contest(cur: Cursor, acct: Acct, now_ms: int) -> None:
    cur.execute("UPDATE superapp_directory_recovery SET contested_ms = ? WHERE acct = ?", (now_ms, acct))


def drop_recovery(cur: Cursor, acct: Acct) -> None:
    cur.execute("DELETE FROM superapp_directory_recovery WHERE acct = ?", (acct,))


def forget_contested(cur: Cursor, before_ms: int) -> None:
    cur.execute("DELETE FROM superapp_directory_recovery WHERE contested_ms < ?", (before_ms,))


def claim_of(cur: Cursor, acct: Acct) -> dict[str, Any] | None:
    """The word of a recovery key with which a local account says where it comes from."""
    cur.execute("SELECT claim FROM superapp_directory_arrival WHERE acct = ?", (acct,))
    row = cur.fetchone()
    if row is None or row[0] is None:
        return None
    content: dict[str, Any] = json.loads(str(row[0]))
    return content


def _departure(row: Row) -> Departure:
    return Departure(
        acct=Acct(str(row[0])),
        user_id=UserId(str(row[1])),
        to_user_id=UserId(str(row[2])),
        to_acct=Acct(str(row[3])),
        to_handle=Handle(str(row[4])),
        moved_ms=int(row[5] or 0),
        told_ms=None if row[6] is None else int(row[6]),
        ended_ms=None if row[7] is None else int(row[7]),
    )


def _arrival(row: Row) -> Arrival:
    return Arrival(
        acct=Acct(str(row[0])),
        from_user_id=UserId(str(row[1])),
        from_acct=None if row[2] is None else Acct(str(row[2])),
        recovering=row[3] is not None,
        state=ArrivalState(str(row[4])),
        announced_ms=int(row[5] or 0),
        done_ms=None if row[6] is None else int(row[6]),
    )


def _recovery(row: Row) -> Recovery:
    return Recovery(
        acct=Acct(str(row[0])),
        user_id=UserId(str(row[1])),
        to_user_id=UserId(str(row[2])),
        to_acct=Acct(str(row[3])),
        first_seen_ms=int(row[4] or 0),
        contested_ms=None if row[5] is None else int(row[5]),
    )
