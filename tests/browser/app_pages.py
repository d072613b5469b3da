"""A person in front of the web app: a browser context that is signed in, and what the page complained about."""

import json
import secrets
import shutil
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from running_demo import RunningDemo

from synapse_super_app.commands.matrix_client import wait_until

ROOT: Final = Path(__file__).parents[2]
SCREENSHOTS: Final = ROOT / "build" / "screenshots"
HOST_PAGE: Final = ROOT / "build" / "web-host"
PHONE: Final = (390, 844)
DESKTOP: Final = (1280, 900)
LOOKS: Final = ((PHONE, "light"), (DESKTOP, "dark"), (PHONE, "dark"), (DESKTOP, "light"))
AXE: Final = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
_PATIENCE_MS: Final = 120_000
"""A busy machine is slow, and that says nothing about a page."""
KEEPS_CONNECTIONS: Final = """
    window.connections = [];
    window.RTCPeerConnection = class extends RTCPeerConnection {
        constructor(...config) { super(...config); window.connections.push(this); }
    };
"""
"""Keeps every connection that a page makes, to look at what flows in it."""
# What the browser says of answers that the page expects (no account data yet, sign-in that is not delegated), and
# Playwright of a worker that a test does not want.
_EXPECTED: Final = (
    "Failed to load resource: the server responded with a status of",
    "Service Worker registration blocked by Playwright",
)


class Page:
    """A ``playwright.sync_api.Page`` of the app, in a context of its own unless one is given."""

    def __init__(self, context: Any, origin: str) -> None:
        context.set_default_timeout(_PATIENCE_MS)
        self.context = context
        self.origin = origin
        self.page = context.new_page()
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._asked)

    def _heard(self, message: Any) -> None:
        if not message.text.startswith(_EXPECTED):
            self.complaints.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(("blob:", "data:")):
            self.hosts.add(urlsplit(request.url).netloc)

    def open(self, address: str = "") -> Any:
        self.page.goto(f"{self.origin}/superapp/app/#/{address}")
        return self.page

    def shot(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True, animations="disabled")

    def heading(self, name: str) -> None:
        """Wait until that screen is there."""
        self.page.get_by_role("heading", level=1, name=name, exact=True).wait_for()


@contextmanager
def visiting(
    chromium: Any,
    pair: RunningDemo,
    name: str | None,
    *,
    size: tuple[int, int] = PHONE,
    scheme: str = "light",
    locale: str = "en-GB",
    service_workers: str = "block",
    by_name: bool = False,
) -> Generator[Page]:
    """The app as one of the four sees it; with ``None`` as somebody on alice's homeserver who is not signed in.

    ``by_name``: at localhost and not at its address, for what browsers allow to names alone.
    """
    homeserver = 0 if name is None else pair.people[name].homeserver
    origin = str(pair.homeservers[homeserver]["client_url"])
    if by_name:
        origin = origin.replace("127.0.0.1", "localhost")
    stored: list[dict[str, str]] = []
    if name is not None:
        # A session of its own, since a test may end it.
        with pair.client(name) as client:
            login = client.login(name, pair.people[name].password)
        session = {
            "kind": "matrix",
            "userId": pair.people[name].user_id,
            "deviceId": secrets.token_hex(4),
            "token": login.access_token,
        }
        stored = [{"name": "superapp.session", "value": json.dumps(session)}]
    context = chromium.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        locale=locale,
        # What a worker answers is not seen on the wire, where tests look and cut.
        service_workers=service_workers,
        storage_state={"cookies": [], "origins": [{"origin": origin, "localStorage": stored}]},
    )
    try:
        yield Page(context, origin)
    finally:
        context.close()


def look_at(page: Any, size: tuple[int, int], scheme: str) -> None:
    """The same screen on another device."""
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme=scheme)
    settled(page)


def settled(page: Any) -> None:
    """Nothing is on its way any more: no placeholder is shown and nothing moves."""
    busy = page.locator(".skeleton, .starting, [aria-busy=true]")
    wait_until(lambda: busy.count() == 0, timeout_s=60, what="the screen to be whole")
    page.evaluate("Promise.all(document.getAnimations().map((each) => each.finished.catch(() => null)))")


def faults(page: Any, axe: str) -> list[str]:
    """What axe finds fault with, a line each."""
    page.evaluate(f"() => {{ if (window.axe === undefined) {{ {axe} }} }}")
    found = page.evaluate("async () => (await axe.run(document, {resultTypes: ['violations']})).violations")
    return [f"{fault['id']}: {node['html'][:120]}" for fault in found for node in fault["nodes"]]


def web_tools(command: str) -> None:
    subprocess.run([str(ROOT / "tools" / "web"), command], check=True, capture_output=True, cwd=ROOT)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        return


@contextmanager
def client_page() -> Generator[str]:
    """The address of the page that stands for a client, on an origin of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(HOST_PAGE)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/index.html"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def client_address(page: str, widget: str, **allowed: str) -> str:
    return f"{page}?{urlencode({'widget': widget, **allowed})}"


def chromium_program() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def with_media(chromium: Any, *more: str) -> Generator[Any]:
    """A browser with a camera and a microphone that everybody may use: it shows its test picture and beeps."""
    # Without a network there are only loopback addresses to connect over.
    media = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        "--allow-loopback-in-peer-connection",
    ]
    browser = chromium.browser_type.launch(executable_path=chromium_program(), args=[*media, *more])
    try:
        yield browser
    finally:
        browser.close()
