"""The demo's pair with workers: the first homeserver is a main process and two workers, with Redis and PostgreSQL.

Either worker may write the ledger, and the first that looks does. Federation arrives at the main process, which never
writes. All three serve clients.
"""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import psycopg2

from super_app.db import Engine
from super_app.ids import ServerName
from synapse_super_app.commands import loopback
from synapse_super_app.commands.certificates import ThrowAwayCa
from synapse_super_app.commands.demo_pair import MODULE_CONFIG, PORTS, DemoPair, Side
from synapse_super_app.commands.homeserver_process import WORKER, Homeserver, write_config
from synapse_super_app.commands.matrix_client import MatrixClient, wait_until
from synapse_super_app.commands.redis import PrivateRedis

NOBODY: Final = ServerName(f"{loopback.ADDRESS}:1")
"""A realm that never answers, since a set of shares has three at least."""
WRITERS: Final = ("ledger1", "ledger2")
_SECRET: Final = "only-between-these-processes"
_RESOURCES: Final = [{"names": ["client", "federation"]}]


class WorkersPair(DemoPair):
    """``workers["ledger1"]`` and ``workers["ledger2"]`` are processes as ``sides[0].process`` is."""

    def __init__(self, *, data: Path) -> None:
        first = loopback.free_ports(PORTS + 1 + 2 * len(WRITERS))
        super().__init__(data=data, port_base=first, engine=Engine.POSTGRESQL)
        self._main_port = first + PORTS
        client_ports = [self._main_port + 1 + 2 * index for index in range(len(WRITERS))]
        self._ports = {name: (port, port + 1) for name, port in zip(WRITERS, client_ports, strict=True)}
        self._redis = PrivateRedis(data)
        self._folder = data
        folder = self.sides[0].folder
        self.workers = {
            name: Homeserver(
                config_path=folder / f"{name}.yaml",
                client_url=loopback.client_url(ports[0]),
                console_path=folder / f"{name}.log",
                program=WORKER,
            )
            for name, ports in self._ports.items()
        }

    def client_at(self, process: Homeserver, name: str) -> MatrixClient:
        """A client of one of the four, at one process of the first homeserver."""
        person = self.people[name]
        return MatrixClient(process.client_url, user_id=person.user_id, access_token=person.access_token, timeout_s=60)

    def lease(self) -> tuple[str, int]:
        """Who has the lease, and its epoch, from the database."""
        ((holder, epoch),) = self._rows("SELECT holder, epoch FROM superapp_ledger_lease")
        return str(holder), int(epoch)

    def migrations(self) -> list[str]:
        """The names of all that ran."""
        return [str(name) for (name,) in self._rows("SELECT name FROM superapp_migration")]

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        assert self._postgres is not None
        connection = psycopg2.connect(self._postgres.dsn("homeserver1"))
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall()
        finally:
            connection.close()

    def wait_for_writer(self, name: str, after_epoch: int) -> int:
        """Until this process has taken the lease in a later epoch; that epoch."""

        def taken() -> int | None:
            holder, epoch = self.lease()
            return epoch if holder == name and epoch > after_epoch else None

        return wait_until(taken, timeout_s=60, what=f"{name} to take the lease after epoch {after_epoch}")

    def suspend(self, process: Homeserver) -> None:
        """It hangs from now on."""
        os.kill(process.pid, signal.SIGSTOP)

    def resume(self, process: Homeserver) -> None:
        os.kill(process.pid, signal.SIGCONT)

    def other(self, name: str) -> str:
        """The other of the two workers."""
        return next(each for each in WRITERS if each != name)

    def stop(self) -> None:
        for process in self.workers.values():
            if process.running:
                self.resume(process)
            process.terminate()
        for side in self.sides:
            side.process.terminate()
        for process in self.workers.values():
            process.stop()
        super().stop()
        self._redis.stop()

    def _start_processes(self) -> None:
        self._folder.mkdir(exist_ok=True)
        self._redis.start()
        super()._start_processes()
        for process in self.workers.values():
            process.spawn()
        for process in self.workers.values():
            process.wait_until_healthy()

    def _write_config(self, index: int, side: Side, ca: ThrowAwayCa) -> None:
        super()._write_config(index, side, ca)
        config = json.loads(side.process.config_path.read_text(encoding="utf-8"))
        if index != 0:
            module = self._with_recovery(index, config["modules"][0]["config"])
            write_config(side.process.config_path, {**config, "modules": [{**config["modules"][0], "config": module}]})
            return
        config |= self._shared()
        listeners = [*config["listeners"], _replication(self._main_port)]
        write_config(side.process.config_path, {**config, "listeners": listeners})
        for name, (client_port, replication_port) in self._ports.items():
            worker = {
                "worker_app": "synapse.app.generic_worker",
                "worker_name": name,
                "worker_listeners": [
                    # A deployment sends requests of clients and homeservers to whichever process it likes.
                    {**config["listeners"][0], "port": client_port, "resources": _RESOURCES},
                    _replication(replication_port),
                ],
            }
            write_config(self.workers[name].config_path, {**config, **worker})

    def _shared(self) -> Mapping[str, Any]:
        module = self._with_recovery(0, MODULE_CONFIG)
        module["directory"] = {**module["directory"], "peers": [self.sides[1].name]}
        module["payments"] = {**module["payments"], "ledger_writers": list(WRITERS)}
        ports = {"main": self._main_port, **{name: ports[1] for name, ports in self._ports.items()}}
        return {
            "redis": {"enabled": True, "path": str(self._redis.socket_path)},
            "instance_map": {name: {"host": loopback.ADDRESS, "port": port} for name, port in ports.items()},
            "worker_replication_secret": _SECRET,
            "modules": [{"module": "synapse_super_app.SuperApp", "config": module}],
        }

    def _with_recovery(self, index: int, module: Mapping[str, Any]) -> dict[str, Any]:
        own, other = self.sides[index].name, self.sides[1 - index].name
        realms = [{"server": other, "operator": f"Operator of {other}"}, {"server": NOBODY, "operator": "Nobody"}]
        recovery = {"operator": f"Operator of {own}", "realms": realms}
        return {**module, "features": {**module["features"], "recovery": True}, "recovery": recovery}


def _replication(port: int) -> dict[str, Any]:
    return {
        "port": port,
        "bind_addresses": [loopback.ADDRESS],
        "type": "http",
        "resources": [{"names": ["replication"]}],
    }
