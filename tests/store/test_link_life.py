"""A link between its opening and its end: suspended, resumed, closed, on SQLite and on PostgreSQL."""

from collections.abc import Callable
from typing import Any

import pytest
from engines import Database
from nodes import PACKAGES, Node, acct_of, advance, deliver, exchange, linked

from super_app.clearing import rules
from super_app.clearing.model import LinkPhase, LinkView, MessageType, Standing
from super_app.clearing.ports import Ask, WireId
from super_app.errors import Reason, Refused
from super_app.ids import ServerName

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


def pay(hs1: Node, hs2: Node, amount_minor: int = 500) -> tuple[Any, WireId | Refused]:
    order = hs1.order(hs1.user("alice"), hs2.user("bob"), amount_minor)
    return order, hs1.pay(order)


def told(node: Node, side: str, payment: str) -> tuple[str, str] | None:
    return node.tx(lambda cur: node.till.state(cur, side, payment))


def suspend(node: Node, peer: Node, why: str = "") -> LinkView:
    view = node.tx(lambda cur: node.clearing.suspend(cur, peer.name, why, node.now_ms))
    assert not isinstance(view, Refused), view
    return view


def resume(node: Node, peer: Node) -> LinkView:
    view = node.tx(lambda cur: node.clearing.resume(cur, peer.name, node.now_ms))
    assert not isinstance(view, Refused), view
    return view


def close(node: Node, peer: Node, why: str = "") -> LinkView:
    view = node.tx(lambda cur: node.clearing.close(cur, peer.name, why, node.now_ms))
    assert not isinstance(view, Refused), view
    return view


def cannot_pay(payer: Node, payee: Node, order: Any) -> Refused:
    refused = payer.tx(lambda cur: payer.clearing.can_pay(cur, payee.name, order.money))
    assert refused is not None
    return refused


def phases(hs1: Node, hs2: Node) -> list[LinkPhase]:
    return [hs1.link(hs2).phase, hs2.link(hs1).phase]


def types(node: Node, peer: Node) -> list[str]:
    return [each["type"] for each in node.chain(peer)]


def sound(*nodes: Node) -> None:
    for node in nodes:
        assert node.violations() == []


# Suspended.


@pytest.mark.parametrize("who", [0, 1])
def test_while_either_side_suspends_no_payment_is_offered(pair: Pair, who: int) -> None:
    hs1, hs2 = pair
    suspend(pair[who], pair[1 - who], "maintenance")
    exchange(hs1, hs2)
    assert phases(hs1, hs2) == [LinkPhase.SUSPENDED, LinkPhase.SUSPENDED]
    for payer, payee in ((hs1, hs2), (hs2, hs1)):
        order = payer.order(payer.user("alice"), payee.user("bob"), 500)
        answer = cannot_pay(payer, payee, order)
        assert answer.reason is Reason.LINK_SUSPENDED
    assert "operator of hs" in " ".join(pair[1 - who].link(pair[who]).waits)
    assert "(maintenance)" in " ".join(pair[1 - who].link(pair[who]).waits)
    assert "you" in " ".join(pair[who].link(pair[1 - who]).waits)


def test_a_suspension_holds_here_before_the_peer_has_heard_of_it(pair: Pair) -> None:
    hs1, hs2 = pair
    hs1.start("2")
    suspend(hs1, hs2)
    # Nothing may be signed before the peer has answered, and yet it holds.
    assert types(hs1, hs2) == ["LINK_OPEN"]
    assert hs1.link(hs2).phase is LinkPhase.SUSPENDED
    exchange(hs1, hs2)
    assert types(hs1, hs2) == ["LINK_OPEN", "SUSPEND"]
    assert hs2.link(hs1).their_standing is Standing.SUSPENDED


def test_a_change_of_mind_before_the_peer_heard_of_it_is_never_said(pair: Pair) -> None:
    hs1, hs2 = pair
    hs1.start("2")
    suspend(hs1, hs2)
    resume(hs1, hs2)
    exchange(hs1, hs2)
    assert types(hs1, hs2) == ["LINK_OPEN"]
    assert phases(hs1, hs2) == [LinkPhase.OPEN, LinkPhase.OPEN]


def test_an_offer_that_crosses_a_suspension_is_rejected_and_the_money_is_back(pair: Pair) -> None:
    hs1, hs2 = pair
    order, _ = pay(hs1, hs2)
    suspend(hs2, hs1)
    exchange(hs1, hs2)
    assert told(hs1, "out", order.payment_id) == ("failed", "link_suspended")
    assert hs1.available(hs1.user("alice")) == 10_000
    assert types(hs2, hs1) == ["LINK_OPEN", "SUSPEND", "REJECT", "RECEIPT"]
    sound(hs1, hs2)


def test_what_is_under_way_ends_normally_on_a_suspended_link(pair: Pair) -> None:
    hs1, hs2 = pair
    order, _ = pay(hs1, hs2)
    (offer,) = hs1.errands(hs2)
    answer = hs2.receive(hs1, offer.body)
    assert not isinstance(answer, Refused)
    assert [each["type"] for each in answer.objects] == ["ACCEPT"]
    suspend(hs1, hs2)
    suspend(hs2, hs1)
    advance(rules.DIRECT_ANSWER_MS, hs1, hs2)
    exchange(hs1, hs2)
    assert told(hs1, "out", order.payment_id) == ("completed", "")
    assert hs2.available(hs2.user("bob")) == 500
    sound(hs1, hs2)


def test_a_payee_who_is_asked_cannot_accept_while_the_link_is_suspended_and_can_once_it_is_resumed(pair: Pair) -> None:
    hs1, hs2 = pair
    hs2.till.answers[hs2.user("bob")] = Ask(acct=acct_of(hs2.user("bob")), until_ms=3_600_000)
    order, wire_id = pay(hs1, hs2)
    assert not isinstance(wire_id, Refused)
    exchange(hs1, hs2)
    suspend(hs1, hs2)
    exchange(hs1, hs2)
    refused = hs2.tx(lambda cur: hs2.clearing.accept(cur, hs1.name, wire_id, hs2.now_ms))
    assert refused is not None
    assert refused.reason is Reason.LINK_SUSPENDED
    resume(hs1, hs2)
    exchange(hs1, hs2)
    hs2.tx(lambda cur: hs2.answer(cur, hs1.name, wire_id, yes=True))
    exchange(hs1, hs2)
    assert told(hs1, "out", order.payment_id) == ("completed", "")
    sound(hs1, hs2)


def test_a_payee_who_is_asked_can_decline_while_the_link_is_suspended(pair: Pair) -> None:
    hs1, hs2 = pair
    hs2.till.answers[hs2.user("bob")] = Ask(acct=acct_of(hs2.user("bob")), until_ms=3_600_000)
    order, wire_id = pay(hs1, hs2)
    assert not isinstance(wire_id, Refused)
    exchange(hs1, hs2)
    suspend(hs2, hs1)
    hs2.tx(lambda cur: hs2.answer(cur, hs1.name, wire_id, yes=False))
    exchange(hs1, hs2)
    assert told(hs1, "out", order.payment_id) == ("failed", "declined")


def test_only_the_side_that_suspended_resumes(pair: Pair) -> None:
    hs1, hs2 = pair
    suspend(hs1, hs2)
    exchange(hs1, hs2)
    resume(hs2, hs1)
    exchange(hs1, hs2)
    assert phases(hs1, hs2) == [LinkPhase.SUSPENDED, LinkPhase.SUSPENDED]
    assert types(hs2, hs1) == ["LINK_OPEN"]
    suspend(hs2, hs1)
    resume(hs1, hs2)
    exchange(hs1, hs2)
    assert phases(hs1, hs2) == [LinkPhase.SUSPENDED, LinkPhase.SUSPENDED]
    resume(hs2, hs1)
    exchange(hs1, hs2)
    assert phases(hs1, hs2) == [LinkPhase.OPEN, LinkPhase.OPEN]
    order, _ = pay(hs1, hs2)
    exchange(hs1, hs2)
    assert told(hs1, "out", order.payment_id) == ("completed", "")
    sound(hs1, hs2)


def test_a_suspension_that_arrives_after_its_resumption_changes_nothing(pair: Pair) -> None:
    hs1, hs2 = pair
    suspend(hs1, hs2)
    resume(hs1, hs2)
    first, second = hs1.errands(hs2)
    assert (first.type, second.type) == (MessageType.SUSPEND, MessageType.RESUME)
    deliver(hs1, hs2, second)
    deliver(hs1, hs2, first)
    assert phases(hs1, hs2) == [LinkPhase.OPEN, LinkPhase.OPEN]


def test_suspending_twice_says_it_once(pair: Pair) -> None:
    hs1, hs2 = pair
    suspend(hs1, hs2)
    suspend(hs1, hs2)
    exchange(hs1, hs2)
    assert types(hs1, hs2) == ["LINK_OPEN", "SUSPEND"]


def test_an_unknown_peer_is_refused(pair: Pair) -> None:
    hs1, _ = pair
    stranger = ServerName("hs9.test")
    answers = (
        hs1.tx(lambda cur: hs1.clearing.suspend(cur, stranger, "", 0)),
        hs1.tx(lambda cur: hs1.clearing.resume(cur, stranger, 0)),
        hs1.tx(lambda cur: hs1.clearing.close(cur, stranger, "", 0)),
    )
    for refused in answers:
        assert isinstance(refused, Refused)
        assert refused.reason is Reason.UNKNOWN_PEER


# Closed.


@pytest.mark.parametrize("who", [0, 1])
def test_one_side_closes_an_idle_link_for_both(pair: Pair, who: int) -> None:
    hs1, hs2 = pair
    view = close(pair[who], pair[1 - who], "moving")
    assert view.phase is LinkPhase.CLOSING
    exchange(hs1, hs2)
    assert phases(hs1, hs2) == [LinkPhase.CLOSED, LinkPhase.CLOSED]
    _, refused = pay(hs1, hs2)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.NO_LINK
    assert hs1.available(hs1.user("alice")) == 10_000


def test_a_link_is_closed_only_when_nothing_is_under_way_and_nothing_is_owed(pair: Pair) -> None:
    hs1, hs2 = pair
    order, _ = pay(hs1, hs2)
    (offer,) = hs1.errands(hs2)
    assert not isinstance(hs2.receive(hs1, offer.body), Refused)
    close(hs1, hs2)
    assert [each.partition(":")[0] for each in hs1.link(hs2).waits] == ["waits for 1 payments to end"]
    advance(rules.DIRECT_ANSWER_MS, hs1, hs2)
    exchange(hs1, hs2)
    assert told(hs1, "out", order.payment_id) == ("completed", "")
    advance(rules.DIRECT_ANSWER_MS, hs1, hs2)
    exchange(hs1, hs2)
    # The payment has ended; what is owed stays visible until it is settled.
    assert phases(hs1, hs2) == [LinkPhase.CLOSING, LinkPhase.CLOSING]
    assert hs1.link(hs2).waits == ("waits for a settlement of what is owed in EUR",)
    assert hs1.link(hs2).exposures[0].due_to_minor == 500
    sound(hs1, hs2)


def test_an_offer_that_crosses_a_close_is_rejected(pair: Pair) -> None:
    hs1, hs2 = pair
    order, _ = pay(hs1, hs2)
    close(hs2, hs1)
    exchange(hs1, hs2)
    advance(rules.DIRECT_ANSWER_MS, hs1, hs2)
    exchange(hs1, hs2)
    assert told(hs1, "out", order.payment_id) == ("failed", "no_link")
    assert phases(hs1, hs2) == [LinkPhase.CLOSED, LinkPhase.CLOSED]
    sound(hs1, hs2)


def test_a_lapsed_reservation_keeps_a_closing_link_from_being_closed_until_it_is_decided(pair: Pair) -> None:
    hs1, hs2 = pair
    pay(hs1, hs2)
    (offer,) = hs1.errands(hs2)
    assert not isinstance(hs2.receive(hs1, offer.body), Refused)
    close(hs2, hs1)
    advance(rules.ACCEPT_VALID_MS, hs2)
    hs2.tick()
    assert hs2.link(hs1).phase is LinkPhase.CLOSING
    exchange(hs1, hs2)
    assert hs2.available(hs2.user("bob")) == 500
    sound(hs1, hs2)


def test_a_closed_link_is_opened_again_by_whoever_closed_it(pair: Pair) -> None:
    hs1, hs2 = pair
    close(hs1, hs2)
    close(hs2, hs1)
    exchange(hs1, hs2)
    assert not isinstance(hs1.open_link(hs2, 700), Refused)
    exchange(hs1, hs2)
    assert phases(hs1, hs2) == [LinkPhase.CLOSED, LinkPhase.CLOSED]
    resume(hs2, hs1)
    exchange(hs1, hs2)
    assert phases(hs1, hs2) == [LinkPhase.OPEN, LinkPhase.OPEN]
    assert types(hs1, hs2) == ["LINK_OPEN", "CLOSE", "RESUME", "LIMIT"]
    order, _ = pay(hs1, hs2)
    exchange(hs1, hs2)
    assert told(hs1, "out", order.payment_id) == ("completed", "")
    sound(hs1, hs2)


def test_a_closed_side_is_not_suspended(pair: Pair) -> None:
    hs1, hs2 = pair
    close(hs1, hs2)
    refused = hs1.tx(lambda cur: hs1.clearing.suspend(cur, hs2.name, "", hs1.now_ms))
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.ALREADY_DECIDED
    assert hs1.link(hs2).our_standing is Standing.CLOSING


def test_an_opening_that_is_closed_before_it_was_signed_is_never_signed(
    open_database: Callable[..., Database],
) -> None:
    hs1, hs2 = (Node(name, open_database(*PACKAGES).connect(rerun=True)) for name in ("hs1.test", "hs2.test"))
    for node in (hs1, hs2):
        node.create()
    hs1.open_link(hs2)
    close(hs1, hs2)
    exchange(hs1, hs2)
    assert types(hs1, hs2) == []
    assert hs1.link(hs2).phase is LinkPhase.CLOSED
    # And taken up again, it is.
    resume(hs1, hs2)
    assert types(hs1, hs2) == ["LINK_OPEN"]


def test_an_operator_closes_what_a_stranger_asked_for(open_database: Callable[..., Database]) -> None:
    hs1, hs2 = (Node(name, open_database(*PACKAGES).connect(rerun=True)) for name in ("hs1.test", "hs2.test"))
    for node in (hs1, hs2):
        node.create()
    hs1.open_link(hs2)
    exchange(hs1, hs2)
    assert hs2.link(hs1).phase is LinkPhase.WAITING_FOR_US
    assert close(hs2, hs1).phase is LinkPhase.CLOSED
    close(hs1, hs2)
    exchange(hs1, hs2)
    assert hs2.link(hs1).their_standing is Standing.CLOSING
