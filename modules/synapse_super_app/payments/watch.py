"""Waits a moment for a payment to get somewhere, so that an answer can tell how it went."""

from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from synapse.module_api import ModuleApi, make_deferred_yieldable
from twisted.internet.defer import Deferred

from super_app.payments.model import Payment, PaymentKey, State
from synapse_super_app.private_api import outside_log_context

Condition = Callable[[Payment], bool]


def is_settled(payment: Payment) -> bool:
    """Whether nothing more happens to it by itself: it has ended, or the payee is being asked."""
    return payment.state.final or (payment.state is State.AWAITING_ACCEPTANCE and not payment.answered)


def is_bound(payment: Payment) -> bool:
    """Whether its event has been seen, or will never be."""
    return payment.is_bound or payment.state.final


class Watch:
    def __init__(self, api: ModuleApi) -> None:
        self._api = api
        self._listening: dict[PaymentKey, list[Listening]] = defaultdict(list)

    def heard(self, payment: Payment) -> None:
        """A state of a payment was committed by this process."""
        for each in tuple(self._listening.get(payment.key, ())):
            each.heard(payment)

    @contextmanager
    def listening(self, key: PaymentKey, condition: Condition) -> "Generator[Listening]":
        """Hear of every state that is committed from here on. Who reads the payment does so afterwards."""
        listening = Listening(self._api, condition)
        self._listening[key].append(listening)
        try:
            yield listening
        finally:
            self._listening[key].remove(listening)
            if not self._listening[key]:
                del self._listening[key]


class Listening:
    """One who waits for a state of one payment that fulfils ``condition``."""

    def __init__(self, api: ModuleApi, condition: Condition) -> None:
        self._api = api
        self._condition = condition
        self._found: Payment | None = None
        self._waiter: Deferred[None] | None = None

    def heard(self, payment: Payment) -> None:
        if self._found is None and self._condition(payment):
            self._found = payment
            self._wake()

    async def until(self, pause_ms: int) -> Payment | None:
        """The state that was waited for, as it was committed; None if it did not come within ``pause_ms``."""
        if self._found is None:
            waiter: Deferred[None] = Deferred()
            self._waiter = waiter

            async def give_up() -> None:
                self._wake()

            # zope.interface declares the methods of IDelayedCall without self.
            timer: Any = self._api.delayed_background_call(pause_ms, give_up, desc="superapp_payment_wait")
            await make_deferred_yieldable(waiter)
            if timer.active():
                timer.cancel()
        return self._found

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            with outside_log_context():
                waiter.callback(None)
