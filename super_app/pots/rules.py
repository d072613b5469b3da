"""Pure decisions about pots: how money is cut into shares, what is committed to, who may claim, when it is over.

Randomness is an argument. How a draw is checked by anybody stands at ``check_reveal`` and in docs/payments.md.
"""

import hmac
from collections.abc import Iterable, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Final

from super_app.errors import Reason, Refused
from super_app.ids import UserId
from super_app.money import Money
from super_app.pots.model import (
    LINK_LONGEST_MS,
    LINK_MS,
    OPEN_MAX,
    SHARES_MAX,
    Claim,
    Kind,
    Pot,
    PotState,
    Share,
    ShareState,
    Split,
)
from super_app.signing import digest

_SCHEME: Final = "superapp-gift-1"


# Cutting.


def equal_shares(total_minor: int, count: int) -> tuple[int, ...]:
    """``count`` shares that differ by one minor unit at the most; the first ones get what does not divide."""
    least, left = divmod(total_minor, count)
    return tuple(least + 1 if number < left else least for number in range(count))


def random_shares(total_minor: int, cuts: Iterable[int]) -> tuple[int, ...]:
    """The pieces of 1 to ``total_minor`` between different cuts of 1 to ``total_minor - 1``: each at least 1."""
    places = [0, *sorted(cuts), total_minor]
    return tuple(after - before for before, after in pairwise(places))


def judge_count(money: Money, count: int) -> Refused | None:
    if not 1 <= count <= SHARES_MAX:
        return Refused(
            reason=Reason.INVALID_VALUE,
            message=f"shares: {count} is not between 1 and {SHARES_MAX}.",
            fields={"limit": SHARES_MAX},
        )
    if money.amount_minor < count:
        return Refused(
            reason=Reason.INVALID_AMOUNT,
            message=f"{money.amount_minor} minor units of {money.currency} cannot be cut into {count} shares; give "
            "more, or fewer shares.",
            fields={"shares": count},
        )
    return None


# The draw and its proof.


def commitment(pot_id: str, salt: str, shares: Sequence[int]) -> str:
    """What is published at the beginning: the hash of what is revealed at the end."""
    return digest([_SCHEME, pot_id, salt, list(shares)])


def check_reveal(
    pot_id: str, total_minor: int, split: Split, committed: str, salt: str, shares: Sequence[int]
) -> str | None:
    """What is wrong with the shares that were revealed; None if they are those that were committed to.

    They hash to the commitment, are all above 0, make the total, and are equal where that was promised.
    """
    if commitment(pot_id, salt, shares) != committed:
        return "the shares are not those that were committed to at the beginning"
    if any(share < 1 for share in shares) or sum(shares) != total_minor:
        return "the shares do not make the total"
    if split is Split.EQUAL and tuple(shares) != equal_shares(total_minor, len(shares)):
        return "the shares are not equal"
    return None


def luckiest(split: Split, shares: Sequence[Share]) -> Share | None:
    """Who got most, the earlier of two; None without luck in it: equal shares, a single one, nobody who claimed."""
    taken = [share for share in shares if share.state is ShareState.TAKEN]
    if split is Split.EQUAL or len(shares) == 1 or not taken:
        return None
    return min(taken, key=lambda share: (-share.amount_minor, share.number))


# Making one.


def link_expiry_ms(wanted_ms: int | None, now_ms: int) -> int | Refused:
    if wanted_ms is None:
        return now_ms + LINK_MS
    if now_ms < wanted_ms <= now_ms + LINK_LONGEST_MS:
        return wanted_ms
    return Refused(
        reason=Reason.INVALID_VALUE,
        message=f"expires_ms: a link lasts at most {LINK_LONGEST_MS // 86_400_000} days and ends in the future.",
    )


def repeats(existing: Pot, wanted: Pot) -> bool:
    """Whether a pot is the one that stands under its id; its draw, its secret and its times are the first one's."""
    return (
        existing.kind,
        existing.split,
        existing.money,
        existing.shares,
        existing.memo,
        existing.only,
    ) == (wanted.kind, wanted.split, wanted.money, wanted.shares, wanted.memo, wanted.only) and (
        existing.kind is Kind.LINK or existing.room_id == wanted.room_id
    )


def conflict(pot_id: str) -> Refused:
    return Refused(
        reason=Reason.CONFLICT,
        message=f"You have used the id {pot_id} for another gift or link; make a new id for a new one.",
    )


def too_many_open() -> Refused:
    return Refused(
        reason=Reason.LIMIT_EXCEEDED,
        message=f"{OPEN_MAX} of your gifts and links are open; cancel some, or wait until they are claimed.",
        fields={"limit": OPEN_MAX},
    )


# Claiming.


def judge_claim(pot: Pot, claim: Claim, now_ms: int, *, is_member: bool) -> Refused | None:
    """Whether somebody may claim, apart from whether a share is left. The giver's homeserver's clock decides.

    Refusals, in this order: UNKNOWN_GIFT or UNKNOWN_CLAIM (another kind of pot), WRONG_CLAIMER, PAYEE_IS_SELF,
    NOT_IN_ROOM, EXPIRED, CANCELLED, GIFT_GONE.
    """
    if pot.kind is not claim.kind:
        return unknown(claim.kind, claim.pot_id)
    if not is_meant(pot, claim.claimer, claim.secret):
        what = "This gift is for somebody else" if pot.kind is Kind.GIFT else "This money is for somebody else"
        return Refused(
            reason=Reason.WRONG_CLAIMER,
            message=f"{what}; sign in as the one it was sent to, or use the link as it was sent to you.",
        )
    if pot.giver == claim.claimer:
        return Refused(
            reason=Reason.PAYEE_IS_SELF, message="This is your own money; cancel it if you want to have it back."
        )
    if pot.kind is Kind.GIFT and not is_member:
        return Refused(
            reason=Reason.NOT_IN_ROOM, message="This gift is for the people of its room; join the room, then claim it."
        )
    return judge_open(pot, now_ms)


def judge_open(pot: Pot, now_ms: int) -> Refused | None:
    """EXPIRED from the very millisecond on, whether or not the timer has come by yet."""
    match pot.state:
        case PotState.OPEN:
            return None if now_ms < pot.expires_ms else _expired(pot)
        case PotState.EXPIRED:
            return _expired(pot)
        case PotState.CANCELLED:
            return Refused(
                reason=Reason.CANCELLED, message=f"{pot.giver} has taken it back; nothing is left to be claimed."
            )
        case PotState.EMPTIED:
            return gone(pot)


def _expired(pot: Pot) -> Refused:
    return Refused(
        reason=Reason.EXPIRED,
        message=f"Its time is over and what was left went back to {pot.giver}.",
        fields=MappingProxyType({"expired_ts": pot.expires_ms}),
    )


def gone(pot: Pot) -> Refused:
    what = "All shares of this gift are taken" if pot.kind is Kind.GIFT else "This money was claimed already"
    return Refused(reason=Reason.GIFT_GONE, message=f"{what}; others were quicker.")


def is_meant(pot: Pot, claimer: UserId, secret: str | None) -> bool:
    """Whether a pot is for somebody: they bring its secret, or are the one it names, or it is for everybody."""
    if pot.secret is not None and secret is not None:
        # Text that is not ASCII is no secret of ours, and compare_digest takes none.
        return secret.isascii() and hmac.compare_digest(pot.secret, secret)
    if pot.only is not None:
        return pot.only == claimer
    return pot.secret is None


def unknown(kind: Kind, pot_id: str) -> Refused:
    if kind is Kind.GIFT:
        return Refused(
            reason=Reason.UNKNOWN_GIFT,
            message=f"There is no gift {pot_id[:64]!a}; if somebody else gave it, name them with ?giver=.",
        )
    return Refused(
        reason=Reason.UNKNOWN_CLAIM, message=f"There is no money to be claimed under {pot_id[:64]!a}; check the link."
    )


def judge_cancel(pot: Pot) -> Refused | bool:
    """Whether taking it back changes something; a refusal where it is over for another reason."""
    match pot.state:
        case PotState.OPEN:
            return True
        case PotState.CANCELLED:
            return False
        case PotState.EMPTIED | PotState.EXPIRED:
            return Refused(
                reason=Reason.ALREADY_DECIDED,
                message=f"It is {pot.state.value} and can no longer be cancelled.",
                fields={"state": pot.state.value},
            )
