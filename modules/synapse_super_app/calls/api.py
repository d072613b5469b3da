"""The routes of calls: one's own history, and TURN credentials for a live call."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from super_app.calls import service
from super_app.calls.model import CallId, HistoryEntry, State
from super_app.errors import Reason, Refused
from super_app.ids import Handle, UserId
from super_app.wire import OpenWireModel
from synapse_super_app.calls.screening import Screening
from synapse_super_app.calls.turn import Turn, TurnCredentials, TurnQuota
from synapse_super_app.http.routes import Call, Route
from synapse_super_app.people import People
from synapse_super_app.runtime import Runtime


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


class Calls(BaseModel):
    """A page, newest first. Without ``next`` it is the last one."""

    calls: list[CallEntry]
    next: str | None = None


class CallsApi:
    def __init__(
        self, runtime: Runtime, people: People, screening: Screening, turn: Turn | None, quota: TurnQuota
    ) -> None:
        self._runtime = runtime
        self._screening = screening
        self._quota = quota
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
                method="GET",
                path="calls/{call_id}/turn",
                handler=self._credentials,
                response=TurnCredentials,
                summary="TURN credentials for a call that rings or goes on for you",
                reasons=(Reason.UNKNOWN_CALL, Reason.NO_TURN, Reason.TOO_MANY_REQUESTS),
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
        peers = {UserId(entry.record.peer) for entry in page.entries if entry.record.peer.startswith("@")}
        handles = {str(peer): await self._people.handle_of(peer) for peer in peers}
        return Calls(
            calls=[_entry(entry, handles.get(entry.record.peer)) for entry in page.entries], next=page.next_token
        )

    async def _credentials(self, call: Call) -> TurnCredentials | Refused:
        acct = await self._runtime.accounts.acct_of(call.user_id)
        call_id = CallId(call.path["call_id"])
        session_id = await self._runtime.database.run("calls_live", lambda cur: service.live_call(cur, acct, call_id))
        if isinstance(session_id, Refused):
            return session_id
        if self._turn is None:
            return Refused(
                reason=Reason.NO_TURN,
                message=(
                    "This homeserver has no TURN server for calls; connect directly, or ask its operator to set "
                    "calls.turn_uris."
                ),
            )
        refused = self._quota.take(call.user_id, self._runtime.now_ms())
        if refused is not None:
            return refused
        policy = (await self._screening.policy_of(call.user_id)).policy
        return self._turn.credentials(session_id, acct, self._runtime.now_ms(), relay_only=policy.relay_only)


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
        }
    )
