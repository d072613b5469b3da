"""``super-app backup``: a consistent copy of the databases and all keys, while the homeserver runs."""

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import yaml

from synapse_super_app.commands import homeserver_config
from synapse_super_app.commands.console import CommandFailed, Commands, program, relative, say
from synapse_super_app.commands.homeserver_config import HomeserverConfig
from synapse_super_app.commands.kept_files import CONFIG, FORMAT, MANIFEST, key_files_of, sha256_of
from synapse_super_app.commands.postgres import PostgresError, find_binaries

_PAGES: Final = 1_000
"""Pages of SQLite that are copied between two looks at how far it has come."""
_SECONDS: Final = 1.0


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "backup",
        help="copy the database and all keys",
        description="Copy the databases, the config and all keys into a new folder, while the homeserver runs or not.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder that does not exist yet")
    homeserver_config.add_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    config = homeserver_config.given(arguments)
    folder: Path = arguments.folder.absolute()
    if folder.exists():
        raise CommandFailed(f"{relative(folder)} exists; a backup overwrites nothing, so name a new folder")
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    try:
        unfinished.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise CommandFailed(f"{relative(unfinished)} is left of a backup that did not end; remove it") from None
    except OSError as error:
        raise CommandFailed(f"cannot make {relative(unfinished)}: {error.strerror}") from None
    databases = {key: _copy_database(config, key, each, unfinished) for key, each in config.databases().items()}
    # After the databases: a key that is replaced meanwhile is then here as well, and the older one beside it.
    names = [name for name, path in key_files_of(config) if _copy_private(path, unfinished / name)]
    (unfinished / CONFIG).touch(mode=0o600)
    (unfinished / CONFIG).write_text(yaml.safe_dump(dict(config.content), sort_keys=False), encoding="utf-8")
    manifest = {
        "format": FORMAT,
        "server_name": str(config.content.get("server_name", "")),
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "databases": databases,
        "keys": names,
        "sha256": {each.name: sha256_of(each) for each in sorted(unfinished.iterdir())},
    }
    (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    _sync(unfinished)
    unfinished.rename(folder)
    size = sum(each.stat().st_size for each in folder.iterdir())
    say(f"made      {relative(folder)}: {len(databases)} database, {len(names)} keys and secrets, {size:,} bytes")
    say("not in it media files, logs, and what other homeservers keep; copy media_store_path by itself")
    say(f"keep      it as safe as the homeserver: who has it can sign as {manifest['server_name']}")
    say(f"restore   with {program()} restore {relative(folder)}")
    return 0


def _copy_database(config: HomeserverConfig, key: str, database: Mapping[str, Any], folder: Path) -> dict[str, str]:
    arguments: Mapping[str, Any] = database.get("args") or {}
    if database.get("name") == "sqlite3":
        file = f"{key}.sqlite3"
        _copy_sqlite(config.resolve(str(arguments.get("database"))), folder / file)
        return {"engine": "sqlite3", "file": file}
    file = f"{key}.pgdump"
    dump_postgresql(key, arguments, folder / file)
    return {"engine": "psycopg2", "file": file}


def _copy_sqlite(source: Path, target: Path) -> None:
    """By SQLite's own online backup, which gives one state of the database whoever writes meanwhile."""
    if not source.exists():
        raise CommandFailed(f"there is no database at {relative(source)}; start the homeserver once")
    shown_s = time.monotonic()

    def progress(_: int, remaining: int, total: int) -> None:
        nonlocal shown_s
        if total and time.monotonic() - shown_s >= _SECONDS:
            shown_s = time.monotonic()
            say(f"copying   {source.name}: {100 * (total - remaining) // total} %")

    target.touch(mode=0o600)
    reading = sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True, isolation_level=None)
    with closing(reading) as one, closing(sqlite3.connect(target)) as other:
        one.execute("BEGIN")
        # A transaction that has read keeps seeing this state, also between the steps of the copy.
        one.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        one.backup(other, pages=_PAGES, progress=progress)
        one.execute("ROLLBACK")
        (answer,) = other.execute("PRAGMA quick_check(1)").fetchone()
    if answer != "ok":
        raise CommandFailed(f"the copy of {source.name} is damaged: {answer}")


def postgres_environment(arguments: Mapping[str, Any]) -> dict[str, str]:
    """How PostgreSQL's own programs find the database of a config section."""
    names = {
        "host": "PGHOST",
        "port": "PGPORT",
        "user": "PGUSER",
        "password": "PGPASSWORD",
        "dbname": "PGDATABASE",
        "database": "PGDATABASE",
        "sslmode": "PGSSLMODE",
        "sslrootcert": "PGSSLROOTCERT",
    }
    found = {names[key]: str(value) for key, value in arguments.items() if key in names}
    return {**os.environ, **found}


def postgres_program(name: str) -> str:
    """A program of PostgreSQL, such as ``pg_dump``."""
    found = shutil.which(name)
    if found is not None:
        return found
    try:
        return str(find_binaries() / name)
    except PostgresError:
        raise CommandFailed(
            f"{name} is not installed; on Debian and Ubuntu: apt-get install postgresql-client"
        ) from None


def dump_postgresql(key: str, arguments: Mapping[str, Any], target: Path) -> None:
    """By pg_dump, which reads one snapshot."""
    say(f"copying   {key}, with pg_dump")
    target.touch(mode=0o600)
    command = [postgres_program("pg_dump"), "--format=custom", "--no-owner", "--no-acl", "--file", str(target)]
    done = subprocess.run(command, env=postgres_environment(arguments), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandFailed(f"pg_dump failed for {key}: {' '.join(done.stderr.split())}")


def _copy_private(source: Path, target: Path) -> bool:
    target.touch(mode=0o600)
    target.write_bytes(source.read_bytes())
    return True


def _sync(folder: Path) -> None:
    """A backup that is said to be there survives a power cut."""
    if sys.platform == "win32":
        return
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
