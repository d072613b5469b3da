"""A pot: money of one giver that lies aside in shares until others claim them, or until its time is over.

A *gift* (red packet) has one to five hundred shares for the people of a room, or for one of them. A *link* has one
share for whoever brings its secret, or for the Matrix id that it names. The giver's homeserver decides about both.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NewType

from super_app.ids import Acct, EventId, PaymentId, RoomId, UserId
from super_app.money import Money

PotId = NewType("PotId", str)
"""128 random bits as 32 lower-case hex digits, made by the giver's client; unique per giver."""

SHARES_MAX: Final = 500
GIFT_MS: Final = 86_400_000
"""How long the shares of a gift can be claimed."""
LINK_MS: Final = 7 * 86_400_000
"""How long a link can be claimed that does not say."""
LINK_LONGEST_MS: Final = 90 * 86_400_000
EXPECTED_MS: Final = 3_600_000
"""How long a payment that somebody has claimed elsewhere is let in whatever their policy says."""
OPEN_MAX: Final = 50
"""How many pots of one giver may be open at once."""
INVOICE_PREFIX: Final = "pot:"
"""What the ``invoice`` of a payment out of a pot begins with."""


class Kind(StrEnum):
    GIFT = "gift"
    LINK = "link"


class Split(StrEnum):
    EQUAL = "equal"
    RANDOM = "random"


class PotState(StrEnum):
    """All but the first are final: the shares that nobody has are back with the giver."""

    OPEN = "open"
    EMPTIED = "emptied"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class ShareState(StrEnum):
    FREE = "free"
    TAKEN = "taken"  # paid, or its payment is on its way
    RETURNED = "returned"  # back with the giver; claimed or not, no payment of it succeeded


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PotKey:
    giver_acct: Acct
    pot_id: PotId


@dataclass(frozen=True, slots=True, kw_only=True)
class Pot:
    """``salt`` and the shares make the ``commitment`` (``rules.commitment``), which is public from the beginning.

    ``only`` is who alone may claim, ``secret`` what a link carries; whoever brings it may claim as well, since the one
    who is named may have no account with us yet. ``event_id`` is the event that shows it to people; ``told`` says that
    the room has heard of its end.
    """

    giver_acct: Acct
    pot_id: PotId
    giver: UserId
    kind: Kind
    split: Split
    money: Money
    shares: int
    memo: str | None
    room_id: RoomId | None
    event_id: EventId | None
    only: UserId | None
    secret: str | None
    salt: str
    commitment: str
    state: PotState
    told: bool
    created_ms: int
    expires_ms: int

    @property
    def key(self) -> PotKey:
        return PotKey(giver_acct=self.giver_acct, pot_id=self.pot_id)

    @property
    def invoice(self) -> str:
        return f"{INVOICE_PREFIX}{self.pot_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One share; ``number`` counts from 0 in the order in which they were drawn and are given out."""

    number: int
    amount_minor: int
    state: ShareState
    claimer: UserId | None
    payment_id: PaymentId | None
    paid: bool
    claimed_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who wants a share of which pot. ``payment_id`` is made by the claimer's homeserver, and what is paid under."""

    giver: UserId
    pot_id: PotId
    kind: Kind
    claimer: UserId
    claimer_acct: str
    """Of an account of this homeserver; empty for people elsewhere."""
    payment_id: PaymentId
    secret: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What a claim got. ``failed`` is why its payment came to nothing at once; the share is free again then."""

    pot: Pot
    share: Share
    failed: str | None = None
