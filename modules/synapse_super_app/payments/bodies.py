"""What the payments API takes and gives, as JSON. The pinned shapes of the client API."""

import json
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, WithJsonSchema

from super_app.errors import Reason, Refused
from super_app.ids import PaymentId, UserId
from super_app.ledger.model import Entry, Violation
from super_app.money import MAX_AMOUNT_MINOR
from super_app.payments.model import (
    MEMO_MAX_CHARACTERS,
    PayerKey,
    Payment,
    PaymentContent,
    PaymentKey,
    Venue,
    WireAmount,
    WireCurrency,
    WireReference,
)
from super_app.payments.service import MAX_PAGE
from super_app.signing import canonical, from_b64, to_b64
from super_app.wire import WireModel, is_text

PaymentIdText = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="128 random bits, made by the client.")]
PasskeyAnswer = Annotated[
    dict[str, Any] | None, Field(description="What navigator.credentials.get() gave, as JSON, in the place of the PIN.")
]
Memo = Annotated[str | None, WithJsonSchema({"type": "string", "maxLength": MEMO_MAX_CHARACTERS})]
_ROOM_ID_MAX = 255
_DEFAULT_PAGE = 20


class PayBody(WireModel):
    """An order. ``pin`` is taken for the limits above which an operator asks for one."""

    payment_id: str
    payee: WireReference
    amount: WireAmount
    currency: WireCurrency
    memo: Memo = None
    request: Annotated[WireReference | None, Field(description="The request for money that this answers.")] = None
    room_id: Annotated[str | None, Field(max_length=_ROOM_ID_MAX)] = None
    pin: Annotated[str | None, Field(max_length=64)] = None
    passkey: PasskeyAnswer = None
    fee: Annotated[
        int | None, Field(ge=0, le=MAX_AMOUNT_MINOR, description="The fee that the payer was shown and confirms.")
    ] = None

    def content(self) -> PaymentContent:
        return PaymentContent(
            payment_id=self.payment_id,
            payee=self.payee,
            amount=self.amount,
            currency=self.currency,
            memo=self.memo,
            request=self.request,
        )


class QuoteBody(WireModel):
    """A payment that somebody thinks of."""

    payee: WireReference
    amount: WireAmount
    currency: WireCurrency

    def content(self) -> PaymentContent:
        return PaymentContent(payment_id="0" * 32, payee=self.payee, amount=self.amount, currency=self.currency)


class ChallengeBody(WireModel):
    """What is to be confirmed with a passkey. ``payee`` is left out where money is put aside for whoever claims it."""

    payee: WireReference | None = None
    amount: WireAmount
    currency: WireCurrency
    fee: Annotated[int, Field(ge=0, le=MAX_AMOUNT_MINOR)] = 0


class ChallengeJson(WireModel):
    """``public_key`` goes to ``navigator.credentials`` of a browser."""

    public_key: dict[str, Any]


class QuoteJson(WireModel):
    """What it would cost now: the payee gets ``amount``, the payer pays ``total``."""

    payee: str
    payee_user_id: str
    amount: int
    fee: int
    total: int
    currency: str


class RefundBody(WireModel):
    """``amount`` left out gives back all that is left."""

    payment_id: str
    amount: Annotated[
        Any, WithJsonSchema({"type": "integer", "minimum": 1, "description": "Minor units; absent: all that is left."})
    ] = None


class IssueBody(WireModel):
    user_id: str
    amount: WireAmount
    currency: WireCurrency
    reference: WireReference


class PayerQuery(WireModel):
    """Whose id it is; a payee names the payer, since ids are the payer's."""

    payer: Annotated[str | None, Field(max_length=_ROOM_ID_MAX)] = None


class PageQuery(WireModel):
    since: Annotated[str | None, Field(description="``next`` of the page before.")] = None
    limit: Annotated[int, Field(ge=1, description=f"At most {MAX_PAGE} come at once.")] = _DEFAULT_PAGE

    def before(self) -> tuple[int, PaymentKey] | Refused | None:
        """Where the page begins."""
        return None if self.since is None else _read_token(self.since)


class WalletAccount(WireModel):
    """``aside`` is there while money lies in gifts and links that nobody has claimed yet."""

    currency: str
    scale: int
    available: int
    held: int
    aside: int | None = None


class Wallet(WireModel):
    """``frozen_since`` stands while the operator has frozen the person's accounts."""

    accounts: list[WalletAccount]
    frozen_since: int | None = None


class PaymentAnswer(WireModel):
    """How an order stands."""

    payment_id: str
    state: str
    event_id: str | None = None
    reason: str | None = None

    @classmethod
    def of(cls, payment: Payment) -> Self:
        return cls(
            payment_id=payment.payment_id,
            state=payment.state.value,
            event_id=payment.event_id,
            reason=None if payment.reason is None else payment.reason.value,
        )


class PaymentJson(WireModel):
    """A payment as one of its two people sees it. ``expires_ts`` stands while the payee of here is asked.

    ``encrypted`` says that the room is, so that its events show nobody what is paid.
    ``fee`` is what it costs the payer besides ``amount``, if anything; nobody else sees it.
    """

    payment_id: str
    direction: Literal["outgoing", "incoming"]
    payer: str
    payee: str
    amount: int
    currency: str
    memo: str | None = None
    state: str
    reason: str | None = None
    room_id: str | None = None
    event_id: str | None = None
    encrypted: bool | None = None
    request: str | None = None
    refund_of: str | None = None
    invoice: str | None = None
    created_ts: int
    expires_ts: int | None = None
    fee: int | None = None

    @classmethod
    def of(cls, payment: Payment, viewer: UserId) -> Self:
        return cls(
            payment_id=payment.payment_id,
            direction="outgoing" if payment.payer == viewer else "incoming",
            payer=payment.payer,
            payee=payment.payee.user_id,
            amount=payment.money.amount_minor,
            currency=payment.money.currency,
            memo=payment.memo,
            state=payment.state.value,
            reason=None if payment.reason is None else payment.reason.value,
            room_id=payment.room_id,
            event_id=payment.event_id,
            encrypted=payment.venue is Venue.HIDDEN or None,
            request=payment.request,
            refund_of=payment.refund_of,
            invoice=payment.invoice,
            created_ts=payment.created_ms,
            expires_ts=payment.due_ms if payment.is_bound else None,
            fee=payment.fee_minor or None if payment.payer == viewer else None,
        )


class PaymentsPage(WireModel):
    payments: list[PaymentJson]
    next: str | None = None


class IssuedJson(WireModel):
    """The entry that an issue made."""

    seq: int
    user_id: str
    amount: int
    currency: str
    reference: str
    created_ts: int

    @classmethod
    def of(cls, entry: Entry, user_id: UserId) -> Self:
        return cls(
            seq=entry.seq,
            user_id=user_id,
            amount=entry.transfer.amount_minor,
            currency=entry.transfer.debit.currency,
            reference=entry.transfer.reference,
            created_ts=entry.posted_ms,
        )


class ViolationJson(WireModel):
    invariant: str
    where: str
    off_by: int

    @classmethod
    def of(cls, violation: Violation) -> Self:
        return cls(invariant=violation.invariant, where=violation.where, off_by=violation.off_by)


class InvariantsJson(WireModel):
    """``broken`` stands only where something is."""

    ok: bool
    checked: dict[str, int]
    broken: list[ViolationJson] | None = None


def page_token(payment: Payment) -> str:
    """Where the page after this payment begins. Opaque to clients."""
    return token_at(payment.created_ms, payment.key)


def token_at(created_ms: int, key: PaymentKey) -> str:
    """Where the page after the payment of a key and a time begins."""
    return to_b64(canonical([created_ms, key.payer_key, key.payment_id]))


_MAX_MS: Final = 2**53 - 1


def _read_token(token: str) -> tuple[int, PaymentKey] | Refused:
    try:
        created_ms, payer_key, payment_id = json.loads(from_b64(token))
    except (ValueError, TypeError):
        return _unknown_token()
    if type(created_ms) is not int or not isinstance(payer_key, str) or not isinstance(payment_id, str):
        return _unknown_token()
    if not (0 <= created_ms <= _MAX_MS and is_text(payer_key) and is_text(payment_id)):
        return _unknown_token()
    return created_ms, PaymentKey(payer_key=PayerKey(payer_key), payment_id=PaymentId(payment_id))


def _unknown_token() -> Refused:
    return Refused(
        reason=Reason.INVALID_VALUE, message="since is not a token of this homeserver; use next of the page before."
    )
