"""The operations of pots. Each runs inside the transaction of the ledger's writer, so claims that race meet one by one.

What is free in open pots lies on the giver's account of the kind ``gift``. A claim frees its share, and in the same
transaction sets it aside again for a payment of the giver, which then takes the course of every payment. If that comes
to nothing, the share is put back; if the pot is over by then, it stays with the giver. At every step: what lies in the
pot + what its payments hold or have paid + what went back = what was put in.

It is payments' ``Pots``. A refusal has written nothing.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from super_app.clearing.ports import Party
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct, EventId, PaymentId, RoomId, UserId
from super_app.ledger import service as ledger
from super_app.ledger.model import AccountKey, Cause, Transfer, TransferId, Violation, aside, available
from super_app.money import AssetCode, Money
from super_app.payments import store as payments
from super_app.payments.model import Order, PayerKey, Payment, PaymentKey, Salts, State
from super_app.payments.service import Payments, payments_halted
from super_app.pots import rules, store
from super_app.pots.model import (
    EXPECTED_MS,
    INVOICE_PREFIX,
    OPEN_MAX,
    Claim,
    Claimed,
    Kind,
    Pot,
    PotId,
    PotKey,
    PotState,
    Share,
    ShareState,
)
from super_app.pots.ports import Guards, Members

MAX_PAGE: Final = 100

Note = Callable[[Cursor, Pot, int], None]
"""Hears of a pot that is new or has changed, inside the transaction. What it writes is as durable as that."""

Beside = Callable[[Cursor], Mapping[tuple[str, str], int]]
"""How many minor units another part has put aside, by owner and currency."""


class Pots:
    """Pots of one homeserver, and what its people claim of others'."""

    def __init__(self, *, payments: Payments, guards: Guards, members: Members, is_halted: Callable[[], bool]) -> None:
        self._payments = payments
        self._guards = guards
        self._members = members
        self._is_halted = is_halted
        self._notes: list[Note] = []
        self._beside: list[Beside] = []

    def while_changing(self, note: Note) -> None:
        self._notes.append(note)

    # The giver.

    def make(
        self, cur: Cursor, pot: Pot, amounts_minor: Sequence[int], now_ms: int, *, proven: bool = False
    ) -> Pot | Refused:
        """Put the money of a pot aside. The same one again gives it as it now is; another under its id is CONFLICT.

        ``proven`` says that the giver's PIN came with it and was right. Refusals, in this order: CONFLICT,
        PAYMENTS_HALTED, LIMIT_EXCEEDED (open pots), ACCOUNT_FROZEN, INSUFFICIENT_FUNDS, what the guards refuse.
        """
        existing = store.find(cur, pot.key)
        if existing is not None:
            return existing if rules.repeats(existing, pot) else rules.conflict(pot.pot_id)
        if self._is_halted():
            return payments_halted()
        if store.count_open(cur, pot.giver_acct) >= OPEN_MAX:
            return rules.too_many_open()
        refused = ledger.judge_hold(cur, pot.giver_acct, pot.money) or self._guards.judge_aside(
            cur, pot.giver_acct, pot.money, pot.only, proven=proven, now_ms=now_ms
        )
        if refused is not None:
            return refused
        posted = ledger.transfer(
            cur,
            Transfer(
                transfer_id=TransferId(f"pot:{_name(pot.key)}"),
                debit=available(pot.giver_acct, pot.money.currency),
                credit=_aside(pot),
                amount_minor=pot.money.amount_minor,
                cause=Cause.POT,
                reference=_name(pot.key),
            ),
            now_ms,
        )
        if isinstance(posted, Refused):
            return posted
        store.add(cur, pot, amounts_minor)
        self._told(cur, pot, now_ms)
        return pot

    def stands(self, cur: Cursor, key: PotKey, room_id: RoomId, event_id: EventId, now_ms: int) -> None:
        """The event that shows a pot to people is in its room. Said again, it changes nothing."""
        pot = store.find(cur, key)
        if pot is not None and pot.event_id is None:
            store.set_event(cur, key, room_id, event_id)
            self._told(cur, replace(pot, room_id=room_id, event_id=event_id), now_ms)

    def cancel(self, cur: Cursor, kind: Kind, key: PotKey, now_ms: int) -> Pot | Refused:
        """The giver takes back what nobody has claimed."""
        pot = store.find(cur, key)
        if pot is None or pot.kind is not kind:
            return rules.unknown(kind, key.pot_id)
        acts = rules.judge_cancel(pot)
        if isinstance(acts, Refused) or not acts:
            return acts if isinstance(acts, Refused) else pot
        return self._close(cur, pot, PotState.CANCELLED, now_ms)

    def expire(self, cur: Cursor, key: PotKey, now_ms: int) -> Pot | None:
        """Its time is over: what nobody has claimed goes back. None if there is nothing to do."""
        pot = store.find(cur, key)
        if pot is None or pot.state is not PotState.OPEN or now_ms < pot.expires_ms:
            return None
        return self._close(cur, pot, PotState.EXPIRED, now_ms)

    # Who claims.

    def claim(self, cur: Cursor, claim: Claim, salts: Salts, now_ms: int) -> Claimed | Refused:
        """Pay a free share to who claims it; once for each of them, and again the same for who claims again.

        Refusals, in this order: those of ``rules.judge_claim``, NOT_ALLOWED (the giver has blocked them), GIFT_GONE,
        those of ``Payments.judge_payout``.
        """
        store.lock(cur, claim.giver, claim.pot_id)
        pot = store.named(cur, claim.giver, claim.pot_id)
        if pot is None:
            return rules.unknown(claim.kind, claim.pot_id)
        had = store.share_of(cur, pot.key, claim.claimer)
        if had is not None and had.state is ShareState.TAKEN and pot.kind is claim.kind:
            return Claimed(pot=pot, share=had)
        is_member = pot.room_id is not None and self._members.is_member(cur, claim.claimer, pot.room_id)
        refused = rules.judge_claim(pot, claim, now_ms, is_member=is_member)
        if refused is None and self._members.blocks(cur, pot.giver, claim.claimer):
            refused = Refused(reason=Reason.NOT_ALLOWED, message=f"{pot.giver} has not meant this for you.")
        if refused is not None:
            return refused
        share = store.next_free(cur, pot.key)
        if share is None:
            return rules.gone(pot)
        order = _order(pot, share, claim)
        refused = self._payments.judge_payout(cur, order, now_ms)
        if refused is not None:
            return refused
        taken = replace(
            share,
            state=ShareState.TAKEN,
            claimer=claim.claimer,
            payment_id=claim.payment_id,
            claimed_ms=now_ms,
        )
        # First, since the payment may end at once, and then finds its share.
        store.put_share(cur, pot.key, taken)
        payment = self._payments.pay_out(cur, order, _freed(pot, share, claim.payment_id), salts, now_ms)
        pot = self._again(cur, pot.key)
        if payment.state.final and payment.state is not State.COMPLETED:
            return Claimed(pot=pot, share=taken, failed=(payment.reason or Reason.EXPIRED).value)
        self._told(cur, pot, now_ms)
        return Claimed(pot=pot, share=store.share_of(cur, pot.key, claim.claimer) or taken)

    def expect(
        self, cur: Cursor, giver: UserId, pot_id: PotId, claimer: UserId, payment_id: PaymentId, now_ms: int
    ) -> PaymentId:
        """One of ours is about to claim elsewhere. Gives the id under which it will be paid.

        That of an earlier try, unless its payment came and ended without success.
        """
        expected = store.expect(cur, giver, payment_id, claimer, pot_id, now_ms)
        if expected == payment_id:
            return payment_id
        arrived = payments.find(cur, PaymentKey(payer_key=PayerKey(giver), payment_id=expected))
        if arrived is None or not arrived.state.final or arrived.state is State.COMPLETED:
            return expected
        store.forget_expected(cur, giver, claimer, pot_id)
        return store.expect(cur, giver, payment_id, claimer, pot_id, now_ms)

    def arrived(self, cur: Cursor, giver: UserId, claimer: UserId, payment_id: PaymentId) -> Payment | None:
        """The payment of a claim at another homeserver, as far as it has come here."""
        payment = payments.find(cur, PaymentKey(payer_key=PayerKey(giver), payment_id=payment_id))
        return payment if payment is not None and payment.payee.user_id == claimer else None

    # What payments ask.

    def changed(self, cur: Cursor, payment: Payment, now_ms: int) -> None:
        """A payment of ours has moved. Where it pays a share, the share is paid, or free again, or the giver's."""
        acct, invoice = payment.payer_acct, payment.invoice
        if acct is None or invoice is None or not invoice.startswith(INVOICE_PREFIX) or not payment.state.final:
            return
        found = store.paid_by(cur, acct, payment.payment_id)
        pot = None if found is None else store.find(cur, PotKey(giver_acct=acct, pot_id=found[0]))
        if found is None or pot is None or found[1].paid or found[1].state is not ShareState.TAKEN:
            # An invoice that a person has written themselves.
            return
        if payment.state is State.COMPLETED:
            self._paid(cur, pot, found[1], now_ms)
        else:
            self._put_back(cur, pot, found[1], payment, now_ms)

    def expects(self, cur: Cursor, payee: UserId, payer: UserId, payment_id: PaymentId, now_ms: int) -> bool:
        return store.expects(cur, payer, payment_id, payee, now_ms - EXPECTED_MS)

    # Looking.

    def find(self, cur: Cursor, kind: Kind, giver: UserId, pot_id: PotId) -> tuple[Pot, tuple[Share, ...]] | Refused:
        pot = store.named(cur, giver, pot_id)
        if pot is None or pot.kind is not kind:
            return rules.unknown(kind, pot_id)
        return pot, store.shares(cur, pot.key)

    def look(
        self, cur: Cursor, kind: Kind, giver: UserId, pot_id: PotId, viewer: UserId, secret: str | None
    ) -> tuple[Pot, tuple[Share, ...]] | Refused:
        """A pot for one who may claim it, or has given it; to others it is unknown."""
        found = self.find(cur, kind, giver, pot_id)
        if isinstance(found, Refused) or giver == viewer:
            return found
        pot, shares = found
        if any(share.claimer == viewer for share in shares):
            return found
        if pot.kind is Kind.GIFT:
            shown = pot.room_id is not None and self._members.is_member(cur, viewer, pot.room_id)
        else:
            shown = rules.is_meant(pot, viewer, secret)
        return found if shown else rules.unknown(kind, pot_id)

    def page(
        self, cur: Cursor, giver: Acct, kind: Kind, before: tuple[int, str] | None, limit: int
    ) -> tuple[tuple[tuple[Pot, tuple[Share, ...]], ...], bool]:
        """Some of one's own, newest first, and whether there are older ones."""
        wanted = min(limit, MAX_PAGE)
        found = store.page(cur, giver, kind, before, wanted + 1)
        return tuple((pot, store.shares(cur, pot.key)) for pot in found[:wanted]), len(found) > wanted

    def aside_minor(self, cur: Cursor, acct: Acct, currency: AssetCode) -> int:
        """What of a person's money lies in their open pots: safeguards' ``Aside``."""
        return store.aside_minor(cur, acct, currency)

    def lies_beside(self, others: Beside) -> None:
        """Say of another part what it puts aside on the accounts on which pots lie."""
        self._beside.append(others)

    def violations(self, cur: Cursor) -> tuple[Violation, ...]:
        """Where pots, and what lies beside them, contradict the ledger or themselves."""
        others: Counter[tuple[str, str]] = Counter()
        for beside in self._beside:
            others.update(beside(cur))
        return (*store.unbalanced(cur, others), *store.wrong_totals(cur))

    # Steps that the above share.

    def _paid(self, cur: Cursor, pot: Pot, share: Share, now_ms: int) -> None:
        store.put_share(cur, pot.key, replace(share, paid=True))
        if pot.state is PotState.OPEN and not store.is_left(cur, pot.key):
            store.close(cur, pot.key, PotState.EMPTIED)
            pot = self._again(cur, pot.key)
        self._told(cur, pot, now_ms)

    def _put_back(self, cur: Cursor, pot: Pot, share: Share, payment: Payment, now_ms: int) -> None:
        free = pot.state is PotState.OPEN and now_ms < pot.expires_ms
        if free:
            back = Transfer(
                transfer_id=TransferId(f"pot_back:{payment.hold_id}"),
                debit=available(pot.giver_acct, pot.money.currency),
                credit=_aside(pot),
                amount_minor=share.amount_minor,
                cause=Cause.POT_BACK,
                reference=_name(pot.key),
            )
            # It came back in this very transaction, unless an operator had advanced it: then it is gone from the pot.
            free = not isinstance(ledger.transfer(cur, back, now_ms), Refused)
        if free:
            freed = replace(share, state=ShareState.FREE, claimer=None, payment_id=None, claimed_ms=None)
            store.put_share(cur, pot.key, freed)
        else:
            store.put_share(cur, pot.key, replace(share, state=ShareState.RETURNED))
            if pot.state is PotState.OPEN and not store.is_left(cur, pot.key):
                store.close(cur, pot.key, PotState.EMPTIED)
        self._told(cur, self._again(cur, pot.key), now_ms)

    def _close(self, cur: Cursor, pot: Pot, state: PotState, now_ms: int) -> Pot:
        _, _, free_minor = store.standing(cur, pot.key)
        if free_minor:
            posted = ledger.transfer(
                cur,
                Transfer(
                    transfer_id=TransferId(f"pot_end:{_name(pot.key)}"),
                    debit=_aside(pot),
                    credit=available(pot.giver_acct, pot.money.currency),
                    amount_minor=free_minor,
                    cause=Cause.POT_END,
                    reference=_name(pot.key),
                ),
                now_ms,
            )
            if isinstance(posted, Refused):
                raise RuntimeError(f"what is left in pot {pot.key} does not go back: {posted.message}")
        if not store.close(cur, pot.key, state):
            raise RuntimeError(f"pot {pot.key} ended inside the transaction of the one writer")
        closed = self._again(cur, pot.key)
        self._told(cur, closed, now_ms)
        return closed

    def _again(self, cur: Cursor, key: PotKey) -> Pot:
        pot = store.find(cur, key)
        if pot is None:
            raise RuntimeError(f"{key} vanished inside its own transaction")
        return pot

    def _told(self, cur: Cursor, pot: Pot, now_ms: int) -> None:
        for note in self._notes:
            note(cur, pot, now_ms)


def _name(key: PotKey) -> str:
    return f"{key.giver_acct}:{key.pot_id}"


def _aside(pot: Pot) -> AccountKey:
    return aside(pot.giver_acct, pot.money.currency)


def _freed(pot: Pot, share: Share, payment_id: PaymentId) -> Transfer:
    return Transfer(
        transfer_id=TransferId(f"pot_out:{_name(pot.key)}:{payment_id}"),
        debit=_aside(pot),
        credit=available(pot.giver_acct, pot.money.currency),
        amount_minor=share.amount_minor,
        cause=Cause.POT_OUT,
        reference=_name(pot.key),
    )


def _order(pot: Pot, share: Share, claim: Claim) -> Order:
    return Order(
        payment_id=claim.payment_id,
        payer_acct=pot.giver_acct,
        payer=pot.giver,
        payee=Party(user_id=claim.claimer, acct=claim.claimer_acct, handle=None),
        money=Money(amount_minor=share.amount_minor, currency=pot.money.currency),
        memo=pot.memo,
        invoice=pot.invoice,
    )
