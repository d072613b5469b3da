"""Asks other homeservers how long calls were, beside the meter: whoever does not answer delays nobody else's call.

Each homeserver is asked for one call at a time, and for none for a while after it gave no answer. What waits here is
asked for again by the meter, so a restart loses nothing.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from super_app.fares.model import Fare, FareKey
from super_app.ids import ServerName, server_of
from synapse_super_app.runtime import Runtime

_PAUSE_MS: Final = 30_000


class Asking:
    def __init__(self, runtime: Runtime, ask: Callable[[Fare], Awaitable[bool]]) -> None:
        """``ask`` says whether the homeserver answered."""
        self._runtime = runtime
        self._ask = ask
        self._waiting: dict[ServerName, dict[FareKey, Fare]] = {}
        self._again_ms: dict[ServerName, int] = {}

    def soon(self, fare: Fare) -> None:
        server, now_ms = server_of(fare.callee), self._runtime.now_ms()
        waiting = self._waiting.get(server)
        if waiting is not None:
            waiting[fare.key] = fare
        elif now_ms >= self._again_ms.get(server, 0):
            self._waiting[server] = {fare.key: fare}
            self._runtime.api.run_as_background_process("superapp_fares_ask", self._ask_all, server)

    async def _ask_all(self, server: ServerName) -> None:
        waiting = self._waiting[server]
        try:
            while waiting:
                key, fare = next(iter(waiting.items()))
                if not await self._ask(fare):
                    self._pause(server)
                    return
                del waiting[key]
        finally:
            del self._waiting[server]

    def _pause(self, server: ServerName) -> None:
        now_ms = self._runtime.now_ms()
        self._again_ms = {each: at_ms for each, at_ms in self._again_ms.items() if at_ms > now_ms}
        self._again_ms[server] = now_ms + _PAUSE_MS
