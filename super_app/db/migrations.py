"""Schema migrations: plain SQL files, numbered per feature, each applied once.

A feature keeps ``migrations/NNNN_title.sql`` (both engines) or ``NNNN_title.sqlite.sql`` and
``NNNN_title.postgresql.sql`` (one each). A file runs in one transaction together with the row that says it ran. A
landed file is never edited; a correction is a new file. Statements end with ``;`` at the end of a line; a body that
contains such a line is fenced between ``-- begin`` and ``-- end`` lines.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, LiteralString, cast

from super_app.db import Cursor, Engine

_FILE_NAME: Final = re.compile(r"(?P<number>\d{4})_[a-z0-9_]+(\.(?P<engine>sqlite|postgresql))?\.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file: ``package`` owns it (``super_app.ledger``), ``number`` orders it inside the package."""

    package: str
    number: int
    name: str
    sql: str


def load(package: str, engine: Engine) -> tuple[Migration, ...]:
    """The migrations of a package for one engine, in order."""
    found: list[Migration] = []
    for entry in files(package).joinpath("migrations").iterdir():
        match = _FILE_NAME.fullmatch(entry.name)
        if match is None or match["engine"] not in (None, engine.value):
            continue
        text = entry.read_text(encoding="utf-8")
        found.append(Migration(package=package, number=int(match["number"]), name=entry.name, sql=text))
    found.sort(key=lambda migration: migration.number)
    numbers = [migration.number for migration in found]
    if numbers != list(range(1, len(numbers) + 1)):
        raise RuntimeError(f"migrations of {package} for {engine} are numbered {numbers}, not 1 to {len(numbers)}")
    return tuple(found)


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
