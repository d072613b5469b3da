"""A deposit as the homeserver of whom it was put down for keeps it. To its payer it is a payment and its refund."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from super_app.ids import Acct, PaymentId, UserId
from super_app.money import Money

DAY_MS: Final = 86_400_000
DAYS: Final = 7
"""After so long without an answer a deposit goes back by itself, if the person has set nothing else."""
DAYS_MAX: Final = 30
EXPECTED_MS: Final = 600_000
"""How long a deposit that was announced is let in whatever the person has set for payments of strangers."""
RETRY_MS: Final = 3_600_000
INVOICE_PREFIX: Final = "deposit:"
BACK_PREFIX: Final = "deposit_back:"


class DepositState(StrEnum):
    EXPECTED = "expected"  # announced; the payment has not come yet
    OPEN = "open"  # lies aside and waits for an answer
    DUE = "due"  # to be given back, once that is possible; lies aside
    RETURNING = "returning"  # its refund is on its way
    RETURNED = "returned"
    KEPT = "kept"

    @property
    def lies_aside(self) -> bool:
        return self in (DepositState.OPEN, DepositState.DUE)


class Cue(StrEnum):
    """Why a deposit was decided."""

    ANSWER = "answer"  # a word in the room of the two, or a call that was taken
    ACCEPT = "accept"
    TIME = "time"
    SPAM = "spam"
    GONE = "gone"  # nobody is there any more to give it back to


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class DepositKey:
    payer: UserId
    payment_id: PaymentId


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """``tries`` counts its refunds, whose ids follow from it."""

    payer: UserId
    payment_id: PaymentId
    acct: Acct
    recipient: UserId
    money: Money
    state: DepositState
    cue: Cue | None
    made_ms: int
    until_ms: int
    tries: int
    retry_ms: int | None

    @property
    def key(self) -> DepositKey:
        return DepositKey(payer=self.payer, payment_id=self.payment_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a person asks of strangers. ``spam_to`` is whom a deposit goes to that is kept; None: themselves."""

    deposit: Money
    days: int = DAYS
    spam_to: UserId | None = None
    shared_rooms: bool = False
    """Whether people with whom they are in some room need not put anything down."""
