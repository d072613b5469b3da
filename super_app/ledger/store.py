"""SQL of the ledger. The tables repeat every money rule as a constraint (migrations/0001)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from super_app.db import Cursor, Engine, Row
from super_app.ids import Acct
from super_app.ledger.model import (
    AccountKey,
    AccountKind,
    Balance,
    Cause,
    Entry,
    Hold,
    HoldId,
    HoldState,
    Transfer,
    TransferId,
    Violation,
)
from super_app.money import AssetCode, Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The end of the journal. ``epoch`` rises when another writer takes over."""

    epoch: int
    seq: int
    entry_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    account_id: int
    balance_minor: int


def lock(cur: Cursor) -> Head:
    """Take the lease row until the transaction ends; who writes does this first. Others wait for the commit."""
    if cur.engine is Engine.POSTGRESQL:
        cur.execute("SELECT epoch, seq, hash FROM superapp_ledger_head WHERE singleton = 1 FOR UPDATE")
    else:
        # SQLite has no row locks. A write as the first statement takes the database's write lock before anything is
        # read, which is what BEGIN IMMEDIATE does, and is also right inside a transaction that began so.
        cur.execute("UPDATE superapp_ledger_head SET epoch = epoch WHERE singleton = 1")
        cur.execute("SELECT epoch, seq, hash FROM superapp_ledger_head WHERE singleton = 1")
    row = _one(cur)
    return Head(epoch=_int(row[0]), seq=_int(row[1]), entry_hash=str(row[2]))


def entries_by_id(cur: Cursor, transfer_ids: Iterable[TransferId]) -> dict[TransferId, Entry]:
    """Those of the ids that are taken."""
    rows = cur.execute_values(
        "WITH wanted (transfer_id) AS (VALUES ?)"
        " SELECT entry.seq, entry.transfer_id, entry.currency, debit.owner, entry.debit_kind, entry.debit_after_minor,"
        " credit.owner, entry.credit_kind, entry.credit_after_minor, entry.amount_minor, entry.cause, entry.reference,"
        " entry.posted_ms, entry.hash"
        " FROM superapp_ledger_entry AS entry"
        " JOIN wanted ON wanted.transfer_id = entry.transfer_id"
        " JOIN superapp_ledger_account AS debit ON debit.account_id = entry.debit_id"
        " JOIN superapp_ledger_account AS credit ON credit.account_id = entry.credit_id",
        [(transfer_id,) for transfer_id in transfer_ids],
    )
    found = [_entry(row) for row in rows]
    return {entry.transfer.transfer_id: entry for entry in found}


def accounts(cur: Cursor, keys: Iterable[AccountKey]) -> dict[AccountKey, Account]:
    """Those of the accounts that exist."""
    rows = cur.execute_values(
        "WITH wanted (owner, currency, kind) AS (VALUES ?)"
        " SELECT account.owner, account.currency, account.kind, account.account_id, account.balance_minor"
        " FROM superapp_ledger_account AS account JOIN wanted ON wanted.owner = account.owner"
        " AND wanted.currency = account.currency AND wanted.kind = account.kind",
        [(key.owner, key.currency, key.kind) for key in keys],
    )
    return {_key(row): Account(account_id=_int(row[3]), balance_minor=_int(row[4])) for row in rows}


def open_accounts(cur: Cursor, keys: Iterable[AccountKey]) -> dict[AccountKey, int]:
    """Make accounts, empty; gives their ids."""
    rows = cur.execute_values(
        "INSERT INTO superapp_ledger_account (owner, currency, kind) VALUES ?"
        " RETURNING owner, currency, kind, account_id",
        [(key.owner, key.currency, key.kind) for key in keys],
    )
    return {_key(row): _int(row[3]) for row in rows}


def append(cur: Cursor, entries: Sequence[Entry], ids: Mapping[AccountKey, int]) -> None:
    """Write entries, in order, from the head on. The database folds them into balances and head, and checks both."""
    cur.execute_values(
        "INSERT INTO superapp_ledger_entry (seq, transfer_id, currency, debit_id, debit_kind, debit_after_minor,"
        " credit_id, credit_kind, credit_after_minor, amount_minor, cause, reference, posted_ms, hash) VALUES ?",
        [
            (
                entry.seq,
                entry.transfer.transfer_id,
                entry.transfer.debit.currency,
                ids[entry.transfer.debit],
                entry.transfer.debit.kind,
                entry.debit_after_minor,
                ids[entry.transfer.credit],
                entry.transfer.credit.kind,
                entry.credit_after_minor,
                entry.transfer.amount_minor,
                entry.transfer.cause,
                entry.transfer.reference,
                entry.posted_ms,
                entry.entry_hash,
            )
            for entry in entries
        ],
    )


def history(cur: Cursor, key: AccountKey, before: int | None, limit: int) -> tuple[Entry, ...]:
    """Entries of one account, newest first, those below ``before`` (a seq) if it is given."""
    # One branch for each leg, so that both read the end of their own index whatever the account's age.
    cur.execute(
        "WITH owned AS ("
        " SELECT account_id FROM superapp_ledger_account WHERE owner = ? AND currency = ? AND kind = ?"
        "), page AS ("
        " SELECT * FROM (SELECT * FROM superapp_ledger_entry WHERE debit_id = (SELECT account_id FROM owned)"
        " AND seq < ? ORDER BY seq DESC LIMIT ?) AS debits"
        " UNION ALL"
        " SELECT * FROM (SELECT * FROM superapp_ledger_entry WHERE credit_id = (SELECT account_id FROM owned)"
        " AND seq < ? ORDER BY seq DESC LIMIT ?) AS credits"
        ")"
        " SELECT page.seq, page.transfer_id, page.currency, debit.owner, page.debit_kind, page.debit_after_minor,"
        " credit.owner, page.credit_kind, page.credit_after_minor, page.amount_minor, page.cause, page.reference,"
        " page.posted_ms, page.hash"
        " FROM page"
        " JOIN superapp_ledger_account AS debit ON debit.account_id = page.debit_id"
        " JOIN superapp_ledger_account AS credit ON credit.account_id = page.credit_id"
        " ORDER BY page.seq DESC LIMIT ?",
        (key.owner, key.currency, key.kind, *(2 * (_MAX_SEQ if before is None else before, limit)), limit),
    )
    return tuple(_entry(row) for row in cur.fetchall())


def chain(cur: Cursor, after_seq: int, limit: int) -> tuple[Entry, ...]:
    """Entries in the order of the journal, those above ``after_seq``."""
    cur.execute(
        "SELECT entry.seq, entry.transfer_id, entry.currency, debit.owner, entry.debit_kind, entry.debit_after_minor,"
        " credit.owner, entry.credit_kind, entry.credit_after_minor, entry.amount_minor, entry.cause, entry.reference,"
        " entry.posted_ms, entry.hash"
        " FROM superapp_ledger_entry AS entry"
        " JOIN superapp_ledger_account AS debit ON debit.account_id = entry.debit_id"
        " JOIN superapp_ledger_account AS credit ON credit.account_id = entry.credit_id"
        " WHERE entry.seq > ? ORDER BY entry.seq LIMIT ?",
        (after_seq, limit),
    )
    return tuple(_entry(row) for row in cur.fetchall())


def head(cur: Cursor) -> Head:
    """The end of the journal, without taking the lease."""
    cur.execute("SELECT epoch, seq, hash FROM superapp_ledger_head WHERE singleton = 1")
    row = _one(cur)
    return Head(epoch=_int(row[0]), seq=_int(row[1]), entry_hash=str(row[2]))


def wallet(cur: Cursor, owner: Acct) -> tuple[Balance, ...]:
    cur.execute(
        "SELECT currency, SUM(CASE WHEN kind = 'available' THEN balance_minor ELSE 0 END),"
        " SUM(CASE WHEN kind = 'held' THEN balance_minor ELSE 0 END)"
        " FROM superapp_ledger_account WHERE owner = ? AND kind IN ('available', 'held')"
        " GROUP BY currency ORDER BY currency",
        (owner,),
    )
    return tuple(
        Balance(currency=AssetCode(str(row[0])), available_minor=_int(row[1]), held_minor=_int(row[2]))
        for row in cur.fetchall()
    )


# Holds.


def hold(cur: Cursor, hold_id: HoldId) -> Hold | None:
    cur.execute(
        "SELECT hold_id, owner, currency, amount_minor, state FROM superapp_ledger_hold WHERE hold_id = ?", (hold_id,)
    )
    row = cur.fetchone()
    if row is None:
        return None
    return Hold(
        hold_id=HoldId(str(row[0])),
        owner=Acct(str(row[1])),
        money=Money(currency=AssetCode(str(row[2])), amount_minor=_int(row[3])),
        state=HoldState(str(row[4])),
    )


def add_hold(cur: Cursor, placed: Hold, placed_seq: int) -> None:
    cur.execute(
        "INSERT INTO superapp_ledger_hold (hold_id, owner, currency, amount_minor, state, placed_seq)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (placed.hold_id, placed.owner, placed.money.currency, placed.money.amount_minor, placed.state, placed_seq),
    )


def decide_hold(cur: Cursor, hold_id: HoldId, state: HoldState, decided_seq: int) -> bool:
    """Compare and set: whether it was open."""
    cur.execute(
        "UPDATE superapp_ledger_hold SET state = ?, decided_seq = ? WHERE hold_id = ? AND state = 'open'",
        (state, decided_seq, hold_id),
    )
    return cur.rowcount == 1


def add_act(cur: Cursor, transfer_id: TransferId, operator: str) -> None:
    cur.execute("INSERT INTO superapp_ledger_act (transfer_id, operator) VALUES (?, ?)", (transfer_id, operator))


# Checks. Each is one statement, so that it sees one state of the books while others write.


def unbalanced_currencies(cur: Cursor) -> tuple[Violation, ...]:
    """Currencies whose accounts do not sum to zero."""
    cur.execute(
        "SELECT currency, SUM(balance_minor) FROM superapp_ledger_account"
        " GROUP BY currency HAVING SUM(balance_minor) <> 0 ORDER BY currency"
    )
    return tuple(Violation(invariant="I1", where=str(row[0]), off_by=_int(row[1])) for row in cur.fetchall())


def wrong_signs(cur: Cursor) -> tuple[Violation, ...]:
    """Accounts whose balance has a sign that their kind may not have."""
    rows = cur.execute_values(
        "WITH wanted (kind, sign) AS (VALUES ?)"
        " SELECT account.owner, account.currency, account.kind, account.balance_minor"
        " FROM superapp_ledger_account AS account JOIN wanted ON wanted.kind = account.kind"
        " WHERE account.balance_minor * wanted.sign < 0 ORDER BY account.owner, account.currency, account.kind",
        [(kind, kind.sign) for kind in AccountKind],
    )
    return tuple(Violation(invariant="I2", where=_where(row), off_by=_int(row[3])) for row in rows)


def unmatched_holds(cur: Cursor) -> tuple[Violation, ...]:
    """Owners whose held balance is not the sum of their open holds, in either direction."""
    cur.execute(
        "SELECT owner, currency, 'held', SUM(minor) FROM ("
        " SELECT owner, currency, balance_minor AS minor FROM superapp_ledger_account WHERE kind = 'held'"
        " UNION ALL"
        " SELECT owner, currency, -amount_minor FROM superapp_ledger_hold WHERE state = 'open'"
        ") AS sides GROUP BY owner, currency HAVING SUM(minor) <> 0 ORDER BY owner, currency"
    )
    return tuple(Violation(invariant="I2", where=_where(row), off_by=_int(row[3])) for row in cur.fetchall())


def misfolded_accounts(cur: Cursor) -> tuple[Violation, ...]:
    """Accounts whose balance is not the sum of their entries. Reads the whole journal."""
    cur.execute(
        "SELECT account.owner, account.currency, account.kind, SUM(legs.minor) FROM ("
        " SELECT account_id, balance_minor AS minor FROM superapp_ledger_account"
        " UNION ALL"
        " SELECT debit_id, SUM(amount_minor) FROM superapp_ledger_entry GROUP BY debit_id"
        " UNION ALL"
        " SELECT credit_id, -SUM(amount_minor) FROM superapp_ledger_entry GROUP BY credit_id"
        ") AS legs JOIN superapp_ledger_account AS account ON account.account_id = legs.account_id"
        " GROUP BY account.owner, account.currency, account.kind HAVING SUM(legs.minor) <> 0"
        " ORDER BY account.owner, account.currency, account.kind"
    )
    return tuple(Violation(invariant="fold", where=_where(row), off_by=_int(row[3])) for row in cur.fetchall())


_MAX_SEQ = 2**63 - 1


def _entry(row: Row) -> Entry:
    currency = AssetCode(str(row[2]))
    return Entry(
        seq=_int(row[0]),
        transfer=Transfer(
            transfer_id=TransferId(str(row[1])),
            debit=AccountKey(owner=str(row[3]), currency=currency, kind=AccountKind(str(row[4]))),
            credit=AccountKey(owner=str(row[6]), currency=currency, kind=AccountKind(str(row[7]))),
            amount_minor=_int(row[9]),
            cause=Cause(str(row[10])),
            reference=str(row[11]),
        ),
        debit_after_minor=_int(row[5]),
        credit_after_minor=_int(row[8]),
        posted_ms=_int(row[12]),
        entry_hash=str(row[13]),
    )


def _key(row: Row) -> AccountKey:
    return AccountKey(owner=str(row[0]), currency=AssetCode(str(row[1])), kind=AccountKind(str(row[2])))


def _where(row: Row) -> str:
    return f"{row[0]} {row[1]} {row[2]}"


def _one(cur: Cursor) -> Row:
    row = cur.fetchone()
    if row is None:
        raise RuntimeError("the ledger has no head; its migrations have not run")
    return row


def _int(value: object) -> int:
    # SUM of BIGINTs is NUMERIC in PostgreSQL, which the driver gives as Decimal.
    return int(value)  # type: ignore[call-overload, no-any-return]
