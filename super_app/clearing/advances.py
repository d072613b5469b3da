"""Giving money back while a peer is gone: the operator's own decision, at the operator's own risk.

A payment to a peer that does not answer cannot be ended by us alone: a COMMIT binds until the peer says otherwise, and
before the peer has answered nothing is signed at all. What an operator can do is to advance the amount to the payer
from ``suspense``. The payment itself goes on as if nothing had happened. If it comes to nothing, what comes back goes
to ``suspense``; if it is credited after all, ``suspense`` keeps the loss.
"""

from super_app.clearing import store
from super_app.clearing.model import OutPayment
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ledger import service as ledger
from super_app.ledger.model import (
    AccountKey,
    AccountKind,
    Cause,
    Deed,
    Entry,
    Transfer,
    TransferId,
    available,
    house,
)


def advance(cur: Cursor, payment: OutPayment, *, reason: str, operator: str, now_ms: int) -> Entry | Refused:
    """Give the payer the amount of a payment that has not ended. Again changes nothing.

    Refusals: ALREADY_DECIDED for a payment that has ended, UNKNOWN_PAYMENT for one without a payer, and those of the
    ledger.
    """
    if not payment.payer:
        return Refused(
            reason=Reason.UNKNOWN_PAYMENT,
            message="Whose payment this was is lost with the database that was restored, so there is nobody to give it"
            " back to; once you know, issue them the money with that reference.",
        )
    if not store.is_advanced(cur, payment.link_id, payment.terms.wire_id):
        if payment.state.is_final:
            return Refused(
                reason=Reason.ALREADY_DECIDED,
                message=f"This payment has ended ({payment.state}); there is nothing to give back.",
                fields={"state": payment.state.value},
            )
        store.add_advance(cur, payment.link_id, payment.terms.wire_id, now_ms)
    return ledger.by_operator(
        cur,
        _transfer(payment, Cause.ADVANCE),
        Deed.ADVANCE,
        owner=payment.payer,
        reason=reason,
        operator=operator,
        now_ms=now_ms,
    )


def source_of(cur: Cursor, payment: OutPayment) -> AccountKey | None:
    """Where what comes back of a payment belongs: to ``suspense`` if it was advanced; None: to its payer."""
    advanced = store.is_advanced(cur, payment.link_id, payment.terms.wire_id)
    return house(AccountKind.SUSPENSE, payment.terms.currency) if advanced else None


def take_back(cur: Cursor, payment: OutPayment, now_ms: int) -> None:
    """The hold of a payment has just been let go: what was advanced on it goes back to ``suspense``."""
    if source_of(cur, payment) is None:
        return
    posted = ledger.transfer(cur, _transfer(payment, Cause.ADVANCE_BACK), now_ms)
    if isinstance(posted, Refused):
        raise RuntimeError(f"what a hold has just given back is not there: {posted.message}")


def _transfer(payment: OutPayment, cause: Cause) -> Transfer:
    terms = payment.terms
    suspense, payer = house(AccountKind.SUSPENSE, terms.currency), available(payment.payer, terms.currency)
    debit, credit = (suspense, payer) if cause is Cause.ADVANCE else (payer, suspense)
    return Transfer(
        transfer_id=TransferId(f"{cause}:{payment.link_id}:{terms.wire_id}"),
        debit=debit,
        credit=credit,
        amount_minor=terms.amount_minor,
        cause=cause,
        reference=terms.wire_id,
    )
