"""What the ledger's admin routes take and give, as JSON. Amounts are minor units, times milliseconds since 1970."""

from typing import Annotated, Self

from pydantic import BaseModel, Field

from super_app.ledger.model import Act, Archive, Entry, Freeze, Stretch, Verified, Violation
from super_app.money import MAX_AMOUNT_MINOR
from super_app.wire import Text, WireModel

MAX_REASON = 500
Reason_ = Annotated[Text, Field(min_length=1, max_length=MAX_REASON)]
Reference = Annotated[Text, Field(min_length=1, max_length=255)]
Amount = Annotated[int, Field(ge=1, le=MAX_AMOUNT_MINOR)]
Seq = Annotated[int, Field(ge=1, le=MAX_AMOUNT_MINOR)]
Milliseconds = Annotated[int, Field(ge=0, le=MAX_AMOUNT_MINOR)]
Hash = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]


class BurnBody(WireModel):
    """``reference`` is why, and makes sure that nothing is burnt twice."""

    user_id: str
    amount: Amount
    currency: str
    reference: Reference


class PayFeesBody(WireModel):
    """``reference`` is why, and makes sure that nothing is paid twice."""

    user_id: str
    amount: Amount
    currency: str
    reference: Reference


class FeesOfJson(BaseModel):
    """What the house has earned of one currency and not paid to anybody yet."""

    currency: str
    scale: int
    amount: int


class FeesJson(BaseModel):
    fees: list[FeesOfJson]


class CorrectBody(WireModel):
    """``amount`` left out takes back all that is left of entry ``seq``."""

    seq: Seq
    amount: Amount | None = None
    reference: Reference
    reason: Reason_


class ReasonBody(WireModel):
    reason: Reason_


class EntryJson(WireModel):
    """An entry. ``debit`` lost the amount and ``credit`` got it."""

    seq: int
    id: str
    cause: str
    reference: str
    amount: int
    currency: str
    debit: str
    debit_kind: str
    debit_after: int
    credit: str
    credit_kind: str
    credit_after: int
    ts: int

    @classmethod
    def of(cls, entry: Entry) -> Self:
        moved = entry.transfer
        return cls(
            seq=entry.seq,
            id=moved.transfer_id,
            cause=moved.cause.value,
            reference=moved.reference,
            amount=moved.amount_minor,
            currency=moved.debit.currency,
            debit=moved.debit.owner,
            debit_kind=moved.debit.kind.value,
            debit_after=entry.debit_after_minor,
            credit=moved.credit.owner,
            credit_kind=moved.credit.kind.value,
            credit_after=entry.credit_after_minor,
            ts=entry.posted_ms,
        )


class AccountJson(WireModel):
    """Whose account it is. ``frozen_since`` stands while it is frozen."""

    user_id: str
    acct: str
    frozen_since: int | None = None

    @classmethod
    def of(cls, user_id: str, freeze: Freeze) -> Self:
        return cls(user_id=user_id, acct=freeze.owner, frozen_since=freeze.since_ms)


class ActJson(WireModel):
    """A line of the operators' log."""

    id: int
    deed: str
    operator: str
    reason: str
    owner: str
    transfer_id: str | None = None
    ts: int

    @classmethod
    def of(cls, act: Act) -> Self:
        return cls(
            id=act.act_id,
            deed=act.deed,
            operator=act.operator,
            reason=act.reason,
            owner=act.owner,
            transfer_id=act.transfer_id,
            ts=act.acted_ms,
        )


class ActsJson(WireModel):
    acts: list[ActJson]
    next: int | None = None


class ActsQuery(BaseModel):
    since: Annotated[int | None, Field(ge=1, description="``next`` of the page before.")] = None
    limit: Annotated[int, Field(ge=1, le=1_000)] = 100


class TrialLineJson(WireModel):
    """``owner`` is empty for the accounts of people together."""

    kind: str
    owner: str
    accounts: int
    balance: int


class TrialCurrencyJson(WireModel):
    """``total`` is 0, or the books are wrong."""

    currency: str
    scale: int
    lines: list[TrialLineJson]
    total: int


class TrialBalanceJson(WireModel):
    """The books as of entry ``seq``."""

    seq: int
    hash: str
    currencies: list[TrialCurrencyJson]


class StatementQuery(BaseModel):
    """``account`` is a user id of this homeserver, ``house``, or the server name of a peer."""

    account: Annotated[str, Field(min_length=1, max_length=255)]
    currency: str
    kind: str = "available"
    from_ts: Milliseconds | None = None
    until_ts: Milliseconds | None = None
    since: Annotated[int | None, Field(description="``next`` of the page before.")] = None
    limit: Annotated[int, Field(ge=1, description="At most 1000 come at once.")] = 100


class StatementLineJson(WireModel):
    """``change`` is what it added to the account, ``balance`` what was there afterwards."""

    seq: int
    ts: int
    id: str
    cause: str
    reference: str
    counterparty: str
    counterparty_kind: str
    change: int
    balance: int


class ArchiveJson(WireModel):
    """Entries that are in a file. ``left`` of them are still in the database."""

    after_seq: int
    before_hash: str
    through_seq: int
    hash: str
    posted_ts: int
    file_name: str
    file_digest: str
    archived_ts: int
    left: int | None = None

    @classmethod
    def of(cls, archive: Archive, left: int | None = None) -> Self:
        stretch = archive.stretch
        return cls(
            after_seq=stretch.after_seq,
            before_hash=stretch.before_hash,
            through_seq=stretch.through_seq,
            hash=stretch.entry_hash,
            posted_ts=stretch.posted_ms,
            file_name=archive.file_name,
            file_digest=archive.file_digest,
            archived_ts=archive.archived_ms,
            left=left,
        )


class StatementJson(WireModel):
    """``opening`` and ``closing`` are the balances at the ends of the whole time range, whichever page this is.

    ``archived`` stands where a part of the range is in an archive: ``opening`` is then the balance at its end.
    """

    account: str
    kind: str
    currency: str
    scale: int
    opening: int
    closing: int
    entries: list[StatementLineJson]
    next: int | None = None
    archived: ArchiveJson | None = None


class VerifyQuery(BaseModel):
    """Without ``after`` it begins at the newest snapshot, or with ``everything`` at the first entry that is here."""

    after: Annotated[int | None, Field(ge=0, le=MAX_AMOUNT_MINOR)] = None
    everything: bool = False
    limit: Annotated[int, Field(ge=1)] = 5_000


class ViolationJson(WireModel):
    invariant: str
    where: str
    off_by: int

    @classmethod
    def of(cls, violation: Violation) -> Self:
        return cls(invariant=violation.invariant, where=violation.where, off_by=violation.off_by)


class VerifiedJson(WireModel):
    """Entries above ``after`` up to ``through`` were computed again; the journal ends at ``head``."""

    after: int
    through: int
    head: int
    done: bool
    broken: list[ViolationJson]

    @classmethod
    def of(cls, verified: Verified) -> Self:
        return cls(
            after=verified.after_seq,
            through=verified.through_seq,
            head=verified.head_seq,
            done=verified.through_seq == verified.head_seq,
            broken=[ViolationJson.of(each) for each in verified.violations],
        )


class ArchivesJson(WireModel):
    archives: list[ArchiveJson]


class PlanQuery(BaseModel):
    until_ts: Milliseconds


class PlanJson(WireModel):
    """What an archive would hold."""

    after_seq: int
    before_hash: str
    through_seq: int
    hash: str
    posted_ts: int

    @classmethod
    def of(cls, stretch: Stretch) -> Self:
        return cls(
            after_seq=stretch.after_seq,
            before_hash=stretch.before_hash,
            through_seq=stretch.through_seq,
            hash=stretch.entry_hash,
            posted_ts=stretch.posted_ms,
        )


class LinesQuery(BaseModel):
    after: Annotated[int, Field(ge=0, le=MAX_AMOUNT_MINOR)]
    limit: Annotated[int, Field(ge=1, le=1_000)] = 1_000


class LinesJson(WireModel):
    """Lines for the file, in order: each is the text whose hash is that of its entry."""

    lines: list[str]


class ArchiveBody(WireModel):
    """That the file is written, checked and safe. ``file_digest`` is the unpadded base64url of its SHA-256."""

    after_seq: Annotated[int, Field(ge=0, le=MAX_AMOUNT_MINOR)]
    before_hash: Annotated[str, Field(pattern=r"^([A-Za-z0-9_-]{43})?$")]
    through_seq: Seq
    hash: Hash
    posted_ts: Milliseconds
    file_name: Annotated[Text, Field(min_length=1, max_length=1_000)]
    file_digest: Hash
    reason: Reason_

    def archive(self, now_ms: int) -> Archive:
        return Archive(
            stretch=Stretch(
                after_seq=self.after_seq,
                before_hash=self.before_hash,
                through_seq=self.through_seq,
                entry_hash=self.hash,
                posted_ms=self.posted_ts,
            ),
            file_name=self.file_name,
            file_digest=self.file_digest,
            archived_ms=now_ms,
        )
