"""A real Chromium (Debian's), and homeservers to look at with it.

Playwright drives it. Where either is missing these tests are skipped and say so, since a browser is no small thing to
ask of a machine that only builds.
"""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from lone import LoneHomeserver
from running_demo import RunningDemo

from super_app.db import Engine


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A ``playwright.sync_api.Browser``."""
    playwright_api = pytest.importorskip("playwright.sync_api", reason="the Python package playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium; on Debian: apt-get install chromium")
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def homeserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneHomeserver]:
    with LoneHomeserver(tmp_path_factory.mktemp("browser"), {}) as running:
        yield running


@pytest.fixture(scope="session")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDemo]:
    """Two federated homeservers with alice, bob, carol and dave; all tests use them, in any order."""
    request.getfixturevalue("chromium")  # without a browser they are not started
    running = RunningDemo(tmp_path_factory.mktemp("pair"), Engine.SQLITE)
    yield running
    running.stop()
