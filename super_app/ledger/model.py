"""Accounts, transfers, holds and entries of the ledger.

A balance is credits minus debits. A transfer debits one account (its balance falls) and credits another (it rises) by
the same amount, so entries sum to zero per currency by construction (I1). What the homeserver owes to people and
peers is positive; ``issued`` and ``due_from`` stand against it and are negative or zero.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NewType

from super_app.ids import Acct, ServerName
from super_app.money import AssetCode, Money

TransferId = NewType("TransferId", str)
"""Idempotency key of a transfer, unique in the whole ledger: ``<cause>:<whatever makes it unique>``."""
HoldId = NewType("HoldId", str)
"""Idempotency key of a hold; for a payment ``<acct of the payer>:<payment id>``."""

HOUSE: Final = "house"


class AccountKind(StrEnum):
    """What an account is for. ``sign`` says which balances it may have."""

    AVAILABLE = "available"
    HELD = "held"
    ISSUED = "issued"
    FEES = "fees"
    DUE_TO = "due_to"  # owner is the peer: what we owe it
    DUE_FROM = "due_from"  # owner is the peer: what it owes us, as a negative balance
    IN_TRANSIT = "in_transit"
    SUSPENSE = "suspense"

    @property
    def sign(self) -> int:
        """+1 where the balance is never negative, -1 where it is never positive."""
        return -1 if self in (AccountKind.ISSUED, AccountKind.DUE_FROM) else 1


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class AccountKey:
    """One account. ``owner`` is an acct, ``HOUSE``, or for what is between homeservers the peer's server name."""

    owner: str
    currency: AssetCode
    kind: AccountKind


def available(acct: Acct, currency: AssetCode) -> AccountKey:
    return AccountKey(owner=acct, currency=currency, kind=AccountKind.AVAILABLE)


def held(acct: Acct, currency: AssetCode) -> AccountKey:
    return AccountKey(owner=acct, currency=currency, kind=AccountKind.HELD)


def house(kind: AccountKind, currency: AssetCode) -> AccountKey:
    return AccountKey(owner=HOUSE, currency=currency, kind=kind)


def due_to(peer: ServerName, currency: AssetCode) -> AccountKey:
    return AccountKey(owner=peer, currency=currency, kind=AccountKind.DUE_TO)


def due_from(peer: ServerName, currency: AssetCode) -> AccountKey:
    return AccountKey(owner=peer, currency=currency, kind=AccountKind.DUE_FROM)


class Cause(StrEnum):
    """Why money moved. ``reference`` of the transfer says which one."""

    ISSUE = "issue"
    HOLD = "hold"
    VOID = "void"
    PAYMENT = "payment"
    COMMIT = "commit"  # held -> due_to:peer
    CREDIT = "credit"  # due_from:peer -> available
    UNDO = "undo"  # due_to:peer -> available, on RECEIPT(void)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Move ``amount_minor`` (1 to 2**53 - 1) from ``debit`` to ``credit``, two accounts of one currency."""

    transfer_id: TransferId
    debit: AccountKey
    credit: AccountKey
    amount_minor: int
    cause: Cause
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """A transfer that stands. ``replayed`` when the same one had been posted before and nothing changed now."""

    transfer: Transfer
    posted_ms: int
    replayed: bool


class HoldState(StrEnum):
    OPEN = "open"
    POSTED = "posted"
    VOIDED = "voided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Money of one owner set aside. ``money`` is what was set aside; it leaves as a whole, one way."""

    hold_id: HoldId
    owner: Acct
    money: Money
    state: HoldState


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What one owner has of one currency, in minor units."""

    currency: AssetCode
    available_minor: int
    held_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """An invariant that does not hold: which, where, and by how many minor units (or objects)."""

    invariant: str
    where: str
    off_by: int
