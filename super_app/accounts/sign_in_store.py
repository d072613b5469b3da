"""SQL of who said that they will sign in again."""

import json
from collections.abc import Set as AbstractSet

from super_app.accounts.model import ANNOUNCED_FOR_MS, Announced
from super_app.db import Cursor
from super_app.ids import Acct


def announce(cur: Cursor, acct: Acct, devices: AbstractSet[str], now_ms: int) -> int:
    """Until when a new device counts, in milliseconds since 1970. The newest announcement is the one that holds."""
    cur.execute(
        "INSERT INTO superapp_sign_in (acct, asked_ms, devices) VALUES (?, ?, ?)"
        " ON CONFLICT (acct) DO UPDATE SET asked_ms = excluded.asked_ms, devices = excluded.devices",
        (acct, now_ms, json.dumps(sorted(devices))),
    )
    return now_ms + ANNOUNCED_FOR_MS


def find(cur: Cursor, acct: Acct) -> Announced | None:
    cur.execute("SELECT asked_ms, devices FROM superapp_sign_in WHERE acct = ?", (acct,))
    row = cur.fetchone()
    if row is None:
        return None
    return Announced(asked_ms=int(row[0] or 0), devices=frozenset(json.loads(str(row[1]))))
