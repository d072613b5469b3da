"""Signing in again, where the homeserver does not know when somebody signed in.

With delegated sign-in the homeserver keeps no access tokens. So a person announces that they will sign in again, and a
device that they did not have at that moment is the proof that they did.
"""

import json
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from super_app.db import Cursor
from super_app.ids import Acct

ANNOUNCED_FOR_MS: Final = 1_800_000
"""How long after the announcement a new device counts as one that has just signed in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """``devices`` are those that the person had when they said so."""

    asked_ms: int
    devices: frozenset[str]


def is_new_device(announced: Announced | None, device_id: str, now_ms: int) -> bool:
    """Whether a device came by signing in since the announcement."""
    if announced is None or not device_id:
        return False
    return now_ms - announced.asked_ms < ANNOUNCED_FOR_MS and device_id not in announced.devices


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
