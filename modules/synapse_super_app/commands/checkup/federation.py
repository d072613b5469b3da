"""How other homeservers reach this one: .well-known, SRV records, TLS, the key that answers there.

As the Matrix specification says. It asks from this machine: a firewall that lets this machine through and nobody else
is not seen. The public tester of the Matrix project sees it.
"""

import datetime as dt
import email.utils
import http.client
import ipaddress
import json
import re
import socket
import ssl
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

from signedjson.key import encode_verify_key_base64, get_verify_key, read_signing_keys

from synapse_super_app.commands.checkup import srv
from synapse_super_app.commands.checkup.findings import Finding, bad, good, unseen, warning
from synapse_super_app.commands.homeserver_config import HomeserverConfig

_TIMEOUT_S: Final = 10.0
_DEFAULT_PORT: Final = 8448
_LARGEST_ANSWER: Final = 50 * 1024
_CLOCK_LIMIT_S: Final = 30
_DAYS_LEFT: Final = 14
_NAME: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a homeserver's federation listens: what to connect to, and the name that its certificate must have."""

    host: str
    port: int
    said_port: bool = True
    target: tuple[str, int] | None = None
    """Where an SRV record leads, if it does: connected to there, under the same name."""

    @property
    def shown(self) -> str:
        """For people: with where an SRV record leads."""
        return self.named if self.target is None else f"{self.target[0]}:{self.target[1]} (as {self.named})"

    @property
    def named(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.said_port else host


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    body: Mapping[str, Any]
    date_ms: int | None
    """What the other side's clock showed."""
    certificate_ends: dt.datetime | None


class NoAnswer(Exception):
    """Nobody answers there, or not in a way that a homeserver would take; ``str()`` says how it failed."""


def read_name(name: str) -> Place | None:
    """A server name, or what ``m.server`` says; None if it is neither."""
    match = _NAME.fullmatch(name)
    if match is None or int(match["port"] or 1) not in range(1, 65536):
        return None
    host = match["host"].strip("[]")
    return Place(host=host, port=int(match["port"] or _DEFAULT_PORT), said_port=match["port"] is not None)


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def look(config: HomeserverConfig) -> Iterator[Finding]:
    name = str(config.content.get("server_name", ""))
    place = read_name(name)
    if place is None:
        yield bad("federation.name", f"server_name: {name!r} is no name of a homeserver", "write a domain")
        return
    if place.host == "localhost":
        yield unseen("federation", "server_name is localhost, so no other homeserver can reach this one")
        return
    context = trusted(config)
    if not place.said_port and not is_address(place.host):
        delegated = yield from _well_known(place.host)
        place = delegated or place
    for each in (yield from _by_srv(place, _dns_servers(config))):
        yield from _reached(config, name, each, context)


def _dns_servers(config: HomeserverConfig) -> tuple[tuple[str, int], ...]:
    entries = config.module_entries()
    module = cast(Mapping[str, Any], entries[0].get("config") or {}) if entries else {}
    directory = cast(Mapping[str, Any], module.get("directory") or {})
    return srv.resolvers(directory.get("dns_servers") or ())


def _by_srv(place: Place, servers: Sequence[tuple[str, int]]) -> Generator[Finding, None, tuple[Place, ...]]:
    """Where a name without a port leads: as SRV records say, or to the usual port."""
    check = "federation.srv"
    if place.said_port or is_address(place.host):
        return (place,)
    try:
        found = srv.targets(place.host, servers)
    except srv.NoDns as failure:
        yield unseen(check, f"SRV records of {place.host} cannot be looked up: {failure}")
        return (place,)
    if not found:
        yield good(check, f"{place.host} has no SRV record, so others use port {_DEFAULT_PORT}")
        return (place,)
    yield good(check, f"SRV records send other homeservers to {', '.join(f'{host}:{port}' for host, port in found)}")
    return tuple(replace(place, target=target) for target in found)


def trusted(config: HomeserverConfig) -> ssl.SSLContext:
    """Certificates as this homeserver itself would trust them."""
    context = ssl.create_default_context()
    for path in config.content.get("federation_custom_ca_list") or ():
        context.load_verify_locations(cafile=config.resolve(str(path)))
    return context


def _well_known(host: str) -> Generator[Finding, None, Place | None]:
    check = "federation.well_known"
    try:
        answer = get(Place(host=host, port=443, said_port=False), "/.well-known/matrix/server", trusted_by_all())
    except NoAnswer as failure:
        yield warning(
            check,
            f"https://{host}/.well-known/matrix/server cannot be had: {failure}; others then look for "
            f"SRV records, and at port {_DEFAULT_PORT}",
            "serve it (serve_server_wellknown: true and a reverse proxy), unless that is meant",
        )
        return None
    if answer.status == http.client.NOT_FOUND:
        yield good(
            check,
            f"{host} serves no .well-known/matrix/server, so others look for SRV records, and at port {_DEFAULT_PORT}",
        )
        return None
    delegated = answer.body.get("m.server")
    place = read_name(delegated) if isinstance(delegated, str) else None
    if place is None:
        yield bad(
            check,
            f"https://{host}/.well-known/matrix/server does not say where the homeserver is (status {answer.status})",
            'serve {"m.server": "HOST:PORT"} there',
        )
        return None
    yield good(check, f".well-known sends other homeservers to {place.named}")
    return place


def _reached(config: HomeserverConfig, name: str, place: Place, context: ssl.SSLContext) -> Iterator[Finding]:
    check = "federation.reached"
    try:
        answer = get(place, "/_matrix/key/v2/server", context)
    except NoAnswer as failure:
        yield bad(
            check,
            f"other homeservers cannot reach this one at {place.shown}: {failure}",
            "open that port to a listener with the resource federation and a certificate for the name, or let "
            ".well-known send them elsewhere",
        )
        return
    said = answer.body.get("server_name")
    if said != name:
        yield bad(
            check, f"{place.shown} answers as the homeserver {said!r}, not as {name}", "correct the reverse proxy"
        )
        return
    path = config.path_at("signing_key_path")
    if path is not None and path.exists():
        shown = cast(Mapping[str, Any], answer.body.get("verify_keys") or {})
        if not _public_keys(path).items() <= {key_id: each.get("key") for key_id, each in shown.items()}.items():
            yield bad(
                "federation.key",
                f"{place.shown} shows other keys ({', '.join(sorted(shown)) or 'none'}) than {path.name} holds",
                "find out who answers under this name; if it is this homeserver, restart it",
            )
            return
    yield good(check, f"other homeservers reach this one at {place.shown}, by its own key")
    yield from certificate("federation.certificate", place.shown, answer)


def _public_keys(path: Path) -> dict[str, str]:
    """What Synapse publishes of a file of signing keys, by key id."""
    with path.open(encoding="ascii") as file:
        keys: list[Any] = read_signing_keys(file)
    return {f"{key.alg}:{key.version}": encode_verify_key_base64(get_verify_key(key)) for key in keys}


def certificate(check: str, where: str, answer: Answer) -> Iterator[Finding]:
    """How long the certificate that was shown there is good for."""
    if answer.certificate_ends is None:
        return
    left = answer.certificate_ends - dt.datetime.now(dt.UTC)
    line = f"the certificate of {where} is good for {left.days} more days"
    if left.days < _DAYS_LEFT:
        yield warning(check, line, "renew it")
    else:
        yield good(check, line)


def look_at_clock(check: str, whose: str, answer: Answer) -> Finding:
    """Payments between homeservers run against deadlines, so their clocks must roughly agree."""
    if answer.date_ms is None:
        return unseen(check, f"{whose} does not say what its clock shows")
    apart_s = answer.date_ms / 1000 - time.time()
    if abs(apart_s) > _CLOCK_LIMIT_S:
        return warning(
            check,
            f"the clock of {whose} is {abs(apart_s):.0f} s {'ahead of' if apart_s > 0 else 'behind'} this machine's",
            "let both follow a time server; payments between you may expire too early",
        )
    return good(check, f"the clock of {whose} agrees with this machine's")


def find(name: str) -> Place | None:
    """Where the federation of another homeserver listens, by .well-known; SRV records are not looked at."""
    place = read_name(name)
    if place is None or place.said_port or is_address(place.host):
        return place
    try:
        answer = get(Place(host=place.host, port=443, said_port=False), "/.well-known/matrix/server", trusted_by_all())
    except NoAnswer:
        return place
    delegated = answer.body.get("m.server")
    return (read_name(delegated) if isinstance(delegated, str) else None) or place


def trusted_by_all() -> ssl.SSLContext:
    return ssl.create_default_context()


def get(place: Place, path: str, context: ssl.SSLContext | None) -> Answer:
    """One GET, without following redirects; over TLS if there is a context.

    Raises:
        NoAnswer: there is none, or it is not as it should be.
    """
    host, port = place.target or (place.host, place.port)
    connection = (
        http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
        if context is None
        else http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=context)
    )
    try:
        if context is not None and place.target is not None:
            # The certificate is for the name, wherever an SRV record leads.
            plain = socket.create_connection(place.target, timeout=_TIMEOUT_S)
            connection.sock = context.wrap_socket(plain, server_hostname=place.host)
        connection.request("GET", path, headers={"Host": place.named, "Accept": "application/json"})
        ends = _ends(connection.sock)
        response = connection.getresponse()
        raw = response.read(_LARGEST_ANSWER)
        date = response.headers.get("Date")
        status = response.status
    except socket.gaierror:
        raise NoAnswer(f"the name {host} is not in the DNS") from None
    except ssl.SSLCertVerificationError as error:
        raise NoAnswer(f"its certificate is not valid: {error.verify_message}") from None
    except TimeoutError:
        raise NoAnswer(f"no answer within {_TIMEOUT_S:.0f} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(str(error) or type(error).__name__) from None
    finally:
        connection.close()
    return Answer(status=status, body=_object(raw), date_ms=_moment_ms(date), certificate_ends=ends)


def _object(raw: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(raw)
    except ValueError:
        return {}
    return cast(Mapping[str, Any], found) if isinstance(found, dict) else {}


def _ends(connected: object) -> dt.datetime | None:
    shown = connected.getpeercert() if isinstance(connected, ssl.SSLSocket) else None
    ends = (shown or {}).get("notAfter")
    return dt.datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), dt.UTC) if isinstance(ends, str) else None


def _moment_ms(date: str | None) -> int | None:
    if date is None:
        return None
    try:
        return int(email.utils.parsedate_to_datetime(date).timestamp() * 1000)
    except ValueError:
        return None
