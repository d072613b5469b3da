"""Pure decisions about calls by the minute: what so much talk costs, what is paid when, when the money is used up.

All sums are whole minor units: the cost of a call is the price times the whole seconds that were talked, divided by
sixty and rounded down, of the call as a whole. Parts pay the difference to what was paid before, so that rounding adds
nothing up.
"""

from dataclasses import dataclass, replace
from typing import Final

from super_app.calls.model import Record, State
from super_app.conferences.model import Stay
from super_app.errors import Reason, Refused
from super_app.fares.model import (
    ADMITTED_MS,
    AGREED_MS,
    AHEAD_MS,
    ARREARS_MS,
    FAILURES_MAX,
    FIRST_MS,
    GONE_MS,
    LATE_MS,
    MINUTES_MAX,
    OPEN_MAX,
    PART_DIGITS,
    PRICE_MAX_MINOR,
    RETRY_MS,
    RETURN_MS,
    SLICE_MS,
    STEP_MS,
    WARN_MS,
    Fare,
    FareId,
    FareState,
    Terms,
    TermsState,
)
from super_app.ids import PaymentId, UserId
from super_app.money import MAX_AMOUNT_MINOR, Money

_MS_PER_SECOND: Final = 1_000
_SECONDS_PER_MINUTE: Final = 60


# What talk costs.


def cost_minor(price_minor: int, talked_ms: int) -> int:
    """What so much talk costs, by the whole second."""
    return price_minor * (max(0, talked_ms) // _MS_PER_SECOND) // _SECONDS_PER_MINUTE


def covered_ms(price_minor: int, funds_minor: int) -> int:
    """The longest talk that costs no more than ``funds_minor``."""
    return (((funds_minor + 1) * _SECONDS_PER_MINUTE - 1) // price_minor) * _MS_PER_SECOND


def ceiling_minor(price: Money, minutes: int) -> int | Refused:
    """The most that a call may come to."""
    if not 1 <= minutes <= MINUTES_MAX:
        return Refused(
            reason=Reason.INVALID_VALUE,
            message=f"minutes: {minutes} is not between 1 and {MINUTES_MAX}.",
            fields={"limit": MINUTES_MAX},
        )
    most_minor = price.amount_minor * minutes
    if price.amount_minor > PRICE_MAX_MINOR or most_minor > MAX_AMOUNT_MINOR:
        return Refused(reason=Reason.INVALID_AMOUNT, message="So many minutes at this price are more than can be paid.")
    return most_minor


def first_minor(price: Money, most_minor: int) -> int:
    return min(most_minor, max(1, cost_minor(price.amount_minor, FIRST_MS)))


def payment_id_of(fare_id: FareId, number: int) -> PaymentId:
    """The id of a part's payment. It begins as the fare's id does, by which the callee's homeserver knows it."""
    return PaymentId(f"{fare_id[:-PART_DIGITS]}{number:0{PART_DIGITS}x}")


def stem_of(identifier: str) -> str:
    """What the ids of a fare and of its payments have in common."""
    return identifier[:-PART_DIGITS]


# Agreeing.


def repeats(existing: Fare, wanted: Fare) -> bool:
    return (existing.callee, existing.price, existing.ceiling_minor, existing.link_id) == (
        wanted.callee,
        wanted.price,
        wanted.ceiling_minor,
        wanted.link_id,
    )


def conflict(fare_id: FareId) -> Refused:
    return Refused(
        reason=Reason.CONFLICT,
        message=f"You have confirmed another call under the id {fare_id}; make a new id for a new one.",
    )


def too_many_open() -> Refused:
    return Refused(
        reason=Reason.LIMIT_EXCEEDED,
        message=f"{OPEN_MAX} calls of yours by the minute are open; end one, or wait until it is over.",
        fields={"limit": OPEN_MAX},
    )


def too_many_agreed(limit: int) -> Refused:
    return Refused(
        reason=Reason.LIMIT_EXCEEDED,
        message=f"{limit} calls by the minute with people of this homeserver are agreed to already; wait until one of "
        "them is over.",
        fields={"limit": limit},
    )


def unknown(fare_id: str) -> Refused:
    return Refused(
        reason=Reason.UNKNOWN_CALL, message=f"You have confirmed no call by the minute under {fare_id[:64]!a}."
    )


def price_changed(callee: UserId, price: Money | None) -> Refused:
    """The price is another one than the person has confirmed; nothing was put aside."""
    if price is None:
        return Refused(
            reason=Reason.PRICE_CHANGED,
            message=f"Ringing {callee} has no price for you now; nothing was set aside. Just ring.",
        )
    return Refused(
        reason=Reason.PRICE_CHANGED,
        message=f"Ringing {callee} costs {price.amount_minor} minor units of {price.currency} a minute now; nothing "
        "was set aside. Confirm the new price to ring.",
        fields={"amount": price.amount_minor, "currency": price.currency, "per": "minute"},
    )


def price_unconfirmed(callee: UserId, price: Money) -> Refused:
    return Refused(
        reason=Reason.PRICE_NOT_CONFIRMED,
        message=f"Ringing {callee} costs {price.amount_minor} minor units of {price.currency} a minute. Confirm the "
        "price in your wallet or with the assistant, then ring again.",
        fields={"amount": price.amount_minor, "currency": price.currency, "per": "minute"},
    )


def entry_changed(price: Money | None) -> Refused:
    """The call behind a link has another price than the one that the person has confirmed; nothing was put aside."""
    if price is None:
        return Refused(
            reason=Reason.PRICE_CHANGED,
            message="This call costs you nothing now; nothing was set aside. Just come in.",
        )
    return Refused(
        reason=Reason.PRICE_CHANGED,
        message=f"This call costs {price.amount_minor} minor units of {price.currency} a minute now; nothing was set "
        "aside. Confirm the new price to come in.",
        fields={"amount": price.amount_minor, "currency": price.currency, "per": "minute"},
    )


def lets_in(fare: Fare, price: Money, now_ms: int) -> bool:
    """Whether a fare pays for being in the call behind its link: at the price of now, or as was begun."""
    if fare.state is FareState.RUNNING:
        return True
    return fare.state is FareState.AGREED and now_ms < fare.agreed_ms + ADMITTED_MS and fare.price == price


def judge_cancel(fare: Fare, stay: Stay | None = None) -> Refused | bool:
    """Whether taking it back changes something. Who is in the call has begun it, before the meter has looked too."""
    match fare.state:
        case FareState.AGREED if stay is None or not stay.is_in:
            return True
        case FareState.ENDED:
            return False
        case _:
            return Refused(
                reason=Reason.ALREADY_DECIDED, message="The call was answered; hang up, and nothing more is charged."
            )


# The meter.


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the caller's own record says of the call now."""

    state: FareState
    answer_ms: int | None = None
    end_ms: int | None = None
    reason: str | None = None


def read(fare: Fare, record: Record | None, now_ms: int) -> Reading:
    """Where a fare stands, by the record of its call; AGREED where nothing has happened yet."""
    if fare.state in (FareState.OWING, FareState.ENDED):
        return Reading(state=fare.state, answer_ms=fare.answer_ms, end_ms=fare.end_ms, reason=fare.reason)
    if record is None:
        if fare.state is FareState.RUNNING:
            # It is over, since they could take it out of their history, and that a moment ago.
            return Reading(state=FareState.OWING, answer_ms=fare.answer_ms, end_ms=now_ms)
        if fare.session_id is not None:
            return Reading(state=FareState.ENDED, reason="forgotten")
        if now_ms >= fare.agreed_ms + AGREED_MS:
            return Reading(state=FareState.ENDED, reason=Reason.EXPIRED.value)
        return Reading(state=FareState.AGREED)
    if record.state is State.ANSWERED:
        return Reading(state=FareState.RUNNING, answer_ms=record.answer_ms)
    if record.state is State.ENDED:
        return Reading(state=FareState.OWING, answer_ms=record.answer_ms, end_ms=record.end_ms)
    if record.state.is_open:
        return Reading(state=FareState.AGREED)
    return Reading(state=FareState.ENDED, reason=record.state.value)


def read_stay(fare: Fare, stay: Stay, now_ms: int) -> Reading:
    """Where a fare of a link stands, by whether the caller is in the call now."""
    if fare.state is FareState.AGREED:
        if stay.is_in:
            since_ms = now_ms if stay.since_ms is None else min(now_ms, stay.since_ms)
            return Reading(state=FareState.RUNNING, answer_ms=max(fare.agreed_ms, since_ms))
        if now_ms >= fare.agreed_ms + ADMITTED_MS:
            return Reading(state=FareState.ENDED, reason=Reason.EXPIRED.value)
        return Reading(state=FareState.AGREED)
    if fare.state is FareState.RUNNING:
        if stay.is_in:
            return Reading(state=FareState.RUNNING, answer_ms=fare.answer_ms)
        # What says that they left before they came is of another visit, and says nothing of this one.
        came_ms = fare.answer_ms or 0
        left_ms = now_ms if stay.left_ms is None or stay.left_ms < came_ms else min(now_ms, stay.left_ms)
        return Reading(state=FareState.OWING, answer_ms=fare.answer_ms, end_ms=left_ms)
    return Reading(state=fare.state, answer_ms=fare.answer_ms, end_ms=fare.end_ms, reason=fare.reason)


def follow_stay(terms: Terms, stay: Stay, now_ms: int) -> Terms:
    """The terms of a link after a look at the call by the payee's homeserver.

    When somebody came it is told by their homeserver, and believes it between the agreement and now; when they left
    it has seen itself.
    """
    if terms.state is TermsState.OVER:
        return terms
    if terms.told_ms is not None:
        return terms if stay.is_in else replace(terms, state=TermsState.OVER)
    if stay.is_in:
        since_ms = now_ms if stay.since_ms is None else min(now_ms, max(terms.agreed_ms, stay.since_ms))
        answer_ms = since_ms if terms.answer_ms is None else terms.answer_ms
        return replace(terms, state=TermsState.RUNNING, answer_ms=answer_ms, end_ms=None)
    if terms.answer_ms is None:
        # A minute more than the caller's homeserver waits, since the two clocks need not agree.
        is_late = now_ms >= terms.agreed_ms + ADMITTED_MS + SLICE_MS
        return replace(terms, state=TermsState.OVER) if is_late else terms
    if terms.end_ms is None:
        return replace(terms, end_ms=now_ms)
    return replace(terms, state=TermsState.OVER) if now_ms >= terms.end_ms + RETURN_MS else terms


def is_let_in_by(terms: Terms, price: Money) -> bool:
    """Whether terms let their caller into the call behind a link that costs so much."""
    if terms.told_ms is not None:
        return False
    return terms.state is TermsState.RUNNING or (terms.state is TermsState.OPEN and terms.price == price)


def outstays(terms: Terms, stay: Stay, now_ms: int) -> bool:
    """Whether somebody is still there whose homeserver has said long ago that they left."""
    return stay.is_in and terms.told_ms is not None and now_ms >= terms.told_ms + GONE_MS


def in_the_call_already() -> Refused:
    return Refused(
        reason=Reason.CONFLICT,
        message="You are in this call already, and pay for it as you have confirmed; leave it to confirm it anew.",
    )


def talked(answer_ms: int | None, until_ms: int) -> int:
    return 0 if answer_ms is None else max(0, until_ms - answer_ms)


def charged_ms(own_ms: int, theirs_ms: int | None) -> int:
    """What both homeservers can show: neither's measure is charged beyond the other's."""
    return own_ms if theirs_ms is None else min(own_ms, max(0, theirs_ms))


def part_minor(fare: Fare, talked_ms: int, *, is_over: bool) -> int:
    """What is to be paid now, 0 for nothing. In the call somebody elsewhere is paid by slices, somebody here not."""
    owed_minor = min(cost_minor(fare.price.amount_minor, talked_ms), fare.funds_minor) - fare.paid_minor
    if owed_minor <= 0:
        return 0
    if is_over:
        return owed_minor
    slice_minor = max(1, cost_minor(fare.price.amount_minor, SLICE_MS))
    return owed_minor if not fare.is_local and owed_minor >= slice_minor else 0


def extension_minor(fare: Fare, talked_ms: int) -> int:
    """By how much the money aside should grow now, 0 for not at all."""
    left_ms = covered_ms(fare.price.amount_minor, fare.funds_minor) - talked_ms
    if left_ms >= AHEAD_MS:
        return 0
    step_minor = max(1, cost_minor(fare.price.amount_minor, STEP_MS))
    return max(0, min(step_minor, fare.ceiling_minor - fare.funds_minor))


def is_used_up(fare: Fare, talked_ms: int) -> bool:
    return talked_ms >= covered_ms(fare.price.amount_minor, fare.funds_minor)


def is_late(fare: Fare, talked_ms: int) -> bool:
    """Whether nobody looked for so long that what was talked beyond the money is not the caller's to pay."""
    return talked_ms >= covered_ms(fare.price.amount_minor, fare.funds_minor) + LATE_MS


def is_running_out(fare: Fare, talked_ms: int) -> bool:
    return talked_ms >= covered_ms(fare.price.amount_minor, fare.funds_minor) - WARN_MS


def ends_ms(fare: Fare) -> int | None:
    """When the money that was confirmed is used up, if the call goes on; None before the answer."""
    if fare.answer_ms is None or fare.state is not FareState.RUNNING:
        return None
    return fare.answer_ms + covered_ms(fare.price.amount_minor, fare.ceiling_minor)


def has_given_up(fare: Fare) -> bool:
    return fare.failures >= FAILURES_MAX


def retry_at_ms(failures: int, now_ms: int) -> int:
    return now_ms + RETRY_MS[min(failures, len(RETRY_MS)) - 1]


def is_in_arrears(price_minor: int, talked_ms: int, received_minor: int) -> bool:
    """Whether the callee's homeserver ends the call: more is unpaid than whoever is honest ever owes."""
    return cost_minor(price_minor, talked_ms) - received_minor >= max(1, cost_minor(price_minor, ARREARS_MS))


def memo_of(talked_ms: int) -> str:
    """What a payment of a call says it is for, in no language."""
    seconds = talked_ms // _MS_PER_SECOND
    return f"☎ {seconds // _SECONDS_PER_MINUTE}:{seconds % _SECONDS_PER_MINUTE:02}"
