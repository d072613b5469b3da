"""A thousand calls at random, several at a time, over restarts: each leaves the record of what happened to it."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from engines import Database
from test_calls_service import ALICE, BOB, CLOSED, OPEN, REMOTE, RING_ENDS_MS, Homeserver

from super_app.calls.model import Act, HistoryEntry, Side, State
from super_app.calls.service import Verdict
from super_app.db import Engine
from super_app.ids import UserId

_CALLS = 1_000
_CALLS_OF_POSTGRESQL = 60  # the same code; a thousand of its transactions take a minute
_AT_ONCE = 8
_RESTART_SHARE = 0.02

# What follows a ring, by whom it is said: act, side, whether by the caller; and the outcome.
_ENDINGS: tuple[tuple[Act | None, Side, bool, State], ...] = (
    (None, Side.EITHER, False, State.MISSED),
    (Act.DECLINE, Side.CALLEE, False, State.DECLINED),
    (Act.BUSY, Side.CALLEE, False, State.BUSY),
    (Act.HANG_UP, Side.EITHER, True, State.CANCELLED),
    (Act.FAIL, Side.EITHER, True, State.FAILED),
    (Act.ANSWER, Side.CALLEE, False, State.ENDED),
)


@dataclass
class Planned:
    """One call: who rings, when what is said, and what its record must be."""

    call_id: str
    caller: UserId
    rings_ms: int
    speaks_ms: int
    ends_ms: int
    act: Act | None
    side: Side
    by_caller: bool
    outcome: State
    screened: bool = False
    stage: int = 0

    def next_ms(self) -> int:
        return (self.rings_ms, self.speaks_ms, self.ends_ms, 2**62)[self.stage]


def planned(chance: random.Random, number: int, now_ms: int) -> Planned:
    act, side, by_caller, outcome = chance.choice(_ENDINGS)
    rings_ms = now_ms + chance.randrange(1, 5_000)
    speaks_ms = rings_ms + (RING_ENDS_MS if act is None else chance.randrange(1, RING_ENDS_MS - 1))
    return Planned(
        call_id=f"call-{number}",
        caller=chance.choice((ALICE, REMOTE)),
        rings_ms=rings_ms,
        speaks_ms=speaks_ms,
        ends_ms=speaks_ms + chance.randrange(1, 600_000) if outcome is State.ENDED else 2**62,
        act=act,
        side=side,
        by_caller=by_caller,
        outcome=outcome,
        screened=chance.random() < 0.1,
    )


def step(here: Homeserver, call: Planned) -> bool:
    """Let the next thing happen to a call; whether it is over."""
    here.passes(call.next_ms() - here.now_ms)
    speaker = call.caller if call.by_caller else BOB
    match call.stage:
        case 0:
            here.policy = CLOSED if call.screened else OPEN
            ring = here.ring(call.caller, call.call_id)
            verdict = here.gate(ring).verdict
            assert verdict is (Verdict.SCREENED if call.screened else Verdict.SHOWN)
            if not call.screened:
                here.rang(ring, BOB)
            is_over = call.screened
        case 1:
            if call.act is not None:
                here.says(speaker, call.act, call_id=call.call_id, side=call.side)
            is_over = call.outcome is not State.ENDED
        case _:
            here.says(call.caller, Act.HANG_UP, call_id=call.call_id)
            is_over = True
    call.stage += 1
    return is_over


@pytest.mark.packages("super_app.accounts", "super_app.calls")
def test_a_thousand_calls_over_restarts_leave_a_thousand_right_records(
    open_database: Callable[..., Database],
) -> None:
    database = open_database("super_app.accounts", "super_app.calls")
    calls = _CALLS if database.engine is Engine.SQLITE else _CALLS_OF_POSTGRESQL
    here = Homeserver(database.connect(rerun=False))
    chance = random.Random(20_261_122)
    done: list[Planned] = []
    going: list[Planned] = []
    begun = restarts = 0
    while len(done) < calls:
        while len(going) < _AT_ONCE and begun < calls:
            going.append(planned(chance, begun, here.now_ms))
            begun += 1
        call = min(going, key=Planned.next_ms)
        if step(here, call):
            going.remove(call)
            done.append(call)
        if chance.random() < _RESTART_SHARE:
            # A new process on the same database: what it knows of deadlines is what stands there.
            here = replace(here, transaction=database.connect(rerun=False))
            restarts += 1
    here.passes(RING_ENDS_MS)
    assert restarts > 0
    entries: dict[str, HistoryEntry] = {}
    since: str | None = None
    while True:
        page = here.page(BOB, since, 200)
        entries |= {entry.session.call_id: entry for entry in page.entries}
        since = page.next_token
        if since is None:
            break
    assert len(entries) == calls
    for call in done:
        record = entries[call.call_id].record
        assert record.state is (State.SCREENED if call.screened else call.outcome), call
        if call.screened:
            continue
        end_ms = call.ends_ms if call.outcome is State.ENDED else call.speaks_ms
        answer_ms = call.speaks_ms if call.outcome is State.ENDED else None
        assert (record.ring_ms, record.answer_ms, record.end_ms) == (call.rings_ms, answer_ms, end_ms), call
