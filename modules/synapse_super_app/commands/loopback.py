"""Configs of homeservers that live on this machine only: for the demo, the system tests and the benchmarks.

They are made, not edited: rate limits are out of the way, a peer that comes back is retried at once, and accounts are
made with a known secret. ``homeserver.yaml`` is the config of a homeserver for people.
"""

import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from synapse_super_app.commands.certificates import ServerCertificate
from synapse_super_app.commands.homeserver_config import MODULE

ADDRESS: Final = "127.0.0.1"
# Known to everybody on this machine, as is all that these homeservers hold; they listen on loopback only.
REGISTRATION_SECRET: Final = "only-on-this-machine"  # noqa: S105

PORTS = range(20_000, 32_000)
"""Where free ports are looked for: below those that the kernel gives to connections. Tests at once share it out."""
_PORT_TRIES: Final = 200
_PLENTY: Final = {"per_second": 10_000, "burst_count": 10_000}
_UNLIMITED: Final = {"requests": {"reads": 0, "writes": 0, "public": 0, "admin": 0}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation:
    """The side that other homeservers reach. The server's name is its address and this port."""

    port: int
    certificate: ServerCertificate


def server_name(port: int) -> str:
    """A name with an IP address and a port needs neither DNS nor .well-known, so two servers find each other."""
    return f"{ADDRESS}:{port}"


def free_ports(count: int) -> int:
    """The first of ``count`` consecutive ports that are free now, below the range that the kernel hands out itself.

    Raises:
        RuntimeError: there are none.
    """
    for _ in range(_PORT_TRIES):
        first = PORTS.start + secrets.randbelow(len(PORTS) - count)
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise RuntimeError(f"found no {count} free ports in a row between {PORTS.start} and {PORTS.stop}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
    return True


def client_url(port: int) -> str:
    return f"http://{ADDRESS}:{port}"


def sqlite(folder: Path) -> dict[str, Any]:
    return {"name": "sqlite3", "args": {"database": str(folder / "homeserver.db")}}


def postgresql(arguments: Mapping[str, str | int]) -> dict[str, Any]:
    return {"name": "psycopg2", "args": {**arguments, "cp_min": 3, "cp_max": 10}}


def synapse_config(
    *,
    folder: Path,
    client_port: int,
    database: Mapping[str, Any],
    module_config: Mapping[str, Any] | None,
    federation: Federation | None = None,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A whole Synapse config. ``module_config`` None leaves our module out; ``more`` are top-level keys to add."""
    listeners: list[dict[str, Any]] = [_listener(client_port, "client", tls=False)]
    keys: dict[str, Any] = {}
    if federation is not None:
        listeners.append(_listener(federation.port, "federation", tls=True))
        keys = {
            "tls_certificate_path": str(federation.certificate.certificate_path),
            "tls_private_key_path": str(federation.certificate.key_path),
            # Peers are verified under this CA; nothing is switched off.
            "federation_custom_ca_list": [str(federation.certificate.ca_path)],
            # The peer is on loopback, which is forbidden by default.
            "federation_ip_range_blacklist": [],
            # A peer that was away is tried again soon, not after ten minutes.
            "federation": {
                "destination_min_retry_interval": "1s",
                "destination_max_retry_interval": "2s",
                "destination_retry_multiplier": 2,
            },
        }
    return {
        "server_name": server_name(client_port if federation is None else federation.port),
        "public_baseurl": client_url(client_port) + "/",
        "listeners": listeners,
        **keys,
        "database": dict(database),
        "pid_file": str(folder / "homeserver.pid"),
        "media_store_path": str(folder / "media"),
        "signing_key_path": str(folder / "signing.key"),
        "registration_shared_secret": REGISTRATION_SECRET,
        "macaroon_secret_key": REGISTRATION_SECRET,
        "form_secret": REGISTRATION_SECRET,
        # Known passwords need no slow hash.
        "bcrypt_rounds": 4,
        "report_stats": False,
        "trusted_key_servers": [],
        "suppress_key_server_warning": True,
        "max_event_delay_duration": "24h",
        "experimental_features": {"msc4075_enabled": True},
        # A new database is finished at once instead of over half a minute.
        "background_updates": {"sleep_enabled": False},
        **_no_rate_limits(),
        "modules": [] if module_config is None else [{"module": MODULE, "config": {**_UNLIMITED, **module_config}}],
        **(more or {}),
    }


def _listener(port: int, resource: str, *, tls: bool) -> dict[str, Any]:
    return {
        "port": port,
        "bind_addresses": [ADDRESS],
        "type": "http",
        "tls": tls,
        "resources": [{"names": [resource]}],
    }


def _no_rate_limits() -> dict[str, Any]:
    flat = (
        "message registration registration_token_validity admin_redaction joins_per_room 3pid_validation "
        "third_party_invite media_create delayed_event_mgmt room_creation key_requests reports user_directory profile"
    )
    return {
        **{f"rc_{name}": _PLENTY for name in flat.split()},
        "rc_login": {"address": _PLENTY, "account": _PLENTY, "failed_attempts": _PLENTY},
        "rc_joins": {"local": _PLENTY, "remote": _PLENTY},
        "rc_invites": {"per_room": _PLENTY, "per_user": _PLENTY, "per_issuer": _PLENTY},
        "rc_presence": {"per_user": _PLENTY},
        "rc_federation": {
            "window_size": 1000,
            "sleep_limit": 10_000,
            "sleep_delay": 1,
            "reject_limit": 100_000,
            "concurrent": 100,
        },
    }
