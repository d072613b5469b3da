"""The LiveKit for calls of many: whether clients and the homeserver reach it, and whether it takes our key and secret.

It asks for the list of rooms, by the names of none, and changes nothing there.
"""

import http.client
import json
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from super_app.conferences import rules
from synapse_super_app.commands.checkup.findings import Finding, bad, good, unseen, warning
from synapse_super_app.commands.homeserver_config import HomeserverConfig
from synapse_super_app.conferences.livekit import MIN_SECRET, api_url
from synapse_super_app.config import Config, LiveKitConfig

_TIMEOUT_S: Final = 10.0
_LIST_ROOMS: Final = "/twirp/livekit.RoomService/ListRooms"
_NOBODYS_ROOM: Final = "super-app-doctor"
_LARGEST_ANSWER: Final = 50 * 1024
_REFUSALS: Final = (http.client.UNAUTHORIZED, http.client.FORBIDDEN)


class _NoAnswer(Exception):
    """Nobody answers there; ``str()`` says how it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    body: bytes


def look(config: HomeserverConfig, module: Config) -> Iterator[Finding]:
    if not module.features.calls or module.calls.livekit is None:
        return
    livekit = module.calls.livekit
    yield _look_from_outside(livekit.url)
    try:
        secret = config.resolve(livekit.secret_path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        yield bad(
            "livekit.secret",
            f"calls.livekit.secret_path: {livekit.secret_path} cannot be read: {error}",
            "write the secret of LiveKit's key into that file",
        )
        return
    if len(secret) < MIN_SECRET:
        yield bad(
            "livekit.secret",
            f"calls.livekit.secret_path: the secret has {len(secret)} characters, and the feature needs {MIN_SECRET}",
            "make one with openssl rand -hex 32, for LiveKit's config (keys) and that file",
        )
        return
    yield _look_inside(livekit, secret)


def _look_from_outside(url: str) -> Finding:
    """Clients connect to a WebSocket there; LiveKit answers a plain request at its root too."""
    check = "livekit.url"
    if urlsplit(url).scheme == "ws" and urlsplit(url).hostname not in ("localhost", "127.0.0.1", "::1"):
        return warning(
            check,
            f"calls.livekit.url: {url} is not wss, so browsers on pages with TLS do not connect",
            "put LiveKit behind a reverse proxy with TLS",
        )
    try:
        answer = _request("GET", url.replace("ws", "http", 1))
    except _NoAnswer as failure:
        return bad(
            check,
            f"calls.livekit.url: clients cannot reach {url}: {failure}",
            "start LiveKit, and look at the reverse proxy before it and its certificate",
        )
    if answer.status != http.client.OK:
        return bad(
            check,
            f"calls.livekit.url: {url} answers {answer.status}, as LiveKit does not",
            "let the reverse proxy pass it on to LiveKit's port",
        )
    return good(check, f"clients reach LiveKit at {url}")


def _look_inside(livekit: LiveKitConfig, secret: str) -> Finding:
    check, url = "livekit.key", api_url(livekit)
    token = rules.service_token(livekit.key, secret, {"roomList": True}, int(time.time() * 1000))
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    try:
        answer = _request("POST", url + _LIST_ROOMS, headers, json.dumps({"names": [_NOBODYS_ROOM]}).encode())
    except _NoAnswer as failure:
        return bad(
            check,
            f"calls.livekit: the homeserver cannot reach LiveKit's API at {url}: {failure}",
            "start it, or correct calls.livekit.api_url",
        )
    if answer.status in _REFUSALS:
        return bad(
            check,
            f"calls.livekit: LiveKit at {url} refuses our key {livekit.key}, so nobody gets into a call of many",
            "write the same key and secret into LiveKit's config (keys); the clocks must agree too",
        )
    if answer.status != http.client.OK or not _are_rooms(answer.body):
        return unseen(
            check,
            f"calls.livekit: {url} answers {answer.status} instead of a list of rooms",
            "see whether calls.livekit.api_url is that of LiveKit",
        )
    return good(check, f"LiveKit at {url} takes our key and secret")


def _are_rooms(body: bytes) -> bool:
    try:
        answer: object = json.loads(body)
    except ValueError:
        return False
    return isinstance(answer, dict)


def _request(method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> _Answer:
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection = (
        http.client.HTTPSConnection(host, parts.port, timeout=_TIMEOUT_S, context=ssl.create_default_context())
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, parts.port, timeout=_TIMEOUT_S)
    )
    try:
        connection.request(method, parts.path or "/", body, dict(headers or {}))
        response = connection.getresponse()
        return _Answer(status=response.status, body=response.read(_LARGEST_ANSWER))
    except ssl.SSLCertVerificationError as error:
        raise _NoAnswer(f"its certificate is not valid for {host}: {error.verify_message}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _NoAnswer(str(error) or type(error).__name__) from None
    finally:
        connection.close()
