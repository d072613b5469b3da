"""Synapse, our module and ``super-app``, imported once: ``python preloaded.py CHANNEL`` forks whoever is asked for.

Four fifths of what it takes to start a homeserver is the import of Synapse. This process has done that, has one thread,
and has neither run the reactor nor opened anything. Of each order that arrives at the socket whose descriptor is
CHANNEL it makes a child that is as one that was started by itself: a session, standard streams, a folder and an
environment of its own, no descriptor of ours, the usual answers to signals, and a reactor that nobody has used.
See ``nursery.py`` for who asks.

A command may start homeservers in its turn. It has imported them already, so they are forked from it, and are its
children as they are of a real one; unless it has threads by then, which no fork survives safely.
"""

import atexit
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn, cast

from prometheus_client.core import REGISTRY
from synapse.metrics import _reactor_metrics
from twisted.internet import reactor as _reactor

import super_app
import synapse_super_app
from synapse_super_app.commands import homeserver_process, main
from synapse_super_app.commands.homeserver_process import SYNAPSE, WORKER

_MODULES: Final = (SYNAPSE[-1], WORKER[-1])
_LAST_SEEN: Final = "python_twisted_reactor_last_seen"
_ORDER_BYTES: Final = 1 << 17
_DESCRIPTORS: Final = 4
_FIRST_FREE: Final = 3
_PR_SET_PDEATHSIG: Final = 1
# Loaded now, because a child that is being made may not import.
_LIBC: Final = ctypes.CDLL(None)

reactor: Any = _reactor


class Child:
    """A process that was forked here, as far as our commands look at a ``Popen``. Only its parent may use it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._fd = os.pidfd_open(pid)

    def poll(self) -> int | None:
        return self._reap(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int:
        if timeout is not None and self.returncode is None:
            with selectors.DefaultSelector() as ended:
                ended.register(self._fd, selectors.EVENT_READ)
                if not ended.select(timeout):
                    raise subprocess.TimeoutExpired(str(self.pid), timeout)
        code = self._reap(0)
        if code is None:
            raise RuntimeError(f"process {self.pid} was waited for, and runs")
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def fileno(self) -> int:
        """Readable when it has ended."""
        return self._fd

    def _reap(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
                os.close(self._fd)
        return self.returncode


def _threads() -> int:
    """Also those that Python knows nothing of."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def fork(become: Callable[[], None], *, streams: Sequence[int], folder: Path, environment: Mapping[str, str]) -> Child:
    """A child of this process that does nothing but ``become``, and ends when this one does."""
    if _threads() != 1:
        raise RuntimeError("a process with threads cannot be forked safely")
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        _live(lambda: _start_afresh(parent, streams, folder, environment), become)
    return Child(pid)


def _start_afresh(parent: int, streams: Sequence[int], folder: Path, environment: Mapping[str, str]) -> None:
    signal.set_wakeup_fd(-1)
    for caught in signal.valid_signals():
        if callable(signal.getsignal(caught)):
            signal.signal(caught, signal.default_int_handler if caught == signal.SIGINT else signal.SIG_DFL)
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    # Not closed: an object of ours that is collected later would then close what has that number by then.
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in [int(each.name) for each in Path("/proc/self/fd").iterdir()]:
        if descriptor >= _FIRST_FREE and descriptor != nothing:
            os.dup2(nothing, descriptor, inheritable=False)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)


def _live(*parts: Callable[[], None]) -> NoReturn:
    """What the interpreter does with a program, but that nothing of the parent's stack is left or cleaned up."""
    code = 1
    try:
        for part in parts:
            part()
        code = 0
    except SystemExit as wanted:
        if isinstance(wanted.code, str):
            print(wanted.code, file=sys.stderr)
        else:
            code = wanted.code or 0
    except BaseException:
        traceback.print_exc()
    with suppress(BaseException):
        cast(Any, threading)._shutdown()
        cast(Any, atexit)._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def _homeserver(arguments: Sequence[str], *, prepare: Sequence[Any] = ()) -> Callable[[], None]:
    """``arguments`` as of ``python -m``; ``prepare`` as ``Nursery.homeserver`` has it."""
    module, *rest = arguments

    def become() -> None:
        # As python -m has it.
        sys.path[0] = str(Path.cwd())
        sys.argv[:] = [str(sys.modules[module].__file__), *rest]
        # The descriptors of the reactor were the parent's, and so is what its metrics measure.
        reactor.__init__()
        REGISTRY.unregister(REGISTRY._names_to_collectors[_LAST_SEEN])
        _reactor_metrics.install_reactor_metrics(reactor)
        if prepare:
            place, name, function, *given = prepare
            sys.path.append(place)
            getattr(importlib.import_module(name), function)(*given)
        cast(Any, sys.modules[module]).main()

    return become


def _command(arguments: Sequence[str]) -> Callable[[], None]:
    def become() -> None:
        sys.path[0] = str(Path(sys.executable).parent)
        sys.argv[:] = [f"{sys.path[0]}/super-app", *arguments]
        cast(Any, homeserver_process).launch = _launch_from_a_command
        sys.exit(main.main())

    return become


_launch_really: Final = homeserver_process.launch


def _launch_from_a_command(
    command: Sequence[str], *, console: int, folder: Path, environment: Mapping[str, str]
) -> Any:
    is_known = tuple(command[: len(SYNAPSE)]) in (SYNAPSE, WORKER)
    if not is_known or environment or _threads() != 1:
        return _launch_really(command, console=console, folder=folder, environment=environment)
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        return fork(
            _homeserver(command[len(SYNAPSE) - 1 :]),
            streams=(nothing, console, console),
            folder=folder,
            environment=dict(os.environ),
        )
    finally:
        os.close(nothing)


def serve(channel: socket.socket) -> None:
    """Fork what is asked for, tell who asked of it and of its end, until nobody can ask any more."""
    waiting = selectors.DefaultSelector()
    waiting.register(channel, selectors.EVENT_READ)
    asked_by: dict[int, socket.socket] = {}
    while True:
        for key, _ in waiting.select():
            if isinstance(key.fileobj, Child):
                waiting.unregister(key.fileobj)
                with asked_by.pop(key.fileobj.pid) as answers, suppress(OSError):
                    answers.sendall(f"{key.fileobj.wait()}\n".encode())
                continue
            words, descriptors, _, _ = socket.recv_fds(channel, _ORDER_BYTES, _DESCRIPTORS)
            if not words:
                return
            order = json.loads(words)
            answers = socket.socket(fileno=descriptors[0])
            try:
                child = fork(
                    _homeserver(order["arguments"], prepare=order["prepare"])
                    if order["homeserver"]
                    else _command(order["arguments"]),
                    streams=descriptors[1:],
                    folder=Path(order["folder"]),
                    environment=order["environment"],
                )
            finally:
                for descriptor in descriptors[1:]:
                    os.close(descriptor)
            waiting.register(child, selectors.EVENT_READ)
            asked_by[child.pid] = answers
            socket.send_fds(answers, [f"{child.pid}\n".encode()], [child.fileno()])


def load() -> None:
    """Import whatever a homeserver or a command may need."""
    for package in (super_app, synapse_super_app):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(found.name)
    for name in (*_MODULES, "psycopg2", "synapse.storage.engines.postgres", "synapse.storage.engines.sqlite"):
        importlib.import_module(name)
    # What is here now stays; children need not look through it for garbage, which would also make it theirs.
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    load()
    serve(socket.socket(fileno=int(sys.argv[1])))
