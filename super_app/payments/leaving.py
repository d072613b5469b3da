"""Carries out the operator's rule for the money of deactivated accounts, by entries that the rest of the books explain.

It touches what is available only: what is under way, or put aside for others, ends as it would have, and what comes
back of it is the rule's the next time. Each runs in a transaction of the one ledger writer. A replay changes nothing,
since what has been taken is no longer there to take.
"""

from typing import Final

from super_app.db import Cursor
from super_app.errors import Refused
from super_app.ids import Acct
from super_app.ledger import operators, service
from super_app.ledger import store as ledger
from super_app.ledger.model import AccountKey, AccountKind, Cause, Deed, Entry, Transfer, TransferId, available
from super_app.money import Money
from super_app.payments import leaver_store
from super_app.payments.leavers import LeaverRule, LeftMoney, Then, due_ms

RULE: Final = "payments.deactivated"
"""Who acts, as the operators' log has it: the key of the config."""


def apply(cur: Cursor, acct: Acct, rule: LeaverRule, now_ms: int) -> tuple[Entry, ...]:
    """What the rule makes of one account now; nothing where it is not due, is frozen or came back meanwhile."""
    left_ms = leaver_store.left_ms(cur, acct)
    due = None if left_ms is None else due_ms(rule, left_ms)
    if due is None or now_ms < due or operators.freeze_of(cur, acct).since_ms is not None:
        return ()
    ledger.lock(cur)
    take = _burn if rule.then is Then.BURN else _put_by
    return tuple(
        _posted(take(cur, acct, money, now_ms))
        for money in leaver_store.money_of(cur, acct)
        if money.kind is AccountKind.AVAILABLE
    )


def come_back(cur: Cursor, acct: Acct, now_ms: int) -> tuple[Entry, ...]:
    """Their account is in use again: what was put by for them is theirs to pay with."""
    ledger.lock(cur)
    leaver_store.forget(cur, acct)
    return tuple(
        _posted(_give_back(cur, acct, money, now_ms))
        for money in leaver_store.money_of(cur, acct)
        if money.kind is AccountKind.CLAIM
    )


def _burn(cur: Cursor, acct: Acct, money: LeftMoney, now_ms: int) -> Entry | Refused:
    burnt = Money(currency=money.currency, amount_minor=money.amount_minor)
    return operators.burn(cur, acct, burnt, reference=_reference(acct, money, now_ms), operator=RULE, now_ms=now_ms)


def _put_by(cur: Cursor, acct: Acct, money: LeftMoney, now_ms: int) -> Entry | Refused:
    return _move(cur, acct, money, Cause.CLAIM, now_ms)


def _give_back(cur: Cursor, acct: Acct, money: LeftMoney, now_ms: int) -> Entry | Refused:
    return _move(cur, acct, money, Cause.CLAIM_BACK, now_ms)


def _move(cur: Cursor, acct: Acct, money: LeftMoney, cause: Cause, now_ms: int) -> Entry | Refused:
    own = available(acct, money.currency)
    put_by = AccountKey(owner=acct, currency=money.currency, kind=AccountKind.CLAIM)
    back = cause is Cause.CLAIM_BACK
    reference = _reference(acct, money, now_ms)
    order = Transfer(
        transfer_id=TransferId(f"{cause.value}:{reference}"),
        debit=put_by if back else own,
        credit=own if back else put_by,
        amount_minor=money.amount_minor,
        cause=cause,
        reference=reference,
    )
    deed = Deed.CLAIM_BACK if back else Deed.CLAIM
    return service.by_operator(cur, order, deed, owner=acct, reason=RULE, operator=RULE, now_ms=now_ms)


def _reference(acct: Acct, money: LeftMoney, now_ms: int) -> str:
    """The time tells apart what the rule takes at once from what a refund brings later."""
    return f"left:{acct}:{money.currency}:{now_ms}"


def _posted(entry: Entry | Refused) -> Entry:
    if isinstance(entry, Refused):
        # All of it was there when this transaction locked the books.
        raise RuntimeError(f"the rule for deactivated accounts was refused: {entry.reason.value}")
    return entry
