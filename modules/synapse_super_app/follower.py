"""Follows persisted room events of our types by a durable cursor over Synapse's event stream.

The gate wakes it at once for our types; replication only arms a sweep, two seconds later at most, so that a flood of
chat costs one statement every two seconds. Handlers get each event at least once and in stream order, so they are
idempotent. An event whose handler fails is parked and retried with growing pauses; it never holds up the others.
Rejected and soft-failed events are skipped; backfilled ones have negative positions and are not followed.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, LiteralString

from prometheus_client import Counter, Gauge
from synapse.module_api import ModuleApi

from super_app.db import Cursor, SqlValue
from super_app.ids import EventId
from synapse_super_app.database import Database
from synapse_super_app.private_api import PrivateApi, span

if TYPE_CHECKING:
    from synapse.module_api import EventBase

logger = logging.getLogger(__name__)

EventHandler = Callable[["EventBase"], Awaitable[None]]

_SWEEP_PAUSE_S: Final = 2.0
_ATTENTIVE_PAUSE_S: Final = 0.25
_STORE_PAUSE_S: Final = 0.5
_URGENT_MS: Final = 10_000
_PAGE: Final = 500
_UNSTORED_EVENTS: Final = 1_000
"""How many events that are not ours the stored cursor may lie behind."""
_RETRY_MS: Final = (1_000, 5_000, 30_000, 120_000, 600_000)

_NEVER: Final[LiteralString] = "1 = 0"

_lag = Gauge("superapp_follower_lag_events", "Stream positions between the newest persisted event and the cursor.")
_parked_total = Counter("superapp_follower_parked_total", "Events whose handler failed and that are retried.")


class Follower:
    """One per process; it runs between ``start`` and ``stop``, which is where the ledger's writer is.

    Without payments it is the background worker. Two that follow at once, while one takes over from the other, do no
    harm: handlers are idempotent and the stored cursor only moves forward.
    """

    def __init__(self, api: ModuleApi, private: PrivateApi, database: Database) -> None:
        self._api = api
        self._private = private
        self._database = database
        self._handlers: dict[str, EventHandler] = {}
        self._picked: dict[str, EventHandler] = {}
        self._condition: LiteralString = _NEVER
        self._parameters: tuple[SqlValue, ...] = ()
        self._running = False
        self._position = 0
        self._stored_position = 0
        self._retry_ms: int | None = None
        self._again = False
        self._armed = False
        self._storing = False
        self._urgent_until_ms = 0
        self._attentive_until_ms = 0
        self._on = False
        self._listens = False
        self._started: list[Callable[[], None]] = []

    def when_started(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever this process begins to follow. It must return at once."""
        self._started.append(listener)

    def register(self, handlers: Mapping[str, EventHandler]) -> None:
        twice = self._handlers.keys() & handlers.keys()
        if twice:
            raise RuntimeError(f"two features follow {sorted(twice)}")
        self._handlers.update(handlers)

    def pick(
        self, handlers: Mapping[str, EventHandler], condition: LiteralString, parameters: tuple[SqlValue, ...]
    ) -> None:
        """Also follow events of Synapse's own types: those of the table ``events`` for which ``condition`` holds.

        It is part of the one statement of a sweep, so a plain message costs what the condition costs in the database.
        """
        if self._picked:
            raise RuntimeError("two features pick events of Synapse's own types")
        self._picked, self._condition, self._parameters = dict(handlers), condition, parameters

    @property
    def follows(self) -> bool:
        """Whether this process is the one that follows now."""
        return self._on

    def attend(self, for_ms: int) -> None:
        """Somebody is about to go on: for some time, sweep a quarter of a second after something was persisted."""
        self._attentive_until_ms = self._api.get_current_time_msec() + for_ms

    def expect(self) -> None:
        """The gate let one of our events pass: for some seconds, sweep as soon as anything is persisted."""
        self._urgent_until_ms = self._api.get_current_time_msec() + _URGENT_MS

    async def start(self) -> None:
        """Begin at the stored cursor, or now if there is none, and follow until ``stop``."""
        newest = self._private.persisted_up_to()
        self._position = await self._database.run("follower_start", partial(_begin_at, newest=newest))
        self._stored_position = self._position
        self._retry_ms = await self._database.run("follower_parked_due", _first_parked)
        self._on = True
        if not self._listens:
            self._listens = True
            self._private.on_replication(self._wake)
            # Synapse runs loops on its background worker only, unless told so.
            self._api.looping_background_call(
                self._retry_parked, 1_000.0, desc="superapp_follower_retry", run_on_all_instances=True
            )
        for listener in self._started:
            listener()
        self._sweep_soon()

    def stop(self) -> None:
        """Another process follows from now on. What is being handled is handled to its end."""
        self._on = False

    def _wake(self) -> None:
        if not self._on:
            return
        now_ms = self._api.get_current_time_msec()
        if now_ms < self._urgent_until_ms:
            self._sweep_soon()
        elif not self._armed:
            self._armed = True
            pause_s = _ATTENTIVE_PAUSE_S if now_ms < self._attentive_until_ms else _SWEEP_PAUSE_S
            self._api.delayed_background_call(pause_s * 1000, self._sweep_armed, desc="superapp_follower")

    async def _sweep_armed(self) -> None:
        self._armed = False
        self._sweep_soon()

    def _sweep_soon(self) -> None:
        if self._running:
            self._again = True
            return
        self._running = True
        self._api.run_as_background_process("superapp_follower", self._sweep)

    async def _sweep(self) -> None:
        try:
            self._again = True
            while self._again and self._on:
                self._again = False
                await self._catch_up()
        except Exception:
            # The cursor stands; whatever happens next wakes us again.
            logger.exception("Following the event stream failed; it is tried again")
            self._api.delayed_background_call(_SWEEP_PAUSE_S * 1000, self._sweep_armed, desc="superapp_follower")
        finally:
            self._running = False

    async def _catch_up(self) -> None:
        if not self._handlers and not self._picked:
            return
        while self._on and (newest := self._private.persisted_up_to()) > self._position:
            _lag.set(newest - self._position)
            found = await self._database.run(
                "follower_read",
                partial(
                    _events_between,
                    start=self._position,
                    end=newest,
                    types=tuple(self._handlers),
                    condition=self._condition,
                    parameters=self._parameters,
                ),
            )
            for _, event_id, event_type in found:
                await self._handle(EventId(event_id), event_type)
                if not self.follows:
                    # The cursor stays; the other process begins there.
                    return
            self._position = found[-1][0] if len(found) == _PAGE else newest
            # Events that are not ours are cheap to pass over again, so passing them is not always worth a write.
            if found or self._position - self._stored_position > _UNSTORED_EVENTS:
                self._store_soon()
        _lag.set(0)

    def _store_soon(self) -> None:
        """Store the cursor a moment later, once for all that is handled until then.

        A commit right now would stand in the way of what the event has set off. Should it be lost, the events behind
        it are handled again.
        """
        if not self._storing:
            self._storing = True
            self._api.delayed_background_call(_STORE_PAUSE_S * 1000, self._store, desc="superapp_follower_store")

    async def _store(self) -> None:
        self._storing = False
        position = self._position
        await self._database.run("follower_move", partial(_move, position=position))
        self._stored_position = position

    def _handler(self, event_type: str) -> EventHandler | None:
        return self._handlers.get(event_type) or self._picked.get(event_type)

    async def _handle(self, event_id: EventId, event_type: str) -> None:
        handler = self._handler(event_type)
        try:
            event = await self._private.get_event(event_id)
            if handler is not None and event is not None:
                with span("follow", type=event_type):
                    await handler(event)
        except Exception:
            if not self._on:
                # The process that follows now begins at the cursor, which is still before this event.
                return
            logger.exception("Handling %s %s failed; it is parked and tried again", event_type, event_id)
            _parked_total.inc()
            due_ms = self._api.get_current_time_msec() + _RETRY_MS[0]
            await self._database.run("follower_park", lambda cur: _park(cur, event_id, event_type, due_ms))
            self._retry_ms = due_ms if self._retry_ms is None else min(self._retry_ms, due_ms)

    async def _retry_parked(self) -> None:
        now_ms = self._api.get_current_time_msec()
        if not self._on or self._retry_ms is None or now_ms < self._retry_ms:
            return
        for event_id, event_type, attempts in await self._database.run(
            "follower_parked", lambda cur: _due_parked(cur, now_ms)
        ):
            handler = self._handler(event_type)
            try:
                event = await self._private.get_event(EventId(event_id))
                if handler is not None and event is not None:
                    with span("follow", type=event_type):
                        await handler(event)
            except Exception:
                logger.exception("Handling %s %s failed again (attempt %d)", event_type, event_id, attempts + 1)
                due_ms = now_ms + _RETRY_MS[min(attempts, len(_RETRY_MS) - 1)]
                await self._database.run("follower_park_again", partial(_park_again, event_id=event_id, due_ms=due_ms))
            else:
                await self._database.run("follower_unpark", partial(_unpark, event_id=event_id))
        self._retry_ms = await self._database.run("follower_parked_due", _first_parked)


def _begin_at(cur: Cursor, newest: int) -> int:
    """The stored cursor; ``newest`` becomes it if there is none."""
    cur.execute(
        "INSERT INTO superapp_follower (singleton, position) VALUES (1, ?) ON CONFLICT (singleton) DO NOTHING",
        (newest,),
    )
    cur.execute("SELECT position FROM superapp_follower")
    row = cur.fetchone()
    if row is None:
        raise RuntimeError("the cursor vanished inside its own transaction")
    return int(row[0] or 0)


def _move(cur: Cursor, position: int) -> None:
    cur.execute("UPDATE superapp_follower SET position = ? WHERE position < ?", (position, position))


def _events_between(
    cur: Cursor,
    start: int,
    end: int,
    types: tuple[str, ...],
    condition: LiteralString,
    parameters: tuple[SqlValue, ...],
) -> list[tuple[int, str, str]]:
    # Synapse's own table: read only. One range of the index on stream_ordering; ours are few, so the filter is cheap.
    marks: list[LiteralString] = ["?" for _ in types]
    of_ours: LiteralString = "events.type IN (" + ", ".join(marks) + ")" if marks else _NEVER
    cur.execute(
        "SELECT stream_ordering, event_id, type FROM events"
        " WHERE stream_ordering > ? AND stream_ordering <= ? AND rejection_reason IS NULL"
        " AND (" + of_ours + " OR " + condition + ") ORDER BY stream_ordering LIMIT ?",
        (start, end, *types, *parameters, _PAGE),
    )
    return [(int(row[0] or 0), str(row[1]), str(row[2])) for row in cur.fetchall()]


def _park(cur: Cursor, event_id: str, event_type: str, due_ms: int) -> None:
    cur.execute(
        "INSERT INTO superapp_follower_parked (event_id, type, attempts, due_ms) VALUES (?, ?, 1, ?)"
        " ON CONFLICT (event_id) DO NOTHING",
        (event_id, event_type, due_ms),
    )


def _due_parked(cur: Cursor, now_ms: int) -> list[tuple[str, str, int]]:
    cur.execute(
        "SELECT event_id, type, attempts FROM superapp_follower_parked WHERE due_ms <= ? ORDER BY due_ms LIMIT 20",
        (now_ms,),
    )
    return [(str(row[0]), str(row[1]), int(row[2] or 0)) for row in cur.fetchall()]


def _first_parked(cur: Cursor) -> int | None:
    cur.execute("SELECT MIN(due_ms) FROM superapp_follower_parked")
    row = cur.fetchone()
    return None if row is None or row[0] is None else int(row[0])


def _park_again(cur: Cursor, event_id: str, due_ms: int) -> None:
    cur.execute(
        "UPDATE superapp_follower_parked SET attempts = attempts + 1, due_ms = ? WHERE event_id = ?", (due_ms, event_id)
    )


def _unpark(cur: Cursor, event_id: str) -> None:
    cur.execute("DELETE FROM superapp_follower_parked WHERE event_id = ?", (event_id,))
