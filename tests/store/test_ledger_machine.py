"""Whatever is asked of the ledger in whatever order: a second, naive book-keeper answers the same.

Each example plays in a currency of its own, so that all share one database, which fills meanwhile.
"""

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Final, TypeVar

import pytest
from engines import Database
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from super_app.db import Cursor, Transaction
from super_app.errors import Reason, Refused
from super_app.ids import Acct, ServerName
from super_app.ledger import journal, journal_store, operators, service, store
from super_app.ledger.model import (
    AccountKey,
    AccountKind,
    Archive,
    Balance,
    Cause,
    Entry,
    Head,
    Hold,
    HoldId,
    HoldState,
    Posted,
    Statement,
    Transfer,
    TransferId,
    available,
    due_from,
    due_to,
    held,
    house,
)
from super_app.money import AssetCode, Money

pytestmark = pytest.mark.packages("super_app.ledger")

T = TypeVar("T")

PEOPLE: Final = ("alice", "bob", "carol")
PEER: Final = ServerName("hs2.example")
_numbers: Final = itertools.count(1)

_person = st.sampled_from(PEOPLE)
_minor = st.integers(1, 120)
_id = st.integers(1, 12)
_SETTINGS: Final = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@dataclass(frozen=True, slots=True)
class Wish:
    """A transfer in the words of the strategies: the ``number`` makes its id."""

    number: int
    debit: int
    credit: int
    amount_minor: int


_wish = st.builds(Wish, _id, st.integers(0, 6), st.integers(0, 6), _minor).filter(
    lambda wish: wish.debit != wish.credit
)


class Play:
    """One currency, with the accounts that wishes are about."""

    def __init__(self) -> None:
        self.prefix = f"x{next(_numbers)}"
        self.currency = AssetCode(self.prefix.upper())
        self.accounts: Sequence[AccountKey] = (
            *(available(self.acct(name), self.currency) for name in PEOPLE),
            house(AccountKind.ISSUED, self.currency),
            house(AccountKind.SUSPENSE, self.currency),
            due_to(PEER, self.currency),
            due_from(PEER, self.currency),
        )

    def acct(self, name: str) -> Acct:
        return Acct(f"{self.prefix}-{name}")

    def money(self, amount_minor: int) -> Money:
        return Money(amount_minor=amount_minor, currency=self.currency)

    def order(self, wish: Wish) -> Transfer:
        return Transfer(
            transfer_id=TransferId(f"{self.prefix}:{wish.number}"),
            debit=self.accounts[wish.debit],
            credit=self.accounts[wish.credit],
            amount_minor=wish.amount_minor,
            cause=Cause.PAYMENT,
            reference=f"{self.prefix}-p{wish.number}",
        )


class NaiveBooks:
    """The rules once more, as plainly as possible: balances in a dict, an id is the body that was posted under it."""

    def __init__(self) -> None:
        self.balances: dict[AccountKey, int] = {}
        self.posted: dict[TransferId, Transfer] = {}
        self.holds: dict[HoldId, Hold] = {}
        self.frozen: set[str] = set()
        self.corrected: dict[int, int] = {}
        self.seqs: dict[TransferId, int] = {}
        self.archived_through = 0

    def is_archived(self, transfer_id: TransferId) -> bool:
        return 0 < self.seqs.get(transfer_id, 0) <= self.archived_through

    def transfer(self, order: Transfer) -> Reason | str:
        stands = self.posted.get(order.transfer_id)
        if self.is_archived(order.transfer_id):
            return Reason.ENTRY_ARCHIVED
        if stands is not None:
            return "replayed" if stands == order else Reason.CONFLICT
        if order.cause.is_payment and {order.debit.owner, order.credit.owner} & self.frozen:
            return Reason.ACCOUNT_FROZEN
        debit = self.balances.get(order.debit, 0) - order.amount_minor
        credit = self.balances.get(order.credit, 0) + order.amount_minor
        if debit * order.debit.kind.sign < 0 or credit * order.credit.kind.sign < 0:
            return Reason.INSUFFICIENT_FUNDS
        self.balances[order.debit], self.balances[order.credit] = debit, credit
        self.posted[order.transfer_id] = order
        return "posted"

    def taken_back(self, entry: Entry, transfer_id: TransferId, amount_minor: int | None) -> Transfer | Reason:
        """What a correction of ``entry`` is, or why there is none."""
        moved, can = entry.transfer, (AccountKind.AVAILABLE, AccountKind.ISSUED)
        debit_kind = AccountKind.AVAILABLE if moved.debit.kind is AccountKind.HELD else moved.debit.kind
        back = moved.debit._replace(kind=debit_kind)
        by_people = moved.cause in (Cause.PAYMENT, Cause.ISSUE, Cause.BURN, Cause.CORRECT)
        if not by_people or debit_kind not in can or moved.credit.kind not in can or back == moved.credit:
            return Reason.NOT_CORRECTABLE
        left_minor = moved.amount_minor - self.corrected.get(entry.seq, 0)
        wanted_minor = left_minor if amount_minor is None else amount_minor
        if wanted_minor > left_minor or wanted_minor == 0:
            return Reason.CORRECTION_EXCEEDS_ENTRY
        return Transfer(
            transfer_id=transfer_id,
            debit=moved.credit,
            credit=back,
            amount_minor=wanted_minor,
            cause=Cause.CORRECT,
            reference=f"entry:{entry.seq}",
        )


def told(answer: Posted | Refused) -> Reason | str:
    if isinstance(answer, Refused):
        return answer.reason
    return "replayed" if answer.replayed else "posted"


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self, transaction: Transaction) -> None:
        super().__init__()
        self.transaction = transaction
        self.play = Play()
        self.books = NaiveBooks()
        self.entries: list[Entry] = []
        """Entries of this play, as they were answered."""

    def _posted(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.books.seqs[entry.transfer.transfer_id] = entry.seq

    def head(self) -> Head:
        return self.transaction(store.head)

    @initialize(amounts=st.lists(_minor, min_size=3, max_size=3))
    def everybody_gets_something(self, amounts: list[int]) -> None:
        for name, amount_minor in zip(PEOPLE, amounts, strict=True):
            self.issue(name, amount_minor, 0)

    @rule(name=_person, amount_minor=_minor, number=_id)
    def issue(self, name: str, amount_minor: int, number: int) -> None:
        self._by_operator(Cause.ISSUE, name, amount_minor, number)

    @rule(name=_person, amount_minor=_minor, number=_id)
    def burn(self, name: str, amount_minor: int, number: int) -> None:
        self._by_operator(Cause.BURN, name, amount_minor, number)

    def _by_operator(self, cause: Cause, name: str, amount_minor: int, number: int) -> None:
        reference = f"{self.play.prefix}-{name if number == 0 else number}"
        issued = house(AccountKind.ISSUED, self.play.currency)
        person = available(self.play.acct(name), self.play.currency)
        order = Transfer(
            transfer_id=TransferId(f"{cause.value}:{reference}"),
            debit=issued if cause is Cause.ISSUE else person,
            credit=person if cause is Cause.ISSUE else issued,
            amount_minor=amount_minor,
            cause=cause,
            reference=reference,
        )
        expected = self.books.transfer(order)
        before = self.head()
        answer = self.transaction(
            partial(
                service.issue if cause is Cause.ISSUE else operators.burn,
                owner=self.play.acct(name),
                money=self.play.money(amount_minor),
                reference=reference,
                operator="@admin",
                now_ms=1,
            )
        )
        if isinstance(answer, Refused):
            assert answer.reason is expected
            assert self.head() == before
        else:
            assert answer.transfer == order
            assert (self.head() != before) == (expected == "posted")
            self._posted(answer)

    @rule(pick=st.integers(0, 40), amount_minor=st.none() | _minor, number=_id)
    def correct(self, pick: int, amount_minor: int | None, number: int) -> None:
        entry = self.entries[pick % len(self.entries)]
        transfer_id = TransferId(f"correct:{self.play.prefix}-{number}")
        before = self.head()
        answer = self.transaction(
            partial(
                operators.correct,
                seq=entry.seq,
                amount_minor=amount_minor,
                reference=f"{self.play.prefix}-{number}",
                reason="a mistake",
                operator="@admin",
                now_ms=6,
            )
        )
        stands = self.books.posted.get(transfer_id)
        if self.books.is_archived(transfer_id) or (stands is None and entry.seq <= self.books.archived_through):
            assert isinstance(answer, Refused)
            assert answer.reason is Reason.ENTRY_ARCHIVED
            assert self.head() == before
            return
        if stands is not None:
            same = stands.reference == f"entry:{entry.seq}" and amount_minor in (None, stands.amount_minor)
            if same:
                assert isinstance(answer, Entry)
                assert answer.transfer == stands
            else:
                assert isinstance(answer, Refused)
                assert answer.reason is Reason.CONFLICT
            assert self.head() == before
            return
        order = self.books.taken_back(entry, transfer_id, amount_minor)
        expected = order if isinstance(order, Reason) else self.books.transfer(order)
        if expected != "posted":
            assert isinstance(answer, Refused)
            assert answer.reason is expected
            assert self.head() == before
            return
        assert isinstance(answer, Entry)
        assert answer.transfer == order
        self.books.corrected[entry.seq] = self.books.corrected.get(entry.seq, 0) + answer.transfer.amount_minor
        self._posted(answer)

    @rule(name=_person, frozen=st.booleans())
    def freeze_or_unfreeze(self, name: str, frozen: bool) -> None:
        owner = self.play.acct(name)
        act = operators.freeze if frozen else operators.unfreeze
        before = self.head()
        answer = self.transaction(partial(act, owner=owner, reason="r", operator="@admin", now_ms=7))
        assert (answer.since_ms is not None) == frozen
        assert self.head() == before
        self.books.frozen = self.books.frozen | {owner} if frozen else self.books.frozen - {owner}

    @rule(wishes=st.lists(_wish, min_size=1, max_size=6))
    def transfer_many(self, wishes: list[Wish]) -> None:
        orders = [self.play.order(wish) for wish in wishes]
        expected = [self.books.transfer(order) for order in orders]
        before = self.head()
        answers = self.transaction(partial(service.transfer_many, orders=orders, now_ms=2))
        assert [told(answer) for answer in answers] == expected
        for order, answer in zip(orders, answers, strict=True):
            if isinstance(answer, Posted):
                assert answer.transfer == order
                self._posted(answer.entry)
        assert self.head().seq - before.seq == expected.count("posted")

    @rule(wishes=st.lists(_wish, min_size=2, max_size=3, unique_by=lambda wish: wish.number))
    def transfer_linked(self, wishes: list[Wish]) -> None:
        orders = [self.play.order(wish) for wish in wishes]
        balances, known = dict(self.books.balances), dict(self.books.posted)
        expected = [self.books.transfer(order) for order in orders]
        together = set(expected) in ({"posted"}, {"replayed"})
        if not together:
            self.books.balances, self.books.posted = balances, known
        before = self.head()
        answer = self.transaction(partial(service.transfer_linked, orders=orders, now_ms=2))
        assert isinstance(answer, list) == together
        for posted in answer if isinstance(answer, list) else ():
            self._posted(posted.entry)
        assert self.head().seq - before.seq == (expected.count("posted") if together else 0)

    def _hold_id(self, number: int) -> HoldId:
        return HoldId(f"{self.play.prefix}:h{number}")

    @rule(number=_id, name=_person, amount_minor=_minor)
    def place_hold(self, number: int, name: str, amount_minor: int) -> None:
        hold_id, owner = self._hold_id(number), self.play.acct(name)
        stands = self.books.holds.get(hold_id)
        wanted = self.play.money(amount_minor)
        before = self.head()
        answer = self.transaction(partial(service.place_hold, hold_id=hold_id, owner=owner, money=wanted, now_ms=3))
        if stands is not None:
            same = (stands.owner, stands.money) == (owner, wanted)
            assert answer == stands if same else isinstance(answer, Refused) and answer.reason is Reason.CONFLICT
            assert self.head() == before
            return
        key = available(owner, self.play.currency)
        if owner in self.books.frozen:
            assert isinstance(answer, Refused)
            assert answer.reason is Reason.ACCOUNT_FROZEN
            assert self.head() == before
            return
        if self.books.balances.get(key, 0) < amount_minor:
            assert isinstance(answer, Refused)
            assert answer.reason is Reason.INSUFFICIENT_FUNDS
            assert answer.fields["available"] == self.books.balances.get(key, 0)
            assert self.head() == before
            return
        assert isinstance(answer, Hold)
        self._move(key, held(owner, self.play.currency), amount_minor)
        self.books.holds[hold_id] = answer

    @rule(number=_id, payee=_person, amount_minor=st.none() | _minor)
    def post_hold(self, number: int, payee: str, amount_minor: int | None) -> None:
        hold_id = self._hold_id(number)
        credit = available(self.play.acct(payee), self.play.currency)
        before = self.head()
        answer = self.transaction(
            partial(
                service.post_hold,
                hold_id=hold_id,
                credit=credit,
                cause=Cause.PAYMENT,
                reference=payee,
                amount_minor=amount_minor,
                now_ms=4,
            )
        )
        stands = self.books.holds.get(hold_id)
        if stands is None:
            assert told(answer) is Reason.UNKNOWN_PAYMENT
            return
        wanted_minor = stands.money.amount_minor if amount_minor is None else amount_minor
        if stands.state is HoldState.VOIDED:
            assert told(answer) is Reason.ALREADY_DECIDED
            return
        if wanted_minor > stands.money.amount_minor:
            assert told(answer) is Reason.HOLD_EXCEEDED
            return
        source = held(stands.owner, self.play.currency)
        order = Transfer(
            transfer_id=TransferId(f"post:{hold_id}"),
            debit=source,
            credit=credit,
            amount_minor=wanted_minor,
            cause=Cause.PAYMENT,
            reference=payee,
        )
        if stands.state is HoldState.POSTED and self.books.is_archived(order.transfer_id):
            assert told(answer) is Reason.ENTRY_ARCHIVED
            return
        if stands.state is HoldState.POSTED:
            same = self.books.posted[order.transfer_id] == order
            assert told(answer) == ("replayed" if same else Reason.ALREADY_DECIDED)
            assert self.head() == before
            return
        expected = self.books.transfer(order)
        assert told(answer) == expected
        if isinstance(answer, Refused):
            assert expected is Reason.ACCOUNT_FROZEN
            assert self.head() == before
            return
        self._posted(answer.entry)
        rest_minor = stands.money.amount_minor - wanted_minor
        self._move(source, available(stands.owner, self.play.currency), rest_minor)
        assert self.head().seq - before.seq == 1 + (rest_minor > 0)
        self.books.holds[hold_id] = replace(stands, state=HoldState.POSTED, posted_minor=wanted_minor)

    @rule(number=_id)
    def void_hold(self, number: int) -> None:
        hold_id = self._hold_id(number)
        answer = self.transaction(partial(service.void_hold, hold_id=hold_id, now_ms=5))
        stands = self.books.holds.get(hold_id)
        if stands is None:
            assert isinstance(answer, Refused)
            assert answer.reason is Reason.UNKNOWN_PAYMENT
        elif stands.state is HoldState.POSTED:
            assert isinstance(answer, Refused)
            assert answer.reason is Reason.ALREADY_DECIDED
        else:
            assert isinstance(answer, Hold)
            assert answer.state is HoldState.VOIDED
            if stands.state is HoldState.OPEN:
                key = held(stands.owner, self.play.currency)
                self._move(key, available(stands.owner, self.play.currency), stands.money.amount_minor)
                self.books.holds[hold_id] = replace(stands, state=HoldState.VOIDED)

    def _move(self, debit: AccountKey, credit: AccountKey, amount_minor: int) -> None:
        self.books.balances[debit] = self.books.balances.get(debit, 0) - amount_minor
        self.books.balances[credit] = self.books.balances.get(credit, 0) + amount_minor

    @rule(every=st.integers(1, 9))
    def take_snapshots(self, every: int) -> None:
        before = self.head()
        while self.transaction(partial(journal.take_snapshot, now_ms=8, every=every, older_than_ms=10**6)) is not None:
            pass
        assert self.head() == before

    @rule(kept=st.integers(0, 4), dropped=st.integers(1, 50))
    def archive_all_but_the_newest(self, kept: int, dropped: int) -> None:
        """Also while entries of the archive before are still to go."""
        before = self.head()

        def archive(cur: Cursor) -> int:
            newest = store.newest_archive(cur)
            after, before_hash = (0, "") if newest is None else (newest.through_seq, newest.entry_hash)
            through = before.seq - kept
            stretch = journal_store.stretch_to(cur, after, before_hash, through) if through > after else None
            if stretch is not None:
                assert journal.prepare_archive(cur, through, 9) is None
                wanted = Archive(stretch=stretch, file_name="f", file_digest="d" * 43, archived_ms=9)
                done = journal.record_archive(cur, wanted, reason="r", operator="@admin", now_ms=9)
                assert not isinstance(done, Refused)
            left = journal.drop_archived(cur, dropped)
            # What is recorded and still to go answers as before.
            return store.archived_through(cur) - left

        self.books.archived_through = self.transaction(archive)
        assert self.head() == before

    @invariant()
    def both_have_the_same_balances_and_they_sum_to_zero(self) -> None:
        def ours(cur: Cursor) -> dict[AccountKey, int]:
            keys = [*self.play.accounts, *(held(self.play.acct(name), self.play.currency) for name in PEOPLE)]
            return {key: account.balance_minor for key, account in store.accounts(cur, keys).items()}

        found = self.transaction(ours)
        assert found == {key: minor for key, minor in self.books.balances.items() if key in found}
        assert not any(minor for key, minor in self.books.balances.items() if key not in found)
        assert sum(found.values()) == 0
        assert all(minor * key.kind.sign >= 0 for key, minor in found.items())

    def teardown(self) -> None:
        after = self.transaction(partial(journal.verify_from, everything=False))
        assert self.transaction(partial(journal.verify, after_seq=after, limit=5_000)).violations == ()
        for name in PEOPLE:
            key = available(self.play.acct(name), self.play.currency)
            self._statement_adds_up(key)
            wallet = self.transaction(partial(service.wallet, owner=self.play.acct(name)))
            assert wallet in ((), (self._balance(name),))

    def _statement_adds_up(self, key: AccountKey) -> None:
        running = self.books.balances.get(key, 0)
        since: int | None = None
        while True:
            page = self.transaction(
                partial(journal.statement, key=key, from_ms=None, until_ms=None, since=since, limit=7)
            )
            assert isinstance(page, Statement)
            assert page.closing_minor == self.books.balances.get(key, 0)
            for entry in page.entries:
                assert entry.after_of(key) == running
                running -= entry.change_of(key)
            if page.following is None:
                break
            since = page.following
        assert running == page.opening_minor
        assert page.archived is not None or running == 0

    def _balance(self, name: str) -> Balance:
        acct, currency = self.play.acct(name), self.play.currency
        return Balance(
            currency=currency,
            available_minor=self.books.balances.get(available(acct, currency), 0),
            held_minor=self.books.balances.get(held(acct, currency), 0),
        )


def test_the_ledger_answers_as_a_naive_book_keeper_does(database: Database) -> None:
    transaction = database.connect(rerun=True)
    run_state_machine_as_test(lambda: LedgerMachine(transaction), settings=_SETTINGS)  # type: ignore[arg-type]


def test_it_answers_so_through_two_connections_in_turns(database: Database) -> None:
    """What one connection has committed, the other builds on, whatever it has seen before."""
    connections = itertools.cycle([database.connect(rerun=False), database.connect(rerun=False)])

    def in_turns(work: Callable[[Cursor], T]) -> T:
        return next(connections)(work)

    run_state_machine_as_test(lambda: LedgerMachine(in_turns), settings=_SETTINGS)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_what_two_connections_do_at_once_is_done_once_and_adds_up(
    two_connections: tuple[Transaction, Transaction], seed: int
) -> None:
    """Both post the same transfers, place, post and void the same holds, freeze, correct and take snapshots."""
    play = Play()
    people = [play.acct(name) for name in PEOPLE]
    for owner in people:
        issue = partial(service.issue, owner=owner, money=play.money(200), operator="@a", now_ms=1)
        two_connections[0](partial(issue, reference=f"{play.prefix}-{owner}"))
    posted: list[list[TransferId]] = [[], []]

    def hammer(which: int) -> None:
        transaction, random = two_connections[which], Random(f"{seed} {which}")
        for _ in range(60):
            number = random.randint(1, 25)
            payer, payee = people[number % 3], people[(number + 1) % 3]
            hold_id = HoldId(f"{play.prefix}:h{number}")
            order = play.order(Wish(number, number % 3, (number + 1) % 3, number))
            match random.randint(0, 7):
                case 0 | 1 | 2:
                    verdict = transaction(partial(service.transfer, order=order, now_ms=2))
                    if isinstance(verdict, Posted) and not verdict.replayed:
                        posted[which].append(order.transfer_id)
                case 3:
                    transaction(
                        partial(service.place_hold, hold_id=hold_id, owner=payer, money=play.money(number), now_ms=3)
                    )
                case 4:
                    to = available(payee, play.currency)
                    post = partial(service.post_hold, hold_id=hold_id, credit=to, cause=Cause.PAYMENT, reference="p")
                    transaction(partial(post, amount_minor=random.randint(1, number), now_ms=4))
                case 5:
                    transaction(partial(service.void_hold, hold_id=hold_id, now_ms=5))
                case 6:
                    act = random.choice([operators.freeze, operators.unfreeze])
                    transaction(partial(act, owner=payer, reason="r", operator="@a", now_ms=6))
                case _:
                    correct = partial(operators.correct, seq=number, amount_minor=1, reason="r", operator="@a")
                    transaction(partial(correct, reference=f"{play.prefix}-{number}", now_ms=7))

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(hammer, which) for which in range(2)]:
            done.result(timeout=240)
    ours = [*posted[0], *posted[1]]
    assert len(ours) == len(set(ours)), "a transfer was posted by both"
    one = two_connections[0]
    balances = [one(partial(service.wallet, owner=owner))[0] for owner in people]
    issued = one(partial(service.balance, key=house(AccountKind.ISSUED, play.currency)))
    assert sum(each.available_minor + each.held_minor for each in balances) == -issued
    assert one(partial(journal.verify, after_seq=0, limit=5_000)).violations == ()


def test_the_order_of_independent_transfers_does_not_matter(database: Database) -> None:
    """Everybody starts with enough for all that they pay, so no transfer depends on another."""
    transaction = database.connect(rerun=False)

    @settings(parent=_SETTINGS)
    @given(st.lists(_wish.filter(_between_people), max_size=12, unique_by=lambda wish: wish.number), st.randoms())
    def both_orders(wishes: list[Wish], random: object) -> None:
        shuffled = list(wishes)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        assert _balances_after(transaction, wishes) == _balances_after(transaction, shuffled)

    both_orders()
    assert transaction(service.violations) == ()


def _between_people(wish: Wish) -> bool:
    return wish.debit < len(PEOPLE) and wish.credit < len(PEOPLE)


def _balances_after(transaction: Transaction, wishes: Sequence[Wish]) -> list[int]:
    play = Play()
    enough = 120 * 12
    for name in PEOPLE:
        reference = f"{play.prefix}-{name}"
        owner, money = play.acct(name), play.money(enough)
        transaction(partial(service.issue, owner=owner, money=money, reference=reference, operator="@a", now_ms=1))
    half = len(wishes) // 2
    for part in (wishes[:half], wishes[half:]):
        answers = transaction(partial(service.transfer_many, orders=[play.order(wish) for wish in part], now_ms=2))
        assert all(told(answer) == "posted" for answer in answers)
    return [transaction(partial(service.balance, key=key)) for key in play.accounts[: len(PEOPLE)]]
