"""SQL of deposits."""

from collections.abc import Mapping
from typing import LiteralString

from super_app.db import Cursor, Row
from super_app.deposits.model import Cue, Deposit, DepositKey, DepositState
from super_app.ids import Acct, PaymentId, UserId
from super_app.money import AssetCode, Money

_COLUMNS: LiteralString = (
    "payer, payment_id, acct, recipient, amount_minor, currency, state, cue, made_ms, until_ms, tries, retry_ms"
)


def find(cur: Cursor, key: DepositKey) -> Deposit | None:
    cur.execute(
        "SELECT " + _COLUMNS + " FROM superapp_deposit WHERE payer = ? AND payment_id = ?", (key.payer, key.payment_id)
    )
    row = cur.fetchone()
    return None if row is None else _deposit(row)


def add(cur: Cursor, deposit: Deposit) -> bool:
    cur.execute(
        "INSERT INTO superapp_deposit (" + _COLUMNS + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (payer, payment_id) DO NOTHING",
        (
            deposit.payer,
            deposit.payment_id,
            deposit.acct,
            deposit.recipient,
            deposit.money.amount_minor,
            deposit.money.currency,
            deposit.state,
            deposit.cue,
            deposit.made_ms,
            deposit.until_ms,
            deposit.tries,
            deposit.retry_ms,
        ),
    )
    return cur.rowcount == 1


def put(cur: Cursor, deposit: Deposit) -> None:
    cur.execute(
        "UPDATE superapp_deposit SET state = ?, cue = ?, until_ms = ?, tries = ?, retry_ms = ?"
        " WHERE payer = ? AND payment_id = ?",
        (
            deposit.state,
            deposit.cue,
            deposit.until_ms,
            deposit.tries,
            deposit.retry_ms,
            deposit.payer,
            deposit.payment_id,
        ),
    )


def of(cur: Cursor, acct: Acct, limit: int) -> tuple[Deposit, ...]:
    """Those that were put down for a person, the newest first."""
    cur.execute(
        "SELECT " + _COLUMNS + " FROM superapp_deposit WHERE acct = ? AND state <> 'expected'"
        " ORDER BY made_ms DESC, payment_id LIMIT ?",
        (acct, limit),
    )
    return tuple(map(_deposit, cur.fetchall()))


def from_payer(cur: Cursor, acct: Acct, payer: UserId) -> tuple[Deposit, ...]:
    """All of one payer for a person."""
    cur.execute(
        "SELECT " + _COLUMNS + " FROM superapp_deposit WHERE acct = ? AND payer = ? AND state <> 'expected'",
        (acct, payer),
    )
    return tuple(map(_deposit, cur.fetchall()))


def live(cur: Cursor, after: tuple[int, str], limit: int) -> tuple[Deposit, ...]:
    """Those that something may become of, the oldest first, after a time and an id."""
    made_ms, payment_id = after
    cur.execute(
        "SELECT " + _COLUMNS + " FROM superapp_deposit WHERE state IN ('expected', 'open', 'due')"
        " AND (made_ms > ? OR (made_ms = ? AND payment_id > ?)) ORDER BY made_ms, payment_id LIMIT ?",
        (made_ms, made_ms, payment_id, limit),
    )
    return tuple(map(_deposit, cur.fetchall()))


def forget(cur: Cursor, key: DepositKey) -> None:
    """One that was announced and never came."""
    cur.execute(
        "DELETE FROM superapp_deposit WHERE payer = ? AND payment_id = ? AND state = 'expected'",
        (key.payer, key.payment_id),
    )


def erase_person(cur: Cursor, acct: Acct, user_id: UserId) -> int:
    """Forget deposits that are over, of a person and for them; how many. The payments themselves are in the books."""
    cur.execute(
        "DELETE FROM superapp_deposit WHERE state IN ('returned', 'kept') AND (acct = ? OR payer = ?)", (acct, user_id)
    )
    return cur.rowcount


def all_aside(cur: Cursor) -> Mapping[tuple[str, str], int]:
    """What lies aside as deposits, by owner and currency."""
    cur.execute(
        "SELECT acct, currency, SUM(amount_minor) FROM superapp_deposit WHERE state IN ('open', 'due')"
        " GROUP BY acct, currency"
    )
    return {(str(row[0]), str(row[1])): int(row[2] or 0) for row in cur.fetchall()}


def _deposit(row: Row) -> Deposit:
    return Deposit(
        payer=UserId(str(row[0])),
        payment_id=PaymentId(str(row[1])),
        acct=Acct(str(row[2])),
        recipient=UserId(str(row[3])),
        money=Money(amount_minor=int(row[4] or 0), currency=AssetCode(str(row[5]))),
        state=DepositState(str(row[6])),
        cue=None if row[7] is None else Cue(str(row[7])),
        made_ms=int(row[8] or 0),
        until_ms=int(row[9] or 0),
        tries=int(row[10] or 0),
        retry_ms=None if row[11] is None else int(row[11]),
    )
