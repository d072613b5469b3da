"""SQL of operations."""

from collections.abc import Sequence
from typing import cast

from super_app.db import Cursor, Row
from super_app.ids import Acct, UserId
from super_app.money import AssetCode, Money
from super_app.operations.model import Halt, Kind, Line, Proposal, ProposalId, State


def halt(cur: Cursor) -> Halt | None:
    cur.execute("SELECT operator, reason, since_ms FROM superapp_halt")
    row = cur.fetchone()
    if row is None:
        return None
    operator, reason, since_ms = cast(tuple[str, str, int], row)
    return Halt(operator=UserId(operator), reason=reason, since_ms=since_ms)


def put_halt(cur: Cursor, halted: Halt) -> None:
    """Halt, unless it is halted already."""
    cur.execute(
        "INSERT INTO superapp_halt (one, operator, reason, since_ms) VALUES (1, ?, ?, ?) ON CONFLICT (one) DO NOTHING",
        (halted.operator, halted.reason, halted.since_ms),
    )


def end_halt(cur: Cursor) -> None:
    cur.execute("DELETE FROM superapp_halt")


def next_place(cur: Cursor) -> tuple[int, str]:
    """The number of the line that is written next and the hash before it. Others wait until this transaction ends."""
    cur.execute("UPDATE superapp_audit_head SET seq = seq + 1 WHERE one = 1")
    return head(cur)


def head(cur: Cursor) -> tuple[int, str]:
    cur.execute("SELECT seq, hash FROM superapp_audit_head WHERE one = 1")
    row = cur.fetchone()
    if row is None:
        raise RuntimeError("the audit log has lost its head")
    return cast(tuple[int, str], row)


def append(cur: Cursor, line: Line) -> None:
    cur.execute(
        "INSERT INTO superapp_audit (seq, at_ms, operator, act, what, outcome, asked_seq, prev, hash)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            line.seq,
            line.at_ms,
            line.operator,
            line.act,
            line.what,
            line.outcome,
            line.asked_seq,
            line.prev,
            line.hash,
        ),
    )
    cur.execute("UPDATE superapp_audit_head SET hash = ? WHERE one = 1", (line.hash,))


def lines_before(cur: Cursor, before: int | None, limit: int) -> tuple[Line, ...]:
    """Newest first."""
    cur.execute(
        "SELECT seq, at_ms, operator, act, what, outcome, asked_seq, prev, hash FROM superapp_audit"
        " WHERE seq < ? ORDER BY seq DESC LIMIT ?",
        (before if before is not None else 2**62, limit),
    )
    return tuple(_line(row) for row in cur.fetchall())


def lines_after(cur: Cursor, after: int, limit: int) -> tuple[Line, ...]:
    """Oldest first."""
    cur.execute(
        "SELECT seq, at_ms, operator, act, what, outcome, asked_seq, prev, hash FROM superapp_audit"
        " WHERE seq > ? ORDER BY seq LIMIT ?",
        (after, limit),
    )
    return tuple(_line(row) for row in cur.fetchall())


def _line(row: Row) -> Line:
    seq, at_ms, operator, act, what, outcome, asked_seq, prev, hash_ = cast(
        tuple[int, int, str, str, str, str, int | None, str, str], row
    )
    return Line(
        seq=seq,
        at_ms=at_ms,
        operator=UserId(operator),
        act=act,
        what=what,
        outcome=outcome,
        asked_seq=asked_seq,
        prev=prev,
        hash=hash_,
    )


def add_proposal(cur: Cursor, proposal: Proposal) -> None:
    cur.execute(
        "INSERT INTO superapp_proposal (proposal_id, kind, user_id, currency, amount_minor, reference, proposed_by,"
        " proposed_ms, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            proposal.proposal_id,
            proposal.kind.value,
            proposal.user_id,
            proposal.money.currency,
            proposal.money.amount_minor,
            proposal.reference,
            proposal.proposed_by,
            proposal.proposed_ms,
            proposal.state.value,
        ),
    )


def proposal(cur: Cursor, proposal_id: ProposalId) -> Proposal | None:
    cur.execute(
        "SELECT proposal_id, kind, user_id, currency, amount_minor, reference, proposed_by, proposed_ms, state,"
        " decided_by, decided_ms FROM superapp_proposal WHERE proposal_id = ?",
        (proposal_id,),
    )
    row = cur.fetchone()
    return None if row is None else _proposal(row)


def proposals(cur: Cursor, states: Sequence[State], limit: int) -> tuple[Proposal, ...]:
    """Those that are open first, newest first."""
    wanted = [*(state.value for state in states), "", "", ""][:3]
    cur.execute(
        "SELECT proposal_id, kind, user_id, currency, amount_minor, reference, proposed_by, proposed_ms, state,"
        " decided_by, decided_ms FROM superapp_proposal WHERE state IN (?, ?, ?)"
        " ORDER BY CASE WHEN state = 'open' THEN 0 ELSE 1 END, proposed_ms DESC, proposal_id LIMIT ?",
        (*wanted, limit),
    )
    return tuple(_proposal(row) for row in cur.fetchall())


def decide(cur: Cursor, proposal_id: ProposalId, state: State, by: UserId, now_ms: int) -> bool:
    """Whether it was open until now."""
    cur.execute(
        "UPDATE superapp_proposal SET state = ?, decided_by = ?, decided_ms = ?"
        " WHERE proposal_id = ? AND state = 'open'",
        (state.value, by, now_ms, proposal_id),
    )
    return cur.rowcount == 1


def _proposal(row: Row) -> Proposal:
    found = cast(tuple[str, str, str, str, int, str, str, int, str, str | None, int | None], row)
    return Proposal(
        proposal_id=ProposalId(found[0]),
        kind=Kind(found[1]),
        user_id=UserId(found[2]),
        money=Money(currency=AssetCode(found[3]), amount_minor=found[4]),
        reference=found[5],
        proposed_by=UserId(found[6]),
        proposed_ms=found[7],
        state=State(found[8]),
        decided_by=None if found[9] is None else UserId(found[9]),
        decided_ms=found[10],
    )


# Erased people: who they are is known to the accounts alone.


def put_erasure(cur: Cursor, acct: Acct, now_ms: int) -> None:
    cur.execute(
        "INSERT INTO superapp_erasure (acct, erased_ms) VALUES (?, ?)"
        " ON CONFLICT (acct) DO UPDATE SET erased_ms = excluded.erased_ms",
        (acct, now_ms),
    )


def drop_erasure(cur: Cursor, acct: Acct) -> None:
    cur.execute("DELETE FROM superapp_erasure WHERE acct = ?", (acct,))


def erased_ms(cur: Cursor, acct: Acct) -> int | None:
    cur.execute("SELECT erased_ms FROM superapp_erasure WHERE acct = ?", (acct,))
    row = cur.fetchone()
    return None if row is None else int(str(row[0]))
