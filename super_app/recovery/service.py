"""What a realm does with shares, each function in one transaction.

A guess is two of them: ``plan_guess`` says what to tell the other realms, ``count_guess`` writes it once enough of them
know. Only then is it answered, so no backup is older than a guess that somebody got an answer to.
"""

import hmac
from collections.abc import Container, Iterable
from dataclasses import replace

from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import ServerName, UserId, server_of
from super_app.recovery import rules, store
from super_app.recovery.model import (
    GUESSES,
    AttemptId,
    Busy,
    Deal,
    Guess,
    Mark,
    Plan,
    Share,
    State,
    Version,
    Wiped,
    hash_of,
    unlock_tag,
)
from super_app.signing import from_b64


def put_share(cur: Cursor, deal: Deal, sealed: str, in_use: Version | None, now_ms: int) -> Refused | None:
    """Store a share beside the one that the person says is in use, in place of those that never were."""
    held, sealed_hash = store.shares_of(cur, deal.user_id), hash_of(sealed)
    refused = rules.judge_new(held, deal.version, sealed_hash)
    if refused is not None:
        return refused
    if any(each.version == deal.version for each in held):
        return None
    if in_use is not None:
        # Whoever set that one up may have been interrupted before it could say so.
        store.put_in_use(cur, deal.user_id, in_use)
    for each in held:
        if each.state is State.PENDING and each.version != in_use:
            store.destroy(cur, each.user_id, each.version, State.RETIRED)
    store.add_share(
        cur,
        Share(
            user_id=deal.user_id,
            version=deal.version,
            state=State.PENDING,
            sealed=sealed,
            sealed_hash=sealed_hash,
            threshold=deal.threshold,
            realms=deal.realms,
            epoch=0,
            guesses=0,
            guessed_ms=None,
            stored_ms=now_ms,
        ),
    )
    return None


def plan_guess(
    cur: Cursor,
    realm: ServerName,
    user_id: UserId,
    version: Version,
    attempt_id: AttemptId,
    blinded: str | None,
    now_ms: int,
    started_ms: int,
) -> Plan | Wiped | Busy | Refused:
    """Whether somebody may guess now; ``blinded`` is None to begin only, and ``started_ms`` when this process started.

    A new guess claims the share until it is counted or ``release``d, so that no other one is told to the other realms
    as the same step. A guess that was begun is from now on about ``blinded`` alone. A share that is spent is destroyed.
    """
    share = store.share(cur, user_id, version)
    refused = rules.judge_held(share)
    if share is None or refused is not None:
        return refused or rules.gone()
    known = store.guess(cur, user_id, version, attempt_id)
    if known is not None:
        refused = rules.judge_again(known, blinded, now_ms=now_ms, started_ms=started_ms)
        if refused is not None:
            return refused
        if blinded is not None and known.blinded is None:
            if not store.bind(cur, user_id, version, attempt_id, blinded):
                return Refused(reason=Reason.CONFLICT, message="That guess was made just now; make a new one.")
            known = replace(known, blinded=blinded)
    else:
        if rules.is_spent(share):
            store.destroy(cur, user_id, version, State.SPENT)
            return Wiped.WIPED
        if rules.is_claimed(share, attempt_id, now_ms):
            return Busy.BUSY
        refused = rules.judge_wait(share, now_ms)
        if refused is not None:
            return refused
        if not store.claim(cur, share, attempt_id, now_ms, now_ms - rules.CLAIM_MS):
            return Busy.BUSY
    mark = Mark(
        realm=realm,
        user_id=user_id,
        version=version,
        epoch=share.epoch + 1,
        guesses=share.guesses + 1,
        attempt_id=attempt_id,
        gone=False,
    )
    return Plan(share=share, mark=mark, again=known)


def count_guess(cur: Cursor, plan: Plan, blinded: str | None, nonce: str, now_ms: int) -> Share | None:
    """The share as it is now; None if another guess came in between, which must be planned for anew."""
    before, mark = plan.share, plan.mark
    if mark.attempt_id is None or not store.count(cur, before, mark.guesses, now_ms):
        return None
    begun_ms = now_ms if blinded is None else None
    new = Guess(attempt_id=mark.attempt_id, blinded=blinded, nonce=nonce, begun_ms=begun_ms)
    store.add_guess(cur, before.user_id, before.version, new)
    return replace(before, epoch=mark.epoch, guesses=mark.guesses, guessed_ms=now_ms)


def destroy_spent(cur: Cursor, now_ms: int) -> int:
    """Destroy the shares whose last guess has not been shown to be right in the time there was for it; how many."""
    return store.destroy_spent(cur, GUESSES, now_ms - rules.LAST_UNLOCK_MS)


def guesses_left(share: Share) -> int:
    return GUESSES - share.guesses


def unlock(
    cur: Cursor,
    realm: ServerName,
    user_id: UserId,
    version: Version,
    attempt_id: AttemptId,
    tag: bytes,
    unlock_key: bytes,
    now_ms: int,
) -> tuple[Mark, ...] | Refused | None:
    """A right PIN: guesses begin anew. What to tell the other realms; None if something came in between.

    Of two devices that recover at once the second one shows that it was right as well, and nothing more: what was
    guessed since the first one did counts on.
    """
    share = store.share(cur, user_id, version)
    refused = rules.judge_held(share)
    if share is None or refused is not None:
        return refused or rules.gone()
    guess = store.guess(cur, user_id, version, attempt_id)
    if guess is None:
        return Refused(
            reason=Reason.RECOVERY_UNKNOWN, message="There was no such guess, or it was long ago; try once more."
        )
    if not hmac.compare_digest(tag, unlock_tag(unlock_key, realm, user_id, version, attempt_id, from_b64(guess.nonce))):
        return Refused(reason=Reason.RECOVERY_TAG_WRONG, message="That does not show that the PIN was right.")
    if guess.settled_ms is not None:
        return ()
    if rules.is_claimed(share, attempt_id, now_ms):
        return None
    if not store.count(cur, share, 0, None):
        return None
    store.settle_guesses(cur, user_id, version, now_ms, now_ms - rules.SETTLED_MS)
    reset = Mark(
        realm=realm,
        user_id=user_id,
        version=version,
        epoch=share.epoch + 1,
        guesses=0,
        attempt_id=None,
        gone=False,
    )
    return (reset,)


def put_in_use(cur: Cursor, realm: ServerName, user_id: UserId, version: Version) -> tuple[Mark, ...] | Refused:
    """A set is in use from now on; the older ones are destroyed. What to tell the other realms."""
    share = store.share(cur, user_id, version)
    refused = rules.judge_held(share)
    if share is None or refused is not None:
        return refused or rules.gone()
    store.put_in_use(cur, user_id, version)
    if server_of(user_id) == realm:
        _part(cur, user_id, version, share.realms)
    return _retire(cur, realm, (each for each in store.shares_of(cur, user_id) if each.version < version))


def give_up(cur: Cursor, realm: ServerName, user_id: UserId, version: Version) -> tuple[Mark, ...]:
    """The person wants no PIN any more, or no share here. What to tell the other realms."""
    if server_of(user_id) == realm:
        _part(cur, user_id, version, (realm,))
    return _retire(cur, realm, (each for each in store.shares_of(cur, user_id) if each.version <= version))


def close(cur: Cursor, realm: ServerName, user_id: UserId) -> tuple[Mark, ...]:
    """The account of one of our people was closed. What to tell the other realms."""
    store.forget_attempts_of(cur, user_id)
    versions = [each.version for each in store.shares_of(cur, user_id)]
    return give_up(cur, realm, user_id, max(versions)) if versions else ()


def _part(cur: Cursor, user_id: UserId, version: Version, kept: Container[ServerName]) -> None:
    """Remember to tell each realm that had a share up to a version, but for those that are ``kept``.

    The account's own homeserver has a share of each set, so its rows name all realms that there were.
    """
    last = {
        realm: each.version
        for each in store.shares_of(cur, user_id)
        for realm in each.realms
        if each.version <= version
    }
    for realm, newest in last.items():
        if realm not in kept:
            store.part(cur, user_id, realm, newest)


def _retire(cur: Cursor, realm: ServerName, shares: Iterable[Share]) -> tuple[Mark, ...]:
    marks: list[Mark] = []
    for each in shares:
        if each.state.held:
            store.destroy(cur, each.user_id, each.version, State.RETIRED)
            marks.append(
                Mark(
                    realm=realm,
                    user_id=each.user_id,
                    version=each.version,
                    epoch=each.epoch,
                    guesses=each.guesses,
                    attempt_id=None,
                    gone=True,
                )
            )
    return tuple(marks)


# As a witness of other realms.


def witness(cur: Cursor, told: Mark) -> Refused | None:
    """Remember what another realm of one of our sets tells of its share."""
    ours = store.share(cur, told.user_id, told.version)
    if ours is None or told.realm not in ours.realms:
        return Refused(
            reason=Reason.RECOVERY_UNKNOWN, message=f"{told.realm} and this server share no such set of shares."
        )
    known = recall(cur, told.realm, told.user_id, told.version)
    refused = rules.judge_mark(known, told)
    if refused is not None:
        return refused
    if told == known or store.put_mark(cur, told):
        return None
    newer = store.mark(cur, told.realm, told.user_id, told.version)
    return rules.judge_mark(newer, told)


def recall(cur: Cursor, realm: ServerName, user_id: UserId, version: Version) -> Mark | None:
    """What another realm told us last of its share; None if nothing."""
    return store.mark(cur, realm, user_id, version)


def catch_up(cur: Cursor, user_id: UserId, version: Version, marks: Iterable[Mark], now_ms: int) -> None:
    """Take over what others know of our share, where that is newer than our own database. We signed all of it."""
    for mark in marks:
        share = store.share(cur, user_id, version)
        if share is None or not share.state.held or not rules.is_older(share, mark):
            continue
        if mark.gone:
            store.destroy(cur, user_id, version, State.RETIRED)
        else:
            store.catch_up(cur, share, mark.epoch, min(mark.guesses, GUESSES), now_ms)
            # What unlocked one of them before the backup is known to whoever passed it on.
            store.forget_guesses(cur, user_id, version)
