"""The shape of what operators do with money: one unit of work, of the writer if it writes, else of the database."""

from collections.abc import Callable
from typing import LiteralString, TypeVar

from super_app.db import Cursor
from synapse_super_app.ledger.writer import LedgerWriter
from synapse_super_app.runtime import Runtime

T = TypeVar("T")


class OperatorRoutes:
    def __init__(self, runtime: Runtime, writer: LedgerWriter) -> None:
        self._runtime = runtime
        self._writer = writer

    async def _read(self, name: str, work: Callable[[Cursor], T]) -> T:
        return await self._runtime.database.run(name, work)

    async def _write(self, name: LiteralString, work: Callable[[Cursor, int], T]) -> T:
        """What ``work`` gives, which gets the time of the request; it may run several times, always with that one."""
        now_ms = self._runtime.now_ms()
        return await self._writer.run(name, lambda cur: work(cur, now_ms))
