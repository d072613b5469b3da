"""Waits a moment for a payment to get somewhere, so that an answer can tell how it went."""

from collections import defaultdict
from collections.abc import Callable
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
        self._waiting: dict[PaymentKey, list[tuple[Condition, Deferred[None]]]] = defaultdict(list)

    def heard(self, payment: Payment) -> None:
        """A state of a payment was committed by this process."""
        waiting = self._waiting.get(payment.key)
        if waiting is None:
            return
        for condition, waiter in tuple(waiting):
            if condition(payment):
                self._wake(payment.key, condition, waiter)

    async def wait(self, key: PaymentKey, condition: Condition, pause_ms: int) -> None:
        """Until a state that fulfils ``condition`` is heard of, ``pause_ms`` at most. Who asks reads it afterwards."""
        waiter: Deferred[None] = Deferred()
        self._waiting[key].append((condition, waiter))

        async def give_up() -> None:
            self._wake(key, condition, waiter)

        # zope.interface declares the methods of IDelayedCall without self.
        timer: Any = self._api.delayed_background_call(pause_ms, give_up, desc="superapp_payment_wait")
        await make_deferred_yieldable(waiter)
        if timer.active():
            timer.cancel()

    def _wake(self, key: PaymentKey, condition: Condition, waiter: "Deferred[None]") -> None:
        waiting = self._waiting.get(key, [])
        if (condition, waiter) not in waiting:
            return
        waiting.remove((condition, waiter))
        if not waiting:
            del self._waiting[key]
        with outside_log_context():
            waiter.callback(None)
