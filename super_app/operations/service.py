"""What operators do, each in the caller's transaction: halting, the audit log, and money that two must agree on."""

from collections.abc import Mapping

from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import UserId
from super_app.operations import rules, store
from super_app.operations.model import MAX_PAGE, Halt, Line, Proposal, ProposalId, State


def halt(cur: Cursor, operator: UserId, reason: str, now_ms: int) -> Halt:
    """Payments are halted from now on. Again it changes nothing."""
    store.put_halt(cur, Halt(operator=operator, reason=reason, since_ms=now_ms))
    found = store.halt(cur)
    if found is None:
        raise RuntimeError("the halt that was just written is not there")
    return found


def write_down(
    cur: Cursor,
    *,
    operator: UserId,
    act: str,
    what: Mapping[str, object],
    outcome: str,
    asked_seq: int | None,
    now_ms: int,
) -> Line:
    """Append one line to the audit log."""
    seq, prev = store.next_place(cur)
    text = rules.spelled(what)
    line = Line(
        seq=seq,
        at_ms=now_ms,
        operator=operator,
        act=act,
        what=text,
        outcome=outcome,
        asked_seq=asked_seq,
        prev=prev,
        hash=rules.hash_of(seq, now_ms, operator, act, text, outcome, asked_seq, prev),
    )
    store.append(cur, line)
    return line


def broken_at(cur: Cursor) -> int | None:
    """The first line of the audit log that was changed or is missing; None if there is none."""
    at = (0, "")
    while lines := store.lines_after(cur, at[0], MAX_PAGE):
        broken = rules.first_break(lines, at)
        if broken is not None:
            return broken
        at = (lines[-1].seq, lines[-1].hash)
    return None if store.head(cur) == at else at[0] + 1


def propose(cur: Cursor, wanted: Proposal) -> Proposal | Refused:
    """Propose it. The same again changes nothing; another one under the same id is CONFLICT."""
    known = store.proposal(cur, wanted.proposal_id)
    if known is None:
        store.add_proposal(cur, wanted)
        return wanted
    if (known.kind, known.user_id, known.money, known.reference) != (
        wanted.kind,
        wanted.user_id,
        wanted.money,
        wanted.reference,
    ):
        return Refused(
            reason=Reason.CONFLICT,
            message=f"There is another proposal under {wanted.proposal_id}; choose another id.",
        )
    return known


def decide(cur: Cursor, proposal_id: ProposalId, by: UserId, state: State, now_ms: int) -> Proposal | Refused:
    """Approve or reject; the same again changes nothing. What an approved one asks for is done afterwards."""
    known = store.proposal(cur, proposal_id)
    if known is None:
        return Refused(reason=Reason.UNKNOWN_PROPOSAL, message=f"There is no proposal {proposal_id}.")
    refused = rules.judge_decision(known, by, state)
    if refused is not None:
        return refused
    if known.state is State.OPEN and not store.decide(cur, proposal_id, state, by, now_ms):
        # Another admin was quicker.
        return decide(cur, proposal_id, by, state, now_ms)
    return store.proposal(cur, proposal_id) or known
