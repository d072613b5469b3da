"""The halves of a move between homeservers: how they are built, and how a reader who trusts nobody checks them.

A move has two halves. The old one is a record with ``moved_to``, which the old homeserver signs, or a *claim*, which
the recovery key of the account signs where that homeserver is gone. The new one is an *acceptance*, which the new
homeserver signs before anything moves, and ``moved_from`` in the records that it issues from then on. Whoever follows
a move has seen both, each from its own homeserver.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, cast

from nacl.signing import SigningKey
from pydantic import Field, ValidationError

from super_app.accounts.model import Genesis
from super_app.directory.model import DAY_MS, MovedFrom, MovedTo, Status
from super_app.errors import Reason, Refused
from super_app.ids import Acct, Handle, ServerName, UserId, parse_user_id, server_of
from super_app.names import NAMESPACE
from super_app.signing import canonical, digest, from_b64, signed, verify
from super_app.wire import OpenWireModel, WireModel

ACCEPT_TYPE: Final = f"{NAMESPACE}.directory.accept"
CLAIM_TYPE: Final = f"{NAMESPACE}.directory.claim"

_VERSION: Final = 1
MAX_HOPS: Final = 3
"""How many moves one question follows."""
FORWARD_MS: Final = 365 * DAY_MS
"""How long the old homeserver says where somebody went, and the new one where they came from."""
ANNOUNCED_MS: Final = DAY_MS
"""How long after somebody announced themselves at the new homeserver the old one may move them."""
SKEW_MS: Final = 300_000
UNCONTESTED_MS: Final = 72 * 3_600_000
"""How long the old homeserver has to be silent before the word of a recovery key is followed."""
CAREFUL_MS: Final = 72 * 3_600_000
"""How long after a move large payments wait."""
_MAX_CLAIM_BYTES: Final = 2_048

_Ms = Annotated[int, Field(ge=0, le=2**53 - 1)]


class _Accept(OpenWireModel):
    type: Literal["org.superapp.directory.accept"]
    v: Literal[1]
    server: str
    user_id: str
    acct: str
    handle: str
    from_user_id: str
    from_acct: str
    issued: _Ms
    key_id: str
    signature: str


class _Genesis(WireModel):
    v: Literal[1]
    server: str
    localpart: str
    created_ms: _Ms
    nonce: str
    recovery_key: str


class _Claim(WireModel):
    type: Literal["org.superapp.directory.claim"]
    v: Literal[1]
    genesis: _Genesis
    to_user_id: str
    to_acct: str
    issued: _Ms
    key_id: str
    signature: str


class _MovedTo(OpenWireModel):
    user_id: str
    acct: str
    handle: str
    since: _Ms
    accept: dict[str, Any]


class _MovedFrom(OpenWireModel):
    user_id: str
    acct: str
    since: _Ms
    claim: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A verified acceptance: an account of the new homeserver takes over from one of another."""

    user_id: UserId
    acct: Acct
    handle: Handle
    issued_ms: int
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A verified word of a recovery key: the account of which it is goes to ``to_acct``."""

    acct: Acct
    user_id: UserId
    to_user_id: UserId
    to_acct: Acct
    issued_ms: int
    content: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A place where somebody was or is, as its homeserver vouches for it now."""

    user_id: UserId
    acct: Acct
    handle: Handle | None
    status: Status
    moved_to: MovedTo | None
    moved_from: MovedFrom | None


# Building.


def acceptance(
    key: SigningKey,
    *,
    user_id: UserId,
    acct: Acct,
    handle: Handle,
    from_user_id: UserId,
    from_acct: Acct,
    issued_ms: int,
) -> dict[str, Any]:
    """The new half, before anything has moved."""
    return signed(
        {
            "type": ACCEPT_TYPE,
            "v": _VERSION,
            "server": server_of(user_id),
            "user_id": user_id,
            "acct": acct,
            "handle": handle,
            "from_user_id": from_user_id,
            "from_acct": from_acct,
            "issued": issued_ms,
        },
        key,
    )


def moved_to(accepted: Accepted, since_ms: int) -> dict[str, Any]:
    """What the records of the old homeserver say from now on."""
    return {
        "user_id": accepted.user_id,
        "acct": accepted.acct,
        "handle": accepted.handle,
        "since": since_ms,
        "accept": dict(accepted.content),
    }


def moved_from(user_id: UserId, acct: Acct, since_ms: int, claim: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the records of the new homeserver say from now on."""
    content: dict[str, Any] = {"user_id": user_id, "acct": acct, "since": since_ms}
    return content if claim is None else {**content, "claim": dict(claim)}


def claim(
    key: SigningKey, genesis: Mapping[str, Any], *, to_user_id: UserId, to_acct: Acct, issued_ms: int
) -> dict[str, Any]:
    """The word of a recovery key. Whoever has the key writes it anywhere; no homeserver is needed."""
    return signed(
        {
            "type": CLAIM_TYPE,
            "v": _VERSION,
            "genesis": dict(genesis),
            "to_user_id": to_user_id,
            "to_acct": to_acct,
            "issued": issued_ms,
        },
        key,
    )


# Checking.


def read_acceptance(
    content: object, server: ServerName, public_key: str, *, from_user_id: UserId, from_acct: Acct, now_ms: int
) -> Accepted | Refused:
    """The acceptance that ``server`` signed for this very account, just now."""
    try:
        wire = _Accept.model_validate(content)
    except ValidationError:
        return _bad(server, "what it says about who arrives there is malformed")
    found = cast(Mapping[str, Any], content)
    if wire.server != server or not verify(found, public_key):
        return _bad(server, "it did not sign what it says about who arrives there")
    if (wire.from_user_id, wire.from_acct) != (from_user_id, from_acct):
        return _bad(server, "it accepted somebody else")
    user_id = parse_user_id(wire.user_id)
    if user_id is None or server_of(user_id) != server or server_of(Handle(wire.handle)) != server:
        return _bad(server, "it accepted for an account of another homeserver")
    if not now_ms - ANNOUNCED_MS <= wire.issued <= now_ms + SKEW_MS:
        return _bad(server, "what it says about who arrives there is old; compare the clocks of the two servers")
    return Accepted(
        user_id=user_id, acct=Acct(wire.acct), handle=Handle(wire.handle), issued_ms=wire.issued, content=found
    )


def read_claim(content: object, *, to_user_id: UserId, to_acct: Acct, now_ms: int) -> Claim | Refused:
    """The word of a recovery key that sends the account it belongs to here."""
    try:
        wire = _Claim.model_validate(content)
        found = cast(Mapping[str, Any], content)
        fits = len(canonical(found)) <= _MAX_CLAIM_BYTES
        public = from_b64(wire.genesis.recovery_key)
    except (ValidationError, ValueError, TypeError):
        return _unproved("it is malformed; make it with `super-app recovery-key claim`")
    genesis = Genesis(
        server=ServerName(wire.genesis.server),
        localpart=wire.genesis.localpart,
        created_ms=wire.genesis.created_ms,
        nonce=wire.genesis.nonce,
        recovery_key=wire.genesis.recovery_key,
    )
    user_id = parse_user_id(f"@{genesis.localpart}:{genesis.server}")
    if not fits or user_id is None or len(public) != 32 or digest(found["genesis"]) != genesis.acct():
        return _unproved("the genesis in it is not one of an account")
    if not verify(found, wire.genesis.recovery_key):
        return _unproved("the recovery key that the genesis names did not sign it")
    if (wire.to_user_id, wire.to_acct) != (to_user_id, to_acct):
        return _unproved(f"it names another account than {to_user_id} to go to")
    if server_of(user_id) == server_of(to_user_id):
        return _unproved("it leads to the homeserver that it comes from")
    if wire.issued > now_ms + SKEW_MS:
        return _unproved("it is from the future; look at the clock of the machine that made it")
    return Claim(
        acct=genesis.acct(),
        user_id=user_id,
        to_user_id=to_user_id,
        to_acct=to_acct,
        issued_ms=wire.issued,
        content=found,
    )


def read_moved_to(content: object, server: ServerName) -> MovedTo | None:
    """``moved_to`` of an object of ``server`` that is verified; None if it leads nowhere."""
    try:
        wire = _MovedTo.model_validate(content)
    except ValidationError:
        return None
    user_id = parse_user_id(wire.user_id)
    if user_id is None or server_of(user_id) == server or server_of(Handle(wire.handle)) != server_of(user_id):
        return None
    return MovedTo(
        user_id=user_id, acct=Acct(wire.acct), handle=Handle(wire.handle), since_ms=wire.since, accept=wire.accept
    )


def read_moved_from(content: object, server: ServerName) -> MovedFrom | None:
    """``moved_from`` of an object of ``server`` that is verified; None if there is none."""
    try:
        wire = _MovedFrom.model_validate(content)
    except ValidationError:
        return None
    user_id = parse_user_id(wire.user_id)
    if user_id is None or server_of(user_id) == server:
        return None
    return MovedFrom(user_id=user_id, acct=Acct(wire.acct), since_ms=wire.since, claim=wire.claim)


# Following.


def judge_hop(before: Stop, after: Stop, visited: frozenset[Acct]) -> Refused | None:
    """Whether one homeserver's ``moved_to`` and another's ``moved_from`` are the two halves of one move."""
    to = before.moved_to
    if to is None:
        raise ValueError(f"{before.user_id} has not moved")
    if (after.user_id, after.acct) != (to.user_id, to.acct):
        return unconfirmed(before.user_id, to)
    back = after.moved_from
    if back is None or (back.user_id, back.acct) != (before.user_id, before.acct):
        return unconfirmed(before.user_id, to)
    if after.acct in visited or len(visited) > MAX_HOPS:
        return going_around(before.user_id)
    return None


def going_around(user_id: UserId) -> Refused:
    return Refused(
        reason=Reason.BAD_RECORD,
        message=(
            f"{user_id} is said to have moved, in a circle or more than {MAX_HOPS} times; ask the person where they "
            "are now."
        ),
    )


def unconfirmed(user_id: UserId, to: MovedTo) -> Refused:
    """The old homeserver says where; the new one does not say that they are there."""
    return Refused(
        reason=Reason.PAYEE_MOVED,
        message=(
            f"{user_id} is said to have moved to {to.handle}, and {server_of(to.user_id)} does not confirm it; ask the "
            "person, or try again later."
        ),
        fields={"moved_to": to.handle},
    )


def has_gone(user_id: str, handle: Handle) -> Refused:
    """What cannot go to the new place by itself says where that is."""
    return Refused(
        reason=Reason.PAYEE_MOVED,
        message=f"{user_id} moved to {handle}; nothing was paid. Pay {handle} instead, once you are sure that it is "
        "the same person.",
        fields={"moved_to": handle},
    )


# Deciding.


def judge_departure(user_id: UserId, to: UserId, *, moved: bool, frozen: bool) -> Refused | None:
    """Whether an account of this homeserver may go to ``to``."""
    if moved:
        return Refused(
            reason=Reason.CONFLICT,
            message=f"{user_id} has moved already, and a move is final; go on from where it went.",
        )
    if server_of(to) == server_of(user_id):
        return Refused(
            reason=Reason.INVALID_VALUE,
            message=f"{to} is on this homeserver; a move leads to another one.",
        )
    if frozen:
        return Refused(
            reason=Reason.HANDLE_FROZEN,
            message="One of your handles is frozen until the operator of this homeserver has decided whose it is; "
            "you can move after that.",
        )
    return None


def judge_arrival(user_id: UserId, come_from: UserId, *, moved: bool, done_from: UserId | None) -> Refused | None:
    """Whether an account of this homeserver may take over from ``come_from``."""
    if server_of(come_from) == server_of(user_id):
        return Refused(
            reason=Reason.INVALID_VALUE,
            message=f"{come_from} is on this homeserver; a move comes from another one.",
        )
    if moved:
        return Refused(
            reason=Reason.CONFLICT,
            message=f"{user_id} has moved away itself, so nobody arrives there; take another account.",
        )
    if done_from is not None and done_from != come_from:
        return Refused(
            reason=Reason.CONFLICT,
            message=f"{user_id} has taken over from {done_from}; one account takes over from one other.",
        )
    return None


def recovery_is_due(first_seen_ms: int, now_ms: int) -> bool:
    """Whether the old homeserver has been silent for long enough."""
    return now_ms - first_seen_ms >= UNCONTESTED_MS


def is_careful(moved_ms: int | None, now_ms: int) -> bool:
    """Whether somebody moved so lately that a large payment to them waits."""
    return moved_ms is not None and now_ms - moved_ms < CAREFUL_MS


def _bad(server: ServerName, what: str) -> Refused:
    return Refused(
        reason=Reason.BAD_RECORD,
        message=f"The directory of {server} cannot be trusted with this answer: {what}. Its operator has to look.",
    )


def _unproved(what: str) -> Refused:
    return Refused(
        reason=Reason.BAD_SIGNATURE, message=f"This claim does not prove that the account was yours: {what}."
    )
