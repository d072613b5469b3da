"""SRV records, by which other homeservers find this one where .well-known says no port (Matrix: Server discovery).

It asks one DNS server and parses with twisted's own messages; no event loop runs. An answer over UDP that is cut off
counts as none.
"""

import re
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

from twisted.names import dns

_TIMEOUT_S: Final = 3.0
_DATAGRAM: Final = 4096
_PORT: Final = 53
_RESOLVERS: Final = Path("/etc/resolv.conf")
SERVICES: Final = ("_matrix-fed._tcp", "_matrix._tcp")
"""The second is the older one, which is asked where the first is not there."""


class NoDns(Exception):
    """No DNS server answered."""


def resolvers(configured: Sequence[str], file: Path = _RESOLVERS) -> tuple[tuple[str, int], ...]:
    """Those that the config names, or the system's."""
    if configured:
        named = [each.rpartition(":") if each.count(":") == 1 else (each, "", str(_PORT)) for each in configured]
        return tuple((host.strip("[]"), int(port)) for host, _, port in named)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError:
        return ()
    return tuple((host, _PORT) for host in re.findall(r"^nameserver\s+(\S+)", text, re.MULTILINE))


def targets(host: str, servers: Sequence[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """Hosts and ports to which SRV records of a name lead, the first to be tried first; none if there are none.

    Raises:
        NoDns: nobody answered.
    """
    for service in SERVICES:
        found = _asked(f"{service}.{host}", servers)
        if found:
            return found
    return ()


def _asked(name: str, servers: Sequence[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    for place in servers:
        try:
            return _records(_exchanged(name, place))
        except (OSError, EOFError, ValueError):
            continue
    raise NoDns(f"no DNS server answered the question for {name}")


def _exchanged(name: str, place: tuple[str, int]) -> Any:
    message = cast(Any, dns.Message(id=secrets.randbits(16), recDes=1))
    message.addQuery(name.encode("idna" if not name.isascii() else "ascii"), dns.SRV)
    family, kind, protocol, _, address = socket.getaddrinfo(*place, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as connection:
        connection.settimeout(_TIMEOUT_S)
        connection.connect(address)
        connection.send(message.toStr())
        answer = cast(Any, dns.Message())
        answer.fromStr(connection.recv(_DATAGRAM))
    if answer.id != message.id or answer.trunc:
        raise ValueError("that is no answer to this question")
    if answer.rCode not in (dns.OK, dns.ENAME):
        raise ValueError("the DNS server failed")
    return answer


def _records(answer: Any) -> tuple[tuple[str, int], ...]:
    records = [each.payload for each in answer.answers if each.type == dns.SRV]
    # Among those of one priority the heavier ones are tried more often; any of them must lead here.
    ordered = sorted(records, key=lambda each: (each.priority, -each.weight))
    found = [(bytes(each.target.name).decode("ascii").rstrip("."), int(each.port)) for each in ordered]
    # A single dot says that there is no such service (RFC 2782).
    return tuple((host, port) for host, port in found if host)
