"""coturn's command line: who relays now, and showing somebody out.

It is a line of text over TCP after a password (coturn's manual: ``cli-ip``, ``cli-port``, ``cli-password``; ``pu``
prints users, ``ps`` the sessions of one, ``cs`` cancels a session). Blocks, so call it on a thread. Owns no decision.
"""

import re
import socket
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Self

from synapse_super_app.calls.turn import name_in, secret_of
from synapse_super_app.config import CallsConfig

_TIMEOUT_S: Final = 5.0
_ANSWER_MAX: Final = 16 * 1024 * 1024
_PROMPT: Final = b"> "
_PASSWORD: Final = b"Enter password:"
_USER: Final = re.compile(r"user: <([^<>\s]+)>, \d+ sessions")
_SESSION: Final = re.compile(r"id=(\d+), user <([^<>\s]+)>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What was found and done. ``names`` are those under which anybody relayed before, of all calls."""

    names: frozenset[str]
    removed: int


class Coturn:
    """One server. Each look is a connection of its own."""

    def __init__(self, place: str, password: str) -> None:
        """``place``: ``host:port``."""
        self.place = place
        self._password = password

    @classmethod
    def configured(cls, config: CallsConfig) -> tuple[Self, ...]:
        """Those that the config names.

        Raises:
            ValueError: one line about the file of the password.
        """
        if config.turn_cli_password_path is None:
            return ()
        what = "the cli-password of coturn"
        password = secret_of("turn_cli_password_path", config.turn_cli_password_path, what)
        if not (password.isascii() and password.isprintable()):
            raise ValueError(f"config.calls.turn_cli_password_path: {what} has to be one line of ASCII")
        return tuple(cls(place, password) for place in config.turn_cli)

    def show_out(self, unwanted: Collection[str]) -> Shown:
        """Cancel what is relayed under these names.

        Raises:
            OSError: it does not answer.
            ValueError: it refuses the password, or is no coturn.
        """
        host, _, port = self.place.rpartition(":")
        removed = 0
        with socket.create_connection((host.strip("[]"), int(port)), _TIMEOUT_S) as connection:
            connection.settimeout(_TIMEOUT_S)
            _read(connection, _PASSWORD)
            connection.sendall(self._password.encode("ascii") + b"\n")
            _read(connection, _PROMPT)
            users = {user: name for user in _USER.findall(_ask(connection, "pu")) if (name := name_in(user))}
            for user, name in users.items():
                if name in unwanted:
                    for session, whose in _SESSION.findall(_ask(connection, f"ps {user}")):
                        if whose == user:
                            _ask(connection, f"cs {session}")
                            removed += 1
            connection.sendall(b"quit\n")
        return Shown(names=frozenset(users.values()), removed=removed)


def _ask(connection: socket.socket, command: str) -> str:
    connection.sendall(command.encode("ascii") + b"\n")
    return _read(connection, _PROMPT)


def _read(connection: socket.socket, end: bytes) -> str:
    """What it says until it waits for the next line."""
    said = b""
    while not _waits(said, end):
        piece = connection.recv(65_536)
        if not piece:
            raise ValueError("it ends the connection instead of answering")
        said += piece
        if len(said) > _ANSWER_MAX:
            raise ValueError("it answers without end")
        if end == _PROMPT and said.rstrip().endswith(_PASSWORD):
            raise ValueError("it refuses the password in calls.turn_cli_password_path")
    return said.decode("utf-8", "replace")


def _waits(said: bytes, end: bytes) -> bool:
    if end == _PROMPT:
        # The prompt stands at the beginning of a line, and sessions are told in lines that hold the same characters.
        return said == end or said.endswith(b"\n" + end)
    return said.rstrip().endswith(end)
