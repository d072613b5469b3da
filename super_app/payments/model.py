"""A payment as this homeserver knows it: of its payer, of its payee, or of both.

``PaymentContent`` is the order as a person gives it (the content of ``org.superapp.payment``); ``Order`` is the same
after the payee has been resolved, and what the hold is a copy of.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, NewType

from pydantic import Field, WithJsonSchema

from super_app.clearing.ports import Party, WireId
from super_app.errors import Reason
from super_app.ids import Acct, EventId, PaymentId, RoomId, ServerName, UserId, server_of
from super_app.ledger.model import HoldId
from super_app.money import MAX_AMOUNT_MINOR, Money
from super_app.signing import digest
from super_app.wire import WireModel

MEMO_MAX_CHARACTERS: Final = 512
REFERENCE_MAX_CHARACTERS: Final = 255
UNBOUND_HOLD_MS: Final = 3_600_000
"""A hold whose event never came to exist is released after this long."""
LINK_PATIENCE_MS: Final = 600_000
"""How long an order waits for a link that is being checked before its money goes back."""
ACCEPTANCE_MS: Final = 86_400_000
"""How long a payee who wants to be asked has to answer."""

NO_EVENT: Final = -1
"""The ``position`` of a payment that no room event carries: one out of a pot."""

PayerKey = NewType("PayerKey", str)
"""Whose id space a payment id belongs to: the acct of a payer of this homeserver, the user id of any other."""

WireAmount = Annotated[
    Any, WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_AMOUNT_MINOR, "description": "Minor units."})
]
"""Read by ``check_money``, so that a wrong amount is refused by its own name and not as some invalid value."""
WireCurrency = Annotated[Any, WithJsonSchema({"type": "string", "examples": ["EUR"]})]
WireReference = Annotated[str, Field(min_length=1, max_length=REFERENCE_MAX_CHARACTERS)]
WireMemo = Annotated[str | None, Field(json_schema_extra={"maxLength": MEMO_MAX_CHARACTERS})]
"""Its length is checked in ``rules``, where it has a refusal of its own."""


class PaymentContent(WireModel):
    """Content of ``org.superapp.payment``."""

    payment_id: str
    payee: WireReference
    amount: WireAmount
    currency: WireCurrency
    memo: WireMemo = None
    request: WireReference | None = None
    refund_of: str | None = None
    invoice: WireReference | None = None


class State(StrEnum):
    """``held -> awaiting_acceptance? -> committed -> completed | failed``; before committed also the other three."""

    HELD = "held"
    AWAITING_ACCEPTANCE = "awaiting_acceptance"
    COMMITTED = "committed"
    COMPLETED = "completed"
    FAILED = "failed"
    DECLINED = "declined"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self not in (State.HELD, State.AWAITING_ACCEPTANCE, State.COMMITTED)


def end_of(reason: Reason) -> State:
    """How a payment ends that comes to nothing for a reason."""
    match reason:
        case Reason.DECLINED:
            return State.DECLINED
        case Reason.EXPIRED:
            return State.EXPIRED
        case Reason.CANCELLED:
            return State.CANCELLED
        case _:
            return State.FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """An order whose every field was read and found well-formed; ``payee`` is still what the person wrote."""

    payment_id: PaymentId
    payee: str
    money: Money
    memo: str | None = None
    request: str | None = None
    refund_of: PaymentId | None = None
    invoice: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Salts:
    """Random 128-bit salts as hex, made at the edge with the order and stored with it.

    ``wire`` and ``parties`` (payer, payee, memo) go to the payee's server when it is another one; ``room`` hides the
    order in an encrypted room and the outcome in its receipt.
    """

    wire: str
    parties: tuple[str, str, str]
    room: str


class Venue(StrEnum):
    """What the room of an order lets its members see."""

    OPEN = "open"
    HIDDEN = "hidden"  # an encrypted room: its events carry commitments only


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the payer ordered, with the payee resolved. ``payer`` is an account of this homeserver."""

    payment_id: PaymentId
    payer_acct: Acct
    payer: UserId
    payee: Party
    money: Money
    memo: str | None = None
    request: str | None = None
    refund_of: PaymentId | None = None
    invoice: str | None = None
    fee_minor: int | None = None
    """The fee that the payer has confirmed; None where they were shown none. It is no part of the order's hash."""

    @property
    def hold_id(self) -> HoldId:
        return HoldId(f"{self.payer_acct}:{self.payment_id}")

    @property
    def payee_server(self) -> ServerName:
        return server_of(self.payee.user_id)

    def content(self) -> dict[str, object]:
        """The order as JSON, its payee as a user id however it was spelled."""
        fields: dict[str, object | None] = {
            "payment_id": self.payment_id,
            "payee": self.payee.user_id,
            "amount": self.money.amount_minor,
            "currency": self.money.currency,
            "memo": self.memo,
            "request": self.request,
            "refund_of": self.refund_of,
            "invoice": self.invoice,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def order_hash(self) -> str:
        return digest(self.content())

    def commitment(self, salts: Salts) -> str:
        """What stands for the order in an encrypted room."""
        return digest([salts.room, self.content()])


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where an order is about to be sent, as the gate saw it. ``room_id`` is None while the room is yet to be made.

    ``position`` is the place in the event stream before which its event cannot stand.
    """

    room_id: RoomId | None
    venue: Venue
    payee_joined: bool
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """One payment.

    ``payer_acct`` and ``payee_acct`` are accounts of this homeserver and None for people elsewhere. ``order_hash`` and
    ``salts`` exist where the payer is ours, ``wire_id`` where the payer is not. ``due_ms`` is when this homeserver acts
    by itself: releases an unbound hold, offers again, or lets a local acceptance expire. ``answered`` tells that the
    payee has said yes while the payer's homeserver has not yet committed.
    """

    payer_key: PayerKey
    payment_id: PaymentId
    payer: UserId
    payer_acct: Acct | None
    payee: Party
    payee_acct: Acct | None
    money: Money
    memo: str | None
    request: str | None
    refund_of: PaymentId | None
    invoice: str | None
    order_hash: str | None
    salts: Salts | None
    wire_id: WireId | None
    room_id: RoomId | None
    event_id: EventId | None
    venue: Venue
    payee_joined: bool
    position: int
    state: State
    reason: Reason | None
    answered: bool
    created_ms: int
    due_ms: int | None
    signed: Mapping[str, object] | None
    """The signed RECEIPT of the payee's homeserver; None for a local payment and for one that failed."""
    fee_minor: int = 0
    """What it costs a payer of ours besides ``money``; the house's once it is completed."""

    @property
    def key(self) -> "PaymentKey":
        return PaymentKey(payer_key=self.payer_key, payment_id=self.payment_id)

    @property
    def hold_id(self) -> HoldId:
        return HoldId(f"{self.payer_key}:{self.payment_id}")

    @property
    def is_local(self) -> bool:
        return self.payer_acct is not None and self.payee_acct is not None

    @property
    def is_bound(self) -> bool:
        """Whether a room event carries it, or none is to. One from elsewhere came with its room event, or with none."""
        return self.event_id is not None or self.payer_acct is None or self.position == NO_EVENT

    @property
    def waits_for_link(self) -> bool:
        """Whether it is bound and still to be offered to the payee's homeserver, because the link was not ready."""
        remote = self.payer_acct is not None and self.payee_acct is None
        return remote and self.is_bound and self.state is State.HELD and self.due_ms is not None


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PaymentKey:
    payer_key: PayerKey
    payment_id: PaymentId


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some payments of one account, newest first, and whether there are older ones."""

    payments: tuple[Payment, ...]
    more: bool


class Outcome(StrEnum):
    """How a payment ended, as the receipt says it."""

    COMPLETED = "completed"
    DECLINED = "declined"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Poster(StrEnum):
    """In whose name this homeserver posts the receipt."""

    PAYEE = "payee"  # as the payee; as the payer if the payee has left the room
    PAYER = "payer"
    PAYER_IF_NONE = "payer_if_none"  # as the payer, should the payee's homeserver not have posted one


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A receipt that this homeserver owes to the room. ``salt`` hides the outcome where it is not for everyone."""

    key: PaymentKey
    poster: Poster
    room_id: RoomId
    event_id: EventId
    """The payment event that it refers to."""
    attempts: int
    due_ms: int


class PolicyFrom(StrEnum):
    """Whose payments a person takes."""

    EVERYONE = "everyone"
    CONTACTS = "contacts"
    SHARED_ROOMS = "shared_rooms"
    NOBODY = "nobody"


class Acceptance(StrEnum):
    AUTO = "auto"
    ASK = "ask"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Who may pay a person, and whether they are asked first. The default takes everything at once."""

    senders: frozenset[PolicyFrom] = frozenset({PolicyFrom.EVERYONE})
    acceptance: Acceptance = Acceptance.AUTO
    minimum: Money | None = None
