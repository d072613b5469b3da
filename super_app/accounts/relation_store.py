"""SQL of whom people follow and block, and of what becomes of all relations when somebody moves."""

from super_app.accounts import follow_word_store
from super_app.accounts.model import MovedRelations, Peer, Unnamed
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
    """Who follows somebody of this homeserver, oldest first: its people, and people elsewhere who let that be known.

    Their handle is not known here.
    """
    cur.execute(
        "SELECT f.owner_acct, a.user_id, a.user_id, f.since_ms AS since_ms,"
        " CASE WHEN back.owner_acct IS NULL THEN 0 ELSE 1 END"
        " FROM superapp_follow f JOIN superapp_account a ON a.acct = f.owner_acct"
        " LEFT JOIN superapp_account own ON own.user_id = f.peer_user_id"
        " LEFT JOIN superapp_follow back ON back.owner_acct = own.acct AND back.peer_user_id = a.user_id"
        " WHERE f.peer_user_id = ?"
        " UNION ALL SELECT t.peer_acct, t.peer_user_id, t.peer_user_id, t.since_ms,"
        " CASE WHEN mine.owner_acct IS NULL THEN 0 ELSE 1 END"
        " FROM superapp_account own JOIN superapp_heard_follow t ON t.owner_acct = own.acct"
        " LEFT JOIN superapp_follow mine ON mine.owner_acct = own.acct AND mine.peer_user_id = t.peer_user_id"
        " WHERE own.user_id = ? ORDER BY since_ms, 2",
        (user_id, user_id),
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


# Moving.


def know(cur: Cursor, acct: Acct, user_id: UserId) -> bool:
    """Whether anybody here has somebody of this acct and user id as a contact, follows or blocks them."""
    cur.execute(
        "SELECT 1 FROM superapp_contact WHERE peer_user_id = ? AND peer_acct = ?"
        " UNION ALL SELECT 1 FROM superapp_follow WHERE peer_user_id = ? AND peer_acct = ?"
        " UNION ALL SELECT 1 FROM superapp_block WHERE peer_user_id = ? AND peer_acct = ? LIMIT 1",
        (user_id, acct, user_id, acct, user_id, acct),
    )
    return cur.fetchone() is not None


def knows(cur: Cursor, user_id: UserId) -> bool:
    """Whether anybody here has a user id as a contact, follows or blocks it."""
    cur.execute(
        "SELECT 1 FROM superapp_contact WHERE peer_user_id = ?"
        " UNION ALL SELECT 1 FROM superapp_follow WHERE peer_user_id = ?"
        " UNION ALL SELECT 1 FROM superapp_block WHERE peer_user_id = ? LIMIT 1",
        (user_id, user_id, user_id),
    )
    return cur.fetchone() is not None


def moved(cur: Cursor, before: Peer, after: Peer, *, unnamed: Unnamed) -> MovedRelations:
    """Somebody goes by another acct and user id from now on: all relations of people here to them go along.

    What their owners keep (since when, favourite, note) stays. Whoever had a relation to both has one. ``before`` is
    matched by user id and acct: another homeserver cannot take somebody along by naming their acct. ``unnamed`` says
    whether relations from a time when no directory told an acct are theirs too.
    """
    accts = (before.acct, "" if unnamed is Unnamed.GO_ALONG else before.acct)
    whose = "WHERE peer_user_id = ? AND peer_acct IN (?, ?)"
    found = (before.user_id, *accts)
    now = (after.user_id, after.acct, after.handle)
    cur.execute("SELECT owner_acct FROM superapp_contact " + whose, found)
    contacts = _accts(cur.fetchall())
    cur.execute("SELECT owner_acct FROM superapp_follow " + whose, found)
    follows = _accts(cur.fetchall())
    cur.execute("SELECT owner_acct FROM superapp_block " + whose, found)
    blocks = _accts(cur.fetchall())
    for owner in contacts:
        _keep_details(cur, owner, before.user_id, after.user_id)
        cur.execute("DELETE FROM superapp_contact WHERE owner_acct = ? AND peer_user_id = ?", (owner, after.user_id))
    for owner in follows:
        cur.execute("DELETE FROM superapp_follow WHERE owner_acct = ? AND peer_user_id = ?", (owner, after.user_id))
    for owner in blocks:
        cur.execute("DELETE FROM superapp_block WHERE owner_acct = ? AND peer_user_id = ?", (owner, after.user_id))
    cur.execute("UPDATE superapp_contact SET peer_user_id = ?, peer_acct = ?, handle = ? " + whose, (*now, *found))
    cur.execute("UPDATE superapp_follow SET peer_user_id = ?, peer_acct = ?, handle = ? " + whose, (*now, *found))
    cur.execute("UPDATE superapp_block SET peer_user_id = ?, peer_acct = ?, handle = ? " + whose, (*now, *found))
    follow_word_store.moved(cur, before.user_id, before.acct, after.user_id, after.acct, after.since_ms)
    return MovedRelations(contacts=_owners(cur, contacts), blocks=_owners(cur, blocks))


def _keep_details(cur: Cursor, owner: Acct, before: UserId, after: UserId) -> None:
    """What the owner kept about either is kept about the one that stays; the older note comes first."""
    cur.execute(
        "SELECT favourite, note FROM superapp_contact WHERE owner_acct = ? AND peer_user_id = ?", (owner, after)
    )
    row = cur.fetchone()
    if row is None:
        return
    cur.execute(
        "UPDATE superapp_contact SET favourite = CASE WHEN favourite = 1 THEN 1 ELSE ? END,"
        " note = CASE WHEN note = '' THEN ? ELSE note END WHERE owner_acct = ? AND peer_user_id = ?",
        (int(row[0] or 0), str(row[1]), owner, before),
    )


def _accts(rows: list[Row]) -> tuple[Acct, ...]:
    return tuple(sorted(Acct(str(row[0])) for row in rows))


def _owners(cur: Cursor, accts: tuple[Acct, ...]) -> tuple[UserId, ...]:
    owners: list[UserId] = []
    for acct in accts:
        cur.execute("SELECT user_id FROM superapp_account WHERE acct = ?", (acct,))
        owners += [UserId(str(row[0])) for row in cur.fetchall()]
    return tuple(owners)


_FOLLOWING = (
    "SELECT f.peer_acct, f.peer_user_id, f.handle, f.since_ms,"
    " CASE WHEN back.owner_acct IS NULL AND told.owner_acct IS NULL THEN 0 ELSE 1 END"
    " FROM superapp_follow f JOIN superapp_account own ON own.acct = f.owner_acct"
    " LEFT JOIN superapp_account other ON other.user_id = f.peer_user_id"
    " LEFT JOIN superapp_follow back ON back.owner_acct = other.acct AND back.peer_user_id = own.user_id"
    " LEFT JOIN superapp_heard_follow told ON told.owner_acct = own.acct AND told.peer_user_id = f.peer_user_id"
    " AND told.peer_acct = f.peer_acct"
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


def erase_person(cur: Cursor, owner: Acct) -> int:
    """Forget whom somebody knew, followed and blocked, and how they signed in; how much. Who knew them keeps that."""
    erased = 0
    for statement in (
        "DELETE FROM superapp_contact WHERE owner_acct = ?",
        "DELETE FROM superapp_follow WHERE owner_acct = ?",
        "DELETE FROM superapp_block WHERE owner_acct = ?",
        "DELETE FROM superapp_sign_in WHERE acct = ?",
    ):
        cur.execute(statement, (owner,))
        erased += cur.rowcount
    return erased + follow_word_store.erase_person(cur, owner)
