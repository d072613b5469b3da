"""The recovery feature in the homeserver: puts the realm and the routes of people together."""

from collections.abc import Sequence

from synapse.module_api.errors import ConfigError

from synapse_super_app.config import FeatureName
from synapse_super_app.http.routes import Route
from synapse_super_app.recovery.api import Alert, RecoveryApi
from synapse_super_app.recovery.realm import Realm
from synapse_super_app.runtime import Runtime


class RecoveryFeature:
    name = FeatureName.RECOVERY
    packages = ("super_app.accounts", "super_app.recovery")

    def __init__(self, runtime: Runtime) -> None:
        if runtime.server_name in {each.server for each in runtime.config.recovery.realms}:
            raise ConfigError(
                f"recovery.realms names {runtime.server_name}, which is always one of them; take it out",
                path=("modules",),
            )
        self._runtime = runtime
        self._realm = Realm(runtime)
        self._api = RecoveryApi(runtime, self._realm)
        runtime.api.register_third_party_rules_callbacks(
            on_user_deactivation_status_changed=self._api.on_user_deactivation_status_changed
        )

    def when_something_happened(self, alert: Alert) -> None:
        self._api.when_something_happened(alert)

    def routes(self) -> Sequence[Route]:
        return self._api.routes()

    async def start(self) -> None:
        await self._realm.start()
        if self._runtime.is_main:
            self._api.start()
