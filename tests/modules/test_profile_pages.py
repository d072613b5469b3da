"""The page of a person: who has one, and what it says."""

from http import HTTPStatus
from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.api.errors import SynapseError
from twisted.web.test.requesthelper import DummyRequest

from super_app.names import WEB_PREFIX
from synapse_super_app.web.feature import WebFeature
from synapse_super_app.web.served import HEADERS

SERVER = "hs1.test"


@pytest.fixture
def homeserver() -> FakeHomeserver:
    homeserver = FakeHomeserver(SERVER, config={"features": {"calls": False, "payments": False}})
    users = {name: homeserver.register(name) for name in ("alice", "exact", "hidden")}
    homeserver.start()
    for name, discover in (("alice", "public"), ("exact", "exact"), ("hidden", "none")):
        homeserver.call("PUT", f"handles/{name}", users[name], {"discover": discover})
    homeserver.call("PUT", "handles/wonder", users["alice"], {"as": "alias"})
    return homeserver


def page(homeserver: FakeHomeserver, text: str) -> tuple[HTTPStatus, str]:
    feature = next(each for each in homeserver.module.features if isinstance(each, WebFeature))
    assert feature._profiles is not None
    status, content = homeserver.result(feature._profiles.answer(text))
    return status, content.decode()


def visit(homeserver: FakeHomeserver, address: str = "192.0.2.7") -> Any:
    """A request for alice's page that was answered."""
    feature = next(each for each in homeserver.module.features if isinstance(each, WebFeature))
    assert feature._profiles is not None
    request: Any = DummyRequest([b"@alice"])
    request.path = f"{WEB_PREFIX}/%40alice".encode()
    request.get_client_ip_if_available = lambda: address
    homeserver.result(feature._profiles._async_render_GET(request))
    return request


@pytest.mark.parametrize("text", ["@alice", "@ALICE", "@alice:hs1.test"])
def test_a_public_handle_has_a_page_with_links(homeserver: FakeHomeserver, text: str) -> None:
    status, content = page(homeserver, text)
    assert status == HTTPStatus.OK
    assert "<bdi>@alice:hs1.test</bdi>" in content
    assert 'href="matrix:u/alice:hs1.test?action=chat"' in content
    assert 'href="https://matrix.to/#/@alice:hs1.test"' in content
    assert "payto:" not in content
    assert "<svg" in content


def test_an_alias_leads_to_its_account(homeserver: FakeHomeserver) -> None:
    status, content = page(homeserver, "@wonder")
    assert status == HTTPStatus.OK
    assert "<bdi>@wonder:hs1.test</bdi>" in content
    assert 'href="https://matrix.to/#/@alice:hs1.test"' in content


@pytest.mark.parametrize(
    "text", ["@exact", "@hidden", "@hidden:hs1.test", "@alice:hs2.test", "@", "@<script>alert(1)</script>", "@" * 5_000]
)
def test_whoever_is_not_shown_to_everyone_has_the_page_of_nobody(homeserver: FakeHomeserver, text: str) -> None:
    status, content = page(homeserver, text)
    assert (status, content) == page(homeserver, "@nobody")
    assert status == HTTPStatus.NOT_FOUND
    assert "No account yet?" in content


def test_a_page_goes_out_with_a_strict_policy(homeserver: FakeHomeserver) -> None:
    request = visit(homeserver)
    headers = {name: request.responseHeaders.getRawHeaders(name) for name in HEADERS}
    assert headers == {name: [value] for name, value in HEADERS.items()}
    assert "script-src" not in HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in HEADERS["Content-Security-Policy"]
    assert request.responseCode == HTTPStatus.OK
    assert b"@alice:hs1.test" in b"".join(request.written)


def test_one_address_has_so_many_pages_a_minute() -> None:
    homeserver = FakeHomeserver(SERVER, config={"requests": {"public": 2}})
    homeserver.start()
    for _ in range(2):
        visit(homeserver)
    with pytest.raises(SynapseError) as refused:
        visit(homeserver)
    assert (refused.value.code, refused.value.errcode) == (429, "ORG.SUPERAPP.TOO_MANY_REQUESTS")
    visit(homeserver, "192.0.2.8")
    homeserver.advance(31)
    visit(homeserver)
