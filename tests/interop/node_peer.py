"""The homeserver of ``peer.mjs`` as a process that is told what to do."""

import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import pytest

from synapse_super_app.commands import loopback
from synapse_super_app.commands.certificates import ThrowAwayCa

HERE: Final = Path(__file__).parent
_OLDEST_NODE: Final = 18
_LIMIT_S: Final = 60.0


def node() -> str:
    """Where Node is; where there is none the test is skipped and says so."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("there is no Node; on Debian: apt-get install nodejs")
    version = subprocess.run([found, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < _OLDEST_NODE:
        pytest.skip(f"Node {version} is too old; these tests need {_OLDEST_NODE} or later")
    return found


class CommandError(Exception):
    """What the peer said."""


class NodePeer:
    """Use as a context. Its name is its address and port, as those of all homeservers here."""

    def __init__(self, folder: Path, port: int, ca: ThrowAwayCa) -> None:
        self.name = loopback.server_name(port)
        certificate = ca.issue("node", loopback.ADDRESS)
        config = {
            "name": self.name,
            "port": port,
            "certificate": str(certificate.certificate_path),
            "key": str(certificate.key_path),
            "ca": str(certificate.ca_path),
        }
        self._config_path = folder / "node.json"
        self._config_path.write_text(json.dumps(config), encoding="utf-8")
        self._log_path = folder / "node.log"
        self._said: queue.Queue[str] = queue.Queue()

    def __enter__(self) -> Self:
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [node(), str(HERE / "peer.mjs"), str(self._config_path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def __call__(self, command: str, **more: Any) -> Any:
        """Tell it to do something; what it says to that."""
        stdin = self._process.stdin
        if stdin is None:
            raise RuntimeError("it was started with pipes")
        stdin.write(json.dumps({"command": command, **more}) + "\n")
        stdin.flush()
        said = self._answer()
        if "error" in said:
            raise CommandError(said["error"])
        return said["answer"]

    def user_id(self, name: str) -> str:
        return f"@{name}:{self.name}"

    def log(self) -> str:
        return self._log_path.read_text(encoding="utf-8")

    def _read(self) -> None:
        if self._process.stdout is not None:
            for line in self._process.stdout:
                self._said.put(line)
        self._said.put("")

    def _answer(self) -> Mapping[str, Any]:
        line = self._said.get(timeout=_LIMIT_S)
        if not line:
            raise AssertionError(f"the peer ended: {self.log()}")
        found: Mapping[str, Any] = json.loads(line)
        return found
