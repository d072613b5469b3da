"""How a request is split: the parts and the requester's own make the total to the last unit, the same way each time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from super_app.errors import Reason, Refused
from super_app.ids import EventId, PaymentId, RoomId, UserId
from super_app.money import AssetCode, Money
from super_app.requests import rules
from super_app.requests.model import (
    REMIND_PAUSE_MS,
    Answer,
    Contribution,
    Kind,
    Payer,
    Request,
    RequestContent,
    RequestId,
    State,
)

ALICE, BOB, CAROL = (UserId(f"@{name}:hs1.test") for name in ("alice", "bob", "carol"))


def request(*payers: Payer, kind: Kind = Kind.SPLIT, amount: int = 100, **fields: object) -> Request:
    whole = {
        "requester": ALICE,
        "request_id": RequestId("a" * 32),
        "money": Money(amount_minor=amount, currency=AssetCode("EUR")),
        "memo": None,
        "room_id": RoomId("!r:hs1.test"),
        "event_id": EventId("$e"),
        "payers": payers,
        "cancelled_ms": None,
        "created_ms": 0,
        "expires_ms": 1_000,
        "kind": kind,
        **fields,
    }
    return Request(**whole)  # type: ignore[arg-type]


def payer(who: UserId, answer: Answer = Answer.OPEN, part: int = 50) -> Payer:
    paid = answer in (Answer.PAYING, Answer.PAID)
    return Payer(user_id=who, answer=answer, part_minor=part, payment_id=PaymentId("b" * 32) if paid else None)


def reason_of(result: object) -> Reason | None:
    return result.reason if isinstance(result, Refused) else None


@given(total=st.integers(1, 2**53 - 1), payers=st.integers(1, 50), mine=st.booleans())
def test_an_equal_split_is_exact_and_nobody_pays_more_than_a_unit_more(total: int, payers: int, mine: bool) -> None:
    parts = rules.split_equally(total, payers, with_requester=mine)
    if isinstance(parts, Refused):
        assert total < payers + mine
        return
    own = total - sum(parts)
    assert own >= 0
    assert own == 0 or mine
    everybody = [*parts, own] if mine else list(parts)
    assert max(everybody) - min(everybody) <= 1


@given(total=st.integers(1, 2**53 - 1), weights=st.lists(st.integers(1, 1_000), min_size=1, max_size=50))
def test_a_split_by_shares_is_exact(total: int, weights: list[int]) -> None:
    parts = rules.split_by_weight(total, weights)
    if not isinstance(parts, Refused):
        assert sum(parts) == total


def test_the_odd_unit_is_the_requesters_where_they_share_and_else_the_firsts() -> None:
    assert rules.split_equally(1_000, 2, with_requester=True) == (333, 333)
    assert rules.split_equally(1_000, 3, with_requester=False) == (334, 333, 333)
    # 100 yen among three, 1.000 dinar among seven.
    assert rules.split_equally(100, 3, with_requester=False) == (34, 33, 33)
    assert rules.split_equally(1_000, 7, with_requester=False) == (143, 143, 143, 143, 143, 143, 142)
    assert rules.split_by_weight(1_000, [2, 1], mine=1) == (500, 250)


def test_what_cannot_be_split_is_refused() -> None:
    assert reason_of(rules.split_equally(2, 3, with_requester=False)) is Reason.INVALID_AMOUNT
    assert reason_of(rules.split_by_weight(100, [1, 0])) is Reason.INVALID_VALUE
    assert reason_of(rules.split_by_weight(100, [1], mine=-1)) is Reason.INVALID_VALUE
    assert rules.split_by_amount(100, [30, 70]) == (30, 70)
    assert rules.split_by_amount(100, [30, 20]) == (30, 20)
    assert reason_of(rules.split_by_amount(100, [30, 71])) is Reason.INVALID_AMOUNT
    assert reason_of(rules.split_by_amount(100, [0, 71])) is Reason.INVALID_AMOUNT


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Kind.EACH),
        ({"from": [BOB, CAROL], "parts": [30, 70]}, Kind.SPLIT),
        ({"goal": True}, Kind.GOAL),
        ({"from": [BOB], "parts": [30, 70]}, Reason.INVALID_VALUE),
        ({"parts": [100]}, Reason.INVALID_VALUE),
        ({"from": [BOB, BOB], "parts": [30, 70]}, Reason.INVALID_VALUE),
        ({"from": [BOB, CAROL], "parts": [30, 71]}, Reason.INVALID_AMOUNT),
        ({"from": [BOB, CAROL], "parts": [-30, 130]}, Reason.INVALID_AMOUNT),
        ({"from": [BOB, CAROL], "parts": [30.0, 70.0]}, Reason.INVALID_AMOUNT),
        ({"from": [BOB], "goal": True}, Reason.INVALID_VALUE),
    ],
)
def test_an_event_says_what_kind_it_is_or_is_refused(fields: dict[str, object], expected: object) -> None:
    content = RequestContent.parse({"request_id": "a" * 32, "amount": 100, "currency": "EUR", **fields})
    assert isinstance(content, RequestContent)
    kind = rules.read_kind(content, Money(amount_minor=100, currency=AssetCode("EUR")))
    assert (reason_of(kind) or kind) == expected


def test_a_split_is_paid_when_all_have_who_were_not_let_off() -> None:
    def state(*payers: Payer) -> State:
        return rules.state_of(request(*payers), ALICE, 1)

    assert state(payer(BOB, Answer.PAID), payer(CAROL)) is State.OPEN
    assert state(payer(BOB, Answer.PAID), payer(CAROL, Answer.EXCUSED)) is State.PAID
    assert state(payer(BOB, Answer.PAID), payer(CAROL, Answer.DECLINED)) is State.DECLINED
    assert state(payer(BOB, Answer.EXCUSED), payer(CAROL, Answer.EXCUSED)) is State.CANCELLED
    assert state(payer(BOB, Answer.PAYING), payer(CAROL)) is State.PAYING
    let_off = request(payer(BOB, Answer.EXCUSED), payer(CAROL))
    assert rules.state_of(let_off, BOB, 1) is State.CANCELLED


def test_who_has_paid_or_is_not_asked_is_not_let_off() -> None:
    asked = request(payer(BOB, Answer.PAID), payer(CAROL))
    assert reason_of(rules.judge_excuse(asked, BOB, 1)) is Reason.REQUEST_CLOSED
    assert reason_of(rules.judge_excuse(asked, ALICE, 1)) is Reason.INVALID_VALUE
    assert rules.judge_excuse(asked, CAROL, 1) is True
    assert rules.judge_excuse(request(payer(CAROL, Answer.EXCUSED)), CAROL, 1) is False
    assert reason_of(rules.judge_excuse(asked, CAROL, 1_000)) is Reason.REQUEST_CLOSED


def test_reminders_come_once_a_day_and_only_where_somebody_is_waited_for() -> None:
    waiting = request(payer(BOB), expires_ms=2**50)
    assert rules.judge_reminder(waiting, 5) is None
    reminded = request(payer(BOB), expires_ms=2**50, reminded_ms=5)
    refused = rules.judge_reminder(reminded, 6)
    assert refused is not None
    assert (refused.reason, refused.fields["retry_after_ms"]) == (Reason.REMINDED_RECENTLY, REMIND_PAUSE_MS - 1)
    assert rules.judge_reminder(reminded, 5 + REMIND_PAUSE_MS) is None
    for over in (request(payer(BOB, Answer.PAID)), request(payer(BOB, Answer.DECLINED)), request(payer(BOB))):
        assert reason_of(rules.judge_reminder(over, 1_000)) is Reason.REQUEST_CLOSED
    paying = request(payer(BOB, Answer.PAYING), expires_ms=2**50)
    assert reason_of(rules.judge_reminder(paying, 5)) is Reason.REQUEST_CLOSED


def test_contributions_come_and_go_with_their_payments_and_what_is_paid_stays() -> None:
    one, two = PaymentId("1" * 32), PaymentId("2" * 32)
    begun = rules.after_contribution((), BOB, one, 30, Answer.PAYING)
    assert begun == (Contribution(payer=BOB, payment_id=one, amount_minor=30, paid=False),)
    assert rules.after_contribution(begun, BOB, one, 30, Answer.OPEN) == ()
    paid = rules.after_contribution(begun, BOB, one, 30, Answer.PAID)
    assert rules.after_contribution(paid, BOB, one, 30, Answer.OPEN) == paid
    both = rules.after_contribution(paid, BOB, two, 70, Answer.PAID)
    goal = request(kind=Kind.GOAL, contributions=both)
    assert (goal.paid_minor, rules.state_of(goal, CAROL, 1)) == (100, State.PAID)
    assert rules.state_of(request(kind=Kind.GOAL, contributions=paid), CAROL, 1) is State.OPEN
    assert rules.state_of(request(kind=Kind.GOAL, contributions=paid), CAROL, 1_000) is State.EXPIRED
