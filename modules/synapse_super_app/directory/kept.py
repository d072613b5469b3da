"""Local records that were asked for a moment ago, so that a handle that many ask for costs no transaction each.

What this process writes is seen at once. What another process of this homeserver writes is seen after a second; nothing
that moves money asks here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from super_app.directory.model import Holding
from synapse_super_app.database import Database

_FOR_MS: Final = 1_000
_MAX: Final = 20_000
_TABLES: Final = ("superapp_directory_handle", "superapp_directory_owner", "superapp_account")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRecord:
    held: Holding
    record: Mapping[str, Any]
    until_ms: int


class KeptRecords:
    """By the name as it was typed. Only what is somebody's is kept: who is not there is looked for each time."""

    def __init__(self, database: Database) -> None:
        self._kept: dict[str, KeptRecord] = {}
        self._changes = 0
        for table in _TABLES:
            database.watch(table, self._forget)

    @property
    def changes(self) -> int:
        """Give it to ``keep``: what was read before a change must not be kept after it."""
        return self._changes

    def get(self, text: str, now_ms: int) -> KeptRecord | None:
        found = self._kept.get(text)
        return found if found is not None and now_ms < found.until_ms else None

    def keep(self, text: str, held: Holding, record: Mapping[str, Any], *, changes: int, now_ms: int) -> None:
        if changes != self._changes:
            return
        if len(self._kept) >= _MAX:
            self._kept.clear()
        self._kept[text] = KeptRecord(held=held, record=record, until_ms=now_ms + _FOR_MS)

    def _forget(self) -> None:
        self._changes += 1
        self._kept.clear()
