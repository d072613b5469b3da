"""The one writer of this process: groups what arrives while a commit is in flight into the next transaction.

All that touches the ledger or a link's chain goes through it. It writes while its process holds the lease (``tenure``):
a batch is one transaction that locks the head first and finds the epoch of the lease there, or writes nothing.
Transfers of a batch are posted together in a constant number of statements, other works run one after the other. A job
that raises takes nobody with it: the batch is rolled back and runs again, still as one transaction, with a savepoint
before each job, to which the one that raises goes back. Savepoints cost every job something and almost no batch needs
them, so the first attempt has none. Whoever waits hears of the outcome after the commit and never before.

Transfers are decided ahead, on the books as the last batch left them, while the database still writes that one. The
database takes such a batch only if those books came true; otherwise it is decided again inside the transaction.

On PostgreSQL such a batch has a connection of its own (``lane``), on which the reactor itself waits: one statement,
which is the whole transaction, and no thread. With many callers two batches go back and forth there, one with the
database and one with the interpreter.

It sends nothing anywhere, and what may be posted is decided in ``super_app.ledger``.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, Final, Generic, LiteralString, NamedTuple, Protocol, TypeVar

from prometheus_client import Counter, Gauge, Histogram
from synapse.module_api import ModuleApi, make_deferred_yieldable, run_in_background
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from super_app.db import Cursor, Engine, savepoint
from super_app.errors import Refused
from super_app.ledger import lease, service
from super_app.ledger.lease import NotTheWriter
from super_app.ledger.model import Account, AccountKey, Head, Posted, Transfer
from super_app.ledger.service import check_durability
from synapse_super_app.ledger.lane import Lane
from synapse_super_app.private_api import outside_log_context, yieldable

__all__ = ["LedgerWriter", "WriterDatabase", "WriterRuntime", "check_durability"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_ORDERS_PER_BATCH: Final = 256
"""More at once make each no cheaper, and let nobody be answered while the database works."""
_WORKS_PER_BATCH: Final = 100
"""A work costs milliseconds, and all of a batch wait for its last one."""
_ORDERS_WORTH_DECIDING_AHEAD: Final = 64
"""On the lane, fewer are left for the batch after this one, so that who is told now can join them."""
_HEAD_START_S: Final = 0.001
_REMEMBERED_ACCOUNTS: Final = 50_000
_RETRY_PAUSES_S: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 15.0)
"""Between attempts while the database is away; after the last one whoever waits gets the error."""

_jobs_per_batch = Histogram(
    "superapp_ledger_batch_jobs", "Jobs in one transaction of the ledger.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
_waiting = Gauge("superapp_ledger_queue_jobs", "Jobs that wait for the next transaction of the ledger.")
_commit_seconds = Histogram("superapp_ledger_commit_seconds", "Time of one transaction of the ledger, commit included.")
_apart_total = Counter(
    "superapp_ledger_apart_total", "Jobs that ran again, each with a savepoint, because their batch failed."
)
_alone_total = Counter(
    "superapp_ledger_alone_total",
    "Jobs that ran again, each in a transaction of its own, because savepoints failed too.",
)
_ahead_total = Counter("superapp_ledger_ahead_total", "Batches that the database took as they were decided ahead.")
_again_total = Counter(
    "superapp_ledger_decided_again_total", "Batches decided ahead on books that did not come true, or under taken ids."
)
_lost_total = Counter("superapp_ledger_database_lost_total", "Transactions whose outcome the database did not tell.")


class WriterDatabase(Protocol):
    """What the writer needs of ``synapse_super_app.database.Database``."""

    @property
    def engine(self) -> Engine: ...

    async def run(self, name: str, work: Callable[[Cursor], T]) -> T: ...


class WriterRuntime(Protocol):
    """What the writer needs of ``Runtime``."""

    @property
    def api(self) -> ModuleApi: ...

    @property
    def database(self) -> WriterDatabase: ...

    def now_ms(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work(Generic[T]):
    name: str
    work: Callable[[Cursor], T]
    done: "Deferred[T]"


class _Order(NamedTuple):
    # A tuple, as they come by the ten thousand per second.
    transfer: Transfer
    done: "Deferred[Posted | Refused]"


_Finished = list[tuple["Deferred[Any]", object]]
"""Whom to tell, and what: a result or a Failure."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Batch:
    orders: Sequence[_Order] = ()
    works: Sequence[_Work[Any]] = ()
    before: Head | None = None
    """The head of the books before it, as far as they are remembered."""
    prepared: service.Prepared | None = None
    """The orders, decided on those books."""
    on_lane: bool = False
    """Whether it went to the database without a thread."""

    def __len__(self) -> int:
        return len(self.orders) + len(self.works)

    def split(self) -> "list[_Batch]":
        return [*(_Batch(orders=[job]) for job in self.orders), *(_Batch(works=[job]) for job in self.works)]

    def answered(self, verdicts: Sequence[object], results: Sequence[object]) -> _Finished:
        orders = zip((job.done for job in self.orders), verdicts, strict=True)
        works = zip((job.done for job in self.works), results, strict=True)
        return [*orders, *works]

    def failed(self, failure: Failure) -> _Finished:
        return [*((job.done, failure) for job in self.orders), *((job.done, failure) for job in self.works)]


class LedgerWriter:
    """Queue and batches of one process."""

    def __init__(self, runtime: WriterRuntime, lane: Lane | None = None) -> None:
        self._runtime = runtime
        self._lane = lane
        self._orders: deque[_Order] = deque()
        self._works: deque[_Work[Any]] = deque()
        self._running = False
        self._untold: deque[_Batch] = deque()
        """Batches that were taken, in order, until their jobs are told."""
        # The books as they are after the batches that were taken, if those take the course that was prepared.
        self._head: Head | None = None
        self._accounts: dict[AccountKey, Account] = {}
        # The head after the batches that are done, None if unknown.
        self._settled: Head | None = None
        self._epoch: int | None = None
        self._on_lost: Callable[[], None] | None = None

    def open(self, epoch: int, on_lost: Callable[[], None] | None = None) -> None:
        """This process has the lease from now on. ``on_lost`` is told if a batch finds that it has it no longer."""
        self._epoch, self._on_lost = epoch, on_lost

    def close(self) -> None:
        """This process writes no more. What is in flight ends; whoever waits or comes gets ``NotTheWriter``."""
        self._epoch = None

    def run(self, name: LiteralString, work: Callable[[Cursor], T]) -> Awaitable[T]:
        """Run ``work`` in a transaction that holds the lease; await the answer at once.

        It may run several times, beside others' works. What it raises reaches the caller, and nobody else. The caller
        gets ``NotTheWriter`` where this process has not the lease: ask the one that has, under the same id.
        """
        done: Deferred[T] = Deferred()
        self._works.append(_Work(name=name, work=work, done=done))
        self._wake()
        return yieldable(done)

    def transfer(self, order: Transfer) -> "Awaitable[Posted | Refused]":
        """Post one transfer, as ``super_app.ledger.service.transfer``; await the verdict at once."""
        done: Deferred[Posted | Refused] = Deferred()
        self._orders.append(_Order(order, done))
        self._wake()
        return yieldable(done)

    def _wake(self) -> None:
        if not self._running:
            self._running = True
            self._runtime.api.run_as_background_process("superapp_ledger_writer", self._drain)

    async def _drain(self) -> None:
        try:
            await self._run_batches()
        except Exception:
            # A bug of ours. Nobody shall wait for ever because of it; every job may be asked for again by its id.
            logger.exception("The ledger's writer failed between batches")
            self._forget()
            failure = _failure()
            while self._untold:
                _tell([each for each in self._untold.popleft().failed(failure) if not each[0].called])
        finally:
            self._running = False
            if self._orders or self._works:
                self._wake()

    async def _run_batches(self) -> None:
        finished: _Finished = []
        following: _Batch | None = None
        while True:
            if following is None and len(self._orders) < self._orders_to_go_ahead():
                # Few are waiting: tell those who are done first, so that what they do next can join.
                self._tell_first(finished)
                finished = []
            batch = following or self._take(others=len(finished))
            if not batch:
                return
            running = run_in_background(self._settle, batch)
            following = None
            if finished or len(self._orders) >= self._orders_to_go_ahead():
                # Meanwhile tell those who are done, and have the next batch ready if it is worth it.
                if not batch.on_lane:
                    # The database's thread goes first: it needs the interpreter until the statement is on its way.
                    await self._runtime.api.sleep(_HEAD_START_S)
                self._tell_first(finished)
                if len(self._orders) >= self._orders_to_go_ahead():
                    following = self._take(others=len(batch.orders))
            finished = await make_deferred_yieldable(running)
            if following is not None and following.before != self._settled:
                # The books are not what it was prepared on, or by now they are known.
                self._head = self._settled
                self._prepare(following)

    def _orders_to_go_ahead(self) -> int:
        """So many must wait for a batch of them to be decided before the one in flight is done."""
        return _ORDERS_PER_BATCH if self._lane is None else _ORDERS_WORTH_DECIDING_AHEAD

    def _tell_first(self, finished: _Finished) -> None:
        """Tell those of the first batch that nobody was told of yet."""
        if finished:
            _tell(finished)
            self._untold.popleft()

    def _take(self, *, others: int) -> _Batch:
        """The next batch; ``others`` are in flight or being told, and will soon want something again."""
        limit = _ORDERS_PER_BATCH
        if self._lane is not None and (all_of_them := len(self._orders) + others) >= 2 * _ORDERS_WORTH_DECIDING_AHEAD:
            # Half of them, so that the database has one half while the interpreter has the other.
            limit = min(limit, (all_of_them + 1) // 2)
        batch = _Batch(orders=_first(self._orders, limit), works=_first(self._works, _WORKS_PER_BATCH))
        _waiting.set(len(self._orders) + len(self._works))
        if batch:
            self._untold.append(batch)
            self._prepare(batch)
        return batch

    def _prepare(self, batch: _Batch) -> None:
        """Decide its orders on the books that are remembered, and remember the books as they will be after it."""
        batch.before, batch.prepared = self._head, None
        if batch.orders and batch.before is not None:
            orders = [job.transfer for job in batch.orders]
            try:
                batch.prepared = service.prepare(
                    orders, self._runtime.now_ms(), batch.before, self._accounts, self._runtime.database.engine
                )
            except Exception:
                # Inside the transaction it raises again, and there the error has an owner.
                logger.debug("A batch cannot be decided ahead", exc_info=True)
        if batch.prepared is None or batch.works:
            # What the books will be is known after the commit.
            self._head = None
        else:
            self._remember(batch.prepared.outcome)

    async def _settle(self, batch: _Batch) -> _Finished:
        """Run a batch to its end. Does not raise."""
        _jobs_per_batch.observe(len(batch))
        epoch = self._epoch
        try:
            return await self._commit(batch)
        except NotTheWriter:
            self._lose(epoch)
            return batch.failed(_failure())
        except Exception as error:  # noqa: BLE001 - whatever a job raises belongs to the one who waits for it
            self._forget()
            # Each would wait as long again for a database that is away.
            if len(batch) == 1 or database_is_away(error):
                return batch.failed(_failure())
            logger.warning("A batch of %d ledger jobs failed (%s); it runs again with savepoints", len(batch), error)
        _apart_total.inc(len(batch))
        try:
            return await self._commit_apart(batch)
        except NotTheWriter:
            self._lose(epoch)
            return batch.failed(_failure())
        except Exception as error:  # noqa: BLE001 - as above
            self._forget()
            if database_is_away(error):
                return batch.failed(_failure())
            logger.warning("%d ledger jobs failed with savepoints too (%s); each runs alone", len(batch), error)
        finished: _Finished = []
        for alone in batch.split():
            _alone_total.inc()
            try:
                finished += await self._commit(alone)
            except Exception:  # noqa: BLE001 - as above
                self._forget()
                finished += alone.failed(_failure())
        return finished

    async def _commit(self, batch: _Batch) -> _Finished:
        """One transaction, again and again while the database is away.

        A commit whose outcome is unknown is simply tried again: every job is idempotent by its id, so the second run
        finds what the first one did.
        """
        epoch = self._epoch
        if epoch is None:
            raise NotTheWriter("this process does not write now")
        prepared = batch.prepared
        if prepared is not None and not batch.works and self._lane is not None:
            told = await self._by_lane(batch, self._lane, prepared)
            if told is True:
                return self._came_true(batch, prepared.outcome, [])
            if told is False:
                # Its books did not come true, so it is decided again.
                prepared = None
        orders = [job.transfer for job in batch.orders]
        now_ms = self._runtime.now_ms()

        def in_transaction(cur: Cursor) -> tuple[service.Outcome | None, list[object]]:
            if prepared is not None and service.carry_out(cur, prepared):
                outcome: service.Outcome | None = prepared.outcome
            else:
                lease.demand(cur, epoch)
                outcome = service.post(cur, orders, now_ms) if orders else None
            return outcome, [job.work(cur) for job in batch.works]

        name = batch.works[0].name if len(batch) == 1 and batch.works else "ledger_batch"
        outcome, results = await self._until_told(name, in_transaction)
        return self._came_true(batch, outcome, results)

    async def _commit_apart(self, batch: _Batch) -> _Finished:
        """One transaction in which each job that raises is undone by itself."""
        epoch = self._epoch
        if epoch is None:
            raise NotTheWriter("this process does not write now")
        now_ms = self._runtime.now_ms()

        attempts: list[Callable[[Cursor], object]] = [
            *(partial(service.transfer, order=job.transfer, now_ms=now_ms) for job in batch.orders),
            *(job.work for job in batch.works),
        ]
        failures: dict[int, Failure] = {}

        def in_transaction(cur: Cursor) -> list[object]:
            failures.clear()
            lease.demand(cur, epoch)
            answers: list[object] = []
            for number, each in enumerate(attempts):
                try:
                    answers.append(savepoint.attempt(cur, each))
                except Exception as error:
                    if isinstance(error, NotTheWriter) or _is_operational(error):
                        # It is about all of them. Synapse's pool tries again where that may help.
                        raise
                    failures[number] = _failure()
                    answers.append(None)
            return answers

        answers = await self._until_told("ledger_batch", in_transaction)
        answers = [failures.get(number, answer) for number, answer in enumerate(answers)]
        return batch.answered(answers[: len(batch.orders)], answers[len(batch.orders) :])

    def _came_true(self, batch: _Batch, outcome: service.Outcome | None, results: Sequence[object]) -> _Finished:
        """The batch is committed: remember the books after it, and who is to be told what."""
        prepared = batch.prepared
        if batch.works or outcome is None:
            self._forget()
        else:
            if prepared is not None and outcome is prepared.outcome:
                _ahead_total.inc()
            else:
                _again_total.inc(prepared is not None)
                if prepared is not None or outcome.before != batch.before:
                    self._forget()
                self._remember(outcome)
            self._settled = outcome.head
        return batch.answered(() if outcome is None else outcome.verdicts, results)

    async def _by_lane(self, batch: _Batch, lane: Lane, prepared: service.Prepared) -> bool | None:
        """Carry it out on the lane: whether the database took it. None if the lane cannot tell; then the pool can."""
        if not lane.is_free:
            if lane.is_wanted:
                run_in_background(lane.open)
            return None
        batch.on_lane = True
        started = perf_counter()
        try:
            row = await make_deferred_yieldable(lane.ask(*service.statement_of(prepared)))
        except Exception as error:  # noqa: BLE001 - whatever it is, the pool finds out what came of it
            _lost_total.inc(database_is_away(error))
            logger.warning("A batch failed on the ledger's own connection (%s); it runs again by the pool", error)
            return None
        _commit_seconds.observe(perf_counter() - started)
        return service.is_carried_out(row)

    async def _until_told(self, name: str, in_transaction: Callable[[Cursor], T]) -> T:
        for pause_s in _RETRY_PAUSES_S:
            started = perf_counter()
            try:
                answer = await self._runtime.database.run(name, in_transaction)
            except Exception as error:
                if not database_is_away(error):
                    raise
                _lost_total.inc()
                logger.warning("The database is away (%s); the ledger tries again in %.1f s", error, pause_s)
                await self._runtime.api.sleep(pause_s)
            else:
                _commit_seconds.observe(perf_counter() - started)
                return answer
        return await self._runtime.database.run(name, in_transaction)

    def _lose(self, epoch: int | None) -> None:
        self._forget()
        if epoch is not None and self._epoch == epoch:
            self._epoch = None
            if self._on_lost is not None:
                self._on_lost()

    def _remember(self, outcome: service.Outcome) -> None:
        if len(self._accounts) > _REMEMBERED_ACCOUNTS:
            self._accounts = {}
        self._accounts.update(outcome.accounts)
        self._head = outcome.head

    def _forget(self) -> None:
        self._head = self._settled = None
        self._accounts = {}


def _first(queue: deque[T], limit: int) -> list[T]:
    return [queue.popleft() for _ in range(min(limit, len(queue)))]


def _failure() -> Failure:
    """What is being handled, with its traceback."""
    return Failure()  # type: ignore[no-untyped-call]


def _tell(finished: _Finished) -> None:
    if finished:
        with outside_log_context():
            for done, result in finished:
                # A Failure takes the errback chain.
                done.callback(result)


def database_is_away(error: BaseException) -> bool:
    """Whether the connection broke, so that nobody knows if the transaction was committed.

    By name, since drivers share the names of PEP 249 and no base class. psycopg2 gives no SQLSTATE (``pgcode``) for a
    broken connection, which may also be a plain DatabaseError, class 57P for a server that stops or starts, and 25P03
    where the server ended a transaction in which we had stopped.
    """
    if "ConnectionLost" in _names(error):  # of Twisted's pool
        return True
    code: object = getattr(error, "pgcode", "not of psycopg2")
    if code == "25P03":
        return True
    if code is None and type(error).__name__ == "DatabaseError":
        return True
    return _is_operational(error) and (code is None or str(code).startswith("57P"))


def _is_operational(error: BaseException) -> bool:
    """Whether it is about the database and not about what was asked of it: a lost connection, a lock, a full disk."""
    return not _names(error).isdisjoint({"OperationalError", "InterfaceError"})


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}
