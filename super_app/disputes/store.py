"""SQL of disputes, their timelines, and what other homeservers have to be told."""

from collections.abc import Sequence
from typing import LiteralString

from super_app.db import Cursor, Row
from super_app.disputes.model import Act, Author, Case, CaseState, Entry, Ground, Owed, key_of
from super_app.ids import Acct, ServerName, UserId
from super_app.money import AssetCode
from super_app.payments.model import PaymentKey

_CASE: LiteralString = (
    "payer_key, payment_id, is_home, payer, payee, payer_acct, payee_acct, ground, currency, wanted_minor,"
    " granted_minor, state, opened_ms"
)
_ENTRY: LiteralString = "entry_id, number, author, act, text, amount_minor, made_ms"


def find(cur: Cursor, key: PaymentKey) -> Case | None:
    cur.execute(
        "SELECT " + _CASE + " FROM superapp_dispute WHERE payer_key = ? AND payment_id = ?",
        (key.payer_key, key.payment_id),
    )
    row = cur.fetchone()
    return None if row is None else _case(row)


def of(cur: Cursor, acct: Acct, limit: int) -> tuple[Case, ...]:
    """Those of a person on either side, newest first."""
    cur.execute(
        "SELECT " + _CASE + " FROM superapp_dispute WHERE payer_acct = ? OR payee_acct = ?"
        " ORDER BY opened_ms DESC, payment_id LIMIT ?",
        (acct, acct, limit),
    )
    return tuple(map(_case, cur.fetchall()))


def by_state(cur: Cursor, state: CaseState, limit: int) -> tuple[Case, ...]:
    """All cases of a state, oldest first."""
    cur.execute(
        "SELECT " + _CASE + " FROM superapp_dispute WHERE state = ? ORDER BY opened_ms, payment_id LIMIT ?",
        (state, limit),
    )
    return tuple(map(_case, cur.fetchall()))


def add(cur: Cursor, case: Case) -> None:
    cur.execute(
        "INSERT INTO superapp_dispute (" + _CASE + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            case.key.payer_key,
            case.key.payment_id,
            int(case.is_home),
            case.payer,
            case.payee,
            case.payer_acct,
            case.payee_acct,
            case.ground,
            case.currency,
            case.wanted_minor,
            case.granted_minor,
            case.state,
            case.opened_ms,
        ),
    )


def advance(cur: Cursor, before: Case, after: Case) -> bool:
    """Compare and set. False where somebody else has moved it."""
    cur.execute(
        "UPDATE superapp_dispute SET state = ?, granted_minor = ? WHERE payer_key = ? AND payment_id = ? AND state = ?",
        (after.state, after.granted_minor, before.key.payer_key, before.key.payment_id, before.state),
    )
    return cur.rowcount == 1


def timeline(cur: Cursor, key: PaymentKey) -> tuple[Entry, ...]:
    """In its order; what is not taken in yet comes last."""
    cur.execute(
        "SELECT " + _ENTRY + " FROM superapp_dispute_entry WHERE payer_key = ? AND payment_id = ?"
        " ORDER BY CASE WHEN number = 0 THEN 1 ELSE 0 END, number, made_ms, entry_id",
        (key.payer_key, key.payment_id),
    )
    return tuple(map(_entry, cur.fetchall()))


def add_entry(cur: Cursor, key: PaymentKey, entry: Entry) -> None:
    cur.execute(
        "INSERT INTO superapp_dispute_entry (payer_key, payment_id, " + _ENTRY + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            key.payer_key,
            key.payment_id,
            entry.entry_id,
            entry.number,
            entry.author,
            entry.act,
            entry.text,
            entry.amount_minor,
            entry.made_ms,
        ),
    )


def take_in(cur: Cursor, key: PaymentKey, entry_id: str, number: int) -> None:
    """A statement that was said here has got its place in the timeline."""
    cur.execute(
        "UPDATE superapp_dispute_entry SET number = ? WHERE payer_key = ? AND payment_id = ? AND entry_id = ?"
        " AND number = 0",
        (number, key.payer_key, key.payment_id, entry_id),
    )


# The outbox.


def owe(cur: Cursor, key: PaymentKey, entry: Entry, to_server: ServerName, now_ms: int) -> None:
    cur.execute(
        "INSERT INTO superapp_dispute_outbox (payer_key, payment_id, entry_id, to_server, number, attempts, due_ms)"
        " VALUES (?, ?, ?, ?, ?, 0, ?)",
        (key.payer_key, key.payment_id, entry.entry_id, to_server, entry.number, now_ms),
    )


def owed(cur: Cursor, now_ms: int, limit: int) -> tuple[Owed, ...]:
    """What is due, of each case the oldest that is still owed: a homeserver is told of a case in its order."""
    cur.execute(
        "SELECT payer_key, payment_id, entry_id, to_server, attempts FROM superapp_dispute_outbox AS this"
        " WHERE due_ms <= ? AND NOT EXISTS (SELECT 1 FROM superapp_dispute_outbox AS older"
        " WHERE older.payer_key = this.payer_key AND older.payment_id = this.payment_id"
        " AND (older.number, older.entry_id) < (this.number, this.entry_id))"
        " ORDER BY due_ms LIMIT ?",
        (now_ms, limit),
    )
    found: list[Owed] = []
    for row in cur.fetchall():
        key = key_of(str(row[0]), str(row[1]))
        case = find(cur, key)
        entry = next((each for each in timeline(cur, key) if each.entry_id == row[2]), None)
        if case is not None and entry is not None:
            server, attempts = ServerName(str(row[3])), int(row[4] or 0)
            found.append(Owed(case=case, entry=entry, to_server=server, attempts=attempts))
    return tuple(found)


def next_owed_ms(cur: Cursor) -> int | None:
    cur.execute("SELECT MIN(due_ms) FROM superapp_dispute_outbox")
    row = cur.fetchone()
    return None if row is None or row[0] is None else int(row[0])


def told(cur: Cursor, owed: Owed) -> None:
    cur.execute(
        "DELETE FROM superapp_dispute_outbox WHERE payer_key = ? AND payment_id = ? AND entry_id = ?",
        (owed.case.key.payer_key, owed.case.key.payment_id, owed.entry.entry_id),
    )


def retry(cur: Cursor, owed: Owed, due_ms: int) -> None:
    cur.execute(
        "UPDATE superapp_dispute_outbox SET attempts = attempts + 1, due_ms = ?"
        " WHERE payer_key = ? AND payment_id = ? AND entry_id = ?",
        (due_ms, owed.case.key.payer_key, owed.case.key.payment_id, owed.entry.entry_id),
    )


def _case(row: Row) -> Case:
    return Case(
        key=key_of(str(row[0]), str(row[1])),
        is_home=bool(row[2]),
        payer=UserId(str(row[3])),
        payee=UserId(str(row[4])),
        payer_acct=None if row[5] is None else Acct(str(row[5])),
        payee_acct=None if row[6] is None else Acct(str(row[6])),
        ground=Ground(str(row[7])),
        currency=AssetCode(str(row[8])),
        wanted_minor=int(row[9] or 0),
        granted_minor=None if row[10] is None else int(row[10]),
        state=CaseState(str(row[11])),
        opened_ms=int(row[12] or 0),
    )


def _entry(row: Sequence[str | int | None]) -> Entry:
    return Entry(
        entry_id=str(row[0]),
        number=int(row[1] or 0),
        author=Author(str(row[2])),
        act=Act(str(row[3])),
        text=str(row[4]),
        amount_minor=None if row[5] is None else int(row[5]),
        made_ms=int(row[6] or 0),
    )


def erase_person(cur: Cursor, acct: Acct) -> int:
    """Forget the words of somebody in cases that are over; how many entries. Grounds, amounts and outcomes stay."""
    cur.execute(
        "UPDATE superapp_dispute_entry SET text = '' WHERE author IN ('payer', 'payee') AND text <> '' AND EXISTS"
        " (SELECT 1 FROM superapp_dispute AS d WHERE d.payer_key = superapp_dispute_entry.payer_key"
        " AND d.payment_id = superapp_dispute_entry.payment_id AND d.state <> 'open'"
        " AND ? = CASE author WHEN 'payer' THEN d.payer_acct ELSE d.payee_acct END)",
        (acct,),
    )
    return cur.rowcount
