"""Pure decisions of a realm. Times and what was looked up are arguments."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

from super_app.errors import Reason, Refused
from super_app.ids import ServerName, UserId, server_of
from super_app.recovery.model import GUESSES, MIN_REALMS, AttemptId, Deal, Guess, Mark, Share, State, Version

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS
DELAYS_MS: Final = (
    0,
    0,
    0,
    1 * _MINUTE_MS,
    5 * _MINUTE_MS,
    15 * _MINUTE_MS,
    1 * _HOUR_MS,
    3 * _HOUR_MS,
    8 * _HOUR_MS,
    24 * _HOUR_MS,
)
"""How long after the last guess the next one may come, by how many were wrong."""
LAST_UNLOCK_MS: Final = 10 * _MINUTE_MS
"""So long the last guess may still be shown to be right before the share is destroyed."""
SETTLED_MS: Final = 10 * _MINUTE_MS
"""So long after a right PIN other guesses of that time may still be shown to have been right as well."""
MAX_STEP: Final = 2**30
"""How far a version may be above the last one, so that nobody can use them all up."""
BEGUN_MS: Final = 2 * _MINUTE_MS
"""So long after a guess was begun what it is to evaluate may come."""
CLAIM_MS: Final = 20_000
"""So long one guess keeps others waiting: longer than it takes to tell the other realms, unless its process dies."""


def judge_deal(deal: Deal, *, realm: ServerName, user_id: UserId, version: Version) -> Refused | None:
    """Whether what was sealed is what was asked to be stored, here and for this account."""
    if (deal.realm, deal.user_id, deal.version) != (realm, user_id, version):
        return Refused(
            reason=Reason.INVALID_VALUE, message="The share was sealed for another realm, account or version."
        )
    if server_of(user_id) not in deal.realms:
        return Refused(
            reason=Reason.INVALID_VALUE,
            message="One of the shares belongs to the account's own homeserver; name it among realms.",
        )
    if len(deal.realms) < MIN_REALMS:
        return Refused(reason=Reason.INVALID_VALUE, message=f"A set has at least {MIN_REALMS} realms.")
    return None


def judge_new(held: Sequence[Share], version: Version, sealed_hash: str) -> Refused | None:
    """Whether a version may be stored beside the ones that there were. The same share once more may."""
    same = next((each for each in held if each.version == version), None)
    if same is not None and same.sealed_hash == sealed_hash and same.state.held:
        return None
    newest = max((each.version for each in held), default=0)
    if version > newest + MAX_STEP:
        return Refused(reason=Reason.INVALID_VALUE, message=f"The next version is {newest + 1}, or soon after it.")
    if version > newest:
        return None
    return Refused(
        reason=Reason.RECOVERY_STALE,
        message=f"Version {version} was used before; the next one is {newest + 1}.",
        fields=MappingProxyType({"version": newest}),
    )


def judge_held(share: Share | None) -> Refused | None:
    if share is None:
        return Refused(reason=Reason.RECOVERY_UNKNOWN, message="There is no such share here; set up a PIN anew.")
    match share.state:
        case State.PENDING | State.ACTIVE:
            return None
        case State.SPENT:
            return gone()
        case State.RETIRED:
            return Refused(
                reason=Reason.RECOVERY_GONE, message="This share was given up for a newer one; load the page again."
            )


def gone() -> Refused:
    return Refused(
        reason=Reason.RECOVERY_GONE,
        message=f"There were {GUESSES} wrong guesses, so this share was destroyed. Use your recovery key and set up a "
        "new PIN.",
    )


def is_spent(share: Share) -> bool:
    return share.guesses >= GUESSES


def judge_wait(share: Share, now_ms: int) -> Refused | None:
    if share.guessed_ms is None or share.guesses == 0:
        return None
    wait_ms = share.guessed_ms + DELAYS_MS[min(share.guesses, len(DELAYS_MS) - 1)] - now_ms
    if wait_ms <= 0:
        return None
    return Refused(
        reason=Reason.TOO_MANY_REQUESTS,
        message=f"After {share.guesses} wrong guesses the next one has to wait; {GUESSES - share.guesses} are left.",
        fields=MappingProxyType({"retry_after_ms": wait_ms}),
    )


def is_claimed(share: Share, attempt_id: AttemptId, now_ms: int) -> bool:
    """Whether another guess than this one is being told to the other realms."""
    return (
        share.claimed_by is not None
        and share.claimed_by != attempt_id
        and share.claimed_ms is not None
        and now_ms - share.claimed_ms < CLAIM_MS
    )


def judge_again(known: Guess, blinded: str | None, *, now_ms: int, started_ms: int) -> Refused | None:
    """Whether a guess that was let through may be answered with the evaluation of ``blinded``.

    One that was begun may have been evaluated since a backup of it was taken. So it is good only in processes that were
    there when it was begun: whoever puts a backup in place has to stop them all.
    """
    if blinded is None or known.blinded == blinded:
        return None
    if known.blinded is not None:
        return Refused(reason=Reason.CONFLICT, message="That attempt_id was used for another guess; make a new one.")
    if known.begun_ms is None or known.begun_ms < started_ms or now_ms - known.begun_ms > BEGUN_MS:
        return Refused(reason=Reason.CONFLICT, message="That guess was begun too long ago; make a new one.")
    return None


def acknowledgements(threshold: int) -> int:
    """How many other realms must know of a guess before it is answered: those that an evaluation needs in any case."""
    return threshold - 1


def confirmations(realms: int, threshold: int) -> int:
    """How many of the other realms must be asked after a start: so many that one of them was told of each guess."""
    return realms - acknowledgements(threshold)


def is_older(share: Share, mark: Mark) -> bool:
    """Whether another realm knows of something newer than our own row."""
    return mark.gone or mark.epoch > share.epoch


def judge_mark(known: Mark | None, told: Mark) -> Refused | None:
    """Whether what a realm tells follows on what it told before. If not its database is an old one."""
    if known is None or told.epoch > known.epoch or told == known:
        return _behind(known) if known is not None and known.gone and not told.gone else None
    if told.epoch == known.epoch and told.gone:
        return None
    return _behind(known)


def _behind(known: Mark) -> Refused:
    return Refused(
        reason=Reason.RECOVERY_BEHIND,
        message=f"Guess {known.epoch} of this share was told before; your database is older than that.",
        fields=MappingProxyType(
            {
                "epoch": known.epoch,
                "guesses": known.guesses,
                "attempt_id": known.attempt_id,
                "gone": known.gone,
                "signature": known.signature,
            }
        ),
    )
