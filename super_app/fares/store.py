"""SQL of calls by the minute."""

from collections.abc import Mapping
from typing import LiteralString

from super_app.calls.model import SessionId
from super_app.db import Cursor, Row
from super_app.fares.model import Fare, FareId, FareKey, FareState, Part, PartState, Terms, TermsState
from super_app.ids import Acct, PaymentId, RoomId, ServerName, UserId
from super_app.ledger.model import Violation
from super_app.money import AssetCode, Money

_FARE: LiteralString = (
    "owner_acct, fare_id, caller, callee, callee_acct, price_minor, currency, ceiling_minor, aside_minor, paid_minor,"
    " state, session_id, answer_ms, end_ms, talked_ms, parts, moves, failures, retry_ms, warned, reason, agreed_ms,"
    " link_id, room_id"
)
_TERMS: LiteralString = (
    "callee_acct, callee, caller, fare_id, price_minor, currency, state, session_id, agreed_ms, link_id, room_id,"
    " answer_ms, end_ms, told_ms"
)

# The caller's side.


def find(cur: Cursor, key: FareKey) -> Fare | None:
    cur.execute(
        "SELECT " + _FARE + " FROM superapp_fare WHERE owner_acct = ? AND fare_id = ?", (key.owner, key.fare_id)
    )
    row = cur.fetchone()
    return None if row is None else _fare(row)


def add(cur: Cursor, fare: Fare) -> None:
    cur.execute(
        "INSERT INTO superapp_fare (" + _FARE + ")"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            fare.owner,
            fare.fare_id,
            fare.caller,
            fare.callee,
            fare.callee_acct,
            fare.price.amount_minor,
            fare.price.currency,
            fare.ceiling_minor,
            fare.aside_minor,
            fare.paid_minor,
            fare.state,
            fare.session_id,
            fare.answer_ms,
            fare.end_ms,
            fare.talked_ms,
            fare.parts,
            fare.moves,
            fare.failures,
            fare.retry_ms,
            int(fare.warned),
            fare.reason,
            fare.agreed_ms,
            fare.link_id,
            fare.room_id,
        ),
    )


def put(cur: Cursor, fare: Fare) -> None:
    """What changes of a fare; the rest is as it was agreed. Which room it is for is said by ``found_room``."""
    cur.execute(
        "UPDATE superapp_fare SET aside_minor = ?, paid_minor = ?, state = ?, session_id = ?, answer_ms = ?,"
        " end_ms = ?, talked_ms = ?, parts = ?, moves = ?, failures = ?, retry_ms = ?, warned = ?, reason = ?"
        " WHERE owner_acct = ? AND fare_id = ?",
        (
            fare.aside_minor,
            fare.paid_minor,
            fare.state,
            fare.session_id,
            fare.answer_ms,
            fare.end_ms,
            fare.talked_ms,
            fare.parts,
            fare.moves,
            fare.failures,
            fare.retry_ms,
            int(fare.warned),
            fare.reason,
            fare.owner,
            fare.fare_id,
        ),
    )


def found_room(cur: Cursor, key: FareKey, room_id: RoomId) -> None:
    """A fare is for the call of a room, as the state of that room says itself. Once somebody is in it, it stays so."""
    cur.execute(
        "UPDATE superapp_fare SET room_id = ? WHERE owner_acct = ? AND fare_id = ? AND state = 'agreed'"
        " AND (room_id IS NULL OR room_id <> ?)",
        (room_id, key.owner, key.fare_id, room_id),
    )


def of_link(cur: Cursor, caller: UserId, link_id: str) -> tuple[Fare, ...]:
    """The fares of a caller for a link that are not over; few."""
    cur.execute(
        "SELECT " + _FARE + " FROM superapp_fare WHERE caller = ? AND link_id = ? AND state <> 'ended'",
        (caller, link_id),
    )
    return tuple(map(_fare, cur.fetchall()))


def open_fares(cur: Cursor, limit: int) -> tuple[Fare, ...]:
    """Those that are not over, the oldest first."""
    cur.execute("SELECT " + _FARE + " FROM superapp_fare WHERE state <> 'ended' ORDER BY agreed_ms LIMIT ?", (limit,))
    return tuple(map(_fare, cur.fetchall()))


def count_open(cur: Cursor, owner: Acct) -> int:
    cur.execute("SELECT COUNT(*) FROM superapp_fare WHERE owner_acct = ? AND state <> 'ended'", (owner,))
    return _only(cur)


def awaits_ring(cur: Cursor, owner: Acct, callee: UserId, since_ms: int) -> bool:
    """Whether somebody has confirmed a price for a callee that no call has used yet."""
    cur.execute(
        "SELECT COUNT(*) FROM superapp_fare WHERE owner_acct = ? AND callee = ? AND state = 'agreed'"
        " AND agreed_ms > ? AND session_id IS NULL AND link_id IS NULL",
        (owner, callee, since_ms),
    )
    return _only(cur) > 0


def sessions_with(cur: Cursor, owner: Acct, callee: UserId) -> tuple[SessionId, ...]:
    """The calls to a callee that somebody pays for by the minute and that are not over; few."""
    cur.execute(
        "SELECT session_id FROM superapp_fare WHERE owner_acct = ? AND callee = ? AND state <> 'ended'"
        " AND session_id IS NOT NULL",
        (owner, callee),
    )
    return tuple(SessionId(str(row[0])) for row in cur.fetchall())


def uses(cur: Cursor, owner: Acct, session_id: SessionId) -> bool:
    cur.execute("SELECT COUNT(*) FROM superapp_fare WHERE owner_acct = ? AND session_id = ?", (owner, session_id))
    return _only(cur) > 0


def page(cur: Cursor, owner: Acct, limit: int) -> tuple[Fare, ...]:
    """A person's, the newest first."""
    cur.execute(
        "SELECT " + _FARE + " FROM superapp_fare WHERE owner_acct = ? ORDER BY agreed_ms DESC, fare_id LIMIT ?",
        (owner, limit),
    )
    return tuple(map(_fare, cur.fetchall()))


def add_part(cur: Cursor, key: FareKey, part: Part) -> None:
    cur.execute(
        "INSERT INTO superapp_fare_part (owner_acct, fare_id, number, amount_minor, payment_id, state)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (key.owner, key.fare_id, part.number, part.amount_minor, part.payment_id, part.state),
    )


def part_of(cur: Cursor, owner: Acct, payment_id: PaymentId) -> tuple[FareKey, Part] | None:
    cur.execute(
        "SELECT fare_id, number, amount_minor, payment_id, state FROM superapp_fare_part"
        " WHERE owner_acct = ? AND payment_id = ?",
        (owner, payment_id),
    )
    row = cur.fetchone()
    return None if row is None else (FareKey(owner=owner, fare_id=FareId(str(row[0]))), _part(row[1:]))


def decide_part(cur: Cursor, key: FareKey, number: int, state: PartState) -> bool:
    """Compare and set: a part is decided once."""
    cur.execute(
        "UPDATE superapp_fare_part SET state = ? WHERE owner_acct = ? AND fare_id = ? AND number = ?"
        " AND state = 'under_way'",
        (state, key.owner, key.fare_id, number),
    )
    return cur.rowcount == 1


def parts(cur: Cursor, key: FareKey) -> tuple[Part, ...]:
    cur.execute(
        "SELECT number, amount_minor, payment_id, state FROM superapp_fare_part"
        " WHERE owner_acct = ? AND fare_id = ? ORDER BY number",
        (key.owner, key.fare_id),
    )
    return tuple(map(_part, cur.fetchall()))


def is_paying(cur: Cursor, key: FareKey) -> bool:
    """Whether a part is on its way."""
    cur.execute(
        "SELECT COUNT(*) FROM superapp_fare_part WHERE owner_acct = ? AND fare_id = ? AND state = 'under_way'",
        (key.owner, key.fare_id),
    )
    return _only(cur) > 0


def aside_minor(cur: Cursor, owner: Acct, currency: AssetCode) -> int:
    cur.execute(
        "SELECT COALESCE(SUM(aside_minor), 0) FROM superapp_fare"
        " WHERE owner_acct = ? AND currency = ? AND state <> 'ended'",
        (owner, currency),
    )
    return _only(cur)


def all_aside(cur: Cursor) -> Mapping[tuple[str, str], int]:
    """What lies aside for calls, by owner and currency."""
    cur.execute(
        "SELECT owner_acct, currency, SUM(aside_minor) FROM superapp_fare WHERE state <> 'ended'"
        " GROUP BY owner_acct, currency"
    )
    return {(str(row[0]), str(row[1])): int(row[2] or 0) for row in cur.fetchall()}


def wrong_totals(cur: Cursor) -> tuple[Violation, ...]:
    """Fares whose parts are not what was paid, or that were charged beyond what was talked."""
    cur.execute(
        "SELECT fare.owner_acct, fare.fare_id, fare.paid_minor - COALESCE(SUM("
        "CASE WHEN part.state <> 'returned' THEN part.amount_minor ELSE 0 END), 0)"
        " FROM superapp_fare AS fare LEFT JOIN superapp_fare_part AS part"
        " ON part.owner_acct = fare.owner_acct AND part.fare_id = fare.fare_id"
        " GROUP BY fare.owner_acct, fare.fare_id, fare.paid_minor HAVING fare.paid_minor <> COALESCE(SUM("
        "CASE WHEN part.state <> 'returned' THEN part.amount_minor ELSE 0 END), 0)"
    )
    unlike = [(str(row[0]), str(row[1]), int(row[2] or 0)) for row in cur.fetchall()]
    cur.execute(
        "SELECT owner_acct, fare_id, paid_minor * 60 - price_minor * (talked_ms / 1000) FROM superapp_fare"
        " WHERE state IN ('owing', 'ended') AND talked_ms IS NOT NULL"
        " AND paid_minor * 60 > price_minor * (CASE WHEN end_ms - answer_ms > talked_ms"
        " THEN end_ms - answer_ms ELSE talked_ms END / 1000)"
    )
    beyond = [(str(row[0]), str(row[1]), int(row[2] or 0) // 60) for row in cur.fetchall()]
    return tuple(
        Violation(invariant="fares", where=f"call {fare_id} of {owner}", off_by=off_by)
        for owner, fare_id, off_by in (*unlike, *beyond)
    )


# The callee's side.


def add_terms(cur: Cursor, terms: Terms, stem: str) -> None:
    cur.execute(
        "INSERT INTO superapp_fare_terms (" + _TERMS + ", stem) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (caller, fare_id) DO NOTHING",
        (
            terms.callee_acct,
            terms.callee,
            terms.caller,
            terms.fare_id,
            terms.price.amount_minor,
            terms.price.currency,
            terms.state,
            terms.session_id,
            terms.agreed_ms,
            terms.link_id,
            terms.room_id,
            terms.answer_ms,
            terms.end_ms,
            terms.told_ms,
            stem,
        ),
    )


def terms_of(cur: Cursor, caller: UserId, fare_id: FareId) -> Terms | None:
    cur.execute("SELECT " + _TERMS + " FROM superapp_fare_terms WHERE caller = ? AND fare_id = ?", (caller, fare_id))
    row = cur.fetchone()
    return None if row is None else _terms(row)


def open_terms(cur: Cursor, callee: Acct, caller: UserId, since_ms: int) -> Terms | None:
    """The newest terms that no ring has used yet."""
    cur.execute(
        "SELECT " + _TERMS + " FROM superapp_fare_terms WHERE callee_acct = ? AND caller = ? AND state = 'open'"
        " AND agreed_ms > ? AND link_id IS NULL ORDER BY agreed_ms DESC LIMIT 1",
        (callee, caller, since_ms),
    )
    row = cur.fetchone()
    return None if row is None else _terms(row)


def terms_of_link(cur: Cursor, caller: UserId, link_id: str) -> tuple[Terms, ...]:
    """What a caller has agreed to for a link and is not over."""
    cur.execute(
        "SELECT " + _TERMS + " FROM superapp_fare_terms WHERE caller = ? AND link_id = ? AND state <> 'over'",
        (caller, link_id),
    )
    return tuple(map(_terms, cur.fetchall()))


def live_terms(cur: Cursor, limit: int) -> tuple[Terms, ...]:
    """Those that are not over: first of calls that go on, then of those that may come, the oldest first."""
    cur.execute(
        "SELECT " + _TERMS + " FROM superapp_fare_terms WHERE state <> 'over'"
        " ORDER BY CASE state WHEN 'running' THEN 0 ELSE 1 END, agreed_ms LIMIT ?",
        (limit,),
    )
    return tuple(map(_terms, cur.fetchall()))


def count_terms(cur: Cursor, caller: UserId) -> int:
    """How many terms of a caller are not over."""
    cur.execute("SELECT COUNT(*) FROM superapp_fare_terms WHERE caller = ? AND state <> 'over'", (caller,))
    return _only(cur)


def count_terms_of(cur: Cursor, server: ServerName) -> int:
    """And of all callers of a homeserver."""
    ending = f":{server}"
    cur.execute(
        "SELECT COUNT(*) FROM superapp_fare_terms WHERE state <> 'over' AND substr(caller, length(caller) - ?) = ?",
        (len(ending) - 1, ending),
    )
    return _only(cur)


def replace_terms(cur: Cursor, terms: Terms) -> None:
    """Terms of the same visit that nobody has used are over."""
    cur.execute(
        "UPDATE superapp_fare_terms SET state = 'over' WHERE caller = ? AND callee = ? AND link_id = ?"
        " AND state = 'open'",
        (terms.caller, terms.callee, terms.link_id),
    )


def has_terms(cur: Cursor, callee: UserId, payer: UserId, stem: str) -> bool:
    """Whether a payment belongs to a call that the payee is to be paid for."""
    cur.execute(
        "SELECT COUNT(*) FROM superapp_fare_terms WHERE caller = ? AND stem = ? AND callee = ?", (payer, stem, callee)
    )
    return _only(cur) > 0


def session_has_terms(cur: Cursor, callee: Acct, session_id: SessionId) -> bool:
    cur.execute(
        "SELECT COUNT(*) FROM superapp_fare_terms WHERE callee_acct = ? AND session_id = ?", (callee, session_id)
    )
    return _only(cur) > 0


def put_terms(cur: Cursor, terms: Terms) -> None:
    """What is over stays so, and what was told stays told, whoever writes at the same time."""
    cur.execute(
        "UPDATE superapp_fare_terms SET state = ?, session_id = ?, answer_ms = ?, end_ms = ?,"
        " told_ms = COALESCE(told_ms, ?) WHERE caller = ? AND fare_id = ? AND state <> 'over'",
        (
            terms.state,
            terms.session_id,
            terms.answer_ms,
            terms.end_ms,
            terms.told_ms,
            terms.caller,
            terms.fare_id,
        ),
    )


def received_minor(cur: Cursor, callee: Acct, caller: UserId, stem: str) -> int:
    """What has come of a caller elsewhere for one call."""
    cur.execute(
        "SELECT COALESCE(SUM(amount_minor), 0) FROM superapp_payment WHERE payer_key = ? AND payee_acct = ?"
        " AND payment_id BETWEEN ? AND ? AND state = 'completed'",
        (caller, callee, stem, stem + "g"),
    )
    return _only(cur)


def forget(cur: Cursor, before_ms: int) -> None:
    """Forget terms that are over for long; the payments themselves stay."""
    cur.execute("DELETE FROM superapp_fare_terms WHERE state = 'over' AND agreed_ms < ?", (before_ms,))


def erase_person(cur: Cursor, acct: Acct) -> int:
    """Forget who agreed to pay somebody for calls that are over; how many. What somebody paid is part of the books."""
    cur.execute("DELETE FROM superapp_fare_terms WHERE state = 'over' AND callee_acct = ?", (acct,))
    return cur.rowcount


def _only(cur: Cursor) -> int:
    row = cur.fetchone()
    return 0 if row is None else int(row[0] or 0)


def _fare(row: Row) -> Fare:
    return Fare(
        owner=Acct(str(row[0])),
        fare_id=FareId(str(row[1])),
        caller=UserId(str(row[2])),
        callee=UserId(str(row[3])),
        callee_acct=str(row[4]),
        price=Money(amount_minor=int(row[5] or 0), currency=AssetCode(str(row[6]))),
        ceiling_minor=int(row[7] or 0),
        aside_minor=int(row[8] or 0),
        paid_minor=int(row[9] or 0),
        state=FareState(str(row[10])),
        session_id=None if row[11] is None else SessionId(str(row[11])),
        answer_ms=_maybe(row[12]),
        end_ms=_maybe(row[13]),
        talked_ms=_maybe(row[14]),
        parts=int(row[15] or 0),
        moves=int(row[16] or 0),
        failures=int(row[17] or 0),
        retry_ms=_maybe(row[18]),
        warned=bool(row[19]),
        reason=None if row[20] is None else str(row[20]),
        agreed_ms=int(row[21] or 0),
        link_id=None if row[22] is None else str(row[22]),
        room_id=None if row[23] is None else RoomId(str(row[23])),
    )


def _part(row: Row) -> Part:
    return Part(
        number=int(row[0] or 0),
        amount_minor=int(row[1] or 0),
        payment_id=PaymentId(str(row[2])),
        state=PartState(str(row[3])),
    )


def _terms(row: Row) -> Terms:
    return Terms(
        callee_acct=Acct(str(row[0])),
        callee=UserId(str(row[1])),
        caller=UserId(str(row[2])),
        fare_id=FareId(str(row[3])),
        price=Money(amount_minor=int(row[4] or 0), currency=AssetCode(str(row[5]))),
        state=TermsState(str(row[6])),
        session_id=None if row[7] is None else SessionId(str(row[7])),
        agreed_ms=int(row[8] or 0),
        link_id=None if row[9] is None else str(row[9]),
        room_id=None if row[10] is None else RoomId(str(row[10])),
        answer_ms=_maybe(row[11]),
        end_ms=_maybe(row[12]),
        told_ms=_maybe(row[13]),
    )


def _maybe(value: str | int | None) -> int | None:
    return None if value is None else int(value)
