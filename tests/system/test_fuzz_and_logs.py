"""What a stranger's program may send over HTTP, and what must never be in a log: on real homeservers."""

import http.client
import json
import random
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from running_demo import RunningDemo

from super_app.names import CLIENT_API_PREFIX
from synapse_super_app.commands.loopback import REGISTRATION_SECRET
from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError

pytestmark = pytest.mark.on("postgresql")

PARTS = ("x", "%00", "%FF%FE", "..%2f..", "%2e%2e", "@alice", "@a:b", "%F0%9F%92%B8", "9" * 60, "a" * 2_000, "-1")
BODIES: tuple[bytes, ...] = (
    b"",
    b"null",
    b"[]",
    b"{",
    b"\xff\xfe",
    b'"text"',
    b'{"a": NaN}',
    b'{"amount": 1e999}',
    b'{"amount": 1.5, "currency": 7}',
    b'{"payment_id": "\\u0000", "payee": "\\ud800", "amount": 1, "currency": "EUR"}',
    b"[" * 5_000 + b"]" * 5_000,
    json.dumps({"memo": "x" * 60_000}).encode(),
)
ODD: tuple[Any, ...] = (None, True, -1, 0, 1, 2**63, 1.5, "", "\0", "\ud800", "x" * 3_000, [], {}, [[]], {"a": {}})
_REQUESTS = 400


@pytest.fixture
def mallory(demo: RunningDemo) -> Iterator[MatrixClient]:
    url = str(demo.homeservers[0]["client_url"])
    name = f"mallory{secrets.token_hex(4)}"
    with MatrixClient(url) as anyone:
        session = anyone.register_with_secret(REGISTRATION_SECRET, name, secrets.token_urlsafe())
        with anyone.signed_in(session) as client:
            yield client


def test_no_request_over_http_breaks_a_homeserver(mallory: MatrixClient) -> None:
    document = mallory.openapi()
    schemas = document.get("components", {}).get("schemas", {})
    chance = random.Random(20_260)
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        # Mallory is no admin; what admins may send is tried where nobody else is.
        if not path.startswith("/admin/")
    ]
    for number in range(_REQUESTS):
        method, path, operation = operations[number % len(operations)]
        for name in [part[1:-1] for part in path.split("/") if part.startswith("{")]:
            path = path.replace("{" + name + "}", chance.choice(PARTS))
        query = chance.choice(("", "?limit=" + chance.choice(PARTS), "?since=" + chance.choice(PARTS), "?x=%00&x=1"))
        body = chance.choice(BODIES) if chance.random() < 0.4 else _spoilt(operation, schemas, chance)
        status, answer = _raw(mallory, method, CLIENT_API_PREFIX + path + query, body)
        assert status < 500 or b"ORG.SUPERAPP." in answer, (method, path, query, body[:200], status, answer[:300])
    assert mallory.superapp("GET", "wallet")["accounts"]


def _spoilt(operation: dict[str, Any], schemas: dict[str, Any], chance: random.Random) -> bytes:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    schema = schemas.get(str(content.get("$ref", "")).rpartition("/")[2], content)
    body = {name: chance.choice(ODD) for name in schema.get("properties", {"unheard_of": {}}) if chance.random() < 0.8}
    return json.dumps(body).encode()


def _raw(client: MatrixClient, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(client.base_url).netloc, timeout=60)
    try:
        headers = {"Authorization": f"Bearer {client.access_token}", "Content-Type": "application/json"}
        connection.request(method, path, body if method in ("POST", "PUT", "DELETE") else None, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_no_secret_comes_into_a_log(demo: RunningDemo) -> None:
    """A password, tokens and a PIN, used rightly and wrongly, in bodies, headers and the address."""
    password, pin, wrong = secrets.token_urlsafe(24), "94017382", "71826495"
    url = str(demo.homeservers[0]["client_url"])
    name = f"secretive{secrets.token_hex(4)}"
    with MatrixClient(url) as anyone:
        anyone.register_with_secret(REGISTRATION_SECRET, name, password)
        session = anyone.login(name, password)
        with pytest.raises(MatrixError):
            anyone.login(name, password + "x")
    demo.admins[0].issue(session.user_id, 500, "EUR", f"for {name}")
    with MatrixClient(url, user_id=session.user_id, access_token=session.access_token) as person:
        person.superapp("PUT", "wallet/pin", {"pin": pin})
        with pytest.raises(MatrixError) as refusal:
            person.pay(demo.people["bob"].handle, 300, "EUR", pin=wrong)
        assert refusal.value.errcode == "ORG.SUPERAPP.PIN_WRONG"
        person.pay(demo.people["bob"].handle, 300, "EUR", pin=pin)
        openid = person.matrix("POST", f"user/{session.user_id}/openid/request_token", {})
        opened = person.superapp("POST", "sessions/openid", openid)
        person.request_raw("GET", f"{CLIENT_API_PREFIX}/wallet", None, {"access_token": session.access_token})
    with MatrixClient(url, access_token=str(opened["token"])) as widget:
        widget.superapp("GET", "wallet")
        widget.request_raw("GET", f"{CLIENT_API_PREFIX}/wallet", None, {"token": "harmless"})
    logs = "".join(path.read_text(encoding="utf-8", errors="replace") for path in _logs(demo))
    assert session.user_id in logs, "these are the logs of what was done"
    for secret in (password, pin, wrong, session.access_token, str(openid["access_token"]), str(opened["token"])):
        assert secret not in logs, f"a secret that begins with {secret[:6]} is in a log"


def test_nobodys_token_of_the_whole_run_is_in_a_log(demo: RunningDemo) -> None:
    logs = "".join(path.read_text(encoding="utf-8", errors="replace") for path in _logs(demo))
    for token in [person.access_token for person in demo.people.values()]:
        assert token not in logs
    assert all(str(admin.access_token) not in logs for admin in demo.admins)


def _logs(demo: RunningDemo) -> list[Path]:
    found = [path for path in (demo.folder / "demo").rglob("*.log") if path.is_file()]
    assert found
    return found
