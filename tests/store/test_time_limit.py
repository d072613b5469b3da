"""A unit of work with a time limit, in the homeserver's adapter, on a real PostgreSQL server."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import psycopg2
import pytest
from synapse.module_api import ModuleApi
from synapse.storage.database import LoggingTransaction
from synapse.storage.engines.postgres import PostgresEngine
from twisted.internet import defer

from super_app.db import Cursor, Engine
from synapse_super_app.commands.postgres import PrivatePostgres
from synapse_super_app.database import Database

T = TypeVar("T")


class OneConnection:
    """The part of ModuleApi that the adapter uses."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def run_db_interaction(self, desc: str, func: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        kwargs.pop("isolation_level", None)
        transaction = LoggingTransaction(
            txn=self._connection.cursor(),
            name=desc,
            server_name="hs1.test",
            database_engine=PostgresEngine({"args": {}}),
            after_callbacks=[],
            async_after_callbacks=[],
            exception_callbacks=[],
        )
        try:
            answer = func(transaction, *args, **kwargs)
        except BaseException:
            self._connection.rollback()
            raise
        self._connection.commit()
        return answer


@pytest.fixture
def database(postgres_server: PrivatePostgres) -> Iterator[Database]:
    connection = psycopg2.connect(postgres_server.dsn("postgres"))
    yield Database(cast(ModuleApi, OneConnection(connection)), Engine.POSTGRESQL)
    connection.close()


def result(work: Any) -> Any:
    outcome: list[Any] = []
    defer.ensureDeferred(work).addBoth(outcome.append)
    return outcome[0]


def sleeps(cur: Cursor) -> str:
    cur.execute("SELECT set_config('statement_timeout', '50', true)")
    cur.execute("SELECT pg_sleep(600)")
    cur.fetchone()
    return "rested"


def answers(cur: Cursor) -> int:
    cur.execute("SELECT 7")
    row = cur.fetchone()
    assert row is not None
    return int(row[0] or 0)


def test_what_takes_too_long_is_stopped_and_the_connection_goes_on_without_the_limit(database: Database) -> None:
    assert result(database.run_within("sleeps", sleeps)) is None
    assert result(database.run_within("answers", answers)) == 7
    setting = result(database.run("setting", _limit))
    assert setting == "0"


def test_another_error_is_no_time_limit(database: Database) -> None:
    def broken(cur: Cursor) -> None:
        cur.execute("SELECT 1 / 0")
        cur.fetchone()

    outcome = result(database.run_within("broken", broken))
    assert isinstance(outcome.value, psycopg2.errors.DivisionByZero)


def _limit(cur: Cursor) -> object:
    cur.execute("SHOW statement_timeout")
    row = cur.fetchone()
    assert row is not None
    return row[0]
