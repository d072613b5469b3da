"""Homeservers of as many operators that federate on this machine and guard shares for each other's people."""

from pathlib import Path
from typing import Any, Self

from synapse_super_app.commands import data_folder, loopback
from synapse_super_app.commands.certificates import ThrowAwayCa
from synapse_super_app.commands.homeserver_process import Homeserver, write_config
from synapse_super_app.commands.matrix_client import MatrixClient


class Realms:
    """``names`` are their server names, ``processes`` what runs them, in the same order."""

    def __init__(self, folder: Path, count: int = 5) -> None:
        ports = loopback.free_ports(2 * count)
        self.names = [loopback.server_name(ports + 2 * number + 1) for number in range(count)]
        self.processes: list[Homeserver] = []
        ca = ThrowAwayCa(folder)
        for number, name in enumerate(self.names):
            home = folder / f"homeserver{number + 1}"
            home.mkdir()
            config = loopback.synapse_config(
                folder=home,
                client_port=ports + 2 * number,
                database=loopback.sqlite(home),
                module_config=self._module_config(name),
                federation=loopback.Federation(
                    port=ports + 2 * number + 1, certificate=ca.issue(f"homeserver{number + 1}", loopback.ADDRESS)
                ),
            )
            write_config(home / "homeserver.yaml", config)
            data_folder.make_signing_key(Path(config["signing_key_path"]))
            self.processes.append(
                Homeserver(
                    config_path=home / "homeserver.yaml",
                    client_url=loopback.client_url(ports + 2 * number),
                    console_path=home / "homeserver.log",
                )
            )

    def _module_config(self, own: str) -> dict[str, Any]:
        others = [{"server": name, "operator": f"Operator of {name}"} for name in self.names if name != own]
        return {
            "features": {"directory": False, "calls": False, "payments": False, "cards": False, "recovery": True},
            "on_private_api_change": "refuse_start",
            "recovery": {"operator": f"Operator of {own}", "realms": others},
        }

    def __enter__(self) -> Self:
        for process in self.processes:
            process.spawn()
        for process in self.processes:
            process.wait_until_healthy()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            if process.running:
                process.terminate()
        for process in self.processes:
            process.stop()

    def account(self, name: str, *, admin: bool = False) -> MatrixClient:
        """Somebody of the first one, signed in; the password is the name with ``-password``."""
        client = MatrixClient(self.processes[0].client_url)
        session = client.register_with_secret(loopback.REGISTRATION_SECRET, name, f"{name}-password", admin=admin)
        signed_in = client.signed_in(session)
        client.close()
        return signed_in

    def as_(self, somebody: MatrixClient) -> MatrixClient:
        """The same person on a connection of their own."""
        return MatrixClient(self.processes[0].client_url, user_id=somebody.user_id, access_token=somebody.access_token)
