"""``super-app move``: recovery keys and claims, which are made without a network."""

import json
from pathlib import Path

import pytest

from super_app.accounts.model import Genesis
from super_app.directory import moves
from super_app.ids import Acct, ServerName, UserId
from synapse_super_app.commands.main import main

TO, ACCT = UserId("@alice:two.example"), Acct("Y" * 43)


@pytest.fixture
def key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, str]:
    path = tmp_path / "recovery.key"
    assert main(["move", "new-key", str(path)]) == 0
    return path, json.loads(capsys.readouterr().out)["recovery_key"]


def account(tmp_path: Path, public: str) -> tuple[Path, Genesis]:
    genesis = Genesis(
        server=ServerName("one.example"), localpart="alice", created_ms=1, nonce="00" * 16, recovery_key=public
    )
    path = tmp_path / "account.json"
    path.write_text(json.dumps({"user_id": "@alice:one.example", "genesis": genesis.content()}))
    return path, genesis


def test_a_key_is_its_owners_and_is_not_overwritten(key: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = key
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_text()
    assert main(["move", "new-key", str(path)]) == 1
    assert path.read_text() == before
    assert "cannot make" in capsys.readouterr().err


def test_a_claim_is_what_a_homeserver_takes(
    key: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, genesis = account(tmp_path, key[1])
    assert main(["move", "claim", "--key", str(key[0]), "--account", str(path), "--to", TO, "--to-acct", ACCT]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["from"] == "@alice:one.example"
    read = moves.read_claim(said["claim"], to_user_id=TO, to_acct=ACCT, now_ms=said["claim"]["issued"])
    assert isinstance(read, moves.Claim)
    assert read.acct == genesis.acct()


@pytest.mark.parametrize("wrong", ["key", "account", "user", "other key"])
def test_what_does_not_fit_is_said(
    wrong: str, key: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = account(tmp_path, "A" * 43 if wrong == "other key" else key[1])
    broken = tmp_path / "broken"
    broken.write_text("[]")
    told = [
        "--key",
        str(broken if wrong == "key" else key[0]),
        "--account",
        str(broken if wrong == "account" else path),
    ]
    to = "alice" if wrong == "user" else TO
    assert main(["move", "claim", *told, "--to", to, "--to-acct", ACCT]) == 1
    expected = {"key": "--key", "account": "--account", "user": "--to", "other key": "is not the recovery key"}[wrong]
    assert expected in capsys.readouterr().err
