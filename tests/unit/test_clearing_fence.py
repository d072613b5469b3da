"""The peer of a restored homeserver: it says what it holds of the old epochs, and takes nothing else of them, ever."""

from typing import Any

import pytest
from nodes import Node, acct_of, dump, exchange, forge, linked
from world import new_disk

from super_app.clearing import objects, rules
from super_app.clearing.model import EvidenceKind, Fence, LinkPhase, MessageType, Received, Sender
from super_app.errors import Reason, Refused

Pair = tuple[Node, Node]


@pytest.fixture
def pair() -> Pair:
    """Two linked homeservers; alice on the first has paid 5.00 of her 100.00 EUR to bob on the second."""
    hs1, hs2 = Node("hs1.test", new_disk()), Node("hs2.test", new_disk())
    for node in (hs1, hs2):
        node.create()
    linked(hs1, hs2)
    hs1.issue(hs1.user("alice"), 10_000)
    pay(hs1, hs2, 500)
    exchange(hs1, hs2)
    return hs1, hs2


def pay(hs1: Node, hs2: Node, amount_minor: int) -> None:
    assert not isinstance(hs1.pay(hs1.order(hs1.user("alice"), hs2.user("bob"), amount_minor)), Refused)


def refused(node: Node, origin: Node, body: object, reason: Reason) -> Refused:
    """Send, and expect a refusal that has written nothing."""
    before = dump(node)
    answer = node.receive(origin, body)
    assert isinstance(answer, Refused), answer
    assert answer.reason is reason, answer
    assert dump(node) == before
    return answer


def fence(sender: Node, receiver: Node, last: dict[str, Any] | None, epoch: int = 2, **changes: Any) -> dict[str, Any]:
    """The body of a FENCE after one object of the sender's chain; after none for None."""
    after = {"epoch": 1, "seq": 0, "hash": ""}
    if last is not None:
        after = {"epoch": last["epoch"], "seq": last["seq"], "hash": objects.message_id_of(last)}
    fields = {"epoch": epoch, "seq": 1, "prev_hash": "", "after": after, **changes}
    return {"object": forge(sender, receiver, MessageType.FENCE, **fields)}


def held(answer: Received | Refused) -> list[tuple[int, int, int]]:
    """The runs that an answer to FENCE lists, over all its pages."""
    assert isinstance(answer, Received), answer
    assert [each["type"] for each in answer.objects] == ["FENCED"] * len(answer.objects)
    assert [each["page"] for each in answer.objects] == list(range(1, len(answer.objects) + 1))
    assert {each["pages"] for each in answer.objects} == {len(answer.objects)}
    runs = [run for each in answer.objects for run in each["held"]]
    return [(run["epoch"], run["first"], run["last"]) for run in runs]


def test_what_is_held_beyond_after_is_listed_and_signed(pair: Pair) -> None:
    hs1, hs2 = pair
    chain = hs1.chain(hs2)
    answer = hs2.receive(hs1, fence(hs1, hs2, chain[0]))
    assert held(answer) == [(1, 2, len(chain))]
    assert isinstance(answer, Received)
    (page,) = answer.objects
    assert page["held"][0]["hash"] == objects.message_id_of(chain[-1])
    assert hs2.chain(hs1)[-1] == page


def test_a_server_that_has_lost_all_is_told_of_all(pair: Pair) -> None:
    hs1, hs2 = pair
    assert held(hs2.receive(hs1, fence(hs1, hs2, None))) == [(1, 1, len(hs1.chain(hs2)))]


def test_a_server_that_has_lost_nothing_gets_an_empty_list(pair: Pair) -> None:
    hs1, hs2 = pair
    assert held(hs2.receive(hs1, fence(hs1, hs2, hs1.chain(hs2)[-1]))) == []


def test_objects_above_a_gap_are_listed_apart(pair: Pair) -> None:
    hs1, hs2 = pair
    newest = hs1.chain(hs2)[-1]
    limit = {"currency": "EUR", "scale": 2, "limit": 7}
    beyond = forge(hs1, hs2, MessageType.LIMIT, seq=newest["seq"] + 2, prev_hash="x" * 43, **limit)
    assert isinstance(hs2.receive(hs1, {"object": beyond}), Received)
    answer = hs2.receive(hs1, fence(hs1, hs2, hs1.chain(hs2)[0]))
    assert held(answer) == [(1, 2, newest["seq"]), (1, newest["seq"] + 2, newest["seq"] + 2)]
    # The gap is of an epoch that is closed: nobody asks for it any more.
    due = hs2.tx(lambda cur: hs2.clearing.due(cur, hs1.name, hs2.now_ms + 60_000, limit=9)).errands
    assert {each.type for each in due} == {MessageType.FENCED, MessageType.RECEIPT}


def test_a_list_that_is_longer_than_one_object_comes_in_pages(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    hs1, hs2 = pair
    monkeypatch.setattr(objects, "MAX_RUNS", 2)
    newest = hs1.chain(hs2)[-1]
    for step in (2, 4, 6, 8):
        limit = {"currency": "EUR", "scale": 2, "limit": step}
        beyond = forge(hs1, hs2, MessageType.LIMIT, seq=newest["seq"] + step, prev_hash="x" * 43, **limit)
        assert isinstance(hs2.receive(hs1, {"object": beyond}), Received)
    answer = hs2.receive(hs1, fence(hs1, hs2, newest))
    assert isinstance(answer, Received)
    assert len(answer.objects) == 2
    assert held(answer) == [(1, newest["seq"] + step, newest["seq"] + step) for step in (2, 4, 6, 8)]


def test_the_longest_page_fits_an_object() -> None:
    most = 2**53 - 1
    run = {"epoch": most, "first": most, "last": most, "hash": "x" * 43}
    page = {"fence": "x" * 43, "page": most, "pages": most, "held": [run] * objects.MAX_RUNS}
    hs1, hs2 = Node("a" * 255, new_disk()), Node("b" * 255, new_disk())
    for node in (hs1, hs2):
        node.create()
    linked(hs1, hs2)
    seen = {"seq": most, "hash": "x" * 43, "signature": "x" * 86}
    longest = forge(hs1, hs2, MessageType.FENCED, epoch=most, seq=most, prev_hash="x" * 43, seen=seen, **page)
    assert not isinstance(objects.read_object(longest), Refused)


def test_the_same_fence_again_has_the_same_answer(pair: Pair) -> None:
    hs1, hs2 = pair
    body = fence(hs1, hs2, hs1.chain(hs2)[0])
    first, again = hs2.receive(hs1, body), hs2.receive(hs1, body)
    assert isinstance(first, Received)
    assert isinstance(again, Received)
    assert first.objects == again.objects
    assert len(first.objects) == 1


def test_an_object_that_was_not_listed_never_counts(pair: Pair) -> None:
    """The COMMIT that the restored server has forgotten was on its way when the epoch was closed."""
    hs1, hs2 = pair
    pay(hs1, hs2, 700)
    (offer,) = hs1.errands(hs2)
    accepted = hs2.receive(hs1, offer.body)
    assert isinstance(accepted, Received)
    hs1.delivered(offer, accepted.objects)
    commit = hs1.chain(hs2)[-1]
    assert commit["type"] == "COMMIT"
    before = hs2.available(hs2.user("bob"))
    answer = hs2.receive(hs1, fence(hs1, hs2, hs1.chain(hs2)[0]))
    assert held(answer) == [(1, 2, commit["seq"] - 1)]
    late = refused(hs2, hs1, {"object": commit}, Reason.EPOCH_CLOSED)
    assert late.fields == {"epoch": 2}
    assert hs2.available(hs2.user("bob")) == before
    assert hs2.link(hs1).phase is LinkPhase.OPEN


def test_what_the_restored_server_still_knows_may_come_late(pair: Pair) -> None:
    hs1, hs2 = pair
    pay(hs1, hs2, 700)
    (offer,) = hs1.errands(hs2)
    accepted = hs2.receive(hs1, offer.body)
    assert isinstance(accepted, Received)
    hs1.delivered(offer, accepted.objects)
    commit = hs1.chain(hs2)[-1]
    before = hs2.available(hs2.user("bob"))
    assert held(hs2.receive(hs1, fence(hs1, hs2, commit))) == []
    assert isinstance(hs2.receive(hs1, {"object": commit}), Received)
    assert hs2.available(hs2.user("bob")) == before + 700


def test_a_second_fence_after_an_older_object_lists_from_there(pair: Pair) -> None:
    hs1, hs2 = pair
    chain = hs1.chain(hs2)
    first = fence(hs1, hs2, chain[1])
    assert held(hs2.receive(hs1, first)) == [(1, 3, len(chain))]
    # Restored again, from a copy that knows nothing of epoch 2.
    assert held(hs2.receive(hs1, fence(hs1, hs2, chain[0], epoch=3))) == [(1, 2, len(chain)), (2, 1, 1)]


def test_a_fence_after_a_newer_object_than_an_earlier_one_lists_from_the_earlier(pair: Pair) -> None:
    """What the earlier FENCE made void is not back because another copy still has it."""
    hs1, hs2 = pair
    chain = hs1.chain(hs2)
    hs2.receive(hs1, fence(hs1, hs2, chain[0]))
    assert held(hs2.receive(hs1, fence(hs1, hs2, chain[-1], epoch=3))) == [(1, 2, len(chain)), (2, 1, 1)]


def test_what_one_of_several_fences_left_out_is_void() -> None:
    fences = [Fence(epoch=2, after_epoch=1, after_seq=7), Fence(epoch=3, after_epoch=1, after_seq=10)]
    assert rules.is_in_force(fences, 1, 7)
    assert not rules.is_in_force(fences, 1, 8)
    assert not rules.is_in_force(fences, 2, 1)
    assert rules.is_in_force(fences, 3, 99)
    assert rules.is_in_force([], 1, 99)
    assert rules.is_in_force([Fence(epoch=3, after_epoch=2, after_seq=4)], 1, 99)


def test_a_fence_that_is_too_late_is_refused(pair: Pair) -> None:
    hs1, hs2 = pair
    chain = hs1.chain(hs2)
    hs2.receive(hs1, fence(hs1, hs2, chain[0], epoch=3))
    for epoch in (2, 3):
        late = refused(hs2, hs1, fence(hs1, hs2, chain[1], epoch=epoch), Reason.EPOCH_CLOSED)
        assert late.fields == {"epoch": 3}
    assert hs2.link(hs1).evidence == {}


def test_a_fence_far_ahead_is_refused(pair: Pair) -> None:
    hs1, hs2 = pair
    refused(hs2, hs1, fence(hs1, hs2, None, epoch=2 + rules.MAX_EPOCHS_AHEAD), Reason.INVALID_VALUE)


def test_another_object_of_a_higher_epoch_is_refused(pair: Pair) -> None:
    hs1, hs2 = pair
    limit = {"currency": "EUR", "scale": 2, "limit": 7}
    refused(hs2, hs1, {"object": forge(hs1, hs2, MessageType.LIMIT, epoch=2, **limit)}, Reason.INVALID_VALUE)


def test_a_fence_after_an_object_that_the_peer_knows_otherwise_is_refused(pair: Pair) -> None:
    hs1, hs2 = pair
    named = {"epoch": 1, "seq": 2, "hash": "x" * 43}
    refused(hs2, hs1, fence(hs1, hs2, None, after=named), Reason.CONFLICT)


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": 1},
        {"seq": 2},
        {"prev_hash": "x" * 43},
        {"after": {"epoch": 2, "seq": 0, "hash": ""}},
        {"after": {"epoch": 1, "seq": 1, "hash": ""}},
        {"after": {"epoch": 1, "seq": 0, "hash": "x" * 43}},
        {"after": None},
    ],
)
def test_a_fence_of_the_wrong_form_is_refused(pair: Pair, changes: dict[str, Any]) -> None:
    hs1, hs2 = pair
    refused(hs2, hs1, fence(hs1, hs2, None, **changes), Reason.INVALID_VALUE)


@pytest.mark.parametrize(
    "changes",
    [
        {"page": 2},
        {"page": 0},
        {"held": [{"epoch": 1, "first": 2, "last": 1, "hash": "x" * 43}]},
        {"held": [{"epoch": 1, "first": 1, "last": 1, "hash": "x" * 43}] * (objects.MAX_RUNS + 1)},
    ],
)
def test_a_list_of_the_wrong_form_is_refused(pair: Pair, changes: dict[str, Any]) -> None:
    hs1, hs2 = pair
    fields = {"fence": "x" * 43, "page": 1, "pages": 1, "held": [], **changes}
    refused(hs2, hs1, {"object": forge(hs1, hs2, MessageType.FENCED, **fields)}, Reason.INVALID_VALUE)


def test_a_list_that_nobody_asked_for_is_refused(pair: Pair) -> None:
    hs1, hs2 = pair
    fields = {"fence": "x" * 43, "page": 1, "pages": 1, "held": []}
    refused(hs2, hs1, {"object": forge(hs1, hs2, MessageType.FENCED, **fields)}, Reason.CONFLICT)


def test_a_fence_is_taken_on_a_frozen_link_and_leaves_it_frozen(pair: Pair) -> None:
    hs1, hs2 = pair
    limit = {"currency": "EUR", "scale": 2, "limit": 7}
    newest = hs1.chain(hs2)[-1]
    twice = forge(hs1, hs2, MessageType.LIMIT, seq=newest["seq"], prev_hash=newest["prev_hash"], **limit)
    hs2.receive(hs1, {"object": twice})
    assert hs2.link(hs1).phase is LinkPhase.FROZEN
    assert held(hs2.receive(hs1, fence(hs1, hs2, hs1.chain(hs2)[0]))) == [(1, 2, newest["seq"])]
    assert hs2.link(hs1).phase is LinkPhase.FROZEN


def test_a_fence_waits_until_the_peer_may_sign(pair: Pair) -> None:
    hs1, hs2 = pair
    hs2.start("2")
    answer = refused(hs2, hs1, fence(hs1, hs2, None), Reason.LINK_HALTED)
    assert "retry_after_ms" in answer.fields


def test_the_chain_goes_on_in_the_new_epoch(pair: Pair) -> None:
    hs1, hs2 = pair
    opened = fence(hs1, hs2, hs1.chain(hs2)[-1])
    hs2.receive(hs1, opened)
    limit = {"currency": "EUR", "scale": 2, "limit": 7}
    after = {"epoch": 2, "seq": 2, "prev_hash": objects.message_id_of(opened["object"])}
    assert isinstance(hs2.receive(hs1, {"object": forge(hs1, hs2, MessageType.LIMIT, **after, **limit)}), Received)
    assert [each.received.limit_minor for each in hs2.link(hs1).exposures if each.received is not None] == [7]
    # And equivocation in it is what it always was.
    hs2.receive(hs1, {"object": forge(hs1, hs2, MessageType.LIMIT, **after, **{**limit, "limit": 8})})
    assert hs2.link(hs1).evidence == {EvidenceKind.EQUIVOCATION: 1}


def test_openings_are_given_to_the_other_party_of_the_payment(pair: Pair) -> None:
    hs1, hs2 = pair
    wire_id = next(each["wire_id"] for each in hs1.chain(hs2) if each["type"] == "OFFER")
    for asker, asked in ((hs1, hs2), (hs2, hs1)):
        link_id = objects.link_id_of(hs1.name, hs2.name)
        query = objects.query_fields(MessageType.OPENINGS, link_id, asker.name, asked.name)
        answer = asked.receive(asker, {"object": {**query, "wire_ids": [wire_id, "x" * 43]}})
        assert isinstance(answer, Received)
        assert [each["payer"]["acct"] for each in answer.openings] == [acct_of(hs1.user("alice"))]
        assert answer.objects == ()
    assert hs1.chain(hs2, Sender.THEIRS) == hs2.chain(hs1)
