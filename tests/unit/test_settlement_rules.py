"""The decisions of settlement: banking days, schedules, references, accounts to pay to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from super_app.clearing import settlement_rules
from super_app.clearing.model import LinkId, SettlementId
from super_app.clearing.settlement_model import AutoSettle, Every
from super_app.ids import ServerName
from super_app.money import Asset, AssetCode

DAY_MS = 86_400_000
MONDAY_MS = 1_700_438_400_000
"""Monday 2023-11-20, 00:00 UTC."""
NOON_MS = 12 * 3_600_000


@pytest.mark.parametrize(
    ("weekday", "days", "later"),
    [(0, 5, 7), (0, 4, 4), (0, 1, 1), (3, 1, 4), (4, 1, 7), (4, 5, 11), (1, 5, 8)],
)
def test_banking_days_skip_weekends(weekday: int, days: int, later: int) -> None:
    from_ms = MONDAY_MS + weekday * DAY_MS + NOON_MS
    assert settlement_rules.banking_days_later(from_ms, days) == MONDAY_MS + later * DAY_MS + NOON_MS


@pytest.mark.parametrize("weekday", [5, 6])
def test_a_weekend_counts_as_the_start_of_its_monday(weekday: int) -> None:
    from_ms = MONDAY_MS + weekday * DAY_MS + NOON_MS
    assert settlement_rules.banking_days_later(from_ms, 5) == MONDAY_MS + 14 * DAY_MS


@given(st.integers(0, 2**42), st.integers(1, 30))
def test_banking_days_end_on_a_banking_day_and_are_at_least_so_many_days(from_ms: int, days: int) -> None:
    end_ms = settlement_rules.banking_days_later(from_ms, days)
    assert ((end_ms - MONDAY_MS) // DAY_MS) % 7 < 5
    assert days * DAY_MS <= end_ms - from_ms <= (days + 2 * (days // 5 + 1)) * DAY_MS


@given(st.integers(0, 2**42), st.sampled_from([Every.DAY, Every.WEEK]), st.integers(1, 7), st.integers(0, 1439))
def test_the_next_turn_is_after_now_and_at_its_time(after_ms: int, every: Every, weekday: int, minute: int) -> None:
    auto = AutoSettle(currency=AssetCode("EUR"), every=every, weekday=weekday, minute_of_day=minute)
    turn_ms = settlement_rules.next_turn_ms(auto, after_ms)
    assert turn_ms is not None
    assert 0 < turn_ms - after_ms <= (DAY_MS if every is Every.DAY else 7 * DAY_MS)
    assert turn_ms % DAY_MS == minute * 60_000
    assert every is Every.DAY or ((turn_ms - MONDAY_MS) // DAY_MS) % 7 == weekday - 1


def test_what_has_no_schedule_has_no_turn() -> None:
    assert settlement_rules.next_turn_ms(AutoSettle(currency=AssetCode("EUR")), 0) is None


def reference(settlement_id: str = "A" * 43, debtor: str = "hs1.test") -> str:
    return settlement_rules.reference_of(LinkId("L" * 43), ServerName(debtor), SettlementId(settlement_id))


def test_a_reference_is_a_creditor_reference_of_iso_11649() -> None:
    # The example of the standard's own users, and ours.
    assert settlement_rules.is_reference("RF18539007547034")
    assert settlement_rules.is_reference(reference())
    assert len(reference()) == 16


@pytest.mark.parametrize("place", range(16))
def test_a_letter_mistyped_as_a_letter_or_a_digit_as_a_digit_is_noticed(place: int) -> None:
    # A letter counts as two digits, so one in 97 of the letters that became a digit, or the other way, is not.
    right = reference()
    for char in "0123456789" if right[place].isdigit() else "ABCDEFGHJKMNPQRSTVWXYZ":
        wrong = right[:place] + char + right[place + 1 :]
        assert settlement_rules.is_reference(wrong) is (wrong == right), wrong


@pytest.mark.parametrize(
    "text", ["", "RF", "RF18", "rf18539007547034", "RF18 5390", "RFAB539007547034", "RF18é", "X" * 16]
)
def test_what_is_no_reference(text: str) -> None:
    assert not settlement_rules.is_reference(text)


def test_a_reference_names_one_settlement_of_one_debtor() -> None:
    assert len({reference(), reference("B" * 43), reference(debtor="hs2.test")}) == 3


@pytest.mark.parametrize(
    ("pay_to", "paid"),
    [
        ("payto://iban/DE75", "payto://iban/DE75?amount=EUR:0.05&message=RF1"),
        ("payto://iban/DE75?receiver-name=A", "payto://iban/DE75?receiver-name=A&amount=EUR:0.05&message=RF1"),
        ("payto://iban/DE75?amount=EUR:9&Message=x&instruction=y", "payto://iban/DE75?amount=EUR:0.05&message=RF1"),
        ("payto://iban/DE75?", "payto://iban/DE75?amount=EUR:0.05&message=RF1"),
    ],
)
def test_a_creditor_says_where_to_pay_and_not_how_much(pay_to: str, paid: str) -> None:
    assert settlement_rules.payto_of(pay_to, 5, Asset(code=AssetCode("EUR"), scale=2), "RF1") == paid
