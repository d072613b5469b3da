"""Payments that a restored database has forgotten, or believes elsewhere than they are.

Clearing has moved the money already, by what it had signed; here the rows follow. No receipt is owed for any of it: the
rooms got theirs before the restore, or the other homeserver posts one that is missing.
"""

from dataclasses import replace
from typing import Final

from super_app.accounts import store as accounts
from super_app.clearing.model import OutState
from super_app.clearing.ports import Incoming
from super_app.clearing.ports import Order as ClearingOrder
from super_app.db import Cursor
from super_app.errors import Reason
from super_app.ids import Acct
from super_app.payments import store
from super_app.payments.charging import follow_restored
from super_app.payments.model import Order, PayerKey, Payment, PaymentKey, Salts, State, Venue, end_of
from super_app.payments.ports import Changes
from super_app.signing import digest

_SALT_CHARACTERS: Final = 32
_STATES: Final = {OutState.COMMITTED: State.COMMITTED, OutState.COMPLETED: State.COMPLETED}


def received_before(cur: Cursor, incoming: Incoming, payee: Acct, now_ms: int) -> Payment | None:
    """The row of a payment that was accepted here before; a new one if there is none, None if it is another's."""
    key = PaymentKey(payer_key=PayerKey(incoming.payer.user_id), payment_id=incoming.payment_id)
    known = store.find(cur, key)
    if known is not None:
        return known if known.wire_id == incoming.wire_id else None
    payment = Payment(
        payer_key=key.payer_key,
        payment_id=incoming.payment_id,
        payer=incoming.payer.user_id,
        payer_acct=None,
        payee=incoming.payee,
        payee_acct=payee,
        money=incoming.money,
        memo=incoming.memo,
        request=None,
        refund_of=incoming.refund_of,
        invoice=None,
        order_hash=None,
        salts=None,
        wire_id=incoming.wire_id,
        room_id=incoming.room_id,
        event_id=incoming.event_id,
        venue=Venue.OPEN,
        payee_joined=False,
        position=0,
        state=State.HELD,
        reason=None,
        answered=False,
        created_ms=now_ms,
        due_ms=None,
        signed=None,
    )
    store.add(cur, payment)
    return payment


def received(
    cur: Cursor, incoming: Incoming, reason: Reason | None, signed: dict[str, object] | None, changes: Changes
) -> None:
    """A payment to somebody here has ended; ``reason`` says why without credit."""
    key = PaymentKey(payer_key=PayerKey(incoming.payer.user_id), payment_id=incoming.payment_id)
    payment = store.find(cur, key)
    # What was never accepted was never written down.
    if payment is not None and payment.wire_id == incoming.wire_id:
        state = State.COMPLETED if reason is None else end_of(reason)
        _put(cur, payment, replace(payment, state=state, reason=reason, due_ms=None, signed=signed), changes)


def sent(
    cur: Cursor,
    order: ClearingOrder,
    outcome: OutState,
    reason: Reason | None,
    signed: dict[str, object] | None,
    changes: Changes,
    now_ms: int,
) -> None:
    """A payment of somebody here was decided."""
    payer = Acct(order.payer.acct)
    state = _STATES.get(outcome)
    if state is None:
        state = State.FAILED if outcome is OutState.VOIDED or reason is None else end_of(reason)
    payment = store.find(cur, PaymentKey(payer_key=PayerKey(payer), payment_id=order.payment_id))
    if payment is not None:
        # By the salt of its wire id: after the restore the payer may have used the payment id for another order.
        if payment.salts is not None and payment.salts.wire == order.wire_salt:
            after = replace(payment, state=state, reason=reason, due_ms=None, signed=signed)
            _put(cur, payment, after, changes)
            follow_restored(cur, payment, after, now_ms)
    elif accounts.by_acct(cur, payer) is not None:
        missing = replace(_ordered(order, payer, now_ms), state=state, reason=reason, signed=signed)
        store.add(cur, missing)
        changes.payment_changed(missing)


def _put(cur: Cursor, before: Payment, after: Payment, changes: Changes) -> None:
    if (before.state, before.reason) == (after.state, after.reason):
        return
    if not store.advance(cur, before, after):
        raise RuntimeError(f"{before.key} moved inside the transaction of the one writer")
    changes.payment_changed(after)


def _ordered(order: ClearingOrder, payer: Acct, now_ms: int) -> Payment:
    """The order as far as its opening tells it; what only the room knew is gone."""
    copy = Order(
        payment_id=order.payment_id,
        payer_acct=payer,
        payer=order.payer.user_id,
        payee=order.payee,
        money=order.money,
        memo=order.memo,
        refund_of=order.refund_of,
    )
    room_salt = digest(["room", order.wire_salt])[:_SALT_CHARACTERS]
    return Payment(
        payer_key=PayerKey(payer),
        payment_id=order.payment_id,
        payer=order.payer.user_id,
        payer_acct=payer,
        payee=order.payee,
        payee_acct=None,
        money=order.money,
        memo=order.memo,
        request=None,
        refund_of=order.refund_of,
        invoice=None,
        order_hash=copy.order_hash(),
        salts=Salts(wire=order.wire_salt, parties=order.salts, room=room_salt),
        wire_id=None,
        room_id=order.room_id,
        event_id=order.event_id,
        venue=Venue.OPEN,
        payee_joined=False,
        position=0,
        state=State.HELD,
        reason=None,
        answered=False,
        created_ms=now_ms,
        due_ms=None,
        signed=None,
    )
