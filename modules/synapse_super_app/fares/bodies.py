"""What the routes of calls by the minute take and give, as JSON."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from super_app.fares import rules
from super_app.fares.model import MINUTES, MINUTES_MAX, Fare, FareState
from super_app.payments.model import WireAmount, WireCurrency, WireReference
from super_app.wire import OpenWireModel, WireModel
from synapse_super_app.payments.bodies import PasskeyAnswer


class PaidCallBody(WireModel):
    """A price that a person confirms, for one ring of ``callee`` or one visit to the call behind ``link``.

    ``amount`` is what a minute costs, as it was shown to them.
    """

    fare_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="128 random bits, made by the client.")]
    callee: WireReference | None = None
    link: Annotated[str | None, Field(min_length=1, max_length=320, description="Instead of ``callee``.")] = None
    amount: WireAmount
    currency: WireCurrency
    minutes: Annotated[int, Field(ge=1, le=MINUTES_MAX, description="How long the call may be at most.")] = MINUTES
    pin: Annotated[str | None, Field(max_length=64)] = None
    passkey: PasskeyAnswer = None


class PriceBody(WireModel):
    """What a minute costs whom ``who`` of your call policy does not let through."""

    amount: WireAmount
    currency: WireCurrency


class MinutePriceJson(BaseModel):
    """``price`` is what a minute of a call with them costs you now; without it ringing them has no price."""

    callee: str
    amount: Annotated[int | None, Field(description="Minor units a minute.")] = None
    currency: str | None = None
    first: Annotated[int | None, Field(description="What is set aside when you confirm, for the first minutes.")] = None


class OwnPriceJson(BaseModel):
    amount: int | None = None
    currency: str | None = None
    per: Literal["ring", "minute"] | None = None


class PaidCallJson(BaseModel):
    """A call by the minute, and what it comes to now: ``cost``.

    ``aside`` lies ready for it, ``paid`` was paid or is on its way, ``most`` is what was confirmed. ``ends_ts`` is when
    that is used up, if the call goes on.
    """

    fare_id: str
    callee: str
    amount: int
    currency: str
    state: Literal["agreed", "running", "owing", "ended"]
    cost: int
    paid: int
    aside: int
    most: int
    talked_ms: int
    answer_ts: int | None = None
    ends_ts: int | None = None
    reason: Annotated[str | None, Field(description="Why it ended, if not by hanging up: used_up, expired, …")] = None
    agreed_ts: int
    link: Annotated[str | None, Field(description="Of a visit to the call behind a link; there is no ring.")] = None
    room_id: Annotated[str | None, Field(description="Where the link leads, once you were let in.")] = None


class PaidCallsJson(BaseModel):
    calls: list[PaidCallJson]


class WantedJson(OpenWireModel):
    """What another homeserver asks for one of its people."""

    caller: Annotated[str, Field(max_length=255)]
    callee: Annotated[str, Field(max_length=255)]
    fare_id: Annotated[str | None, Field(pattern=r"^[0-9a-f]{32}$")] = None
    amount: WireAmount = None
    currency: WireCurrency = None
    link_id: Annotated[str | None, Field(max_length=64)] = None


def paid_call_json(fare: Fare, now_ms: int) -> PaidCallJson:
    running_ms = rules.talked(fare.answer_ms, now_ms if fare.end_ms is None else fare.end_ms)
    talked_ms = fare.talked_ms if fare.talked_ms is not None else running_ms
    cost_minor = min(rules.cost_minor(fare.price.amount_minor, talked_ms), fare.ceiling_minor)
    if fare.state is FareState.ENDED:
        cost_minor = fare.paid_minor
    return PaidCallJson(
        fare_id=fare.fare_id,
        callee=fare.callee,
        amount=fare.price.amount_minor,
        currency=fare.price.currency,
        state=fare.state.value,
        cost=cost_minor,
        paid=fare.paid_minor,
        aside=fare.aside_minor,
        most=fare.ceiling_minor,
        talked_ms=talked_ms,
        answer_ts=fare.answer_ms,
        ends_ts=rules.ends_ms(fare),
        reason=fare.reason,
        agreed_ts=fare.agreed_ms,
        link=fare.link,
        room_id=fare.room_id,
    )
