"""The rules of rooms for their calls, from room state: read by id, kept by id, since an event never changes."""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from super_app.conferences import content
from super_app.conferences.model import Hall, LinkTerms, Roles
from super_app.db import Cursor
from super_app.errors import Refused
from super_app.ids import EventId, RoomId
from super_app.names import EventType
from synapse_super_app.runtime import Runtime

_KEPT: Final = 5_000
_NO_HALL: Final = Hall()

_Read = Roles | LinkTerms | None
"""Rules, or None where there are none: the content is empty, or the event is gone."""
_GARBLED: Final = "garbled"


class Halls:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._known: OrderedDict[EventId, _Read | str] = OrderedDict()
        self._rooms: OrderedDict[RoomId, tuple[int, Hall]] = OrderedDict()

    def changing(self, room_id: RoomId) -> AbstractAsyncContextManager[object]:
        """Roles are read, changed and written by one at a time, so that no change undoes another."""
        return self._runtime.private.one_at_a_time("roles", room_id)

    def remember(self, room_id: RoomId, hall: Hall, position: int) -> None:
        """What ``of`` said in a transaction that began when events were persisted up to a position."""
        self._rooms[room_id] = (position, hall)
        self._rooms.move_to_end(room_id)
        while len(self._rooms) > _KEPT:
            self._rooms.popitem(last=False)

    def known(self, room_id: RoomId) -> Hall | None:
        """The rules of a room, if they are remembered and its state has not changed since."""
        position, hall = self._rooms.get(room_id, (0, None))
        return None if hall is None or self._runtime.private.state_changed_since(room_id, position) else hall

    def of(self, cur: Cursor, room_ids: Collection[RoomId]) -> Mapping[RoomId, Hall] | frozenset[EventId]:
        """The rules of rooms as they are now, by room; or the events that have to be ``read`` before."""
        halls: dict[RoomId, Hall] = dict.fromkeys(room_ids, _NO_HALL)
        unread: set[EventId] = set()
        found = self._runtime.private.state_ids(cur, (EventType.CALL_ROLES, EventType.CALL_LINK), room_ids)
        for room_id in {room_id for room_id, _ in found}:
            ids = [event_id for (ruled, _), event_id in found.items() if ruled == room_id]
            missing = [event_id for event_id in ids if event_id not in self._known]
            if missing:
                unread.update(missing)
            else:
                halls[room_id] = _hall([self._known[event_id] for event_id in ids])
        return frozenset(unread) if unread else halls

    async def read(self, event_ids: Collection[EventId]) -> None:
        for event_id in event_ids:
            event = await self._runtime.private.get_event(event_id)
            said = {} if event is None else event.get_dict()["content"]
            self._known[event_id] = _read(None if event is None else event.type, said)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)

    async def now(self, room_id: RoomId) -> Hall:
        while True:
            found = await self._runtime.database.run("calls_hall", lambda cur: self.of(cur, (room_id,)))
            if isinstance(found, Mapping):
                return found[room_id]
            await self.read(found)


def zone_of(name: str) -> tzinfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # Not a zone, or not even a name of one: ZoneInfo takes names for paths.
        return None


def _read(event_type: str | None, said: Mapping[str, Any]) -> _Read | str:
    if not said:
        return None
    found = content.read_link(said, zone_of) if event_type == EventType.CALL_LINK else content.read_roles(said)
    return _GARBLED if isinstance(found, Refused) else found


def _hall(read: list[_Read | str]) -> Hall:
    return Hall(
        roles=next((each for each in read if isinstance(each, Roles)), None),
        link=next((each for each in read if isinstance(each, LinkTerms)), None),
        garbled=_GARBLED in read,
    )
