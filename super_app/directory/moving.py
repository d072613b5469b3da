"""Moves between homeservers, each step inside the caller's transaction. A refusal has written nothing.

Whoever moves acts on both: they announce themselves at the new homeserver, and then tell the old one to move them. That
asks the new one for its acceptance, and only then moves: final, and for all names of the account at once. What is kept
under the former acct, money above all, stays where it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from super_app.accounts import relation_store
from super_app.accounts.model import MovedRelations, Peer, Unnamed
from super_app.db import Cursor
from super_app.directory import move_store, moves, rules, service, store, verification_store
from super_app.directory.model import Discover, Facts, Holding, MovedTo, State, full
from super_app.directory.move_model import Arrival, ArrivalState, Departure, Forward, Recovery
from super_app.directory.moves import Accepted, Claim, Stop
from super_app.directory.service import Issuer
from super_app.errors import Reason, Refused
from super_app.ids import Acct, Handle, ServerName, UserId, server_of

_RECOVERY_ASKED_EVERY_MS: Final = 3_600_000
_PAGE: Final = 100


# The new homeserver.


def announce(cur: Cursor, acct: Acct, come_from: UserId, now_ms: int) -> Arrival | Refused:
    """The owner of an account says that they were ``come_from``; that one's homeserver may move them for a day."""
    standing = store.lock_standing(cur, acct)
    known = move_store.arrival(cur, acct)
    done = known is not None and known.state is ArrivalState.DONE
    refused = moves.judge_arrival(
        standing.user_id,
        come_from,
        moved=move_store.departure(cur, acct) is not None,
        done_from=known.from_user_id if known is not None and done else None,
    )
    if refused is not None:
        return refused
    if known is not None and (done or (known.from_user_id == come_from and known.recovering)):
        return known
    if known is not None and known.recovering:
        return _recovering(known)
    arrival = Arrival(
        acct=acct,
        from_user_id=come_from,
        from_acct=None,
        recovering=False,
        state=ArrivalState.ANNOUNCED,
        announced_ms=now_ms,
    )
    move_store.put_arrival(cur, arrival, None)
    return arrival


def accept(
    cur: Cursor, issuer: Issuer, acct: Acct, from_user_id: UserId, from_acct: Acct, now_ms: int
) -> dict[str, Any] | Refused:
    """The new half, for the homeserver of ``from_user_id``, which has authenticated itself."""
    standing = store.lock_standing(cur, acct)
    known = move_store.arrival(cur, acct)
    if (
        known is None
        or known.recovering
        or known.from_user_id != from_user_id
        or known.from_acct not in (None, from_acct)
        or (known.state is not ArrivalState.DONE and known.announced_ms + moves.ANNOUNCED_MS <= now_ms)
        or move_store.departure(cur, acct) is not None
    ):
        return not_announced(from_user_id, standing.user_id)
    if known.state is not ArrivalState.DONE:
        move_store.put_arrival(cur, replace(known, from_acct=from_acct, state=ArrivalState.ACCEPTED), None)
    return moves.acceptance(
        issuer.key,
        user_id=standing.user_id,
        acct=acct,
        handle=_shown_handle(standing.holdings, standing.user_id),
        from_user_id=from_user_id,
        from_acct=from_acct,
        issued_ms=now_ms,
    )


def arrive(
    cur: Cursor, issuer: Issuer, acct: Acct, before: Stop, *, facts: Facts, now_ms: int
) -> MovedRelations | Refused:
    """The old homeserver has moved somebody here: say so from now on. Again, it changes nothing."""
    standing = store.lock_standing(cur, acct)
    known = move_store.arrival(cur, acct)
    to = before.moved_to
    if (
        known is None
        or to is None
        or known.recovering
        or known.state is ArrivalState.ANNOUNCED
        or (known.from_user_id, known.from_acct) != (before.user_id, before.acct)
        or (to.user_id, to.acct) != (standing.user_id, acct)
    ):
        return not_announced(before.user_id, standing.user_id)
    if known.state is ArrivalState.DONE:
        return MovedRelations()
    move_store.put_arrival(cur, replace(known, state=ArrivalState.DONE, done_ms=now_ms), None)
    move_store.set_moved_from(cur, acct, moves.moved_from(before.user_id, before.acct, to.since_ms))
    handle = _shown_handle(standing.holdings, standing.user_id)
    gone = _go_along(cur, before, standing.user_id, acct, handle, Unnamed.GO_ALONG, to.since_ms, now_ms)
    service.issue_changed(cur, issuer, acct, facts, now_ms)
    return gone


def cancel(cur: Cursor, issuer: Issuer, acct: Acct, *, facts: Facts, now_ms: int) -> Arrival | Refused:
    """Take an announcement back that nothing has come of."""
    store.lock_standing(cur, acct)
    known = move_store.arrival(cur, acct)
    if known is None:
        return Refused(reason=Reason.INVALID_VALUE, message="You have announced no move here, so none was cancelled.")
    if known.state is ArrivalState.DONE:
        return Refused(
            reason=Reason.CONFLICT, message=f"You have moved here from {known.from_user_id}; a move is final."
        )
    move_store.drop_arrival(cur, acct)
    if known.recovering:
        _no_claim(cur, issuer, known, facts, now_ms)
    return known


def not_announced(from_user_id: UserId, user_id: UserId) -> Refused:
    """Nobody said there that they come from here."""
    return Refused(
        reason=Reason.NOT_ALLOWED,
        message=(
            f"{user_id} has not said that it takes over from {from_user_id}; sign in there, announce the move, and "
            "come back within a day."
        ),
    )


def _recovering(known: Arrival) -> Refused:
    return Refused(
        reason=Reason.CONFLICT,
        message=f"You have claimed {known.from_user_id} with your recovery key; cancel that first.",
    )


def _shown_handle(holdings: Sequence[Holding], user_id: UserId) -> Handle:
    """The handle under which others find an account; its user id where it hides the primary one."""
    primary = next((each for each in holdings if each.primary and each.state is State.ACTIVE), None)
    if primary is None or primary.discover is Discover.NONE:
        return Handle(user_id)
    return full(primary.name, server_of(user_id))


# The old homeserver.


def may_depart(cur: Cursor, acct: Acct, to: UserId) -> Departure | Refused | None:
    """Whether an account may move to ``to``; the departure if it did, None if nothing is in its way."""
    standing = store.lock_standing(cur, acct)
    gone = move_store.departure(cur, acct)
    if gone is not None and gone.to_user_id == to:
        return gone
    return moves.judge_departure(
        standing.user_id,
        to,
        moved=gone is not None,
        frozen=any(each.state is State.FROZEN for each in standing.holdings),
    )


def depart(
    cur: Cursor, issuer: Issuer, acct: Acct, accepted: Accepted, *, facts: Facts, now_ms: int
) -> tuple[Departure, MovedRelations] | Refused:
    """Move an account, all its names at once. From now on they lead to the new place, and to nowhere else."""
    judged = may_depart(cur, acct, accepted.user_id)
    if isinstance(judged, Refused):
        return judged
    if judged is not None:
        return judged, MovedRelations()
    standing = store.lock_standing(cur, acct)
    gone = Departure(
        acct=acct,
        user_id=standing.user_id,
        to_user_id=accepted.user_id,
        to_acct=accepted.acct,
        to_handle=accepted.handle,
        moved_ms=now_ms,
    )
    move_store.add_departure(cur, gone)
    for held in standing.holdings:
        if held.state is State.ACTIVE:
            store.set_state(cur, held.name, State.MOVED, None)
            verification_store.clear_badges_of(cur, held.name)
    move_store.set_moved_to(cur, acct, moves.moved_to(accepted, now_ms))
    before = Peer(acct=acct, user_id=standing.user_id, handle=Handle(standing.user_id), since_ms=now_ms)
    after = Peer(acct=accepted.acct, user_id=accepted.user_id, handle=accepted.handle, since_ms=now_ms)
    went = relation_store.moved(cur, before, after, unnamed=Unnamed.GO_ALONG)
    service.issue_changed(cur, issuer, acct, facts, now_ms)
    return gone, went


def end_forwarding(cur: Cursor, issuer: Issuer, gone: Departure, *, facts: Facts, now_ms: int) -> None:
    """A year is over. The names stay taken for ever, since somebody who was paid under them is elsewhere."""
    standing = store.lock_standing(cur, gone.acct)
    move_store.set_moved_to(cur, gone.acct, None)
    move_store.end_departure(cur, gone.acct, now_ms)
    # The withdrawals reach those who have the records; after that nobody sees these names.
    service.issue_changed(cur, issuer, gone.acct, facts, now_ms)
    for held in standing.holdings:
        if held.state is State.MOVED:
            store.set_discover(cur, held.name, Discover.NONE, chosen=held.chosen)


# Everybody else.


def follow(cur: Cursor, before: Stop, after: Stop, now_ms: int) -> MovedRelations:
    """Both halves of a move were seen: relations go along, and whoever asks for the former user id is led on."""
    to = before.moved_to
    if to is None:
        raise ValueError(f"{before.user_id} has not moved")
    known = move_store.forward_of(cur, before.user_id)
    if known is not None and (known.to_user_id, known.to_acct) == (after.user_id, after.acct):
        return MovedRelations()
    handle = after.handle or Handle(after.user_id)
    return _go_along(cur, before, after.user_id, after.acct, handle, Unnamed.GO_ALONG, to.since_ms, now_ms)


def _go_along(
    cur: Cursor,
    before: Stop | Recovery,
    user_id: UserId,
    acct: Acct,
    handle: Handle,
    unnamed: Unnamed,
    moved_ms: int,
    now_ms: int,
) -> MovedRelations:
    forward = Forward(
        user_id=before.user_id,
        acct=before.acct,
        to_user_id=user_id,
        to_acct=acct,
        moved_ms=moved_ms,
        seen_ms=now_ms,
    )
    move_store.put_forward(cur, forward)
    return relation_store.moved(
        cur,
        Peer(acct=before.acct, user_id=before.user_id, handle=Handle(before.user_id), since_ms=now_ms),
        Peer(acct=acct, user_id=user_id, handle=handle, since_ms=now_ms),
        unnamed=unnamed,
    )


# The word of a recovery key.


def recover(cur: Cursor, issuer: Issuer, acct: Acct, claim: Claim, *, facts: Facts, now_ms: int) -> Arrival | Refused:
    """Publish the word of a recovery key in the records of the account that it names. Everybody judges it alone."""
    standing = store.lock_standing(cur, acct)
    known = move_store.arrival(cur, acct)
    done = known is not None and known.state is ArrivalState.DONE
    refused = moves.judge_arrival(
        standing.user_id,
        claim.user_id,
        moved=move_store.departure(cur, acct) is not None,
        done_from=known.from_user_id if known is not None and done else None,
    )
    if refused is not None:
        return refused
    if known is not None and (done or (known.recovering and known.from_acct == claim.acct)):
        return known
    arrival = Arrival(
        acct=acct,
        from_user_id=claim.user_id,
        from_acct=claim.acct,
        recovering=True,
        state=ArrivalState.ACCEPTED,
        announced_ms=now_ms,
    )
    move_store.put_arrival(cur, arrival, claim.content)
    move_store.set_moved_from(cur, acct, moves.moved_from(claim.user_id, claim.acct, now_ms, claim.content))
    _wait_for(cur, claim, now_ms)
    service.issue_changed(cur, issuer, acct, facts, now_ms)
    return arrival


def notice(cur: Cursor, claim: Claim, now_ms: int) -> Recovery | None:
    """A record of another homeserver has the word of a recovery key in it; None if it is about nobody known here.

    Whoever makes up an account and a key for it proves that they made them up. So it counts only for an acct that
    the former homeserver itself gave to that user id once, as far as is known here.
    """
    known = move_store.recovery(cur, claim.acct)
    if known is not None and (known.to_user_id, known.to_acct) == (claim.to_user_id, claim.to_acct):
        return known
    forward = move_store.forward_of(cur, claim.user_id)
    if forward is not None:
        return None
    if not relation_store.know(cur, claim.acct, claim.user_id) and not move_store.is_replicated(
        cur, claim.acct, claim.user_id
    ):
        return None
    return _wait_for(cur, claim, now_ms)


def _wait_for(cur: Cursor, claim: Claim, now_ms: int) -> Recovery:
    found = Recovery(
        acct=claim.acct,
        user_id=claim.user_id,
        to_user_id=claim.to_user_id,
        to_acct=claim.to_acct,
        first_seen_ms=now_ms,
    )
    move_store.put_recovery(cur, found)
    return found


def recoveries_to_ask(cur: Cursor, now_ms: int) -> tuple[Recovery, ...]:
    """Of whom the former homeserver is asked now whether it is there."""
    return move_store.recoveries_to_ask(cur, now_ms - _RECOVERY_ASKED_EVERY_MS, _PAGE)


def silent(cur: Cursor, found: Recovery, after: Stop, now_ms: int) -> MovedRelations | None:
    """The former homeserver did not answer; what went along if that has been so for long enough."""
    move_store.set_asked(cur, found.acct, now_ms)
    if not moves.recovery_is_due(found.first_seen_ms, now_ms):
        return None
    handle = after.handle or Handle(after.user_id)
    went = _go_along(cur, found, after.user_id, after.acct, handle, Unnamed.STAY, now_ms, now_ms)
    move_store.drop_recovery(cur, found.acct)
    known = move_store.arrival(cur, found.to_acct)
    if known is not None and known.recovering and known.from_acct == found.acct:
        done = replace(known, state=ArrivalState.DONE, done_ms=now_ms)
        move_store.put_arrival(cur, done, move_store.claim_of(cur, known.acct))
    return went


def contested(cur: Cursor, issuer: Issuer, found: Recovery, *, facts: Mapping[Acct, Facts], now_ms: int) -> None:
    """The former homeserver is there and speaks for its people itself; whoever moves does it there."""
    if found.to_acct in facts:
        store.lock_standing(cur, found.to_acct)
        known = move_store.arrival(cur, found.to_acct)
        if known is not None and known.recovering and known.from_acct == found.acct:
            move_store.drop_arrival(cur, known.acct)
            _no_claim(cur, issuer, known, facts[found.to_acct], now_ms)
            return
    move_store.contest(cur, found.acct, now_ms)


def _no_claim(cur: Cursor, issuer: Issuer, known: Arrival, facts: Facts, now_ms: int) -> None:
    move_store.set_moved_from(cur, known.acct, None)
    if known.from_acct is not None:
        move_store.drop_recovery(cur, known.from_acct)
    service.issue_changed(cur, issuer, known.acct, facts, now_ms)


# Questions.


def stop_of(held: Holding, server: ServerName) -> Stop:
    """A name of this homeserver as a place on somebody's way."""
    went: MovedTo | None = None
    if held.state is State.MOVED and held.moved_to is not None:
        went = moves.read_moved_to(held.moved_to, server)
    came = None if held.moved_from is None else moves.read_moved_from(held.moved_from, server)
    return Stop(
        user_id=held.user_id,
        acct=held.acct,
        handle=None if held.discover is Discover.NONE else full(held.name, server),
        status=held.status,
        moved_to=went,
        moved_from=came,
    )


def tidy(cur: Cursor, now_ms: int) -> None:
    """Forget what nothing came of."""
    move_store.forget_announced(cur, now_ms - 2 * moves.ANNOUNCED_MS)
    move_store.forget_contested(cur, now_ms - rules.OWNER_MAY_TAKE_BACK_MS)
