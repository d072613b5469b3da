"""The desk at which people of this and other homeservers get tokens for the SFU: who asks, may they, and as whom.

The answers are those of MSC4195 (`M_FORBIDDEN`, `M_INVALID_PARAM`), since stock clients ask.
"""

import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from prometheus_client import Counter
from synapse.module_api.errors import Codes, SynapseError

from super_app.conferences import rules, service, store
from super_app.conferences.model import MIN_DELAY_MS, Grant, Hall, Identity, Leave, Seat, SfuRoom
from super_app.conferences.rules import sfu_room_of
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import EventId, RoomId, ServerName, UserId, parse_user_id, server_of
from synapse_super_app.calls.limits import Limit
from synapse_super_app.conferences.entrance import Entrance
from synapse_super_app.conferences.halls import Halls
from synapse_super_app.conferences.livekit import LiveKit
from synapse_super_app.conferences.seats import Seats
from synapse_super_app.private_api import NoAnswer, span
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_OPENID_TIMEOUT_MS: Final = 10_000
_TOKEN_TIMEOUT_MS: Final = 10_000
_THEIR_DESK: Final = "/_matrix/federation/unstable/io.element.msc4195/rtc/livekit/get_token"

_tokens_total = Counter("superapp_sfu_tokens_total", "Tokens of the SFU that were asked for.", ["outcome"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """To enter the call of a slot as one device. ``publishes_here``: its media belongs on this SFU."""

    user_id: UserId
    room_id: RoomId
    slot_id: str
    identity: Identity
    publishes_here: bool

    @property
    def sfu_room(self) -> SfuRoom:
        return sfu_room_of(self.room_id, self.slot_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seated:
    """Somebody has a seat. ``is_unmade``: the room has to be made at the SFU first, for ``most`` devices."""

    grant: Grant
    hall: Hall
    most: int
    is_unmade: bool


class Desk:
    def __init__(self, runtime: Runtime, livekit: LiveKit, halls: Halls, seats: Seats, entrance: Entrance) -> None:
        self._runtime = runtime
        self._livekit = livekit
        self._halls = halls
        self._seats = seats
        self._entrance = entrance
        limits = runtime.config.calls.limits
        self._of_person = Limit(runtime, "tokens", limits.tokens, limits.window)
        self._of_server = Limit(runtime, "server_tokens", limits.server_tokens, limits.window)

    @property
    def url(self) -> str:
        """Where clients connect to the SFU."""
        return self._livekit.config.url

    def is_ours(self, user_id: UserId) -> bool:
        return server_of(user_id) == self._runtime.server_name

    async def token(self, wish: Wish) -> str:
        """A token for whoever is joined to the room.

        Raises:
            SynapseError: they get none.
        """
        with span("call.token"):
            return await self._token(wish)

    async def _token(self, wish: Wish) -> str:
        now_ms = self._runtime.now_ms()
        await self._count(wish.user_id, now_ms)
        if (grant := await self._at_once(wish, now_ms)) is not None:
            return self._given(wish, grant)
        await self._seats.written()
        while True:
            position = self._runtime.private.persisted_up_to()
            seated = await self._runtime.database.run("conferences_token", lambda cur: self._sit(cur, wish, now_ms))
            if not isinstance(seated, frozenset):
                break
            await self._halls.read(seated)
        if isinstance(seated, Refused):
            _tokens_total.labels(seated.reason.value).inc()
            raise SynapseError(HTTPStatus.FORBIDDEN, seated.message, Codes.FORBIDDEN)
        self._halls.remember(wish.room_id, seated.hall, position)
        if seated.is_unmade:
            await self._make_room(wish, seated.most)
        return self._given(wish, seated.grant)

    def _given(self, wish: Wish, grant: Grant) -> str:
        _tokens_total.labels("given").inc()
        return self._livekit.token(wish.sfu_room, wish.identity, grant)

    async def _at_once(self, wish: Wish, now_ms: int) -> Grant | None:
        """What somebody may do for whom the database need not be waited for; None to ask it."""
        hall = self._halls.known(wish.room_id)
        # Of a link it counts who is in the call, which the database knows.
        if hall is None or hall.link is not None or not self._seats.are_here:
            return None
        if not self._seats.is_made(wish.sfu_room, now_ms):
            return None
        if wish.room_id not in await self._runtime.private.rooms_of(wish.user_id):
            return None
        grant = rules.grant_of(hall, wish.user_id, publishes_here=wish.publishes_here)
        self._seats.give(self._seat(wish, grant, now_ms), wish.slot_id)
        return grant

    def _seat(self, wish: Wish, grant: Grant, now_ms: int) -> Seat:
        return Seat(
            sfu_room=wish.sfu_room,
            identity=wish.identity,
            room_id=wish.room_id,
            user_id=wish.user_id,
            publishes_here=wish.publishes_here,
            grant=grant,
            until_ms=now_ms + self._livekit.config.token_ttl,
        )

    def _sit(self, cur: Cursor, wish: Wish, now_ms: int) -> "_Seated | Refused | frozenset[EventId]":
        if not self._runtime.private.joined_of(cur, wish.room_id, (wish.user_id,)):
            return Refused(reason=Reason.NOT_IN_ROOM, message=_not_in_room(wish.user_id))
        halls = self._halls.of(cur, (wish.room_id,))
        if isinstance(halls, frozenset):
            return halls
        hall = halls[wish.room_id]
        most = self._livekit.config.max_participants
        if hall.link is not None:
            others = store.people_in(cur, wish.room_id) - {wish.user_id}
            refusal = rules.may_enter(hall, wish.user_id, now_ms, len(others))
            refusal = refusal or self._entrance.judge(cur, hall, wish.room_id, wish.user_id)
            if refusal is not None:
                return refusal
        grant = rules.grant_of(hall, wish.user_id, publishes_here=wish.publishes_here)
        seat = self._seat(wish, grant, now_ms)
        return _Seated(grant=grant, hall=hall, most=most, is_unmade=service.take_seat(cur, seat, wish.slot_id, now_ms))

    async def token_of(self, server: ServerName, body: dict[str, Any]) -> str:
        """A token of the SFU of another homeserver, which that one gives.

        Raises:
            SynapseError: it gives none.
        """
        room_id, user_id = RoomId(str(body["room_id"])), UserId(str(body["user_id"]))
        await self._count(user_id, self._runtime.now_ms())

        def is_joined(cur: Cursor) -> bool:
            return bool(self._runtime.private.joined_of(cur, room_id, (user_id,)))

        if not await self._runtime.database.run("conferences_joined", is_joined):
            raise not_in_room(user_id)
        if not await self._runtime.private.is_in_room(server, room_id):
            raise SynapseError(
                HTTPStatus.FORBIDDEN,
                f"{server} is not in this room, so it gives nobody here a token; use the call server of a member.",
                Codes.FORBIDDEN,
            )
        try:
            answer = await self._runtime.private.post_to_server(server, _THEIR_DESK, body, _TOKEN_TIMEOUT_MS)
        except NoAnswer as error:
            code = error.answer.get("errcode")
            if (error.status, code) in ((403, Codes.FORBIDDEN), (400, Codes.INVALID_PARAM)):
                said = str(error.answer.get("error", "It gave no reason."))
                raise SynapseError(error.status or 0, said, str(code)) from None
            raise unanswered(f"{server} gave no token for its call server; try again later.") from error
        token = answer.get("jwt")
        if not isinstance(token, str):
            raise unanswered(f"{server} gave no token for its call server; try again later.")
        return token

    async def user_of_openid(self, server: str, token: str, room_id: RoomId) -> UserId:
        """Whose OpenID token it is, as the homeserver says that issued it.

        Another homeserver is asked only if it is in the room.

        Raises:
            SynapseError: it is nobody's.
        """
        name = ServerName(server)
        if name == self._runtime.server_name:
            found = await self._runtime.private.user_of_openid_token(token, self._runtime.now_ms())
        else:
            if parse_user_id(f"@x:{server}") is None or not await self._runtime.private.is_in_room(name, room_id):
                raise not_in_room(f"Nobody of {server[:100]}")
            await self._count_server(name, self._runtime.now_ms())
            try:
                found = await self._runtime.private.openid_user_at(name, token, _OPENID_TIMEOUT_MS)
            except NoAnswer as error:
                logger.info("%s does not say whose OpenID token it is: %s", name, error)
                raise unanswered(f"{server} did not answer whose OpenID token this is; try again later.") from error
        if found is None or server_of(found) != name:
            _tokens_total.labels("openid_refused").inc()
            raise SynapseError(
                HTTPStatus.UNAUTHORIZED,
                "This OpenID token is not valid, or was not issued by that homeserver; ask for a new one.",
                Codes.UNAUTHORIZED,
            )
        return found

    async def delegate(self, wish: Wish, delay_id: str) -> None:
        """Look after a delayed leave event of somebody here.

        Raises:
            SynapseError: there is no such event of theirs in this room.
        """
        await self._seats.written()
        now_ms, private = self._runtime.now_ms(), self._runtime.private

        def take(cur: Cursor) -> str | None:
            if not self.is_ours(wish.user_id):
                return "Only the homeserver that holds a delayed event can look after it; ask your own."
            found = private.delayed_event(cur, wish.user_id, delay_id)
            if found is None or found[0] != wish.room_id:
                return "You have no delayed event of this delay_id in this room; schedule it first."
            if found[1] < MIN_DELAY_MS:
                return f"The event is due too soon to be looked after; give it a delay of {MIN_DELAY_MS} ms at least."
            leave = Leave(
                sfu_room=wish.sfu_room,
                identity=wish.identity,
                delay_id=delay_id,
                delay_ms=found[1],
                delegated_ms=now_ms,
                # It was scheduled at a time that we do not know: it is restarted at once.
                restarted_ms=0,
                was_connected=False,
                is_connected=False,
            )
            service.delegate(cur, leave)
            return None

        refusal = await self._runtime.database.run("conferences_delegate", take)
        if refusal is not None:
            raise SynapseError(HTTPStatus.BAD_REQUEST, refusal, Codes.INVALID_PARAM)

    async def _make_room(self, wish: Wish, most: int) -> None:
        try:
            await self._livekit.make_room(wish.sfu_room, most)
        except NoAnswer as error:
            _tokens_total.labels("sfu_unanswered").inc()
            logger.warning("LiveKit made no room: %s", error)
            raise unanswered("The call server does not answer; try again later.") from error
        now_ms = self._runtime.now_ms()
        self._seats.room_made(wish.sfu_room, now_ms)
        await self._runtime.database.run(
            "conferences_made", lambda cur: store.ensure(cur, wish.sfu_room, wish.room_id, wish.slot_id, now_ms)
        )

    async def _count(self, user_id: UserId, now_ms: int) -> None:
        if self.is_ours(user_id):
            _refuse_after(await self._of_person.take(user_id, now_ms))
        else:
            await self._count_server(server_of(user_id), now_ms)

    async def _count_server(self, server: ServerName, now_ms: int) -> None:
        _refuse_after(await self._of_server.take(server, now_ms))


def not_in_room(who: str) -> SynapseError:
    return SynapseError(HTTPStatus.FORBIDDEN, _not_in_room(who), Codes.FORBIDDEN)


def _not_in_room(who: str) -> str:
    return f"{who} is not joined to this room, or it is not known here; join it first."


def unanswered(message: str) -> SynapseError:
    return SynapseError(HTTPStatus.BAD_GATEWAY, message, Codes.UNKNOWN)


def _refuse_after(wait_ms: int | None) -> None:
    if wait_ms is not None:
        _tokens_total.labels("too_many").inc()
        raise SynapseError(
            HTTPStatus.TOO_MANY_REQUESTS,
            "You have asked for tokens of the call server very often; use the one that you have, or ask again later.",
            Codes.LIMIT_EXCEEDED,
            additional_fields={"retry_after_ms": wait_ms},
        )
