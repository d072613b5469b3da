"""Opening, finding and ending sessions, each in one transaction."""

from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct
from super_app.sessions import store
from super_app.sessions.model import LIFETIME_MS, MAX_SESSIONS, Session, SessionToken, token_hash


def open_session(cur: Cursor, acct: Acct, token: SessionToken, now_ms: int) -> int:
    """Until when it is open, in milliseconds since 1970."""
    expires_ms = now_ms + LIFETIME_MS
    store.delete_expired(cur, now_ms)
    store.delete_beyond(cur, acct, MAX_SESSIONS - 1)
    store.add(cur, token_hash(token), acct, now_ms, expires_ms)
    return expires_ms


def find_session(cur: Cursor, token: SessionToken, now_ms: int) -> Session | Refused:
    session = store.find(cur, token_hash(token))
    if session is None or session.expires_ms <= now_ms:
        return unknown_session()
    return session


def unknown_session() -> Refused:
    return Refused(reason=Reason.UNKNOWN_SESSION, message="This session of the wallet is over; open the wallet again.")


def end_sessions(cur: Cursor, acct: Acct, now_ms: int) -> int:
    """End all of an account; how many were open."""
    store.delete_expired(cur, now_ms)
    return store.delete_of(cur, acct)
