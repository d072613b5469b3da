"""SQL of people who left: since when, and what lies in their accounts."""

from super_app.accounts import store as accounts
from super_app.db import Cursor
from super_app.ids import Acct, UserId
from super_app.ledger.model import AccountKind
from super_app.money import AssetCode
from super_app.payments.leavers import Leaver, LeftMoney


def note(cur: Cursor, acct: Acct, left_ms: int) -> None:
    """Again it changes nothing."""
    cur.execute(
        "INSERT INTO superapp_leaver (acct, left_ms) VALUES (?, ?) ON CONFLICT (acct) DO NOTHING", (acct, left_ms)
    )


def forget(cur: Cursor, acct: Acct) -> None:
    cur.execute("DELETE FROM superapp_leaver WHERE acct = ?", (acct,))


def left_ms(cur: Cursor, acct: Acct) -> int | None:
    cur.execute("SELECT left_ms FROM superapp_leaver WHERE acct = ?", (acct,))
    row = cur.fetchone()
    return None if row is None else int(str(row[0]))


def due(cur: Cursor, left_until_ms: int, limit: int) -> tuple[Acct, ...]:
    """Who left until then and has money that nothing holds back, longest gone first. Frozen accounts are no rule's."""
    cur.execute(
        "SELECT gone.acct FROM superapp_leaver AS gone WHERE gone.left_ms <= ? AND EXISTS ("
        " SELECT 1 FROM superapp_ledger_account AS has"
        " WHERE has.owner = gone.acct AND has.kind = 'available' AND has.balance_minor > 0"
        ") AND NOT EXISTS (SELECT 1 FROM superapp_ledger_frozen AS frozen WHERE frozen.owner = gone.acct)"
        " ORDER BY gone.left_ms, gone.acct LIMIT ?",
        (left_until_ms, limit),
    )
    return tuple(Acct(str(row[0])) for row in cur.fetchall())


def money_of(cur: Cursor, acct: Acct) -> tuple[LeftMoney, ...]:
    """What is in their accounts, but for empty ones."""
    cur.execute(
        "SELECT currency, kind, balance_minor FROM superapp_ledger_account"
        " WHERE owner = ? AND balance_minor <> 0 ORDER BY currency, kind",
        (acct,),
    )
    return tuple(
        LeftMoney(currency=AssetCode(str(row[0])), kind=AccountKind(str(row[1])), amount_minor=int(str(row[2])))
        for row in cur.fetchall()
    )


def page(cur: Cursor, after: tuple[int, Acct] | None, limit: int) -> tuple[Leaver, ...]:
    """Those who left and have money of any kind here, longest gone first."""
    since_ms, acct = after if after is not None else (-1, Acct(""))
    cur.execute(
        "SELECT gone.acct, gone.left_ms FROM superapp_leaver AS gone"
        " WHERE (gone.left_ms > ? OR (gone.left_ms = ? AND gone.acct > ?)) AND EXISTS ("
        " SELECT 1 FROM superapp_ledger_account AS has WHERE has.owner = gone.acct AND has.balance_minor <> 0"
        ") ORDER BY gone.left_ms, gone.acct LIMIT ?",
        (since_ms, since_ms, acct, limit),
    )
    found = [(Acct(str(row[0])), int(str(row[1]))) for row in cur.fetchall()]
    return tuple(
        Leaver(acct=acct, user_id=_name(cur, acct), left_ms=left, money=money_of(cur, acct)) for acct, left in found
    )


def sums(cur: Cursor) -> dict[AssetCode, int]:
    """By currency, all that lies in accounts of people who left."""
    cur.execute(
        "SELECT has.currency, SUM(has.balance_minor) FROM superapp_leaver AS gone"
        " JOIN superapp_ledger_account AS has ON has.owner = gone.acct GROUP BY has.currency"
    )
    return {AssetCode(str(row[0])): int(str(row[1])) for row in cur.fetchall()}


def _name(cur: Cursor, acct: Acct) -> UserId:
    account = accounts.by_acct(cur, acct)
    if account is None:
        raise RuntimeError("an account that left is gone from the accounts, though its row refers to them")
    return account.user_id
