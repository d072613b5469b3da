"""What callees have seen lately, in memory: a decision must not wait for the database.

Loaded when somebody is first rung, and kept as rings are decided. Where several processes decide, each asks the
database anew, since none of them sees what the others showed.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any, Final

from super_app.calls import service
from super_app.calls.model import Recent, RecentRing
from super_app.ids import Acct, UserId
from synapse_super_app.database import Database

_PEOPLE_MAX: Final = 20_000
_SHOWN_MAX: Final = 1_000
_SCREENED_MAX: Final = 100
_LOADED_MS: Final = 3_600_000
"""What was loaded is read anew after this time, whatever happened."""


Mirrors = tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]


class _Past:
    """One callee's. ``mirrors``: account data that change with contacts and blocks; other objects, other people."""

    def __init__(self, recent: Recent, *, since_ms: int, loaded_ms: int, mirrors: Mirrors) -> None:
        rings = sorted(recent.rings, key=lambda each: each.ring_ms)
        # Apart, so that a flood of screened rings does not make us forget how many were shown.
        self.shown = deque((each for each in rings if each.shown), maxlen=_SHOWN_MAX)
        self.screened = deque((each for each in rings if not each.shown), maxlen=_SCREENED_MAX)
        self.known = recent.known
        self.contacts = recent.contacts
        self.blocked = recent.blocked
        self.since_ms = since_ms
        self.loaded_ms = loaded_ms
        self.mirrors = mirrors

    def add(self, ring: RecentRing) -> None:
        (self.shown if ring.shown else self.screened).append(ring)

    def rings(self, since_ms: int) -> tuple[RecentRing, ...]:
        while self.shown and self.shown[0].ring_ms <= since_ms:
            self.shown.popleft()
        return (*self.shown, *self.screened)


class RecentBook:
    def __init__(self, database: Database, *, is_alone: bool) -> None:
        self._database = database
        self._is_alone = is_alone
        self._pasts: OrderedDict[Acct, _Past] = OrderedDict()

    async def of(self, owner: Acct, since_ms: int, now_ms: int, mirrors: Mirrors) -> Recent:
        """A callee's past since a time at least."""
        past = self._pasts.get(owner)
        if past is None or not self._is_true(past, since_ms, now_ms, mirrors):
            loaded = await self._database.run("calls_recent", lambda cur: service.recent(cur, owner, since_ms))
            before = self._pasts.get(owner)
            past = _Past(loaded, since_ms=since_ms, loaded_ms=now_ms, mirrors=mirrors)
            if before is not None:
                # What was decided while this was read, or just before, is in memory alone.
                found = set(loaded.rings)
                for each in before.rings(since_ms):
                    if each not in found:
                        past.add(each)
                past.known |= before.known
            self._pasts[owner] = past
            while len(self._pasts) > _PEOPLE_MAX:
                self._pasts.popitem(last=False)
        self._pasts.move_to_end(owner)
        return Recent(rings=past.rings(since_ms), known=past.known, contacts=past.contacts, blocked=past.blocked)

    async def shown_since(self, owner: Acct, caller: UserId, since_ms: int) -> int:
        """How many rings of a caller somebody was shown since a time, by the records."""
        return await self._database.run(
            "calls_shown_since", lambda cur: service.shown_since(cur, owner, caller, since_ms)
        )

    def note(self, owner: Acct, ring: RecentRing) -> None:
        """A ring was just decided."""
        past = self._pasts.get(owner)
        if past is not None:
            past.add(ring)

    def take_back(self, owner: Acct, ring: RecentRing) -> None:
        """It was no ring of its own after all, but another event of a call that had rung."""
        past = self._pasts.get(owner)
        rings = () if past is None else past.shown if ring.shown else past.screened
        if isinstance(rings, deque) and ring in rings:
            rings.remove(ring)

    def met(self, owner: Acct, peer: UserId) -> None:
        """They talk, or the owner rings."""
        past = self._pasts.get(owner)
        if past is not None:
            past.known |= {peer}

    def forget(self, owner: Acct) -> None:
        self._pasts.pop(owner, None)

    def _is_true(self, past: _Past, since_ms: int, now_ms: int, mirrors: Mirrors) -> bool:
        return (
            self._is_alone
            and all(known is now for known, now in zip(past.mirrors, mirrors, strict=True))
            and past.since_ms <= since_ms
            and now_ms - past.loaded_ms < _LOADED_MS
        )
