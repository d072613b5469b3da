"""A connection of the ledger's writer to PostgreSQL on which the reactor itself waits.

One statement at a time, each a transaction of its own, so a batch costs one exchange with the database and no thread:
the pool's way to the same end is three exchanges, each of which asks for the interpreter again. It is a short cut and
never the only way. While it is not open, and after whatever goes wrong on it, the writer goes through the pool.

It decides nothing and keeps no SQL of its own.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar, cast

from synapse.module_api import ModuleApi
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from super_app.db import Engine, Row, SqlValue
from synapse_super_app.private_api import PrivateApi, outside_log_context

logger = logging.getLogger(__name__)

T = TypeVar("T")

_REOPEN_S: Final = 30.0
_ANSWER_S: Final = 30.0
"""A statement that takes longer is given up with its connection; what came of it is looked up through the pool."""

# psycopg2.extensions, which is not there where the database is SQLite.
_POLL_OK: Final = 0
_POLL_READ: Final = 1
_POLL_WRITE: Final = 2


class LaneReactor(Protocol):
    """What a lane needs of Twisted's reactor."""

    def addReader(self, reader: Any) -> None: ...  # noqa: N802 - Twisted's names

    def removeReader(self, reader: Any) -> None: ...  # noqa: N802

    def addWriter(self, writer: Any) -> None: ...  # noqa: N802

    def removeWriter(self, writer: Any) -> None: ...  # noqa: N802

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object) -> Any: ...  # noqa: A002, N802

    def seconds(self) -> float: ...


class Lane:
    """What the reactor calls ``IReadDescriptor`` and ``IWriteDescriptor``.

    ``connect`` blocks, and runs on a thread by way of ``in_thread``; it gives an asynchronous connection.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        in_thread: Callable[[Callable[[], Any]], Awaitable[Any]],
        reactor: LaneReactor,
    ) -> None:
        self._connect = connect
        self._in_thread = in_thread
        self._reactor = reactor
        self._connection: Any = None
        self._cursor: Any = None
        self._done: Deferred[Row] | None = None
        self._limit: Any = None
        self._opening = False
        self._next_attempt_s = 0.0

    @property
    def is_free(self) -> bool:
        """Whether a statement may be asked now."""
        return self._connection is not None and self._done is None

    @property
    def is_wanted(self) -> bool:
        """Whether ``open`` has something to do: it is not open, and the last attempt was long enough ago."""
        return self._connection is None and not self._opening and self._reactor.seconds() >= self._next_attempt_s

    async def open(self) -> None:
        """Connect. Does not raise: without the lane the pool does the work."""
        self._opening = True
        self._next_attempt_s = self._reactor.seconds() + _REOPEN_S
        try:
            self._connection = await self._in_thread(self._connect)
        except Exception as error:  # noqa: BLE001 - whatever it is, the pool's connections tell the operator more
            logger.info("The ledger's writer has no connection of its own yet (%s); the pool serves it", error)
        else:
            self._cursor = self._connection.cursor()
            self._reactor.addReader(self)
        finally:
            self._opening = False

    def ask(self, sql: str, parameters: Sequence[SqlValue]) -> "Deferred[Row]":
        """Run one statement that gives one row, as a transaction of its own; the row comes after the commit.

        An error of the statement means that nothing was written. If the connection broke, or no answer came in time,
        nobody knows.
        """
        done: Deferred[Row] = Deferred()
        self._done = done
        self._limit = self._reactor.callLater(_ANSWER_S, self._give_up)
        try:
            self._cursor.execute(sql.replace("?", "%s"), parameters)
        except Exception:  # noqa: BLE001 - it belongs to the one who waits
            self._failed()
        else:
            self._advance()
        return done

    def close(self) -> None:
        """Disconnect. Whoever waits is told that the connection is lost."""
        self._disconnect()
        if self._done is not None:
            self._tell(Failure(ConnectionError("the connection was closed")))  # type: ignore[no-untyped-call]

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._reactor.removeReader(self)
            self._reactor.removeWriter(self)
            connection.close()

    # What the reactor calls.

    def fileno(self) -> int:
        return -1 if self._connection is None else int(self._connection.fileno())

    def logPrefix(self) -> str:  # noqa: N802 - of Twisted's interface
        return "superapp_ledger_lane"

    def doRead(self) -> None:  # noqa: N802
        self._advance()

    def doWrite(self) -> None:  # noqa: N802
        self._advance()

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802
        logger.info("The reactor has given up the connection of the ledger's writer (%s)", reason.value)
        self.close()

    def _advance(self) -> None:
        if self._connection is None:
            return
        try:
            state = self._connection.poll()
            row = self._cursor.fetchone() if state == _POLL_OK and self._done is not None else None
        except Exception:  # noqa: BLE001 - it belongs to the one who waits
            self._failed()
            return
        if state == _POLL_WRITE:
            self._reactor.addWriter(self)
            return
        self._reactor.removeWriter(self)
        if state == _POLL_OK and self._done is not None:
            self._tell(row)

    def _failed(self) -> None:
        """Tell whoever waits what is being handled; the connection stays if only the statement failed."""
        failure = Failure()  # type: ignore[no-untyped-call]
        if self._connection is not None and self._connection.closed:
            logger.info("The ledger's writer lost its own connection (%s); the pool serves it", failure.value)
            self._disconnect()
        if self._done is not None:
            self._tell(failure)

    def _give_up(self) -> None:
        self._limit = None
        logger.warning("No answer on the ledger's own connection for %.0f s; the pool serves it", _ANSWER_S)
        self.close()

    def _tell(self, answer: Any) -> None:
        done, self._done = self._done, None
        limit, self._limit = self._limit, None
        if limit is not None:
            limit.cancel()
        if done is not None:
            with outside_log_context():
                done.callback(answer)


def lane_of(api: ModuleApi, private: PrivateApi) -> Lane | None:
    """The lane beside the homeserver's pool, not open yet; None on SQLite."""
    if private.engine is not Engine.POSTGRESQL:
        return None
    arguments = private.connection_arguments()
    return Lane(lambda: connected(arguments), api.defer_to_thread, private.reactor())


def connected(arguments: Mapping[str, Any]) -> Any:
    """A connection that does not block, ready for its first statement. This call does block."""
    import psycopg2
    from psycopg2.extras import wait_select

    # Typed as it is called: the arguments are the operator's, and any of them.
    connect = cast(Callable[..., Any], psycopg2.connect)
    connection = connect(**{**arguments, "async_": True})
    wait_select(connection)
    return connection
