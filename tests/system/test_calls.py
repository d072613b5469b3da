"""Calls between real homeservers: who is rung, who is screened, and what each side records."""

import itertools
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from running_demo import RunningDemo

from super_app.names import AccountDataType
from synapse_super_app.commands.demo_pair import DemoPair
from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError, wait_until

pytestmark = pytest.mark.on("sqlite")

Json = dict[str, Any]

RING: Final = "org.superapp.call.ring"
INVITE: Final = "m.call.invite"
RTC_RING: Final = "org.matrix.msc4075.rtc.notification"
MEMBER: Final = "org.matrix.msc3401.call.member"
DECLINES: Final = {RING: "m.call.reject", INVITE: "m.call.reject", RTC_RING: "org.matrix.msc4310.rtc.decline"}
PROTOCOLS: Final = (RING, INVITE, RTC_RING)
EVERYONE: Final = {"v": 1, "who": ["everyone"]}
WAIT_S: Final = 20.0

_numbers: Final = itertools.count()


def direct_room(caller: MatrixClient, callee: MatrixClient, **more: Any) -> str:
    room_id = caller.create_room(preset="trusted_private_chat", is_direct=True, invite=[callee.user_id], **more)

    def has_joined() -> bool:
        try:
            callee.join(room_id, via=caller.user_id.partition(":")[2])
        except MatrixError:  # the invitation is still on its way
            return False
        return callee.user_id in caller.joined_members(room_id)

    wait_until(has_joined, timeout_s=WAIT_S, what=f"{callee.user_id} to join")
    return room_id


def join_call(person: MatrixClient, room_id: str) -> str:
    """A MatrixRTC membership, as clients write it before they ring."""
    content = {
        "application": "m.call",
        "call_id": "",
        "device_id": "DEVICE",
        "focus_active": {"type": "livekit", "focus_selection": "oldest_membership"},
        "foci_preferred": [],
    }
    return person.send_state(room_id, MEMBER, content, f"_{person.user_id}_DEVICE_m.call")


def leave_call(person: MatrixClient, room_id: str) -> None:
    person.send_state(room_id, MEMBER, {}, f"_{person.user_id}_DEVICE_m.call")


def ring(caller: MatrixClient, room_id: str, event_type: str, *, lifetime_ms: int = 60_000) -> str:
    """Ring in one of the protocols; the call id."""
    call_id = f"call-{next(_numbers)}.{room_id[1:9]}"
    match event_type:
        case "org.superapp.call.ring":
            caller.send(room_id, RING, {"call_id": call_id, "media": "audio", "lifetime": lifetime_ms})
        case "m.call.invite":
            offer = {"type": "offer", "sdp": "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"}
            content = {"call_id": call_id, "version": "1", "party_id": "A", "lifetime": lifetime_ms, "offer": offer}
            caller.send(room_id, INVITE, content)
        case _:
            call_id = join_call(caller, room_id)
            content = {
                "notification_type": "ring",
                "m.mentions": {"user_ids": [], "room": True},
                "m.relates_to": {"rel_type": "m.reference", "event_id": call_id},
                "lifetime": lifetime_ms,
            }
            caller.send(room_id, RTC_RING, content)
    return call_id


def call_of(person: MatrixClient, call_id: str) -> Json | None:
    found = [call for call in person.superapp("GET", "calls")["calls"] if call["call_id"] == call_id]
    assert len(found) <= 1
    return found[0] if found else None


def recorded(person: MatrixClient, call_id: str, outcome: str, *, ended: bool = False) -> Json:
    """The person's record of a call, once it has this outcome."""

    def has_come() -> Json | None:
        call = call_of(person, call_id)
        return call if call is not None and call["outcome"] == outcome and (not ended or "end_ts" in call) else None

    return wait_until(has_come, timeout_s=WAIT_S, what=f"{person.user_id} to record {call_id} as {outcome}")


@contextmanager
def policy(person: MatrixClient, **content: Any) -> Generator[None]:
    person.set_account_data(AccountDataType.CALL_POLICY, {"v": 1, **content})
    try:
        yield
    finally:
        person.set_account_data(AccountDataType.CALL_POLICY, EVERYONE)


@contextmanager
def contact(person: MatrixClient, handle: str) -> Generator[None]:
    person.superapp("PUT", f"contacts/{handle}")
    try:
        yield
    finally:
        person.superapp("DELETE", f"contacts/{handle}")


def sees(person: MatrixClient, room_id: str, event_type: str) -> list[Json]:
    return [event for event in person.messages(room_id, 100) if event["type"] == event_type]


# A refusal is sent once in ten minutes per caller, so each protocol has a pair of its own.
@pytest.mark.parametrize(
    ("event_type", "callee_name", "friend_name", "stranger_name"),
    [(RING, "bob", "alice", "dave"), (INVITE, "carol", "alice", "dave"), (RTC_RING, "dave", "bob", "carol")],
    ids=["ours", "legacy", "matrixrtc"],
)
def test_a_contact_elsewhere_rings_and_a_stranger_is_screened_and_both_sides_record_it(
    demo: RunningDemo, event_type: str, callee_name: str, friend_name: str, stranger_name: str
) -> None:
    with (
        demo.client(callee_name) as callee,
        demo.client(friend_name) as friend,
        demo.client(stranger_name) as stranger,
    ):
        from_friend, from_stranger = direct_room(friend, callee), direct_room(stranger, callee)
        with policy(callee, who=["contacts"]), contact(callee, demo.people[friend_name].handle):
            shown, screened = ring(friend, from_friend, event_type), ring(stranger, from_stranger, event_type)

            arrived = recorded(callee, shown, "ringing")
            assert (arrived["direction"], arrived["peer"]) == ("incoming", friend.user_id)
            assert arrived["peer_handle"] == demo.people[friend_name].handle
            assert len(sees(callee, from_friend, event_type)) == 1
            assert recorded(friend, shown, "ringing")["direction"] == "outgoing"

            hidden = recorded(callee, screened, "screened")
            assert (hidden["peer"], hidden["screened_by"]) == (stranger.user_id, "who")
            told = recorded(stranger, screened, "screened")
            assert "screened_by" not in told
            assert sees(callee, from_stranger, event_type) == []
            decline = DECLINES[event_type]
            wait_until(lambda: sees(stranger, from_stranger, decline), timeout_s=WAIT_S, what="a decline")
            (answer,) = sees(stranger, from_stranger, "org.superapp.call.screened")
            assert (answer["sender"], answer["content"]["reason"]) == (callee.user_id, "not_available")


@pytest.mark.parametrize("event_type", PROTOCOLS, ids=["ours", "legacy", "matrixrtc"])
def test_a_stranger_here_gets_the_polite_answer_and_a_contact_rings(demo: RunningDemo, event_type: str) -> None:
    with demo.client("alice") as alice, demo.client("dave") as dave:
        room_id = direct_room(dave, alice)
        with policy(alice, who=["contacts"]):
            with pytest.raises(MatrixError) as refusal:
                ring(dave, room_id, event_type)
            assert (refusal.value.status, refusal.value.errcode) == (403, "ORG.SUPERAPP.NOT_AVAILABLE")
            newest = alice.superapp("GET", "calls")["calls"][0]
            assert (newest["outcome"], newest["peer"], newest["screened_by"]) == ("screened", dave.user_id, "who")
            assert call_of(dave, newest["call_id"])["outcome"] == "screened"  # type: ignore[index]
            assert sees(alice, room_id, event_type) == []
            if event_type == RTC_RING:
                leave_call(dave, room_id)
            with contact(alice, demo.people["dave"].handle):
                call_id = ring(dave, room_id, event_type)
                recorded(alice, call_id, "ringing")
                recorded(dave, call_id, "ringing")


@pytest.mark.parametrize("event_type", [RING, INVITE], ids=["ours", "legacy"])
def test_answered_declined_and_missed_calls_have_one_outcome_on_both_sides(demo: RunningDemo, event_type: str) -> None:
    with demo.client("alice") as alice, demo.client("bob") as bob:
        room_id = direct_room(alice, bob)

        answered = ring(alice, room_id, event_type)
        recorded(bob, answered, "ringing")
        answer = {"call_id": answered, "version": "1", "party_id": "B", "answer": {"type": "answer", "sdp": "v=0"}}
        bob.send(room_id, "m.call.answer", answer)
        for person in (alice, bob):
            assert "end_ts" not in recorded(person, answered, "answered")
        alice.send(room_id, "m.call.hangup", {"call_id": answered, "version": "1", "party_id": "A"})
        for person in (alice, bob):
            record = recorded(person, answered, "answered", ended=True)
            assert record["ring_ts"] <= record["answer_ts"] <= record["end_ts"]
            assert record["ended_by"] == alice.user_id

        declined = ring(alice, room_id, event_type)
        recorded(bob, declined, "ringing")
        bob.send(room_id, "m.call.reject", {"call_id": declined, "version": "1", "party_id": "B"})
        for person in (alice, bob):
            recorded(person, declined, "declined", ended=True)

        missed = ring(alice, room_id, event_type, lifetime_ms=2_000)
        for person in (alice, bob):
            recorded(person, missed, "missed", ended=True)


def test_a_matrixrtc_call_is_answered_by_joining_ended_by_leaving_and_declined(demo: RunningDemo) -> None:
    with demo.client("alice") as alice, demo.client("bob") as bob:
        room_id = direct_room(alice, bob)
        call_id = ring(alice, room_id, RTC_RING)
        recorded(bob, call_id, "ringing")
        join_call(bob, room_id)
        for person in (alice, bob):
            recorded(person, call_id, "answered")
        leave_call(alice, room_id)
        leave_call(bob, room_id)
        for person in (alice, bob):
            recorded(person, call_id, "answered", ended=True)

        again = ring(alice, room_id, RTC_RING)
        recorded(bob, again, "ringing")
        (notification, *_) = sees(bob, room_id, RTC_RING)
        relation = {"rel_type": "m.reference", "event_id": notification["event_id"]}
        bob.send(room_id, "org.matrix.msc4310.rtc.decline", {"m.relates_to": relation})
        for person in (alice, bob):
            recorded(person, again, "declined", ended=True)


def test_an_encrypted_matrixrtc_ring_is_known_by_the_membership_that_it_refers_to(demo: RunningDemo) -> None:
    encryption = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    with demo.client("alice") as alice, demo.client("carol") as carol:
        room_id = direct_room(alice, carol, initial_state=[encryption])

        def refers_to(parent: str) -> Json:
            relation = {"rel_type": "m.reference", "event_id": parent}
            return {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "opaque", "m.relates_to": relation}

        call_id = join_call(alice, room_id)
        ring_id = alice.send(room_id, "m.room.encrypted", refers_to(call_id))
        for person in (alice, carol):
            recorded(person, call_id, "ringing")
        carol.wait_for_event(room_id, lambda event: event["event_id"] == ring_id)
        carol.send(room_id, "m.room.encrypted", refers_to(ring_id))
        for person in (alice, carol):
            recorded(person, call_id, "declined", ended=True)
        leave_call(alice, room_id)

        with policy(carol, who=["nobody"]):
            hidden = join_call(alice, room_id)
            screened_id = alice.send(room_id, "m.room.encrypted", refers_to(hidden))
            recorded(carol, hidden, "screened")
            assert screened_id not in {event["event_id"] for event in carol.messages(room_id)}


def test_two_who_ring_each_other_at_once_agree_on_one_call(demo: RunningDemo) -> None:
    with demo.client("alice") as alice, demo.client("bob") as bob:
        room_id = direct_room(alice, bob)
        calls = sorted([ring(alice, room_id, INVITE), ring(bob, room_id, INVITE)])
        for person in (alice, bob):
            recorded(person, calls[1], "cancelled")
            recorded(person, calls[0], "ringing")


def test_forged_and_misplaced_call_events_are_refused_by_name(demo: RunningDemo) -> None:
    with demo.client("alice") as alice, demo.client("bob") as bob:
        room_id = direct_room(alice, bob)
        call_id = ring(alice, room_id, RING)
        recorded(bob, call_id, "ringing")
        for person, what in itertools.product((alice, bob), ("ringing", "screened", "end")):
            with pytest.raises(MatrixError) as refusal:
                person.send(room_id, f"org.superapp.call.{what}", {"call_id": call_id, "outcome": "answered"})
            assert (refusal.value.status, refusal.value.errcode) == (403, "ORG.SUPERAPP.SERVER_ONLY")
        content = {"call_id": "state", "media": "audio"}
        with pytest.raises(MatrixError) as refusal:
            alice.send_state(room_id, RING, content)
        assert (refusal.value.status, refusal.value.errcode) == (422, "ORG.SUPERAPP.NOT_A_MESSAGE")
        with pytest.raises(MatrixError) as refusal:
            alice.create_room(initial_state=[{"type": RING, "content": content}])
        assert (refusal.value.status, refusal.value.errcode) == (422, "ORG.SUPERAPP.NOT_A_MESSAGE")
        with pytest.raises(MatrixError) as refusal:
            alice.send(room_id, RING, {**content, "lifetime": 10**9})
        assert (refusal.value.status, refusal.value.errcode) == (422, "ORG.SUPERAPP.INVALID_VALUE")
        assert (call_of(bob, call_id) or {})["outcome"] == "ringing"


def test_turn_credentials_are_for_live_calls_and_say_when_there_is_no_server(demo: RunningDemo) -> None:
    with demo.client("alice") as alice, demo.client("bob") as bob:
        with pytest.raises(MatrixError) as refusal:
            alice.superapp("GET", "calls/none/turn")
        assert (refusal.value.status, refusal.value.errcode) == (404, "ORG.SUPERAPP.UNKNOWN_CALL")
        call_id = ring(alice, direct_room(alice, bob), RING)
        recorded(bob, call_id, "ringing")
        with pytest.raises(MatrixError) as refusal:
            bob.superapp("GET", f"calls/{call_id}/turn")
        assert (refusal.value.status, refusal.value.errcode) == (404, "ORG.SUPERAPP.NO_TURN")


def test_a_client_that_asks_synapse_itself_for_turn_is_answered(demo: RunningDemo) -> None:
    with demo.client("alice") as alice:
        # As all clients do when they start; there are no credentials, since there is no server.
        assert alice.matrix("GET", "voip/turnServer") == {}


def test_a_homeserver_killed_mid_ring_records_it_as_missed_once_it_is_back(fresh_demo: DemoPair) -> None:
    with fresh_demo.client("alice") as alice, fresh_demo.client("bob") as bob:
        call_id = ring(alice, fresh_demo.room_id, RING, lifetime_ms=15_000)
        recorded(bob, call_id, "ringing")
        theirs = fresh_demo.sides[1].process
        theirs.kill()
        theirs.start()
        for person in (alice, bob):
            recorded(person, call_id, "missed", ended=True)
