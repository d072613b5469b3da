"""Pure decisions about deposits: how a person's policy is read, who needs one, what becomes of it."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, cast

from pydantic import Field, ValidationError

from super_app.deposits.model import (
    DAY_MS,
    DAYS,
    DAYS_MAX,
    INVOICE_PREFIX,
    Cue,
    Deposit,
    DepositKey,
    DepositState,
    Terms,
)
from super_app.errors import Reason, Refused
from super_app.ids import PaymentId, UserId, parse_user_id
from super_app.money import Asset, AssetCode, Money, check_money
from super_app.payments.model import Payment
from super_app.signing import digest
from super_app.wire import OpenWireModel

VERSION: Final = 1
_ID_CHARACTERS: Final = 32


class _Amount(OpenWireModel):
    amount: Any
    currency: Any


class _Policy(OpenWireModel):
    v: Literal[1]
    deposit: _Amount | None = None
    days: Annotated[int, Field(ge=1, le=DAYS_MAX)] = DAYS
    spam_to: str | None = None
    free: list[Literal["contacts", "shared_rooms"]] = []


def read_policy(content: object, assets: Mapping[AssetCode, Asset]) -> Terms | None:
    """What somebody asks of strangers; None where they ask nothing, or nothing that can be read.

    A mistake lets everybody through, since it must not make a person unreachable.
    """
    if not isinstance(content, Mapping):
        return None
    try:
        policy = _Policy.model_validate(dict(cast(Mapping[str, object], content)), strict=True)
    except ValidationError:
        return None
    if policy.deposit is None:
        return None
    money = check_money(policy.deposit.amount, policy.deposit.currency, assets)
    if isinstance(money, Refused):
        return None
    return Terms(
        deposit=money,
        days=policy.days,
        spam_to=None if policy.spam_to is None else parse_user_id(policy.spam_to),
        shared_rooms="shared_rooms" in policy.free,
    )


def is_deposit(payment: Payment) -> bool:
    """Whether a payment of somebody here puts a deposit down: it has no event, and is its own invoice."""
    return payment.event_id is None and payment.invoice == f"{INVOICE_PREFIX}{payment.payment_id}"


def refund_id_of(key: DepositKey, tries: int) -> PaymentId:
    """The id of the payment that gives a deposit back, or on; another one for each try."""
    # 32 characters of base64url are no hex, so the digest's bytes are spelled anew.
    return PaymentId(digest_hex(["deposit", key.payer, key.payment_id, tries]))


def digest_hex(parts: list[object]) -> str:
    return digest(parts).encode().hex()[:_ID_CHARACTERS]


def until_ms(terms: Terms, now_ms: int) -> int:
    return now_ms + terms.days * DAY_MS


def required(recipient: UserId, money: Money) -> Refused:
    return Refused(
        reason=Reason.DEPOSIT_REQUIRED,
        message=f"{recipient} asks strangers to put down {money.amount_minor} minor units of {money.currency} before "
        "they write or ring. It comes back when you are answered. Put it down in your wallet or with POST deposits.",
        fields={"amount": money.amount_minor, "currency": money.currency},
    )


def changed(recipient: UserId, money: Money | None) -> Refused:
    if money is None:
        return Refused(
            reason=Reason.PRICE_CHANGED, message=f"{recipient} asks no deposit of you; nothing was paid. Just write."
        )
    return Refused(
        reason=Reason.PRICE_CHANGED,
        message=f"{recipient} asks {money.amount_minor} minor units of {money.currency} now; nothing was paid. Confirm "
        "the new amount.",
        fields={"amount": money.amount_minor, "currency": money.currency},
    )


def unknown(payment_id: str) -> Refused:
    return Refused(
        reason=Reason.UNKNOWN_DEPOSIT,
        message=f"Nobody has put a deposit {payment_id[:64]!a} down for you; GET deposits lists them.",
    )


def judge(deposit: Deposit, cue: Cue) -> Refused | bool:
    """Whether a cue changes something. A deposit is decided once."""
    match deposit.state:
        case DepositState.OPEN:
            return True
        case DepositState.EXPECTED:
            return unknown(deposit.payment_id)
        case _ if deposit.cue is cue:
            return False
        case _:
            return Refused(
                reason=Reason.ALREADY_DECIDED,
                message="What becomes of this deposit is decided already.",
                fields={"state": deposit.state.value},
            )
