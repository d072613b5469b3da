"""A Redis server of our own, by which the processes of one homeserver on this machine hear of each other.

It listens on a Unix socket only, in a folder that nobody else can enter, keeps nothing, and ends with the process that
started it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, Self

from synapse_super_app.commands import tied_child

_START_S: Final = 60.0
_STOP_S: Final = 30.0
_POLL_S: Final = 0.05


class RedisError(Exception):
    """One line: what is wrong with Redis on this machine, and the remedy."""


class PrivateRedis:
    """Start it on a thread that lives as long as the server shall. Its log is ``redis.log`` in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket_dir: Path | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def socket_path(self) -> Path:
        """What Synapse calls ``redis.path``.

        Raises:
            RuntimeError: it is not running.
        """
        if self._socket_dir is None:
            raise RuntimeError("the Redis server is not running")
        return self._socket_dir / "redis.sock"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and wait until it listens.

        Raises:
            RedisError: it is not installed, or ended.
        """
        program = shutil.which("redis-server")
        if program is None:
            raise RedisError("Redis is not installed; on Debian and Ubuntu: apt-get install redis-server")
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._socket_dir is None:
            # Socket paths are limited to 107 bytes, so it does not live below the folder.
            self._socket_dir = Path(tempfile.mkdtemp(prefix="superapp-redis-"))
        tie = (sys.executable, "-I", "-S", str(Path(tied_child.__file__)), str(os.getpid()))
        log_path = self._folder / "redis.log"
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*tie, program, "--port", "0", "--unixsocket", str(self.socket_path), "--save", "", "--dir", "."],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._socket_dir,
                start_new_session=True,
            )
        deadline_s = time.monotonic() + _START_S
        while not self.socket_path.exists():
            if not self.running or time.monotonic() > deadline_s:
                self.stop()
                last = log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
                raise RedisError(f"Redis did not start: {' | '.join(last) or 'it said nothing'}")
            time.sleep(_POLL_S)

    def crash(self) -> None:
        """End it at once, and with it all that it knows. ``start`` brings an empty one to the same address."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        self.socket_path.unlink(missing_ok=True)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        socket_dir, self._socket_dir = self._socket_dir, None
        if socket_dir is not None:
            shutil.rmtree(socket_dir, ignore_errors=True)
