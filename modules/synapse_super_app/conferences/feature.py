"""The part of calls that is about many: wires the SFU, the desk for tokens, the keeper and their paths."""

from collections.abc import Sequence

from synapse.module_api.errors import ConfigError

from super_app.ids import RoomId, UserId
from super_app.names import LIVEKIT_PREFIX
from synapse_super_app.conferences.desk import Desk
from synapse_super_app.conferences.entrance import Entrance
from synapse_super_app.conferences.halls import Halls
from synapse_super_app.conferences.keeper import Keeper
from synapse_super_app.conferences.links import Links
from synapse_super_app.conferences.livekit import LiveKit
from synapse_super_app.conferences.resource import PROXY_PREFIX, LiveKitResource
from synapse_super_app.conferences.seats import Seats
from synapse_super_app.conferences.stages import Stages
from synapse_super_app.http.routes import Route
from synapse_super_app.runtime import Runtime


class Conferences:
    """Part of the calls feature. Without ``calls.livekit`` it offers no tokens."""

    def __init__(self, runtime: Runtime) -> None:
        try:
            livekit = LiveKit.configured(runtime)
        except ValueError as error:
            raise ConfigError(str(error), path=("modules",)) from None
        halls = Halls(runtime)
        self.entrance = Entrance(runtime, halls)
        self._stages = Stages(runtime, halls, self.entrance)
        self.links = Links(runtime, halls, self.entrance)
        runtime.gate.register(self._stages.gate())
        runtime.follower.register(self._stages.followed())
        self._keeper: Keeper | None = None
        self._resource: LiveKitResource | None = None
        if livekit is None:
            return
        seats = Seats(runtime)
        desk = Desk(runtime, livekit, halls, seats, self.entrance)
        self._keeper = Keeper(runtime, livekit, halls, seats, self.entrance)
        self._resource = LiveKitResource(runtime, livekit, desk, self._keeper)
        runtime.api.register_web_resource(LIVEKIT_PREFIX, self._resource)
        runtime.private.answer_proxied(PROXY_PREFIX, LIVEKIT_PREFIX, self._resource.answer)
        base = (runtime.api.public_baseurl or "").rstrip("/")
        runtime.private.announce_transports(
            [
                {"type": "livekit", "url": desk.url, "livekit_service_url": base + LIVEKIT_PREFIX},
                {"type": "m.livekit", "url": desk.url},
            ]
        )

    def routes(self) -> Sequence[Route]:
        return (*self.links.routes(), *self._stages.routes())

    async def show_out(self, room_id: RoomId, people: frozenset[UserId]) -> None:
        """Remove people from the call of a room whose end somebody else decided."""
        if self._keeper is not None:
            await self._keeper.show_out(room_id, people)

    def start(self) -> None:
        if self._resource is not None:
            self._resource.open()
        if self._keeper is not None:
            self._keeper.start()
