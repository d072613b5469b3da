"""Migrations on real databases: applied once, whole or not at all, and to the same tables on both engines."""

from collections.abc import Callable
from functools import partial
from importlib.resources import files
from pathlib import Path

import pytest
from engines import Database, PostgresDatabase, SqliteDatabase, migrate

from super_app.db import Cursor, Engine, migrations
from synapse_super_app.commands.postgres import PrivatePostgres

PACKAGES = tuple(
    f"super_app.{feature}"
    for feature in ("accounts", "ledger", "clearing", "directory", "calls", "payments")
    if (Path(str(files("super_app"))) / feature / "migrations").is_dir()
)


def tables(cur: Cursor) -> set[str]:
    match cur.engine:
        case Engine.SQLITE:
            cur.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'")
        case Engine.POSTGRESQL:
            cur.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
    return {str(row[0]) for row in cur.fetchall()}


def test_all_tables_carry_our_prefix(open_database: Callable[..., Database]) -> None:
    transaction = open_database(*PACKAGES).connect(rerun=False)
    found = transaction(tables)
    assert "superapp_account" in found
    assert {name for name in found if not name.startswith("superapp_")} == set()


def test_what_ran_is_remembered_per_package(open_database: Callable[..., Database], engine: Engine) -> None:
    transaction = open_database(*PACKAGES).connect(rerun=False)
    for package in PACKAGES:
        assert transaction(partial(migrations.applied, package=package)) == len(migrations.load(package, engine))


def test_preparing_twice_keeps_what_is_remembered(open_database: Callable[..., Database]) -> None:
    transaction = open_database("super_app.accounts").connect(rerun=False)
    before = transaction(lambda cur: migrations.applied(cur, "super_app.accounts"))
    transaction(migrations.prepare)
    assert transaction(lambda cur: migrations.applied(cur, "super_app.accounts")) == before > 0


def test_nothing_has_run_in_a_package_that_is_new(open_database: Callable[..., Database]) -> None:
    transaction = open_database("super_app.accounts").connect(rerun=False)
    assert transaction(lambda cur: migrations.applied(cur, "super_app.unheard_of")) == 0


def test_a_migration_that_fails_leaves_nothing_behind(open_database: Callable[..., Database]) -> None:
    transaction = open_database("super_app.accounts").connect(rerun=False)
    broken = migrations.Migration(
        package="super_app.broken",
        number=1,
        name="0001_broken.sql",
        sql="CREATE TABLE superapp_half (one INTEGER);\nCREATE TABLE superapp_half (one INTEGER);\n",
    )

    with pytest.raises(Exception, match="already exists"):
        transaction(lambda cur: migrations.apply(cur, broken))

    assert "superapp_half" not in transaction(tables)
    assert transaction(lambda cur: migrations.applied(cur, "super_app.broken")) == 0


def test_a_migration_cannot_run_twice(open_database: Callable[..., Database]) -> None:
    transaction = open_database("super_app.accounts").connect(rerun=False)
    once = migrations.Migration(package="super_app.once", number=1, name="0001_once.sql", sql="")
    transaction(lambda cur: migrations.apply(cur, once))

    with pytest.raises(Exception, match=r"(?i)unique"):
        transaction(lambda cur: migrations.apply(cur, once))


def _columns(cur: Cursor) -> set[tuple[str, str]]:
    match cur.engine:
        case Engine.SQLITE:
            cur.execute(
                "SELECT t.name, c.name FROM sqlite_master t JOIN pragma_table_xinfo(t.name) c WHERE t.type = 'table'"
            )
        case Engine.POSTGRESQL:
            cur.execute(
                "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
            )
    return {
        (str(row[0]), str(row[1]))
        for row in cur.fetchall()
        # Parts of names are found by a virtual table on SQLite, and by an index on PostgreSQL.
        if str(row[0]).startswith("superapp_") and not str(row[0]).startswith("superapp_directory_part")
    }


def test_both_engines_have_the_same_tables_and_columns(tmp_path: Path, postgres_server: PrivatePostgres) -> None:
    seen: list[set[tuple[str, str]]] = []
    for database in (SqliteDatabase(tmp_path / "one.db"), PostgresDatabase(postgres_server)):
        migrate(database, PACKAGES)
        seen.append(database.connect(rerun=False)(_columns))
        database.close()
    assert seen[0] == seen[1]
