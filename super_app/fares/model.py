"""What a fare is: a call that costs money by the minute, as the caller's homeserver keeps it and as the callee's does.

The caller's homeserver measures and pays; the callee's counts along and ends a call that is not paid for. See
docs/decisions/0017-paid-minutes.md.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NewType

from super_app.calls.model import SessionId
from super_app.ids import Acct, PaymentId, RoomId, UserId, server_of
from super_app.money import Money

FareId = NewType("FareId", str)
"""128 random bits as 32 lower-case hex digits, made by the client; unique per caller."""

FIRST_MS: Final = 180_000
"""What is put aside at first: the price of so much talk, or of all that was confirmed if that is less."""
STEP_MS: Final = 60_000
"""By how much the money aside is extended while the call lasts."""
AHEAD_MS: Final = 60_000
"""It is extended when less than this is left."""
WARN_MS: Final = 30_000
"""Both hear that the call is about to end when less than this is left and nothing can be added."""
SLICE_MS: Final = 60_000
"""A payee elsewhere is paid after each so much of talk, so that nobody has to trust for more than that."""
ARREARS_MS: Final = 3 * SLICE_MS
"""The callee's homeserver ends a call of which so much is not paid."""
AGREED_MS: Final = 300_000
"""How long a confirmed price waits for the ring."""
ADMITTED_MS: Final = 1_800_000
"""How long one waits for somebody who has confirmed the price of a link: a host may have to let them in first."""
RETURN_MS: Final = 5_000
"""Who leaves a call behind a link and is back so soon was not away, for the payee's homeserver."""
GONE_MS: Final = 60_000
"""Whoever is said to have left by their own homeserver, and is still seen in the call then, is shown out of it."""
PRICE_MAX_MINOR: Final = 10**12
MINUTES: Final = 30
MINUTES_MAX: Final = 240
OPEN_MAX: Final = 3
"""How many fares of one caller may be open at once."""
TERMS_MAX: Final = 20
"""How many calls that are not over one caller may have agreed to with people of this homeserver."""
TERMS_OF_SERVER_MAX: Final = 500
"""And all callers of another homeserver together."""
LATE_MS: Final = 60_000
"""By how much a look at a call may be late and still extend it; who was away for longer is charged no more."""
FAILURES_MAX: Final = 5
RETRY_MS: Final = (5_000, 30_000, 120_000, 600_000, 1_800_000)
"""After a part could not be paid, the next try."""
ASK_FOR_MS: Final = 600_000
"""How long the callee's homeserver is asked how long the call was before one's own measure counts alone."""
USED_UP: Final = "used_up"
"""The ``reason`` of a call that ended because what was confirmed for it, or what the caller had, was used up."""
INVOICE_PREFIX: Final = "call:"
PART_DIGITS: Final = 8


class FareState(StrEnum):
    AGREED = "agreed"  # confirmed and put aside; nobody has answered yet
    RUNNING = "running"
    OWING = "owing"  # the call is over, the last of it is still to be paid
    ENDED = "ended"  # nothing lies aside any more

    @property
    def is_open(self) -> bool:
        return self is not FareState.ENDED


class PartState(StrEnum):
    UNDER_WAY = "under_way"
    PAID = "paid"
    RETURNED = "returned"


class TermsState(StrEnum):
    OPEN = "open"  # no ring has used it yet
    RUNNING = "running"
    OVER = "over"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class FareKey:
    owner: Acct
    fare_id: FareId


@dataclass(frozen=True, slots=True, kw_only=True)
class Fare:
    """A caller's call by the minute. ``price`` is that of a minute, ``ceiling_minor`` the most that it may come to.

    ``aside_minor`` lies aside now; ``paid_minor`` was paid or is on its way. ``session_id`` is the call that uses it.
    ``talked_ms`` is what is charged for, once that is decided. ``reason`` is why it ended otherwise than by hanging up.
    With ``link_id`` it is for the call behind a link of the callee's: no session uses it, ``answer_ms`` and ``end_ms``
    are when the caller came into the call of ``room_id`` and left it.
    """

    owner: Acct
    fare_id: FareId
    caller: UserId
    callee: UserId
    callee_acct: str
    """Of an account of this homeserver; empty for people elsewhere."""
    price: Money
    ceiling_minor: int
    aside_minor: int
    paid_minor: int
    state: FareState
    session_id: SessionId | None
    answer_ms: int | None
    end_ms: int | None
    talked_ms: int | None
    parts: int
    moves: int
    """How often money was put aside for it or let go, which makes the ids of these transfers."""
    failures: int
    retry_ms: int | None
    warned: bool
    reason: str | None
    agreed_ms: int
    link_id: str | None = None
    room_id: RoomId | None = None

    @property
    def key(self) -> FareKey:
        return FareKey(owner=self.owner, fare_id=self.fare_id)

    @property
    def is_local(self) -> bool:
        return self.callee_acct != ""

    @property
    def link(self) -> str | None:
        """The link as it is passed on."""
        return None if self.link_id is None else f"{self.link_id}@{server_of(self.callee)}"

    @property
    def funds_minor(self) -> int:
        return self.aside_minor + self.paid_minor

    @property
    def invoice(self) -> str:
        return f"{INVOICE_PREFIX}{self.fare_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One payment of a fare. ``number`` counts from 0."""

    number: int
    amount_minor: int
    payment_id: PaymentId
    state: PartState


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the callee's homeserver agreed to: this caller may ring once, and pays so much for a minute.

    With ``link_id`` they may come into the call behind that link instead; ``answer_ms`` and ``end_ms`` are when this
    homeserver saw them come and go.
    """

    callee_acct: Acct
    callee: UserId
    caller: UserId
    fare_id: FareId
    price: Money
    state: TermsState
    session_id: SessionId | None
    agreed_ms: int
    link_id: str | None = None
    room_id: RoomId | None = None
    answer_ms: int | None = None
    end_ms: int | None = None
    told_ms: int | None = None
    """When the caller's homeserver said that they have left, for which it is believed at its own cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """What a look at a fare did. ``hang_up``: its money is used up, or it cannot be paid; the call is to end now.

    ``ask``: the call is over, and the callee's homeserver has not said yet how long it was.
    """

    fare: Fare
    hang_up: bool = False
    warn: bool = False
    ask: bool = False
    paying: bool = False
    """A part is on its way, so clearing may have something to send."""
