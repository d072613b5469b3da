"""The directory in the database: names and their looks, records, feeds."""

import itertools
import json
import queue
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from directory_books import FACTS, HERE, ISSUER, NOW_MS, THERE, Directory, foreign, new_account
from engines import Database
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_directory_search import Explaining

from super_app.db import Cursor, Engine, Transaction
from super_app.directory import records, rules, service, store
from super_app.directory.model import (
    DAY_MS,
    AskedBy,
    DirectoryKey,
    Discover,
    Facts,
    FeedPage,
    FrozenFor,
    Known,
    Name,
    Origin,
    Record,
    Role,
    State,
    Withdrawal,
)
from super_app.directory.naming import skeleton
from super_app.directory.ports import NoTakings
from super_app.errors import Reason, Refused
from super_app.ids import Acct, Handle, ServerName, UserId, localpart_of
from super_app.signing import digest, generate_key, key_id_of, public_b64

pytestmark = pytest.mark.packages("super_app.accounts", "super_app.directory")


@pytest.fixture
def directory(transaction: Transaction) -> Directory:
    return Directory(run=transaction)


class TestFirstHandles:
    def test_an_account_has_its_localpart_whatever_its_form_and_issues_its_record_when_asked(
        self, directory: Directory
    ) -> None:
        acct = directory.register("b=o/b")
        record = directory.record_of(acct, "b=o/b")
        assert record is not None
        assert (record["handle"], record["acct"], record["discover"]) == ("@b=o/b:hs1.test", acct, "exact")
        assert (record["seq"], "prev" in record) == (1, False)

    def test_adopting_an_account_again_changes_nothing(self, directory: Directory) -> None:
        acct = directory.register("alice")
        directory.claim(acct, "alice", discover=Discover.PUBLIC)
        assert directory.register("alice") == acct
        held = directory.run(lambda cur: store.holding(cur, Name("alice")))
        assert held is not None
        assert held.discover is Discover.PUBLIC

    def test_accounts_may_look_alike_but_nobody_may_claim_what_looks_like_one(self, directory: Directory) -> None:
        directory.register("oliver")
        directory.register("0liver")
        carol = directory.register("carol")
        assert directory.refusal(carol, "ol1ver") is Reason.HANDLE_LOOKALIKE

    def test_an_unchanged_record_is_not_issued_twice_and_a_changed_one_is(self, directory: Directory) -> None:
        acct = directory.register("alice")
        first = directory.record_of(acct, "alice")
        assert first is not None
        assert directory.record_of(acct, "alice") == first
        directory.facts = Facts(msk="a-new-master-key", services=FACTS.services)
        second = directory.record_of(acct, "alice")
        assert second is not None
        assert (second["seq"], second["prev"], second["msk"]) == (2, digest(first), "a-new-master-key")

    def test_a_record_is_issued_anew_ten_days_before_it_expires(self, directory: Directory) -> None:
        acct = directory.register("alice")
        first = directory.record_of(acct, "alice")
        directory.now_ms += 20 * DAY_MS - 1
        assert directory.record_of(acct, "alice") == first
        directory.now_ms += 1
        second = directory.record_of(acct, "alice")
        assert second is not None
        assert second["expires"] == directory.now_ms + 30 * DAY_MS

    def test_new_terms_make_every_record_due(self, directory: Directory) -> None:
        acct = directory.register("alice", Discover.PUBLIC)
        directory.record_of(acct, "alice")
        assert directory.run(lambda cur: store.issue_under(cur, "key 1"))
        assert not directory.run(lambda cur: store.issue_under(cur, "key 1"))
        due = directory.run(lambda cur: store.due_for_renewal(cur, directory.now_ms, 10))
        assert [held.name for held in due] == ["alice"]


class TestClaims:
    def test_a_claimed_name_is_primary_and_the_localpart_stays(self, directory: Directory) -> None:
        acct = directory.register("bob1234")
        record = directory.claim(acct, "Bobby", discover=Discover.PUBLIC)
        assert (record["handle"], record["status"]) == ("@bobby:hs1.test", "active")
        primary = directory.run(lambda cur: store.primary_of(cur, UserId("@bob1234:hs1.test")))
        assert primary is not None
        assert primary.name == "bobby"
        localpart = directory.record_of(acct, "bob1234")
        assert localpart is not None
        assert localpart["alias_of"] == "@bobby:hs1.test"

    def test_a_hidden_primary_is_not_named_by_its_aliases(self, directory: Directory) -> None:
        acct = directory.register("bob1234")
        directory.claim(acct, "bobby", discover=Discover.EXACT)
        localpart = directory.record_of(acct, "bob1234")
        assert localpart is not None
        assert "alias_of" not in localpart

    @pytest.mark.parametrize("name", ["bobby", "BOBBY", "b0bby", "b.obby", "bo_bby"])
    def test_a_taken_name_and_its_look_alikes_are_refused(self, directory: Directory, name: str) -> None:
        directory.claim(directory.register("alice"), "bobby")
        carol = directory.register("carol")
        before = directory.run(_everything)
        reason = directory.refusal(carol, name)
        assert reason is (Reason.HANDLE_TAKEN if name.lower() == "bobby" else Reason.HANDLE_LOOKALIKE)
        assert directory.run(_everything) == before

    def test_a_look_alike_of_ones_own_localpart_is_ones_own(self, directory: Directory) -> None:
        acct = directory.register("a-lice")
        assert directory.claim(acct, "alice")["handle"] == "@alice:hs1.test"

    def test_a_rename_keeps_the_old_name_as_an_alias_and_is_possible_once(self, directory: Directory) -> None:
        acct = directory.register("bob1234")
        directory.claim(acct, "bobby", discover=Discover.PUBLIC)
        directory.claim(acct, "robert")
        old = directory.record_of(acct, "bobby")
        assert old is not None
        assert old["alias_of"] == "@robert:hs1.test"
        assert directory.refusal(acct, "robby") is Reason.RENAMED_RECENTLY
        directory.now_ms += 28 * DAY_MS
        directory.claim(acct, "robby")
        directory.now_ms += 28 * DAY_MS
        assert directory.refusal(acct, "rupert") is Reason.TOO_MANY_HANDLES

    def test_a_new_name_is_as_discoverable_as_the_primary_one(self, directory: Directory) -> None:
        acct = directory.register("bob1234", Discover.NONE)
        assert directory.claim(acct, "bobby")["discover"] == "none"

    def test_the_records_of_a_name_are_one_chain_across_its_owners(self, directory: Directory) -> None:
        alice, bob = directory.register("alice"), directory.register("bob")
        first = directory.claim(alice, "wonder")
        gone = directory.release(alice, "wonder")
        assert not isinstance(gone, Refused)
        directory.now_ms += 90 * DAY_MS
        again = directory.claim(bob, "wonder")
        assert (gone["seq"], gone["prev"], gone["status"]) == (2, digest(first), "released")
        assert (again["seq"], again["prev"], again["acct"]) == (3, digest(gone), bob)

    def test_a_granted_name_may_be_short_or_reserved_but_not_taken(self, directory: Directory) -> None:
        alice, bob = directory.register("alice"), directory.register("bob")

        def grant(acct: Acct, name: str) -> Mapping[str, Any] | Refused:
            return directory.run(
                lambda cur: service.grant(
                    cur, ISSUER, acct, name, facts=FACTS, discover=Discover.EXACT, now_ms=directory.now_ms
                )
            )

        granted = grant(alice, "al")
        assert not isinstance(granted, Refused)
        assert granted["handle"] == "@al:hs1.test"
        taken, close = grant(bob, "al"), grant(bob, "a1")
        assert isinstance(taken, Refused)
        assert taken.reason is Reason.HANDLE_TAKEN
        assert isinstance(close, Refused)
        assert close.reason is Reason.HANDLE_LOOKALIKE
        assert isinstance(grant(bob, "Straße"), Refused)


class TestReleases:
    def test_a_released_primary_gives_way_to_the_localpart(self, directory: Directory) -> None:
        acct = directory.register("bob1234")
        directory.claim(acct, "bobby")
        directory.release(acct, "bobby")
        primary = directory.run(lambda cur: store.primary_of(cur, UserId("@bob1234:hs1.test")))
        assert primary is not None
        assert primary.name == "bob1234"

    def test_a_released_name_and_its_look_alikes_are_quarantined(self, directory: Directory) -> None:
        alice, bob = directory.register("alice"), directory.register("bob")
        directory.claim(alice, "wonder")
        directory.release(alice, "wonder")
        directory.now_ms += 89 * DAY_MS
        assert directory.refusal(bob, "wonder") is Reason.HANDLE_TAKEN
        assert directory.refusal(bob, "w0nder") is Reason.HANDLE_LOOKALIKE
        directory.now_ms += 1 * DAY_MS
        directory.claim(bob, "w0nder")
        assert directory.refusal(alice, "wonder") is Reason.HANDLE_LOOKALIKE

    def test_its_owner_takes_it_back_within_30_days(self, directory: Directory) -> None:
        acct = directory.register("alice")
        directory.claim(acct, "wonder")
        directory.release(acct, "wonder")
        directory.now_ms += 30 * DAY_MS - 1
        assert directory.claim(acct, "wonder")["status"] == "active"

    def test_a_deactivated_account_is_found_no_more(self, directory: Directory) -> None:
        acct = directory.register("alice", Discover.PUBLIC)
        directory.claim(acct, "wonder")
        directory.run(
            lambda cur: service.retire(cur, ISSUER, acct, facts=FACTS, takings=NoTakings(), now_ms=directory.now_ms)
        )
        assert [entry["type"] for entry in directory.feed()[0]] == [records.WITHDRAWAL_TYPE] * 2
        wonder = directory.run(lambda cur: store.holding(cur, Name("wonder")))
        alice = directory.run(lambda cur: store.holding(cur, Name("alice")))
        assert wonder is not None
        assert alice is not None
        assert (wonder.state, alice.discover) == (State.RELEASED, Discover.NONE)


class TestRegistration:
    def blocked(self, directory: Directory, localpart: str) -> bool:
        user_id = UserId(f"@{localpart}:{HERE}")
        return directory.run(lambda cur: service.blocks_registration(cur, user_id, directory.now_ms))

    def test_a_handle_an_alias_and_a_quarantined_name_count_as_taken(self, directory: Directory) -> None:
        acct = directory.register("alice")
        directory.claim(acct, "wonder")
        directory.claim(acct, "mirror", role=Role.ALIAS)
        assert self.blocked(directory, "wonder")
        assert self.blocked(directory, "WONDER")
        assert self.blocked(directory, "mirror")
        directory.release(acct, "mirror")
        assert self.blocked(directory, "mirror")
        directory.now_ms += 90 * DAY_MS
        assert not self.blocked(directory, "mirror")

    def test_a_look_alike_and_ones_own_localpart_do_not(self, directory: Directory) -> None:
        acct = directory.register("alice")
        directory.claim(acct, "wonder")
        assert not self.blocked(directory, "w0nder")
        assert not self.blocked(directory, "alice")

    def test_an_account_that_comes_to_exist_all_the_same_freezes_the_handle_until_it_is_settled(
        self, directory: Directory
    ) -> None:
        alice = directory.register("alice")
        directory.claim(alice, "wonder", discover=Discover.PUBLIC)
        intruder = new_account("wonder", Discover.PUBLIC)
        assert directory.run(lambda cur: service.adopt(cur, [intruder], directory.now_ms)) == ("wonder",)
        held = directory.run(lambda cur: store.holding(cur, Name("wonder")))
        assert held is not None
        assert (held.frozen_for, held.contested_by) == (FrozenFor.AMBIGUOUS, "@wonder:hs1.test")
        assert rules.frozen_refusal(held.frozen_for, "@wonder:hs1.test").reason is Reason.AMBIGUOUS_PAYEE
        frozen = directory.record_of(alice, "wonder")
        assert frozen is not None
        assert (frozen["status"], frozen["frozen_for"]) == ("frozen", "ambiguous")

        # The same account found again by a later sweep is no news.
        assert directory.run(lambda cur: service.adopt(cur, [intruder], directory.now_ms)) == ()

        settled = directory.run(
            lambda cur: service.settle(cur, ISSUER, Name("wonder"), intruder.acct, facts=FACTS, now_ms=directory.now_ms)
        )
        assert not isinstance(settled, Refused)
        assert (settled["acct"], settled["status"]) == (intruder.acct, "active")
        primary = directory.run(lambda cur: store.primary_of(cur, UserId("@alice:hs1.test")))
        assert primary is not None
        assert primary.name == "alice"
        again = directory.run(
            lambda cur: service.settle(cur, ISSUER, Name("wonder"), intruder.acct, facts=FACTS, now_ms=directory.now_ms)
        )
        assert isinstance(again, Refused)

    def test_a_name_that_was_free_again_belongs_to_a_new_account_of_that_localpart(self, directory: Directory) -> None:
        alice = directory.register("alice")
        directory.claim(alice, "wonder")
        directory.release(alice, "wonder")
        directory.now_ms += 90 * DAY_MS
        wonder = directory.register("wonder")
        record = directory.record_of(wonder, "wonder")
        assert record is not None
        assert (record["acct"], record["seq"]) == (wonder, 3)


class TestFinding:
    def find(self, directory: Directory, text: str, by: AskedBy) -> str | None:
        held = directory.run(lambda cur: service.find(cur, text, by))
        return None if held is None else held.name

    def test_a_user_id_leads_to_the_public_primary_handle_and_a_handle_to_itself(self, directory: Directory) -> None:
        acct = directory.register("bob1234")
        directory.claim(acct, "bobby", discover=Discover.PUBLIC)
        assert self.find(directory, "bob1234", AskedBy.USER_ID) == "bobby"
        assert self.find(directory, "bob1234", AskedBy.HANDLE) == "bob1234"
        assert self.find(directory, "Bobby", AskedBy.HANDLE) == "bobby"
        assert self.find(directory, "nobody", AskedBy.HANDLE) is None

    def test_a_hidden_primary_handle_is_not_found_by_user_id(self, directory: Directory) -> None:
        acct = directory.register("bob1234")
        directory.claim(acct, "bobby", discover=Discover.EXACT)
        assert self.find(directory, "bob1234", AskedBy.USER_ID) == "bob1234"


class TestFeed:
    def test_it_holds_each_public_name_once_with_its_newest_record(self, directory: Directory) -> None:
        alice, bob = directory.register("alice"), directory.register("bob")
        directory.claim(alice, "alice", discover=Discover.PUBLIC)
        directory.claim(bob, "bob", discover=Discover.PUBLIC)
        directory.claim(alice, "alice", discover=Discover.EXACT)
        newest = directory.claim(alice, "alice", discover=Discover.PUBLIC)
        entries, position, head = directory.feed()
        assert [entry["handle"] for entry in entries] == ["@bob:hs1.test", "@alice:hs1.test"]
        assert entries[1] == newest
        assert position == head == 4

    def test_hidden_names_never_enter_it(self, directory: Directory) -> None:
        acct = directory.register("alice")
        for discover in (Discover.EXACT, Discover.LINK, Discover.NONE):
            directory.claim(acct, "alice", discover=discover)
        assert directory.feed() == ([], 0, 0)

    def test_a_name_that_leaves_is_withdrawn_and_forgotten_when_every_copy_has_expired(
        self, directory: Directory
    ) -> None:
        acct = directory.register("alice")
        directory.claim(acct, "alice", discover=Discover.PUBLIC)
        directory.claim(acct, "alice", discover=Discover.NONE)
        (entry,), position, _ = directory.feed(since=1)
        assert (entry["type"], entry["handle"]) == (records.WITHDRAWAL_TYPE, "@alice:hs1.test")
        directory.now_ms += 31 * DAY_MS
        directory.run(lambda cur: service.tidy(cur, directory.now_ms))
        assert directory.feed() == ([], position, position)

    def test_it_comes_in_pages_without_gaps(self, directory: Directory) -> None:
        for number in range(7):
            acct = directory.register(f"user{number}x")
            directory.claim(acct, f"user{number}x", discover=Discover.PUBLIC)
        seen: list[str] = []
        position = 0
        for _ in range(4):
            entries, position, head = directory.feed(since=position, limit=2)
            seen += [entry["handle"] for entry in entries]
            assert head == 7
        assert seen == [f"@user{number}x:hs1.test" for number in range(7)]
        assert directory.feed(since=7) == ([], 7, 7)


class TestPeersAndReplicas:
    def replicate(self, directory: Directory, *entries: Record | Withdrawal, position: int = 1) -> None:
        directory.run(lambda cur: store.meet(cur, THERE, directory.now_ms))
        directory.run(
            lambda cur: service.replicate(cur, THERE, entries, position=position, at_end=True, now_ms=directory.now_ms)
        )

    def known(self, directory: Directory, handle: str) -> Known | None:
        return directory.run(lambda cur: store.known_by_handle(cur, Handle(handle), directory.now_ms))

    def withdrawal(self, name: str, issued_ms: int) -> Withdrawal:
        return Withdrawal(handle=Handle(f"@{name}:{THERE}"), server=THERE, seq=2, issued_ms=issued_ms)

    def test_a_replicated_record_is_as_fresh_as_the_feed_it_came_with(self, directory: Directory) -> None:
        self.replicate(directory, foreign("bob"))
        directory.now_ms += 50_000
        self.replicate(directory, position=2)
        known = self.known(directory, "@bob:hs2.test")
        assert known is not None
        assert known.record == foreign("bob")
        assert known.current_ms == directory.now_ms
        peer = directory.run(lambda cur: store.peer(cur, THERE))
        assert peer is not None
        assert peer.feed_position == 2

    def test_a_hidden_record_is_only_as_fresh_as_the_answer_that_brought_it(self, directory: Directory) -> None:
        self.replicate(directory)
        directory.run(lambda cur: store.put_replicas(cur, [foreign("bob", discover="exact")], NOW_MS))
        directory.now_ms += 50_000
        self.replicate(directory)
        known = self.known(directory, "@bob:hs2.test")
        assert known is not None
        assert known.current_ms == NOW_MS

    def test_where_there_is_no_room_those_who_are_here_stay_current_and_can_leave(self, directory: Directory) -> None:
        def page(*entries: Record | Withdrawal, room: int | None) -> tuple[int, int]:
            done = directory.run(
                lambda cur: service.replicate(
                    cur, THERE, entries, position=9, at_end=True, now_ms=directory.now_ms, room=room
                )
            )
            return done.added, done.left_out

        self.replicate(directory, foreign("bob"), foreign("carol"))
        newer = foreign("bob", seq=2, issued_ms=NOW_MS + 5)
        names = ["dave", "erin", "dave", "frank"]
        assert page(newer, *(foreign(name) for name in names), room=2) == (2, 1)
        known = self.known(directory, "@bob:hs2.test")
        assert known is not None
        assert known.record.seq == 2
        assert self.known(directory, "@erin:hs2.test") is not None
        assert self.known(directory, "@frank:hs2.test") is None
        assert directory.run(store.count_replicas) == {THERE: 4}
        assert page(self.withdrawal("carol", NOW_MS + 1), foreign("frank"), room=0) == (0, 1)
        assert self.known(directory, "@carol:hs2.test") is None
        assert directory.run(store.count_replicas) == {THERE: 3}
        assert page(foreign("frank"), room=None) == (1, 0)
        assert self.known(directory, "@frank:hs2.test") is not None

    def test_an_older_record_never_replaces_a_newer_one(self, directory: Directory) -> None:
        self.replicate(directory, foreign("bob", seq=2, issued_ms=NOW_MS + 5))
        self.replicate(directory, foreign("bob", seq=1, issued_ms=NOW_MS))
        known = self.known(directory, "@bob:hs2.test")
        assert known is not None
        assert known.record.seq == 2

    @pytest.mark.parametrize("newest_first", [True, False])
    def test_of_two_records_of_a_name_in_one_page_the_newer_is_kept(
        self, directory: Directory, newest_first: bool
    ) -> None:
        both = [foreign("bob", seq=2, issued_ms=NOW_MS + 5), foreign("bob", seq=1, issued_ms=NOW_MS)]
        self.replicate(directory, *(both if newest_first else reversed(both)))
        known = self.known(directory, "@bob:hs2.test")
        assert known is not None
        assert known.record.seq == 2

    def test_a_withdrawn_record_is_forgotten(self, directory: Directory) -> None:
        self.replicate(directory, foreign("bob"), foreign("carol"))
        self.replicate(directory, self.withdrawal("bob", NOW_MS + 1))
        assert self.known(directory, "@bob:hs2.test") is None
        assert self.known(directory, "@carol:hs2.test") is not None

    def test_a_withdrawal_leaves_alone_what_is_newer_or_hidden(self, directory: Directory) -> None:
        self.replicate(directory, foreign("bob", issued_ms=NOW_MS + 2))
        directory.run(lambda cur: store.put_replicas(cur, [foreign("carol", discover="exact")], NOW_MS))
        self.replicate(directory, self.withdrawal("bob", NOW_MS + 1), self.withdrawal("carol", NOW_MS + 1))
        assert self.known(directory, "@bob:hs2.test") is not None
        assert self.known(directory, "@carol:hs2.test") is not None

    def test_an_expired_record_is_unknown_and_swept_away(self, directory: Directory) -> None:
        self.replicate(directory, foreign("bob"))
        directory.register("alice")
        directory.now_ms += 30 * DAY_MS
        assert self.known(directory, "@bob:hs2.test") is None
        directory.run(lambda cur: service.tidy(cur, directory.now_ms))
        directory.now_ms -= DAY_MS
        assert self.known(directory, "@bob:hs2.test") is None

    def test_a_key_is_pinned_on_first_use_and_another_one_changes_nothing(self, directory: Directory) -> None:
        first, second = _directory_key(1), _directory_key(2)
        directory.run(lambda cur: store.meet(cur, THERE, NOW_MS))
        assert directory.run(lambda cur: store.pin(cur, first)) == first
        assert directory.run(lambda cur: store.pin(cur, second)) == first
        self.replicate(directory, foreign("bob"))
        assert directory.run(lambda cur: store.unpin(cur, THERE))
        assert self.known(directory, "@bob:hs2.test") is None
        assert directory.run(lambda cur: store.pin(cur, second)) == second
        directory.run(lambda cur: store.unpin(cur, THERE))
        assert not directory.run(lambda cur: store.unpin(cur, THERE))

    def test_a_peer_that_publishes_no_more_is_forgotten_with_its_public_records(self, directory: Directory) -> None:
        self.replicate(directory, foreign("bob"))
        directory.run(lambda cur: store.put_replicas(cur, [foreign("carol", discover="exact")], NOW_MS))
        assert directory.run(lambda cur: store.forget_feed_of(cur, THERE)) == 1
        assert self.known(directory, "@carol:hs2.test") is not None

    def test_peers_come_most_recently_met_first(self, directory: Directory) -> None:
        for number, server in enumerate(["a.test", "b.test", "a.test"]):
            directory.run(partial(store.meet, server=ServerName(server), now_ms=NOW_MS + number))
        found = directory.run(lambda cur: store.peers(cur, 10))
        assert [peer.server for peer in found] == ["a.test", "b.test"]

    def test_the_primary_handle_of_a_user_id_is_the_one_that_is_no_alias(self, directory: Directory) -> None:
        bob = "@bob:hs2.test"
        self.replicate(
            directory,
            foreign("bob", alias_of="@bobby:hs2.test", issued_ms=NOW_MS + 9),
            foreign("bobby", user_id=bob),
        )
        known = directory.run(lambda cur: store.known_by_user_id(cur, UserId(bob), directory.now_ms))
        assert known is not None
        assert known.record.handle == "@bobby:hs2.test"

    def test_to_the_public_a_user_id_leads_to_the_public_primary_handle_and_to_no_other(
        self, directory: Directory
    ) -> None:
        bob = "@bob:hs2.test"
        old = foreign("bob", alias_of="@bobby:hs2.test", issued_ms=NOW_MS + 9)
        self.replicate(directory, old, foreign("bobby", user_id=bob), foreign("frozen", status="frozen"))
        hidden = [foreign("carol", discover="exact"), foreign("bobster", user_id=bob, discover="exact")]
        directory.run(lambda cur: store.put_replicas(cur, hidden, NOW_MS))

        def public(handle: str, now_ms: int = NOW_MS) -> str | None:
            work = partial(store.known_in_public, user_id=UserId(handle), handle=Handle(handle), now_ms=now_ms)
            record = directory.run(work)
            return None if record is None else record.handle

        assert [public(each) for each in (bob, "@bobby:hs2.test")] == ["@bobby:hs2.test"] * 2
        for name in ("carol", "bobster", "frozen", "nobody"):
            assert public(f"@{name}:hs2.test") is None, name
        assert public(bob, NOW_MS + 31 * 86_400_000) is None


def test_of_200_concurrent_claims_of_a_name_and_its_look_alikes_exactly_one_wins(database: Database) -> None:
    spellings = ["wonder", "w0nder", "vvonder", "won.der", "wo_nder", "vv0nder", "w.o.n.d.e.r", "w_0nder"]
    setup = Directory(run=database.connect(rerun=False))
    claims: queue.Queue[tuple[Acct, str]] = queue.Queue()
    for number, name in zip(range(200), itertools.cycle(spellings), strict=False):
        claims.put((setup.register(f"user{number}"), name))
    outcomes: list[Mapping[str, Any] | Refused] = []
    # SQLite lets one writer in at a time, and those that wait look again after pauses.
    crowd = 20 if database.engine is Engine.POSTGRESQL else 8
    directories = [Directory(run=database.connect(rerun=False)) for _ in range(crowd)]
    together = threading.Barrier(len(directories))

    def work(directory: Directory) -> None:
        together.wait()
        while True:
            try:
                acct, name = claims.get_nowait()
            except queue.Empty:
                return
            outcomes.append(directory.put(acct, name, discover=Discover.PUBLIC))

    threads = [threading.Thread(target=work, args=(directory,)) for directory in directories]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert len(outcomes) == 200
    won = [outcome for outcome in outcomes if not isinstance(outcome, Refused)]
    assert len(won) == 1
    refused = {outcome.reason for outcome in outcomes if isinstance(outcome, Refused)}
    assert refused <= {Reason.HANDLE_TAKEN, Reason.HANDLE_LOOKALIKE}
    held = setup.run(lambda cur: store.name_with_skeleton(cur, skeleton("wonder")))
    assert held == localpart_of(Handle(won[0]["handle"]))
    assert [entry["handle"] for entry in setup.feed()[0]] == [won[0]["handle"]]


@pytest.mark.parametrize("engine", [Engine.POSTGRESQL], indirect=True)
@pytest.mark.usefixtures("engine")
def test_positions_of_concurrent_changes_appear_in_the_order_of_their_commits(database: Database) -> None:
    """A reader that has seen position n never misses a change below n that was still being committed."""
    setup = Directory(run=database.connect(rerun=False))
    accts = [setup.register(f"user{number}") for number in range(60)]
    work: queue.Queue[int] = queue.Queue()
    for number in range(60):
        work.put(number)

    def publish(directory: Directory) -> None:
        while True:
            try:
                number = work.get_nowait()
            except queue.Empty:
                return
            directory.claim(accts[number], f"user{number}", discover=Discover.PUBLIC)

    threads = [threading.Thread(target=publish, args=(Directory(run=database.connect(rerun=False)),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    seen: list[str] = []
    position = 0
    while any(thread.is_alive() for thread in threads) or position < 60:
        entries, position, _ = setup.feed(since=position)
        seen += [entry["handle"] for entry in entries]
    assert sorted(seen) == sorted(f"@user{number}:hs1.test" for number in range(60))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "alias", "release", "public", "hide"]),
        st.integers(0, 1),
        st.sampled_from(["wonder", "w0nder", "mirror", "rabbit", "hatter"]),
        st.sampled_from([0, 1, 28, 31, 91]),
    ),
    max_size=25,
)


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
@given(steps=STEPS)
def test_whatever_two_people_do_the_rules_hold(transaction: Transaction, steps: Any) -> None:
    transaction(_wipe)
    directory = Directory(run=transaction)
    accts = [directory.register("alice"), directory.register("bob")]
    for action, who, name, days in steps:
        directory.now_ms += days * DAY_MS
        match action:
            case "put":
                directory.put(accts[who], name)
            case "alias":
                directory.put(accts[who], name, role=Role.ALIAS)
            case "release":
                directory.release(accts[who], name)
            case "public":
                directory.put(accts[who], ["alice", "bob"][who], discover=Discover.PUBLIC)
            case _:
                directory.put(accts[who], ["alice", "bob"][who], discover=Discover.NONE)
        _check(directory, accts)


def _check(directory: Directory, accts: list[Acct]) -> None:
    looks: list[str] = []
    published = {entry["handle"] for entry in directory.feed()[0] if entry["type"] == records.RECORD_TYPE}
    public: set[str] = set()
    for acct in accts:
        held = directory.run(partial(store.holdings_of, acct=acct))
        active = [each for each in held if each.state is State.ACTIVE]
        claimed = [each for each in active if each.origin is not Origin.LOCALPART]
        assert sum(each.primary for each in active) == 1
        assert len([each for each in claimed if not each.primary]) <= 2
        looks += [skeleton(each.name) for each in claimed]
        public |= {f"@{each.name}:{HERE}" for each in active if each.discover is Discover.PUBLIC}
        for each in active:
            if each.record is not None:
                content = json.loads(each.record)
                assert content["seq"] == each.seq
                assert digest(content) == each.digest
    assert len(looks) == len(set(looks))
    assert published == public


def _wipe(cur: Cursor) -> None:
    cur.execute("DELETE FROM superapp_directory_feed")
    cur.execute("DELETE FROM superapp_directory_state")
    cur.execute("DELETE FROM superapp_directory_owner")
    cur.execute("DELETE FROM superapp_directory_skeleton")
    cur.execute("DELETE FROM superapp_directory_handle")
    cur.execute("DELETE FROM superapp_account")


def _everything(cur: Cursor) -> list[object]:
    rows: list[object] = []
    for sql in (
        "SELECT * FROM superapp_directory_handle ORDER BY name",
        "SELECT * FROM superapp_directory_skeleton ORDER BY skeleton",
        "SELECT * FROM superapp_directory_owner ORDER BY acct",
        "SELECT * FROM superapp_directory_feed ORDER BY name",
        "SELECT head FROM superapp_directory_state",
    ):
        cur.execute(sql)
        rows.append(cur.fetchall())
    return rows


def _directory_key(number: int) -> DirectoryKey:
    key = generate_key(bytes([number]) * 32)
    return DirectoryKey(server=THERE, key_id=key_id_of(key), public_key=public_b64(key), certificate={"n": number})


def test_a_page_of_a_feed_with_ten_million_rows_behind_it_is_found_without_reading_the_others(
    directory: Directory,
) -> None:
    """As after ten million changes: names stand where they changed last, with gaps where they stood before."""
    head, apart, names = 10_000_000, 8_000, 1_250

    def fill(cur: Cursor) -> None:
        store.install(cur, NOW_MS)
        cur.execute("UPDATE superapp_directory_state SET head = ?", (head,))
        cur.execute_many(
            "INSERT INTO superapp_directory_feed (name, position, entry) VALUES (?, ?, '{}')",
            [(f"name{number}", number * apart) for number in range(1, names + 1)],
        )

    directory.run(fill)

    def page(cur: Cursor, since: int) -> tuple[FeedPage, str]:
        if cur.engine is Engine.POSTGRESQL:
            # So few rows it would read and sort all of, and does when there is no other way.
            cur.execute("SET LOCAL enable_seqscan = off")
            cur.execute("SET LOCAL enable_bitmapscan = off")
            cur.execute("SET LOCAL enable_sort = off")
        explaining: Any = Explaining(cur)
        return service.feed(explaining, since, 10_000), explaining.plans[-1]

    since = 0
    counted: list[int] = []
    while since < head:
        found, plan = directory.run(partial(page, since=since))
        # By its place, and not all of them sorted first.
        assert "position>" in plan or '"position" >' in plan, plan
        assert not any(each in plan for each in ("Seq Scan", "SCAN", "Sort", "TEMP B-TREE")), plan
        assert found.head == head
        since = found.next_position
        counted.append(len(found.entries))
    assert counted == [500, 500, 250]
