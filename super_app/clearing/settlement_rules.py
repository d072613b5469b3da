"""The decisions of settlement: values in, decision out. No clock, randomness, SQL or logging.

Each function is one table of ``docs/clearing.md``, "Settlement".
"""

from dataclasses import replace
from enum import Enum
from typing import Final

from super_app.clearing.model import CurrencyLine, Link, LinkId, MessageType, SettlementId, SettlementTerms
from super_app.clearing.settlement_model import (
    AutoSettle,
    Every,
    Position,
    Said,
    Settlement,
    SettlementState,
    Way,
)
from super_app.ids import ServerName
from super_app.money import Asset, format_money
from super_app.signing import digest, from_b64

ANSWER_BANKING_DAYS: Final = 5
MAX_OPEN: Final = 100
"""Proposals of one side of a link that wait for an answer, and cancellations whose proposal has not come."""
PAUSE_AFTER_FAILURE_MS: Final = 86_400_000
"""Nothing is proposed at the threshold for so long after a settlement that came to nothing."""
_DAY_MS: Final = 86_400_000
_MINUTE_MS: Final = 60_000
_THURSDAY: Final = 3  # weekday of 1970-01-01, Monday being 0
_SATURDAY: Final = 5
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_REFERENCE_LENGTH: Final = 12
_OURS: Final = frozenset({"amount", "message", "instruction"})


# Time.


def banking_days_later(from_ms: int, days: int) -> int:
    """The same time of day so many banking days on: Monday to Friday, by UTC. A weekend counts as its Monday's start.

    Public holidays are not left out: they differ by currency and bank, and only make a dispute come a little sooner.
    """
    day, rest_ms = divmod(from_ms, _DAY_MS)
    if _weekday(day) >= _SATURDAY:
        day, rest_ms = _next_banking_day(day), 0
    for _ in range(days):
        day = _next_banking_day(day)
    return day * _DAY_MS + rest_ms


def next_turn_ms(auto: AutoSettle, after_ms: int) -> int | None:
    """When a schedule has its next turn, strictly after a time."""
    if auto.every is Every.NEVER:
        return None
    day = after_ms // _DAY_MS
    while True:
        turn_ms = day * _DAY_MS + auto.minute_of_day * _MINUTE_MS
        if turn_ms > after_ms and (auto.every is Every.DAY or _weekday(day) == auto.weekday - 1):
            return turn_ms
        day += 1


def _weekday(day: int) -> int:
    return (day + _THURSDAY) % 7


def _next_banking_day(day: int) -> int:
    day += 1
    while _weekday(day) >= _SATURDAY:
        day += 1
    return day


# Names.


def settlement_id_of(link: Link, debtor: ServerName) -> SettlementId:
    """An id that no other settlement of this debtor has: that of the place in its chain where it is proposed."""
    return SettlementId(digest(["settlement", link.link_id, debtor, link.our_epoch, link.our_seq + 1]))


def reference_of(link_id: LinkId, debtor: ServerName, settlement_id: SettlementId) -> str:
    """What is written on the real transfer: a creditor reference (ISO 11649), the same from both ends.

    ``RF``, two check digits, and 12 letters and digits without I, L, O and U, from the digest of what names it.
    """
    number = int.from_bytes(from_b64(digest([link_id, debtor, settlement_id])), "big")
    body = ""
    for _ in range(_REFERENCE_LENGTH):
        number, place = divmod(number, len(_ALPHABET))
        body += _ALPHABET[place]
    check = 98 - _mod_97(body + "RF00")
    return f"RF{check:02}{body}"


def is_reference(text: str) -> bool:
    """Whether ``text`` (no spaces, capitals) has the form of a creditor reference with the right check digits."""
    return (
        5 <= len(text) <= 25
        and text.isascii()
        and text.isalnum()
        and text.upper() == text
        and text.startswith("RF")
        and text[2:4].isdigit()
        and _mod_97(text[4:] + text[:4]) == 1
    )


def payto_of(pay_to: str, amount_minor: int, asset: Asset, reference: str) -> str:
    """The creditor's payto: URI (RFC 8905) with our amount and reference; what it said of either is left out."""
    where, _, options = pay_to.partition("?")
    kept = [each for each in options.split("&") if each and each.partition("=")[0].lower() not in _OURS]
    number = format_money(amount_minor, asset).partition(" ")[0]
    return f"{where}?{'&'.join([*kept, f'amount={asset.code}:{number}', f'message={reference}'])}"


def _mod_97(text: str) -> int:
    # A is 10, Z is 35: what int() with base 36 makes of one character.
    return int("".join(str(int(char, 36)) for char in text)) % 97


# Amounts.


def position(
    due_to_minor: int, due_from_minor: int, in_transit_minor: int, claimed_minor: int, line: CurrencyLine
) -> Position:
    """What may be settled. What the peer has not RECEIPTed may still be voided, so it is not among it."""
    settleable_minor = max(0, due_to_minor - line.unreceipted_minor - claimed_minor)
    return Position(
        in_transit_minor=in_transit_minor,
        claimed_minor=claimed_minor,
        settleable_minor=settleable_minor,
        net_minor=max(0, settleable_minor - due_from_minor),
    )


def may_agree(amount_minor: int, expected_minor: int, due_from_minor: int) -> bool:
    """Whether the debt covers a settlement beside those that were agreed and not ended (``expected_minor``)."""
    return expected_minor + amount_minor <= due_from_minor


# What an object does.


class SettleMove(Enum):
    TAKE = "take"
    KEEP = "keep"  # stored, and nothing moves
    CONFLICT = "conflict"
    CONTRADICTION = "contradiction"
    UNKNOWN = "unknown"


def on_debtors_object(known: Settlement | None, said: Said) -> SettleMove:
    """The creditor's table: SETTLE_PROPOSE, SETTLE_CANCEL and SETTLE_SENT."""
    if known is None:
        return SettleMove.UNKNOWN if said.kind is MessageType.SETTLE_SENT else SettleMove.TAKE
    if known.terms != said.terms:
        return SettleMove.CONFLICT
    state = known.state
    if said.kind is MessageType.SETTLE_PROPOSE:
        return SettleMove.CONFLICT if known.proposed else SettleMove.KEEP
    if said.kind is MessageType.SETTLE_CANCEL:
        if state is SettlementState.CANCELLED:
            return SettleMove.CONFLICT
        before_sent = state in (SettlementState.PROPOSED, SettlementState.AGREED, SettlementState.REFUSED)
        return SettleMove.TAKE if before_sent else SettleMove.CONTRADICTION
    if state is SettlementState.AGREED:
        return SettleMove.TAKE
    return SettleMove.CONTRADICTION if state is SettlementState.CANCELLED else SettleMove.CONFLICT


def on_creditors_object(known: Settlement | None, said: Said) -> SettleMove:
    """The debtor's table: SETTLE_AGREE, SETTLE_REFUSE, SETTLE_RECEIVED and SETTLE_NOT_RECEIVED."""
    if known is None:
        return SettleMove.UNKNOWN
    if known.terms != said.terms:
        return SettleMove.CONFLICT
    if said.kind in (MessageType.SETTLE_AGREE, MessageType.SETTLE_REFUSE):
        if known.answer is not None:
            return SettleMove.CONFLICT if known.answer is said.kind else SettleMove.CONTRADICTION
        return SettleMove.TAKE if known.state is SettlementState.PROPOSED else SettleMove.KEEP
    match known.state:
        case SettlementState.SENT | SettlementState.DISPUTED:
            return SettleMove.TAKE
        case SettlementState.RECEIVED | SettlementState.NOT_RECEIVED:
            same = (said.kind is MessageType.SETTLE_RECEIVED) is (known.state is SettlementState.RECEIVED)
            same = same and said.received_minor == known.received_minor
            return SettleMove.CONFLICT if same else SettleMove.CONTRADICTION
        case _:
            # We never said that it was sent.
            return SettleMove.CONFLICT


MAY_FOLLOW: Final[dict[MessageType, frozenset[SettlementState]]] = {
    MessageType.SETTLE_CANCEL: frozenset({SettlementState.PROPOSED, SettlementState.AGREED}),
    MessageType.SETTLE_SENT: frozenset({SettlementState.AGREED}),
    MessageType.SETTLE_AGREE: frozenset({SettlementState.PROPOSED}),
    MessageType.SETTLE_REFUSE: frozenset({SettlementState.PROPOSED}),
    MessageType.SETTLE_RECEIVED: frozenset({SettlementState.SENT, SettlementState.DISPUTED}),
    MessageType.SETTLE_NOT_RECEIVED: frozenset({SettlementState.SENT, SettlementState.DISPUTED}),
}
"""In which states our operator may say what."""

LEADS_TO: Final[dict[MessageType, SettlementState]] = {
    MessageType.SETTLE_PROPOSE: SettlementState.PROPOSED,
    MessageType.SETTLE_AGREE: SettlementState.AGREED,
    MessageType.SETTLE_REFUSE: SettlementState.REFUSED,
    MessageType.SETTLE_CANCEL: SettlementState.CANCELLED,
    MessageType.SETTLE_SENT: SettlementState.SENT,
    MessageType.SETTLE_RECEIVED: SettlementState.RECEIVED,
    MessageType.SETTLE_NOT_RECEIVED: SettlementState.NOT_RECEIVED,
}

_STEP: Final[dict[SettlementState, int]] = {
    SettlementState.PROPOSED: 0,
    SettlementState.AGREED: 1,
    SettlementState.REFUSED: 1,
    SettlementState.CANCELLED: 2,
    SettlementState.SENT: 2,
    SettlementState.DISPUTED: 2,
    SettlementState.RECEIVED: 3,
    SettlementState.NOT_RECEIVED: 3,
}


def goes_on(known: Settlement | None, said: Said) -> bool:
    """Whether an object leads a settlement on, where objects are replayed in any order and all are to be believed."""
    return known is None or _STEP[LEADS_TO[said.kind]] > _STEP[known.state]


def is_founded(known: Settlement | None, said: Said) -> bool:
    """Whether an object of the peer follows, by what we have said ourselves.

    A debtor sends only what was agreed to, and a creditor answers only what was proposed or sent. So nobody can bring
    back, from a life that we have lost, what we had no part in.
    """
    if known is None:
        return said.kind in (MessageType.SETTLE_PROPOSE, MessageType.SETTLE_CANCEL)
    if said.kind is MessageType.SETTLE_SENT:
        return known.answer is MessageType.SETTLE_AGREE
    if said.kind in (MessageType.SETTLE_RECEIVED, MessageType.SETTLE_NOT_RECEIVED):
        return _STEP[known.state] >= _STEP[SettlementState.SENT] and known.state is not SettlementState.CANCELLED
    return True


def new(link: Link, way: Way, terms: SettlementTerms, now_ms: int) -> Settlement:
    return Settlement(
        link_id=link.link_id,
        peer=link.peer,
        way=way,
        terms=terms,
        state=SettlementState.PROPOSED,
        answer=None,
        proposed=False,
        reason="",
        pay_to="",
        bank_reference="",
        received_minor=0,
        covered_minor=0,
        opened_ms=now_ms,
        changed_ms=now_ms,
        due_ms=None,
    )


def after(known: Settlement, said: Said, now_ms: int) -> Settlement:
    """The settlement after an object that leads it on."""
    state = LEADS_TO[said.kind]
    waits = state is SettlementState.SENT or (state is SettlementState.PROPOSED and known.way is Way.OUT)
    agreed = state in (SettlementState.SENT, SettlementState.RECEIVED, SettlementState.NOT_RECEIVED)
    return replace(
        noted(known, said),
        state=state,
        # That the debtor has sent says by itself that the creditor had agreed.
        answer=MessageType.SETTLE_AGREE if agreed else noted(known, said).answer,
        reason=said.reason,
        bank_reference=said.bank_reference or known.bank_reference,
        received_minor=said.received_minor,
        changed_ms=now_ms,
        due_ms=banking_days_later(now_ms, ANSWER_BANKING_DAYS) if waits else None,
    )


def noted(known: Settlement, said: Said) -> Settlement:
    """The settlement after an object that comes too late to lead it on."""
    answers = said.kind in (MessageType.SETTLE_AGREE, MessageType.SETTLE_REFUSE)
    return replace(
        known,
        proposed=known.proposed or said.kind is MessageType.SETTLE_PROPOSE,
        answer=said.kind if answers else known.answer,
        pay_to=said.pay_to or known.pay_to,
    )


def disputed(known: Settlement, now_ms: int) -> Settlement:
    return replace(known, state=SettlementState.DISPUTED, changed_ms=now_ms, due_ms=None)


def says_again(known: Settlement, said: Said) -> bool:
    """Whether an act of our operator is one that has been done already."""
    state = SettlementState.SENT if known.state is SettlementState.DISPUTED else known.state
    return state is LEADS_TO[said.kind] and known.received_minor == said.received_minor


class WaitsFor(Enum):
    """Who has to do something."""

    US = "us"
    PEER = "peer"
    NOBODY = "nobody"


def waits_for(settlement: Settlement) -> WaitsFor:
    """Whose operator is awaited: proposals and payments wait for the creditor, what was agreed for the debtor."""
    if not settlement.state.is_open:
        return WaitsFor.NOBODY
    for_debtor = settlement.state is SettlementState.AGREED
    return WaitsFor.US if for_debtor is (settlement.way is Way.OUT) else WaitsFor.PEER
