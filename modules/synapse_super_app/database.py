"""The homeserver's own database, seen as ``super_app.db.Cursor``. Owns the translation, no SQL."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, LiteralString, TypeVar, cast

from prometheus_client import Counter
from synapse.module_api import LoggingTransaction, ModuleApi

from super_app.db import Cursor, Engine, Row, SqlValue
from super_app.db.together import Together
from synapse_super_app import full_disk
from synapse_super_app.private_api import read_committed

T = TypeVar("T")

_statements = Counter(
    "superapp_sql_statements_total", "SQL statements that the modules ran, by unit of work.", ["work"]
)
_exchanges = Counter(
    "superapp_sql_exchanges_total", "Times that the modules waited for the database to run statements.", ["work"]
)


_WRITES: Final = ("INSERT", "UPDATE", "DELETE")
_QUERY_CANCELLED: Final = "57014"
"""PostgreSQL's error code (appendix A of its manual)."""


class _TooSlowError(Exception):
    """A statement reached its time limit."""


class SynapseCursor:
    """Adapts Synapse's transaction; Synapse itself turns ``?`` into the driver's placeholder.

    On PostgreSQL a statement waits for the next one until somebody asks for its outcome. Whoever opened the transaction
    calls ``finish`` before the commit.
    """

    def __init__(self, txn: LoggingTransaction, engine: Engine, work: str, written: set[str] | None = None) -> None:
        self._txn = txn
        self._written: set[str] = set() if written is None else written
        self._engine = engine
        self._count = _statements.labels(work)
        self._exchanges = _exchanges.labels(work)
        self._waiting = Together()

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def rowcount(self) -> int:
        self.finish()
        return self._txn.rowcount

    def execute(self, sql: LiteralString, parameters: Sequence[SqlValue] = ()) -> None:
        self._count.inc()
        if sql.startswith(_WRITES):
            self._written.add(sql)
        if self._engine is Engine.POSTGRESQL:
            self._waiting.add(sql, parameters)
        else:
            self._exchanges.inc()
            self._txn.execute(sql, parameters)

    def execute_many(self, sql: LiteralString, rows: Iterable[Sequence[SqlValue]]) -> None:
        self.finish()
        self._count.inc()
        self._exchanges.inc()
        self._written.add(sql)
        self._txn.execute_batch(sql, list(rows))

    def execute_values(self, sql: LiteralString, rows: Sequence[Sequence[SqlValue]]) -> list[Row]:
        if not rows:
            return []
        one_row = "(" + ", ".join("?" * len(rows[0])) + ")"
        # It is as literal as what it was made of.
        spelled = cast(LiteralString, sql.replace("VALUES ?", "VALUES " + ", ".join([one_row] * len(rows)), 1))
        self.execute(spelled, [value for row in rows for value in row])
        self.finish()
        return self.fetchall() if self._txn.description is not None else []

    def fetchone(self) -> Row | None:
        self.finish()
        return cast(Row | None, self._txn.fetchone())

    def fetchall(self) -> list[Row]:
        self.finish()
        return cast(list[Row], self._txn.fetchall())

    def finish(self) -> None:
        """Run what waits."""
        waiting = self._waiting.take()
        if waiting is not None:
            self._exchanges.inc()
            self._txn.execute(*waiting)


def _finished(work: Callable[[SynapseCursor], T], cur: SynapseCursor) -> T:
    result = work(cur)
    cur.finish()
    return result


class Database:
    """Runs units of work in the homeserver's database, READ COMMITTED on PostgreSQL."""

    def __init__(self, api: ModuleApi, engine: Engine) -> None:
        self._api = api
        self.engine = engine
        self._watchers: list[tuple[str, Callable[[], None]]] = []

    def watch(self, table: str, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever a unit of work of this process may have written to a table and has ended."""
        self._watchers.append((table, changed))

    async def run(self, name: str, work: Callable[[Cursor], T]) -> T:
        """Run ``work`` in one transaction. It may run up to five times and must not do I/O of its own.

        Raises:
            SynapseError: DISK_FULL, if the database could not grow; nothing of ``work`` was kept.
        """
        written: set[str] = set()

        def in_transaction(txn: LoggingTransaction) -> T:
            return _finished(work, SynapseCursor(txn, self.engine, name, written))

        # run_db_interaction hands isolation_level on to the database pool, though its own signature does not name it.
        # SQLite has no such level: its transactions are serialized, and Synapse's engine ignores the setting.
        interact = cast(Callable[..., Awaitable[T]], self._api.run_db_interaction)
        try:
            return await interact(f"superapp_{name}", in_transaction, isolation_level=read_committed())
        except Exception as error:
            if full_disk.is_full(error):
                raise full_disk.refusal_of(error) from error
            raise
        finally:
            for table, changed in self._watchers if written else ():
                if any(table in statement for statement in written):
                    changed()

    async def run_within(self, name: str, work: Callable[[Cursor], T]) -> T | None:
        """Run ``work``, which reads all that it asks for; None if that took longer than the limit it set itself."""

        def limited(cur: Cursor) -> T:
            try:
                return work(cur)
            except Exception as error:
                if getattr(error, "pgcode", None) == _QUERY_CANCELLED:
                    # Of the driver's own class, Synapse would try again.
                    raise _TooSlowError from error
                raise

        try:
            return await self.run(name, limited)
        except _TooSlowError:
            return None

    async def run_snapshot(self, name: str, work: Callable[[Cursor], T]) -> T:
        """Run ``work``, which only reads, so that all its statements see one state, while others go on writing."""

        def in_transaction(txn: LoggingTransaction) -> T:
            return _finished(work, SynapseCursor(txn, self.engine, name))

        # Synapse's own default is REPEATABLE READ.
        return await self._api.run_db_interaction(f"superapp_{name}", in_transaction)
