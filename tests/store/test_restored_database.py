"""A dump of PostgreSQL put back: whenever that is cut short, nothing is left that would pay without a fence."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from engines import PostgresDatabase, migrate

from synapse_super_app.commands import restore
from synapse_super_app.commands.backup import dump_postgresql
from synapse_super_app.commands.console import CommandFailed
from synapse_super_app.commands.postgres import PrivatePostgres

KEPT, EMPTY = "kept_for_restore", "empty_for_restore"
PACKAGES = ("super_app.accounts", "super_app.ledger", "super_app.clearing")


class Crash(Exception):
    """The process is gone here."""


class OneDatabase(PostgresDatabase):
    """A schema of its own in a database of its own."""

    def __init__(self, server: PrivatePostgres, name: str) -> None:
        self._server, self._name = server, name
        super().__init__(self)  # type: ignore[arg-type]

    def dsn(self, _database: str) -> str:
        return self._server.dsn(self._name)

    def arguments_in(self, name: str) -> dict[str, Any]:
        """What a config would have to connect with, to this schema of that database."""
        return {**self._server.connection(name), "options": self.arguments()["options"]}


def on_server(server: PrivatePostgres, *statements: str) -> None:
    with contextlib.closing(psycopg2.connect(server.dsn("postgres"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


@pytest.fixture
def kept(postgres_server: PrivatePostgres) -> Iterator[OneDatabase]:
    for name in (KEPT, EMPTY):
        postgres_server.create_database(name)
    database = OneDatabase(postgres_server, KEPT)
    migrate(database, PACKAGES)
    yield database
    database.close()
    on_server(postgres_server, *(f"DROP DATABASE {name} WITH (FORCE)" for name in (KEPT, EMPTY)))


def found(arguments: dict[str, Any], question: str) -> Any:
    with contextlib.closing(psycopg2.connect(**arguments)) as connection, connection.cursor() as cursor:
        cursor.execute(question)
        row = cursor.fetchone()
        return None if row is None else row[0]


def crash_after(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    run: Callable[..., Any] = subprocess.run
    ended: list[object] = []

    def run_and_crash(*arguments: Any, **named: Any) -> Any:
        done = run(*arguments, **named)
        ended.append(done)
        if len(ended) == number:
            raise Crash
        return done

    monkeypatch.setattr(subprocess, "run", run_and_crash)


def test_what_was_put_back_is_all_there_and_marked_once(kept: OneDatabase, tmp_path: Path) -> None:
    dump_postgresql("database", kept.arguments_in(KEPT), tmp_path / "dump")
    target = kept.arguments_in(EMPTY)
    assert restore.fill_postgresql("database", target, tmp_path / "dump", "restore:1", 7)
    assert found(target, "SELECT restore_id FROM superapp_clearing_restore") == "restore:1"
    for question in (
        "SELECT epoch FROM superapp_ledger_head",
        "SELECT COUNT(*) FROM pg_trigger",
        "SELECT COUNT(*) FROM pg_constraint",
        "SELECT COUNT(*) FROM pg_indexes",
    ):
        assert found(target, question) == found(kept.arguments_in(KEPT), question)
    with pytest.raises(CommandFailed, match="make the database anew"):
        restore.fill_postgresql("database", target, tmp_path / "dump", "restore:2", 8)
    assert found(target, "SELECT COUNT(*) FROM superapp_clearing_restore") == 1


@pytest.mark.parametrize("number", [1, 2])
def test_a_crash_leaves_no_books_without_a_mark(
    kept: OneDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    dump_postgresql("database", kept.arguments_in(KEPT), tmp_path / "dump")
    target = kept.arguments_in(EMPTY)
    crash_after(monkeypatch, number)
    with pytest.raises(Crash):
        restore.fill_postgresql("database", target, tmp_path / "dump", "restore:1", 7)
    books = found(target, "SELECT COUNT(*) FROM superapp_ledger_head")
    marks = found(target, "SELECT COUNT(*) FROM superapp_clearing_restore")
    assert (books, marks) == {1: (0, 0), 2: (1, 1)}[number]
