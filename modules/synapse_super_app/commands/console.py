"""How commands talk to people: progress on standard error, results on standard output, one line for what failed."""

import argparse
import shutil
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, Protocol

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class CommandFailed(Exception):
    """One line for the person: what is wrong, naming the key or the value, and what to do. The exit code is 1."""


class Commands(Protocol):
    """What a subcommand adds itself to: the subparsers of ``argparse``, whose class is private."""

    def add_parser(self, name: str, *, help: str, description: str) -> argparse.ArgumentParser: ...  # noqa: A002


class Stopped(BaseException):
    """The person pressed Ctrl-C, the terminal went, or a service manager sent SIGTERM.

    Not an ``Exception``, so that nothing on the way takes it for a fault; ``with`` blocks stop what they started.
    """

    def __init__(self, signal_number: int) -> None:
        self.signal_name = signal.Signals(signal_number).name
        super().__init__(self.signal_name)


def say(line: str = "") -> None:
    """Progress and advice."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def stoppable() -> Generator[None]:
    """Inside, the first SIGTERM, SIGINT or SIGHUP raises ``Stopped`` in the main thread, and later ones are ignored.

    A second Ctrl-C must not break off the stopping that the first one began.
    """

    def stop(signal_number: int, _: FrameType | None) -> None:
        for each in _STOP_SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(signal_number)

    before = {each: signal.signal(each, stop) for each in _STOP_SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def program() -> str:
    """How to call this command again from the same shell: ``super-app``, or its path if that is not on PATH."""
    here = Path(sys.argv[0])
    found = shutil.which(here.name)
    if found is not None and Path(found).resolve() == here.resolve():
        return here.name
    try:
        return str(here.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(here.resolve())


def relative(path: Path) -> str:
    """A path as short as the person would type it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
