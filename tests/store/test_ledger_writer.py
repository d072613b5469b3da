"""The writer on a real database: batches, verdicts, failing neighbours, books decided ahead, lost connections."""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, cast

import psycopg2
import pytest
from engines import SqliteDatabase, migrate
from engines import _SqliteCursor as SqliteCursor
from ledger_writers import WriterUnderTest, answer_of, outcome_of
from prometheus_client import REGISTRY
from synapse.logging.context import LoggingContext, PreserveLoggingContext, current_context  # type: ignore[attr-defined]
from synapse.module_api import run_in_background
from twisted.internet import defer

from super_app.db import Cursor, Transaction
from super_app.errors import Reason, Refused
from super_app.ids import Acct
from super_app.ledger import service, store
from super_app.ledger.lease import NotTheWriter
from super_app.ledger.model import AccountKey, AccountKind, Cause, Posted, Transfer, TransferId, available, house
from super_app.money import AssetCode, Money

pytestmark = pytest.mark.packages("super_app.ledger")

EUR = AssetCode("EUR")
RICH: Final = 1_000_000
BATCH: Final = 256
Verdict = Posted | Refused


def key_of(name: str) -> AccountKey:
    return available(Acct(name), EUR)


def pay(transfer_id: str, amount_minor: int = 1, payer: str = "alice", payee: str = "bob") -> Transfer:
    return Transfer(
        transfer_id=TransferId(transfer_id),
        debit=key_of(payer),
        credit=key_of(payee),
        amount_minor=amount_minor,
        cause=Cause.PAYMENT,
        reference=transfer_id,
    )


def issue(cur: Cursor, name: str, amount_minor: int = RICH) -> None:
    money = Money(amount_minor=amount_minor, currency=EUR)
    service.issue(cur, Acct(name), money, reference=name, operator="@a", now_ms=1)


def nothing(_: Cursor) -> None:
    """A work that takes a place in a batch."""


@pytest.fixture
def books(transaction: Transaction) -> Transaction:
    """alice and bob are rich, dave has 3."""
    transaction(lambda cur: issue(cur, "alice"))
    transaction(lambda cur: issue(cur, "bob"))
    transaction(lambda cur: issue(cur, "dave", 3))
    return transaction


@pytest.fixture
def under_test(books: Transaction) -> WriterUnderTest:
    return WriterUnderTest(books)


def balance(books: Transaction, name: str) -> int:
    return books(partial(service.balance, key=key_of(name)))


def ordered(
    under_test: WriterUnderTest, orders: Sequence[Transfer]
) -> list[tuple[Transfer, "defer.Deferred[Verdict]"]]:
    return [(order, outcome_of(under_test.writer.transfer(order))) for order in orders]


def assert_all_posted(ordered: Sequence[tuple[Transfer, "defer.Deferred[Verdict]"]]) -> None:
    """Each caller was told of its own transfer, and that it is new."""
    for order, done in ordered:
        verdict = answer_of(done)
        assert isinstance(verdict, Posted), verdict
        assert verdict.transfer == order
        assert not verdict.replayed


def metric(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


# Batches.


def test_one_transfer_is_posted_and_its_caller_told(under_test: WriterUnderTest, books: Transaction) -> None:
    done = ordered(under_test, [pay("t1", 5)])
    under_test.finish()
    assert_all_posted(done)
    assert balance(books, "alice") == RICH - 5


def test_nobody_is_told_before_the_commit(under_test: WriterUnderTest) -> None:
    [(_, done)] = ordered(under_test, [pay("t1")])
    assert not done.called
    under_test.database.let_through()
    assert done.called


def test_what_arrives_while_a_commit_is_in_flight_goes_into_the_next_one_together(under_test: WriterUnderTest) -> None:
    first = ordered(under_test, [pay("t0")])
    others = ordered(under_test, [pay(f"t{number}") for number in range(1, 100)])
    work = outcome_of(under_test.writer.run("count", lambda cur: store.head(cur).seq))
    under_test.finish()
    assert under_test.database.names == ["ledger_batch", "ledger_batch"]
    assert_all_posted(first + others)
    assert answer_of(work) == 3 + 100  # in the transaction of the 99, after them


def test_those_who_were_told_can_join_the_next_batch(under_test: WriterUnderTest) -> None:
    async def pays_twice(name: str) -> list[Verdict]:
        return [await under_test.writer.transfer(pay(f"{name}-{number}")) for number in range(2)]

    callers = [defer.ensureDeferred(pays_twice(f"c{number}")) for number in range(10)]
    under_test.finish()
    for caller in callers:
        assert all(isinstance(verdict, Posted) for verdict in answer_of(caller))
    # The first alone, the nine that waited, the second of the first with nobody, and so on: never one by one.
    assert len(under_test.database.names) <= 4


def test_a_batch_has_a_limit_and_the_rest_follows(under_test: WriterUnderTest, books: Transaction) -> None:
    done = ordered(under_test, [pay(f"t{number}") for number in range(1 + 3 * BATCH)])
    under_test.finish()
    assert len(under_test.database.names) == 4
    assert_all_posted(done)
    assert balance(books, "alice") == RICH - 1 - 3 * BATCH
    assert books(service.violations) == ()


def test_a_work_has_its_name_when_it_runs_alone(under_test: WriterUnderTest) -> None:
    outcome_of(under_test.writer.run("payment_place", nothing))
    under_test.finish()
    assert under_test.database.names == ["payment_place"]


def test_works_run_one_after_the_other_and_see_each_other(under_test: WriterUnderTest) -> None:
    outcome_of(under_test.writer.run("first", nothing))

    def post(cur: Cursor, number: int) -> tuple[int, Verdict]:
        before = store.head(cur).seq
        return before, service.transfer(cur, pay(f"w{number}"), 5)

    works = [outcome_of(under_test.writer.run("post", partial(post, number=number))) for number in range(5)]
    under_test.finish()
    assert [answer_of(work)[0] for work in works] == [3, 4, 5, 6, 7]


def test_batches_and_their_commits_are_counted(under_test: WriterUnderTest) -> None:
    before = metric("superapp_ledger_batch_jobs_sum"), metric("superapp_ledger_commit_seconds_count")
    ordered(under_test, [pay(f"t{number}") for number in range(7)])
    assert metric("superapp_ledger_queue_jobs") == 0  # the one that is taken; the gauge tells what the last batch left
    under_test.finish()
    after = metric("superapp_ledger_batch_jobs_sum"), metric("superapp_ledger_commit_seconds_count")
    assert after == (before[0] + 7, before[1] + 2)


# Verdicts.


def test_each_caller_hears_the_verdict_of_its_own_transfer(under_test: WriterUnderTest, books: Transaction) -> None:
    """Of each three, one is a replay, one posted and one refused; a verdict in another's place would show."""
    replayed = [pay(f"old{number}", 1 + number) for number in range(30)]
    ordered(under_test, replayed)
    under_test.finish()
    outcome_of(under_test.writer.run("block", nothing))
    new = [pay(f"new{number}", 1 + number) for number in range(30)]
    poor = [pay(f"poor{number}", 4 + number, payer="dave") for number in range(30)]
    mixed = ordered(under_test, [order for three in zip(replayed, new, poor, strict=True) for order in three])
    under_test.finish()
    for order, done in mixed:
        verdict = answer_of(done)
        if order in poor:
            assert isinstance(verdict, Refused)
            assert verdict.reason is Reason.INSUFFICIENT_FUNDS
            assert verdict.fields["available"] == 3
        else:
            assert isinstance(verdict, Posted)
            assert verdict.transfer == order
            assert verdict.replayed == (order in replayed)
    assert balance(books, "bob") == RICH + 2 * sum(range(1, 31))
    assert books(service.violations) == ()


def test_what_is_refused_writes_nothing(under_test: WriterUnderTest, books: Transaction) -> None:
    before = books(store.head)
    refused = ordered(under_test, [pay(f"t{number}", 4, payer="dave") for number in range(5)])
    under_test.finish()
    assert all(isinstance(answer_of(done), Refused) for _, done in refused)
    assert books(store.head) == before


def test_a_conflict_is_told_to_the_one_who_caused_it(under_test: WriterUnderTest) -> None:
    ordered(under_test, [pay("block")])
    (_, first), (_, second) = ordered(under_test, [pay("t1", 1), pay("t1", 2)])
    under_test.finish()
    assert isinstance(answer_of(first), Posted)
    verdict = answer_of(second)
    assert isinstance(verdict, Refused)
    assert verdict.reason is Reason.CONFLICT
    assert verdict.fields == {"field": "amount"}


# Failing neighbours.


class OutOfOrderError(Exception):
    """What a work with a bug raises."""


def fail(cur: Cursor) -> None:
    service.transfer(cur, pay("by the failing one"), 5)
    raise OutOfOrderError("a bug")


def test_a_work_that_raises_takes_nobody_with_it(under_test: WriterUnderTest, books: Transaction) -> None:
    outcome_of(under_test.writer.run("block", nothing))
    before, alone = metric("superapp_ledger_apart_total"), metric("superapp_ledger_alone_total")
    transfers = ordered(under_test, [pay(f"t{number}") for number in range(5)])
    good = outcome_of(under_test.writer.run("good", lambda cur: service.transfer(cur, pay("by a work", 7), 5)))
    bad = outcome_of(under_test.writer.run("bad", fail))
    under_test.finish()
    assert_all_posted(transfers)
    assert isinstance(answer_of(good), Posted)
    with pytest.raises(OutOfOrderError):
        answer_of(bad)
    assert balance(books, "alice") == RICH - 5 - 7
    assert metric("superapp_ledger_apart_total") == before + 7
    assert metric("superapp_ledger_alone_total") == alone
    # As one transaction, which is not a commit for each of its jobs.
    assert under_test.database.names == ["block", "ledger_batch", "ledger_batch"]
    assert books(service.violations) == ()


def test_a_work_that_fails_alone_fails_once(under_test: WriterUnderTest) -> None:
    bad = outcome_of(under_test.writer.run("bad", fail))
    after = ordered(under_test, [pay("t1")])
    under_test.finish()
    with pytest.raises(OutOfOrderError):
        answer_of(bad)
    assert_all_posted(after)
    assert under_test.database.names == ["bad", "ledger_batch"]


def test_an_order_that_cannot_even_be_decided_takes_nobody_with_it(
    under_test: WriterUnderTest, books: Transaction
) -> None:
    ordered(under_test, [pay("known")])
    under_test.finish()
    nonsense = replace(pay("nonsense"), reference=cast(str, object()))
    (_, before), (_, bad), (_, after) = ordered(under_test, [pay("t1"), nonsense, pay("t2")])
    under_test.finish()
    assert isinstance(answer_of(before), Posted)
    assert isinstance(answer_of(after), Posted)
    with pytest.raises(TypeError):
        answer_of(bad)
    assert balance(books, "alice") == RICH - 3


def test_a_work_whose_last_statement_fails_is_told_so_itself(under_test: WriterUnderTest, books: Transaction) -> None:
    """Statements wait for the next one, which may be of a neighbour."""

    def breaks_a_rule(cur: Cursor) -> None:
        cur.execute("UPDATE superapp_ledger_account SET balance_minor = -1 WHERE owner = 'bob' AND kind = 'available'")

    outcome_of(under_test.writer.run("block", nothing))
    before = outcome_of(under_test.writer.run("before", lambda cur: service.transfer(cur, pay("before", 7), 5)))
    bad = outcome_of(under_test.writer.run("bad", breaks_a_rule))
    after = outcome_of(under_test.writer.run("after", lambda cur: service.transfer(cur, pay("after", 11), 5)))
    under_test.finish()
    with pytest.raises((psycopg2.DatabaseError, sqlite3.IntegrityError)):
        answer_of(bad)
    assert isinstance(answer_of(before), Posted)
    assert isinstance(answer_of(after), Posted)
    assert balance(books, "bob") == RICH + 7 + 11
    assert under_test.database.names == ["block", "ledger_batch", "ledger_batch"]
    assert books(service.violations) == ()


def test_several_jobs_may_raise_and_each_hears_of_its_own(under_test: WriterUnderTest, books: Transaction) -> None:
    def fails_as(cur: Cursor, name: str) -> Verdict:
        service.transfer(cur, pay(name, 5), 5)
        raise OutOfOrderError(name)

    outcome_of(under_test.writer.run("block", nothing))
    nonsense = replace(pay("nonsense"), reference=cast(str, object()))
    orders = ordered(under_test, [pay("t1"), pay("poor", 4, payer="dave"), nonsense, pay("t2")])
    works: list[defer.Deferred[Verdict]] = [
        outcome_of(under_test.writer.run("work", partial(fails_as, name=f"bad{number}")))
        if number % 3
        else outcome_of(under_test.writer.run("work", partial(service.transfer, order=pay(f"w{number}"), now_ms=5)))
        for number in range(9)
    ]
    under_test.finish()
    assert isinstance(answer_of(orders[0][1]), Posted)
    refused = answer_of(orders[1][1])
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.INSUFFICIENT_FUNDS
    with pytest.raises(TypeError):
        answer_of(orders[2][1])
    assert isinstance(answer_of(orders[3][1]), Posted)
    for number, work in enumerate(works):
        if number % 3:
            with pytest.raises(OutOfOrderError, match=f"bad{number}"):
                answer_of(work)
        else:
            verdict = answer_of(work)
            assert isinstance(verdict, Posted)
            assert verdict.transfer.transfer_id == f"w{number}"
    assert balance(books, "alice") == RICH - 2 - 3
    assert under_test.database.names == ["block", "ledger_batch", "ledger_batch"]
    assert books(service.violations) == ()


def test_with_savepoints_too_nothing_is_written_by_who_lost_the_lease(
    under_test: WriterUnderTest, books: Transaction
) -> None:
    def somebody_takes_over(_: Callable[[], object]) -> object:
        books(lambda cur: cur.execute("UPDATE superapp_ledger_head SET epoch = epoch + 1"))
        raise OutOfOrderError("a bug")

    outcome_of(under_test.writer.run("block", nothing))
    [(_, order)] = ordered(under_test, [pay("t1")])
    work = outcome_of(under_test.writer.run("work", nothing))
    under_test.database.let_through()
    under_test.database.troubles.append(somebody_takes_over)
    under_test.finish()
    with pytest.raises(NotTheWriter):
        answer_of(order)
    with pytest.raises(NotTheWriter):
        answer_of(work)
    assert balance(books, "alice") == RICH


def test_a_lock_that_is_waited_for_too_long_is_about_the_whole_batch(
    under_test: WriterUnderTest, books: Transaction
) -> None:
    """Synapse's pool runs a transaction again that ended so, and each job alone gets its turn at last."""

    def locked(cur: Cursor) -> None:
        service.transfer(cur, pay("by the locked one", 5), 5)
        raise sqlite3.OperationalError("database is locked")

    outcome_of(under_test.writer.run("block", nothing))
    good = outcome_of(under_test.writer.run("good", lambda cur: service.transfer(cur, pay("good", 7), 5)))
    bad = outcome_of(under_test.writer.run("bad", locked))
    under_test.finish()
    assert isinstance(answer_of(good), Posted)
    with pytest.raises(sqlite3.OperationalError):
        answer_of(bad)
    assert under_test.database.names == ["block", "ledger_batch", "ledger_batch", "good", "bad"]
    assert balance(books, "alice") == RICH - 7


def test_a_failing_batch_before_a_prepared_one_does_not_spoil_it(
    under_test: WriterUnderTest, books: Transaction
) -> None:
    ordered(under_test, [pay("block")])
    orders = ordered(under_test, [pay(f"t{number}") for number in range(2 * BATCH)])
    bad = outcome_of(under_test.writer.run("bad", fail))
    under_test.finish()
    assert_all_posted(orders)
    with pytest.raises(OutOfOrderError):
        answer_of(bad)
    assert balance(books, "alice") == RICH - 1 - 2 * BATCH
    assert books(service.violations) == ()


# Books that are remembered.


def test_a_transfer_between_known_accounts_is_one_statement(under_test: WriterUnderTest, books: Transaction) -> None:
    ordered(under_test, [pay("t1")])
    under_test.finish()
    before = metric("superapp_ledger_ahead_total")
    ordered(under_test, [pay("t2")])
    under_test.finish()
    assert metric("superapp_ledger_ahead_total") == before + 1
    assert balance(books, "alice") == RICH - 2


def test_what_another_process_wrote_meanwhile_is_seen(under_test: WriterUnderTest, books: Transaction) -> None:
    ordered(under_test, [pay("t1", 1, payer="dave")])
    under_test.finish()
    books(lambda cur: service.transfer(cur, pay("elsewhere", 2, payer="dave"), 5))
    [(_, done)] = ordered(under_test, [pay("t2", 2, payer="dave")])
    under_test.finish()
    verdict = answer_of(done)
    assert isinstance(verdict, Refused)
    assert verdict.fields["available"] == 0


def test_money_that_another_process_brought_can_be_spent(under_test: WriterUnderTest, books: Transaction) -> None:
    ordered(under_test, [pay("t1", 3, payer="dave")])
    under_test.finish()
    books(lambda cur: service.transfer(cur, pay("elsewhere", 5, payee="dave"), 5))
    done = ordered(under_test, [pay("t2", 5, payer="dave")])
    under_test.finish()
    assert_all_posted(done)


def test_a_batch_decided_ahead_is_decided_again_when_another_process_came_first(
    under_test: WriterUnderTest, books: Transaction
) -> None:
    again = metric("superapp_ledger_decided_again_total")
    ordered(under_test, [pay("block")])
    orders = ordered(under_test, [pay(f"t{number}") for number in range(3 * BATCH)])
    number = 0
    while under_test.wait():
        # Before each of our transactions somebody else has one.
        books(partial(service.transfer, order=pay(f"elsewhere{number}"), now_ms=5))
        number += 1
        under_test.database.let_through()
    under_test.finish()
    assert number == 4
    assert_all_posted(orders)
    assert metric("superapp_ledger_decided_again_total") == again + 3
    assert balance(books, "alice") == RICH - 1 - 3 * BATCH - number
    assert books(service.violations) == ()


def test_after_another_process_came_first_the_books_are_right_again(
    under_test: WriterUnderTest, books: Transaction
) -> None:
    """One batch is decided again, and neither the one after it nor any account that was remembered is wrong."""
    again, alone = metric("superapp_ledger_decided_again_total"), metric("superapp_ledger_alone_total")
    ordered(under_test, [pay("dave is known", 1, payer="dave")])
    under_test.finish()
    ordered(under_test, [pay("block")])
    orders = ordered(under_test, [pay(f"t{number}") for number in range(3 * BATCH)])
    under_test.database.let_through()
    books(lambda cur: service.transfer(cur, pay("elsewhere", 10, payee="dave"), 5))
    under_test.finish()
    rich = ordered(under_test, [pay("t-dave", 1, payer="dave")])
    under_test.finish()
    assert_all_posted([*orders, *rich])
    assert metric("superapp_ledger_decided_again_total") == again + 1
    assert metric("superapp_ledger_alone_total") == alone
    assert books(service.violations) == ()


def test_what_a_work_posts_beside_transfers_does_not_spoil_the_books(
    under_test: WriterUnderTest, books: Transaction
) -> None:
    again, alone = metric("superapp_ledger_decided_again_total"), metric("superapp_ledger_alone_total")
    ordered(under_test, [pay("block")])
    orders = ordered(under_test, [pay(f"t{number}") for number in range(2 * BATCH)])
    work = outcome_of(under_test.writer.run("work", lambda cur: service.transfer(cur, pay("by a work"), 5)))
    under_test.finish()
    later = ordered(under_test, [pay("later")])
    under_test.finish()
    assert_all_posted([*orders, *later])
    assert isinstance(answer_of(work), Posted)
    assert metric("superapp_ledger_decided_again_total") == again
    assert metric("superapp_ledger_alone_total") == alone
    assert books(service.violations) == ()


def test_after_a_failed_transaction_nothing_of_it_is_remembered(
    under_test: WriterUnderTest, books: Transaction
) -> None:
    def trouble(_: Callable[[], object]) -> object:
        raise psycopg2.ProgrammingError("a bug")

    ordered(under_test, [pay("known")])
    under_test.finish()
    again = metric("superapp_ledger_decided_again_total")
    under_test.database.troubles.append(trouble)
    [(_, lost_one)] = ordered(under_test, [pay("lost", 5)])
    under_test.finish()
    with pytest.raises(psycopg2.ProgrammingError):
        answer_of(lost_one)
    done = ordered(under_test, [pay("t1", 7)])
    under_test.finish()
    assert_all_posted(done)
    assert metric("superapp_ledger_decided_again_total") == again
    assert balance(books, "alice") == RICH - 8


def test_an_id_that_another_process_used_meanwhile_is_a_replay(under_test: WriterUnderTest, books: Transaction) -> None:
    ordered(under_test, [pay("t1")])
    under_test.finish()
    books(lambda cur: service.transfer(cur, pay("t2"), 5))
    under_test.finish()
    (_, replay), (_, fresh) = ordered(under_test, [pay("t2"), pay("t3")])
    under_test.finish()
    replayed, posted = answer_of(replay), answer_of(fresh)
    assert isinstance(replayed, Posted)
    assert replayed.replayed
    assert isinstance(posted, Posted)
    assert not posted.replayed
    assert balance(books, "alice") == RICH - 3


def test_more_accounts_than_are_remembered_are_no_trouble(
    under_test: WriterUnderTest, books: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synapse_super_app.ledger.writer._REMEMBERED_ACCOUNTS", 1)
    pairs = [("alice", "bob"), ("bob", "dave"), ("dave", "alice")]
    for number in range(9):
        payer, payee = pairs[number % 3]
        done = ordered(under_test, [pay(f"t{number}", 1, payer, payee)])
        under_test.finish()
        assert_all_posted(done)
    assert [balance(books, name) for name in ("alice", "bob", "dave")] == [RICH, RICH, 3]


# A database that goes away.


def lost() -> psycopg2.OperationalError:
    return psycopg2.OperationalError("server closed the connection unexpectedly")


def lost_before(_: Callable[[], object]) -> object:
    raise lost()


def lost_after(run: Callable[[], object]) -> object:
    run()
    raise lost()


@pytest.mark.parametrize("trouble", [lost_before, lost_after])
def test_a_commit_of_unknown_outcome_is_tried_again_and_never_reported_as_a_failure(
    under_test: WriterUnderTest, books: Transaction, trouble: Callable[[Callable[[], object]], object]
) -> None:
    before = metric("superapp_ledger_database_lost_total")
    under_test.database.troubles.extend([trouble, trouble])
    [(order, done)] = ordered(under_test, [pay("t1", 5)])
    work = outcome_of(under_test.writer.run("work", lambda cur: service.transfer(cur, pay("t2", 7), 5)))
    under_test.finish()
    for answer in (answer_of(done), answer_of(work)):
        assert isinstance(answer, Posted)
    assert answer_of(done).transfer == order  # type: ignore[union-attr]
    assert balance(books, "alice") == RICH - 12
    assert metric("superapp_ledger_database_lost_total") == before + 2
    assert books(service.violations) == ()


def test_a_database_that_stays_away_is_an_error_for_those_who_wait(under_test: WriterUnderTest) -> None:
    under_test.database.troubles.extend([lost_before] * 7)
    [(_, done)] = ordered(under_test, [pay("t1")])
    under_test.finish()
    with pytest.raises(psycopg2.OperationalError):
        answer_of(done)
    assert under_test.clock.seconds() < 35
    again = ordered(under_test, [pay("t1")])
    under_test.finish()
    assert_all_posted(again)


def test_all_of_a_batch_hear_at_once_that_the_database_stays_away(under_test: WriterUnderTest) -> None:
    ordered(under_test, [pay("block")])
    waiting = ordered(under_test, [pay(f"t{number}") for number in range(20)])
    under_test.database.let_through()
    under_test.database.troubles.extend([lost_before] * 7)
    under_test.finish()
    for _, done in waiting:
        with pytest.raises(psycopg2.OperationalError):
            answer_of(done)
    assert under_test.clock.seconds() < 35


def test_a_server_that_shuts_down_is_waited_for(under_test: WriterUnderTest) -> None:
    class AdminShutdown(psycopg2.OperationalError):
        pgcode = "57P01"

    def shutting_down(_: Callable[[], object]) -> object:
        raise AdminShutdown("terminating connection due to administrator command")

    under_test.database.troubles.append(shutting_down)
    done = ordered(under_test, [pay("t1")])
    under_test.finish()
    assert_all_posted(done)


@pytest.mark.parametrize(
    "error", [sqlite3.OperationalError("no such table"), psycopg2.ProgrammingError("syntax"), ValueError("a bug")]
)
def test_an_error_that_is_no_lost_connection_is_not_waited_for(under_test: WriterUnderTest, error: Exception) -> None:
    def trouble(_: Callable[[], object]) -> object:
        raise error

    under_test.database.troubles.append(trouble)
    [(_, done)] = ordered(under_test, [pay("t1")])
    under_test.finish()
    with pytest.raises(type(error)):
        answer_of(done)
    assert under_test.clock.seconds() == 0


def test_a_bug_between_batches_leaves_nobody_waiting(
    under_test: WriterUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OutOfOrderError("a bug of the writer")

    in_flight = ordered(under_test, [pay("t0")])
    taken = ordered(under_test, [pay("t1"), pay("t2")])
    with monkeypatch.context() as patched:
        patched.setattr(under_test.writer, "_prepare", broken)
        under_test.finish()
    assert_all_posted(in_flight)
    for _, done in taken:
        with pytest.raises(OutOfOrderError):
            answer_of(done)
    again = ordered(under_test, [pay("t1"), pay("t2")])
    under_test.finish()
    assert_all_posted(again)


# Around it.


def test_a_caller_keeps_its_logging_context(under_test: WriterUnderTest) -> None:
    async def call(context: LoggingContext) -> None:
        await under_test.writer.transfer(pay("t1"))
        assert current_context() is context
        await under_test.writer.run("work", nothing)
        assert current_context() is context

    with LoggingContext(name="caller", server_name="hs") as context:
        done = run_in_background(call, context)
        assert current_context() is context
        with PreserveLoggingContext():
            under_test.finish()
            assert not current_context()
        assert answer_of(done) is None


def test_a_caller_that_gives_up_disturbs_nobody(under_test: WriterUnderTest, books: Transaction) -> None:
    ordered(under_test, [pay("block")])
    impatient = outcome_of(under_test.writer.transfer(pay("t1")))
    patient = ordered(under_test, [pay("t2")])
    impatient.cancel()
    with pytest.raises(defer.CancelledError):
        answer_of(impatient)
    under_test.finish()
    assert_all_posted(patient)
    assert balance(books, "alice") == RICH - 3  # it was asked for, and stands


def test_two_writers_on_one_database_take_turns(two_connections: tuple[Transaction, Transaction]) -> None:
    one, _ = two_connections
    names = [f"person{number}" for number in range(6)]
    for name in names:
        one(partial(issue, name=name, amount_minor=40))
    failures: list[BaseException] = []

    def play(transaction: Transaction, label: str) -> None:
        try:
            under_test = WriterUnderTest(transaction)
            for turn in range(6):
                orders = [
                    pay(f"{label}{turn}-{number}", 1 + number % 7, names[number % 6], names[(number + turn + 1) % 6])
                    for number in range(30)
                    if (turn + 1) % 6
                ]
                done = ordered(under_test, orders)
                under_test.finish()
                for order, answer in done:
                    verdict = answer_of(answer)
                    if isinstance(verdict, Posted):
                        assert verdict.transfer == order
                    else:
                        assert verdict.reason is Reason.INSUFFICIENT_FUNDS
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=play, args=(transaction, label))
        for transaction, label in zip(two_connections, "ab", strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert one(service.violations) == ()
    assert sum(balance(one, name) for name in names) == 6 * 40
    assert one(partial(service.balance, key=house(AccountKind.ISSUED, EUR))) == -6 * 40


def test_in_sqlite_the_lease_is_the_write_lock_and_is_taken_before_anything_is_read(tmp_path: Path) -> None:
    """As Synapse opens it: the driver begins a deferred transaction by itself, at the first statement that writes."""
    path = tmp_path / "file.db"
    migrate(database := SqliteDatabase(path), ["super_app.ledger"])
    with (
        closing(sqlite3.connect(path, timeout=0)) as first,
        closing(sqlite3.connect(path, timeout=0)) as second,
    ):
        store.lock(SqliteCursor(first.cursor()))
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            store.lock(SqliteCursor(second.cursor()))
        first.commit()
        store.lock(SqliteCursor(second.cursor()))
        second.rollback()
    database.close()
