"""What a restore makes of money that stands elsewhere than where it began, and of a peer that plays with ids."""

from dataclasses import replace

import pytest
from nodes import EUR, Node, acct_of, deliver, exchange, forge, linked
from restores import backup, restore, suspense
from world import new_disk

from super_app.clearing import objects, rules, store
from super_app.clearing.model import ChainObject, LinkPhase, MessageType, Sender, Stored, Trouble
from super_app.clearing.ports import WireId
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ledger import service as ledger
from super_app.ledger.model import HoldId
from super_app.money import Money
from super_app.signing import canonical, digest

FUNDS_MINOR, AMOUNT_MINOR = 1_000, 300


@pytest.fixture
def pair() -> tuple[Node, Node]:
    one, other = Node("hs1.test", new_disk()), Node("hs2.test", new_disk())
    for node in (one, other):
        node.create()
    linked(one, other)
    one.issue(one.user("alice"), FUNDS_MINOR)
    return one, other


def lose_and_claim(one: Node, other: Node, *claims: tuple[MessageType, dict[str, object]]) -> None:
    """The database of ``one`` is lost, and the chain of ``other`` goes on with whatever it likes to say."""
    copy = backup(one)
    for kind, fields in claims:
        claim = forge(other, one, kind, **newest_of(other, one), **fields)

        def write(cur: Cursor, content: dict[str, object] = claim) -> None:
            link = store.link(cur, objects.link_id_of(one.name, other.name))
            found = objects.read_object(content)
            assert link is not None
            assert isinstance(found, ChainObject)
            stored = Stored(
                sender=Sender.OURS,
                epoch=found.epoch,
                seq=found.seq,
                message_id=found.message_id,
                type=found.type,
                wire_id=found.subject,
                prev_hash=found.prev_hash,
                signature=found.signature,
                body=canonical(content).decode(),
            )
            store.add_object(cur, link.link_id, stored, other.now_ms)
            store.put_link(cur, replace(link, our_seq=stored.seq, our_hash=stored.message_id))

        other.tx(write)
    restore(one, copy, boot="lost")


def newest_of(node: Node, peer: Node) -> dict[str, object]:
    """The place behind the newest object of its chain."""
    link = node.tx(lambda cur: store.link(cur, objects.link_id_of(node.name, peer.name)))
    assert link is not None
    return {"epoch": link.our_epoch, "seq": link.our_seq + 1, "prev_hash": link.our_hash}


def give_back(one: Node, other: Node, wire_id: WireId | Refused) -> None:
    assert not isinstance(wire_id, Refused)
    given = one.tx(
        lambda cur: one.clearing.give_back(
            cur, other.name, wire_id, reason="gone", operator="@admin:hs1.test", now_ms=one.now_ms
        )
    )
    assert not isinstance(given, Refused)


def check(one: Node, other: Node) -> None:
    assert one.link(other).phase is LinkPhase.OPEN
    assert one.violations() == other.violations() == []
    assert one.due_to(other) == other.due_from(one)
    assert one.available(one.user("alice")) + one.held(one.user("alice")) + one.due_to(other) + suspense(one) == (
        FUNDS_MINOR + one.due_from(other)
    )


def settled_until_sent(one: Node, other: Node, amount_minor: int) -> str:
    """``one`` has said that it paid so much; gives the id."""
    desk = one.clearing.settlements
    made = one.tx(lambda cur: desk.propose(cur, other.name, EUR.code, amount_minor, one.now_ms))
    assert not isinstance(made, Refused)
    which = made.terms.settlement_id
    exchange(one, other)
    creditor = other.clearing.settlements
    agreed = other.tx(lambda cur: creditor.agree(cur, one.name, which, None, other.now_ms))
    assert not isinstance(agreed, Refused)
    exchange(one, other)
    sent = one.tx(lambda cur: desk.sent(cur, other.name, which, "", one.now_ms))
    assert not isinstance(sent, Refused)
    exchange(one, other)
    return which


def test_what_was_given_back_and_voided_is_not_given_twice(pair: tuple[Node, Node]) -> None:
    one, other = pair
    wire_id = one.pay(one.order(one.user("alice"), other.user("bob"), AMOUNT_MINOR))
    (offer,) = one.errands(other)
    deliver(one, other, offer)
    give_back(one, other, wire_id)
    copy = backup(one)
    # The peer's reservation lapses, and the limit no longer carries it: RECEIPT(void), which the copy does not know.
    for node in pair:
        node.now_ms += 700_000
    other.tick()
    other.open_link(one, 1)
    exchange(one, other)
    assert suspense(one) == 0
    restore(one, copy, boot="2")
    exchange(one, other)
    assert one.available(one.user("alice")) == FUNDS_MINOR
    assert suspense(one) == one.due_to(other) == 0
    check(one, other)


def test_what_was_given_back_and_aborted_is_not_given_twice(pair: tuple[Node, Node]) -> None:
    one, other = pair
    wire_id = one.pay(one.order(one.user("alice"), other.user("bob"), AMOUNT_MINOR))
    one.start("2")
    give_back(one, other, wire_id)
    copy = backup(one)
    for node in pair:
        node.now_ms += 120_000
    exchange(one, other)
    one.tick()
    exchange(one, other)
    assert suspense(one) == 0
    restore(one, copy, boot="3")
    exchange(one, other)
    assert one.wallet(one.user("alice"), EUR) == (FUNDS_MINOR, 0)
    assert suspense(one) == 0
    check(one, other)


def test_another_hold_under_the_same_id_does_not_pay_for_what_was_committed(pair: tuple[Node, Node]) -> None:
    one, other = pair
    copy = backup(one)
    order = one.order(one.user("alice"), other.user("bob"), AMOUNT_MINOR)
    one.pay(order)
    exchange(one, other)
    restore(one, copy, boot="2")
    # Before the link is back, the payer uses the id again, for much less.
    hold_id = HoldId(f"{acct_of(one.user('alice'))}:{order.payment_id}")
    money = Money(amount_minor=1, currency=EUR.code)
    assert not isinstance(
        one.tx(lambda cur: ledger.place_hold(cur, hold_id, acct_of(one.user("alice")), money, one.now_ms)), Refused
    )
    exchange(one, other)
    assert one.due_to(other) == AMOUNT_MINOR
    assert one.wallet(one.user("alice"), EUR) == (FUNDS_MINOR - AMOUNT_MINOR - 1, 1)
    check(one, other)


def test_a_peer_that_pays_under_the_id_of_our_payment_changes_no_amount(pair: tuple[Node, Node]) -> None:
    one, other = pair
    copy = backup(one)
    ours = one.order(one.user("alice"), other.user("bob"), 1)
    wire_id = one.pay(ours)
    exchange(one, other)
    # The opening says what the id is made of, and an account is whatever its own server calls so.
    other.issue(one.user("alice"), FUNDS_MINOR)
    named = other.order(other.user("bob"), one.user("alice"), AMOUNT_MINOR, number=int(ours.payment_id, 16))
    theirs = replace(
        named,
        payer=replace(named.payer, acct=ours.payer.acct),
        hold_id=HoldId(f"{ours.payer.acct}:{ours.payment_id}"),
        wire_salt=ours.wire_salt,
    )
    assert other.pay(theirs) == wire_id
    exchange(one, other)
    restore(one, copy, boot="2")
    exchange(one, other)
    assert one.available(one.user("alice")) == FUNDS_MINOR - 1 + AMOUNT_MINOR
    assert suspense(one) == 0
    check(one, other)


def test_an_id_that_was_used_again_with_a_third_server_holds_no_recovery_up(pair: tuple[Node, Node]) -> None:
    one, other = pair
    third = Node("hs3.test", new_disk())
    third.create()
    linked(one, third)
    copy = backup(one)
    order = one.order(one.user("alice"), other.user("bob"), AMOUNT_MINOR)
    one.pay(order)
    exchange(one, other)
    restore(one, copy, boot="2")
    exchange(one, third)
    again = one.order(one.user("alice"), third.user("carol"), 50, number=int(order.payment_id, 16))
    assert not isinstance(one.pay(again), Refused)
    exchange(one, third)
    exchange(one, other)
    assert (one.due_to(other), one.due_to(third)) == (AMOUNT_MINOR, 50)
    assert one.wallet(one.user("alice"), EUR) == (FUNDS_MINOR - AMOUNT_MINOR - 50, 0)
    assert one.link(other).phase is LinkPhase.OPEN
    assert one.violations() == []


@pytest.mark.parametrize(
    "claim",
    [
        (MessageType.SETTLE_SENT, {}),
        (MessageType.SETTLE_RECEIVED, {"received": 900_000}),
        (MessageType.SETTLE_NOT_RECEIVED, {"reason": "nothing_came"}),
        (MessageType.SETTLE_AGREE, {}),
    ],
)
def test_a_peer_brings_back_no_settlement_that_we_had_no_part_in(
    pair: tuple[Node, Node], claim: tuple[MessageType, dict[str, object]]
) -> None:
    one, other = pair
    kind, fields = claim
    terms = {"settlement_id": digest("made up"), "amount": 900_000, "currency": EUR.code, "scale": EUR.scale}
    lose_and_claim(one, other, (kind, {**terms, **fields}))
    exchange(one, other)
    assert one.link(other).phase is LinkPhase.OPEN
    assert one.violations() == []
    assert suspense(one) == 0


def test_a_peer_receives_no_more_than_we_sent_through_a_restore(pair: tuple[Node, Node]) -> None:
    one, other = pair
    one.pay(one.order(one.user("alice"), other.user("bob"), AMOUNT_MINOR))
    exchange(one, other)
    sent = settled_until_sent(one, other, AMOUNT_MINOR)
    terms = {"settlement_id": sent, "amount": 900_000, "currency": EUR.code, "scale": EUR.scale}
    lose_and_claim(one, other, (MessageType.SETTLE_RECEIVED, {**terms, "received": 900_000}))
    exchange(one, other)
    assert one.link(other).phase is LinkPhase.OPEN
    assert one.violations() == []
    assert suspense(one) == 0


def test_a_peer_that_contradicts_itself_while_we_recover_is_frozen_afterwards(pair: tuple[Node, Node]) -> None:
    one, other = pair
    other.open_link(one, 5)
    exchange(one, other)
    restore(one, backup(one), boot="2")
    limit = other.chain(one)[-1]
    assert limit["type"] == "LIMIT"
    second = {name: value for name, value in limit.items() if name not in ("signature", "key_id")} | {"limit": 6}
    one.receive(other, {"object": objects.seal(second, other.key)})
    exchange(one, other)
    assert one.link(other).phase is LinkPhase.FROZEN


def test_a_peer_that_takes_no_fence_does_not_keep_us_busy(pair: tuple[Node, Node]) -> None:
    one, other = pair
    restore(one, backup(one), boot="2")
    fences: list[int] = []
    for _ in range(1_000):
        for errand in one.errands(other):
            if errand.type is MessageType.FENCE:
                fences.append(errand.epoch)
                one.failed(errand, Trouble.REFUSED, Reason.EPOCH_CLOSED)
            else:
                deliver(one, other, errand)
        if not one.errands(other):
            one.now_ms += rules.RECOVERING_RETRY_MS
    assert one.now_ms - other.now_ms >= rules.RECOVERING_RETRY_MS * (len(fences) - 1)
    assert max(fences) <= 1 + rules.MAX_EPOCHS_AHEAD
    # And when it does, the link comes back.
    other.now_ms = one.now_ms
    exchange(one, other)
    assert one.link(other).phase is LinkPhase.OPEN
