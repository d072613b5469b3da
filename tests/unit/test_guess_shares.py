"""Who took much of late leaves most to the others, and what they took fades."""

import pytest

from super_app.directory import guess_shares

HOUR_MS = 3_600_000
NOW_MS = 1_700_000_000_000


def after(count: int) -> int | None:
    faded_ms: int | None = None
    for _ in range(count):
        faded_ms = guess_shares.after_one_more(faded_ms, NOW_MS)
    return faded_ms


@pytest.mark.parametrize("count", [0, 1, 2, 17, 300])
def test_what_was_taken_is_counted_and_half_of_it_is_forgotten_in_six_hours(count: int) -> None:
    assert guess_shares.taken(after(count), NOW_MS) == pytest.approx(count, rel=0.01)
    assert guess_shares.taken(after(count), NOW_MS + 6 * HOUR_MS) == pytest.approx(count / 2, rel=0.01)


def test_who_took_none_is_as_good_as_who_was_never_seen() -> None:
    nobody = guess_shares.of_nobody(NOW_MS)
    assert guess_shares.kept_back(1_000, guess_shares.taken(nobody, NOW_MS)) == 0
    one_more = guess_shares.after_one_more(nobody, NOW_MS)
    assert guess_shares.taken(one_more, NOW_MS) == pytest.approx(1, rel=0.01)


def test_the_more_somebody_took_the_more_they_leave_and_never_all() -> None:
    kept = [guess_shares.kept_back(1_000, taken) for taken in (0, 10, 100, 300, 1_000, 1_000_000)]
    assert kept == sorted(kept)
    assert kept[0] == 0
    assert kept[2] == 450
    assert kept[-1] < 900
