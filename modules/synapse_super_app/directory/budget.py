"""How often somebody may ask: token buckets, one a person or server.

In memory they forget at a restart and each process has its own, which is good enough against floods. Guesses at names
are counted in the database where the homeserver has several processes, so that asking at each of them gains nothing.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

from super_app.db import Cursor
from super_app.directory import guess_store
from super_app.directory.guess_store import Allowance
from super_app.errors import Reason, Refused
from synapse_super_app.runtime import Runtime

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
        return _refusal(max(1, int((1 - bucket.tokens) * self._every_ms)))


def _refusal(wait_ms: int) -> Refused:
    return Refused(
        reason=Reason.TOO_MANY_REQUESTS,
        message=f"Too many questions about people in a short time; try again in {-(-wait_ms // 1000)} s.",
        fields={"retry_after_ms": wait_ms},
    )


class Guesses:
    """What those are told who asked for too many people who are not there: what they may know anyway, and nothing else.

    A miss that is refused while a hit is answered would be an answer, so both are refused alike. ``each`` is what
    everyone may ask; ``everybody`` is spent by all together, so that many who guess in turns get no further than a few.
    """

    def __init__(self, runtime: Runtime, *, each: Allowance, everybody: Allowance | None = None) -> None:
        self._runtime = runtime
        self._each = each
        self._everybody = everybody
        self._alone = None if runtime.private.has_workers else _in_memory(each, everybody)

    async def judge(self, key: str, now_ms: int, *, found: bool, known_anyway: bool) -> Refused | None:
        """The refusal for one question, whose answer is known to us. ``known_anyway``: public, or met in a room."""
        if found and known_anyway:
            return None
        if self._alone is None:
            return _refusal_of(
                await self._runtime.database.run("guess", partial(self._take, key=key, now_ms=now_ms, missed=not found))
            )
        refused = await self.spent(key, now_ms)
        if refused is None and not found:
            for budget, whose in self._alone:
                budget.take(whose or key, now_ms)
        return refused

    async def spent(self, key: str, now_ms: int) -> Refused | None:
        """The refusal that a miss would get now; spends nothing."""
        if self._alone is None:
            waiting = partial(self._wait_ms, key=key, now_ms=now_ms)
            return _refusal_of(await self._runtime.database.run("guesses_left", waiting))
        refusals = (budget.spent(whose or key, now_ms) for budget, whose in self._alone)
        return next((refused for refused in refusals if refused is not None), None)

    def _take(self, cur: Cursor, *, key: str, now_ms: int, missed: bool) -> int:
        # What is refused costs nobody anything; of those who come at the very same moment one may pay all the same.
        return self._wait_ms(cur, key=key, now_ms=now_ms) or max(
            guess_store.take(cur, allowance, whose, now_ms, missed=missed) for allowance, whose in self._kept(key)
        )

    def _wait_ms(self, cur: Cursor, *, key: str, now_ms: int) -> int:
        return max(guess_store.wait_ms(cur, allowance, whose, now_ms) for allowance, whose in self._kept(key))

    def _kept(self, key: str) -> list[tuple[Allowance, str]]:
        kept = [(self._each, key)]
        return kept if self._everybody is None else [*kept, (self._everybody, _EVERYBODY)]


def _in_memory(each: Allowance, everybody: Allowance | None) -> list[tuple[Budget, str | None]]:
    """The budgets of one process, and whose name they are kept under; None for that of who asks."""
    kept: list[tuple[Budget, str | None]] = [(Budget(burst=each.burst, every_ms=each.every_ms), None)]
    if everybody is not None:
        kept.append((Budget(burst=everybody.burst, every_ms=everybody.every_ms), _EVERYBODY))
    return kept


def _refusal_of(wait_ms: int) -> Refused | None:
    return _refusal(wait_ms) if wait_ms else None
