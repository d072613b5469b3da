"""Links into calls: made by a host, opened by anybody of any homeserver, with opening hours, a waiting room, a maximum.

A link is ``<link_id>@<server>``. Whoever opens it asks that homeserver by way of their own, which vouches for them
(federation query ``org.superapp.call.link``). Who is admitted is invited to the room as its host would, and joins it;
what they may do there is the business of roles, and of who gives tokens.
"""

import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field
from synapse.module_api.errors import SynapseError

from super_app.calls.events import CALL_MEMBER
from super_app.conferences import content, rules, service, store
from super_app.conferences.model import GuestState, Hall, Link, LinkTerms, Role, Roles, ScreenShare
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import RoomId, ServerName, UserId, parse_user_id, server_of
from super_app.money import Money
from super_app.names import EventType, FederationQuery
from super_app.wire import Text, WireModel
from synapse_super_app.calls.limits import Limit
from synapse_super_app.conferences.entrance import Entrance, no_money, price_content
from synapse_super_app.conferences.halls import Halls, zone_of
from synapse_super_app.http.refusals import error_of
from synapse_super_app.http.routes import Call, Route
from synapse_super_app.private_api import NoAnswer
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_TIMEOUT_MS: Final = 20_000
_KNOCKS: Final = 300
"""How often the people of one other homeserver may open links here, per window."""
_KNOCKS_OF_ONE: Final = 60
_WINDOW_MS: Final = 600_000
_ID_BYTES: Final = 16

_Time = Annotated[int | None, Field(ge=0, le=content.LAST_TIME_MS, description="Milliseconds since 1970.")]
_FORBIDDEN: Final = 403


class PriceBody(WireModel):
    """What each minute in the call costs whoever comes in and is no host."""

    amount: Annotated[int, Field(ge=1, le=content.PRICE_MAX_MINOR, description="Minor units a minute.")]
    currency: Annotated[Text, Field(max_length=16)]


class PriceShown(BaseModel):
    amount: Annotated[int, Field(description="Minor units a minute.")]
    currency: str


class MakeLink(WireModel):
    """``room_id``: a room of this homeserver in which you may change state; without it one is made."""

    room_id: Annotated[Text, Field(max_length=255)] | None = None
    title: Annotated[Text, Field(max_length=200)] = ""
    opens_ts: _Time = None
    closes_ts: _Time = None
    hours: content.HoursBody | None = None
    waiting_room: bool = False
    max: Annotated[int, Field(ge=0, le=100_000, description="People in the call at once; 0 for any number.")] = 0
    stage: Annotated[bool, Field(description="Only hosts and speakers are heard.")] = False
    media: Literal["audio", "video"] = "video"
    screen_share: Literal["speakers", "hosts", "nobody"] = "speakers"
    price: Annotated[PriceBody | None, Field(description="Paid to you, by the second, by whoever is in the call.")] = (
        None
    )


_POWERS: Final = {
    "m.room.name": 50,
    "m.room.avatar": 50,
    "m.room.canonical_alias": 50,
    "m.room.power_levels": 100,
    "m.room.history_visibility": 100,
    "m.room.tombstone": 100,
    "m.room.server_acl": 100,
    "m.room.encryption": 100,
    # Whoever comes by the link says for themselves that they are in the call.
    CALL_MEMBER: 0,
}
"""What an event takes in a room that is made for a call: as in any room, but that memberships are everybody's own."""


class LinkShown(BaseModel):
    link: Annotated[str, Field(description="What to pass on.")]
    title: str
    host: str
    is_open: bool
    opens_ts: Annotated[int | None, Field(description="When it opens, if it is closed and that is known.")] = None
    closes_ts: int | None = None
    waiting_room: bool
    max: int
    price: Annotated[PriceShown | None, Field(description="What a minute costs who is no host.")] = None
    room_id: Annotated[str | None, Field(description="To its host alone.")] = None
    waiting: Annotated[int | None, Field(description="To its host alone: how many wait.")] = None


class LinksShown(BaseModel):
    links: list[LinkShown]


class Knocked(BaseModel):
    """``waiting``: a host has to admit you; ask again, or wait for the invitation. ``joined``: you are in the room."""

    state: Literal["waiting", "joined"]
    room_id: str | None = None


class GuestsShown(BaseModel):
    waiting: list["GuestShown"]


class GuestShown(BaseModel):
    user_id: str
    asked_ts: int


class GuestBody(WireModel):
    user_id: Annotated[Text, Field(max_length=255)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a link of this homeserver asks of one person. ``price`` is None for who has nothing to pay."""

    host: UserId
    room_id: RoomId
    price: Money | None


class Links:
    def __init__(self, runtime: Runtime, halls: Halls, entrance: Entrance) -> None:
        self._runtime = runtime
        self._halls = halls
        self._entrance = entrance
        self._of_server = Limit(runtime, "server_knocks", _KNOCKS, _WINDOW_MS)
        self._of_person = Limit(runtime, "knocks", _KNOCKS_OF_ONE, _WINDOW_MS)
        runtime.private.answer_query(FederationQuery.CALL_LINK, self._answer)

    def routes(self) -> Sequence[Route]:
        where = "call_links/{link}"
        return (
            Route(
                method="POST",
                path="call_links",
                handler=self._make,
                body=MakeLink,
                response=LinkShown,
                summary="Make a link into a call, with opening hours, a waiting room and a maximum if you like",
                reasons=(
                    Reason.NOT_IN_ROOM,
                    Reason.NOT_ALLOWED,
                    Reason.CONFLICT,
                    Reason.INVALID_AMOUNT,
                    Reason.UNKNOWN_CURRENCY,
                ),
            ),
            Route(
                method="GET",
                path="call_links",
                handler=self._list,
                response=LinksShown,
                summary="The links that you made, newest first",
            ),
            Route(
                method="GET",
                path=where,
                handler=self._look,
                response=LinkShown,
                summary="What a link leads to, of whatever homeserver, and whether it is open",
                reasons=(Reason.UNKNOWN_CALL_LINK, Reason.PEER_UNREACHABLE, Reason.TOO_MANY_REQUESTS),
            ),
            Route(
                method="DELETE",
                path=where,
                handler=self._delete,
                response=LinksShown,
                summary="Delete a link of yours; who came in by it stays",
                reasons=(Reason.UNKNOWN_CALL_LINK, Reason.NOT_ALLOWED),
            ),
            Route(
                method="POST",
                path=where + "/join",
                handler=self._join,
                response=Knocked,
                summary="Come in by a link, or wait to be let in; the same again says how it stands",
                reasons=(
                    Reason.UNKNOWN_CALL_LINK,
                    Reason.CALL_CLOSED,
                    Reason.CALL_FULL,
                    Reason.TURNED_AWAY,
                    Reason.PRICE_NOT_CONFIRMED,
                    Reason.NOT_ALLOWED,
                    Reason.PEER_UNREACHABLE,
                    Reason.TOO_MANY_REQUESTS,
                ),
            ),
            Route(
                method="GET",
                path=where + "/waiting",
                handler=self._waiting,
                response=GuestsShown,
                summary="Who waits to be let in by a link, for hosts",
                reasons=(Reason.UNKNOWN_CALL_LINK, Reason.NOT_ALLOWED),
            ),
            Route(
                method="POST",
                path=where + "/admit",
                handler=self._admit,
                body=GuestBody,
                response=GuestsShown,
                summary="Let somebody in",
                reasons=(Reason.UNKNOWN_CALL_LINK, Reason.NOT_ALLOWED),
            ),
            Route(
                method="POST",
                path=where + "/turn_away",
                handler=self._turn_away,
                body=GuestBody,
                response=GuestsShown,
                summary="Do not let somebody in, now or later",
                reasons=(Reason.UNKNOWN_CALL_LINK, Reason.NOT_ALLOWED),
            ),
        )

    # Hosts.

    async def _make(self, call: Call) -> LinkShown | Refused:
        body: MakeLink = call.body
        link_id = secrets.token_hex(_ID_BYTES)
        price = self._price(body.price)
        if isinstance(price, Refused):
            return price
        said = {
            "link_id": link_id,
            "title": body.title,
            "opens_ms": body.opens_ts,
            "closes_ms": body.closes_ts,
            "hours": None if body.hours is None else body.hours.model_dump(by_alias=True, exclude_none=True),
            "waiting_room": body.waiting_room,
            "max": body.max,
            "price": None if price is None else price_content(price, call.user_id),
        }
        said = {key: value for key, value in said.items() if value is not None}
        terms = content.read_link(said, zone_of)
        if isinstance(terms, Refused):
            return terms
        known = await self._runtime.database.run("calls_links", lambda cur: store.links_of(cur, call.user_id))
        if refusal := service.too_many_links(known):
            return refusal
        room_id = await self._room(call.user_id, body)
        if isinstance(room_id, Refused):
            return room_id
        async with self._halls.changing(room_id):
            if refusal := await self._rule(call.user_id, room_id, body, said):
                return refusal
        link = Link(link_id=link_id, room_id=room_id, host=call.user_id, made_ms=self._runtime.now_ms())
        await self._runtime.database.run("calls_link", lambda cur: store.add_link(cur, link))
        return self._shown(link, terms, waiting=0)

    def _price(self, body: PriceBody | None) -> Money | Refused | None:
        if body is None:
            return None
        passes = self._entrance.passes
        return no_money() if passes is None else passes.judge_price(body.amount, body.currency)

    async def _rule(self, user_id: UserId, room_id: RoomId, body: MakeLink, said: dict[str, Any]) -> Refused | None:
        """Write the roles and the terms of a link into its room."""
        hall = await self._halls.now(room_id)
        roles = replace(
            hall.roles or Roles(hosts=(user_id,)),
            stage=body.stage,
            audio_only=body.media == "audio",
            screen_share=ScreenShare(body.screen_share),
        )
        if user_id not in roles.hosts:
            return Refused(reason=Reason.NOT_ALLOWED, message="Only a host of this room's call makes a link into it.")
        try:
            await self._send_state(user_id, room_id, EventType.CALL_ROLES, content.roles_content(roles))
            await self._send_state(user_id, room_id, EventType.CALL_LINK, said)
        except SynapseError as error:
            return _not_allowed(error)
        return None

    async def _room(self, user_id: UserId, body: MakeLink) -> RoomId | Refused:
        if body.room_id is None:
            config: dict[str, Any] = {
                "preset": "private_chat",
                "name": body.title or "Call",
                "power_level_content_override": {"events": _POWERS},
            }
            room_id, _ = await self._runtime.api.create_room(user_id, config, ratelimit=True)
            return RoomId(room_id)
        room_id = RoomId(body.room_id)
        joined = await self._runtime.database.run(
            "calls_in_room", lambda cur: self._runtime.private.joined_of(cur, room_id, (user_id,))
        )
        if not joined:
            return Refused(reason=Reason.NOT_IN_ROOM, message="You are not in that room; join it first.")
        return room_id

    async def _list(self, call: Call) -> LinksShown:
        links = await self._runtime.database.run("calls_links", lambda cur: store.links_of(cur, call.user_id))
        found: list[LinkShown] = []
        for link in links:
            terms = _terms(await self._halls.now(link.room_id), link)
            if terms is not None:
                found.append(self._shown(link, terms, waiting=await self._count_waiting(link)))
        return LinksShown(links=found)

    async def _delete(self, call: Call) -> LinksShown | Refused:
        link = await self._hosted(call)
        if isinstance(link, Refused):
            return link
        if _terms(await self._halls.now(link.room_id), link) is not None:
            try:
                await self._send_state(call.user_id, link.room_id, EventType.CALL_LINK, {})
            except SynapseError as error:
                return _not_allowed(error)
        await self._runtime.database.run("calls_link_drop", lambda cur: store.drop_link(cur, link.link_id))
        return await self._list(call)

    async def _waiting(self, call: Call) -> GuestsShown | Refused:
        link = await self._hosted(call)
        return link if isinstance(link, Refused) else await self._guests(link)

    async def _guests(self, link: Link) -> GuestsShown:
        guests = await self._runtime.database.run("calls_waiting", lambda cur: store.waiting(cur, link.link_id))
        return GuestsShown(waiting=[GuestShown(user_id=each.user_id, asked_ts=each.asked_ms) for each in guests])

    async def _admit(self, call: Call) -> GuestsShown | Refused:
        return await self._decide(call, GuestState.ADMITTED)

    async def _turn_away(self, call: Call) -> GuestsShown | Refused:
        return await self._decide(call, GuestState.AWAY)

    async def _decide(self, call: Call, state: GuestState) -> GuestsShown | Refused:
        body: GuestBody = call.body
        guest, now_ms = parse_user_id(body.user_id), self._runtime.now_ms()
        if guest is None:
            return Refused(reason=Reason.INVALID_VALUE, message="user_id is no user id.")
        link = await self._hosted(call)
        if isinstance(link, Refused):
            return link
        if state is GuestState.ADMITTED and (refusal := await self._invite(call.user_id, link.room_id, guest)):
            return refusal
        await self._runtime.database.run(
            "calls_decide", lambda cur: service.decide(cur, link.link_id, guest, state, now_ms)
        )
        return await self._guests(link)

    async def _hosted(self, call: Call) -> Link | Refused:
        """A link of this homeserver, for a host of its call."""
        link_id, server = _parts(call.path["link"], self._runtime.server_name)
        link = None
        if server == self._runtime.server_name:
            link = await self._runtime.database.run("calls_link_of", lambda cur: store.link_of(cur, link_id))
        if link is None:
            return _unknown()
        if link.host != call.user_id:
            roles = (await self._halls.now(link.room_id)).roles
            if rules.role_of(roles, call.user_id) is not Role.HOST:
                return Refused(reason=Reason.NOT_ALLOWED, message="Only a host of that call does this.")
        return link

    # Guests.

    async def _look(self, call: Call) -> LinkShown | Refused:
        return await self.look(call.path["link"], call.user_id)

    async def look(self, link: str, user_id: UserId) -> LinkShown | Refused:
        """What a link of whatever homeserver leads to, as it says to one of our people."""
        answer = await self._ask(link, user_id, "look")
        return answer if isinstance(answer, Refused) else LinkShown.model_validate(answer)

    async def asked_of(self, link_id: str, user_id: UserId) -> Asked | Refused:
        """What a link of ours asks of somebody before they come in, and where it leads to."""
        link = await self._runtime.database.run("calls_link_of", lambda cur: store.link_of(cur, link_id))
        hall = None if link is None else await self._halls.now(link.room_id)
        if link is None or hall is None or _terms(hall, link) is None:
            return _unknown()
        room_id, ask = link.room_id, self._entrance.ask_of(hall, user_id)
        return Asked(
            host=link.host,
            room_id=room_id,
            # Who made the link is paid, whatever the room says meanwhile.
            price=None if ask is None or ask.payee != link.host else ask.price,
        )

    async def _join(self, call: Call) -> Knocked | Refused:
        answer = await self._ask(call.path["link"], call.user_id, "join")
        if isinstance(answer, Refused):
            return answer
        knocked = Knocked.model_validate(answer)
        _, server = _parts(call.path["link"], self._runtime.server_name)
        if knocked.state == "waiting" or knocked.room_id is None:
            return knocked
        room_id = knocked.room_id
        joined = await self._runtime.database.run(
            "calls_in_room", lambda cur: self._runtime.private.joined_of(cur, RoomId(room_id), (call.user_id,))
        )
        if not joined:
            try:
                await self._runtime.api.update_room_membership(
                    call.user_id, call.user_id, room_id, "join", remote_room_hosts=[server]
                )
            except SynapseError as error:
                return _not_allowed(error)
        return knocked

    async def _ask(self, link: str, user_id: UserId, act: str) -> Mapping[str, Any] | Refused:
        link_id, server = _parts(link, self._runtime.server_name)
        wait_ms = await self._of_person.take(user_id, self._runtime.now_ms())
        if wait_ms is not None:
            return _too_many(wait_ms)
        if server == self._runtime.server_name:
            return await self._answered(link_id, user_id, act)
        if parse_user_id(f"@x:{server}") is None:
            return _unknown()
        arguments = {"link_id": link_id, "user_id": user_id, "act": act}
        try:
            return await self._runtime.private.query(server, FederationQuery.CALL_LINK, arguments, _TIMEOUT_MS)
        except NoAnswer as error:
            return _passed_on(error, server)

    async def _answer(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Another homeserver asks for one of its people.

        Raises:
            SynapseError: the answer is no.
        """
        user_id, origin = parse_user_id(str(arguments.get("user_id", ""))), ServerName(str(arguments["origin"]))
        if user_id is None or server_of(user_id) != origin:
            raise error_of(
                Refused(reason=Reason.WRONG_ORIGIN, message="user_id is nobody of the homeserver that asks.")
            )
        wait_ms = await self._of_server.take(origin, self._runtime.now_ms())
        answer: Mapping[str, Any] | Refused = (
            await self._answered(str(arguments.get("link_id", "")), user_id, str(arguments.get("act", "")))
            if wait_ms is None
            else _too_many(wait_ms)
        )
        if isinstance(answer, Refused):
            raise error_of(answer)
        return dict(answer)

    async def _answered(self, link_id: str, user_id: UserId, act: str) -> Mapping[str, Any] | Refused:
        link = await self._runtime.database.run("calls_link_of", lambda cur: store.link_of(cur, link_id))
        if link is None:
            return _unknown()
        hall = await self._halls.now(link.room_id)
        terms = _terms(hall, link)
        if terms is None:
            return _unknown()
        if act == "join":
            return await self._knocked(link, terms, hall, user_id)
        waiting = await self._count_waiting(link) if user_id == link.host else None
        return self._shown(link, terms, waiting=waiting).model_dump(mode="json", exclude_none=True)

    async def _knocked(self, link: Link, terms: LinkTerms, hall: Hall, user_id: UserId) -> Mapping[str, Any] | Refused:
        now_ms = self._runtime.now_ms()
        in_room, present, unpaid = await self._runtime.database.run(
            "calls_knock_look",
            lambda cur: (
                self._runtime.private.joined_of(cur, link.room_id, (user_id,)),
                store.people_in(cur, link.room_id),
                self._judge_guest(cur, link, hall, user_id),
            ),
        )
        if refusal := rules.may_enter(hall, user_id, now_ms, len(present - {user_id})) or unpaid:
            return refusal
        if in_room:
            return {"state": "joined", "room_id": link.room_id}
        state = await self._runtime.database.run(
            "calls_knock",
            lambda cur: service.knock(cur, link.link_id, user_id, now_ms, waiting_room=terms.waiting_room),
        )
        if isinstance(state, Refused):
            return state
        if state is GuestState.WAITING:
            return {"state": "waiting"}
        refused = await self._invite(link.host, link.room_id, user_id)
        return refused or {"state": "joined", "room_id": link.room_id}

    def _judge_guest(self, cur: Cursor, link: Link, hall: Hall, user_id: UserId) -> Refused | None:
        """Whether they have to pay first. Whoever was turned away hears that, and of no price."""
        guest = store.guest_of(cur, link.link_id, user_id)
        if guest is not None and guest.state is GuestState.AWAY:
            return None
        return self._entrance.judge_guest(cur, hall, user_id)

    async def _invite(self, host: UserId, room_id: RoomId, guest: UserId) -> Refused | None:
        """Invite somebody who is neither in the room nor invited."""
        member = (await self._runtime.api.get_room_state(room_id, [("m.room.member", guest)])).get(
            ("m.room.member", guest)
        )
        if member is not None and member.content.get("membership") in ("join", "invite"):
            return None
        try:
            await self._runtime.api.update_room_membership(host, guest, room_id, "invite")
        except SynapseError as error:
            return _not_allowed(error)
        return None

    async def _count_waiting(self, link: Link) -> int:
        return len(await self._runtime.database.run("calls_waiting", lambda cur: store.waiting(cur, link.link_id)))

    def _shown(self, link: Link, terms: LinkTerms, *, waiting: int | None) -> LinkShown:
        closed = rules.closed_until(terms, self._runtime.now_ms())
        opens_ts = None if closed is None else closed.fields.get("opens_ts")
        return LinkShown(
            link=f"{link.link_id}@{self._runtime.server_name}",
            title=terms.title,
            host=link.host,
            is_open=closed is None,
            opens_ts=opens_ts if isinstance(opens_ts, int) else None,
            closes_ts=terms.closes_ms,
            waiting_room=terms.waiting_room,
            max=terms.most,
            price=None
            if terms.price is None
            else PriceShown(amount=terms.price.amount_minor, currency=terms.price.currency),
            room_id=None if waiting is None else link.room_id,
            waiting=waiting,
        )

    async def _send_state(
        self, sender: UserId, room_id: RoomId, event_type: EventType, said: Mapping[str, Any]
    ) -> None:
        await self._runtime.api.create_and_send_event_into_room(
            {"type": event_type.value, "room_id": room_id, "sender": sender, "state_key": "", "content": dict(said)}
        )


def _terms(hall: Hall, link: Link) -> LinkTerms | None:
    """The terms of a link, if it is still the one of its room."""
    found = hall.link
    return found if found is not None and found.link_id == link.link_id and not hall.garbled else None


def _parts(link: str, here: ServerName) -> tuple[str, ServerName]:
    link_id, _, server = link.partition("@")
    return link_id[:64], ServerName(server[:255] or here)


def _unknown() -> Refused:
    return Refused(
        reason=Reason.UNKNOWN_CALL_LINK,
        message="There is no such link to a call, or it was deleted; ask whoever gave it to you for another one.",
    )


def _too_many(wait_ms: int) -> Refused:
    return Refused(
        reason=Reason.TOO_MANY_REQUESTS,
        message="Links were opened very often in a short time; wait a while before you try again.",
        fields={"retry_after_ms": wait_ms},
    )


def _not_allowed(error: SynapseError) -> Refused:
    return Refused(
        reason=Reason.NOT_ALLOWED,
        message=f"The room does not let that happen ({error.msg}); ask who has the power in it.",
    )


_PASSED_ON: Final = {
    f"ORG.SUPERAPP.{reason.name}": reason
    for reason in (
        Reason.UNKNOWN_CALL_LINK,
        Reason.CALL_CLOSED,
        Reason.CALL_FULL,
        Reason.TURNED_AWAY,
        Reason.PRICE_NOT_CONFIRMED,
        Reason.NOT_ALLOWED,
        Reason.TOO_MANY_REQUESTS,
    )
}


def _passed_on(error: NoAnswer, server: ServerName) -> Refused:
    """What another homeserver refused, in its words if it is one of ours."""
    reason, said = _PASSED_ON.get(str(error.answer.get("errcode"))), error.answer.get("error")
    if reason is None or not isinstance(said, str):
        return Refused(
            reason=Reason.PEER_UNREACHABLE, message=f"{server} did not answer for that link; try again later."
        )
    numbers = ("opens_ts", "retry_after_ms", "amount")
    more: dict[str, Any] = {key: error.answer[key] for key in numbers if isinstance(error.answer.get(key), int)}
    more |= {key: error.answer[key][:16] for key in ("currency", "per") if isinstance(error.answer.get(key), str)}
    return Refused(reason=reason, message=said[:500], fields=more)
