"""The page at /superapp/: what it says, and with which headers it goes out."""

import html
import re
from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeHomeserver
from twisted.web.test.requesthelper import DummyRequest

from synapse_super_app.config import Config, parse_config
from synapse_super_app.web.claim import claim_files
from synapse_super_app.web.feature import landing_page
from synapse_super_app.web.prices import price_files

ALL_OFF = {"directory": False, "calls": False, "payments": False, "web": True}


def text_of(config: Config, server_name: str = "example.org") -> str:
    page = landing_page(server_name=server_name, homeserver_url="https://chat.example.org/", config=config)
    without_tags = re.sub(r"<[^>]+>", " ", page[""].content.decode())
    return html.unescape(re.sub(r"\s+", " ", without_tags))


def fetch(path: str) -> Any:
    """A request of Twisted's own tests, after it was answered."""
    homeserver = FakeHomeserver("hs1.test", config={"features": ALL_OFF})
    homeserver.start()
    resource = homeserver.api.web_resources["/superapp"]
    request: Any = DummyRequest([])
    request.path = path.encode()
    request.write(resource.render(request))
    return request


def header(request: Any, name: str) -> str:
    (value,) = request.responseHeaders.getRawHeaders(name)
    return str(value)


def test_it_says_where_to_sign_in_and_who_we_are() -> None:
    text = text_of(Config())
    assert (
        "example.org is a Matrix homeserver"
        in landing_page(server_name="example.org", homeserver_url="https://chat.example.org/", config=Config())[
            ""
        ].content.decode()
    )
    assert "change the homeserver to https://chat.example.org" in text
    assert "@you:example.org" in text


@pytest.mark.parametrize(
    ("feature", "sentence"),
    [("directory", "Find somebody"), ("calls", "Ring them"), ("payments", "Pay them")],
)
def test_it_offers_what_is_on_and_nothing_else(feature: str, sentence: str) -> None:
    assert sentence in text_of(parse_config({"features": {**ALL_OFF, feature: True}}))
    assert sentence not in text_of(parse_config({"features": {feature: False}}))


@pytest.mark.parametrize(
    ("off", "headline"),
    [
        ((), "People you can find, call and pay."),
        (("payments",), "People you can find and call."),
        (("payments", "directory"), "People you can call."),
        (("payments", "directory", "calls"), "Chat with everyone."),
    ],
)
def test_its_headline_promises_what_is_on(off: tuple[str, ...], headline: str) -> None:
    assert headline in text_of(parse_config({"features": dict.fromkeys(off, False)}))


def test_with_everything_else_off_it_still_says_how_to_join() -> None:
    text = text_of(parse_config({"features": ALL_OFF}))
    assert "How to join" in text
    assert "Things to try" not in text
    assert "What you get" not in text


def test_it_says_whose_money_it_is() -> None:
    assert "PTS: points that nobody can cash in or out." in text_of(Config())
    custodial = parse_config(
        {
            "payments": {
                "mode": "custodial",
                "assets": [{"code": "EUR"}],
                "acknowledge": {"operator": "Example Bank", "licence": "No. 12 <AT>"},
            }
        }
    )
    assert "Money here is held by Example Bank (licence: No. 12 <AT>)." in text_of(custodial)


def test_values_from_the_config_cannot_become_markup() -> None:
    page = landing_page(server_name="<b>x</b>", homeserver_url="https://x/", config=Config())[""].content
    assert b"<b>x</b>" not in page
    assert b"&lt;b&gt;x&lt;/b&gt;" in page


@pytest.mark.parametrize(
    ("path", "content_type", "start"),
    [
        ("/superapp/", "text/html; charset=utf-8", b"<!doctype html>"),
        ("/superapp/style.css", "text/css; charset=utf-8", b"/*"),
        ("/superapp/icon.svg", "image/svg+xml", b"<svg"),
    ],
)
def test_its_files_go_out_with_strict_headers(path: str, content_type: str, start: bytes) -> None:
    request = fetch(path)
    assert request.responseCode is None  # Twisted's default, 200
    assert b"".join(request.written).startswith(start)
    assert header(request, "Content-Type") == content_type
    policy = header(request, "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ")
    assert "script-src" not in policy
    assert "unsafe" not in policy
    assert header(request, "X-Content-Type-Options") == "nosniff"
    assert header(request, "Referrer-Policy") == "no-referrer"


@pytest.mark.parametrize(
    "path",
    ["/superapp/nothing", "/superapp/../config.py", "/superapp/feature.py", "/superapp//", "/superapp/style.css/"],
)
def test_a_path_that_is_no_file_is_404(path: str) -> None:
    request = fetch(path)
    assert request.responseCode == 404
    assert b"".join(request.written) == b"There is nothing here.\n"


def test_without_the_slash_it_sends_there() -> None:
    request = fetch("/superapp")
    assert request.responseCode == 308
    assert header(request, "Location") == "superapp/"


def test_it_refers_to_no_other_host() -> None:
    files = landing_page(server_name="example.org", homeserver_url="https://chat.example.org/", config=Config())
    for name, file in files.items():
        links = re.findall(r"""(?:src|href|url|xlink:href)\s*[=(]\s*["']?([^"')\s>]+)""", file.content.decode())
        for link in links:
            assert "//" not in link, (name, link)


def test_with_the_feature_off_there_is_no_route() -> None:
    homeserver = FakeHomeserver("hs1.test", config={"features": {**ALL_OFF, "web": False, "directory": True}})
    homeserver.start()
    assert "/superapp" not in homeserver.api.web_resources


def test_the_files_are_in_the_package() -> None:
    import synapse_super_app.web

    page = Path(synapse_super_app.web.__file__).parent / "page"
    names = {
        "index.html",
        "style.css",
        "icon.svg",
        "claim.html",
        "claim.js",
        "prices.html",
        "profile.html",
        "profile.css",
    }
    assert {path.name for path in page.iterdir()} == names


def test_the_page_of_a_link_to_money_says_how_to_claim_it_and_runs_one_script_of_its_own() -> None:
    files = claim_files(server_name="<b>x</b>", homeserver_url="https://chat.example.org/")
    page = files["claim/"]
    text = page.content.decode()
    assert "https://chat.example.org</code>" in text
    assert "<b>x</b>" not in text
    assert re.findall(r"<script[^>]*>", text) == ['<script src="claim.js" defer>']
    assert "script-src 'self';" in page.headers["Content-Security-Policy"]
    # What claims the money is read here and sent nowhere.
    script = files["claim/claim.js"].content.decode()
    assert not re.search(r"fetch|XMLHttpRequest|sendBeacon|WebSocket|import|//[a-z]", script)
    # Without payments there is no such page.
    assert fetch("/superapp/claim/").responseCode == 404


def test_the_page_of_prices_says_what_the_operator_has_set() -> None:
    payments: dict[str, Any] = {
        "mode": "custodial",
        "acknowledge": {"operator": "<b>Bank</b>", "licence": "none"},
        "assets": [{"code": "EUR"}, {"code": "BHD"}],
        "jurisdictions": {"allow": ["FR", "DE"]},
        "limits": {
            "default_tier": "new",
            "tiers": {"known": {"balance": {"BHD": 1_500}}, "new": {"sent": {"EUR": {"day": 5_000, "payment": 100}}}},
        },
    }
    (page,) = price_files(server_name="x.test", config=parse_config({"payments": payments})).values()
    said = page.content.decode()
    assert "<b>Bank" not in said
    assert "EUR, BHD" in said
    assert "DE, FR" in said
    wanted = ["new: sent, a payment: 1.00 EUR", "new: sent, a day: 50.00 EUR", "known: in the wallet: 1.500 BHD"]
    assert [said.index(each) for each in wanted] == sorted(said.index(each) for each in wanted)
    assert "<script" not in said
    (page,) = price_files(server_name="x.test", config=parse_config({})).values()
    said = page.content.decode()
    assert "points that nobody can cash in or out" in said
    assert "sets no limits" in said
    assert "costs nothing here" in said
    fees = [
        {"currency": "EUR", "reach": "elsewhere", "fixed": 25, "basis_points": 150, "at_least": 30, "at_most": 500},
        {"currency": "EUR", "reach": "here", "basis_points": 5, "free_up_to": 1_000},
    ]
    (page,) = price_files(server_name="x.test", config=parse_config({"payments": {**payments, "fees": fees}})).values()
    said = page.content.decode()
    assert "costs nothing here" not in said
    elsewhere = (
        "people of other homeservers in EUR: 0.25 EUR and 1.5 % of the amount, at least 0.30 EUR, at most 5.00 EUR"
    )
    assert elsewhere in said
    assert "people of this homeserver in EUR: 0.05 % of the amount, nothing up to 10.00 EUR" in said
    # Without payments there is nothing to say.
    assert fetch("/superapp/prices").responseCode == 404
