"""SQL of whom people follow and block, and of what becomes of all relations when somebody moves."""

from super_app.accounts.model import Peer
from super_app.db import Cursor, Row
from super_app.ids import Acct, Handle, UserId

# Following.


def follow(cur: Cursor, owner: Acct, peer: Peer) -> None:
    """Follow somebody; again, to refresh what is known of them."""
    cur.execute(
        "INSERT INTO superapp_follow (owner_acct, peer_user_id, peer_acct, handle, since_ms) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (owner_acct, peer_user_id) DO UPDATE SET handle = excluded.handle, peer_acct ="
        " CASE WHEN excluded.peer_acct = '' THEN superapp_follow.peer_acct ELSE excluded.peer_acct END",
        (owner, peer.user_id, peer.acct, peer.handle, peer.since_ms),
    )


def unfollow(cur: Cursor, owner: Acct, peer: UserId) -> None:
    cur.execute("DELETE FROM superapp_follow WHERE owner_acct = ? AND peer_user_id = ?", (owner, peer))


def follows(cur: Cursor, owner: Acct, peer: UserId) -> bool:
    cur.execute("SELECT 1 FROM superapp_follow WHERE owner_acct = ? AND peer_user_id = ?", (owner, peer))
    return cur.fetchone() is not None


def following(cur: Cursor, owner: Acct) -> tuple[Peer, ...]:
    """Whom an account follows, oldest first."""
    cur.execute(_FOLLOWING + " WHERE f.owner_acct = ? ORDER BY f.since_ms, f.peer_user_id", (owner,))
    return tuple(_peer(row) for row in cur.fetchall())


def followed(cur: Cursor, owner: Acct, text: str) -> Peer | None:
    """Whom an account follows under this user id or handle."""
    cur.execute(
        _FOLLOWING + " WHERE f.owner_acct = ? AND (f.peer_user_id = ? OR f.handle = ?)"
        " ORDER BY CASE WHEN f.peer_user_id = ? THEN 0 ELSE 1 END LIMIT 1",
        (owner, text, text, text),
    )
    row = cur.fetchone()
    return None if row is None else _peer(row)


def followers(cur: Cursor, user_id: UserId) -> tuple[Peer, ...]:
    """The people of this homeserver who follow somebody, oldest first. Their handle is not known here."""
    cur.execute(
        "SELECT f.owner_acct, a.user_id, a.user_id, f.since_ms, CASE WHEN back.owner_acct IS NULL THEN 0 ELSE 1 END"
        " FROM superapp_follow f JOIN superapp_account a ON a.acct = f.owner_acct"
        " LEFT JOIN superapp_account own ON own.user_id = f.peer_user_id"
        " LEFT JOIN superapp_follow back ON back.owner_acct = own.acct AND back.peer_user_id = a.user_id"
        " WHERE f.peer_user_id = ? ORDER BY f.since_ms, a.user_id",
        (user_id,),
    )
    return tuple(_peer(row) for row in cur.fetchall())


def count_following(cur: Cursor, owner: Acct) -> int:
    cur.execute("SELECT COUNT(*) FROM superapp_follow WHERE owner_acct = ?", (owner,))
    return _count(cur.fetchone())


# Blocking.


def block(cur: Cursor, owner: Acct, peer: Peer) -> None:
    cur.execute(
        "INSERT INTO superapp_block (owner_acct, peer_user_id, peer_acct, handle, since_ms) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (owner_acct, peer_user_id) DO UPDATE SET handle = excluded.handle, peer_acct ="
        " CASE WHEN excluded.peer_acct = '' THEN superapp_block.peer_acct ELSE excluded.peer_acct END",
        (owner, peer.user_id, peer.acct, peer.handle, peer.since_ms),
    )


def unblock(cur: Cursor, owner: Acct, peer: UserId) -> None:
    cur.execute("DELETE FROM superapp_block WHERE owner_acct = ? AND peer_user_id = ?", (owner, peer))


def blocks(cur: Cursor, owner: UserId, peer: UserId) -> bool:
    """Whether the account of a local user blocks somebody."""
    cur.execute(
        "SELECT 1 FROM superapp_account a JOIN superapp_block b ON b.owner_acct = a.acct"
        " WHERE a.user_id = ? AND b.peer_user_id = ?",
        (owner, peer),
    )
    return cur.fetchone() is not None


def blocking(cur: Cursor, owner: Acct) -> tuple[Peer, ...]:
    """Whom an account blocks, oldest first."""
    cur.execute(_BLOCKING + " WHERE b.owner_acct = ? ORDER BY b.since_ms, b.peer_user_id", (owner,))
    return tuple(_peer(row) for row in cur.fetchall())


def blocked(cur: Cursor, owner: Acct, text: str) -> Peer | None:
    """Whom an account blocks under this user id or handle."""
    cur.execute(
        _BLOCKING + " WHERE b.owner_acct = ? AND (b.peer_user_id = ? OR b.handle = ?)"
        " ORDER BY CASE WHEN b.peer_user_id = ? THEN 0 ELSE 1 END LIMIT 1",
        (owner, text, text, text),
    )
    row = cur.fetchone()
    return None if row is None else _peer(row)


_FOLLOWING = (
    "SELECT f.peer_acct, f.peer_user_id, f.handle, f.since_ms, CASE WHEN back.owner_acct IS NULL THEN 0 ELSE 1 END"
    " FROM superapp_follow f JOIN superapp_account own ON own.acct = f.owner_acct"
    " LEFT JOIN superapp_account other ON other.user_id = f.peer_user_id"
    " LEFT JOIN superapp_follow back ON back.owner_acct = other.acct AND back.peer_user_id = own.user_id"
)
_BLOCKING = "SELECT b.peer_acct, b.peer_user_id, b.handle, b.since_ms, 0 FROM superapp_block b"


def _peer(row: Row) -> Peer:
    return Peer(
        acct=Acct(str(row[0])),
        user_id=UserId(str(row[1])),
        handle=Handle(str(row[2])),
        since_ms=int(row[3] or 0),
        mutual=row[4] == 1,
    )


def _count(row: Row | None) -> int:
    return 0 if row is None else int(row[0] or 0)
