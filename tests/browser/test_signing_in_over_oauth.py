"""Signing in to the web app where the homeserver delegates that: there and back, the next token, and the end."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from app_pages import PHONE, Page
from lone import LoneHomeserver
from sign_in_service import ServedSignIn, SignInService

from synapse_super_app.commands.matrix_client import wait_until

_LIMIT_S = 120.0


@pytest.fixture(scope="module")
def served() -> Iterator[ServedSignIn]:
    with ServedSignIn(SignInService(localpart="alice")) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def delegating(served: ServedSignIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneHomeserver]:
    config = {
        "payments": {"mode": "credits", "assets": [{"code": "PTS", "scale": 0}]},
        "web": {"sign_in": served.origin},
    }
    folder = tmp_path_factory.mktemp("delegating")
    with LoneHomeserver(folder, config, config=served.service.config(f"{served.origin}/")) as homeserver:
        served.service.homeserver_url = homeserver.process.client_url
        yield homeserver


@pytest.fixture
def visit(chromium: Any, delegating: LoneHomeserver) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": PHONE[0], "height": PHONE[1]}, locale="en-GB")
    yield Page(context, delegating.process.client_url)
    context.close()


def session(page: Any) -> dict[str, Any]:
    return dict(json.loads(page.evaluate("localStorage['superapp.session'] ?? '{}'")))


def test_one_signs_in_over_the_service_stays_signed_in_and_leaves(visit: Page, served: ServedSignIn) -> None:
    service = served.service
    begun = set(service.codes)
    page = visit.open("people")
    assert page.get_by_label("Password").count() == 0
    page.get_by_role("button", name="Go on to sign in").click()
    page.get_by_role("heading", name="Super App").wait_for()
    page.get_by_role("link", name="Let it in").click()
    page.get_by_role("navigation", name="Places").wait_for()
    assert "code=" not in page.url
    assert session(page)["userId"].startswith("@alice:")
    # The code was good once, and what belonged to it is gone.
    assert set(service.codes) == begun
    assert page.evaluate("sessionStorage.length") == 0

    # The token ends after some seconds; the app gets the next one by itself and nobody notices.
    page.goto(f"{visit.origin}/superapp/app/#/")
    wait_until(
        lambda: service.lasts(session(page)["token"]),
        timeout_s=_LIMIT_S,
        what="the next token",
    )
    page.reload()
    page.get_by_text("Available").wait_for()
    assert session(page)["oauth"]["refreshToken"] in service.refreshes

    page.goto(f"{visit.origin}/superapp/app/#/settings")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_text("You are signed out.").wait_for()
    wait_until(lambda: service.revoked == 1, timeout_s=_LIMIT_S, what="the session to be over at the service")
    assert session(page) == {}
    assert visit.complaints == []


def test_a_way_back_that_one_did_not_begin_signs_nobody_in(visit: Page, served: ServedSignIn) -> None:
    """Somebody's link with a code of their own, which would sign one in as them."""
    page = visit.open()
    page.get_by_role("button", name="Go on to sign in").wait_for()
    exchanged = len(served.service.tokens)
    page.goto(f"{visit.origin}/superapp/app/?code=theirs&state=theirs")
    page.get_by_text("Signing in did not come to its end. Try once more.").wait_for()
    assert "code=" not in page.url
    # The same with a sign-in of one's own under way.
    page.get_by_role("button", name="Go on to sign in").click()
    page.get_by_role("link", name="Let it in").wait_for()
    page.goto(f"{visit.origin}/superapp/app/?code=theirs&state=theirs")
    page.get_by_text("Signing in did not come to its end. Try once more.").wait_for()
    assert session(page) == {}
    assert len(served.service.tokens) == exchanged
