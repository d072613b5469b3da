"""Links into calls, between two real homeservers."""

import secrets

import pytest
from running_demo import RunningDemo

from synapse_super_app.commands.matrix_client import MatrixError, quoted, wait_until

pytestmark = pytest.mark.on("postgresql")

ROLES = "org.superapp.call.roles"
MEMBER = "org.matrix.msc3401.call.member"


def test_a_link_with_a_waiting_room_leads_into_a_live_room_of_another_homeserver(demo: RunningDemo) -> None:
    with demo.client("alice") as alice, demo.client("bob") as bob, demo.client("carol") as carol:
        made = alice.superapp("POST", "call_links", {"title": "Office", "waiting_room": True, "stage": True})
        link, room = f"call_links/{quoted(made['link'])}", made["room_id"]
        assert bob.superapp("GET", link)["title"] == "Office"
        assert bob.superapp("POST", f"{link}/join") == {"state": "waiting"}
        (guest,) = alice.superapp("GET", f"{link}/waiting")["waiting"]
        assert guest["user_id"] == bob.user_id
        alice.superapp("POST", f"{link}/admit", {"user_id": bob.user_id})
        assert bob.superapp("POST", f"{link}/join") == {"state": "joined", "room_id": room}
        assert bob.user_id in alice.joined_members(room)
        # What he may do there his own homeserver knows too, and his hand comes back to the host.
        shown = bob.superapp("GET", f"call_rooms/{quoted(room)}")
        assert (shown["your_role"], shown["hosts"]) == ("listener", [alice.user_id])
        bob.superapp("PUT", f"call_rooms/{quoted(room)}/hand", {"raised": True})

        def is_up() -> bool:
            return bool(alice.superapp("GET", f"call_rooms/{quoted(room)}")["hands"] == [bob.user_id])

        wait_until(is_up, timeout_s=60, what="the hand to be seen")
        with pytest.raises(MatrixError) as refused:
            bob.send_state(room, ROLES, {"stage": False})
        assert refused.value.status == 403
        alice.superapp("POST", f"{link}/turn_away", {"user_id": carol.user_id})
        with pytest.raises(MatrixError) as away:
            carol.superapp("POST", f"{link}/join")
        assert (away.value.status, away.value.errcode) == (403, "ORG.SUPERAPP.TURNED_AWAY")


def test_a_price_in_a_link_is_confirmed_and_paid_by_the_second_from_another_homeserver(demo: RunningDemo) -> None:
    price = {"amount": 600, "currency": "EUR"}
    with demo.client("alice") as alice, demo.client("bob") as bob:
        made = alice.superapp("POST", "call_links", {"title": "Lesson", "price": price})
        link, room = f"call_links/{quoted(made['link'])}", made["room_id"]
        assert bob.superapp("GET", link)["price"] == price
        with pytest.raises(MatrixError) as refused:
            bob.superapp("POST", f"{link}/join")
        assert (refused.value.status, refused.value.errcode) == (402, "ORG.SUPERAPP.PRICE_NOT_CONFIRMED")
        fare_id = secrets.token_hex(16)
        agreed = bob.superapp("POST", "paid_calls", {"fare_id": fare_id, "link": made["link"], **price})
        assert (agreed["state"], agreed["callee"], agreed["aside"]) == ("agreed", alice.user_id, 1_800)
        assert bob.superapp("POST", f"{link}/join") == {"state": "joined", "room_id": room}
        key = f"_{bob.user_id}_DEVICE"
        bob.send_state(room, MEMBER, {"application": "m.call", "device_id": "DEVICE"}, key)

        def fare() -> dict[str, object]:
            return dict(bob.superapp("GET", f"paid_calls/{fare_id}"))

        wait_until(lambda: fare()["cost"] != 0, timeout_s=120, what="the call to cost something")
        bob.send_state(room, MEMBER, {}, key)
        wait_until(lambda: fare()["state"] == "ended", timeout_s=180, what="the call to be paid")
        ended = fare()
        # Ten minor units a second, of whole seconds; what was set aside and not used is back.
        assert isinstance(ended["paid"], int)
        assert (ended["aside"], ended["paid"] > 0, ended["paid"] % 10) == (0, True, 0)

        def received() -> int:
            found = alice.superapp("GET", "payments?limit=20")["payments"]
            stem = fare_id[:-8]
            return sum(each["amount"] for each in found if each["payment_id"].startswith(stem))

        wait_until(lambda: received() == ended["paid"], timeout_s=120, what="the host to be paid")
        # Whoever is in the room already does not come into the call again without another confirmation.
        with pytest.raises(MatrixError) as again:
            bob.send_state(room, MEMBER, {"application": "m.call", "device_id": "DEVICE"}, key)
        assert (again.value.status, again.value.errcode) == (402, "ORG.SUPERAPP.PRICE_NOT_CONFIRMED")
