"""Whoever tries out a policy by ringing learns nothing of it: not by words, not by the time, not by trying again."""

import json
import math
import random
from bisect import bisect_right
from types import SimpleNamespace
from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.api.errors import SynapseError
from test_calls_shell import RING, add_contact, calls, homeserver, is_hidden, ring, set_policy

from synapse_super_app.calls import gate

EACH = 40
SEED = 7
ALPHA = 0.001
SHORTEST_MS, LONGEST_MS = 800, 2_500
WHOLE: dict[str, Any] = {
    "who": ["contacts"],
    "deny": [f"@p{number}:deny{number}.test" for number in range(EACH)],
    "servers": {"deny": ["*.bad.test"]},
    "rooms": {"prior_conversation": True},
    "rate": {"caller": 1, "server": 1_000, "strangers": 1_000},
    "price": {"amount": 100, "currency": "EUR"},
    "refusal": "polite",
}
DISTURBED = {**WHOLE, "do_not_disturb": {}}
ASLEEP = {**WHOLE, "quiet": {"time_zone": "UTC", "windows": [{"from": "00:00", "to": "00:00"}]}}
RULES = ("ignored", "deny", "servers", "rooms", "rate", "price", "do_not_disturb", "quiet")
"""Every rule that can speak of a stranger's ring; where a price is asked, ``who`` leaves the last word to it."""


def caller_of(rule: str, number: int) -> str:
    return f"@p{number}:{rule.replace('_', '-')}{number}.{'bad.test' if rule == 'servers' else 'test'}"


@pytest.fixture
def hs(monkeypatch: pytest.MonkeyPatch) -> FakeHomeserver:
    chance = random.Random(SEED)
    monkeypatch.setattr(gate, "secrets", SimpleNamespace(randbelow=chance.randrange))
    return homeserver(limits={"server_rings": 0})


@pytest.fixture
def bob(hs: FakeHomeserver) -> str:
    bob = hs.register("bob")
    ignored: dict[str, Any] = {caller_of("ignored", number): {} for number in range(EACH)}
    hs.account_data[bob, "m.ignored_user_list"] = {"ignored_users": ignored}
    for number in range(EACH):
        add_contact(hs, bob, caller_of("rate", number))
    return bob


def room_with(hs: FakeHomeserver, bob: str, rule: str, number: int) -> tuple[str, str]:
    """A direct room in which that rule alone stands between its caller and the callee."""
    caller = caller_of(rule, number)
    room = hs.room(bob, caller)
    if rule != "rooms":
        hs.send(bob, room, "m.room.message", {"msgtype": "m.text", "body": "hello"})
    if rule == "rate":
        assert not is_hidden(hs, hs.receive(caller, room, RING, ring(f"first-{number}")))
        hs.receive(caller, room, "m.call.hangup", {"call_id": f"first-{number}", "version": "1"})
    return caller, room


def policy_for(rule: str) -> dict[str, Any]:
    return {"do_not_disturb": DISTURBED, "quiet": ASLEEP}.get(rule, WHOLE)


def test_the_time_of_a_refusal_is_of_one_distribution_and_its_work_the_same_whatever_rule_speaks(
    hs: FakeHomeserver, bob: str
) -> None:
    pauses: dict[str, list[int]] = {rule: [] for rule in RULES}
    work: set[tuple[str, ...]] = set()
    set_policy(hs, bob, **WHOLE)
    rooms = {rule: [room_with(hs, bob, rule, number) for number in range(EACH)] for rule in RULES}
    for rule in RULES:
        set_policy(hs, bob, **policy_for(rule))
        for number, (caller, room) in enumerate(rooms[rule]):
            before = len(hs.statements)
            assert is_hidden(hs, hs.receive(caller, room, RING, ring(f"{rule}-{number}")))
            # The first of a policy reads what all others find read.
            if number:
                work.add(tuple(hs.statements[before:]))
            ((due_ms,),) = hs.query(
                "SELECT due_ms FROM superapp_calls_outbox WHERE room_id = ? AND type = 'org.superapp.call.screened'",
                room,
            )
            pauses[rule].append(int(due_ms) - hs.now_ms())
        spoke = hs.query(
            "SELECT r.screened_by, COUNT(*) FROM superapp_calls_record r JOIN superapp_calls_session s"
            " ON s.session_id = r.session_id WHERE s.call_id LIKE ? GROUP BY r.screened_by",
            f"{rule}-%",
        )
        assert spoke == [(rule, EACH)]
    assert len(work) == 1, work
    for rule in RULES:
        others = [pause for other in RULES if other != rule for pause in pauses[other]]
        assert distance(pauses[rule], others) < threshold(EACH, len(others)), rule
    every = [pause for each in pauses.values() for pause in each]
    assert SHORTEST_MS <= min(every) < SHORTEST_MS + 100
    assert LONGEST_MS - 100 < max(every) <= LONGEST_MS


def test_trying_again_says_no_more_than_the_first_time(hs: FakeHomeserver, bob: str) -> None:
    set_policy(hs, bob, **{**WHOLE, "price": None, "who": ["nobody"]})
    caller, room = room_with(hs, bob, "who", 0)
    for number in range(20):
        assert is_hidden(hs, hs.receive(caller, room, RING, ring(f"call-{number}")))
        hs.advance(20)
    assert len(hs.sent(room, "org.superapp.call.screened")) == 1


def test_a_caller_here_hears_the_same_words_after_the_same_work() -> None:
    hs = homeserver(limits={"rings": 0})
    bob = hs.register("bob")
    people = {name: hs.register(name) for name in ("denied", "stranger", "ignored", "mute")}
    hs.account_data[bob, "m.ignored_user_list"] = {"ignored_users": {people["ignored"]: {}}}
    set_policy(hs, bob, **{**WHOLE, "deny": [people["denied"]], "price": None})
    heard: set[str] = set()
    work: set[tuple[str, ...]] = set()
    for name, person in people.items():
        room = hs.room(bob, person)
        if name != "mute":
            hs.send(bob, room, "m.room.message", {"msgtype": "m.text", "body": "hello"})
        for number in range(3):
            before = len(hs.statements)
            with pytest.raises(SynapseError) as refusal:
                hs.send(person, room, RING, ring(f"{name}-{number}"))
            heard.add(f"{refusal.value.code} {json.dumps(refusal.value.error_dict(None), sort_keys=True)}")
            if number:
                work.add(tuple(hs.statements[before:]))
    spoke = {call["screened_by"] for call in calls(hs, bob)}
    assert spoke == {"deny", "who", "ignored", "rooms"}
    assert (len(heard), len(work)) == (1, 1), (heard, work)


def distance(some: list[int], others: list[int]) -> float:
    """Of Kolmogorov and Smirnov: how far two empirical distributions are apart at most."""
    marks = sorted({*some, *others})
    some, others = sorted(some), sorted(others)
    return max(abs(bisect_right(some, mark) / len(some) - bisect_right(others, mark) / len(others)) for mark in marks)


def threshold(some: int, others: int) -> float:
    """How far apart two samples of one distribution are in one of 1/ALPHA trials."""
    return math.sqrt(-math.log(ALPHA / 2) / 2) * math.sqrt((some + others) / (some * others))
