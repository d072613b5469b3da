"""How often somebody may do something: a window that slides, in memory, with a bound on what it remembers."""

from collections import OrderedDict, deque
from typing import Final

_KEYS_MAX: Final = 50_000


class SlidingLimit:
    """At most ``most`` of each key per window; 0 for any number. Forgets the key that was quiet longest when full."""

    def __init__(self, most: int, window_ms: int) -> None:
        self._most = most
        self._window_ms = window_ms
        self._taken: OrderedDict[str, deque[int]] = OrderedDict()

    def take(self, key: str, now_ms: int) -> int | None:
        """Count one, and None; or, if there were too many, nothing, and how many milliseconds to wait."""
        if not self._most:
            return None
        taken = self._taken.get(key)
        if taken is None:
            taken = self._taken[key] = deque()
            while len(self._taken) > _KEYS_MAX:
                self._taken.popitem(last=False)
        self._taken.move_to_end(key)
        while taken and taken[0] <= now_ms - self._window_ms:
            taken.popleft()
        if len(taken) >= self._most:
            return taken[0] + self._window_ms - now_ms
        taken.append(now_ms)
        return None
