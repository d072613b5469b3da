"""After the commit: who waits for a payment hears of it, and receipts are posted, from what the transaction told.

A transaction may run again or be rolled back, so what it tells is kept until it has committed and dropped if it has
not. What is lost between the commit and here (a crash) is found again by ``Deadlines``, from the database.
"""

from collections.abc import Callable, Sequence
from typing import LiteralString, TypeVar

from super_app.db import Cursor
from super_app.payments.model import Payment, Receipt
from synapse_super_app.ledger.lane import lane_of
from synapse_super_app.ledger.writer import LedgerWriter
from synapse_super_app.runtime import Runtime

T = TypeVar("T")

Committing = Callable[[Cursor, Sequence[Payment], int], bool]
"""Takes the cursor, the payments as they now are, and the time; says whether it has written something."""


class Heard:
    """``super_app.payments.ports.Changes`` of the work that is running now. The writer runs one at a time."""

    def __init__(self) -> None:
        self.payments: list[Payment] = []
        self.receipts: list[Receipt] = []

    def payment_changed(self, payment: Payment) -> None:
        self.payments.append(payment)

    def receipt_owed(self, receipt: Receipt) -> None:
        self.receipts.append(receipt)

    def begin(self) -> None:
        """A work begins, or begins again: what an earlier run told counts for nothing."""
        self.payments, self.receipts = [], []


class PaymentsWriter(LedgerWriter):
    """The ledger's writer, which tells its listeners what each work changed once the work has committed.

    Clearing runs its transactions through it too, so a payment that another homeserver completes is heard of as well.
    """

    def __init__(self, runtime: Runtime, heard: Heard) -> None:
        super().__init__(runtime, lane_of(runtime.api, runtime.private))
        self._heard = heard
        self._on_payment: list[Callable[[Payment], None]] = []
        self._on_receipt: list[Callable[[Receipt, Payment], None]] = []
        self._committing: list[tuple[Committing, Callable[[], None]]] = []

    def while_committing(self, note: Committing, noted: Callable[[], None]) -> None:
        """Call ``note`` inside each transaction that changes payments: what it writes is as durable as the change.

        ``noted`` is called once one has committed in which ``note`` said that there is something.
        """
        self._committing.append((note, noted))

    def on_payment(self, listener: Callable[[Payment], None]) -> None:
        """Call ``listener`` with each state of a payment that was committed. It must return at once."""
        self._on_payment.append(listener)

    def on_receipt(self, listener: Callable[[Receipt, Payment], None]) -> None:
        """Call ``listener`` with each receipt that became owed, and its payment. It must return at once."""
        self._on_receipt.append(listener)

    async def run(self, name: LiteralString, work: Callable[[Cursor], T]) -> T:
        told: tuple[list[Payment], list[Receipt]] = ([], [])
        written: list[Callable[[], None]] = []

        def listened(cur: Cursor) -> T:
            nonlocal told, written
            self._heard.begin()
            result = work(cur)
            told = (self._heard.payments, self._heard.receipts)
            now_ms = self._runtime.now_ms()
            written = [noted for note, noted in self._committing if told[0] and note(cur, told[0], now_ms)]
            return result

        result = await super().run(name, listened)
        for noted in written:
            noted()
        payments, receipts = told
        for payment in payments:
            for hear_payment in self._on_payment:
                hear_payment(payment)
        last = {payment.key: payment for payment in payments}
        for receipt in receipts:
            for hear_receipt in self._on_receipt:
                hear_receipt(receipt, last[receipt.key])
        return result
