"""Moves in the database: both homeservers' steps, whose relations go along, and two processes at once."""

from typing import Any

import pytest
from directory_books import FACTS, HERE, ISSUER, NOW_MS, Directory

from super_app.accounts import relation_store
from super_app.accounts import store as accounts
from super_app.accounts.model import Contact, MovedRelations, Peer, Unnamed
from super_app.db import Transaction
from super_app.directory import move_store, moves, moving, store
from super_app.directory.model import Discover, MovedTo, Name, State, Status
from super_app.directory.move_model import Departure
from super_app.directory.moves import Accepted, Stop
from super_app.errors import Reason, Refused
from super_app.ids import Acct, Handle, UserId

pytestmark = pytest.mark.packages("super_app.accounts", "super_app.directory")

ALICE, OLD, NEW = UserId(f"@alice:{HERE}"), UserId("@carol:old.test"), UserId("@alice:new.test")
X, Y = Acct("X" * 43), Acct("Y" * 43)


def accepted(user_id: UserId = NEW, acct: Acct = Y) -> Accepted:
    return Accepted(user_id=user_id, acct=acct, handle=Handle(user_id), issued_ms=NOW_MS, content={"v": 1})


def depart(run: Transaction, acct: Acct, to: Accepted) -> tuple[Departure, MovedRelations] | Refused:
    return run(lambda cur: moving.depart(cur, ISSUER, acct, to, facts=FACTS, now_ms=NOW_MS))


def peer(user_id: UserId, acct: str) -> Peer:
    return Peer(acct=Acct(acct), user_id=user_id, handle=Handle(user_id), since_ms=1)


class TestRelations:
    BEFORE, AFTER = peer(OLD, X), peer(NEW, Y)

    def add(self, run: Transaction, owner: Acct, user_id: UserId, acct: str) -> None:
        contact = Contact(acct=Acct(acct), user_id=user_id, handle=Handle(user_id), since_ms=1)
        run(lambda cur: accounts.put_contact(cur, owner, contact))
        run(lambda cur: relation_store.follow(cur, owner, peer(user_id, acct)))
        run(lambda cur: relation_store.block(cur, owner, peer(user_id, acct)))

    @pytest.mark.parametrize(
        ("user_id", "acct", "unnamed", "goes"),
        [
            (OLD, X, Unnamed.STAY, True),
            (OLD, "", Unnamed.GO_ALONG, True),
            (OLD, "", Unnamed.STAY, False),
            # An account that somebody made under the same name later.
            (OLD, "Z" * 43, Unnamed.GO_ALONG, False),
            # A homeserver that says that one of its people has the acct of somebody else.
            (UserId("@mallory:evil.test"), X, Unnamed.GO_ALONG, False),
        ],
    )
    def test_those_of_this_user_id_and_acct_go_along_and_no_others(
        self, transaction: Transaction, user_id: UserId, acct: str, unnamed: Unnamed, goes: bool
    ) -> None:
        owner = Directory(transaction).register("bobby")
        self.add(transaction, owner, user_id, acct)
        went = transaction(lambda cur: relation_store.moved(cur, self.BEFORE, self.AFTER, unnamed=unnamed))
        bobby = UserId(f"@bobby:{HERE}")
        assert went == (MovedRelations(contacts=(bobby,), blocks=(bobby,)) if goes else MovedRelations())
        there = NEW if goes else user_id
        assert [each.user_id for each in transaction(lambda cur: accounts.contacts(cur, owner))] == [there]
        assert [each.user_id for each in transaction(lambda cur: relation_store.following(cur, owner))] == [there]
        assert [each.user_id for each in transaction(lambda cur: relation_store.blocking(cur, owner))] == [there]

    def test_whoever_knew_both_keeps_one_of_each(self, transaction: Transaction) -> None:
        owner = Directory(transaction).register("bobby")
        self.add(transaction, owner, OLD, X)
        self.add(transaction, owner, NEW, Y)
        transaction(lambda cur: accounts.describe_contact(cur, owner, NEW, favourite=True, note="newer"))
        transaction(lambda cur: relation_store.moved(cur, self.BEFORE, self.AFTER, unnamed=Unnamed.STAY))
        (contact,) = transaction(lambda cur: accounts.contacts(cur, owner))
        assert (contact.user_id, contact.acct, contact.favourite, contact.note) == (NEW, Y, True, "newer")
        assert len(transaction(lambda cur: relation_store.following(cur, owner))) == 1
        assert len(transaction(lambda cur: relation_store.blocking(cur, owner))) == 1


class TestDeparting:
    def test_every_active_name_leads_on_and_a_released_one_stays_released(self, transaction: Transaction) -> None:
        directory = Directory(transaction)
        alice = directory.register("alice", Discover.PUBLIC)
        directory.put(alice, "wonder")
        directory.put(alice, "looking", discover=Discover.PUBLIC)
        directory.release(alice, "wonder")
        done = depart(transaction, alice, accepted())
        assert not isinstance(done, Refused)
        held = {each.name: each for each in transaction(lambda cur: store.holdings_of(cur, alice))}
        assert {name: each.state for name, each in held.items()} == {
            "alice": State.MOVED,
            "looking": State.MOVED,
            "wonder": State.RELEASED,
        }
        records = {name: store.loaded(each.record) for name, each in held.items()}
        assert records[Name("looking")]["moved_to"] == moves.moved_to(accepted(), NOW_MS)
        assert "moved_to" not in records[Name("wonder")]

    def test_the_same_again_is_the_same_and_another_place_is_refused(self, transaction: Transaction) -> None:
        alice = Directory(transaction).register("alice")
        first = depart(transaction, alice, accepted())
        again = depart(transaction, alice, accepted())
        assert not isinstance(first, Refused)
        assert not isinstance(again, Refused)
        assert again[0] == first[0]
        other = depart(transaction, alice, accepted(UserId("@alice:third.test")))
        assert isinstance(other, Refused)
        assert other.reason is Reason.CONFLICT

    def test_of_two_processes_one_moves_somebody(self, two_connections: tuple[Transaction, Transaction]) -> None:
        one, other = two_connections
        alice = Directory(one).register("alice")
        done = depart(one, alice, accepted())
        late = depart(other, alice, accepted(UserId("@alice:third.test")))
        assert not isinstance(done, Refused)
        assert isinstance(late, Refused)
        gone = other(lambda cur: move_store.departure(cur, alice))
        assert gone is not None
        assert gone.to_user_id == NEW

    def test_after_a_year_the_names_are_hidden_and_nobodys(self, transaction: Transaction) -> None:
        directory = Directory(transaction)
        alice = directory.register("alice", Discover.PUBLIC)
        done = depart(transaction, alice, accepted())
        assert not isinstance(done, Refused)
        transaction(lambda cur: moving.end_forwarding(cur, ISSUER, done[0], facts=FACTS, now_ms=NOW_MS + 1))
        held = transaction(lambda cur: store.holding(cur, Name("alice")))
        assert held is not None
        assert (held.state, held.moved_to, held.discover) == (State.MOVED, None, Discover.NONE)
        page = transaction(lambda cur: store.feed(cur, 0, 10))
        assert [store.loaded(entry)["type"].rpartition(".")[2] for entry in page.entries] == ["withdrawal"]
        assert transaction(lambda cur: move_store.departures_before(cur, NOW_MS + 2, 10)) == ()


class TestArriving:
    def before(self, **changes: Any) -> Stop:
        to = MovedTo(user_id=ALICE, acct=self.acct, handle=Handle(ALICE), since_ms=NOW_MS, accept={})
        fields: dict[str, Any] = {"user_id": OLD, "acct": X, "moved_to": to, **changes}
        return Stop(handle=None, status=Status.MOVED, moved_from=None, **fields)

    @pytest.fixture(autouse=True)
    def _alice(self, transaction: Transaction) -> None:
        self.acct = Directory(transaction).register("alice")

    def arrive(self, run: Transaction, before: Stop) -> MovedRelations | Refused:
        return run(lambda cur: moving.arrive(cur, ISSUER, self.acct, before, facts=FACTS, now_ms=NOW_MS))

    def test_only_whoever_was_announced_and_accepted_arrives(self, transaction: Transaction) -> None:
        assert isinstance(self.arrive(transaction, self.before()), Refused)
        transaction(lambda cur: moving.announce(cur, self.acct, OLD, NOW_MS))
        assert isinstance(self.arrive(transaction, self.before()), Refused)
        transaction(lambda cur: moving.accept(cur, ISSUER, self.acct, OLD, X, NOW_MS))
        for wrong in ({"acct": Y}, {"user_id": NEW}, {"moved_to": None}):
            assert isinstance(self.arrive(transaction, self.before(**wrong)), Refused)
        assert isinstance(self.arrive(transaction, self.before()), MovedRelations)
        held = transaction(lambda cur: store.holding(cur, Name("alice")))
        assert held is not None
        assert held.moved_from == moves.moved_from(OLD, X, NOW_MS)

    def test_an_acceptance_is_for_one_acct(self, transaction: Transaction) -> None:
        transaction(lambda cur: moving.announce(cur, self.acct, OLD, NOW_MS))
        assert not isinstance(transaction(lambda cur: moving.accept(cur, ISSUER, self.acct, OLD, X, NOW_MS)), Refused)
        assert isinstance(transaction(lambda cur: moving.accept(cur, ISSUER, self.acct, OLD, Y, NOW_MS)), Refused)
        assert isinstance(transaction(lambda cur: moving.accept(cur, ISSUER, self.acct, NEW, X, NOW_MS)), Refused)
