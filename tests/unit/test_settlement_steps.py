"""What may be said of a settlement, by whom and when; what is refused, and what freezes a link. SQLite in memory."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest
from nodes import Node, advance, deliver, exchange, linked
from settling import (
    act,
    books_of,
    choose,
    copies,
    do,
    forged,
    freeze,
    issued,
    moving,
    next_ms,
    pay,
    proposals,
    propose,
    said,
    sound,
    states,
    terms_of,
    types,
    under_way,
    used,
)
from world import new_disk

from super_app.clearing import objects, settlement_rules, settlement_store, store
from super_app.clearing.model import (
    EvidenceKind,
    LinkPhase,
    MessageType,
    Received,
    SettlementId,
    SettlementTerms,
)
from super_app.clearing.settlement_model import AutoSettle, Every, Settlement
from super_app.clearing.settlements import reference_of
from super_app.db import Cursor
from super_app.errors import Reason, Refused

Pair = tuple[Node, Node]
Made = Callable[[str], Node]
DAY_MS: Final = 86_400_000
LIMIT_MINOR: Final = 10_000


@pytest.fixture
def make() -> Made:
    """Homeservers by name."""

    def make_one(name: str) -> Node:
        node = Node(name, new_disk())
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


# From a debt to its end.


def test_more_than_was_agreed_cannot_be_confirmed(pair: Pair) -> None:
    hs1, hs2 = pair
    known = under_way(hs1, hs2, 5_000)
    for wrong in (5_001, 0, -1):
        refused = act(hs2, hs1, "received", known, wrong)
        assert isinstance(refused, Refused)
        assert refused.reason is Reason.INVALID_AMOUNT
        assert "50.00 EUR" in refused.message
    assert states(hs1, hs2, known) == ("sent", "sent")


# What may be settled.


def test_nothing_owed_is_nothing_to_settle(pair: Pair) -> None:
    hs1, hs2 = pair
    refused = propose(hs2, hs1)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.EXCEEDS_DEBT
    assert "0.00 EUR" in refused.message


def test_what_is_proposed_is_what_is_owed_net(pair: Pair) -> None:
    hs1, hs2 = pair
    pay(hs2, hs1, 2_500, ("bob", "alice"))
    ours, theirs = hs1.link(hs2).exposures[0], hs2.link(hs1).exposures[0]
    assert (ours.due_to_minor, ours.due_from_minor, ours.settleable_minor, ours.net_minor) == (
        6_000,
        2_500,
        6_000,
        3_500,
    )
    assert (theirs.settleable_minor, theirs.net_minor) == (2_500, 0)
    known = under_way(hs1, hs2)
    assert known.terms.amount_minor == 3_500
    do(hs2, hs1, "received", known)
    # Both owe the other the same, which cancels out: nobody uses any credit, and nothing is left to settle.
    assert (hs1.due_to(hs2), hs1.due_from(hs2)) == (2_500, 2_500)
    assert (used(hs1, hs2), used(hs2, hs1)) == (0, 0)
    for node, peer in ((hs1, hs2), (hs2, hs1)):
        assert node.link(peer).exposures[0].net_minor == 0
        assert isinstance(propose(node, peer), Refused)
    sound(hs1, hs2)


def test_a_currency_in_which_the_peer_grants_nothing_is_not_settled(pair: Pair) -> None:
    hs1, hs2 = pair
    refused = hs1.tx(
        lambda cur: hs1.clearing.settlements.propose(cur, hs2.name, "PTS", None, hs1.now_ms)  # type: ignore[arg-type]
    )
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.UNKNOWN_CURRENCY


# What the creditor refuses, and what either side takes back.


def test_the_creditors_operator_refuses(pair: Pair) -> None:
    hs1, hs2 = pair
    known = said(propose(hs1, hs2))
    exchange(hs1, hs2)
    do(hs2, hs1, "refuse", known, "too_small")
    assert states(hs1, hs2, known) == ("refused", "refused")
    assert (hs1.due_to(hs2), hs1.link(hs2).exposures[0].settleable_minor) == (6_000, 6_000)
    sound(hs1, hs2)


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        (terms_of(6_001), "exceeds_debt"),
        (terms_of(1_000, scale=0), "unknown_currency"),
        (terms_of(1_000, currency="XYZ"), "unknown_currency"),
    ],
)
def test_what_is_not_owed_is_refused_without_an_operator(pair: Pair, terms: SettlementTerms, reason: str) -> None:
    hs1, hs2 = pair
    answer = forged(hs1, hs2, MessageType.SETTLE_PROPOSE, terms)
    assert isinstance(answer, Received)
    (refusal,) = answer.objects
    assert (refusal["type"], refusal["reason"]) == ("SETTLE_REFUSE", reason)
    sound(hs2, hs1)


def test_a_debtor_takes_back_what_it_has_not_sent(pair: Pair) -> None:
    hs1, hs2 = pair
    proposed = said(propose(hs1, hs2))
    exchange(hs1, hs2)
    do(hs1, hs2, "cancel", proposed)
    assert states(hs1, hs2, proposed) == ("cancelled", "cancelled")
    agreed = said(propose(hs1, hs2))
    exchange(hs1, hs2)
    do(hs2, hs1, "agree", agreed)
    do(hs1, hs2, "cancel", agreed, "no_money")
    assert states(hs1, hs2, agreed) == ("cancelled", "cancelled")
    assert hs1.link(hs2).exposures[0].settleable_minor == 6_000
    sound(hs1, hs2)


def test_a_cancellation_and_an_agreement_cross(pair: Pair) -> None:
    hs1, hs2 = pair
    known = said(propose(hs1, hs2))
    exchange(hs1, hs2)
    said(act(hs2, hs1, "agree", known))
    said(act(hs1, hs2, "cancel", known))
    exchange(hs1, hs2)
    assert states(hs1, hs2, known) == ("cancelled", "cancelled")
    assert (hs1.link(hs2).phase, hs2.link(hs1).phase) == (LinkPhase.OPEN, LinkPhase.OPEN)
    assert hs1.link(hs2).exposures[0].settleable_minor == 6_000
    sound(hs1, hs2)


def test_a_cancellation_and_a_refusal_cross(pair: Pair) -> None:
    hs1, hs2 = pair
    known = said(propose(hs1, hs2))
    exchange(hs1, hs2)
    said(act(hs2, hs1, "refuse", known))
    said(act(hs1, hs2, "cancel", known))
    exchange(hs1, hs2)
    assert states(hs1, hs2, known) == ("cancelled", "cancelled")
    assert (hs1.link(hs2).phase, hs2.link(hs1).phase) == (LinkPhase.OPEN, LinkPhase.OPEN)
    assert forged(hs1, hs2, MessageType.SETTLE_CANCEL, known.terms, reason="again").reason is Reason.CONFLICT


def test_a_cancellation_that_comes_before_its_proposal(pair: Pair) -> None:
    hs1, hs2 = pair
    known = said(propose(hs1, hs2))
    said(act(hs1, hs2, "cancel", known))
    proposal, cancellation = hs1.errands(hs2)
    deliver(hs1, hs2, cancellation)
    assert states(hs1, hs2, known) == ("cancelled", "cancelled")
    deliver(hs1, hs2, proposal)
    exchange(hs1, hs2)
    assert states(hs1, hs2, known) == ("cancelled", "cancelled")
    assert "SETTLE_AGREE" not in types(hs2, hs1)
    sound(hs1, hs2)


# Again, and out of order.


def test_each_act_again_changes_nothing(pair: Pair) -> None:
    hs1, hs2 = pair
    known = said(propose(hs1, hs2, settlement_id=SettlementId("B" * 43)))
    assert said(propose(hs1, hs2, settlement_id=SettlementId("B" * 43))) == known
    other = propose(hs1, hs2, 1, settlement_id=SettlementId("B" * 43))
    assert isinstance(other, Refused)
    assert other.reason is Reason.CONFLICT
    exchange(hs1, hs2)
    for node, peer, name in ((hs2, hs1, "agree"), (hs1, hs2, "sent"), (hs2, hs1, "received")):
        first = do(node, peer, name, known)
        said_so_far = len(node.chain(peer))
        assert said(act(node, peer, name, known)) == first
        assert len(node.chain(peer)) == said_so_far
    differently = act(hs2, hs1, "received", known, 5_000)
    assert isinstance(differently, Refused)
    assert (differently.reason, differently.fields) == (Reason.ALREADY_DECIDED, {"state": "received"})


@pytest.mark.parametrize(
    ("done", "too_late"),
    [
        ((), ("sent", "received", "not_received")),
        (("agree",), ("refuse", "received", "not_received")),
        (("refuse",), ("agree", "sent", "cancel", "received")),
        (("agree", "sent"), ("refuse", "cancel")),
        (("agree", "sent", "not_received"), ("received", "agree", "sent", "cancel")),
        (("agree", "sent", "received"), ("not_received", "refuse", "cancel")),
    ],
)
def test_what_cannot_be_said_any_more(pair: Pair, done: tuple[str, ...], too_late: tuple[str, ...]) -> None:
    hs1, hs2 = pair
    debtors = {"sent", "cancel"}
    known = said(propose(hs1, hs2))
    exchange(hs1, hs2)

    def side(name: str) -> tuple[Node, Node]:
        return (hs1, hs2) if name in debtors else (hs2, hs1)

    for name in done:
        do(*side(name), name, known)
    before = states(hs1, hs2, known)
    for name in too_late:
        refused = act(*side(name), name, known)
        assert isinstance(refused, Refused), name
        assert refused.reason is Reason.ALREADY_DECIDED, name
    assert states(hs1, hs2, known) == before
    sound(hs1, hs2)


def test_every_object_again_and_in_any_order_changes_nothing(pair: Pair) -> None:
    hs1, hs2 = pair
    known = under_way(hs1, hs2)
    do(hs2, hs1, "received", known, 4_000)
    for node, peer in ((hs1, hs2), (hs2, hs1)):
        for content in reversed(node.chain(peer)):
            if content["type"].startswith("SETTLE"):
                answer = peer.receive(node, {"object": content})
                assert isinstance(answer, Received)
                assert answer.refused is None
    assert (hs1.due_to(hs2), hs2.due_from(hs1), moving(hs1, hs2)) == (2_000, 2_000, 0)
    sound(hs1, hs2)


def test_a_replayed_object_is_answered_as_it_was_before(pair: Pair) -> None:
    hs1, hs2 = pair
    known = under_way(hs1, hs2)
    do(hs2, hs1, "received", known)
    answered = {}
    for content in hs1.chain(hs2):
        answer = hs2.receive(hs1, {"object": content})
        assert isinstance(answer, Received)
        answered[content["type"]] = [each["type"] for each in answer.objects]
    assert answered["SETTLE_PROPOSE"] == ["SETTLE_AGREE"]
    assert answered["SETTLE_SENT"] == ["SETTLE_RECEIVED"]


def test_a_settlement_is_found_by_status(pair: Pair) -> None:
    hs1, hs2 = pair
    known = under_way(hs1, hs2)
    query = objects.query_fields(MessageType.STATUS, known.link_id, hs1.name, hs2.name)
    answer = hs2.receive(hs1, {"object": {**query, "wire_id": known.terms.settlement_id}})
    assert isinstance(answer, Received)
    assert [each["type"] for each in answer.objects] == ["SETTLE_AGREE", "SETTLE_PROPOSE", "SETTLE_SENT"]


# Hostile peers.


def test_an_unknown_settlement_cannot_go_on(pair: Pair) -> None:
    hs1, hs2 = pair
    assert forged(hs1, hs2, MessageType.SETTLE_SENT, terms_of()).reason is Reason.UNKNOWN_SETTLEMENT
    for kind, more in (
        (MessageType.SETTLE_AGREE, {}),
        (MessageType.SETTLE_REFUSE, {"reason": "no"}),
        (MessageType.SETTLE_RECEIVED, {"received": 5}),
        (MessageType.SETTLE_NOT_RECEIVED, {"reason": "no"}),
    ):
        assert forged(hs2, hs1, kind, terms_of(), **more).reason is Reason.UNKNOWN_SETTLEMENT
    assert isinstance(act(hs1, hs2, "sent", replace(said(propose(hs1, hs2)), terms=terms_of())), Refused)


@pytest.mark.parametrize("changes", [{"amount": 1}, {"amount": 6_001}, {"currency": "USD"}, {"scale": 3}])
def test_other_terms_under_the_same_id_are_never_taken(pair: Pair, changes: dict[str, Any]) -> None:
    hs1, hs2 = pair
    known = under_way(hs1, hs2, 6_000)
    for kind, more in (
        (MessageType.SETTLE_RECEIVED, {"received": 1}),
        (MessageType.SETTLE_NOT_RECEIVED, {"reason": "no"}),
    ):
        answer = forged(hs2, hs1, kind, known.terms, **more, **changes)
        assert isinstance(answer, Refused)
        assert answer.reason is Reason.CONFLICT
    for kind, more in (
        (MessageType.SETTLE_PROPOSE, {}),
        (MessageType.SETTLE_CANCEL, {"reason": "no"}),
        (MessageType.SETTLE_SENT, {}),
    ):
        answer = forged(hs1, hs2, kind, known.terms, **more, **changes)
        assert isinstance(answer, Refused)
        assert answer.reason is Reason.CONFLICT
    assert states(hs1, hs2, known) == ("sent", "sent")


def test_what_was_said_once_is_not_said_again_in_another_object(pair: Pair) -> None:
    hs1, hs2 = pair
    known = under_way(hs1, hs2)
    terms = known.terms
    do(hs2, hs1, "received", known)
    assert forged(hs1, hs2, MessageType.SETTLE_PROPOSE, terms).reason is Reason.CONFLICT
    assert forged(hs1, hs2, MessageType.SETTLE_SENT, terms).reason is Reason.CONFLICT
    assert forged(hs2, hs1, MessageType.SETTLE_AGREE, terms).reason is Reason.CONFLICT
    assert forged(hs2, hs1, MessageType.SETTLE_RECEIVED, terms, received=6_000).reason is Reason.CONFLICT
    assert (hs1.due_to(hs2), hs2.due_from(hs1)) == (0, 0)
    sound(hs1, hs2)


def test_nothing_is_received_that_was_not_sent(pair: Pair) -> None:
    hs1, hs2 = pair
    proposed = said(propose(hs1, hs2))
    exchange(hs1, hs2)
    for _ in range(2):
        assert forged(hs2, hs1, MessageType.SETTLE_RECEIVED, proposed.terms, received=6_000).reason is Reason.CONFLICT
        assert forged(hs2, hs1, MessageType.SETTLE_NOT_RECEIVED, proposed.terms, reason="x").reason is Reason.CONFLICT
        said(act(hs2, hs1, "agree", proposed))
        exchange(hs1, hs2)
    assert hs1.due_to(hs2) == 6_000
    sound(hs1, hs2)


def test_nothing_is_sent_that_was_not_agreed(pair: Pair) -> None:
    hs1, hs2 = pair
    proposed = said(propose(hs1, hs2))
    exchange(hs1, hs2)
    assert forged(hs1, hs2, MessageType.SETTLE_SENT, proposed.terms).reason is Reason.CONFLICT
    do(hs2, hs1, "refuse", proposed)
    assert forged(hs1, hs2, MessageType.SETTLE_SENT, proposed.terms).reason is Reason.CONFLICT


@pytest.mark.parametrize(
    ("done", "liar", "kind", "more"),
    [
        (("agree",), 2, MessageType.SETTLE_REFUSE, {"reason": "no"}),
        (("refuse",), 2, MessageType.SETTLE_AGREE, {}),
        (("agree", "sent", "received"), 2, MessageType.SETTLE_NOT_RECEIVED, {"reason": "no"}),
        (("agree", "sent", "not_received"), 2, MessageType.SETTLE_RECEIVED, {"received": 6_000}),
        (("agree", "sent", "received"), 2, MessageType.SETTLE_RECEIVED, {"received": 1}),
        (("agree", "sent"), 1, MessageType.SETTLE_CANCEL, {"reason": "no"}),
        (("agree", "cancel"), 1, MessageType.SETTLE_SENT, {}),
    ],
)
def test_two_statements_that_exclude_each_other_freeze_the_link_with_both_as_proof(
    pair: Pair, done: tuple[str, ...], liar: int, kind: MessageType, more: dict[str, Any]
) -> None:
    hs1, hs2 = pair
    known = said(propose(hs1, hs2))
    exchange(hs1, hs2)
    for name in done:
        node, peer = (hs1, hs2) if name in ("sent", "cancel") else (hs2, hs1)
        do(node, peer, name, known)
    before = (hs1.due_to(hs2), hs2.due_from(hs1), moving(hs1, hs2))
    wrong, right = (hs1, hs2) if liar == 1 else (hs2, hs1)
    answer = forged(wrong, right, kind, known.terms, **more)
    assert isinstance(answer, Received)
    assert answer.refused is not None
    assert right.link(wrong).phase is LinkPhase.FROZEN
    (evidence,) = right.tx(lambda cur: right.clearing.evidence(cur, wrong.name, 10))
    assert evidence.kind is EvidenceKind.SETTLEMENT_CONTRADICTED
    assert kind.value in evidence.second
    assert "SETTLE_" in evidence.first
    assert (hs1.due_to(hs2), hs2.due_from(hs1), moving(hs1, hs2)) == before
    sound(hs1, hs2)


def test_an_operator_does_not_propose_without_end(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlement_rules, "MAX_OPEN", 2)
    hs1, hs2 = pair
    assert [isinstance(propose(hs1, hs2, 1), Settlement) for _ in range(2)] == [True, True]
    refused = propose(hs1, hs2, 1)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.TOO_MANY_REQUESTS


def test_a_creditor_does_not_agree_to_more_than_it_is_owed(pair: Pair) -> None:
    hs1, hs2 = pair
    for name in "AB":
        assert isinstance(forged(hs1, hs2, MessageType.SETTLE_PROPOSE, terms_of(4_000, name)), Received)
    link_id = objects.link_id_of(hs1.name, hs2.name)

    def agree(name: str) -> Settlement | Refused:
        return hs2.tx(
            lambda cur: hs2.clearing.settlements.agree(cur, hs1.name, SettlementId(name * 43), None, hs2.now_ms)
        )

    said(agree("A"))
    refused = agree("B")
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.EXCEEDS_DEBT
    found = hs2.tx(lambda cur: settlement_store.open_ones(cur, link_id, 10))
    assert [each.state.value for each in found] == ["agreed", "proposed"]
    sound(hs2, hs1)


# Time.


def test_a_disputed_settlement_holds_up_no_other(pair: Pair) -> None:
    hs1, hs2 = pair
    lost = under_way(hs1, hs2, 1_000)
    advance(7 * DAY_MS, hs1, hs2)
    hs1.tick()
    hs2.tick()
    do(hs2, hs1, "received", under_way(hs1, hs2))
    assert (hs1.due_to(hs2), moving(hs1, hs2), hs2.due_from(hs1)) == (0, 1_000, 1_000)
    do(hs2, hs1, "not_received", lost)
    assert (hs1.due_to(hs2), moving(hs1, hs2), hs2.due_from(hs1)) == (1_000, 0, 1_000)
    sound(hs1, hs2)


def test_what_was_agreed_does_not_lapse_as_it_may_be_on_its_way(pair: Pair) -> None:
    hs1, hs2 = pair
    known = said(propose(hs1, hs2))
    exchange(hs1, hs2)
    do(hs2, hs1, "agree", known)
    advance(365 * DAY_MS, hs1, hs2)
    for node in (hs1, hs2):
        node.tick()
    assert states(hs1, hs2, known) == ("agreed", "agreed")
    do(hs1, hs2, "sent", known)
    assert states(hs1, hs2, known) == ("sent", "sent")


# By itself.


def test_a_settlement_is_proposed_at_the_threshold(pair: Pair) -> None:
    hs1, hs2 = pair
    choose(hs1, hs2, threshold_minor=6_001)
    hs1.tick()
    assert next_ms(hs1, hs2) is None
    assert proposals(hs1, hs2) == []
    pay(hs1, hs2, 1)
    assert next_ms(hs1, hs2) == 0
    hs1.tick()
    assert proposals(hs1, hs2) == [6_001]
    # While it is open, nothing more is proposed, however much is owed.
    pay(hs1, hs2, 500)
    hs1.tick()
    due_ms = next_ms(hs1, hs2)
    assert due_ms is not None
    assert due_ms > hs1.now_ms
    assert proposals(hs1, hs2) == [6_001]


def test_a_settlement_is_proposed_every_day_at_its_time(pair: Pair) -> None:
    hs1, hs2 = pair
    # The clock starts at 22:13:20 UTC.
    chosen = choose(hs1, hs2, every=Every.DAY, minute_of_day=22 * 60 + 14)
    assert chosen.next_ms == hs1.now_ms + 40_000
    assert next_ms(hs1, hs2) == hs1.now_ms + 40_000
    advance(40_000, hs1, hs2)
    hs1.tick()
    assert proposals(hs1, hs2) == [6_000]
    exchange(hs1, hs2)
    (known,) = hs2.tx(lambda cur: settlement_store.newest(cur, None, 10))
    do(hs2, hs1, "agree", known)
    do(hs1, hs2, "sent", known)
    do(hs2, hs1, "received", known)
    assert next_ms(hs1, hs2) == hs1.now_ms + DAY_MS
    # Nothing is owed the next day, so nothing is proposed; something is on the day after.
    advance(DAY_MS, hs1, hs2)
    hs1.tick()
    assert proposals(hs1, hs2) == [6_000]
    pay(hs1, hs2, 100)
    advance(DAY_MS, hs1, hs2)
    hs1.tick()
    assert proposals(hs1, hs2) == [6_000, 100]


def test_a_turn_that_was_missed_is_made_up_for_once(pair: Pair) -> None:
    hs1, hs2 = pair
    choose(hs1, hs2, every=Every.WEEK, weekday=3, minute_of_day=0)
    advance(30 * DAY_MS, hs1, hs2)
    hs1.tick()
    assert proposals(hs1, hs2) == [6_000]
    (terms,) = hs1.tx(lambda cur: settlement_store.autos(cur, objects.link_id_of(hs1.name, hs2.name)))
    assert terms.next_ms is not None
    assert hs1.now_ms < terms.next_ms <= hs1.now_ms + 7 * DAY_MS


def test_terms_are_of_a_currency_that_the_link_carries(pair: Pair) -> None:
    hs1, hs2 = pair
    chosen = AutoSettle(currency="PTS")  # type: ignore[arg-type]
    refused = hs1.tx(lambda cur: hs1.clearing.settlements.choose(cur, hs2.name, chosen, hs1.now_ms))
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.UNKNOWN_CURRENCY


# Links that do not stand well.


def test_a_suspended_and_a_closing_link_are_settled(pair: Pair) -> None:
    hs1, hs2 = pair
    hs1.tx(lambda cur: hs1.clearing.suspend(cur, hs2.name, "", hs1.now_ms))
    exchange(hs1, hs2)
    do(hs2, hs1, "received", under_way(hs1, hs2, 1_000))
    hs2.tx(lambda cur: hs2.clearing.close(cur, hs1.name, "", hs2.now_ms))
    exchange(hs1, hs2)
    assert hs1.link(hs2).phase is LinkPhase.CLOSING
    known = under_way(hs1, hs2)
    # On its way is not there yet.
    assert hs1.link(hs2).phase is LinkPhase.CLOSING
    do(hs2, hs1, "received", known)
    assert (hs1.link(hs2).phase, hs2.link(hs1).phase) == (LinkPhase.CLOSED, LinkPhase.CLOSED)
    sound(hs1, hs2)


def test_a_link_with_equal_debts_can_close(pair: Pair) -> None:
    hs1, hs2 = pair
    pay(hs2, hs1, 6_000, ("bob", "alice"))
    hs1.tx(lambda cur: hs1.clearing.close(cur, hs2.name, "", hs1.now_ms))
    exchange(hs1, hs2)
    # The last RECEIPT went out in an answer; it is sent once more and then acknowledged.
    advance(3_000, hs1, hs2)
    exchange(hs1, hs2)
    assert (hs1.link(hs2).phase, hs2.link(hs1).phase) == (LinkPhase.CLOSED, LinkPhase.CLOSED)


def test_nothing_is_settled_over_a_frozen_link(pair: Pair) -> None:
    hs1, hs2 = pair
    sent, proposed = under_way(hs1, hs2, 1_000), said(propose(hs1, hs2, 1_000))
    exchange(hs1, hs2)
    freeze(hs2, hs1)
    for name, known in (("received", sent), ("not_received", sent), ("agree", proposed), ("refuse", proposed)):
        refused = act(hs2, hs1, name, known)
        assert isinstance(refused, Refused), name
        assert refused.reason is Reason.LINK_HALTED
    freeze(hs1, hs2)
    assert isinstance(propose(hs1, hs2, 1), Refused)
    assert isinstance(act(hs1, hs2, "cancel", proposed), Refused)
    # What nobody can answer is disputed all the same; what nobody can cancel waits.
    advance(7 * DAY_MS, hs1, hs2)
    for node, peer in ((hs1, hs2), (hs2, hs1)):
        node.tick()
        assert next_ms(node, peer) is None
    assert states(hs1, hs2, sent) == ("disputed", "disputed")
    assert states(hs1, hs2, proposed) == ("proposed", "proposed")
    sound(hs1, hs2)


def test_nothing_is_proposed_before_the_peer_has_answered_since_our_start(pair: Pair) -> None:
    hs1, hs2 = pair
    choose(hs1, hs2, threshold_minor=1)
    hs1.start("2")
    refused = propose(hs1, hs2)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.LINK_HALTED
    hs1.tick()
    assert proposals(hs1, hs2) == []
    exchange(hs1, hs2)
    hs1.tick()
    assert proposals(hs1, hs2) == [6_000]


def test_there_is_no_settlement_without_a_link(make: Made) -> None:
    hs1, hs2 = make("hs1.test"), make("hs2.test")
    refused = propose(hs1, hs2)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.UNKNOWN_PEER
    hs1.open_link(hs2)
    exchange(hs1, hs2)
    refused = propose(hs1, hs2)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.NO_LINK


# What waits for whom, and what the operators compare.


def test_what_waits_for_whom_is_said_on_both_sides(pair: Pair) -> None:
    hs1, hs2 = pair
    known = said(propose(hs1, hs2))
    exchange(hs1, hs2)
    told = [(hs1.link(hs2).waits, hs2.link(hs1).waits)]
    do(hs2, hs1, "agree", known)
    told.append((hs1.link(hs2).waits, hs2.link(hs1).waits))
    do(hs1, hs2, "sent", known)
    told.append((hs1.link(hs2).waits, hs2.link(hs1).waits))
    do(hs2, hs1, "received", known)
    told.append((hs1.link(hs2).waits, hs2.link(hs1).waits))
    assert told == [
        (
            ("waits for the operator of hs2.test to agree that you pay 60.00 EUR",),
            ("waits for you to agree that hs1.test pays you 60.00 EUR",),
        ),
        (
            ("waits for you to pay 60.00 EUR to hs2.test, and to say so here",),
            ("waits for the operator of hs1.test to pay you 60.00 EUR",),
        ),
        (
            ("waits for the operator of hs2.test to say whether 60.00 EUR arrived",),
            ("waits for you to say whether 60.00 EUR arrived from hs1.test",),
        ),
        ((), ()),
    ]


def test_both_sides_have_the_same_reference(pair: Pair) -> None:
    hs1, hs2 = pair
    under_way(hs1, hs2, 1_000)
    under_way(hs1, hs2, 2_000)

    def references(node: Node) -> dict[int, str]:
        found = node.tx(lambda cur: settlement_store.newest(cur, None, 10))
        return {each.terms.amount_minor: reference_of(node.name, each) for each in found}

    assert references(hs1) == references(hs2)
    assert len(set(references(hs1).values())) == 2
    assert all(map(settlement_rules.is_reference, references(hs1).values()))


# Replay into a database that is being restored.


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("ending", ["received", "not_received"])
@pytest.mark.parametrize("way", ["out", "in"])
def test_a_replay_brings_the_books_to_where_they_were(make: Made, way: str, ending: str, backwards: bool) -> None:
    hs1, hs2 = make("hs1.test"), make("hs2.test")
    linked(hs1, hs2, LIMIT_MINOR)
    hs1.issue(hs1.user("alice"), 9_000)
    pay(hs1, hs2, 6_000)
    node, peer = (hs1, hs2) if way == "out" else (hs2, hs1)
    do(hs2, hs1, ending, under_way(hs1, hs2, 5_000))
    chain = copies(node, peer)
    wanted = (node.due_to(peer), node.due_from(peer), moving(node, peer), issued(node))
    figures = node.tx(lambda cur: settlement_store.newest(cur, None, 10))
    # A second pair with the same names has paid, and knows nothing of the settlement yet.
    old1, old2 = make("hs1.test"), make("hs2.test")
    linked(old1, old2, LIMIT_MINOR)
    old1.issue(old1.user("alice"), 9_000)
    pay(old1, old2, 6_000)
    old, old_peer = (old1, old2) if way == "out" else (old2, old1)
    link_id = objects.link_id_of(old.name, old_peer.name)
    books = books_of(old)

    def replay(cur: Cursor) -> None:
        link = store.link(cur, link_id)
        assert link is not None
        for found, sender in [*(reversed(chain) if backwards else chain), *chain]:
            books.replay(cur, link, found, sender, old.now_ms)

    old.tx(replay)
    assert (old.due_to(old_peer), old.due_from(old_peer), moving(old, old_peer), issued(old)) == wanted
    replayed = old.tx(lambda cur: settlement_store.newest(cur, None, 10))
    assert [replace(each, reason="", pay_to="", due_ms=None) for each in replayed] == [
        replace(each, reason="", pay_to="", due_ms=None) for each in figures
    ]
    assert old.violations() == []
