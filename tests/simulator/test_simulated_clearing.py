"""A federation under all the trouble that there is, from seeds, and the bugs that it must find.

The invariants are checked inside ``World`` after every step; a run that returns has kept them. The planted bugs show
that it would not return if the code were wrong.
"""

import os
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from bugs import Bug, caught_by
from plans import MINUTE_MS, Plan
from world import World, draw_plan

SEEDS = 210
SEEDS_UNTIL_CAUGHT = 200
_SEEDS_AT_ONCE = 30
_JOBS = 2
_LIMIT_S = 900
"""Of one test, on however busy a machine; it takes seconds."""


def simulate(*arguments: str, hash_seed: str = "0") -> "subprocess.CompletedProcess[str]":
    """The command that ``make simulate`` runs, in a process of its own."""
    return subprocess.run(
        [sys.executable, str(Path(__file__).parent), *arguments],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        timeout=_LIMIT_S,
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.mark.timeout(_LIMIT_S)
@pytest.mark.parametrize("first", range(0, SEEDS, _SEEDS_AT_ONCE))
def test_the_invariants_hold_whatever_networks_disks_clocks_and_hostile_peers_do(first: int) -> None:
    done = simulate(str(first), str(_SEEDS_AT_ONCE), "--jobs", str(_JOBS))
    assert done.returncode == 0, done.stderr
    assert f"{_SEEDS_AT_ONCE} of {_SEEDS_AT_ONCE} seeds" in done.stdout


_SMALL = Plan(
    homeservers=2,
    payments=14,
    limit_minor=100_000,
    loss=0.1,
    doubling=0.1,
    crash=0.02,
    sever=0.4,
    clock_jumps=1,
    span_ms=20 * MINUTE_MS,
)


@pytest.mark.timeout(_LIMIT_S)
@pytest.mark.parametrize("seed", range(8))
def test_the_invariants_hold_while_operators_give_back_and_suspend_and_close(seed: int) -> None:
    World(seed, replace(_SMALL, advances=12, stands=8, settlements=4)).run()


@pytest.mark.timeout(_LIMIT_S)
@pytest.mark.parametrize("seed", range(8))
def test_the_invariants_hold_whatever_a_hostile_peer_lists_after_a_restore(seed: int) -> None:
    plan = replace(_SMALL, homeservers=3, hostile=1, moves=12, restores=3, fences=True, false_lists=True)
    World(seed, plan).run()


def test_these_seeds_have_all_kinds_of_trouble_in_them() -> None:
    plans = [draw_plan(random.Random(seed)) for seed in range(SEEDS)]
    for name in ("crash", "loss", "sever", "hostile", "restores", "lying_disks", "clock_jumps", "paying", "refund"):
        drawn = Counter(bool(getattr(plan, name)) for plan in plans)
        assert min(drawn[True], drawn[False]) >= SEEDS // 10, name
    assert {plan.homeservers for plan in plans} >= {2, 3, 4, 6, 8}


@pytest.mark.timeout(_LIMIT_S)
@pytest.mark.parametrize("bug", Bug, ids=lambda bug: bug.name.lower())
def test_a_planted_bug_is_caught(bug: Bug) -> None:
    assert caught_by(bug, SEEDS_UNTIL_CAUGHT) is not None, f"{SEEDS_UNTIL_CAUGHT} seeds did not show that {bug}"


@pytest.mark.parametrize("seed", [5, 12, 14])
def test_the_same_seed_gives_the_same_run_in_another_process(seed: int) -> None:
    first, second = (simulate("--trace", str(seed), hash_seed=hash_seed) for hash_seed in ("1", "2"))
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("\n") > 50
    assert first.stdout.splitlines()[-1] == second.stdout.splitlines()[-1]
    assert first.stdout == second.stdout


def test_a_seed_that_fails_says_how_to_see_it_again() -> None:
    done = simulate("0", "5", "--plant", Bug.CREDIT_ON_ACCEPT.name)
    assert done.returncode == 1
    assert "I4" in done.stderr
    assert 'make simulate ARGS="--trace ' in done.stderr
