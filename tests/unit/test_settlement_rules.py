"""The decisions of settlement: banking days, schedules, references, accounts to pay to."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from super_app.clearing import settlement_rules
from super_app.clearing.links import new_link
from super_app.clearing.model import CurrencyLine, LinkId, MessageType, SettlementId, SettlementTerms
from super_app.clearing.settlement_model import (
    AutoSettle,
    Every,
    Position,
    Said,
    Settlement,
    SettlementState,
    Way,
)
from super_app.clearing.settlement_rules import SettleMove, WaitsFor
from super_app.ids import ServerName
from super_app.money import Asset, AssetCode
from super_app.signing import digest

DAY_MS = 86_400_000
MONDAY_MS = 1_700_438_400_000
"""Monday 2023-11-20, 00:00 UTC."""
NOON_MS = 12 * 3_600_000


@pytest.mark.parametrize(
    ("weekday", "days", "later"),
    [(0, 5, 7), (0, 4, 4), (0, 1, 1), (3, 1, 4), (4, 1, 7), (4, 5, 11), (1, 5, 8)],
)
def test_banking_days_skip_weekends(weekday: int, days: int, later: int) -> None:
    from_ms = MONDAY_MS + weekday * DAY_MS + NOON_MS
    assert settlement_rules.banking_days_later(from_ms, days) == MONDAY_MS + later * DAY_MS + NOON_MS


@pytest.mark.parametrize("weekday", [5, 6])
def test_a_weekend_counts_as_the_start_of_its_monday(weekday: int) -> None:
    from_ms = MONDAY_MS + weekday * DAY_MS + NOON_MS
    assert settlement_rules.banking_days_later(from_ms, 5) == MONDAY_MS + 14 * DAY_MS


@given(st.integers(0, 2**42), st.integers(1, 30))
def test_banking_days_end_on_a_banking_day_and_are_at_least_so_many_days(from_ms: int, days: int) -> None:
    end_ms = settlement_rules.banking_days_later(from_ms, days)
    assert ((end_ms - MONDAY_MS) // DAY_MS) % 7 < 5
    assert days * DAY_MS <= end_ms - from_ms <= (days + 2 * (days // 5 + 1)) * DAY_MS


@given(st.integers(0, 2**42), st.sampled_from([Every.DAY, Every.WEEK]), st.integers(1, 7), st.integers(0, 1439))
def test_the_next_turn_is_after_now_and_at_its_time(after_ms: int, every: Every, weekday: int, minute: int) -> None:
    auto = AutoSettle(currency=AssetCode("EUR"), every=every, weekday=weekday, minute_of_day=minute)
    turn_ms = settlement_rules.next_turn_ms(auto, after_ms)
    assert turn_ms is not None
    assert 0 < turn_ms - after_ms <= (DAY_MS if every is Every.DAY else 7 * DAY_MS)
    assert turn_ms % DAY_MS == minute * 60_000
    assert every is Every.DAY or ((turn_ms - MONDAY_MS) // DAY_MS) % 7 == weekday - 1


def test_what_has_no_schedule_has_no_turn() -> None:
    assert settlement_rules.next_turn_ms(AutoSettle(currency=AssetCode("EUR")), 0) is None


def reference(settlement_id: str = "A" * 43, debtor: str = "hs1.test") -> str:
    return settlement_rules.reference_of(LinkId("L" * 43), ServerName(debtor), SettlementId(settlement_id))


def test_a_reference_is_a_creditor_reference_of_iso_11649() -> None:
    # The example of the standard's own users, and ours.
    assert settlement_rules.is_reference("RF18539007547034")
    assert settlement_rules.is_reference(reference())
    assert reference() == "RF57TVDDPF4CYZNP"


@pytest.mark.parametrize("text", ["RF741", "RF21777777777777777777777"])
def test_a_reference_has_5_to_25_characters(text: str) -> None:
    assert settlement_rules.is_reference(text)


@pytest.mark.parametrize("place", range(16))
def test_a_letter_mistyped_as_a_letter_or_a_digit_as_a_digit_is_noticed(place: int) -> None:
    # A letter counts as two digits, so one in 97 of the letters that became a digit, or the other way, is not.
    right = reference()
    for char in "0123456789" if right[place].isdigit() else "ABCDEFGHJKMNPQRSTVWXYZ":
        wrong = right[:place] + char + right[place + 1 :]
        assert settlement_rules.is_reference(wrong) is (wrong == right), wrong


@pytest.mark.parametrize(
    "text",
    [
        "",
        "RF",
        "RF18",
        "rf18539007547034",
        "RF18 5390",
        "RFAB539007547034",
        "RFA345",
        "RF18é",
        "X" * 16,
        "RF82" + "7" * 22,
    ],
)
def test_what_is_no_reference(text: str) -> None:
    assert not settlement_rules.is_reference(text)


def test_a_reference_names_one_settlement_of_one_debtor() -> None:
    assert len({reference(), reference("B" * 43), reference(debtor="hs2.test")}) == 3


@pytest.mark.parametrize(
    ("pay_to", "paid"),
    [
        ("payto://iban/DE75", "payto://iban/DE75?amount=EUR:0.05&message=RF1"),
        ("payto://iban/DE75?receiver-name=A", "payto://iban/DE75?receiver-name=A&amount=EUR:0.05&message=RF1"),
        ("payto://iban/DE75?amount=EUR:9&Message=x&instruction=y", "payto://iban/DE75?amount=EUR:0.05&message=RF1"),
        ("payto://iban/DE75?", "payto://iban/DE75?amount=EUR:0.05&message=RF1"),
        ("payto://iban/DE75?amount&message=a=b", "payto://iban/DE75?amount=EUR:0.05&message=RF1"),
        ("payto://iban/DE75?a=1&&b=2", "payto://iban/DE75?a=1&b=2&amount=EUR:0.05&message=RF1"),
    ],
)
def test_a_creditor_says_where_to_pay_and_not_how_much(pay_to: str, paid: str) -> None:
    assert settlement_rules.payto_of(pay_to, 5, Asset(code=AssetCode("EUR"), scale=2), "RF1") == paid


def test_the_id_of_a_settlement_is_that_of_the_next_place_in_our_chain() -> None:
    link = replace(LINK, our_epoch=3, our_seq=7)
    assert settlement_rules.settlement_id_of(link, ServerName("hs1.test")) == digest(
        ["settlement", link.link_id, "hs1.test", 3, 8]
    )


# What an object does.

EUR = AssetCode("EUR")
LINK = new_link(LinkId("L" * 43), ServerName("peer.test"))
TERMS = SettlementTerms(settlement_id=SettlementId("S" * 43), amount_minor=500, currency=EUR, scale=2)
PROPOSE, CANCEL, SENT = MessageType.SETTLE_PROPOSE, MessageType.SETTLE_CANCEL, MessageType.SETTLE_SENT
AGREE, REFUSE = MessageType.SETTLE_AGREE, MessageType.SETTLE_REFUSE
RECEIVED, NOT_RECEIVED = MessageType.SETTLE_RECEIVED, MessageType.SETTLE_NOT_RECEIVED
State = SettlementState
FRESH = Settlement(
    link_id=LINK.link_id,
    peer=LINK.peer,
    way=Way.OUT,
    terms=TERMS,
    state=State.PROPOSED,
    answer=None,
    proposed=False,
    reason="",
    pay_to="",
    bank_reference="",
    received_minor=0,
    covered_minor=0,
    opened_ms=1_000,
    changed_ms=1_000,
    due_ms=None,
)


def known(state: SettlementState, **changes: Any) -> Settlement:
    return replace(FRESH, **{"state": state, "proposed": True, **changes})


def said(kind: MessageType, **changes: Any) -> Said:
    return replace(Said(kind=kind, terms=TERMS), **changes)


@pytest.mark.parametrize("way", Way)
def test_a_new_settlement_is_proposed_and_nothing_more(way: Way) -> None:
    assert settlement_rules.new(LINK, way, TERMS, 1_000) == replace(FRESH, way=way)


@pytest.mark.parametrize(
    ("state", "propose", "cancel", "sent"),
    [
        (None, SettleMove.TAKE, SettleMove.TAKE, SettleMove.UNKNOWN),
        (State.PROPOSED, SettleMove.CONFLICT, SettleMove.TAKE, SettleMove.CONFLICT),
        (State.AGREED, SettleMove.CONFLICT, SettleMove.TAKE, SettleMove.TAKE),
        (State.REFUSED, SettleMove.CONFLICT, SettleMove.TAKE, SettleMove.CONFLICT),
        (State.CANCELLED, SettleMove.CONFLICT, SettleMove.CONFLICT, SettleMove.CONTRADICTION),
        (State.SENT, SettleMove.CONFLICT, SettleMove.CONTRADICTION, SettleMove.CONFLICT),
        (State.DISPUTED, SettleMove.CONFLICT, SettleMove.CONTRADICTION, SettleMove.CONFLICT),
        (State.RECEIVED, SettleMove.CONFLICT, SettleMove.CONTRADICTION, SettleMove.CONFLICT),
        (State.NOT_RECEIVED, SettleMove.CONFLICT, SettleMove.CONTRADICTION, SettleMove.CONFLICT),
    ],
)
def test_what_an_object_of_the_debtor_does(
    state: SettlementState | None, propose: SettleMove, cancel: SettleMove, sent: SettleMove
) -> None:
    stands = None if state is None else known(state)
    for kind, move in ((PROPOSE, propose), (CANCEL, cancel), (SENT, sent)):
        assert settlement_rules.on_debtors_object(stands, said(kind)) is move, kind


def test_a_proposal_that_comes_after_its_cancellation_is_kept() -> None:
    stands = known(State.CANCELLED, proposed=False)
    assert settlement_rules.on_debtors_object(stands, said(PROPOSE)) is SettleMove.KEEP


@pytest.mark.parametrize(
    ("stands", "kind", "move"),
    [
        (None, AGREE, SettleMove.UNKNOWN),
        (None, RECEIVED, SettleMove.UNKNOWN),
        (known(State.PROPOSED), AGREE, SettleMove.TAKE),
        (known(State.PROPOSED), REFUSE, SettleMove.TAKE),
        (known(State.CANCELLED), AGREE, SettleMove.KEEP),
        (known(State.CANCELLED), REFUSE, SettleMove.KEEP),
        (known(State.AGREED, answer=AGREE), AGREE, SettleMove.CONFLICT),
        (known(State.AGREED, answer=AGREE), REFUSE, SettleMove.CONTRADICTION),
        (known(State.REFUSED, answer=REFUSE), AGREE, SettleMove.CONTRADICTION),
        (known(State.SENT, answer=AGREE), RECEIVED, SettleMove.TAKE),
        (known(State.SENT, answer=AGREE), NOT_RECEIVED, SettleMove.TAKE),
        (known(State.DISPUTED, answer=AGREE), RECEIVED, SettleMove.TAKE),
        (known(State.DISPUTED, answer=AGREE), NOT_RECEIVED, SettleMove.TAKE),
        (known(State.RECEIVED, answer=AGREE), RECEIVED, SettleMove.CONFLICT),
        (known(State.RECEIVED, answer=AGREE, received_minor=499), RECEIVED, SettleMove.CONTRADICTION),
        (known(State.RECEIVED, answer=AGREE), NOT_RECEIVED, SettleMove.CONTRADICTION),
        (known(State.NOT_RECEIVED, answer=AGREE), NOT_RECEIVED, SettleMove.CONFLICT),
        (known(State.NOT_RECEIVED, answer=AGREE), RECEIVED, SettleMove.CONTRADICTION),
        (known(State.PROPOSED), RECEIVED, SettleMove.CONFLICT),
        (known(State.AGREED, answer=AGREE), NOT_RECEIVED, SettleMove.CONFLICT),
        (known(State.REFUSED, answer=REFUSE), RECEIVED, SettleMove.CONFLICT),
        (known(State.CANCELLED), RECEIVED, SettleMove.CONFLICT),
    ],
)
def test_what_an_object_of_the_creditor_does(stands: Settlement | None, kind: MessageType, move: SettleMove) -> None:
    assert settlement_rules.on_creditors_object(stands, said(kind)) is move


def test_an_object_of_other_terms_is_a_conflict_whatever_stands() -> None:
    other = replace(TERMS, amount_minor=501)
    for state in SettlementState:
        for kind in (PROPOSE, CANCEL, SENT):
            move = settlement_rules.on_debtors_object(known(state, proposed=False), said(kind, terms=other))
            assert move is SettleMove.CONFLICT
        for kind in (AGREE, REFUSE, RECEIVED, NOT_RECEIVED):
            assert settlement_rules.on_creditors_object(known(state), said(kind, terms=other)) is SettleMove.CONFLICT


@pytest.mark.parametrize(
    ("stands", "kind", "on"),
    [
        (None, PROPOSE, True),
        (known(State.PROPOSED), PROPOSE, False),
        (known(State.PROPOSED), REFUSE, True),
        (known(State.AGREED), REFUSE, False),
        (known(State.AGREED), SENT, True),
        (known(State.REFUSED), CANCEL, True),
        (known(State.SENT), AGREE, False),
        (known(State.SENT), CANCEL, False),
        (known(State.DISPUTED), RECEIVED, True),
        (known(State.RECEIVED), NOT_RECEIVED, False),
    ],
)
def test_a_replay_leads_on_and_never_back(stands: Settlement | None, kind: MessageType, on: bool) -> None:
    assert settlement_rules.goes_on(stands, said(kind)) is on


@pytest.mark.parametrize(
    ("stands", "founded"),
    [
        (None, {PROPOSE, CANCEL}),
        (known(State.PROPOSED), {PROPOSE, CANCEL, AGREE, REFUSE}),
        (known(State.AGREED, answer=AGREE), {PROPOSE, CANCEL, AGREE, REFUSE, SENT}),
        (known(State.REFUSED, answer=REFUSE), {PROPOSE, CANCEL, AGREE, REFUSE}),
        (known(State.CANCELLED), {PROPOSE, CANCEL, AGREE, REFUSE}),
        (known(State.SENT, answer=AGREE), {PROPOSE, CANCEL, AGREE, REFUSE, SENT, RECEIVED, NOT_RECEIVED}),
        (known(State.DISPUTED, answer=AGREE), {PROPOSE, CANCEL, AGREE, REFUSE, SENT, RECEIVED, NOT_RECEIVED}),
        (known(State.RECEIVED, answer=AGREE), {PROPOSE, CANCEL, AGREE, REFUSE, SENT, RECEIVED, NOT_RECEIVED}),
    ],
)
def test_an_object_is_founded_on_what_we_said_ourselves(stands: Settlement | None, founded: set[MessageType]) -> None:
    kinds = (PROPOSE, CANCEL, AGREE, REFUSE, SENT, RECEIVED, NOT_RECEIVED)
    assert {kind for kind in kinds if settlement_rules.is_founded(stands, said(kind))} == founded


@pytest.mark.parametrize(
    ("stands", "says", "then"),
    [
        (FRESH, said(PROPOSE), known(State.PROPOSED, due_ms=DAY_MS * 7 + 9)),
        (replace(FRESH, way=Way.IN), said(PROPOSE), known(State.PROPOSED, way=Way.IN)),
        (
            known(State.PROPOSED, due_ms=5),
            said(AGREE, pay_to="payto://iban/DE75"),
            known(State.AGREED, answer=AGREE, pay_to="payto://iban/DE75"),
        ),
        (
            known(State.PROPOSED, due_ms=5),
            said(REFUSE, reason="too soon"),
            known(State.REFUSED, answer=REFUSE, reason="too soon"),
        ),
        (known(State.AGREED, answer=AGREE), said(CANCEL), known(State.CANCELLED, answer=AGREE)),
        (
            known(State.AGREED, pay_to="payto://iban/DE75", reason="before"),
            said(SENT, bank_reference="E2E"),
            known(
                State.SENT,
                answer=AGREE,
                pay_to="payto://iban/DE75",
                bank_reference="E2E",
                due_ms=DAY_MS * 7 + 9,
            ),
        ),
        (
            known(State.SENT, answer=AGREE, pay_to="payto://iban/DE75", bank_reference="E2E", due_ms=5),
            said(RECEIVED, received_minor=499),
            known(State.RECEIVED, answer=AGREE, pay_to="payto://iban/DE75", bank_reference="E2E", received_minor=499),
        ),
        (known(State.SENT, due_ms=5), said(RECEIVED), known(State.RECEIVED, answer=AGREE)),
        (
            known(State.PROPOSED, due_ms=5),
            said(NOT_RECEIVED, reason="nothing came"),
            known(State.NOT_RECEIVED, answer=AGREE, reason="nothing came"),
        ),
    ],
)
def test_what_a_settlement_is_after_an_object_that_leads_it_on(
    stands: Settlement, says: Said, then: Settlement
) -> None:
    # Day 0 was a Thursday: five banking days later is the Thursday after.
    assert settlement_rules.after(stands, says, 9) == replace(then, changed_ms=9)


@pytest.mark.parametrize(
    ("says", "changes"),
    [
        (said(PROPOSE), {"proposed": True}),
        (said(AGREE, pay_to="payto://iban/DE2"), {"answer": AGREE, "pay_to": "payto://iban/DE2"}),
        (said(REFUSE, reason="late"), {"answer": REFUSE}),
        (said(SENT), {}),
    ],
)
def test_what_comes_too_late_is_noted_and_moves_nothing(says: Said, changes: dict[str, Any]) -> None:
    stands = known(State.CANCELLED, proposed=False, pay_to="payto://iban/DE1", answer=NOT_RECEIVED)
    assert settlement_rules.noted(stands, says) == replace(stands, **changes)
    assert settlement_rules.noted(replace(stands, proposed=True), says).proposed


def test_a_disputed_settlement_waits_without_a_time() -> None:
    stands = known(State.SENT, answer=AGREE, due_ms=5)
    assert settlement_rules.disputed(stands, 9) == replace(stands, state=State.DISPUTED, changed_ms=9, due_ms=None)


@pytest.mark.parametrize(
    ("stands", "says", "again"),
    [
        (known(State.SENT), said(SENT), True),
        (known(State.DISPUTED), said(SENT), True),
        (known(State.AGREED), said(SENT), False),
        (known(State.RECEIVED, received_minor=500), said(RECEIVED, received_minor=500), True),
        (known(State.RECEIVED, received_minor=500), said(RECEIVED, received_minor=499), False),
        (known(State.RECEIVED), said(NOT_RECEIVED), False),
    ],
)
def test_an_act_that_has_been_done_is_known_again(stands: Settlement, says: Said, again: bool) -> None:
    assert settlement_rules.says_again(stands, says) is again


@pytest.mark.parametrize(
    ("state", "out", "in_"),
    [
        (State.PROPOSED, WaitsFor.PEER, WaitsFor.US),
        (State.AGREED, WaitsFor.US, WaitsFor.PEER),
        (State.SENT, WaitsFor.PEER, WaitsFor.US),
        (State.DISPUTED, WaitsFor.PEER, WaitsFor.US),
        (State.REFUSED, WaitsFor.NOBODY, WaitsFor.NOBODY),
        (State.CANCELLED, WaitsFor.NOBODY, WaitsFor.NOBODY),
        (State.RECEIVED, WaitsFor.NOBODY, WaitsFor.NOBODY),
        (State.NOT_RECEIVED, WaitsFor.NOBODY, WaitsFor.NOBODY),
    ],
)
def test_whose_operator_is_awaited(state: SettlementState, out: WaitsFor, in_: WaitsFor) -> None:
    assert settlement_rules.waits_for(known(state, way=Way.OUT)) is out
    assert settlement_rules.waits_for(known(state, way=Way.IN)) is in_


# Amounts.


@pytest.mark.parametrize(
    ("due_to", "due_from", "unreceipted", "claimed", "settleable", "net"),
    [
        (100, 0, 0, 0, 100, 100),
        (100, 30, 20, 10, 70, 40),
        (100, 0, 60, 50, 0, 0),
        (100, 101, 0, 0, 100, 0),
        (100, 0, 60, 39, 1, 1),
    ],
)
def test_only_what_is_receipted_and_unclaimed_is_settled(
    due_to: int, due_from: int, unreceipted: int, claimed: int, settleable: int, net: int
) -> None:
    line = CurrencyLine(
        currency=EUR,
        ours=None,
        theirs=None,
        theirs_epoch=0,
        theirs_seq=0,
        reserved_minor=1_000,
        unreceipted_minor=unreceipted,
        in_flight_count=0,
        in_flight_minor=0,
    )
    assert settlement_rules.position(due_to, due_from, 7, claimed, line) == Position(
        in_transit_minor=7, claimed_minor=claimed, settleable_minor=settleable, net_minor=net
    )


def test_what_was_agreed_adds_up_to_the_debt_and_no_minor_unit_above() -> None:
    assert settlement_rules.may_agree(70, 30, 100)
    assert not settlement_rules.may_agree(71, 30, 100)
