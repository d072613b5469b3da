"""What the domain asks of a database, and how its tables come to be.

A store function takes a ``Cursor``, writes SQL with ``?`` placeholders that runs on SQLite (3.37 or later, for STRICT
tables) and PostgreSQL (13 or later), and returns model values. A transaction function may run up to five times, so it
does no I/O besides the cursor, and takes times, ids and random values as arguments.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import LiteralString, Protocol, TypeVar

__all__ = ["Cursor", "Engine", "Row", "SqlValue", "Transaction", "UnitOfWork"]

SqlValue = str | int | None
"""What we store: text and integers. Hashes and keys are base64 text, times are milliseconds, booleans 0 and 1."""
Row = tuple[SqlValue, ...]

T_co = TypeVar("T_co", covariant=True)


class Engine(StrEnum):
    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


class Cursor(Protocol):
    """A cursor inside a transaction: READ COMMITTED on PostgreSQL, BEGIN IMMEDIATE on SQLite."""

    @property
    def engine(self) -> Engine: ...

    @property
    def rowcount(self) -> int:
        """Rows that the last statement inserted, updated or deleted; the result of a compare-and-set."""
        ...

    def execute(self, sql: LiteralString, parameters: Sequence[SqlValue] = ()) -> None: ...

    def execute_many(self, sql: LiteralString, rows: Iterable[Sequence[SqlValue]]) -> None: ...

    def execute_values(self, sql: LiteralString, rows: Sequence[Sequence[SqlValue]]) -> list[Row]:
        """Run one statement over all rows: ``sql`` contains ``VALUES ?`` once. Returns what it RETURNs, if anything."""
        ...

    def fetchone(self) -> Row | None: ...

    def fetchall(self) -> list[Row]: ...


UnitOfWork = Callable[[Cursor], T_co]


class Transaction(Protocol):
    """Opens transactions without an event loop: what tests and the simulator stand on."""

    def __call__(self, work: UnitOfWork[T_co]) -> T_co: ...
