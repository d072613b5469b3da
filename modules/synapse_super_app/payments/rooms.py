"""The rooms of payments: who is in one, and which one two people use for each other."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from synapse.module_api import ModuleApi
from synapse.module_api.errors import SynapseError

from super_app.errors import Reason, Refused
from super_app.ids import RoomId, UserId
from super_app.payments.model import Venue
from synapse_super_app.database import Database
from synapse_super_app.private_api import CommonRoom, PrivateApi

_MEMBER: Final = "m.room.member"
_ENCRYPTION: Final = "m.room.encryption"
_DIRECT: Final = "m.direct"
_MAKING_PAUSE_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomView:
    """A room as an order finds it. A membership is None for who has nothing to do with the room."""

    payer: str | None
    payee: str | None
    venue: Venue


class Rooms:
    def __init__(self, api: ModuleApi, private: PrivateApi, database: Database) -> None:
        self._api = api
        self._private = private
        self._database = database
        self._making: set[tuple[UserId, UserId]] = set()

    async def look(self, room_id: RoomId, payer: UserId, payee: UserId) -> RoomView:
        state = await self._api.get_room_state(room_id, [(_MEMBER, payer), (_MEMBER, payee), (_ENCRYPTION, "")])

        def membership(user_id: UserId) -> str | None:
            event = state.get((_MEMBER, user_id))
            return None if event is None else event.content.get("membership")

        return RoomView(
            payer=membership(payer),
            payee=membership(payee),
            venue=Venue.HIDDEN if (_ENCRYPTION, "") in state else Venue.OPEN,
        )

    async def direct(self, payer: UserId, payee: UserId) -> RoomId | None:
        """The room that the two use for each other: one the payer's client calls direct, or one of exactly the two.

        One that the payee has joined comes before one to which they are invited, then what the client calls direct,
        then one in which both can read what is paid, then the oldest.
        """
        common = await self._database.run("payment_direct", lambda cur: self._private.common_rooms(cur, payer, payee))
        if not common:
            return None
        named = _direct_rooms(await self._api.account_data_manager.get_global(payer, _DIRECT)).get(payee, [])

        def rank(room: CommonRoom) -> tuple[bool, bool, bool]:
            return (not room.other_joined, room.room_id not in named, room.encrypted)

        usable = [room for room in common if room.only_two or room.room_id in named]
        return min(usable, key=rank).room_id if usable else None

    async def make_direct(self, payer: UserId, payee: UserId) -> RoomId | Refused:
        """A new direct room of the two, the payee invited. Orders that want it at the same time share it."""
        pair = (payer, payee)
        while pair in self._making:
            await self._api.sleep(_MAKING_PAUSE_S)
            made = await self.direct(payer, payee)
            if made is not None:
                return made
        self._making.add(pair)
        try:
            room_id, _ = await self._api.create_room(
                payer,
                {"preset": "trusted_private_chat", "is_direct": True, "invite": [payee]},
                ratelimit=False,
            )
        except SynapseError as error:
            return Refused(
                reason=Reason.PEER_UNREACHABLE,
                message=f"{payee} could not be invited to a room for this payment ({error.msg}); try again later under "
                "the same id. The money is held until then, for an hour at most, unless you cancel the payment.",
            )
        finally:
            self._making.discard(pair)
        await self._remember(payer, payee, RoomId(room_id))
        return RoomId(room_id)

    async def _remember(self, payer: UserId, payee: UserId, room_id: RoomId) -> None:
        direct = _direct_rooms(await self._api.account_data_manager.get_global(payer, _DIRECT))
        direct.setdefault(payee, []).append(room_id)
        await self._api.account_data_manager.put_global(payer, _DIRECT, direct)


def _direct_rooms(content: Mapping[str, Any] | None) -> dict[str, list[str]]:
    """``m.direct`` of a person (Matrix spec, "Direct Messaging") as clients keep it, without what is malformed."""
    return {
        person: [room_id for room_id in rooms if isinstance(room_id, str)]
        for person, rooms in (content or {}).items()
        if isinstance(rooms, list | tuple)
    }
