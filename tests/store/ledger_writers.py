"""A real ``LedgerWriter`` on a database of the store tests, whose transactions the test lets through one by one."""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

from synapse.logging.context import LoggingContext, PreserveLoggingContext  # type: ignore[attr-defined]
from synapse.module_api import ModuleApi, make_deferred_yieldable
from twisted.internet import defer, task
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from super_app.db import Cursor, Engine, Transaction
from super_app.ledger import store
from synapse_super_app.ledger.lane import Lane
from synapse_super_app.ledger.writer import LedgerWriter

T = TypeVar("T")


class GatedDatabase:
    """Stands for ``synapse_super_app.database.Database``: what arrives waits until ``let_through`` runs it."""

    def __init__(self, transaction: Transaction, *, is_open: bool = False) -> None:
        self._transaction = transaction
        self.engine: Engine = transaction(lambda cur: cur.engine)
        self._waiting: deque[tuple[Callable[[Cursor], object], defer.Deferred[object]]] = deque()
        self._open = is_open
        self.names: list[str] = []
        """The units of work, in the order in which they came."""
        self.troubles: deque[Callable[[Callable[[], object]], object]] = deque()
        """What happens to the next transactions instead of running them; each gets what would run it."""

    async def run(self, name: str, work: Callable[[Cursor], T]) -> T:
        self.names.append(name)
        done: defer.Deferred[object] = defer.Deferred()
        self._waiting.append((work, done))
        if self._open:
            self.let_through()
        return cast(T, await done)

    def let_through(self) -> None:
        """Run the transaction that waits, to its end."""
        work, done = self._waiting.popleft()

        def run() -> object:
            return self._transaction(work)

        try:
            answer = self.troubles.popleft()(run) if self.troubles else run()
        except Exception:
            done.errback(Failure())  # type: ignore[no-untyped-call]
        else:
            done.callback(answer)

    @property
    def is_idle(self) -> bool:
        return not self._waiting


class WriterApi:
    """The part of ModuleApi that the writer uses."""

    def __init__(self, clock: task.Clock) -> None:
        self._clock = clock
        self.background: list[defer.Deferred[None]] = []

    def run_as_background_process(self, desc: str, func: Callable[[], Awaitable[None]]) -> "defer.Deferred[None]":
        async def in_context() -> None:
            with LoggingContext(name=desc, server_name="hs1.test"):
                await func()

        with PreserveLoggingContext():
            running = defer.ensureDeferred(in_context())
        self.background.append(running)
        return running

    async def sleep(self, seconds: float) -> None:
        await make_deferred_yieldable(task.deferLater(cast(IReactorTime, self._clock), seconds))


class WriterUnderTest:
    """A writer with all that surrounds it. ``open`` lets every transaction through at once."""

    def __init__(
        self,
        transaction: Transaction,
        *,
        is_open: bool = False,
        clock: task.Clock | None = None,
        lane: Lane | None = None,
    ) -> None:
        self.clock = clock or task.Clock()
        self.database = GatedDatabase(transaction, is_open=is_open)
        self._api = WriterApi(self.clock)
        self.api = cast(ModuleApi, self._api)
        self.writer = LedgerWriter(self, lane)
        self.writer.open(transaction(store.head).epoch)

    def now_ms(self) -> int:
        return 1_000 + int(self.clock.seconds() * 1000)

    def wait(self) -> bool:
        """Let pauses pass until a transaction waits to be let through. False if none ever will."""
        while self.database.is_idle:
            if not self.clock.getDelayedCalls():
                return False
            self.clock.advance(0.1)
        return True

    def finish(self) -> None:
        """Let everything through that waits, pauses too, and check that the writer itself never failed."""
        while self.wait():
            self.database.let_through()
        while self.clock.getDelayedCalls():
            self.clock.advance(0.1)
        for running in self._api.background:
            assert running.called, "the writer waits for something that never comes"
            assert running.result is None, running.result


def outcome_of(awaitable: Awaitable[T]) -> "defer.Deferred[T]":
    """What one who awaits it at once would get."""

    async def wait() -> T:
        return await awaitable

    return defer.ensureDeferred(wait())


def answer_of(done: "defer.Deferred[T]") -> T:
    """The answer, which must be there.

    Raises:
        Exception: what the job raised.
    """
    assert done.called, "nobody has been told yet"
    answer = done.result
    if isinstance(answer, Failure):
        done.addErrback(lambda _: None)
        answer.raiseException()
    return cast(T, answer)
