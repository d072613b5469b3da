"""What our modules cost a plain message: CPU of the homeserver and its database, modules on ÷ off.

Two homeservers alike but for the module, each with its own PostgreSQL, are sent messages in turns, one by one, since a
virtual processor is a third faster in one minute than in the next. All features are on.
"""

import statistics
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.frame import Context, Row
from benchmarks.homeservers import LoneHomeserver, settle
from synapse_super_app.commands import loopback
from synapse_super_app.commands.matrix_client import MatrixClient

NAMES: Final = ("chat.small", "chat.state1000")
_GOAL: Final = "<= 1.05"
_ROUNDS: Final = 5
_MESSAGES_PER_ROUND: Final = 200
_WARM_UP: Final = 100
_STATE_EVENTS: Final = 1_000
_CONFIG: Final[dict[str, Any]] = {"payments": {"mode": "credits", "assets": [{"code": "PTS", "scale": 0}]}}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    homeserver: LoneHomeserver
    sender: MatrixClient
    rooms: dict[str, str]


def run(context: Context) -> Iterator[Row]:
    with _sides(context) as (on, off):
        for name in NAMES:
            if not context.wants(name):
                continue
            context.say(f"{name}: {_ROUNDS} rounds of {_MESSAGES_PER_ROUND} messages on each homeserver")
            _send((on, off), name, _WARM_UP)
            before = on.homeserver.metric_sum("superapp_sql_statements_total")
            rounds = [_cost_ms((on, off), name) for _ in range(_ROUNDS)]
            statements = on.homeserver.metric_sum("superapp_sql_statements_total") - before
            sent = _ROUNDS * _MESSAGES_PER_ROUND
            context.say(f"{name}: our modules ran {statements / sent:.3f} SQL statements per message (goal <= 0.1)")
            yield Row(
                name=name,
                value=statistics.median(cost for cost, _ in rounds),
                unit="CPU ms/message",
                yardstick="the same homeserver without our module",
                yardstick_value=statistics.median(cost for _, cost in rounds),
                goal=_GOAL,
                n=sent,
            )


@contextmanager
def _sides(context: Context) -> Generator[tuple[_Side, _Side]]:
    with ExitStack() as stack:
        made: list[_Side] = []
        for label, module_config in (("on", _CONFIG), ("off", None)):
            homeserver = stack.enter_context(
                LoneHomeserver(
                    context.folder / f"chat-{label}", loopback.free_ports(1), loopback.free_ports(1), module_config
                )
            )
            sender, reader = (stack.enter_context(homeserver.account(name)) for name in ("sender", "reader"))
            made.append(_Side(homeserver=homeserver, sender=sender, rooms=_rooms(context, sender, reader)))
        yield made[0], made[1]


def _rooms(context: Context, sender: MatrixClient, reader: MatrixClient) -> dict[str, str]:
    rooms: dict[str, str] = {}
    for name in NAMES:
        if context.wants(name):
            rooms[name] = sender.create_room(preset="private_chat", invite=[reader.user_id])
            reader.join(rooms[name])
    if "chat.state1000" in rooms:
        context.say(f"chat.state1000: filling a room with {_STATE_EVENTS} state events")
        for number in range(_STATE_EVENTS):
            sender.send_state(rooms["chat.state1000"], "org.example.filler", {"number": number}, str(number))
    return rooms


def _cost_ms(sides: tuple[_Side, _Side], name: str) -> tuple[float, float]:
    _settle(sides)
    before = [side.homeserver.cpu_ms() for side in sides]
    _send(sides, name, _MESSAGES_PER_ROUND)
    # What a message sets off may run after its answer: the follower's sweep comes two seconds later at most.
    _settle(sides)
    on, off = (side.homeserver.cpu_ms() - ran for side, ran in zip(sides, before, strict=True))
    return on / _MESSAGES_PER_ROUND, off / _MESSAGES_PER_ROUND


def _settle(sides: tuple[_Side, _Side]) -> None:
    for side in sides:
        settle(side.homeserver)


def _send(sides: tuple[_Side, _Side], name: str, messages: int) -> None:
    for number in range(messages):
        for side in sides:
            side.sender.send_text(side.rooms[name], f"message {number}")
