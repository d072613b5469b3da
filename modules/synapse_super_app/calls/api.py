"""The routes of calls: ring somebody, one's own history, what a client says of its media, and TURN credentials."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field

from super_app.calls import explain, service
from super_app.calls.model import CallId, Direction, HistoryEntry, Quality, Record, RoomPlace, SessionId, State
from super_app.calls.policy import PolicyChanges
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Handle, RoomId, UserId
from super_app.wire import OpenWireModel, WireModel
from synapse_super_app.calls.clockwork import Clockwork
from synapse_super_app.calls.offers import Offers, OfferTaken, Voicemail
from synapse_super_app.calls.screening import Screening
from synapse_super_app.calls.start import CallStarted, CallStarter, StartCall
from synapse_super_app.calls.turn import Turn, TurnCredentials, TurnQuota
from synapse_super_app.calls.turn_keeper import TurnKeeper
from synapse_super_app.calls.wishes import DoNotDisturbBody, PolicyShown, Wishes
from synapse_super_app.direct_rooms import DirectRooms
from synapse_super_app.http.routes import Call, Route
from synapse_super_app.people import People
from synapse_super_app.runtime import Runtime

_EXPORT_PAGE: Final = 500


class CallsQuery(OpenWireModel):
    """``since`` is the ``next`` of an earlier answer."""

    since: str | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 50


class CallEntry(BaseModel):
    """A call as one of its people records it. Times are milliseconds since 1970 by this homeserver's clock."""

    call_id: str
    direction: Literal["incoming", "outgoing"]
    peer: Annotated[str, Field(description="The other person's user id; the room's id for a ring to a group.")]
    peer_handle: str | None = None
    media: Literal["audio", "video"]
    outcome: Annotated[
        Literal["ringing", "answered", "declined", "missed", "cancelled", "busy", "failed", "screened"],
        Field(description="The last state before the end; an answered call without end_ts goes on."),
    ]
    ring_ts: int
    answer_ts: int | None = None
    end_ts: int | None = None
    ended_by: str | None = None
    duration_ms: Annotated[int | None, Field(description="From the answer to the end.")] = None
    media_ts: Annotated[int | None, Field(description="When media was known to flow.")] = None
    quality: "QualityShown | None" = None
    callback_ts: Annotated[int | None, Field(description="When the caller asked to be called back.")] = None
    offers: Annotated[list[str] | None, Field(description="To the caller: what there is instead of an answer.")] = None
    room_id: str
    protocol: Literal["superapp", "legacy", "matrixrtc"]
    screened_by: Annotated[
        Literal[
            "ignored",
            "invites",
            "deny",
            "servers",
            "rooms",
            "rate",
            "do_not_disturb",
            "quiet",
            "who",
            "price",
        ]
        | None,
        Field(description="To the callee alone: which rule of their policy screened the ring."),
    ] = None
    explanation: Annotated[str | None, Field(description="To the callee alone: the same as a sentence.")] = None


class QualityShown(WireModel):
    """What a client measured of a call."""

    loss_permille: Annotated[int | None, Field(ge=0, le=1_000)] = None
    jitter_ms: Annotated[int | None, Field(ge=0, le=60_000)] = None
    round_trip_ms: Annotated[int | None, Field(ge=0, le=60_000)] = None
    relayed: bool | None = None
    rating: Annotated[int | None, Field(ge=1, le=5, description="By the person: 1 is bad.")] = None


class MediaSaid(WireModel):
    """``connecting`` gives media 15 seconds to flow, ``connected`` says that it does."""

    media: Literal["connecting", "connected"] | None = None
    quality: QualityShown | None = None


class Erased(BaseModel):
    erased: Annotated[int, Field(description="How many calls are gone from your history.")]


class Export(BaseModel):
    """All that is kept of your calls, newest first."""

    exported_ts: int
    calls: list["CallEntry"]


class Calls(BaseModel):
    """A page, newest first. Without ``next`` it is the last one."""

    calls: list[CallEntry]
    next: str | None = None


class CallsApi:
    def __init__(
        self,
        runtime: Runtime,
        people: People,
        screening: Screening,
        turn: Turn | None,
        quota: TurnQuota,
        keeper: TurnKeeper,
        clockwork: Clockwork,
    ) -> None:
        self._runtime = runtime
        self._clockwork = clockwork
        self._starter = CallStarter(runtime, people, DirectRooms(runtime.api, runtime.private, runtime.database))
        self._offers = Offers(runtime)
        self._wishes = Wishes(runtime, screening)
        self._screening = screening
        self._quota = quota
        self._keeper = keeper
        self._people = people
        self._turn = turn

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="calls",
                handler=self._history,
                response=Calls,
                summary="Your calls, newest first",
                query=CallsQuery,
            ),
            Route(
                method="POST",
                path="calls",
                handler=self._starter.start,
                body=StartCall,
                response=CallStarted,
                summary="Ring somebody by handle, in your direct room; the same again gives the call as it is",
                reasons=(
                    Reason.INVALID_VALUE,
                    Reason.UNKNOWN_HANDLE,
                    Reason.AMBIGUOUS_PAYEE,
                    Reason.HANDLE_FROZEN,
                    Reason.PEER_UNREACHABLE,
                    Reason.DEPOSIT_REQUIRED,
                    Reason.BAD_RECORD,
                    Reason.CONFLICT,
                    Reason.NOT_AVAILABLE,
                    Reason.TOO_MANY_REQUESTS,
                ),
            ),
            Route(
                method="DELETE",
                path="calls",
                handler=self._erase,
                response=Erased,
                summary="Take all calls that are over out of your history",
            ),
            Route(
                method="GET",
                path="calls/{call_id}",
                handler=self._one,
                response=CallEntry,
                summary="One of your calls, and why it was screened if it was",
                reasons=(Reason.UNKNOWN_CALL,),
            ),
            Route(
                method="DELETE",
                path="calls/{call_id}",
                handler=self._erase,
                response=Erased,
                summary="Take a call that is over out of your history",
                reasons=(Reason.UNKNOWN_CALL, Reason.CONFLICT),
            ),
            Route(
                method="POST",
                path="calls/{call_id}/media",
                handler=self._media,
                body=MediaSaid,
                response=CallEntry,
                summary="Say that media connects or flows, and how good it is",
                reasons=(Reason.UNKNOWN_CALL, Reason.CONFLICT),
            ),
            Route(
                method="POST",
                path="calls/{call_id}/voicemail",
                handler=self._offers.voicemail,
                body=Voicemail,
                response=OfferTaken,
                summary="Leave a voice message to somebody who did not answer, if they offer it",
                reasons=(Reason.UNKNOWN_CALL, Reason.CONFLICT, Reason.NOT_OFFERED),
            ),
            Route(
                method="POST",
                path="calls/{call_id}/callback",
                handler=self._offers.callback,
                response=OfferTaken,
                summary="Ask somebody who did not answer to call back, if they offer it",
                reasons=(Reason.UNKNOWN_CALL, Reason.CONFLICT, Reason.NOT_OFFERED),
            ),
            Route(
                method="GET",
                path="call_export",
                handler=self._export,
                response=Export,
                summary="All that is kept of your calls",
            ),
            Route(
                method="GET",
                path="call_policy",
                handler=self._wishes.show,
                response=PolicyShown,
                summary="Your call policy as it is applied, and what in it cannot be read",
            ),
            Route(
                method="PUT",
                path="call_policy",
                handler=self._wishes.change,
                body=PolicyChanges,
                response=PolicyShown,
                summary="Write keys of your call policy; those that you do not name stay as they are",
                reasons=(Reason.INVALID_VALUE, Reason.CONFLICT),
            ),
            Route(
                method="PUT",
                path="call_policy/do_not_disturb",
                handler=self._wishes.disturb_not,
                body=DoNotDisturbBody,
                response=PolicyShown,
                summary="Let nobody ring you, for a time or until you take it back",
                reasons=(Reason.CONFLICT,),
            ),
            Route(
                method="DELETE",
                path="call_policy/do_not_disturb",
                handler=self._wishes.disturb,
                response=PolicyShown,
                summary="Be rung again, as your policy says",
                reasons=(Reason.CONFLICT,),
            ),
            Route(
                method="GET",
                path="calls/{call_id}/turn",
                handler=self._credentials,
                response=TurnCredentials,
                summary="TURN credentials for a call that rings or goes on for you",
                reasons=(Reason.UNKNOWN_CALL, Reason.NO_TURN, Reason.TOO_MANY_REQUESTS),
            ),
            Route(
                method="GET",
                path="call_rooms/{room_id}/turn",
                handler=self._credentials_in_room,
                response=TurnCredentials,
                summary="TURN credentials for the call of a room that you are in, from browser to browser",
                reasons=(Reason.NOT_IN_ROOM, Reason.NO_TURN, Reason.TOO_MANY_REQUESTS),
            ),
        )

    async def _history(self, call: Call) -> Calls | Refused:
        acct = await self._runtime.accounts.acct_of(call.user_id)
        query: CallsQuery = call.query
        page = await self._runtime.database.run(
            "calls_history", lambda cur: service.history(cur, acct, query.since, query.limit)
        )
        if isinstance(page, Refused):
            return page
        return Calls(calls=await self._shown(page.entries), next=page.next_token)

    async def _shown(self, entries: Sequence[HistoryEntry]) -> list[CallEntry]:
        peers = {UserId(entry.record.peer) for entry in entries if entry.record.peer.startswith("@")}
        handles = {str(peer): await self._people.handle_of(peer) for peer in peers}
        return [_entry(entry, handles.get(entry.record.peer)) for entry in entries]

    async def _one(self, call: Call) -> CallEntry | Refused:
        acct = await self._runtime.accounts.acct_of(call.user_id)
        call_id = CallId(call.path["call_id"])
        entry = await self._runtime.database.run("calls_of", lambda cur: service.call_of(cur, acct, call_id))
        if isinstance(entry, Refused):
            return entry
        (shown,) = await self._shown([entry])
        return shown

    async def _export(self, call: Call) -> Export:
        acct = await self._runtime.accounts.acct_of(call.user_id)
        found: list[CallEntry] = []
        since: str | None = None
        while True:
            page = await self._runtime.database.run(
                "calls_export", partial(service.history, owner=acct, since=since, limit=_EXPORT_PAGE)
            )
            if isinstance(page, Refused):
                raise RuntimeError("a token of our own was refused")
            found += await self._shown(page.entries)
            since = page.next_token
            if since is None:
                return Export(exported_ts=self._runtime.now_ms(), calls=found)

    async def _erase(self, call: Call) -> Erased | Refused:
        acct = await self._runtime.accounts.acct_of(call.user_id)
        one = call.path.get("call_id")
        call_id = None if one is None else CallId(one)
        erased = await self._runtime.database.run("calls_erase", lambda cur: service.erase(cur, acct, call_id))
        return erased if isinstance(erased, Refused) else Erased(erased=erased)

    async def _media(self, call: Call) -> CallEntry | Refused:
        body: MediaSaid = call.body
        acct = await self._runtime.accounts.acct_of(call.user_id)
        call_id, now_ms = CallId(call.path["call_id"]), self._runtime.now_ms()
        media = service.MediaReport.SILENT if body.media is None else service.MediaReport(body.media)
        quality = None if body.quality is None else Quality(**body.quality.model_dump())
        found = await self._runtime.database.run(
            "calls_media", lambda cur: service.report(cur, acct, call_id, media, quality, now_ms)
        )
        if isinstance(found, Refused):
            return found
        entry, due_ms = found
        self._clockwork.note(due_ms)
        (shown,) = await self._shown([entry])
        return shown

    async def _credentials(self, call: Call) -> TurnCredentials | Refused:
        acct = await self._runtime.accounts.acct_of(call.user_id)
        call_id = CallId(call.path["call_id"])
        session_id = await self._runtime.database.run("calls_live", lambda cur: service.live_call(cur, acct, call_id))
        if isinstance(session_id, Refused):
            return session_id
        return await self._given(call.user_id, session_id)

    async def _credentials_in_room(self, call: Call) -> TurnCredentials | Refused:
        """For who is in the room; the quota is the same, so that nobody gets more by naming rooms."""
        room_id = RoomId(call.path["room_id"])

        def is_joined(cur: Cursor) -> bool:
            return bool(self._runtime.private.joined_of(cur, room_id, (call.user_id,)))

        if not await self._runtime.database.run("calls_in_room", is_joined):
            return Refused(
                reason=Reason.NOT_IN_ROOM, message=f"You are not in the room {room_id[:255]}; join it first."
            )
        return await self._given(call.user_id, RoomPlace(room_id=room_id))

    async def _given(self, user_id: UserId, place: SessionId | RoomPlace) -> TurnCredentials | Refused:
        if self._turn is None:
            return Refused(
                reason=Reason.NO_TURN,
                message=(
                    "This homeserver has no TURN server for calls; connect directly, or ask its operator to set "
                    "calls.turn_uris."
                ),
            )
        now_ms = self._runtime.now_ms()
        refused = await self._quota.take(user_id, now_ms)
        if refused is not None:
            return refused
        acct = await self._runtime.accounts.acct_of(user_id)
        policy = (await self._screening.policy_of(user_id)).policy
        session_id = SessionId(place.room_id) if isinstance(place, RoomPlace) else place
        given = self._turn.credentials(session_id, acct, now_ms, relay_only=policy.relay_only)
        await self._keeper.note(given, acct, user_id, place, now_ms)
        return given


def _entry(entry: HistoryEntry, handle: Handle | None) -> CallEntry:
    record, session = entry.record, entry.session
    outcome = State.ANSWERED if record.state is State.ENDED else record.state
    return CallEntry.model_validate(
        {
            "call_id": session.call_id,
            "direction": record.direction.value,
            "peer": record.peer,
            "peer_handle": handle,
            "media": session.media.value,
            "outcome": outcome.value,
            "ring_ts": record.ring_ms,
            "answer_ts": record.answer_ms,
            "end_ts": record.end_ms,
            "ended_by": record.ended_by,
            "room_id": session.room_id,
            "protocol": session.protocol.value,
            "screened_by": None if record.screened_by is None else record.screened_by.value,
            "explanation": None if record.screened_by is None else explain.why(record.screened_by, record.peer),
            "duration_ms": _duration_ms(record),
            "media_ts": record.media_ms,
            "quality": None if record.quality is None else asdict(record.quality),
            "callback_ts": record.callback_ms,
            "offers": sorted(session.offers) if _may_take_offers(record) and session.offers else None,
        }
    )


def _duration_ms(record: Record) -> int | None:
    return None if record.answer_ms is None or record.end_ms is None else record.end_ms - record.answer_ms


def _may_take_offers(record: Record) -> bool:
    is_over = not record.state.is_open and record.state is not State.ENDED
    return is_over and record.direction is Direction.OUTGOING
