"""A PostgreSQL server of our own for the demo, the tests and the benchmarks. No homeserver in real use stands on it.

It listens on a Unix socket only, in a folder that nobody else can enter, and never runs as root: started by root, it
runs as ``postgres`` or ``nobody``. It ends with the process that started it, even if that one is killed: the kernel
then sends it the signal for a clean, fast shutdown.
"""

import ctypes
import os
import platform
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

__all__ = ["PostgresError", "PrivatePostgres", "find_binaries"]

_SUPERUSER: Final = "superapp"
_PORT: Final = 5432  # Names the socket file only; each server has a folder of its own.
_OLDEST_MAJOR: Final = 13
_START_S: Final = 60.0
_STOP_S: Final = 60.0
_POLL_S: Final = 0.05
_DEBIAN_FOLDERS: Final = "/usr/lib/postgresql"
_REACHABLE_FOLDER: Final = "/var/tmp"  # noqa: S108 - mkdtemp makes a folder in it that only the server's account enters
_PR_SET_PDEATHSIG: Final = 1
# Loaded now, because between fork and exec nothing may be imported.
_LIBC: Final = ctypes.CDLL(None) if platform.system() == "Linux" else None


class PostgresError(Exception):
    """One line: what is wrong with PostgreSQL on this machine, and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Account:
    """The account of the operating system that the server runs as."""

    name: str
    uid: int
    gid: int


class PrivatePostgres:
    """One server with its cluster in ``data_dir``, made at the first start and kept between starts.

    Start it on a thread that lives as long as the server shall: Linux ends it when that thread ends. ``settings`` are
    options of ``postgresql.conf``.
    """

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self._data_dir = data_dir.absolute()
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._socket_dir: Path | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id of the server.

        Raises:
            RuntimeError: it is not running.
        """
        if self._process is None:
            raise RuntimeError("the PostgreSQL server is not running")
        return self._process.pid

    @property
    def socket_dir(self) -> Path:
        """What clients call ``host``.

        Raises:
            RuntimeError: it is not running.
        """
        if self._socket_dir is None:
            raise RuntimeError("the PostgreSQL server is not running")
        return self._socket_dir

    def connection(self, database: str) -> dict[str, str | int]:
        """What the ``args`` of the database section in ``homeserver.yaml`` need."""
        return {"host": str(self.socket_dir), "port": _PORT, "user": _SUPERUSER, "dbname": database}

    def dsn(self, database: str) -> str:
        """The same as one string, for ``psycopg2.connect``, ``psql`` and ``pgbench``."""
        return " ".join(f"{key}={value}" for key, value in self.connection(database).items())

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Make the cluster if there is none, start the server and wait until it takes connections.

        Raises:
            PostgresError: with the end of the server's log where there is one.
        """
        if self._process is not None:
            return
        binaries = find_binaries()
        account = _account()
        self._data_dir.mkdir(parents=True, exist_ok=True)
        cluster = self._cluster(account)
        if not (cluster / "PG_VERSION").exists():
            _initdb(binaries, cluster, account)
        _check_version(binaries, cluster)
        if self._socket_dir is None:
            # Socket paths are limited to 107 bytes, so it does not live below data_dir.
            self._socket_dir = Path(tempfile.mkdtemp(prefix="superapp-pg-"))
            if account is not None:
                os.chown(self._socket_dir, account.uid, account.gid)
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._socket_dir),
            "port": str(_PORT),
            **self._settings,
        }
        command = [str(binaries / "postgres"), "-D", str(cluster)]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        log_path = self._data_dir / "server.log"
        with log_path.open("ab") as log:
            self._process = _spawn(command, cluster, account, log.fileno())
        try:
            self._wait_until_ready(cluster, log_path)
        except BaseException:
            self.stop()
            raise

    def crash(self) -> None:
        """End it at once, as a power cut of the database would. ``start`` recovers it, at the same address."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGQUIT)
            process.wait()

    def stop(self) -> None:
        """Disconnect everybody, write what is to be written and end. Stopping a stopped server changes nothing."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)
                process.wait()
        socket_dir, self._socket_dir = self._socket_dir, None
        if socket_dir is not None:
            shutil.rmtree(socket_dir, ignore_errors=True)

    def remove(self) -> None:
        """Stop the server and delete its cluster, wherever that is."""
        self.stop()
        place = self._data_dir / "cluster"
        if place.exists():
            shutil.rmtree(place.resolve())
        place.unlink(missing_ok=True)

    def create_tablespace(self, name: str, folder: Path) -> None:
        """Make a tablespace in an empty folder, for ``create_database``."""
        import psycopg2
        from psycopg2 import sql

        account = _account()
        if account is not None:
            os.chown(folder, account.uid, account.gid)
        connection = psycopg2.connect(self.dsn("postgres"))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql.SQL("CREATE TABLESPACE {} LOCATION %s").format(sql.Identifier(name)), (str(folder),))
        finally:
            connection.close()

    def create_database(self, name: str, *, tablespace: str = "pg_default") -> None:
        """Make a database with locale C, as Synapse demands; one of that name that exists is left as it is."""
        import psycopg2
        from psycopg2 import sql

        connection = psycopg2.connect(self.dsn("postgres"))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
                if cursor.fetchone() is None:
                    cursor.execute(
                        sql.SQL(
                            "CREATE DATABASE {} ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
                            " TABLESPACE {}"
                        ).format(sql.Identifier(name), sql.Identifier(tablespace))
                    )
        finally:
            connection.close()

    def _cluster(self, account: _Account | None) -> Path:
        """The folder of the cluster, which must be one that the server's account can reach.

        Below a folder that only root can enter, ``data_dir/cluster`` is a link to a place that it can.
        """
        place = self._data_dir / "cluster"
        if place.is_symlink():
            target = place.resolve()
            if not (target / "PG_VERSION").exists():
                raise PostgresError(f"the database cluster {target} is gone; remove {place} to start with an empty one")
            return target
        if place.exists() or account is None or _can_enter(self._data_dir, account):
            place.mkdir(mode=0o700, exist_ok=True)
            if account is not None:
                os.chown(place, account.uid, account.gid)
            return place
        target = Path(tempfile.mkdtemp(prefix="superapp-postgresql-", dir=_REACHABLE_FOLDER))
        os.chown(target, account.uid, account.gid)
        place.symlink_to(target)
        return target

    def _wait_until_ready(self, cluster: Path, log_path: Path) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise PostgresError(f"PostgreSQL ended while it was starting: {_end_of(log_path)}")
            if _is_ready(cluster, self._process.pid):
                return
            time.sleep(_POLL_S)
        raise PostgresError(f"PostgreSQL was not ready within {_START_S:.0f} s: {_end_of(log_path)}")


def find_binaries() -> Path:
    """The folder with ``initdb`` and ``postgres``, of the newest version that Debian installed or else of PATH.

    Raises:
        PostgresError: there is none.
    """
    debian = sorted(Path(_DEBIAN_FOLDERS).glob("*/bin"), key=lambda folder: _major(folder.parent.name), reverse=True)
    on_path = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    for folder in (*debian, *on_path):
        if os.access(folder / "initdb", os.X_OK) and os.access(folder / "postgres", os.X_OK):
            return (folder / "postgres").resolve().parent
    raise PostgresError("PostgreSQL is not installed; on Debian and Ubuntu: apt-get install postgresql")


def _major(version: str) -> int:
    digits = version.partition(".")[0]
    return int(digits) if digits.isdecimal() else 0


def _account() -> _Account | None:
    """Whom to run the server as; None for ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return _Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise PostgresError("PostgreSQL does not run as root, and there is no account postgres or nobody; make one of them")


def _can_enter(folder: Path, account: _Account) -> bool:
    for step in (folder, *folder.parents):
        entry = step.stat()
        if entry.st_uid == account.uid:
            allowed = entry.st_mode & stat.S_IXUSR
        elif entry.st_gid == account.gid:
            allowed = entry.st_mode & stat.S_IXGRP
        else:
            allowed = entry.st_mode & stat.S_IXOTH
        if not allowed:
            return False
    return True


def _initdb(binaries: Path, cluster: Path, account: _Account | None) -> None:
    command = [str(binaries / "initdb"), "-D", str(cluster), "--locale=C", "--encoding=UTF8"]
    # Whoever can enter the socket's folder may be anybody inside; that is the account above, and root.
    command += ["--auth=trust", f"--username={_SUPERUSER}", "--no-instructions"]
    made = _spawn(command, cluster, account, subprocess.PIPE)
    output, _ = made.communicate()
    if made.returncode != 0:
        raise PostgresError(f"initdb failed in {cluster}: {output.decode(errors='replace').strip()[-800:]}")


def _check_version(binaries: Path, cluster: Path) -> None:
    have = subprocess.run([str(binaries / "postgres"), "--version"], check=True, capture_output=True, text=True)
    number = have.stdout.split()[2]
    made_by = (cluster / "PG_VERSION").read_text(encoding="ascii").strip()
    if _major(number) < _OLDEST_MAJOR:
        raise PostgresError(f"PostgreSQL {number} is too old; version {_OLDEST_MAJOR} or later is needed")
    if _major(number) != _major(made_by):
        raise PostgresError(
            f"{cluster} was made by PostgreSQL {made_by} and {number} is installed; "
            f"install version {made_by}, or start with another data folder"
        )


def _spawn(command: list[str], cwd: Path, account: _Account | None, output: int) -> "subprocess.Popen[bytes]":
    # Not by way of tied_child.py, which the server's account might not be able to read.
    parent = os.getpid()

    def end_with_parent() -> None:
        # Runs after the change of account, which would clear the setting.
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environment | {"LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        user=None if account is None else account.uid,
        group=None if account is None else account.gid,
        extra_groups=None if account is None else [],
        # Ctrl-C in a terminal reaches everything in the foreground; this server ends after those who use it.
        start_new_session=True,
        preexec_fn=end_with_parent,  # noqa: PLW1509 - one system call of a library that is loaded, which takes no lock
    )


def _is_ready(cluster: Path, pid: int) -> bool:
    """What ``pg_ctl`` looks at too: the first line of postmaster.pid is the process, the eighth its state."""
    try:
        lines = (cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return False
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _end_of(log_path: Path) -> str:
    lines = log_path.read_text(encoding="utf-8", errors="replace").splitlines()
    return " | ".join(lines[-5:]) or "it said nothing"
