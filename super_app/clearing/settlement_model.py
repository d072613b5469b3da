"""Values of settlement: one payment outside that cuts what one homeserver owes another, and how it comes about.

*Out*: we are the debtor and pay; *in*: we are the creditor and are paid.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from super_app.clearing.model import LinkId, MessageType, Sender, SettlementTerms
from super_app.ids import ServerName
from super_app.money import AssetCode


class Way(StrEnum):
    OUT = "out"
    IN = "in"


DEBTOR_SAYS: Final = frozenset({MessageType.SETTLE_PROPOSE, MessageType.SETTLE_CANCEL, MessageType.SETTLE_SENT})
CREDITOR_SAYS: Final = frozenset(
    {
        MessageType.SETTLE_AGREE,
        MessageType.SETTLE_REFUSE,
        MessageType.SETTLE_RECEIVED,
        MessageType.SETTLE_NOT_RECEIVED,
    }
)


def way_of(kind: MessageType, sender: Sender) -> Way:
    """Whose debt an object of a settlement speaks of."""
    return Way.OUT if (kind in DEBTOR_SAYS) is (sender is Sender.OURS) else Way.IN


class SettlementState(StrEnum):
    PROPOSED = "proposed"
    AGREED = "agreed"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    SENT = "sent"  # the debtor says that it has paid
    DISPUTED = "disputed"  # sent, and the creditor has not answered for five banking days
    RECEIVED = "received"
    NOT_RECEIVED = "not_received"

    @property
    def is_open(self) -> bool:
        return self in OPEN


OPEN: Final = frozenset(
    {SettlementState.PROPOSED, SettlementState.AGREED, SettlementState.SENT, SettlementState.DISPUTED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one object of a settlement says, whoever signed it."""

    kind: MessageType
    terms: SettlementTerms
    reason: str = ""
    pay_to: str = ""
    bank_reference: str = ""
    received_minor: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """A settlement as it stands here.

    ``answer`` is the creditor's SETTLE_AGREE or SETTLE_REFUSE, None before. ``proposed`` is False where its
    cancellation came before its proposal. ``pay_to`` is the creditor's payto: URI, ``bank_reference`` what the debtor
    wrote on its transfer beside ``reference_of``. ``covered_minor`` is what a restore had to take from ``suspense``, or
    to put there, because the books knew of too little debt. ``due_ms`` is when a proposal lapses or a payment becomes
    disputed.
    """

    link_id: LinkId
    peer: ServerName
    way: Way
    terms: SettlementTerms
    state: SettlementState
    answer: MessageType | None
    proposed: bool
    reason: str
    pay_to: str
    bank_reference: str
    received_minor: int
    covered_minor: int
    opened_ms: int
    changed_ms: int
    due_ms: int | None


class Every(StrEnum):
    """How often a settlement is proposed by itself, whatever is owed."""

    NEVER = "never"
    DAY = "day"
    WEEK = "week"


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoSettle:
    """What our operator lets happen by itself on a link in one currency. Times of day are UTC.

    ``threshold_minor`` proposes as soon as so much is owed net, None never. ``weekday`` is 1 for Monday to 7.
    ``agree_up_to_minor`` agrees to proposals of the peer up to that amount, 0 to none; ``pay_to`` goes with our AGREE.
    ``next_ms`` is when the schedule has its turn next.
    """

    currency: AssetCode
    threshold_minor: int | None = None
    every: Every = Every.NEVER
    weekday: int = 1
    minute_of_day: int = 0
    agree_up_to_minor: int = 0
    pay_to: str = ""
    next_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What we owe a peer in one currency, seen with a view to settling it. Minor units.

    ``settleable_minor`` is receipted by the peer and claimed by no other settlement; ``net_minor`` is so much of it as
    the peer does not owe us back.
    """

    in_transit_minor: int
    claimed_minor: int
    settleable_minor: int
    net_minor: int
