"""Several homeservers under loss, doubling, delay, partition, crash, clock jumps and old backups, from seeds.

The invariants are checked inside ``World`` after every step; a run that returns has kept them. The planted bugs show
that it would not return if the code were wrong.
"""

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from bugs import Bug, planted
from payers import PayingNode
from world import Plan, Violated, World, draw_plan

from super_app.clearing.model import LinkPhase

SEEDS = 80
SEEDS_PAYING = 30
SEEDS_RESTORED = 15
SEEDS_UNTIL_CAUGHT = 300

_MINUTES = 60_000
_QUIET = Plan(
    homeservers=2,
    payments=12,
    limit_minor=100_000,
    loss=0.0,
    doubling=0.0,
    crash=0.0,
    sever=0.0,
    clock_jumps=0,
    ask=0.0,
    refuse=0.0,
    cancel=0.0,
    span_ms=20 * _MINUTES,
)
# What a bug needs to show itself, where the usual mix of trouble rarely brings it.
_PLANS = {
    Bug.LATE_COMMIT_ABOVE_LIMIT: replace(_QUIET, sever=0.2),
    Bug.SENT_BEFORE_COMMIT: replace(_QUIET, crash=0.05),
    Bug.NO_HEAD_AT_START: replace(_QUIET, payments=30, restores=2, span_ms=2 * _MINUTES),
}


@pytest.mark.parametrize("first", range(0, SEEDS, 10))
def test_the_invariants_hold_whatever_the_network_and_the_processes_do(first: int) -> None:
    for seed in range(first, first + 10):
        World(seed).run()


@pytest.mark.parametrize("first", range(0, SEEDS_PAYING, 10))
def test_they_hold_with_the_payments_of_people_above(first: int) -> None:
    for seed in range(first, first + 10):
        World(seed, node=PayingNode).run()


def test_a_homeserver_from_an_old_backup_contradicts_nothing_it_signed_before() -> None:
    halted = 0
    for seed in range(SEEDS_RESTORED):
        world = World(seed, replace(draw_plan(random.Random(seed)), restores=1))
        world.run()
        views = [view for each in world.processes.values() for view in each.node.tx(each.node.clearing.links)]
        halted += any(view.phase is LinkPhase.HALTED for view in views)
    # Otherwise the backups were too new to prove anything.
    assert halted >= 3


@pytest.mark.parametrize("bug", Bug, ids=lambda bug: bug.name.lower())
def test_a_planted_bug_is_caught(bug: Bug) -> None:
    with planted(bug):
        for seed in range(SEEDS_UNTIL_CAUGHT):
            world = World(seed, _PLANS.get(bug), send_before_commit=bug is Bug.SENT_BEFORE_COMMIT)
            try:
                world.run()
            except Violated:
                return
    pytest.fail(f"{SEEDS_UNTIL_CAUGHT} seeds did not show that {bug}")


def test_the_same_seed_gives_the_same_run_in_another_process() -> None:
    def trace(hash_seed: str) -> bytes:
        return subprocess.run(
            [sys.executable, str(Path(__file__).parent), "--trace", "7"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
        ).stdout

    first = trace("1")
    assert first.count(b"\n") > 50
    assert first == trace("2")
