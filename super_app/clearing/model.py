"""Values of clearing: links, the objects of their chains, and payments on either side of them.

*Ours* and *theirs* say who signed an object; *out* and *in* which way the money goes. A payment that we send (out) has
our OFFER, COMMIT or ABORT and their PENDING, ACCEPT or REJECT and RECEIPT; one that we get (in) the other way round.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NewType

from super_app.errors import Refused
from super_app.ids import Acct, PaymentId, ServerName, UserId
from super_app.ledger.model import HoldId
from super_app.money import MAX_AMOUNT_MINOR, AssetCode

WireId = NewType("WireId", str)
"""Unguessable id of a payment on a link: digest of [payer's acct, payment_id, secret salt]."""
LinkId = NewType("LinkId", str)
"""Digest of the sorted pair of server names: one link a pair, epochs inside it."""
MessageId = NewType("MessageId", str)
"""Digest of an object without its signature."""
KeyId = NewType("KeyId", str)
SettlementId = NewType("SettlementId", str)
"""Id of a settlement, made by the debtor; of the form of a digest, so that it can stand where a ``WireId`` stands."""

JsonObject = dict[str, Any]
"""A JSON object as it came from outside or goes there; whoever holds one has checked it, or is about to."""

VERSION: Final = 1
FIRST_EPOCH: Final = 1
DEFAULT_MAX_COUNT: Final = 10_000


class MessageType(StrEnum):
    LINK_OPEN = "LINK_OPEN"
    LIMIT = "LIMIT"
    SUSPEND = "SUSPEND"
    RESUME = "RESUME"
    CLOSE = "CLOSE"
    KEY = "KEY"
    STATEMENT = "STATEMENT"
    OFFER = "OFFER"
    PENDING = "PENDING"
    ACCEPT = "ACCEPT"
    REJECT = "REJECT"
    COMMIT = "COMMIT"
    ABORT = "ABORT"
    RECEIPT = "RECEIPT"
    SETTLE_PROPOSE = "SETTLE_PROPOSE"
    SETTLE_AGREE = "SETTLE_AGREE"
    SETTLE_REFUSE = "SETTLE_REFUSE"
    SETTLE_CANCEL = "SETTLE_CANCEL"
    SETTLE_SENT = "SETTLE_SENT"
    SETTLE_RECEIVED = "SETTLE_RECEIVED"
    SETTLE_NOT_RECEIVED = "SETTLE_NOT_RECEIVED"
    FENCE = "FENCE"
    FENCED = "FENCED"
    STATUS = "STATUS?"
    RANGE = "RANGE?"
    HEAD = "HEAD?"
    OPENINGS = "OPENINGS?"


class Outcome(StrEnum):
    """What a RECEIPT says; its ``reason``."""

    CREDITED = "credited"
    VOID = "void"


class Sender(StrEnum):
    """Who signed an object."""

    OURS = "ours"
    THEIRS = "theirs"


class Decision(StrEnum):
    """What the payer's server decided, once and alone."""

    COMMIT = "COMMIT"
    ABORT = "ABORT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What every object of one payment repeats. Two objects of one id with different terms are a conflict."""

    wire_id: WireId
    payer_commit: str
    payee_commit: str
    memo_commit: str
    amount_minor: int
    currency: AssetCode
    scale: int
    e2e_id: str | None = None
    """Set on the legs of a routed payment; none of ours is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementTerms:
    """What every object of one settlement repeats: so much of what the debtor owes is to be paid outside."""

    settlement_id: SettlementId
    amount_minor: int
    currency: AssetCode
    scale: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The newest object of the other side below which its sender misses nothing. ``seq`` 0: none yet.

    ``signature`` is that object's own, so that a ``seen`` which runs ahead of its reader proves itself.
    """

    seq: int = 0
    hash: str = ""
    signature: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What one side grants the other in one currency, in minor units.

    ``limit_minor`` bounds what the other may owe; ``max_count`` and ``max_sum_minor`` what it may have in flight.
    """

    currency: AssetCode
    scale: int
    limit_minor: int
    max_count: int = DEFAULT_MAX_COUNT
    max_sum_minor: int = MAX_AMOUNT_MINOR


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentKey:
    """A payment key as LINK_OPEN and KEY bring it. ``certificate`` is signed by the Matrix key of its server."""

    public_key: str
    certificate: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """One currency of a STATEMENT, in minor units, in its sender's books.

    ``due_to_minor`` is what the sender owes, with what is in transit; ``unreceipted_minor`` the part of it that is not
    receipted. ``reserved_minor`` lapses by the sender's clock and is for operators to look at, not to be compared.
    """

    currency: AssetCode
    due_to_minor: int
    due_from_minor: int
    unreceipted_minor: int
    reserved_minor: int


class StatementState(StrEnum):
    SAID = "said"  # ours
    WAITS = "waits"  # for what is missing below it
    SAME = "same"
    DIFFERS = "differs"
    NOT_COMPARED = "not_compared"  # too much has been signed since, or it speaks of no state of our books


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """The newest STATEMENT of one side. ``seen_seq`` is that of its ``seen``."""

    sender: Sender
    epoch: int
    seq: int
    seen_seq: int
    at_ms: int
    state: StatementState


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A public key of one side of a link. It signs from its (``epoch``, ``seq``) on, until the next one does."""

    key_id: KeyId
    public_key: str
    epoch: int
    seq: int

    @property
    def is_anew(self) -> bool:
        """Whether operators pinned it: a FENCE brought it, not LINK_OPEN and not KEY, which take effect behind them."""
        return self.epoch > FIRST_EPOCH and self.seq == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class After:
    """The newest object that the sender of a FENCE still has of its own chain. ``seq`` 0 and no hash: none at all."""

    epoch: int
    seq: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Objects of one chain without a gap, ``first_seq`` to ``last_seq``. By the hashes the last one names them all."""

    epoch: int
    first_seq: int
    last_seq: int
    message_id: MessageId
    """Of the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """One page of FENCED: what its sender holds, of the objects that the server which fences may have lost."""

    fence: MessageId
    page: int
    pages: int
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainObject:
    """A signed object of a chain, its form checked. ``content`` is the object itself; the rest is read out of it."""

    content: JsonObject
    message_id: MessageId
    type: MessageType
    link_id: LinkId
    epoch: int
    seq: int
    prev_hash: str
    from_server: ServerName
    to_server: ServerName
    seen: Seen
    key_id: KeyId
    signature: str
    terms: Terms | None = None
    ttl_ms: int = 0
    valid_ms: int = 0
    reason: str = ""
    routed: bool = False
    grants: tuple[Grant, ...] = ()
    key: PaymentKey | None = None
    positions: tuple[Position, ...] = ()
    settlement: SettlementTerms | None = None
    pay_to: str = ""
    bank_reference: str = ""
    received_minor: int = 0
    after: After | None = None
    holdings: Holdings | None = None

    @property
    def subject(self) -> WireId | None:
        """The id of what it is about, by which it is found: of a payment, a settlement, or the FENCE of a FENCED."""
        if self.terms is not None:
            return self.terms.wire_id
        if self.holdings is not None:
            return WireId(self.holdings.fence)
        return None if self.settlement is None else WireId(self.settlement.settlement_id)

    def settlement_terms(self) -> SettlementTerms:
        """The terms of an object that belongs to a settlement."""
        if self.settlement is None:
            raise RuntimeError(f"{self.type} belongs to no settlement")
        return self.settlement

    def payment_terms(self) -> Terms:
        """The terms of an object that belongs to a payment."""
        if self.terms is None:
            raise RuntimeError(f"{self.type} belongs to no payment")
        return self.terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """STATUS?, RANGE?, HEAD? or OPENINGS?: unsigned, not part of a chain, answered with what is stored."""

    type: MessageType
    message_id: MessageId
    link_id: LinkId
    from_server: ServerName
    to_server: ServerName
    wire_id: WireId | None = None
    of: ServerName | None = None
    epoch: int = 0
    from_seq: int = 0
    to_seq: int = 0
    wire_ids: tuple[WireId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An object as it stands in a chain. ``body`` is its canonical JSON, ``wire_id`` what it is about."""

    sender: Sender
    epoch: int
    seq: int
    message_id: MessageId
    type: MessageType
    wire_id: WireId | None
    prev_hash: str
    signature: str
    body: str


class Standing(StrEnum):
    """What one side of a link is ready for. Its own operator alone changes it: by SUSPEND, RESUME and CLOSE."""

    READY = "ready"
    SUSPENDED = "suspended"  # nothing new is agreed on, until it resumes
    CLOSING = "closing"  # the same, and for good: what is under way ends, and positions are settled


class LinkState(StrEnum):
    ACTIVE = "active"
    FROZEN = "frozen"  # the peer contradicted itself: no new exposure, what is undecided is aborted
    HALTED = "halted"  # the peer knows more than we do: nothing is signed at all
    RECOVERING = "recovering"  # halted, and on the way back: nothing is signed but FENCE and FENCED


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One link, as seen from here. Epoch and seq are those of the newest object; seq 0 for none.

    ``their_seq`` is the newest of theirs with none missing below it, ``their_newest`` the newest of all; where they
    differ there is a gap. ``checked_boot`` names the run of our process in which the peer confirmed that it knows no
    more of us than we do.

    ``our_standing`` is what our operator wants, and holds at once; ``said_standing`` what we last signed of it.
    ``their_standing`` was said by the object at their (``standing_epoch``, ``standing_seq``). ``key_unsent_seq`` is the
    seq of a KEY of ours that the peer has not acknowledged, 0 for none: it cannot read what follows before.
    """

    link_id: LinkId
    peer: ServerName
    state: LinkState
    stopped_why: str
    wanted: bool
    checked_boot: str
    our_key_id: KeyId
    our_epoch: int
    our_seq: int
    our_hash: str
    their_epoch: int
    their_seq: int
    their_hash: str
    their_signature: str
    their_newest: int
    acked_seq: int
    our_open_ms: int
    their_open_ms: int
    attempts: int
    next_try_ms: int
    last_try_ms: int
    last_error: str
    gap_attempts: int
    gap_due_ms: int | None
    tombstones: int
    our_standing: Standing = Standing.READY
    our_standing_why: str = ""
    said_standing: Standing = Standing.READY
    their_standing: Standing = Standing.READY
    their_standing_why: str = ""
    standing_epoch: int = 0
    standing_seq: int = 0
    key_unsent_seq: int = 0

    @property
    def is_open(self) -> bool:
        return self.our_open_ms > 0 and self.their_open_ms > 0

    @property
    def standing(self) -> Standing:
        """What the link as a whole is ready for: the less ready side counts."""
        return max(self.our_standing, self.their_standing, key=list(Standing).index)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrencyLine:
    """One currency of a link: what each side grants, and what is in flight. Amounts in minor units."""

    currency: AssetCode
    ours: Grant | None
    theirs: Grant | None
    theirs_epoch: int
    theirs_seq: int
    reserved_minor: int
    """Σ of what we ACCEPTed and neither credited nor let lapse."""
    unreceipted_minor: int
    """Σ of what we COMMITted and the peer has not RECEIPTed."""
    in_flight_count: int
    """Their payments that are asked or reserved."""
    in_flight_minor: int


class OutState(StrEnum):
    OFFERED = "offered"
    ASKED = "asked"
    COMMITTED = "committed"
    ABORTED = "aborted"
    COMPLETED = "completed"
    VOIDED = "voided"  # committed, then RECEIPT(void)

    @property
    def is_undecided(self) -> bool:
        return self in (OutState.OFFERED, OutState.ASKED)

    @property
    def is_final(self) -> bool:
        return self in (OutState.ABORTED, OutState.COMPLETED, OutState.VOIDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutPayment:
    """A payment that we send. ``due_ms`` is when its ttl ends, None once it is decided."""

    link_id: LinkId
    peer: ServerName
    terms: Terms
    payer: Acct
    payment_id: PaymentId
    hold_id: HoldId
    state: OutState
    answer: MessageType | None
    receipt: Outcome | None
    offered_ms: int
    due_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingPayment:
    """A payment of ours that has not ended. ``payer`` is None once its names were erased.

    ``advanced`` when our operator gave its amount back at our own risk.
    """

    payment: OutPayment
    payer: UserId | None
    advanced: bool


class InState(StrEnum):
    ASKED = "asked"
    ACCEPTED = "accepted"  # reserved
    LAPSED = "lapsed"  # the reservation was freed; a late COMMIT is credited if the limit then allows
    REJECTED = "rejected"
    CREDITED = "credited"
    VOID = "void"
    DOUBT = "doubt"  # a COMMIT whose OFFER we do not know: we ask the peer whether we are the old one


@dataclass(frozen=True, slots=True, kw_only=True)
class InPayment:
    """A payment that we get.

    ``acct`` is the account of ours that is credited, None where nobody accepted. ``offered`` is False for a tombstone:
    its ABORT came before its OFFER. ``due_ms`` is when the asking or the reservation ends. ``used_minor`` and
    ``limit_minor`` are the credit used after we accepted and the limit then in force (I5).
    """

    link_id: LinkId
    peer: ServerName
    terms: Terms
    state: InState
    decision: Decision | None
    offered: bool
    acct: Acct | None
    due_ms: int | None
    used_minor: int | None = None
    limit_minor: int | None = None


class EvidenceKind(StrEnum):
    """What a peer did wrong, or what shows that we are old. ``first`` and ``second`` of the evidence say with what."""

    EQUIVOCATION = "equivocation"  # two objects at one place of a chain
    BROKEN_CHAIN = "broken_chain"  # an object whose prev_hash names another predecessor than the signed one
    COMMIT_AND_ABORT = "commit_and_abort"
    CREDITED_AND_VOID = "credited_and_void"
    UNFOUNDED_RECEIPT = "unfounded_receipt"  # credited what we never committed
    SETTLEMENT_CONTRADICTED = "settlement_contradicted"  # agreed and refused, received and not, sent and cancelled
    RETIRED_KEY = "retired_key"  # an object behind a KEY, signed by the key that it retired
    STATEMENT_DIFFERS = "statement_differs"  # its STATEMENT is not what our books make of it
    FALSE_SEEN = "false_seen"  # claims an object of ours that we never signed
    PEER_AHEAD = "peer_ahead"  # holds an object of ours that we do not have
    FORKED = "forked"  # holds another object of ours than we have in that place

    LOST_KEY = "lost_key"  # nothing of the peer's: the key that it knows of us is not here
    SUSPENSE = "suspense"  # no proof of anything: a payment that a restore could not give an owner or cover

    @property
    def halts(self) -> bool:
        return self in (EvidenceKind.PEER_AHEAD, EvidenceKind.FORKED)

    @property
    def freezes(self) -> bool:
        harmless = (
            EvidenceKind.FALSE_SEEN,
            EvidenceKind.STATEMENT_DIFFERS,
            EvidenceKind.LOST_KEY,
            EvidenceKind.SUSPENSE,
        )
        return not self.halts and self not in harmless


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Kept for good. ``first`` is what we had (may be empty), ``second`` what came; canonical JSON both."""

    kind: EvidenceKind
    peer: ServerName
    first: str
    second: str
    recorded_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Something that the operator must be told at once."""

    kind: EvidenceKind
    peer: ServerName
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What was done with an object. ``objects`` are ours that answer it and go into the HTTP answer.

    ``refused`` is the HTTP answer instead where the object was not taken but evidence of it was written. ``moved`` is
    True when payments or the outbox may have changed.
    """

    objects: tuple[JsonObject, ...] = ()
    openings: tuple[JsonObject, ...] = ()
    """Only in answer to OPENINGS?."""
    refused: Refused | None = None
    alarms: tuple[Alarm, ...] = ()
    moved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """One request to make: ``PUT …/clearing/{message_id}`` with ``body`` at ``peer``. ``seq`` 0 for a query."""

    peer: ServerName
    link_id: LinkId
    message_id: MessageId
    type: MessageType
    epoch: int
    seq: int
    body: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Agenda:
    """What there is to do towards one peer: errands now, and when to look again (None: when woken)."""

    errands: tuple[Errand, ...] = ()
    wake_ms: int | None = None


class Trouble(StrEnum):
    """Why an errand failed. The peer's being away delays all that goes there; its refusal only the one object."""

    UNREACHABLE = "unreachable"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTerms:
    """What an operator grants a peer."""

    peer: ServerName
    grants: tuple[Grant, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """What a FENCE left in force: of lower epochs than ``epoch`` all up to (``after_epoch``, ``after_seq``).

    Beyond that only what the other side held when it came, and listed in FENCED.
    """

    epoch: int
    after_epoch: int
    after_seq: int


class LinkPhase(StrEnum):
    """Where a link stands, in the operator's words."""

    CHECKING = "checking"  # the peer has not yet told us since our start what it knows
    WAITING_FOR_PEER = "waiting_for_peer"
    WAITING_FOR_US = "waiting_for_us"
    OPEN = "open"
    SUSPENDED = "suspended"
    CLOSING = "closing"  # nothing new; what is under way ends and positions are settled
    CLOSED = "closed"  # nothing is under way any more and nobody owes anything
    FROZEN = "frozen"
    HALTED = "halted"
    RECOVERING = "recovering"  # our database is a backup; the peer is telling us what it holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """One currency of a link in figures, in minor units. ``used_minor`` of ``granted`` is what the peer owes net.

    ``settleable_minor`` of what we owe may be settled now, ``net_minor`` of that is not owed back.
    """

    currency: AssetCode
    scale: int
    granted: Grant | None
    received: Grant | None
    usable: bool
    due_to_minor: int
    due_from_minor: int
    reserved_minor: int
    unreceipted_minor: int
    used_minor: int
    in_flight_count: int
    in_transit_minor: int = 0
    settleable_minor: int = 0
    net_minor: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkView:
    """A link as its operator sees it."""

    link_id: LinkId
    peer: ServerName
    phase: LinkPhase
    why: str
    waits: tuple[str, ...]
    """What the link waits for, and who must act: a sentence each."""
    our_standing: Standing
    their_standing: Standing
    our_statement: Statement | None
    their_statement: Statement | None
    our_fingerprint: str
    their_fingerprint: str
    """Of the keys that sign now, for operators to compare; empty where there is none yet."""
    present_fingerprint: str
    """Of the key in our file, which signs from the next KEY or FENCE on."""
    shown_fingerprint: str
    """Of the key that the peer sees next, for our operator to read to the other one."""
    asked_fingerprint: str
    """Of a key that the peer has shown and wants pinned; empty for none."""
    our_epoch: int
    our_seq: int
    their_epoch: int
    their_seq: int
    unsent: int
    tombstones: int
    last_error: str
    next_try_ms: int
    exposures: tuple[Exposure, ...]
    evidence: Mapping[EvidenceKind, int] = field(default_factory=lambda: MappingProxyType({}))
