"""What the routes of disputes take and give, as JSON."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field

from super_app.disputes.model import STATEMENT_MAX, Author, Case, Entry
from super_app.money import MAX_AMOUNT_MINOR
from super_app.wire import Text, WireModel

_Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="128 random bits, made by the client.")]
_Statement = Annotated[Text, Field(min_length=1, max_length=STATEMENT_MAX)]
_Amount = Annotated[int | None, Field(ge=1, le=MAX_AMOUNT_MINOR, description="Minor units of the payment's currency.")]


class OpenBody(WireModel):
    """Why a payment is disputed. Without ``amount`` it is about all that has not come back yet."""

    ground: Literal["not_received", "not_as_agreed", "not_mine", "other"]
    statement: _Statement
    amount: _Amount = None


class StateBody(WireModel):
    statement_id: _Id
    text: _Statement


class PayerQuery(WireModel):
    payer: Annotated[str | None, Field(max_length=255, description="Who paid, if it was paid to you.")] = None


class AdminQuery(WireModel):
    payer: Annotated[str, Field(max_length=255)]


class StateQuery(WireModel):
    state: Literal["open", "granted", "withdrawn", "rejected", "settled"] = "open"


class DecideBody(WireModel):
    """``amount`` of a grant is what has to come back; all that is wanted if it is left out."""

    decision: Literal["grant", "reject"]
    amount: _Amount = None
    reason: _Statement


class EntryJson(WireModel):
    """A line of the timeline. ``pending``: the homeserver that keeps the case has not confirmed it yet."""

    author: Literal["payer", "payee", "operator"]
    act: Literal["opened", "stated", "withdrawn", "granted", "rejected", "refunded"]
    text: str | None = None
    amount: int | None = None
    ts: int
    pending: bool | None = None

    @classmethod
    def of(cls, entry: Entry) -> Self:
        return cls(
            author=entry.author.value,
            act=entry.act.value,
            text=entry.text or None,
            amount=entry.amount_minor,
            ts=entry.made_ms,
            pending=True if entry.number == 0 else None,
        )


class CaseJson(WireModel):
    payment_id: str
    payer: str
    payee: str
    side: Literal["payer", "payee", "operator"]
    decided_by: Annotated[str, Field(description="The homeserver whose operator decides it.")]
    ground: Literal["not_received", "not_as_agreed", "not_mine", "other"]
    currency: str
    wanted: int
    granted: int | None = None
    state: Literal["open", "withdrawn", "granted", "rejected", "settled"]
    opened_ts: int
    timeline: list[EntryJson]

    @classmethod
    def of(cls, case: Case, timeline: Sequence[Entry], side: Author) -> Self:
        return cls(
            payment_id=case.key.payment_id,
            payer=case.payer,
            payee=case.payee,
            side=side.value,
            decided_by=case.payer.partition(":")[2],
            ground=case.ground.value,
            currency=case.currency,
            wanted=case.wanted_minor,
            granted=case.granted_minor,
            state=case.state.value,
            opened_ts=case.opened_ms,
            timeline=[EntryJson.of(entry) for entry in timeline],
        )


class CasesJson(WireModel):
    disputes: list[CaseJson]
