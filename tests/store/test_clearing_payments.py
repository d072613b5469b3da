"""Payments between two homeservers, link by link and step by step, on SQLite and on PostgreSQL."""

from collections.abc import Callable
from typing import Any

import pytest
from engines import Database
from nodes import EUR, PACKAGES, PTS, Node, acct_of, advance, deliver, exchange, forge, grant_of, linked

from super_app.clearing import objects, rules, store
from super_app.clearing.model import (
    InState,
    LinkPhase,
    LinkTerms,
    MessageType,
    OutState,
    Received,
    Sender,
    Trouble,
)
from super_app.clearing.ports import Ask, WireId
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct
from super_app.ledger import operators
from super_app.signing import canonical

Pair = tuple[Node, Node]
Made = Callable[[str], Node]


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
    """Two linked homeservers; alice on the first has 100.00 EUR."""
    hs1, hs2 = make("hs1.test"), make("hs2.test")
    linked(hs1, hs2)
    hs1.issue(hs1.user("alice"), 10_000)
    return hs1, hs2


def pay(hs1: Node, hs2: Node, amount_minor: int = 500, **more: Any) -> tuple[Any, WireId]:
    order = hs1.order(hs1.user("alice"), hs2.user("bob"), amount_minor, **more)
    wire_id = hs1.pay(order)
    assert not isinstance(wire_id, Refused), wire_id
    return order, wire_id


def types(node: Node, peer: Node, sender: Sender = Sender.OURS) -> list[str]:
    return [each["type"] for each in node.chain(peer, sender)]


def told(node: Node, side: str, payment: str) -> tuple[str, str] | None:
    return node.tx(lambda cur: node.till.state(cur, side, payment))


def sound(*nodes: Node) -> None:
    for node in nodes:
        assert node.violations() == []


# A link.


def test_a_link_opens_when_both_operators_have_opened_it(make: Made) -> None:
    hs1, hs2 = make("hs1.test"), make("hs2.test")
    hs1.open_link(hs2, 700)
    exchange(hs1, hs2)
    assert hs1.link(hs2).phase is LinkPhase.WAITING_FOR_PEER
    assert hs2.link(hs1).phase is LinkPhase.WAITING_FOR_US
    assert hs2.link(hs1).exposures[0].received == grant_of(700)
    hs2.open_link(hs1, 900)
    exchange(hs1, hs2)
    assert [node.link(peer).phase for node, peer in ((hs1, hs2), (hs2, hs1))] == [LinkPhase.OPEN, LinkPhase.OPEN]
    ours, theirs = hs1.link(hs2).exposures[0], hs2.link(hs1).exposures[0]
    assert (ours.granted, ours.received) == (grant_of(700), grant_of(900))
    assert (theirs.granted, theirs.received) == (grant_of(900), grant_of(700))
    assert ours.usable


def test_opening_again_changes_nothing_and_another_limit_is_a_limit_object(pair: Pair) -> None:
    hs1, hs2 = pair
    hs1.open_link(hs2)
    exchange(hs1, hs2)
    assert types(hs1, hs2) == ["LINK_OPEN"]
    more = LinkTerms(peer=hs2.name, grants=(grant_of(5), grant_of(9, PTS, max_count=2)))
    hs1.tx(lambda cur: hs1.clearing.open_link(cur, more, hs1.now_ms))
    exchange(hs1, hs2)
    assert types(hs1, hs2) == ["LINK_OPEN", "LIMIT", "LIMIT"]
    assert {each.currency: each.received for each in hs2.link(hs1).exposures} == {
        EUR.code: grant_of(5),
        PTS.code: grant_of(9, PTS, max_count=2),
    }
    # Only one side carries points so far.
    assert [each.usable for each in hs2.link(hs1).exposures] == [True, True]


def test_an_older_limit_does_not_replace_a_newer_one(pair: Pair) -> None:
    hs1, hs2 = pair
    for limit_minor in (5, 7):
        hs1.open_link(hs2, limit_minor)
    older, newer = hs1.errands(hs2)
    deliver(hs1, hs2, newer)
    deliver(hs1, hs2, older)
    assert hs2.link(hs1).exposures[0].received == grant_of(7)


# A payment.


def test_a_payment_is_credited_once_and_both_books_mirror_each_other(pair: Pair) -> None:
    hs1, hs2 = pair
    order, wire_id = pay(hs1, hs2, 500, memo="lunch")
    assert (hs1.available(hs1.user("alice")), hs1.held(hs1.user("alice"))) == (9_500, 500)
    exchange(hs1, hs2)
    assert types(hs1, hs2) == ["LINK_OPEN", "OFFER", "COMMIT"]
    assert types(hs2, hs1) == ["LINK_OPEN", "ACCEPT", "RECEIPT"]
    assert (hs1.held(hs1.user("alice")), hs1.due_to(hs2)) == (0, 500)
    assert (hs2.available(hs2.user("bob")), hs2.due_from(hs1)) == (500, 500)
    assert told(hs1, "out", order.payment_id) == ("completed", "")
    assert told(hs2, "in", wire_id) == ("credited", "")
    sound(hs1, hs2)


def test_the_payee_is_not_credited_before_the_commit(pair: Pair) -> None:
    hs1, hs2 = pair
    pay(hs1, hs2)
    (offer,) = hs1.errands(hs2)
    answer = hs2.receive(hs1, offer.body)
    assert isinstance(answer, Received)
    assert [each["type"] for each in answer.objects] == ["ACCEPT"]
    assert (hs2.available(hs2.user("bob")), hs2.due_from(hs1)) == (0, 0)
    assert hs2.link(hs1).exposures[0].reserved_minor == 500


def test_nothing_depends_on_the_answers_of_requests(pair: Pair) -> None:
    hs1, hs2 = pair
    pay(hs1, hs2)
    for _ in range(4):
        for node, peer in ((hs1, hs2), (hs2, hs1)):
            for errand in node.errands(peer):
                peer.receive(node, errand.body)
                # The answer is lost on its way.
                node.failed(errand, Trouble.UNREACHABLE)
        advance(rules.RETRY_MS[0], hs1, hs2)
    # Each side's own outbox has brought what the answers would have.
    assert types(hs2, hs1) == ["LINK_OPEN", "ACCEPT", "RECEIPT"]
    assert hs2.available(hs2.user("bob")) == 500
    exchange(hs1, hs2)
    assert (hs1.link(hs2).unsent, hs2.link(hs1).unsent) == (0, 0)
    sound(hs1, hs2)


def test_a_direct_answer_is_sent_again_after_two_seconds_unless_it_was_seen(pair: Pair) -> None:
    hs1, hs2 = pair
    pay(hs1, hs2)
    exchange(hs1, hs2)
    # ACCEPT was seen by the COMMIT; RECEIPT was not yet.
    assert hs2.link(hs1).unsent == 1
    assert hs2.errands(hs1) == ()
    advance(rules.DIRECT_ANSWER_MS, hs1, hs2)
    assert [each.type for each in hs2.errands(hs1)] == [MessageType.RECEIPT]
    pay(hs1, hs2)
    exchange(hs1, hs2)
    # The next OFFER had seen it, so that only the newest RECEIPT is left, and that was just answered.
    assert [each["seq"] for each in hs2.chain(hs1)] == [1, 2, 3, 4, 5]
    assert hs2.link(hs1).unsent == 1


def test_a_payment_in_each_direction_nets_what_is_receipted(pair: Pair) -> None:
    hs1, hs2 = pair
    hs2.open_link(hs1, 500)
    exchange(hs1, hs2)
    pay(hs1, hs2, 500)
    exchange(hs1, hs2)
    used = [hs2.link(hs1).exposures[0].used_minor]
    order, _ = pay(hs1, hs2, 1)
    exchange(hs1, hs2)
    assert told(hs1, "out", order.payment_id) == ("failed", "credit_limit")
    back = hs2.order(hs2.user("bob"), hs1.user("alice"), 200)
    hs2.pay(back)
    (offer,) = hs2.errands(hs1)
    deliver(hs2, hs1, offer)
    # Committed, but the RECEIPT is still to come: that frees nothing.
    used.append(hs2.link(hs1).exposures[0].used_minor)
    exchange(hs1, hs2)
    used.append(hs2.link(hs1).exposures[0].used_minor)
    assert used == [500, 500, 300]
    pay(hs1, hs2, 200)
    exchange(hs1, hs2)
    assert hs2.link(hs1).exposures[0].used_minor == 500
    sound(hs1, hs2)


# Asking.


def asking(hs2: Node, until_ms: int = 3_600_000) -> None:
    hs2.till.answers[hs2.user("bob")] = Ask(acct=acct_of(hs2.user("bob")), until_ms=until_ms)


def test_a_payee_who_is_asked_may_accept_for_an_hour(pair: Pair) -> None:
    hs1, hs2 = pair
    asking(hs2)
    order, wire_id = pay(hs1, hs2)
    exchange(hs1, hs2)
    assert told(hs1, "out", order.payment_id) == ("asked", "")
    advance(3_599_999, hs1, hs2)
    assert hs1.tick() is not None
    hs2.tick()

    def accept(cur: Cursor) -> None:
        assert hs2.clearing.accept(cur, hs1.name, wire_id, hs2.now_ms) is None
        hs2.till.answered(cur, wire_id, "accepted")

    hs2.tx(accept)
    exchange(hs1, hs2)
    assert told(hs1, "out", order.payment_id) == ("completed", "")
    assert types(hs2, hs1) == ["LINK_OPEN", "PENDING", "ACCEPT", "RECEIPT"]
    sound(hs1, hs2)


def test_a_payee_who_declines_gives_the_money_back(pair: Pair) -> None:
    hs1, hs2 = pair
    asking(hs2)
    order, wire_id = pay(hs1, hs2)
    exchange(hs1, hs2)
    assert hs2.tx(lambda cur: hs2.clearing.refuse(cur, hs1.name, wire_id, Reason.DECLINED, hs2.now_ms)) is None
    exchange(hs1, hs2)
    assert told(hs1, "out", order.payment_id) == ("failed", "declined")
    assert hs1.available(hs1.user("alice")) == 10_000
    assert types(hs1, hs2)[-1] == "ABORT"
    sound(hs1, hs2)


@pytest.mark.parametrize("first", [0, 1])
def test_a_payee_who_does_not_answer_lets_the_payment_expire(pair: Pair, first: int) -> None:
    hs1, hs2 = pair
    asking(hs2, 60_000)
    order, wire_id = pay(hs1, hs2)
    exchange(hs1, hs2)
    advance(60_000, hs1, hs2)
    for node in (pair[first], pair[1 - first]):
        node.tick()
        exchange(hs1, hs2)
    assert told(hs1, "out", order.payment_id) == ("failed", "expired")
    assert told(hs2, "in", wire_id) == ("ended", "expired")
    assert hs1.available(hs1.user("alice")) == 10_000
    sound(hs1, hs2)


# Time.


def test_an_offer_that_nobody_answers_expires_on_the_payers_clock(pair: Pair) -> None:
    hs1, hs2 = pair
    order, wire_id = pay(hs1, hs2)
    assert hs1.tick() == hs1.now_ms + rules.OFFER_TTL_MS
    advance(rules.OFFER_TTL_MS - 1, hs1)
    hs1.tick()
    assert hs1.held(hs1.user("alice")) == 500
    advance(1, hs1)
    hs1.tick()
    assert told(hs1, "out", order.payment_id) == ("failed", "expired")
    assert hs1.available(hs1.user("alice")) == 10_000
    # The ABORT goes first, so that the OFFER reserves nothing.
    assert [each.type for each in hs1.errands(hs2)] == [MessageType.ABORT]
    exchange(hs1, hs2)
    assert types(hs1, hs2, Sender.OURS) == ["LINK_OPEN", "OFFER", "ABORT"]
    assert hs2.tx(lambda cur: hs2.clearing.incoming(cur, hs1.name, wire_id)) is InState.VOID
    assert (hs1.link(hs2).unsent, hs2.link(hs1).tombstones) == (0, 0)
    sound(hs1, hs2)


def test_an_accept_that_comes_too_late_is_answered_with_the_abort(pair: Pair) -> None:
    hs1, hs2 = pair
    order, wire_id = pay(hs1, hs2)
    (offer,) = hs1.errands(hs2)
    hs2.receive(hs1, offer.body)
    advance(rules.OFFER_TTL_MS, hs1, hs2)
    # The clock of the payer's server is past the ttl, though its timer has not fired.
    exchange(hs1, hs2)
    assert told(hs1, "out", order.payment_id) == ("failed", "expired")
    assert told(hs2, "in", wire_id) == ("ended", "expired")
    assert hs2.link(hs1).exposures[0].reserved_minor == 0
    sound(hs1, hs2)


def lapse(hs1: Node, hs2: Node) -> WireId:
    """A payment whose COMMIT is on its way when its reservation lapses."""
    _, wire_id = pay(hs1, hs2)
    (offer,) = hs1.errands(hs2)
    deliver(hs1, hs2, offer)
    assert hs1.due_to(hs2) == 500
    advance(rules.ACCEPT_VALID_MS - 1, hs1, hs2)
    hs2.tick()
    assert hs2.link(hs1).exposures[0].reserved_minor == 500
    advance(1, hs1, hs2)
    hs2.tick()
    assert hs2.link(hs1).exposures[0].reserved_minor == 0
    assert hs2.tx(lambda cur: hs2.clearing.incoming(cur, hs1.name, wire_id)) is InState.LAPSED
    return wire_id


def test_a_commit_after_the_lapse_is_credited_if_the_limit_allows(pair: Pair) -> None:
    hs1, hs2 = pair
    wire_id = lapse(hs1, hs2)
    exchange(hs1, hs2)
    assert told(hs2, "in", wire_id) == ("credited", "")
    assert (hs1.due_to(hs2), hs2.due_from(hs1)) == (500, 500)
    sound(hs1, hs2)


def test_a_commit_after_the_lapse_is_void_if_the_limit_does_not_allow_it(pair: Pair) -> None:
    hs1, hs2 = pair
    wire_id = lapse(hs1, hs2)
    hs2.open_link(hs1, 499)
    exchange(hs1, hs2)
    assert told(hs2, "in", wire_id) == ("ended", "expired")
    assert types(hs2, hs1)[-1] == "RECEIPT"
    assert (hs1.available(hs1.user("alice")), hs1.due_to(hs2), hs2.due_from(hs1)) == (10_000, 0, 0)
    sound(hs1, hs2)


# Loss, doubling, gaps.


def test_what_arrives_twice_counts_once(pair: Pair) -> None:
    hs1, hs2 = pair
    pay(hs1, hs2)
    for _ in range(3):
        for node, peer in ((hs1, hs2), (hs2, hs1)):
            for errand in node.errands(peer):
                for _ in range(3):
                    deliver(node, peer, errand)
    assert (hs2.available(hs2.user("bob")), hs1.due_to(hs2), hs2.due_from(hs1)) == (500, 500, 500)
    assert types(hs2, hs1) == ["LINK_OPEN", "ACCEPT", "RECEIPT"]


def test_objects_are_taken_across_a_gap_and_the_gap_is_asked_for(pair: Pair) -> None:
    hs1, hs2 = pair
    hs1.open_link(hs2, 5)
    hs1.open_link(hs2, 6)
    lost, newer = hs1.errands(hs2)
    deliver(hs1, hs2, newer)
    hs1.delivered(lost, ())
    assert hs2.link(hs1).their_seq == 1
    assert hs2.errands(hs1) == ()
    advance(rules.GAP_PATIENCE_MS, hs2)
    (ask,) = hs2.errands(hs1)
    assert ask.type is MessageType.RANGE
    answer = hs1.receive(hs2, ask.body)
    assert isinstance(answer, Received)
    assert answer.objects == (lost.body["object"],)
    hs2.delivered(ask, answer.objects)
    assert hs2.link(hs1).their_seq == 3
    assert hs2.errands(hs1) == ()


def test_a_gap_that_the_peer_does_not_fill_is_asked_for_ever_more_rarely(pair: Pair) -> None:
    hs1, hs2 = pair
    for limit_minor in (5, 6):
        hs1.open_link(hs2, limit_minor)
    deliver(hs1, hs2, hs1.errands(hs2)[1])
    advance(rules.GAP_PATIENCE_MS, hs2)
    for pause_ms in rules.RETRY_MS:
        (ask,) = hs2.errands(hs1)
        hs2.delivered(ask, ())
        agenda = hs2.tx(lambda cur: hs2.clearing.due(cur, hs1.name, hs2.now_ms, limit=10))
        assert agenda.errands == ()
        assert agenda.wake_ms == hs2.now_ms + pause_ms
        advance(pause_ms, hs2)


def test_status_and_range_are_answered_with_stored_objects_byte_for_byte(pair: Pair) -> None:
    hs1, hs2 = pair
    _, wire_id = pay(hs1, hs2)
    exchange(hs1, hs2)
    link_id = objects.link_id_of(hs1.name, hs2.name)
    query = objects.query_fields(MessageType.STATUS, link_id, hs1.name, hs2.name)
    answer = hs2.receive(hs1, {"object": {**query, "wire_id": wire_id}})
    assert isinstance(answer, Received)
    assert [each["type"] for each in answer.objects] == ["ACCEPT", "RECEIPT", "OFFER", "COMMIT"]
    stored = hs2.tx(lambda cur: [each.body for each in store.objects_of(cur, link_id, wire_id)])
    assert [canonical(each).decode() for each in answer.objects] == stored
    query = objects.query_fields(MessageType.RANGE, link_id, hs1.name, hs2.name)
    for of, expected in ((hs1, hs1.chain(hs2)[1:]), (hs2, hs2.chain(hs1)[1:])):
        span = {"of": of.name, "epoch": 1, "from_seq": 2, "to_seq": 9}
        answer = hs2.receive(hs1, {"object": {**query, **span}})
        assert isinstance(answer, Received)
        assert list(answer.objects) == expected
    answer = hs2.receive(hs1, {"object": {**query, "of": "hs3.test", "epoch": 1, "from_seq": 1, "to_seq": 9}})
    assert answer == Received()


# Retry.


def test_a_peer_that_is_away_is_tried_by_the_ladder_and_at_once_when_it_is_back(pair: Pair) -> None:
    hs1, hs2 = pair
    pay(hs1, hs2)
    for pause_ms in (15_000, 15_000):
        (offer,) = hs1.errands(hs2)
        hs1.failed(offer, Trouble.UNREACHABLE)
        # What was under way at the same time fails with it, and is no further step of the ladder.
        hs1.failed(offer, Trouble.UNREACHABLE)
        agenda = hs1.tx(lambda cur: hs1.clearing.due(cur, hs2.name, hs1.now_ms, limit=10))
        assert agenda.errands == ()
        assert agenda.wake_ms == hs1.now_ms + pause_ms
        advance(pause_ms, hs1)
    hs1.failed(hs1.errands(hs2)[0], Trouble.UNREACHABLE)
    assert hs1.errands(hs2) == ()
    hs2.start("after a crash")
    (head,) = hs2.errands(hs1)
    answer = hs1.receive(hs2, head.body)
    assert isinstance(answer, Received)
    assert answer.moved
    assert [each.type for each in hs1.errands(hs2)] == [MessageType.OFFER]


def test_a_clock_that_goes_back_a_day_does_not_make_a_peer_wait_a_day(pair: Pair) -> None:
    hs1, hs2 = pair
    hs1.open_link(hs2, 5)
    (limit,) = hs1.errands(hs2)
    hs1.failed(limit, Trouble.REFUSED, Reason.NO_LINK)
    assert hs1.errands(hs2) == ()
    advance(-86_400_000, hs1)
    assert hs1.errands(hs2) == (limit,)
    hs1.failed(limit, Trouble.UNREACHABLE)
    assert hs1.errands(hs2) == ()
    advance(-86_400_000, hs1)
    assert hs1.errands(hs2) == (limit,)


def test_an_object_that_is_refused_waits_alone(pair: Pair) -> None:
    hs1, hs2 = pair
    hs1.open_link(hs2, 5)
    hs1.open_link(hs2, 6)
    first, second = hs1.errands(hs2)
    hs1.failed(first, Trouble.REFUSED, Reason.CONFLICT)
    assert [each.seq for each in hs1.errands(hs2)] == [second.seq]
    advance(rules.RETRY_MS[0], hs1)
    assert [each.seq for each in hs1.errands(hs2)] == [first.seq, second.seq]


def test_a_commit_is_said_again_until_its_receipt(pair: Pair) -> None:
    hs1, hs2 = pair
    pay(hs1, hs2)
    deliver(hs1, hs2, hs1.errands(hs2)[0])
    for pause_ms in rules.RETRY_MS:
        (commit,) = hs1.errands(hs2)
        assert commit.type is MessageType.COMMIT
        # It is there, but no RECEIPT comes.
        hs1.delivered(commit, ())
        assert hs1.errands(hs2) == ()
        advance(pause_ms, hs1)
    exchange(hs1, hs2)
    assert hs1.link(hs2).unsent == 0


# Restart, and old databases.


def test_after_a_restart_nothing_is_signed_before_the_peer_has_said_what_it_holds(pair: Pair) -> None:
    hs1, hs2 = pair
    placed, _ = pay(hs1, hs2)
    hs1.start("another run")
    assert hs1.link(hs2).phase is LinkPhase.CHECKING
    advance(rules.OFFER_TTL_MS, hs1)
    assert hs1.tick() is None
    order = hs1.order(hs1.user("alice"), hs2.user("bob"), 1)
    no = hs1.tx(lambda cur: hs1.clearing.can_pay(cur, hs2.name, order.money))
    assert no is not None
    assert no.reason is Reason.LINK_HALTED
    acct = Acct(placed.payer.acct)
    cancelled = hs1.tx(lambda cur: hs1.clearing.cancel(cur, acct, placed.payment_id, Reason.CANCELLED, hs1.now_ms))
    assert cancelled is not None
    assert cancelled.reason is Reason.LINK_HALTED
    (head,) = hs1.errands(hs2)
    assert head.type is MessageType.HEAD
    assert "signature" not in head.body["object"]
    exchange(hs1, hs2)
    assert hs1.link(hs2).phase is LinkPhase.OPEN
    hs1.tick()
    assert types(hs1, hs2)[-1] == "ABORT"


def test_what_was_under_way_goes_on_after_both_have_crashed(pair: Pair) -> None:
    hs1, hs2 = pair
    for stop in range(6):
        order, _ = pay(hs1, hs2)
        for _ in range(stop):
            busy = [(node, peer, e) for node, peer in ((hs1, hs2), (hs2, hs1)) for e in node.errands(peer)]
            if busy:
                node, peer, errand = busy[0]
                peer.receive(node, errand.body)
        for node in (hs1, hs2):
            node.start(f"run {stop}")
            node.tx(lambda cur, node=node: node.clearing.started(cur, node.now_ms))  # type: ignore[misc]
        advance(rules.DIRECT_ANSWER_MS, hs1, hs2)
        exchange(hs1, hs2)
        assert told(hs1, "out", order.payment_id) == ("completed", "")
    assert hs2.available(hs2.user("bob")) == 3_000
    sound(hs1, hs2)


def test_an_old_database_halts_when_its_peer_holds_more_of_it(make: Made) -> None:
    """The peer's answer to HEAD? proves with our own signature that we have signed more than we know."""
    hs1, hs2, old = make("hs1.test"), make("hs2.test"), make("hs1.test")
    linked(hs1, hs2)
    hs1.issue(hs1.user("alice"), 10_000)
    pay(hs1, hs2)
    exchange(hs1, hs2)
    old.open_link(hs2)
    (head,) = old.errands(hs2)
    answer = hs2.receive(old, head.body)
    assert isinstance(answer, Received)
    heard = old.delivered(head, answer.objects)
    assert len(heard.alarms) == 1
    assert old.link(hs2).phase is LinkPhase.HALTED
    assert old.chain(hs2) == []
    assert old.errands(hs2) == ()
    assert dict(old.link(hs2).evidence) == {heard.alarms[0].kind: 1}


def test_a_commit_that_we_do_not_know_makes_us_ask_and_is_void_if_we_are_not_old(pair: Pair) -> None:
    hs1, hs2 = pair
    order = hs1.order(hs1.user("alice"), hs2.user("bob"), 500)
    terms = objects.terms_fields(objects.terms_of(order, EUR.scale))
    commit = forge(hs1, hs2, MessageType.COMMIT, **terms)
    answer = hs2.receive(hs1, {"object": commit})
    assert answer == Received(moved=True)
    assert hs2.link(hs1).phase is LinkPhase.CHECKING
    (head,) = hs2.errands(hs1)
    assert head.type is MessageType.HEAD
    heard = hs1.receive(hs2, head.body)
    assert isinstance(heard, Received)
    hs2.delivered(head, heard.objects)
    assert hs2.link(hs1).phase is LinkPhase.OPEN
    receipt = hs2.chain(hs1)[-1]
    assert (receipt["type"], receipt["reason"]) == ("RECEIPT", "void")
    assert (hs2.available(hs2.user("bob")), hs2.due_from(hs1)) == (0, 0)
    sound(hs2)


def test_another_payment_key_signs_nothing_on_a_link(pair: Pair) -> None:
    hs1, hs2 = pair
    lost = Node(hs1.name, hs1.tx, seed=9)
    lost.now_ms = hs1.now_ms
    no = lost.tx(lambda cur: lost.clearing.can_pay(cur, hs2.name, lost.order("@a:x", "@b:y", 1).money))
    assert no is not None
    assert no.reason is Reason.LINK_HALTED
    assert "Put its file back" in no.message
    assert lost.link(hs2).phase is LinkPhase.HALTED


# What is kept.


def test_names_and_memos_are_erased_when_their_time_is_over_and_the_chain_stays(pair: Pair) -> None:
    hs1, hs2 = pair
    pay(hs1, hs2, memo="secret")
    open_order, _ = pay(hs1, hs2, memo="still open")
    first, _ = hs1.errands(hs2)
    deliver(hs1, hs2, first)
    deliver(hs1, hs2, hs1.errands(hs2)[-1])
    advance(1, hs1, hs2)
    for node in (hs1, hs2):
        assert node.tx(lambda cur, node=node: node.clearing.erase(cur, node.now_ms)) == 1  # type: ignore[misc]
    assert all("secret" not in canonical(each).decode() for each in hs1.chain(hs2))
    # What has not ended still has its opening, and ends as it should.
    exchange(hs1, hs2)
    assert told(hs1, "out", open_order.payment_id) == ("completed", "")
    sound(hs1, hs2)


def test_the_memo_of_a_payment_that_lapsed_and_that_nobody_decides_is_erased_too(pair: Pair) -> None:
    hs1, hs2 = pair
    pay(hs1, hs2, memo="secret")
    (offer,) = hs1.errands(hs2)
    answer = hs2.receive(hs1, offer.body)
    assert isinstance(answer, Received)
    assert hs2.tx(lambda cur: hs2.clearing.erase(cur, hs2.now_ms + 1)) == 0
    advance(rules.ACCEPT_VALID_MS, hs2)
    hs2.tick()
    assert hs2.tx(lambda cur: hs2.clearing.erase(cur, hs2.now_ms)) == 1
    # And a COMMIT that comes after all is credited.
    hs1.delivered(offer, answer.objects)
    exchange(hs1, hs2)
    assert hs2.available(hs2.user("bob")) == 500
    sound(hs1, hs2)


def test_where_payments_stand(pair: Pair) -> None:
    hs1, hs2 = pair
    order, wire_id = pay(hs1, hs2)
    acct = Acct(order.payer.acct)

    def out(cur: Cursor) -> OutState | None:
        return hs1.clearing.outgoing(cur, acct, order.payment_id)

    assert hs1.tx(out) is OutState.OFFERED
    assert hs2.tx(lambda cur: hs2.clearing.incoming(cur, hs1.name, wire_id)) is None
    exchange(hs1, hs2)
    assert hs1.tx(out) is OutState.COMPLETED
    assert hs2.tx(lambda cur: hs2.clearing.incoming(cur, hs1.name, wire_id)) is InState.CREDITED


@pytest.mark.parametrize(
    ("statement", "invariant"),
    [
        ("UPDATE superapp_clearing_currency SET reserved_minor = 7, in_flight_minor = 7", "I3"),
        ("UPDATE superapp_clearing_currency SET unreceipted_minor = 7", "I3"),
        ("DELETE FROM superapp_clearing_object WHERE type = 'COMMIT'", "I4"),
        ("DELETE FROM superapp_clearing_object WHERE type = 'ACCEPT'", "I4"),
    ],
)
def test_books_that_were_tampered_with_are_found(pair: Pair, statement: Any, invariant: str) -> None:
    hs1, hs2 = pair
    pay(hs1, hs2)
    exchange(hs1, hs2)
    for node in (hs1, hs2):
        node.tx(lambda cur: cur.execute(statement))
        found = node.tx(node.clearing.violations)
        assert {each.invariant for each in found} == {invariant}


# Accounts that an operator has frozen.


def freeze(node: Node, localpart: str) -> None:
    acct = acct_of(node.user(localpart))
    node.tx(lambda cur: operators.freeze(cur, acct, reason="r", operator="@admin", now_ms=node.now_ms))


def test_a_payer_who_was_frozen_since_the_offer_is_aborted_and_gets_the_money_back(pair: Pair) -> None:
    hs1, hs2 = pair
    order, wire_id = pay(hs1, hs2)
    freeze(hs1, "alice")
    exchange(hs1, hs2)
    assert types(hs1, hs2)[-1] == "ABORT"
    assert told(hs1, "out", order.payment_id) == ("failed", "account_frozen")
    assert told(hs2, "in", wire_id) == ("ended", "account_frozen")
    assert (hs1.available(hs1.user("alice")), hs1.held(hs1.user("alice"))) == (10_000, 0)
    sound(hs1, hs2)


def test_a_commit_for_a_payee_who_was_frozen_since_is_void_and_the_payer_gets_the_money_back(pair: Pair) -> None:
    hs1, hs2 = pair
    order, wire_id = pay(hs1, hs2)
    (offer,) = hs1.errands(hs2)
    deliver(hs1, hs2, offer)
    freeze(hs2, "bob")
    exchange(hs1, hs2)
    assert types(hs1, hs2)[-1] == "COMMIT"
    assert told(hs2, "in", wire_id) == ("ended", "account_frozen")
    assert told(hs1, "out", order.payment_id)[0] == "failed"  # type: ignore[index]
    assert hs1.available(hs1.user("alice")) == 10_000
    assert (hs1.due_to(hs2), hs2.due_from(hs1)) == (0, 0)
    sound(hs1, hs2)


def test_a_payer_who_is_frozen_after_the_commit_changes_nothing_any_more(pair: Pair) -> None:
    hs1, hs2 = pair
    order, _ = pay(hs1, hs2)
    (offer,) = hs1.errands(hs2)
    deliver(hs1, hs2, offer)
    freeze(hs1, "alice")
    exchange(hs1, hs2)
    assert told(hs1, "out", order.payment_id) == ("completed", "")
    sound(hs1, hs2)
