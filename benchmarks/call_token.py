"""What a token for the SFU costs beside an empty authenticated request.

``get_token`` as clients ask it (MSC4195): Synapse authenticates, passes it on to the module over HTTP (MSC4512), which
looks up the member and the rules of the room, takes a seat and signs. The SFU is a stand-in that makes rooms at once,
since its own time is not ours; it is asked once a minute and room.
"""

import json
import secrets
import statistics
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import yaml

from benchmarks.frame import Context, Row
from benchmarks.homeservers import LoneHomeserver
from super_app.names import LIVEKIT_PREFIX
from synapse_super_app.commands import loopback

NAMES: Final = ("call.token",)
_ROUNDS: Final = 5
_EACH: Final = 100
_WARM_UP: Final = 20
_PATH: Final = "/_matrix/client/unstable/io.element.msc4195/rtc/livekit/get_token"
_URL: Final = "wss://sfu.example.org"


def run(context: Context) -> Iterator[Row]:
    if context.wants("call.token"):
        yield _token(context)


class _Sfu(BaseHTTPRequestHandler):
    """Says yes to everything."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = json.dumps({"participants": []}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
        return


@contextmanager
def _sfu() -> Generator[str]:
    server = ThreadingHTTPServer((loopback.ADDRESS, 0), _Sfu)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{loopback.ADDRESS}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _token(context: Context) -> Row:
    port = loopback.free_ports(2)
    folder = context.folder / "token"
    context.folder.mkdir(parents=True, exist_ok=True)
    secret, registration = context.folder / "sfu_secret", context.folder / "registration.yaml"
    secret.write_text(secrets.token_hex(32), encoding="ascii")
    service: dict[str, Any] = {
        "id": "livekit",
        "url": None,
        "as_token": secrets.token_hex(16),
        "hs_token": secrets.token_hex(16),
        "sender_localpart": "livekit",
        "namespaces": {},
        "io.element.msc4512.proxy_prefix": "rtc/livekit",
        "io.element.msc4512.proxy_url": loopback.client_url(port) + LIVEKIT_PREFIX,
    }
    registration.write_text(yaml.safe_dump(service), encoding="utf-8")
    with _sfu() as sfu:
        livekit = {"url": _URL, "api_url": sfu, "key": "APIbench", "secret_path": str(secret)}
        config = {
            "features": {"payments": False, "web": False, "assistant": False},
            "calls": {"limits": {"tokens": 0}, "livekit": livekit},
        }
        more = {
            "experimental_features": {"msc4512_enabled": True},
            "app_service_config_files": [str(registration)],
        }
        with LoneHomeserver(folder, port, port + 1, config, more=more) as homeserver:
            client = homeserver.account("caller")
            # Waits until the module has started.
            client.superapp("GET", "calls")
            room = client.create_room()
            body = {"url": _URL, "room_id": room, "slot_id": "m.call#ROOM", "member_id": "M"}
            context.say(f"call.token: {_ROUNDS} rounds of {_EACH} tokens and as many empty requests in turns")
            tokens: list[float] = []
            empty: list[float] = []
            for round_number in range(_ROUNDS + 1):
                taken = [
                    (_ms(lambda: client.request("POST", _PATH, body)), _ms(client.whoami))
                    for _ in range(_EACH if round_number else _WARM_UP)
                ]
                if round_number:
                    tokens.append(_p95([each for each, _ in taken]))
                    empty.append(_p95([each for _, each in taken]))
            client.close()
    return Row(
        name="call.token",
        value=statistics.median(tokens),
        unit="ms p95",
        yardstick="GET account/whoami of the same homeserver",
        yardstick_value=statistics.median(empty),
        goal="<= 1.5",
        n=_ROUNDS * _EACH,
    )


def _ms(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return (time.perf_counter() - began_s) * 1000


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[94]
