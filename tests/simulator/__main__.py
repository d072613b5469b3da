"""Long runs of the simulator: ``python tests/simulator [FROM] COUNT``, or ``make simulate SEEDS=…``.

Runs seeds until one fails or all are done, with a line of progress, and prints what went wrong. ``--trace SEED`` prints
everything that happens in one run.
"""

import argparse
import random
import sys
import time
from dataclasses import replace
from multiprocessing import Pool

from world import Violated, World, draw_plan


def run(seed: int) -> tuple[int, int, str]:
    """The seed, the number of its steps, and what went wrong (nothing: empty)."""
    world = world_of(seed)
    try:
        world.run()
    except Violated as violated:
        return seed, world.steps, str(violated)
    return seed, world.steps, ""


def world_of(seed: int) -> World:
    plan = draw_plan(random.Random(seed))
    return World(seed, replace(plan, restores=1) if seed % 5 == 4 else plan)


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulate", description="Run many seeds of the clearing simulator.")
    parser.add_argument("first", type=int, nargs="?", default=0, help="the first seed")
    parser.add_argument("count", type=int, nargs="?", default=1_000, help="how many seeds")
    parser.add_argument("--jobs", type=int, default=1, help="processes to use")
    parser.add_argument("--trace", type=int, metavar="SEED", help="print what happens in this run")
    arguments = parser.parse_args()
    if arguments.trace is not None:
        world = world_of(arguments.trace)
        try:
            world.run()
        finally:
            print("\n".join(world.trace))
        return 0
    started, steps = time.monotonic(), 0
    with Pool(arguments.jobs) as pool:
        seeds = range(arguments.first, arguments.first + arguments.count)
        for done, (_, ran, wrong) in enumerate(pool.imap(run, seeds), start=1):
            steps += ran
            if wrong:
                print(f"\n{wrong}", file=sys.stderr)
                return 1
            print(
                f"\r{done} of {len(seeds)} seeds, {steps} steps, {time.monotonic() - started:.0f} s", end="", flush=True
            )
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
