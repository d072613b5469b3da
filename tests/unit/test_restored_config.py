"""The config that a restore puts in place."""

import json
import os
import stat
from pathlib import Path

import pytest

from synapse_super_app.commands.kept_files import CONFIG, FORMAT, MANIFEST, sha256_of
from synapse_super_app.commands.main import main


def test_it_is_for_its_owner_alone_as_it_may_hold_passwords(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backup, place = tmp_path / "backup", tmp_path / "homeserver.yaml"
    backup.mkdir()
    (backup / CONFIG).write_text("server_name: one.example\n", encoding="utf-8")
    manifest = {
        "format": FORMAT,
        "server_name": "one.example",
        "made": "2026-01-01T00:00:00Z",
        "databases": {"database": {"engine": "psycopg2", "file": CONFIG}},
        "keys": [],
        "sha256": {CONFIG: sha256_of(backup / CONFIG)},
    }
    (backup / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    before = os.umask(0o022)
    try:
        # It names no database, so no more than the config is put in place.
        assert main(["restore", str(backup), "--config", str(place)]) == 1
    finally:
        os.umask(before)
    assert "the config of the backup" in capsys.readouterr().err
    assert place.read_bytes() == (backup / CONFIG).read_bytes()
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
