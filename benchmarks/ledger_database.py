"""The PostgreSQL server and the databases that the ledger's benchmarks share. Owns no figure."""

import json
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg2

from benchmarks.ledger_client import transaction
from super_app.db import Cursor, Engine, migrations
from synapse_super_app.commands.postgres import PrivatePostgres
from synapse_super_app.database import SynapseCursor

_SETTINGS: Final = {
    # As on a server that holds a homeserver. fsync, full_page_writes and synchronous_commit stay on.
    "shared_buffers": "1GB",
    "max_wal_size": "4GB",
    "maintenance_work_mem": "512MB",
}
_CLIENT_S: Final = 300
"""Far more than any client takes; one that hangs shall fail the run and not stop it."""
_TOP: Final = Path(__file__).resolve().parent.parent


@contextmanager
def server(folder: Path) -> Generator[PrivatePostgres]:
    postgres = PrivatePostgres(folder / "postgresql", settings=_SETTINGS)
    postgres.start()
    try:
        yield postgres
    finally:
        postgres.remove()


@contextmanager
def database(postgres: PrivatePostgres, name: str) -> Generator[str]:
    """An empty database for as long as the context lasts; gives its connection string."""
    postgres.create_database(name)
    try:
        yield postgres.dsn(name)
    finally:
        execute(postgres.dsn("postgres"), f'DROP DATABASE "{name}"')


def make_ledger(dsn: str, fill: Callable[[Cursor], None]) -> None:
    """The ledger's tables, and what ``fill`` puts into them."""
    connection = psycopg2.connect(dsn)
    try:
        cur = SynapseCursor(transaction(connection, "benchmark"), Engine.POSTGRESQL, "benchmark")
        migrations.prepare(cur)
        for migration in migrations.load("super_app.ledger", Engine.POSTGRESQL):
            migrations.apply(cur, migration)
        fill(cur)
        cur.finish()
        connection.commit()
    finally:
        connection.close()
    execute(dsn, "VACUUM ANALYZE")
    execute(dsn, "CHECKPOINT")


def execute(dsn: str, *statements: str) -> None:
    """Run statements, each in a transaction of its own."""
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
    finally:
        connection.close()


def client(job: str, **arguments: object) -> Any:
    """The figures of ``benchmarks.ledger_client``, run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ledger_client", json.dumps({"job": job, **arguments})],
        cwd=_TOP,
        check=False,
        capture_output=True,
        text=True,
        timeout=_CLIENT_S,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the ledger's client failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout)
