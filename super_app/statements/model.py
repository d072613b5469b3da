"""Values of statements: what was booked in a month, what a year came to, and what somebody looks for."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from super_app.ids import PaymentId, UserId
from super_app.money import Asset
from super_app.payments.model import Payment, PaymentKey, State

MAX_LINES: Final = 20_000
"""Bookings in one statement."""
SCANNED: Final = 2_000
"""Payments that one page of a search looks at."""


class ActivityKind(StrEnum):
    """What kind of payment somebody looks for."""

    SENT = "sent"
    RECEIVED = "received"
    REFUND = "refund"
    REQUEST = "request"  # one that answers a request for money


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What a payment has to be to be shown. None and empty ask for nothing.

    ``person`` is a part of the other one's user id or handle, ``text`` a part of the memo; both ignore case.
    """

    person: str = ""
    text: str = ""
    currency: str | None = None
    at_least_minor: int | None = None
    at_most_minor: int | None = None
    from_ms: int | None = None
    until_ms: int | None = None
    kind: ActivityKind | None = None
    state: State | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A page of a search, newest first. ``following`` is where the next one begins, None if all was looked at."""

    payments: tuple[Payment, ...]
    following: tuple[int, PaymentKey] | None


class LineKind(StrEnum):
    """What a booking is, as its owner sees it."""

    PAYMENT = "payment"
    REFUND = "refund"
    RETURNED = "returned"  # a payment whose payee's homeserver could not credit it
    ISSUED = "issued"
    BURNED = "burned"
    CORRECTION = "correction"
    FEE = "fee"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One booking: by how much what somebody has (available and set aside) changed, and what it was then."""

    seq: int
    posted_ms: int
    kind: LineKind
    change_minor: int
    balance_minor: int
    other: UserId | None = None
    memo: str | None = None
    payment_id: PaymentId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What was booked from ``from_ms`` on and before ``until_ms``, oldest first.

    ``is_partly_archived``: older bookings of that time are in an archive of the operator; ``opening_minor`` is then the
    balance after them.
    """

    owner: UserId
    asset: Asset
    from_ms: int
    until_ms: int
    opening_minor: int
    closing_minor: int
    lines: tuple[Line, ...]
    is_partly_archived: bool

    @property
    def in_minor(self) -> int:
        return sum(line.change_minor for line in self.lines if line.change_minor > 0)

    @property
    def out_minor(self) -> int:
        return -sum(line.change_minor for line in self.lines if line.change_minor < 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """What came in and went out."""

    in_minor: int
    out_minor: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A year by months, by people and by kinds of bookings. ``months`` are the twelve of the year."""

    statement: Statement
    months: tuple[Sum, ...]
    people: tuple[tuple[UserId, Sum], ...]
    kinds: tuple[tuple[LineKind, Sum], ...]
