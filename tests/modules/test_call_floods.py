"""Floods of rings from one person, fifty people and fifty homeservers: few are shown, and who is known still rings.

Another homeserver's name is the one that Synapse authenticated, so each sender here is of the origin that its id names.
"""

from collections.abc import Sequence

import pytest
from fake_api import FakeHomeserver
from test_calls_shell import REMOTE, RING, add_contact, calls, homeserver, is_hidden, ring

_RINGS = 150
_PEOPLE = 50
_HISTORY_MAX = 100
"""Screened rings of one homeserver that a person's history keeps in an hour."""


def flooded(hs: FakeHomeserver, callee: str, callers: Sequence[str], friends: Sequence[str]) -> list[bool]:
    """Ring somebody again and again, each caller in turn, and say which rings were shown; friends always are."""
    rooms = {caller: hs.room(callee, caller) for caller in (*callers, *friends)}
    shown: list[bool] = []
    for number in range(_RINGS):
        if number % (_RINGS // 3) == 0:
            for friend in friends:
                name = f"of-a-friend-{number}-{friends.index(friend)}"
                if hs.api.is_mine(friend):
                    hs.send(friend, rooms[friend], RING, ring(name))
                else:
                    assert not is_hidden(hs, hs.receive(friend, rooms[friend], RING, ring(name)))
                hs.send(callee, rooms[friend], "m.call.reject", {"call_id": name})
        caller = callers[number % len(callers)]
        shown.append(not is_hidden(hs, hs.receive(caller, rooms[caller], RING, ring(f"flood-{number}"))))
    return shown


@pytest.mark.parametrize(
    ("callers", "most"),
    [
        (["@mallory:flood.test"], 10),
        ([f"@p{number}:flood.test" for number in range(_PEOPLE)], 10),
        ([f"@p{number}:flood{number}.test" for number in range(_PEOPLE)], 30),
    ],
    ids=["one person", "fifty people", "fifty homeservers"],
)
def test_few_of_a_flood_are_shown_and_contacts_here_and_elsewhere_ring_in_its_midst(
    callers: list[str], most: int
) -> None:
    hs = homeserver(default_rate={})
    bob, carol = hs.register("bob"), hs.register("carol")
    friends = [REMOTE, carol]
    for friend in friends:
        add_contact(hs, bob, friend)
    shown = flooded(hs, bob, callers, friends)
    # The first ones, as strangers may ring; afterwards none until the window is over.
    assert shown == [number < most for number in range(_RINGS)]
    rung = [call for call in calls(hs, bob) if call["peer"] in friends]
    assert [call["outcome"] for call in rung] == ["declined"] * len(rung)
    kept = hs.query("SELECT COUNT(*) FROM superapp_calls_record WHERE state = 'screened'")[0][0]
    origins = len({caller.partition(":")[2] for caller in callers})
    assert kept == min(_RINGS - most, origins * _HISTORY_MAX)


def test_a_person_with_whom_one_has_talked_rings_through_a_flood_as_well() -> None:
    hs = homeserver(default_rate={})
    bob = hs.register("bob")
    room = hs.room(bob, REMOTE)
    hs.send(bob, room, RING, ring("his-own"))
    hs.receive(REMOTE, room, "m.call.answer", {"call_id": "his-own"})
    hs.receive(REMOTE, room, "m.call.hangup", {"call_id": "his-own"})
    shown = flooded(hs, bob, [f"@p{number}:flood{number}.test" for number in range(_PEOPLE)], [REMOTE])
    assert sum(shown) == 30
