from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import LiteralString

import psycopg2.errors
import pytest
from engines import Database

from super_app.db import Cursor, Engine, Row, SqlValue, Transaction
from super_app.errors import Reason, Refused
from super_app.ids import Acct, ServerName
from super_app.ledger import rules, service, store
from super_app.ledger.model import (
    AccountKey,
    AccountKind,
    Balance,
    Cause,
    Entry,
    Hold,
    HoldId,
    HoldState,
    Posted,
    Transfer,
    TransferId,
    available,
    due_from,
    due_to,
    house,
)
from super_app.money import AssetCode, Money

pytestmark = pytest.mark.packages("super_app.ledger")

EUR, PTS = AssetCode("EUR"), AssetCode("PTS")
ALICE, BOB, CAROL = Acct("alice"), Acct("bob"), Acct("carol")
PEER = ServerName("hs2.example")
HOLD = HoldId("alice:p1")


def eur(amount_minor: int) -> Money:
    return Money(amount_minor=amount_minor, currency=EUR)


def order(
    transfer_id: str,
    debit: AccountKey,
    credit: AccountKey,
    amount_minor: int,
    *,
    cause: Cause = Cause.PAYMENT,
    reference: str = "p1",
) -> Transfer:
    return Transfer(
        transfer_id=TransferId(transfer_id),
        debit=debit,
        credit=credit,
        amount_minor=amount_minor,
        cause=cause,
        reference=reference,
    )


def pay(transfer_id: str, payer: Acct, payee: Acct, amount_minor: int) -> Transfer:
    return order(transfer_id, available(payer, EUR), available(payee, EUR), amount_minor)


def issued(cur: Cursor, owner: Acct, money: Money, reference: str = "r1") -> Entry:
    entry = service.issue(cur, owner, money, reference=reference, operator="@admin:hs1", now_ms=1)
    assert isinstance(entry, Entry), entry
    return entry


def placed(cur: Cursor, hold_id: HoldId = HOLD, amount_minor: int = 30) -> Hold:
    hold = service.place_hold(cur, hold_id, ALICE, eur(amount_minor), 2)
    assert isinstance(hold, Hold), hold
    return hold


def posted_to_bob(cur: Cursor, hold_id: HoldId = HOLD, reference: str = "p1") -> Posted | Refused:
    return service.post_hold(
        cur, hold_id, credit=available(BOB, EUR), cause=Cause.PAYMENT, reference=reference, now_ms=3
    )


def balances(cur: Cursor) -> dict[Acct, tuple[int, int]]:
    """Available and held EUR of each person who has any."""
    found: dict[Acct, tuple[int, int]] = {}
    for owner in (ALICE, BOB, CAROL):
        for each in service.wallet(cur, owner):
            found[owner] = (each.available_minor, each.held_minor)
    return found


def refused(answer: object, reason: Reason) -> Refused:
    assert isinstance(answer, Refused), answer
    assert answer.reason is reason
    return answer


class Untouched:
    """Around what must write nothing."""

    def __init__(self, cur: Cursor) -> None:
        self._cur = cur

    def _state(self) -> object:
        rows = [store.head(self._cur)]
        self._cur.execute("SELECT owner, currency, kind, balance_minor FROM superapp_ledger_account ORDER BY 1, 2, 3")
        found: list[object] = [rows, self._cur.fetchall()]
        self._cur.execute("SELECT hold_id, state, decided_seq FROM superapp_ledger_hold ORDER BY 1")
        found.append(self._cur.fetchall())
        self._cur.execute("SELECT transfer_id FROM superapp_ledger_act ORDER BY 1")
        found.append(self._cur.fetchall())
        return found

    def __enter__(self) -> None:
        self._before = self._state()

    def __exit__(self, *_: object) -> None:
        assert self._state() == self._before, "what was refused or replayed has written something"


def test_issued_money_is_in_the_wallet_and_the_house_owes_it(transaction: Transaction) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    assert transaction(lambda cur: service.wallet(cur, ALICE)) == (
        Balance(currency=EUR, available_minor=100, held_minor=0),
    )
    assert transaction(lambda cur: service.balance(cur, house(AccountKind.ISSUED, EUR))) == -100


def test_the_same_issue_again_changes_nothing_and_gives_the_entry(transaction: Transaction) -> None:
    first = transaction(lambda cur: issued(cur, ALICE, eur(100)))

    def again(cur: Cursor) -> Entry:
        with Untouched(cur):
            return issued(cur, ALICE, eur(100))

    assert transaction(again) == first


@pytest.mark.parametrize(
    ("owner", "money", "field"),
    [
        (BOB, eur(100), "credit"),
        (ALICE, eur(101), "amount"),
        (ALICE, Money(amount_minor=100, currency=PTS), "debit"),
    ],
)
def test_an_issue_with_a_used_reference_and_another_body_is_a_conflict(
    transaction: Transaction, owner: Acct, money: Money, field: str
) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))

    def again(cur: Cursor) -> Entry | Refused:
        with Untouched(cur):
            return service.issue(cur, owner, money, reference="r1", operator="@admin:hs1", now_ms=5)

    assert refused(transaction(again), Reason.CONFLICT).fields == {"field": field}


def test_who_issued_is_remembered_apart_from_the_journal(transaction: Transaction) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))

    def acts(cur: Cursor) -> list[object]:
        cur.execute("SELECT transfer_id, operator FROM superapp_ledger_act")
        return list(cur.fetchall())

    assert transaction(acts) == [("issue:r1", "@admin:hs1")]


def test_money_moves_and_the_entry_tells_both_balances(transaction: Transaction) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    done = transaction(lambda cur: service.transfer(cur, pay("t1", ALICE, BOB, 30), 7))
    assert isinstance(done, Posted)
    assert not done.replayed
    assert done.posted_ms == 7
    assert (done.entry.debit_after_minor, done.entry.credit_after_minor) == (70, 30)
    assert transaction(balances) == {ALICE: (70, 0), BOB: (30, 0)}


def test_more_than_there_is_cannot_be_spent_and_the_refusal_says_what_there_is(transaction: Transaction) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))

    def overdraw(cur: Cursor) -> Posted | Refused:
        with Untouched(cur):
            return service.transfer(cur, pay("t1", ALICE, BOB, 101), 7)

    refusal = refused(transaction(overdraw), Reason.INSUFFICIENT_FUNDS)
    assert refusal.fields == {"available": 100, "currency": EUR}
    assert "100" in refusal.message


def test_who_never_had_anything_cannot_pay(transaction: Transaction) -> None:
    refusal = transaction(lambda cur: service.transfer(cur, pay("t1", ALICE, BOB, 1), 7))
    assert refused(refusal, Reason.INSUFFICIENT_FUNDS).fields["available"] == 0
    assert transaction(lambda cur: service.wallet(cur, ALICE)) == ()


def test_a_refused_id_is_free_and_can_be_paid_later(transaction: Transaction) -> None:
    refused(transaction(lambda cur: service.transfer(cur, pay("t1", ALICE, BOB, 1), 7)), Reason.INSUFFICIENT_FUNDS)
    transaction(lambda cur: issued(cur, ALICE, eur(1)))
    assert isinstance(transaction(lambda cur: service.transfer(cur, pay("t1", ALICE, BOB, 1), 8)), Posted)


def test_the_same_transfer_again_changes_nothing_even_when_the_money_is_gone(transaction: Transaction) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    first = transaction(lambda cur: service.transfer(cur, pay("t1", ALICE, BOB, 100), 7))
    assert isinstance(first, Posted)

    def again(cur: Cursor) -> Posted | Refused:
        with Untouched(cur):
            return service.transfer(cur, pay("t1", ALICE, BOB, 100), 8)

    assert transaction(again) == Posted(entry=first.entry, replayed=True)


@pytest.mark.parametrize(
    ("other", "field"),
    [
        (pay("t1", BOB, ALICE, 30), "debit"),
        (pay("t1", ALICE, CAROL, 30), "credit"),
        (pay("t1", ALICE, BOB, 31), "amount"),
        (pay("t1", ALICE, BOB, 10_000), "amount"),
        (order("t1", available(ALICE, EUR), available(BOB, EUR), 30, cause=Cause.CREDIT), "cause"),
        (order("t1", available(ALICE, EUR), available(BOB, EUR), 30, reference="p2"), "reference"),
    ],
)
def test_a_used_id_with_another_body_is_a_conflict_that_names_the_field(
    transaction: Transaction, other: Transfer, field: str
) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    transaction(lambda cur: service.transfer(cur, pay("t1", ALICE, BOB, 30), 7))

    def again(cur: Cursor) -> Posted | Refused:
        with Untouched(cur):
            return service.transfer(cur, other, 8)

    assert refused(transaction(again), Reason.CONFLICT).fields == {"field": field}


def test_an_account_between_homeservers_is_negative_where_the_peer_owes(transaction: Transaction) -> None:
    credit = order("c1", due_from(PEER, EUR), available(BOB, EUR), 40, cause=Cause.CREDIT)
    assert isinstance(transaction(lambda cur: service.transfer(cur, credit, 7)), Posted)
    assert transaction(lambda cur: service.balance(cur, due_from(PEER, EUR))) == -40
    settle = order("c2", available(BOB, EUR), due_from(PEER, EUR), 41)
    transaction(lambda cur: issued(cur, BOB, eur(1)))
    refusal = transaction(lambda cur: service.transfer(cur, settle, 8))
    assert refused(refusal, Reason.INSUFFICIENT_FUNDS).fields["available"] == 40


def test_no_wallet_grows_beyond_what_json_can_carry(transaction: Transaction) -> None:
    most = 2**53 - 1
    transaction(lambda cur: issued(cur, ALICE, eur(most)))
    too_much = transaction(lambda cur: service.issue(cur, BOB, eur(1), reference="r2", operator="@admin:hs1", now_ms=1))
    assert refused(too_much, Reason.LIMIT_EXCEEDED).fields == {"limit": most, "currency": EUR}


# Batches.


def test_each_transfer_of_a_batch_has_its_own_verdict(transaction: Transaction) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    transaction(lambda cur: service.transfer(cur, pay("old", ALICE, BOB, 10), 2))
    orders = [
        pay("new", ALICE, BOB, 50),
        pay("old", ALICE, BOB, 10),
        pay("too much", ALICE, CAROL, 41),
        pay("old", ALICE, BOB, 11),
        pay("rest", ALICE, CAROL, 40),
        pay("onward", CAROL, BOB, 40),
    ]
    verdicts = transaction(lambda cur: service.transfer_many(cur, orders, 3))
    seen = [
        (each.transfer.transfer_id, each.replayed) if isinstance(each, Posted) else each.reason for each in verdicts
    ]
    assert seen == [
        ("new", False),
        ("old", True),
        Reason.INSUFFICIENT_FUNDS,
        Reason.CONFLICT,
        ("rest", False),
        ("onward", False),
    ]
    assert transaction(balances) == {ALICE: (0, 0), BOB: (100, 0), CAROL: (0, 0)}
    assert transaction(service.violations) == ()


def test_a_batch_of_any_size_costs_a_constant_number_of_statements(transaction: Transaction) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(10_000)))
    transaction(lambda cur: service.transfer(cur, pay("open", ALICE, BOB, 1), 2))

    def statements(size: int) -> int:
        orders = [pay(f"{size}-{number}", ALICE, BOB, 1) for number in range(size)]

        def counted(cur: Cursor) -> int:
            counting = Counting(cur)
            service.transfer_many(counting, orders, 3)
            return counting.count

        return transaction(counted)

    assert statements(1) == statements(10) == statements(500)


class Counting:
    """A cursor that counts its statements."""

    def __init__(self, cur: Cursor) -> None:
        self._cur = cur
        self.count = 0

    @property
    def engine(self) -> Engine:
        return self._cur.engine

    @property
    def rowcount(self) -> int:
        return self._cur.rowcount

    def execute(self, sql: LiteralString, parameters: Sequence[SqlValue] = ()) -> None:
        self.count += 1
        self._cur.execute(sql, parameters)

    def execute_many(self, sql: LiteralString, rows: Iterable[Sequence[SqlValue]]) -> None:
        self.count += 1
        self._cur.execute_many(sql, rows)

    def execute_values(self, sql: LiteralString, rows: Sequence[Sequence[SqlValue]]) -> list[Row]:
        self.count += 1
        return self._cur.execute_values(sql, rows)

    def fetchone(self) -> Row | None:
        return self._cur.fetchone()

    def fetchall(self) -> list[Row]:
        return self._cur.fetchall()


def test_more_than_a_thousand_transfers_are_posted_in_order(transaction: Transaction) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(2_500)))
    orders = [pay(f"t{number}", ALICE, BOB, 1) for number in range(2_501)]
    verdicts = transaction(lambda cur: service.transfer_many(cur, orders, 3))
    assert [each.entry.seq for each in verdicts[:-1] if isinstance(each, Posted)] == list(range(2, 2_502))
    refused(verdicts[-1], Reason.INSUFFICIENT_FUNDS)
    assert transaction(lambda cur: service.balance(cur, available(BOB, EUR))) == 2_500
    assert transaction(service.violations) == ()


def test_ids_and_references_with_quotes_and_commas_are_kept_as_they_are(transaction: Transaction) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(10)))
    odd = ['a","b', "back\\slash", '{"x":1}', "comma,brace}", "NULL", "ü\u2028\n"]
    orders = [order(text, available(ALICE, EUR), available(Acct(f"to {text}"), EUR), 1, reference=text) for text in odd]
    done = transaction(lambda cur: service.transfer_many(cur, orders, 3))
    assert all(isinstance(each, Posted) for each in done)
    for text, each in zip(odd, orders, strict=True):
        page = transaction(partial(service.entries, key=available(Acct(f"to {text}"), EUR), before=None, limit=5))
        assert [entry.transfer for entry in page] == [each]
    assert transaction(service.violations) == ()


def test_a_batch_larger_than_the_limit_is_a_bug(transaction: Transaction) -> None:
    orders = [pay(f"t{number}", ALICE, BOB, 1) for number in range(service.MAX_PER_STATEMENT + 1)]
    with pytest.raises(ValueError, match="1 to 1000"):
        transaction(lambda cur: service.post(cur, orders, 3))


# Linked transfers.


def test_linked_transfers_stand_or_fall_together(transaction: Transaction) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    fee = order("fee", available(ALICE, EUR), house(AccountKind.FEES, EUR), 1)

    def too_much(cur: Cursor) -> list[Posted] | Refused:
        with Untouched(cur):
            return service.transfer_linked(cur, [pay("t1", ALICE, BOB, 100), fee], 3)

    refused(transaction(too_much), Reason.INSUFFICIENT_FUNDS)
    linked = [pay("t1", ALICE, BOB, 99), fee]
    done = transaction(lambda cur: service.transfer_linked(cur, linked, 4))
    assert isinstance(done, list)
    assert [each.replayed for each in done] == [False, False]
    again = transaction(lambda cur: service.transfer_linked(cur, linked, 5))
    assert isinstance(again, list)
    assert [each.replayed for each in again] == [True, True]
    assert transaction(lambda cur: service.balance(cur, house(AccountKind.FEES, EUR))) == 1


def test_linked_transfers_of_which_one_stands_alone_are_a_conflict(transaction: Transaction) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    transaction(lambda cur: service.transfer(cur, pay("t1", ALICE, BOB, 10), 2))
    linked = [pay("t1", ALICE, BOB, 10), pay("t2", ALICE, CAROL, 10)]

    def half(cur: Cursor) -> list[Posted] | Refused:
        with Untouched(cur):
            return service.transfer_linked(cur, linked, 3)

    assert refused(transaction(half), Reason.CONFLICT).fields == {"field": "linked"}


# Decided ahead.


def test_what_was_prepared_is_written_if_the_books_are_as_they_were(transaction: Transaction, engine: Engine) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    transaction(lambda cur: service.transfer(cur, pay("t1", ALICE, BOB, 1), 2))
    head = transaction(store.head)
    accounts = transaction(lambda cur: store.accounts(cur, [available(ALICE, EUR), available(BOB, EUR)]))
    prepared = service.prepare([pay("t2", ALICE, BOB, 2), pay("t3", BOB, ALICE, 3)], 3, head, accounts, engine)
    assert prepared is not None
    assert transaction(lambda cur: service.carry_out(cur, prepared))
    assert transaction(store.head) == prepared.outcome.head
    assert transaction(lambda cur: store.accounts(cur, accounts)) == prepared.outcome.accounts
    assert transaction(balances) == {ALICE: (100, 0), BOB: (0, 0)}


def test_what_was_prepared_on_other_books_is_not_written(transaction: Transaction, engine: Engine) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    transaction(lambda cur: service.transfer(cur, pay("t1", ALICE, BOB, 1), 2))
    head = transaction(store.head)
    accounts = transaction(lambda cur: store.accounts(cur, [available(ALICE, EUR), available(BOB, EUR)]))
    prepared = service.prepare([pay("t2", ALICE, BOB, 99)], 3, head, accounts, engine)
    assert prepared is not None
    transaction(lambda cur: service.transfer(cur, pay("elsewhere", ALICE, CAROL, 99), 3))

    def stale(cur: Cursor) -> bool:
        with Untouched(cur):
            return service.carry_out(cur, prepared)

    assert not transaction(stale)


def test_what_was_prepared_under_a_taken_id_is_not_written(transaction: Transaction, engine: Engine) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    transaction(lambda cur: service.transfer(cur, pay("t1", ALICE, BOB, 1), 2))
    head = transaction(store.head)
    accounts = transaction(lambda cur: store.accounts(cur, [available(ALICE, EUR), available(BOB, EUR)]))
    prepared = service.prepare([pay("t2", ALICE, BOB, 1), pay("t1", ALICE, BOB, 1)], 3, head, accounts, engine)
    assert prepared is not None

    def taken(cur: Cursor) -> bool:
        with Untouched(cur):
            return service.carry_out(cur, prepared)

    assert not transaction(taken)


def test_what_may_be_refused_or_names_an_unknown_account_is_not_prepared(
    transaction: Transaction, engine: Engine
) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    transaction(lambda cur: service.transfer(cur, pay("t1", ALICE, BOB, 1), 2))
    head = transaction(store.head)
    accounts = transaction(lambda cur: store.accounts(cur, [available(ALICE, EUR), available(BOB, EUR)]))
    assert service.prepare([pay("t2", ALICE, BOB, 100)], 3, head, accounts, engine) is None
    assert service.prepare([pay("t2", ALICE, CAROL, 1)], 3, head, accounts, engine) is None


# Holds.


def test_a_hold_sets_money_aside(transaction: Transaction) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    assert transaction(placed) == Hold(hold_id=HOLD, owner=ALICE, money=eur(30), state=HoldState.OPEN)
    assert transaction(balances) == {ALICE: (70, 30)}
    assert transaction(lambda cur: service.hold_of(cur, HOLD)) == transaction(placed)


def test_a_hold_of_more_than_there_is_is_refused(transaction: Transaction) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    transaction(placed)

    def second(cur: Cursor) -> Hold | Refused:
        with Untouched(cur):
            return service.place_hold(cur, HoldId("alice:p2"), ALICE, eur(71), 3)

    assert refused(transaction(second), Reason.INSUFFICIENT_FUNDS).fields == {"available": 70, "currency": EUR}


@pytest.mark.parametrize(
    ("owner", "money", "field"),
    [
        (BOB, eur(30), "owner"),
        (ALICE, eur(31), "amount"),
        (ALICE, Money(amount_minor=30, currency=PTS), "currency"),
    ],
)
def test_a_hold_with_a_used_id_and_another_body_is_a_conflict(
    transaction: Transaction, owner: Acct, money: Money, field: str
) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    transaction(placed)

    def second(cur: Cursor) -> Hold | Refused:
        with Untouched(cur):
            return service.place_hold(cur, HOLD, owner, money, 3)

    assert refused(transaction(second), Reason.CONFLICT).fields == {"field": field}


def test_a_hold_that_is_posted_pays_the_whole_of_it_once(transaction: Transaction) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    transaction(placed)
    first = transaction(posted_to_bob)
    assert isinstance(first, Posted)
    assert transaction(balances) == {ALICE: (70, 0), BOB: (30, 0)}

    def again(cur: Cursor) -> Posted | Refused:
        with Untouched(cur):
            return posted_to_bob(cur)

    assert transaction(again) == Posted(entry=first.entry, replayed=True)
    assert transaction(placed).state is HoldState.POSTED


def test_a_hold_can_go_to_what_is_due_to_another_homeserver(transaction: Transaction) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    transaction(placed)
    done = transaction(
        lambda cur: service.post_hold(cur, HOLD, credit=due_to(PEER, EUR), cause=Cause.COMMIT, reference="w1", now_ms=3)
    )
    assert isinstance(done, Posted)
    assert transaction(lambda cur: service.balance(cur, due_to(PEER, EUR))) == 30


def test_a_hold_that_is_voided_gives_the_money_back_once(transaction: Transaction) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    transaction(placed)
    first = transaction(lambda cur: service.void_hold(cur, HOLD, 3))
    assert isinstance(first, Hold)
    assert first.state is HoldState.VOIDED
    assert transaction(balances) == {ALICE: (100, 0)}

    def again(cur: Cursor) -> Hold | Refused:
        with Untouched(cur):
            return service.void_hold(cur, HOLD, 4)

    assert transaction(again) == first


@pytest.mark.parametrize(
    ("late", "field"),
    [
        pytest.param(lambda cur: posted_to_bob(cur, reference="p2"), "reference", id="posted with another reference"),
        pytest.param(
            lambda cur: service.post_hold(
                cur, HOLD, credit=available(CAROL, EUR), cause=Cause.PAYMENT, reference="p1", now_ms=4
            ),
            "credit",
            id="posted elsewhere",
        ),
        pytest.param(
            lambda cur: service.post_hold(
                cur, HOLD, credit=available(BOB, EUR), cause=Cause.PAYMENT, reference="p1", amount_minor=29, now_ms=4
            ),
            "amount",
            id="posted in part",
        ),
        pytest.param(lambda cur: service.void_hold(cur, HOLD, 4), None, id="voided"),
    ],
)
def test_a_posted_hold_is_decided(
    transaction: Transaction, late: Callable[[Cursor], object], field: str | None
) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    transaction(placed)
    transaction(posted_to_bob)

    def decided(cur: Cursor) -> object:
        with Untouched(cur):
            return late(cur)

    fields = refused(transaction(decided), Reason.ALREADY_DECIDED).fields
    assert fields == {"state": "posted"} | ({} if field is None else {"field": field})


def test_a_voided_hold_is_decided(transaction: Transaction) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    transaction(placed)
    transaction(lambda cur: service.void_hold(cur, HOLD, 3))

    def decided(cur: Cursor) -> Posted | Refused:
        with Untouched(cur):
            return posted_to_bob(cur)

    assert refused(transaction(decided), Reason.ALREADY_DECIDED).fields == {"state": "voided"}


def test_a_hold_that_never_was_cannot_be_decided(transaction: Transaction) -> None:
    refused(transaction(posted_to_bob), Reason.UNKNOWN_PAYMENT)
    refused(transaction(lambda cur: service.void_hold(cur, HOLD, 3)), Reason.UNKNOWN_PAYMENT)
    assert transaction(lambda cur: service.hold_of(cur, HOLD)) is None


# Reading.


def test_a_wallet_has_each_currency_that_its_owner_ever_had_by_code(transaction: Transaction) -> None:
    transaction(lambda cur: issued(cur, ALICE, Money(amount_minor=5, currency=PTS), "r1"))
    transaction(lambda cur: issued(cur, ALICE, eur(7), "r2"))
    transaction(lambda cur: service.transfer(cur, pay("t1", ALICE, BOB, 7), 3))
    assert transaction(lambda cur: service.wallet(cur, ALICE)) == (
        Balance(currency=EUR, available_minor=0, held_minor=0),
        Balance(currency=PTS, available_minor=5, held_minor=0),
    )


def test_a_statement_pages_from_the_newest_entry_to_the_oldest(transaction: Transaction) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    for number in range(1, 8):
        payer, payee = (ALICE, BOB) if number % 3 else (BOB, ALICE)
        transaction(partial(service.transfer, order=pay(f"t{number}", payer, payee, number), now_ms=3))
    transaction(lambda cur: service.transfer(cur, pay("others", BOB, CAROL, 1), 3))
    key = available(ALICE, EUR)
    pages: list[Entry] = []
    before: int | None = None
    while True:
        page: tuple[Entry, ...] = transaction(partial(service.entries, key=key, before=before, limit=3))
        if not page:
            break
        assert len(page) <= 3
        pages.extend(page)
        before = min(each.seq for each in page)
    assert [each.transfer.transfer_id for each in pages] == [*(f"t{n}" for n in range(7, 0, -1)), "issue:r1"]
    assert [each.change_of(key) for each in pages] == [-7, 6, -5, -4, 3, -2, -1, 100]
    running = 0
    for each in reversed(pages):
        running += each.change_of(key)
        assert each.after_of(key) == running
    assert running == transaction(lambda cur: service.balance(cur, key))


def test_a_statement_of_nobody_or_from_an_entry_of_somebody_else_is_empty(transaction: Transaction) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    assert transaction(lambda cur: service.entries(cur, available(BOB, EUR), None, 5)) == ()
    entry = transaction(lambda cur: issued(cur, CAROL, eur(1), "r2"))
    assert transaction(lambda cur: service.entries(cur, available(ALICE, EUR), entry.seq, 5)) == ()
    assert transaction(lambda cur: service.entries(cur, available(ALICE, EUR), 999, 5)) == ()


# The journal.


def test_the_journal_is_one_chain_from_the_first_entry_to_the_head(transaction: Transaction) -> None:
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    transaction(placed)
    transaction(posted_to_bob)
    transaction(lambda cur: service.transfer_many(cur, [pay(f"t{n}", ALICE, BOB, 1) for n in range(5)], 4))
    journal = transaction(lambda cur: store.chain(cur, 0, 100))
    previous = ""
    for number, entry in enumerate(journal, start=1):
        assert entry.seq == number
        assert rules.is_linked(entry, previous)
        previous = entry.entry_hash
    assert transaction(store.head).entry_hash == previous


def test_a_ledger_that_was_only_used_has_no_violation(transaction: Transaction) -> None:
    assert transaction(service.violations) == ()
    transaction(lambda cur: issued(cur, ALICE, eur(100)))
    transaction(placed)
    assert transaction(service.violations) == ()


def test_while_one_has_posted_and_not_committed_nobody_else_decides(
    two_connections: tuple[Transaction, Transaction],
) -> None:
    one, other = two_connections
    one(lambda cur: issued(cur, ALICE, eur(100)))

    def theirs(cur: Cursor) -> Posted | Refused:
        cur.execute("SET LOCAL lock_timeout TO '200ms'")
        return service.transfer(cur, pay("t2", ALICE, BOB, 100), 3)

    def ours(cur: Cursor) -> None:
        service.transfer(cur, pay("t1", ALICE, BOB, 100), 2)
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            other(theirs)

    one(ours)
    refused(other(theirs), Reason.INSUFFICIENT_FUNDS)


def test_two_databases_are_two_ledgers(open_database: Callable[..., Database]) -> None:
    first, second = (open_database("super_app.ledger").connect(rerun=True) for _ in range(2))
    first(lambda cur: issued(cur, ALICE, eur(100)))
    assert second(lambda cur: service.wallet(cur, ALICE)) == ()
