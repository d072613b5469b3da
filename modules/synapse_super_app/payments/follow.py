"""Payment events that stand in a room: the first one of an order binds its hold and carries the payment on.

Told by the follower, at least once and in stream order. An event of another homeserver moves nothing; it is what a
receipt may have been waiting for.
"""

from collections.abc import Callable
from typing import Any, LiteralString, Protocol, TypeVar

from synapse.module_api import EventBase

from super_app.db import Cursor
from super_app.ids import EventId, PaymentId, RoomId, ServerName, UserId
from super_app.names import EventType
from super_app.payments.model import PayerKey, Payment, PaymentKey
from super_app.payments.service import Payments
from synapse_super_app.payments.commits import PaymentsWriter
from synapse_super_app.payments.receipts import Receipts
from synapse_super_app.runtime import Runtime

T = TypeVar("T")


class Wakes(Protocol):
    """The sender of clearing."""

    async def run_and_send(
        self, name: LiteralString, work: Callable[[Cursor], T], peer_of: Callable[[T], ServerName | None]
    ) -> T:
        """Run ``work`` as the ledger's writer does, and send at once what it left to send to the peer it concerns."""
        ...

    def wake(self) -> None:
        """Something was committed that may be to send to another homeserver. Returns at once."""
        ...


class Follow:
    def __init__(
        self, *, runtime: Runtime, payments: Payments, writer: PaymentsWriter, receipts: Receipts, clearing: Wakes
    ) -> None:
        self._runtime = runtime
        self._payments = payments
        self._writer = writer
        self._receipts = receipts
        self._clearing = clearing

    async def payment_persisted(self, event: EventBase) -> None:
        # No reader of ours acts on a payment with a state_key: it may have come in by a way around the gate.
        if event.is_state():
            return
        if not self._runtime.api.is_mine(event.sender):
            await self._receipts.parent_arrived(event)
            return
        content = event.get_dict()["content"]
        if "payment_id" not in content:
            # Redacted between its persisting and now. What was ordered stays ordered.
            original = await self._runtime.private.get_original(EventId(event.event_id))
            content = {} if original is None else original.get_dict()["content"]
        await self._bind(event, content)

    async def bind_if_it_exists(self, payment: Payment) -> bool:
        """Bind a payment whose event was not followed, and tell whether there is such an event."""
        room_id = payment.room_id
        if room_id is None:
            return False
        private = self._runtime.private
        event_ids = await self._runtime.database.run(
            "payment_event",
            lambda cur: private.events_of(cur, room_id, payment.payer, EventType.PAYMENT, payment.position),
        )
        for event_id in event_ids:
            event = await private.get_original(event_id)
            if event is None or event.is_state():
                continue
            content = event.get_dict()["content"]
            if content.get("payment_id") == payment.payment_id:
                await self._bind(event, content)
                return True
        return False

    async def offer_again(self, payment: Payment) -> None:
        """Offer a bound payment whose link was not ready."""
        now_ms = self._runtime.now_ms()
        await self._writer.run("payment_offer_again", lambda cur: self._payments.offer_again(cur, payment.key, now_ms))
        self._clearing.wake()

    async def _bind(self, event: EventBase, content: dict[str, Any]) -> None:
        payment_id = content.get("payment_id")
        if not isinstance(payment_id, str):
            return
        acct = await self._runtime.accounts.acct_of(UserId(event.sender))
        key = PaymentKey(payer_key=PayerKey(acct), payment_id=PaymentId(payment_id))
        now_ms = self._runtime.now_ms()
        await self._clearing.run_and_send(
            "payment_bind",
            lambda cur: self._payments.bind(cur, key, RoomId(event.room_id), EventId(event.event_id), now_ms),
            _peer_of,
        )


def _peer_of(bound: Payment | None) -> ServerName | None:
    """The homeserver that a payment of ours, which is bound now, goes to."""
    return None if bound is None or bound.is_local else ServerName(bound.payee.user_id.partition(":")[2])
