"""The operator's limits and PIN rules, from the config to what the domain takes."""

from collections.abc import Mapping
from typing import Final

from super_app.money import Asset, AssetCode
from super_app.safeguards.model import Settings, Tier, Window, WindowLimits
from synapse_super_app.config import PaymentsConfig, TierConfig, WindowName

_SMALL_UNITS: Final = 50


def settings_of(config: PaymentsConfig) -> Settings:
    limits = config.limits
    return Settings(
        default_tier=limits.default_tier or "",
        tiers={name: _tier(tier) for name, tier in limits.tiers.items()},
        pin_above=_by_currency(config.pin.above),
        pin_new_payee=config.pin.new_payee,
        countries=None if config.jurisdictions is None else frozenset(config.jurisdictions.allow),
        after_lock={
            code: (limits.after_lock or {}).get(code, _small(asset)) for code, asset in config.by_code().items()
        },
    )


def after_move_of(config: PaymentsConfig) -> dict[AssetCode, int]:
    """The most that a payment may be to somebody who has just moved between homeservers."""
    most = config.limits.after_move or {}
    return {code: most.get(code, _small(asset)) for code, asset in config.by_code().items()}


def _small(asset: Asset) -> int:
    """What is little where the operator says nothing: fifty units."""
    return int(_SMALL_UNITS * 10**asset.scale)


def _tier(tier: TierConfig) -> Tier:
    return Tier(sent=_windows(tier.sent), received=_windows(tier.received), balance=_by_currency(tier.balance))


def _windows(limits: Mapping[str, Mapping[WindowName, int]]) -> dict[AssetCode, WindowLimits]:
    return {
        AssetCode(code): {Window(window): most for window, most in by_window.items()}
        for code, by_window in limits.items()
    }


def _by_currency(amounts: Mapping[str, int]) -> dict[AssetCode, int]:
    return {AssetCode(code): amount for code, amount in amounts.items()}
