"""Drives sessions by persisted events, and by time. Runs where the follower runs."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

from synapse.module_api import EventBase

from super_app.calls import events, rules, service, store
from super_app.calls.model import Act, Local, Outgoing, Record, Ring, Signal, State
from super_app.calls.service import Change
from super_app.db import Cursor
from super_app.errors import Refused
from super_app.ids import Acct, UserId
from synapse_super_app.calls import metrics
from synapse_super_app.calls.clockwork import Clockwork
from synapse_super_app.calls.recent import RecentBook
from synapse_super_app.calls.room_events import happened_ms, room_event
from synapse_super_app.calls.rooms import Rooms
from synapse_super_app.calls.screening import Screening
from synapse_super_app.calls.sender import Sender
from synapse_super_app.calls.silences import Silences
from synapse_super_app.follower import EventHandler
from synapse_super_app.runtime import Runtime

_PURGE_EVERY_MS: Final = 3_600_000.0
_PEOPLE_PAGE: Final = 500
_AFTER_START_MS: Final = 3_000
"""Deadlines of before a restart wait for the follower: an answer that it has not read yet was in time."""


class CallsFollower:
    def __init__(
        self,
        runtime: Runtime,
        *,
        rooms: Rooms,
        screening: Screening,
        sender: Sender,
        recent: RecentBook,
        silences: Silences,
    ) -> None:
        self._recent = recent
        self._silences = silences
        self._runtime = runtime
        self._rooms = rooms
        self._screening = screening
        self._sender = sender
        self._listeners: list[Callable[[Sequence[Record]], Awaitable[None]]] = []
        self.clockwork = Clockwork(runtime.api, self._sweep)

    def handlers(self) -> Mapping[str, EventHandler]:
        signals: dict[str, EventHandler] = dict.fromkeys(events.SIGNAL_TYPES, self._on_signal)
        return {**signals, **dict.fromkeys(events.RING_TYPES, self._on_ring)}

    def take_up(self) -> None:
        """This process follows from now on: take up what was due when the last one ended."""
        self.clockwork.note(self._runtime.now_ms() + _AFTER_START_MS)

    def start(self) -> None:
        """Forget calls whose time is over, on the background worker."""
        self._runtime.api.looping_background_call(self._purge, _PURGE_EVERY_MS, desc="superapp_calls_purge")

    async def _on_ring(self, event: EventBase) -> None:
        now_ms = self._runtime.now_ms()
        ring = events.read_ring(room_event(event, now_ms))
        if ring is None or isinstance(ring, Refused) or events.is_history(ring, now_ms):
            return
        await self.ring_exists(ring, now_ms)

    async def ring_exists(self, ring: Ring, now_ms: int) -> None:
        """Record a ring whose event is in the room."""
        room = await self._rooms.of(ring)
        rung = rules.rung(ring, room)
        is_mine = self._runtime.api.is_mine
        here = [user_id for user_id in sorted(rung) if is_mine(user_id)]
        # The gate has written what it decided; these count for a ring that it did not see.
        callees = [
            await self._screening.callee_and_decision(user_id, ring, is_group=not room.is_direct) for user_id in here
        ]
        caller = await self._local(ring.caller) if is_mine(ring.caller) else None
        if caller is not None:
            for user_id in rung:
                self._recent.met(caller.acct, user_id)
        self._done(
            await self._runtime.database.run(
                "calls_rang",
                lambda cur: service.rang(cur, ring, rung, callees, caller, is_direct=room.is_direct, now_ms=now_ms),
            )
        )

    async def _on_signal(self, event: EventBase) -> None:
        now_ms = self._runtime.now_ms()
        read = room_event(event, now_ms)
        signal = events.read_signal(read)
        if signal is None:
            return
        if signal.act is Act.LEAVE and signal.member is None and not await self._has_left(signal):
            return
        await self.signal_exists(signal, at_ms=happened_ms(read, is_ours=self._runtime.api.is_mine(read.sender)))

    async def signal_exists(self, signal: Signal, at_ms: int) -> None:
        """Record what an event in the room says about calls."""
        now_ms = self._runtime.now_ms()
        self._done(
            await self._runtime.database.run(
                "calls_heard", lambda cur: service.heard(cur, signal, at_ms=at_ms, now_ms=now_ms)
            )
        )

    async def _has_left(self, signal: Signal) -> bool:
        """Whether a membership that was left was the person's last: each device has one of its own."""
        if not await self._runtime.database.run(
            "calls_awaits", lambda cur: service.awaits_memberships(cur, signal.room_id)
        ):
            return False
        state = await self._runtime.api.get_room_state(signal.room_id, [(events.CALL_MEMBER, None)])
        now_ms = self._runtime.now_ms()
        memberships = [events.read_signal(room_event(event, now_ms)) for event in state.values()]
        if any(each is not None and each.sender == signal.sender and each.act is Act.JOIN for each in memberships):
            return False
        return not await self._runtime.database.run(
            "calls_sticks", lambda cur: service.has_sticky_member(cur, signal.room_id, signal.sender, now_ms)
        )

    async def _local(self, user_id: UserId) -> Local:
        return Local(acct=await self._runtime.accounts.acct_of(user_id), user_id=user_id)

    def _done(self, change: Change) -> None:
        metrics.count_outcomes(change.reached)
        for record in change.reached:
            if record.state is State.ANSWERED:
                self._recent.met(record.owner, UserId(record.peer))
        self.clockwork.note(change.due_ms)
        self._tell(change.reached)

    def when_reached(self, listener: Callable[[Sequence[Record]], Awaitable[None]]) -> None:
        self._listeners.append(listener)

    def _tell(self, reached: Sequence[Record]) -> None:
        for listener in self._listeners if reached else ():
            self._runtime.api.run_as_background_process("superapp_calls_reached", listener, reached)

    async def _sweep(self, now_ms: int) -> int | None:
        """Let pass what is over, send what is owed; when there is something to do next."""
        change = await self._runtime.database.run("calls_expire", lambda cur: service.expire(cur, now_ms))
        metrics.count_outcomes(change.reached)
        self._tell(change.reached)
        await self._silences.sweep(now_ms)
        for outgoing in await self._runtime.database.run("calls_owed", lambda cur: service.take_due(cur, now_ms)):
            if not await self._sender.send(outgoing):
                await self._put_back(outgoing)
        return await self._runtime.database.run("calls_next_due", service.next_due_ms)

    async def _put_back(self, outgoing: Outgoing) -> None:
        now_ms = self._runtime.now_ms()
        await self._runtime.database.run("calls_put_back", lambda cur: service.put_back(cur, outgoing, now_ms))

    async def _purge(self) -> None:
        now_ms = self._runtime.now_ms()
        before_ms = now_ms - self._runtime.config.retention.call_records

        def purge(cur: Cursor) -> int:
            return service.purge(cur, before_ms, now_ms)

        while await self._runtime.database.run("calls_purge", purge):
            pass
        await self._silences.sweep(now_ms)
        await self._runtime.database.run("calls_limits_purge", lambda cur: store.forget_taken(cur, now_ms))
        await self._forget_the_gone()

    async def deactivated(
        self,
        user_id: str,
        is_deactivated: bool,  # noqa: FBT001  # Synapse calls it so
        by_admin: bool,  # noqa: FBT001
    ) -> None:
        """An account was closed: its calls go with it. What a crash makes us miss here, the hourly round finds."""
        if is_deactivated and self._runtime.api.is_mine(user_id):
            acct = await self._runtime.accounts.acct_of(UserId(user_id))
            await self._forget(acct, UserId(user_id))

    async def _forget_the_gone(self) -> None:
        after = Acct("")
        while people := await self._runtime.database.run(
            "calls_people", partial(service.people_with_records, after=after, limit=_PEOPLE_PAGE)
        ):
            for acct, user_id in people:
                is_gone = partial(self._runtime.private.is_deactivated, user_id=user_id)
                if await self._runtime.database.run("calls_is_gone", is_gone):
                    await self._forget(acct, user_id)
            after = people[-1][0]

    async def _forget(self, acct: Acct, user_id: UserId) -> None:
        await self._runtime.database.run("calls_forget", lambda cur: service.forget_person(cur, acct, user_id))
        self._recent.forget(acct)
