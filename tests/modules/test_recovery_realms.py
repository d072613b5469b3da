"""Recovery with five homeservers that do not trust each other: each one a realm, alice on the first."""

import contextlib
import itertools
import logging
import secrets
import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import pytest
from fake_api import FakeHomeserver, FakeRoom
from recovery_person import Draft, Person, TooFewRealms, WrongPin, random_scalar, stretched
from synapse.module_api.errors import ConfigError, SynapseError
from twisted.internet import defer

from super_app.ids import ServerName, UserId
from super_app.names import ERRCODE_PREFIX, RECOVERY_PATH
from super_app.recovery import client, group, rules, voprf
from super_app.signing import from_b64, to_b64
from synapse_super_app.config import InvalidConfig, parse_config
from synapse_super_app.http.resource import ApiResource, answer
from synapse_super_app.recovery.keys import RealmKey, key_path, realm_key

NAMES = tuple(f"hs{number}.test" for number in range(1, 6))
PIN, WRONG, KEY = "482915", "482916", bytes(range(32))
DAY_S = 86_401.0


class Realms:
    """Five homeservers that reach each other."""

    def __init__(self) -> None:
        self.houses: dict[str, FakeHomeserver] = {}
        for name in NAMES:
            others = [{"server": each, "operator": f"the people of {each}"} for each in NAMES if each != name]
            config: dict[str, Any] = {
                "features": {
                    "directory": False,
                    "calls": False,
                    "payments": False,
                    "recovery": True,
                    "assistant": True,
                },
                "recovery": {"operator": f"the people of {name}", "realms": others},
            }
            self.houses[name] = FakeHomeserver(name, config=config)
        for name, house in self.houses.items():
            house.reachable = {each: other for each, other in self.houses.items() if each != name}
            house.register("admin", admin=True)
            house.start()
        for house in self.houses.values():
            house.settle()

    def __getitem__(self, name: str) -> FakeHomeserver:
        return self.houses[name]

    def advance(self, seconds: float) -> None:
        """In one leap: what is due after it happens once."""
        for house in self.houses.values():
            house.clock.advance(seconds)
            house.settle()

    def cut(self, name: str) -> None:
        """Nobody reaches it any more."""
        for house in self.houses.values():
            house.reachable.pop(name, None)

    def join(self, name: str) -> None:
        for other, house in self.houses.items():
            if other != name:
                house.reachable[name] = self.houses[name]

    def ask(self, origin: str, name: str, what: str, body: dict[str, Any]) -> dict[str, Any]:
        """What a homeserver asks of a realm, whatever it is."""
        door = self.houses[name].private.put_handlers[RECOVERY_PATH]
        return dict(self.houses[name].result(door(ServerName(origin), what, body)))

    def guesses(self, person: Person) -> dict[str, int]:
        sql = "SELECT guesses FROM superapp_recovery_share WHERE user_id = ? AND sealed IS NOT NULL"
        return {name: row[0] for name, house in self.houses.items() for row in house.query(sql, person.user_id)}

    def held(self, person: Person) -> int:
        """By all of them together."""
        sql = "SELECT COUNT(*) FROM superapp_recovery_share WHERE user_id = ? AND sealed IS NOT NULL"
        return sum(house.query(sql, person.user_id)[0][0] for house in self.houses.values())


def versions_held(house: FakeHomeserver, person: Person) -> list[tuple[Any, ...]]:
    sql = "SELECT version FROM superapp_recovery_share WHERE user_id = ? AND sealed IS NOT NULL"
    return house.query(sql, person.user_id)


@pytest.fixture(scope="module")
def five() -> Realms:
    return Realms()


@pytest.fixture
def realms(five: Realms) -> Realms:
    """The same ones in all tests, each of which has people of its own, and reach each other."""
    for name in NAMES:
        five.join(name)
    return five


_numbers = itertools.count(1)


def somebody(home: FakeHomeserver) -> Person:
    return Person(home, f"person{next(_numbers)}")


@pytest.fixture
def alice(realms: Realms) -> Person:
    person = somebody(realms["hs1.test"])
    person.set_up(PIN, KEY, NAMES, 3)
    return person


def reason(error: SynapseError) -> str:
    return str(error.errcode).removeprefix(ERRCODE_PREFIX)


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(SynapseError) as caught:
        call()
    return reason(caught.value)


def wrong(person: Person) -> None:
    with pytest.raises(WrongPin):
        person.guess(WRONG)


def test_the_right_pin_brings_the_key_and_begins_every_count_anew(realms: Realms, alice: Person) -> None:
    wrong(alice)
    assert realms.guesses(alice) == dict.fromkeys(NAMES, 1)

    assert alice.recover(PIN).key == KEY

    assert realms.guesses(alice) == dict.fromkeys(NAMES, 0)


def test_with_a_realm_down_recovery_goes_on(realms: Realms, alice: Person) -> None:
    realms.cut("hs4.test")
    found = alice.recover(PIN)
    assert found.key == KEY
    assert found.refused == {"hs4.test": "PEER_UNREACHABLE"}


def test_with_three_of_five_down_there_is_no_recovery_and_no_guess_counts(realms: Realms, alice: Person) -> None:
    for name in ("hs3.test", "hs4.test", "hs5.test"):
        realms.cut(name)
    with pytest.raises(TooFewRealms) as caught:
        alice.guess(PIN)
    assert caught.value.refused["hs2.test"] == "RECOVERY_UNWITNESSED"
    assert realms.guesses(alice) == dict.fromkeys(NAMES, 0)


def test_a_realm_that_lies_is_named_and_recovery_succeeds_without_it(realms: Realms, alice: Person) -> None:
    liar = realms["hs2.test"].private
    honest = liar.put_handlers[RECOVERY_PATH]

    async def lying(origin: ServerName, what: str, body: Any) -> dict[str, Any]:
        answered = await honest(origin, what, body)
        return {**answered, "element": body["blinded"]} if what == "guess" else answered

    liar.put_handlers[RECOVERY_PATH] = lying
    found = alice.recover(PIN)
    liar.put_handlers[RECOVERY_PATH] = honest
    assert (found.key, found.lied) == (KEY, ["hs2.test"])


def test_ten_wrong_guesses_over_days_and_restarts_destroy_the_share_everywhere(realms: Realms, alice: Person) -> None:
    for number in range(10):
        realms.advance(DAY_S)
        wrong(alice)
        if number == 4:
            for house in realms.houses.values():
                house.restart()
    assert realms.guesses(alice) == dict.fromkeys(NAMES, 10)

    with pytest.raises(TooFewRealms) as caught:
        alice.guess(PIN)

    assert caught.value.refused == dict.fromkeys(NAMES, "RECOVERY_GONE")
    assert realms.guesses(alice) == {}
    assert realms.held(alice) == 0


def test_after_the_tenth_guess_the_right_one_still_counts_as_right(realms: Realms, alice: Person) -> None:
    for _ in range(9):
        wrong(alice)
        realms.advance(DAY_S)
    assert alice.recover(PIN).key == KEY
    assert realms.guesses(alice) == dict.fromkeys(NAMES, 0)


def test_the_next_guess_waits_after_several_wrong_ones(realms: Realms, alice: Person) -> None:
    for _ in range(3):
        wrong(alice)
    with pytest.raises(SynapseError) as caught:
        alice.at(
            "hs2.test",
            "guess",
            {
                "version": 1,
                "attempt_id": secrets.token_hex(16),
                "blinded": alice.stored["set"]["realms"][0]["public_key"],
            },
        )
    assert caught.value.code == 429
    assert caught.value.error_dict(None)["retry_after_ms"] > 0
    with pytest.raises(TooFewRealms):
        alice.guess(PIN)
    realms.advance(rules.DELAYS_MS[3] / 1000)
    assert alice.guess(PIN).key == KEY


def snapshot(house: FakeHomeserver) -> sqlite3.Connection:
    copy = sqlite3.connect(":memory:")
    house._database.backup(copy)
    return copy


def restore(house: FakeHomeserver, copy: sqlite3.Connection) -> None:
    """An operator puts a backup in place, with the homeserver stopped."""
    copy.backup(house._database)
    house.restart()


def test_a_restored_realm_gives_no_guess_back(realms: Realms, alice: Person) -> None:
    wrong(alice)
    old = snapshot(realms["hs2.test"])
    for _ in range(4):
        realms.advance(DAY_S)
        wrong(alice)
    before = realms.guesses(alice)["hs2.test"]

    restore(realms["hs2.test"], old)

    assert before == 5
    assert realms.guesses(alice)["hs2.test"] == 5


def test_a_restored_realm_that_cannot_ask_answers_no_guess_until_it_can(realms: Realms, alice: Person) -> None:
    old = snapshot(realms["hs2.test"])
    for _ in range(2):
        wrong(alice)
    others = dict(realms["hs2.test"].reachable)
    realms["hs2.test"].reachable = {}
    restore(realms["hs2.test"], old)
    assert realms.guesses(alice)["hs2.test"] == 0

    with pytest.raises(TooFewRealms) as caught:
        alice.guess(PIN, only=["hs2.test"])
    assert caught.value.refused == {"hs2.test": "RECOVERY_UNWITNESSED"}

    realms["hs2.test"].reachable = others
    realms["hs2.test"].advance(61)
    assert realms.guesses(alice)["hs2.test"] == 2


def test_where_others_are_gone_the_operator_vouches_for_the_database(realms: Realms, alice: Person) -> None:
    house = realms["hs2.test"]
    alice.recover(PIN)
    for name in ("hs4.test", "hs5.test"):
        realms.cut(name)
    house.restart()
    assert house.call("GET", "admin/recovery", "@admin:hs2.test")["unchecked"] >= 1
    assert refused(lambda: alice.at("hs2.test", "guess", guess_body(alice))) == "RECOVERY_UNWITNESSED"

    vouched = house.call("POST", "admin/recovery/vouch", "@admin:hs2.test", {})

    assert vouched["vouched_until"] > house.now_ms()
    assert alice.recover(PIN).key == KEY
    house.advance(61)
    assert house.call("GET", "admin/recovery", "@admin:hs2.test")["unchecked"] == 0
    realms.advance(3_700)


def guess_body(person: Person) -> dict[str, Any]:
    content = person.stored["set"]
    blinded = content["realms"][0]["public_key"]
    return {"version": content["version"], "attempt_id": secrets.token_hex(16), "blinded": blinded}


def test_a_witness_cannot_make_up_guesses_or_destroy_a_share(realms: Realms, alice: Person) -> None:
    """One realm that lies must not be able to take the share of another away."""
    liar = realms["hs3.test"].private
    honest = liar.put_handlers[RECOVERY_PATH]
    made_up = {"epoch": 99, "guesses": 10, "attempt_id": None, "gone": True, "signature": to_b64(b"\1" * 64)}

    async def lying(origin: ServerName, what: str, body: Any) -> dict[str, Any]:
        if what == "recall":
            return {"mark": made_up}
        if what == "witness":
            raise SynapseError(409, "older", f"{ERRCODE_PREFIX}RECOVERY_BEHIND", additional_fields=made_up)
        return await honest(origin, what, body)

    liar.put_handlers[RECOVERY_PATH] = lying
    realms["hs2.test"].restart()
    recovered = alice.recover(PIN)
    liar.put_handlers[RECOVERY_PATH] = honest
    assert recovered.key == KEY
    assert realms.guesses(alice)["hs2.test"] == 0


def test_two_recoveries_at_once_both_bring_the_key_and_both_count(realms: Realms, alice: Person) -> None:
    one, two = alice.guess(PIN), alice.guess(PIN)
    assert realms.guesses(alice) == dict.fromkeys(NAMES, 2)
    assert (one.key, two.key) == (KEY, KEY)

    alice.unlock(one)
    assert realms.guesses(alice) == dict.fromkeys(NAMES, 0)
    wrong(alice)
    # The slower one is told that it was right, and gives nobody a guess back.
    alice.unlock(two)
    assert realms.guesses(alice) == dict.fromkeys(NAMES, 1)
    alice.home.advance(150)
    assert told(alice, "tried the PIN") == 1


def test_a_recovery_that_another_one_overtakes_between_its_steps_brings_the_key_and_is_right(
    realms: Realms, alice: Person
) -> None:
    """Wherever the quicker one comes in: before the slower one asks, while realms answer it, and before it unlocks."""
    for asked_before in range(len(NAMES) + 1):
        slow, factor = alice.begin(), random_scalar()
        with contextlib.suppress(TooFewRealms):
            alice.guess(PIN, attempt_id=slow, only=NAMES[:asked_before], factor=factor)
        assert alice.recover(PIN).key == KEY
        found = alice.guess(PIN, attempt_id=slow, factor=factor)
        assert (found.key, found.refused) == (KEY, {})
        alice.unlock(found)
        assert realms.guesses(alice) == dict.fromkeys(NAMES, 0)
    alice.home.advance(150)
    assert told(alice, "tried the PIN") == 0


def test_a_guess_that_is_sent_twice_counts_once(realms: Realms, alice: Person) -> None:
    body = guess_body(alice)
    one, two = alice.at("hs2.test", "guess", body), alice.at("hs2.test", "guess", body)
    assert (one["element"], one["nonce"]) == (two["element"], two["nonce"])
    assert one["proof"] != two["proof"]
    assert realms.guesses(alice)["hs2.test"] == 1


def test_two_guesses_that_meet_at_a_realm_count_once_each(realms: Realms, alice: Person) -> None:
    wrong(alice)
    house, other = realms["hs2.test"], realms["hs1.test"].private
    witnesses = other.put_handlers[RECOVERY_PATH]
    waiting: list[defer.Deferred[None]] = []

    async def slow(origin: ServerName, what: str, body: Any) -> dict[str, Any]:
        if what == "witness":
            waiting.append(defer.Deferred())
            await waiting[-1]
        return dict(await witnesses(origin, what, body))

    other.put_handlers[RECOVERY_PATH] = slow
    door = house.private.put_handlers[RECOVERY_PATH]
    bodies = [{**guess_body(alice), "user_id": alice.user_id} for _ in range(2)]
    asked: list[defer.Deferred[Any]] = [
        defer.ensureDeferred(door(ServerName("hs1.test"), "guess", body))  # type: ignore[arg-type]
        for body in bodies
    ]
    while waiting:
        waiting.pop(0).callback(None)
        house.settle()
    other.put_handlers[RECOVERY_PATH] = witnesses
    answered = [house.result(each) for each in asked]
    assert [each["guesses_left"] for each in answered] == [8, 7]
    assert realms.guesses(alice)["hs2.test"] == 3


def test_a_guess_counts_when_it_is_begun_and_not_again_when_its_pin_comes(realms: Realms, alice: Person) -> None:
    attempt_id = alice.begin()
    assert realms.guesses(alice) == dict.fromkeys(NAMES, 1)
    found = alice.guess(PIN, attempt_id=attempt_id)
    assert (found.key, realms.guesses(alice)) == (KEY, dict.fromkeys(NAMES, 1))
    alice.unlock(found)
    assert realms.guesses(alice) == dict.fromkeys(NAMES, 0)


def test_one_order_shows_all_realms_that_the_pin_was_right_though_the_page_closes_behind_it(
    realms: Realms, alice: Person
) -> None:
    wrong(alice)
    found, said = alice.recover_as_the_page_does(PIN, closes=True)
    assert (found.key, found.lied) == (KEY, [])
    assert said["unlocked"] == list(NAMES)
    assert len(said["evaluations"]) == len(NAMES) - 3
    assert realms.guesses(alice) == dict.fromkeys(NAMES, 0)
    alice.home.advance(150)
    assert told(alice, "tried the PIN") == 1
    # Sent again, since its answer was lost, it changes nothing, and nothing is evaluated for it.
    again = alice.home.call("POST", f"recovery/attempts/{found.attempt_id}/right", alice.user_id, said["order"])
    assert again["evaluations"] == {}
    assert realms.guesses(alice) == dict.fromkeys(NAMES, 0)


def test_the_order_finds_out_one_that_lies_among_those_that_were_not_needed(realms: Realms, alice: Person) -> None:
    liar = realms["hs5.test"].private
    honest = liar.put_handlers[RECOVERY_PATH]

    async def lying(origin: ServerName, what: str, body: Any) -> dict[str, Any]:
        answered = await honest(origin, what, body)
        return {**answered, "element": body["blinded"]} if what == "guess" else answered

    liar.put_handlers[RECOVERY_PATH] = lying
    found, _ = alice.recover_as_the_page_does(PIN, first=NAMES[:3])
    liar.put_handlers[RECOVERY_PATH] = honest
    assert (found.key, found.lied) == (KEY, ["hs5.test"])


def test_the_order_unlocks_a_realm_too_whose_answer_to_the_guess_is_lost(realms: Realms, alice: Person) -> None:
    late = realms["hs5.test"].private
    honest = late.put_handlers[RECOVERY_PATH]

    async def silent(origin: ServerName, what: str, body: Any) -> dict[str, Any]:
        if what == "guess":
            raise ConnectionError("the answer is lost")
        return await honest(origin, what, body)

    late.put_handlers[RECOVERY_PATH] = silent
    found, said = alice.recover_as_the_page_does(PIN, first=NAMES[:3])
    late.put_handlers[RECOVERY_PATH] = honest
    assert found.key == KEY
    assert "hs5.test" not in said["evaluations"]
    assert realms.guesses(alice) == dict.fromkeys(NAMES, 0)


def test_the_order_unlocks_no_realm_and_ends_no_try_without_the_right_tags(realms: Realms, alice: Person) -> None:
    attempt_id = alice.begin()
    body = {
        "version": 1,
        "blinded": alice.stored["set"]["realms"][0]["public_key"],
        "tags": dict.fromkeys(NAMES, to_b64(bytes(32))),
        "others": list(NAMES),
    }
    said = alice.home.call("POST", f"recovery/attempts/{attempt_id}/right", alice.user_id, body)
    assert (said["unlocked"], sorted(said["evaluations"])) == ([], list(NAMES))
    assert realms.guesses(alice) == dict.fromkeys(NAMES, 1)
    alice.home.advance(150)
    assert told(alice, "tried the PIN") == 1
    # It has ended as a wrong one, so nothing more is evaluated under it.
    said = alice.home.call("POST", f"recovery/attempts/{attempt_id}/right", alice.user_id, body)
    assert said == {"unlocked": [], "evaluations": {}}
    assert refused(lambda: order_of(alice, attempt_id, {**body, "others": ["hs9.test"]})) == "UNKNOWN_REALM"
    assert refused(lambda: order_of(alice, "short", body)) == "INVALID_VALUE"


def order_of(person: Person, attempt_id: str, body: dict[str, Any]) -> dict[str, Any]:
    return person.home.call("POST", f"recovery/attempts/{attempt_id}/right", person.user_id, body)


def test_a_realm_that_lies_cannot_end_a_try_by_the_order_either(realms: Realms, alice: Person) -> None:
    liar = realms["hs2.test"].private
    honest = liar.put_handlers[RECOVERY_PATH]

    async def lying(origin: ServerName, what: str, body: Any) -> dict[str, Any]:
        return {"changed": True} if what == "unlock" else dict(await honest(origin, what, body))

    liar.put_handlers[RECOVERY_PATH] = lying
    body = {
        "version": 1,
        "blinded": alice.stored["set"]["realms"][0]["public_key"],
        "tags": dict.fromkeys(NAMES, to_b64(bytes(32))),
        "others": [],
    }
    assert order_of(alice, alice.begin(), body)["unlocked"] == ["hs2.test"]
    liar.put_handlers[RECOVERY_PATH] = honest
    alice.home.advance(150)
    assert told(alice, "tried the PIN") == 1


def test_a_page_that_another_device_overtakes_unlocks_all_realms_all_the_same(realms: Realms, alice: Person) -> None:
    """What was only begun counts anew, with another nonce, for which the page makes another tag."""
    found, said = alice.recover_as_the_page_does(PIN, meanwhile=lambda: alice.recover_as_the_page_does(PIN))
    assert found.key == KEY
    assert realms.guesses(alice) == dict.fromkeys(NAMES, 0)
    assert len(said["unlocked"]) == 3
    alice.home.advance(150)
    assert told(alice, "tried the PIN") == 0


def test_while_one_realm_hangs_the_nonces_of_the_others_come_with_what_is_evaluated(
    realms: Realms, alice: Person
) -> None:
    hanging = realms["hs3.test"].private
    honest = hanging.put_handlers[RECOVERY_PATH]
    held: defer.Deferred[None] = defer.Deferred()

    async def hangs(origin: ServerName, what: str, body: Any) -> dict[str, Any]:
        if what == "begin":
            await held
        return dict(await honest(origin, what, body))

    hanging.put_handlers[RECOVERY_PATH] = hangs
    attempt_id = secrets.token_hex(16)
    resource = next(each for each in alice.home.api.web_resources.values() if isinstance(each, ApiResource))
    route, variables = resource.match("POST", f"recovery/attempts/{attempt_id}/begin")
    body = {"version": 1, "realms": list(NAMES)}
    begun = defer.ensureDeferred(answer(route, variables, UserId(alice.user_id), {}, body))
    alice.home.settle()
    said = alice.home.call(
        "POST",
        f"recovery/attempts/{attempt_id}/evaluate",
        alice.user_id,
        {**body, "blinded": alice.stored["set"]["realms"][0]["public_key"], "enough": 3},
    )
    assert sorted(said["nonces"]) == [each for each in NAMES if each != "hs3.test"]
    assert {name: each["nonce"] for name, each in said["evaluations"].items()}.items() <= said["nonces"].items()
    hanging.put_handlers[RECOVERY_PATH] = honest
    held.callback(None)
    assert sorted(alice.home.result(begun)["nonces"]) == list(NAMES)
    # Then nothing of it is kept, since whoever asks has the answer.
    assert evaluate(alice, attempt_id, 5) == list(NAMES)


def evaluate(person: Person, attempt_id: str, enough: int, realms: Sequence[str] = NAMES) -> list[str]:
    """Ask all in one question; who answered."""
    found = person.home.call(
        "POST",
        f"recovery/attempts/{attempt_id}/evaluate",
        person.user_id,
        {
            "version": 1,
            "blinded": person.stored["set"]["realms"][0]["public_key"],
            "realms": list(realms),
            "enough": enough,
        },
    )
    return sorted(found["evaluations"])


def evaluated(realms: Realms, person: Person) -> list[str]:
    sql = "SELECT 1 FROM superapp_recovery_guess WHERE user_id = ? AND blinded <> ''"
    return [name for name, house in realms.houses.items() if house.query(sql, person.user_id)]


def test_one_question_has_as_many_realms_evaluate_as_it_takes(realms: Realms, alice: Person) -> None:
    attempt_id = alice.begin()
    answered = evaluate(alice, attempt_id, 3)
    assert len(answered) == 3
    assert "hs1.test" in answered
    assert evaluated(realms, alice) == answered
    # Asked for all, those that have answered give the same again.
    assert evaluate(alice, attempt_id, 5) == list(NAMES)
    assert realms.guesses(alice) == dict.fromkeys(NAMES, 1)


def test_where_some_fail_or_hang_the_others_are_asked_as_well(realms: Realms, alice: Person) -> None:
    attempt_id = alice.begin()
    realms.cut("hs2.test")
    hanging = realms["hs3.test"].private
    honest = hanging.put_handlers[RECOVERY_PATH]

    async def hangs(origin: ServerName, what: str, body: Any) -> dict[str, Any]:
        return dict(await (defer.Deferred() if what == "guess" else honest(origin, what, body)))

    hanging.put_handlers[RECOVERY_PATH] = hangs
    answered = evaluate(alice, attempt_id, 3)
    hanging.put_handlers[RECOVERY_PATH] = honest
    assert answered == ["hs1.test", "hs4.test", "hs5.test"]


def test_of_what_nobody_answers_nothing_comes(realms: Realms, alice: Person) -> None:
    for name in NAMES[1:]:
        realms.cut(name)
    assert evaluate(alice, secrets.token_hex(16), 3) == []
    assert realms.guesses(alice) == dict.fromkeys(NAMES, 0)


def test_one_question_is_passed_on_only_for_a_try_that_is_open_and_to_realms_that_are_named(alice: Person) -> None:
    attempt_id = alice.begin()
    assert refused(lambda: evaluate(alice, attempt_id, 3, ["hs1.test", "hs9.test"])) == "UNKNOWN_REALM"
    assert refused(lambda: evaluate(alice, "short", 3)) == "INVALID_VALUE"
    alice.home.call("POST", f"recovery/attempts/{attempt_id}/wrong", alice.user_id, {})
    assert refused(lambda: evaluate(alice, attempt_id, 3)) == "CONFLICT"


def test_a_guess_that_was_only_begun_is_told_as_wrong(alice: Person) -> None:
    alice.begin()
    assert told(alice, "tried the PIN") == 0
    alice.home.advance(150)
    assert told(alice, "tried the PIN") == 1


def test_one_begun_guess_is_evaluated_for_one_pin_alone(realms: Realms, alice: Person) -> None:
    attempt_id = alice.begin()
    with pytest.raises(WrongPin):
        alice.guess(WRONG, attempt_id=attempt_id)
    body = {**guess_body(alice), "attempt_id": attempt_id}
    # Our homeserver lets nothing more through under it; one of another kind gets nothing for it.
    assert refused(lambda: alice.at("hs2.test", "guess", body)) == "CONFLICT"
    as_alice = {**body, "user_id": alice.user_id}
    assert refused(lambda: realms.ask("hs1.test", "hs2.test", "guess", as_alice)) == "CONFLICT"


def test_a_backup_of_a_begun_guess_gives_no_second_evaluation(realms: Realms, alice: Person) -> None:
    attempt_id = alice.begin()
    old = snapshot(realms["hs2.test"])
    with pytest.raises(WrongPin):
        alice.guess(WRONG, attempt_id=attempt_id)
    realms.advance(1)
    restore(realms["hs2.test"], old)
    body = {**guess_body(alice), "attempt_id": attempt_id, "user_id": alice.user_id}
    assert refused(lambda: realms.ask("hs1.test", "hs2.test", "guess", body)) == "CONFLICT"
    assert realms.guesses(alice)["hs2.test"] == 1


def test_a_backup_from_before_a_set_gives_no_guess_back_if_its_share_is_stored_again(
    realms: Realms, alice: Person
) -> None:
    """The homeserver that passed the sealed share on can send it again, and be no witness of what was guessed since."""
    house = realms["hs2.test"]
    draft = alice.draft(PIN, KEY, NAMES, 3)
    old = snapshot(house)
    for name in NAMES:
        alice.give(draft, name)
    alice.commit(draft)
    for name in NAMES:
        alice.use(name)
    for _ in range(3):
        wrong(alice)
    others = dict(house.reachable)
    house.reachable = {name: others[name] for name in ("hs4.test", "hs5.test")}
    restore(house, old)

    alice.at("hs2.test", "share", {"version": 2, "sealed": draft.sealed["hs2.test"]})
    assert refused(lambda: alice.at("hs2.test", "guess", guess_body(alice))) == "RECOVERY_UNWITNESSED"

    house.reachable = others
    assert refused(lambda: alice.at("hs2.test", "guess", guess_body(alice))) == "TOO_MANY_REQUESTS"
    assert realms.guesses(alice)["hs2.test"] == 3


def test_a_tag_that_unlocked_once_unlocks_nothing_in_a_restored_realm(realms: Realms, alice: Person) -> None:
    found = alice.guess(PIN)
    body = alice.tag(found, "hs2.test")
    old = snapshot(realms["hs2.test"])
    alice.unlock(found)
    for _ in range(3):
        wrong(alice)
    restore(realms["hs2.test"], old)
    assert realms.guesses(alice)["hs2.test"] == 3
    assert refused(lambda: alice.at("hs2.test", "unlock", body)) == "RECOVERY_UNKNOWN"
    assert realms.guesses(alice)["hs2.test"] == 3


def test_no_guess_is_let_through_that_nobody_would_be_told_of(realms: Realms, alice: Person) -> None:
    """A thief of a session who knows the id of a try that has ended."""
    attempt_id = secrets.token_hex(16)
    with pytest.raises(WrongPin):
        alice.guess(WRONG, attempt_id=attempt_id)
    alice.recover(PIN)
    with pytest.raises(TooFewRealms) as caught:
        alice.guess(WRONG, attempt_id=attempt_id)
    assert caught.value.refused == dict.fromkeys(NAMES, "CONFLICT")
    assert realms.guesses(alice) == dict.fromkeys(NAMES, 0)


def test_what_unlocked_once_unlocks_nothing_again(realms: Realms, alice: Person) -> None:
    found = alice.guess(PIN)
    body = alice.tag(found, "hs2.test")
    alice.unlock(found)
    wrong(alice)
    # It was right, and that is all that it says again.
    assert alice.at("hs2.test", "unlock", body) == {"changed": False}
    assert realms.guesses(alice)["hs2.test"] == 1
    # Nor is it of use for another guess. A homeserver of another kind than ours may let one through under the same id;
    # ours does not, since nobody would be told.
    again = {**guess_body(alice), "attempt_id": found.attempt_id}
    assert refused(lambda: alice.at("hs2.test", "guess", again)) == "CONFLICT"
    as_alice = {**again, "user_id": alice.user_id}
    assert refused(lambda: realms.ask("hs1.test", "hs2.test", "guess", as_alice)) == "CONFLICT"
    assert alice.at("hs2.test", "unlock", body) == {"changed": False}
    assert realms.guesses(alice)["hs2.test"] == 1


def test_nothing_of_one_account_does_for_another(realms: Realms, alice: Person) -> None:
    bob = somebody(realms["hs1.test"])
    bob.set_up("193755", bytes(32), NAMES, 3)
    draft = alice.draft(PIN, KEY, NAMES, 3)
    # A share that was sealed for alice, sent as bob's.
    body = {"version": 2, "sealed": draft.sealed["hs2.test"]}
    assert refused(lambda: bob.at("hs2.test", "share", body)) == "INVALID_VALUE"
    # A share of another realm.
    body = {"version": 2, "sealed": draft.sealed["hs3.test"]}
    assert refused(lambda: alice.at("hs2.test", "share", body)) == "INVALID_VALUE"
    # Another version.
    body = {"version": 3, "sealed": draft.sealed["hs2.test"]}
    assert refused(lambda: alice.at("hs2.test", "share", body)) == "INVALID_VALUE"
    # The tag of alice's guess, sent as bob's.
    found = alice.guess(PIN)
    assert refused(lambda: bob.at("hs2.test", "unlock", alice.tag(found, "hs2.test"))) == "RECOVERY_UNKNOWN"
    # Another homeserver that speaks of alice.
    door = realms["hs2.test"].private.put_handlers[RECOVERY_PATH]
    as_alice = {**guess_body(alice), "user_id": alice.user_id}
    asked = door(ServerName("hs3.test"), "guess", as_alice)
    assert refused(lambda: realms["hs2.test"].result(asked)) == "WRONG_ORIGIN"


def test_a_homeserver_that_is_not_served_stores_nothing(realms: Realms) -> None:
    door = realms["hs2.test"].private.put_handlers[RECOVERY_PATH]
    asked = door(
        ServerName("hs9.test"), "share", {"user_id": "@eve:hs9.test", "version": 1, "sealed": to_b64(bytes(99))}
    )
    assert refused(lambda: realms["hs2.test"].result(asked)) == "NOT_ALLOWED"


@pytest.mark.parametrize("what", ["nonsense", "guess", "share", "witness"])
def test_what_is_malformed_is_refused_at_the_door(realms: Realms, what: str) -> None:
    door = realms["hs2.test"].private.put_handlers[RECOVERY_PATH]
    asked = door(ServerName("hs1.test"), what, {"user_id": "@alice:hs1.test"})
    assert refused(lambda: realms["hs2.test"].result(asked)) == "INVALID_VALUE"


@pytest.mark.parametrize("blinded", [to_b64(bytes(32)), to_b64(b"\xff" * 32)])
def test_what_is_no_element_is_not_evaluated_and_counts_nothing(realms: Realms, alice: Person, blinded: str) -> None:
    body = {**guess_body(alice), "blinded": blinded}
    assert refused(lambda: alice.at("hs2.test", "guess", body)) == "INVALID_VALUE"
    assert realms.guesses(alice)["hs2.test"] == 0


def test_a_realm_that_is_not_named_is_not_asked(alice: Person) -> None:
    assert refused(lambda: alice.at("hs9.test", "state")) == "UNKNOWN_REALM"


def interrupted(person: Person, pin: str) -> Iterator[str]:
    """A new set, which stops after each of its steps."""
    yield "nothing was done"
    draft = person.draft(pin, KEY, NAMES, 3)
    yield "it was drafted"
    for realm in NAMES:
        person.give(draft, realm)
        yield f"{realm} has its share"
    person.commit(draft)
    yield "the account data names it"
    for realm in NAMES:
        person.use(realm)
        yield f"{realm} knows that it is in use"


COMMITTED = 7
"""The step at which the account data names the new set."""


def test_a_change_of_pin_that_stops_anywhere_can_be_gone_on_with(realms: Realms) -> None:
    for steps in range(13):
        alice = somebody(realms["hs1.test"])
        alice.set_up(PIN, KEY, NAMES, 3)
        *_, step = itertools.islice(interrupted(alice, "730164"), steps + 1)

        assert alice.recover("730164" if steps >= COMMITTED else PIN).key == KEY, step
        alice.set_up("615208", KEY, NAMES, 3)
        assert alice.recover("615208").key == KEY, step
        assert realms.held(alice) == len(NAMES), step


def test_a_first_set_up_that_stops_anywhere_can_be_done_again(realms: Realms) -> None:
    for steps in range(13):
        alice = somebody(realms["hs1.test"])
        *_, step = itertools.islice(interrupted(alice, PIN), steps + 1)

        if steps >= COMMITTED:
            assert alice.recover(PIN).key == KEY, step
        alice.set_up("615208", KEY, NAMES, 3)
        assert alice.recover("615208").key == KEY, step
        assert realms.held(alice) == len(NAMES), step


def test_a_set_up_anew_has_other_shares_and_old_ones_do_not_go_with_them(alice: Person) -> None:
    """With the same PIN, key and realms."""
    old, new = (alice.draft(PIN, KEY, NAMES, 3) for _ in range(2))
    for name in map(ServerName, NAMES):
        assert old.deals[name].share != new.deals[name].share
        assert old.deals[name].unlock_key != new.deals[name].unlock_key
    factor, pin = random_scalar(), stretched(new.purpose, PIN)
    blinded = voprf.blind(client.oprf_input(new.purpose, pin), factor)

    def opened(drafts: Sequence[Draft]) -> bytes | None:
        """With the shares of the first three realms, each of the set that is named for it."""
        deals = [each.deals[ServerName(name)] for each, name in zip(drafts, NAMES[:3], strict=True)]
        elements = {each.index: group.times(each.share, blinded) for each in deals}
        content_key = client.derived(new.purpose, client.opened(new.purpose, pin, factor, elements), b"key")
        header = {name: each for name, each in new.content.items() if name not in ("iv", "ciphertext")}
        iv, ciphertext = from_b64(new.content["iv"]), from_b64(new.content["ciphertext"])
        return client.unlocked(content_key, header, iv, ciphertext)

    assert opened([new, new, new]) == KEY
    assert opened([old, old, new]) is None
    assert opened([old, new, new]) is None


def test_a_realm_is_replaced_by_another_one_with_the_pin_alone(realms: Realms, alice: Person) -> None:
    four = [each for each in NAMES if each != "hs5.test"]
    key = alice.recover(PIN).key
    alice.set_up(PIN, key, four, 2)
    alice.at("hs5.test", "give-up", {"version": 1})
    realms.cut("hs5.test")
    assert alice.recover(PIN).key == KEY
    kept = "SELECT state, sealed FROM superapp_recovery_share WHERE user_id = ?"
    assert realms["hs5.test"].query(kept, alice.user_id) == [("retired", None)]


def test_a_realm_that_was_replaced_while_it_was_away_gives_its_share_up_later(realms: Realms, alice: Person) -> None:
    realms.cut("hs5.test")
    alice.set_up(PIN, KEY, NAMES[:4], 2)
    alice.home.advance(20)
    assert versions_held(realms["hs5.test"], alice) == [(1,)]
    realms.join("hs5.test")
    alice.home.advance(3_700)
    assert versions_held(realms["hs5.test"], alice) == []
    # The new set is not touched by it.
    assert alice.recover(PIN).key == KEY
    assert realms.held(alice) == 4


def close(person: Person) -> None:
    person.home.deactivated.add(person.user_id)
    for callback in person.home.api.callbacks["on_user_deactivation_status_changed"]:
        person.home.result(callback(person.user_id, True, False))
    person.home.settle()


def test_the_shares_of_a_closed_account_are_given_up_everywhere(realms: Realms, alice: Person) -> None:
    bob = somebody(realms["hs1.test"])
    bob.set_up(PIN, KEY, NAMES, 3)
    alice.set_up("730164", KEY, NAMES[:4], 2)
    wrong(alice)
    realms.cut("hs3.test")
    close(alice)
    assert [name for name in NAMES if versions_held(realms[name], alice)] == ["hs3.test"]
    assert alice.home.query("SELECT * FROM superapp_recovery_attempt WHERE user_id = ?", alice.user_id) == []
    realms.join("hs3.test")
    alice.home.advance(3_700)
    assert realms.held(alice) == 0
    assert alice.home.query("SELECT * FROM superapp_recovery_parting") == []
    assert realms.held(bob) == len(NAMES)


def test_an_account_whose_closing_was_missed_is_found_within_an_hour(realms: Realms, alice: Person) -> None:
    alice.home.deactivated.add(alice.user_id)
    alice.home.advance(3_700)
    assert realms.held(alice) == 0


def test_a_realm_that_lies_cannot_keep_a_wrong_guess_from_the_person(realms: Realms, alice: Person) -> None:
    liar = realms["hs2.test"].private
    honest = liar.put_handlers[RECOVERY_PATH]

    async def lying(origin: ServerName, what: str, body: Any) -> dict[str, Any]:
        return {"changed": True} if what == "unlock" else dict(await honest(origin, what, body))

    liar.put_handlers[RECOVERY_PATH] = lying
    body = guess_body(alice)
    alice.at("hs4.test", "guess", body)
    tag = {"version": 1, "attempt_id": body["attempt_id"], "tag": to_b64(bytes(32))}
    alice.at("hs2.test", "unlock", tag)
    liar.put_handlers[RECOVERY_PATH] = honest
    alice.home.advance(150)
    assert told(alice, "tried the PIN") == 1


def test_a_set_that_was_given_up_does_not_come_back_from_a_backup(realms: Realms, alice: Person) -> None:
    old = snapshot(realms["hs2.test"])
    for name in NAMES:
        alice.at(name, "give-up", {"version": 1})
    restore(realms["hs2.test"], old)
    assert realms.guesses(alice) == {}


def test_no_database_and_no_log_holds_pin_or_key_or_what_they_follow_from(
    realms: Realms, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    alice = somebody(realms["hs1.test"])
    # Six digits may stand in a time by chance; these do not.
    pin = "48291573640182957316"
    draft = alice.draft(pin, KEY, NAMES, 3)
    for name in NAMES:
        alice.give(draft, name)
    alice.commit(draft)
    wrong(alice)
    found = alice.recover(pin)
    alice.recover_as_the_page_does(pin)
    lonely = realms["hs2.test"]
    lonely.reachable, others = {}, lonely.reachable
    lonely.restart()
    lonely.settle()
    lonely.reachable = others
    lonely.advance(61)
    texts = {house.server_name: "\n".join(house._database.iterdump()) for house in realms.houses.values()}
    texts["the log"] = caplog.text
    # What is looked through is what the realms have written.
    assert alice.user_id in texts["the log"]
    secret = [KEY, found.output, *(each.share for each in draft.deals.values())]
    secret += [each.unlock_key for each in draft.deals.values()]
    spelled = [pin, *(spell(each) for each in secret for spell in (bytes.hex, to_b64, repr))]
    for where, text in texts.items():
        assert not [each for each in spelled if each in text], where
    for name in NAMES:
        # What is there of a share is sealed for a key that is in a file.
        assert draft.sealed[name] in texts[name]
        key = key_of(realms[name])
        for each in (bytes(key.signing), key.sealing):
            assert each.hex() not in texts[name]
            assert to_b64(each) not in texts[name]
    for house in realms.houses.values():
        assert ((alice.user_id, "org.superapp.recovery") in house.account_data) == (house.server_name == "hs1.test")


def key_of(house: FakeHomeserver) -> RealmKey:
    return realm_key(key_path(house.private.key_folder(), ServerName(house.server_name), None))


def told(person: Person, what: str) -> int:
    """How often the assistant has said so to somebody."""
    person.home.advance(3)
    return sum(
        what in str(event.content["body"])
        for room in person.home.rooms.values()
        if person.user_id in person.home.memberships(room_id_of(person.home, room))
        for event in room.timeline
        if event.type == "m.room.message"
    )


def room_id_of(home: FakeHomeserver, room: FakeRoom) -> str:
    return next(room_id for room_id, each in home.rooms.items() if each is room)


def test_every_wrong_guess_is_told_in_all_sessions_and_a_right_one_is_not(realms: Realms, alice: Person) -> None:
    assert told(alice, "was set up") == 1
    wrong(alice)
    assert told(alice, "tried the PIN") == 1
    alice.recover(PIN)
    realms.advance(300)
    assert told(alice, "tried the PIN") == 1
    wrong(alice)
    assert told(alice, "tried the PIN") == 2


def test_a_guess_after_which_nothing_comes_is_told_too(alice: Person) -> None:
    alice.at("hs2.test", "guess", guess_body(alice))
    assert told(alice, "tried the PIN") == 0
    alice.home.advance(150)
    assert told(alice, "tried the PIN") == 1


def test_an_operator_sees_for_whom_shares_are_held(realms: Realms, alice: Person) -> None:
    operator = realms["hs2.test"]

    def held() -> dict[str, int]:
        found = operator.call("GET", "admin/recovery", "@admin:hs2.test")
        return {each["server"]: each["held"] for each in found["shares"]}

    before = held()
    somebody(realms["hs3.test"]).set_up(PIN, KEY, NAMES, 3)
    assert held() == {**before, "hs3.test": before.get("hs3.test", 0) + 1}
    found = operator.call("GET", "admin/recovery", "@admin:hs2.test")
    assert [each["server"] for each in found["realms"]] == ["hs2.test", "hs1.test", "hs3.test", "hs4.test", "hs5.test"]
    assert len(from_b64(found["public_key"])) == 32
    assert alice.user_id not in str(found)


def test_two_realms_of_one_operator_are_not_offered(realms: Realms) -> None:
    liar = realms["hs3.test"].private
    honest = liar.put_handlers[RECOVERY_PATH]

    async def posing(origin: ServerName, what: str, body: Any) -> dict[str, Any]:
        return {**await honest(origin, what, body), "operator": "The people of hs4.test "}

    liar.put_handlers[RECOVERY_PATH] = posing
    offered = {each["server"]: not each["leaving"] for each in somebody(realms["hs1.test"]).realms()}
    liar.put_handlers[RECOVERY_PATH] = honest
    assert offered == {**dict.fromkeys(NAMES, True), "hs3.test": False, "hs4.test": False}


@contextlib.contextmanager
def configured(house: FakeHomeserver, **recovery: Any) -> Generator[None]:
    """The operator changes the config and starts it anew; in the end it is as it was."""
    before = house._config
    house._config = {**before, "recovery": {**before["recovery"], **recovery}}
    house.restart()
    house.settle()
    try:
        yield
    finally:
        house._config = before
        house.restart()
        house.settle()


def test_a_realm_that_leaves_takes_no_new_share_is_shown_as_leaving_and_guards_those_it_has(
    realms: Realms, alice: Person
) -> None:
    with configured(realms["hs2.test"], leaving=True):
        offered = {each["server"]: each["leaving"] for each in alice.realms()}
        assert offered == {**dict.fromkeys(NAMES, False), "hs2.test": True}
        draft = alice.draft(PIN, KEY, NAMES, 3)
        assert refused(lambda: alice.give(draft, "hs2.test")) == "NOT_ALLOWED"
        # The one it has goes on, and is moved by a set without it.
        found = alice.recover(PIN)
        assert (found.key, found.refused) == (KEY, {})
        alice.set_up("730164", found.key, [each for each in NAMES if each != "hs2.test"], 3)
        alice.home.advance(20)
        assert versions_held(realms["hs2.test"], alice) == []
        assert alice.recover("730164").key == KEY


def test_one_account_cannot_keep_a_realm_busy(realms: Realms, alice: Person) -> None:
    """By asking for the same guess again and again, which counts once and costs the realm its work."""
    bob = somebody(realms["hs1.test"])
    bob.set_up(PIN, KEY, NAMES, 3)
    body = {**guess_body(alice), "user_id": alice.user_id}

    def ask() -> dict[str, Any]:
        return realms.ask("hs1.test", "hs2.test", "guess", body)

    for _ in range(60):
        ask()
    with pytest.raises(SynapseError) as caught:
        ask()
    assert (caught.value.code, reason(caught.value)) == (429, "TOO_MANY_REQUESTS")
    assert 0 < caught.value.error_dict(None)["retry_after_ms"] <= 15_000
    assert realms.guesses(alice)["hs2.test"] == 1
    # Nobody else is kept waiting for it, and it is over some time after.
    assert bob.recover(PIN).key == KEY
    realms.advance(16)
    assert ask()["guesses_left"] == 9


def test_one_homeserver_has_so_many_guesses_in_an_hour_whoever_makes_them(realms: Realms) -> None:
    people = [somebody(realms["hs1.test"]) for _ in range(3)]
    other = somebody(realms["hs3.test"])
    for person in (*people, other):
        person.set_up(PIN, KEY, NAMES, 3)
    with configured(realms["hs2.test"], guesses_per_server=4):
        for person in people[:2]:
            for _ in range(2):
                person.at("hs2.test", "guess", guess_body(person))
        with pytest.raises(SynapseError) as caught:
            people[2].at("hs2.test", "guess", guess_body(people[2]))
        assert (caught.value.code, reason(caught.value)) == (429, "TOO_MANY_REQUESTS")
        assert realms.guesses(people[2]) == dict.fromkeys(NAMES, 0)
        # Another homeserver has a budget of its own, and this one has the next guess a quarter of an hour later.
        assert other.recover(PIN).key == KEY
        realms.advance(901)
        assert people[2].recover(PIN).key == KEY


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"realms": [{"server": "a.test", "operator": "A"}, {"server": "b.test", "operator": "a "}]}, "operators"),
        ({"operator": "A", "realms": [{"server": "b.test", "operator": "A"}]}, "operators"),
        ({"realms": [{"server": "a.test", "operator": "A"}, {"server": "a.test", "operator": "B"}]}, "once"),
        ({"threshold": 6}, "threshold"),
        ({"shares": 2}, "shares"),
    ],
)
def test_a_config_in_which_one_operator_could_have_two_shares_stops_the_start(
    changed: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidConfig, match=says):
        parse_config({"features": {"recovery": True}, "recovery": changed})


def test_recovery_needs_the_assistant_which_tells_of_wrong_guesses() -> None:
    config = {"recovery": {"realms": [{"server": "b.test", "operator": "B"}]}}
    with pytest.raises(InvalidConfig, match="assistant"):
        parse_config({**config, "features": {"recovery": True, "assistant": False}})


def test_a_homeserver_does_not_name_itself_among_its_realms() -> None:
    config = {
        "features": {"recovery": True, "assistant": True},
        "recovery": {"realms": [{"server": "hs1.test", "operator": "B"}]},
    }
    with pytest.raises(ConfigError, match=r"hs1\.test"):
        FakeHomeserver("hs1.test", config=config).start()
