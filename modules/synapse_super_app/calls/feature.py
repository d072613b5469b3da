"""The calls feature in the homeserver."""

from collections.abc import Sequence

from synapse_super_app.config import FeatureName
from synapse_super_app.directory.feature import DirectoryFeature
from synapse_super_app.http.routes import Route
from synapse_super_app.runtime import Runtime


class CallsFeature:
    name = FeatureName.CALLS
    packages = ("super_app.accounts", "super_app.calls")

    def __init__(self, runtime: Runtime, directory: DirectoryFeature | None) -> None:
        self._runtime = runtime

    def routes(self) -> Sequence[Route]:
        return ()

    async def start(self) -> None:
        return None
