"""Gifts and links in the database: who gets what, once, and where the money is at every step."""

from collections.abc import Callable
from dataclasses import replace
from threading import Barrier, Thread

import pytest
from engines import Database
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from payment_books import HERE, incoming
from pot_books import POT_PACKAGES, PotBooks

from super_app.clearing.ports import Accept
from super_app.db import Transaction
from super_app.errors import Reason, Refused
from super_app.ids import Acct, PaymentId, UserId
from super_app.ledger import operators
from super_app.money import AssetCode
from super_app.payments.model import Payment
from super_app.pots import store
from super_app.pots.model import (
    EXPECTED_MS,
    GIFT_MS,
    LINK_MS,
    OPEN_MAX,
    Claimed,
    Kind,
    Pot,
    PotId,
    PotState,
    ShareState,
)
from super_app.pots.rules import equal_shares
from super_app.safeguards.model import Settings, Tier, Window

pytestmark = pytest.mark.packages(*POT_PACKAGES)
ZOE = "@zoe:hs2.test"


@pytest.fixture
def books(transaction: Transaction) -> PotBooks:
    books = PotBooks(transaction)
    books.join("alice", "bob", "carol", "dave", ZOE)
    return books


@pytest.fixture
def alice(books: PotBooks) -> Acct:
    return books.open_account("alice", 10_000)


@pytest.fixture
def bob(books: PotBooks) -> Acct:
    return books.open_account("bob")


def reason_of(result: object) -> Reason:
    assert isinstance(result, Refused), result
    return result.reason


def got(result: object) -> int:
    assert isinstance(result, Claimed), result
    assert result.failed is None
    return result.share.amount_minor


class TestGift:
    def test_it_leaves_the_wallet_and_is_paid_out_share_by_share(self, books: PotBooks, alice: Acct, bob: Acct) -> None:
        carol = books.open_account("carol")
        made = books.gift(1, "alice", (300, 150))
        assert isinstance(made, Pot)
        assert (books.wallet(alice), books.aside(alice)) == ((9_550, 0), 450)
        assert books.violations() == ()

        assert got(books.claim(1, "alice", "bob")) == 300
        assert (books.wallet(bob), books.aside(alice), books.pot(1, "alice")[0].state) == ((300, 0), 150, PotState.OPEN)
        assert got(books.claim(1, "alice", "carol")) == 150
        assert (books.wallet(alice), books.wallet(carol), books.aside(alice)) == ((9_550, 0), (150, 0), 0)
        assert books.pot(1, "alice")[0].state is PotState.EMPTIED
        assert books.violations() == ()

    def test_a_payout_is_a_payment_of_the_giver_that_the_payee_can_give_back(
        self, books: PotBooks, alice: Acct, bob: Acct
    ) -> None:
        books.gift(1, "alice", (300,))
        claimed = books.claim(1, "alice", "bob")
        assert isinstance(claimed, Claimed)
        assert claimed.share.payment_id is not None
        assert claimed.share.paid
        payment_id = claimed.share.payment_id
        payment = books.transaction(lambda cur: books.payments.find(cur, alice, payment_id, None))
        assert isinstance(payment, Payment)
        assert (payment.payer, payment.memo, payment.room_id) == (f"@alice:{HERE}", "for you", None)
        refund = books.order(7, "bob", "alice", 300, refund_of=payment_id)
        assert books.pay(refund).state.value == "completed"
        assert books.wallet(alice) == (10_000, 0)
        assert books.violations() == ()

    def test_who_claims_again_has_the_same_share_and_nobody_has_two(
        self, books: PotBooks, alice: Acct, bob: Acct
    ) -> None:
        books.gift(1, "alice", (300, 150))
        first = books.claim(1, "alice", "bob")
        again = books.claim(1, "alice", "bob")
        assert isinstance(first, Claimed)
        assert isinstance(again, Claimed)
        assert again.share == first.share
        assert books.wallet(bob) == (300, 0)

    def test_one_claimer_too_many_gets_the_sentence_that_all_is_taken(
        self, books: PotBooks, alice: Acct, bob: Acct
    ) -> None:
        books.open_account("carol")
        books.gift(1, "alice", (300,))
        got(books.claim(1, "alice", "bob"))
        assert reason_of(books.claim(1, "alice", "carol")) is Reason.GIFT_GONE

    def test_the_giver_strangers_of_the_room_and_the_blocked_get_nothing(
        self, books: PotBooks, alice: Acct, bob: Acct
    ) -> None:
        books.open_account("eve")
        books.gift(1, "alice", (300,))
        assert reason_of(books.claim(1, "alice", "alice")) is Reason.PAYEE_IS_SELF
        assert reason_of(books.claim(1, "alice", "eve")) is Reason.NOT_IN_ROOM
        books.members.blocked.add((books.user("alice"), books.user("bob")))
        assert reason_of(books.claim(1, "alice", "bob")) is Reason.NOT_ALLOWED
        assert reason_of(books.claim(2, "alice", "bob")) is Reason.UNKNOWN_GIFT
        assert reason_of(books.claim(1, "alice", "bob", kind=Kind.LINK)) is Reason.UNKNOWN_CLAIM
        assert books.aside(alice) == 300

    def test_whoever_left_the_room_gets_nothing_and_whoever_came_later_does(
        self, books: PotBooks, alice: Acct, bob: Acct
    ) -> None:
        books.open_account("erin")
        books.gift(1, "alice", (300,))
        books.members.inside.discard(books.user("bob"))
        assert reason_of(books.claim(1, "alice", "bob")) is Reason.NOT_IN_ROOM
        books.join("erin")
        assert got(books.claim(1, "alice", "erin")) == 300

    def test_one_for_one_person_is_refused_to_others(self, books: PotBooks, alice: Acct, bob: Acct) -> None:
        books.open_account("carol")
        books.gift(1, "alice", (300,), only="carol")
        assert reason_of(books.claim(1, "alice", "bob")) is Reason.WRONG_CLAIMER
        assert got(books.claim(1, "alice", "carol")) == 300

    def test_what_nobody_has_claimed_in_a_day_goes_back(self, books: PotBooks, alice: Acct, bob: Acct) -> None:
        books.gift(1, "alice", (300, 150))
        got(books.claim(1, "alice", "bob"))
        books.now_ms += GIFT_MS - 1
        assert books.expire_pot(1, "alice") is None
        books.now_ms += 1
        closed = books.expire_pot(1, "alice")
        assert closed is not None
        assert closed.state is PotState.EXPIRED
        assert (books.wallet(alice), books.aside(alice)) == ((9_700, 0), 0)
        assert books.expire_pot(1, "alice") is None
        assert books.violations() == ()

    def test_the_payers_clock_decides_at_the_very_millisecond_before_any_timer(
        self, books: PotBooks, alice: Acct, bob: Acct
    ) -> None:
        books.open_account("carol")
        books.gift(1, "alice", (300, 150))
        books.now_ms += GIFT_MS - 1
        assert got(books.claim(1, "alice", "bob")) == 300
        books.now_ms += 1
        assert reason_of(books.claim(1, "alice", "carol")) is Reason.EXPIRED
        # What was claimed in time stays claimed.
        assert got(books.claim(1, "alice", "bob")) == 300

    def test_cancelling_takes_back_what_is_left_and_only_that(self, books: PotBooks, alice: Acct, bob: Acct) -> None:
        books.open_account("carol")
        books.gift(1, "alice", (300, 150))
        got(books.claim(1, "alice", "bob"))
        cancelled = books.cancel_pot(1, "alice")
        assert isinstance(cancelled, Pot)
        assert (cancelled.state, books.wallet(alice)) == (PotState.CANCELLED, (9_700, 0))
        assert books.cancel_pot(1, "alice") == cancelled
        assert reason_of(books.claim(1, "alice", "carol")) is Reason.CANCELLED
        assert reason_of(books.cancel_pot(2, "alice")) is Reason.UNKNOWN_GIFT
        books.gift(3, "alice", (5,))
        got(books.claim(3, "alice", "bob"))
        assert reason_of(books.cancel_pot(3, "alice")) is Reason.ALREADY_DECIDED

    def test_the_same_gift_again_is_the_same_and_another_under_its_id_is_refused(
        self, books: PotBooks, alice: Acct
    ) -> None:
        made = books.gift(1, "alice", (300, 150))
        # Another draw of the same gift: the first one counts.
        assert books.gift(1, "alice", (200, 250)) == made
        assert reason_of(books.gift(1, "alice", (300, 151))) is Reason.CONFLICT
        assert books.wallet(alice) == (9_550, 0)

    def test_a_giver_without_the_money_or_with_a_frozen_account_gives_nothing(
        self, books: PotBooks, alice: Acct, bob: Acct
    ) -> None:
        assert reason_of(books.gift(1, "alice", (10_001,))) is Reason.INSUFFICIENT_FUNDS
        books.gift(2, "alice", (100,))
        books.transaction(
            lambda cur: operators.freeze(cur, alice, reason="order", operator="@admin:hs1.test", now_ms=1)
        )
        assert reason_of(books.gift(3, "alice", (100,))) is Reason.ACCOUNT_FROZEN
        assert reason_of(books.claim(2, "alice", "bob")) is Reason.ACCOUNT_FROZEN
        # What nobody gets goes back all the same.
        assert isinstance(books.cancel_pot(2, "alice"), Pot)
        assert books.wallet(alice) == (10_000, 0)

    def test_halted_payments_stop_new_gifts_and_claims(self, books: PotBooks, alice: Acct, bob: Acct) -> None:
        books.gift(1, "alice", (100,))
        books.homeserver.halted = True
        assert reason_of(books.gift(2, "alice", (100,))) is Reason.PAYMENTS_HALTED
        assert reason_of(books.claim(1, "alice", "bob")) is Reason.PAYMENTS_HALTED
        assert isinstance(books.cancel_pot(1, "alice"), Pot)

    def test_too_many_open_ones_are_refused(self, books: PotBooks, alice: Acct) -> None:
        for number in range(OPEN_MAX):
            assert isinstance(books.gift(number, "alice", (1,)), Pot)
        assert reason_of(books.gift(OPEN_MAX, "alice", (1,))) is Reason.LIMIT_EXCEEDED

    def test_a_claim_under_an_id_that_the_giver_has_used_moves_nothing(
        self, books: PotBooks, alice: Acct, bob: Acct
    ) -> None:
        books.gift(1, "alice", (300,))
        order = books.order(9, "alice", "bob", 300, memo="for you")
        books.pay(order)
        assert reason_of(books.claim(1, "alice", "bob", under=order.payment_id)) is Reason.CONFLICT
        assert (books.wallet(bob), books.aside(alice)) == ((300, 0), 300)

    def test_the_claimers_policy_is_not_asked_since_they_ask_themselves(
        self, books: PotBooks, alice: Acct, bob: Acct
    ) -> None:
        books.set_policy("bob", {"v": 1, "from": ["nobody"], "accept": "ask"})
        books.gift(1, "alice", (300,))
        assert got(books.claim(1, "alice", "bob")) == 300

    def test_deactivated_claimers_get_nothing(self, books: PotBooks, alice: Acct, bob: Acct) -> None:
        books.gift(1, "alice", (300,))
        books.deactivate("bob")
        assert reason_of(books.claim(1, "alice", "bob")) is Reason.PAYEE_GONE

    def test_an_invoice_that_looks_like_a_pot_changes_no_pot(self, books: PotBooks, alice: Acct, bob: Acct) -> None:
        books.gift(1, "alice", (300,))
        order = replace(books.order(9, "alice", "bob", 300), invoice=f"pot:{1:032x}")
        assert books.pay(order).state.value == "completed"
        assert (books.aside(alice), books.pot(1, "alice")[1][0].state) == (300, ShareState.FREE)


@pytest.mark.parametrize(("currency", "total"), [("JPY", 1_000), ("BHD", 10_001), ("KWD", 2)])
def test_currencies_without_and_with_three_decimals_are_shared_to_the_last_unit(
    transaction: Transaction, currency: str, total: int
) -> None:
    books = PotBooks(transaction)
    code = AssetCode(currency)
    alice = books.open_account("alice")
    books.issue(alice, total, code)
    names = ("bob", "carol", "dave")[: min(3, total)]
    for name in names:
        books.open_account(name)
    books.join("alice", *names)
    books.gift(1, "alice", equal_shares(total, len(names)), currency=code)
    assert sum(got(books.claim(1, "alice", name)) for name in names) == total
    assert books.aside(alice, code) == 0
    assert books.violations() == ()


class TestAcross:
    def test_a_share_is_set_aside_for_a_claimer_elsewhere_until_their_homeserver_has_it(
        self, books: PotBooks, alice: Acct
    ) -> None:
        books.gift(1, "alice", (300,))
        assert got(books.claim(1, "alice", ZOE)) == 300
        assert (books.wallet(alice), books.aside(alice)) == ((9_700, 300), 0)
        (offer,) = books.clearing.offers[-1:]
        assert (offer.payee.user_id, offer.money.amount_minor, offer.room_id) == (ZOE, 300, None)
        assert books.pot(1, "alice")[0].state is PotState.OPEN
        order = books.order_of(1, "alice", ZOE)
        books.hears_commit(order)
        books.hears_receipt(order, {"type": "RECEIPT"})
        assert books.pot(1, "alice")[0].state is PotState.EMPTIED
        assert books.wallet(alice) == (9_700, 0)
        assert books.violations() == ()

    @pytest.mark.parametrize("how", ["abort", "void"])
    def test_a_payout_that_comes_to_nothing_frees_the_share_for_the_next_one(
        self, books: PotBooks, alice: Acct, bob: Acct, how: str
    ) -> None:
        books.gift(1, "alice", (300,))
        got(books.claim(1, "alice", ZOE))
        assert reason_of(books.claim(1, "alice", "bob")) is Reason.GIFT_GONE
        order = books.order_of(1, "alice", ZOE)
        if how == "abort":
            books.hears_abort(order, Reason.CREDIT_LIMIT)
        else:
            books.hears_commit(order)
            books.hears_void(order, Reason.EXPIRED)
        assert (books.wallet(alice), books.aside(alice)) == ((9_700, 0), 300)
        assert books.violations() == ()
        assert got(books.claim(1, "alice", "bob")) == 300
        assert reason_of(books.claim(1, "alice", ZOE)) is Reason.GIFT_GONE

    def test_a_payout_that_comes_to_nothing_after_the_end_stays_with_the_giver(
        self, books: PotBooks, alice: Acct
    ) -> None:
        books.gift(1, "alice", (300,))
        got(books.claim(1, "alice", ZOE))
        order = books.order_of(1, "alice", ZOE)
        books.now_ms += GIFT_MS
        books.expire_pot(1, "alice")
        books.hears_abort(order, Reason.EXPIRED)
        assert (books.wallet(alice), books.aside(alice)) == ((10_000, 0), 0)
        assert books.pot(1, "alice")[1][0].state is ShareState.RETURNED
        assert books.violations() == ()

    def test_without_a_link_the_share_stays_free(self, books: PotBooks, alice: Acct) -> None:
        books.join("@yan:hs3.test")
        books.gift(1, "alice", (300,))
        assert reason_of(books.claim(1, "alice", "@yan:hs3.test")) is Reason.NO_LINK
        assert books.aside(alice) == 300

    @pytest.mark.runs_once
    def test_an_offer_that_the_link_refuses_at_once_says_why_and_frees_the_share(
        self, books: PotBooks, alice: Acct
    ) -> None:
        books.gift(1, "alice", (300,))
        books.clearing.offer_refused = Refused(reason=Reason.CREDIT_LIMIT, message="Too much.")
        claimed = books.claim(1, "alice", ZOE)
        assert isinstance(claimed, Claimed)
        assert claimed.failed == "credit_limit"
        assert (books.wallet(alice), books.aside(alice)) == ((9_700, 0), 300)
        books.clearing.offer_refused = None
        assert got(books.claim(1, "alice", ZOE)) == 300

    def test_what_one_of_ours_has_claimed_there_is_let_in_whatever_their_policy_says(
        self, books: PotBooks, bob: Acct
    ) -> None:
        books.set_policy("bob", {"v": 1, "from": ["contacts"], "accept": "ask"})
        offer = incoming(1, "bob", 300)
        giver, pot_id, claimer = UserId(ZOE), PotId("f" * 32), books.user("bob")
        assert reason_of(books.transaction(lambda cur: books.payments.offered(cur, offer, 1))) is Reason.NOT_ALLOWED

        def expect(at_ms: int, payment_id: PaymentId) -> PaymentId:
            return books.transaction(lambda cur: books.pots.expect(cur, giver, pot_id, claimer, payment_id, at_ms))

        assert expect(1, offer.payment_id) == offer.payment_id
        # A second try is for the same payment.
        assert expect(2, PaymentId("e" * 32)) == offer.payment_id
        late = books.transaction(lambda cur: books.payments.offered(cur, offer, 2 + EXPECTED_MS))
        assert reason_of(late) is Reason.NOT_ALLOWED
        taken = books.transaction(lambda cur: books.payments.offered(cur, offer, 3))
        # At once, without being asked.
        assert isinstance(taken, Accept)
        books.transaction(lambda cur: books.payments.ended(cur, offer, Reason.EXPIRED, 4))
        # That one came to nothing, so the next try is for another one.
        assert expect(5, PaymentId("d" * 32)) == PaymentId("d" * 32)


class TestLink:
    def test_whoever_brings_the_secret_has_it_once(self, books: PotBooks, alice: Acct, bob: Acct) -> None:
        books.open_account("carol")
        books.link(1, "alice", 500)
        assert reason_of(books.claim(1, "alice", "bob", kind=Kind.LINK)) is Reason.WRONG_CLAIMER
        assert reason_of(books.claim(1, "alice", "bob", kind=Kind.LINK, secret="sécret")) is Reason.WRONG_CLAIMER
        assert reason_of(books.claim(1, "alice", "bob", kind=Kind.LINK, secret="secreT")) is Reason.WRONG_CLAIMER
        assert got(books.claim(1, "alice", "bob", kind=Kind.LINK, secret="secret")) == 500
        assert reason_of(books.claim(1, "alice", "carol", kind=Kind.LINK, secret="secret")) is Reason.GIFT_GONE
        assert books.wallet(bob) == (500, 0)
        assert books.violations() == ()

    def test_one_for_a_matrix_id_is_theirs_without_the_secret_too(
        self, books: PotBooks, alice: Acct, bob: Acct
    ) -> None:
        books.open_account("carol")
        books.link(1, "alice", 500, to="bob")
        assert reason_of(books.claim(1, "alice", "carol", kind=Kind.LINK)) is Reason.WRONG_CLAIMER
        assert got(books.claim(1, "alice", "bob", kind=Kind.LINK)) == 500

    def test_what_nobody_has_claimed_in_time_goes_back(self, books: PotBooks, alice: Acct, bob: Acct) -> None:
        books.link(1, "alice", 500)
        books.now_ms += LINK_MS
        assert reason_of(books.claim(1, "alice", "bob", kind=Kind.LINK, secret="secret")) is Reason.EXPIRED
        assert books.expire_pot(1, "alice") is not None
        assert books.wallet(alice) == (10_000, 0)


@pytest.mark.usefixtures("alice", "bob")
def test_what_is_over_and_old_forgets_what_it_was_for_and_what_claims_it(books: PotBooks) -> None:
    books.gift(1, "alice", (5,))
    books.gift(2, "alice", (5,))
    books.link(3, "alice", 5)
    books.claim(1, "alice", "bob")
    books.cancel_pot(3, "alice", Kind.LINK)
    books.transaction(lambda cur: store.erase(cur, books.now_ms + 1))
    assert (books.pot(1, "alice")[0].memo, books.pot(2, "alice")[0].memo) == (None, "for you")
    assert books.pot(3, "alice", Kind.LINK)[0].secret is None


class TestSafeguards:
    def test_limits_count_what_lies_aside_and_then_what_was_claimed_of_it(self, transaction: Transaction) -> None:
        tier = Tier(sent={AssetCode("EUR"): {Window.DAY: 1_000}})
        books = PotBooks(transaction, Settings(tiers={"default": tier}, default_tier="default"))
        books.open_account("alice", 10_000)
        books.open_account("bob")
        books.join("alice", "bob")
        assert isinstance(books.gift(1, "alice", (600,)), Pot)
        assert reason_of(books.gift(2, "alice", (401,))) is Reason.LIMIT_EXCEEDED
        assert reason_of(books.place(books.order(1, "alice", "bob", 401))) is Reason.LIMIT_EXCEEDED
        got(books.claim(1, "alice", "bob"))
        assert reason_of(books.gift(2, "alice", (401,))) is Reason.LIMIT_EXCEEDED
        assert isinstance(books.gift(2, "alice", (400,)), Pot)
        books.cancel_pot(2, "alice")
        assert isinstance(books.gift(3, "alice", (400,)), Pot)

    def test_the_pin_is_asked_for_and_a_locked_wallet_gives_nothing(
        self, books: PotBooks, alice: Acct, bob: Acct
    ) -> None:
        books.transaction(lambda cur: books.safeguards.set_pin(cur, alice, "hash", None, 1))
        assert reason_of(books.gift(1, "alice", (100,))) is Reason.PIN_REQUIRED
        # Who has not the money need not look for a PIN.
        assert reason_of(books.gift(1, "alice", (10_001,))) is Reason.INSUFFICIENT_FUNDS
        assert isinstance(books.gift(1, "alice", (100,), proven=True), Pot)
        # Who claims is not asked, nor is the giver a second time.
        assert got(books.claim(1, "alice", "bob")) == 100
        books.transaction(lambda cur: books.safeguards.lock(cur, alice, 1))
        assert reason_of(books.gift(2, "alice", (100,), proven=True)) is Reason.WALLET_LOCKED


_step = st.one_of(
    st.tuples(st.just("gift"), st.integers(1, 3), st.lists(st.integers(1, 300), min_size=1, max_size=4)),
    st.tuples(st.just("link"), st.integers(4, 5), st.integers(1, 600)),
    st.tuples(st.just("claim"), st.integers(1, 5), st.sampled_from(["bob", "carol", ZOE])),
    st.tuples(st.sampled_from(["cancel", "commit", "receipt", "abort", "void"]), st.integers(1, 3)),
    st.tuples(st.just("wait"), st.sampled_from([1, GIFT_MS // 2, GIFT_MS])),
    st.tuples(st.just("pay"), st.integers(1, 600)),
)


class Play:
    """alice puts in, everybody claims, the other homeserver does what it wants; nothing appears or disappears."""

    def __init__(self, books: PotBooks) -> None:
        self.books = books
        self.people = {name: books.open_account(name, 1_000) for name in ("alice", "bob", "carol")}
        books.join(*self.people, ZOE)
        self.committed: dict[int, int] = {}
        self.paid_elsewhere = 0
        self.paid = 0

    def step(self, step: tuple[object, ...]) -> None:
        books = self.books
        match step:
            case ("gift", int(number), list(amounts)):
                books.gift(number, "alice", tuple(amounts))
            case ("link", int(number), int(minor)):
                books.link(number, "alice", minor)
            case ("claim", int(number), str(who)):
                books.claim(
                    number,
                    "alice",
                    who,
                    kind=Kind.LINK if number > 3 else Kind.GIFT,
                    secret="secret" if number > 3 else None,
                )
            case ("cancel", int(number)):
                books.cancel_pot(number, "alice")
            case ("wait", int(passed_ms)):
                books.now_ms += passed_ms
                for number in range(1, 6):
                    books.expire_pot(number, "alice")
            case ("pay", int(minor)):
                self.paid += 1
                books.place(books.order(self.paid, "alice", "bob", minor))
            case (str(what), int(number)):
                self._elsewhere(what, number)
            case _:
                pass

    def _elsewhere(self, what: str, number: int) -> None:
        found = self.books.transaction(
            lambda cur: self.books.pots.find(cur, Kind.GIFT, self.books.user("alice"), PotId(f"{number:032x}"))
        )
        if isinstance(found, Refused):
            return
        waiting = [
            share for share in found[1] if share.claimer == ZOE and share.state is ShareState.TAKEN and not share.paid
        ]
        if not waiting:
            return
        order = self.books.order_of(number, "alice", ZOE)
        is_committed = number in self.committed
        match what:
            case "commit" if not is_committed:
                self.books.hears_commit(order)
                self.committed[number] = order.money.amount_minor
            case "receipt" if is_committed:
                self.books.hears_receipt(order, {})
                self.paid_elsewhere += self.committed.pop(number)
            case "abort" if not is_committed:
                self.books.hears_abort(order, Reason.DECLINED)
            case "void" if is_committed:
                self.books.hears_void(order, Reason.EXPIRED)
                del self.committed[number]
            case _:
                pass

    def check(self) -> None:
        """Escrow + claimed + returned = what was put in, in the shares and in the ledger alike."""
        assert self.books.violations() == ()
        aside = self.books.aside(self.people["alice"])
        wallets = sum(sum(self.books.wallet(acct)) for acct in self.people.values())
        assert wallets + aside + sum(self.committed.values()) + self.paid_elsewhere == 3_000
        free = 0
        for number in range(1, 6):
            found = self.books.transaction(
                lambda cur, n=number: self.books.pots.find(  # type: ignore[misc]
                    cur, Kind.LINK if n > 3 else Kind.GIFT, self.books.user("alice"), PotId(f"{n:032x}")
                )
            )
            if isinstance(found, Refused):
                continue
            pot, shares = found
            by_state = dict.fromkeys(ShareState, 0)
            for share in shares:
                by_state[share.state] += share.amount_minor
            assert sum(by_state.values()) == pot.money.amount_minor
            assert not (by_state[ShareState.FREE] and pot.state is not PotState.OPEN)
            claimers = [share.claimer for share in shares if share.claimer is not None]
            assert len(claimers) == len(set(claimers))
            free += by_state[ShareState.FREE]
        assert free == aside


@settings(
    max_examples=20,
    deadline=None,
    # The fixture opens a fresh database for each example, and closes the one before.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(_step, min_size=10, max_size=30))
def test_any_sequence_of_gifts_claims_and_failures_conserves_money(
    next_database: Callable[..., Database], steps: list[tuple[object, ...]]
) -> None:
    play = Play(PotBooks(next_database(*POT_PACKAGES).connect(rerun=False)))
    for step in steps:
        play.step(step)
        play.check()


def test_two_connections_that_race_for_the_last_share_give_it_to_one(
    two_connections: tuple[Transaction, Transaction],
) -> None:
    first, second = (PotBooks(transaction) for transaction in two_connections)
    for name, minor in (("alice", 1_000), ("bob", 0), ("carol", 0)):
        first.open_account(name, minor)
        second.homeserver.residents = first.homeserver.residents
    for books in (first, second):
        books.join("bob", "carol")
    first.gift(1, "alice", (300,))
    second.claims = 2_000
    start = Barrier(2)
    results: dict[str, Claimed | Refused] = {}

    def run(books: PotBooks, name: str) -> None:
        start.wait()
        results[name] = books.claim(1, "alice", name)

    threads = [Thread(target=run, args=each) for each in ((first, "bob"), (second, "carol"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcomes = sorted(type(result).__name__ for result in results.values())
    assert outcomes == ["Claimed", "Refused"], results
    assert first.violations() == ()
    assert first.aside(Acct(first.account(first.user("alice")))) == 0
