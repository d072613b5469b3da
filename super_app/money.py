"""Amounts and assets. Money is an integer of minor units with a code; no float ever meets it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NewType

from iso4217 import Currency

from super_app.errors import Reason, Refused

AssetCode = NewType("AssetCode", str)
"""An ISO 4217 code, or a code that the operator defined."""

MAX_AMOUNT_MINOR: Final = 2**53 - 1
"""Largest integer of canonical JSON (Matrix spec, appendices)."""
MAX_SCALE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """What can be paid with. One unit is ``10 ** scale`` minor units."""

    code: AssetCode
    scale: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """A positive amount of one asset, in minor units."""

    amount_minor: int
    currency: AssetCode


def iso_asset(code: str) -> Asset | None:
    """The asset of an ISO 4217 code with its number of minor digits, or None if there is no such code.

    Codes without minor units of account (XAU, XTS, …) are not money to pay with and give None.
    """
    try:
        exponent = Currency(code).exponent
    except ValueError:
        return None
    return None if exponent is None else Asset(code=AssetCode(code), scale=exponent)


def check_money(amount: object, currency: object, assets: Mapping[AssetCode, Asset]) -> Money | Refused:
    """Read an amount and a code from outside. ``amount`` must be of type int exactly: no bool, no float, no string."""
    if not isinstance(currency, str) or currency not in assets:
        known = ", ".join(sorted(assets)) or "none"
        return Refused(
            reason=Reason.UNKNOWN_CURRENCY,
            message=f"This homeserver does not pay in {str(currency)[:16]!r}; it knows: {known}.",
        )
    if type(amount) is not int or not 1 <= amount <= MAX_AMOUNT_MINOR:
        return Refused(
            reason=Reason.INVALID_AMOUNT,
            message=(
                "amount must be a whole number of minor units between 1 and 9007199254740991, "
                'as in {"amount": 1250, "currency": "EUR"} for 12.50 EUR.'
            ),
        )
    return Money(amount_minor=amount, currency=AssetCode(currency))


def format_money(amount_minor: int, asset: Asset) -> str:
    """Plain text such as ``12.50 EUR``, ``-3 PTS``: a decimal point, no grouping; for logs and sentences."""
    sign, digits = ("-" if amount_minor < 0 else ""), str(abs(amount_minor)).rjust(asset.scale + 1, "0")
    if asset.scale == 0:
        return f"{sign}{digits} {asset.code}"
    return f"{sign}{digits[: -asset.scale]}.{digits[-asset.scale :]} {asset.code}"


def shares_by_weight(total_minor: int, weights: Sequence[int]) -> tuple[int, ...]:
    """``total_minor`` by whole weights above 0, exactly: what rounding leaves goes to the largest remainders.

    Of equal remainders the earlier one gets it, so the same weights in the same order always give the same.
    """
    whole = sum(weights)
    shares = [total_minor * weight // whole for weight in weights]
    left = total_minor - sum(shares)
    by_remainder = sorted(range(len(weights)), key=lambda index: (-(total_minor * weights[index] % whole), index))
    for index in by_remainder[:left]:
        shares[index] += 1
    return tuple(shares)
