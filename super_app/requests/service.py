"""The operations of requests. Each runs inside the transaction of the ledger's writer, so none meets another.

It is payments' ``Requests``: an order that names a request is judged here, and where the payment goes is noted here.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import EventId, PaymentId, RoomId, UserId
from super_app.names import EventType
from super_app.payments import store as payments
from super_app.payments.model import Order, PayerKey, Payment, PaymentKey, State, Venue
from super_app.requests import rules, store
from super_app.requests.model import OPEN_MAX, Answer, Kind, Outgoing, Page, Request, RequestId, RequestKey

MAX_PAGE: Final = 100
_NEWEST: Final = (2**62, "", "")

Note = Callable[[Cursor, Request, int], None]
"""Hears of a request that is new or has changed, inside the transaction. What it writes is as durable as that."""


class Requests:
    """Requests of one homeserver."""

    def __init__(self, is_mine: Callable[[UserId], bool]) -> None:
        self._is_mine = is_mine
        self._notes: list[Note] = []

    def while_changing(self, note: Note) -> None:
        self._notes.append(note)

    # The requester.

    def make(self, cur: Cursor, request: Request, now_ms: int) -> Request | Refused:
        """Write a request down. The same one again gives it as it now is; another under its id is CONFLICT."""
        existing = store.find(cur, request.key)
        if existing is not None:
            if rules.repeats(existing, request):
                return existing
            return Refused(
                reason=Reason.CONFLICT,
                message=f"You have used request_id {request.request_id} for another request; make a new id.",
            )
        for payer in request.payers:
            if store.count_open(cur, request.requester, payer.user_id, now_ms) >= OPEN_MAX:
                return Refused(
                    reason=Reason.LIMIT_EXCEEDED,
                    message=f"{OPEN_MAX} of your requests to {payer.user_id} are open already; cancel some first.",
                    fields={"limit": OPEN_MAX},
                )
        store.add(cur, request)
        self._told(cur, request, now_ms)
        return request

    def stands(self, cur: Cursor, key: RequestKey, event_id: EventId, now_ms: int) -> None:
        """The event of a request of ours is in its room: now people are asked. Said again, it changes nothing."""
        request = store.find(cur, key)
        if request is not None and request.event_id is None:
            store.set_event(cur, key, event_id)
            self._told(cur, replace(request, event_id=event_id), now_ms)

    def withdraw(self, cur: Cursor, key: RequestKey) -> None:
        """Its event could not be sent and never will be: nobody was asked."""
        found = store.find(cur, key)
        if found is not None and found.event_id is None:
            store.remove(cur, key)

    def cancel(self, cur: Cursor, key: RequestKey, now_ms: int) -> Request | Refused:
        request = store.find(cur, key)
        if request is None:
            return rules.unknown(key.request_id)
        acts = rules.judge_cancel(request, now_ms)
        if isinstance(acts, Refused) or not acts:
            return acts if isinstance(acts, Refused) else request
        store.set_cancelled(cur, key, now_ms)
        return self._ended(cur, replace(request, cancelled_ms=now_ms), request.requester, "cancelled", now_ms)

    def excuse(self, cur: Cursor, key: RequestKey, payer: UserId, now_ms: int) -> Request | Refused:
        """The requester lets somebody off: they left, or somebody else has paid for them."""
        request = store.find(cur, key)
        if request is None:
            return rules.unknown(key.request_id)
        acts = rules.judge_excuse(request, payer, now_ms)
        if isinstance(acts, Refused) or not acts:
            return acts if isinstance(acts, Refused) else request
        return self._ended(
            cur, self._excused(cur, request, payer, now_ms), request.requester, "excused", now_ms, payer=payer
        )

    def remind(self, cur: Cursor, key: RequestKey, now_ms: int) -> Request | Refused:
        """Count a reminder, which the edge is about to send. REQUEST_CLOSED, or REMINDED_RECENTLY within a day."""
        request = store.find(cur, key)
        if request is None:
            return rules.unknown(key.request_id)
        refused = rules.judge_reminder(request, now_ms)
        if refused is not None:
            return refused
        store.set_reminded(cur, key, now_ms)
        return replace(request, reminded_ms=now_ms)

    # One who is asked.

    def decline(self, cur: Cursor, request: Request, payer: UserId, now_ms: int) -> Request | Refused:
        acts = rules.judge_decline(request, payer, now_ms)
        if isinstance(acts, Refused) or not acts:
            return acts if isinstance(acts, Refused) else request
        return self._ended(cur, self._declined(cur, request, payer), payer, "declined", now_ms)

    # What stands in rooms.

    def seen(self, cur: Cursor, request: Request, now_ms: int) -> Request | None:
        """An event of a request stands in a room. None if it is known, or is not to be shown to anybody here."""
        existing = store.find(cur, request.key)
        if existing is not None:
            if existing.room_id == request.room_id and request.event_id is not None:
                self.stands(cur, request.key, request.event_id, now_ms)
            return None
        if not self._is_mine(request.requester):
            payers = tuple(
                payer
                for payer in request.payers
                if not self._is_mine(payer.user_id)
                or store.count_open(cur, request.requester, payer.user_id, now_ms) < OPEN_MAX
            )
            request = replace(request, payers=payers)
            if request.kind is not Kind.GOAL and not any(self._is_mine(payer.user_id) for payer in payers):
                return None
        store.add(cur, request)
        self._told(cur, request, now_ms)
        return request

    def ended_elsewhere(
        self,
        cur: Cursor,
        key: RequestKey,
        sender: UserId,
        room_id: RoomId,
        outcome: str,
        now_ms: int,
        payer: UserId | None = None,
    ) -> None:
        """Another homeserver says, as ``sender``, how a request ended. Each can speak for itself only."""
        request = store.find(cur, key)
        if request is None or request.room_id != room_id:
            return
        if outcome == "cancelled" and sender == key.requester and rules.judge_cancel(request, now_ms) is True:
            store.set_cancelled(cur, key, now_ms)
            self._told(cur, replace(request, cancelled_ms=now_ms), now_ms)
        elif outcome == "excused" and sender == key.requester and payer is not None:
            if rules.judge_excuse(request, payer, now_ms) is True:
                self._told(cur, self._excused(cur, request, payer, now_ms), now_ms)
        elif outcome == "declined" and rules.may_decline(request, sender, now_ms):
            self._told(cur, self._declined(cur, request, sender), now_ms)

    def named_by(self, cur: Cursor, request_id: RequestId, payee: UserId, payment: PaymentKey, now_ms: int) -> None:
        """A payment event of another homeserver names a request of one of ours; it counts once the money is here."""
        payer, key = UserId(payment.payer_key), RequestKey(requester=payee, request_id=request_id)
        request = store.find(cur, key)
        if request is None or (request.kind is not Kind.GOAL and request.payer(payer) is None):
            return
        store.name(cur, payer, payment.payment_id, key)
        arrived = payments.find(cur, payment)
        if arrived is not None:
            self.changed(cur, arrived, now_ms)

    # Payments' Requests.

    def judge(self, cur: Cursor, order: Order, venue: Venue, now_ms: int) -> Refused | None:
        if order.request is None:
            return None
        request = store.find(cur, RequestKey(requester=order.payee.user_id, request_id=RequestId(order.request)))
        # What names no request that is known here is a reference of the payer's own.
        return None if request is None else rules.judge_payment(request, order, venue, now_ms)

    def changed(self, cur: Cursor, payment: Payment, now_ms: int) -> None:
        key = self._key_of(cur, payment)
        request = None if key is None else store.find(cur, key)
        if request is not None and request.kind is Kind.GOAL:
            self._contributed(cur, request, payment, now_ms)
            return
        payer = None if request is None else request.payer(payment.payer)
        if request is None or payer is None or payment.money != request.due_of(payer):
            return
        moved = rules.after_payment(payer, payment.payment_id, _answer(payment))
        if moved == payer:
            return
        store.put_payer(cur, request.key, moved)
        others = tuple(each for each in request.payers if each.user_id != payer.user_id)
        self._told(cur, replace(request, payers=(*others, moved)), now_ms)

    # Looking.

    def find(self, cur: Cursor, viewer: UserId, request_id: RequestId, requester: UserId | None) -> Request | Refused:
        """A request that ``viewer`` made or is asked by. Without ``requester`` it must be plain which is meant."""
        if requester is None or requester == viewer:
            own = store.find(cur, RequestKey(requester=viewer, request_id=request_id))
            if own is not None:
                return own
        asked = [
            each
            for each in store.asked_under(cur, viewer, request_id)
            if requester is None or each.requester == requester
        ]
        match asked:
            case []:
                return rules.unknown(request_id)
            case [one]:
                return one
            case _:
                return Refused(
                    reason=Reason.CONFLICT,
                    message="Several people ask you under this request_id; say whose you mean with ?requester=.",
                )

    def goal(self, cur: Cursor, key: RequestKey) -> Request | None:
        """A collection, which is for everybody in its room."""
        found = store.find(cur, key)
        return found if found is not None and found.kind is Kind.GOAL else None

    def page(self, cur: Cursor, viewer: UserId, before: tuple[int, str, str] | None, limit: int) -> Page:
        wanted = min(limit, MAX_PAGE)
        found = store.page(cur, viewer, before or _NEWEST, wanted + 1)
        return Page(requests=found[:wanted], more=len(found) > wanted)

    # Steps that the above share.

    def _contributed(self, cur: Cursor, request: Request, payment: Payment, now_ms: int) -> None:
        if payment.money.currency != request.money.currency:
            return
        moved = rules.after_contribution(
            request.contributions, payment.payer, payment.payment_id, payment.money.amount_minor, _answer(payment)
        )
        if moved != request.contributions:
            store.put_contributions(cur, request.key, moved)
            self._told(cur, replace(request, contributions=moved), now_ms)

    def _excused(self, cur: Cursor, request: Request, payer: UserId, now_ms: int) -> Request:
        store.excuse(cur, request.key, payer, now_ms)
        payers = tuple(
            replace(each, answer=Answer.EXCUSED, payment_id=None) if each.user_id == payer else each
            for each in request.payers
        )
        return replace(request, payers=payers)

    def _key_of(self, cur: Cursor, payment: Payment) -> RequestKey | None:
        if payment.request is not None:
            return RequestKey(requester=payment.payee.user_id, request_id=RequestId(payment.request))
        if payment.payer_acct is not None:
            return None
        return store.named(cur, payment.payer, payment.payment_id)

    def _declined(self, cur: Cursor, request: Request, payer: UserId) -> Request:
        payers = tuple(
            replace(each, answer=Answer.DECLINED) if each.user_id == payer else each for each in request.payers
        )
        for each in payers:
            if each.user_id == payer:
                store.put_payer(cur, request.key, each)
        return replace(request, payers=payers)

    def _ended(
        self,
        cur: Cursor,
        request: Request,
        sender: UserId,
        outcome: str,
        now_ms: int,
        *,
        payer: UserId | None = None,
    ) -> Request:
        self._told(cur, request, now_ms)
        # Both of one homeserver know already; the room is told all the same, for clients.
        content: dict[str, object] = {
            "request_id": request.request_id,
            "requester": request.requester,
            "outcome": outcome,
        }
        if payer is not None:
            content["payer"] = payer
        if request.event_id is not None:
            content["m.relates_to"] = {"rel_type": "m.reference", "event_id": request.event_id}
        store.post(
            cur,
            Outgoing(
                outbox_id=f"{request.requester}:{request.request_id}:{outcome}:{payer or sender}",
                room_id=request.room_id,
                sender=sender,
                event_type=EventType.PAYMENT_REQUEST_END,
                content=content,
                attempts=0,
                due_ms=now_ms,
            ),
        )
        return request

    def _told(self, cur: Cursor, request: Request, now_ms: int) -> None:
        for note in self._notes:
            note(cur, request, now_ms)


_ANSWERS: Final[Mapping[State, Answer]] = {
    State.HELD: Answer.PAYING,
    State.AWAITING_ACCEPTANCE: Answer.PAYING,
    State.COMMITTED: Answer.PAYING,
    State.COMPLETED: Answer.PAID,
}


def _answer(payment: Payment) -> Answer:
    if payment.payer_acct is None and payment.state is not State.COMPLETED:
        # What another homeserver offers counts for nothing until the money is here.
        return Answer.OPEN
    return _ANSWERS.get(payment.state, Answer.OPEN)


def key_of(payer: UserId, payment_id: PaymentId) -> PaymentKey:
    """The key of a payment whose payer is of another homeserver."""
    return PaymentKey(payer_key=PayerKey(payer), payment_id=payment_id)
