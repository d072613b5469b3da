"""Scheduled payments as people meet them: over the API, with the PIN, and on the homeserver's clock."""

from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.module_api.errors import SynapseError
from test_payments_pair import BOB as FAR
from test_payments_pair import Pair

ALICE, BOB, ADMIN = (f"@{name}:hs1.test" for name in ("alice", "bob", "admin"))
CONFIG: dict[str, Any] = {
    "features": {"directory": False, "calls": False, "web": False},
    "payments": {
        "mode": "custodial",
        "acknowledge": {"operator": "a test", "licence": "none"},
        "assets": [{"code": "EUR"}],
        "pin": {"above": {"EUR": 1_000}},
        "limits": {"default_tier": "basic", "tiers": {"basic": {"sent": {"EUR": {"day": 3_000}}}}},
    },
}
DAY_S = 86_400.0
ID = f"{1:032x}"
# The fake's clock begins on 2023-11-14 at 22:13:20 UTC.
TOMORROW = {"first": "2023-11-15", "at": "23:30", "tz": "Europe/Berlin"}


class House(FakeHomeserver):
    def __init__(self, cash: int = 10_000) -> None:
        super().__init__(config=CONFIG)
        self.start()
        for name in ("alice", "bob"):
            self.register(name)
        self.register("admin", admin=True)
        self.room(ALICE, BOB)
        if cash:
            self.issue(cash)

    def issue(self, cash: int) -> None:
        body = {"user_id": ALICE, "amount": cash, "currency": "EUR", "reference": f"cash {cash}"}
        self.call("POST", "admin/issue", ADMIN, body)

    def schedule(self, **more: Any) -> dict[str, Any]:
        body = {"schedule_id": ID, "payee": BOB, "amount": 500, "currency": "EUR", "every": "weekly", **TOMORROW}
        return self.call("POST", "schedules", ALICE, {**body, **more})

    def has(self, user_id: str) -> int:
        wallet: dict[str, Any] = self.call("GET", "wallet", user_id)
        return sum(int(each["available"]) for each in wallet["accounts"])


@pytest.fixture
def house() -> House:
    return House()


def code_of(refusal: pytest.ExceptionInfo[SynapseError]) -> str:
    return refusal.value.errcode.removeprefix("ORG.SUPERAPP.")


def test_it_is_paid_on_its_day_by_the_clock_of_the_payer(house: House) -> None:
    made = house.schedule(memo="rent")
    # 23:30 in Berlin, which is 22:30 in UTC.
    assert (made["state"], made["next_ts"]) == ("active", 1_700_087_400_000)
    assert house.schedule(memo="rent") == made
    house.advance(DAY_S)
    assert house.has(BOB) == 0
    house.advance(20 * 60)
    assert house.has(BOB) == 500
    shown = house.call("GET", f"schedules/{ID}", ALICE)
    assert [each["outcome"] for each in shown["past"]] == ["ordered"]
    assert shown["next_ts"] == made["next_ts"] + 7 * 86_400_000
    payment = house.call("GET", f"payments/{shown['past'][0]['payment_id']}", ALICE)
    assert (payment["state"], payment["memo"]) == ("completed", "rent")
    house.advance(7 * DAY_S)
    assert house.has(BOB) == 1_000
    assert house.call("GET", "admin/invariants", ADMIN)["ok"]


def test_the_timer_is_in_the_database_and_survives_a_restart(house: House) -> None:
    house.schedule()
    house.restart()
    house.advance(DAY_S + 30 * 60)
    assert house.has(BOB) == 500
    house.restart()
    house.advance(2 * 60)
    assert house.has(BOB) == 500


def test_the_pin_is_asked_for_once_where_one_payment_would_take_it(house: House) -> None:
    with pytest.raises(SynapseError) as refusal:
        house.schedule(amount=1_001)
    assert code_of(refusal) == "PIN_NOT_SET"
    house.call("PUT", "wallet/pin", ALICE, {"pin": "2580"})
    for more, code in (({}, "PIN_REQUIRED"), ({"pin": "1357"}, "PIN_WRONG")):
        with pytest.raises(SynapseError) as refusal:
            house.schedule(amount=1_001, **more)
        assert code_of(refusal) == code
    made = house.schedule(amount=1_001, pin="2580")
    assert "pin" not in made
    house.advance(DAY_S + 30 * 60)
    assert house.has(BOB) == 1_001
    # The same again needs none; it changes nothing.
    assert house.schedule(amount=1_001)["past"] == []


def test_limits_and_the_lock_hold_for_scheduled_payments_too(house: House) -> None:
    house.call("PUT", "wallet/pin", ALICE, {"pin": "2580"})
    house.schedule(amount=2_000, every="once", pin="2580")
    house.schedule(schedule_id=f"{2:032x}", amount=2_000, every="once", pin="2580")
    house.call("POST", "wallet/lock", ALICE)
    with pytest.raises(SynapseError) as refusal:
        house.schedule(schedule_id=f"{3:032x}", pin="2580")
    assert code_of(refusal) == "WALLET_LOCKED"
    house.advance(DAY_S + 30 * 60)
    assert house.has(BOB) == 0
    assert house.call("GET", f"schedules/{ID}", ALICE)["again_ts"] == 1_700_087_400_000 + 3_600_000
    house.call("POST", "wallet/unlock", ALICE, {"pin": "2580"})
    house.advance(14 * 3_600)
    # The limit of a day lets one of the two through.
    outcomes = [each["past"][0] for each in house.call("GET", "schedules", ALICE)["schedules"]]
    assert sorted(each["outcome"] for each in outcomes) == ["failed", "ordered"]
    assert {each.get("reason") for each in outcomes} == {None, "limit_exceeded"}
    assert house.has(BOB) == 2_000


def test_without_funds_it_waits_for_money_and_pays_once() -> None:
    house = House(cash=0)
    house.schedule(every="once")
    house.advance(DAY_S + 30 * 60)
    assert "again_ts" in house.call("GET", f"schedules/{ID}", ALICE)
    house.issue(700)
    house.advance(3_600)
    assert (house.has(ALICE), house.has(BOB)) == (200, 500)
    assert house.call("GET", f"schedules/{ID}", ALICE)["state"] == "ended"


def test_skip_pause_resume_and_cancel(house: House) -> None:
    first = house.schedule(every="daily")["next_ts"]
    skipped = house.call("POST", f"schedules/{ID}/skip", ALICE)
    assert (skipped["next_ts"], skipped["past"][0]["outcome"]) == (first + 86_400_000, "skipped")
    paused = house.call("POST", f"schedules/{ID}/pause", ALICE)
    assert (paused["state"], "next_ts" in paused) == ("paused", False)
    house.advance(4 * DAY_S)
    assert house.has(BOB) == 0
    assert house.call("POST", f"schedules/{ID}/resume", ALICE)["state"] == "active"
    house.advance(DAY_S)
    assert house.has(BOB) == 500
    assert house.call("POST", f"schedules/{ID}/cancel", ALICE)["state"] == "cancelled"
    house.advance(2 * DAY_S)
    assert house.has(BOB) == 500
    with pytest.raises(SynapseError) as refusal:
        house.call("POST", f"schedules/{ID}/resume", ALICE)
    assert (refusal.value.code, code_of(refusal)) == (409, "ALREADY_DECIDED")


WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"first": "2023-02-30"}, "INVALID_VALUE"),
    ({"first": "2023-11-13"}, "INVALID_VALUE"),
    ({"first": "2040-01-01"}, "INVALID_VALUE"),
    ({"until": "2023-11-14"}, "INVALID_VALUE"),
    ({"at": "24:00"}, "INVALID_VALUE"),
    ({"tz": "Berlin"}, "INVALID_VALUE"),
    ({"every": "hourly"}, "INVALID_VALUE"),
    ({"schedule_id": "1"}, "INVALID_VALUE"),
    ({"amount": 0}, "INVALID_AMOUNT"),
    ({"currency": "USD"}, "UNKNOWN_CURRENCY"),
    ({"payee": "@nobody:hs1.test"}, "UNKNOWN_PAYEE"),
    ({"payee": ALICE}, "PAYEE_IS_SELF"),
    ({"payee": "@zoe:hs9.test"}, "NO_LINK"),
    ({"memo": "x" * 513}, "MEMO_TOO_LONG"),
    ({"fees": 1}, "UNKNOWN_FIELD"),
)


def test_what_cannot_be_scheduled_is_refused(house: House) -> None:
    for wrong, code in WRONG:
        with pytest.raises(SynapseError) as refusal:
            house.schedule(**wrong)
        assert code_of(refusal) == code, wrong
    assert house.call("GET", "schedules", ALICE) == {"schedules": []}


def test_nobody_sees_or_changes_anothers(house: House) -> None:
    house.schedule()
    assert house.call("GET", "schedules", BOB) == {"schedules": []}
    for method, path in (("GET", f"schedules/{ID}"), ("POST", f"schedules/{ID}/cancel")):
        with pytest.raises(SynapseError) as refusal:
            house.call(method, path, BOB)
        assert (refusal.value.code, code_of(refusal)) == (404, "UNKNOWN_SCHEDULE")
    with pytest.raises(SynapseError) as refusal:
        house.schedule(amount=501)
    assert (refusal.value.code, code_of(refusal)) == (409, "CONFLICT")


def test_whoever_is_gone_pays_nothing_more(house: House) -> None:
    house.schedule()
    house.deactivated.add(ALICE)
    house.advance(DAY_S + 30 * 60)
    assert house.has(BOB) == 0
    assert house.call("GET", f"schedules/{ID}", ALICE)["state"] == "cancelled"


def test_somebody_of_another_homeserver_is_paid_on_the_day() -> None:
    pair = Pair()
    body = {"schedule_id": ID, "payee": FAR, "amount": 500, "currency": "EUR", "every": "daily", **TOMORROW}
    pair.call(pair.hs1, "POST", "schedules", "alice", body)
    pair.advance(DAY_S)
    assert pair.available() == (10_000, 0)
    pair.advance(20 * 60)
    assert pair.available() == (9_500, 500)
    pair.assert_books_are_right()
