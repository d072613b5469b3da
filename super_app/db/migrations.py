"""Schema migrations: plain SQL files, numbered per feature, each applied once.

A feature keeps ``migrations/NNNN_title.sql`` (both engines) or ``NNNN_title.sqlite.sql`` and
``NNNN_title.postgresql.sql`` (one each). One that takes away what the code of the version before needs ends in
``.post.sql``; beside such code, which runs while workers are replaced one by one, it waits until an operator says so.
All others only add. A file runs in one transaction together with the row that says it ran. A
landed file is never edited; a correction is a new file. Statements end with ``;`` at the end of a line; a body that
contains such a line is fenced between ``-- begin`` and ``-- end`` lines.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, LiteralString, cast

from super_app.db import Cursor, Engine

_FILE_NAME: Final = re.compile(r"(?P<number>\d{4})_[a-z0-9_]+(\.(?P<engine>sqlite|postgresql))?(?P<post>\.post)?\.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file: ``package`` owns it (``super_app.ledger``), ``number`` orders it inside the package."""

    package: str
    number: int
    name: str
    sql: str
    waits: bool = False
    """Whether code of the version before cannot live with it."""


def load(package: str, engine: Engine) -> tuple[Migration, ...]:
    """The migrations of a package for one engine, in order."""
    found: list[Migration] = []
    for entry in files(package).joinpath("migrations").iterdir():
        match = _FILE_NAME.fullmatch(entry.name)
        if match is None or match["engine"] not in (None, engine.value):
            continue
        text = entry.read_text(encoding="utf-8")
        number, waits = int(match["number"]), match["post"] is not None
        found.append(Migration(package=package, number=number, name=entry.name, sql=text, waits=waits))
    found.sort(key=lambda migration: migration.number)
    numbers = [migration.number for migration in found]
    if numbers != list(range(1, len(numbers) + 1)):
        raise RuntimeError(f"migrations of {package} for {engine} are numbered {numbers}, not 1 to {len(numbers)}")
    return tuple(found)


def due(all_of_it: tuple[Migration, ...], done: int, *, others_run: bool) -> tuple[Migration, ...]:
    """What is applied at a start, after the ``done`` first ones. ``others_run``: processes that may be older.

    Those that wait at the end are left. One that waits before another that does not is of a version that nothing older
    than the version before runs beside, so it waits no longer. A new database has nothing that older code could miss.
    """
    left = all_of_it[done:]
    if not others_run or not done:
        return left
    return left[: max((place + 1 for place, each in enumerate(left) if not each.waits), default=0)]


def needed(all_of_it: tuple[Migration, ...]) -> int:
    """The number that must have been applied before code of this version can run."""
    return max((each.number for each in all_of_it if not each.waits), default=0)


def prepare(cur: Cursor) -> None:
    """Create the table that remembers which migrations ran."""
    cur.execute(
        "CREATE TABLE IF NOT EXISTS superapp_migration ("
        " package TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (package, number))"
    )


def applied(cur: Cursor, package: str) -> int:
    """The number of the newest migration of ``package`` that ran; 0 for none."""
    cur.execute("SELECT COALESCE(MAX(number), 0) FROM superapp_migration WHERE package = ?", (package,))
    row = cur.fetchone()
    return int(row[0]) if row is not None and row[0] is not None else 0


def apply(cur: Cursor, migration: Migration) -> None:
    """Run one migration and remember it, inside the caller's transaction."""
    for statement in _statements(migration.sql):
        # The text comes from a file of this wheel, never from outside.
        cur.execute(cast(LiteralString, statement))
    cur.execute(
        "INSERT INTO superapp_migration (package, number, name) VALUES (?, ?, ?)",
        (migration.package, migration.number, migration.name),
    )


def _statements(sql: str) -> Iterator[str]:
    lines: list[str] = []
    fenced = False
    for line in sql.splitlines():
        mark = line.strip()
        if mark in ("-- begin", "-- end"):
            fenced = mark == "-- begin"
        elif mark and (fenced or not mark.startswith("--")):
            lines.append(line)
        if lines and not fenced and (mark.endswith(";") or mark == "-- end"):
            yield "\n".join(lines)
            lines = []
    if lines:
        raise RuntimeError(f"a migration ends without a semicolon: {lines[-1]!r}")
