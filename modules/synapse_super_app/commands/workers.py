"""One homeserver as many processes on this machine, to try workers out: ``super-app up --workers N``.

It owns the layout: which processes there are, what each has in its config, and who replaces one that dies. Databases
and Redis are given. docs/admin.md has the same layout for several machines.
"""

import secrets
import ssl
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self, cast

from synapse_super_app.commands import data_folder, homeserver_config, start_checks
from synapse_super_app.commands.console import CommandFailed, say
from synapse_super_app.commands.entrance import Entrance
from synapse_super_app.commands.homeserver_config import MODULE, HomeserverConfig, Listener
from synapse_super_app.commands.homeserver_process import WORKER, Homeserver, HomeserverDied, write_config
from synapse_super_app.commands.postgres import PrivatePostgres
from synapse_super_app.commands.redis import PrivateRedis

WORKERS_MAX: Final = 16
_HOST: Final = "127.0.0.1"
_DATABASE: Final = "synapse"
_CONNECTIONS: Final = 5
"""Of each process to the database, at most."""
SENDER: Final = "federation_sender1"
PERSISTER: Final = "event_persister1"
LEDGER: Final = "ledger1"
_WATCH_PAUSE_S: Final = 0.2
_DEATHS_MAX: Final = 3
_DEATHS_WINDOW_S: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One worker. ``replication_port`` is None where nobody asks it anything."""

    name: str
    port: int
    replication_port: int | None
    serves_clients: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The ports follow that of the clients: two of the main process, then those of the workers."""

    main_port: int
    main_replication_port: int
    workers: tuple[Process, ...]

    @classmethod
    def of(cls, client_port: int, count: int) -> Self:
        ports = iter(range(client_port + 1, client_port + 1 + ports_of(count)))
        main, replication = next(ports), next(ports)
        generic = [
            Process(name=f"worker{number}", port=next(ports), replication_port=None, serves_clients=True)
            for number in range(1, count + 1)
        ]
        special = [
            Process(name=SENDER, port=next(ports), replication_port=None, serves_clients=False),
            Process(name=PERSISTER, port=next(ports), replication_port=next(ports), serves_clients=False),
            Process(name=LEDGER, port=next(ports), replication_port=next(ports), serves_clients=False),
        ]
        return cls(main_port=main, main_replication_port=replication, workers=(*generic, *special))

    def ports(self) -> Iterator[int]:
        yield from (self.main_port, self.main_replication_port)
        for process in self.workers:
            yield process.port
            if process.replication_port is not None:
                yield process.replication_port

    def instance_map(self) -> dict[str, dict[str, Any]]:
        named = {"main": self.main_replication_port}
        named |= {each.name: each.replication_port for each in self.workers if each.replication_port is not None}
        return {name: {"host": _HOST, "port": port} for name, port in named.items()}


def ports_of(count: int) -> int:
    """How many ports after that of the clients are used."""
    return count + 7


def shared_config(config: HomeserverConfig, layout: Layout, *, redis: Path, secret: Path) -> dict[str, Any]:
    """What all processes have in common: the config of one process, Redis, the map of processes and their duties."""
    content = dict(config.content)
    listeners = [dict(each) for each in content["listeners"]]
    served = next(each for each in listeners if _serves_clients(each))
    behind_tls = [each for each in listeners if _federates_over_tls(each)]
    # Clients and other homeservers meet an entrance; it says whose address a request came from.
    inner = {**served, "port": layout.main_port, "bind_addresses": [_HOST], "x_forwarded": True}
    inner.pop("bind_address", None)
    inner["resources"] = [part for each in (served, *behind_tls) for part in cast(list[Any], each["resources"])]
    content["listeners"] = [
        *(inner if each is served else each for each in listeners if each not in behind_tls),
        _listener(layout.main_replication_port, "replication"),
    ]
    return content | {
        "redis": {"enabled": True, "path": str(redis)},
        "worker_replication_secret_path": str(secret),
        "instance_map": layout.instance_map(),
        "federation_sender_instances": [SENDER],
        "stream_writers": {**(content.get("stream_writers") or {}), "events": [PERSISTER]},
        "modules": [_with_writers(entry) for entry in content["modules"]],
    }


def worker_config(shared: Mapping[str, Any], process: Process, folder: Path) -> dict[str, Any]:
    """The whole config of one worker: what is shared, its name, its listeners and a log of its own."""
    names = ["client", "federation"] if process.serves_clients else ["health"]
    if shared.get("enable_metrics"):
        names.append("metrics")
    listeners = [{**_listener(process.port, *names), "x_forwarded": process.serves_clients}]
    if process.replication_port is not None:
        listeners.append(_listener(process.replication_port, "replication"))
    return {
        **shared,
        "worker_app": "synapse.app.generic_worker",
        "worker_name": process.name,
        "worker_listeners": listeners,
        "worker_log_config": str(folder / f"{process.name}.log.yaml"),
    }


def _serves_clients(listener: Mapping[str, Any]) -> bool:
    names = [name for resource in listener.get("resources") or [] for name in resource.get("names", [])]
    return listener.get("type") == "http" and "client" in names


def _federates_over_tls(listener: Mapping[str, Any]) -> bool:
    """Whether other homeservers come here over TLS, and clients do not."""
    names = [name for resource in listener.get("resources") or [] for name in resource.get("names", [])]
    return bool(listener.get("tls")) and "federation" in names and "client" not in names


def _listener(port: int, *names: str) -> dict[str, Any]:
    return {"port": port, "bind_addresses": [_HOST], "type": "http", "resources": [{"names": list(names)}]}


def _with_writers(entry: Mapping[str, Any]) -> dict[str, Any]:
    if entry.get("module") != MODULE:
        return dict(entry)
    module = dict(entry.get("config") or {})
    # The main process takes over while the worker is away.
    payments = {**(module.get("payments") or {}), "ledger_writers": [LEDGER, "main"]}
    return {**entry, "config": {**module, "payments": payments}}


@contextmanager
def services(config: HomeserverConfig, folder: Path) -> Generator[tuple[HomeserverConfig, PrivateRedis]]:
    """Redis, and a PostgreSQL server where the config has SQLite, which several processes cannot share."""
    with ExitStack() as stack:
        if config.sqlite_files():
            if start_checks.check_databases(config):
                raise CommandFailed(
                    f"--workers: {config.sqlite_files()[0]} has accounts, and SQLite serves one process only; try it "
                    "with another --data DIR, or move them to PostgreSQL with Synapse's synapse_port_db first"
                )
            postgres = stack.enter_context(PrivatePostgres(folder / "postgresql", settings={"max_connections": "300"}))
            postgres.create_database(_DATABASE)
            arguments = {**postgres.connection(_DATABASE), "cp_min": 1, "cp_max": _CONNECTIONS}
            database = {"name": "psycopg2", "args": arguments}
            content = {key: value for key, value in config.content.items() if key != "databases"}
            config = replace(config, content={**content, "database": database}, is_one_file=False)
            say("starting  PostgreSQL, since several processes cannot share SQLite")
        redis = PrivateRedis(folder / "workers")
        stack.callback(redis.stop)
        yield config, redis


def _over_tls(config: HomeserverConfig) -> Iterator[tuple[Listener, Mapping[str, Any], ssl.SSLContext]]:
    """Each listener at which other homeservers come over TLS, with what it takes to speak it.

    Raises:
        CommandFailed: the certificate or its key cannot be read.
    """
    for listener in config.listeners():
        raw = next(
            (each for each in config.content["listeners"] if each.get("port") == listener.port), dict[str, Any]()
        )
        if not _federates_over_tls(raw):
            continue
        paths = [config.path_at(key) for key in ("tls_certificate_path", "tls_private_key_path")]
        certificate, key = paths
        if certificate is None or key is None:
            raise CommandFailed(
                f"listeners: port {listener.port} has TLS, so tls_certificate_path and tls_private_key_path must say "
                "where its certificate and key are"
            )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(certificate, key)
        except OSError as fault:
            raise CommandFailed(
                f"tls_certificate_path: {certificate} and the key {key} cannot be used: {fault}; "
                "give a certificate in PEM and the key that belongs to it"
            ) from None
        yield listener, raw, context


def refuse_one_process(config: HomeserverConfig, folder: Path) -> None:
    """Refuse to start on an empty SQLite database where people are in the PostgreSQL of an earlier ``--workers``.

    Raises:
        CommandFailed: they are.
    """
    if (folder / "postgresql").exists() and config.sqlite_files():
        raise CommandFailed(
            f"{folder} was used with --workers, and its accounts are in PostgreSQL; start it with --workers again, or "
            "use another --data DIR"
        )


class WorkedHomeserver:
    """The main process, its workers and the entrance. Use as a context once ``start`` has been called."""

    def __init__(self, config: HomeserverConfig, *, count: int, folder: Path, redis: Path, copy: Path) -> None:
        serving = next(each for each in config.listeners() if each.serves_clients)
        if serving.tls:
            raise CommandFailed("--workers: the listener that serves clients has TLS; write tls: false for trying this")
        self._layout = Layout.of(serving.port, count)
        for port in self._layout.ports():
            start_checks.check_port(port, _HOST, key="--workers", remedy="choose others with --port N")
        self._folder = folder / "workers"
        data_folder.make_writable(self._folder)
        secret = self._folder / "replication_secret"
        if not secret.exists():
            data_folder.write_private(secret, secrets.token_urlsafe(48) + "\n")
        shared = shared_config(config, self._layout, redis=redis, secret=secret)
        main = homeserver_config.write_copy(replace(config, content=shared, is_one_file=False), copy)
        self.main = Homeserver(
            config_path=main.path,
            client_url=f"http://{_HOST}:{self._layout.main_port}",
            console_path=folder / "console.log",
            folder=config.folder,
        )
        self.workers = {each.name: self._worker(main, each) for each in self._layout.workers}
        self._entrances = [
            self._entrance(listener, raw, tls)
            for listener, raw, tls in (
                (serving, next(filter(_serves_clients, config.content["listeners"])), None),
                *_over_tls(config),
            )
        ]
        self._deaths: deque[float] = deque(maxlen=_DEATHS_MAX)

    def _entrance(self, listener: Listener, raw: Mapping[str, Any], tls: ssl.SSLContext | None) -> Entrance:
        return Entrance(
            addresses=listener.addresses,
            port=listener.port,
            main=self._layout.main_port,
            workers=[each.port for each in self._layout.workers if each.serves_clients],
            trusts_forwarded=bool(raw.get("x_forwarded", False)),
            tls=tls,
        )

    def _worker(self, main: HomeserverConfig, process: Process) -> Homeserver:
        path = self._folder / f"{process.name}.yaml"
        data_folder.write_log_config(self._folder / f"{process.name}.log.yaml", self._folder / f"{process.name}.log")
        write_config(path, worker_config(main.content, process, self._folder))
        return Homeserver(
            config_path=path,
            client_url=f"http://{_HOST}:{process.port}",
            console_path=self._folder / f"{process.name}.console.log",
            folder=main.folder,
            program=WORKER,
            serves_clients=process.serves_clients,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for entrance in self._entrances:
            entrance.stop()
        # In this order: what asks others ends before those who answer.
        processes = [*self.workers.values(), self.main]
        for process in processes:
            process.terminate()
        for process in processes:
            process.stop()

    def start(self) -> None:
        """The main process first, since it makes the tables; then all others at once, then the doors open.

        Raises:
            HomeserverDied: one ended instead.
        """
        self.main.spawn()
        self.main.wait_until_healthy()
        for process in self.workers.values():
            process.spawn()
        for name, process in self.workers.items():
            try:
                process.wait_until_healthy()
            except HomeserverDied as death:
                raise HomeserverDied(f"{name}: {death}") from None
        for entrance in self._entrances:
            entrance.start()

    def watch(self, ended: Callable[[str, str], None]) -> None:
        """Replace workers that die and tell ``ended`` which and how, until the main process ends.

        Raises:
            HomeserverDied: the main process ended, or workers die so often that something else is wrong.
        """
        while True:
            if not self.main.running:
                raise HomeserverDied(self.main.epitaph())
            for name, process in self.workers.items():
                if process.running:
                    continue
                now_s = time.monotonic()
                self._deaths.append(now_s)
                if len(self._deaths) == _DEATHS_MAX and now_s - self._deaths[0] < _DEATHS_WINDOW_S:
                    raise HomeserverDied(f"{name}: {process.epitaph()}")
                ended(name, process.epitaph().splitlines()[0])
                process.spawn()
            time.sleep(_WATCH_PAUSE_S)

    def told(self) -> str:
        """The processes and how to kill one, for the person who tries them."""
        running = [("main", self.main.pid, self._layout.main_port)]
        running += [(each.name, self.workers[each.name].pid, each.port) for each in self._layout.workers]
        lines = [f"  {name:<19} process {pid}, port {port}" for name, pid, port in running]
        return "\n".join(["", "Its processes, of which a worker that ends is replaced:", "", *lines, ""])
