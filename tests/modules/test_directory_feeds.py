"""Feeds at size, and from peers that waste our time."""

from typing import Any

import pytest
from test_directory_module import FEED, HS2, Pair
from test_directory_module import _directory as directory_of

from super_app.ids import ServerName
from super_app.signing import signed
from synapse_super_app.directory import feed


@pytest.fixture
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of one entry, and two of them a turn."""
    monkeypatch.setattr(feed, "FEED_PAGE", 1)
    monkeypatch.setattr(feed, "_PAGES_PER_TURN", 2)


def people_there(pair: Pair, count: int) -> None:
    for number in range(count):
        pair.hs2.call("GET", "handles", pair.hs2.register(f"person{number}"))


def found(pair: Pair) -> int:
    return len(pair.hs1.call("POST", "search", pair.alice, {"term": "person", "limit": 50})["results"])


@pytest.mark.usefixtures("short_turns")
def test_a_long_feed_is_read_on_without_a_pause(pair: Pair) -> None:
    people_there(pair, 12)
    # The pause between turns is five seconds, so with pauses it would take half a minute.
    for _ in range(13):
        pair.advance(1)
    assert found(pair) == 12


@pytest.mark.usefixtures("short_turns")
def test_a_peer_that_announces_ten_million_rows_and_sends_none_waits_its_turn(pair: Pair) -> None:
    sent: list[int] = []

    def nothing(answer: dict[str, Any]) -> dict[str, Any]:
        sent.append(1)
        return {**answer, "entries": [], "next": len(sent) + 100, "head": 10_000_000}

    pair.intercept(FEED, nothing)
    for _ in range(20):
        pair.advance(1)
    # Two pages a turn, a turn in five seconds.
    assert 2 <= len(sent) <= 10


@pytest.mark.usefixtures("short_turns")
def test_no_more_than_so_many_records_of_one_server_are_kept(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_MAX_RECORDS", 4)
    people_there(pair, 12)
    for _ in range(40):
        pair.advance(1)
    assert 1 <= found(pair) <= 4


def test_servers_that_come_and_go_by_the_thousand_are_forgotten_and_keep_no_new_one_out(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "_MAX_PEERS", 5)
    reader = directory_of(pair.hs1)._reader
    for number in range(8):
        pair.hs1.result(directory_of(pair.hs1)._peers.meet(ServerName(f"s{number}.test")))
        reader.heard(ServerName(f"s{number}.test"))
        pair.advance(61)
    assert len(reader._paces) <= 6
    assert {HS2, "s7.test"} <= set(reader._paces)


def test_a_page_that_goes_back_or_names_another_server_changes_nothing(pair: Pair) -> None:
    before = pair.found_by_alice("carol")

    def backwards(answer: dict[str, Any]) -> dict[str, Any]:
        return {**answer, "next": 0, "head": 50}

    def foreign(answer: dict[str, Any]) -> dict[str, Any]:
        entries = [{**entry, "server": "hs9.test"} for entry in answer["entries"]]
        return {**answer, "entries": entries, "server": "hs9.test", "next": answer["next"] + 1}

    for lie in (backwards, foreign):
        honest = pair.hs2.private.queries[FEED]
        pair.intercept(FEED, lie)
        pair.hs2.call("GET", "handles", pair.hs2.register(f"late{len(lie.__name__)}"))
        pair.advance(7)
        assert pair.found_by_alice("late") == []
        pair.hs2.private.queries[FEED] = honest
    assert pair.found_by_alice("carol") == before == [f"@carol:{HS2}"]


def test_a_record_that_hides_behind_the_leaf_of_another_is_refused(pair: Pair) -> None:
    """Two entries with the same leaf: only the second is in the log, and the first would ride along."""
    key = directory_of(pair.hs2)._own.signer.key
    pair.hs2.call("GET", "handles", pair.hs2.register("honest"))

    def with_a_stowaway(answer: dict[str, Any]) -> dict[str, Any]:
        at = next((n for n, each in enumerate(answer["entries"]) if each["handle"] == f"@honest:{HS2}"), None)
        if at is None:
            return answer
        honest = answer["entries"][at]
        stowaway = {name: value for name, value in honest.items() if name not in ("key_id", "signature")}
        stowaway |= {"handle": f"@stowaway:{HS2}", "user_id": f"@stowaway:{HS2}"}
        entries = [*answer["entries"][:at], signed(stowaway, key), *answer["entries"][at:]]
        leaves = answer["log"]["leaves"]
        log = {**answer["log"], "leaves": [*leaves[:at], leaves[at], *leaves[at:]]}
        return {**answer, "entries": entries, "log": log}

    honest = pair.hs2.private.queries[FEED]
    pair.intercept(FEED, with_a_stowaway)
    pair.advance(7)
    assert pair.found_by_alice("stowaway") == pair.found_by_alice("honest") == []
    pair.hs2.private.queries[FEED] = honest
    pair.advance(30)
    assert pair.found_by_alice("honest") == [f"@honest:{HS2}"]


@pytest.fixture
def pair() -> Pair:
    return Pair()
