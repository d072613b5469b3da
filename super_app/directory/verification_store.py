"""SQL of badges and of the members of organisations."""

from collections.abc import Mapping, Sequence
from typing import Any

from super_app.db import Cursor
from super_app.directory import store
from super_app.directory.model import Holding, Name
from super_app.ids import Acct, Handle
from super_app.signing import canonical


def set_badges(cur: Cursor, name: Name, badges: Sequence[Mapping[str, Any]]) -> None:
    text = canonical([dict(each) for each in badges]).decode()
    cur.execute("UPDATE superapp_directory_handle SET badges = ?, renew_ms = 0 WHERE name = ?", (text, name))


def clear_badges(cur: Cursor, acct: Acct) -> None:
    """All names of an account lose their badges."""
    cur.execute(
        "UPDATE superapp_directory_handle SET badges = '[]', renew_ms = 0 WHERE acct = ? AND badges <> '[]'", (acct,)
    )


def clear_badges_of(cur: Cursor, name: Name) -> None:
    cur.execute("UPDATE superapp_directory_handle SET badges = '[]', renew_ms = 0 WHERE name = ?", (name,))


def with_badges(cur: Cursor, after: Name, limit: int) -> tuple[Holding, ...]:
    """Names that have badges, by name."""
    return store.holdings_where_badged(cur, after, limit)


def put_member(cur: Cursor, organisation: Name, member: Handle, acct: Acct, now_ms: int) -> None:
    cur.execute(
        "INSERT INTO superapp_directory_member (organisation, handle, acct, since_ms) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (organisation, handle) DO UPDATE SET acct = excluded.acct",
        (organisation, member, acct, now_ms),
    )


def delete_member(cur: Cursor, organisation: Name, member: Handle) -> bool:
    cur.execute("DELETE FROM superapp_directory_member WHERE organisation = ? AND handle = ?", (organisation, member))
    return cur.rowcount == 1


def member_acct(cur: Cursor, organisation: Name, member: Handle) -> Acct | None:
    cur.execute(
        "SELECT acct FROM superapp_directory_member WHERE organisation = ? AND handle = ?", (organisation, member)
    )
    row = cur.fetchone()
    return None if row is None else Acct(str(row[0]))


def members(cur: Cursor, organisation: Name) -> tuple[tuple[Handle, int], ...]:
    """The members of an organisation and since when, by handle."""
    cur.execute(
        "SELECT handle, since_ms FROM superapp_directory_member WHERE organisation = ? ORDER BY handle", (organisation,)
    )
    return tuple((Handle(str(row[0])), int(row[1] or 0)) for row in cur.fetchall())
