"""What the house takes for a payment: pure decisions.

The payer pays it, on top; whoever is paid gets all of the amount. It is the payer's homeserver's alone, so nothing of
it goes to another one. Amounts are minor units of the currency of the payment, parts of it basis points (hundredths of
a per cent); what does not come out whole is rounded down.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from super_app.errors import Reason, Refused
from super_app.ledger.model import HoldId
from super_app.money import MAX_AMOUNT_MINOR, Asset, AssetCode, Money, format_money

MAX_BASIS_POINTS: Final = 10_000


class Reach(StrEnum):
    """Which payments cost it, by where the payee is."""

    EVERYWHERE = "everywhere"
    HERE = "here"
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fee:
    """``fixed`` and a part of the amount, together from ``at_least`` to ``at_most``; nothing up to ``free_up_to``."""

    currency: AssetCode
    reach: Reach = Reach.EVERYWHERE
    fixed_minor: int = 0
    basis_points: int = 0
    at_least_minor: int = 0
    at_most_minor: int = MAX_AMOUNT_MINOR
    free_up_to_minor: int = 0

    def covers(self, money: Money, *, here: bool) -> bool:
        if self.currency != money.currency:
            return False
        return self.reach is Reach.EVERYWHERE or (self.reach is Reach.HERE) is here


def fee_minor(fees: Sequence[Fee], money: Money, *, here: bool) -> int:
    """What a payment costs its payer besides its amount; ``here`` says that the payee is of this homeserver."""
    for fee in fees:
        if fee.covers(money, here=here):
            if money.amount_minor <= fee.free_up_to_minor:
                return 0
            wanted_minor = fee.fixed_minor + money.amount_minor * fee.basis_points // MAX_BASIS_POINTS
            return min(max(wanted_minor, fee.at_least_minor), fee.at_most_minor)
    return 0


def hold_of_fee(hold_id: HoldId) -> HoldId:
    """The hold of the fee of a payment, beside that of its amount."""
    return HoldId(f"fee:{hold_id}")


def judge_confirmed(wanted_minor: int, confirmed_minor: int | None, asset: Asset) -> Refused | None:
    """FEE_NOT_CONFIRMED (``fee``, ``currency``) unless the payer has confirmed just this fee; None: they saw none."""
    if wanted_minor == (confirmed_minor or 0):
        return None
    shown = format_money(wanted_minor, asset)
    if confirmed_minor is None:
        message = (
            f"This payment costs a fee of {shown}, which has to be confirmed; nothing was paid. Pay in the wallet, or "
            f"with POST payments and fee {wanted_minor}."
        )
    else:
        message = (
            f"The fee is {shown} now and not {format_money(confirmed_minor, asset)}; nothing was paid. Look at it and "
            "confirm it anew."
        )
    return Refused(
        reason=Reason.FEE_NOT_CONFIRMED,
        message=message,
        fields=MappingProxyType({"fee": wanted_minor, "currency": asset.code}),
    )
