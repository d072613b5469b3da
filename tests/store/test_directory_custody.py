"""How names are guarded in the database: reservations, the pace of claims, what is never free again, acts."""

import itertools
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from directory_books import FACTS, HERE, ISSUER, POLICY, Directory
from engines import Database

from super_app.db import Cursor, Engine, Transaction
from super_app.directory import custody, custody_store, rules, service, store
from super_app.directory.custody_model import RESERVED_FOR_MS, Act, Mandate, Pace, Reservation
from super_app.directory.model import (
    DAY_MS,
    AskedBy,
    Discover,
    FrozenFor,
    Holding,
    KeptFor,
    Name,
    Role,
    State,
)
from super_app.directory.naming import skeleton
from super_app.directory.service import Wish
from super_app.errors import Reason, Refused
from super_app.ids import Acct, Handle, UserId

pytestmark = pytest.mark.packages("super_app.accounts", "super_app.directory")

ADMIN = UserId("@admin:hs1.test")
WHY = Mandate(operator=ADMIN, reason="a letter of 3 May")


class Paid:
    """Everybody was paid under these handles."""

    def __init__(self, *handles: str) -> None:
        self._handles = handles

    def has_received(self, cur: Cursor, acct: Acct, handle: Handle) -> bool:
        return handle in self._handles


@pytest.fixture
def directory(transaction: Transaction) -> Directory:
    return Directory(run=transaction)


def held(directory: Directory, name: str) -> Holding:
    found = directory.run(lambda cur: store.holding(cur, Name(name)))
    assert found is not None
    return found


def reserve(directory: Directory, acct: Acct, name: str, pace: Pace | None = None) -> Reservation | Refused:
    return directory.run(
        lambda cur: service.reserve(
            cur, acct, name, policy=POLICY, localpart_of=None, now_ms=directory.now_ms, pace=pace
        )
    )


def release_paid(directory: Directory, acct: Acct, name: str) -> None:
    """People were paid under @wonder and under no other name."""
    paid = Paid("@wonder:hs1.test")
    directory.run(
        lambda cur: service.release(cur, ISSUER, acct, name, facts=FACTS, takings=paid, now_ms=directory.now_ms)
    )


def reason_of(answer: object) -> Reason:
    assert isinstance(answer, Refused), answer
    return answer.reason


def act(directory: Directory, function: Callable[..., Mapping[str, Any] | Refused], *more: Any, **kw: Any) -> Any:
    return directory.run(lambda cur: function(cur, ISSUER, *more, **{"facts": FACTS, **kw}, now_ms=directory.now_ms))


class TestReserving:
    def test_a_reserved_name_and_its_look_alikes_are_nobody_elses_until_it_is_confirmed(
        self, directory: Directory
    ) -> None:
        alice, bob = directory.register("alice"), directory.register("bob")
        assert reserve(directory, alice, "wonder") == Reservation(
            name=Name("wonder"), acct=alice, until_ms=directory.now_ms + RESERVED_FOR_MS
        )
        assert directory.refusal(bob, "wonder") is Reason.HANDLE_TAKEN
        assert directory.refusal(bob, "w0nder") is Reason.HANDLE_LOOKALIKE
        assert reason_of(reserve(directory, bob, "w0nder")) is Reason.HANDLE_LOOKALIKE
        wonder = UserId(f"@wonder:{HERE}")
        assert directory.run(lambda cur: service.blocks_registration(cur, wonder, directory.now_ms))
        directory.now_ms += RESERVED_FOR_MS - 1
        assert directory.claim(alice, "wonder")["status"] == "active"
        directory.now_ms += DAY_MS
        directory.run(lambda cur: service.tidy(cur, directory.now_ms))
        assert directory.refusal(bob, "w0nder") is Reason.HANDLE_LOOKALIKE

    def test_it_ends_by_itself_whether_it_was_swept_away_or_not(self, directory: Directory) -> None:
        alice, bob = directory.register("alice"), directory.register("bob")
        reserve(directory, alice, "wonder")
        directory.now_ms += RESERVED_FOR_MS
        wonder = UserId(f"@wonder:{HERE}")
        assert not directory.run(lambda cur: service.blocks_registration(cur, wonder, directory.now_ms))
        directory.claim(bob, "w0nder")
        reserve(directory, alice, "mirror")
        directory.now_ms += RESERVED_FOR_MS
        directory.run(lambda cur: service.tidy(cur, directory.now_ms))
        assert directory.run(lambda cur: store.name_with_skeleton(cur, skeleton("mirror"))) is None

    def test_an_account_has_one_at_a_time(self, directory: Directory) -> None:
        alice, bob = directory.register("alice"), directory.register("bob")
        reserve(directory, alice, "wonder")
        reserve(directory, alice, "w0nder")
        reserve(directory, alice, "mirror")
        directory.claim(bob, "wonder")
        assert directory.refusal(bob, "m1rror") is Reason.HANDLE_LOOKALIKE

    def test_ones_own_name_needs_no_reservation_and_a_forbidden_one_gets_none(self, directory: Directory) -> None:
        alice = directory.register("alice")
        directory.claim(alice, "wonder")
        assert isinstance(reserve(directory, alice, "wonder"), Reservation)
        assert directory.run(lambda cur: custody_store.reservation_of(cur, alice)) is None
        assert reason_of(reserve(directory, alice, "postmaster")) is Reason.HANDLE_RESERVED

    @pytest.mark.parametrize("engine", [Engine.POSTGRESQL], indirect=True)
    @pytest.mark.usefixtures("engine")
    def test_of_a_crowd_that_reserves_and_claims_look_alikes_exactly_one_has_it(self, database: Database) -> None:
        setup = Directory(run=database.connect(rerun=False))
        spellings = itertools.cycle(["wonder", "w0nder", "vvonder", "won.der"])
        accts = [setup.register(f"user{number}") for number in range(40)]
        tries: queue.Queue[tuple[Acct, str, bool]] = queue.Queue()
        for acct, name, reserves in zip(accts, spellings, itertools.cycle([True, False, True]), strict=False):
            tries.put((acct, name, reserves))
        outcomes: list[object] = []

        def work(directory: Directory) -> None:
            while True:
                try:
                    acct, name, reserves = tries.get_nowait()
                except queue.Empty:
                    return
                outcomes.append(reserve(directory, acct, name) if reserves else directory.put(acct, name))

        threads = [
            threading.Thread(target=work, args=(Directory(run=database.connect(rerun=False)),)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert len(outcomes) == 40
        assert sum(not isinstance(outcome, Refused) for outcome in outcomes) == 1


class TestPace:
    def put(self, directory: Directory, acct: Acct, name: str, address: str = "") -> Mapping[str, Any] | Refused:
        return directory.run(
            lambda cur: service.put(
                cur,
                ISSUER,
                acct,
                name,
                Wish(role=Role.ALIAS, discover=None),
                facts=FACTS,
                policy=POLICY,
                localpart_of=None,
                default_discover=Discover.EXACT,
                now_ms=directory.now_ms,
                pace=Pace(per_account=2, per_address=3, address=address),
            )
        )

    def test_an_account_takes_so_many_names_a_week_released_ones_included(self, directory: Directory) -> None:
        alice = directory.register("alice")
        for name in ("mirror", "rabbit"):
            assert not isinstance(self.put(directory, alice, name), Refused)
            directory.release(alice, name)
        refused = self.put(directory, alice, "hatter")
        assert isinstance(refused, Refused)
        assert (refused.reason, refused.fields["retry_after_ms"]) == (Reason.TOO_MANY_REQUESTS, 7 * DAY_MS)
        pace = Pace(per_account=2, per_address=3, address="")
        assert reason_of(reserve(directory, alice, "hatter", pace)) is Reason.TOO_MANY_REQUESTS
        # What is one's own already is no new name.
        assert not isinstance(self.put(directory, alice, "mirror"), Refused)
        directory.now_ms += 7 * DAY_MS
        assert not isinstance(self.put(directory, alice, "hatter"), Refused)

    def test_the_accounts_of_one_address_share_a_limit_and_unknown_addresses_have_none(
        self, directory: Directory
    ) -> None:
        accts = [directory.register(f"user{number}") for number in range(8)]
        names = iter(["mirror", "rabbit", "hatter", "dormouse", "walrus", "carpenter", "turtle", "gryphon"])
        for acct in accts[:3]:
            assert not isinstance(self.put(directory, acct, next(names), "a network"), Refused)
        assert reason_of(self.put(directory, accts[3], next(names), "a network")) is Reason.TOO_MANY_REQUESTS
        for acct in accts[4:]:
            assert not isinstance(self.put(directory, acct, next(names), ""), Refused)
        directory.now_ms += DAY_MS
        assert not isinstance(self.put(directory, accts[3], "dormouse", "a network"), Refused)

    def test_what_was_counted_is_forgotten_after_a_week(self, directory: Directory) -> None:
        alice = directory.register("alice")
        self.put(directory, alice, "mirror", "a network")
        directory.now_ms += 7 * DAY_MS
        directory.run(lambda cur: service.tidy(cur, directory.now_ms))
        assert directory.run(_count) == 0


def _count(cur: Cursor) -> int:
    cur.execute("SELECT COUNT(*) FROM superapp_directory_claim")
    row = cur.fetchone()
    assert row is not None
    return int(row[0] or 0)


class TestNeverFreeAgain:
    def test_a_name_under_which_people_were_paid(self, directory: Directory) -> None:
        alice, bob = directory.register("alice"), directory.register("bob")
        for name in ("wonder", "mirror"):
            directory.claim(alice, name, role=Role.ALIAS)
            release_paid(directory, alice, name)
        assert (held(directory, "wonder").kept_for, held(directory, "mirror").kept_for) == (KeptFor.PAID, None)
        directory.now_ms += 30 * DAY_MS - 1
        assert directory.claim(alice, "wonder", role=Role.ALIAS)["status"] == "active"
        directory.release(alice, "wonder")
        directory.now_ms += 3_650 * DAY_MS
        assert directory.refusal(bob, "wonder") is Reason.HANDLE_TAKEN
        assert directory.refusal(bob, "w0nder") is Reason.HANDLE_LOOKALIKE
        assert directory.refusal(alice, "wonder") is Reason.HANDLE_TAKEN
        wonder = UserId(f"@wonder:{HERE}")
        assert directory.run(lambda cur: service.blocks_registration(cur, wonder, directory.now_ms))
        directory.claim(bob, "mirror")

    def test_a_deactivated_account_leaves_it_behind_too(self, directory: Directory) -> None:
        alice, bob = directory.register("alice"), directory.register("bob")
        directory.claim(alice, "wonder")
        directory.run(
            lambda cur: service.retire(
                cur, ISSUER, alice, facts=FACTS, takings=Paid("@wonder:hs1.test"), now_ms=directory.now_ms
            )
        )
        directory.now_ms += 91 * DAY_MS
        assert directory.refusal(bob, "wonder") is Reason.HANDLE_TAKEN

    def test_an_account_of_that_localpart_freezes_it_as_any_other(self, directory: Directory) -> None:
        alice = directory.register("alice")
        directory.claim(alice, "wonder")
        release_paid(directory, alice, "wonder")
        directory.now_ms += 91 * DAY_MS
        directory.register("wonder")
        assert held(directory, "wonder").frozen_for is FrozenFor.AMBIGUOUS


class TestActs:
    def test_a_revoked_name_is_gone_and_only_the_operator_gives_it_again(self, directory: Directory) -> None:
        alice, bob = directory.register("alice"), directory.register("bob")
        directory.claim(alice, "wonder")
        assert act(directory, custody.revoke, "Wonder", WHY)["status"] == "released"
        primary = directory.run(lambda cur: store.primary_of(cur, UserId("@alice:hs1.test")))
        assert primary is not None
        assert primary.name == "alice"
        assert directory.refusal(alice, "wonder") is Reason.HANDLE_TAKEN
        directory.now_ms += 1_000 * DAY_MS
        assert directory.refusal(bob, "wonder") is Reason.HANDLE_TAKEN
        assert directory.refusal(bob, "w0nder") is Reason.HANDLE_LOOKALIKE
        facts = {"facts": {alice: FACTS, bob: FACTS}, "discover": Discover.EXACT}
        given = act(directory, custody.transfer, "wonder", bob, WHY, **facts)
        assert (given["acct"], given["status"], held(directory, "wonder").kept_for) == (bob, "active", None)

    def test_a_frozen_name_says_so_and_comes_back_to_its_holder(self, directory: Directory) -> None:
        alice = directory.register("alice")
        directory.claim(alice, "wonder", discover=Discover.PUBLIC)
        frozen = act(directory, custody.freeze, "wonder", FrozenFor.OPERATOR, WHY, claimant=None)
        assert (frozen["status"], frozen["frozen_for"]) == ("frozen", "operator")
        assert directory.hits("alice", "wonder") == ()
        assert directory.refusal(alice, "wonder") is Reason.HANDLE_FROZEN
        assert reason_of(directory.release(alice, "wonder")) is Reason.HANDLE_FROZEN
        again = act(directory, custody.freeze, "wonder", FrozenFor.DISPUTE, WHY, claimant=None)
        assert reason_of(again) is Reason.HANDLE_FROZEN
        assert act(directory, custody.unfreeze, "wonder", WHY)["status"] == "active"
        assert reason_of(act(directory, custody.unfreeze, "wonder", WHY)) is Reason.INVALID_VALUE
        assert [hit.handle for hit in directory.hits("alice", "wonder")] == ["@wonder:hs1.test"]

    def test_a_localpart_can_be_frozen_and_never_be_taken_away(self, directory: Directory) -> None:
        alice, bob = directory.register("alice"), directory.register("bob")
        assert act(directory, custody.freeze, "alice", FrozenFor.OPERATOR, WHY, claimant=None)["status"] == "frozen"
        assert reason_of(act(directory, custody.revoke, "alice", WHY)) is Reason.NOT_ALLOWED
        facts = {"facts": {alice: FACTS, bob: FACTS}, "discover": Discover.EXACT}
        assert reason_of(act(directory, custody.transfer, "alice", bob, WHY, **facts)) is Reason.NOT_ALLOWED

    def test_a_dispute_freezes_it_and_a_transfer_ends_it(self, directory: Directory) -> None:
        alice, bob = directory.register("alice"), directory.register("bob")
        directory.claim(alice, "wonder", discover=Discover.PUBLIC)
        directory.claim(alice, "mirror", role=Role.ALIAS)
        bob_id = UserId("@bob:hs1.test")
        act(directory, custody.freeze, "wonder", FrozenFor.DISPUTE, WHY, claimant=bob_id)
        assert held(directory, "wonder").contested_by == bob_id
        facts = {"facts": {alice: FACTS, bob: FACTS}, "discover": Discover.PUBLIC}
        given = act(directory, custody.transfer, "wonder", bob, WHY, **facts)
        assert (given["acct"], given["user_id"]) == (bob, bob_id)
        mirror = directory.record_of(alice, "mirror")
        assert mirror is not None
        assert "alias_of" not in mirror
        found = directory.run(lambda cur: service.find(cur, "wonder", AskedBy.HANDLE))
        assert found is not None
        assert (found.user_id, found.primary, found.contested_by) == (bob_id, False, None)
        assert directory.refusal(alice, "wonder") is Reason.HANDLE_TAKEN

    def test_an_ambiguous_name_is_settled_and_neither_unfrozen_nor_transferred(self, directory: Directory) -> None:
        alice = directory.register("alice")
        directory.claim(alice, "wonder")
        wonder = directory.register("wonder")
        assert reason_of(act(directory, custody.unfreeze, "wonder", WHY)) is Reason.AMBIGUOUS_PAYEE
        assert (
            reason_of(act(directory, custody.freeze, "wonder", FrozenFor.OPERATOR, WHY, claimant=None))
            is Reason.AMBIGUOUS_PAYEE
        )
        facts = {"facts": {alice: FACTS, wonder: FACTS}, "discover": Discover.EXACT}
        assert reason_of(act(directory, custody.transfer, "wonder", wonder, WHY, **facts)) is Reason.AMBIGUOUS_PAYEE
        user_id = UserId("@wonder:hs1.test")
        settled = act(directory, custody.grant, wonder, user_id, "wonder", WHY, discover=Discover.EXACT)
        assert settled["acct"] == wonder

    def test_nothing_is_done_to_a_name_that_nobody_has(self, directory: Directory) -> None:
        alice = directory.register("alice")
        facts = {"facts": {alice: FACTS}, "discover": Discover.EXACT}
        for answer in (
            act(directory, custody.revoke, "nobody", WHY),
            act(directory, custody.freeze, "nobody", FrozenFor.OPERATOR, WHY, claimant=None),
            act(directory, custody.unfreeze, "nobody", WHY),
            act(directory, custody.transfer, "nobody", alice, WHY, **facts),
        ):
            assert reason_of(answer) is Reason.UNKNOWN_HANDLE
        assert directory.run(lambda cur: custody_store.deeds(cur, None, 10)) == ()

    def test_each_act_is_in_the_log_with_who_when_and_why(self, directory: Directory) -> None:
        alice, bob = directory.register("alice"), directory.register("bob")
        act(directory, custody.grant, alice, UserId("@alice:hs1.test"), "Al", WHY, discover=Discover.EXACT)
        directory.now_ms += 1
        facts = {"facts": {alice: FACTS, bob: FACTS}, "discover": Discover.EXACT}
        act(directory, custody.transfer, "al", bob, WHY, **facts)
        act(directory, custody.freeze, "al", FrozenFor.DISPUTE, WHY, claimant=None)
        act(directory, custody.unfreeze, "al", WHY)
        act(directory, custody.freeze, "al", FrozenFor.OPERATOR, WHY, claimant=None)
        act(directory, custody.revoke, "al", Mandate(operator=ADMIN, reason="a judgment"))
        deeds = directory.run(lambda cur: custody_store.deeds(cur, None, 10))
        told = [(each.seq, each.act, each.from_user_id, each.to_user_id) for each in reversed(deeds)]
        alice_id, bob_id = "@alice:hs1.test", "@bob:hs1.test"
        assert told == [
            (1, Act.GRANT, None, alice_id),
            (2, Act.TRANSFER, alice_id, bob_id),
            (3, Act.DISPUTE, bob_id, None),
            (4, Act.UNFREEZE, bob_id, bob_id),
            (5, Act.FREEZE, bob_id, None),
            (6, Act.REVOKE, bob_id, None),
        ]
        assert {each.operator for each in deeds} == {ADMIN}
        assert (deeds[0].reason, deeds[0].at_ms, deeds[0].name) == ("a judgment", directory.now_ms, "al")
        assert directory.run(lambda cur: custody_store.deeds_about(cur, Name("al"), 2)) == deeds[:2]
        assert directory.run(lambda cur: custody_store.deeds(cur, 3, 1)) == (deeds[4],)

    @pytest.mark.parametrize(
        "change", ["UPDATE superapp_directory_act SET reason = ''", "DELETE FROM superapp_directory_act"]
    )
    def test_the_database_refuses_to_change_the_log(self, directory: Directory, change: Any) -> None:
        alice = directory.register("alice")
        act(directory, custody.grant, alice, UserId("@alice:hs1.test"), "al", WHY, discover=Discover.EXACT)
        with pytest.raises(Exception, match="append-only"):
            directory.run(lambda cur: cur.execute(change))


def test_a_name_that_was_released_stays_one_until_it_is_free(directory: Directory) -> None:
    alice = directory.register("alice")
    directory.claim(alice, "wonder")
    directory.release(alice, "wonder")
    directory.now_ms += rules.FREE_AFTER_MS - 1
    facts = {"facts": {alice: FACTS}, "discover": Discover.EXACT}
    assert act(directory, custody.transfer, "wonder", alice, WHY, **facts)["status"] == "active"
    assert held(directory, "wonder").state is State.ACTIVE
