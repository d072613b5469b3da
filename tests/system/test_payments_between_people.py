"""Payments over real homeservers: alice and dave on the first, bob and carol on the second, a link between the two."""

import json
import secrets
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from running_demo import RunningDemo

from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError, wait_until

Json = dict[str, Any]
PAYMENT, RECEIPT, POLICY = "org.superapp.payment", "org.superapp.payment.receipt", "org.superapp.payment.policy"
EUR = "EUR"


@contextmanager
def refused(code: str, status: int) -> Generator[None]:
    with pytest.raises(MatrixError) as refusal:
        yield
    assert (refusal.value.status, refusal.value.errcode) == (status, f"ORG.SUPERAPP.{code}"), str(refusal.value)
    assert refusal.value.error.endswith(".")


def new_order(payee: str, amount: Any = 500, **fields: Any) -> Json:
    return {"payment_id": secrets.token_hex(16), "payee": payee, "amount": amount, "currency": EUR, **fields}


def receipts_of(client: MatrixClient, room_id: str, payment_id: str) -> list[Json]:
    return [
        event
        for event in client.messages(room_id, limit=100)
        if event["type"] == RECEIPT and event["content"].get("payment_id") == payment_id
    ]


def receipt(client: MatrixClient, room_id: str, payment_id: str) -> Json:
    return client.wait_for_event(
        room_id, lambda event: event["type"] == RECEIPT and event["content"].get("payment_id") == payment_id
    )


@contextmanager
def asking(payee: MatrixClient) -> Generator[None]:
    """While the block runs, the payee is asked before a payment is taken."""
    payee.set_account_data(POLICY, {"v": 1, "accept": "ask"})
    try:
        yield
    finally:
        payee.set_account_data(POLICY, {"v": 1})


def room_of(creator: MatrixClient, other: MatrixClient, via: str, **config: Any) -> str:
    room_id = creator.create_room(preset="trusted_private_chat", invite=[other.user_id], is_direct=True, **config)
    wait_until(lambda: _join(other, room_id, via), timeout_s=20, what="the invitation")
    wait_until(lambda: len(creator.joined_members(room_id)) == 2, timeout_s=20, what="the join")
    return room_id


def _join(client: MatrixClient, room_id: str, via: str) -> bool:
    try:
        client.join(room_id, via=via)
    except MatrixError:
        return False
    return True


def assert_books_are_right(demo: RunningDemo) -> None:
    for admin in demo.admins:
        answer = admin.invariants()
        assert answer["ok"], json.dumps(answer)


@pytest.mark.parametrize("payee", ["bob", "dave"], ids=["to another homeserver", "on the same homeserver"])
@pytest.mark.parametrize("way", ["POST", "PUT"])
def test_a_payment_is_in_both_wallets_and_its_receipt_in_the_room_on_both_sides(
    demo: RunningDemo, payee: str, way: str
) -> None:
    with demo.client("alice") as alice, demo.client(payee) as other:
        room_id = demo.room_id if payee == "bob" else room_of(alice, other, demo.names[0])
        before = alice.available(EUR), other.available(EUR)
        handle = demo.people[payee].handle
        order = new_order(handle, memo="lunch")
        if way == "POST":
            answer = alice.superapp("POST", "payments", {**order, "room_id": room_id})
            event_id = answer["event_id"]
        else:
            event_id = alice.send(room_id, PAYMENT, order)
        for client in (alice, other):
            payment = client.wait_for_payment(order["payment_id"], payer=alice.user_id)
            assert (payment["state"], payment["amount"], payment["memo"]) == ("completed", 500, "lunch")
            assert (payment["payer"], payment["payee"]) == (alice.user_id, other.user_id)
            assert (payment["room_id"], payment["event_id"]) == (room_id, event_id)
            assert payment["direction"] == ("outgoing" if client is alice else "incoming")
            event = receipt(client, room_id, order["payment_id"])
            assert event["sender"] == other.user_id
            content = event["content"]
            assert content["m.relates_to"] == {"rel_type": "m.reference", "event_id": event_id}
            assert (content["outcome"], content["amount"], content["currency"]) == ("completed", 500, EUR)
            assert ("signed" in content) == (payee == "bob"), "between homeservers it carries the signed RECEIPT"
        assert (alice.available(EUR), other.available(EUR)) == (before[0] - 500, before[1] + 500)
        assert len(receipts_of(alice, room_id, order["payment_id"])) == 1
    assert_books_are_right(demo)


def test_a_replay_pays_once_and_another_body_is_409(demo: RunningDemo) -> None:
    with demo.client("alice") as alice:
        bob = demo.people["bob"].handle
        order = new_order(bob, 7)
        first = alice.superapp("POST", "payments", order)
        alice.wait_for_payment(order["payment_id"])
        before = alice.available(EUR)
        again = alice.superapp("POST", "payments", order)
        assert (again["payment_id"], again["event_id"]) == (first["payment_id"], first["event_id"])
        assert again["state"] == "completed"
        with refused("CONFLICT", 409):
            alice.superapp("POST", "payments", {**order, "amount": 8})
        with refused("CONFLICT", 409):
            alice.send(demo.room_id, PAYMENT, {**order, "memo": "other"})
        alice.send(demo.room_id, PAYMENT, order)
        assert alice.available(EUR) == before


@pytest.mark.parametrize("payee", ["bob", "dave"], ids=["to another homeserver", "on the same homeserver"])
def test_the_same_order_five_times_at_once_pays_once_and_sends_one_event(demo: RunningDemo, payee: str) -> None:
    order = new_order(demo.people[payee].handle, 3)

    def ask(_: int) -> Json:
        with demo.client("alice") as alice:
            return alice.superapp("POST", "payments", order)

    with demo.client("alice") as alice:
        before = alice.available(EUR)
        with ThreadPoolExecutor(max_workers=5) as pool:
            answers = list(pool.map(ask, range(5)))
        payment = alice.wait_for_payment(order["payment_id"])
        assert payment["state"] == "completed"
        assert {answer["event_id"] for answer in answers} == {payment["event_id"]}
        sent = [
            event
            for event in alice.messages(payment["room_id"], limit=100)
            if event["type"] == PAYMENT and event["content"].get("payment_id") == order["payment_id"]
        ]
        assert len(sent) == 1
        assert alice.available(EUR) == before - 3


BAD_ORDERS: list[tuple[str, Json, str, int]] = [
    ("amount 0", {"amount": 0}, "INVALID_AMOUNT", 422),
    ("amount negative", {"amount": -1}, "INVALID_AMOUNT", 422),
    ("amount string", {"amount": "5"}, "INVALID_AMOUNT", 422),
    ("amount bool", {"amount": True}, "INVALID_AMOUNT", 422),
    ("unknown currency", {"currency": "XXX"}, "UNKNOWN_CURRENCY", 422),
    ("memo too long", {"memo": "x" * 513}, "MEMO_TOO_LONG", 422),
    ("unknown field", {"fees": 1}, "UNKNOWN_FIELD", 422),
    ("payee no user", {"payee": "bob"}, "UNKNOWN_PAYEE", 404),
    ("payee without link", {"payee": "@bob:nolink.example"}, "NO_LINK", 403),
    ("too much", {"amount": 9_000_000}, "INSUFFICIENT_FUNDS", 402),
]


@pytest.mark.parametrize(("fields", "code", "status"), [bad[1:] for bad in BAD_ORDERS], ids=[b[0] for b in BAD_ORDERS])
def test_bad_orders_are_refused_by_event_and_by_api(demo: RunningDemo, fields: Json, code: str, status: int) -> None:
    with demo.client("alice") as alice:
        before = alice.wallet()
        order = {**new_order(demo.people["bob"].handle), **fields}
        with refused(code, status):
            alice.send(demo.room_id, PAYMENT, order)
        with refused(code, status):
            alice.superapp("POST", "payments", order)
        assert alice.wallet() == before


@pytest.mark.parametrize("amount", [1.5, 2**53], ids=["fraction", "2^53"])
def test_what_no_event_can_hold_is_refused_by_the_api_as_well(demo: RunningDemo, amount: float) -> None:
    with demo.client("alice") as alice:
        order = new_order(demo.people["bob"].handle, amount)
        with pytest.raises(MatrixError) as refusal:
            alice.send(demo.room_id, PAYMENT, order)
        assert refusal.value.status == 400
        with refused("INVALID_AMOUNT", 422):
            alice.superapp("POST", "payments", order)


def test_people_are_refused_who_are_unknown_oneself_or_not_in_the_room(demo: RunningDemo) -> None:
    with demo.client("alice") as alice, demo.client("carol") as carol:
        for payee, code, status in (
            (f"@nobody:{demo.names[0]}", "UNKNOWN_PAYEE", 404),
            (f"@nobody:{demo.names[1]}", "UNKNOWN_PAYEE", 404),
            (demo.people["alice"].handle, "PAYEE_IS_SELF", 422),
            (demo.people["carol"].handle, "PAYEE_NOT_IN_ROOM", 403),
        ):
            with refused(code, status):
                alice.send(demo.room_id, PAYMENT, new_order(payee))
        with refused("NOT_IN_ROOM", 403):
            carol.superapp("POST", "payments", {**new_order(demo.people["bob"].handle), "room_id": demo.room_id})
        with pytest.raises(MatrixError) as refusal:
            carol.send(demo.room_id, PAYMENT, new_order(demo.people["bob"].handle))
        assert refusal.value.status == 403


def test_a_payee_who_was_deactivated_is_gone(demo: RunningDemo) -> None:
    admin = demo.admins[0]
    gone = f"@gone{secrets.token_hex(4)}:{demo.names[0]}"
    admin.request("PUT", f"/_synapse/admin/v2/users/{gone}", {"password": secrets.token_hex(8)})
    admin.request("PUT", f"/_synapse/admin/v2/users/{gone}", {"deactivated": True})
    with demo.client("alice") as alice, refused("PAYEE_GONE", 410):
        alice.pay(gone, 5, EUR)


def test_as_state_sticky_delayed_or_initial_state_nothing_moves(demo: RunningDemo) -> None:
    with demo.client("alice") as alice:
        before = alice.wallet()
        order = new_order(demo.people["bob"].handle)
        with refused("NOT_A_MESSAGE", 422):
            alice.send_state(demo.room_id, PAYMENT, order)
        with refused("NOT_A_MESSAGE", 422):
            alice.create_room(initial_state=[{"type": PAYMENT, "content": order}])
        path = f"rooms/{demo.room_id}/send/{PAYMENT}/"
        alice.matrix("PUT", path + secrets.token_hex(8), order, {"org.matrix.msc4140.delay": 200})
        pending = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events"
        wait_until(
            lambda: not alice.request("GET", pending)["delayed_events"], timeout_s=20, what="the delayed event to fire"
        )
        with refused("UNKNOWN_PAYMENT", 404):
            alice.payment(order["payment_id"])
        assert alice.wallet() == before


def test_what_an_admin_slips_into_a_new_room_moves_nothing(demo: RunningDemo) -> None:
    # Synapse does not ask modules about rooms that server admins make.
    admin = demo.admins[0]
    admin.issue(admin.user_id, 1_000, EUR, "for the admin")
    before = admin.wallet()
    order = new_order(demo.people["dave"].handle, 5)
    room_id = admin.create_room(initial_state=[{"type": PAYMENT, "content": order}])
    # What comes after it in the stream has been followed when this is paid, and then so has the state event.
    with demo.client("dave") as dave:
        room_of(admin, dave, demo.names[0])
    paid = admin.pay(demo.people["dave"].handle, 3, EUR)
    assert admin.wait_for_payment(paid["payment_id"])["state"] == "completed"
    with refused("UNKNOWN_PAYMENT", 404):
        admin.payment(order["payment_id"])
    assert admin.available(EUR) == before[EUR]["available"] - 3
    assert room_id in admin.joined_rooms()


def test_editing_and_redacting_have_no_effect_on_money(demo: RunningDemo) -> None:
    with demo.client("alice") as alice, demo.client("bob") as bob:
        order = new_order(demo.people["bob"].handle, 11)
        event_id = alice.send(demo.room_id, PAYMENT, order)
        alice.wait_for_payment(order["payment_id"])
        bob.wait_for_payment(order["payment_id"], payer=alice.user_id)
        before = alice.available(EUR), bob.available(EUR)
        edit = {
            **order,
            "m.new_content": {**order, "amount": 1_100},
            "m.relates_to": {"rel_type": "m.replace", "event_id": event_id},
        }
        with refused("UNKNOWN_FIELD", 422):
            alice.send(demo.room_id, PAYMENT, edit)
        alice.redact(demo.room_id, event_id)
        wait_until(
            lambda: bob.event(demo.room_id, event_id)["content"] == {}, timeout_s=20, what="the redaction to arrive"
        )
        for client, direction in ((alice, "outgoing"), (bob, "incoming")):
            payment = client.payment(order["payment_id"], payer=alice.user_id)
            assert (payment["state"], payment["amount"], payment["direction"]) == ("completed", 11, direction)
        assert (alice.available(EUR), bob.available(EUR)) == before
    assert_books_are_right(demo)


def test_an_order_that_is_redacted_at_once_still_pays(demo: RunningDemo) -> None:
    with demo.client("alice") as alice:
        order = new_order(demo.people["bob"].handle, 13)
        alice.redact(demo.room_id, alice.send(demo.room_id, PAYMENT, order))
        assert alice.wait_for_payment(order["payment_id"])["state"] == "completed"


def test_a_receipt_that_a_client_forges_is_refused(demo: RunningDemo) -> None:
    with demo.client("alice") as alice, demo.client("bob") as bob:
        order = new_order(demo.people["bob"].handle, 17)
        alice.send(demo.room_id, PAYMENT, order)
        genuine = receipt(alice, demo.room_id, order["payment_id"])["content"]
        receipt(bob, demo.room_id, order["payment_id"])
        for client in (alice, bob):
            with refused("SERVER_ONLY", 403):
                client.send(demo.room_id, RECEIPT, genuine)
            with refused("SERVER_ONLY", 403):
                client.send(demo.room_id, RECEIPT, {**genuine, "outcome": "declined"})
        assert len(receipts_of(bob, demo.room_id, order["payment_id"])) == 1


def test_in_an_encrypted_room_only_commitments_stand(demo: RunningDemo) -> None:
    with demo.client("alice") as alice, demo.client("bob") as bob:
        encryption = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
        room_id = room_of(alice, bob, demo.names[0], initial_state=[encryption])
        with refused("ROOM_ENCRYPTED", 403):
            alice.send(room_id, PAYMENT, new_order(demo.people["bob"].handle))
        order = {**new_order(demo.people["bob"].handle, 19, memo="between us"), "room_id": room_id}
        answer = alice.superapp("POST", "payments", order)
        assert alice.wait_for_payment(order["payment_id"])["state"] == "completed"
        assert bob.wait_for_payment(order["payment_id"], payer=alice.user_id)["memo"] == "between us"
        for client in (alice, bob):
            assert set(receipt(client, room_id, order["payment_id"])["content"]) == {
                "m.relates_to",
                "payment_id",
                "outcome",
                "commitment",
            }
            assert set(client.event(room_id, answer["event_id"])["content"]) == {"payment_id", "commitment"}


def test_without_a_common_room_one_is_made_and_the_payer_says_how_it_ended(demo: RunningDemo) -> None:
    with demo.client("dave") as dave, demo.client("carol") as carol:
        rooms = dave.joined_rooms()
        before = carol.available(EUR)
        answer = dave.pay(demo.people["carol"].handle, 23, EUR)
        assert dave.wait_for_payment(answer["payment_id"])["state"] == "completed"
        assert carol.wait_for_payment(answer["payment_id"], payer=dave.user_id)["state"] == "completed"
        assert carol.available(EUR) == before + 23
        room_id = dave.payment(answer["payment_id"])["room_id"]
        if room_id not in rooms:
            # Carol has not joined yet, so she can say nothing there.
            assert receipt(dave, room_id, answer["payment_id"])["sender"] == dave.user_id
        second = dave.pay(demo.people["carol"].handle, 1, EUR)
        assert dave.wait_for_payment(second["payment_id"])["room_id"] == room_id


@pytest.mark.parametrize("payee", ["bob", "dave"], ids=["on another homeserver", "on the same homeserver"])
@pytest.mark.parametrize("deed", ["accept", "decline", "cancel"])
def test_a_payee_who_wants_to_be_asked_is_asked(demo: RunningDemo, payee: str, deed: str) -> None:
    with demo.client("alice") as alice, demo.client(payee) as other, asking(other):
        before = alice.available(EUR), other.available(EUR)
        order = new_order(demo.people[payee].handle, 29)
        answer = alice.superapp("POST", "payments", order)
        payment_id = order["payment_id"]
        wait_until(
            lambda: alice.payment(payment_id)["state"] == "awaiting_acceptance",
            timeout_s=20,
            what="the payee to be asked",
        )
        assert alice.available(EUR) == before[0] - 29
        waiting = other.payment(payment_id, payer=alice.user_id)
        assert (waiting["state"], waiting["direction"]) == ("awaiting_acceptance", "incoming")
        assert 0 < waiting["expires_ts"] / 1000 - time.time() <= 86_400
        if deed == "cancel":
            alice.superapp("POST", f"payments/{payment_id}/cancel", {})
        else:
            other.superapp("POST", f"payments/{payment_id}/{deed}", {}, {"payer": alice.user_id})
        end = {"accept": "completed", "decline": "declined", "cancel": "cancelled"}[deed]
        for client in (alice, other):
            assert client.wait_for_payment(payment_id, payer=alice.user_id)["state"] == end
        moved = 29 if deed == "accept" else 0
        assert (alice.available(EUR), other.available(EUR)) == (before[0] - moved, before[1] + moved)
        room_id = alice.payment(payment_id)["room_id"]
        assert receipt(alice, room_id, payment_id)["content"]["outcome"] == end
        assert alice.payment(payment_id)["event_id"] == answer["event_id"]
    assert_books_are_right(demo)


@pytest.mark.parametrize("payee", ["bob", "dave"], ids=["from another homeserver", "on the same homeserver"])
def test_refunds_come_back_and_never_exceed_the_payment(demo: RunningDemo, payee: str) -> None:
    with demo.client("alice") as alice, demo.client(payee) as other:
        before = alice.available(EUR), other.available(EUR)
        order = new_order(demo.people[payee].handle, 31)
        alice.superapp("POST", "payments", order)
        path = f"payments/{order['payment_id']}/refund"
        query = {"payer": alice.user_id}
        for client in (alice, other):
            client.wait_for_payment(order["payment_id"], payer=alice.user_id)
        part_id = secrets.token_hex(16)
        refund = other.superapp("POST", path, {"payment_id": part_id, "amount": 20}, query)
        assert (refund["refund_of"], refund["amount"], refund["payee"]) == (order["payment_id"], 20, alice.user_id)
        assert other.wait_for_payment(part_id)["state"] == "completed"
        with refused("REFUND_EXCEEDS_PAYMENT", 409):
            other.superapp("POST", path, {"payment_id": secrets.token_hex(16), "amount": 12}, query)
        rest = {"payment_id": secrets.token_hex(16)}
        first = other.superapp("POST", path, rest, query)
        assert first["amount"] == 11
        assert other.wait_for_payment(rest["payment_id"])["state"] == "completed"
        assert other.superapp("POST", path, rest, query)["event_id"] == first["event_id"], "a replay"
        with refused("REFUND_EXCEEDS_PAYMENT", 409):
            other.superapp("POST", path, {"payment_id": secrets.token_hex(16)}, query)
        wait_until(
            lambda: (alice.available(EUR), other.available(EUR)) == before, timeout_s=20, what="the money to be back"
        )
    assert_books_are_right(demo)


def test_who_takes_payments_from_contacts_only_is_not_paid_by_strangers(demo: RunningDemo) -> None:
    with demo.client("alice") as alice, demo.client("dave") as dave, demo.client("bob") as bob:
        _closed_to_strangers(dave, lambda: _refused_locally(alice, demo.people["dave"].handle))
        _closed_to_strangers(bob, lambda: _refused_remotely(alice, demo.people["bob"].handle))


def _closed_to_strangers(payee: MatrixClient, attempt: Callable[[], None]) -> None:
    payee.set_account_data(POLICY, {"v": 1, "from": ["nobody"]})
    try:
        attempt()
    finally:
        payee.set_account_data(POLICY, {"v": 1})


def _refused_locally(payer: MatrixClient, payee: str) -> None:
    with refused("NOT_ALLOWED", 403):
        payer.pay(payee, 5, EUR)


def _refused_remotely(payer: MatrixClient, payee: str) -> None:
    # The payee's homeserver decides, so it is the payment that fails.
    before = payer.available(EUR)
    paid = payer.pay(payee, 5, EUR)
    ended = payer.wait_for_payment(paid["payment_id"])
    assert (ended["state"], ended["reason"]) == ("failed", "not_allowed")
    assert payer.available(EUR) == before
    content = receipt(payer, ended["room_id"], paid["payment_id"])["content"]
    assert (content["outcome"], content["reason"]) == ("failed", "not_allowed")


def test_history_is_paged_newest_first(demo: RunningDemo) -> None:
    with demo.client("dave") as dave:
        paid = [dave.pay(demo.people["bob"].handle, 1, EUR)["payment_id"] for _ in range(3)]
        seen: list[str] = []
        query: dict[str, str | int] = {"limit": 2}
        while len(seen) < 3:
            page = dave.superapp("GET", "payments", None, query)
            seen += [payment["payment_id"] for payment in page["payments"]]
            query["since"] = page.get("next", "none")
        assert seen[:3] == paid[::-1]
