"""How much of other homeservers' feeds is kept, and how much of them is read in what time.

A feed costs who reads it: a row a handle, and the verification of each entry. Servers that the operator named have a
limit each. Those that came by themselves have one each and one together, of which none gets more than it leaves to all
others, as names of servers come cheap. Counts are upper bounds: changed records count as if they were new until the
next count.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from super_app.directory.model import DAY_MS
from super_app.ids import ServerName

COUNT_AGAIN_MS: Final = 60_000
"""Rows are counted at most this often, if it takes long to find that there is no room."""
_COUNT_ANYWAY_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Most:
    """Handles that are kept: of each server that the operator named, of each other one, and of all others together."""

    of_peer: int
    of_stranger: int
    of_strangers: int


@dataclass(slots=True)
class _Allowance:
    entries: float
    filled_ms: int


class FeedLimits:
    """What is kept of whom, as of the last count, and what each may still bring."""

    def __init__(self, most: Most, named: Collection[ServerName]) -> None:
        self._most = most
        self._named = frozenset(named)
        self._kept: dict[ServerName, int] = {}
        self._of_strangers = 0
        self._counted_ms: int | None = None
        self._allowances: dict[ServerName, _Allowance] = {}

    def is_due(self, now_ms: int, *, short: bool) -> bool:
        """Whether to count now; ``short`` if something would be left out by the last count."""
        if self._counted_ms is None:
            return True
        return now_ms - self._counted_ms >= (COUNT_AGAIN_MS if short else _COUNT_ANYWAY_MS)

    def counted(self, kept: Mapping[ServerName, int], now_ms: int) -> None:
        self._kept = dict(kept)
        self._of_strangers = sum(count for server, count in kept.items() if server not in self._named)
        self._counted_ms = now_ms

    def room(self, server: ServerName) -> int:
        """How many handles more of a server can be kept."""
        kept = self._kept.get(server, 0)
        if server in self._named:
            return max(0, self._most.of_peer - kept)
        left = self._most.of_strangers - self._of_strangers
        return max(0, min(self._most.of_stranger - kept, (left - kept) // 2))

    def add(self, server: ServerName, count: int) -> None:
        self._kept[server] = self._kept.get(server, 0) + count
        if server not in self._named:
            self._of_strangers += count

    def most_of(self, server: ServerName) -> int:
        return self._most.of_peer if server in self._named else self._most.of_stranger

    # What may be read: as many entries at once as are kept of a server, and as many again in a day.

    def entries(self, server: ServerName, now_ms: int) -> int:
        """How many entries of a server may be read now."""
        return max(0, int(self._allowance(server, now_ms).entries))

    def took(self, server: ServerName, count: int, now_ms: int) -> None:
        self._allowance(server, now_ms).entries -= count

    def forget(self, server: ServerName) -> None:
        """A server that is read no more."""
        self._allowances.pop(server, None)

    def _allowance(self, server: ServerName, now_ms: int) -> _Allowance:
        most = self.most_of(server)
        found = self._allowances.get(server)
        if found is None:
            found = self._allowances[server] = _Allowance(entries=most, filled_ms=now_ms)
        found.entries = min(most, found.entries + (now_ms - found.filled_ms) * most / DAY_MS)
        found.filled_ms = now_ms
        return found
