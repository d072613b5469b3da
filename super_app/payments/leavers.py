"""Whose account is deactivated, and the operator's rule for the money in it. Pure: who carries it out is leaving.py."""

from dataclasses import dataclass
from enum import StrEnum

from super_app.ids import Acct, UserId
from super_app.ledger.model import AccountKind
from super_app.money import AssetCode


class Then(StrEnum):
    """What becomes of the money of a deactivated account."""

    KEEP = "keep"  # it stays there, blocked, until an operator pays it out
    CLAIM = "claim"  # it goes to the owner's account of that kind, and back by itself if they come back
    BURN = "burn"  # it ceases to exist


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaverRule:
    then: Then = Then.KEEP
    after_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftMoney:
    currency: AssetCode
    kind: AccountKind
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaver:
    acct: Acct
    user_id: UserId
    left_ms: int
    money: tuple[LeftMoney, ...]


def due_ms(rule: LeaverRule, left_ms: int) -> int | None:
    """When the rule takes what is in an account; None where it takes nothing."""
    return None if rule.then is Then.KEEP else left_ms + rule.after_ms
