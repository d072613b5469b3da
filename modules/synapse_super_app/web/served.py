"""How files go out under ``/superapp/``: a table from path to file, and the headers that all of them have."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from twisted.web.resource import Resource

from super_app.names import WEB_PREFIX

# A page that needs more says so itself. None may run what is not a file of ours, or be framed unless it is made for it.
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Always ask: after an update or a changed config nobody sees half of the old page.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """What one path answers. ``headers`` go before those that all files have."""

    content_type: str
    content: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


class PageResource(Resource):
    """Everything under the prefix. A path that is no file is 404; ``profiles`` answers those that begin with ``@``."""

    isLeaf = True  # noqa: N815 - the name is Twisted's

    def __init__(self, pages: Mapping[str, File], profiles: Resource | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._files = pages
        self._profiles = profiles

    def render_GET(self, request: Any) -> Any:  # noqa: N802 - the name is Twisted's; it serves HEAD too
        """``request`` is a ``twisted.web.http.Request``, whose methods have no types."""
        path = request.path.decode("ascii", errors="replace").removeprefix(WEB_PREFIX)
        if self._profiles is not None and path.startswith(("/@", "/%40")):
            return self._profiles.render(request)  # type: ignore[no-untyped-call]
        file = self._files.get(path.removeprefix("/"))
        for name, value in {**HEADERS, **(file.headers if file is not None and path else {})}.items():
            request.setHeader(name, value)
        # Names relative to a page need the slash, whatever a reverse proxy puts before it.
        if path == "" or f"{path.removeprefix('/')}/" in self._files:
            request.setResponseCode(HTTPStatus.PERMANENT_REDIRECT)
            request.setHeader("Location", f"{(WEB_PREFIX + path).rpartition('/')[2]}/")
            return b""
        if file is None:
            request.setResponseCode(HTTPStatus.NOT_FOUND)
            request.setHeader("Content-Type", "text/plain; charset=utf-8")
            return b"There is nothing here.\n"
        request.setHeader("Content-Type", file.content_type)
        return file.content
