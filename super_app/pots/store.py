"""SQL of pots."""

from collections.abc import Mapping, Sequence
from typing import Final, LiteralString

from super_app.db import Cursor, Row
from super_app.ids import Acct, EventId, PaymentId, RoomId, UserId
from super_app.ledger.model import Violation
from super_app.money import AssetCode, Money
from super_app.pots.model import Kind, Pot, PotId, PotKey, PotState, Share, ShareState, Split

_LAST_MS: Final = 2**62

_POT: LiteralString = (
    "giver_acct, pot_id, giver, kind, split, amount_minor, currency, shares, memo, room_id, event_id, only_for, secret,"
    " salt, commitment, state, told, created_ms, expires_ms"
)
_SHARE: LiteralString = "number, amount_minor, state, claimer, payment_id, paid, claimed_ms"


def add(cur: Cursor, pot: Pot, amounts_minor: Sequence[int]) -> None:
    cur.execute(
        "INSERT INTO superapp_pot (" + _POT + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            pot.giver_acct,
            pot.pot_id,
            pot.giver,
            pot.kind,
            pot.split,
            pot.money.amount_minor,
            pot.money.currency,
            pot.shares,
            pot.memo,
            pot.room_id,
            pot.event_id,
            pot.only,
            pot.secret,
            pot.salt,
            pot.commitment,
            pot.state,
            int(pot.told),
            pot.created_ms,
            pot.expires_ms,
        ),
    )
    cur.execute_many(
        "INSERT INTO superapp_pot_share (giver_acct, pot_id, number, amount_minor, state, claimer, payment_id, paid,"
        " claimed_ms) VALUES (?, ?, ?, ?, 'free', NULL, NULL, 0, NULL)",
        [(pot.giver_acct, pot.pot_id, number, amount_minor) for number, amount_minor in enumerate(amounts_minor)],
    )


def find(cur: Cursor, key: PotKey) -> Pot | None:
    cur.execute(
        "SELECT " + _POT + " FROM superapp_pot WHERE giver_acct = ? AND pot_id = ?", (key.giver_acct, key.pot_id)
    )
    row = cur.fetchone()
    return None if row is None else _pot(row)


def named(cur: Cursor, giver: UserId, pot_id: PotId) -> Pot | None:
    """A pot by the user id of its giver, as people elsewhere know it."""
    cur.execute("SELECT " + _POT + " FROM superapp_pot WHERE giver = ? AND pot_id = ?", (giver, pot_id))
    row = cur.fetchone()
    return None if row is None else _pot(row)


def lock(cur: Cursor, giver: UserId, pot_id: PotId) -> None:
    """Let no other transaction decide about this pot until this one has ended."""
    cur.execute("UPDATE superapp_pot SET told = told WHERE giver = ? AND pot_id = ?", (giver, pot_id))


def page(cur: Cursor, giver_acct: Acct, kind: Kind, before: tuple[int, str] | None, limit: int) -> tuple[Pot, ...]:
    """Pots of one giver, newest first."""
    before_ms, before_id = before or (_LAST_MS, "")
    cur.execute(
        "SELECT " + _POT + " FROM superapp_pot WHERE giver_acct = ? AND kind = ?"
        " AND (created_ms < ? OR (created_ms = ? AND pot_id < ?)) ORDER BY created_ms DESC, pot_id DESC LIMIT ?",
        (giver_acct, kind, before_ms, before_ms, before_id, limit),
    )
    return tuple(_pot(row) for row in cur.fetchall())


def count_open(cur: Cursor, giver_acct: Acct) -> int:
    cur.execute("SELECT COUNT(*) FROM superapp_pot WHERE giver_acct = ? AND state = 'open'", (giver_acct,))
    row = cur.fetchone()
    return 0 if row is None else int(row[0] or 0)


def set_event(cur: Cursor, key: PotKey, room_id: RoomId, event_id: EventId) -> None:
    cur.execute(
        "UPDATE superapp_pot SET room_id = ?, event_id = ? WHERE giver_acct = ? AND pot_id = ?",
        (room_id, event_id, key.giver_acct, key.pot_id),
    )


def close(cur: Cursor, key: PotKey, state: PotState) -> bool:
    """Compare and set: end an open pot, its free shares returned. False where it was over already."""
    cur.execute(
        "UPDATE superapp_pot SET state = ?, told = CASE WHEN event_id IS NULL OR kind = 'link' THEN 1 ELSE 0 END"
        " WHERE giver_acct = ? AND pot_id = ? AND state = 'open'",
        (state, key.giver_acct, key.pot_id),
    )
    if cur.rowcount != 1:
        return False
    cur.execute(
        "UPDATE superapp_pot_share SET state = 'returned' WHERE giver_acct = ? AND pot_id = ? AND state = 'free'",
        (key.giver_acct, key.pot_id),
    )
    return True


def over(cur: Cursor, now_ms: int, limit: int) -> tuple[Pot, ...]:
    """Open pots whose time is over, the longest overdue first."""
    cur.execute(
        "SELECT " + _POT + " FROM superapp_pot WHERE state = 'open' AND expires_ms <= ? ORDER BY expires_ms LIMIT ?",
        (now_ms, limit),
    )
    return tuple(_pot(row) for row in cur.fetchall())


def untold(cur: Cursor, limit: int) -> tuple[Pot, ...]:
    """Pots that have ended without their room having heard of it."""
    cur.execute(
        "SELECT " + _POT + " FROM superapp_pot WHERE told = 0 AND state <> 'open' ORDER BY expires_ms LIMIT ?",
        (limit,),
    )
    return tuple(_pot(row) for row in cur.fetchall())


def set_told(cur: Cursor, key: PotKey) -> None:
    cur.execute("UPDATE superapp_pot SET told = 1 WHERE giver_acct = ? AND pot_id = ?", (key.giver_acct, key.pot_id))


def next_expiry_ms(cur: Cursor) -> int | None:
    cur.execute("SELECT MIN(expires_ms) FROM superapp_pot WHERE state = 'open'")
    row = cur.fetchone()
    return None if row is None or row[0] is None else int(row[0])


# Shares.


def shares(cur: Cursor, key: PotKey) -> tuple[Share, ...]:
    cur.execute(
        "SELECT " + _SHARE + " FROM superapp_pot_share WHERE giver_acct = ? AND pot_id = ? ORDER BY number",
        (key.giver_acct, key.pot_id),
    )
    return tuple(_share(row) for row in cur.fetchall())


def share_of(cur: Cursor, key: PotKey, claimer: UserId) -> Share | None:
    cur.execute(
        "SELECT " + _SHARE + " FROM superapp_pot_share WHERE giver_acct = ? AND pot_id = ? AND claimer = ?",
        (key.giver_acct, key.pot_id, claimer),
    )
    row = cur.fetchone()
    return None if row is None else _share(row)


def next_free(cur: Cursor, key: PotKey) -> Share | None:
    cur.execute(
        "SELECT " + _SHARE + " FROM superapp_pot_share WHERE giver_acct = ? AND pot_id = ? AND state = 'free'"
        " ORDER BY number LIMIT 1",
        (key.giver_acct, key.pot_id),
    )
    row = cur.fetchone()
    return None if row is None else _share(row)


def paid_by(cur: Cursor, giver_acct: Acct, payment_id: PaymentId) -> tuple[PotId, Share] | None:
    """The share that a payment pays."""
    cur.execute(
        "SELECT pot_id, " + _SHARE + " FROM superapp_pot_share WHERE giver_acct = ? AND payment_id = ?",
        (giver_acct, payment_id),
    )
    row = cur.fetchone()
    return None if row is None else (PotId(str(row[0])), _share(row[1:]))


def put_share(cur: Cursor, key: PotKey, share: Share) -> None:
    cur.execute(
        "UPDATE superapp_pot_share SET state = ?, claimer = ?, payment_id = ?, paid = ?, claimed_ms = ?"
        " WHERE giver_acct = ? AND pot_id = ? AND number = ?",
        (
            share.state,
            share.claimer,
            share.payment_id,
            int(share.paid),
            share.claimed_ms,
            key.giver_acct,
            key.pot_id,
            share.number,
        ),
    )


def standing(cur: Cursor, key: PotKey) -> tuple[Mapping[ShareState, int], int, int]:
    """How many shares are in each state, how many of the taken ones are not paid yet, and what is free."""
    cur.execute(
        "SELECT state, COUNT(*), SUM(CASE WHEN state = 'taken' AND paid = 0 THEN 1 ELSE 0 END), SUM(amount_minor)"
        " FROM superapp_pot_share WHERE giver_acct = ? AND pot_id = ? GROUP BY state",
        (key.giver_acct, key.pot_id),
    )
    counts: dict[ShareState, int] = {}
    unpaid = free_minor = 0
    for state, count, waiting, amount_minor in cur.fetchall():
        counts[ShareState(str(state))] = int(count or 0)
        unpaid += int(waiting or 0)
        free_minor += int(amount_minor or 0) if state == ShareState.FREE else 0
    return counts, unpaid, free_minor


def is_left(cur: Cursor, key: PotKey) -> bool:
    """Whether a share is free, or taken and not paid yet."""
    cur.execute(
        "SELECT 1 FROM superapp_pot_share WHERE giver_acct = ? AND pot_id = ?"
        " AND (state = 'free' OR (state = 'taken' AND paid = 0)) LIMIT 1",
        (key.giver_acct, key.pot_id),
    )
    return cur.fetchone() is not None


def aside_minor(cur: Cursor, giver_acct: Acct, currency: AssetCode) -> int:
    """What of an account lies in its open pots."""
    cur.execute(
        "SELECT COALESCE(SUM(share.amount_minor), 0) FROM superapp_pot AS pot JOIN superapp_pot_share AS share"
        " ON share.giver_acct = pot.giver_acct AND share.pot_id = pot.pot_id AND share.state = 'free'"
        " WHERE pot.giver_acct = ? AND pot.currency = ? AND pot.state = 'open'",
        (giver_acct, currency),
    )
    row = cur.fetchone()
    return 0 if row is None else int(row[0] or 0)


def erase(cur: Cursor, before_ms: int) -> None:
    """Forget what old pots were for, and what claimed them."""
    cur.execute(
        "UPDATE superapp_pot SET memo = NULL, secret = NULL WHERE created_ms < ? AND state <> 'open'"
        " AND (memo IS NOT NULL OR secret IS NOT NULL)",
        (before_ms,),
    )


# What was claimed elsewhere.


def expect(cur: Cursor, giver: UserId, payment_id: PaymentId, claimer: UserId, pot_id: PotId, now_ms: int) -> PaymentId:
    """Remember that somebody claims; the id of the payment is that of their first try."""
    cur.execute(
        "SELECT payment_id FROM superapp_pot_expected WHERE claimer = ? AND giver = ? AND pot_id = ?",
        (claimer, giver, pot_id),
    )
    row = cur.fetchone()
    if row is not None:
        cur.execute(
            "UPDATE superapp_pot_expected SET expected_ms = ? WHERE claimer = ? AND giver = ? AND pot_id = ?",
            (now_ms, claimer, giver, pot_id),
        )
        return PaymentId(str(row[0]))
    cur.execute(
        "INSERT INTO superapp_pot_expected (giver, payment_id, claimer, pot_id, expected_ms) VALUES (?, ?, ?, ?, ?)",
        (giver, payment_id, claimer, pot_id, now_ms),
    )
    return payment_id


def forget_expected(cur: Cursor, giver: UserId, claimer: UserId, pot_id: PotId) -> None:
    """A claim has failed for good, or its payment came to nothing: the next try has another payment."""
    cur.execute(
        "DELETE FROM superapp_pot_expected WHERE claimer = ? AND giver = ? AND pot_id = ?", (claimer, giver, pot_id)
    )


def expects(cur: Cursor, giver: UserId, payment_id: PaymentId, claimer: UserId, since_ms: int) -> bool:
    cur.execute(
        "SELECT 1 FROM superapp_pot_expected WHERE giver = ? AND payment_id = ? AND claimer = ? AND expected_ms > ?",
        (giver, payment_id, claimer, since_ms),
    )
    return cur.fetchone() is not None


# Gifts in rooms.


def see(cur: Cursor, room_id: RoomId, giver: UserId, pot_id: PotId, event_id: EventId, now_ms: int) -> None:
    cur.execute(
        "INSERT INTO superapp_pot_seen (room_id, giver, pot_id, event_id, seen_ms) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (room_id, giver, pot_id) DO NOTHING",
        (room_id, giver, pot_id, event_id, now_ms),
    )


def seen_in(cur: Cursor, room_id: RoomId, since_ms: int, limit: int) -> tuple[tuple[UserId, PotId], ...]:
    """The gifts of a room, newest first."""
    cur.execute(
        "SELECT giver, pot_id FROM superapp_pot_seen WHERE room_id = ? AND seen_ms > ?"
        " ORDER BY seen_ms DESC, pot_id LIMIT ?",
        (room_id, since_ms, limit),
    )
    return tuple((UserId(str(row[0])), PotId(str(row[1]))) for row in cur.fetchall())


def forget_seen(cur: Cursor, before_ms: int) -> None:
    cur.execute("DELETE FROM superapp_pot_seen WHERE seen_ms < ?", (before_ms,))
    cur.execute("DELETE FROM superapp_pot_expected WHERE expected_ms < ?", (before_ms,))


# Checks.


def unbalanced(cur: Cursor, others: Mapping[tuple[str, str], int]) -> tuple[Violation, ...]:
    """Where what lies in open pots is not what the ledger has on the accounts of the kind ``gift``.

    ``others`` is what else lies there, by owner and currency: of parts that put money aside as pots do.
    """
    cur.execute(
        "SELECT owner, currency, SUM(minor) FROM ("
        " SELECT owner, currency, balance_minor AS minor FROM superapp_ledger_account WHERE kind = 'gift'"
        " UNION ALL"
        " SELECT pot.giver_acct, pot.currency, -share.amount_minor FROM superapp_pot AS pot"
        " JOIN superapp_pot_share AS share ON share.giver_acct = pot.giver_acct AND share.pot_id = pot.pot_id"
        " WHERE pot.state = 'open' AND share.state = 'free') AS both_sides"
        " GROUP BY owner, currency HAVING SUM(minor) <> 0"
    )
    off = {(str(row[0]), str(row[1])): int(row[2] or 0) for row in cur.fetchall()}
    for place, minor in others.items():
        off[place] = off.get(place, 0) - minor
    return tuple(
        Violation(invariant="pots", where=f"{currency} put aside by {owner}", off_by=minor)
        for (owner, currency), minor in sorted(off.items())
        if minor
    )


def wrong_totals(cur: Cursor) -> tuple[Violation, ...]:
    """Pots whose shares do not make what was put in."""
    cur.execute(
        "SELECT pot.giver_acct, pot.pot_id, COALESCE(SUM(share.amount_minor), 0) - MAX(pot.amount_minor)"
        " FROM superapp_pot AS pot LEFT JOIN superapp_pot_share AS share"
        " ON share.giver_acct = pot.giver_acct AND share.pot_id = pot.pot_id"
        " GROUP BY pot.giver_acct, pot.pot_id HAVING COALESCE(SUM(share.amount_minor), 0) <> MAX(pot.amount_minor)"
    )
    return tuple(
        Violation(invariant="pots", where=f"pot {row[1]} of {row[0]}", off_by=int(row[2] or 0))
        for row in cur.fetchall()
    )


def _pot(row: Row) -> Pot:
    return Pot(
        giver_acct=Acct(str(row[0])),
        pot_id=PotId(str(row[1])),
        giver=UserId(str(row[2])),
        kind=Kind(str(row[3])),
        split=Split(str(row[4])),
        money=Money(amount_minor=int(row[5] or 0), currency=AssetCode(str(row[6]))),
        shares=int(row[7] or 0),
        memo=None if row[8] is None else str(row[8]),
        room_id=None if row[9] is None else RoomId(str(row[9])),
        event_id=None if row[10] is None else EventId(str(row[10])),
        only=None if row[11] is None else UserId(str(row[11])),
        secret=None if row[12] is None else str(row[12]),
        salt=str(row[13]),
        commitment=str(row[14]),
        state=PotState(str(row[15])),
        told=bool(row[16]),
        created_ms=int(row[17] or 0),
        expires_ms=int(row[18] or 0),
    )


def _share(row: Row) -> Share:
    return Share(
        number=int(row[0] or 0),
        amount_minor=int(row[1] or 0),
        state=ShareState(str(row[2])),
        claimer=None if row[3] is None else UserId(str(row[3])),
        payment_id=None if row[4] is None else PaymentId(str(row[4])),
        paid=bool(row[5]),
        claimed_ms=None if row[6] is None else int(row[6]),
    )


def erase_person(cur: Cursor, acct: Acct) -> int:
    """Forget what somebody's gifts were for; how many. Who claimed what stands in the books."""
    cur.execute("UPDATE superapp_pot SET memo = NULL WHERE giver_acct = ? AND memo IS NOT NULL", (acct,))
    return cur.rowcount
