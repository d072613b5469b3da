"""On which day and at which moment a scheduled payment is due, and what becomes of one that is refused."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from super_app.errors import Reason, Refused
from super_app.ids import Acct, UserId
from super_app.money import AssetCode, Money
from super_app.schedules import rules
from super_app.schedules.model import (
    DAY_MS,
    HOUR_MS,
    LATE_MS,
    RETRIES_MS,
    Every,
    Plan,
    Schedule,
    ScheduleId,
    ScheduleKey,
    State,
)

BERLIN, NEW_YORK, LORD_HOWE = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe")
APIA = ZoneInfo("Pacific/Apia")


def plan(every: Every, first: date, at: str = "09:00", until: date | None = None) -> Plan:
    hours, minutes = at.split(":")
    return Plan(every=every, first=first, at_minute=int(hours) * 60 + int(minutes), zone="Europe/Berlin", until=until)


def schedule(**fields: object) -> Schedule:
    made = Schedule(
        acct=Acct("a"),
        schedule_id=ScheduleId("1" * 32),
        payer=UserId("@alice:hs1.test"),
        payee=UserId("@bob:hs1.test"),
        payee_written="@bob:hs1.test",
        money=Money(amount_minor=100, currency=AssetCode("EUR")),
        memo=None,
        plan=plan(Every.MONTHLY, date(2026, 1, 31)),
        state=State.ACTIVE,
        number=0,
        due_ms=1_000_000_000_000,
        act_ms=1_000_000_000_000,
        noticed=True,
        attempts=0,
        trying=False,
        created_ms=0,
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def local(due_ms: int | None, zone: ZoneInfo) -> str:
    assert due_ms is not None
    return datetime.fromtimestamp(due_ms / 1000, UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M %z")


def test_the_31st_is_the_last_day_of_a_shorter_month_and_the_31st_again_after_it() -> None:
    days = [rules.day_of(plan(Every.MONTHLY, date(2027, 10, 31)), number) for number in range(7)]
    assert [day and day.isoformat() for day in days] == [
        "2027-10-31",
        "2027-11-30",
        "2027-12-31",
        "2028-01-31",
        "2028-02-29",
        "2028-03-31",
        "2028-04-30",
    ]
    assert rules.day_of(plan(Every.MONTHLY, date(2026, 1, 29)), 1) == date(2026, 2, 28)
    assert rules.day_of(plan(Every.MONTHLY, date(2026, 1, 29)), 2) == date(2026, 3, 29)


def test_other_rhythms_and_their_last_days() -> None:
    first = date(2026, 12, 30)
    assert [rules.day_of(plan(Every.ONCE, first), number) for number in (0, 1)] == [first, None]
    assert rules.day_of(plan(Every.DAILY, first), 3) == date(2027, 1, 2)
    assert rules.day_of(plan(Every.WEEKLY, first), 1) == date(2027, 1, 6)
    until = plan(Every.WEEKLY, first, until=date(2027, 1, 6))
    assert rules.day_of(until, 1) is not None
    assert rules.day_of(until, 2) is None


def test_it_stays_at_the_same_time_of_day_when_clocks_change() -> None:
    daily = plan(Every.DAILY, date(2026, 3, 28))
    dues = [rules.due_ms(daily, number, BERLIN) for number in range(3)]
    assert [local(due, BERLIN) for due in dues] == [
        "2026-03-28 09:00 +0100",
        "2026-03-29 09:00 +0200",
        "2026-03-30 09:00 +0200",
    ]
    assert dues[0] is not None
    assert dues[1] is not None
    assert dues[1] - dues[0] == 23 * HOUR_MS


def test_an_hour_that_does_not_exist_is_the_one_after_it() -> None:
    # In Berlin 02:30 does not exist on 2026-03-29; on Lord Howe Island, where clocks jump by half an hour, 02:15 on
    # 2026-10-04.
    assert local(rules.due_ms(plan(Every.ONCE, date(2026, 3, 29), "02:30"), 0, BERLIN), BERLIN) == (
        "2026-03-29 03:30 +0200"
    )
    assert local(rules.due_ms(plan(Every.ONCE, date(2026, 10, 4), "02:15"), 0, LORD_HOWE), LORD_HOWE) == (
        "2026-10-04 02:45 +1100"
    )


def test_an_hour_that_comes_twice_pays_once_at_the_first() -> None:
    daily = plan(Every.DAILY, date(2026, 10, 25), "02:30")
    first, second = rules.due_ms(daily, 0, BERLIN), rules.due_ms(daily, 1, BERLIN)
    assert local(first, BERLIN) == "2026-10-25 02:30 +0200"
    assert local(second, BERLIN) == "2026-10-26 02:30 +0100"
    assert first is not None
    assert rules.first_after(daily, first, 0, BERLIN) == (1, second)


def test_a_day_that_a_country_left_out_pays_on_the_next() -> None:
    # Samoa had no 2011-12-30.
    daily = plan(Every.DAILY, date(2011, 12, 29))
    dues = [rules.due_ms(daily, number, APIA) for number in range(3)]
    assert dues == sorted(dues, key=lambda due: due or 0)


@given(
    every=st.sampled_from(Every),
    first=st.dates(date(2020, 1, 1), date(2035, 12, 31)),
    minute=st.integers(0, 1_439),
    zone=st.sampled_from([BERLIN, NEW_YORK, LORD_HOWE, ZoneInfo("UTC")]),
    later_days=st.integers(0, 900),
)
def test_no_occurrence_is_left_out_or_comes_twice(
    every: Every, first: date, minute: int, zone: ZoneInfo, later_days: int
) -> None:
    made = Plan(every=every, first=first, at_minute=minute, zone=zone.key)
    after = datetime(first.year, first.month, first.day, tzinfo=UTC) + timedelta(days=later_days)
    after_ms = round(after.timestamp() * 1000)
    found = rules.first_after(made, after_ms, 0, zone)
    if found is None:
        assert every is Every.ONCE
        return
    number, due = found
    assert due > after_ms
    if number > 0:
        before = rules.due_ms(made, number - 1, zone)
        assert before is not None
        assert before <= after_ms, "an occurrence was left out"
    following = rules.due_ms(made, number + 1, zone)
    if following is not None:
        assert following > due
        assert following - due >= 22 * HOUR_MS, "tries of one end before the next is due"
        assert max(RETRIES_MS) < 22 * HOUR_MS


def test_the_id_of_a_payment_follows_from_the_schedule_and_the_occurrence() -> None:
    keys = [
        ScheduleKey(acct=Acct(acct), schedule_id=ScheduleId(each)) for acct in "ab" for each in ("1" * 32, "2" * 32)
    ]
    ids = {rules.payment_id_of(key, number) for key in keys for number in range(3)}
    assert len(ids) == len(keys) * 3
    assert all(len(each) == 32 and set(each) <= set("0123456789abcdef") for each in ids)
    assert rules.payment_id_of(keys[0], 1) == rules.payment_id_of(keys[0], 1)


def test_what_time_and_the_person_can_cure_is_tried_three_times_more_and_no_oftener() -> None:
    due = schedule().due_ms
    again = [
        rules.again_ms(schedule(attempts=attempts), Reason.INSUFFICIENT_FUNDS, due + now)
        for attempts, now in ((1, 0), (2, RETRIES_MS[0]), (3, RETRIES_MS[1]), (4, RETRIES_MS[2]))
    ]
    assert again == [due + RETRIES_MS[0], due + RETRIES_MS[1], due + RETRIES_MS[2], None]
    assert rules.again_ms(schedule(attempts=1), Reason.PAYEE_GONE, due) is None
    # After an outage there may be no time left to try.
    assert rules.again_ms(schedule(attempts=1), Reason.INSUFFICIENT_FUNDS, due + 13 * HOUR_MS) is None


@pytest.mark.parametrize(
    ("fields", "now", "act"),
    [
        ({}, -1, rules.Act.NOTHING),
        ({}, 0, rules.Act.PAY),
        ({}, LATE_MS, rules.Act.PAY),
        ({}, LATE_MS + 1, rules.Act.MISS),
        ({"trying": True}, LATE_MS + 1, rules.Act.PAY),
        ({"state": State.PAUSED, "act_ms": None}, 0, rules.Act.NOTHING),
        ({"noticed": False, "act_ms": 1_000_000_000_000 - DAY_MS}, -DAY_MS, rules.Act.NOTICE),
        ({"noticed": False, "act_ms": 1_000_000_000_000 - DAY_MS}, 0, rules.Act.PAY),
    ],
)
def test_the_clock_does_the_one_thing_that_is_due(fields: dict[str, object], now: int, act: rules.Act) -> None:
    assert rules.act(schedule(**fields), schedule().due_ms + now) is act


@pytest.mark.parametrize(
    ("first", "until"),
    [(date(2026, 1, 1), None), (date(2033, 1, 1), None), (date(2027, 1, 2), date(2027, 1, 1))],
    ids=["over", "too far", "never"],
)
def test_a_plan_that_cannot_be_kept_is_refused(first: date, until: date | None) -> None:
    now_ms = round(datetime(2026, 6, 1, tzinfo=UTC).timestamp() * 1000)
    refused = rules.judge_plan(plan(Every.ONCE, first, until=until), now_ms, BERLIN)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.INVALID_VALUE


def test_notice_comes_a_day_before_and_of_a_daily_payment_only_once() -> None:
    monthly, daily = plan(Every.MONTHLY, date(2026, 1, 31)), plan(Every.DAILY, date(2026, 1, 31))
    assert rules.notice_ms(monthly, 3, 10 * DAY_MS, 0) == 9 * DAY_MS
    assert rules.notice_ms(daily, 0, 10 * DAY_MS, 0) == 9 * DAY_MS
    assert rules.notice_ms(daily, 1, 10 * DAY_MS, 0) is None
    assert rules.notice_ms(monthly, 0, DAY_MS, 1) is None, "it was confirmed a moment ago"
