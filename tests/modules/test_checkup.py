"""What ``super-app doctor`` finds around a homeserver: files, disks, databases, TURN servers, clocks, names."""

import base64
import copy
import datetime as dt
import hashlib
import hmac
import http.server
import json
import shutil
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jwt
import pytest
from fake_coturn import PASSWORD, commanded
from fake_livekit import KEY
from fake_livekit import SECRET as SFU_SECRET
from twisted.names import dns

from synapse_super_app.commands import homeserver_config
from synapse_super_app.commands.certificates import ThrowAwayCa
from synapse_super_app.commands.checkup import configuration, databases, federation, livekit, running, srv, turn
from synapse_super_app.commands.checkup.federation import Answer, Place, read_name
from synapse_super_app.commands.checkup.findings import Finding, Verdict
from synapse_super_app.commands.homeserver_config import HomeserverConfig
from synapse_super_app.commands.main import main
from synapse_super_app.commands.postgres import PrivatePostgres
from synapse_super_app.config import Config, parse_config

SHIPPED = homeserver_config.load(Path(__file__).parents[2] / "homeserver.yaml")
Change = Callable[[dict[str, Any]], object]


def config_in(folder: Path, *changes: Change) -> HomeserverConfig:
    content = copy.deepcopy(dict(SHIPPED.content))
    for change in changes:
        change(content)
    (folder / "data").mkdir()
    return HomeserverConfig(path=folder / "homeserver.yaml", folder=folder, content=content)


def module_of(config: HomeserverConfig) -> Config:
    return parse_config(config.module_entries()[0]["config"])


def found(findings: Iterator[Finding], check: str) -> Finding:
    return next(each for each in findings if each.check == check)


def test_a_fault_of_the_config_is_bad_and_what_only_makes_a_feature_worse_a_warning(tmp_path: Path) -> None:
    config = config_in(tmp_path, lambda c: c.update(ip_range_blocklist=[]), lambda c: c.pop("rc_user_directory"))
    fault = found(configuration.look(config), "config.ip_range_blocklist")
    assert (fault.verdict, fault.remedy) == (Verdict.BAD, "write ip_range_blacklist")
    assert found(configuration.look(config), "config.rc_user_directory").verdict is Verdict.WARNING


def test_a_secret_that_others_may_read_and_one_that_is_gone(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    for name, mode in (("signing.key", 0o644), ("registration_secret", 0o600), ("form_secret", 0o600)):
        (tmp_path / "data" / name).touch(mode=mode)
    findings = list(configuration.look_at_files(config, module_of(config)))
    open_to_all = found(iter(findings), "files.signing_key_path")
    assert open_to_all.verdict is Verdict.BAD
    assert open_to_all.remedy == f"chmod 600 {tmp_path / 'data' / 'signing.key'}"
    assert found(iter(findings), "files.macaroon_secret_key_path").verdict is Verdict.BAD
    assert not any(each.check == "files.form_secret_path" for each in findings)


def test_payments_that_were_halted_and_forgotten(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    (tmp_path / "data" / "payments.halted").touch()
    halted = found(configuration.look_at_files(config, module_of(config)), "payments.halted")
    assert halted.verdict is Verdict.WARNING
    assert "no new payment starts" in halted.sentence


@pytest.mark.parametrize(("mebibytes", "verdict"), [(50, Verdict.BAD), (500, Verdict.WARNING), (5_000, Verdict.GOOD)])
def test_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mebibytes: int, verdict: Verdict) -> None:
    usage = SimpleNamespace(free=mebibytes << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)
    config = config_in(tmp_path)
    assert found(configuration.look_at_files(config, module_of(config)), "disk").verdict is verdict


def test_a_postgresql_that_forgets_what_it_promised(tmp_path: Path, postgres_server: PrivatePostgres) -> None:
    # The tests' own server buys its speed that way.
    arguments = postgres_server.connection("postgres")
    database = {"name": "psycopg2", "args": arguments, "allow_unsafe_locale": True}
    config = config_in(tmp_path, lambda c: c.update(database=database))
    findings = list(databases.look(config))
    for name in ("fsync", "full_page_writes", "synchronous_commit"):
        finding = found(iter(findings), f"database.{name}")
        assert finding.verdict is Verdict.BAD
        assert f"{name} = off" in finding.sentence
    assert found(iter(findings), "database.clock").verdict is Verdict.GOOD


def test_a_postgresql_that_does_not_answer(tmp_path: Path) -> None:
    arguments = {"host": str(tmp_path), "user": "synapse", "dbname": "synapse"}
    config = config_in(tmp_path, lambda c: c.update(database={"name": "psycopg2", "args": arguments}))
    finding = found(databases.look(config), "database.fit")
    assert finding.verdict is Verdict.BAD
    assert "PostgreSQL does not let us in" in finding.sentence


SECRET = "the secret of the TURN server"
REALM = b"calls.example"
NONCE = b"once"


@contextmanager
def turn_server(secret: str = SECRET, *, relays_from: str = "9.9.9.9", nonsense: bool = False) -> Generator[int]:
    """As RFC 8656 asks of one, for a single client: refuses first, then wants a message signed with its secret."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))

        def serve() -> None:
            while (asked := listening.recvfrom(2048))[0] != b"end":
                listening.sendto(b"hello" if nonsense else _answered(asked[0], secret, relays_from), asked[1])

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.sendto(b"end", listening.getsockname())
            serving.join()


def _answered(asked: bytes, secret: str, relays_from: str) -> bytes:
    kind, length = struct.unpack("!HH", asked[:4])
    attributes: dict[int, tuple[int, bytes]] = {}
    at = 20
    while at < 20 + length:
        number, size = struct.unpack("!HH", asked[at : at + 4])
        attributes[number] = (at, asked[at + 4 : at + 4 + size])
        at += 4 + (size + 3) // 4 * 4
    refused = _message(kind | 0x110, asked, {9: b"\0\0\x04\x01", 0x14: REALM, 0x15: NONCE})
    if 8 not in attributes:
        return refused
    username = attributes[6][1]
    password = hmac.new(secret.encode(), username, hashlib.sha1)
    key = hashlib.md5(username + b":" + REALM + b":" + base64.b64encode(password.digest())).digest()
    where, given = attributes[8]
    if hmac.new(key, asked[:where], hashlib.sha1).digest() != given:
        return refused
    # Under the mask of the magic cookie.
    masked = bytes(a ^ b for a, b in zip(socket.inet_aton(relays_from), bytes.fromhex("2112a442"), strict=True))
    return _message(kind | 0x100, asked, {0x16: b"\0\x01" + bytes(2) + masked})


def _message(kind: int, asked: bytes, attributes: dict[int, bytes]) -> bytes:
    body = b"".join(
        struct.pack("!HH", number, len(value)) + value + bytes(-len(value) % 4) for number, value in attributes.items()
    )
    return struct.pack("!HH", kind, len(body)) + asked[4:20] + body


@contextmanager
def turn_stream(folder: Path, *, secure: bool) -> Generator[tuple[int, Path]]:
    """The same over TCP or TLS, messages one after the other. Its port, and who vouches for its certificate."""
    certificate = ThrowAwayCa(folder).issue("turn", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate_path, certificate.key_path)

    class Connection(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            stream = self.request
            if secure:
                try:
                    stream = context.wrap_socket(self.request, server_side=True)
                except ssl.SSLError:
                    return  # the client does not trust us
            with stream, stream.makefile("rb") as asking:
                while len(head := asking.read(20)) == 20:
                    answer = _answered(head + asking.read(struct.unpack("!H", head[2:4])[0]), SECRET, "9.9.9.9")
                    # In pieces, as a network may bring it.
                    for at in range(0, len(answer), 7):
                        stream.sendall(answer[at : at + 7])

    class Listening(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Listening(("127.0.0.1", 0), Connection) as listening:
        serving = threading.Thread(target=listening.serve_forever, args=(0.05,))
        serving.start()
        try:
            yield int(listening.server_address[1]), certificate.ca_path
        finally:
            listening.shutdown()
            serving.join()


def turn_at(tmp_path: Path, uri: str) -> Finding:
    (tmp_path / "turn_secret").write_text(SECRET, encoding="utf-8")
    calls = {"turn_uris": [uri], "turn_secret_path": "turn_secret"}
    config = config_in(tmp_path, lambda c: c["modules"][0]["config"].update(calls=calls))
    return found(turn.look(config, module_of(config)), f"turn.{uri}")


def test_turn_over_tcp_relays(tmp_path: Path) -> None:
    with turn_stream(tmp_path, secure=False) as (port, _):
        finding = turn_at(tmp_path, f"turn:127.0.0.1:{port}?transport=tcp")
    assert finding.verdict is Verdict.GOOD, finding


def test_turn_over_tls_relays_where_the_certificate_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with turn_stream(tmp_path, secure=True) as (port, authority):
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        finding = turn_at(tmp_path, f"turns:127.0.0.1:{port}?transport=tcp")
    assert finding.verdict is Verdict.GOOD, finding


def test_turn_over_tls_with_a_certificate_of_nobody(tmp_path: Path) -> None:
    with turn_stream(tmp_path, secure=True) as (port, _):
        finding = turn_at(tmp_path, f"turns:127.0.0.1:{port}")
    assert finding.verdict is Verdict.BAD
    assert "certificate is not valid" in finding.sentence


@contextmanager
def dns_server(records: dict[str, list[tuple[int, str, int]]]) -> Generator[str]:
    """Answers with these SRV records: priority, target and port by name. No name is there but these."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))

        def serve() -> None:
            while (asked := listening.recvfrom(2048))[0] != b"end":
                message = cast(Any, dns.Message())
                message.fromStr(asked[0])
                name = message.queries[0].name.name
                message.answer = 1
                found = records.get(name.decode(), [])
                message.rCode = dns.OK if found else dns.ENAME
                for priority, target, port in found:
                    payload = cast(Any, dns).Record_SRV(priority, 0, port, target)
                    message.answers.append(dns.RRHeader(name, dns.SRV, payload=payload))
                listening.sendto(message.toStr(), asked[1])

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.sendto(b"end", listening.getsockname())
            serving.join()


def test_srv_records_lead_where_they_say_the_older_ones_only_where_there_are_no_newer() -> None:
    newer = {"_matrix-fed._tcp.example.org": [(20, "two.example.org", 8449), (10, "one.example.org", 8448)]}
    older = {"_matrix._tcp.example.org": [(10, "old.example.org", 443)], "_matrix._tcp.example.net": [(1, "b", 2)]}
    with dns_server(newer | older) as server:
        servers = srv.resolvers([server])
        assert srv.targets("example.org", servers) == (("one.example.org", 8448), ("two.example.org", 8449))
        assert srv.targets("example.net", servers) == (("b", 2),)
        assert srv.targets("example.com", servers) == ()


def test_a_homeserver_is_looked_for_where_its_srv_record_leads(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with dns_server({"_matrix-fed._tcp.nowhere.invalid": [(1, "127.0.0.1", port)]}) as server:
            config = config_in(
                tmp_path,
                lambda c: c.update(server_name="nowhere.invalid"),
                lambda c: c["modules"][0]["config"]["directory"].update(dns_servers=[server]),
            )
            findings = list(federation.look(config))
    assert found(iter(findings), "federation.srv").verdict is Verdict.GOOD
    reached = found(iter(findings), "federation.reached")
    assert reached.verdict is Verdict.BAD
    assert f"127.0.0.1:{port} (as nowhere.invalid)" in reached.sentence


def test_srv_records_that_nobody_answers_for_were_not_seen() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(srv.NoDns):
        srv.targets("example.org", srv.resolvers([server]))


def test_the_systems_dns_servers_are_asked_where_none_is_configured(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("# made by hand\nsearch lan\nnameserver 192.0.2.1\nnameserver 2001:db8::53\n", encoding="utf-8")
    assert srv.resolvers((), file) == (("192.0.2.1", 53), ("2001:db8::53", 53))
    assert srv.resolvers(["192.0.2.7", "192.0.2.8:5353"], file) == (("192.0.2.7", 53), ("192.0.2.8", 5353))


def turn_finding(tmp_path: Path, port: int) -> Finding:
    (tmp_path / "turn_secret").write_text(SECRET, encoding="utf-8")
    uri = f"turn:127.0.0.1:{port}?transport=udp"
    calls = {"turn_uris": [uri], "turn_secret_path": "turn_secret"}
    config = config_in(tmp_path, lambda c: c["modules"][0]["config"].update(calls=calls))
    return found(turn.look(config, module_of(config)), f"turn.{uri}")


def test_a_turn_server_that_shares_our_secret_relays(tmp_path: Path) -> None:
    with turn_server() as port:
        finding = turn_finding(tmp_path, port)
    assert finding.sentence.endswith("relays from 9.9.9.9, with our credentials")
    assert finding.verdict is Verdict.GOOD


def test_coturn_takes_our_commands_or_it_is_said_why_not(tmp_path: Path) -> None:
    with turn_server() as port, commanded() as coturn:
        (tmp_path / "turn_secret").write_text(SECRET, encoding="utf-8")
        (tmp_path / "password").write_text(PASSWORD, encoding="utf-8")
        calls = {
            "turn_uris": [f"turn:127.0.0.1:{port}?transport=udp"],
            "turn_secret_path": "turn_secret",
            "turn_cli": [coturn.place],
            "turn_cli_password_path": "password",
        }
        config = config_in(tmp_path, lambda c: c["modules"][0]["config"].update(calls=calls))

        def finding() -> Finding:
            return found(turn.look(config, module_of(config)), f"turn_cli.{coturn.place}")

        assert finding().verdict is Verdict.GOOD
        coturn.refuses = True
        assert finding().verdict is Verdict.BAD
        assert "refuses the password" in finding().sentence


def test_a_turn_server_that_relays_from_an_inner_address(tmp_path: Path) -> None:
    with turn_server(relays_from="192.168.0.7") as port:
        finding = turn_finding(tmp_path, port)
    assert finding.verdict is Verdict.WARNING
    assert "nobody outside its own network reaches" in finding.sentence


def test_a_turn_server_with_another_secret_refuses_us(tmp_path: Path) -> None:
    with turn_server("another") as port:
        finding = turn_finding(tmp_path, port)
    assert finding.verdict is Verdict.BAD
    assert "refuses our credentials" in finding.sentence


def test_something_that_is_no_turn_server(tmp_path: Path) -> None:
    with turn_server(nonsense=True) as port:
        finding = turn_finding(tmp_path, port)
    assert finding.verdict is Verdict.BAD
    assert "something other than STUN" in finding.sentence


def test_a_turn_server_that_is_not_there(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
    assert turn_finding(tmp_path, port).verdict is Verdict.BAD


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("example.org", Place(host="example.org", port=8448, said_port=False)),
        ("example.org:443", Place(host="example.org", port=443)),
        ("[2001:db8::1]:8448", Place(host="2001:db8::1", port=8448)),
        ("127.0.0.1:18448", Place(host="127.0.0.1", port=18448)),
        ("example.org:0", None),
        ("example.org:70000", None),
        ("https://example.org", None),
        ("", None),
    ],
)
def test_where_a_name_points(name: str, place: Place | None) -> None:
    assert read_name(name) == place


@pytest.mark.parametrize(("days", "verdict"), [(60, Verdict.GOOD), (3, Verdict.WARNING)])
def test_a_certificate_that_ends_soon(days: int, verdict: Verdict) -> None:
    ends = dt.datetime.now(dt.UTC) + dt.timedelta(days=days, hours=1)
    answer = Answer(status=200, body={}, date_ms=None, certificate_ends=ends)
    finding = found(federation.certificate("it", "example.org", answer), "it")
    assert finding.verdict is verdict
    assert f"{days} more days" in finding.sentence


@pytest.mark.parametrize(
    ("ahead", "verdict"), [(0, Verdict.GOOD), (90, Verdict.WARNING), (-90, Verdict.WARNING), (None, Verdict.UNSEEN)]
)
def test_a_peer_whose_clock_is_elsewhere(ahead: int | None, verdict: Verdict) -> None:
    shown = None if ahead is None else int((dt.datetime.now(dt.UTC).timestamp() + ahead) * 1000)
    answer = Answer(status=200, body={}, date_ms=shown, certificate_ends=None)
    assert federation.look_at_clock("it", "example.org", answer).verdict is verdict


def test_a_homeserver_whose_name_is_not_in_the_dns(tmp_path: Path) -> None:
    config = config_in(tmp_path, lambda c: c.update(server_name="nowhere.invalid:8448"))
    finding = found(federation.look(config), "federation.reached")
    assert finding.verdict is Verdict.BAD
    assert "not in the DNS" in finding.sentence


def test_passwords_that_would_travel_in_clear(tmp_path: Path) -> None:
    config = config_in(tmp_path, lambda c: c.update(public_baseurl="http://chat.example.org/"))
    assert "passwords travel in clear" in found(running.look_at_public_url(config), "public_url").sentence


def test_a_homeserver_that_does_not_run(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        finding = found(running.look(url, module_of(config)), "homeserver")
    assert finding.verdict is Verdict.BAD
    assert "start it with super-app up" in finding.remedy


def test_a_config_that_does_not_hold_ends_the_look_and_programs_can_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SHIPPED.path.read_text(encoding="utf-8")
    (tmp_path / "homeserver.yaml").write_text(text + "\nip_range_blocklist: []\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [each["verdict"] for each in told] == ["bad", "unseen"]
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.startswith("WRONG     ip_range_blocklist: ")


class Sfu(http.server.BaseHTTPRequestHandler):
    """As much of LiveKit as the doctor asks: its root, and the list of rooms for who has the key."""

    def do_GET(self) -> None:
        self._say(200 if self.path == "/" else 404, b"OK")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        token = str(self.headers["Authorization"]).removeprefix("Bearer ")
        try:
            claims = jwt.decode(token, SFU_SECRET, algorithms=["HS256"], issuer=KEY)
        except jwt.InvalidTokenError:
            self._say(401, b'{"code": "unauthenticated"}')
            return
        if self.path == "/twirp/livekit.RoomService/ListRooms" and claims["video"] == {"roomList": True}:
            self._say(200, b'{"rooms": []}')
        else:
            self._say(403, b'{"code": "permission_denied"}')

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Stranger(Sfu):
    """Something else that listens there."""

    def do_GET(self) -> None:
        self._say(404, b"not here")

    def do_POST(self) -> None:
        self._say(404, b"not here")


@contextmanager
def serving(handler: type[Sfu]) -> Generator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield f"ws://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def looked_at_livekit(folder: Path, secret: str | None = SFU_SECRET, **livekit_config: str) -> dict[str, Finding]:
    if secret is not None:
        (folder / "sfu_secret").write_text(secret)
    sfu = {"key": KEY, "secret_path": "sfu_secret", **livekit_config}
    config = config_in(folder, lambda c: c["modules"][0]["config"]["calls"].update(livekit=sfu))
    return {each.check: each for each in livekit.look(config, module_of(config))}


def test_a_livekit_that_clients_reach_and_that_takes_our_key(tmp_path: Path) -> None:
    with serving(Sfu) as url:
        seen = looked_at_livekit(tmp_path, url=url)
    assert {check: each.verdict for check, each in seen.items()} == {
        "livekit.url": Verdict.GOOD,
        "livekit.key": Verdict.GOOD,
    }


def test_a_livekit_that_refuses_our_secret_and_one_that_knows_another_key(tmp_path: Path) -> None:
    with serving(Sfu) as url:
        for name, given in (("secret", {"secret": "another-secret-" * 4}), ("key", {"key": "APIanother"})):
            (tmp_path / name).mkdir()
            refused = looked_at_livekit(tmp_path / name, url=url, **given)["livekit.key"]
            assert refused.verdict is Verdict.BAD, name
            assert "refuses our key" in refused.sentence
            assert "keys" in refused.remedy


def test_a_livekit_that_is_down_and_one_that_is_something_else(tmp_path: Path) -> None:
    with serving(Sfu) as url:
        pass
    (tmp_path / "down").mkdir()
    down = looked_at_livekit(tmp_path / "down", url=url)
    assert {each.verdict for each in down.values()} == {Verdict.BAD}
    (tmp_path / "else").mkdir()
    with serving(Stranger) as url:
        seen = looked_at_livekit(tmp_path / "else", url=url)
    assert seen["livekit.url"].verdict is Verdict.BAD
    assert seen["livekit.key"].verdict is Verdict.UNSEEN


def test_a_livekit_without_tls_and_with_an_address_of_its_own_for_the_homeserver(tmp_path: Path) -> None:
    with serving(Sfu) as url:
        seen = looked_at_livekit(tmp_path, url="ws://livekit.example.org", api_url=url.replace("ws", "http"))
    assert seen["livekit.url"].verdict is Verdict.WARNING
    assert seen["livekit.key"].verdict is Verdict.GOOD


@pytest.mark.parametrize("secret", [None, "short"])
def test_a_livekit_whose_secret_is_not_there_or_too_short(tmp_path: Path, secret: str | None) -> None:
    with serving(Sfu) as url:
        seen = looked_at_livekit(tmp_path, secret, url=url)
    assert seen["livekit.secret"].verdict is Verdict.BAD
    assert "livekit.key" not in seen


def test_nothing_is_said_of_a_livekit_that_nobody_has(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    assert list(livekit.look(config, module_of(config))) == []
