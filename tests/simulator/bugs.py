"""Bugs to plant: obvious shortcuts that break the protocol, each a switch for tests. The simulator must find them all.

``planted(Bug.X)`` puts one into the real code for as long as its block runs.
"""

import itertools
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from typing import Any, Final
from unittest.mock import patch

from payers import PayingNode
from plans import MINUTE_MS, Plan
from world import Violated, World

from super_app.clearing import advances, inbound, rules, settlement_rules, store
from super_app.clearing.chain import Chain, Taken
from super_app.clearing.inbound import Inbound
from super_app.clearing.model import CurrencyLine, InState, Link, MessageType, Outcome, OutState, Sender, WireId
from super_app.clearing.outbound import Outbound
from super_app.clearing.ports import Order
from super_app.clearing.rules import MaySign, PayeeMove, SeenVerdict
from super_app.clearing.service import Clearing
from super_app.db import Cursor
from super_app.errors import Refused
from super_app.ids import EventId, PaymentId
from super_app.ledger import service as ledger
from super_app.ledger.model import Cause, Transfer, TransferId, available, due_from, due_to
from super_app.payments import rules as payment_rules
from super_app.payments import store as payments_store
from super_app.payments.model import PaymentKey
from super_app.payments.service import Payments
from super_app.signing import digest


class Bug(StrEnum):
    CREDIT_ON_ACCEPT = "the payee is credited on ACCEPT"
    NO_DEDUPE = "an object that comes twice is handled twice"
    SILENT_LAPSE = "the payee's server forgets a lapsed payment and answers its COMMIT with nothing"
    REFUND_AFTER_COMMIT = "the payer's server gives a committed payment back when no RECEIPT comes"
    RESERVATIONS_IGNORED = "the credit limit ignores reservations"
    SENT_BEFORE_COMMIT = "objects are sent before their transaction has committed"
    LATE_COMMIT_ABOVE_LIMIT = "a COMMIT after the lapse is credited whatever the limit says"
    LIMIT_LOWERED_BELOW_USE = "where a limit is lowered below what is used, what is missing counts as room"
    HOLD_BY_EVENT = "the money of an order is held for its event instead of its id"
    FOLLOWER_WITHOUT_COMPARING = "the follower pays for an event without looking whether its order still waits"
    REFUND_OVER_ORIGINAL = "refunds are compared with the payment, and not with what is left of it"
    EQUIVOCATION_UNNOTICED = "another object in a place that is taken passes for the one that is there"
    VERDICTS_SHIFTED = "the verdicts of a batch go to the neighbours of whom they belong to"
    SETTLES_ALL = "all of due_to is settled, with what the creditor has not receipted"
    COMMIT_AFTER_TTL = "COMMIT is decided although the payment's time is over and it was aborted"
    RESTORED_WITHOUT_FENCE = "an old database goes on where it is, whatever its peers hold of it beyond"
    ADVANCED_AND_GIVEN_BACK = (
        "what was advanced to a payer is given back to them again when the payment comes to nothing"
    )
    NO_HEAD_AT_START = "a process signs before its peers have said what they know of it"


# What a bug needs to show itself, where the usual mix of trouble rarely brings it.
_CALM: Final = Plan(
    homeservers=2,
    payments=12,
    limit_minor=100_000,
    loss=0.0,
    doubling=0.0,
    crash=0.0,
    sever=0.0,
    clock_jumps=0,
    ask=0.0,
    refuse=0.0,
    cancel=0.0,
    span_ms=20 * MINUTE_MS,
)
_PLANS: Final = {
    Bug.SILENT_LAPSE: replace(_CALM, sever=0.4),
    Bug.REFUND_AFTER_COMMIT: replace(_CALM, sever=0.4),
    Bug.COMMIT_AFTER_TTL: replace(_CALM, sever=0.4, cancel=0.3),
    Bug.LATE_COMMIT_ABOVE_LIMIT: replace(_CALM, sever=0.6, cautious=1.0),
    Bug.SENT_BEFORE_COMMIT: replace(_CALM, crash=0.05),
    Bug.NO_HEAD_AT_START: replace(_CALM, payments=30, restores=2, span_ms=2 * MINUTE_MS),
    Bug.RESTORED_WITHOUT_FENCE: replace(_CALM, payments=30, restores=2, span_ms=2 * MINUTE_MS),
    Bug.RESERVATIONS_IGNORED: replace(_CALM, limit_minor=600, loss=0.1),
    Bug.LIMIT_LOWERED_BELOW_USE: replace(_CALM, payments=24, limit_minor=1_500, lowers=8, span_ms=2 * MINUTE_MS),
    Bug.EQUIVOCATION_UNNOTICED: replace(_CALM, homeservers=3, hostile=1, moves=30),
    Bug.SETTLES_ALL: replace(_CALM, sever=0.4, settlements=10, span_ms=2 * MINUTE_MS),
    Bug.VERDICTS_SHIFTED: replace(_CALM, batches=2),
    Bug.FOLLOWER_WITHOUT_COMPARING: replace(_CALM, paying=True, local=0.5, repeat=0.5),
    Bug.HOLD_BY_EVENT: replace(_CALM, paying=True, repeat=0.5),
    Bug.ADVANCED_AND_GIVEN_BACK: replace(_CALM, sever=0.6, advances=12, cautious=1.0, restores=0),
    Bug.REFUND_OVER_ORIGINAL: replace(_CALM, paying=True, refund=0.5),
}


def caught_by(bug: Bug, limit: int) -> int | None:
    """How many seeds it takes to find the bug, None if these are not enough."""
    with planted(bug):
        for seed in range(limit):
            try:
                World(seed, _PLANS.get(bug)).run()
            except Violated:
                return seed + 1
    return None


@contextmanager
def planted(bug: Bug) -> Generator[None]:
    """The bug, in the code of all homeservers of the process."""
    match bug:
        case Bug.CREDIT_ON_ACCEPT:
            with patch.object(Inbound, "_say_accept", _credit_on_accept(Inbound._say_accept)):
                yield
        case Bug.NO_DEDUPE:
            with _no_dedupe():
                yield
        case Bug.SILENT_LAPSE:
            with patch.object(Inbound, "on_decision", _silent_lapse(Inbound.on_decision)):
                yield
        case Bug.REFUND_AFTER_COMMIT:
            with patch.object(Clearing, "tick", _refund_after_commit(Clearing.tick)):
                yield
        case Bug.RESERVATIONS_IGNORED:
            with patch.object(
                rules, "credit_used", lambda owing, _reserved, owed, unsure: max(0, owing - owed + unsure)
            ):
                yield
        case Bug.LATE_COMMIT_ABOVE_LIMIT:
            with patch.object(rules, "payee_on_decision", _whatever_the_limit(rules.payee_on_decision)):
                yield
        case Bug.COMMIT_AFTER_TTL:
            with patch.object(Outbound, "on_accept", _commit_after_ttl(Outbound.on_accept)):
                yield
        case Bug.NO_HEAD_AT_START:
            with _no_head_at_start():
                yield
        case Bug.LIMIT_LOWERED_BELOW_USE:
            with patch.object(rules, "within_limit", _room_as_distance):
                yield
        case Bug.HOLD_BY_EVENT:
            with _hold_by_event():
                yield
        case Bug.FOLLOWER_WITHOUT_COMPARING:
            with patch.object(Payments, "bind", _pay_for_each_event(Payments.bind)):
                yield
        case Bug.ADVANCED_AND_GIVEN_BACK:
            with (
                patch.object(advances, "source_of", lambda *_: None),
                patch.object(advances, "take_back", lambda *_: None),
            ):
                yield
        case Bug.REFUND_OVER_ORIGINAL:
            with patch.object(
                payment_rules, "refundable_minor", lambda original, _refunded: original.money.amount_minor
            ):
                yield
        case Bug.EQUIVOCATION_UNNOTICED:
            with patch.object(Chain, "place", _same_place_same_object(Chain.place)):
                yield
        case Bug.VERDICTS_SHIFTED:
            with patch.object(ledger, "_outcome", _shifted(ledger._outcome)):
                yield
        case Bug.RESTORED_WITHOUT_FENCE:
            with patch.object(rules, "judge_claim", _whatever_they_hold(rules.judge_claim)):
                yield
        case Bug.SETTLES_ALL:
            with patch.object(settlement_rules, "position", _all_of_due_to(settlement_rules.position)):
                yield
        case Bug.SENT_BEFORE_COMMIT:
            with patch.object(World, "send_before_commit", True):
                yield


def _credit_on_accept(say_accept: Any) -> Any:
    def say(self: Inbound, cur: Cursor, link: Link, terms: Any, now_ms: int, due_ms: int) -> Link:
        payment = store.in_(cur, link.link_id, terms.wire_id)
        assert payment is not None
        assert payment.acct is not None
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
        assert not isinstance(credited, Refused)
        return say_accept(self, cur, link, terms, now_ms, due_ms)  # type: ignore[no-any-return]

    return say


@contextmanager
def _no_dedupe() -> Generator[None]:
    place, admit, decide = Chain.place, Chain.admit, rules.payee_on_decision
    transfer = ledger.transfer
    numbers = itertools.count()

    def always_new(self: Chain, cur: Cursor, link: Link, found: Any, now_ms: int) -> Any:
        placed = place(self, cur, link, found, now_ms)
        known = placed is not None and not isinstance(placed, Refused) and found.type.value == "COMMIT"
        return None if known else placed

    def admit_again(self: Chain, cur: Cursor, link: Link, found: Any, now_ms: int) -> Link:
        there = store.object_at(cur, link.link_id, Sender.THEIRS, found.epoch, found.seq)
        return link if there is not None else admit(self, cur, link, found, now_ms)

    def decide_again(payment: Any, decision: Any, terms: Any, *, within_limit: bool) -> PayeeMove:
        if payment is not None and payment.state is InState.CREDITED:
            return PayeeMove.CREDIT
        return decide(payment, decision, terms, within_limit=within_limit)

    def transfer_again(cur: Cursor, order: Transfer, now_ms: int) -> Any:
        return transfer(cur, replace(order, transfer_id=TransferId(f"{order.transfer_id}:{next(numbers)}")), now_ms)

    with (
        patch.object(Chain, "place", always_new),
        patch.object(Chain, "admit", admit_again),
        patch.object(rules, "payee_on_decision", decide_again),
        patch.object(inbound, "ledger", _Ledger(transfer_again)),
    ):
        yield


class _Ledger:
    """The ledger with another ``transfer``."""

    def __init__(self, transfer: Any) -> None:
        self.transfer = transfer

    def __getattr__(self, name: str) -> Any:
        return getattr(ledger, name)


def _whatever_the_limit(payee_on_decision: Any) -> Any:
    def decide(payment: Any, decision: Any, terms: Any, **_: Any) -> Any:
        return payee_on_decision(payment, decision, terms, within_limit=True)

    return decide


def _silent_lapse(on_decision: Any) -> Any:
    def decide(self: Inbound, cur: Cursor, link: Link, found: Any, now_ms: int, due_ms: int) -> Any:
        payment = store.in_(cur, link.link_id, found.payment_terms().wire_id)
        if payment is not None and payment.state is InState.LAPSED:
            return Taken(link=self._chain.admit(cur, link, found, now_ms))
        return on_decision(self, cur, link, found, now_ms, due_ms)

    return decide


def _refund_after_commit(tick: Any) -> Any:
    patience_ms = 5 * 60_000

    def refund(self: Clearing, cur: Cursor, now_ms: int) -> int | None:
        for link in store.links(cur):
            cur.execute(
                "SELECT wire_id FROM superapp_clearing_out"
                " WHERE link_id = ? AND state = 'committed' AND offered_ms < ?",
                (link.link_id, now_ms - patience_ms),
            )
            for row in cur.fetchall():
                payment = store.out(cur, link.link_id, WireId(str(row[0])))
                assert payment is not None
                ledger.transfer(
                    cur,
                    Transfer(
                        transfer_id=TransferId(f"undo:{link.link_id}:{payment.terms.wire_id}"),
                        debit=due_to(link.peer, payment.terms.currency),
                        credit=available(payment.payer, payment.terms.currency),
                        amount_minor=payment.terms.amount_minor,
                        cause=Cause.UNDO,
                        reference="impatience",
                    ),
                    now_ms,
                )
                after = replace(payment, state=OutState.VOIDED, receipt=Outcome.VOID)
                assert store.move_out(cur, payment, after)
                store.move_line(
                    cur, link.link_id, payment.terms.currency, unreceipted_minor=-payment.terms.amount_minor
                )
        return tick(self, cur, now_ms)  # type: ignore[no-any-return]

    return refund


def _commit_after_ttl(on_accept: Any) -> Any:
    def accept(self: Outbound, cur: Cursor, link: Link, found: Any, now_ms: int, due_ms: int) -> Any:
        payment = store.out(cur, link.link_id, found.payment_terms().wire_id)
        if payment is None or payment.state is not OutState.ABORTED or payment.answer is not None:
            return on_accept(self, cur, link, found, now_ms, due_ms)
        link = self._chain.admit(cur, link, found, now_ms)
        return Taken(link=self._say(cur, link, MessageType.COMMIT, payment, now_ms, due_ms))

    return accept


@contextmanager
def _no_head_at_start() -> Generator[None]:
    """As if the peer's word from before were enough."""

    def may_sign(self: Chain, link: Link) -> MaySign:
        return MaySign.ALL if link.our_open_ms > 0 else rules.may_sign(link, self.me.boot)

    def why_not(_: Chain, link: Link | None, peer: Any) -> Refused | None:
        return rules.why_not(link if link is None or not link.is_open else replace(link, checked_boot="x"), peer, "x")

    with patch.object(Chain, "may_sign", may_sign), patch.object(Chain, "why_not", why_not):
        yield


def _room_as_distance(used_minor: int, amount_minor: int, line: CurrencyLine | None) -> bool:
    return line is not None and line.ours is not None and amount_minor <= abs(line.ours.limit_minor - used_minor)


@contextmanager
def _hold_by_event() -> Generator[None]:
    """What the gate sets aside and the follower looks for is named after the event, of which an order may have two."""
    hold, bind = PayingNode.hold, PayingNode._bind
    first: dict[str, str] = {}

    def renamed(payment_id: PaymentId, event_id: EventId | None) -> PaymentId:
        if event_id is None or first.setdefault(payment_id, event_id) == event_id:
            return payment_id
        return PaymentId(digest([payment_id, event_id]).encode().hex()[:32])

    def hold_for(self: PayingNode, cur: Cursor, order: Order) -> Refused | None:
        return hold(self, cur, replace(order, payment_id=renamed(order.payment_id, order.event_id)))

    def bind_of(self: PayingNode, cur: Cursor, key: PaymentKey, event_id: EventId) -> object:
        return bind(self, cur, replace(key, payment_id=renamed(key.payment_id, event_id)), event_id)

    with patch.object(PayingNode, "hold", hold_for), patch.object(PayingNode, "_bind", bind_of):
        yield


def _pay_for_each_event(bind: Any) -> Any:
    def pay(self: Payments, cur: Cursor, key: PaymentKey, room_id: Any, event_id: EventId, now_ms: int) -> Any:
        payment = payments_store.find(cur, key)
        if payment is None or payment.payer_acct is None or payment.payee_acct is None:
            return bind(self, cur, key, room_id, event_id, now_ms)
        paid = ledger.transfer(
            cur,
            Transfer(
                transfer_id=TransferId(f"event:{event_id}"),
                debit=available(payment.payer_acct, payment.money.currency),
                credit=available(payment.payee_acct, payment.money.currency),
                amount_minor=payment.money.amount_minor,
                cause=Cause.PAYMENT,
                reference=payment.hold_id,
            ),
            now_ms,
        )
        return None if isinstance(paid, Refused) else payment

    return pay


def _same_place_same_object(place: Any) -> Any:
    def there(self: Chain, cur: Cursor, link: Link, found: Any, now_ms: int) -> Any:
        here = store.object_at(cur, link.link_id, Sender.THEIRS, found.epoch, found.seq)
        return here or place(self, cur, link, found, now_ms)

    return there


def _whatever_they_hold(judge_claim: Any) -> Any:
    def judge(**claim: Any) -> SeenVerdict:
        verdict: SeenVerdict = judge_claim(**claim)
        return verdict if verdict is SeenVerdict.LIE else SeenVerdict.TRUE

    return judge


def _all_of_due_to(position: Any) -> Any:
    def all_of_it(due_to_minor: int, due_from_minor: int, in_transit_minor: int, claimed_minor: int, line: Any) -> Any:
        right = position(due_to_minor, due_from_minor, in_transit_minor, claimed_minor, line)
        return replace(right, settleable_minor=due_to_minor, net_minor=due_to_minor)

    return all_of_it


def _shifted(outcome: Any) -> Any:
    def shift(decision: Any, head: Any, accounts: Any) -> Any:
        right = outcome(decision, head, accounts)
        return replace(right, verdicts=[*right.verdicts[1:], *right.verdicts[:1]])

    return shift
