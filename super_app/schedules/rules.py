"""Pure decisions of schedules: on which day and at which moment, whether it is tried again, what may be done to one.

The zone comes in as ``tzinfo``, since zones are read from files.
"""

import calendar
import hashlib
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import Enum, auto
from typing import Final, assert_never

from super_app.errors import FINAL, Reason, Refused
from super_app.ids import PaymentId
from super_app.schedules.model import (
    AHEAD_MAX_DAYS,
    LATE_MS,
    NOTICE_MS,
    RETRIES_MS,
    Every,
    Plan,
    Schedule,
    ScheduleKey,
    State,
)

_LAST_DAY: Final = date(9000, 1, 1)


# When.


def day_of(plan: Plan, number: int) -> date | None:
    """The day of an occurrence, counted from 0; None after the last.

    A month that has no such day pays on its last one, and the next month on the day itself again.
    """
    match plan.every:
        case Every.ONCE:
            day = plan.first if number == 0 else None
        case Every.DAILY:
            day = plan.first + timedelta(days=number)
        case Every.WEEKLY:
            day = plan.first + timedelta(days=7 * number)
        case Every.MONTHLY:
            months = plan.first.year * 12 + plan.first.month - 1 + number
            year, month = months // 12, months % 12 + 1
            day = date(year, month, min(plan.first.day, calendar.monthrange(year, month)[1]))
        case _:
            assert_never(plan.every)
    if day is None or day > (plan.until or _LAST_DAY):
        return None
    return day


def due_ms(plan: Plan, number: int, zone: tzinfo) -> int | None:
    """The moment of an occurrence.

    Where clocks go forward over it, it is as much later as they jump; where they go back, it is the first of the two.
    """
    day = day_of(plan, number)
    if day is None:
        return None
    local = datetime(day.year, day.month, day.day, plan.at_minute // 60, plan.at_minute % 60, tzinfo=zone)
    return round(local.timestamp() * 1000)


def first_after(plan: Plan, after_ms: int, number: int, zone: tzinfo) -> tuple[int, int] | None:
    """The first occurrence from ``number`` on that is due later than a moment, with its time."""
    while True:
        due = due_ms(plan, number, zone)
        if due is None:
            return None
        if due > after_ms:
            return number, due
        # All days between are due as well, so most of them need no look.
        behind = datetime.fromtimestamp((after_ms - due) / 1000, UTC) - datetime.fromtimestamp(0, UTC)
        number += max(1, behind.days // {Every.ONCE: 1, Every.DAILY: 1, Every.WEEKLY: 7, Every.MONTHLY: 31}[plan.every])


def notice_ms(plan: Plan, number: int, due: int, now_ms: int) -> int | None:
    """When the payer is told of an occurrence beforehand; None where it was just confirmed, or comes every day."""
    if plan.every is Every.DAILY and number > 0:
        return None
    at_ms = due - NOTICE_MS
    return at_ms if at_ms > now_ms else None


def payment_id_of(key: ScheduleKey, number: int) -> PaymentId:
    """The id of the one payment that an occurrence can become."""
    hashed = hashlib.sha256(f"schedule:{key.acct}:{key.schedule_id}:{number}".encode()).hexdigest()
    return PaymentId(hashed[:32])


# What the clock does.


class Act(Enum):
    """What is to be done about a schedule whose time has come."""

    NOTHING = auto()
    NOTICE = auto()
    PAY = auto()
    MISS = auto()


def act(schedule: Schedule, now_ms: int) -> Act:
    if schedule.state is not State.ACTIVE or schedule.act_ms is None or now_ms < schedule.act_ms:
        return Act.NOTHING
    if schedule.trying:
        # It was being paid when the process died: whether there is a payment, its id tells.
        return Act.PAY
    if now_ms < schedule.due_ms:
        return Act.NOTHING if schedule.noticed else Act.NOTICE
    return Act.MISS if now_ms - schedule.due_ms > LATE_MS else Act.PAY


def again_ms(schedule: Schedule, reason: Reason, now_ms: int) -> int | None:
    """When an occurrence that was refused is tried again; None if it is given up. ``attempts`` counts this one."""
    if reason in FINAL:
        return None
    for wait_ms in RETRIES_MS[max(0, schedule.attempts - 1) :]:
        if schedule.due_ms + wait_ms > now_ms:
            return schedule.due_ms + wait_ms
    return None


def next_of(schedule: Schedule, number: int, after_ms: int, zone: tzinfo) -> Schedule:
    """The schedule with its next occurrence from ``number`` on that is due after a moment; ended if there is none."""
    found = first_after(schedule.plan, after_ms, number, zone)
    if found is None:
        return replace(schedule, state=State.ENDED, act_ms=None, trying=False, attempts=0)
    number, due = found
    notice = notice_ms(schedule.plan, number, due, after_ms)
    return replace(
        schedule,
        state=State.ACTIVE,
        number=number,
        due_ms=due,
        act_ms=due if notice is None else notice,
        noticed=notice is None,
        attempts=0,
        trying=False,
    )


# What people may do.


def judge_plan(plan: Plan, now_ms: int, zone: tzinfo) -> int | Refused:
    """When the first occurrence is due. INVALID_VALUE for one that is over, too far off, or never."""
    due = due_ms(plan, 0, zone)
    if due is None:
        return Refused(reason=Reason.INVALID_VALUE, message="until is before first, so it would never be paid.")
    if due <= now_ms:
        return Refused(
            reason=Reason.INVALID_VALUE, message="first: that time is over; choose a later day or a later time of it."
        )
    if due - now_ms > AHEAD_MAX_DAYS * 86_400_000:
        return Refused(reason=Reason.INVALID_VALUE, message="first: at most five years ahead; choose an earlier day.")
    return due


def repeats(existing: Schedule, wanted: Schedule) -> bool:
    """Whether somebody asks for the same schedule again."""
    same = (existing.payee, existing.money, existing.fee_minor, existing.memo, existing.plan)
    return same == (wanted.payee, wanted.money, wanted.fee_minor, wanted.memo, wanted.plan)


def judge_change(schedule: Schedule) -> Refused | None:
    """Whether a schedule can be changed now."""
    if schedule.state.final:
        return Refused(
            reason=Reason.ALREADY_DECIDED,
            message=f"This schedule is {schedule.state.value} and pays nothing more; make a new one.",
            fields={"state": schedule.state.value},
        )
    if schedule.trying:
        return Refused(
            reason=Reason.CONFLICT,
            message="It is being paid at this very moment. Look at it again in a few seconds; the payment itself can "
            "be cancelled until it is committed.",
        )
    return None


def unknown_schedule() -> Refused:
    return Refused(reason=Reason.UNKNOWN_SCHEDULE, message="You have no schedule of that id.")
