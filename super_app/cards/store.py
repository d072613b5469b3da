"""SQL of cards."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from super_app.db import Cursor
from super_app.ids import EventId


class Kind(StrEnum):
    PAYMENT = "payment"
    REQUEST = "request"
    CALL = "call"
    GIFT = "gift"
    DEPOSIT = "deposit"
    PAID_CALL = "paid_call"
    CONTACT = "contact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """``subject`` says what it is about; ``shown`` is what it says, None while it is not sent."""

    card_id: str
    kind: Kind
    subject: Mapping[str, Any]
    event_id: EventId | None
    shown: str | None
    attempts: int
    due_ms: int


def owe(cur: Cursor, card_id: str, kind: Kind, subject: Mapping[str, Any], due_ms: int) -> None:
    """What the card is about is new, or has changed: look at it at ``due_ms``."""
    cur.execute(
        "INSERT INTO superapp_card (card_id, kind, subject, event_id, shown, attempts, due_ms)"
        " VALUES (?, ?, ?, NULL, NULL, 0, ?) ON CONFLICT (card_id) DO UPDATE SET due_ms = excluded.due_ms",
        (card_id, kind, json.dumps(dict(subject)), due_ms),
    )


def due(cur: Cursor, now_ms: int, limit: int) -> tuple[Card, ...]:
    cur.execute(
        "SELECT card_id, kind, subject, event_id, shown, attempts, due_ms FROM superapp_card WHERE due_ms <= ?"
        " ORDER BY due_ms, card_id LIMIT ?",
        (now_ms, limit),
    )
    return tuple(
        Card(
            card_id=str(row[0]),
            kind=Kind(str(row[1])),
            subject=json.loads(str(row[2])),
            event_id=None if row[3] is None else EventId(str(row[3])),
            shown=None if row[4] is None else str(row[4]),
            attempts=int(row[5] or 0),
            due_ms=int(row[6] or 0),
        )
        for row in cur.fetchall()
    )


def next_due_ms(cur: Cursor) -> int | None:
    cur.execute("SELECT MIN(due_ms) FROM superapp_card WHERE due_ms IS NOT NULL")
    row = cur.fetchone()
    return None if row is None or row[0] is None else int(row[0])


def shown(cur: Cursor, card: Card, event_id: EventId | None, text: str | None, again_ms: int | None) -> None:
    """Note what a card says now, and when to look again by itself. A change that came meanwhile stays due."""
    cur.execute(
        "UPDATE superapp_card SET event_id = ?, shown = ?, attempts = 0,"
        " due_ms = CASE WHEN due_ms = ? THEN ? ELSE due_ms END WHERE card_id = ?",
        (event_id, text, card.due_ms, again_ms, card.card_id),
    )


def put_off(cur: Cursor, card: Card, due_ms: int | None) -> None:
    """Try again at ``due_ms``; None gives it up."""
    cur.execute(
        "UPDATE superapp_card SET attempts = attempts + 1, due_ms = ? WHERE card_id = ?", (due_ms, card.card_id)
    )
