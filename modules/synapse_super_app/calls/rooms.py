"""Who is in the room that rings."""

from dataclasses import replace

from synapse.module_api import ModuleApi

from super_app.calls.model import MAX_RUNG, Ring, Room
from super_app.ids import UserId
from synapse_super_app.private_api import PrivateApi


class Rooms:
    """Answers from Synapse's caches where it can: a ring must not cost what the room's size costs."""

    def __init__(self, api: ModuleApi, private: PrivateApi) -> None:
        self._api = api
        self._private = private

    async def of(self, ring: Ring) -> Room:
        """The members that matter to a ring; in a large room only those that it names."""
        members = await self._private.members(ring.room_id, at_most=MAX_RUNG + 1)
        if members is not None:
            return Room(joined=members[0], invited=members[1], is_complete=True)
        nobody = Room(joined=frozenset(), invited=frozenset(), is_complete=False)
        return replace(nobody, joined=await self._joined(ring, {ring.caller} | (ring.callees or frozenset())))

    async def _joined(self, ring: Ring, people: set[UserId]) -> frozenset[UserId]:
        named = sorted(people)[: MAX_RUNG + 1]
        state = await self._api.get_room_state(ring.room_id, [("m.room.member", user_id) for user_id in named])
        return frozenset(
            UserId(user_id) for (_, user_id), event in state.items() if event.content.get("membership") == "join"
        )
