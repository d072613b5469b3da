"""The composition root: reads the config, probes Synapse, builds the enabled features and starts them."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, cast

from synapse.module_api import ModuleApi
from synapse.module_api.errors import ConfigError

from super_app.db import migrations
from super_app.ids import ServerName
from super_app.names import CLIENT_API_PREFIX
from synapse_super_app import private_api
from synapse_super_app.accounts import AccountBook
from synapse_super_app.assistant.feature import AssistantFeature
from synapse_super_app.calls.feature import CallsFeature
from synapse_super_app.cards.feature import CardsFeature
from synapse_super_app.config import Config, FeatureName, InvalidConfig, parse_config
from synapse_super_app.contacts import ContactsFeature
from synapse_super_app.database import Database
from synapse_super_app.directory.feature import DirectoryFeature
from synapse_super_app.follower import Follower
from synapse_super_app.gate import Gate
from synapse_super_app.http.guards import RequestLimits, admitting, audited, four_eyed
from synapse_super_app.http.resource import ApiResource
from synapse_super_app.http.routes import Route
from synapse_super_app.operations.feature import DIRECT, OperationsFeature
from synapse_super_app.payments.feature import PaymentsFeature
from synapse_super_app.private_api import PrivateApi, missing
from synapse_super_app.rollout import Rollout
from synapse_super_app.runtime import Feature, Runtime
from synapse_super_app.sign_ins import SignIns
from synapse_super_app.web.feature import WebFeature

if TYPE_CHECKING:
    from synapse_super_app.recovery.feature import RecoveryFeature

logger = logging.getLogger(__name__)

_SCHEMA_POLL_S: Final = 1.0


class SuperApp:
    """The module that ``homeserver.yaml`` names."""

    def __init__(self, config: Config, api: ModuleApi, private: PrivateApi | None = None) -> None:
        self._api = api
        enabled = _runnable(config)
        private = PrivateApi(api) if private is None else private
        database = Database(api, private.engine)
        server_name = ServerName(api.server_name)
        rollout = Rollout(config.rollout)
        self.runtime = Runtime(
            api=api,
            private=private,
            config=config,
            server_name=server_name,
            database=database,
            gate=Gate(api, rollout, private.came_over_federation),
            follower=Follower(api, private, database),
            accounts=AccountBook(api, database, server_name),
            rollout=rollout,
        )
        self.features: list[Feature] = build_features(self.runtime, enabled)
        # Persisted events are followed where the ledger's writer is, or on the background worker if there is none.
        self._tenure = next((each.tenure for each in self.features if isinstance(each, PaymentsFeature)), None)
        if self._tenure is not None:
            self._tenure.while_held(lambda _epoch: self.runtime.follower.start(), self.runtime.follower.stop)
        sessions = next((each for each in self.features if isinstance(each, WebFeature)), None)
        sign_ins = SignIns(self.runtime)
        self._resource = ApiResource(api, version("super-app-matrix"), sign_ins.is_fresh, sessions)
        limits = RequestLimits(self.runtime, config.requests)
        if self.features:
            private.tell_apart_what_came_over_federation()
            routes = self._all_routes(enabled)
            self._resource.add([limits.limiting(route) for route in sign_ins.routes()])
            self._resource.add([self._guarded(route, limits) for route in routes])
            for feature in self.features:
                if isinstance(feature, AssistantFeature):
                    feature.connect(self._resource)
            api.register_web_resource(CLIENT_API_PREFIX, self._resource)
            api.run_as_background_process("superapp_start", self._start)

    @staticmethod
    def parse_config(config: dict[str, Any]) -> Config:
        try:
            return parse_config(config)
        except InvalidConfig as error:
            raise ConfigError(str(error), path=("modules",)) from None

    def _all_routes(self, enabled: tuple[FeatureName, ...]) -> list[Route]:
        """Those of the features, once each, and what operations make of them."""
        routes = [route for feature in self.features for route in feature.routes()]
        packages = [package for feature in self.features for package in feature.packages]
        operations = OperationsFeature(self.runtime, packages, enabled)
        operations.connect(routes)
        self.features.append(operations)
        return [*routes, *operations.routes()]

    def _guarded(self, route: Route, limits: RequestLimits) -> Route:
        """From the inside out: who is let in, what two must agree on, what is written down, how often."""
        if self.runtime.config.payments.four_eyes and route.path in DIRECT.values():
            route = four_eyed(route)
        return limits.limiting(audited(admitting(route, self.runtime.rollout), self.runtime))

    async def _start(self) -> None:
        packages = list(dict.fromkeys(package for feature in self.features for package in feature.packages))
        if self.runtime.is_main:
            await self._migrate(packages)
        else:
            await self._wait_for_schema(packages)
        for feature in self.features:
            await feature.start()
        self.runtime.gate.open()
        self._resource.open()
        if self._tenure is not None:
            await self._tenure.start()
        elif self.runtime.is_main:
            await self.runtime.follower.start()
        logger.info("Super App is ready: %s", ", ".join(feature.name for feature in self.features))

    async def _migrate(self, packages: list[str]) -> None:
        database = self.runtime.database
        await database.run("migrations_prepare", migrations.prepare)
        for package in packages:
            done = await database.run("migrations_read", partial(migrations.applied, package=package))
            found = migrations.load(package, database.engine)
            for migration in migrations.due(found, done, others_run=self.runtime.private.has_workers):
                logger.info("Migrating %s: %s", package, migration.name)
                await database.run("migrate", partial(migrations.apply, migration=migration))

    async def _wait_for_schema(self, packages: list[str]) -> None:
        database = self.runtime.database
        for package in packages:
            wanted = migrations.needed(migrations.load(package, database.engine))
            while await self._applied(package) < wanted:
                await self._api.sleep(_SCHEMA_POLL_S)

    async def _applied(self, package: str) -> int:
        try:
            return await self.runtime.database.run("migrations_read", lambda cur: migrations.applied(cur, package))
        except Exception:  # noqa: BLE001 - each engine has its own class for a missing table
            # The main process has not made the table yet.
            return 0


def _runnable(config: Config) -> tuple[FeatureName, ...]:
    """The enabled features that this Synapse can carry; one line for each that goes off."""
    lost = missing(private_api.USES)
    enabled = config.features.enabled()
    for name in enabled:
        if name in lost:
            use = lost[name]
            line = f"feature {name} needs {use.symbol}, which this Synapse does not have ({use.reason})"
            if config.on_private_api_change == "refuse_start":
                raise ConfigError(f"{line}; switch it off in features, or use a supported Synapse", path=("modules",))
            logger.error("Super App: %s; it is off, chat and the other features go on", line)
    return tuple(name for name in enabled if name not in lost)


def build_features(runtime: Runtime, enabled: tuple[FeatureName, ...]) -> list[Feature]:
    """The features in the order in which they stand on each other. Contacts are there with any of them."""
    if not enabled:
        return []
    directory = DirectoryFeature(runtime) if FeatureName.DIRECTORY in enabled else None
    features: list[Feature] = [ContactsFeature(runtime, directory)]
    if directory is not None:
        features.append(directory)
    builders: Mapping[FeatureName, Callable[[], Feature]] = {
        FeatureName.PAYMENTS: lambda: PaymentsFeature(runtime, directory),
        FeatureName.CALLS: lambda: CallsFeature(runtime, directory),
        FeatureName.WEB: lambda: WebFeature(runtime),
        FeatureName.RECOVERY: lambda: _recovery(runtime),
    }
    features.extend(build() for name, build in builders.items() if name in enabled)
    # Last: these speak of what the others do.
    payments = next((each for each in features if isinstance(each, PaymentsFeature)), None)
    calls = next((each for each in features if isinstance(each, CallsFeature)), None)
    if payments is not None and calls is not None:
        payments.charge_for(calls)
    if FeatureName.CARDS in enabled:
        features.append(CardsFeature(runtime, payments, calls))
    if FeatureName.ASSISTANT in enabled:
        assistant = AssistantFeature(runtime, frozenset(enabled), payments, calls)
        features.append(assistant)
        for each in features:
            if each.name == FeatureName.RECOVERY:
                cast("RecoveryFeature", each).when_something_happened(assistant.tell_of_recovery)
    return features


def _recovery(runtime: Runtime) -> "RecoveryFeature":
    # It loads libsodium, which nobody else needs.
    from synapse_super_app.recovery.feature import RecoveryFeature

    return RecoveryFeature(runtime)
