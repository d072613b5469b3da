"""Moving between homeservers: what people do, what others see of it, and what liars try."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from fake_api import FakeHomeserver
from nacl.signing import SigningKey
from test_directory_module import HS1, HS2, reason_of, refusal
from test_directory_module import _config as config_of
from test_directory_module import _directory as directory_of
from twisted.internet import task

from super_app.directory import move_store, moves
from super_app.directory.model import DAY_MS
from super_app.errors import Reason
from super_app.ids import Acct, UserId
from super_app.names import FederationQuery
from super_app.signing import generate_key, public_b64, signed
from synapse_super_app.people import Person

HS3, HS4 = "hs3.test", "hs4.test"
MOVE = FederationQuery.DIRECTORY_MOVE
DAY_S = DAY_MS / 1_000
KEY = generate_key(b"\x07" * 32)


class Land:
    """Alice on the first homeserver moves to the third; bob on the second knows her."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        clock = task.Clock()
        clock.advance(1_700_000_000)
        self.clock = clock
        self.config = config or config_of(HS1, None)
        self.others: list[FakeHomeserver] = []
        self.genesis: dict[str, Any] = {}
        self.dora = UserId("")
        self.hs1, self.hs2 = self.more(HS1, "alice"), self.more(HS2, "bob", "carol")
        self.hs3 = self.more(HS3, "alice", "mallory")
        self.alice, self.new = UserId(f"@alice:{HS1}"), UserId(f"@alice:{HS3}")
        self.bob, self.carol, self.mallory = (
            UserId(each) for each in (f"@bob:{HS2}", f"@carol:{HS2}", f"@mallory:{HS3}")
        )
        self.advance(7)

    def more(self, name: str, *people: str) -> FakeHomeserver:
        peers = [each for each in (HS1, HS2) if each != name]
        directory = {**self.config["directory"], "peers": peers}
        found = FakeHomeserver(name, config={**self.config, "directory": directory}, clock=self.clock)
        for each in people:
            found.register(each)
        for other in self.others:
            other.reachable[name] = found
            found.reachable[other.server_name] = other
        found.start()
        self.others.append(found)
        return found

    def advance(self, seconds: float) -> None:
        steps = max(1, min(20, int(seconds * 2)))
        for _ in range(steps):
            self.clock.advance(seconds / steps)
        for other in self.others:
            other.settle()

    def upkeep(self, *homeservers: FakeHomeserver) -> None:
        for each in homeservers or (self.hs1, self.hs2, self.hs3):
            each.result(directory_of(each).moves.upkeep())

    def announce(self, there: FakeHomeserver, user_id: str, come_from: str, **more: Any) -> dict[str, Any]:
        return there.call("PUT", "account/arrival", user_id, {"from": come_from, **more})

    def depart(self, here: FakeHomeserver, user_id: str, to: str) -> dict[str, Any]:
        return here.call("PUT", "account/departure", user_id, {"to": to})

    def move(self) -> dict[str, Any]:
        self.announce(self.hs3, self.new, self.alice)
        return self.depart(self.hs1, self.alice, self.new)

    def resolved_by_bob(self, who: str, *, max_age_ms: int = 60_000) -> Any:
        people = directory_of(self.hs2).people
        return self.hs2.result(people.resolve(who, asker=self.bob, max_age_ms=max_age_ms))

    def silence(self, homeserver: FakeHomeserver) -> None:
        """A homeserver that nobody reaches any more."""
        for other in self.others:
            other.reachable.pop(homeserver.server_name, None)

    def lie(
        self, homeserver: FakeHomeserver, name: FederationQuery, change: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> None:
        """A homeserver answers a query as ``change`` makes it."""
        honest = homeserver.private.queries[name]

        async def dishonest(arguments: Mapping[str, Any]) -> dict[str, Any]:
            return change(await honest(arguments))

        homeserver.private.queries[name] = dishonest


@pytest.fixture
def land() -> Land:
    return Land()


def found(homeserver: FakeHomeserver, asker: str, term: str) -> list[str]:
    results = homeserver.call("POST", "search", asker, {"term": term})["results"]
    return [each["user_id"] for each in results]


class TestSearching:
    """Under a name that is nobody's at the new place, so that nothing but the move leads there."""

    NEW = UserId(f"@liddell:{HS3}")

    def move(self, land: Land, discover: str = "exact") -> None:
        land.hs3.register("liddell")
        land.hs3.call("PUT", "handles/liddell", self.NEW, {"discover": discover})
        land.hs3.call("PUT", "handles/alice", land.new, {"discover": "none"})
        land.advance(70)
        land.announce(land.hs3, self.NEW, land.alice)
        land.depart(land.hs1, land.alice, self.NEW)
        land.advance(7)

    def test_the_old_handle_finds_the_new_place_here_there_and_where_nothing_is_replicated(self, land: Land) -> None:
        self.move(land)
        for homeserver, asker in ((land.hs2, land.bob), (land.hs1, land.hs1.register("dave"))):
            assert found(homeserver, asker, "@alice") == [self.NEW]
            assert found(homeserver, asker, f"@alice:{HS1}") == [self.NEW]
            assert found(homeserver, asker, "@alic") == []
        hs4 = land.more(HS4, "erin")
        assert found(hs4, f"@erin:{HS4}", f"@alice:{HS1}") == [self.NEW]
        answer = land.hs2.result(land.hs2.private.user_search(land.bob, f"@alice:{HS1}", 5))
        assert [row["user_id"] for row in answer["results"]] == [self.NEW]
        land.hs2.account_data[land.bob, "m.ignored_user_list"] = {"ignored_users": {self.NEW: {}}}
        assert found(land.hs2, land.bob, f"@alice:{HS1}") == []

    def test_a_half_alone_leads_nobody_anywhere(self, land: Land) -> None:
        land.lie(land.hs3, FederationQuery.DIRECTORY_RESOLVE, lambda answer: {**answer, "log": None})
        self.move(land)
        assert found(land.hs2, land.bob, f"@alice:{HS1}") == found(land.hs2, land.bob, "@alice") == []

    def test_who_hid_leaves_no_trace_for_searches(self, land: Land) -> None:
        land.hs1.call("PUT", "handles/alice", land.alice, {"discover": "none"})
        self.move(land, "none")
        for homeserver, asker in ((land.hs2, land.bob), (land.hs1, land.hs1.register("dave"))):
            assert found(homeserver, asker, "@alice") == found(homeserver, asker, f"@alice:{HS1}") == []


def contacts(homeserver: FakeHomeserver, user_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = homeserver.call("GET", "contacts", user_id)["contacts"]
    return found


def known_as(homeserver: FakeHomeserver, user_id: str) -> list[str]:
    return [each["user_id"] for each in contacts(homeserver, user_id)]


def acct_of(homeserver: FakeHomeserver, user_id: str) -> Acct:
    return Acct(homeserver.call("GET", "account", user_id)["acct"])


class TestMoving:
    def test_both_homeservers_sign_their_half_once_the_person_acted_on_both(self, land: Land) -> None:
        announced = land.announce(land.hs3, land.new, land.alice)
        assert announced["arrival"] == {"from": land.alice, "state": "announced", "announced": land.hs3.now_ms()}
        gone = land.depart(land.hs1, land.alice, land.new)
        assert (gone["departure"]["to"], gone["departure"]["confirmed"]) == (land.new, True)
        assert land.hs3.call("GET", "account/move", land.new)["arrival"]["state"] == "done"
        before = land.hs1.call("GET", "handles/alice", land.alice)
        after = land.hs3.call("GET", "handles/alice", land.new)
        assert (before["status"], after["status"]) == ("moved", "active")
        assert (before["moved_to"]["user_id"], before["moved_to"]["acct"]) == (land.new, after["acct"])
        assert before["moved_to"]["accept"]["from_acct"] == before["acct"]
        assert (after["moved_from"]["user_id"], after["moved_from"]["acct"]) == (land.alice, before["acct"])

    def test_who_asks_for_the_old_handle_is_led_to_the_new_place(self, land: Land) -> None:
        land.move()
        land.advance(7)
        for who in (land.alice, f"@alice:{HS1}"):
            found = land.resolved_by_bob(who)
            assert isinstance(found, Person)
            assert (found.user_id, found.handle) == (land.new, f"@alice:{HS3}")
            assert found.moved_ms == land.hs1.now_ms() - 7_000
        here = land.hs1.result(directory_of(land.hs1).people.resolve(land.alice, asker=land.alice, max_age_ms=60_000))
        assert isinstance(here, Person)
        assert here.user_id == land.new
        # And whoever asks for the new handle is told that she came lately.
        assert land.resolved_by_bob(land.new).moved_ms == found.moved_ms

    def test_all_names_go_at_once_and_lose_their_badges(self, land: Land) -> None:
        land.hs1.call("PUT", "handles/wonder", land.alice)
        admin = land.hs1.register("root", admin=True)
        land.hs1.call("POST", "admin/handles/wonder/verify", admin, {"reason": "known"})
        land.move()
        moved = land.hs1.call("GET", "handles", land.alice)["handles"]
        assert {(each["handle"], each["status"]) for each in moved} == {
            (f"@alice:{HS1}", "moved"),
            (f"@wonder:{HS1}", "moved"),
        }
        assert land.hs1.call("GET", "handles/wonder", land.alice)["badges"] == []
        land.advance(7)
        assert land.resolved_by_bob(f"@wonder:{HS1}").user_id == land.new
        assert "org.superapp.handle" not in land.hs1.profile_fields.get(land.alice, {})
        # Nobody gets them, and she takes no more there.
        bob = land.hs1.register("robert")
        assert refusal(land.hs1, "PUT", "handles/wonder", bob) == (409, "HANDLE_TAKEN")
        assert refusal(land.hs1, "PUT", "handles/another", land.alice) == (403, "NOT_ALLOWED")
        assert refusal(land.hs1, "DELETE", "handles/wonder", land.alice) == (403, "NOT_ALLOWED")

    def test_contacts_follows_and_blocks_go_along_on_every_homeserver(self, land: Land) -> None:
        dora = land.hs1.register("dora")
        for homeserver, owner in ((land.hs1, dora), (land.hs2, land.bob), (land.hs3, land.mallory)):
            homeserver.call("PUT", f"contacts/{land.alice}", owner)
            homeserver.call("POST", f"contacts/{land.alice}", owner, {"favourite": True, "note": "from school"})
            homeserver.call("PUT", f"follows/{land.alice}", owner)
        land.hs2.call("PUT", f"blocks/{land.alice}", land.carol)
        before = contacts(land.hs2, land.bob)[0]
        land.move()
        land.advance(7)
        for homeserver, owner in ((land.hs1, dora), (land.hs2, land.bob), (land.hs3, land.mallory)):
            (after,) = contacts(homeserver, owner)
            assert (after["user_id"], after["handle"]) == (land.new, f"@alice:{HS3}")
            assert after["acct"] == acct_of(land.hs3, land.new) != before["acct"]
            assert (after["favourite"], after["note"], after["since"]) == (True, "from school", before["since"])
            mirrored = homeserver.account_data[owner, "org.superapp.contacts"]["contacts"]
            assert [each["user_id"] for each in mirrored] == [land.new]
            assert [each["user_id"] for each in homeserver.call("GET", "follows", owner)["following"]] == [land.new]
        assert [each["user_id"] for each in land.hs2.call("GET", "blocks", land.carol)["blocked"]] == [land.new]
        assert land.new in land.hs2.account_data[land.carol, "m.ignored_user_list"]["ignored_users"]

    def test_whoever_knew_both_places_has_one_contact_with_both_notes_kept(self, land: Land) -> None:
        for who, note in ((land.alice, "older"), (land.new, "newer")):
            land.hs2.call("PUT", f"contacts/{who}", land.bob)
            land.hs2.call("POST", f"contacts/{who}", land.bob, {"note": note, "favourite": who == land.new})
        land.move()
        land.advance(7)
        (after,) = contacts(land.hs2, land.bob)
        assert (after["user_id"], after["note"], after["favourite"]) == (land.new, "older", True)

    def test_whoever_hides_is_followed_by_those_who_share_a_room(self, land: Land) -> None:
        land.hs1.call("PUT", "handles/alice", land.alice, {"discover": "none"})
        for homeserver in (land.hs1, land.hs2):
            homeserver.room(land.alice, land.alice, land.bob)
        land.move()
        land.advance(60)
        found = land.resolved_by_bob(land.alice)
        assert isinstance(found, Person)
        assert found.user_id == land.new

    def test_the_new_homeserver_looks_by_itself_where_it_was_not_told(self, land: Land) -> None:
        land.announce(land.hs3, land.new, land.alice)
        honest = land.hs3.private.queries[MOVE]

        async def deaf(arguments: Mapping[str, Any]) -> dict[str, Any]:
            if arguments["step"] == "moved":
                raise RuntimeError("the line went dead")
            return await honest(arguments)

        land.hs3.private.queries[MOVE] = deaf
        with pytest.raises(RuntimeError):
            land.depart(land.hs1, land.alice, land.new)
        # The move stands; only nobody was told.
        assert land.hs1.call("GET", "account/move", land.alice)["departure"]["confirmed"] is False
        land.hs3.private.queries[MOVE] = honest
        land.upkeep(land.hs3)
        assert land.hs3.call("GET", "account/move", land.new)["arrival"]["state"] == "done"
        land.upkeep(land.hs1)
        assert land.hs1.call("GET", "account/move", land.alice)["departure"]["confirmed"] is True

    def test_the_same_again_changes_nothing(self, land: Land) -> None:
        first = land.move()
        land.advance(1)
        assert land.depart(land.hs1, land.alice, land.new) == first
        assert land.announce(land.hs3, land.new, land.alice)["arrival"]["state"] == "done"

    def test_it_takes_a_session_that_has_just_begun(self, land: Land) -> None:
        land.announce(land.hs3, land.new, land.alice)
        assert [
            (route.method, route.auth.value)
            for route in directory_of(land.hs1).routes()
            if route.path == "account/departure"
        ] == [("PUT", "fresh")]

    def test_a_year_later_the_old_homeserver_says_nothing_any_more(self, land: Land) -> None:
        land.move()
        land.advance(7)
        assert land.resolved_by_bob(land.alice).user_id == land.new
        land.advance(366 * DAY_S)
        land.upkeep()
        land.advance(60)
        assert refusal(land.hs1, "GET", f"handles/@alice:{HS1}", land.hs1.register("dora")) == (404, "UNKNOWN_HANDLE")
        assert "moved_from" not in land.hs3.call("GET", "handles/alice", land.new)
        # Whoever followed her in time still finds her; and her name is nobody else's.
        assert land.resolved_by_bob(land.alice).user_id == land.new
        assert refusal(land.hs1, "PUT", "handles/alice", land.hs1.register("eve")) == (409, "HANDLE_TAKEN")

    def test_three_moves_are_followed_and_no_more(self, land: Land) -> None:
        at, here = land.alice, land.hs1
        places = [
            (land.hs3, land.new),
            *((land.more(f"hs{n}.test", "alice"), UserId(f"@alice:hs{n}.test")) for n in (4, 5, 6)),
        ]
        for homeserver, user_id in places[:3]:
            land.announce(homeserver, user_id, at)
            land.depart(here, at, user_id)
            at, here = user_id, homeserver
        land.advance(61)
        assert land.resolved_by_bob(land.alice, max_age_ms=0).user_id == "@alice:hs5.test"
        land.announce(places[3][0], places[3][1], at)
        land.depart(here, at, places[3][1])
        land.advance(61)
        assert reason_of(land.resolved_by_bob(land.alice, max_age_ms=0)) is Reason.BAD_RECORD
        assert land.resolved_by_bob(land.new, max_age_ms=0).user_id == "@alice:hs6.test"


class TestRefusals:
    def test_nobody_moves_without_having_announced_it_there(self, land: Land) -> None:
        assert refusal(land.hs1, "PUT", "account/departure", land.alice, {"to": land.new}) == (403, "NOT_ALLOWED")
        land.announce(land.hs3, land.mallory, land.alice)
        assert refusal(land.hs1, "PUT", "account/departure", land.alice, {"to": land.new}) == (403, "NOT_ALLOWED")
        assert land.hs1.call("GET", "handles/alice", land.alice)["status"] == "active"

    def test_an_announcement_is_good_for_a_day(self, land: Land) -> None:
        land.announce(land.hs3, land.new, land.alice)
        land.advance(DAY_S)
        assert refusal(land.hs1, "PUT", "account/departure", land.alice, {"to": land.new}) == (403, "NOT_ALLOWED")
        land.announce(land.hs3, land.new, land.alice)
        land.depart(land.hs1, land.alice, land.new)

    def test_an_announcement_is_taken_back_until_something_came_of_it(self, land: Land) -> None:
        assert refusal(land.hs3, "DELETE", "account/arrival", land.new) == (422, "INVALID_VALUE")
        land.announce(land.hs3, land.new, land.alice)
        assert "arrival" not in land.hs3.call("DELETE", "account/arrival", land.new)
        assert refusal(land.hs1, "PUT", "account/departure", land.alice, {"to": land.new}) == (403, "NOT_ALLOWED")
        land.move()
        assert refusal(land.hs3, "DELETE", "account/arrival", land.new) == (409, "CONFLICT")

    def test_a_move_leads_to_a_user_id_of_another_homeserver(self, land: Land) -> None:
        land.hs1.register("dora")
        for to in ("alice", "@alice", "", "@dora:hs1.test"):
            assert refusal(land.hs1, "PUT", "account/departure", land.alice, {"to": to}) == (422, "INVALID_VALUE")
            assert refusal(land.hs1, "PUT", "account/arrival", land.alice, {"from": to}) == (422, "INVALID_VALUE")

    def test_a_move_is_final_and_nobody_moves_in_a_circle(self, land: Land) -> None:
        land.move()
        land.announce(land.hs2, land.bob, land.alice)
        assert refusal(land.hs1, "PUT", "account/departure", land.alice, {"to": land.bob}) == (409, "CONFLICT")
        assert refusal(land.hs1, "PUT", "account/arrival", land.alice, {"from": land.new}) == (409, "CONFLICT")
        assert refusal(land.hs3, "PUT", "account/arrival", land.new, {"from": land.bob}) == (409, "CONFLICT")
        assert refusal(land.hs3, "PUT", "account/departure", land.new, {"to": land.alice}) == (403, "NOT_ALLOWED")

    def test_nobody_leaves_with_a_frozen_handle(self, land: Land) -> None:
        admin = land.hs1.register("root", admin=True)
        land.hs1.call("POST", "admin/handles/alice/freeze", admin, {"reason": "a dispute"})
        land.announce(land.hs3, land.new, land.alice)
        assert refusal(land.hs1, "PUT", "account/departure", land.alice, {"to": land.new}) == (403, "HANDLE_FROZEN")

    def test_a_homeserver_that_is_silent_or_has_no_directory_takes_nobody(self, land: Land) -> None:
        land.announce(land.hs3, land.new, land.alice)
        del land.hs3.private.queries[MOVE]
        assert refusal(land.hs1, "PUT", "account/departure", land.alice, {"to": land.new}) == (502, "PEER_UNREACHABLE")
        land.silence(land.hs3)
        assert refusal(land.hs1, "PUT", "account/departure", land.alice, {"to": land.new}) == (502, "PEER_UNREACHABLE")
        assert land.hs1.call("GET", "handles/alice", land.alice)["status"] == "active"

    def test_whoever_asks_in_anothers_name_learns_nothing(self, land: Land) -> None:
        land.announce(land.hs3, land.new, land.alice)
        asked = {"step": "accept", "user_id": land.new, "from": land.alice, "acct": acct_of(land.hs1, land.alice)}
        with pytest.raises(Exception, match="your own people"):
            land.hs2.result(land.hs2.private.query(HS3, MOVE, asked, 1_000))  # type: ignore[arg-type]
        other = {**asked, "from": land.bob}
        assert "accept" not in land.hs2.result(land.hs2.private.query(HS3, MOVE, other, 1_000))  # type: ignore[arg-type]

    def test_steps_are_few(self, land: Land) -> None:
        for _ in range(30):
            land.announce(land.hs3, land.new, land.alice)
        assert refusal(land.hs3, "PUT", "account/arrival", land.new, {"from": land.alice})[1] == "TOO_MANY_REQUESTS"


class TestLies:
    def test_an_acceptance_of_another_account_moves_nobody(self, land: Land) -> None:
        land.announce(land.hs3, land.new, land.alice)
        key: SigningKey = directory_of(land.hs3)._own.signer.key

        def forged(answer: dict[str, Any]) -> dict[str, Any]:
            accept = {name: value for name, value in answer["accept"].items() if name not in ("key_id", "signature")}
            return {**answer, "accept": signed({**accept, "user_id": land.mallory}, key)}

        land.lie(land.hs3, MOVE, forged)
        assert refusal(land.hs1, "PUT", "account/departure", land.alice, {"to": land.new}) == (403, "NOT_ALLOWED")
        assert land.hs1.call("GET", "handles/alice", land.alice)["status"] == "active"

    def test_an_acceptance_that_it_did_not_sign_moves_nobody(self, land: Land) -> None:
        land.announce(land.hs3, land.new, land.alice)
        land.lie(land.hs3, MOVE, lambda answer: {**answer, "accept": signed(answer["accept"], KEY)})
        assert refusal(land.hs1, "PUT", "account/departure", land.alice, {"to": land.new}) == (502, "BAD_RECORD")
        assert land.hs1.call("GET", "handles/alice", land.alice)["status"] == "active"

    def test_a_homeserver_cannot_give_its_people_to_somebody_who_did_not_come(self, land: Land) -> None:
        land.hs2.call("PUT", f"contacts/{land.alice}", land.bob)
        land.move()
        # The third homeserver denies it: bob is told where she is said to be, and nothing of his changes.
        new = acct_of(land.hs3, land.new)
        land.hs3.transact("deny", lambda cur: move_store.set_moved_from(cur, new, None))
        land.advance(61)
        found = land.resolved_by_bob(land.alice)
        assert reason_of(found) is Reason.PAYEE_MOVED
        assert found.fields["moved_to"] == f"@alice:{HS3}"
        assert known_as(land.hs2, land.bob) == [land.alice]

    def test_a_homeserver_cannot_take_somebody_who_did_not_leave(self, land: Land) -> None:
        land.hs2.call("PUT", f"contacts/{land.alice}", land.bob)
        mallory = acct_of(land.hs3, land.mallory)
        content = moves.moved_from(land.alice, acct_of(land.hs1, land.alice), land.hs3.now_ms())
        land.hs3.transact("forge", lambda cur: move_store.set_moved_from(cur, mallory, content))
        assert land.resolved_by_bob(land.mallory).user_id == land.mallory
        land.advance(61)
        assert known_as(land.hs2, land.bob) == [land.alice]
        assert land.resolved_by_bob(land.alice).user_id == land.alice

    def test_a_server_name_that_was_registered_anew_moves_nobody(self, land: Land) -> None:
        land.hs2.call("PUT", f"contacts/{land.alice}", land.bob)
        land.advance(7)
        # Somebody else has the first name now, with keys of their own, and an account @alice that goes to mallory.
        land.others.remove(land.hs1)
        stolen = land.more(HS1, "alice")
        stolen.reachable[HS3] = land.hs3
        land.announce(land.hs3, land.mallory, land.alice)
        land.hs3.reachable[HS1] = stolen
        # The third homeserver knew the old key as well, and takes nobody from the new one.
        assert land.depart(stolen, land.alice, land.mallory)["departure"]["confirmed"] is False
        land.upkeep(land.hs3)
        assert land.hs3.call("GET", "account/move", land.mallory)["arrival"]["state"] == "accepted"
        land.advance(61)
        assert known_as(land.hs2, land.bob) == [land.alice]
        found = land.resolved_by_bob(land.alice)
        assert not isinstance(found, Person) or found.user_id == land.alice


class TestRecovering:
    """The old homeserver is gone, and a recovery key speaks for it."""

    @pytest.fixture
    def lost(self) -> Land:
        """Dora has a recovery key and is a contact of bob's and mallory's; then her homeserver is gone."""
        config = config_of(HS1, None)
        # A public handle is used at once, and a recovery key is set before that.
        exact = {"existing_users": {"discover": "exact"}, "new_users": {"discover": "exact"}}
        land = Land({**config, "directory": {**config["directory"], **exact}})
        dora = land.hs1.register("dora")
        body = {"recovery_key": public_b64(KEY)}
        land.genesis = land.hs1.call("PUT", "account/recovery-key", dora, body)["genesis"]
        land.dora = dora
        for homeserver, owner in ((land.hs2, land.bob), (land.hs3, land.mallory)):
            homeserver.call("PUT", f"contacts/{dora}", owner)
        land.silence(land.hs1)
        return land

    def claim(self, lost: Land, to: UserId | None = None, key: SigningKey = KEY, **changes: Any) -> dict[str, Any]:
        to = to or lost.new
        genesis = {**lost.genesis, **changes}
        return moves.claim(key, genesis, to_user_id=to, to_acct=acct_of(lost.hs3, to), issued_ms=lost.hs3.now_ms())

    def wait(self, lost: Land, hours: int) -> None:
        # Every hour near the end of the three days, and now and then before.
        for step in [hours - 2 * (hours // 3), hours // 3, hours // 3 - 1, 1] if hours > 9 else [1] * hours:
            lost.clock.advance(step * 3_600)
            lost.upkeep(lost.hs2, lost.hs3)

    def test_after_three_silent_days_everybody_follows_by_their_own_clock(self, lost: Land) -> None:
        shown = lost.announce(lost.hs3, lost.new, lost.dora, claim=self.claim(lost))["arrival"]
        assert shown["state"] == "recovering"
        assert shown["silent_until"] == lost.hs3.now_ms() + moves.UNCONTESTED_MS
        lost.hs2.call("GET", f"handles/{lost.new}", lost.bob)
        self.wait(lost, 71)
        assert known_as(lost.hs2, lost.bob) == known_as(lost.hs3, lost.mallory) == [lost.dora]
        assert not isinstance(lost.resolved_by_bob(lost.dora), Person)
        self.wait(lost, 2)
        assert known_as(lost.hs2, lost.bob) == known_as(lost.hs3, lost.mallory) == [lost.new]
        assert lost.hs3.call("GET", "account/move", lost.new)["arrival"]["state"] == "done"
        found = lost.resolved_by_bob(lost.dora)
        assert isinstance(found, Person)
        assert found.user_id == lost.new

    def test_a_homeserver_that_speaks_for_itself_is_not_spoken_for(self, lost: Land) -> None:
        claim = self.claim(lost)
        lost.announce(lost.hs3, lost.new, lost.dora, claim=claim)
        lost.hs2.call("GET", f"handles/{lost.new}", lost.bob)
        self.wait(lost, 50)
        lost.hs2.reachable[HS1] = lost.hs3.reachable[HS1] = lost.hs1
        self.wait(lost, 2)
        lost.silence(lost.hs1)
        self.wait(lost, 80)
        assert known_as(lost.hs2, lost.bob) == known_as(lost.hs3, lost.mallory) == [lost.dora]
        assert "arrival" not in lost.hs3.call("GET", "account/move", lost.new)
        assert "moved_from" not in lost.hs3.call("GET", "handles/alice", lost.new)
        lost.hs3.reachable[HS1] = lost.hs1
        body = {"from": lost.dora, "claim": claim}
        assert refusal(lost.hs3, "PUT", "account/arrival", lost.new, body) == (403, "NOT_ALLOWED")

    def test_what_the_key_did_not_sign_is_refused(self, lost: Land) -> None:
        other = generate_key(b"\x08" * 32)
        for content in (
            self.claim(lost, key=other),
            {**self.claim(lost), "genesis": {**lost.genesis, "nonce": "0" * 32}},
            self.claim(lost, lost.mallory),
        ):
            body = {"from": lost.dora, "claim": content}
            assert refusal(lost.hs3, "PUT", "account/arrival", lost.new, body) == (403, "BAD_SIGNATURE")
        body = {"from": lost.alice, "claim": self.claim(lost)}
        assert refusal(lost.hs3, "PUT", "account/arrival", lost.new, body) == (422, "INVALID_VALUE")

    def test_who_makes_up_an_account_of_that_name_is_followed_by_nobody(self, lost: Land) -> None:
        other = generate_key(b"\x08" * 32)
        made_up = self.claim(lost, key=other, nonce="0" * 32, recovery_key=public_b64(other))
        lost.announce(lost.hs3, lost.new, lost.dora, claim=made_up)
        lost.hs2.call("GET", f"handles/{lost.new}", lost.bob)
        self.wait(lost, 75)
        assert known_as(lost.hs2, lost.bob) == known_as(lost.hs3, lost.mallory) == [lost.dora]
        assert not isinstance(lost.resolved_by_bob(lost.dora), Person)

    def test_who_has_the_name_of_the_lost_homeserver_now_neither_claims_nor_contests(self, lost: Land) -> None:
        lost.announce(lost.hs3, lost.new, lost.dora, claim=self.claim(lost))
        lost.others.remove(lost.hs1)
        anew = lost.more(HS1, "alice", "dora")
        lost.hs2.reachable[HS1] = lost.hs3.reachable[HS1] = anew
        self.wait(lost, 74)
        assert known_as(lost.hs3, lost.mallory) == [lost.new]

    def test_it_is_taken_back_in_time(self, lost: Land) -> None:
        lost.announce(lost.hs3, lost.new, lost.dora, claim=self.claim(lost))
        assert refusal(lost.hs3, "PUT", "account/arrival", lost.new, {"from": lost.alice}) == (409, "CONFLICT")
        lost.hs3.call("DELETE", "account/arrival", lost.new)
        assert "moved_from" not in lost.hs3.call("GET", "handles/alice", lost.new)
        self.wait(lost, 75)
        assert known_as(lost.hs3, lost.mallory) == [lost.dora]
