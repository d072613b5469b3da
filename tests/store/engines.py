"""Transactions for store tests: ``super_app.db`` on a database of its own, on SQLite and on PostgreSQL.

They translate as the homeserver's database does (``synapse_super_app.database``), so SQL that passes here runs there.
"""

import itertools
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, LiteralString, Protocol, TypeVar, cast

import psycopg2
from psycopg2 import sql

from super_app.db import Cursor, Engine, Row, SqlValue, Transaction, UnitOfWork, migrations
from super_app.db.together import Together
from synapse_super_app.commands.postgres import PrivatePostgres

T = TypeVar("T")

_schema_numbers: Final = itertools.count(1)


def migrate(database: "Database", packages: Iterable[str]) -> None:
    """Apply the migrations of ``packages`` in this order, each file in a transaction of its own, as a start does."""
    transaction = database.connect(rerun=False)
    transaction(migrations.prepare)
    for package in packages:
        for migration in migrations.load(package, database.engine):
            transaction(partial(migrations.apply, migration=migration))


class Database(Protocol):
    """One database, empty at first. Each ``connect`` opens one more connection to it."""

    @property
    def engine(self) -> Engine: ...

    def connect(self, *, rerun: bool) -> Transaction:
        """With ``rerun`` each unit of work runs twice: the first run is rolled back and both must answer the same."""
        ...

    def close(self) -> None:
        """Close all connections and forget what was stored."""
        ...


class SqliteDatabase:
    """A file, as under a homeserver, so that several connections see the same data."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connections: list[sqlite3.Connection] = []

    @property
    def engine(self) -> Engine:
        return Engine.SQLITE

    def connect(self, *, rerun: bool) -> Transaction:
        # A crowd of connections may wait long for the one writer, each in a thread of its own.
        connection = sqlite3.connect(self._path, timeout=60, isolation_level=None, check_same_thread=False)
        # WAL and foreign keys are what Synapse sets. Whether the file survives a power cut is not tested here.
        for setting in ("journal_mode = WAL", "foreign_keys = ON", "synchronous = OFF"):
            connection.execute(f"PRAGMA {setting}")
        self._connections.append(connection)
        return _Connection(_SqliteCursor(connection.cursor()), "BEGIN IMMEDIATE", rerun=rerun)

    def disconnect(self) -> None:
        """Close all connections; the file stays, and is all of it."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def close(self) -> None:
        self.disconnect()
        for path in self._path.parent.glob(self._path.name + "*"):
            path.unlink()


class PostgresDatabase:
    """A schema of its own in the one database of the test run."""

    def __init__(self, server: PrivatePostgres) -> None:
        self._dsn = server.dsn("postgres")
        self.schema = f"test_{next(_schema_numbers)}"
        self._schema = sql.Identifier(self.schema)
        self._connections: list[psycopg2.extensions.connection] = []
        self._administer(sql.SQL("CREATE SCHEMA {}").format(self._schema))

    @property
    def engine(self) -> Engine:
        return Engine.POSTGRESQL

    def arguments(self) -> dict[str, str]:
        """What psycopg2 connects with, into this schema."""
        return {"dsn": self._dsn, "options": f"-c search_path={self._schema.string} -c lock_timeout=10s"}

    def connect(self, *, rerun: bool) -> Transaction:
        connection = psycopg2.connect(self._dsn)
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(sql.SQL("SET search_path TO {}").format(self._schema))
        # Whoever waits for a lock that a test holds for ever shall fail and say where, not hang.
        cursor.execute("SET lock_timeout TO '10s'")
        self._connections.append(connection)
        return _Connection(_PostgresCursor(cursor), "BEGIN ISOLATION LEVEL READ COMMITTED", rerun=rerun)

    def disconnect(self) -> None:
        """Close all connections; the schema stays."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def close(self) -> None:
        self.disconnect()
        self._administer(sql.SQL("DROP SCHEMA {} CASCADE").format(self._schema))

    def _administer(self, statement: sql.Composed) -> None:
        connection = psycopg2.connect(self._dsn)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()


class _EngineCursor(Cursor, Protocol):
    def control(self, statement: LiteralString) -> None:
        """BEGIN, COMMIT and ROLLBACK."""
        ...

    def finish(self) -> None:
        """Run what waits for the next statement."""
        ...


class _Connection:
    """A ``super_app.db.Transaction`` on one connection."""

    def __init__(self, cursor: _EngineCursor, begin: LiteralString, *, rerun: bool) -> None:
        self._cursor = cursor
        self._begin: LiteralString = begin
        self._rerun = rerun

    def __call__(self, work: UnitOfWork[T]) -> T:
        if not self._rerun:
            return self._run(work, "COMMIT")
        first = self._run(work, "ROLLBACK")
        second = self._run(work, "COMMIT")
        assert first == second, "a unit of work gave another answer when it ran again: are all its inputs arguments?"
        return second

    def _run(self, work: Callable[[Cursor], T], end: LiteralString) -> T:
        self._cursor.control(self._begin)
        try:
            answer = work(self._cursor)
            self._cursor.finish()
        except BaseException:
            self._cursor.control("ROLLBACK")
            raise
        self._cursor.control(end)
        return answer


class _SqliteCursor:
    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor

    @property
    def engine(self) -> Engine:
        return Engine.SQLITE

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    def control(self, statement: LiteralString) -> None:
        self._cursor.execute(statement)

    def finish(self) -> None:
        """Nothing waits."""

    def execute(self, sql: LiteralString, parameters: Sequence[SqlValue] = ()) -> None:
        self._cursor.execute(sql, parameters)

    def execute_many(self, sql: LiteralString, rows: Iterable[Sequence[SqlValue]]) -> None:
        self._cursor.executemany(sql, rows)

    def execute_values(self, sql: LiteralString, rows: Sequence[Sequence[SqlValue]]) -> list[Row]:
        if not rows:
            return []
        self._cursor.execute(_spell(sql, rows), [value for row in rows for value in row])
        return self.fetchall() if self._cursor.description is not None else []

    def fetchone(self) -> Row | None:
        return cast(Row | None, self._cursor.fetchone())

    def fetchall(self) -> list[Row]:
        return cast(list[Row], self._cursor.fetchall())


class _PostgresCursor:
    """Lets statements wait for one another as the homeserver's cursor does."""

    def __init__(self, cursor: psycopg2.extensions.cursor) -> None:
        self._cursor = cursor
        self._waiting = Together()

    @property
    def engine(self) -> Engine:
        return Engine.POSTGRESQL

    @property
    def rowcount(self) -> int:
        self.finish()
        return self._cursor.rowcount

    def control(self, statement: LiteralString) -> None:
        self._waiting.take()
        self._cursor.execute(statement)

    def execute(self, sql: LiteralString, parameters: Sequence[SqlValue] = ()) -> None:
        self._waiting.add(sql, parameters)

    def execute_many(self, sql: LiteralString, rows: Iterable[Sequence[SqlValue]]) -> None:
        self.finish()
        self._cursor.executemany(sql.replace("?", "%s"), [tuple(row) for row in rows])

    def execute_values(self, sql: LiteralString, rows: Sequence[Sequence[SqlValue]]) -> list[Row]:
        if not rows:
            return []
        self._waiting.add(_spell(sql, rows), [value for row in rows for value in row])
        self.finish()
        return self.fetchall() if self._cursor.description is not None else []

    def fetchone(self) -> Row | None:
        self.finish()
        return cast(Row | None, self._cursor.fetchone())

    def fetchall(self) -> list[Row]:
        self.finish()
        return cast(list[Any], self._cursor.fetchall())

    def finish(self) -> None:
        waiting = self._waiting.take()
        if waiting is not None:
            statement, parameters = waiting
            # As Synapse does it.
            self._cursor.execute(statement.replace("?", "%s"), parameters)


def _spell(statement: str, rows: Sequence[Sequence[SqlValue]]) -> str:
    assert statement.count("VALUES ?") == 1, "execute_values replaces the one VALUES ? of a statement"
    one_row = "(" + ", ".join("?" * len(rows[0])) + ")"
    return statement.replace("VALUES ?", "VALUES " + ", ".join([one_row] * len(rows)))
