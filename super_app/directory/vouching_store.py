"""SQL of what issuers said here about badges that other homeservers show."""

from collections.abc import Sequence
from dataclasses import dataclass

from super_app.db import Cursor
from super_app.directory.badges import Kind
from super_app.directory.model import Record
from super_app.directory.store import record_of
from super_app.ids import Acct, Handle, ServerName, server_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A badge of somebody elsewhere, by whom it says it is."""

    handle: Handle
    acct: Acct
    kind: Kind
    issuer: str

    @property
    def server(self) -> ServerName:
        return server_of(self.handle)


def badged(cur: Cursor, after: Handle, limit: int, now_ms: int) -> tuple[Record, ...]:
    """Replicated records that show badges, by handle, those after ``after``."""
    cur.execute(
        "SELECT record FROM superapp_directory_replica WHERE badged = 1 AND status = 'active' AND handle > ?"
        " AND expires_ms > ? ORDER BY handle LIMIT ?",
        (after, now_ms, limit),
    )
    return tuple(record_of(str(row[0])) for row in cur.fetchall())


def count(cur: Cursor, server: ServerName) -> int:
    """How many badges of a server's people are looked after."""
    cur.execute("SELECT COUNT(*) FROM superapp_directory_vouching WHERE server = ?", (server,))
    row = cur.fetchone()
    return 0 if row is None else int(row[0] or 0)


def is_looked_after(cur: Cursor, claim: Claim) -> bool:
    cur.execute(
        "SELECT 1 FROM superapp_directory_vouching WHERE handle = ? AND kind = ? AND issuer = ? AND acct = ?",
        (claim.handle, claim.kind.value, claim.issuer, claim.acct),
    )
    return cur.fetchone() is not None


def look_after(cur: Cursor, claim: Claim, now_ms: int) -> None:
    """Have the issuer asked; what it said of another account of this handle does not count."""
    cur.execute(
        "INSERT INTO superapp_directory_vouching (handle, kind, issuer, acct, server, heard_ms, due_ms)"
        " VALUES (?, ?, ?, ?, ?, 0, ?) ON CONFLICT (handle, kind, issuer) DO UPDATE SET acct = excluded.acct,"
        " heard_ms = 0, due_ms = excluded.due_ms",
        (claim.handle, claim.kind.value, claim.issuer, claim.acct, claim.server, now_ms),
    )


def servers_due(cur: Cursor, now_ms: int, limit: int) -> tuple[ServerName, ...]:
    """Servers with badges whose issuers are to be asked, those that have waited longest first."""
    cur.execute(
        "SELECT server FROM superapp_directory_vouching WHERE due_ms <= ? GROUP BY server"
        " ORDER BY MIN(due_ms), server LIMIT ?",
        (now_ms, limit),
    )
    return tuple(ServerName(str(row[0])) for row in cur.fetchall())


def due(cur: Cursor, server: ServerName, now_ms: int, limit: int) -> tuple[Claim, ...]:
    cur.execute(
        "SELECT handle, acct, kind, issuer FROM superapp_directory_vouching WHERE server = ? AND due_ms <= ?"
        " ORDER BY due_ms, handle, issuer LIMIT ?",
        (server, now_ms, limit),
    )
    return tuple(
        Claim(handle=Handle(str(row[0])), acct=Acct(str(row[1])), kind=Kind(str(row[2])), issuer=str(row[3]))
        for row in cur.fetchall()
    )


def hear(cur: Cursor, claim: Claim, heard_ms: int | None, due_ms: int) -> None:
    """What an issuer said: when it stood by the badge, 0 if it does not; None if it was silent and nothing changes."""
    cur.execute(
        "UPDATE superapp_directory_vouching SET heard_ms = COALESCE(?, heard_ms), due_ms = ?"
        " WHERE handle = ? AND kind = ? AND issuer = ? AND acct = ?",
        (heard_ms, due_ms, claim.handle, claim.kind.value, claim.issuer, claim.acct),
    )


def drop(cur: Cursor, claim: Claim) -> None:
    cur.execute(
        "DELETE FROM superapp_directory_vouching WHERE handle = ? AND kind = ? AND issuer = ?",
        (claim.handle, claim.kind.value, claim.issuer),
    )


def heard(cur: Cursor, handle: Handle, acct: Acct, after_ms: int) -> Sequence[tuple[Kind, str]]:
    """Issuers who stood by badges of an account's handle after ``after_ms``."""
    cur.execute(
        "SELECT kind, issuer FROM superapp_directory_vouching WHERE handle = ? AND acct = ? AND heard_ms > ?",
        (handle, acct, after_ms),
    )
    return [(Kind(str(row[0])), str(row[1])) for row in cur.fetchall()]
