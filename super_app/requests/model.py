"""A request for money, as this homeserver knows it.

It asks each of its payers for the whole amount, or for a part of their own (a *split*), or everybody in its room for
what they like towards a *goal*. Who made it and who is asked are user ids, since either may be of another homeserver.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, NewType

from pydantic import Field

from super_app.ids import EventId, PaymentId, RoomId, UserId
from super_app.money import Money
from super_app.payments.model import WireAmount, WireCurrency
from super_app.wire import WireModel

RequestId = NewType("RequestId", str)
"""128 random bits as 32 lower-case hex digits, made by the requester's client; unique per requester."""

PAYERS_MAX: Final = 50
LIFE_MS: Final = 30 * 86_400_000
"""How long a request lasts that does not say."""
LONGEST_LIFE_MS: Final = 366 * 86_400_000
OPEN_MAX: Final = 20
"""How many open requests of one person another one is shown; further ones are not."""

REMIND_PAUSE_MS: Final = 86_400_000
"""How long after a reminder there is no other one."""

_Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
_User = Annotated[str, Field(min_length=1, max_length=255)]


class RequestContent(WireModel):
    """Content of ``org.superapp.payment.request``. Without ``from`` the other member of a direct room is asked.

    ``parts`` are what each of ``from`` is asked for, in its order; they make ``amount``. With ``goal`` everybody in the
    room is asked to put something towards ``amount``, and there is no ``from``.
    """

    request_id: _Id
    amount: WireAmount
    currency: WireCurrency
    memo: str | None = None
    asked: Annotated[list[_User] | None, Field(alias="from", min_length=1, max_length=PAYERS_MAX)] = None
    expires_ms: Annotated[int | None, Field(ge=0, le=2**53 - 1)] = None
    parts: Annotated[list[WireAmount] | None, Field(min_length=1, max_length=PAYERS_MAX)] = None
    goal: Literal[True] | None = None


class EndContent(WireModel):
    """Content of ``org.superapp.payment.request.end``, which only homeservers send."""

    request_id: _Id
    requester: _User
    outcome: Literal["declined", "cancelled", "excused"]
    payer: _User | None = None
    relates_to: Annotated[Any, Field(alias="m.relates_to")] = None


class Answer(StrEnum):
    """How far one payer is."""

    OPEN = "open"
    PAYING = "paying"
    PAID = "paid"
    DECLINED = "declined"
    EXCUSED = "excused"  # let off by the requester


class Kind(StrEnum):
    EACH = "each"
    SPLIT = "split"
    GOAL = "goal"


class State(StrEnum):
    """How a request stands, for its requester or for one payer. All but the first two are final."""

    OPEN = "open"
    PAYING = "paying"
    PAID = "paid"
    DECLINED = "declined"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Payer:
    """One who is asked. ``payment_id`` is the payment that answers it, if there is one."""

    user_id: UserId
    answer: Answer = Answer.OPEN
    payment_id: PaymentId | None = None
    part_minor: int | None = None
    """Of a split; None where they are asked for the whole amount."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """A payment towards a goal."""

    payer: UserId
    payment_id: PaymentId
    amount_minor: int
    paid: bool


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class RequestKey:
    requester: UserId
    request_id: RequestId


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    requester: UserId
    request_id: RequestId
    money: Money
    memo: str | None
    room_id: RoomId
    event_id: EventId | None
    payers: tuple[Payer, ...]
    cancelled_ms: int | None
    created_ms: int
    expires_ms: int
    kind: Kind = Kind.EACH
    reminded_ms: int | None = None
    contributions: tuple[Contribution, ...] = ()

    @property
    def key(self) -> RequestKey:
        return RequestKey(requester=self.requester, request_id=self.request_id)

    def payer(self, user_id: UserId) -> Payer | None:
        return next((each for each in self.payers if each.user_id == user_id), None)

    def due_of(self, payer: Payer) -> Money:
        """What one who is asked is to pay."""
        return self.money if payer.part_minor is None else replace(self.money, amount_minor=payer.part_minor)

    @property
    def paid_minor(self) -> int:
        """What has arrived of it."""
        if self.kind is Kind.GOAL:
            return sum(each.amount_minor for each in self.contributions if each.paid)
        return sum(self.due_of(payer).amount_minor for payer in self.payers if payer.answer is Answer.PAID)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """An event that this homeserver owes to a room, as one of its accounts."""

    outbox_id: str
    room_id: RoomId
    sender: UserId
    event_type: str
    content: dict[str, Any]
    attempts: int
    due_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some requests, newest first, and whether there are older ones."""

    requests: tuple[Request, ...]
    more: bool
