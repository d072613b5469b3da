"""STATEMENT: each side says what its books hold of a link, and the other compares that with its own. No money moves.

A statement speaks of the two chains up to itself and up to its ``seen``, and is signed only while nothing is missing
below either. So its reader can compute what it must say from its own books, less what has been signed since; clocks
and delays make no difference, and what differs is a fault of one of the two.
"""

from dataclasses import dataclass, replace
from typing import Final

from super_app.clearing import objects, statement_store, store
from super_app.clearing.chain import MAX_LIES, Chain, Handled, Taken
from super_app.clearing.model import (
    Alarm,
    ChainObject,
    CurrencyLine,
    Decision,
    EvidenceKind,
    InState,
    JsonObject,
    Link,
    MessageType,
    Outcome,
    Position,
    Sender,
    Statement,
    StatementState,
    Stored,
    WireId,
)
from super_app.clearing.rules import MaySign, SeenVerdict
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ledger import service as ledger
from super_app.ledger.model import due_from, due_to, in_transit
from super_app.money import AssetCode
from super_app.signing import canonical, digest

STATEMENT_EVERY_MS: Final = 86_400_000
STATEMENT_EVERY: Final = 1_000
"""Objects of ours after which there is a statement sooner."""
MAX_LATER: Final = 2_000
"""Objects of one chain since a statement with which it is still compared; with more, the next one is."""


@dataclass(slots=True)
class _Since:
    """What has been signed since a statement, in one currency and in minor units."""

    credited_by_them: int = 0
    settled_by_them: int = 0
    committed_by_them: int = 0
    receipted_by_us: int = 0
    voided_by_us: int = 0
    settled_by_us: int = 0


class Statements:
    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    # Ours.

    def tick(self, cur: Cursor, link: Link, now_ms: int) -> Link:
        """Sign a statement if it is time for one."""
        due_ms = self.next_ms(cur, link)
        last = statement_store.statement(cur, link.link_id, Sender.OURS)
        # One of the future was made by a clock that has gone back since.
        if due_ms is None or (now_ms < due_ms and (last is None or last.at_ms <= now_ms)):
            return link
        positions = _statable([self._position(cur, link, line) for line in store.lines(cur, link.link_id)])
        seen_seq = link.their_seq
        link, _ = self._chain.append(
            cur,
            link,
            MessageType.STATEMENT,
            {"positions": [objects.position_fields(each) for each in positions]},
            due_ms=now_ms,
            now_ms=now_ms,
        )
        statement_store.put_statement(
            cur,
            link.link_id,
            Statement(
                sender=Sender.OURS,
                epoch=link.our_epoch,
                seq=link.our_seq,
                seen_seq=seen_seq,
                at_ms=now_ms,
                state=StatementState.SAID,
            ),
        )
        return link

    def next_ms(self, cur: Cursor, link: Link) -> int | None:
        """When the next statement is due; None while none can be signed. In the past if enough has been signed."""
        if not link.is_open or self._chain.may_sign(link) is not MaySign.ALL or link.their_seq < link.their_newest:
            return None
        last = statement_store.statement(cur, link.link_id, Sender.OURS)
        at_ms = max(link.our_open_ms, link.their_open_ms) if last is None else last.at_ms
        since = 0 if last is None or last.epoch < link.our_epoch else last.seq
        # What the peer lacks of our older epochs it could not count.
        if statement_store.is_unsent_before(cur, link.link_id, link.our_epoch):
            return None
        return at_ms if link.our_seq - since >= STATEMENT_EVERY else at_ms + STATEMENT_EVERY_MS

    # Theirs.

    def on_statement(self, cur: Cursor, link: Link, found: ChainObject, now_ms: int) -> Handled:
        if len({each.currency for each in found.positions}) != len(found.positions):
            return Refused(reason=Reason.INVALID_VALUE, message="A statement names each currency once.")
        verdict, epoch, _ = self._chain.judge_seen(cur, link, found.seen)
        known = statement_store.statement(cur, link.link_id, Sender.THEIRS)
        link = self._chain.admit(cur, link, found, now_ms)
        if known is not None and (known.epoch, known.seq) > (found.epoch, found.seq):
            return Taken(link=link)
        # A seen that is no object of ours, or of an epoch that is over, names no state of our books.
        comparable = verdict is SeenVerdict.TRUE and epoch == link.our_epoch and found.epoch == link.their_epoch
        statement_store.put_statement(
            cur,
            link.link_id,
            Statement(
                sender=Sender.THEIRS,
                epoch=found.epoch,
                seq=found.seq,
                seen_seq=found.seen.seq,
                at_ms=now_ms,
                state=StatementState.WAITS if comparable else StatementState.NOT_COMPARED,
            ),
        )
        return Taken(link=link, alarm=self.compare(cur, link, now_ms))

    def compare(self, cur: Cursor, link: Link, now_ms: int) -> Alarm | None:
        """Compare the peer's newest statement, if it waits for that and nothing below it is missing any more."""
        found = statement_store.statement(cur, link.link_id, Sender.THEIRS)
        if found is None or found.state is not StatementState.WAITS:
            return None
        if found.epoch != link.their_epoch:
            self._judged(cur, link, found, StatementState.NOT_COMPARED)
            return None
        if link.their_seq < found.seq:
            return None
        stored = store.object_at(cur, link.link_id, Sender.THEIRS, found.epoch, found.seq)
        ours = self._later(cur, link, Sender.OURS, link.our_epoch, found.seen_seq)
        theirs = self._later(cur, link, Sender.THEIRS, found.epoch, found.seq)
        if stored is None or len(ours) > MAX_LATER or len(theirs) > MAX_LATER:
            self._judged(cur, link, found, StatementState.NOT_COMPARED)
            return None
        read = objects.read_object(store.content_of(stored.body))
        if not isinstance(read, ChainObject):
            raise TypeError("a stored statement no longer reads")
        differences = self._differences(cur, link, read.positions, ours, theirs)
        self._judged(cur, link, found, StatementState.DIFFERS if differences else StatementState.SAME)
        return self._record(cur, link, stored, differences, now_ms) if differences else None

    def _position(self, cur: Cursor, link: Link, line: CurrencyLine) -> Position:
        """What our books hold now. What is in transit is owed until the peer has confirmed it."""
        owed_minor = ledger.balance(cur, due_to(link.peer, line.currency))
        return Position(
            currency=line.currency,
            due_to_minor=owed_minor + ledger.balance(cur, in_transit(link.peer, line.currency)),
            due_from_minor=-ledger.balance(cur, due_from(link.peer, line.currency)),
            unreceipted_minor=line.unreceipted_minor,
            reserved_minor=line.reserved_minor,
        )

    def _later(self, cur: Cursor, link: Link, sender: Sender, epoch: int, seq: int) -> tuple[Stored, ...]:
        end = link.our_seq if sender is Sender.OURS else link.their_newest
        return store.objects_between(cur, link.link_id, sender, epoch, seq + 1, end, limit=MAX_LATER + 1)

    def _differences(
        self,
        cur: Cursor,
        link: Link,
        positions: tuple[Position, ...],
        ours: tuple[Stored, ...],
        theirs: tuple[Stored, ...],
    ) -> list[JsonObject]:
        """Where the statement is not what our books make of it; each with both figures."""
        since = self._since(cur, link, ours, theirs)
        said = {each.currency: each for each in positions}
        lines = {line.currency: line for line in store.lines(cur, link.link_id)}
        doubted = statement_store.doubted_minor(cur, link.link_id)
        found: list[JsonObject] = []
        for currency in sorted({*said, *lines, *doubted}):
            line = lines.get(currency)
            here = None if line is None else self._position(cur, link, line)
            expected = _expected(here, since.get(currency, _Since()), doubted.get(currency, 0))
            claim = said.get(currency)
            claimed = (
                (0, 0, 0)
                if claim is None
                else (
                    claim.due_to_minor,
                    claim.due_from_minor,
                    claim.unreceipted_minor,
                )
            )
            for name, theirs_minor, ours_minor in zip(_COMPARED, claimed, expected, strict=True):
                if theirs_minor != ours_minor:
                    found.append({"currency": currency, "field": name, "said": theirs_minor, "here": ours_minor})
        return found

    def _since(
        self, cur: Cursor, link: Link, ours: tuple[Stored, ...], theirs: tuple[Stored, ...]
    ) -> dict[AssetCode, _Since]:
        found: dict[AssetCode, _Since] = {}
        for stored in (*ours, *theirs):
            if stored.type not in _MOVING:
                continue
            content = store.content_of(stored.body)
            sums = found.setdefault(AssetCode(content["currency"]), _Since())
            amount_minor = int(content["amount"])
            is_ours, is_credited = stored.sender is Sender.OURS, content.get("reason") == Outcome.CREDITED
            match stored.type:
                case MessageType.COMMIT if not is_ours:
                    sums.committed_by_them += amount_minor
                case MessageType.RECEIPT if is_ours and self._answers_commit(cur, link, stored.wire_id):
                    sums.receipted_by_us += amount_minor
                    sums.voided_by_us += 0 if is_credited else amount_minor
                case MessageType.RECEIPT if not is_ours and is_credited:
                    sums.credited_by_them += amount_minor
                case MessageType.SETTLE_RECEIVED if is_ours:
                    sums.settled_by_us += int(content["received"])
                case MessageType.SETTLE_RECEIVED:
                    sums.settled_by_them += int(content["received"])
                case _:
                    pass
        return found

    def _answers_commit(self, cur: Cursor, link: Link, wire_id: WireId | None) -> bool:
        payment = None if wire_id is None else store.in_(cur, link.link_id, wire_id)
        return payment is not None and payment.decision is Decision.COMMIT and payment.state is not InState.DOUBT

    def _judged(self, cur: Cursor, link: Link, found: Statement, state: StatementState) -> None:
        statement_store.put_statement(cur, link.link_id, replace(found, state=state))

    def _record(self, cur: Cursor, link: Link, stored: Stored, differences: list[JsonObject], now_ms: int) -> Alarm:
        kind = EvidenceKind.STATEMENT_DIFFERS
        if store.evidence_counts(cur, link.link_id).get(kind, 0) < MAX_LIES:
            ours: JsonObject = {"link_id": link.link_id, "statement": stored.message_id, "differences": differences}
            first = (digest(ours), canonical(ours).decode())
            store.add_evidence(cur, link.link_id, kind, first, (stored.message_id, stored.body), now_ms)
        told = ", ".join(
            f"{each['currency']} {each['field']} {each['said']} there and {each['here']} here" for each in differences
        )
        return Alarm(kind=kind, peer=link.peer, message=f"The books of {link.peer} differ from ours: {told}.")


_COMPARED: Final = ("due_to", "due_from", "unreceipted")
_MOVING: Final = frozenset({MessageType.COMMIT, MessageType.RECEIPT, MessageType.SETTLE_RECEIVED})


def _statable(positions: list[Position]) -> list[Position]:
    """As many as one statement may hold. What is left out says nothing: it is all zero, as the reader then takes it."""
    if len(positions) <= objects.MAX_CURRENCIES:
        return positions
    telling = [
        each
        for each in positions
        if each.due_to_minor or each.due_from_minor or each.unreceipted_minor or each.reserved_minor
    ]
    return telling[: objects.MAX_CURRENCIES]


def _expected(here: Position | None, since: _Since, doubted_minor: int) -> tuple[int, int, int]:
    """What the peer's statement must say, in the order of ``_COMPARED``: our books without what was signed since."""
    owed_minor = 0 if here is None else here.due_to_minor - here.unreceipted_minor
    owing_minor = 0 if here is None else here.due_from_minor
    return (
        owing_minor + since.voided_by_us + since.settled_by_us + doubted_minor - since.committed_by_them,
        owed_minor - since.credited_by_them + since.settled_by_them,
        since.receipted_by_us + doubted_minor - since.committed_by_them,
    )
