"""Databases for store tests. Each test that asks for one runs on SQLite and on PostgreSQL, with a fresh schema.

A test file names the domain packages whose tables it needs, lowest first:

    pytestmark = pytest.mark.packages("super_app.accounts", "super_app.ledger")

``transaction`` runs each unit of work twice, the first time rolled back, and demands the same answer: what a homeserver
may do to it. Where a fake remembers calls outside the database, ``@pytest.mark.runs_once`` gives one run.
``open_database`` gives any number of fresh databases, for tests of several homeservers and of migrations, and
``next_database`` one after the other, for hypothesis.

Migrations run once for each set of packages: on SQLite a test gets a copy of the file that they made, on PostgreSQL a
schema that was emptied after another test (``kept_schemas.py``).
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from engines import Database, SqliteDatabase, migrate
from kept_schemas import KeptSchemas

from super_app.db import Engine, Transaction
from synapse_super_app.commands.postgres import PrivatePostgres


@pytest.fixture(params=list(Engine), ids=lambda engine: engine.value)
def engine(request: pytest.FixtureRequest) -> Engine:
    chosen: Engine = request.param
    return chosen


@pytest.fixture(scope="session")
def kept_schemas(postgres_server: PrivatePostgres) -> Iterator[KeptSchemas]:
    kept = KeptSchemas(postgres_server)
    yield kept
    kept.close()


@pytest.fixture(scope="session")
def sqlite_templates(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[str, ...]], Path]:
    """Where a file is that has the tables of these packages and nothing else."""
    made: dict[tuple[str, ...], Path] = {}

    def template(packages: tuple[str, ...]) -> Path:
        if packages not in made:
            made[packages] = tmp_path_factory.mktemp("template") / "template.db"
            database = SqliteDatabase(made[packages])
            migrate(database, packages)
            database.disconnect()
        return made[packages]

    return template


@pytest.fixture
def open_database(
    engine: Engine,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    sqlite_templates: Callable[[tuple[str, ...]], Path],
) -> Iterator[Callable[..., Database]]:
    """``open_database("super_app.accounts", …)``: a fresh database with the tables of these packages.

    Whoever wants many closes each when it is done with; the test's end closes the rest.
    """
    opened: list[Database] = []

    def open_one(*packages: str) -> Database:
        match engine:
            case Engine.SQLITE:
                path = tmp_path / f"{len(opened)}.db"
                shutil.copyfile(sqlite_templates(packages), path)
                opened.append(SqliteDatabase(path))
            case Engine.POSTGRESQL:
                kept: KeptSchemas = request.getfixturevalue("kept_schemas")
                opened.append(kept.take(packages))
        return opened[-1]

    yield open_one
    for database in opened:
        database.close()


@pytest.fixture
def next_database(open_database: Callable[..., Database]) -> Callable[..., Database]:
    """``open_database`` for a test of many examples: it closes the one that it opened before."""
    before: list[Database] = []

    def open_next(*packages: str) -> Database:
        if before:
            before.pop().close()
        before.append(open_database(*packages))
        return before[0]

    return open_next


@pytest.fixture
def database(request: pytest.FixtureRequest, open_database: Callable[..., Database]) -> Database:
    """A fresh database with the tables of the packages that the test's marker names."""
    return open_database(*_packages(request))


@pytest.fixture
def transaction(request: pytest.FixtureRequest, database: Database) -> Transaction:
    return database.connect(rerun=request.node.get_closest_marker("runs_once") is None)


@pytest.fixture
def two_connections(
    request: pytest.FixtureRequest, kept_schemas: KeptSchemas
) -> Iterator[tuple[Transaction, Transaction]]:
    """Two connections to one fresh PostgreSQL database, for works that meet; SQLite lets only one writer in.

    Their works run once, since a work that is run a second time would meet itself.
    """
    database = kept_schemas.take(_packages(request))
    yield database.connect(rerun=False), database.connect(rerun=False)
    database.close()


def _packages(request: pytest.FixtureRequest) -> tuple[str, ...]:
    marker = request.node.get_closest_marker("packages")
    assert marker is not None, 'name the tables: pytestmark = pytest.mark.packages("super_app.accounts")'
    packages: tuple[str, ...] = marker.args
    return packages
