"""Pure decisions of the safeguards. Times, sums and what was looked up are arguments."""

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from super_app.errors import Reason, Refused
from super_app.money import Asset, AssetCode, Money, format_money
from super_app.safeguards.model import LOCKS_MS, TRIES, Direction, Pin, Safeguard, Settings, Tier, Use, Window

_PIN: Final = re.compile(r"[0-9]{4,8}")
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_RISING: Final = "01234567890"


def tier_of(safeguard: Safeguard, settings: Settings) -> Tier:
    """A tier that the operator has taken out of the config counts as the default one."""
    tier = settings.tiers.get(safeguard.tier or settings.default_tier)
    return tier or settings.tiers.get(settings.default_tier) or Tier()


# Limits.


def judge_use(use: Use, money: Money, asset: Asset) -> Refused | None:
    """Whether a payment still fits into a limit."""
    if use.used_minor + money.amount_minor <= use.limit_minor:
        return None
    left_minor = max(0, use.limit_minor - use.used_minor)
    fields: dict[str, object] = {
        "currency": use.currency,
        "window": use.window.value,
        "limit": use.limit_minor,
        "left": left_minor,
    }
    if use.direction is Direction.RECEIVED:
        # What somebody else has received is not the payer's to know.
        return payee_limit()
    if use.window is Window.PAYMENT:
        what = f"A single payment may be {format_money(use.limit_minor, asset)} at the most"
    else:
        what = (
            f"You may send {format_money(use.limit_minor, asset)} in a {use.window.value}, and "
            f"{format_money(left_minor, asset)} are left"
        )
    return Refused(
        reason=Reason.LIMIT_EXCEEDED,
        message=f"{what}. Send less, wait, or ask the operator of your homeserver for more.",
        fields=MappingProxyType(fields),
    )


def payee_limit() -> Refused:
    return Refused(
        reason=Reason.PAYEE_LIMIT,
        message="The payee cannot take that much now. Send less, or later; nothing was paid.",
    )


def judge_lock(safeguard: Safeguard) -> Refused | None:
    if safeguard.locked_ms is None:
        return None
    return Refused(
        reason=Reason.WALLET_LOCKED,
        message="Your wallet is locked and sends nothing. Unlock it with your PIN, or from a session that just began.",
        fields=MappingProxyType({"locked_since": safeguard.locked_ms}),
    )


def careful_limit_minor(safeguard: Safeguard, settings: Settings, currency: AssetCode, now_ms: int) -> int | None:
    """What may be sent in a day after a lock; None if nothing more than usual is to be minded."""
    if safeguard.careful_until_ms is None or safeguard.careful_until_ms <= now_ms:
        return None
    return settings.after_lock.get(currency, 0)


def judge_country(country: str | None, settings: Settings) -> Refused | None:
    """Whether somebody's country lets them send and receive. Whose country nobody has found out may not."""
    if settings.countries is None or country in settings.countries:
        return None
    where = "it is not confirmed in which country you are" if country is None else f"it does not serve {country}"
    return Refused(
        reason=Reason.COUNTRY_NOT_SERVED,
        message=f"This homeserver does not move your money: {where}. Ask its operator.",
    )


def judge_new_country(country: str) -> Refused | None:
    if _COUNTRY.fullmatch(country) is None:
        return Refused(
            reason=Reason.INVALID_VALUE, message="country: two capital letters of ISO 3166-1, such as DE; or null."
        )
    return None


# The PIN.


def judge_new_pin(pin: str) -> Refused | None:
    """4 to 8 digits that are not the first ones that anybody tries."""
    if _PIN.fullmatch(pin) is None:
        return Refused(reason=Reason.PIN_UNFIT, message="A PIN has 4 to 8 digits and nothing else; choose one.")
    if len(set(pin)) == 1 or pin in _RISING or pin[::-1] in _RISING or pin == pin[:2] * (len(pin) // 2):
        return Refused(
            reason=Reason.PIN_UNFIT, message="That PIN is among the first that anybody would try; choose another."
        )
    return None


def pin_threshold_minor(pin: Pin | None, settings: Settings, currency: AssetCode) -> int | None:
    """Above which amount the PIN is asked for: the lower of the person's and the operator's. None for no amount."""
    operators = settings.pin_above.get(currency)
    # Who sets a PIN and says no more wants it asked for.
    own = None if pin is None else pin.above.get(currency, None if pin.above else 0)
    return min((each for each in (operators, own) if each is not None), default=None)


def minds_new_payees(pin: Pin | None, settings: Settings) -> bool:
    return settings.pin_new_payee or (pin is not None and pin.new_payee)


def judge_pin(pin: Pin | None, settings: Settings, money: Money, asset: Asset, *, new_payee: bool) -> Refused | None:
    """PIN_REQUIRED if this payment takes the PIN, PIN_NOT_SET where there is none."""
    threshold_minor = pin_threshold_minor(pin, settings, money.currency)
    if threshold_minor is not None and money.amount_minor > threshold_minor:
        why = (
            "This payment takes your PIN"
            if threshold_minor == 0
            else (f"A payment of more than {format_money(threshold_minor, asset)} takes your PIN")
        )
    elif new_payee and minds_new_payees(pin, settings):
        why = "Your first payment to somebody takes your PIN"
    else:
        return None
    if pin is None:
        return Refused(
            reason=Reason.PIN_NOT_SET, message=f"{why}, and you have none yet; set one in your wallet, and pay again."
        )
    return Refused(
        reason=Reason.PIN_REQUIRED,
        message=f"{why}; pay from your wallet, which asks for it. Never type it into a chat.",
    )


def judge_try(pin: Pin | None, now_ms: int) -> Refused | None:
    """Whether a PIN may be tried now."""
    if pin is None:
        return no_pin()
    if pin.locked_until_ms is None or pin.locked_until_ms <= now_ms:
        return None
    return _locked(pin.locked_until_ms - now_ms)


def no_pin() -> Refused:
    return Refused(reason=Reason.PIN_NOT_SET, message="You have no PIN yet; set one in your wallet.")


def pin_changed() -> Refused:
    return Refused(
        reason=Reason.CONFLICT, message="Your PIN was changed at the same time, from another session; look at that one."
    )


def unknown_tier(tier: str, known: Iterable[str]) -> Refused:
    return Refused(
        reason=Reason.INVALID_VALUE,
        message=f"tier: {tier!r} is not in payments.limits.tiers, which has: {', '.join(sorted(known)) or 'none'}.",
    )


def counted(pin: Pin, now_ms: int) -> tuple[int, int | None]:
    """Tries and lock after one more try, which is counted before it is looked at."""
    tries = pin.tries + 1
    if tries % TRIES:
        return tries, None
    lock = LOCKS_MS[min(tries // TRIES, len(LOCKS_MS)) - 1]
    return tries, now_ms + lock


def wrong_pin(tries: int, locked_until_ms: int | None, now_ms: int) -> Refused:
    if locked_until_ms is not None:
        return _locked(locked_until_ms - now_ms)
    left = TRIES - tries % TRIES
    return Refused(
        reason=Reason.PIN_WRONG,
        message=f"That is not your PIN; {left} more {'try' if left == 1 else 'tries'} before it is locked for a while.",
        fields=MappingProxyType({"tries_left": left}),
    )


def _locked(wait_ms: int) -> Refused:
    minutes = -(-wait_ms // 60_000)
    wait = f"{minutes} minutes" if minutes < 120 else f"{-(-minutes // 60)} hours"
    return Refused(
        reason=Reason.PIN_LOCKED,
        message=f"The PIN was wrong too often. Try again in {wait}, or sign in again and set a new one.",
        fields=MappingProxyType({"retry_after_ms": wait_ms}),
    )


def uses(
    direction: Direction, currency: AssetCode, limits: Mapping[Window, int], sums_minor: Mapping[Window, int]
) -> Iterator[Use]:
    """Each limit with how much of it is used, the narrowest first."""
    for window in Window:
        if window in limits:
            yield Use(
                direction=direction,
                window=window,
                currency=currency,
                limit_minor=limits[window],
                used_minor=sums_minor.get(window, 0),
            )
