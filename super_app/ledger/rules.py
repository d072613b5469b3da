"""What may be posted, and how entries are chained. Pure: values in, decision out."""

import base64
import hashlib
import json
from typing import Final

from super_app.errors import Reason, Refused
from super_app.ledger.model import MAX_BALANCE_MINOR, AccountKey, AccountKind, Entry, Hold, Transfer
from super_app.money import Money

_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""A JSON list of strings and integers in this form is canonical JSON; no reordering is needed."""


def after(order: Transfer, debit_minor: int, credit_minor: int) -> tuple[int, int] | Refused:
    """The balances of the two accounts after ``order``, from those before it; or why it may not be posted."""
    debit_after = debit_minor - order.amount_minor
    credit_after = credit_minor + order.amount_minor
    # A debit only lowers a balance and a credit only raises one, so each can break one bound of two.
    if debit_after < 0 and order.debit.kind.sign > 0:
        return _insufficient(order.debit, debit_minor)
    if credit_after > 0 and order.credit.kind.sign < 0:
        return _insufficient(order.credit, -credit_minor)
    if debit_after < -MAX_BALANCE_MINOR:
        return _too_much(order.debit)
    if credit_after > MAX_BALANCE_MINOR:
        return _too_much(order.credit)
    return debit_after, credit_after


def differing_field(order: Transfer, stored: Transfer) -> str | None:
    """The first field in which a transfer differs from the one that stands under its id; None if it is the same."""
    if order == stored:
        return None
    for name in ("debit", "credit", "amount_minor", "cause", "reference"):
        if getattr(order, name) != getattr(stored, name):
            return name.removesuffix("_minor")
    raise ValueError(f"transfers {order.transfer_id} and {stored.transfer_id} are not two of one id")


def differing_hold_field(owner: str, money: Money, stored: Hold) -> str | None:
    if owner != stored.owner:
        return "owner"
    if money.currency != stored.money.currency:
        return "currency"
    return "amount" if money.amount_minor != stored.money.amount_minor else None


def conflict(what: str, field: str) -> Refused:
    return Refused(
        reason=Reason.CONFLICT,
        message=f"This {what} was already used with another {field}; what stands is unchanged. Use a new id.",
        fields={"field": field},
    )


def chained(previous: str, seq: int, order: Transfer, balances: tuple[int, int], posted_ms: int) -> Entry:
    """The entry of ``order`` at ``seq``, with the balances that it leaves on its debit and its credit account.

    Its hash is the unpadded base64url of a SHA-256 that ties it to the entry before (``""`` before the first one).
    """
    debit, credit = order.debit, order.credit
    text = _encode(
        (
            "superapp-entry-1",
            previous,
            seq,
            order.transfer_id,
            debit.currency,
            debit.owner,
            debit.kind,
            balances[0],
            credit.owner,
            credit.kind,
            balances[1],
            order.amount_minor,
            order.cause,
            order.reference,
            posted_ms,
        )
    )
    return Entry(
        seq=seq,
        transfer=order,
        debit_after_minor=balances[0],
        credit_after_minor=balances[1],
        posted_ms=posted_ms,
        entry_hash=base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())[:43].decode("ascii"),
    )


def is_linked(entry: Entry, previous: str) -> bool:
    """Whether the hash of ``entry`` follows from its content and from the hash before it."""
    balances = (entry.debit_after_minor, entry.credit_after_minor)
    return entry == chained(previous, entry.seq, entry.transfer, balances, entry.posted_ms)


def _insufficient(key: AccountKey, there_is_minor: int) -> Refused:
    what = "" if key.kind is AccountKind.AVAILABLE else f" in {key.kind.value}"
    return Refused(
        reason=Reason.INSUFFICIENT_FUNDS,
        message=f"There is not enough money{what}: {there_is_minor} minor units of {key.currency} are available.",
        fields={"available": there_is_minor, "currency": key.currency},
    )


def _too_much(key: AccountKey) -> Refused:
    return Refused(
        reason=Reason.LIMIT_EXCEEDED,
        message=(
            f"An account holds at most {MAX_BALANCE_MINOR} minor units of {key.currency}; "
            "move some of it away first, or send less."
        ),
        fields={"limit": MAX_BALANCE_MINOR, "currency": key.currency},
    )
