"""The directory feature in the homeserver."""

from collections.abc import Sequence

from synapse_super_app.config import FeatureName
from synapse_super_app.http.routes import Route
from synapse_super_app.runtime import Runtime


class DirectoryFeature:
    name = FeatureName.DIRECTORY
    packages = ("super_app.accounts", "super_app.directory")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def routes(self) -> Sequence[Route]:
        return ()

    async def start(self) -> None:
        return None
