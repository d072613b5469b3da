"""SQL of realms and of the tries of one's own people."""

import json
from collections.abc import Sequence
from typing import LiteralString, cast

from super_app.db import Cursor, Row
from super_app.ids import ServerName, UserId
from super_app.recovery.model import AttemptId, Guess, Mark, Share, State, Version

_SHARE: LiteralString = (
    "SELECT user_id, version, state, sealed, sealed_hash, threshold, realms, epoch, guesses, guessed_ms, stored_ms,"
    " claimed_by, claimed_ms"
    " FROM superapp_recovery_share"
)


def shares_of(cur: Cursor, user_id: UserId) -> tuple[Share, ...]:
    """All versions that there ever were, the oldest first."""
    cur.execute(_SHARE + " WHERE user_id = ? ORDER BY version", (user_id,))
    return tuple(_share(row) for row in cur.fetchall())


def share(cur: Cursor, user_id: UserId, version: Version) -> Share | None:
    cur.execute(_SHARE + " WHERE user_id = ? AND version = ?", (user_id, version))
    row = cur.fetchone()
    return None if row is None else _share(row)


def held(cur: Cursor) -> tuple[Share, ...]:
    """Every share that is not destroyed."""
    cur.execute(_SHARE + " WHERE sealed IS NOT NULL ORDER BY user_id, version")
    return tuple(_share(row) for row in cur.fetchall())


def _share(row: Row) -> Share:
    (
        user_id,
        version,
        state,
        sealed,
        sealed_hash,
        threshold,
        realms,
        epoch,
        guesses,
        guessed_ms,
        stored_ms,
        claimed_by,
        claimed_ms,
    ) = cast(tuple[str, int, str, str | None, str, int, str, int, int, int | None, int, str | None, int | None], row)
    return Share(
        user_id=UserId(user_id),
        version=Version(version),
        state=State(state),
        sealed=sealed,
        sealed_hash=sealed_hash,
        threshold=threshold,
        realms=tuple(ServerName(each) for each in json.loads(realms)),
        epoch=epoch,
        guesses=guesses,
        guessed_ms=guessed_ms,
        stored_ms=stored_ms,
        claimed_by=None if claimed_by is None else AttemptId(claimed_by),
        claimed_ms=claimed_ms,
    )


def add_share(cur: Cursor, new: Share) -> None:
    cur.execute(
        "INSERT INTO superapp_recovery_share (user_id, version, state, sealed, sealed_hash, threshold, realms,"
        " stored_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            new.user_id,
            new.version,
            new.state.value,
            new.sealed,
            new.sealed_hash,
            new.threshold,
            json.dumps(list(new.realms)),
            new.stored_ms,
        ),
    )


def count(cur: Cursor, before: Share, guesses: int, guessed_ms: int | None) -> bool:
    """Go on by one epoch from ``before``, with which a claim ends; False if somebody else did."""
    cur.execute(
        "UPDATE superapp_recovery_share SET epoch = ?, guesses = ?, guessed_ms = ?, claimed_by = NULL,"
        " claimed_ms = NULL WHERE user_id = ? AND version = ? AND epoch = ? AND sealed IS NOT NULL",
        (before.epoch + 1, guesses, guessed_ms, before.user_id, before.version, before.epoch),
    )
    return cur.rowcount == 1


def claim(cur: Cursor, before: Share, attempt_id: AttemptId, now_ms: int, before_ms: int) -> bool:
    """Keep other guesses waiting; False if another one does, since then or later, or the share is not as it was."""
    cur.execute(
        "UPDATE superapp_recovery_share SET claimed_by = ?, claimed_ms = ?"
        " WHERE user_id = ? AND version = ? AND epoch = ? AND sealed IS NOT NULL"
        " AND (claimed_by IS NULL OR claimed_by = ? OR claimed_ms <= ?)",
        (attempt_id, now_ms, before.user_id, before.version, before.epoch, attempt_id, before_ms),
    )
    return cur.rowcount == 1


def release(cur: Cursor, user_id: UserId, version: Version, attempt_id: AttemptId) -> None:
    cur.execute(
        "UPDATE superapp_recovery_share SET claimed_by = NULL, claimed_ms = NULL"
        " WHERE user_id = ? AND version = ? AND claimed_by = ?",
        (user_id, version, attempt_id),
    )


def catch_up(cur: Cursor, before: Share, epoch: int, guesses: int, now_ms: int) -> None:
    """What others know of a share that our database has forgotten."""
    cur.execute(
        "UPDATE superapp_recovery_share SET epoch = ?, guesses = ?, guessed_ms = ?"
        " WHERE user_id = ? AND version = ? AND epoch < ? AND sealed IS NOT NULL",
        (epoch, guesses, now_ms, before.user_id, before.version, epoch),
    )


def put_in_use(cur: Cursor, user_id: UserId, version: Version) -> None:
    cur.execute(
        "UPDATE superapp_recovery_share SET state = 'active' WHERE user_id = ? AND version = ? AND state = 'pending'",
        (user_id, version),
    )


def destroy(cur: Cursor, user_id: UserId, version: Version, state: State) -> None:
    forget_guesses(cur, user_id, version)
    cur.execute(
        "UPDATE superapp_recovery_share SET state = ?, sealed = NULL WHERE user_id = ? AND version = ?"
        " AND sealed IS NOT NULL",
        (state.value, user_id, version),
    )


def destroy_spent(cur: Cursor, guesses: int, before_ms: int) -> int:
    """Destroy what had its last guess before then; how many."""
    cur.execute(
        "DELETE FROM superapp_recovery_guess WHERE EXISTS (SELECT 1 FROM superapp_recovery_share AS share"
        " WHERE share.user_id = superapp_recovery_guess.user_id AND share.version = superapp_recovery_guess.version"
        " AND share.guesses >= ? AND share.guessed_ms <= ?)",
        (guesses, before_ms),
    )
    cur.execute(
        "UPDATE superapp_recovery_share SET state = 'spent', sealed = NULL"
        " WHERE guesses >= ? AND guessed_ms <= ? AND sealed IS NOT NULL",
        (guesses, before_ms),
    )
    return cur.rowcount


def guess(cur: Cursor, user_id: UserId, version: Version, attempt_id: AttemptId) -> Guess | None:
    cur.execute(
        "SELECT attempt_id, blinded, nonce, begun_ms, settled_ms FROM superapp_recovery_guess"
        " WHERE user_id = ? AND version = ? AND attempt_id = ?",
        (user_id, version, attempt_id),
    )
    row = cur.fetchone()
    if row is None:
        return None
    found, blinded, nonce, begun_ms, settled_ms = cast(tuple[str, str, str, int | None, int | None], row)
    return Guess(
        attempt_id=AttemptId(found), blinded=blinded or None, nonce=nonce, begun_ms=begun_ms, settled_ms=settled_ms
    )


def add_guess(cur: Cursor, user_id: UserId, version: Version, new: Guess) -> None:
    cur.execute(
        "INSERT INTO superapp_recovery_guess (user_id, version, attempt_id, blinded, nonce, begun_ms)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (user_id, version, new.attempt_id, new.blinded or "", new.nonce, new.begun_ms),
    )


def bind(cur: Cursor, user_id: UserId, version: Version, attempt_id: AttemptId, blinded: str) -> bool:
    """Say what a guess that was begun is to evaluate; False if that was said before."""
    cur.execute(
        "UPDATE superapp_recovery_guess SET blinded = ?"
        " WHERE user_id = ? AND version = ? AND attempt_id = ? AND blinded = ''",
        (blinded, user_id, version, attempt_id),
    )
    return cur.rowcount == 1


def settle_guesses(cur: Cursor, user_id: UserId, version: Version, now_ms: int, before_ms: int) -> None:
    """Those that were answered count no more. Those that were not, or were settled before then, are forgotten."""
    cur.execute(
        "DELETE FROM superapp_recovery_guess WHERE user_id = ? AND version = ? AND (blinded = '' OR settled_ms <= ?)",
        (user_id, version, before_ms),
    )
    cur.execute(
        "UPDATE superapp_recovery_guess SET settled_ms = ? WHERE user_id = ? AND version = ? AND settled_ms IS NULL",
        (now_ms, user_id, version),
    )


def forget_guesses(cur: Cursor, user_id: UserId, version: Version) -> None:
    cur.execute("DELETE FROM superapp_recovery_guess WHERE user_id = ? AND version = ?", (user_id, version))


def mark(cur: Cursor, realm: ServerName, user_id: UserId, version: Version) -> Mark | None:
    cur.execute(
        "SELECT epoch, guesses, attempt_id, gone, signature FROM superapp_recovery_mark"
        " WHERE realm = ? AND user_id = ? AND version = ?",
        (realm, user_id, version),
    )
    row = cur.fetchone()
    if row is None:
        return None
    epoch, guesses, attempt_id, gone, signature = cast(tuple[int, int, str | None, int, str], row)
    return Mark(
        realm=realm,
        user_id=user_id,
        version=version,
        epoch=epoch,
        guesses=guesses,
        attempt_id=None if attempt_id is None else AttemptId(attempt_id),
        gone=bool(gone),
        signature=signature,
    )


def put_mark(cur: Cursor, told: Mark) -> bool:
    """Keep the newer one; False if it is not ``told``, since another came in between."""
    cur.execute(
        "INSERT INTO superapp_recovery_mark (realm, user_id, version, epoch, guesses, attempt_id, gone, signature)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (realm, user_id, version) DO UPDATE SET epoch = excluded.epoch,"
        " guesses = excluded.guesses, attempt_id = excluded.attempt_id, gone = excluded.gone,"
        " signature = excluded.signature"
        " WHERE superapp_recovery_mark.epoch < excluded.epoch"
        " OR (superapp_recovery_mark.epoch = excluded.epoch AND excluded.gone = 1)",
        (
            told.realm,
            told.user_id,
            told.version,
            told.epoch,
            told.guesses,
            told.attempt_id,
            int(told.gone),
            told.signature,
        ),
    )
    return cur.rowcount == 1


def vouch(cur: Cursor, until_ms: int) -> None:
    cur.execute(
        "INSERT INTO superapp_recovery_vouched (one, until_ms) VALUES (1, ?)"
        " ON CONFLICT (one) DO UPDATE SET until_ms = excluded.until_ms",
        (until_ms,),
    )


def vouched_until_ms(cur: Cursor) -> int:
    cur.execute("SELECT until_ms FROM superapp_recovery_vouched")
    row = cur.fetchone()
    return 0 if row is None else int(cast(int, row[0]))


# Tries of people of this homeserver.


def begin_attempt(cur: Cursor, user_id: UserId, attempt_id: AttemptId, device_id: str, now_ms: int) -> bool:
    """Whether it is open; False if it has ended, so that nothing more may be tried under it."""
    cur.execute(
        "SELECT outcome FROM superapp_recovery_attempt WHERE user_id = ? AND attempt_id = ?", (user_id, attempt_id)
    )
    row = cur.fetchone()
    if row is not None:
        return str(row[0]) == "open"
    cur.execute(
        "INSERT INTO superapp_recovery_attempt (user_id, attempt_id, device_id, begun_ms, outcome)"
        " VALUES (?, ?, ?, ?, 'open') ON CONFLICT DO NOTHING",
        (user_id, attempt_id, device_id, now_ms),
    )
    return True


def end_attempt(cur: Cursor, user_id: UserId, attempt_id: AttemptId, outcome: LiteralString) -> str | None:
    """The device that tried; None if it was not open any more."""
    cur.execute(
        "SELECT device_id FROM superapp_recovery_attempt WHERE user_id = ? AND attempt_id = ?", (user_id, attempt_id)
    )
    row = cur.fetchone()
    cur.execute(
        "UPDATE superapp_recovery_attempt SET outcome = ? WHERE user_id = ? AND attempt_id = ? AND outcome = 'open'",
        (outcome, user_id, attempt_id),
    )
    return None if row is None or cur.rowcount == 0 else str(row[0])


def left_open(cur: Cursor, before_ms: int) -> Sequence[tuple[UserId, AttemptId]]:
    cur.execute(
        "SELECT user_id, attempt_id FROM superapp_recovery_attempt WHERE outcome = 'open' AND begun_ms <= ?"
        " ORDER BY begun_ms, attempt_id LIMIT 100",
        (before_ms,),
    )
    return [(UserId(str(row[0])), AttemptId(str(row[1]))) for row in cur.fetchall()]


def forget_attempts(cur: Cursor, before_ms: int) -> None:
    cur.execute("DELETE FROM superapp_recovery_attempt WHERE outcome <> 'open' AND begun_ms <= ?", (before_ms,))


def forget_attempts_of(cur: Cursor, user_id: UserId) -> None:
    cur.execute("DELETE FROM superapp_recovery_attempt WHERE user_id = ?", (user_id,))


# What other realms are still to be told for people of this homeserver.


def part(cur: Cursor, user_id: UserId, realm: ServerName, version: Version) -> None:
    cur.execute(
        "INSERT INTO superapp_recovery_parting (user_id, realm, version) VALUES (?, ?, ?)"
        " ON CONFLICT (user_id, realm) DO UPDATE SET version = excluded.version, asked_ms = 0"
        " WHERE superapp_recovery_parting.version < excluded.version",
        (user_id, realm, version),
    )


def partings(cur: Cursor, before_ms: int) -> Sequence[tuple[UserId, ServerName, Version]]:
    """Those that were not asked yet, or not since then."""
    cur.execute(
        "SELECT user_id, realm, version FROM superapp_recovery_parting WHERE asked_ms = 0 OR asked_ms <= ?"
        " ORDER BY asked_ms, user_id, realm LIMIT 100",
        (before_ms,),
    )
    return [(UserId(str(row[0])), ServerName(str(row[1])), Version(int(cast(int, row[2])))) for row in cur.fetchall()]


def asked_to_part(cur: Cursor, realm: ServerName, now_ms: int) -> None:
    """It does not answer, so all that is for it waits."""
    cur.execute("UPDATE superapp_recovery_parting SET asked_ms = ? WHERE realm = ?", (now_ms, realm))


def parted(cur: Cursor, user_id: UserId, realm: ServerName, version: Version) -> None:
    cur.execute(
        "DELETE FROM superapp_recovery_parting WHERE user_id = ? AND realm = ? AND version <= ?",
        (user_id, realm, version),
    )


def census(cur: Cursor) -> Sequence[tuple[UserId, State]]:
    """Whose shares there are, and in which state; for the operator."""
    cur.execute("SELECT user_id, state FROM superapp_recovery_share")
    return [(UserId(str(row[0])), State(str(row[1]))) for row in cur.fetchall()]
