"""schemathesis on two running homeservers, from the OpenAPI document that they serve (``make fuzz-http``).

Every operation is asked as a server admin, who may reach all of them, with what the document allows and what it does
not. A 5xx passes only under a name of ours (payments that the fuzzer itself halted, say). The exit code is that of
schemathesis, and its report is in ``build/schemathesis``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

from super_app.names import CLIENT_API_PREFIX
from synapse_super_app.commands import loopback

REPOSITORY = Path(__file__).parents[2]
TOOL = REPOSITORY / ".venv" / "schemathesis"
START_TIMEOUT_S = 300


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=20, help="for each operation; default: 20")
    parser.add_argument("--seed", type=int, help="the same requests again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ready = folder / "ready.json"
        demo = [str(Path(sys.executable).with_name("super-app")), "demo", "--data", str(folder / "demo")]
        demo += ["--port-base", str(loopback.free_ports(4)), "--ready-file", str(ready)]
        with subprocess.Popen(demo, stdout=subprocess.DEVNULL) as running:
            try:
                return _run(folder, _wait(ready, running), arguments.examples, arguments.seed)
            finally:
                running.terminate()


def _wait(ready: Path, running: "subprocess.Popen[bytes]") -> dict[str, str]:
    until = time.monotonic() + START_TIMEOUT_S
    while not ready.exists():
        if running.poll() is not None or time.monotonic() > until:
            raise SystemExit("the homeservers did not start; try super-app demo")
        time.sleep(0.2)
    first = json.loads(ready.read_text())["homeservers"][0]
    return {"url": str(first["client_url"]) + CLIENT_API_PREFIX, "token": str(first["admin"]["access_token"])}


def _run(folder: Path, homeserver: dict[str, str], examples: int, seed: int | None) -> int:
    document = folder / "openapi.json"
    with urlopen(f"{homeserver['url']}/openapi.json") as answer:
        document.write_bytes(answer.read())
    report = REPOSITORY / "build" / "schemathesis"
    report.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", str(document), "--url", homeserver["url"]),
        *("--header", f"Authorization: Bearer {homeserver['token']}", "--checks", "fails_by_name"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", str(examples), "--continue-on-failure"),
        *("--suppress-health-check", "all", "--warnings", "off", "--request-timeout", "60", "--no-color"),
        *("--report-dir", str(report), "--report", "junit"),
        *(() if seed is None else ("--seed", str(seed))),
    ]
    paths = os.pathsep.join((str(TOOL), str(Path(__file__).parent)))
    environment = {**os.environ, "PYTHONPATH": paths, "SCHEMATHESIS_HOOKS": "schema_fuzz_checks"}
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
