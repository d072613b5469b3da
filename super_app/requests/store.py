"""SQL of requests."""

import json
from collections.abc import Sequence
from typing import Final

from super_app.db import Cursor, Row
from super_app.ids import EventId, PaymentId, RoomId, UserId
from super_app.money import AssetCode, Money
from super_app.requests.model import Answer, Contribution, Kind, Outgoing, Payer, Request, RequestId, RequestKey

_REQUEST: Final = (
    "r.requester, r.request_id, r.amount_minor, r.currency, r.memo, r.room_id, r.event_id, r.cancelled_ms,"
    " r.created_ms, r.expires_ms, r.kind, r.reminded_ms"
)


def add(cur: Cursor, request: Request) -> None:
    cur.execute(
        "INSERT INTO superapp_request (requester, request_id, amount_minor, currency, memo, room_id, event_id,"
        " cancelled_ms, created_ms, expires_ms, kind, reminded_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            request.requester,
            request.request_id,
            request.money.amount_minor,
            request.money.currency,
            request.memo,
            request.room_id,
            request.event_id,
            request.cancelled_ms,
            request.created_ms,
            request.expires_ms,
            request.kind,
            request.reminded_ms,
        ),
    )
    for payer in request.payers:
        cur.execute(
            "INSERT INTO superapp_request_payer (requester, request_id, payer, state, payment_id, amount_minor)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (request.requester, request.request_id, payer.user_id, payer.answer, payer.payment_id, payer.part_minor),
        )


def find(cur: Cursor, key: RequestKey) -> Request | None:
    cur.execute(
        "SELECT " + _REQUEST + " FROM superapp_request r WHERE r.requester = ? AND r.request_id = ?",
        (key.requester, key.request_id),
    )
    row = cur.fetchone()
    return None if row is None else _with_payers(cur, [row])[0]


def asked_under(cur: Cursor, payer: UserId, request_id: RequestId) -> tuple[Request, ...]:
    """The requests of one id by which somebody is asked: one for each requester who used it."""
    cur.execute(
        "SELECT " + _REQUEST + " FROM superapp_request r JOIN superapp_request_payer p"
        " ON p.requester = r.requester AND p.request_id = r.request_id"
        " WHERE p.payer = ? AND p.request_id = ? ORDER BY r.requester",
        (payer, request_id),
    )
    return _with_payers(cur, cur.fetchall())


def page(cur: Cursor, viewer: UserId, before: tuple[int, str, str], limit: int) -> tuple[Request, ...]:
    """Requests that ``viewer`` made or is asked by, before a place in time, newest first."""
    created_ms, requester, request_id = before
    cur.execute(
        "SELECT " + _REQUEST + " FROM superapp_request r WHERE (r.requester = ? OR EXISTS ("
        " SELECT 1 FROM superapp_request_payer p WHERE p.requester = r.requester AND p.request_id = r.request_id"
        " AND p.payer = ?) OR EXISTS (SELECT 1 FROM superapp_request_contribution c"
        " WHERE c.requester = r.requester AND c.request_id = r.request_id AND c.payer = ?))"
        " AND (r.created_ms < ? OR (r.created_ms = ?"
        " AND (r.requester < ? OR (r.requester = ? AND r.request_id < ?))))"
        " ORDER BY r.created_ms DESC, r.requester DESC, r.request_id DESC LIMIT ?",
        (viewer, viewer, viewer, created_ms, created_ms, requester, requester, request_id, limit),
    )
    return _with_payers(cur, cur.fetchall())


def count_open(cur: Cursor, requester: UserId, payer: UserId, now_ms: int) -> int:
    """How many requests of one person wait for another."""
    cur.execute(
        "SELECT COUNT(*) FROM superapp_request_payer p JOIN superapp_request r"
        " ON r.requester = p.requester AND r.request_id = p.request_id"
        " WHERE p.payer = ? AND p.requester = ? AND p.state = 'open' AND r.cancelled_ms IS NULL AND r.expires_ms > ?",
        (payer, requester, now_ms),
    )
    row = cur.fetchone()
    return 0 if row is None else int(row[0] or 0)


def set_event(cur: Cursor, key: RequestKey, event_id: EventId) -> None:
    cur.execute(
        "UPDATE superapp_request SET event_id = ? WHERE requester = ? AND request_id = ?",
        (event_id, key.requester, key.request_id),
    )


def set_cancelled(cur: Cursor, key: RequestKey, now_ms: int) -> None:
    cur.execute(
        "UPDATE superapp_request SET cancelled_ms = ? WHERE requester = ? AND request_id = ?",
        (now_ms, key.requester, key.request_id),
    )


def excuse(cur: Cursor, key: RequestKey, payer: UserId, now_ms: int) -> None:
    cur.execute(
        "UPDATE superapp_request_payer SET state = 'declined', payment_id = NULL, excused_ms = ?"
        " WHERE requester = ? AND request_id = ? AND payer = ?",
        (now_ms, key.requester, key.request_id, payer),
    )


def set_reminded(cur: Cursor, key: RequestKey, now_ms: int) -> None:
    cur.execute(
        "UPDATE superapp_request SET reminded_ms = ? WHERE requester = ? AND request_id = ?",
        (now_ms, key.requester, key.request_id),
    )


def put_contributions(cur: Cursor, key: RequestKey, contributions: Sequence[Contribution]) -> None:
    cur.execute(
        "DELETE FROM superapp_request_contribution WHERE requester = ? AND request_id = ?",
        (key.requester, key.request_id),
    )
    cur.execute_many(
        "INSERT INTO superapp_request_contribution (requester, request_id, payer, payment_id, amount_minor, state)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                key.requester,
                key.request_id,
                each.payer,
                each.payment_id,
                each.amount_minor,
                Answer.PAID if each.paid else Answer.PAYING,
            )
            for each in contributions
        ],
    )


def put_payer(cur: Cursor, key: RequestKey, payer: Payer) -> None:
    cur.execute(
        "UPDATE superapp_request_payer SET state = ?, payment_id = ?, excused_ms = NULL"
        " WHERE requester = ? AND request_id = ? AND payer = ?",
        (payer.answer, payer.payment_id, key.requester, key.request_id, payer.user_id),
    )


def remove(cur: Cursor, key: RequestKey) -> None:
    cur.execute(
        "DELETE FROM superapp_request_payer WHERE requester = ? AND request_id = ?", (key.requester, key.request_id)
    )
    cur.execute(
        "DELETE FROM superapp_request_contribution WHERE requester = ? AND request_id = ?",
        (key.requester, key.request_id),
    )
    cur.execute("DELETE FROM superapp_request WHERE requester = ? AND request_id = ?", (key.requester, key.request_id))


# Payments from elsewhere.


def name(cur: Cursor, payer: UserId, payment_id: PaymentId, key: RequestKey) -> None:
    """Remember which request a payment of another homeserver says that it answers. What it said first counts."""
    cur.execute(
        "INSERT INTO superapp_request_named (payer, payment_id, requester, request_id) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (payer, payment_id) DO NOTHING",
        (payer, payment_id, key.requester, key.request_id),
    )


def named(cur: Cursor, payer: UserId, payment_id: PaymentId) -> RequestKey | None:
    cur.execute(
        "SELECT requester, request_id FROM superapp_request_named WHERE payer = ? AND payment_id = ?",
        (payer, payment_id),
    )
    row = cur.fetchone()
    if row is None:
        return None
    return RequestKey(requester=UserId(str(row[0])), request_id=RequestId(str(row[1])))


# The outbox.


def post(cur: Cursor, outgoing: Outgoing) -> None:
    cur.execute(
        "INSERT INTO superapp_request_outbox (outbox_id, room_id, sender, type, content, attempts, due_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (outbox_id) DO NOTHING",
        (
            outgoing.outbox_id,
            outgoing.room_id,
            outgoing.sender,
            outgoing.event_type,
            json.dumps(outgoing.content),
            outgoing.attempts,
            outgoing.due_ms,
        ),
    )


def owed(cur: Cursor, now_ms: int, limit: int) -> tuple[Outgoing, ...]:
    cur.execute(
        "SELECT outbox_id, room_id, sender, type, content, attempts, due_ms FROM superapp_request_outbox"
        " WHERE due_ms <= ? ORDER BY due_ms, outbox_id LIMIT ?",
        (now_ms, limit),
    )
    return tuple(
        Outgoing(
            outbox_id=str(row[0]),
            room_id=RoomId(str(row[1])),
            sender=UserId(str(row[2])),
            event_type=str(row[3]),
            content=json.loads(str(row[4])),
            attempts=int(row[5] or 0),
            due_ms=int(row[6] or 0),
        )
        for row in cur.fetchall()
    )


def put_off(cur: Cursor, outbox_id: str, due_ms: int) -> None:
    cur.execute(
        "UPDATE superapp_request_outbox SET due_ms = ?, attempts = attempts + 1 WHERE outbox_id = ?",
        (due_ms, outbox_id),
    )


def sent(cur: Cursor, outbox_id: str) -> None:
    cur.execute("DELETE FROM superapp_request_outbox WHERE outbox_id = ?", (outbox_id,))


def _with_payers(cur: Cursor, rows: Sequence[Row]) -> tuple[Request, ...]:
    found: list[Request] = []
    for row in rows:
        cur.execute(
            "SELECT payer, state, payment_id, amount_minor, excused_ms FROM superapp_request_payer"
            " WHERE requester = ? AND request_id = ? ORDER BY payer",
            (row[0], row[1]),
        )
        payers = tuple(
            Payer(
                user_id=UserId(str(payer)),
                answer=Answer(str(state)) if excused_ms is None else Answer.EXCUSED,
                payment_id=None if payment_id is None else PaymentId(str(payment_id)),
                part_minor=None if part_minor is None else int(part_minor),
            )
            for payer, state, payment_id, part_minor, excused_ms in cur.fetchall()
        )
        kind = Kind(str(row[10]))
        found.append(
            Request(
                requester=UserId(str(row[0])),
                request_id=RequestId(str(row[1])),
                money=Money(amount_minor=int(row[2] or 0), currency=AssetCode(str(row[3]))),
                memo=None if row[4] is None else str(row[4]),
                room_id=RoomId(str(row[5])),
                event_id=None if row[6] is None else EventId(str(row[6])),
                payers=payers,
                cancelled_ms=None if row[7] is None else int(row[7]),
                created_ms=int(row[8] or 0),
                expires_ms=int(row[9] or 0),
                kind=kind,
                reminded_ms=None if row[11] is None else int(row[11]),
                contributions=_contributions(cur, row) if kind is Kind.GOAL else (),
            )
        )
    return tuple(found)


def _contributions(cur: Cursor, request: Row) -> tuple[Contribution, ...]:
    cur.execute(
        "SELECT payer, payment_id, amount_minor, state FROM superapp_request_contribution"
        " WHERE requester = ? AND request_id = ? ORDER BY payer, payment_id",
        (request[0], request[1]),
    )
    return tuple(
        Contribution(
            payer=UserId(str(payer)),
            payment_id=PaymentId(str(payment_id)),
            amount_minor=int(amount_minor or 0),
            paid=state == Answer.PAID,
        )
        for payer, payment_id, amount_minor, state in cur.fetchall()
    )


def erase_person(cur: Cursor, user_id: UserId, now_ms: int) -> int:
    """Forget what somebody's requests were for, and end those that are open; how many there were."""
    cur.execute(
        "UPDATE superapp_request SET memo = NULL, cancelled_ms = COALESCE(cancelled_ms, ?) WHERE requester = ?",
        (now_ms, user_id),
    )
    return cur.rowcount
