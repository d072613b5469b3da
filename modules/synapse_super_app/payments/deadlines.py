"""What time does to payments. Runs in the process that writes.

Holds without an event are released, unanswered payments expire, owed receipts are posted again, memos are forgotten,
snapshots of the ledger are taken, and the invariants of money are checked. Chat pays nothing for it: between deadlines
the clock is compared with a number in memory.
"""

import logging
from functools import partial
from typing import Final

from super_app.ledger import journal
from super_app.ledger.lease import NotTheWriter
from super_app.payments import store
from super_app.payments.model import Payment, Receipt, State
from super_app.payments.service import Payments
from synapse_super_app.payments import metrics
from synapse_super_app.payments.checks import Checks
from synapse_super_app.payments.commits import PaymentsWriter
from synapse_super_app.payments.follow import Follow
from synapse_super_app.payments.receipts import Receipts
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_TICK_MS: Final = 1_000.0
_RELOAD_MS: Final = 60_000
"""What a crash between a commit and its echo here hid is found again after this long."""
_CHECK_MS: Final = 3_600_000.0
"""The checks read the whole journal; an operator can have them at any time (``GET admin/invariants``)."""
_FORGET_MS: Final = 3_600_000.0
_SNAPSHOT_MS: Final = 600_000.0
_PAGE: Final = 100


class Deadlines:
    def __init__(
        self,
        *,
        runtime: Runtime,
        payments: Payments,
        writer: PaymentsWriter,
        receipts: Receipts,
        follow: Follow,
        checks: Checks,
    ) -> None:
        self._runtime = runtime
        self._payments = payments
        self._writer = writer
        self._receipts = receipts
        self._follow = follow
        self._checks = checks
        self._next_ms = 0
        self._reload_ms = 0
        self._busy = False
        self._on = False

    def start(self) -> None:
        """Look regularly, in whatever process; only the one that writes finds something to do."""
        for look, pause_ms, desc in (
            (self._tick, _TICK_MS, "superapp_payment_deadlines"),
            (self._measure, _CHECK_MS, "superapp_invariants"),
            (self._forget, _FORGET_MS, "superapp_payment_memos"),
            (self._snapshot, _SNAPSHOT_MS, "superapp_ledger_snapshots"),
        ):
            self._runtime.api.looping_background_call(look, pause_ms, desc=desc, run_on_all_instances=True)

    async def begin(self, epoch: int) -> None:
        """This process writes: whatever is due is found now."""
        self._next_ms = self._reload_ms = 0
        self._on = True

    def end(self) -> None:
        self._on = False

    def payment_heard(self, payment: Payment) -> None:
        if payment.due_ms is not None and payment.payer_acct is not None:
            self._next_ms = min(self._next_ms, payment.due_ms)

    def receipt_heard(self, receipt: Receipt, payment: Payment) -> None:
        # Also for one that is posted right now: should that fail, it is looked at again.
        self._next_ms = min(self._next_ms, receipt.due_ms + int(_TICK_MS))

    async def _tick(self) -> None:
        now_ms = self._runtime.now_ms()
        if not self._on or self._busy or now_ms < min(self._next_ms, self._reload_ms):
            return
        self._busy = True
        try:
            # Whatever is heard of from here on counts again.
            self._next_ms = now_ms + _RELOAD_MS
            self._reload_ms = now_ms + _RELOAD_MS
            await self._act(now_ms)
            next_ms = await self._runtime.database.run("payment_next_due", store.next_due_ms)
            if next_ms is not None:
                self._next_ms = min(self._next_ms, next_ms)
        finally:
            self._busy = False

    async def _act(self, now_ms: int) -> None:
        for payment in await self._runtime.database.run("payments_due", lambda cur: store.due(cur, now_ms, _PAGE)):
            try:
                await self._act_on(payment)
            except NotTheWriter:
                # It stays due, where the writer is now.
                return
            except Exception:
                # It stays due and is tried again; the others' money does not wait for it.
                logger.exception("The deadline of payment %s could not be kept", payment.payment_id)
        await self._receipts.post_due(now_ms)

    async def _act_on(self, payment: Payment) -> None:
        if payment.state is State.AWAITING_ACCEPTANCE:
            await self._expire(payment)
        elif payment.waits_for_link:
            await self._follow.offer_again(payment)
        elif not await self._follow.bind_if_it_exists(payment):
            await self._release(payment)

    async def _expire(self, payment: Payment) -> None:
        now_ms = self._runtime.now_ms()
        await self._writer.run("payment_expire", lambda cur: self._payments.expire(cur, payment.key, now_ms))

    async def _release(self, payment: Payment) -> None:
        now_ms = self._runtime.now_ms()
        released = await self._writer.run(
            "payment_release", lambda cur: self._payments.release(cur, payment.key, now_ms)
        )
        if released is not None:
            metrics.released_total.inc()
            logger.info("Released the hold of payment %s: its event never came to exist", payment.payment_id)

    async def _measure(self) -> None:
        if self._on:
            await self._checks.measure()

    async def _snapshot(self) -> None:
        """Keep balances, so that no check and no statement has to read the whole journal."""
        while self._on:
            now_ms = self._runtime.now_ms()
            taken = await self._runtime.database.run("ledger_snapshot", partial(journal.take_snapshot, now_ms=now_ms))
            if taken is None:
                return

    async def _forget(self) -> None:
        if not self._on:
            return
        before_ms = self._runtime.now_ms() - self._runtime.config.retention.memos
        await self._runtime.database.run("payment_memos", lambda cur: store.erase_memos(cur, before_ms))
