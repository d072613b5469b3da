"""A PostgreSQL schema that was another test's is as migrations made it, or is not used again."""

from collections.abc import Iterator
from typing import LiteralString, cast

import pytest
from kept_schemas import KeptDatabase, KeptSchemas

from super_app.db import Cursor
from synapse_super_app.commands.postgres import PrivatePostgres

PACKAGES = ("super_app.accounts", "super_app.ledger")


@pytest.fixture
def schemas(postgres_server: PrivatePostgres) -> Iterator[KeptSchemas]:
    schemas = KeptSchemas(postgres_server)
    yield schemas
    schemas.close()


def rows_of_all_tables(database: KeptDatabase) -> dict[str, list[object]]:
    def read(cur: Cursor) -> dict[str, list[object]]:
        cur.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = ?", (database.schema,))
        found: dict[str, list[object]] = {}
        for (table,) in cur.fetchall():
            cur.execute(cast(LiteralString, f"SELECT * FROM {table} ORDER BY 1"))
            found[str(table)] = list(cur.fetchall())
        return found

    transaction = database.connect(rerun=False)
    return transaction(read)


def an_account(cur: Cursor) -> object:
    """Its number, which a sequence gave it."""
    cur.execute(
        "INSERT INTO superapp_ledger_account (owner, currency, kind) VALUES ('a', 'EUR', 'available')"
        " RETURNING account_id"
    )
    return cur.fetchall()


def test_what_a_test_wrote_is_gone_and_what_migrations_wrote_is_there(schemas: KeptSchemas) -> None:
    first = schemas.take(PACKAGES)
    fresh = rows_of_all_tables(first)
    number = first.connect(rerun=False)(an_account)
    first.connect(rerun=False)(lambda cur: cur.execute("UPDATE superapp_ledger_lease SET epoch = epoch + 1"))
    assert rows_of_all_tables(first) != fresh
    first.close()

    second = schemas.take(PACKAGES)
    assert second is first
    assert rows_of_all_tables(second) == fresh
    assert any(fresh.values())
    assert second.connect(rerun=False)(an_account) == number
    second.close()


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE superapp_ledger_account DISABLE TRIGGER USER",
        "ALTER TABLE superapp_ledger_entry ADD CHECK (reference <> 'x')",
        "ALTER TABLE superapp_ledger_account ADD COLUMN more TEXT",
        "CREATE TABLE more (number INTEGER)",
        "CREATE INDEX more ON superapp_ledger_account (kind)",
        "CREATE FUNCTION more() RETURNS INTEGER LANGUAGE sql AS 'SELECT 1'",
        "DROP TABLE superapp_ledger_lease",
    ],
)
def test_one_that_has_changed_is_not_used_again(schemas: KeptSchemas, change: str) -> None:
    first = schemas.take(PACKAGES)
    first.connect(rerun=False)(lambda cur: cur.execute(cast(LiteralString, change)))
    first.close()
    second = schemas.take(PACKAGES)
    assert second is not first
    second.close()


def test_two_at_a_time_are_two(schemas: KeptSchemas) -> None:
    first, second = schemas.take(PACKAGES), schemas.take(PACKAGES)
    assert first is not second
    first.close()
    first.close()
    third, fourth = schemas.take(PACKAGES), schemas.take(PACKAGES)
    assert third is first
    assert fourth is not first
    for each in (second, third, fourth):
        each.close()
