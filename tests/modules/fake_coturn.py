"""What answers like coturn's command line: a password, the users who relay, their sessions, and cancelling one."""

import socketserver
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from synapse_super_app.commands import loopback

PASSWORD: Final = "commands-please"


class FakeCoturn:
    """``relaying`` is what a session is relayed under, by its number."""

    def __init__(self, port: int) -> None:
        self.place = f"{loopback.ADDRESS}:{port}"
        self.relaying: dict[int, str] = {}
        self.asked = 0
        """Connections so far."""
        self.refuses = False

    def answer(self, line: str) -> str:
        command, _, rest = line.partition(" ")
        match command:
            case "pu":
                users = sorted(set(self.relaying.values()))
                counts = {user: list(self.relaying.values()).count(user) for user in users}
                told = "".join(f"    user: <{user}>, {counts[user]} sessions\r\n" for user in users)
                return f"\r\n{told}\r\n  Total sessions: {len(self.relaying)}\r\n\r\n"
            case "ps":
                own = [number for number, user in self.relaying.items() if user == rest]
                told = "".join(
                    f"\r\n    {at}) id={number:018d}, user <{rest}>:\r\n      realm: turn.test\r\n"
                    for at, number in enumerate(own, 1)
                )
                return f"{told}\r\n  Total sessions: {len(own)}\r\n\r\n"
            case "cs":
                self.relaying.pop(int(rest), None)
                return ""
            case _:
                return "Unknown command\r\n\r\n"


@contextmanager
def commanded() -> Generator[FakeCoturn]:
    """One that listens until the end."""

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            fake.asked += 1
            self.wfile.write(b"TURN Server\r\nfake\r\n\r\nType '?' for help\r\nEnter password: \r\n")
            authenticated = False
            for line in self.rfile:
                said = line.decode().strip()
                if not authenticated:
                    authenticated = said == PASSWORD and not fake.refuses
                    self.wfile.write(b"> " if authenticated else b"Enter password: \r\n")
                elif said == "quit":
                    return
                else:
                    self.wfile.write(fake.answer(said).encode() + b"> ")

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server((loopback.ADDRESS, 0), Session) as server:
        address: Any = server.server_address
        fake = FakeCoturn(int(address[1]))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()
