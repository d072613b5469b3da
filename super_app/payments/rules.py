"""Pure decisions about payments: what an order may say, who may pay whom, what may still happen to a payment.

No clock, no SQL: times and what was looked up are arguments.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, assert_never

from pydantic import Field, TypeAdapter, ValidationError

from super_app.errors import Reason, Refused
from super_app.ids import PaymentId, UserId, parse_payment_id
from super_app.money import Asset, AssetCode, Money, check_money, format_money
from super_app.payments.model import (
    MEMO_MAX_CHARACTERS,
    Acceptance,
    Intent,
    Order,
    Outcome,
    Payment,
    PaymentContent,
    Policy,
    PolicyFrom,
    Poster,
    State,
    Venue,
    WireAmount,
    WireCurrency,
)
from super_app.signing import digest
from super_app.wire import OpenWireModel, is_text

RECEIPT_GRACE_MS: Final = 600_000
"""How long the payee's homeserver has to post the receipt before the payer's posts one."""

# What an order says.


def read_content(content: object, assets: Mapping[AssetCode, Asset]) -> Intent | Refused:
    """The order in the content of a payment event, every field checked; the payee is not looked up."""
    read = PaymentContent.parse(content)
    return read if isinstance(read, Refused) else read_order(read, assets)


def read_order(given: PaymentContent, assets: Mapping[AssetCode, Asset]) -> Intent | Refused:
    payment_id = parse_payment_id(given.payment_id)
    if isinstance(payment_id, Refused):
        return payment_id
    money = check_money(given.amount, given.currency, assets)
    if isinstance(money, Refused):
        return money
    if given.memo is not None and len(given.memo) > MEMO_MAX_CHARACTERS:
        return Refused(
            reason=Reason.MEMO_TOO_LONG,
            message=f"The memo has {len(given.memo)} characters; {MEMO_MAX_CHARACTERS} are the most. Shorten it.",
            fields=MappingProxyType({"limit": MEMO_MAX_CHARACTERS}),
        )
    for name in ("payee", "memo", "request", "invoice"):
        value: str | None = getattr(given, name)
        if value is not None and not is_text(value):
            return Refused(
                reason=Reason.INVALID_VALUE,
                message=f"{name} contains a NUL character or half a surrogate pair; remove it.",
            )
    refund_of: PaymentId | None = None
    if given.refund_of is not None:
        original = parse_payment_id(given.refund_of)
        if isinstance(original, Refused):
            return Refused(
                reason=Reason.INVALID_VALUE,
                message="refund_of must be the payment_id of the payment that is given back.",
            )
        refund_of = original
    return Intent(
        payment_id=payment_id,
        payee=given.payee,
        money=money,
        memo=given.memo,
        request=given.request,
        refund_of=refund_of,
        invoice=given.invoice,
    )


def is_self(payer: UserId, payee: UserId) -> Refused | None:
    if payer != payee:
        return None
    return Refused(reason=Reason.PAYEE_IS_SELF, message="You cannot pay yourself; name another payee.")


# The same id again.


def judge_replay(existing: Payment, order: Order) -> Refused | None:
    """Whether an order may pass again under an id that is known. None where it is the same and still alive or done."""
    return conflict(existing, order) or spent(existing)


def conflict(existing: Payment, order: Order) -> Refused | None:
    if existing.order_hash == order.order_hash() and order.fee_minor in (None, existing.fee_minor):
        return None
    return Refused(
        reason=Reason.CONFLICT,
        message=f"You have used payment_id {order.payment_id} for another payment; make a new id for a new payment.",
    )


def repeats(existing: Payment, intent: Intent, fee_minor: int | None = None) -> bool:
    """Whether an order, its payee as the person wrote it, is that of a payment as far as no one need be asked.

    ``fee_minor`` is the fee that comes with it; None where it says none.
    """
    same_fee = fee_minor in (None, existing.fee_minor)
    return (
        same_fee
        and intent.payee in (existing.payee.user_id, existing.payee.handle)
        and (
            existing.money,
            existing.memo,
            existing.request,
            existing.refund_of,
            existing.invoice,
        )
        == (intent.money, intent.memo, intent.request, intent.refund_of, intent.invoice)
    )


def spent(existing: Payment) -> Refused | None:
    """A failure is as final as a success: an id whose money went back carries no second try."""
    if not existing.state.final or existing.state is State.COMPLETED:
        return None
    return Refused(
        reason=Reason.PAYMENT_ID_SPENT,
        message=f"This payment has ended ({existing.state.value}) and its money is back with you. "
        "To pay after all, order again with a new payment_id.",
        fields=MappingProxyType({"state": existing.state.value}),
    )


# Who takes payments from whom.


class _PolicyContent(OpenWireModel):
    """The policy key by key, each still to be read: one that is malformed does not spoil the others."""

    v: Literal[1]
    senders: Annotated[Any, Field(alias="from")] = None
    accept: Any = None
    minimum: Any = None


class _Minimum(OpenWireModel):
    amount: WireAmount
    currency: WireCurrency


_SENDERS: Final = TypeAdapter(Annotated[list[PolicyFrom], Field(min_length=1)])
_ACCEPTANCE: Final = TypeAdapter(Acceptance)


def read_policy(content: object, assets: Mapping[AssetCode, Asset]) -> Policy:
    """The policy in a person's account data. What is malformed counts as absent: it fails open, to the defaults."""
    read = _PolicyContent.parse(content)
    if isinstance(read, Refused):
        return Policy()
    default = Policy()
    return Policy(
        senders=_senders(read.senders) or default.senders,
        acceptance=_acceptance(read.accept) or default.acceptance,
        minimum=_minimum(read.minimum, assets),
    )


def _senders(value: object) -> frozenset[PolicyFrom] | None:
    try:
        return frozenset(_SENDERS.validate_python([value] if isinstance(value, str) else value))
    except ValidationError:
        return None


def _acceptance(value: object) -> Acceptance | None:
    try:
        return _ACCEPTANCE.validate_python(value)
    except ValidationError:
        return None


def _minimum(value: object, assets: Mapping[AssetCode, Asset]) -> Money | None:
    read = _Minimum.parse(value)
    if isinstance(read, Refused):
        return None
    money = check_money(read.amount, read.currency, assets)
    return None if isinstance(money, Refused) else money


def judge_sender(
    policy: Policy, payee: UserId, money: Money, standing: frozenset[PolicyFrom], assets: Mapping[AssetCode, Asset]
) -> Refused | None:
    """Whether a payee's policy lets this payment in. ``standing`` is what the payer is to the payee."""
    if not policy.senders & standing:
        return Refused(
            reason=Reason.NOT_ALLOWED,
            message=f"{payee} does not take payments from you; write to them and ask to be let in.",
        )
    minimum = policy.minimum
    if minimum is not None and minimum.currency == money.currency and money.amount_minor < minimum.amount_minor:
        least = format_money(minimum.amount_minor, assets[minimum.currency])
        return Refused(
            reason=Reason.NOT_ALLOWED,
            message=f"{payee} takes payments of {least} or more; pay at least that.",
            fields=MappingProxyType({"minimum": minimum.amount_minor, "currency": minimum.currency}),
        )
    return None


# What may still happen to a payment.


class Move(StrEnum):
    """What an answer does to a payment that it finds."""

    ACT = "act"
    NOTHING = "nothing"  # it has been done before


def judge_cancel(payment: Payment) -> Move | Refused:
    match payment.state:
        case State.HELD | State.AWAITING_ACCEPTANCE:
            return Move.ACT
        case State.CANCELLED:
            return Move.NOTHING
        case State.COMMITTED | State.COMPLETED | State.FAILED | State.DECLINED | State.EXPIRED:
            return _decided(payment, "cancelled")
        case _:
            assert_never(payment.state)


def judge_accept(payment: Payment, now_ms: int) -> Move | Refused:
    match payment.state:
        case State.AWAITING_ACCEPTANCE:
            return _lapsed(payment, now_ms) or (Move.NOTHING if payment.answered else Move.ACT)
        case State.HELD | State.COMMITTED | State.COMPLETED:
            return Move.NOTHING
        case State.EXPIRED:
            return _expired(payment)
        case State.FAILED | State.DECLINED | State.CANCELLED:
            return _decided(payment, "accepted")
        case _:
            assert_never(payment.state)


def judge_decline(payment: Payment, now_ms: int) -> Move | Refused:
    match payment.state:
        case State.AWAITING_ACCEPTANCE if not payment.answered:
            return _lapsed(payment, now_ms) or Move.ACT
        case State.DECLINED:
            return Move.NOTHING
        case State.EXPIRED:
            return _expired(payment)
        case _:
            return _decided(payment, "declined")


def _lapsed(payment: Payment, now_ms: int) -> Refused | None:
    # The timer that writes the expiry may be a moment late; the deadline itself is exact.
    return _expired(payment) if payment.due_ms is not None and payment.due_ms <= now_ms else None


def _expired(payment: Payment) -> Refused:
    return Refused(
        reason=Reason.EXPIRED,
        message=f"Payment {payment.payment_id} was not answered in time and the money went back to {payment.payer}; "
        "ask them to pay again.",
    )


def _decided(payment: Payment, wish: str) -> Refused:
    advice = "; ask the payee for a refund" if payment.state in (State.COMMITTED, State.COMPLETED) else ""
    return Refused(
        reason=Reason.ALREADY_DECIDED,
        message=f"Payment {payment.payment_id} is {payment.state.value.replace('_', ' ')} "
        f"and can no longer be {wish}{advice}.",
        fields=MappingProxyType({"state": payment.state.value}),
    )


# Refunds.


def judge_refund(
    *, payer: UserId, payee: UserId, money: Money, original: Payment | None, refunded_minor: int
) -> Refused | None:
    """Whether ``payer`` may give ``money`` of ``original`` back to ``payee``, with ``refunded_minor`` on its way."""
    if original is None or original.payee.user_id != payer or original.payer != payee:
        return Refused(
            reason=Reason.UNKNOWN_PAYMENT,
            message=f"There is no payment of that id from {payee} to {payer}; check refund_of and the payee.",
        )
    left_minor = refundable_minor(original, refunded_minor)
    if money.currency == original.money.currency and money.amount_minor <= left_minor:
        return None
    return Refused(
        reason=Reason.REFUND_EXCEEDS_PAYMENT,
        message=f"Of payment {original.payment_id} ({original.state.value}) {left_minor} minor units of "
        f"{original.money.currency} can still be refunded; refund that much or less, in that currency.",
        fields=MappingProxyType({"refundable": left_minor, "currency": original.money.currency}),
    )


def refundable_minor(original: Payment, refunded_minor: int) -> int:
    return original.money.amount_minor - refunded_minor if original.state is State.COMPLETED else 0


# Receipts.


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """By whom a receipt is posted, and how long after the end."""

    poster: Poster
    after_ms: int


def posting(payment: Payment) -> Posting | None:
    """What this homeserver owes the room of a payment that has ended. One of the two homeservers posts, not both.

    The payee's homeserver says ``completed``, in the payee's name. Any other end is known first, and for certain, to
    the payer's, which also speaks where the payee is not in the room.
    """
    if payment.room_id is None or payment.event_id is None:
        return None
    completed = payment.state is State.COMPLETED
    if payment.payer_acct is None:
        return Posting(poster=Poster.PAYEE, after_ms=0) if completed and payment.payee_joined else None
    if payment.payee_acct is not None:
        by_payee = completed or payment.state is State.DECLINED
        return Posting(poster=Poster.PAYEE if by_payee else Poster.PAYER, after_ms=0)
    if completed and payment.payee_joined:
        return Posting(poster=Poster.PAYER_IF_NONE, after_ms=RECEIPT_GRACE_MS)
    return Posting(poster=Poster.PAYER, after_ms=0)


def receipt_content(payment: Payment, venue: Venue) -> dict[str, Any]:
    """Content of the receipt of a payment that has ended. In a hidden venue it holds a commitment to the amount."""
    outcome = Outcome(payment.state.value)
    content: dict[str, Any] = {
        "m.relates_to": {"rel_type": "m.reference", "event_id": payment.event_id},
        "payment_id": payment.payment_id,
        "outcome": outcome.value,
    }
    if payment.reason is not None:
        content["reason"] = payment.reason.value
    amount = {"amount": payment.money.amount_minor, "currency": payment.money.currency}
    match venue:
        case Venue.OPEN:
            content |= amount
            if payment.signed is not None:
                content["signed"] = dict(payment.signed)
        case Venue.HIDDEN:
            content["commitment"] = digest(
                [room_salt(payment), {"payment_id": payment.payment_id, "outcome": outcome.value, **amount}]
            )
        case _:
            assert_never(venue)
    return content


def room_salt(payment: Payment) -> str:
    """The salt of what a room may not read. ``wire_id`` is a secret of the two homeservers, so it can make one."""
    if payment.salts is not None:
        return payment.salts.room
    return digest(["receipt", payment.wire_id])
