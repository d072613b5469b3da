"""``super-app restore``: put a backup back, and mark its database as one, so that every link is fenced at the start."""

import argparse
import importlib
import json
import os
import secrets
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from synapse_super_app.commands import data_folder, homeserver_config, start_checks
from synapse_super_app.commands.backup import postgres_environment, postgres_program
from synapse_super_app.commands.console import CommandFailed, Commands, relative, say
from synapse_super_app.commands.homeserver_config import DEFAULT_PATH, HomeserverConfig
from synapse_super_app.commands.kept_files import CONFIG, FORMAT, MANIFEST, place_of, sha256_of

_DIRECTORY_MARK: Final = "INSERT INTO superapp_directory_restore (restore_id, restored_ms) VALUES ({0}, {0})"
_MARK: Final = "INSERT INTO superapp_clearing_restore (restore_id, restored_ms, begun) VALUES ({0}, {0}, 0)"


class _Database(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: str
    file: str


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    server_name: str
    made: str
    databases: dict[str, _Database]
    keys: list[str]
    sha256: dict[str, str]


def add_to(commands: Commands) -> None:
    parser = commands.add_parser(
        "restore",
        help="put a backup back",
        description="Put a backup into an empty place. At the next start this homeserver asks every homeserver that it "
        "has a link with what happened since, and takes it over. THE DATABASE THAT THE BACKUP REPLACES MUST NEVER RUN "
        "AGAIN: its homeserver must be stopped for good.",
    )
    parser.add_argument("folder", type=Path, metavar="BACKUP", help="what super-app backup made")
    homeserver_config.add_option(parser)
    parser.add_argument("--data", type=Path, metavar="DIR", help="keep what the config keeps under data/ in DIR")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    folder: Path = arguments.folder.absolute()
    manifest = _read_manifest(folder)
    # Whatever was put here before something went wrong is taken away again, so that nothing starts on half of it.
    with ExitStack() as undo:
        config = _config(arguments, folder, manifest, undo)
        _check_place(config, folder, manifest)
        data = config.data_folder()
        data_folder.make_writable(data)
        with data_folder.locked(data):
            for name in manifest.keys:
                _put_key(folder / name, place_of(config, name), undo)
            restore_id = f"restore:{secrets.token_hex(8)}"
            databases = manifest.databases.items()
            marked = [_put_database(config, key, kept, folder, restore_id, undo) for key, kept in databases]
        undo.pop_all()
    say(f"restored  {manifest.server_name} as it was at {manifest.made}, into {relative(data)}")
    if any(marked):
        say("marked    at its start it fences every link before it pays again; super-app link list shows how far it is")
    say("missing   what happened here since then, but for payments with other homeservers, which these give back")
    return 0


def _read_manifest(folder: Path) -> _Manifest:
    try:
        manifest = _Manifest.model_validate(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise CommandFailed(f"{relative(folder)} is no backup: it has no {MANIFEST}") from None
    except (OSError, ValueError, ValidationError) as error:
        raise CommandFailed(f"{relative(folder / MANIFEST)} cannot be read: {str(error).splitlines()[0]}") from None
    if manifest.format != FORMAT:
        raise CommandFailed(f"the backup has the format {manifest.format}, and this version reads {FORMAT}")
    named = {CONFIG, *manifest.keys, *(each.file for each in manifest.databases.values())}
    if any("/" in name or name not in manifest.sha256 for name in named):
        raise CommandFailed(f"{relative(folder / MANIFEST)} names files that it has no checksum of")
    for name in sorted(named):
        if not (folder / name).is_file():
            raise CommandFailed(f"{name} is missing from {relative(folder)}; take another backup")
        if sha256_of(folder / name) != manifest.sha256[name]:
            raise CommandFailed(f"{name} in {relative(folder)} is damaged or was changed; take another backup")
    return manifest


def _config(arguments: argparse.Namespace, folder: Path, manifest: _Manifest, undo: ExitStack) -> HomeserverConfig:
    """The config that is here, or else the one of the backup, which is put here."""
    chosen: list[Path] | None = arguments.config
    place = (chosen or [DEFAULT_PATH])[0].absolute()
    if not place.exists():
        # It may hold passwords.
        undo.callback(place.unlink, missing_ok=True)
        place.touch(mode=0o600)
        shutil.copyfile(folder / CONFIG, place)
        _make_durable(place)
        say(f"made      {relative(place)}, the config of the backup")
    config = homeserver_config.given(arguments)
    data: Path | None = arguments.data
    if data is not None:
        config = homeserver_config.overridden(config, data=data.absolute())
    name = str(config.content.get("server_name", ""))
    if name != manifest.server_name:
        raise CommandFailed(
            f"server_name: {relative(config.path)} is of {name or 'nobody'}, the backup of {manifest.server_name}; "
            "a homeserver cannot be renamed"
        )
    return config


def _check_place(config: HomeserverConfig, folder: Path, manifest: _Manifest) -> None:
    databases = config.databases()
    for key, kept in manifest.databases.items():
        if key not in databases:
            raise CommandFailed(f"{key}: the backup has this database, and {relative(config.path)} names no such one")
        if str(databases[key].get("name")) != kept.engine:
            raise CommandFailed(
                f"{key}: the backup is of {kept.engine}, and {relative(config.path)} has {databases[key].get('name')}; "
                "a backup goes back into the same kind of database"
            )
    if start_checks.check_databases(config):
        raise CommandFailed("there is a database already, and a restore overwrites nothing; make an empty place for it")
    for path in config.sqlite_files():
        for left in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            if left.exists():
                raise CommandFailed(f"{relative(left)} is in the way; move it to another place")
    for name in manifest.keys:
        target = place_of(config, name)
        if target.exists() and target.read_bytes() != (folder / name).read_bytes():
            raise CommandFailed(f"{relative(target)} is there and is another key than that of the backup; move it away")


def _put_key(source: Path, target: Path, undo: ExitStack) -> None:
    if target.exists():
        return
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    undo.callback(target.unlink, missing_ok=True)
    target.touch(mode=0o600)
    target.write_bytes(source.read_bytes())
    _make_durable(target)


def _make_durable(path: Path) -> None:
    """A file is on the disk only once its bytes and the name in its folder are."""
    for each in (path, path.parent):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _put_database(
    config: HomeserverConfig, key: str, kept: _Database, folder: Path, restore_id: str, undo: ExitStack
) -> bool:
    """Put one database back; whether it has links, and so was marked."""
    arguments: Mapping[str, Any] = config.databases()[key].get("args") or {}
    now_ms = time.time_ns() // 1_000_000
    if kept.engine == "sqlite3":
        target = config.resolve(str(arguments.get("database")))
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Under its name only once it is whole and marked: a crash in between leaves nothing that would start.
        unfinished = target.with_name(f"{target.name}.unfinished")
        undo.callback(unfinished.unlink, missing_ok=True)
        shutil.copyfile(folder / kept.file, unfinished)
        unfinished.chmod(0o600)
        marked = _mark_sqlite(unfinished, restore_id, now_ms)
        _make_durable(unfinished)
        undo.callback(target.unlink, missing_ok=True)
        unfinished.rename(target)
        _make_durable(target)
        return marked
    return fill_postgresql(key, arguments, folder / kept.file, restore_id, now_ms)


def _mark_sqlite(path: Path, restore_id: str, now_ms: int) -> bool:
    with closing(sqlite3.connect(path)) as connection, connection:
        has_log = connection.execute(
            "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'superapp_directory_restore'"
        ).fetchone()
        if has_log is not None:
            connection.execute(_DIRECTORY_MARK.format("?"), (restore_id, now_ms))
        has_links = connection.execute(
            "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'superapp_clearing_restore'"
        ).fetchone()
        if has_links is None:
            return False
        connection.execute(_MARK.format("?"), (restore_id, now_ms))
    return True


def fill_postgresql(key: str, arguments: Mapping[str, Any], source: Path, restore_id: str, now_ms: int) -> bool:
    """Fill an empty database from a dump; whether it has links, and so was marked.

    It is marked while its tables are still empty, and all that they hold comes in one transaction: a crash in between
    leaves nothing that would pay without a fence.
    """
    say(f"filling   {key}, with pg_restore")
    environment = postgres_environment(arguments)
    command = [postgres_program("pg_restore"), "--no-owner", "--no-acl", "--single-transaction", "--exit-on-error"]
    command.append(f"--dbname={environment['PGDATABASE']}")

    def run_pg_restore(*sections: str) -> None:
        done = subprocess.run(
            [*command, *(f"--section={each}" for each in sections), str(source)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise CommandFailed(
                f"pg_restore failed for {key}: {' '.join(done.stderr.split())}; make the database anew before you "
                "restore again"
            )

    run_pg_restore("pre-data")
    marked = _mark_postgresql(arguments, restore_id, now_ms)
    run_pg_restore("data", "post-data")
    return marked


def _mark_postgresql(arguments: Mapping[str, Any], restore_id: str, now_ms: int) -> bool:
    driver: Any = importlib.import_module("psycopg2")
    wanted = {name: value for name, value in arguments.items() if not name.startswith("cp_")}
    with closing(driver.connect(**wanted)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('superapp_directory_restore') IS NOT NULL")
        if cursor.fetchone()[0]:
            cursor.execute(_DIRECTORY_MARK.format("%s"), (restore_id, now_ms))
        cursor.execute("SELECT to_regclass('superapp_clearing_restore') IS NOT NULL")
        if not cursor.fetchone()[0]:
            return False
        cursor.execute(_MARK.format("%s"), (restore_id, now_ms))
    return True
