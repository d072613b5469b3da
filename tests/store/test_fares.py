"""Calls by the minute in the database: what is put aside, paid by the second and given back, whatever happens."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from engines import Database
from fare_books import FARE_PACKAGES, FareBooks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from payment_books import incoming

from super_app.calls.model import State
from super_app.clearing.ports import Accept
from super_app.conferences.model import Stay
from super_app.db import Cursor, Transaction
from super_app.errors import Reason, Refused
from super_app.fares import rules, store
from super_app.fares.model import (
    ADMITTED_MS,
    AGREED_MS,
    ARREARS_MS,
    ASK_FOR_MS,
    FAILURES_MAX,
    GONE_MS,
    OPEN_MAX,
    RETURN_MS,
    TERMS_MAX,
    TERMS_OF_SERVER_MAX,
    USED_UP,
    Fare,
    FareState,
    Stepped,
    Terms,
    TermsState,
)
from super_app.ids import Acct, RoomId, UserId
from super_app.money import AssetCode, Money
from super_app.payments.model import Order, Payment
from super_app.safeguards.model import Settings, Tier, Window

pytestmark = pytest.mark.packages(*FARE_PACKAGES)
ZOE = "@zoe:hs2.test"
EUR = AssetCode("EUR")


@pytest.fixture
def books(transaction: Transaction) -> FareBooks:
    return FareBooks(transaction)


@pytest.fixture
def alice(books: FareBooks) -> Acct:
    return books.open_account("alice", 10_000)


@pytest.fixture
def bob(books: FareBooks) -> Acct:
    return books.open_account("bob")


def reason_of(result: object) -> Reason:
    assert isinstance(result, Refused), result
    return result.reason


def stepped(result: Stepped | None) -> Stepped:
    assert result is not None
    return result


def part_order(books: FareBooks, number: int, part: int, minor: int, talked_ms: int) -> Order:
    """The order of a part to somebody elsewhere, to play their homeserver with."""
    payment_id = rules.payment_id_of(books.fare_id(number), part)
    return books.order(int(payment_id, 16), "alice", ZOE, minor, memo=rules.memo_of(talked_ms))


class TestCallHere:
    def test_it_is_charged_by_the_second_and_the_rest_comes_back(
        self, books: FareBooks, alice: Acct, bob: Acct
    ) -> None:
        made = books.agree(1, "alice", "bob", 60)
        assert isinstance(made, Fare)
        assert (books.wallet(alice), books.aside(alice)) == ((9_820, 0), 180), "three minutes lie aside"
        call = books.ring("alice", "bob")
        books.pass_time(5)
        assert stepped(books.step(1, "alice")).fare.state is FareState.AGREED
        books.move_call(call, State.ANSWERED)
        books.pass_time(90)
        assert stepped(books.step(1, "alice")).fare.state is FareState.RUNNING
        assert books.violations() == ()
        books.pass_time(0.999)
        books.move_call(call, State.ENDED)
        ended = stepped(books.step(1, "alice")).fare
        assert (ended.state, ended.paid_minor, ended.reason) == (FareState.ENDED, 90, None)
        assert (books.wallet(alice), books.aside(alice), books.wallet(bob)) == ((9_910, 0), 0, (90, 0))
        assert books.step(1, "alice") is None, "it is over"
        assert books.violations() == ()

    @pytest.mark.parametrize("state", [State.MISSED, State.DECLINED, State.BUSY, State.CANCELLED, State.FAILED])
    def test_a_ring_that_nobody_answers_costs_nothing(
        self, books: FareBooks, alice: Acct, bob: Acct, state: State
    ) -> None:
        books.agree(1, "alice", "bob", 60)
        books.move_call(books.ring("alice", "bob"), state)
        ended = stepped(books.step(1, "alice")).fare
        assert (ended.state, ended.reason, ended.paid_minor) == (FareState.ENDED, state.value, 0)
        assert (books.wallet(alice), books.aside(alice), books.wallet(bob)) == ((10_000, 0), 0, (0, 0))

    def test_what_was_confirmed_and_never_rung_comes_back(self, books: FareBooks, alice: Acct, bob: Acct) -> None:
        books.agree(1, "alice", "bob", 60)
        books.now_ms += AGREED_MS - 1
        assert stepped(books.step(1, "alice")).fare.state is FareState.AGREED
        books.now_ms += 1
        assert stepped(books.step(1, "alice")).fare.reason == "expired"
        assert books.wallet(alice) == (10_000, 0)

    def test_each_confirmation_is_for_one_ring(self, books: FareBooks, alice: Acct, bob: Acct) -> None:
        books.agree(1, "alice", "bob", 60)
        books.agree(2, "alice", "bob", 60)
        books.pass_time(1)
        first, second = books.ring("alice", "bob", 1), books.ring("alice", "bob", 2)
        assert stepped(books.step(1, "alice")).fare.session_id == first
        assert stepped(books.step(2, "alice")).fare.session_id == second

    def test_it_is_extended_while_it_lasts_and_ends_at_the_second_at_which_the_money_is_used_up(
        self, books: FareBooks, alice: Acct, bob: Acct
    ) -> None:
        books.agree(1, "alice", "bob", 60, minutes=5)
        call = books.ring("alice", "bob")
        books.move_call(call, State.ANSWERED)
        books.pass_time(121)
        assert stepped(books.step(1, "alice")).fare.aside_minor == 240
        books.pass_time(60)
        assert stepped(books.step(1, "alice")).fare.aside_minor == 300, "and no more was confirmed"
        books.pass_time(88)
        assert not stepped(books.step(1, "alice")).warn
        books.pass_time(1)
        assert stepped(books.step(1, "alice")).warn
        books.pass_time(1)
        again = stepped(books.step(1, "alice"))
        assert (again.warn, again.hang_up) == (False, False)
        books.pass_time(29)
        assert stepped(books.step(1, "alice")).hang_up
        books.pass_time(7)
        books.move_call(call, State.ENDED)
        ended = stepped(books.step(1, "alice")).fare
        assert (ended.paid_minor, ended.reason) == (300, USED_UP), "what was talked beyond it is not charged"
        assert books.wallet(bob) == (300, 0)
        assert books.violations() == ()

    def test_it_ends_where_the_caller_has_no_more_money(self, books: FareBooks, bob: Acct) -> None:
        carol = books.open_account("carol", 200)
        books.agree(1, "carol", "bob", 60)
        call = books.ring("carol", "bob")
        books.move_call(call, State.ANSWERED)
        books.pass_time(151)
        assert stepped(books.step(1, "carol")).warn
        books.pass_time(30)
        assert stepped(books.step(1, "carol")).hang_up
        books.move_call(call, State.ENDED)
        books.step(1, "carol")
        assert (books.wallet(carol), books.wallet(bob)) == ((20, 0), (180, 0))
        assert books.violations() == ()

    def test_a_homeserver_that_was_away_for_hours_charges_no_more_than_was_set_aside(
        self, books: FareBooks, alice: Acct, bob: Acct
    ) -> None:
        books.agree(1, "alice", "bob", 60)
        call = books.ring("alice", "bob")
        books.move_call(call, State.ANSWERED)
        books.pass_time(30)
        books.step(1, "alice")
        books.pass_time(3 * 3_600)
        after = stepped(books.step(1, "alice"))
        assert after.hang_up
        assert after.fare.aside_minor == 180
        books.move_call(call, State.ENDED)
        books.step(1, "alice")
        assert books.wallet(bob) == (180, 0)

    def test_the_call_ends_in_the_wallet_when_the_payee_is_frozen(
        self, books: FareBooks, alice: Acct, bob: Acct
    ) -> None:
        books.agree(1, "alice", "bob", 60)
        call = books.ring("alice", "bob")
        books.move_call(call, State.ANSWERED)
        books.pass_time(60)
        books.deactivate("bob")
        books.move_call(call, State.ENDED)
        for _ in range(FAILURES_MAX):
            books.pass_time(1_800)
            books.step(1, "alice")
        ended = books.fare(1, "alice")
        assert (ended.state, ended.reason) == (FareState.ENDED, "payee_gone")
        assert (books.wallet(alice), books.aside(alice)) == ((10_000, 0), 0)
        assert books.violations() == ()


class TestAgreeing:
    def test_the_same_again_changes_nothing_and_another_is_a_conflict(
        self, books: FareBooks, alice: Acct, bob: Acct
    ) -> None:
        first = books.agree(1, "alice", "bob", 60)
        assert books.agree(1, "alice", "bob", 60) == first
        assert reason_of(books.agree(1, "alice", "bob", 61)) is Reason.CONFLICT
        assert books.wallet(alice) == (9_820, 0)

    def test_what_stands_against_it_sets_nothing_aside(self, books: FareBooks, alice: Acct, bob: Acct) -> None:
        carol = books.open_account("carol", 179)
        assert reason_of(books.agree(1, "carol", "bob", 60)) is Reason.INSUFFICIENT_FUNDS
        assert reason_of(books.agree(2, "alice", "@zoe:hs3.test", 60)) is Reason.NO_LINK
        for number in range(OPEN_MAX):
            assert isinstance(books.agree(10 + number, "alice", "bob", 1), Fare)
        assert reason_of(books.agree(3, "alice", "bob", 1)) is Reason.LIMIT_EXCEEDED
        books.homeserver.halted = True
        assert reason_of(books.agree(4, "alice", "bob", 60)) is Reason.PAYMENTS_HALTED
        assert books.wallet(carol) == (179, 0)
        assert books.violations() == ()

    def test_it_can_be_taken_back_until_somebody_answers(self, books: FareBooks, alice: Acct, bob: Acct) -> None:
        books.agree(1, "alice", "bob", 60)
        cancelled = books.transaction(lambda cur: books.fares.cancel(cur, books.key(1, "alice"), books.now_ms))
        assert isinstance(cancelled, Fare)
        assert (cancelled.state, books.wallet(alice)) == (FareState.ENDED, (10_000, 0))
        books.agree(2, "alice", "bob", 60)
        books.move_call(books.ring("alice", "bob"), State.ANSWERED)
        books.step(2, "alice")
        refused = books.transaction(lambda cur: books.fares.cancel(cur, books.key(2, "alice"), books.now_ms))
        assert reason_of(refused) is Reason.ALREADY_DECIDED
        unknown = books.transaction(lambda cur: books.fares.cancel(cur, books.key(3, "alice"), books.now_ms))
        assert reason_of(unknown) is Reason.UNKNOWN_CALL

    def test_what_lies_aside_counts_towards_the_limits_and_the_whole_call_is_judged_at_once(
        self, transaction: Transaction
    ) -> None:
        tier = Tier(sent={EUR: {Window.DAY: 1_000}})
        books = FareBooks(transaction, Settings(tiers={"all": tier}, default_tier="all"))
        books.open_account("alice", 10_000)
        books.open_account("bob")
        assert reason_of(books.agree(1, "alice", "bob", 60)) is Reason.LIMIT_EXCEEDED
        assert isinstance(books.agree(2, "alice", "bob", 60, minutes=16), Fare)
        assert reason_of(books.place(books.order(9, "alice", "bob", 900))) is Reason.LIMIT_EXCEEDED


class TestCallElsewhere:
    @pytest.fixture
    def talking(self, books: FareBooks, alice: Acct) -> FareBooks:
        assert isinstance(books.agree(1, "alice", ZOE, 60), Fare)
        books.move_call(books.ring("alice", ZOE), State.ANSWERED)
        return books

    def test_it_is_paid_after_each_minute_so_that_no_more_than_a_minute_is_owed(
        self, talking: FareBooks, alice: Acct
    ) -> None:
        talking.pass_time(59)
        assert not stepped(talking.step(1, "alice")).paying
        talking.pass_time(1)
        first = stepped(talking.step(1, "alice"))
        assert (first.paying, first.fare.paid_minor, first.fare.aside_minor) == (True, 60, 120)
        assert talking.wallet(alice) == (9_820, 60)
        talking.pass_time(60)
        second = stepped(talking.step(1, "alice")).fare
        assert second.parts == 1, "one at a time"
        order = part_order(talking, 1, 0, 60, 60_000)
        talking.hears_commit(order)
        talking.hears_receipt(order, {"signed": True})
        assert stepped(talking.step(1, "alice")).fare.paid_minor == 120
        assert talking.violations() == ()

    def test_no_more_is_charged_than_both_homeservers_can_show(self, talking: FareBooks, alice: Acct) -> None:
        call = talking.fare(1, "alice").session_id
        talking.pass_time(40)
        talking.step(1, "alice")
        call = talking.fare(1, "alice").session_id
        assert call is not None
        talking.move_call(call, State.ENDED)
        assert stepped(talking.step(1, "alice")).ask
        paying = stepped(talking.step(1, "alice", theirs_ms=25_000, told=True))
        assert (paying.fare.paid_minor, paying.fare.talked_ms) == (25, 25_000)
        assert talking.wallet(alice) == (9_975, 25), "the rest came back at once"
        order = part_order(talking, 1, 0, 25, 25_000)
        talking.hears_commit(order)
        talking.hears_receipt(order, {})
        assert stepped(talking.step(1, "alice")).fare.state is FareState.ENDED
        assert talking.violations() == ()

    def test_the_callees_homeserver_cannot_make_a_call_longer(self, talking: FareBooks) -> None:
        talking.pass_time(40)
        call = stepped(talking.step(1, "alice")).fare.session_id
        assert call is not None
        talking.move_call(call, State.ENDED)
        assert stepped(talking.step(1, "alice", theirs_ms=10**9, told=True)).fare.paid_minor == 40

    def test_ones_own_measure_counts_alone_where_the_other_homeserver_is_silent_for_long(
        self, talking: FareBooks
    ) -> None:
        talking.pass_time(40)
        call = stepped(talking.step(1, "alice")).fare.session_id
        assert call is not None
        talking.move_call(call, State.ENDED)
        talking.now_ms += ASK_FOR_MS - 1
        assert stepped(talking.step(1, "alice")).ask
        talking.now_ms += 1
        assert stepped(talking.step(1, "alice")).fare.paid_minor == 40

    def test_a_part_that_comes_to_nothing_is_paid_again_once(self, talking: FareBooks, alice: Acct) -> None:
        talking.pass_time(60)
        talking.step(1, "alice")
        talking.hears_abort(part_order(talking, 1, 0, 60, 60_000), Reason.EXPIRED)
        failed = talking.fare(1, "alice")
        assert (failed.paid_minor, failed.aside_minor, failed.failures) == (0, 180, 1)
        assert talking.violations() == ()
        assert stepped(talking.step(1, "alice")).fare.parts == 1, "not at once"
        talking.pass_time(5)
        again = stepped(talking.step(1, "alice")).fare
        assert (again.parts, again.paid_minor) == (2, 65)
        talking.hears_commit(part_order(talking, 1, 1, 65, 65_000))
        talking.hears_void(part_order(talking, 1, 1, 65, 65_000), Reason.PAYEE_GONE)
        assert talking.fare(1, "alice").paid_minor == 0
        assert talking.violations() == ()

    def test_a_call_that_cannot_be_paid_ends(self, talking: FareBooks, alice: Acct) -> None:
        talking.clearing.links.clear()
        talking.pass_time(60)
        steps: list[Stepped] = []
        for _ in range(FAILURES_MAX):
            steps.append(stepped(talking.step(1, "alice")))
            talking.pass_time(1_800)
        last = steps[-1]
        assert last.hang_up
        assert last.fare.reason == "no_link"


class TestCallee:
    def test_payments_of_a_call_are_let_in_whatever_the_callee_has_set_for_strangers(
        self, books: FareBooks, bob: Acct
    ) -> None:
        books.set_policy("bob", {"v": 1, "from": ["nobody"], "accept": "ask"})
        books.terms(1, ZOE, "bob", 60)
        part = rules.payment_id_of(books.fare_id(1), 0)
        paid = books.transaction(
            lambda cur: books.payments.offered(cur, incoming(int(part, 16), "bob", 60), books.now_ms)
        )
        assert isinstance(paid, Accept)
        other = books.transaction(lambda cur: books.payments.offered(cur, incoming(7, "bob", 60), books.now_ms))
        assert reason_of(other) is Reason.NOT_ALLOWED

    def test_terms_let_one_ring_through_at_no_lower_price(self, books: FareBooks, bob: Acct) -> None:
        terms = books.terms(1, ZOE, "bob", 60)
        price = terms.price

        def agreed(minor: int) -> int | None:
            asked = type(price)(amount_minor=minor, currency=price.currency)
            return books.transaction(lambda cur: books.fares.agreed_ms(cur, bob, terms.caller, asked, books.now_ms))

        assert agreed(60) == agreed(59) == books.now_ms
        assert agreed(61) is None
        books.pass_time(1)
        books.ring(ZOE, "bob")
        self.follow(books)
        assert agreed(60) is None, "it is used"

    def test_it_ends_a_call_that_is_not_paid_for(self, books: FareBooks, bob: Acct) -> None:
        books.terms(1, ZOE, "bob", 60)
        call = books.ring(ZOE, "bob")
        books.move_call(call, State.ANSWERED)
        books.now_ms += ARREARS_MS - 1
        assert self.follow(books) is None
        books.now_ms += 1
        assert self.follow(books) == call

    def test_it_ends_no_call_that_is_paid_for(self, books: FareBooks, bob: Acct) -> None:
        books.terms(1, ZOE, "bob", 60)
        books.move_call(books.ring(ZOE, "bob"), State.ANSWERED)
        books.now_ms += ARREARS_MS
        part = incoming(int(rules.payment_id_of(books.fare_id(1), 0), 16), "bob", 60)
        books.transaction(lambda cur: books.payments.offered(cur, part, books.now_ms))
        books.hears_credit(part, bob, {})
        assert self.follow(books) is None

    def test_it_tells_how_long_the_call_was_once_it_is_over(self, books: FareBooks, bob: Acct) -> None:
        terms = books.terms(1, ZOE, "bob", 60)
        call = books.ring(ZOE, "bob")
        self.follow(books)

        def told() -> int | None:
            def read(cur: Cursor) -> int | None:
                return books.fares.talked_ms(cur, terms.caller, books.accepted(cur, terms))

            return books.transaction(read)

        assert told() is None
        books.move_call(call, State.ANSWERED)
        books.pass_time(12)
        assert told() is None
        books.move_call(call, State.ENDED)
        assert told() == 12_000

    @staticmethod
    def follow(books: FareBooks) -> object:
        terms = books.terms(1, ZOE, "bob", 60)
        return books.transaction(lambda cur: books.fares.follow(cur, terms.caller, terms, books.now_ms))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    price=st.integers(1, 500),
    minutes=st.integers(1, 4),
    steps=st.lists(
        st.tuples(st.integers(0, 70), st.sampled_from(["step", "abort", "commit", "void", "end", "told"])), max_size=14
    ),
)
def test_at_every_step_nothing_is_lost_made_or_charged_beyond_the_talk(
    next_database: Callable[..., Database], price: int, minutes: int, steps: list[tuple[int, str]]
) -> None:
    books = FareBooks(next_database(*FARE_PACKAGES).connect(rerun=False))
    alice = books.open_account("alice", 1_000)
    if not isinstance(books.agree(1, "alice", ZOE, price, minutes), Fare):
        return
    call = books.ring("alice", ZOE)
    books.move_call(call, State.ANSWERED)
    answered_ms, ended_ms, delivered = books.now_ms, None, 0
    committed: Order | None = None
    for seconds, deed in steps:
        books.pass_time(seconds)
        fare = books.fare(1, "alice")
        payment_id = rules.payment_id_of(books.fare_id(1), fare.parts - 1) if fare.parts else None
        found = (
            None
            if payment_id is None
            else books.transaction(partial(books.payments.find, viewer=alice, payment_id=payment_id, payer=None))
        )
        order = None
        if isinstance(found, Payment) and not found.state.final:
            order = books.order(int(found.payment_id, 16), "alice", ZOE, found.money.amount_minor, memo=found.memo)
        if deed == "step":
            books.step(1, "alice")
        elif deed == "end" and ended_ms is None:
            ended_ms = books.now_ms
            books.move_call(call, State.ENDED)
        elif deed == "told":
            books.step(1, "alice", theirs_ms=None, told=True)
        elif order is not None and deed == "abort" and committed is None:
            books.hears_abort(order, Reason.EXPIRED)
        elif order is not None and deed == "commit":
            if committed is None:
                books.hears_commit(order)
                committed = order
            else:
                books.hears_receipt(order, {})
                delivered, committed = delivered + order.money.amount_minor, None
        elif order is not None and deed == "void" and committed is not None:
            books.hears_void(order, Reason.PAYEE_GONE)
            committed = None
        assert books.violations() == ()
        fare = books.fare(1, "alice")
        talked_ms = (ended_ms or books.now_ms) - answered_ms
        assert fare.paid_minor <= min(rules.cost_minor(price, talked_ms), fare.ceiling_minor)
        available, held = books.wallet(alice)
        on_its_way = committed.money.amount_minor if committed is not None else 0
        assert available + held + books.aside(alice) + delivered + on_its_way == 1_000


LINK, OTHER_LINK = "1" * 32, "2" * 32
AWAY = Stay(is_in=False)


def here(since_ms: int | None = None) -> Stay:
    return Stay(is_in=True, since_ms=since_ms)


class TestBehindALink:
    def test_it_is_charged_from_coming_in_to_leaving_and_no_ring_uses_it(
        self, books: FareBooks, alice: Acct, bob: Acct
    ) -> None:
        books.agree(1, "alice", "bob", 60, link_id=LINK)
        ring = books.ring("alice", "bob")
        books.move_call(ring, State.ANSWERED)
        books.pass_time(1_000)
        assert stepped(books.step(1, "alice", stay=AWAY)).fare.state is FareState.AGREED, "they are not in the call"
        came_ms = books.now_ms
        books.pass_time(0.7)
        running = stepped(books.step(1, "alice", stay=here(came_ms))).fare
        assert (running.state, running.answer_ms, running.session_id) == (FareState.RUNNING, came_ms, None)
        books.now_ms = came_ms + 91_000
        left = Stay(is_in=False, left_ms=came_ms + 90_999)
        ended = stepped(books.step(1, "alice", stay=left)).fare
        assert (ended.state, ended.paid_minor, ended.talked_ms) == (FareState.ENDED, 90, 90_999)
        assert (books.wallet(alice), books.aside(alice), books.wallet(bob)) == ((9_910, 0), 0, (90, 0))
        assert books.violations() == ()

    def test_who_came_before_they_agreed_is_charged_from_then_and_no_time_of_the_future_counts(
        self, books: FareBooks, alice: Acct, bob: Acct
    ) -> None:
        agreed_ms = books.now_ms
        books.agree(1, "alice", "bob", 60, link_id=LINK)
        books.pass_time(10)
        assert stepped(books.step(1, "alice", stay=here(agreed_ms - 60_000))).fare.answer_ms == agreed_ms
        books.agree(2, "alice", "bob", 60, link_id=OTHER_LINK)
        assert stepped(books.step(2, "alice", stay=here(books.now_ms + 60_000))).fare.answer_ms == books.now_ms

    def test_having_left_before_makes_no_visit_shorter(self, books: FareBooks, alice: Acct, bob: Acct) -> None:
        books.agree(1, "alice", "bob", 60, link_id=LINK)
        before_ms = books.now_ms
        books.pass_time(5)
        # Connected at the SFU, with the membership of an earlier visit that was left.
        books.step(1, "alice", stay=here())
        books.pass_time(20)
        ended = stepped(books.step(1, "alice", stay=Stay(is_in=False, left_ms=before_ms))).fare
        assert (ended.state, ended.paid_minor) == (FareState.ENDED, 20)

    def test_half_an_hour_without_coming_in_gives_it_all_back_to_the_millisecond(
        self, books: FareBooks, alice: Acct, bob: Acct
    ) -> None:
        books.agree(1, "alice", "bob", 60, link_id=LINK)
        books.now_ms += ADMITTED_MS - 1
        assert stepped(books.step(1, "alice", stay=AWAY)).fare.state is FareState.AGREED
        books.now_ms += 1
        ended = stepped(books.step(1, "alice", stay=AWAY)).fare
        assert (ended.state, ended.reason) == (FareState.ENDED, Reason.EXPIRED.value)
        assert (books.wallet(alice), books.aside(alice)) == ((10_000, 0), 0)

    def test_it_lets_into_its_own_call_at_its_own_price_while_it_lasts(
        self, books: FareBooks, alice: Acct, bob: Acct
    ) -> None:
        books.agree(1, "alice", "bob", 60, link_id=LINK)
        caller, callee, room_id = books.user("alice"), books.user("bob"), RoomId("!call:hs1.test")

        def lets_in(link_id: str = LINK, minor: int = 60, payee: UserId = callee, room: RoomId = room_id) -> bool:
            price = Money(amount_minor=minor, currency=EUR)
            return books.transaction(
                lambda cur: books.fares.lets_in(cur, caller, link_id, payee, price, room, books.now_ms)
            )

        assert (lets_in(), lets_in(OTHER_LINK), lets_in(minor=59), lets_in(minor=61)) == (True, False, False, False)
        assert not lets_in(payee=caller)
        assert books.fare(1, "alice").room_id == room_id, "the room that let them in says that the link leads there"
        assert not books.transaction(lambda cur: books.fares.may_ring(cur, alice, callee, None, books.now_ms))
        books.step(1, "alice", stay=here())
        assert lets_in(minor=61), "what was begun goes on at its price"
        assert not lets_in(room=RoomId("!other:hs1.test")), "and in its room"
        books.step(1, "alice", stay=AWAY)
        assert not lets_in()

    def test_another_confirmation_takes_the_place_of_the_one_before_and_one_visit_is_paid_once(
        self, books: FareBooks, alice: Acct, bob: Acct
    ) -> None:
        books.agree(1, "alice", "bob", 60, link_id=LINK)
        books.agree(2, "alice", "bob", 90, link_id=LINK)
        assert (books.fare(1, "alice").state, books.fare(1, "alice").reason) == (FareState.ENDED, "cancelled")
        assert (books.wallet(alice), books.aside(alice)) == ((9_730, 0), 270)
        assert books.step(1, "alice", stay=here()) is None
        came_ms = books.now_ms
        books.step(2, "alice", stay=here(came_ms))
        assert reason_of(books.agree(3, "alice", "bob", 90, link_id=LINK)) is Reason.CONFLICT, "they are in the call"
        books.now_ms = came_ms + 60_000
        books.step(2, "alice", stay=Stay(is_in=False, left_ms=came_ms + 60_000))
        assert (books.wallet(bob), books.aside(alice)) == ((90, 0), 0)
        assert books.violations() == ()

    def test_who_has_just_enough_confirms_a_changed_price(self, books: FareBooks, bob: Acct) -> None:
        zed = books.open_account("zed", 200)
        books.agree(1, "zed", "bob", 60, link_id=LINK)
        assert reason_of(books.agree(2, "zed", "bob", 70, link_id=LINK)) is Reason.INSUFFICIENT_FUNDS
        assert books.fare(1, "zed").state is FareState.AGREED, "a refusal has written nothing"
        assert isinstance(books.agree(3, "zed", "bob", 65, link_id=LINK), Fare)
        assert (books.wallet(zed), books.aside(zed)) == ((5, 0), 195)

    def test_the_payees_homeserver_admits_follows_and_tells(self, books: FareBooks, bob: Acct) -> None:
        terms = books.terms(1, ZOE, "bob", 60, LINK)
        price = terms.price

        def admits(link_id: str = LINK, minor: int = 60) -> bool:
            asked = Money(amount_minor=minor, currency=EUR)
            return books.transaction(lambda cur: books.fares.is_admitted(cur, terms.caller, link_id, asked))

        def follow(stay: Stay) -> bool:
            return books.transaction(lambda cur: books.fares.follow_stay(cur, terms, stay, books.now_ms))

        def told() -> int | None:
            def read(cur: Cursor) -> int | None:
                return books.fares.talked_ms(cur, terms.caller, books.accepted(cur, terms))

            return books.transaction(read)

        assert (admits(), admits(OTHER_LINK), admits(minor=59)) == (True, False, False)
        agreed = books.transaction(lambda cur: books.fares.agreed_ms(cur, bob, terms.caller, price, books.now_ms))
        assert agreed is None, "it lets nobody ring"
        began_ms = books.now_ms
        assert not follow(here())
        books.now_ms = began_ms + ARREARS_MS - 1
        assert not follow(here())
        books.now_ms += 1
        assert follow(here()), "nothing was paid for three minutes"
        # Who is back in a moment was not away; who stays away has left when they did.
        left_ms = books.now_ms
        assert not follow(AWAY)
        books.now_ms += RETURN_MS - 1
        assert follow(here())
        assert told() is None
        follow(AWAY)
        books.now_ms += RETURN_MS
        follow(AWAY)
        assert told() == left_ms + RETURN_MS - 1 - began_ms
        assert not admits()

    def test_who_is_said_to_have_left_is_let_in_no_more_and_shown_out_if_they_have_not(
        self, books: FareBooks, bob: Acct
    ) -> None:
        terms = books.terms(1, ZOE, "bob", 60, LINK)

        def follow(stay: Stay) -> bool:
            return books.transaction(lambda cur: books.fares.follow_stay(cur, terms, stay, books.now_ms))

        follow(here())
        books.pass_time(30)
        told = books.transaction(lambda cur: books.fares.left(cur, terms.caller, terms, books.now_ms))
        assert (told.state, told.end_ms) == (TermsState.RUNNING, books.now_ms)
        assert books.transaction(lambda cur: books.fares.talked_ms(cur, terms.caller, told)) == 30_000
        assert not books.transaction(lambda cur: books.fares.is_admitted(cur, terms.caller, LINK, terms.price))
        books.now_ms += GONE_MS - 1
        assert not follow(here())
        books.now_ms += 1
        assert follow(here())
        assert not follow(AWAY)
        assert books.transaction(lambda cur: store.terms_of_link(cur, terms.caller, LINK)) == (), "it is over"

    def test_nobody_agrees_to_more_than_is_looked_after(self, books: FareBooks, bob: Acct) -> None:
        first = books.terms(1, ZOE, "bob", 60, LINK)

        def accept(number: int, **changes: Any) -> Terms | Refused:
            wanted = replace(first, fare_id=books.fare_id(number), **changes)
            return books.transaction(lambda cur: books.fares.accept(cur, wanted))

        for number in range(2, 2 * TERMS_MAX):
            accept(number)
        assert len(books.transaction(lambda cur: store.live_terms(cur, 100))) == 1, "another one takes its place"
        for number in range(TERMS_MAX - 1):
            assert isinstance(accept(100 + number, link_id=f"{number:032x}"), Terms)
        assert reason_of(accept(200, link_id=OTHER_LINK)) is Reason.LIMIT_EXCEEDED
        assert accept(100, link_id=f"{0:032x}") == replace(first, fare_id=books.fare_id(100), link_id=f"{0:032x}")

        def flood(cur: Cursor) -> Refused | None:
            for number in range(TERMS_OF_SERVER_MAX):
                caller = UserId(f"@c{number}:hs2.test")
                found = books.fares.accept(cur, replace(first, caller=caller, fare_id=books.fare_id(number)))
                if isinstance(found, Refused):
                    return found
            return None

        assert reason_of(books.transaction(flood)) is Reason.LIMIT_EXCEEDED
        assert len(books.transaction(lambda cur: store.live_terms(cur, 1_000))) == TERMS_OF_SERVER_MAX
        other = [accept(1, caller=UserId(f"@zoe:{server}")) for server in ("s2.test", "hs1.test", "x-hs2.test")]
        assert [isinstance(each, Terms) for each in other] == [True, True, True]

    def test_calls_that_go_on_are_looked_at_before_those_that_may_come(self, books: FareBooks, bob: Acct) -> None:
        books.terms(1, ZOE, "bob", 60, LINK)
        books.pass_time(1)
        later = books.terms(2, "@yan:hs2.test", "bob", 60, LINK)
        books.transaction(lambda cur: books.fares.follow_stay(cur, later, here(), books.now_ms))
        (seen,) = books.transaction(lambda cur: store.live_terms(cur, 1))
        assert seen.fare_id == later.fare_id

    def test_nothing_is_written_where_nothing_changes(self, books: FareBooks, bob: Acct) -> None:
        terms = books.terms(1, ZOE, "bob", 60, LINK)

        def is_quiet(stay: Stay | None) -> bool:
            (known,) = books.transaction(lambda cur: store.live_terms(cur, 1))
            return books.transaction(lambda cur: books.fares.is_quiet(cur, known, stay, books.now_ms))

        assert (is_quiet(AWAY), is_quiet(here())) == (True, False)
        books.transaction(lambda cur: books.fares.follow_stay(cur, terms, here(), books.now_ms))
        assert (is_quiet(AWAY), is_quiet(here())) == (False, True)
        books.now_ms += ARREARS_MS
        assert not is_quiet(here()), "it is not paid for"

    def test_what_is_over_stays_over_whoever_writes_at_the_same_time(self, books: FareBooks, bob: Acct) -> None:
        terms = books.terms(1, ZOE, "bob", 60, LINK)
        books.transaction(lambda cur: books.fares.left(cur, terms.caller, terms, books.now_ms))

        def written(state: TermsState) -> Terms | None:
            # As it was read before, by somebody who writes now.
            books.transaction(lambda cur: store.put_terms(cur, replace(terms, state=state)))
            return books.transaction(lambda cur: store.terms_of(cur, terms.caller, terms.fare_id))

        running = written(TermsState.RUNNING)
        assert running is not None
        assert running.told_ms == books.now_ms
        written(TermsState.OVER)
        over = written(TermsState.RUNNING)
        assert over is not None
        assert over.state is TermsState.OVER

    def test_a_look_that_is_late_ends_no_call_of_somebody_with_money(
        self, books: FareBooks, alice: Acct, bob: Acct
    ) -> None:
        books.agree(1, "alice", "bob", 60, link_id=LINK)
        came_ms = books.now_ms
        books.step(1, "alice", stay=here(came_ms))
        for seconds in (100, 200, 299):
            books.now_ms = came_ms + seconds * 1_000
            looked = stepped(books.step(1, "alice", stay=here(came_ms)))
            assert (looked.hang_up, looked.fare.reason) == (False, None)
        assert books.violations() == ()
