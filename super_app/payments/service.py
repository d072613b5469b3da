"""The operations of payments. Each runs inside the caller's transaction, which the ledger's writer opened.

The writer does one thing after the other, so what is read here cannot change before it is written. A refusal has
written nothing. Money between homeservers is moved by clearing, which this service hands orders to (``Clears``) and
hears from (it is clearing's ``Payee`` and ``Payer``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from super_app.accounts import store as accounts
from super_app.accounts.model import Genesis
from super_app.clearing.model import OutState
from super_app.clearing.ports import Accept, Ask, Incoming, Party, WireId
from super_app.clearing.ports import Order as ClearingOrder
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct, EventId, Handle, PaymentId, RoomId, ServerName, UserId, localpart_of, server_of
from super_app.ledger import operators
from super_app.ledger import service as ledger
from super_app.ledger.model import Cause, Hold, Posted, Transfer, Violation, available
from super_app.money import Asset, AssetCode, Money
from super_app.payments import restored, rules, store
from super_app.payments.charging import end_fee
from super_app.payments.fees import Fee, fee_minor, hold_of_fee, judge_confirmed
from super_app.payments.model import (
    ACCEPTANCE_MS,
    LINK_PATIENCE_MS,
    NO_EVENT,
    UNBOUND_HOLD_MS,
    Acceptance,
    Order,
    Page,
    PayerKey,
    Payment,
    PaymentKey,
    Placement,
    Policy,
    PolicyFrom,
    Receipt,
    Salts,
    State,
    Venue,
    end_of,
)
from super_app.payments.ports import Changes, Clears, Guards, Homeserver, Pots, Requests, Reviews
from super_app.signing import digest

MAX_PAGE: Final = 100
_NONCE_CHARACTERS: Final = 32


class Payments:
    """Payments of one homeserver."""

    def __init__(
        self,
        *,
        server_name: ServerName,
        assets: Mapping[AssetCode, Asset],
        homeserver: Homeserver,
        guards: Guards,
        changes: Changes,
        fees: Sequence[Fee] = (),
    ) -> None:
        self._fees = tuple(fees)
        self._server_name = server_name
        self._assets = assets
        self._homeserver = homeserver
        self._guards = guards
        self._changes = changes
        self._clears: Clears | None = None
        self._requests: Requests | None = None
        self._reviews: Reviews | None = None
        self._pots: list[Pots] = []

    def answer_requests(self, requests: Requests) -> None:
        """Connect requests, which stand on payments themselves. Without it a request is a reference like any other."""
        self._requests = requests

    def pay_out_of(self, pots: Pots) -> None:
        """Connect what pays out money put aside: pots, and others that stand on payments themselves."""
        self._pots.append(pots)

    def review_by(self, reviews: Reviews) -> None:
        """Connect reviews, which stand on payments themselves. Without it nothing waits for an operator."""
        self._reviews = reviews

    def clear_through(self, clearing: Clears) -> None:
        """Connect clearing, which needs this service itself. Once, before anything else is asked."""
        self._clears = clearing

    @property
    def _clearing(self) -> Clears:
        if self._clears is None:
            raise RuntimeError("payments are asked before clear_through() was called")
        return self._clears

    # The payer.

    def can_reach(self, cur: Cursor, server: ServerName, money: Money) -> Refused | None:
        """Whether payees on another homeserver can be paid at all: NO_LINK, LINK_HALTED, … or None."""
        return self._clearing.can_pay(cur, server, money)

    def place(
        self, cur: Cursor, order: Order, placement: Placement, salts: Salts, now_ms: int, *, proven: bool = False
    ) -> Payment | Refused:
        """Set the money of an order aside. The same order again gives the payment as it is; another is CONFLICT.

        ``proven`` says that the payer's PIN came with it and was right.

        Refusals, in this order: CONFLICT, PAYMENT_ID_SPENT, PAYMENTS_HALTED, UNKNOWN_PAYEE, PAYEE_MOVED, PAYEE_GONE,
        ACCOUNT_FROZEN (the payee's), NOT_ALLOWED, what clearing refuses (NO_LINK, …), UNKNOWN_PAYMENT and
        REFUND_EXCEEDS_PAYMENT of a refund, FEE_NOT_CONFIRMED, ACCOUNT_FROZEN (the payer's), INSUFFICIENT_FUNDS,
        PAYEE_LIMIT, WALLET_LOCKED, LIMIT_EXCEEDED, PIN_NOT_SET, PIN_REQUIRED.
        """
        key = PaymentKey(payer_key=PayerKey(order.payer_acct), payment_id=order.payment_id)
        existing = store.find(cur, key)
        if existing is not None:
            return rules.judge_replay(existing, order) or existing
        if self._homeserver.payments_are_halted():
            return payments_halted()
        payee_acct: Acct | None = None
        if order.payee_server == self._server_name:
            payee_acct = Acct(order.payee.acct)
            refused = self._judge_local_payee(cur, order, payee_acct)
        else:
            refused = self._clearing.can_pay(cur, order.payee_server, order.money)
        refused = refused or self._judge_refund(cur, order.payer, order.payee.user_id, order.refund_of, order.money)
        if refused is None and self._requests is not None:
            refused = self._requests.judge(cur, order, placement.venue, now_ms)
        costs_minor = self.fee_minor(order)
        refused = refused or judge_confirmed(costs_minor, order.fee_minor, self._assets[order.money.currency])
        if refused is not None:
            return refused
        guarded = self._guarded(cur, order, payee_acct, proven=proven, now_ms=now_ms)
        if guarded is not None or costs_minor:
            # Whether there is money is said first: who has none need not look for a PIN.
            whole = replace(order.money, amount_minor=order.money.amount_minor + costs_minor)
            refused = ledger.judge_hold(cur, order.payer_acct, whole) or guarded
            if refused is not None:
                return refused
        hold = ledger.place_hold(cur, order.hold_id, order.payer_acct, order.money, now_ms)
        if isinstance(hold, Refused):
            return hold
        if costs_minor:
            cost = replace(order.money, amount_minor=costs_minor)
            fee_hold = ledger.place_hold(cur, hold_of_fee(order.hold_id), order.payer_acct, cost, now_ms)
            if isinstance(fee_hold, Refused):
                raise RuntimeError(f"the fee of {order.hold_id} was there a moment ago: {fee_hold.message}")
        payment = Payment(
            payer_key=key.payer_key,
            payment_id=order.payment_id,
            payer=order.payer,
            payer_acct=order.payer_acct,
            payee=order.payee,
            payee_acct=payee_acct,
            money=order.money,
            memo=order.memo,
            request=order.request,
            refund_of=order.refund_of,
            invoice=order.invoice,
            order_hash=order.order_hash(),
            salts=salts,
            wire_id=None,
            room_id=placement.room_id,
            event_id=None,
            venue=placement.venue,
            payee_joined=placement.payee_joined,
            position=placement.position,
            state=State.HELD,
            reason=None,
            answered=False,
            created_ms=now_ms,
            due_ms=now_ms + UNBOUND_HOLD_MS,
            signed=None,
            fee_minor=costs_minor,
        )
        store.add(cur, payment)
        self._changed(cur, payment, now_ms)
        return payment

    def fee_minor(self, order: Order) -> int:
        """What an order costs its payer besides the amount. What goes back to whom it came from costs nothing."""
        if order.refund_of is not None:
            return 0
        return fee_minor(self._fees, order.money, here=order.payee_server == self._server_name)

    def judge_payout(self, cur: Cursor, order: Order, now_ms: int) -> Refused | None:
        """What stands against paying somebody who has claimed it, apart from the money itself.

        The payer has proven themselves and was held to their limits when they put it aside; the payee asks for it, so
        their policy is not asked. Refusals: CONFLICT, PAYMENTS_HALTED, UNKNOWN_PAYEE, PAYEE_GONE, ACCOUNT_FROZEN (of
        either), NOT_ALLOWED, PAYEE_LIMIT, what clearing refuses (NO_LINK, …).
        """
        if store.find(cur, PaymentKey(payer_key=PayerKey(order.payer_acct), payment_id=order.payment_id)) is not None:
            return Refused(
                reason=Reason.CONFLICT,
                message=f"{order.payer} has used payment_id {order.payment_id} already; claim with a new one.",
            )
        if self._homeserver.payments_are_halted():
            return payments_halted()
        refused = operators.judge_payer(cur, order.payer_acct)
        if refused is not None:
            return refused
        if self._reviews is not None and self._reviews.judge_claim(cur, order):
            return Refused(
                reason=Reason.NOT_ALLOWED,
                message="This cannot be claimed; the operator of the homeserver of who gave it can say more.",
            )
        if order.payee_server != self._server_name:
            return self._clearing.can_pay(cur, order.payee_server, order.money)
        resident = self._homeserver.resident(cur, order.payee.user_id)
        if resident is None:
            return _unknown_payee(order.payee.user_id)
        if resident.deactivated:
            return payee_gone(order.payee.user_id)
        payee = Acct(order.payee.acct)
        return operators.judge_payee(cur, payee) or self._guards.judge_receiving(cur, payee, order.money, now_ms)

    def pay_out(self, cur: Cursor, order: Order, freed: Transfer | None, salts: Salts, now_ms: int) -> Payment:
        """Pay somebody, whom ``judge_payout`` let pass, what ``freed`` gives back to the payer, or what they have.

        No room event carries it. The payment that comes of it may have ended already, with success or without.
        """
        posted = None if freed is None else ledger.transfer(cur, freed, now_ms)
        hold = (
            posted
            if isinstance(posted, Refused)
            else ledger.place_hold(cur, order.hold_id, order.payer_acct, order.money, now_ms)
        )
        if isinstance(hold, Refused):
            raise RuntimeError(f"what was put aside for {order.hold_id} does not move: {hold.message}")
        payee_acct = Acct(order.payee.acct) if order.payee_server == self._server_name else None
        payment = Payment(
            payer_key=PayerKey(order.payer_acct),
            payment_id=order.payment_id,
            payer=order.payer,
            payer_acct=order.payer_acct,
            payee=order.payee,
            payee_acct=payee_acct,
            money=order.money,
            memo=order.memo,
            request=None,
            refund_of=order.refund_of,
            invoice=order.invoice,
            order_hash=order.order_hash(),
            salts=salts,
            wire_id=None,
            room_id=None,
            event_id=None,
            venue=Venue.OPEN,
            payee_joined=False,
            position=NO_EVENT,
            state=State.HELD,
            reason=None,
            answered=False,
            created_ms=now_ms,
            due_ms=None,
            signed=None,
        )
        store.add(cur, payment)
        self._changed(cur, payment, now_ms)
        if payee_acct is not None:
            return self._credit(cur, payment, payment, payee_acct, now_ms)
        return self._offer(cur, payment, now_ms) or self._again(cur, payment.key)

    def move(self, cur: Cursor, key: PaymentKey, placement: Placement) -> Payment | Refused:
        """Say where the event of a placed order is about to be sent, once that is known."""
        payment = store.find(cur, key)
        if payment is None:
            return unknown_payment(key.payment_id)
        if payment.is_bound or payment.state.final:
            return payment
        return self._advance(
            cur,
            payment,
            replace(
                payment,
                room_id=placement.room_id,
                venue=placement.venue,
                payee_joined=placement.payee_joined,
                position=placement.position,
            ),
            0,
        )

    def bind(self, cur: Cursor, key: PaymentKey, room_id: RoomId, event_id: EventId, now_ms: int) -> Payment | None:
        """An event of this order stands in a room: the first one carries the payment on, later ones change nothing.

        None where no open hold of ours waits for it.
        """
        payment = store.find(cur, key)
        if payment is None or payment.payer_acct is None or payment.is_bound or payment.state is not State.HELD:
            return None
        bound = replace(payment, room_id=room_id, event_id=event_id, due_ms=None)
        if self._reviews is not None and self._reviews.wants(cur, bound, now_ms):
            # Its money stays set aside until the operator has looked at it, or the payer takes it back.
            return self._advance(cur, payment, bound, now_ms)
        if payment.payee_acct is not None:
            return self._carry_to_resident(cur, payment, bound, payment.payee_acct, now_ms)
        # Clearing may call back at once, and then finds the payment bound.
        self._advance(cur, payment, bound, now_ms)
        return self._offer(cur, bound, now_ms)

    def offer_again(self, cur: Cursor, key: PaymentKey, now_ms: int) -> Payment | None:
        """Offer a payment whose link was not ready when its event came. None if it no longer waits for that."""
        payment = store.find(cur, key)
        if payment is None or not payment.waits_for_link:
            return None
        # Clearing may call back at once, and then finds that nothing waits any more.
        waiting = self._advance(cur, payment, replace(payment, due_ms=None), now_ms)
        return self._offer(cur, waiting, now_ms)

    def cancel(self, cur: Cursor, payer: Acct, payment_id: PaymentId, now_ms: int) -> Payment | Refused:
        """The payer takes it back. ALREADY_DECIDED once it is committed."""
        key = PaymentKey(payer_key=PayerKey(payer), payment_id=payment_id)
        payment = store.find(cur, key)
        if payment is None:
            return unknown_payment(payment_id)
        move = rules.judge_cancel(payment)
        if isinstance(move, Refused):
            return move
        if move is rules.Move.NOTHING:
            return payment
        waits = payment.waits_for_link or (self._reviews is not None and self._reviews.waits(cur, key))
        if payment.payee_acct is not None or not payment.is_bound or waits:
            if self._may_be_sent(cur, payment):
                refused = self._clearing.can_pay(cur, server_of(payment.payee.user_id), payment.money)
                return refused or payment
            return self._give_back(cur, payment, State.CANCELLED, Reason.CANCELLED, now_ms)
        refused = self._clearing.cancel(cur, payer, payment_id, Reason.CANCELLED, now_ms)
        return refused or self._again(cur, key)

    def reviewed(self, cur: Cursor, key: PaymentKey, *, released: bool, now_ms: int) -> Payment | None:
        """The operator has looked at a payment that waited for that. None if the payer took it back meanwhile."""
        payment = store.find(cur, key)
        if payment is None or payment.payer_acct is None or not payment.is_bound or payment.state is not State.HELD:
            return None
        if not released:
            return self._give_back(cur, payment, State.FAILED, Reason.NOT_ALLOWED, now_ms)
        if payment.payee_acct is not None:
            return self._carry_to_resident(cur, payment, payment, payment.payee_acct, now_ms)
        return self._offer(cur, payment, now_ms)

    def release(self, cur: Cursor, key: PaymentKey, now_ms: int) -> Payment | None:
        """Give back the money of an order whose event never came to exist. Its id is spent. None if it does exist."""
        payment = store.find(cur, key)
        if payment is None or payment.is_bound or payment.state is not State.HELD:
            return None
        if self._may_be_sent(cur, payment):
            return None
        return self._give_back(cur, payment, State.EXPIRED, Reason.EXPIRED, now_ms)

    # The payee.

    def accept(self, cur: Cursor, payee: Acct, payment: Payment, now_ms: int) -> Payment | Refused:
        """The payee says yes. ``payment`` is one of theirs, as this transaction read it."""
        move = rules.judge_accept(payment, now_ms)
        if isinstance(move, Refused):
            return move
        if move is rules.Move.NOTHING:
            return payment
        if self._homeserver.payments_are_halted():
            return payments_halted()
        frozen = operators.judge_payee(cur, payee)
        if frozen is not None:
            return frozen
        if payment.payer_acct is not None:
            return self._credit(cur, payment, payment, payee, now_ms)
        refused = self._clearing.accept(cur, server_of(payment.payer), _wire_id(payment), now_ms)
        return refused or self._advance(cur, payment, replace(payment, answered=True, due_ms=None), now_ms)

    def decline(self, cur: Cursor, payment: Payment, now_ms: int) -> Payment | Refused:
        """The payee says no and the money goes back."""
        move = rules.judge_decline(payment, now_ms)
        if isinstance(move, Refused):
            return move
        if move is rules.Move.NOTHING:
            return payment
        if payment.payer_acct is not None:
            return self._give_back(cur, payment, State.DECLINED, Reason.DECLINED, now_ms)
        refused = self._clearing.refuse(cur, server_of(payment.payer), _wire_id(payment), Reason.DECLINED, now_ms)
        return refused or self._advance(
            cur, payment, replace(payment, state=State.DECLINED, reason=Reason.DECLINED, due_ms=None), now_ms
        )

    def expire(self, cur: Cursor, key: PaymentKey, now_ms: int) -> Payment | None:
        """A payee of ours did not answer in time: the money goes back. None if there is nothing to do."""
        payment = store.find(cur, key)
        if payment is None or payment.state is not State.AWAITING_ACCEPTANCE:
            return None
        if payment.payer_acct is None or payment.due_ms is None or payment.due_ms > now_ms:
            return None
        return self._give_back(cur, payment, State.EXPIRED, Reason.EXPIRED, now_ms)

    def judge_asker(self, cur: Cursor, asked: UserId, asker: UserId, money: Money) -> Refused | None:
        """Whether somebody of ours lets another person ask them for money: whom they let pay them, they let ask."""
        resident = self._homeserver.resident(cur, asked)
        if resident is None:
            return _unknown_payee(asked)
        if resident.deactivated:
            return payee_gone(asked)
        account = accounts.by_user_id(cur, asked)
        policy = replace(rules.read_policy(resident.policy, self._assets), minimum=None)
        acct = Acct("") if account is None else account.acct
        standing = self._standing(cur, policy, acct, asked, asker)
        return rules.judge_sender(policy, asked, money, standing, self._assets)

    # What clearing asks as Payee.

    def offered(self, cur: Cursor, incoming: Incoming, now_ms: int) -> Accept | Ask | Refused:
        key = _incoming_key(incoming)
        existing = store.find(cur, key)
        if existing is not None:
            return self._offered_again(existing, incoming)
        if self._homeserver.payments_are_halted():
            return payments_halted()
        payee = incoming.payee.user_id
        resident = self._homeserver.resident(cur, payee)
        if resident is None:
            return _unknown_payee(payee)
        if resident.moved_to is not None and incoming.refund_of is None:
            return payee_moved(payee, resident.moved_to)
        if resident.deactivated:
            return payee_gone(payee)
        acct = self._ensure_account(cur, incoming, now_ms)
        policy = rules.read_policy(resident.policy, self._assets)
        refused = operators.judge_payee(cur, acct) or self._judge_refund(
            cur, incoming.payer.user_id, payee, incoming.refund_of, incoming.money
        )
        claimed = any(
            pots.expects(cur, payee, incoming.payer.user_id, incoming.payment_id, now_ms) for pots in self._pots
        )
        if refused is None and incoming.refund_of is None:
            if not claimed:
                # Who has claimed it has said yes to it.
                standing = self._standing(cur, policy, acct, payee, incoming.payer.user_id)
                refused = rules.judge_sender(policy, payee, incoming.money, standing, self._assets)
            refused = refused or self._guards.judge_receiving(cur, acct, incoming.money, now_ms)
        if refused is not None:
            return refused
        ask = policy.acceptance is Acceptance.ASK and incoming.refund_of is None and not claimed
        until_ms = now_ms + ACCEPTANCE_MS
        room_id = incoming.room_id
        payment = Payment(
            payer_key=key.payer_key,
            payment_id=incoming.payment_id,
            payer=incoming.payer.user_id,
            payer_acct=None,
            payee=incoming.payee,
            payee_acct=acct,
            money=incoming.money,
            memo=incoming.memo,
            request=None,
            refund_of=incoming.refund_of,
            invoice=None,
            order_hash=None,
            salts=None,
            wire_id=incoming.wire_id,
            room_id=room_id,
            event_id=incoming.event_id,
            venue=Venue.OPEN,
            payee_joined=room_id is not None and self._homeserver.is_joined(cur, payee, room_id),
            position=0,
            state=State.AWAITING_ACCEPTANCE if ask else State.HELD,
            reason=None,
            answered=False,
            created_ms=now_ms,
            due_ms=until_ms if ask else None,
            signed=None,
        )
        if self._reviews is not None and self._reviews.judge_incoming(cur, payment):
            return Refused(
                reason=Reason.NOT_ALLOWED,
                message=f"{payee} cannot take this payment; the operator of their homeserver can say more.",
            )
        store.add(cur, payment)
        self._changed(cur, payment, now_ms)
        return Ask(acct=acct, until_ms=until_ms) if ask else Accept(acct=acct)

    def recalled(self, cur: Cursor, incoming: Incoming, now_ms: int) -> Acct | None:
        if self._homeserver.resident(cur, incoming.payee.user_id) is None:
            return None
        acct = self._ensure_account(cur, incoming, now_ms)
        payment = restored.received_before(cur, incoming, acct, now_ms)
        if payment is None:
            return None
        if payment.state is State.AWAITING_ACCEPTANCE and not payment.answered:
            payment = self._advance(cur, payment, replace(payment, answered=True, due_ms=None), now_ms)
        return payment.payee_acct

    def restored_received(
        self, cur: Cursor, incoming: Incoming, reason: Reason | None, signed: dict[str, object] | None, now_ms: int
    ) -> None:
        restored.received(cur, incoming, reason, signed, self._changes)

    def credited(self, cur: Cursor, incoming: Incoming, signed: dict[str, object], now_ms: int) -> None:
        payment = self._incoming(cur, incoming)
        if payment.state is State.COMPLETED:
            return
        joined = payment.room_id is not None and self._homeserver.is_joined(cur, payment.payee.user_id, payment.room_id)
        # COMMIT is the payer's word and final; it also comes after the payer's server has reached us late, when we
        # had already given the offer up.
        self._advance(
            cur,
            payment,
            replace(payment, state=State.COMPLETED, reason=None, due_ms=None, signed=signed, payee_joined=joined),
            now_ms,
        )

    def ended(self, cur: Cursor, incoming: Incoming, reason: Reason, now_ms: int) -> None:
        payment = store.find(cur, _incoming_key(incoming))
        # What was refused at the offer was never written down here.
        if payment is None or payment.wire_id != incoming.wire_id or payment.state.final:
            return
        self._advance(cur, payment, replace(payment, state=end_of(reason), reason=reason, due_ms=None), now_ms)

    # What clearing tells as Payer.

    def asked(self, cur: Cursor, payer: Acct, payment_id: PaymentId, until_ms: int, now_ms: int) -> None:
        payment = self._outgoing(cur, payer, payment_id)
        if payment is not None and payment.state is State.HELD:
            # Clearing keeps the time itself: it is the one that aborts.
            self._advance(cur, payment, replace(payment, state=State.AWAITING_ACCEPTANCE), now_ms)

    def committed(self, cur: Cursor, payer: Acct, payment_id: PaymentId, now_ms: int) -> None:
        payment = self._outgoing(cur, payer, payment_id)
        if payment is not None and payment.state in (State.HELD, State.AWAITING_ACCEPTANCE):
            self._advance(cur, payment, replace(payment, state=State.COMMITTED), now_ms)

    def completed(
        self, cur: Cursor, payer: Acct, payment_id: PaymentId, signed: dict[str, object], now_ms: int
    ) -> None:
        payment = self._outgoing(cur, payer, payment_id)
        if payment is not None and not payment.state.final:
            self._advance(cur, payment, replace(payment, state=State.COMPLETED, signed=signed), now_ms)

    def failed(self, cur: Cursor, payer: Acct, payment_id: PaymentId, reason: Reason, now_ms: int) -> None:
        payment = self._outgoing(cur, payer, payment_id)
        if payment is not None and not payment.state.final:
            # After the decision to pay there is one way to end without success: the payee's homeserver could not
            # credit it any more and said so, RECEIPT(void).
            state = State.FAILED if payment.state is State.COMMITTED else end_of(reason)
            self._advance(cur, payment, replace(payment, state=state, reason=reason), now_ms)

    def restored_sent(
        self,
        cur: Cursor,
        order: ClearingOrder,
        state: OutState,
        reason: Reason | None,
        signed: dict[str, object] | None,
        now_ms: int,
    ) -> None:
        restored.sent(cur, order, state, reason, signed, self._changes, now_ms)

    # Looking.

    def find(self, cur: Cursor, viewer: Acct, payment_id: PaymentId, payer: PayerKey | None) -> Payment | Refused:
        """A payment that ``viewer`` made or received. ``payer`` says whose id it is; without it the viewer's own."""
        own = PayerKey(viewer)
        payment = store.find(cur, PaymentKey(payer_key=own if payer is None else payer, payment_id=payment_id))
        if payment is not None and viewer in (payment.payer_acct, payment.payee_acct):
            return payment
        return unknown_payment(payment_id) if payer is not None else self.find_received(cur, viewer, payment_id, None)

    def find_received(
        self, cur: Cursor, payee: Acct, payment_id: PaymentId, payer: PayerKey | None
    ) -> Payment | Refused:
        """A payment to ``payee``. Without ``payer`` the id must be of one payer only."""
        found = [
            payment for payment in store.received(cur, payee, payment_id) if payer is None or payment.payer_key == payer
        ]
        match found:
            case []:
                return unknown_payment(payment_id)
            case [payment]:
                return payment
            case _:
                return Refused(
                    reason=Reason.CONFLICT,
                    message="Several people have paid you under this payment_id; say whose you mean with ?payer=.",
                )

    def page(self, cur: Cursor, acct: Acct, before: tuple[int, PaymentKey] | None, limit: int) -> Page:
        wanted = min(limit, MAX_PAGE)
        found = store.page(cur, acct, before, wanted + 1)
        shown = found[:wanted]
        return Page(payments=shown, more=len(found) > wanted)

    def refund_left(self, cur: Cursor, original: Payment) -> Money | Refused:
        """What of a payment can still be given back, all of it."""
        left_minor = rules.refundable_minor(original, store.refunded_minor(cur, original, None))
        if left_minor >= 1:
            return replace(original.money, amount_minor=left_minor)
        refused = rules.judge_refund(
            payer=original.payee.user_id,
            payee=original.payer,
            money=original.money,
            original=original,
            refunded_minor=original.money.amount_minor - left_minor,
        )
        if refused is None:
            raise RuntimeError(f"nothing is left of {original.key} and yet it can be refunded")
        return refused

    def violations(self, cur: Cursor) -> tuple[Violation, ...]:
        """Where payments contradict the ledger's holds, or refunds their originals."""
        return (*store.unmatched_holds(cur), *store.excess_refunds(cur))

    # Steps that the above share.

    def _carry_to_resident(self, cur: Cursor, payment: Payment, bound: Payment, payee: Acct, now_ms: int) -> Payment:
        resident = self._homeserver.resident(cur, bound.payee.user_id)
        if resident is None or resident.deactivated:
            # Between the order and its event the payee has left.
            self._advance(cur, payment, bound, now_ms)
            return self._give_back(cur, bound, State.FAILED, Reason.PAYEE_GONE, now_ms)
        policy = rules.read_policy(resident.policy, self._assets)
        if policy.acceptance is Acceptance.ASK and bound.refund_of is None:
            waiting = replace(bound, state=State.AWAITING_ACCEPTANCE, due_ms=now_ms + ACCEPTANCE_MS)
            return self._advance(cur, payment, waiting, now_ms)
        return self._credit(cur, payment, bound, payee, now_ms)

    def _offer(self, cur: Cursor, payment: Payment, now_ms: int) -> Payment | None:
        offered = self._clearing.offer(cur, _clearing_order(payment), server_of(payment.payee.user_id), now_ms)
        if not isinstance(offered, Refused):
            return store.find(cur, payment.key)
        retry_after_ms = offered.fields.get("retry_after_ms")
        if isinstance(retry_after_ms, int) and (
            now_ms < payment.created_ms + LINK_PATIENCE_MS or self._may_be_sent(cur, payment)
        ):
            # The link is being checked after a restart, ours or the peer's. The order stands and waits for it.
            return self._advance(cur, payment, replace(payment, due_ms=now_ms + retry_after_ms), now_ms)
        return self._give_back(cur, payment, State.FAILED, offered.reason, now_ms)

    def _may_be_sent(self, cur: Cursor, payment: Payment) -> bool:
        """Whether it may have been paid already, for all that this database knows: then its money stays where it is."""
        return payment.payee_acct is None and self._clearing.is_unsure(cur, server_of(payment.payee.user_id))

    def _credit(self, cur: Cursor, before: Payment, payment: Payment, payee: Acct, now_ms: int) -> Payment:
        posted = ledger.post_hold(
            cur,
            payment.hold_id,
            credit=available(payee, payment.money.currency),
            cause=Cause.PAYMENT,
            reference=payment.hold_id,
            now_ms=now_ms,
        )
        if isinstance(posted, Refused) and posted.reason is Reason.ACCOUNT_FROZEN:
            # An operator has frozen one of the two since the order.
            if before != payment:
                self._advance(cur, before, payment, now_ms)
            return self._give_back(cur, payment, State.FAILED, Reason.ACCOUNT_FROZEN, now_ms)
        _expect(posted, payment)
        return self._advance(cur, before, replace(payment, state=State.COMPLETED, due_ms=None), now_ms)

    def _give_back(self, cur: Cursor, payment: Payment, state: State, reason: Reason, now_ms: int) -> Payment:
        voided = ledger.void_hold(cur, payment.hold_id, now_ms)
        _expect(voided, payment)
        return self._advance(cur, payment, replace(payment, state=state, reason=reason, due_ms=None), now_ms)

    def _advance(self, cur: Cursor, before: Payment, after: Payment, now_ms: int) -> Payment:
        if not store.advance(cur, before, after):
            raise RuntimeError(f"{before.key} moved inside the transaction of the one writer")
        if after.fee_minor and after.state.final and not before.state.final:
            end_fee(cur, after, now_ms)
        self._changed(cur, after, now_ms)
        if after.state.final:
            self._owe_receipt(cur, after, now_ms)
        return after

    def _changed(self, cur: Cursor, payment: Payment, now_ms: int) -> None:
        self._changes.payment_changed(payment)
        if self._requests is not None:
            self._requests.changed(cur, payment, now_ms)
        if payment.invoice is not None or payment.payer_acct is None:
            for pots in self._pots:
                pots.changed(cur, payment, now_ms)

    def _owe_receipt(self, cur: Cursor, payment: Payment, now_ms: int) -> None:
        posting = rules.posting(payment)
        if posting is None or payment.room_id is None or payment.event_id is None:
            return
        receipt = Receipt(
            key=payment.key,
            poster=posting.poster,
            room_id=payment.room_id,
            event_id=payment.event_id,
            attempts=0,
            due_ms=now_ms + posting.after_ms,
        )
        if store.owe(cur, receipt):
            self._changes.receipt_owed(receipt)

    def _judge_local_payee(self, cur: Cursor, order: Order, payee: Acct) -> Refused | None:
        resident = self._homeserver.resident(cur, order.payee.user_id)
        if resident is None:
            return _unknown_payee(order.payee.user_id)
        if resident.moved_to is not None and order.refund_of is None:
            return payee_moved(order.payee.user_id, resident.moved_to)
        if resident.deactivated:
            return payee_gone(order.payee.user_id)
        frozen = operators.judge_payee(cur, payee)
        if frozen is not None:
            return frozen
        if order.refund_of is not None:
            # Whoever paid takes the money back, whatever they have set for strangers.
            return None
        policy = rules.read_policy(resident.policy, self._assets)
        standing = self._standing(cur, policy, payee, order.payee.user_id, order.payer)
        return rules.judge_sender(policy, order.payee.user_id, order.money, standing, self._assets)

    def _guarded(
        self, cur: Cursor, order: Order, payee_acct: Acct | None, *, proven: bool, now_ms: int
    ) -> Refused | None:
        receiving = None
        if payee_acct is not None and order.refund_of is None:
            receiving = self._guards.judge_receiving(cur, payee_acct, order.money, now_ms)
        return receiving or self._guards.judge_order(cur, order, proven=proven, now_ms=now_ms)

    def _standing(
        self, cur: Cursor, policy: Policy, payee: Acct, payee_id: UserId, payer: UserId
    ) -> frozenset[PolicyFrom]:
        """What the payer is to the payee, as far as the policy asks."""
        if self._homeserver.blocks(cur, payee_id, payer):
            # Whoever is blocked is not even part of everyone, and reads the same sentence as a stranger.
            return frozenset()
        standing = {PolicyFrom.EVERYONE}
        if PolicyFrom.CONTACTS in policy.senders and accounts.contact_of(cur, payee, payer) is not None:
            standing.add(PolicyFrom.CONTACTS)
        if PolicyFrom.SHARED_ROOMS in policy.senders and self._homeserver.share_a_room(cur, payee_id, payer):
            standing.add(PolicyFrom.SHARED_ROOMS)
        return frozenset(standing)

    def _judge_refund(
        self, cur: Cursor, payer: UserId, payee: UserId, refund_of: PaymentId | None, money: Money
    ) -> Refused | None:
        if refund_of is None:
            return None
        original = store.find(cur, PaymentKey(payer_key=self._payer_key(cur, payee), payment_id=refund_of))
        refunded_minor = 0 if original is None else store.refunded_minor(cur, original, None)
        return rules.judge_refund(
            payer=payer, payee=payee, money=money, original=original, refunded_minor=refunded_minor
        )

    def _payer_key(self, cur: Cursor, user_id: UserId) -> PayerKey:
        return payer_key_of(cur, self._server_name, user_id)

    def _offered_again(self, existing: Payment, incoming: Incoming) -> Accept | Ask | Refused:
        if existing.wire_id != incoming.wire_id or existing.payee_acct is None:
            return Refused(
                reason=Reason.CONFLICT,
                message="The payer has used this payment_id for another payment; a new payment needs a new id.",
            )
        match existing.state:
            case State.AWAITING_ACCEPTANCE if not existing.answered and existing.due_ms is not None:
                return Ask(acct=existing.payee_acct, until_ms=existing.due_ms)
            case State.HELD | State.AWAITING_ACCEPTANCE | State.COMMITTED | State.COMPLETED:
                return Accept(acct=existing.payee_acct)
            case _:
                return Refused(reason=existing.reason or Reason.EXPIRED, message="This payment has ended and stays so.")

    def _ensure_account(self, cur: Cursor, incoming: Incoming, now_ms: int) -> Acct:
        # A first use inside a transaction, where there is no randomness: the wire id is a secret that nobody can
        # guess, and gives the nonce.
        payee = incoming.payee.user_id
        known = accounts.by_user_id(cur, payee)
        if known is not None:
            return accounts.use(cur, known)
        genesis = Genesis(
            server=self._server_name,
            localpart=localpart_of(payee),
            created_ms=now_ms,
            nonce=digest(["account", incoming.wire_id])[:_NONCE_CHARACTERS],
        )
        return accounts.ensure(cur, payee, genesis).acct

    def _again(self, cur: Cursor, key: PaymentKey) -> Payment:
        payment = store.find(cur, key)
        if payment is None:
            raise RuntimeError(f"{key} vanished inside its own transaction")
        return payment

    def _incoming(self, cur: Cursor, incoming: Incoming) -> Payment:
        payment = self._again(cur, _incoming_key(incoming))
        if payment.wire_id != incoming.wire_id:
            raise RuntimeError(f"{payment.key} is not the payment of wire id {incoming.wire_id}")
        return payment

    def _outgoing(self, cur: Cursor, payer: Acct, payment_id: PaymentId) -> Payment | None:
        """None for what a restore brought back of a payer whose account it could not bring back."""
        return store.find(cur, PaymentKey(payer_key=PayerKey(payer), payment_id=payment_id))


def _expect(done: Posted | Hold | Refused, payment: Payment) -> None:
    """The state of a payment says what its hold can do; a hold that cannot is broken books, not a refusal."""
    match done:
        case Refused():
            raise RuntimeError(f"the hold of {payment.key} ({payment.state}) does not move: {done.message}")
        case Posted() | Hold():
            pass


def payer_key_of(cur: Cursor, server_name: ServerName, user_id: UserId) -> PayerKey:
    """Whose id space the payment ids of a user belong to."""
    if server_of(user_id) != server_name:
        return PayerKey(user_id)
    account = accounts.by_user_id(cur, user_id)
    # A resident who was never seen has paid nothing, and no acct is empty.
    return PayerKey("" if account is None else account.acct)


def unknown_payment(payment_id: PaymentId) -> Refused:
    return Refused(
        reason=Reason.UNKNOWN_PAYMENT,
        message=f"You have no payment {payment_id}; if it was paid to you, name its payer with ?payer=.",
    )


def payments_halted() -> Refused:
    return Refused(
        reason=Reason.PAYMENTS_HALTED,
        message="Payments are paused by the operator of this homeserver. Your money is safe; try again later.",
    )


def _unknown_payee(payee: UserId) -> Refused:
    return Refused(reason=Reason.UNKNOWN_PAYEE, message=f"There is no account {payee}; check the spelling.")


def payee_gone(payee: UserId) -> Refused:
    return Refused(
        reason=Reason.PAYEE_GONE,
        message=f"The account {payee} was deactivated and takes no payments; reach them another way.",
    )


def payee_moved(payee: str, to: Handle) -> Refused:
    return Refused(
        reason=Reason.PAYEE_MOVED,
        message=f"{payee} moved to {to}, and nothing was paid. Pay {to} instead, once you are sure that it is the same "
        "person.",
        fields=MappingProxyType({"moved_to": to}),
    )


def _wire_id(payment: Payment) -> WireId:
    if payment.wire_id is None:
        raise RuntimeError(f"{payment.key} came from another homeserver without a wire id")
    return payment.wire_id


def _incoming_key(incoming: Incoming) -> PaymentKey:
    return PaymentKey(payer_key=PayerKey(incoming.payer.user_id), payment_id=incoming.payment_id)


def _clearing_order(payment: Payment) -> ClearingOrder:
    if payment.payer_acct is None or payment.salts is None:
        raise RuntimeError(f"{payment.key} is not a payment of ours")
    return ClearingOrder(
        payment_id=payment.payment_id,
        hold_id=payment.hold_id,
        payer=Party(user_id=payment.payer, acct=payment.payer_acct, handle=None),
        payee=payment.payee,
        money=payment.money,
        memo=payment.memo,
        room_id=payment.room_id,
        event_id=payment.event_id,
        refund_of=payment.refund_of,
        wire_salt=payment.salts.wire,
        salts=payment.salts.parties,
    )
