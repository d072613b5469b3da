"""What operators do to names, each act in one transaction with its entry in the log: who, when, why.

A localpart is part of a user id, so it can be frozen and never taken away or given to somebody else.
"""

from collections.abc import Mapping
from typing import Any, Final

from super_app.db import Cursor
from super_app.directory import custody_store, rules, service, store, verification, verification_store
from super_app.directory.badges import Kind
from super_app.directory.custody_model import Act, Deed, Mandate
from super_app.directory.model import Discover, Facts, FrozenFor, Holding, KeptFor, Name, Origin, State
from super_app.directory.naming import skeleton, spellings
from super_app.directory.service import Issuer
from super_app.errors import Reason, Refused
from super_app.ids import Acct, UserId

MAX_PAGE: Final = 500


def grant(
    cur: Cursor,
    issuer: Issuer,
    acct: Acct,
    user_id: UserId,
    text: str,
    mandate: Mandate,
    *,
    facts: Facts,
    discover: Discover,
    now_ms: int,
) -> Mapping[str, Any] | Refused:
    """Give a name that is nobody's, or settle one that the account contests because it is its localpart."""
    held = store.first_of(cur, spellings(text))
    if held is not None and held.contested_by == user_id and held.frozen_for is FrozenFor.AMBIGUOUS:
        settled = service.settle(cur, issuer, held.name, acct, facts=facts, now_ms=now_ms)
        if not isinstance(settled, Refused):
            _log(cur, Act.SETTLE, held.name, mandate, held.acct, acct, now_ms)
        return settled
    granted = service.grant(cur, issuer, acct, text, facts=facts, discover=discover, now_ms=now_ms)
    if not isinstance(granted, Refused):
        _log(cur, Act.GRANT, spellings(text)[-1], mandate, None, acct, now_ms)
    return granted


def revoke(
    cur: Cursor, issuer: Issuer, text: str, mandate: Mandate, *, facts: Facts, now_ms: int
) -> Mapping[str, Any] | Refused:
    """Take a name away from whoever has it. Nobody gets it again, unless an operator transfers it."""
    held = _locked(cur, text)
    if held is None or held.state is State.FREE:
        return rules.no_such_handle(text)
    refused = _is_localpart(held)
    if refused is not None:
        return refused
    verification_store.clear_badges_of(cur, held.name)
    store.set_state(cur, held.name, State.RELEASED, now_ms if held.released_ms is None else held.released_ms)
    store.keep(cur, held.name, KeptFor.REVOKED)
    _no_longer_primary(cur, held)
    record = service.issue_changed(cur, issuer, held.acct, facts, now_ms)[held.name]
    _log(cur, Act.REVOKE, held.name, mandate, held.acct, None, now_ms)
    return record


def freeze(
    cur: Cursor,
    issuer: Issuer,
    text: str,
    why: FrozenFor,
    mandate: Mandate,
    *,
    claimant: UserId | None,
    facts: Facts,
    now_ms: int,
) -> Mapping[str, Any] | Refused:
    """Nobody is found, paid or rung under the name until it is unfrozen, transferred or revoked."""
    held = _locked(cur, text)
    if held is None or held.state in (State.FREE, State.RELEASED):
        return rules.no_such_handle(text)
    if held.state is State.MOVED:
        return rules.has_moved(held.name)
    if not store.freeze(cur, held.name, why, claimant):
        return rules.frozen_refusal(held.frozen_for, held.name)
    record = service.issue_changed(cur, issuer, held.acct, facts, now_ms)[held.name]
    act = Act.DISPUTE if why is FrozenFor.DISPUTE else Act.FREEZE
    _log(cur, act, held.name, mandate, held.acct, None, now_ms)
    return record


def unfreeze(
    cur: Cursor, issuer: Issuer, text: str, mandate: Mandate, *, facts: Facts, now_ms: int
) -> Mapping[str, Any] | Refused:
    """Whoever had the name has it again."""
    held = _locked(cur, text)
    if held is None or held.state in (State.FREE, State.RELEASED):
        return rules.no_such_handle(text)
    if held.frozen_for is FrozenFor.AMBIGUOUS:
        return rules.frozen_refusal(held.frozen_for, held.name)
    if held.frozen_for is None:
        return Refused(reason=Reason.INVALID_VALUE, message=f"{held.name} is not frozen, so nothing was changed.")
    store.set_state(cur, held.name, State.ACTIVE, None)
    record = service.issue_changed(cur, issuer, held.acct, facts, now_ms)[held.name]
    _log(cur, Act.UNFREEZE, held.name, mandate, held.acct, held.acct, now_ms)
    return record


def transfer(
    cur: Cursor,
    issuer: Issuer,
    text: str,
    to: Acct,
    mandate: Mandate,
    *,
    facts: Mapping[Acct, Facts],
    discover: Discover,
    now_ms: int,
) -> Mapping[str, Any] | Refused:
    """A name becomes another account's, as an alias, whatever state it is in. ``facts`` are those of both."""
    held = store.first_of(cur, spellings(text))
    if held is None or held.state is State.FREE:
        return rules.no_such_handle(text)
    # Both, in one order, as wherever two accounts change together.
    for acct in sorted({held.acct, to}):
        store.lock_standing(cur, acct)
    held = store.holding(cur, held.name)
    if held is None or held.acct not in facts or held.state is State.FREE:
        return rules.no_such_handle(text)
    refused = _is_localpart(held)
    if refused is not None:
        return refused
    if held.frozen_for is FrozenFor.AMBIGUOUS:
        return rules.frozen_refusal(held.frozen_for, held.name)
    verification_store.clear_badges_of(cur, held.name)
    _no_longer_primary(cur, held)
    store.renew_all(cur, held.acct)
    # A name that was given up keeps its look for itself, whatever happened to the row meanwhile.
    store.take_skeleton(cur, skeleton(held.name), held.name)
    store.give(cur, held.name, to, discover, now_ms)
    if held.acct != to:
        service.issue_changed(cur, issuer, held.acct, facts[held.acct], now_ms)
    record = service.issue_changed(cur, issuer, to, facts[to], now_ms)[held.name]
    _log(cur, Act.TRANSFER, held.name, mandate, held.acct, to, now_ms)
    return record


def verify(
    cur: Cursor, issuer: Issuer, held: Holding, badge: Mapping[str, Any], mandate: Mandate, *, facts: Facts, now_ms: int
) -> Mapping[str, Any] | Refused:
    """Put the operator's badge on a name."""
    record = verification.add(cur, issuer, held.name, held.acct, badge, facts=facts, now_ms=now_ms)
    if not isinstance(record, Refused):
        _log(cur, Act.VERIFY, held.name, mandate, held.acct, held.acct, now_ms)
    return record


def unverify(
    cur: Cursor, issuer: Issuer, held: Holding, mandate: Mandate, *, facts: Facts, now_ms: int
) -> Mapping[str, Any] | Refused:
    """Take the operator's badge away."""
    record = verification.drop(cur, issuer, held.name, held.acct, Kind.OPERATOR, None, facts=facts, now_ms=now_ms)
    if not isinstance(record, Refused):
        _log(cur, Act.UNVERIFY, held.name, mandate, held.acct, held.acct, now_ms)
    return record


def _locked(cur: Cursor, text: str) -> Holding | None:
    """The holding of a name, its account locked."""
    held = store.first_of(cur, spellings(text))
    if held is None:
        return None
    store.lock_standing(cur, held.acct)
    return store.holding(cur, held.name)


def _is_localpart(held: Holding) -> Refused | None:
    if held.origin is not Origin.LOCALPART:
        return None
    return Refused(
        reason=Reason.NOT_ALLOWED,
        message=f"{held.name} is part of the user id {held.user_id}, so it stays theirs for ever; you can freeze it.",
    )


def _no_longer_primary(cur: Cursor, held: Holding) -> None:
    if held.primary:
        standing = store.lock_standing(cur, held.acct)
        store.set_primary(cur, held.acct, None, standing.last_primary, standing.renamed_ms)


def _log(
    cur: Cursor, act: Act, name: Name, mandate: Mandate, from_acct: Acct | None, to_acct: Acct | None, now_ms: int
) -> None:
    # After the records: the counters are taken in one order everywhere, that of the tree before that of the acts.
    deed = Deed(
        at_ms=now_ms,
        operator=mandate.operator,
        act=act,
        name=name,
        from_acct=from_acct,
        to_acct=to_acct,
        reason=mandate.reason,
    )
    custody_store.append(cur, deed)
