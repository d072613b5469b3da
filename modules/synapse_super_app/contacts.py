"""Contacts, which exist whenever any feature is on."""

from collections.abc import Sequence

from synapse_super_app.directory.feature import DirectoryFeature
from synapse_super_app.http.routes import Route
from synapse_super_app.runtime import Runtime


class ContactsFeature:
    name = "contacts"
    packages = ("super_app.accounts",)

    def __init__(self, runtime: Runtime, directory: DirectoryFeature | None) -> None:
        self._runtime = runtime

    def routes(self) -> Sequence[Route]:
        return ()

    async def start(self) -> None:
        return None
