"""Two federated homeservers with workers each, on one PostgreSQL and a Redis each, all of which can be broken.

Between them is a ``Wire``, which cuts links. People meet any process of their homeserver that serves clients, as behind
a load balancer. Whatever ends by itself is started again by ``revive``, as a service manager would.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from faults import Wire

from super_app.db import Engine
from synapse_super_app.commands import loopback
from synapse_super_app.commands.certificates import ThrowAwayCa
from synapse_super_app.commands.demo_pair import MODULE_CONFIG, PORTS, DemoPair, Side
from synapse_super_app.commands.homeserver_process import WORKER, Homeserver, write_config
from synapse_super_app.commands.postgres import PrivatePostgres
from synapse_super_app.commands.redis import PrivateRedis

_SECRET: Final = "only-between-these-processes"
_CONNECTIONS: Final = 5
"""Of each process to the database, at most."""
PERSISTER: Final = "event_persister1"
SENDER: Final = "federation_sender1"
LEDGER: Final = "ledger1"
MAIN: Final = "main"
_SMALL_CACHES: Final[dict[str, Any]] = {
    # Full well before the half of a run, so that what still grows then is no cache.
    "event_cache_size": 500,
    "caches": {"global_factor": 0.05},
}


def roles(generic: int, *, special: bool) -> tuple[str, ...]:
    """The workers of a homeserver: those that serve clients, and one for each duty; ``ledger1`` is always there."""
    duties = (PERSISTER, SENDER) if special else ()
    return (*(f"worker{number}" for number in range(1, generic + 1)), *duties, LEDGER)


class SoakPair(DemoPair):
    """``module`` None leaves our module out, to compare with. Else the pair is furnished as the demo's is."""

    def __init__(self, *, data: Path, workers: Sequence[str], with_module: bool = True) -> None:
        self._roles = tuple(workers)
        self._each = 2 * len(self._roles) + 1
        self.port_base = loopback.free_ports(PORTS + 2 + 2 * self._each)
        self._with_module = with_module
        # The assistant would make a room with each of a thousand people first.
        module = {**MODULE_CONFIG, "assistant": {"greet_new_users": False}, "calls": {**MODULE_CONFIG["calls"]}}
        module["features"] = {**MODULE_CONFIG["features"], "assistant": False}
        super().__init__(data=data, port_base=self.port_base, engine=Engine.POSTGRESQL, module_config=module)
        self.redis = (PrivateRedis(data / "redis1"), PrivateRedis(data / "redis2"))
        self.processes: tuple[dict[str, Homeserver], dict[str, Homeserver]] = (self._processes(0), self._processes(1))
        hidden = (self.port_base + PORTS, self.port_base + PORTS + 1)
        self.wire = Wire(tuple(zip(self._federation_ports, hidden, strict=True)))

    @property
    def server(self) -> PrivatePostgres:
        if self._postgres is None:
            raise RuntimeError("the pair has not been started")
        return self._postgres

    def urls(self, index: int) -> list[str]:
        """Where people of a homeserver may turn to."""
        return [
            process.client_url
            for name, process in self.processes[index].items()
            if name == MAIN or name.startswith("worker") or len(self._roles) == 1
        ]

    def pids(self) -> dict[str, int]:
        """Who runs now, by ``1.worker1`` and so on."""
        return {
            f"{index + 1}.{name}": process.pid
            for index, processes in enumerate(self.processes)
            for name, process in processes.items()
            if process.running
        }

    def revive(self) -> list[str]:
        """Start all that does not run; what was started. On the thread that started the pair."""
        if not self.server.running:
            self.server.start()
        for redis in self.redis:
            if not redis.running:
                redis.start()
        dead = [
            (f"{index + 1}.{name}", process)
            for index, processes in enumerate(self.processes)
            for name, process in processes.items()
            if not process.running
        ]
        for _, process in dead:
            process.spawn()
        return [name for name, _ in dead]

    def wait_until_healthy(self, timeout_s: float = 240.0) -> None:
        for processes in self.processes:
            for process in processes.values():
                process.wait_until_healthy(timeout_s)

    def stop(self) -> None:
        for processes in self.processes:
            for process in processes.values():
                process.terminate()
        for processes in self.processes:
            for process in processes.values():
                process.stop()
        super().stop()
        for redis in self.redis:
            redis.stop()
        self.wire.close()

    # How they are made.

    def _processes(self, index: int) -> dict[str, Homeserver]:
        side = self.sides[index]
        found = {MAIN: side.process}
        for name in self._roles:
            found[name] = Homeserver(
                config_path=side.folder / f"{name}.yaml",
                client_url=loopback.client_url(self._ports(index, name)[0]),
                console_path=side.folder / f"{name}.log",
                program=WORKER,
                expects_our_api=self._with_module,
            )
        return found

    def _side(self, index: int, client_port: int, federation_port: int) -> Side:
        side = super()._side(index, client_port, federation_port)
        process = Homeserver(
            config_path=side.process.config_path,
            client_url=side.client_url,
            console_path=side.folder / "main.log",
            expects_our_api=self._with_module,
        )
        return Side(name=side.name, process=process, folder=side.folder)

    def _ports(self, index: int, name: str) -> tuple[int, int]:
        """For clients and for replication."""
        first = self.port_base + PORTS + 2 + index * self._each + 1 + 2 * self._roles.index(name)
        return first, first + 1

    def _main_replication_port(self, index: int) -> int:
        return self.port_base + PORTS + 2 + index * self._each

    def _start_processes(self) -> None:
        self._data.mkdir(mode=0o711, parents=True, exist_ok=True)
        for redis in self.redis:
            redis.start()
        self._postgres = PrivatePostgres(self._data / "postgresql", settings={"max_connections": "400"})
        self._postgres.start()
        ca = ThrowAwayCa(self._data)
        for index, side in enumerate(self.sides):
            side.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._write_config(index, side, ca)
        # The main processes first: they make the tables.
        for side in self.sides:
            side.process.spawn()
        for side in self.sides:
            side.process.wait_until_healthy()
        for processes in self.processes:
            for name, process in processes.items():
                if name != MAIN:
                    process.spawn()
        self.wait_until_healthy()

    def _write_config(self, index: int, side: Side, ca: ThrowAwayCa) -> None:
        super()._write_config(index, side, ca)
        config = cast(dict[str, Any], json.loads(side.process.config_path.read_text(encoding="utf-8")))
        config |= _SMALL_CACHES | self._shared(index, config)
        config["database"]["args"] |= {"cp_min": 1, "cp_max": _CONNECTIONS}
        if not self._with_module:
            config["modules"] = []
        client_listener, federation_listener = config["listeners"]
        federation_listener["port"] = self.port_base + PORTS + index
        main = [client_listener, federation_listener, _replication(self._main_replication_port(index))]
        write_config(side.process.config_path, {**config, "listeners": main})
        for name in self._roles:
            client_port, replication_port = self._ports(index, name)
            worker = {
                "worker_app": "synapse.app.generic_worker",
                "worker_name": name,
                "worker_listeners": [{**client_listener, "port": client_port}, _replication(replication_port)],
            }
            write_config(self.processes[index][name].config_path, {**config, **worker})

    def _shared(self, index: int, config: Mapping[str, Any]) -> dict[str, Any]:
        ports = {
            MAIN: self._main_replication_port(index),
            **{name: self._ports(index, name)[1] for name in self._roles},
        }
        entries: list[dict[str, Any]] = [dict(each) for each in config["modules"]]
        for entry in entries:
            module = dict(entry["config"])
            module["payments"] = {**module["payments"], "ledger_writers": [LEDGER, MAIN]}
            entry["config"] = module
        shared: dict[str, Any] = {
            "redis": {"enabled": True, "path": str(self.redis[index].socket_path)},
            "instance_map": {name: {"host": loopback.ADDRESS, "port": port} for name, port in ports.items()},
            "worker_replication_secret": _SECRET,
            "modules": entries,
        }
        if PERSISTER in self._roles:
            shared |= {"stream_writers": {"events": [PERSISTER]}, "federation_sender_instances": [SENDER]}
        return shared

    # Nobody of the demo's four lives here: who soaks registers people of their own.

    def _provision(self) -> None:
        self.admins = [self._account(index, "operator", admin=True) for index in range(len(self.sides))]
        if self._with_module:
            for admin in self.admins:
                admin.superapp("GET", "contacts")
            self._open_links()


def _replication(port: int) -> dict[str, Any]:
    return {
        "port": port,
        "bind_addresses": [loopback.ADDRESS],
        "type": "http",
        "resources": [{"names": ["replication"]}],
    }
