"""Which of the badges in a record can be believed here, inside the caller's transaction.

A signature shows who says something, not that it is so: any homeserver can sign that a famous domain named one of its
people, or found an organisation of a famous name. So a badge of a domain or of an organisation on somebody elsewhere
is believed only while this homeserver itself has heard the issuer stand by it. Nobody is asked here; the shell asks in
turns, whoever looks at the person or not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, assert_never

from super_app.db import Cursor
from super_app.directory import badges, store, verification, verification_store, vouching_store
from super_app.directory.badges import MAX_BADGES, RECHECKED_LIFETIME_MS, Badge, Kind
from super_app.directory.model import Name, Record, Status
from super_app.directory.vouching_store import Claim
from super_app.ids import Acct, Handle, ServerName, localpart_of, server_of

MAX_CLAIMS: Final = 1_000
"""Of one server's people: it cannot have this homeserver ask half the internet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """This homeserver, and the directory key with which it signs."""

    server: ServerName
    public_key: str


def believed(
    cur: Cursor, house: House, shown: Sequence[Mapping[str, Any]], handle: Handle, acct: Acct, now_ms: int
) -> tuple[Badge, ...]:
    """Those among the badges of a record that are signed, that have not ended, and whose issuers stand by them."""
    found = [
        badge for each in shown[:MAX_BADGES] if (badge := _signed(cur, house, each, handle, acct, now_ms)) is not None
    ]
    return tuple(badge for badge in found if _stands(cur, house, badge, handle, acct, now_ms))


def _signed(
    cur: Cursor, house: House, content: Mapping[str, Any], handle: Handle, acct: Acct, now_ms: int
) -> Badge | None:
    server = badges.server_of_badge(content)
    if server is None:
        return None
    if server == house.server:
        return badges.read(content, house.public_key, handle, acct, now_ms)
    peer = store.peer(cur, server)
    return None if peer is None or peer.key is None else badges.read(content, peer.key.public_key, handle, acct, now_ms)


def _stands(cur: Cursor, house: House, badge: Badge, handle: Handle, acct: Acct, now_ms: int) -> bool:
    match badge.kind:
        case Kind.OPERATOR:
            return True
        case Kind.ORGANISATION if badge.server == house.server:
            organisation = Name(localpart_of(Handle(badge.issuer)))
            held = store.holding(cur, organisation)
            member = verification_store.member_acct(cur, organisation, handle)
            return verification.vouches(held, now_ms) and member == acct
        case Kind.DOMAIN | Kind.ORGANISATION:
            # Of our own people the issuers are asked before their record shows the badge, and every day since.
            if server_of(handle) == house.server:
                return True
            after_ms = now_ms - RECHECKED_LIFETIME_MS
            return (badge.kind, badge.issuer) in vouching_store.heard(cur, handle, acct, after_ms)
        case _:
            assert_never(badge.kind)


def look_after(cur: Cursor, found: Sequence[Record], own_server: ServerName, now_ms: int) -> int:
    """Have the issuers asked whose badges these records show, unless they are already; how many are new."""
    counts: dict[ServerName, int] = {}
    new = 0
    for record in found:
        if record.server == own_server or record.status is not Status.ACTIVE:
            continue
        for claim in claims_of(record, own_server):
            if vouching_store.is_looked_after(cur, claim):
                continue
            server = record.server
            counts.setdefault(server, vouching_store.count(cur, server))
            if counts[server] >= MAX_CLAIMS:
                break
            counts[server] += 1
            new += 1
            vouching_store.look_after(cur, claim, now_ms)
    return new


def claims_of(record: Record, own_server: ServerName) -> list[Claim]:
    """The badges of a record whose issuers have to be asked."""
    found: list[Claim] = []
    for each in record.badges[:MAX_BADGES]:
        server = badges.server_of_badge(each)
        kind = each.get("kind")
        if server in (None, own_server) or kind not in (Kind.DOMAIN.value, Kind.ORGANISATION.value):
            continue
        found.append(Claim(handle=record.handle, acct=record.acct, kind=Kind(kind), issuer=str(each["issuer"])))
    return found


def shown_by(record: Record, claim: Claim) -> Mapping[str, Any] | None:
    """The badge that a claim is about, as the record shows it now; None if it shows it no more."""
    if (record.handle, record.acct, record.status) != (claim.handle, claim.acct, Status.ACTIVE):
        return None
    of_it = (each for each in record.badges if (each.get("kind"), each.get("issuer")) == (claim.kind, claim.issuer))
    return next(of_it, None)
