"""Clearing in the homeserver: what arrives over federation, what is sent, time, and the operator's routes.

Objects arrive by PUT on a federation path, authenticated by X-Matrix, at whatever process takes federation requests;
the answer to one is a refusal or the objects of ours that answer it. All work on links goes through the ledger's
writer, so everything but that door runs in the process that writes. Fails closed: what cannot be verified or written is
refused, and the peer sends it again.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, LiteralString, Protocol, TypeVar

from super_app.clearing import objects
from super_app.clearing.model import ChainObject, LinkPhase, MessageId, Received, SettlementId
from super_app.clearing.service import Clearing
from super_app.clearing.settlement_model import SettlementState
from super_app.clearing.settlements import waits_of
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from super_app.names import CLEARING_PATH
from synapse_super_app.clearing import metrics
from synapse_super_app.clearing.admin import (
    EvidenceListModel,
    LinkBody,
    LinkModel,
    LinksModel,
    evidence_model,
    link_model,
)
from synapse_super_app.clearing.identity import fresh_boot
from synapse_super_app.clearing.link_routes import LinkRoutes
from synapse_super_app.clearing.payment_routes import PaymentRoutes
from synapse_super_app.clearing.sender import Sender
from synapse_super_app.clearing.settle_routes import SettleRoutes
from synapse_super_app.http.refusals import error_of
from synapse_super_app.http.routes import Auth, Call, Route
from synapse_super_app.ledger.relay import Relay
from synapse_super_app.ledger.writer import LedgerWriter
from synapse_super_app.private_api import span
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

T = TypeVar("T")

_SERVLET_GROUP: Final = "superapp_clearing"
_RELAYED: Final = "clearing"
_MAX_UNDER_WAY: Final = 64
"""Requests of one origin at a time."""
_STRANGERS_PER_S: Final = 5
_STRANGERS_BURST: Final = 50
"""Requests of servers without a link, all of them together: they may ask to open one."""
_PUBLISH_MS: Final = 60_000.0
_ERASE_MS: Final = 3_600_000.0
_SETTLING_MS: Final = 5_000
_TIME_PAUSE_MS: Final = 500
_TICK_RETRY_MS: Final = 5_000
_EVIDENCE_SHOWN: Final = 100


class _Timer(Protocol):
    def active(self) -> int: ...

    def cancel(self) -> None: ...


class ClearingShell:
    """Constructed by payments; ``begin`` and ``end`` are those of a tenure of the ledger's writer."""

    def __init__(self, runtime: Runtime, writer: LedgerWriter, clearing: Clearing, relay: Relay) -> None:
        self._runtime = runtime
        self._writer = writer
        self._clearing = clearing
        self._sender = Sender(runtime, writer, clearing, certified=self._certified, handled=self._handled)
        self._peers: set[ServerName] = set()
        self._under_way: Counter[ServerName] = Counter()
        self._strangers = _Bucket(_STRANGERS_PER_S, _STRANGERS_BURST)
        self._ready = False
        self._begun_ms = 0
        self._tick_timer: _Timer | None = None
        self._tick_ms: int | None = None
        self._looks_at_time = False
        self._link_routes = LinkRoutes(runtime, writer, clearing, self._link_changed)
        self._settle_routes = SettleRoutes(runtime, writer, clearing, self._link_changed)
        self._payment_routes = PaymentRoutes(runtime, writer, clearing, self._link_changed)
        self._disputed: frozenset[SettlementId] = frozenset()
        self._relay = relay
        relay.serve(_RELAYED, self._put_relayed)
        runtime.private.answer_put(_SERVLET_GROUP, CLEARING_PATH, self._put)

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="POST",
                path="admin/links",
                handler=self._post_link,
                response=LinkModel,
                body=LinkBody,
                auth=Auth.ADMIN,
                summary="Open a link for payments with another homeserver, or change the credit that we grant it",
                reasons=(Reason.UNKNOWN_CURRENCY, Reason.NO_LINK, Reason.LINK_HALTED),
            ),
            Route(
                method="GET",
                path="admin/links",
                handler=self._get_links,
                response=LinksModel,
                auth=Auth.ADMIN,
                summary="The links with other homeservers: where they stand, what waits for whom, who owes what",
            ),
            Route(
                method="GET",
                path="admin/links/{peer}/evidence",
                handler=self._get_evidence,
                response=EvidenceListModel,
                auth=Auth.ADMIN,
                summary="What is kept against a peer: objects that contradict each other, newest first",
                reasons=(Reason.UNKNOWN_PEER,),
            ),
            *self._link_routes.routes(),
            *self._settle_routes.routes(),
            *self._payment_routes.routes(),
        )

    def _link_changed(self, peer: ServerName) -> None:
        """An operator did something that the peer may have to hear of."""
        self._peers.add(peer)
        self.wake()

    def start(self) -> None:
        """Look regularly, in whatever process; only the one that writes finds something to do."""
        for look, pause_ms in ((self._publish, _PUBLISH_MS), (self._erase, _ERASE_MS)):
            self._runtime.api.looping_background_call(
                look, pause_ms, desc="superapp_clearing_look", run_on_all_instances=True
            )

    async def begin(self, epoch: int) -> None:
        """Ask every peer what it knows of us, send what is left from before, and take up time again."""
        try:
            # Another process may have replaced the payment key while it wrote.
            self._link_routes.read_keys()
        except (OSError, ValueError):
            logger.exception("The payment key cannot be read again, so links keep the one of the start")
        self._clearing.begin(fresh_boot())
        now_ms = self._runtime.now_ms()
        views = await self._writer.run("clearing_start", lambda cur: self._clearing.started(cur, now_ms))
        for view in views:
            if view.phase in (LinkPhase.FROZEN, LinkPhase.HALTED, LinkPhase.RECOVERING):
                logger.error("Payments with %s are stopped: %s", view.peer, view.why)
        metrics.publish(views)
        self._peers = {view.peer for view in views if view.phase is not LinkPhase.WAITING_FOR_US}
        self._ready = True
        self._begun_ms = self._runtime.now_ms()
        self.wake()

    @property
    def is_settling(self) -> bool:
        """Whether the tenure has only just begun, so that peers may still be about to answer HEAD?."""
        return self._ready and 0 <= self._runtime.now_ms() - self._begun_ms < _SETTLING_MS

    def end(self) -> None:
        self._ready = False
        self._sender.stop()
        if self._tick_timer is not None and self._tick_timer.active():
            self._tick_timer.cancel()
        self._tick_ms = None

    def wake(self) -> None:
        """Something was committed that may be to send or to time. Returns at once."""
        if not self._ready:
            return
        self._sender.wake(self._peers)
        self._time_soon()

    async def run_and_send(
        self, name: LiteralString, work: Callable[[Cursor], T], peer_of: Callable[[T], ServerName | None]
    ) -> T:
        """Run ``work`` as the writer does, and send at once what it left to send to the peer that it concerns."""
        if not self._ready:
            return await self._writer.run(name, work)
        result = await self._sender.run_and_send(name, work, peer_of)
        if peer_of(result) is not None:
            self._time_soon()
        return result

    # What arrives.

    async def _put(self, origin: ServerName, message_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self._relay.at_writer(
            _RELAYED,
            lambda: {"origin": origin, "message_id": message_id, "body": dict(body)},
            lambda: self._put_here(origin, message_id, body),
            dict,
        )

    async def _put_relayed(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return await self._put_here(ServerName(arguments["origin"]), arguments["message_id"], arguments["body"])

    async def _put_here(self, origin: ServerName, message_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if not self._ready:
            raise error_of(
                Refused(
                    reason=Reason.STARTING,
                    message="The server is starting; try again in a moment.",
                    fields={"retry_after_ms": 2_000},
                )
            )
        refused = self._admit(origin)
        if refused is not None:
            raise error_of(_counted(refused))
        self._under_way[origin] += 1
        try:
            with span("clearing.receive", peer=origin):
                received = await self._receive(origin, message_id, body)
        finally:
            self._under_way[origin] -= 1
            if self._under_way[origin] == 0:
                del self._under_way[origin]
        if isinstance(received, Refused):
            # An object that we cannot take yet may be one that we can once the peer has answered us.
            if received.reason is Reason.LINK_HALTED:
                self._sender.wake({origin} & self._peers)
            raise error_of(_counted(received))
        self._handled(received)
        if received.moved:
            self._sender.wake({origin} & self._peers)
        if received.refused is not None:
            raise error_of(_counted(received.refused))
        answer = {"objects": list(received.objects)}
        return {**answer, "openings": list(received.openings)} if received.openings else answer

    async def _receive(self, origin: ServerName, message_id: str, body: Mapping[str, Any]) -> Received | Refused:
        certified = await self._certified(origin, [body])
        now_ms = self._runtime.now_ms()
        received = await self._writer.run(
            "clearing_receive",
            lambda cur: self._clearing.receive(cur, origin, body, now_ms, message_id=message_id, certified=certified),
        )
        if isinstance(received, Received):
            kind = body["object"]["type"]
            metrics.objects_total.labels("in", kind).inc()
        return received

    def _admit(self, origin: ServerName) -> Refused | None:
        if self._under_way[origin] >= _MAX_UNDER_WAY or (
            origin not in self._peers and not self._strangers.take(self._runtime.now_ms())
        ):
            return Refused(
                reason=Reason.TOO_MANY_REQUESTS,
                message="Too many requests at once; send the next one later.",
                fields={"retry_after_ms": 1_000},
            )
        return None

    async def _certified(self, origin: ServerName, bodies: Sequence[object]) -> frozenset[MessageId]:
        """What brings a key among these bodies, whose certificate the Matrix key of ``origin`` signed."""
        found: set[MessageId] = set()
        for body in bodies:
            if not _brings_key(body):
                continue
            read = objects.read_body(body)
            if isinstance(read, Refused) or not isinstance(read[0], ChainObject) or read[0].key is None:
                continue
            # Whether the Matrix key was replaced since does not matter: the payment key was certified when it was made.
            if await self._runtime.private.is_signed_by(origin, read[0].key.certificate, 0):
                found.add(read[0].message_id)
        return frozenset(found)

    def _handled(self, received: Received) -> None:
        """After the commit of what a peer sent, by itself or as an answer."""
        for alarm in received.alarms:
            logger.error("Clearing with %s: %s (%s)", alarm.peer, alarm.message, alarm.kind.value)
            metrics.sound(alarm)
        if received.refused is not None:
            logger.info("Refused an object of a peer: %s", received.refused.message)
        if received.moved:
            self._time_soon()

    # Time.

    def _time_soon(self) -> None:
        """What was committed may have brought a deadline. Many commits in a row are one look."""
        if self._ready and not self._looks_at_time:
            self._looks_at_time = True
            self._runtime.api.delayed_background_call(_TIME_PAUSE_MS, self._look_at_time, desc="superapp_clearing_time")

    async def _look_at_time(self) -> None:
        self._looks_at_time = False
        next_ms = await self._runtime.database.run("clearing_next", self._clearing.next_tick_ms)
        if next_ms is not None:
            self._tick_at(next_ms)

    def _tick_at(self, when_ms: int) -> None:
        if not self._ready:
            return
        if self._tick_timer is not None and self._tick_timer.active():
            if self._tick_ms is not None and self._tick_ms <= when_ms:
                return
            self._tick_timer.cancel()
        self._tick_ms = when_ms
        pause_ms = max(1, when_ms - self._runtime.now_ms())
        self._tick_timer = self._runtime.api.delayed_background_call(
            pause_ms, self._tick, desc="superapp_clearing_tick"
        )

    async def _tick(self) -> None:
        if not self._ready:
            return
        now_ms = self._runtime.now_ms()
        next_ms: int | None = now_ms + _TICK_RETRY_MS
        try:
            waiting = await self._runtime.database.run("clearing_ticks", self._clearing.next_ticks_ms)
            # Each link in a transaction of its own: what is wrong with one holds up no other.
            done = [await self._tick_link(peer, now_ms) for peer, when_ms in waiting.items() if when_ms <= now_ms]
            if all(done):
                next_ms = await self._runtime.database.run("clearing_next", self._clearing.next_tick_ms)
        except Exception:
            logger.exception("Looking for what is due failed; it is tried again")
        if next_ms is not None:
            self._tick_at(next_ms)
        if self._ready:
            self._sender.wake(self._peers)

    async def _tick_link(self, peer: ServerName, now_ms: int) -> bool:
        """Whether what was due with a peer was done."""
        try:
            await self._writer.run("clearing_tick", lambda cur: self._clearing.tick_link(cur, peer, now_ms))
        except Exception:
            logger.exception("Ending what is due with %s failed; it is tried again", peer)
            return False
        return True

    # Operators.

    async def _post_link(self, call: Call) -> LinkModel | Refused:
        body: LinkBody = call.body
        terms = body.terms(dict(self._runtime.config.payments.by_code()))
        if isinstance(terms, Refused):
            return terms
        now_ms = self._runtime.now_ms()
        view = await self._writer.run("clearing_open", lambda cur: self._clearing.open_link(cur, terms, now_ms))
        if isinstance(view, Refused):
            return view
        self._peers.add(terms.peer)
        self.wake()
        return link_model(view)

    async def _get_links(self, call: Call) -> LinksModel:
        views = await self._runtime.database.run("clearing_links", self._clearing.links)
        return LinksModel(links=[link_model(view) for view in views])

    async def _get_evidence(self, call: Call) -> EvidenceListModel | Refused:
        peer = ServerName(call.path["peer"])
        views = await self._runtime.database.run("clearing_links", self._clearing.links)
        if all(view.peer != peer for view in views):
            return Refused(reason=Reason.UNKNOWN_PEER, message=f"There is no link with {peer[:255]!r}.")
        found = await self._runtime.database.run(
            "clearing_evidence", lambda cur: self._clearing.evidence(cur, peer, _EVIDENCE_SHOWN)
        )
        return EvidenceListModel(evidence=[evidence_model(each) for each in found])

    async def _publish(self) -> None:
        if not self._ready:
            return
        # Also for what a wake was lost for, with a database that was away at the wrong moment.
        self.wake()
        metrics.publish(await self._runtime.database.run("clearing_links", self._clearing.links))
        await self._tell_of_disputes()

    async def _tell_of_disputes(self) -> None:
        """Once for each settlement in a run of the process: money is somewhere, and two operators must look for it."""
        found = await self._runtime.database.run("settlements_open", self._clearing.settlements.open_ones)
        metrics.publish_settlements(found)
        disputed = [each for each in found if each.state is SettlementState.DISPUTED]
        for each in disputed:
            if each.terms.settlement_id not in self._disputed:
                logger.error("A settlement with %s is %s", each.peer, waits_of(each))
        self._disputed = frozenset(each.terms.settlement_id for each in disputed)

    async def _erase(self) -> None:
        if not self._ready:
            return
        before_ms = self._runtime.now_ms() - self._runtime.config.retention.memos
        await self._writer.run("clearing_erase", lambda cur: self._clearing.erase(cur, before_ms))


class _Bucket:
    """A number of requests a second, and some more at once."""

    def __init__(self, per_s: int, burst: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._level_millis = burst * 1_000
        self._at_ms = 0

    def take(self, now_ms: int) -> bool:
        passed_ms = max(0, now_ms - self._at_ms)
        self._at_ms = now_ms
        self._level_millis = min(self._burst * 1_000, self._level_millis + passed_ms * self._per_s)
        if self._level_millis < 1_000:
            return False
        self._level_millis -= 1_000
        return True


def _brings_key(body: object) -> bool:
    match body:
        case {"object": {"type": "LINK_OPEN" | "KEY" | "FENCE", "key": _}}:
            return True
        case _:
            return False


def _counted(refused: Refused) -> Refused:
    metrics.refused_total.labels("in", refused.reason.value).inc()
    return refused
