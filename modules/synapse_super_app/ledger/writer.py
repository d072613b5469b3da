"""The one writer of this process: groups what arrives while a commit is in flight into the next transaction.

All that touches the ledger or a link's chain goes through it. A batch is one transaction that takes the lease row
first, so writers in several processes take turns. Transfers of a batch are posted together in a constant number of
statements, other works run one after the other. A job that raises takes nobody with it: the batch is rolled back and
each of its jobs runs again alone. Whoever waits hears of the outcome after the commit and never before.

It does not decide anything (``super_app.ledger``) and sends nothing anywhere.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final, Generic, LiteralString, Protocol, TypeVar, cast

from prometheus_client import Counter, Gauge, Histogram
from synapse.logging.context import PreserveLoggingContext
from synapse.module_api import ModuleApi, make_deferred_yieldable, run_in_background
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from super_app.db import Cursor
from super_app.errors import Refused
from super_app.ledger import service
from super_app.ledger.model import Account, AccountKey, Head, Posted, Transfer
from super_app.ledger.service import check_durability

__all__ = ["LedgerWriter", "WriterDatabase", "WriterRuntime", "check_durability"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_TRANSFERS_PER_BATCH: Final = 256
"""More at once make each no cheaper, and let nobody be answered while the database works."""
_WORKS_PER_BATCH: Final = 100
"""A work costs milliseconds, and all of a batch wait for its last one."""
_REMEMBERED_ACCOUNTS: Final = 50_000
_RETRY_PAUSES_S: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 15.0)
"""Between attempts while the database is away; after the last one whoever waits gets the error."""

_jobs_per_batch = Histogram(
    "superapp_ledger_batch_jobs", "Jobs in one transaction of the ledger.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
_waiting = Gauge("superapp_ledger_queue_jobs", "Jobs that wait for the next transaction of the ledger.")
_commit_seconds = Histogram("superapp_ledger_commit_seconds", "Time of one transaction of the ledger, commit included.")
_alone_total = Counter("superapp_ledger_alone_total", "Jobs that ran again alone because their batch failed.")
_lost_total = Counter("superapp_ledger_database_lost_total", "Transactions whose outcome the database did not tell.")


class WriterDatabase(Protocol):
    """What the writer needs of ``synapse_super_app.database.Database``."""

    async def run(self, name: str, work: Callable[[Cursor], T]) -> T: ...


class WriterRuntime(Protocol):
    """What the writer needs of ``Runtime``."""

    @property
    def api(self) -> ModuleApi: ...

    @property
    def database(self) -> WriterDatabase: ...

    def now_ms(self) -> int: ...


@dataclass(slots=True, kw_only=True, eq=False)
class _Work(Generic[T]):
    name: str
    work: Callable[[Cursor], T]
    done: "Deferred[T]" = field(default_factory=Deferred)


@dataclass(slots=True, kw_only=True, eq=False)
class _Order:
    order: Transfer
    done: "Deferred[Posted | Refused]" = field(default_factory=Deferred)


_Job = _Work[Any] | _Order
_Finished = list[tuple[_Job, object]]
"""Jobs with what each one's ``done`` is called with: its result, or a Failure."""


class LedgerWriter:
    """Queue and batches of one process."""

    def __init__(self, runtime: WriterRuntime) -> None:
        self._runtime = runtime
        self._queue: deque[_Job] = deque()
        self._running = False
        self._head: Head | None = None
        self._accounts: dict[AccountKey, Account] = {}

    async def run(self, name: LiteralString, work: Callable[[Cursor], T]) -> T:
        """Run ``work`` in a transaction that holds the lease. It may run several times, beside others' works.

        What it raises reaches the caller, and nobody else.
        """
        job = _Work(name=name, work=work)
        self._add(job)
        return await make_deferred_yieldable(job.done)

    async def transfer(self, order: Transfer) -> Posted | Refused:
        """Post one transfer, as ``super_app.ledger.service.transfer``."""
        job = _Order(order=order)
        self._add(job)
        return await make_deferred_yieldable(job.done)

    def _add(self, job: _Job) -> None:
        self._queue.append(job)
        _waiting.set(len(self._queue))
        if not self._running:
            self._running = True
            self._runtime.api.run_as_background_process("superapp_ledger_writer", self._drain)

    async def _drain(self) -> None:
        finished: _Finished = []
        try:
            while True:
                if len(self._queue) < _TRANSFERS_PER_BATCH:
                    # Few are waiting: tell those who are done first, so that what they do next can join.
                    _tell(finished)
                    finished = []
                batch = self._take()
                if not batch:
                    return
                running = run_in_background(self._settle, batch)
                # Many are waiting: the database works while those who are done are told.
                _tell(finished)
                finished = await make_deferred_yieldable(running)
        finally:
            self._running = False

    def _take(self) -> list[_Job]:
        batch: list[_Job] = []
        works = 0
        while self._queue and len(batch) < _TRANSFERS_PER_BATCH and works < _WORKS_PER_BATCH:
            job = self._queue.popleft()
            works += isinstance(job, _Work)
            batch.append(job)
        _waiting.set(len(self._queue))
        return batch

    async def _settle(self, batch: Sequence[_Job]) -> _Finished:
        """Run a batch to its end. Does not raise."""
        _jobs_per_batch.observe(len(batch))
        try:
            return await self._commit(batch)
        except Exception as error:  # noqa: BLE001 - whatever a job raises belongs to the one who waits for it
            if len(batch) == 1:
                return [(batch[0], _failure())]
            logger.warning("A batch of %d ledger jobs failed (%s); each runs again alone", len(batch), error)
        finished: _Finished = []
        for job in batch:
            _alone_total.inc()
            try:
                finished += await self._commit([job])
            except Exception:  # noqa: BLE001 - as above
                finished.append((job, _failure()))
        return finished

    async def _commit(self, batch: Sequence[_Job]) -> _Finished:
        """One transaction, again and again while the database is away.

        A commit whose outcome is unknown is simply tried again: every job is idempotent by its id, so the second run
        finds what the first one did.
        """
        works = [job for job in batch if isinstance(job, _Work)]
        orders = [job for job in batch if isinstance(job, _Order)]
        now_ms = self._runtime.now_ms()
        remembered = service.Remembered(head=self._head, accounts=self._accounts)

        def in_transaction(cur: Cursor) -> tuple[service.Outcome | None, list[object]]:
            if works:
                service.take_lease(cur)
            outcome = service.post(cur, [job.order for job in orders], now_ms, remembered) if orders else None
            return outcome, [job.work(cur) for job in works]

        name = works[0].name if len(batch) == 1 and works else "ledger_batch"
        outcome, results = await self._until_told(name, in_transaction)
        if outcome is not None:
            self._remember(outcome)
            verdicts: Sequence[object] = outcome.verdicts
        else:
            verdicts = ()
        return [*zip(orders, verdicts, strict=True), *zip(works, results, strict=True)]

    async def _until_told(self, name: str, in_transaction: Callable[[Cursor], T]) -> T:
        for pause_s in _RETRY_PAUSES_S:
            started = perf_counter()
            try:
                answer = await self._runtime.database.run(name, in_transaction)
            except Exception as error:
                if not _database_is_away(error):
                    raise
                _lost_total.inc()
                logger.warning("The database is away (%s); the ledger tries again in %.1f s", error, pause_s)
                await self._runtime.api.sleep(pause_s)
            else:
                _commit_seconds.observe(perf_counter() - started)
                return answer
        return await self._runtime.database.run(name, in_transaction)

    def _remember(self, outcome: service.Outcome) -> None:
        if outcome.forget or len(self._accounts) > _REMEMBERED_ACCOUNTS:
            self._accounts = {}
        self._accounts.update(outcome.accounts)
        self._head = outcome.head


def _failure() -> Failure:
    """What is being handled, with its traceback."""
    return Failure()  # type: ignore[no-untyped-call]


def _tell(finished: _Finished) -> None:
    with PreserveLoggingContext():
        for job, result in finished:
            if isinstance(result, Failure):
                job.done.errback(result)
            else:
                cast("Deferred[object]", job.done).callback(result)


def _database_is_away(error: BaseException) -> bool:
    """Whether the connection broke, so that nobody knows if the transaction was committed.

    By name, since drivers share the names of PEP 249 and no base class. psycopg2 gives no SQLSTATE (``pgcode``) for a
    broken connection, and class 57P for a server that stops or starts.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    if "ConnectionLost" in names:  # of Twisted's pool
        return True
    code: object = getattr(error, "pgcode", "not of psycopg2")
    return bool(names & {"OperationalError", "InterfaceError"}) and (code is None or str(code).startswith("57P"))
