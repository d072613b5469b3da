"""The operations of schedules. Each runs inside the transaction of the ledger's writer, so none meets another.

Nothing here pays: ``begin`` says that an occurrence is about to be paid, the caller orders the payment under the id
that is the occurrence's own, and ``ordered`` or ``refused`` writes down what came of it. A crash between the two leaves
``trying``, and the same order again under the same id tells how it went.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import tzinfo

from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct, PaymentId
from super_app.schedules import rules, store
from super_app.schedules.model import (
    ACTIVE_MAX,
    SHOWN,
    Event,
    Happening,
    Occurrence,
    Outcome,
    Schedule,
    ScheduleKey,
    State,
)

Note = Callable[[Cursor, Happening, int], None]
"""Hears what a payer should know, inside the transaction in which it happens."""
ZoneOf = Callable[[str], tzinfo]
"""The time zone of a name that was checked when the schedule was made."""


class Schedules:
    """Schedules of one homeserver."""

    def __init__(self, zone_of: ZoneOf) -> None:
        self._zone_of = zone_of
        self._notes: list[Note] = []

    def while_changing(self, note: Note) -> None:
        self._notes.append(note)

    # The payer.

    def make(self, cur: Cursor, wanted: Schedule, now_ms: int) -> Schedule | Refused:
        """Write a schedule down. The same one again gives it as it now is; another under its id is CONFLICT."""
        existing = store.find(cur, wanted.key)
        if existing is not None:
            if rules.repeats(existing, wanted):
                return existing
            return Refused(
                reason=Reason.CONFLICT,
                message=f"You have used schedule_id {wanted.schedule_id} for another schedule; make a new id.",
            )
        if store.count_open(cur, wanted.acct) >= ACTIVE_MAX:
            return Refused(
                reason=Reason.LIMIT_EXCEEDED,
                message=f"You have {ACTIVE_MAX} schedules already; cancel some first.",
                fields={"limit": ACTIVE_MAX},
            )
        due = rules.judge_plan(wanted.plan, now_ms, self._zone_of(wanted.plan.zone))
        if isinstance(due, Refused):
            return due
        made = rules.next_of(wanted, 0, now_ms, self._zone_of(wanted.plan.zone))
        store.add(cur, made)
        return made

    def find(self, cur: Cursor, key: ScheduleKey) -> Schedule | Refused:
        return store.find(cur, key) or rules.unknown_schedule()

    def of(self, cur: Cursor, acct: Acct) -> tuple[Schedule, ...]:
        return store.of(cur, acct, 2 * ACTIVE_MAX)

    def past(self, cur: Cursor, key: ScheduleKey) -> tuple[Occurrence, ...]:
        return store.occurrences(cur, key, SHOWN)

    def skip(self, cur: Cursor, key: ScheduleKey, now_ms: int) -> Schedule | Refused:
        """Do not pay the next one. The one after it is paid."""
        schedule = self._changeable(cur, key)
        if isinstance(schedule, Refused):
            return schedule
        self._over(cur, schedule, Outcome.SKIPPED, None, None, now_ms)
        after = self._next(schedule, max(schedule.due_ms, now_ms))
        if schedule.state is State.PAUSED and after.state is State.ACTIVE:
            after = replace(after, state=State.PAUSED, act_ms=None)
        return self._advance(cur, schedule, after)

    def pause(self, cur: Cursor, key: ScheduleKey) -> Schedule | Refused:
        schedule = self._changeable(cur, key)
        if isinstance(schedule, Refused) or schedule.state is State.PAUSED:
            return schedule
        return self._advance(cur, schedule, replace(schedule, state=State.PAUSED, act_ms=None))

    def resume(self, cur: Cursor, key: ScheduleKey, now_ms: int) -> Schedule | Refused:
        """Go on with the first occurrence that is still to come: what fell into the pause is not paid."""
        schedule = self._changeable(cur, key)
        if isinstance(schedule, Refused) or schedule.state is State.ACTIVE:
            return schedule
        after = rules.next_of(schedule, schedule.number, now_ms, self._zone_of(schedule.plan.zone))
        return self._advance(cur, schedule, after)

    def cancel(self, cur: Cursor, key: ScheduleKey) -> Schedule | Refused:
        schedule = store.find(cur, key)
        if schedule is not None and schedule.state is State.CANCELLED:
            return schedule
        changeable = self._changeable(cur, key)
        if isinstance(changeable, Refused):
            return changeable
        return self._advance(cur, changeable, replace(changeable, state=State.CANCELLED, act_ms=None))

    # The clock.

    def notice(self, cur: Cursor, key: ScheduleKey, now_ms: int) -> None:
        """Tell the payer that it is paid in a day."""
        schedule = store.find(cur, key)
        if schedule is None or rules.act(schedule, now_ms) is not rules.Act.NOTICE:
            return
        self._advance(cur, schedule, replace(schedule, noticed=True, act_ms=schedule.due_ms))
        self._tell(cur, Happening(event=Event.UPCOMING, schedule=schedule), now_ms)

    def miss(self, cur: Cursor, key: ScheduleKey, now_ms: int) -> None:
        """What was due too long ago is not paid any more; the payer hears of it."""
        schedule = store.find(cur, key)
        if schedule is None or rules.act(schedule, now_ms) is not rules.Act.MISS:
            return
        self._over(cur, schedule, Outcome.MISSED, None, None, now_ms)
        self._advance(cur, schedule, self._next(schedule, schedule.due_ms))
        self._tell(cur, Happening(event=Event.MISSED, schedule=schedule), now_ms)

    def begin(self, cur: Cursor, key: ScheduleKey, now_ms: int) -> Schedule | None:
        """An occurrence is about to be paid; None if there is nothing to pay now."""
        schedule = store.find(cur, key)
        if schedule is None or rules.act(schedule, now_ms) is not rules.Act.PAY:
            return None
        if schedule.trying:
            return schedule
        return self._advance(cur, schedule, replace(schedule, trying=True, attempts=schedule.attempts + 1))

    def ordered(self, cur: Cursor, tried: Schedule, payment_id: PaymentId, now_ms: int) -> None:
        """There is a payment of this occurrence."""
        schedule = self._tried(cur, tried)
        if schedule is None:
            return
        self._over(cur, schedule, Outcome.ORDERED, payment_id, None, now_ms)
        self._advance(cur, schedule, self._next(schedule, schedule.due_ms))
        self._tell(cur, Happening(event=Event.ORDERED, schedule=schedule), now_ms)

    def refused(self, cur: Cursor, tried: Schedule, reason: Reason, now_ms: int) -> None:
        """It could not be paid: it is tried again, or given up. The payer hears of the first time and of the last."""
        schedule = self._tried(cur, tried)
        if schedule is None:
            return
        again_ms = rules.again_ms(schedule, reason, now_ms)
        if again_ms is None:
            self._over(cur, schedule, Outcome.FAILED, None, reason, now_ms)
            self._advance(cur, schedule, self._next(schedule, schedule.due_ms))
            self._tell(cur, Happening(event=Event.FAILED, schedule=schedule, reason=reason), now_ms)
            return
        self._advance(cur, schedule, replace(schedule, trying=False, act_ms=again_ms))
        if schedule.attempts == 1:
            happening = Happening(event=Event.RETRYING, schedule=schedule, reason=reason, again_ms=again_ms)
            self._tell(cur, happening, now_ms)

    # Steps that these share.

    def _changeable(self, cur: Cursor, key: ScheduleKey) -> Schedule | Refused:
        schedule = store.find(cur, key)
        if schedule is None:
            return rules.unknown_schedule()
        return rules.judge_change(schedule) or schedule

    def _tried(self, cur: Cursor, tried: Schedule) -> Schedule | None:
        """The schedule as it stands, if it is still this occurrence that is being paid."""
        schedule = store.find(cur, tried.key)
        is_same = schedule is not None and schedule.trying and schedule.number == tried.number
        return schedule if is_same else None

    def _next(self, schedule: Schedule, after_ms: int) -> Schedule:
        return rules.next_of(schedule, schedule.number + 1, after_ms, self._zone_of(schedule.plan.zone))

    def _over(
        self,
        cur: Cursor,
        schedule: Schedule,
        outcome: Outcome,
        payment_id: PaymentId | None,
        reason: Reason | None,
        now_ms: int,
    ) -> None:
        occurrence = Occurrence(
            number=schedule.number,
            due_ms=schedule.due_ms,
            outcome=outcome,
            payment_id=payment_id,
            reason=reason,
            over_ms=now_ms,
        )
        store.add_occurrence(cur, schedule.key, occurrence)

    def _advance(self, cur: Cursor, before: Schedule, after: Schedule) -> Schedule:
        if not store.advance(cur, before, after):
            raise RuntimeError(f"schedule {before.schedule_id} moved inside the transaction of the one writer")
        return after

    def _tell(self, cur: Cursor, happening: Happening, now_ms: int) -> None:
        for note in self._notes:
            note(cur, happening, now_ms)
