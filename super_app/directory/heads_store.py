"""SQL of what is known of other servers' logs, of their cosignatures on ours, and of the evidence against them."""

import json
from dataclasses import dataclass
from typing import Any, Final, LiteralString

from super_app.db import Cursor, Row
from super_app.directory.heads import Evidence, Kind, SeenHead
from super_app.directory.model import DirectoryKey
from super_app.ids import ServerName
from super_app.signing import canonical, from_b64, to_b64

_HEADS: Final[LiteralString] = (
    "SELECT server, size, root, note, time_s, certificate, cosignature FROM superapp_directory_head"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnessed:
    """A head as it is kept, with our cosignature on it (a signature line)."""

    head: SeenHead
    cosignature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigned:
    """The newest checkpoint of ours that a witness has cosigned, and its signature line."""

    witness: ServerName
    size: int
    root: bytes
    line: str
    time_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Evidence against a server; in force until somebody lifts it."""

    evidence: Evidence
    found_ms: int
    lifted_ms: int | None
    lifted_by: str | None


# Heads.


def head(cur: Cursor, server: ServerName) -> Witnessed | None:
    cur.execute(_HEADS + " WHERE server = ?", (server,))
    row = cur.fetchone()
    return None if row is None else _witnessed(row)


def heads(cur: Cursor, limit: int) -> tuple[Witnessed, ...]:
    """Those seen last first."""
    cur.execute(_HEADS + " ORDER BY seen_ms DESC, server LIMIT ?", (limit,))
    return tuple(_witnessed(row) for row in cur.fetchall())


def replace_head(cur: Cursor, known: SeenHead | None, fresh: SeenHead, cosignature: str, now_ms: int) -> bool:
    """Remember a head in place of the one that it was judged by; False if another one is remembered by now."""
    values = (
        fresh.size,
        to_b64(fresh.root),
        fresh.note,
        fresh.time_s,
        canonical(dict(fresh.key.certificate)).decode(),
        cosignature,
        now_ms,
    )
    if known is None:
        cur.execute(
            "INSERT INTO superapp_directory_head"
            " (size, root, note, time_s, certificate, cosignature, seen_ms, server) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (server) DO NOTHING",
            (*values, fresh.server),
        )
    else:
        cur.execute(
            "UPDATE superapp_directory_head SET size = ?, root = ?, note = ?, time_s = ?, certificate = ?,"
            " cosignature = ?, seen_ms = ? WHERE server = ? AND size = ? AND root = ?",
            (*values, fresh.server, known.size, to_b64(known.root)),
        )
    return cur.rowcount == 1


def forget_head(cur: Cursor, server: ServerName) -> None:
    """The next checkpoint that the server shows is believed as the first."""
    cur.execute("DELETE FROM superapp_directory_head WHERE server = ?", (server,))


# Witnesses of ours.


def put_cosignature(cur: Cursor, cosigned: Cosigned) -> None:
    """Keep a witness's cosignature, unless one of a larger tree or a later time is kept."""
    cur.execute(
        "INSERT INTO superapp_directory_cosignature (witness, size, root, line, time_s) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (witness) DO UPDATE SET size = excluded.size, root = excluded.root, line = excluded.line,"
        " time_s = excluded.time_s WHERE excluded.size > superapp_directory_cosignature.size"
        " OR (excluded.size = superapp_directory_cosignature.size"
        " AND excluded.time_s > superapp_directory_cosignature.time_s)",
        (cosigned.witness, cosigned.size, to_b64(cosigned.root), cosigned.line, cosigned.time_s),
    )


def cosignatures(cur: Cursor, size: int, root: bytes, limit: int) -> tuple[Cosigned, ...]:
    """Who has cosigned exactly this checkpoint of ours, the newest first."""
    cur.execute(
        "SELECT witness, size, root, line, time_s FROM superapp_directory_cosignature"
        " WHERE size = ? AND root = ? ORDER BY time_s DESC, witness LIMIT ?",
        (size, to_b64(root), limit),
    )
    return tuple(
        Cosigned(
            witness=ServerName(str(row[0])),
            size=_int(row[1]),
            root=from_b64(str(row[2])),
            line=str(row[3]),
            time_s=_int(row[4]),
        )
        for row in cur.fetchall()
    )


# Evidence.


def add_evidence(cur: Cursor, evidence: Evidence, now_ms: int) -> bool:
    """Keep evidence; False if it is kept already."""
    cur.execute(
        "INSERT INTO superapp_directory_evidence (evidence_id, server, kind, evidence, found_ms)"
        " VALUES (?, ?, ?, ?, ?) ON CONFLICT (evidence_id) DO NOTHING",
        (
            evidence.evidence_id,
            evidence.server,
            evidence.kind.value,
            canonical(dict(evidence.content)).decode(),
            now_ms,
        ),
    )
    return cur.rowcount == 1


def is_frozen(cur: Cursor, server: ServerName) -> bool:
    """Whether there is evidence against a server that nobody has lifted."""
    cur.execute(
        "SELECT 1 FROM superapp_directory_evidence WHERE server = ? AND lifted_ms IS NULL AND kind <> 'rewrite'"
        " LIMIT 1",
        (server,),
    )
    return cur.fetchone() is not None


def frozen(cur: Cursor) -> frozenset[ServerName]:
    cur.execute("SELECT DISTINCT server FROM superapp_directory_evidence WHERE lifted_ms IS NULL AND kind <> 'rewrite'")
    return frozenset(ServerName(str(row[0])) for row in cur.fetchall())


def evidence(cur: Cursor, limit: int) -> tuple[Kept, ...]:
    """All evidence, the newest first."""
    cur.execute(
        "SELECT server, kind, evidence, found_ms, lifted_ms, lifted_by FROM superapp_directory_evidence"
        " ORDER BY found_ms DESC, evidence_id LIMIT ?",
        (limit,),
    )
    return tuple(
        Kept(
            evidence=Evidence(server=ServerName(str(row[0])), kind=Kind(str(row[1])), content=_object(row[2])),
            found_ms=_int(row[3]),
            lifted_ms=None if row[4] is None else _int(row[4]),
            lifted_by=None if row[5] is None else str(row[5]),
        )
        for row in cur.fetchall()
    )


def lift(cur: Cursor, server: ServerName, by: str, now_ms: int) -> bool:
    """Deal with a server again, from the log that it shows next; False if it was not frozen."""
    cur.execute(
        "UPDATE superapp_directory_evidence SET lifted_ms = ?, lifted_by = ? WHERE server = ? AND lifted_ms IS NULL",
        (now_ms, by, server),
    )
    if cur.rowcount == 0:
        return False
    forget_head(cur, server)
    return True


# Keys of ours.


def own_keys(cur: Cursor) -> tuple[tuple[str, str], ...]:
    """The public keys that this homeserver has had, oldest first, each with the rotation that the one before signed."""
    cur.execute("SELECT public_key, rotation FROM superapp_directory_key ORDER BY number")
    return tuple((str(row[0]), str(row[1])) for row in cur.fetchall())


def add_own_key(cur: Cursor, number: int, public_key: str, rotation: str, now_ms: int) -> None:
    cur.execute(
        "INSERT INTO superapp_directory_key (number, public_key, rotation, since_ms) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (number) DO NOTHING",
        (number, public_key, rotation, now_ms),
    )


# The server record.


def server_record(cur: Cursor) -> dict[str, Any] | None:
    cur.execute("SELECT record FROM superapp_directory_server")
    row = cur.fetchone()
    return None if row is None else _object(row[0])


def set_server_record(cur: Cursor, record: str) -> None:
    cur.execute(
        "INSERT INTO superapp_directory_server (singleton, record) VALUES (1, ?)"
        " ON CONFLICT (singleton) DO UPDATE SET record = excluded.record",
        (record,),
    )


def _witnessed(row: Row) -> Witnessed:
    certificate = _object(row[5])
    server = ServerName(str(row[0]))
    return Witnessed(
        head=SeenHead(
            server=server,
            size=_int(row[1]),
            root=from_b64(str(row[2])),
            note=str(row[3]),
            time_s=_int(row[4]),
            key=DirectoryKey(
                server=server,
                key_id=str(certificate["key_id"]),
                public_key=str(certificate["public_key"]),
                certificate=certificate,
            ),
        ),
        cosignature=str(row[6]),
    )


def _object(text: object) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(str(text))
    return content


def _int(value: object) -> int:
    return int(str(value))
