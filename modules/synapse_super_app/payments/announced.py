"""Events that this homeserver is about to send by itself: its gate lets them pass, and nobody else's like them."""

from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from super_app.ids import RoomId, UserId
from super_app.names import EventType
from super_app.signing import canonical

_Event = tuple[UserId, RoomId, EventType, bytes]


class Announced:
    """One per process: an event is sent, and passes the gate, in the process that made it."""

    def __init__(self) -> None:
        self._events: Counter[_Event] = Counter()

    @contextmanager
    def sending(
        self, sender: UserId, room_id: RoomId, event_type: EventType, content: Mapping[str, Any]
    ) -> Generator[None]:
        """While the block runs, the gate may run any number of times for this event."""
        event = (sender, room_id, event_type, canonical(content))
        self._events[event] += 1
        try:
            yield
        finally:
            self._events[event] -= 1
            if not self._events[event]:
                del self._events[event]

    def includes(self, sender: str, room_id: str, event_type: EventType, content: Mapping[str, Any]) -> bool:
        if not self._events:
            return False
        try:
            spelled = canonical(content)
        except (ValueError, TypeError):
            # What has no canonical form was not made here.
            return False
        return (UserId(sender), RoomId(room_id), event_type, spelled) in self._events
