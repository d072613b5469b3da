"""The way back from a lost database, on SQLite and on PostgreSQL: all of it comes from the peer."""

import json
from collections.abc import Callable
from typing import LiteralString, cast

import pytest
from engines import Database
from nodes import PACKAGES, Node, advance, exchange, linked

from super_app.clearing import store
from super_app.clearing.model import LinkPhase, MessageId, Sender
from super_app.clearing.objects import link_id_of
from super_app.clearing.recovery_model import RestoreId
from super_app.db import Cursor
from super_app.db.migrations import load
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


def test_pages_from_before_they_were_found_by_their_fence_are_found(open_database: Callable[..., Database]) -> None:
    database = open_database(*PACKAGES)
    hs1, hs2 = (
        Node("hs1.test", database.connect(rerun=False)),
        Node("hs2.test", open_database(*PACKAGES).connect(rerun=False)),
    )
    for node in (hs1, hs2):
        node.create()
    linked(hs1, hs2)
    fenced = {"type": "FENCED", "fence": "f" * 43}
    link_id = link_id_of(hs1.name, hs2.name)

    def migrate(cur: Cursor) -> tuple[str, ...]:
        cur.execute(
            "INSERT INTO superapp_clearing_object (link_id, sender, epoch, seq, message_id, type, wire_id, prev_hash,"
            " signature, body, stored_ms) VALUES (?, 'ours', 2, 2, 'm', 'FENCED', NULL, '', '', ?, 0)",
            (link_id, json.dumps(fenced)),
        )
        (moved,) = (each.sql for each in load("super_app.clearing", database.engine) if each.number == 3)
        cur.execute(cast(LiteralString, moved[moved.index("UPDATE") : moved.index(";")]))
        return store.fenced_pages(cur, link_id, Sender.OURS, MessageId("f" * 43))

    assert [json.loads(body) for body in hs1.tx(migrate)] == [fenced]


def test_a_server_without_a_link_has_none_to_fence(make: Made) -> None:
    hs1, hs2 = make("hs1.test"), make("hs2.test")
    assert fence(hs1, hs2) is Reason.UNKNOWN_PEER
