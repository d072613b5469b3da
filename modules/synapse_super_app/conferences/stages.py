"""Live rooms: who is host, speaker or listener, who asks to speak, and who may show a screen.

The roles stand in room state (``org.superapp.call.roles``), so each homeserver of the room enforces them at its own
SFU. Who may send that state, by the room's power levels, may change them; the API sends it as the host who asked. A
hand is a message event that everybody may send; the homeserver of the first host writes it into the state.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field
from synapse.module_api import NOT_SPAM, EventBase
from synapse.module_api.errors import SynapseError

from super_app.conferences import content, rules, store
from super_app.conferences.model import Role, Roles, ScreenShare
from super_app.errors import Reason, Refused
from super_app.ids import RoomId, UserId, parse_user_id
from super_app.names import EventType
from super_app.wire import WireModel
from synapse_super_app.conferences.entrance import Entrance
from synapse_super_app.conferences.halls import Halls, zone_of
from synapse_super_app.follower import EventHandler
from synapse_super_app.gate import GateHandler, Verdict
from synapse_super_app.http.refusals import error_of
from synapse_super_app.http.routes import Call, Route
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_NOT_FOUND: Final = 404


class StageBody(WireModel):
    """``stage``: only hosts and speakers are heard. What is left out stays as it is."""

    stage: bool | None = None
    media: Literal["audio", "video"] | None = None
    screen_share: Literal["speakers", "hosts", "nobody"] | None = None


class RoleBody(WireModel):
    role: Literal["host", "speaker", "listener"]


class HandBody(WireModel):
    raised: bool


class AskShown(BaseModel):
    """What a minute costs, whom it is paid to, and by which link it is confirmed (``link`` of ``POST paid_calls``)."""

    amount: Annotated[int, Field(description="Minor units a minute.")]
    currency: str
    payee: str
    link: str


class StageShown(BaseModel):
    """The call of a room as it is ruled now."""

    room_id: str
    stage: bool
    media: Literal["audio", "video"]
    screen_share: Literal["speakers", "hosts", "nobody"]
    hosts: list[str]
    speakers: list[str]
    hands: Annotated[list[str], Field(description="Who asks to speak, the first first.")]
    present: Annotated[list[str], Field(description="Who is connected to this homeserver's SFU.")]
    your_role: Literal["host", "speaker", "listener"]
    can_publish: Annotated[list[str], Field(description="What you may send: camera, microphone, screen_share, …")]
    asks: Annotated[AskShown | None, Field(description="What you have to confirm before you come in.")] = None


class Stages:
    def __init__(self, runtime: Runtime, halls: Halls, entrance: Entrance) -> None:
        self._runtime = runtime
        self._halls = halls
        self._entrance = entrance

    def routes(self) -> Sequence[Route]:
        where = "call_rooms/{room_id}"
        return (
            Route(
                method="GET",
                path=where,
                handler=self._show,
                response=StageShown,
                summary="Who is host, speaker or listener in the call of a room, who is there, and what you may send",
                reasons=(Reason.NOT_IN_ROOM,),
            ),
            Route(
                method="PUT",
                path=where,
                handler=self._change,
                body=StageBody,
                response=StageShown,
                summary="Make the call of a room a stage or an ordinary call, and say who may show a screen",
                reasons=(Reason.NOT_IN_ROOM, Reason.NOT_ALLOWED),
            ),
            Route(
                method="PUT",
                path=where + "/roles/{user_id}",
                handler=self._promote,
                body=RoleBody,
                response=StageShown,
                summary="Promote or demote somebody",
                reasons=(Reason.NOT_IN_ROOM, Reason.NOT_ALLOWED, Reason.CONFLICT),
            ),
            Route(
                method="PUT",
                path=where + "/hand",
                handler=self._hand,
                body=HandBody,
                response=StageShown,
                summary="Ask to speak, or take that back",
                reasons=(Reason.NOT_IN_ROOM, Reason.NOT_ALLOWED),
            ),
        )

    def gate(self) -> Mapping[str, GateHandler]:
        return {
            EventType.CALL_ROLES.value: self._on_rules,
            EventType.CALL_LINK.value: self._on_rules,
            EventType.CALL_HAND.value: self._on_hand_at_gate,
        }

    def followed(self) -> Mapping[str, EventHandler]:
        return {EventType.CALL_HAND.value: self._on_hand}

    # At the gate.

    async def _on_rules(self, event: EventBase) -> Verdict:
        if not self._runtime.api.is_mine(event.sender):
            return NOT_SPAM
        if not event.is_state() or event.state_key != "":
            raise error_of(
                _wrong(f"{event.type} is room state with an empty state key; send it as such, or use the API.")
            )
        said = event.get_dict()["content"]
        read = content.read_link(said, zone_of) if event.type == EventType.CALL_LINK else content.read_roles(said)
        if said and isinstance(read, Refused):
            raise error_of(read)
        return NOT_SPAM

    async def _on_hand_at_gate(self, event: EventBase) -> Verdict:
        if self._runtime.api.is_mine(event.sender):
            said = event.get_dict()["content"]
            if event.is_state() or set(said) != {"raised"} or type(said["raised"]) is not bool:
                raise error_of(
                    _wrong(f'{event.type} is a message event whose content is {{"raised": true}} or false; send that.')
                )
        self._runtime.follower.expect()
        return NOT_SPAM

    # Hands, followed.

    async def _on_hand(self, event: EventBase) -> None:
        raised = event.content.get("raised")
        if type(raised) is not bool:
            return
        room_id = RoomId(event.room_id)
        async with self._halls.changing(room_id):
            await self._raise_or_lower(room_id, UserId(event.sender), raised=raised)

    async def _raise_or_lower(self, room_id: RoomId, user_id: UserId, *, raised: bool) -> None:
        roles = (await self._halls.now(room_id)).roles
        if roles is None or not roles.hosts or not self._runtime.api.is_mine(roles.hosts[0]):
            # Nobody's business, or that of another homeserver.
            return
        changed = rules.with_hand(roles, user_id, raised=raised, most=content.PEOPLE_MAX)
        if changed == roles:
            return
        try:
            await self._write(roles.hosts[0], room_id, changed)
        except SynapseError as error:
            # The host has left, or has no power any more; who has some can name another one.
            logger.info("A hand in %s could not be shown: %s", room_id, error)

    # Routes.

    async def _show(self, call: Call) -> StageShown | Refused:
        return await self._shown(call.user_id, RoomId(call.path["room_id"]))

    async def _shown(self, user_id: UserId, room_id: RoomId) -> StageShown | Refused:
        if not await self._is_in(user_id, room_id):
            return _not_in_room(room_id)
        hall = await self._halls.now(room_id)
        roles = hall.roles or Roles()
        present, ask = await self._runtime.database.run(
            "calls_present",
            lambda cur: (store.people_in(cur, room_id), self._entrance.unpaid(cur, hall, room_id, user_id)),
        )
        grant = rules.grant_of(hall, user_id, publishes_here=True)
        everything = sorted(rules.EVERYTHING if grant.sources is None else grant.sources)
        return StageShown.model_validate(
            {
                **content.roles_content(roles),
                "room_id": room_id,
                "present": sorted(present),
                "your_role": rules.role_of(hall.roles, user_id).value,
                "can_publish": [source.value for source in everything] if grant.can_publish else [],
                "asks": None
                if ask is None
                else {
                    "amount": ask.price.amount_minor,
                    "currency": ask.price.currency,
                    "payee": ask.payee,
                    "link": ask.link,
                },
            }
        )

    async def _change(self, call: Call) -> StageShown | Refused:
        async with self._halls.changing(RoomId(call.path["room_id"])):
            return await self._change_alone(call)

    async def _change_alone(self, call: Call) -> StageShown | Refused:
        body: StageBody = call.body
        roles = await self._roles_for(call)
        if isinstance(roles, Refused):
            return roles
        if not roles.hosts:
            roles = replace(roles, hosts=(call.user_id,))
        if body.stage is not None:
            roles = replace(roles, stage=body.stage, hands=roles.hands if body.stage else ())
        if body.media is not None:
            roles = replace(roles, audio_only=body.media == "audio")
        if body.screen_share is not None:
            roles = replace(roles, screen_share=ScreenShare(body.screen_share))
        return await self._written(call, roles)

    async def _promote(self, call: Call) -> StageShown | Refused:
        async with self._halls.changing(RoomId(call.path["room_id"])):
            return await self._promote_alone(call)

    async def _promote_alone(self, call: Call) -> StageShown | Refused:
        body: RoleBody = call.body
        user_id = parse_user_id(call.path["user_id"])
        if user_id is None:
            return _wrong(f"{call.path['user_id'][:100]!r} is no user id.")
        roles = await self._roles_for(call)
        if isinstance(roles, Refused):
            return roles
        if not await self._is_in(user_id, RoomId(call.path["room_id"])):
            return Refused(reason=Reason.NOT_IN_ROOM, message=f"{user_id} is not in this room; invite them first.")
        if not roles.hosts:
            roles = replace(roles, hosts=(call.user_id,))
        changed = rules.with_role(roles, user_id, Role(body.role))
        return changed if isinstance(changed, Refused) else await self._written(call, changed)

    async def _hand(self, call: Call) -> StageShown | Refused:
        body: HandBody = call.body
        room_id = RoomId(call.path["room_id"])
        if not await self._is_in(call.user_id, room_id):
            return _not_in_room(room_id)
        try:
            await self._runtime.api.create_and_send_event_into_room(
                {
                    "type": EventType.CALL_HAND.value,
                    "room_id": room_id,
                    "sender": call.user_id,
                    "content": {"raised": body.raised},
                }
            )
        except SynapseError as error:
            return _not_allowed(error)
        return await self._shown(call.user_id, room_id)

    async def _roles_for(self, call: Call) -> Roles | Refused:
        """The roles, for somebody who may change them: a host, or, of a call without hosts, whoever has the power."""
        room_id = RoomId(call.path["room_id"])
        if not await self._is_in(call.user_id, room_id):
            return _not_in_room(room_id)
        roles = (await self._halls.now(room_id)).roles or Roles()
        if roles.hosts and call.user_id not in roles.hosts:
            return Refused(
                reason=Reason.NOT_ALLOWED, message=f"Only a host of this call does that; ask {roles.hosts[0]}."
            )
        return roles

    async def _written(self, call: Call, roles: Roles) -> StageShown | Refused:
        try:
            await self._write(call.user_id, RoomId(call.path["room_id"]), roles)
        except SynapseError as error:
            return _not_allowed(error)
        return await self._shown(call.user_id, RoomId(call.path["room_id"]))

    async def _write(self, sender: UserId, room_id: RoomId, roles: Roles) -> None:
        event: dict[str, Any] = {
            "type": EventType.CALL_ROLES.value,
            "room_id": room_id,
            "sender": sender,
            "state_key": "",
            "content": content.roles_content(roles),
        }
        await self._runtime.api.create_and_send_event_into_room(event)

    async def _is_in(self, user_id: UserId, room_id: RoomId) -> bool:
        joined = await self._runtime.database.run(
            "calls_in_room", lambda cur: self._runtime.private.joined_of(cur, room_id, (user_id,))
        )
        return bool(joined)


def _not_in_room(room_id: RoomId) -> Refused:
    return Refused(reason=Reason.NOT_IN_ROOM, message=f"You are not in the room {room_id[:255]}; join it first.")


def _not_allowed(error: SynapseError) -> Refused:
    return Refused(
        reason=Reason.NOT_ALLOWED,
        message=f"The room does not let you do that ({error.msg}); ask who has the power in it.",
    )


def _wrong(message: str) -> Refused:
    return Refused(reason=Reason.INVALID_VALUE, message=message)
