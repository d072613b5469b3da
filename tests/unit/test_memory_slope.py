"""The benchmark of memory tells growth from wandering."""

import random

import pytest

from benchmarks.memory import slope

PAID = [float(10 * look) for look in range(50)]


def test_a_leak_is_seen_through_noise() -> None:
    noise = random.Random(1)
    found = slope(PAID, [1e8 + 500 * paid + noise.gauss(0, 1_000) for paid in PAID])
    assert found.value == pytest.approx(500, rel=0.1)
    assert found.least > 0


def test_memory_that_wanders_is_not_called_a_leak() -> None:
    """Each look stays near the one before, so neighbours tell the same thing several times."""
    wrong = 0
    for seed in range(200):
        noise = random.Random(seed)
        level, levels = 0.0, []
        for _ in PAID:
            level = 0.6 * level + noise.gauss(0, 10_000)
            levels.append(1e8 + level)
        wrong += slope(PAID, levels).least > 0
    # 5 of 200 by the letter of 95 %; short runs know their own error less well.
    assert wrong <= 30


def test_memory_that_stands_still_has_no_slope() -> None:
    found = slope(PAID, [1e8 for _ in PAID])
    assert (found.value, found.half_width) == (0, 0)
    assert found.least <= 0
