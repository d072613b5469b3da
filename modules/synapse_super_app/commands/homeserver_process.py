"""One Synapse process: its config file, its start, its health, its end.

The demo, the system tests and the benchmarks stand on it. It owns the process and nothing that the process stores.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self

from synapse_super_app.commands import tied_child
from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError, UnreachableError

_POLL_PAUSE_S: Final = 0.05
_ASK_TIMEOUT_S: Final = 5.0
_STOP_TIMEOUT_S: Final = 30.0
_START_TIMEOUT_S: Final = 120.0
_TAIL_LINES: Final = 15

SYNAPSE: Final = (sys.executable, "-m", "synapse.app.homeserver")
WORKER: Final = (sys.executable, "-m", "synapse.app.generic_worker")


class HomeserverDied(Exception):
    """Synapse ended by itself. ``str()`` says how, and holds the last lines that it wrote to its console."""


def launch(
    command: Sequence[str], *, console: int, folder: Path, environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    """Start a program in a session of its own that ends with us; ``environment`` is what it has besides ours."""
    tie = (sys.executable, "-I", "-S", str(Path(tied_child.__file__)), str(os.getpid()))
    return subprocess.Popen(
        [*tie, *command],
        stdin=subprocess.DEVNULL,
        stdout=console,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env={**os.environ, **environment},
        start_new_session=True,
    )


class Homeserver:
    """A Synapse process that can be started again and again on the same files.

    ``console_path`` is appended what Synapse prints: all of its log when the config names no ``log_config``, otherwise
    only what comes before logging, such as a fault in the config. ``program`` replaces
    ``python -m synapse.app.homeserver``, as for workers. One that does not serve clients is asked at ``/health``.
    """

    def __init__(
        self,
        *,
        config_path: Path,
        client_url: str,
        console_path: Path,
        folder: Path | None = None,
        expects_our_api: bool = True,
        program: Sequence[str] = SYNAPSE,
        environment: Mapping[str, str] | None = None,
        serves_clients: bool = True,
    ) -> None:
        self.config_path = config_path
        self.client_url = client_url
        self.console_path = console_path
        self._folder = folder or config_path.parent
        self._expects_our_api = expects_our_api
        self._serves_clients = serves_clients
        self._program = tuple(program)
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._console_start_bytes = 0

    @property
    def pid(self) -> int:
        return self._started.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return self._started.poll()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"the homeserver of {self.config_path} has not been started")
        return self._process

    def spawn(self) -> None:
        """Start the process and return at once.

        Call it on a thread that lives as long as the homeserver shall: Linux ends the process when that thread ends,
        see tied_child. It is a session of its own, so that Ctrl-C in a terminal reaches us alone and we stop it in
        order.
        """
        if self.running:
            raise RuntimeError(f"the homeserver of {self.config_path} runs already, as process {self.pid}")
        with self.console_path.open("ab") as console:
            self._console_start_bytes = console.tell()
            self._process = launch(
                [*self._program, "-c", str(self.config_path)],
                console=console.fileno(),
                folder=self._folder,
                environment=self._environment,
            )

    def wait_until_healthy(self, timeout_s: float = _START_TIMEOUT_S) -> None:
        """Return once clients are served: Matrix versions, and our OpenAPI document unless no feature is on.

        Raises:
            HomeserverDied: it ended instead.
            TimeoutError: it did neither in time.
        """
        give_up_s = time.monotonic() + timeout_s
        while not self.is_healthy():
            if not self.running:
                raise HomeserverDied(self.epitaph())
            if time.monotonic() > give_up_s:
                raise TimeoutError(f"Synapse did not answer at {self.client_url} within {timeout_s:g} s")
            time.sleep(_POLL_PAUSE_S)

    def wait(self) -> int:
        """Block until it ends; its exit code."""
        return self._started.wait()

    def is_healthy(self) -> bool:
        """Whether it runs and answers now."""
        if not self.running:
            return False
        with MatrixClient(self.client_url, timeout_s=_ASK_TIMEOUT_S) as client:
            try:
                if not self._serves_clients:
                    return client.request_raw("GET", "/health")[0] == HTTPStatus.OK
                client.versions()
                # The document is there before our tables are; what is public and not the document answers after that.
                # Whoever registers earlier is greeted by nobody, since nobody hears of it.
                if self._expects_our_api and "/about" in client.openapi()["paths"]:
                    client.superapp("GET", "about")
            except (MatrixError, UnreachableError):
                return False
        return True

    def start(self, timeout_s: float = _START_TIMEOUT_S) -> None:
        """Spawn and wait until healthy; nothing is left running if that fails."""
        self.spawn()
        try:
            self.wait_until_healthy(timeout_s)
        except BaseException:
            self.kill()
            raise

    def terminate(self) -> None:
        """Ask it to end (SIGTERM) and return at once; ``stop`` waits."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self, timeout_s: float = _STOP_TIMEOUT_S) -> None:
        """End it in order (SIGTERM), and by force if it takes too long. Stopping a stopped one does nothing."""
        if self._process is None:
            return
        self.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it as a crash would (SIGKILL), and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def epitaph(self) -> str:
        """How it ended, for a person: exit code or signal, and the last lines on its console."""
        code = self.exit_code
        how = f"by signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit code {code}"
        written = self.console_path.read_bytes()[self._console_start_bytes :].decode("utf-8", errors="replace")
        tail = "\n".join([line for line in written.splitlines() if line.strip()][-_TAIL_LINES:])
        return f"Synapse ended {how}" + (f"; it wrote:\n{tail}" if tail else "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def write_config(path: Path, config: Mapping[str, Any]) -> None:
    """Write a Synapse config that only the operator may read. It is JSON, which every YAML reader reads."""
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
