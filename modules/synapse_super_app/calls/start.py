"""Rings that people begin through the API: by handle, in the direct room, in every protocol that clients ring on.

A call id is its client's and makes a ring repeatable: the same request again gives the call as it now is. Our own ring
goes first, so that screening speaks before anything else of the call is in the room, apart from the caller's membership
of the MatrixRTC call, which the rings refer to and which is taken back if they are refused.
"""

import logging
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field

from super_app.calls import events, service
from super_app.calls.model import DEFAULT_LIFETIME_MS, MAX_LIFETIME_MS, MIN_LIFETIME_MS, CallId, Media, State
from super_app.errors import Reason, Refused
from super_app.ids import Acct, EventId, RoomId, UserId
from super_app.names import EventType
from super_app.signing import digest
from super_app.wire import Text, WireModel
from synapse_super_app.direct_rooms import CannotInvite, DirectRooms
from synapse_super_app.http.routes import Call
from synapse_super_app.people import People
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_MAX_AGE_MS: Final = 300_000
_PAUSE_S: Final = 0.05
_SDP_MAX: Final = 50_000
_MEMBERSHIP_MARGIN_MS: Final = 30_000
"""How long after a ring the membership that was written for it holds, unless the client takes it over."""


class Offer(WireModel):
    """What a legacy ring needs of the caller's client."""

    sdp: Annotated[Text, Field(min_length=1, max_length=_SDP_MAX)]
    party_id: Annotated[Text, Field(min_length=1, max_length=255)]


class StartCall(WireModel):
    """``callee`` is a user id or a handle, ``call_id`` the client's own, new for each call.

    With ``offer`` legacy clients ring as well. MatrixRTC clients ring by ``membership``, the event id of the caller's
    ``call.member``; without it the homeserver writes one for the device that asks, which that device then keeps up.
    """

    call_id: Annotated[str, Field(pattern=events.CALL_ID_PATTERN)]
    callee: Annotated[Text, Field(min_length=1, max_length=255)]
    media: Literal["audio", "video"]
    lifetime: Annotated[int, Field(ge=MIN_LIFETIME_MS, le=MAX_LIFETIME_MS)] = DEFAULT_LIFETIME_MS
    room_id: Annotated[Text | None, Field(min_length=1, max_length=255)] = None
    offer: Offer | None = None
    membership: Annotated[Text | None, Field(min_length=1, max_length=255)] = None
    matrixrtc: bool = True
    """False from a client that does not speak MatrixRTC: who answered by joining would find nobody there."""


class CallStarted(BaseModel):
    call_id: str
    room_id: str
    callee: str
    state: Annotated[
        Literal["ringing", "answered", "ended", "declined", "missed", "cancelled", "busy", "failed"],
        Field(description="What has become of it; a replay says it anew."),
    ]


class CallStarter:
    def __init__(self, runtime: Runtime, people: People, direct_rooms: DirectRooms) -> None:
        self._runtime = runtime
        self._people = people
        self._direct_rooms = direct_rooms
        self._starting: set[tuple[UserId, str]] = set()

    async def start(self, call: Call) -> CallStarted | Refused:
        """Ring somebody; a replay rings nobody.

        Raises:
            SynapseError: the gate or Synapse refused the ring.
        """
        body: StartCall = call.body
        key = (call.user_id, body.call_id)
        while key in self._starting:
            await self._runtime.api.sleep(_PAUSE_S)
        self._starting.add(key)
        try:
            return await self._start(call, body)
        finally:
            self._starting.discard(key)

    async def _start(self, call: Call, body: StartCall) -> CallStarted | Refused:
        person = await self._people.resolve(self._full(body.callee), asker=call.user_id, max_age_ms=_MAX_AGE_MS)
        if isinstance(person, Refused):
            return person
        callee = person.user_id
        if callee == call.user_id:
            return Refused(reason=Reason.INVALID_VALUE, message="That is you; ring somebody else.")
        owner = await self._runtime.accounts.acct_of(call.user_id)
        body_hash = digest(body.model_dump(mode="json"))
        room_id = await self._ordered(owner, call.user_id, body, body_hash, None)
        if room_id is None:
            found = await self._room(call.user_id, callee, body)
            if isinstance(found, Refused):
                return found
            room_id = await self._ordered(owner, call.user_id, body, body_hash, found)
        if room_id is None or isinstance(room_id, Refused):
            return room_id or Refused(reason=Reason.INVALID_VALUE, message="This call has no room to ring in.")
        known = await self._state(owner, CallId(body.call_id))
        if known is State.SCREENED:
            return Refused(
                reason=Reason.NOT_AVAILABLE,
                message=f"{callee} is not available for calls now; send a message instead.",
            )
        if known is None:
            await self._ring(call, callee, room_id, body)
            known = await self._state(owner, CallId(body.call_id)) or State.RINGING
        return CallStarted.model_validate(
            {"call_id": body.call_id, "room_id": room_id, "callee": callee, "state": known.value}
        )

    async def _ordered(
        self, owner: Acct, caller: UserId, body: StartCall, body_hash: str, room_id: RoomId | None
    ) -> RoomId | Refused | None:
        call_id, now_ms = CallId(body.call_id), self._runtime.now_ms()
        return await self._runtime.database.run(
            "calls_order", lambda cur: service.ordered(cur, owner, caller, call_id, body_hash, room_id, now_ms)
        )

    async def _room(self, caller: UserId, callee: UserId, body: StartCall) -> RoomId | Refused:
        if body.room_id is not None:
            return RoomId(body.room_id)
        found = await self._direct_rooms.find(caller, callee)
        if found is not None:
            return found
        try:
            return await self._direct_rooms.make(caller, callee)
        except CannotInvite as error:
            return error.refused or Refused(
                reason=Reason.PEER_UNREACHABLE,
                message=f"{callee} could not be invited to a room for this call ({error}); try again later.",
            )

    async def _state(self, owner: Acct, call_id: CallId) -> State | None:
        entry = await self._runtime.database.run("calls_of", lambda cur: service.call_of(cur, owner, call_id))
        return None if isinstance(entry, Refused) else entry.record.state

    async def _ring(self, call: Call, callee: UserId, room_id: RoomId, body: StartCall) -> None:
        call_id, media = CallId(body.call_id), Media(body.media)
        written = None if body.membership or not body.matrixrtc else await self._join(call, room_id, body)
        membership = EventId(body.membership) if body.membership else written
        try:
            content = events.ring_content(call_id, media, callee, body.lifetime, membership)
            await self._send(call.user_id, room_id, EventType.CALL_RING, content)
        except Exception:
            if written is not None:
                await self._try(call.user_id, room_id, events.CALL_MEMBER, {}, state_key=_member_key(call))
            raise
        if body.offer is not None:
            offer = events.invite_content(call_id, body.offer.party_id, callee, body.lifetime, body.offer.sdp)
            await self._try(call.user_id, room_id, events.INVITE, offer)
        if membership is not None:
            now_ms = self._runtime.now_ms()
            content = events.notification_content(media, callee, body.lifetime, membership, now_ms)
            await self._try(call.user_id, room_id, events.RTC_NOTIFICATION, content)

    async def _join(self, call: Call, room_id: RoomId, body: StartCall) -> EventId | None:
        """Put the device that rings into the MatrixRTC call, for as long as it rings; None if it may not."""
        if not call.device_id:
            return None
        content = events.membership_content(
            call.device_id, Media(body.media), body.lifetime + _MEMBERSHIP_MARGIN_MS, self._runtime.now_ms()
        )
        return await self._try(call.user_id, room_id, events.CALL_MEMBER, content, state_key=_member_key(call))

    async def _send(
        self, sender: UserId, room_id: RoomId, event_type: str, content: dict[str, Any], **more: str
    ) -> EventId:
        event = await self._runtime.api.create_and_send_event_into_room(
            {"type": str(event_type), "room_id": room_id, "sender": sender, "content": content, **more}
        )
        return EventId(event.event_id)

    async def _try(
        self, sender: UserId, room_id: RoomId, event_type: str, content: dict[str, Any], **more: str
    ) -> EventId | None:
        """Send what makes further clients ring; the call rings without it too."""
        try:
            return await self._send(sender, room_id, event_type, content, **more)
        except Exception as error:  # noqa: BLE001 - whatever it was, our own ring is not to fail by it
            logger.info("A call in %s rings without %s: %s", room_id, event_type, error)
            return None

    def _full(self, text: str) -> str:
        """``bob`` and ``@bob`` mean somebody of this homeserver."""
        name = text.removeprefix("@")
        return f"@{name}" if ":" in name else f"@{name}:{self._runtime.server_name}"


def _member_key(call: Call) -> str:
    return f"_{call.user_id}_{call.device_id}_m.call"
