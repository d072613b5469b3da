"""SQL of the ledger. The tables repeat every money rule as a constraint (migrations/0001)."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, LiteralString

from super_app.db import Cursor, Engine, Row, SqlValue
from super_app.db.arrays import array_literal
from super_app.ids import Acct
from super_app.ledger.model import (
    Account,
    AccountKey,
    AccountKind,
    Act,
    Archive,
    Archived,
    Balance,
    Cause,
    Entry,
    Head,
    Hold,
    HoldId,
    HoldState,
    Stretch,
    Transfer,
    TransferId,
    TrialBalance,
    TrialLine,
    Violation,
)
from super_app.money import MAX_AMOUNT_MINOR, Asset, AssetCode, Money

_ENTRY: Final[LiteralString] = (
    " entry.seq, entry.transfer_id, debit.owner, debit.currency, debit.kind, entry.debit_prev_seq,"
    " entry.debit_after_minor, credit.owner, credit.currency, credit.kind, entry.credit_prev_seq,"
    " entry.credit_after_minor, entry.amount_minor, entry.cause, entry.reference, entry.posted_ms, entry.hash "
)
_WITH_ACCOUNTS: Final[LiteralString] = (
    " JOIN superapp_ledger_account AS debit ON debit.account_id = entry.debit_id"
    " JOIN superapp_ledger_account AS credit ON credit.account_id = entry.credit_id "
)


class Appended(StrEnum):
    """What came of ``append``. Unless it is ``DONE`` nothing was written."""

    DONE = "appended"
    HEAD_MOVED = "moved"
    ID_TAKEN = "taken"
    FROZEN = "frozen"


def lock(cur: Cursor) -> Head:
    """Take the lease row until the transaction ends; who writes does this first. Others wait for the commit."""
    take(cur)
    if cur.engine is Engine.SQLITE:
        cur.execute("SELECT epoch, seq, hash FROM superapp_ledger_head WHERE singleton = 1")
    row = _one(cur)
    return Head(epoch=_int(row[0]), seq=_int(row[1]), entry_hash=str(row[2]))


def take(cur: Cursor) -> None:
    """``lock`` for who does not need to know the head."""
    if cur.engine is Engine.POSTGRESQL:
        # A process that stops between two statements, or whose machine is gone, would keep the lock, and with it
        # everybody's money; the server ends such a transaction.
        cur.execute(
            "SELECT epoch, seq, hash, set_config('idle_in_transaction_session_timeout', '5s', TRUE)"
            " FROM superapp_ledger_head WHERE singleton = 1 FOR UPDATE"
        )
    else:
        # SQLite has no row locks. A write as the first statement takes the database's write lock before anything is
        # read, which is what BEGIN IMMEDIATE does, and is also right inside a transaction that began so.
        cur.execute("UPDATE superapp_ledger_head SET epoch = epoch WHERE singleton = 1")


def books(cur: Cursor, keys: Iterable[AccountKey]) -> tuple[Head, dict[AccountKey, Account]]:
    """``lock``, and those of the accounts that exist, as of that head."""
    # Two statements, since what is read while a lock is waited for is from before it; the first waits for the second.
    take(cur)
    rows = cur.execute_values(
        "WITH wanted (owner, currency, kind) AS (VALUES ?)"
        " SELECT account.owner, account.currency, account.kind, account.account_id, account.balance_minor,"
        " account.last_seq, head.epoch, head.seq, head.hash FROM superapp_ledger_head AS head LEFT JOIN ("
        " wanted JOIN superapp_ledger_account AS account ON account.owner = wanted.owner"
        " AND account.currency = wanted.currency AND account.kind = wanted.kind"
        ") ON head.singleton = 1 WHERE head.singleton = 1",
        [(key.owner, key.currency, key.kind) for key in keys],
    )
    epoch, seq, entry_hash = rows[0][6:]
    found = {
        _key(row): Account(account_id=_int(row[3]), balance_minor=_int(row[4]), last_seq=_int(row[5]))
        for row in rows
        if row[3] is not None
    }
    return Head(epoch=_int(epoch), seq=_int(seq), entry_hash=str(entry_hash)), found


def entries_by_id(cur: Cursor, transfer_ids: Iterable[TransferId]) -> dict[TransferId, Entry]:
    """Those of the ids that are taken."""
    rows = cur.execute_values(
        "WITH wanted (transfer_id) AS (VALUES ?)"
        " SELECT" + _ENTRY + "FROM wanted"
        " JOIN superapp_ledger_entry AS entry ON entry.transfer_id = wanted.transfer_id" + _WITH_ACCOUNTS,
        [(transfer_id,) for transfer_id in transfer_ids],
    )
    found = [_entry(row) for row in rows]
    return {entry.transfer.transfer_id: entry for entry in found}


def taken(cur: Cursor, transfer_ids: Collection[TransferId]) -> dict[TransferId, Entry | Archived]:
    """What stands under those of the ids that are taken."""
    return {**_archived_by_id(cur, transfer_ids), **entries_by_id(cur, transfer_ids)}


def _archived_by_id(cur: Cursor, transfer_ids: Iterable[TransferId]) -> dict[TransferId, Archived]:
    """Those of the ids that archived entries have."""
    rows = cur.execute_values(
        "WITH wanted (transfer_id) AS (VALUES ?)"
        " SELECT older.transfer_id, older.seq FROM wanted"
        " JOIN superapp_ledger_archived AS older ON older.transfer_id = wanted.transfer_id",
        [(transfer_id,) for transfer_id in transfer_ids],
    )
    found = [Archived(transfer_id=TransferId(str(row[0])), seq=_int(row[1])) for row in rows]
    return {each.transfer_id: each for each in found}


def frozen_among(cur: Cursor, owners: Iterable[str]) -> frozenset[str]:
    rows = cur.execute_values(
        "WITH wanted (owner) AS (VALUES ?)"
        " SELECT frozen.owner FROM wanted JOIN superapp_ledger_frozen AS frozen ON frozen.owner = wanted.owner",
        [(owner,) for owner in owners],
    )
    return frozenset(str(row[0]) for row in rows)


def accounts(cur: Cursor, keys: Iterable[AccountKey]) -> dict[AccountKey, Account]:
    """Those of the accounts that exist."""
    rows = cur.execute_values(
        "WITH wanted (owner, currency, kind) AS (VALUES ?)"
        " SELECT account.owner, account.currency, account.kind, account.account_id, account.balance_minor,"
        " account.last_seq FROM wanted JOIN superapp_ledger_account AS account ON account.owner = wanted.owner"
        " AND account.currency = wanted.currency AND account.kind = wanted.kind",
        [(key.owner, key.currency, key.kind) for key in keys],
    )
    return {
        _key(row): Account(account_id=_int(row[3]), balance_minor=_int(row[4]), last_seq=_int(row[5])) for row in rows
    }


def open_accounts(cur: Cursor, keys: Iterable[AccountKey]) -> dict[AccountKey, Account]:
    """Make accounts, empty."""
    rows = cur.execute_values(
        "INSERT INTO superapp_ledger_account (owner, currency, kind) VALUES ?"
        " RETURNING owner, currency, kind, account_id",
        [(key.owner, key.currency, key.kind) for key in keys],
    )
    return {_key(row): Account(account_id=_int(row[3]), balance_minor=0, last_seq=0) for row in rows}


Written = Sequence[Sequence[SqlValue]]
"""Entries as ``append`` hands them to the database: rows for SQLite, columns for PostgreSQL."""


def written(engine: Engine, entries: Sequence[Entry], accounts: Mapping[AccountKey, Account]) -> Written:
    """Spell entries for the database. Apart from ``append``, since it can be done before a transaction begins."""
    rows = [
        (
            entry.seq,
            entry.transfer.transfer_id,
            accounts[entry.transfer.debit].account_id,
            entry.debit_prev_seq,
            entry.debit_after_minor,
            accounts[entry.transfer.credit].account_id,
            entry.credit_prev_seq,
            entry.credit_after_minor,
            entry.transfer.amount_minor,
            entry.transfer.cause,
            entry.transfer.reference,
            entry.posted_ms,
            entry.entry_hash,
        )
        for entry in entries
    ]
    if engine is Engine.SQLITE:
        return rows
    # Array literals: the quickest way through the driver and the parser.
    return [[array_literal(column) for column in zip(*rows, strict=True)]]


def append_statement(expected: Head, entries: Written) -> tuple[LiteralString, Sequence[SqlValue]]:
    """``append`` as the one statement that it is on PostgreSQL, for who has no cursor; it gives one row."""
    return (
        "SELECT superapp_ledger_append(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (expected.epoch, expected.seq, expected.entry_hash, *entries[0]),
    )


def appended(row: Row) -> Appended:
    """What the row of ``append_statement`` says."""
    return Appended(str(row[0]))


def append(cur: Cursor, expected: Head, entries: Written) -> Appended:
    """Write entries that follow ``expected``, if that is the head and their ids are free.

    Takes the lease, whatever the outcome. The database folds the entries into head and accounts, and checks both.
    """
    if cur.engine is Engine.POSTGRESQL:
        cur.execute(*append_statement(expected, entries))
        return appended(_one(cur))
    if lock(cur) != expected:
        return Appended.HEAD_MOVED
    ids = json.dumps([row[1] for row in entries])
    payments = [(row[2], row[5]) for row in entries if Cause(str(row[9])).is_payment]
    cur.execute(
        "SELECT 'taken' FROM json_each(?) AS wanted"
        " JOIN superapp_ledger_entry AS entry ON entry.transfer_id = wanted.value"
        " UNION ALL SELECT 'taken' FROM json_each(?) AS wanted"
        " JOIN superapp_ledger_archived AS older ON older.transfer_id = wanted.value"
        " UNION ALL SELECT 'frozen' FROM json_each(?) AS wanted"
        " JOIN superapp_ledger_account AS party ON party.account_id = wanted.value"
        " JOIN superapp_ledger_frozen AS frozen ON frozen.owner = party.owner LIMIT 1",
        (ids, ids, json.dumps([party for parties in payments for party in parties])),
    )
    hindered = cur.fetchone()
    if hindered is not None:
        return Appended(str(hindered[0]))
    cur.execute_many(
        "INSERT INTO superapp_ledger_entry (seq, transfer_id, debit_id, debit_prev_seq, debit_after_minor, credit_id,"
        " credit_prev_seq, credit_after_minor, amount_minor, cause, reference, posted_ms, hash)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        entries,
    )
    return Appended.DONE


def history(cur: Cursor, key: AccountKey, before: int | None, limit: int) -> tuple[Entry, ...]:
    """Entries of one account, newest first, along its chain: from its newest, or from the one before ``before``.

    ``before`` must be the seq of an entry of that account; for another one there is no page.
    """
    cur.execute(
        "WITH RECURSIVE owned (account_id, last_seq) AS ("
        " SELECT account_id, last_seq FROM superapp_ledger_account WHERE owner = ? AND currency = ? AND kind = ?"
        "), page (place, seq) AS ("
        " SELECT 1, CASE WHEN ? = 0 THEN owned.last_seq"
        " WHEN since.debit_id = owned.account_id THEN since.debit_prev_seq"
        " WHEN since.credit_id = owned.account_id THEN since.credit_prev_seq ELSE 0 END"
        " FROM owned LEFT JOIN superapp_ledger_entry AS since ON since.seq = ?"
        " UNION ALL"
        " SELECT page.place + 1, CASE WHEN entry.debit_id = owned.account_id THEN entry.debit_prev_seq"
        " ELSE entry.credit_prev_seq END"
        " FROM page JOIN superapp_ledger_entry AS entry ON entry.seq = page.seq CROSS JOIN owned"
        " WHERE page.place < ?"
        ") SELECT"
        + _ENTRY
        + "FROM page JOIN superapp_ledger_entry AS entry ON entry.seq = page.seq"
        + _WITH_ACCOUNTS
        + "ORDER BY page.place",
        (key.owner, key.currency, key.kind, before or 0, before or 0, limit),
    )
    return tuple(_entry(row) for row in cur.fetchall())


def chain(cur: Cursor, after_seq: int, limit: int) -> tuple[Entry, ...]:
    """Entries in the order of the journal, those above ``after_seq``."""
    cur.execute(
        "SELECT"
        + _ENTRY
        + "FROM superapp_ledger_entry AS entry"
        + _WITH_ACCOUNTS
        + "WHERE entry.seq > ? ORDER BY entry.seq LIMIT ?",
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
        "SELECT hold_id, owner, currency, amount_minor, state, posted_minor FROM superapp_ledger_hold"
        " WHERE hold_id = ?",
        (hold_id,),
    )
    row = cur.fetchone()
    if row is None:
        return None
    return Hold(
        hold_id=HoldId(str(row[0])),
        owner=Acct(str(row[1])),
        money=Money(currency=AssetCode(str(row[2])), amount_minor=_int(row[3])),
        state=HoldState(str(row[4])),
        posted_minor=_int(row[5]),
    )


def add_hold(cur: Cursor, placed: Hold, placed_seq: int) -> None:
    cur.execute(
        "INSERT INTO superapp_ledger_hold (hold_id, owner, currency, amount_minor, state, placed_seq)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (placed.hold_id, placed.owner, placed.money.currency, placed.money.amount_minor, placed.state, placed_seq),
    )


def decide_hold(cur: Cursor, decided: Hold, decided_seq: int) -> bool:
    """Compare and set: whether it was open."""
    cur.execute(
        "UPDATE superapp_ledger_hold SET state = ?, decided_seq = ?, posted_minor = ?"
        " WHERE hold_id = ? AND state = 'open'",
        (decided.state, decided_seq, decided.posted_minor, decided.hold_id),
    )
    return cur.rowcount == 1


# What operators do.


def add_act(
    cur: Cursor, deed: str, *, operator: str, reason: str, owner: str, transfer_id: TransferId | None, acted_ms: int
) -> None:
    cur.execute(
        "INSERT INTO superapp_ledger_act (deed, operator, reason, owner, transfer_id, acted_ms)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (deed, operator, reason, owner, transfer_id, acted_ms),
    )


def acts(cur: Cursor, before: int | None, limit: int) -> tuple[Act, ...]:
    """Newest first, those below ``before``."""
    cur.execute(
        "SELECT act_id, deed, operator, reason, owner, transfer_id, acted_ms FROM superapp_ledger_act"
        " WHERE act_id < ? ORDER BY act_id DESC LIMIT ?",
        (MAX_AMOUNT_MINOR if before is None else before, limit),
    )
    return tuple(
        Act(
            act_id=_int(row[0]),
            deed=str(row[1]),
            operator=str(row[2]),
            reason=str(row[3]),
            owner=str(row[4]),
            transfer_id=None if row[5] is None else TransferId(str(row[5])),
            acted_ms=_int(row[6]),
        )
        for row in cur.fetchall()
    )


def freeze(cur: Cursor, owner: Acct, since_ms: int) -> bool:
    """Whether it was free."""
    cur.execute(
        "INSERT INTO superapp_ledger_frozen (owner, since_ms) VALUES (?, ?) ON CONFLICT (owner) DO NOTHING",
        (owner, since_ms),
    )
    return cur.rowcount == 1


def unfreeze(cur: Cursor, owner: Acct) -> bool:
    """Whether it was frozen."""
    cur.execute("DELETE FROM superapp_ledger_frozen WHERE owner = ?", (owner,))
    return cur.rowcount == 1


def frozen_since_ms(cur: Cursor, owner: Acct) -> int | None:
    cur.execute("SELECT since_ms FROM superapp_ledger_frozen WHERE owner = ?", (owner,))
    row = cur.fetchone()
    return None if row is None else _int(row[0])


def entry(cur: Cursor, seq: int) -> Entry | None:
    cur.execute(
        "SELECT" + _ENTRY + "FROM superapp_ledger_entry AS entry" + _WITH_ACCOUNTS + "WHERE entry.seq = ?", (seq,)
    )
    row = cur.fetchone()
    return None if row is None else _entry(row)


def newest_archive(cur: Cursor) -> Archive | None:
    cur.execute(
        "SELECT after_seq, before_hash, through_seq, hash, posted_ms, file_name, file_digest, archived_ms"
        " FROM superapp_ledger_archive ORDER BY through_seq DESC LIMIT 1"
    )
    row = cur.fetchone()
    return None if row is None else archive_of(row)


def archive_of(row: Row) -> Archive:
    return Archive(
        stretch=Stretch(
            after_seq=_int(row[0]),
            before_hash=str(row[1]),
            through_seq=_int(row[2]),
            entry_hash=str(row[3]),
            posted_ms=_int(row[4]),
        ),
        file_name=str(row[5]),
        file_digest=str(row[6]),
        archived_ms=_int(row[7]),
    )


def archived_through(cur: Cursor) -> int:
    """The last entry that is in an archive; 0 if none is."""
    cur.execute("SELECT COALESCE(MAX(through_seq), 0) FROM superapp_ledger_archive")
    return _int(_one(cur)[0])


def entries_at(cur: Cursor, seqs: Iterable[int]) -> dict[int, Entry]:
    """Those of them that stand."""
    rows = cur.execute_values(
        "WITH wanted (seq) AS (VALUES ?)"
        " SELECT" + _ENTRY + "FROM wanted"
        " JOIN superapp_ledger_entry AS entry ON entry.seq = wanted.seq" + _WITH_ACCOUNTS,
        [(seq,) for seq in seqs],
    )
    found = [_entry(row) for row in rows]
    return {each.seq: each for each in found}


def corrected_minor(cur: Cursor, seq: int) -> int:
    """How much of an entry was taken back."""
    cur.execute("SELECT COALESCE(SUM(amount_minor), 0) FROM superapp_ledger_correction WHERE corrects_seq = ?", (seq,))
    return _int(_one(cur)[0])


def add_correction(cur: Cursor, transfer_id: TransferId, corrects_seq: int, amount_minor: int) -> None:
    cur.execute(
        "INSERT INTO superapp_ledger_correction (transfer_id, corrects_seq, amount_minor) VALUES (?, ?, ?)",
        (transfer_id, corrects_seq, amount_minor),
    )


def scales(cur: Cursor) -> dict[AssetCode, int]:
    """The scale of each asset that was ever configured."""
    cur.execute("SELECT code, scale FROM superapp_ledger_asset ORDER BY code")
    return {AssetCode(str(row[0])): _int(row[1]) for row in cur.fetchall()}


def add_assets(cur: Cursor, assets: Iterable[Asset]) -> None:
    cur.execute_values(
        "INSERT INTO superapp_ledger_asset (code, scale) VALUES ? ON CONFLICT (code) DO NOTHING",
        [(asset.code, asset.scale) for asset in assets],
    )


def trial_balance(cur: Cursor) -> TrialBalance:
    """In one statement, so that it is one state of the books. People's accounts are one line for each kind."""
    cur.execute(
        "SELECT head.seq, head.hash, line.currency, line.kind, line.owner, line.accounts, line.minor"
        " FROM superapp_ledger_head AS head LEFT JOIN ("
        " SELECT currency, kind,"
        " CASE WHEN kind IN ('available', 'held', 'gift', 'claim') THEN '' ELSE owner END AS owner,"
        " COUNT(*) AS accounts, SUM(balance_minor) AS minor FROM superapp_ledger_account"
        " GROUP BY currency, kind, CASE WHEN kind IN ('available', 'held', 'gift', 'claim') THEN '' ELSE owner END"
        ") AS line ON 1 = 1 ORDER BY line.currency, line.kind, line.owner"
    )
    rows = cur.fetchall()
    return TrialBalance(
        seq=_int(rows[0][0]),
        entry_hash=str(rows[0][1]),
        lines=tuple(
            TrialLine(
                currency=AssetCode(str(row[2])),
                kind=AccountKind(str(row[3])),
                owner=str(row[4]),
                accounts=_int(row[5]),
                balance_minor=_int(row[6]),
            )
            for row in rows
            if row[2] is not None
        ),
    )


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
    """Accounts whose balance is not that of the newest snapshot and the sum of the entries since."""
    cur.execute("SELECT COALESCE(MAX(seq), 0) FROM superapp_ledger_snapshot")
    since = _int(_one(cur)[0])
    cur.execute(
        "SELECT account.owner, account.currency, account.kind, SUM(legs.minor) FROM ("
        " SELECT each.account_id, each.balance_minor - COALESCE((SELECT base.balance_minor"
        " FROM superapp_ledger_snapshot_balance AS base WHERE base.account_id = each.account_id AND base.seq <= ?"
        " ORDER BY base.seq DESC LIMIT 1), 0) AS minor FROM superapp_ledger_account AS each"
        " UNION ALL"
        " SELECT debit_id, SUM(amount_minor) FROM superapp_ledger_entry WHERE seq > ? GROUP BY debit_id"
        " UNION ALL"
        " SELECT credit_id, -SUM(amount_minor) FROM superapp_ledger_entry WHERE seq > ? GROUP BY credit_id"
        ") AS legs JOIN superapp_ledger_account AS account ON account.account_id = legs.account_id"
        " GROUP BY account.owner, account.currency, account.kind HAVING SUM(legs.minor) <> 0"
        " ORDER BY account.owner, account.currency, account.kind",
        (since, since, since),
    )
    return tuple(Violation(invariant="fold", where=_where(row), off_by=_int(row[3])) for row in cur.fetchall())


def lacking_durability(cur: Cursor) -> str | None:
    """The setting of the database under which a power cut can undo a commit; None if there is none."""
    if cur.engine is Engine.SQLITE:
        # https://www.sqlite.org/pragma.html#pragma_synchronous: 2 is FULL, 3 is EXTRA; below, WAL loses commits.
        cur.execute("PRAGMA synchronous")
        return None if _int(_one(cur)[0]) >= 2 else "synchronous"
    cur.execute(
        "SELECT name FROM pg_settings"
        " WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND setting = 'off' ORDER BY name"
    )
    row = cur.fetchone()
    return None if row is None else str(row[0])


def _entry(row: Row) -> Entry:
    return Entry(
        seq=_int(row[0]),
        transfer=Transfer(
            transfer_id=TransferId(str(row[1])),
            debit=AccountKey(owner=str(row[2]), currency=AssetCode(str(row[3])), kind=AccountKind(str(row[4]))),
            credit=AccountKey(owner=str(row[7]), currency=AssetCode(str(row[8])), kind=AccountKind(str(row[9]))),
            amount_minor=_int(row[12]),
            cause=Cause(str(row[13])),
            reference=str(row[14]),
        ),
        debit_prev_seq=_int(row[5]),
        debit_after_minor=_int(row[6]),
        credit_prev_seq=_int(row[10]),
        credit_after_minor=_int(row[11]),
        posted_ms=_int(row[15]),
        entry_hash=str(row[16]),
    )


def _key(row: Row) -> AccountKey:
    return AccountKey(owner=str(row[0]), currency=AssetCode(str(row[1])), kind=AccountKind(str(row[2])))


def _where(row: Row) -> str:
    return f"{row[0]} {row[1]} {row[2]}"


def _one(cur: Cursor) -> Row:
    row = cur.fetchone()
    if row is None:
        raise RuntimeError("a statement that always gives a row gave none; have the ledger's migrations run?")
    return row


def _int(value: object) -> int:
    # SUM of BIGINTs is NUMERIC in PostgreSQL, which the driver gives as Decimal.
    return int(value)  # type: ignore[call-overload, no-any-return]
