"""Settlements between two homeservers and the money they move, on SQLite and on PostgreSQL."""

from collections.abc import Callable
from typing import Any, Final

import pytest
from engines import Database
from nodes import EUR, PACKAGES, Node, advance, deliver, exchange, linked
from settling import (
    act,
    books_of,
    choose,
    copies,
    do,
    forged,
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
    under_way,
    used,
)

from super_app.clearing import objects, settlement_rules, settlement_store, store
from super_app.clearing.model import (
    MessageType,
    OutState,
    Received,
)
from super_app.clearing.settlement_model import SettlementState, Way
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ledger import service as ledger
from super_app.ledger.model import AccountKind, house

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


def test_what_arrived_is_cut_and_the_rest_is_owed_again(pair: Pair) -> None:
    hs1, hs2 = pair
    known = under_way(hs1, hs2)
    do(hs2, hs1, "received", known, 4_500)
    assert states(hs1, hs2, known) == ("received", "received")
    assert (hs1.due_to(hs2), moving(hs1, hs2), hs2.due_from(hs1)) == (1_500, 0, 1_500)
    assert used(hs2, hs1) == 1_500
    sound(hs1, hs2)
    assert said(propose(hs1, hs2)).terms.amount_minor == 1_500


def test_what_did_not_arrive_is_owed_as_before(pair: Pair) -> None:
    hs1, hs2 = pair
    known = under_way(hs1, hs2)
    do(hs2, hs1, "not_received", known, "wrong_account")
    assert states(hs1, hs2, known) == ("not_received", "not_received")
    assert (hs1.due_to(hs2), moving(hs1, hs2), hs2.due_from(hs1), used(hs2, hs1)) == (6_000, 0, 6_000, 6_000)
    assert (issued(hs1), issued(hs2)) == (9_000, 0)
    sound(hs1, hs2)
    again = under_way(hs1, hs2)
    do(hs2, hs1, "received", again)
    assert hs2.due_from(hs1) == 0
    sound(hs1, hs2)


def test_a_house_that_never_issued_can_pay_what_others_owe_it(make: Made) -> None:
    hs1, hs2, hs3 = (make(f"hs{number}.test") for number in (1, 2, 3))
    linked(hs1, hs2)
    linked(hs2, hs3)
    hs1.issue(hs1.user("alice"), 5_000)
    order = hs1.order(hs1.user("alice"), hs2.user("bob"), 5_000)
    assert not isinstance(hs1.pay(order), Refused)
    exchange(hs1, hs2)
    pay(hs2, hs3, 5_000, ("bob", "carol"))
    # bob's money came from hs1, which still owes it; hs2 pays hs3 with its own.
    do(hs3, hs2, "received", under_way(hs2, hs3))
    assert (issued(hs2), hs2.due_from(hs1), hs2.due_to(hs3)) == (-5_000, 5_000, 0)
    sound(hs2, hs3)
    do(hs2, hs1, "received", under_way(hs1, hs2))
    assert (issued(hs2), hs2.due_from(hs1)) == (0, 0)
    sound(hs1, hs2)


def test_what_is_not_receipted_yet_is_not_settled(pair: Pair) -> None:
    hs1, hs2 = pair
    order = hs1.order(hs1.user("alice"), hs2.user("bob"), 1_000)
    assert not isinstance(hs1.pay(order), Refused)
    (offer,) = hs1.errands(hs2)
    deliver(hs1, hs2, offer)
    # hs1 has committed and has no RECEIPT yet: hs2 may still void it.
    assert hs1.due_to(hs2) == 7_000
    exposure = hs1.link(hs2).exposures[0]
    assert (exposure.unreceipted_minor, exposure.settleable_minor, exposure.net_minor) == (1_000, 6_000, 6_000)
    refused = propose(hs1, hs2, 6_001)
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.fields) == (Reason.EXCEEDS_DEBT, {"settleable": 6_000, "net": 6_000})
    assert said(propose(hs1, hs2)).terms.amount_minor == 6_000
    exchange(hs1, hs2)
    assert hs1.link(hs2).exposures[0].settleable_minor == 1_000
    sound(hs1, hs2)


def test_a_void_after_a_settlement_still_finds_its_money(pair: Pair) -> None:
    hs1, hs2 = pair
    order = hs1.order(hs1.user("alice"), hs2.user("bob"), 1_000)
    wire_id = hs1.pay(order)
    assert not isinstance(wire_id, Refused)
    (offer,) = hs1.errands(hs2)
    deliver(hs1, hs2, offer)
    # The reservation lapses and the limit falls, so that the late COMMIT is void.
    hs2.open_link(hs1, 6_000)
    (commit,) = hs1.errands(hs2)
    known = said(propose(hs1, hs2))
    for errand in hs1.errands(hs2):
        if errand.type is not MessageType.COMMIT:
            deliver(hs1, hs2, errand)
    assert not isinstance(act(hs2, hs1, "agree", known), Refused)
    advance(11 * 60_000, hs1, hs2)
    hs2.tick()
    exchange(hs1, hs2)
    do(hs1, hs2, "sent", known)
    assert commit.type is MessageType.COMMIT
    assert hs1.tx(lambda cur: hs1.clearing.outgoing(cur, acct(order), order.payment_id)) is OutState.VOIDED
    do(hs2, hs1, "received", known)
    assert (hs1.due_to(hs2), hs2.due_from(hs1), hs1.available(hs1.user("alice"))) == (0, 0, 3_000)
    sound(hs1, hs2)


def acct(order: Any) -> Any:
    return order.payer.acct


def test_no_two_settlements_claim_the_same_debt(pair: Pair) -> None:
    hs1, hs2 = pair
    first, second = said(propose(hs1, hs2, 4_000)), said(propose(hs1, hs2, 2_000))
    refused = propose(hs1, hs2, 1)
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.fields["settleable"]) == (Reason.EXCEEDS_DEBT, 0)
    exchange(hs1, hs2)
    for each in (first, second):
        do(hs2, hs1, "agree", each)
        do(hs1, hs2, "sent", each)
    do(hs2, hs1, "received", second)
    assert (hs1.due_to(hs2), moving(hs1, hs2), hs2.due_from(hs1)) == (0, 4_000, 4_000)
    sound(hs1, hs2)
    do(hs2, hs1, "not_received", first)
    assert (hs1.due_to(hs2), moving(hs1, hs2), hs2.due_from(hs1)) == (4_000, 0, 4_000)
    sound(hs1, hs2)


def test_settlements_in_both_directions_cross(pair: Pair) -> None:
    hs1, hs2 = pair
    pay(hs2, hs1, 2_500, ("bob", "alice"))
    there, back = said(propose(hs1, hs2, 6_000)), said(propose(hs2, hs1, 2_500))
    exchange(hs1, hs2)
    do(hs2, hs1, "agree", there)
    do(hs1, hs2, "agree", back)
    do(hs1, hs2, "sent", there)
    do(hs2, hs1, "sent", back)
    sound(hs1, hs2)
    do(hs2, hs1, "received", there)
    do(hs1, hs2, "received", back)
    assert [hs1.due_to(hs2), hs1.due_from(hs2), hs2.due_to(hs1), hs2.due_from(hs1)] == [0, 0, 0, 0]
    assert (issued(hs1), issued(hs2)) == (9_000 - 6_000 + 2_500, 6_000 - 2_500)
    sound(hs1, hs2)


def test_a_flood_of_proposals_is_bounded(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlement_rules, "MAX_OPEN", 3)
    hs1, hs2 = pair
    for name in "ABC":
        assert isinstance(forged(hs1, hs2, MessageType.SETTLE_PROPOSE, terms_of(1, name)), Received)
    flood = forged(hs1, hs2, MessageType.SETTLE_PROPOSE, terms_of(1, "D"))
    assert isinstance(flood, Refused)
    assert flood.reason is Reason.TOO_MANY_REQUESTS
    assert flood.fields["retry_after_ms"] == 30_000
    # A cancellation of one of them makes room; one without a proposal takes room like a proposal.
    assert isinstance(forged(hs1, hs2, MessageType.SETTLE_CANCEL, terms_of(1, "A"), reason="no"), Received)
    assert isinstance(forged(hs1, hs2, MessageType.SETTLE_CANCEL, terms_of(1, "D"), reason="no"), Received)
    tombstone = forged(hs1, hs2, MessageType.SETTLE_CANCEL, terms_of(1, "E"), reason="no")
    assert isinstance(tombstone, Refused)
    assert tombstone.reason is Reason.TOO_MANY_REQUESTS


def test_a_payment_that_nobody_confirms_is_disputed_after_five_banking_days(pair: Pair) -> None:
    hs1, hs2 = pair
    known = under_way(hs1, hs2)
    # The clock starts on Tuesday 2023-11-14; five banking days on is Tuesday again.
    advance(7 * DAY_MS - 1, hs1, hs2)
    hs1.tick()
    assert states(hs1, hs2, known) == ("sent", "sent")
    assert next_ms(hs1, hs2) == known.changed_ms + 7 * DAY_MS
    advance(1, hs1, hs2)
    for node, peer in ((hs1, hs2), (hs2, hs1)):
        node.tick()
        assert next_ms(node, peer) is None
    assert states(hs1, hs2, known) == ("disputed", "disputed")
    # It counts as debt on both sides until somebody says something.
    assert (moving(hs1, hs2), hs2.due_from(hs1), used(hs2, hs1)) == (6_000, 6_000, 6_000)
    assert "disputed" in hs1.link(hs2).waits[0]
    assert "disputed" in hs2.link(hs1).waits[0]
    sound(hs1, hs2)
    assert said(act(hs1, hs2, "sent", known)).state is SettlementState.DISPUTED
    do(hs2, hs1, "received", known)
    assert states(hs1, hs2, known) == ("received", "received")
    assert (moving(hs1, hs2), hs2.due_from(hs1)) == (0, 0)
    sound(hs1, hs2)


def test_a_proposal_without_an_answer_lapses(pair: Pair) -> None:
    hs1, hs2 = pair
    known = said(propose(hs1, hs2))
    exchange(hs1, hs2)
    advance(7 * DAY_MS, hs1, hs2)
    hs1.tick()
    hs2.tick()
    assert states(hs1, hs2, known) == ("cancelled", "proposed")
    exchange(hs1, hs2)
    assert states(hs1, hs2, known) == ("cancelled", "cancelled")
    assert [each["reason"] for each in hs1.chain(hs2) if each["type"] == "SETTLE_CANCEL"] == ["expired"]
    refused = act(hs2, hs1, "agree", known)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.ALREADY_DECIDED


def test_a_refused_proposal_is_not_made_again_at_once(pair: Pair) -> None:
    hs1, hs2 = pair
    choose(hs1, hs2, threshold_minor=1_000)
    hs1.tick()
    exchange(hs1, hs2)
    (known,) = hs2.tx(lambda cur: settlement_store.newest(cur, None, 10))
    do(hs2, hs1, "refuse", known)
    hs1.tick()
    assert next_ms(hs1, hs2) == hs1.now_ms + DAY_MS
    assert len(proposals(hs1, hs2)) == 1
    advance(DAY_MS, hs1, hs2)
    hs1.tick()
    assert len(proposals(hs1, hs2)) == 2


def test_a_creditor_agrees_by_itself_up_to_an_amount(pair: Pair) -> None:
    hs1, hs2 = pair
    choose(hs2, hs1, agree_up_to_minor=5_000, pay_to="payto://iban/DE75512108001245126199")
    large, small = said(propose(hs1, hs2, 5_001)), said(propose(hs1, hs2, 999))
    exchange(hs1, hs2)
    assert states(hs1, hs2, large) == ("proposed", "proposed")
    assert states(hs1, hs2, small) == ("agreed", "agreed")
    link_id = objects.link_id_of(hs1.name, hs2.name)
    found = hs1.tx(lambda cur: settlement_store.find(cur, link_id, Way.OUT, small.terms.settlement_id))
    assert found is not None
    assert found.pay_to == "payto://iban/DE75512108001245126199"
    # What the operator agrees to goes to the same account, unless they say another one.
    do(hs2, hs1, "agree", large)
    assert hs2.chain(hs1)[-1]["pay_to"] == "payto://iban/DE75512108001245126199"


def test_a_wrong_book_is_found(pair: Pair) -> None:
    hs1, hs2 = pair
    under_way(hs1, hs2)
    for node in (hs1, hs2):
        node.tx(lambda cur: cur.execute("UPDATE superapp_clearing_settlement SET amount_minor = amount_minor + 7"))
    found = {(each.where, each.off_by) for node in (hs1, hs2) for each in node.tx(node.clearing.violations)}
    assert found == {
        ("hs2.test EUR in_transit", -7),
        ("hs2.test EUR due_to", 7),
        ("hs1.test EUR expected", 7),
    }


@pytest.mark.parametrize("way", ["out", "in"])
def test_what_restored_books_do_not_know_of_goes_through_suspense(make: Made, way: str) -> None:
    hs1, hs2 = make("hs1.test"), make("hs2.test")
    linked(hs1, hs2, LIMIT_MINOR)
    hs1.issue(hs1.user("alice"), 9_000)
    pay(hs1, hs2, 6_000)
    do(hs2, hs1, "received", under_way(hs1, hs2))
    node, peer = (hs1, hs2) if way == "out" else (hs2, hs1)
    chain = copies(node, peer)
    old1, old2 = make("hs1.test"), make("hs2.test")
    linked(old1, old2, LIMIT_MINOR)
    old1.issue(old1.user("alice"), 9_000)
    pay(old1, old2, 1_000)
    old, old_peer = (old1, old2) if way == "out" else (old2, old1)
    link_id = objects.link_id_of(old.name, old_peer.name)
    books = books_of(old)

    def replay(cur: Cursor) -> int:
        link = store.link(cur, link_id)
        assert link is not None
        for found, sender in [*chain, *chain]:
            books.replay(cur, link, found, sender, old.now_ms)
        return ledger.balance(cur, house(AccountKind.SUSPENSE, EUR.code))

    assert old.tx(replay) == (-5_000 if way == "out" else 5_000)
    assert (old.due_to(old_peer), old.due_from(old_peer), moving(old, old_peer)) == (0, 0, 0)
    assert old.violations() == []
