"""``super-app up``: one homeserver for people, from nothing."""

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import SUPER_APP, Command, wait_until_gone

from super_app.names import CLIENT_API_PREFIX
from synapse_super_app.commands.loopback import free_ports
from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError, wait_until

SHIPPED = Path(__file__).parents[2] / "homeserver.yaml"


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


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_clients_registers_people_and_stops_when_told(folder: Path, stop: signal.Signals) -> None:
    port = free_ports(1)
    url = f"http://localhost:{port}"
    with Command(["up", "--port", str(port)], folder=folder) as up:
        started(up)
        running = up.children()
        assert len(running) == 1
        assert url in up.stdout
        assert f"{url}/superapp/" in up.stdout
        assert "register --config data/homeserver.yaml alice" in up.stdout
        with MatrixClient(url) as client:
            assert "v1.11" in client.versions()["versions"]
            assert client.openapi()["servers"] == [{"url": CLIENT_API_PREFIX}]
            made = register(folder, "--config", "data/homeserver.yaml", "alice", password="correct horse")
            assert (made.stderr, made.stdout) == ("", "@alice:localhost can sign in now.\n")
            assert client.login("alice", "correct horse").user_id == "@alice:localhost"
            again = register(folder, "--config", "data/homeserver.yaml", "alice", password="another")
            assert again.returncode == 1
            assert again.stderr == "super-app: User ID already taken. (M_USER_IN_USE)\n"
        up.signal(stop)
        assert up.wait() == 0
        assert wait_until_gone(running) == frozenset()
        assert f"stopped   ({stop.name})" in up.stderr


def test_a_second_start_finds_the_same_homeserver(folder: Path) -> None:
    port = free_ports(1)
    keys: list[Any] = []
    for _ in range(2):
        with Command(["up", "--port", str(port), "--data", "elsewhere"], folder=folder) as up:
            started(up)
            with MatrixClient(f"http://localhost:{port}") as client:
                keys.append(client.request("GET", "/_matrix/key/v2/server")["verify_keys"])
            up.signal(signal.SIGTERM)
            assert up.wait() == 0
    assert keys[0] == keys[1]
    assert not (folder / "data").exists()
    secret = folder / "elsewhere" / "registration_secret"
    assert secret.stat().st_mode & 0o077 == 0


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


def test_a_second_one_on_the_same_folder_is_refused(folder: Path) -> None:
    with Command(["up", "--port", str(free_ports(1))], folder=folder) as up:
        started(up)
        second = subprocess.run(
            [str(SUPER_APP), "up", "--port", str(free_ports(1))],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 1
        assert f"is in use by another super-app (process {up.process.pid})" in second.stderr


def test_a_fault_that_only_synapse_finds_is_shown(folder: Path) -> None:
    config = folder / "homeserver.yaml"
    config.write_text(config.read_text(encoding="utf-8") + "\nmax_upload_size: [1]\n", encoding="utf-8")
    with Command(["up", "--port", str(free_ports(1))], folder=folder) as up:
        assert up.wait() == 1
        assert "Synapse ended with exit code 1" in up.stderr
        assert "Traceback" not in up.stderr or "max_upload_size" in up.stderr or "parse_size" in up.stderr


def test_an_admin_made_by_register_may_use_the_admin_api(folder: Path) -> None:
    port = free_ports(1)
    with Command(["up", "--port", str(port)], folder=folder) as up:
        started(up)
        made = register(folder, "--config", "data/homeserver.yaml", "--admin", "operator", password="secret")
        assert made.stdout == "@operator:localhost can sign in now. It is a server admin.\n"
        register(folder, "--config", "data/homeserver.yaml", "alice", password="secret")
        with MatrixClient(f"http://localhost:{port}") as client:
            operator = client.signed_in(client.login("operator", "secret"))
            assert operator.request("GET", "/_synapse/admin/v2/users")["total"] == 2
            alice = client.signed_in(client.login("alice", "secret"))
            with pytest.raises(MatrixError):
                alice.request("GET", "/_synapse/admin/v2/users")
            operator.close()
            alice.close()
