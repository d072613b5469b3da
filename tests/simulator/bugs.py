"""Bugs to plant: obvious shortcuts that break the protocol, each a switch for tests. The simulator must find them all.

``planted(Bug.X)`` puts one into the real code for as long as its block runs.
"""

import itertools
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from typing import Any
from unittest.mock import patch

from super_app.clearing import inbound, rules, store
from super_app.clearing.chain import Chain, Taken
from super_app.clearing.inbound import Inbound
from super_app.clearing.model import InState, Link, MessageType, Outcome, OutState, Sender, WireId
from super_app.clearing.outbound import Outbound
from super_app.clearing.rules import MaySign, PayeeMove
from super_app.clearing.service import Clearing
from super_app.db import Cursor
from super_app.errors import Refused
from super_app.ledger import service as ledger
from super_app.ledger.model import Cause, Transfer, TransferId, available, due_from, due_to


class Bug(StrEnum):
    CREDIT_ON_ACCEPT = "the payee is credited on ACCEPT"
    NO_DEDUPE = "an object that comes twice is handled twice"
    SILENT_LAPSE = "the payee's server forgets a lapsed payment and answers its COMMIT with nothing"
    REFUND_AFTER_COMMIT = "the payer's server gives a committed payment back when no RECEIPT comes"
    RESERVATIONS_IGNORED = "the credit limit ignores reservations"
    SENT_BEFORE_COMMIT = "objects are sent before their transaction has committed"
    LATE_COMMIT_ABOVE_LIMIT = "a COMMIT after the lapse is credited whatever the limit says"
    COMMIT_AFTER_TTL = "COMMIT is decided although the payment's time is over and it was aborted"
    NO_HEAD_AT_START = "a process signs before its peers have said what they know of it"


@contextmanager
def planted(bug: Bug) -> Generator[None]:
    """The bug, in the code of all homeservers of the process. SENT_BEFORE_COMMIT is a switch of ``World``."""
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
        case Bug.SENT_BEFORE_COMMIT:
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
