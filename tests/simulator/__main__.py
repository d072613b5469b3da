"""Long runs of the simulator: ``make simulate SEEDS=…``, which is ``python tests/simulator FIRST COUNT``.

Runs seeds until one fails or all are done, with a line of progress, and prints what went wrong and how to see it again.
``--trace SEED`` prints everything that happens in one run; ``--bugs`` how many seeds it takes to find each planted bug.
"""

import argparse
import sys
import time
from collections.abc import Iterable
from multiprocessing import Pool

from bugs import Bug, caught_by, planted
from world import Violated, World

_LINE_S = 10.0
"""Pause between lines of progress where there is no terminal to write one line again and again."""


def run(seed: int) -> tuple[int, int, str]:
    """The seed, the number of its steps, and what went wrong (nothing: empty)."""
    world = World(seed)
    try:
        world.run()
    except Violated as violated:
        return seed, world.steps, str(violated)
    return seed, world.steps, ""


def trace(seed: int) -> int:
    world = World(seed)
    try:
        world.run()
    except Violated as violated:
        print("\n".join(world.trace))
        print(f"\n{str(violated).splitlines()[0]}", file=sys.stderr)
        return 1
    print("\n".join(world.trace))
    print(f"{world.digest()} {seed}")
    return 0


def report(count: int, results: Iterable[tuple[int, int, str]]) -> int:
    """Follow a sweep with a line of progress, to its end or to the first seed that fails."""
    started, steps, said = time.monotonic(), 0, 0.0
    for done, (seed, ran, wrong) in enumerate(results, start=1):
        steps += ran
        if wrong:
            print(f'\n{wrong}\n\nTo see all of it: make simulate ARGS="--trace {seed}"', file=sys.stderr)
            return 1
        passed = time.monotonic() - started
        line = f"{done} of {count} seeds, {steps} steps, {passed:.0f} s"
        if sys.stdout.isatty():
            print(f"\r{line}", end="" if done < count else None, flush=True)
        elif passed - said > _LINE_S or done == count:
            print(line, flush=True)
            said = passed
    return 0


def hunt(limit: int, names: list[str]) -> int:
    missed = 0
    for bug in [Bug[name.upper()] for name in names] or Bug:
        started = time.monotonic()
        seeds = caught_by(bug, limit)
        missed += seeds is None
        found = f"not within {limit} seeds" if seeds is None else f"{seeds} seeds"
        print(f"{bug.name.lower():30} {found:>22}   {time.monotonic() - started:5.0f} s", flush=True)
    return 1 if missed else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulate", description="Run many seeds of the clearing simulator.")
    parser.add_argument("first", type=int, nargs="?", default=0, help="the first seed")
    parser.add_argument("count", type=int, nargs="?", default=1_000, help="how many seeds")
    parser.add_argument("--jobs", type=int, default=1, help="processes to use")
    parser.add_argument("--trace", type=int, metavar="SEED", help="print what happens in this run")
    parser.add_argument(
        "--bugs", nargs="*", metavar="BUG", help="plant each bug, or these, and say how soon it is found"
    )
    parser.add_argument("--plant", metavar="BUG", help="run with this bug in the code, in one process")
    arguments = parser.parse_args()
    if arguments.trace is not None:
        return trace(arguments.trace)
    if arguments.bugs is not None:
        return hunt(arguments.count, arguments.bugs)
    seeds = range(arguments.first, arguments.first + arguments.count)
    if arguments.plant is not None:
        with planted(Bug[arguments.plant.upper()]):
            return report(len(seeds), map(run, seeds))
    with Pool(arguments.jobs) as pool:
        return report(len(seeds), pool.imap_unordered(run, seeds))


if __name__ == "__main__":
    sys.exit(main())
