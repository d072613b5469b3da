"""Limits, PINs and locks over the tables, and the payments that they hold back."""

import pytest
from payment_books import EUR, HERE, PACKAGES, Books, incoming

from super_app.db import Transaction
from super_app.errors import Reason, Refused
from super_app.ids import Acct, EventId
from super_app.money import AssetCode
from super_app.payments.model import Payment, State
from super_app.safeguards.model import CAREFUL_MS, DAY_MS, LOCKS_MS, TRIES, Direction, Pin, Settings, Tier, Use, Window

pytestmark = pytest.mark.packages(*PACKAGES)
HASH = "$argon2id$v=19$m=65536,t=2,p=1$c2FsdA$aGFzaA"
BASIC = Tier(
    sent={EUR: {Window.PAYMENT: 600, Window.DAY: 1_000, Window.WEEK: 1_500}},
    received={EUR: {Window.DAY: 2_000}},
    balance={EUR: 20_000},
)
SETTINGS = Settings(
    default_tier="basic", tiers={"basic": BASIC, "plus": Tier()}, pin_above={EUR: 10_000}, after_lock={EUR: 300}
)


@pytest.fixture
def books(transaction: Transaction) -> Books:
    return Books(transaction, SETTINGS)


@pytest.fixture
def alice(books: Books) -> Acct:
    return books.open_account("alice", 19_000)


@pytest.fixture
def bob(books: Books) -> Acct:
    return books.open_account("bob")


def reason_of(result: object) -> Reason:
    assert isinstance(result, Refused), result
    return result.reason


def pay(books: Books, number: int, minor: int, *, proven: bool = False) -> Payment | Refused:
    """From alice to bob, completed if nothing is against it."""
    order = books.order(number, "alice", "bob", minor)
    placed = books.place(order, proven=proven)
    if not isinstance(placed, Refused):
        books.bind(order, EventId(f"$event{number}"))
    return placed


def set_pin(books: Books, acct: Acct) -> None:
    done = books.transaction(lambda cur: books.safeguards.set_pin(cur, acct, HASH, None, books.now_ms))
    assert not isinstance(done, Refused)


def put_in_tier(books: Books, acct: Acct, tier: str | None) -> object:
    return books.transaction(lambda cur: books.safeguards.put_in_tier(cur, acct, tier))


class TestLimits:
    def test_of_a_payment_a_day_and_a_week(self, books: Books, alice: Acct, bob: Acct) -> None:
        assert reason_of(pay(books, 1, 601)) is Reason.LIMIT_EXCEEDED
        pay(books, 2, 600)
        refused = pay(books, 3, 401)
        assert reason_of(refused) is Reason.LIMIT_EXCEEDED
        assert isinstance(refused, Refused)
        assert refused.fields == {"currency": EUR, "window": "day", "limit": 1_000, "left": 400}
        assert isinstance(pay(books, 4, 400), Payment)
        # A day later the day is free again, and the week is not.
        books.now_ms += DAY_MS
        assert reason_of(pay(books, 5, 501)) is Reason.LIMIT_EXCEEDED
        assert isinstance(pay(books, 6, 500), Payment)

    def test_of_a_month_and_of_what_one_receives_roll_on_to_the_millisecond(self, transaction: Transaction) -> None:
        sends = Tier(sent={EUR: {Window.MONTH: 900}})
        receives = Tier(received={EUR: {Window.WEEK: 700, Window.MONTH: 1_000}})
        books = Books(transaction, Settings(default_tier="sends", tiers={"sends": sends, "receives": receives}))
        alice, bob = books.open_account("alice", 19_000), books.open_account("bob")
        put_in_tier(books, bob, "receives")
        began_ms = books.now_ms
        assert isinstance(pay(books, 1, 700), Payment)
        # He has all that he may in a week; she does not learn of it.
        held_back = pay(books, 2, 1)
        assert reason_of(held_back) is not Reason.LIMIT_EXCEEDED
        books.now_ms = began_ms + 7 * DAY_MS
        refused = pay(books, 3, 201)
        assert isinstance(refused, Refused)
        assert refused.fields == {"currency": EUR, "window": "month", "limit": 900, "left": 200}
        assert isinstance(pay(books, 4, 200), Payment)
        books.now_ms = began_ms + 30 * DAY_MS - 1
        assert reason_of(pay(books, 5, 1)) is Reason.LIMIT_EXCEEDED
        books.now_ms += 1
        assert isinstance(pay(books, 6, 700), Payment)
        # Of the last thirty days he has 200 and 700 now.
        put_in_tier(books, alice, "receives")
        assert not isinstance(pay(books, 7, 101), Payment)
        used = books.transaction(lambda cur: books.safeguards.limits(cur, bob, books.now_ms))
        assert {(use.window, use.used_minor) for use in used if use.direction is Direction.RECEIVED} == {
            (Window.WEEK, 700),
            (Window.MONTH, 900),
        }

    def test_a_day_is_over_to_the_millisecond(self, books: Books, alice: Acct, bob: Acct) -> None:
        pay(books, 1, 600)
        pay(books, 2, 400)
        books.now_ms += DAY_MS - 1
        assert reason_of(pay(books, 3, 1)) is Reason.LIMIT_EXCEEDED
        books.now_ms += 1
        assert isinstance(pay(books, 4, 1), Payment)

    def test_what_came_to_nothing_frees_its_part(self, books: Books, alice: Acct, bob: Acct) -> None:
        order = books.order(1, "alice", "bob", 600)
        books.place(order)
        assert reason_of(pay(books, 2, 500)) is Reason.LIMIT_EXCEEDED
        books.transaction(lambda cur: books.payments.cancel(cur, alice, order.payment_id, books.now_ms))
        assert isinstance(pay(books, 3, 500), Payment)

    def test_who_has_no_money_is_told_that_first(self, books: Books, alice: Acct, bob: Acct) -> None:
        assert reason_of(pay(books, 1, 19_001)) is Reason.INSUFFICIENT_FUNDS

    def test_a_refund_is_not_limited_and_counts_for_nothing(self, books: Books, alice: Acct, bob: Acct) -> None:
        put_in_tier(books, alice, "plus")
        put_in_tier(books, bob, "plus")
        paid = books.order(1, "alice", "bob", 5_000)
        books.place(paid)
        books.bind(paid)
        put_in_tier(books, bob, None)
        back = books.order(2, "bob", "alice", 5_000, refund_of=paid.payment_id)
        assert isinstance(books.place(back), Payment)
        used = books.transaction(lambda cur: books.safeguards.limits(cur, bob, books.now_ms))
        assert {use.used_minor for use in used if use.direction is Direction.SENT} == {0}

    def test_of_the_payee_are_kept_and_not_told(self, books: Books, alice: Acct, bob: Acct) -> None:
        put_in_tier(books, alice, "plus")
        pay(books, 1, 2_000)
        refused = pay(books, 2, 1)
        assert reason_of(refused) is Reason.PAYEE_LIMIT
        books.issue(bob, 17_999)
        books.now_ms += DAY_MS
        assert isinstance(pay(books, 3, 1), Payment)
        assert reason_of(pay(books, 4, 1)) is Reason.PAYEE_LIMIT

    def test_of_a_payee_are_kept_against_other_homeservers_too(self, books: Books, bob: Acct) -> None:
        taken = incoming(1, "bob", 2_000)
        assert not isinstance(books.transaction(lambda cur: books.payments.offered(cur, taken, books.now_ms)), Refused)
        more = incoming(2, "bob", 1)
        refused = books.transaction(lambda cur: books.payments.offered(cur, more, books.now_ms))
        assert reason_of(refused) is Reason.PAYEE_LIMIT

    def test_another_tier_has_other_limits_and_an_unknown_one_is_refused(
        self, books: Books, alice: Acct, bob: Acct
    ) -> None:
        put_in_tier(books, alice, "plus")
        assert isinstance(pay(books, 1, 1_900), Payment)
        assert reason_of(put_in_tier(books, alice, "gold")) is Reason.INVALID_VALUE

    def test_what_is_used_is_shown(self, books: Books, alice: Acct, bob: Acct) -> None:
        pay(books, 1, 600)
        used = books.transaction(lambda cur: books.safeguards.limits(cur, alice, books.now_ms))
        day = Use(direction=Direction.SENT, window=Window.DAY, currency=EUR, limit_minor=1_000, used_minor=600)
        assert day in used


class TestPins:
    def test_an_amount_above_what_the_operator_says_takes_the_pin(self, books: Books, alice: Acct, bob: Acct) -> None:
        for acct in (alice, bob):
            put_in_tier(books, acct, "plus")
        assert isinstance(pay(books, 1, 5_000), Payment)
        assert reason_of(pay(books, 2, 10_001)) is Reason.PIN_NOT_SET
        set_pin(books, alice)
        assert reason_of(pay(books, 2, 10_001)) is Reason.PIN_REQUIRED
        # Nothing was written, so the same order passes once the PIN has come with it.
        assert isinstance(pay(books, 2, 10_001, proven=True), Payment)

    def test_who_sets_one_is_asked_at_every_payment_until_they_say_when(
        self, books: Books, alice: Acct, bob: Acct
    ) -> None:
        set_pin(books, alice)
        assert reason_of(pay(books, 1, 1)) is Reason.PIN_REQUIRED
        above = {EUR: 200}
        books.transaction(lambda cur: books.safeguards.ask_for_pin(cur, alice, above=above, new_payee=True))
        assert reason_of(pay(books, 2, 1)) is Reason.PIN_REQUIRED
        assert isinstance(pay(books, 3, 1, proven=True), Payment)
        assert isinstance(pay(books, 4, 200), Payment)
        assert reason_of(pay(books, 5, 201)) is Reason.PIN_REQUIRED
        assert isinstance(pay(books, 6, 1), Payment)

    def test_tries_count_before_they_are_looked_at_and_a_right_one_clears_them(self, books: Books, alice: Acct) -> None:
        set_pin(books, alice)

        def begin() -> Pin | Refused:
            return books.transaction(lambda cur: books.safeguards.begin_try(cur, alice, books.now_ms))

        tried = [begin() for _ in range(TRIES)]
        assert [pin.tries for pin in tried if isinstance(pin, Pin)] == [1, 2, 3, 4, 5]
        assert reason_of(begin()) is Reason.PIN_LOCKED
        books.now_ms += LOCKS_MS[0]
        again = begin()
        assert isinstance(again, Pin)
        books.transaction(lambda cur: books.safeguards.end_try(cur, alice, again))
        found = books.transaction(lambda cur: books.safeguards.find(cur, alice))
        assert found.pin == Pin(hash=HASH, set_ms=books.now_ms - LOCKS_MS[0])

    def test_one_that_was_proven_does_not_replace_another_that_was_set_meanwhile(
        self, books: Books, alice: Acct
    ) -> None:
        set_pin(books, alice)
        other = books.transaction(lambda cur: books.safeguards.set_pin(cur, alice, "other", None, books.now_ms))
        assert reason_of(other) is Reason.CONFLICT

    def test_when_to_ask_is_kept_when_it_is_changed_and_forgotten_when_it_is_dropped(
        self, books: Books, alice: Acct
    ) -> None:
        set_pin(books, alice)
        above = {EUR: 200, AssetCode("PTS"): 3}
        books.transaction(lambda cur: books.safeguards.ask_for_pin(cur, alice, above=above, new_payee=True))
        found = books.transaction(lambda cur: books.safeguards.find(cur, alice))
        before = found.pin
        changed = books.transaction(lambda cur: books.safeguards.set_pin(cur, alice, "new", before, books.now_ms))
        assert not isinstance(changed, Refused)
        assert changed.pin == Pin(hash="new", set_ms=books.now_ms, above=above, new_payee=True)
        assert books.transaction(lambda cur: books.safeguards.find(cur, alice)) == changed
        dropped = books.transaction(lambda cur: books.safeguards.drop_pin(cur, alice, books.now_ms))
        assert (dropped.pin, dropped.careful_until_ms) == (None, books.now_ms + CAREFUL_MS)


class TestLock:
    def test_nothing_is_sent_and_what_was_sent_before_goes_on(self, books: Books, alice: Acct, bob: Acct) -> None:
        before = books.order(1, "alice", "bob", 100)
        books.place(before)
        books.transaction(lambda cur: books.safeguards.lock(cur, alice, books.now_ms))
        assert reason_of(pay(books, 2, 1)) is Reason.WALLET_LOCKED
        bound = books.bind(before)
        assert bound is not None
        assert bound.state is State.COMPLETED

    def test_a_locked_wallet_still_receives(self, books: Books, alice: Acct, bob: Acct) -> None:
        books.transaction(lambda cur: books.safeguards.lock(cur, bob, books.now_ms))
        assert isinstance(pay(books, 1, 100), Payment)

    def test_for_a_day_after_it_only_small_amounts(self, books: Books, alice: Acct, bob: Acct) -> None:
        books.transaction(lambda cur: books.safeguards.lock(cur, alice, books.now_ms))
        books.transaction(lambda cur: books.safeguards.unlock(cur, alice, books.now_ms))
        assert isinstance(pay(books, 1, 300), Payment)
        assert reason_of(pay(books, 2, 1)) is Reason.LIMIT_EXCEEDED
        books.now_ms += CAREFUL_MS
        assert isinstance(pay(books, 3, 600), Payment)

    def test_one_who_has_never_been_seen_has_no_safeguards(self, books: Books) -> None:
        found = books.transaction(lambda cur: books.safeguards.find(cur, Acct("nobody")))
        assert (found.pin, found.locked_ms, found.tier) == (None, None, None)
        assert HERE
