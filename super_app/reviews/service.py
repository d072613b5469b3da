"""The operations of reviews, in the transaction of the ledger's writer. It is payments' ``Reviews``."""

from collections.abc import Sequence
from typing import Final

from super_app.db import Cursor
from super_app.errors import Refused
from super_app.ids import UserId
from super_app.payments.model import Order, Payment, PaymentKey, State
from super_app.payments.service import Payments
from super_app.reviews import rules, store
from super_app.reviews.model import Review, ReviewState
from super_app.reviews.ports import ShownNames

MAX_PAGE: Final = 200


class Reviews:
    """``names`` is replaced whenever the operator's list changes."""

    def __init__(self, shown: ShownNames) -> None:
        self.names: Sequence[str] = ()
        self._shown = shown

    # What payments ask.

    def wants(self, cur: Cursor, payment: Payment, now_ms: int) -> bool:
        """Whether a payment has to wait for the operator; it is noted then."""
        known = store.find(cur, payment.key)
        if known is not None:
            return known.state is ReviewState.OPEN
        matched = self._match(cur, payment)
        if matched is None:
            return False
        store.add(cur, payment.key, matched, now_ms)
        return True

    def waits(self, cur: Cursor, key: PaymentKey) -> bool:
        found = store.find(cur, key)
        return found is not None and found.state is ReviewState.OPEN

    def judge_claim(self, cur: Cursor, order: Order) -> bool:
        """Whether money that was put aside may not be claimed: a name of the list is in who gives or claims it."""
        named = (order.payer, order.payee.user_id, order.payee.handle)
        shown = self._names_of(cur, order.payer, order.payee.user_id)
        return rules.match_people(named, order.memo, self.names, shown) is not None

    def judge_incoming(self, cur: Cursor, payment: Payment) -> bool:
        """Whether a payment from another homeserver has a name of the list in it."""
        return self._match(cur, payment) is not None

    def _match(self, cur: Cursor, payment: Payment) -> str | None:
        return rules.match(payment, self.names, self._names_of(cur, payment.payer, payment.payee.user_id))

    def _names_of(self, cur: Cursor, *people: UserId) -> tuple[str, ...]:
        # Without a list nobody's names are looked up.
        if not self.names:
            return ()
        return tuple(name for user_id in people for name in self._shown.display_names(cur, user_id))

    # What operators do.

    def queue(self, cur: Cursor, state: ReviewState) -> tuple[Review, ...]:
        """Of a state, oldest first. What its payer took back meanwhile does not wait any more."""
        found = (store.find(cur, key) for key in store.keys(cur, state, MAX_PAGE))
        return tuple(
            each
            for each in found
            if each is not None and (state is not ReviewState.OPEN or each.payment.state is State.HELD)
        )

    def decide(
        self,
        cur: Cursor,
        payments: Payments,
        key: PaymentKey,
        wanted: ReviewState,
        *,
        operator: str,
        reason: str,
        now_ms: int,
    ) -> Review | Refused:
        """Let a payment go on, or give its money back. The same again changes nothing; another is ALREADY_DECIDED."""
        review = store.find(cur, key)
        if review is None:
            return rules.unknown_review(key.payment_id)
        if review.state is not ReviewState.OPEN:
            return review if review.state is wanted else rules.decided(review)
        if not store.decide(cur, key, wanted, operator, reason, now_ms):
            raise RuntimeError(f"the review of {key} moved inside the transaction of the one writer")
        payments.reviewed(cur, key, released=wanted is ReviewState.RELEASED, now_ms=now_ms)
        decided = store.find(cur, key)
        if decided is None:
            raise RuntimeError(f"the review of {key} vanished inside its own transaction")
        return decided
