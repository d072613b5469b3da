"""SQL of generations of logs, ours and others'."""

import json
from dataclasses import dataclass
from typing import Any

from super_app.db import Cursor
from super_app.directory import generations, log_store, store
from super_app.directory.generations import Begun, Generation
from super_app.directory.log_store import Tiles
from super_app.directory.model import Record
from super_app.ids import Handle, ServerName
from super_app.signing import canonical, from_b64, to_b64
from super_app.transparency import tiles, tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """A backup that was put back here, and the tree that it came with."""

    restore_id: str
    restored_ms: int
    base_size: int
    base_root: bytes
    base_s: int
    settled_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnGeneration:
    """A generation of our own log; ``statement`` as it was signed last."""

    number: int
    base: tuple[int, bytes]
    base_s: int
    declared_ms: int
    given_up: tuple[tuple[int, bytes], ...]
    statement: dict[str, Any]


# Ours.


def restores(cur: Cursor) -> tuple[Restore, ...]:
    """Restores, oldest first. One that is new is given the tree that is there now."""
    cur.execute("SELECT tree_size, time_s FROM superapp_directory_log")
    row = cur.fetchone()
    size, time_s = (0, 0) if row is None else (int(row[0] or 0), int(row[1] or 0))
    cur.execute("SELECT 1 FROM superapp_directory_restore WHERE base_size IS NULL LIMIT 1")
    if cur.fetchone() is not None:
        root = tiles.root(Tiles(cur), size) if size else tree.EMPTY_ROOT
        cur.execute(
            "UPDATE superapp_directory_restore SET base_size = ?, base_root = ?, base_s = ? WHERE base_size IS NULL",
            (size, to_b64(root), time_s),
        )
    cur.execute(
        "SELECT restore_id, restored_ms, base_size, base_root, base_s, settled_ms FROM superapp_directory_restore"
        " ORDER BY restored_ms, restore_id"
    )
    return tuple(
        Restore(
            restore_id=str(each[0]),
            restored_ms=int(each[1] or 0),
            base_size=int(each[2] or 0),
            base_root=from_b64(str(each[3])),
            base_s=int(each[4] or 0),
            settled_ms=None if each[5] is None else int(each[5]),
        )
        for each in cur.fetchall()
    )


def is_settling(cur: Cursor) -> bool:
    cur.execute("SELECT 1 FROM superapp_directory_restore WHERE settled_ms IS NULL LIMIT 1")
    return cur.fetchone() is not None


def settle(cur: Cursor, now_ms: int) -> None:
    cur.execute("UPDATE superapp_directory_restore SET settled_ms = ? WHERE settled_ms IS NULL", (now_ms,))


def own(cur: Cursor) -> OwnGeneration | None:
    """The newest generation of ours; None while the log is the first."""
    cur.execute(
        "SELECT number, base_size, base_root, base_s, declared_ms, given_up, statement"
        " FROM superapp_directory_own_generation ORDER BY number DESC LIMIT 1"
    )
    row = cur.fetchone()
    if row is None:
        return None
    return OwnGeneration(
        number=int(row[0] or 0),
        base=(int(row[1] or 0), from_b64(str(row[2]))),
        base_s=int(row[3] or 0),
        declared_ms=int(row[4] or 0),
        given_up=tuple((int(size), from_b64(root)) for size, root in json.loads(str(row[5]))),
        statement=json.loads(str(row[6])),
    )


def put_own(cur: Cursor, found: OwnGeneration) -> None:
    given_up = json.dumps([[size, to_b64(root)] for size, root in sorted(found.given_up)])
    cur.execute(
        "INSERT INTO superapp_directory_own_generation"
        " (number, base_size, base_root, base_s, declared_ms, given_up, statement) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (number) DO UPDATE SET given_up = excluded.given_up, statement = excluded.statement",
        (
            found.number,
            found.base[0],
            to_b64(found.base[1]),
            found.base_s,
            found.declared_ms,
            given_up,
            canonical(found.statement).decode(),
        ),
    )


def lock(cur: Cursor) -> None:
    """Until the transaction ends nobody else appends, signs a checkpoint or declares a generation."""
    log_store.lock(cur)


# Others'.


def see(cur: Cursor, declared: Generation, now_ms: int) -> int:
    """Note a declaration that we have not gone on with; when the first such one of that server was seen."""
    cur.execute(
        "INSERT INTO superapp_directory_generation (server, number, statement, before_note, seen_ms, begun_ms)"
        " VALUES (?, ?, ?, NULL, ?, NULL) ON CONFLICT (server, number) DO NOTHING",
        (declared.server, declared.number, canonical(dict(declared.content)).decode(), now_ms),
    )
    cur.execute(
        "SELECT MIN(seen_ms) FROM superapp_directory_generation WHERE server = ? AND begun_ms IS NULL",
        (declared.server,),
    )
    row = cur.fetchone()
    return now_ms if row is None or row[0] is None else int(row[0])


def begin(cur: Cursor, declared: Generation, before_note: str, now_ms: int) -> None:
    """We go on with a generation; those that were seen before it are over."""
    cur.execute(
        "DELETE FROM superapp_directory_generation WHERE server = ? AND begun_ms IS NULL AND number <= ?",
        (declared.server, declared.number),
    )
    cur.execute(
        "INSERT INTO superapp_directory_generation (server, number, statement, before_note, seen_ms, begun_ms)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (server, number) DO NOTHING",
        (declared.server, declared.number, canonical(dict(declared.content)).decode(), before_note, now_ms, now_ms),
    )
    guard(cur, declared.server, declared.base_s * 1000, now_ms + generations.GUARDED_MS)


def guard(cur: Cursor, server: ServerName, issued_after_ms: int, until_ms: int) -> None:
    """Remember whose the names are that the server may have lost. A withdrawal does not take that away."""
    cur.execute(
        "INSERT INTO superapp_directory_guarded (handle, server, record, until_ms)"
        " SELECT handle, server, record, ? FROM superapp_directory_replica WHERE server = ? AND issued_ms > ?"
        " ON CONFLICT (handle) DO NOTHING",
        (until_ms, server, issued_after_ms),
    )


def guarded(cur: Cursor, handle: Handle, now_ms: int) -> Record | None:
    """The record of a name from before its homeserver was restored, while that counts."""
    cur.execute(
        "SELECT record FROM superapp_directory_guarded WHERE handle = ? AND until_ms > ?",
        (handle, now_ms),
    )
    row = cur.fetchone()
    return None if row is None else store.record_of(str(row[0]))


def forget_guarded(cur: Cursor, now_ms: int) -> None:
    cur.execute("DELETE FROM superapp_directory_guarded WHERE until_ms <= ?", (now_ms,))


def last(cur: Cursor, server: ServerName) -> Begun | None:
    """The generation of a server's log with which we went on last."""
    cur.execute(
        "SELECT statement, before_note, begun_ms FROM superapp_directory_generation"
        " WHERE server = ? AND begun_ms IS NOT NULL ORDER BY number DESC LIMIT 1",
        (server,),
    )
    row = cur.fetchone()
    if row is None:
        return None
    found = generations.kept(json.loads(str(row[0])))
    return None if found is None else Begun(generation=found, before_note=str(row[1]), begun_ms=int(row[2] or 0))


def all_begun(cur: Cursor, limit: int) -> tuple[Begun, ...]:
    """What people are shown: restores of other homeservers, the newest first."""
    cur.execute(
        "SELECT statement, before_note, begun_ms FROM superapp_directory_generation WHERE begun_ms IS NOT NULL"
        " ORDER BY begun_ms DESC, server LIMIT ?",
        (limit,),
    )
    found: list[Begun] = []
    for row in cur.fetchall():
        declared = generations.kept(json.loads(str(row[0])))
        if declared is not None:
            found.append(Begun(generation=declared, before_note=str(row[1]), begun_ms=int(row[2] or 0)))
    return tuple(found)
