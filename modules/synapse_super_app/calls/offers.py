"""What a caller who was not answered may do instead: leave a voice message, ask to be called back.

Only what the callee's policy offers, for a call of the caller's own. In an encrypted room a message of the homeserver's
would be readable by everybody on the way, so there the caller's client is told to send it itself.
"""

from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

from super_app.calls import events, service, store
from super_app.calls.model import CallId, HistoryEntry, Offer
from super_app.errors import Reason, Refused
from super_app.ids import EventId
from super_app.wire import Text, WireModel
from synapse_super_app.http.routes import Call
from synapse_super_app.runtime import Runtime

_ENCRYPTION: Final = "m.room.encryption"
_MESSAGE: Final = "m.room.message"
_LONGEST_MS: Final = 300_000


class Voicemail(WireModel):
    """A voice message that was uploaded to the media repository."""

    url: Annotated[Text, Field(pattern=r"^mxc://[A-Za-z0-9.:\[\]-]{1,255}/[A-Za-z0-9_-]{1,255}$")]
    mimetype: Annotated[Text, Field(pattern=r"^audio/[A-Za-z0-9.+-]{1,64}$")]
    duration_ms: Annotated[int, Field(ge=1, le=_LONGEST_MS)]
    size_bytes: Annotated[int | None, Field(ge=1, le=2**31)] = None


class OfferTaken(BaseModel):
    """Without ``event_id`` the room is encrypted: send the message there yourself."""

    room_id: str
    event_id: str | None = None


class Offers:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def voicemail(self, call: Call) -> OfferTaken | Refused:
        """Leave a voice message in the room of a call, once."""
        body: Voicemail = call.body
        owner = await self._runtime.accounts.acct_of(call.user_id)
        call_id, now_ms = CallId(call.path["call_id"]), self._runtime.now_ms()
        entry = await self._runtime.database.run(
            "calls_voicemail", lambda cur: service.may_leave(cur, owner, call_id, Offer.VOICEMAIL, now_ms)
        )
        if isinstance(entry, Refused):
            return entry
        session_id = entry.session.session_id
        if not await self._runtime.database.run(
            "calls_voicemail_left", lambda cur: store.note_event(cur, _LEFT, session_id)
        ):
            return Refused(
                reason=Reason.CONFLICT, message="You have left a message for this call; send another in the room."
            )
        content = events.voicemail_content(call_id, body.url, body.mimetype, body.duration_ms, body.size_bytes)
        try:
            return await self._post(call, entry, content)
        except Exception:
            await self._runtime.database.run(
                "calls_voicemail_failed", lambda cur: store.forget_event(cur, _LEFT, session_id)
            )
            raise

    async def callback(self, call: Call) -> OfferTaken | Refused:
        """Ask to be called back, once; again changes nothing."""
        owner = await self._runtime.accounts.acct_of(call.user_id)
        call_id, now_ms = CallId(call.path["call_id"]), self._runtime.now_ms()
        entry = await self._runtime.database.run(
            "calls_callback", lambda cur: service.ask_back(cur, owner, call_id, now_ms)
        )
        if isinstance(entry, Refused):
            return entry
        if entry.record.callback_ms is not None:
            return OfferTaken(room_id=entry.session.room_id)
        return await self._post(call, entry, events.callback_content(call_id))

    async def _post(self, call: Call, entry: HistoryEntry, content: dict[str, Any]) -> OfferTaken:
        room_id = entry.session.room_id
        if await self._runtime.api.get_room_state(room_id, [(_ENCRYPTION, "")]):
            return OfferTaken(room_id=room_id)
        event = await self._runtime.api.create_and_send_event_into_room(
            {"type": _MESSAGE, "room_id": room_id, "sender": call.user_id, "content": content}
        )
        return OfferTaken(room_id=room_id, event_id=event.event_id)


_LEFT: Final = EventId("voicemail")
"""Stands among the events of a call once its caller has left a message."""
