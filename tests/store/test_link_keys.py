"""Payment keys that are replaced while a link is in use, on SQLite and on PostgreSQL."""

from collections.abc import Callable
from typing import Any

import pytest
from engines import Database
from nacl.signing import SigningKey
from nodes import PACKAGES, Node, advance, deliver, exchange, forge, grant_of, linked

from super_app.clearing import objects, rules
from super_app.clearing.model import LinkPhase, LinkView, MessageType, Received, Sender, Trouble
from super_app.clearing.recovery_model import RestoreId
from super_app.errors import Reason, Refused
from super_app.signing import key_id_of, public_b64

Pair = tuple[Node, Node]


@pytest.fixture
def pair(open_database: Callable[..., Database]) -> Pair:
    """Two linked homeservers; alice on the first has 100.00 EUR. Each unit of work runs twice, once rolled back."""
    hs1, hs2 = (Node(name, open_database(*PACKAGES).connect(rerun=True)) for name in ("hs1.test", "hs2.test"))
    for node in (hs1, hs2):
        node.create()
    linked(hs1, hs2)
    hs1.issue(hs1.user("alice"), 10_000)
    return hs1, hs2


def new_key(number: int) -> SigningKey:
    return SigningKey(bytes([number]) * 32)


def rotate(node: Node, number: int = 1) -> SigningKey:
    """The key file holds a new key and the process has read it; no link knows of it yet. Gives the old key."""
    old = node.key
    node.key = new_key(number)
    node.clearing = node.clearing_with(retired=(*node.retired, old))
    node.retired = (*node.retired, old)
    return old


def say(node: Node, peer: Node) -> None:
    assert not isinstance(node.tx(lambda cur: node.clearing.say_key(cur, peer.name, node.now_ms)), Refused)


def repin(node: Node, peer: Node) -> LinkView | Refused:
    shown, order = objects.fingerprint_of(public_b64(peer.key)), RestoreId(f"repin {node.name}")
    return node.tx(lambda cur: node.clearing.repin(cur, peer.name, shown, order, node.now_ms, take_back=False))


def pay(hs1: Node, hs2: Node, amount_minor: int = 500) -> Any:
    order = hs1.order(hs1.user("alice"), hs2.user("bob"), amount_minor)
    assert not isinstance(hs1.pay(order), Refused)
    return order


def told(node: Node, side: str, payment: str) -> tuple[str, str] | None:
    return node.tx(lambda cur: node.till.state(cur, side, payment))


def signers(node: Node, peer: Node) -> list[tuple[str, str]]:
    return [(each["type"], each["key_id"]) for each in node.chain(peer)]


def test_a_new_key_is_said_by_the_old_one_and_signs_from_then_on(pair: Pair) -> None:
    hs1, hs2 = pair
    pay(hs1, hs2)
    exchange(hs1, hs2)
    old = rotate(hs1)
    say(hs1, hs2)
    say(hs1, hs2)
    order = pay(hs1, hs2)
    exchange(hs1, hs2)
    assert told(hs1, "out", order.payment_id) == ("completed", "")
    before, after = key_id_of(old), key_id_of(hs1.key)
    assert signers(hs1, hs2) == [
        ("LINK_OPEN", before),
        ("OFFER", before),
        ("COMMIT", before),
        ("KEY", before),
        ("OFFER", after),
        ("COMMIT", after),
    ]
    assert (
        hs1.link(hs2).our_fingerprint == hs2.link(hs1).their_fingerprint == objects.fingerprint_of(public_b64(hs1.key))
    )
    assert hs1.violations() + hs2.violations() == []


def test_both_sides_replace_their_keys_at_once_and_often(pair: Pair) -> None:
    hs1, hs2 = pair
    for number in range(1, 4):
        for node, peer in ((hs1, hs2), (hs2, hs1)):
            rotate(node, number + (100 if node is hs1 else 0))
            say(node, peer)
        order = pay(hs1, hs2, number)
        exchange(hs1, hs2)
        assert told(hs1, "out", order.payment_id) == ("completed", "")
    assert [kind for kind, _ in signers(hs1, hs2)].count("KEY") == 3


def test_nothing_behind_a_key_is_sent_before_the_peer_has_acknowledged_it(pair: Pair) -> None:
    hs1, hs2 = pair
    pay(hs1, hs2)
    rotate(hs1)
    say(hs1, hs2)
    order = pay(hs1, hs2)
    assert [each.type for each in hs1.errands(hs2)] == [MessageType.OFFER, MessageType.KEY]
    # Refused for whatever reason, it is tried again later, and what follows waits for it.
    offer, key = hs1.errands(hs2)
    deliver(hs1, hs2, offer)
    hs1.failed(key, Trouble.REFUSED, Reason.BAD_SIGNATURE)
    assert [each.type for each in hs1.errands(hs2)] == []
    advance(rules.RETRY_MS[0], hs1, hs2)
    exchange(hs1, hs2)
    assert told(hs1, "out", order.payment_id) == ("completed", "")


def test_a_key_that_was_seen_is_acknowledged_like_one_that_was_answered(pair: Pair) -> None:
    hs1, hs2 = pair
    rotate(hs1)
    say(hs1, hs2)
    (key,) = hs1.errands(hs2)
    assert isinstance(hs2.receive(hs1, key.body), Received)
    hs1.failed(key, Trouble.UNREACHABLE)
    # The answer was lost, but the peer's next object has seen the KEY.
    hs2.open_link(hs1, 1_000_001)
    exchange(hs2, hs1)
    order = pay(hs1, hs2)
    exchange(hs1, hs2)
    assert told(hs1, "out", order.payment_id) == ("completed", "")


def test_a_link_that_cannot_be_signed_on_now_hears_of_the_key_once_it_can(pair: Pair) -> None:
    hs1, hs2 = pair
    rotate(hs1)
    hs1.start("2")
    say(hs1, hs2)
    assert [kind for kind, _ in signers(hs1, hs2)] == ["LINK_OPEN"]
    exchange(hs1, hs2)
    assert [kind for kind, _ in signers(hs1, hs2)] == ["LINK_OPEN", "KEY"]
    order = pay(hs1, hs2)
    exchange(hs1, hs2)
    assert told(hs1, "out", order.payment_id) == ("completed", "")


def test_without_the_key_of_a_link_nothing_is_signed_on_it(pair: Pair) -> None:
    hs1, hs2 = pair
    rotate(hs1)
    # The file of the old key is gone before the link has heard of the new one.
    hs1.retired = ()
    hs1.start("2")
    exchange(hs1, hs2)
    assert hs1.link(hs2).phase is LinkPhase.HALTED
    assert [kind for kind, _ in signers(hs1, hs2)] == ["LINK_OPEN"]
    order = hs1.order(hs1.user("alice"), hs2.user("bob"), 500)
    answer = hs1.tx(lambda cur: hs1.clearing.can_pay(cur, hs2.name, order.money))
    assert answer is not None
    assert answer.reason is Reason.LINK_HALTED


def test_an_older_key_put_back_is_not_taken_up_again(pair: Pair) -> None:
    hs1, hs2 = pair
    old = rotate(hs1)
    say(hs1, hs2)
    exchange(hs1, hs2)
    new = hs1.key
    hs1.key, hs1.retired = old, (new,)
    hs1.start("2")
    exchange(hs1, hs2)
    order = pay(hs1, hs2)
    exchange(hs1, hs2)
    assert told(hs1, "out", order.payment_id) == ("completed", "")
    assert signers(hs1, hs2)[-1] == ("COMMIT", key_id_of(new))
    assert [kind for kind, _ in signers(hs1, hs2)].count("KEY") == 1


def test_a_key_comes_across_a_gap(pair: Pair) -> None:
    hs1, hs2 = pair
    hs1.open_link(hs2, 5)
    (limit,) = hs1.errands(hs2)
    rotate(hs1)
    say(hs1, hs2)
    key = hs1.errands(hs2)[1]
    deliver(hs1, hs2, key)
    hs1.open_link(hs2, 7)
    deliver(hs1, hs2, hs1.errands(hs2)[1])
    # By the key before, behind the gap that it leaves.
    deliver(hs1, hs2, limit)
    assert hs2.link(hs1).exposures[0].received == grant_of(7)
    assert [each["type"] for each in hs2.chain(hs1, Sender.THEIRS)] == ["LINK_OPEN", "LIMIT", "KEY", "LIMIT"]
    assert hs2.link(hs1).phase is LinkPhase.OPEN


def test_a_key_that_was_lost_with_the_end_of_a_database_is_asked_for(pair: Pair) -> None:
    hs1, hs2 = pair
    rotate(hs1)
    say(hs1, hs2)
    (key,) = hs1.errands(hs2)
    # It came, was acknowledged, and was not in the copy of the database that hs2 goes on with.
    hs1.delivered(key, [])
    hs1.open_link(hs2, 7)
    (limit,) = hs1.errands(hs2)
    answer = deliver(hs1, hs2, limit)
    assert isinstance(answer, Received)
    assert answer.refused is not None
    assert answer.refused.reason is Reason.BAD_SIGNATURE
    (gap,) = hs2.errands(hs1)
    assert gap.type is MessageType.RANGE
    exchange(hs1, hs2)
    assert hs2.link(hs1).exposures[0].received == grant_of(7)
    assert [each["type"] for each in hs2.chain(hs1, Sender.THEIRS)] == ["LINK_OPEN", "KEY", "LIMIT"]


def test_an_object_of_no_key_of_its_link_has_the_gap_before_it_asked_for_once(pair: Pair) -> None:
    hs1, hs2 = pair
    mine, hs1.key = hs1.key, new_key(9)
    forged = forge(hs1, hs2, MessageType.LIMIT, seq=5, **objects.grant_fields(grant_of(7)))
    hs1.key = mine
    answer = hs2.receive(hs1, {"object": forged})
    assert isinstance(answer, Received)
    assert answer.refused is not None
    (gap,) = hs2.errands(hs1)
    deliver(hs2, hs1, gap)
    assert hs2.errands(hs1) == ()
    assert hs2.link(hs1).phase is LinkPhase.OPEN


def test_a_key_that_was_lost_is_pinned_anew_on_both_sides(pair: Pair) -> None:
    hs1, hs2 = pair
    pay(hs1, hs2)
    exchange(hs1, hs2)
    rotate(hs1)
    hs1.retired = ()
    hs1.start("2")
    for node, peer in (pair, pair[::-1]):
        assert not isinstance(repin(node, peer), Refused)
    for _ in range(3):
        exchange(hs1, hs2)
        advance(rules.RETRY_MS[0], hs1, hs2)
    assert [node.link(peer).phase for node, peer in (pair, pair[::-1])] == [LinkPhase.OPEN, LinkPhase.OPEN]
    order = pay(hs1, hs2)
    exchange(hs1, hs2)
    assert told(hs1, "out", order.payment_id) == ("completed", "")
    assert hs2.link(hs1).their_fingerprint == objects.fingerprint_of(public_b64(hs1.key))
    assert hs1.violations() + hs2.violations() == []
