"""Whatever people do in whatever order, no money appears or disappears and nobody has less than nothing."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from engines import Database
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from payment_books import EUR, PACKAGES, Books, payment_id

from super_app.errors import Refused
from super_app.payments.fees import Fee
from super_app.payments.model import ACCEPTANCE_MS, UNBOUND_HOLD_MS, Order, State

PEOPLE = ("alice", "bob", "carol")
ISSUED_MINOR = 1_000

_person = st.sampled_from(PEOPLE)
_number = st.integers(1, 6)
_minor = st.integers(1, 1_200)
_step = st.one_of(
    st.tuples(st.just("place"), _number, _person, _person, _minor),
    st.tuples(st.just("refund"), _number, _number, _minor),
    st.tuples(st.sampled_from(["bind", "accept", "decline", "cancel", "release", "expire"]), _number),
    st.tuples(st.just("wait"), st.sampled_from([1, UNBOUND_HOLD_MS, ACCEPTANCE_MS])),
    st.tuples(st.just("ask"), _person, st.booleans()),
)
_fees = st.one_of(
    st.just(()),
    st.builds(
        lambda **terms: (Fee(currency=EUR, **terms),),
        fixed_minor=st.integers(0, 30),
        basis_points=st.integers(0, 2_000),
        at_least_minor=st.integers(0, 20),
        free_up_to_minor=st.integers(0, 100),
    ),
)


class Play:
    """Runs steps on the real service and keeps what must be true of a payment beside it."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.accounts = {name: books.open_account(name, ISSUED_MINOR) for name in PEOPLE}
        self.orders: dict[int, Order] = {}
        self.ended: dict[int, State] = {}

    def step(self, step: tuple[object, ...]) -> None:
        match step:
            case ("place", int(number), str(payer), str(payee), int(minor)) if payer != payee:
                order = self.books.order(number, payer, payee, minor)
                self._place(number, replace(order, fee_minor=self.books.payments.fee_minor(order)))
            case ("refund", int(number), int(original), int(minor)) if original in self.orders:
                paid = self.orders[original]
                payer, payee = _name(paid.payee.user_id), _name(paid.payer)
                self._place(number, self.books.order(number, payer, payee, minor, refund_of=payment_id(original)))
            case ("wait", int(passed_ms)):
                self.books.now_ms += passed_ms
            case ("ask", str(name), bool(asks)):
                self.books.set_policy(name, {"v": 1, "accept": "ask" if asks else "auto"})
            case (str(what), int(number)) if number in self.orders:
                getattr(self.books, what)(self.orders[number])
            case _:
                pass

    def _place(self, number: int, order: Order) -> None:
        # One id, one payer: a number belongs to whoever used it first.
        if number not in self.orders or self.orders[number].payer == order.payer:
            before = self.totals()
            placed = self.books.place(order)
            if isinstance(placed, Refused):
                assert self.totals() == before, "a refusal has written nothing"
            else:
                self.orders.setdefault(number, order)

    def totals(self) -> dict[str, tuple[int, int]]:
        return {name: self.books.wallet(acct) for name, acct in self.accounts.items()}

    def check(self) -> None:
        totals = self.totals()
        people_minor = sum(available + held for available, held in totals.values())
        assert people_minor + self.books.house_fees() == ISSUED_MINOR * len(PEOPLE)
        assert min(min(pair) for pair in totals.values()) >= 0
        for number, order in self.orders.items():
            state = self.books.find(order).state
            if number in self.ended:
                assert state is self.ended[number], "an end is final"
            if state.final:
                self.ended[number] = state
        self._check_wallets(totals)
        assert self.books.violations() == ()

    def _check_wallets(self, totals: dict[str, tuple[int, int]]) -> None:
        """The wallets are what the payments say, and nothing else."""
        expected = {name: [ISSUED_MINOR, 0] for name in PEOPLE}
        house_minor = 0
        for order in self.orders.values():
            minor, payer, payee = order.money.amount_minor, _name(order.payer), _name(order.payee.user_id)
            costs_minor = minor + (order.fee_minor or 0)
            match self.books.find(order).state:
                case State.HELD | State.AWAITING_ACCEPTANCE:
                    expected[payer][0] -= costs_minor
                    expected[payer][1] += costs_minor
                case State.COMPLETED:
                    expected[payer][0] -= costs_minor
                    expected[payee][0] += minor
                    house_minor += costs_minor - minor
                case _:
                    pass
        assert totals == {name: tuple(pair) for name, pair in expected.items()}
        assert self.books.house_fees() == house_minor


def _name(user_id: str) -> str:
    return user_id.partition(":")[0].removeprefix("@")


@settings(
    max_examples=40,
    deadline=None,
    # The fixture opens a fresh database for each example, and closes the one before.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(_step, min_size=15, max_size=40), fees=_fees)
@pytest.mark.packages(*PACKAGES)
def test_any_sequence_of_orders_answers_and_refunds_conserves_money(
    next_database: Callable[..., Database], steps: list[tuple[object, ...]], fees: tuple[Fee, ...]
) -> None:
    play = Play(Books(next_database(*PACKAGES).connect(rerun=False), fees=fees))
    for step in steps:
        play.step(step)
        play.check()
