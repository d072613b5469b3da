"""Databases for store tests. Each test that asks for one runs on SQLite and on PostgreSQL, with a fresh schema.

A test file names the domain packages whose tables it needs, lowest first:

    pytestmark = pytest.mark.packages("super_app.accounts", "super_app.ledger")

``transaction`` runs each unit of work twice, the first time rolled back, and demands the same answer: what a homeserver
may do to it. Where a fake remembers calls outside the database, ``@pytest.mark.runs_once`` gives one run.
``open_database`` gives any number of fresh databases, for hypothesis and for tests of migrations.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from engines import Database, PostgresDatabase, SqliteDatabase, migrate

from super_app.db import Engine, Transaction
from synapse_super_app.commands.postgres import PrivatePostgres


@pytest.fixture(params=list(Engine), ids=lambda engine: engine.value)
def engine(request: pytest.FixtureRequest) -> Engine:
    chosen: Engine = request.param
    return chosen


@pytest.fixture
def open_database(engine: Engine, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Database]]:
    """``open_database("super_app.accounts", …)``: a fresh database with the tables of these packages."""
    opened: list[Database] = []

    def open_one(*packages: str) -> Database:
        database: Database
        match engine:
            case Engine.SQLITE:
                database = SqliteDatabase(tmp_path / f"{len(opened)}.db")
            case Engine.POSTGRESQL:
                database = PostgresDatabase(request.getfixturevalue("postgres_server"))
        opened.append(database)
        migrate(database, packages)
        return database

    yield open_one
    for database in opened:
        database.close()


@pytest.fixture
def database(request: pytest.FixtureRequest, open_database: Callable[..., Database]) -> Database:
    """A fresh database with the tables of the packages that the test's marker names."""
    return open_database(*_packages(request))


@pytest.fixture
def transaction(request: pytest.FixtureRequest, database: Database) -> Transaction:
    return database.connect(rerun=request.node.get_closest_marker("runs_once") is None)


@pytest.fixture
def two_connections(
    request: pytest.FixtureRequest, postgres_server: PrivatePostgres
) -> Iterator[tuple[Transaction, Transaction]]:
    """Two connections to one fresh PostgreSQL database, for works that meet; SQLite lets only one writer in.

    Their works run once, since a work that is run a second time would meet itself.
    """
    database = PostgresDatabase(postgres_server)
    migrate(database, _packages(request))
    yield database.connect(rerun=False), database.connect(rerun=False)
    database.close()


def _packages(request: pytest.FixtureRequest) -> tuple[str, ...]:
    marker = request.node.get_closest_marker("packages")
    assert marker is not None, 'name the tables: pytestmark = pytest.mark.packages("super_app.accounts")'
    packages: tuple[str, ...] = marker.args
    return packages
