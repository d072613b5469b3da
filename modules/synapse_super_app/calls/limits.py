"""Limits of the whole homeserver: in memory where it is one process, in the database where it has workers."""

from super_app.calls import store
from super_app.calls.limits import SlidingLimit
from synapse_super_app.runtime import Runtime


class Limit:
    """At most ``most`` of each subject per window; 0 for any number. ``name`` tells limits apart in the database."""

    def __init__(self, runtime: Runtime, name: str, most: int, window_ms: int) -> None:
        self._runtime = runtime
        self._name = name
        self._most = most
        self._window_ms = window_ms
        self._alone = None if runtime.private.has_workers else SlidingLimit(most, window_ms)

    async def take(self, subject: str, now_ms: int) -> int | None:
        """Count one, and None; or, if there were too many, nothing, and how many milliseconds to wait."""
        if not self._most:
            return None
        if self._alone is not None:
            return self._alone.take(subject, now_ms)
        return await self._runtime.database.run(
            "calls_limit",
            lambda cur: store.take(cur, self._name, subject, most=self._most, window_ms=self._window_ms, now_ms=now_ms),
        )
