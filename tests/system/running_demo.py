"""``super-app demo``: a process, and the ready file that it wrote."""

import json
from pathlib import Path
from typing import Any, Final, cast

import turn_server
from processes import Command

from super_app.db import Engine
from synapse_super_app.commands import loopback
from synapse_super_app.commands.demo_pair import PORTS, Person
from synapse_super_app.commands.loopback import free_ports
from synapse_super_app.commands.matrix_client import MatrixClient, wait_until

READY_TIMEOUT_S: Final = 240.0
"""The promise of the product, from nothing."""


class RunningDemo:
    """A demo that is ready. Names and people as in ``DemoPair``, but all of it is read from the ready file.

    ``real`` as ``Command`` has it.
    """

    def __init__(
        self,
        folder: Path,
        engine: Engine,
        *,
        port_base: int | None = None,
        turn: tuple[str, Path] | None = None,
        real: bool = False,
    ) -> None:
        self.folder = folder
        self.engine = engine
        self.turn = turn
        self.port_base = free_ports(PORTS) if port_base is None else port_base
        self.admins: list[MatrixClient] = []
        """One of each homeserver."""
        ready_file = folder / "ready.json"
        ready_file.unlink(missing_ok=True)
        options = ["--data", "demo", "--port-base", str(self.port_base), "--database", engine.value]
        if turn is not None:
            # Its secret is its password for commands as well.
            commands = f"{loopback.ADDRESS}:{turn_server.cli_port(turn[0])}"
            options += ["--turn-uri", turn[0], "--turn-secret", str(turn[1])]
            options += ["--turn-cli", commands, "--turn-cli-password", str(turn[1])]
        self.command = Command(["demo", *options, "--ready-file", str(ready_file)], folder=folder, real=real)
        try:
            wait_until(lambda: self._has_begun(ready_file), timeout_s=READY_TIMEOUT_S, what="the demo to be ready")
        except BaseException:
            self.stop()
            raise
        self.ready: dict[str, Any] = json.loads(ready_file.read_text(encoding="utf-8"))
        self.homeservers = cast(list[dict[str, Any]], self.ready["homeservers"])
        self.names = tuple(str(each["name"]) for each in self.homeservers)
        self.room_id = str(self.ready["room_id"])
        self.people = {person.name: person for person in map(_person, self.ready["users"])}
        self.admins += [MatrixClient(each["client_url"], **each["admin"]) for each in self.homeservers]

    def _has_begun(self, ready_file: Path) -> bool:
        if self.command.process.poll() is not None:
            raise AssertionError(f"the demo ended: {self.command.stderr}")
        return ready_file.exists()

    def client(self, name: str) -> MatrixClient:
        """A client signed in as alice, bob, carol or dave, on a connection of its own."""
        person = self.people[name]
        url = str(self.homeservers[person.homeserver]["client_url"])
        return MatrixClient(url, user_id=person.user_id, access_token=person.access_token)

    def stop(self) -> None:
        for admin in self.admins:
            admin.close()
        self.command.__exit__()


def _person(user: dict[str, Any]) -> Person:
    return Person(
        name=str(user["user_id"]).partition(":")[0].removeprefix("@"),
        user_id=str(user["user_id"]),
        handle=str(user["handle"]),
        password=str(user["password"]),
        access_token=str(user["access_token"]),
        homeserver=int(user["homeserver"]),
    )
