"""SQL of how names are guarded: the pace of claims, reservations, and the log of what operators did."""

from super_app.db import Cursor, Row
from super_app.directory.custody_model import Act, Deed, Reservation
from super_app.directory.model import Name
from super_app.ids import Acct, UserId

# The pace of claims.


def note_claim(cur: Cursor, acct: Acct, address: str, now_ms: int) -> None:
    cur.execute(
        "INSERT INTO superapp_directory_claim (acct, address, taken_ms) VALUES (?, ?, ?)", (acct, address, now_ms)
    )


def nth_claim_of_account(cur: Cursor, acct: Acct, since_ms: int, nth: int) -> int | None:
    """When the ``nth`` newest of an account's claims after ``since_ms`` was; None if there were fewer."""
    cur.execute(
        "SELECT taken_ms FROM superapp_directory_claim WHERE acct = ? AND taken_ms > ?"
        " ORDER BY taken_ms DESC LIMIT 1 OFFSET ?",
        (acct, since_ms, nth - 1),
    )
    return _time(cur.fetchone())


def nth_claim_from_address(cur: Cursor, address: str, since_ms: int, nth: int) -> int | None:
    cur.execute(
        "SELECT taken_ms FROM superapp_directory_claim WHERE address = ? AND taken_ms > ?"
        " ORDER BY taken_ms DESC LIMIT 1 OFFSET ?",
        (address, since_ms, nth - 1),
    )
    return _time(cur.fetchone())


def forget_claims(cur: Cursor, before_ms: int) -> None:
    cur.execute("DELETE FROM superapp_directory_claim WHERE taken_ms <= ?", (before_ms,))


# Reservations. Each has its look in the table of skeletons, which is what makes it safe from rivals.


def reserve(cur: Cursor, reservation: Reservation, skeleton: str) -> None:
    cur.execute(
        "INSERT INTO superapp_directory_reservation (name, skeleton, acct, until_ms) VALUES (?, ?, ?, ?)",
        (reservation.name, skeleton, reservation.acct, reservation.until_ms),
    )


def reservation_of(cur: Cursor, acct: Acct) -> Reservation | None:
    cur.execute("SELECT name, acct, until_ms FROM superapp_directory_reservation WHERE acct = ?", (acct,))
    return _reservation(cur.fetchone())


def reservation_with_skeleton(cur: Cursor, skeleton: str) -> Reservation | None:
    cur.execute("SELECT name, acct, until_ms FROM superapp_directory_reservation WHERE skeleton = ?", (skeleton,))
    return _reservation(cur.fetchone())


def reservation_named(cur: Cursor, name: Name) -> Reservation | None:
    cur.execute("SELECT name, acct, until_ms FROM superapp_directory_reservation WHERE name = ?", (name,))
    return _reservation(cur.fetchone())


def drop_reservation(cur: Cursor, reservation: Reservation) -> bool:
    """Whether it was still there as it is known; whoever drops it decides what becomes of its look."""
    cur.execute(
        "DELETE FROM superapp_directory_reservation WHERE name = ? AND acct = ? AND until_ms = ?",
        (reservation.name, reservation.acct, reservation.until_ms),
    )
    return cur.rowcount == 1


def ended_reservations(cur: Cursor, now_ms: int) -> tuple[Reservation, ...]:
    cur.execute(
        "SELECT name, acct, until_ms FROM superapp_directory_reservation WHERE until_ms <= ? ORDER BY name", (now_ms,)
    )
    return tuple(found for found in map(_reservation, cur.fetchall()) if found is not None)


# The log. The database itself refuses to change or delete a row.


def append(cur: Cursor, deed: Deed) -> None:
    # The counter's row serves as the lock: numbers have no gaps and appear in the order of commits.
    cur.execute("UPDATE superapp_directory_state SET acts = acts + 1")
    cur.execute(
        "INSERT INTO superapp_directory_act (seq, at_ms, operator, act, name, from_acct, to_acct, reason)"
        " SELECT acts, ?, ?, ?, ?, ?, ?, ? FROM superapp_directory_state WHERE singleton = 1",
        (deed.at_ms, deed.operator, deed.act.value, deed.name, deed.from_acct, deed.to_acct, deed.reason),
    )


def deeds(cur: Cursor, before: int | None, limit: int) -> tuple[Deed, ...]:
    """The newest entries below a number, newest first."""
    cur.execute(_DEEDS + " WHERE d.seq < ? ORDER BY d.seq DESC LIMIT ?", (_MOST if before is None else before, limit))
    return tuple(_deed(row) for row in cur.fetchall())


def deeds_about(cur: Cursor, name: Name, limit: int) -> tuple[Deed, ...]:
    """What was done to a name, newest first."""
    cur.execute(_DEEDS + " WHERE d.name = ? ORDER BY d.seq DESC LIMIT ?", (name, limit))
    return tuple(_deed(row) for row in cur.fetchall())


_MOST = 2**53
_DEEDS = (
    "SELECT d.seq, d.at_ms, d.operator, d.act, d.name, d.from_acct, d.to_acct, d.reason, f.user_id, t.user_id"
    " FROM superapp_directory_act d LEFT JOIN superapp_account f ON f.acct = d.from_acct"
    " LEFT JOIN superapp_account t ON t.acct = d.to_acct"
)


def _deed(row: Row) -> Deed:
    return Deed(
        seq=int(row[0] or 0),
        at_ms=int(row[1] or 0),
        operator=UserId(str(row[2])),
        act=Act(str(row[3])),
        name=Name(str(row[4])),
        from_acct=None if row[5] is None else Acct(str(row[5])),
        to_acct=None if row[6] is None else Acct(str(row[6])),
        reason=str(row[7]),
        from_user_id=None if row[8] is None else UserId(str(row[8])),
        to_user_id=None if row[9] is None else UserId(str(row[9])),
    )


def _reservation(row: Row | None) -> Reservation | None:
    if row is None:
        return None
    return Reservation(name=Name(str(row[0])), acct=Acct(str(row[1])), until_ms=int(row[2] or 0))


def _time(row: Row | None) -> int | None:
    return None if row is None else int(row[0] or 0)
