"""Rules of calls of many: roles, screens, opening hours, names at the SFU, what cannot be read."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from super_app.conferences import content, rules
from super_app.conferences.model import (
    CONNECT_MS,
    Care,
    Grant,
    Hall,
    Hours,
    Identity,
    Leave,
    LinkTerms,
    Role,
    Roles,
    ScreenShare,
    SfuRoom,
    Source,
    Window,
)
from super_app.errors import Reason, Refused
from super_app.ids import RoomId, UserId

HOST, SPEAKER, LISTENER = UserId("@host:hs1"), UserId("@speaker:hs1"), UserId("@listener:hs2")
STAGE = Roles(stage=True, hosts=(HOST,), speakers=(SPEAKER,))
BERLIN = ZoneInfo("Europe/Berlin")
LINK = "0123456789abcdef0123456789abcdef"
SCREEN = {Source.SCREEN_SHARE, Source.SCREEN_SHARE_AUDIO}


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp() * 1000)


def zone_of(name: str) -> ZoneInfo | None:
    return ZoneInfo(name) if name in ("Europe/Berlin", "UTC") else None


def hours(**more: Any) -> Hours:
    days = frozenset(more.get("days", range(5)))
    return Hours(zone=BERLIN, windows=(Window(days=days, from_minute=9 * 60, to_minute=more.get("to", 17) * 60),))


class TestRoles:
    @pytest.mark.parametrize(
        ("roles", "user_id", "may"),
        [
            (None, LISTENER, True),
            (Roles(), LISTENER, True),
            (STAGE, HOST, True),
            (STAGE, SPEAKER, True),
            (STAGE, LISTENER, False),
            (replace(STAGE, stage=False), LISTENER, True),
        ],
        ids=["no rules", "a plain call", "host", "speaker", "listener", "no stage"],
    )
    def test_on_a_stage_only_hosts_and_speakers_are_heard(
        self, roles: Roles | None, user_id: UserId, *, may: bool
    ) -> None:
        assert rules.grant_of(Hall(roles=roles), user_id, publishes_here=True).can_publish is may

    def test_whose_media_belongs_elsewhere_sends_nothing_here(self) -> None:
        assert rules.grant_of(Hall(roles=STAGE), HOST, publishes_here=False) == Grant(can_publish=False)

    def test_where_the_rules_cannot_be_read_nobody_is_heard(self) -> None:
        assert not rules.grant_of(Hall(garbled=True), HOST, publishes_here=True).can_publish

    @pytest.mark.parametrize(
        ("screen_share", "who"),
        [
            (ScreenShare.SPEAKERS, {HOST, SPEAKER}),
            (ScreenShare.HOSTS, {HOST}),
            (ScreenShare.NOBODY, set[UserId]()),
        ],
    )
    def test_a_screen_is_shown_by_whom_the_call_lets(self, screen_share: ScreenShare, who: set[UserId]) -> None:
        hall = Hall(roles=replace(STAGE, screen_share=screen_share))
        for user_id in (HOST, SPEAKER):
            grant = rules.grant_of(hall, user_id, publishes_here=True)
            assert grant.can_publish
            assert (grant.sources is None or grant.sources >= SCREEN) is (user_id in who)
            assert grant.sources is None or {Source.CAMERA, Source.MICROPHONE} <= grant.sources

    def test_in_a_call_of_sound_alone_there_is_no_camera(self) -> None:
        grant = rules.grant_of(Hall(roles=replace(STAGE, audio_only=True)), HOST, publishes_here=True)
        assert grant.sources == frozenset({Source.MICROPHONE, *SCREEN})

    def test_somebody_has_one_role_and_their_hand_goes_down(self) -> None:
        raised = replace(STAGE, hands=(LISTENER,))
        promoted = rules.with_role(raised, LISTENER, Role.SPEAKER)
        assert isinstance(promoted, Roles)
        assert (promoted.speakers, promoted.hands) == ((SPEAKER, LISTENER), ())
        host = rules.with_role(promoted, LISTENER, Role.HOST)
        assert isinstance(host, Roles)
        assert (host.hosts, host.speakers) == ((HOST, LISTENER), (SPEAKER,))
        listener = rules.with_role(host, SPEAKER, Role.LISTENER)
        assert isinstance(listener, Roles)
        assert rules.role_of(listener, SPEAKER) is Role.LISTENER

    def test_the_last_host_stays(self) -> None:
        refused = rules.with_role(STAGE, HOST, Role.LISTENER)
        assert isinstance(refused, Refused)
        assert refused.reason is Reason.CONFLICT

    def test_hands_are_those_of_listeners_in_the_order_in_which_they_went_up(self) -> None:
        other = UserId("@other:hs1")
        one = rules.with_hand(STAGE, LISTENER, raised=True, most=2)
        two = rules.with_hand(rules.with_hand(one, other, raised=True, most=2), LISTENER, raised=True, most=2)
        assert two.hands == (LISTENER, other)
        assert rules.with_hand(two, UserId("@third:hs1"), raised=True, most=2) == two
        assert rules.with_hand(two, SPEAKER, raised=True, most=9) == two
        assert rules.with_hand(two, LISTENER, raised=False, most=2).hands == (other,)


class TestOpening:
    @pytest.mark.parametrize(
        ("now", "is_open"),
        [
            ("2026-03-27 09:00", True),
            ("2026-03-27 16:59", True),
            ("2026-03-27 17:00", False),
            ("2026-03-27 08:59", False),
            ("2026-03-28 12:00", False),
            ("2026-03-30 09:00", True),
        ],
        ids=["opens", "last minute", "closes", "before", "Saturday", "after the clocks went forward"],
    )
    def test_a_call_is_open_by_the_clock_of_its_zone(self, now: str, *, is_open: bool) -> None:
        assert rules.is_open(hours(), at(now)) is is_open

    def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins(self) -> None:
        night = hours(days=(4,), to=2)
        assert rules.is_open(night, at("2026-03-28 01:59"))
        assert not rules.is_open(night, at("2026-03-28 02:00"))
        assert not rules.is_open(night, at("2026-03-27 01:00"))

    def test_who_comes_too_early_is_told_when(self) -> None:
        link = LinkTerms(link_id=LINK, hours=hours())
        refused = rules.closed_until(link, at("2026-03-27 17:00"))
        assert refused is not None
        assert refused.fields["opens_ts"] == at("2026-03-30 09:00")
        assert "2026-03-30 07:00 UTC" in refused.message

    def test_before_it_opens_and_after_it_closes_nobody_comes_in(self) -> None:
        link = LinkTerms(link_id=LINK, opens_ms=1_000, closes_ms=2_000)
        early, late = rules.closed_until(link, 999), rules.closed_until(link, 2_000)
        assert early is not None
        assert early.fields["opens_ts"] == 1_000
        assert late is not None
        assert "over" in late.message
        assert rules.closed_until(link, 1_000) is None

    def test_a_full_call_takes_nobody_but_its_hosts(self) -> None:
        hall = Hall(roles=STAGE, link=LinkTerms(link_id=LINK, most=2))
        refused = rules.may_enter(hall, LISTENER, 0, others=2)
        assert refused is not None
        assert refused.reason is Reason.CALL_FULL
        assert rules.may_enter(hall, LISTENER, 0, others=1) is None
        assert rules.may_enter(hall, HOST, 0, others=2) is None
        assert rules.may_enter(replace(hall, link=None), LISTENER, 0, others=9) is None

    def test_a_host_comes_in_before_it_opens(self) -> None:
        hall = Hall(roles=STAGE, link=LinkTerms(link_id=LINK, opens_ms=1_000))
        assert rules.may_enter(hall, HOST, 0, others=0) is None
        assert rules.may_enter(hall, SPEAKER, 0, others=0) is not None


class TestReading:
    def test_what_is_written_is_what_is_read(self) -> None:
        roles = replace(STAGE, audio_only=True, screen_share=ScreenShare.HOSTS, hands=(LISTENER,))
        assert content.read_roles(content.roles_content(roles)) == roles

    @pytest.mark.parametrize(
        "wrong",
        [
            {"stage": "yes"},
            {"hosts": ["nobody"]},
            {"speakers": "@a:b"},
            {"screen_share": "all"},
            {"hands": [f"@p{number}:hs1" for number in range(501)]},
        ],
        ids=str,
    )
    def test_roles_of_another_shape_are_none(self, wrong: dict[str, Any]) -> None:
        assert isinstance(content.read_roles(wrong), Refused)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"link_id": "short"},
            {"opens_ms": 5, "closes_ms": 5},
            {"max": -1},
            {"hours": {"time_zone": "Nowhere/Land", "windows": [{"from": "09:00", "to": "17:00"}]}},
            {"hours": {"time_zone": "UTC", "windows": [{"from": "24:00", "to": "17:00"}]}},
            {"hours": {"time_zone": "UTC", "windows": []}},
        ],
        ids=str,
    )
    def test_a_link_of_another_shape_is_none(self, wrong: dict[str, Any]) -> None:
        assert isinstance(content.read_link({"link_id": LINK, **wrong}, zone_of), Refused)

    def test_a_link_is_read_whole(self) -> None:
        said = {
            "link_id": LINK,
            "title": "Office",
            "waiting_room": True,
            "max": 5,
            "hours": {"time_zone": "Europe/Berlin", "windows": [{"from": "09:00", "to": "17:00", "days": ["mon"]}]},
            "a field of later": 1,
        }
        found = content.read_link(said, zone_of)
        assert isinstance(found, LinkTerms)
        assert (found.title, found.waiting_room, found.most) == ("Office", True, 5)
        assert found.hours == hours(days=(0,))


class TestNames:
    def test_they_are_those_that_other_clients_derive(self) -> None:
        # sha256 of '["!r:a","m.call#ROOM"]' and of '["@u:a","M"]', base64 without padding.
        assert rules.sfu_room_of(RoomId("!r:a"), "m.call#ROOM") == "ijuh++EdlalT+PzbDJBWbw0eR1PyG7siQeubW7H4zCk"
        assert rules.identity_of(UserId("@u:a"), "M") == "XgGfg19UhAs1uOWjp0EZHDEIdVlIGeh4mATETiQUuik"


class TestLeaves:
    @pytest.mark.parametrize(
        ("was", "now", "age_ms", "since_ms", "care"),
        [
            (True, False, 0, 0, Care.SEND),
            (True, True, 0, 9_999, Care.WAIT),
            (True, True, 0, 10_000, Care.RESTART),
            (False, False, 1_000, 10_000, Care.RESTART),
            (False, False, CONNECT_MS + 1, 0, Care.GIVE_UP),
            (True, True, CONNECT_MS + 1, 0, Care.WAIT),
        ],
        ids=["gone", "connected", "due", "not yet there", "never came", "long there"],
    )
    def test_it_is_kept_back_while_its_device_is_there_or_may_come(
        self, age_ms: int, since_ms: int, care: Care, *, was: bool, now: bool
    ) -> None:
        now_ms = 1_000_000
        leave = Leave(
            sfu_room=SfuRoom("R"),
            identity=Identity("I"),
            delay_id="d",
            delay_ms=30_000,
            delegated_ms=now_ms - age_ms,
            restarted_ms=now_ms - since_ms,
            was_connected=was,
            is_connected=now,
        )
        assert rules.care_of(leave, now_ms) is care


def test_times_in_sentences_are_utc() -> None:
    link = LinkTerms(link_id=LINK, opens_ms=int(datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp() * 1000))
    refused = rules.closed_until(link, 0)
    assert refused is not None
    assert "2026-07-01 12:00 UTC" in refused.message
