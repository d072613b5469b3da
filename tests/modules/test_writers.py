"""Several processes of one homeserver: one writes, the others ask it, and another takes its place."""

from typing import Any

import psycopg2
import pytest
from fake_api import FakeHomeserver
from synapse.module_api.errors import ConfigError, SynapseError
from test_payments_feature import ADMIN, ALICE, BOB, CAROL, CONFIG, PAYMENT, House, order, payment_id, refused
from twisted.internet import defer

from super_app.ids import UserId
from super_app.ledger.lease import LEASE_MS
from super_app.names import CLEARING_PATH
from synapse_super_app.http.resource import ApiResource, answer
from synapse_super_app.ledger import relay, tenure

REPLACED_WITHIN_S = 10.0


def lease(homeserver: FakeHomeserver) -> tuple[str, int]:
    [(holder, epoch)] = homeserver.query("SELECT holder, epoch FROM superapp_ledger_lease")
    return holder, epoch


class Processes:
    """A main process that does not write, and two that may; alice has 100.00 EUR, bob is in a room with her."""

    def __init__(self, *, writers: tuple[str, ...] = ("one", "two")) -> None:
        config = {**CONFIG, "payments": {**CONFIG["payments"], "ledger_writers": list(writers)}}
        self.main = FakeHomeserver(config=config)
        self.one, self.two = self.main.worker("one"), self.main.worker("two")
        for process in (self.main, self.one, self.two):
            process.start()
        self.advance(2.0)
        for name in ("alice", "bob", "carol"):
            self.main.register(name)
        self.main.register("admin", admin=True)
        self.room = self.main.room(ALICE, BOB)
        self.main.call(
            "POST", "admin/issue", ADMIN, {"user_id": ALICE, "amount": 10_000, "currency": "EUR", "reference": "r"}
        )
        self.main.relayed.clear()

    def advance(self, seconds: float) -> None:
        self.main.advance(seconds)

    def wallet(self, user_id: str) -> tuple[int, int]:
        (euros,) = self.main.call("GET", "wallet", user_id)["accounts"]
        return euros["available"], euros["held"]

    def until_replaced(self, holder: str) -> float:
        """Seconds until another process has the lease."""
        for tenth in range(1, 600):
            self.main.clock.advance(0.1)
            if lease(self.main)[0] != holder:
                return tenth / 10
        raise AssertionError("nobody took over")


@pytest.fixture
def processes() -> Processes:
    return Processes()


# One process.


def test_a_homeserver_with_one_process_never_looks_at_its_lease_again() -> None:
    house = House()
    assert lease(house) == ("main", 2)
    house.statements.clear()
    house.pay()
    house.advance(120.0)
    assert [each for each in house.statements if "lease" in each] == []
    assert house.relayed == []


def test_a_process_that_starts_again_goes_on_at_once_in_an_epoch_of_its_own() -> None:
    house = House()
    house.pay(1)
    house.restart()
    assert lease(house) == ("main", 3)
    assert house.pay(2)["state"] == "completed"


def test_without_payments_there_is_no_lease_and_events_are_followed_all_the_same() -> None:
    homeserver = FakeHomeserver(config={"features": {"payments": False}})
    homeserver.start()
    assert homeserver.query("SELECT COUNT(*) FROM superapp_follower") == [(1,)]
    assert homeserver.at_shutdown == []


# Asking the one that writes.


def test_of_those_that_may_write_the_first_does_and_no_other(processes: Processes) -> None:
    assert lease(processes.main) == ("one", 2)
    processes.advance(60.0)
    assert lease(processes.main) == ("one", 2)


@pytest.mark.parametrize("at", ["main", "one", "two"])
def test_an_order_is_paid_at_whichever_process_it_is_placed(processes: Processes, at: str) -> None:
    process = {"main": processes.main, "one": processes.one, "two": processes.two}[at]
    assert process.call("POST", "payments", ALICE, order(1))["state"] == "completed"
    process.send(ALICE, processes.room, PAYMENT, order(2))
    processes.advance(3.0)
    assert processes.wallet(ALICE) == (9_000, 0)
    assert processes.wallet(BOB) == (1_000, 0)
    wanted = [] if at == "one" else [("one", "POST payments"), ("one", "order"), ("one", "order")]
    assert processes.main.relayed == wanted
    assert len(processes.main.sent(processes.room, "org.superapp.payment.receipt")) == 2


def test_refusals_come_through_as_they_are(processes: Processes) -> None:
    with refused("INSUFFICIENT_FUNDS", 402) as fields:
        processes.main.call("POST", "payments", ALICE, order(1, 10_001))
    assert fields["available"] == 10_000
    with refused("INSUFFICIENT_FUNDS", 402) as fields:
        processes.main.send(ALICE, processes.room, PAYMENT, order(2, 10_001))
    assert fields["available"] == 10_000
    with refused("UNKNOWN_PAYMENT", 404):
        processes.main.call("POST", f"payments/{payment_id(9)}/cancel", ALICE)


def test_what_people_read_is_read_where_they_ask_and_what_operators_see_where_the_writer_is(
    processes: Processes,
) -> None:
    processes.two.call("GET", "wallet", ALICE)
    processes.two.call("GET", "payments", ALICE)
    assert processes.main.relayed == []
    assert processes.two.call("GET", "admin/invariants", ADMIN)["ok"] is True
    assert processes.two.call("GET", "admin/links", ADMIN) == {"links": []}
    assert processes.main.relayed == [("one", "GET admin/invariants"), ("one", "GET admin/links")]


def test_bodies_queries_and_path_variables_arrive(processes: Processes) -> None:
    processes.main.account_data[(BOB, "org.superapp.payment.policy")] = {"v": 1, "accept": "ask"}
    placed = processes.two.call("POST", "payments", ALICE, order(1, memo="lunch"))
    assert placed["state"] == "awaiting_acceptance"
    answered = processes.main.call("POST", f"payments/{payment_id(1)}/accept", BOB, query={"payer": ALICE})
    assert (answered["state"], answered["memo"]) == ("completed", "lunch")
    with refused("UNKNOWN_PAYMENT", 404):
        processes.main.call("POST", f"payments/{payment_id(1)}/accept", BOB, query={"payer": CAROL})


def test_an_object_of_a_peer_may_arrive_at_any_process(processes: Processes) -> None:
    for process in (processes.main, processes.one, processes.two):
        handler = process.private.put_handlers[CLEARING_PATH]
        with pytest.raises(SynapseError) as refusal:
            process.result(handler("hs2.test", "x" * 43, {"object": {}}))  # type: ignore[arg-type]
        assert (refusal.value.code, refusal.value.errcode) == (422, "ORG.SUPERAPP.INVALID_VALUE")
    assert processes.main.relayed == [("one", "clearing"), ("one", "clearing")]


# Taking its place.


def test_the_bound_is_kept_with_time_to_spare() -> None:
    """Silence, the next look, and what the database takes to end a transaction in which a process stopped."""
    idle_in_transaction_ms = 5_000
    assert tenure._RENEW_MS * 2 < LEASE_MS
    assert max(LEASE_MS, idle_in_transaction_ms) + 2 * tenure._TURN_MS <= REPLACED_WITHIN_S * 1000 - 1_000
    assert relay.PATIENCE_MS > 2 * REPLACED_WITHIN_S * 1000


def test_a_writer_that_died_is_replaced(processes: Processes) -> None:
    processes.one.kill()
    assert processes.until_replaced("one") <= REPLACED_WITHIN_S
    assert lease(processes.main) == ("two", 3)
    assert processes.main.call("POST", "payments", ALICE, order(1))["state"] == "completed"


def test_an_order_that_comes_while_there_is_no_writer_waits_and_is_paid(processes: Processes) -> None:
    processes.one.kill()
    assert processes.main.call("POST", "payments", ALICE, order(1))["state"] == "completed"
    processes.main.send(ALICE, processes.room, PAYMENT, order(2))
    processes.advance(3.0)
    assert processes.wallet(BOB) == (1_000, 0)


def test_a_writer_that_hangs_is_replaced_and_what_it_was_asked_is_asked_of_the_other(processes: Processes) -> None:
    processes.one.suspend()
    assert processes.main.call("POST", "payments", ALICE, order(1))["state"] == "completed"
    assert lease(processes.main) == ("two", 3)
    assert processes.main.relayed == [("one", "POST payments"), ("two", "POST payments")]


def test_one_that_comes_back_from_hanging_decides_nothing_and_asks(processes: Processes) -> None:
    processes.one.suspend()
    processes.until_replaced("one")
    processes.one.resume()
    # Before its own timers have told it anything.
    assert processes.one.call("POST", "payments", ALICE, order(1))["state"] == "completed"
    assert ("two", "POST payments") in processes.main.relayed
    processes.advance(30.0)
    assert lease(processes.main) == ("two", 3)
    assert processes.wallet(BOB) == (500, 0)


def test_a_writer_that_is_stopped_hands_over_at_once(processes: Processes) -> None:
    processes.one.stop()
    assert processes.until_replaced("one") <= 2.0


def test_what_died_before_it_answered_is_asked_again_and_done_once(processes: Processes) -> None:
    asked = processes.main.listening["one"]

    async def answer_and_die(request: Any) -> dict[str, Any]:
        answered = await asked(request)
        processes.one.kill()
        return answered

    processes.main.listening["one"] = answer_and_die
    assert processes.main.call("POST", "payments", ALICE, order(1))["state"] == "completed"
    assert lease(processes.main)[0] == "two"
    processes.advance(5.0)
    assert processes.wallet(ALICE) == (9_500, 0)
    assert processes.wallet(BOB) == (500, 0)


def test_another_key_that_was_made_before_the_writer_died_is_not_made_again(processes: Processes) -> None:
    """The request has no id of its own; whoever is asked next knows it by the one that it was given on the way."""
    asked = processes.main.listening["one"]
    answers: list[dict[str, Any]] = []

    async def answer_and_die(request: Any) -> dict[str, Any]:
        answers.append(await asked(request))
        processes.one.kill()
        return answers[-1]

    processes.main.listening["one"] = answer_and_die
    told = processes.main.call("POST", "admin/payment-key", ADMIN)
    assert lease(processes.main)[0] == "two"
    assert told == answers[0]["answer"]["answer"]
    assert len(list(processes.main.folder.glob("*.payment.key.retired-*"))) == 1


def test_one_that_stops_while_it_takes_the_lease_gives_it_up() -> None:
    house = House()
    runtime = house.module.runtime
    slow: defer.Deferred[None] = defer.Deferred()
    really_run: Any = runtime.database.run

    class SlowDatabase:
        engine = runtime.database.engine

        async def run(self, name: str, work: Any) -> Any:
            done = await really_run(name, work)
            if name == "lease_take":
                await slow
            return done

    class Writer:
        def open(self, epoch: int, on_lost: object = None) -> None:
            raise AssertionError("it has stopped")

        def close(self) -> None: ...

    found = tenure.Tenure(
        api=runtime.api,
        database=SlowDatabase(),
        writer=Writer(),
        own="other",
        writers=("main", "other"),
    )
    house.query("UPDATE superapp_ledger_lease SET expires_ms = 0")
    defer.ensureDeferred(found.start())
    assert lease(house)[0] == "other"
    ended: list[object] = []
    defer.ensureDeferred(found.stop()).addBoth(ended.append)
    house.advance(0.1)
    assert ended == []
    slow.callback(None)
    house.advance(0.1)
    assert ended == [None]
    assert house.query("SELECT expires_ms FROM superapp_ledger_lease") == [(0,)]


def test_a_worker_that_starts_relieves_the_main_process_and_nothing_is_lost_or_paid_twice() -> None:
    """The main process starts first, so it would write for ever; it stands in only while the worker is away."""
    main = FakeHomeserver(config={**CONFIG, "payments": {**CONFIG["payments"], "ledger_writers": ["one", "main"]}})
    one = main.worker("one")
    main.start()
    main.advance(2)
    for name in ("alice", "bob"):
        main.register(name)
    main.register("admin", admin=True)
    main.room(ALICE, BOB)
    issued = {"user_id": ALICE, "amount": 10_000, "currency": "EUR", "reference": "r"}
    main.call("POST", "admin/issue", ADMIN, issued)
    assert lease(main)[0] == "main"
    one.start()
    main.advance(2)
    assert lease(main) == ("one", 3)
    for process in (main, one):
        main.call("POST", "admin/issue", ADMIN, issued)
        assert process.call("GET", "wallet", ALICE)["accounts"][0]["available"] == 10_000
    # Away, it is stood in for; and while both run they do not take turns.
    one.kill()
    main.advance(10)
    assert lease(main) == ("main", 4)
    main.advance(60)
    assert lease(main) == ("main", 4)


def test_who_asks_the_writer_whose_database_is_away_is_told_to_try_again(processes: Processes) -> None:
    run = processes.one.api.run_db_interaction

    def fail(desc: str, *arguments: Any, **named: Any) -> Any:
        if "lease" in desc:
            return run(desc, *arguments, **named)
        # What psycopg2 raises where there is no SQLSTATE, as for some connections that break.
        return defer.fail(psycopg2.DatabaseError("server closed the connection unexpectedly"))

    processes.one.api.run_db_interaction = fail  # type: ignore[method-assign]
    with refused("STARTING", 503):
        processes.main.call("GET", "admin/links", ADMIN)
    processes.one.api.run_db_interaction = run  # type: ignore[method-assign]
    assert processes.main.call("GET", "admin/links", ADMIN) == {"links": []}


def test_who_waits_for_the_writer_goes_on_waiting_while_the_database_is_away(processes: Processes) -> None:
    """The writer may be about to commit; an error would say that it did not."""
    asked, run = processes.main.listening["one"], processes.main.api.run_db_interaction
    slow: defer.Deferred[None] = defer.Deferred()
    failed: list[str] = []

    async def answer_slowly(request: Any) -> dict[str, Any]:
        await slow
        return await asked(request)

    def fail(desc: str, *_arguments: Any, **_named: Any) -> Any:
        failed.append(desc)
        return defer.fail(ConnectionError("the database is away"))

    processes.main.listening["one"] = answer_slowly
    resource = next(each for each in processes.main.api.web_resources.values() if isinstance(each, ApiResource))
    route, variables = resource.match("GET", "admin/links")
    outcome: list[Any] = []
    defer.ensureDeferred(answer(route, variables, UserId(ADMIN), {}, None)).addBoth(outcome.append)
    processes.main.api.run_db_interaction = fail  # type: ignore[method-assign]
    processes.advance(3.0)
    assert any("lease" in each for each in failed)
    processes.main.api.run_db_interaction = run  # type: ignore[method-assign]
    assert outcome == []
    slow.callback(None)
    processes.advance(0.1)
    assert outcome == [{"links": []}]


def test_what_was_ordered_before_the_writer_died_is_carried_on_by_the_next(processes: Processes) -> None:
    """The hold stands, and nobody has followed its event yet."""
    processes.one.module.runtime.follower.stop()
    processes.main.send(ALICE, processes.room, PAYMENT, order(1))
    assert processes.wallet(ALICE) == (9_500, 500)
    processes.one.kill()
    processes.advance(15.0)
    assert processes.wallet(ALICE) == (9_500, 0)
    assert processes.wallet(BOB) == (500, 0)


def test_the_next_writer_goes_on_when_the_first_comes_back(processes: Processes) -> None:
    processes.one.kill()
    processes.until_replaced("one")
    again = processes.main.worker("one")
    again.start()
    processes.advance(30.0)
    assert lease(processes.main) == ("two", 3)
    assert again.call("POST", "payments", ALICE, order(1))["state"] == "completed"


def test_with_no_writer_at_all_people_are_told_after_a_while(processes: Processes) -> None:
    processes.one.kill()
    processes.two.kill()
    outcome: list[Any] = []
    resource = next(each for each in processes.main.api.web_resources.values() if isinstance(each, ApiResource))
    route, variables = resource.match("GET", "admin/links")
    waiting = answer(route, variables, UserId(ADMIN), {}, None)
    defer.ensureDeferred(waiting).addBoth(outcome.append)
    processes.advance(relay.PATIENCE_MS / 1000 - 1)
    assert outcome == []
    processes.advance(3.0)
    error = outcome[0].value
    assert (error.code, error.errcode) == (503, "ORG.SUPERAPP.STARTING")
    assert error.error_dict(None)["retry_after_ms"] == 2_000


def test_a_sole_writer_that_finds_another_one_does_not_fight_for_every_batch() -> None:
    house = House()
    house.query("UPDATE superapp_ledger_lease SET holder = 'another', epoch = 3")
    house.query("UPDATE superapp_ledger_head SET epoch = 3")
    began_s = house.clock.seconds()
    assert house.pay()["state"] == "completed"
    assert lease(house) == ("main", 4)
    assert house.clock.seconds() - began_s >= LEASE_MS / 1000


def test_one_that_loses_the_lease_while_it_begins_begins_no_more_and_ends_what_it_began() -> None:
    """What it would still start, such as following events, nobody would stop: another process writes by then."""
    house = House()
    log: list[str] = []
    hangs: defer.Deferred[None] = defer.Deferred()

    class Writer:
        def open(self, epoch: int, on_lost: object = None) -> None:
            log.append("opened")

        def close(self) -> None:
            log.append("closed")

    async def begin_slowly(_epoch: int) -> None:
        await hangs
        log.append("first begun")

    async def begin_next(_epoch: int) -> None:
        log.append("second begun")

    found = tenure.Tenure(
        api=house.module.runtime.api,
        database=house.module.runtime.database,
        writer=Writer(),
        own="other",
        writers=("main", "other"),
    )
    found.while_held(begin_slowly, lambda: log.append("first ended"))
    found.while_held(begin_next, lambda: log.append("second ended"))
    house.result(found.start())
    assert lease(house) == ("other", 3)
    house.query("UPDATE superapp_ledger_lease SET holder = 'third', epoch = 4")
    house.query("UPDATE superapp_ledger_head SET epoch = 4")
    house.advance(3.0)
    assert log == ["opened", "closed", "first ended", "second ended"]
    # Not before it has come to an end with this one: both would then be beginning.
    house.query("UPDATE superapp_ledger_lease SET expires_ms = 0")
    house.advance(LEASE_MS / 1000)
    assert lease(house) == ("third", 4)
    hangs.callback(None)
    assert log[4:] == ["first begun", "closed", "first ended", "second ended"]
    assert not found.holds
    house.advance(LEASE_MS / 1000)
    assert lease(house) == ("other", 5)
    assert log[8:] == ["opened", "first begun", "second begun"]
    assert found.holds


# The config.


@pytest.mark.parametrize(
    ("writers", "said"),
    [
        (["main", "nowhere"], "ledger_writers names 'nowhere', which no process can reach; add it to instance_map"),
        (["main", "main"], "ledger_writers must name each process once"),
        ([], "ledger_writers"),
        ([""], "ledger_writers"),
    ],
)
def test_writers_that_cannot_be_are_refused_at_the_start(writers: list[str], said: str) -> None:
    config = {**CONFIG, "payments": {**CONFIG["payments"], "ledger_writers": writers}}
    with pytest.raises(ConfigError, match=said):
        FakeHomeserver(config=config).start()
