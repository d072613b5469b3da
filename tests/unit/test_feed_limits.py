"""What is kept and read of others' feeds has limits: of each server, of all strangers together, and in time."""

import pytest

from super_app.directory.feed_limits import COUNT_AGAIN_MS, FeedLimits, Most
from super_app.directory.model import DAY_MS
from super_app.ids import ServerName

NAMED, OTHER, THIRD = ServerName("named.test"), ServerName("other.test"), ServerName("third.test")


@pytest.fixture
def limits() -> FeedLimits:
    found = FeedLimits(Most(of_peer=1_000, of_stranger=100, of_strangers=300), [NAMED])
    found.counted({}, 0)
    return found


class TestRoom:
    def test_who_is_named_has_more_than_who_came_by_themselves(self, limits: FeedLimits) -> None:
        assert limits.room(NAMED) == 1_000
        assert limits.room(OTHER) == 100
        limits.add(NAMED, 990)
        limits.add(OTHER, 60)
        assert limits.room(NAMED) == 10
        assert limits.room(OTHER) == 40

    def test_a_named_one_takes_nothing_from_others(self, limits: FeedLimits) -> None:
        limits.add(NAMED, 1_000)
        assert limits.room(OTHER) == 100
        limits.add(OTHER, 100)
        assert limits.room(NAMED) == 0

    def test_no_stranger_gets_more_than_it_leaves_to_all_others(self, limits: FeedLimits) -> None:
        kept: list[int] = []
        for number in range(6):
            server = ServerName(f"s{number}.test")
            while limits.room(server):
                limits.add(server, 1)
            kept.append(limits._kept[server])
        assert kept == [100, 100, 50, 25, 12, 6]
        assert sum(kept) < 300

    def test_what_is_too_much_already_leaves_no_room_and_is_no_error(self, limits: FeedLimits) -> None:
        limits.counted({OTHER: 5_000, NAMED: 5_000}, 1)
        assert limits.room(OTHER) == limits.room(NAMED) == limits.room(THIRD) == 0

    def test_a_count_replaces_what_was_added(self, limits: FeedLimits) -> None:
        limits.add(OTHER, 100)
        limits.counted({OTHER: 30, NAMED: 5}, 1)
        assert limits.room(OTHER) == 70
        assert limits.room(THIRD) == 100
        assert limits.room(NAMED) == 995


def test_counting_is_due_at_first_each_hour_and_sooner_when_there_is_no_room() -> None:
    limits = FeedLimits(Most(of_peer=10, of_stranger=10, of_strangers=20), [])
    assert limits.is_due(0, short=False)
    limits.counted({}, 0)
    assert not limits.is_due(COUNT_AGAIN_MS - 1, short=True)
    assert limits.is_due(COUNT_AGAIN_MS, short=True)
    assert not limits.is_due(COUNT_AGAIN_MS, short=False)
    assert limits.is_due(3_600_000, short=False)


class TestReading:
    def test_as_many_entries_as_are_kept_at_once_and_as_many_again_in_a_day(self, limits: FeedLimits) -> None:
        assert limits.entries(OTHER, 0) == 100
        limits.took(OTHER, 80, 0)
        assert limits.entries(OTHER, 0) == 20
        assert limits.entries(OTHER, DAY_MS // 2) == 70
        assert limits.entries(OTHER, 10 * DAY_MS) == 100
        assert limits.entries(NAMED, 0) == 1_000

    def test_whoever_sent_more_than_it_was_asked_for_waits_longer(self, limits: FeedLimits) -> None:
        limits.took(OTHER, 150, 0)
        assert limits.entries(OTHER, 0) < 1
        assert limits.entries(OTHER, DAY_MS // 2) == 0
        assert limits.entries(OTHER, DAY_MS) == 50

    def test_who_is_read_no_more_is_forgotten(self, limits: FeedLimits) -> None:
        limits.took(OTHER, 100, 0)
        limits.forget(OTHER)
        limits.forget(THIRD)
        assert limits.entries(OTHER, 0) == 100
