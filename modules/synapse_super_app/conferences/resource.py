"""What stock clients, Synapse's proxy and LiveKit itself ask: tokens, delegated leave events, webhooks.

Below ``LIVEKIT_PREFIX`` are the paths of the MatrixRTC authorisation service, as Element Call asks them
(``sfu/get``, ``get_token``, ``delegate_delayed_leave``), where an OpenID token says who asks; the same as MSC4195 has
it, passed on by Synapse for whom it authenticated (MSC4512); and the webhooks of the SFU.
"""

import hmac
import json
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any, Final, TypeVar

from pydantic import Field
from synapse.module_api import DirectServeJsonResource, SynapseRequest
from synapse.module_api.errors import Codes, SynapseError

from super_app.conferences.model import ROOM_SLOT
from super_app.conferences.rules import identity_of, identity_of_device, plain_identity_of
from super_app.errors import Refused
from super_app.ids import RoomId, ServerName, UserId, server_of
from super_app.names import LIVEKIT_PREFIX
from super_app.wire import OpenWireModel, Text
from synapse_super_app.conferences.desk import Desk, Wish, not_in_room
from synapse_super_app.conferences.keeper import Keeper
from synapse_super_app.conferences.livekit import LiveKit
from synapse_super_app.runtime import Runtime

PROXY_PREFIX: Final = "rtc/livekit"
"""What Synapse passes on (``io.element.msc4512.proxy_prefix``)."""
_BODY_MAX: Final = 65_536
_Name = Annotated[Text, Field(min_length=1, max_length=255)]
_Token = Annotated[Text, Field(min_length=1, max_length=2_048)]
_PROXIED: Final = re.compile(r"_matrix/(client|federation)/(?:unstable/[^/]+|v[^/]+)/rtc/livekit/([a-z_]+)")
_B = TypeVar("_B", bound=OpenWireModel)

Answer = tuple[int, dict[str, Any]]


class OpenIdToken(OpenWireModel):
    access_token: _Token
    matrix_server_name: _Name


class Member(OpenWireModel):
    id: _Name
    claimed_user_id: _Name
    claimed_device_id: _Name


class SfuGet(OpenWireModel):
    """Today's Element Call: one call per room."""

    room: _Name
    openid_token: OpenIdToken
    device_id: _Name
    delay_id: _Name | None = None


class ServiceToken(OpenWireModel):
    room_id: _Name
    slot_id: _Name
    openid_token: OpenIdToken
    member: Member
    delay_id: _Name | None = None


class GetToken(OpenWireModel):
    """MSC4195. ``member`` is how clients said who they are before it had ``member_id``."""

    url: Annotated[Text, Field(max_length=2_048)]
    room_id: _Name
    slot_id: _Name
    member_id: _Name | None = None
    member: Member | None = None
    server_name: _Name | None = None
    user_id: _Name | None = None
    delay_id: _Name | None = None


class LiveKitResource(DirectServeJsonResource):
    isLeaf = True  # noqa: N815 - Twisted's name

    def __init__(self, runtime: Runtime, livekit: LiveKit, desk: Desk, keeper: Keeper) -> None:
        super().__init__()
        self._runtime = runtime
        self._livekit = livekit
        self._desk = desk
        self._keeper = keeper
        self._ready = False
        self._asked: dict[str, Callable[[bytes], Awaitable[Answer]]] = {
            "sfu/get": self._sfu_get,
            "get_token": self._service_token,
            "delegate_delayed_leave": self._service_delegate,
        }

    def open(self) -> None:
        self._ready = True

    async def _async_render(self, request: SynapseRequest) -> Answer:
        path = request.path.decode("ascii", errors="replace").removeprefix(LIVEKIT_PREFIX).strip("/")
        method = request.method.decode("ascii")
        if method == "OPTIONS":
            return HTTPStatus.OK, {}
        if path == "healthz" and method in ("GET", "HEAD"):
            return HTTPStatus.OK, {}
        request.request_metrics.name = f"superapp livekit {path.rpartition('/')[2][:40]}"
        headers = {
            name: (request.requestHeaders.getRawHeaders(name) or [""])[0]
            for name in ("Authorization", "X-Matrix-User-Identifier", "X-Matrix-Origin")
        }
        content = request.content
        body = b"" if content is None else content.read(_BODY_MAX + 1)
        return await self.answer(method, path, headers, body)

    async def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """The status and the JSON of an answer.

        Raises:
            SynapseError: the request was refused.
        """
        proxied = _PROXIED.fullmatch(path)
        if method != "POST" or (proxied is None and path not in self._asked and path != "sfu_webhook"):
            raise SynapseError(HTTPStatus.NOT_FOUND, "Unrecognized request", Codes.UNRECOGNIZED)
        if len(body) > _BODY_MAX:
            raise SynapseError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large.", Codes.TOO_LARGE)
        if not self._ready:
            raise SynapseError(
                HTTPStatus.SERVICE_UNAVAILABLE, "The server is starting; try again in a moment.", Codes.UNKNOWN
            )
        if path == "sfu_webhook":
            return await self._webhook(headers["Authorization"], body)
        if proxied is None:
            return await self._asked[path](body)
        self._check_proxy(headers["Authorization"])
        match proxied[1], proxied[2]:
            case "client", "get_token":
                return await self._get_token(UserId(headers["X-Matrix-User-Identifier"]), body)
            case "client", "delegate_delayed_leave":
                return await self._delegate(UserId(headers["X-Matrix-User-Identifier"]), body)
            case "federation", "get_token":
                return await self._get_token_for(ServerName(headers["X-Matrix-Origin"]), body)
            case _:
                raise SynapseError(HTTPStatus.NOT_FOUND, "Unrecognized request", Codes.UNRECOGNIZED)

    def _check_proxy(self, authorization: str) -> None:
        """Who asks stands in a header, which is true only if it is Synapse that passes the request on."""
        token = self._runtime.private.proxy_token(PROXY_PREFIX)
        wanted = f"Bearer {token}"
        if token is None or not hmac.compare_digest(authorization.encode(), wanted.encode()):
            raise SynapseError(
                HTTPStatus.FORBIDDEN,
                "This path is for the homeserver's own proxy (MSC4512); ask below /_matrix instead.",
                Codes.FORBIDDEN,
            )

    async def _webhook(self, authorization: str, body: bytes) -> Answer:
        if not self._livekit.is_webhook(authorization, body):
            raise SynapseError(
                HTTPStatus.UNAUTHORIZED,
                "This webhook was not signed by the SFU of this homeserver.",
                Codes.UNAUTHORIZED,
            )
        said = _json(body)
        await self._keeper.on_webhook(said)
        return HTTPStatus.OK, {}

    # As the service of today's clients.

    async def _sfu_get(self, body: bytes) -> Answer:
        asked = _read(SfuGet, body)
        room_id = RoomId(asked.room)
        user_id = await self._user_of(asked.openid_token, room_id)
        wish = Wish(
            user_id=user_id,
            room_id=room_id,
            slot_id=ROOM_SLOT,
            identity=plain_identity_of(user_id, asked.device_id),
            # These clients all speak on the SFU of whoever came first.
            publishes_here=True,
        )
        return await self._token_and_leave(wish, asked.delay_id)

    async def _service_token(self, body: bytes) -> Answer:
        asked = _read(ServiceToken, body)
        return await self._token_and_leave(await self._service_wish(asked), asked.delay_id)

    async def _service_delegate(self, body: bytes) -> Answer:
        asked = _read(ServiceToken, body)
        if asked.delay_id is None:
            raise SynapseError(HTTPStatus.BAD_REQUEST, "delay_id is missing.", Codes.BAD_JSON)
        await self._desk.delegate(await self._service_wish(asked), asked.delay_id)
        self._keeper.look_soon()
        return HTTPStatus.OK, {}

    async def _service_wish(self, asked: ServiceToken) -> Wish:
        room_id = RoomId(asked.room_id)
        user_id = await self._user_of(asked.openid_token, room_id)
        if asked.member.claimed_user_id != user_id:
            raise SynapseError(
                HTTPStatus.UNAUTHORIZED, "member.claimed_user_id is not whose OpenID token this is.", Codes.UNAUTHORIZED
            )
        return Wish(
            user_id=user_id,
            room_id=room_id,
            slot_id=asked.slot_id,
            identity=identity_of_device(user_id, asked.member.claimed_device_id, asked.member.id),
            publishes_here=True,
        )

    async def _user_of(self, token: OpenIdToken, room_id: RoomId) -> UserId:
        return await self._desk.user_of_openid(token.matrix_server_name, token.access_token, room_id)

    async def _token_and_leave(self, wish: Wish, delay_id: str | None) -> Answer:
        token = await self._desk.token(wish)
        if delay_id is not None:
            await self._desk.delegate(wish, delay_id)
            self._keeper.look_soon()
        return HTTPStatus.OK, {"url": self._desk.url, "jwt": token}

    # As MSC4195 has it.

    async def _get_token(self, user_id: UserId, body: bytes) -> Answer:
        asked = _read(GetToken, body)
        server = ServerName(asked.server_name or self._runtime.server_name)
        if server == self._runtime.server_name:
            return await self._own_token(user_id, asked, publishes_here=True)
        passed_on = _json(body)
        passed_on.pop("server_name")
        token = await self._desk.token_of(server, {**passed_on, "user_id": user_id})
        return HTTPStatus.OK, {"jwt": token}

    async def _get_token_for(self, origin: ServerName, body: bytes) -> Answer:
        asked = _read(GetToken, body)
        user_id = UserId(asked.user_id or "")
        if server_of(user_id) != origin:
            raise not_in_room(f"user_id is nobody of {origin}, so they")
        # Who is of another homeserver speaks on its SFU, and listens here.
        return await self._own_token(user_id, asked, publishes_here=False)

    async def _own_token(self, user_id: UserId, asked: GetToken, *, publishes_here: bool) -> Answer:
        self._check_url(asked.url)
        return HTTPStatus.OK, {"jwt": await self._desk.token(_wish(user_id, asked, publishes_here=publishes_here))}

    async def _delegate(self, user_id: UserId, body: bytes) -> Answer:
        asked = _read(GetToken, body)
        self._check_url(asked.url)
        if asked.delay_id is None:
            raise SynapseError(HTTPStatus.BAD_REQUEST, "delay_id is missing.", Codes.BAD_JSON)
        await self._desk.delegate(_wish(user_id, asked, publishes_here=True), asked.delay_id)
        self._keeper.look_soon()
        return HTTPStatus.OK, {}

    def _check_url(self, url: str) -> None:
        if url != self._desk.url:
            raise SynapseError(
                HTTPStatus.BAD_REQUEST,
                f"url is not the SFU of {self._runtime.server_name}; look it up in rtc/transports.",
                Codes.INVALID_PARAM,
            )


def _wish(user_id: UserId, asked: GetToken, *, publishes_here: bool) -> Wish:
    if asked.member_id is not None:
        identity = identity_of(user_id, asked.member_id)
    elif asked.member is not None:
        if asked.member.claimed_user_id != user_id:
            raise SynapseError(HTTPStatus.FORBIDDEN, "member.claimed_user_id is not who asks.", Codes.FORBIDDEN)
        identity = identity_of_device(user_id, asked.member.claimed_device_id, asked.member.id)
    else:
        raise SynapseError(HTTPStatus.BAD_REQUEST, "member_id is missing.", Codes.BAD_JSON)
    return Wish(
        user_id=user_id,
        room_id=RoomId(asked.room_id),
        slot_id=asked.slot_id,
        identity=identity,
        publishes_here=publishes_here,
    )


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise SynapseError(HTTPStatus.BAD_REQUEST, "The body is no JSON object.", Codes.NOT_JSON)
    return found


def _read(model: type[_B], body: bytes) -> _B:
    asked = model.parse(_json(body))
    if isinstance(asked, Refused):
        raise SynapseError(HTTPStatus.BAD_REQUEST, asked.message, Codes.BAD_JSON)
    return asked
