"""Databases of the simulator: SQLite in memory, one connection each, the SQL that a homeserver would run.

``COMMIT`` is the point from which on a transaction survives a crash. A disk that *lies* answers it as if it did, and
may lose the newest of what was committed all the same, as hardware that ignores fsync does, or a replica that was
promoted before it had everything.
"""

import random
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, LiteralString, TypeVar, cast

from nodes import PACKAGES

from super_app.db import Cursor, Engine, Row, SqlValue, migrations

T = TypeVar("T")

SYNC_CHANCE: Final = 0.15
"""How often a lying disk does write what it was told to."""


class Disk:
    engine = Engine.SQLITE

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.connection.execute("PRAGMA foreign_keys = ON")
        self._cursor = connection.cursor()
        self._lies: random.Random | None = None
        self._synced: sqlite3.Connection | None = None
        self.be_calm()

    def be_calm(self) -> None:
        """Let nothing happen around transactions."""
        self.twice = False
        self.before_commit: Callable[[Cursor], None] = _nothing_before
        self.after_commit: Callable[[], None] = _nothing_after

    def lie(self, random_: random.Random) -> None:
        """From here on say that everything is written, and write some of it."""
        self._lies = random_
        self._synced = self.copy()

    def lose_tail(self) -> sqlite3.Connection | None:
        """What is there after a power cut, if that is less than was committed."""
        synced, self._synced = self._synced, None
        return synced

    def be_honest(self) -> None:
        self._lies = self._synced = None

    def __call__(self, work: Callable[[Cursor], T]) -> T:
        if self.twice:
            # A homeserver may run a transaction up to five times; only the last one counts.
            self._cursor.execute("BEGIN IMMEDIATE")
            try:
                work(self)
            finally:
                self._cursor.execute("ROLLBACK")
        self._cursor.execute("BEGIN IMMEDIATE")
        try:
            answer = work(self)
            self.before_commit(self)
        except BaseException:
            self._cursor.execute("ROLLBACK")
            raise
        self._cursor.execute("COMMIT")
        if self._lies is not None and self._lies.random() < SYNC_CHANCE:
            self._synced = self.copy()
        self.after_commit()
        return answer

    def look(self, work: Callable[[Cursor], T]) -> T:
        """Read what is committed, without a transaction."""
        return work(self)

    def copy(self) -> sqlite3.Connection:
        taken = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.backup(taken)
        return taken

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    def execute(self, sql: LiteralString, parameters: Sequence[SqlValue] = ()) -> None:
        self._cursor.execute(sql, parameters)

    def execute_many(self, sql: LiteralString, rows: Iterable[Sequence[SqlValue]]) -> None:
        self._cursor.executemany(sql, rows)

    def execute_values(self, sql: LiteralString, rows: Sequence[Sequence[SqlValue]]) -> list[Row]:
        if not rows:
            return []
        one_row = "(" + ", ".join("?" * len(rows[0])) + ")"
        self._cursor.execute(
            sql.replace("VALUES ?", "VALUES " + ", ".join([one_row] * len(rows)), 1),
            [value for row in rows for value in row],
        )
        return self.fetchall() if self._cursor.description is not None else []

    def fetchone(self) -> Row | None:
        return cast(Row | None, self._cursor.fetchone())

    def fetchall(self) -> list[Row]:
        return cast(list[Row], self._cursor.fetchall())


_empty: list[sqlite3.Connection] = []


def new_disk() -> Disk:
    """A database with all tables. They are made once and copied."""
    if not _empty:
        empty = sqlite3.connect(":memory:", isolation_level=None)
        # Most tables have few rows or none, and all of it is copied again and again.
        empty.execute("PRAGMA page_size = 512")
        made = Disk(empty)
        made(migrations.prepare)
        for package in PACKAGES:
            for migration in migrations.load(package, Engine.SQLITE):
                made(partial(migrations.apply, migration=migration))
        _empty.append(made.connection)
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    _empty[0].backup(fresh)
    return Disk(fresh)


def _nothing_before(cur: Cursor) -> None:
    pass


def _nothing_after() -> None:
    pass
