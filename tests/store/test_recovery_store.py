"""A realm's shares, guesses and marks in the database, on both engines."""

from dataclasses import replace
from typing import Any

import pytest

from super_app.db import Transaction
from super_app.errors import Reason, Refused
from super_app.ids import ServerName, UserId
from super_app.recovery import group, rules, service, store
from super_app.recovery.model import (
    GUESSES,
    AttemptId,
    Busy,
    Deal,
    Mark,
    Plan,
    Share,
    State,
    Version,
    Wiped,
    unlock_tag,
)
from super_app.signing import generate_key, to_b64

pytestmark = pytest.mark.packages("super_app.recovery")

ALICE = UserId("@alice:hs1.test")
BOB = UserId("@bob:hs1.test")
REALMS = (ServerName("hs1.test"), ServerName("hs2.test"), ServerName("hs3.test"))
HERE = REALMS[1]
KEY = b"\5" * 32
NONCE = to_b64(b"\6" * 32)
ONE = Version(1)
DAY_MS = 86_400_000


def deal(version: int = 1, user_id: UserId = ALICE) -> Deal:
    return Deal(
        user_id=user_id,
        version=Version(version),
        realm=HERE,
        index=2,
        threshold=2,
        realms=REALMS,
        share=group.scalar_of(7),
        unlock_key=KEY,
    )


def put(run: Transaction, version: int = 1, in_use: int | None = None, user_id: UserId = ALICE) -> Refused | None:
    used = None if in_use is None else Version(in_use)
    return run(lambda cur: service.put_share(cur, deal(version, user_id), f"sealed {version} {user_id}", used, 1_000))


def attempt(number: int) -> AttemptId:
    return AttemptId(f"{number:032x}")


def plan(
    run: Transaction, number: int, now_ms: int, version: int = 1, blinded: str | None = "B", started_ms: int = 0
) -> Plan | Wiped | Busy | Refused:
    return run(
        lambda cur: service.plan_guess(cur, HERE, ALICE, Version(version), attempt(number), blinded, now_ms, started_ms)
    )


def guess(run: Transaction, number: int, now_ms: int, version: int = 1) -> Share:
    planned = plan(run, number, now_ms, version)
    assert isinstance(planned, Plan), planned
    counted = run(lambda cur: service.count_guess(cur, planned, "B", NONCE, now_ms))
    assert counted is not None
    return counted


def unlock(run: Transaction, number: int, key: bytes = KEY, now_ms: int = 0, **other: Any) -> Reason | None:
    bound: dict[str, Any] = {
        "realm": HERE,
        "user_id": ALICE,
        "version": ONE,
        "attempt_id": attempt(number),
        "nonce": b"\6" * 32,
        **other,
    }
    tag = unlock_tag(key, **bound)
    done = run(lambda cur: service.unlock(cur, HERE, ALICE, ONE, attempt(number), tag, KEY, now_ms))
    assert done is not None
    return done.reason if isinstance(done, Refused) else None


def begin(run: Transaction, number: int, now_ms: int) -> Share:
    planned = plan(run, number, now_ms, blinded=None)
    assert isinstance(planned, Plan), planned
    counted = run(lambda cur: service.count_guess(cur, planned, None, NONCE, now_ms))
    assert counted is not None
    return counted


def states(run: Transaction) -> dict[int, State]:
    return {each.version: each.state for each in run(lambda cur: store.shares_of(cur, ALICE))}


def reason(found: object) -> Reason | None:
    return found.reason if isinstance(found, Refused) else None


def test_ten_guesses_are_let_through_and_the_eleventh_destroys_the_share(transaction: Transaction) -> None:
    put(transaction)
    for number in range(GUESSES):
        share = guess(transaction, number, number * DAY_MS)
        assert (share.epoch, share.guesses) == (number + 1, number + 1)

    assert plan(transaction, 10, 10 * DAY_MS) is Wiped.WIPED

    assert reason(plan(transaction, 11, 11 * DAY_MS)) is Reason.RECOVERY_GONE
    kept = transaction(lambda cur: store.share(cur, ALICE, ONE))
    assert kept is not None
    assert (kept.state, kept.sealed) == (State.SPENT, None)
    assert reason(put(transaction)) is Reason.RECOVERY_STALE
    assert put(transaction, 2) is None


def test_after_the_tenth_wrong_guess_the_share_is_destroyed_though_nobody_asks_again(transaction: Transaction) -> None:
    put(transaction)
    for number in range(GUESSES):
        guess(transaction, number, number * DAY_MS)
    last_ms = (GUESSES - 1) * DAY_MS
    assert transaction(lambda cur: service.destroy_spent(cur, last_ms + rules.LAST_UNLOCK_MS - 1)) == 0
    assert states(transaction) == {1: State.PENDING}
    assert transaction(lambda cur: service.destroy_spent(cur, last_ms + rules.LAST_UNLOCK_MS)) == 1
    assert states(transaction) == {1: State.SPENT}
    assert unlock(transaction, GUESSES - 1) is Reason.RECOVERY_GONE


def test_the_next_guess_waits_longer_after_each_wrong_one(transaction: Transaction) -> None:
    put(transaction)
    now_ms = 0
    for number in range(GUESSES):
        wait_ms = rules.DELAYS_MS[number]
        if wait_ms:
            too_soon = plan(transaction, number, now_ms + wait_ms - 1)
            assert isinstance(too_soon, Refused)
            assert (too_soon.reason, too_soon.fields["retry_after_ms"]) == (Reason.TOO_MANY_REQUESTS, 1)
        now_ms += wait_ms
        guess(transaction, number, now_ms)
    assert list(rules.DELAYS_MS) == sorted(rules.DELAYS_MS)
    assert rules.DELAYS_MS[-1] == DAY_MS


def test_a_right_pin_begins_the_count_anew_and_a_wrong_one_does_not(transaction: Transaction) -> None:
    put(transaction)
    for number in range(3):
        guess(transaction, number, 0)

    assert unlock(transaction, 2, key=b"\4" * 32) is Reason.RECOVERY_TAG_WRONG
    assert transaction(lambda cur: store.share(cur, ALICE, ONE)).guesses == 3  # type: ignore[union-attr]

    assert unlock(transaction, 2) is None
    share = transaction(lambda cur: store.share(cur, ALICE, ONE))
    assert share is not None
    assert (share.epoch, share.guesses, share.guessed_ms) == (4, 0, None)


def test_an_unlock_fits_one_guess_of_one_account_at_one_realm_and_resets_once(transaction: Transaction) -> None:
    put(transaction)
    guess(transaction, 1, 0)
    others: tuple[dict[str, Any], ...] = (
        {"user_id": BOB},
        {"realm": REALMS[0]},
        {"version": Version(2)},
        {"attempt_id": attempt(2)},
        {"nonce": b"\7" * 32},
    )
    for other in others:
        assert unlock(transaction, 1, **other) is Reason.RECOVERY_TAG_WRONG
    assert unlock(transaction, 1) is None
    guess(transaction, 2, 0)
    # It was right and still is, but what was guessed since then counts on.
    assert unlock(transaction, 1) is None
    share = transaction(lambda cur: store.share(cur, ALICE, ONE))
    assert share is not None
    assert (share.epoch, share.guesses) == (3, 1)


def test_of_two_recoveries_at_once_both_are_right_and_only_the_first_resets_the_count(transaction: Transaction) -> None:
    put(transaction)
    for number in (1, 2, 3):
        guess(transaction, number, 0)
    assert unlock(transaction, 1, now_ms=1_000) is None
    guess(transaction, 4, 2_000)

    assert unlock(transaction, 2, now_ms=3_000) is None
    assert unlock(transaction, 3, key=b"\4" * 32, now_ms=3_000) is Reason.RECOVERY_TAG_WRONG
    share = transaction(lambda cur: store.share(cur, ALICE, ONE))
    assert share is not None
    assert (share.epoch, share.guesses) == (5, 1)
    # What was settled is answered with what it was asked for, and with nothing else.
    assert isinstance(plan(transaction, 2, 3_000), Plan)
    assert reason(plan(transaction, 2, 3_000, blinded="C")) is Reason.CONFLICT

    # And it is forgotten some time after.
    assert unlock(transaction, 4, now_ms=1_000 + rules.SETTLED_MS) is None
    assert unlock(transaction, 2) is Reason.RECOVERY_UNKNOWN


def test_a_guess_that_was_only_begun_counts_anew_after_a_right_pin(transaction: Transaction) -> None:
    put(transaction)
    guess(transaction, 1, 0)
    begin(transaction, 2, 0)
    assert unlock(transaction, 1) is None
    planned = plan(transaction, 2, 1_000)
    assert isinstance(planned, Plan)
    assert (planned.again, planned.mark.guesses) == (None, 1)


def test_a_guess_that_was_only_begun_is_unlocked_too_and_is_evaluated_no_more_without_counting(
    transaction: Transaction,
) -> None:
    put(transaction)
    guess(transaction, 1, 0)
    begin(transaction, 2, 0)
    assert unlock(transaction, 2, key=b"\4" * 32) is Reason.RECOVERY_TAG_WRONG
    assert unlock(transaction, 2) is None
    share = transaction(lambda cur: store.share(cur, ALICE, ONE))
    assert share is not None
    assert share.guesses == 0
    assert unlock(transaction, 2) is Reason.RECOVERY_UNKNOWN
    planned = plan(transaction, 2, 1_000)
    assert isinstance(planned, Plan)
    assert (planned.again, planned.mark.guesses) == (None, 1)


def test_an_unlock_that_a_guess_of_another_process_overtakes_resets_nothing_and_is_tried_anew(
    transaction: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(transaction)
    before = guess(transaction, 1, 0)
    guess(transaction, 2, 0)
    tag = unlock_tag(KEY, HERE, ALICE, ONE, attempt(1), b"\6" * 32)
    with monkeypatch.context() as patched:
        # The other process committed right after this one had looked.
        patched.setattr(store, "share", lambda *_: before)
        assert transaction(lambda cur: service.unlock(cur, HERE, ALICE, ONE, attempt(1), tag, KEY, 0)) is None
    share = transaction(lambda cur: store.share(cur, ALICE, ONE))
    assert share is not None
    assert share.guesses == 2
    assert unlock(transaction, 1) is None


def test_a_guess_whose_answer_got_lost_counts_once(transaction: Transaction) -> None:
    put(transaction)
    guess(transaction, 1, 0)
    again = plan(transaction, 1, 0)
    assert isinstance(again, Plan)
    assert again.again is not None
    assert (again.again.nonce, again.share.guesses) == (NONCE, 1)
    assert reason(plan(transaction, 1, 0, blinded="C")) is Reason.CONFLICT


def test_of_two_guesses_that_meet_each_counts(transaction: Transaction) -> None:
    put(transaction)
    # The first one took so long that the second one did not wait for it any more.
    one, two = plan(transaction, 1, 0), plan(transaction, 2, rules.CLAIM_MS)
    assert isinstance(one, Plan)
    assert isinstance(two, Plan)

    assert transaction(lambda cur: service.count_guess(cur, one, "B", NONCE, 0)) is not None
    assert transaction(lambda cur: service.count_guess(cur, two, "B", NONCE, 0)) is None

    assert guess(transaction, 2, 0).guesses == 2


def test_the_share_in_use_outlives_every_step_of_a_set_up_that_is_interrupted(transaction: Transaction) -> None:
    put(transaction, 1)
    transaction(lambda cur: service.put_in_use(cur, HERE, ALICE, ONE))

    put(transaction, 2, in_use=1)
    assert states(transaction) == {1: State.ACTIVE, 2: State.PENDING}
    put(transaction, 3, in_use=1)
    assert states(transaction) == {1: State.ACTIVE, 2: State.RETIRED, 3: State.PENDING}
    # The person's account data says 3; this realm was not told before it is asked for the next one.
    put(transaction, 4, in_use=3)
    assert states(transaction) == {1: State.ACTIVE, 2: State.RETIRED, 3: State.ACTIVE, 4: State.PENDING}
    assert guess(transaction, 1, 0, version=3).guesses == 1
    transaction(lambda cur: service.put_in_use(cur, HERE, ALICE, Version(4)))
    assert states(transaction) == {1: State.RETIRED, 2: State.RETIRED, 3: State.RETIRED, 4: State.ACTIVE}


def test_the_same_share_may_come_twice_and_no_version_comes_back(transaction: Transaction) -> None:
    assert put(transaction, 2) is None
    assert put(transaction, 2) is None
    again = transaction(lambda cur: service.put_share(cur, deal(2), "another", None, 1_000))
    assert reason(again) is Reason.RECOVERY_STALE
    assert reason(put(transaction, 1)) is Reason.RECOVERY_STALE
    transaction(lambda cur: service.give_up(cur, HERE, ALICE, Version(2)))
    stale = put(transaction, 2)
    assert isinstance(stale, Refused)
    assert (stale.reason, stale.fields["version"]) == (Reason.RECOVERY_STALE, 2)


def test_the_versions_of_an_account_cannot_be_used_up_at_once(transaction: Transaction) -> None:
    assert put(transaction, 3) is None
    assert reason(put(transaction, 3 + rules.MAX_STEP + 1)) is Reason.INVALID_VALUE
    assert put(transaction, 3 + rules.MAX_STEP) is None


def test_a_share_is_of_one_account(transaction: Transaction) -> None:
    put(transaction)
    found = transaction(lambda cur: service.plan_guess(cur, HERE, BOB, ONE, attempt(1), "B", 0, 0))
    assert reason(found) is Reason.RECOVERY_UNKNOWN
    assert put(transaction, 1, user_id=BOB) is None


MARK = Mark(realm=REALMS[0], user_id=ALICE, version=ONE, epoch=3, guesses=3, attempt_id=attempt(3), gone=False)


def told(run: Transaction, mark: Mark) -> Reason | None:
    return reason(run(lambda cur: service.witness(cur, mark)))


def test_a_witness_takes_only_what_follows(transaction: Transaction) -> None:
    put(transaction)
    assert told(transaction, MARK) is None
    assert told(transaction, MARK) is None
    assert told(transaction, replace(MARK, epoch=2, guesses=2)) is Reason.RECOVERY_BEHIND
    # An old backup reaches the same number again, by another guess.
    assert told(transaction, replace(MARK, attempt_id=attempt(9))) is Reason.RECOVERY_BEHIND
    assert told(transaction, replace(MARK, epoch=4, guesses=0, attempt_id=None)) is None
    gone = replace(MARK, epoch=4, guesses=0, attempt_id=None, gone=True)
    assert told(transaction, gone) is None
    behind = transaction(lambda cur: service.witness(cur, replace(MARK, epoch=5)))
    assert isinstance(behind, Refused)
    assert (behind.reason, behind.fields["gone"]) == (Reason.RECOVERY_BEHIND, True)


def test_a_witness_listens_only_to_realms_of_its_own_sets(transaction: Transaction) -> None:
    put(transaction)
    assert told(transaction, replace(MARK, realm=ServerName("hs9.test"))) is Reason.RECOVERY_UNKNOWN
    assert told(transaction, replace(MARK, version=Version(2))) is Reason.RECOVERY_UNKNOWN
    assert told(transaction, replace(MARK, user_id=BOB)) is Reason.RECOVERY_UNKNOWN


def test_a_restored_realm_takes_over_what_others_know_and_gives_no_guess_back(transaction: Transaction) -> None:
    put(transaction)
    guess(transaction, 1, 0)
    ours = Mark(realm=HERE, user_id=ALICE, version=ONE, epoch=9, guesses=9, attempt_id=attempt(9), gone=False)

    transaction(lambda cur: service.catch_up(cur, ALICE, ONE, [replace(ours, epoch=1, guesses=1), ours], 5))

    share = transaction(lambda cur: store.share(cur, ALICE, ONE))
    assert share is not None
    assert (share.epoch, share.guesses, share.guessed_ms) == (9, 9, 5)
    transaction(lambda cur: service.catch_up(cur, ALICE, ONE, [replace(ours, epoch=3, guesses=1)], 6))
    assert transaction(lambda cur: store.share(cur, ALICE, ONE)) == share


def test_a_guess_that_was_begun_counts_once_and_is_about_one_element(transaction: Transaction) -> None:
    put(transaction)
    assert begin(transaction, 1, 1_000).guesses == 1

    again = plan(transaction, 1, 2_000, blinded=None)
    assert isinstance(again, Plan)
    assert again.again is not None
    assert again.again.blinded is None
    bound = plan(transaction, 1, 3_000)
    assert isinstance(bound, Plan)
    assert bound.again is not None
    assert (bound.again.blinded, bound.share.guesses) == ("B", 1)

    assert reason(plan(transaction, 1, 3_000, blinded="C")) is Reason.CONFLICT
    assert isinstance(plan(transaction, 1, 3_000), Plan)
    assert unlock(transaction, 1) is None


def test_only_one_of_several_guesses_at_once_is_told_to_the_other_realms(transaction: Transaction) -> None:
    """As processes of one homeserver do: two that told the same step would each undo what the other one counted."""
    put(transaction)
    first = plan(transaction, 1, 1_000)
    assert isinstance(first, Plan)
    assert plan(transaction, 2, 1_001) is Busy.BUSY
    # The same guess in two processes is one step.
    again = plan(transaction, 1, 1_002)
    assert isinstance(again, Plan)
    assert again.mark == first.mark

    assert transaction(lambda cur: service.count_guess(cur, first, "B", NONCE, 1_003)) is not None
    assert transaction(lambda cur: service.count_guess(cur, again, "B", NONCE, 1_003)) is None
    second = plan(transaction, 2, 1_004)
    assert isinstance(second, Plan)
    assert (second.mark.epoch, second.mark.guesses) == (2, 2)


def test_an_unlock_waits_for_a_guess_that_is_being_told(transaction: Transaction) -> None:
    put(transaction)
    guess(transaction, 1, 0)
    told = plan(transaction, 2, 1_000)
    tag = unlock_tag(KEY, HERE, ALICE, ONE, attempt(1), b"\6" * 32)
    assert transaction(lambda cur: service.unlock(cur, HERE, ALICE, ONE, attempt(1), tag, KEY, 1_001)) is None
    assert isinstance(told, Plan)
    assert transaction(lambda cur: service.count_guess(cur, told, "B", NONCE, 1_002)) is not None
    assert unlock(transaction, 1, now_ms=1_003) is None


def test_a_guess_that_came_to_nothing_keeps_others_waiting_until_it_says_so_or_its_time_is_over(
    transaction: Transaction,
) -> None:
    put(transaction)
    assert isinstance(plan(transaction, 1, 1_000), Plan)
    transaction(lambda cur: store.release(cur, ALICE, ONE, attempt(2)))
    assert plan(transaction, 2, 1_001) is Busy.BUSY
    transaction(lambda cur: store.release(cur, ALICE, ONE, attempt(1)))
    assert isinstance(plan(transaction, 2, 1_002), Plan)
    # Its process died.
    assert plan(transaction, 3, 1_001 + rules.CLAIM_MS) is Busy.BUSY
    assert isinstance(plan(transaction, 3, 1_002 + rules.CLAIM_MS), Plan)


def test_what_was_begun_before_this_process_or_too_long_ago_is_not_evaluated(transaction: Transaction) -> None:
    """A backup of a guess that was only begun does not know what it was evaluated for since."""
    put(transaction)
    begin(transaction, 1, 1_000)
    assert reason(plan(transaction, 1, 2_000, started_ms=1_001)) is Reason.CONFLICT
    assert reason(plan(transaction, 1, 1_001 + rules.BEGUN_MS)) is Reason.CONFLICT
    assert isinstance(plan(transaction, 1, 1_000 + rules.BEGUN_MS, started_ms=1_000), Plan)
    # What was evaluated once may be again, also after a restart: it is the same element.
    assert isinstance(plan(transaction, 1, 9_000_000, started_ms=8_000_000), Plan)


def test_a_restored_realm_forgets_the_guesses_that_an_old_tag_would_unlock(transaction: Transaction) -> None:
    put(transaction)
    guess(transaction, 1, 0)
    ours = Mark(realm=HERE, user_id=ALICE, version=ONE, epoch=9, guesses=7, attempt_id=attempt(9), gone=False)
    transaction(lambda cur: service.catch_up(cur, ALICE, ONE, [ours], 5))
    assert unlock(transaction, 1) is Reason.RECOVERY_UNKNOWN
    share = transaction(lambda cur: store.share(cur, ALICE, ONE))
    assert share is not None
    assert share.guesses == 7


def test_a_restored_realm_destroys_a_share_that_the_others_know_to_be_gone(transaction: Transaction) -> None:
    put(transaction)
    gone = replace(MARK, realm=HERE, epoch=0, guesses=0, attempt_id=None, gone=True)

    transaction(lambda cur: service.catch_up(cur, ALICE, ONE, [gone], 5))

    assert states(transaction) == {1: State.RETIRED}


def test_a_share_that_is_given_up_is_told_to_be_gone(transaction: Transaction) -> None:
    put(transaction)
    put(transaction, 2)
    guess(transaction, 1, 0, version=2)
    told = transaction(lambda cur: service.give_up(cur, HERE, ALICE, Version(2)))
    assert [(each.version, each.epoch, each.gone) for each in told] == [(2, 1, True)]
    assert transaction(lambda cur: service.give_up(cur, HERE, ALICE, Version(2))) == ()


def test_a_mark_is_its_realms_own_or_nothing() -> None:
    key, other = generate_key(b"\1" * 32), generate_key(b"\2" * 32)
    signed = MARK.signed(key)
    assert signed.is_signed_by(key)
    assert not signed.is_signed_by(other)
    assert not MARK.is_signed_by(key)
    changes: list[dict[str, Any]] = [
        {"epoch": 9},
        {"guesses": 9},
        {"gone": True},
        {"user_id": BOB},
        {"realm": HERE},
        {"version": Version(2)},
    ]
    for change in changes:
        assert not replace(signed, **change).is_signed_by(key)


def test_the_tries_of_a_person_are_told_once_and_forgotten(transaction: Transaction) -> None:
    assert transaction(lambda cur: store.begin_attempt(cur, ALICE, attempt(1), "PHONE", 1_000))
    assert transaction(lambda cur: store.begin_attempt(cur, ALICE, attempt(1), "PHONE", 2_000))
    transaction(lambda cur: store.begin_attempt(cur, ALICE, attempt(2), "PHONE", 3_000))
    assert transaction(lambda cur: store.left_open(cur, 2_000)) == [(ALICE, attempt(1))]
    assert transaction(lambda cur: store.end_attempt(cur, ALICE, attempt(1), "wrong")) == "PHONE"
    assert transaction(lambda cur: store.end_attempt(cur, ALICE, attempt(1), "right")) is None
    assert not transaction(lambda cur: store.begin_attempt(cur, ALICE, attempt(1), "LAPTOP", 9_000))
    assert transaction(lambda cur: store.end_attempt(cur, BOB, attempt(2), "right")) is None
    assert transaction(lambda cur: store.left_open(cur, 2_000)) == []
    transaction(lambda cur: store.forget_attempts(cur, 9_000))
    assert transaction(lambda cur: store.left_open(cur, 9_000)) == [(ALICE, attempt(2))]


def test_an_operators_word_for_the_database_ends(transaction: Transaction) -> None:
    assert transaction(store.vouched_until_ms) == 0
    transaction(lambda cur: store.vouch(cur, 5_000))
    transaction(lambda cur: store.vouch(cur, 7_000))
    assert transaction(store.vouched_until_ms) == 7_000


@pytest.mark.parametrize(("realms", "threshold"), [(3, 2), (5, 3), (5, 2), (5, 5), (9, 5)])
def test_who_is_asked_after_a_start_and_who_was_told_of_a_guess_always_meet(realms: int, threshold: int) -> None:
    others = realms - 1
    told_to, asked = rules.acknowledgements(threshold), rules.confirmations(realms, threshold)
    assert told_to + asked > others
    assert 1 <= asked <= others
    assert told_to <= others
