"""Homeservers restored from backups: the log goes on where they say so, and nothing is rewritten on the way."""

import sqlite3
from typing import Any

import pytest
from fake_api import FakeModuleApi, FakePrivateApi
from test_directory_evidence import admin_of, grow, known_to
from test_directory_module import HS2, Pair, reason_of
from test_directory_module import _directory as directory_of

from super_app.directory.model import DAY_MS
from super_app.errors import Reason
from super_app.ids import ServerName
from super_app.names import FederationQuery
from synapse_super_app.people import Person

DAY_S = DAY_MS / 1_000


class Restored(Pair):
    """The second homeserver has a backup, from before it issued records that the first one has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.advance(61)
        self.backup = sqlite3.connect(":memory:")
        self.hs2._database.backup(self.backup)
        self.kept = known_to(self.hs1)
        self.admin = admin_of(self.hs1)
        self.times = 0

    def lose(self) -> None:
        """What happens after the backup, and is seen."""
        self.advance(61)
        grow(self.hs2, self.carol, 3)
        self.hs2.call("PUT", "handles/bobby", self.bob)
        self.advance(61)
        assert known_to(self.hs1).size > self.kept.size

    def restore(self, *, marked: bool = True, asked: bool = True) -> None:
        self.times += 1
        if not asked:
            self.disconnect()
        self.backup.backup(self.hs2._database)
        if marked:
            self.hs2._database.execute(
                "INSERT INTO superapp_directory_restore (restore_id, restored_ms) VALUES (?, ?)",
                (f"restore:{self.times}", self.hs2.now_ms()),
            )
        # The process is another one; restart() would stop the clocks of both homeservers.
        self.hs2.api, self.hs2.private = FakeModuleApi(self.hs2), FakePrivateApi(self.hs2)
        self.hs2.start()
        self.connect()

    def shown(self) -> dict[str, Any]:
        found: dict[str, Any] = self.hs1.call("GET", "admin/directory/evidence", self.admin)
        return found

    def kinds(self) -> list[str]:
        return [each["kind"] for each in self.shown()["evidence"]]


@pytest.fixture
def pair() -> Restored:
    return Restored()


class TestHonest:
    def test_its_log_goes_on_and_everybody_is_shown_that(self, pair: Restored) -> None:
        pair.lose()
        before = known_to(pair.hs1)
        pair.restore()
        pair.advance(61)
        assert pair.kinds() == []
        (restore,) = pair.shown()["restores"]
        assert (restore["server"], restore["number"], restore["before"]) == (HS2, 1, before.note)
        assert restore["kept"] == pair.kept.size < before.size
        # What it does from now on is seen, whatever the feed's positions were.
        pair.hs2.call("PUT", "handles/bobby", pair.bob)
        pair.hs2.call("PUT", "handles/carolyn", pair.carol)
        pair.advance(61)
        for handle, user_id in (("@bobby:hs2.test", pair.bob), ("@carolyn:hs2.test", pair.carol)):
            found = pair.resolve(handle)
            assert isinstance(found, Person)
            assert found.user_id == user_id
        assert known_to(pair.hs1).size > restore["kept"]
        assert pair.kinds() == []

    def test_a_peer_that_could_not_be_asked_is_named_when_it_is_heard(self, pair: Restored) -> None:
        pair.lose()
        pair.restore(asked=False)
        # Refused, and not proved: the restore is declared, and this peer not yet named.
        assert reason_of(pair.resolve("@carol:hs2.test", max_age_ms=0)) is Reason.BAD_RECORD
        pair.hs2.result(directory_of(pair.hs2)._gossip.listen(ServerName("hs1.test")))
        pair.advance(10)
        assert isinstance(pair.resolve("@carol:hs2.test", max_age_ms=0), Person)
        assert len(pair.shown()["restores"]) == 1
        assert pair.kinds() == []

    def test_where_nothing_was_lost_nothing_happens(self, pair: Restored) -> None:
        pair.restore()
        pair.advance(61)
        grow(pair.hs2, pair.carol, 2)
        pair.advance(61)
        assert isinstance(pair.resolve("@carol:hs2.test"), Person)
        assert pair.shown() == {"evidence": [], "restores": []}

    def test_nobody_is_answered_before_the_peers_were_asked(self, pair: Restored) -> None:
        pair.lose()
        own = directory_of(pair.hs2)._generations
        own._settled, own._looked_ms = False, -10_000
        pair.hs2._database.execute("INSERT INTO superapp_directory_restore (restore_id, restored_ms) VALUES ('r', 1)")
        assert reason_of(pair.resolve("@dora:hs2.test")) is Reason.PEER_UNREACHABLE
        pair.hs2.result(own.settle())
        assert reason_of(pair.resolve("@emil:hs2.test")) is Reason.UNKNOWN_HANDLE

    def test_a_new_key_signs_the_declaration_anew(self, pair: Restored) -> None:
        pair.lose()
        pair.restore()
        pair.hs2.result(directory_of(pair.hs2)._own.rotate_key())
        pair.advance(61)
        assert pair.kinds() == []
        assert len(pair.shown()["restores"]) == 1
        assert isinstance(pair.resolve("@carol:hs2.test"), Person)


class TestLiars:
    def test_whoever_declares_nothing_is_frozen_as_ever(self, pair: Restored) -> None:
        pair.lose()
        pair.restore(marked=False)
        pair.advance(61)
        assert pair.kinds() == ["rollback"]
        assert reason_of(pair.resolve("@carol:hs2.test")) is Reason.SERVER_FROZEN

    @pytest.mark.parametrize("withdraws", [False, True])
    def test_a_name_that_changes_hands_on_the_way_is_refused_with_proof(self, pair: Restored, withdraws: bool) -> None:
        pair.lose()
        before = pair.resolve("@bobby:hs2.test")
        assert isinstance(before, Person)
        pair.restore()
        if withdraws:
            pair.hs2.call("PUT", "handles/bobby", pair.bob, {"discover": "link"})
            pair.advance(61)
            pair.hs2._database.execute("DELETE FROM superapp_directory_skeleton WHERE name = 'bobby'")
            pair.hs2._database.execute(
                "UPDATE superapp_directory_handle SET state = 'free', released_ms = 1 WHERE name = 'bobby'"
            )
        pair.hs2.call("PUT", "handles/bobby", pair.carol, {"discover": "public"})
        pair.advance(61)
        assert pair.kinds() == ["rewrite"]
        proof = pair.shown()["evidence"][0]["evidence"]
        assert (proof["first"]["acct"], proof["second"]["user_id"]) == (before.acct, pair.carol)
        assert reason_of(pair.resolve("@bobby:hs2.test")) is Reason.HANDLE_FROZEN
        # The others of that homeserver are dealt with; and after ninety days the name is whose it is.
        assert isinstance(pair.resolve("@carol:hs2.test"), Person)
        pair.hs1._database.execute("UPDATE superapp_directory_guarded SET until_ms = 1")
        assert isinstance(pair.resolve("@bobby:hs2.test"), Person)

    def test_a_second_restore_within_a_month_is_none(self, pair: Restored) -> None:
        for kinds in ([], ["rollback"]):
            pair.lose()
            pair.restore()
            pair.advance(61)
            assert pair.kinds() == kinds

    def test_a_declaration_that_never_names_what_was_seen_is_a_contradiction_in_the_end(self, pair: Restored) -> None:
        pair.lose()
        pair.restore(asked=False)
        honest = pair.hs1.private.queries[FederationQuery.DIRECTORY_PEERS]

        async def nothing(arguments: Any) -> dict[str, Any]:
            return {**await honest(arguments), "peers": []}

        pair.hs1.private.queries[FederationQuery.DIRECTORY_PEERS] = nothing
        for days, reason in ((0, Reason.BAD_RECORD), (6.9, Reason.BAD_RECORD), (0.2, Reason.SERVER_FROZEN)):
            pair.hs1.clock.advance(days * DAY_S)
            assert reason_of(pair.resolve("@carol:hs2.test", max_age_ms=0)) is reason

    def test_a_declaration_that_another_key_signed_is_none(self, pair: Restored) -> None:
        pair.lose()
        pair.restore()
        for name in (FederationQuery.DIRECTORY_RESOLVE, FederationQuery.DIRECTORY_FEED, FederationQuery.DIRECTORY_HEAD):
            pair.intercept(name, lambda answer: {**answer, "generation": {**answer["generation"], "number": 2}})
        pair.advance(61)
        assert pair.kinds() == ["rollback"]
