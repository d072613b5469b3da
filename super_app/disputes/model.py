"""A dispute about one payment: its case, its timeline, and what two homeservers tell each other of it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from super_app.ids import Acct, PaymentId, ServerName, UserId
from super_app.money import MAX_AMOUNT_MINOR, AssetCode
from super_app.payments.model import PayerKey, PaymentKey
from super_app.wire import Text, WireModel

DAY_MS: Final = 86_400_000
DISPUTABLE_MS: Final = 180 * DAY_MS
"""How long after it was ordered a payment can be disputed."""
STATEMENT_MAX: Final = 2_000
STATEMENTS_MAX: Final = 20
"""Statements that one side may make in a case."""


class Ground(StrEnum):
    NOT_RECEIVED = "not_received"
    NOT_AS_AGREED = "not_as_agreed"
    NOT_MINE = "not_mine"  # somebody else ordered it in the payer's name
    OTHER = "other"


class CaseState(StrEnum):
    """``open -> withdrawn | rejected | granted -> settled``, or from open to settled, when the payee gives it back."""

    OPEN = "open"
    WITHDRAWN = "withdrawn"
    GRANTED = "granted"
    REJECTED = "rejected"
    SETTLED = "settled"

    @property
    def final(self) -> bool:
        return self not in (CaseState.OPEN, CaseState.GRANTED)


class Author(StrEnum):
    PAYER = "payer"
    PAYEE = "payee"
    OPERATOR = "operator"


class Act(StrEnum):
    OPENED = "opened"
    STATED = "stated"
    WITHDRAWN = "withdrawn"
    GRANTED = "granted"
    REJECTED = "rejected"
    REFUNDED = "refunded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """``is_home`` where this homeserver keeps it; elsewhere it is a copy of what the payer's homeserver has told."""

    key: PaymentKey
    is_home: bool
    payer: UserId
    payee: UserId
    payer_acct: Acct | None
    payee_acct: Acct | None
    ground: Ground
    currency: AssetCode
    wanted_minor: int
    granted_minor: int | None
    state: CaseState
    opened_ms: int

    @property
    def due_minor(self) -> int:
        """What has to come back for the case to be settled."""
        return self.wanted_minor if self.granted_minor is None else self.granted_minor


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the timeline. ``number`` 0: said here, and not yet taken in by the homeserver that keeps the case."""

    entry_id: str
    number: int
    author: Author
    act: Act
    text: str
    amount_minor: int | None
    made_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """What another homeserver has to be told."""

    case: Case
    entry: Entry
    to_server: ServerName
    attempts: int


class Told(WireModel):
    """What one homeserver tells the other of a case, signed with its payment key."""

    type: Literal["org.superapp.dispute"]
    v: Literal[1]
    from_server: Annotated[str, Field(max_length=255)]
    to_server: Annotated[str, Field(max_length=255)]
    payer: Annotated[str, Field(max_length=255)]
    payee: Annotated[str, Field(max_length=255)]
    payment_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    ground: Literal["not_received", "not_as_agreed", "not_mine", "other"]
    currency: Annotated[str, Field(max_length=12)]
    wanted: Annotated[int, Field(ge=1, le=MAX_AMOUNT_MINOR)]
    opened_ms: Annotated[int, Field(ge=0, le=2**53 - 1)]
    entry_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    number: Annotated[int, Field(ge=0, le=1_000)]
    author: Literal["payer", "payee", "operator"]
    act: Literal["opened", "stated", "withdrawn", "granted", "rejected", "refunded"]
    text: Annotated[Text, Field(max_length=STATEMENT_MAX)]
    amount: Annotated[int | None, Field(ge=1, le=MAX_AMOUNT_MINOR)] = None
    made_ms: Annotated[int, Field(ge=0, le=2**53 - 1)]
    key_id: Annotated[str, Field(max_length=64)]
    signature: Annotated[str, Field(max_length=128)]


def key_of(payer_key: str, payment_id: str) -> PaymentKey:
    return PaymentKey(payer_key=PayerKey(payer_key), payment_id=PaymentId(payment_id))
