"""How often somebody may ask: token buckets in memory, one a person or server.

They forget at a restart and each process has its own, which is good enough against guessing and floods.
"""

from dataclasses import dataclass
from typing import Final

from super_app.errors import Reason, Refused

_MAX_KEYS: Final = 20_000
_EVERYBODY: Final = "everybody"


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_ms: int


class Budget:
    """``burst`` at once, and one more every ``every_ms``."""

    def __init__(self, *, burst: int, every_ms: int) -> None:
        self._burst = burst
        self._every_ms = every_ms
        self._buckets: dict[str, _Bucket] = {}

    def take(self, key: str, now_ms: int) -> Refused | None:
        """Spend one; a refusal that says when to come back if there is none."""
        bucket = self._filled(key, now_ms)
        if bucket.tokens < 1:
            return self._refusal(bucket)
        bucket.tokens -= 1
        return None

    def spent(self, key: str, now_ms: int) -> Refused | None:
        """The refusal that ``take`` would give now; spends nothing."""
        bucket = self._filled(key, now_ms)
        return self._refusal(bucket) if bucket.tokens < 1 else None

    def _filled(self, key: str, now_ms: int) -> _Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= _MAX_KEYS:
                self._forget_full(now_ms)
            bucket = self._buckets[key] = _Bucket(tokens=self._burst, filled_ms=now_ms)
        bucket.tokens = min(self._burst, bucket.tokens + (now_ms - bucket.filled_ms) / self._every_ms)
        bucket.filled_ms = now_ms
        return bucket

    def _forget_full(self, now_ms: int) -> None:
        """Drop what a new bucket would equal; if all are in use, drop the oldest half rather than grow."""
        full_after_ms = self._burst * self._every_ms
        kept = {key: each for key, each in self._buckets.items() if now_ms - each.filled_ms < full_after_ms}
        if len(kept) >= _MAX_KEYS:
            kept = dict(list(kept.items())[len(kept) // 2 :])
        self._buckets = kept

    def _refusal(self, bucket: _Bucket) -> Refused:
        wait_ms = max(1, int((1 - bucket.tokens) * self._every_ms))
        return Refused(
            reason=Reason.TOO_MANY_REQUESTS,
            message=f"Too many questions about people in a short time; try again in {-(-wait_ms // 1000)} s.",
            fields={"retry_after_ms": wait_ms},
        )


class Guesses:
    """What those are told who asked for too many people who are not there: what they may know anyway, and nothing else.

    A miss that is refused while a hit is answered would be an answer, so both are refused alike. ``everybody`` is spent
    by all together, so that many who guess in turns get no further than a few.
    """

    def __init__(self, *, burst: int, every_ms: int, everybody: Budget | None = None) -> None:
        self._each = Budget(burst=burst, every_ms=every_ms)
        self._everybody = everybody

    def judge(self, key: str, now_ms: int, *, found: bool, known_anyway: bool) -> Refused | None:
        """The refusal for one question, whose answer is known to us. ``known_anyway``: public, or met in a room."""
        if found and known_anyway:
            return None
        refused = self.spent(key, now_ms)
        if refused is None and not found:
            self._each.take(key, now_ms)
            if self._everybody is not None:
                self._everybody.take(_EVERYBODY, now_ms)
        return refused

    def spent(self, key: str, now_ms: int) -> Refused | None:
        """The refusal that a miss would get now; spends nothing."""
        refused = self._each.spent(key, now_ms)
        if refused is None and self._everybody is not None:
            refused = self._everybody.spent(_EVERYBODY, now_ms)
        return refused
