"""What every feature stands on, and what a feature is. Owns wiring, no behaviour."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from synapse.module_api import ModuleApi

from super_app.ids import ServerName
from synapse_super_app.accounts import AccountBook
from synapse_super_app.config import Config
from synapse_super_app.database import Database
from synapse_super_app.follower import Follower
from synapse_super_app.gate import Gate
from synapse_super_app.http.routes import Route
from synapse_super_app.private_api import PrivateApi
from synapse_super_app.rollout import Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The parts that features share in one Synapse process."""

    api: ModuleApi
    private: PrivateApi
    config: Config
    server_name: ServerName
    database: Database
    gate: Gate
    follower: Follower
    accounts: AccountBook
    rollout: Rollout

    def now_ms(self) -> int:
        return self.api.get_current_time_msec()

    @property
    def is_main(self) -> bool:
        """Whether this process runs migrations, and the timers and outboxes of features other than payments."""
        return self.api.should_run_background_tasks()


class Feature(Protocol):
    """A part of the product that switches on and off by itself.

    Its constructor registers callbacks, queries and servlets with Synapse, as modules load before listeners do. It
    must not read the database: the tables may not exist yet.
    """

    @property
    def name(self) -> str: ...

    @property
    def packages(self) -> tuple[str, ...]:
        """Domain packages whose migrations it needs, lowest first."""
        ...

    def routes(self) -> Sequence[Route]: ...

    async def start(self) -> None:
        """Called once the tables exist, in every process. Background work starts here, on ``runtime.is_main`` only."""
        ...
