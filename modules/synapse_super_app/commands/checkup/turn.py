"""The TURN server: whether it answers, and takes the secret that we sign with. STUN (RFC 8489) and TURN (RFC 8656).

It asks for one relayed address as a client in a call would, and gives it back.
"""

import hashlib
import hmac
import ipaddress
import re
import secrets
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from super_app.calls.model import SessionId
from super_app.ids import Acct
from synapse_super_app.calls.coturn import Coturn
from synapse_super_app.calls.turn import Turn, TurnCredentials
from synapse_super_app.commands.checkup.findings import Finding, bad, good, unseen, warning
from synapse_super_app.commands.homeserver_config import HomeserverConfig
from synapse_super_app.config import CallsConfig, Config

_URI: Final = re.compile(
    r"(?P<scheme>turns?):(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(?P<port>\d{1,5}))?(?:\?transport=(?P<by>udp|tcp))?"
)
_PORTS: Final[Mapping[str, int]] = {"turn": 3478, "turns": 5349}
_TIMEOUT_S: Final = 5.0
_MAGIC: Final = 0x2112A442
_HEADER: Final = struct.Struct("!HHI12s")
_ATTRIBUTE: Final = struct.Struct("!HH")
_ALLOCATE: Final = 0x0003
_REFRESH: Final = 0x0004
_SUCCESS: Final = 0x0100
_ERROR: Final = 0x0110
_USERNAME: Final = 0x0006
_MESSAGE_INTEGRITY: Final = 0x0008
_ERROR_CODE: Final = 0x0009
_LIFETIME: Final = 0x000D
_REALM: Final = 0x0014
_NONCE: Final = 0x0015
_XOR_RELAYED_ADDRESS: Final = 0x0016
_REQUESTED_TRANSPORT: Final = 0x0019
_UDP: Final = b"\x11\0\0\0"
_UNAUTHORIZED: Final = 401
_DATAGRAM: Final = 2048


class Over(Enum):
    """What carries the messages. Over TCP and TLS, what is relayed goes on over UDP all the same."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


_Attributes = dict[int, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    kind: int
    attributes: _Attributes

    @property
    def error(self) -> int:
        code = self.attributes.get(_ERROR_CODE, b"")
        return code[2] * 100 + code[3] if len(code) >= 4 else 0


def look(config: HomeserverConfig, module: Config) -> Iterator[Finding]:
    if not module.features.calls:
        return
    if not module.calls.turn_uris:
        yield warning(
            "turn",
            "calls.turn_uris: there is no TURN server, so calls between many networks do not connect",
            "run coturn, and name it under calls.turn_uris with its secret in calls.turn_secret_path",
        )
        return
    try:
        turn = Turn.configured(_resolved(config, module))
    except ValueError as error:
        yield bad("turn.secret", str(error), "write the TURN server's static-auth-secret into that file")
        return
    if turn is None:
        return
    credentials = turn.credentials(SessionId("checkup"), Acct(secrets.token_urlsafe(16)), int(time.time() * 1000))
    for uri in module.calls.turn_uris:
        yield _look_at(uri, credentials)
    try:
        servers = Coturn.configured(_resolved(config, module))
    except ValueError as error:
        yield bad("turn_cli.password", str(error), "write coturn's cli-password into that file")
        return
    for server in servers:
        yield _look_at_commands(server)


def _look_at_commands(server: Coturn) -> Finding:
    check = f"turn_cli.{server.place}"
    try:
        server.show_out(())
    except (OSError, ValueError) as error:
        return bad(
            check,
            f"calls.turn_cli: {server.place} takes no commands: {str(error) or 'no answer'}",
            "set cli-ip, cli-port and cli-password in coturn's config, and the same password in the file that "
            "calls.turn_cli_password_path names",
        )
    return good(check, f"{server.place} takes commands, so who relays after a call is shown out")


def _resolved(config: HomeserverConfig, module: Config) -> CallsConfig:
    named = {key: getattr(module.calls, key) for key in ("turn_secret_path", "turn_cli_password_path")}
    found = {key: str(config.resolve(path)) for key, path in named.items() if path is not None}
    return module.calls.model_copy(update=found)


def _look_at(uri: str, credentials: TurnCredentials) -> Finding:
    check = f"turn.{uri}"
    match = _URI.fullmatch(uri)
    if match is None:
        return bad(check, f"calls.turn_uris: {uri!r} is no TURN URI", "write turn:HOST:PORT?transport=udp")
    if match["scheme"] == "turns" and match["by"] == "udp":
        return unseen(check, f"{uri} is not tried: TURN over DTLS is not")
    place = (match["host"].strip("[]"), int(match["port"] or _PORTS[match["scheme"]]))
    over = Over.TLS if match["scheme"] == "turns" else Over.TCP if match["by"] == "tcp" else Over.UDP
    try:
        relayed = relayed_address(place, credentials, over)
    except ssl.SSLCertVerificationError as error:
        return bad(
            check,
            f"{uri}: its certificate is not valid for {place[0]}: {error.verify_message}",
            "give it a certificate of that name (cert and pkey in its config), with all that stand between",
        )
    except (OSError, ValueError) as error:
        opened = "UDP" if over is Over.UDP else "TCP"
        return bad(
            check, f"{uri}: {str(error) or 'no answer'}", f"start the TURN server, and open its port for {opened}"
        )
    if relayed is None:
        return bad(
            check,
            f"{uri} answers and refuses our credentials",
            "use-auth-secret and the same static-auth-secret in its config as in calls.turn_secret_path",
        )
    if ipaddress.ip_address(relayed).is_private:
        return warning(
            check,
            f"{uri} relays from {relayed}, which nobody outside its own network reaches",
            "set external-ip in its config, unless all calls stay inside",
        )
    return good(check, f"{uri} relays from {relayed}, with our credentials")


def relayed_address(place: tuple[str, int], credentials: TurnCredentials, over: Over = Over.UDP) -> str | None:
    """The address from which the server relays for these credentials; None if it refuses them.

    Raises:
        OSError: it does not answer.
        ValueError: what answers is no TURN server.
    """
    with _connected(place, over) as connection:
        asked = _ask(connection, _ALLOCATE, {_REQUESTED_TRANSPORT: _UDP})
        if asked.kind == _ALLOCATE | _SUCCESS:
            raise ValueError("it relays for everybody, without credentials")
        realm, nonce = asked.attributes.get(_REALM), asked.attributes.get(_NONCE)
        if asked.error != _UNAUTHORIZED or realm is None or nonce is None:
            raise ValueError(f"it answers {asked.error or 'nonsense'} instead of asking for credentials")
        username = credentials.username.encode()
        key = hashlib.md5(  # noqa: S324 - RFC 8489, section 9.2.2
            b":".join((username, realm, credentials.password.encode()))
        ).digest()
        known = {_USERNAME: username, _REALM: realm, _NONCE: nonce}
        given = _ask(connection, _ALLOCATE, {_REQUESTED_TRANSPORT: _UDP, **known}, key)
        if given.kind != _ALLOCATE | _SUCCESS:
            return None
        relayed = _unmasked(given.attributes.get(_XOR_RELAYED_ADDRESS, b""))
        # Given back at once, or it would count against a quota for ten minutes.
        _ask(connection, _REFRESH, {_LIFETIME: bytes(4), **known}, key)
        return relayed


def _connected(place: tuple[str, int], over: Over) -> socket.socket:
    kind = socket.SOCK_DGRAM if over is Over.UDP else socket.SOCK_STREAM
    family, kind, protocol, _, address = socket.getaddrinfo(*place, type=kind)[0]
    connection = socket.socket(family, kind, protocol)
    try:
        connection.settimeout(_TIMEOUT_S)
        connection.connect(address)
        if over is Over.TLS:
            return ssl.create_default_context().wrap_socket(connection, server_hostname=place[0])
    except BaseException:
        connection.close()
        raise
    return connection


def _received(connection: socket.socket) -> bytes:
    """One message: a datagram, or as much of a stream as its header says (RFC 8489, section 6.2.2)."""
    if connection.type == socket.SOCK_DGRAM:
        return connection.recv(_DATAGRAM)
    raw = b""
    wanted = _HEADER.size
    while len(raw) < wanted:
        piece = connection.recv(wanted - len(raw))
        if not piece:
            break
        raw += piece
        if len(raw) == _HEADER.size:
            wanted += min(_HEADER.unpack(raw)[1], _DATAGRAM)
    return raw


def _ask(connection: socket.socket, kind: int, attributes: _Attributes, key: bytes | None = None) -> _Reply:
    transaction = secrets.token_bytes(12)
    body = b"".join(_packed(number, value) for number, value in attributes.items())
    if key is not None:
        # The length counts the integrity itself, though what is signed ends before it.
        signed = _HEADER.pack(kind, len(body) + 24, _MAGIC, transaction) + body
        body += _packed(_MESSAGE_INTEGRITY, hmac.new(key, signed, hashlib.sha1).digest())
    connection.sendall(_HEADER.pack(kind, len(body), _MAGIC, transaction) + body)
    raw = _received(connection)
    if len(raw) < _HEADER.size:
        raise ValueError("it answers with something other than STUN")
    answered, length, magic, echoed = _HEADER.unpack_from(raw)
    if magic != _MAGIC or echoed != transaction or len(raw) != _HEADER.size + length:
        raise ValueError("it answers with something other than STUN")
    return _Reply(kind=answered, attributes=dict(_attributes(raw[_HEADER.size :])))


def _packed(number: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(number, len(value)) + value + bytes(-len(value) % 4)


def _attributes(raw: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(raw):
        number, length = _ATTRIBUTE.unpack_from(raw, at)
        at += _ATTRIBUTE.size
        yield number, raw[at : at + length]
        at += length + -length % 4


def _unmasked(value: bytes) -> str:
    """An XOR-RELAYED-ADDRESS, of IPv4; of IPv6 only that it is one, since its mask takes the transaction too."""
    if len(value) != 8 or value[1] != 1:
        return "::"
    return str(ipaddress.IPv4Address(int.from_bytes(value[4:], "big") ^ _MAGIC))
