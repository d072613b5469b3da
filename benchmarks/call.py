"""What a ring costs beside a plain message, its decision, what is no ring, and a flood of rings."""

import asyncio
import itertools
import re
import statistics
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final, cast

from synapse.module_api import ModuleApi

from benchmarks.frame import Context, Row
from benchmarks.homeservers import LoneHomeserver
from benchmarks.watch import Watch, message_ms
from super_app.db import Engine
from super_app.names import AccountDataType, EventType
from synapse_super_app.commands import loopback
from synapse_super_app.commands.demo_pair import PORTS, DemoPair
from synapse_super_app.commands.matrix_client import MatrixClient
from synapse_super_app.config import RolloutConfig
from synapse_super_app.gate import Gate
from synapse_super_app.rollout import Rollout

NAMES: Final = ("call.ring", "call.ring.p95", "call.screen", "call.other", "call.flood")
_ROUNDS: Final = 5
_EACH: Final = 24
_WARM_UP: Final = 6
_DECISIONS: Final = 300
_OTHER_EVENTS: Final = 200_000
_FLOOD: Final = 1_000
_FLOOD_ROUNDS: Final = 5
_PLAIN: Final = 300
"""Messages beside which the flood of rings is measured: enough for a median of each round."""
_SHOWN_MAX: Final = 10

_numbers: Final = itertools.count()


def run(context: Context) -> Iterator[Row]:
    if context.wants("call.other"):
        yield _other(context)
    if context.wants("call.screen"):
        yield _screen(context)
    if any(context.wants(name) for name in ("call.ring", "call.ring.p95", "call.flood")):
        pair = DemoPair(data=context.folder / "call", port_base=loopback.free_ports(PORTS), engine=Engine.POSTGRESQL)
        with pair:
            yield from _rings(context, pair)
            if context.wants("call.flood"):
                yield _flood(context, pair)


def _ring(caller: MatrixClient, room: str) -> str:
    call_id = f"bench-{next(_numbers)}"
    caller.send(room, EventType.CALL_RING, {"call_id": call_id, "media": "audio"})
    return call_id


def _rings(context: Context, pair: DemoPair) -> Iterator[Row]:
    """A ring over federation into the callee's ``/sync``, in turns with plain messages."""
    names = [name for name in ("call.ring", "call.ring.p95") if context.wants(name)]
    if not names:
        return
    alice, watch = pair.client("alice"), Watch(pair.client("bob"), pair.room_id)
    context.say(f"call.ring: {_ROUNDS} rounds of {_EACH} rings and {_EACH} messages in turns")
    rings: list[list[float]] = []
    messages: list[list[float]] = []
    for round_number in range(_ROUNDS + 1):
        rung: list[float] = []
        texts: list[float] = []
        for _ in range(_EACH if round_number else _WARM_UP):
            texts.append(message_ms(watch, alice, pair.room_id))
            rung.append(_ring_ms(watch, alice, pair.room_id))
        if round_number:
            rings.append(rung)
            messages.append(texts)
    for name, share, goal in (("call.ring", 50, "<= 1.2"), ("call.ring.p95", 95, "<= 1.5")):
        if name in names:
            yield Row(
                name=name,
                value=statistics.median(_percentile(each, share) for each in rings),
                unit=f"ms p{share}",
                yardstick="plain message to the other server's /sync",
                yardstick_value=statistics.median(_percentile(each, share) for each in messages),
                goal=goal,
                n=_ROUNDS * _EACH,
            )


def _ring_ms(watch: Watch, caller: MatrixClient, room: str) -> float:
    began_s = time.perf_counter()
    call_id = _ring(caller, room)
    watch.until(lambda event: event["type"] == EventType.CALL_RING.value and event["content"].get("call_id") == call_id)
    elapsed_ms = (time.perf_counter() - began_s) * 1000
    # Over, so that the next ring finds nothing open.
    watch.client.send(room, "m.call.reject", {"call_id": call_id, "version": "1", "party_id": "B"})
    return elapsed_ms


def _screen(context: Context) -> Row:
    """Decisions by a whole policy in a running homeserver, as its own histogram counts them."""
    client_port = loopback.free_ports(2)
    metrics_port = client_port + 1
    config = {
        "features": {"directory": True, "calls": True, "payments": False, "web": False},
        "calls": {"limits": {"rings": 0}},
    }
    homeserver = LoneHomeserver(context.folder / "screen", client_port, metrics_port, config)
    with homeserver:
        caller, callee = homeserver.account("caller"), homeserver.account("callee")
        room = caller.create_room(preset="trusted_private_chat", invite=[callee.user_id], is_direct=True)
        callee.join(room)
        shared = caller.create_room(preset="private_chat", invite=[callee.user_id])
        callee.join(shared)
        callee.set_account_data(
            AccountDataType.CALL_POLICY,
            {
                "v": 1,
                "who": ["contacts", "shared_rooms"],
                "deny": [f"@pest{number}:example.org" for number in range(200)],
                "servers": {"deny": ["*.example.net"]},
                "rate": {"caller": 0, "server": 1_000, "strangers": 1_000},
                "quiet": {"time_zone": "Europe/Berlin", "windows": [{"from": "03:00", "to": "03:01"}]},
            },
        )
        for _ in range(_WARM_UP):
            _ring(caller, room)
        before = _buckets(metrics_port)
        context.say(f"call.screen: {_DECISIONS} rings")
        for _ in range(_DECISIONS):
            _ring(caller, room)
        after = _buckets(metrics_port)
    counts = {bound: after[bound] - before.get(bound, 0.0) for bound in after}
    total = max(counts.values())
    p95_s = next(bound for bound in sorted(counts) if counts[bound] >= 0.95 * total)
    return Row(
        name="call.screen",
        value=p95_s * 1000,
        unit="ms p95 (upper bound of its histogram bucket)",
        yardstick=None,
        yardstick_value=None,
        goal="<= 1",
        n=int(total),
    )


def _buckets(metrics_port: int) -> dict[float, float]:
    """The decisions so far that took no longer than a time in seconds."""
    with MatrixClient(loopback.client_url(metrics_port)) as client:
        _, body = client.request_raw("GET", "/_synapse/metrics")
    pattern = r'^superapp_call_screening_seconds_bucket{[^}]*le="([^"]+)"[^}]*} (\S+)'
    found = re.findall(pattern, body.decode(), re.MULTILINE)
    return {float(bound): float(count) for bound, count in found}


def _other(context: Context) -> Row:
    """What the gate adds to an event that is no ring, in microseconds."""
    context.say(f"call.other: {_OTHER_EVENTS} events")
    gate = Gate(cast(ModuleApi, _NoApi()), Rollout(RolloutConfig()), lambda _: False)

    async def never(event: Any) -> str:
        raise AssertionError(f"{event.type} is no ring")

    gate.register({EventType.CALL_RING.value: never, "m.call.invite": never})
    gate.open()
    event: Any = SimpleNamespace(type="m.room.message", sender="@a:example.org")

    async def through() -> float:
        began_s = time.perf_counter()
        for _ in range(_OTHER_EVENTS):
            await gate.check_event_for_spam(event)
        return (time.perf_counter() - began_s) / _OTHER_EVENTS * 1e6

    return Row(
        name="call.other",
        value=statistics.median(asyncio.run(through()) for _ in range(3)),
        unit="µs per event that is no ring",
        yardstick=None,
        yardstick_value=None,
        goal="<= 20",
        n=3 * _OTHER_EVENTS,
    )


class _NoApi:
    """A homeserver that takes callbacks and is asked nothing."""

    def register_spam_checker_callbacks(self, **_callbacks: object) -> None:
        return None

    def is_mine(self, _user_id: str) -> bool:
        return True


def _flood(context: Context, pair: DemoPair) -> Row:
    """Messages to somebody while one origin rings them in vain, beside the same while it sends as many messages."""
    alice, bob, dave = pair.client("alice"), pair.client("bob"), pair.client("dave")
    alice.set_account_data(
        AccountDataType.CALL_POLICY, {"v": 1, "who": ["everyone"], "rate": {"caller": _SHOWN_MAX, "server": _SHOWN_MAX}}
    )
    room = dave.create_room(preset="private_chat", invite=[alice.user_id])
    alice.join(room)
    watch = Watch(alice, room)
    context.say(f"call.flood: {_FLOOD} rings and {_PLAIN} messages of one origin, in turns; some minutes")
    began_ms = time.time() * 1000
    rung: list[float] = []
    plain: list[float] = []
    for _ in range(_FLOOD_ROUNDS):
        plain.append(_during(watch, dave, room, _PLAIN, lambda: bob.send_text(pair.room_id, "flood")))
        rung.append(_during(watch, dave, room, _FLOOD, lambda: _ring(bob, pair.room_id)))
    shown = _shown_since(alice, began_ms)
    if shown > _SHOWN_MAX:
        raise AssertionError(f"{shown} rings of a flood were shown")
    return Row(
        name="call.flood",
        value=statistics.median(rung),
        unit=f"ms p50 of a message ({shown} of {_FLOOD} rings shown)",
        yardstick="the same during a flood of plain messages",
        yardstick_value=statistics.median(plain),
        goal="<= 1.1",
        n=_FLOOD,
    )


def _shown_since(person: MatrixClient, since_ms: float) -> int:
    """How many rings somebody's history holds since a time that were not screened."""
    shown = 0
    query: dict[str, str | int] = {"limit": 100}
    while True:
        page = person.superapp("GET", "calls", query=query)
        calls = [call for call in page["calls"] if call["ring_ts"] >= since_ms]
        shown += len([call for call in calls if call["outcome"] != "screened"])
        if "next" not in page or len(calls) < len(page["calls"]):
            return shown
        query["since"] = page["next"]


def _during(watch: Watch, sender: MatrixClient, room: str, count: int, disturb: Any) -> float:
    """The median way of messages while ``disturb`` is done again and again, ``count`` times in all rounds."""
    done = threading.Event()

    def flood() -> None:
        try:
            for _ in range(count // _FLOOD_ROUNDS):
                disturb()
        finally:
            done.set()

    thread = threading.Thread(target=flood)
    thread.start()
    taken: list[float] = []
    while not done.is_set():
        taken.append(message_ms(watch, sender, room))
    thread.join()
    return statistics.median(taken)


def _percentile(values: list[float], share: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]
