"""Asking realms, this homeserver among them, and waiting for as many answers as it takes."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
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


class Peers:
    """``here`` answers for this homeserver, without the network."""

    def __init__(self, runtime: Runtime, here: Here) -> None:
        self._runtime = runtime
        self._here = here

    async def ask(self, realm: ServerName, what: What, body: Mapping[str, Any]) -> Answer:
        """What a realm answers; PEER_UNREACHABLE if nothing of ours."""
        own = self._runtime.server_name
        if realm == own:
            return await self._here(own, what.value, body)
        timeout_ms = _TIMEOUT_MS.get(what, _OTHER_TIMEOUT_MS)
        try:
            return await self._runtime.private.put(realm, f"{RECOVERY_PATH}/{what.value}", body, timeout_ms)
        except PutFailed as failed:
            return _refusal(realm, failed)


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
