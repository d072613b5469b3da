"""Homeservers and commands that start without importing Synapse anew: see ``preloaded.py``, which forks them.

Each process of a test run has one nursery at most, from the first homeserver that it starts. ``Homeserver.spawn`` goes
there by itself while tests run (``install``), for programs and environments as people have them; ``processes.Command``
does unless it is told to be real. How long what is forked has existed is the only thing that a test can tell it by.
What a person starts is proved by those that are real: see docs/testing.md.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from synapse_super_app.commands import homeserver_process
from synapse_super_app.commands.homeserver_process import SYNAPSE, WORKER

_PROGRAM: Final = Path(__file__).with_name("preloaded.py")
_ANSWER_BYTES: Final = 64
_LIMIT_S: Final = 120.0
_PYTHONPATH: Final = os.environ.get("PYTHONPATH")
"""From where the nursery has imported all that it ever imports: a test that sets another one wants other code."""


class Forked:
    """A process of the nursery, as far as anybody looks at a ``Popen``. It is another process's child."""

    def __init__(self, pid: int, process: int, answers: socket.socket) -> None:
        self.pid = pid
        # Of the process itself, so that a signal reaches nobody else who has its number after it.
        self._process = process
        self._answers = answers
        self._lock = threading.Lock()
        # Not before nobody has it any more: several threads may wait at these.
        weakref.finalize(self, _close, process, answers)
        self._code: int | None = None

    @property
    def returncode(self) -> int | None:
        return self._code

    def poll(self) -> int | None:
        return self._code if self._code is not None or not self._has_ended(0) else self._end()

    def wait(self, timeout: float | None = None) -> int:
        if self._code is None and not self._has_ended(timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return self._end()

    def send_signal(self, number: int) -> None:
        with self._lock:
            if self._code is None:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._process, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _has_ended(self, timeout_s: float | None) -> bool:
        waiting = select.poll()
        waiting.register(self._answers, select.POLLIN)
        return bool(waiting.poll(None if timeout_s is None else timeout_s * 1000))

    def _end(self) -> int:
        with self._lock:
            if self._code is None:
                told = self._answers.recv(_ANSWER_BYTES)
                # Without a word the nursery was killed, and all of its children were with it.
                self._code = int(told) if told else -signal.SIGKILL
            return self._code


def _close(process: int, answers: socket.socket) -> None:
    os.close(process)
    answers.close()


class Nursery:
    """Starts when it is first asked for something. Any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._said: BinaryIO | None = None

    def launch(
        self, command: Sequence[str], *, console: int, folder: Path, environment: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        """What ``Homeserver.spawn`` calls in the place of ``homeserver_process.launch``."""
        is_other_code = os.environ.get("PYTHONPATH") != _PYTHONPATH
        if environment or is_other_code or tuple(command[: len(SYNAPSE)]) not in (SYNAPSE, WORKER):
            return _launch_really(command, console=console, folder=folder, environment=environment)
        return cast("subprocess.Popen[bytes]", self.homeserver(command, console=console, folder=folder))

    def homeserver(self, command: Sequence[str], *, console: int, folder: Path, prepare: Sequence[Any] = ()) -> Forked:
        """One of our Python's. ``prepare``: a folder, a module that is there, a function of it and its arguments, to be
        called in it before it starts."""
        with Path(os.devnull).open("rb") as nothing:
            return self._start(
                (nothing.fileno(), console, console),
                homeserver=True,
                arguments=list(command[len(SYNAPSE) - 1 :]),
                prepare=list(prepare),
                folder=str(folder),
            )

    def command(
        self,
        arguments: Sequence[str],
        *,
        streams: tuple[int, int, int],
        folder: Path,
        environment: Mapping[str, str] | None = None,
    ) -> Forked:
        """``super-app`` with these arguments and standard streams; ``environment`` is what it has besides ours."""
        return self._start(
            streams, homeserver=False, arguments=list(arguments), folder=str(folder), environment=environment or {}
        )

    def _start(
        self, streams: tuple[int, int, int], *, environment: Mapping[str, str] | None = None, **order: Any
    ) -> Forked:
        words = json.dumps({**order, "environment": {**os.environ, **(environment or {})}}).encode()
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._running(), [words], [theirs.fileno(), *streams])
        told, descriptors, _, _ = socket.recv_fds(ours, _ANSWER_BYTES, 1)
        if not told:
            ours.close()
            raise RuntimeError(f"the nursery forked nothing; it said: {self._last_words()}")
        return Forked(int(told), descriptors[0], ours)

    def _running(self) -> socket.socket:
        with self._lock:
            if self._channel is None:
                self._said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the nursery
                # One message for each order, so that several threads may write.
                self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with theirs:
                    self._process = subprocess.Popen(
                        [sys.executable, str(_PROGRAM), str(theirs.fileno())],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=self._said,
                        pass_fds=[theirs.fileno()],
                        start_new_session=True,
                    )
            return self._channel

    def _last_words(self) -> str:
        if self._said is None:
            return ""
        self._said.seek(0)
        return self._said.read().decode("utf-8", errors="replace")

    def close(self) -> None:
        with self._lock:
            for each in (self._channel, self._said):
                if each is not None:
                    each.close()
            if self._process is not None:
                self._process.wait(_LIMIT_S)
            self._channel = self._said = self._process = None


NURSERY: Final = Nursery()
_launch_really: Final = homeserver_process.launch


@contextmanager
def installed() -> Generator[None]:
    """Until its end homeservers come from the nursery; then there is none."""
    product: Any = homeserver_process
    product.launch = NURSERY.launch
    try:
        yield
    finally:
        product.launch = _launch_really
        NURSERY.close()
