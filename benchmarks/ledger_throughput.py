"""Transfers per second through the ledger's writer, beside the fixed yardstick on the same PostgreSQL server."""

import os
import re
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from benchmarks import ledger_client, ledger_database
from benchmarks.frame import YARDSTICKS, Context, Row
from synapse_super_app.commands.postgres import PrivatePostgres, find_binaries

NAMES: Final = ("ledger.callers32", "ledger.callers512", "ledger.hot")
_ROUNDS: Final = 3
_SECONDS: Final = 10
_ACCOUNTS: Final = 1_000
_BALANCE_MINOR: Final = 1_000_000_000
_CALLERS: Final = {"ledger.callers32": 32, "ledger.callers512": 512, "ledger.hot": 512}
_GOALS: Final = {"ledger.callers32": ">= 2", "ledger.callers512": ">= 5", "ledger.hot": ">= 0.8"}
_CEILING_SIZES: Final = (32, 256, 1_000)
_CEILING_ENTRIES: Final = 40_000
_WORKS: Final = {True: "works of 32 callers", False: "the same, each a commit of its own"}
_WORKS_SECONDS: Final = 5
_UNIT: Final = "transfers/s"


def run(context: Context) -> Iterator[Row]:
    wanted = [name for name in NAMES if context.wants(name)]
    if "ledger.hot" in wanted and "ledger.callers512" not in wanted:
        wanted.insert(0, "ledger.callers512")
    rates: dict[str, list[float]] = defaultdict(list)
    transfers: dict[str, int] = defaultdict(int)
    with ledger_database.server(context.folder / "ledger") as postgres:
        for number in range(1, _ROUNDS + 1):
            rates["yardstick"].append(_yardstick(postgres))
            for name in wanted:
                figures = _ours(postgres, name)
                rates[name].append(figures["per_second"])
                transfers[name] += int(figures["transfers"])
            for grouped in (True, False):
                rates[_WORKS[grouped]].append(_works(postgres, grouped=grouped))
            seen = ", ".join(f"{name} {each[-1]:.0f}/s" for name, each in rates.items())
            context.say(f"ledger round {number} of {_ROUNDS}: {seen}")
        together, apart = (statistics.median(rates.pop(name)) for name in _WORKS.values())
        context.say(f"ledger works: {together:,.0f}/s, {together / apart:.2f} times as many as with a commit for each")
        for size, per_second in _ceiling(postgres).items():
            context.say(f"ledger ceiling: {per_second:,.0f} transfers/s in statements of {size}, the database alone")
    medians = {name: statistics.median(each) for name, each in rates.items()}
    for name in wanted:
        if context.wants(name):
            hot = name == "ledger.hot"
            yield Row(
                name=name,
                value=medians[name],
                unit=_UNIT,
                yardstick="ledger.callers512" if hot else "yardsticks/ledger.sql",
                yardstick_value=medians["ledger.callers512" if hot else "yardstick"],
                goal=_GOALS[name],
                n=transfers[name],
            )


def _ours(postgres: PrivatePostgres, name: str) -> dict[str, float]:
    with ledger_database.database(postgres, "ledger") as dsn:
        ledger_database.make_ledger(dsn, lambda cur: ledger_client.issue_to(cur, _ACCOUNTS, _BALANCE_MINOR))
        figures: dict[str, float] = ledger_database.client(
            "throughput",
            dsn=dsn,
            callers=_CALLERS[name],
            accounts=_ACCOUNTS,
            seconds=_SECONDS,
            payee="hot" if name == "ledger.hot" else None,
        )
        return figures


def _works(postgres: PrivatePostgres, *, grouped: bool) -> float:
    """What payments do with the ledger: works that read and write, and of which the writer puts many into a commit."""
    with ledger_database.database(postgres, "ledger") as dsn:
        ledger_database.make_ledger(dsn, lambda cur: ledger_client.issue_to(cur, _ACCOUNTS, _BALANCE_MINOR))
        figures: dict[str, float] = ledger_database.client(
            "works", dsn=dsn, callers=32, accounts=_ACCOUNTS, seconds=_WORKS_SECONDS, grouped=grouped
        )
        return figures["per_second"]


def _ceiling(postgres: PrivatePostgres) -> dict[str, float]:
    """What the database can do if nobody has to be answered and each statement holds so many."""
    with ledger_database.database(postgres, "ledger") as dsn:
        ledger_database.make_ledger(dsn, lambda cur: ledger_client.issue_to(cur, _ACCOUNTS, _BALANCE_MINOR))
        figures: dict[str, float] = ledger_database.client(
            "ceiling", dsn=dsn, accounts=_ACCOUNTS, sizes=_CEILING_SIZES, entries=_CEILING_ENTRIES
        )
        return figures


def _yardstick(postgres: PrivatePostgres) -> float:
    """Run it exactly as yardsticks/README.md says."""
    with ledger_database.database(postgres, "yardstick") as dsn:
        ledger_database.execute(dsn, (YARDSTICKS / "ledger.sql").read_text(encoding="utf-8"))
        ledger_database.execute(dsn, "VACUUM ANALYZE", "CHECKPOINT")
        command = [str(find_binaries() / "pgbench"), "-n", "-M", "prepared", "-c", "32", "-j", "2", "-T", "10"]
        command += ["-f", str(YARDSTICKS / "ledger.pgbench")]
        settings = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}
        environment = {settings[key]: str(value) for key, value in postgres.connection("yardstick").items()}
        done = subprocess.run(command, env=os.environ | environment, check=True, capture_output=True, text=True)
        found = re.search(r"^tps = ([0-9.]+)", done.stdout, re.MULTILINE)
        if found is None:
            raise RuntimeError(f"pgbench told no rate: {done.stdout[-500:]}")
        return float(found[1])
