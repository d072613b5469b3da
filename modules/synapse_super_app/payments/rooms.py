"""The rooms of payments: who is in one, and which one two people use for each other."""

from dataclasses import dataclass, replace
from typing import Final

from synapse.module_api import ModuleApi

from super_app.errors import Reason, Refused
from super_app.ids import RoomId, UserId
from super_app.payments.model import Venue
from synapse_super_app.database import Database
from synapse_super_app.direct_rooms import CannotInvite, DirectRooms
from synapse_super_app.private_api import PrivateApi

_MEMBER: Final = "m.room.member"
_ENCRYPTION: Final = "m.room.encryption"


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
        self._direct_rooms = DirectRooms(api, private, database)

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
        """The room that the two use for each other."""
        return await self._direct_rooms.find(payer, payee)

    async def open_direct(self, person: UserId, other: UserId) -> RoomId | Refused:
        """A direct room of the two that is not encrypted; made if there is none."""
        common = await self._database.run("request_direct", lambda cur: self._private.common_rooms(cur, person, other))
        usable = [room for room in common if room.only_two and not room.encrypted]
        if usable:
            return min(usable, key=lambda room: not room.other_joined).room_id
        try:
            return await self._direct_rooms.make(person, other)
        except CannotInvite as error:
            return error.refused or Refused(
                reason=Reason.PEER_UNREACHABLE,
                message=f"{other} could not be invited to a room ({error}); nobody was asked, so try again later.",
            )

    async def make_direct(self, payer: UserId, payee: UserId) -> RoomId | Refused:
        """A new direct room of the two, the payee invited. Orders that want it at the same time share it."""
        try:
            return await self._direct_rooms.make(payer, payee)
        except CannotInvite as error:
            if error.refused is not None:
                more = "The money of this payment is held for an hour at most; order it again under the same id then."
                return replace(error.refused, message=f"{error.refused.message} {more}")
            return Refused(
                reason=Reason.PEER_UNREACHABLE,
                message=f"{payee} could not be invited to a room for this payment ({error}); try again later under "
                "the same id. The money is held until then, for an hour at most, unless you cancel the payment.",
            )
