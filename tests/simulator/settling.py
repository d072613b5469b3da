"""Settlements between two nodes, act by act: what the tests of settlement share."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from nodes import ASSETS, EUR, Node, exchange, forge

from super_app.clearing import objects, settlement_store, store
from super_app.clearing.chain import Chain, Identity
from super_app.clearing.model import (
    ChainObject,
    LinkPhase,
    MessageType,
    Sender,
    SettlementId,
    SettlementTerms,
)
from super_app.clearing.settlement_model import AutoSettle, Settlement, SettlementState, Way
from super_app.clearing.settlements import Settlements
from super_app.db import Cursor
from super_app.errors import Refused
from super_app.ledger import service as ledger
from super_app.ledger.model import AccountKind, house, in_transit

Pair = tuple[Node, Node]
Made = Callable[[str], Node]
DAY_MS: Final = 86_400_000
LIMIT_MINOR: Final = 10_000


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


def forged(debtor: Node, creditor: Node, kind: MessageType, terms: SettlementTerms, **changes: Any) -> Any:
    """Hand over an object that ``debtor`` (or whoever it is) signs with a mind of its own."""
    fields = objects.settlement_fields(terms)
    return creditor.receive(debtor, {"object": forge(debtor, creditor, kind, **{**fields, **changes})})


def terms_of(amount_minor: int = 1_000, name: str = "A", **changes: Any) -> SettlementTerms:
    plain = SettlementTerms(
        settlement_id=SettlementId(name * 43), amount_minor=amount_minor, currency=EUR.code, scale=EUR.scale
    )
    return replace(plain, **changes)


def types(node: Node, peer: Node, sender: Sender = Sender.OURS) -> list[str]:
    return [each["type"] for each in node.chain(peer, sender)]


def choose(node: Node, peer: Node, **terms: Any) -> AutoSettle:
    chosen = AutoSettle(currency=EUR.code, **terms)
    done = node.tx(lambda cur: node.clearing.settlements.choose(cur, peer.name, chosen, node.now_ms))
    assert isinstance(done, AutoSettle), done
    return done


def proposals(node: Node, peer: Node) -> list[int]:
    return [each["amount"] for each in node.chain(peer) if each["type"] == "SETTLE_PROPOSE"]


def freeze(node: Node, peer: Node) -> None:
    """Make a node see two objects of its peer in one place."""
    for reason in ("one", "two"):
        node.receive(peer, {"object": forge(peer, node, MessageType.SUSPEND, reason=reason, seq=99)})
    assert node.link(peer).phase is LinkPhase.FROZEN


def books_of(node: Node) -> Settlements:
    me = Identity(server=node.name, key=node.key, certificate={}, boot=node.boot)
    return Settlements(Chain(me), ASSETS)


def next_ms(node: Node, peer: Node) -> int | None:
    """When time has something to do for settlements with a peer, whatever else it has to do then."""
    link_id = objects.link_id_of(node.name, peer.name)

    def read(cur: Cursor) -> int | None:
        link = store.link(cur, link_id)
        assert link is not None
        return books_of(node).next_ms(cur, link)

    return node.tx(read)


def copies(node: Node, peer: Node) -> list[tuple[ChainObject, Sender]]:
    """All settlement objects of a link, of both sides, as their readers see them."""
    found: list[tuple[ChainObject, Sender]] = []
    for sender in Sender:
        for content in node.chain(peer, sender):
            read = objects.read_object(content)
            assert isinstance(read, ChainObject)
            if read.settlement is not None:
                found.append((read, sender))
    return found
