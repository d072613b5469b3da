"""What the routes of operations take and give, as JSON. Amounts are minor units, times milliseconds since 1970."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field

from super_app.money import MAX_AMOUNT_MINOR
from super_app.operations.model import MAX_PAGE, Halt, Line, Proposal
from super_app.wire import Text, WireModel

_ID: str = r"^[A-Za-z0-9._~-]{1,64}$"


class HaltBody(WireModel):
    reason: Annotated[Text, Field(min_length=1, max_length=500)]


class HaltJson(BaseModel):
    """``file``: the halt file is there, or payments cannot be kept safe here."""

    halted: bool
    file: bool
    operator: str | None = None
    reason: str | None = None
    since_ms: int | None = None

    @classmethod
    def of(cls, halt: Halt | None, *, file: bool) -> Self:
        if halt is None:
            return cls(halted=file, file=file)
        return cls(halted=True, file=file, operator=halt.operator, reason=halt.reason, since_ms=halt.since_ms)


class ProposalBody(WireModel):
    """``reference`` is why, and that of the entry which it becomes."""

    proposal_id: Annotated[str, Field(pattern=_ID)]
    kind: Literal["issue", "burn", "pay_fees"]
    user_id: Annotated[Text, Field(max_length=255)]
    amount: Annotated[int, Field(ge=1, le=MAX_AMOUNT_MINOR)]
    currency: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]{2,11}$")]
    reference: Annotated[Text, Field(min_length=1, max_length=255)]


class ProposalJson(BaseModel):
    proposal_id: str
    kind: str
    user_id: str
    amount: int
    currency: str
    reference: str
    state: str
    proposed_by: str
    proposed_ms: int
    decided_by: str | None
    decided_ms: int | None

    @classmethod
    def of(cls, proposal: Proposal) -> Self:
        return cls(
            proposal_id=proposal.proposal_id,
            kind=proposal.kind.value,
            user_id=proposal.user_id,
            amount=proposal.money.amount_minor,
            currency=proposal.money.currency,
            reference=proposal.reference,
            state=proposal.state.value,
            proposed_by=proposal.proposed_by,
            proposed_ms=proposal.proposed_ms,
            decided_by=proposal.decided_by,
            decided_ms=proposal.decided_ms,
        )


class ProposalsJson(BaseModel):
    proposals: list[ProposalJson]
    four_eyes: bool
    """Whether nothing is issued or burnt without a proposal."""


class AuditQuery(WireModel):
    before: Annotated[int | None, Field(ge=1, le=MAX_AMOUNT_MINOR)] = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50


class AuditLine(BaseModel):
    """``asked_seq`` is the line that asked for what this one answers. ``hash`` is over the line and ``prev``."""

    seq: int
    at_ms: int
    operator: str
    act: str
    what: str
    outcome: str
    asked_seq: int | None
    prev: str
    hash: str

    @classmethod
    def of(cls, line: Line) -> Self:
        fields: dict[str, Any] = {name: getattr(line, name) for name in cls.model_fields}
        return cls(**fields)


class AuditJson(BaseModel):
    """Newest first."""

    lines: list[AuditLine]


class AuditVerified(BaseModel):
    """``broken_at`` is the first line that was changed or is missing; note ``seq`` and ``hash`` outside of here."""

    ok: bool
    seq: int
    hash: str
    broken_at: int | None = None


class ErasureJson(BaseModel):
    """``owner`` is in whose name the entries in the books stay. ``erased`` counts what went."""

    user_id: str
    owner: str
    erased_ms: int
    erased: int


class MigrationsJson(BaseModel):
    """``waiting`` are migrations that processes of the version before could not live with."""

    waiting: list[str]


class OverviewJson(BaseModel):
    """What the admin page begins with."""

    server_name: str
    version: str
    features: list[str]
    process: str
    has_workers: bool
    four_eyes: bool
    rollout_is_for_everybody: bool
    dry_run: bool
    waiting_migrations: list[str]


class ExportJson(BaseModel):
    """``parts``: by route, the pages of what it tells this person. ``left_out`` have to be asked for one by one."""

    user_id: str
    made_ms: int
    parts: dict[str, list[dict[str, Any]]]
    left_out: list[str]
