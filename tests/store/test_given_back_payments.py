"""Operators give back the money of payments to a peer that is gone, at their own risk; on both databases."""

from collections.abc import Callable

import pytest
from engines import Database
from nodes import EUR, PACKAGES, Node, advance, deliver, exchange, linked

from super_app.clearing.model import MessageType, OutState, WaitingPayment
from super_app.clearing.ports import WireId
from super_app.errors import Reason, Refused
from super_app.ledger import operators
from super_app.ledger import service as ledger
from super_app.ledger.model import AccountKind, house

Pair = tuple[Node, Node]
FUNDS_MINOR, AMOUNT_MINOR = 1_000, 300


@pytest.fixture
def pair(open_database: Callable[..., Database]) -> Pair:
    one, other = (Node(name, open_database(*PACKAGES).connect(rerun=True)) for name in ("hs1.test", "hs2.test"))
    for node in (one, other):
        node.create()
    linked(one, other)
    one.issue(one.user("alice"), FUNDS_MINOR)
    return one, other


def offered(pair: Pair) -> WireId:
    one, other = pair
    wire_id = one.pay(one.order(one.user("alice"), other.user("bob"), AMOUNT_MINOR))
    assert not isinstance(wire_id, Refused)
    return wire_id


def committed(pair: Pair) -> WireId:
    """COMMIT is signed, and its answer never came."""
    one, other = pair
    wire_id = offered(pair)
    (offer,) = one.errands(other)
    deliver(one, other, offer)
    assert state_of(one, other, wire_id) is OutState.COMMITTED
    return wire_id


def state_of(one: Node, other: Node, wire_id: WireId) -> OutState | None:
    found = [each for each in waiting(one, other) if each.payment.terms.wire_id == wire_id]
    return found[0].payment.state if found else None


def waiting(one: Node, other: Node) -> tuple[WaitingPayment, ...]:
    found = one.tx(lambda cur: one.clearing.waiting(cur, other.name, 10))
    assert not isinstance(found, Refused)
    return found


def give_back(one: Node, other: Node, wire_id: WireId) -> WaitingPayment | Refused:
    return one.tx(
        lambda cur: one.clearing.give_back(
            cur, other.name, wire_id, reason="gone for good", operator="@admin:hs1.test", now_ms=one.now_ms
        )
    )


def suspense(node: Node) -> int:
    return node.tx(lambda cur: ledger.balance(cur, house(AccountKind.SUSPENSE, EUR.code)))


def restarted(node: Node) -> None:
    """A new run: until the peer has answered HEAD?, nothing is signed."""
    node.start("2")


def test_what_was_committed_comes_from_suspense_and_the_payment_goes_on(pair: Pair) -> None:
    one, other = pair
    wire_id = committed(pair)
    assert [each.payer for each in waiting(one, other)] == [one.user("alice")]
    given = give_back(one, other, wire_id)
    assert not isinstance(given, Refused)
    assert given.advanced
    assert given.payment.state is OutState.COMMITTED
    assert one.available(one.user("alice")) == FUNDS_MINOR
    assert one.due_to(other) == AMOUNT_MINOR
    assert suspense(one) == -AMOUNT_MINOR
    assert one.violations() == []


def test_giving_back_twice_gives_once(pair: Pair) -> None:
    one, other = pair
    wire_id = committed(pair)
    for _ in range(2):
        assert not isinstance(give_back(one, other, wire_id), Refused)
    assert one.available(one.user("alice")) == FUNDS_MINOR
    assert suspense(one) == -AMOUNT_MINOR


def test_if_the_peer_credited_it_after_all_the_loss_stays_in_suspense(pair: Pair) -> None:
    one, other = pair
    wire_id = committed(pair)
    give_back(one, other, wire_id)
    exchange(one, other)
    assert other.available(other.user("bob")) == AMOUNT_MINOR
    assert one.available(one.user("alice")) == FUNDS_MINOR
    assert suspense(one) == -AMOUNT_MINOR
    assert one.due_to(other) == other.due_from(one) == AMOUNT_MINOR
    assert waiting(one, other) == ()
    again = give_back(one, other, wire_id)
    assert not isinstance(again, Refused), "it was given back, and the same again changes nothing"
    assert suspense(one) == -AMOUNT_MINOR
    assert one.violations() == other.violations() == []


def test_if_the_peer_says_void_suspense_has_its_money_again(pair: Pair) -> None:
    one, other = pair
    wire_id = committed(pair)
    give_back(one, other, wire_id)
    # The peer's reservation lapses, and the limit no longer carries it.
    advance(700_000, one, other)
    other.tick()
    other.open_link(one, 1)
    exchange(one, other)
    assert one.available(one.user("alice")) == FUNDS_MINOR
    assert suspense(one) == one.due_to(other) == 0
    assert one.violations() == other.violations() == []


def test_what_is_undecided_and_cannot_be_ended_is_given_back_while_its_hold_stays(pair: Pair) -> None:
    one, other = pair
    wire_id = offered(pair)
    restarted(one)
    given = give_back(one, other, wire_id)
    assert not isinstance(given, Refused)
    assert given.advanced
    assert one.wallet(one.user("alice"), EUR) == (FUNDS_MINOR, AMOUNT_MINOR)
    assert suspense(one) == -AMOUNT_MINOR
    assert one.violations() == []


def test_when_it_is_aborted_later_its_hold_goes_to_suspense(pair: Pair) -> None:
    one, other = pair
    wire_id = offered(pair)
    restarted(one)
    give_back(one, other, wire_id)
    advance(120_000, one, other)
    exchange(one, other)
    one.tick()
    exchange(one, other)
    assert one.wallet(one.user("alice"), EUR) == (FUNDS_MINOR, 0)
    assert suspense(one) == 0
    assert one.violations() == []


def test_what_is_undecided_where_we_may_sign_is_simply_aborted(pair: Pair) -> None:
    one, other = pair
    wire_id = offered(pair)
    given = give_back(one, other, wire_id)
    assert not isinstance(given, Refused)
    assert not given.advanced
    assert given.payment.state is OutState.ABORTED
    assert one.wallet(one.user("alice"), EUR) == (FUNDS_MINOR, 0)
    assert suspense(one) == 0
    assert MessageType.ABORT.value in [each["type"] for each in one.chain(other)]


def test_what_has_ended_is_not_given_back(pair: Pair) -> None:
    one, other = pair
    wire_id = offered(pair)
    exchange(one, other)
    refused = give_back(one, other, wire_id)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.ALREADY_DECIDED
    assert refused.fields == {"state": "completed"}
    assert suspense(one) == 0


def test_what_is_nobodys_since_a_restore_is_given_to_nobody(pair: Pair) -> None:
    one, other = pair
    wire_id = committed(pair)
    one.tx(lambda cur: cur.execute("UPDATE superapp_clearing_out SET payer_acct = ''"))
    refused = give_back(one, other, wire_id)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.UNKNOWN_PAYMENT
    assert suspense(one) == 0


def test_unknown_payments_and_peers_are_refused(pair: Pair) -> None:
    one, other = pair
    unknown = give_back(one, other, WireId("A" * 43))
    assert isinstance(unknown, Refused)
    assert unknown.reason is Reason.UNKNOWN_PAYMENT
    other.name, name = type(other.name)("hs9.test"), other.name
    try:
        nobody = give_back(one, other, WireId("A" * 43))
    finally:
        other.name = name
    assert isinstance(nobody, Refused)
    assert nobody.reason is Reason.UNKNOWN_PEER


def test_it_stands_in_the_operators_log_once(pair: Pair) -> None:
    one, other = pair
    wire_id = committed(pair)
    for _ in range(2):
        give_back(one, other, wire_id)

    logged = one.tx(lambda cur: operators.acts(cur, None, 10))
    assert [(act.operator, act.reason) for act in logged if act.deed == "advance"] == [
        ("@admin:hs1.test", "gone for good")
    ]
