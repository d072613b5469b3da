"""The databases: whether they answer, and settings of theirs that would put money at risk."""

import importlib
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, Final

from synapse_super_app.commands import start_checks
from synapse_super_app.commands.checkup.findings import Finding, bad, good, warning
from synapse_super_app.commands.console import CommandFailed
from synapse_super_app.commands.homeserver_config import HomeserverConfig

_CLOCK_LIMIT_S: Final = 5
_MUST_BE_ON: Final[Mapping[str, str]] = {
    "fsync": "a power cut can then destroy the books",
    "full_page_writes": "a power cut can then leave half-written pages in the books",
    "synchronous_commit": "a power cut can then undo payments that people were told had happened",
}
_SYNCHRONOUS: Final = ("on", "local", "remote_write", "remote_apply")
_SPARE_CONNECTIONS: Final = 5


def look(config: HomeserverConfig) -> Iterator[Finding]:
    for key, database in config.databases().items():
        try:
            start_checks.check_database(config, key, database)
        except CommandFailed as failure:
            what, _, remedy = str(failure).rpartition("; ")
            yield bad(f"{key}.fit", what, remedy)
            continue
        if database.get("name") == "psycopg2":
            yield from _look_at_postgresql(key, database)
        else:
            yield good(f"{key}.fit", f"{key}: SQLite; the module itself keeps it durable (synchronous=FULL)")


def _look_at_postgresql(key: str, database: Mapping[str, Any]) -> Iterator[Finding]:
    arguments: Mapping[str, Any] = database.get("args") or {}
    driver: Any = importlib.import_module("psycopg2")
    with closing(start_checks.connect(driver, arguments)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT name, setting FROM pg_settings WHERE name IN"
            " ('fsync', 'full_page_writes', 'synchronous_commit', 'max_connections', 'server_version')"
        )
        settings: dict[str, str] = dict(cursor.fetchall())
        cursor.execute("SELECT pg_is_in_recovery(), extract(epoch FROM clock_timestamp())")
        is_replica, clock_s = cursor.fetchone()
        ours_s = time.time()
    wrong = False
    for name, danger in _MUST_BE_ON.items():
        if settings[name] not in _SYNCHRONOUS:
            wrong = True
            yield bad(
                f"{key}.{name}",
                f"{key}: PostgreSQL runs with {name} = {settings[name]}; {danger}",
                f"set {name} = on in postgresql.conf, and reload it",
            )
    if not wrong:
        yield good(f"{key}.fit", f"{key}: PostgreSQL {settings['server_version']}, durable settings")
    if is_replica:
        yield bad(
            f"{key}.primary", f"{key}: this PostgreSQL server is a replica and takes no writes", "name the primary"
        )
    wanted, most = int(arguments.get("cp_max", 10)), int(settings["max_connections"])
    if wanted + _SPARE_CONNECTIONS > most:
        yield warning(
            f"{key}.connections",
            f"{key}: each process may open {wanted} connections (cp_max), and PostgreSQL allows {most} in all",
            "raise max_connections, or lower cp_max",
        )
    yield _clock(key, float(clock_s) - ours_s)


def _clock(key: str, ahead_s: float) -> Finding:
    if abs(ahead_s) > _CLOCK_LIMIT_S:
        return bad(
            f"{key}.clock",
            f"{key}: PostgreSQL's clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} this "
            "machine's, and the ledger goes by PostgreSQL's",
            "let both follow the same time server",
        )
    return good(f"{key}.clock", f"{key}: PostgreSQL's clock agrees with this machine's")
