"""A real Chromium (Debian's), and homeservers to look at with it.

Playwright drives it. Where either is missing these tests are skipped and say so, since a browser is no small thing to
ask of a machine that only builds.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import turn_server
from app_pages import AXE, chromium_program, web_tools
from lone import LoneHomeserver
from running_demo import RunningDemo

from super_app.db import Engine
from super_app.names import CLIENT_API_PREFIX
from synapse_super_app.commands.matrix_client import MatrixClient


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A ``playwright.sync_api.Browser``."""
    playwright_api = pytest.importorskip("playwright.sync_api", reason="the Python package playwright is not installed")
    program = chromium_program()
    if program is None:
        pytest.skip("there is no Chromium; on Debian: apt-get install chromium")
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The script that finds what keeps people out of a page."""
    if not AXE.exists():
        web_tools("host")
    return AXE.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def homeserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneHomeserver]:
    with LoneHomeserver(tmp_path_factory.mktemp("browser"), {}) as running:
        yield running


@pytest.fixture(scope="session")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDemo]:
    """Two federated homeservers with alice, bob, carol and dave, and coturn where it is installed.

    All tests use them, in any order.
    """
    request.getfixturevalue("chromium")  # without a browser they are not started
    with ExitStack() as closing:
        turn = None
        if shutil.which("turnserver") is not None:
            folder = tmp_path_factory.mktemp("turn")
            turn = turn_server.place(folder)
            closing.enter_context(turn_server.running(folder, turn[0]))
        running = RunningDemo(tmp_path_factory.mktemp("pair"), Engine.SQLITE, turn=turn)
        closing.callback(running.stop)
        for homeserver in running.homeservers:
            _be_at_rest(str(homeserver["client_url"]))
        yield running


def _be_at_rest(client_url: str) -> None:
    """Wait, for a minute at most, until a homeserver that has just started answers at once several times in a row."""
    give_up_s, quick = time.monotonic() + 60, 0
    with MatrixClient(client_url) as anybody:
        while quick < 5 and time.monotonic() < give_up_s:
            began_s = time.monotonic()
            status, _ = anybody.request_raw("GET", f"{CLIENT_API_PREFIX}/about")
            quick = quick + 1 if status == 200 and time.monotonic() - began_s < 0.5 else 0
            time.sleep(0.2)
