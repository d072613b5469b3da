"""A real Element Web, unmodified, served beside the homeservers: what a person with it sees.

No package registry ships a build of it, so whoever has one names its folder (``make element ELEMENT=…``); where there
is none, its tests are skipped and say so. Nothing is added to it but the ``config.json`` that whoever hosts it writes.
"""

import json
import os
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
from app_pages import ROOT

from super_app.names import WEB_PREFIX

MODULE: Final = ROOT / "modules" / "synapse_super_app" / "web" / "built" / "element" / "super-app.js"
SCREENSHOTS: Final = ROOT / "build" / "screenshots" / "element"
WINDOW: Final = (1280, 800)
_MODULE_PATH: Final = "/modules/super-app.js"


needs_element = pytest.mark.skipif(
    not os.environ.get("SUPER_APP_ELEMENT"),
    reason="there is no Element Web; name the folder of a build of it: make element ELEMENT=/path/to/webapp",
)


def folder() -> Path:
    """The build that was named."""
    found = Path(os.environ["SUPER_APP_ELEMENT"])
    if not (found / "index.html").exists():
        pytest.fail(f"{found} is no build of Element Web: it has no index.html")
    return found


class _Files(SimpleHTTPRequestHandler):
    def __init__(self, *arguments: Any, config: dict[str, Any], **more: Any) -> None:
        self._config = config
        super().__init__(*arguments, **more)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if re.fullmatch(r"/config\.[^/]*json", path):
            # One for each name that Element is reached by would come first.
            self._answer(json.dumps(self._config).encode() if path == "/config.json" else None, "application/json")
        elif path == _MODULE_PATH:
            self._answer(MODULE.read_bytes(), "text/javascript")
        else:
            super().do_GET()

    def _answer(self, body: bytes | None, kind: str) -> None:
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: Any) -> None:
        return


@contextmanager
def served(client_url: str, server_name: str, *, with_module: bool = False) -> Generator[str]:
    """The address of an Element Web that signs in to this homeserver."""
    config: dict[str, Any] = {
        "default_server_config": {"m.homeserver": {"base_url": client_url, "server_name": server_name}},
        "brand": "Element",
        "disable_guests": True,
        # What is new in this version, which stands before what is to be seen.
        "features": {"feature_release_announcement": False},
    }
    if with_module:
        config |= {"modules": [_MODULE_PATH], "org.superapp": {"wallet": f"{client_url}{WEB_PREFIX}/"}}
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=str(folder()), config=config))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
