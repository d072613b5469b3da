"""Payment keys that were replaced around a restore: which of them signs FENCE, and that the peer can verify it."""

from collections.abc import Callable

from nacl.signing import SigningKey
from nodes import Node, advance, deliver, exchange, forge, grant_of
from restores import backup, restore
from test_restored_nodes import check, come_to_rest, make_pair

from super_app.clearing import objects, rules
from super_app.clearing.model import Errand, LinkPhase, MessageType, Received
from super_app.errors import Reason, Refused
from super_app.signing import key_id_of


def renew(node: Node, peer: Node, number: int = 7) -> Errand:
    """Another payment key, of which the link says KEY. Gives that, which is not sent yet."""
    node.renew_key(SigningKey(bytes([number]) * 32))
    node.clearing = node.clearing_with(retired=node.retired)
    said = node.tx(lambda cur: node.clearing.say_key(cur, peer.name, node.now_ms))
    assert not isinstance(said, Refused)
    (key,) = (each for each in node.errands(peer) if each.type is MessageType.KEY)
    return key


def deliver_until(node: Node, peer: Node, is_next: Callable[[Errand], bool]) -> Errand:
    """One request after the other up to one, which is left."""
    for _ in range(50):
        (errand,) = node.errands(peer)
        if is_next(errand):
            return errand
        assert isinstance(deliver(node, peer, errand), Received)
    raise AssertionError("it does not come to that")


def is_fence(errand: Errand) -> bool:
    return errand.type is MessageType.FENCE


def pay(hs1: Node, hs2: Node, amount_minor: int) -> None:
    assert not isinstance(hs1.pay(hs1.order(hs1.user("ann"), hs2.user("ann"), amount_minor)), Refused)


def check_goes_on(hs1: Node, hs2: Node) -> None:
    """Both books are equal, and more than a few payments go through in the new epoch."""
    come_to_rest(hs1, hs2)
    check(hs1, hs2)
    before = hs2.available(hs2.user("ann"))
    for amount_minor in (1, 2, 4, 8):
        pay(hs1, hs2, amount_minor)
        exchange(hs1, hs2)
    assert hs2.available(hs2.user("ann")) == before + 15
    come_to_rest(hs1, hs2)
    check(hs1, hs2)


def test_a_key_object_that_was_lost_is_the_one_whose_key_signs_fence() -> None:
    hs1, hs2 = make_pair()
    pay(hs1, hs2, 100)
    exchange(hs1, hs2)
    copy = backup(hs1)
    deliver(hs1, hs2, renew(hs1, hs2))
    restore(hs1, copy, boot="2")
    fence = deliver_until(hs1, hs2, is_fence)
    assert fence.body["object"]["key_id"] == key_id_of(hs1.key)
    check_goes_on(hs1, hs2)


def test_a_key_that_the_peer_has_not_got_is_sent_before_the_fence_that_it_signs() -> None:
    hs1, hs2 = make_pair()
    pay(hs1, hs2, 100)
    exchange(hs1, hs2)
    renew(hs1, hs2)
    pay(hs1, hs2, 50)
    restore(hs1, backup(hs1), boot="2")
    key = deliver_until(hs1, hs2, lambda errand: errand.type in (MessageType.KEY, MessageType.FENCE))
    assert key.type is MessageType.KEY
    assert isinstance(deliver(hs1, hs2, key), Received)
    fence = deliver_until(hs1, hs2, is_fence)
    assert fence.body["object"]["key_id"] == key_id_of(hs1.key)
    check_goes_on(hs1, hs2)


def test_nothing_of_the_new_epoch_waits_for_a_key_of_the_old_one() -> None:
    hs1, hs2 = make_pair()
    # It arrives, the answer does not, and the peer acknowledges it by the KEY of its own.
    assert isinstance(hs2.receive(hs1, renew(hs1, hs2).body), Received)
    restore(hs1, backup(hs1), boot="2")
    deliver_until(hs1, hs2, lambda errand: errand.type is MessageType.KEY)
    assert isinstance(deliver(hs2, hs1, renew(hs2, hs1, number=8)), Received)
    assert is_fence(hs1.errands(hs2)[0])
    while hs1.link(hs2).phase is LinkPhase.RECOVERING:
        deliver(hs1, hs2, hs1.errands(hs2)[0])
    for amount_minor in (1, 2, 3):
        pay(hs1, hs2, amount_minor)
    assert [each.type for each in hs1.errands(hs2)].count(MessageType.OFFER) == 3
    check_goes_on(hs1, hs2)


def test_a_frozen_link_takes_the_key_without_which_it_could_take_no_fence() -> None:
    hs1, hs2 = make_pair()
    second = forge(hs1, hs2, MessageType.LIMIT, seq=1, prev_hash="", **objects.grant_fields(grant_of(7)))
    hs2.receive(hs1, {"object": second})
    assert hs2.link(hs1).phase is LinkPhase.FROZEN
    renew(hs1, hs2)
    restore(hs1, backup(hs1), boot="2")
    exchange(hs1, hs2)
    assert hs1.link(hs2).phase is LinkPhase.OPEN
    assert hs2.link(hs1).phase is LinkPhase.FROZEN


def test_a_key_that_arrives_late_makes_the_recovery_ask_again_which_key_is_expected() -> None:
    hs1, hs2 = make_pair()
    copy = backup(hs1)
    late = renew(hs1, hs2)
    restore(hs1, copy, boot="2")
    fence = deliver_until(hs1, hs2, is_fence)
    assert isinstance(hs2.receive(hs1, late.body), Received)
    answer = deliver(hs1, hs2, fence)
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.BAD_SIGNATURE
    assert hs1.errands(hs2) == ()
    for _ in range(3):
        advance(rules.RETRY_MS[-1], hs1, hs2)
        exchange(hs1, hs2)
    assert hs1.link(hs2).phase is LinkPhase.OPEN
    assert hs1.link(hs2).our_epoch == 2
    check_goes_on(hs1, hs2)


def test_two_that_recover_at_once_give_each_other_their_keys() -> None:
    hs1, hs2 = make_pair()
    restore(hs2, backup(hs2), boot="2")
    deliver_until(hs2, hs1, is_fence)
    # What it has learned of the other by now lacks this KEY.
    renew(hs1, hs2)
    restore(hs1, backup(hs1), boot="2")
    check_goes_on(hs1, hs2)
