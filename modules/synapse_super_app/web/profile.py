"""The page of a person at ``/superapp/@alice``: a QR code and links for visitors, rendered here, without a script.

Whoever visits has shown no account, so only public handles have a page. A handle that hides and one that does not exist
get the same page, status and headers, for the same work.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final
from urllib.parse import quote, unquote

import segno
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from synapse.module_api import DirectServeJsonResource

from super_app.directory import rules, service
from super_app.directory.model import AskedBy, full
from super_app.directory.naming import split
from super_app.errors import Refused
from super_app.ids import Handle, UserId
from super_app.names import WEB_PREFIX
from synapse_super_app.http.guards import AddressLimit
from synapse_super_app.runtime import Runtime
from synapse_super_app.web.served import HEADERS, File

_PAGE: Final = files("synapse_super_app.web").joinpath("page")
_LONGEST: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    handle: Handle
    user_id: UserId


class ProfilePages(DirectServeJsonResource):
    """Everything under the prefix that begins with ``@``. Before the tables exist it is 503."""

    isLeaf = True  # noqa: N815 - the name is Twisted's

    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self._runtime = runtime
        self._template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
            _PAGE.joinpath("profile.html").read_text(encoding="utf-8")
        )
        self._limit = AddressLimit(runtime)
        self._ready = False

    def open(self) -> None:
        """The tables exist."""
        self._ready = True

    async def _async_render_GET(self, request: Any) -> None:  # noqa: N802 - Synapse's name
        """``request`` is a ``twisted.web.http.Request``, whose methods have no types."""
        self._limit.check(request)
        path = request.path.decode("ascii", errors="replace").removeprefix(WEB_PREFIX).strip("/")
        status, content = await self.answer(unquote(path))
        request.setResponseCode(status)
        headers = {**HEADERS, "Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(content))}
        for name, value in headers.items():
            request.setHeader(name, value)
        if request.method != b"HEAD":
            request.write(content)
        request.finish()

    _async_render_HEAD = _async_render_GET  # noqa: N815 - Synapse's name

    async def answer(self, text: str) -> tuple[HTTPStatus, bytes]:
        """The page of a handle as it stands in the address."""
        if not self._ready:
            return HTTPStatus.SERVICE_UNAVAILABLE, b"The server is starting; try again in a moment.\n"
        shown = await self._shown(text[:_LONGEST])
        page = self._template.render(
            server_name=self._runtime.server_name,
            homeserver_url=self._runtime.api.public_baseurl.rstrip("/"),
            **({"handle": "", "user_id": ""} if shown is None else self._links(shown)),
        )
        return (HTTPStatus.NOT_FOUND if shown is None else HTTPStatus.OK), page.encode()

    async def _shown(self, text: str) -> _Shown | None:
        parts = split(text, self._runtime.server_name)
        if isinstance(parts, Refused) or parts[1] != self._runtime.server_name:
            return None
        work = partial(service.find, text=parts[0], by=AskedBy.HANDLE)
        held = await self._runtime.database.run("profile_page", work)
        # A frozen handle names nobody now.
        if held is None or not rules.in_feed(held) or held.frozen_for is not None:
            return None
        return _Shown(handle=full(held.name, self._runtime.server_name), user_id=held.user_id)

    def _links(self, shown: _Shown) -> Mapping[str, str]:
        address = f"{self._runtime.api.public_baseurl.rstrip('/')}{WEB_PREFIX}/{quote(shown.handle, safe='@:')}"
        code = segno.make(address, error="m", micro=False)
        payto = f"payto://matrix/{quote(shown.handle.removeprefix('@'), safe='')}"
        return {
            "handle": shown.handle,
            "user_id": shown.user_id,
            # Made of digits and letters of segno's own; the address is in it as squares.
            "qr": Markup(code.svg_inline(border=4, omitsize=True, dark="#000", light="#fff")),  # noqa: S704
            "matrix_to": f"https://matrix.to/#/{quote(shown.user_id, safe='@:')}",
            "matrix_uri": f"matrix:u/{quote(shown.user_id.removeprefix('@'), safe=':')}?action=chat",
            "payto": payto if self._runtime.config.features.payments else "",
        }


def profile_files() -> dict[str, File]:
    """What the pages load besides what the page for visitors has."""
    return {
        "profile.css": File(content_type="text/css; charset=utf-8", content=_PAGE.joinpath("profile.css").read_bytes())
    }
