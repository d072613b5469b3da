"""The signed objects of the directory: how they are built, and how a reader who trusts nobody checks them.

All are flat signed objects (``super_app.signing``) in canonical JSON. Fields that do not apply are left out, never
null, and fields that a reader does not know stay in the object, because the signature covers them.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar, cast

from nacl.signing import SigningKey
from pydantic import Field, ValidationError

from super_app.directory.model import (
    RECORD_LIFETIME_MS,
    Absent,
    Answer,
    AskedBy,
    DirectoryKey,
    Discover,
    Facts,
    Holding,
    Name,
    Record,
    ServicesPart,
    State,
    Status,
    Withdrawal,
    full,
)
from super_app.directory.moves import read_moved_from, read_moved_to
from super_app.directory.naming import spellings
from super_app.errors import Reason, Refused
from super_app.ids import Acct, Handle, ServerName, UserId, localpart_of, parse_user_id, server_of
from super_app.names import NAMESPACE
from super_app.signing import Spelled, from_b64, key_id_of, public_b64, signed, spell
from super_app.wire import OpenWireModel

RECORD_TYPE: Final = f"{NAMESPACE}.directory.record"
WITHDRAWAL_TYPE: Final = f"{NAMESPACE}.directory.withdrawal"
SERVICES_TYPE: Final = f"{NAMESPACE}.directory.services"
ABSENT_TYPE: Final = f"{NAMESPACE}.directory.absent"
KEY_TYPE: Final = f"{NAMESPACE}.directory.key"

VERSION: Final = 1
MAX_OBJECT_BYTES: Final = 8_192
CLOCK_SKEW_MS: Final = 300_000
ABSENT_LIFETIME_MS: Final = 60_000

_ACCT: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_HANDLE: Final = re.compile(r"@[\x21-\x39\x3b-\x7e]{1,200}:[A-Za-z0-9.\-\[\]:]{1,230}")

Ms = Annotated[int, Field(ge=0, le=2**53 - 1)]
W = TypeVar("W", bound="_Signed")


class _Signed(OpenWireModel):
    v: Literal[1]
    server: str
    issued: Ms
    key_id: str
    signature: str


class _Record(_Signed):
    type: Literal["org.superapp.directory.record"]
    handle: str
    acct: str
    user_id: str
    seq: Annotated[int, Field(ge=1, le=2**53 - 1)]
    prev: str | None = None
    status: Literal["active", "moved", "released", "frozen"]
    frozen_for: str | None = None
    discover: Literal["public", "exact", "link", "none"]
    alias_of: str | None = None
    expires: Ms
    services: dict[str, bool]
    badges: list[dict[str, Any]]
    moved_to: dict[str, Any] | None = None
    moved_from: dict[str, Any] | None = None


class _Withdrawal(_Signed):
    type: Literal["org.superapp.directory.withdrawal"]
    handle: str
    seq: Annotated[int, Field(ge=1, le=2**53 - 1)]


class _Services(_Signed):
    type: Literal["org.superapp.directory.services"]
    user_id: str
    acct: str
    expires: Ms
    services: dict[str, bool]
    moved_to: dict[str, Any] | None = None
    moved_from: dict[str, Any] | None = None


class _Absent(_Signed):
    type: Literal["org.superapp.directory.absent"]
    asked: str
    by: AskedBy = Field(strict=False)
    expires: Ms


class _Certificate(OpenWireModel):
    type: Literal["org.superapp.directory.key"]
    v: Literal[1]
    server: str
    key_id: str
    public_key: str
    issued: Ms
    signatures: dict[str, dict[str, str]]


# Building.


def record(
    held: Holding,
    server: ServerName,
    facts: Facts,
    key: SigningKey,
    *,
    seq: int,
    prev: str | None,
    alias_of: Name | None,
    issued_ms: int,
) -> dict[str, Any]:
    """The signed record of a holding as it stands."""
    return signed(
        {
            **stable_part(held, server, facts, alias_of=alias_of),
            "seq": seq,
            **({} if prev is None else {"prev": prev}),
            "issued": issued_ms,
            "expires": issued_ms + RECORD_LIFETIME_MS,
        },
        key,
    )


def stable_part(held: Holding, server: ServerName, facts: Facts, *, alias_of: Name | None) -> dict[str, Any]:
    """What a record says that does not change by itself: a record whose stable part is out of date is issued anew."""
    content: dict[str, Any] = {
        "type": RECORD_TYPE,
        "v": VERSION,
        "handle": full(held.name, server),
        "server": server,
        "acct": held.acct,
        "user_id": held.user_id,
        "status": held.status.value,
        "discover": held.discover.value,
        "services": dict(facts.services),
        "badges": [dict(badge) for badge in held.badges],
    }
    if facts.msk is not None:
        content["msk"] = facts.msk
    if held.frozen_for is not None:
        content["frozen_for"] = held.frozen_for.value
    if alias_of is not None:
        content["alias_of"] = full(alias_of, server)
    return {**content, **_moves(held)}


def _moves(held: Holding) -> dict[str, Any]:
    """Where its account went and came from; a name that did not go with it (a frozen one) says nothing of that."""
    went = held.moved_to if held.state is State.MOVED else None
    return {
        **({} if went is None else {"moved_to": dict(went)}),
        **({} if held.moved_from is None else {"moved_from": dict(held.moved_from)}),
    }


def withdrawal(handle: Handle, seq: int, key: SigningKey, *, issued_ms: int) -> dict[str, Any]:
    """Says that a handle left the feed, and not why."""
    return signed(
        {
            "type": WITHDRAWAL_TYPE,
            "v": VERSION,
            "handle": handle,
            "server": server_of(handle),
            "seq": seq,
            "issued": issued_ms,
        },
        key,
    )


def services_part(
    held: Holding, server: ServerName, facts: Facts, key: SigningKey, *, issued_ms: int
) -> dict[str, Any]:
    return signed(
        {
            "type": SERVICES_TYPE,
            "v": VERSION,
            "server": server,
            "user_id": held.user_id,
            "acct": held.acct,
            "services": dict(facts.services),
            **_moves(held),
            "issued": issued_ms,
            "expires": issued_ms + RECORD_LIFETIME_MS,
        },
        key,
    )


def absent(server: ServerName, asked: str, by: AskedBy, key: SigningKey, *, issued_ms: int) -> dict[str, Any]:
    """The one answer for a handle that does not exist and for one that is hidden from the asker."""
    return signed(
        {
            "type": ABSENT_TYPE,
            "v": VERSION,
            "server": server,
            "asked": asked,
            "by": by.value,
            "issued": issued_ms,
            "expires": issued_ms + ABSENT_LIFETIME_MS,
        },
        key,
    )


def certificate(server: ServerName, key: SigningKey, *, issued_ms: int) -> dict[str, Any]:
    """What the server's Matrix signing key has to sign (Matrix spec, appendices, "Signing JSON")."""
    return {
        "type": KEY_TYPE,
        "v": VERSION,
        "server": server,
        "key_id": key_id_of(key),
        "public_key": public_b64(key),
        "issued": issued_ms,
    }


# Checking.


def read_certificate(content: object, server: ServerName) -> DirectoryKey | Refused:
    """The key that a certificate names. Whether the Matrix key signed it is for the caller to ask the keyring."""
    found = _as_object(content)
    if found is None:
        return _bad(server, "the certificate is no object")
    try:
        wire = _Certificate.model_validate(found)
        raw = from_b64(wire.public_key)
    except (ValidationError, ValueError) as error:
        return _bad(server, f"the certificate is malformed ({_first_line(error)})")
    if wire.server != server or server not in wire.signatures or len(raw) != 32:
        return _bad(server, "the certificate is not that server's")
    return DirectoryKey(server=server, key_id=wire.key_id, public_key=wire.public_key, certificate=found)


def read_record(content: object, server: ServerName, public_key: str, now_ms: int) -> Record | Refused:
    """A record that ``server`` signed, for a handle and an account of its own, within its time."""
    read = _read(_Record, content, server, public_key)
    if isinstance(read, Refused):
        return read
    wire, spelled = read
    user_id = parse_user_id(wire.user_id)
    if _HANDLE.fullmatch(wire.handle) is None or server_of(Handle(wire.handle)) != server:
        return _bad(server, "a record's handle is not of that server")
    if user_id is None or server_of(user_id) != server or _ACCT.fullmatch(wire.acct) is None:
        return _bad(server, "a record's account is not of that server")
    late = _out_of_time(server, wire.issued, wire.expires, now_ms)
    if late is not None:
        return late
    moved_to = None if wire.status != "moved" else read_moved_to(wire.moved_to, server)
    if wire.status == "moved" and moved_to is None:
        return _bad(server, "a record says that somebody moved, and not to which other homeserver")
    return Record(
        handle=Handle(wire.handle),
        server=server,
        acct=Acct(wire.acct),
        user_id=user_id,
        seq=wire.seq,
        status=Status(wire.status),
        frozen_for=wire.frozen_for,
        discover=Discover(wire.discover),
        alias_of=None if wire.alias_of is None else Handle(wire.alias_of),
        issued_ms=wire.issued,
        expires_ms=wire.expires,
        badges=tuple(wire.badges),
        content=_as_object(content) or {},
        text=spelled.whole.decode(),
        moved_to=moved_to,
        moved_from=read_moved_from(wire.moved_from, server),
    )


def is_acct(text: str) -> bool:
    """Whether a text has the form of an acct."""
    return _ACCT.fullmatch(text) is not None


def read_feed_entry(content: object, server: ServerName, public_key: str, now_ms: int) -> Record | Withdrawal | Refused:
    """One entry of ``server``'s feed: a public record, or the withdrawal of one."""
    if _type_of(content) == WITHDRAWAL_TYPE:
        read = _read(_Withdrawal, content, server, public_key)
        if isinstance(read, Refused):
            return read
        wire, _ = read
        if _HANDLE.fullmatch(wire.handle) is None or server_of(Handle(wire.handle)) != server:
            return _bad(server, "a withdrawal's handle is not of that server")
        return Withdrawal(handle=Handle(wire.handle), server=server, seq=wire.seq, issued_ms=wire.issued)
    found = read_record(content, server, public_key, now_ms)
    if isinstance(found, Record) and found.discover is not Discover.PUBLIC:
        return _bad(server, "its feed holds a record that is not public")
    return found


def read_answer(
    content: object, server: ServerName, public_key: str, *, asked: str, by: AskedBy, now_ms: int
) -> Answer | Refused:
    """The answer of ``server`` to "who is ``asked``?", checked against what was asked."""
    kind = _type_of(content)
    if kind == ABSENT_TYPE:
        absent_read = _read(_Absent, content, server, public_key)
        if isinstance(absent_read, Refused):
            return absent_read
        absent_wire, _ = absent_read
        if (absent_wire.asked, absent_wire.by) != (asked, by):
            return _bad(server, "it answered another question")
        # A minute is less than two clocks may differ by.
        late = _out_of_time(server, absent_wire.issued, absent_wire.expires + CLOCK_SKEW_MS, now_ms)
        return late if late is not None else Absent(server=server, issued_ms=absent_wire.issued)
    if kind == SERVICES_TYPE:
        services_read = _read(_Services, content, server, public_key)
        if isinstance(services_read, Refused):
            return services_read
        services_wire, _ = services_read
        if by is not AskedBy.USER_ID or services_wire.user_id != asked or _ACCT.fullmatch(services_wire.acct) is None:
            return _bad(server, "it answered another question")
        late = _out_of_time(server, services_wire.issued, services_wire.expires, now_ms)
        return (
            late
            if late is not None
            else ServicesPart(
                server=server,
                acct=Acct(services_wire.acct),
                user_id=UserId(services_wire.user_id),
                issued_ms=services_wire.issued,
                expires_ms=services_wire.expires,
                moved_to=read_moved_to(services_wire.moved_to, server),
                moved_from=read_moved_from(services_wire.moved_from, server),
            )
        )
    found = read_record(content, server, public_key, now_ms)
    if isinstance(found, Refused):
        return found
    match by:
        case AskedBy.USER_ID:
            # A frozen handle answers for the user id that it spells: that string names nobody now.
            fits = found.user_id == asked or (found.status is Status.FROZEN and found.handle == asked)
        case AskedBy.HANDLE:
            fits = localpart_of(found.handle) in spellings(localpart_of(Handle(asked)))
    return found if fits else _bad(server, "it answered another question")


def _read(wire: type[W], content: object, server: ServerName, public_key: str) -> tuple[W, Spelled] | Refused:
    """The shape, the size, the server and the signature of an object."""
    signed_object = _as_object(content)
    if signed_object is None:
        return _bad(server, "it sent something that is no object")
    try:
        spelled = spell(signed_object)
        if spelled is not None and len(spelled.whole) > MAX_OBJECT_BYTES:
            return _bad(server, f"an object is larger than {MAX_OBJECT_BYTES} bytes")
        found = wire.model_validate(signed_object)
    except (ValidationError, ValueError, TypeError) as error:
        return _bad(server, f"an object is malformed ({_first_line(error)})")
    if found.server != server:
        return _bad(server, "an object names another server")
    if spelled is None or not spelled.is_signed_by(public_key):
        return _bad(server, "a signature does not verify")
    return found, spelled


def _as_object(content: object) -> Mapping[str, Any] | None:
    # JSON objects have no keys but strings.
    return cast(dict[str, Any], content) if isinstance(content, dict) else None


def _type_of(content: object) -> object:
    found = _as_object(content)
    return None if found is None else found.get("type")


def _out_of_time(server: ServerName, issued_ms: int, expires_ms: int, now_ms: int) -> Refused | None:
    if issued_ms > now_ms + CLOCK_SKEW_MS:
        return _bad(server, "an object is from the future; compare the clocks of the two servers")
    if expires_ms <= now_ms or not 0 < expires_ms - issued_ms <= RECORD_LIFETIME_MS:
        return _bad(server, "an object has expired")
    return None


def _bad(server: ServerName, what: str) -> Refused:
    return Refused(
        reason=Reason.BAD_RECORD,
        message=f"The directory of {server} cannot be trusted with this answer: {what}. Its operator has to look.",
    )


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(str(part) for part in first['loc']) or 'the object'}: {first['msg']}"
    return type(error).__name__
