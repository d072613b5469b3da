"""The only file that touches Synapse below its ModuleApi.

``USES`` lists every private symbol with the features that need it and the reason why ModuleApi does not do. At start
each is looked up; when one moved, the features that need it go off (or the start is refused, as configured) and chat
goes on. ``tests/modules/test_private_api.py`` fails when a symbol moves.
"""

import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from synapse.module_api import ModuleApi

from super_app.db import Engine
from super_app.ids import EventId
from synapse_super_app.config import FeatureName

if TYPE_CHECKING:
    from synapse.events import EventBase
    from synapse.server import HomeServer

CORE: Final = frozenset(FeatureName)
"""Needed by every feature: when it moved, all go off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateUse:
    """One private symbol: where it is (``module:attribute.path``), who needs it, and why."""

    symbol: str
    features: frozenset[FeatureName]
    reason: str


USES: Final[tuple[PrivateUse, ...]] = (
    PrivateUse(
        symbol="synapse.server:HomeServer.get_datastores",
        features=CORE,
        reason="ModuleApi reads no single event and no stream position",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.stream:StreamWorkerStore.get_room_max_stream_ordering",
        features=CORE,
        reason="the position up to which every writer has persisted, for the durable cursor",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.events_worker:EventsWorkerStore.get_event",
        features=CORE,
        reason="the follower reads persisted events by id",
    ),
    PrivateUse(
        symbol="synapse.notifier:Notifier.add_replication_callback",
        features=CORE,
        reason="wakes the follower when events were persisted, without a hook on each event",
    ),
    PrivateUse(
        symbol="synapse.api.constants:StickyEvent.EVENT_FIELD_NAME",
        features=frozenset({FeatureName.PAYMENTS}),
        reason="to refuse a payment that was sent as a sticky event (MSC4354)",
    ),
)


def missing(uses: Collection[PrivateUse] = USES) -> Mapping[FeatureName, PrivateUse]:
    """For each feature that cannot run on this Synapse, the first private symbol that it misses."""
    lost: dict[FeatureName, PrivateUse] = {}
    for use in uses:
        if not _exists(use.symbol):
            for feature in use.features:
                lost.setdefault(feature, use)
    return lost


def _exists(symbol: str) -> bool:
    module_name, _, path = symbol.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in path.split("."):
            # Protocol members and attrs fields stand in __annotations__ rather than on the class.
            if not hasattr(found, part) and part in getattr(found, "__annotations__", {}):
                return True
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return False
    return True


class PrivateApi:
    """Typed doors to those symbols. Constructing it touches nothing that the enabled features do not need."""

    def __init__(self, api: ModuleApi) -> None:
        self._hs: HomeServer = api._hs  # pyright: ignore[reportPrivateUsage]  # the door itself
        self._store = self._hs.get_datastores().main

    @property
    def engine(self) -> Engine:
        return Engine.POSTGRESQL if self._store.db_pool.engine.__class__.__name__ == "PostgresEngine" else Engine.SQLITE

    # The event stream (follower).

    def persisted_up_to(self) -> int:
        """The stream position up to which every event persister has committed."""
        return self._store.get_room_max_stream_ordering()

    def on_replication(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever this process learns of new events. It must return at once."""
        self._hs.get_notifier().add_replication_callback(wake)

    async def get_event(self, event_id: EventId) -> "EventBase | None":
        """A persisted event, or None if it is unknown here, rejected or soft-failed."""
        event = await self._store.get_event(event_id, allow_none=True)
        return None if event is None or event.internal_metadata.is_soft_failed() else event

    # How an event was sent (gate).

    @staticmethod
    def is_delayed(event: "EventBase") -> bool:
        """Whether a local event comes from the queue of delayed events (MSC4140)."""
        return getattr(event.internal_metadata, "delay_id", None) is not None

    @staticmethod
    def is_sticky(event: "EventBase") -> bool:
        """Whether an event was sent as a sticky one (MSC4354)."""
        from synapse.api.constants import StickyEvent

        return StickyEvent.EVENT_FIELD_NAME in event.get_dict()
