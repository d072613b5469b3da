"""``super-app up``: one homeserver for people, from nothing."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import SUPER_APP, Command, wait_until_gone

from super_app.names import CLIENT_API_PREFIX
from synapse_super_app.commands.loopback import free_ports
from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError, wait_until
from synapse_super_app.commands.postgres import PrivatePostgres

SHIPPED = Path(__file__).parents[2] / "homeserver.yaml"
CONFIG = ("--config", "data/homeserver.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a person unpacked the project: the shipped config is there and nothing else."""
    shutil.copy(SHIPPED, tmp_path)
    return tmp_path


def started(command: Command) -> None:
    def said_so() -> bool:
        assert command.process.poll() is None, command.stderr
        return "Ctrl-C stops it." in command.stdout

    wait_until(said_so, timeout_s=120, what="super-app up to say that it runs")


def register(folder: Path, *arguments: str, password: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(SUPER_APP), "register", *arguments],
        input=f"{password}\n",
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@dataclass(frozen=True)
class Running:
    command: Command
    folder: Path
    url: str


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One that the tests share which only use it."""
    folder = tmp_path_factory.mktemp("up")
    shutil.copy(SHIPPED, folder)
    port = free_ports(1)
    with Command(["up", "--port", str(port)], folder=folder, real=True) as up:
        started(up)
        yield Running(command=up, folder=folder, url=f"http://localhost:{port}")


def test_it_serves_clients_and_says_where(running: Running) -> None:
    told = running.command.stdout
    for where in (running.url, f"{running.url}/superapp/", f"{running.url}{CLIENT_API_PREFIX}/openapi.json"):
        assert where in told
    assert "register --config data/homeserver.yaml alice" in told
    assert len(running.command.children()) == 1
    with MatrixClient(running.url) as client:
        assert "v1.11" in client.versions()["versions"]
        assert client.openapi()["servers"] == [{"url": CLIENT_API_PREFIX}]
        assert client.request_raw("GET", "/superapp/")[0] == 200


def test_the_command_that_it_prints_makes_an_account(running: Running) -> None:
    made = register(running.folder, *CONFIG, "alice", password="correct horse")
    assert (made.stderr, made.stdout) == ("", "@alice:localhost can sign in now.\n")
    with MatrixClient(running.url) as client:
        assert client.login("alice", "correct horse").user_id == "@alice:localhost"
    again = register(running.folder, *CONFIG, "alice", password="another")
    assert again.returncode == 1
    assert again.stderr == "super-app: User ID already taken. (M_USER_IN_USE)\n"


def test_an_admin_that_it_makes_may_use_the_admin_api_and_others_may_not(running: Running) -> None:
    made = register(running.folder, *CONFIG, "--admin", "operator", password="secret")
    assert made.stdout == "@operator:localhost can sign in now. It is a server admin.\n"
    register(running.folder, *CONFIG, "bob", password="secret")
    with (
        MatrixClient(running.url) as client,
        client.signed_in(client.login("operator", "secret")) as operator,
        client.signed_in(client.login("bob", "secret")) as bob,
    ):
        assert operator.request("GET", "/_synapse/admin/v2/users")["total"] >= 2
        with pytest.raises(MatrixError):
            bob.request("GET", "/_synapse/admin/v2/users")


def test_a_second_one_on_the_same_folder_is_refused(running: Running) -> None:
    second = subprocess.run(
        [str(SUPER_APP), "up", "--port", str(free_ports(1))],
        cwd=running.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 1
    assert f"is in use by another super-app (process {running.command.process.pid})" in second.stderr


def test_it_stops_when_told_and_a_second_start_finds_the_same_homeserver(folder: Path) -> None:
    port = free_ports(1)
    keys: list[Any] = []
    for stop in (signal.SIGTERM, signal.SIGINT):
        with Command(["up", "--port", str(port), "--data", "elsewhere"], folder=folder) as up:
            started(up)
            with MatrixClient(f"http://localhost:{port}") as client:
                keys.append(client.request("GET", "/_matrix/key/v2/server")["verify_keys"])
            children = up.children()
            up.signal(stop)
            assert up.wait() == 0
            assert wait_until_gone(children) == frozenset()
            assert f"stopped   ({stop.name})" in up.stderr
    assert keys[0] == keys[1]
    assert not (folder / "data").exists()
    assert (folder / "elsewhere" / "registration_secret").stat().st_mode & 0o077 == 0


def test_it_runs_on_postgresql_and_keeps_its_identity_there_too(folder: Path, postgres_server: PrivatePostgres) -> None:
    postgres_server.create_database("up")
    path = folder / "homeserver.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["database"] = {"name": "psycopg2", "args": {**postgres_server.connection("up"), "cp_max": 5}}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    port = str(free_ports(1))
    with Command(["up", "--port", port], folder=folder) as up:
        started(up)
        assert register(folder, *CONFIG, "alice", password="secret").returncode == 0
        up.signal(signal.SIGTERM)
        assert up.wait() == 0
    assert not (folder / "data" / "homeserver.db").exists()
    (folder / "data" / "signing.key").unlink()
    with Command(["up", "--port", port], folder=folder) as up:
        assert up.wait() == 1
        assert "signing_key_path: " in up.stderr


def test_the_config_as_shipped_listens_where_the_readme_says(folder: Path) -> None:
    content = yaml.safe_load((folder / "homeserver.yaml").read_text(encoding="utf-8"))
    assert content["public_baseurl"] == "http://localhost:8008/"
    assert [(each["port"], each["bind_addresses"]) for each in content["listeners"]] == [(8008, ["127.0.0.1"])]


def test_when_synapse_dies_it_says_so_and_exits_with_an_error(folder: Path) -> None:
    with Command(["up", "--port", str(free_ports(1))], folder=folder) as up:
        started(up)
        (synapse,) = up.children()
        os.kill(synapse, signal.SIGKILL)
        assert up.wait() == 1
        assert "Synapse ended by signal SIGKILL" in up.stderr


def test_killed_by_force_it_leaves_no_homeserver_behind(folder: Path) -> None:
    with Command(["up", "--port", str(free_ports(1))], folder=folder) as up:
        started(up)
        running = up.children()
        up.signal(signal.SIGKILL)
        up.wait()
        assert running
        assert wait_until_gone(running) == frozenset()


def test_a_fault_that_only_synapse_finds_is_shown_in_its_words(folder: Path) -> None:
    config = folder / "homeserver.yaml"
    text = config.read_text(encoding="utf-8").replace("enable_registration: false", "enable_registration: true")
    config.write_text(text, encoding="utf-8")
    with Command(["up", "--port", str(free_ports(1))], folder=folder) as up:
        assert up.wait() == 1
        assert "super-app: Synapse ended with exit code 1; it wrote:" in up.stderr
        assert "You have enabled open registration without any verification" in up.stderr
