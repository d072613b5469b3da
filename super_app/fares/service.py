"""The operations of calls by the minute. Each runs inside the transaction of the ledger's writer.

The caller's homeserver has the meter. What it put aside for a call lies on the caller's account of the kind ``gift``;
a part of it is freed and set aside again for a payment, which then takes the course of every payment. At every step:
what lies aside + what its payments hold or have paid + what went back = what was put in. Where a call stands is read
from the caller's own record of it each time, so a crash loses nothing and a step that is done again charges nothing.

A refusal has written nothing. It is payments' ``Pots``.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from super_app.calls import store as calls
from super_app.calls.model import CallId, Direction, Record, SessionId
from super_app.calls.model import State as CallState
from super_app.clearing.ports import Party
from super_app.conferences.model import Stay
from super_app.db import Cursor
from super_app.errors import Refused
from super_app.fares import rules, store
from super_app.fares.model import (
    AGREED_MS,
    ASK_FOR_MS,
    INVOICE_PREFIX,
    OPEN_MAX,
    TERMS_MAX,
    TERMS_OF_SERVER_MAX,
    USED_UP,
    Fare,
    FareKey,
    FareState,
    Part,
    PartState,
    Stepped,
    Terms,
    TermsState,
)
from super_app.fares.ports import Guards
from super_app.ids import Acct, PaymentId, RoomId, ServerName, UserId, server_of
from super_app.ledger import service as ledger
from super_app.ledger.model import AccountKey, Cause, Transfer, TransferId, Violation, aside, available
from super_app.money import AssetCode, Money
from super_app.payments.model import Order, Payment, Salts, State
from super_app.payments.service import Payments, payments_halted

_LOOK_AT: Final = 5
"""How many calls are looked at for the one that uses what was agreed."""


Note = Callable[[Cursor, Fare], None]


class Fares:
    """Calls by the minute of one homeserver: those that its people pay for, and those that they are paid for."""

    def __init__(
        self, *, server_name: ServerName, payments: Payments, guards: Guards, is_halted: Callable[[], bool]
    ) -> None:
        self._server_name = server_name
        self._payments = payments
        self._guards = guards
        self._is_halted = is_halted
        self._notes: list[Note] = []

    def while_changing(self, note: Note) -> None:
        """Call ``note`` inside each transaction in which a call by the minute begins, is over, or is settled."""
        self._notes.append(note)

    # The caller.

    def agree(self, cur: Cursor, fare: Fare, now_ms: int, *, proven: bool = False) -> Fare | Refused:
        """Put money aside for a call whose price the caller has confirmed. The same again gives it as it now is.

        ``proven`` says that the caller's PIN came with it and was right. Refusals, in this order: CONFLICT,
        PAYMENTS_HALTED, LIMIT_EXCEEDED (open calls), NO_LINK, …, ACCOUNT_FROZEN, INSUFFICIENT_FUNDS, what the guards
        refuse. They judge the most that the call may come to, since nobody is asked again while it lasts.
        """
        existing = store.find(cur, fare.key)
        if existing is not None:
            return existing if rules.repeats(existing, fare) else rules.conflict(fare.fare_id)
        if self._is_halted():
            return payments_halted()
        before = self._agreed_before(cur, fare)
        if isinstance(before, Refused):
            return before
        if store.count_open(cur, fare.owner) - len(before) >= OPEN_MAX:
            return rules.too_many_open()
        first = replace(fare.price, amount_minor=fare.aside_minor)
        most = replace(fare.price, amount_minor=fare.ceiling_minor)
        freed_minor = sum(each.aside_minor for each in before)
        lacking = replace(first, amount_minor=max(1, first.amount_minor - freed_minor))
        refused = None if fare.is_local else self._payments.can_reach(cur, server_of(fare.callee), first)
        refused = refused or ledger.judge_hold(cur, fare.owner, lacking)
        refused = refused or self._guards.judge_aside(cur, fare.owner, most, fare.callee, proven=proven, now_ms=now_ms)
        if refused is not None:
            return refused
        for each in before:
            self._close(cur, replace(each, reason=CallState.CANCELLED.value), now_ms)
        moved = self._put_aside(cur, replace(fare, aside_minor=0), first.amount_minor, now_ms)
        if not isinstance(moved, Refused):
            store.add(cur, moved)
        return moved

    def cancel(self, cur: Cursor, key: FareKey, now_ms: int, stay: Stay | None = None) -> Fare | Refused:
        """The caller does without the call, or their homeserver was told no.

        ``stay`` says whether they are in the call by now, for a fare of a link.
        """
        fare = store.find(cur, key)
        if fare is None:
            return rules.unknown(key.fare_id)
        acts = rules.judge_cancel(fare, stay)
        if isinstance(acts, Refused) or not acts:
            return acts if isinstance(acts, Refused) else fare
        return self._close(cur, replace(fare, reason=CallState.CANCELLED.value), now_ms)

    def may_ring(self, cur: Cursor, owner: Acct, callee: UserId, call_id: CallId | None, now_ms: int) -> bool:
        """Whether somebody has confirmed a price for this ring: one that is still to come, or one that goes on.

        A ring comes in as many events as protocols are spoken, and the first of them uses what was confirmed. Those of
        MatrixRTC name no call, so they are of the one that goes on.
        """
        if store.awaits_ring(cur, owner, callee, now_ms - AGREED_MS):
            return True
        for session_id in store.sessions_with(cur, owner, callee):
            entry = calls.of_person(cur, owner, session_id)
            if entry is not None and entry.record.state.is_open and call_id in (None, entry.session.call_id):
                return True
        return False

    def lets_in(
        self, cur: Cursor, caller: UserId, link_id: str, payee: UserId, price: Money, room_id: RoomId, now_ms: int
    ) -> bool:
        """Whether somebody has confirmed a price for the call behind a link, which leads into a room.

        That it does is what the room says itself, and is kept: no other homeserver is believed about it.
        """
        for fare in store.of_link(cur, caller, link_id):
            if fare.callee == payee and rules.lets_in(fare, price, now_ms):
                if fare.room_id not in (None, room_id) and fare.state is FareState.RUNNING:
                    continue
                if fare.room_id != room_id:
                    store.found_room(cur, fare.key, room_id)
                return True
        return False

    def step(
        self,
        cur: Cursor,
        key: FareKey,
        salts: Salts,
        now_ms: int,
        *,
        stay: Stay | None = None,
        theirs_ms: int | None = None,
        told: bool = False,
    ) -> Stepped | None:
        """Look at the call and do what is due: pay a part, put more aside, let the rest go. None if it is over.

        What it does to the fare's state is noted. ``stay`` says whether the caller is in the call, for a fare of a
        link. ``told`` says that the callee's homeserver has said how long the call was by its own measure:
        ``theirs_ms``, None if it does not know better.
        """
        fare = store.find(cur, key)
        if fare is None or not fare.state.is_open:
            return None
        stepped = self._stepped(cur, fare, salts, now_ms, stay=stay, theirs_ms=theirs_ms, told=told)
        if stepped.fare.state is not fare.state:
            for note in self._notes:
                note(cur, stepped.fare)
        return stepped

    def _stepped(
        self,
        cur: Cursor,
        fare: Fare,
        salts: Salts,
        now_ms: int,
        *,
        stay: Stay | None,
        theirs_ms: int | None,
        told: bool,
    ) -> Stepped:
        if fare.link_id is None:
            fare, record = self._bound(cur, fare)
            reading = rules.read(fare, record, now_ms)
        else:
            reading = rules.read_stay(fare, stay or Stay(is_in=False), now_ms)
        if reading.state is FareState.ENDED:
            return Stepped(fare=self._close(cur, replace(fare, reason=reading.reason), now_ms))
        if reading.state is FareState.AGREED:
            store.put(cur, fare)
            return Stepped(fare=fare)
        fare = replace(fare, state=reading.state, answer_ms=reading.answer_ms, end_ms=reading.end_ms)
        if reading.state is FareState.RUNNING:
            return self._run(cur, fare, salts, now_ms)
        return self._finish(cur, fare, salts, now_ms, theirs_ms=theirs_ms, told=told)

    # The callee.

    def accept(self, cur: Cursor, terms: Terms) -> Terms | Refused:
        """The callee is to be paid so for one ring of a caller. Again it is what was agreed first.

        LIMIT_EXCEEDED where the caller, or all of another homeserver, have agreed to as many as are looked after.
        """
        known = store.terms_of(cur, terms.caller, terms.fare_id)
        if known is not None:
            return known
        if terms.link_id is not None:
            store.replace_terms(cur, terms)
        if store.count_terms(cur, terms.caller) >= TERMS_MAX:
            return rules.too_many_agreed(TERMS_MAX)
        server = server_of(terms.caller)
        if server != self._server_name and store.count_terms_of(cur, server) >= TERMS_OF_SERVER_MAX:
            return rules.too_many_agreed(TERMS_OF_SERVER_MAX)
        store.add_terms(cur, terms, rules.stem_of(terms.fare_id))
        return store.terms_of(cur, terms.caller, terms.fare_id) or terms

    def agreed_ms(self, cur: Cursor, callee: Acct, caller: UserId, price: Money, now_ms: int) -> int | None:
        """Since when a caller may ring, because they have agreed to pay no less than the price now; None if not."""
        terms = store.open_terms(cur, callee, caller, now_ms - AGREED_MS)
        if terms is None or terms.price.currency != price.currency or terms.price.amount_minor < price.amount_minor:
            return None
        return terms.agreed_ms

    def follow(self, cur: Cursor, caller: UserId, terms: Terms, now_ms: int) -> SessionId | None:
        """Look at a call that the callee is to be paid for; its session if it is not paid for and has to end."""
        known = store.terms_of(cur, caller, terms.fare_id)
        if known is None or known.state is TermsState.OVER:
            return None
        bound, unpaid = self._followed(cur, known, now_ms)
        if bound != known:
            store.put_terms(cur, bound)
        return unpaid

    def is_quiet(self, cur: Cursor, terms: Terms, stay: Stay | None, now_ms: int) -> bool:
        """Whether following terms would change nothing and end nothing, so that the writer is not asked to."""
        if stay is None:
            return self._followed(cur, terms, now_ms) == (terms, None)
        return rules.follow_stay(terms, stay, now_ms) == terms and not self._is_unpaid(cur, terms, stay, now_ms)

    def _followed(self, cur: Cursor, known: Terms, now_ms: int) -> tuple[Terms, SessionId | None]:
        """The terms as their call makes them, and its session if it is not paid for."""
        bound, record = self._bound_terms(cur, known)
        over = now_ms >= bound.agreed_ms + AGREED_MS if record is None else not record.state.is_open
        if over:
            bound = replace(bound, state=TermsState.OVER)
        if record is None or over or record.state is not CallState.ANSWERED:
            return bound, None
        if server_of(bound.caller) == self._server_name:
            # The meter is in this very database.
            return bound, None
        received = store.received_minor(cur, bound.callee_acct, bound.caller, rules.stem_of(bound.fare_id))
        talked_ms = rules.talked(record.answer_ms, now_ms)
        is_unpaid = rules.is_in_arrears(bound.price.amount_minor, talked_ms, received)
        return bound, bound.session_id if is_unpaid else None

    def is_admitted(self, cur: Cursor, caller: UserId, link_id: str, price: Money) -> bool:
        """Whether a caller of whatever homeserver has agreed to pay for the call behind a link of ours."""
        return any(rules.is_let_in_by(terms, price) for terms in store.terms_of_link(cur, caller, link_id))

    def follow_stay(self, cur: Cursor, terms: Terms, stay: Stay, now_ms: int) -> bool:
        """Look at a call behind a link that the callee is to be paid for; whether it is not paid for and has to end."""
        known = store.terms_of(cur, terms.caller, terms.fare_id)
        if known is None:
            return False
        seen = rules.follow_stay(known, stay, now_ms)
        if seen != known:
            store.put_terms(cur, seen)
        return self._is_unpaid(cur, seen, stay, now_ms)

    def _is_unpaid(self, cur: Cursor, seen: Terms, stay: Stay, now_ms: int) -> bool:
        if rules.outstays(seen, stay, now_ms):
            return True
        # Whoever has left is not shown out, and of one of ours the meter is in this very database.
        if not stay.is_in or seen.state is not TermsState.RUNNING or server_of(seen.caller) == self._server_name:
            return False
        received = store.received_minor(cur, seen.callee_acct, seen.caller, rules.stem_of(seen.fare_id))
        return rules.is_in_arrears(seen.price.amount_minor, rules.talked(seen.answer_ms, now_ms), received)

    def left(self, cur: Cursor, caller: UserId, terms: Terms, now_ms: int) -> Terms:
        """The caller's homeserver says that they have left the call behind a link, and pays for no more.

        Whether they have is seen here: the terms let them in no more, and are over when they are gone.
        """
        known = store.terms_of(cur, caller, terms.fare_id) or terms
        if known.state is TermsState.OVER or known.told_ms is not None:
            return known
        told = replace(known, told_ms=now_ms, end_ms=now_ms if known.end_ms is None else known.end_ms)
        store.put_terms(cur, told)
        return told

    def talked_ms(self, cur: Cursor, caller: UserId, terms: Terms) -> int | None:
        """How long a call was by the callee's own record; None while it lasts, or where it is not known any more."""
        if terms.link_id is not None:
            is_known = terms.answer_ms is not None and terms.end_ms is not None
            return rules.talked(terms.answer_ms, terms.end_ms or 0) if is_known else None
        if terms.session_id is None:
            return None
        entry = calls.of_person(cur, terms.callee_acct, terms.session_id)
        if entry is None or entry.record.state is CallState.ANSWERED or entry.record.state.is_open:
            return None
        record = entry.record
        return 0 if record.end_ms is None else rules.talked(record.answer_ms, record.end_ms)

    # What payments ask.

    def changed(self, cur: Cursor, payment: Payment, now_ms: int) -> None:
        """A payment of ours has moved: the part that it pays is paid, or its money lies aside again."""
        owner, invoice = payment.payer_acct, payment.invoice
        if owner is None or invoice is None or not invoice.startswith(INVOICE_PREFIX) or not payment.state.final:
            return
        found = store.part_of(cur, owner, payment.payment_id)
        if found is None:
            # An invoice that a person has written themselves.
            return
        key, part = found
        fare = store.find(cur, key)
        paid = payment.state is State.COMPLETED
        if fare is None or not store.decide_part(cur, key, part.number, PartState.PAID if paid else PartState.RETURNED):
            return
        if paid:
            reason = fare.reason if fare.reason == USED_UP else None
            store.put(cur, replace(fare, failures=0, retry_ms=None, reason=reason))
            return
        fare = self._failed(replace(fare, paid_minor=fare.paid_minor - part.amount_minor), now_ms)
        back = None if not fare.state.is_open else self._back(cur, fare, part, now_ms)
        if back is not None and not isinstance(back, Refused):
            fare = replace(fare, aside_minor=fare.aside_minor + part.amount_minor)
        store.put(cur, fare)

    def expects(self, cur: Cursor, payee: UserId, payer: UserId, payment_id: PaymentId, now_ms: int) -> bool:
        return store.has_terms(cur, payee, payer, rules.stem_of(payment_id))

    # Looking.

    def find(self, cur: Cursor, key: FareKey) -> tuple[Fare, tuple[Part, ...]] | Refused:
        fare = store.find(cur, key)
        return rules.unknown(key.fare_id) if fare is None else (fare, store.parts(cur, key))

    def aside_minor(self, cur: Cursor, acct: Acct, currency: AssetCode) -> int:
        """What of a person's money lies aside for their calls: safeguards' ``Aside``."""
        return store.aside_minor(cur, acct, currency)

    def beside(self, cur: Cursor) -> Mapping[tuple[str, str], int]:
        """What lies on the accounts of pots and is of calls: pots' ``Beside``."""
        return store.all_aside(cur)

    def violations(self, cur: Cursor) -> tuple[Violation, ...]:
        return store.wrong_totals(cur)

    # Steps that the above share.

    @staticmethod
    def _agreed_before(cur: Cursor, fare: Fare) -> list[Fare] | Refused:
        """What the caller has confirmed before for the same link, which a new confirmation takes the place of.

        One visit is paid once: CONFLICT while they are in the call.
        """
        if fare.link_id is None:
            return []
        known = [each for each in store.of_link(cur, fare.caller, fare.link_id) if each.callee == fare.callee]
        if any(each.state is FareState.RUNNING for each in known):
            return rules.in_the_call_already()
        return [each for each in known if each.state is FareState.AGREED]

    def _run(self, cur: Cursor, fare: Fare, salts: Salts, now_ms: int) -> Stepped:
        talked_ms = rules.talked(fare.answer_ms, now_ms)
        fare = self._extended(cur, fare, talked_ms, now_ms)
        warn = not fare.warned and rules.is_running_out(fare, talked_ms)
        used_up = rules.is_used_up(fare, talked_ms)
        fare = replace(fare, warned=fare.warned or warn, reason=USED_UP if used_up else fare.reason)
        hang_up = used_up or rules.has_given_up(fare)
        store.put(cur, fare)
        fare, paying = self._pay(cur, fare, talked_ms, salts, now_ms, is_over=False)
        return Stepped(fare=fare, hang_up=hang_up, warn=warn and not hang_up, paying=paying)

    def _finish(
        self, cur: Cursor, fare: Fare, salts: Salts, now_ms: int, *, theirs_ms: int | None, told: bool
    ) -> Stepped:
        own_ms = rules.talked(fare.answer_ms, now_ms if fare.end_ms is None else fare.end_ms)
        if fare.talked_ms is None:
            given_up = fare.end_ms is None or now_ms >= fare.end_ms + ASK_FOR_MS
            if not (fare.is_local or told or given_up):
                store.put(cur, fare)
                return Stepped(fare=fare, ask=True)
            fare = replace(fare, talked_ms=rules.charged_ms(own_ms, theirs_ms if told else None))
        talked_ms = fare.talked_ms or 0
        # Whatever it cannot cost any more goes back at once.
        spare_minor = fare.aside_minor - rules.part_minor(fare, talked_ms, is_over=True)
        if spare_minor > 0:
            fare = self._let_go(cur, fare, spare_minor, now_ms)
        store.put(cur, fare)
        fare, paying = self._pay(cur, fare, talked_ms, salts, now_ms, is_over=True)
        done = rules.part_minor(fare, talked_ms, is_over=True) == 0 and not store.is_paying(cur, fare.key)
        if done or rules.has_given_up(fare):
            fare = self._close(cur, fare, now_ms)
        return Stepped(fare=fare, paying=paying)

    def _pay(
        self, cur: Cursor, fare: Fare, talked_ms: int, salts: Salts, now_ms: int, *, is_over: bool
    ) -> tuple[Fare, bool]:
        """Pay what is due now, one part at a time; the fare as it is after it, and whether one is under way."""
        amount_minor = rules.part_minor(fare, talked_ms, is_over=is_over)
        if amount_minor == 0 or rules.has_given_up(fare) or store.is_paying(cur, fare.key):
            return fare, False
        if fare.retry_ms is not None and now_ms < fare.retry_ms:
            return fare, False
        part = Part(
            number=fare.parts,
            amount_minor=amount_minor,
            payment_id=rules.payment_id_of(fare.fare_id, fare.parts),
            state=PartState.UNDER_WAY,
        )
        order = Order(
            payment_id=part.payment_id,
            payer_acct=fare.owner,
            payer=fare.caller,
            payee=Party(user_id=fare.callee, acct=fare.callee_acct, handle=None),
            money=replace(fare.price, amount_minor=amount_minor),
            memo=rules.memo_of(talked_ms),
            invoice=fare.invoice,
        )
        refused = self._payments.judge_payout(cur, order, now_ms)
        if refused is not None:
            failed = replace(self._failed(fare, now_ms), reason=refused.reason.value)
            store.put(cur, failed)
            return failed, False
        # First, since the payment may end at once, and then finds its part.
        store.add_part(cur, fare.key, part)
        store.put(
            cur,
            replace(
                fare,
                parts=fare.parts + 1,
                aside_minor=fare.aside_minor - amount_minor,
                paid_minor=fare.paid_minor + amount_minor,
            ),
        )
        freed = Transfer(
            transfer_id=TransferId(f"fare_out:{_name(fare)}:{part.number}"),
            debit=_aside(fare),
            credit=available(fare.owner, fare.price.currency),
            amount_minor=amount_minor,
            cause=Cause.FARE_OUT,
            reference=_name(fare),
        )
        self._payments.pay_out(cur, order, freed, salts, now_ms)
        return self._again(cur, fare.key), not fare.is_local

    def _extended(self, cur: Cursor, fare: Fare, talked_ms: int, now_ms: int) -> Fare:
        more_minor = rules.extension_minor(fare, talked_ms)
        if more_minor == 0 or rules.is_late(fare, talked_ms):
            return fare
        money = replace(fare.price, amount_minor=more_minor)
        refused = (
            payments_halted()
            if self._is_halted()
            else ledger.judge_hold(cur, fare.owner, money)
            or self._guards.judge_aside(cur, fare.owner, money, fare.callee, proven=True, now_ms=now_ms)
        )
        extended = refused or self._put_aside(cur, fare, more_minor, now_ms)
        return fare if isinstance(extended, Refused) else replace(extended, warned=False)

    def _put_aside(self, cur: Cursor, fare: Fare, amount_minor: int, now_ms: int) -> Fare | Refused:
        posted = ledger.transfer(
            cur,
            Transfer(
                transfer_id=TransferId(f"fare:{_name(fare)}:{fare.moves}"),
                debit=available(fare.owner, fare.price.currency),
                credit=_aside(fare),
                amount_minor=amount_minor,
                cause=Cause.FARE,
                reference=_name(fare),
            ),
            now_ms,
        )
        if isinstance(posted, Refused):
            return posted
        return replace(fare, aside_minor=fare.aside_minor + amount_minor, moves=fare.moves + 1)

    def _back(self, cur: Cursor, fare: Fare, part: Part, now_ms: int) -> object:
        # It came back in this very transaction, unless an operator had advanced it: then it is gone from the call.
        return ledger.transfer(
            cur,
            Transfer(
                transfer_id=TransferId(f"fare_back:{_name(fare)}:{part.number}"),
                debit=available(fare.owner, fare.price.currency),
                credit=_aside(fare),
                amount_minor=part.amount_minor,
                cause=Cause.FARE_BACK,
                reference=_name(fare),
            ),
            now_ms,
        )

    def _let_go(self, cur: Cursor, fare: Fare, amount_minor: int, now_ms: int) -> Fare:
        posted = ledger.transfer(
            cur,
            Transfer(
                transfer_id=TransferId(f"fare_end:{_name(fare)}:{fare.moves}"),
                debit=_aside(fare),
                credit=available(fare.owner, fare.price.currency),
                amount_minor=amount_minor,
                cause=Cause.FARE_END,
                reference=_name(fare),
            ),
            now_ms,
        )
        if isinstance(posted, Refused):
            raise RuntimeError(f"what lies aside for call {fare.fare_id} does not go back: {posted.message}")
        return replace(fare, aside_minor=fare.aside_minor - amount_minor, moves=fare.moves + 1)

    def _close(self, cur: Cursor, fare: Fare, now_ms: int) -> Fare:
        if fare.aside_minor:
            fare = self._let_go(cur, fare, fare.aside_minor, now_ms)
        closed = replace(fare, state=FareState.ENDED, retry_ms=None)
        store.put(cur, closed)
        return closed

    @staticmethod
    def _failed(fare: Fare, now_ms: int) -> Fare:
        failures = fare.failures + 1
        return replace(fare, failures=failures, retry_ms=rules.retry_at_ms(failures, now_ms))

    def _bound(self, cur: Cursor, fare: Fare) -> tuple[Fare, Record | None]:
        """The fare with the call that uses it: the first one that the caller rang after they agreed."""
        if fare.session_id is None:
            rang = calls.with_peer(cur, fare.owner, fare.callee, Direction.OUTGOING, fare.agreed_ms, _LOOK_AT)
            free = [each for each in rang if not store.uses(cur, fare.owner, each)]
            if not free:
                return fare, None
            fare = replace(fare, session_id=free[0])
        entry = calls.of_person(cur, fare.owner, fare.session_id or SessionId(""))
        return fare, None if entry is None else entry.record

    def _bound_terms(self, cur: Cursor, terms: Terms) -> tuple[Terms, Record | None]:
        if terms.session_id is None:
            rang = calls.with_peer(cur, terms.callee_acct, terms.caller, Direction.INCOMING, terms.agreed_ms, _LOOK_AT)
            free = [each for each in rang if not store.session_has_terms(cur, terms.callee_acct, each)]
            if not free:
                return terms, None
            terms = replace(terms, session_id=free[0], state=TermsState.RUNNING)
        entry = calls.of_person(cur, terms.callee_acct, terms.session_id or SessionId(""))
        return terms, None if entry is None else entry.record

    def _again(self, cur: Cursor, key: FareKey) -> Fare:
        fare = store.find(cur, key)
        if fare is None:
            raise RuntimeError(f"call {key} vanished inside its own transaction")
        return fare


def _name(fare: Fare) -> str:
    return f"{fare.owner}:{fare.fare_id}"


def _aside(fare: Fare) -> AccountKey:
    return aside(fare.owner, fare.price.currency)
