"""SQL of schedules and their occurrences."""

from datetime import date
from typing import LiteralString

from super_app.db import Cursor, Row
from super_app.errors import Reason
from super_app.ids import Acct, PaymentId, UserId
from super_app.money import AssetCode, Money
from super_app.schedules.model import Every, Occurrence, Outcome, Plan, Schedule, ScheduleId, ScheduleKey, State

_COLUMNS: LiteralString = (
    "acct, schedule_id, payer, payee, payee_written, amount_minor, currency, memo, every, first_day, at_minute, zone,"
    " until_day, state, number, due_ms, act_ms, noticed, attempts, trying, created_ms, fee_minor"
)


def find(cur: Cursor, key: ScheduleKey) -> Schedule | None:
    cur.execute(
        "SELECT " + _COLUMNS + " FROM superapp_schedule WHERE acct = ? AND schedule_id = ?",
        (key.acct, key.schedule_id),
    )
    row = cur.fetchone()
    return None if row is None else _schedule(row)


def of(cur: Cursor, acct: Acct, limit: int) -> tuple[Schedule, ...]:
    """Those of a person, the newest first."""
    cur.execute(
        "SELECT " + _COLUMNS + " FROM superapp_schedule WHERE acct = ? ORDER BY created_ms DESC, schedule_id LIMIT ?",
        (acct, limit),
    )
    return tuple(map(_schedule, cur.fetchall()))


def count_open(cur: Cursor, acct: Acct) -> int:
    cur.execute("SELECT COUNT(*) FROM superapp_schedule WHERE acct = ? AND state IN ('active', 'paused')", (acct,))
    row = cur.fetchone()
    return 0 if row is None else int(row[0] or 0)


def add(cur: Cursor, schedule: Schedule) -> None:
    plan = schedule.plan
    cur.execute(
        "INSERT INTO superapp_schedule (" + _COLUMNS + ")"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            schedule.acct,
            schedule.schedule_id,
            schedule.payer,
            schedule.payee,
            schedule.payee_written,
            schedule.money.amount_minor,
            schedule.money.currency,
            schedule.memo,
            plan.every,
            plan.first.isoformat(),
            plan.at_minute,
            plan.zone,
            None if plan.until is None else plan.until.isoformat(),
            schedule.state,
            schedule.number,
            schedule.due_ms,
            schedule.act_ms,
            int(schedule.noticed),
            schedule.attempts,
            int(schedule.trying),
            schedule.created_ms,
            schedule.fee_minor,
        ),
    )


def advance(cur: Cursor, before: Schedule, after: Schedule) -> bool:
    """Compare and set. False where somebody else has moved it."""
    cur.execute(
        "UPDATE superapp_schedule SET state = ?, number = ?, due_ms = ?, act_ms = ?, noticed = ?, attempts = ?,"
        " trying = ? WHERE acct = ? AND schedule_id = ? AND state = ? AND number = ? AND attempts = ? AND trying = ?",
        (
            after.state,
            after.number,
            after.due_ms,
            after.act_ms,
            int(after.noticed),
            after.attempts,
            int(after.trying),
            before.acct,
            before.schedule_id,
            before.state,
            before.number,
            before.attempts,
            int(before.trying),
        ),
    )
    return cur.rowcount == 1


def due(cur: Cursor, now_ms: int, limit: int) -> tuple[Schedule, ...]:
    cur.execute(
        "SELECT " + _COLUMNS + " FROM superapp_schedule WHERE act_ms IS NOT NULL AND act_ms <= ?"
        " ORDER BY act_ms, acct, schedule_id LIMIT ?",
        (now_ms, limit),
    )
    return tuple(map(_schedule, cur.fetchall()))


def next_act_ms(cur: Cursor) -> int | None:
    cur.execute("SELECT MIN(act_ms) FROM superapp_schedule WHERE act_ms IS NOT NULL")
    row = cur.fetchone()
    return None if row is None or row[0] is None else int(row[0])


def add_occurrence(cur: Cursor, key: ScheduleKey, occurrence: Occurrence) -> None:
    cur.execute(
        "INSERT INTO superapp_schedule_occurrence"
        " (acct, schedule_id, number, due_ms, outcome, payment_id, reason, over_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            key.acct,
            key.schedule_id,
            occurrence.number,
            occurrence.due_ms,
            occurrence.outcome,
            occurrence.payment_id,
            occurrence.reason,
            occurrence.over_ms,
        ),
    )


def occurrences(cur: Cursor, key: ScheduleKey, limit: int) -> tuple[Occurrence, ...]:
    """The newest first."""
    cur.execute(
        "SELECT number, due_ms, outcome, payment_id, reason, over_ms FROM superapp_schedule_occurrence"
        " WHERE acct = ? AND schedule_id = ? ORDER BY number DESC LIMIT ?",
        (key.acct, key.schedule_id, limit),
    )
    return tuple(
        Occurrence(
            number=int(row[0] or 0),
            due_ms=int(row[1] or 0),
            outcome=Outcome(str(row[2])),
            payment_id=None if row[3] is None else PaymentId(str(row[3])),
            reason=None if row[4] is None else Reason(str(row[4])),
            over_ms=int(row[5] or 0),
        )
        for row in cur.fetchall()
    )


def _schedule(row: Row) -> Schedule:
    return Schedule(
        acct=Acct(str(row[0])),
        schedule_id=ScheduleId(str(row[1])),
        payer=UserId(str(row[2])),
        payee=UserId(str(row[3])),
        payee_written=str(row[4]),
        money=Money(amount_minor=int(row[5] or 0), currency=AssetCode(str(row[6]))),
        memo=None if row[7] is None else str(row[7]),
        plan=Plan(
            every=Every(str(row[8])),
            first=date.fromisoformat(str(row[9])),
            at_minute=int(row[10] or 0),
            zone=str(row[11]),
            until=None if row[12] is None else date.fromisoformat(str(row[12])),
        ),
        state=State(str(row[13])),
        number=int(row[14] or 0),
        due_ms=int(row[15] or 0),
        act_ms=None if row[16] is None else int(row[16]),
        noticed=bool(row[17]),
        attempts=int(row[18] or 0),
        trying=bool(row[19]),
        created_ms=int(row[20] or 0),
        fee_minor=int(row[21] or 0),
    )


def erase_person(cur: Cursor, acct: Acct) -> int:
    """Forget whom somebody wanted to pay, and when; how many schedules. What was paid stands in the books."""
    # One whose order is under way is forgotten the next time.
    cur.execute(
        "DELETE FROM superapp_schedule_occurrence WHERE acct = ? AND schedule_id IN"
        " (SELECT schedule_id FROM superapp_schedule WHERE acct = ? AND trying = 0)",
        (acct, acct),
    )
    cur.execute("DELETE FROM superapp_schedule WHERE acct = ? AND trying = 0", (acct,))
    return cur.rowcount
