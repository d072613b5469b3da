"""The gate: ``check_event_for_spam``, with a check on the type as its first line, so that chat pays nothing.

Feature handlers raise ``SynapseError`` to refuse a local sender (the code and fields reach the client verbatim) and
return NOT_SPAM otherwise. The gate runs up to five times per send, each time with a new event id, before the event
exists; and for every federated event. Among these are events of our own people that come back, when another homeserver
refers to one that this process does not have yet or, after a restore, any more: they were decided when they were made,
and an error would make Synapse drop what refers to them. It fails closed for local senders of our types: an unexpected
error there is a 500 and nothing moves. It fails open for remote senders: their event is in the room's history whatever
we think of it, an error would only tear a hole into ours, and no event moves money without a hold that this server
placed.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from synapse.module_api import NOT_SPAM, ModuleApi
from synapse.module_api.errors import Codes, SynapseError

from super_app.errors import Reason, Refused
from super_app.names import NAMESPACE
from synapse_super_app.http.refusals import errcode_of, error_of
from synapse_super_app.private_api import span
from synapse_super_app.rollout import Rollout, not_rolled_out

if TYPE_CHECKING:
    from synapse.module_api import EventBase

logger = logging.getLogger(__name__)

Verdict = str | Codes
"""``NOT_SPAM``, or for a remote ring that screening hides, ``Codes.FORBIDDEN``."""
GateHandler = Callable[["EventBase"], Awaitable[Verdict]]


class Gate:
    """Routes events of registered types to their feature. All others leave at the first line."""

    def __init__(self, api: ModuleApi, rollout: Rollout, came_over_federation: Callable[["EventBase"], bool]) -> None:
        self._rollout = rollout
        self._came_over_federation = came_over_federation
        self._handlers: dict[str, GateHandler] = {}
        self._open = False
        self._ready = False
        self._api = api

    def register(self, handlers: Mapping[str, GateHandler]) -> None:
        """Add handlers; the callback itself is registered with Synapse once there is one."""
        twice = self._handlers.keys() & handlers.keys()
        if twice:
            raise RuntimeError(f"two features gate {sorted(twice)}")
        self._handlers.update(handlers)
        if not self._open:
            self._open = True
            self._api.register_spam_checker_callbacks(check_event_for_spam=self.check_event_for_spam)

    def open(self) -> None:
        """The tables exist; until now local senders of our types were told to wait, and stock events just passed."""
        self._ready = True

    async def check_event_for_spam(self, event: "EventBase") -> Verdict:
        handler = self._handlers.get(event.type)
        if handler is None:
            return NOT_SPAM
        is_ours = self._api.is_mine(event.sender)
        if is_ours and self._came_over_federation(event):
            return NOT_SPAM
        if not self._ready:
            if not event.type.startswith(NAMESPACE) or not is_ours:
                return NOT_SPAM
            raise error_of(Refused(reason=Reason.STARTING, message="The server is starting; try again in a moment."))
        if is_ours:
            if event.type.startswith(NAMESPACE) and not self._rollout.includes(event.sender):
                raise error_of(not_rolled_out())
            return await self._decide(handler, event)
        try:
            return await self._decide(handler, event)
        except Exception:
            logger.exception("The gate failed on the remote event %s (%s); it passes", event.event_id, event.type)
            return NOT_SPAM

    async def _decide(self, handler: GateHandler, event: "EventBase") -> Verdict:
        """What the handler says; in a dry run its no is written down, and the event passes.

        What only homeservers say is refused from people in a dry run too: a forged receipt would stand in the room.
        """
        with span("gate", type=event.type):
            return await self._decide_traced(handler, event)

    async def _decide_traced(self, handler: GateHandler, event: "EventBase") -> Verdict:
        if not self._rollout.dry_run:
            return await handler(event)
        try:
            verdict = await handler(event)
        except SynapseError as error:
            if error.errcode == errcode_of(Reason.SERVER_ONLY):
                raise
            self._rollout.would_refuse(event.type, error.errcode, event.event_id)
            return NOT_SPAM
        if verdict != NOT_SPAM:
            self._rollout.would_refuse(event.type, str(verdict), event.event_id)
        return NOT_SPAM
