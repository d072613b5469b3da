"""One at a time for each key, in this process. Between processes the database's compare and set decides."""

from collections.abc import AsyncGenerator, Hashable
from contextlib import asynccontextmanager

from synapse.module_api import make_deferred_yieldable
from twisted.internet.defer import DeferredLock

from synapse_super_app.private_api import outside_log_context


class Turns:
    """Keeps nothing of a key that nobody waits for."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, tuple[DeferredLock, int]] = {}

    @asynccontextmanager
    async def of(self, key: Hashable) -> AsyncGenerator[None]:
        lock, waiting = self._locks.get(key, (DeferredLock(), 0))
        self._locks[key] = (lock, waiting + 1)
        try:
            await make_deferred_yieldable(lock.acquire())
            try:
                yield
            finally:
                with outside_log_context():
                    lock.release()
        finally:
            _, waiting = self._locks[key]
            if waiting == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, waiting - 1)
