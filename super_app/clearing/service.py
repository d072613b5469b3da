"""Clearing as its callers see it: payments offer, accept and cancel; the shell hands over what arrives and sends.

Every method runs inside one transaction of the ledger's writer, which nobody else decides beside. A ``Refused`` has
written nothing. No method talks to the network: what is to be sent stands in the outbox when the transaction commits,
and ``due`` reads it from there.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Final

from nacl.signing import SigningKey

from super_app.clearing import advances, objects, repin, rules, store
from super_app.clearing.chain import Chain, Handled, Identity, Stopped, Taken
from super_app.clearing.fence import Fences
from super_app.clearing.inbound import Inbound
from super_app.clearing.link_life import LinkLife
from super_app.clearing.links import Links
from super_app.clearing.model import (
    Agenda,
    Alarm,
    ChainObject,
    Errand,
    Evidence,
    InState,
    JsonObject,
    Link,
    LinkState,
    LinkTerms,
    LinkView,
    MessageId,
    MessageType,
    OutPayment,
    OutState,
    Query,
    Received,
    Sender,
    Standing,
    Stored,
    Trouble,
    WaitingPayment,
)
from super_app.clearing.outbound import Outbound
from super_app.clearing.ports import Order, Payee, Payer, WireId
from super_app.clearing.recovery import Recoveries
from super_app.clearing.recovery_model import Repin, RestoreId
from super_app.clearing.replay import Replay
from super_app.clearing.rules import MaySign, SeenVerdict
from super_app.clearing.settlement_desk import SettlementDesk
from super_app.clearing.settlements import Settlements
from super_app.clearing.statements import Statements
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct, PaymentId, ServerName, UserId
from super_app.ledger.model import Violation
from super_app.money import Asset, AssetCode, Money
from super_app.signing import digest

TICK_PAGE: Final = 100
MAX_ANSWERED: Final = 200
"""Objects of one HTTP answer that are looked at; RANGE? answers hold at most half as many."""


class Clearing:
    """One homeserver's side of all its links.

    ``certificate`` is signed by the homeserver's Matrix key and names ``key``; ``boot`` is a nonce of this tenure of
    the ledger's writer, so that what a peer confirmed in an earlier one counts no more. ``retired`` are the keys that
    ``key`` replaced, in any order. ``settlements`` is what operators do there.
    """

    def __init__(
        self,
        *,
        server: ServerName,
        key: SigningKey,
        certificate: JsonObject,
        boot: str,
        assets: Mapping[AssetCode, Asset],
        payee: Payee,
        payer: Payer,
        retired: Sequence[SigningKey] = (),
    ) -> None:
        self.server = server
        self._chain = Chain(Identity(server=server, key=key, certificate=certificate, boot=boot, retired=retired))
        self._assets = assets
        self._outbound = Outbound(self._chain, payer)
        self._inbound = Inbound(self._chain, payee)
        self._life = LinkLife(self._chain)
        self._settlements = Settlements(self._chain, assets)
        self._links = Links(self._chain, self._life, self._inbound, self._settlements, assets)
        self._fences = Fences(self._chain)
        self._statements = Statements(self._chain)
        replay = Replay(
            self._chain,
            self._fences,
            self._life,
            self._settlements,
            self._outbound,
            self._inbound,
            payer,
            payee,
        )
        self._recoveries = Recoveries(self._chain, self._life, self._fences, self._links, replay)
        self.settlements = SettlementDesk(server, self._settlements)

    def begin(self, boot: str) -> None:
        """A tenure begins: until a peer has answered HEAD? again, nothing is signed towards it."""
        self._chain.me = replace(self._chain.me, boot=boot)

    # For payments.

    def can_pay(self, cur: Cursor, to_server: ServerName, money: Money) -> Refused | None:
        """NO_LINK, LINK_HALTED or UNKNOWN_CURRENCY; None if a payment may be offered. Writes nothing."""
        return self._links.can_pay(cur, to_server, money)

    def is_unsure(self, cur: Cursor, to_server: ServerName) -> bool:
        """Whether payments to a server may have been decided of which this database does not know."""
        link = store.link(cur, objects.link_id_of(self.server, to_server))
        return link is not None and link.state in (LinkState.HALTED, LinkState.RECOVERING)

    def offer(self, cur: Cursor, order: Order, to_server: ServerName, now_ms: int) -> WireId | Refused:
        """Offer a payment, whose hold exists, to the payee's server. The same order again gives the same id.

        Refusals: those of ``can_pay``, and CONFLICT for another order under the id of this one.
        """
        link = store.link(cur, objects.link_id_of(self.server, to_server))
        known = store.out_of(cur, Acct(order.payer.acct), order.payment_id)
        if known is not None:
            if (
                link is not None
                and known.link_id == link.link_id
                and known.terms == objects.terms_of(order, known.terms.scale)
            ):
                return known.terms.wire_id
            return Refused(
                reason=Reason.CONFLICT, message="Another payment was offered under this id; use a new payment_id."
            )
        refused = self.can_pay(cur, to_server, order.money)
        if refused is not None:
            return refused
        if link is None:
            raise RuntimeError("a link that can be paid over is not there")
        return self._outbound.offer(cur, link, order, self._assets[order.money.currency].scale, now_ms)

    def cancel(self, cur: Cursor, payer: Acct, payment_id: PaymentId, reason: Reason, now_ms: int) -> Refused | None:
        """ABORT a payment that is not decided; again changes nothing. ``Payer.failed`` is called from within.

        Refusals: UNKNOWN_PAYMENT, ALREADY_DECIDED (it is committed), LINK_HALTED (nothing may be signed now).
        """
        payment = store.out_of(cur, payer, payment_id)
        if payment is None:
            return Refused(reason=Reason.UNKNOWN_PAYMENT, message="No such payment was offered to another homeserver.")
        return self._outbound.cancel(cur, self._link(cur, payment), payment, reason, now_ms)

    def accept(self, cur: Cursor, from_server: ServerName, wire_id: WireId, now_ms: int) -> Refused | None:
        """The payee, who was asked, takes the payment.

        Refusals: UNKNOWN_PAYMENT, ALREADY_DECIDED, EXPIRED, CREDIT_LIMIT (may be tried again), NO_LINK, LINK_HALTED.
        """
        link = store.link(cur, objects.link_id_of(self.server, from_server))
        if link is None:
            return self._chain.why_not(None, from_server)
        return self._inbound.accept(cur, link, wire_id, now_ms)

    def refuse(
        self, cur: Cursor, from_server: ServerName, wire_id: WireId, reason: Reason, now_ms: int
    ) -> Refused | None:
        """The payee, who was asked, declines. Refusals as for ``accept``, without CREDIT_LIMIT."""
        link = store.link(cur, objects.link_id_of(self.server, from_server))
        if link is None:
            return self._chain.why_not(None, from_server)
        return self._inbound.refuse(cur, link, wire_id, reason, now_ms)

    def outgoing(self, cur: Cursor, payer: Acct, payment_id: PaymentId) -> OutState | None:
        """Where a payment that we offered stands; None if we never offered it."""
        payment = store.out_of(cur, payer, payment_id)
        return None if payment is None else payment.state

    def incoming(self, cur: Cursor, from_server: ServerName, wire_id: WireId) -> InState | None:
        """Where a payment that was offered to us stands."""
        payment = store.in_(cur, objects.link_id_of(self.server, from_server), wire_id)
        return None if payment is None else payment.state

    # For operators.

    def open_link(self, cur: Cursor, terms: LinkTerms, now_ms: int) -> LinkView | Refused:
        """Open our side of a link, or change what it grants. Refusals: INVALID_VALUE, UNKNOWN_CURRENCY, LINK_HALTED."""
        refused = self._links.open(cur, terms, now_ms)
        if refused is not None:
            return refused
        link = store.link(cur, objects.link_id_of(self.server, terms.peer))
        if link is None:
            raise RuntimeError("a link vanished inside its own transaction")
        return self._links.view(cur, link)

    def suspend(self, cur: Cursor, peer: ServerName, why: str, now_ms: int) -> LinkView | Refused:
        """Agree on nothing new with a peer until ``resume``. ``why`` is empty or a word of ``a``-``z`` and ``_``.

        Holds at once, also while nothing can be signed. Refusals: UNKNOWN_PEER, ALREADY_DECIDED (our side is closed).
        """
        link = self._known(cur, peer)
        if isinstance(link, Refused):
            return link
        if link.our_standing is Standing.CLOSING:
            return Refused(
                reason=Reason.ALREADY_DECIDED,
                message=f"The link with {peer} is closed from here, which suspends it for good; nothing was changed.",
            )
        return self._links.view(cur, self._life.stand(cur, link, Standing.SUSPENDED, why, now_ms))

    def resume(self, cur: Cursor, peer: ServerName, now_ms: int) -> LinkView | Refused:
        """Take back our SUSPEND, or our CLOSE. Refusals: UNKNOWN_PEER."""
        link = self._known(cur, peer)
        if isinstance(link, Refused):
            return link
        return self._links.view(cur, self._links.resume(cur, link, now_ms))

    def close(self, cur: Cursor, peer: ServerName, why: str, now_ms: int) -> LinkView | Refused:
        """End the link: nothing new; what is under way ends, and positions are settled. Refusals: UNKNOWN_PEER."""
        link = self._known(cur, peer)
        if isinstance(link, Refused):
            return link
        return self._links.view(cur, self._life.stand(cur, link, Standing.CLOSING, why, now_ms))

    @property
    def key(self) -> SigningKey:
        """The payment key of this server."""
        return self._chain.me.key

    def use_key(self, key: SigningKey, certificate: JsonObject, retired: Sequence[SigningKey]) -> None:
        """Sign with this key from now on, which is durable, as are those that it replaced.

        Each link says so first, by the key that it has: see ``say_key``.
        """
        self._chain.me = replace(self._chain.me, key=key, certificate=certificate, retired=retired)

    def say_key(self, cur: Cursor, peer: ServerName, now_ms: int) -> LinkView | Refused:
        """KEY to a peer that does not know the present key, where something can be signed; else it follows later."""
        link = self._known(cur, peer)
        return link if isinstance(link, Refused) else self._links.view(cur, self._life.say(cur, link, now_ms))

    def link(self, cur: Cursor, peer: ServerName) -> LinkView | Refused:
        """How one link stands. Refusals: UNKNOWN_PEER."""
        link = self._known(cur, peer)
        return link if isinstance(link, Refused) else self._links.view(cur, link)

    def fence(self, cur: Cursor, peer: ServerName, restore_id: RestoreId, now_ms: int) -> LinkView | Refused:
        """This database is a copy, and the newest there is: bring the link with a peer back from a halt.

        The operator answers for it that no newer database will ever run again. A link that is on its way back already
        starts over, but not by the same order. Refusals: UNKNOWN_PEER, CONFLICT for a link that is not halted.
        """
        link = store.link(cur, objects.link_id_of(self.server, peer))
        if link is None:
            return Refused(reason=Reason.UNKNOWN_PEER, message=f"There is no link with {peer}.")
        if self._recoveries.is_ordered(cur, link, restore_id):
            return self._links.view(cur, link)
        if link.state not in (LinkState.HALTED, LinkState.RECOVERING):
            return Refused(
                reason=Reason.CONFLICT,
                message=f"The link with {peer} is not halted: what this database knows is all that the peer has seen.",
            )
        return self._links.view(cur, self._recoveries.begin(cur, link, restore_id, now_ms))

    def repin(
        self, cur: Cursor, peer: ServerName, fingerprint: str, restore_id: RestoreId, now_ms: int, *, take_back: bool
    ) -> LinkView | Refused:
        """Pin the payment keys of both sides anew and open a new epoch. The peer's operator must order it too.

        It is the way back from a lost or stolen key, and from a frozen link. ``fingerprint`` is what that operator has
        told ours of its key. ``take_back``: these books may have lost what was signed here, so take what the peer
        holds of it. Refusals: UNKNOWN_PEER, INVALID_VALUE (no fingerprint), NO_LINK (a side is not open yet), CONFLICT
        (our key file holds a key that this link had before).
        """
        link = self._known(cur, peer)
        if isinstance(link, Refused):
            return link
        confirmed = objects.read_fingerprint(fingerprint)
        if confirmed is None:
            return Refused(
                reason=Reason.INVALID_VALUE,
                message="fingerprint: it has 32 hexadecimal digits, in groups of four, as the other operator sees it.",
            )
        if not link.is_open:
            return Refused(
                reason=Reason.NO_LINK,
                message=f"The link with {peer} is not open on both sides yet; open it, then pin the keys anew.",
            )
        key_id = self._chain.me.key_id
        if key_id != link.our_key_id and key_id in store.keys(cur, link.link_id, Sender.OURS):
            return Refused(
                reason=Reason.CONFLICT,
                message="The key file holds a payment key that this link had before; make a new one with super-app link"
                " rotate-key first.",
            )
        if self._recoveries.is_ordered(cur, link, restore_id):
            return self._links.view(cur, link)
        order = Repin(link_id=link.link_id, ordered=True, confirmed=confirmed, take_back=take_back)
        return self._links.view(cur, self._recoveries.repin(cur, link, order, restore_id, now_ms))

    def links(self, cur: Cursor) -> tuple[LinkView, ...]:
        return tuple(self._links.view(cur, link) for link in store.links(cur))

    def evidence(self, cur: Cursor, peer: ServerName, limit: int) -> tuple[Evidence, ...]:
        """What is kept against a peer, newest first."""
        return store.evidence(cur, objects.link_id_of(self.server, peer), limit)

    def waiting(self, cur: Cursor, peer: ServerName, limit: int) -> tuple[WaitingPayment, ...] | Refused:
        """Payments to a peer that have not ended, the oldest first. Refusals: UNKNOWN_PEER."""
        link = self._known(cur, peer)
        if isinstance(link, Refused):
            return link
        return tuple(self._waiting(cur, payment) for payment in store.out_open(cur, link.link_id, limit))

    def give_back(
        self, cur: Cursor, peer: ServerName, wire_id: WireId, *, reason: str, operator: str, now_ms: int
    ) -> WaitingPayment | Refused:
        """Give a payer the money of a payment to a peer that is gone: see ``advances``. Again changes nothing.

        One that is undecided, where we may sign, is simply aborted. Refusals: UNKNOWN_PEER, UNKNOWN_PAYMENT,
        ALREADY_DECIDED (it has ended).
        """
        link = self._known(cur, peer)
        if isinstance(link, Refused):
            return link
        payment = store.out(cur, link.link_id, wire_id)
        if payment is None:
            return Refused(
                reason=Reason.UNKNOWN_PAYMENT,
                message=f"No such payment was offered to {peer}; list those that wait, and name one by its wire_id.",
            )
        if payment.state.is_undecided and self._chain.may_sign(link) is not MaySign.NOTHING:
            refused = self._outbound.cancel(cur, link, payment, Reason.CANCELLED, now_ms)
        else:
            given = advances.advance(cur, payment, reason=reason, operator=operator, now_ms=now_ms)
            refused = given if isinstance(given, Refused) else None
        if refused is not None:
            return refused
        return self._waiting(cur, store.out(cur, link.link_id, wire_id) or payment)

    def violations(self, cur: Cursor) -> tuple[Violation, ...]:
        """I4, I5 and our half of I3, checked over all links."""
        return self._links.violations(cur)

    def erase(self, cur: Cursor, before_ms: int) -> int:
        """Erase names and memos of ended payments stored before a time; how many."""
        return store.erase_openings(cur, before_ms)

    # What arrives.

    def receive(
        self,
        cur: Cursor,
        origin: ServerName,
        body: object,
        now_ms: int,
        *,
        message_id: str | None = None,
        certified: AbstractSet[MessageId] = frozenset(),
    ) -> Received | Refused:
        """Handle the body of a PUT that ``origin`` sent, authenticated by X-Matrix.

        ``message_id`` is what the path of the request calls the object. ``certified`` names the LINK_OPENs whose
        certificate Synapse's keyring has verified.
        """
        read = objects.read_body(body)
        if isinstance(read, Refused):
            return read
        found, opening = read
        if message_id is not None and message_id != found.message_id:
            return Refused(
                reason=Reason.INVALID_VALUE,
                message="The path must end in the message_id of the object: its digest without the signature.",
            )
        return self._receive(
            cur, origin, found, opening, now_ms, due_ms=now_ms + rules.DIRECT_ANSWER_MS, certified=certified
        )

    # What is to be sent.

    def started(self, cur: Cursor, now_ms: int) -> tuple[LinkView, ...]:
        """Once in each tenure, before anything else: whatever pause a link was in, its peer is asked at once."""
        self._recoveries.begin_marked(cur, now_ms)
        for link in store.links(cur):
            if link.wanted or link.state is LinkState.RECOVERING:
                store.put_link(cur, replace(link, attempts=0, next_try_ms=now_ms))
        return self.links(cur)

    def peers(self, cur: Cursor) -> tuple[ServerName, ...]:
        """Peers with whom there may be something to do."""
        return tuple(link.peer for link in store.links(cur) if link.wanted or link.state is LinkState.RECOVERING)

    def due(
        self,
        cur: Cursor,
        peer: ServerName,
        now_ms: int,
        *,
        limit: int,
        under_way: AbstractSet[MessageId] = frozenset(),
    ) -> Agenda:
        """What to send to a peer now, beside what is under way, and when to ask again. Writes nothing."""
        link = store.link(cur, objects.link_id_of(self.server, peer))
        if link is not None and link.state is LinkState.RECOVERING:
            return self._recovering(cur, link, now_ms, under_way)
        if link is None or not link.wanted or link.state is LinkState.HALTED:
            return Agenda()
        if rules.is_paused(link, now_ms):
            return Agenda(wake_ms=link.next_try_ms)
        horizon_ms = now_ms + rules.RETRY_MS[-1]
        if link.checked_boot != self._chain.me.boot:
            head = self._query(link, MessageType.HEAD)
            return Agenda(errands=() if head.message_id in under_way else (head,))
        errands: list[Errand] = []
        gap_wake_ms = link.gap_due_ms
        if link.gap_due_ms is not None and not now_ms < link.gap_due_ms <= horizon_ms:
            errands += [each for each in (self._gap(link),) if each.message_id not in under_way]
            gap_wake_ms = None
        for stored in store.outbox_due(cur, link.link_id, now_ms, horizon_ms, limit + len(under_way)):
            if link.key_unsent_seq > 0 and (stored.epoch, stored.seq) > (link.our_epoch, link.key_unsent_seq):
                # Signed by a key that the peer cannot know before that KEY.
                break
            if stored.message_id not in under_way and len(errands) < limit:
                errands.append(self._delivery(cur, link, stored))
            if stored.type is MessageType.LINK_OPEN:
                # Nothing else makes sense to the peer before it.
                break
        wakes = [each for each in (gap_wake_ms, store.outbox_next_ms(cur, link.link_id)) if each is not None]
        later = [each for each in wakes if each > now_ms]
        return Agenda(errands=tuple(errands), wake_ms=min(later, default=None))

    def _recovering(self, cur: Cursor, link: Link, now_ms: int, under_way: AbstractSet[MessageId]) -> Agenda:
        """On the way back after a restore there is one thing to ask at a time, and nothing else to send."""
        if rules.is_paused(link, now_ms):
            return Agenda(wake_ms=link.next_try_ms)
        next_one = self._recoveries.errand(cur, link)
        errand = self._delivery(cur, link, next_one) if isinstance(next_one, Stored) else next_one
        return Agenda(errands=() if errand is None or errand.message_id in under_way else (errand,))

    def delivered(
        self,
        cur: Cursor,
        errand: Errand,
        answer: Sequence[object],
        now_ms: int,
        *,
        openings: Sequence[object] = (),
        certified: AbstractSet[MessageId] = frozenset(),
    ) -> Received:
        """The peer answered 200 with these objects: what was sent is there, and the objects are handled.

        ``refused`` of the result is the first refusal of an object in the answer; the others were handled all the same.
        """
        link = store.link(cur, errand.link_id)
        if link is None:
            raise RuntimeError("an errand was run for a link that is not there")
        if link.attempts > 0 or link.last_error:
            link = replace(link, attempts=0, next_try_ms=0, last_error="")
            store.put_link(cur, link)
        alarms: list[Alarm] = []
        refused: Refused | None = None
        read: list[ChainObject] = []
        for each in map(objects.read_object, answer[:MAX_ANSWERED]):
            if isinstance(each, ChainObject):
                read.append(each)
            elif isinstance(each, Refused):
                refused = refused or each
        if link.state is LinkState.RECOVERING and errand.seq == 0:
            alarms += self._recoveries.answered(cur, link, errand, read, openings, certified, now_ms)
            return Received(alarms=tuple(alarms), refused=refused, moved=True)
        if errand.type is MessageType.HEAD:
            alarm = self._heads(cur, link, read, now_ms)
            alarms += [] if alarm is None else [alarm]
        for found in read:
            if found.from_server != errand.peer:
                continue
            handled = self._receive(cur, errand.peer, found, None, now_ms, due_ms=now_ms, certified=certified)
            if isinstance(handled, Received):
                alarms += handled.alarms
                refused = refused or handled.refused
            else:
                refused = refused or handled
        if errand.type is MessageType.RANGE:
            self._gap_answered(cur, link, now_ms)
        elif errand.seq > 0:
            self._object_delivered(cur, errand, now_ms)
        if errand.type is MessageType.FENCE:
            self._recoveries.sent_fence(cur, store.link(cur, errand.link_id) or link, now_ms)
        return Received(alarms=tuple(alarms), refused=refused, moved=True)

    def failed(
        self,
        cur: Cursor,
        errand: Errand,
        trouble: Trouble,
        now_ms: int,
        *,
        error: str,
        reason: Reason | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        """An errand came to nothing: try it again by the ladder. ``reason`` is the peer's own, if it gave one.

        A refused OFFER is aborted, so that its payer has the money back at once.
        """
        link = store.link(cur, errand.link_id)
        if link is None:
            return
        link = replace(link, last_try_ms=now_ms, last_error=error[:500])
        recovering = link.state is LinkState.RECOVERING
        if recovering and self._recoveries.refused(cur, link, errand, reason, now_ms):
            return
        if trouble is Trouble.UNREACHABLE or errand.type is MessageType.HEAD or recovering:
            # Requests under way at the same time fail together, and count as one failure.
            if not rules.is_paused(link, now_ms):
                attempts = link.attempts + 1
                pause_ms = retry_after_ms if retry_after_ms is not None else rules.retry_ms(attempts)
                link = replace(link, attempts=attempts, next_try_ms=now_ms + max(1_000, pause_ms))
            store.put_link(cur, link)
        else:
            link = replace(link, attempts=0)
            store.put_link(cur, link)
            if errand.type is MessageType.RANGE:
                self._postpone_gap(cur, link, now_ms)
            else:
                self._postpone(cur, errand, now_ms)
        if errand.type is MessageType.OFFER and reason is not None and retry_after_ms is None:
            self._offer_refused(cur, errand, reason, now_ms)

    def tick(self, cur: Cursor, now_ms: int) -> int | None:
        """``tick_link`` for all links. Returns when to come again, None for not before something else happens."""
        for link in store.links(cur):
            self.tick_link(cur, link.peer, now_ms)
        return self.next_tick_ms(cur)

    def tick_link(self, cur: Cursor, peer: ServerName, now_ms: int) -> None:
        """Do what time has made due on one link: ttls that ended, payees who did not answer, reservations that lapse.

        A page of each; what is left is still due then.
        """
        link = store.link(cur, objects.link_id_of(self.server, peer))
        if link is None or self._chain.may_sign(link) is MaySign.NOTHING:
            return
        outgoing = store.out_due(cur, link.link_id, now_ms, TICK_PAGE)
        incoming = store.in_due(cur, link.link_id, now_ms, TICK_PAGE)
        for payment in outgoing:
            link = self._outbound.expire(cur, link, payment, now_ms)
        for asked in incoming:
            link = self._inbound.expire(cur, link, asked, now_ms)
        self._settlements.tick(cur, link, now_ms)
        self._statements.tick(cur, self._link_of(cur, peer), now_ms)

    def next_tick_ms(self, cur: Cursor) -> int | None:
        """When ``tick`` has something to do next, None for never as things stand. Writes nothing."""
        return min(self.next_ticks_ms(cur).values(), default=None)

    def next_ticks_ms(self, cur: Cursor) -> Mapping[ServerName, int]:
        """When ``tick_link`` has something to do next, for each link that waits for a time. Writes nothing."""
        wakes: dict[ServerName, int] = {}
        for link in store.links(cur):
            if self._chain.may_sign(link) is not MaySign.NOTHING:
                found = (
                    store.out_next_ms(cur, link.link_id),
                    store.in_next_ms(cur, link.link_id),
                    self._settlements.next_ms(cur, link),
                    self._statements.next_ms(cur, link),
                )
                times = [each for each in found if each is not None]
                if times:
                    wakes[link.peer] = min(times)
        return wakes

    # Receiving.

    def _receive(
        self,
        cur: Cursor,
        origin: ServerName,
        found: ChainObject | Query,
        opening: JsonObject | None,
        now_ms: int,
        *,
        due_ms: int,
        certified: AbstractSet[MessageId],
    ) -> Received | Refused:
        if found.from_server != origin or found.to_server != self.server:
            return Refused(
                reason=Reason.WRONG_ORIGIN,
                message=f"from_server must be {origin}, which sent this, and to_server {self.server}.",
            )
        if found.link_id != objects.link_id_of(self.server, origin):
            return Refused(
                reason=Reason.UNKNOWN_LINK,
                message="link_id is not the digest of the sorted pair of the two server names.",
            )
        link = store.link(cur, found.link_id)
        if isinstance(found, Query):
            return Received(
                objects=self._answer(cur, found),
                openings=self._openings(cur, found),
                moved=self._is_back(cur, link, now_ms),
            )
        return self._take(cur, link, found, opening, now_ms, due_ms, certified)

    def _is_back(self, cur: Cursor, link: Link | None, now_ms: int) -> bool:
        """A peer reaches us that we could not reach: what waits for it need wait no longer. Whether that is so."""
        if link is None or not link.wanted or link.attempts == 0:
            return False
        store.put_link(cur, replace(link, attempts=0, next_try_ms=now_ms))
        return True

    def _take(
        self,
        cur: Cursor,
        link: Link | None,
        found: ChainObject,
        opening: JsonObject | None,
        now_ms: int,
        due_ms: int,
        certified: AbstractSet[MessageId],
    ) -> Received | Refused:
        """Handle an object of a chain whose sender and link are right."""
        refused = self._check_signature(cur, link, found, certified)
        if refused is not None:
            retired = None if link is None else self._life.by_retired_key(cur, link, found, now_ms)
            if retired is not None:
                return Received(refused=retired.refused, alarms=(retired.alarm,))
            if link is not None and self._misses_key(cur, link, found, now_ms):
                return Received(refused=refused, moved=True)
            return refused
        if link is None or (found.type is MessageType.LINK_OPEN and link.our_open_ms == 0):
            return self._take_link_open(cur, link, found, now_ms)
        refused = repin.judge(cur, link, found)
        if refused is not None:
            # It wakes nobody: two that have not been confirmed would otherwise wake each other for ever.
            return Received(refused=refused)
        placed = self._chain.place(cur, link, found, now_ms)
        if isinstance(placed, Refused):
            return placed
        if isinstance(placed, Stopped):
            return Received(refused=placed.refused, alarms=(placed.alarm,))
        if placed is not None:
            return Received(objects=self._chain.answers(cur, link, found), moved=self._is_back(cur, link, now_ms))
        if link.state is not LinkState.ACTIVE or found.type not in rules.UNSIGNED_FOR:
            refused = self._why_not_taken(cur, link, found.type)
            # Of two that are frozen each would wake the other for ever, to be refused again.
            is_frozen = link.state is LinkState.FROZEN
            if refused is not None and not is_frozen and self._is_back(cur, link, now_ms):
                return Received(refused=refused, moved=True)
            if refused is not None:
                return refused
        behind = self._recoveries.catch_up(cur, link, found) if found.type is MessageType.FENCE else None
        if behind is not None:
            store.put_link(cur, replace(link, attempts=0, next_try_ms=now_ms))
            return Received(refused=behind, moved=True)
        link = replace(link, attempts=0, next_try_ms=min(link.next_try_ms, now_ms))
        verdict, epoch, there = self._chain.judge_seen(cur, link, found.seen)
        kind = verdict.evidence
        if kind is not None and kind.halts:
            stopped = self._chain.halt(cur, link, kind, there, found, now_ms)
            return Received(refused=stopped.refused, alarms=(stopped.alarm,))
        handled = self._handle(cur, link, found, opening, now_ms, due_ms)
        if isinstance(handled, Refused):
            return handled
        if isinstance(handled, Stopped):
            return Received(refused=handled.refused, alarms=(handled.alarm,))
        alarm = handled.alarm
        if link.their_seq < link.their_newest and link.their_seq < handled.link.their_seq:
            # Something that was missing is there, for which a statement may have waited.
            alarm = alarm or self._statements.compare(cur, handled.link, now_ms)
        alarms = () if alarm is None else (alarm,)
        if verdict is SeenVerdict.LIE and handled.link.state is LinkState.RECOVERING:
            # It may well have what we have lost and not yet got back.
            pass
        elif verdict is SeenVerdict.LIE:
            alarms = (*alarms, self._chain.note_lie(cur, handled.link, found, now_ms))
        else:
            self._acknowledge(cur, handled.link, epoch, found.seen.seq)
        return Received(objects=self._chain.answers(cur, handled.link, found), alarms=alarms, moved=True)

    def _why_not_taken(self, cur: Cursor, link: Link, kind: MessageType) -> Refused | None:
        """Why a new object is not taken now.

        A FENCE is also taken on a frozen link, since its sender must get on, and so is a RECEIPT: it ends what we have
        committed, asks for no signature, and binds its sender whatever else that has done. Without their KEY neither
        could be verified.
        """
        if kind in (MessageType.FENCE, MessageType.KEY, MessageType.RECEIPT) and link.state is LinkState.FROZEN:
            link = replace(link, state=LinkState.ACTIVE)
        if link.state is LinkState.RECOVERING and self._recoveries.may_take(cur, link, kind):
            return None
        return self._chain.why_not(link, link.peer)

    def _take_link_open(self, cur: Cursor, link: Link | None, found: ChainObject, now_ms: int) -> Received | Refused:
        """A LINK_OPEN while our side is not signed yet."""
        if link is not None:
            there = store.object_at(cur, link.link_id, Sender.THEIRS, found.epoch, found.seq)
            if there is not None and there.message_id == found.message_id:
                return Received()
        handled = self._links.on_link_open(cur, link, found, now_ms)
        if isinstance(handled, Refused):
            return handled
        verdict, _, there = self._chain.judge_seen(cur, handled.link, found.seen)
        kind = verdict.evidence
        if kind is not None and kind.halts:
            # We opened this link before, in a life that our database does not know of.
            stopped = self._chain.halt(cur, handled.link, kind, there, found, now_ms)
            return Received(refused=stopped.refused, alarms=(stopped.alarm,))
        return Received(moved=True)

    def _handle(
        self,
        cur: Cursor,
        link: Link,
        found: ChainObject,
        opening: JsonObject | None,
        now_ms: int,
        due_ms: int,
    ) -> Handled:
        match found.type:
            case MessageType.LINK_OPEN:
                return self._links.on_link_open(cur, link, found, now_ms)
            case MessageType.LIMIT:
                return self._links.on_limit(cur, link, found, now_ms)
            case MessageType.SUSPEND | MessageType.RESUME | MessageType.CLOSE:
                return self._life.on_standing(cur, link, found, now_ms)
            case MessageType.STATEMENT:
                return self._statements.on_statement(cur, link, found, now_ms)
            case MessageType.KEY:
                return self._life.on_key(cur, link, found, now_ms)
            case MessageType.OFFER:
                return self._inbound.on_offer(cur, link, found, opening, now_ms, due_ms)
            case MessageType.COMMIT | MessageType.ABORT:
                return self._inbound.on_decision(cur, link, found, now_ms, due_ms)
            case MessageType.PENDING:
                return self._outbound.on_pending(cur, link, found, now_ms, due_ms)
            case MessageType.ACCEPT:
                return self._outbound.on_accept(cur, link, found, now_ms, due_ms)
            case MessageType.REJECT:
                return self._outbound.on_reject(cur, link, found, now_ms, due_ms)
            case MessageType.RECEIPT:
                return self._outbound.on_receipt(cur, link, found, now_ms, due_ms)
            case (
                MessageType.SETTLE_PROPOSE
                | MessageType.SETTLE_AGREE
                | MessageType.SETTLE_REFUSE
                | MessageType.SETTLE_CANCEL
                | MessageType.SETTLE_SENT
                | MessageType.SETTLE_RECEIVED
                | MessageType.SETTLE_NOT_RECEIVED
            ):
                return self._settlements.on_object(cur, link, found, now_ms, due_ms)
            case MessageType.FENCE:
                fenced = self._fences.on_fence(cur, link, found, now_ms, due_ms)
                if isinstance(fenced, Taken) and link.state is LinkState.RECOVERING:
                    return Taken(link=self._recoveries.peer_fenced(cur, fenced.link, now_ms))
                return fenced
            case MessageType.FENCED:
                taken = self._recoveries.on_fenced(cur, link, found, now_ms)
                return taken if isinstance(taken, Refused) else Taken(link=taken)
            case MessageType.STATUS | MessageType.RANGE | MessageType.HEAD | MessageType.OPENINGS:
                raise RuntimeError(f"{found.type} is a query")

    def _check_signature(
        self, cur: Cursor, link: Link | None, found: ChainObject, certified: AbstractSet[MessageId]
    ) -> Refused | None:
        opens = found.type is MessageType.LINK_OPEN and found.key is not None
        if opens and found.key is not None and (link is None or link.our_open_ms == 0 or link.their_open_ms == 0):
            public: str | None = found.key.public_key
        elif link is None or link.their_open_ms == 0:
            return self._chain.why_not(None, found.from_server)
        else:
            pinned = store.key_at(cur, link.link_id, Sender.THEIRS, found.epoch, found.seq)
            public = None if pinned is None or pinned[0] != found.key_id else pinned[1]
            opens = found.type is MessageType.KEY
            if repin.brings_unknown_key(cur, link, found) and found.key is not None:
                # Whether anybody here has confirmed it is asked once it is known to be the peer's.
                public, opens = found.key.public_key, True
        if (
            opens
            and found.key is not None
            and (found.message_id not in certified or not objects.certifies(found.key, found.from_server))
        ):
            return Refused(
                reason=Reason.BAD_SIGNATURE,
                message="The certificate of the payment key is not signed by this server's Matrix key.",
            )
        if public is None or not objects.is_signed_by(found, public):
            return Refused(
                reason=Reason.BAD_SIGNATURE,
                message=f"The signature is not of {found.key_id} over this object, or that key is not of this link.",
            )
        return None

    def _misses_key(self, cur: Cursor, link: Link, found: ChainObject, now_ms: int) -> bool:
        """Whether the key of an object may have come in a KEY that we do not have, and is asked for from here on.

        A peer sends nothing behind a KEY that we have not acknowledged; but a database may have lost what it did.
        """
        if found.type is MessageType.LINK_OPEN or not link.is_open or found.epoch != link.their_epoch:
            return False
        pinned = store.key_at(cur, link.link_id, Sender.THEIRS, found.epoch, found.seq)
        behind_a_gap = link.their_seq + 1 < found.seq <= link.their_newest + rules.MAX_SEQ_AHEAD
        if pinned is None or pinned[0] == found.key_id or not behind_a_gap or link.gap_due_ms is not None:
            return False
        store.put_link(cur, replace(link, gap_due_ms=now_ms))
        return True

    def _acknowledge(self, cur: Cursor, link: Link, epoch: int, seq: int) -> None:
        if epoch < link.our_epoch:
            store.outbox_acknowledged(cur, link.link_id, epoch, seq)
        elif seq > link.acked_seq:
            unsent = 0 if seq >= link.key_unsent_seq else link.key_unsent_seq
            store.put_link(cur, replace(link, acked_seq=seq, key_unsent_seq=unsent))
            store.outbox_acknowledged(cur, link.link_id, epoch, seq)

    # Queries.

    def _answer(self, cur: Cursor, query: Query) -> tuple[JsonObject, ...]:
        """Stored objects, byte for byte; of a link that we do not know, none."""
        match query.type:
            case MessageType.HEAD:
                found = [
                    each
                    for each in (
                        store.newest_object(cur, query.link_id, Sender.THEIRS),
                        store.newest_object(cur, query.link_id, Sender.OURS),
                    )
                    if each is not None
                ]
            case MessageType.STATUS if query.wire_id is not None:
                found = list(store.objects_of(cur, query.link_id, query.wire_id))
            case MessageType.OPENINGS:
                found = []
            case _ if query.of not in (query.from_server, query.to_server):
                found = []
            case _:
                sender = Sender.OURS if query.of == self.server else Sender.THEIRS
                found = list(
                    store.objects_between(
                        cur, query.link_id, sender, query.epoch, query.from_seq, query.to_seq, rules.RANGE_PAGE
                    )
                )
        return tuple(store.content_of(each.body) for each in found)

    def _openings(self, cur: Cursor, query: Query) -> tuple[JsonObject, ...]:
        """The openings of payments between the two of us, which the asker had as well, as far as they are left."""
        found = (store.opening(cur, query.link_id, sender, wire_id) for wire_id in query.wire_ids for sender in Sender)
        return tuple(each for each in found if each is not None)

    def _heads(self, cur: Cursor, link: Link, answer: Sequence[ChainObject], now_ms: int) -> Alarm | None:
        own = [
            each
            for each in answer
            if each.from_server == self.server and each.to_server == link.peer and each.link_id == link.link_id
        ]
        return self._links.on_head(cur, link, own, now_ms).alarm

    # Sending.

    def _query(self, link: Link, kind: MessageType, **fields: int | str) -> Errand:
        content = {**objects.query_fields(kind, link.link_id, self.server, link.peer), **fields}
        return Errand(
            peer=link.peer,
            link_id=link.link_id,
            message_id=MessageId(digest(content)),
            type=kind,
            epoch=0,
            seq=0,
            body={"object": content},
        )

    def _gap(self, link: Link) -> Errand:
        # Where it ends is unknown where nothing behind it could be taken.
        ends = link.their_newest - 1 if link.their_newest > link.their_seq else link.their_seq + rules.RANGE_PAGE
        return self._query(
            link,
            MessageType.RANGE,
            of=link.peer,
            epoch=link.their_epoch,
            from_seq=link.their_seq + 1,
            to_seq=max(ends, link.their_seq + 1),
        )

    def _delivery(self, cur: Cursor, link: Link, stored: Stored) -> Errand:
        body: JsonObject = {"object": store.content_of(stored.body)}
        if stored.type is MessageType.OFFER and stored.wire_id is not None:
            opening = store.opening(cur, link.link_id, Sender.OURS, stored.wire_id)
            if opening is not None:
                body["opening"] = opening
        return Errand(
            peer=link.peer,
            link_id=link.link_id,
            message_id=stored.message_id,
            type=stored.type,
            epoch=stored.epoch,
            seq=stored.seq,
            body=body,
        )

    def _object_delivered(self, cur: Cursor, errand: Errand, now_ms: int) -> None:
        if errand.type in (MessageType.COMMIT, MessageType.ABORT):
            # The peer has it and owes the RECEIPT; should it forget both, we say it again.
            self._postpone(cur, errand, now_ms)
        else:
            store.outbox_done(cur, errand.link_id, errand.epoch, errand.seq)
        if errand.type is MessageType.KEY:
            link = store.link(cur, errand.link_id)
            # Whatever epoch we are in by now.
            if link is not None and link.key_unsent_seq == errand.seq:
                store.put_link(cur, replace(link, key_unsent_seq=0))

    def _postpone(self, cur: Cursor, errand: Errand, now_ms: int) -> None:
        attempts = store.outbox_attempts(cur, errand.link_id, errand.epoch, errand.seq)
        if attempts is not None:
            due_ms = now_ms + rules.retry_ms(attempts + 1)
            store.outbox_postpone(cur, errand.link_id, errand.epoch, errand.seq, attempts + 1, due_ms)

    def _gap_answered(self, cur: Cursor, before: Link, now_ms: int) -> None:
        link = store.link(cur, before.link_id)
        if link is None or link.gap_due_ms is None:
            return
        if link.their_seq > before.their_seq:
            store.put_link(cur, replace(link, gap_attempts=0, gap_due_ms=now_ms))
        elif link.their_newest == link.their_seq:
            # There was none: the peer has nothing behind what we have.
            store.put_link(cur, replace(link, gap_attempts=0, gap_due_ms=None))
        else:
            self._postpone_gap(cur, link, now_ms)

    def _postpone_gap(self, cur: Cursor, link: Link, now_ms: int) -> None:
        attempts = link.gap_attempts + 1
        store.put_link(cur, replace(link, gap_attempts=attempts, gap_due_ms=now_ms + rules.retry_ms(attempts)))

    def _offer_refused(self, cur: Cursor, errand: Errand, reason: Reason, now_ms: int) -> None:
        link = store.link(cur, errand.link_id)
        stored = store.object_at(cur, errand.link_id, Sender.OURS, errand.epoch, errand.seq)
        if link is None or stored is None or stored.wire_id is None:
            return
        payment = store.out(cur, errand.link_id, stored.wire_id)
        if payment is None or not payment.state.is_undecided or self._chain.may_sign(link) is MaySign.NOTHING:
            return
        self._outbound.abort(cur, link, payment, reason, now_ms, due_ms=now_ms)

    def _waiting(self, cur: Cursor, payment: OutPayment) -> WaitingPayment:
        opening = store.opening(cur, payment.link_id, Sender.OURS, payment.terms.wire_id)
        return WaitingPayment(
            payment=payment,
            payer=None if opening is None else UserId(opening["payer"]["user_id"]),
            advanced=store.is_advanced(cur, payment.link_id, payment.terms.wire_id),
        )

    def _known(self, cur: Cursor, peer: ServerName) -> Link | Refused:
        """The link with a peer, for an operator who names it."""
        link = store.link(cur, objects.link_id_of(self.server, peer))
        if link is None:
            return Refused(reason=Reason.UNKNOWN_PEER, message=f"There is no link with {peer[:255]!r}.")
        return link

    def _link_of(self, cur: Cursor, peer: ServerName) -> Link:
        link = store.link(cur, objects.link_id_of(self.server, peer))
        if link is None:
            raise RuntimeError(f"the link with {peer} vanished inside its own transaction")
        return link

    def _link(self, cur: Cursor, payment: OutPayment) -> Link:
        link = store.link(cur, payment.link_id)
        if link is None:
            raise RuntimeError("a payment stands on a link that is not there")
        return link
