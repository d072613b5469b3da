"""Calls through the API: ringing by handle, offers, one's policy, erasing, media; and what guards against abuse."""

from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.module_api.errors import SynapseError
from test_calls_shell import (
    ENCRYPTED,
    EVERYONE,
    INVITE,
    MEMBER,
    POLICY,
    REMOTE,
    RING,
    RTC_RING,
    STRANGER,
    add_contact,
    calls,
    homeserver,
    invite,
    is_hidden,
    outcomes,
    ring,
    rtc_ring,
    set_policy,
)

from super_app.ids import UserId

STICKY_MEMBER = "org.matrix.msc4143.rtc.member"


@pytest.fixture
def hs() -> FakeHomeserver:
    return homeserver()


@pytest.fixture
def alice(hs: FakeHomeserver) -> str:
    return hs.register("alice")


@pytest.fixture
def bob(hs: FakeHomeserver) -> str:
    return hs.register("bob")


def refusal_of(hs: FakeHomeserver, *arguments: Any, **more: Any) -> tuple[int, str]:
    with pytest.raises(SynapseError) as refusal:
        hs.call(*arguments, **more)
    return refusal.value.code, str(refusal.value.errcode).removeprefix("ORG.SUPERAPP.")


def starts(hs: FakeHomeserver, caller: str, callee: str, call_id: str = "call-1", **more: Any) -> dict[str, Any]:
    return hs.call("POST", "calls", caller, {"call_id": call_id, "callee": callee, "media": "audio", **more})


class TestRinging:
    def test_a_person_is_rung_in_the_direct_room_which_is_made_if_there_is_none(
        self, hs: FakeHomeserver, alice: str, bob: str
    ) -> None:
        begun = starts(hs, alice, bob)
        assert (begun["state"], begun["callee"]) == ("ringing", bob)
        room = begun["room_id"]
        assert hs.memberships(room) == {alice: "join", bob: "invite"}
        assert outcomes(hs, bob) == outcomes(hs, alice) == ["ringing"]
        assert starts(hs, alice, bob, "call-2")["room_id"] == room

    def test_a_name_alone_means_somebody_here(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        assert starts(hs, alice, "bob")["callee"] == bob

    def test_it_rings_in_every_protocol_and_is_one_call(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        room = hs.room(alice, bob)
        member = hs.send(alice, room, MEMBER, {"application": "m.call"}, state_key=f"_{alice}_A_m.call")
        starts(hs, alice, bob, offer={"sdp": "v=0", "party_id": "A"}, membership=member)
        (ours,), (legacy,) = hs.sent(room, RING), hs.sent(room, INVITE)
        (notification,) = hs.sent(room, RTC_RING)
        assert (ours.content["call_id"], legacy.content["call_id"]) == ("call-1", "call-1")
        assert notification.content["m.relates_to"]["event_id"] == member
        assert outcomes(hs, alice) == outcomes(hs, bob) == ["ringing"]

    def test_the_same_again_rings_nobody_and_says_what_became_of_it(
        self, hs: FakeHomeserver, alice: str, bob: str
    ) -> None:
        room = hs.room(alice, bob)
        starts(hs, alice, bob)
        hs.send(bob, room, "m.call.reject", {"call_id": "call-1"})
        assert starts(hs, alice, bob)["state"] == "declined"
        assert len(hs.sent(room, RING)) == 1
        body = {"call_id": "call-1", "callee": bob, "media": "video"}
        assert refusal_of(hs, "POST", "calls", alice, body) == (409, "CONFLICT")

    def test_a_screened_caller_hears_so_each_time_and_nothing_is_in_the_room(
        self, hs: FakeHomeserver, alice: str, bob: str
    ) -> None:
        set_policy(hs, bob, who=["nobody"], offers=["voicemail"])
        room = hs.room(alice, bob)
        body = {"call_id": "call-1", "callee": bob, "media": "audio"}
        for _ in range(2):
            assert refusal_of(hs, "POST", "calls", alice, body) == (403, "NOT_AVAILABLE")
        assert hs.sent(room, RING) == hs.sent(room, RTC_RING) == []
        assert outcomes(hs, bob) == ["screened"]

    @pytest.mark.parametrize(
        ("body", "refusal"),
        [
            ({"callee": "@alice:hs1.test"}, (422, "INVALID_VALUE")),
            ({"callee": "@nobody:hs1.test"}, (404, "UNKNOWN_HANDLE")),
            ({"media": "smell"}, (422, "INVALID_VALUE")),
            ({"lifetime": 10**9}, (422, "INVALID_VALUE")),
            ({"call_id": "no spaces"}, (422, "INVALID_VALUE")),
            ({"ringtone": "loud"}, (422, "UNKNOWN_FIELD")),
        ],
    )
    def test_a_wrong_request_is_refused_by_name(
        self, hs: FakeHomeserver, alice: str, bob: str, body: dict[str, Any], refusal: tuple[int, str]
    ) -> None:
        whole = {"call_id": "call-1", "callee": bob, "media": "audio", **body}
        assert refusal_of(hs, "POST", "calls", alice, whole) == refusal


class TestStickyMemberships:
    def test_they_answer_and_leave_calls_as_state_does(self, hs: FakeHomeserver, bob: str) -> None:
        room = hs.room(bob, REMOTE)
        theirs = hs.receive(REMOTE, room, STICKY_MEMBER, {"application": {}, "msc4354_sticky_key": "phone"})
        hs.receive(REMOTE, room, RTC_RING, rtc_ring(theirs))
        hs.send(bob, room, STICKY_MEMBER, {"application": {}, "msc4354_sticky_key": "mine"}, sticky=True)
        assert outcomes(hs, bob) == ["answered"]
        hs.send(bob, room, STICKY_MEMBER, {"msc4354_sticky_key": "mine"}, sticky=True)
        hs.advance(9)
        assert calls(hs, bob)[0]["ended_by"] == bob

    def test_one_without_a_key_is_none(self, hs: FakeHomeserver, bob: str) -> None:
        room = hs.room(bob, REMOTE)
        hs.receive(REMOTE, room, RTC_RING, rtc_ring("$member"))
        hs.send(bob, room, STICKY_MEMBER, {"application": {}}, sticky=True)
        assert outcomes(hs, bob) == ["ringing"]

    def test_a_ring_that_refers_to_an_encrypted_one_is_screened(self, hs: FakeHomeserver, bob: str) -> None:
        set_policy(hs, bob, who=["nobody"])
        room = hs.room(bob, STRANGER, encrypted=True)
        member = hs.receive(STRANGER, room, ENCRYPTED, {"ciphertext": "x"}, sticky=True)
        relation = {"m.relates_to": {"rel_type": "m.reference", "event_id": member}, "ciphertext": "x"}
        assert is_hidden(hs, hs.receive(STRANGER, room, ENCRYPTED, relation))


class TestGroups:
    @pytest.mark.parametrize(
        ("event_type", "content", "key", "value"),
        [
            (RING, ring(), "content.call_id", "call-1"),
            (INVITE, invite(), "content.call_id", "call-1"),
            (RTC_RING, rtc_ring("$member"), "content.m\\.relates_to.event_id", "$member"),
        ],
        ids=["ours", "legacy", "rtc"],
    )
    def test_who_does_not_want_a_ring_is_not_notified_of_that_call_and_the_others_are(
        self, hs: FakeHomeserver, alice: str, bob: str, event_type: str, content: dict[str, Any], key: str, value: str
    ) -> None:
        set_policy(hs, bob, who=["nobody"])
        room = hs.room(alice, bob, STRANGER)
        assert not is_hidden(hs, hs.receive(STRANGER, room, event_type, content))
        assert (outcomes(hs, alice), outcomes(hs, bob)) == (["ringing"], ["screened"])
        ((person, _),) = hs.push_rules
        assert person == bob
        assert hs.push_rules[next(iter(hs.push_rules))] == {"room_id": room, "sender": STRANGER, key: value}

    def test_the_rule_goes_when_the_ring_is_over(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        set_policy(hs, bob, who=["nobody"])
        hs.receive(STRANGER, hs.room(alice, bob, STRANGER), RING, ring())
        hs.advance(3_700)
        assert hs.push_rules == {}
        assert hs.query("SELECT COUNT(*) FROM superapp_calls_silence") == [(0,)]

    def test_groups_ring_nobody_who_wants_no_group_calls(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        set_policy(hs, bob, who=["everyone"], rooms={"groups": False})
        hs.receive(STRANGER, hs.room(alice, bob, STRANGER), RING, ring())
        assert calls(hs, bob)[0]["screened_by"] == "rooms"
        hs.receive(STRANGER, hs.room(bob, STRANGER), RING, ring("direct"))
        assert outcomes(hs, bob)[0] == "ringing"

    def test_a_ring_in_a_room_of_a_thousand_is_nobodys(self, hs: FakeHomeserver, bob: str) -> None:
        set_policy(hs, bob, who=["nobody"])
        room = hs.room(bob, *(f"@p{number}:hs9.test" for number in range(999)))
        hs.statements.clear()
        assert not is_hidden(hs, hs.receive("@p1:hs9.test", room, RTC_RING, rtc_ring()))
        assert calls(hs, bob) == []
        assert hs.push_rules == {}


class TestOffers:
    VOICE = {"url": "mxc://hs1.test/abc", "mimetype": "audio/ogg", "duration_ms": 4_000}

    def misses(self, hs: FakeHomeserver, alice: str, bob: str, **room: Any) -> str:
        set_policy(hs, bob, who=["everyone"], offers=["voicemail", "callback"])
        made = hs.room(alice, bob, **room)
        hs.send(alice, made, RING, ring())
        hs.advance(62)
        return made

    def test_a_voice_message_is_left_once_and_says_which_call_it_is_about(
        self, hs: FakeHomeserver, alice: str, bob: str
    ) -> None:
        room = self.misses(hs, alice, bob)
        assert hs.call("GET", "calls/call-1", alice)["offers"] == ["callback", "voicemail"]
        taken = hs.call("POST", "calls/call-1/voicemail", alice, self.VOICE)
        (message,) = hs.sent(room, "m.room.message")
        assert (taken["event_id"], message.sender, message.content["url"]) == (
            message.event_id,
            alice,
            "mxc://hs1.test/abc",
        )
        assert message.content["org.superapp.call.voicemail"] == {"call_id": "call-1"}
        assert refusal_of(hs, "POST", "calls/call-1/voicemail", alice, self.VOICE) == (409, "CONFLICT")

    def test_in_an_encrypted_room_the_client_sends_it_itself(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        room = self.misses(hs, alice, bob, encrypted=True)
        assert hs.call("POST", "calls/call-1/voicemail", alice, self.VOICE) == {"room_id": room}
        assert hs.sent(room, "m.room.message") == []

    def test_a_wish_to_be_called_back_is_in_both_histories(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        room = self.misses(hs, alice, bob)
        for _ in range(2):
            hs.call("POST", "calls/call-1/callback", alice)
        assert len(hs.sent(room, "m.room.message")) == 1
        assert calls(hs, bob)[0]["callback_ts"] == calls(hs, alice)[0]["callback_ts"]

    @pytest.mark.parametrize("what", ["voicemail", "callback"])
    def test_nobody_takes_what_is_not_offered(self, hs: FakeHomeserver, alice: str, bob: str, what: str) -> None:
        hs.send(alice, hs.room(alice, bob), RING, ring())
        body = self.VOICE if what == "voicemail" else None
        assert refusal_of(hs, "POST", f"calls/call-1/{what}", alice, body) == (409, "CONFLICT")
        hs.advance(62)
        assert refusal_of(hs, "POST", f"calls/call-1/{what}", alice, body) == (403, "NOT_OFFERED")
        assert refusal_of(hs, "POST", f"calls/call-1/{what}", bob, body) == (404, "UNKNOWN_CALL")


class TestPolicy:
    def test_whoever_was_rung_is_told_why_not_and_the_caller_is_not(
        self, hs: FakeHomeserver, alice: str, bob: str
    ) -> None:
        set_policy(hs, bob, who=["contacts"])
        with pytest.raises(SynapseError):
            hs.send(alice, hs.room(alice, bob), RING, ring())
        mine = hs.call("GET", "calls/call-1", bob)
        assert mine["screened_by"] == "who"
        assert alice in mine["explanation"]
        theirs = hs.call("GET", "calls/call-1", alice)
        assert not {"screened_by", "explanation"} & theirs.keys()
        assert refusal_of(hs, "GET", "calls/none", bob) == (404, "UNKNOWN_CALL")

    @pytest.mark.parametrize(
        ("kind", "content"),
        [
            ("m.invite_permission_config", {"default_action": "block"}),
            ("org.matrix.msc4155.invite_permission_config", {"blocked_users": ["@stranger:*"]}),
            ("org.matrix.msc4155.invite_permission_config", {"ignored_servers": ["hs3.test"]}),
        ],
    )
    def test_whoever_may_not_invite_may_not_ring_whatever_the_policy_says(
        self, hs: FakeHomeserver, bob: str, kind: str, content: dict[str, Any]
    ) -> None:
        hs.account_data[(bob, kind)] = content
        set_policy(hs, bob, who=["everyone"], allow=[STRANGER])
        assert is_hidden(hs, hs.receive(STRANGER, hs.room(bob, STRANGER), RING, ring()))
        assert calls(hs, bob)[0]["screened_by"] == "invites"

    def test_invitations_that_are_allowed_ring(self, hs: FakeHomeserver, bob: str) -> None:
        kind = "org.matrix.msc4155.invite_permission_config"
        hs.account_data[(bob, kind)] = {"allowed_users": [STRANGER], "blocked_servers": ["*"]}
        assert not is_hidden(hs, hs.receive(STRANGER, hs.room(bob, STRANGER), RING, ring()))
        assert is_hidden(hs, hs.receive(REMOTE, hs.room(bob, REMOTE), RING, ring("other")))

    def test_a_prior_conversation_can_be_asked_for(self, hs: FakeHomeserver, bob: str) -> None:
        set_policy(hs, bob, who=["everyone"], rooms={"prior_conversation": True})
        room = hs.room(bob, STRANGER)
        assert is_hidden(hs, hs.receive(STRANGER, room, RING, ring()))
        hs.send(bob, room, "m.room.message", {"msgtype": "m.text", "body": "hello"})
        assert not is_hidden(hs, hs.receive(STRANGER, room, RING, ring("call-2")))

    def test_a_policy_that_changes_counts_at_once(self, hs: FakeHomeserver, bob: str) -> None:
        room = hs.room(bob, STRANGER)
        for number, who in enumerate((["everyone"], ["nobody"], ["everyone"])):
            set_policy(hs, bob, who=who)
            hidden = is_hidden(hs, hs.receive(STRANGER, room, RING, ring(f"call-{number}")))
            assert hidden == (who == ["nobody"])

    def test_a_contact_that_is_made_or_dropped_counts_at_once(self, hs: FakeHomeserver, bob: str) -> None:
        set_policy(hs, bob, who=["contacts"])
        room = hs.room(bob, STRANGER)
        assert is_hidden(hs, hs.receive(STRANGER, room, RING, ring("one")))
        hs.call("PUT", f"contacts/{STRANGER}", bob)
        assert not is_hidden(hs, hs.receive(STRANGER, room, RING, ring("two")))
        hs.call("DELETE", f"contacts/{STRANGER}", bob)
        assert is_hidden(hs, hs.receive(STRANGER, room, RING, ring("three")))

    def test_a_malformed_policy_lets_rings_through_and_warns_its_owner(self, hs: FakeHomeserver, bob: str) -> None:
        set_policy(hs, bob, who="nobody", deny=[STRANGER])
        assert not is_hidden(hs, hs.receive(REMOTE, hs.room(bob, REMOTE), RING, ring()))
        assert is_hidden(hs, hs.receive(STRANGER, hs.room(bob, STRANGER), RING, ring("denied")))
        shown = hs.call("GET", "call_policy", bob)
        assert shown["malformed"] == ["who"]
        warning = hs.account_data[(bob, f"{POLICY}.warning")]
        assert (warning["malformed"], warning["warning"]) == (["who"], shown["warning"])
        set_policy(hs, bob, who=["nobody"])
        hs.receive(STRANGER, hs.room(bob, STRANGER), RING, ring("again"))
        assert hs.account_data[(bob, f"{POLICY}.warning")] == {"malformed": []}

    def test_do_not_disturb_is_switched_without_touching_the_rest(self, hs: FakeHomeserver, bob: str) -> None:
        set_policy(hs, bob, who=["everyone"], deny=[STRANGER])
        until_ms = hs.now_ms() + 3_600_000
        assert hs.call("PUT", "call_policy/do_not_disturb", bob, {"until_ms": until_ms})["do_not_disturb"]
        room = hs.room(bob, REMOTE)
        assert is_hidden(hs, hs.receive(REMOTE, room, RING, ring()))
        assert calls(hs, bob)[0]["screened_by"] == "do_not_disturb"
        assert not hs.call("DELETE", "call_policy/do_not_disturb", bob)["do_not_disturb"]
        assert not is_hidden(hs, hs.receive(REMOTE, room, RING, ring("call-2")))
        assert hs.account_data[(bob, POLICY)] == {"v": 1, "who": ["everyone"], "deny": [STRANGER]}
        hs.account_data[(bob, POLICY)] = {"v": 2}
        assert refusal_of(hs, "PUT", "call_policy/do_not_disturb", bob, {}) == (409, "CONFLICT")


class TestHistory:
    def test_calls_are_taken_out_of_it_and_exported(self, hs: FakeHomeserver, bob: str) -> None:
        room = hs.room(bob, REMOTE)
        for number in range(3):
            hs.receive(REMOTE, room, INVITE, invite(f"call-{number}"))
            hs.send(bob, room, "m.call.reject", {"call_id": f"call-{number}"})
            hs.advance(1)
        export = hs.call("GET", "call_export", bob)
        assert [each["call_id"] for each in export["calls"]] == ["call-2", "call-1", "call-0"]
        assert hs.call("DELETE", "calls/call-1", bob) == {"erased": 1}
        assert [each["call_id"] for each in calls(hs, bob)] == ["call-2", "call-0"]
        assert refusal_of(hs, "DELETE", "calls/call-1", bob) == (404, "UNKNOWN_CALL")
        assert hs.call("DELETE", "calls", bob) == {"erased": 2}
        assert calls(hs, bob) == []

    def test_one_that_rings_is_not_taken_out(self, hs: FakeHomeserver, bob: str) -> None:
        hs.receive(REMOTE, hs.room(bob, REMOTE), INVITE, invite())
        assert refusal_of(hs, "DELETE", "calls/call-1", bob) == (409, "CONFLICT")

    def test_with_the_account_they_go(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        hs.send(alice, hs.room(alice, bob), INVITE, invite())
        for deactivated in hs.api.callbacks["on_user_deactivation_status_changed"]:
            hs.result(deactivated(bob, True, False))
        assert calls(hs, bob) == []
        assert outcomes(hs, alice) == ["ringing"]

    def test_they_go_within_the_hour_if_a_crash_hid_that_the_account_was_closed(
        self, hs: FakeHomeserver, alice: str, bob: str
    ) -> None:
        hs.send(alice, hs.room(alice, bob), INVITE, invite())
        hs.deactivated.add(bob)
        hs.advance(3_700)
        assert calls(hs, bob) == []
        assert outcomes(hs, alice) == ["missed"]

    def test_a_client_says_what_became_of_media(self, hs: FakeHomeserver, alice: str, bob: str) -> None:
        room = hs.room(alice, bob)
        hs.send(alice, room, RING, ring())
        assert refusal_of(hs, "POST", "calls/call-1/media", bob, {"media": "connected"}) == (409, "CONFLICT")
        hs.send(bob, room, "m.call.answer", {"call_id": "call-1"})
        said = {"media": "connected", "quality": {"loss_permille": 3, "rating": 5}}
        entry = hs.call("POST", "calls/call-1/media", bob, said)
        assert entry["quality"] == {"loss_permille": 3, "rating": 5}
        assert entry["media_ts"] == pytest.approx(hs.now_ms(), abs=100)
        assert refusal_of(hs, "POST", "calls/none/media", bob, {}) == (404, "UNKNOWN_CALL")

    def test_one_that_says_that_it_connects_and_never_does_is_over(
        self, hs: FakeHomeserver, alice: str, bob: str
    ) -> None:
        room = hs.room(alice, bob)
        hs.send(alice, room, RING, ring())
        hs.send(bob, room, "m.call.answer", {"call_id": "call-1"})
        hs.call("POST", "calls/call-1/media", bob, {"media": "connecting"})
        hs.advance(17)
        (mine,) = calls(hs, bob)
        assert mine["duration_ms"] == pytest.approx(15_000, abs=200)
        assert "media_ts" not in mine


class TestFloods:
    def test_a_person_here_rings_only_so_often(self, bob: str) -> None:
        hs = homeserver(limits={"rings": 3, "window": "10m"})
        alice, bob = hs.register("alice"), hs.register("bob")
        room = hs.room(alice, bob)
        for number in range(3):
            hs.send(alice, room, RING, ring(f"call-{number}"))
        with pytest.raises(SynapseError) as refusal:
            hs.send(alice, room, RING, ring("call-3"))
        assert (refusal.value.code, refusal.value.errcode) == (429, "ORG.SUPERAPP.TOO_MANY_REQUESTS")
        assert 0 < refusal.value._additional_fields["retry_after_ms"] <= 600_000
        hs.advance(601)
        hs.send(alice, room, RING, ring("call-4"))

    def test_the_same_call_in_another_protocol_is_no_further_ring(self) -> None:
        hs = homeserver(limits={"rings": 1})
        alice, bob = hs.register("alice"), hs.register("bob")
        room = hs.room(alice, bob)
        hs.send(alice, room, RING, ring())
        hs.send(alice, room, INVITE, invite())

    def test_a_homeserver_rings_only_so_many_strangers_here(self) -> None:
        hs = homeserver(limits={"server_rings": 2})
        people = [hs.register(f"person{number}") for number in range(4)]
        add_contact(hs, people[3], STRANGER)
        hidden = [
            is_hidden(hs, hs.receive(STRANGER, hs.room(person, STRANGER), RING, ring(f"c{number}")))
            for number, person in enumerate(people)
        ]
        assert hidden == [False, False, True, False]
        assert calls(hs, people[2])[0]["screened_by"] == "rate"

    def test_what_was_shown_before_a_restart_counts_after_it(self, hs: FakeHomeserver, bob: str) -> None:
        set_policy(hs, bob, who=["everyone"], rate={"caller": 1})
        room = hs.room(bob, STRANGER)
        assert not is_hidden(hs, hs.receive(STRANGER, room, RING, ring("one")))
        hs.restart()
        assert is_hidden(hs, hs.receive(STRANGER, room, RING, ring("two")))

    def test_refusals_tell_nothing_of_the_rule(self, hs: FakeHomeserver, bob: str) -> None:
        """Whatever rule spoke, the words are the same, and asking again says no more."""
        said: set[str] = set()
        wishes: tuple[dict[str, Any], ...] = (
            {"who": ["nobody"]},
            {"who": ["everyone"], "deny": ["@p1:hs3.test"]},
            {"who": ["everyone"], "servers": {"deny": ["hs3.test"]}},
            {"who": ["everyone"], "do_not_disturb": {}},
        )
        for number, policy in enumerate(wishes):
            caller = f"@p{number}:hs3.test"
            room = hs.room(bob, caller)
            set_policy(hs, bob, **policy)
            for again in range(3):
                hs.receive(caller, room, RING, ring(f"call-{number}-{again}"))
            hs.advance(4)
            (screened,) = hs.sent(room, "org.superapp.call.screened")
            content = {key: value for key, value in screened.content.items() if key not in ("call_id", "m.relates_to")}
            said.add(str(content))
        assert len(said) == 1


class TestTurn:
    @pytest.fixture
    def secret(self, tmp_path: Path) -> str:
        path = tmp_path / "turn"
        path.write_text("north\n")
        return str(path)

    def hs(self, secret: str, **more: Any) -> FakeHomeserver:
        return homeserver(turn_uris=["turn:turn.test"], turn_secret_path=secret, **more)

    def test_credentials_are_given_so_often_and_not_after_the_end(self, secret: str) -> None:
        hs = self.hs(secret, limits={"turn": 2})
        alice, bob = hs.register("alice"), hs.register("bob")
        room = hs.room(alice, bob)
        hs.send(alice, room, RING, ring())
        for _ in range(2):
            hs.call("GET", "calls/call-1/turn", alice)
        assert refusal_of(hs, "GET", "calls/call-1/turn", alice) == (429, "TOO_MANY_REQUESTS")
        hs.call("GET", "calls/call-1/turn", bob)
        hs.send(bob, room, "m.call.reject", {"call_id": "call-1"})
        assert refusal_of(hs, "GET", "calls/call-1/turn", bob) == (404, "UNKNOWN_CALL")

    def test_those_for_the_call_of_a_room_are_for_who_is_in_it_and_of_the_same_quota(self, secret: str) -> None:
        hs = self.hs(secret, limits={"turn": 2})
        alice, bob = hs.register("alice"), hs.register("bob")
        room = hs.room(alice)
        first, again = (hs.call("GET", f"call_rooms/{room}/turn", alice) for _ in range(2))
        name, other = (each["username"].split(":")[1] for each in (first, again))
        assert name == other
        assert name != hs.call("GET", f"call_rooms/{hs.room(bob)}/turn", bob)["username"].split(":")[1]
        assert refusal_of(hs, "GET", f"call_rooms/{room}/turn", bob) == (403, "NOT_IN_ROOM")
        assert refusal_of(hs, "GET", f"call_rooms/{room}/turn", alice) == (429, "TOO_MANY_REQUESTS")

    def test_synapses_own_credentials_come_out_of_the_same_quota(self, secret: str) -> None:
        hs = self.hs(secret, limits={"turn": 2})
        (guard,) = hs.turn_guards
        hs.result(guard(UserId("@alice:hs1.test")))
        hs.result(guard(UserId("@alice:hs1.test")))
        with pytest.raises(SynapseError) as refusal:
            hs.result(guard(UserId("@alice:hs1.test")))
        assert refusal.value.code == 429
        hs.result(guard(UserId("@bob:hs1.test")))

    def test_who_hides_their_address_is_told_to_use_the_relay_alone(self, secret: str) -> None:
        hs = self.hs(secret)
        alice, bob = hs.register("alice"), hs.register("bob")
        set_policy(hs, bob, who=["everyone"], relay_only=True)
        hs.send(alice, hs.room(alice, bob), RING, ring())
        assert hs.call("GET", "calls/call-1/turn", bob)["relay_only"]
        assert not hs.call("GET", "calls/call-1/turn", alice)["relay_only"]


def test_defaults_are_those_of_the_operator() -> None:
    hs = FakeHomeserver(config={"features": {"directory": False, "payments": False, "web": False}, "calls": EVERYONE})
    hs.start()
    shown = hs.call("GET", "call_policy", hs.register("bob"))
    assert (shown["who"], shown["offers"], shown["malformed"]) == (["everyone"], ["message"], [])
