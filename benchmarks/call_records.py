"""A thousand calls at random between two homeservers that are killed again and again, and what both sides recorded.

Nothing is timed: the figure is how many of the records are not what happened. Each call is rung, and answered,
declined, hung up or left alone; homeservers are killed right after rings, and right after what ends them.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.frame import Context, Row
from super_app.db import Engine
from super_app.names import EventType
from synapse_super_app.commands import loopback
from synapse_super_app.commands.demo_pair import PORTS, DemoPair
from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError, UnreachableError, wait_until

NAMES: Final = ("call.records",)
_CALLS: Final = 1_000
_AT_ONCE: Final = 20
_KILL_SHARE: Final = 0.25
"""How often, of all times that a batch of calls rings or ends, a homeserver dies right after."""
_PATIENCE_S: Final = 120.0
_LONG_MS: Final = 120_000
_SHORT_MS: Final = 1_000
_SEED: Final = 20_261_122

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planned:
    """A call, what is said to end it (nothing: its ring runs out), and what both records have to be."""

    call_id: str
    room: str
    ours: bool
    """Rung by an event of ours, or else by a legacy invitation."""
    answered: bool
    says: str | None
    by_caller: bool
    reason: str | None
    outcome: str


_ENDINGS: Final[tuple[tuple[str | None, bool, str | None, str], ...]] = (
    (None, False, None, "missed"),
    ("m.call.reject", False, None, "declined"),
    ("m.call.reject", False, "user_busy", "busy"),
    ("m.call.hangup", True, None, "cancelled"),
    ("m.call.hangup", True, "ice_failed", "failed"),
    ("m.call.hangup", False, "ice_failed", "failed"),
)


def run(context: Context) -> Iterator[Row]:
    pair = DemoPair(data=context.folder / "records", port_base=loopback.free_ports(PORTS), engine=Engine.POSTGRESQL)
    with pair:
        yield _records(context, pair)


def _records(context: Context, pair: DemoPair) -> Row:
    chance, killed = random.Random(_SEED), 0  # noqa: S311 - the same calls in each run
    alice, bob = pair.client("alice"), pair.client("bob")
    rooms = [_room(alice, bob, pair.sides[0].name) for _ in range(_AT_ONCE)]
    context.say(f"call.records: {_CALLS} calls, {_AT_ONCE} at once, and homeservers that die; some minutes")

    def perhaps_kill() -> None:
        nonlocal killed
        if chance.random() < _KILL_SHARE:
            process = chance.choice(pair.sides).process
            process.kill()
            process.start()
            killed += 1

    wrong = 0
    for first in range(0, _CALLS, _AT_ONCE):
        batch = [_planned(chance, first + at, room) for at, room in enumerate(rooms)]
        for call in batch:
            _ring(alice, call)
        perhaps_kill()
        for person in (alice, bob):
            _until(person, batch, lambda record: record is not None)
        for call in batch:
            if call.answered:
                said = {"answer": {"type": "answer", "sdp": "v=0"}}
                bob.send(call.room, "m.call.answer", {**_named(call, by_caller=False), **said})
        answered = [call for call in batch if call.answered]
        _until(alice, answered, lambda record: record is not None and record["outcome"] == "answered")
        for call in answered:
            if not call.ours:
                # An answer that the caller's client never picks would be over by itself.
                picked = {**_named(call, by_caller=True), "selected_party_id": "B"}
                alice.send(call.room, "m.call.select_answer", picked)
        for call in batch:
            if call.says is not None:
                speaker = alice if call.by_caller else bob
                reason = {} if call.reason is None else {"reason": call.reason}
                speaker.send(call.room, call.says, {**_named(call, by_caller=call.by_caller), **reason})
        perhaps_kill()
        for person in (alice, bob):
            _until(person, batch, lambda record: record is not None and "end_ts" in record)
            found = _of(person, batch)
            wrong += sum(not _is_right(found[call.call_id], call, alice, bob) for call in batch)
    if len(alice.superapp("GET", "call_export")["calls"]) != _CALLS:
        raise AssertionError("the caller's history does not hold each call once")
    return Row(
        name="call.records",
        value=float(wrong),
        unit=f"wrong records of {2 * _CALLS}, homeservers killed {killed} times",
        yardstick=None,
        yardstick_value=None,
        goal="<= 0",
        n=_CALLS,
    )


def _planned(chance: random.Random, number: int, room: str) -> _Planned:
    call_id, ours = f"records-{number}", chance.random() < 0.5
    if chance.random() < 0.4:
        return _Planned(
            call_id=call_id,
            room=room,
            ours=ours,
            answered=True,
            says="m.call.hangup",
            by_caller=chance.random() < 0.5,
            reason=None,
            outcome="answered",
        )
    says, by_caller, reason, outcome = chance.choice(_ENDINGS)
    return _Planned(
        call_id=call_id,
        room=room,
        ours=ours,
        answered=False,
        says=says,
        by_caller=by_caller,
        reason=reason,
        outcome=outcome,
    )


def _named(call: _Planned, *, by_caller: bool) -> Json:
    return {"call_id": call.call_id, "version": "1", "party_id": "A" if by_caller else "B"}


def _ring(caller: MatrixClient, call: _Planned) -> None:
    lifetime_ms = _SHORT_MS if call.says is None else _LONG_MS
    if call.ours:
        content: Json = {"call_id": call.call_id, "media": "audio", "lifetime": lifetime_ms}
        caller.send(call.room, EventType.CALL_RING, content)
    else:
        offer = {"type": "offer", "sdp": "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"}
        content = {**_named(call, by_caller=True), "lifetime": lifetime_ms, "offer": offer}
        caller.send(call.room, "m.call.invite", content)


def _of(person: MatrixClient, batch: Sequence[_Planned]) -> dict[str, Json]:
    """Somebody's records of these calls, which are their newest."""
    page = person.superapp("GET", "calls", query={"limit": 2 * _AT_ONCE})["calls"]
    wanted = {call.call_id for call in batch}
    return {record["call_id"]: record for record in page if record["call_id"] in wanted}


def _until(person: MatrixClient, batch: Sequence[_Planned], is_so: Callable[[Json | None], bool]) -> None:
    def all_are() -> bool:
        found = _of(person, batch)
        return all(is_so(found.get(call.call_id)) for call in batch)

    began_s = time.monotonic()
    try:
        wait_until(all_are, timeout_s=_PATIENCE_S, what=f"{person.user_id} to record a batch of calls")
    except (TimeoutError, UnreachableError) as late:
        found = _of(person, batch)
        left = [(call, found.get(call.call_id)) for call in batch if not is_so(found.get(call.call_id))]
        raise AssertionError(f"{late}, after {time.monotonic() - began_s:.0f} s: {left}") from None


def _is_right(record: Json, call: _Planned, alice: MatrixClient, bob: MatrixClient) -> bool:
    if record["outcome"] != call.outcome or ("answer_ts" in record) is not call.answered:
        return False
    times = [record["ring_ts"], *([record["answer_ts"]] if call.answered else []), record["end_ts"]]
    ended_by = (alice if call.by_caller else bob).user_id if call.answered else record.get("ended_by")
    return times == sorted(times) and record.get("ended_by") == ended_by


def _room(caller: MatrixClient, callee: MatrixClient, via: str) -> str:
    room = caller.create_room(preset="trusted_private_chat", is_direct=True, invite=[callee.user_id])

    def has_joined() -> bool:
        try:
            callee.join(room, via=via)
        except MatrixError:  # the invitation is still on its way
            return False
        return callee.user_id in caller.joined_members(room)

    wait_until(has_joined, timeout_s=_PATIENCE_S, what="the callee to join")
    return room
