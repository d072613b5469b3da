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
    DoNotDisturb,
    Facts,
    Offer,
    Policy,
    Price,
    QuietHours,
    QuietWindow,
    RateLimit,
    Recent,
    RecentRing,
    Refusal,
    RoomChecks,
    Rule,
    ServerLists,
    Who,
)
from super_app.ids import Handle, UserId

MALLORY = UserId("@mallory:bad.example.org")
NO_LIMIT = RateLimit(caller=0, server=0, window_ms=600_000)
NOBODY = Policy(who=frozenset({Who.NOBODY}), rate=NO_LIMIT)
EVERYONE = Policy(who=frozenset({Who.EVERYONE}), rate=NO_LIMIT)
PRICE = Price(amount_minor=100, currency="EUR")
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
    known: bool = False,
    of_caller: int = 0,
    of_server: int = 0,
    of_strangers: int = 0,
    previous_ring_ms: int | None = None,
    now_ms: int = 1_700_000_000_000,
    **more: Any,
) -> Facts:
    return Facts(
        caller=MALLORY,
        circumstances=Circumstances(
            ignored=ignored, shares_room=shares_room, handle=None if handle is None else Handle(handle), **more
        ),
        contact=contact,
        known=known or contact,
        shown_of_caller=of_caller,
        shown_of_server=of_server,
        shown_of_strangers=of_strangers,
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


class TestFloods:
    """Limits on strangers keep out nobody whom the person knows."""

    RATE = RateLimit(caller=3, server=5, strangers=8, window_ms=600_000)

    @pytest.mark.parametrize(
        ("counts", "known", "shown"),
        [
            ({"of_caller": 2, "of_server": 4, "of_strangers": 7}, False, True),
            ({"of_caller": 3}, False, False),
            ({"of_caller": 3}, True, False),
            ({"of_server": 5}, False, False),
            ({"of_strangers": 8}, False, False),
            ({"of_server": 5, "of_strangers": 8}, True, True),
        ],
    )
    def test_each_limit_holds_for_those_whom_it_is_for(self, counts: dict[str, Any], known: bool, shown: bool) -> None:
        decision = rules.screen(replace(EVERYONE, rate=self.RATE), facts(known=known, **counts))
        assert decision.shown == shown
        assert decision.rule is (Rule.WHO if shown else Rule.RATE)

    def test_fifty_servers_of_fifty_people_show_no_more_than_strangers_may_and_a_contact_still_rings(self) -> None:
        policy = replace(EVERYONE, rate=self.RATE)
        mum = UserId("@mum:hs9.test")
        rings: list[RecentRing] = []
        now_ms = 1_700_000_000_000

        def rung_by(caller: UserId) -> bool:
            recent = Recent(rings=tuple(rings), known=frozenset(), contacts=frozenset({mum}))
            decision = rules.screen(policy, rules.facts_of(now_ms, caller, Circumstances(), policy, recent))
            rings.append(RecentRing(ring_ms=now_ms, caller=caller, shown=decision.shown))
            return decision.shown

        flood = [UserId(f"@p{person}:flood{server}.test") for server in range(50) for person in range(20)]
        assert sum(rung_by(caller) for caller in flood) == 8
        assert rung_by(mum)
        assert not rung_by(UserId("@yet-another:hs8.test"))

    def test_what_is_older_than_the_window_does_not_count(self) -> None:
        policy, now_ms = replace(EVERYONE, rate=self.RATE), 1_700_000_000_000
        old = tuple(RecentRing(ring_ms=now_ms - 600_000, caller=MALLORY, shown=True) for _ in range(9))
        recent = Recent(rings=old, known=frozenset(), contacts=frozenset())
        assert rules.facts_of(now_ms, MALLORY, Circumstances(), policy, recent).shown_of_caller == 0


class TestOtherRules:
    @pytest.mark.parametrize(
        ("policy", "known", "shown", "rule"),
        [
            (EVERYONE, facts(invites_blocked=True), False, Rule.INVITES),
            (replace(EVERYONE, allow=frozenset({MALLORY})), facts(invites_blocked=True), False, Rule.INVITES),
            (replace(EVERYONE, rooms=RoomChecks(prior_conversation=True)), facts(), False, Rule.ROOMS),
            (replace(EVERYONE, rooms=RoomChecks(prior_conversation=True)), facts(conversed=True), True, Rule.WHO),
            (replace(EVERYONE, rooms=RoomChecks(groups=False)), facts(is_group=True), False, Rule.ROOMS),
            (replace(EVERYONE, rooms=RoomChecks(groups=False)), facts(), True, Rule.WHO),
            (replace(EVERYONE, do_not_disturb=DoNotDisturb(until_ms=None)), facts(), False, Rule.DO_NOT_DISTURB),
            (replace(EVERYONE, do_not_disturb=DoNotDisturb(until_ms=10**13)), facts(), False, Rule.DO_NOT_DISTURB),
            (replace(EVERYONE, do_not_disturb=DoNotDisturb(until_ms=1)), facts(), True, Rule.WHO),
            (replace(EVERYONE, who=frozenset({Who.FOLLOWING})), facts(follows=True), True, Rule.WHO),
            (replace(EVERYONE, who=frozenset({Who.FOLLOWING})), facts(verified=True), False, Rule.WHO),
            (replace(EVERYONE, who=frozenset({Who.VERIFIED})), facts(verified=True), True, Rule.WHO),
            (replace(EVERYONE, who=frozenset({Who.VERIFIED})), facts(follows=True), False, Rule.WHO),
            (replace(EVERYONE, who=frozenset(), price=PRICE), facts(), False, Rule.PRICE),
            (replace(EVERYONE, who=frozenset(), price=PRICE), facts(has_paid=True), True, Rule.PRICE),
            (replace(EVERYONE, price=PRICE), facts(), True, Rule.WHO),
        ],
    )
    def test_they_decide_in_their_place(self, policy: Policy, known: Facts, shown: bool, rule: Rule) -> None:
        assert rules.screen(policy, known) == Decision(shown=shown, rule=rule)


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
        assert read({"v": 1, "ringtone": "loud"}) == policies.Reading(policy=DEFAULT)

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
                "rate": {"caller": 2, "strangers": 4, "window_ms": 60_000},
                "refusal": "silent",
                "rooms": {"prior_conversation": True, "groups": False},
                "do_not_disturb": {"until_ms": 5},
                "verified": {"issuers": ["hs1.test"]},
                "price": {"amount": 100, "currency": "EUR"},
                "offers": ["voicemail", "callback"],
                "relay_only": True,
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
            rate=RateLimit(caller=2, server=60, strangers=4, window_ms=60_000),
            refusal=Refusal.SILENT,
            rooms=RoomChecks(prior_conversation=True, groups=False),
            do_not_disturb=DoNotDisturb(until_ms=5),
            issuers=frozenset({"hs1.test"}),
            price=PRICE,
            offers=frozenset({Offer.VOICEMAIL, Offer.CALLBACK}),
            relay_only=True,
        )

    def test_a_slip_in_what_guards_an_address_keeps_guarding_it(self) -> None:
        reading = read({"v": 1, "relay_only": "yes"})
        assert reading.malformed == ("relay_only",)
        assert reading.policy.relay_only

    def test_the_owner_is_told_which_keys_restrict_nothing(self) -> None:
        assert "deny, who" in policies.warning(read({"v": 1, "who": 1, "deny": 2}))
        assert '"v": 1' in policies.warning(read({"v": 3}))

    @pytest.mark.parametrize("content", [{}, {"v": 2, "who": ["nobody"]}, {"v": True}, {"v": "1"}])
    def test_a_policy_of_an_unknown_version_lets_everybody_through(self, content: dict[str, Any]) -> None:
        reading = read(content)
        assert reading.malformed == ("v",)
        assert reading.policy == replace(DEFAULT, who=frozenset({Who.EVERYONE}))

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("rooms", {"groups": "no"}),
            ("do_not_disturb", True),
            ("verified", ["hs1.test"]),
            ("price", {"amount": 0, "currency": "EUR"}),
            ("offers", ["flowers"]),
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
