"""The world outside: what operators really paid each other to settle. No crash and no old backup undoes it."""

from collections import Counter
from dataclasses import dataclass, field

from super_app.ids import ServerName
from super_app.money import AssetCode

Name = tuple[ServerName, ServerName, str]
"""Debtor, creditor and settlement."""


@dataclass(slots=True)
class Bank:
    """``sent`` is what left a debtor and ``arrived`` what reached the creditor of it: less, or nothing."""

    sent: dict[Name, int] = field(default_factory=dict)
    arrived: dict[Name, int] = field(default_factory=dict)
    out: Counter[tuple[ServerName, AssetCode]] = field(default_factory=Counter)
    into: Counter[tuple[ServerName, AssetCode]] = field(default_factory=Counter)

    def pay(self, name: Name, currency: AssetCode, amount_minor: int, arriving_minor: int) -> None:
        debtor, creditor, _ = name
        self.sent[name] = amount_minor
        self.arrived[name] = arriving_minor
        self.out[debtor, currency] += amount_minor
        self.into[creditor, currency] += arriving_minor
