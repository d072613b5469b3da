"""What a homeserver says of itself beside its checkpoint: its keys, features, fees and links, signed and logged."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, cast

from pydantic import Field, ValidationError

from super_app.db import Cursor
from super_app.directory import heads_store, log
from super_app.directory.model import RECORD_LIFETIME_MS, RENEW_AFTER_MS
from super_app.directory.records import Ms
from super_app.directory.service import Issuer
from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from super_app.names import NAMESPACE
from super_app.signing import canonical, digest, signed, verify
from super_app.wire import OpenWireModel

SERVER_TYPE: Final = f"{NAMESPACE}.directory.server"
_VERSION: Final = 1
MAX_BYTES: Final = 65_536
_CHANGING: Final = frozenset({"seq", "prev", "issued", "expires", "key_id", "signature"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRecord:
    """A verified server record. ``content`` is the signed object as it came."""

    server: ServerName
    issued_ms: int
    expires_ms: int
    content: Mapping[str, Any]


class _Wire(OpenWireModel):
    type: Literal["org.superapp.directory.server"]
    v: Literal[1]
    server: str
    seq: Annotated[int, Field(ge=1, le=2**53 - 1)]
    features: dict[str, bool]
    issued: Ms
    expires: Ms
    key_id: str
    signature: str


def current(cur: Cursor, issuer: Issuer, facts: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
    """The newest server record, issued anew (and logged) if it is old or ``facts`` are others by now."""
    said = {"type": SERVER_TYPE, "v": _VERSION, "server": issuer.server, **facts}
    known = heads_store.server_record(cur)
    if known is not None and _still_says(known, said) and known["issued"] + RENEW_AFTER_MS > now_ms:
        return known
    fresh = signed(
        {
            **said,
            "seq": 1 if known is None else known["seq"] + 1,
            **({} if known is None else {"prev": digest(known)}),
            "issued": now_ms,
            "expires": now_ms + RECORD_LIFETIME_MS,
        },
        issuer.key,
    )
    heads_store.set_server_record(cur, canonical(fresh).decode())
    log.append(cur, log.SERVER_RECORD, digest(fresh), issuer.salt_seed)
    return fresh


def _still_says(known: Mapping[str, Any], said: Mapping[str, Any]) -> bool:
    return {name: value for name, value in known.items() if name not in _CHANGING} == dict(said)


def read(content: object, server: ServerName, public_key: str, now_ms: int) -> ServerRecord | Refused:
    """A server record that ``server`` signed, within its time."""
    try:
        wire = _Wire.model_validate(content)
        fits = len(canonical(content)) <= MAX_BYTES
    except (ValidationError, ValueError, TypeError):
        return _bad(server, "its server record is malformed")
    found = cast(Mapping[str, Any], content)
    if not fits or wire.server != server or not verify(found, public_key):
        return _bad(server, "its server record is not signed by it")
    if not wire.issued < wire.expires <= wire.issued + RECORD_LIFETIME_MS or wire.expires <= now_ms:
        return _bad(server, "its server record has expired")
    return ServerRecord(server=server, issued_ms=wire.issued, expires_ms=wire.expires, content=found)


def _bad(server: ServerName, what: str) -> Refused:
    return Refused(
        reason=Reason.BAD_RECORD,
        message=f"The directory of {server} cannot be trusted with this answer: {what}. Its operator has to look.",
    )
