"""The homeserver's own database, seen as ``super_app.db.Cursor``. Owns the translation, no SQL."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, LiteralString, TypeVar, cast

from prometheus_client import Counter
from synapse.module_api import LoggingTransaction, ModuleApi

from super_app.db import Cursor, Engine, Row, SqlValue
from synapse_super_app import full_disk
from synapse_super_app.private_api import read_committed

T = TypeVar("T")

_statements = Counter(
    "superapp_sql_statements_total", "SQL statements that the modules ran, by unit of work.", ["work"]
)


_QUERY_CANCELLED: Final = "57014"
"""PostgreSQL's error code (appendix A of its manual)."""


class _TooSlowError(Exception):
    """A statement reached its time limit."""


class SynapseCursor:
    """Adapts Synapse's transaction; Synapse itself turns ``?`` into the driver's placeholder."""

    def __init__(self, txn: LoggingTransaction, engine: Engine, work: str) -> None:
        self._txn = txn
        self._engine = engine
        self._count = _statements.labels(work)

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def rowcount(self) -> int:
        return self._txn.rowcount

    def execute(self, sql: LiteralString, parameters: Sequence[SqlValue] = ()) -> None:
        self._count.inc()
        self._txn.execute(sql, parameters)

    def execute_many(self, sql: LiteralString, rows: Iterable[Sequence[SqlValue]]) -> None:
        self._count.inc()
        self._txn.execute_batch(sql, list(rows))

    def execute_values(self, sql: LiteralString, rows: Sequence[Sequence[SqlValue]]) -> list[Row]:
        if not rows:
            return []
        one_row = "(" + ", ".join("?" * len(rows[0])) + ")"
        spelled = sql.replace("VALUES ?", "VALUES " + ", ".join([one_row] * len(rows)), 1)
        self._count.inc()
        self._txn.execute(spelled, [value for row in rows for value in row])
        return self.fetchall() if self._txn.description is not None else []

    def fetchone(self) -> Row | None:
        return cast(Row | None, self._txn.fetchone())

    def fetchall(self) -> list[Row]:
        return cast(list[Row], self._txn.fetchall())


class Database:
    """Runs units of work in the homeserver's database, READ COMMITTED on PostgreSQL."""

    def __init__(self, api: ModuleApi, engine: Engine) -> None:
        self._api = api
        self.engine = engine

    async def run(self, name: str, work: Callable[[Cursor], T]) -> T:
        """Run ``work`` in one transaction. It may run up to five times and must not do I/O of its own.

        Raises:
            SynapseError: DISK_FULL, if the database could not grow; nothing of ``work`` was kept.
        """

        def in_transaction(txn: LoggingTransaction) -> T:
            return work(SynapseCursor(txn, self.engine, name))

        # run_db_interaction hands isolation_level on to the database pool, though its own signature does not name it.
        # SQLite has no such level: its transactions are serialized, and Synapse's engine ignores the setting.
        interact = cast(Callable[..., Awaitable[T]], self._api.run_db_interaction)
        try:
            return await interact(f"superapp_{name}", in_transaction, isolation_level=read_committed())
        except Exception as error:
            if full_disk.is_full(error):
                raise full_disk.refusal_of(error) from error
            raise

    async def run_within(self, name: str, work: Callable[[Cursor], T], limit_ms: int) -> T | None:
        """Run ``work``, which only reads; None if a statement took longer. SQLite knows no such limit."""

        def limited(cur: Cursor) -> T:
            if self.engine is Engine.POSTGRESQL:
                cur.execute("SELECT set_config('statement_timeout', ?, true)", (str(limit_ms),))
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
            return work(SynapseCursor(txn, self.engine, name))

        # Synapse's own default is REPEATABLE READ.
        return await self._api.run_db_interaction(f"superapp_{name}", in_transaction)
