"""All that can happen to one and to two concurrent payments over one link, searched in the real code.

``docs/clearing.md`` says what must hold; here every reachable state is looked at, with every loss, delay, reordering
and timer. Planted bugs show that the search sees what it looks for.
"""

import sqlite3
from collections.abc import Hashable

import pytest
from bugs import Bug, planted
from nodes import Misused, acct_of
from pair import Pair, State
from search import Explored, Violated

from super_app.clearing.ports import Accept, Ask
from super_app.errors import Reason, Refused

BOB = acct_of("@bob:hs2.test")
ASKS = Ask(acct=BOB, until_ms=3_600_000)
SEEN = (Violated, Misused, AssertionError, sqlite3.IntegrityError)
"""By the search, by the payments above clearing, or by the database's own constraints."""
DECLINES = Refused(reason=Reason.NOT_ALLOWED, message="Not from you.")


def explored(pair: Pair, *, at_most: int) -> Explored[State]:
    """Every state passes the checks, none is a dead end, and neither side can pin the other's money."""
    found = pair.explore(at_most=at_most)
    assert len(found.states) > 10
    nobody_stuck(found, found.cannot_reach(pair.is_at_rest, "AB"))
    nobody_stuck(found, found.cannot_reach(lambda state: pair.facts(state)[1].reserved_minor == 0, "B"))
    nobody_stuck(found, found.cannot_reach(lambda state: payer_is_free(pair, state), "A"))
    for state in found.states.values():
        a, b = pair.facts(state)
        if pair.is_at_rest(state):
            assert a.due_to_minor == b.due_from_minor
    return found


def payer_is_free(pair: Pair, state: State) -> bool:
    """Whether nothing that could still be decided otherwise holds money of the payer."""
    return not {"offered", "asked"}.intersection(pair.facts(state)[0].outgoing.values())


def nobody_stuck(found: Explored[State], stuck: list[Hashable]) -> None:
    assert not stuck, f"{len(stuck)} states lead nowhere; the first comes by\n  {found.trace(stuck[0])}"


def ends(pair: Pair, found: Explored[State]) -> set[tuple[str | None, str | None]]:
    """How payments end on both sides."""
    both: set[tuple[str | None, str | None]] = set()
    for state in found.states.values():
        if pair.is_at_rest(state):
            a, b = pair.facts(state)
            both |= {(a.outgoing.get(each), b.incoming.get(each)) for each in a.outgoing}
    return both


@pytest.mark.parametrize(
    ("payee", "expected"),
    [
        (Accept(acct=BOB), {("completed", "credited"), ("aborted", "void")}),
        (ASKS, {("completed", "credited"), ("aborted", "void")}),
        (DECLINES, {("aborted", "void")}),
    ],
    ids=["automatic", "asked", "refused"],
)
def test_one_payment_ends_alike_on_both_sides_whatever_happens(
    payee: Accept | Ask | Refused, expected: set[tuple[str | None, str | None]]
) -> None:
    pair = Pair(amounts=(5,), payee=payee, replays=True)
    found = explored(pair, at_most=2_000)
    assert ends(pair, found) == expected


def test_one_payment_is_safe_while_its_limit_is_lowered() -> None:
    pair = Pair(amounts=(5,), limit_minor=5, lower_to_minor=1)
    found = explored(pair, at_most=2_000)
    assert ("completed", "credited") in ends(pair, found)
    assert ("voided", "void") in ends(pair, found), "a COMMIT after the lapse does not fit the lowered limit"


def test_two_concurrent_payments_that_the_limit_does_not_carry_at_once() -> None:
    pair = Pair(amounts=(1, 2), limit_minor=2, funds_minor=3)
    found = explored(pair, at_most=20_000)
    assert ("completed", "credited") in ends(pair, found)
    assert ("voided", "void") in ends(pair, found)


def test_two_concurrent_payments_of_a_payer_who_has_money_for_one() -> None:
    pair = Pair(amounts=(5, 5), funds_minor=5)
    found = explored(pair, at_most=20_000)
    assert ("completed", "credited") in ends(pair, found)


@pytest.mark.parametrize(
    ("bug", "pair"),
    [
        (Bug.CREDIT_ON_ACCEPT, {"amounts": (5,)}),
        (Bug.NO_DEDUPE, {"amounts": (5,), "replays": True}),
        (Bug.SILENT_LAPSE, {"amounts": (5,)}),
        (Bug.REFUND_AFTER_COMMIT, {"amounts": (5,)}),
        (Bug.COMMIT_AFTER_TTL, {"amounts": (5,)}),
        (Bug.RESERVATIONS_IGNORED, {"amounts": (1, 1), "limit_minor": 1}),
        (Bug.LATE_COMMIT_ABOVE_LIMIT, {"amounts": (1, 1), "limit_minor": 1}),
    ],
    ids=lambda value: value.name if isinstance(value, Bug) else "",
)
def test_the_search_finds_a_planted_bug(bug: Bug, pair: dict[str, object]) -> None:
    with planted(bug), pytest.raises(SEEN):
        explored(Pair(**pair), at_most=20_000)  # type: ignore[arg-type]
