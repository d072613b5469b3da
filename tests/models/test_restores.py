"""All that can happen to a payment when one of its homeservers runs on a copy of its database, in the real code.

The copy is made at any moment, and runs at any later one. What the lost life had signed may have arrived, arrive during
the recovery, later, or never. A recovery counts as one step here; crashes within one are the simulator's matter.
"""

import sqlite3

import pytest
from bugs import Bug, planted
from nodes import Misused
from pair import Pair, State
from search import Explored, Violated

BOTH = pytest.mark.parametrize("side", [0, 1], ids=["payer's", "payee's"])


def explored(pair: Pair, *, at_most: int) -> Explored[State]:
    """Every state passes the checks, and from each a rest with equal books can be reached."""
    found = pair.explore(at_most=at_most)
    stuck = found.cannot_reach(pair.is_at_rest, ("A", "B", "AB"))
    assert not stuck, f"{len(stuck)} states lead nowhere; the first comes by\n  {found.trace(stuck[0])}"
    for state in found.states.values():
        if pair.is_at_rest(state):
            a, b = pair.facts(state)
            assert a.due_to_minor == b.due_from_minor
    return found


def paid_after_a_restore(pair: Pair, found: Explored[State]) -> bool:
    return any(
        state.restored and pair.is_at_rest(state) and "completed" in pair.facts(state)[0].outgoing.values()
        for state in found.states.values()
    )


@BOTH
def test_a_payment_survives_that_a_homeserver_runs_on_a_copy(side: int) -> None:
    pair = Pair(amounts=(5,), restores=side, calm=True)
    assert paid_after_a_restore(pair, explored(pair, at_most=2_000))


@pytest.mark.thorough
@pytest.mark.timeout(1_800)
@BOTH
def test_a_payment_survives_it_whatever_else_is_cancelled_late_or_over(side: int) -> None:
    pair = Pair(amounts=(5,), restores=side)
    assert paid_after_a_restore(pair, explored(pair, at_most=40_000))


@BOTH
def test_the_search_finds_that_a_copy_goes_on_without_asking(side: int) -> None:
    with planted(Bug.NO_HEAD_AT_START), pytest.raises((Violated, Misused, AssertionError, sqlite3.IntegrityError)):
        explored(Pair(amounts=(5,), restores=side, marked=False, calm=side == 1), at_most=5_000)
