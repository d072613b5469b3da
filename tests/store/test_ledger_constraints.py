"""The database itself refuses what the ledger's rules forbid, whoever asks it."""

import re
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final, LiteralString

import psycopg2
import pytest
from engines import _SqliteCursor as SqliteCursor

from super_app.db import Cursor, Engine, SqlValue, Transaction, migrations
from super_app.errors import Refused
from super_app.ids import Acct
from super_app.ledger import service, store
from super_app.ledger.model import (
    AccountKey,
    AccountKind,
    Cause,
    HoldId,
    Posted,
    Transfer,
    TransferId,
    Violation,
    available,
)
from super_app.money import AssetCode, Money

pytestmark = pytest.mark.packages("super_app.ledger")

EUR, PTS = AssetCode("EUR"), AssetCode("PTS")
ALICE, BOB = Acct("alice"), Acct("bob")
HASH: Final = "h" * 43
DATABASE_SAYS_NO: Final = (sqlite3.DatabaseError, psycopg2.DatabaseError)
COLUMNS: Final = (
    "seq",
    "transfer_id",
    "debit_id",
    "debit_prev_seq",
    "debit_after_minor",
    "credit_id",
    "credit_prev_seq",
    "credit_after_minor",
    "amount_minor",
    "cause",
    "reference",
    "posted_ms",
    "hash",
)


@pytest.fixture
def books(transaction: Transaction) -> Transaction:
    """alice has 60 EUR and 10 PTS, bob 40 EUR; four entries, one open hold of 5."""

    def fill(cur: Cursor) -> None:
        service.issue(cur, ALICE, Money(amount_minor=100, currency=EUR), reference="r1", operator="@a:hs", now_ms=1)
        service.issue(cur, ALICE, Money(amount_minor=10, currency=PTS), reference="r2", operator="@a:hs", now_ms=1)
        service.issue(cur, BOB, Money(amount_minor=10, currency=PTS), reference="r3", operator="@a:hs", now_ms=1)
        order = Transfer(
            transfer_id=TransferId("t1"),
            debit=available(ALICE, EUR),
            credit=available(BOB, EUR),
            amount_minor=40,
            cause=Cause.PAYMENT,
            reference="p1",
        )
        assert isinstance(service.transfer(cur, order, 2), Posted)
        service.place_hold(cur, HoldId("h1"), ALICE, Money(amount_minor=5, currency=EUR), 3)

    transaction(fill)
    return transaction


def accounts(cur: Cursor) -> dict[str, SqlValue]:
    """What a correct next entry from alice to bob, of 1 EUR, must say."""
    head = store.head(cur)
    keys = [available(ALICE, EUR), available(BOB, EUR)]
    found = store.accounts(cur, keys)
    alice, bob = found[keys[0]], found[keys[1]]
    return {
        "seq": head.seq + 1,
        "transfer_id": "t2",
        "debit_id": alice.account_id,
        "debit_prev_seq": alice.last_seq,
        "debit_after_minor": alice.balance_minor - 1,
        "credit_id": bob.account_id,
        "credit_prev_seq": bob.last_seq,
        "credit_after_minor": bob.balance_minor + 1,
        "amount_minor": 1,
        "cause": "payment",
        "reference": "p2",
        "posted_ms": 5,
        "hash": HASH,
    }


def execute(cur: Cursor, statement: LiteralString) -> None:
    cur.execute(statement)


def write(cur: Cursor, *rows: dict[str, SqlValue]) -> None:
    cur.execute_values(
        "INSERT INTO superapp_ledger_entry (seq, transfer_id, debit_id, debit_prev_seq, debit_after_minor, credit_id,"
        " credit_prev_seq, credit_after_minor, amount_minor, cause, reference, posted_ms, hash) VALUES ?",
        [tuple(row[column] for column in COLUMNS) for row in rows],
    )


def test_a_correct_entry_moves_balances_and_head_by_itself(books: Transaction) -> None:
    books(lambda cur: write(cur, accounts(cur)))
    assert books(lambda cur: service.balance(cur, available(ALICE, EUR))) == 54
    assert books(lambda cur: service.balance(cur, available(BOB, EUR))) == 41
    assert books(store.head).entry_hash == HASH


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount_minor": 0},
        {"amount_minor": -1},
        {"amount_minor": 2**53},
        {"amount_minor": 2},  # not by what the balances change
        {"debit_after_minor": 55},
        {"credit_after_minor": 40},
        {"debit_prev_seq": 0},
        {"credit_prev_seq": 1},
        {"credit_prev_seq": 99},
        {"seq": 5},
        {"seq": 7},
        {"transfer_id": "t1"},
        {"transfer_id": ""},
        {"hash": "short"},
        {"posted_ms": -1},
        {"debit_id": 999},
        {"credit_id": 999},
        {"hash": None},
        {"reference": None},
    ],
    ids=str,
)
def test_an_entry_that_breaks_a_rule_is_refused(books: Transaction, wrong: dict[str, SqlValue]) -> None:
    with pytest.raises(DATABASE_SAYS_NO):
        books(lambda cur: write(cur, accounts(cur) | wrong))
    assert books(store.head).seq == 5
    assert books(service.violations) == ()


def test_an_entry_with_one_account_on_both_sides_is_refused(books: Transaction) -> None:
    def to_oneself(cur: Cursor) -> None:
        right = accounts(cur)
        write(cur, right | {"credit_id": right["debit_id"], "credit_prev_seq": right["debit_prev_seq"]})

    with pytest.raises(DATABASE_SAYS_NO):
        books(to_oneself)


def test_an_entry_between_two_currencies_is_refused(books: Transaction) -> None:
    def exchange(cur: Cursor) -> None:
        points = store.accounts(cur, [available(BOB, PTS)])[available(BOB, PTS)]
        row: dict[str, SqlValue] = {
            "credit_id": points.account_id,
            "credit_prev_seq": points.last_seq,
            "credit_after_minor": 11,
        }
        write(cur, accounts(cur) | row)

    with pytest.raises(DATABASE_SAYS_NO, match="does not fit"):
        books(exchange)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        # Right at the end, and wrong on the way.
        ({"credit_after_minor": 43}, {}),
        ({"debit_after_minor": 53}, {}),
        # Two wrongs that cancel each other out.
        ({"credit_prev_seq": 3}, {"credit_prev_seq": 6}),
        # The second builds on what was there before the first.
        ({}, {"credit_prev_seq": 4}),
    ],
    ids=["wrong credit", "wrong debit", "wrong links", "a link past the first"],
)
def test_each_step_of_a_statement_must_follow_from_the_one_before(
    books: Transaction, first: dict[str, SqlValue], second: dict[str, SqlValue]
) -> None:
    def two(cur: Cursor) -> list[dict[str, SqlValue]]:
        one = accounts(cur)
        seq, alice, bob = (int(str(one[name])) for name in ("seq", "debit_after_minor", "credit_after_minor"))
        other = one | {"seq": seq + 1, "transfer_id": "t3", "hash": "i" * 43}
        other |= {"debit_prev_seq": seq, "debit_after_minor": alice - 1}
        other |= {"credit_prev_seq": seq, "credit_after_minor": bob + 1}
        return [one, other]

    def wrong(cur: Cursor) -> None:
        one, other = two(cur)
        write(cur, one | first, other | second)

    with pytest.raises(DATABASE_SAYS_NO):
        books(wrong)
    books(lambda cur: write(cur, *two(cur)))


def test_an_overdraft_is_refused_even_if_the_same_statement_cures_it(books: Transaction) -> None:
    """alice pays 56 of 55 and gets it back in the next row: each entry alone must stand."""

    def there_and_back(cur: Cursor) -> None:
        there = accounts(cur) | {"amount_minor": 56, "debit_after_minor": -1, "credit_after_minor": 96}
        back = there | {
            "seq": 7,
            "transfer_id": "t3",
            "debit_id": there["credit_id"],
            "debit_prev_seq": 6,
            "debit_after_minor": 40,
            "credit_id": there["debit_id"],
            "credit_prev_seq": 6,
            "credit_after_minor": 55,
        }
        write(cur, there, back)

    with pytest.raises(DATABASE_SAYS_NO):
        books(there_and_back)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE superapp_ledger_entry SET amount_minor = 1 WHERE seq = 4",
        "UPDATE superapp_ledger_entry SET reference = 'other'",
        "DELETE FROM superapp_ledger_entry WHERE seq = 5",
        "DELETE FROM superapp_ledger_account WHERE owner = 'bob'",
        "DELETE FROM superapp_ledger_head",
        "DELETE FROM superapp_ledger_hold",
        "UPDATE superapp_ledger_account SET balance_minor = balance_minor + 1 WHERE owner = 'alice'",
        "UPDATE superapp_ledger_account SET owner = 'mallory' WHERE owner = 'alice'",
        "UPDATE superapp_ledger_account SET last_seq = 0",
        "UPDATE superapp_ledger_head SET seq = 4",
        "UPDATE superapp_ledger_head SET hash = 'other'",
        "UPDATE superapp_ledger_head SET epoch = 0",
        "INSERT INTO superapp_ledger_head (singleton, epoch, seq, hash) VALUES (2, 1, 0, '')",
        "INSERT INTO superapp_ledger_account (owner, currency, kind, balance_minor) VALUES ('m', 'EUR', 'held', 5)",
        "INSERT INTO superapp_ledger_account (owner, currency, kind) VALUES ('m', 'EUR', 'pocket')",
        "INSERT INTO superapp_ledger_account (owner, currency, kind) VALUES ('alice', 'EUR', 'available')",
        "INSERT INTO superapp_ledger_account (owner, currency, kind) VALUES ('', 'EUR', 'available')",
        "UPDATE superapp_ledger_hold SET amount_minor = 1",
        "UPDATE superapp_ledger_hold SET owner = 'bob'",
        "UPDATE superapp_ledger_hold SET state = 'lost', decided_seq = 5",
        "UPDATE superapp_ledger_hold SET state = 'posted'",  # without the entry that posted it
        "UPDATE superapp_ledger_hold SET state = 'posted', decided_seq = 99",
        "UPDATE superapp_ledger_hold SET state = 'posted', decided_seq = 5, posted_minor = 6",  # of 5
        "UPDATE superapp_ledger_hold SET state = 'posted', decided_seq = 5",  # nothing
        "UPDATE superapp_ledger_hold SET state = 'voided', decided_seq = 5, posted_minor = 5",
        "INSERT INTO superapp_ledger_hold VALUES ('h2', 'bob', 'EUR', 0, 'open', 5, NULL, 0)",
        "INSERT INTO superapp_ledger_hold VALUES ('h2', 'bob', 'EUR', 1, 'open', 99, NULL, 0)",
        "INSERT INTO superapp_ledger_hold VALUES ('h2', 'bob', 'EUR', 1, 'voided', 5, 5, 0)",
        "INSERT INTO superapp_ledger_act VALUES (99, 'issue', '@a:hs', 'r', 'bob', 'none', 1)",
        "INSERT INTO superapp_ledger_act VALUES (99, 'issue', '', 'r', 'bob', 't1', 1)",
        "INSERT INTO superapp_ledger_act VALUES (99, 'issue', '@a:hs', 'r', 'alice', 'issue:r1', 1)",
        "UPDATE superapp_ledger_act SET operator = '@other:hs'",
        "DELETE FROM superapp_ledger_act",
        "INSERT INTO superapp_ledger_correction VALUES ('none', 4, 1)",
        "INSERT INTO superapp_ledger_correction VALUES ('t1', 4, 40)",  # which is a payment
        "INSERT INTO superapp_ledger_asset VALUES ('XXX', 9)",
    ],
)
def test_what_stands_cannot_be_changed_behind_the_ledgers_back(books: Transaction, statement: LiteralString) -> None:
    with pytest.raises(DATABASE_SAYS_NO):
        books(lambda cur: cur.execute(statement))
    assert books(service.violations) == ()


def test_a_hold_that_was_decided_stays_so(books: Transaction) -> None:
    books(lambda cur: service.void_hold(cur, HoldId("h1"), 4))
    with pytest.raises(DATABASE_SAYS_NO, match="decided once"):
        books(lambda cur: cur.execute("UPDATE superapp_ledger_hold SET state = 'open', decided_seq = NULL"))


def test_the_ledger_cannot_be_emptied_in_postgresql(books: Transaction, engine: Engine) -> None:
    if engine is Engine.SQLITE:
        pytest.skip("SQLite knows no TRUNCATE")
    tables = ("entry", "account", "head", "hold", "act", "correction", "asset", "snapshot", "archive", "archived")
    for table in (*tables, "snapshot_balance"):
        with pytest.raises(DATABASE_SAYS_NO):
            books(partial(execute, statement=f"TRUNCATE superapp_ledger_{table} CASCADE"))


def test_an_entry_cannot_be_replaced_in_sqlite(books: Transaction, engine: Engine) -> None:
    if engine is Engine.POSTGRESQL:
        pytest.skip("PostgreSQL knows no INSERT OR REPLACE")

    def replace(cur: Cursor) -> None:
        row = accounts(cur) | {"transfer_id": "t1"}
        cur.execute(
            "INSERT OR REPLACE INTO superapp_ledger_entry (seq, transfer_id, debit_id, debit_prev_seq,"
            " debit_after_minor, credit_id, credit_prev_seq, credit_after_minor, amount_minor, cause, reference,"
            " posted_ms, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [row[column] for column in COLUMNS],
        )

    with pytest.raises(DATABASE_SAYS_NO, match="append-only"):
        books(replace)


@pytest.mark.parametrize("kind", AccountKind)
def test_the_database_knows_each_kind_of_account_with_the_same_sign(
    transaction: Transaction, kind: AccountKind
) -> None:
    def sign(cur: Cursor) -> SqlValue:
        store.open_accounts(cur, [AccountKey(owner="x", currency=EUR, kind=kind)])
        cur.execute("SELECT sign FROM superapp_ledger_account WHERE owner = 'x'")
        row = cur.fetchone()
        assert row is not None
        return row[0]

    assert transaction(sign) == kind.sign


# What the checks find when somebody has gone around all that.

TRIGGERS_OFF: Final[dict[Engine, tuple[LiteralString, ...]]] = {
    Engine.POSTGRESQL: (
        "ALTER TABLE superapp_ledger_account DISABLE TRIGGER USER",
        "ALTER TABLE superapp_ledger_entry DISABLE TRIGGER USER",
        "ALTER TABLE superapp_ledger_hold DISABLE TRIGGER USER",
    ),
    Engine.SQLITE: (
        "DROP TRIGGER superapp_ledger_account_fold_only",
        "DROP TRIGGER superapp_ledger_entry_no_update",
        "DROP TRIGGER superapp_ledger_entry_leaves_to_archive",
        "DROP TRIGGER superapp_ledger_hold_decided_once",
        "DROP TRIGGER superapp_ledger_hold_decided_by_entry",
    ),
}


@pytest.fixture
def unguarded(books: Transaction, engine: Engine) -> Transaction:
    for statement in TRIGGERS_OFF[engine]:
        books(partial(execute, statement=statement))
    return books


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        (
            "UPDATE superapp_ledger_account SET balance_minor = 1000 WHERE balance_minor = 55",
            {
                Violation(invariant="I1", where="EUR", off_by=945),
                Violation(invariant="fold", where="alice EUR available", off_by=945),
            },
        ),
        (
            "UPDATE superapp_ledger_entry SET amount_minor = 41 WHERE seq = 4",
            {
                Violation(invariant="chain", where="entry 4", off_by=1),
                Violation(invariant="fold", where="alice EUR available", off_by=1),
                Violation(invariant="fold", where="bob EUR available", off_by=-1),
            },
        ),
        (
            "UPDATE superapp_ledger_entry SET reference = 'another' WHERE seq = 2",
            {Violation(invariant="chain", where="entry 2", off_by=1)},
        ),
        (
            "UPDATE superapp_ledger_hold SET amount_minor = 4",
            {Violation(invariant="I2", where="alice EUR held", off_by=1)},
        ),
        (
            "UPDATE superapp_ledger_hold SET owner = 'bob'",
            {
                Violation(invariant="I2", where="alice EUR held", off_by=5),
                Violation(invariant="I2", where="bob EUR held", off_by=-5),
            },
        ),
    ],
)
def test_the_checks_find_what_was_changed_by_force(
    unguarded: Transaction, tampering: LiteralString, found: set[Violation]
) -> None:
    unguarded(lambda cur: cur.execute(tampering))
    assert set(unguarded(service.violations)) == found


def test_the_checks_find_an_entry_that_is_gone(unguarded: Transaction) -> None:
    unguarded(lambda cur: cur.execute("DELETE FROM superapp_ledger_entry WHERE seq = 4"))
    assert set(unguarded(service.violations)) == {
        Violation(invariant="chain", where="entry 4", off_by=1),
        Violation(invariant="fold", where="alice EUR available", off_by=-40),
        Violation(invariant="fold", where="bob EUR available", off_by=40),
    }


def test_an_old_change_is_found_by_verifying_the_chain_page_by_page(unguarded: Transaction) -> None:
    unguarded(lambda cur: cur.execute("UPDATE superapp_ledger_entry SET reference = 'another' WHERE seq = 2"))
    assert unguarded(lambda cur: service.verify_chain(cur, 0, 1)) == ()
    assert unguarded(lambda cur: service.verify_chain(cur, 1, 2)) == (
        Violation(invariant="chain", where="entry 2", off_by=1),
    )
    assert unguarded(lambda cur: service.verify_chain(cur, 2, 10)) == ()


# Both engines have the same rules.


def test_both_schemas_name_the_same_tables_and_columns() -> None:
    sqlite, postgresql = (
        {
            (table, column)
            for migration in migrations.load("super_app.ledger", engine)
            for table, body in re.findall(r"CREATE TABLE (\w+) \((.*?)\n\)", migration.sql, re.DOTALL)
            for column in re.findall(r"^    ([a-z_]+) ", body, re.MULTILINE)
        }
        for engine in Engine
    )
    assert sqlite == postgresql
    assert len(sqlite) > 30


# Commits that last.


def test_a_database_that_can_lose_a_commit_is_refused(transaction: Transaction, engine: Engine) -> None:
    """The SQLite file of store tests is not synchronous; the PostgreSQL server of tests may lack more than this."""

    def unsafe(cur: Cursor) -> Refused | None:
        if engine is Engine.POSTGRESQL:
            cur.execute("SET LOCAL synchronous_commit = off")
        return service.check_durability(cur)

    refused = transaction(unsafe)
    assert refused is not None
    assert refused.fields["setting"] in {"synchronous", "synchronous_commit", "fsync", "full_page_writes"}


def test_a_database_that_keeps_its_commits_is_not_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "file.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        assert service.check_durability(SqliteCursor(connection.cursor())) is None
        connection.execute("PRAGMA synchronous = NORMAL")
        assert service.check_durability(SqliteCursor(connection.cursor())) is not None
