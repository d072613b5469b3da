"""A small synchronous Matrix client on the standard library, with our client API beside the Matrix one.

For the command line, the demo, the system tests and the benchmarks, which must work from the wheel alone. One client
is one account on one kept-alive connection; use one per thread. It owns no policy: what the homeserver refuses is
raised as ``MatrixError`` with the homeserver's own sentence.
"""

import hashlib
import hmac
import http.client
import json
import secrets
import select
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar, cast
from urllib.parse import quote, urlencode, urlsplit

from super_app.names import CLIENT_API_PREFIX, ERRCODE_PREFIX

Json = dict[str, Any]
T = TypeVar("T")

_TIMEOUT_S: Final = 60.0
# Synapse closes a connection that was idle for longer; a request must not be lost to that.
_IDLE_LIMIT_S: Final = 15.0
_STARTING_PAUSE_S: Final = 0.2
_STARTING_LIMIT_S: Final = 60.0


class MatrixError(Exception):
    """The homeserver answered no. ``str()`` is its own sentence."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        self.status = status
        self.errcode = str(body.get("errcode", "M_UNKNOWN"))
        self.error = str(body.get("error", f"HTTP status {status} without a reason"))
        self.body = body
        super().__init__(f"{self.error} ({status} {self.errcode})")


class UnreachableError(Exception):
    """No homeserver answers at the URL, or it broke off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A signed-in device."""

    user_id: str
    access_token: str
    device_id: str


class MatrixClient:
    """Requests as one account (or none). Methods named after the Matrix client-server API do what it says there."""

    def __init__(
        self,
        base_url: str,
        *,
        user_id: str = "",
        access_token: str | None = None,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UnreachableError(
                f"{base_url!r} is not the URL of a homeserver; give one such as http://localhost:8008"
            )
        self.base_url = base_url.rstrip("/")
        self.user_id = user_id
        self.access_token = access_token
        self._prefix = parts.path.rstrip("/")
        self._timeout_s = timeout_s
        self._tls = tls
        self._connection = self._connect(parts.scheme, parts.hostname, parts.port)
        self._used_s = float("-inf")

    def _connect(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        if scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=self._tls)
        return http.client.HTTPConnection(host, port, timeout=self._timeout_s)

    def signed_in(self, session: Session) -> "MatrixClient":
        """A new client of the same homeserver for this account."""
        return MatrixClient(
            self.base_url,
            user_id=session.user_id,
            access_token=session.access_token,
            tls=self._tls,
            timeout_s=self._timeout_s,
        )

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Requests.

    def request(
        self, method: str, path: str, body: object = None, query: Mapping[str, str | int] | None = None
    ) -> Json:
        """One request to a path that is already quoted.

        Raises:
            MatrixError: the homeserver refused.
            UnreachableError: there was no answer. A request with a body may or may not have been carried out.
        """
        status, raw = self.request_raw(method, path, body, query)
        try:
            answer = json.loads(raw) if raw else {}
        except ValueError:
            answer = {}
        if not isinstance(answer, dict):
            raise UnreachableError(f"{self.base_url}{path} answered something other than a JSON object")
        found = cast(Json, answer)
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise MatrixError(status, found)
        return found

    def request_raw(
        self, method: str, path: str, body: object = None, query: Mapping[str, str | int] | None = None
    ) -> tuple[int, bytes]:
        """The status and the bytes of the answer, whatever they are."""
        url = self._prefix + path + ("?" + urlencode(query) if query else "")
        headers = {"Accept": "application/json"}
        if self.access_token is not None:
            headers["Authorization"] = f"Bearer {self.access_token}"
        payload: bytes | None = None
        if body is not None:
            payload = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        if self._is_stale():
            self._connection.close()
        try:
            self._connection.request(method, url, payload, headers)
            response = self._connection.getresponse()
            raw = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise UnreachableError(f"no answer from {self.base_url}: {str(error) or type(error).__name__}") from error
        self._used_s = time.monotonic()
        return response.status, raw

    def _is_stale(self) -> bool:
        """Whether the homeserver has closed the connection, as one that was restarted has, or is about to."""
        if self._connection.sock is None:
            return False
        closed = select.poll()
        # Nobody speaks unasked, so all that there can be to read is its end.
        closed.register(self._connection.sock, select.POLLIN)
        return time.monotonic() - self._used_s > _IDLE_LIMIT_S or bool(closed.poll(0))

    def matrix(self, method: str, path: str, body: object = None, query: Mapping[str, str | int] | None = None) -> Json:
        """``/_matrix/client/v3/{path}``."""
        return self.request(method, f"/_matrix/client/v3/{path}", body, query)

    def superapp(
        self, method: str, path: str, body: object = None, query: Mapping[str, str | int] | None = None
    ) -> Json:
        """Our own API: ``/_synapse/client/superapp/v1/{path}``. Waits while the homeserver is still starting."""
        give_up_s = time.monotonic() + _STARTING_LIMIT_S
        while True:
            try:
                return self.request(method, f"{CLIENT_API_PREFIX}/{path}", body, query)
            except MatrixError as error:
                if error.errcode != f"{ERRCODE_PREFIX}STARTING" or time.monotonic() > give_up_s:
                    raise
                # The refusal says that nothing was done, so the same request again is safe.
                time.sleep(_STARTING_PAUSE_S)

    # Accounts.

    def versions(self) -> Json:
        return self.request("GET", "/_matrix/client/versions")

    def register_with_secret(self, secret: str, localpart: str, password: str, *, admin: bool = False) -> Session:
        """Make an account with the homeserver's ``registration_shared_secret`` (Synapse's admin API)."""
        nonce = str(self.request("GET", "/_synapse/admin/v1/register")["nonce"])
        fields = (nonce, localpart, password, "admin" if admin else "notadmin")
        # The construction, HMAC-SHA1 over the fields with NUL between, is Synapse's.
        mac = hmac.new(secret.encode(), b"\x00".join(each.encode() for each in fields), hashlib.sha1).hexdigest()
        body = {"nonce": nonce, "username": localpart, "password": password, "admin": admin, "mac": mac}
        return _session(self.request("POST", "/_synapse/admin/v1/register", body))

    def login(self, localpart: str, password: str) -> Session:
        identifier = {"type": "m.id.user", "user": localpart}
        body = {"type": "m.login.password", "identifier": identifier, "password": password}
        return _session(self.matrix("POST", "login", body))

    def whoami(self) -> str:
        return str(self.matrix("GET", "account/whoami")["user_id"])

    def set_display_name(self, name: str) -> None:
        self.matrix("PUT", f"profile/{_q(self.user_id)}/displayname", {"displayname": name})

    def account_data(self, data_type: str) -> Json | None:
        """One's own account data of a type; None if there is none."""
        try:
            return self.matrix("GET", f"user/{_q(self.user_id)}/account_data/{_q(data_type)}")
        except MatrixError as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return None
            raise

    def set_account_data(self, data_type: str, content: Mapping[str, Any]) -> None:
        self.matrix("PUT", f"user/{_q(self.user_id)}/account_data/{_q(data_type)}", dict(content))

    def search_people(self, term: str, limit: int = 10) -> list[Json]:
        """The user directory, which every client's start-chat dialog asks."""
        found = self.matrix("POST", "user_directory/search", {"search_term": term, "limit": limit})
        return cast(list[Json], found["results"])

    # Rooms.

    def create_room(self, **content: Any) -> str:
        return str(self.matrix("POST", "createRoom", content)["room_id"])

    def join(self, room_id: str, *, via: str | None = None) -> None:
        self.matrix("POST", f"join/{_q(room_id)}", {}, None if via is None else {"server_name": via})

    def invite(self, room_id: str, user_id: str) -> None:
        self.matrix("POST", f"rooms/{_q(room_id)}/invite", {"user_id": user_id})

    def leave(self, room_id: str) -> None:
        self.matrix("POST", f"rooms/{_q(room_id)}/leave", {})

    def joined_rooms(self) -> frozenset[str]:
        return frozenset(self.matrix("GET", "joined_rooms")["joined_rooms"])

    def joined_members(self, room_id: str) -> frozenset[str]:
        return frozenset(self.matrix("GET", f"rooms/{_q(room_id)}/joined_members")["joined"])

    def send(
        self, room_id: str, event_type: str, content: Mapping[str, Any], *, transaction_id: str | None = None
    ) -> str:
        """Send a room event; the event id."""
        transaction = transaction_id or secrets.token_hex(8)
        path = f"rooms/{_q(room_id)}/send/{_q(event_type)}/{_q(transaction)}"
        return str(self.matrix("PUT", path, dict(content))["event_id"])

    def send_text(self, room_id: str, text: str) -> str:
        return self.send(room_id, "m.room.message", {"msgtype": "m.text", "body": text})

    def send_state(self, room_id: str, event_type: str, content: Mapping[str, Any], state_key: str = "") -> str:
        path = f"rooms/{_q(room_id)}/state/{_q(event_type)}/{_q(state_key)}"
        return str(self.matrix("PUT", path, dict(content))["event_id"])

    def redact(self, room_id: str, event_id: str) -> str:
        path = f"rooms/{_q(room_id)}/redact/{_q(event_id)}/{secrets.token_hex(8)}"
        return str(self.matrix("PUT", path, {})["event_id"])

    def event(self, room_id: str, event_id: str) -> Json:
        return self.matrix("GET", f"rooms/{_q(room_id)}/event/{_q(event_id)}")

    def messages(self, room_id: str, limit: int = 50) -> list[Json]:
        """The newest events of a room, newest first."""
        found = self.matrix("GET", f"rooms/{_q(room_id)}/messages", None, {"dir": "b", "limit": limit})
        return cast(list[Json], found["chunk"])

    def sync(self, since: str | None = None, *, timeout_ms: int = 0, filter_json: Json | None = None) -> Json:
        query: dict[str, str | int] = {"timeout": timeout_ms, "set_presence": "offline"}
        if since is not None:
            query["since"] = since
        if filter_json is not None:
            query["filter"] = json.dumps(filter_json)
        return self.matrix("GET", "sync", None, query)

    def wait_for_event(
        self, room_id: str, wanted: Callable[[Json], bool], *, timeout_s: float = 30.0, since: str | None = None
    ) -> Json:
        """The first event of a room for which ``wanted`` is true, the latest fifty of its past included.

        ``since`` is a sync token from before it can have come. Waits inside ``/sync`` and looks as soon as it answers.

        Raises:
            TimeoutError: none came in time.
        """
        give_up_s = time.monotonic() + timeout_s
        only_this = {"room": {"rooms": [room_id], "timeline": {"limit": 50}}, "presence": {"types": []}}
        token = since
        while True:
            left_ms = int((give_up_s - time.monotonic()) * 1000)
            if left_ms <= 0:
                raise TimeoutError(f"{self.user_id} saw no such event in {room_id} within {timeout_s:g} s")
            answer = self.sync(token, timeout_ms=min(left_ms, 10_000), filter_json=only_this)
            joined = cast(Json, answer.get("rooms", {}).get("join", {}))
            for event in cast(list[Json], joined.get(room_id, {}).get("timeline", {}).get("events", [])):
                if wanted(event):
                    return event
            token = str(answer["next_batch"])

    # Our API, the pinned part of it.

    def openapi(self) -> Json:
        return self.request("GET", f"{CLIENT_API_PREFIX}/openapi.json")

    def wallet(self) -> dict[str, Json]:
        """One's balances by currency: ``{"EUR": {"scale": 2, "available": …, "held": …}}``."""
        accounts = cast(list[Json], self.superapp("GET", "wallet")["accounts"])
        return {str(account["currency"]): account for account in accounts}

    def available(self, currency: str) -> int:
        """What one can spend now, in minor units."""
        account = self.wallet().get(currency)
        return 0 if account is None else int(account["available"])

    def pay(self, payee: str, amount: int, currency: str, *, payment_id: str | None = None, **more: Any) -> Json:
        """``POST payments`` with a new id unless one is given; ``amount`` in minor units."""
        body = {
            "payment_id": payment_id or secrets.token_hex(16),
            "payee": payee,
            "amount": amount,
            "currency": currency,
            **more,
        }
        return self.superapp("POST", "payments", body)

    def payment(self, payment_id: str, *, payer: str | None = None) -> Json:
        return self.superapp("GET", f"payments/{_q(payment_id)}", None, None if payer is None else {"payer": payer})

    def wait_for_payment(self, payment_id: str, *, payer: str | None = None, timeout_s: float = 30.0) -> Json:
        """The payment once it is in a final state.

        Raises:
            TimeoutError: it was not in time.
        """

        def ended() -> Json | None:
            try:
                payment = self.payment(payment_id, payer=payer)
            except MatrixError as error:
                # On the payee's homeserver it exists once the offer has arrived.
                if error.status == http.HTTPStatus.NOT_FOUND:
                    return None
                raise
            return payment if payment["state"] in FINAL_STATES else None

        return wait_until(ended, timeout_s=timeout_s, what=f"payment {payment_id} to end")

    def issue(self, user_id: str, amount: int, currency: str, reference: str) -> Json:
        """``POST admin/issue``; ``amount`` in minor units. The same reference again changes nothing."""
        body = {"user_id": user_id, "amount": amount, "currency": currency, "reference": reference}
        return self.superapp("POST", "admin/issue", body)

    def invariants(self) -> Json:
        return self.superapp("GET", "admin/invariants")

    def handle(self, handle: str) -> Json:
        """The signed record of a handle, from whichever homeserver it lives on."""
        return self.superapp("GET", f"handles/{_q(handle)}")


FINAL_STATES: Final = frozenset({"completed", "declined", "expired", "cancelled", "failed"})
"""The states of a payment that it never leaves."""

_POLL_PAUSE_S: Final = 0.05


def wait_until(question: Callable[[], T | None], *, timeout_s: float, what: str) -> T:
    """Ask until the answer is neither None nor False; for what no homeserver can be asked to announce.

    Raises:
        TimeoutError: ``what`` did not come about in time.
    """
    give_up_s = time.monotonic() + timeout_s
    while True:
        answer = question()
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() > give_up_s:
            raise TimeoutError(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(_POLL_PAUSE_S)


def quoted(part: str) -> str:
    """``part`` as one part of a path."""
    return quote(part, safe="")


_q = quoted


def _session(answer: Json) -> Session:
    return Session(
        user_id=str(answer["user_id"]),
        access_token=str(answer["access_token"]),
        device_id=str(answer["device_id"]),
    )
