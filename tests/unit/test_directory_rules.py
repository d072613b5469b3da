"""Who may take, rename, release and see a handle."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from super_app.directory.model import (
    DAY_MS,
    AskedBy,
    Discover,
    FrozenFor,
    Holding,
    Name,
    Origin,
    Role,
    Standing,
    State,
    Status,
)
from super_app.directory.naming import NamePolicy
from super_app.directory.rules import (
    Claim,
    Sight,
    Step,
    blocks_registration,
    decide_claim,
    decide_release,
    frozen_refusal,
    in_feed,
    is_free,
    sight_of,
)
from super_app.errors import Reason, Refused
from super_app.ids import Acct, UserId

NOW_MS = 1_700_000_000_000
ALICE, BOB = Acct("A" * 43), Acct("B" * 43)
ALICE_ID, BOB_ID = UserId("@alice:hs1.test"), UserId("@bob:hs1.test")
POLICY = NamePolicy(min_length=5)


def holding(name: str, **changes: Any) -> Holding:
    fields: dict[str, Any] = {
        "name": Name(name),
        "acct": ALICE,
        "user_id": ALICE_ID,
        "origin": Origin.CLAIMED,
        "state": State.ACTIVE,
        "frozen_for": None,
        "contested_by": None,
        "discover": Discover.EXACT,
        "chosen": True,
        "primary": False,
        "since_ms": NOW_MS,
        "released_ms": None,
        "seq": 1,
        "digest": None,
        "record": None,
        "renew_ms": 0,
    }
    return Holding(**{**fields, **changes})


LOCALPART = holding("alice", origin=Origin.LOCALPART, primary=True)


def standing(*more: Holding, last: str | None = None, renamed_ms: int = 0) -> Standing:
    primary = next((each.name for each in more if each.primary), None)
    localpart = LOCALPART if primary is None else replace(LOCALPART, primary=False)
    return Standing(
        acct=ALICE,
        user_id=ALICE_ID,
        holdings=(localpart, *more),
        primary=primary,
        last_primary=None if last is None else Name(last),
        renamed_ms=renamed_ms,
    )


def claim(
    own: Standing,
    text: str,
    held: Holding | None = None,
    *,
    role: Role | None = None,
    localpart_of: UserId | None = None,
    now_ms: int = NOW_MS,
) -> Claim | Refused:
    return decide_claim(own, text, held, role=role, policy=POLICY, localpart_of=localpart_of, now_ms=now_ms)


def reason_of(answer: object) -> Reason:
    assert isinstance(answer, Refused), answer
    return answer.reason


class TestTaking:
    def test_the_first_chosen_name_becomes_the_primary_one_and_is_no_rename(self) -> None:
        assert claim(standing(), "wonder") == Claim(
            name=Name("wonder"), step=Step.TAKE, role=Role.PRIMARY, renames=False
        )

    def test_a_name_of_somebody_else_is_taken(self) -> None:
        assert reason_of(claim(standing(), "wonder", holding("wonder", acct=BOB))) is Reason.HANDLE_TAKEN

    def test_a_localpart_of_somebody_else_is_taken_even_before_it_has_a_holding(self) -> None:
        assert reason_of(claim(standing(), "walter", localpart_of=UserId("@walter:hs1.test"))) is Reason.HANDLE_TAKEN

    def test_the_form_is_asked_before_who_holds_it(self) -> None:
        assert reason_of(claim(standing(), "bob")) is Reason.HANDLE_INVALID
        assert reason_of(claim(standing(), "postmaster")) is Reason.HANDLE_RESERVED

    def test_one_primary_and_two_aliases_are_all(self) -> None:
        own = standing(holding("first", primary=True), holding("second"), holding("third"), last="first")
        assert reason_of(claim(own, "fourth", role=Role.ALIAS)) is Reason.TOO_MANY_HANDLES
        assert reason_of(claim(own, "fourth", role=Role.PRIMARY)) is Reason.TOO_MANY_HANDLES

    def test_the_localpart_counts_only_as_the_primary_handle(self) -> None:
        own = standing(holding("second"), holding("third"))
        assert isinstance(claim(own, "first", role=Role.PRIMARY), Claim)
        assert reason_of(claim(own, "fourth", role=Role.ALIAS)) is Reason.TOO_MANY_HANDLES

    def test_ones_own_name_again_changes_nothing(self) -> None:
        first = holding("first", primary=True)
        again = claim(standing(first, last="first", renamed_ms=NOW_MS), "first", first)
        assert again == Claim(name=Name("first"), step=Step.KEEP, role=Role.PRIMARY, renames=False)

    def test_a_primary_name_is_not_made_an_alias_by_itself(self) -> None:
        first = holding("first", primary=True)
        assert reason_of(claim(standing(first), "first", first, role=Role.ALIAS)) is Reason.INVALID_VALUE

    def test_a_frozen_name_of_ones_own_is_not_touched(self) -> None:
        first = holding("first", primary=True, state=State.FROZEN, frozen_for=FrozenFor.AMBIGUOUS)
        assert reason_of(claim(standing(first), "first", first)) is Reason.HANDLE_FROZEN


class TestRenaming:
    def test_the_second_choice_is_the_rename_and_the_third_has_to_wait(self) -> None:
        first = holding("first", primary=True)
        second = claim(standing(first, last="first"), "second")
        assert second == Claim(name=Name("second"), step=Step.TAKE, role=Role.PRIMARY, renames=True)
        again = standing(holding("second", primary=True), holding("first"), last="second", renamed_ms=NOW_MS)
        refused = claim(again, "third", now_ms=NOW_MS + DAY_MS)
        assert isinstance(refused, Refused)
        assert refused.reason is Reason.RENAMED_RECENTLY
        assert refused.fields["retry_after_ms"] == 27 * DAY_MS
        assert "wait 27 more" in refused.message

    def test_after_28_days_it_is_possible_again_to_the_millisecond(self) -> None:
        own = standing(holding("first", primary=True), last="first", renamed_ms=NOW_MS)
        assert reason_of(claim(own, "second", now_ms=NOW_MS + 28 * DAY_MS - 1)) is Reason.RENAMED_RECENTLY
        assert isinstance(claim(own, "second", now_ms=NOW_MS + 28 * DAY_MS), Claim)

    def test_an_alias_needs_no_rename_and_making_it_primary_does(self) -> None:
        own = standing(holding("first", primary=True), holding("second"), last="first", renamed_ms=NOW_MS)
        assert isinstance(claim(own, "third", role=Role.ALIAS), Claim)
        assert reason_of(claim(own, "second", holding("second"), role=Role.PRIMARY)) is Reason.RENAMED_RECENTLY

    def test_releasing_first_is_no_way_around_the_pause(self) -> None:
        own = standing(last="first", renamed_ms=NOW_MS)
        assert reason_of(claim(own, "second")) is Reason.RENAMED_RECENTLY

    def test_taking_the_last_choice_back_is_no_rename(self) -> None:
        gone = holding("first", state=State.RELEASED, released_ms=NOW_MS)
        back = claim(standing(gone, last="first", renamed_ms=NOW_MS), "first", gone, now_ms=NOW_MS + DAY_MS)
        assert back == Claim(name=Name("first"), step=Step.TAKE_BACK, role=Role.PRIMARY, renames=False)

    @given(st.lists(st.tuples(st.sampled_from(["first", "second", "third"]), st.integers(0, 40)), max_size=12))
    def test_whatever_is_tried_two_renames_are_never_less_than_28_days_apart(
        self, tries: list[tuple[str, int]]
    ) -> None:
        names: dict[str, Holding] = {}
        last: str | None = None
        renamed_ms, now_ms, renames = 0, NOW_MS, list[int]()
        for name, days in tries:
            now_ms += days * DAY_MS
            own = standing(*names.values(), last=last, renamed_ms=renamed_ms)
            decided = claim(own, name, names.get(name), role=Role.PRIMARY, now_ms=now_ms)
            if isinstance(decided, Refused):
                assert decided.reason is Reason.RENAMED_RECENTLY
                continue
            changed = last is not None and name != last
            assert decided.renames == changed
            names = {each: replace(held, primary=False) for each, held in names.items()}
            names[name] = holding(name, primary=True)
            last = name
            if changed:
                renamed_ms = now_ms
                renames.append(now_ms)
        assert all(later - earlier >= 28 * DAY_MS for earlier, later in itertools.pairwise(renames))
        assert sum(held.primary for held in names.values()) <= 1


class TestReleasing:
    def test_a_claimed_name_is_released_and_a_localpart_never(self) -> None:
        first = holding("first")
        assert decide_release(first, ALICE, "first") == first
        assert reason_of(decide_release(LOCALPART, ALICE, "alice")) is Reason.NOT_ALLOWED

    def test_nobody_releases_what_they_do_not_hold_and_learns_nothing_of_it(self) -> None:
        nobody = decide_release(None, ALICE, "first")
        assert decide_release(holding("first", acct=BOB), ALICE, "first") == nobody
        gone = holding("first", state=State.RELEASED, released_ms=NOW_MS)
        assert decide_release(gone, ALICE, "first") == nobody
        assert reason_of(nobody) is Reason.UNKNOWN_HANDLE

    def test_a_frozen_name_is_not_released(self) -> None:
        frozen = holding("first", state=State.FROZEN, frozen_for=FrozenFor.AMBIGUOUS)
        assert reason_of(decide_release(frozen, ALICE, "first")) is Reason.HANDLE_FROZEN

    @pytest.mark.parametrize(
        ("days", "owner", "stranger"),
        [
            (0, None, Reason.HANDLE_TAKEN),
            (29, None, Reason.HANDLE_TAKEN),
            (30, Reason.HANDLE_TAKEN, Reason.HANDLE_TAKEN),
            (89, Reason.HANDLE_TAKEN, Reason.HANDLE_TAKEN),
            (90, None, None),
        ],
    )
    def test_a_released_name_is_its_owners_for_30_days_and_free_after_90(
        self, days: int, owner: Reason | None, stranger: Reason | None
    ) -> None:
        gone = holding("first", state=State.RELEASED, released_ms=NOW_MS)
        later_ms = NOW_MS + days * DAY_MS
        for own, wanted in ((standing(gone), owner), (replace(standing(), acct=BOB, user_id=BOB_ID), stranger)):
            answer = claim(own, "first", gone, now_ms=later_ms)
            assert (answer.reason if isinstance(answer, Refused) else None) is wanted

    def test_a_name_that_is_held_or_in_quarantine_blocks_the_registration_of_others_only(self) -> None:
        first = holding("first")
        gone = holding("first", state=State.RELEASED, released_ms=NOW_MS)
        first_id = UserId("@first:hs1.test")
        assert blocks_registration(first, first_id, NOW_MS)
        assert blocks_registration(gone, first_id, NOW_MS + 89 * DAY_MS)
        assert not blocks_registration(gone, first_id, NOW_MS + 90 * DAY_MS)
        assert not blocks_registration(LOCALPART, ALICE_ID, NOW_MS)
        assert is_free(holding("first", state=State.FREE, released_ms=NOW_MS), NOW_MS)


class TestSeeing:
    @pytest.mark.parametrize(
        ("discover", "by", "shares_room", "sight"),
        [
            (Discover.PUBLIC, AskedBy.HANDLE, False, Sight.RECORD),
            (Discover.EXACT, AskedBy.HANDLE, False, Sight.RECORD),
            (Discover.LINK, AskedBy.HANDLE, False, Sight.RECORD),
            (Discover.NONE, AskedBy.HANDLE, False, Sight.NOTHING),
            (Discover.NONE, AskedBy.HANDLE, True, Sight.NOTHING),
            (Discover.NONE, AskedBy.USER_ID, False, Sight.NOTHING),
            (Discover.NONE, AskedBy.USER_ID, True, Sight.SERVICES),
        ],
    )
    def test_what_is_seen_follows_the_persons_choice(
        self, discover: Discover, by: AskedBy, shares_room: bool, sight: Sight
    ) -> None:
        held = holding("first", discover=discover)
        assert sight_of(held, by, is_owner=False, shares_room=shares_room) is sight
        assert sight_of(held, by, is_owner=True, shares_room=False) is Sight.RECORD

    def test_a_released_name_is_as_absent_as_one_that_never_was(self) -> None:
        gone = holding("first", state=State.RELEASED, released_ms=NOW_MS, discover=Discover.PUBLIC)
        assert sight_of(gone, AskedBy.HANDLE, is_owner=True, shares_room=True) is Sight.NOTHING

    def test_only_public_names_that_are_held_are_in_the_feed(self) -> None:
        assert in_feed(holding("first", discover=Discover.PUBLIC))
        assert in_feed(holding("f", discover=Discover.PUBLIC, state=State.FROZEN, frozen_for=FrozenFor.AMBIGUOUS))
        assert not in_feed(holding("first", discover=Discover.EXACT))
        assert not in_feed(holding("f", discover=Discover.PUBLIC, state=State.RELEASED, released_ms=NOW_MS))

    def test_an_ambiguous_name_says_so_and_its_status_is_frozen(self) -> None:
        frozen = holding("first", state=State.FROZEN, frozen_for=FrozenFor.AMBIGUOUS)
        assert frozen_refusal(frozen.frozen_for, "@first:hs1.test").reason is Reason.AMBIGUOUS_PAYEE
        assert frozen_refusal(None, "@first:hs1.test").reason is Reason.HANDLE_FROZEN
        assert frozen.status is Status.FROZEN
