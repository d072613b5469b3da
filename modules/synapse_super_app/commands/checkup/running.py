"""The running homeserver itself: that it answers and what is on; with an admin's token also its links and books."""

import http.client
import ssl
from collections.abc import Iterator
from typing import Any, Final, cast
from urllib.parse import urlsplit

from super_app.money import Asset, AssetCode, format_money
from super_app.names import CLIENT_API_PREFIX
from synapse_super_app.commands.checkup import federation
from synapse_super_app.commands.checkup.federation import NoAnswer, Place
from synapse_super_app.commands.checkup.findings import Finding, bad, good, unseen, warning
from synapse_super_app.commands.homeserver_config import HomeserverConfig
from synapse_super_app.commands.matrix_client import Json, MatrixClient, MatrixError, UnreachableError
from synapse_super_app.config import Config, FeatureName

_SHOWS: Final = {
    # One path of each feature in the OpenAPI document.
    FeatureName.DIRECTORY: "/handles/{handle}",
    FeatureName.CALLS: "/calls",
    FeatureName.PAYMENTS: "/wallet",
}
_MUCH_USED: Final = 0.8
_MANY_UNSENT: Final = 100


def look(url: str, module: Config) -> Iterator[Finding]:
    """What anyone can see."""
    check = "homeserver"
    with MatrixClient(url, timeout_s=10) as client:
        try:
            client.request("GET", "/_matrix/client/versions")
            document = client.request("GET", f"{CLIENT_API_PREFIX}/openapi.json")
        except UnreachableError:
            yield bad(check, f"no homeserver answers at {url}", "start it with super-app up, or name it with --url")
            return
        except MatrixError as refusal:
            yield bad(check, f"the homeserver at {url} has no API of ours: {refusal}", "see its log for why")
            return
    paths = cast(dict[str, Any], document.get("paths") or {})
    yield good(check, f"it answers at {url}")
    for feature, path in _SHOWS.items():
        if not getattr(module.features, feature.value):
            continue
        if any(each.endswith(path) for each in paths):
            yield good(f"feature.{feature.value}", f"the feature {feature.value} is on")
        else:
            yield bad(
                f"feature.{feature.value}",
                f"the feature {feature.value} is on in the config, and off in the running homeserver",
                "its log says why; it needs a restart after a change of the config",
            )


def look_at_public_url(config: HomeserverConfig) -> Iterator[Finding]:
    """Where clients come from outside: the URL in the config, and its certificate."""
    url = config.content.get("public_baseurl")
    if not isinstance(url, str):
        yield warning(
            "public_url", "public_baseurl: missing, so links to this homeserver are a guess", "write its public URL"
        )
        return
    parts = urlsplit(url)
    if parts.hostname in ("localhost", "127.0.0.1", "::1"):
        yield unseen("public_url", "public_baseurl is on this machine, so nobody outside reaches it")
        return
    if parts.scheme != "https" or parts.hostname is None:
        yield bad("public_url", f"public_baseurl: {url} is not https, so passwords travel in clear", "use TLS")
        return
    place = Place(host=parts.hostname, port=parts.port or 443, said_port=parts.port is not None)
    try:
        answer = federation.get(place, parts.path.rstrip("/") + "/_matrix/client/versions", federation.trusted_by_all())
    except NoAnswer as failure:
        yield bad(
            "public_url", f"clients cannot reach {url}: {failure}", "look at the reverse proxy and its certificate"
        )
        return
    if answer.status != http.client.OK or "versions" not in answer.body:
        yield bad("public_url", f"{url} is answered by something other than this homeserver", "pass /_matrix on to it")
        return
    yield good("public_url", f"clients reach {url}")
    yield from federation.certificate("public_url.certificate", place.named, answer)
    yield federation.look_at_clock("public_url.clock", place.named, answer)


def look_inside(client: MatrixClient, config: HomeserverConfig, module: Config) -> Iterator[Finding]:
    """Books and links, as an admin sees them."""
    if not module.features.payments:
        return
    yield _books(client)
    links = cast(list[Json], client.superapp("GET", "admin/links")["links"])
    if not links:
        yield good("links", "there is no link, so people here pay only one another")
    trusted = federation.trusted(config)
    for link in links:
        yield from _link(link)
        yield from _peer(str(link["peer"]), trusted)


def _books(client: MatrixClient) -> Finding:
    found = client.invariants()
    if found.get("ok"):
        return good("books", "the books balance, and all invariants hold")
    broken = "; ".join(
        f"{each['invariant']} at {each['where']} by {each['off_by']}" for each in cast(list[Json], found["broken"])
    )
    return bad(
        "books", f"an invariant of the books is broken: {broken}", "stop payments (payments.halt_file), and look"
    )


def _link(link: Json) -> Iterator[Finding]:
    peer, state = link["peer"], link["state"]
    check = f"link.{peer}"
    waits = ". ".join(cast(list[str], link["waits"]))
    if state in ("frozen", "halted") or link["evidence"]:
        kept = f"; evidence is kept: {', '.join(link['evidence'])}" if link["evidence"] else ""
        yield bad(check, f"the link with {peer} is {state}{kept}", waits or f"super-app link show {peer}")
    elif state != "open":
        yield warning(check, f"the link with {peer} is {state}", waits or f"super-app link show {peer}")
    else:
        yield good(check, f"the link with {peer} is open")
    for each in cast(list[Json], link["currencies"]):
        granted, used = each["granted_minor"], each["used_minor"]
        if granted and used >= _MUCH_USED * granted:
            asset = Asset(code=AssetCode(each["currency"]), scale=each["scale"])
            yield warning(
                f"{check}.{asset.code}",
                f"{peer} uses {format_money(used, asset)} of the {format_money(granted, asset)} that we grant it; "
                "beyond that its people cannot pay ours",
                f"ask it to settle, or raise the limit with super-app link limit {peer}",
            )
    if link["unsent"] >= _MANY_UNSENT:
        why = f" ({link['last_error']})" if link["last_error"] else ""
        yield warning(
            f"{check}.unsent", f"{link['unsent']} objects wait for {peer} to take them{why}", "see whether it is up"
        )


def _peer(name: str, trusted: ssl.SSLContext) -> Iterator[Finding]:
    place = federation.find(name)
    if place is None:
        return
    try:
        answer = federation.get(place, "/_matrix/federation/v1/version", trusted)
    except NoAnswer as failure:
        yield warning(f"peer.{name}", f"{name} cannot be reached: {failure}", "payments to it wait until it is back")
        return
    yield federation.look_at_clock(f"peer.{name}.clock", name, answer)
