"""SQL of payments and the receipts that are owed for them."""

import json
from collections.abc import Mapping, Sequence
from typing import Final, LiteralString

from super_app.clearing.ports import Party, WireId
from super_app.db import Cursor, Row, SqlValue
from super_app.errors import Reason
from super_app.ids import Acct, EventId, Handle, PaymentId, RoomId, UserId
from super_app.ledger.model import Violation
from super_app.money import AssetCode, Money
from super_app.payments.model import (
    PayerKey,
    Payment,
    PaymentKey,
    Poster,
    Receipt,
    Salts,
    State,
    Venue,
)

_LAST_MS: Final = 2**62
"""Later than any time: where the first page begins."""

_MANY: Final = 500
"""Payments that are looked up in one statement."""
_COLUMNS: LiteralString = (
    "payer_key, payment_id, payer_user_id, payer_acct, payee_user_id, payee_party_acct, payee_handle, payee_acct,"
    " amount_minor, currency, memo, request, refund_of, invoice, order_hash, salts, wire_id, room_id, event_id, venue,"
    " payee_joined, position, state, reason, answered, created_ms, due_ms, signed, fee_minor"
)
"""In the order in which ``_payment`` reads them and ``add`` writes them."""

# Payments.


def find(cur: Cursor, key: PaymentKey) -> Payment | None:
    cur.execute(
        "SELECT " + _COLUMNS + " FROM superapp_payment WHERE payer_key = ? AND payment_id = ?",
        (key.payer_key, key.payment_id),
    )
    row = cur.fetchone()
    return None if row is None else _payment(row)


def received(cur: Cursor, payee: Acct, payment_id: PaymentId) -> tuple[Payment, ...]:
    """The payments to an account under one id; more than one where several payers chose the same id."""
    cur.execute(
        "SELECT " + _COLUMNS + " FROM superapp_payment WHERE payment_id = ? AND payee_acct = ? ORDER BY payer_key",
        (payment_id, payee),
    )
    return tuple(_payment(row) for row in cur.fetchall())


def paid_minor(cur: Cursor, payee: Acct, payer: UserId, currency: str, since_ms: int) -> int:
    """What a payer has paid an account of this homeserver since a time, less what went back to them; never below 0."""
    cur.execute(
        "SELECT COALESCE(SUM(CASE WHEN payee_acct = ? AND payer_user_id = ? AND refund_of IS NULL THEN amount_minor"
        " WHEN payer_acct = ? AND payee_user_id = ? THEN -amount_minor ELSE 0 END), 0) FROM superapp_payment"
        " WHERE (payee_acct = ? OR payer_acct = ?) AND currency = ? AND state = 'completed' AND created_ms > ?",
        (payee, payer, payee, payer, payee, payee, currency, since_ms),
    )
    row = cur.fetchone()
    return max(0, int(row[0] or 0)) if row is not None else 0


def has_received(cur: Cursor, acct: Acct, handle: Handle) -> bool:
    """Whether an account of this homeserver was ever paid under a handle."""
    cur.execute(
        "SELECT 1 FROM superapp_payment WHERE payee_acct = ? AND payee_handle = ? AND state = 'completed' LIMIT 1",
        (acct, handle),
    )
    return cur.fetchone() is not None


def page(cur: Cursor, acct: Acct, before: tuple[int, PaymentKey] | None, limit: int) -> tuple[Payment, ...]:
    """Payments of an account in either direction, newest first, those older than ``before``."""
    # One branch for each direction, so that both read the end of their own index. A payment has two different
    # parties, so none comes twice.
    before_ms, key = before or (_LAST_MS, PaymentKey(payer_key=PayerKey(""), payment_id=PaymentId("")))
    mark = (acct, before_ms, key.payer_key, key.payment_id, limit)
    cur.execute(
        "SELECT " + _COLUMNS + " FROM ("
        " SELECT * FROM (SELECT * FROM superapp_payment WHERE payer_acct = ?"
        " AND (created_ms, payer_key, payment_id) < (?, ?, ?)"
        " ORDER BY created_ms DESC, payer_key DESC, payment_id DESC LIMIT ?) AS outgoing"
        " UNION ALL"
        " SELECT * FROM (SELECT * FROM superapp_payment WHERE payee_acct = ?"
        " AND (created_ms, payer_key, payment_id) < (?, ?, ?)"
        " ORDER BY created_ms DESC, payer_key DESC, payment_id DESC LIMIT ?) AS incoming"
        ") AS both_directions ORDER BY created_ms DESC, payer_key DESC, payment_id DESC LIMIT ?",
        (*mark, *mark, limit),
    )
    return tuple(_payment(row) for row in cur.fetchall())


def find_many(cur: Cursor, keys: Sequence[PaymentKey]) -> tuple[Payment, ...]:
    found: list[Payment] = []
    for start in range(0, len(keys), _MANY):
        rows = cur.execute_values(
            "WITH wanted (wanted_key, wanted_id) AS (VALUES ?) SELECT " + _COLUMNS + " FROM wanted"
            " JOIN superapp_payment ON payer_key = wanted_key AND payment_id = wanted_id",
            [(key.payer_key, key.payment_id) for key in keys[start : start + _MANY]],
        )
        found.extend(map(_payment, rows))
    return tuple(found)


def received_by_wire(cur: Cursor, payee: Acct, wire_ids: Sequence[str]) -> tuple[Payment, ...]:
    """The payments from other homeservers to an account, by what their homeservers call them."""
    found: list[Payment] = []
    for start in range(0, len(wire_ids), _MANY):
        rows = cur.execute_values(
            "WITH wanted (wanted_payee, wanted_wire) AS (VALUES ?) SELECT " + _COLUMNS + " FROM wanted"
            " JOIN superapp_payment ON payee_acct = wanted_payee AND wire_id = wanted_wire",
            [(payee, wire_id) for wire_id in wire_ids[start : start + _MANY]],
        )
        found.extend(map(_payment, rows))
    return tuple(found)


def search(
    cur: Cursor,
    acct: Acct,
    before: tuple[int, PaymentKey] | None,
    limit: int,
    *,
    directions: tuple[int, int],
    from_ms: int | None,
    until_ms: int | None,
    currency: str | None,
    at_least_minor: int | None,
    at_most_minor: int | None,
    state: State | None,
    only_refunds: bool,
    only_requests: bool,
) -> tuple[Payment, ...]:
    """``page`` of those payments that are as asked for; ``directions`` are 1 or 0 for sent and for received."""
    before_ms, key = before or (_LAST_MS, PaymentKey(payer_key=PayerKey(""), payment_id=PaymentId("")))
    mark = (
        acct,
        before_ms,
        key.payer_key,
        key.payment_id,
        0 if from_ms is None else from_ms,
        _LAST_MS if until_ms is None else until_ms,
        currency or "",
        currency or "",
        0 if at_least_minor is None else at_least_minor,
        _LAST_MS if at_most_minor is None else at_most_minor,
        "" if state is None else state.value,
        "" if state is None else state.value,
        int(only_refunds),
        int(only_requests),
    )
    wanted: LiteralString = (
        " AND (created_ms, payer_key, payment_id) < (?, ?, ?) AND created_ms >= ? AND created_ms < ?"
        " AND (? = '' OR currency = ?) AND amount_minor >= ? AND amount_minor <= ? AND (? = '' OR state = ?)"
        " AND (? = 0 OR refund_of IS NOT NULL) AND (? = 0 OR request IS NOT NULL) AND ? = 1"
        " ORDER BY created_ms DESC, payer_key DESC, payment_id DESC LIMIT ?"
    )
    cur.execute(
        "SELECT " + _COLUMNS + " FROM ("
        " SELECT * FROM (SELECT * FROM superapp_payment WHERE payer_acct = ?" + wanted + ") AS outgoing"
        " UNION ALL"
        " SELECT * FROM (SELECT * FROM superapp_payment WHERE payee_acct = ?" + wanted + ") AS incoming"
        ") AS both_directions ORDER BY created_ms DESC, payer_key DESC, payment_id DESC LIMIT ?",
        (*mark, directions[0], limit, *mark, directions[1], limit, limit),
    )
    return tuple(_payment(row) for row in cur.fetchall())


def add(cur: Cursor, payment: Payment) -> None:
    salts = payment.salts
    cur.execute(
        "INSERT INTO superapp_payment (" + _COLUMNS + ")"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            payment.payer_key,
            payment.payment_id,
            payment.payer,
            payment.payer_acct,
            payment.payee.user_id,
            payment.payee.acct,
            payment.payee.handle,
            payment.payee_acct,
            payment.money.amount_minor,
            payment.money.currency,
            payment.memo,
            payment.request,
            payment.refund_of,
            payment.invoice,
            payment.order_hash,
            None if salts is None else " ".join((salts.wire, *salts.parties, salts.room)),
            payment.wire_id,
            *_progress(payment),
            payment.created_ms,
            payment.due_ms,
            _json(payment.signed),
            payment.fee_minor,
        ),
    )


def advance(cur: Cursor, before: Payment, after: Payment) -> bool:
    """Compare and set: move a payment on from exactly ``before``. False where somebody else has moved it."""
    cur.execute(
        "UPDATE superapp_payment SET room_id = ?, event_id = ?, venue = ?, payee_joined = ?, position = ?, state = ?,"
        " reason = ?, answered = ?, due_ms = ?, signed = ?"
        " WHERE payer_key = ? AND payment_id = ? AND state = ? AND answered = ?"
        " AND COALESCE(event_id, '') = ?",
        (
            *_progress(after),
            after.due_ms,
            _json(after.signed),
            before.payer_key,
            before.payment_id,
            before.state,
            int(before.answered),
            before.event_id or "",
        ),
    )
    return cur.rowcount == 1


def waive_fee(cur: Cursor, key: PaymentKey) -> None:
    """It costs its payer nothing after all."""
    cur.execute(
        "UPDATE superapp_payment SET fee_minor = 0 WHERE payer_key = ? AND payment_id = ?",
        (key.payer_key, key.payment_id),
    )


def refunded_minor(cur: Cursor, original: Payment, besides: PaymentKey | None) -> int:
    """The sum of the refunds of a payment that were made or are on their way, without the one at ``besides``."""
    # Ids are the payer's: a refund names its original, and is one only between the same two people.
    cur.execute(
        "SELECT COALESCE(SUM(amount_minor), 0) FROM superapp_payment"
        " WHERE refund_of = ? AND payer_user_id = ? AND payee_user_id = ?"
        " AND state IN ('held', 'awaiting_acceptance', 'committed', 'completed')"
        " AND NOT (payer_key = ? AND payment_id = ?)",
        (
            original.payment_id,
            original.payee.user_id,
            original.payer,
            "" if besides is None else besides.payer_key,
            "" if besides is None else besides.payment_id,
        ),
    )
    row = cur.fetchone()
    # SUM of BIGINTs is NUMERIC in PostgreSQL, which the driver gives as Decimal.
    return 0 if row is None or row[0] is None else int(row[0])


def due(cur: Cursor, now_ms: int, limit: int) -> tuple[Payment, ...]:
    """Payments whose time has come, the longest overdue first. Clearing watches those that came from elsewhere."""
    cur.execute(
        "SELECT " + _COLUMNS + " FROM superapp_payment"
        " WHERE due_ms IS NOT NULL AND due_ms <= ? AND payer_acct IS NOT NULL ORDER BY due_ms LIMIT ?",
        (now_ms, limit),
    )
    return tuple(_payment(row) for row in cur.fetchall())


def next_due_ms(cur: Cursor) -> int | None:
    """When the next payment or receipt wants attention."""
    cur.execute(
        "SELECT MIN(due_ms) FROM ("
        " SELECT MIN(due_ms) AS due_ms FROM superapp_payment WHERE due_ms IS NOT NULL AND payer_acct IS NOT NULL"
        " UNION ALL SELECT MIN(due_ms) FROM superapp_payment_receipt WHERE due_ms IS NOT NULL) AS times"
    )
    row = cur.fetchone()
    return None if row is None or row[0] is None else int(row[0])


def erase_memos(cur: Cursor, before_ms: int) -> int:
    """Forget what payments before a time were for; gives how many memos went."""
    cur.execute("UPDATE superapp_payment SET memo = NULL WHERE memo IS NOT NULL AND created_ms < ?", (before_ms,))
    return cur.rowcount


# Receipts.


def owe(cur: Cursor, receipt: Receipt) -> bool:
    """Queue a receipt. False where the payment has one already."""
    cur.execute(
        "INSERT INTO superapp_payment_receipt (payer_key, payment_id, poster, room_id, event_id, attempts, due_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (payer_key, payment_id) DO NOTHING",
        (
            receipt.key.payer_key,
            receipt.key.payment_id,
            receipt.poster,
            receipt.room_id,
            receipt.event_id,
            receipt.attempts,
            receipt.due_ms,
        ),
    )
    return cur.rowcount == 1


def owed(cur: Cursor, now_ms: int, limit: int) -> tuple[Receipt, ...]:
    cur.execute(
        "SELECT payer_key, payment_id, poster, room_id, event_id, attempts, due_ms FROM superapp_payment_receipt"
        " WHERE due_ms IS NOT NULL AND due_ms <= ? ORDER BY due_ms LIMIT ?",
        (now_ms, limit),
    )
    return tuple(_receipt(row) for row in cur.fetchall())


def owed_for(cur: Cursor, key: PaymentKey) -> Receipt | None:
    """The receipt of a payment that still has to be posted."""
    cur.execute(
        "SELECT payer_key, payment_id, poster, room_id, event_id, attempts, due_ms FROM superapp_payment_receipt"
        " WHERE payer_key = ? AND payment_id = ? AND due_ms IS NOT NULL",
        (key.payer_key, key.payment_id),
    )
    row = cur.fetchone()
    return None if row is None else _receipt(row)


def retry_receipt(cur: Cursor, receipt: Receipt, due_ms: int) -> None:
    cur.execute(
        "UPDATE superapp_payment_receipt SET attempts = attempts + 1, due_ms = ?"
        " WHERE payer_key = ? AND payment_id = ? AND due_ms IS NOT NULL",
        (due_ms, receipt.key.payer_key, receipt.key.payment_id),
    )


def settle_receipts(cur: Cursor, settled: Sequence[tuple[PaymentKey, EventId | None]]) -> None:
    """Nothing more is owed: a receipt stands in the room, or (None) none can be posted any more."""
    cur.execute_many(
        "UPDATE superapp_payment_receipt SET due_ms = NULL, receipt_event_id = ?"
        " WHERE payer_key = ? AND payment_id = ? AND due_ms IS NOT NULL",
        [(receipt_event_id, key.payer_key, key.payment_id) for key, receipt_event_id in settled],
    )


# Checks. Each is one statement, so that it sees one state of the books while others write.


def counts(cur: Cursor) -> tuple[int, int]:
    """How many payments there are, and how many of them have not ended."""
    cur.execute(
        "SELECT COUNT(*), COALESCE(SUM(CASE WHEN state IN ('held', 'awaiting_acceptance', 'committed')"
        " THEN 1 ELSE 0 END), 0) FROM superapp_payment"
    )
    row = cur.fetchone()
    return (0, 0) if row is None else (int(row[0] or 0), int(row[1] or 0))


def unmatched_holds(cur: Cursor) -> tuple[Violation, ...]:
    """Holds and payments that contradict each other. Reads the ledger's table of holds and writes nothing to it."""
    cur.execute(
        "SELECT payment.payer_key, payment.payment_id, payment.state, COALESCE(hold.state, 'missing'),"
        " payment.amount_minor"
        " FROM superapp_payment AS payment LEFT JOIN superapp_ledger_hold AS hold"
        " ON hold.hold_id = payment.payer_key || ':' || payment.payment_id"
        " WHERE payment.payer_acct IS NOT NULL AND COALESCE(hold.state, 'missing') <> CASE"
        " WHEN payment.state IN ('held', 'awaiting_acceptance') THEN 'open'"
        " WHEN payment.state IN ('committed', 'completed') THEN 'posted'"
        # A payment that the payee's homeserver voided after the commit failed with its hold posted.
        " WHEN payment.state = 'failed' AND hold.state = 'posted' AND payment.payee_acct IS NULL THEN 'posted'"
        # And what failed before a restore may never have been set aside in the restored books.
        " WHEN payment.state NOT IN ('held', 'awaiting_acceptance', 'committed', 'completed')"
        "  AND hold.state IS NULL THEN 'missing'"
        " ELSE 'voided' END"
        " UNION ALL"
        " SELECT hold.owner, hold.hold_id, 'missing', hold.state, hold.amount_minor FROM superapp_ledger_hold AS hold"
        " WHERE hold.state = 'open' AND substr(hold.hold_id, 1, 4) <> 'fee:'"
        " AND NOT EXISTS (SELECT 1 FROM superapp_payment AS payment"
        " WHERE hold.hold_id = payment.payer_key || ':' || payment.payment_id)"
        # The hold of a fee follows its payment: open as long as that has not ended, posted if it was completed.
        " UNION ALL"
        " SELECT payment.payer_key, payment.payment_id, payment.state, COALESCE(hold.state, 'missing') || ' (its fee)',"
        " payment.fee_minor"
        " FROM superapp_payment AS payment LEFT JOIN superapp_ledger_hold AS hold"
        " ON hold.hold_id = 'fee:' || payment.payer_key || ':' || payment.payment_id"
        " WHERE payment.fee_minor > 0 AND (COALESCE(hold.amount_minor, 0) <> payment.fee_minor OR hold.state <> CASE"
        " WHEN payment.state IN ('held', 'awaiting_acceptance', 'committed') THEN 'open'"
        " WHEN payment.state = 'completed' THEN 'posted' ELSE 'voided' END)"
        " UNION ALL"
        " SELECT hold.owner, hold.hold_id, 'missing', hold.state, hold.amount_minor FROM superapp_ledger_hold AS hold"
        " WHERE hold.state = 'open' AND substr(hold.hold_id, 1, 4) = 'fee:'"
        " AND NOT EXISTS (SELECT 1 FROM superapp_payment AS payment"
        " WHERE payment.fee_minor > 0 AND hold.hold_id = 'fee:' || payment.payer_key || ':' || payment.payment_id)"
    )
    return tuple(
        Violation(
            invariant="holds",
            where=f"payment {row[1]} of {row[0]} is {row[2]}, its hold {row[3]}",
            off_by=int(row[4] or 0),
        )
        for row in cur.fetchall()
    )


def excess_refunds(cur: Cursor) -> tuple[Violation, ...]:
    """Payments of which more was given back than had been paid."""
    cur.execute(
        "SELECT original.payer_key, original.payment_id, SUM(refund.amount_minor) - MAX(original.amount_minor)"
        " FROM superapp_payment AS refund JOIN superapp_payment AS original"
        " ON original.payment_id = refund.refund_of AND original.payer_user_id = refund.payee_user_id"
        " AND original.payee_user_id = refund.payer_user_id"
        " WHERE refund.refund_of IS NOT NULL"
        " AND refund.state IN ('held', 'awaiting_acceptance', 'committed', 'completed')"
        " GROUP BY original.payer_key, original.payment_id"
        " HAVING SUM(refund.amount_minor) > MAX(original.amount_minor)"
    )
    return tuple(
        Violation(invariant="refunds", where=f"payment {row[1]} of {row[0]}", off_by=int(row[2] or 0))
        for row in cur.fetchall()
    )


def _progress(payment: Payment) -> tuple[SqlValue, ...]:
    return (
        payment.room_id,
        payment.event_id,
        payment.venue,
        int(payment.payee_joined),
        payment.position,
        payment.state,
        payment.reason,
        int(payment.answered),
    )


def _payment(row: Row) -> Payment:
    return Payment(
        payer_key=PayerKey(str(row[0])),
        payment_id=PaymentId(str(row[1])),
        payer=UserId(str(row[2])),
        payer_acct=None if row[3] is None else Acct(str(row[3])),
        payee=Party(
            user_id=UserId(str(row[4])),
            acct=str(row[5]),
            handle=None if row[6] is None else Handle(str(row[6])),
        ),
        payee_acct=None if row[7] is None else Acct(str(row[7])),
        money=Money(amount_minor=int(row[8] or 0), currency=AssetCode(str(row[9]))),
        memo=_text(row[10]),
        request=_text(row[11]),
        refund_of=None if row[12] is None else PaymentId(str(row[12])),
        invoice=_text(row[13]),
        order_hash=_text(row[14]),
        salts=None if row[15] is None else _salts(str(row[15])),
        wire_id=None if row[16] is None else WireId(str(row[16])),
        room_id=None if row[17] is None else RoomId(str(row[17])),
        event_id=None if row[18] is None else EventId(str(row[18])),
        venue=Venue(str(row[19])),
        payee_joined=bool(row[20]),
        position=int(row[21] or 0),
        state=State(str(row[22])),
        reason=None if row[23] is None else Reason(str(row[23])),
        answered=bool(row[24]),
        created_ms=int(row[25] or 0),
        due_ms=None if row[26] is None else int(row[26]),
        signed=None if row[27] is None else json.loads(str(row[27])),
        fee_minor=int(row[28] or 0),
    )


def _salts(text: str) -> Salts:
    wire, payer, payee, memo, room = text.split(" ")
    return Salts(wire=wire, parties=(payer, payee, memo), room=room)


def _json(value: Mapping[str, object] | None) -> str | None:
    return None if value is None else json.dumps(value)


def _text(value: SqlValue) -> str | None:
    return None if value is None else str(value)


def _receipt(row: Row) -> Receipt:
    return Receipt(
        key=PaymentKey(payer_key=PayerKey(str(row[0])), payment_id=PaymentId(str(row[1]))),
        poster=Poster(str(row[2])),
        room_id=RoomId(str(row[3])),
        event_id=EventId(str(row[4])),
        attempts=int(row[5] or 0),
        due_ms=int(row[6] or 0),
    )


def erase_person(cur: Cursor, acct: Acct) -> int:
    """Forget what somebody wrote to payments that are over, and what was written to them alone; how many.

    A memo that another person of this homeserver wrote is theirs, and stays for them.
    """
    cur.execute(
        "UPDATE superapp_payment SET memo = NULL, invoice = NULL, payee_handle = CASE WHEN payee_acct = ? THEN NULL"
        " ELSE payee_handle END"
        " WHERE (payer_acct = ? OR (payee_acct = ? AND payer_acct IS NULL))"
        " AND state IN ('completed', 'failed', 'declined', 'expired', 'cancelled')",
        (acct, acct, acct),
    )
    return cur.rowcount
