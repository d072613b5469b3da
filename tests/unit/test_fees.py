"""What a payment costs its payer: whole minor units, rounded down, never more than was said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from super_app.errors import Reason
from super_app.money import MAX_AMOUNT_MINOR, Asset, AssetCode, Money
from super_app.payments.fees import Fee, Reach, fee_minor, judge_confirmed
from synapse_super_app.config import InvalidConfig, parse_config

EUR, JPY = AssetCode("EUR"), AssetCode("JPY")


def euros(amount_minor: int) -> Money:
    return Money(amount_minor=amount_minor, currency=EUR)


def test_a_fee_covers_its_currency_and_its_reach() -> None:
    fees = (
        Fee(currency=EUR, reach=Reach.HERE, fixed_minor=1),
        Fee(currency=EUR, reach=Reach.ELSEWHERE, fixed_minor=2),
        Fee(currency=JPY, fixed_minor=3),
    )
    assert [fee_minor(fees, euros(9), here=here) for here in (True, False)] == [1, 2]
    yen = Money(amount_minor=9, currency=JPY)
    assert [fee_minor(fees, yen, here=here) for here in (True, False)] == [3, 3]
    assert fee_minor(fees, Money(amount_minor=9, currency=AssetCode("BHD")), here=True) == 0


@pytest.mark.parametrize(
    ("amount", "wanted"), [(1, 0), (100, 0), (101, 20), (1_999, 20), (2_099, 20), (2_100, 21), (10**6, 50)]
)
def test_parts_are_rounded_down_and_kept_within_bounds(amount: int, wanted: int) -> None:
    fee = Fee(currency=EUR, basis_points=100, at_least_minor=20, at_most_minor=50, free_up_to_minor=100)
    assert fee_minor((fee,), euros(amount), here=True) == wanted


@given(amount=st.integers(1, MAX_AMOUNT_MINOR), fixed=st.integers(0, MAX_AMOUNT_MINOR), points=st.integers(0, 10_000))
def test_no_fee_is_negative_fractional_or_above_what_canonical_json_carries(
    amount: int, fixed: int, points: int
) -> None:
    found = fee_minor((Fee(currency=EUR, fixed_minor=fixed, basis_points=points),), euros(amount), here=True)
    assert type(found) is int
    assert 0 <= found <= MAX_AMOUNT_MINOR
    exact = fixed * 10_000 + amount * points
    assert found == MAX_AMOUNT_MINOR or found * 10_000 <= exact < (found + 1) * 10_000


def test_a_sentence_says_the_price_in_money_and_the_way_to_confirm_it() -> None:
    asset = Asset(code=AssetCode("BHD"), scale=3)
    for confirmed in (None, 0, 1_499):
        refused = judge_confirmed(1_500, confirmed, asset)
        assert refused is not None
        assert refused.reason is Reason.FEE_NOT_CONFIRMED
        assert "1.500 BHD" in refused.message
    assert judge_confirmed(1_500, 1_500, asset) is None
    assert judge_confirmed(0, None, asset) is None


@pytest.mark.parametrize(
    ("fees", "said"),
    [
        ([{"currency": "XXX"}], "fees names XXX"),
        ([{"currency": "EUR"}, {"currency": "EUR", "reach": "here"}], "fees must name EUR once"),
        ([{"currency": "EUR", "reach": "here"}, {"currency": "EUR", "reach": "here"}], "fees must name EUR once"),
        ([{"currency": "EUR", "at_least": 5, "at_most": 4}], "at_most must not be less"),
        ([{"currency": "EUR", "basis_points": 10_001}], "basis_points"),
        ([{"currency": "EUR", "percent": 1}], "percent"),
    ],
)
def test_a_price_that_is_not_one_stops_the_start(fees: list[dict[str, object]], said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        parse_config({"payments": {"assets": [{"code": "EUR"}], "fees": fees}})
