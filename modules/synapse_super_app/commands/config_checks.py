"""What must be true of a homeserver's config before it starts. Reads values, never files, ports or databases.

Synapse ignores top-level keys that it does not know, so a misspelt one is silently without effect; those that this
product depends on are checked here, and each finding names the key and the remedy.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from synapse_super_app.commands.homeserver_config import MODULE, HomeserverConfig
from synapse_super_app.config import Config, InvalidConfig, parse_config


class Weight(Enum):
    REFUSE = "refuse"
    WARN = "warn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line: the key, what is wrong, the remedy."""

    weight: Weight
    line: str


# Spellings that look right, were never Synapse's, and would be ignored.
_RENAMED: Final[Mapping[str, str]] = {
    "ip_range_blocklist": "ip_range_blacklist",
    "ip_range_allowlist": "ip_range_whitelist",
    "federation_ip_range_blocklist": "federation_ip_range_blacklist",
    "federation_ip_range_allowlist": "ip_range_whitelist",
    "federation_ip_range_whitelist": "ip_range_whitelist",
    "federation_domain_allowlist": "federation_domain_whitelist",
    "url_preview_ip_range_blocklist": "url_preview_ip_range_blacklist",
    "url_preview_ip_range_allowlist": "url_preview_ip_range_whitelist",
    "url_preview_url_blocklist": "url_preview_url_blacklist",
    "rc_messages": "rc_message",
    "rc_delayed_events_mgmt": "rc_delayed_event_mgmt",
    "rc_delayed_event_management": "rc_delayed_event_mgmt",
    "max_event_delay": "max_event_delay_duration",
}

# Keys whose effect we count on: one that is nearly spelt like them is a mistake.
_DEPENDED_ON: Final = (
    "server_name",
    "public_baseurl",
    "listeners",
    "database",
    "modules",
    "signing_key_path",
    "registration_shared_secret_path",
    "macaroon_secret_key_path",
    "form_secret_path",
    "media_store_path",
    "max_event_delay_duration",
    "experimental_features",
    "federation_custom_ca_list",
    "federation_verify_certificates",
    "federation_ip_range_blacklist",
    "ip_range_blacklist",
    "ip_range_whitelist",
    "rc_user_directory",
    "rc_message",
    "rc_delayed_event_mgmt",
    "rc_federation",
    "trusted_key_servers",
    "suppress_key_server_warning",
)
# Keys of Synapse that are spelt nearly like one of those and mean something else.
_NEIGHBOURS: Final = frozenset(
    {
        "databases",
        "macaroon_secret_key",
        "registration_shared_secret",
        "url_preview_ip_range_blacklist",
        "user_directory",
    }
)
_NEARNESS: Final = 0.88

_SEARCHES_PER_SECOND: Final = 1.0
_SEARCHES_AT_ONCE: Final = 10.0
"""As many as one types letters of a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limit:
    """A rate limit of Synapse below whose default a feature breaks. A key that is missing has that default."""

    key: str
    defaults: Mapping[str, float]
    breaks: str


_LIMITS_OF_CALLS: Final = (
    _Limit(
        key="rc_message",
        defaults={"per_second": 0.2, "burst_count": 10},
        breaks="a call begins with some ten events of one person, and what is refused of them is no call",
    ),
    _Limit(
        key="rc_delayed_event_mgmt",
        defaults={"per_second": 1, "burst_count": 5},
        breaks="clients say every few seconds that they are still in a call, and are taken out of it when they may not",
    ),
)
_LIMITS_BETWEEN_HOMESERVERS: Final = (
    _Limit(
        key="rc_federation",
        defaults={"reject_limit": 50, "sleep_limit": 10, "concurrent": 3},
        breaks="other homeservers are refused when they look people up, ring or pay here",
    ),
)
_FEWEST_IN_A_WINDOW: Final = 10
"""Credentials or tokens that a person needs who is called back, changes networks and comes in by two devices."""
_FEWEST_READS: Final = 60
_FEWEST_WRITES: Final = 10


def findings(config: HomeserverConfig) -> list[Finding]:
    """All of them, those that refuse the start first."""
    found = [*_keys(config), *_shape(config), *_module(config)]
    return sorted(found, key=lambda finding: finding.weight is Weight.WARN)


def parsed_module_config(config: HomeserverConfig) -> Config:
    """Our part of a config without findings that refuse it."""
    return parse_config(config.module_entries()[0].get("config"))


def _refuse(line: str) -> Finding:
    return Finding(weight=Weight.REFUSE, line=line)


def _warn(line: str) -> Finding:
    return Finding(weight=Weight.WARN, line=line)


def _keys(config: HomeserverConfig) -> Iterator[Finding]:
    for key in config.content:
        right = _RENAMED.get(key) or _near(key)
        if right is not None:
            yield _refuse(f"{key}: Synapse does not know this key and would ignore it; write {right}")


def _near(key: str) -> str | None:
    if key in _DEPENDED_ON or key in _NEIGHBOURS:
        return None
    near = difflib.get_close_matches(key, _DEPENDED_ON, n=1, cutoff=_NEARNESS)
    return near[0] if near else None


def _shape(config: HomeserverConfig) -> Iterator[Finding]:
    content = config.content
    if not isinstance(content.get("server_name"), str):
        yield _refuse("server_name: missing; write the domain that stands after the colon in user ids, or localhost")
    if not isinstance(content.get("report_stats"), bool):
        yield _refuse(
            "report_stats: missing; write report_stats: false, or true to send usage figures to Synapse's makers"
        )
    if not any(listener.serves_clients for listener in config.listeners()):
        yield _refuse(
            "listeners: none serves clients on a port; add {port: 8008, type: http, bind_addresses: [127.0.0.1], "
            "resources: [{names: [client, federation]}]}"
        )
    if content.get("daemonize"):
        yield _refuse("daemonize: super-app up runs in the foreground; write daemonize: false")
    if not config.databases():
        yield _refuse(
            "database: missing; write database: {name: sqlite3, args: {database: data/homeserver.db}}, "
            "or name: psycopg2 with the args of a PostgreSQL server"
        )
    for key, database in config.databases().items():
        if database.get("name") not in ("sqlite3", "psycopg2"):
            yield _refuse(f"{key}.name: {database.get('name')!r} is no database; write sqlite3 or psycopg2")


def _module(config: HomeserverConfig) -> Iterator[Finding]:
    entries = config.module_entries()
    if len(entries) != 1:
        wrong = "missing" if not entries else "named twice"
        yield _refuse(f"modules: {MODULE} is {wrong}; it needs one entry, as in - {{module: {MODULE}, config: {{}}}}")
        return
    try:
        ours = parse_config(entries[0].get("config"))
    except InvalidConfig as error:
        yield _refuse(f"modules: {MODULE}: {error}")
        return
    yield from _payments(config, ours)
    yield from _directory(config.content, ours)
    yield from _calls(config.content, ours)
    yield from _too_tight(config.content, _LIMITS_BETWEEN_HOMESERVERS)
    yield from _own_limits(ours)


def _payments(config: HomeserverConfig, ours: Config) -> Iterator[Finding]:
    if not ours.features.payments:
        return
    for key, database in config.databases().items():
        if database.get("synchronous_commit") is False:
            yield _refuse(
                f"{key}.synchronous_commit: false lets a power cut undo payments that people were told had happened; "
                "remove it, or switch payments off under features"
            )
    if config.content.get("federation_verify_certificates") is False:
        yield _refuse(
            "federation_verify_certificates: false lets anyone on the network pose as another homeserver, and payments "
            "trust who it is; remove it (federation_custom_ca_list adds a CA of your own), or switch payments off"
        )


def _directory(content: Mapping[str, Any], ours: Config) -> Iterator[Finding]:
    limit = content.get("rc_user_directory")
    per_second = limit.get("per_second") if isinstance(limit, dict) else None
    burst = limit.get("burst_count", _SEARCHES_AT_ONCE) if isinstance(limit, dict) else 0
    slow = not isinstance(per_second, int | float) or per_second < _SEARCHES_PER_SECOND
    if ours.features.directory and not slow and isinstance(burst, int | float) and burst < _SEARCHES_AT_ONCE:
        yield _warn(
            f"rc_user_directory.burst_count: {burst} letters typed at once are all that is searched for; "
            "write rc_user_directory: {per_second: 5, burst_count: 200}"
        )
    if ours.features.directory and slow:
        yield _warn(
            "rc_user_directory: people search for handles as they type, and Synapse's default allows one search per "
            "minute; write rc_user_directory: {per_second: 5, burst_count: 200}"
        )


def _calls(content: Mapping[str, Any], ours: Config) -> Iterator[Finding]:
    if not ours.features.calls:
        return
    if "max_event_delay_duration" not in content:
        yield _warn(
            "max_event_delay_duration: without it a call whose client vanishes does not end; "
            "write max_event_delay_duration: 24h"
        )
    flags = content.get("experimental_features")
    if not (isinstance(flags, dict) and flags.get("msc4075_enabled")):
        yield _warn(
            "experimental_features.msc4075_enabled: without it the ring of a MatrixRTC call wakes no phone; "
            "write experimental_features: {msc4075_enabled: true}"
        )
    yield from _too_tight(content, _LIMITS_OF_CALLS)


def _too_tight(content: Mapping[str, Any], limits: Iterable[_Limit]) -> Iterator[Finding]:
    for limit in limits:
        given = content.get(limit.key)
        if not isinstance(given, dict):
            continue
        for name, default in limit.defaults.items():
            value = given.get(name, default)
            if isinstance(value, int | float) and value < default:
                yield _warn(
                    f"{limit.key}.{name}: {value} is less than Synapse's own {default:g}, and {limit.breaks}; "
                    f"write {default:g} or more"
                )


def _own_limits(ours: Config) -> Iterator[Finding]:
    """Of ours, those with which an ordinary person has enough of it in a minute; 0 is no limit."""
    calls, requests = ours.calls, ours.requests
    found = (
        (ours.features.calls and bool(calls.turn_uris), "calls.limits.turn", calls.limits.turn, _FEWEST_IN_A_WINDOW),
        (
            ours.features.calls and calls.livekit is not None,
            "calls.limits.tokens",
            calls.limits.tokens,
            _FEWEST_IN_A_WINDOW,
        ),
        (True, "requests.reads", requests.reads, _FEWEST_READS),
        (True, "requests.writes", requests.writes, _FEWEST_WRITES),
    )
    for is_used, key, value, fewest in found:
        if is_used and 0 < value < fewest:
            yield _warn(
                f"{key}: {value} is too few for one person who searches, calls and pays; write {fewest} or more"
            )
