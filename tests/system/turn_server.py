"""A real coturn on loopback, with the configuration that we ship.

What of it is changed: where it listens, its secrets, where it logs, and that it may relay to 127.0.0.1, since everybody
is there. What else it refuses it goes on refusing.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from super_app.calls.model import SessionId
from super_app.ids import Acct
from synapse_super_app.calls.turn import Turn
from synapse_super_app.commands import loopback, tied_child
from synapse_super_app.commands.checkup.turn import relayed_address
from synapse_super_app.commands.matrix_client import wait_until

SECRET: Final = "only-on-this-machine-and-nowhere-else"
_SHIPPED: Final = Path(__file__).resolve().parents[2] / "docker" / "turnserver.conf"
_NOT_HERE: Final = ("realm=", "static-auth-secret=", "listening-port=", "syslog", "simple-log", "cli-")
_RELAY_PORTS: Final = 40


def place(folder: Path) -> tuple[str, Path]:
    """The URI of a server that may come, and the file of its secret."""
    secret = folder / "turn_secret"
    secret.write_text(SECRET)
    return f"turn:{loopback.ADDRESS}:{loopback.free_ports(_RELAY_PORTS + 2)}?transport=udp", secret


def _port(uri: str) -> int:
    return int(uri.split("?", maxsplit=1)[0].rpartition(":")[2])


def cli_port(uri: str) -> int:
    """Where it listens for commands, whose password is the secret too."""
    return _port(uri) + _RELAY_PORTS + 1


def program() -> str:
    """coturn; where there is none the test is skipped and says so."""
    found = shutil.which("turnserver")
    if found is None:
        pytest.skip("there is no coturn; on Debian: apt-get install coturn")
    return found


@contextmanager
def running(folder: Path, uri: str) -> Generator[tuple[str, int]]:
    """coturn at a URI that ``place`` gave; the address and the port."""
    binary = program()
    port = _port(uri)
    shipped = _SHIPPED.read_text(encoding="utf-8").splitlines()
    lines = [line for line in shipped if not line.startswith(_NOT_HERE)]
    lines += [
        "realm=on-this-machine",
        f"static-auth-secret={SECRET}",
        f"listening-ip={loopback.ADDRESS}",
        f"relay-ip={loopback.ADDRESS}",
        f"listening-port={port}",
        f"min-port={port + 1}",
        f"max-port={port + _RELAY_PORTS}",
        f"cli-ip={loopback.ADDRESS}",
        f"cli-port={cli_port(uri)}",
        f"cli-password={SECRET}",
        "no-tls",
        "no-dtls",
        f"userdb={folder / 'turndb'}",
        f"pidfile={folder / 'turnserver.pid'}",
        "allow-loopback-peers",
        f"allowed-peer-ip={loopback.ADDRESS}",
        "log-file=stdout",
    ]
    path = folder / "turnserver.conf"
    path.write_text("\n".join(lines) + "\n")
    with (folder / "turnserver.log").open("wb") as log:
        tied = [sys.executable, tied_child.__file__, str(os.getpid())]
        process = subprocess.Popen([*tied, binary, "-c", str(path)], stdout=log, stderr=log, cwd=folder)
    server = (loopback.ADDRESS, port)
    probe = Turn((uri,), SECRET)

    def answers() -> bool:
        assert process.poll() is None, (folder / "turnserver.log").read_text()
        credentials = probe.credentials(SessionId("probe"), Acct("probe"), _now_ms())
        try:
            return relayed_address(server, credentials) is not None
        except OSError:
            return False

    try:
        wait_until(answers, timeout_s=60, what="coturn to listen")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _now_ms() -> int:
    return int(time.time() * 1000)
