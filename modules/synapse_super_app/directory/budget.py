"""How often somebody may ask: token buckets, one a person or server.

In memory they forget at a restart and each process has its own, which is good enough against floods. Guesses at names
are counted in the database where the homeserver has several processes, so that asking at each of them gains nothing.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from super_app.db import Cursor
from super_app.directory import guess_shares, guess_store
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

    def left(self, key: str, now_ms: int) -> float:
        return self._filled(key, now_ms).tokens

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


class SharedBudget:
    """One budget of all, of which who took much of late leaves most to the others (``guess_shares``)."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._all = Budget(burst=allowance.burst, every_ms=allowance.every_ms)
        self._taken: dict[str, int] = {}
        """When what each took will have faded to one."""

    def take(self, key: str, now_ms: int) -> None:
        """Spend one, where ``spent`` gave no refusal."""
        self._all.take(_EVERYBODY, now_ms)
        if key not in self._taken and len(self._taken) >= _MAX_KEYS:
            # Those who took least lose nothing by it.
            by_amount = sorted(self._taken.items(), key=lambda each: each[1])
            self._taken = dict(by_amount[len(by_amount) // 2 :])
        self._taken[key] = guess_shares.after_one_more(self._taken.get(key), now_ms)

    def spent(self, key: str, now_ms: int) -> Refused | None:
        """The refusal that somebody gets now; spends nothing."""
        taken = guess_shares.taken(self._taken.get(key), now_ms)
        kept_back = guess_shares.kept_back(self._allowance.burst, taken)
        missing = 1 + kept_back - self._all.left(_EVERYBODY, now_ms)
        return _refusal(max(1, int(missing * self._allowance.every_ms))) if missing > 0 else None


class Guesses:
    """What those are told who asked for too many people who are not there: what they may know anyway, and nothing else.

    A miss that is refused while a hit is answered would be an answer, so both are refused alike. ``each`` is what
    everyone may ask; ``everybody`` is spent by all together but those who are ``trusted``, so that many who guess in
    turns get no further than a few.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        each: Allowance,
        everybody: Allowance | None = None,
        trusted: Collection[str] = (),
    ) -> None:
        self._runtime = runtime
        self._each = each
        self._everybody = everybody
        self._trusted = frozenset(trusted)
        self._in_memory = not runtime.private.has_workers
        self._budget = Budget(burst=each.burst, every_ms=each.every_ms)
        self._shared = None if everybody is None else SharedBudget(everybody)

    async def judge(self, key: str, now_ms: int, *, found: bool, known_anyway: bool) -> Refused | None:
        """The refusal for one question, whose answer is known to us. ``known_anyway``: public, or met in a room."""
        if found and known_anyway:
            return None
        if not self._in_memory:
            return _refusal_of(
                await self._runtime.database.run("guess", partial(self._take, key=key, now_ms=now_ms, missed=not found))
            )
        refused = await self.spent(key, now_ms)
        if refused is None and not found:
            self._budget.take(key, now_ms)
            if self._shared is not None and key not in self._trusted:
                self._shared.take(key, now_ms)
        return refused

    async def spent(self, key: str, now_ms: int) -> Refused | None:
        """The refusal that a miss would get now; spends nothing."""
        if not self._in_memory:
            waiting = partial(self._wait_ms, key=key, now_ms=now_ms)
            return _refusal_of(await self._runtime.database.run("guesses_left", waiting))
        refused = self._budget.spent(key, now_ms)
        if refused is None and self._shared is not None and key not in self._trusted:
            return self._shared.spent(key, now_ms)
        return refused

    def _take(self, cur: Cursor, *, key: str, now_ms: int, missed: bool) -> int:
        # What is refused costs nobody anything; of those who come at the very same moment one may pay all the same.
        wait_ms = self._wait_ms(cur, key=key, now_ms=now_ms)
        if wait_ms:
            return wait_ms
        wait_ms = max(
            guess_store.take(cur, allowance, whose, now_ms, missed=missed)
            for allowance, whose in self._kept(cur, key, now_ms)
        )
        if self._everybody is not None and key not in self._trusted:
            # As much work for a hit as for a miss.
            kept_as = _lately(self._everybody)
            faded_ms = guess_store.until_ms(cur, kept_as, key)
            as_it_is = guess_shares.of_nobody(now_ms) if faded_ms is None else faded_ms
            counted = guess_shares.after_one_more(faded_ms, now_ms) if missed and not wait_ms else as_it_is
            guess_store.set_until(cur, kept_as, key, counted)
        return wait_ms

    def _wait_ms(self, cur: Cursor, *, key: str, now_ms: int) -> int:
        return max(guess_store.wait_ms(cur, kept, whose, now_ms) for kept, whose in self._kept(cur, key, now_ms))

    def _kept(self, cur: Cursor, key: str, now_ms: int) -> list[tuple[Allowance, str]]:
        kept = [(self._each, key)]
        if self._everybody is None or key in self._trusted:
            return kept
        taken = guess_shares.taken(guess_store.until_ms(cur, _lately(self._everybody), key), now_ms)
        kept_back = guess_shares.kept_back(self._everybody.burst, taken)
        return [*kept, (replace(self._everybody, burst=self._everybody.burst - kept_back), _EVERYBODY)]


def _lately(everybody: Allowance) -> str:
    """Under which name it is kept what each took of a budget of all."""
    return f"{everybody.name}_lately"


def _refusal_of(wait_ms: int) -> Refused | None:
    return _refusal(wait_ms) if wait_ms else None
