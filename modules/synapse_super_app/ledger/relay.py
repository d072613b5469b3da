"""Brings what must be decided by the writer to the process that writes, from whichever process it came to.

In that process it is a plain call. From another one it is a request over Synapse's own replication listeners, under a
name that both know, with JSON both ways; refusals and errors pass through as they are. What is asked is idempotent by
its own id, so it is asked again when no answer comes: of the same process, or of the one that has taken over meanwhile.
Whoever asks waits at most ``PATIENCE_MS`` for there to be a writer.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from prometheus_client import Counter
from synapse.module_api import ModuleApi, make_deferred_yieldable, run_in_background
from synapse.module_api.errors import SynapseError
from twisted.internet.defer import Deferred

from super_app.errors import Reason, Refused
from super_app.ledger.lease import NotTheWriter
from synapse_super_app.http.refusals import error_of
from synapse_super_app.ledger.tenure import Seat, Tenure
from synapse_super_app.ledger.writer import database_is_away
from synapse_super_app.private_api import InstanceSilent, PrivateApi, outside_log_context

logger = logging.getLogger(__name__)

T = TypeVar("T")
Json = Mapping[str, Any]
Operation = Callable[[Json], Awaitable[dict[str, Any]]]
"""Takes and gives JSON. What it raises as SynapseError is raised where it was asked."""

PATIENCE_MS: Final = 30_000
_PAUSE_S: Final = 0.2
_WATCH_MS: Final = 1_000

_relayed_total = Counter(
    "superapp_ledger_relayed_total", "Requests from this process to the one that writes, by how they went.", ["outcome"]
)


class Relay:
    """One in each process."""

    def __init__(self, api: ModuleApi, private: PrivateApi, tenure: Tenure) -> None:
        self._api = api
        self._private = private
        self._tenure = tenure
        self._operations: dict[str, Operation] = {}
        private.answer_instances(self._asked)

    def serve(self, name: str, operation: Operation) -> None:
        """Answer this for processes that do not write."""
        if name in self._operations:
            raise RuntimeError(f"two parts serve {name}")
        self._operations[name] = operation

    async def at_writer(
        self, name: str, arguments: Callable[[], Json], local: Callable[[], Awaitable[T]], read: Callable[[Json], T]
    ) -> T:
        """``local()`` if this process writes, otherwise what ``name`` answers to ``arguments()`` in the one that does.

        Raises:
            SynapseError: what the operation raised; STARTING if there was no writer for ``PATIENCE_MS``.
        """
        if not self._tenure.started:
            raise _no_writer("The server is starting; try again in a moment.")
        give_up_ms: int | None = None
        while True:
            if self._tenure.holds:
                try:
                    return await local()
                except NotTheWriter:
                    logger.info("%s begins again: another process writes now", name)
            else:
                answer = await self._ask(name, arguments)
                if answer is not None:
                    return read(answer)
            now_ms = self._api.get_current_time_msec()
            give_up_ms = now_ms + PATIENCE_MS if give_up_ms is None else give_up_ms
            if now_ms >= give_up_ms:
                raise _no_writer(
                    "No process of this homeserver writes payments at the moment. Nothing is lost; try again in a "
                    "moment, under the same id."
                )
            await self._api.sleep(_PAUSE_S)

    async def _ask(self, name: str, arguments: Callable[[], Json]) -> Json | None:
        """The answer of the process that writes; None if there is none, or if it gave none."""
        try:
            seat = await self._tenure.seat()
        except Exception:
            logger.exception("Who writes the ledger could not be looked up; it is tried again")
            return None
        if seat is None or seat.holder == self._tenure.own:
            return None
        answer = await self._answer_of(seat, {"operation": name, "arguments": dict(arguments())})
        match answer:
            case {"answer": dict() as found}:
                _relayed_total.labels("answered").inc()
                return found
            case {"error": dict() as fields}:
                _relayed_total.labels("refused").inc()
                raise _error(fields)
            case {"failed": str() as what}:
                _relayed_total.labels("failed").inc()
                raise RuntimeError(f"{seat.holder} could not do {name}: {what}")
            case _:
                _relayed_total.labels("asked_again").inc()
                return None

    async def _answer_of(self, seat: Seat, request: dict[str, Any]) -> object:
        """What the process says, or None as soon as it is silent or no longer the one that writes."""
        outcome: list[object] = []
        waiting: list[Deferred[None]] = []

        def told(answer: object) -> None:
            outcome.append(answer)
            _fire(waiting)

        async def ask() -> object:
            try:
                return await self._private.ask_instance(seat.holder, request)
            except InstanceSilent as silence:
                logger.info("%s: %s; it is asked again", request["operation"], silence)
            except Exception:
                logger.exception("Asking %s for %s failed; it is asked again", seat.holder, request["operation"])
            return None

        run_in_background(ask).addBoth(told)
        while not outcome:
            waiter: Deferred[None] = Deferred()
            waiting.append(waiter)

            async def look() -> None:
                _fire(waiting)

            # zope.interface declares the methods of IDelayedCall without self.
            timer: Any = self._api.delayed_background_call(_WATCH_MS, look, desc="superapp_ledger_relay")
            await make_deferred_yieldable(waiter)
            if timer.active():
                timer.cancel()
            if not outcome and not await self._still_writes(seat) and not outcome:
                # It stopped, or was taken for stopped. It may still do what was asked, under its id and so once.
                return None
        return outcome[0]

    async def _still_writes(self, seat: Seat) -> bool:
        try:
            return await self._tenure.seat(fresh=True) == seat
        except Exception:
            # An error would tell the caller that nothing was done, and that is not known.
            logger.exception("Who writes the ledger could not be looked up; %s is waited for", seat.holder)
            return True

    async def _asked(self, request: Json) -> dict[str, Any]:
        """Another process asks."""
        name, arguments = str(request.get("operation")), request.get("arguments")
        operation = self._operations.get(name)
        if not self._tenure.holds:
            return {"elsewhere": True}
        if operation is None or not isinstance(arguments, dict):
            # Two versions run at once, in an upgrade.
            return {"failed": "unknown operation"}
        try:
            return {"answer": await operation(arguments)}
        except NotTheWriter:
            return {"elsewhere": True}
        except SynapseError as error:
            return {"error": {**error.error_dict(None), "status": error.code}}
        except Exception as error:
            logger.exception("%s, asked by another process, failed", name)
            if database_is_away(error):
                away = _no_writer(
                    "The database of this homeserver does not answer. Nothing is lost; try again in a moment, "
                    "under the same id."
                )
                return {"error": {**away.error_dict(None), "status": away.code}}
            return {"failed": type(error).__name__}


def _no_writer(message: str) -> SynapseError:
    return error_of(Refused(reason=Reason.STARTING, message=message, fields={"retry_after_ms": 2_000}))


def refused_json(refused: Refused) -> dict[str, Any]:
    """A refusal as it travels between processes."""
    return {"reason": refused.reason.value, "message": refused.message, "fields": dict(refused.fields)}


def refused_from(found: Json) -> Refused:
    return Refused(reason=Reason(found["reason"]), message=found["message"], fields=found["fields"])


def _error(fields: Json) -> SynapseError:
    more = {name: value for name, value in fields.items() if name not in ("status", "error", "errcode")}
    return SynapseError(fields["status"], fields["error"], fields["errcode"], additional_fields=more)


def _fire(waiting: "list[Deferred[None]]") -> None:
    # Whoever is woken may come to wait again at once.
    woken = waiting[:]
    waiting.clear()
    with outside_log_context():
        for waiter in woken:
            waiter.callback(None)
