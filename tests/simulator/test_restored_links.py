"""What a recovery leaves of the orders of operators, what it does without its key, and how often a peer may fence."""

import pytest
from nacl.signing import SigningKey
from nodes import Node, advance, deliver, exchange, forge
from restores import backup, restore
from test_restored_nodes import come_to_rest, make_pair

from super_app.clearing import rules
from super_app.clearing.model import LinkPhase, LinkView, MessageType, Received, Standing
from super_app.clearing.recovery_model import RestoreId
from super_app.db import Cursor
from super_app.errors import Reason, Refused


def fence(node: Node, peer: Node, epoch: int) -> dict[str, object]:
    """The body of a FENCE of a server that has lost all."""
    after = {"epoch": 1, "seq": 0, "hash": ""}
    fields = {"epoch": epoch, "seq": 1, "prev_hash": "", "after": after}
    return {"object": forge(node, peer, MessageType.FENCE, **fields)}


def stand(node: Node, peer: Node, word: str) -> None:
    def work(cur: Cursor) -> LinkView | Refused:
        clearing = node.clearing
        match word:
            case "suspend":
                return clearing.suspend(cur, peer.name, "maintenance", node.now_ms)
            case "close":
                return clearing.close(cur, peer.name, "", node.now_ms)
            case _:
                return clearing.resume(cur, peer.name, node.now_ms)

    assert not isinstance(node.tx(work), Refused)


@pytest.mark.parametrize(
    ("before", "during", "after"),
    [
        ("resume", "suspend", Standing.SUSPENDED),
        ("resume", "close", Standing.CLOSING),
        ("suspend", "resume", Standing.READY),
        ("suspend", None, Standing.SUSPENDED),
    ],
)
def test_what_an_operator_orders_during_a_recovery_stands(before: str, during: str | None, after: Standing) -> None:
    """What comes back of the time before the restore says otherwise."""
    hs1, hs2 = make_pair()
    copy = backup(hs1)
    stand(hs1, hs2, "suspend")
    stand(hs1, hs2, before)
    exchange(hs1, hs2)
    restore(hs1, copy, boot="2")
    if during is not None:
        stand(hs1, hs2, during)
    come_to_rest(hs1, hs2)
    assert hs1.link(hs2).our_standing is hs2.link(hs1).their_standing is after


def test_without_its_key_a_recovery_says_so_once_and_goes_on_when_it_is_back() -> None:
    hs1, hs2 = make_pair()
    copy = backup(hs1)
    key, hs1.key = hs1.key, SigningKey(bytes([3]) * 32)
    restore(hs1, copy, boot="2")
    alarms: list[str] = []
    for _ in range(8):
        for errand in hs1.errands(hs2):
            answer = hs2.receive(hs1, errand.body)
            assert isinstance(answer, Received)
            alarms += [each.kind.value for each in hs1.delivered(errand, answer.objects).alarms]
        advance(rules.RETRY_MS[0], hs1, hs2)
    assert alarms == ["lost_key"]
    link = hs1.link(hs2)
    assert link.phase is LinkPhase.RECOVERING
    assert link.why.startswith("The payment key that hs2.test knows is in none of the key files")
    assert hs1.errands(hs2) == ()
    hs1.key = key
    hs1.start("3")
    hs1.tx(lambda cur: hs1.clearing.started(cur, hs1.now_ms))
    come_to_rest(hs1, hs2)
    assert hs1.link(hs2).phase is LinkPhase.OPEN


def test_a_peer_that_fences_and_fences_is_put_off() -> None:
    hs1, hs2 = make_pair()
    for epoch in range(2, 2 + rules.MAX_FENCES):
        assert isinstance(hs2.receive(hs1, fence(hs1, hs2, epoch)), Received)
    answer = hs2.receive(hs1, fence(hs1, hs2, 2 + rules.MAX_FENCES))
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.TOO_MANY_REQUESTS
    assert answer.fields == {"retry_after_ms": rules.RETRY_MS[4]}
    # The ones before it are answered as often as they are asked.
    assert isinstance(hs2.receive(hs1, fence(hs1, hs2, 2)), Received)
    advance(rules.FENCES_SPAN_MS, hs1, hs2)
    assert isinstance(hs2.receive(hs1, fence(hs1, hs2, 2 + rules.MAX_FENCES)), Received)


def test_an_order_that_is_given_again_begins_nothing_anew() -> None:
    hs1, hs2 = make_pair()
    restore(hs1, backup(hs1), boot="2")

    def order(name: str) -> None:
        answer = hs1.tx(lambda cur: hs1.clearing.fence(cur, hs2.name, RestoreId(name), hs1.now_ms))
        assert not isinstance(answer, Refused)

    def until_fence() -> str:
        for _ in range(20):
            (errand,) = hs1.errands(hs2)
            if errand.type is MessageType.FENCE:
                return errand.message_id
            deliver(hs1, hs2, errand)
        raise AssertionError("it does not come to a FENCE")

    order("one")
    fence_id = until_fence()
    order("one")
    assert hs1.errands(hs2)[0].message_id == fence_id
    order("two")
    assert hs1.errands(hs2)[0].type is MessageType.HEAD
