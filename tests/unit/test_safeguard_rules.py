"""When a payment takes the PIN, fits a limit, and how tries of a PIN are counted."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from super_app.errors import Reason, Refused
from super_app.ids import Acct
from super_app.money import Asset, AssetCode, Money
from super_app.safeguards import rules
from super_app.safeguards.model import DAY_MS, LOCKS_MS, TRIES, Direction, Pin, Safeguard, Settings, Tier, Use, Window

EUR, JPY = AssetCode("EUR"), AssetCode("JPY")
EURO = Asset(code=EUR, scale=2)
PIN = Pin(hash="$argon2id$", set_ms=0)
NOW_MS = 1_700_000_000_000


def euros(minor: int) -> Money:
    return Money(amount_minor=minor, currency=EUR)


def reason(refused: Refused | None) -> Reason | None:
    return None if refused is None else refused.reason


@pytest.mark.parametrize("pin", ["2580", "13579", "864203", "90817263"])
def test_a_pin_of_4_to_8_digits_is_taken(pin: str) -> None:
    assert rules.judge_new_pin(pin) is None


@pytest.mark.parametrize(
    "pin",
    [
        "123",
        "123456789",
        "12a4",
        "\u0661\u0662\u0663\u0665",
        "",
        "0000",
        "1234",
        "4321",
        "7890",
        "1212",
        "2525",
        "121212",
        "12 4",
    ],
)
def test_a_pin_that_is_none_or_that_anybody_would_try_is_refused(pin: str) -> None:
    assert reason(rules.judge_new_pin(pin)) is Reason.PIN_UNFIT


@pytest.mark.parametrize(
    ("pin", "operators", "threshold"),
    [
        (None, {}, None),
        (None, {EUR: 5_000}, 5_000),
        (PIN, {}, 0),
        (PIN, {EUR: 5_000}, 0),
        (replace(PIN, above={EUR: 700}), {EUR: 5_000}, 700),
        (replace(PIN, above={EUR: 9_000}), {EUR: 5_000}, 5_000),
        (replace(PIN, above={EUR: 9_000}), {}, 9_000),
        (replace(PIN, above={JPY: 9_000}), {}, None),
    ],
)
def test_the_lower_threshold_counts(pin: Pin | None, operators: dict[AssetCode, int], threshold: int | None) -> None:
    assert rules.pin_threshold_minor(pin, Settings(pin_above=operators), EUR) == threshold


def test_exactly_the_threshold_takes_no_pin_and_one_more_does() -> None:
    settings = Settings(pin_above={EUR: 5_000})
    assert rules.judge_pin(PIN_ABOVE, settings, euros(5_000), EURO, new_payee=False) is None
    refused = rules.judge_pin(PIN_ABOVE, settings, euros(5_001), EURO, new_payee=False)
    assert refused is not None
    assert refused.reason is Reason.PIN_REQUIRED
    assert "50.00 EUR" in refused.message


PIN_ABOVE = replace(PIN, above={EUR: 9_000})


def test_the_first_payment_to_somebody_takes_it_where_either_minds() -> None:
    settings = Settings(pin_new_payee=True)
    assert reason(rules.judge_pin(PIN_ABOVE, settings, euros(1), EURO, new_payee=True)) is Reason.PIN_REQUIRED
    assert rules.judge_pin(PIN_ABOVE, settings, euros(1), EURO, new_payee=False) is None
    assert rules.judge_pin(PIN_ABOVE, Settings(), euros(1), EURO, new_payee=True) is None
    minding = replace(PIN_ABOVE, new_payee=True)
    assert reason(rules.judge_pin(minding, Settings(), euros(1), EURO, new_payee=True)) is Reason.PIN_REQUIRED


def test_who_needs_a_pin_and_has_none_is_told_to_set_one() -> None:
    refused = rules.judge_pin(None, Settings(pin_above={EUR: 0}), euros(1), EURO, new_payee=False)
    assert reason(refused) is Reason.PIN_NOT_SET


def test_each_fifth_try_locks_for_longer() -> None:
    pin, locks = PIN, []
    for number in range(1, 6 * TRIES + 1):
        tries, locked_until_ms = rules.counted(pin, NOW_MS)
        assert tries == number
        pin = replace(pin, tries=tries)
        if locked_until_ms is not None:
            locks.append(locked_until_ms - NOW_MS)
            assert number % TRIES == 0
    assert locks == [*LOCKS_MS, LOCKS_MS[-1], LOCKS_MS[-1]]
    assert locks[-1] == DAY_MS


def test_a_lock_is_over_to_the_millisecond() -> None:
    locked = replace(PIN, locked_until_ms=NOW_MS)
    assert rules.judge_try(locked, NOW_MS) is None
    refused = rules.judge_try(locked, NOW_MS - 1)
    assert refused is not None
    assert (refused.reason, refused.fields["retry_after_ms"]) == (Reason.PIN_LOCKED, 1)


@pytest.mark.parametrize(("tries", "left"), [(1, 4), (4, 1), (6, 4)])
def test_how_many_tries_are_left_is_said(tries: int, left: int) -> None:
    refused = rules.wrong_pin(tries, None, NOW_MS)
    assert (refused.reason, refused.fields["tries_left"]) == (Reason.PIN_WRONG, left)


@given(limit=st.integers(0, 10**12), used=st.integers(0, 10**12), amount=st.integers(1, 10**12))
def test_a_payment_fits_exactly_if_the_sum_does(limit: int, used: int, amount: int) -> None:
    use = Use(direction=Direction.SENT, window=Window.DAY, currency=EUR, limit_minor=limit, used_minor=used)
    refused = rules.judge_use(use, euros(amount), EURO)
    assert (refused is None) == (used + amount <= limit)
    if refused is not None:
        assert refused.fields["left"] == max(0, limit - used)


def test_the_payer_does_not_learn_what_the_payee_has_received() -> None:
    use = Use(direction=Direction.RECEIVED, window=Window.MONTH, currency=EUR, limit_minor=10, used_minor=9)
    refused = rules.judge_use(use, euros(2), EURO)
    assert refused is not None
    assert refused.reason is Reason.PAYEE_LIMIT
    assert not refused.fields
    assert "10" not in refused.message


def test_a_tier_that_is_gone_counts_as_the_default_one() -> None:
    basic = Tier(balance={EUR: 5})
    settings = Settings(default_tier="basic", tiers={"basic": basic})
    assert rules.tier_of(Safeguard(acct=Acct("a"), tier="gold"), settings) == basic
    assert rules.tier_of(Safeguard(acct=Acct("a")), settings) == basic
    assert rules.tier_of(Safeguard(acct=Acct("a")), Settings()) == Tier()
