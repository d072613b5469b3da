"""The commands that ask a running homeserver, against one that answers from a table."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from super_app.money import MAX_AMOUNT_MINOR
from synapse_super_app.commands.admin_access import TOKEN_VARIABLE, minor_units
from synapse_super_app.commands.console import CommandFailed
from synapse_super_app.commands.main import main

API = "/_synapse/client/superapp/v1"
WALLET = {
    "accounts": [
        {"currency": "EUR", "scale": 2, "available": 0, "held": 0},
        {"currency": "PTS", "scale": 0, "available": 0, "held": 0},
    ]
}
LINK = {
    "peer": "hs2.example",
    "state": "waiting_for_peer",
    "waits": ["waits for the operator of hs2.example to open its side"],
    "currencies": [{"currency": "EUR", "scale": 2, "granted_minor": 100_000, "due_to_minor": 250, "due_from_minor": 0}],
}


class Table(ThreadingHTTPServer):
    """Answers by method and path; remembers what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[tuple[str, str], tuple[int, Any]] = {
            ("GET", "/_matrix/client/v3/account/whoami"): (200, {"user_id": "@operator:hs1.example"}),
            ("GET", f"{API}/wallet"): (200, WALLET),
        }
        self.asked: list[tuple[str, str, Any, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def body_of(self, method: str, path: str) -> Any:
        (body,) = [asked[2] for asked in self.asked if asked[:2] == (method, path)]
        return body


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Table  # pyright: ignore[reportIncompatibleVariableOverride]

    def handle_any(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(
            (self.command, self.path, json.loads(raw) if raw else None, self.headers.get("Authorization"))
        )
        status, content = self.server.answers.get(
            (self.command, self.path), (404, {"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"})
        )
        answer = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = do_POST = handle_any  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[Table]:
    monkeypatch.setenv(TOKEN_VARIABLE, "secret-token")
    table = Table()
    threading.Thread(target=table.serve_forever, kwargs={"poll_interval": 0.01}).start()
    yield table
    table.shutdown()
    table.server_close()


@pytest.mark.parametrize(
    ("text", "scale", "minor"),
    [("12.50", 2, 1250), ("12.5", 2, 1250), ("12", 2, 1200), ("0.01", 2, 1), ("7", 0, 7), ("1.000", 3, 1000)],
)
def test_amounts_are_read_exactly(text: str, scale: int, minor: int) -> None:
    assert minor_units(text, "XYZ", scale) == minor


@pytest.mark.parametrize(
    ("text", "scale", "remedy"),
    [
        ("1.005", 2, "write it as 12.50"),
        ("1.5", 0, "write it as 12"),
        ("1,50", 2, "write it as 12.50"),
        ("-1", 2, "write it as 12.50"),
        ("1e3", 2, "write it as 12.50"),
        ("", 2, "write it as 12.50"),
        ("١٢", 2, "write it as 12.50"),
        ("90071992547409.92", 2, f"the most is {MAX_AMOUNT_MINOR} minor units"),
    ],
)
def test_what_is_no_exact_amount_is_refused(text: str, scale: int, remedy: str) -> None:
    with pytest.raises(CommandFailed, match=remedy):
        minor_units(text, "XYZ", scale)


def test_issue_asks_with_minor_units_and_says_what_happened(there: Table, capsys: pytest.CaptureFixture[str]) -> None:
    there.answers["POST", f"{API}/admin/issue"] = (
        200,
        {"user_id": "@alice:hs1.example", "amount": 1250, "currency": "EUR", "reference": "gift"},
    )
    assert main(["issue", "alice", "12.50", "EUR", "--reference", "gift", "--url", there.url]) == 0
    assert there.body_of("POST", f"{API}/admin/issue") == {
        "user_id": "@alice:hs1.example",
        "amount": 1250,
        "currency": "EUR",
        "reference": "gift",
    }
    assert {asked[3] for asked in there.asked} == {"Bearer secret-token"}
    assert capsys.readouterr().out == "@alice:hs1.example got 12.50 EUR (gift).\n"


def test_a_refusal_is_printed_as_the_homeservers_sentence(there: Table, capsys: pytest.CaptureFixture[str]) -> None:
    refusal = {"errcode": "ORG.SUPERAPP.ADMIN_ONLY", "error": "Only a server admin may do this."}
    there.answers["POST", f"{API}/admin/issue"] = (403, refusal)
    assert main(["issue", "@bob:hs1.example", "1", "PTS", "--reference", "x", "--url", there.url]) == 1
    assert capsys.readouterr().err == "super-app: Only a server admin may do this. (ORG.SUPERAPP.ADMIN_ONLY)\n"


def test_a_currency_that_the_homeserver_does_not_know(there: Table, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["issue", "alice", "1", "USD", "--reference", "x", "--url", there.url]) == 1
    assert "does not pay in 'USD'; it knows: EUR, PTS" in capsys.readouterr().err


def test_opening_a_link_grants_credit_in_minor_units(there: Table, capsys: pytest.CaptureFixture[str]) -> None:
    there.answers["POST", f"{API}/admin/links"] = (200, LINK)
    options = ["--peer", "hs2.example", "--currency", "EUR", "--limit", "1000.00", "--currency", "PTS", "--limit", "5"]
    assert main(["link", "open", *options, "--url", there.url]) == 0
    assert there.body_of("POST", f"{API}/admin/links") == {
        "peer": "hs2.example",
        "currencies": [
            {"currency": "EUR", "credit_limit_minor": 100_000},
            {"currency": "PTS", "credit_limit_minor": 5},
        ],
    }
    assert capsys.readouterr().out == (
        "hs2.example  waiting_for_peer\n"
        "  waits for the operator of hs2.example to open its side\n"
        "  we grant 1000.00 EUR, it owes us 0.00 EUR, we owe it 2.50 EUR; net we owe it 2.50 EUR\n"
    )


def test_each_currency_of_a_link_needs_its_limit(there: Table, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--peer", "hs2.example", "--currency", "EUR", "--currency", "PTS", "--limit", "5"]
    assert main(["link", "open", *options, "--url", there.url]) == 1
    assert "each --currency needs its --limit: there are 2 and 1" in capsys.readouterr().err
    assert there.asked == []


def test_links_are_listed(there: Table, capsys: pytest.CaptureFixture[str]) -> None:
    there.answers["GET", f"{API}/admin/links"] = (200, {"links": []})
    assert main(["link", "list", "--url", there.url]) == 0
    assert capsys.readouterr().out == "There is no link yet; open one with super-app link open.\n"
    halted = {**LINK, "state": "frozen", "reason": "It signed two objects with one number."}
    there.answers["GET", f"{API}/admin/links"] = (200, {"links": [LINK, halted]})
    assert main(["link", "list", "--url", there.url]) == 0
    assert "hs2.example  frozen: It signed two objects with one number.\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "path", "body"),
    [
        (["suspend", "hs2.example:8448", "--reason", "maintenance"], "/suspend", {"reason": "maintenance"}),
        (["suspend", "hs2.example:8448"], "/suspend", {}),
        (["resume", "hs2.example:8448"], "/resume", {}),
        (["close", "hs2.example:8448", "--reason", "moving"], "/close", {"reason": "moving"}),
    ],
)
def test_a_link_is_suspended_resumed_and_closed(
    there: Table, capsys: pytest.CaptureFixture[str], words: list[str], path: str, body: dict[str, str]
) -> None:
    route = f"{API}/admin/links/hs2.example%3A8448{path}"
    there.answers["POST", route] = (200, {**LINK, "state": "suspended", "waits": ["waits for you"]})
    assert main(["link", *words, "--url", there.url]) == 0
    assert there.body_of("POST", route) == body
    assert capsys.readouterr().out.startswith("hs2.example  suspended\n  waits for you\n")


def test_the_limit_of_a_link_that_is_not_there_is_not_changed(there: Table, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["link", "limit", "hs2.example", "--currency", "EUR", "--limit", "5", "--max-in-flight", "3"]
    unknown = {"errcode": "ORG.SUPERAPP.UNKNOWN_PEER", "error": "There is no link with 'hs2.example'."}
    there.answers["GET", f"{API}/admin/links/hs2.example"] = (404, unknown)
    assert main([*words, "--url", there.url]) == 1
    assert "There is no link with 'hs2.example'." in capsys.readouterr().err
    there.answers["GET", f"{API}/admin/links/hs2.example"] = (200, LINK)
    there.answers["POST", f"{API}/admin/links"] = (200, LINK)
    assert main([*words, "--url", there.url]) == 0
    assert there.body_of("POST", f"{API}/admin/links") == {
        "peer": "hs2.example",
        "currencies": [{"currency": "EUR", "credit_limit_minor": 500, "max_in_flight": 3}],
    }


def test_one_link_is_shown_with_its_keys_and_evidence(there: Table, capsys: pytest.CaptureFixture[str]) -> None:
    there.answers["GET", f"{API}/admin/links/hs2.example"] = (
        200,
        {
            **LINK,
            "our_fingerprint": "0011 2233",
            "their_fingerprint": "4455 6677",
            "evidence": {"false_seen": 2},
            "unsent": 3,
            "last_error": "no answer",
        },
    )
    assert main(["link", "show", "hs2.example", "--url", there.url]) == 0
    told = capsys.readouterr().out
    assert "  our payment key: 0011 2233\n  its payment key: 4455 6677\n" in told
    assert "  evidence: false_seen, 2; see super-app link evidence hs2.example\n" in told
    assert "  not acknowledged: 3 objects\n  last error: no answer\n" in told


def test_evidence_is_shown_and_can_be_handed_on(there: Table, capsys: pytest.CaptureFixture[str]) -> None:
    route = ("GET", f"{API}/admin/links/hs2.example/evidence")
    there.answers[route] = (200, {"evidence": []})
    assert main(["link", "evidence", "hs2.example", "--url", there.url]) == 0
    assert capsys.readouterr().out == "Nothing is kept against hs2.example.\n"
    kept = {"evidence": [{"kind": "false_seen", "recorded_ms": 5, "first": "", "second": '{"seq":2}'}]}
    there.answers[route] = (200, kept)
    assert main(["link", "evidence", "hs2.example", "--url", there.url]) == 0
    assert capsys.readouterr().out == 'false_seen, recorded at 5 ms since 1970\n  {"seq":2}\n'
    assert main(["link", "evidence", "hs2.example", "--json", "--url", there.url]) == 0
    assert json.loads(capsys.readouterr().out) == kept


def test_the_payment_key_is_replaced(there: Table, capsys: pytest.CaptureFixture[str]) -> None:
    links = [{**LINK, "our_fingerprint": "0011"}, {**LINK, "peer": "hs3.example", "our_fingerprint": "4455"}]
    there.answers["POST", f"{API}/admin/payment-key"] = (
        200,
        {"key_id": "ed25519:abc", "fingerprint": "0011", "links": links},
    )
    assert main(["link", "rotate-key", "--url", there.url]) == 0
    assert capsys.readouterr().out == (
        "The payment key is now ed25519:abc, fingerprint 0011.\n"
        "  hs2.example  knows it as soon as it is reached\n"
        "  hs3.example  waits\n"
    )


def test_keys_are_pinned_anew_with_what_the_other_operator_read_out(
    there: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    waits = {**LINK, "state": "recovering", "waits": ["waits for the operator of hs2.example"]}
    there.answers["POST", f"{API}/admin/links/hs2.example/repin"] = (200, waits)
    assert main(["link", "repin", "hs2.example", "--fingerprint", "0011 2233", "--url", there.url]) == 0
    assert there.asked[-1][2] == {"fingerprint": "0011 2233", "take_back": False}
    assert capsys.readouterr().out.startswith("hs2.example  recovering\n  waits for the operator of hs2.example\n")


def test_login_keeps_the_token_from_others(there: Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there.answers["POST", "/_matrix/client/v3/login"] = (
        200,
        {"user_id": "@operator:hs1.example", "access_token": "made-now", "device_id": "D"},
    )
    (tmp_path / "password").write_text("secret\n", encoding="utf-8")
    token = tmp_path / "token"
    token.write_text("old\n", encoding="ascii")
    token.chmod(0o644)
    options = ["--password-file", str(tmp_path / "password"), "--token-file", str(token), "--url", there.url]
    assert main(["login", "operator", *options]) == 0
    assert token.read_text(encoding="ascii") == "made-now\n"
    assert token.stat().st_mode & 0o077 == 0
    assert capsys.readouterr().out == f"{token} holds an access token of @operator:hs1.example.\n"
    assert main(["link", "list", "--token-file", str(token), "--url", there.url]) == 1
    assert there.asked[-1][3] == "Bearer made-now"


def test_without_a_token_it_says_how_to_get_one(
    there: Table, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE)
    assert main(["link", "list", "--url", there.url]) == 1
    assert "no access token: make one with super-app login NAME --token-file FILE" in capsys.readouterr().err
    assert main(["link", "list", "--url", there.url, "--token-file", "/nowhere"]) == 1
    assert "--token-file: cannot read /nowhere" in capsys.readouterr().err


def test_a_command_line_that_makes_no_sense_exits_with_2() -> None:
    for arguments in ([], ["nonsense"], ["link"], ["link", "open"], ["issue", "alice"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2


def test_a_command_does_without_synapse() -> None:
    # Importing it takes seconds, which a person would wait for at each command.
    seen = "import sys, synapse_super_app.commands.main; print('synapse' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
