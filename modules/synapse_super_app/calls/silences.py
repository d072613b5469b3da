"""Rings in groups that somebody does not want: a push rule of theirs keeps that one call from notifying them.

The event is in the room for the others. Clients ring by their person's push rules, and so do push gateways, so a rule
that matches this call alone silences it on every device. It is written before the event exists, and taken away when
the ring is over. Only the process that writes push rules can do it (``stream_writers.push_rules``, the main one if not
set); another one asks it.
"""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from prometheus_client import Counter

from super_app.calls import store
from super_app.calls.model import RING_GRACE_MS, Ring
from super_app.db import Cursor
from super_app.ids import UserId
from super_app.names import NAMESPACE
from super_app.signing import digest
from synapse_super_app.private_api import InstanceSilent
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_PER_PERSON_MAX: Final = 50
"""More rules than this at a time would slow down each push of that person."""
_SWEEP_LIMIT: Final = 200
_ENDPOINT: Final = "superapp_calls"
"""Where processes of this homeserver ask each other about push rules."""

_unsilenced_total = Counter(
    "superapp_call_unsilenced_total", "Rings in groups that were screened for somebody and could not be silenced."
)


class Silences:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        if runtime.private.has_workers:
            runtime.private.answer_instances(self._asked, _ENDPOINT)

    async def silence(self, user_id: UserId, ring: Ring, now_ms: int) -> None:
        """Keep a ring that is on its way from notifying somebody. If that fails, they are rung."""
        properties = _properties(ring)
        rule_id = _rule_id(properties)
        until_ms = now_ms + ring.lifetime_ms + RING_GRACE_MS

        def reserve(cur: Cursor) -> bool:
            if store.count_silences(cur, user_id) >= _PER_PERSON_MAX:
                return False
            store.add_silence(cur, user_id, rule_id, until_ms)
            return True

        try:
            if await self._runtime.database.run("calls_silence", reserve):
                await self._write(user_id, rule_id, properties)
            else:
                _unsilenced_total.inc()
        except Exception:
            _unsilenced_total.inc()
            logger.exception("Silencing a ring in a group for %s failed", user_id)

    async def _write(self, user_id: UserId, rule_id: str, properties: Mapping[str, str]) -> None:
        private = self._runtime.private
        if private.writes_push_rules:
            await private.silence(user_id, rule_id, properties)
            return
        request = {"operation": "silence", "user_id": user_id, "rule_id": rule_id, "properties": dict(properties)}
        await private.ask_instance(private.push_rule_writer, request, _ENDPOINT)

    async def _erase(self, user_id: UserId, rule_id: str) -> None:
        private = self._runtime.private
        if private.writes_push_rules:
            await private.unsilence(user_id, rule_id)
            return
        request = {"operation": "unsilence", "user_id": user_id, "rule_id": rule_id}
        await private.ask_instance(private.push_rule_writer, request, _ENDPOINT)

    async def _asked(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Another process of this homeserver wants a rule written, or taken away."""
        user_id, rule_id = UserId(str(request["user_id"])), str(request["rule_id"])
        if request["operation"] == "unsilence":
            await self._runtime.private.unsilence(user_id, rule_id)
        else:
            properties = {str(key): str(value) for key, value in request["properties"].items()}
            await self._runtime.private.silence(user_id, rule_id, properties)
        return {}

    async def sweep(self, now_ms: int) -> None:
        """Take away the rules of rings that are over."""
        for user_id, rule_id in await self._runtime.database.run(
            "calls_silences", lambda cur: store.lapsed_silences(cur, now_ms, _SWEEP_LIMIT)
        ):
            try:
                await self._erase(user_id, rule_id)
            except InstanceSilent as error:
                logger.warning("A push rule of a ring that is over stays for now: %s", error)
                return
            await self._runtime.database.run("calls_unsilence", partial(_forget, user_id=user_id, rule_id=rule_id))


def _forget(cur: Cursor, user_id: UserId, rule_id: str) -> None:
    store.delete_silence(cur, user_id, rule_id)


def _properties(ring: Ring) -> dict[str, str]:
    """What the events of this call, and of no other, have in common: also of a MatrixRTC ring that is encrypted."""
    found = {"room_id": str(ring.room_id), "sender": str(ring.caller)}
    if ring.call_id is not None:
        return {**found, "content.call_id": ring.call_id}
    if ring.reference is not None:
        return {**found, "content.m\\.relates_to.event_id": ring.reference}
    return {**found, "type": ring.event_type}


def _rule_id(properties: dict[str, str]) -> str:
    return f"{NAMESPACE}.silence.{digest([properties[key] for key in sorted(properties)])}"
