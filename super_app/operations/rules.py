"""Decisions of operations: how a line of the audit log is hashed, and who may decide about a proposal."""

import hashlib
import json
from collections.abc import Iterable, Mapping

from super_app.errors import Reason, Refused
from super_app.ids import UserId
from super_app.operations.model import WHAT_MAX, Line, Proposal, State
from super_app.signing import canonical, to_b64


def hash_of(
    seq: int, at_ms: int, operator: str, act: str, what: str, outcome: str, asked_seq: int | None, prev: str
) -> str:
    """SHA-256 over the canonical JSON of a line with the hash of the one before in it, unpadded base64url."""
    line = {
        "seq": seq,
        "at_ms": at_ms,
        "operator": operator,
        "act": act,
        "what": what,
        "outcome": outcome,
        "asked_seq": asked_seq,
        "prev": prev,
    }
    return to_b64(hashlib.sha256(canonical(line)).digest())


def first_break(lines: Iterable[Line], after: tuple[int, str]) -> int | None:
    """The first line that does not follow from the one before; None if all do. ``after``: seq and hash before them."""
    seq, prev = after
    for line in lines:
        seq += 1
        expected = hash_of(seq, line.at_ms, line.operator, line.act, line.what, line.outcome, line.asked_seq, prev)
        if (line.seq, line.prev, line.hash) != (seq, prev, expected):
            return seq
        prev = line.hash
    return None


def spelled(what: Mapping[str, object]) -> str:
    """The JSON of what an act was about; of what is too long, its digest."""
    try:
        text = canonical(what)
    except ValueError:
        # It has floats or half characters, which canonical JSON has not; what was asked is written down all the same.
        text = canonical({"json": json.dumps(what, sort_keys=True)})
    if len(text) > WHAT_MAX:
        text = canonical({"bytes": len(text), "sha256": to_b64(hashlib.sha256(text).digest())})
    return text.decode("utf-8")


def judge_decision(proposal: Proposal, by: UserId, wanted: State) -> Refused | None:
    """Whether ``by`` may approve or reject. The same decision again is none; the proposer may reject only."""
    if proposal.state is wanted:
        return None
    if proposal.state is not State.OPEN:
        return Refused(
            reason=Reason.ALREADY_DECIDED,
            message=f"The proposal {proposal.proposal_id} was {proposal.state.value} by {proposal.decided_by}.",
        )
    if wanted is State.APPROVED and by == proposal.proposed_by:
        return Refused(
            reason=Reason.FOUR_EYES,
            message="Another server admin than the one who proposed it must approve it; you may reject it.",
        )
    return None


def four_eyes() -> Refused:
    return Refused(
        reason=Reason.FOUR_EYES,
        message="Money comes into the world and leaves it only with the consent of two server admins here: propose it "
        "with POST admin/proposals, and let another one approve it.",
    )
