"""Shows out of the TURN server who is in no call any more.

coturn looks at the expiry of credentials only when something is allocated: what is allocated can be refreshed for
ever, and credentials that have not expired allocate anew. So every two seconds, while there are names whose call is
over, this asks coturn who relays, and cancels what is relayed under them. Nothing is asked while there are none. It
owns no call: whether one is over is what the records say, and whether somebody may relay in a room is whether they are
in it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import Counter

from super_app.calls import store
from super_app.calls.model import Relayed, RoomPlace, SessionId
from super_app.db import Cursor
from super_app.ids import Acct, RoomId, UserId
from synapse_super_app.calls.coturn import Coturn
from synapse_super_app.calls.turn import TTL_S, TurnCredentials, name_in
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_LOOK_MS: Final = 2_000
_COUNT_MS: Final = 60_000
"""How often names in rooms that hold no valid credentials any more are looked for at coturn, to forget them."""
_NAMES_MAX: Final = 5_000

_removed_total = Counter("superapp_turn_removed_total", "Allocations of the TURN server that were ended.")
_unanswered_total = Counter("superapp_turn_unanswered_total", "Looks at the TURN server that failed.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sight:
    over: tuple[Relayed, ...]
    """Whose call is over, or who is not in the room any more."""
    stay: tuple[Relayed, ...]
    """Who is in a room still."""


class TurnKeeper:
    """One for all TURN servers, in the process that follows."""

    def __init__(self, runtime: Runtime, servers: Sequence[Coturn]) -> None:
        self._runtime = runtime
        self._servers = servers
        self._counted_ms = 0
        self._fails: set[str] = set()

    def start(self) -> None:
        if self._servers:
            self._runtime.api.looping_background_call(
                self.look, _LOOK_MS, desc="superapp_calls_turn", run_on_all_instances=True
            )

    async def note(
        self, credentials: TurnCredentials, acct: Acct, user_id: UserId, place: SessionId | RoomPlace, now_ms: int
    ) -> None:
        """Somebody gets credentials; call it before they have them."""
        name = name_in(credentials.username)
        if not self._servers or name is None:
            return
        relayed = Relayed(name=name, owner=acct, user_id=user_id, place=place, until_ms=now_ms + TTL_S * 1_000)
        await self._runtime.database.run("calls_relayed", lambda cur: store.add_relayed(cur, relayed))

    async def look(self) -> None:
        now_ms = self._runtime.now_ms()
        sight = await self._runtime.database.run("calls_relayed_look", self._see)
        counts = now_ms - self._counted_ms >= _COUNT_MS and any(each.until_ms <= now_ms for each in sight.stay)
        if not sight.over and not counts:
            return
        unwanted = frozenset(each.name for each in sight.over)
        used: set[str] = set()
        answered = [await self._show_out(server, unwanted, used) for server in self._servers]
        if not all(answered):
            return
        self._counted_ms = now_ms
        # Who neither relays nor could begin to is not looked for any more.
        gone = [each.name for each in (*sight.over, *sight.stay) if each.until_ms <= now_ms and each.name not in used]
        if gone:
            await self._runtime.database.run(
                "calls_relayed_forget", lambda cur: store.forget_relayed(cur, gone, now_ms)
            )

    def _see(self, cur: Cursor) -> _Sight:
        over = list(store.relayed_over(cur, _NAMES_MAX))
        stay: list[Relayed] = []
        by_room: dict[RoomId, list[Relayed]] = {}
        for each in store.relayed_in_rooms(cur, _NAMES_MAX):
            if isinstance(each.place, RoomPlace):
                by_room.setdefault(each.place.room_id, []).append(each)
        for room_id, names in by_room.items():
            joined = self._runtime.private.joined_of(cur, room_id, {each.user_id for each in names})
            for each in names:
                (stay if each.user_id in joined else over).append(each)
        return _Sight(over=tuple(over), stay=tuple(stay))

    async def _show_out(self, server: Coturn, unwanted: frozenset[str], used: set[str]) -> bool:
        try:
            shown = await self._runtime.api.defer_to_thread(server.show_out, unwanted)
        except (OSError, ValueError) as error:
            _unanswered_total.inc()
            if server.place not in self._fails:
                logger.warning(
                    "coturn at %s is not asked who relays (%s); until it answers, who got credentials for a call can "
                    "go on relaying after its end",
                    server.place,
                    error,
                )
            self._fails.add(server.place)
            return False
        self._fails.discard(server.place)
        _removed_total.inc(shown.removed)
        used |= shown.names
        return True
