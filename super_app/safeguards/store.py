"""SQL of the safeguards, and the sums of payments that limits are held against."""

from collections.abc import Mapping

from super_app.db import Cursor
from super_app.ids import Acct, UserId
from super_app.money import AssetCode
from super_app.safeguards.model import Direction, Pin, Safeguard


def find(cur: Cursor, acct: Acct) -> Safeguard:
    cur.execute(
        "SELECT tier, pin_hash, pin_set_ms, pin_tries, pin_locked_until_ms, pin_new_payee, locked_ms, careful_until_ms"
        " FROM superapp_safeguard WHERE acct = ?",
        (acct,),
    )
    row = cur.fetchone()
    if row is None:
        return Safeguard(acct=acct)
    pin = None
    if row[1] is not None:
        pin = Pin(
            hash=str(row[1]),
            set_ms=int(row[2] or 0),
            tries=int(row[3] or 0),
            locked_until_ms=None if row[4] is None else int(row[4]),
            above=_above(cur, acct),
            new_payee=bool(row[5]),
        )
    return Safeguard(
        acct=acct,
        tier=None if row[0] is None else str(row[0]),
        pin=pin,
        locked_ms=None if row[6] is None else int(row[6]),
        careful_until_ms=None if row[7] is None else int(row[7]),
    )


def put(cur: Cursor, safeguard: Safeguard) -> None:
    pin = safeguard.pin
    cur.execute(
        "INSERT INTO superapp_safeguard (acct, tier, pin_hash, pin_set_ms, pin_tries, pin_locked_until_ms,"
        " pin_new_payee, locked_ms, careful_until_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (acct) DO UPDATE SET tier = excluded.tier, pin_hash = excluded.pin_hash,"
        " pin_set_ms = excluded.pin_set_ms, pin_tries = excluded.pin_tries,"
        " pin_locked_until_ms = excluded.pin_locked_until_ms, pin_new_payee = excluded.pin_new_payee,"
        " locked_ms = excluded.locked_ms, careful_until_ms = excluded.careful_until_ms",
        (
            safeguard.acct,
            safeguard.tier,
            None if pin is None else pin.hash,
            None if pin is None else pin.set_ms,
            0 if pin is None else pin.tries,
            None if pin is None else pin.locked_until_ms,
            int(pin is not None and pin.new_payee),
            safeguard.locked_ms,
            safeguard.careful_until_ms,
        ),
    )
    cur.execute("DELETE FROM superapp_safeguard_pin_above WHERE acct = ?", (safeguard.acct,))
    if pin is not None:
        cur.execute_many(
            "INSERT INTO superapp_safeguard_pin_above (acct, currency, amount_minor) VALUES (?, ?, ?)",
            [(safeguard.acct, currency, above_minor) for currency, above_minor in pin.above.items()],
        )


def country(cur: Cursor, acct: Acct) -> str | None:
    cur.execute("SELECT country FROM superapp_safeguard_country WHERE acct = ?", (acct,))
    row = cur.fetchone()
    return None if row is None else str(row[0])


def put_country(cur: Cursor, acct: Acct, code: str | None) -> None:
    cur.execute("DELETE FROM superapp_safeguard_country WHERE acct = ?", (acct,))
    if code is not None:
        cur.execute("INSERT INTO superapp_safeguard_country (acct, country) VALUES (?, ?)", (acct, code))


def moved_minor(cur: Cursor, acct: Acct, direction: Direction, currency: AssetCode, since_ms: int) -> int:
    """What an account has sent or received since a time: what was ordered and has not come to nothing.

    Refunds count in neither direction: they only take back.
    """
    match direction:
        case Direction.SENT:
            cur.execute(
                "SELECT COALESCE(SUM(amount_minor), 0) FROM superapp_payment"
                " WHERE payer_acct = ? AND created_ms > ? AND currency = ? AND refund_of IS NULL"
                " AND state IN ('held', 'awaiting_acceptance', 'committed', 'completed')",
                (acct, since_ms, currency),
            )
        case Direction.RECEIVED:
            cur.execute(
                "SELECT COALESCE(SUM(amount_minor), 0) FROM superapp_payment"
                " WHERE payee_acct = ? AND created_ms > ? AND currency = ? AND refund_of IS NULL"
                " AND state IN ('held', 'awaiting_acceptance', 'committed', 'completed')",
                (acct, since_ms, currency),
            )
    row = cur.fetchone()
    # SUM of BIGINTs is NUMERIC in PostgreSQL, which the driver gives as Decimal.
    return 0 if row is None else int(row[0] or 0)


def has_paid(cur: Cursor, payer: Acct, payee: UserId) -> bool:
    """Whether a payment of this person to that one was completed before."""
    cur.execute(
        "SELECT 1 FROM superapp_payment WHERE payer_acct = ? AND payee_user_id = ? AND state = 'completed' LIMIT 1",
        (payer, payee),
    )
    return cur.fetchone() is not None


def _above(cur: Cursor, acct: Acct) -> Mapping[AssetCode, int]:
    cur.execute("SELECT currency, amount_minor FROM superapp_safeguard_pin_above WHERE acct = ?", (acct,))
    return {AssetCode(str(row[0])): int(row[1] or 0) for row in cur.fetchall()}


def erase_person(cur: Cursor, acct: Acct) -> int:
    """Forget somebody's PIN, passkeys, thresholds, tier and country; how much."""
    erased = 0
    for statement in (
        "DELETE FROM superapp_safeguard_challenge WHERE acct = ?",
        "DELETE FROM superapp_safeguard_passkey WHERE acct = ?",
        "DELETE FROM superapp_safeguard_pin_above WHERE acct = ?",
        "DELETE FROM superapp_safeguard WHERE acct = ?",
        "DELETE FROM superapp_safeguard_country WHERE acct = ?",
    ):
        cur.execute(statement, (acct,))
        erased += cur.rowcount
    return erased
