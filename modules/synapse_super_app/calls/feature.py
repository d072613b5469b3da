"""The calls feature in the homeserver: wires the gate, the follower, screening, timers and routes."""

from collections.abc import Awaitable, Callable, Sequence

from synapse.module_api.errors import ConfigError

from super_app.calls.model import Record
from super_app.errors import Refused
from super_app.ids import RoomId, UserId
from synapse_super_app.calls.api import CallsApi
from synapse_super_app.calls.coturn import Coturn
from synapse_super_app.calls.encrypted import EncryptedRings
from synapse_super_app.calls.follow import CallsFollower
from synapse_super_app.calls.gate import CallsGate
from synapse_super_app.calls.recent import RecentBook
from synapse_super_app.calls.rooms import Rooms
from synapse_super_app.calls.screening import Fares, Screening
from synapse_super_app.calls.sender import Sender
from synapse_super_app.calls.silences import Silences
from synapse_super_app.calls.turn import Turn, TurnQuota
from synapse_super_app.calls.turn_keeper import TurnKeeper
from synapse_super_app.conferences.entrance import Entrance
from synapse_super_app.conferences.feature import Conferences
from synapse_super_app.conferences.links import Links
from synapse_super_app.config import FeatureName
from synapse_super_app.directory.feature import DirectoryFeature
from synapse_super_app.http.refusals import error_of
from synapse_super_app.http.routes import Route
from synapse_super_app.people import People, UserIdsOnly
from synapse_super_app.relations import Relations
from synapse_super_app.runtime import Runtime


class CallsFeature:
    name = FeatureName.CALLS
    packages = ("super_app.accounts", "super_app.calls", "super_app.conferences")

    def __init__(self, runtime: Runtime, directory: DirectoryFeature | None) -> None:
        self._runtime = runtime
        api, private = runtime.api, runtime.private
        people: People = UserIdsOnly(api, runtime.accounts) if directory is None else directory.people
        rooms = Rooms(api, private)
        recent = RecentBook(runtime.database, is_alone=not private.has_workers)
        relations = Relations(api, private, runtime.accounts, runtime.database)
        screening = Screening(
            api, private, runtime.accounts, people, runtime.config.calls, recent, relations, runtime.rollout
        )
        self.screening = screening
        sender = Sender(api)
        silences = Silences(runtime)
        self._follower = CallsFollower(
            runtime, rooms=rooms, screening=screening, sender=sender, recent=recent, silences=silences
        )
        gate = CallsGate(
            runtime,
            rooms=rooms,
            screening=screening,
            sender=sender,
            clockwork=self._follower.clockwork,
            silences=silences,
        )
        encrypted = EncryptedRings(runtime, gate=gate, follower=self._follower)
        self._conferences = Conferences(runtime)
        entrance, gated, followed = self._conferences.entrance, gate.handlers(), self._follower.handlers()
        runtime.gate.register({**gated, **entrance.gate(gated), **encrypted.handlers()})
        runtime.follower.register({**followed, **entrance.followed(followed)})
        runtime.follower.when_started(self._follower.take_up)
        api.register_spam_checker_callbacks(
            user_may_create_room=gate.may_create_room, user_may_send_state_event=gate.may_send_state_event
        )
        api.register_third_party_rules_callbacks(on_user_deactivation_status_changed=self._follower.deactivated)
        try:
            turn = Turn.configured(runtime.config.calls)
            servers = Coturn.configured(runtime.config.calls)
        except ValueError as error:
            raise ConfigError(str(error), path=("modules",)) from None
        quota = TurnQuota(runtime)
        self._turn_keeper = TurnKeeper(runtime, servers)

        async def guard(user_id: UserId) -> None:
            self._limit(await quota.take(user_id, runtime.now_ms()))

        private.limit_turn_server(guard)
        self._api = CallsApi(runtime, people, screening, turn, quota, self._turn_keeper, self._follower.clockwork)

    def charge(self, fares: Fares) -> None:
        """Connect payments: who has paid, or has agreed to pay, and whose ring of ours lacks that."""
        self.screening.charge(fares)

    @property
    def entrance(self) -> Entrance:
        return self._conferences.entrance

    @property
    def links(self) -> Links:
        return self._conferences.links

    async def show_out(self, room_id: RoomId, people: frozenset[UserId]) -> None:
        """Remove people from the call of a room at the SFU, if it is ours and they are in it."""
        await self._conferences.show_out(room_id, people)

    def when_reached(self, listener: Callable[[Sequence[Record]], Awaitable[None]]) -> None:
        """Call ``listener`` with records that came into a state, in the process that follows."""
        self._follower.when_reached(listener)

    def routes(self) -> Sequence[Route]:
        return (*self._api.routes(), *self._conferences.routes())

    def _limit(self, refused: Refused | None) -> None:
        if refused is not None and self._runtime.rollout.dry_run:
            self._runtime.rollout.would_refuse("turn", refused.reason.value)
        else:
            _refuse(refused)

    async def start(self) -> None:
        self._conferences.start()
        if self._runtime.is_main:
            self._follower.start()
            self._turn_keeper.start()


def _refuse(refused: Refused | None) -> None:
    if refused is not None:
        raise error_of(refused)
