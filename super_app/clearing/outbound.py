"""The payer's side: OFFER, then alone COMMIT or ABORT, then what the RECEIPT says.

The decision is one compare-and-set, in one transaction with the money: held -> due_to on COMMIT, held -> available on
ABORT. A COMMIT is never undone here, only by the peer's RECEIPT(void).
"""

from dataclasses import replace

from super_app.clearing import advances, objects, rules, store
from super_app.clearing.chain import Chain, Handled, Taken
from super_app.clearing.model import (
    ChainObject,
    EvidenceKind,
    Link,
    MessageType,
    Outcome,
    OutPayment,
    OutState,
    Sender,
    Stored,
    Terms,
    WireId,
)
from super_app.clearing.ports import Order, Payer
from super_app.clearing.rules import MaySign, PayerMove
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct
from super_app.ledger import service as ledger
from super_app.ledger.model import AccountKind, Cause, Transfer, TransferId, available, due_to, house


class Outbound:
    def __init__(self, chain: Chain, payer: Payer) -> None:
        self._chain = chain
        self._payer = payer

    def offer(self, cur: Cursor, link: Link, order: Order, scale: int, now_ms: int) -> WireId:
        """OFFER a payment whose hold exists. The caller has made sure that the link takes it."""
        terms = objects.terms_of(order, scale)
        payment = OutPayment(
            link_id=link.link_id,
            peer=link.peer,
            terms=terms,
            payer=Acct(order.payer.acct),
            payment_id=order.payment_id,
            hold_id=order.hold_id,
            state=OutState.OFFERED,
            answer=None,
            receipt=None,
            offered_ms=now_ms,
            due_ms=now_ms + rules.OFFER_TTL_MS,
        )
        store.add_out(cur, payment)
        store.put_opening(cur, link.link_id, Sender.OURS, terms.wire_id, objects.opening_of(order), now_ms)
        # A peer that was away is tried again for the sake of this payment, but not at every one.
        link = replace(link, next_try_ms=min(link.next_try_ms, link.last_try_ms + rules.FRESH_TRY_MS))
        self._say(cur, link, MessageType.OFFER, payment, now_ms, now_ms, ttl_ms=rules.OFFER_TTL_MS)
        return terms.wire_id

    def cancel(self, cur: Cursor, link: Link, payment: OutPayment, reason: Reason, now_ms: int) -> Refused | None:
        if payment.state is OutState.ABORTED:
            return None
        if not payment.state.is_undecided:
            return Refused(
                reason=Reason.ALREADY_DECIDED,
                message="The payment is committed and can no longer be cancelled; ask for a refund.",
            )
        if self._chain.may_sign(link) is MaySign.NOTHING:
            return self._chain.why_not(link, link.peer)
        self.abort(cur, link, payment, reason, now_ms, due_ms=now_ms)
        return None

    def expire(self, cur: Cursor, link: Link, payment: OutPayment, now_ms: int) -> Link:
        return self.abort(cur, link, payment, Reason.EXPIRED, now_ms, due_ms=now_ms)

    def abort(self, cur: Cursor, link: Link, payment: OutPayment, reason: Reason, now_ms: int, *, due_ms: int) -> Link:
        """Decide an undecided payment against: the hold goes back to the payer."""
        self._decide(cur, payment, replace(payment, state=OutState.ABORTED, due_ms=None))
        voided = ledger.void_hold(cur, payment.hold_id, now_ms)
        if isinstance(voided, Refused):
            raise RuntimeError(f"the hold of an undecided payment cannot be voided: {voided.message}")
        advances.take_back(cur, payment, now_ms)
        link = self._say(cur, link, MessageType.ABORT, payment, now_ms, due_ms, reason=reason.value)
        # Until the ABORT is there, the OFFER would only make the peer reserve and ask for nothing.
        store.outbox_hold_offer(cur, link.link_id, payment.terms.wire_id)
        self._payer.failed(cur, payment.payer, payment.payment_id, reason, now_ms)
        return link

    def say_abort(self, cur: Cursor, link: Link, payment: OutPayment, reason: Reason, now_ms: int) -> Link:
        """ABORT a payment that a restore has only brought back as an OFFER; there is no hold to let go."""
        return self._say(cur, link, MessageType.ABORT, payment, now_ms, now_ms, reason=reason.value)

    def on_pending(self, cur: Cursor, link: Link, found: ChainObject, now_ms: int, due_ms: int) -> Handled:
        payment = self._payment(cur, link, found)
        if isinstance(payment, Refused):
            return payment
        until_ms = rules.payer_on_pending(payment, found.ttl_ms, now_ms)
        link = self._chain.admit(cur, link, found, now_ms)
        if until_ms is not None:
            self._decide(cur, payment, replace(payment, state=OutState.ASKED, due_ms=until_ms))
            self._payer.asked(cur, payment.payer, payment.payment_id, until_ms, now_ms)
        return Taken(link=link)

    def on_accept(self, cur: Cursor, link: Link, found: ChainObject, now_ms: int, due_ms: int) -> Handled:
        payment = self._payment(cur, link, found)
        if isinstance(payment, Refused):
            return payment
        move = rules.payer_on_accept(payment, found.valid_ms, now_ms)
        if move is PayerMove.CONFLICT and self._has_lost_answer(cur, payment):
            return Taken(link=self._chain.admit(cur, link, found, now_ms))
        if move is PayerMove.CONFLICT:
            return _conflict("it was answered already")
        link = self._chain.admit(cur, link, found, now_ms)
        answered = self._note(cur, payment, MessageType.ACCEPT)
        if move is PayerMove.COMMIT:
            return Taken(link=self._commit(cur, link, answered, now_ms, due_ms))
        if move is PayerMove.ABORT:
            return Taken(link=self.abort(cur, link, answered, Reason.EXPIRED, now_ms, due_ms=due_ms))
        return Taken(link=link)

    def on_reject(self, cur: Cursor, link: Link, found: ChainObject, now_ms: int, due_ms: int) -> Handled:
        payment = self._payment(cur, link, found)
        if isinstance(payment, Refused):
            return payment
        move = rules.payer_on_reject(payment)
        if move is PayerMove.CONFLICT and self._has_lost_answer(cur, payment):
            return Taken(link=self._chain.admit(cur, link, found, now_ms))
        if move is PayerMove.CONFLICT:
            return _conflict("it was answered already")
        link = self._chain.admit(cur, link, found, now_ms)
        answered = self._note(cur, payment, MessageType.REJECT)
        if move is PayerMove.ABORT:
            link = self.abort(cur, link, answered, reason_of(found.reason), now_ms, due_ms=due_ms)
        return Taken(link=link)

    def on_receipt(self, cur: Cursor, link: Link, found: ChainObject, now_ms: int, due_ms: int) -> Handled:
        payment = self._payment(cur, link, found)
        if isinstance(payment, Refused):
            return payment
        outcome = Outcome(found.reason)
        match rules.payer_on_receipt(payment, outcome):
            case PayerMove.COMPLETE:
                link = self._end(cur, link, found, payment, OutState.COMPLETED, outcome, now_ms)
                self._owe_no_longer_unsure(cur, payment)
                if payment.payer:
                    self._payer.completed(cur, payment.payer, payment.payment_id, found.content, now_ms)
            case PayerMove.UNDO:
                link = self._end(cur, link, found, payment, OutState.VOIDED, outcome, now_ms)
                self._owe_no_longer_unsure(cur, payment)
                self._undo(cur, payment, now_ms)
                if payment.payer:
                    self._payer.failed(cur, payment.payer, payment.payment_id, Reason.EXPIRED, now_ms)
            case PayerMove.NOTE:
                link = self._end(cur, link, found, payment, OutState.ABORTED, outcome, now_ms)
            case PayerMove.CREDITED_AND_VOID:
                first = _object_of(cur, payment, Sender.THEIRS, MessageType.RECEIPT)
                return self._chain.freeze(cur, link, EvidenceKind.CREDITED_AND_VOID, first, found, now_ms)
            case PayerMove.UNFOUNDED:
                first = _object_of(cur, payment, Sender.OURS, MessageType.ABORT)
                return self._chain.freeze(cur, link, EvidenceKind.UNFOUNDED_RECEIPT, first, found, now_ms)
            case _:
                return _conflict("there is nothing that this RECEIPT answers")
        return Taken(link=link)

    def _commit(self, cur: Cursor, link: Link, payment: OutPayment, now_ms: int, due_ms: int) -> Link:
        posted = ledger.post_hold(
            cur,
            payment.hold_id,
            credit=due_to(payment.peer, payment.terms.currency),
            cause=Cause.COMMIT,
            reference=payment.terms.wire_id,
            now_ms=now_ms,
        )
        if isinstance(posted, Refused):
            # Its hold was let go meanwhile, so there is nothing to commit; or the payer was frozen.
            frozen = posted.reason is Reason.ACCOUNT_FROZEN
            reason = Reason.ACCOUNT_FROZEN if frozen else Reason.CANCELLED
            return self.abort(cur, link, payment, reason, now_ms, due_ms=due_ms)
        self._decide(cur, payment, replace(payment, state=OutState.COMMITTED, due_ms=None))
        store.move_line(cur, link.link_id, payment.terms.currency, unreceipted_minor=payment.terms.amount_minor)
        link = self._say(cur, link, MessageType.COMMIT, payment, now_ms, due_ms)
        self._payer.committed(cur, payment.payer, payment.payment_id, now_ms)
        return link

    def _end(
        self,
        cur: Cursor,
        link: Link,
        found: ChainObject,
        payment: OutPayment,
        state: OutState,
        outcome: Outcome,
        now_ms: int,
    ) -> Link:
        link = self._chain.admit(cur, link, found, now_ms)
        self._decide(cur, payment, replace(payment, state=state, receipt=outcome))
        store.outbox_receipted(cur, link.link_id, payment.terms.wire_id)
        store.outbox_release_offer(cur, link.link_id, payment.terms.wire_id, now_ms)
        return link

    def _undo(self, cur: Cursor, payment: OutPayment, now_ms: int) -> None:
        terms = payment.terms
        # What came back from a restore without its opening has no payer to go back to.
        nobody = house(AccountKind.SUSPENSE, terms.currency)
        payer = available(payment.payer, terms.currency) if payment.payer else nobody
        # What was given back already goes to where it was taken from.
        to = advances.source_of(cur, payment) or payer
        undone = ledger.transfer(
            cur,
            Transfer(
                transfer_id=TransferId(f"undo:{payment.link_id}:{terms.wire_id}"),
                debit=due_to(payment.peer, terms.currency),
                credit=to,
                amount_minor=terms.amount_minor,
                cause=Cause.UNDO,
                reference=terms.wire_id,
            ),
            now_ms,
        )
        if isinstance(undone, Refused):
            raise RuntimeError(f"a voided payment cannot go back to its payer: {undone.message}")

    def _owe_no_longer_unsure(self, cur: Cursor, payment: OutPayment) -> None:
        terms = payment.terms
        store.move_line(cur, payment.link_id, terms.currency, unreceipted_minor=-terms.amount_minor)

    def _payment(self, cur: Cursor, link: Link, found: ChainObject) -> OutPayment | Refused:
        terms: Terms = found.payment_terms()
        payment = store.out(cur, link.link_id, terms.wire_id)
        if payment is None:
            return Refused(reason=Reason.UNKNOWN_PAYMENT, message="This server never offered a payment of this id.")
        if payment.terms != terms or found.routed:
            return _conflict("its OFFER had other terms")
        return payment

    def _has_lost_answer(self, cur: Cursor, payment: OutPayment) -> bool:
        """Whether the answer to a payment exists nowhere any more, after restores of both sides.

        Then the peer, which has lost it too, answers what it knows anew, and that excludes nothing.
        """
        answers = (MessageType.ACCEPT, MessageType.REJECT)
        return all(_object_of(cur, payment, Sender.THEIRS, kind) is None for kind in answers)

    def _note(self, cur: Cursor, payment: OutPayment, answer: MessageType) -> OutPayment:
        answered = replace(payment, answer=answer)
        self._decide(cur, payment, answered)
        return answered

    def _decide(self, cur: Cursor, before: OutPayment, after: OutPayment) -> None:
        if not store.move_out(cur, before, after):
            raise RuntimeError(f"payment {before.terms.wire_id} changed under the one writer")

    def _say(
        self,
        cur: Cursor,
        link: Link,
        kind: MessageType,
        payment: OutPayment,
        now_ms: int,
        due_ms: int,
        **fields: int | str,
    ) -> Link:
        link, _ = self._chain.append(
            cur,
            link,
            kind,
            {**objects.terms_fields(payment.terms), **fields},
            due_ms=due_ms,
            now_ms=now_ms,
            wire_id=payment.terms.wire_id,
        )
        return link


def reason_of(word: str) -> Reason:
    """The reason that a peer gave, or DECLINED for one that this version does not know."""
    try:
        return Reason(word)
    except ValueError:
        return Reason.DECLINED


def _object_of(cur: Cursor, payment: OutPayment, sender: Sender, kind: MessageType) -> Stored | None:
    found = store.objects_of(cur, payment.link_id, payment.terms.wire_id)
    return next((each for each in found if each.sender is sender and each.type is kind), None)


def _conflict(why: str) -> Refused:
    return Refused(
        reason=Reason.CONFLICT,
        message=f"This object does not fit the payment of its id: {why}. It will never be taken.",
    )
