"""Whatever two sides and an operator do about a dispute: it moves nothing, and never brings more back than was paid."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from engines import Database
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from payment_books import PACKAGES, Books, key_of, payment_id

from super_app.disputes.model import DISPUTABLE_MS, Act, Case, CaseState, Entry, Ground
from super_app.disputes.service import Disputes
from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from super_app.payments.model import State

ALL = (*PACKAGES, "super_app.disputes")
PAID_MINOR = 500
HAS_MINOR = 2_000

_minor = st.integers(0, 700)
_step = st.one_of(
    st.tuples(st.just("open"), st.one_of(st.none(), _minor)),
    st.tuples(st.just("refund"), st.integers(1, 600)),
    st.tuples(st.just("grant"), _minor),
    st.tuples(st.just("give"), st.none()),
    st.tuples(st.sampled_from(["reject", "withdraw", "payer says", "payee says"]), st.none()),
    st.tuples(st.just("wait"), st.sampled_from([1, DISPUTABLE_MS])),
)


@dataclass
class Play:
    """alice has paid bob 5.00; both sides and the operator then do as told."""

    books: Books
    number: int = 100
    taken: int = 0
    seen: list[Case] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.alice = self.books.open_account("alice", HAS_MINOR)
        self.bob = self.books.open_account("bob", HAS_MINOR)
        self.disputes = Disputes(ServerName("hs1.test"))
        self.paid = self.books.order(1, "alice", "bob", PAID_MINOR)
        assert self.books.pay(self.paid).state is State.COMPLETED
        self.key = key_of(self.paid)
        self._hear()

    def step(self, what: str, value: int | None) -> None:
        before = self.wallets()
        outcome = self._do(what, value)
        if what not in ("refund", "give") or isinstance(outcome, Refused):
            assert self.wallets() == before, "only a refund moves money"
        self._hear()
        case = self.case()
        if case is not None:
            self.seen.append(case)

    def _do(self, what: str, value: int | None) -> object:
        self.number += 1
        entry, now_ms = f"{self.number:032x}", self.books.now_ms
        match what:
            case "open":
                return self.books.transaction(
                    lambda cur: self.disputes.open(
                        cur,
                        self.alice,
                        payment_id(1),
                        ground=Ground.OTHER,
                        text="Nothing came.",
                        wanted_minor=value,
                        entry_id=entry,
                        now_ms=now_ms,
                    )
                )
            case "refund":
                return self._refund(value or 1)
            case "give":
                found = self.books.transaction(lambda cur: self.disputes.to_refund(cur, self.key))
                return found if isinstance(found, Refused) else self._refund(found[1], must=True)
            case "grant" | "reject":
                granted = value if what == "grant" else None
                return self.books.transaction(
                    lambda cur: self.disputes.decide(cur, self.key, granted, "I looked at it.", entry, now_ms)
                )
            case "withdraw":
                return self.books.transaction(
                    lambda cur: self.disputes.withdraw(cur, self.alice, self.key, entry, now_ms)
                )
            case "payer says" | "payee says":
                who = self.alice if what == "payer says" else self.bob
                return self.books.transaction(
                    lambda cur: self.disputes.state(cur, who, self.key, "So it was.", entry, now_ms)
                )
            case _:
                self.books.now_ms += value or 0
                return None

    def _refund(self, minor: int, *, must: bool = False) -> object:
        order = self.books.order(self.number, "bob", "alice", minor, refund_of=payment_id(1))
        placed = self.books.place(order)
        if isinstance(placed, Refused):
            assert not must, f"what a case has to give back is refused: {placed.message}"
            return placed
        return self.books.bind(order)

    def _hear(self) -> None:
        """What payments tell in the same transaction in a homeserver; heard twice it is one line."""
        heard, self.taken = self.books.changes.payments[self.taken :], len(self.books.changes.payments)
        for payment in (*heard, *heard):
            self.books.transaction(
                lambda cur, each=payment: self.disputes.payment_changed(cur, each, self.books.now_ms)  # type: ignore[misc]
            )

    def case(self) -> Case | None:
        found = self.books.transaction(lambda cur: self.disputes.find(cur, self.alice, self.key))
        return None if isinstance(found, Refused) else found

    def timeline(self, case: Case) -> tuple[Entry, ...]:
        return self.books.transaction(lambda cur: self.disputes.timeline(cur, case))

    def wallets(self) -> tuple[tuple[int, int], tuple[int, int]]:
        return self.books.wallet(self.alice), self.books.wallet(self.bob)

    def check(self) -> None:
        (alice, _), (bob, _) = self.wallets()
        assert alice + bob == 2 * HAS_MINOR
        assert alice <= HAS_MINOR, "nobody gets back more than they paid"
        assert self.books.violations() == ()
        case = self.case()
        if case is not None:
            self._check_case(case, came_back_minor=alice - (HAS_MINOR - PAID_MINOR))

    def _check_case(self, case: Case, came_back_minor: int) -> None:
        said = self.timeline(case)
        assert [entry.number for entry in said] == list(range(1, len(said) + 1))
        assert [entry.act for entry in said].count(Act.OPENED) == 1
        decisions = [entry for entry in said if entry.act in (Act.GRANTED, Act.REJECTED, Act.WITHDRAWN)]
        assert len(decisions) <= 1, "decided once"
        assert 1 <= case.wanted_minor <= PAID_MINOR
        assert case.granted_minor is None or 1 <= case.granted_minor <= case.wanted_minor
        back_minor = sum(entry.amount_minor or 0 for entry in said if entry.act is Act.REFUNDED)
        assert back_minor <= came_back_minor, "only what came back is in the case, each refund once"
        if case.state is CaseState.SETTLED:
            assert back_minor >= case.due_minor
        for earlier, later in zip(self.seen, self.seen[1:], strict=False):
            assert earlier.state is later.state or not earlier.state.final, "an end is final"
            assert earlier.granted_minor in (None, later.granted_minor), "a grant is not changed"
            assert (earlier.wanted_minor, earlier.opened_ms) == (later.wanted_minor, later.opened_ms)


@settings(
    max_examples=8,
    deadline=None,
    # The fixture opens a fresh database for each example; it holds nothing between them.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(_step, min_size=8, max_size=16), opened=st.booleans())
@pytest.mark.packages(*ALL)
def test_in_whatever_order_a_dispute_is_decided_once_and_never_brings_back_more_than_was_paid(
    open_database: Callable[..., Database], steps: list[tuple[str, int | None]], opened: bool
) -> None:
    play = Play(Books(open_database(*ALL).connect(rerun=False)))
    # Half of the time the case is there at once; else what comes before it is refused.
    for what, value in [("open", None), *steps] if opened else steps:
        play.step(what, value)
        play.check()


@pytest.mark.packages(*ALL)
def test_a_refund_after_a_refund_after_a_grant_ends_at_what_was_paid(open_database: Callable[..., Database]) -> None:
    play = Play(Books(open_database(*ALL).connect(rerun=False)))
    for step in (("refund", 100), ("open", None), ("refund", 150), ("grant", 400), ("refund", 200), ("give", None)):
        play.step(*step)
        play.check()
    case = play.case()
    assert case is not None
    assert (case.state, case.wanted_minor, case.granted_minor) == (CaseState.SETTLED, 400, 400)
    assert play.wallets() == ((HAS_MINOR, 0), (HAS_MINOR, 0))
    order = play.books.order(999, "bob", "alice", 1, refund_of=payment_id(1))
    refused = play.books.place(order)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.REFUND_EXCEEDS_PAYMENT
