"""Settlements: what one homeserver owes another is paid outside, and the books follow what both sides sign.

The money, each time in one transaction with the object that says so: the debtor moves due_to -> in_transit with its
SETTLE_SENT; on the creditor's SETTLE_RECEIVED what arrived is burnt (in_transit -> issued) and the rest goes back to
due_to; on SETTLE_NOT_RECEIVED all goes back. The creditor moves issued -> due_from with its SETTLE_RECEIVED and not
before, so the credit line frees only then. Nobody's available is touched.

What is settled is RECEIPTed by the creditor and claimed by no other settlement, so that nothing that may still be
voided is ever paid, and the creditor never gets more than it has booked.
"""

from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from typing import Final

from super_app.clearing import objects, rules, settlement_rules, settlement_store, store
from super_app.clearing.chain import Chain, Handled, Taken
from super_app.clearing.model import (
    ChainObject,
    CurrencyLine,
    EvidenceKind,
    JsonObject,
    Link,
    MessageType,
    Sender,
    SettlementId,
    SettlementTerms,
    Stored,
    WireId,
)
from super_app.clearing.rules import MaySign
from super_app.clearing.settlement_model import (
    AutoSettle,
    Every,
    Position,
    Said,
    Settlement,
    SettlementState,
    Way,
    way_of,
)
from super_app.clearing.settlement_rules import SettleMove
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from super_app.ledger import service as ledger
from super_app.ledger.model import (
    AccountKey,
    AccountKind,
    Cause,
    Transfer,
    TransferId,
    Violation,
    due_from,
    due_to,
    house,
    in_transit,
)
from super_app.money import Asset, AssetCode, format_money

TICK_PAGE: Final = 100
OPEN_SHOWN: Final = 200
_CLAIMED: Final = frozenset({SettlementState.PROPOSED, SettlementState.AGREED})
_UNDER_WAY: Final = frozenset({SettlementState.SENT, SettlementState.DISPUTED})
_EXPECTED: Final = frozenset({SettlementState.AGREED, SettlementState.SENT, SettlementState.DISPUTED})
_SCHEDULED: Final = frozenset({SettlementState.PROPOSED, SettlementState.AGREED, SettlementState.SENT})
"""While one of these is open, nothing is proposed by itself; a disputed one holds nothing up."""


class OnShort(Enum):
    """What to do where the books know of less debt than a settlement is of."""

    FAIL = "fail"  # it cannot be: what is claimed is owed
    COVER = "cover"  # the books were restored and know too little; suspense makes up for it


class Settlements:
    def __init__(self, chain: Chain, assets: Mapping[AssetCode, Asset]) -> None:
        self._chain = chain
        self._assets = assets

    # Our operator, where we owe.

    def propose(
        self,
        cur: Cursor,
        link: Link,
        currency: AssetCode,
        amount_minor: int | None,
        settlement_id: SettlementId | None,
        now_ms: int,
    ) -> Settlement | Refused:
        """Propose to pay ``amount_minor``, or all that we owe net. The same id with the same terms changes nothing.

        Refusals: NO_LINK, LINK_HALTED, UNKNOWN_CURRENCY, EXCEEDS_DEBT (with ``settleable``), TOO_MANY_REQUESTS,
        CONFLICT for other terms under this id.
        """
        line = store.line(cur, link.link_id, currency)
        known = None
        if settlement_id is not None:
            known = settlement_store.find(cur, link.link_id, Way.OUT, settlement_id)
        if known is not None:
            if known.terms.currency == currency and amount_minor in (None, known.terms.amount_minor):
                return known
            return Refused(
                reason=Reason.CONFLICT,
                message="Another settlement was proposed under this id; use a new settlement_id.",
            )
        refused = self._why_not(link)
        if refused is not None:
            return refused
        grant = None if line is None else line.theirs
        if line is None or grant is None:
            return Refused(
                reason=Reason.UNKNOWN_CURRENCY,
                message=f"{link.peer} grants no credit in {currency}, so nothing is owed to it there.",
            )
        there = self.position(cur, link, line)
        wanted_minor = there.net_minor if amount_minor is None else amount_minor
        if not 1 <= wanted_minor <= there.settleable_minor:
            asset = Asset(code=currency, scale=grant.scale)
            return Refused(
                reason=Reason.EXCEEDS_DEBT,
                message=(
                    f"At most {format_money(there.settleable_minor, asset)} can be settled with {link.peer} now, and"
                    f" {format_money(there.net_minor, asset)} of that is owed net; propose that much or less."
                ),
                fields={"settleable": there.settleable_minor, "net": there.net_minor},
            )
        if settlement_store.count_waiting(cur, link.link_id, Way.OUT) >= settlement_rules.MAX_OPEN:
            return Refused(
                reason=Reason.TOO_MANY_REQUESTS,
                message=f"{settlement_rules.MAX_OPEN} proposals wait for {link.peer}; cancel some first.",
            )
        terms = SettlementTerms(
            settlement_id=settlement_id or settlement_rules.settlement_id_of(link, self._chain.me.server),
            amount_minor=wanted_minor,
            currency=currency,
            scale=grant.scale,
        )
        return self._say(cur, link, None, Said(kind=MessageType.SETTLE_PROPOSE, terms=terms), now_ms, now_ms)[1]

    def cancel(
        self, cur: Cursor, link: Link, settlement_id: SettlementId, reason: str, now_ms: int
    ) -> Settlement | Refused:
        """Take back a settlement that was not sent. Refusals as for all acts: see ``_act``."""
        return self._act(cur, link, MessageType.SETTLE_CANCEL, settlement_id, now_ms, reason=reason)

    def sent(
        self, cur: Cursor, link: Link, settlement_id: SettlementId, bank_reference: str, now_ms: int
    ) -> Settlement | Refused:
        """We have paid outside."""
        return self._act(cur, link, MessageType.SETTLE_SENT, settlement_id, now_ms, bank_reference=bank_reference)

    # Our operator, where we are owed.

    def agree(
        self, cur: Cursor, link: Link, settlement_id: SettlementId, pay_to: str | None, now_ms: int
    ) -> Settlement | Refused:
        """Let the peer pay; ``pay_to`` says where, None: where our terms say. EXCEEDS_DEBT if it owes less."""
        known = settlement_store.find(cur, link.link_id, Way.IN, settlement_id)
        if known is not None and known.state is SettlementState.PROPOSED:
            pay_to = self._pay_to(cur, link, known.terms.currency) if pay_to is None else pay_to
            if not self._may_agree(cur, link, known):
                asset = Asset(code=known.terms.currency, scale=known.terms.scale)
                owed_minor = -ledger.balance(cur, due_from(link.peer, known.terms.currency))
                return Refused(
                    reason=Reason.EXCEEDS_DEBT,
                    message=(
                        f"{link.peer} owes {format_money(owed_minor, asset)}, and with the settlements that are agreed"
                        " already this one would be more; refuse it, or wait until those have ended."
                    ),
                )
        return self._act(cur, link, MessageType.SETTLE_AGREE, settlement_id, now_ms, pay_to=pay_to or "")

    def refuse(
        self, cur: Cursor, link: Link, settlement_id: SettlementId, reason: str, now_ms: int
    ) -> Settlement | Refused:
        return self._act(cur, link, MessageType.SETTLE_REFUSE, settlement_id, now_ms, reason=reason)

    def received(
        self, cur: Cursor, link: Link, settlement_id: SettlementId, received_minor: int | None, now_ms: int
    ) -> Settlement | Refused:
        """So much has arrived, None for all of it. More than was agreed is refused: INVALID_AMOUNT."""
        known = settlement_store.find(cur, link.link_id, Way.IN, settlement_id)
        if known is not None:
            amount_minor = known.terms.amount_minor
            received_minor = amount_minor if received_minor is None else received_minor
            if not 1 <= received_minor <= amount_minor:
                asset = Asset(code=known.terms.currency, scale=known.terms.scale)
                return Refused(
                    reason=Reason.INVALID_AMOUNT,
                    message=(
                        f"This settlement is of {format_money(amount_minor, asset)}; confirm that much or less. What"
                        " came beyond it belongs to the other operator: send it back, or let it propose another one."
                    ),
                )
        return self._act(
            cur, link, MessageType.SETTLE_RECEIVED, settlement_id, now_ms, received_minor=received_minor or 0
        )

    def not_received(
        self, cur: Cursor, link: Link, settlement_id: SettlementId, reason: str, now_ms: int
    ) -> Settlement | Refused:
        """Nothing has arrived: the debt stands."""
        return self._act(cur, link, MessageType.SETTLE_NOT_RECEIVED, settlement_id, now_ms, reason=reason)

    # What happens by itself.

    def choose(self, cur: Cursor, link: Link, chosen: AutoSettle, now_ms: int) -> AutoSettle | Refused:
        """What our operator lets happen by itself in one currency from now on."""
        if store.line(cur, link.link_id, chosen.currency) is None:
            return Refused(
                reason=Reason.UNKNOWN_CURRENCY,
                message=f"The link with {link.peer} does not carry {chosen.currency}.",
            )
        timed = _timed(chosen, now_ms)
        settlement_store.put_auto(cur, link.link_id, timed)
        return timed

    def tick(self, cur: Cursor, link: Link, now_ms: int) -> Link:
        """Do what time has made due: disputes, proposals that lapse, and proposals by themselves."""
        for each in settlement_store.due(cur, link.link_id, self._timed_states(link), now_ms, TICK_PAGE):
            if each.state is SettlementState.SENT:
                self._put(cur, each, settlement_rules.disputed(each, now_ms))
            else:
                lapsed = Said(kind=MessageType.SETTLE_CANCEL, terms=each.terms, reason=Reason.EXPIRED.value)
                link = self._say(cur, link, each, lapsed, now_ms, now_ms)[0]
        if not self._may_propose(link):
            return link
        for auto in settlement_store.autos(cur, link.link_id):
            proposes_ms = self._proposes_ms(cur, link, auto)
            if auto.next_ms is not None and auto.next_ms <= now_ms:
                settlement_store.put_auto(cur, link.link_id, _timed(auto, now_ms))
            if proposes_ms is not None and proposes_ms <= now_ms:
                self.propose(cur, link, auto.currency, None, None, now_ms)
                link = store.link(cur, link.link_id) or link
        return link

    def next_ms(self, cur: Cursor, link: Link) -> int | None:
        """When ``tick`` has something to do next; None for never as things stand."""
        wakes = [settlement_store.next_due_ms(cur, link.link_id, self._timed_states(link))]
        if self._may_propose(link):
            for auto in settlement_store.autos(cur, link.link_id):
                wakes += [auto.next_ms, self._proposes_ms(cur, link, auto)]
        return min((each for each in wakes if each is not None), default=None)

    # Objects.

    def on_object(self, cur: Cursor, link: Link, found: ChainObject, now_ms: int, due_ms: int) -> Handled:
        """An object of the peer: what the debtor or the creditor says of a settlement."""
        said = _said(found)
        way = way_of(found.type, Sender.THEIRS)
        known = settlement_store.find(cur, link.link_id, way, said.terms.settlement_id)
        judge = settlement_rules.on_debtors_object if way is Way.IN else settlement_rules.on_creditors_object
        match judge(known, said):
            case SettleMove.UNKNOWN:
                return Refused(
                    reason=Reason.UNKNOWN_SETTLEMENT, message="No settlement of this id was ever proposed here."
                )
            case SettleMove.CONFLICT:
                return Refused(
                    reason=Reason.CONFLICT,
                    message="This object does not fit the settlement of its id, and will never be taken.",
                )
            case SettleMove.CONTRADICTION:
                first = self._other_word(cur, link, said)
                return self._chain.freeze(cur, link, EvidenceKind.SETTLEMENT_CONTRADICTED, first, found, now_ms)
            case SettleMove.KEEP if known is not None:
                link = self._chain.admit(cur, link, found, now_ms)
                self._put(cur, known, settlement_rules.noted(known, said))
                return Taken(link=link)
            case _:
                pass
        if known is None and settlement_store.count_waiting(cur, link.link_id, way) >= settlement_rules.MAX_OPEN:
            return Refused(
                reason=Reason.TOO_MANY_REQUESTS,
                message=f"{settlement_rules.MAX_OPEN} settlements wait here for an answer; wait until some have one.",
                fields={"retry_after_ms": rules.RETRY_MS[2]},
            )
        link = self._chain.admit(cur, link, found, now_ms)
        settlement = self._lead_on(cur, link, way, known, said, now_ms)
        if said.kind is MessageType.SETTLE_PROPOSE:
            link = self._answer(cur, link, settlement, now_ms, due_ms)
        return Taken(link=link)

    def replay(self, cur: Cursor, link: Link, found: ChainObject, sender: Sender, now_ms: int) -> None:
        """Bring the books to what an object says that somebody has signed, ours or theirs, in whatever order they come.

        For a database that is being restored: nothing is judged, signed or stored in a chain, and the same object again
        changes nothing. What due_to no longer covers is taken from ``suspense``.
        """
        said = _said(found)
        way = way_of(found.type, sender)
        known = settlement_store.find(cur, link.link_id, way, said.terms.settlement_id)
        if known is not None and known.terms != said.terms:
            # Of another settlement under the same id, which was never taken.
            return
        if settlement_rules.goes_on(known, said):
            self._lead_on(cur, link, way, known, said, now_ms, short=OnShort.COVER)
        elif known is not None:
            self._put(cur, known, settlement_rules.noted(known, said))

    def is_founded(self, cur: Cursor, link: Link, found: ChainObject) -> bool:
        """Whether what the peer says of a settlement rests on what we have signed, all of which is replayed before."""
        said = _said(found)
        known = settlement_store.find(cur, link.link_id, way_of(found.type, Sender.THEIRS), said.terms.settlement_id)
        return settlement_rules.is_founded(known, said)

    # How things stand.

    def waits(self, cur: Cursor, link: Link) -> tuple[str, ...]:
        """What waits for whose operator: a sentence for each settlement that is not ended, oldest first."""
        return tuple(map(waits_of, settlement_store.open_ones(cur, link.link_id, OPEN_SHOWN)))

    def position(self, cur: Cursor, link: Link, line: CurrencyLine) -> Position:
        """What we owe the peer in one currency, and how much of it may be settled."""
        return settlement_rules.position(
            ledger.balance(cur, due_to(link.peer, line.currency)),
            -ledger.balance(cur, due_from(link.peer, line.currency)),
            ledger.balance(cur, in_transit(link.peer, line.currency)),
            settlement_store.sum_of(cur, link.link_id, Way.OUT, line.currency, _CLAIMED),
            line,
        )

    def violations(self, cur: Cursor, link: Link, line: CurrencyLine) -> tuple[Violation, ...]:
        """That in_transit is what was sent and not ended, and that no more is claimed or expected than is owed."""
        where = f"{link.peer} {line.currency}"
        link_id, currency = link.link_id, line.currency
        owed_minor = ledger.balance(cur, due_to(link.peer, currency))
        owing_minor = -ledger.balance(cur, due_from(link.peer, currency))
        under_way_minor = settlement_store.sum_of(cur, link_id, Way.OUT, currency, _UNDER_WAY)
        claimed_minor = settlement_store.sum_of(cur, link_id, Way.OUT, currency, _CLAIMED)
        expected_minor = settlement_store.sum_of(cur, link_id, Way.IN, currency, _EXPECTED)
        off = {
            "in_transit": ledger.balance(cur, in_transit(link.peer, currency)) - under_way_minor,
            "claimed": max(0, claimed_minor - (owed_minor - line.unreceipted_minor)),
            "expected": max(0, expected_minor - owing_minor),
        }
        return tuple(
            Violation(invariant="I3", where=f"{where} {name}", off_by=by) for name, by in off.items() if by != 0
        )

    def left_outside(self, cur: Cursor, link: Link, currency: AssetCode) -> tuple[int, int]:
        """By how much settlements have lowered our due_to and the peer's debt to us, in minor units."""
        sent_minor = settlement_store.sum_of(cur, link.link_id, Way.OUT, currency, _UNDER_WAY)
        paid_minor = settlement_store.sum_received(cur, link.link_id, Way.OUT, currency)
        covered_minor = settlement_store.sum_covered(cur, link.link_id, Way.OUT, currency)
        received_minor = settlement_store.sum_received(cur, link.link_id, Way.IN, currency)
        cleared_minor = settlement_store.sum_covered(cur, link.link_id, Way.IN, currency)
        return sent_minor + paid_minor - covered_minor, received_minor - cleared_minor

    # Within.

    def _act(
        self,
        cur: Cursor,
        link: Link,
        kind: MessageType,
        settlement_id: SettlementId,
        now_ms: int,
        *,
        reason: str = "",
        pay_to: str = "",
        bank_reference: str = "",
        received_minor: int = 0,
    ) -> Settlement | Refused:
        """Say something about a settlement. What was said already changes nothing.

        Refusals: UNKNOWN_SETTLEMENT, ALREADY_DECIDED (with ``state``), NO_LINK, LINK_HALTED.
        """
        known = settlement_store.find(cur, link.link_id, way_of(kind, Sender.OURS), settlement_id)
        if known is None:
            return Refused(
                reason=Reason.UNKNOWN_SETTLEMENT,
                message=f"There is no such settlement with {link.peer}; super-app settle list shows those there are.",
            )
        said = Said(
            kind=kind,
            terms=known.terms,
            reason=reason,
            pay_to=pay_to,
            bank_reference=bank_reference,
            received_minor=received_minor,
        )
        if known.state not in settlement_rules.MAY_FOLLOW[kind]:
            if settlement_rules.says_again(known, said):
                return known
            return Refused(
                reason=Reason.ALREADY_DECIDED,
                message=f"This settlement is {known.state.value.replace('_', ' ')}; that can no longer be said of it.",
                fields={"state": known.state.value},
            )
        refused = self._why_not(link)
        return self._say(cur, link, known, said, now_ms, now_ms)[1] if refused is None else refused

    def _answer(self, cur: Cursor, link: Link, settlement: Settlement, now_ms: int, due_ms: int) -> Link:
        """What needs no operator: refuse what is not owed, agree to what our operator lets through."""
        terms = settlement.terms
        if settlement.state is not SettlementState.PROPOSED:
            return link
        line = store.line(cur, link.link_id, terms.currency)
        reason: Reason | None = None
        if line is None or line.ours is None or line.ours.scale != terms.scale:
            reason = Reason.UNKNOWN_CURRENCY
        elif terms.amount_minor > -ledger.balance(cur, due_from(link.peer, terms.currency)):
            reason = Reason.EXCEEDS_DEBT
        if reason is not None:
            refusal = Said(kind=MessageType.SETTLE_REFUSE, terms=terms, reason=reason.value)
            return self._say(cur, link, settlement, refusal, now_ms, due_ms)[0]
        auto = settlement_store.auto(cur, link.link_id, terms.currency)
        if auto is None or terms.amount_minor > auto.agree_up_to_minor or not self._may_agree(cur, link, settlement):
            return link
        agreement = Said(kind=MessageType.SETTLE_AGREE, terms=terms, pay_to=auto.pay_to)
        return self._say(cur, link, settlement, agreement, now_ms, due_ms)[0]

    def _say(
        self, cur: Cursor, link: Link, known: Settlement | None, said: Said, now_ms: int, due_ms: int
    ) -> tuple[Link, Settlement]:
        """Sign an object of ours, and do what it says."""
        way = way_of(said.kind, Sender.OURS)
        settlement = self._lead_on(cur, link, way, known, said, now_ms)
        link, _ = self._chain.append(
            cur,
            link,
            said.kind,
            {**objects.settlement_fields(said.terms), **_fields(said)},
            due_ms=due_ms,
            now_ms=now_ms,
            wire_id=WireId(said.terms.settlement_id),
        )
        return link, settlement

    def _lead_on(
        self,
        cur: Cursor,
        link: Link,
        way: Way,
        known: Settlement | None,
        said: Said,
        now_ms: int,
        *,
        short: OnShort = OnShort.FAIL,
    ) -> Settlement:
        """Move the money that an object speaks of, and write the settlement as it then is."""
        before = known or settlement_rules.new(link, way, said.terms, now_ms)
        after = settlement_rules.after(before, said, now_ms)
        covered_minor = self._move_out(cur, after, now_ms, short) if way is Way.OUT else 0
        if way is Way.IN and after.state is SettlementState.RECEIVED:
            issued = house(AccountKind.ISSUED, after.terms.currency)
            owing = due_from(after.peer, after.terms.currency)
            received_minor = after.received_minor
            covered_minor = self._move(cur, after, Cause.SETTLE_RECEIVED, issued, owing, received_minor, now_ms, short)
        after = replace(after, covered_minor=before.covered_minor + covered_minor)
        if known is None:
            settlement_store.add(cur, after)
        else:
            self._put(cur, known, after)
        return after

    def _move_out(self, cur: Cursor, after: Settlement, now_ms: int, short: OnShort) -> int:
        """What an object does with our debt; how much of it had to be covered."""
        currency, amount_minor = after.terms.currency, after.terms.amount_minor
        owed, moving = due_to(after.peer, currency), in_transit(after.peer, currency)
        ended = after.state in (SettlementState.RECEIVED, SettlementState.NOT_RECEIVED)
        covered_minor = 0
        if after.state is SettlementState.SENT or ended:
            # Where a replay brings the end first, the beginning is made up for.
            covered_minor = self._move(cur, after, Cause.SETTLE_SENT, owed, moving, amount_minor, now_ms, short)
        if after.received_minor > 0:
            issued = house(AccountKind.ISSUED, currency)
            self._move(cur, after, Cause.SETTLE_PAID, moving, issued, after.received_minor, now_ms)
        if ended and after.received_minor < amount_minor:
            back_minor = amount_minor - after.received_minor
            self._move(cur, after, Cause.SETTLE_BACK, moving, owed, back_minor, now_ms)
        return covered_minor

    def _move(
        self,
        cur: Cursor,
        settlement: Settlement,
        cause: Cause,
        debit: AccountKey,
        credit: AccountKey,
        amount_minor: int,
        now_ms: int,
        short: OnShort = OnShort.FAIL,
    ) -> int:
        """Post one transfer of a settlement; again it changes nothing. How much of it had to be covered."""
        verdict = _post(cur, settlement, cause, debit, credit, amount_minor, now_ms)
        there_minor = 0 if verdict is None else verdict.fields.get("available")
        if verdict is None:
            return 0
        if short is OnShort.FAIL or verdict.reason is not Reason.INSUFFICIENT_FUNDS or not isinstance(there_minor, int):
            raise RuntimeError(f"a settlement cannot be booked as {cause}: {verdict.message}")
        covered_minor = amount_minor - there_minor
        suspense = house(AccountKind.SUSPENSE, settlement.terms.currency)
        legs = (suspense, debit) if debit.kind is AccountKind.DUE_TO else (credit, suspense)
        for cause_, (from_, to), minor in (
            (Cause.SETTLE_COVER, legs, covered_minor),
            (cause, (debit, credit), amount_minor),
        ):
            refused = _post(cur, settlement, cause_, from_, to, minor, now_ms)
            if refused is not None:
                raise RuntimeError(f"a settlement cannot be booked as {cause_}: {refused.message}")
        return covered_minor

    def _put(self, cur: Cursor, before: Settlement, after: Settlement) -> None:
        if not settlement_store.move(cur, before, after):
            raise RuntimeError(f"settlement {before.terms.settlement_id} changed under the one writer")

    def _why_not(self, link: Link) -> Refused | None:
        if self._chain.may_sign(link) is not MaySign.ALL:
            return self._chain.why_not(link, link.peer)
        return None if link.is_open else self._chain.why_not(None, link.peer)

    def _may_propose(self, link: Link) -> bool:
        return link.is_open and self._chain.may_sign(link) is MaySign.ALL

    def _timed_states(self, link: Link) -> frozenset[SettlementState]:
        """What may end by time: a dispute needs no signature, a lapse does."""
        sent = {SettlementState.SENT}
        return frozenset(sent | {SettlementState.PROPOSED} if self._may_propose(link) else sent)

    def _may_agree(self, cur: Cursor, link: Link, settlement: Settlement) -> bool:
        currency = settlement.terms.currency
        return settlement_rules.may_agree(
            settlement.terms.amount_minor,
            settlement_store.sum_of(cur, link.link_id, Way.IN, currency, _EXPECTED),
            -ledger.balance(cur, due_from(link.peer, currency)),
        )

    def _pay_to(self, cur: Cursor, link: Link, currency: AssetCode) -> str:
        auto = settlement_store.auto(cur, link.link_id, currency)
        return "" if auto is None else auto.pay_to

    def _proposes_ms(self, cur: Cursor, link: Link, auto: AutoSettle) -> int | None:
        """When a settlement is proposed by itself, from how things stand: 0 for now, None for not."""
        if auto.threshold_minor is None and auto.next_ms is None:
            return None
        line = store.line(cur, link.link_id, auto.currency)
        if line is None or line.theirs is None:
            return None
        net_minor = self.position(cur, link, line).net_minor
        if net_minor == 0 or settlement_store.sum_of(cur, link.link_id, Way.OUT, auto.currency, _SCHEDULED) > 0:
            return None
        if settlement_store.count_waiting(cur, link.link_id, Way.OUT) >= settlement_rules.MAX_OPEN:
            return None
        if auto.threshold_minor is None or net_minor < auto.threshold_minor:
            return auto.next_ms
        failed_ms = settlement_store.last_failure_ms(cur, link.link_id, Way.OUT, auto.currency)
        at_ms = 0 if failed_ms is None else failed_ms + settlement_rules.PAUSE_AFTER_FAILURE_MS
        return at_ms if auto.next_ms is None else min(at_ms, auto.next_ms)

    def _other_word(self, cur: Cursor, link: Link, said: Said) -> Stored | None:
        """What the peer had said before that this contradicts."""
        kinds = _EXCLUDES[said.kind]
        found = store.objects_of(cur, link.link_id, WireId(said.terms.settlement_id))
        return next((each for each in found if each.sender is Sender.THEIRS and each.type in kinds), None)


_EXCLUDES: Final[dict[MessageType, frozenset[MessageType]]] = {
    MessageType.SETTLE_AGREE: frozenset({MessageType.SETTLE_REFUSE}),
    MessageType.SETTLE_REFUSE: frozenset({MessageType.SETTLE_AGREE}),
    MessageType.SETTLE_CANCEL: frozenset({MessageType.SETTLE_SENT}),
    MessageType.SETTLE_SENT: frozenset({MessageType.SETTLE_CANCEL}),
    MessageType.SETTLE_RECEIVED: frozenset({MessageType.SETTLE_RECEIVED, MessageType.SETTLE_NOT_RECEIVED}),
    MessageType.SETTLE_NOT_RECEIVED: frozenset({MessageType.SETTLE_RECEIVED}),
}


def waits_of(settlement: Settlement) -> str:
    """Who has to do something about an open settlement, and what."""
    terms, peer = settlement.terms, settlement.peer
    money = format_money(terms.amount_minor, Asset(code=terms.currency, scale=terms.scale))
    ours = settlement.way is Way.OUT
    match settlement.state:
        case SettlementState.PROPOSED if ours:
            return f"waits for the operator of {peer} to agree that you pay {money}"
        case SettlementState.PROPOSED:
            return f"waits for you to agree that {peer} pays you {money}"
        case SettlementState.AGREED if ours:
            return f"waits for you to pay {money} to {peer}, and to say so here"
        case SettlementState.AGREED:
            return f"waits for the operator of {peer} to pay you {money}"
        case SettlementState.SENT if ours:
            return f"waits for the operator of {peer} to say whether {money} arrived"
        case SettlementState.SENT:
            return f"waits for you to say whether {money} arrived from {peer}"
        case SettlementState.DISPUTED if ours:
            return f"disputed: the operator of {peer} has not said for too long whether {money} arrived; talk to them"
        case SettlementState.DISPUTED:
            return f"disputed: you have not said for too long whether {money} arrived from {peer}; look, and say it"
        case _:
            return ""


def _post(
    cur: Cursor,
    settlement: Settlement,
    cause: Cause,
    debit: AccountKey,
    credit: AccountKey,
    amount_minor: int,
    now_ms: int,
) -> Refused | None:
    terms = settlement.terms
    order = Transfer(
        transfer_id=TransferId(f"{cause}:{settlement.link_id}:{settlement.way}:{terms.settlement_id}"),
        debit=debit,
        credit=credit,
        amount_minor=amount_minor,
        cause=cause,
        reference=terms.settlement_id,
    )
    verdict = ledger.transfer(cur, order, now_ms)
    return verdict if isinstance(verdict, Refused) else None


def reference_of(me: ServerName, settlement: Settlement) -> str:
    """The reference that goes on the real transfer."""
    debtor = me if settlement.way is Way.OUT else settlement.peer
    return settlement_rules.reference_of(settlement.link_id, debtor, settlement.terms.settlement_id)


def _said(found: ChainObject) -> Said:
    return Said(
        kind=found.type,
        terms=found.settlement_terms(),
        reason=found.reason,
        pay_to=found.pay_to,
        bank_reference=found.bank_reference,
        received_minor=found.received_minor,
    )


def _fields(said: Said) -> JsonObject:
    """What an object says beside its terms; a field without a value is absent."""
    values: JsonObject = {
        "reason": said.reason,
        "pay_to": said.pay_to,
        "reference": said.bank_reference,
        "received": said.received_minor,
    }
    return {name: value for name, value in values.items() if value}


def _timed(auto: AutoSettle, now_ms: int) -> AutoSettle:
    """With the next turn of its schedule."""
    return AutoSettle(
        currency=auto.currency,
        threshold_minor=auto.threshold_minor,
        every=auto.every,
        weekday=auto.weekday,
        minute_of_day=auto.minute_of_day,
        agree_up_to_minor=auto.agree_up_to_minor,
        pay_to=auto.pay_to,
        next_ms=None if auto.every is Every.NEVER else settlement_rules.next_turn_ms(auto, now_ms),
    )
