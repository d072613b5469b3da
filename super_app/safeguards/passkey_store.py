"""SQL of passkeys and of the challenges that they answer."""

from super_app.db import Cursor, Row
from super_app.ids import Acct
from super_app.safeguards.model import Challenge, Passkey


def of(cur: Cursor, acct: Acct) -> tuple[Passkey, ...]:
    """Those of a person, the oldest first."""
    cur.execute(
        "SELECT credential_id, public_key, sign_count, name, created_ms, used_ms FROM superapp_safeguard_passkey"
        " WHERE acct = ? ORDER BY created_ms, credential_id",
        (acct,),
    )
    return tuple(map(_passkey, cur.fetchall()))


def find(cur: Cursor, acct: Acct, credential_id: str) -> Passkey | None:
    cur.execute(
        "SELECT credential_id, public_key, sign_count, name, created_ms, used_ms FROM superapp_safeguard_passkey"
        " WHERE acct = ? AND credential_id = ?",
        (acct, credential_id),
    )
    row = cur.fetchone()
    return None if row is None else _passkey(row)


def add(cur: Cursor, acct: Acct, passkey: Passkey) -> None:
    cur.execute(
        "INSERT INTO superapp_safeguard_passkey"
        " (acct, credential_id, public_key, sign_count, name, created_ms, used_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            acct,
            passkey.credential_id,
            passkey.public_key,
            passkey.sign_count,
            passkey.name,
            passkey.created_ms,
            passkey.used_ms,
        ),
    )


def used(cur: Cursor, acct: Acct, passkey: Passkey, sign_count: int, now_ms: int) -> bool:
    """Compare and set the count. False where it was used, or taken away, since ``passkey`` was read."""
    cur.execute(
        "UPDATE superapp_safeguard_passkey SET sign_count = ?, used_ms = ?"
        " WHERE acct = ? AND credential_id = ? AND sign_count = ?",
        (sign_count, now_ms, acct, passkey.credential_id, passkey.sign_count),
    )
    return cur.rowcount == 1


def drop(cur: Cursor, acct: Acct, credential_id: str) -> bool:
    cur.execute(
        "DELETE FROM superapp_safeguard_passkey WHERE acct = ? AND credential_id = ?",
        (acct, credential_id),
    )
    return cur.rowcount == 1


def drop_all(cur: Cursor, acct: Acct) -> None:
    cur.execute("DELETE FROM superapp_safeguard_challenge WHERE acct = ?", (acct,))
    cur.execute("DELETE FROM superapp_safeguard_passkey WHERE acct = ?", (acct,))


def add_challenge(cur: Cursor, acct: Acct, challenge: Challenge, now_ms: int) -> None:
    """Remember one, and forget those of the person whose time is over."""
    cur.execute("DELETE FROM superapp_safeguard_challenge WHERE acct = ? AND expires_ms <= ?", (acct, now_ms))
    cur.execute(
        "INSERT INTO superapp_safeguard_challenge (challenge, acct, about, expires_ms) VALUES (?, ?, ?, ?)",
        (challenge.challenge, acct, challenge.about, challenge.expires_ms),
    )


def count_challenges(cur: Cursor, acct: Acct, now_ms: int) -> int:
    cur.execute(
        "SELECT COUNT(*) FROM superapp_safeguard_challenge WHERE acct = ? AND expires_ms > ?",
        (acct, now_ms),
    )
    row = cur.fetchone()
    return 0 if row is None else int(row[0] or 0)


def take_challenge(cur: Cursor, acct: Acct, challenge: str) -> Challenge | None:
    """The challenge, which is gone with this."""
    cur.execute(
        "SELECT challenge, about, expires_ms FROM superapp_safeguard_challenge WHERE acct = ? AND challenge = ?",
        (acct, challenge),
    )
    row = cur.fetchone()
    cur.execute("DELETE FROM superapp_safeguard_challenge WHERE acct = ? AND challenge = ?", (acct, challenge))
    if row is None:
        return None
    return Challenge(challenge=str(row[0]), about=str(row[1]), expires_ms=int(row[2] or 0))


def _passkey(row: Row) -> Passkey:
    return Passkey(
        credential_id=str(row[0]),
        public_key=str(row[1]),
        sign_count=int(row[2] or 0),
        name=str(row[3]),
        created_ms=int(row[4] or 0),
        used_ms=None if row[5] is None else int(row[5]),
    )
