"""What every suite may use: a PostgreSQL server, quick starts of homeservers; and how a run is shared out and timed.

``make test`` runs tests on several processes at once (pytest-xdist). A file goes to one process, where its tests share
homeservers, a browser or a built wheel; the suites whose files take longest go first.
"""

import os
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from nursery import installed

from synapse_super_app.commands import loopback
from synapse_super_app.commands.postgres import PrivatePostgres

_TESTS = Path(__file__).parent

# How fast a machine draws examples says nothing about what is tested. Limits of time are pytest's.
settings.register_profile(
    "suite",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
settings.load_profile("suite")
_BUDGET_ROW = re.compile(r"^\| `(?P<suite>\w+)` \|.*\| (?P<budget_s>\d+) s \|$", re.MULTILINE)


class SuiteTimes:
    """Adds up what the tests of each suite took, fixtures included, and shows it beside the budget."""

    def __init__(self, budgets_s: dict[str, int]) -> None:
        self._budgets_s = budgets_s
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._tests: defaultdict[str, int] = defaultdict(int)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        suite = report.nodeid.split("/")[1] if report.nodeid.startswith("tests/") else "elsewhere"
        self._seconds[suite] += report.duration
        self._tests[suite] += report.when == "call"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("time of each suite")
        for suite, seconds in sorted(self._seconds.items()):
            budget_s = self._budgets_s.get(suite)
            verdict = "" if budget_s is None or seconds <= budget_s else "  OVER BUDGET, see docs/testing.md"
            terminalreporter.write_line(
                f"{suite:<12}{self._tests[suite]:>6} tests {seconds:>7.1f} s of {budget_s or '?':>4} s{verdict}"
            )


_LONGEST_FIRST = ("system", "simulator", "models", "interop", "browser", "packaging", "store", "modules", "unit")
"""Short ones last, so that no process ends long before another."""


def _suite(item: pytest.Item) -> str:
    return item.path.relative_to(_TESTS).parts[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Stable: inside a suite the order stays random.
    items.sort(key=lambda item: _LONGEST_FIRST.index(_suite(item)))


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, since much of the time of real homeservers is waiting; four are enough."""
    return min(len(os.sched_getaffinity(0)) + 1, 4)


def _keep_ports_apart() -> None:
    """Give each process ports of its own: a port seems free until the homeserver that it is meant for has started."""
    worker, workers = (os.environ.get(f"PYTEST_XDIST_WORKER{more}") for more in ("", "_COUNT"))
    if worker is not None and workers is not None:
        ports, number, share = loopback.PORTS, int(worker.removeprefix("gw")), len(loopback.PORTS) // int(workers)
        loopback.PORTS = ports[number * share : (number + 1) * share]


def pytest_configure(config: pytest.Config) -> None:
    _keep_ports_apart()
    table = (_TESTS.parent / "docs" / "testing.md").read_text(encoding="utf-8")
    budgets_s = {row["suite"]: int(row["budget_s"]) for row in _BUDGET_ROW.finditer(table)}
    config.pluginmanager.register(SuiteTimes(budgets_s), "suite-times")


@pytest.fixture(scope="session", autouse=True)
def _nursery() -> Iterator[None]:
    """Homeservers start without importing Synapse anew, whoever starts them: see tests/system/nursery.py."""
    with installed():
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PrivatePostgres]:
    """A PostgreSQL server that ends with the run. It loses data when the machine stops, which buys the tests speed."""
    folder = Path(tempfile.mkdtemp(prefix="superapp-tests-"))
    folder.chmod(0o711)  # root's tests start it as another account, which must pass through
    server = PrivatePostgres(
        folder,
        settings={
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": "200",
            "autovacuum": "off",
        },
    )
    try:
        with server:
            yield server
    finally:
        shutil.rmtree(folder)
