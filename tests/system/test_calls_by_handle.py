"""What the calls API and screening do in a real Synapse: rings by handle, push rules, blocked invitations."""

import secrets
import time
from typing import Any

import pytest
from running_demo import RunningDemo
from test_calls import MEMBER, RING, RTC_RING, WAIT_S, direct_room, policy, recorded, ring, sees
from test_moves import registered

from synapse_super_app.commands.matrix_client import MatrixError, wait_until

pytestmark = pytest.mark.on("postgresql")


def silenced_calls(demo: RunningDemo, name: str) -> list[dict[str, Any]]:
    """The push rules of ours that somebody has."""
    with demo.client(name) as person:
        rules = person.request("GET", "/_matrix/client/v3/pushrules/")
    return [rule for rule in rules["global"]["override"] if rule["rule_id"].startswith("org.superapp.silence.")]


def test_a_handle_elsewhere_is_rung_in_every_protocol_and_a_replay_rings_nobody(demo: RunningDemo) -> None:
    call_id = f"handle-{secrets.token_hex(6)}"
    with demo.client("alice") as alice, demo.client("bob") as bob:
        order = {"call_id": call_id, "callee": demo.people["bob"].handle, "media": "audio"}
        offer = {"offer": {"sdp": "v=0\r\n", "party_id": "A"}}
        began_ms = int(time.time() * 1000)
        begun = alice.superapp("POST", "calls", {**order, **offer})
        assert (begun["state"], begun["callee"]) == ("ringing", bob.user_id)
        recorded(bob, call_id, "ringing")
        room_id = begun["room_id"]

        def arrived(event_type: str) -> list[dict[str, Any]]:
            """Of this call: other tests ring in this room as well."""
            return [event for event in sees(bob, room_id, event_type) if event["origin_server_ts"] >= began_ms]

        (notification,) = wait_until(lambda: arrived(RTC_RING) or None, timeout_s=WAIT_S, what="the ring of MatrixRTC")
        (membership,) = wait_until(lambda: arrived(MEMBER) or None, timeout_s=WAIT_S, what="the caller's membership")
        assert notification["content"]["m.relates_to"]["event_id"] == membership["event_id"]
        assert membership["content"]["device_id"]
        assert alice.superapp("POST", "calls", {**order, **offer})["call_id"] == call_id
        rings = [event for event in sees(bob, room_id, RING) if event["content"]["call_id"] == call_id]
        assert len(rings) == 1
        bob.send(room_id, "m.call.reject", {"call_id": call_id, "version": "1", "party_id": "B"})
        recorded(alice, call_id, "declined")
        assert alice.superapp("POST", "calls", {**order, **offer})["state"] == "declined"


def test_in_a_group_a_push_rule_silences_who_does_not_want_the_ring(demo: RunningDemo) -> None:
    with demo.client("alice") as alice, demo.client("bob") as bob, demo.client("dave") as dave:
        room_id = direct_room(bob, alice)
        bob.request("POST", f"/_matrix/client/v3/rooms/{room_id}/invite", {"user_id": dave.user_id})

        def has_joined() -> bool:
            try:
                dave.join(room_id, via=bob.user_id.partition(":")[2])
            except MatrixError:  # the invitation is still on its way
                return False
            return dave.user_id in bob.joined_members(room_id)

        wait_until(has_joined, timeout_s=WAIT_S, what="dave to join")
        with policy(dave, who=["nobody"]):
            call_id = ring(bob, room_id, RING)
            recorded(alice, call_id, "ringing")
            recorded(dave, call_id, "screened")
        wanted = {"room_id": room_id, "sender": bob.user_id, "content.call_id": call_id}

        def is_silenced() -> bool:
            rules = silenced_calls(demo, "dave")
            return wanted in [{each["key"]: each.get("value") for each in rule["conditions"]} for rule in rules]

        wait_until(is_silenced, timeout_s=WAIT_S, what="the push rule")
        assert silenced_calls(demo, "alice") == []


def test_who_may_not_invite_may_not_ring(demo: RunningDemo) -> None:
    kind = "org.matrix.msc4155.invite_permission_config"
    with demo.client("alice") as alice, demo.client("carol") as carol:
        room_id = direct_room(carol, alice)
        alice.set_account_data(kind, {"blocked_users": [carol.user_id]})
        try:
            call_id = ring(carol, room_id, RING)
            assert recorded(alice, call_id, "screened")["screened_by"] == "invites"
            assert sees(alice, room_id, RING) == []
        finally:
            alice.set_account_data(kind, {})


def test_a_call_by_the_minute_is_refused_confirmed_rung_and_paid_to_the_second_on_the_other_homeserver(
    demo: RunningDemo,
) -> None:
    price = {"amount": 60, "currency": "EUR"}
    with demo.client("alice") as alice, demo.client("bob") as bob:
        callee = demo.people["bob"].handle
        room_id = direct_room(alice, bob)
        with policy(bob, who=["nobody"], price={**price, "per": "minute"}):

            def costs() -> bool:
                return bool(alice.superapp("GET", f"call_prices/{callee}").get("amount") == 60)

            wait_until(costs, timeout_s=WAIT_S, what="the price to be asked")
            with pytest.raises(MatrixError) as refused:
                ring(alice, room_id, RING)
            assert (refused.value.status, refused.value.errcode) == (402, "ORG.SUPERAPP.PRICE_NOT_CONFIRMED")
            fare_id = secrets.token_hex(16)
            agreed = alice.superapp("POST", "paid_calls", {"fare_id": fare_id, "callee": callee, **price})
            assert (agreed["state"], agreed["aside"]) == ("agreed", 180)
            call_id = ring(alice, room_id, RING)
            recorded(bob, call_id, "ringing")

        def is_free() -> bool:
            return alice.superapp("GET", f"call_prices/{callee}").get("amount") is None

        # Other tests ring him as well, and alice's homeserver believes a price for some seconds.
        wait_until(is_free, timeout_s=WAIT_S, what="the price to be gone")
        bob.send(room_id, "m.call.answer", {"call_id": call_id, "version": "1", "party_id": "B", "answer": {}})
        recorded(alice, call_id, "answered")
        alice.send(room_id, "m.call.select_answer", {"call_id": call_id, "version": "1", "party_id": "A"})

        def running() -> bool:
            return bool(alice.superapp("GET", f"paid_calls/{fare_id}")["cost"] >= 2)

        wait_until(running, timeout_s=WAIT_S, what="two seconds of talk")
        alice.send(room_id, "m.call.hangup", {"call_id": call_id, "version": "1", "party_id": "A"})

        def over() -> dict[str, Any] | None:
            fare = alice.superapp("GET", f"paid_calls/{fare_id}")
            return fare if fare["state"] == "ended" else None

        fare = wait_until(over, timeout_s=WAIT_S, what="the call to be paid")
        assert fare["paid"] == fare["talked_ms"] // 1000 >= 2
        paid = bob.superapp("GET", "payments")["payments"]
        assert sum(each["amount"] for each in paid if each["payment_id"].startswith(fare_id[:24])) == fare["paid"]


def test_a_stranger_elsewhere_invites_once_their_deposit_is_down_and_has_it_back_at_a_word(demo: RunningDemo) -> None:
    money = {"amount": 200, "currency": "EUR"}
    # Somebody whom dave has not met in another test.
    with demo.client("dave") as dave, registered(demo, 1, secrets.token_hex(8)) as erin:
        room_id, invite = dave.create_room(preset="trusted_private_chat"), {"user_id": erin.user_id}
        erin.superapp("PUT", "deposit_policy", money)
        assert dave.superapp("GET", f"deposit_terms/{erin.user_id}")["amount"] == 200
        with pytest.raises(MatrixError) as refused:
            dave.request("POST", f"/_matrix/client/v3/rooms/{room_id}/invite", invite)
        assert (refused.value.status, refused.value.errcode) == (402, "ORG.SUPERAPP.DEPOSIT_REQUIRED")
        deposit_id = secrets.token_hex(16)
        dave.superapp("POST", "deposits", {"deposit_id": deposit_id, "recipient": erin.user_id, **money})

        def is_now(state: str) -> bool:
            return [each["state"] for each in erin.superapp("GET", "deposits")["deposits"]] == [state]

        wait_until(lambda: is_now("open"), timeout_s=WAIT_S, what="the deposit to lie with erin")
        dave.request("POST", f"/_matrix/client/v3/rooms/{room_id}/invite", invite)
        erin.superapp("POST", f"deposits/{deposit_id}/accept", query={"payer": dave.user_id})
        wait_until(lambda: is_now("returned"), timeout_s=WAIT_S, what="the deposit to be back")
