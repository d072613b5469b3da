"""Names under which people relay: which are of calls that are over, and when they are forgotten."""

from dataclasses import replace

import pytest
from test_calls_service import ALICE, BOB, REMOTE, ROOM, START_MS, Homeserver

from super_app.calls import rules, service, store
from super_app.calls.model import Act, CallId, Relayed, RoomPlace
from super_app.db import Transaction

pytestmark = pytest.mark.packages("super_app.accounts", "super_app.calls")

ENDS_MS = START_MS + 600_000


@pytest.fixture
def here(transaction: Transaction) -> Homeserver:
    return Homeserver(transaction)


@pytest.fixture
def hers(here: Homeserver) -> Relayed:
    """Of a call that rings."""
    here.rings(REMOTE, BOB)
    session_id = rules.session_id_of(ROOM, REMOTE, CallId("call-1"))
    relayed = Relayed(name="n", owner=here.local(BOB).acct, user_id=BOB, place=session_id, until_ms=ENDS_MS)
    here.transaction(lambda cur: store.add_relayed(cur, relayed))
    return relayed


def over(here: Homeserver) -> list[str]:
    return [each.name for each in here.transaction(lambda cur: store.relayed_over(cur, 10))]


def test_a_name_is_over_with_the_call_of_its_person(here: Homeserver, hers: Relayed) -> None:
    assert over(here) == []
    here.says(BOB, Act.ANSWER)
    assert over(here) == []
    here.says(REMOTE, Act.HANG_UP)
    assert here.transaction(lambda cur: store.relayed_over(cur, 10)) == (hers,)
    bob = here.local(BOB).acct
    here.transaction(lambda cur: service.erase(cur, bob, None))
    assert over(here) == ["n"]


def test_somebody_elses_call_is_not_ones_own(here: Homeserver, hers: Relayed) -> None:
    """Two people here: one leaves a group's call and the other talks on."""
    others = replace(hers, name="of alice", owner=here.local(ALICE).acct, user_id=ALICE)
    here.transaction(lambda cur: store.add_relayed(cur, others))
    assert over(here) == ["of alice"]


def test_those_in_rooms_are_found_apart_and_those_that_end_first_come_first(here: Homeserver, hers: Relayed) -> None:
    place = RoomPlace(room_id=ROOM)
    late, soon = (replace(hers, name=name, place=place, until_ms=until) for name, until in (("l", 9), ("s", 5)))
    here.transaction(lambda cur: store.add_relayed(cur, late))
    here.transaction(lambda cur: store.add_relayed(cur, soon))
    assert here.transaction(lambda cur: store.relayed_in_rooms(cur, 10)) == (soon, late)
    assert here.transaction(lambda cur: store.relayed_in_rooms(cur, 1)) == (soon,)
    assert over(here) == []


def test_a_name_that_was_given_out_anew_is_not_forgotten(here: Homeserver, hers: Relayed) -> None:
    here.says(REMOTE, Act.HANG_UP)
    here.transaction(lambda cur: store.add_relayed(cur, replace(hers, until_ms=ENDS_MS + 60_000)))
    here.transaction(lambda cur: store.forget_relayed(cur, ["n"], ENDS_MS))
    assert over(here) == ["n"]
    here.transaction(lambda cur: store.forget_relayed(cur, ["other", "n"], ENDS_MS + 60_000))
    assert over(here) == []


def test_of_a_closed_account_the_name_alone_stays_until_it_is_forgotten(here: Homeserver, hers: Relayed) -> None:
    here.says(BOB, Act.ANSWER)
    here.transaction(lambda cur: service.forget_person(cur, hers.owner, BOB))
    (kept,) = here.transaction(lambda cur: store.relayed_over(cur, 10))
    assert (kept.name, kept.owner, kept.user_id, kept.place) == ("n", "", "", "")
