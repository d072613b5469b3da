"""Badges: signed statements, with an issuer and an end, that somebody is who their handle says.

A badge is for one handle of one account, so it does not survive a rename or a new owner. The operator of the handle's
homeserver issues one on their own word, or after a domain named the handle; an organisation, which is a verified handle
itself, issues one for its members, signed by its own homeserver.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal

from nacl.signing import SigningKey
from pydantic import ValidationError

from super_app.directory.model import DAY_MS
from super_app.ids import Acct, Handle, ServerName, server_of
from super_app.names import NAMESPACE
from super_app.signing import signed, verify
from super_app.wire import OpenWireModel

BADGE_TYPE: Final = f"{NAMESPACE}.directory.badge"
VERSION: Final = 1
MAX_BADGES: Final = 8
"""On one handle; more would not fit into a record."""
RECHECKED_LIFETIME_MS: Final = 14 * DAY_MS
RENEW_BEFORE_END_MS: Final = 10 * DAY_MS
"""What is rechecked each day is signed anew by then: a homeserver that is away for a week takes no badge away."""
OPERATOR_LIFETIME_MS: Final = 365 * DAY_MS


class Kind(StrEnum):
    OPERATOR = "operator"
    DOMAIN = "domain"
    ORGANISATION = "organisation"


class _Badge(OpenWireModel):
    type: Literal["org.superapp.directory.badge"]
    v: Literal[1]
    kind: Literal["operator", "domain", "organisation"]
    issuer: str
    server: str
    handle: str
    acct: str
    issued: int
    expires: int
    key_id: str
    signature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    """A badge whose signature holds. ``issuer`` is a server name, a domain, or the handle of an organisation."""

    kind: Kind
    issuer: str
    server: ServerName
    expires_ms: int
    content: Mapping[str, Any]

    @property
    def vouched_by(self) -> frozenset[str]:
        """On whose word it stands, for who trusts only some.

        A domain counts by its own name, and by that of the server that asked it and signed.
        """
        return frozenset({self.server, self.issuer} if self.kind is Kind.DOMAIN else {self.issuer})


def badge(
    kind: Kind,
    issuer: str,
    server: ServerName,
    handle: Handle,
    acct: Acct,
    key: SigningKey,
    *,
    issued_ms: int,
    expires_ms: int,
) -> dict[str, Any]:
    """A badge, signed by the directory key of ``server``."""
    return signed(
        {
            "type": BADGE_TYPE,
            "v": VERSION,
            "kind": kind.value,
            "issuer": issuer,
            "server": server,
            "handle": handle,
            "acct": acct,
            "issued": issued_ms,
            "expires": expires_ms,
        },
        key,
    )


def server_of_badge(content: object) -> ServerName | None:
    """Whose key must have signed a badge, None if it is none."""
    try:
        return ServerName(_Badge.model_validate(content).server)
    except ValidationError:
        return None


def read(content: Mapping[str, Any], public_key: str, handle: Handle, acct: Acct, now_ms: int) -> Badge | None:
    """A badge for this handle of this account, None if it is anything else, or over.

    ``public_key`` is the directory key of the server that ``server_of_badge`` names.
    """
    try:
        wire = _Badge.model_validate(content)
    except ValidationError:
        return None
    kind = Kind(wire.kind)
    by_home = wire.server == server_of(handle)
    match kind:
        case Kind.OPERATOR:
            entitled = by_home and wire.issuer == wire.server
        case Kind.DOMAIN:
            entitled = by_home
        case Kind.ORGANISATION:
            entitled = server_of(Handle(wire.issuer)) == wire.server
    if not entitled or (wire.handle, wire.acct) != (handle, acct) or not wire.issued < now_ms + DAY_MS:
        return None
    if wire.expires <= now_ms or not verify(content, public_key):
        return None
    return Badge(
        kind=kind, issuer=wire.issuer, server=ServerName(wire.server), expires_ms=wire.expires, content=content
    )


def is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two badges say the same, so that one takes the place of the other."""
    return (one.get("kind"), one.get("issuer")) == (other.get("kind"), other.get("issuer"))
