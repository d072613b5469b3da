"""A million handles on one homeserver: looking one up, searching, typing errors, and starting.

Half of the people are of the homeserver, half of others whose feeds it has replicated, and Synapse's own user directory
has all of them. Each row is measured on PostgreSQL and, with ``.sqlite`` behind its name, on SQLite.
"""

import random
import statistics
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import directory_database
from benchmarks.directory_homeserver import FilledHomeserver, postgres_server, size
from benchmarks.directory_names import Terms, name, terms
from benchmarks.frame import Context, Row
from benchmarks.ledger_client import transaction
from super_app.db import Cursor, Engine
from super_app.directory import search
from super_app.directory.model import Name
from super_app.directory.search_model import Question, Term
from super_app.ids import UserId
from synapse_super_app.commands.matrix_client import MatrixClient
from synapse_super_app.database import SynapseCursor

_ROWS: Final = ("directory.exact", "directory.search", "directory.typo", "directory.start")
NAMES: Final = tuple(row + behind for behind in ("", ".sqlite") for row in _ROWS)
MODULE: Final[dict[str, Any]] = {
    "features": {"directory": True, "calls": False, "payments": False, "web": False},
    "directory": {"existing_users": {"discover": "public"}},
}
_ROUNDS: Final = 3
_EXACT_EACH: Final = 400
_SEARCHERS: Final = 4
_RESULTS: Final = 10
_THEIRS_ON_SQLITE: Final = 10
"""Of each kind of term and round: Synapse's search takes seconds for each beginning of a name there."""
_STORE_ROUNDS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sides:
    """The same people with our module and without it."""

    on: FilledHomeserver
    off: FilledHomeserver
    start_s: float
    """How much longer the homeserver takes to start with them."""


def run(context: Context) -> Iterator[Row]:
    for engine in (Engine.POSTGRESQL, Engine.SQLITE):
        behind = "" if engine is Engine.POSTGRESQL else ".sqlite"
        if not any(context.wants(row + behind) for row in _ROWS):
            continue
        with _sides(context, engine) as sides:
            if context.wants("directory.start" + behind):
                yield Row(
                    name="directory.start" + behind,
                    value=sides.start_s,
                    unit="s more than empty",
                    yardstick=None,
                    yardstick_value=None,
                    goal="<= 1 s",
                    n=_ROUNDS,
                )
            if context.wants("directory.typo" + behind):
                yield _typo(context, sides.on, "directory.typo" + behind)
            if context.wants("directory.exact" + behind):
                yield _exact(context, sides.on, "directory.exact" + behind)
            if context.wants("directory.search" + behind):
                yield _search(context, sides, "directory.search" + behind)


@contextmanager
def _sides(context: Context, engine: Engine) -> Generator[_Sides]:
    with ExitStack() as stack:
        folder = context.folder / f"directory-{engine.value}"
        postgres = None
        if engine is Engine.POSTGRESQL:
            postgres = postgres_server(folder / "postgresql")
            postgres.start()
            stack.callback(postgres.remove)
        on = stack.enter_context(FilledHomeserver(folder / "on", postgres, MODULE))
        off = stack.enter_context(FilledHomeserver(folder / "off", postgres, None))
        on.make()
        empty_s, empty_mb = _starts(on)
        _fill(context, on)
        off.copy_of(on)
        # The first start after a fill reads what later ones find in memory.
        on.start_again()
        full_s, full_mb = _starts(on)
        context.say(
            f"{engine.value}: starts in {full_s:.2f} s, empty {empty_s:.2f} s; {full_mb:.0f} MB of memory, "
            f"empty {empty_mb:.0f} MB"
        )
        on.start_again()
        off.start_again()
        yield _Sides(on=on, off=off, start_s=full_s - empty_s)


def _starts(homeserver: FilledHomeserver) -> tuple[float, float]:
    """Seconds until it answers and MB of memory then, medians."""
    seconds: list[float] = []
    memory: list[float] = []
    for _ in range(_ROUNDS):
        seconds.append(homeserver.start_again())
        memory.append(homeserver.memory_mb())
    homeserver.process.stop()
    return statistics.median(seconds), statistics.median(memory)


def _fill(context: Context, homeserver: FilledHomeserver) -> None:
    people, now_ms = size(), int(time.time() * 1000)
    peers = directory_database.PEER_SERVERS
    own = homeserver.name
    context.say(f"filling {homeserver.folder} with {people} people")
    database = homeserver.database()
    before = database.bytes()
    directory_database.fill_own(database, own, homeserver.key(), range(0, people, 2), now_ms)
    directory_database.fill_peers(database, range(1, people, 2), now_ms)
    database.commit()
    ours = database.bytes() - before
    directory_database.fill_synapse(
        database, own, people, now_ms, lambda number: own if number % 2 == 0 else peers[number % len(peers)]
    )
    database.commit()
    database.analyze()
    context.say(f"{ours / people:.0f} bytes of our tables per person, indexes included")
    database.connection.close()


def _exact(context: Context, homeserver: FilledHomeserver, row: str) -> Row:
    """A handle's record by its name, beside the account that asks: both authenticated, both one request."""
    numbers = {name(number): number for number in range(10_000)}
    local = [term for term in terms().exact if numbers[term] % 2 == 0]
    context.say(f"{row}: {_ROUNDS} rounds of {_EXACT_EACH} handles and as many empty requests in turns")
    ours: list[float] = []
    empty: list[float] = []
    with homeserver.client() as client:
        for round_number in range(_ROUNDS + 1):
            taken: list[tuple[float, float]] = []
            for turn in range(_EXACT_EACH if round_number else len(local)):
                handle = f"@{local[turn % len(local)]}"
                taken.append((_ms(lambda of=handle: client.handle(of)), _ms(client.whoami)))  # type: ignore[misc]
            if round_number:
                ours.append(statistics.median(each for each, _ in taken))
                empty.append(statistics.median(each for _, each in taken))
    return Row(
        name=row,
        value=statistics.median(ours),
        unit="ms p50",
        yardstick="GET account/whoami of the same homeserver",
        yardstick_value=statistics.median(empty),
        goal="<= 1.3",
        n=_ROUNDS * _EXACT_EACH,
    )


def _search(context: Context, sides: _Sides, row: str) -> Row:
    few = _THEIRS_ON_SQLITE if row.endswith(".sqlite") else None
    context.say(f"{row}: {_ROUNDS} rounds of the {sum(map(len, terms()))} terms by {_SEARCHERS} people in turns")
    ours: list[float] = []
    theirs: list[float] = []
    missed: set[str] = set()
    _searches_per_s(sides.on, _sample(terms(), 10, 0))
    _searches_per_s(sides.off, _sample(terms(), 1, 0))
    for round_number in range(_ROUNDS):
        wanted = _sample(terms(), None, round_number)
        per_s, lost = _searches_per_s(sides.on, wanted)
        if lost:
            raise RuntimeError(f"{row}: exact matches were missed: {sorted(lost)}")
        ours.append(per_s)
        per_s, lost = _searches_per_s(sides.off, _sample(terms(), few, round_number))
        theirs.append(per_s)
        missed |= lost
    context.say(f"{row}: Synapse's own search missed {len(missed)} of the exact terms, ours none")
    return Row(
        name=row,
        value=statistics.median(ours),
        unit="searches/s",
        yardstick="Synapse's own user directory, the same people and terms",
        yardstick_value=statistics.median(theirs),
        goal=">= 10",
        n=_ROUNDS * sum(map(len, terms())),
    )


def _sample(all_terms: Terms, of_each: int | None, seed: int) -> list[tuple[str, bool]]:
    """Terms in an order of their own, and whether each is the whole name of somebody."""
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    wanted: list[tuple[str, bool]] = []
    for kind, words in all_terms._asdict().items():
        chosen = words if of_each is None else chance.sample(words, of_each)
        wanted += [(word, kind == "exact") for word in chosen]
    chance.shuffle(wanted)
    return wanted


def _searches_per_s(homeserver: FilledHomeserver, wanted: Sequence[tuple[str, bool]]) -> tuple[float, set[str]]:
    """How many searches several people get answered at once, and which exact names were not the first answer."""

    def search_all(mine: Sequence[tuple[str, bool]]) -> set[str]:
        with homeserver.client() as client:
            return {term for term, is_exact in mine if not _found(client, term, is_exact)}

    began_s = time.perf_counter()
    with ThreadPoolExecutor(_SEARCHERS) as pool:
        lost = set().union(*pool.map(search_all, [wanted[at::_SEARCHERS] for at in range(_SEARCHERS)]))
    return len(wanted) / (time.perf_counter() - began_s), lost


def _found(client: MatrixClient, term: str, is_exact: bool) -> bool:  # noqa: FBT001
    found = client.search_people(f"@{term}", _RESULTS)
    return not is_exact or any(row["user_id"].startswith(f"@{term}:") for row in found[:1])


def _typo(context: Context, homeserver: FilledHomeserver, row: str) -> Row:
    """The search as the database does it, without HTTP: the slowest one in a hundred."""
    database = homeserver.database()
    connection = database.connection
    now_ms, asker = int(time.time() * 1000), UserId(f"@searcher:{homeserver.name}")

    def seconds(typed: str, *, must_find: bool) -> float:
        began_s = time.perf_counter()
        if database.engine is Engine.POSTGRESQL:
            cur: Cursor = SynapseCursor(transaction(connection, "benchmark"), database.engine, "benchmark")
        else:
            cur = directory_database.SqliteCursor(connection.cursor())
        question = Question(
            asker=asker,
            term=Term(name=Name(typed), server=None),
            own_server=homeserver.name,
            hidden=(),
            now_ms=now_ms,
            limit=_RESULTS,
            whole=True,
            parts=True,
        )
        hits = search.find(cur, question, lambda *_: (), lambda *_: ())
        connection.rollback()
        took_s = time.perf_counter() - began_s
        if must_find and not hits:
            raise RuntimeError(f"{row}: {typed} found nobody")
        return took_s

    p99_ms, count = 0.0, 0
    for kind, words in terms()._asdict().items():
        taken = sorted(seconds(typed, must_find=kind != "misses") for _ in range(_STORE_ROUNDS) for typed in words)
        context.say(f"{row}: {kind} p50 {_at(taken, 0.5):.2f} ms, p99 {_at(taken, 0.99):.2f} ms in the store")
        if kind == "typos":
            p99_ms, count = _at(taken, 0.99), len(taken)
    connection.close()
    return Row(name=row, value=p99_ms, unit="ms p99", yardstick=None, yardstick_value=None, goal="<= 50 ms", n=count)


def _at(ordered_s: Sequence[float], share: float) -> float:
    return ordered_s[min(len(ordered_s) - 1, int(len(ordered_s) * share))] * 1000


def _ms(work: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    work()
    return (time.perf_counter() - began_s) * 1000
