"""Payments, their holds and their receipts in the database."""

from typing import Any

import pytest
from payment_books import EVENT, PACKAGES, ROOM, Books, incoming, key_of, payment_id

from super_app.accounts import store as accounts
from super_app.accounts.model import Contact
from super_app.clearing.ports import Accept, Ask
from super_app.db import Transaction
from super_app.errors import Reason, Refused
from super_app.ids import Acct, EventId, Handle, ServerName, UserId
from super_app.money import MAX_AMOUNT_MINOR, AssetCode
from super_app.payments import store
from super_app.payments.model import (
    ACCEPTANCE_MS,
    LINK_PATIENCE_MS,
    UNBOUND_HOLD_MS,
    PayerKey,
    Payment,
    PaymentKey,
    Poster,
    State,
)

pytestmark = pytest.mark.packages(*PACKAGES)
ASK = {"v": 1, "accept": "ask"}
CHECKING = Refused(
    reason=Reason.LINK_HALTED, message="The link is being checked; wait.", fields={"retry_after_ms": 2_000}
)


@pytest.fixture
def books(transaction: Transaction) -> Books:
    return Books(transaction)


@pytest.fixture
def alice(books: Books) -> Acct:
    return books.open_account("alice", 10_000)


@pytest.fixture
def bob(books: Books) -> Acct:
    return books.open_account("bob")


def reason_of(result: object) -> Reason:
    assert isinstance(result, Refused), result
    return result.reason


class TestLocalPayment:
    def test_an_order_sets_the_money_aside_and_its_event_credits_the_payee(
        self, books: Books, alice: Acct, bob: Acct
    ) -> None:
        order = books.order(1, "alice", "bob", 500, memo="lunch")
        placed = books.place(order)
        assert isinstance(placed, Payment)
        assert (placed.state, placed.memo, placed.room_id, placed.event_id) == (State.HELD, "lunch", ROOM, None)
        assert placed.due_ms == books.now_ms + UNBOUND_HOLD_MS
        assert (books.wallet(alice), books.wallet(bob)) == ((9_500, 500), (0, 0))
        assert books.violations() == ()

        bound = books.bind(order)
        assert bound is not None
        assert (bound.state, bound.event_id, bound.due_ms) == (State.COMPLETED, EVENT, None)
        assert (books.wallet(alice), books.wallet(bob)) == ((9_500, 0), (500, 0))
        assert books.find(order) == bound
        assert books.violations() == ()

    def test_the_same_order_again_holds_nothing_more_and_gives_the_payment_as_it_is(
        self, books: Books, alice: Acct, bob: Acct
    ) -> None:
        order = books.order(1, "alice", "bob", 500)
        first = books.place(order)
        assert books.place(order) == first
        done = books.bind(order)
        assert books.place(order) == done
        assert (books.wallet(alice), books.wallet(bob)) == ((9_500, 0), (500, 0))

    def test_another_order_under_the_same_id_is_a_conflict_and_changes_nothing(
        self, books: Books, alice: Acct, bob: Acct
    ) -> None:
        books.place(books.order(1, "alice", "bob", 500))
        assert reason_of(books.place(books.order(1, "alice", "bob", 501))) is Reason.CONFLICT
        assert books.wallet(alice) == (9_500, 500)

    def test_two_payers_may_use_the_same_id(self, books: Books, alice: Acct, bob: Acct) -> None:
        books.issue(bob, 300)
        books.pay(books.order(1, "alice", "bob", 500))
        books.pay(books.order(1, "bob", "alice", 200))
        assert (books.wallet(alice), books.wallet(bob)) == ((9_700, 0), (600, 0))

    def test_the_first_event_binds_and_a_later_one_moves_nothing(self, books: Books, alice: Acct, bob: Acct) -> None:
        order = books.order(1, "alice", "bob", 500)
        books.pay(order)
        assert books.bind(order, EventId("$later")) is None
        assert books.find(order).event_id == EVENT
        assert (books.wallet(alice), books.wallet(bob)) == ((9_500, 0), (500, 0))

    def test_an_event_without_a_hold_moves_nothing(self, books: Books, alice: Acct, bob: Acct) -> None:
        assert books.bind(books.order(1, "alice", "bob", 500)) is None
        assert (books.wallet(alice), books.wallet(bob)) == ((10_000, 0), (0, 0))

    def test_a_released_hold_gives_the_money_back_and_its_event_comes_too_late(
        self, books: Books, alice: Acct, bob: Acct
    ) -> None:
        order = books.order(1, "alice", "bob", 500)
        books.place(order)
        released = books.release(order)
        assert released is not None
        assert (released.state, released.reason) == (State.EXPIRED, Reason.EXPIRED)
        assert books.bind(order) is None
        assert (books.wallet(alice), books.wallet(bob)) == ((10_000, 0), (0, 0))
        refused = books.place(order)
        assert reason_of(refused) is Reason.PAYMENT_ID_SPENT
        assert books.violations() == ()

    def test_a_bound_payment_is_not_released(self, books: Books, alice: Acct, bob: Acct) -> None:
        order = books.order(1, "alice", "bob", 500)
        books.pay(order)
        assert books.release(order) is None
        assert books.wallet(bob) == (500, 0)

    def test_more_than_is_available_is_refused_with_what_is(self, books: Books, alice: Acct, bob: Acct) -> None:
        books.place(books.order(1, "alice", "bob", 9_999))
        refused = books.place(books.order(2, "alice", "bob", 2))
        assert reason_of(refused) is Reason.INSUFFICIENT_FUNDS
        assert isinstance(refused, Refused)
        assert refused.fields["available"] == 1
        assert reason_of(books.place(books.order(3, "alice", "bob", MAX_AMOUNT_MINOR))) is Reason.INSUFFICIENT_FUNDS
        # It wrote nothing, so the id is free once there is money.
        books.issue(alice, 1)
        assert isinstance(books.place(books.order(2, "alice", "bob", 2)), Payment)

    def test_another_currency_has_another_balance(self, books: Books, alice: Acct, bob: Acct) -> None:
        points = books.order(1, "alice", "bob", 1, currency=AssetCode("PTS"))
        assert reason_of(books.place(points)) is Reason.INSUFFICIENT_FUNDS


class TestPayee:
    def test_nobody_of_that_name(self, books: Books, alice: Acct) -> None:
        assert reason_of(books.place(books.order(1, "alice", "nobody", 5))) is Reason.UNKNOWN_PAYEE

    def test_a_deactivated_payee_is_gone(self, books: Books, alice: Acct, bob: Acct) -> None:
        books.deactivate("bob")
        assert reason_of(books.place(books.order(1, "alice", "bob", 5))) is Reason.PAYEE_GONE

    def test_a_payee_who_goes_between_order_and_event_lets_the_money_go_back(
        self, books: Books, alice: Acct, bob: Acct
    ) -> None:
        order = books.order(1, "alice", "bob", 500)
        books.place(order)
        books.deactivate("bob")
        bound = books.bind(order)
        assert bound is not None
        assert (bound.state, bound.reason) == (State.FAILED, Reason.PAYEE_GONE)
        assert books.wallet(alice) == (10_000, 0)
        assert books.violations() == ()

    def test_contacts_only(self, books: Books, transaction: Transaction, alice: Acct, bob: Acct) -> None:
        books.set_policy("bob", {"v": 1, "from": ["contacts"]})
        order = books.order(1, "alice", "bob", 5)
        assert reason_of(books.place(order)) is Reason.NOT_ALLOWED
        friend = Contact(acct=alice, user_id=order.payer, handle=Handle("@alice:hs1.test"), since_ms=0)
        transaction(lambda cur: accounts.put_contact(cur, bob, friend))
        assert isinstance(books.place(order), Payment)

    def test_people_of_a_shared_room_only(self, books: Books, alice: Acct, bob: Acct) -> None:
        books.set_policy("bob", {"v": 1, "from": "shared_rooms"})
        order = books.order(1, "alice", "bob", 5)
        assert reason_of(books.place(order)) is Reason.NOT_ALLOWED
        books.homeserver.sharing.add((order.payee.user_id, order.payer))
        assert isinstance(books.place(order), Payment)

    def test_a_minimum(self, books: Books, alice: Acct, bob: Acct) -> None:
        books.set_policy("bob", {"v": 1, "minimum": {"amount": 100, "currency": "EUR"}})
        assert reason_of(books.place(books.order(1, "alice", "bob", 99))) is Reason.NOT_ALLOWED
        assert isinstance(books.place(books.order(1, "alice", "bob", 100)), Payment)


class TestHalt:
    def test_nothing_new_starts_and_what_has_begun_ends(self, books: Books, alice: Acct, bob: Acct) -> None:
        begun = books.order(1, "alice", "bob", 500)
        books.place(begun)
        books.homeserver.halted = True
        assert reason_of(books.place(books.order(2, "alice", "bob", 1))) is Reason.PAYMENTS_HALTED
        assert books.wallet(alice) == (9_500, 500), "the hold stays"
        assert isinstance(books.place(begun), Payment), "the same order again starts nothing"
        bound = books.bind(begun)
        assert bound is not None
        assert bound.state is State.COMPLETED

    def test_an_answer_waits_and_the_money_can_still_go_back(self, books: Books, alice: Acct, bob: Acct) -> None:
        books.set_policy("bob", ASK)
        order = books.order(1, "alice", "bob", 500)
        books.pay(order)
        books.homeserver.halted = True
        assert reason_of(books.accept(order)) is Reason.PAYMENTS_HALTED
        declined = books.decline(order)
        assert isinstance(declined, Payment)
        assert books.wallet(alice) == (10_000, 0)

    def test_offers_from_elsewhere_are_refused(self, books: Books, bob: Acct) -> None:
        books.homeserver.halted = True
        refused = books.transaction(lambda cur: books.payments.offered(cur, incoming(1, "bob", 5), 0))
        assert reason_of(refused) is Reason.PAYMENTS_HALTED


class TestAcceptance:
    @pytest.fixture
    def asked(self, books: Books, alice: Acct, bob: Acct) -> Any:
        books.set_policy("bob", ASK)
        order = books.order(1, "alice", "bob", 500)
        bound = books.pay(order)
        assert (bound.state, bound.due_ms) == (State.AWAITING_ACCEPTANCE, books.now_ms + ACCEPTANCE_MS)
        assert (books.wallet(alice), books.wallet(bob)) == ((9_500, 500), (0, 0))
        return order

    def test_yes_credits_once(self, books: Books, asked: Any, bob: Acct) -> None:
        for _ in range(2):
            accepted = books.accept(asked)
            assert isinstance(accepted, Payment)
            assert accepted.state is State.COMPLETED
        assert books.wallet(bob) == (500, 0)
        assert reason_of(books.decline(asked)) is Reason.ALREADY_DECIDED
        assert reason_of(books.cancel(asked)) is Reason.ALREADY_DECIDED
        assert books.violations() == ()

    def test_no_gives_the_money_back(self, books: Books, asked: Any, alice: Acct) -> None:
        for _ in range(2):
            declined = books.decline(asked)
            assert isinstance(declined, Payment)
            assert (declined.state, declined.reason) == (State.DECLINED, Reason.DECLINED)
        assert books.wallet(alice) == (10_000, 0)
        assert reason_of(books.accept(asked)) is Reason.ALREADY_DECIDED
        assert books.violations() == ()

    def test_the_payer_takes_it_back_before(self, books: Books, asked: Any, alice: Acct) -> None:
        for _ in range(2):
            cancelled = books.cancel(asked)
            assert isinstance(cancelled, Payment)
            assert (cancelled.state, cancelled.reason) == (State.CANCELLED, Reason.CANCELLED)
        assert books.wallet(alice) == (10_000, 0)
        assert reason_of(books.accept(asked)) is Reason.ALREADY_DECIDED
        assert books.violations() == ()

    def test_it_expires_to_the_millisecond(self, books: Books, asked: Any, alice: Acct, bob: Acct) -> None:
        books.now_ms += ACCEPTANCE_MS - 1
        assert books.expire(asked) is None
        assert books.transaction(lambda cur: store.due(cur, books.now_ms, 10)) == ()
        books.now_ms += 1
        assert reason_of(books.accept(asked)) is Reason.EXPIRED
        assert books.transaction(lambda cur: store.due(cur, books.now_ms, 10)) == (books.find(asked),)
        expired = books.expire(asked)
        assert expired is not None
        assert (expired.state, expired.reason, expired.due_ms) == (State.EXPIRED, Reason.EXPIRED, None)
        assert (books.wallet(alice), books.wallet(bob)) == ((10_000, 0), (0, 0))
        assert books.expire(asked) is None
        assert reason_of(books.accept(asked)) is Reason.EXPIRED
        assert books.violations() == ()

    def test_an_unbound_order_can_be_cancelled_and_its_event_comes_too_late(
        self, books: Books, alice: Acct, bob: Acct
    ) -> None:
        order = books.order(2, "alice", "bob", 500)
        books.place(order)
        cancelled = books.cancel(order)
        assert isinstance(cancelled, Payment)
        assert cancelled.state is State.CANCELLED
        assert books.bind(order) is None
        assert books.wallet(alice) == (10_000, 0)

    def test_who_has_no_such_payment_can_do_nothing_with_it(self, books: Books, asked: Any, bob: Acct) -> None:
        assert reason_of(books.cancel(books.order(9, "alice", "bob", 1))) is Reason.UNKNOWN_PAYMENT
        found = books.transaction(lambda cur: books.payments.find_received(cur, bob, payment_id(9), None))
        assert reason_of(found) is Reason.UNKNOWN_PAYMENT
        assert reason_of(books.cancel(books.order(1, "bob", "alice", 500))) is Reason.UNKNOWN_PAYMENT


class TestRefund:
    @pytest.fixture
    def paid(self, books: Books, alice: Acct, bob: Acct) -> Any:
        order = books.order(1, "alice", "bob", 500)
        books.pay(order)
        return order

    def test_refunds_never_exceed_the_payment(self, books: Books, paid: Any, alice: Acct, bob: Acct) -> None:
        books.issue(bob, 1_000)
        books.pay(books.order(2, "bob", "alice", 200, refund_of=paid.payment_id))
        # One that is on its way counts as well.
        books.place(books.order(3, "bob", "alice", 100, refund_of=paid.payment_id))
        refused = books.place(books.order(4, "bob", "alice", 201, refund_of=paid.payment_id))
        assert reason_of(refused) is Reason.REFUND_EXCEEDS_PAYMENT
        assert isinstance(refused, Refused)
        assert refused.fields["refundable"] == 200
        books.pay(books.order(5, "bob", "alice", 200, refund_of=paid.payment_id))
        over = books.place(books.order(6, "bob", "alice", 1, refund_of=paid.payment_id))
        assert reason_of(over) is Reason.REFUND_EXCEEDS_PAYMENT
        assert books.violations() == ()

    def test_one_that_failed_counts_no_more(self, books: Books, paid: Any, bob: Acct) -> None:
        first = books.order(2, "bob", "alice", 500, refund_of=paid.payment_id)
        books.place(first)
        books.release(first)
        assert isinstance(books.place(books.order(3, "bob", "alice", 500, refund_of=paid.payment_id)), Payment)

    def test_it_reaches_a_payer_who_lets_nobody_pay_them_and_is_not_asked(
        self, books: Books, paid: Any, alice: Acct, bob: Acct
    ) -> None:
        books.set_policy("alice", {"v": 1, "from": "nobody", "accept": "ask"})
        refund = books.pay(books.order(2, "bob", "alice", 500, refund_of=paid.payment_id))
        assert refund.state is State.COMPLETED
        assert (books.wallet(alice), books.wallet(bob)) == ((10_000, 0), (0, 0))

    def test_only_the_payee_gives_it_back_and_only_to_the_payer(self, books: Books, paid: Any, bob: Acct) -> None:
        books.open_account("carol", 1_000)
        by_another = books.place(books.order(2, "carol", "alice", 5, refund_of=paid.payment_id))
        assert reason_of(by_another) is Reason.UNKNOWN_PAYMENT
        to_another = books.place(books.order(3, "bob", "carol", 5, refund_of=paid.payment_id))
        assert reason_of(to_another) is Reason.UNKNOWN_PAYMENT

    def test_it_needs_the_money(self, books: Books, paid: Any, bob: Acct) -> None:
        books.pay(books.order(2, "bob", "alice", 400))
        refused = books.place(books.order(3, "bob", "alice", 500, refund_of=paid.payment_id))
        assert reason_of(refused) is Reason.INSUFFICIENT_FUNDS

    def test_what_is_left_to_refund(self, books: Books, paid: Any, bob: Acct) -> None:
        original = books.find(paid)
        left = books.transaction(lambda cur: books.payments.refund_left(cur, original))
        assert not isinstance(left, Refused)
        assert left.amount_minor == 500
        books.pay(books.order(2, "bob", "alice", 500, refund_of=paid.payment_id))
        none_left = books.transaction(lambda cur: books.payments.refund_left(cur, original))
        assert reason_of(none_left) is Reason.REFUND_EXCEEDS_PAYMENT

    def test_the_payers_homeserver_checks_a_refund_from_elsewhere_too(self, books: Books, alice: Acct) -> None:
        order = books.order(1, "alice", "@zoe:hs2.test", 500)
        books.pay(order)
        books.hears_commit(order)

        def offer(number: int, minor: int, payer: str = "@zoe:hs2.test") -> Any:
            refund = incoming(number, "alice", minor, payer=payer, refund_of=order.payment_id)
            return books.transaction(lambda cur: books.payments.offered(cur, refund, books.now_ms))

        assert reason_of(offer(2, 100)) is Reason.REFUND_EXCEEDS_PAYMENT, "it is not completed"
        books.hears_receipt(order, {"type": "RECEIPT"})
        assert reason_of(offer(3, 501)) is Reason.REFUND_EXCEEDS_PAYMENT
        assert reason_of(offer(4, 100, payer="@eve:hs2.test")) is Reason.UNKNOWN_PAYMENT
        assert isinstance(offer(5, 300), Accept)
        assert reason_of(offer(6, 201)) is Reason.REFUND_EXCEEDS_PAYMENT
        assert isinstance(offer(7, 200), Accept)

    def test_of_two_refunds_from_elsewhere_that_race_one_is_taken_and_the_other_once_it_has_failed(
        self, books: Books, alice: Acct
    ) -> None:
        order = books.order(1, "alice", "@zoe:hs2.test", 500)
        books.pay(order)
        books.hears_commit(order)
        books.hears_receipt(order, {"type": "RECEIPT"})
        first, second = (incoming(number, "alice", 500, refund_of=order.payment_id) for number in (2, 3))
        again = incoming(4, "alice", 500, refund_of=order.payment_id)
        assert isinstance(books.transaction(lambda cur: books.payments.offered(cur, first, books.now_ms)), Accept)
        beside = books.transaction(lambda cur: books.payments.offered(cur, second, books.now_ms))
        assert reason_of(beside) is Reason.REFUND_EXCEEDS_PAYMENT
        books.transaction(lambda cur: books.payments.ended(cur, first, Reason.CANCELLED, books.now_ms))
        assert isinstance(books.transaction(lambda cur: books.payments.offered(cur, again, books.now_ms)), Accept)


class TestToAnotherHomeserver:
    def test_without_a_link_nothing_is_set_aside(self, books: Books, alice: Acct) -> None:
        refused = books.place(books.order(1, "alice", "@zoe:nolink.test", 5))
        assert reason_of(refused) is Reason.NO_LINK
        assert books.wallet(alice) == (10_000, 0)

    @pytest.mark.runs_once
    def test_the_bound_order_is_offered_with_what_clearing_needs(self, books: Books, alice: Acct) -> None:
        order = books.order(1, "alice", "@zoe:hs2.test", 500, memo="lunch")
        assert isinstance(books.place(order), Payment)
        assert books.clearing.offers == [], "nothing leaves before the event exists"
        bound = books.bind(order)
        assert bound is not None
        assert (bound.state, bound.due_ms) == (State.HELD, None)
        (offer,) = books.clearing.offers
        assert (offer.payment_id, offer.hold_id, offer.money) == (order.payment_id, order.hold_id, order.money)
        assert (offer.payer.user_id, offer.payer.acct) == (order.payer, alice)
        assert (offer.room_id, offer.event_id, offer.memo) == (ROOM, EVENT, "lunch")
        assert len({offer.wire_salt, *offer.salts}) == 4

    @pytest.mark.runs_once
    def test_once_bound_no_later_event_and_no_reconciler_touches_it(self, books: Books, alice: Acct) -> None:
        order = books.order(1, "alice", "@zoe:hs2.test", 500)
        bound = books.pay(order)
        assert books.bind(order, EventId("$later")) is None
        assert books.release(order) is None
        assert books.find(order) == bound
        assert len(books.clearing.offers) == 1
        assert books.wallet(alice) == (9_500, 500)

    def test_it_goes_through_asked_committed_and_completed(self, books: Books, alice: Acct) -> None:
        order = books.order(1, "alice", "@zoe:hs2.test", 500)
        books.pay(order)
        books.transaction(lambda cur: books.payments.asked(cur, alice, order.payment_id, 9, books.now_ms))
        assert books.find(order).state is State.AWAITING_ACCEPTANCE
        assert books.violations() == ()
        books.hears_commit(order)
        assert books.find(order).state is State.COMMITTED
        assert reason_of(books.cancel(order)) is Reason.ALREADY_DECIDED
        assert books.violations() == ()
        books.hears_receipt(order, {"type": "RECEIPT", "seq": 4})
        assert (books.find(order).state, books.find(order).signed) == (
            State.COMPLETED,
            {"type": "RECEIPT", "seq": 4},
        )
        assert books.violations() == ()

    @pytest.mark.parametrize(
        ("reason", "state"),
        [
            (Reason.DECLINED, State.DECLINED),
            (Reason.EXPIRED, State.EXPIRED),
            (Reason.CANCELLED, State.CANCELLED),
            (Reason.CREDIT_LIMIT, State.FAILED),
            (Reason.PAYEE_GONE, State.FAILED),
        ],
    )
    def test_an_abort_ends_it_with_its_reason(self, books: Books, alice: Acct, reason: Reason, state: State) -> None:
        order = books.order(1, "alice", "@zoe:hs2.test", 500)
        books.pay(order)
        books.hears_abort(order, reason)
        assert (books.find(order).state, books.find(order).reason) == (state, reason)
        assert books.wallet(alice) == (10_000, 0)
        assert books.violations() == ()

    def test_the_payer_cancels_through_clearing(self, books: Books, alice: Acct) -> None:
        order = books.order(1, "alice", "@zoe:hs2.test", 500)
        books.pay(order)
        cancelled = books.cancel(order)
        assert isinstance(cancelled, Payment)
        assert cancelled.state is State.CANCELLED
        assert books.wallet(alice) == (10_000, 0)

    def test_an_offer_that_clearing_refuses_gives_the_money_back(self, books: Books, alice: Acct) -> None:
        order = books.order(1, "alice", "@zoe:hs2.test", 500)
        books.place(order)
        books.clearing.offer_refused = Refused(reason=Reason.LINK_HALTED, message="The link is halted; wait.")
        bound = books.bind(order)
        assert bound is not None
        assert (bound.state, bound.reason) == (State.FAILED, Reason.LINK_HALTED)
        assert books.wallet(alice) == (10_000, 0)
        assert books.violations() == ()

    def test_a_void_receipt_after_the_decision_ends_it_failed(self, books: Books, alice: Acct) -> None:
        order = books.order(1, "alice", "@zoe:hs2.test", 500)
        books.pay(order)
        books.hears_commit(order)
        books.hears_void(order, Reason.EXPIRED)
        assert (books.find(order).state, books.find(order).reason) == (State.FAILED, Reason.EXPIRED)
        assert books.wallet(alice) == (10_000, 0)
        assert books.violations() == ()

    def test_an_order_waits_for_a_link_that_is_being_checked(self, books: Books, alice: Acct) -> None:
        order = books.order(1, "alice", "@zoe:hs2.test", 500)
        books.place(order)
        books.clearing.offer_refused = CHECKING
        bound = books.bind(order)
        assert bound is not None
        assert (bound.state, bound.due_ms) == (State.HELD, books.now_ms + 2_000)
        assert books.wallet(alice) == (9_500, 500)
        books.now_ms += 2_000
        books.offer_again(order)
        assert books.find(order).due_ms == books.now_ms + 2_000, "it still waits"
        books.clearing.offer_refused = None
        books.offer_again(order)
        assert (books.find(order).state, books.find(order).due_ms) == (State.HELD, None)
        assert books.offer_again(order) is None, "it is offered once"
        books.hears_commit(order)
        assert books.violations() == ()

    def test_an_order_that_waits_for_its_link_can_be_cancelled(self, books: Books, alice: Acct) -> None:
        order = books.order(1, "alice", "@zoe:hs2.test", 500)
        books.place(order)
        books.clearing.offer_refused = CHECKING
        books.bind(order)
        cancelled = books.cancel(order)
        assert isinstance(cancelled, Payment)
        assert cancelled.state is State.CANCELLED
        assert books.offer_again(order) is None
        assert books.wallet(alice) == (10_000, 0)

    def test_an_order_does_not_wait_for_its_link_for_ever(self, books: Books, alice: Acct) -> None:
        order = books.order(1, "alice", "@zoe:hs2.test", 500)
        books.place(order)
        books.clearing.offer_refused = CHECKING
        books.bind(order)
        books.now_ms += LINK_PATIENCE_MS
        books.offer_again(order)
        assert (books.find(order).state, books.find(order).reason) == (State.FAILED, Reason.LINK_HALTED)
        assert books.wallet(alice) == (10_000, 0)
        assert books.violations() == ()


class TestFromAnotherHomeserver:
    def offer(self, books: Books, offered: Any) -> Any:
        return books.transaction(lambda cur: books.payments.offered(cur, offered, books.now_ms))

    def received(self, books: Books, bob: Acct, number: int = 1) -> Payment:
        found = books.transaction(lambda cur: books.payments.find_received(cur, bob, payment_id(number), None))
        assert isinstance(found, Payment)
        return found

    def test_it_is_accepted_and_later_credited(self, books: Books, bob: Acct) -> None:
        offered = incoming(1, "bob", 500)
        assert self.offer(books, offered) == Accept(acct=bob)
        assert self.offer(books, offered) == Accept(acct=bob), "the same offer again"
        assert self.received(books, bob).state is State.HELD
        books.hears_credit(offered, bob, {"type": "RECEIPT"})
        payment = self.received(books, bob)
        assert (payment.state, payment.memo, payment.signed) == (State.COMPLETED, "for you", {"type": "RECEIPT"})
        assert books.wallet(bob) == (500, 0)
        assert books.violations() == ()

    def test_a_payee_who_never_used_it_gets_an_account(self, books: Books) -> None:
        books.set_policy("newcomer", None)
        accepted = self.offer(books, incoming(1, "newcomer", 5))
        assert isinstance(accepted, Accept)
        account = books.transaction(lambda cur: accounts.by_user_id(cur, UserId("@newcomer:hs1.test")))
        assert account is not None
        assert account.acct == accepted.acct

    def test_who_does_not_exist_or_is_gone_or_lets_nobody_in_is_refused(self, books: Books, bob: Acct) -> None:
        assert reason_of(self.offer(books, incoming(1, "nobody", 5))) is Reason.UNKNOWN_PAYEE
        books.set_policy("bob", {"v": 1, "from": "contacts"})
        assert reason_of(self.offer(books, incoming(2, "bob", 5))) is Reason.NOT_ALLOWED
        books.deactivate("bob")
        assert reason_of(self.offer(books, incoming(3, "bob", 5))) is Reason.PAYEE_GONE

    def test_one_id_of_one_payer_is_one_payment(self, books: Books, bob: Acct) -> None:
        self.offer(books, incoming(1, "bob", 500))
        assert reason_of(self.offer(books, incoming(1, "bob", 500, wire_id="another"))) is Reason.CONFLICT

    def test_the_payee_is_asked_and_says_yes(self, books: Books, bob: Acct) -> None:
        books.set_policy("bob", ASK)
        offered = incoming(1, "bob", 500)
        until = Ask(acct=bob, until_ms=books.now_ms + ACCEPTANCE_MS)
        assert self.offer(books, offered) == until
        books.now_ms += 5
        assert self.offer(books, offered) == until
        payment = self.received(books, bob)
        assert payment.state is State.AWAITING_ACCEPTANCE
        books.clearing.answers.clear()
        books.transaction(lambda cur: books.payments.accept(cur, bob, payment, books.now_ms))
        assert books.clearing.answers[-1] == (ServerName("hs2.test"), offered.wire_id, None)
        assert self.offer(books, offered) == Accept(acct=bob)
        assert self.received(books, bob).state is State.AWAITING_ACCEPTANCE, "until the payer's server commits"
        books.hears_credit(offered, bob, {})
        assert self.received(books, bob).state is State.COMPLETED

    def test_the_payee_is_asked_and_says_no(self, books: Books, bob: Acct) -> None:
        books.set_policy("bob", ASK)
        offered = incoming(1, "bob", 500)
        self.offer(books, offered)
        payment = self.received(books, bob)
        books.transaction(lambda cur: books.payments.decline(cur, payment, books.now_ms))
        assert books.clearing.answers[-1] == ("hs2.test", offered.wire_id, Reason.DECLINED)
        assert self.received(books, bob).state is State.DECLINED
        assert reason_of(self.offer(books, offered)) is Reason.DECLINED

    def test_an_answer_that_clearing_refuses_has_written_nothing(self, books: Books, bob: Acct) -> None:
        books.set_policy("bob", ASK)
        self.offer(books, incoming(1, "bob", 500))
        payment = self.received(books, bob)
        books.clearing.answer_refused = Refused(reason=Reason.CREDIT_LIMIT, message="Too much; try again later.")
        accepted = books.transaction(lambda cur: books.payments.accept(cur, bob, payment, books.now_ms))
        assert reason_of(accepted) is Reason.CREDIT_LIMIT
        declined = books.transaction(lambda cur: books.payments.decline(cur, payment, books.now_ms))
        assert reason_of(declined) is Reason.CREDIT_LIMIT
        assert self.received(books, bob) == payment

    def test_it_ends_when_the_payers_homeserver_aborts(self, books: Books, bob: Acct) -> None:
        offered = incoming(1, "bob", 500)
        self.offer(books, offered)
        books.transaction(lambda cur: books.payments.ended(cur, offered, Reason.CANCELLED, books.now_ms))
        assert self.received(books, bob).state is State.CANCELLED
        # An end of what was never accepted here leaves nothing.
        other = incoming(2, "bob", 5)
        books.transaction(lambda cur: books.payments.ended(cur, other, Reason.CANCELLED, books.now_ms))
        found = books.transaction(lambda cur: books.payments.find_received(cur, bob, payment_id(2), None))
        assert reason_of(found) is Reason.UNKNOWN_PAYMENT

    def test_clearing_watches_its_deadline_and_not_we(self, books: Books, bob: Acct) -> None:
        books.set_policy("bob", ASK)
        self.offer(books, incoming(1, "bob", 500))
        books.now_ms += ACCEPTANCE_MS
        assert books.transaction(lambda cur: store.due(cur, books.now_ms, 10)) == ()
        assert books.transaction(store.next_due_ms) is None


class TestReceipts:
    def test_an_end_owes_one_receipt(self, books: Books, alice: Acct, bob: Acct) -> None:
        order = books.order(1, "alice", "bob", 500)
        books.pay(order)
        (owed,) = books.transaction(lambda cur: store.owed(cur, books.now_ms, 10))
        assert (owed.key, owed.poster, owed.room_id, owed.event_id) == (key_of(order), Poster.PAYEE, ROOM, EVENT)
        assert not books.transaction(lambda cur: store.owe(cur, owed)), "there is one already"
        books.transaction(lambda cur: store.retry_receipt(cur, owed, books.now_ms + 1_000))
        assert books.transaction(lambda cur: store.owed(cur, books.now_ms, 10)) == ()
        later = books.transaction(lambda cur: store.owed_for(cur, owed.key))
        assert later is not None
        assert (later.attempts, later.due_ms) == (1, books.now_ms + 1_000)
        assert books.transaction(store.next_due_ms) == books.now_ms + 1_000
        books.transaction(lambda cur: store.settle_receipts(cur, [(owed.key, EventId("$receipt"))]))
        assert books.transaction(lambda cur: store.owed_for(cur, owed.key)) is None
        assert books.transaction(store.next_due_ms) is None

    def test_what_never_stood_in_a_room_owes_none(self, books: Books, alice: Acct, bob: Acct) -> None:
        order = books.order(1, "alice", "bob", 500)
        books.place(order)
        books.release(order)
        assert books.transaction(lambda cur: store.owed(cur, books.now_ms, 10)) == ()

    @pytest.mark.runs_once
    def test_what_changed_is_told_to_the_edge(self, books: Books, alice: Acct, bob: Acct) -> None:
        order = books.order(1, "alice", "bob", 500)
        books.pay(order)
        assert [payment.state for payment in books.changes.payments] == [State.HELD, State.COMPLETED]
        assert [receipt.key for receipt in books.changes.receipts] == [key_of(order)]

    def test_the_payees_homeserver_posts_where_the_payee_is_in_the_room(self, books: Books, bob: Acct) -> None:
        for number, joined in ((1, False), (2, True)):
            offered = incoming(number, "bob", 500)
            if joined:
                books.homeserver.joined.add((offered.payee.user_id, ROOM))
            books.transaction(lambda cur, o=offered: books.payments.offered(cur, o, books.now_ms))  # type: ignore[misc]
            books.hears_credit(offered, bob, {})
        owed = books.transaction(lambda cur: store.owed(cur, books.now_ms, 10))
        assert [(receipt.key.payment_id, receipt.poster) for receipt in owed] == [(payment_id(2), Poster.PAYEE)]


class TestHistory:
    def test_pages_go_from_the_newest_to_the_oldest_in_both_directions_without_gap_or_repetition(
        self, books: Books, alice: Acct, bob: Acct
    ) -> None:
        books.issue(bob, 1_000)
        for number in range(1, 8):
            payer, payee = ("alice", "bob") if number % 2 else ("bob", "alice")
            # Two of each time, so that the order must not hang on the time alone.
            books.now_ms += number % 2
            books.pay(books.order(number, payer, payee, number))
        seen: list[Payment] = []
        before: tuple[int, PaymentKey] | None = None
        for _ in range(4):
            page = books.transaction(lambda cur, b=before: books.payments.page(cur, alice, b, 2))  # type: ignore[misc]
            seen.extend(page.payments)
            before = (page.payments[-1].created_ms, page.payments[-1].key)
            assert page.more == (len(seen) < 7)
        assert len({payment.key for payment in seen}) == 7
        assert [payment.created_ms for payment in seen] == sorted((p.created_ms for p in seen), reverse=True)

    def test_a_payee_finds_a_payment_by_its_payer_and_only_their_own(
        self, books: Books, alice: Acct, bob: Acct
    ) -> None:
        carol = books.open_account("carol", 100)
        books.pay(books.order(1, "alice", "bob", 5))
        books.pay(books.order(1, "carol", "bob", 6))

        def find(viewer: Acct, payer: Acct | None) -> Any:
            key = None if payer is None else PayerKey(payer)
            return books.transaction(lambda cur: books.payments.find(cur, viewer, payment_id(1), key))

        assert find(bob, alice).money.amount_minor == 5
        assert find(bob, carol).money.amount_minor == 6
        assert reason_of(find(bob, None)) is Reason.CONFLICT
        assert find(alice, None).money.amount_minor == 5
        assert reason_of(find(alice, carol)) is Reason.UNKNOWN_PAYMENT

    def test_memos_are_erased_in_time(self, books: Books, alice: Acct, bob: Acct) -> None:
        old = books.order(1, "alice", "bob", 5, memo="old")
        books.pay(old)
        books.now_ms += 1_000
        new = books.order(2, "alice", "bob", 5, memo="new")
        books.pay(new)
        assert books.transaction(lambda cur: store.erase_memos(cur, books.now_ms)) == 1
        assert (books.find(old).memo, books.find(new).memo) == (None, "new")


class TestChecks:
    def test_a_hold_that_contradicts_its_payment_is_found(
        self, books: Books, transaction: Transaction, alice: Acct, bob: Acct
    ) -> None:
        order = books.order(1, "alice", "bob", 500)
        books.pay(order)
        assert books.violations() == ()
        transaction(lambda cur: cur.execute("UPDATE superapp_payment SET state = 'held', due_ms = NULL"))
        (violation,) = transaction(store.unmatched_holds)
        assert (violation.invariant, violation.off_by) == ("holds", 500)

    def test_a_hold_without_a_payment_is_found(self, books: Books, transaction: Transaction, alice: Acct) -> None:
        order = books.order(1, "alice", "@zoe:hs2.test", 500)
        books.place(order)
        transaction(lambda cur: cur.execute("DELETE FROM superapp_payment"))
        (violation,) = transaction(store.unmatched_holds)
        assert (violation.invariant, violation.off_by) == ("holds", 500)

    def test_refunds_over_the_original_are_found(
        self, books: Books, transaction: Transaction, alice: Acct, bob: Acct
    ) -> None:
        paid = books.order(1, "alice", "bob", 500)
        books.pay(paid)
        books.pay(books.order(2, "bob", "alice", 300, refund_of=paid.payment_id))
        assert transaction(store.excess_refunds) == ()
        transaction(lambda cur: cur.execute("UPDATE superapp_payment SET amount_minor = 200 WHERE refund_of IS NULL"))
        (violation,) = transaction(store.excess_refunds)
        assert (violation.invariant, violation.off_by) == ("refunds", 100)

    @pytest.mark.parametrize(
        "change",
        [
            "amount_minor = 0",
            "amount_minor = 9007199254740992",
            "state = 'paid'",
            "payer_acct = NULL, payee_acct = NULL",
            "venue = 'somewhere'",
            "due_ms = 5",
            "wire_id = 'wire'",
        ],
    )
    def test_the_database_refuses_what_no_payment_can_be(
        self, books: Books, transaction: Transaction, alice: Acct, bob: Acct, change: Any
    ) -> None:
        books.pay(books.order(1, "alice", "bob", 500))
        with pytest.raises(Exception, match=r"(?i)check constraint"):
            transaction(lambda cur: cur.execute("UPDATE superapp_payment SET " + change))

    def test_counts(self, books: Books, alice: Acct, bob: Acct) -> None:
        books.pay(books.order(1, "alice", "bob", 5))
        books.place(books.order(2, "alice", "bob", 5))
        assert books.transaction(store.counts) == (2, 1)
