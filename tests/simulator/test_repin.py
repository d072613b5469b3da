"""Payment keys that are pinned anew by both operators: after a loss, a theft, or a link that was frozen."""

import itertools
from functools import partial
from typing import Any

import pytest
from nacl.signing import SigningKey
from nodes import Node, advance, deliver, dump, exchange, forge, grant_of
from restores import backup, restore
from test_restored_keys import deliver_until
from test_restored_nodes import PEOPLE, check, come_to_rest, make_pair
from world import new_disk

from super_app.clearing import objects, rules, store
from super_app.clearing.model import Errand, EvidenceKind, LinkPhase, LinkView, MessageType, Received, Sender
from super_app.clearing.recovery_model import RestoreId
from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from super_app.signing import key_id_of, public_b64, sign

_ORDERS = itertools.count()
"""Each order has an id of its own."""


def pay(hs1: Node, hs2: Node, amount_minor: int) -> str:
    order = hs1.order(hs1.user("ann"), hs2.user("ann"), amount_minor)
    assert not isinstance(hs1.pay(order), Refused)
    return order.payment_id


def fingerprint(node: Node) -> str:
    return objects.fingerprint_of(public_b64(node.key))


def repin(node: Node, peer: Node, shown: str | None = None, *, take_back: bool = False) -> LinkView | Refused:
    """What the operator of ``node`` orders, who was told the fingerprint of the peer's key, or something else."""
    told = fingerprint(peer) if shown is None else shown
    order = RestoreId(f"repin {next(_ORDERS)}")
    return node.tx(lambda cur: node.clearing.repin(cur, peer.name, told, order, node.now_ms, take_back=take_back))


def lose_key(node: Node, number: int = 9) -> SigningKey:
    """The key file is gone, and the process has made another one. Gives the key that was in it."""
    lost, node.key = node.key, SigningKey(bytes([number]) * 32)
    node.retired = ()
    node.start(f"{node.boot} with another key")
    node.tx(lambda cur: node.clearing.started(cur, node.now_ms))
    return lost


def freeze(node: Node, peer: Node) -> None:
    """The peer has contradicted itself towards ``node``."""
    second = forge(peer, node, MessageType.LIMIT, seq=1, prev_hash="", **objects.grant_fields(grant_of(7)))
    node.receive(peer, {"object": second})
    assert node.link(peer).phase is LinkPhase.FROZEN


def evidence(node: Node, peer: Node) -> dict[EvidenceKind, int]:
    return dict(node.link(peer).evidence)


def signed_by(signer: SigningKey, sender: Node, receiver: Node, kind: MessageType, **changes: Any) -> dict[str, Any]:
    """What a holder of an old key can make."""
    mine, sender.key = sender.key, signer
    try:
        return forge(sender, receiver, kind, **changes)
    finally:
        sender.key = mine


def goes_on(hs1: Node, hs2: Node) -> None:
    come_to_rest(hs1, hs2)
    check(hs1, hs2)
    for payer, payee in ((hs1, hs2), (hs2, hs1)):
        before = payee.available(payee.user("ann"))
        pay(payer, payee, 3)
        exchange(hs1, hs2)
        assert payee.available(payee.user("ann")) == before + 3
    come_to_rest(hs1, hs2)
    check(hs1, hs2)


@pytest.mark.parametrize("first", [0, 1])
def test_a_lost_key_is_replaced_once_both_operators_have_confirmed(first: int) -> None:
    hs1, hs2 = pair = make_pair()
    pay(hs1, hs2, 100)
    exchange(hs1, hs2)
    lose_key(hs1)
    exchange(hs1, hs2)
    assert hs1.link(hs2).phase is LinkPhase.HALTED
    assert "super-app link repin" in hs1.link(hs2).why
    for node, peer in (pair, pair[::-1]) if first == 0 else (pair[::-1], pair):
        assert not isinstance(repin(node, peer), Refused)
        exchange(hs1, hs2)
        advance(rules.RETRY_MS[0], hs1, hs2)
    come_to_rest(hs1, hs2)
    for node, peer in (pair, pair[::-1]):
        assert node.link(peer).phase is LinkPhase.OPEN
        assert node.link(peer).their_fingerprint == fingerprint(peer)
        assert node.link(peer).our_epoch == 2
    goes_on(hs1, hs2)


def test_each_operator_sees_what_waits_for_whom() -> None:
    hs1, hs2 = make_pair()
    lose_key(hs1)
    repin(hs1, hs2)
    exchange(hs1, hs2)
    (mine,), (its,) = hs1.link(hs2).waits, hs2.link(hs1).waits
    assert mine.startswith("waits for the operator of hs2.test")
    assert fingerprint(hs1) in mine
    assert its.startswith("waits for you: hs1.test wants to pin payment keys anew")
    assert fingerprint(hs1) in its
    assert hs2.link(hs1).asked_fingerprint == fingerprint(hs1)
    # Until its operator has looked into it, payments of the others go on as far as they can.
    assert hs2.link(hs1).phase is LinkPhase.OPEN
    assert not isinstance(repin(hs2, hs1, "0" * 32), Refused)
    exchange(hs1, hs2)
    advance(rules.RETRY_MS[-1], hs1, hs2)
    exchange(hs1, hs2)
    (its,) = hs2.link(hs1).waits
    assert "you confirmed the key 0000 0000" in its
    assert LinkPhase.OPEN not in (hs1.link(hs2).phase, hs2.link(hs1).phase)
    repin(hs2, hs1)
    come_to_rest(hs1, hs2)
    assert hs1.link(hs2).waits == hs2.link(hs1).waits == ()
    goes_on(hs1, hs2)


def test_payments_under_way_end_as_both_sides_hold_them() -> None:
    """A COMMIT that the peer has not got, one without its RECEIPT, an OFFER: each ends once, for both alike."""
    hs1, hs2 = make_pair()
    # Credited, and the RECEIPT is lost.
    pay(hs1, hs2, 1)
    (offer,) = hs1.errands(hs2)
    deliver(hs1, hs2, offer)
    commit = next(each for each in hs1.errands(hs2) if each.type is MessageType.COMMIT)
    assert isinstance(hs2.receive(hs1, commit.body), Received)
    # Committed, and the COMMIT is lost.
    pay(hs1, hs2, 2)
    deliver(hs1, hs2, next(each for each in hs1.errands(hs2) if each.type is MessageType.OFFER))
    # Only offered.
    pay(hs1, hs2, 4)
    pay(hs2, hs1, 8)
    lose_key(hs1)
    repin(hs1, hs2)
    repin(hs2, hs1)
    come_to_rest(hs1, hs2)
    check(hs1, hs2)
    assert hs2.due_from(hs1) in (3, 7)
    goes_on(hs1, hs2)


def test_a_frozen_link_goes_on_and_keeps_the_proof() -> None:
    hs1, hs2 = make_pair()
    pay(hs1, hs2, 100)
    exchange(hs1, hs2)
    freeze(hs2, hs1)
    pay(hs1, hs2, 5)
    exchange(hs1, hs2)
    repin(hs2, hs1)
    repin(hs1, hs2)
    come_to_rest(hs1, hs2)
    assert evidence(hs2, hs1) == {EvidenceKind.EQUIVOCATION: 1}
    goes_on(hs1, hs2)
    # The same contradiction once more is known; another one is not.
    second = forge(hs1, hs2, MessageType.LIMIT, seq=1, prev_hash="", epoch=1, **objects.grant_fields(grant_of(7)))
    answer = hs2.receive(hs1, {"object": second})
    assert isinstance(answer, Refused)
    assert hs2.link(hs1).phase is LinkPhase.OPEN
    third = forge(hs1, hs2, MessageType.LIMIT, seq=2, prev_hash="", epoch=2, **objects.grant_fields(grant_of(8)))
    hs2.receive(hs1, {"object": third})
    assert hs2.link(hs1).phase is LinkPhase.FROZEN


def repinned_after_theft() -> tuple[Node, Node, SigningKey]:
    """hs1's key was stolen; another one is pinned. Both chains have objects of the old epoch."""
    hs1, hs2 = make_pair()
    pay(hs1, hs2, 100)
    exchange(hs1, hs2)
    stolen = hs1.key
    hs1.renew_key(SigningKey(bytes([9]) * 32))
    hs1.start("2")
    hs1.tx(lambda cur: hs1.clearing.started(cur, hs1.now_ms))
    repin(hs1, hs2)
    repin(hs2, hs1)
    come_to_rest(hs1, hs2)
    check(hs1, hs2)
    return hs1, hs2, stolen


def test_who_holds_the_old_key_can_sign_nothing_any_more() -> None:
    hs1, hs2, stolen = repinned_after_theft()
    limit = objects.grant_fields(grant_of(7))
    newest = hs2.chain(hs1, Sender.THEIRS)[-1]
    after = {"epoch": newest["epoch"], "seq": newest["seq"], "hash": objects.message_id_of(newest)}
    own_key = objects.key_fields(public_b64(stolen), hs1.certify(objects.certificate_fields(hs1.name, stolen)))
    attempts = {
        "in the new epoch": signed_by(stolen, hs1, hs2, MessageType.LIMIT, epoch=2, **limit),
        "in place of an old object": signed_by(
            stolen, hs1, hs2, MessageType.LIMIT, epoch=1, seq=2, prev_hash="x" * 43, **limit
        ),
        "behind the old epoch": signed_by(stolen, hs1, hs2, MessageType.LIMIT, epoch=1, seq=900, **limit),
        "another epoch": signed_by(stolen, hs1, hs2, MessageType.FENCE, epoch=3, seq=1, prev_hash="", after=after),
        "another epoch with its key": signed_by(
            stolen, hs1, hs2, MessageType.FENCE, epoch=3, seq=1, prev_hash="", after=after, key=own_key
        ),
        "a KEY": signed_by(stolen, hs1, hs2, MessageType.KEY, epoch=2, key=own_key),
    }
    for what, content in attempts.items():
        before = dump(hs2)
        answer = hs2.receive(hs1, {"object": content})
        refused = answer.refused if isinstance(answer, Received) else answer
        assert refused is not None, what
        assert refused.reason in (Reason.BAD_SIGNATURE, Reason.EPOCH_CLOSED, Reason.INVALID_VALUE), what
        assert dump(hs2) == before, what
    goes_on(hs1, hs2)


def test_who_holds_our_old_key_cannot_make_us_believe_that_we_are_old() -> None:
    """A peer with the stolen key claims to hold objects of ours that we never signed."""
    hs1, hs2, stolen = repinned_after_theft()
    link_id = objects.link_id_of(hs1.name, hs2.name)
    for epoch in (1, 2, 3):
        claim = objects.head_of(link_id, hs1.name, epoch, 900, "x" * 43)
        seen = {"seq": 900, "hash": "x" * 43, "signature": sign(claim, stolen)}
        limit = objects.grant_fields(grant_of(1_000_000))
        lie = forge(hs2, hs1, MessageType.LIMIT, epoch=2, seen=seen, **limit)
        assert isinstance(hs1.receive(hs2, {"object": lie}), Received)
        assert hs1.link(hs2).phase is LinkPhase.OPEN
        hs2.open_link(hs1, 1_000_000)
    made = signed_by(stolen, hs1, hs2, MessageType.LIMIT, epoch=1, seq=900, **objects.grant_fields(grant_of(7)))
    hs1.start("4")
    (head,) = hs1.errands(hs2)
    hs1.delivered(head, [made])
    assert hs1.link(hs2).phase is LinkPhase.OPEN
    assert evidence(hs1, hs2)[EvidenceKind.FALSE_SEEN] == 4


def test_what_the_peer_holds_and_we_never_signed_is_not_taken_unless_ordered() -> None:
    """The thief was let in as us, and the peer has credited somebody on it: that is for the operators to settle."""
    hs1, hs2 = make_pair()
    stolen = hs1.key
    made = signed_by(stolen, hs1, hs2, MessageType.LIMIT, epoch=1, **objects.grant_fields(grant_of(777)))
    assert isinstance(hs2.receive(hs1, {"object": made}), Received)
    hs1.renew_key(SigningKey(bytes([9]) * 32))
    hs1.start("2")
    repin(hs1, hs2)
    repin(hs2, hs1)
    exchange(hs1, hs2)
    advance(rules.RETRY_MS[0], hs1, hs2)
    exchange(hs1, hs2)
    assert hs1.link(hs2).phase is LinkPhase.HALTED
    assert evidence(hs1, hs2) == {EvidenceKind.PEER_AHEAD: 1}
    # Ordered so, it counts.
    repin(hs1, hs2, take_back=True)
    come_to_rest(hs1, hs2)
    assert hs1.link(hs2).exposures[0].granted == hs2.link(hs1).exposures[0].received == grant_of(777)
    goes_on(hs1, hs2)


def test_what_was_signed_after_the_other_had_looked_is_fetched_before_the_old_epoch_is_shut() -> None:
    hs1, hs2 = make_pair()
    lose_key(hs2)
    exchange(hs1, hs2)
    repin(hs2, hs1)
    exchange(hs1, hs2)
    # hs2 has learned all that there was, and waits. hs1 signs on, of which nothing can be taken.
    for amount_minor in (1, 2, 3):
        pay(hs1, hs2, amount_minor)
    exchange(hs1, hs2)
    hs1.renew_key(SigningKey(bytes([8]) * 32))
    hs1.start("2")
    repin(hs1, hs2)
    repin(hs2, hs1)
    come_to_rest(hs1, hs2)
    kinds = [each["type"] for each in hs2.chain(hs1, Sender.THEIRS)]
    assert kinds.count("OFFER") == 3
    goes_on(hs1, hs2)


def test_a_fence_that_comes_before_its_chain_is_whole_is_taken_once_it_is() -> None:
    hs1, hs2 = make_pair()
    repin(hs2, hs1)
    while not any(each.type is MessageType.FENCE for each in hs2.errands(hs1)):
        deliver(hs2, hs1, hs2.errands(hs1)[0])
    # Of this hs2 knows nothing yet.
    hs1.open_link(hs2, 4_711)
    repin(hs1, hs2)
    come_to_rest(hs1, hs2)
    assert hs2.link(hs1).exposures[0].received == grant_of(4_711)
    goes_on(hs1, hs2)


def test_a_key_that_the_link_had_before_cannot_be_pinned_anew() -> None:
    hs1, hs2, stolen = repinned_after_theft()
    new, hs1.key = hs1.key, stolen
    hs1.retired = (new,)
    hs1.start("3")
    answer = repin(hs1, hs2)
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.CONFLICT


@pytest.mark.parametrize(
    ("shown", "reason"),
    [("", Reason.INVALID_VALUE), ("xyz", Reason.INVALID_VALUE), ("12" * 15, Reason.INVALID_VALUE)],
)
def test_an_order_needs_a_whole_fingerprint(shown: str, reason: Reason) -> None:
    hs1, hs2 = make_pair()
    before = dump(hs1)
    answer = repin(hs1, hs2, shown)
    assert isinstance(answer, Refused)
    assert answer.reason is reason
    assert dump(hs1) == before


def test_a_link_that_is_not_open_has_no_keys_to_pin_anew() -> None:
    hs1, hs2 = make_pair()
    answer = hs1.tx(
        lambda cur: hs1.clearing.repin(
            cur, ServerName("nobody.test"), fingerprint(hs2), RestoreId("x"), hs1.now_ms, take_back=False
        )
    )
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.UNKNOWN_PEER


def test_a_database_from_before_the_keys_were_pinned_anew_comes_back_with_the_new_key() -> None:
    hs1, hs2 = make_pair()
    copies = {node.name: backup(node) for node in (hs1, hs2)}
    pay(hs1, hs2, 100)
    exchange(hs1, hs2)
    hs1.renew_key(SigningKey(bytes([9]) * 32))
    hs1.start("2")
    repin(hs1, hs2)
    repin(hs2, hs1)
    come_to_rest(hs1, hs2)
    pay(hs1, hs2, 50)
    exchange(hs1, hs2)
    restore(hs1, copies[hs1.name], boot="3")
    come_to_rest(hs1, hs2)
    assert hs1.link(hs2).our_fingerprint == fingerprint(hs1)
    goes_on(hs1, hs2)
    # The other one has lost what its operator had confirmed, and must be told again.
    restore(hs2, copies[hs2.name], boot="4")
    exchange(hs1, hs2)
    advance(rules.RETRY_MS[0], hs1, hs2)
    exchange(hs1, hs2)
    assert hs2.link(hs1).asked_fingerprint == fingerprint(hs1)
    repin(hs2, hs1, take_back=True)
    come_to_rest(hs1, hs2)
    goes_on(hs1, hs2)


def test_an_old_copy_is_told_nothing_by_who_stole_the_key_that_it_knows() -> None:
    """Who has the peer's old database and both its old keys answers our FENCE before the peer can."""
    hs1, hs2 = make_pair()
    copy = backup(hs2)
    pay(hs1, hs2, 100)
    exchange(hs1, hs2)
    stolen = hs1.key
    hs1.renew_key(SigningKey(bytes([9]) * 32))
    hs1.start("2")
    repin(hs1, hs2)
    repin(hs2, hs1)
    come_to_rest(hs1, hs2)
    restore(hs2, copy, boot="3")
    fence = next(each for each in iter(lambda: _next_step(hs2, hs1), None) if each.type is MessageType.FENCE)
    (waits,) = hs2.link(hs1).waits
    assert "a copy from a backup" in waits
    assert fingerprint(hs1) in waits
    assert "--take-back" in waits
    # It fits into the place that is next for this copy, and lists nothing, so that all we had signed would be void.
    answer = signed_by(
        stolen,
        hs1,
        hs2,
        MessageType.FENCED,
        fence=objects.message_id_of(fence.body["object"]),
        page=1,
        pages=1,
        held=[],
    )
    received = hs2.receive(hs1, {"object": answer})
    refused = received.refused if isinstance(received, Received) else received
    assert refused is not None
    assert refused.reason is Reason.KEY_UNCONFIRMED
    assert hs2.link(hs1).phase is LinkPhase.RECOVERING
    repin(hs2, hs1, take_back=True)
    come_to_rest(hs1, hs2)
    assert hs2.link(hs1).their_fingerprint == fingerprint(hs1)
    goes_on(hs1, hs2)


def _next_step(node: Node, peer: Node) -> Errand:
    """The next request of a recovery, answered unless it is FENCE."""
    (errand,) = node.errands(peer)
    if errand.type is not MessageType.FENCE:
        assert isinstance(deliver(node, peer, errand), Received)
    return errand


def test_each_operator_is_told_to_read_the_key_that_the_other_homeserver_sees() -> None:
    """Another key in the file since, as by rotate-key, is not the one that the FENCE brings."""
    hs1, hs2 = make_pair()
    lose_key(hs1)
    repin(hs1, hs2)
    exchange(hs1, hs2)
    shown = fingerprint(hs1)
    hs1.renew_key(SigningKey(bytes([7]) * 32))
    hs1.start("rotated")
    hs1.tx(lambda cur: hs1.clearing.started(cur, hs1.now_ms))
    exchange(hs1, hs2)
    assert hs2.link(hs1).asked_fingerprint == shown != fingerprint(hs1)
    (mine,) = hs1.link(hs2).waits
    assert shown in mine
    repin(hs2, hs1, hs1.link(hs2).shown_fingerprint)
    come_to_rest(hs1, hs2)
    goes_on(hs1, hs2)
    # And then it is told of the newest one, as ever.
    assert hs2.link(hs1).their_fingerprint == fingerprint(hs1)


def test_a_key_that_is_lost_again_before_it_was_confirmed_holds_nothing_up() -> None:
    """Its epoch has FENCE and FENCED in it, by which the next one stands."""
    hs1, hs2 = make_pair()
    pay(hs1, hs2, 100)
    exchange(hs1, hs2)
    lose_key(hs1)
    repin(hs1, hs2)
    exchange(hs1, hs2)
    never_confirmed = fingerprint(hs1)
    # The other side orders it too, and gives our FENCE no answer: it waits for the key that follows.
    repin(hs2, hs1, "0" * 32)
    come_to_rest(hs1, hs2)
    assert (hs1.link(hs2).our_epoch, hs1.link(hs2).our_seq) == (2, 2)
    lose_key(hs1, 7)
    repin(hs1, hs2)
    repin(hs2, hs1)
    come_to_rest(hs1, hs2)
    assert hs2.link(hs1).their_fingerprint == fingerprint(hs1) != never_confirmed
    goes_on(hs1, hs2)


@pytest.mark.parametrize("first", ["the peer's", "ours"])
def test_a_fence_that_the_peer_has_is_known_again_after_it_was_taken_back(first: str) -> None:
    """One key was lost, so that our FENCE brought ours, pinned or new; then ours was lost, or lost again."""
    hs1, hs2 = make_pair()
    pay(hs1, hs2, 100)
    exchange(hs1, hs2)
    lose_key(hs1 if first == "ours" else hs2)
    repin(hs2, hs1)
    repin(hs1, hs2)
    fence = deliver_until(hs1, hs2, lambda errand: errand.type is MessageType.FENCE)
    # It arrives, and the answer to it does not.
    for _ in range(20):
        received = hs2.receive(hs1, fence.body)
        if isinstance(received, Received) and received.refused is None:
            break
        for errand in hs2.errands(hs1):
            if errand.type is not MessageType.FENCE:
                deliver(hs2, hs1, errand)
        advance(rules.RETRY_MS[0], hs2)
    assert hs2.link(hs1).their_epoch == 2
    lose_key(hs1, 7)
    repin(hs1, hs2)
    assert hs1.link(hs2).our_epoch == 1
    repin(hs2, hs1)
    come_to_rest(hs1, hs2)
    assert evidence(hs1, hs2) == {}
    goes_on(hs1, hs2)


def test_a_key_that_is_lost_before_the_peer_has_got_link_open_is_replaced_too() -> None:
    hs1, hs2 = Node("hs1.test", new_disk()), Node("hs2.test", new_disk())
    for node, peer in ((hs1, hs2), (hs2, hs1)):
        node.create()
        for person in PEOPLE:
            node.issue(node.user(person), 100_000)
        node.open_link(peer)
    # The second one to ask hears what the other has signed since it asked, and not the other way round.
    for node, peer in ((hs2, hs1), (hs1, hs2)):
        (head,) = node.errands(peer)
        deliver(node, peer, head)
    # What answers its own is lost with the answer, but that it was answered.
    (opened,) = hs2.errands(hs1)
    assert opened.type is MessageType.LINK_OPEN
    assert isinstance(hs1.receive(hs2, opened.body), Received)
    hs2.delivered(opened, [])
    assert hs2.link(hs1).phase is not LinkPhase.OPEN
    lose_key(hs1)
    assert not isinstance(repin(hs1, hs2), Refused)
    come_to_rest(hs1, hs2)
    assert not isinstance(repin(hs2, hs1), Refused)
    come_to_rest(hs1, hs2)
    goes_on(hs1, hs2)


def test_who_loses_the_key_that_was_being_pinned_is_told_to_order_again() -> None:
    hs1, hs2 = make_pair()
    lose_key(hs1)
    repin(hs1, hs2)
    exchange(hs1, hs2)
    assert hs1.link(hs2).phase is LinkPhase.RECOVERING
    assert hs1.link(hs2).waits[0].startswith("waits for the operator of hs2.test")
    lose_key(hs1, 7)
    (mine,) = hs1.link(hs2).waits
    assert mine.startswith("waits for you: The payment key that hs2.test knows is in none of the key files")
    assert "super-app link repin hs2.test" in mine
    repin(hs1, hs2)
    assert hs1.link(hs2).waits[0].startswith("waits for the operator of hs2.test")
    assert fingerprint(hs1) in hs1.link(hs2).waits[0]
    repin(hs2, hs1)
    come_to_rest(hs1, hs2)
    goes_on(hs1, hs2)


def test_our_own_pin_survives_in_the_view_of_the_keys() -> None:
    hs1, hs2, stolen = repinned_after_theft()
    link_id = objects.link_id_of(hs1.name, hs2.name)
    for node, sender in ((hs1, Sender.OURS), (hs2, Sender.THEIRS)):
        pins = node.tx(partial(store.pins, link_id=link_id, sender=sender))
        assert [(pin.key_id, pin.epoch, pin.is_anew) for pin in pins] == [
            (key_id_of(stolen), 1, False),
            (key_id_of(hs1.key), 2, True),
        ]


def test_two_that_are_frozen_do_not_wake_each_other_for_ever() -> None:
    hs1, hs2 = make_pair()
    for node, peer in ((hs1, hs2), (hs2, hs1)):
        pay(node, peer, 5)
    freeze(hs1, hs2)
    freeze(hs2, hs1)
    advance(rules.OFFER_TTL_MS, hs1, hs2)
    for node in (hs1, hs2):
        node.tick()
    exchange(hs1, hs2, rounds=5)
