"""Requests as they are kept: whom they ask, their pages, and events that are owed, on both databases."""

from dataclasses import replace

import pytest

from super_app.db import Cursor, Transaction
from super_app.ids import EventId, PaymentId, RoomId, UserId
from super_app.money import AssetCode, Money
from super_app.requests import store
from super_app.requests.model import Answer, Contribution, Kind, Outgoing, Payer, Request, RequestId, RequestKey

pytestmark = pytest.mark.packages(
    "super_app.accounts",
    "super_app.operations",
    "super_app.ledger",
    "super_app.clearing",
    "super_app.payments",
    "super_app.requests",
)

ALICE, BOB, CAROL = (UserId(f"@{name}:hs1.test") for name in ("alice", "bob", "carol"))
ROOM = RoomId("!room:hs1.test")
NOW_MS = 1_700_000_000_000
LATEST = (NOW_MS * 2, "", "")


def number(value: int) -> RequestId:
    return RequestId(f"{value:032x}")


def request(value: int = 1, *, requester: UserId = ALICE, payers: tuple[UserId, ...] = (BOB,)) -> Request:
    return Request(
        requester=requester,
        request_id=number(value),
        money=Money(amount_minor=2**53 - 1, currency=AssetCode("EUR")),
        memo="Käse ✓",
        room_id=ROOM,
        event_id=None,
        payers=tuple(Payer(user_id=each) for each in payers),
        cancelled_ms=None,
        created_ms=NOW_MS,
        expires_ms=NOW_MS + 1_000,
    )


def add(transaction: Transaction, *requests: Request) -> None:
    for each in requests:
        transaction(lambda cur, each=each: store.add(cur, each))  # type: ignore[misc]


def found(transaction: Transaction, key: RequestKey) -> Request | None:
    return transaction(lambda cur: store.find(cur, key))


def test_a_request_comes_back_as_it_was_made(transaction: Transaction) -> None:
    plain = request()
    split = replace(
        request(2, payers=(BOB, CAROL)),
        kind=Kind.SPLIT,
        payers=(Payer(user_id=BOB, part_minor=1), Payer(user_id=CAROL, part_minor=2)),
        memo=None,
    )
    add(transaction, plain, split)
    assert found(transaction, plain.key) == plain
    assert found(transaction, split.key) == split
    assert found(transaction, RequestKey(requester=BOB, request_id=number(1))) is None


def test_what_becomes_of_it_is_kept_for_the_one_whom_it_concerns(transaction: Transaction) -> None:
    made = request(payers=(BOB, CAROL))
    add(transaction, made)
    paid = Payer(user_id=BOB, answer=Answer.PAID, payment_id=PaymentId("c" * 32))

    def change(cur: Cursor) -> None:
        store.set_event(cur, made.key, EventId("$asked"))
        store.put_payer(cur, made.key, paid)
        store.excuse(cur, made.key, CAROL, NOW_MS)
        store.set_reminded(cur, made.key, NOW_MS + 1)
        store.set_cancelled(cur, made.key, NOW_MS + 2)

    transaction(change)
    assert found(transaction, made.key) == replace(
        made,
        event_id=EventId("$asked"),
        payers=(paid, Payer(user_id=CAROL, answer=Answer.EXCUSED)),
        reminded_ms=NOW_MS + 1,
        cancelled_ms=NOW_MS + 2,
    )
    # Who was let off and pays all the same has paid.
    late = Payer(user_id=CAROL, answer=Answer.PAYING, payment_id=PaymentId("d" * 32))
    transaction(lambda cur: store.put_payer(cur, made.key, late))
    kept = found(transaction, made.key)
    assert kept is not None
    assert kept.payer(CAROL) == late


def test_what_was_put_towards_a_goal_is_replaced_as_a_whole_and_goes_with_it(transaction: Transaction) -> None:
    goal = replace(request(payers=()), kind=Kind.GOAL)
    add(transaction, goal)
    given = Contribution(payer=BOB, payment_id=PaymentId("e" * 32), amount_minor=5, paid=True)
    begun = Contribution(payer=CAROL, payment_id=PaymentId("f" * 32), amount_minor=7, paid=False)
    transaction(lambda cur: store.put_contributions(cur, goal.key, [given, begun]))
    kept = found(transaction, goal.key)
    assert kept is not None
    assert set(kept.contributions) == {given, begun}
    assert kept.paid_minor == 5
    # Who gave sees it among theirs, though nobody asked them by name.
    assert transaction(lambda cur: store.page(cur, BOB, LATEST, 10)) == (kept,)
    transaction(lambda cur: store.put_contributions(cur, goal.key, []))
    assert transaction(lambda cur: store.page(cur, BOB, LATEST, 10)) == ()
    transaction(lambda cur: store.remove(cur, goal.key))
    assert found(transaction, goal.key) is None


def test_pages_go_on_where_the_last_one_ended_and_show_each_person_their_own(transaction: Transaction) -> None:
    mine = [replace(request(value), created_ms=NOW_MS + value // 2) for value in range(1, 6)]
    asked = request(9, requester=BOB, payers=(ALICE, CAROL))
    add(transaction, *mine, asked, request(8, requester=BOB, payers=(CAROL,)))
    seen: list[Request] = []
    before = LATEST
    while page := transaction(lambda cur, before=before: store.page(cur, ALICE, before, 2)):  # type: ignore[misc]
        seen += page
        before = (page[-1].created_ms, page[-1].requester, page[-1].request_id)
    wanted = sorted([*mine, asked], key=lambda each: (each.created_ms, each.requester, each.request_id), reverse=True)
    assert seen == wanted
    assert transaction(lambda cur: store.asked_under(cur, CAROL, number(9))) == (asked,)
    assert transaction(lambda cur: store.asked_under(cur, CAROL, number(1))) == ()


def test_those_count_as_open_that_still_wait_for_somebody(transaction: Transaction) -> None:
    requests = [request(value) for value in range(1, 5)]
    add(transaction, *requests, request(7, payers=(CAROL,)), request(8, requester=CAROL))

    def count(now_ms: int = NOW_MS) -> int:
        return transaction(lambda cur: store.count_open(cur, ALICE, BOB, now_ms))

    assert count() == 4
    transaction(lambda cur: store.set_cancelled(cur, requests[0].key, NOW_MS))
    declined = Payer(user_id=BOB, answer=Answer.DECLINED)
    transaction(lambda cur: store.put_payer(cur, requests[1].key, declined))
    assert count() == 2
    assert count(NOW_MS + 1_000) == 0


def test_what_a_payment_from_elsewhere_said_first_counts(transaction: Transaction) -> None:
    payment_id = PaymentId("a" * 32)
    first, second = request(1).key, request(2).key
    for key in (first, second):
        transaction(lambda cur, key=key: store.name(cur, BOB, payment_id, key))  # type: ignore[misc]
    assert transaction(lambda cur: store.named(cur, BOB, payment_id)) == first
    assert transaction(lambda cur: store.named(cur, CAROL, payment_id)) is None


@pytest.mark.runs_once
def test_an_event_is_owed_once_until_it_is_sent(transaction: Transaction) -> None:
    event = Outgoing(
        outbox_id="one",
        room_id=ROOM,
        sender=ALICE,
        event_type="org.superapp.payment.request",
        content={"memo": "Käse ✓", "amount": 2**53 - 1},
        attempts=0,
        due_ms=NOW_MS,
    )
    for each in (event, replace(event, content={})):
        transaction(lambda cur, each=each: store.post(cur, each))  # type: ignore[misc]
    assert transaction(lambda cur: store.owed(cur, NOW_MS, 10)) == (event,)
    transaction(lambda cur: store.put_off(cur, "one", NOW_MS + 5))
    assert transaction(lambda cur: store.owed(cur, NOW_MS, 10)) == ()
    assert transaction(lambda cur: store.owed(cur, NOW_MS + 5, 10)) == (replace(event, attempts=1, due_ms=NOW_MS + 5),)
    transaction(lambda cur: store.sent(cur, "one"))
    assert transaction(lambda cur: store.owed(cur, NOW_MS + 5, 10)) == ()
