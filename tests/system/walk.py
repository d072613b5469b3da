"""``make walk``: what docs/admin.md tells about two homeservers on this machine, done from nothing.

    make walk ARGS="--keep DIR"     and the clone with all that was written stays in DIR

The blocks of that section go, one after the other and as they stand, into one bash in a fresh clone of what is
committed here. It ends with the exit code of the bash, which is not 0 once a command failed or a block took too long.
What each block took is printed; nothing is told to the bash that the page does not say.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "admin.md"
SECTION: Final = "## Two homeservers with workers on this machine"
_LIMIT_S: Final = 1_800.0
_END_S: Final = 90.0
_MARK: Final = "walk: block "


def blocks(page: str) -> list[str]:
    """The shell commands of the section, block by block."""
    section = page.partition(SECTION + "\n")[2].partition("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


def script(found: Sequence[str]) -> str:
    """All blocks for one bash, which says where it is and ends with the first command that fails."""
    parts = [f"printf '\\n%s\\n' '{_MARK}{number}'\n{block}" for number, block in enumerate(found, 1)]
    return "set -eu -o pipefail\n" + "\n".join(parts)


def walk(folder: Path) -> int:
    found = blocks(PAGE.read_text(encoding="utf-8"))
    clone = folder / "super-app"
    subprocess.run(["git", "clone", "--quiet", "--no-local", str(ROOT), str(clone)], check=True)
    began_s = time.monotonic()
    # What a person has at hand, and nothing of the environment in which this runs.
    kept = ("PATH", "HOME", "LANG", "USER", "TERM", "TMPDIR")
    environment = {name: value for name, value in os.environ.items() if name in kept or _is_of_installers(name)}
    environment["PATH"] = os.pathsep.join(
        each for each in environment["PATH"].split(os.pathsep) if not Path(each).is_relative_to(ROOT / ".venv")
    )
    bash = subprocess.Popen(
        ["bash", "-c", script(found)],
        cwd=clone,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    if bash.stdout is None:
        raise RuntimeError("bash was started with a pipe and has none")
    alarm = _Alarm(bash.pid)
    try:
        block, block_began_s = 0, began_s
        for line in bash.stdout:
            if line.startswith(_MARK):
                if block:
                    print(f"walk: block {block} of {len(found)} took {time.monotonic() - block_began_s:.1f} s")
                block, block_began_s = int(line.removeprefix(_MARK)), time.monotonic()
            print(f"{time.monotonic() - began_s:7.1f} s  {line.rstrip()}", flush=True)
        code = bash.wait()
        print(f"walk: block {block} of {len(found)} took {time.monotonic() - block_began_s:.1f} s")
    finally:
        alarm.cancel()
        _end(bash.pid)
    said = "all of it was done" if code == 0 else f"block {block} ended with exit code {code}"
    print(f"walk: {said}, after {time.monotonic() - began_s:.0f} s")
    return code


def _is_of_installers(name: str) -> bool:
    """Where a machine gets its packages from is its own affair, and no secret of the page."""
    return name.startswith(("PIP_", "UV_", "npm_config_", "SSL_CERT", "REQUESTS_CA")) or name.lower().endswith("_proxy")


class _Alarm:
    """Ends a session that takes longer than any machine may."""

    def __init__(self, session: int) -> None:
        self._timer = threading.Timer(_LIMIT_S, _end, [session])
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        self._timer.cancel()


def _end(session: int) -> None:
    """Whatever still runs of it; homeservers end with the commands that started them."""
    give_up_s = time.monotonic() + _END_S
    try:
        os.killpg(session, signal.SIGTERM)
        while time.monotonic() < give_up_s:
            time.sleep(0.2)
            os.killpg(session, 0)
        os.killpg(session, signal.SIGKILL)
    except ProcessLookupError:
        return


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make walk ARGS=…", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where the clone is made, and stays")
    given = parser.parse_args(arguments)
    with ExitStack() as stack:
        if given.keep is None:
            folder = Path(tempfile.mkdtemp(prefix="superapp-walk-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            folder.chmod(0o711)
        else:
            folder = given.keep.absolute()
            folder.mkdir(parents=True, exist_ok=True)
        return walk(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
