"""Keeps the SFU as Matrix says: who left a room leaves its call, and leave events are restarted or sent.

It compares what is with what should be, once a second and after each webhook, so that a lost webhook, a missed event, a
restart or an SFU that did not answer is made good by the next look. Runs in the process that sends delayed events.
"""

import logging
from collections import defaultdict
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import Counter

from super_app.conferences import service, store
from super_app.conferences.model import REFRESHED_MS, Care, Grant, Hall, Identity, Leave, Seat, SfuRoom
from super_app.conferences.rules import care_of, grant_of
from super_app.db import Cursor
from super_app.ids import EventId, RoomId, UserId
from synapse_super_app.conferences.entrance import Entrance
from synapse_super_app.conferences.halls import Halls
from synapse_super_app.conferences.livekit import LiveKit, present_of
from synapse_super_app.conferences.seats import Seats
from synapse_super_app.private_api import NoAnswer
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_TICK_MS: Final = 1_000
_COUNT_MS: Final = 15_000
_SEATS_MAX: Final = 5_000
_LEAVES_MAX: Final = 5_000

_removed_total = Counter("superapp_sfu_removed_total", "People who were removed from the SFU.", ["why"])
_unanswered_total = Counter(
    "superapp_sfu_unanswered_total", "Requests that the SFU refused or did not answer.", ["what"]
)
_leaves_total = Counter("superapp_sfu_leaves_total", "Leave events that were looked after, by what was done.", ["care"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sight:
    """What the database says now."""

    gone: tuple[Seat, ...]
    """Who has a seat and is no more in the Matrix room, or is in a call that costs money without paying for it."""
    changed: tuple[tuple[Seat, Grant], ...]
    """Whose role lets them send something else now."""
    leaves: tuple[Leave, ...]
    unread: frozenset[EventId]
    """Rules of rooms that have to be read first."""


class Keeper:
    def __init__(self, runtime: Runtime, livekit: LiveKit, halls: Halls, seats: Seats, entrance: Entrance) -> None:
        self._runtime = runtime
        self._livekit = livekit
        self._halls = halls
        self._seats = seats
        self._entrance = entrance
        self._counted_ms = 0
        self._looking = False
        self._again = False

    def start(self) -> None:
        if self._runtime.private.sends_delayed_events:
            self._runtime.api.looping_background_call(
                self._look, _TICK_MS, desc="superapp_conferences", run_on_all_instances=True
            )

    def look_soon(self) -> None:
        """Something changed; the next look need not be waited for."""
        if self._runtime.private.sends_delayed_events:
            self._runtime.api.run_as_background_process("superapp_conferences", self._look)

    async def show_out(self, room_id: RoomId, people: frozenset[UserId]) -> None:
        """Their call is over though they are still in the room; with a new ring they may come again."""
        await self._seats.written()
        now_ms = self._runtime.now_ms()
        for seat in await self._runtime.database.run(
            "conferences_of_room", lambda cur: store.open_seats(cur, now_ms, _SEATS_MAX)
        ):
            if seat.room_id == room_id and seat.user_id in people and seat.participant is not None:
                await self._remove(seat, "over")

    async def on_webhook(self, said: dict[str, Any]) -> None:
        """The SFU tells that somebody came or went, or that a room was made or closed."""
        await self._seats.written()
        sfu_room = SfuRoom(str((said.get("room") or {}).get("name", "")))
        present = present_of(said.get("participant") or {})
        now_ms = self._runtime.now_ms()
        match said.get("event"):
            case "participant_joined" if present.is_person:
                await self._came(sfu_room, present.identity, present.participant)
            case "participant_left" | "participant_connection_aborted":
                await self._runtime.database.run(
                    "conferences_went",
                    lambda cur: service.went(cur, sfu_room, present.identity, present.participant, now_ms),
                )
                self.look_soon()
            case "room_started":
                known = await self._runtime.database.run("conferences_known", lambda cur: store.ensured(cur, sfu_room))
                if known is None:
                    logger.warning(
                        "LiveKit made a room that no token of this homeserver is for; set room.auto_create: false there"
                    )
            case "room_finished":
                self._seats.room_ended(sfu_room)
                await self._runtime.database.run("conferences_ended", lambda cur: store.room_ended(cur, sfu_room))
            case _:
                pass

    async def _came(self, sfu_room: SfuRoom, identity: Identity, participant: str) -> None:
        def seen(cur: Cursor) -> tuple[bool, Seat | None]:
            if store.ensured(cur, sfu_room) is None:
                # Not one of our rooms.
                return True, None
            seat = service.came(cur, sfu_room, identity, participant)
            return seat is not None and self._may_stay(cur, seat), seat

        may_stay, seat = await self._runtime.database.run("conferences_came", seen)
        if may_stay:
            self.look_soon()
        elif seat is None:
            await self._remove_stranger(sfu_room, identity)
        else:
            await self._remove(seat)

    def _may_stay(self, cur: Cursor, seat: Seat) -> bool:
        return bool(self._runtime.private.joined_of(cur, seat.room_id, (seat.user_id,)))

    async def _look(self) -> None:
        if self._looking:
            self._again = True
            return
        self._looking = True
        try:
            self._again = True
            while self._again:
                self._again = False
                await self._look_once()
        finally:
            self._looking = False

    async def _look_once(self) -> None:
        await self._seats.written()
        now_ms = self._runtime.now_ms()
        sight = await self._runtime.database.run("conferences_look", lambda cur: self._see(cur, now_ms))
        if sight.unread:
            await self._halls.read(sight.unread)
            self._again = True
        for seat in sight.gone:
            await self._remove(seat)
        for seat, grant in sight.changed:
            await self._regrant(seat, grant)
        for leave in sight.leaves:
            await self._care_for(leave, now_ms)
        if now_ms - self._counted_ms >= _COUNT_MS:
            self._counted_ms = now_ms
            await self._count(now_ms)

    def _see(self, cur: Cursor, now_ms: int) -> _Sight:
        by_room: dict[RoomId, list[Seat]] = defaultdict(list)
        for seat in store.open_seats(cur, now_ms, _SEATS_MAX):
            by_room[seat.room_id].append(seat)
        gone: list[Seat] = []
        changed: list[tuple[Seat, Grant]] = []
        halls = self._halls.of(cur, list(by_room))
        for room_id, seats in by_room.items():
            people: set[UserId] = {seat.user_id for seat in seats}
            joined = self._runtime.private.joined_of(cur, room_id, people)
            gone += [seat for seat in seats if seat.user_id not in joined]
            if not isinstance(halls, frozenset):
                stay = [seat for seat in seats if seat.user_id in joined and seat.participant is not None]
                unpaid = self._unpaid(cur, halls[room_id], room_id, {seat.user_id for seat in stay})
                gone += [seat for seat in stay if seat.user_id in unpaid]
                changed += [
                    (seat, grant)
                    for seat in stay
                    if (grant := grant_of(halls[room_id], seat.user_id, publishes_here=seat.publishes_here))
                    != seat.grant
                ]
        return _Sight(
            gone=tuple(gone),
            changed=tuple(changed),
            leaves=store.leaves(cur, _LEAVES_MAX),
            unread=halls if isinstance(halls, frozenset) else frozenset(),
        )

    async def _regrant(self, seat: Seat, grant: Grant) -> None:
        """What somebody may send has changed: their role has."""
        try:
            await self._livekit.regrant(seat.sfu_room, seat.identity, grant)
        except NoAnswer as error:
            self._unanswered("regrant", error)
            return
        await self._runtime.database.run(
            "conferences_regrant", lambda cur: store.regrant(cur, seat.sfu_room, seat.identity, grant)
        )

    def _unpaid(self, cur: Cursor, hall: Hall, room_id: RoomId, people: AbstractSet[UserId]) -> AbstractSet[UserId]:
        """Who took back what they had confirmed, or used it up, and kept the token that they had for it."""
        if self._runtime.rollout.dry_run:
            return frozenset()
        return {user_id for user_id in people if self._entrance.unpaid(cur, hall, room_id, user_id) is not None}

    async def _remove(self, seat: Seat, why: str = "not_in_room") -> None:
        """Remove somebody from the call. Who is no more in the room is removed at the next look if this fails."""
        try:
            await self._livekit.remove(seat.sfu_room, seat.identity)
        except NoAnswer as error:
            self._unanswered("remove", error)
            return
        _removed_total.labels(why).inc()
        until_ms = self._runtime.now_ms() + REFRESHED_MS
        await self._runtime.database.run(
            "conferences_bar", lambda cur: store.bar(cur, seat.sfu_room, seat.identity, until_ms)
        )

    async def _remove_stranger(self, sfu_room: SfuRoom, identity: Identity) -> None:
        try:
            await self._livekit.remove(sfu_room, identity)
        except NoAnswer as error:
            self._unanswered("remove", error)
        else:
            _removed_total.labels("no_seat").inc()

    async def _care_for(self, leave: Leave, now_ms: int) -> None:
        care = care_of(leave, now_ms)
        if care is Care.WAIT:
            return
        private, database = self._runtime.private, self._runtime.database
        if care is Care.RESTART and await private.restart_delayed(leave.delay_id, now_ms):
            _leaves_total.labels(care.value).inc()
            await database.run("conferences_restarted", lambda cur: store.restarted(cur, leave, now_ms))
            return
        if care is Care.SEND:
            try:
                await private.send_delayed(leave.delay_id)
            except Exception:
                # Who was removed from the room cannot send into it, and need not leave the call.
                logger.info("The leave event %s could not be sent", leave.delay_id, exc_info=True)
        # Sent, given up, or gone: it was sent or cancelled by the client itself.
        _leaves_total.labels(care.value).inc()
        await database.run("conferences_dropped", lambda cur: store.drop_leave(cur, leave))

    async def _count(self, now_ms: int) -> None:
        """Ask the SFU who is there, since a webhook may be lost."""
        for sfu_room in await self._runtime.database.run(
            "conferences_occupied", lambda cur: store.occupied_rooms(cur, now_ms)
        ):
            await self._count_in(sfu_room, now_ms)
        await self._runtime.database.run("conferences_forget", lambda cur: store.forget(cur, now_ms))

    async def _count_in(self, sfu_room: SfuRoom, now_ms: int) -> None:
        try:
            found = await self._livekit.present(sfu_room)
        except NoAnswer as error:
            self._unanswered("count", error)
            return
        # Who came while the SFU was asked has a seat since.
        await self._seats.written()
        present = {each.identity: each.participant for each in found if each.is_person}

        def count(cur: Cursor) -> tuple[service.Census, tuple[Seat, ...]]:
            census = service.count(cur, sfu_room, present, now_ms)
            return census, tuple(seat for seat in census.returned if not self._may_stay(cur, seat))

        census, barred = await self._runtime.database.run("conferences_count", count)
        for seat in barred:
            await self._remove(seat)
        for identity in census.strangers:
            await self._remove_stranger(sfu_room, identity)
        self._again = self._again or bool(census.returned)

    def _unanswered(self, what: str, error: NoAnswer) -> None:
        _unanswered_total.labels(what).inc()
        logger.warning("LiveKit did not %s: %s", what, error)
