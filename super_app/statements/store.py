"""SQL of statements. It reads tables of payments and the ledger and has none of its own."""

from collections.abc import Sequence

from super_app.db import Cursor
from super_app.ids import Acct
from super_app.payments import store as payments
from super_app.payments.model import Payment, PaymentKey
from super_app.statements.model import ActivityKind, Filter


def activity(
    cur: Cursor, acct: Acct, wanted: Filter, before: tuple[int, PaymentKey] | None, limit: int
) -> tuple[Payment, ...]:
    """Payments of an account, newest first, that fulfil what of a filter the database can decide."""
    kind = wanted.kind
    directions = (int(kind is not ActivityKind.RECEIVED), int(kind is not ActivityKind.SENT))
    return payments.search(
        cur,
        acct,
        before,
        limit,
        directions=directions,
        from_ms=wanted.from_ms,
        until_ms=wanted.until_ms,
        currency=wanted.currency,
        at_least_minor=wanted.at_least_minor,
        at_most_minor=wanted.at_most_minor,
        state=wanted.state,
        only_refunds=kind is ActivityKind.REFUND,
        only_requests=kind is ActivityKind.REQUEST,
    )


def payments_at(cur: Cursor, keys: Sequence[PaymentKey]) -> dict[PaymentKey, Payment]:
    return {payment.key: payment for payment in payments.find_many(cur, keys)}


def payments_of_wire(cur: Cursor, payee: Acct, wire_ids: Sequence[str]) -> dict[str, Payment]:
    found = payments.received_by_wire(cur, payee, wire_ids)
    return {payment.wire_id: payment for payment in found if payment.wire_id is not None}
