"""The web feature in the homeserver: the page at ``/superapp/`` for visitors, the web app below it, and its sessions.

The page for visitors is static, with what depends on the config filled in once at start; it runs no script. The web app
is what ``make web`` made (bundle.py). None of them sets a cookie or asks another host for anything, but for the origin
to which the operator delegates sign-in.
"""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import Final
from urllib.parse import urlsplit

from jinja2 import Environment, StrictUndefined
from pydantic import BaseModel

from super_app.errors import Refused
from super_app.ids import UserId
from super_app.names import CLIENT_API_PREFIX, LIVEKIT_PREFIX, WEB_PREFIX
from synapse_super_app.config import Config, FeatureName
from synapse_super_app.http.routes import Auth, Call, Route
from synapse_super_app.runtime import Runtime
from synapse_super_app.web.bundle import app_files
from synapse_super_app.web.claim import claim_files
from synapse_super_app.web.operations import admin_files
from synapse_super_app.web.prices import price_files
from synapse_super_app.web.profile import ProfilePages, profile_files
from synapse_super_app.web.served import File, PageResource
from synapse_super_app.web.sessions import WidgetSessions
from synapse_super_app.web.sticker_menu import StickerMenu

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


class AboutAsset(BaseModel):
    code: str
    scale: int


class About(BaseModel):
    """What a page must know before anybody signs in. ``operator`` and ``licence`` stand where money is custodial.

    ``fees`` are the currencies in which payments may cost a fee. ``call_server`` is who gives tokens for calls of many,
    as clients name it to each other; without it such calls go from browser to browser.
    """

    server_name: str
    version: str
    features: list[str]
    assets: list[AboutAsset]
    fees: list[str]
    call_server: str | None = None
    operator: str | None = None
    licence: str | None = None


class WebFeature:
    name = FeatureName.WEB
    packages = ("super_app.accounts", "super_app.sessions")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._sessions = WidgetSessions(runtime)
        self._sticker_menu = StickerMenu(runtime)
        page = landing_page(
            server_name=runtime.server_name, homeserver_url=runtime.api.public_baseurl, config=runtime.config
        )
        self._profiles = ProfilePages(runtime) if runtime.config.features.directory else None
        pages = page | profile_files() | app_files(origins_of_the_app(runtime.config))
        pages |= admin_files()
        if runtime.config.features.payments:
            pages |= claim_files(server_name=runtime.server_name, homeserver_url=runtime.api.public_baseurl)
            pages |= price_files(server_name=runtime.server_name, config=runtime.config)
        runtime.api.register_web_resource(WEB_PREFIX, PageResource(pages, self._profiles))

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="about",
                handler=self._about,
                response=About,
                summary="What this homeserver offers",
                auth=Auth.PUBLIC,
            ),
            *self._sessions.routes(),
            *self._sticker_menu.routes(),
        )

    async def start(self) -> None:
        if self._profiles is not None:
            self._profiles.open()

    async def user_of(self, token: str) -> UserId | Refused:
        """Whose session a token of ours is."""
        return await self._sessions.user_of(token)

    async def _about(self, call: Call) -> About:
        config = self._runtime.config
        acknowledged = config.payments.acknowledge
        return About(
            server_name=self._runtime.server_name,
            version=version("super-app-matrix"),
            features=[feature.value for feature in config.features.enabled()],
            assets=[
                AboutAsset(code=code, scale=asset.scale)
                for code, asset in (config.payments.by_code().items() if config.features.payments else ())
            ],
            fees=sorted({fee.currency for fee in config.payments.fees}) if config.features.payments else [],
            call_server=self._call_server(),
            operator=None if acknowledged is None else acknowledged.operator,
            licence=None if acknowledged is None else acknowledged.licence,
        )

    def _call_server(self) -> str | None:
        config = self._runtime.config
        if not config.features.calls or config.calls.livekit is None:
            return None
        return (self._runtime.api.public_baseurl or "").rstrip("/") + LIVEKIT_PREFIX


def origins_of_the_app(config: Config) -> Sequence[str]:
    """What the app talks to besides this homeserver: the pages of sign-in, this one's LiveKit, and what is allowed."""
    found = [] if config.web.sign_in is None else [config.web.sign_in]
    if config.features.calls and config.calls.livekit is not None:
        socket = urlsplit(config.calls.livekit.url)
        # Its client looks by HTTP why a connection did not come about.
        found += [f"{socket.scheme}://{socket.netloc}", f"{socket.scheme.replace('ws', 'http', 1)}://{socket.netloc}"]
    return (*found, *config.web.call_servers)


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
