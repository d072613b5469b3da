"""Who waits for a payment hears of what is committed, at whatever moment, and never waits longer than it said."""

from dataclasses import replace
from typing import Any, cast

import pytest
from synapse.module_api import ModuleApi
from twisted.internet import defer

from super_app.payments.model import Payment, State
from synapse_super_app.payments.watch import Watch, is_settled


class PausedApi:
    """The part of ModuleApi that a watch uses; ``pass_time`` ends every pause."""

    class Timer:
        def __init__(self) -> None:
            self.is_active = True

        def active(self) -> bool:
            return self.is_active

        def cancel(self) -> None:
            self.is_active = False

    def __init__(self) -> None:
        self.pauses: list[tuple[PausedApi.Timer, Any]] = []

    def delayed_background_call(self, msec: float, f: Any, *, desc: str) -> Timer:
        timer = self.Timer()
        self.pauses.append((timer, f))
        return timer

    def pass_time(self) -> None:
        for timer, f in self.pauses:
            if timer.is_active:
                timer.is_active = False
                defer.ensureDeferred(f())


@pytest.fixture
def api() -> PausedApi:
    return PausedApi()


@pytest.fixture
def watch(api: PausedApi) -> Watch:
    return Watch(cast(ModuleApi, api))


def payment(state: State) -> Payment:
    names = dict.fromkeys(Payment.__dataclass_fields__)
    made = Payment(**cast(Any, names | {"payer_key": "alice", "payment_id": "0" * 32, "state": state}))
    return replace(made, answered=False)


HELD = payment(State.HELD)
COMPLETED = payment(State.COMPLETED)


def test_what_is_committed_before_one_waits_is_not_missed(watch: Watch) -> None:
    """As while the database is read, which shows the state before."""
    with watch.listening(HELD.key, is_settled) as listening:
        watch.heard(COMPLETED)
        done = defer.ensureDeferred(listening.until(2_000))
        assert done.called
        assert done.result is COMPLETED


def test_the_state_that_was_waited_for_is_the_answer(watch: Watch, api: PausedApi) -> None:
    with watch.listening(HELD.key, is_settled) as listening:
        done = defer.ensureDeferred(listening.until(2_000))
        watch.heard(HELD)
        assert not done.called
        watch.heard(COMPLETED)
        assert done.result is COMPLETED
    assert not any(timer.is_active for timer, _ in api.pauses)


def test_one_waits_no_longer_than_one_said(watch: Watch, api: PausedApi) -> None:
    with watch.listening(HELD.key, is_settled) as listening:
        done = defer.ensureDeferred(listening.until(2_000))
        api.pass_time()
        assert done.result is None
        watch.heard(COMPLETED)


def test_nothing_is_kept_of_those_who_have_left(watch: Watch) -> None:
    with watch.listening(HELD.key, is_settled), watch.listening(HELD.key, is_settled):
        pass
    assert not vars(watch)["_listening"]
