"""Synapse's events as the domain reads them. Owns the translation, no decision."""

from collections.abc import Mapping
from typing import Final

from synapse.module_api import EventBase

from super_app.calls import events
from super_app.calls.events import RoomEvent
from super_app.ids import EventId, RoomId, UserId

_MAY_STICK: Final = events.RTC_MEMBERS | {"m.room.encrypted"}
_HANDLING_MS: Final = 10_000


def room_event(event: EventBase, now_ms: int) -> RoomEvent:
    """``now_ms`` stands for when the event arrived: handlers run a moment after it did."""
    age_ts = event.unsigned.get("age_ts")
    return RoomEvent(
        event_id=EventId(event.event_id),
        event_type=event.type,
        room_id=RoomId(event.room_id),
        sender=UserId(event.sender),
        content=dict(event.content),
        is_state=event.is_state(),
        origin_server_ts=event.origin_server_ts,
        age_ts=age_ts if isinstance(age_ts, int) else None,
        arrived_ms=now_ms,
        sticky_ms=_sticky_ms(event) if event.type in _MAY_STICK else None,
    )


def _sticky_ms(event: EventBase) -> int | None:
    sticky = event.get_dict().get(events.STICKY_FIELD)
    duration = sticky.get("duration_ms") if isinstance(sticky, Mapping) else None
    return duration if type(duration) is int and duration > 0 else None


def happened_ms(event: RoomEvent, *, is_ours: bool) -> int:
    """When an event came to be, on our clock.

    Of our own events we know it, also when we read them late after a restart. Others' homeservers may say what they
    like, so theirs came to be as they arrived, give or take what handling takes.
    """
    return event.start_ms if is_ours else max(event.start_ms, event.arrived_ms - _HANDLING_MS)
