"""How long after an answer there is media, through coturn: real sound and pictures between two homeservers.

The ends are aiortc, on the processors that the homeservers have too, so the yardstick is the same call without a relay:
the same signalling, encryption and codecs. The clock runs from the moment at which the callee's client begins to
answer, with credentials in its hand, until both sides have decoded a frame of sound and of the picture.

What a relay adds is the ends' own: they get an allocation each, and the callee's first check reaches the caller's relay
before that one has a permission for it, so it is sent once more after the half second of STUN (RFC 8489, 6.2.1).
"""

import asyncio
import itertools
import shutil
import statistics
import time
from collections.abc import Iterator
from typing import Any, Final

import turn_server
from aiortc import RTCSessionDescription
from phones import Phone, is_of_call

from benchmarks.frame import Context, Row
from benchmarks.watch import Watch
from super_app.db import Engine
from synapse_super_app.commands import loopback
from synapse_super_app.commands.demo_pair import MODULE_CONFIG, PORTS, DemoPair
from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError, wait_until

NAMES: Final = ("call.media",)
_ROUNDS: Final = 5
_EACH: Final = 20
_WARM_UP: Final = 3
_PATIENCE_S: Final = 60.0

_numbers: Final = itertools.count()


def run(context: Context) -> Iterator[Row]:
    if shutil.which("turnserver") is None:
        context.say("call.media: skipped, since there is no coturn (make install-coturn)")
        return
    folder = context.folder / "media"
    folder.mkdir()
    uri, secret = turn_server.place(folder)
    calls = {**MODULE_CONFIG["calls"], "turn_uris": [uri], "turn_secret_path": str(secret)}
    pair = DemoPair(
        data=folder / "pair",
        port_base=loopback.free_ports(PORTS),
        engine=Engine.POSTGRESQL,
        module_config={**MODULE_CONFIG, "calls": calls},
    )
    with turn_server.running(folder, uri), pair:
        yield _media(context, pair)


def _media(context: Context, pair: DemoPair) -> Row:
    line = _Line(pair)
    context.say(f"call.media: {_ROUNDS} rounds of {_EACH} calls through coturn and {_EACH} without it, in turns")
    relayed: list[float] = []
    direct: list[float] = []
    for round_number in range(_ROUNDS + 1):
        with_relay: list[float] = []
        without: list[float] = []
        for _ in range(_EACH if round_number else _WARM_UP):
            with_relay.append(asyncio.run(line.call_ms(by_relay=True)))
            without.append(asyncio.run(line.call_ms(by_relay=False)))
        if round_number:
            relayed.append(statistics.median(with_relay))
            direct.append(statistics.median(without))
    return Row(
        name="call.media",
        value=statistics.median(relayed),
        unit="ms p50 from the answer to sound and pictures on both sides, through coturn",
        yardstick="the same call without a relay",
        yardstick_value=statistics.median(direct),
        goal=None,
        n=_ROUNDS * _EACH,
    )


class _Line:
    """Two people of two homeservers who call each other again and again."""

    def __init__(self, pair: DemoPair) -> None:
        self._caller, self._callee = pair.client("alice"), pair.client("bob")
        self._room = pair.room_id
        self._hers, self._his = Watch(self._caller, self._room), Watch(self._callee, self._room)

    async def call_ms(self, *, by_relay: bool) -> float:
        call_id = f"media-{next(_numbers)}"
        self._caller.superapp(
            "POST",
            "calls",
            {"call_id": call_id, "callee": self._callee.user_id, "media": "video", "room_id": self._room},
        )
        caller = Phone(await _credentials(self._caller, call_id) if by_relay else None)
        callee = Phone(await _credentials(self._callee, call_id) if by_relay else None)
        try:
            offer = await caller.offer()
            self._say(self._caller, "m.call.invite", call_id, lifetime=60_000, offer={"type": "offer", "sdp": offer})
            await asyncio.to_thread(self._his.until, is_of_call("m.call.invite", call_id))
            began_s = time.perf_counter()
            answer = await callee.answer(offer)
            answered = asyncio.create_task(asyncio.to_thread(self._hers.until, is_of_call("m.call.answer", call_id)))
            await asyncio.to_thread(
                self._say, self._callee, "m.call.answer", call_id, answer={"type": "answer", "sdp": answer}
            )
            await answered
            await caller.connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
            await asyncio.gather(*(phone.hears_and_sees(1) for phone in (caller, callee)))
            first_s = max(at_s for phone in (caller, callee) for at_s in phone.first_s.values())
        finally:
            await asyncio.gather(caller.hang_up(), callee.hang_up())
            self._say(self._caller, "m.call.hangup", call_id, reason="user_hangup")
        # Over on both sides, so that the next ring finds nothing open.
        await asyncio.to_thread(self._his.until, is_of_call("m.call.hangup", call_id))
        return (first_s - began_s) * 1000

    def _say(self, who: MatrixClient, event_type: str, call_id: str, **said: Any) -> None:
        party = "A" if who is self._caller else "B"
        who.send(self._room, event_type, {"call_id": call_id, "version": "1", "party_id": party, **said})


async def _credentials(person: MatrixClient, call_id: str) -> dict[str, Any]:
    """Once the ring has arrived."""

    def asked() -> dict[str, Any] | None:
        try:
            return person.superapp("GET", f"calls/{call_id}/turn")
        except MatrixError:
            return None

    return await asyncio.to_thread(wait_until, asked, timeout_s=_PATIENCE_S, what="the ring to arrive")
