"""SQL of reviews."""

from super_app.db import Cursor
from super_app.ids import PaymentId
from super_app.payments import store as payments
from super_app.payments.model import PayerKey, PaymentKey
from super_app.reviews.model import Review, ReviewState


def add(cur: Cursor, key: PaymentKey, matched: str, now_ms: int) -> None:
    cur.execute(
        "INSERT INTO superapp_review (payer_key, payment_id, matched, state, noted_ms) VALUES (?, ?, ?, 'open', ?)"
        " ON CONFLICT (payer_key, payment_id) DO NOTHING",
        (key.payer_key, key.payment_id, matched, now_ms),
    )


def find(cur: Cursor, key: PaymentKey) -> Review | None:
    cur.execute(
        "SELECT matched, state, noted_ms, operator, reason, decided_ms FROM superapp_review"
        " WHERE payer_key = ? AND payment_id = ?",
        (key.payer_key, key.payment_id),
    )
    row = cur.fetchone()
    payment = None if row is None else payments.find(cur, key)
    if row is None or payment is None:
        return None
    return Review(
        payment=payment,
        matched=str(row[0]),
        state=ReviewState(str(row[1])),
        noted_ms=int(row[2] or 0),
        operator=None if row[3] is None else str(row[3]),
        reason=None if row[4] is None else str(row[4]),
        decided_ms=None if row[5] is None else int(row[5]),
    )


def keys(cur: Cursor, state: ReviewState, limit: int) -> tuple[PaymentKey, ...]:
    """Of a state, oldest first."""
    cur.execute(
        "SELECT payer_key, payment_id FROM superapp_review WHERE state = ? ORDER BY noted_ms, payment_id LIMIT ?",
        (state, limit),
    )
    return tuple(
        PaymentKey(payer_key=PayerKey(str(row[0])), payment_id=PaymentId(str(row[1]))) for row in cur.fetchall()
    )


def decide(cur: Cursor, key: PaymentKey, state: ReviewState, operator: str, reason: str, now_ms: int) -> bool:
    """Compare and set: only an open one is decided."""
    cur.execute(
        "UPDATE superapp_review SET state = ?, operator = ?, reason = ?, decided_ms = ?"
        " WHERE payer_key = ? AND payment_id = ? AND state = 'open'",
        (state, operator, reason, now_ms, key.payer_key, key.payment_id),
    )
    return cur.rowcount == 1
