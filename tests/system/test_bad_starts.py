"""Starts that cannot work: each ends at once with one line that says what to do, and a non-zero exit code."""

import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from synapse_super_app.commands import loopback
from synapse_super_app.commands.main import main
from synapse_super_app.commands.postgres import PrivatePostgres

SHIPPED = Path(__file__).parents[2] / "homeserver.yaml"

Failed = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(SHIPPED, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def failed(capsys: pytest.CaptureFixture[str]) -> Failed:
    """Run the command line; it must fail, and print its one line of complaint at the end."""

    def run(*arguments: str) -> str:
        assert main(arguments) == 1
        written = capsys.readouterr()
        assert "Traceback" not in written.err
        complaints = [line for line in written.err.splitlines() if line.startswith("super-app: ")]
        assert len(complaints) == 1
        assert written.err.endswith(complaints[0] + "\n")
        return complaints[0]

    return run


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def with_database(folder: Path, database: dict[str, object]) -> None:
    path = folder / "homeserver.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**content, "database": database}), encoding="utf-8")


def test_a_port_that_is_taken(folder: Path, failed: Failed, taken_port: int) -> None:
    line = failed("up", "--port", str(taken_port))
    assert f"listeners: port {taken_port} on 127.0.0.1 is taken" in line
    assert "--port N" in line
    assert not (folder / "data" / "signing.key").exists()


@pytest.mark.usefixtures("folder")
def test_a_port_that_is_no_port(failed: Failed) -> None:
    assert "port 70000 on 127.0.0.1 cannot be used" in failed("up", "--port", "70000")


def test_a_data_folder_that_cannot_be_written(folder: Path, failed: Failed) -> None:
    (folder / "data").touch()
    assert f"cannot write to the folder {folder}/data" in failed("up")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else, who may not write here")
def test_a_data_folder_of_somebody_else(demo_folder: Path, failed: Failed, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(SHIPPED, demo_folder)
    monkeypatch.chdir(demo_folder)
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        line = failed("up")
    finally:
        os.seteuid(0)
    assert f"cannot write to the folder {demo_folder}/data: Permission denied; give it to the user" in line


def test_no_config_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failed: Failed) -> None:
    monkeypatch.chdir(tmp_path)
    assert "there is no " in failed("up")


def test_a_misspelt_key_of_ours(folder: Path, failed: Failed) -> None:
    path = folder / "homeserver.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("publish_feed:", "publish_feeds:"), encoding="utf-8")
    assert "config.directory.publish_feeds is not a known key; did you mean directory.publish_feed?" in failed("up")


def test_a_misspelt_key_of_synapse(folder: Path, failed: Failed) -> None:
    path = folder / "homeserver.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "\nfederation_ip_range_blocklist: []\n", encoding="utf-8")
    assert "federation_ip_range_blocklist: " in failed("up")


def test_a_check_alone_finds_the_same_and_starts_nothing(
    folder: Path, failed: Failed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["up", "--check"]) == 0
    assert "nothing to complain about" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["homeserver.yaml"]
    path = folder / "homeserver.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "\nip_range_blocklist: []\n", encoding="utf-8")
    assert "ip_range_blocklist: " in failed("up", "--check")


def test_several_faults_are_told_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "homeserver.yaml"
    path.write_text(path.read_text(encoding="utf-8") + "\nip_range_blocklist: []\ndaemonize: true\n", encoding="utf-8")
    assert main(["up"]) == 1
    err = capsys.readouterr().err
    assert "super-app: ip_range_blocklist: " in err
    assert "super-app: daemonize: " in err


def test_a_postgresql_server_that_is_not_there(folder: Path, failed: Failed) -> None:
    arguments = {"host": "127.0.0.1", "port": loopback.free_ports(1), "user": "synapse", "dbname": "synapse"}
    with_database(folder, {"name": "psycopg2", "args": arguments})
    line = failed("up")
    assert "database: PostgreSQL does not let us in: " in line
    assert "correct database.args" in line


def test_a_database_that_does_not_exist(folder: Path, failed: Failed, postgres_server: PrivatePostgres) -> None:
    with_database(folder, {"name": "psycopg2", "args": postgres_server.connection("nobody_made_this")})
    assert 'database "nobody_made_this" does not exist' in failed("up")


def test_a_database_with_another_locale(folder: Path, failed: Failed, postgres_server: PrivatePostgres) -> None:
    import psycopg2

    connection = psycopg2.connect(postgres_server.dsn("postgres"))
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute("DROP DATABASE IF EXISTS not_c")
            cursor.execute(
                "CREATE DATABASE not_c ENCODING 'UTF8' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8' TEMPLATE template0"
            )
    finally:
        connection.close()
    with_database(folder, {"name": "psycopg2", "args": postgres_server.connection("not_c")})
    line = failed("up")
    assert "database: the database has the locale C.UTF-8 (C.UTF-8), it must be C; " in line
    assert "createdb --locale=C" in line


def test_a_database_that_forgets_commits(folder: Path, failed: Failed, postgres_server: PrivatePostgres) -> None:
    arguments = postgres_server.connection("postgres")
    with_database(folder, {"name": "psycopg2", "synchronous_commit": False, "args": arguments})
    assert "database.synchronous_commit: false lets a power cut undo payments" in failed("up")


@pytest.mark.usefixtures("folder")
def test_an_sqlite_without_strict_tables(failed: Failed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    assert "is too old, 3.37 is needed" in failed("up")


def test_a_database_in_use_whose_signing_key_is_gone(folder: Path, failed: Failed) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "homeserver.db").write_bytes(b"SQLite format 3\0")
    assert "signing_key_path: " in failed("up", "--port", str(loopback.free_ports(1)))


def test_an_old_python() -> None:
    pretend = "import sys; sys.version_info = (3, 10, 12, 'final', 0); sys.version = '3.10.12 (old)'; "
    out = subprocess.run(
        [sys.executable, "-c", pretend + "import synapse_super_app.commands.main"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 1
    assert out.stderr == ("super-app: Python 3.11 or later is needed, this is 3.10.12; run it with a newer one\n")


@pytest.mark.usefixtures("folder")
def test_a_demo_on_ports_that_are_taken(failed: Failed, taken_port: int) -> None:
    line = failed("demo", "--data", "demo", "--port-base", str(taken_port - 2))
    assert f"--port-base: port {taken_port} on 127.0.0.1 is taken" in line


@pytest.mark.usefixtures("folder")
def test_a_demo_folder_of_the_other_database(failed: Failed, taken_port: int) -> None:
    failed("demo", "--data", "demo", "--port-base", str(taken_port), "--database", "sqlite")
    line = failed("demo", "--data", "demo", "--port-base", str(taken_port), "--database", "postgresql")
    assert "--database: demo was made for sqlite; use that, or another --data DIR" in line


def test_registering_where_no_homeserver_runs(folder: Path, failed: Failed) -> None:
    assert "registration_shared_secret_path: there is no " in failed("register", "alice")
    (folder / "data").mkdir()
    (folder / "data" / "registration_secret").write_text("secret", encoding="ascii")
    (folder / "password").write_text("correct horse\n", encoding="ascii")
    url = f"http://127.0.0.1:{loopback.free_ports(1)}"
    assert f"no answer from {url}" in failed("register", "alice", "--password-file", "password", "--url", url)


def test_registering_with_an_empty_password(folder: Path, failed: Failed) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "registration_secret").write_text("secret", encoding="ascii")
    (folder / "password").touch()
    assert "the password is empty" in failed("register", "alice", "--password-file", "password")
    assert "--password-file: cannot read " in failed("register", "alice", "--password-file", "missing")
