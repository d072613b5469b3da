"""The files that the first start makes."""

import subprocess
import sys
from pathlib import Path

import pytest

from synapse_super_app.commands import data_folder
from synapse_super_app.commands.console import CommandFailed
from synapse_super_app.commands.homeserver_config import HomeserverConfig, load, overridden

SHIPPED = load(Path(__file__).parents[2] / "homeserver.yaml")
MADE = {"registration_secret", "macaroon_secret", "form_secret", "signing.key", "log.yaml"}


def config_in(folder: Path) -> HomeserverConfig:
    return overridden(SHIPPED, data=folder)


def test_the_first_start_makes_folder_keys_and_secrets_for_their_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "data"
    made = data_folder.prepare(config_in(folder), has_accounts=False)
    assert {path.name for path in made} == MADE
    assert folder.stat().st_mode & 0o077 == 0
    for path in made:
        if path.name != "log.yaml":
            assert path.stat().st_mode & 0o077 == 0, path
    algorithm, version, seed = (folder / "signing.key").read_text(encoding="ascii").split()
    assert algorithm == "ed25519"
    assert version.startswith("a_")
    assert len(seed) == 43
    secrets = {(folder / name).read_text(encoding="ascii") for name in MADE if name.endswith("_secret")}
    assert len(secrets) == 3


def test_a_later_start_changes_nothing(tmp_path: Path) -> None:
    data_folder.prepare(config_in(tmp_path), has_accounts=False)
    before = {name: (tmp_path / name).read_bytes() for name in MADE}
    assert data_folder.prepare(config_in(tmp_path), has_accounts=True) == []
    assert {name: (tmp_path / name).read_bytes() for name in MADE} == before


def test_a_database_in_use_gets_no_new_identity(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"signing_key_path: .*signing\.key is gone.*from your backup"):
        data_folder.prepare(config_in(tmp_path), has_accounts=True)
    assert not (tmp_path / "signing.key").exists()


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CommandFailed, match=r"cannot write to the folder .*file/data: .*; .*--data DIR"):
        data_folder.make_writable(tmp_path / "file" / "data")


def test_a_folder_that_cannot_be_written_is_told_in_one_line() -> None:
    # A folder in which root cannot make files either.
    with pytest.raises(CommandFailed, match="cannot write to the folder /proc/self: "):
        data_folder.make_writable(Path("/proc/self"))


def test_one_folder_serves_one_super_app(tmp_path: Path) -> None:
    hold = (
        "import sys; from pathlib import Path; from synapse_super_app.commands.data_folder import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        in_use = rf"in use by another super-app \(process {holder.pid}\); .*--data DIR"
        with pytest.raises(CommandFailed, match=in_use), data_folder.locked(tmp_path):
            pass
        holder.stdin.close()
        holder.wait()
    with data_folder.locked(tmp_path):
        pass
