"""The client API's part about moving to another homeserver: announce at the new one, then move at the old one."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from super_app.directory import moves as rules
from super_app.directory.move_model import Arrival, Departure, Recovery
from super_app.errors import Reason, Refused
from super_app.wire import WireModel
from synapse_super_app.directory.budget import Budget
from synapse_super_app.directory.moves import Moves
from synapse_super_app.directory.own import OwnHandles
from synapse_super_app.http.routes import Auth, Call, Route
from synapse_super_app.runtime import Runtime


class ComeFrom(WireModel):
    """Who you were. The homeserver that you leave moves you when you tell it to, within a day."""

    come_from: Annotated[str, Field(alias="from", max_length=255)]
    """Your user id there, such as @alice:example.org."""
    claim: dict[str, Any] | None = None
    """Where that homeserver is gone: the word of your recovery key (``super-app recovery-key claim``)."""


class GoTo(WireModel):
    to: Annotated[str, Field(max_length=255)]
    """Your user id at the new homeserver, where you have announced yourself."""


class ShownDeparture(BaseModel):
    to: str
    to_acct: str
    to_handle: str
    moved: int
    """When, in milliseconds since 1970."""
    confirmed: bool
    """Whether the new homeserver has said that you are there; it is told again until it does."""
    forwarded_until: int


class ShownArrival(BaseModel):
    come_from: Annotated[str, Field(serialization_alias="from")]
    state: Literal["announced", "accepted", "recovering", "done"]
    """``accepted``: the old homeserver asked for you. ``recovering``: it has to be silent until ``silent_until``."""
    announced: int
    done: int | None = None
    silent_until: int | None = None


class OwnMove(BaseModel):
    user_id: str
    acct: str
    departure: ShownDeparture | None = None
    arrival: ShownArrival | None = None


_ELSEWHERE = (Reason.PEER_UNREACHABLE, Reason.BAD_RECORD, Reason.SERVER_FROZEN, Reason.TOO_MANY_REQUESTS)


class MoveRoutes:
    def __init__(self, runtime: Runtime, own: OwnHandles, moves: Moves) -> None:
        self._runtime = runtime
        self._own = own
        self._moves = moves
        self._steps = Budget(burst=30, every_ms=60_000)

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="account/move",
                handler=self.show,
                response=OwnMove,
                summary="Where your account went, and where it came from",
            ),
            Route(
                method="PUT",
                path="account/arrival",
                handler=self.announce,
                response=OwnMove,
                body=ComeFrom,
                summary="Say at the new homeserver who you were; then move at the old one",
                reasons=(
                    Reason.INVALID_VALUE,
                    Reason.CONFLICT,
                    Reason.NOT_ALLOWED,
                    Reason.BAD_SIGNATURE,
                    Reason.TOO_MANY_REQUESTS,
                ),
            ),
            Route(
                method="DELETE",
                path="account/arrival",
                handler=self.cancel,
                response=OwnMove,
                summary="Take back what you said about who you were, if nothing came of it yet",
                reasons=(Reason.INVALID_VALUE, Reason.CONFLICT),
            ),
            Route(
                method="PUT",
                path="account/departure",
                handler=self.depart,
                response=OwnMove,
                body=GoTo,
                auth=Auth.FRESH,
                summary="Move your account to another homeserver, for good: its handles lead there from now on",
                reasons=(
                    Reason.INVALID_VALUE,
                    Reason.CONFLICT,
                    Reason.NOT_ALLOWED,
                    Reason.HANDLE_FROZEN,
                    *_ELSEWHERE,
                ),
            ),
        )

    async def show(self, call: Call) -> OwnMove:
        return await self._shown(call)

    async def announce(self, call: Call) -> OwnMove | Refused:
        body: ComeFrom = call.body
        spent = self._steps.take(call.user_id, self._runtime.now_ms())
        if spent is not None:
            return spent
        if body.claim is None:
            done = await self._moves.announce(call.user_id, body.come_from)
        else:
            done = await self._moves.recover(call.user_id, body.come_from, body.claim)
        return done if isinstance(done, Refused) else await self._shown(call)

    async def cancel(self, call: Call) -> OwnMove | Refused:
        done = await self._moves.cancel(call.user_id)
        return done if isinstance(done, Refused) else await self._shown(call)

    async def depart(self, call: Call) -> OwnMove | Refused:
        body: GoTo = call.body
        spent = self._steps.take(call.user_id, self._runtime.now_ms())
        if spent is not None:
            return spent
        done = await self._moves.depart(call.user_id, body.to)
        return done if isinstance(done, Refused) else await self._shown(call)

    async def _shown(self, call: Call) -> OwnMove:
        departure, arrival, recovery = await self._moves.state(call.user_id)
        return OwnMove(
            user_id=call.user_id,
            acct=await self._own.acct_of(call.user_id),
            departure=None if departure is None else _departure(departure),
            arrival=None if arrival is None else _arrival(arrival, recovery),
        )


def _departure(gone: Departure) -> ShownDeparture:
    return ShownDeparture(
        to=gone.to_user_id,
        to_acct=gone.to_acct,
        to_handle=gone.to_handle,
        moved=gone.moved_ms,
        confirmed=gone.told_ms is not None,
        forwarded_until=gone.moved_ms + rules.FORWARD_MS,
    )


def _arrival(arrival: Arrival, recovery: Recovery | None) -> ShownArrival:
    return ShownArrival(
        come_from=arrival.from_user_id,
        state="recovering" if arrival.recovering and arrival.done_ms is None else arrival.state.value,
        announced=arrival.announced_ms,
        done=arrival.done_ms,
        silent_until=None if recovery is None else recovery.first_seen_ms + rules.UNCONTESTED_MS,
    )
