"""The operations of disputes. Each runs inside the transaction of the ledger's writer, so none meets another.

A dispute moves no money. What comes back comes back by payments of their own (refunds), which are heard of here when
they are completed; the sum of them never exceeds the payment, as payments themselves see to.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Final

from super_app.clearing import store as clearing_store
from super_app.clearing.model import Sender
from super_app.db import Cursor
from super_app.disputes import rules, store
from super_app.disputes.model import Act, Author, Case, CaseState, Entry, Ground, Told, key_of
from super_app.errors import Reason, Refused
from super_app.ids import Acct, PaymentId, ServerName, UserId, server_of
from super_app.money import AssetCode
from super_app.payments import store as payments
from super_app.payments.model import Payment, PaymentKey, State
from super_app.payments.service import payer_key_of, unknown_payment
from super_app.signing import digest, verify

MAX_PAGE: Final = 100
Note = Callable[[Cursor, Case, Entry, int], None]
"""Hears of each new line of a timeline, inside the transaction in which it is written."""


class Disputes:
    """Disputes of one homeserver, as the one that keeps the case or as the payee's."""

    def __init__(self, server_name: ServerName) -> None:
        self._server_name = server_name
        self._notes: list[Note] = []

    def while_changing(self, note: Note) -> None:
        self._notes.append(note)

    # The two sides.

    def open(
        self,
        cur: Cursor,
        payer: Acct,
        payment_id: PaymentId,
        *,
        ground: Ground,
        text: str,
        wanted_minor: int | None,
        entry_id: str,
        now_ms: int,
    ) -> Case | Refused:
        """Dispute a payment, all that has not come back of it if no amount is named. Once for a payment.

        The same again gives the case as it now is.
        """
        payment = payments.find(cur, key_of(payer, payment_id))
        if payment is None:
            return unknown_payment(payment_id)
        existing = store.find(cur, payment.key)
        if existing is not None:
            first = store.timeline(cur, payment.key)[0]
            same = existing.ground is ground and first.text == text
            if same and wanted_minor in (None, existing.wanted_minor):
                return existing
            return Refused(
                reason=Reason.CONFLICT, message="There is a dispute about this payment already; add a statement to it."
            )
        refundable_minor = payment.money.amount_minor - payments.refunded_minor(cur, payment, None)
        wanted = refundable_minor if wanted_minor is None else wanted_minor
        refused = rules.judge_text(text) or rules.judge_opening(payment, payer, wanted, refundable_minor, now_ms)
        if refused is not None:
            return refused
        case = Case(
            key=payment.key,
            is_home=True,
            payer=payment.payer,
            payee=payment.payee.user_id,
            payer_acct=payment.payer_acct,
            payee_acct=payment.payee_acct,
            ground=ground,
            currency=payment.money.currency,
            wanted_minor=wanted,
            granted_minor=None,
            state=CaseState.OPEN,
            opened_ms=now_ms,
        )
        store.add(cur, case)
        self._append(cur, case, Author.PAYER, Act.OPENED, text, wanted, entry_id, now_ms)
        return case

    def find(self, cur: Cursor, acct: Acct, key: PaymentKey) -> Case | Refused:
        case = store.find(cur, key)
        if case is None or rules.side_of(case, acct) is None:
            return rules.unknown_dispute()
        return case

    def of(self, cur: Cursor, acct: Acct) -> tuple[Case, ...]:
        return store.of(cur, acct, MAX_PAGE)

    def waiting(self, cur: Cursor, state: CaseState) -> tuple[Case, ...]:
        """For operators: cases of a state, oldest first."""
        return store.by_state(cur, state, MAX_PAGE)

    def timeline(self, cur: Cursor, case: Case) -> tuple[Entry, ...]:
        return store.timeline(cur, case.key)

    def state(self, cur: Cursor, acct: Acct, key: PaymentKey, text: str, entry_id: str, now_ms: int) -> Case | Refused:
        """One side says something. The same ``entry_id`` again changes nothing."""
        case = self.find(cur, acct, key)
        if isinstance(case, Refused):
            return case
        author = rules.side_of(case, acct) or Author.PAYER
        said = store.timeline(cur, key)
        known = next((each for each in said if each.entry_id == entry_id), None)
        if known is not None:
            if known.text == text and known.author is author:
                return case
            return Refused(reason=Reason.CONFLICT, message="You have used statement_id for another statement.")
        refused = rules.judge_text(text) or rules.judge_saying(case, author, said)
        if refused is not None:
            return refused
        if case.is_home:
            self._append(cur, case, author, Act.STATED, text, None, entry_id, now_ms)
            return case
        entry = Entry(
            entry_id=entry_id,
            number=0,
            author=author,
            act=Act.STATED,
            text=text,
            amount_minor=None,
            made_ms=now_ms,
        )
        store.add_entry(cur, key, entry)
        store.owe(cur, key, entry, server_of(case.payer), now_ms)
        return case

    def withdraw(self, cur: Cursor, payer: Acct, key: PaymentKey, entry_id: str, now_ms: int) -> Case | Refused:
        case = self.find(cur, payer, key)
        if isinstance(case, Refused):
            return case
        if rules.side_of(case, payer) is not Author.PAYER:
            return Refused(reason=Reason.NOT_ALLOWED, message="Only who opened a dispute withdraws it.")
        if case.state is CaseState.WITHDRAWN:
            return case
        return self._act(cur, case, Author.PAYER, Act.WITHDRAWN, "", None, entry_id, now_ms)

    # The operator of the homeserver that keeps it.

    def decide(
        self, cur: Cursor, key: PaymentKey, granted_minor: int | None, text: str, entry_id: str, now_ms: int
    ) -> Case | Refused:
        """Grant so much of what is wanted, or reject (None). Said again the same, it changes nothing."""
        case = store.find(cur, key)
        if case is None:
            return rules.unknown_dispute()
        if not case.is_home:
            return Refused(
                reason=Reason.NOT_ALLOWED,
                message=f"The operator of the payer's homeserver ({server_of(case.payer)}) decides this dispute.",
            )
        refused = rules.judge_text(text)
        if refused is not None:
            return refused
        wanted = CaseState.REJECTED if granted_minor is None else CaseState.GRANTED
        if case.state is wanted and case.granted_minor == granted_minor:
            return case
        if granted_minor is not None and not 1 <= granted_minor <= case.wanted_minor:
            return Refused(
                reason=Reason.INVALID_VALUE,
                message=f"amount: {case.wanted_minor} minor units are disputed; grant 1 to {case.wanted_minor}.",
            )
        act = Act.REJECTED if granted_minor is None else Act.GRANTED
        return self._act(cur, case, Author.OPERATOR, act, text, granted_minor, entry_id, now_ms)

    def to_refund(self, cur: Cursor, key: PaymentKey) -> tuple[Payment, int] | Refused:
        """What the payee's homeserver has to give back of a case that was granted: the payment, and how much of it."""
        case = store.find(cur, key)
        if case is None:
            return rules.unknown_dispute()
        if case.state is not CaseState.GRANTED:
            return rules.closed(case) if case.state.final else _not_granted()
        payment = payments.find(cur, key)
        if payment is None or payment.payee_acct is None:
            return Refused(
                reason=Reason.NOT_ALLOWED,
                message=f"The payee is on {server_of(case.payee)}; its operator gives it back from there.",
            )
        refundable_minor = payment.money.amount_minor - payments.refunded_minor(cur, payment, None)
        left_minor = min(case.due_minor - rules.refunded_minor(store.timeline(cur, key)), refundable_minor)
        if left_minor > 0:
            return payment, left_minor
        return Refused(reason=Reason.CONFLICT, message="It is being given back already; look again in a moment.")

    # What payments tell.

    def payment_changed(self, cur: Cursor, payment: Payment, now_ms: int) -> bool:
        """A refund that is completed is a line of the case that it belongs to. Whether there is one."""
        if payment.refund_of is None or payment.state is not State.COMPLETED:
            return False
        key = key_of(payer_key_of(cur, self._server_name, payment.payee.user_id), payment.refund_of)
        case = store.find(cur, key)
        if case is None or not case.is_home or case.state.final or case.payee != payment.payer:
            return False
        entry_id = _hex(digest(["refund", payment.payer_key, payment.payment_id]))
        if any(entry.entry_id == entry_id for entry in store.timeline(cur, key)):
            return False
        minor = payment.money.amount_minor
        self._act(cur, case, Author.PAYEE, Act.REFUNDED, "", minor, entry_id, now_ms)
        return True

    # Between homeservers.

    def told(
        self, cur: Cursor, told: Told, origin: ServerName, content: dict[str, object], now_ms: int
    ) -> Refused | None:
        """Another homeserver tells of a case. Said again, it changes nothing.

        WRONG_ORIGIN, NO_LINK, BAD_SIGNATURE; UNKNOWN_PAYMENT if there is no such payment between the two.
        """
        refused = rules.judge_told(told, origin, self._server_name) or self._judge_signature(cur, told, origin, content)
        if refused is not None:
            return refused
        key = key_of(payer_key_of(cur, self._server_name, UserId(told.payer)), told.payment_id)
        payment = payments.find(cur, key)
        if payment is None or payment.payee.user_id != told.payee or payment.state is not State.COMPLETED:
            return unknown_payment(PaymentId(told.payment_id))
        case = store.find(cur, key)
        if server_of(UserId(told.payer)) == self._server_name:
            return self._payee_said(cur, case, told, now_ms)
        return self._case_told(cur, case, payment, told, now_ms)

    def _payee_said(self, cur: Cursor, case: Case | None, told: Told, now_ms: int) -> Refused | None:
        if case is None:
            return rules.unknown_dispute()
        said = store.timeline(cur, case.key)
        if any(entry.entry_id == told.entry_id for entry in said):
            return None
        refused = rules.judge_text(told.text) or rules.judge_saying(case, Author.PAYEE, said)
        if refused is not None:
            return refused
        self._append(cur, case, Author.PAYEE, Act.STATED, told.text, None, told.entry_id, now_ms)
        return None

    def _case_told(self, cur: Cursor, case: Case | None, payment: Payment, told: Told, now_ms: int) -> Refused | None:
        entry = Entry(
            entry_id=told.entry_id,
            number=told.number,
            author=Author(told.author),
            act=Act(told.act),
            text=told.text,
            amount_minor=told.amount,
            made_ms=told.made_ms,
        )
        if case is None:
            if entry.act is not Act.OPENED or entry.number != 1:
                return rules.unknown_dispute()
            if told.currency != payment.money.currency or told.wanted > payment.money.amount_minor:
                return Refused(
                    reason=Reason.REFUND_EXCEEDS_PAYMENT, message="A dispute is about no more than the payment was."
                )
            case = Case(
                key=payment.key,
                is_home=False,
                payer=payment.payer,
                payee=payment.payee.user_id,
                payer_acct=None,
                payee_acct=payment.payee_acct,
                ground=Ground(told.ground),
                currency=AssetCode(told.currency),
                wanted_minor=told.wanted,
                granted_minor=None,
                state=CaseState.OPEN,
                opened_ms=told.opened_ms,
            )
            store.add(cur, case)
            self._write(cur, case, entry, now_ms)
            return None
        said = store.timeline(cur, case.key)
        known = next((each for each in said if each.entry_id == entry.entry_id), None)
        if known is not None:
            store.take_in(cur, case.key, entry.entry_id, entry.number)
            return None
        if entry.number != max(each.number for each in said) + 1:
            return Refused(reason=Reason.CONFLICT, message="Something of this dispute was told before and is missing.")
        refunded_minor = rules.refunded_minor((*said, entry))
        after = rules.after(case, entry.act, entry.amount_minor, refunded_minor)
        if after is None:
            return rules.closed(case)
        self._write(cur, after, entry, now_ms)
        store.advance(cur, case, after)
        return None

    def _judge_signature(
        self, cur: Cursor, told: Told, origin: ServerName, content: dict[str, object]
    ) -> Refused | None:
        for link in clearing_store.links(cur):
            if link.peer == origin:
                known = {str(each): key for each, key in clearing_store.keys(cur, link.link_id, Sender.THEIRS).items()}
                if told.key_id in known and verify(content, known[told.key_id]):
                    return None
                return Refused(
                    reason=Reason.BAD_SIGNATURE,
                    message=f"The signature is not made with a payment key of {origin} that is pinned here.",
                )
        return Refused(reason=Reason.NO_LINK, message=f"There is no link with {origin}.")

    # Steps that these share.

    def _act(
        self,
        cur: Cursor,
        case: Case,
        author: Author,
        act: Act,
        text: str,
        amount_minor: int | None,
        entry_id: str,
        now_ms: int,
    ) -> Case | Refused:
        refunded_minor = rules.refunded_minor(store.timeline(cur, case.key))
        if act is Act.REFUNDED:
            refunded_minor += amount_minor or 0
        after = rules.after(case, act, amount_minor, refunded_minor)
        if after is None:
            return rules.closed(case)
        if after != case and not store.advance(cur, case, after):
            raise RuntimeError(f"the dispute about {case.key} moved inside the transaction of the one writer")
        self._append(cur, after, author, act, text, amount_minor, entry_id, now_ms)
        return after

    def _append(
        self,
        cur: Cursor,
        case: Case,
        author: Author,
        act: Act,
        text: str,
        amount_minor: int | None,
        entry_id: str,
        now_ms: int,
    ) -> None:
        number = 1 + max((each.number for each in store.timeline(cur, case.key)), default=0)
        entry = Entry(
            entry_id=entry_id,
            number=number,
            author=author,
            act=act,
            text=text,
            amount_minor=amount_minor,
            made_ms=now_ms,
        )
        self._write(cur, case, entry, now_ms)
        if case.payee_acct is None:
            store.owe(cur, case.key, entry, server_of(case.payee), now_ms)

    def _write(self, cur: Cursor, case: Case, entry: Entry, now_ms: int) -> None:
        store.add_entry(cur, case.key, entry)
        for note in self._notes:
            note(cur, case, entry, now_ms)


def told_of(case: Case, entry: Entry, from_server: ServerName, to_server: ServerName) -> dict[str, object]:
    """What is signed and sent of one line of a case."""
    said: dict[str, object | None] = {
        "type": "org.superapp.dispute",
        "v": 1,
        "from_server": from_server,
        "to_server": to_server,
        "payer": case.payer,
        "payee": case.payee,
        "payment_id": case.key.payment_id,
        "ground": case.ground.value,
        "currency": case.currency,
        "wanted": case.wanted_minor,
        "opened_ms": case.opened_ms,
        "entry_id": entry.entry_id,
        "number": entry.number,
        "author": entry.author.value,
        "act": entry.act.value,
        "text": entry.text,
        "amount": entry.amount_minor,
        "made_ms": entry.made_ms,
    }
    return {name: each for name, each in said.items() if each is not None}


def refund_id_of(key: PaymentKey) -> PaymentId:
    """The id of the one refund that an operator can order because of a case."""
    return PaymentId(_hex(digest(["dispute", key.payer_key, key.payment_id])))


def _hex(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]


def _not_granted() -> Refused:
    return Refused(reason=Reason.CONFLICT, message="This dispute is not decided yet; decide it, or hear both sides.")
