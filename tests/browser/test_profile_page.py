"""The page of a person at /superapp/@name in a real browser."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from lone import LoneHomeserver
from test_landing_page import SCREENSHOTS, SIZES, Visit

NAME, HIDDEN = "profiled", "unlisted"


@pytest.fixture(scope="module")
def people(homeserver: LoneHomeserver) -> str:
    """Somebody who shows themselves to everyone and somebody who does not; the name of the server."""
    for name, discover in ((NAME, "public"), (HIDDEN, "none")):
        with homeserver.account(name) as client:
            client.superapp("PUT", f"handles/{name}", {"discover": discover})
            server = client.user_id.partition(":")[2]
    return server


@pytest.fixture(params=[("phone", "light"), ("desktop", "dark")], ids="-".join)
def look(request: pytest.FixtureRequest) -> tuple[str, str]:
    look: tuple[str, str] = request.param
    return look


@pytest.fixture
def visit(chromium: Any, look: tuple[str, str]) -> Iterator[Visit]:
    width, height = SIZES[look[0]]
    context = chromium.new_context(color_scheme=look[1], viewport={"width": width, "height": height})
    yield Visit(context.new_page())
    context.close()


def test_it_shows_how_to_reach_somebody_and_how_to_join(
    visit: Visit, homeserver: LoneHomeserver, people: str, look: tuple[str, str]
) -> None:
    answered = visit.page.goto(f"{homeserver.process.client_url}/superapp/@{NAME}")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    visit.page.screenshot(path=SCREENSHOTS / f"profile-{'-'.join(look)}.png", full_page=True)
    assert answered.status == 200
    assert visit.complaints == []
    ours = urlsplit(homeserver.process.client_url).netloc
    assert {urlsplit(url).netloc for url in visit.requests} == {ours}
    handle = f"@{NAME}:{people}"
    assert visit.page.get_by_role("heading", level=1).inner_text() == handle
    assert visit.page.get_by_role("img", name="QR code of the address of this page").is_visible()
    links = {
        name: visit.page.get_by_role("link", name=name, exact=True).get_attribute("href")
        for name in ("Chat in your app", "Choose an app", "Pay")
    }
    assert links == {
        "Chat in your app": f"matrix:u/{NAME}:{people}?action=chat",
        "Choose an app": f"https://matrix.to/#/@{NAME}:{people}",
        "Pay": f"payto://matrix/{NAME}%3A{people.replace(':', '%3A')}",
    }
    assert visit.page.get_by_role("heading", name="No account yet?").is_visible()
    overflow = visit.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow == 0
    assert visit.page.get_by_role("main").count() == 1
    assert visit.page.evaluate("document.scripts.length") == 0
    # Dark modules on light in either scheme, or cameras do not read it.
    assert visit.page.locator(".qr").evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.parametrize("look", [("desktop", "light")])
def test_the_keyboard_reaches_the_links_and_one_sees_where_it_is(
    visit: Visit, homeserver: LoneHomeserver, people: str
) -> None:
    visit.page.goto(f"{homeserver.process.client_url}/superapp/@{NAME}")
    reached: list[str] = []
    for _ in range(4):
        visit.page.keyboard.press("Tab")
        reached.append(visit.page.evaluate("document.activeElement.innerText"))
        assert visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached == ["Chat in your app", "Choose an app", "Pay", f"More about {people}"]


@pytest.mark.parametrize("look", [("phone", "dark")])
def test_a_hidden_handle_and_an_absent_one_give_the_same_page(
    visit: Visit, homeserver: LoneHomeserver, people: str
) -> None:
    def page_of(text: str) -> tuple[int, str]:
        answered = visit.page.goto(f"{homeserver.process.client_url}/superapp/@{text}")
        return answered.status, visit.page.content()

    absent = page_of("nobodyhere")
    assert absent[0] == 404
    assert absent == page_of(HIDDEN) == page_of(f"{HIDDEN}:{people}")
    assert visit.page.get_by_role("heading", name="Nobody to show").is_visible()
    assert visit.page.get_by_role("heading", name="No account yet?").is_visible()
