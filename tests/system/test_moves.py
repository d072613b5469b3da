"""Moving between real homeservers, with the command that people use, over real federation."""

import secrets
from pathlib import Path
from urllib.parse import quote

from processes import super_app
from running_demo import RunningDemo
from test_calls import recorded
from test_directory import errcode, fresh_name

from synapse_super_app.commands import loopback
from synapse_super_app.commands.matrix_client import MatrixClient, wait_until

CURRENCY = "EUR"


def registered(demo: RunningDemo, index: int, password: str) -> MatrixClient:
    with MatrixClient(str(demo.homeservers[index]["client_url"])) as nobody:
        return nobody.signed_in(nobody.register_with_secret(loopback.REGISTRATION_SECRET, fresh_name(), password))


def test_somebody_moves_and_is_still_a_contact_found_paid_and_rung(demo: RunningDemo, tmp_path: Path) -> None:
    passwords = secrets.token_hex(8), secrets.token_hex(8)
    with (
        registered(demo, 1, passwords[0]) as old,
        registered(demo, 0, passwords[1]) as new,
        demo.client("alice") as alice,
    ):
        contact = f"contacts/{quote(old.user_id, safe='')}"
        alice.superapp("PUT", contact)
        alice.superapp("POST", contact, {"note": "from school"})
        assert errcode(old, "PUT", "account/departure", {"to": new.user_id}) == "NOT_ALLOWED"
        moved = super_app(
            tmp_path,
            "move",
            "account",
            old.user_id,
            new.user_id,
            f"--old-url={old.base_url}",
            f"--new-url={new.base_url}",
            "--password-stdin",
            "--yes",
            password="\n".join(passwords),
        )
        assert moved.startswith(f"{old.user_id} moved to {new.user_id}")
        assert "not confirmed" not in moved
        assert alice.handle(old.user_id)["moved_to"]["user_id"] == new.user_id

        def is_paid() -> bool:
            return str(alice.pay(old.user_id, 100, CURRENCY)["state"]) == "completed"

        # Alice's homeserver may have the record of a minute ago; then the order comes back, and the next one arrives.
        wait_until(is_paid, timeout_s=90, what="a payment to the old handle to arrive at the new place")
        assert new.available(CURRENCY) == 100
        call_id = f"moved-{secrets.token_hex(6)}"
        rung = alice.superapp("POST", "calls", {"call_id": call_id, "callee": old.user_id, "media": "audio"})
        assert (rung["callee"], rung["state"]) == (new.user_id, "ringing")
        recorded(new, call_id, "ringing")
        (known,) = [each for each in alice.superapp("GET", "contacts")["contacts"] if each.get("note") == "from school"]
        assert known["user_id"] == new.user_id
        alice.superapp("DELETE", f"contacts/{quote(new.user_id, safe='')}")
        assert old.superapp("GET", "account/move")["departure"]["confirmed"] is True
        assert new.superapp("GET", "account/move")["arrival"]["state"] == "done"
