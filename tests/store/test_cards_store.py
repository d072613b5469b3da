"""What is remembered of cards: which are to be looked at, and what each says, on both databases."""

import pytest

from super_app.cards import store
from super_app.cards.store import Card, Kind
from super_app.db import Transaction
from super_app.ids import EventId

pytestmark = pytest.mark.packages("super_app.accounts", "super_app.cards")

NOW_MS = 1_700_000_000_000
SUBJECT = {"payer_key": "acct", "payment_id": "ab" * 16}


def owe(transaction: Transaction, card_id: str = "payment:1", due_ms: int = NOW_MS) -> None:
    transaction(lambda cur: store.owe(cur, card_id, Kind.PAYMENT, SUBJECT, due_ms))


def due(transaction: Transaction, now_ms: int = NOW_MS) -> tuple[Card, ...]:
    return transaction(lambda cur: store.due(cur, now_ms, 10))


def test_a_card_is_due_in_its_order_and_whole(transaction: Transaction) -> None:
    assert transaction(store.next_due_ms) is None
    owe(transaction)
    owe(transaction, "payment:2", NOW_MS - 1)
    owe(transaction, "payment:3", NOW_MS + 1)
    second, first = due(transaction)
    assert (second.card_id, first.card_id) == ("payment:2", "payment:1")
    assert (first.kind, first.subject, first.event_id, first.shown) == (Kind.PAYMENT, SUBJECT, None, None)
    assert transaction(store.next_due_ms) == NOW_MS - 1


def test_what_is_shown_is_kept_and_looked_at_again_when_it_changes(transaction: Transaction) -> None:
    owe(transaction)
    (card,) = due(transaction)
    transaction(lambda cur: store.shown(cur, card, EventId("$card"), "bezahlt ✓", NOW_MS + 50))
    assert due(transaction) == ()
    (again,) = due(transaction, NOW_MS + 50)
    assert (again.event_id, again.shown, again.attempts) == ("$card", "bezahlt ✓", 0)
    transaction(lambda cur: store.shown(cur, again, EventId("$card"), "bezahlt ✓", None))
    assert transaction(store.next_due_ms) is None
    owe(transaction, due_ms=NOW_MS + 60)
    (changed,) = due(transaction, NOW_MS + 60)
    assert (changed.event_id, changed.shown) == ("$card", "bezahlt ✓")


def test_a_change_that_comes_while_a_card_is_sent_stays_due(transaction: Transaction) -> None:
    owe(transaction)
    (card,) = due(transaction)
    owe(transaction, due_ms=NOW_MS + 5)
    transaction(lambda cur: store.shown(cur, card, EventId("$card"), "held", None))
    assert [each.shown for each in due(transaction, NOW_MS + 5)] == ["held"]


@pytest.mark.runs_once
def test_what_could_not_be_sent_is_counted_and_put_off_or_given_up(transaction: Transaction) -> None:
    owe(transaction)
    (card,) = due(transaction)
    transaction(lambda cur: store.put_off(cur, card, NOW_MS + 10))
    assert due(transaction) == ()
    (again,) = due(transaction, NOW_MS + 10)
    assert again.attempts == 1
    transaction(lambda cur: store.put_off(cur, again, None))
    assert transaction(store.next_due_ms) is None
