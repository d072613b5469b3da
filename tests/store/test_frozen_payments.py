"""What becomes of payments when an operator freezes one of their accounts, on one homeserver."""

import pytest
from payment_books import NOW_MS, PACKAGES, Books, incoming

from super_app.db import Transaction
from super_app.errors import Reason, Refused
from super_app.ids import Acct
from super_app.ledger import operators
from super_app.payments.model import Payment, State

pytestmark = pytest.mark.packages(*PACKAGES)


@pytest.fixture
def books(transaction: Transaction) -> Books:
    return Books(transaction)


@pytest.fixture
def alice(books: Books) -> Acct:
    return books.open_account("alice", 1_000)


@pytest.fixture
def bob(books: Books) -> Acct:
    return books.open_account("bob")


def freeze(books: Books, acct: Acct) -> None:
    books.transaction(lambda cur: operators.freeze(cur, acct, reason="r", operator="@admin:hs1.test", now_ms=NOW_MS))


def reason_of(answer: object) -> Reason:
    assert isinstance(answer, Refused), answer
    return answer.reason


@pytest.mark.usefixtures("bob")
def test_a_frozen_payer_orders_nothing(books: Books, alice: Acct) -> None:
    freeze(books, alice)
    assert reason_of(books.place(books.order(1, "alice", "bob", 300))) is Reason.ACCOUNT_FROZEN
    assert books.wallet(alice) == (1_000, 0)


def test_to_a_frozen_payee_nothing_is_ordered(books: Books, alice: Acct, bob: Acct) -> None:
    freeze(books, bob)
    assert reason_of(books.place(books.order(1, "alice", "bob", 300))) is Reason.ACCOUNT_FROZEN
    assert books.wallet(alice) == (1_000, 0)


@pytest.mark.parametrize("who", ["payer", "payee"])
def test_an_order_whose_event_comes_after_the_freeze_fails_and_gives_the_money_back(
    books: Books, alice: Acct, bob: Acct, who: str
) -> None:
    order = books.order(1, "alice", "bob", 300)
    assert isinstance(books.place(order), Payment)
    freeze(books, alice if who == "payer" else bob)
    bound = books.bind(order)
    assert bound is not None
    assert (bound.state, bound.reason) == (State.FAILED, Reason.ACCOUNT_FROZEN)
    assert books.find(order).is_bound
    assert books.wallet(alice) == (1_000, 0)
    assert books.violations() == ()


def test_a_payee_who_was_asked_and_then_frozen_cannot_accept_but_can_decline(
    books: Books, alice: Acct, bob: Acct
) -> None:
    books.set_policy("bob", {"v": 1, "accept": "ask"})
    order = books.order(1, "alice", "bob", 300)
    assert books.pay(order).state is State.AWAITING_ACCEPTANCE
    freeze(books, bob)
    assert reason_of(books.accept(order)) is Reason.ACCOUNT_FROZEN
    assert books.find(order).state is State.AWAITING_ACCEPTANCE
    declined = books.decline(order)
    assert isinstance(declined, Payment)
    assert books.wallet(alice) == (1_000, 0)


def test_what_a_frozen_payer_had_set_aside_goes_back_when_the_payee_accepts(
    books: Books, alice: Acct, bob: Acct
) -> None:
    books.set_policy("bob", {"v": 1, "accept": "ask"})
    order = books.order(1, "alice", "bob", 300)
    books.pay(order)
    freeze(books, alice)
    accepted = books.accept(order)
    assert isinstance(accepted, Payment)
    assert (accepted.state, accepted.reason) == (State.FAILED, Reason.ACCOUNT_FROZEN)
    assert (books.wallet(alice), books.wallet(bob)) == ((1_000, 0), (0, 0))
    assert books.violations() == ()


def test_an_offer_from_elsewhere_to_a_frozen_payee_is_refused(books: Books, bob: Acct) -> None:
    freeze(books, bob)
    offered = books.transaction(lambda cur: books.payments.offered(cur, incoming(1, "bob", 300), NOW_MS))
    assert reason_of(offered) is Reason.ACCOUNT_FROZEN


def test_a_frozen_payee_does_not_accept_what_another_homeserver_offered(books: Books, bob: Acct) -> None:
    books.set_policy("bob", {"v": 1, "accept": "ask"})
    offer = incoming(1, "bob", 300)
    books.transaction(lambda cur: books.payments.offered(cur, offer, NOW_MS))
    freeze(books, bob)
    found = books.transaction(lambda cur: books.payments.find_received(cur, bob, offer.payment_id, None))
    assert isinstance(found, Payment)
    answer = books.transaction(lambda cur: books.payments.accept(cur, bob, found, NOW_MS))
    assert reason_of(answer) is Reason.ACCOUNT_FROZEN
    assert books.clearing.answers == []
