"""Feeds at size, and from peers that waste our time."""

import weakref
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final, cast
from unittest.mock import MagicMock

import pytest
from fake_api import FakeHomeserver
from synapse.http.matrixfederationclient import _handle_response
from synapse.util.clock import Clock
from test_directory_module import FEED, HS2, Pair
from test_directory_module import _config as config_of
from test_directory_module import _directory as directory_of
from twisted.internet import defer, task
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH

from super_app.directory import feed_limits, heads, log
from super_app.directory.model import DAY_MS, DirectoryKey
from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from super_app.signing import digest, generate_key, key_id_of, public_b64, signed, to_b64
from super_app.transparency import tree
from synapse_super_app.answer_parser import MAX_ANSWER_BYTES, MAX_ANSWER_VALUES
from synapse_super_app.directory import feed
from synapse_super_app.directory.peers import FeedAnswer
from synapse_super_app.private_api import NoAnswer, PrivateApi

HS3: Final = "hs3.test"


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
@pytest.mark.parametrize("named", [True, False])
def test_no_more_than_so_many_handles_of_one_server_are_kept_and_those_stay_current(
    named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A day has room for as many entries as are kept; here it is shorter, and so are the pauses.
    monkeypatch.setattr(feed_limits, "DAY_MS", 4_000)
    monkeypatch.setattr(feed_limits, "COUNT_AGAIN_MS", 1_000)
    monkeypatch.setattr(feed, "_MET_INTERVAL_MS", 1_000)
    limits = {"handles_per_peer": 4, "handles_of_strangers": 100} if named else {"handles_per_stranger": 4}
    pair = Pair(first={"peers": [HS2] if named else [], "feed_interval": "1s", **limits})
    if not named:
        directory_of(pair.hs1)._reader.heard(ServerName(HS2))

    def is_read_to_the_end() -> bool:
        pair.advance(1)
        position, head = (
            pair.hs1.query("SELECT feed_position FROM superapp_directory_peer WHERE server = ?", HS2)[0][0],
            pair.hs2.query("SELECT head FROM superapp_directory_state")[0][0],
        )
        return bool(position == head)

    def read() -> set[str]:
        assert any(is_read_to_the_end() for _ in range(200))
        return replicas(pair, HS2)

    people_there(pair, 12)
    kept = read()
    assert len(kept) == 4
    assert {f"@bob:{HS2}", f"@carol:{HS2}"} <= kept
    pair.hs2.call("PUT", "handles/bob", pair.bob, {"discover": "none"})
    assert read() == kept - {f"@bob:{HS2}"}
    # There is room again for one who comes now, and for no second one.
    for name in ("newcomer", "latecomer"):
        pair.hs2.call("GET", "handles", pair.hs2.register(name))
    assert read() == kept - {f"@bob:{HS2}"} | {f"@newcomer:{HS2}"}


def replicas(pair: Pair, server: str) -> set[str]:
    rows = pair.hs1.query("SELECT handle FROM superapp_directory_replica WHERE server = ?", server)
    return {row[0] for row in rows}


def test_the_same_records_again_and_again_are_read_as_often_as_there_is_room_for_them_in_a_day() -> None:
    """A feed that never ends and adds nobody: each page has the same people, as if their records were new."""
    pair = Pair(first={"peers": [], "handles_per_stranger": 40})
    people_there(pair, 8)
    pages = 0

    def endless(page: dict[str, Any]) -> dict[str, Any]:
        nonlocal pages
        pages += 1
        return {**page, "next": pages * 10, "head": 10_000_000}

    honest = pair.hs2.private.queries[FEED]

    async def from_the_beginning(arguments: Mapping[str, Any]) -> dict[str, Any]:
        return endless(await honest({**arguments, "since": "0"}))

    pair.hs2.private.queries[FEED] = from_the_beginning
    directory_of(pair.hs1)._reader.heard(ServerName(HS2))
    for _ in range(30):
        pair.advance(60)
    # Ten people a page: four pages at once, and then as many as half an hour of a day brings.
    assert len(replicas(pair, HS2)) == 10
    assert 4 <= pages <= 8


def test_a_feed_with_more_entries_than_positions_is_refused(pair: Pair) -> None:
    """Otherwise it could bring any number of handles and seem to be at its beginning."""
    people_there(pair, 5)
    position = pair.hs1.query("SELECT feed_position FROM superapp_directory_peer WHERE server = ?", HS2)[0][0]
    pair.intercept(FEED, lambda answer: {**answer, "next": position + 1, "head": position + 50})
    for _ in range(10):
        pair.advance(10)
    assert found(pair) == 0


def test_slow_strangers_are_read_some_at_a_time_and_all_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_MET_AT_ONCE", 3)
    pair = Pair(first={"peers": [HS2]})
    reader = directory_of(pair.hs1)._reader
    honest = reader._peers.feed_page
    at_once: list[ServerName] = []
    asked: list[ServerName] = []
    most = 0

    async def page(server: ServerName, since: int, limit: int) -> Any:
        nonlocal most
        if server == HS2:
            return await honest(server, since, limit)
        asked.append(server)
        at_once.append(server)
        most = max(most, len(at_once))
        try:
            await pair.hs1.api.sleep(30)
        finally:
            at_once.remove(server)
        return Refused(reason=Reason.PEER_UNREACHABLE, message="It takes too long.")

    monkeypatch.setattr(reader._peers, "feed_page", page)
    strangers = [ServerName(f"s{number}.test") for number in range(12)]
    for server in strangers:
        pair.hs1.result(reader._peers.meet(server))
        reader.heard(server)
    for number in range(8):
        pair.hs2.call("GET", "handles", pair.hs2.register(f"prompt{number}"))
        for _ in range(17):
            pair.advance(1)
            # Whoever talks most does not come before those that wait.
            reader.heard(strangers[0])
        assert f"@prompt{number}:{HS2}" in pair.found_by_alice(f"prompt{number}")
    assert most == 3
    assert set(asked) == set(strangers)


def asked_for(body: bytes, repeated: int) -> tuple[Any, int]:
    """What a query comes to whose answer is ``body``, the # in it replaced by so many bytes, and how much was read."""
    clock = task.Clock()
    hs = MagicMock()
    hs.get_clock.return_value = Clock(cast(Any, clock), server_name="hs1.test")
    before, filling, after = body.partition(b"#")[0], body.partition(b"#")[2][:1], body.partition(b"#")[2][1:]
    read = 0

    class Body:
        """As twisted hands it over, in pieces, and of a length that nobody said before."""

        code, phrase, length = 200, b"OK", UNKNOWN_LENGTH
        headers = Headers({b"Content-Type": [b"application/json"]})

        def deliverBody(self, protocol: Any) -> None:  # noqa: N802 - twisted's name
            nonlocal read
            transport: Any = StringTransport()  # type: ignore[no-untyped-call]
            protocol.makeConnection(transport)
            protocol.dataReceived(before)
            while read < repeated and not transport.disconnecting and not transport.disconnected:
                protocol.dataReceived(filling * 65_536)
                read += 65_536
            protocol.dataReceived(after)
            protocol.connectionLost(Failure(ResponseDone()))  # type: ignore[no-untyped-call]

    async def get_json(*, parser: Any, **_: object) -> Any:
        request = MagicMock(uri=b"/", txn_id="GET-1", destination=HS2, method="GET")
        return await _handle_response(hs.get_clock(), cast(Any, clock), 60, request, cast(Any, Body()), 0, parser)

    hs.get_federation_http_client.return_value.get_json = get_json
    outcome: list[Any] = []
    query = PrivateApi(MagicMock(_hs=hs)).query(ServerName(HS2), FEED, {}, 60_000)
    defer.ensureDeferred(query).addBoth(outcome.append)
    return outcome[0], read


def test_an_answer_of_more_than_some_megabytes_is_not_read() -> None:
    """The client of Synapse would take 100 MB, which are gigabytes once they are parsed."""
    answer, _ = asked_for(b'{"entries": "#x"}', 6 * 1024 * 1024)
    assert len(answer["entries"]) == 6 * 1024 * 1024
    refused, read = asked_for(b'{"entries": "#x"}', 50 * 1024 * 1024)
    assert refused.check(NoAnswer)
    assert read <= MAX_ANSWER_BYTES + 65_536


def test_an_answer_of_too_many_or_too_deep_values_is_none() -> None:
    """Two megabytes of empty lists are fifty in memory, and lists in one another break who reads them."""
    many = b'{"entries": [' + b",".join([b"[]"] * (MAX_ANSWER_VALUES // 2)) + b"]}"
    nested = b'{"entries": [' + b",".join([b"[" * 500 + b"]" * 500] * 1_000) + b"]}"
    hostile = (
        (many, 0),
        (nested, 0),
        (b'{"entries": #[', 65_536),
        (b"[]", 0),
        (b"{", 0),
        (b"\xff", 0),
        (b'{"a": NaN}', 0),
    )
    for body, repeated in hostile:
        refused, _ = asked_for(body, repeated)
        assert refused.check(NoAnswer), body[:20]
    answer, _ = asked_for(many.replace(b"[],", b"", 10), 0)
    assert len(answer["entries"]) == MAX_ANSWER_VALUES // 2 - 10


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


@pytest.fixture
def three() -> tuple[Pair, FakeHomeserver]:
    """A pair, and a third homeserver with carla whose feed the first one reads as well."""
    pair = Pair(first={"peers": [HS2, HS3]}, second={"peers": []})
    third = FakeHomeserver(HS3, config=config_of(HS2, {"peers": []}), clock=pair.hs1.clock)
    third.register("carla")
    third.start()
    pair.hs1.reachable[HS3] = third
    pair.advance(7)
    return pair, third


class TestThirtySecondsAPage:
    """On a simulated clock."""

    @pytest.mark.usefixtures("short_turns")
    def test_a_peer_that_takes_as_long_as_it_may_is_read_on_and_keeps_nobody_waiting(
        self, three: tuple[Pair, FakeHomeserver]
    ) -> None:
        pair, slow = three
        assert pair.found_by_alice("carla") == [f"@carla:{HS3}"]
        honest, at_once, most = slow.private.queries[FEED], 0, 0

        async def slowly(arguments: Mapping[str, Any]) -> dict[str, Any]:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            await pair.hs1.api.sleep(29.9)
            at_once -= 1
            return await honest(arguments)

        slow.private.queries[FEED] = slowly
        for number in range(6):
            slow.call("GET", "handles", slow.register(f"tardy{number}"))
        arrived: list[int] = []
        for number in range(8):
            pair.hs2.call("GET", "handles", pair.hs2.register(f"prompt{number}"))
            for _ in range(7):
                pair.advance(1)
            # Whatever the slow one does, the other feed is read within its interval.
            assert f"@prompt{number}:{HS2}" in pair.found_by_alice(f"prompt{number}")
            for _ in range(24):
                pair.advance(1)
            arrived.append(sum(f"@tardy{each}:{HS3}" in pair.found_by_alice(f"tardy{each}") for each in range(6)))
        assert arrived == sorted(arrived)
        assert arrived[0] <= 1
        assert arrived[-1] == 6
        assert most == 1

    def test_one_that_takes_longer_is_asked_ever_more_rarely(self, three: tuple[Pair, FakeHomeserver]) -> None:
        pair, slow = three
        asked: list[float] = []

        async def too_slowly(_: Mapping[str, Any]) -> dict[str, Any]:
            asked.append(pair.hs1.clock.seconds())
            await pair.hs1.api.sleep(30)
            raise NoAnswer(None, "it took too long")

        slow.private.queries[FEED] = too_slowly
        for _ in range(600):
            pair.advance(1)
        pauses = [later - earlier for earlier, later in pairwise(asked)]
        assert pauses == sorted(pauses)
        assert pauses[-1] > 150
        pair.hs2.call("GET", "handles", pair.hs2.register("prompt"))
        pair.advance(7)
        assert pair.found_by_alice("prompt") == [f"@prompt:{HS2}"]


class Content(dict[str, Any]):
    """What a page says; unlike a plain dict, it can be asked whether anybody still has it."""


def vast_page(server: ServerName, since: int, limit: int, now_ms: int) -> FeedAnswer:
    """A page of a feed of ten million people, all of whom are in its log."""
    key = generate_key(bytes(32))
    entries = [
        signed(
            {
                "type": "org.superapp.directory.record",
                "v": 1,
                "handle": f"@vast{number}:{server}",
                "server": server,
                "acct": f"{number:043}",
                "user_id": f"@vast{number}:{server}",
                "seq": 1,
                "status": "active",
                "discover": "public",
                "services": {"chat": True},
                "badges": [],
                "issued": now_ms,
                "expires": now_ms + 30 * DAY_MS,
            },
            key,
        )
        for number in range(since, since + limit)
    ]
    salt = bytes(32)
    root = tree.root_of(tree.leaf_hash(log.entry_of(salt, digest(entry))) for entry in entries)
    pinned = DirectoryKey(server=server, key_id=key_id_of(key), public_key=public_b64(key), certificate={})
    places = [{"index": number, "salt": to_b64(salt)} for number in range(limit)]
    proof = heads.read_page_proof({"checkpoint": "", "leaves": places, "inclusion": []}, server)
    assert isinstance(proof, heads.PageProof)
    return FeedAnswer(
        content=Content(publishes=True, entries=entries, next=since + limit, head=10_000_000),
        key=pinned,
        proof=proof,
        head=heads.SeenHead(server=server, size=limit, root=root, note="", time_s=0, key=pinned),
    )


def test_of_a_feed_of_ten_million_rows_three_pages_at_most_are_in_memory_and_the_rest_stays_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed, "FEED_PAGE", 2)
    pair = Pair(first={"handles_per_stranger": 400})
    server = ServerName("vast.test")
    reader = directory_of(pair.hs1)._reader
    honest = reader._peers.feed_page
    alive: set[int] = set()
    asked: list[int] = []
    most = 0

    async def page(asked_of: ServerName, since: int, limit: int) -> Any:
        nonlocal most
        if asked_of != server:
            return await honest(asked_of, since, limit)
        asked.append(since)
        found = vast_page(server, since, limit, pair.hs1.api.get_current_time_msec())
        alive.add(since)
        weakref.finalize(found.content, alive.discard, since)
        most = max(most, len(alive))
        return found

    monkeypatch.setattr(reader._peers, "feed_page", page)
    pair.hs1.result(reader._peers.meet(server))
    reader.heard(server)
    for _ in range(100):
        pair.advance(1)
    # What it may bring in a day it brought at once, so nothing more is read than what is kept.
    assert len(replicas(pair, server)) == 400
    assert asked[:200] == list(range(0, 400, 2))
    assert len(asked) <= 201
    assert most <= 3
