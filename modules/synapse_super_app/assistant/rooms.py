"""The rooms in which the assistant and its people talk."""

import logging
from collections.abc import Mapping
from typing import Any, Final

from synapse.module_api.errors import SynapseError

from super_app.assistant import store
from super_app.ids import EventId, RoomId, UserId
from synapse_super_app.assistant.account import Account
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_MEMBER: Final = "m.room.member"
_ENCRYPTION: Final = "m.room.encryption"
_DIRECT: Final = "m.direct"
_PRESENT: Final = ("join", "invite")


class Rooms:
    """Opens them and says things in them. What one person hears is sent one after the other by whoever calls."""

    def __init__(self, runtime: Runtime, account: Account) -> None:
        self._runtime = runtime
        self._account = account

    async def say(self, user_id: UserId, content: Mapping[str, Any], *, reopens: bool) -> EventId | None:
        """Say something in the room of the two. Who has left it is followed only if ``reopens``: they have asked."""
        room_id = await self._usable(user_id)
        if room_id is None:
            known = await self._runtime.database.run("assistant_room", lambda cur: store.own_room(cur, user_id))
            if known is not None and not reopens and await self._has_left(known, user_id):
                return None
            room_id = await self.open(user_id)
        return await self.say_in(room_id, content)

    async def say_in(self, room_id: RoomId, content: Mapping[str, Any]) -> EventId:
        event = await self._runtime.api.create_and_send_event_into_room(
            {
                "type": "m.room.message",
                "room_id": room_id,
                "sender": self._account.user_id,
                "content": dict(content),
            }
        )
        return EventId(event.event_id)

    async def open(self, user_id: UserId) -> RoomId:
        """A new direct room of the two, unencrypted, with the person in it."""
        api = self._runtime.api
        made, _ = await api.create_room(
            self._account.user_id,
            # People cannot switch encryption on in it: the assistant, which alone has power there, could not read it.
            {"preset": "private_chat", "is_direct": True, "invite": [user_id]},
            ratelimit=False,
        )
        room_id, now_ms = RoomId(made), self._runtime.now_ms()
        await self._runtime.database.run(
            "assistant_room_put", lambda cur: store.put_room(cur, room_id, user_id, now_ms, own=True)
        )
        try:
            await api.update_room_membership(user_id, user_id, room_id, "join")
        except SynapseError as error:
            # An invitation does too; they see it and what is said in the room once they take it.
            logger.info("%s could not be joined to the assistant's room: %s", user_id, error.msg)
        await self._remember_direct(user_id, room_id)
        return room_id

    async def join(self, room_id: RoomId, user_id: UserId) -> bool:
        """Take an invitation of a person. Whether the room is one to talk in: theirs and ours, and not encrypted."""
        own = self._account.user_id
        await self._runtime.api.update_room_membership(own, own, room_id, "join")
        state = await self._runtime.api.get_room_state(room_id, [(_ENCRYPTION, "")])
        suits = not state and await self.members(room_id) == frozenset({own, user_id})
        now_ms = self._runtime.now_ms()
        await self._runtime.database.run(
            "assistant_room_put", lambda cur: store.put_room(cur, room_id, user_id, now_ms, own=suits)
        )
        return suits

    async def leave(self, room_id: RoomId) -> None:
        await self._runtime.api.update_room_membership(self._account.user_id, self._account.user_id, room_id, "leave")
        await self._runtime.database.run("assistant_room_forget", lambda cur: store.forget_room(cur, room_id))

    async def members(self, room_id: RoomId) -> frozenset[UserId]:
        """Who is in a room or invited to it."""
        state = await self._runtime.api.get_room_state(room_id, [(_MEMBER, None)])
        return frozenset(
            UserId(user_id) for (_, user_id), event in state.items() if event.content.get("membership") in _PRESENT
        )

    async def joined(self, room_id: RoomId) -> frozenset[UserId]:
        """Who is in a room."""
        state = await self._runtime.api.get_room_state(room_id, [(_MEMBER, None)])
        return frozenset(
            UserId(user_id) for (_, user_id), event in state.items() if event.content.get("membership") == "join"
        )

    async def _usable(self, user_id: UserId) -> RoomId | None:
        """The room of the two, if both are in it and it is not encrypted."""
        room_id = await self._runtime.database.run("assistant_room", lambda cur: store.own_room(cur, user_id))
        if room_id is None:
            return None
        own = self._account.user_id
        state = await self._runtime.api.get_room_state(room_id, [(_MEMBER, user_id), (_MEMBER, own), (_ENCRYPTION, "")])
        theirs, ours = state.get((_MEMBER, user_id)), state.get((_MEMBER, own))
        if theirs is None or ours is None or (_ENCRYPTION, "") in state:
            return None
        there = theirs.content.get("membership") in _PRESENT and ours.content.get("membership") == "join"
        return room_id if there else None

    async def _has_left(self, room_id: RoomId, user_id: UserId) -> bool:
        state = await self._runtime.api.get_room_state(room_id, [(_MEMBER, user_id)])
        theirs = state.get((_MEMBER, user_id))
        return theirs is None or theirs.content.get("membership") not in _PRESENT

    async def _remember_direct(self, user_id: UserId, room_id: RoomId) -> None:
        """Have the person's clients list it among their direct rooms."""
        accounts = self._runtime.api.account_data_manager
        found = await accounts.get_global(user_id, _DIRECT) or {}
        direct = {who: list(rooms) for who, rooms in found.items() if isinstance(rooms, list | tuple)}
        direct[self._account.user_id] = [room_id]
        await accounts.put_global(user_id, _DIRECT, direct)
