"""Calls at the gate: forgeries are refused, and in direct rooms rings are screened before they exist.

A local caller who is screened gets the polite refusal as the answer to the request. A ring of another homeserver is
hidden: the gate's no soft-fails it, so that no client of ours sees it; what it was is pruned, so its record is written
here. Stock events (``m.call.*``, MatrixRTC) pass whenever something of ours fails: calls without screening are better
than none.
"""

import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from synapse.module_api import NOT_SPAM, EventBase
from synapse.module_api.errors import Codes, SynapseError

from super_app.calls import events, rules, service
from super_app.calls.events import RoomEvent
from super_app.calls.model import (
    MAX_LIFETIME_MS,
    SCREENED_RECORDS_MAX,
    SCREENED_RECORDS_WINDOW_MS,
    Local,
    Offer,
    Ring,
    Room,
    Rule,
)
from super_app.calls.service import Verdict
from super_app.errors import Reason, Refused
from super_app.ids import UserId, server_of
from super_app.names import ERRCODE_PREFIX, NAMESPACE, EventType
from synapse_super_app.calls import metrics
from synapse_super_app.calls.clockwork import Clockwork
from synapse_super_app.calls.limits import Limit
from synapse_super_app.calls.room_events import room_event
from synapse_super_app.calls.rooms import Rooms
from synapse_super_app.calls.screening import Judged, Screening
from synapse_super_app.calls.sender import Sender
from synapse_super_app.calls.silences import Silences
from synapse_super_app.gate import GateHandler
from synapse_super_app.gate import Verdict as GateVerdict
from synapse_super_app.http.refusals import error_of
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_REFUSAL_MIN_MS: Final = 800
_REFUSAL_MAX_MS: Final = 2_500
"""A refusal comes after a pause as of a person who looks at the phone, so its timing tells nothing of the rule."""
_SAME_RING_MS: Final = 10_000
"""Rings without a name of their own, of one caller in one room within this time, are counted as one."""


_NEVER_STATE: Final = events.SERVER_TYPES | {EventType.CALL_RING.value}


class CallsGate:
    def __init__(
        self,
        runtime: Runtime,
        *,
        rooms: Rooms,
        screening: Screening,
        sender: Sender,
        clockwork: Clockwork,
        silences: Silences,
    ) -> None:
        self._runtime = runtime
        self._rooms = rooms
        self._screening = screening
        self._sender = sender
        self._clockwork = clockwork
        self._silences = silences
        limits = runtime.config.calls.limits
        self._of_person = Limit(runtime, "rings", limits.rings, limits.window)
        self._of_server = Limit(runtime, "server_rings", limits.server_rings, limits.window)
        self._counted = Limit(runtime, "counted", 1, MAX_LIFETIME_MS)
        self._screened = Limit(runtime, "screened", SCREENED_RECORDS_MAX, SCREENED_RECORDS_WINDOW_MS)

    def handlers(self) -> Mapping[str, GateHandler]:
        """By event type. Those of mere signals only make the follower look at once."""
        quick = dict.fromkeys(events.SIGNAL_TYPES - events.SERVER_TYPES, self._on_signal)
        rings: dict[str, GateHandler] = dict.fromkeys(events.RING_TYPES, self._on_ring)
        return {**quick, **rings, **dict.fromkeys(events.SERVER_TYPES, self._on_server_event)}

    async def _on_signal(self, event: EventBase) -> GateVerdict:
        self._runtime.follower.expect()
        return NOT_SPAM

    async def _on_server_event(self, event: EventBase) -> GateVerdict:
        if self._runtime.api.is_mine(event.sender):
            self._refuse_other_forms(event)
            if not self._sender.is_ours(event):
                raise error_of(
                    Refused(
                        reason=Reason.SERVER_ONLY,
                        message=f"Only homeservers send {event.type}; this one does it for you when the call does.",
                    )
                )
        self._runtime.follower.expect()
        return NOT_SPAM

    async def _on_ring(self, event: EventBase) -> GateVerdict:
        is_ours = event.type.startswith(NAMESPACE)
        try:
            if is_ours and self._runtime.api.is_mine(event.sender):
                self._refuse_other_forms(event)
            return await self._ring(room_event(event, self._runtime.now_ms()))
        except Exception as error:
            if is_ours or is_refusal(error):
                raise
            logger.exception("Screening %s (%s) failed; it passes", event.event_id, event.type)
            return NOT_SPAM

    def _refuse_other_forms(self, event: EventBase) -> None:
        private = self._runtime.private
        if event.is_state() or private.is_sticky(event) or private.is_delayed(event):
            raise error_of(_not_a_message(event.type))

    async def may_create_room(self, user_id: str, room_config: dict[str, Any]) -> Literal["NOT_SPAM"] | Codes:
        """The initial state of a room passes no gate, so our message types are refused here."""
        initial_state = room_config.get("initial_state")
        for event in initial_state if isinstance(initial_state, list) else []:
            event_type = event.get("type") if isinstance(event, dict) else None
            if isinstance(event_type, str) and event_type in _NEVER_STATE:
                raise error_of(_not_a_message(event_type))
        return NOT_SPAM

    async def may_send_state_event(
        self, user_id: str, room_id: str, event_type: str, state_key: str, content: dict[str, Any]
    ) -> Literal["NOT_SPAM"] | Codes:
        """A delayed state event is refused when it is scheduled; the gate would refuse it only when it is due."""
        if event_type in _NEVER_STATE:
            raise error_of(_not_a_message(event_type))
        return NOT_SPAM

    async def _ring(self, event: RoomEvent) -> GateVerdict:
        began = time.perf_counter()
        is_local = self._runtime.api.is_mine(event.sender)
        ring = events.read_ring(event)
        if isinstance(ring, Refused) and is_local:
            raise error_of(ring)
        if ring is None or isinstance(ring, Refused):
            return NOT_SPAM
        self._runtime.follower.expect()
        room = await self._rooms.of(ring)
        rung = rules.rung(ring, room)
        if is_local and event.event_type == EventType.CALL_RING and not rung and (room.is_complete or ring.callees):
            raise error_of(
                Refused(
                    reason=Reason.INVALID_VALUE,
                    message="There is nobody to ring: callee must be another member who has joined this room.",
                )
            )
        if not rung or ring.caller not in room.joined:
            # Who is not here Synapse turns away.
            return NOT_SPAM
        if is_local:
            await self._count_for(ring)
            refused = await self._screening.judge_price(ring, next(iter(rung))) if room.is_direct else None
            if refused is not None:
                raise error_of(refused)
        return await self.screen(ring, room, rung, has_age=event.age_ts is not None, began=began)

    async def _count_for(self, ring: Ring) -> None:
        """A person here rings only so often. What is sent again, or in another protocol, is the same ring."""
        now_ms = self._runtime.now_ms()
        name = f"{ring.room_id} {ring.caller} {ring.call_id or ring.reference or now_ms // _SAME_RING_MS}"
        if await self._counted.take(name, now_ms) is not None:
            return
        wait_ms = await self._of_person.take(ring.caller, now_ms)
        if wait_ms is not None:
            raise error_of(
                Refused(
                    reason=Reason.TOO_MANY_REQUESTS,
                    message="You have rung very often in a short time; wait a while before you ring again.",
                    fields={"retry_after_ms": wait_ms},
                )
            )

    async def screen(
        self, ring: Ring, room: Room, rung: frozenset[UserId], *, has_age: bool, began: float
    ) -> GateVerdict:
        """Decide a ring for those of its callees who are here.

        ``has_age``: the caller's homeserver vouches for when it was sent. ``began``: when this ring came to the gate,
        by ``time.perf_counter``.
        """
        now_ms = self._runtime.now_ms()
        here = [user_id for user_id in sorted(rung) if self._runtime.api.is_mine(user_id)]
        if not here:
            return NOT_SPAM
        is_local = self._runtime.api.is_mine(ring.caller)
        if not is_local and not has_age and events.is_late(ring, now_ms):
            return await self._screen_the_past(ring, here, room, now_ms)
        judged = [
            await self._screening.judge(user_id, ring, is_group=not room.is_direct, now_ms=now_ms) for user_id in here
        ]
        if not is_local:
            judged = [await self._within_server_limit(ring, each, now_ms) for each in judged]
        metrics.screening_seconds.observe(time.perf_counter() - began)
        if not room.is_direct:
            await self._screen_in_group(ring, judged, now_ms)
            return NOT_SPAM
        return await self._screen_direct(ring, judged[0], now_ms)

    async def _screen_direct(self, ring: Ring, judged: Judged, now_ms: int) -> GateVerdict:
        callee, is_local = judged.callee.local, self._runtime.api.is_mine(ring.caller)
        if not judged.decision.shown and not is_local and await self._is_flooded(callee, ring, now_ms):
            # Their history and our disk have seen enough of that homeserver; it is hidden all the same.
            metrics.count_decision(judged.decision.rule, shown=False)
            return Codes.FORBIDDEN
        caller = None
        if is_local:
            caller = Local(acct=await self._runtime.accounts.acct_of(ring.caller), user_id=ring.caller)
        pause_ms = _REFUSAL_MIN_MS + secrets.randbelow(_REFUSAL_MAX_MS - _REFUSAL_MIN_MS + 1)
        refusal_ms = now_ms + pause_ms
        with metrics.record_seconds.time():
            admission = await self._runtime.database.run(
                "calls_admit",
                lambda cur: service.admit(
                    cur, ring, judged.callee, caller, judged.decision, now_ms=now_ms, refusal_ms=refusal_ms
                ),
            )
        if admission.decision is None:
            self._screening.take_back(judged)
        else:
            metrics.count_decision(admission.decision.rule, shown=admission.decision.shown)
        self._clockwork.note(admission.due_ms)
        return answer_to(admission.verdict, callee.user_id, judged.callee.policy.offers, is_local=is_local)

    async def _screen_in_group(self, ring: Ring, judged: Sequence[Judged], now_ms: int) -> None:
        """A group is never hidden a ring: it is for others too. Whoever does not want it is not notified of it."""
        decisions = [(each.callee, each.decision) for each in judged]
        with metrics.record_seconds.time():
            screened, due_ms = await self._runtime.database.run(
                "calls_admit_to_group", lambda cur: service.admit_to_group(cur, ring, decisions, now_ms)
            )
        for each in judged:
            metrics.count_decision(each.decision.rule, shown=each.decision.shown)
            if each.callee.local.acct in screened:
                await self._silences.silence(each.callee.local.user_id, ring, now_ms)
        self._clockwork.note(due_ms)

    async def _within_server_limit(self, ring: Ring, judged: Judged, now_ms: int) -> Judged:
        """One homeserver rings only so many people here who do not know the caller."""
        if not judged.decision.shown or judged.decision.rule is Rule.ALLOW:
            return judged
        if await self._screening.knows(judged.callee, ring.caller, now_ms):
            return judged
        if await self._of_server.take(server_of(ring.caller), now_ms) is None:
            return judged
        return self._screening.hide(judged, Rule.RATE)

    async def _is_flooded(self, callee: Local, ring: Ring, now_ms: int) -> bool:
        return await self._screened.take(f"{callee.acct} {server_of(ring.caller)}", now_ms) is not None

    async def _screen_the_past(self, ring: Ring, here: Sequence[UserId], room: Room, now_ms: int) -> GateVerdict:
        # Synapse asks the gate about a room's history too, when it fetches it. Such a ring is no event in anybody's
        # life now. But a homeserver that backdates rings must not get past screening, so it is judged all the same.
        if not room.is_direct:
            return NOT_SPAM
        decision = await self._screening.assess(here[0], ring, is_group=False, now_ms=now_ms)
        return NOT_SPAM if decision.shown else Codes.FORBIDDEN


def is_refusal(error: Exception) -> bool:
    """Whether an exception is our no, and no fault."""
    return isinstance(error, SynapseError) and str(error.errcode).startswith(ERRCODE_PREFIX)


def answer_to(verdict: Verdict, callee: UserId, offers: frozenset[Offer], *, is_local: bool) -> GateVerdict:
    """What the gate says: a local caller hears a sentence, the ring of another homeserver is hidden."""
    match verdict:
        case Verdict.SHOWN:
            return NOT_SPAM
        case Verdict.SCREENED if is_local:
            raise error_of(
                Refused(
                    reason=Reason.NOT_AVAILABLE,
                    message=f"{callee} is not available for calls now; send a message instead.",
                    fields={"offers": sorted(offers)},
                )
            )
        case Verdict.USED_UP if is_local:
            raise error_of(
                Refused(
                    reason=Reason.CONFLICT,
                    message="The call of this call_id is over, and an id rings once; ring with a new call_id.",
                )
            )
        case Verdict.SCREENED | Verdict.USED_UP:
            return Codes.FORBIDDEN


def _not_a_message(event_type: str) -> Refused:
    return Refused(
        reason=Reason.NOT_A_MESSAGE,
        message=f"{event_type} is an ordinary message event; send it without a state key, and at once.",
    )
