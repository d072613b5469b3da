"""The operations of deposits. Each runs inside the transaction of the ledger's writer.

A deposit is an ordinary payment to the person whom it is for. In the transaction that credits it, it goes on to that
person's account of the kind ``gift``, from which only this service moves it: back, as a refund of that payment, or on,
when the person calls it spam. So the payer's homeserver needs to trust nobody longer than its link says, and the
payer's money is nowhere but in the books of one of the two homeservers or in clearing between them.

A refusal has written nothing. It is payments' ``Pots``.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from super_app.accounts import store as accounts
from super_app.clearing.ports import Party
from super_app.db import Cursor
from super_app.deposits import rules, store
from super_app.deposits.model import (
    BACK_PREFIX,
    EXPECTED_MS,
    RETRY_MS,
    Cue,
    Deposit,
    DepositKey,
    DepositState,
)
from super_app.deposits.ports import Guards
from super_app.errors import Reason, Refused
from super_app.ids import Acct, PaymentId, ServerName, UserId, server_of
from super_app.ledger import service as ledger
from super_app.ledger.model import Cause, Transfer, TransferId, aside, available
from super_app.payments import store as payments
from super_app.payments.model import Order, PayerKey, Payment, PaymentKey, Salts, State
from super_app.payments.rules import judge_replay
from super_app.payments.service import Payments

_FINAL = frozenset({Reason.PAYEE_GONE, Reason.UNKNOWN_PAYEE})


Note = Callable[[Cursor, Deposit], None]


class Deposits:
    """Deposits of one homeserver: those that its people put down, and those that are put down for them."""

    def __init__(self, *, server_name: ServerName, payments: Payments, guards: Guards) -> None:
        self._server_name = server_name
        self._payments = payments
        self._guards = guards
        self._notes: list[Note] = []

    def while_changing(self, note: Note) -> None:
        """Call ``note`` inside each transaction in which a deposit comes to its end."""
        self._notes.append(note)

    # The stranger.

    def put_down(self, cur: Cursor, order: Order, salts: Salts, now_ms: int, *, proven: bool) -> Payment | Refused:
        """Pay a deposit that the recipient's homeserver expects. The same again gives the payment as it is.

        ``proven`` says that the payer's PIN came with it and was right. Refusals: CONFLICT, those of
        ``Payments.judge_payout``, INSUFFICIENT_FUNDS, what the guards refuse.
        """
        known = payments.find(cur, PaymentKey(payer_key=PayerKey(order.payer_acct), payment_id=order.payment_id))
        if known is not None:
            return judge_replay(known, order) or known
        refused = (
            self._payments.judge_payout(cur, order, now_ms)
            or ledger.judge_hold(cur, order.payer_acct, order.money)
            or self._guards.judge_aside(
                cur, order.payer_acct, order.money, order.payee.user_id, proven=proven, now_ms=now_ms
            )
        )
        return refused or self._payments.pay_out(cur, order, None, salts, now_ms)

    # The recipient.

    def expect(self, cur: Cursor, deposit: Deposit) -> Deposit:
        """A deposit is about to be paid. Again it is the one that was announced first."""
        store.add(cur, deposit)
        return store.find(cur, deposit.key) or deposit

    def decide(self, cur: Cursor, key: DepositKey, acct: Acct, cue: Cue, now_ms: int) -> Deposit | Refused:
        """The recipient has answered, accepts it, calls it spam, or their time is over."""
        deposit = store.find(cur, key)
        if deposit is None or deposit.acct != acct:
            return rules.unknown(key.payment_id)
        acts = rules.judge(deposit, cue)
        if isinstance(acts, Refused) or not acts:
            return acts if isinstance(acts, Refused) else deposit
        decided = replace(deposit, state=DepositState.DUE, cue=cue, retry_ms=now_ms)
        store.put(cur, decided)
        return decided

    def carry_out(
        self, cur: Cursor, key: DepositKey, spam_to: Party | None, salts: Salts, now_ms: int
    ) -> Deposit | None:
        """Give a decided deposit back, or let it go on. None if there is nothing to do.

        ``spam_to`` is whom a deposit goes to that is kept, None for the recipient themselves.
        """
        deposit = store.find(cur, key)
        if deposit is None or deposit.state is not DepositState.DUE or now_ms < (deposit.retry_ms or 0):
            return None
        if deposit.cue is Cue.SPAM and spam_to is None:
            return self._keep(cur, deposit, now_ms)
        back = deposit.cue is not Cue.SPAM
        payer_acct = self._payer_acct(cur, deposit.payer)
        payee = Party(user_id=deposit.payer, acct=payer_acct, handle=None) if back else spam_to
        if payee is None:
            raise RuntimeError(f"nobody is to have deposit {key}")
        order = Order(
            payment_id=rules.refund_id_of(key, deposit.tries),
            payer_acct=deposit.acct,
            payer=deposit.recipient,
            payee=payee,
            money=deposit.money,
            refund_of=deposit.payment_id if back else None,
            invoice=f"{BACK_PREFIX}{deposit.payer} {deposit.payment_id}",
        )
        refused = self._payments.judge_payout(cur, order, now_ms)
        if refused is not None and refused.reason in _FINAL:
            return self._keep(cur, replace(deposit, cue=Cue.GONE if back else deposit.cue), now_ms)
        if refused is not None:
            later = replace(deposit, retry_ms=now_ms + RETRY_MS)
            store.put(cur, later)
            return later
        # First, since the payment may end at once, and then finds the deposit.
        store.put(cur, replace(deposit, state=DepositState.RETURNING, tries=deposit.tries + 1))
        self._payments.pay_out(cur, order, _freed(deposit, str(deposit.tries)), salts, now_ms)
        return store.find(cur, key)

    def lapse(self, cur: Cursor, key: DepositKey, now_ms: int) -> None:
        """Forget one that was announced and never came."""
        deposit = store.find(cur, key)
        if deposit is not None and deposit.state is DepositState.EXPECTED and now_ms > deposit.made_ms + EXPECTED_MS:
            store.forget(cur, key)

    def admits(self, cur: Cursor, acct: Acct, payer: UserId) -> bool:
        """Whether a stranger may write: their deposit lies here, or they were answered before."""
        found = store.from_payer(cur, acct, payer)
        return any(
            each.state is DepositState.OPEN or each.cue in (Cue.ANSWER, Cue.ACCEPT) for each in found
        ) and not any(each.cue is Cue.SPAM for each in found)

    # What payments ask.

    def changed(self, cur: Cursor, payment: Payment, now_ms: int) -> None:
        """A payment has moved: a deposit has come and lies aside, or its refund has arrived, or came to nothing."""
        if payment.payee_acct is not None and payment.state is State.COMPLETED:
            self._arrived(cur, payment, now_ms)
        invoice = payment.invoice
        if payment.payer_acct is None or invoice is None or not payment.state.final:
            return
        if invoice.startswith(BACK_PREFIX):
            payer, _, payment_id = invoice.removeprefix(BACK_PREFIX).rpartition(" ")
            self._given_back(cur, DepositKey(payer=UserId(payer), payment_id=PaymentId(payment_id)), payment, now_ms)

    def expects(self, cur: Cursor, payee: UserId, payer: UserId, payment_id: PaymentId, now_ms: int) -> bool:
        deposit = store.find(cur, DepositKey(payer=payer, payment_id=payment_id))
        return deposit is not None and deposit.recipient == payee

    def beside(self, cur: Cursor) -> Mapping[tuple[str, str], int]:
        """What lies on the accounts of pots and is of deposits: pots' ``Beside``."""
        return store.all_aside(cur)

    # Steps that the above share.

    def _arrived(self, cur: Cursor, payment: Payment, now_ms: int) -> None:
        deposit = store.find(cur, DepositKey(payer=payment.payer, payment_id=payment.payment_id))
        if deposit is None or deposit.state is not DepositState.EXPECTED or payment.payee_acct != deposit.acct:
            return
        if payment.money != deposit.money:
            # Not what was announced, so it is a payment like any other.
            return
        posted = ledger.transfer(
            cur,
            Transfer(
                transfer_id=TransferId(f"deposit:{_name(deposit)}"),
                debit=available(deposit.acct, deposit.money.currency),
                credit=aside(deposit.acct, deposit.money.currency),
                amount_minor=deposit.money.amount_minor,
                cause=Cause.DEPOSIT,
                reference=_name(deposit),
            ),
            now_ms,
        )
        if isinstance(posted, Refused):
            raise RuntimeError(f"deposit {deposit.key} does not move although it has just come: {posted.message}")
        store.put(cur, replace(deposit, state=DepositState.OPEN))

    def _given_back(self, cur: Cursor, key: DepositKey, payment: Payment, now_ms: int) -> None:
        deposit = store.find(cur, key)
        if deposit is None or deposit.state is not DepositState.RETURNING or deposit.acct != payment.payer_acct:
            # An invoice that a person has written themselves.
            return
        if payment.payment_id != rules.refund_id_of(key, deposit.tries - 1):
            return
        if payment.state is State.COMPLETED:
            ended = DepositState.KEPT if deposit.cue is Cue.SPAM else DepositState.RETURNED
            done = replace(deposit, state=ended, retry_ms=None)
            store.put(cur, done)
            for note in self._notes:
                note(cur, done)
            return
        if payment.reason in _FINAL:
            # What came back stays with the recipient: nobody is there to have it.
            store.put(cur, replace(deposit, state=DepositState.KEPT, cue=Cue.GONE, retry_ms=None))
            return
        again = ledger.transfer(
            cur,
            Transfer(
                transfer_id=TransferId(f"deposit_again:{_name(deposit)}:{deposit.tries}"),
                debit=available(deposit.acct, deposit.money.currency),
                credit=aside(deposit.acct, deposit.money.currency),
                amount_minor=deposit.money.amount_minor,
                cause=Cause.DEPOSIT,
                reference=_name(deposit),
            ),
            now_ms,
        )
        # It came back in this very transaction, unless an operator had advanced it: then it is the operator's matter.
        state = DepositState.KEPT if isinstance(again, Refused) else DepositState.DUE
        retry_ms = None if state is DepositState.KEPT else now_ms + RETRY_MS
        store.put(cur, replace(deposit, state=state, retry_ms=retry_ms))

    def _keep(self, cur: Cursor, deposit: Deposit, now_ms: int) -> Deposit:
        posted = ledger.transfer(cur, _freed(deposit, "kept"), now_ms)
        if isinstance(posted, Refused):
            raise RuntimeError(f"deposit {deposit.key} does not move: {posted.message}")
        kept = replace(deposit, state=DepositState.KEPT, retry_ms=None)
        store.put(cur, kept)
        for note in self._notes:
            note(cur, kept)
        return kept

    def _payer_acct(self, cur: Cursor, payer: UserId) -> str:
        if server_of(payer) != self._server_name:
            return ""
        account = accounts.by_user_id(cur, payer)
        return "" if account is None else account.acct


def _freed(deposit: Deposit, which: str) -> Transfer:
    return Transfer(
        transfer_id=TransferId(f"deposit_out:{_name(deposit)}:{which}"),
        debit=aside(deposit.acct, deposit.money.currency),
        credit=available(deposit.acct, deposit.money.currency),
        amount_minor=deposit.money.amount_minor,
        cause=Cause.DEPOSIT_OUT,
        reference=_name(deposit),
    )


def _name(deposit: Deposit) -> str:
    # The journal is chained for ever, so it names no person.
    return rules.digest_hex(["deposit", deposit.payer, deposit.payment_id])
