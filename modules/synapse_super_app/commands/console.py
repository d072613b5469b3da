"""How commands talk to people: progress on standard error, results on standard output, one line for what failed."""

import argparse
import shutil
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, Protocol, Self

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


class Progress:
    """A line on standard error that says how far a long work is; a terminal shows it in place."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._told = ""

    def at(self, done: int, of: int) -> None:
        in_place = sys.stderr.isatty()
        share = 100 if of == 0 else 100 * done // of
        # Where lines cannot be rewritten, one for each tenth is enough.
        told = f"{self._what}: {done} of {of} ({share} %)" if in_place else f"{self._what}: {share // 10 * 10} %"
        if told != self._told:
            self._told = told
            print(f"\r{told}" if in_place else told, end="" if in_place else "\n", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._told and sys.stderr.isatty():
            print(file=sys.stderr, flush=True)


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
