"""All that can happen to settlements beside payments, searched in the real code."""

from dataclasses import replace
from unittest.mock import patch

import pytest
from pair import Pair, State
from search import Explored, Violated

from super_app.clearing import settlement_rules
from super_app.clearing.model import CurrencyLine
from super_app.clearing.settlement_model import Position

ENDED = {"refused", "cancelled", "received", "not_received"}


def explored(pair: Pair, *, at_most: int) -> Explored[State]:
    """Every state passes the checks, and in none is money in transit for good."""
    found = pair.explore(at_most=at_most)
    stuck = found.cannot_reach(lambda state: is_over(pair, state), "AB")
    assert not stuck, f"{len(stuck)} states lead nowhere; the first comes by\n  {found.trace(stuck[0])}"
    for state in found.states.values():
        if is_over(pair, state) and pair.is_at_rest(state):
            a, b = pair.facts(state)
            assert a.due_to_minor == b.due_from_minor
    return found


def is_over(pair: Pair, state: State) -> bool:
    a, b = pair.facts(state)
    on_both = {each[0]: each[1:] for each in a.settlements}
    return (
        a.in_transit_minor == 0
        and ENDED.issuperset(each[0] for each in on_both.values())
        and all(on_both.get(each[0]) == each[1:] for each in b.settlements)
    )


def ends(pair: Pair, found: Explored[State]) -> set[tuple[str, int]]:
    return {
        (became, received_minor)
        for state in found.states.values()
        if is_over(pair, state)
        for _, became, received_minor in pair.facts(state)[0].settlements
    }


ALL_ENDS = {("received", 2), ("received", 1), ("not_received", 0), ("refused", 0), ("cancelled", 0)}


def test_a_settlement_beside_the_payment_that_it_settles() -> None:
    pair = Pair(amounts=(2,), settlements=1, replays=True)
    assert ends(pair, explored(pair, at_most=2_000)) == ALL_ENDS


def test_a_settlement_while_the_limit_is_lowered_and_its_payment_may_be_voided() -> None:
    pair = Pair(amounts=(2,), settlements=1, limit_minor=2, lower_to_minor=1)
    assert ends(pair, explored(pair, at_most=5_000)) == ALL_ENDS


def test_a_settlement_between_two_payments() -> None:
    pair = Pair(amounts=(1, 1), settlements=1, calm=True)
    assert ends(pair, explored(pair, at_most=5_000)) == ALL_ENDS


def test_two_settlements_of_one_debt() -> None:
    pair = Pair(amounts=(2,), settlements=2, calm=True)
    assert ends(pair, explored(pair, at_most=5_000)) == ALL_ENDS


def test_the_search_finds_that_all_of_due_to_is_settled() -> None:
    judged = settlement_rules.position

    def all_of_due_to(
        due_to_minor: int, due_from_minor: int, in_transit_minor: int, claimed_minor: int, line: CurrencyLine
    ) -> Position:
        receipted = replace(line, unreceipted_minor=0)
        return judged(due_to_minor, due_from_minor, in_transit_minor, claimed_minor, receipted)

    pair = Pair(amounts=(2,), settlements=1, limit_minor=2, lower_to_minor=1)
    with patch.object(settlement_rules, "position", all_of_due_to), pytest.raises(Violated, match="I3"):
        explored(pair, at_most=5_000)


def test_the_search_finds_that_the_debt_is_cut_before_the_money_has_arrived() -> None:
    pair = Pair(amounts=(2,), settlements=1)
    with (
        patch.dict(
            settlement_rules.MAY_FOLLOW,
            {kind: states | {"agreed"} for kind, states in settlement_rules.MAY_FOLLOW.items() if "RECEIVED" in kind},
        ),
        pytest.raises((Violated, AssertionError)),
    ):
        explored(pair, at_most=5_000)
