"""Synapse that stops at named points until the test process lets it go on. Homeservers from the nursery become that.

Such a homeserver tells the test process, at a port on loopback, that it has reached a point, and goes on when that one
has answered. What the test does meanwhile is its affair: cut the network, or kill the homeserver, which is then exactly
there. Nothing else differs from a homeserver for people but some durations, so that what takes 15 s or a minute there
takes a second or two here.

The points, each with what it is about and the amount of the payment:

========== ==================================================================
sending    an object or a query is about to leave
arrived    one came from a peer, and nothing has been done about it
answering  it was stored and committed, and the answer is about to leave
committing a step has been written, and is about to be committed
committed  it is, and nobody has heard of it yet
========== ==================================================================
"""

import json
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

from synapse.module_api import make_deferred_yieldable
from twisted.internet import reactor as _reactor
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from super_app.clearing import rules
from super_app.clearing.service import Clearing
from super_app.payments.service import Payments
from synapse_super_app.clearing import sender, shell
from synapse_super_app.ledger.writer import LedgerWriter
from synapse_super_app.payments import deadlines
from synapse_super_app.private_api import PrivateApi

_LADDER_MS: Final = 1_000
_SOON_MS: Final = 300
_TIMEOUT_MS: Final = 2_000
_SWEEP_MS: Final = 2_000
_WAITING: Final = 64
"""How many may be held at points at a time without keeping others from theirs."""

reactor: Any = _reactor


class Mark(NamedTuple):
    """What a step was about. An amount of 0: about no payment."""

    what: str
    amount_minor: int


class _Marks(threading.local):
    """The steps of the work that runs now in this thread."""

    def __init__(self) -> None:
        self.now: list[Mark] = []


_marks = _Marks()


class Points:
    """Tells the test process. One connection for each point that is reached, since several may be waited at."""

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._threads: ThreadPool | None = None

    def reached(self, point: str, mark: Mark) -> None:
        """Return when the test lets us go on. Blocks."""
        words = {"pid": os.getpid(), "point": point, **mark._asdict()}
        with socket.create_connection(self._address) as told:
            told.sendall(json.dumps(words).encode() + b"\n")
            told.recv(1)

    async def reached_on_the_reactor(self, point: str, mark: Mark) -> None:
        """The same, and meanwhile the homeserver goes on with the rest."""
        if self._threads is None:
            # Of its own, since the reactor's few threads have other work.
            self._threads = ThreadPool(0, _WAITING, "points")
            self._threads.start()
            reactor.addSystemEventTrigger("during", "shutdown", self._threads.stop)
        await make_deferred_yieldable(deferToThreadPool(reactor, self._threads, self.reached, point, mark))


def install(points: Points) -> None:
    """Stop at all points, and let no pause be long."""
    fast: Any = rules
    fast.RETRY_MS = (_LADDER_MS,) * len(rules.RETRY_MS)
    fast.FRESH_TRY_MS = fast.DIRECT_ANSWER_MS = fast.GAP_PATIENCE_MS = _SOON_MS
    patient: Any = sender
    patient.TIMEOUT_MS = _TIMEOUT_MS
    # How long what was lost between a commit and its echo may stay unseen.
    sweeps: Any = deadlines
    sweeps._RELOAD_MS = _SWEEP_MS
    publishing: Any = shell
    publishing._PUBLISH_MS = float(_SWEEP_MS)
    _stop_on_the_network(points)
    _stop_at_commits(points)
    _mark_steps()


def _mark_of(body: Mapping[str, Any]) -> Mark:
    fields = body["object"]
    amount = fields.get("amount")
    return Mark(str(fields["type"]), amount if isinstance(amount, int) else 0)


def _stop_on_the_network(points: Points) -> None:
    private: Any = PrivateApi
    put, answer_put = private.put, private.answer_put

    async def stopping_put(self: Any, server: str, path: str, body: Mapping[str, Any], timeout_ms: int) -> Any:
        await points.reached_on_the_reactor("sending", _mark_of(body))
        return await put(self, server, path, body, timeout_ms)

    def stopping_answer_put(self: Any, group: str, path: str, handler: Callable[..., Awaitable[Any]]) -> None:
        async def stopping(origin: str, message_id: str, body: Mapping[str, Any]) -> Any:
            mark = _mark_of(body)
            await points.reached_on_the_reactor("arrived", mark)
            answer = await handler(origin, message_id, body)
            await points.reached_on_the_reactor("answering", mark)
            return answer

        answer_put(self, group, path, stopping)

    private.put, private.answer_put = stopping_put, stopping_answer_put


def _stop_at_commits(points: Points) -> None:
    writer: Any = LedgerWriter
    run = writer.run

    async def stopping_run(self: Any, name: str, work: Callable[[Any], Any]) -> Any:
        marks: list[Mark] = []

        def marked(cur: Any) -> Any:
            _marks.now = []
            result = work(cur)
            # A work may run again; only what its last run did counts.
            marks[:] = _marks.now
            for mark in marks:
                points.reached("committing", mark)
            return result

        result = await run(self, name, marked)
        for mark in marks:
            await points.reached_on_the_reactor("committed", mark)
        return result

    writer.run = stopping_run


def _mark_steps() -> None:
    payments: Any = Payments
    clearing: Any = Clearing

    def marking(owner: Any, name: str, mark_of: Callable[..., Mark | None]) -> None:
        step = getattr(owner, name)

        def marked(self: Any, cur: Any, *args: Any, **more: Any) -> Any:
            result = step(self, cur, *args, **more)
            mark = mark_of(result, *args)
            if mark is not None:
                _marks.now.append(mark)
            return result

        setattr(owner, name, marked)

    def of_payment(what: str) -> Callable[..., Mark | None]:
        def mark_of(result: Any, *_: Any) -> Mark | None:
            money = getattr(result, "money", None)
            return None if money is None else Mark(what, money.amount_minor)

        return mark_of

    for step in ("place", "bind", "accept", "decline", "cancel"):
        marking(payments, step, of_payment(step))
    marking(clearing, "receive", _mark_of_what_came)
    marking(clearing, "delivered", _mark_of_an_answer)


def _mark_of_what_came(_: Any, _origin: str, body: Mapping[str, Any], *_more: Any) -> Mark:
    return _mark_of(body)


def _mark_of_an_answer(_: Any, errand: Any, *_more: Any) -> Mark:
    mark = _mark_of(errand.body)
    return mark._replace(what=f"answer to {mark.what}")


def stop_at_points(port: int) -> None:
    """What the nursery calls in each of these homeservers before it starts."""
    install(Points(port))
