"""Settlements between two homeservers, step by step, on SQLite and on PostgreSQL."""

from collections.abc import Callable
from typing import Any, Final

import pytest
from engines import Database
from nodes import EUR, PACKAGES, Node, exchange, linked

from super_app.clearing import objects, settlement_store
from super_app.clearing.model import (
    SettlementId,
)
from super_app.clearing.settlement_model import Settlement, SettlementState, Way
from super_app.errors import Refused
from super_app.ledger import service as ledger
from super_app.ledger.model import AccountKind, house, in_transit

Pair = tuple[Node, Node]
Made = Callable[[str], Node]
DAY_MS: Final = 86_400_000
LIMIT_MINOR: Final = 10_000


@pytest.fixture
def make(open_database: Callable[..., Database]) -> Made:
    """Homeservers by name. Each unit of work runs twice, the first time rolled back."""

    def make_one(name: str) -> Node:
        node = Node(name, open_database(*PACKAGES).connect(rerun=True))
        node.create()
        return node

    return make_one


@pytest.fixture
def pair(make: Made) -> Pair:
    """Two linked homeservers that grant each other 100.00 EUR; alice has paid bob 60.00 of her 90.00."""
    hs1, hs2 = make("hs1.test"), make("hs2.test")
    linked(hs1, hs2, LIMIT_MINOR)
    hs1.issue(hs1.user("alice"), 9_000)
    pay(hs1, hs2, 6_000)
    return hs1, hs2


def pay(payer: Node, payee: Node, amount_minor: int, people: tuple[str, str] = ("alice", "bob")) -> None:
    order = payer.order(payer.user(people[0]), payee.user(people[1]), amount_minor)
    wire_id = payer.pay(order)
    assert not isinstance(wire_id, Refused), wire_id
    exchange(payer, payee)


def said(outcome: Settlement | Refused) -> Settlement:
    assert isinstance(outcome, Settlement), outcome
    return outcome


def propose(node: Node, peer: Node, amount_minor: int | None = None, **more: Any) -> Settlement | Refused:
    return node.tx(
        lambda cur: node.clearing.settlements.propose(cur, peer.name, EUR.code, amount_minor, node.now_ms, **more)
    )


def act(node: Node, peer: Node, name: str, known: Settlement, *more: Any) -> Settlement | Refused:
    defaults: dict[str, tuple[Any, ...]] = {
        "agree": (None,),
        "refuse": ("declined",),
        "cancel": ("cancelled",),
        "sent": ("",),
        "received": (None,),
        "not_received": ("not_arrived",),
    }
    arguments = more or defaults[name]
    doing = getattr(node.clearing.settlements, name)
    outcome: Settlement | Refused = node.tx(
        lambda cur: doing(cur, peer.name, known.terms.settlement_id, *arguments, node.now_ms)
    )
    return outcome


def do(node: Node, peer: Node, name: str, known: Settlement, *more: Any) -> Settlement:
    """One act and all that follows from it."""
    done = said(act(node, peer, name, known, *more))
    exchange(node, peer)
    return done


def under_way(hs1: Node, hs2: Node, amount_minor: int | None = None) -> Settlement:
    """A settlement that hs1 has sent and hs2 has heard of."""
    proposed = said(propose(hs1, hs2, amount_minor))
    exchange(hs1, hs2)
    do(hs2, hs1, "agree", proposed)
    return do(hs1, hs2, "sent", proposed)


def state(node: Node, peer: Node, way: Way, settlement_id: str) -> SettlementState:
    link_id = objects.link_id_of(node.name, peer.name)
    found = node.tx(lambda cur: settlement_store.find(cur, link_id, way, SettlementId(settlement_id)))
    assert found is not None
    return found.state


def states(hs1: Node, hs2: Node, known: Settlement) -> tuple[str, str]:
    """How a settlement that hs1 proposed stands on both sides."""
    settlement_id = known.terms.settlement_id
    return state(hs1, hs2, Way.OUT, settlement_id).value, state(hs2, hs1, Way.IN, settlement_id).value


def moving(node: Node, peer: Node) -> int:
    return node.tx(lambda cur: ledger.balance(cur, in_transit(peer.name, EUR.code)))


def issued(node: Node) -> int:
    return -node.tx(lambda cur: ledger.balance(cur, house(AccountKind.ISSUED, EUR.code)))


def used(node: Node, peer: Node) -> int:
    """What a peer uses of the credit that a homeserver grants it."""
    return node.link(peer).exposures[0].used_minor


def sound(*nodes: Node) -> None:
    for node in nodes:
        assert node.violations() == []
    hs1, hs2 = nodes
    for debtor, creditor in ((hs1, hs2), (hs2, hs1)):
        assert debtor.due_to(creditor) + moving(debtor, creditor) >= creditor.due_from(debtor) >= 0


# From a debt to its end.


def test_a_settlement_cuts_the_debt_and_frees_the_credit_only_when_the_creditor_has_received_it(pair: Pair) -> None:
    hs1, hs2 = pair
    assert (hs1.due_to(hs2), hs2.due_from(hs1), used(hs2, hs1)) == (6_000, 6_000, 6_000)
    known = said(propose(hs1, hs2))
    exchange(hs1, hs2)
    assert (states(hs1, hs2, known), used(hs2, hs1)) == (("proposed", "proposed"), 6_000)
    do(hs2, hs1, "agree", known, "payto://iban/DE75512108001245126199")
    assert (states(hs1, hs2, known), used(hs2, hs1)) == (("agreed", "agreed"), 6_000)
    do(hs1, hs2, "sent", known, "E2E-1")
    assert (states(hs1, hs2, known), used(hs2, hs1)) == (("sent", "sent"), 6_000)
    assert (hs1.due_to(hs2), moving(hs1, hs2), hs2.due_from(hs1)) == (0, 6_000, 6_000)
    sound(hs1, hs2)
    do(hs2, hs1, "received", known)
    assert (states(hs1, hs2, known), used(hs2, hs1)) == (("received", "received"), 0)
    assert (hs1.due_to(hs2), moving(hs1, hs2), hs2.due_from(hs1)) == (0, 0, 0)
    # What was paid out is burnt, and what came in is issued.
    assert (issued(hs1), issued(hs2)) == (3_000, 6_000)
    assert (hs1.available(hs1.user("alice")), hs2.available(hs2.user("bob"))) == (3_000, 6_000)
    sound(hs1, hs2)
