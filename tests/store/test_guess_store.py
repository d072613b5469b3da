"""Guesses that all processes of a homeserver count together, in the database."""

from functools import partial

import pytest

from super_app.db import Cursor, Row, Transaction
from super_app.directory import guess_store
from super_app.directory.guess_store import Allowance

pytestmark = pytest.mark.packages("super_app.accounts", "super_app.directory")

SOME = Allowance(name="search", burst=3, every_ms=1_000)
NOW = 1_700_000_000_000


def taken(transaction: Transaction, asker: str, now_ms: int, allowance: Allowance = SOME) -> int:
    return transaction(lambda cur: guess_store.take(cur, allowance, asker, now_ms, missed=True))


def test_so_many_are_let_through_at_once_and_then_one_for_each_pause(transaction: Transaction) -> None:
    assert [taken(transaction, "mallory", NOW) for _ in range(3)] == [0, 0, 0]
    assert taken(transaction, "mallory", NOW) == 1_000
    assert taken(transaction, "mallory", NOW + 400) == 600
    assert taken(transaction, "mallory", NOW + 1_000) == 0
    assert taken(transaction, "mallory", NOW + 1_000) == 1_000


def test_whoever_was_quiet_for_long_has_all_again_and_no_more(transaction: Transaction) -> None:
    for _ in range(3):
        taken(transaction, "mallory", NOW)
    later = NOW + 3_600_000
    assert [taken(transaction, "mallory", later) for _ in range(4)] == [0, 0, 0, 1_000]


def test_what_is_refused_costs_nothing(transaction: Transaction) -> None:
    for _ in range(10):
        taken(transaction, "mallory", NOW)
    assert taken(transaction, "mallory", NOW + 1_000) == 0


def test_to_look_costs_nothing(transaction: Transaction) -> None:
    for _ in range(3):
        assert transaction(lambda cur: guess_store.wait_ms(cur, SOME, "mallory", NOW)) == 0
        taken(transaction, "mallory", NOW)
    for _ in range(3):
        assert transaction(lambda cur: guess_store.wait_ms(cur, SOME, "mallory", NOW)) == 1_000


def test_what_hits_costs_nothing_and_is_refused_like_a_miss(transaction: Transaction) -> None:
    def hit() -> int:
        return transaction(lambda cur: guess_store.take(cur, SOME, "mallory", NOW, missed=False))

    assert [hit() for _ in range(5)] == [0] * 5
    for _ in range(3):
        assert taken(transaction, "mallory", NOW) == 0
    assert hit() == taken(transaction, "mallory", NOW) == 1_000


def test_askers_and_budgets_are_counted_apart(transaction: Transaction) -> None:
    for _ in range(3):
        taken(transaction, "mallory", NOW)
    assert taken(transaction, "alice", NOW) == 0
    assert taken(transaction, "mallory", NOW, Allowance(name="resolve", burst=1, every_ms=1_000)) == 0


def test_those_who_have_all_again_are_forgotten_and_nobody_else(transaction: Transaction) -> None:
    for asker, guesses in (("mallory", 3), ("alice", 1)):
        for _ in range(guesses):
            taken(transaction, asker, NOW)
    transaction(lambda cur: guess_store.forget(cur, NOW + 1_500))

    assert transaction(_askers) == [("mallory",)]
    assert taken(transaction, "mallory", NOW + 1_500) == 0


def _askers(cur: Cursor) -> list[Row]:
    cur.execute("SELECT asker FROM superapp_directory_guesses")
    return cur.fetchall()


def test_a_time_is_kept_of_each_asker_until_it_has_passed(transaction: Transaction) -> None:
    assert transaction(lambda cur: guess_store.until_ms(cur, "lately", "mallory")) is None
    for until_ms in (NOW + 5, NOW + 9):
        transaction(partial(guess_store.set_until, budget="lately", asker="mallory", until_ms=until_ms))
    transaction(partial(guess_store.set_until, budget="lately", asker="other", until_ms=NOW))
    assert transaction(lambda cur: guess_store.until_ms(cur, "lately", "mallory")) == NOW + 9
    transaction(lambda cur: guess_store.forget(cur, NOW + 8))
    assert transaction(lambda cur: guess_store.until_ms(cur, "lately", "mallory")) == NOW + 9
    assert transaction(lambda cur: guess_store.until_ms(cur, "lately", "other")) is None
