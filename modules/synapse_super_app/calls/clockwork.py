"""Wakes calls when time has something to do: rings that end, events owed to rooms.

The deadlines are in the database; here is only when the next one is, so nothing is asked of it while nothing rings.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from synapse.module_api import ModuleApi

logger = logging.getLogger(__name__)

Sweep = Callable[[int], Awaitable[int | None]]
"""Does what is due at a time, and says when something is due next, None for never."""

_RETRY_MS: Final = 5_000


class Clockwork:
    """One per process. What another process has put into the database it learns of at start only."""

    def __init__(self, api: ModuleApi, sweep: Sweep) -> None:
        self._api = api
        self._sweep = sweep
        self._due_ms: int | None = None
        self._timer: Any = None
        self._running = False

    def note(self, due_ms: int | None) -> None:
        """Something is due then."""
        if due_ms is None or (self._due_ms is not None and self._due_ms <= due_ms):
            return
        self._due_ms = due_ms
        if not self._running:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._due_ms is not None:
            pause_ms = max(0, self._due_ms - self._api.get_current_time_msec())
            self._timer = self._api.delayed_background_call(pause_ms, self._fire, desc="superapp_calls_clockwork")

    async def _fire(self) -> None:
        self._running = True
        self._due_ms = None
        try:
            self.note(await self._sweep(self._api.get_current_time_msec()))
        except Exception:
            logger.exception("Letting calls time out failed; it is tried again")
            self.note(self._api.get_current_time_msec() + _RETRY_MS)
        finally:
            self._running = False
            self._arm()
