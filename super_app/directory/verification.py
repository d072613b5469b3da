"""Which badges a name of this homeserver has. They stand in its record, so each change issues that anew."""

from collections.abc import Mapping, Sequence
from typing import Any

from super_app.db import Cursor
from super_app.directory import badges, rules, service, store, verification_store
from super_app.directory.badges import MAX_BADGES, Kind
from super_app.directory.model import Facts, Holding, KeptFor, Name, State
from super_app.directory.service import Issuer
from super_app.errors import Reason, Refused
from super_app.ids import Acct, Handle
from super_app.signing import public_b64, signed, verify


def add(
    cur: Cursor, issuer: Issuer, name: Name, acct: Acct, badge: Mapping[str, Any], *, facts: Facts, now_ms: int
) -> Mapping[str, Any] | Refused:
    """Put a verified badge on a name, in place of one that says the same; the record with it."""
    held = _held(cur, name, acct)
    if held is None:
        return rules.no_such_handle(name)
    kept = [each for each in held.badges if not badges.is_same(each, badge) and int(each["expires"]) > now_ms]
    if len(kept) >= MAX_BADGES:
        return Refused(
            reason=Reason.LIMIT_EXCEEDED, message=f"{name} has {MAX_BADGES} badges, which is the limit; drop one first."
        )
    verification_store.set_badges(cur, name, [*kept, badge])
    # Somebody else under this name would be taken for the one who was verified.
    store.keep(cur, name, KeptFor.VERIFIED)
    return service.issue_changed(cur, issuer, acct, facts, now_ms)[name]


def drop(
    cur: Cursor, issuer: Issuer, name: Name, acct: Acct, kind: Kind, by: str | None, *, facts: Facts, now_ms: int
) -> Mapping[str, Any] | Refused:
    """Take a badge away, or all of a kind."""
    held = _held(cur, name, acct)
    if held is None:
        return rules.no_such_handle(name)
    kept = [each for each in held.badges if each.get("kind") != kind.value or by not in (None, each.get("issuer"))]
    if len(kept) == len(held.badges):
        return Refused(reason=Reason.INVALID_VALUE, message=f"{name} has no such badge, so nothing was changed.")
    verification_store.set_badges(cur, name, kept)
    return service.issue_changed(cur, issuer, acct, facts, now_ms)[name]


def sign_anew(cur: Cursor, issuer: Issuer, after: Name, limit: int) -> Name | None:
    """Sign the badges of a page of names with the key of now, where another one of ours did; where to go on, if at all.

    A reader knows a homeserver by one key at a time. What the badges say, and until when, stays.
    """
    page = store.holdings_where_badged(cur, after, limit)
    public_key = public_b64(issuer.key)
    for held in page:
        fresh = [_signed_by(each, issuer, public_key) for each in held.badges]
        if fresh != list(held.badges):
            verification_store.set_badges(cur, held.name, fresh)
    return page[-1].name if len(page) == limit else None


def _signed_by(badge: Mapping[str, Any], issuer: Issuer, public_key: str) -> Mapping[str, Any]:
    if badge.get("server") != issuer.server or verify(badge, public_key):
        return badge
    return signed({name: value for name, value in badge.items() if name not in ("key_id", "signature")}, issuer.key)


def _held(cur: Cursor, name: Name, acct: Acct) -> Holding | None:
    store.lock_standing(cur, acct)
    held = store.holding(cur, name)
    return held if held is not None and held.acct == acct and held.state is State.ACTIVE else None


# Organisations.


def enrol(cur: Cursor, organisation: Name, member: Handle, acct: Acct, now_ms: int) -> None:
    verification_store.put_member(cur, organisation, member, acct, now_ms)


def dismiss(cur: Cursor, organisation: Name, member: Handle) -> bool:
    return verification_store.delete_member(cur, organisation, member)


def vouches(held: Holding | None, now_ms: int) -> bool:
    """Whether a handle may vouch for members: it was verified itself, by its operator or by a domain."""
    if held is None or held.state is not State.ACTIVE:
        return False
    own: Sequence[Mapping[str, Any]] = held.badges
    return any(each["kind"] != Kind.ORGANISATION.value and int(each["expires"]) > now_ms for each in own)
