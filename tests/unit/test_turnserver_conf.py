"""The coturn configuration that we ship: nothing private is reachable through it."""

import ipaddress
import re
from pathlib import Path
from typing import Final

import pytest

CONF: Final = Path(__file__).resolve().parents[2] / "docker" / "turnserver.conf"
LINES: Final = [line.partition("#")[0].strip() for line in CONF.read_text(encoding="utf-8").splitlines()]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def denied() -> list[tuple[Address, Address]]:
    found: list[tuple[Address, Address]] = []
    for line in LINES:
        match = re.fullmatch(r"denied-peer-ip=([0-9a-f.:]+)(?:-([0-9a-f.:]+))?", line)
        if match:
            found.append((ipaddress.ip_address(match[1]), ipaddress.ip_address(match[2] or match[1])))
    return found


def is_denied(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return any(low.version == address.version and int(low) <= int(address) <= int(high) for low, high in denied())


@pytest.mark.parametrize(
    "network",
    [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::1/128",
        "::ffff:0:0/96",
        "fc00::/7",
        "fe80::/10",
        "ff00::/8",
    ],
)
def test_no_address_of_a_network_of_ones_own_is_relayed_to(network: str) -> None:
    whole = ipaddress.ip_network(network)
    assert is_denied(str(whole[0]))
    assert is_denied(str(whole[-1]))


@pytest.mark.parametrize("address", ["1.1.1.1", "172.32.0.1", "192.169.0.1", "100.128.0.1", "2600::1"])
def test_the_internet_is(address: str) -> None:
    assert not is_denied(address)


@pytest.mark.parametrize("line", ["use-auth-secret", "cli-ip=127.0.0.1", "no-multicast-peers", "no-tcp-relay"])
def test_what_keeps_it_to_calls_is_on(line: str) -> None:
    assert line in LINES
    assert "allow-loopback-peers" not in LINES


def test_quotas_are_set() -> None:
    keys = {line.partition("=")[0] for line in LINES}
    assert {"user-quota", "total-quota"} <= keys
