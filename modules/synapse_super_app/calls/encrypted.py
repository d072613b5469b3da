"""MatrixRTC rings in encrypted rooms, known by what stays in clear: that they refer to the caller's membership.

The first encrypted reference to one's own membership (the ``call.member`` state, or a sticky event), while nobody else
is in the call, is a ring: clients send nothing else there. Everything after it that refers to the same membership
shares its fate, so a screened caller cannot ring behind a reaction. Other encrypted references (polls, verification,
threads) pass untouched. The follower does not see them, as that would cost a read for each message, so what is known
here is recorded here.
"""

import logging
import time
from collections.abc import Mapping
from typing import Final

from synapse.module_api import NOT_SPAM, EventBase

from super_app.calls import events, rules, service
from super_app.calls.events import RoomEvent
from super_app.calls.model import MAX_RUNG, Act, Ring, Room, Side, Signal
from super_app.ids import EventId, RoomId
from synapse_super_app.calls.follow import CallsFollower
from synapse_super_app.calls.gate import CallsGate, answer_to, is_refusal
from synapse_super_app.calls.room_events import room_event
from synapse_super_app.gate import GateHandler
from synapse_super_app.gate import Verdict as GateVerdict
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_ENCRYPTED: Final = "m.room.encrypted"
_PARENT_PAUSES_S: Final = (0.05, 0.15, 0.3)
"""A ring may reach the gate while the membership that it refers to is still being stored."""
_REMEMBERED_MAX: Final = 1_000


class EncryptedRings:
    def __init__(self, runtime: Runtime, *, gate: CallsGate, follower: CallsFollower) -> None:
        self._runtime = runtime
        self._gate = gate
        self._follower = follower
        self._rings: dict[EventId, RoomId] = {}
        """Encrypted rings that this process let through lately, so that a decline is known without a read."""

    def handlers(self) -> Mapping[str, GateHandler]:
        return {_ENCRYPTED: self._on_encrypted}

    async def _on_encrypted(self, event: EventBase) -> GateVerdict:
        relation = event.content.get("m.relates_to")
        if relation is None or not isinstance(relation, dict) or relation.get("rel_type") != "m.reference":
            return NOT_SPAM
        try:
            return await self._reference(room_event(event, self._runtime.now_ms()), relation.get("event_id"))
        except Exception as error:
            if is_refusal(error):
                raise
            logger.exception("Screening the encrypted %s failed; it passes", event.event_id)
            return NOT_SPAM

    async def _reference(self, event: RoomEvent, parent_id: object) -> GateVerdict:
        if not isinstance(parent_id, str) or event.is_state:
            return NOT_SPAM
        if self._rings.get(EventId(parent_id)) == event.room_id:
            await self._declined(event, EventId(parent_id))
            return NOT_SPAM
        members = await self._runtime.private.members(event.room_id, at_most=MAX_RUNG + 1)
        if members is None or event.sender not in members[0]:
            return NOT_SPAM
        room = Room(joined=members[0], invited=members[1], is_complete=True)
        membership = await self._membership(event, EventId(parent_id))
        if membership is None or await self._is_met(event):
            return NOT_SPAM
        ring = events.ring_of_membership(event, membership)
        return await self._ring(ring, room, has_age=event.age_ts is not None)

    async def _membership(self, event: RoomEvent, parent_id: EventId) -> RoomEvent | None:
        """The sender's own membership, if that is what an event refers to."""
        parent = await self._runtime.private.get_event(parent_id)
        for pause_s in () if self._runtime.api.is_mine(event.sender) else _PARENT_PAUSES_S:
            if parent is not None:
                break
            await self._runtime.api.sleep(pause_s)
            parent = await self._runtime.private.get_event(parent_id)
        if parent is None:
            return None
        membership = room_event(parent, self._runtime.now_ms())
        is_theirs = membership.sender == event.sender and membership.room_id == event.room_id
        return membership if is_theirs and (_joins(membership) or _may_join(membership)) else None

    async def _is_met(self, event: RoomEvent) -> bool:
        """Whether somebody else is in the call already: then nobody rings any more."""
        state = await self._runtime.api.get_room_state(event.room_id, [(events.CALL_MEMBER, None)])
        now_ms = self._runtime.now_ms()
        memberships = [room_event(each, now_ms) for each in state.values()]
        if any(
            each.sender != event.sender and _joins(each) and events.membership_until_ms(each) > now_ms
            for each in memberships
        ):
            return True
        return await self._runtime.database.run(
            "calls_met", lambda cur: service.someone_else_is_in(cur, event.room_id, event.sender, now_ms)
        )

    async def _ring(self, ring: Ring, room: Room, *, has_age: bool) -> GateVerdict:
        began = time.perf_counter()
        now_ms = self._runtime.now_ms()
        is_local = self._runtime.api.is_mine(ring.caller)
        known = await self._runtime.database.run("calls_rang_again", lambda cur: service.rang_again(cur, ring))
        if known is not None:
            self._remember(ring)
            if not room.is_direct:
                return NOT_SPAM
            (callee,) = (room.joined | room.invited) - {ring.caller}
            return answer_to(known, callee, frozenset(), is_local=is_local)
        rung = rules.rung(ring, room)
        verdict = await self._gate.screen(ring, room, rung, has_age=has_age, began=began)
        if verdict != NOT_SPAM:
            return verdict
        if has_age or not events.is_late(ring, now_ms):
            # Not out of the room's history, which Synapse shows to the gate when it fetches it.
            self._remember(ring)
            await self._follower.ring_exists(ring, now_ms)
        return NOT_SPAM

    def _remember(self, ring: Ring) -> None:
        while len(self._rings) >= _REMEMBERED_MAX:
            self._rings.pop(next(iter(self._rings)))
        self._rings[ring.event_id] = ring.room_id

    async def _declined(self, event: RoomEvent, ring: EventId) -> None:
        signal = Signal(
            act=Act.DECLINE,
            side=Side.CALLEE,
            room_id=event.room_id,
            event_id=event.event_id,
            sender=event.sender,
            reference=ring,
        )
        await self._follower.signal_exists(signal, at_ms=self._runtime.now_ms())


def _may_join(event: RoomEvent) -> bool:
    """A sticky event that is encrypted: nothing but memberships sticks."""
    return event.event_type == _ENCRYPTED and event.sticky_ms is not None


def _joins(membership: RoomEvent) -> bool:
    signal = events.read_signal(membership)
    return signal is not None and signal.act is Act.JOIN
