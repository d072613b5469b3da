"""Limits that several processes count together in the database."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from super_app.calls import store
from super_app.db import Transaction

pytestmark = pytest.mark.packages("super_app.accounts", "super_app.calls")

WINDOW_MS = 20_000


def takes(transaction: Transaction, now_ms: int, subject: str = "alice", most: int = 3) -> int | None:
    return transaction(lambda cur: store.take(cur, "rings", subject, most=most, window_ms=WINDOW_MS, now_ms=now_ms))


def test_so_many_in_a_window_and_then_one_is_told_how_long_to_wait(transaction: Transaction) -> None:
    assert [takes(transaction, now_ms) for now_ms in (0, 5_000, 9_000)] == [None, None, None]
    wait_ms = takes(transaction, 10_000)
    assert wait_ms == 10_000
    assert takes(transaction, 10_000 + wait_ms - 1) is not None
    assert takes(transaction, 10_000 + wait_ms) is None
    assert takes(transaction, 10_000 + wait_ms) is not None


def test_a_refusal_counts_nothing(transaction: Transaction) -> None:
    for _ in range(3):
        takes(transaction, 0)
    for now_ms in range(0, 19_000, 1_000):
        assert takes(transaction, now_ms) is not None
    assert takes(transaction, WINDOW_MS) is None


def test_each_subject_has_its_own(transaction: Transaction) -> None:
    for _ in range(3):
        takes(transaction, 0)
    assert takes(transaction, 0, "bob") is None


def test_what_is_over_is_forgotten(transaction: Transaction) -> None:
    takes(transaction, 0)
    transaction(lambda cur: store.forget_taken(cur, WINDOW_MS - 1))
    for _ in range(2):
        takes(transaction, 0)
    assert takes(transaction, 0) is not None
    transaction(lambda cur: store.forget_taken(cur, WINDOW_MS))
    assert takes(transaction, 0) is None


def test_those_who_count_at_once_are_not_counted_past_the_limit(
    two_connections: tuple[Transaction, Transaction],
) -> None:
    both = threading.Barrier(2)

    def work(transaction: Transaction) -> int:
        both.wait()
        return sum(takes(transaction, 0, most=25) is None for _ in range(20))

    with ThreadPoolExecutor(2) as pool:
        taken = [future.result(timeout=60) for future in [pool.submit(work, each) for each in two_connections]]
    assert sum(taken) == 25
