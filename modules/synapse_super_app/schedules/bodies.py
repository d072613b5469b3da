"""What the routes of schedules take and give, as JSON."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field

from super_app.errors import Reason, Refused
from super_app.money import MAX_AMOUNT_MINOR
from super_app.payments.model import PaymentContent, WireAmount, WireCurrency, WireReference
from super_app.schedules.model import Every, Occurrence, Plan, Schedule, State
from super_app.wire import WireModel
from synapse_super_app.payments.bodies import Memo, PasskeyAnswer

_Day = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$", examples=["2026-12-31"])]
_Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$", examples=["09:00"])]


class MakeBody(WireModel):
    """Whom to pay what, and when. ``pin`` is taken once, here, where one such payment would take it."""

    schedule_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="128 random bits, made by the client.")]
    payee: WireReference
    amount: WireAmount
    currency: WireCurrency
    memo: Memo = None
    every: Literal["once", "daily", "weekly", "monthly"]
    first: Annotated[_Day, Field(description="The first day, and the day of the month of a monthly one.")]
    at: Annotated[_Clock, Field(description="The time of day in the zone.")] = "09:00"
    tz: Annotated[str, Field(min_length=1, max_length=64, description="Such as Europe/Berlin.")] = "UTC"
    until: Annotated[_Day | None, Field(description="The last day on which it may be paid.")] = None
    pin: Annotated[str | None, Field(max_length=64)] = None
    passkey: PasskeyAnswer = None
    fee: Annotated[
        int | None, Field(ge=0, le=MAX_AMOUNT_MINOR, description="The fee of each payment, as the payer confirms it.")
    ] = None

    def plan(self) -> Plan | Refused:
        try:
            first = date.fromisoformat(self.first)
            until = None if self.until is None else date.fromisoformat(self.until)
        except ValueError:
            return Refused(
                reason=Reason.INVALID_VALUE, message="first and until are days such as 2026-12-31; one is no day."
            )
        hours, minutes = self.at.split(":")
        return Plan(
            every=Every(self.every), first=first, at_minute=int(hours) * 60 + int(minutes), zone=self.tz, until=until
        )

    def content(self) -> PaymentContent:
        """The order of one payment of it."""
        return PaymentContent(
            payment_id="0" * 32, payee=self.payee, amount=self.amount, currency=self.currency, memo=self.memo
        )


class OccurrenceJson(WireModel):
    """One that is over. An ``ordered`` one has a payment, which says itself how it went."""

    number: int
    due_ts: int
    outcome: Literal["ordered", "skipped", "failed", "missed"]
    payment_id: str | None = None
    reason: str | None = None

    @classmethod
    def of(cls, occurrence: Occurrence) -> Self:
        return cls(
            number=occurrence.number,
            due_ts=occurrence.due_ms,
            outcome=occurrence.outcome.value,
            payment_id=occurrence.payment_id,
            reason=None if occurrence.reason is None else occurrence.reason.value,
        )


class ScheduleJson(WireModel):
    """``next_ts`` is when it pays next, ``again_ts`` when one that failed is tried again; ``past`` are those before."""

    schedule_id: str
    payee: str
    payee_user_id: str
    amount: int
    currency: str
    fee: int | None = None
    memo: str | None = None
    every: Literal["once", "daily", "weekly", "monthly"]
    first: str
    at: str
    tz: str
    until: str | None = None
    state: Literal["active", "paused", "ended", "cancelled"]
    next_ts: int | None = None
    again_ts: int | None = None
    created_ts: int
    past: list[OccurrenceJson]

    @classmethod
    def of(cls, schedule: Schedule, past: Sequence[Occurrence]) -> Self:
        plan = schedule.plan
        return cls(
            schedule_id=schedule.schedule_id,
            payee=schedule.payee_written,
            payee_user_id=schedule.payee,
            amount=schedule.money.amount_minor,
            currency=schedule.money.currency,
            fee=schedule.fee_minor or None,
            memo=schedule.memo,
            every=plan.every.value,
            first=plan.first.isoformat(),
            at=f"{plan.at_minute // 60:02}:{plan.at_minute % 60:02}",
            tz=plan.zone,
            until=None if plan.until is None else plan.until.isoformat(),
            state=schedule.state.value,
            next_ts=schedule.due_ms if schedule.state is State.ACTIVE else None,
            again_ts=schedule.act_ms if schedule.attempts and schedule.state is State.ACTIVE else None,
            created_ts=schedule.created_ms,
            past=[OccurrenceJson.of(each) for each in past],
        )


class SchedulesJson(WireModel):
    schedules: list[ScheduleJson]
