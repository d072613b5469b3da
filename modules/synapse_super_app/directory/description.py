"""The server record: what this homeserver says of itself, as its features describe themselves."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from super_app.directory import server_record
from synapse_super_app.directory.own import OwnHandles
from synapse_super_app.runtime import Runtime

Describe = Callable[[], Awaitable[Mapping[str, Any]]]
"""Canonical JSON about one feature."""


class SelfDescription:
    """Gathers what features say, and signs it."""

    def __init__(self, runtime: Runtime, own: OwnHandles) -> None:
        self._runtime = runtime
        self._own = own
        self._parts: dict[str, Describe] = {}

    def tell(self, name: str, describe: Describe) -> None:
        """Add a part to the server record. To be called while the module is built."""
        self._parts[name] = describe

    async def current(self) -> dict[str, Any]:
        """The signed record; issued anew, and logged, when what it says has changed."""
        enabled = {name.value for name in self._runtime.config.features.enabled()}
        facts: dict[str, Any] = {
            "directory_key": self._own.signer.certificate()["public_key"],
            "features": {name: name in enabled for name in ("directory", "calls", "payments", "web")},
            **{name: dict(await describe()) for name, describe in self._parts.items()},
        }
        work = partial(server_record.current, issuer=self._own.issuer, facts=facts, now_ms=self._runtime.now_ms())
        return await self._runtime.database.run("directory_server_record", work)
