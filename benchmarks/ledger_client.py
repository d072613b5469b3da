"""The ledger's writer under load, in a process of its own: ``python -m benchmarks.ledger_client '{"job": …}'``.

It is the real writer and the real database adapter on Twisted's reactor and pool and Synapse's own transaction class;
only the homeserver around them is missing. Prints its figures as JSON.
"""

import gc
import json
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, LiteralString, TypeVar, cast

from psycopg2.extras import wait_select
from synapse.logging.context import LoggingContext, PreserveLoggingContext  # type: ignore[attr-defined]
from synapse.metrics import install_gc_manager
from synapse.module_api import ModuleApi, make_deferred_yieldable
from synapse.storage.database import LoggingTransaction
from synapse.storage.engines.postgres import PostgresEngine
from twisted.enterprise import adbapi
from twisted.internet import defer, reactor, task, threads

from super_app.db import Cursor, Engine, Row, SqlValue
from super_app.errors import Refused
from super_app.ids import Acct
from super_app.ledger import service, store
from super_app.ledger.model import AccountKey, AccountKind, Cause, HoldId, Posted, Transfer, TransferId, house
from super_app.money import AssetCode, Money
from synapse_super_app.database import Database
from synapse_super_app.ledger.lane import Lane, connected
from synapse_super_app.ledger.writer import LedgerWriter

T = TypeVar("T")

CURRENCY: Final = AssetCode("EUR")
_WARM_UP_S: Final = 2.0
_SERVER_NAME: Final = "benchmark"
_ENGINE: Final = PostgresEngine({"args": {}})


def transaction(connection: Any, name: str) -> LoggingTransaction:
    """Synapse's own view of a psycopg2 connection."""
    return LoggingTransaction(
        txn=connection.cursor(),
        name=name,
        server_name=_SERVER_NAME,
        database_engine=_ENGINE,
        after_callbacks=[],
        async_after_callbacks=[],
        exception_callbacks=[],
    )


class _Api:
    """The few methods of ModuleApi that the writer and the database adapter use, without a homeserver."""

    def __init__(self, dsn: str) -> None:
        self.pool: Any = adbapi.ConnectionPool("psycopg2", dsn, cp_min=1, cp_max=5, cp_reconnect=True)  # type: ignore[no-untyped-call]

    def run_db_interaction(
        self, desc: str, func: Callable[[LoggingTransaction], T], isolation_level: int | None = None
    ) -> "defer.Deferred[T]":
        def on_connection(connection: Any) -> T:
            _ENGINE.attempt_to_set_isolation_level(connection, isolation_level)
            with LoggingContext(name=desc, server_name=_SERVER_NAME):
                txn = transaction(connection, desc)
                try:
                    result = func(txn)
                    connection.commit()
                    return result
                finally:
                    txn.close()

        running: defer.Deferred[T] = self.pool.runWithConnection(on_connection)
        return make_deferred_yieldable(running)

    def run_as_background_process(self, desc: str, func: Callable[[], Awaitable[None]]) -> "defer.Deferred[None]":
        async def in_context() -> None:
            with LoggingContext(name=desc, server_name=_SERVER_NAME):
                await func()

        with PreserveLoggingContext():
            return defer.ensureDeferred(in_context())

    async def sleep(self, seconds: float) -> None:
        await make_deferred_yieldable(task.deferLater(cast(Any, reactor), seconds))

    @staticmethod
    def get_current_time_msec() -> int:
        return int(time.time() * 1000)


class Books:
    """One ledger in one database: what ``Runtime`` is to the writer."""

    def __init__(self, dsn: str) -> None:
        self._api = _Api(dsn)
        self.api = cast(ModuleApi, self._api)
        self.database = Database(self.api, Engine.POSTGRESQL)
        self.lane = Lane(partial(connected, {"dsn": dsn}), threads.deferToThread, cast(Any, reactor))
        self.writer = LedgerWriter(self, self.lane)
        self.writer.open(1)

    def now_ms(self) -> int:
        return self._api.get_current_time_msec()

    def close(self) -> None:
        self.lane.close()
        self._api.pool.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Caller:
    """Sends one transfer after the other, each as soon as the last one is answered."""

    books: Books
    keys: Sequence[AccountKey]
    payee: AccountKey | None
    """The account that everybody pays, or None for random ones."""

    async def run(self, answered: Callable[[], bool]) -> None:
        rand = random.Random()  # noqa: S311 - which accounts pay is no secret
        going = True
        while going:
            debit = int(rand.random() * len(self.keys))
            credit = (debit + 1 + int(rand.random() * (len(self.keys) - 1))) % len(self.keys)
            order = Transfer(
                transfer_id=TransferId(f"{rand.getrandbits(128):032x}"),
                debit=self.keys[debit],
                credit=self.payee or self.keys[credit],
                amount_minor=1,
                cause=Cause.PAYMENT,
                reference="benchmark",
            )
            verdict = await self.books.writer.transfer(order)
            if not isinstance(verdict, Posted) or verdict.replayed:
                raise RuntimeError(f"a transfer of the benchmark was not posted: {verdict}")
            going = answered()


async def throughput(dsn: str, callers: int, accounts: int, seconds: float, payee: str | None) -> dict[str, float]:
    """Transfers per second with ``callers`` at once, after a warm-up; to one ``payee`` or to random ones."""
    books = Books(dsn)
    keys = account_keys(accounts)
    count = 0
    stopped = False

    def answered() -> bool:
        nonlocal count
        count += 1
        return not stopped

    running = [
        defer.ensureDeferred(
            _Caller(books=books, keys=keys, payee=None if payee is None else available_of(payee)).run(answered)
        )
        for _ in range(callers)
    ]
    await task.deferLater(cast(Any, reactor), _WARM_UP_S)
    started, before = time.perf_counter(), count
    await task.deferLater(cast(Any, reactor), seconds)
    rate = (count - before) / (time.perf_counter() - started)
    total = count - before
    stopped = True
    await defer.gatherResults(running)
    broken = await books.database.run("violations", service.violations)
    books.close()
    if broken:
        raise RuntimeError(f"the benchmark broke the books: {broken}")
    return {"per_second": rate, "transfers": total}


async def works(dsn: str, callers: int, accounts: int, seconds: float, grouped: bool) -> dict[str, float]:  # noqa: FBT001 - from JSON
    """Holds placed and posted a second, each a work as those of payments are; grouped or one at a time."""
    books = Books(dsn)
    keys = account_keys(accounts)
    alone = defer.DeferredLock()
    count = 0
    stopped = False

    async def run(name: LiteralString, work: Callable[[Cursor], object]) -> None:
        nonlocal count
        if not grouped:
            await alone.acquire()
        try:
            done = await books.writer.run(name, work)
        finally:
            if not grouped:
                alone.release()
        if isinstance(done, Refused):
            raise RuntimeError(f"a work of the benchmark was refused: {done.message}")
        count += 1

    async def caller() -> None:
        rand = random.Random()  # noqa: S311 - which accounts pay is no secret
        money = Money(amount_minor=1, currency=CURRENCY)
        while not stopped:
            hold_id, now_ms = HoldId(f"{rand.getrandbits(128):032x}"), books.now_ms()
            payer, payee = rand.sample(keys, 2)
            await run(
                "place",
                partial(service.place_hold, hold_id=hold_id, owner=Acct(payer.owner), money=money, now_ms=now_ms),
            )
            await run(
                "post",
                partial(
                    service.post_hold,
                    hold_id=hold_id,
                    credit=payee,
                    cause=Cause.PAYMENT,
                    reference="benchmark",
                    now_ms=now_ms,
                ),
            )

    running = [defer.ensureDeferred(caller()) for _ in range(callers)]
    await task.deferLater(cast(Any, reactor), _WARM_UP_S)
    started, before = time.perf_counter(), count
    await task.deferLater(cast(Any, reactor), seconds)
    rate = (count - before) / (time.perf_counter() - started)
    total = count - before
    stopped = True
    await defer.gatherResults(running)
    broken = await books.database.run("violations", service.violations)
    books.close()
    if broken:
        raise RuntimeError(f"the benchmark broke the books: {broken}")
    return {"per_second": rate, "works": total}


async def ceiling(dsn: str, accounts: int, sizes: Sequence[int], entries: int) -> dict[str, float]:
    """Transfers per second of the database alone: batches of each size, decided beforehand, one after the other."""
    connection = connected({"dsn": dsn})
    cursor = connection.cursor()
    keys = account_keys(accounts)
    rand = random.Random()  # noqa: S311 - which accounts pay is no secret

    def ask(sql: str, parameters: Sequence[SqlValue]) -> Sequence[Row]:
        cursor.execute(sql.replace("?", "%s"), parameters)
        wait_select(connection)
        found: Sequence[Row] = cursor.fetchall()
        return found

    books = Books(dsn)
    head, known = await books.database.run("books", lambda cur: (store.head(cur), store.accounts(cur, keys)))
    books.close()
    taken: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(max(1, entries // sum(sizes))):
        for size in sizes:
            prepared = service.prepare(
                [_order(rand, keys) for _ in range(size)], int(time.time() * 1000), head, known, Engine.POSTGRESQL
            )
            if prepared is None:
                raise RuntimeError("a batch of the benchmark could not be decided ahead")
            started = time.perf_counter()
            row = ask(*service.statement_of(prepared))[0]
            taken[size].append(time.perf_counter() - started)
            if not service.is_carried_out(row):
                raise RuntimeError(f"a batch of the benchmark was not written: {row}")
            head = prepared.outcome.head
            known.update(prepared.outcome.accounts)
    connection.close()
    return {str(size): size / statistics.median(each) for size, each in taken.items()}


def _order(rand: random.Random, keys: Sequence[AccountKey]) -> Transfer:
    debit, credit = rand.sample(keys, 2)
    return Transfer(
        transfer_id=TransferId(f"{rand.getrandbits(128):032x}"),
        debit=debit,
        credit=credit,
        amount_minor=1,
        cause=Cause.PAYMENT,
        reference="benchmark",
    )


async def latency(dsns: Mapping[str, str], accounts: int, times: int, page: int) -> dict[str, dict[str, float]]:
    """Median milliseconds of a transfer, a balance and a first page of history, the databases in turns."""
    books = {name: Books(dsn) for name, dsn in dsns.items()}
    keys = account_keys(accounts)
    taken: dict[str, dict[str, list[float]]] = {name: {"transfer": [], "balance": [], "history": []} for name in books}
    rand = random.Random()  # noqa: S311 - which accounts pay is no secret
    for number in range(times + times // 5):
        for name, one in books.items():
            order = _order(rand, keys)
            for what, ask in _questions(one, order, page).items():
                started = time.perf_counter()
                await ask()
                if number >= times // 5:
                    taken[name][what].append((time.perf_counter() - started) * 1000)
    for one in books.values():
        one.close()
    return {name: {what: statistics.median(values) for what, values in each.items()} for name, each in taken.items()}


def _questions(books: Books, order: Transfer, page: int) -> dict[str, Callable[[], Awaitable[object]]]:
    def first_page(cur: Cursor) -> int:
        found = len(service.entries(cur, order.debit, None, page))
        if found != page:
            raise RuntimeError(f"a first page has {page} entries, not {found}")
        return found

    return {
        "transfer": lambda: books.writer.transfer(order),
        "balance": lambda: books.database.run("balance", lambda cur: service.balance(cur, order.debit)),
        "history": lambda: books.database.run("history", first_page),
    }


def available_of(owner: str) -> AccountKey:
    return AccountKey(owner=owner, currency=CURRENCY, kind=AccountKind.AVAILABLE)


def account_keys(accounts: int) -> list[AccountKey]:
    return [available_of(f"account-{number:036d}") for number in range(accounts)]


def issue_to(cur: Cursor, accounts: int, amount_minor: int) -> None:
    """Give each account something to pay with."""
    orders = [
        Transfer(
            transfer_id=TransferId(f"issue:{key.owner}"),
            debit=house(AccountKind.ISSUED, CURRENCY),
            credit=key,
            amount_minor=amount_minor,
            cause=Cause.ISSUE,
            reference="benchmark",
        )
        for key in account_keys(accounts)
    ]
    service.transfer_many(cur, orders, 1)


def main(job: dict[str, Any]) -> None:
    jobs: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
        "throughput": throughput,
        "works": works,
        "ceiling": ceiling,
        "latency": latency,
    }
    work = jobs[job.pop("job")]
    result: list[Any] = []

    def start() -> None:
        # As Synapse does at start.
        gc.collect()
        gc.freeze()
        install_gc_manager()
        done = defer.ensureDeferred(work(**job))
        done.addBoth(result.append)
        done.addBoth(lambda _: cast(Any, reactor).stop())

    cast(Any, reactor).callWhenRunning(start)
    cast(Any, reactor).run()
    if not isinstance(result[0], dict):
        result[0].raiseException()
    print(json.dumps(result[0]), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
