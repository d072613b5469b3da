"""SQL of accounts and contacts."""

import json
from typing import Any

from super_app.accounts.model import Account, Contact, Genesis
from super_app.db import Cursor, Row
from super_app.ids import Acct, Handle, UserId
from super_app.signing import canonical


def by_user_id(cur: Cursor, user_id: UserId) -> Account | None:
    cur.execute("SELECT acct, user_id, created_ms, used FROM superapp_account WHERE user_id = ?", (user_id,))
    return _account(cur.fetchone())


def by_acct(cur: Cursor, acct: Acct) -> Account | None:
    cur.execute("SELECT acct, user_id, created_ms, used FROM superapp_account WHERE acct = ?", (acct,))
    return _account(cur.fetchone())


def ensure(cur: Cursor, user_id: UserId, genesis: Genesis) -> Account:
    """The account of ``user_id``, in use from now on; the first genesis that is used fixes it."""
    cur.execute(
        "INSERT INTO superapp_account (acct, user_id, genesis, created_ms) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (user_id) DO NOTHING",
        (genesis.acct(), user_id, canonical(genesis.content()).decode(), genesis.created_ms),
    )
    cur.execute("UPDATE superapp_account SET used = 1 WHERE user_id = ? AND used = 0", (user_id,))
    account = by_user_id(cur, user_id)
    if account is None:
        raise RuntimeError(f"the account of {user_id} vanished inside its own transaction")
    return account


def use(cur: Cursor, account: Account) -> Acct:
    """The acct of an account, which is in use from now on."""
    if account.used:
        return account.acct
    cur.execute("UPDATE superapp_account SET used = 1 WHERE user_id = ?", (account.user_id,))
    found = by_user_id(cur, account.user_id)
    if found is None:
        raise RuntimeError(f"the account of {account.user_id} vanished inside its own transaction")
    # Its owner may have set a recovery key since it was read.
    return found.acct


def genesis_of(cur: Cursor, user_id: UserId) -> dict[str, Any]:
    """What the acct of an account that exists is the hash of."""
    cur.execute("SELECT genesis FROM superapp_account WHERE user_id = ?", (user_id,))
    row = cur.fetchone()
    if row is None:
        raise RuntimeError(f"{user_id} has no account")
    content: dict[str, Any] = json.loads(str(row[0]))
    return content


def lock_unused(cur: Cursor, acct: Acct) -> bool:
    """Whether an account is not in use; until the transaction ends, nobody takes it into use."""
    cur.execute("UPDATE superapp_account SET created_ms = created_ms WHERE acct = ? AND used = 0", (acct,))
    return cur.rowcount == 1


def add_in_place_of(cur: Cursor, account: Account, genesis: Genesis) -> None:
    """Write the account under another acct, beside the one that it replaces, under a name that no user has."""
    cur.execute(
        "INSERT INTO superapp_account (acct, user_id, genesis, created_ms, used) VALUES (?, ?, ?, ?, 0)",
        (genesis.acct(), f"{account.user_id} ", canonical(genesis.content()).decode(), genesis.created_ms),
    )


def remove_replaced(cur: Cursor, account: Account, genesis: Genesis) -> Account:
    """Remove the account that was replaced; the database refuses it if anything is still kept under it."""
    cur.execute("DELETE FROM superapp_account WHERE acct = ?", (account.acct,))
    cur.execute("UPDATE superapp_account SET user_id = ? WHERE acct = ?", (account.user_id, genesis.acct()))
    return Account(acct=genesis.acct(), user_id=account.user_id, created_ms=genesis.created_ms, used=False)


def put_contact(cur: Cursor, owner: Acct, contact: Contact) -> Contact:
    """Add a contact, or refresh it: ``since_ms`` stays that of the first time, and a known acct is not forgotten."""
    cur.execute(
        "INSERT INTO superapp_contact (owner_acct, peer_user_id, peer_acct, handle, since_ms) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (owner_acct, peer_user_id) DO UPDATE SET handle = excluded.handle, peer_acct ="
        " CASE WHEN excluded.peer_acct = '' THEN superapp_contact.peer_acct ELSE excluded.peer_acct END",
        (owner, contact.user_id, contact.acct, contact.handle, contact.since_ms),
    )
    stored = contact_of(cur, owner, contact.user_id)
    if stored is None:
        raise RuntimeError("a contact vanished inside its own transaction")
    return stored


def describe_contact(cur: Cursor, owner: Acct, peer: UserId, *, favourite: bool, note: str) -> None:
    """Change what the owner keeps about a contact."""
    cur.execute(
        "UPDATE superapp_contact SET favourite = ?, note = ? WHERE owner_acct = ? AND peer_user_id = ?",
        (int(favourite), note, owner, peer),
    )


def delete_contact(cur: Cursor, owner: Acct, peer: UserId) -> bool:
    """Whether there was one."""
    cur.execute("DELETE FROM superapp_contact WHERE owner_acct = ? AND peer_user_id = ?", (owner, peer))
    return cur.rowcount == 1


def contact_of(cur: Cursor, owner: Acct, peer: UserId) -> Contact | None:
    cur.execute(
        "SELECT peer_acct, peer_user_id, handle, since_ms, favourite, note FROM superapp_contact"
        " WHERE owner_acct = ? AND peer_user_id = ?",
        (owner, peer),
    )
    row = cur.fetchone()
    return None if row is None else _contact(row)


def contact_called(cur: Cursor, owner: Acct, text: str) -> Contact | None:
    """The contact with this user id, or with this handle."""
    cur.execute(
        "SELECT peer_acct, peer_user_id, handle, since_ms, favourite, note FROM superapp_contact"
        " WHERE owner_acct = ? AND (peer_user_id = ? OR handle = ?)"
        " ORDER BY CASE WHEN peer_user_id = ? THEN 0 ELSE 1 END LIMIT 1",
        (owner, text, text, text),
    )
    row = cur.fetchone()
    return None if row is None else _contact(row)


def count_contacts(cur: Cursor, owner: Acct) -> int:
    cur.execute("SELECT COUNT(*) FROM superapp_contact WHERE owner_acct = ?", (owner,))
    row = cur.fetchone()
    return int(row[0] or 0) if row is not None else 0


def contacts(cur: Cursor, owner: Acct) -> tuple[Contact, ...]:
    """All contacts of an account, oldest first."""
    cur.execute(
        "SELECT peer_acct, peer_user_id, handle, since_ms, favourite, note FROM superapp_contact"
        " WHERE owner_acct = ? ORDER BY since_ms, peer_user_id",
        (owner,),
    )
    return tuple(_contact(row) for row in cur.fetchall())


def _account(row: Row | None) -> Account | None:
    if row is None:
        return None
    return Account(acct=Acct(str(row[0])), user_id=UserId(str(row[1])), created_ms=int(row[2] or 0), used=row[3] == 1)


def _contact(row: Row) -> Contact:
    return Contact(
        acct=Acct(str(row[0])),
        user_id=UserId(str(row[1])),
        handle=Handle(str(row[2])),
        since_ms=int(row[3] or 0),
        favourite=row[4] == 1,
        note=str(row[5]),
    )
