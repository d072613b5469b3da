"""Dispatches ``/_synapse/client/superapp/v1/…`` to routes: authenticate, validate, call, answer."""

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import unquote

from pydantic import BaseModel, ValidationError
from synapse.module_api import DirectServeJsonResource, ModuleApi, SynapseRequest, parse_json_object_from_request
from synapse.module_api.errors import Codes, SynapseError

from super_app.errors import Reason, Refused
from super_app.ids import UserId
from super_app.names import CLIENT_API_PREFIX
from super_app.sessions.model import is_session_token
from super_app.sessions.service import unknown_session
from super_app.wire import WireModel, is_text, refusal_of
from synapse_super_app import full_disk
from synapse_super_app.http.openapi import document
from synapse_super_app.http.refusals import error_of
from synapse_super_app.http.routes import Auth, Call, FileAnswer, Route, Sessions


class SessionBook(Protocol):
    """Whose session a token of ours is."""

    async def user_of(self, token: str) -> UserId | Refused: ...


_MAX_NUMBER: Final = 2**63 - 1
"""What a column of a database holds."""

IsFresh = Callable[[UserId, int | None, str], Awaitable[bool]]
"""Whether somebody has just signed in, by the id of the access token in Synapse, if it has one, and the device."""


class ApiResource(DirectServeJsonResource):
    """The pinned client API and the rest of it, one leaf resource."""

    isLeaf = True  # noqa: N815 - Twisted's name

    def __init__(self, api: ModuleApi, version: str, is_fresh: IsFresh, sessions: SessionBook | None = None) -> None:
        super().__init__()
        self._api = api
        self._is_fresh = is_fresh
        self._version = version
        self._sessions = sessions
        self._routes: list[tuple[re.Pattern[str], Route]] = []
        self._ready = False
        self._document: dict[str, Any] | None = None

    def add(self, routes: Sequence[Route]) -> None:
        for route in routes:
            pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(route.path))
            self._routes.append((re.compile(pattern), route))
        self._document = None

    @property
    def document(self) -> dict[str, Any]:
        """The OpenAPI document; made when somebody asks for it, since that takes longer than the rest of the start."""
        if self._document is None:
            self._document = document([route for _, route in self._routes], self._version)
        return self._document

    def open(self) -> None:
        """The tables exist; until now every route but the document answered 503."""
        self._ready = True

    async def _async_render(self, request: SynapseRequest) -> tuple[int, Any] | None:
        path = request.path.decode("ascii", errors="replace").removeprefix(CLIENT_API_PREFIX).strip("/")
        method = request.method.decode("ascii")
        if path == "openapi.json" and method in ("GET", "HEAD"):
            return HTTPStatus.OK, self.document
        if method == "OPTIONS":
            return HTTPStatus.OK, {}
        route, variables = self.match("GET" if method == "HEAD" else method, path)
        request.request_metrics.name = f"superapp {route.method} {route.path}"
        user_id, device_id = await self._authenticate(request, route)
        if not self._ready:
            raise error_of(_starting())
        # An empty body reads as {}, so that a body whose fields are all optional may be left out.
        content = None if route.body is None else parse_json_object_from_request(request, allow_empty_body=True)
        values = {
            name.decode("utf-8", errors="replace"): found[-1].decode("utf-8", errors="replace")
            for name, found in (request.args or {}).items()
        }
        values.pop("access_token", None)
        address = request.get_client_ip_if_available()
        answered = await answer_any(route, variables, user_id, values, content, address, device_id)
        if not isinstance(answered, FileAnswer):
            return HTTPStatus.OK, answered
        _send_file(request, answered)
        return None

    def match(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        known_path = False
        for pattern, route in self._routes:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            known_path = True
            if route.method == method:
                return route, {name: unquote(value) for name, value in match.groupdict().items()}
        if known_path:
            raise SynapseError(HTTPStatus.METHOD_NOT_ALLOWED, "Unrecognized request", Codes.UNRECOGNIZED)
        raise SynapseError(HTTPStatus.NOT_FOUND, "Unrecognized request", Codes.UNRECOGNIZED)

    async def _authenticate(self, request: SynapseRequest, route: Route) -> tuple[UserId, str]:
        """Who asks, and with which device."""
        if route.auth is Auth.PUBLIC:
            return UserId(""), ""
        token = session_token(request)
        if token is not None:
            return await self._user_of_session(token, route), ""
        requester = await self._api.get_user_by_req(request)
        user_id = UserId(requester.user.to_string())
        if route.auth is Auth.ADMIN and not await self._api.is_user_admin(user_id):
            raise error_of(
                Refused(
                    reason=Reason.ADMIN_ONLY,
                    message="Only a server admin may do this; ask the operator of this homeserver.",
                )
            )
        device_id = requester.device_id or ""
        if route.auth is Auth.FRESH and not await self._is_fresh(user_id, requester.access_token_id, device_id):
            raise error_of(
                Refused(
                    reason=Reason.SIGN_IN_AGAIN,
                    message="This takes a session that has just begun: sign in again, and do it there within ten "
                    "minutes. Where you sign in elsewhere than at this homeserver, say so first with POST sign_ins.",
                )
            )
        return user_id, device_id

    async def _user_of_session(self, token: str, route: Route) -> UserId:
        if not self._ready:
            raise error_of(_starting())
        found = unknown_session() if self._sessions is None else await self._sessions.user_of(token)
        if isinstance(found, Refused):
            raise error_of(found)
        if route.sessions is Sessions.REFUSED:
            raise error_of(
                Refused(
                    reason=Reason.SESSION_READS_ONLY,
                    message="This wallet inside another app only reads; open the wallet by itself to pay or to change "
                    "something.",
                )
            )
        return found


def session_token(request: Any) -> str | None:
    """The token of ours that a request brings, if it brings one. Never from the address, which ends up in logs."""
    headers = request.requestHeaders.getRawHeaders(b"Authorization") or []
    if len(headers) != 1:
        return None
    scheme, _, token = headers[0].decode("ascii", errors="replace").partition(" ")
    return token if scheme == "Bearer" and is_session_token(token) else None


async def answer(
    route: Route,
    variables: dict[str, str],
    user_id: UserId,
    query: dict[str, str],
    content: object,
    address: str = "",
    device_id: str = "",
) -> dict[str, Any]:
    """``answer_any`` of a route that answers in JSON."""
    answered = await answer_any(route, variables, user_id, query, content, address, device_id)
    if isinstance(answered, FileAnswer):
        raise RuntimeError(f"{route.path} is a file")
    return answered


async def answer_any(
    route: Route,
    variables: dict[str, str],
    user_id: UserId,
    query: dict[str, str],
    content: object,
    address: str = "",
    device_id: str = "",
) -> dict[str, Any] | FileAnswer:
    """Validate, call the handler, and give the JSON of its answer, or the file that it is.

    Raises:
        SynapseError: the request or the handler was refused.
    """
    unreadable = next((name for name, value in {**variables, **query}.items() if not is_text(value)), None)
    if unreadable is not None:
        raise error_of(
            Refused(reason=Reason.INVALID_VALUE, message=f"{unreadable}: contains a NUL character; leave it out.")
        )
    call = Call(
        user_id=user_id,
        path=variables,
        query=_read_query(query, route.query),
        body=_read_body(content, route.body),
        address=address,
        device_id=device_id,
    )
    try:
        refusal_or_answer = await route.handler(call)
    except Exception as error:
        # Of what Synapse wrote for us, such as the event of a payment.
        if full_disk.is_full(error):
            raise full_disk.refusal_of(error) from error
        raise
    if isinstance(refusal_or_answer, Refused):
        raise error_of(refusal_or_answer)
    if isinstance(refusal_or_answer, FileAnswer):
        return refusal_or_answer
    return refusal_or_answer.model_dump(mode="json", exclude_none=True, by_alias=True)


def _send_file(request: Any, file: FileAnswer) -> None:
    """``request`` is a ``twisted.web.http.Request``, whose methods have no types."""
    # As Synapse answers its clients, which run in pages of any origin.
    request.setHeader("Access-Control-Allow-Origin", "*")
    request.setHeader("Content-Type", file.media_type)
    request.setHeader("Content-Disposition", f'attachment; filename="{file.name}"')
    request.setHeader("Content-Length", str(len(file.content)))
    request.setHeader("Cache-Control", "no-store")
    request.setHeader("X-Content-Type-Options", "nosniff")
    request.write(file.content)
    request.finish()


def _starting() -> Refused:
    return Refused(reason=Reason.STARTING, message="The server is starting; try again in a moment.")


def _read_body(content: object, model: type[WireModel] | None) -> WireModel | None:
    if model is None:
        return None
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        message = "The body contains half of a character (an unpaired surrogate); leave it out."
        raise error_of(Refused(reason=Reason.INVALID_VALUE, message=message)) from None
    body = model.parse(content)
    if isinstance(body, Refused):
        raise error_of(body)
    return body


def _read_query(values: dict[str, str], model: type[BaseModel] | None) -> BaseModel | None:
    if model is None:
        return None
    try:
        query = model.model_validate(values, strict=False)
    except ValidationError as error:
        raise error_of(refusal_of(error)) from None
    for name in query.model_fields_set:
        value: object = getattr(query, name)
        if isinstance(value, int) and abs(value) > _MAX_NUMBER:
            raise error_of(Refused(reason=Reason.INVALID_VALUE, message=f"{name}: this number is too large."))
    return query
