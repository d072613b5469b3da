"""Asking realms, this homeserver among them, and waiting for as many answers as it takes."""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic
from typing import Any, Final, TypeVar

from synapse.module_api import make_deferred_yieldable, run_in_background
from twisted.internet.defer import Deferred

from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from super_app.names import ERRCODE_PREFIX, RECOVERY_PATH
from synapse_super_app.private_api import PutFailed, outside_log_context
from synapse_super_app.recovery.bodies import What
from synapse_super_app.runtime import Runtime

T = TypeVar("T")

Answer = Mapping[str, Any] | Refused
Here = Callable[[ServerName, str, Mapping[str, Any]], Awaitable[Answer]]
_TIMEOUT_MS: Final = {What.ABOUT: 5_000, What.WITNESS: 5_000, What.RECALL: 5_000}
_OTHER_TIMEOUT_MS: Final = 15_000
"""A realm itself waits for others before it answers a guess."""
_LATE_S: Final = 0.25
"""Whoever has not answered by then is not waited for alone."""
_TIMED: Final = (What.BEGIN, What.GUESS)


class Peers:
    """``here`` answers for this homeserver, without the network."""

    def __init__(self, runtime: Runtime, here: Here) -> None:
        self._runtime = runtime
        self._here = here
        self._took_s: dict[ServerName, float] = {}
        """How long the last answer to a guess took each one; endless while there is none, and after a failure."""

    async def ask(self, realm: ServerName, what: What, body: Mapping[str, Any]) -> Answer:
        """What a realm answers; PEER_UNREACHABLE if nothing of ours."""
        own = self._runtime.server_name
        if realm == own:
            return await self._here(own, what.value, body)
        timeout_ms = _TIMEOUT_MS.get(what, _OTHER_TIMEOUT_MS)
        began_s = monotonic()
        if what in _TIMED:
            self._took_s[realm] = math.inf
        try:
            answered = await self._runtime.private.put(realm, f"{RECOVERY_PATH}/{what.value}", body, timeout_ms)
        except PutFailed as failed:
            return _refusal(realm, failed)
        if what in _TIMED:
            self._took_s[realm] = monotonic() - began_s
        return answered

    async def first(
        self, realms: Sequence[ServerName], wanted: int, ask: Callable[[ServerName], Awaitable[T | None]]
    ) -> dict[ServerName, T]:
        """What ``wanted`` of them say, or fewer where no more can. ``ask`` gives None for one that says nothing.

        So many are asked as it takes, the quickest, and the others once one of these fails or is late: at one machine
        it is the asking that takes the time. ``ask`` must not raise.
        """
        found: dict[ServerName, T] = {}
        ended, is_late, bell = 0, False, _Bell()

        async def one(realm: ServerName) -> None:
            nonlocal ended
            answer = await ask(realm)
            ended += 1
            if answer is not None:
                found[realm] = answer
            bell.ring()

        async def wait() -> None:
            nonlocal is_late
            await self._runtime.api.sleep(_LATE_S)
            is_late = True
            bell.ring()

        ordered, started = self._quickest_first(realms), 0
        run_in_background(wait)
        while True:
            until_now = len(ordered) if is_late or ended > len(found) else min(wanted, len(ordered))
            # Our own one last: its work goes on while the network is waited for.
            for realm in sorted(ordered[started:until_now], key=lambda each: each == self._runtime.server_name):
                run_in_background(one, realm)
            started = max(started, until_now)
            if len(found) >= wanted or ended == len(ordered):
                return dict(found)
            await bell.rung()

    def _quickest_first(self, realms: Sequence[ServerName]) -> list[ServerName]:
        """Our own one, which needs no network, and then those that have been answering quickly."""
        own = self._runtime.server_name
        return sorted(realms, key=lambda realm: -1.0 if realm == own else self._took_s.get(realm, 0.0))


class _Bell:
    """Wakes one who waits for it, or who will."""

    def __init__(self) -> None:
        self._has_rung = False
        self._waiter: Deferred[None] | None = None

    def ring(self) -> None:
        self._has_rung = True
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            with outside_log_context():
                waiter.callback(None)

    async def rung(self) -> None:
        if not self._has_rung:
            self._waiter = Deferred()
            await make_deferred_yieldable(self._waiter)
        self._has_rung = False


def _refusal(realm: ServerName, failed: PutFailed) -> Refused:
    name = (failed.errcode or "").removeprefix(ERRCODE_PREFIX)
    if failed.errcode is not None and failed.errcode != name and name in Reason.__members__:
        fields = {key: value for key, value in failed.answer.items() if key not in ("errcode", "error")}
        return Refused(reason=Reason[name], message=str(failed.answer.get("error", ""))[:500], fields=fields)
    return Refused(
        reason=Reason.PEER_UNREACHABLE, message=f"{realm} does not answer as a realm of recovery; try again later."
    )


async def until(jobs: Sequence[Callable[[], Awaitable[T]]], enough: Callable[[Sequence[T]], bool]) -> list[T]:
    """Run all at once; what is there as soon as it is enough, or all have ended. The others go on by themselves.

    A job must not raise.
    """
    found: list[T] = []
    left = len(jobs)
    waiter: Deferred[None] = Deferred()

    def ended(result: T) -> None:
        nonlocal left
        left -= 1
        if waiter.called:
            return
        found.append(result)
        if left == 0 or enough(found):
            with outside_log_context():
                waiter.callback(None)

    for job in jobs:
        run_in_background(job).addCallback(ended)
    if jobs:
        await make_deferred_yieldable(waiter)
    return list(found)
