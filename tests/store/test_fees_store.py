"""A fee goes with its payment: set aside with it, the house's once it has arrived, the payer's again if it has not."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from payment_books import EUR, NOW_MS, PACKAGES, SALTS, Books, payment_id

from super_app.clearing.model import OutState
from super_app.clearing.ports import Order as ClearingOrder
from super_app.clearing.ports import Party
from super_app.db import Transaction
from super_app.errors import Reason, Refused
from super_app.ids import Acct
from super_app.ledger import operators
from super_app.ledger.model import AccountKind, Violation
from super_app.money import Money
from super_app.payments.fees import Fee, Reach
from super_app.payments.model import ACCEPTANCE_MS, UNBOUND_HOLD_MS, Order, Payment, State

pytestmark = pytest.mark.packages(*PACKAGES)

FEES = (
    Fee(currency=EUR, reach=Reach.HERE, fixed_minor=5, basis_points=100),
    Fee(currency=EUR, reach=Reach.ELSEWHERE, fixed_minor=20),
)
ZOE = "@zoe:hs2.test"


class House(Books):
    def __init__(self, transaction: Transaction) -> None:
        super().__init__(transaction, fees=FEES)
        self.alice = self.open_account("alice", 1_000)
        self.bob = self.open_account("bob")

    def assert_stands(self, *, alice: tuple[int, int], bob: int, house: int) -> None:
        assert (self.wallet(self.alice), self.wallet(self.bob)[0], self.house_fees()) == (alice, bob, house)
        assert self.violations() == ()

    def to_bob(self, number: int = 1, minor: int = 500, fee_minor: int | None = 10) -> Order:
        return self.order(number, "alice", "bob", minor, fee_minor=fee_minor)


@pytest.fixture
def books(transaction: Transaction) -> House:
    return House(transaction)


def test_payment_and_fee_are_set_aside_together_and_arrive_together(books: House) -> None:
    order = books.to_bob()
    placed = books.place(order)
    assert isinstance(placed, Payment)
    assert placed.fee_minor == 10
    books.assert_stands(alice=(490, 510), bob=0, house=0)
    bound = books.bind(order)
    assert bound is not None
    assert bound.state is State.COMPLETED
    books.assert_stands(alice=(490, 0), bob=500, house=10)


@pytest.mark.parametrize("confirmed", [None, 0, 9, 11])
def test_only_the_fee_that_was_shown_is_taken(books: House, confirmed: int | None) -> None:
    refused = books.place(books.to_bob(fee_minor=confirmed))
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.FEE_NOT_CONFIRMED
    assert refused.fields == {"fee": 10, "currency": "EUR"}
    books.assert_stands(alice=(1_000, 0), bob=0, house=0)


def test_a_fee_that_is_confirmed_and_not_asked_for_is_refused_as_well(books: House) -> None:
    books.pay(books.to_bob())
    refund = books.order(2, "bob", "alice", 500, refund_of=payment_id(1), fee_minor=3)
    refused = books.place(refund)
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.fields["fee"]) == (Reason.FEE_NOT_CONFIRMED, 0)


def test_money_for_the_amount_and_not_for_the_fee_pays_nothing(books: House) -> None:
    refused = books.place(books.to_bob(minor=1_000, fee_minor=15))
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.fields["available"]) == (Reason.INSUFFICIENT_FUNDS, 1_000)
    books.assert_stands(alice=(1_000, 0), bob=0, house=0)
    books.pay(books.to_bob(number=2, minor=985, fee_minor=14))
    books.assert_stands(alice=(1, 0), bob=985, house=14)


def test_the_same_order_with_another_fee_is_another_one(books: House) -> None:
    order = books.to_bob()
    books.pay(order)
    conflict = books.place(replace(order, fee_minor=11))
    assert isinstance(conflict, Refused)
    assert conflict.reason is Reason.CONFLICT
    for same in (order, replace(order, fee_minor=None)):
        again = books.place(same)
        assert isinstance(again, Payment)
        assert again.state is State.COMPLETED
    books.assert_stands(alice=(490, 0), bob=500, house=10)


def _cancelled(books: House, order: Order) -> None:
    books.place(order)
    books.cancel(order)


def _declined(books: House, order: Order) -> None:
    books.set_policy("bob", {"v": 1, "accept": "ask"})
    books.pay(order)
    books.decline(order)


def _expired(books: House, order: Order) -> None:
    books.set_policy("bob", {"v": 1, "accept": "ask"})
    books.pay(order)
    books.now_ms += ACCEPTANCE_MS
    books.expire(order)


def _released(books: House, order: Order) -> None:
    books.place(order)
    books.now_ms += UNBOUND_HOLD_MS
    books.release(order)


def _gone(books: House, order: Order) -> None:
    books.place(order)
    books.deactivate("bob")
    books.bind(order)


def _frozen(books: House, order: Order) -> None:
    books.place(order)
    books.transaction(
        lambda cur: operators.freeze(cur, Acct(order.payee.acct), reason="court", operator="@op:x", now_ms=1)
    )
    books.bind(order)


@pytest.mark.parametrize("end", [_cancelled, _declined, _expired, _released, _gone, _frozen])
def test_a_payment_that_comes_to_nothing_costs_nothing(books: House, end: Callable[[House, Order], None]) -> None:
    order = books.to_bob()
    end(books, order)
    assert books.find(order).state.final
    books.assert_stands(alice=(1_000, 0), bob=0, house=0)


def test_between_homeservers_the_fee_is_taken_on_the_receipt(books: House) -> None:
    order = books.order(1, "alice", ZOE, 500, fee_minor=20)
    books.pay(order)
    offer = books.clearing.offers[-1]
    assert offer.money.amount_minor == 500, "the payee gets all of it, and their homeserver hears of no fee"
    books.hears_commit(order)
    books.assert_stands(alice=(480, 20), bob=0, house=0)
    books.hears_receipt(order, {})
    books.assert_stands(alice=(480, 0), bob=0, house=20)


def test_between_homeservers_it_goes_back_with_an_abort_and_with_a_void_receipt(books: House) -> None:
    aborted, voided = (books.order(number, "alice", ZOE, 300, fee_minor=20) for number in (1, 2))
    books.pay(aborted)
    books.hears_abort(aborted, Reason.CREDIT_LIMIT)
    books.assert_stands(alice=(1_000, 0), bob=0, house=0)
    books.pay(voided)
    books.hears_commit(voided)
    books.hears_void(voided, Reason.PAYEE_GONE)
    books.assert_stands(alice=(1_000, 0), bob=0, house=0)


def test_a_freeze_after_the_commit_lets_the_payment_arrive_and_takes_no_fee(books: House) -> None:
    order = books.order(1, "alice", ZOE, 500, fee_minor=20)
    books.pay(order)
    books.hears_commit(order)
    books.transaction(lambda cur: operators.freeze(cur, books.alice, reason="court", operator="@op:x", now_ms=1))
    books.hears_receipt(order, {})
    assert (books.find(order).state, books.find(order).fee_minor) == (State.COMPLETED, 0)
    books.assert_stands(alice=(500, 0), bob=0, house=0)


def test_a_refund_is_free_and_leaves_the_fee_with_the_house(books: House) -> None:
    books.pay(books.to_bob())
    books.pay(books.order(2, "bob", "alice", 500, refund_of=payment_id(1)))
    books.assert_stands(alice=(990, 0), bob=0, house=10)


def test_a_payment_that_a_restored_database_thought_open_takes_its_fee_when_the_other_side_shows_it(
    books: House,
) -> None:
    order = books.order(1, "alice", ZOE, 500, fee_minor=20)
    books.pay(order)
    books.hears_commit(order)
    _restored(books, order, OutState.COMPLETED)
    books.assert_stands(alice=(480, 0), bob=0, house=20)


def test_a_fee_that_was_given_back_before_a_restore_is_not_asked_for_again(books: House) -> None:
    order = books.order(1, "alice", ZOE, 500, fee_minor=20)
    books.pay(order)
    books.hears_commit(order)
    books.hears_void(order, Reason.PAYEE_GONE)
    _restored(books, order, OutState.COMPLETED)
    assert books.find(order).fee_minor == 0
    assert (books.wallet(books.alice), books.house_fees()) == ((1_000, 0), 0)


def test_a_fee_that_was_taken_goes_back_when_a_restore_shows_that_nothing_arrived(books: House) -> None:
    order = books.order(1, "alice", ZOE, 500, fee_minor=20)
    books.pay(order)
    books.hears_commit(order)
    books.hears_receipt(order, {})
    _restored(books, order, OutState.VOIDED)
    assert (books.wallet(books.alice), books.house_fees()) == ((500, 0), 0)


def test_a_fee_that_has_been_paid_out_meanwhile_comes_back_from_suspense(books: House) -> None:
    order = books.order(1, "alice", ZOE, 500, fee_minor=20)
    books.pay(order)
    books.hears_commit(order)
    books.hears_receipt(order, {})
    _fees_paid_out_to_bob(books, 15)
    for _ in range(2):
        _restored(books, order, OutState.VOIDED)
        assert (books.wallet(books.alice), books.house_fees()) == ((500, 0), 5)
        assert books.find(order).fee_minor == 0
    (suspense,) = books.transaction(
        lambda cur: [line for line in operators.trial_balance(cur).lines if line.kind is AccountKind.SUSPENSE]
    )
    assert suspense.balance_minor == -20


def _fees_paid_out_to_bob(books: House, minor: int) -> None:
    money = Money(currency=EUR, amount_minor=minor)
    paid = books.transaction(
        lambda cur: operators.pay_fees(cur, books.bob, money, reference="out", operator="@root:hs1.test", now_ms=NOW_MS)
    )
    assert not isinstance(paid, Refused)


def _restored(books: House, order: Order, outcome: OutState) -> None:
    told = ClearingOrder(
        payment_id=order.payment_id,
        hold_id=order.hold_id,
        payer=Party(user_id=order.payer, acct=order.payer_acct, handle=None),
        payee=order.payee,
        money=order.money,
        memo=None,
        room_id=None,
        event_id=None,
        refund_of=None,
        wire_salt=SALTS.wire,
        salts=SALTS.parties,
    )
    books.transaction(lambda cur: books.payments.restored_sent(cur, told, outcome, None, None, NOW_MS))


def test_a_fee_that_does_not_follow_its_payment_is_found(books: House) -> None:
    order = books.to_bob()
    books.place(order)
    assert books.violations() == ()
    books.transaction(lambda cur: cur.execute("UPDATE superapp_payment SET fee_minor = 9"))
    (found,) = books.violations()
    assert isinstance(found, Violation)
    assert (found.invariant, found.off_by) == ("holds", 9)
    books.transaction(lambda cur: cur.execute("UPDATE superapp_payment SET fee_minor = 0"))
    (found,) = books.violations()
    assert isinstance(found, Violation)
    assert (found.invariant, found.off_by) == ("holds", 10)
