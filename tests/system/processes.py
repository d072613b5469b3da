"""What a command starts, seen from outside: its process, its children, and whether any is left."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from nursery import NURSERY, Forked

from synapse_super_app.commands.admin_access import TOKEN_VARIABLE

_COMMAND_TIMEOUT_S: Final = 240.0
SUPER_APP = Path(sys.executable).with_name("super-app")


def descendants(pid: int) -> frozenset[int]:
    """All children of a process, their children, and so on."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(encoding="utf-8")
            except (FileNotFoundError, ProcessLookupError):
                continue
            # proc(5): after the command in parentheses come the state and the parent.
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for child in parents.get(waiting.pop(), []):
            found.add(child)
            waiting.append(child)
    return frozenset(found)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def wait_until_gone(pids: frozenset[int], timeout_s: float = 30.0) -> frozenset[int]:
    """Those that still run after the timeout; none, as a rule."""
    give_up_s = time.monotonic() + timeout_s
    while (left := frozenset(pid for pid in pids if alive(pid))) and time.monotonic() < give_up_s:
        time.sleep(0.02)
    return left


class Command:
    """``super-app …`` in a session of its own. Whatever it started is killed at the end.

    One that is ``real`` is the program that a person starts; others come from the nursery.
    """

    def __init__(self, arguments: Sequence[str], *, folder: Path, real: bool = False) -> None:
        self.stdout_path = folder / "stdout"
        self.stderr_path = folder / "stderr"
        self._seen: frozenset[int] = frozenset()
        with self.stdout_path.open("wb") as out, self.stderr_path.open("wb") as err:
            self.process: subprocess.Popen[bytes] | Forked
            if real:
                self.process = subprocess.Popen(
                    [str(SUPER_APP), *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    cwd=folder,
                    start_new_session=True,
                )
            else:
                with Path(os.devnull).open("rb") as nothing:
                    streams = (nothing.fileno(), out.fileno(), err.fileno())
                    self.process = NURSERY.command(arguments, streams=streams, folder=folder)

    @property
    def stdout(self) -> str:
        return self.stdout_path.read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        return self.stderr_path.read_text(encoding="utf-8")

    def children(self) -> frozenset[int]:
        """All that it has started and that runs now."""
        self._seen |= descendants(self.process.pid)
        return frozenset(pid for pid in self._seen if alive(pid))

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 60.0) -> int:
        """Its exit code."""
        return self.process.wait(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        left = self.children()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in left:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def super_app(folder: Path, *arguments: str, password: str = "", token: str | None = None) -> str:
    """What it prints; it must succeed. It comes from the nursery."""
    with tempfile.TemporaryFile() as typed, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        typed.write(f"{password}\n".encode())
        typed.seek(0)
        running = NURSERY.command(
            arguments,
            streams=(typed.fileno(), out.fileno(), err.fileno()),
            folder=folder,
            environment={} if token is None else {TOKEN_VARIABLE: token},
        )
        code = running.wait(_COMMAND_TIMEOUT_S)
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read().decode())
    assert (code, said[1]) == (0, "")
    return said[0]
