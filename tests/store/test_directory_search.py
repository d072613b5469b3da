"""Searching for people in the database."""

from collections.abc import Collection
from functools import partial
from typing import Any

import pytest
from directory_books import HERE, NOW_MS, THERE, Directory, foreign

from super_app.accounts import store as accounts
from super_app.accounts.model import Contact
from super_app.db import Cursor, Engine, Transaction
from super_app.directory import search, search_store, service, store
from super_app.directory.model import DAY_MS, Discover
from super_app.directory.search_model import Match
from super_app.ids import Acct, Handle, ServerName, UserId

pytestmark = pytest.mark.packages("super_app.accounts", "super_app.directory")

BADGE = {"expires": NOW_MS + DAY_MS}


@pytest.fixture
def directory(transaction: Transaction) -> Directory:
    """Alice, who searches, among local and replicated handles."""
    directory = Directory(run=transaction)
    for name, discover in [
        ("alice", Discover.PUBLIC),
        ("alicia", Discover.PUBLIC),
        ("alison", Discover.EXACT),
        ("alina", Discover.LINK),
        ("alima", Discover.NONE),
    ]:
        directory.register(name, discover)
    replicate(directory, "alice", "alicia", "alyssa")
    directory.run(lambda cur: store.put_replicas(cur, [foreign("alf", status="frozen")], NOW_MS))
    return directory


def replicate(directory: Directory, *names: str, server: ServerName = THERE) -> None:
    entries = [foreign(name, server=server) for name in names]
    directory.run(lambda cur: store.meet(cur, server, NOW_MS))
    directory.run(
        lambda cur: service.replicate(cur, server, entries, position=len(entries), at_end=True, now_ms=NOW_MS)
    )


def acct_of(directory: Directory, name: str) -> Acct:
    return directory.run(lambda cur: store.acct_of(cur, UserId(f"@{name}:{HERE}")))


def befriend(directory: Directory, handle: str, user_id: str | None = None) -> None:
    contact = Contact(acct=Acct(""), user_id=UserId(user_id or handle), handle=Handle(handle), since_ms=1)
    directory.run(partial(accounts.put_contact, owner=acct_of(directory, "alice"), contact=contact))


def found(directory: Directory, name: str, server: str | None = None, **how: object) -> list[str]:
    return [hit.handle for hit in directory.hits("alice", name, server, **how)]  # type: ignore[arg-type]


class TestExactAndBeginning:
    def test_exact_names_come_before_prefixes_and_ones_own_server_before_others(self, directory: Directory) -> None:
        assert found(directory, "alice") == ["@alice:hs1.test", "@alice:hs2.test"]
        assert found(directory, "alic") == [
            "@alice:hs1.test",
            "@alicia:hs1.test",
            "@alice:hs2.test",
            "@alicia:hs2.test",
        ]

    @pytest.mark.parametrize(
        ("name", "server", "is_found"),
        [
            ("alison", None, True),
            ("aliso", None, False),
            ("alison", "hs1.test", True),
            ("alison", "hs1.tes", False),
            ("alina", None, False),
            ("alina", "hs1.test", True),
            ("alina", "hs1", False),
            ("alima", None, False),
            ("alima", "hs1.test", False),
            ("alicia", "hs1", True),
        ],
    )
    def test_who_is_not_public_is_found_as_they_chose(
        self, directory: Directory, name: str, server: str | None, is_found: bool
    ) -> None:
        assert (f"@{name}:hs1.test" in found(directory, name, server)) == is_found

    def test_a_full_handle_finds_the_one_and_a_typed_server_narrows(self, directory: Directory) -> None:
        assert found(directory, "alice", "hs2.test") == ["@alice:hs2.test"]
        assert found(directory, "alice", "h") == ["@alice:hs1.test", "@alice:hs2.test"]
        assert found(directory, "alice", "x") == []
        assert [hit.match for hit in directory.hits("alice", "alice", "hs2.test")] == [Match.EXACT]
        assert {hit.match for hit in directory.hits("alice", "alice", "hs")} == {Match.BEGINNING}

    def test_frozen_expired_and_unknown_names_are_not_found(self, directory: Directory) -> None:
        assert found(directory, "alf") == []
        assert found(directory, "zoe") == []
        directory.now_ms += 31 * DAY_MS
        assert found(directory, "alyssa") == []

    def test_the_exact_name_is_found_among_any_number_that_begin_with_it(self, directory: Directory) -> None:
        replicate(directory, *(f"alice{number:03d}" for number in range(200)), server=ServerName("hs3.test"))
        for limit in (1, 2, 10):
            assert found(directory, "alice", limit=limit)[0] == "@alice:hs1.test"

    def test_no_more_than_the_limit(self, directory: Directory) -> None:
        assert len(found(directory, "al", limit=3)) == 3


class TestPeople:
    def test_contacts_come_first_in_their_tier_and_are_found_even_when_hidden(self, directory: Directory) -> None:
        befriend(directory, "@alyssa:hs2.test")
        befriend(directory, "@alima:hs2.test")
        hits = directory.hits("alice", "al")
        assert [hit.handle for hit in hits[:2]] == ["@alima:hs2.test", "@alyssa:hs2.test"]
        assert {hit.handle for hit in hits if hit.contact} == {"@alima:hs2.test", "@alyssa:hs2.test"}

    def test_a_contact_is_one_under_another_handle_too_and_only_for_whose_it_is(self, directory: Directory) -> None:
        befriend(directory, "@other:hs2.test", "@alyssa:hs2.test")
        assert [hit.contact for hit in directory.hits("alice", "alyssa")] == [True]
        assert [hit.contact for hit in directory.hits("alicia", "alyssa")] == [False]

    def test_somebody_who_never_used_the_directory_searches_all_the_same(self, directory: Directory) -> None:
        assert [hit.handle for hit in directory.hits("nobody", "alyssa")] == ["@alyssa:hs2.test"]

    def test_people_who_are_left_out_take_no_place_of_others(self, directory: Directory) -> None:
        assert found(directory, "alic", hidden={"@alice:hs1.test", "@alicia:hs1.test"}, limit=2) == [
            "@alice:hs2.test",
            "@alicia:hs2.test",
        ]
        assert found(directory, "alcie", hidden={"@alice:hs1.test", "@alice:hs2.test"}) == []

    def test_who_shares_a_room_comes_before_who_does_not(self, directory: Directory) -> None:
        assert found(directory, "aly", mutual={"@alyssa:hs2.test"}) == ["@alyssa:hs2.test"]
        replicate(directory, "alya", server=ServerName("hs3.test"))
        assert found(directory, "aly") == ["@alya:hs3.test", "@alyssa:hs2.test"]
        assert found(directory, "aly", mutual={"@alyssa:hs2.test"}) == ["@alyssa:hs2.test", "@alya:hs3.test"]

    def test_verified_people_are_found_among_any_number_of_others(self, directory: Directory) -> None:
        replicate(directory, *(f"bank{number:03d}" for number in range(200)))
        verified = foreign("bankzz", badges=[BADGE])
        directory.run(lambda cur: store.put_replicas(cur, [verified], NOW_MS))
        first = directory.hits("alice", "ban")[0]
        assert (first.handle, first.badges) == ("@bankzz:hs2.test", (BADGE,))
        plain = foreign("bankzz", issued_ms=NOW_MS + 1)
        directory.run(lambda cur: store.put_replicas(cur, [plain], NOW_MS))
        assert found(directory, "ban")[0] == "@bank000:hs2.test"


class TestMistyped:
    @pytest.mark.parametrize("typed", ["alcie", "alicee", "alce", "akice", "xalice"])
    def test_one_typing_error_finds_the_name_all_the_same(self, directory: Directory, typed: str) -> None:
        assert found(directory, typed)[:2] == ["@alice:hs1.test", "@alice:hs2.test"]

    @pytest.mark.parametrize("typed", ["alxxce", "allis", "aljson", "ali.na", "alff", "alicex:hs1.test"])
    def test_two_errors_and_who_is_not_public_or_not_active_are_not_found_by_error(
        self, directory: Directory, typed: str
    ) -> None:
        name, _, server = typed.partition(":")
        assert found(directory, name, server or None) == []

    def test_typing_errors_come_after_what_was_typed(self, directory: Directory) -> None:
        directory.register("alicey", Discover.PUBLIC)
        directory.register("zlice", Discover.PUBLIC)
        assert found(directory, "alice") == [
            "@alice:hs1.test",
            "@alice:hs2.test",
            "@alicey:hs1.test",
            "@zlice:hs1.test",
        ]

    def test_a_name_that_reads_as_a_word_of_the_database_is_found(self, directory: Directory) -> None:
        replicate(directory, "null")
        assert found(directory, "nulll") == ["@null:hs2.test"]


class TestParts:
    @pytest.fixture(autouse=True)
    def prepared(self, directory: Directory) -> None:
        directory.run(search_store.prepare_parts)
        assert directory.run(search_store.has_parts)

    def parts(self, directory: Directory, part: str, hidden: Collection[str] = ()) -> list[str]:
        """Handles that have it in them, without those that begin with it or are one typing error away."""
        hits = directory.hits("alice", part, hidden=hidden, parts=True)
        return [hit.handle for hit in hits if hit.match is Match.PART]

    def test_what_is_somewhere_in_a_public_name_finds_it(self, directory: Directory) -> None:
        assert self.parts(directory, "lic") == [
            "@alice:hs1.test",
            "@alicia:hs1.test",
            "@alice:hs2.test",
            "@alicia:hs2.test",
        ]
        assert self.parts(directory, "yssa") == ["@alyssa:hs2.test"]
        assert self.parts(directory, "yssa", hidden={"@alyssa:hs2.test"}) == []

    @pytest.mark.parametrize("part", ["ison", "ina", "ima", "alf", "a_i", "%li", "zzz"])
    def test_who_is_not_public_or_not_active_is_not_and_a_separator_means_itself(
        self, directory: Directory, part: str
    ) -> None:
        assert self.parts(directory, part) == []

    def test_who_comes_and_goes_is_found_and_found_no_more(self, directory: Directory) -> None:
        directory.claim(acct_of(directory, "alison"), "alison", discover=Discover.PUBLIC)
        assert self.parts(directory, "ison") == ["@alison:hs1.test"]
        directory.claim(acct_of(directory, "alison"), "alison", discover=Discover.NONE)
        assert self.parts(directory, "ison") == []
        directory.run(lambda cur: search_store.forget_unused_parts(cur, turn=0))
        assert self.parts(directory, "ison") == []
        directory.claim(acct_of(directory, "alison"), "alison", discover=Discover.PUBLIC)
        assert self.parts(directory, "ison") == ["@alison:hs1.test"]
        assert self.parts(directory, "yssa") == ["@alyssa:hs2.test"]
        directory.run(lambda cur: store.forget_feed_of(cur, THERE))
        assert self.parts(directory, "yssa") == []

    def test_turns_that_follow_one_another_drop_every_name_that_nobody_has_and_no_other(
        self, directory: Directory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if directory.run(lambda cur: cur.engine) is not Engine.SQLITE:
            # PostgreSQL's index is of the rows themselves.
            return
        monkeypatch.setattr(search_store, "PARTS_A_TURN", 2)
        replicate(directory, *(f"visitor{number}" for number in range(7)), server=ServerName("hs9.test"))
        directory.run(lambda cur: store.forget_feed_of(cur, ServerName("hs9.test")))

        def names(cur: Cursor) -> set[str]:
            cur.execute("SELECT name FROM superapp_directory_part_name")
            return {str(row[0]) for row in cur.fetchall()}

        public = {"alice", "alicia", "alyssa", "alf"}
        assert directory.run(names) == public | {f"visitor{number}" for number in range(7)}
        for turn in range(100, 107):
            directory.run(partial(search_store.forget_unused_parts, turn=turn))
        assert directory.run(names) == public

    def test_names_from_before_the_index_are_in_it(self, directory: Directory) -> None:
        """On SQLite its migration fills it, on PostgreSQL making it does; both saw rows that were there."""
        directory.run(search_store.prepare_parts)
        assert len(self.parts(directory, "lic")) == 4


@pytest.mark.parametrize("engine", [Engine.POSTGRESQL], indirect=True)
def test_without_the_extension_a_database_says_that_it_cannot_search_for_parts(directory: Directory) -> None:
    assert not directory.run(search_store.has_parts)


class Counting:
    """A cursor that counts statements."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self.statements = 0

    def __getattr__(self, name: str) -> object:
        self.statements += name.startswith("execute")
        return getattr(self._cursor, name)


@pytest.mark.parametrize(("typed", "statements"), [("alic", 1), ("alice", 2), ("zzzzz", 2), ("zz", 1)])
def test_a_search_takes_one_statement_and_one_more_for_typing_errors(
    directory: Directory, typed: str, statements: int
) -> None:
    def work(cur: Cursor) -> int:
        counting = Counting(cur)
        question = directory.question("alice", typed, limit=4)
        search.find(counting, question, lambda *_: (), lambda *_: ())  # type: ignore[arg-type]
        return counting.statements

    assert directory.run(work) == statements


class Explaining:
    """A cursor that keeps the plan of each query that runs."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self.plans: list[str] = []

    def execute(self, sql: Any, parameters: Any = ()) -> None:
        explain: Any = "EXPLAIN QUERY PLAN " if self._cursor.engine is Engine.SQLITE else "EXPLAIN "
        self._cursor.execute(explain + sql, parameters)
        self.plans.append("\n".join(str(row) for row in self._cursor.fetchall()))
        self._cursor.execute(sql, parameters)

    def __getattr__(self, name: str) -> object:
        return getattr(self._cursor, name)


@pytest.mark.parametrize("server", [None, "hs2.test"])
def test_no_search_reads_all_that_is_replicated(directory: Directory, server: str | None) -> None:
    def work(cur: Cursor) -> list[str]:
        if cur.engine is Engine.POSTGRESQL:
            # With a handful of rows it would read them all.
            cur.execute("SET LOCAL enable_seqscan = off")
        explaining: Any = Explaining(cur)
        question = directory.question("alice", "alice", server, limit=4)
        search.find(explaining, question, lambda *_: (), lambda *_: ())
        return list(explaining.plans)

    plans = directory.run(work)
    assert plans
    for plan in plans:
        assert "SCAN r" not in plan
        assert "Seq Scan on superapp_directory_replica" not in plan
    if directory.run(lambda cur: cur.engine) is Engine.POSTGRESQL and server is None:
        # Which of several indexes it takes for a handful of rows says little; this one holds nothing else.
        assert "superapp_directory_replica_moved" in plans[0]
