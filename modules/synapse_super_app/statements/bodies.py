"""What the routes of statements take and give, as JSON."""

from typing import Annotated, Literal, Self

from pydantic import Field

from super_app.payments.model import State
from super_app.statements.model import ActivityKind, Filter, Line, Statement, Sum, Summary
from super_app.wire import WireModel
from synapse_super_app.payments.bodies import PageQuery, PaymentJson

_MS = Annotated[int | None, Field(ge=0, le=2**53 - 1, description="Milliseconds since 1970.")]
_Minor = Annotated[int | None, Field(ge=0, le=2**53 - 1, description="Minor units.")]
Currency = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]{2,11}$")]
Zone = Annotated[str, Field(min_length=1, max_length=64, description="A time zone such as Europe/Berlin.")]
Language = Literal["en", "de"]


class ActivityQuery(PageQuery):
    """What to look for; what is left out is not asked for. A page may be shorter than ``limit`` and not the last."""

    person: Annotated[str, Field(max_length=255, description="Part of the other one's user id or handle.")] = ""
    text: Annotated[str, Field(max_length=512, description="Part of the memo.")] = ""
    currency: Currency | None = None
    at_least: _Minor = None
    at_most: _Minor = None
    from_ts: _MS = None
    until_ts: _MS = None
    kind: Literal["sent", "received", "refund", "request"] | None = None
    state: (
        Literal["held", "awaiting_acceptance", "committed", "completed", "failed", "declined", "expired", "cancelled"]
        | None
    ) = None

    def wanted(self) -> Filter:
        return Filter(
            person=self.person,
            text=self.text,
            currency=self.currency,
            at_least_minor=self.at_least,
            at_most_minor=self.at_most,
            from_ms=self.from_ts,
            until_ms=self.until_ts,
            kind=None if self.kind is None else ActivityKind(self.kind),
            state=None if self.state is None else State(self.state),
        )


class ActivityPage(WireModel):
    payments: list[PaymentJson]
    next: str | None = None


class StatementQuery(WireModel):
    currency: Currency
    tz: Zone = "UTC"


class FileQuery(StatementQuery):
    format: Literal["csv", "pdf", "camt.053"]
    language: Language = "en"


class ReceiptQuery(WireModel):
    payer: Annotated[str | None, Field(max_length=255, description="Whose id it is, if it was paid to you.")] = None
    tz: Zone = "UTC"
    language: Language = "en"


class LineJson(WireModel):
    """A booking. ``change`` is negative for what went out; ``other`` is the other person, where there is one."""

    entry: int
    ts: int
    kind: str
    change: int
    balance: int
    other: str | None = None
    memo: str | None = None
    payment_id: str | None = None

    @classmethod
    def of(cls, line: Line) -> Self:
        return cls(
            entry=line.seq,
            ts=line.posted_ms,
            kind=line.kind.value,
            change=line.change_minor,
            balance=line.balance_minor,
            other=line.other,
            memo=line.memo,
            payment_id=line.payment_id,
        )


class StatementJson(WireModel):
    """What was booked in a month, oldest first, with what one had (available and set aside) before and after."""

    currency: str
    scale: int
    from_ts: int
    until_ts: int
    opening: int
    closing: int
    lines: list[LineJson]
    partly_archived: bool

    @classmethod
    def of(cls, statement: Statement) -> Self:
        return cls(
            currency=statement.asset.code,
            scale=statement.asset.scale,
            from_ts=statement.from_ms,
            until_ts=statement.until_ms,
            opening=statement.opening_minor,
            closing=statement.closing_minor,
            lines=[LineJson.of(line) for line in statement.lines],
            partly_archived=statement.is_partly_archived,
        )


class SumJson(WireModel):
    """What came in and went out, both positive."""

    came_in: int
    went_out: int
    count: int

    @classmethod
    def of(cls, found: Sum) -> Self:
        return cls(came_in=found.in_minor, went_out=found.out_minor, count=found.count)


class PersonSumJson(SumJson):
    user_id: str = ""


class SummaryJson(WireModel):
    """A year: its months from January on, the people with whom most was moved first, and kinds of bookings."""

    year: int
    currency: str
    scale: int
    opening: int
    closing: int
    total: SumJson
    months: list[SumJson]
    people: list[PersonSumJson]
    kinds: dict[str, SumJson]
    partly_archived: bool

    @classmethod
    def of(cls, year: int, summary: Summary, total: Sum) -> Self:
        statement = summary.statement
        return cls(
            year=year,
            currency=statement.asset.code,
            scale=statement.asset.scale,
            opening=statement.opening_minor,
            closing=statement.closing_minor,
            total=SumJson.of(total),
            months=[SumJson.of(each) for each in summary.months],
            people=[
                PersonSumJson(came_in=each.in_minor, went_out=each.out_minor, count=each.count, user_id=user_id)
                for user_id, each in summary.people
            ],
            kinds={kind.value: SumJson.of(each) for kind, each in summary.kinds},
            partly_archived=statement.is_partly_archived,
        )


class KeyJson(WireModel):
    key_id: str
    public_key: Annotated[str, Field(description="ed25519, unpadded base64url.")]


class KeysJson(WireModel):
    """The keys with which this homeserver has signed receipts, the one of now first."""

    server: str
    keys: list[KeyJson]


class ProofJson(WireModel):
    """A receipt as text, for `super-app verify-receipt`, and what it says."""

    receipt: str
    payment_id: str
    payer: str
    payee: str
    amount: int
    currency: str
    ordered_ts: int
    server: str
    key_id: str
