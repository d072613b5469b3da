"""The web app as files: what its documents ask for is there, small enough, and goes out with the right headers."""

import gzip
import re
from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeHomeserver
from twisted.web.test.requesthelper import DummyRequest

from synapse_super_app.web.bundle import app_files

FILES = app_files()
FIRST_LOAD_LIMIT_BYTES = 60_000


def fetch(path: str, config: dict[str, Any] | None = None) -> Any:
    homeserver = FakeHomeserver("hs1.test", config=config or {})
    homeserver.start()
    resource = homeserver.api.web_resources["/superapp"]
    request: Any = DummyRequest([])
    request.path = path.encode()
    request.write(resource.render(request))
    return request


def header(request: Any, name: str) -> str:
    (value,) = request.responseHeaders.getRawHeaders(name)
    return str(value)


def policy_of(path: str, config: dict[str, Any] | None = None) -> dict[str, str]:
    parts = header(fetch(path, config), "Content-Security-Policy").split("; ")
    return {name: value for name, _, value in (part.partition(" ") for part in parts)}


def asked_for(document: str) -> set[str]:
    """The files that a document loads at once, by their path below the prefix."""
    html = FILES[document].content.decode()
    found = re.findall(r'(?:src|href)="\.\./([^"]+)"', html)
    return {path for path in found if path.startswith("assets/")}


@pytest.mark.parametrize("document", ["app/", "recover/", "widget/"])
def test_a_document_has_nothing_inline_and_all_that_it_asks_for_is_there(document: str) -> None:
    html = FILES[document].content.decode()
    assert re.findall(r"<script(?![^>]* src=)|<style| style=| on\w+=", html) == []
    assert len(asked_for(document)) >= 2
    for path in re.findall(r'(?:src|href)="([^"]+)"', html):
        assert path.startswith("../"), path
        assert path.removeprefix("../") in {*FILES, "icon.svg"}, path


def test_every_part_that_a_script_loads_later_is_there() -> None:
    for path, file in FILES.items():
        if path.endswith(".js"):
            for name in re.findall(r'["`]\./([\w.-]+\.(?:js|css))["`]', file.content.decode()):
                assert f"assets/{name}" in FILES, (path, name)


def test_the_first_load_stays_small() -> None:
    size = sum(len(gzip.compress(FILES[path].content, 6)) for path in asked_for("app/"))
    size += len(gzip.compress(FILES["app/"].content, 6))
    # Scripts that these import at once stand in the document as well, to be loaded beside each other.
    for path in asked_for("app/"):
        if path.endswith(".js"):
            imported = re.findall(r'(?:from|import)["`]\./([\w.-]+\.js)["`]', FILES[path].content.decode())
            assert {f"assets/{name}" for name in imported} <= asked_for("app/")
    assert 10_000 < size < FIRST_LOAD_LIMIT_BYTES


def test_no_file_names_another_host() -> None:
    # Names of XML and in licences are never asked for; matrix.to is read in links that people paste.
    # One of an extension of RTP, as it stands in the descriptions of calls.
    harmless = ("www.w3.org/", "matrix.to/", "react.dev/", "localhost", "aomediacodec.github.io/av1-rtp-spec/")
    for path, file in FILES.items():
        if path.endswith((".js", ".css", ".webmanifest", "/")):
            for link in re.findall(r"https?://([\w.-]+/?[^\s\"'`)]*)", file.content.decode()):
                assert link.startswith(harmless), (path, link)


@pytest.mark.parametrize("document", ["app/", "recover/", "widget/"])
def test_a_document_may_run_and_ask_nothing_but_what_is_ours(document: str) -> None:
    policy = policy_of(f"/superapp/{document}")
    assert policy["default-src"] == "'none'"
    for part in ("script-src", "style-src", "connect-src"):
        assert policy[part] == "'self'", part
    assert "unsafe" not in repr(policy)
    assert policy["require-trusted-types-for"] == "'script'"


def test_one_policy_of_trusted_types_is_let_in_for_the_service_worker_of_the_app() -> None:
    assert policy_of("/superapp/app/")["trusted-types"] == "superapp-worker"
    assert policy_of("/superapp/widget/")["trusted-types"] == "'none'"
    # A worker is bound by its own answer, not by that of the page.
    assert policy_of("/superapp/sw.js") == {"default-src": "'none'", "connect-src": "'self'"}
    assert header(fetch("/superapp/sw.js"), "Cache-Control") == "no-cache"


def test_the_app_may_not_be_framed_and_the_widget_may() -> None:
    assert policy_of("/superapp/app/")["frame-ancestors"] == "'none'"
    assert policy_of("/superapp/widget/")["frame-ancestors"] == "*"


def test_only_the_app_may_talk_to_where_sign_in_is_delegated_to() -> None:
    config = {"web": {"sign_in": "https://account.example.org"}}
    assert policy_of("/superapp/app/", config)["connect-src"] == "'self' https://account.example.org"
    assert policy_of("/superapp/widget/", config)["connect-src"] == "'self'"


def test_the_app_may_talk_to_the_call_server_and_to_those_that_the_operator_allows(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s" * 32)
    livekit = {"url": "wss://sfu.hs1.test/rtc", "key": "K", "secret_path": str(tmp_path / "secret")}
    config = {"calls": {"livekit": livekit}, "web": {"call_servers": ["https://hs2.test", "wss://sfu.hs2.test"]}}
    assert policy_of("/superapp/app/", config)["connect-src"].split() == [
        "'self'",
        "wss://sfu.hs1.test",
        "https://sfu.hs1.test",
        "https://hs2.test",
        "wss://sfu.hs2.test",
    ]
    assert policy_of("/superapp/widget/", config)["connect-src"] == "'self'"
    homeserver = FakeHomeserver("hs1.test", config=config)
    homeserver.start()
    about = homeserver.call("GET", "about")
    assert about["call_server"] == "https://hs1.test/_synapse/client/superapp/livekit"


def test_documents_are_asked_for_anew_and_what_is_named_by_its_content_is_kept() -> None:
    (script,) = [
        path for path in asked_for("app/") if re.search(rb"src=\"\.\./" + path.encode(), FILES["app/"].content)
    ]
    assert header(fetch("/superapp/app/"), "Cache-Control") == "no-cache"
    kept = fetch(f"/superapp/{script}")
    assert header(kept, "Cache-Control") == "public, max-age=31536000, immutable"
    assert header(kept, "Content-Type") == "text/javascript; charset=utf-8"
    assert header(fetch("/superapp/manifest.webmanifest"), "Content-Type") == "application/manifest+json"


def test_without_the_slash_it_sends_to_the_document() -> None:
    request = fetch("/superapp/app")
    assert request.responseCode == 308
    assert header(request, "Location") == "app/"


def test_what_a_page_must_know_is_told_before_anybody_signs_in() -> None:
    homeserver = FakeHomeserver("hs1.test")
    homeserver.start()
    about = homeserver.call("GET", "about")
    assert about["server_name"] == "hs1.test"
    assert about["assets"] == [{"code": "PTS", "scale": 0}]
    assert set(about["features"]) == {"directory", "calls", "payments", "web"}
    assert "operator" not in about
    assert "call_server" not in about
