"""The decisions of clearing: values in, decision out. No clock, randomness, SQL or logging.

Each function is one row of the state tables in ``docs/clearing.md``. "Late" and "early" always speak of the reader's
own clock: objects carry durations, never times, so that clocks which disagree decide no money.
"""

from collections.abc import Iterable
from enum import Enum
from typing import Final

from super_app.clearing.model import (
    CurrencyLine,
    Decision,
    EvidenceKind,
    Fence,
    InPayment,
    InState,
    Link,
    LinkPhase,
    LinkState,
    MessageType,
    Outcome,
    OutPayment,
    OutState,
    Standing,
    Terms,
)
from super_app.errors import Reason, Refused

OFFER_TTL_MS: Final = 60_000
ACCEPT_VALID_MS: Final = 600_000
COMMIT_MARGIN_MS: Final = 60_000
MAX_ASK_MS: Final = 86_400_000
DIRECT_ANSWER_MS: Final = 2_000
"""How long an object that went out in an HTTP answer waits before the outbox sends it too."""
GAP_PATIENCE_MS: Final = 5_000
RETRY_MS: Final = (15_000, 15_000, 30_000, 180_000, 600_000, 1_200_000, 1_800_000, 3_600_000)
FRESH_TRY_MS: Final = 15_000
"""A new OFFER makes us try a peer that was away again after this long, whatever the ladder says."""
MAX_SEQ_AHEAD: Final = 10_000
MAX_TOMBSTONES: Final = 10_000
MAX_EPOCHS_AHEAD: Final = 100
MAX_FENCES: Final = 20
"""New epochs that a peer may open on a link within ``FENCES_SPAN_MS``: each makes us sign a list of what we hold."""
FENCES_SPAN_MS: Final = 3_600_000
RECOVERING_RETRY_MS: Final = 2_000
RANGE_PAGE: Final = 100


def retry_ms(attempts: int) -> int:
    """How long to wait after the given number of failures in a row (1 or more)."""
    return RETRY_MS[min(max(attempts, 1), len(RETRY_MS)) - 1]


def is_paused(link: Link, now_ms: int) -> bool:
    """Whether a peer that was away is left alone for now.

    No pause is longer than the ladder's longest; one that seems to be was set by a clock that has gone back since.
    """
    return now_ms < link.next_try_ms <= now_ms + RETRY_MS[-1]


# Links.


class MaySign(Enum):
    """What a link allows us to sign now."""

    ALL = "all"
    ENDINGS = "endings"  # ABORT and REJECT: they take nothing from anybody
    NOTHING = "nothing"


def may_sign(link: Link, boot: str) -> MaySign:
    if link.state in (LinkState.HALTED, LinkState.RECOVERING) or link.checked_boot != boot:
        return MaySign.NOTHING
    return MaySign.ALL if link.state is LinkState.ACTIVE else MaySign.ENDINGS


def phase_of(link: Link, boot: str) -> LinkPhase:
    if link.state is LinkState.HALTED:
        return LinkPhase.HALTED
    if link.state is LinkState.RECOVERING:
        return LinkPhase.RECOVERING
    if link.state is LinkState.FROZEN:
        return LinkPhase.FROZEN
    if link.standing is Standing.CLOSING:
        return LinkPhase.CLOSING
    if not link.wanted:
        return LinkPhase.WAITING_FOR_US
    if link.is_open:
        if link.standing is Standing.SUSPENDED:
            return LinkPhase.SUSPENDED
        return LinkPhase.OPEN if link.checked_boot == boot else LinkPhase.CHECKING
    return LinkPhase.WAITING_FOR_PEER


def why_not(link: Link | None, peer: str, boot: str) -> Refused | None:
    """Why nothing new can be agreed on a link now; None if it can."""
    if link is None or not link.is_open:
        phase = LinkPhase.WAITING_FOR_US if link is None else phase_of(link, boot)
        if phase not in (LinkPhase.HALTED, LinkPhase.FROZEN, LinkPhase.RECOVERING):
            return Refused(
                reason=Reason.NO_LINK,
                message=f"There is no open link for payments with {peer}; the operators of both servers must open one.",
            )
    if link is not None and link.state is LinkState.RECOVERING:
        return Refused(
            reason=Reason.LINK_HALTED,
            message=f"Payments with {peer} wait until both servers agree again after a restore; try again soon.",
            fields={"retry_after_ms": RECOVERING_RETRY_MS},
        )
    if link is not None and link.state is not LinkState.ACTIVE:
        return Refused(
            reason=Reason.LINK_HALTED,
            message=f"Payments with {peer} are stopped until the operator has looked into it: {link.stopped_why}",
        )
    if link is not None and link.checked_boot != boot:
        return Refused(
            reason=Reason.LINK_HALTED,
            message=f"Payments with {peer} wait until that server has answered since our start; try again soon.",
            fields={"retry_after_ms": 2_000},
        )
    return None


def why_not_ready(link: Link | None, peer: str) -> Refused | None:
    """Why no new payment is agreed on with an open link; None if it may be. What is under way is not asked."""
    if link is None or link.standing is Standing.READY:
        return None
    if link.standing is Standing.CLOSING:
        return Refused(
            reason=Reason.NO_LINK,
            message=f"The link for payments with {peer} is closed; the operator who closed it can open it again.",
        )
    return Refused(
        reason=Reason.LINK_SUSPENDED,
        message=f"An operator has suspended payments with {peer}; your money stays yours, try again later.",
    )


# Fences.


def is_in_force(fences: Iterable[Fence], epoch: int, seq: int) -> bool:
    """Whether an object of a chain that was fenced may still come: no later FENCE of its sender left it out."""
    return all((epoch, seq) <= (each.after_epoch, each.after_seq) for each in fences if each.epoch > epoch)


# Credit (I5).


def credit_used(due_from_minor: int, reserved_minor: int, due_to_minor: int, unreceipted_minor: int) -> int:
    """What a peer uses of the credit we grant it: its debt and our reservations, less what we surely owe it."""
    return max(0, due_from_minor + reserved_minor - (due_to_minor - unreceipted_minor))


def within_limit(used_minor: int, amount_minor: int, line: CurrencyLine | None) -> bool:
    return line is not None and line.ours is not None and used_minor + amount_minor <= line.ours.limit_minor


def judge_offer(terms: Terms, line: CurrencyLine | None, used_minor: int) -> Reason | None:
    """Why an offered payment is rejected before its payee is asked; None if it is not."""
    if line is None or line.ours is None or line.ours.scale != terms.scale:
        return Reason.UNKNOWN_CURRENCY
    if not within_limit(used_minor, terms.amount_minor, line):
        return Reason.CREDIT_LIMIT
    if (
        line.in_flight_count >= line.ours.max_count
        or line.in_flight_minor + terms.amount_minor > line.ours.max_sum_minor
    ):
        return Reason.TOO_MANY_REQUESTS
    return None


# The payer's side.


class PayerMove(Enum):
    COMMIT = "commit"
    ABORT = "abort"
    KEEP = "keep"  # stored, and nothing moves
    CONFLICT = "conflict"
    COMPLETE = "complete"
    UNDO = "undo"
    NOTE = "note"  # the RECEIPT(void) of our ABORT
    CREDITED_AND_VOID = "credited_and_void"
    UNFOUNDED = "unfounded"


def payer_on_pending(payment: OutPayment, ttl_ms: int, now_ms: int) -> int | None:
    """The new end of the payment's ttl, or None where PENDING changes nothing. 24 h from the OFFER at most."""
    if payment.state is not OutState.OFFERED or is_over(payment, now_ms):
        return None
    return min(now_ms + ttl_ms, payment.offered_ms + MAX_ASK_MS)


def payer_on_accept(payment: OutPayment, valid_ms: int, now_ms: int) -> PayerMove:
    """COMMIT only within the ttl, and with a minute to spare of what the ACCEPT is valid for."""
    if payment.answer is not None:
        return PayerMove.CONFLICT
    if not payment.state.is_undecided:
        return PayerMove.KEEP
    if is_over(payment, now_ms) or valid_ms < COMMIT_MARGIN_MS:
        return PayerMove.ABORT
    return PayerMove.COMMIT


def payer_on_reject(payment: OutPayment) -> PayerMove:
    if payment.answer is not None:
        return PayerMove.CONFLICT
    return PayerMove.ABORT if payment.state.is_undecided else PayerMove.KEEP


def payer_on_receipt(payment: OutPayment, outcome: Outcome) -> PayerMove:
    return judge_receipt(payment.state, payment.receipt, outcome)


def judge_receipt(state: OutState, before: Outcome | None, outcome: Outcome) -> PayerMove:
    """What a RECEIPT does to a payment of ours; ``before`` is what an earlier one said."""
    if before is not None:
        return PayerMove.CONFLICT if before is outcome else PayerMove.CREDITED_AND_VOID
    match state, outcome:
        case OutState.COMMITTED, Outcome.CREDITED:
            return PayerMove.COMPLETE
        case OutState.COMMITTED, Outcome.VOID:
            return PayerMove.UNDO
        case OutState.ABORTED, Outcome.VOID:
            return PayerMove.NOTE
        case _, Outcome.CREDITED:
            return PayerMove.UNFOUNDED
        case _, Outcome.VOID:
            # Nothing is decided here yet; there is nothing that a RECEIPT could answer.
            return PayerMove.CONFLICT


def is_over(payment: OutPayment, now_ms: int) -> bool:
    """Whether the ttl of an undecided payment has ended."""
    return payment.due_ms is not None and now_ms >= payment.due_ms


# The payee's side.


class PayeeMove(Enum):
    OPEN = "open"  # a new payment: judge it
    KEEP = "keep"
    CONFLICT = "conflict"
    CREDIT = "credit"
    VOID = "void"
    TOMBSTONE = "tombstone"
    DOUBT = "doubt"
    COMMIT_AND_ABORT = "commit_and_abort"


def payee_on_offer(payment: InPayment | None, terms: Terms) -> PayeeMove:
    if payment is None:
        return PayeeMove.OPEN
    if payment.offered or payment.terms != terms:
        return PayeeMove.CONFLICT
    return PayeeMove.KEEP


def payee_on_decision(payment: InPayment | None, decision: Decision, terms: Terms, *, within_limit: bool) -> PayeeMove:
    """What a COMMIT or an ABORT does. ``within_limit`` is asked for a COMMIT whose reservation lapsed."""
    if payment is None:
        return PayeeMove.DOUBT if decision is Decision.COMMIT else PayeeMove.TOMBSTONE
    if payment.terms != terms:
        return PayeeMove.CONFLICT
    if payment.decision is not None:
        return PayeeMove.CONFLICT if payment.decision is decision else PayeeMove.COMMIT_AND_ABORT
    if decision is Decision.ABORT:
        return PayeeMove.VOID
    match payment.state:
        case InState.ACCEPTED:
            return PayeeMove.CREDIT
        case InState.LAPSED:
            return PayeeMove.CREDIT if within_limit else PayeeMove.VOID
        case InState.ASKED | InState.REJECTED | InState.VOID | InState.CREDITED | InState.DOUBT:
            # A COMMIT without our ACCEPT.
            return PayeeMove.VOID


# What a peer knows of us.


class SeenVerdict(Enum):
    TRUE = "true"
    LIE = "lie"
    AHEAD = "ahead"
    FORKED = "forked"

    @property
    def evidence(self) -> EvidenceKind | None:
        return {
            SeenVerdict.LIE: EvidenceKind.FALSE_SEEN,
            SeenVerdict.AHEAD: EvidenceKind.PEER_AHEAD,
            SeenVerdict.FORKED: EvidenceKind.FORKED,
        }.get(self)


def judge_claim(*, is_ours: bool, stored_hash: str | None, claimed_hash: str) -> SeenVerdict:
    """What a claim to hold an object of ours shows. ``stored_hash`` is of what we have in its place, None for nothing.

    A claim that our own signature does not cover proves nothing about us, whatever it says.
    """
    if stored_hash == claimed_hash:
        return SeenVerdict.TRUE
    if not is_ours:
        return SeenVerdict.LIE
    return SeenVerdict.AHEAD if stored_hash is None else SeenVerdict.FORKED


UNSIGNED_FOR: Final = frozenset(
    {
        MessageType.LINK_OPEN,
        MessageType.LIMIT,
        MessageType.SUSPEND,
        MessageType.RESUME,
        MessageType.CLOSE,
        MessageType.KEY,
        MessageType.STATEMENT,
    }
)
"""What asks for no signature of ours, and so is taken while a link is still being opened or checked."""

ANSWERED_BY: Final[dict[MessageType, frozenset[MessageType]]] = {
    MessageType.LINK_OPEN: frozenset({MessageType.LINK_OPEN}),
    MessageType.OFFER: frozenset({MessageType.PENDING, MessageType.ACCEPT, MessageType.REJECT, MessageType.RECEIPT}),
    MessageType.PENDING: frozenset({MessageType.COMMIT, MessageType.ABORT}),
    MessageType.ACCEPT: frozenset({MessageType.COMMIT, MessageType.ABORT}),
    MessageType.REJECT: frozenset({MessageType.ABORT}),
    MessageType.COMMIT: frozenset({MessageType.RECEIPT}),
    MessageType.ABORT: frozenset({MessageType.RECEIPT}),
    MessageType.SETTLE_PROPOSE: frozenset({MessageType.SETTLE_AGREE, MessageType.SETTLE_REFUSE}),
    MessageType.SETTLE_SENT: frozenset({MessageType.SETTLE_RECEIVED, MessageType.SETTLE_NOT_RECEIVED}),
    MessageType.FENCE: frozenset({MessageType.FENCED}),
}
"""Which of our objects answer one of theirs, and so go into the HTTP answer."""
