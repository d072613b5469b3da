"""How often somebody may ask: token buckets in memory, one a person or server.

They forget at a restart and each process has its own, which is good enough against guessing and floods.
"""

from dataclasses import dataclass
from typing import Final

from super_app.errors import Reason, Refused

_MAX_KEYS: Final = 20_000


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
