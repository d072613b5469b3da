"""A peer that has signed two things which exclude each other, found out by a database that comes back from a backup.

What counted before stays, or else what comes first in the chain; the other one freezes the link, with the proof.
"""

from typing import Any

import pytest
from nodes import Node, deliver, exchange
from restores import backup, restore, suspense
from test_restored_money import AMOUNT_MINOR, FUNDS_MINOR, lose_and_claim
from test_restored_money import pair as pair  # noqa: PLC0414 - the fixture

from super_app.clearing.model import EvidenceKind, LinkPhase, MessageType, OutState
from super_app.clearing.ports import Order
from super_app.errors import Refused

Pair = tuple[Node, Node]
RECEIPT: MessageType = MessageType.RECEIPT
ABORT: MessageType = MessageType.ABORT


def terms_in(content: dict[str, Any]) -> dict[str, object]:
    names = ("wire_id", "payer_commit", "payee_commit", "memo_commit", "amount", "currency", "scale")
    return {name: content[name] for name in names}


def order(node: Node, peer: Node, payer: str, payee: str) -> Order:
    made = node.order(node.user(payer), peer.user(payee), AMOUNT_MINOR)
    assert not isinstance(node.pay(made), Refused)
    return made


def outgoing(node: Node, made: Order) -> OutState | None:
    return node.tx(lambda cur: node.clearing.outgoing(cur, node.acct(made.payer.user_id), made.payment_id))


def frozen_for(node: Node, peer: Node, kind: EvidenceKind) -> None:
    assert node.link(peer).phase is LinkPhase.FROZEN
    assert dict(node.link(peer).evidence) == {kind: 1}
    assert node.violations() == []
    assert suspense(node) == 0


def committed(one: Node, other: Node) -> tuple[Order, dict[str, object]]:
    """A payment of alice that is committed, and of whose COMMIT the peer does not know."""
    made = order(one, other, "alice", "bob")
    deliver(one, other, one.errands(other)[0])
    offer = one.chain(other)[-1]
    assert offer["type"] == "COMMIT"
    return made, terms_in(offer)


def test_a_receipt_that_counted_stays_when_another_comes_back(pair: Pair) -> None:
    one, other = pair
    made = order(one, other, "alice", "bob")
    exchange(one, other)
    terms = terms_in(one.chain(other)[-1])
    lose_and_claim(one, other, (RECEIPT, {**terms, "reason": "void"}))
    exchange(one, other)
    frozen_for(one, other, EvidenceKind.CREDITED_AND_VOID)
    assert outgoing(one, made) is OutState.COMPLETED
    assert (one.available(one.user("alice")), one.due_to(other)) == (FUNDS_MINOR - AMOUNT_MINOR, AMOUNT_MINOR)


@pytest.mark.parametrize(
    ("reasons", "state", "owed_minor"),
    [(("void", "credited"), OutState.VOIDED, 0), (("credited", "void"), OutState.COMPLETED, AMOUNT_MINOR)],
)
def test_of_two_receipts_that_come_back_the_first_counts(
    pair: Pair, reasons: tuple[str, str], state: OutState, owed_minor: int
) -> None:
    one, other = pair
    made, terms = committed(one, other)
    lose_and_claim(one, other, *((RECEIPT, {**terms, "reason": reason}) for reason in reasons))
    exchange(one, other)
    frozen_for(one, other, EvidenceKind.CREDITED_AND_VOID)
    assert outgoing(one, made) is state
    assert (one.available(one.user("alice")), one.due_to(other)) == (FUNDS_MINOR - owed_minor, owed_minor)


def test_a_receipt_for_what_was_aborted_moves_nothing(pair: Pair) -> None:
    one, other = pair
    made = order(one, other, "alice", "bob")
    terms = terms_in(one.chain(other)[-1])
    one.tx(lambda cur: one.cancel(cur, made))
    lose_and_claim(one, other, (RECEIPT, {**terms, "reason": "credited"}))
    exchange(one, other)
    frozen_for(one, other, EvidenceKind.UNFOUNDED_RECEIPT)
    assert outgoing(one, made) is OutState.ABORTED
    assert (one.available(one.user("alice")), one.due_to(other)) == (FUNDS_MINOR, 0)


def paid_by_the_other(one: Node, other: Node) -> dict[str, object]:
    other.issue(other.user("bob"), FUNDS_MINOR)
    order(other, one, "bob", "alice")
    exchange(one, other)
    commit = other.chain(one)[-1]
    assert commit["type"] == "COMMIT"
    return terms_in(commit)


def test_a_commit_that_counted_stays_when_an_abort_comes_back(pair: Pair) -> None:
    one, other = pair
    terms = paid_by_the_other(one, other)
    lose_and_claim(one, other, (ABORT, {**terms, "reason": "cancelled"}))
    exchange(one, other)
    frozen_for(one, other, EvidenceKind.COMMIT_AND_ABORT)
    assert (one.available(one.user("alice")), one.due_from(other)) == (FUNDS_MINOR + AMOUNT_MINOR, AMOUNT_MINOR)


def test_of_commit_and_abort_that_both_come_back_the_first_counts(pair: Pair) -> None:
    one, other = pair
    copy = backup(one)
    terms = paid_by_the_other(one, other)
    lose_and_claim(one, other, (ABORT, {**terms, "reason": "cancelled"}))
    restore(one, copy, boot="from before all of it")
    exchange(one, other)
    frozen_for(one, other, EvidenceKind.COMMIT_AND_ABORT)
    assert (one.available(one.user("alice")), one.due_from(other)) == (FUNDS_MINOR + AMOUNT_MINOR, AMOUNT_MINOR)
