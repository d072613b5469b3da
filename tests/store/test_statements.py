"""Statements over the tables: they say what the ledger says, and searches find what is there."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from engines import Database
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from payment_books import ASSETS, EUR, PACKAGES, Books, incoming, key_of, payment_id

from super_app.db import Transaction
from super_app.errors import Reason, Refused
from super_app.ids import Acct, EventId, UserId
from super_app.ledger import service as ledger
from super_app.payments.fees import Fee
from super_app.payments.model import Payment, PaymentKey, State
from super_app.statements import service
from super_app.statements.model import ActivityKind, Filter, LineKind, Statement

PACKAGES_HERE = ("super_app.accounts", "super_app.ledger", "super_app.clearing", *PACKAGES[2:])
pytestmark = pytest.mark.packages(*PACKAGES_HERE)
ALICE = UserId("@alice:hs1.test")
ALWAYS = 2**52


@pytest.fixture
def books(transaction: Transaction) -> Books:
    return Books(transaction)


def statement(books: Books, acct: Acct, from_ms: int = 0, until_ms: int = ALWAYS) -> Statement:
    found = books.transaction(lambda cur: service.statement(cur, acct, ALICE, ASSETS[EUR], from_ms, until_ms))
    assert isinstance(found, Statement)
    return found


def search(books: Books, acct: Acct, wanted: Filter, limit: int = 100) -> list[str]:
    """The ids of what is found, over all pages."""
    found: list[str] = []
    before: tuple[int, PaymentKey] | None = None
    while True:
        page = books.transaction(partial(service.search, acct=acct, wanted=wanted, before=before, limit=limit))
        assert len(page.payments) <= limit
        found += [payment.payment_id for payment in page.payments]
        before = page.following
        if before is None:
            return found


def pay(books: Books, number: int, payer: str, payee: str, minor: int, **more: object) -> Payment:
    order = books.order(number, payer, payee, minor, **more)  # type: ignore[arg-type]
    placed = books.place(order)
    assert isinstance(placed, Payment), placed
    bound = books.bind(order, EventId(f"$event{number}"))
    assert bound is not None
    return bound


def test_a_fee_is_a_line_of_its_own_that_names_its_payment(transaction: Transaction) -> None:
    books = Books(transaction, fees=[Fee(currency=EUR, fixed_minor=7)])
    alice, bob = books.open_account("alice", 1_000), books.open_account("bob")
    cancelled = books.order(1, "alice", "bob", 300, fee_minor=7)
    books.place(cancelled)
    books.cancel(cancelled)
    pay(books, 2, "alice", "bob", 200, fee_minor=7)
    lines = statement(books, alice).lines
    assert [(line.kind, line.change_minor, line.payment_id, line.other) for line in lines[1:]] == [
        (LineKind.PAYMENT, -200, payment_id(2), "@bob:hs1.test"),
        (LineKind.FEE, -7, payment_id(2), "@bob:hs1.test"),
    ]
    assert [line.kind for line in statement(books, bob).lines] == [LineKind.PAYMENT]


def test_money_that_is_set_aside_is_still_ones_own(books: Books) -> None:
    alice, bob = books.open_account("alice", 1_000), books.open_account("bob")
    order = books.order(1, "alice", "bob", 300)
    books.place(order)
    assert [line.kind for line in statement(books, alice).lines] == [LineKind.ISSUED]
    books.cancel(order)
    assert [line.kind for line in statement(books, alice).lines] == [LineKind.ISSUED]
    paid = pay(books, 2, "alice", "bob", 200, memo="lunch")
    pay(books, 3, "bob", "alice", 50, refund_of=paid.payment_id)
    found = statement(books, alice)
    assert [(line.kind, line.change_minor, line.balance_minor) for line in found.lines] == [
        (LineKind.ISSUED, 1_000, 1_000),
        (LineKind.PAYMENT, -200, 800),
        (LineKind.REFUND, 50, 850),
    ]
    assert (found.lines[1].other, found.lines[1].memo) == (UserId("@bob:hs1.test"), "lunch")
    assert [line.change_minor for line in statement(books, bob).lines] == [200, -50]
    assert (found.opening_minor, found.closing_minor) == (0, 850)


def test_a_statement_begins_with_what_was_there_before(books: Books) -> None:
    alice = books.open_account("alice", 1_000)
    books.open_account("bob")
    pay(books, 1, "alice", "bob", 100)
    books.now_ms += 1_000
    begins_ms = books.now_ms
    pay(books, 2, "alice", "bob", 10)
    books.now_ms += 1_000
    found = statement(books, alice, begins_ms, books.now_ms)
    assert (found.opening_minor, found.closing_minor) == (900, 890)
    assert [line.change_minor for line in found.lines] == [-10]
    pay(books, 3, "alice", "bob", 1)
    assert statement(books, alice, begins_ms, books.now_ms).closing_minor == 890, "what is later is of the next month"
    later = statement(books, alice, books.now_ms, books.now_ms + 1)
    assert (later.opening_minor, [line.change_minor for line in later.lines]) == (890, [-1])


def test_what_went_to_and_came_from_other_homeservers_is_named(books: Books) -> None:
    alice = books.open_account("alice", 1_000)
    order = books.order(1, "alice", "@zoe:hs2.test", 300, memo="out")
    books.place(order)
    books.bind(order)
    books.hears_commit(order)
    came = incoming(2, "alice", 70)
    books.transaction(lambda cur: books.payments.offered(cur, came, books.now_ms))
    books.hears_credit(came, alice, {"type": "RECEIPT"})
    found = statement(books, alice)
    assert [(line.kind, line.change_minor, line.other, line.memo) for line in found.lines[1:]] == [
        (LineKind.PAYMENT, -300, UserId("@zoe:hs2.test"), "out"),
        (LineKind.PAYMENT, 70, UserId("@zoe:hs2.test"), "for you"),
    ]


def test_of_an_account_that_never_was_there_is_an_empty_one(books: Books) -> None:
    nobody = books.open_account("nobody")
    found = statement(books, nobody)
    assert (found.opening_minor, found.closing_minor, found.lines) == (0, 0, ())


def test_more_bookings_than_fit_are_refused(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = books.open_account("alice", 1_000)
    books.open_account("bob")
    pay(books, 1, "alice", "bob", 1)
    monkeypatch.setattr(service, "MAX_LINES", 1)
    refused = books.transaction(lambda cur: service.statement(cur, alice, ALICE, ASSETS[EUR], 0, ALWAYS))
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.INVALID_VALUE


def test_a_search_finds_by_person_amount_time_text_kind_and_state(books: Books) -> None:
    alice = books.open_account("alice", 10_000)
    for name in ("bob", "carol"):
        books.open_account(name, 100)
    pay(books, 1, "alice", "bob", 100, memo="Müsli für ALLE")
    books.now_ms += 10
    paid = pay(books, 2, "alice", "carol", 200)
    books.now_ms += 10
    pay(books, 3, "bob", "alice", 5, memo="100% sicher_")
    pay(books, 4, "carol", "alice", 7, refund_of=paid.payment_id)
    books.place(books.order(5, "alice", "bob", 300))
    ids = [payment_id(number) for number in range(6)]
    for wanted, expected in (
        (Filter(), {1, 2, 3, 4, 5}),
        (Filter(person="BOB:"), {1, 3, 5}),
        (Filter(person="alice"), set()),
        (Filter(text="müsli"), {1}),
        (Filter(text="für alle"), {1}),
        (Filter(text="%"), {3}),
        (Filter(text="_"), {3}),
        (Filter(currency="PTS"), set()),
        (Filter(currency="EUR", at_least_minor=100, at_most_minor=200), {1, 2}),
        (Filter(from_ms=books.now_ms - 10, until_ms=books.now_ms), {2}),
        (Filter(kind=ActivityKind.SENT), {1, 2, 5}),
        (Filter(kind=ActivityKind.RECEIVED), {3, 4}),
        (Filter(kind=ActivityKind.REFUND), {4}),
        (Filter(kind=ActivityKind.REQUEST), set()),
        (Filter(state=State.HELD), {5}),
        (Filter(state=State.COMPLETED, kind=ActivityKind.SENT), {1, 2}),
    ):
        for limit in (1, 2, 100):
            assert set(search(books, alice, wanted, limit)) == {ids[number] for number in expected}, (wanted, limit)


def test_a_search_stops_and_goes_on(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_CHUNK", 2)
    monkeypatch.setattr(service, "SCANNED", 4)
    alice = books.open_account("alice", 10_000)
    books.open_account("bob")
    for number in range(1, 12):
        books.now_ms += 1
        pay(books, number, "alice", "bob", number, memo="rare" if number in (1, 6) else "often")
    assert search(books, alice, Filter(text="rare")) == [payment_id(6), payment_id(1)]
    assert search(books, alice, Filter(text="often"), 3) == [
        payment_id(number) for number in range(11, 0, -1) if number not in (1, 6)
    ]


def test_nobody_finds_what_others_have_paid_each_other(books: Books) -> None:
    for name in ("alice", "bob"):
        books.open_account(name, 100)
    eve = books.open_account("eve")
    pay(books, 1, "alice", "bob", 10)
    assert search(books, eve, Filter()) == []
    assert statement(books, eve).lines == ()


DEEDS = st.tuples(st.sampled_from(["pay", "back", "hold", "issue"]), st.integers(1, 400), st.integers(0, 3))


# Each example opens a database of its own.
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deeds=st.lists(DEEDS, max_size=12))
def test_lines_add_up_to_the_wallet_whatever_happens(
    next_database: Callable[..., Database], deeds: list[tuple[str, int, int]]
) -> None:
    books = Books(next_database(*PACKAGES_HERE).connect(rerun=False))
    alice, bob = books.open_account("alice", 1_000), books.open_account("bob", 1_000)
    cuts = [books.now_ms]
    last: Payment | None = None
    for number, (deed, minor, pause) in enumerate(deeds, start=1):
        books.now_ms += pause
        cuts.append(books.now_ms)
        back = deed == "back" and last is not None
        order = books.order(number, "bob" if back else "alice", "alice" if back else "bob", minor)
        if back and last is not None:
            order = replace(order, refund_of=last.payment_id)
        if deed == "issue":
            books.issue(alice, minor + number * 1_000)
        elif isinstance(books.place(order), Payment) and deed != "hold":
            books.bind(order, EventId(f"$event{number}"))
            last = books.find(order) if deed == "pay" else last
            assert key_of(order) is not None
    for acct in (alice, bob):
        whole = statement(books, acct)
        wallet = books.transaction(partial(ledger.wallet, owner=acct))
        there_is = sum(each.available_minor + each.held_minor for each in wallet)
        assert whole.opening_minor == 0
        assert whole.closing_minor == there_is == sum(line.change_minor for line in whole.lines)
        # Whatever time is cut where, one statement goes on where the one before ended.
        middle = cuts[len(cuts) // 2]
        first, second = statement(books, acct, 0, middle), statement(books, acct, middle)
        assert first.closing_minor == second.opening_minor
        assert (*first.lines, *second.lines) == whole.lines
