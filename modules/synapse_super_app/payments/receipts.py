"""Posts the receipts that are owed to rooms, from their durable queue, each once.

A receipt is posted right after the commit that made it owed. What fails is tried again with growing pauses; before
each further try the room is asked whether one stands already, since a crash may have come between posting and noting.
"""

import logging
from typing import Final

from synapse.module_api import EventBase
from synapse.module_api.errors import SynapseError

from super_app.db import Cursor
from super_app.ids import EventId, PaymentId, UserId, server_of
from super_app.names import EventType
from super_app.payments import rules, store
from super_app.payments.model import PayerKey, Payment, PaymentKey, Poster, Receipt, Venue
from synapse_super_app.payments import metrics
from synapse_super_app.payments.announced import Announced
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_PAUSES_MS: Final = (1_000, 5_000, 30_000, 120_000, 600_000, 3_600_000)
_MAX_ATTEMPTS: Final = 170
"""After about a week of hourly tries a receipt is given up, with a line in the log."""
_FORBIDDEN: Final = 403
_SETTLE_MS: Final = 500
_LATE_MS: Final = rules.RECEIPT_GRACE_MS // 2
_LATE_PAUSE_MS: Final = 30_000


class _NotTheirsError(Exception):
    """The payer's homeserver named a room or an event that is not that of its payment."""


class Receipts:
    def __init__(self, runtime: Runtime, announced: Announced) -> None:
        self._runtime = runtime
        self._announced = announced
        self._under_way: set[PaymentKey] = set()
        self._settled: list[tuple[PaymentKey, EventId | None]] = []

    def owed(self, receipt: Receipt, payment: Payment) -> None:
        """A commit of this process made it owed. One that is due later waits for ``post_due``."""
        if receipt.due_ms <= self._runtime.now_ms():
            self._runtime.api.run_as_background_process("superapp_receipt", self._post, receipt, payment)

    async def post_due(self, now_ms: int) -> None:
        """Post what is overdue. Whether it stands already is looked up first."""
        for receipt in await self._runtime.database.run("receipts_owed", lambda cur: store.owed(cur, now_ms, 50)):
            await self._post_unless_found(receipt)

    async def parent_arrived(self, event: EventBase) -> None:
        """A payment event of another homeserver is here: its receipt may be waiting for it."""
        payment_id = event.get_dict()["content"].get("payment_id")
        if not isinstance(payment_id, str):
            return
        key = PaymentKey(payer_key=PayerKey(event.sender), payment_id=PaymentId(payment_id))
        receipt = await self._runtime.database.run("receipt_owed_for", lambda cur: store.owed_for(cur, key))
        if receipt is None or receipt.event_id != event.event_id:
            return
        now_ms = self._runtime.now_ms()
        if now_ms - event.origin_server_ts < _LATE_MS:
            await self._post_unless_found(receipt)
        else:
            # So late that the payer's homeserver may have posted one; it would arrive behind its payment event.
            due_ms = now_ms + _LATE_PAUSE_MS
            await self._runtime.database.run("receipt_retry", lambda cur: store.retry_receipt(cur, receipt, due_ms))

    async def _post_unless_found(self, receipt: Receipt) -> None:
        def look(cur: Cursor) -> tuple[Payment | None, EventId | None]:
            payment = store.find(cur, receipt.key)
            standing = self._runtime.private.references_to(cur, receipt.event_id, EventType.PAYMENT_RECEIPT)
            parties = () if payment is None else (payment.payer, payment.payee.user_id)
            return payment, next((event_id for event_id, sender in standing if sender in parties), None)

        payment, found = await self._runtime.database.run("receipt_look", look)
        if payment is None:
            raise RuntimeError(f"a receipt is owed for {receipt.key}, which does not exist")
        if found is not None:
            metrics.receipts_total.labels("found").inc()
            await self._settle(receipt, found)
        else:
            await self._post(receipt, payment)

    async def _post(self, receipt: Receipt, payment: Payment) -> None:
        if receipt.key in self._under_way:
            return
        self._under_way.add(receipt.key)
        try:
            await self._try(receipt, payment)
        except Exception as error:  # noqa: BLE001 - whatever it was, it is tried again and seen
            await self._retry(receipt, error)
        finally:
            self._under_way.discard(receipt.key)

    async def _try(self, receipt: Receipt, payment: Payment) -> None:
        try:
            venue = await self._venue(receipt, payment)
        except _NotTheirsError:
            logger.warning("The payer's server named %s, which is not the event of its payment", receipt.event_id)
            metrics.receipts_total.labels("dropped").inc()
            await self._settle(receipt, None)
            return
        if venue is None:
            await self._retry(receipt, None)
            return
        for sender in self._senders(receipt, payment):
            try:
                event_id = await self._send(sender, receipt, rules.receipt_content(payment, venue))
            except SynapseError as error:
                if error.code != _FORBIDDEN:
                    raise
                # They have left the room, or may not write there.
                logger.info("No receipt for %s can be posted as %s: %s", receipt.event_id, sender, error.msg)
            else:
                metrics.receipts_total.labels("posted").inc()
                await self._settle(receipt, event_id)
                return
        metrics.receipts_total.labels("dropped").inc()
        await self._settle(receipt, None)

    def _senders(self, receipt: Receipt, payment: Payment) -> tuple[UserId, ...]:
        """In whose name to post, in order of preference; people of this homeserver only."""
        both = (payment.payee.user_id, payment.payer)
        wanted = both if receipt.poster is Poster.PAYEE else (payment.payer,)
        return tuple(user_id for user_id in wanted if server_of(user_id) == self._runtime.server_name)

    async def _venue(self, receipt: Receipt, payment: Payment) -> Venue | None:
        """What the receipt may say, or None while its payment event has not arrived here.

        Raises:
            _NotTheirsError: what arrived is another event.
        """
        venue = payment.venue
        if payment.payer_acct is None:
            parent = await self._runtime.private.get_event(receipt.event_id)
            if parent is None:
                return None
            if not _is_event_of(parent, payment, receipt):
                raise _NotTheirsError
            if "commitment" in parent.get_dict()["content"]:
                venue = Venue.HIDDEN
        parties = {server_of(payment.payer), server_of(payment.payee.user_id)}
        if venue is Venue.OPEN and not await self._runtime.private.servers_in_room(receipt.room_id) <= parties:
            return Venue.HIDDEN
        return venue

    async def _send(self, sender: UserId, receipt: Receipt, content: dict[str, object]) -> EventId:
        with self._announced.sending(sender, receipt.room_id, EventType.PAYMENT_RECEIPT, content):
            event = await self._runtime.api.create_and_send_event_into_room(
                {
                    "type": EventType.PAYMENT_RECEIPT,
                    "room_id": receipt.room_id,
                    "sender": sender,
                    "content": content,
                }
            )
        return EventId(event.event_id)

    async def _settle(self, receipt: Receipt, event_id: EventId | None) -> None:
        """Note that nothing more is owed, some receipts together and a moment later.

        A commit right now would stand in the way of those who are just being shown the receipt. Should it be lost, the
        receipt is found standing in the room.
        """
        self._settled.append((receipt.key, event_id))
        if len(self._settled) == 1:
            self._runtime.api.delayed_background_call(_SETTLE_MS, self._note_settled, desc="superapp_receipts")

    async def _note_settled(self) -> None:
        settled, self._settled = self._settled, []
        await self._runtime.database.run("receipts_settle", lambda cur: store.settle_receipts(cur, settled))

    async def _retry(self, receipt: Receipt, error: Exception | None) -> None:
        if receipt.attempts >= _MAX_ATTEMPTS:
            logger.error("The receipt for %s cannot be posted and is given up: %s", receipt.event_id, error)
            metrics.receipts_total.labels("dropped").inc()
            await self._settle(receipt, None)
            return
        if error is not None:
            logger.warning("The receipt for %s could not be posted and is tried again: %s", receipt.event_id, error)
        metrics.receipts_total.labels("retried").inc()
        due_ms = self._runtime.now_ms() + _PAUSES_MS[min(receipt.attempts, len(_PAUSES_MS) - 1)]
        await self._runtime.database.run("receipt_retry", lambda cur: store.retry_receipt(cur, receipt, due_ms))


def _is_event_of(parent: EventBase, payment: Payment, receipt: Receipt) -> bool:
    """Whether an event is the payment's own. Room and event come from the payer's homeserver, so they are checked."""
    return (
        parent.type == EventType.PAYMENT
        and not parent.is_state()
        and parent.room_id == receipt.room_id
        and parent.sender == payment.payer
        # A redacted event has lost its content, and still is what was ordered.
        and parent.get_dict()["content"].get("payment_id", payment.payment_id) == payment.payment_id
    )
