"""The payee's side: reserve credit on ACCEPT, credit the payee on COMMIT only, and RECEIPT every decision once.

The money: due_from -> available, in one transaction with RECEIPT(credited). Nothing is credited before COMMIT. A
reservation lapses when ``valid_ms`` is over; a COMMIT that comes later is credited if the limit then allows it.
"""

from dataclasses import replace

from super_app.clearing import objects, rules, store
from super_app.clearing.chain import Chain, Handled, Taken
from super_app.clearing.model import (
    ChainObject,
    CurrencyLine,
    Decision,
    EvidenceKind,
    InPayment,
    InState,
    JsonObject,
    Link,
    MessageType,
    Outcome,
    Sender,
    Stored,
    Terms,
    WireId,
)
from super_app.clearing.outbound import reason_of
from super_app.clearing.ports import Accept, Ask, Incoming, Payee
from super_app.clearing.rules import PayeeMove
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct
from super_app.ledger import service as ledger
from super_app.ledger.model import Cause, Transfer, TransferId, available, due_from, due_to


class Inbound:
    def __init__(self, chain: Chain, payee: Payee) -> None:
        self._chain = chain
        self._payee = payee

    def used_minor(self, cur: Cursor, link: Link, line: CurrencyLine) -> int:
        """The credit that the peer uses now (I5)."""
        owed_minor, owing_minor = ledger.balances(
            cur, [due_from(link.peer, line.currency), due_to(link.peer, line.currency)]
        )
        return rules.credit_used(-owed_minor, line.reserved_minor, owing_minor, line.unreceipted_minor)

    def on_offer(
        self, cur: Cursor, link: Link, found: ChainObject, opening: JsonObject | None, now_ms: int, due_ms: int
    ) -> Handled:
        terms = found.payment_terms()
        payment = store.in_(cur, link.link_id, terms.wire_id)
        match rules.payee_on_offer(payment, terms):
            case PayeeMove.CONFLICT:
                return _conflict("another OFFER has this id")
            case PayeeMove.KEEP if payment is not None:
                link = self._chain.admit(cur, link, found, now_ms)
                self._decide(cur, payment, replace(payment, offered=True))
                if payment.decision is Decision.ABORT:
                    # One that a restore brought back was not counted.
                    link = replace(link, tombstones=max(0, link.tombstones - 1))
                    store.put_link(cur, link)
                return Taken(link=link)
            case _:
                pass
        if found.routed:
            # Routing over a third server has no opening on this path; this version takes direct payments only.
            link = self._chain.admit(cur, link, found, now_ms)
            return Taken(link=self._reject_new(cur, link, terms, Reason.NOT_ALLOWED, now_ms, due_ms))
        if opening is None:
            return Refused(reason=Reason.INVALID_VALUE, message="The opening of this OFFER is missing; send both.")
        incoming = objects.read_opening(opening, terms, link.peer, self._chain.me.server)
        if isinstance(incoming, Refused):
            return incoming
        link = self._chain.admit(cur, link, found, now_ms)
        line = store.line(cur, link.link_id, terms.currency)
        used_minor = 0 if line is None else self.used_minor(cur, link, line)
        not_ready = rules.why_not_ready(link, link.peer)
        reason = rules.judge_offer(terms, line, used_minor) if not_ready is None else not_ready.reason
        if reason is not None:
            return Taken(link=self._reject_new(cur, link, terms, reason, now_ms, due_ms))
        store.put_opening(cur, link.link_id, Sender.THEIRS, terms.wire_id, opening, now_ms)
        match self._payee.offered(cur, incoming, now_ms):
            case Refused() as refused:
                link = self._reject_new(cur, link, terms, refused.reason, now_ms, due_ms)
            case Ask(acct=acct, until_ms=until_ms):
                ttl_ms = min(max(until_ms - now_ms, 1), rules.MAX_ASK_MS)
                asked = self._new(link, terms, InState.ASKED, acct=acct, due_ms=now_ms + ttl_ms)
                store.add_in(cur, asked)
                self._count(cur, asked, 1)
                link = self._say(cur, link, MessageType.PENDING, terms, now_ms, due_ms, ttl_ms=ttl_ms)
            case Accept(acct=acct):
                asked = self._new(link, terms, InState.ASKED, acct=acct, due_ms=now_ms)
                accepted = _accepted(asked, used_minor, line, now_ms)
                store.add_in(cur, accepted)
                self._count(cur, accepted, 1)
                link = self._say_accept(cur, link, terms, now_ms, due_ms)
        return Taken(link=link)

    def on_decision(self, cur: Cursor, link: Link, found: ChainObject, now_ms: int, due_ms: int) -> Handled:
        """COMMIT or ABORT."""
        terms = found.payment_terms()
        decision = Decision(found.type.value)
        payment = store.in_(cur, link.link_id, terms.wire_id)
        line = store.line(cur, link.link_id, terms.currency)
        used_minor = 0 if line is None else self.used_minor(cur, link, line)
        fits = rules.within_limit(used_minor, terms.amount_minor, line)
        match rules.payee_on_decision(payment, decision, terms, within_limit=fits):
            case PayeeMove.COMMIT_AND_ABORT:
                first = self._decision_of(cur, link, terms.wire_id)
                return self._chain.freeze(cur, link, EvidenceKind.COMMIT_AND_ABORT, first, found, now_ms)
            case PayeeMove.DOUBT:
                # Either we are an old copy, or the peer lies: ask it what it holds of ours before answering.
                link = self._chain.admit(cur, link, found, now_ms)
                doubt = self._new(link, terms, InState.DOUBT, decision=Decision.COMMIT, offered=False)
                store.add_in(cur, doubt)
                link = replace(link, checked_boot="")
                store.put_link(cur, link)
            case PayeeMove.TOMBSTONE:
                if link.tombstones >= rules.MAX_TOMBSTONES:
                    return Refused(
                        reason=Reason.TOO_MANY_REQUESTS,
                        message=f"{link.tombstones} payments were aborted before they were offered; send their OFFERs.",
                        fields={"retry_after_ms": rules.RETRY_MS[2]},
                    )
                link = self._chain.admit(cur, link, found, now_ms)
                link = replace(link, tombstones=link.tombstones + 1)
                tombstone = self._new(link, terms, InState.VOID, decision=Decision.ABORT, offered=False)
                store.add_in(cur, tombstone)
                link = self._receipt(cur, link, terms, Outcome.VOID, now_ms, due_ms)[0]
            case PayeeMove.CREDIT if payment is not None:
                link = self._chain.admit(cur, link, found, now_ms)
                link = self._credit(cur, link, payment, used_minor, line, now_ms, due_ms)
            case PayeeMove.VOID if payment is not None:
                link = self._chain.admit(cur, link, found, now_ms)
                reason = reason_of(found.reason) if decision is Decision.ABORT else Reason.EXPIRED
                link = self._void(cur, link, payment, decision, reason, now_ms, due_ms)
            case _:
                return _conflict("the payment of this id has other terms, or was decided by another object")
        return Taken(link=link)

    def accept(self, cur: Cursor, link: Link, wire_id: WireId, now_ms: int) -> Refused | None:
        """The payee who was asked says yes."""
        refused = self._chain.why_not(link, link.peer) or rules.why_not_ready(link, link.peer)
        if refused is not None:
            return refused
        payment = self._asked(cur, link, wire_id, now_ms)
        if isinstance(payment, Refused):
            return payment
        line = store.line(cur, link.link_id, payment.terms.currency)
        used_minor = 0 if line is None else self.used_minor(cur, link, line)
        if not rules.within_limit(used_minor, payment.terms.amount_minor, line):
            return Refused(
                reason=Reason.CREDIT_LIMIT,
                message=f"{link.peer} has used up its credit here for now; try again later.",
            )
        accepted = _accepted(payment, used_minor, line, now_ms)
        self._decide(cur, payment, accepted)
        self._count(cur, payment, -1)
        self._count(cur, accepted, 1)
        self._say_accept(cur, link, payment.terms, now_ms, now_ms)
        return None

    def refuse(self, cur: Cursor, link: Link, wire_id: WireId, reason: Reason, now_ms: int) -> Refused | None:
        """The payee who was asked says no."""
        if self._chain.may_sign(link) is rules.MaySign.NOTHING:
            return self._chain.why_not(link, link.peer)
        payment = self._asked(cur, link, wire_id, now_ms)
        if isinstance(payment, Refused):
            return payment
        self._reject(cur, link, payment, reason, now_ms)
        return None

    def expire(self, cur: Cursor, link: Link, payment: InPayment, now_ms: int) -> Link:
        """The time of an asked or a reserved payment is over."""
        if payment.state is InState.ASKED:
            incoming = self._incoming(cur, payment)
            link = self._reject(cur, link, payment, Reason.EXPIRED, now_ms)
            if incoming is not None:
                self._payee.ended(cur, incoming, Reason.EXPIRED, now_ms)
            return link
        self._count(cur, payment, -1)
        self._decide(cur, payment, replace(payment, state=InState.LAPSED, due_ms=None))
        return link

    def settle_doubts(self, cur: Cursor, link: Link, now_ms: int) -> Link:
        """The peer knows no more of us than we do, so COMMITs that we do not know the OFFER of are void."""
        for payment in store.in_doubt(cur, link.link_id):
            self._decide(cur, payment, replace(payment, state=InState.VOID))
            link = self._receipt(cur, link, payment.terms, Outcome.VOID, now_ms, now_ms)[0]
        return link

    # For a link that comes back after a restore.

    def missing(self, link: Link, terms: Terms, *, offered: bool) -> InPayment:
        """A payment that these books do not know, before anything is known of it."""
        return self._new(link, terms, InState.REJECTED, offered=offered)

    def put(self, cur: Cursor, before: InPayment | None, after: InPayment) -> None:
        """Write where a payment stands now, and count it there; None before: it is not here yet."""
        store.ensure_line(cur, after.link_id, after.terms.currency)
        if before is None:
            store.add_in(cur, after)
        else:
            self._count(cur, before, -1)
            self._decide(cur, before, after)
        self._count(cur, after, 1)

    def reject(self, cur: Cursor, link: Link, terms: Terms, reason: Reason, now_ms: int) -> Link:
        """REJECT an offer of which nothing more is to be had."""
        return self._reject_new(cur, link, terms, reason, now_ms, now_ms)

    def _credit(
        self,
        cur: Cursor,
        link: Link,
        payment: InPayment,
        used_minor: int,
        line: CurrencyLine | None,
        now_ms: int,
        due_ms: int,
    ) -> Link:
        terms = payment.terms
        if payment.acct is None:
            raise RuntimeError(f"payment {terms.wire_id} was accepted for nobody")
        credited = ledger.transfer(
            cur,
            Transfer(
                transfer_id=TransferId(f"credit:{link.link_id}:{terms.wire_id}"),
                debit=due_from(link.peer, terms.currency),
                credit=available(payment.acct, terms.currency),
                amount_minor=terms.amount_minor,
                cause=Cause.CREDIT,
                reference=terms.wire_id,
            ),
            now_ms,
        )
        if isinstance(credited, Refused):
            return self._void(cur, link, payment, Decision.COMMIT, credited.reason, now_ms, due_ms)
        after = replace(payment, state=InState.CREDITED, decision=Decision.COMMIT, due_ms=None)
        if payment.state is InState.LAPSED:
            after = replace(after, used_minor=used_minor + terms.amount_minor, limit_minor=_limit_of(line))
        self._count(cur, payment, -1)
        self._decide(cur, payment, after)
        link, signed = self._receipt(cur, link, terms, Outcome.CREDITED, now_ms, due_ms)
        incoming = self._incoming(cur, payment)
        if incoming is not None:
            self._payee.credited(cur, incoming, signed, now_ms)
        return link

    def _void(
        self,
        cur: Cursor,
        link: Link,
        payment: InPayment,
        decision: Decision,
        reason: Reason,
        now_ms: int,
        due_ms: int,
    ) -> Link:
        """End a payment without credit."""
        self._count(cur, payment, -1)
        self._decide(cur, payment, replace(payment, state=InState.VOID, decision=decision, due_ms=None))
        link = self._receipt(cur, link, payment.terms, Outcome.VOID, now_ms, due_ms)[0]
        if payment.state in (InState.ASKED, InState.ACCEPTED, InState.LAPSED):
            incoming = self._incoming(cur, payment)
            if incoming is not None:
                self._payee.ended(cur, incoming, reason, now_ms)
        return link

    def _reject_new(self, cur: Cursor, link: Link, terms: Terms, reason: Reason, now_ms: int, due_ms: int) -> Link:
        store.add_in(cur, self._new(link, terms, InState.REJECTED))
        return self._say(cur, link, MessageType.REJECT, terms, now_ms, due_ms, reason=reason.value)

    def _reject(self, cur: Cursor, link: Link, payment: InPayment, reason: Reason, now_ms: int) -> Link:
        self._count(cur, payment, -1)
        self._decide(cur, payment, replace(payment, state=InState.REJECTED, due_ms=None))
        return self._say(cur, link, MessageType.REJECT, payment.terms, now_ms, now_ms, reason=reason.value)

    def _asked(self, cur: Cursor, link: Link, wire_id: WireId, now_ms: int) -> InPayment | Refused:
        payment = store.in_(cur, link.link_id, wire_id)
        if payment is None:
            return Refused(reason=Reason.UNKNOWN_PAYMENT, message="No such payment was offered here.")
        if payment.state is not InState.ASKED:
            return Refused(reason=Reason.ALREADY_DECIDED, message="The payment no longer waits for an answer.")
        if payment.due_ms is not None and now_ms >= payment.due_ms:
            return Refused(reason=Reason.EXPIRED, message="The payment expired before it was answered.")
        return payment

    def _count(self, cur: Cursor, payment: InPayment, sign: int) -> None:
        """Count a payment into what is in flight, or out of it."""
        if payment.state not in (InState.ASKED, InState.ACCEPTED):
            return
        amount_minor = sign * payment.terms.amount_minor
        store.move_line(
            cur,
            payment.link_id,
            payment.terms.currency,
            reserved_minor=amount_minor if payment.state is InState.ACCEPTED else 0,
            in_flight_count=sign,
            in_flight_minor=amount_minor,
        )

    def _incoming(self, cur: Cursor, payment: InPayment) -> Incoming | None:
        """What its opening said; None once that was erased."""
        opening = store.opening(cur, payment.link_id, Sender.THEIRS, payment.terms.wire_id)
        if opening is None:
            return None
        incoming = objects.read_opening(opening, payment.terms, payment.peer, self._chain.me.server)
        if isinstance(incoming, Refused):
            raise RuntimeError(f"a stored opening no longer reads: {incoming.message}")
        return incoming

    def _decision_of(self, cur: Cursor, link: Link, wire_id: WireId) -> Stored | None:
        found = store.objects_of(cur, link.link_id, wire_id)
        kinds = (MessageType.COMMIT, MessageType.ABORT)
        return next((each for each in found if each.sender is Sender.THEIRS and each.type in kinds), None)

    def _new(
        self,
        link: Link,
        terms: Terms,
        state: InState,
        *,
        decision: Decision | None = None,
        offered: bool = True,
        acct: Acct | None = None,
        due_ms: int | None = None,
    ) -> InPayment:
        return InPayment(
            link_id=link.link_id,
            peer=link.peer,
            terms=terms,
            state=state,
            decision=decision,
            offered=offered,
            acct=acct,
            due_ms=due_ms,
        )

    def _decide(self, cur: Cursor, before: InPayment, after: InPayment) -> None:
        if not store.move_in(cur, before, after):
            raise RuntimeError(f"payment {before.terms.wire_id} changed under the one writer")

    def _say_accept(self, cur: Cursor, link: Link, terms: Terms, now_ms: int, due_ms: int) -> Link:
        return self._say(cur, link, MessageType.ACCEPT, terms, now_ms, due_ms, valid_ms=rules.ACCEPT_VALID_MS)

    def _receipt(
        self, cur: Cursor, link: Link, terms: Terms, outcome: Outcome, now_ms: int, due_ms: int
    ) -> tuple[Link, JsonObject]:
        return self._chain.append(
            cur,
            link,
            MessageType.RECEIPT,
            {**objects.terms_fields(terms), "reason": outcome.value},
            due_ms=due_ms,
            now_ms=now_ms,
            wire_id=terms.wire_id,
        )

    def _say(
        self, cur: Cursor, link: Link, kind: MessageType, terms: Terms, now_ms: int, due_ms: int, **fields: int | str
    ) -> Link:
        link, _ = self._chain.append(
            cur,
            link,
            kind,
            {**objects.terms_fields(terms), **fields},
            due_ms=due_ms,
            now_ms=now_ms,
            wire_id=terms.wire_id,
        )
        return link


def _accepted(asked: InPayment, used_minor: int, line: CurrencyLine | None, now_ms: int) -> InPayment:
    """The payment with its amount reserved."""
    return replace(
        asked,
        state=InState.ACCEPTED,
        due_ms=now_ms + rules.ACCEPT_VALID_MS,
        used_minor=used_minor + asked.terms.amount_minor,
        limit_minor=_limit_of(line),
    )


def _limit_of(line: CurrencyLine | None) -> int:
    return 0 if line is None or line.ours is None else line.ours.limit_minor


def _conflict(why: str) -> Refused:
    return Refused(
        reason=Reason.CONFLICT,
        message=f"This object does not fit the payment of its id: {why}. It will never be taken.",
    )
