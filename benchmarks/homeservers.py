"""Homeservers to measure: one alone with its own PostgreSQL, and what its processes have burnt. Owns no figure."""

import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from synapse_super_app.commands import loopback
from synapse_super_app.commands.homeserver_process import Homeserver, write_config
from synapse_super_app.commands.matrix_client import MatrixClient
from synapse_super_app.commands.postgres import PrivatePostgres

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_UTIME, _STIME, _CUTIME, _CSTIME, _PPID = 11, 12, 13, 14, 1
"""Fields of /proc/PID/stat after the command's name (proc(5))."""


class LoneHomeserver:
    """A homeserver without federation on a PostgreSQL server of its own, so that its work can be told apart."""

    def __init__(
        self,
        folder: Path,
        port: int,
        metrics_port: int,
        module_config: Mapping[str, Any] | None,
        *,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        self._folder = folder
        self._metrics_port = metrics_port
        self.postgres = PrivatePostgres(folder / "postgresql")
        self._config = loopback.synapse_config(
            folder=folder,
            client_port=port,
            database={},
            module_config=module_config,
            more={"enable_metrics": True, **(more or {})},
        )
        self._config["listeners"].append(
            {"port": metrics_port, "bind_addresses": [loopback.ADDRESS], "type": "metrics", "tls": False}
        )
        self.process = Homeserver(
            config_path=folder / "homeserver.yaml",
            client_url=loopback.client_url(port),
            console_path=folder / "homeserver.log",
            expects_our_api=module_config is not None,
        )

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True)
        for name in ("macaroon_secret", "form_secret"):
            (self._folder / name).write_text(secrets.token_urlsafe(32), encoding="ascii")
        self.postgres.start()
        self.postgres.create_database("homeserver")
        self._config["database"] = loopback.postgresql(self.postgres.connection("homeserver"))
        write_config(self.process.config_path, self._config)
        self.process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.stop()
        self.postgres.remove()

    def account(self, localpart: str, *, admin: bool = False) -> MatrixClient:
        password = secrets.token_urlsafe(12)
        with MatrixClient(self.process.client_url) as client:
            return client.signed_in(
                client.register_with_secret(loopback.REGISTRATION_SECRET, localpart, password, admin=admin)
            )

    def cpu_ms(self) -> float:
        """CPU time of Synapse and of all processes of its PostgreSQL server so far."""
        return sum(_cpu_ms(pid) for pid in (self.process.pid, *_family(self.postgres.pid)))

    def metric_sum(self, name: str) -> float:
        """The sum of a Prometheus counter over its labels."""
        with MatrixClient(loopback.client_url(self._metrics_port)) as client:
            status, body = client.request_raw("GET", "/_synapse/metrics")
        if status != 200:
            raise RuntimeError(f"the metrics answer {status}")
        lines = (line for line in body.decode().splitlines() if line.startswith((f"{name}{{", f"{name} ")))
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def settle(homeserver: LoneHomeserver, *, quiet_ms: float = 30.0, timeout_s: float = 60.0) -> None:
    """Wait until it does next to nothing: less than ``quiet_ms`` of CPU in a second."""
    give_up_s = time.monotonic() + timeout_s
    before = homeserver.cpu_ms()
    while time.monotonic() < give_up_s:
        time.sleep(1)
        now = homeserver.cpu_ms()
        if now - before < quiet_ms:
            return
        before = now


def _family(parent: int) -> list[int]:
    """A process and its children; PostgreSQL has one level of them."""
    found = [parent]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if int(_stat(int(entry.name))[_PPID]) == parent:
                    found.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def _cpu_ms(pid: int) -> float:
    """What a process and its children that have ended used."""
    try:
        fields = _stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(fields[index]) for index in (_UTIME, _STIME, _CUTIME, _CSTIME)) * 1000 / _TICKS_PER_S


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
