"""tools/audit, asked of an advisory database on this machine: what it finds fails, and silence is no pass."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
KNOWN_TO_ALL = {("PyPI", "pyyaml", "5.3"): ["GHSA-old"], ("npm", "lodash", "4.17.15"): ["GHSA-older"]}


class Osv(ThreadingHTTPServer):
    """Answers ``POST /v1/querybatch`` as OSV does, from ``knows``: advisories by ecosystem, name and version."""

    knows: Mapping[tuple[str, str, str], list[str]] = KNOWN_TO_ALL
    asked = 0
    status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answers(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Osv)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        results: list[dict[str, Any]] = []
        for query in body["queries"]:
            server.asked += 1
            package = query["package"]
            found = server.knows.get((package["ecosystem"], package["name"], query["version"]), [])
            results.append({"vulns": [{"id": each} for each in found]} if found else {})
        content = json.dumps({"results": results}).encode()
        self.send_response(server.status if self.path == "/v1/querybatch" else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: pytest shows what the tool says."""


@pytest.fixture
def osv() -> Iterator[Osv]:
    with Osv(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The locks of a project with three dependencies."""
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "run.txt").write_text(
        "matrix-synapse==1.2.3 \\\n    --hash=sha256:0\n    # via us\ntwisted==25.5 ; python_version > '3'\n"
    )
    (tmp_path / "web").mkdir()
    packages = {
        "": {"name": "us", "version": "0"},
        "node_modules/preact": {"version": "10.0.0"},
        "node_modules/vite/node_modules/@scope/tool": {"version": "2.0.0", "dev": True},
    }
    (tmp_path / "web" / "package-lock.json").write_text(json.dumps({"lockfileVersion": 3, "packages": packages}))
    return tmp_path


def audit(checkout: Path, url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "tools" / "audit"), "--only-osv", f"--osv={url}", f"--locks={checkout}"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)


def test_nothing_known_of_all_that_is_locked_is_a_pass(checkout: Path, osv: Osv) -> None:
    done = audit(checkout, osv.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Python: 2 packages audited, 0 known faults" in done.stdout
    assert "web app: 2 packages audited, 0 known faults" in done.stdout


@pytest.mark.parametrize("arguments", [(), ("--report",)])
@pytest.mark.parametrize(
    ("package", "named"),
    [
        (("PyPI", "matrix-synapse", "1.2.3"), "matrix-synapse 1.2.3: GHSA-new: A KNOWN FAULT"),
        (("npm", "preact", "10.0.0"), "preact 10.0.0: GHSA-new: A KNOWN FAULT"),
    ],
)
def test_an_advisory_against_what_people_run_fails_also_in_a_report(
    checkout: Path, osv: Osv, package: tuple[str, str, str], named: str, arguments: tuple[str, ...]
) -> None:
    osv.knows = {**KNOWN_TO_ALL, package: ["GHSA-new"]}
    done = audit(checkout, osv.url, *arguments)
    assert done.returncode == 1
    assert named in done.stdout


def test_an_advisory_against_a_tool_that_only_builds_is_said_and_fails_nothing(checkout: Path, osv: Osv) -> None:
    osv.knows = {**KNOWN_TO_ALL, ("npm", "@scope/tool", "2.0.0"): ["GHSA-new"]}
    done = audit(checkout, osv.url)
    assert done.returncode == 0
    assert "@scope/tool 2.0.0: GHSA-new: accepted: only builds the web app" in done.stdout


def test_an_advisory_that_we_live_with_is_said_with_its_reason(checkout: Path, osv: Osv) -> None:
    osv.knows = {**KNOWN_TO_ALL, ("PyPI", "twisted", "25.5"): ["GHSA-new", "GHSA-newer"]}
    listed = checkout / "requirements" / "advisories.txt"
    listed.write_text("# why\nGHSA-new we do not serve FTP\n")
    done = audit(checkout, osv.url)
    assert done.returncode == 1
    assert "GHSA-new: accepted: we do not serve FTP" in done.stdout
    assert "GHSA-newer: A KNOWN FAULT" in done.stdout
    listed.write_text("GHSA-new we do not serve FTP\nGHSA-newer nor Gopher\n")
    assert audit(checkout, osv.url).returncode == 0
    listed.write_text("GHSA-new\n")
    assert "the reason to live with it" in audit(checkout, osv.url).stderr


def test_when_nobody_answers_it_says_so_and_only_a_report_goes_on(checkout: Path, osv: Osv) -> None:
    osv.status = 503
    done = audit(checkout, osv.url)
    assert done.returncode == 2
    assert done.stdout.count("NOT AUDITED: ") == 2
    report = audit(checkout, osv.url, "--report")
    assert (report.returncode, report.stdout) == (0, done.stdout)


def test_a_source_that_keeps_no_advisories_is_not_believed(checkout: Path, osv: Osv) -> None:
    osv.knows = {}
    done = audit(checkout, osv.url)
    assert done.returncode == 2
    assert "knows nothing of pyyaml 5.3, so it keeps no advisories" in done.stdout


def test_it_asks_for_every_package_that_we_lock(osv: Osv) -> None:
    done = audit(ROOT, osv.url)
    assert done.returncode == 0
    lock = json.loads((ROOT / "web" / "package-lock.json").read_text(encoding="utf-8"))
    python = len(re.findall(r"^\S+==", (ROOT / "requirements" / "run.txt").read_text(encoding="utf-8"), re.MULTILINE))
    canaries = 2
    assert osv.asked == python + len(lock["packages"]) - 1 + canaries
    assert python > 30


def test_continuous_integration_fails_for_a_known_fault() -> None:
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "set -euo pipefail" in run
    assert run.splitlines()[-1] == ".venv/bin/python tools/audit --report"
