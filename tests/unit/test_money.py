"""Amounts and assets."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from super_app.errors import Reason, Refused
from super_app.money import MAX_AMOUNT_MINOR, MAX_SCALE, Asset, AssetCode, Money, check_money, format_money, iso_asset

EUR = AssetCode("EUR")
PTS = AssetCode("PTS")
ASSETS = {EUR: Asset(code=EUR, scale=2), PTS: Asset(code=PTS, scale=0)}


@given(amount=st.integers(min_value=1, max_value=MAX_AMOUNT_MINOR))
def test_each_whole_amount_that_json_can_carry_is_money(amount: int) -> None:
    assert check_money(amount, "EUR", ASSETS) == Money(amount_minor=amount, currency=EUR)


@pytest.mark.parametrize(
    "amount", [0, -1, 2**53, 1.0, 12.5, float("nan"), True, "1250", None, [1], {"amount": 1}, Decimal(1)]
)
def test_anything_but_a_whole_positive_amount_is_refused(amount: object) -> None:
    refused = check_money(amount, "EUR", ASSETS)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.INVALID_AMOUNT
    assert "9007199254740991" in refused.message


@pytest.mark.parametrize("currency", ["eur", "XXX", "", "EUR ", None, 978, ["EUR"], {"EUR": 1}])
def test_a_currency_that_is_not_configured_is_refused_with_those_that_are(currency: object) -> None:
    refused = check_money(100, currency, ASSETS)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.UNKNOWN_CURRENCY
    assert "EUR, PTS" in refused.message


def test_a_refusal_repeats_no_more_of_a_currency_than_fits_a_sentence() -> None:
    refused = check_money(100, "Q" * 10_000, ASSETS)
    assert isinstance(refused, Refused)
    assert len(refused.message) < 200


def test_a_homeserver_without_assets_says_so() -> None:
    refused = check_money(100, "EUR", {})
    assert isinstance(refused, Refused)
    assert "knows: none" in refused.message


@pytest.mark.parametrize(("code", "scale"), [("EUR", 2), ("JPY", 0), ("BHD", 3), ("KWD", 3), ("CLF", 4)])
def test_iso_codes_bring_their_scale(code: str, scale: int) -> None:
    assert iso_asset(code) == Asset(code=AssetCode(code), scale=scale)


@pytest.mark.parametrize("code", ["XAU", "XTS", "PTS", "eur", "", "EURO"])
def test_what_is_no_currency_to_pay_with_is_no_iso_asset(code: str) -> None:
    assert iso_asset(code) is None


@pytest.mark.parametrize(
    ("amount_minor", "scale", "text"),
    [
        (1250, 2, "12.50 EUR"),
        (5, 2, "0.05 EUR"),
        (-5, 2, "-0.05 EUR"),
        (-1250, 2, "-12.50 EUR"),
        (0, 2, "0.00 EUR"),
        (3, 0, "3 EUR"),
        (-3, 0, "-3 EUR"),
        (1, 3, "0.001 EUR"),
        (123_456_789, 8, "1.23456789 EUR"),
    ],
)
def test_amounts_are_written_with_a_point_and_all_their_digits(amount_minor: int, scale: int, text: str) -> None:
    assert format_money(amount_minor, Asset(code=EUR, scale=scale)) == text


@given(
    amount_minor=st.integers(min_value=-MAX_AMOUNT_MINOR, max_value=MAX_AMOUNT_MINOR),
    scale=st.integers(min_value=0, max_value=MAX_SCALE),
)
def test_no_minor_unit_is_lost_in_writing(amount_minor: int, scale: int) -> None:
    number, _, code = format_money(amount_minor, Asset(code=EUR, scale=scale)).partition(" ")
    assert Decimal(number).scaleb(scale) == amount_minor
    assert code == "EUR"
