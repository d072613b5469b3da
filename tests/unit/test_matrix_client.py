"""The command line's Matrix client, against a server that misbehaves on purpose."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from synapse_super_app.commands import matrix_client
from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError, UnreachableError, wait_until

Answer = Callable[[BaseHTTPRequestHandler], tuple[int, bytes]]


class Scripted(ThreadingHTTPServer):
    """Answers from a script, one entry a request; None breaks the connection off."""

    daemon_threads = True

    def __init__(self, script: list[tuple[int, bytes] | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.connections: set[tuple[str, int]] = set()
        self.hangs_up = False
        self.hung_up = threading.Event()

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.hung_up.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Scripted  # pyright: ignore[reportIncompatibleVariableOverride]
    METHODS: ClassVar = ("GET", "PUT", "POST", "DELETE")

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.path, dict(self.headers), body))
        self.server.connections.add(self.client_address)
        answer = self.server.script.pop(0)
        if answer is None:
            self.close_connection = True
            return
        status, raw = answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)
        self.close_connection = self.close_connection or self.server.hangs_up

    do_GET = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        pass


MakeServer = Callable[..., Scripted]


@pytest.fixture
def server() -> Iterator[MakeServer]:
    running: list[Scripted] = []

    def make(*script: tuple[int, bytes] | None) -> Scripted:
        made = Scripted(list(script))
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}).start()
        running.append(made)
        return made

    yield make
    for each in running:
        each.shutdown()
        each.server_close()


def ok(**content: object) -> tuple[int, bytes]:
    return 200, json.dumps(content).encode()


def test_a_refusal_is_the_homeservers_own_sentence(server: MakeServer) -> None:
    there = server((402, b'{"errcode": "ORG.SUPERAPP.INSUFFICIENT_FUNDS", "error": "Too little.", "available": 3}'))
    with MatrixClient(there.url, access_token="token") as client, pytest.raises(MatrixError, match="Too little") as no:
        client.pay("@bob:hs", 4, "EUR", payment_id="0" * 32)
    assert (no.value.status, no.value.errcode) == (402, "ORG.SUPERAPP.INSUFFICIENT_FUNDS")
    assert no.value.body["available"] == 3
    ((method, path, headers, body),) = there.seen
    assert (method, path) == ("POST", "/_synapse/client/superapp/v1/payments")
    assert headers["Authorization"] == "Bearer token"
    assert json.loads(body) == {"payment_id": "0" * 32, "payee": "@bob:hs", "amount": 4, "currency": "EUR"}


def test_an_error_without_json_still_has_a_status(server: MakeServer) -> None:
    there = server((502, b"<html>Bad gateway</html>"))
    with MatrixClient(there.url) as client, pytest.raises(MatrixError, match="HTTP status 502"):
        client.versions()


def test_requests_share_one_connection(server: MakeServer) -> None:
    there = server(ok(), ok(), ok())
    with MatrixClient(there.url) as client:
        for _ in range(3):
            client.versions()
    assert len(there.connections) == 1


def test_an_idle_connection_is_not_trusted(server: MakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    there = server(ok(), ok())
    monkeypatch.setattr(matrix_client, "_IDLE_LIMIT_S", -1.0)
    with MatrixClient(there.url) as client:
        client.versions()
        client.versions()
    assert len(there.connections) == 2


def test_a_connection_that_was_closed_meanwhile_is_not_trusted(server: MakeServer) -> None:
    there = server(ok(), ok())
    there.hangs_up = True
    with MatrixClient(there.url) as client:
        client.versions()
        assert there.hung_up.wait(60)
        client.versions()
    assert len(there.connections) == 2


def test_a_broken_connection_is_told_and_the_next_request_works(server: MakeServer) -> None:
    there = server(None, ok(versions=["v1.11"]))
    with MatrixClient(there.url) as client:
        with pytest.raises(UnreachableError, match=f"no answer from {there.url}"):
            client.versions()
        assert client.versions() == {"versions": ["v1.11"]}
    # It was not sent again by itself: a payment could have been made.
    assert len(there.seen) == 2


def test_no_server_at_all() -> None:
    with MatrixClient("http://127.0.0.1:1") as client, pytest.raises(UnreachableError, match="Connection refused"):
        client.versions()


@pytest.mark.parametrize("url", ["localhost:8008", "ftp://localhost", "http://", ""])
def test_what_is_no_url_of_a_homeserver(url: str) -> None:
    with pytest.raises(UnreachableError, match="give one such as http://localhost:8008"):
        MatrixClient(url)


def test_while_the_server_starts_our_api_is_asked_again(server: MakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix_client, "_STARTING_PAUSE_S", 0.0)
    starting = (503, b'{"errcode": "ORG.SUPERAPP.STARTING", "error": "in a moment"}')
    there = server(starting, starting, ok(accounts=[{"currency": "EUR", "scale": 2, "available": 7, "held": 0}]))
    with MatrixClient(there.url) as client:
        assert client.available("EUR") == 7


def test_ids_are_quoted_into_paths(server: MakeServer) -> None:
    there = server(ok(event_id="$e"))
    with MatrixClient(there.url) as client:
        client.send("!room/id:hs", "m.room.message", {}, transaction_id="t?1")
    assert there.seen[0][1] == "/_matrix/client/v3/rooms/%21room%2Fid%3Ahs/send/m.room.message/t%3F1"


def test_registration_proves_knowledge_of_the_secret(server: MakeServer) -> None:
    there = server(ok(nonce="n"), ok(user_id="@a:hs", access_token="t", device_id="d"))
    with MatrixClient(there.url) as client:
        session = client.register_with_secret("secret", "a", "pw", admin=True)
    assert session.user_id == "@a:hs"
    body = json.loads(there.seen[1][3])
    # HMAC-SHA1 of "n\0a\0pw\0admin" with the key "secret", from openssl.
    assert body["mac"] == "4c220d86f1033ebe26ac6671c029cc432c74145d"


def test_waiting_for_an_event_looks_at_each_sync_answer(server: MakeServer) -> None:
    def sync(batch: str, *event_ids: str) -> tuple[int, bytes]:
        events = [{"event_id": event_id} for event_id in event_ids]
        return ok(next_batch=batch, rooms={"join": {"!r": {"timeline": {"events": events}}}})

    there = server(sync("b1", "$1"), ok(next_batch="b2"), sync("b3", "$2", "$3"))
    with MatrixClient(there.url, user_id="@a:hs") as client:
        assert client.wait_for_event("!r", lambda event: event["event_id"] == "$3") == {"event_id": "$3"}
    assert ["since=" in path for _, path, _, _ in there.seen] == [False, True, True]


def test_waiting_ends() -> None:
    with pytest.raises(TimeoutError, match="in vain for the sky to fall"):
        wait_until(lambda: None, timeout_s=0.0, what="the sky to fall")
