"""The short form of ``make soak``: people on two homeservers with workers, while parts of both are broken.

What is kept must be right, whatever the machine: money, calls, messages, books. How long people waited, and what
Synapse writes into its log when a machine is too slow for it, is for ``make soak`` to say.
"""

import dataclasses
import secrets
from pathlib import Path

import pytest
import soak_report
from soak import Size, Soak

QUICK = Size(
    people=20,
    minutes=0.2,
    workers=0,
    special=False,
    at_once=6,
    every_s=2.0,
    # The longest to recover from are for `make soak`.
    only=("worker killed", "homeserver killed", "PostgreSQL crashed", "link cut", "Redis killed"),
)


@pytest.mark.timeout(900)
def test_nothing_is_lost_and_nothing_is_paid_twice(demo_folder: Path) -> None:
    seed = secrets.randbits(31)
    print(f"make soak ARGS='--seed {seed} …'")
    size = dataclasses.replace(QUICK, seed=seed)
    with Soak(demo_folder, size, print) as soak:
        outcome = soak.run()
    kept = [verdict for verdict in outcome.verdicts if verdict.is_about_what_is_kept]
    assert len(kept) == 7, [verdict.name for verdict in kept]
    assert not [(verdict.name, verdict.wrong) for verdict in kept if verdict.wrong]
    # A line that names us is our fault, whatever the machine: an exception of the gate, for instance.
    logs = next(verdict for verdict in outcome.verdicts if verdict.name.startswith("no error in a log"))
    assert not [line for line in logs.wrong if "superapp" in line or "super_app" in line]
    assert outcome.faults
    assert outcome.notes.counts()["pay"]
    # The report is made of whatever was found.
    page = soak_report.page(outcome)
    had_errors = any(at_s >= 0 for at_s, _ in outcome.errors)
    assert page.count("<svg") == 2 + had_errors
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert len(soak_report.lines(outcome)) > len(outcome.verdicts)
