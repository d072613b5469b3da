"""SQL of settlements. Functions take a cursor and return model values; deciding what to write is not done here."""

from collections.abc import Collection
from typing import Final, LiteralString

from super_app.clearing.model import LinkId, MessageType, SettlementId, SettlementTerms
from super_app.clearing.settlement_model import OPEN, AutoSettle, Every, Settlement, SettlementState, Way
from super_app.db import Cursor, Row, SqlValue
from super_app.ids import ServerName
from super_app.money import AssetCode

_SETTLEMENT: Final[LiteralString] = (
    "s.link_id, l.peer, s.way, s.settlement_id, s.amount_minor, s.currency, s.scale, s.state, s.answer, s.proposed,"
    " s.reason, s.pay_to, s.bank_reference, s.received_minor, s.covered_minor, s.opened_ms, s.changed_ms, s.due_ms"
    " FROM superapp_clearing_settlement AS s JOIN superapp_clearing_link AS l ON l.link_id = s.link_id"
)


def add(cur: Cursor, settlement: Settlement) -> None:
    terms = settlement.terms
    cur.execute(
        "INSERT INTO superapp_clearing_settlement (link_id, way, settlement_id, amount_minor, currency, scale, state,"
        " answer, proposed, reason, pay_to, bank_reference, received_minor, covered_minor, opened_ms, changed_ms,"
        " due_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            settlement.link_id,
            settlement.way,
            terms.settlement_id,
            terms.amount_minor,
            terms.currency,
            terms.scale,
            settlement.state,
            settlement.answer,
            int(settlement.proposed),
            settlement.reason,
            settlement.pay_to,
            settlement.bank_reference,
            settlement.received_minor,
            settlement.covered_minor,
            settlement.opened_ms,
            settlement.changed_ms,
            settlement.due_ms,
        ),
    )


def move(cur: Cursor, before: Settlement, after: Settlement) -> bool:
    """Compare and set: whether the settlement still stood as ``before``, and now stands as ``after``."""
    cur.execute(
        "UPDATE superapp_clearing_settlement SET state = ?, answer = ?, proposed = ?, reason = ?, pay_to = ?,"
        " bank_reference = ?, received_minor = ?, covered_minor = ?, changed_ms = ?, due_ms = ?"
        " WHERE link_id = ? AND way = ? AND settlement_id = ? AND state = ? AND COALESCE(answer, '') = ?",
        (
            after.state,
            after.answer,
            int(after.proposed),
            after.reason,
            after.pay_to,
            after.bank_reference,
            after.received_minor,
            after.covered_minor,
            after.changed_ms,
            after.due_ms,
            before.link_id,
            before.way,
            before.terms.settlement_id,
            before.state,
            before.answer or "",
        ),
    )
    return cur.rowcount == 1


def find(cur: Cursor, link_id: LinkId, way: Way, settlement_id: SettlementId) -> Settlement | None:
    cur.execute(
        "SELECT " + _SETTLEMENT + " WHERE s.link_id = ? AND s.way = ? AND s.settlement_id = ?",
        (link_id, way, settlement_id),
    )
    row = cur.fetchone()
    return None if row is None else _settlement(row)


def open_ones(cur: Cursor, link_id: LinkId, limit: int) -> tuple[Settlement, ...]:
    """Those that are not ended, oldest first."""
    cur.execute(
        "SELECT " + _SETTLEMENT + " WHERE s.link_id = ? AND s.state IN ('proposed', 'agreed', 'sent', 'disputed')"
        " ORDER BY s.opened_ms, s.way, s.settlement_id LIMIT ?",
        (link_id, limit),
    )
    return tuple(_settlement(row) for row in cur.fetchall())


def newest(cur: Cursor, link_id: LinkId | None, limit: int) -> tuple[Settlement, ...]:
    """All that there were, on one link or on all, newest first."""
    chosen: LiteralString = "" if link_id is None else " WHERE s.link_id = ?"
    cur.execute(
        "SELECT " + _SETTLEMENT + chosen + " ORDER BY s.opened_ms DESC, s.link_id, s.way, s.settlement_id LIMIT ?",
        (limit,) if link_id is None else (link_id, limit),
    )
    return tuple(_settlement(row) for row in cur.fetchall())


def due(
    cur: Cursor, link_id: LinkId, states: Collection[SettlementState], now_ms: int, limit: int
) -> tuple[Settlement, ...]:
    """Those of these states whose time has ended."""
    found: list[Settlement] = []
    for state in sorted(states):
        cur.execute(
            "SELECT " + _SETTLEMENT + " WHERE s.link_id = ? AND s.state = ? AND s.due_ms <= ?"
            " ORDER BY s.due_ms, s.settlement_id LIMIT ?",
            (link_id, state, now_ms, limit),
        )
        found += [_settlement(row) for row in cur.fetchall()]
    return tuple(found)


def next_due_ms(cur: Cursor, link_id: LinkId, states: Collection[SettlementState]) -> int | None:
    cur.execute(
        "SELECT state, MIN(due_ms) FROM superapp_clearing_settlement"
        " WHERE link_id = ? AND due_ms IS NOT NULL GROUP BY state",
        (link_id,),
    )
    return min((_int(row[1]) for row in cur.fetchall() if str(row[0]) in states), default=None)


def count_waiting(cur: Cursor, link_id: LinkId, way: Way) -> int:
    """Proposals without an answer, and cancellations without their proposal."""
    cur.execute(
        "SELECT COUNT(*) FROM superapp_clearing_settlement WHERE link_id = ? AND way = ?"
        " AND (state = 'proposed' OR proposed = 0)",
        (link_id, way),
    )
    row = cur.fetchone()
    return 0 if row is None else _int(row[0])


def sum_of(
    cur: Cursor, link_id: LinkId, way: Way, currency: AssetCode, states: Collection[SettlementState] = OPEN
) -> int:
    """The sum of the settlements of these states, in minor units."""
    cur.execute(
        "SELECT state, SUM(amount_minor) FROM superapp_clearing_settlement"
        " WHERE link_id = ? AND way = ? AND currency = ? GROUP BY state",
        (link_id, way, currency),
    )
    return sum(_int(row[1]) for row in cur.fetchall() if str(row[0]) in states)


def sum_received(cur: Cursor, link_id: LinkId, way: Way, currency: AssetCode) -> int:
    """What the creditor has confirmed, in minor units."""
    cur.execute(
        "SELECT COALESCE(SUM(received_minor), 0) FROM superapp_clearing_settlement"
        " WHERE link_id = ? AND way = ? AND currency = ?",
        (link_id, way, currency),
    )
    row = cur.fetchone()
    return 0 if row is None else _int(row[0])


def sum_covered(cur: Cursor, link_id: LinkId, way: Way, currency: AssetCode) -> int:
    """What a restore had to cover, in minor units."""
    cur.execute(
        "SELECT COALESCE(SUM(covered_minor), 0) FROM superapp_clearing_settlement"
        " WHERE link_id = ? AND way = ? AND currency = ?",
        (link_id, way, currency),
    )
    row = cur.fetchone()
    return 0 if row is None else _int(row[0])


def last_failure_ms(cur: Cursor, link_id: LinkId, way: Way, currency: AssetCode) -> int | None:
    """When a settlement last came to nothing."""
    cur.execute(
        "SELECT MAX(changed_ms) FROM superapp_clearing_settlement WHERE link_id = ? AND way = ? AND currency = ?"
        " AND state IN ('refused', 'cancelled', 'not_received')",
        (link_id, way, currency),
    )
    row = cur.fetchone()
    return None if row is None or row[0] is None else _int(row[0])


# What happens by itself.

_AUTO: Final[LiteralString] = (
    "currency, threshold_minor, every, weekday, minute_of_day, agree_up_to_minor, pay_to, next_ms"
)


def autos(cur: Cursor, link_id: LinkId) -> tuple[AutoSettle, ...]:
    cur.execute(
        "SELECT " + _AUTO + " FROM superapp_clearing_autosettle WHERE link_id = ? ORDER BY currency", (link_id,)
    )
    return tuple(_auto(row) for row in cur.fetchall())


def auto(cur: Cursor, link_id: LinkId, currency: AssetCode) -> AutoSettle | None:
    cur.execute(
        "SELECT " + _AUTO + " FROM superapp_clearing_autosettle WHERE link_id = ? AND currency = ?",
        (link_id, currency),
    )
    row = cur.fetchone()
    return None if row is None else _auto(row)


def put_auto(cur: Cursor, link_id: LinkId, chosen: AutoSettle) -> None:
    cur.execute(
        "INSERT INTO superapp_clearing_autosettle (link_id, " + _AUTO + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (link_id, currency) DO UPDATE SET threshold_minor = excluded.threshold_minor,"
        " every = excluded.every, weekday = excluded.weekday, minute_of_day = excluded.minute_of_day,"
        " agree_up_to_minor = excluded.agree_up_to_minor, pay_to = excluded.pay_to, next_ms = excluded.next_ms",
        (
            link_id,
            chosen.currency,
            chosen.threshold_minor,
            chosen.every,
            chosen.weekday,
            chosen.minute_of_day,
            chosen.agree_up_to_minor,
            chosen.pay_to,
            chosen.next_ms,
        ),
    )


# Rows.


def _int(value: SqlValue) -> int:
    # PostgreSQL sums BIGINTs to NUMERIC, which drivers give as Decimal; the value is whole.
    return int(value or 0)


def _maybe_int(value: SqlValue) -> int | None:
    return None if value is None else int(value)


def _settlement(row: Row) -> Settlement:
    return Settlement(
        link_id=LinkId(str(row[0])),
        peer=ServerName(str(row[1])),
        way=Way(str(row[2])),
        terms=SettlementTerms(
            settlement_id=SettlementId(str(row[3])),
            amount_minor=_int(row[4]),
            currency=AssetCode(str(row[5])),
            scale=_int(row[6]),
        ),
        state=SettlementState(str(row[7])),
        answer=None if row[8] is None else MessageType(str(row[8])),
        proposed=row[9] == 1,
        reason=str(row[10]),
        pay_to=str(row[11]),
        bank_reference=str(row[12]),
        received_minor=_int(row[13]),
        covered_minor=_int(row[14]),
        opened_ms=_int(row[15]),
        changed_ms=_int(row[16]),
        due_ms=_maybe_int(row[17]),
    )


def _auto(row: Row) -> AutoSettle:
    return AutoSettle(
        currency=AssetCode(str(row[0])),
        threshold_minor=_maybe_int(row[1]),
        every=Every(str(row[2])),
        weekday=_int(row[3]),
        minute_of_day=_int(row[4]),
        agree_up_to_minor=_int(row[5]),
        pay_to=str(row[6]),
        next_ms=_maybe_int(row[7]),
    )
