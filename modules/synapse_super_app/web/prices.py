"""The page at ``/superapp/prices``: what moving money costs here, and how much may be moved. It runs no script.

It is made of the same settings that payments are charged by.
"""

from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from jinja2 import Environment, StrictUndefined

from super_app.money import Asset, AssetCode, format_money
from synapse_super_app.config import Config, FeeConfig
from synapse_super_app.web.served import File

_WINDOWS: Final = ("payment", "day", "week", "month")


def price_files(*, server_name: str, config: Config) -> dict[str, File]:
    """The page by its path below the prefix."""
    page = files("synapse_super_app.web").joinpath("page", "prices.html")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(page.read_text(encoding="utf-8"))
    payments = config.payments
    acknowledged = payments.acknowledge
    html = template.render(
        server_name=server_name,
        custodial=payments.mode == "custodial",
        assets=list(payments.by_code()),
        operator=None if acknowledged is None else acknowledged.operator,
        countries=None if payments.jurisdictions is None else sorted(payments.jurisdictions.allow),
        limits=_limits(config),
        fees=[(_costing(fee), _price(fee, config.payments.by_code())) for fee in config.payments.fees],
    )
    return {"prices": File(content_type="text/html; charset=utf-8", content=html.encode())}


def _costing(fee: FeeConfig) -> str:
    where = {
        "everywhere": "Payments",
        "here": "Payments to people of this homeserver",
        "elsewhere": "Payments to people of other homeservers",
    }
    return f"{where[fee.reach]} in {fee.currency}"


def _price(fee: FeeConfig, assets: Mapping[AssetCode, Asset]) -> str:
    percent = f"{fee.basis_points // 100}.{fee.basis_points % 100:02}".rstrip("0").rstrip(".")
    parts = [
        *([_shown(fee.fixed, fee.currency, assets)] if fee.fixed else []),
        *([f"{percent} % of the amount"] if fee.basis_points else []),
    ]
    said = [" and ".join(parts) or _shown(0, fee.currency, assets)]
    if fee.at_least:
        said.append(f"at least {_shown(fee.at_least, fee.currency, assets)}")
    if fee.at_most is not None:
        said.append(f"at most {_shown(fee.at_most, fee.currency, assets)}")
    if fee.free_up_to:
        said.append(f"nothing up to {_shown(fee.free_up_to, fee.currency, assets)}")
    return ", ".join(said)


def _limits(config: Config) -> list[tuple[str, str, str]]:
    """Whose limit, of what, and how much, the tier that people begin with first."""
    limits, assets = config.payments.limits, config.payments.by_code()
    names = sorted(limits.tiers, key=lambda name: (name != limits.default_tier, name))
    found: list[tuple[str, str, str]] = []
    for name in names:
        tier = limits.tiers[name]
        for what, by_currency in (("sent", tier.sent), ("received", tier.received)):
            for code, windows in sorted(by_currency.items()):
                found += [
                    (name, f"{what}, {_window(window)}", _shown(windows[window], code, assets))
                    for window in _WINDOWS
                    if window in windows
                ]
        found += [(name, "in the wallet", _shown(most, code, assets)) for code, most in sorted(tier.balance.items())]
    return found


def _window(window: str) -> str:
    return "a payment" if window == "payment" else f"a {window}"


def _shown(amount_minor: int, code: str, assets: Mapping[AssetCode, Asset]) -> str:
    return format_money(amount_minor, assets[AssetCode(code)])
