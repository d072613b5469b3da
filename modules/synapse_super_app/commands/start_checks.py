"""What must be true of the machine before a homeserver starts: free ports, a database that answers and is fit."""

import errno
import importlib
import socket
import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from synapse_super_app.commands.console import CommandFailed
from synapse_super_app.commands.homeserver_config import HomeserverConfig

_CONNECT_TIMEOUT_S: Final = 5
_MIN_SQLITE: Final = (3, 37, 0)
_MIN_POSTGRESQL: Final = 140_000


def check_ports(config: HomeserverConfig) -> None:
    """Refuse to start when a listener's port cannot be had."""
    for listener in config.listeners():
        for address in listener.addresses:
            check_port(listener.port, address, key="listeners", remedy="choose another port with --port N")


def check_port(port: int, address: str, *, key: str, remedy: str) -> None:
    """Refuse when a port is taken. ``key`` is where the person chose it, ``remedy`` how to choose another."""
    where = f"{key}: port {port} on {address}"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As Synapse binds: a port in TIME_WAIT is free, and "::" leaves IPv4 to "0.0.0.0".
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address, port))
    except (OSError, OverflowError) as error:
        code = error.errno if isinstance(error, OSError) else None
        if code == errno.EADDRINUSE:
            raise CommandFailed(f"{where} is taken by another program; stop that one, or {remedy}") from None
        if code in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) and address == "::":
            # No IPv6 here; Synapse goes on with IPv4 too.
            return
        raise CommandFailed(f"{where} cannot be used ({error}); {remedy}") from None


def check_databases(config: HomeserverConfig) -> bool:
    """Refuse to start when a database does not answer or is not fit; whether it is in use already."""
    in_use = [check_database(config, key, database) for key, database in config.databases().items()]
    return any(in_use)


def check_database(config: HomeserverConfig, key: str, database: Mapping[str, Any]) -> bool:
    """Refuse a database that does not answer or is not fit; whether it is in use already."""
    arguments = database.get("args") or {}
    if database.get("name") == "sqlite3":
        if sqlite3.sqlite_version_info < _MIN_SQLITE:
            raise CommandFailed(
                f"{key}: SQLite {sqlite3.sqlite_version} is too old, 3.37 is needed; update it, or use PostgreSQL"
            )
        return any(path.exists() and path.stat().st_size > 0 for path in config.sqlite_files())
    return _check_postgresql(key, arguments, allow_unsafe_locale=bool(database.get("allow_unsafe_locale")))


def connect(driver: Any, arguments: Mapping[str, Any]) -> Any:
    """A connection of ``psycopg2`` with the ``args`` of a database in the config."""
    # cp_* are for Synapse's connection pool.
    wanted = {name: value for name, value in arguments.items() if not name.startswith("cp_")}
    return driver.connect(**{"connect_timeout": _CONNECT_TIMEOUT_S, **wanted})


def _check_postgresql(key: str, arguments: Mapping[str, Any], *, allow_unsafe_locale: bool) -> bool:
    try:
        driver: Any = importlib.import_module("psycopg2")
    except ImportError:
        raise CommandFailed(
            f"{key}: psycopg2 is not installed; install super-app-matrix[postgresql], or use name: sqlite3"
        ) from None
    try:
        connection = connect(driver, arguments)
    except driver.Error as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CommandFailed(
            f"{key}: PostgreSQL does not let us in: {reason}; start it, or correct {key}.args"
        ) from None
    try:
        version = int(connection.server_version)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT datcollate, datctype, pg_encoding_to_char(encoding), to_regclass('schema_version') IS NOT NULL"
                " FROM pg_database WHERE datname = current_database()"
            )
            collate, ctype, encoding, in_use = cursor.fetchone()
    finally:
        connection.close()
    if version < _MIN_POSTGRESQL:
        raise CommandFailed(f"{key}: PostgreSQL {version // 10_000} is too old, 14 is needed; update the server")
    remade = "make it anew with createdb --locale=C --encoding=UTF8 --template=template0"
    if encoding != "UTF8":
        raise CommandFailed(f"{key}: the database has the encoding {encoding}, it must be UTF8; {remade}")
    if (collate, ctype) != ("C", "C") and not allow_unsafe_locale:
        raise CommandFailed(f"{key}: the database has the locale {collate} ({ctype}), it must be C; {remade}")
    return bool(in_use)
