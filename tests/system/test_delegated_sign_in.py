"""A homeserver whose people sign in with an account service: their sessions, and which of them has just begun.

Synapse's real delegation (``matrix_authentication_service``) asks a service of this test that knows tokens and makes
accounts and devices as the real one does.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest
from lone import LoneHomeserver, MakeLone

from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError

SECRET = "shared-by-the-homeserver-and-the-service"
SCOPE = "urn:matrix:client:api:* urn:matrix:client:device:"


class AccountService(ThreadingHTTPServer):
    """Says whose a token is, and of which device."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Introspection)
        self.tokens: dict[str, tuple[str, str]] = {}

    def config(self) -> dict[str, Any]:
        return {
            "matrix_authentication_service": {
                "enabled": True,
                "endpoint": f"http://127.0.0.1:{self.server_port}/",
                "secret": SECRET,
            },
            "password_config": {"enabled": False},
            "enable_registration": False,
        }

    def sign_in(self, homeserver: LoneHomeserver, localpart: str, device_id: str) -> MatrixClient:
        """A new session of somebody, who has an account from then on."""
        with MatrixClient(homeserver.process.client_url, access_token=SECRET) as service:
            service.request("POST", "/_synapse/mas/provision_user", {"localpart": localpart})
            service.request("POST", "/_synapse/mas/upsert_device", {"localpart": localpart, "device_id": device_id})
        token = f"token of {localpart} on {device_id}".replace(" ", "-")
        self.tokens[token] = (localpart, device_id)
        return MatrixClient(homeserver.process.client_url, access_token=token)


class _Introspection(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, AccountService)
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        known = self.server.tokens.get(asked["token"][0])
        answer: dict[str, Any] = {"active": False}
        if known is not None:
            answer = {"active": True, "username": known[0], "scope": SCOPE + known[1], "expires_in": 300}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a test's output is for what the test says."""


@pytest.fixture
def service() -> Iterator[AccountService]:
    with AccountService() as service:
        thread = threading.Thread(target=service.serve_forever)
        thread.start()
        try:
            yield service
        finally:
            service.shutdown()
            thread.join()


def test_a_forgotten_pin_is_dropped_from_a_session_that_was_announced_and_no_other(
    service: AccountService, lone: MakeLone
) -> None:
    with lone(
        {"payments": {"mode": "credits", "assets": [{"code": "PTS", "scale": 0}]}}, config=service.config()
    ) as homeserver:
        with service.sign_in(homeserver, "alice", "OLD") as old, service.sign_in(homeserver, "alice", "OTHER") as other:
            assert old.superapp("PUT", "wallet/pin", {"pin": "2580"})["pin_set"] is True
            refused(old)
            old.superapp("POST", "sign_ins")
            # Whoever found a phone has a session that was there before, or none.
            refused(old)
            refused(other)
        with service.sign_in(homeserver, "alice", "NEW") as new:
            assert new.superapp("DELETE", "wallet/pin")["pin_set"] is False


def refused(client: MatrixClient) -> None:
    with pytest.raises(MatrixError) as refusal:
        client.superapp("DELETE", "wallet/pin")
    assert refusal.value.errcode == "ORG.SUPERAPP.SIGN_IN_AGAIN"
