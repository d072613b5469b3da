"""Network addresses as the pace of claims counts them: a household as one, and not readable in the database."""

import hashlib
import ipaddress
from typing import Final

from nacl.signing import SigningKey

_HOUSEHOLD_BITS: Final = 64
"""What a provider gives one customer of IPv6, at the least."""


def keyed(address: str, key: SigningKey) -> str:
    """A name for an address that nobody can turn back without the directory key.

    Empty for what is no public address: behind a proxy that hides its clients all of them would be one.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    if not found.is_global:
        return ""
    if isinstance(found, ipaddress.IPv6Address):
        household = ipaddress.ip_network((found, _HOUSEHOLD_BITS), strict=False).network_address
        found = household
    return hashlib.blake2b(found.packed, key=bytes(key), digest_size=16).hexdigest()
