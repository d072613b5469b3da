"""Seats that are given without waiting for the database, where one process does all.

A token needs nothing that is not in memory, once the room of the SFU is made and the rules of the Matrix room are
read. The seat is written a moment later, with all others that were given meanwhile; whoever reads seats has them
written before. One that a crash took is nobody's: who comes with its token is shown out, and asks for another.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Final

from super_app.conferences import service
from super_app.conferences.model import ROOM_KNOWN_MS, Identity, Seat, SfuRoom
from super_app.db import Cursor
from synapse_super_app.runtime import Runtime

_ROOMS_MAX: Final = 20_000
_LATER_MS: Final = 100
"""How long a seat waits for others that are written with it, and for its token to be out before the disk is busy."""


class Seats:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._made: OrderedDict[SfuRoom, int] = OrderedDict()
        self._given: dict[tuple[SfuRoom, Identity], tuple[Seat, str]] = {}
        self._is_writing = False

    @property
    def are_here(self) -> bool:
        """Whether no other process gives seats, writes them or is told of rooms."""
        return not self._runtime.private.has_workers

    def is_made(self, sfu_room: SfuRoom, now_ms: int) -> bool:
        """Whether this process knows that the SFU has a room."""
        return now_ms - self._made.get(sfu_room, -ROOM_KNOWN_MS) < ROOM_KNOWN_MS

    def room_made(self, sfu_room: SfuRoom, now_ms: int) -> None:
        self._made[sfu_room] = now_ms
        self._made.move_to_end(sfu_room)
        while len(self._made) > _ROOMS_MAX:
            self._made.popitem(last=False)

    def room_ended(self, sfu_room: SfuRoom) -> None:
        self._made.pop(sfu_room, None)

    def give(self, seat: Seat, slot_id: str) -> None:
        self._given[seat.sfu_room, seat.identity] = (seat, slot_id)
        if not self._is_writing:
            self._is_writing = True
            self._runtime.api.delayed_background_call(_LATER_MS, self._write, desc="superapp_seats")

    async def _write(self) -> None:
        try:
            await self.written()
        finally:
            self._is_writing = False

    async def written(self) -> None:
        """All that was given before stands in the database. What could not be written is tried again the next time."""
        while self._given:
            taken = dict(self._given)
            await self._runtime.database.run(
                "conferences_seats", partial(_take, tuple(taken.values()), self._runtime.now_ms())
            )
            for key, given in taken.items():
                if self._given.get(key) is given:
                    del self._given[key]


def _take(given: Sequence[tuple[Seat, str]], now_ms: int, cur: Cursor) -> None:
    # In one order for all who write several, so that none waits for another in a circle.
    for seat, slot_id in sorted(given, key=lambda each: (each[0].sfu_room, each[0].identity)):
        service.take_seat(cur, seat, slot_id, now_ms)
