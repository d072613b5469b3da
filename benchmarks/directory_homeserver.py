"""Homeservers that hold a million people: made empty, filled while they are down, started again. Owns no figure."""

import os
import secrets
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psycopg2
from nacl.signing import SigningKey

from benchmarks import directory_database
from benchmarks.directory_database import Database
from benchmarks.directory_names import FULL_SIZE, SMALLEST_SIZE
from benchmarks.ledger_database import execute
from super_app.db import Engine
from super_app.ids import ServerName
from super_app.names import CLIENT_API_PREFIX
from synapse_super_app import key_files
from synapse_super_app.commands import loopback
from synapse_super_app.commands.homeserver_process import Homeserver, write_config
from synapse_super_app.commands.loopback import Federation
from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError, Session, UnreachableError
from synapse_super_app.commands.postgres import PrivatePostgres

_SETTINGS: Final = {"shared_buffers": "1GB", "max_wal_size": "4GB", "maintenance_work_mem": "512MB"}
_READY_S: Final = 600.0
_POLL_S: Final = 0.02
_PAGE_KB: Final = os.sysconf("SC_PAGE_SIZE") // 1024


def size() -> int:
    """How many handles: a million, or what BENCH_HANDLES says for a short run."""
    wanted = int(os.environ.get("BENCH_HANDLES", FULL_SIZE))
    if wanted < SMALLEST_SIZE:
        raise SystemExit(f"bench: BENCH_HANDLES is {wanted}; the terms are of the first {SMALLEST_SIZE} names")
    return wanted


class FilledHomeserver:
    """One homeserver; ``postgres`` is a server that it may share, None for SQLite."""

    def __init__(
        self,
        folder: Path,
        postgres: PrivatePostgres | None,
        module_config: Mapping[str, Any] | None,
        *,
        federation: Federation | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._postgres = postgres
        self._has_module = module_config is not None
        port = loopback.free_ports(1)
        self.config = loopback.synapse_config(
            folder=folder,
            client_port=port,
            database=loopback.sqlite(folder)
            if postgres is None
            else loopback.postgresql(postgres.connection(folder.name)),
            module_config=module_config,
            federation=federation,
            more={"user_directory": {"enabled": True, "search_all_users": True}, **(more or {})},
        )
        self.process = Homeserver(
            config_path=folder / "homeserver.yaml",
            client_url=loopback.client_url(port),
            console_path=folder / "homeserver.log",
            expects_our_api=self._has_module,
        )
        self.session: Session | None = None

    @property
    def name(self) -> ServerName:
        return ServerName(self.config["server_name"])

    def make(self) -> None:
        """A first start: tables, keys, and one account."""
        if self._postgres is not None:
            self._postgres.create_database(self.folder.name)
        self._write()
        self.process.start()
        with MatrixClient(self.process.client_url) as client:
            self.session = client.register_with_secret(
                loopback.REGISTRATION_SECRET, "searcher", secrets.token_urlsafe(12), admin=False
            )
        self.start_again()
        self.process.stop()

    def copy_of(self, other: "FilledHomeserver") -> None:
        """Take over the data of another one that is down, and its name and account."""
        shutil.copy(other.folder / "signing.key", self.folder)
        self.config["server_name"] = other.config["server_name"]
        self.session = other.session
        if self._postgres is not None:
            execute(
                self._postgres.dsn("postgres"), f'CREATE DATABASE "{self.folder.name}" TEMPLATE "{other.folder.name}"'
            )
        else:
            shutil.copy(other.folder / "homeserver.db", self.folder)
        self._write()

    def start_again(self) -> float:
        """Stop it if it runs, and start it with its config as it is now; the seconds until it answers about people."""
        self.process.stop()
        self._write()
        began_s = time.perf_counter()
        self.process.spawn()
        self.process.wait_until_healthy(_READY_S)
        if self._has_module:
            with self.client() as client:
                while not _answers(client):
                    time.sleep(_POLL_S)
        return time.perf_counter() - began_s

    def client(self, timeout_s: float = _READY_S) -> MatrixClient:
        if self.session is None:
            raise RuntimeError("make it first")
        return MatrixClient(
            self.process.client_url,
            user_id=self.session.user_id,
            access_token=self.session.access_token,
            timeout_s=timeout_s,
        )

    def database(self) -> Database:
        if self._postgres is None:
            return directory_database.sqlite(str(self.folder / "homeserver.db"))
        return Database(engine=Engine.POSTGRESQL, connection=psycopg2.connect(self._postgres.dsn(self.folder.name)))

    def key(self) -> SigningKey:
        return key_files.read(key_files.key_path(self.folder, self.name, None))

    def memory_mb(self) -> float:
        """Memory that the homeserver's process has."""
        resident = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(resident) * _PAGE_KB / 1024

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.stop()

    def _write(self) -> None:
        write_config(self.process.config_path, self.config)


def postgres_server(folder: Path) -> PrivatePostgres:
    return PrivatePostgres(folder, settings=_SETTINGS)


def _answers(client: MatrixClient) -> bool:
    try:
        client.request("GET", f"{CLIENT_API_PREFIX}/handles")
    except (MatrixError, UnreachableError):
        return False
    return True
