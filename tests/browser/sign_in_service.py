"""A service to which a homeserver delegates sign-in, as small as one can be: the OAuth 2.0 API of Matrix.

It holds clients to what the specifications want of them: dynamic registration (RFC 7591), an exact redirect address,
PKCE with S256 (RFC 7636), codes and refresh tokens that are good once (RFC 9700), revocation (RFC 7009). Pages of
another origin may ask it, as they may ask the real one. To Synapse it answers whose a token is.
"""

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from synapse_super_app.commands.matrix_client import MatrixClient

_SECRET = "shared-by-the-homeserver-and-the-service"
_API_SCOPE = "urn:matrix:client:api:*"
_DEVICE_SCOPE = "urn:matrix:client:device:"
_FIRST_TOKEN_S = 4
"""The first token of a session ends soon, so that the next one is needed."""
_LATER_TOKEN_S = 3_600


@dataclass
class _Asked:
    """What somebody has asked for on the page, until a code is taken to the service."""

    query: dict[str, str]
    device_id: str


@dataclass
class SignInService:
    """One person, who is signed in here already."""

    localpart: str
    homeserver_url: str = ""
    clients: dict[str, dict[str, Any]] = field(default_factory=dict)
    codes: dict[str, _Asked] = field(default_factory=dict)
    refreshes: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Refresh tokens that are still good: the client and the device."""
    tokens: dict[str, tuple[str, int]] = field(default_factory=dict)
    revoked: int = 0

    def config(self, url: str) -> dict[str, Any]:
        delegation = {"enabled": True, "endpoint": url, "secret": _SECRET}
        return {
            "matrix_authentication_service": delegation,
            "password_config": {"enabled": False},
            "enable_registration": False,
        }

    def metadata(self, url: str) -> dict[str, Any]:
        return {
            "issuer": url,
            "authorization_endpoint": f"{url}authorize",
            "token_endpoint": f"{url}token",
            "registration_endpoint": f"{url}register",
            "revocation_endpoint": f"{url}revoke",
            "account_management_uri": f"{url}account",
            "response_types_supported": ["code"],
            "response_modes_supported": ["query", "fragment"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
        }

    def register(self, wanted: dict[str, Any]) -> dict[str, Any]:
        assert wanted["token_endpoint_auth_method"] == "none"
        assert set(wanted["grant_types"]) == {"authorization_code", "refresh_token"}
        assert all(urlsplit(each).query == urlsplit(each).fragment == "" for each in wanted["redirect_uris"])
        client_id = secrets.token_hex(8)
        self.clients[client_id] = wanted
        return {**wanted, "client_id": client_id}

    def page(self, query: dict[str, str]) -> str:
        """What the person sees: whom they let in, and the way back with a code."""
        client = self.clients[query["client_id"]]
        assert query["redirect_uri"] in client["redirect_uris"]
        assert (query["response_type"], query["code_challenge_method"]) == ("code", "S256")
        scopes = query["scope"].split()
        (device,) = [each.removeprefix(_DEVICE_SCOPE) for each in scopes if each.startswith(_DEVICE_SCOPE)]
        assert _API_SCOPE in scopes
        code = secrets.token_urlsafe(16)
        self.codes[code] = _Asked(query, device)
        back = f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"
        return f'<!doctype html><title>Sign in</title><h1>{client["client_name"]}</h1><a href="{back}">Let it in</a>'

    def exchange(self, form: dict[str, str]) -> dict[str, Any] | None:
        """Tokens for a code or a refresh token; None if it is not good."""
        if form["grant_type"] == "refresh_token":
            client_id, device_id = self.refreshes.pop(form["refresh_token"], ("", ""))
            if client_id != form["client_id"]:
                return None
            return self._issue(client_id, device_id, _LATER_TOKEN_S)
        asked = self.codes.pop(form["code"], None)
        if asked is None or any(asked.query[each] != form[each] for each in ("client_id", "redirect_uri")):
            return None
        shown = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode().rstrip("=")
        if not secrets.compare_digest(shown, asked.query["code_challenge"]):
            return None
        with MatrixClient(self.homeserver_url, access_token=_SECRET) as homeserver:
            account = {"localpart": self.localpart}
            homeserver.request("POST", "/_synapse/mas/provision_user", account)
            homeserver.request("POST", "/_synapse/mas/upsert_device", {**account, "device_id": asked.device_id})
        return self._issue(form["client_id"], asked.device_id, _FIRST_TOKEN_S)

    def _issue(self, client_id: str, device_id: str, lasts_s: int) -> dict[str, Any]:
        token, refresh = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        self.tokens[token] = (device_id, lasts_s)
        self.refreshes[refresh] = (client_id, device_id)
        return {"access_token": token, "refresh_token": refresh, "token_type": "Bearer", "expires_in": lasts_s}

    def lasts(self, token: str) -> bool:
        """Whether a token is not the first of its session."""
        return self.tokens[token][1] == _LATER_TOKEN_S

    def introspect(self, token: str) -> dict[str, Any]:
        known = self.tokens.get(token)
        if known is None:
            return {"active": False}
        scope = f"{_API_SCOPE} {_DEVICE_SCOPE}{known[0]}"
        return {"active": True, "username": self.localpart, "scope": scope, "expires_in": known[1]}

    def revoke(self, form: dict[str, str]) -> None:
        assert self.refreshes.pop(form["token"])[0] == form["client_id"]
        self.revoked += 1


class ServedSignIn(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, service: SignInService) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.service = service
        self.origin = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    @property
    def served(self) -> ServedSignIn:
        assert isinstance(self.server, ServedSignIn)
        return self.server

    def do_GET(self) -> None:
        where = urlsplit(self.path)
        if where.path == "/.well-known/openid-configuration":
            self._json(self.served.service.metadata(f"{self.served.origin}/"))
        elif where.path == "/authorize":
            query = {name: values[0] for name, values in parse_qs(where.query).items()}
            self._answer(200, "text/html", self.served.service.page(query).encode())
        else:
            self._answer(404, "text/plain", b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        service = self.served.service
        form = {name: values[0] for name, values in parse_qs(body).items()}
        match self.path:
            case "/register":
                self._json(service.register(json.loads(body)), status=201)
            case "/token":
                tokens = service.exchange(form)
                refusal = {"error": "invalid_grant", "error_description": "That is not good any more."}
                self._json(tokens or refusal, status=400 if tokens is None else 200)
            case "/oauth2/introspect":
                assert self.headers["Authorization"] == f"Bearer {_SECRET}"
                self._json(service.introspect(form["token"]))
            case "/revoke":
                service.revoke(form)
                self._json({})
            case _:
                self._answer(404, "text/plain", b"")

    def do_OPTIONS(self) -> None:
        self._answer(204, "text/plain", b"")

    def _json(self, content: object, *, status: int = 200) -> None:
        self._answer(status, "application/json", json.dumps(content).encode())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Allow-Headers", "Content-Type")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return
