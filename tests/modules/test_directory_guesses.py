"""Whoever tries out names learns next to nothing; who hides cannot be told from who is not there."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from fake_api import FakeHomeserver
from prometheus_client import REGISTRY
from synapse.api.errors import SynapseError
from test_directory_module import HS1, HS2, RESOLVE, Pair, refusal
from test_directory_module import _directory as directory_of

from super_app.directory.guess_store import Allowance
from super_app.ids import UserId
from synapse_super_app.directory import budget
from synapse_super_app.directory.budget import Guesses, SharedBudget

SECRET, NOBODY = "secretive", "nonentity"


def guesses_answered(pair: Pair, guesses: Guesses, keys: list[str]) -> int:
    """How many of 10 000 guesses, all wrong, are answered; the keys take turns."""
    now_ms = pair.hs2.api.get_current_time_msec()
    asked = (judged(guesses, keys[n % len(keys)], now_ms + n * 10) for n in range(10_000))
    return sum(refused is None for refused in asked)


def judged(guesses: Guesses, key: str, now_ms: int, *, found: bool = False, known_anyway: bool = False) -> Any:
    """The verdict of one process, which waits for nobody."""
    verdict = guesses.judge(key, now_ms, found=found, known_anyway=known_anyway)
    with pytest.raises(StopIteration) as ended:
        verdict.send(None)
    return ended.value.value


class TestTenThousandGuesses:
    """At a hundred a second, on simulated clocks; what a homeserver as it runs lets through."""

    def test_by_one_person(self, pair: Pair) -> None:
        feature = directory_of(pair.hs2)
        assert 60 <= guesses_answered(pair, feature.people._guesses, ["mallory"]) <= 70
        assert 300 <= guesses_answered(pair, feature._search._guesses, ["mallory"]) <= 350

    def test_by_one_server(self, pair: Pair) -> None:
        guesses = directory_of(pair.hs2)._answers._guesses
        assert 300 <= guesses_answered(pair, guesses, ["hs9.test"]) <= 350

    def test_by_fifty_servers_in_turns(self, pair: Pair) -> None:
        guesses = directory_of(pair.hs2)._answers._guesses
        servers = [f"s{number}.test" for number in range(50)]
        # Two hundred each would be all of them.
        assert 900 <= guesses_answered(pair, guesses, servers) <= 1_200
        now_ms = pair.hs2.api.get_current_time_msec() + 100_000
        assert judged(guesses, "honest.test", now_ms, found=True, known_anyway=True) is None

    def test_by_a_new_server_each(self, pair: Pair) -> None:
        guesses = directory_of(pair.hs2)._answers._guesses
        assert 900 <= guesses_answered(pair, guesses, [f"s{number}.test" for number in range(10_000)]) <= 1_200

    def test_a_right_guess_is_refused_like_a_wrong_one_once_they_are_spent(self, pair: Pair) -> None:
        guesses = alone(pair, burst=2)
        assert [judged(guesses, "m", 0) for _ in range(2)] == [None, None]
        right = judged(guesses, "m", 0, found=True)
        wrong = judged(guesses, "m", 0)
        assert right == wrong is not None
        assert judged(guesses, "m", 0, found=True, known_anyway=True) is None
        assert judged(guesses, "other", 0, found=True) is None

    def test_right_guesses_cost_nothing(self, pair: Pair) -> None:
        guesses = alone(pair, burst=1)
        for _ in range(100):
            assert judged(guesses, "m", 0, found=True) is None
        assert judged(guesses, "m", 0) is None


def alone(pair: Pair, burst: int) -> Guesses:
    return Guesses(directory_of(pair.hs2)._runtime, each=Allowance(name="test", burst=burst, every_ms=1_000))


class TestAtSeveralProcesses:
    """Guesses that are spread over the workers of a homeserver are no more than at one process."""

    def test_a_person_guesses_as_often_as_at_one(self) -> None:
        main, worker = _processes()
        bob = main.register("bob")
        main.call("PUT", "handles/exactly", main.register("exactly"), {"discover": "exact"})
        for number in range(60):
            process = main if number % 2 else worker
            assert refusal(process, "GET", f"handles/guess{number}", bob) == (404, "UNKNOWN_HANDLE")
        for process in (main, worker):
            for name in (NOBODY, "exactly"):
                assert refusal(process, "GET", f"handles/{name}", bob) == (429, "TOO_MANY_REQUESTS")
        main.advance(11)
        assert worker.call("GET", "handles/exactly", bob)["discover"] == "exact"
        assert refusal(worker, "GET", "handles/guess61", bob) == (404, "UNKNOWN_HANDLE")
        assert refusal(main, "GET", "handles/guess62", bob) == (429, "TOO_MANY_REQUESTS")

    def test_a_server_guesses_as_often_as_at_one(self) -> None:
        main, worker = _processes()
        main.call("PUT", "handles/wonder", main.register("bob"), {"discover": "public"})
        main.advance(7)

        def resolve(process: FakeHomeserver, origin: str, name: str) -> str:
            try:
                asked = {"handle": f"@{name}:{main.server_name}", "origin": origin}
                answer = process.result(process.private.queries[RESOLVE](asked))
            except SynapseError as refused:
                return refused.errcode.rpartition(".")[2]
            return str(answer["answer"]["type"]).rpartition(".")[2]

        for number in range(300):
            assert resolve((main, worker)[number % 2], "hs9.test", f"guess{number}") == "absent"
            main.advance(0.05)
        left = [resolve((main, worker)[number % 2], "hs9.test", f"more{number}") for number in range(20)]
        assert left.count("absent") <= 8  # what came back meanwhile
        assert left[-1] == "TOO_MANY_REQUESTS"
        assert resolve(worker, "hs9.test", "wonder") == "record"
        assert resolve(worker, "hs8.test", NOBODY) == "absent"

    def test_what_was_counted_is_forgotten_once_all_is_there_again(self) -> None:
        main, worker = _processes()
        bob = main.register("bob")
        refusal(worker, "GET", "handles/nonentity", bob)
        assert main.query("SELECT COUNT(*) FROM superapp_directory_guesses") == [(1,)]
        main.advance(1_300)
        assert main.query("SELECT COUNT(*) FROM superapp_directory_guesses") == [(0,)]


def _processes() -> tuple[FakeHomeserver, FakeHomeserver]:
    """The main process and a worker."""
    main = FakeHomeserver(HS2, config={"features": {"calls": False, "payments": False, "web": False}})
    worker = main.worker("worker1")
    main.start()
    worker.start()
    main.advance(7)
    return main, worker


HOUR_MS = 3_600_000


class TestShares:
    """Those who take much leave something to those who take little; what all get together has one limit."""

    @pytest.mark.parametrize("hostile", [4, 50])
    def test_for_hours_servers_that_guess_get_what_all_may_and_keep_nobody_from_their_answers(
        self, pair: Pair, hostile: int
    ) -> None:
        guesses = directory_of(pair.hs2)._answers._guesses
        begin_ms = pair.hs2.api.get_current_time_msec()
        tries = answered = 0
        for now_ms in range(begin_ms, begin_ms + 6 * HOUR_MS, 400):
            # Together they ask more often than all may, and at once at first.
            for _ in range(20 * hostile if now_ms == begin_ms else 2):
                answered += judged(guesses, f"s{tries % hostile}.test", now_ms) is None
                tries += 1
            if now_ms % 120_000 < 400:
                # Somebody mistypes a name now and then, and somebody is there, whom no feed shows.
                assert judged(guesses, "honest.test", now_ms) is None
                assert judged(guesses, "honest.test", now_ms, found=True) is None
                assert judged(guesses, "new.test", now_ms, found=True) is None
        assert answered <= 1_000 + 6 * 7_200
        # They do get most of it, so this is no test of servers that gave up.
        assert answered >= 0.8 * 6 * 7_200

    def test_a_few_that_ask_for_all_at_once_leave_enough_to_many_who_ask_for_little(self, pair: Pair) -> None:
        guesses = directory_of(pair.hs2)._answers._guesses
        now_ms = pair.hs2.api.get_current_time_msec()
        for number in range(4 * 300):
            judged(guesses, f"s{number % 4}.test", now_ms)
        for _ in range(10):
            for number in range(15):
                assert judged(guesses, f"honest{number}.test", now_ms) is None
        # The hostile ones are refused, whether they guessed right or wrong.
        right = judged(guesses, "s0.test", now_ms, found=True)
        assert right == judged(guesses, "s0.test", now_ms) is not None

    def test_so_do_those_who_guess_at_several_processes(self) -> None:
        both = _processes()
        each, everybody = (
            Allowance(name=name, burst=burst, every_ms=10_000_000) for name, burst in (("some", 60), ("some_all", 100))
        )
        guesses = [Guesses(directory_of(one)._runtime, each=each, everybody=everybody) for one in both]
        now_ms = both[0].api.get_current_time_msec()

        def refused(number: int, key: str, *, found: bool = False) -> bool:
            judge = guesses[number % 2].judge(key, now_ms, found=found, known_anyway=False)
            return both[number % 2].result(judge) is not None

        answered = [not refused(number // 4, f"s{number % 4}.test") for number in range(4 * 30)]
        # Of 100, of which four by themselves could have taken all.
        assert 60 <= sum(answered) <= 90
        for number in range(2):
            for _ in range(3):
                assert not refused(number, "honest.test")
                assert not refused(number, "honest.test", found=True)
            assert refused(number, "s0.test")
            assert refused(number, "s0.test", found=True)

    def test_who_took_much_and_stopped_is_as_good_as_others_after_some_days(self, pair: Pair) -> None:
        runtime = directory_of(pair.hs2)._runtime
        each, everybody = (
            Allowance(name=name, burst=burst, every_ms=500) for name, burst in (("some", 10_000), ("some_all", 1_000))
        )
        guesses = Guesses(runtime, each=each, everybody=everybody)
        at_first, later = ([judged(guesses, "greedy", ms) is None for _ in range(700)] for ms in (0, 72 * HOUR_MS))
        assert 200 <= sum(at_first) <= 600
        assert sum(at_first) - 5 <= sum(later) <= sum(at_first)

    def test_a_server_that_the_operator_named_has_a_budget_of_its_own(self, pair: Pair) -> None:
        guesses = directory_of(pair.hs2)._answers._guesses
        now_ms = pair.hs2.api.get_current_time_msec()
        for number in range(2_000):
            judged(guesses, f"s{number}.test", now_ms)
        assert judged(guesses, "s20000.test", now_ms, found=True) is not None
        assert [judged(guesses, HS1, now_ms) is None for _ in range(301)] == [True] * 300 + [False]

    def test_what_is_remembered_of_names_is_limited_and_keeps_those_who_took_most(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(budget, "_MAX_KEYS", 10)
        shared = SharedBudget(Allowance(name="some", burst=1_000, every_ms=500))
        for _ in range(200):
            shared.take("greedy", 0)
        for number in range(1_000):
            shared.take(f"s{number}", 0)
            assert len(shared._taken) <= 10
        assert "greedy" in shared._taken


@pytest.fixture
def pair() -> Pair:
    """With somebody on the second homeserver who hides, and somebody who is found by their whole name."""
    pair = Pair()
    for name, discover in ((SECRET, "none"), ("exactly", "exact")):
        pair.hs2.call("PUT", f"handles/{name}", pair.hs2.register(name), {"discover": discover})
    pair.advance(7)
    return pair


def resolved(pair: Pair, origin: str, **asked: str) -> dict[str, Any] | str:
    """What the second homeserver answers to another server; the errcode, if it refuses."""
    try:
        return pair.hs2.result(pair.hs2.private.queries[RESOLVE]({**asked, "origin": origin}))
    except SynapseError as refused:
        return refused.errcode


def statements() -> Mapping[str, float]:
    """SQL statements so far, by unit of work."""
    return {
        sample.labels["work"]: sample.value
        for metric in REGISTRY.collect()
        if metric.name == "superapp_sql_statements"
        for sample in metric.samples
        if sample.name.endswith("_total")
    }


def work_of(pair: Pair, **asked: str) -> tuple[int, Mapping[str, float]]:
    """The size of an answer, and the statements that it took."""
    before = statements()
    answer = resolved(pair, HS1, **asked)
    assert isinstance(answer, dict)
    assert answer["answer"]["type"] == "org.superapp.directory.absent"
    after = statements()
    took = {work: after[work] - before.get(work, 0) for work in after if after[work] != before.get(work, 0)}
    return len(json.dumps(answer)), took


class TestHiddenAndAbsent:
    def test_another_server_gets_the_same_answer_of_the_same_size_for_the_same_work(self, pair: Pair) -> None:
        for by in ("handle", "user_id"):
            resolved(pair, HS1, **{by: f"@warm.up:{HS2}"})
            hidden = work_of(pair, **{by: f"@{SECRET}:{HS2}"})
            assert hidden == work_of(pair, **{by: f"@{NOBODY}:{HS2}"})
            assert hidden[1]["directory_find"] >= 2

    def test_a_person_gets_the_same_answer_for_the_same_work(self, pair: Pair) -> None:
        took: list[Mapping[str, float]] = []
        sentences: list[str] = []
        for name in ("warm.up99", SECRET, NOBODY):
            before = statements()
            with pytest.raises(SynapseError) as refused:
                pair.hs2.call("GET", f"handles/{name}", pair.bob)
            after = statements()
            took.append({work: after[work] - before.get(work, 0) for work in after if work.startswith("directory")})
            sentences.append(refused.value.msg.replace(name, "…"))
        assert took[1] == took[2]
        assert sentences[1] == sentences[2]

    def test_a_search_finds_neither_for_the_same_work(self, pair: Pair) -> None:
        took: list[Mapping[str, float]] = []
        for name in (SECRET, NOBODY):
            before = statements()
            assert pair.hs2.call("POST", "search", pair.bob, {"term": name})["results"] == []
            after = statements()
            took.append({work: after[work] - before.get(work, 0) for work in after if work.startswith("directory")})
        assert took[0] == took[1]


class TestSpent:
    def test_a_server_that_guessed_too_often_learns_of_nobody_whom_it_could_not_know(self, pair: Pair) -> None:
        for number in range(300):
            assert not isinstance(resolved(pair, HS1, handle=f"@guess{number}:{HS2}"), str)
            pair.hs2.advance(0.05)
        for _ in range(8):
            resolved(pair, HS1, handle=f"@again:{HS2}")
        limited = "ORG.SUPERAPP.TOO_MANY_REQUESTS"
        for name in (NOBODY, SECRET, "exactly"):
            assert resolved(pair, HS1, handle=f"@{name}:{HS2}") == limited
            assert resolved(pair, HS1, user_id=f"@{name}:{HS2}") == limited
        public = resolved(pair, HS1, handle=pair.bob)
        assert isinstance(public, dict)
        assert public["answer"]["user_id"] == pair.bob
        # Another server has a budget of its own, and time gives this one some of it back.
        assert not isinstance(resolved(pair, "hs3.test", handle=f"@exactly:{HS2}"), str)
        pair.hs2.advance(60)
        assert not isinstance(resolved(pair, HS1, handle=f"@exactly:{HS2}"), str)

    def test_who_shares_a_room_is_answered_for_all_the_same(self, pair: Pair) -> None:
        hidden = f"@{SECRET}:{HS2}"
        pair.hs2.room(hidden, pair.alice)
        for number in range(310):
            resolved(pair, HS1, handle=f"@guess{number}:{HS2}")
            pair.hs2.advance(0.05)
        assert isinstance(resolved(pair, HS1, user_id=f"@{NOBODY}:{HS2}"), str)
        answer = resolved(pair, HS1, user_id=hidden)
        assert isinstance(answer, dict)
        assert answer["answer"]["type"] == "org.superapp.directory.services"

    def test_a_person_who_guessed_too_often_finds_public_people_only(self, pair: Pair) -> None:
        assert pair.hs2.call("GET", "handles/exactly", pair.bob)["discover"] == "exact"
        for number in range(60):
            assert refusal(pair.hs2, "GET", f"handles/guess{number}", pair.bob) == (404, "UNKNOWN_HANDLE")
        for name in ("exactly", SECRET, NOBODY):
            assert refusal(pair.hs2, "GET", f"handles/{name}", pair.bob) == (429, "TOO_MANY_REQUESTS")
            assert refusal(pair.hs2, "PUT", f"contacts/@{name}:{HS2}", pair.bob) == (429, "TOO_MANY_REQUESTS")
        assert pair.hs2.call("GET", "handles/carol", pair.bob)["user_id"] == pair.carol
        assert pair.hs2.call("GET", "handles/exactly", pair.carol)["discover"] == "exact"
        pair.hs2.room(pair.bob, f"@exactly:{HS2}")
        assert pair.hs2.call("PUT", f"contacts/@exactly:{HS2}", pair.bob)["user_id"] == f"@exactly:{HS2}"

    def test_a_person_who_searched_for_too_many_names_finds_whole_names_no_more(self, pair: Pair) -> None:
        def found(term: str) -> list[str]:
            return [each["handle"] for each in pair.hs2.call("POST", "search", pair.bob, {"term": term})["results"]]

        assert found("exactly") == found(f"@exactly:{HS2}") == [f"@exactly:{HS2}"]
        for number in range(300):
            found(f"guess{number}")
        assert found("exactly") == found(f"@exactly:{HS2}") == []
        assert found("carol") == [pair.carol]
        pair.hs2.advance(10)
        assert found("exactly") == [f"@exactly:{HS2}"]


class TestKeptRecords:
    def test_a_handle_that_is_asked_for_again_costs_no_statement_for_a_second(self, pair: Pair) -> None:
        first = pair.hs2.call("GET", "handles/bob", pair.carol)
        before = statements()
        assert pair.hs2.call("GET", "handles/bob", pair.carol) == first
        assert statements() == before
        pair.hs2.advance(1.5)
        assert pair.hs2.call("GET", "handles/bob", pair.carol) == first
        assert statements() != before

    def test_what_changes_is_seen_at_once(self, pair: Pair) -> None:
        assert pair.hs2.call("GET", "handles/bob", pair.carol)["discover"] == "public"
        pair.hs2.call("PUT", "handles/bob", pair.bob, {"discover": "exact"})
        assert pair.hs2.call("GET", "handles/bob", pair.carol)["discover"] == "exact"
        pair.hs2.call("PUT", "handles/bob", pair.bob, {"discover": "none"})
        assert refusal(pair.hs2, "GET", "handles/bob", pair.carol) == (404, "UNKNOWN_HANDLE")
        assert pair.hs2.call("GET", "handles/bob", pair.bob)["discover"] == "none"

    def test_who_may_not_see_it_does_not_because_somebody_else_did(self, pair: Pair) -> None:
        hidden = f"@{SECRET}:{HS2}"
        assert pair.hs2.call("GET", f"handles/{SECRET}", UserId(hidden))["user_id"] == hidden
        assert refusal(pair.hs2, "GET", f"handles/{SECRET}", pair.carol) == (404, "UNKNOWN_HANDLE")

    def test_a_released_name_is_gone_at_once(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/bobby", pair.bob)
        assert pair.hs2.call("GET", "handles/bobby", pair.carol)["status"] == "active"
        pair.hs2.call("DELETE", "handles/bobby", pair.bob)
        assert refusal(pair.hs2, "GET", "handles/bobby", pair.carol) == (404, "UNKNOWN_HANDLE")
