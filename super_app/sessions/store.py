"""SQL of sessions."""

from typing import cast

from super_app.db import Cursor
from super_app.ids import Acct, UserId
from super_app.sessions.model import Session


def add(cur: Cursor, hashed: str, acct: Acct, created_ms: int, expires_ms: int) -> None:
    cur.execute(
        "INSERT INTO superapp_web_session (token_hash, acct, created_ms, expires_ms) VALUES (?, ?, ?, ?)",
        (hashed, acct, created_ms, expires_ms),
    )


def find(cur: Cursor, hashed: str) -> Session | None:
    cur.execute(
        "SELECT account.user_id, session.expires_ms FROM superapp_web_session AS session"
        " JOIN superapp_account AS account ON account.acct = session.acct WHERE session.token_hash = ?",
        (hashed,),
    )
    row = cur.fetchone()
    if row is None:
        return None
    user_id, expires_ms = cast(tuple[str, int], row)
    return Session(user_id=UserId(user_id), expires_ms=expires_ms)


def delete_expired(cur: Cursor, now_ms: int) -> None:
    cur.execute("DELETE FROM superapp_web_session WHERE expires_ms <= ?", (now_ms,))


def delete_beyond(cur: Cursor, acct: Acct, kept: int) -> None:
    """All but the newest ``kept`` of an account."""
    cur.execute(
        "DELETE FROM superapp_web_session WHERE acct = ? AND token_hash NOT IN"
        " (SELECT token_hash FROM superapp_web_session WHERE acct = ? ORDER BY created_ms DESC, token_hash LIMIT ?)",
        (acct, acct, kept),
    )


def delete_of(cur: Cursor, acct: Acct) -> int:
    """How many there were."""
    cur.execute("DELETE FROM superapp_web_session WHERE acct = ?", (acct,))
    return cur.rowcount


def erase_person(cur: Cursor, acct: Acct) -> int:
    """End and forget all sessions of somebody; how many."""
    cur.execute("DELETE FROM superapp_web_session WHERE acct = ?", (acct,))
    return cur.rowcount
