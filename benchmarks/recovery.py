"""How long a recovery takes beside a round trip between homeservers, without the hash of the PIN.

The page's own code recovers, on Node, so the hash is the page's too, and what it does at the same time as the hash
counts as it does for people. Each round measures the hash alone, a recovery and the hash in it, and as many round trips
as the threshold at once, which is how a recovery makes them, of which the slowest counts.
"""

import json
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.frame import Context, Row
from benchmarks.realms import Realms

NAMES: Final = ("recovery.guess", "recovery.answer")
_TOP: Final = Path(__file__).resolve().parent.parent
_PEOPLE: Final = 2
"""A person has so many requests in a while."""
_ROUNDS: Final = 12
_THRESHOLD: Final = 3
_MEASURED: Final = ("recoveries", "answers", "hashes", "alone", "trips", "singles")


def run(context: Context) -> Iterator[Row]:
    folder = context.folder / "recovery"
    folder.mkdir()
    found: dict[str, list[float]] = {name: [] for name in _MEASURED}
    with Realms(folder) as realms:
        for number in range(_PEOPLE):
            context.say(f"recovery.guess: {_ROUNDS} rounds of a hash, a recovery and {_THRESHOLD} round trips")
            for name, measured in _measured(realms, f"person{number}").items():
                found[name] += measured
    hash_ms, alone_ms, trip_ms = (statistics.median(found[each]) for each in ("hashes", "alone", "trips"))
    single_ms = statistics.median(found["singles"])
    context.say(
        f"recovery.guess: not in the figures: the hash of the PIN, {hash_ms:.0f} ms while five homeservers count the "
        f"guess on the same processors and {alone_ms:.0f} ms alone"
    )
    context.say(
        f"recovery.guess: the slowest question takes {single_ms:.1f} ms when one is asked after the other, "
        f"{trip_ms:.1f} ms at once"
    )
    beside = [whole - hashed for whole, hashed in zip(found["recoveries"], found["hashes"], strict=True)]
    values = {"recovery.guess": statistics.median(beside), "recovery.answer": statistics.median(found["answers"])}
    for name, value in values.items():
        yield Row(
            name=name,
            value=max(0.0, value),
            unit="ms",
            yardstick="the slowest of three questions at once to other realms and their answers",
            yardstick_value=trip_ms,
            goal="<= 2",
            n=len(beside),
        )


def _measured(realms: Realms, name: str) -> dict[str, list[float]]:
    person = realms.account(name)
    wanted = {
        "client_url": realms.processes[0].client_url,
        "user_id": person.user_id,
        "token": person.access_token,
        "threshold": _THRESHOLD,
        "rounds": _ROUNDS,
    }
    done = subprocess.run(
        [str(_TOP / "tools" / "web"), "run", str(_TOP / "benchmarks" / "recovery.mjs")],
        input=json.dumps(wanted),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=_TOP,
    )
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found
