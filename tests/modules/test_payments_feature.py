"""Payments in the homeserver: the gate, the API, receipts, deadlines; two people of one homeserver."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeHomeserver
from prometheus_client import REGISTRY
from synapse.module_api.errors import SynapseError

from super_app.signing import to_b64
from synapse_super_app.payments.receipts import Receipts

ALICE, BOB, CAROL, ADMIN = (f"@{name}:hs1.test" for name in ("alice", "bob", "carol", "admin"))
ZOE = "@zoe:hs2.test"
PAYMENT, RECEIPT = "org.superapp.payment", "org.superapp.payment.receipt"
HOUR_S, DAY_S = 3_600.0, 86_400.0
CONFIG: dict[str, Any] = {
    "features": {"directory": False, "calls": False, "web": False},
    "payments": {
        "mode": "custodial",
        "acknowledge": {"operator": "a test", "licence": "none"},
        "assets": [{"code": "EUR"}],
    },
}


class House(FakeHomeserver):
    """alice (100.00 EUR) and bob in a direct room, and an admin."""

    def __init__(self, **payments: Any) -> None:
        super().__init__(config={**CONFIG, "payments": {**CONFIG["payments"], **payments}})
        self.start()
        for name in ("alice", "bob", "carol"):
            self.register(name)
        self.register("admin", admin=True)
        self.direct = self.room(ALICE, BOB)
        self.issue(ALICE, 10_000)

    def issue(self, user_id: str, minor: int, reference: str = "") -> dict[str, Any]:
        body = {"user_id": user_id, "amount": minor, "currency": "EUR", "reference": reference or user_id}
        return self.call("POST", "admin/issue", ADMIN, body)

    def wallet(self, user_id: str) -> tuple[int, int]:
        (euros,) = self.call("GET", "wallet", user_id)["accounts"]
        assert (euros["currency"], euros["scale"]) == ("EUR", 2)
        return euros["available"], euros["held"]

    def pay(self, number: int = 1, minor: int = 500, *, payer: str = ALICE, **fields: Any) -> dict[str, Any]:
        return self.call("POST", "payments", payer, order(number, minor, **fields))

    def payment(self, viewer: str, number: int = 1, **query: str) -> dict[str, Any]:
        return self.call("GET", f"payments/{payment_id(number)}", viewer, query=query)

    def act(self, what: str, viewer: str, number: int = 1, body: Any = None, **query: str) -> dict[str, Any]:
        return self.call("POST", f"payments/{payment_id(number)}/{what}", viewer, body, query=query)

    def receipts(self, room_id: str = "") -> list[tuple[str, dict[str, Any]]]:
        sent = self.sent(room_id or self.direct, RECEIPT)
        return [(event.sender, event.get_dict()["content"]) for event in sent]

    def is_sound(self) -> bool:
        return bool(self.call("GET", "admin/invariants", ADMIN)["ok"])


def payment_id(number: int) -> str:
    return f"{number:032x}"


def order(number: int = 1, minor: Any = 500, **fields: Any) -> dict[str, Any]:
    return {"payment_id": payment_id(number), "payee": BOB, "amount": minor, "currency": "EUR", **fields}


@contextmanager
def refused(code: str, status: int) -> Generator[dict[str, Any]]:
    """The block is refused with that code and status, and with a sentence. Gives the further fields of the answer."""
    fields: dict[str, Any] = {}
    with pytest.raises(SynapseError) as refusal:
        yield fields
    error = refusal.value
    assert (error.errcode, error.code) == (f"ORG.SUPERAPP.{code}", status)
    assert error.msg.endswith("."), error.msg
    fields.update(error._additional_fields)


@pytest.fixture
def house() -> House:
    return House()


class TestByEvent:
    def test_a_payment_event_pays_and_leaves_a_receipt(self, house: House) -> None:
        event_id = house.send(ALICE, house.direct, PAYMENT, order(memo="lunch"))
        assert (house.wallet(ALICE), house.wallet(BOB)) == ((9_500, 0), (500, 0))
        assert house.receipts() == [
            (
                BOB,
                {
                    "m.relates_to": {"rel_type": "m.reference", "event_id": event_id},
                    "payment_id": payment_id(1),
                    "outcome": "completed",
                    "amount": 500,
                    "currency": "EUR",
                },
            )
        ]
        assert house.is_sound()

    def test_both_see_it(self, house: House) -> None:
        event_id = house.send(ALICE, house.direct, PAYMENT, order(memo="lunch", request="r1", invoice="7"))
        seen = house.payment(ALICE)
        assert seen == {
            "payment_id": payment_id(1),
            "direction": "outgoing",
            "payer": ALICE,
            "payee": BOB,
            "amount": 500,
            "currency": "EUR",
            "memo": "lunch",
            "request": "r1",
            "invoice": "7",
            "state": "completed",
            "room_id": house.direct,
            "event_id": event_id,
            "created_ts": house.now_ms(),
        }
        assert house.payment(BOB, payer=ALICE) == {**seen, "direction": "incoming"}

    def test_the_same_event_again_pays_nothing_more(self, house: House) -> None:
        house.send(ALICE, house.direct, PAYMENT, order())
        house.send(ALICE, house.direct, PAYMENT, order())
        assert house.wallet(BOB) == (500, 0)
        assert len(house.receipts()) == 1

    def test_another_order_under_its_id_is_refused(self, house: House) -> None:
        house.send(ALICE, house.direct, PAYMENT, order())
        with refused("CONFLICT", 409):
            house.send(ALICE, house.direct, PAYMENT, order(minor=501))
        assert house.wallet(BOB) == (500, 0)

    @pytest.mark.parametrize(
        ("fields", "code", "status"),
        [
            ({"amount": 0}, "INVALID_AMOUNT", 422),
            ({"amount": -5}, "INVALID_AMOUNT", 422),
            ({"amount": "5"}, "INVALID_AMOUNT", 422),
            ({"amount": True}, "INVALID_AMOUNT", 422),
            ({"amount": 5.5}, "INVALID_AMOUNT", 422),
            ({"amount": 2**53}, "INVALID_AMOUNT", 422),
            ({"currency": "XXX"}, "UNKNOWN_CURRENCY", 422),
            ({"payment_id": "7"}, "INVALID_VALUE", 422),
            ({"memo": "x" * 513}, "MEMO_TOO_LONG", 422),
            ({"body": "500 EUR"}, "UNKNOWN_FIELD", 422),
            ({"m.relates_to": {"rel_type": "m.replace", "event_id": "$x"}}, "UNKNOWN_FIELD", 422),
            ({"payee": "bob"}, "UNKNOWN_PAYEE", 404),
            ({"payee": "@nobody:hs1.test"}, "UNKNOWN_PAYEE", 404),
            ({"payee": ALICE}, "PAYEE_IS_SELF", 422),
            ({"payee": ZOE}, "NO_LINK", 403),
            ({"payee": CAROL}, "PAYEE_NOT_IN_ROOM", 403),
            ({"refund_of": "e" * 32}, "UNKNOWN_PAYMENT", 404),
        ],
        ids=str,
    )
    def test_a_bad_order_is_refused_to_its_sender_and_moves_nothing(
        self, house: House, fields: dict[str, Any], code: str, status: int
    ) -> None:
        with refused(code, status):
            house.send(ALICE, house.direct, PAYMENT, {**order(), **fields})
        assert house.wallet(ALICE) == (10_000, 0)
        assert house.sent(house.direct, PAYMENT) == []

    def test_more_than_there_is_is_402_with_what_is_available(self, house: House) -> None:
        with refused("INSUFFICIENT_FUNDS", 402) as fields:
            house.send(ALICE, house.direct, PAYMENT, order(minor=10_001))
        assert fields["available"] == 10_000

    def test_as_state_sticky_or_delayed_event_it_is_refused(self, house: House) -> None:
        with refused("NOT_A_MESSAGE", 422):
            house.send(ALICE, house.direct, PAYMENT, order(), state_key="")
        with refused("NOT_A_MESSAGE", 422):
            house.send(ALICE, house.direct, PAYMENT, order(), sticky=True)
        with refused("NOT_A_MESSAGE", 422):
            house.send(ALICE, house.direct, PAYMENT, order(), delayed=True)
        assert house.wallet(ALICE) == (10_000, 0)

    def test_state_events_are_refused_before_they_are_scheduled(self, house: House) -> None:
        (may_send,) = house.api.callbacks["user_may_send_state_event"]
        for event_type in (PAYMENT, RECEIPT):
            with refused("NOT_A_MESSAGE", 422):
                house.result(may_send(ALICE, house.direct, event_type, "", order()))
        assert house.result(may_send(ALICE, house.direct, "m.room.topic", "", {})) == "NOT_SPAM"

    @pytest.mark.parametrize("event_type", [PAYMENT, RECEIPT, "org.superapp.gift", "org.superapp.call.ring"])
    def test_initial_state_with_our_types_makes_no_room(self, house: House, event_type: str) -> None:
        (may_create,) = house.api.callbacks["user_may_create_room"]
        with refused("NOT_A_MESSAGE", 422):
            house.result(may_create(ALICE, {"initial_state": [{"type": event_type, "content": order()}]}))

    @pytest.mark.parametrize(
        "config",
        [
            {},
            {"initial_state": None},
            {"initial_state": "x"},
            {"initial_state": ["x", {}]},
            {"initial_state": [{"type": "org.superapp.call.link"}, {"type": "m.room.topic"}]},
        ],
        ids=str,
    )
    def test_other_rooms_are_made(self, house: House, config: dict[str, Any]) -> None:
        (may_create,) = house.api.callbacks["user_may_create_room"]
        assert house.result(may_create(ALICE, config)) == "NOT_SPAM"

    def test_state_that_came_in_around_the_gate_moves_nothing(self, house: House) -> None:
        house.gate_only(ALICE, house.direct, PAYMENT, order())
        house.set_state(house.direct, ALICE, PAYMENT, "", order())
        house.settle()
        assert house.wallet(BOB) == (0, 0)

    def test_a_receipt_is_only_for_homeservers_to_send(self, house: House) -> None:
        event_id = house.send(ALICE, house.direct, PAYMENT, order())
        (_, genuine), *_ = house.receipts()
        forged = {**genuine, "m.relates_to": {"rel_type": "m.reference", "event_id": event_id}}
        for sender in (ALICE, BOB):
            with refused("SERVER_ONLY", 403):
                house.send(sender, house.direct, RECEIPT, forged)
        assert len(house.receipts()) == 1

    def test_events_of_other_homeservers_pass_and_move_nothing(self, house: House) -> None:
        room = house.room(ALICE, BOB, ZOE)
        house.receive(ZOE, room, PAYMENT, order())
        house.receive(ZOE, room, PAYMENT, {"nonsense": True})
        house.receive(ZOE, room, RECEIPT, {"payment_id": payment_id(1), "outcome": "completed"})
        assert house.wallet(BOB) == (0, 0)
        assert house.is_sound()

    def test_redacting_it_afterwards_has_no_effect_on_money(self, house: House) -> None:
        event_id = house.send(ALICE, house.direct, PAYMENT, order(memo="lunch"))
        house.redact(event_id)
        house.advance(2 * HOUR_S)
        assert house.wallet(BOB) == (500, 0)
        assert house.payment(ALICE)["memo"] == "lunch"

    def test_redacting_it_before_it_was_followed_has_none_either(self, house: House) -> None:
        house.private._wakers.clear()
        event_id = house.send(ALICE, house.direct, PAYMENT, order())
        house.redact(event_id)
        assert house.wallet(BOB) == (0, 0)
        house.restart()
        assert house.wallet(BOB) == (500, 0)

    def test_an_edit_is_refused_and_a_remote_one_changes_nothing(self, house: House) -> None:
        event_id = house.send(ALICE, house.direct, PAYMENT, order())
        edit = {
            **order(),
            "m.new_content": order(minor=9_000),
            "m.relates_to": {"rel_type": "m.replace", "event_id": event_id},
        }
        with refused("UNKNOWN_FIELD", 422):
            house.send(ALICE, house.direct, PAYMENT, edit)
        assert house.payment(ALICE)["amount"] == 500

    def test_refusals_are_counted_by_reason(self, house: House) -> None:
        labels = {"reason": "payee_is_self"}
        before = REGISTRY.get_sample_value("superapp_payments_refused_total", labels) or 0
        with refused("PAYEE_IS_SELF", 422):
            house.send(ALICE, house.direct, PAYMENT, order(payee=ALICE))
        assert REGISTRY.get_sample_value("superapp_payments_refused_total", labels) == before + 1


class TestEncryptedRoom:
    @pytest.fixture
    def secret(self, house: House) -> str:
        return house.room(ALICE, BOB, encrypted=True)

    def test_a_bare_event_is_refused(self, house: House, secret: str) -> None:
        with refused("ROOM_ENCRYPTED", 403):
            house.send(ALICE, secret, PAYMENT, order())
        assert house.wallet(ALICE) == (10_000, 0)

    def test_the_api_puts_only_commitments_into_it(self, house: House, secret: str) -> None:
        paid = house.pay(room_id=secret, memo="for your eyes")
        assert paid["state"] == "completed"
        (event,) = house.sent(secret, PAYMENT)
        assert set(event.content) == {"payment_id", "commitment"}
        ((sender, receipt),) = house.receipts(secret)
        assert sender == BOB
        assert set(receipt) == {"m.relates_to", "payment_id", "outcome", "commitment"}
        assert house.payment(BOB, payer=ALICE)["memo"] == "for your eyes"

    def test_a_commitment_of_a_client_is_refused(self, house: House, secret: str) -> None:
        for room in (secret, house.direct):
            with refused("INVALID_VALUE", 422):
                house.send(ALICE, room, PAYMENT, {"payment_id": payment_id(1), "commitment": "x"})


class TestByApi:
    def test_it_finds_the_direct_room_and_answers_completed(self, house: House) -> None:
        answer = house.pay(memo="lunch", pin="1234")
        (event,) = house.sent(house.direct, PAYMENT)
        assert answer == {"payment_id": payment_id(1), "state": "completed", "event_id": event.event_id}
        assert event.sender == ALICE
        assert event.get_dict()["content"] == order(memo="lunch")
        assert house.wallet(BOB) == (500, 0)

    def test_a_replay_gives_the_same_answer_and_sends_no_second_event(self, house: House) -> None:
        first = house.pay()
        assert house.pay() == first
        assert len(house.sent(house.direct, PAYMENT)) == 1
        assert house.wallet(ALICE) == (9_500, 0)

    @pytest.mark.parametrize("other", [{"minor": 501}, {"memo": "else"}, {"payee": CAROL}], ids=str)
    def test_another_body_under_its_id_is_409(self, house: House, other: dict[str, Any]) -> None:
        house.pay()
        with refused("CONFLICT", 409):
            house.pay(**other)

    def test_another_room_under_its_id_is_409(self, house: House) -> None:
        house.pay()
        with refused("CONFLICT", 409):
            house.pay(room_id=house.room(ALICE, BOB))
        assert house.pay(room_id=house.direct)["state"] == "completed"

    def test_without_a_direct_room_it_makes_one_and_invites(self, house: House) -> None:
        house.room(ALICE, BOB, CAROL)
        rooms = set(house.rooms)
        answer = house.pay(payee=CAROL)
        assert answer["state"] == "completed"
        (made,) = set(house.rooms) - rooms
        assert house.memberships(made) == {ALICE: "join", CAROL: "invite"}
        assert house.account_data[(ALICE, "m.direct")] == {CAROL: [made]}
        assert house.wallet(CAROL) == (500, 0)
        # The payee is not in the room, so the payer's homeserver says how it ended.
        assert [sender for sender, _ in house.receipts(made)] == [ALICE]
        assert house.pay(2, payee=CAROL)["state"] == "completed"
        assert set(house.rooms) - rooms == {made}, "the next payment finds it"

    def test_of_several_rooms_of_two_it_takes_the_oldest_that_is_not_encrypted(self, house: House) -> None:
        secret = house.room(BOB, CAROL, encrypted=True)
        first, second = house.room(BOB, CAROL), house.room(CAROL, BOB)
        house.issue(BOB, 100)
        house.pay(payer=BOB, payee=CAROL, minor=5)
        assert [len(house.sent(room, PAYMENT)) for room in (secret, first, second)] == [0, 1, 0]

    def test_it_prefers_the_room_that_the_client_calls_direct_and_ignores_what_is_malformed(self, house: House) -> None:
        group = house.room(ALICE, BOB, CAROL)
        house.account_data[(ALICE, "m.direct")] = {BOB: [5, "!gone:hs1.test", group], CAROL: "x"}
        house.pay()
        assert len(house.sent(group, PAYMENT)) == 1

    def test_a_room_must_hold_both(self, house: House) -> None:
        with refused("PAYEE_NOT_IN_ROOM", 403):
            house.pay(payee=CAROL, room_id=house.direct)
        with refused("NOT_IN_ROOM", 403):
            house.pay(room_id=house.room(BOB, CAROL))
        with refused("NOT_IN_ROOM", 403):
            house.pay(room_id="!nowhere:hs1.test")

    def test_a_room_is_not_made_for_a_payment_that_is_refused(self, house: House) -> None:
        rooms = set(house.rooms)
        with refused("INSUFFICIENT_FUNDS", 402):
            house.pay(minor=10_001, payee=CAROL)
        assert set(house.rooms) == rooms

    @pytest.mark.parametrize(
        ("fields", "code", "status"),
        [
            ({"amount": 0}, "INVALID_AMOUNT", 422),
            ({"amount": "5"}, "INVALID_AMOUNT", 422),
            ({"amount": 1.0}, "INVALID_AMOUNT", 422),
            ({"currency": None}, "UNKNOWN_CURRENCY", 422),
            ({"memo": "x" * 513}, "MEMO_TOO_LONG", 422),
            ({"memo": "a\0"}, "INVALID_VALUE", 422),
            ({"payee": 5}, "INVALID_VALUE", 422),
            ({"refund_of": "e" * 32}, "UNKNOWN_FIELD", 422),
            ({"payee": ALICE}, "PAYEE_IS_SELF", 422),
            ({"payee": ZOE}, "NO_LINK", 403),
            ({"payee": "@nobody:hs1.test"}, "UNKNOWN_PAYEE", 404),
        ],
        ids=str,
    )
    def test_a_bad_order_is_refused(self, house: House, fields: dict[str, Any], code: str, status: int) -> None:
        with refused(code, status):
            house.call("POST", "payments", ALICE, {**order(), **fields})
        assert house.wallet(ALICE) == (10_000, 0)

    def test_a_deactivated_payee_is_gone(self, house: House) -> None:
        house.deactivated.add(BOB)
        with refused("PAYEE_GONE", 410):
            house.pay()

    def test_an_event_that_the_homeserver_refuses_gives_the_money_back_at_once(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def mute(_: dict[str, Any]) -> Any:
            raise SynapseError(403, "You may not write here", "M_FORBIDDEN")

        monkeypatch.setattr(house.api, "create_and_send_event_into_room", mute)
        with pytest.raises(SynapseError, match="may not write"):
            house.pay()
        assert house.wallet(ALICE) == (10_000, 0)
        assert house.payment(ALICE)["state"] == "cancelled"

    @pytest.mark.parametrize(
        "error",
        [SynapseError(500, "Internal server error"), SynapseError(429, "Too many requests", "M_LIMIT_EXCEEDED")],
        ids=["lost", "too fast"],
    )
    def test_an_order_whose_event_could_not_be_sent_now_is_sent_again_by_a_replay(
        self, house: House, monkeypatch: pytest.MonkeyPatch, error: SynapseError
    ) -> None:
        async def lose(_: dict[str, Any]) -> Any:
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(house.api, "create_and_send_event_into_room", lose)
            with pytest.raises(SynapseError, match=error.msg):
                house.pay()
        assert house.wallet(ALICE) == (9_500, 500)
        assert house.pay()["state"] == "completed"
        assert len(house.sent(house.direct, PAYMENT)) == 1


class TestAcceptance:
    @pytest.fixture
    def asked(self, house: House) -> House:
        house.account_data[(BOB, "org.superapp.payment.policy")] = {"v": 1, "accept": "ask"}
        answer = house.pay()
        assert answer["state"] == "awaiting_acceptance"
        assert (house.wallet(ALICE), house.wallet(BOB)) == ((9_500, 500), (0, 0))
        assert house.receipts() == []
        return house

    def test_accepting_credits_and_posts_the_receipt(self, asked: House) -> None:
        accepted = asked.act("accept", BOB, payer=ALICE)
        assert (accepted["state"], accepted["direction"]) == ("completed", "incoming")
        assert asked.wallet(BOB) == (500, 0)
        assert [(sender, content["outcome"]) for sender, content in asked.receipts()] == [(BOB, "completed")]
        assert asked.act("accept", BOB, payer=ALICE)["state"] == "completed"
        with refused("ALREADY_DECIDED", 409):
            asked.act("cancel", ALICE)
        assert asked.is_sound()

    def test_declining_returns_the_money(self, asked: House) -> None:
        assert asked.act("decline", BOB)["state"] == "declined"
        assert asked.wallet(ALICE) == (10_000, 0)
        ((sender, content),) = asked.receipts()
        assert (sender, content["outcome"], content["reason"]) == (BOB, "declined", "declined")
        with refused("ALREADY_DECIDED", 409):
            asked.act("accept", BOB)

    def test_cancelling_returns_the_money(self, asked: House) -> None:
        assert asked.act("cancel", ALICE)["state"] == "cancelled"
        assert asked.wallet(ALICE) == (10_000, 0)
        ((sender, content),) = asked.receipts()
        assert (sender, content["outcome"]) == (ALICE, "cancelled")
        with refused("PAYMENT_ID_SPENT", 410):
            asked.send(ALICE, asked.direct, PAYMENT, order())
        assert asked.pay()["state"] == "cancelled", "the API tells how it stands"

    def test_after_a_day_it_expires_to_the_second(self, asked: House) -> None:
        until_ms = asked.payment(BOB)["expires_ts"]
        assert until_ms == asked.payment(BOB)["created_ts"] + int(DAY_S * 1000)
        asked.advance((until_ms - asked.now_ms()) / 1000 - 1.5)
        assert asked.payment(ALICE)["state"] == "awaiting_acceptance"
        asked.advance(2.5)
        assert asked.payment(ALICE)["state"] == "expired"
        assert asked.wallet(ALICE) == (10_000, 0)
        assert [(sender, content["outcome"]) for sender, content in asked.receipts()] == [(ALICE, "expired")]
        with refused("EXPIRED", 410):
            asked.act("accept", BOB)

    def test_the_deadline_survives_a_restart(self, asked: House) -> None:
        asked.restart()
        asked.advance(DAY_S + 1)
        assert asked.payment(ALICE)["state"] == "expired"

    def test_only_the_payee_answers_and_only_the_payer_cancels(self, asked: House) -> None:
        with refused("UNKNOWN_PAYMENT", 404):
            asked.act("accept", ALICE)
        with refused("UNKNOWN_PAYMENT", 404):
            asked.act("decline", CAROL, payer=ALICE)
        with refused("UNKNOWN_PAYMENT", 404):
            asked.act("cancel", BOB)
        with refused("INVALID_VALUE", 422):
            asked.call("POST", "payments/xyz/accept", BOB)
        with refused("INVALID_VALUE", 422):
            asked.call("POST", "payments/xyz/cancel", ALICE)

    def test_who_lets_nobody_pay_them_is_not_paid(self, house: House) -> None:
        house.account_data[(BOB, "org.superapp.payment.policy")] = {"v": 1, "from": "contacts"}
        with refused("NOT_ALLOWED", 403):
            house.pay()
        with refused("NOT_ALLOWED", 403):
            house.send(ALICE, house.direct, PAYMENT, order())
        house.account_data[(BOB, "org.superapp.payment.policy")] = {"v": 1, "from": ["contacts", "shared_rooms"]}
        assert house.pay()["state"] == "completed"


class TestRefund:
    def test_part_and_then_the_rest(self, house: House) -> None:
        house.pay()
        part = house.act("refund", BOB, body={"payment_id": payment_id(2), "amount": 200}, payer=ALICE)
        assert (part["state"], part["payer"], part["payee"], part["amount"], part["refund_of"]) == (
            "completed",
            BOB,
            ALICE,
            200,
            payment_id(1),
        )
        assert part["room_id"] == house.direct
        rest = house.act("refund", BOB, body={"payment_id": payment_id(3)})
        assert rest["amount"] == 300
        assert house.act("refund", BOB, body={"payment_id": payment_id(3)}) == rest, "a replay"
        assert (house.wallet(ALICE), house.wallet(BOB)) == ((10_000, 0), (0, 0))
        with refused("REFUND_EXCEEDS_PAYMENT", 409):
            house.act("refund", BOB, body={"payment_id": payment_id(4)})
        assert house.is_sound()

    def test_more_than_the_payment_is_refused(self, house: House) -> None:
        house.pay()
        house.issue(BOB, 1_000)
        with refused("REFUND_EXCEEDS_PAYMENT", 409) as fields:
            house.act("refund", BOB, body={"payment_id": payment_id(2), "amount": 501})
        assert fields == {"refundable": 500, "currency": "EUR"}
        with refused("REFUND_EXCEEDS_PAYMENT", 409):
            house.send(BOB, house.direct, PAYMENT, order(3, 501, payee=ALICE, refund_of=payment_id(1)))

    def test_only_by_the_payee(self, house: House) -> None:
        house.pay()
        with refused("UNKNOWN_PAYMENT", 404):
            house.act("refund", ALICE, body={"payment_id": payment_id(2)})
        with refused("INVALID_AMOUNT", 422):
            house.act("refund", BOB, body={"payment_id": payment_id(2), "amount": 0})
        with refused("INVALID_VALUE", 422):
            house.act("refund", BOB, body={"payment_id": "2", "amount": 5})

    def test_its_event_says_what_it_returns(self, house: House) -> None:
        house.pay()
        house.act("refund", BOB, body={"payment_id": payment_id(2)})
        refund = house.sent(house.direct, PAYMENT)[-1]
        assert refund.sender == BOB
        assert refund.content["refund_of"] == payment_id(1)

    def test_it_goes_to_the_direct_room_where_the_other_has_left(self, house: House) -> None:
        group = house.room(ALICE, BOB, CAROL)
        house.pay(room_id=group)
        house.set_state(group, ALICE, "m.room.member", ALICE, {"membership": "leave"})
        refund = house.act("refund", BOB, body={"payment_id": payment_id(2)})
        assert (refund["state"], refund["room_id"]) == ("completed", house.direct)


class TestTime:
    def test_a_hold_whose_event_never_came_is_released_after_an_hour(self, house: House) -> None:
        house.gate_only(ALICE, house.direct, PAYMENT, order())
        assert house.wallet(ALICE) == (9_500, 500)
        house.advance(HOUR_S - 2)
        assert house.wallet(ALICE) == (9_500, 500)
        house.advance(4)
        assert house.wallet(ALICE) == (10_000, 0)
        assert house.payment(ALICE)["state"] == "expired"
        assert house.receipts() == []
        for again in (lambda: house.send(ALICE, house.direct, PAYMENT, order()), house.pay):
            with refused("PAYMENT_ID_SPENT", 410):
                again()
        assert house.is_sound()

    def test_one_whose_event_was_never_followed_is_bound_instead(self, house: House) -> None:
        house.send(ALICE, house.direct, PAYMENT, order(2))
        house.private._wakers.clear()
        house.module.runtime.follower._handlers.clear()
        house.send(ALICE, house.direct, PAYMENT, order())
        assert house.wallet(ALICE) == (9_000, 500)
        house.advance(HOUR_S + 2)
        assert house.payment(ALICE)["state"] == "completed"
        assert house.wallet(BOB) == (1_000, 0)

    def test_memos_are_forgotten_when_their_time_is_over(self) -> None:
        house = FakeHomeserver(config={**CONFIG, "retention": {"memos": "2h"}})
        house.start()
        house.register("admin", admin=True)
        alice, bob = house.register("alice"), house.register("bob")
        room = house.room(alice, bob)
        house.call("POST", "admin/issue", ADMIN, {"user_id": alice, "amount": 9, "currency": "EUR", "reference": "1"})
        house.send(alice, room, PAYMENT, order(minor=5, memo="secret"))
        house.advance(1.5 * HOUR_S)
        assert house.call("GET", "payments", alice)["payments"][0]["memo"] == "secret"
        house.advance(2 * HOUR_S)
        assert "memo" not in house.call("GET", "payments", alice)["payments"][0]


async def _die(*_: object) -> None:
    return None


class TestReceipts:
    @pytest.fixture
    def failing(self, house: House, monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
        """Receipts fail with the errors in this list, first to last; then they go out."""
        errors: list[Exception] = []
        send = house.api.create_and_send_event_into_room

        async def fail(event: dict[str, Any]) -> Any:
            if event["type"] == RECEIPT and errors:
                raise errors.pop(0)
            return await send(event)

        monkeypatch.setattr(house.api, "create_and_send_event_into_room", fail)
        return errors

    def test_one_that_fails_is_posted_later_and_once(self, house: House, failing: list[Exception]) -> None:
        failing += [SynapseError(400, "Can't send relation to unknown event"), RuntimeError("away")]
        house.pay()
        assert house.receipts() == []
        house.advance(10)
        assert len(house.receipts()) == 1
        house.advance(2 * HOUR_S)
        assert len(house.receipts()) == 1

    def test_one_that_was_posted_before_a_crash_is_not_posted_again(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The process dies after the event is persisted and before that is noted.
        with monkeypatch.context() as patched:
            patched.setattr(Receipts, "_settle", _die)
            house.pay()
        assert len(house.receipts()) == 1
        house.restart()
        house.advance(HOUR_S)
        assert len(house.receipts()) == 1
        assert house.query("SELECT due_ms, receipt_event_id FROM superapp_payment_receipt") == [
            (None, house.sent(house.direct, RECEIPT)[0].event_id)
        ]

    def test_a_crash_before_it_was_posted_is_made_good(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(Receipts, "_post", _die)
            house.pay()
        assert house.receipts() == []
        house.restart()
        house.advance(5)
        assert len(house.receipts()) == 1

    def test_where_the_payee_has_left_the_payer_speaks_and_where_nobody_may_it_is_dropped(self, house: House) -> None:
        house.account_data[(BOB, "org.superapp.payment.policy")] = {"v": 1, "accept": "ask"}
        house.pay()
        house.set_state(house.direct, BOB, "m.room.member", BOB, {"membership": "leave"})
        house.act("accept", BOB)
        assert [sender for sender, _ in house.receipts()] == [ALICE]
        room = house.room(ALICE, BOB)
        house.pay(2, room_id=room)
        for person in (ALICE, BOB):
            house.set_state(room, person, "m.room.member", person, {"membership": "leave"})
        house.act("accept", BOB, 2)
        house.advance(5)
        assert house.receipts(room) == []
        assert house.query("SELECT COUNT(*) FROM superapp_payment_receipt WHERE due_ms IS NOT NULL") == [(0,)]

    def test_strangers_homeservers_in_the_room_see_no_outcome_amount(self, house: House) -> None:
        room = house.room(ALICE, BOB, ZOE)
        house.pay(room_id=room)
        ((_, content),) = house.receipts(room)
        assert set(content) == {"m.relates_to", "payment_id", "outcome", "commitment"}


class TestWalletAndHistory:
    def test_a_new_person_has_nothing_in_every_currency(self, house: House) -> None:
        assert house.call("GET", "wallet", CAROL) == {
            "accounts": [{"currency": "EUR", "scale": 2, "available": 0, "held": 0}]
        }

    def test_money_of_an_asset_that_is_no_longer_configured_is_still_shown(self, house: House) -> None:
        house._config = {**CONFIG, "payments": {**CONFIG["payments"], "assets": [{"code": "PTS", "scale": 0}]}}
        house.restart()
        accounts = house.call("GET", "wallet", ALICE)["accounts"]
        assert [(each["currency"], each["scale"], each["available"]) for each in accounts] == [
            ("EUR", 2, 10_000),
            ("PTS", 0, 0),
        ]

    def test_an_asset_whose_scale_was_changed_halts_payments_and_is_shown_as_it_was_booked(self) -> None:
        house = House(assets=[{"code": "EUR"}, {"code": "PTS", "scale": 3}])
        assets = [{"code": "EUR"}, {"code": "PTS", "scale": 0}]
        house._config = {**CONFIG, "payments": {**CONFIG["payments"], "assets": assets}}
        house.restart()
        with refused("PAYMENTS_HALTED", 503):
            house.pay()
        accounts = house.call("GET", "wallet", ALICE)["accounts"]
        assert [(each["currency"], each["scale"]) for each in accounts] == [("EUR", 2), ("PTS", 3)]

    def test_history_comes_in_pages_newest_first(self, house: House) -> None:
        for number in range(1, 6):
            house.pay(number, number)
            house.advance(1)
        seen: list[int] = []
        query = {"limit": "2"}
        while True:
            page = house.call("GET", "payments", BOB, query=query)
            seen += [payment["amount"] for payment in page["payments"]]
            if "next" not in page:
                break
            query["since"] = page["next"]
        assert seen == [5, 4, 3, 2, 1]

    @pytest.mark.parametrize(
        "since", ["x", "é", "W10", "WzEsMiwzXQ", "bnVsbA", to_b64(b'[1%s, "x", "y"]' % (b"0" * 40))]
    )
    def test_a_token_that_is_not_ours_is_refused(self, house: House, since: str) -> None:
        with refused("INVALID_VALUE", 422):
            house.call("GET", "payments", ALICE, query={"since": since})

    @pytest.mark.parametrize("limit", ["0", "-1", "many"])
    def test_a_page_has_at_least_one_entry(self, house: House, limit: str) -> None:
        with refused("INVALID_VALUE", 422):
            house.call("GET", "payments", ALICE, query={"limit": limit})

    def test_nobody_sees_a_payment_of_others(self, house: House) -> None:
        house.pay()
        with refused("UNKNOWN_PAYMENT", 404):
            house.payment(CAROL)
        for payer in (ALICE, "no user id"):
            with refused("UNKNOWN_PAYMENT", 404):
                house.payment(CAROL, payer=payer)
        assert house.call("GET", "payments", CAROL) == {"payments": []}

    def test_a_payee_must_say_whose_id_it_is_where_two_have_used_it(self, house: House) -> None:
        house.issue(CAROL, 100)
        house.pay()
        house.pay(payer=CAROL, minor=7)
        with refused("CONFLICT", 409):
            house.payment(BOB)
        assert house.payment(BOB, payer=CAROL)["amount"] == 7


class TestOperator:
    def test_the_same_reference_again_issues_nothing_more(self, house: House) -> None:
        first = house.issue(BOB, 100, "salary")
        assert {**first, "seq": 0} == {
            "seq": 0,
            "user_id": BOB,
            "amount": 100,
            "currency": "EUR",
            "reference": "salary",
            "created_ts": house.now_ms(),
        }
        house.advance(5)
        assert house.issue(BOB, 100, "salary") == first
        assert house.wallet(BOB) == (100, 0)
        with refused("CONFLICT", 409):
            house.issue(BOB, 101, "salary")
        with refused("CONFLICT", 409):
            house.issue(CAROL, 100, "salary")

    @pytest.mark.parametrize(
        ("body", "code", "status"),
        [
            ({"user_id": "@nobody:hs1.test"}, "UNKNOWN_PAYEE", 404),
            ({"user_id": ZOE}, "UNKNOWN_PAYEE", 404),
            ({"user_id": "bob"}, "UNKNOWN_PAYEE", 404),
            ({"amount": 0}, "INVALID_AMOUNT", 422),
            ({"currency": "XXX"}, "UNKNOWN_CURRENCY", 422),
            ({"reference": ""}, "INVALID_VALUE", 422),
            ({"reference": "a\0"}, "INVALID_VALUE", 422),
            ({"note": "x"}, "UNKNOWN_FIELD", 422),
        ],
        ids=str,
    )
    def test_a_bad_issue_is_refused(self, house: House, body: dict[str, Any], code: str, status: int) -> None:
        full = {"user_id": BOB, "amount": 5, "currency": "EUR", "reference": "r", **body}
        with refused(code, status):
            house.call("POST", "admin/issue", ADMIN, full)

    def test_broken_books_are_shown_and_measured(self, house: House) -> None:
        house.pay()
        assert house.call("GET", "admin/invariants", ADMIN)["ok"] is True
        assert REGISTRY.get_sample_value("superapp_invariant_violations") == 0
        house._database.execute("UPDATE superapp_payment SET state = 'held'")
        found = house.call("GET", "admin/invariants", ADMIN)
        assert found["ok"] is False
        assert [(each["invariant"], each["off_by"]) for each in found["broken"]] == [("holds", 500)]
        assert REGISTRY.get_sample_value("superapp_invariant_violations") == 1

    def test_the_halt_file_stops_what_is_new_and_nothing_else(self, tmp_path: Path) -> None:
        switch = tmp_path / "halt"
        house = House(halt_file=str(switch))
        house.account_data[(BOB, "org.superapp.payment.policy")] = {"v": 1, "accept": "ask"}
        house.pay()
        switch.touch()
        with refused("PAYMENTS_HALTED", 503):
            house.pay(2)
        with refused("PAYMENTS_HALTED", 503):
            house.send(ALICE, house.direct, PAYMENT, order(3))
        with refused("PAYMENTS_HALTED", 503):
            house.act("accept", BOB)
        assert house.wallet(ALICE) == (9_500, 500), "the hold stays"
        assert house.pay()["state"] == "awaiting_acceptance", "a replay starts nothing"
        switch.unlink()
        assert house.act("accept", BOB)["state"] == "completed"

    def test_on_a_database_that_may_lose_commits_no_payment_starts(self, caplog: pytest.LogCaptureFixture) -> None:
        house = House()
        house._database.execute("PRAGMA synchronous = OFF")
        house.restart()
        with refused("PAYMENTS_HALTED", 503):
            house.pay()
        assert "synchronous" in caplog.text

    def test_a_halt_file_that_cannot_be_looked_at_counts_as_there(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        house = House(halt_file=str(tmp_path / "file" / "below"))
        with refused("PAYMENTS_HALTED", 503):
            house.pay()
