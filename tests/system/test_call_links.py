"""Links into calls, between two real homeservers."""

import pytest
from running_demo import RunningDemo

from synapse_super_app.commands.matrix_client import MatrixError, quoted, wait_until

pytestmark = pytest.mark.on("postgresql")

ROLES = "org.superapp.call.roles"


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
