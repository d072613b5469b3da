"""Gifts, splits and links over real homeservers: alice and dave on the first, bob and carol on the second."""

import json
import secrets
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from running_demo import RunningDemo

from synapse_super_app.commands.main import main
from synapse_super_app.commands.matrix_client import Json, MatrixClient, MatrixError, wait_until

pytestmark = pytest.mark.on("sqlite")
EUR, GIFT, END, REQUEST = "EUR", "org.superapp.gift", "org.superapp.gift.end", "org.superapp.payment.request"
_PATIENCE_S = 60.0


def room_of(demo: RunningDemo, creator: MatrixClient, *others: MatrixClient) -> str:
    room_id = creator.create_room(preset="trusted_private_chat", invite=[other.user_id for other in others])
    for other in others:
        wait_until(partial(_join, other, room_id, demo.names[0]), timeout_s=_PATIENCE_S, what="the invitation")
    wait_until(
        lambda: all(len(each.joined_members(room_id)) == len(others) + 1 for each in (creator, *others)),
        timeout_s=_PATIENCE_S,
        what="everybody in the room, on both sides",
    )
    return room_id


def _join(client: MatrixClient, room_id: str, via: str) -> bool:
    try:
        client.join(room_id, via=via)
    except MatrixError:
        return False
    return True


def paid(client: MatrixClient, path: str, body: Any = None, query: Any = None) -> Json:
    """Claim, and claim again until the money is there: the same claim never has a second share."""

    def claim() -> Json | None:
        answer = client.superapp("POST", path, body, query)
        return answer if answer["mine"]["state"] == "paid" else None

    return wait_until(claim, timeout_s=_PATIENCE_S, what="the money that was claimed")


def assert_books_are_right(demo: RunningDemo) -> None:
    for admin in demo.admins:
        answer = admin.invariants()
        assert answer["ok"], json.dumps(answer)


def test_a_gift_in_a_federated_room_is_claimed_from_both_homeservers_and_its_draw_checks(
    demo: RunningDemo, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        alice, bob, carol, dave = (stack.enter_context(demo.client(name)) for name in ("alice", "bob", "carol", "dave"))
        people = (bob, carol, dave)
        room_id = room_of(demo, alice, *people)
        before = {each.user_id: each.available(EUR) for each in (alice, *people)}
        gift_id, giver = secrets.token_hex(16), {"giver": alice.user_id}
        gift = {"gift_id": gift_id, "room_id": room_id, "amount": 1_000, "currency": EUR, "shares": 3}
        made = alice.superapp("POST", "gifts", gift)
        assert alice.available(EUR) == before[alice.user_id] - 1_000
        bob.wait_for_event(room_id, lambda event: event["type"] == GIFT, timeout_s=_PATIENCE_S)
        got = {each.user_id: paid(each, f"gifts/{gift_id}/claim", query=giver)["mine"]["amount"] for each in people}
        assert sum(got.values()) == 1_000
        assert {each.user_id: each.available(EUR) - before[each.user_id] for each in people} == got
        with pytest.raises(MatrixError) as error:
            alice.superapp("POST", f"gifts/{gift_id}/claim", query=giver)
        assert error.value.errcode == "ORG.SUPERAPP.PAYEE_IS_SELF"
        end = carol.wait_for_event(room_id, lambda event: event["type"] == END, timeout_s=_PATIENCE_S)
        assert end["content"]["outcome"] == "emptied"
        first = carol.event(room_id, made["event_id"])
        path = tmp_path / "gift.json"
        path.write_text(json.dumps([first, end]), encoding="utf-8")
        claims = [part for who, minor in got.items() for part in ("--got", f"{who}={minor}")]
        assert main(["verify-gift", str(path), *claims]) == 0
        assert_books_are_right(demo)


def test_a_split_is_paid_and_a_link_claimed_across(demo: RunningDemo) -> None:
    with ExitStack() as stack:
        alice, bob, dave = (stack.enter_context(demo.client(name)) for name in ("alice", "bob", "dave"))
        room_id = room_of(demo, alice, bob, dave)
        request_id = secrets.token_hex(16)
        asked = {
            "request_id": request_id,
            "room_id": room_id,
            "from": [bob.user_id, dave.user_id],
            "amount": 1_000,
            "currency": EUR,
            "split": {"how": "equal", "mine": 1},
        }
        alice.superapp("POST", "requests", asked)
        bob.wait_for_event(room_id, lambda event: event["type"] == REQUEST, timeout_s=_PATIENCE_S)
        for payer in (bob, dave):
            shown = _shown(payer, request_id, alice.user_id)
            assert shown["amount"] == 333
            payment = payer.pay(alice.user_id, 333, EUR, request=request_id)
            payer.wait_for_payment(payment["payment_id"], timeout_s=_PATIENCE_S)
        wait_until(
            lambda: alice.superapp("GET", f"requests/{request_id}")["state"] == "paid",
            timeout_s=_PATIENCE_S,
            what="both parts of the split",
        )
        before = bob.available(EUR)
        link = alice.superapp("POST", "claims", {"claim_id": secrets.token_hex(16), "amount": 700, "currency": EUR})
        assert bob.superapp("POST", "claims/look", {"link": link["link"]})["amount"] == 700
        assert paid(bob, "claims/redeem", {"link": link["link"]})["mine"]["amount"] == 700
        assert bob.available(EUR) == before + 700
        with pytest.raises(MatrixError) as error:
            dave.superapp("POST", "claims/redeem", {"link": link["link"]})
        assert error.value.errcode == "ORG.SUPERAPP.GIFT_GONE"
        assert_books_are_right(demo)


def _shown(client: MatrixClient, request_id: str, requester: str) -> Json:
    """A request, once it has come to the homeserver of one who is asked."""

    def look() -> Json | None:
        try:
            return client.superapp("GET", f"requests/{request_id}", query={"requester": requester})
        except MatrixError:
            return None

    return wait_until(look, timeout_s=_PATIENCE_S, what="the request")
