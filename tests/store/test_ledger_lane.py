"""The writer's own connection to PostgreSQL, a real one: what it carries, and how the pool stands in for it."""

import select
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any, Final

import psycopg2
import pytest
from engines import PostgresDatabase, migrate
from ledger_writers import WriterUnderTest, answer_of, outcome_of
from prometheus_client import REGISTRY
from twisted.internet import defer, task

from super_app.db import Cursor, Transaction
from super_app.errors import Reason, Refused
from super_app.ids import Acct
from super_app.ledger import service
from super_app.ledger.model import Cause, Posted, Transfer, TransferId, available
from super_app.money import AssetCode, Money
from synapse_super_app.commands.postgres import PrivatePostgres
from synapse_super_app.ledger.lane import Lane, connected

EUR: Final = AssetCode("EUR")
RICH: Final = 1_000_000
_LIMIT_S: Final = 60
Verdict = Posted | Refused


class PumpedReactor(task.Clock):
    """A reactor whose sockets are looked at when the test says so, and whose clock stands otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self._readers: set[Any] = set()
        self._writers: set[Any] = set()

    def addReader(self, reader: Any) -> None:  # noqa: N802 - Twisted's names
        self._readers.add(reader)

    def removeReader(self, reader: Any) -> None:  # noqa: N802
        self._readers.discard(reader)

    def addWriter(self, writer: Any) -> None:  # noqa: N802
        self._writers.add(writer)

    def removeWriter(self, writer: Any) -> None:  # noqa: N802
        self._writers.discard(writer)

    def serve(self) -> None:
        """Wait for a socket and serve it."""
        readable, writable, _ = select.select(self._readers, self._writers, [], _LIMIT_S)
        assert readable or writable, "nothing came"
        for each in readable:
            each.doRead()
        for each in writable:
            each.doWrite()


class Bench:
    """A writer with a lane into one schema, and a pool of one connection that stands open."""

    def __init__(self, database: PostgresDatabase) -> None:
        self.books: Transaction = database.connect(rerun=False)
        self.elsewhere: Transaction = database.connect(rerun=False)
        self.reactor = PumpedReactor()
        self.connect: Callable[[], Any] = partial(connected, database.arguments())
        self.connections: list[Any] = []
        self.attempts = 0

        async def in_thread(connect: Callable[[], Any]) -> Any:
            self.attempts += 1
            self.connections.append(connect())
            return self.connections[-1]

        def connect() -> Any:
            # The test may put another one in its place.
            return self.connect()

        self.lane = Lane(connect, in_thread, self.reactor)
        self.under_test = WriterUnderTest(self.books, is_open=True, clock=self.reactor, lane=self.lane)

    def order(self, *orders: Transfer) -> "list[defer.Deferred[Verdict]]":
        return [outcome_of(self.under_test.writer.transfer(order)) for order in orders]

    def wait(self, asked: "list[defer.Deferred[Verdict]]") -> list[Verdict]:
        while not all(done.called for done in asked):
            self.reactor.serve()
        return [answer_of(done) for done in asked]

    def posted(self, *orders: Transfer) -> None:
        for order, verdict in zip(orders, self.wait(self.order(*orders)), strict=True):
            assert isinstance(verdict, Posted), verdict
            assert verdict.transfer == order

    def by_pool(self) -> int:
        """Transactions that went through the pool so far."""
        return len(self.under_test.database.names)

    def backend(self) -> int:
        return int(self.connections[-1].info.backend_pid)

    def end_backend(self) -> None:
        """What a restart of PostgreSQL, or an operator, does to the connection."""
        pid = self.backend()
        self.elsewhere(lambda cur: cur.execute("SELECT pg_terminate_backend(CAST(? AS INTEGER), 10000)", (pid,)))

    def balance(self, name: str) -> int:
        return self.books(partial(service.balance, key=available(Acct(name), EUR)))


def pay(transfer_id: str, amount_minor: int = 1, payer: str = "alice", payee: str = "bob") -> Transfer:
    return Transfer(
        transfer_id=TransferId(transfer_id),
        debit=available(Acct(payer), EUR),
        credit=available(Acct(payee), EUR),
        amount_minor=amount_minor,
        cause=Cause.PAYMENT,
        reference=transfer_id,
    )


def issue(cur: Cursor, name: str, amount_minor: int) -> None:
    money = Money(amount_minor=amount_minor, currency=EUR)
    service.issue(cur, Acct(name), money, reference=name, operator="@a", now_ms=1)


def metric(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


@pytest.fixture
def bench(postgres_server: PrivatePostgres) -> Iterator[Bench]:
    """alice and bob are rich, dave has 3; the writer remembers the books and its lane is open."""
    database = PostgresDatabase(postgres_server)
    migrate(database, ["super_app.ledger"])
    bench = Bench(database)
    for name, amount_minor in (("alice", RICH), ("bob", RICH), ("dave", 3)):
        bench.books(partial(issue, name=name, amount_minor=amount_minor))
    # The first goes by the pool, as no books are remembered; the second too, and has the lane opened.
    bench.posted(pay("first"), pay("dave is known", 1, "dave", "bob"))
    bench.posted(pay("second"))
    assert bench.lane.is_free
    yield bench
    assert bench.books(service.violations) == ()
    bench.lane.close()
    database.close()


def test_a_batch_that_is_decided_ahead_goes_without_the_pool(bench: Bench) -> None:
    before = bench.by_pool()
    orders = [pay(f"t{number}", 1 + number) for number in range(300)]
    bench.posted(*orders)
    assert bench.by_pool() == before
    assert bench.balance("alice") == RICH - 2 - sum(range(1, 301))


def test_each_hears_its_own_verdict_whichever_way_its_batch_went(bench: Bench) -> None:
    bench.posted(*(pay(f"old{number}") for number in range(20)))
    three = [(pay(f"new{n}"), pay(f"old{n}"), pay(f"poor{n}", 4, "dave")) for n in range(20)]
    orders = [order for each in three for order in each]
    for order, verdict in zip(orders, bench.wait(bench.order(*orders)), strict=True):
        if order.debit.owner == "dave":
            assert isinstance(verdict, Refused)
            assert verdict.reason is Reason.INSUFFICIENT_FUNDS
        else:
            assert isinstance(verdict, Posted)
            assert verdict.transfer == order
            assert verdict.replayed == order.transfer_id.startswith("old")


def test_what_another_process_wrote_meanwhile_is_decided_again(bench: Bench) -> None:
    again = metric("superapp_ledger_decided_again_total")
    bench.elsewhere(lambda cur: service.transfer(cur, pay("elsewhere", 2, "dave", "bob"), 5))
    [verdict] = bench.wait(bench.order(pay("t1", 2, "dave", "bob")))
    assert isinstance(verdict, Refused)
    assert verdict.fields["available"] == 0
    assert metric("superapp_ledger_decided_again_total") == again + 1


def test_an_id_that_another_process_used_meanwhile_is_a_replay(bench: Bench) -> None:
    taken = pay("t1", 7)
    bench.elsewhere(lambda cur: service.transfer(cur, taken, 5))
    [verdict] = bench.wait(bench.order(taken))
    assert isinstance(verdict, Posted)
    assert verdict.replayed
    assert bench.balance("alice") == RICH - 2 - 7


def test_many_callers_keep_two_batches_going(bench: Bench) -> None:
    async def pays(caller: int) -> None:
        for turn in range(5):
            verdict = await bench.under_test.writer.transfer(pay(f"c{caller}-{turn}"))
            assert isinstance(verdict, Posted)

    before = metric("superapp_ledger_batch_jobs_count"), bench.by_pool()
    callers = [defer.ensureDeferred(pays(caller)) for caller in range(512)]
    while not all(caller.called for caller in callers):
        bench.reactor.serve()
    for caller in callers:
        answer_of(caller)
    assert bench.balance("alice") == RICH - 2 - 5 * 512
    assert bench.by_pool() == before[1]
    # 2560 transfers by batches of at most 256, hardly more of them than that takes.
    assert metric("superapp_ledger_batch_jobs_count") - before[0] <= 10 + 6


def test_a_connection_that_ends_while_nothing_is_asked_is_noticed_and_made_again(bench: Bench) -> None:
    bench.end_backend()
    while bench.lane.is_free:
        bench.reactor.serve()
    attempts = bench.attempts
    bench.posted(pay("t1"))
    assert bench.attempts == attempts, "half a minute has not passed since the last attempt"
    bench.reactor.advance(30)
    bench.posted(pay("t2"))
    assert bench.attempts == attempts + 1
    before = bench.by_pool()
    bench.posted(pay("t3"))
    assert bench.by_pool() == before


def test_a_connection_that_ends_under_a_batch_loses_and_doubles_nothing(bench: Bench) -> None:
    # Its end is not noticed before the batch is sent, or comes while the database has it.
    lost = metric("superapp_ledger_database_lost_total")
    bench.end_backend()
    orders = [pay(f"t{number}") for number in range(20)]
    bench.posted(*orders)
    assert not bench.lane.is_free
    assert metric("superapp_ledger_database_lost_total") == lost + 1
    assert bench.balance("alice") == RICH - 2 - 20


def test_an_answer_that_was_lost_after_the_commit_is_found(bench: Bench) -> None:
    # Held up until it is sent, so that it is not answered at once.
    with closing(psycopg2.connect(bench.connections[0].dsn)) as other, other.cursor() as cursor:
        cursor.execute("SELECT 1 FROM superapp_ledger_head FOR UPDATE")
        [done] = bench.order(pay("t1", 5))
        other.rollback()
    # The database has it, and its answer is not read any more.
    while bench.elsewhere(partial(service.balance, key=available(Acct("alice"), EUR))) != RICH - 2 - 5:
        pass
    bench.lane.close()
    [verdict] = bench.wait([done])
    assert isinstance(verdict, Posted)
    assert verdict.replayed
    assert bench.balance("alice") == RICH - 2 - 5


def test_an_answer_that_does_not_come_is_not_waited_for_for_ever(bench: Bench) -> None:
    with closing(psycopg2.connect(bench.connections[0].dsn)) as other, other.cursor() as cursor:
        cursor.execute("SELECT 1 FROM superapp_ledger_head FOR UPDATE")
        [done] = bench.order(pay("t1", 5))
        assert not done.called
        other.rollback()
        # Whether the database had it by now or has it later, it has it once.
        bench.reactor.advance(30)
    [verdict] = bench.wait([done])
    assert isinstance(verdict, Posted)
    assert not bench.lane.is_free
    assert bench.balance("alice") == RICH - 2 - 5


def test_a_statement_that_fails_leaves_the_lane_and_its_neighbours_whole(bench: Bench) -> None:
    # PostgreSQL keeps no NUL in a text: the driver refuses the one, and the others are posted without it.
    bad = pay("t\x00")
    good = [pay("t1"), pay("t2")]
    done = bench.order(good[0], bad, good[1])
    verdicts: list[Verdict | None] = []
    for each in done:
        try:
            verdicts += bench.wait([each])
        except (ValueError, psycopg2.DataError):
            verdicts.append(None)
    assert isinstance(verdicts[0], Posted)
    assert verdicts[1] is None
    assert isinstance(verdicts[2], Posted)
    assert bench.lane.is_free
    before = bench.by_pool()
    bench.posted(pay("t3"))
    bench.posted(pay("t4"))
    assert bench.by_pool() <= before + 1
    assert bench.lane.is_free


def test_a_rule_of_the_database_that_speaks_up_leaves_the_lane_open(bench: Bench) -> None:
    bench.books(lambda cur: cur.execute("ALTER TABLE superapp_ledger_entry ADD CHECK (reference <> 'forbidden')"))
    bad, good = pay("forbidden"), pay("good")
    done_bad, done_good = bench.order(bad, good)
    assert isinstance(bench.wait([done_good])[0], Posted)
    with pytest.raises(psycopg2.errors.CheckViolation):
        bench.wait([done_bad])
    bench.posted(pay("t1"))
    before = bench.by_pool()
    bench.posted(pay("t2"))
    assert bench.by_pool() == before


def test_without_the_connection_the_pool_does_the_work(bench: Bench) -> None:
    def refused() -> Any:
        raise psycopg2.OperationalError("too many connections")

    bench.lane.close()
    bench.connect = refused
    bench.reactor.advance(30)
    attempts = bench.attempts
    for number in range(5):
        bench.posted(pay(f"t{number}"))
    assert bench.attempts == attempts + 1
    assert bench.balance("alice") == RICH - 2 - 5
