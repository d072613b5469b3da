"""Deposits of strangers in the database: where the money is at every step, and that it is decided once."""

from dataclasses import replace

import pytest
from payment_books import ASSETS, HERE, SALTS, incoming, payment_id
from pot_books import POT_PACKAGES, PotBooks

from super_app.clearing.ports import Accept, Incoming, Party
from super_app.db import Transaction
from super_app.deposits import rules, store
from super_app.deposits.model import (
    DAY_MS,
    EXPECTED_MS,
    INVOICE_PREFIX,
    RETRY_MS,
    Cue,
    Deposit,
    DepositKey,
    DepositState,
    Terms,
)
from super_app.deposits.service import Deposits
from super_app.errors import Reason, Refused
from super_app.ids import Acct, PaymentId, UserId
from super_app.money import AssetCode, Money
from super_app.payments.model import Order, Payment

pytestmark = pytest.mark.packages(*POT_PACKAGES, "super_app.deposits")
EUR = AssetCode("EUR")
ZOE = UserId("@zoe:hs2.test")


class DepositBooks(PotBooks):
    def __init__(self, transaction: Transaction) -> None:
        super().__init__(transaction)
        self.deposits = Deposits(server_name=HERE, payments=self.payments, guards=self.safeguards)
        self.payments.pay_out_of(self.deposits)
        self.pots.lies_beside(self.deposits.beside)

    def expect(self, number: int, payer: UserId, recipient: str, minor: int) -> DepositKey:
        terms = Terms(deposit=Money(amount_minor=minor, currency=EUR))
        deposit = Deposit(
            payer=payer,
            payment_id=payment_id(number),
            acct=Acct(self.account(self.user(recipient))),
            recipient=self.user(recipient),
            money=terms.deposit,
            state=DepositState.EXPECTED,
            cue=None,
            made_ms=self.now_ms,
            until_ms=rules.until_ms(terms, self.now_ms),
            tries=0,
            retry_ms=None,
        )
        return self.transaction(lambda cur: self.deposits.expect(cur, deposit)).key

    def put_down(self, order: Order, *, proven: bool = False) -> Payment | Refused:
        named = replace(order, invoice=f"{INVOICE_PREFIX}{order.payment_id}")
        return self.transaction(lambda cur: self.deposits.put_down(cur, named, SALTS, self.now_ms, proven=proven))

    def decide(self, key: DepositKey, recipient: str, cue: Cue) -> Deposit | Refused:
        acct = Acct(self.account(self.user(recipient)))
        return self.transaction(lambda cur: self.deposits.decide(cur, key, acct, cue, self.now_ms))

    def carry_out(self, key: DepositKey, spam_to: Party | None = None) -> Deposit | None:
        return self.transaction(lambda cur: self.deposits.carry_out(cur, key, spam_to, SALTS, self.now_ms))

    def admits(self, recipient: str, payer: UserId) -> bool:
        acct = Acct(self.account(self.user(recipient)))
        return self.transaction(lambda cur: self.deposits.admits(cur, acct, payer))

    def comes(self, number: int, minor: int) -> Incoming:
        """A payment of zoe's homeserver, up to its credit."""
        order = incoming(number, "bob", minor)
        offered = self.transaction(lambda cur: self.payments.offered(cur, order, self.now_ms))
        assert isinstance(offered, Accept), offered
        self.hears_credit(order, Acct(self.account(self.user("bob"))), {})
        return order

    def refund_of(self, key: DepositKey, tries: int) -> Order:
        refund_id = rules.refund_id_of(key, tries)
        order = self.order(int(refund_id, 16), "bob", key.payer, 200, refund_of=key.payment_id)
        return replace(order, payment_id=PaymentId(refund_id))


@pytest.fixture
def books(transaction: Transaction) -> DepositBooks:
    return DepositBooks(transaction)


@pytest.fixture
def alice(books: DepositBooks) -> Acct:
    return books.open_account("alice", 1_000)


@pytest.fixture
def bob(books: DepositBooks) -> Acct:
    return books.open_account("bob")


def reason_of(result: object) -> Reason:
    assert isinstance(result, Refused), result
    return result.reason


def state_of(result: Deposit | Refused | None) -> tuple[DepositState, Cue | None]:
    assert isinstance(result, Deposit), result
    return result.state, result.cue


class TestHere:
    @pytest.fixture
    def key(self, books: DepositBooks, alice: Acct, bob: Acct) -> DepositKey:
        key = books.expect(1, books.user("alice"), "bob", 200)
        paid = books.put_down(books.order(1, "alice", "bob", 200))
        assert isinstance(paid, Payment)
        return key

    def test_it_lies_where_nobody_can_spend_it_and_lets_its_payer_write(
        self, books: DepositBooks, alice: Acct, bob: Acct, key: DepositKey
    ) -> None:
        assert (books.wallet(alice), books.wallet(bob), books.aside(bob)) == ((800, 0), (0, 0), 200)
        assert books.admits("bob", books.user("alice"))
        assert reason_of(books.place(books.order(2, "bob", "alice", 1))) is Reason.INSUFFICIENT_FUNDS
        assert books.violations() == ()

    def test_the_same_again_pays_once(self, books: DepositBooks, alice: Acct, key: DepositKey) -> None:
        assert isinstance(books.put_down(books.order(1, "alice", "bob", 200)), Payment)
        assert reason_of(books.put_down(books.order(1, "alice", "bob", 201))) is Reason.CONFLICT
        assert books.wallet(alice) == (800, 0)

    @pytest.mark.parametrize("cue", [Cue.ANSWER, Cue.ACCEPT, Cue.TIME])
    def test_it_goes_back(self, books: DepositBooks, alice: Acct, bob: Acct, key: DepositKey, cue: Cue) -> None:
        assert state_of(books.decide(key, "bob", cue)) == (DepositState.DUE, cue)
        assert books.violations() == ()
        assert state_of(books.carry_out(key)) == (DepositState.RETURNED, cue)
        assert (books.wallet(alice), books.wallet(bob), books.aside(bob)) == ((1_000, 0), (0, 0), 0)
        assert books.carry_out(key) is None
        assert books.admits("bob", books.user("alice")) is (cue is not Cue.TIME)
        assert books.violations() == ()

    def test_it_is_kept_as_spam_and_its_payer_is_let_in_no_more(
        self, books: DepositBooks, alice: Acct, bob: Acct, key: DepositKey
    ) -> None:
        books.decide(key, "bob", Cue.SPAM)
        assert state_of(books.carry_out(key)) == (DepositState.KEPT, Cue.SPAM)
        assert (books.wallet(alice), books.wallet(bob), books.aside(bob)) == ((800, 0), (200, 0), 0)
        assert not books.admits("bob", books.user("alice"))
        assert books.violations() == ()

    def test_what_is_kept_goes_to_whom_the_recipient_has_chosen(
        self, books: DepositBooks, bob: Acct, key: DepositKey
    ) -> None:
        carol = books.open_account("carol")
        books.decide(key, "bob", Cue.SPAM)
        to = Party(user_id=books.user("carol"), acct=carol, handle=None)
        assert state_of(books.carry_out(key, to)) == (DepositState.KEPT, Cue.SPAM)
        assert (books.wallet(carol), books.wallet(bob), books.aside(bob)) == ((200, 0), (0, 0), 0)
        assert books.violations() == ()

    def test_it_is_decided_once_and_by_the_recipient_alone(self, books: DepositBooks, key: DepositKey) -> None:
        assert reason_of(books.decide(key, "alice", Cue.ACCEPT)) is Reason.UNKNOWN_DEPOSIT
        books.decide(key, "bob", Cue.ACCEPT)
        assert state_of(books.decide(key, "bob", Cue.ACCEPT)) == (DepositState.DUE, Cue.ACCEPT)
        assert reason_of(books.decide(key, "bob", Cue.SPAM)) is Reason.ALREADY_DECIDED

    def test_it_stays_with_the_recipient_where_its_payer_is_gone(
        self, books: DepositBooks, bob: Acct, key: DepositKey
    ) -> None:
        books.deactivate("alice")
        books.decide(key, "bob", Cue.TIME)
        assert state_of(books.carry_out(key)) == (DepositState.KEPT, Cue.GONE)
        assert (books.wallet(bob), books.aside(bob)) == ((200, 0), 0)
        assert books.violations() == ()

    def test_what_was_announced_and_never_came_is_forgotten(self, books: DepositBooks, alice: Acct, bob: Acct) -> None:
        key = books.expect(5, books.user("alice"), "bob", 100)
        assert not books.admits("bob", books.user("alice"))
        books.now_ms += EXPECTED_MS + 1
        books.transaction(lambda cur: books.deposits.lapse(cur, key, books.now_ms))
        assert reason_of(books.decide(key, "bob", Cue.ACCEPT)) is Reason.UNKNOWN_DEPOSIT


class TestElsewhere:
    @pytest.fixture
    def key(self, books: DepositBooks, bob: Acct) -> DepositKey:
        books.set_policy("bob", {"v": 1, "from": ["nobody"], "accept": "ask"})
        key = books.expect(1, ZOE, "bob", 200)
        books.comes(1, 200)
        return key

    def test_it_is_let_in_whatever_the_recipient_has_set_for_payments_and_lies_aside_as_it_is_credited(
        self, books: DepositBooks, bob: Acct, key: DepositKey
    ) -> None:
        assert (books.wallet(bob), books.aside(bob)) == ((0, 0), 200)
        assert books.admits("bob", ZOE)
        assert books.violations() == ()

    def test_it_goes_back_over_clearing_as_a_refund(self, books: DepositBooks, bob: Acct, key: DepositKey) -> None:
        books.decide(key, "bob", Cue.ANSWER)
        assert state_of(books.carry_out(key)) == (DepositState.RETURNING, Cue.ANSWER)
        assert (books.wallet(bob), books.aside(bob)) == ((0, 200), 0)
        refund = books.refund_of(key, 0)
        assert books.clearing.offers[-1].refund_of == key.payment_id
        books.hears_commit(refund)
        books.hears_receipt(refund, {})
        assert books.carry_out(key) is None
        assert state_of(books.decide(key, "bob", Cue.ANSWER)) == (DepositState.RETURNED, Cue.ANSWER)
        assert books.violations() == ()

    def test_a_refund_that_comes_to_nothing_is_made_again(
        self, books: DepositBooks, bob: Acct, key: DepositKey
    ) -> None:
        books.decide(key, "bob", Cue.TIME)
        books.carry_out(key)
        books.hears_abort(books.refund_of(key, 0), Reason.EXPIRED)
        assert (books.wallet(bob), books.aside(bob)) == ((0, 0), 200)
        assert books.violations() == ()
        assert books.carry_out(key) is None, "not at once"
        books.now_ms += RETRY_MS
        books.carry_out(key)
        second = books.refund_of(key, 1)
        books.hears_commit(second)
        books.hears_void(second, Reason.PAYEE_GONE)
        assert state_of(books.decide(key, "bob", Cue.GONE)) == (DepositState.KEPT, Cue.GONE)
        assert (books.wallet(bob), books.aside(bob)) == ((200, 0), 0)
        assert books.violations() == ()

    def test_without_a_link_it_waits(self, books: DepositBooks, bob: Acct, key: DepositKey) -> None:
        books.clearing.links.clear()
        books.decide(key, "bob", Cue.TIME)
        assert state_of(books.carry_out(key)) == (DepositState.DUE, Cue.TIME)
        assert books.aside(bob) == 200
        assert books.violations() == ()

    def test_a_payment_of_another_amount_is_no_deposit(self, books: DepositBooks, bob: Acct) -> None:
        books.expect(2, ZOE, "bob", 300)
        books.comes(2, 299)
        assert (books.wallet(bob), books.aside(bob)) == ((299, 0), 0)
        assert not books.admits("bob", ZOE)


def test_a_policy_that_cannot_be_read_asks_nothing() -> None:
    good = {"v": 1, "deposit": {"amount": 200, "currency": "EUR"}, "days": 3, "spam_to": "@red:cross", "free": []}
    read = rules.read_policy(good, ASSETS)
    assert read is not None
    assert (read.deposit.amount_minor, read.spam_to) == (200, "@red:cross")
    assert rules.until_ms(read, 5) == 5 + 3 * DAY_MS
    wrong: object
    for wrong in (None, [], {"v": 2}, {"v": 1}, {**good, "deposit": {"amount": -1, "currency": "EUR"}}):
        assert rules.read_policy(wrong, ASSETS) is None
    assert rules.read_policy({**good, "days": 99}, ASSETS) is None


@pytest.mark.usefixtures("bob")
def test_deposits_that_are_over_are_forgotten_with_who_put_them_down_or_had_them(
    books: DepositBooks, alice: Acct
) -> None:
    over, still = books.expect(1, books.user("alice"), "bob", 200), books.expect(2, books.user("alice"), "bob", 200)
    for number in (1, 2):
        assert isinstance(books.put_down(books.order(number, "alice", "bob", 200)), Payment)
    books.decide(over, "bob", Cue.ACCEPT)
    books.carry_out(over)
    assert books.transaction(lambda cur: store.erase_person(cur, alice, books.user("alice"))) == 1
    assert books.transaction(lambda cur: store.find(cur, over)) is None
    assert books.transaction(lambda cur: store.find(cur, still)) is not None
    assert books.violations() == ()
