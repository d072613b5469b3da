"""The PostgreSQL server that the demo, the tests and the benchmarks start for themselves."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from processes import alive, wait_until_gone

from synapse_super_app.commands import postgres
from synapse_super_app.commands.postgres import PostgresError, PrivatePostgres

STARTS_ONE = """
import sys
from pathlib import Path
from synapse_super_app.commands.postgres import PrivatePostgres
server = PrivatePostgres(Path(sys.argv[1]))
server.start()
print(server.pid, server.socket_dir, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server(demo_folder: Path) -> Iterator[PrivatePostgres]:
    with PrivatePostgres(demo_folder, settings={"fsync": "off"}) as started:
        yield started


def ask(server: PrivatePostgres, question: str, database: str = "postgres") -> object:
    connection = psycopg2.connect(server.dsn(database))
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(question)
            row = cursor.fetchone()
            return None if row is None else row[0]
    finally:
        connection.close()


def test_it_never_runs_as_root(server: PrivatePostgres) -> None:
    assert Path(f"/proc/{server.pid}").stat().st_uid != 0


def test_it_listens_on_a_socket_in_a_folder_that_nobody_else_enters(server: PrivatePostgres) -> None:
    assert ask(server, "SHOW listen_addresses") == ""
    assert server.socket_dir.stat().st_mode & 0o077 == 0


def test_a_database_is_as_synapse_demands_and_making_it_again_keeps_it(server: PrivatePostgres) -> None:
    server.create_database("homeserver")
    assert ask(server, "SELECT datcollate FROM pg_database WHERE datname = 'homeserver'") == "C"
    assert ask(server, "SHOW server_encoding", "homeserver") == "UTF8"

    ask(server, "CREATE TABLE kept AS SELECT 1 AS one; SELECT 1", "homeserver")
    server.create_database("homeserver")
    assert ask(server, "SELECT one FROM kept", "homeserver") == 1


def test_what_is_stored_is_there_after_a_restart(server: PrivatePostgres) -> None:
    ask(server, "CREATE TABLE kept AS SELECT 7 AS seven; SELECT 1")
    server.stop()
    server.start()
    assert ask(server, "SELECT seven FROM kept") == 7


def test_two_servers_run_side_by_side(server: PrivatePostgres, tmp_path: Path) -> None:
    other = PrivatePostgres(tmp_path / "other", settings={"fsync": "off"})
    try:
        other.start()
        assert ask(other, "SHOW data_directory") != ask(server, "SHOW data_directory")
    finally:
        other.remove()


def test_it_runs_from_a_folder_that_only_its_owner_enters_and_leaves_nothing(tmp_path: Path) -> None:
    # pytest's own folder is closed to other accounts, and so may be the folder that root names for a demo.
    server = PrivatePostgres(tmp_path / "closed", settings={"fsync": "off"})
    try:
        server.start()
        cluster = Path(str(ask(server, "SHOW data_directory")))
    finally:
        server.remove()
    assert not cluster.exists()
    assert [path.name for path in (tmp_path / "closed").iterdir()] == ["server.log"]


def test_a_cluster_that_was_moved_away_is_not_replaced_by_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "cluster").symlink_to(tmp_path / "gone")
    with pytest.raises(PostgresError, match=r"gone; remove .*cluster to start with an empty one"):
        PrivatePostgres(tmp_path).start()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_the_process_that_started_it(demo_folder: Path, number: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTS_ONE, str(demo_folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # One that is killed cannot remove the folder of the socket.
        env={**os.environ, "TMPDIR": str(demo_folder)},
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline().split()[0])
        assert alive(pid)
        parent.send_signal(number)
    assert wait_until_gone(frozenset({pid})) == frozenset()


def test_a_setting_that_postgresql_does_not_know_is_reported_with_its_own_words(demo_folder: Path) -> None:
    with pytest.raises(PostgresError, match="no_such_setting"):
        PrivatePostgres(demo_folder, settings={"no_such_setting": "1"}).start()


def test_a_cluster_of_another_version_is_left_alone(demo_folder: Path, server: PrivatePostgres) -> None:
    server.stop()
    version = next(path for path in (demo_folder / "cluster").resolve().glob("PG_VERSION"))
    version.write_text("9\n", encoding="ascii")
    with pytest.raises(PostgresError, match="made by PostgreSQL 9"):
        server.start()


def test_a_machine_without_postgresql_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(postgres, "_DEBIAN_FOLDERS", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PostgresError, match="apt-get install postgresql"):
        PrivatePostgres(tmp_path).start()


def test_stopping_a_stopped_server_changes_nothing(server: PrivatePostgres) -> None:
    server.stop()
    server.stop()
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.pid
