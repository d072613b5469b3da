"""SQL of letting somebody of another homeserver know that one follows them, and of such followers of people here.

A follow is nobody's business but its owner's, until they say that the other may know. Only the other's homeserver is
told then, and of that one follow; so two people who both said so know that they follow each other, and nobody else.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, LiteralString

from super_app.accounts import store
from super_app.db import Cursor, Row
from super_app.ids import Acct, UserId

MAX_FOLLOWERS: Final = 10_000
"""Of one person, at other homeservers."""
DAY_MS: Final = 86_400_000
GIVE_UP_AFTER_MS: Final = 30 * DAY_MS
FIRST_PAUSE_MS: Final = 60_000
LONGEST_PAUSE_MS: Final = DAY_MS // 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowWord:
    """What the homeserver of ``peer`` is to be told: that ``owner``, of this homeserver, follows them, or no more."""

    owner: UserId
    owner_acct: Acct
    peer: UserId
    peer_acct: Acct
    follows: bool
    said_ms: int


def tell(cur: Cursor, owner: Acct, peer: UserId, peer_acct: Acct, now_ms: int) -> None:
    """Have somebody told that they are followed; nothing if they are already."""
    cur.execute(
        "INSERT INTO superapp_follow_word (owner_acct, peer_user_id, peer_acct, follows, delivered, said_ms, due_ms)"
        " VALUES (?, ?, ?, 1, 0, ?, ?) ON CONFLICT (owner_acct, peer_user_id) DO UPDATE SET follows = 1, delivered = 0,"
        " peer_acct = excluded.peer_acct, said_ms = excluded.said_ms, due_ms = excluded.due_ms"
        " WHERE superapp_follow_word.follows = 0 OR superapp_follow_word.peer_acct <> excluded.peer_acct",
        (owner, peer, peer_acct, now_ms, now_ms),
    )


def take_back(cur: Cursor, owner: Acct, peer: UserId, now_ms: int) -> None:
    """Have somebody told that they are followed no more, if they were told that they are."""
    cur.execute(
        "UPDATE superapp_follow_word SET follows = 0, delivered = 0, said_ms = ?, due_ms = ?"
        " WHERE owner_acct = ? AND peer_user_id = ? AND follows = 1",
        (now_ms, now_ms, owner, peer),
    )


def due(cur: Cursor, now_ms: int, limit: int) -> tuple[FollowWord, ...]:
    """What is to be told now, what has waited longest first."""
    cur.execute(
        _WORDS + " WHERE w.delivered = 0 AND w.due_ms <= ? ORDER BY w.due_ms, w.owner_acct, w.peer_user_id LIMIT ?",
        (now_ms, limit),
    )
    return tuple(_word(row) for row in cur.fetchall())


def delivered(cur: Cursor, word: FollowWord) -> None:
    """The other homeserver knows. Another word that was said meanwhile stays to be told."""
    if word.follows:
        cur.execute(
            "UPDATE superapp_follow_word SET delivered = 1"
            " WHERE owner_acct = ? AND peer_user_id = ? AND follows = 1 AND said_ms = ?",
            (word.owner_acct, word.peer, word.said_ms),
        )
    else:
        cur.execute(
            "DELETE FROM superapp_follow_word"
            " WHERE owner_acct = ? AND peer_user_id = ? AND follows = 0 AND said_ms = ?",
            (word.owner_acct, word.peer, word.said_ms),
        )


def postpone(cur: Cursor, word: FollowWord, now_ms: int) -> None:
    """The other homeserver did not hear it: later, each time twice as much, and not for ever."""
    waited_ms = now_ms - word.said_ms
    if waited_ms > GIVE_UP_AFTER_MS and not word.follows:
        cur.execute(
            "DELETE FROM superapp_follow_word WHERE owner_acct = ? AND peer_user_id = ? AND follows = 0",
            (word.owner_acct, word.peer),
        )
        return
    pause_ms = min(max(FIRST_PAUSE_MS, waited_ms), LONGEST_PAUSE_MS)
    cur.execute(
        "UPDATE superapp_follow_word SET due_ms = ? WHERE owner_acct = ? AND peer_user_id = ? AND said_ms = ?",
        (now_ms + pause_ms, word.owner_acct, word.peer, word.said_ms),
    )


def told(cur: Cursor, owner: Acct) -> frozenset[UserId]:
    """Whom an account lets know that it follows them."""
    cur.execute("SELECT peer_user_id FROM superapp_follow_word WHERE owner_acct = ? AND follows = 1", (owner,))
    return frozenset(UserId(str(row[0])) for row in cur.fetchall())


# What others let us know.


def hear(
    cur: Cursor, peer: UserId, peer_acct: Acct, user_id: UserId, acct: Acct, *, follows: bool, now_ms: int
) -> None:
    """Somebody elsewhere follows one of our people, or no more. Nothing happens if nobody here has that acct."""
    account = store.by_user_id(cur, user_id)
    if account is None or account.acct != acct:
        return
    if not follows:
        cur.execute("DELETE FROM superapp_heard_follow WHERE owner_acct = ? AND peer_user_id = ?", (acct, peer))
        return
    cur.execute("SELECT COUNT(*) FROM superapp_heard_follow WHERE owner_acct = ?", (acct,))
    row = cur.fetchone()
    if row is not None and int(row[0] or 0) >= MAX_FOLLOWERS:
        return
    cur.execute(
        "INSERT INTO superapp_heard_follow (owner_acct, peer_user_id, peer_acct, since_ms) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (owner_acct, peer_user_id) DO UPDATE SET peer_acct = excluded.peer_acct",
        (acct, peer, peer_acct, now_ms),
    )


def forget(cur: Cursor, owner: Acct, peer: UserId) -> None:
    """Whom somebody blocks is their follower no more, as far as they can see."""
    cur.execute("DELETE FROM superapp_heard_follow WHERE owner_acct = ? AND peer_user_id = ?", (owner, peer))


def erase_person(cur: Cursor, owner: Acct) -> int:
    """Forget who follows somebody from elsewhere, and have those who know that they are followed told to forget it."""
    cur.execute("DELETE FROM superapp_heard_follow WHERE owner_acct = ?", (owner,))
    erased = cur.rowcount
    cur.execute(
        "UPDATE superapp_follow_word SET follows = 0, delivered = 0, said_ms = said_ms + 1, due_ms = 0"
        " WHERE owner_acct = ? AND follows = 1",
        (owner,),
    )
    return erased + cur.rowcount


def moved(cur: Cursor, before: UserId, before_acct: Acct, after: UserId, after_acct: Acct, now_ms: int) -> None:
    """Somebody goes by another user id and acct: as a follower, and as one who is told of followers."""
    found = (before, before_acct)
    cur.execute(
        "DELETE FROM superapp_heard_follow WHERE peer_user_id = ? AND owner_acct IN"
        " (SELECT owner_acct FROM superapp_heard_follow WHERE peer_user_id = ? AND peer_acct = ?)",
        (after, *found),
    )
    cur.execute(
        "UPDATE superapp_heard_follow SET peer_user_id = ?, peer_acct = ? WHERE peer_user_id = ? AND peer_acct = ?",
        (after, after_acct, *found),
    )
    cur.execute(
        "SELECT owner_acct FROM superapp_follow_word WHERE peer_user_id = ? AND peer_acct = ? AND follows = 1", found
    )
    for row in cur.fetchall():
        tell(cur, Acct(str(row[0])), after, after_acct, now_ms)
    cur.execute("DELETE FROM superapp_follow_word WHERE peer_user_id = ? AND peer_acct = ?", found)


def mutual_among(cur: Cursor, user_id: UserId, others: Collection[UserId]) -> frozenset[UserId]:
    """Which of some people, whom a local user follows, follow them too, as far as this homeserver was told."""
    if not others:
        return frozenset()
    marks: list[LiteralString] = ["?" for _ in others]
    cur.execute(
        "SELECT f.peer_user_id FROM superapp_account own JOIN superapp_follow f ON f.owner_acct = own.acct"
        " LEFT JOIN superapp_account other ON other.user_id = f.peer_user_id"
        " LEFT JOIN superapp_follow back ON back.owner_acct = other.acct AND back.peer_user_id = own.user_id"
        " LEFT JOIN superapp_heard_follow told ON told.owner_acct = own.acct AND told.peer_user_id = f.peer_user_id"
        " AND told.peer_acct = f.peer_acct"
        " WHERE own.user_id = ? AND (back.owner_acct IS NOT NULL OR told.owner_acct IS NOT NULL)"
        " AND f.peer_user_id IN (" + ", ".join(marks) + ")",
        (user_id, *sorted(others)),
    )
    return frozenset(UserId(str(row[0])) for row in cur.fetchall())


_WORDS: Final[LiteralString] = (
    "SELECT a.user_id, w.owner_acct, w.peer_user_id, w.peer_acct, w.follows, w.said_ms"
    " FROM superapp_follow_word w JOIN superapp_account a ON a.acct = w.owner_acct"
)


def _word(row: Row) -> FollowWord:
    return FollowWord(
        owner=UserId(str(row[0])),
        owner_acct=Acct(str(row[1])),
        peer=UserId(str(row[2])),
        peer_acct=Acct(str(row[3])),
        follows=row[4] == 1,
        said_ms=int(row[5] or 0),
    )
