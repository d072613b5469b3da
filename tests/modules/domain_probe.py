"""Asks real servers on this machine whom a domain names, with Synapse's own web client and a real reactor.

Prints one JSON object: the word for each case. Run by test_verification_module.py in a process of its own, since a
reactor runs once.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

from netaddr import IPSet  # type: ignore[import-untyped]
from synapse.http.client import SimpleHttpClient
from synapse.util.clock import Clock
from twisted.internet import defer, task
from twisted.names import dns as untyped_dns
from twisted.names import error
from twisted.names import server as untyped_server

from super_app.ids import Handle
from synapse_super_app.directory.domains import WELL_KNOWN, Domains
from synapse_super_app.private_api import PrivateApi

# twisted.names has no types.
dns: Any = untyped_dns
server: Any = untyped_server

ALICE, BOB = Handle("@alice:hs1.test"), Handle("@bob:hs1.test")


class Zone:
    """The names of example.test."""

    def query(self, query: Any, timeout: object = None) -> "defer.Deferred[Any]":
        if query.name.name.lower() != b"_superapp.example.test" or query.type != dns.TXT:
            return defer.fail(error.DomainError())
        texts = (dns.Record_TXT(b"v=spf1"), dns.Record_TXT(b"handle=@alice", b":hs1.test"))
        return defer.succeed(([dns.RRHeader(query.name.name, dns.TXT, dns.IN, 60, text) for text in texts], [], []))


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"handles": [ALICE]}).encode()
        self.send_response(200 if self.path == WELL_KNOWN else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def private(reactor: Any, allowed: list[str]) -> PrivateApi:
    """A PrivateApi of which only ``fetch`` works."""
    clock = Clock(reactor, server_name="hs1.test")
    hs = MagicMock(version_string="probe", hostname="hs1.test")
    hs.get_reactor.return_value = reactor
    hs.get_clock.return_value = clock
    hs.config.server.proxy_config = None
    client = SimpleHttpClient(hs, ip_allowlist=IPSet(allowed), ip_blocklist=IPSet(["127.0.0.0/8"]))
    found = object.__new__(PrivateApi)
    cast(Any, found)._hs = SimpleNamespace(get_proxied_blocklisted_http_client=lambda: client, get_clock=lambda: clock)
    return found


async def ask(reactor: Any, web_port: int) -> dict[str, str]:
    listening = reactor.listenUDP(0, dns.DNSDatagramProtocol(server.DNSServerFactory(clients=[Zone()])), "127.0.0.1")
    names = (f"127.0.0.1:{listening.getHost().port}",)
    trusting, careful = private(reactor, ["127.0.0.0/8"]), private(reactor, [])
    web = f"127.0.0.1:{web_port}"
    said = {
        "txt": await Domains(careful, names, "http").ask("example.test", ALICE),
        "txt of others": await Domains(careful, names, "http").ask("example.test", BOB),
        "nothing": await Domains(careful, names, "http").ask("else.test", ALICE),
        "web": await Domains(trusting, names, "http").ask(web, ALICE),
        "web of others": await Domains(trusting, names, "http").ask(web, BOB),
        "a private network": await Domains(careful, names, "http").ask(web, ALICE),
    }
    await defer.maybeDeferred(listening.stopListening)
    return {case: word.name for case, word in said.items()}


def main(reactor: Any) -> "defer.Deferred[None]":
    web = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=web.serve_forever, daemon=True).start()

    async def run() -> None:
        print(json.dumps(await ask(reactor, web.server_address[1])))

    return defer.ensureDeferred(run())


if __name__ == "__main__":
    sys.exit(task.react(main))
