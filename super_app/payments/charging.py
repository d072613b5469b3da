"""The money of fees: what lies in the hold of one becomes the house's with the payment, or goes back with it.

Each function runs in the transaction in which the payment ends, so that both stand or neither does.
"""

from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct
from super_app.ledger import service as ledger
from super_app.ledger.model import AccountKind, Cause, Hold, Posted, Transfer, TransferId, available, house
from super_app.payments import store
from super_app.payments.fees import hold_of_fee
from super_app.payments.model import Payment, State


def end_fee(cur: Cursor, payment: Payment, now_ms: int) -> None:
    """The fee of a payment that has ended: the house's if it was completed, the payer's again if not."""
    hold_id = hold_of_fee(payment.hold_id)
    done: Posted | Hold | Refused
    if payment.state is State.COMPLETED:
        to = house(AccountKind.FEES, payment.money.currency)
        done = ledger.post_hold(cur, hold_id, credit=to, cause=Cause.FEE, reference=payment.hold_id, now_ms=now_ms)
        if isinstance(done, Refused) and done.reason is Reason.ACCOUNT_FROZEN:
            # The payment had been committed before the freeze, which lets go what gives back and takes nothing.
            done = ledger.void_hold(cur, hold_id, now_ms)
            store.waive_fee(cur, payment.key)
    else:
        done = ledger.void_hold(cur, hold_id, now_ms)
    if isinstance(done, Refused):
        raise RuntimeError(f"the fee of {payment.key} ({payment.state}) does not move: {done.message}")


def follow_restored(cur: Cursor, before: Payment, after: Payment, now_ms: int) -> None:
    """A restored database believed ``before``, and the other homeserver has shown that it is ``after``.

    A fee that had been decided otherwise is let go: given back where it was taken, and not asked for a second time.
    """
    if not after.fee_minor or before.state is after.state:
        return
    if not before.state.final:
        if after.state.final:
            end_fee(cur, after, now_ms)
        return
    if (before.state is State.COMPLETED) == (after.state is State.COMPLETED) and after.state.final:
        return
    payer = after.payer_acct
    if before.state is State.COMPLETED and payer is not None:
        # What the house has paid out meanwhile it still owes: suspense has what a restore could not fund.
        sources = (AccountKind.FEES, AccountKind.SUSPENSE)
        if not any(_given_back(cur, after, payer, source, now_ms) for source in sources):
            return
    store.waive_fee(cur, after.key)


def _given_back(cur: Cursor, payment: Payment, payer: Acct, source: AccountKind, now_ms: int) -> bool:
    currency = payment.money.currency
    back = Transfer(
        transfer_id=TransferId(f"undo:{hold_of_fee(payment.hold_id)}"),
        debit=house(source, currency),
        credit=available(payer, currency),
        amount_minor=payment.fee_minor,
        cause=Cause.UNDO,
        reference=payment.hold_id,
    )
    return not isinstance(ledger.transfer(cur, back, now_ms), Refused)
