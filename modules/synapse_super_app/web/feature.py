"""The web feature in the homeserver: a page at ``/superapp/`` that says what this homeserver is and how to join it.

Static files of this package, with what depends on the config filled in once at start. It keeps no session, sets no
cookie, runs no script, and asks no other host for anything.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, StrictUndefined
from twisted.web.resource import Resource

from super_app.names import CLIENT_API_PREFIX, WEB_PREFIX
from synapse_super_app.config import Config, FeatureName
from synapse_super_app.http.routes import Route
from synapse_super_app.runtime import Runtime

_CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Always ask: after an update or a changed config nobody sees half of the old page.
    "Cache-Control": "no-cache",
}
_CALLERS: Final[Mapping[str, str]] = {
    "everyone": "everyone",
    "contacts": "their contacts",
    "following": "people they follow",
    "verified": "verified people",
    "shared_rooms": "people they share a room with",
    "nobody": "nobody",
}


_VERBS: Final[Mapping[FeatureName, str]] = {
    FeatureName.DIRECTORY: "find",
    FeatureName.CALLS: "call",
    FeatureName.PAYMENTS: "pay",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """What one path answers."""

    content_type: str
    content: bytes


class WebFeature:
    name = FeatureName.WEB
    packages = ("super_app.accounts",)

    def __init__(self, runtime: Runtime) -> None:
        page = landing_page(
            server_name=runtime.server_name, homeserver_url=runtime.api.public_baseurl, config=runtime.config
        )
        runtime.api.register_web_resource(WEB_PREFIX, PageResource(page))

    def routes(self) -> Sequence[Route]:
        return ()

    async def start(self) -> None:
        return None


class PageResource(Resource):
    """Everything under the prefix. A path that is no file is 404."""

    isLeaf = True  # noqa: N815 - the name is Twisted's

    def __init__(self, pages: Mapping[str, File]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._files = pages

    def render_GET(self, request: Any) -> bytes:  # noqa: N802 - the name is Twisted's; it serves HEAD too
        """``request`` is a ``twisted.web.http.Request``, whose methods have no types."""
        for name, value in _HEADERS.items():
            request.setHeader(name, value)
        # Names relative to the page need the slash, whatever a reverse proxy puts before it.
        path = request.path.decode("ascii", errors="replace").removeprefix(WEB_PREFIX)
        if path == "":
            request.setResponseCode(HTTPStatus.PERMANENT_REDIRECT)
            request.setHeader("Location", f"{WEB_PREFIX.rpartition('/')[2]}/")
            return b""
        file = self._files.get(path.removeprefix("/"))
        if file is None:
            request.setResponseCode(HTTPStatus.NOT_FOUND)
            request.setHeader("Content-Type", "text/plain; charset=utf-8")
            return b"There is nothing here.\n"
        request.setHeader("Content-Type", file.content_type)
        return file.content


def landing_page(*, server_name: str, homeserver_url: str, config: Config) -> dict[str, File]:
    """The files by their path below the prefix; the page itself is the empty path."""
    page = files("synapse_super_app.web").joinpath("page")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        page.joinpath("index.html").read_text(encoding="utf-8")
    )
    acknowledged = config.payments.acknowledge
    assets = [asset.code for asset in config.payments.assets]
    example = {
        "payment_id": "00112233445566778899aabbccddeeff",
        "payee": f"@bob:{server_name}",
        "amount": 500,
        "currency": assets[0],
        "memo": "lunch",
    }
    html = template.render(
        server_name=server_name,
        homeserver_url=homeserver_url.rstrip("/"),
        can=_listed([verb for feature, verb in _VERBS.items() if feature in config.features.enabled()]),
        directory=config.features.directory,
        calls=config.features.calls,
        payments=config.features.payments,
        callers=_listed([_CALLERS[who] for who in config.calls.default_who]),
        assets=assets,
        operator=None if acknowledged is None else acknowledged.operator,
        licence=None if acknowledged is None else acknowledged.licence,
        example_payment=json.dumps(example, indent=2, ensure_ascii=False),
        # Relative, so that it holds behind a reverse proxy too.
        openapi_path=f"..{CLIENT_API_PREFIX}/openapi.json",
    )
    return {
        "": File(content_type="text/html; charset=utf-8", content=html.encode()),
        "style.css": File(content_type="text/css; charset=utf-8", content=page.joinpath("style.css").read_bytes()),
        "icon.svg": File(content_type="image/svg+xml", content=page.joinpath("icon.svg").read_bytes()),
    }


def _listed(words: Sequence[str]) -> str:
    """``find, call and pay``."""
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)
