"""What a cursor promises on both databases, although on PostgreSQL statements wait for the next one."""

import sqlite3
from concurrent.futures import Future, ThreadPoolExecutor

import psycopg2
import pytest
from test_ledger import ALICE, BOB, eur, issued, pay

from super_app.db import Cursor, Transaction
from super_app.ledger import service, store
from super_app.ledger.model import available
from synapse_super_app.commands.matrix_client import wait_until

pytestmark = pytest.mark.packages("super_app.accounts", "super_app.ledger")


def park(cur: Cursor, event_id: str) -> None:
    cur.execute(
        "INSERT INTO superapp_follower_parked (event_id, type, attempts, due_ms) VALUES (?, 'type', 0, 0)", (event_id,)
    )


def parked(cur: Cursor) -> list[str]:
    cur.execute("SELECT event_id FROM superapp_follower_parked ORDER BY event_id")
    return [str(row[0]) for row in cur.fetchall()]


def test_a_statement_sees_what_those_that_waited_for_it_have_done(transaction: Transaction) -> None:
    def work(cur: Cursor) -> list[str]:
        park(cur, "$a")
        park(cur, "$b")
        return parked(cur)

    assert transaction(work) == ["$a", "$b"]


def test_the_count_of_rows_is_that_of_the_last_statement(transaction: Transaction) -> None:
    def work(cur: Cursor) -> int:
        park(cur, "$a")
        cur.execute("UPDATE superapp_follower_parked SET attempts = 1 WHERE event_id = '$elsewhere'")
        return cur.rowcount

    assert transaction(work) == 0


def test_what_still_waits_at_the_end_is_committed(transaction: Transaction) -> None:
    transaction(lambda cur: park(cur, "$a"))
    assert transaction(parked) == ["$a"]


def test_a_statement_that_fails_unasked_takes_the_whole_transaction(transaction: Transaction) -> None:
    def work(cur: Cursor) -> None:
        park(cur, "$a")
        park(cur, "$a")

    with pytest.raises((sqlite3.IntegrityError, psycopg2.errors.UniqueViolation)):
        transaction(work)
    assert transaction(parked) == []


def test_books_behind_a_lock_that_was_waited_for_are_those_after_it(
    two_connections: tuple[Transaction, Transaction],
) -> None:
    one, other = two_connections
    one(lambda cur: issued(cur, ALICE, eur(100)))
    keys = [available(ALICE, eur(1).currency), available(BOB, eur(1).currency)]

    def theirs(cur: Cursor) -> tuple[int, int]:
        head, accounts = store.books(cur, keys)
        return head.seq, accounts[keys[1]].balance_minor

    def ours(cur: Cursor) -> "Future[tuple[int, int]]":
        service.transfer(cur, pay("t1", ALICE, BOB, 40), 2)
        waiting = pool.submit(other, theirs)

        def waits() -> bool:
            cur.execute("SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))")
            return cur.fetchone() is not None

        wait_until(waits, timeout_s=10, what="a lock that is waited for")
        return waiting

    with ThreadPoolExecutor(1) as pool:
        assert one(ours).result() == (2, 40)
