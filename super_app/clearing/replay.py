"""What objects that came back after a restore mean for the books.

Each payment is taken for itself. Its own objects that still count say where it stands: a COMMIT has left the payer, a
RECEIPT(credited) has reached the payee, whatever the old database believed. Money moves from where the database has it
to where it belongs; what nobody can be found for, or nobody has any more, is taken from ``suspense``, and the operator
is told. What the peer signed and we never answered is handled afterwards by the ordinary rules, in the new epoch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from super_app.clearing import advances, objects, rules, store
from super_app.clearing.chain import Chain, Handled, Stopped, Taken
from super_app.clearing.fence import Fences
from super_app.clearing.inbound import Inbound
from super_app.clearing.link_life import LinkLife
from super_app.clearing.model import (
    Alarm,
    ChainObject,
    Decision,
    EvidenceKind,
    InPayment,
    InState,
    JsonObject,
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
from super_app.clearing.outbound import Outbound, reason_of
from super_app.clearing.ports import Incoming, Order, Payee, Payer
from super_app.clearing.recovery_model import PAYEE_SAYS, PAYER_SAYS, Touched, Way
from super_app.clearing.rules import PayerMove
from super_app.clearing.settlements import Settlements
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct, PaymentId
from super_app.ledger import service as ledger
from super_app.ledger.model import (
    AccountKey,
    AccountKind,
    Cause,
    HoldId,
    HoldState,
    Posted,
    Transfer,
    TransferId,
    available,
    due_from,
    due_to,
    house,
)
from super_app.money import Money
from super_app.signing import canonical, from_b64

NOBODY: Final = Acct("")
"""Whoever no opening names."""
_PAYMENT_ID_DIGITS: Final = 32
_STANDINGS: Final = frozenset({MessageType.SUSPEND, MessageType.RESUME, MessageType.CLOSE})
_ANSWERS: Final = frozenset({MessageType.ACCEPT, MessageType.REJECT})
_DECISIONS: Final = frozenset({MessageType.COMMIT, MessageType.ABORT})
_DUE: Final = frozenset({OutState.COMMITTED, OutState.COMPLETED})

Replayed = tuple[Link, tuple[Alarm, ...]]


class Replay:
    def __init__(
        self,
        chain: Chain,
        fences: Fences,
        life: LinkLife,
        settlements: Settlements,
        outbound: Outbound,
        inbound: Inbound,
        payer: Payer,
        payee: Payee,
    ) -> None:
        self._chain = chain
        self._fences = fences
        self._life = life
        self._settlements = settlements
        self._outbound = outbound
        self._inbound = inbound
        self._payer = payer
        self._payee = payee

    # What is of no payment.

    def link_object(self, cur: Cursor, link: Link, found: ChainObject, now_ms: int) -> Link:
        """An object of no payment that came back, ours or theirs; those of each chain in their order."""
        ours = found.from_server == self._chain.me.server
        match found.type:
            case MessageType.LINK_OPEN if ours:
                link = replace(link, our_open_ms=link.our_open_ms or now_ms, our_key_id=found.key_id, wanted=True)
                store.put_link(cur, link)
                if found.key is not None:
                    public, certificate = found.key.public_key, found.key.certificate
                    store.put_key(
                        cur, link.link_id, Sender.OURS, found.key_id, public, certificate, found.epoch, found.seq
                    )
                for grant in found.grants:
                    store.put_our_grant(cur, link.link_id, grant)
            case MessageType.LIMIT if ours:
                for grant in found.grants:
                    store.put_our_grant(cur, link.link_id, grant)
            case MessageType.LIMIT:
                for grant in found.grants:
                    store.put_their_grant(cur, link.link_id, grant, found.epoch, found.seq)
            case kind if kind in _STANDINGS or (ours and kind is MessageType.KEY):
                link = self._life.replay(cur, link, found, ours=ours)
            case kind if found.settlement is not None:
                sender = Sender.OURS if ours else Sender.THEIRS
                if ours or self._settlements.is_founded(cur, link, found):
                    self._settlements.replay(cur, link, found, sender, now_ms)
            case MessageType.FENCE if not ours and not self._chain.answers(cur, link, found):
                link = self._fences.say_fenced(cur, link, found, now_ms, now_ms)
            case _:
                pass
        return link

    # Payments.

    def terms_of(self, cur: Cursor, link: Link, touched: Touched) -> Terms | None:
        found = self._objects(cur, link, touched.way, touched.wire_id)
        return found[0].payment_terms() if found else None

    def payment(self, cur: Cursor, link: Link, touched: Touched, now_ms: int) -> Replayed:
        """Bring one payment to where its objects say that it stands."""
        if touched.way is Way.OUT:
            return self._sent(cur, link, touched.wire_id, now_ms)
        return self._got(cur, link, touched.wire_id, now_ms)

    # A payment of ours.

    def _sent(self, cur: Cursor, link: Link, wire_id: WireId, now_ms: int) -> Replayed:
        found = self._objects(cur, link, Way.OUT, wire_id)
        ours = [each for each in found if each.from_server == self._chain.me.server]
        before = store.out(cur, link.link_id, wire_id)
        terms = next((each.terms for each in ours), None) if before is None else before.terms
        # What the peer signed with other terms answers nothing of ours.
        theirs = [each for each in found if each.from_server == link.peer and each.terms == terms]
        if terms is None:
            # They answer what we never offered, or what counts no more.
            return link, ()
        order = self._order(cur, link, terms)
        decision = _decision_of(before, ours)
        if decision is None:
            return self._undecided(cur, link, before, terms, order, theirs, now_ms)
        known_receipt = None if before is None or before.state.is_undecided else before.receipt
        ended = self._receipts(cur, link, decision, known_receipt, theirs, now_ms)
        link, state, receipt, signed = ended.link, ended.state, ended.outcome, ended.counted
        answer = next((each.type for each in theirs if each.type in _ANSWERS), None)
        if state in _DUE or state is OutState.VOIDED:
            answer = MessageType.ACCEPT
        known = before or self._missing_out(link, terms, order, now_ms)
        after = replace(known, state=state, answer=answer, receipt=receipt, due_ms=None)
        alarms = ended.alarms + self._move_sent(cur, link, before, after, order, now_ms)
        if before is None:
            store.add_out(cur, after)
        elif not store.move_out(cur, before, after):
            raise RuntimeError(f"payment {wire_id} changed under the one writer")
        if receipt is None:
            store.send_again(cur, link.link_id, decision.epoch, decision.seq, now_ms)
        else:
            store.outbox_receipted(cur, link.link_id, wire_id)
            store.outbox_release_offer(cur, link.link_id, wire_id, now_ms)
        self._tell_payer(cur, after, order, decision, signed, now_ms)
        return link, alarms

    def _receipts(
        self,
        cur: Cursor,
        link: Link,
        decision: ChainObject,
        outcome: Outcome | None,
        theirs: Sequence[ChainObject],
        now_ms: int,
    ) -> "_Ended":
        """How a payment of ours that is decided has ended. Of two RECEIPTs that contradict each other one counts.

        That is the one that counted before, ``outcome``, or else the first of the chain; the other freezes the link.
        """
        found = [each for each in theirs if each.type is MessageType.RECEIPT]
        counted = next((each for each in found if outcome is not None and each.reason == outcome.value), None)
        alarms: tuple[Alarm, ...] = ()
        for each in found:
            state = _sent_state(decision, outcome)
            match rules.judge_receipt(state, outcome, Outcome(each.reason)):
                case PayerMove.COMPLETE | PayerMove.UNDO | PayerMove.NOTE:
                    outcome, counted = Outcome(each.reason), each
                case PayerMove.CREDITED_AND_VOID:
                    link, more = self._contradicted(
                        cur, link, EvidenceKind.CREDITED_AND_VOID, counted or decision, each, now_ms
                    )
                    alarms += more
                case PayerMove.UNFOUNDED:
                    link, more = self._contradicted(cur, link, EvidenceKind.UNFOUNDED_RECEIPT, decision, each, now_ms)
                    alarms += more
                case _:
                    pass
        state = _sent_state(decision, outcome)
        return _Ended(link=link, state=state, outcome=outcome, counted=counted, alarms=alarms)

    def _contradicted(
        self, cur: Cursor, link: Link, kind: EvidenceKind, first: ChainObject, second: ChainObject, now_ms: int
    ) -> Replayed:
        """Freeze the link, once it is back, with two objects that exclude each other."""
        sender = Sender.OURS if first.from_server == self._chain.me.server else Sender.THEIRS
        there = store.object_at(cur, link.link_id, sender, first.epoch, first.seq)
        return _after(self._chain.freeze(cur, link, kind, there, second, now_ms), link)

    def _undecided(
        self,
        cur: Cursor,
        link: Link,
        before: OutPayment | None,
        terms: Terms,
        order: Order | None,
        theirs: Sequence[ChainObject],
        now_ms: int,
    ) -> Replayed:
        """Of a payment that we had not decided, as far as anybody knows."""
        if before is None:
            # We had offered it and know nothing of it any more: its money was never set aside in these books.
            lost = replace(self._missing_out(link, terms, order, now_ms), state=OutState.ABORTED, due_ms=None)
            store.add_out(cur, lost)
            self._let_go(cur, lost.hold_id, now_ms)
            link = self._outbound.say_abort(cur, link, lost, Reason.EXPIRED, now_ms)
            if order is not None:
                self._payer.restored_sent(cur, order, lost.state, Reason.EXPIRED, None, now_ms)
            return link, ()
        if not before.state.is_undecided:
            raise RuntimeError(f"payment {terms.wire_id} is {before.state} without an object of ours that says so")
        alarms: tuple[Alarm, ...] = ()
        handlers = {
            MessageType.PENDING: (self._outbound.on_pending, before.state is OutState.OFFERED),
            MessageType.ACCEPT: (self._outbound.on_accept, before.answer is None),
            MessageType.REJECT: (self._outbound.on_reject, before.answer is None),
            MessageType.RECEIPT: (self._outbound.on_receipt, before.receipt is None),
        }
        # In the order of their chain: of what excludes each other the first counts, as if it had just come.
        for each in theirs:
            handle, is_new = handlers[each.type]
            if is_new:
                link, more = _after(handle(cur, link, each, now_ms, now_ms), link)
                alarms += more
        return link, alarms

    def _move_sent(
        self, cur: Cursor, link: Link, before: OutPayment | None, after: OutPayment, order: Order | None, now_ms: int
    ) -> tuple[Alarm, ...]:
        """The money of a payment of ours, from where it is to where it belongs."""
        terms = after.terms
        was_due = before is not None and before.state in _DUE
        is_unsure = after.state is OutState.COMMITTED
        was_unsure = before is not None and before.state is OutState.COMMITTED
        if is_unsure != was_unsure:
            unsure_minor = terms.amount_minor if is_unsure else -terms.amount_minor
            store.ensure_line(cur, link.link_id, terms.currency)
            store.move_line(cur, link.link_id, terms.currency, unreceipted_minor=unsure_minor)
        if (after.state in _DUE) == was_due:
            if not was_due and self._let_go(cur, after.hold_id, now_ms) and before is not None:
                advances.take_back(cur, before, now_ms)
            return ()
        owed = due_to(link.peer, terms.currency)
        if was_due:
            # What was given back already goes to where it was taken from.
            back = advances.source_of(cur, after) or available(after.payer, terms.currency)
            return self._shift(cur, link, terms, "back", owed, back, now_ms)
        lent_minor = None if order is None else self._set_aside(cur, link, after, now_ms)
        if lent_minor is not None:
            posted = ledger.post_hold(
                cur, after.hold_id, credit=owed, cause=Cause.COMMIT, reference=terms.wire_id, now_ms=now_ms
            )
            if not isinstance(posted, Refused):
                return (self._in_suspense(cur, link, terms, lent_minor, now_ms),) if lent_minor > 0 else ()
        return self._shift(cur, link, terms, "commit", available(after.payer, terms.currency), owed, now_ms)

    def _set_aside(self, cur: Cursor, link: Link, after: OutPayment, now_ms: int) -> int | None:
        """Have the payer's money in an open hold, as before the COMMIT. What they no longer have is lent to them.

        Gives how much was lent; None if no such hold is to be had.
        """
        terms = after.terms
        hold = ledger.hold_of(cur, after.hold_id)
        if hold is not None:
            # Of another order under the same id, which these books could not know to be taken, it is another's money.
            is_its = (hold.owner, hold.money) == (
                after.payer,
                Money(amount_minor=terms.amount_minor, currency=terms.currency),
            )
            return 0 if hold.state is HoldState.OPEN and is_its else None
        there_minor = max(0, ledger.balance(cur, available(after.payer, terms.currency)))
        lacking_minor = max(0, terms.amount_minor - there_minor)
        if lacking_minor > 0:
            suspense = house(AccountKind.SUSPENSE, terms.currency)
            name = f"restore:{link.our_epoch}:cover:{link.link_id}:{terms.wire_id}"
            payer = available(after.payer, terms.currency)
            if isinstance(self._transfer(cur, name, suspense, payer, lacking_minor, terms, now_ms), Refused):
                return None
        money = Money(amount_minor=terms.amount_minor, currency=terms.currency)
        placed = ledger.place_hold(cur, after.hold_id, after.payer, money, now_ms)
        return None if isinstance(placed, Refused) else lacking_minor

    def _let_go(self, cur: Cursor, hold_id: HoldId, now_ms: int) -> bool:
        """Let an open hold go; whether there was one."""
        hold = ledger.hold_of(cur, hold_id)
        if hold is None or hold.state is not HoldState.OPEN:
            return False
        ledger.void_hold(cur, hold_id, now_ms)
        return True

    def _tell_payer(
        self,
        cur: Cursor,
        after: OutPayment,
        order: Order | None,
        decision: ChainObject,
        receipt: ChainObject | None,
        now_ms: int,
    ) -> None:
        if order is None:
            return
        reason = reason_of(decision.reason) if decision.type is MessageType.ABORT else None
        if after.state is OutState.VOIDED:
            reason = Reason.EXPIRED
        signed = None if receipt is None or after.state is not OutState.COMPLETED else receipt.content
        self._payer.restored_sent(cur, order, after.state, reason, signed, now_ms)

    def _missing_out(self, link: Link, terms: Terms, order: Order | None, now_ms: int) -> OutPayment:
        """A payment of ours that these books do not know, undecided. Without its opening it has no payer."""
        return OutPayment(
            link_id=link.link_id,
            peer=link.peer,
            terms=terms,
            payer=NOBODY if order is None else Acct(order.payer.acct),
            payment_id=PaymentId(terms.wire_id) if order is None else order.payment_id,
            hold_id=HoldId(f"lost:{terms.wire_id}") if order is None else order.hold_id,
            state=OutState.OFFERED,
            answer=None,
            receipt=None,
            offered_ms=now_ms,
            due_ms=now_ms,
        )

    def _order(self, cur: Cursor, link: Link, terms: Terms) -> Order | None:
        opening = store.opening(cur, link.link_id, Sender.OURS, terms.wire_id)
        if opening is None:
            return None
        order = objects.read_order(opening, terms, self._chain.me.server, link.peer)
        if isinstance(order, Refused):
            return None
        if not self._is_used_again(cur, order, terms):
            return order
        # These books could not know that the id was taken. Both payments stand, this one under another id.
        another = PaymentId(from_b64(terms.wire_id).hex()[:_PAYMENT_ID_DIGITS])
        return replace(order, payment_id=another, hold_id=HoldId(f"lost:{terms.wire_id}"))

    def _is_used_again(self, cur: Cursor, order: Order, terms: Terms) -> bool:
        """Whether the payer has given another order under the same id since the restore."""
        known = store.out_of(cur, Acct(order.payer.acct), order.payment_id)
        hold = ledger.hold_of(cur, order.hold_id)
        return (known is not None and known.terms != terms) or (hold is not None and hold.money != order.money)

    # A payment to us.

    def _got(self, cur: Cursor, link: Link, wire_id: WireId, now_ms: int) -> Replayed:
        found = self._objects(cur, link, Way.IN, wire_id)
        before = store.in_(cur, link.link_id, wire_id)
        terms = next((each.terms for each in found), None) if before is None else before.terms
        if terms is None:
            return link, ()
        mine = [each for each in found if each.from_server == self._chain.me.server]
        ours = _firsts(mine)
        said = [each for each in found if each.from_server == link.peer and each.terms == terms]
        theirs = _firsts(said)
        incoming = self._incoming(cur, link, terms)
        receipt = _receipt_of(before, mine)
        if receipt is not None:
            link, alarms = self._receipted(cur, link, before, terms, incoming, receipt, theirs, now_ms)
        else:
            link, now_in = self._answered(cur, link, before, terms, incoming, ours, now_ms)
            link, alarms = self._unanswered(cur, link, now_in, terms, incoming, said, now_ms)
        link, more = self._decided_twice(cur, link, said, now_ms)
        return link, alarms + more

    def _decided_twice(self, cur: Cursor, link: Link, said: Sequence[ChainObject], now_ms: int) -> Replayed:
        """COMMIT and ABORT of the peer for one payment: one of them counts by now, the other freezes the link."""
        decisions = [each for each in said if each.type in _DECISIONS]
        for each in decisions[1:]:
            if each.type is not decisions[0].type:
                return self._contradicted(cur, link, EvidenceKind.COMMIT_AND_ABORT, decisions[0], each, now_ms)
        return link, ()

    def _receipted(
        self,
        cur: Cursor,
        link: Link,
        before: InPayment | None,
        terms: Terms,
        incoming: Incoming | None,
        receipt: ChainObject,
        theirs: dict[MessageType, ChainObject],
        now_ms: int,
    ) -> Replayed:
        """Our RECEIPT counts, so the payment has ended as it says."""
        is_credited = Outcome(receipt.reason) is Outcome.CREDITED
        was_credited = before is not None and before.state is InState.CREDITED
        decision = Decision.COMMIT if is_credited else _first_decision(theirs)
        if before is not None and before.decision is not None and not is_credited:
            decision = before.decision
        acct = NOBODY if before is None else before.acct
        if is_credited and not acct and incoming is not None:
            acct = self._payee.recalled(cur, incoming, now_ms) or NOBODY
        known = before or self._inbound.missing(link, terms, offered=MessageType.OFFER in theirs)
        after = replace(
            known,
            state=InState.CREDITED if is_credited else InState.VOID,
            decision=decision,
            offered=known.offered or MessageType.OFFER in theirs,
            acct=acct or NOBODY if is_credited else known.acct,
            due_ms=None,
        )
        if before is not None and before.decision is Decision.ABORT and after.offered and not before.offered:
            # Its OFFER has come, which ends a tombstone; one that a restore brought back was not counted.
            link = replace(link, tombstones=max(0, link.tombstones - 1))
            store.put_link(cur, link)
        alarms: tuple[Alarm, ...] = ()
        debt = due_from(link.peer, terms.currency)
        theirs_now = available(after.acct or NOBODY, terms.currency)
        if is_credited and not was_credited:
            alarms = self._shift(cur, link, terms, "credit", debt, theirs_now, now_ms)
        elif was_credited and not is_credited:
            alarms = self._shift(cur, link, terms, "uncredit", theirs_now, debt, now_ms)
        self._inbound.put(cur, before, after)
        if incoming is not None:
            reason = None if is_credited else _why_void(theirs)
            signed = receipt.content if is_credited else None
            self._payee.restored_received(cur, incoming, reason, signed, now_ms)
        return link, alarms

    def _answered(
        self,
        cur: Cursor,
        link: Link,
        before: InPayment | None,
        terms: Terms,
        incoming: Incoming | None,
        ours: dict[MessageType, ChainObject],
        now_ms: int,
    ) -> tuple[Link, InPayment | None]:
        """Without a RECEIPT of ours: where our ACCEPT or REJECT puts it."""
        accept = ours.get(MessageType.ACCEPT)
        if before is None:
            if MessageType.REJECT in ours:
                after = replace(self._inbound.missing(link, terms, offered=False), state=InState.REJECTED)
                self._inbound.put(cur, None, after)
                return link, after
            if accept is None:
                return link, None
            acct = None if incoming is None else self._payee.recalled(cur, incoming, now_ms)
            missing = self._inbound.missing(link, terms, offered=False)
            state = InState.REJECTED if acct is None else InState.ACCEPTED
            due_ms = None if acct is None else now_ms + accept.valid_ms
            after = replace(missing, state=state, acct=acct, due_ms=due_ms)
            self._inbound.put(cur, None, after)
            return link, after
        match before.state:
            case InState.ASKED if accept is not None:
                if incoming is not None:
                    self._payee.recalled(cur, incoming, now_ms)
                after = replace(before, state=InState.ACCEPTED, due_ms=now_ms + accept.valid_ms)
            case InState.ASKED if MessageType.REJECT in ours:
                after = replace(before, state=InState.REJECTED, due_ms=None)
                if incoming is not None:
                    reason = reason_of(ours[MessageType.REJECT].reason)
                    self._payee.restored_received(cur, incoming, reason, None, now_ms)
            case _:
                return link, before
        self._inbound.put(cur, before, after)
        return link, after

    def _unanswered(
        self,
        cur: Cursor,
        link: Link,
        before: InPayment | None,
        terms: Terms,
        incoming: Incoming | None,
        said: Sequence[ChainObject],
        now_ms: int,
    ) -> Replayed:
        """What the peer signed and we have not answered, by the ordinary rules."""
        alarms: tuple[Alarm, ...] = ()
        offer = _firsts(said).get(MessageType.OFFER)
        if offer is not None and (before is None or not before.offered):
            opening = store.opening(cur, link.link_id, Sender.THEIRS, terms.wire_id)
            if before is None and incoming is None:
                link = self._inbound.reject(cur, link, terms, Reason.EXPIRED, now_ms)
            else:
                link, alarms = _after(self._inbound.on_offer(cur, link, offer, opening, now_ms, now_ms), link)
        decision = next((each for each in said if each.type in _DECISIONS), None)
        now_in = store.in_(cur, link.link_id, terms.wire_id)
        if decision is not None and (now_in is None or now_in.decision is None):
            link, more = _after(self._inbound.on_decision(cur, link, decision, now_ms, now_ms), link)
            alarms += more
        return link, alarms

    def _incoming(self, cur: Cursor, link: Link, terms: Terms) -> Incoming | None:
        opening = store.opening(cur, link.link_id, Sender.THEIRS, terms.wire_id)
        if opening is None:
            return None
        incoming = objects.read_opening(opening, terms, link.peer, self._chain.me.server)
        return None if isinstance(incoming, Refused) else incoming

    # Money.

    def _shift(
        self,
        cur: Cursor,
        link: Link,
        terms: Terms,
        what: str,
        debit: AccountKey,
        credit: AccountKey,
        now_ms: int,
    ) -> tuple[Alarm, ...]:
        """Move the whole amount; where a person is missing or has too little, suspense stands in."""
        suspense = house(AccountKind.SUSPENSE, terms.currency)
        name = f"restore:{link.our_epoch}:{what}:{link.link_id}:{terms.wire_id}"
        if NOBODY not in (debit.owner, credit.owner):
            moved = self._transfer(cur, name, debit, credit, terms.amount_minor, terms, now_ms)
            if not isinstance(moved, Refused):
                return ()
        debit = suspense if debit.kind is AccountKind.AVAILABLE else debit
        credit = suspense if credit.kind is AccountKind.AVAILABLE else credit
        moved = self._transfer(cur, f"{name}:suspense", debit, credit, terms.amount_minor, terms, now_ms)
        if isinstance(moved, Refused):
            raise RuntimeError(f"a restored payment cannot be booked: {moved.message}")
        return (self._in_suspense(cur, link, terms, terms.amount_minor, now_ms),)

    def _transfer(
        self,
        cur: Cursor,
        name: str,
        debit: AccountKey,
        credit: AccountKey,
        amount_minor: int,
        terms: Terms,
        now_ms: int,
    ) -> Posted | Refused:
        return ledger.transfer(
            cur,
            Transfer(
                transfer_id=TransferId(name),
                debit=debit,
                credit=credit,
                amount_minor=amount_minor,
                cause=Cause.RESTORE,
                reference=terms.wire_id,
            ),
            now_ms,
        )

    def _in_suspense(self, cur: Cursor, link: Link, terms: Terms, amount_minor: int, now_ms: int) -> Alarm:
        """Tell the operator, now and as long as they like to look, of which payment the house stands in."""
        kind = EvidenceKind.SUSPENSE
        note = canonical({**objects.terms_fields(terms), "suspense": amount_minor}).decode()
        store.add_evidence(cur, link.link_id, kind, ("", ""), (terms.wire_id, note), now_ms)
        return Alarm(
            kind=kind,
            peer=link.peer,
            message=f"{amount_minor} minor units of {terms.currency} of a restored payment have no owner or no cover"
            " here; they stand in the account suspense until you have put them right.",
        )

    def _objects(self, cur: Cursor, link: Link, way: Way, wire_id: WireId) -> list[ChainObject]:
        """What belongs to a payment, ours first.

        The peer knows the ids of our payments, and may use one of them for a payment of its own, or for a settlement.
        """
        payers = Sender.OURS if way is Way.OUT else Sender.THEIRS
        here = [
            each
            for each in store.objects_of(cur, link.link_id, wire_id)
            if each.type in (PAYER_SAYS if each.sender is payers else PAYEE_SAYS)
        ]
        read = map(objects.read_object, map(_content, here))
        return [each for each in read if isinstance(each, ChainObject) and each.terms is not None]


def _content(stored: Stored) -> JsonObject:
    return store.content_of(stored.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """What the RECEIPTs of a payment of ours make of it; ``counted`` is the one that does, if it is here."""

    link: Link
    state: OutState
    outcome: Outcome | None
    counted: ChainObject | None
    alarms: tuple[Alarm, ...]


def _firsts(found: Sequence[ChainObject]) -> dict[MessageType, ChainObject]:
    """The first of each type, in the order of the chain."""
    return {each.type: each for each in reversed(found)}


def _decision_of(before: OutPayment | None, ours: Sequence[ChainObject]) -> ChainObject | None:
    """Our COMMIT or ABORT. Should there be both, the one that these books follow stays, or else the first counts.

    That takes a peer which shows one that it had left out of an earlier FENCED, so that we decided anew.
    """
    decisions = [each for each in ours if each.type in _DECISIONS]
    if before is not None and not before.state.is_undecided:
        kind = MessageType.ABORT if before.state is OutState.ABORTED else MessageType.COMMIT
        decisions = [each for each in decisions if each.type is kind] or decisions
    return next(iter(decisions), None)


def _receipt_of(before: InPayment | None, ours: Sequence[ChainObject]) -> ChainObject | None:
    """Our RECEIPT, by the same rule."""
    receipts = [each for each in ours if each.type is MessageType.RECEIPT]
    if before is not None and before.state in (InState.CREDITED, InState.VOID):
        outcome = Outcome.CREDITED if before.state is InState.CREDITED else Outcome.VOID
        receipts = [each for each in receipts if each.reason == outcome.value] or receipts
    return next(iter(receipts), None)


def _first_decision(theirs: dict[MessageType, ChainObject]) -> Decision:
    found = [each for kind, each in theirs.items() if kind in _DECISIONS]
    first = min(found, key=lambda each: (each.epoch, each.seq), default=None)
    return Decision.ABORT if first is None else Decision(first.type.value)


def _sent_state(decision: ChainObject, outcome: Outcome | None) -> OutState:
    if decision.type is MessageType.ABORT:
        return OutState.ABORTED
    match outcome:
        case Outcome.CREDITED:
            return OutState.COMPLETED
        case Outcome.VOID:
            return OutState.VOIDED
        case None:
            return OutState.COMMITTED


def _why_void(theirs: dict[MessageType, ChainObject]) -> Reason:
    abort = theirs.get(MessageType.ABORT)
    return Reason.EXPIRED if abort is None else reason_of(abort.reason)


def _after(handled: Handled, link: Link) -> Replayed:
    match handled:
        case Taken():
            return handled.link, ()
        case Stopped():
            return handled.link, (handled.alarm,)
        case Refused():
            return link, ()
