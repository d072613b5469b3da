"""The directory in the homeserver: routes, federation queries, feeds, search, registration, contacts."""

import stat
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.api.errors import SynapseError
from twisted.internet import task

from super_app.directory import records
from super_app.directory.model import DAY_MS
from super_app.errors import Reason, Refused
from super_app.ids import ServerName, UserId
from super_app.names import FederationQuery
from super_app.signing import canonical, generate_key, signed, verify
from synapse_super_app import contacts as contacts_module
from synapse_super_app.directory.budget import Budget
from synapse_super_app.directory.feature import DirectoryFeature
from synapse_super_app.directory.own import OwnHandles
from synapse_super_app.directory.search import read_term
from synapse_super_app.http.resource import ApiResource
from synapse_super_app.people import Person
from synapse_super_app.private_api import NoAnswer, Profile

HS1, HS2 = "hs1.test", "hs2.test"
RESOLVE, FEED = FederationQuery.DIRECTORY_RESOLVE, FederationQuery.DIRECTORY_FEED

Answering = Callable[[Mapping[str, Any]], dict[str, Any]]


class Pair:
    """Two homeservers that know each other: alice on the first, bob and carol on the second, all public."""

    def __init__(self, first: dict[str, Any] | None = None, second: dict[str, Any] | None = None) -> None:
        clock = task.Clock()
        clock.advance(1_700_000_000)
        self.hs1 = FakeHomeserver(HS1, config=_config(HS2, first), clock=clock)
        self.hs2 = FakeHomeserver(HS2, config=_config(HS1, second), clock=clock)
        self.alice = self.hs1.register("alice")
        self.bob, self.carol = self.hs2.register("bob"), self.hs2.register("carol")
        self.connect()
        self.hs1.start()
        self.hs2.start()
        self.advance(7)

    def connect(self) -> None:
        self.hs1.reachable[HS2], self.hs2.reachable[HS1] = self.hs2, self.hs1

    def disconnect(self) -> None:
        self.hs1.reachable.clear()
        self.hs2.reachable.clear()

    def advance(self, seconds: float) -> None:
        self.hs1.advance(seconds)
        self.hs2.settle()

    def resolve(self, who: str, *, max_age_ms: int = 60_000, asker: UserId | None = None) -> Person | Refused:
        return self.hs1.result(
            _directory(self.hs1).people.resolve(who, asker=asker or self.alice, max_age_ms=max_age_ms)
        )

    def found_by_alice(self, term: str) -> list[str]:
        return [each["handle"] for each in self.hs1.call("POST", "search", self.alice, {"term": term})["results"]]

    def queries_to_hs2(self, name: str) -> int:
        return sum(query == name for _, query, _ in self.hs1.asked)

    def intercept(self, name: FederationQuery, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Let the second homeserver answer a query as ``change`` makes it."""
        honest = self.hs2.private.queries[name]

        async def dishonest(arguments: Mapping[str, Any]) -> dict[str, Any]:
            return change(await honest(arguments))

        self.hs2.private.queries[name] = dishonest

    @property
    def key_of_hs2(self) -> Any:
        return _directory(self.hs2)._own.signer.key


def _config(peer: str, more: dict[str, Any] | None) -> dict[str, Any]:
    directory = {"peers": [peer], "existing_users": {"discover": "public"}, "new_users": {"discover": "public"}}
    # Without the other features, which are nothing to these tests.
    features = dict.fromkeys(["calls", "payments", "web"], False)
    return {"features": features, "directory": {**directory, **(more or {})}}


def _directory(homeserver: FakeHomeserver) -> DirectoryFeature:
    return next(each for each in homeserver.module.features if isinstance(each, DirectoryFeature))


@pytest.fixture
def pair() -> Pair:
    return Pair()


def refusal(homeserver: FakeHomeserver, *call: Any, **more: Any) -> tuple[int, str]:
    with pytest.raises(SynapseError) as refused:
        homeserver.call(*call, **more)
    return refused.value.code, refused.value.errcode.removeprefix("ORG.SUPERAPP.")


def reason_of(answer: object) -> Reason:
    assert isinstance(answer, Refused), answer
    return answer.reason


class TestOwnHandles:
    def test_a_claim_is_answered_with_the_signed_record_that_everyone_reads(self, pair: Pair) -> None:
        record = pair.hs2.call("PUT", "handles/Bobby", pair.bob)
        key = pair.hs2.call("GET", f"directory/keys/{HS2}", pair.bob)
        assert verify(record, key["public_key"])
        assert (record["handle"], record["user_id"]) == ("@bobby:hs2.test", pair.bob)
        for spelling in ("bobby", "@bobby", "@bobby:hs2.test", "BOBBY"):
            assert pair.hs2.call("GET", f"handles/{spelling}", pair.carol) == record

    def test_claiming_again_changes_nothing_and_a_body_changes_who_finds_it(self, pair: Pair) -> None:
        first = pair.hs2.call("PUT", "handles/bobby", pair.bob)
        assert pair.hs2.call("PUT", "handles/bobby", pair.bob) == first
        hidden = pair.hs2.call("PUT", "handles/bobby", pair.bob, {"discover": "none"})
        assert (hidden["discover"], hidden["seq"]) == ("none", first["seq"] + 1)

    def test_a_choice_about_the_localpart_is_no_rename(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/bob", pair.bob, {"discover": "public"})
        pair.hs2.call("PUT", "handles/bobby", pair.bob)
        pair.hs2.call("PUT", "handles/robert", pair.bob)
        assert refusal(pair.hs2, "PUT", "handles/rupert", pair.bob) == (429, "RENAMED_RECENTLY")

    def test_ones_own_handles_are_listed_with_what_became_of_them(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/bobby", pair.bob, {"discover": "exact"})
        pair.hs2.call("PUT", "handles/robert", pair.bob, {"as": "alias"})
        pair.hs2.call("DELETE", "handles/robert", pair.bob)
        listed = {each.pop("handle"): each for each in pair.hs2.call("GET", "handles", pair.bob)["handles"]}
        now_ms = pair.hs2.now_ms()
        assert listed["@bobby:hs2.test"] == {
            "primary": True,
            "status": "active",
            "discover": "exact",
            "chosen": True,
            "since": now_ms,
        }
        assert listed["@robert:hs2.test"]["status"] == "released"
        assert listed["@robert:hs2.test"]["take_back_until"] == now_ms + 30 * DAY_MS
        assert (listed["@bob:hs2.test"]["primary"], listed["@bob:hs2.test"]["chosen"]) == (False, False)

    @pytest.mark.parametrize(
        ("name", "refused"),
        [
            ("bob", (409, "HANDLE_TAKEN")),
            ("c4", (422, "HANDLE_INVALID")),
            ("c\u0430rol", (422, "HANDLE_INVALID")),
            ("bobby:other.example", (422, "HANDLE_INVALID")),
            ("postmaster", (403, "HANDLE_RESERVED")),
            ("acmebank", (403, "HANDLE_RESERVED")),
            ("wonder", (409, "HANDLE_TAKEN")),
            ("w0nder", (409, "HANDLE_LOOKALIKE")),
        ],
    )
    def test_what_nobody_or_somebody_else_may_have_is_refused(self, name: str, refused: tuple[int, str]) -> None:
        pair = Pair(second={"reserved": ["acmebank"], "min_length": 3})
        pair.hs2.call("PUT", "handles/wonder", pair.bob)
        assert refusal(pair.hs2, "PUT", f"handles/{name}", pair.carol) == refused

    def test_a_user_who_registered_unnoticed_has_their_localpart_all_the_same(self, pair: Pair) -> None:
        pair.hs2.register("walter")
        assert refusal(pair.hs2, "PUT", "handles/walter", pair.bob) == (409, "HANDLE_TAKEN")
        assert pair.hs2.call("GET", "handles/walter", pair.bob)["user_id"] == "@walter:hs2.test"

    def test_more_than_two_aliases_are_refused(self, pair: Pair) -> None:
        for name in ("bobby", "robert"):
            pair.hs2.call("PUT", f"handles/{name}", pair.bob, {"as": "alias"})
        assert refusal(pair.hs2, "PUT", "handles/rupert", pair.bob, {"as": "alias"}) == (409, "TOO_MANY_HANDLES")

    def test_the_localpart_cannot_be_released_and_nobody_releases_what_they_do_not_hold(self, pair: Pair) -> None:
        assert refusal(pair.hs2, "DELETE", "handles/bob", pair.bob) == (403, "NOT_ALLOWED")
        assert refusal(pair.hs2, "DELETE", "handles/carol", pair.bob) == (404, "UNKNOWN_HANDLE")
        assert refusal(pair.hs2, "DELETE", "handles/@alice:hs1.test", pair.bob) == (422, "HANDLE_INVALID")

    def test_a_hidden_handle_is_refused_in_the_words_for_one_that_does_not_exist(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/bobby", pair.bob, {"discover": "none"})
        with pytest.raises(SynapseError) as hidden:
            pair.hs2.call("GET", "handles/bobby", pair.carol)
        with pytest.raises(SynapseError) as absent:
            pair.hs2.call("GET", "handles/bibby", pair.carol)
        assert hidden.value.msg.replace("bobby", "bibby") == absent.value.msg
        assert hidden.value.code == absent.value.code == 404
        assert pair.hs2.call("GET", "handles/bobby", pair.bob)["discover"] == "none"

    def test_too_many_claims_in_a_row_have_to_wait(self, pair: Pair) -> None:
        for _ in range(60):
            assert refusal(pair.hs2, "PUT", "handles/bob", pair.carol) == (409, "HANDLE_TAKEN")
        assert refusal(pair.hs2, "PUT", "handles/bob", pair.carol) == (429, "TOO_MANY_REQUESTS")
        pair.advance(11)
        assert refusal(pair.hs2, "PUT", "handles/bob", pair.carol) == (409, "HANDLE_TAKEN")

    def test_a_new_master_key_is_in_the_next_record(self, pair: Pair) -> None:
        before = pair.hs2.call("GET", "handles/bob", pair.bob)
        pair.hs2.master_keys[pair.bob] = "the-master-key"
        after = pair.hs2.call("GET", "handles/bob", pair.bob)
        assert (after["msk"], after["seq"]) == ("the-master-key", before["seq"] + 1)

    def test_services_say_what_this_homeserver_runs(self) -> None:
        homeserver = FakeHomeserver(config={"features": {"payments": False}})
        alice = homeserver.register("alice")
        homeserver.start()
        assert homeserver.call("GET", "handles/alice", alice)["services"] == {"chat": True, "call": True, "pay": False}

    def test_public_records_are_issued_anew_before_they_expire_and_reach_the_peer(self, pair: Pair) -> None:
        first = pair.hs1.call("GET", "handles/@bob:hs2.test", pair.alice)
        pair.advance(21 * DAY_MS / 1000)
        pair.advance(7)
        again = pair.hs1.call("GET", "handles/@bob:hs2.test", pair.alice)
        assert again["seq"] == first["seq"] + 1
        assert again["expires"] > first["expires"]

    def test_the_directory_key_is_made_once_and_only_its_owner_reads_it(self, pair: Pair) -> None:
        path = pair.hs2.folder / f"{HS2}.superapp.directory.key"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        before = path.read_text()
        record = pair.hs2.call("GET", "handles/bob", pair.bob)
        pair.hs2.restart()
        assert path.read_text() == before
        assert pair.hs2.call("GET", "handles/bob", pair.bob) == record

    def test_with_the_directory_off_there_is_no_key_no_guard_and_no_query(self) -> None:
        homeserver = FakeHomeserver(config={"features": {"directory": False}})
        homeserver.start()
        assert not list(homeserver.folder.glob("*directory*"))
        assert homeserver.private.username_guards == []
        assert not [query for query in homeserver.private.queries if query.value.startswith("org.superapp.directory.")]
        assert "check_registration_for_spam" not in homeserver.api.callbacks


class TestAdmin:
    def test_the_operator_grants_a_short_name(self, pair: Pair) -> None:
        admin = pair.hs2.register("admin", admin=True)
        to_bob, to_carol = ({"user_id": each, "reason": "a good customer"} for each in (pair.bob, pair.carol))
        assert pair.hs2.call("PUT", "admin/handles/bo", admin, to_bob)["handle"] == "@bo:hs2.test"
        assert refusal(pair.hs2, "PUT", "admin/handles/bo", admin, to_carol) == (409, "HANDLE_TAKEN")
        nobody = {"user_id": "@nobody:hs2.test", "reason": "nobody asked"}
        assert refusal(pair.hs2, "PUT", "admin/handles/no", admin, nobody) == (422, "INVALID_VALUE")

    def test_a_key_that_nobody_pinned_cannot_be_forgotten_or_shown(self, pair: Pair) -> None:
        admin = pair.hs1.register("admin", admin=True)
        assert refusal(pair.hs1, "DELETE", "admin/directory/keys/hs9.test", admin) == (404, "UNKNOWN_PEER")
        assert refusal(pair.hs1, "GET", "directory/keys/hs9.test", pair.alice) == (404, "UNKNOWN_PEER")


class TestRemoteHandles:
    def test_a_record_of_another_server_is_verified_and_passed_on_as_it_was_signed(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/bob", pair.bob, {"discover": "exact"})
        pair.advance(7)
        record = pair.hs1.call("GET", "handles/@bob:hs2.test", pair.alice)
        pinned = pair.hs1.call("GET", f"directory/keys/{HS2}", pair.alice)
        assert verify(record, pinned["public_key"])
        assert record == pair.hs2.call("GET", "handles/bob", pair.carol)
        assert pinned == pair.hs2.call("GET", f"directory/keys/{HS2}", pair.bob)

    @pytest.mark.parametrize("change", ["signature", "server", "key", "certificate", "question", "nothing", "expired"])
    def test_a_dishonest_answer_is_refused(self, change: str) -> None:
        pair = Pair(second={"existing_users": {"discover": "exact"}})
        other = generate_key(b"\x01" * 32)

        def dishonest(answer: dict[str, Any]) -> dict[str, Any]:
            record = answer["answer"]
            match change:
                case "signature":
                    record = {**record, "user_id": "@mallory:hs2.test"}
                case "server":
                    record = signed({**record, "server": "hs3.test"}, pair.key_of_hs2)
                case "key":
                    record = signed(record, other)
                case "certificate":
                    certificate = {**answer["certificate"], "public_key": "A" * 43}
                    return {"answer": signed(record, other), "certificate": certificate}
                case "question":
                    record = signed({**record, "handle": "@carol:hs2.test"}, pair.key_of_hs2)
                case "expired":
                    record = signed({**record, "expires": 1}, pair.key_of_hs2)
                case _:
                    return {}
            return {**answer, "answer": record}

        pair.intercept(RESOLVE, dishonest)
        assert refusal(pair.hs1, "GET", "handles/@bob:hs2.test", pair.alice) == (502, "BAD_RECORD")
        assert reason_of(pair.resolve("@bob:hs2.test")) is Reason.BAD_RECORD

    def test_a_key_that_the_matrix_key_did_not_certify_is_never_pinned(self) -> None:
        pair = Pair(first={"peers": []}, second={"peers": []})
        pair.hs2.matrix_key = FakeHomeserver("hs3.test").matrix_key

        def forged(answer: dict[str, Any]) -> dict[str, Any]:
            return {**answer, "certificate": {**answer["certificate"], "signatures": {HS2: {"ed25519:a_fake": "AAAA"}}}}

        pair.intercept(RESOLVE, forged)
        assert reason_of(pair.resolve("@bob:hs2.test")) is Reason.BAD_RECORD
        assert refusal(pair.hs1, "GET", f"directory/keys/{HS2}", pair.alice) == (404, "UNKNOWN_PEER")

    def test_another_key_later_is_refused_until_the_operator_forgets_the_pin(self) -> None:
        pair = Pair(second={"existing_users": {"discover": "exact"}})
        assert isinstance(pair.resolve("@bob:hs2.test"), Person)
        next(pair.hs2.folder.glob("*.superapp.directory.key")).unlink()
        pair.hs2.restart()
        assert reason_of(pair.resolve("@bob:hs2.test", max_age_ms=-1)) is Reason.BAD_RECORD
        admin = pair.hs1.register("admin", admin=True)
        assert pair.hs1.call("DELETE", f"admin/directory/keys/{HS2}", admin) == {"server": HS2}
        assert isinstance(pair.resolve("@bob:hs2.test", max_age_ms=-1), Person)

    def test_a_server_that_does_not_answer_is_said_to_be_unreachable(self, pair: Pair) -> None:
        pair.disconnect()
        assert refusal(pair.hs1, "GET", "handles/@bob:hs9.test", pair.alice) == (502, "PEER_UNREACHABLE")
        assert refusal(pair.hs1, "GET", "handles/@bob:", pair.alice) == (422, "HANDLE_INVALID")
        assert refusal(pair.hs1, "GET", "handles/@b\u200bob:hs9.test", pair.alice) == (422, "HANDLE_INVALID")

    def test_a_handle_that_does_not_exist_there_is_unknown_and_soon_forgotten_as_such(self, pair: Pair) -> None:
        assert refusal(pair.hs1, "GET", "handles/@bobby:hs2.test", pair.alice) == (404, "UNKNOWN_HANDLE")
        pair.hs2.call("PUT", "handles/bobby", pair.bob, {"discover": "link"})
        pair.advance(31)
        assert pair.hs1.call("GET", "handles/@bobby:hs2.test", pair.alice)["user_id"] == pair.bob

    def test_guessing_costs_and_has_an_end(self, pair: Pair) -> None:
        for number in range(60):
            assert refusal(pair.hs1, "GET", f"handles/@guess{number}:hs2.test", pair.alice) == (404, "UNKNOWN_HANDLE")
        assert refusal(pair.hs1, "GET", "handles/@guess:hs2.test", pair.alice) == (429, "TOO_MANY_REQUESTS")
        assert reason_of(pair.resolve("@guess:hs2.test")) is Reason.TOO_MANY_REQUESTS
        assert isinstance(pair.resolve("@bob:hs2.test"), Person)


class TestPeople:
    def test_a_payee_is_known_from_the_feed_without_asking_while_it_is_fresh(self, pair: Pair) -> None:
        person = pair.resolve("@bob:hs2.test")
        assert isinstance(person, Person)
        assert (person.user_id, person.handle) == (pair.bob, "@bob:hs2.test")
        assert person.acct is not None
        assert pair.queries_to_hs2(RESOLVE) == 0

    def test_what_is_older_than_the_asker_allows_is_asked_for_anew(self, pair: Pair) -> None:
        pair.disconnect()
        pair.advance(61)
        assert reason_of(pair.resolve("@bob:hs2.test")) is Reason.PEER_UNREACHABLE
        assert isinstance(pair.resolve("@bob:hs2.test", max_age_ms=600_000), Person)
        pair.connect()
        pair.advance(5)
        assert isinstance(pair.resolve("@bob:hs2.test"), Person)

    def test_a_handle_leads_to_its_account_wherever_it_is(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/bobby", pair.bob)
        pair.hs1.call("PUT", "handles/wonder", pair.alice)
        remote, local = pair.resolve("@bobby:hs2.test"), pair.resolve("@wonder:hs1.test")
        assert isinstance(remote, Person)
        assert isinstance(local, Person)
        assert (remote.user_id, local.user_id) == (pair.bob, pair.alice)
        assert local.handle == "@wonder:hs1.test"

    def test_a_bare_name_is_nobody(self, pair: Pair) -> None:
        assert reason_of(pair.resolve("bob")) is Reason.UNKNOWN_HANDLE
        assert reason_of(pair.resolve("@nobody:hs1.test")) is Reason.UNKNOWN_HANDLE
        assert reason_of(pair.resolve("@nobody:hs2.test")) is Reason.UNKNOWN_HANDLE

    def test_a_hidden_local_person_is_known_only_to_who_shares_a_room(self, pair: Pair) -> None:
        dave = pair.hs1.register("dave")
        pair.hs1.call("PUT", "handles/dave", dave, {"discover": "none"})
        assert reason_of(pair.resolve(dave)) is Reason.UNKNOWN_HANDLE
        pair.hs1.room(pair.alice, dave)
        known = pair.resolve(dave)
        assert isinstance(known, Person)
        assert (known.user_id, known.handle) == (dave, None)
        assert known.acct is not None

    def test_a_hidden_remote_person_is_known_by_user_id_to_a_server_that_shares_a_room(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/bob", pair.bob, {"discover": "none"})
        pair.advance(7)
        assert reason_of(pair.resolve(pair.bob)) is Reason.UNKNOWN_HANDLE
        pair.hs1.room(pair.alice, pair.bob)
        assert reason_of(pair.resolve(pair.bob)) is Reason.UNKNOWN_HANDLE
        pair.hs2.room(pair.bob, pair.alice)
        pair.advance(31)
        known = pair.resolve(pair.bob)
        assert isinstance(known, Person)
        assert (known.user_id, known.handle) == (pair.bob, None)
        assert known.acct is not None

    def test_somebody_in_a_common_room_is_known_by_their_public_primary_handle(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/bobby", pair.bob)
        pair.hs1.room(pair.alice, pair.bob)
        known = pair.resolve(pair.bob, max_age_ms=-1)
        assert isinstance(known, Person)
        assert known.handle == "@bobby:hs2.test"

    def test_people_of_a_server_without_a_directory_are_user_ids(self) -> None:
        pair = Pair()
        plain = FakeHomeserver("hs3.test", config={"features": {"directory": False}}, clock=pair.hs1.clock)
        plain.start()
        pair.hs1.reachable["hs3.test"] = plain
        assert pair.resolve("@eve:hs3.test") == Person(user_id=UserId("@eve:hs3.test"))
        assert refusal(pair.hs1, "GET", "handles/@eve:hs3.test", pair.alice) == (404, "UNKNOWN_HANDLE")

    def test_a_directory_that_was_switched_off_does_not_turn_a_handle_into_somebody_elses_user_id(self) -> None:
        pair = Pair()
        pair.hs2.call("PUT", "handles/bobby", pair.bob)
        pair.advance(7)
        pair.hs2.private.queries.clear()
        assert reason_of(pair.resolve("@bobby:hs2.test", max_age_ms=-1)) is Reason.PEER_UNREACHABLE
        assert pair.resolve(pair.bob, max_age_ms=-1) == Person(user_id=pair.bob)

    def test_handle_of_asks_nobody_and_names_no_hidden_handle(self, pair: Pair) -> None:
        people = _directory(pair.hs1).people
        pair.hs1.asked.clear()
        assert pair.hs1.result(people.handle_of(pair.bob)) == "@bob:hs2.test"
        assert pair.hs1.result(people.handle_of(pair.alice)) == "@alice:hs1.test"
        assert pair.hs1.result(people.handle_of(UserId("@eve:hs3.test"))) is None
        pair.hs1.call("PUT", "handles/alice", pair.alice, {"discover": "none"})
        assert pair.hs1.result(people.handle_of(pair.alice)) is None
        assert pair.hs1.asked == []


class TestFederationQueries:
    def ask(self, pair: Pair, **arguments: str) -> dict[str, Any]:
        answered = pair.hs1.result(pair.hs1.private.query(HS2, RESOLVE, arguments, 1_000))  # type: ignore[arg-type]
        answer: dict[str, Any] = answered["answer"]
        return answer

    def status(self, pair: Pair, name: FederationQuery = RESOLVE, **arguments: str) -> int | None:
        with pytest.raises(NoAnswer) as refused:
            pair.hs1.result(pair.hs1.private.query(HS2, name, arguments, 1_000))  # type: ignore[arg-type]
        return refused.value.status

    def test_hidden_and_absent_get_one_answer(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/bob", pair.bob, {"discover": "none"})
        hidden, absent = self.ask(pair, handle="@bob:hs2.test"), self.ask(pair, handle="@bib:hs2.test")
        assert hidden["type"] == records.ABSENT_TYPE
        same = {"signature", "asked"}
        assert {k: v for k, v in hidden.items() if k not in same} == {k: v for k, v in absent.items() if k not in same}
        by_user = self.ask(pair, user_id="@bob:hs2.test")
        assert by_user["type"] == records.ABSENT_TYPE

    def test_a_common_room_opens_the_services_of_a_hidden_person_by_user_id_only(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/bob", pair.bob, {"discover": "none"})
        pair.hs2.room(pair.bob, pair.alice)
        part = self.ask(pair, user_id="@bob:hs2.test")
        assert part["type"] == records.SERVICES_TYPE
        assert part["services"] == {"chat": True, "call": False, "pay": False}
        assert self.ask(pair, handle="@bob:hs2.test")["type"] == records.ABSENT_TYPE

    def test_questions_about_others_servers_or_none_are_refused(self, pair: Pair) -> None:
        assert self.status(pair) == 422
        assert self.status(pair, handle="@bob:hs1.test") == 422
        assert self.status(pair, handle="@" + "b" * 300 + ":hs2.test") == 422
        assert self.status(pair, FEED, since="-1") == 422
        assert self.status(pair, FEED, since="zero") == 422

    def test_a_server_that_guesses_is_stopped_and_may_go_on_asking_for_who_exists(self, pair: Pair) -> None:
        statuses: list[int | None] = []
        for number in range(400):
            pair.hs1.clock.advance(0.06)
            try:
                self.ask(pair, handle=f"@guess{number}:hs2.test")
            except NoAnswer as refused:
                statuses.append(refused.status)
        assert len(statuses) > 50
        assert set(statuses) == {429}
        assert self.ask(pair, handle="@bob:hs2.test")["type"] == records.RECORD_TYPE

    def test_a_flood_is_refused(self, pair: Pair) -> None:
        for _ in range(150):
            self.ask(pair, handle="@bob:hs2.test")
        statuses: list[int | None] = []
        for _ in range(150):
            try:
                self.ask(pair, handle="@bob:hs2.test")
            except NoAnswer as refused:
                statuses.append(refused.status)
        assert len(statuses) > 50
        assert set(statuses) == {429}

    def test_before_the_directory_has_started_a_question_is_told_to_wait(self, pair: Pair) -> None:
        _directory(pair.hs2)._own._signer = None
        assert self.status(pair, handle="@bob:hs2.test") == 503


class TestFeeds:
    def test_a_change_reaches_the_peer_within_ten_seconds(self, pair: Pair) -> None:
        assert pair.found_by_alice("bob") == ["@bob:hs2.test"]
        pair.hs2.call("PUT", "handles/bob", pair.bob, {"discover": "exact"})
        pair.advance(7)
        assert pair.found_by_alice("bob") == []
        pair.hs2.call("PUT", "handles/bob", pair.bob, {"discover": "public"})
        pair.advance(7)
        assert pair.found_by_alice("bob") == ["@bob:hs2.test"]

    def test_a_new_account_is_in_the_feed_at_once_if_the_operator_says_so(self, pair: Pair) -> None:
        pair.hs2.register_as_synapse("newcomer")
        pair.advance(7)
        assert pair.found_by_alice("newcomer") == ["@newcomer:hs2.test"]

    def test_new_accounts_are_exact_until_they_answer_and_old_ones_as_configured(self) -> None:
        homeserver = FakeHomeserver(config={"directory": {"existing_users": {"discover": "none"}}})
        old = homeserver.register("oldie")
        homeserver.start()
        homeserver.advance(1)
        new = homeserver.register_as_synapse("newcomer")
        assert homeserver.call("GET", "handles/oldie", old)["discover"] == "none"
        assert homeserver.call("GET", "handles/newcomer", new)["discover"] == "exact"

    def test_a_server_that_publishes_no_feed_any_more_is_forgotten(self, pair: Pair) -> None:
        object.__setattr__(pair.hs2.module.runtime.config.directory, "publish_feed", False)
        pair.advance(7)
        assert pair.found_by_alice("bob") == []
        assert pair.hs1.call("GET", "handles/@bob:hs2.test", pair.alice)["user_id"] == pair.bob

    @pytest.mark.parametrize("change", ["server", "signature", "hidden", "junk"])
    def test_a_page_with_an_entry_that_is_not_in_the_log_is_refused_whole(self, change: str) -> None:
        pair = Pair(first={"peers": []}, second={"peers": []})

        def forged(entry: dict[str, Any]) -> object:
            match change:
                case "server":
                    return signed({**entry, "server": HS1, "handle": "@bob:hs1.test"}, pair.key_of_hs2)
                case "signature":
                    return {**entry, "user_id": "@mallory:hs2.test"}
                case "hidden":
                    return signed({**entry, "discover": "none"}, pair.key_of_hs2)
                case _:
                    return [1, 2, 3]

        def dishonest(page: dict[str, Any]) -> dict[str, Any]:
            entries = [forged(each) if each["handle"] == "@bob:hs2.test" else each for each in page["entries"]]
            return {**page, "entries": entries}

        honest = pair.hs2.private.queries[FEED]
        pair.intercept(FEED, dishonest)
        _directory(pair.hs1)._reader.heard(ServerName(HS2))
        pair.advance(7)
        assert pair.found_by_alice("bob") == pair.found_by_alice("carol") == []
        pair.hs2.private.queries[FEED] = honest
        _directory(pair.hs1)._reader.heard(ServerName(HS2))
        pair.advance(2)
        assert pair.found_by_alice("carol") == ["@carol:hs2.test"]

    @pytest.mark.parametrize("junk", [False, True])
    def test_an_entry_that_is_in_the_log_and_must_not_be_in_a_feed_is_refused_and_the_others_kept(
        self, junk: bool
    ) -> None:
        pair = Pair(first={"peers": []}, second={"peers": []})
        hidden = canonical(pair.hs2.call("PUT", "handles/bob", pair.bob, {"discover": "exact"})).decode()
        entry = '{"type": "org.superapp.directory.later"}' if junk else hidden
        pair.hs2._database.execute("UPDATE superapp_directory_feed SET entry = ? WHERE name = 'bob'", (entry,))
        _directory(pair.hs1)._reader.heard(ServerName(HS2))
        pair.advance(7)
        assert pair.found_by_alice("bob") == []
        assert pair.found_by_alice("carol") == ["@carol:hs2.test"]

    @pytest.mark.parametrize(
        "page",
        [
            {"next": "1"},
            {"next": 1.5, "head": 2},
            {"entries": {}},
            {"entries": [{"v": 1}], "next": 2, "head": 9},
            {"next": 0, "head": 9},
        ],
    )
    def test_a_page_of_another_shape_or_without_end_changes_nothing(self, pair: Pair, page: dict[str, Any]) -> None:
        pair.intercept(FEED, lambda honest: {**honest, **page})
        pair.hs2.call("PUT", "handles/bobby", pair.bob)
        pair.advance(15)
        assert pair.found_by_alice("bobby") == []
        assert pair.found_by_alice("bob") == ["@bob:hs2.test"]

    def test_a_feed_that_went_back_is_read_anew(self, pair: Pair) -> None:
        pair.hs2._database.execute("DELETE FROM superapp_directory_feed WHERE name = 'bob'")
        pair.hs2._database.execute("UPDATE superapp_directory_feed SET position = 1")
        pair.hs2._database.execute("UPDATE superapp_directory_state SET head = 1")
        pair.hs1._database.execute("DELETE FROM superapp_directory_replica")
        pair.advance(7)
        assert pair.found_by_alice("carol") == ["@carol:hs2.test"]

    def test_a_silent_peer_is_asked_ever_more_rarely_and_at_once_when_it_speaks(self, pair: Pair) -> None:
        pair.disconnect()
        pair.hs1.asked.clear()
        pair.advance(300)
        rarely = pair.queries_to_hs2(FEED)
        assert 4 <= rarely <= 8
        pair.hs2.call("PUT", "handles/bobby", pair.bob)
        pair.connect()
        # The other one's pause is as long; here it is the one that speaks first.
        pair.hs2.result(pair.hs2.private.query(HS1, FEED, {}, 1_000))  # type: ignore[arg-type]
        pair.advance(2)
        assert pair.found_by_alice("bobby") == ["@bobby:hs2.test"]

    def test_a_server_that_asked_us_is_replicated_too(self) -> None:
        pair = Pair(first={"peers": []}, second={"peers": []})
        assert pair.found_by_alice("bob") == []
        pair.hs2.result(pair.hs2.private.query(HS1, RESOLVE, {"handle": "@alice:hs1.test"}, 1_000))  # type: ignore[arg-type]
        pair.advance(2)
        assert pair.found_by_alice("bob") == ["@bob:hs2.test"]

    def test_a_server_that_we_asked_is_replicated_too(self) -> None:
        pair = Pair(first={"peers": []}, second={"peers": []})
        assert isinstance(pair.resolve("@bob:hs2.test"), Person)
        pair.advance(2)
        assert pair.found_by_alice("carol") == ["@carol:hs2.test"]

    def test_a_restart_goes_on_where_it_was(self, pair: Pair) -> None:
        pair.hs1.restart()
        pair.hs1.asked.clear()
        pair.advance(7)
        assert {arguments["since"] for _, name, arguments in pair.hs1.asked if name == FEED} == {"2"}
        assert pair.found_by_alice("bob") == ["@bob:hs2.test"]


class TestSearch:
    def test_results_name_the_person_and_whether_they_are_a_contact(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/bobby", pair.bob)
        pair.advance(7)
        pair.hs1.profiles[pair.bob] = Profile(display_name="Bob B.", avatar_url="mxc://hs2.test/bob")
        pair.hs1.call("PUT", "contacts/@bobby:hs2.test", pair.alice)
        found = pair.hs1.call("POST", "search", pair.alice, {"term": "@bobby"})["results"]
        assert found == [
            {
                "handle": "@bobby:hs2.test",
                "user_id": pair.bob,
                "display_name": "Bob B. (@bobby:hs2.test)",
                "badges": [],
                "contact": True,
            }
        ]

    def test_ignored_people_and_those_whom_another_module_hides_are_not_found(self, pair: Pair) -> None:
        pair.hs1.account_data[pair.alice, "m.ignored_user_list"] = {"ignored_users": {pair.bob: {}}}
        pair.hs1.hidden_by_modules.add(pair.carol)
        assert pair.found_by_alice("bob") == []
        assert pair.found_by_alice("carol") == []

    def test_who_ignores_one_is_not_found_either(self, pair: Pair) -> None:
        eve = pair.hs1.register("evelyn")
        pair.hs1.call("GET", "handles", eve)
        assert pair.found_by_alice("evelyn") == ["@evelyn:hs1.test"]
        pair.hs1.account_data[eve, "m.ignored_user_list"] = {"ignored_users": {pair.alice: {}}}
        for term in ("evelyn", "eve", "evelny", "vely", "@evelyn:hs1.test"):
            assert pair.found_by_alice(term) == []

    def test_an_ignored_person_is_not_found_by_asking_their_server_either(self) -> None:
        pair = Pair(first={"peers": []}, second={"peers": []})
        pair.hs1.account_data[pair.alice, "m.ignored_user_list"] = {"ignored_users": {pair.bob: {}}}
        assert pair.found_by_alice("@bob:hs2.test") == []

    def test_a_typing_error_and_a_part_of_a_name_find_it(self, pair: Pair) -> None:
        assert pair.found_by_alice("craol") == ["@carol:hs2.test"]
        assert pair.found_by_alice("aro") == ["@carol:hs2.test"]

    def test_who_shares_a_private_room_comes_before_who_does_not(self, pair: Pair) -> None:
        for name in ("caroa", "carob"):
            pair.hs2.call("GET", "handles", pair.hs2.register(name))
        pair.advance(7)
        assert pair.found_by_alice("caro") == ["@caroa:hs2.test", "@carob:hs2.test", "@carol:hs2.test"]
        pair.hs1.room(pair.alice, pair.carol)
        assert pair.found_by_alice("caro")[0] == "@carol:hs2.test"

    def test_a_full_handle_of_a_server_that_is_not_replicated_is_asked_for(self) -> None:
        pair = Pair(first={"peers": []}, second={"peers": [], "existing_users": {"discover": "exact"}})
        assert pair.found_by_alice("bob") == []
        assert pair.hs1.asked == []
        assert pair.found_by_alice("@bob:hs2.test") == ["@bob:hs2.test"]
        assert pair.found_by_alice("@nobody:hs2.test") == []
        assert pair.found_by_alice("@nobody:hs9.test") == []
        pair.hs1.asked.clear()
        assert pair.found_by_alice("@nobody:hs9") == []
        assert pair.hs1.asked == []

    def test_what_begins_no_handle_finds_nobody_and_the_limit_holds(self, pair: Pair) -> None:
        assert pair.found_by_alice("Alice Smith") == []
        assert pair.found_by_alice("") == []
        assert pair.found_by_alice("@") == []
        assert read_term("\u200b") is None
        assert len(pair.hs1.call("POST", "search", pair.alice, {"term": "alice", "limit": 51})["results"]) == 1
        body = {"term": "alice", "limit": 0}
        assert refusal(pair.hs1, "POST", "search", pair.alice, body) == (422, "INVALID_VALUE")

    def test_a_flood_of_searches_has_to_wait(self, pair: Pair) -> None:
        for _ in range(500):
            pair.found_by_alice("bob")
        body = {"term": "bob"}
        assert refusal(pair.hs1, "POST", "search", pair.alice, body) == (429, "TOO_MANY_REQUESTS")


class TestUserDirectory:
    def search(self, pair: Pair, term: str, limit: int = 10) -> Mapping[str, Any]:
        return pair.hs1.result(pair.hs1.private.user_search(pair.alice, term, limit))

    def rows(self, pair: Pair) -> None:
        pair.hs1.user_directory += [
            {"user_id": pair.bob, "display_name": "bob", "avatar_url": None},
            {"user_id": "@bobo:hs1.test", "display_name": "bobo", "avatar_url": None},
        ]

    def test_handles_come_first_remote_ones_too_and_nobody_twice(self, pair: Pair) -> None:
        self.rows(pair)
        assert self.search(pair, "@bob") == {
            "limited": False,
            "results": [
                {"user_id": pair.bob, "display_name": "bob", "avatar_url": None},
                {"user_id": "@bobo:hs1.test", "display_name": "bobo", "avatar_url": None},
            ],
        }

    def test_one_does_not_find_oneself(self, pair: Pair) -> None:
        assert self.search(pair, "@alice")["results"] == []

    def test_who_ignores_whom_is_left_out_of_synapses_own_results_too(self, pair: Pair) -> None:
        self.rows(pair)
        pair.hs1.register("bobo")
        pair.hs1.account_data[pair.alice, "m.ignored_user_list"] = {"ignored_users": {pair.bob: {}}}
        assert [row["user_id"] for row in self.search(pair, "bob")["results"]] == ["@bobo:hs1.test"]
        pair.hs1.account_data["@bobo:hs1.test", "m.ignored_user_list"] = {"ignored_users": {pair.alice: {}}}
        assert self.search(pair, "bob")["results"] == []

    def test_no_more_than_the_limit_and_it_says_that_there_is_more(self, pair: Pair) -> None:
        self.rows(pair)
        answer = self.search(pair, "bob", 1)
        assert (answer["limited"], len(answer["results"])) == (True, 1)

    def test_an_error_of_ours_leaves_synapses_own_results(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.rows(pair)

        def broken(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr("super_app.directory.search.find", broken)
        assert [row["user_id"] for row in self.search(pair, "bob")["results"]] == [pair.bob, "@bobo:hs1.test"]
        assert "the user directory answers alone" in caplog.text

    def test_a_process_that_has_only_begun_to_start_leaves_it_to_synapse(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.rows(pair)

        def not_yet(_: OwnHandles) -> None:
            raise RuntimeError("the directory has not started yet")

        monkeypatch.setattr(OwnHandles, "ready", property(lambda _: False))
        monkeypatch.setattr(OwnHandles, "signer", property(not_yet))
        assert [row["user_id"] for row in self.search(pair, "@bob")["results"]] == [pair.bob, "@bobo:hs1.test"]
        assert "failed" not in caplog.text

    def test_a_name_that_is_no_handle_is_left_to_synapse(self, pair: Pair) -> None:
        pair.hs1.user_directory.append({"user_id": "@x:hs1.test", "display_name": "Bob Smith", "avatar_url": None})
        assert [row["user_id"] for row in self.search(pair, "Bob Smith")["results"]] == ["@x:hs1.test"]


class TestRegistration:
    def test_a_current_handle_an_alias_and_a_released_one_cannot_be_registered(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/bobby", pair.bob)
        pair.hs2.call("PUT", "handles/robert", pair.bob)
        for name in ("bobby", "robert"):
            with pytest.raises(SynapseError) as taken:
                pair.hs2.register_as_synapse(name)
            assert (taken.value.code, taken.value.errcode) == (400, "M_USER_IN_USE")
        pair.hs2.call("DELETE", "handles/bobby", pair.bob)
        with pytest.raises(SynapseError, match="bobby is the handle of somebody"):
            pair.hs2.register_as_synapse("bobby")

    def test_the_callback_alone_refuses_too(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/bobby", pair.bob)
        pair.hs2.private.username_guards.clear()
        with pytest.raises(SynapseError, match="bobby is the handle of somebody"):
            pair.hs2.register_as_synapse("bobby")

    def test_after_90_days_a_released_name_is_free_for_registration(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/bobby", pair.bob)
        pair.hs2.call("DELETE", "handles/bobby", pair.bob)
        pair.advance(90 * DAY_MS / 1000)
        newcomer = pair.hs2.register_as_synapse("bobby")
        assert pair.hs2.call("GET", "handles/bobby", pair.bob)["user_id"] == newcomer

    def test_an_account_that_comes_to_exist_all_the_same_freezes_the_handle(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/bobby", pair.bob)
        intruder = pair.hs2.register("bobby")
        pair.hs2.registered_s[intruder] = pair.hs2.now_ms() // 1000
        pair.advance(620)
        record = pair.hs1.call("GET", "handles/@bobby:hs2.test", pair.alice)
        assert (record["status"], record["frozen_for"]) == ("frozen", "ambiguous")
        assert reason_of(pair.resolve("@bobby:hs2.test")) is Reason.AMBIGUOUS_PAYEE
        people = _directory(pair.hs2).people
        local = pair.hs2.result(people.resolve("@bobby:hs2.test", asker=pair.carol, max_age_ms=60_000))
        assert reason_of(local) is Reason.AMBIGUOUS_PAYEE
        assert refusal(pair.hs2, "DELETE", "handles/bobby", pair.bob) == (403, "HANDLE_FROZEN")
        assert refusal(pair.hs2, "PUT", "contacts/bobby", pair.carol) == (409, "AMBIGUOUS_PAYEE")
        pair.hs1.room(pair.alice, intruder)
        assert reason_of(pair.resolve(intruder, max_age_ms=-1)) is Reason.AMBIGUOUS_PAYEE
        assert pair.found_by_alice("bobby") == []

        admin = pair.hs2.register("admin", admin=True)
        settled = pair.hs2.call("PUT", "admin/handles/bobby", admin, {"user_id": intruder, "reason": "their user id"})
        assert settled["user_id"] == intruder
        assert [each["handle"] for each in pair.hs2.call("GET", "handles", pair.bob)["handles"]] == ["@bob:hs2.test"]

    def test_registration_goes_on_when_we_cannot_answer(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr("super_app.directory.service.blocks_registration", broken)
        pair.hs2.register_as_synapse("newcomer")
        assert "the registration goes on" in caplog.text

    def test_a_deactivated_person_leaves_the_directory(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/bobby", pair.bob)
        pair.hs2.deactivated.add(pair.bob)
        for callback in pair.hs2.api.callbacks["on_user_deactivation_status_changed"]:
            pair.hs2.result(callback(pair.bob, True, False))
        pair.advance(7)
        assert pair.found_by_alice("bob") == []
        with pytest.raises(SynapseError, match="is the handle of somebody"):
            pair.hs2.register_as_synapse("bobby")


class TestContacts:
    def test_a_contact_is_added_by_handle_mirrored_listed_and_removed(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/bobby", pair.bob)
        added = pair.hs1.call("PUT", "contacts/@bobby:hs2.test", pair.alice)
        assert added == {
            "handle": "@bobby:hs2.test",
            "user_id": pair.bob,
            "acct": pair.hs2.call("GET", "handles/bob", pair.bob)["acct"],
            "since": pair.hs1.now_ms(),
        }
        assert pair.hs1.call("GET", "contacts", pair.alice) == {"contacts": [added]}
        assert pair.hs1.account_data[pair.alice, "org.superapp.contacts"] == {"contacts": [added]}
        assert pair.hs1.call("DELETE", "contacts/@bob:hs2.test", pair.alice) == added
        assert pair.hs1.account_data[pair.alice, "org.superapp.contacts"] == {"contacts": []}
        assert refusal(pair.hs1, "DELETE", "contacts/@bob:hs2.test", pair.alice) == (404, "UNKNOWN_CONTACT")

    def test_a_bare_name_means_somebody_here(self, pair: Pair) -> None:
        assert pair.hs2.call("PUT", "contacts/carol", pair.bob)["user_id"] == pair.carol
        assert pair.hs2.call("DELETE", "contacts/@carol", pair.bob)["user_id"] == pair.carol

    def test_nobody_and_oneself_are_no_contacts(self, pair: Pair) -> None:
        assert refusal(pair.hs2, "PUT", "contacts/nobody", pair.bob) == (404, "UNKNOWN_HANDLE")
        assert refusal(pair.hs2, "PUT", "contacts/bob", pair.bob) == (422, "INVALID_VALUE")
        pair.disconnect()
        assert refusal(pair.hs2, "PUT", "contacts/@bob:hs9.test", pair.bob) == (502, "PEER_UNREACHABLE")

    def test_an_address_book_has_a_limit_that_refreshing_does_not_meet(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(contacts_module, "MAX_CONTACTS", 1)
        pair.hs2.call("PUT", "contacts/carol", pair.bob)
        pair.hs2.call("PUT", "contacts/carol", pair.bob)
        assert refusal(pair.hs2, "PUT", "contacts/@alice:hs1.test", pair.bob) == (429, "LIMIT_EXCEEDED")

    def test_with_the_directory_off_a_contact_is_a_user_id(self) -> None:
        homeserver = FakeHomeserver(config={"features": {"directory": False}})
        alice, dave = homeserver.register("alice"), homeserver.register("dave")
        homeserver.start()
        local = homeserver.call("PUT", "contacts/dave", alice)
        remote = homeserver.call("PUT", "contacts/@eve:hs9.test", alice)
        assert (local["user_id"], local["handle"]) == (dave, dave)
        assert (remote["user_id"], remote["acct"]) == ("@eve:hs9.test", "")
        assert refusal(homeserver, "PUT", "contacts/nobody", alice) == (404, "UNKNOWN_HANDLE")

    def test_a_contact_stands_even_if_account_data_cannot_be_written(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def broken(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(pair.hs2.api.account_data_manager, "put_global", broken)
        assert pair.hs2.call("PUT", "contacts/carol", pair.bob)["user_id"] == pair.carol
        assert "Mirroring the contacts" in caplog.text


class TestBudgets:
    def test_a_budget_is_spent_and_comes_back_with_time(self) -> None:
        budget = Budget(burst=2, every_ms=1_000)
        assert [budget.take("a", 0) for _ in range(2)] == [None, None]
        refused = budget.take("a", 0)
        assert reason_of(refused) is Reason.TOO_MANY_REQUESTS
        assert refused is not None
        assert refused.fields == {"retry_after_ms": 1_000}
        assert budget.take("b", 0) is None
        assert budget.spent("a", 500) is not None
        assert budget.spent("a", 1_000) is None
        assert budget.take("a", 1_000) is None
        assert budget.take("a", 1_000) is not None

    def test_it_does_not_grow_with_the_number_of_askers(self) -> None:
        budget = Budget(burst=1, every_ms=1_000)
        for number in range(50_000):
            budget.take(str(number), number)
        assert len(budget._buckets) <= 20_000


def test_every_route_of_the_directory_is_in_the_document() -> None:
    homeserver = FakeHomeserver()
    homeserver.start()
    resource = next(each for each in homeserver.api.web_resources.values() if isinstance(each, ApiResource))
    paths = resource.document["paths"]
    assert {"get", "put", "delete"} <= set(paths["/handles/{handle}"])
    assert "post" in paths["/search"]
    assert {"put", "delete"} <= set(paths["/contacts/{handle}"])
    assert "get" in paths["/contacts"]
