"""What the routes of deposits take and give, as JSON."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from super_app.deposits.model import DAYS, DAYS_MAX, Deposit
from super_app.payments.model import WireAmount, WireCurrency, WireReference
from super_app.wire import OpenWireModel, WireModel
from synapse_super_app.payments.bodies import PasskeyAnswer

_Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="128 random bits, made by the client.")]


class PutDownBody(WireModel):
    """A deposit as it was shown to the person who puts it down. It is a payment of the id ``deposit_id``."""

    deposit_id: _Id
    recipient: WireReference
    amount: WireAmount
    currency: WireCurrency
    pin: Annotated[str | None, Field(max_length=64)] = None
    passkey: PasskeyAnswer = None


class PutDownJson(BaseModel):
    deposit_id: str
    recipient: str
    amount: int
    currency: str
    state: Annotated[str, Field(description="Of the payment; completed once it lies with the recipient.")]


class AskedJson(BaseModel):
    """``amount`` is what they ask of you before you write or ring; without it they ask nothing."""

    recipient: str
    amount: int | None = None
    currency: str | None = None


class PolicyBody(WireModel):
    """What strangers put down before they write to you or ring you."""

    amount: WireAmount
    currency: WireCurrency
    days: Annotated[int, Field(ge=1, le=DAYS_MAX, description="After so long without an answer it goes back.")] = DAYS
    spam_to: Annotated[
        str | None, Field(max_length=255, description="The user id of whom a deposit goes to that is kept; else you.")
    ] = None
    shared_rooms: Annotated[bool, Field(description="Whether people of rooms that you are in need none.")] = False


class PolicyJson(BaseModel):
    amount: int | None = None
    currency: str | None = None
    days: int | None = None
    spam_to: str | None = None
    shared_rooms: bool | None = None


class DepositJson(BaseModel):
    """A deposit for you. ``cue`` is why it was decided."""

    deposit_id: str
    payer: str
    amount: int
    currency: str
    state: Literal["expected", "open", "due", "returning", "returned", "kept"]
    cue: Literal["answer", "accept", "time", "spam", "gone"] | None = None
    made_ts: int
    until_ts: int

    @classmethod
    def of(cls, deposit: Deposit) -> "DepositJson":
        return cls(
            deposit_id=deposit.payment_id,
            payer=deposit.payer,
            amount=deposit.money.amount_minor,
            currency=deposit.money.currency,
            state=deposit.state.value,
            cue=None if deposit.cue is None else deposit.cue.value,
            made_ts=deposit.made_ms,
            until_ts=deposit.until_ms,
        )


class DepositsJson(BaseModel):
    deposits: list[DepositJson]


class PayerQuery(BaseModel):
    payer: Annotated[str, Field(max_length=255, description="Whose deposit it is.")]


class WantedJson(OpenWireModel):
    """What another homeserver asks for one of its people."""

    payer: Annotated[str, Field(max_length=255)]
    recipient: Annotated[str, Field(max_length=255)]
    deposit_id: Annotated[str | None, Field(pattern=r"^[0-9a-f]{32}$")] = None
    amount: WireAmount = None
    currency: WireCurrency = None
