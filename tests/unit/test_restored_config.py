"""What a restore puts in place, and that a refused one leaves nothing behind."""

import json
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from synapse_super_app.commands.kept_files import CONFIG, FORMAT, MANIFEST, sha256_of
from synapse_super_app.commands.main import main

_CONFIG = """\
server_name: one.example
signing_key_path: one.example.signing.key
media_store_path: data/media
modules: [{module: synapse_super_app.SuperApp}]
database: {name: sqlite3, args: {database: data/homeserver.db}}
"""
_KEY, _PLACE = "signing_key_path", "one.example.signing.key"


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    folder = tmp_path / "backup"
    folder.mkdir()
    (folder / CONFIG).write_text(_CONFIG, encoding="utf-8")
    (folder / _KEY).write_text("ed25519 a_key abc\n", encoding="utf-8")
    database = sqlite3.connect(folder / "homeserver.db")
    database.execute("CREATE TABLE superapp_clearing_restore (restore_id TEXT, restored_ms BIGINT, begun INTEGER)")
    database.commit()
    database.close()
    write_manifest(folder)
    return folder


def write_manifest(folder: Path, engine: str = "sqlite3") -> None:
    kept = (CONFIG, _KEY, "homeserver.db")
    manifest = {
        "format": FORMAT,
        "server_name": "one.example",
        "made": "2026-01-01T00:00:00Z",
        "databases": {"database": {"engine": engine, "file": "homeserver.db"}},
        "keys": [_KEY],
        "sha256": {name: sha256_of(folder / name) for name in kept},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def files_in(folder: Path) -> list[str]:
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file())


def test_the_config_is_for_its_owner_alone_as_it_may_hold_passwords(backup: Path, tmp_path: Path) -> None:
    place = tmp_path / "here" / "homeserver.yaml"
    place.parent.mkdir()
    before = os.umask(0o022)
    try:
        assert main(["restore", str(backup), "--config", str(place)]) == 0
    finally:
        os.umask(before)
    assert place.read_bytes() == (backup / CONFIG).read_bytes()
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    database = sqlite3.connect(place.parent / "data" / "homeserver.db")
    assert database.execute("SELECT begun FROM superapp_clearing_restore").fetchall() == [(0,)]
    database.close()


def test_a_restore_that_is_refused_leaves_nothing_behind(
    backup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_manifest(backup, "psycopg2")
    place = tmp_path / "here" / "homeserver.yaml"
    place.parent.mkdir()
    assert main(["restore", str(backup), "--config", str(place)]) == 1
    assert "goes back into the same kind of database" in capsys.readouterr().err
    assert files_in(place.parent) == []


def test_a_restore_that_fails_on_the_way_takes_away_what_it_had_put_there(backup: Path, tmp_path: Path) -> None:
    place = tmp_path / "here" / "homeserver.yaml"
    place.parent.mkdir()
    (backup / "homeserver.db").write_bytes(b"no database")
    write_manifest(backup)
    with pytest.raises(sqlite3.DatabaseError):
        main(["restore", str(backup), "--config", str(place)])
    assert [each for each in files_in(place.parent) if "lock" not in each] == []


def test_another_key_in_the_way_is_seen_before_anything_is_written(
    backup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "here" / "homeserver.yaml"
    place.parent.mkdir()
    (place.parent / _PLACE).write_text("another", encoding="utf-8")
    assert main(["restore", str(backup), "--config", str(place)]) == 1
    assert "is another key than that of the backup" in capsys.readouterr().err
    assert files_in(place.parent) == [_PLACE]
