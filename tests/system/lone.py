"""A homeserver by itself, in this test's folder, with whatever config the test is about."""

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from synapse_super_app.commands import loopback
from synapse_super_app.commands.homeserver_process import SYNAPSE, Homeserver, write_config
from synapse_super_app.commands.matrix_client import MatrixClient


class LoneHomeserver:
    """On SQLite, and without federation if none is given. ``modules`` are entries of further Synapse modules; ``path``
    is where they are; ``config`` are keys of Synapse's own, ``port`` is where clients reach it.
    """

    def __init__(
        self,
        folder: Path,
        module_config: Mapping[str, Any] | None,
        *,
        expects_our_api: bool = True,
        modules: Sequence[Mapping[str, Any]] = (),
        path: Path | None = None,
        program: Sequence[str] = SYNAPSE,
        config: Mapping[str, Any] | None = None,
        port: int | None = None,
        federation: loopback.Federation | None = None,
    ) -> None:
        port = loopback.free_ports(1) if port is None else port
        whole = loopback.synapse_config(
            folder=folder,
            client_port=port,
            database=loopback.sqlite(folder),
            module_config=module_config,
            federation=federation,
            more=config,
        )
        self.name = str(whole["server_name"])
        whole["modules"] += list(modules)
        write_config(folder / "homeserver.yaml", whole)
        self._folder = folder
        self.process = Homeserver(
            config_path=folder / "homeserver.yaml",
            client_url=loopback.client_url(port),
            console_path=folder / "homeserver.log",
            expects_our_api=expects_our_api,
            environment={} if path is None else {"PYTHONPATH": str(path)},
            program=program,
        )

    def __enter__(self) -> Self:
        self.process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop()

    def account(self, name: str, *, admin: bool = False) -> MatrixClient:
        with self.anybody() as client:
            return client.signed_in(
                client.register_with_secret(loopback.REGISTRATION_SECRET, name, f"{name}-password", admin=admin)
            )

    def anybody(self) -> MatrixClient:
        """A client that is not signed in."""
        return MatrixClient(self.process.client_url)

    def log(self) -> str:
        return self.process.console_path.read_text(encoding="utf-8")

    def paths(self) -> frozenset[str]:
        """The paths of our API, from its OpenAPI document."""
        with self.anybody() as client:
            return frozenset(client.openapi()["paths"])

    def tables(self) -> frozenset[str]:
        """Our tables in its database."""
        connection = sqlite3.connect(f"file:{self._folder / 'homeserver.db'}?mode=ro", uri=True)
        try:
            rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'superapp_%'")
            return frozenset(str(row[0]) for row in rows)
        finally:
            connection.close()

    def status(self, path: str) -> int:
        with self.anybody() as client:
            return client.request_raw("GET", path)[0]

    def answer(self, path: str) -> Any:
        with self.anybody() as client:
            return json.loads(client.request_raw("GET", path)[1])


MakeLone = Callable[..., LoneHomeserver]
"""What the fixture ``lone`` gives: ``lone(module_config, …)``, the arguments of ``LoneHomeserver`` but the folder."""
