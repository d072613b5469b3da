"""PostgreSQL schemas that go from test to test: emptied in a fifth of the time that making one takes.

What a test finds is what migrations have made: each table that something was ever written to, even if it was rolled
back, is truncated, and what migrations wrote is there again. A schema to whose tables, columns, constraints, indexes,
triggers or functions a test did anything is dropped instead.
"""

import io
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

import psycopg2
from engines import PostgresDatabase, migrate
from psycopg2 import sql

from synapse_super_app.commands.postgres import PrivatePostgres

_SHAPE: Final = """
    WITH relation AS (SELECT * FROM pg_class WHERE relnamespace = %(schema)s::regnamespace)
    SELECT md5(string_agg(part, ',' ORDER BY part)) FROM (
        SELECT concat_ws('.', 'relation', oid, relkind, relname) FROM relation
        UNION ALL SELECT concat_ws('.', 'column', attrelid, attnum, attname, atttypid, attnotnull, atthasdef)
            FROM pg_attribute JOIN relation ON relation.oid = attrelid WHERE attnum > 0
        UNION ALL SELECT concat_ws('.', 'default', d.oid) FROM pg_attrdef d JOIN relation ON relation.oid = adrelid
        UNION ALL SELECT concat_ws('.', 'index', indexrelid, indisvalid)
            FROM pg_index JOIN relation ON relation.oid = indrelid
        UNION ALL SELECT concat_ws('.', 'trigger', t.oid, tgenabled)
            FROM pg_trigger t JOIN relation ON relation.oid = tgrelid
        UNION ALL SELECT concat_ws('.', 'constraint', oid, convalidated)
            FROM pg_constraint WHERE connamespace = %(schema)s::regnamespace
        UNION ALL SELECT concat_ws('.', 'function', oid, md5(prosrc))
            FROM pg_proc WHERE pronamespace = %(schema)s::regnamespace
    ) AS parts (part)
"""
_RELATIONS: Final = "SELECT relname FROM pg_class WHERE relnamespace = %(schema)s::regnamespace AND relkind = %(kind)s"
_WRITTEN_TO: Final = f"{_RELATIONS} AND pg_relation_size(oid) > 0"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fresh:
    """A schema as migrations left it."""

    shape: str
    rows: dict[str, str]
    """Of the tables that have any, as COPY writes them."""
    sequences: dict[str, tuple[int, bool]]


class KeptDatabase(PostgresDatabase):
    """One of ``KeptSchemas``. Closed, it may be somebody else's."""

    def __init__(self, owner: "KeptSchemas", server: PrivatePostgres, packages: tuple[str, ...]) -> None:
        super().__init__(server)
        self.packages = packages
        self._owner = owner

    def close(self) -> None:
        self.disconnect()
        self._owner.take_back(self)

    def drop(self) -> None:
        super().close()


class KeptSchemas:
    """Of one server."""

    def __init__(self, server: PrivatePostgres) -> None:
        self._server = server
        self._free: defaultdict[tuple[str, ...], list[KeptDatabase]] = defaultdict(list)
        self._taken: set[KeptDatabase] = set()
        self._fresh: dict[KeptDatabase, _Fresh] = {}
        self._connection = psycopg2.connect(server.dsn("postgres"))
        self._connection.autocommit = True
        self._cursor = self._connection.cursor()
        # Neither triggers nor foreign keys stand in the way.
        self._cursor.execute("SET session_replication_role TO replica")
        self._cursor.execute("SET lock_timeout TO '60s'")

    def take(self, packages: tuple[str, ...]) -> KeptDatabase:
        """One with the tables of these packages and nothing else. ``close`` it."""
        if self._free[packages]:
            database = self._free[packages].pop()
        else:
            database = KeptDatabase(self, self._server, packages)
            migrate(database, packages)
            database.disconnect()
            self._fresh[database] = self._look(database)
        self._taken.add(database)
        return database

    def take_back(self, database: KeptDatabase) -> None:
        if database not in self._taken:
            return
        self._taken.remove(database)
        fresh = self._fresh[database]
        if self._shape(database) == fresh.shape:
            self._empty(database, fresh)
            self._free[database.packages].append(database)
        else:
            del self._fresh[database]
            database.drop()

    def close(self) -> None:
        self._connection.close()

    def _shape(self, database: PostgresDatabase) -> str:
        return self._ask(_SHAPE, database)[0]

    def _ask(self, query: str, database: PostgresDatabase, kind: str = "r") -> list[str]:
        self._cursor.execute(query, {"schema": database.schema, "kind": kind})
        return [str(row[0]) for row in self._cursor.fetchall()]

    def _look(self, database: PostgresDatabase) -> _Fresh:
        rows: dict[str, str] = {}
        for table in self._ask(_WRITTEN_TO, database):
            written = io.StringIO()
            self._cursor.copy_expert(_named("COPY {} TO STDOUT", database, table), written)
            rows[table] = written.getvalue()
        sequences: dict[str, tuple[int, bool]] = {}
        for sequence in self._ask(_RELATIONS, database, "S"):
            self._cursor.execute(_named("SELECT last_value, is_called FROM {}", database, sequence))
            last, called = self._cursor.fetchall()[0]
            sequences[sequence] = (int(last), bool(called))
        return _Fresh(shape=self._shape(database), rows=rows, sequences=sequences)

    def _empty(self, database: PostgresDatabase, fresh: _Fresh) -> None:
        written_to = self._ask(_WRITTEN_TO, database)
        if written_to:
            names = sql.SQL(", ").join(sql.Identifier(database.schema, table) for table in written_to)
            self._cursor.execute(sql.SQL("TRUNCATE {} CASCADE").format(names))
        for table, rows in fresh.rows.items():
            self._cursor.copy_expert(_named("COPY {} FROM STDIN", database, table), io.StringIO(rows))
        for sequence, (last, called) in fresh.sequences.items():
            name = sql.Identifier(database.schema, sequence).as_string(self._connection)
            self._cursor.execute("SELECT setval(%s::regclass, %s, %s)", (name, last, called))


def _named(statement: str, database: PostgresDatabase, relation: str) -> sql.Composed:
    return sql.SQL(statement).format(sql.Identifier(database.schema, relation))
