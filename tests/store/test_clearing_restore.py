"""The way back from a lost database, on SQLite and on PostgreSQL: all of it comes from the peer."""

from collections.abc import Callable

import pytest
from engines import Database
from nodes import PACKAGES, Node, advance, exchange, linked

from super_app.clearing.model import LinkPhase
from super_app.clearing.recovery_model import RestoreId
from super_app.errors import Reason, Refused

Made = Callable[[str], Node]


@pytest.fixture
def make(open_database: Callable[..., Database]) -> Made:
    def make_one(name: str) -> Node:
        node = Node(name, open_database(*PACKAGES).connect(rerun=True))
        node.create()
        return node

    return make_one


def fence(node: Node, peer: Node) -> Reason | None:
    order = RestoreId("operator")
    answer = node.tx(lambda cur: node.clearing.fence(cur, peer.name, order, node.now_ms))
    return answer.reason if isinstance(answer, Refused) else None


def test_a_server_with_an_empty_database_gets_back_its_links_and_payments(make: Made) -> None:
    hs1, hs2 = make("hs1.test"), make("hs2.test")
    linked(hs1, hs2)
    hs1.issue(hs1.user("alice"), 10_000)
    hs2.issue(hs2.user("bob"), 10_000)
    for payer, payee, sender, amount_minor in (("alice", "bob", hs1, 500), ("bob", "alice", hs2, 120)):
        receiver = hs2 if sender is hs1 else hs1
        sender.pay(sender.order(sender.user(payer), receiver.user(payee), amount_minor))
        exchange(hs1, hs2)
    assert fence(hs1, hs2) is Reason.CONFLICT

    empty = make("hs1.test")
    empty.start("2")
    empty.issue(empty.user("alice"), 10_000)
    empty.open_link(hs2)
    exchange(empty, hs2)
    assert empty.link(hs2).phase is LinkPhase.HALTED
    assert fence(empty, hs2) is None
    exchange(empty, hs2)
    advance(60_000, empty, hs2)
    exchange(empty, hs2)
    assert empty.link(hs2).phase is LinkPhase.OPEN
    assert empty.available(empty.user("alice")) == 10_000 - 500 + 120
    assert (empty.due_to(hs2), empty.due_from(hs2)) == (hs2.due_from(empty), hs2.due_to(empty)) == (500, 120)
    assert empty.violations() == hs2.violations() == []

    # And it goes on.
    empty.pay(empty.order(empty.user("alice"), hs2.user("bob"), 30, number=900))
    exchange(empty, hs2)
    assert hs2.available(hs2.user("bob")) == 10_000 + 500 - 120 + 30


def test_a_server_without_a_link_has_none_to_fence(make: Made) -> None:
    hs1, hs2 = make("hs1.test"), make("hs2.test")
    assert fence(hs1, hs2) is Reason.UNKNOWN_PEER
