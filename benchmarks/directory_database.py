"""Fills a homeserver's database with a million people, while the homeserver is down. Owns rows, no figure.

What is signed is signed with the homeserver's own key and is in its log, as if it had been issued one by one, so that
readers can verify it. What other homeservers signed is only searched here, and so carries a signature of nobody.
"""

import io
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Any, Final, LiteralString, cast

from nacl.signing import SigningKey

from benchmarks.directory_names import name
from super_app.accounts.model import Genesis
from super_app.db import Engine, Row, SqlValue
from super_app.directory import log, records
from super_app.directory.model import RENEW_AFTER_MS, Discover, Facts, Holding, Name, Origin, State
from super_app.directory.naming import skeleton
from super_app.ids import ServerName, UserId
from super_app.signing import canonical, digest, to_b64

SERVICES: Final = {"chat": True, "call": False, "pay": False}
"""What the benchmarks' config offers, so that no record is out of date."""
PEER_SERVERS: Final = tuple(ServerName(f"hs{number}.bench.invalid") for number in range(2, 7))
_DAY_MS: Final = 86_400_000
_CHUNK: Final = 5_000

Rows = Iterable[Sequence[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A raw connection to the homeserver's database."""

    engine: Engine
    connection: Any

    def execute(self, statement: str, values: Sequence[object] = ()) -> None:
        cursor = self.connection.cursor()
        marked = statement.replace("?", "%s") if self.engine is Engine.POSTGRESQL else statement
        cursor.execute(marked, tuple(values))

    def insert(self, table: str, columns: str, rows: Rows) -> None:
        """Far faster than a statement a row: COPY on PostgreSQL."""
        if self.engine is Engine.SQLITE:
            marks = ", ".join("?" * (columns.count(",") + 1))
            self.connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)
            return
        cursor = self.connection.cursor()
        left = iter(rows)
        while chunk := list(islice(left, 4 * _CHUNK)):
            text = "".join("\t".join("\\N" if value is None else str(value) for value in row) + "\n" for row in chunk)
            cursor.copy_expert(f"COPY {table} ({columns}) FROM STDIN", io.StringIO(text))

    def bytes(self) -> int:
        """What the database takes on disk."""
        if self.engine is Engine.POSTGRESQL:
            return self.number("SELECT pg_database_size(current_database())")
        return self.number("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")

    def number(self, query: str) -> int:
        cursor = self.connection.cursor()
        cursor.execute(query)
        return int(cursor.fetchone()[0])

    def commit(self) -> None:
        self.connection.commit()

    def analyze(self) -> None:
        """As after some time in use: statistics, and on PostgreSQL the map of what all can see."""
        if self.engine is Engine.POSTGRESQL:
            self.connection.autocommit = True
            self.execute("VACUUM ANALYZE")
        else:
            self.connection.execute("ANALYZE")
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class SqliteCursor:
    """``super_app.db.Cursor`` on a raw connection, for reading."""

    engine = Engine.SQLITE

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    def execute(self, sql: LiteralString, parameters: Sequence[SqlValue] = ()) -> None:
        self._cursor.execute(sql, parameters)

    def execute_many(self, sql: LiteralString, rows: Iterable[Sequence[SqlValue]]) -> None:
        self._cursor.executemany(sql, rows)

    def execute_values(self, sql: LiteralString, rows: Sequence[Sequence[SqlValue]]) -> list[Row]:
        raise NotImplementedError("nothing that is measured here writes")

    def fetchone(self) -> Row | None:
        return cast(Row | None, self._cursor.fetchone())

    def fetchall(self) -> list[Row]:
        return cast(list[Row], self._cursor.fetchall())


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """What one local person has in our tables."""

    number: int
    name: str
    acct: str
    genesis: str
    look: str
    digest: str
    record: str
    salt: str
    leaf: str


def sqlite(path: str) -> Database:
    connection = sqlite3.connect(path)
    for setting in ("journal_mode = WAL", "synchronous = OFF", "cache_size = -200000"):
        connection.execute(f"PRAGMA {setting}")
    return Database(engine=Engine.SQLITE, connection=connection)


def fill_own(database: Database, server: ServerName, key: SigningKey, numbers: range, now_ms: int) -> None:
    """Local accounts with public handles, signed and logged, in the feed in this order."""
    at = {"installed_ms": now_ms - _DAY_MS, "renew_ms": now_ms + RENEW_AFTER_MS}
    handles: list[Sequence[object]] = []
    accounts: list[Sequence[object]] = []
    leaves: list[Sequence[object]] = []
    logged: list[Sequence[object]] = []
    feed: list[Sequence[object]] = []

    def flush() -> None:
        database.insert("superapp_account", "acct, user_id, genesis, created_ms", accounts)
        database.insert(
            "superapp_directory_handle",
            "name, acct, origin, state, skeleton, discover, chosen, since_ms, seq, digest, record, renew_ms",
            handles,
        )
        database.insert("superapp_directory_leaf", "number, entry", leaves)
        database.insert("superapp_directory_logged", "subject, digest, number, salt", logged)
        database.insert("superapp_directory_feed", "name, position, entry, withdrawn_ms", feed)
        for rows in (accounts, handles, leaves, logged, feed):
            rows.clear()

    place = database.number("SELECT size FROM superapp_directory_log")
    position = database.number("SELECT head FROM superapp_directory_state")
    for each in _issued(server, key, numbers, now_ms):
        user_id = f"@{each.name}:{server}"
        accounts.append((each.acct, user_id, each.genesis, at["installed_ms"]))
        handles.append(
            (
                *(each.name, each.acct, "localpart", "active", each.look, "public", 1, at["installed_ms"], 1),
                *(each.digest, each.record, at["renew_ms"]),
            )
        )
        leaves.append((place, each.leaf))
        logged.append((each.name, each.digest, place, each.salt))
        place += 1
        position += 1
        feed.append((each.name, position, each.record, None))
        if len(accounts) >= 4 * _CHUNK:
            flush()
    flush()
    database.execute("UPDATE superapp_directory_log SET size = ?", (place,))
    database.execute("UPDATE superapp_directory_state SET head = ?, accounts_known_ms = ?", (position, now_ms))


def fill_peers(database: Database, numbers: range, now_ms: int) -> None:
    """Replicated public handles of a handful of other servers."""

    def rows() -> Iterator[Sequence[object]]:
        for number in numbers:
            server = PEER_SERVERS[number % len(PEER_SERVERS)]
            handle = f"@{name(number)}:{server}"
            acct = to_b64(sha256(handle.encode()).digest())
            held = _holding(name(number), acct, handle, now_ms)
            content = records.stable_part(held, server, _FACTS, alias_of=None) | {
                "seq": 1,
                "issued": now_ms,
                "expires": now_ms + 30 * _DAY_MS,
                "key_id": "ed25519:nobodys0",
                "signature": "A" * 86,
            }
            text = canonical(content).decode()
            yield (
                *(handle, name(number), server, acct, handle, "active", "public", 1, now_ms, now_ms + 30 * _DAY_MS),
                *(now_ms, text),
            )

    columns = "handle, name, server, acct, user_id, status, discover, seq, issued_ms, expires_ms, current_ms, record"
    database.insert("superapp_directory_replica", columns, rows())


def fill_synapse(database: Database, own: ServerName, size: int, now_ms: int, server_of: Callable[[int], str]) -> None:
    """The same people in Synapse: its accounts, and its user directory with display names."""

    def user_id(number: int) -> str:
        return f"@{name(number)}:{server_of(number)}"

    def display(number: int) -> str:
        return name(number).replace("_", " ").replace(".", " ").title()

    created_s = (now_ms - 2 * _DAY_MS) // 1000
    ours = (number for number in range(size) if server_of(number) == own)
    database.insert(
        "users",
        "name, creation_ts, admin, is_guest, deactivated",
        ((user_id(number), created_s, 0, 0, 0) for number in ours),
    )
    database.insert(
        "user_directory",
        "user_id, display_name, avatar_url",
        ((user_id(number), display(number), None) for number in range(size)),
    )
    if database.engine is Engine.SQLITE:
        database.insert(
            "user_directory_search",
            "user_id, value",
            ((user_id(number), f"{user_id(number)} {display(number)}".lower()) for number in range(size)),
        )
    else:
        # As Synapse weighs them: localpart, server name, display name.
        database.execute(
            "INSERT INTO user_directory_search (user_id, vector) SELECT user_id,"
            " setweight(to_tsvector('simple', split_part(substr(user_id, 2), ':', 1)), 'A')"
            " || setweight(to_tsvector('simple', split_part(user_id, ':', 2)), 'D')"
            " || setweight(to_tsvector('simple', lower(display_name)), 'B') FROM user_directory"
            " ON CONFLICT (user_id) DO NOTHING"
        )


_FACTS: Final = Facts(msk=None, services=SERVICES)


def _issued(server: ServerName, key: SigningKey, numbers: range, now_ms: int) -> Iterator[Issued]:
    """In order, made by as many processes as there are processors."""
    chunks = [numbers[at : at + _CHUNK] for at in range(0, len(numbers), _CHUNK)]
    with ProcessPoolExecutor() as pool:
        for made in pool.map(_issue_chunk, *zip(*((server, bytes(key), each, now_ms) for each in chunks), strict=True)):
            yield from made


def _issue_chunk(server: ServerName, seed: bytes, numbers: range, now_ms: int) -> list[Issued]:
    key = SigningKey(seed)
    return [_issue(server, key, number, now_ms) for number in numbers]


def _issue(server: ServerName, key: SigningKey, number: int, now_ms: int) -> Issued:
    known_as = name(number)
    genesis = Genesis(server=server, localpart=known_as, created_ms=now_ms, nonce=f"{number:032x}")
    held = _holding(known_as, genesis.acct(), f"@{known_as}:{server}", now_ms)
    content = records.record(held, server, _FACTS, key, seq=1, prev=None, alias_of=None, issued_ms=now_ms)
    record_digest = digest(content)
    salt = sha256(number.to_bytes(32, "big")).digest()
    return Issued(
        number=number,
        name=known_as,
        acct=held.acct,
        genesis=canonical(genesis.content()).decode(),
        look=skeleton(known_as),
        digest=record_digest,
        record=canonical(content).decode(),
        salt=to_b64(salt),
        leaf=to_b64(log.entry_of(salt, record_digest)),
    )


def _holding(known_as: str, acct: Any, user_id: str, now_ms: int) -> Holding:
    return Holding(
        name=Name(known_as),
        acct=acct,
        user_id=UserId(user_id),
        origin=Origin.LOCALPART,
        state=State.ACTIVE,
        frozen_for=None,
        contested_by=None,
        discover=Discover.PUBLIC,
        chosen=True,
        primary=True,
        since_ms=now_ms,
        released_ms=None,
        seq=1,
        digest=None,
        record=None,
        renew_ms=0,
    )
