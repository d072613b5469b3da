"""Schedules over the tables: each occurrence is paid once at most, whatever the clock, the person and crashes do."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from engines import Database
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from payment_books import EUR, PACKAGES, SALTS, Books, key_of

from super_app.clearing.ports import Party
from super_app.db import Cursor, Transaction
from super_app.errors import Reason, Refused
from super_app.ids import Acct, EventId, UserId
from super_app.money import Money
from super_app.payments.model import Order, Payment, Placement, Venue
from super_app.schedules import rules, service, store
from super_app.schedules.model import (
    DAY_MS,
    HOUR_MS,
    Event,
    Every,
    Happening,
    Outcome,
    Plan,
    Schedule,
    ScheduleId,
    ScheduleKey,
    State,
)
from super_app.schedules.service import Schedules

ALL = (*PACKAGES, "super_app.schedules")
pytestmark = pytest.mark.packages(*ALL)
ALICE, BOB = UserId("@alice:hs1.test"), UserId("@bob:hs1.test")


class Calendar(Books):
    """alice's schedules to bob. ``heard`` are the happenings of works that were committed."""

    def __init__(self, transaction: Transaction, minor: int = 1_000) -> None:
        super().__init__(transaction)
        self.schedules = Schedules(ZoneInfo)
        self.heard: dict[tuple[Event, int, int], Happening] = {}
        self.schedules.while_changing(self._hear)
        self.alice = self.open_account("alice", minor)
        self.bob = self.open_account("bob")

    def _hear(self, cur: Cursor, happening: Happening, now_ms: int) -> None:
        schedule = happening.schedule
        self.heard[happening.event, schedule.number, schedule.attempts] = happening

    def key(self, number: int = 1) -> ScheduleKey:
        return ScheduleKey(acct=self.alice, schedule_id=ScheduleId(f"{number:032x}"))

    def make(
        self,
        number: int = 1,
        minor: int = 100,
        every: Every = Every.DAILY,
        in_ms: int = 20 * HOUR_MS,
        days: int | None = None,
    ) -> Schedule | Refused:
        first = datetime.fromtimestamp((self.now_ms + in_ms) / 1000, UTC)
        plan = Plan(
            every=every,
            first=first.date(),
            at_minute=first.hour * 60 + first.minute + 1,
            zone="UTC",
            until=None if days is None else first.date() + timedelta(days=days),
        )
        wanted = Schedule(
            acct=self.alice,
            schedule_id=self.key(number).schedule_id,
            payer=ALICE,
            payee=BOB,
            payee_written=BOB,
            money=Money(amount_minor=minor, currency=EUR),
            memo="rent",
            plan=plan,
            state=State.ACTIVE,
            number=0,
            due_ms=0,
            act_ms=0,
            noticed=False,
            attempts=0,
            trying=False,
            created_ms=self.now_ms,
        )
        return self.transaction(lambda cur: self.schedules.make(cur, wanted, self.now_ms))

    def made(self, number: int = 1) -> Schedule:
        found = self.transaction(lambda cur: self.schedules.find(cur, self.key(number)))
        assert isinstance(found, Schedule)
        return found

    def past(self, number: int = 1) -> list[tuple[int, Outcome]]:
        found = self.transaction(lambda cur: self.schedules.past(cur, self.key(number)))
        return [(each.number, each.outcome) for each in reversed(found)]

    def order_of(self, tried: Schedule) -> Order:
        return Order(
            payment_id=rules.payment_id_of(tried.key, tried.number),
            payer_acct=Acct(tried.acct),
            payer=ALICE,
            payee=Party(user_id=BOB, acct=self.bob, handle=None),
            money=tried.money,
            memo=tried.memo,
        )

    def tick(self, *, dies: bool = False) -> None:
        """The clock looks. It may die between the payment and the note of it."""
        for schedule in self.transaction(lambda cur: store.due(cur, self.now_ms, 100)):
            key = schedule.key
            match rules.act(schedule, self.now_ms):
                case rules.Act.NOTICE:
                    self.transaction(lambda cur, key=key: self.schedules.notice(cur, key, self.now_ms))  # type: ignore[misc]
                case rules.Act.MISS:
                    self.transaction(lambda cur, key=key: self.schedules.miss(cur, key, self.now_ms))  # type: ignore[misc]
                case rules.Act.PAY:
                    self._pay(schedule, dies=dies)
                case rules.Act.NOTHING:
                    pass

    def _pay(self, schedule: Schedule, *, dies: bool) -> None:
        tried = self.transaction(lambda cur: self.schedules.begin(cur, schedule.key, self.now_ms))
        assert tried is not None
        order = self.order_of(tried)
        placement = Placement(room_id=None, venue=Venue.OPEN, payee_joined=True, position=0)
        placed = self.transaction(
            lambda cur: self.payments.place(cur, order, placement, SALTS, self.now_ms, proven=True)
        )
        if isinstance(placed, Payment):
            self.bind(order, EventId(f"${order.payment_id}"))
        if dies:
            return
        if isinstance(placed, Refused):
            reason = placed.reason
            self.transaction(lambda cur: self.schedules.refused(cur, tried, reason, self.now_ms))
        else:
            self.transaction(lambda cur: self.schedules.ordered(cur, tried, placed.payment_id, self.now_ms))

    def run(self, ms: int) -> None:
        """Time passes, and the clock looks whenever something is due."""
        end_ms = self.now_ms + ms
        while True:
            next_ms = self.transaction(store.next_act_ms)
            if next_ms is None or next_ms > end_ms:
                break
            self.now_ms = max(self.now_ms, next_ms)
            self.tick()
        self.now_ms = end_ms

    def events(self) -> list[Event]:
        return [event for event, _, _ in self.heard]


@pytest.fixture
def calendar(transaction: Transaction) -> Calendar:
    return Calendar(transaction)


def reason_of(result: object) -> Reason:
    assert isinstance(result, Refused), result
    return result.reason


def test_what_is_due_is_paid_once_a_time_with_notice_a_day_before(calendar: Calendar) -> None:
    calendar.make(every=Every.WEEKLY, in_ms=3 * DAY_MS)
    calendar.run(3 * DAY_MS + 2 * 60_000)
    assert calendar.events() == [Event.UPCOMING, Event.ORDERED]
    assert calendar.wallet(calendar.bob) == (100, 0)
    calendar.run(14 * DAY_MS)
    assert calendar.past() == [(0, Outcome.ORDERED), (1, Outcome.ORDERED), (2, Outcome.ORDERED)]
    assert calendar.wallet(calendar.bob) == (300, 0)
    assert calendar.violations() == ()


def test_one_that_is_paid_once_has_ended_then(calendar: Calendar) -> None:
    calendar.make(every=Every.ONCE)
    calendar.run(10 * DAY_MS)
    assert calendar.made().state is State.ENDED
    assert calendar.wallet(calendar.bob) == (100, 0)
    for deed in (calendar.schedules.skip, calendar.schedules.resume):
        refused = calendar.transaction(lambda cur, deed=deed: deed(cur, calendar.key(), calendar.now_ms))  # type: ignore[misc]
        assert reason_of(refused) is Reason.ALREADY_DECIDED


def test_without_funds_it_is_tried_four_times_and_the_person_hears_of_the_first_and_the_last(
    calendar: Calendar,
) -> None:
    calendar.make(minor=5_000, days=0)
    calendar.run(3 * DAY_MS)
    assert calendar.events() == [Event.RETRYING, Event.FAILED]
    assert calendar.heard[Event.FAILED, 0, 4].reason is Reason.INSUFFICIENT_FUNDS
    assert calendar.past() == [(0, Outcome.FAILED)]
    assert calendar.made().state is State.ENDED


def test_money_that_comes_between_two_tries_is_paid_once(calendar: Calendar) -> None:
    calendar.make(minor=5_000, days=0)
    calendar.run(22 * HOUR_MS)
    assert calendar.made().attempts == 2
    calendar.issue(calendar.alice, 9_000)
    calendar.run(2 * DAY_MS)
    assert calendar.past() == [(0, Outcome.ORDERED)]
    assert calendar.wallet(calendar.bob) == (5_000, 0)
    assert calendar.wallet(calendar.alice) == (5_000, 0)


def test_what_can_never_be_paid_is_given_up_at_once(calendar: Calendar) -> None:
    calendar.make(days=0)
    calendar.deactivate("bob")
    calendar.run(2 * DAY_MS)
    assert calendar.events() == [Event.FAILED]
    assert calendar.heard[Event.FAILED, 0, 1].reason is Reason.PAYEE_GONE


def test_a_death_between_payment_and_note_pays_once(calendar: Calendar) -> None:
    calendar.make()
    calendar.now_ms += DAY_MS + 60_000
    calendar.tick(dies=True)
    assert calendar.made().trying
    assert calendar.wallet(calendar.bob) == (100, 0)
    refused = calendar.transaction(lambda cur: calendar.schedules.cancel(cur, calendar.key()))
    assert reason_of(refused) is Reason.CONFLICT
    # However late it starts again, it finds out what became of it.
    calendar.now_ms += 5 * DAY_MS
    calendar.tick(dies=True)
    calendar.tick()
    assert calendar.past()[0] == (0, Outcome.ORDERED)
    assert calendar.wallet(calendar.bob) == (100, 0)


def test_what_fell_into_a_long_outage_is_told_and_not_paid(calendar: Calendar) -> None:
    calendar.make()
    calendar.now_ms += DAY_MS + 60_000 + 3 * DAY_MS + 1
    calendar.run(60_000)
    assert [outcome for _, outcome in calendar.past()] == [Outcome.MISSED] * 3 + [Outcome.ORDERED]
    assert calendar.events() == [Event.MISSED] * 3 + [Event.ORDERED]
    assert calendar.wallet(calendar.bob) == (100, 0)


def test_skipped_paused_and_cancelled_ones_are_not_paid(calendar: Calendar) -> None:
    calendar.make()
    calendar.transaction(lambda cur: calendar.schedules.skip(cur, calendar.key(), calendar.now_ms))
    calendar.run(DAY_MS)
    assert calendar.past() == [(0, Outcome.SKIPPED)]
    calendar.transaction(lambda cur: calendar.schedules.pause(cur, calendar.key()))
    calendar.run(3 * DAY_MS)
    assert calendar.made().state is State.PAUSED
    calendar.transaction(lambda cur: calendar.schedules.skip(cur, calendar.key(), calendar.now_ms))
    assert calendar.made().state is State.PAUSED
    calendar.transaction(lambda cur: calendar.schedules.resume(cur, calendar.key(), calendar.now_ms))
    assert calendar.wallet(calendar.bob) == (0, 0)
    assert calendar.made().due_ms > calendar.now_ms
    calendar.run(DAY_MS)
    assert calendar.wallet(calendar.bob) == (100, 0)
    calendar.transaction(lambda cur: calendar.schedules.cancel(cur, calendar.key()))
    again = calendar.transaction(lambda cur: calendar.schedules.cancel(cur, calendar.key()))
    assert isinstance(again, Schedule)
    calendar.run(10 * DAY_MS)
    assert calendar.wallet(calendar.bob) == (100, 0)


def test_giving_up_a_try_by_skipping_it_leaves_the_next_one(calendar: Calendar) -> None:
    calendar.make(minor=5_000)
    calendar.run(20 * HOUR_MS + 10 * 60_000)
    assert calendar.made().attempts == 1
    calendar.transaction(lambda cur: calendar.schedules.skip(cur, calendar.key(), calendar.now_ms))
    after = calendar.made()
    assert (after.number, after.attempts) == (1, 0)
    assert after.act_ms == after.due_ms


def test_ids_replays_and_strangers(calendar: Calendar) -> None:
    made = calendar.make()
    assert calendar.make() == made
    assert reason_of(calendar.make(minor=101)) is Reason.CONFLICT
    carol = calendar.open_account("carol")
    theirs = ScheduleKey(acct=carol, schedule_id=calendar.key().schedule_id)
    assert reason_of(calendar.transaction(lambda cur: calendar.schedules.find(cur, theirs))) is Reason.UNKNOWN_SCHEDULE
    assert reason_of(calendar.transaction(lambda cur: calendar.schedules.cancel(cur, theirs))) is (
        Reason.UNKNOWN_SCHEDULE
    )


def test_nobody_has_more_schedules_than_the_clock_can_look_after(
    calendar: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "ACTIVE_MAX", 3)
    for number in range(1, 4):
        assert isinstance(calendar.make(number, every=Every.MONTHLY), Schedule)
    assert reason_of(calendar.make(4)) is Reason.LIMIT_EXCEEDED
    calendar.transaction(lambda cur: calendar.schedules.cancel(cur, calendar.key(1)))
    assert isinstance(calendar.make(4), Schedule)


DEEDS = st.sampled_from(["wait", "die", "skip", "pause", "resume", "issue", "spend", "outage"])


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deeds=st.lists(st.tuples(DEEDS, st.integers(1, 40)), max_size=14))
def test_every_occurrence_ends_once_and_pays_what_it_says(
    next_database: Callable[..., Database], deeds: list[tuple[str, int]]
) -> None:
    calendar = Calendar(next_database(*ALL).connect(rerun=False), minor=250)
    calendar.make(every=Every.DAILY, minor=100)
    for turn, (deed, hours) in enumerate(deeds, start=1):
        key = calendar.key()
        match deed:
            case "wait":
                calendar.run(hours * HOUR_MS)
            case "die":
                calendar.now_ms += hours * HOUR_MS
                calendar.tick(dies=True)
            case "outage":
                calendar.now_ms += 3 * hours * HOUR_MS
            case "skip":
                calendar.transaction(lambda cur, key=key: calendar.schedules.skip(cur, key, calendar.now_ms))  # type: ignore[misc]
            case "pause":
                calendar.transaction(lambda cur, key=key: calendar.schedules.pause(cur, key))  # type: ignore[misc]
            case "resume":
                calendar.transaction(lambda cur, key=key: calendar.schedules.resume(cur, key, calendar.now_ms))  # type: ignore[misc]
            case "issue":
                calendar.issue(calendar.alice, 1_000 * turn + hours)
            case _:
                order = replace(calendar.order(1_000 + turn, "alice", "bob", hours), memo=None)
                if isinstance(calendar.place(order), Payment):
                    calendar.bind(order, EventId(f"${turn}"))
                    assert key_of(order) is not None
    calendar.run(13 * HOUR_MS)
    past = calendar.past()
    numbers = [number for number, _ in past]
    assert numbers == sorted(set(numbers)), "each occurrence is over once"
    assert not calendar.made().trying
    paid = calendar.transaction(
        lambda cur: [
            rules.payment_id_of(calendar.key(), number)
            for number in range(200)
            if not isinstance(
                calendar.payments.find(cur, calendar.alice, rules.payment_id_of(calendar.key(), number), None), Refused
            )
        ]
    )
    ordered = [number for number, outcome in past if outcome is Outcome.ORDERED]
    if len(past) < 24:
        assert paid == [rules.payment_id_of(calendar.key(), number) for number in ordered]
    assert calendar.violations() == ()
