"""Carries clearing's errands to other homeservers, from the database, some at a time for each peer.

What is sent was committed before: errands are read back from the outbox, so nothing is sent that a crash could undo,
and a restart finds what a crash left. Nothing here polls: whoever commits something new calls ``wake``, and pauses end
by a timer.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, LiteralString, Protocol, TypeVar

from super_app.clearing.model import Agenda, Errand, MessageId, Received, Trouble
from super_app.clearing.objects import MAX_OPENINGS
from super_app.clearing.rules import RANGE_PAGE, RETRY_MS
from super_app.clearing.service import Clearing
from super_app.db import Cursor
from super_app.errors import Reason
from super_app.ids import ServerName
from super_app.ledger.lease import NotTheWriter
from super_app.names import CLEARING_PATH, ERRCODE_PREFIX
from synapse_super_app.clearing import metrics
from synapse_super_app.ledger.writer import LedgerWriter
from synapse_super_app.private_api import PutFailed, span
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

T = TypeVar("T")

WINDOW: Final = 8
"""Requests to one peer at a time. They may overtake each other; the protocol allows it."""
TIMEOUT_MS: Final = 10_000
_DATABASE_PAUSE_MS: Final = 5_000


class _Timer(Protocol):
    def active(self) -> int: ...

    def cancel(self) -> None: ...


@dataclass(slots=True, kw_only=True)
class _Line:
    """What goes on towards one peer."""

    peer: ServerName
    under_way: set[MessageId] = field(default_factory=set)
    looking: bool = False
    again: bool = False
    timer: _Timer | None = None


class Sender:
    """Sends while its process writes: ``wake`` begins that, ``stop`` ends it.

    ``certified`` verifies certificates in answers, ``handled`` hears of each.
    """

    def __init__(
        self,
        runtime: Runtime,
        writer: LedgerWriter,
        clearing: Clearing,
        *,
        certified: "Certifier",
        handled: Callable[[Received], None],
    ) -> None:
        self._runtime = runtime
        self._writer = writer
        self._clearing = clearing
        self._certified = certified
        self._handled = handled
        self._lines: dict[ServerName, _Line] = {}

    def wake(self, peers: Collection[ServerName]) -> None:
        """There may be something to send to these peers."""
        for peer in peers:
            self._look_soon(self._lines.setdefault(peer, _Line(peer=peer)))

    async def run_and_send(
        self, name: LiteralString, work: Callable[[Cursor], T], peer_of: Callable[[T], ServerName | None]
    ) -> T:
        """Run ``work`` as the writer does, and send at once what it left to send to the peer that it concerns.

        What is due is read in the same transaction, so that an OFFER leaves as soon as its order is bound.
        """
        now_ms = self._runtime.now_ms()
        under_way = {peer: frozenset(line.under_way) for peer, line in self._lines.items()}

        def with_agenda(cur: Cursor) -> tuple[T, ServerName | None, Agenda]:
            result = work(cur)
            peer = peer_of(result)
            busy = under_way.get(peer) if peer is not None else None
            if peer is None or busy is None or len(busy) >= WINDOW:
                return result, peer, Agenda()
            limit = WINDOW - len(busy)
            return result, peer, self._clearing.due(cur, peer, now_ms, limit=limit, under_way=busy)

        result, peer, agenda = await self._writer.run(name, with_agenda)
        if peer is not None:
            line = self._lines.get(peer)
            if line is None or peer not in under_way:
                self.wake({peer})
            else:
                self._follow(line, agenda)
        return result

    def stop(self) -> None:
        """Send nothing more. What is under way may still arrive; its answer is then asked for again by who writes."""
        lines, self._lines = self._lines, {}
        for line in lines.values():
            if line.timer is not None and line.timer.active():
                line.timer.cancel()

    def _is_over(self, line: _Line) -> bool:
        return self._lines.get(line.peer) is not line

    def _look_soon(self, line: _Line) -> None:
        line.again = True
        if not line.looking:
            line.looking = True
            self._runtime.api.run_as_background_process("superapp_clearing_look", self._look, line)

    async def _look(self, line: _Line) -> None:
        try:
            while line.again and not self._is_over(line):
                line.again = False
                self._follow(line, await self._agenda(line))
        except Exception:
            logger.exception("Looking for what to send to %s failed; it is tried again", line.peer)
            self._arm(line, self._runtime.now_ms() + _DATABASE_PAUSE_MS)
        finally:
            line.looking = False

    async def _agenda(self, line: _Line) -> Agenda:
        limit, under_way = WINDOW - len(line.under_way), frozenset(line.under_way)
        if limit <= 0:
            return Agenda()
        now_ms = self._runtime.now_ms()
        return await self._runtime.database.run(
            "clearing_due",
            lambda cur: self._clearing.due(cur, line.peer, now_ms, limit=limit, under_way=under_way),
        )

    def _follow(self, line: _Line, agenda: Agenda) -> None:
        if self._is_over(line):
            return
        for errand in agenda.errands:
            if errand.message_id not in line.under_way:
                line.under_way.add(errand.message_id)
                self._runtime.api.run_as_background_process("superapp_clearing_send", self._run, line, errand)
        if agenda.wake_ms is not None:
            self._arm(line, agenda.wake_ms)

    def _arm(self, line: _Line, wake_ms: int) -> None:
        if self._is_over(line):
            return
        if line.timer is not None and line.timer.active():
            line.timer.cancel()
        pause_ms = max(1, wake_ms - self._runtime.now_ms())

        async def look() -> None:
            self._look_soon(line)

        line.timer = self._runtime.api.delayed_background_call(pause_ms, look, desc="superapp_clearing_pause")

    async def _run(self, line: _Line, errand: Errand) -> None:
        """One errand, from the request to what its outcome changes. Whatever fails, the outbox still has it."""
        try:
            await self._deliver(line, errand)
        except NotTheWriter:
            logger.info("%s to %s is sent again by the process that writes now", errand.type, line.peer)
        except Exception:
            logger.exception("Sending %s to %s failed; it is tried again", errand.type, line.peer)
            line.under_way.discard(errand.message_id)
            self._arm(line, self._runtime.now_ms() + _DATABASE_PAUSE_MS)

    async def _deliver(self, line: _Line, errand: Errand) -> None:
        try:
            with span("clearing.send", type=errand.type.value, peer=errand.peer):
                answer = await self._runtime.private.put(
                    errand.peer, f"{CLEARING_PATH}/{errand.message_id}", errand.body, TIMEOUT_MS
                )
        except PutFailed as failure:
            if self._is_over(line):
                return
            await self._failed(errand, failure)
            line.under_way.discard(errand.message_id)
            self._look_soon(line)
            return
        metrics.objects_total.labels("out", errand.type.value).inc()
        found = answer.get("objects")
        # Nobody answers with more than a page of a range; what is over that would only hold up everybody's money.
        objects: Sequence[object] = found[:RANGE_PAGE] if isinstance(found, list) else ()
        given = answer.get("openings")
        openings: Sequence[object] = given[:MAX_OPENINGS] if isinstance(given, list) else ()
        certified = await self._certified(errand.peer, [{"object": each} for each in objects])
        if self._is_over(line):
            # It answers what an earlier tenure asked.
            return
        now_ms = self._runtime.now_ms()
        # What is done next joins the same transaction, so that a COMMIT leaves as soon as its ACCEPT is there.
        under_way = frozenset(line.under_way - {errand.message_id})

        def work(cur: Any) -> tuple[Received, Agenda]:
            received = self._clearing.delivered(cur, errand, objects, now_ms, openings=openings, certified=certified)
            limit = max(1, WINDOW - len(under_way))
            return received, self._clearing.due(cur, errand.peer, now_ms, limit=limit, under_way=under_way)

        received, agenda = await self._writer.run("clearing_delivered", work)
        line.under_way.discard(errand.message_id)
        self._follow(line, agenda)
        self._handled(received)

    async def _failed(self, errand: Errand, failure: PutFailed) -> None:
        reason = _reason_of(failure.errcode)
        retry_after_ms = failure.answer.get("retry_after_ms")
        away = failure.status is None or failure.status >= 500 or failure.status == 429
        if away:
            metrics.unreachable_total.labels(errand.peer).inc()
        else:
            metrics.refused_total.labels("out", "unknown" if reason is None else reason.value).inc()
        said = failure.answer.get("error")
        logger.info("%s to %s: %s %s", errand.type, errand.peer, failure, said if isinstance(said, str) else "")
        now_ms = self._runtime.now_ms()
        await self._writer.run(
            "clearing_failed",
            lambda cur: self._clearing.failed(
                cur,
                errand,
                Trouble.UNREACHABLE if away else Trouble.REFUSED,
                now_ms,
                error=f"{failure} {said if isinstance(said, str) else ''}".strip(),
                reason=reason,
                # The peer may ask for patience, and not for ever.
                retry_after_ms=max(0, min(retry_after_ms, RETRY_MS[-1])) if type(retry_after_ms) is int else None,
            ),
        )


class Certifier(Protocol):
    """Which LINK_OPENs among some bodies carry a certificate that their server's Matrix key signed."""

    async def __call__(self, origin: ServerName, bodies: Sequence[object]) -> frozenset[MessageId]: ...


def _reason_of(errcode: str | None) -> Reason | None:
    name = (errcode or "").removeprefix(ERRCODE_PREFIX)
    return Reason[name] if name != errcode and name in Reason.__members__ else None
