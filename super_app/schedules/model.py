"""A scheduled payment: what is paid, when, and what became of each time."""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final, NewType

from super_app.errors import Reason
from super_app.ids import Acct, PaymentId, UserId
from super_app.money import Money

ScheduleId = NewType("ScheduleId", str)
"""128 random bits as 32 lower-case hex digits, made by the payer's client; unique per payer."""

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
NOTICE_MS: Final = DAY_MS
"""How long before it is paid the payer hears of it."""
RETRIES_MS: Final = (HOUR_MS, 4 * HOUR_MS, 12 * HOUR_MS)
"""How long after the due time it is tried again: before the next one is due, even on a day that is an hour short."""
LATE_MS: Final = DAY_MS
"""What is found due longer ago than this is not paid any more."""
ACTIVE_MAX: Final = 100
"""Schedules that one person may have at a time."""
AHEAD_MAX_DAYS: Final = 5 * 366
"""How far ahead the first day may be."""
SHOWN: Final = 24
"""Past occurrences that are shown with a schedule."""


class Every(StrEnum):
    ONCE = "once"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


class State(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"
    ENDED = "ended"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (State.ENDED, State.CANCELLED)


class Outcome(StrEnum):
    """What became of an occurrence."""

    ORDERED = "ordered"  # there is a payment of it, which says itself how it went
    SKIPPED = "skipped"
    FAILED = "failed"
    MISSED = "missed"  # the homeserver was away for too long


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """When it is paid: on ``first`` and then again, at a minute of the day by the clock of a zone.

    ``until`` is the last day on which it may be paid.
    """

    every: Every
    first: date
    at_minute: int
    zone: str
    until: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ScheduleKey:
    acct: Acct
    schedule_id: ScheduleId


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """``payee`` is whom the payer confirmed, and stays that account whatever becomes of the handle ``payee_written``.

    ``number`` and ``due_ms`` are of the next occurrence; ``act_ms`` is when the clock looks at it next.
    """

    acct: Acct
    schedule_id: ScheduleId
    payer: UserId
    payee: UserId
    payee_written: str
    money: Money
    memo: str | None
    plan: Plan
    state: State
    number: int
    due_ms: int
    act_ms: int | None
    noticed: bool
    attempts: int
    trying: bool
    created_ms: int
    fee_minor: int = 0
    """The fee of each payment that the payer has confirmed with it. At another price it is not paid."""

    @property
    def key(self) -> ScheduleKey:
        return ScheduleKey(acct=self.acct, schedule_id=self.schedule_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """One that is over."""

    number: int
    due_ms: int
    outcome: Outcome
    payment_id: PaymentId | None
    reason: Reason | None
    over_ms: int


class Event(StrEnum):
    """What the payer hears of."""

    UPCOMING = "upcoming"  # it is paid in a day
    ORDERED = "ordered"
    RETRYING = "retrying"
    FAILED = "failed"
    MISSED = "missed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """``schedule`` as it was for that occurrence; ``reason`` and ``again_ms`` where it was not paid."""

    event: Event
    schedule: Schedule
    reason: Reason | None = None
    again_ms: int | None = None
