"""The page at /superapp/ in a real browser."""

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from lone import LoneHomeserver

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
Scheme = Literal["light", "dark"]
SIZES = {"phone": (390, 844), "desktop": (1280, 900)}


class Visit:
    """A ``playwright.sync_api.Page``, and everything that the browser complained about or asked for."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.refused: dict[str, str] = {}
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("requestfailed", lambda request: self.refused.__setitem__(request.url, request.failure))


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> Scheme:
    scheme: Scheme = request.param
    return scheme


@pytest.fixture(params=list(SIZES))
def size(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def visit(chromium: Any, homeserver: LoneHomeserver, scheme: Scheme, size: str) -> Iterator[Visit]:
    width, height = SIZES[size]
    context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
    opened = Visit(context.new_page())
    opened.page.goto(f"{homeserver.process.client_url}/superapp/")
    yield opened
    context.close()


def test_it_is_whole_without_complaint_and_asks_no_other_host(
    visit: Visit, homeserver: LoneHomeserver, scheme: Scheme, size: str
) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    visit.page.screenshot(path=SCREENSHOTS / f"landing-{size}-{scheme}.png", full_page=True)
    assert visit.page.title().endswith("find, call and pay people on Matrix")
    assert visit.complaints == []
    ours = urlsplit(homeserver.process.client_url).netloc
    assert {urlsplit(url).netloc for url in visit.requests} == {ours}
    assert {urlsplit(url).path for url in visit.requests} == {
        "/superapp/",
        "/superapp/style.css",
        "/superapp/icon.svg",
    }


def test_it_fits_its_window_and_shows_what_one_needs(visit: Visit, homeserver: LoneHomeserver) -> None:
    overflow = visit.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow == 0
    assert visit.page.get_by_role("heading", level=1).count() == 1
    assert visit.page.get_by_role("heading", name="How to join").is_visible()
    assert visit.page.get_by_text(homeserver.process.client_url, exact=True).is_visible()
    assert visit.page.get_by_role("main").count() == 1
    assert visit.page.locator("html").get_attribute("lang") == "en"
    for image in visit.page.locator("img").all():
        assert image.get_attribute("alt") is not None


def test_the_keyboard_reaches_everything_and_one_sees_where_it_is(visit: Visit) -> None:
    reached: list[str] = []
    for _ in range(6):
        visit.page.keyboard.press("Tab")
        reached.append(visit.page.evaluate("document.activeElement.innerText"))
        outline = visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
    assert reached == [
        "Skip to how to join",
        "Open your wallet",
        "How to join",
        "your wallet",
        "For developers: the event",
        "the API as an OpenAPI document",
    ]


def test_the_event_opens_and_the_document_is_there(visit: Visit) -> None:
    visit.page.get_by_text("For developers: the event", exact=True).click()
    assert visit.page.get_by_text("org.superapp.payment").is_visible()
    with visit.page.expect_navigation() as navigation:
        visit.page.get_by_role("link", name="the API as an OpenAPI document").click()
    assert navigation.value.status == 200
    assert navigation.value.json()["openapi"] == "3.1.0"


def test_nothing_foreign_can_be_made_to_run_or_load(visit: Visit) -> None:
    # What an injection would try; it also shows that a violation would have been seen above.
    visit.page.evaluate(
        """async () => {
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            const image = document.createElement("img");
            const refused = new Promise((resolve) => { image.onerror = resolve; });
            image.src = "https://elsewhere.invalid/x.png";
            document.body.append(script, image);
            await refused;
        }"""
    )
    assert visit.page.evaluate("window.ran === undefined")
    assert any("default-src 'none'" in complaint for complaint in visit.complaints)
    assert visit.refused == {"https://elsewhere.invalid/x.png": "csp"}


def luminance(colour: str) -> float:
    """WCAG 2.2, "relative luminance"."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("text", ["ink", "soft", "accent"])
@pytest.mark.parametrize("background", ["ground", "surface", "glow"])
def test_text_stands_out_as_wcag_aa_wants(text: str, background: str) -> None:
    css = files("synapse_super_app.web").joinpath("page", "style.css").read_text(encoding="utf-8")
    schemes = [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root {(.*?)}", css, re.DOTALL)]
    assert len(schemes) == 2
    for colours in schemes:
        darker, lighter = sorted((luminance(colours[text]), luminance(colours[background])))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5
