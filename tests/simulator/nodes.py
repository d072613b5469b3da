"""Homeservers small enough to have several in one test: the real ledger and clearing over a database each.

What people do with payments is played by ``Till``, which keeps its few facts in the same database, so that they are
rolled back with everything else. Nothing here sends anything: ``exchange`` hands objects over one by one, the simulator
loses, doubles and delays them.
"""

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from nacl.signing import SigningKey

from super_app.clearing import objects, store
from super_app.clearing.model import (
    ChainObject,
    Errand,
    Grant,
    LinkTerms,
    LinkView,
    MessageId,
    MessageType,
    OutState,
    Received,
    Sender,
    Trouble,
)
from super_app.clearing.ports import Accept, Ask, Incoming, Order, Party, WireId
from super_app.clearing.service import Clearing
from super_app.db import Cursor, Transaction
from super_app.errors import Reason, Refused
from super_app.ids import Acct, EventId, PaymentId, RoomId, ServerName, UserId
from super_app.ledger import service as ledger
from super_app.ledger.model import HoldId, due_from, due_to
from super_app.money import Asset, AssetCode, Money
from super_app.payments.service import Payments
from super_app.signing import digest

PACKAGES: Final = ("super_app.accounts", "super_app.ledger", "super_app.clearing", "super_app.payments")
EUR: Final = Asset(code=AssetCode("EUR"), scale=2)
PTS: Final = Asset(code=AssetCode("PTS"), scale=0)
ASSETS: Final = {EUR.code: EUR, PTS.code: PTS}
START_MS: Final = 1_700_000_000_000

_TILL_SCHEMA: Final = (
    "CREATE TABLE till_payment (side TEXT NOT NULL, payment TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,"
    " server TEXT NOT NULL, wire_id TEXT NOT NULL, PRIMARY KEY (side, payment))"
)


class Misused(AssertionError):
    """Clearing told the payments above it something that cannot follow what it told before."""


class Till:
    """Payee and Payer. ``answers`` says what a payee does with an offer; by default takes it."""

    def __init__(self, server: ServerName) -> None:
        self.server = server
        self.answers: dict[UserId, Accept | Ask | Refused] = {}

    def create(self, cur: Cursor) -> None:
        cur.execute(_TILL_SCHEMA)

    def state(self, cur: Cursor, side: str, payment: str) -> tuple[str, str] | None:
        """What was last heard of a payment: ``side`` is ``out`` with its id, or ``in`` with its wire id."""
        cur.execute("SELECT state, reason FROM till_payment WHERE side = ? AND payment = ?", (side, payment))
        row = cur.fetchone()
        return None if row is None else (str(row[0]), str(row[1]))

    def asked_here(self, cur: Cursor) -> list[tuple[ServerName, WireId]]:
        """Payments that wait for their payee."""
        cur.execute("SELECT server, wire_id FROM till_payment WHERE side = 'in' AND state = 'asked' ORDER BY wire_id")
        return [(ServerName(str(row[0])), WireId(str(row[1]))) for row in cur.fetchall()]

    def answered(self, cur: Cursor, wire_id: WireId, state: str) -> None:
        self._move(cur, "in", wire_id, {"asked"}, state)

    # Payee.

    def offered(self, cur: Cursor, incoming: Incoming, now_ms: int) -> Accept | Ask | Refused:
        if incoming.payer.user_id.partition(":")[2] != incoming.from_server:
            raise Misused("an offer for somebody else's user")
        user_id = incoming.payee.user_id
        answer = self.answers.get(user_id, Accept(acct=acct_of(user_id)))
        if isinstance(answer, Refused):
            return answer
        if isinstance(answer, Ask):
            answer = replace(answer, until_ms=now_ms + answer.until_ms)
        state = "asked" if isinstance(answer, Ask) else "accepted"
        cur.execute(
            "INSERT INTO till_payment (side, payment, state, reason, server, wire_id) VALUES ('in', ?, ?, '', ?, ?)",
            (incoming.wire_id, state, incoming.from_server, incoming.wire_id),
        )
        return answer

    def credited(self, cur: Cursor, incoming: Incoming, signed: dict[str, object], now_ms: int) -> None:
        if signed["reason"] != "credited":
            raise Misused("credited with another receipt")
        self._move(cur, "in", incoming.wire_id, {"accepted"}, "credited")

    def ended(self, cur: Cursor, incoming: Incoming, reason: Reason, now_ms: int) -> None:
        self._move(cur, "in", incoming.wire_id, {"asked", "accepted"}, "ended", reason)

    def recalled(self, cur: Cursor, incoming: Incoming, now_ms: int) -> Acct | None:
        if self.state(cur, "in", incoming.wire_id) is None:
            cur.execute(
                "INSERT INTO till_payment (side, payment, state, reason, server, wire_id)"
                " VALUES ('in', ?, 'accepted', '', ?, ?)",
                (incoming.wire_id, incoming.from_server, incoming.wire_id),
            )
        return acct_of(incoming.payee.user_id)

    def restored_received(
        self, cur: Cursor, incoming: Incoming, reason: Reason | None, signed: dict[str, object] | None, now_ms: int
    ) -> None:
        if (signed is None) == (reason is None):
            raise Misused("restored with a receipt and without credit, or the other way round")
        self._restore(cur, "in", incoming.wire_id, "credited" if reason is None else "ended", reason)

    # Payer.

    def paying(self, cur: Cursor, payment_id: PaymentId) -> None:
        cur.execute(
            "INSERT INTO till_payment (side, payment, state, reason, server, wire_id)"
            " VALUES ('out', ?, 'held', '', '', '')",
            (payment_id,),
        )

    def asked(self, cur: Cursor, payer: Acct, payment_id: PaymentId, until_ms: int, now_ms: int) -> None:
        self._move(cur, "out", payment_id, {"held"}, "asked")

    def committed(self, cur: Cursor, payer: Acct, payment_id: PaymentId, now_ms: int) -> None:
        self._move(cur, "out", payment_id, {"held", "asked"}, "committed")

    def completed(
        self, cur: Cursor, payer: Acct, payment_id: PaymentId, signed: dict[str, object], now_ms: int
    ) -> None:
        self._move(cur, "out", payment_id, {"committed"}, "completed")

    def failed(self, cur: Cursor, payer: Acct, payment_id: PaymentId, reason: Reason, now_ms: int) -> None:
        self._move(cur, "out", payment_id, {"held", "asked", "committed"}, "failed", reason)

    def restored_sent(
        self,
        cur: Cursor,
        order: Order,
        state: OutState,
        reason: Reason | None,
        signed: dict[str, object] | None,
        now_ms: int,
    ) -> None:
        if (signed is None) == (state is OutState.COMPLETED):
            raise Misused(f"restored as {state} with the receipt {signed}")
        ends = {OutState.COMMITTED: "committed", OutState.COMPLETED: "completed"}
        if self.state(cur, "out", order.payment_id) is None:
            self.paying(cur, order.payment_id)
        self._restore(cur, "out", order.payment_id, ends.get(state, "failed"), reason)

    def _restore(self, cur: Cursor, side: str, payment: str, state: str, reason: Reason | None) -> None:
        cur.execute(
            "UPDATE till_payment SET state = ?, reason = ? WHERE side = ? AND payment = ?",
            (state, "" if reason is None else reason.value, side, payment),
        )

    def _move(self, cur: Cursor, side: str, payment: str, before: set[str], after: str, reason: str = "") -> None:
        known = self.state(cur, side, payment)
        if known is None or known[0] not in before:
            raise Misused(f"{side} {payment} went from {known} to {after}")
        cur.execute(
            "UPDATE till_payment SET state = ?, reason = ? WHERE side = ? AND payment = ?",
            (after, reason, side, payment),
        )


def acct_of(user_id: str) -> Acct:
    return Acct(digest(["acct", user_id]))


class Node:
    """One homeserver: its ledger, its clearing, and a clock of its own that the test moves."""

    def __init__(self, name: str, transaction: Transaction, *, seed: int = 0, boot: str = "1") -> None:
        self.name = ServerName(name)
        self.tx = transaction
        self.now_ms = START_MS
        self.key = SigningKey(bytes.fromhex(f"{sum(name.encode()) * 1_000 + seed:064x}"))
        self.retired: tuple[SigningKey, ...] = ()
        self.till = Till(self.name)
        self._numbers = itertools.count(1)
        self.start(boot)

    def start(self, boot: str) -> None:
        """A new run of the process on the same database."""
        self.boot = boot
        self.clearing = self.clearing_with(self.retired)

    def clearing_with(self, retired: Sequence[SigningKey] = ()) -> Clearing:
        """Clearing as a process makes it that finds these keys beside the present one."""
        return Clearing(
            server=self.name,
            key=self.key,
            certificate=self.certify(objects.certificate_fields(self.name, self.key)),
            boot=self.boot,
            assets=ASSETS,
            payee=self.above(),
            payer=self.above(),
            retired=retired,
        )

    def above(self) -> "Till | Payments":
        """What stands above clearing: its Payee and Payer."""
        return self.till

    def renew_key(self, key: SigningKey) -> None:
        """Another payment key, from the next run on."""
        self.retired = (*self.retired, self.key)
        self.key = key

    def certify(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Stands for the signature of the Matrix key, which clearing itself never looks at."""
        return {**fields, "signatures": {}}

    def create(self) -> None:
        self.tx(self.till.create)

    # What people do, each in one transaction.

    def hold(self, cur: Cursor, order: Order) -> Refused | None:
        placed = ledger.place_hold(cur, order.hold_id, Acct(order.payer.acct), order.money, self.now_ms)
        if isinstance(placed, Refused):
            return placed
        self.till.paying(cur, order.payment_id)
        return None

    def offer(self, cur: Cursor, order: Order) -> WireId | Refused:
        to_server = ServerName(order.payee.user_id.partition(":")[2])
        wire_id = self.clearing.offer(cur, order, to_server, self.now_ms)
        if isinstance(wire_id, Refused):
            voided = ledger.void_hold(cur, order.hold_id, self.now_ms)
            assert not isinstance(voided, Refused), voided
            self.till.failed(cur, Acct(order.payer.acct), order.payment_id, wire_id.reason, self.now_ms)
        return wire_id

    def persist(self, cur: Cursor, order: Order, event_id: EventId) -> None:
        """The event of an order stands in its room."""

    def follow(self, cur: Cursor, order: Order) -> None:
        """Offer an order that has a hold and was not offered; doing it twice changes nothing."""
        known = self.till.state(cur, "out", order.payment_id)
        if known is not None and known[0] == "held":
            self.offer(cur, order)

    def chores(self, cur: Cursor, orders: Sequence[Order]) -> list[Callable[[Cursor], object]]:
        """What the follower and the reconciler find to do now, each in a transaction of its own, in this order."""
        return [partial(self.follow, order=order) for order in orders]

    def cancel(self, cur: Cursor, order: Order) -> None:
        self.clearing.cancel(cur, Acct(order.payer.acct), order.payment_id, Reason.CANCELLED, self.now_ms)

    def asked_here(self, cur: Cursor) -> list[tuple[ServerName, WireId]]:
        return self.till.asked_here(cur)

    def answer(self, cur: Cursor, peer: ServerName, wire_id: WireId, *, yes: bool) -> None:
        """Somebody who was asked answers."""
        if yes:
            refused = self.clearing.accept(cur, peer, wire_id, self.now_ms)
        else:
            refused = self.clearing.refuse(cur, peer, wire_id, Reason.DECLINED, self.now_ms)
        if refused is None:
            self.till.answered(cur, wire_id, "accepted" if yes else "refused")

    def undone(self, cur: Cursor) -> list[str]:
        """Payments of people that have not ended."""
        cur.execute(
            "SELECT side, payment, state FROM till_payment"
            " WHERE state IN ('held', 'asked', 'committed', 'accepted') ORDER BY side, payment"
        )
        return [f"{row[0]} {row[1]} {row[2]}" for row in cur.fetchall()]

    # People.

    def acct(self, user_id: str) -> Acct:
        return acct_of(user_id)

    def party(self, user_id: str) -> Party:
        return Party(user_id=UserId(user_id), acct=self.acct(user_id), handle=None)

    def user(self, localpart: str) -> UserId:
        return UserId(f"@{localpart}:{self.name}")

    def issue(self, user_id: str, amount_minor: int, asset: Asset = EUR) -> None:
        money = Money(amount_minor=amount_minor, currency=asset.code)
        reference = f"start {user_id} {next(self._numbers)}"
        issued = self.tx(
            lambda cur: ledger.issue(
                cur, self.acct(user_id), money, reference=reference, operator="@admin", now_ms=self.now_ms
            )
        )
        assert not isinstance(issued, Refused), issued

    def order(
        self,
        payer: str,
        payee: str,
        amount_minor: int,
        *,
        number: int | None = None,
        asset: Asset = EUR,
        memo: str | None = None,
    ) -> Order:
        payment_id = PaymentId(f"{next(self._numbers) if number is None else number:032x}")
        salt = digest([self.name, payment_id])
        return Order(
            payment_id=payment_id,
            hold_id=HoldId(f"{acct_of(payer)}:{payment_id}"),
            payer=self.party(payer),
            payee=self.party(payee),
            money=Money(amount_minor=amount_minor, currency=asset.code),
            memo=memo,
            room_id=RoomId("!room:hs1.test"),
            event_id=EventId(f"$event-{payment_id}"),
            refund_of=None,
            wire_salt=_salt(salt, "wire"),
            salts=(_salt(salt, "payer"), _salt(salt, "payee"), _salt(salt, "memo")),
        )

    def pay(self, order: Order) -> WireId | Refused:
        """Hold and offer, in two transactions, as the gate and the follower do."""
        held = self.tx(lambda cur: self.hold(cur, order))
        return held if isinstance(held, Refused) else self.tx(lambda cur: self.offer(cur, order))

    def wallet(self, user_id: str, asset: Asset) -> tuple[int, int]:
        """Available and held, in minor units."""
        balances = self.tx(lambda cur: ledger.wallet(cur, self.acct(user_id)))
        found = {each.currency: (each.available_minor, each.held_minor) for each in balances}
        return found.get(asset.code, (0, 0))

    def available(self, user_id: str, asset: Asset = EUR) -> int:
        return self.wallet(user_id, asset)[0]

    def held(self, user_id: str, asset: Asset = EUR) -> int:
        return self.wallet(user_id, asset)[1]

    def due_to(self, peer: "Node", asset: Asset = EUR) -> int:
        return self.tx(lambda cur: ledger.balance(cur, due_to(peer.name, asset.code)))

    def due_from(self, peer: "Node", asset: Asset = EUR) -> int:
        return -self.tx(lambda cur: ledger.balance(cur, due_from(peer.name, asset.code)))

    # Links.

    def open_link(self, peer: "Node", limit_minor: int = 1_000_000, **grant: Any) -> LinkView | Refused:
        terms = LinkTerms(peer=peer.name, grants=(grant_of(limit_minor, **grant),))
        return self.tx(lambda cur: self.clearing.open_link(cur, terms, self.now_ms))

    def link(self, peer: "Node") -> LinkView:
        views = self.tx(self.clearing.links)
        return next(each for each in views if each.peer == peer.name)

    def errands(self, peer: "Node", limit: int = 100) -> tuple[Errand, ...]:
        return self.tx(lambda cur: self.clearing.due(cur, peer.name, self.now_ms, limit=limit)).errands

    def receive(self, origin: "Node | ServerName", body: object) -> Received | Refused:
        name = origin.name if isinstance(origin, Node) else origin
        certified = certified_in(body)
        return self.tx(lambda cur: self.clearing.receive(cur, name, body, self.now_ms, certified=certified))

    def delivered(self, errand: Errand, answer: Sequence[object], openings: Sequence[object] = ()) -> Received:
        certified = frozenset[MessageId]().union(*(certified_in({"object": each}) for each in answer))
        return self.tx(
            lambda cur: self.clearing.delivered(
                cur, errand, answer, self.now_ms, openings=openings, certified=certified
            )
        )

    def failed(self, errand: Errand, trouble: Trouble, reason: Reason | None = None) -> None:
        self.tx(lambda cur: self.clearing.failed(cur, errand, trouble, self.now_ms, error=trouble.value, reason=reason))

    def tick(self) -> int | None:
        return self.tx(lambda cur: self.clearing.tick(cur, self.now_ms))

    def chain(self, peer: "Node", sender: Sender = Sender.OURS) -> list[dict[str, Any]]:
        """All objects of one chain, in order."""
        link_id = objects.link_id_of(self.name, peer.name)

        def read(cur: Cursor) -> list[dict[str, Any]]:
            found = store.objects_between(cur, link_id, sender, 1, 1, 1_000_000, 1_000_000)
            return [store.content_of(each.body) for each in found]

        return self.tx(read)

    def violations(self) -> list[object]:
        return [
            *self.tx(ledger.violations),
            *self.tx(self.clearing.violations),
        ]


def dump(node: Node) -> list[str]:
    """All that stands in its database, to see that nothing was written. SQLite only."""
    return list(node.tx.connection.iterdump())  # type: ignore[attr-defined]


def grant_of(limit_minor: int, asset: Asset = EUR, **more: int) -> Grant:
    return Grant(currency=asset.code, scale=asset.scale, limit_minor=limit_minor, **more)


def certified_in(body: object) -> frozenset[MessageId]:
    """What brings a key in a body, as if Synapse's keyring had verified its certificate."""
    content = body.get("object") if isinstance(body, dict) else None
    if not isinstance(content, dict) or content.get("type") not in ("LINK_OPEN", "KEY", "FENCE"):
        return frozenset()
    found = objects.read_body(body)
    if isinstance(found, Refused) or not isinstance(found[0], ChainObject) or found[0].key is None:
        return frozenset()
    return frozenset({found[0].message_id})


def exchange(*nodes: Node, rounds: int = 100) -> None:
    """Deliver all that is due between these nodes, without loss, until nothing is due any more."""
    by_name: Mapping[ServerName, Node] = {node.name: node for node in nodes}
    for _ in range(rounds):
        busy = False
        for node in nodes:
            for peer in node.tx(node.clearing.peers):
                for errand in node.errands(by_name[peer]) if peer in by_name else ():
                    busy = True
                    deliver(node, by_name[peer], errand)
        if not busy:
            return
    raise AssertionError(f"still something to send after {rounds} rounds")


def deliver(node: Node, peer: Node, errand: Errand) -> Received | Refused:
    """One request and its answer, as the HTTP path has it."""
    answer = peer.receive(node, errand.body)
    if isinstance(answer, Refused) or answer.refused is not None:
        refused = answer if isinstance(answer, Refused) else answer.refused
        assert refused is not None
        trouble = Trouble.UNREACHABLE if refused.reason is Reason.LINK_HALTED else Trouble.REFUSED
        node.failed(errand, trouble, refused.reason)
    else:
        node.delivered(errand, answer.objects, answer.openings)
    return answer


def linked(one: Node, other: Node, limit_minor: int = 1_000_000) -> None:
    """Open a link on both sides."""
    for node, peer in ((one, other), (other, one)):
        assert not isinstance(node.open_link(peer, limit_minor), Refused)
    exchange(one, other)


def forge(sender: Node, receiver: Node, kind: MessageType, **changes: Any) -> dict[str, Any]:
    """The object that ``sender`` would sign next as ``receiver`` sees it, with whatever fields; None removes one.

    Nothing of it is written at the sender: this is what a homeserver with a mind of its own can do.
    """
    link_id = objects.link_id_of(sender.name, receiver.name)
    link = receiver.tx(lambda cur: store.link(cur, link_id))
    assert link is not None
    fields: dict[str, Any] = {
        "v": 1,
        "type": kind.value,
        "link_id": link_id,
        "epoch": 1,
        "seq": link.their_seq + 1,
        "prev_hash": link.their_hash,
        "from_server": sender.name,
        "to_server": receiver.name,
        "seen": {"seq": 0, "hash": "", "signature": ""},
        **changes,
    }
    return objects.seal({name: value for name, value in fields.items() if value is not None}, sender.key)


def offer_of(sender: Node, receiver: Node, order: Order, **changes: Any) -> dict[str, Any]:
    """The body of a PUT that offers ``order``, forged."""
    terms = objects.terms_fields(objects.terms_of(order, EUR.scale))
    offer = forge(sender, receiver, MessageType.OFFER, **{**terms, "ttl_ms": 60_000, **changes})
    return {"object": offer, "opening": objects.opening_of(order)}


def advance(ms: int, *nodes: Node) -> None:
    for node in nodes:
        node.now_ms += ms


def _salt(seed: str, name: str) -> str:
    return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()[:32]
