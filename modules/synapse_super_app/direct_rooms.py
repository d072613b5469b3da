"""The room that two people use for each other: found, or made. Payments and calls go there."""

from collections.abc import Mapping
from typing import Any, Final

from synapse.module_api import ModuleApi
from synapse.module_api.errors import SynapseError

from super_app.ids import RoomId, UserId
from synapse_super_app.database import Database
from synapse_super_app.http.refusals import refusal_in
from synapse_super_app.private_api import CommonRoom, PrivateApi

_DIRECT: Final = "m.direct"
_MAKING_PAUSE_S: Final = 0.05


class CannotInvite(Exception):
    """The other could not be invited; the message says why, in Synapse's words.

    ``refused`` is the reason where it was one of ours, such as a deposit that they ask of strangers.
    """

    def __init__(self, error: SynapseError) -> None:
        super().__init__(error.msg)
        self.refused = refusal_in(error)


class DirectRooms:
    def __init__(self, api: ModuleApi, private: PrivateApi, database: Database) -> None:
        self._api = api
        self._private = private
        self._database = database
        self._making: set[tuple[UserId, UserId]] = set()

    async def find(self, user_id: UserId, other: UserId) -> RoomId | None:
        """The room that the two use for each other: one the first's client calls direct, or one of exactly the two.

        One that the other has joined comes before one to which they are invited, then what the client calls direct,
        then one in which both can read what the server posts, then the oldest.
        """
        common = await self._database.run("direct_room", lambda cur: self._private.common_rooms(cur, user_id, other))
        if not common:
            return None
        named = _direct_rooms(await self._api.account_data_manager.get_global(user_id, _DIRECT)).get(other, [])

        def rank(room: CommonRoom) -> tuple[bool, bool, bool]:
            return (not room.other_joined, room.room_id not in named, room.encrypted)

        usable = [room for room in common if room.only_two or room.room_id in named]
        return min(usable, key=rank).room_id if usable else None

    async def make(self, user_id: UserId, other: UserId) -> RoomId:
        """A new direct room of the two, the other invited. Those who want it at the same time share it.

        Raises:
            CannotInvite: Synapse or the other's homeserver refused.
        """
        pair = (user_id, other)
        while pair in self._making:
            await self._api.sleep(_MAKING_PAUSE_S)
            made = await self.find(user_id, other)
            if made is not None:
                return made
        self._making.add(pair)
        try:
            room_id, _ = await self._api.create_room(
                user_id,
                {"preset": "trusted_private_chat", "is_direct": True, "invite": [other]},
                ratelimit=False,
            )
        except SynapseError as error:
            raise CannotInvite(error) from error
        finally:
            self._making.discard(pair)
        await self._remember(user_id, other, RoomId(room_id))
        return RoomId(room_id)

    async def _remember(self, user_id: UserId, other: UserId, room_id: RoomId) -> None:
        direct = _direct_rooms(await self._api.account_data_manager.get_global(user_id, _DIRECT))
        direct.setdefault(other, []).append(room_id)
        await self._api.account_data_manager.put_global(user_id, _DIRECT, direct)


def _direct_rooms(content: Mapping[str, Any] | None) -> dict[str, list[str]]:
    """``m.direct`` of a person (Matrix spec, "Direct Messaging") as clients keep it, without what is malformed."""
    return {
        person: [room_id for room_id in rooms if isinstance(room_id, str)]
        for person, rooms in (content or {}).items()
        if isinstance(rooms, list | tuple)
    }
