"""Migration files: how they are found, ordered and cut into statements."""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import LiteralString

import pytest

from super_app.db import Engine, Row, SqlValue, migrations
from super_app.db.migrations import Migration


class Recorder:
    """A cursor that keeps the statements it is given."""

    engine = Engine.SQLITE
    rowcount = 0

    def __init__(self) -> None:
        self.statements: list[str] = []

    def execute(self, sql: LiteralString, parameters: Sequence[SqlValue] = ()) -> None:
        self.statements.append(sql)

    def execute_many(self, sql: LiteralString, rows: Iterable[Sequence[SqlValue]]) -> None:
        raise AssertionError("a migration runs plain statements")

    def execute_values(self, sql: LiteralString, rows: Sequence[Sequence[SqlValue]]) -> list[Row]:
        raise AssertionError("a migration runs plain statements")

    def fetchone(self) -> Row | None:
        return None

    def fetchall(self) -> list[Row]:
        return []


def statements_of(sql: str) -> list[str]:
    recorder = Recorder()
    migrations.apply(recorder, Migration(package="some.package", number=1, name="0001_some.sql", sql=sql))
    assert recorder.statements.pop().startswith("INSERT INTO superapp_migration")
    return recorder.statements


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Iterable[str]], str]:
    """Makes an importable package with these migration files."""

    def make(names: Iterable[str]) -> str:
        folder = tmp_path / "package_with_migrations" / "migrations"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").touch()
        for name in names:
            (folder / name).write_text(f"SELECT '{name}';\n", encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "package_with_migrations", raising=False)
        return "package_with_migrations"

    return make


def test_each_engine_gets_its_own_files_and_the_common_ones(package: Callable[[Iterable[str]], str]) -> None:
    name = package(
        ["0001_one.sql", "0002_two.sqlite.sql", "0002_two.postgresql.sql", "0003_three.sql", "notes.txt", "__init__.py"]
    )
    assert [each.name for each in migrations.load(name, Engine.SQLITE)] == [
        "0001_one.sql",
        "0002_two.sqlite.sql",
        "0003_three.sql",
    ]
    assert [each.name for each in migrations.load(name, Engine.POSTGRESQL)] == [
        "0001_one.sql",
        "0002_two.postgresql.sql",
        "0003_three.sql",
    ]


@pytest.mark.parametrize(
    "names",
    [
        ["0002_two.sql"],
        ["0001_one.sql", "0003_three.sql"],
        ["0001_one.sql", "0001_other.sql"],
        ["0001_one.sql", "0002_two.postgresql.sql", "0003_three.sql"],
    ],
)
def test_a_gap_or_a_number_used_twice_stops_the_start(
    package: Callable[[Iterable[str]], str], names: list[str]
) -> None:
    with pytest.raises(RuntimeError, match="numbered"):
        migrations.load(package(names), Engine.SQLITE)


def test_a_package_without_migrations_has_none(package: Callable[[Iterable[str]], str]) -> None:
    assert migrations.load(package(["__init__.py"]), Engine.SQLITE) == ()


def test_statements_end_with_a_semicolon_at_the_end_of_a_line() -> None:
    assert statements_of("CREATE TABLE a (\n    b TEXT DEFAULT ';' NOT NULL\n);\nCREATE INDEX c ON a (b);\n") == [
        "CREATE TABLE a (\n    b TEXT DEFAULT ';' NOT NULL\n);",
        "CREATE INDEX c ON a (b);",
    ]


def test_comments_and_empty_lines_between_statements_are_left_out() -> None:
    assert statements_of("-- What a is.\n\nSELECT 1;\n\n-- The end.\n") == ["SELECT 1;"]


def test_a_fenced_body_is_one_statement() -> None:
    body = (
        "CREATE FUNCTION f() RETURNS trigger AS $$\nBEGIN\n    -- Never.\n    RETURN NULL;\nEND;\n$$ LANGUAGE plpgsql;"
    )
    assert statements_of(f"SELECT 1;\n-- begin\n{body}\n-- end\nSELECT 2;\n") == ["SELECT 1;", body, "SELECT 2;"]


def test_a_file_that_ends_inside_a_statement_is_a_bug() -> None:
    with pytest.raises(RuntimeError, match="without a semicolon: 'SELECT 2'"):
        statements_of("SELECT 1;\nSELECT 2\n")


def test_what_ran_is_written_down_last() -> None:
    recorder = Recorder()
    migrations.apply(recorder, Migration(package="p", number=3, name="0003_x.sql", sql="SELECT 1;"))
    assert recorder.statements == [
        "SELECT 1;",
        "INSERT INTO superapp_migration (package, number, name) VALUES (?, ?, ?)",
    ]


def _some(*waits: bool) -> tuple[Migration, ...]:
    return tuple(
        Migration(package="p", number=number, name=f"{number:04}_x.sql", sql="", waits=each)
        for number, each in enumerate(waits, start=1)
    )


def test_what_older_code_cannot_live_with_says_so_in_its_name(package: Callable[[Iterable[str]], str]) -> None:
    name = package(["0001_one.sql", "0002_two.post.sql", "0003_three.sqlite.post.sql", "0003_three.postgresql.sql"])
    assert [each.waits for each in migrations.load(name, Engine.SQLITE)] == [False, True, True]
    assert [each.waits for each in migrations.load(name, Engine.POSTGRESQL)] == [False, True, False]


def test_beside_older_processes_what_only_adds_is_applied_and_the_rest_waits() -> None:
    found = _some(False, False, True)
    assert migrations.due(found, 1, others_run=True) == found[1:2]
    assert migrations.due(found, 2, others_run=True) == ()
    assert migrations.due(found, 1, others_run=False) == found[1:]
    assert migrations.needed(found) == 2


def test_a_new_database_waits_for_nothing() -> None:
    assert migrations.due(_some(False, True), 0, others_run=True) == _some(False, True)


def test_what_an_earlier_version_left_waiting_waits_no_longer() -> None:
    found = _some(False, True, False, True)
    assert migrations.due(found, 1, others_run=True) == found[1:3]
    assert migrations.needed(found) == 3
