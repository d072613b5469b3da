"""Amounts as people write them: ``5``, ``5,50 €``, ``EUR 5.50``, ``1.234,56``, ``¥500``.

Money never guesses. What two people could read as two amounts (``1.234`` for euros, in English) is refused with both
readings, and digits that the currency does not have are not cut off.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from babel import Locale, UnknownLocaleError
from babel.numbers import format_currency, format_decimal, get_currency_symbol, get_decimal_symbol, get_group_symbol

from super_app.money import MAX_AMOUNT_MINOR, Asset, AssetCode, Money, iso_asset

_NUMBER: Final = re.compile(r"\d(?:[\d.,'’ ]*\d)?")
_WORDS: Final[Mapping[str, str]] = {
    "euro": "EUR",
    "euros": "EUR",
    "dollar": "USD",
    "dollars": "USD",
    "pound": "GBP",
    "pounds": "GBP",
    "pfund": "GBP",
    "yen": "JPY",
    "franken": "CHF",
    "francs": "CHF",
    "€": "EUR",
    "$": "USD",
    "£": "GBP",
    "¥": "JPY",
    "₹": "INR",
    "₩": "KRW",
    "₽": "RUB",
    "₺": "TRY",
    "₿": "BTC",
    "zł": "PLN",
    "kč": "CZK",
    "points": "PTS",
    "point": "PTS",
    "punkte": "PTS",
    "punkt": "PTS",
}
_UNIT: Final = re.compile(r"[^\W\d_]{1,12}\.?|[^\W\d_]{0,3}[$€£¥₹₩₽₺₿]")


class Problem(StrEnum):
    """Why something that looks like an amount is none."""

    AMBIGUOUS = "ambiguous"
    TOO_PRECISE = "too_precise"
    OUT_OF_RANGE = "out_of_range"
    WHICH_CURRENCY = "which_currency"
    NOT_A_NUMBER = "not_a_number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """An amount that cannot be taken as it stands. ``text`` is how it was written."""

    problem: Problem
    text: str
    asset: Asset | None = None


def locale_of(language: str) -> Locale:
    """The locale of a language tag such as ``de`` or ``pt-BR``; English where there is none."""
    try:
        return Locale.parse(language.replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        return Locale("en")


def asset_named(text: str, assets: Mapping[AssetCode, Asset], locale: Locale) -> Asset | None:
    """The asset that a code, a symbol or a word means. None also for one that this homeserver does not pay in."""
    wanted = text.strip().rstrip(".")
    for code, asset in assets.items():
        symbols = {code, code.casefold()}
        if iso_asset(code) is not None:
            symbols.add(get_currency_symbol(code, locale=locale))
        if wanted in symbols or wanted.casefold() in symbols:
            return asset
    return assets.get(AssetCode(_WORDS.get(wanted.casefold(), "")))


def names_a_currency(text: str) -> bool:
    """Whether a word is some currency, whether it is known here or not."""
    word = text.strip().rstrip(".").casefold()
    return word in _WORDS or (text.isupper() and iso_asset(text) is not None)


def read(text: str, assets: Mapping[AssetCode, Asset], locale: Locale) -> Money | Wrong | None:
    """The amount that ``text`` is, all of it. None if it is not written like an amount at all."""
    written = _western(text.strip())
    found = _NUMBER.search(written)
    if found is None:
        return None
    before, number, after = written[: found.start()].strip(), found[0], written[found.end() :].lstrip(".,").strip()
    sign = before.endswith(("-", "−"))
    unit = (before.rstrip("-−").strip() or after).strip()
    if before.rstrip("-−").strip() and after:
        return None
    if unit and _UNIT.fullmatch(unit) is None:
        return None
    asset = _asset(unit, assets, locale)
    if asset is None:
        if unit and asset_named(unit, assets, locale) is None and not names_a_currency(unit):
            return None
        return Wrong(problem=Problem.WHICH_CURRENCY, text=text)
    if sign:
        return Wrong(problem=Problem.OUT_OF_RANGE, text=text, asset=asset)
    return _money(number, asset, locale, text)


def show(money: Money, assets: Mapping[AssetCode, Asset], locale: Locale) -> str:
    """An amount as people of a locale write it."""
    return show_minor(money.amount_minor, assets.get(money.currency) or Asset(code=money.currency, scale=0), locale)


def show_minor(amount_minor: int, asset: Asset, locale: Locale) -> str:
    number = Decimal(amount_minor).scaleb(-asset.scale)
    if iso_asset(asset.code) is not None:
        return format_currency(number, asset.code, locale=locale, currency_digits=False, format=_pattern(asset, locale))
    return show_by_code(amount_minor, asset, locale)


def show_by_code(amount_minor: int, asset: Asset, locale: Locale) -> str:
    """The amount as the language writes numbers, with the code of the currency: for where its sign cannot be shown."""
    number = Decimal(amount_minor).scaleb(-asset.scale)
    digits = "#,##0" + ("." + "0" * asset.scale if asset.scale else "")
    return f"{format_decimal(number, format=digits, locale=locale)}\u00a0{asset.code}"


def _pattern(asset: Asset, locale: Locale) -> str:
    """The currency pattern of a locale with exactly the digits that the asset has."""
    pattern: str = locale.currency_formats["standard"].pattern
    return re.sub(r"0\.00", "0" + ("." + "0" * asset.scale if asset.scale else ""), pattern)


def _western(text: str) -> str:
    """Digits of every script as ASCII, full-width forms as what they stand for."""
    # NFKC also makes the spaces that group digits (no-break, narrow, thin) plain ones.
    normal = unicodedata.normalize("NFKC", text)
    return "".join(
        str(unicodedata.decimal(char)) if char.isdecimal() else char for char in normal.replace("\u066b", ".")
    )


def _asset(unit: str, assets: Mapping[AssetCode, Asset], locale: Locale) -> Asset | None:
    if unit:
        return asset_named(unit, assets, locale)
    return next(iter(assets.values())) if len(assets) == 1 else None


def _money(number: str, asset: Asset, locale: Locale, text: str) -> Money | Wrong:
    parts = _split(number, asset, locale)
    if isinstance(parts, Problem):
        return Wrong(problem=parts, text=text, asset=asset)
    whole, fraction = parts
    if len(fraction.rstrip("0")) > asset.scale:
        return Wrong(problem=Problem.TOO_PRECISE, text=text, asset=asset)
    amount_minor = int(whole + fraction[: asset.scale].ljust(asset.scale, "0")) if len(whole) <= 18 else 0
    if not 1 <= amount_minor <= MAX_AMOUNT_MINOR:
        return Wrong(problem=Problem.OUT_OF_RANGE, text=text, asset=asset)
    return Money(amount_minor=amount_minor, currency=asset.code)


def _split(number: str, asset: Asset, locale: Locale) -> tuple[str, str] | Problem:
    """The digits before and after the decimal point."""
    plain = re.sub("['’ ]", "_", number)
    marks = [char for char in plain if char in ".,"]
    if not marks:
        return _whole(plain)
    last = marks[-1]
    if len(set(marks)) == 2:
        # Both are used, so the last one is the decimal point and stands once.
        if marks.count(last) > 1:
            return Problem.NOT_A_NUMBER
        return _with_fraction(plain, last)
    if len(marks) > 1:
        return _whole(plain.replace(last, "_"))
    digits_after = len(plain) - plain.index(last) - 1
    if digits_after != 3 or "_" in plain:
        return _with_fraction(plain, last)
    # One mark with three digits behind it: a thousand for one reader and a fraction for another.
    if last == get_decimal_symbol(locale) and asset.scale >= 3:
        return _with_fraction(plain, last)
    if last == get_group_symbol(locale) and last != get_decimal_symbol(locale) and asset.scale < 3:
        return _whole(plain.replace(last, "_"))
    return Problem.AMBIGUOUS


def _with_fraction(plain: str, mark: str) -> tuple[str, str] | Problem:
    whole, _, fraction = plain.partition(mark)
    grouped = _whole(re.sub("[.,]", "_", whole))
    if isinstance(grouped, Problem) or not fraction.isdigit():
        return Problem.NOT_A_NUMBER
    return grouped[0], fraction


def _whole(plain: str) -> tuple[str, str] | Problem:
    """Digits, in groups of three if they are in groups."""
    groups = plain.split("_")
    if len(groups) > 1 and not (1 <= len(groups[0]) <= 3 and all(len(group) == 3 for group in groups[1:])):
        return Problem.NOT_A_NUMBER
    digits = "".join(groups)
    return (digits, "") if digits.isdigit() else Problem.NOT_A_NUMBER
