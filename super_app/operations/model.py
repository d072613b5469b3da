"""Values of operations."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NewType

from super_app.ids import UserId
from super_app.money import Money

ProposalId = NewType("ProposalId", str)
"""What the operator who proposes it calls it; the reference of the entry too."""

MAX_PAGE: Final = 500
WHAT_MAX: Final = 4_000
"""Characters of a line's ``what``; of a longer one the digest is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """Payments are halted, since when, by whom and why."""

    operator: UserId
    reason: str
    since_ms: int


class Outcome(StrEnum):
    """How far an act came: a line when it is asked for, another when it has an answer."""

    ASKED = "asked"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the audit log. ``what`` is JSON; ``asked_seq`` is the line that asked for what this one answers."""

    seq: int
    at_ms: int
    operator: UserId
    act: str
    what: str
    outcome: str
    asked_seq: int | None
    prev: str
    hash: str


class Kind(StrEnum):
    ISSUE = "issue"
    BURN = "burn"
    PAY_FEES = "pay_fees"


class State(StrEnum):
    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """``reference`` is that of the entry which it becomes, so that approving it twice changes nothing."""

    proposal_id: ProposalId
    kind: Kind
    user_id: UserId
    money: Money
    reference: str
    proposed_by: UserId
    proposed_ms: int
    state: State = State.OPEN
    decided_by: UserId | None = None
    decided_ms: int | None = None
