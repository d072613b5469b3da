"""Who may ring: the rules in their order, quiet hours, and how a policy is read."""

from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from super_app.calls import policy as policies
from super_app.calls import rules
from super_app.calls.model import (
    Circumstances,
    Decision,
    Facts,
    Policy,
    QuietHours,
    QuietWindow,
    RateLimit,
    Refusal,
    Rule,
    ServerLists,
    Who,
)
from super_app.ids import Handle, UserId

MALLORY = UserId("@mallory:bad.example.org")
NO_LIMIT = RateLimit(caller=0, server=0, window_ms=600_000)
NOBODY = Policy(who=frozenset({Who.NOBODY}), rate=NO_LIMIT)
EVERYONE = Policy(who=frozenset({Who.EVERYONE}), rate=NO_LIMIT)
BERLIN = ZoneInfo("Europe/Berlin")
EVERY_DAY = frozenset(range(7))
ALWAYS = QuietHours(zone=BERLIN, windows=(QuietWindow(days=EVERY_DAY, from_minute=0, to_minute=0),), repeat_ms=180_000)
NIGHT = QuietHours(
    zone=BERLIN, windows=(QuietWindow(days=EVERY_DAY, from_minute=22 * 60, to_minute=7 * 60),), repeat_ms=0
)


def facts(
    *,
    ignored: bool = False,
    shares_room: bool = False,
    handle: str | None = None,
    contact: bool = False,
    of_caller: int = 0,
    of_server: int = 0,
    previous_ring_ms: int | None = None,
    now_ms: int = 1_700_000_000_000,
) -> Facts:
    return Facts(
        caller=MALLORY,
        circumstances=Circumstances(
            ignored=ignored, shares_room=shares_room, handle=None if handle is None else Handle(handle)
        ),
        contact=contact,
        shown_of_caller=of_caller,
        shown_of_server=of_server,
        previous_ring_ms=previous_ring_ms,
        now_ms=now_ms,
    )


def berlin_ms(*when: int) -> int:
    return int(datetime(*when, tzinfo=BERLIN).timestamp() * 1000)  # type: ignore[misc,arg-type]


class TestWho:
    @pytest.mark.parametrize(
        ("who", "known", "shown"),
        [
            ({Who.EVERYONE}, facts(), True),
            ({Who.NOBODY}, facts(contact=True, shares_room=True), False),
            (set(), facts(contact=True, shares_room=True), False),
            ({Who.CONTACTS}, facts(contact=True), True),
            ({Who.CONTACTS}, facts(shares_room=True), False),
            ({Who.SHARED_ROOMS}, facts(shares_room=True), True),
            ({Who.SHARED_ROOMS}, facts(contact=True), False),
            ({Who.CONTACTS, Who.SHARED_ROOMS}, facts(shares_room=True), True),
            ({Who.NOBODY, Who.CONTACTS}, facts(contact=True), True),
            ({Who.FOLLOWING, Who.VERIFIED}, facts(contact=True, shares_room=True), False),
        ],
    )
    def test_any_of_the_groups_that_the_policy_names_may_ring(self, who: set[Who], known: Facts, shown: bool) -> None:
        policy = replace(NOBODY, who=frozenset(who))
        assert rules.screen(policy, known) == Decision(shown=shown, rule=Rule.WHO)


class TestOrder:
    """Each rule speaks before the next, so a ring that several would decide is decided by the first."""

    BUT_ALLOWED = replace(
        NOBODY,
        allow=frozenset({MALLORY}),
        deny=frozenset({MALLORY}),
        servers=ServerLists(deny=("*",)),
        rate=RateLimit(caller=1, server=1, window_ms=1),
        quiet=ALWAYS,
    )
    CROWDED = facts(ignored=True, of_caller=1, of_server=1)

    def test_ignored_people_never_ring(self) -> None:
        assert rules.screen(self.BUT_ALLOWED, self.CROWDED).rule is Rule.IGNORED
        assert not rules.screen(EVERYONE, facts(ignored=True)).shown

    def test_then_whom_the_policy_allows_rings_whatever_else_holds(self) -> None:
        not_ignored = facts(of_caller=1, of_server=1)
        assert rules.screen(self.BUT_ALLOWED, not_ignored) == Decision(shown=True, rule=Rule.ALLOW)

    def test_then_deny_servers_rate_quiet_and_who_in_this_order(self) -> None:
        known = facts(of_caller=1, of_server=1)
        policy = replace(self.BUT_ALLOWED, allow=frozenset[str]())
        assert rules.screen(policy, known) == Decision(shown=False, rule=Rule.DENY)
        policy = replace(policy, deny=frozenset[str]())
        assert rules.screen(policy, known) == Decision(shown=False, rule=Rule.SERVERS)
        policy = replace(policy, servers=ServerLists())
        assert rules.screen(policy, known) == Decision(shown=False, rule=Rule.RATE)
        policy = replace(policy, rate=NO_LIMIT)
        assert rules.screen(policy, known) == Decision(shown=False, rule=Rule.QUIET)
        policy = replace(policy, quiet=None)
        assert rules.screen(policy, known) == Decision(shown=False, rule=Rule.WHO)

    def test_people_are_allowed_and_denied_by_handle_as_well(self) -> None:
        known = facts(handle="@m:bad.example.org")
        assert rules.screen(replace(NOBODY, allow=frozenset({"@m:bad.example.org"})), known).shown
        assert not rules.screen(replace(EVERYONE, deny=frozenset({"@m:bad.example.org"})), known).shown


class TestServers:
    @pytest.mark.parametrize(
        ("lists", "shown"),
        [
            (ServerLists(deny=("bad.example.org",)), False),
            (ServerLists(deny=("*.example.org",)), False),
            (ServerLists(deny=("other.example.org",)), True),
            (ServerLists(allow=("good.example.org",)), False),
            (ServerLists(allow=("bad.*",)), True),
            (ServerLists(allow=()), False),
            (ServerLists(allow=("bad.example.org",), deny=("bad.example.org",)), False),
        ],
    )
    def test_servers_are_let_in_and_kept_out_by_name_and_pattern(self, lists: ServerLists, shown: bool) -> None:
        assert rules.screen(replace(EVERYONE, servers=lists), facts()).shown == shown


class TestRate:
    LIMITED = replace(EVERYONE, rate=RateLimit(caller=3, server=10, window_ms=600_000))

    @pytest.mark.parametrize(("of_caller", "of_server", "shown"), [(2, 9, True), (3, 3, False), (0, 10, False)])
    def test_so_many_rings_of_a_caller_and_of_their_server_are_shown(
        self, of_caller: int, of_server: int, shown: bool
    ) -> None:
        assert rules.screen(self.LIMITED, facts(of_caller=of_caller, of_server=of_server)).shown == shown

    def test_zero_is_no_limit(self) -> None:
        assert rules.screen(EVERYONE, facts(of_caller=1_000, of_server=1_000)).shown


class TestQuietHours:
    @pytest.mark.parametrize(
        ("when", "quiet"),
        [
            ((2026, 7, 1, 21, 59), False),
            ((2026, 7, 1, 22, 0), True),
            ((2026, 7, 2, 6, 59), True),
            ((2026, 7, 2, 7, 0), False),
            ((2026, 1, 1, 22, 0), True),
            ((2026, 1, 2, 7, 0), False),
        ],
    )
    def test_they_follow_the_persons_clock_over_midnight_in_summer_and_in_winter(
        self, when: tuple[int, ...], quiet: bool
    ) -> None:
        assert rules.is_quiet(NIGHT, berlin_ms(*when)) == quiet

    def test_a_window_of_equal_ends_is_the_whole_day(self) -> None:
        assert rules.is_quiet(ALWAYS, berlin_ms(2026, 7, 1, 12, 0))

    @pytest.mark.parametrize(
        ("when", "quiet"),
        [
            ((2026, 3, 29, 1, 59), False),
            ((2026, 3, 29, 3, 0), False),  # the clock went from 2 to 3, so the hour never was
            ((2026, 10, 25, 2, 30), True),
        ],
    )
    def test_an_hour_that_the_clocks_skip_or_repeat_is_quiet_while_the_clock_shows_it(
        self, when: tuple[int, ...], quiet: bool
    ) -> None:
        early = replace(NIGHT, windows=(QuietWindow(days=EVERY_DAY, from_minute=120, to_minute=180),))
        assert rules.is_quiet(early, berlin_ms(*when)) == quiet

    def test_a_window_belongs_to_the_day_on_which_it_begins(self) -> None:
        friday_night = replace(NIGHT, windows=(replace(NIGHT.windows[0], days=frozenset({4})),))
        assert rules.is_quiet(friday_night, berlin_ms(2026, 7, 3, 23, 0))
        assert rules.is_quiet(friday_night, berlin_ms(2026, 7, 4, 6, 0))
        assert not rules.is_quiet(friday_night, berlin_ms(2026, 7, 4, 23, 0))
        assert not rules.is_quiet(friday_night, berlin_ms(2026, 7, 3, 6, 0))

    @pytest.mark.parametrize(("ago_ms", "shown"), [(179_999, True), (180_000, False), (None, False)])
    def test_who_rings_again_soon_gets_through(self, ago_ms: int | None, shown: bool) -> None:
        known = facts(previous_ring_ms=None if ago_ms is None else 1_700_000_000_000 - ago_ms)
        assert rules.screen(replace(EVERYONE, quiet=ALWAYS), known).shown == shown


DEFAULT = Policy(
    who=frozenset({Who.CONTACTS, Who.SHARED_ROOMS}), rate=RateLimit(caller=10, server=60, window_ms=600_000)
)


def zone_of(name: str) -> tzinfo | None:
    return {"Europe/Berlin": BERLIN, "UTC": UTC}.get(name)


def read(content: dict[str, Any] | None) -> policies.Reading:
    return policies.read(content, DEFAULT, zone_of)


class TestReading:
    def test_without_a_policy_the_operators_default_holds(self) -> None:
        assert read(None) == policies.Reading(policy=DEFAULT)

    def test_absent_keys_take_the_default_and_unknown_ones_are_ignored(self) -> None:
        assert read({"v": 1, "ringtone": "loud", "price": {}}) == policies.Reading(policy=DEFAULT)

    def test_a_whole_policy_is_read(self) -> None:
        reading = read(
            {
                "v": 1,
                "who": ["everyone"],
                "allow": ["@bob:hs2.test"],
                "deny": [MALLORY],
                "servers": {"deny": ["*.example.org"]},
                "quiet": {
                    "time_zone": "Europe/Berlin",
                    "windows": [{"from": "22:00", "to": "07:00", "days": ["fri", "sat"]}],
                    "repeat_ms": 180_000,
                },
                "rate": {"caller": 2, "window_ms": 60_000},
                "refusal": "silent",
            }
        )
        assert reading.malformed == ()
        assert reading.policy == Policy(
            who=frozenset({Who.EVERYONE}),
            allow=frozenset({"@bob:hs2.test"}),
            deny=frozenset({MALLORY}),
            servers=ServerLists(deny=("*.example.org",)),
            quiet=QuietHours(
                zone=BERLIN,
                windows=(QuietWindow(days=frozenset({4, 5}), from_minute=22 * 60, to_minute=7 * 60),),
                repeat_ms=180_000,
            ),
            rate=RateLimit(caller=2, server=60, window_ms=60_000),
            refusal=Refusal.SILENT,
        )

    @pytest.mark.parametrize("content", [{}, {"v": 2, "who": ["nobody"]}, {"v": True}, {"v": "1"}])
    def test_a_policy_of_an_unknown_version_lets_everybody_through(self, content: dict[str, Any]) -> None:
        reading = read(content)
        assert reading.malformed == ("v",)
        assert reading.policy == replace(DEFAULT, who=frozenset({Who.EVERYONE}))

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("who", "everyone"),
            ("who", ["friends"]),
            ("allow", "@bob:hs2.test"),
            ("deny", [1]),
            ("deny", ["@x:y"] * 1_001),
            ("servers", ["example.org"]),
            ("servers", {"deny": "example.org"}),
            ("rate", 3),
            ("rate", {"caller": -1}),
            ("rate", {"caller": True}),
            ("rate", {"window_ms": 10**12}),
            ("quiet", {"windows": []}),
            ("quiet", {"time_zone": "Mars/Olympus", "windows": []}),
            ("quiet", {"time_zone": "UTC", "windows": [{"from": "25:00", "to": "07:00"}]}),
            ("quiet", {"time_zone": "UTC", "windows": [{"from": "22:00", "to": "7"}]}),
            ("quiet", {"time_zone": "UTC", "windows": [{"from": "22:00", "to": "07:00", "days": ["Friday"]}]}),
            ("refusal", "rude"),
        ],
    )
    def test_a_malformed_key_restricts_nothing_is_named_and_leaves_the_others_in_force(
        self, key: str, value: object
    ) -> None:
        sound = {"v": 1, "who": ["contacts"], "deny": [MALLORY]}
        reading = read({**sound, key: value})
        assert reading.malformed == (key,)
        expected = replace(DEFAULT, who=frozenset({Who.CONTACTS}), deny=frozenset({MALLORY}))
        match key:
            case "who":
                expected = replace(expected, who=frozenset({Who.EVERYONE}))
            case "rate":
                expected = replace(expected, rate=NO_LIMIT)
            case "deny":
                expected = replace(expected, deny=frozenset())
            case _:
                pass
        assert reading.policy == expected
