"""Paying and ringing people who moved to another homeserver."""

from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.module_api.errors import SynapseError
from test_directory_module import refusal
from test_directory_moves import HS3, Land

from super_app.ids import UserId
from super_app.names import EventType

HOUR_S = 3_600.0
FEATURES: dict[str, Any] = {
    "features": {"calls": False, "web": False},
    "directory": {"existing_users": {"discover": "public"}, "new_users": {"discover": "public"}},
    "payments": {
        "mode": "custodial",
        "acknowledge": {"operator": "a test", "licence": "none"},
        "assets": [{"code": "EUR"}],
        "limits": {"default_tier": "all", "tiers": {"all": {}}, "after_move": {"EUR": 1_000}},
    },
}
BOB, ALICE, NEW = UserId("@bob:hs2.test"), UserId("@alice:hs1.test"), UserId(f"@alice:{HS3}")


class Money(Land):
    """All three with payments, links between all, and 200.00 EUR for bob."""

    def __init__(self) -> None:
        super().__init__(config=FEATURES)
        self.ids = 0
        for each in self.others:
            each.register("admin", admin=True)
        for each in self.others:
            for other in self.others:
                if other is not each:
                    grant = {"currency": "EUR", "credit_limit_minor": 50_000}
                    body = {"peer": other.server_name, "currencies": [grant]}
                    each.call("POST", "admin/links", f"@admin:{each.server_name}", body)
        issue = {"user_id": BOB, "amount": 20_000, "currency": "EUR", "reference": "1"}
        self.hs2.call("POST", "admin/issue", "@admin:hs2.test", issue)
        self.advance(5)

    def pay(self, payee: str, amount: int = 500, **more: Any) -> dict[str, Any]:
        self.ids += 1
        order = {"payment_id": f"{self.ids:032x}", "payee": payee, "amount": amount, "currency": "EUR", **more}
        found: dict[str, Any] = self.hs2.call("POST", "payments", BOB, order)
        return found


@pytest.fixture
def land() -> Money:
    return Money()


def received(homeserver: FakeHomeserver, user_id: str) -> int:
    accounts = homeserver.call("GET", "wallet", user_id)["accounts"]
    return sum(each["available"] for each in accounts)


class TestPaying:
    def test_a_payment_to_the_old_handle_goes_to_the_new_place(self, land: Money) -> None:
        land.move()
        land.advance(7)
        paid = land.pay(ALICE)
        assert (paid["state"], land.hs2.call("GET", f"payments/{1:032x}", BOB)["payee"]) == ("completed", NEW)
        assert (received(land.hs3, NEW), received(land.hs1, ALICE)) == (500, 0)
        # What stands in the room says who was paid.
        (event,) = [event for event in land.hs2.events.values() if event.type == "org.superapp.payment"]
        assert event.content["payee"] == NEW
        assert land.hs2.call("POST", "payments", BOB, {**order(1, ALICE)})["state"] == "completed"

    def test_where_the_cache_is_stale_the_old_homeserver_refuses_and_the_next_order_arrives(self, land: Money) -> None:
        land.pay(ALICE)
        land.hs2.reachable.pop("hs1.test")
        land.move()
        land.hs2.reachable["hs1.test"] = land.hs1
        before = received(land.hs2, BOB)
        # Bob's homeserver has the record of a moment ago, so the order goes to the old place.
        refused = land.pay(ALICE)
        assert (refused["state"], refused["reason"]) == ("failed", "payee_moved")
        assert received(land.hs2, BOB) == before
        assert land.pay(ALICE)["state"] == "completed"
        assert received(land.hs3, NEW) == 500

    def test_an_event_that_names_the_old_handle_is_refused_and_told_where(self, land: Money) -> None:
        land.move()
        land.advance(7)
        room = land.hs2.room(BOB, ALICE)
        with pytest.raises(SynapseError) as refused:
            land.hs2.send(BOB, room, "org.superapp.payment", order(9, ALICE))
        assert refused.value.errcode == "ORG.SUPERAPP.PAYEE_MOVED"
        assert refused.value.error_dict(None)["moved_to"] == NEW

    def test_a_neighbour_is_told_the_same(self, land: Money) -> None:
        dora = land.hs1.register("dora")
        land.hs1.call("POST", "admin/issue", "@admin:hs1.test", issue(dora))
        land.move()
        paid = land.hs1.call("POST", "payments", dora, order(1, ALICE))
        assert (paid["state"], received(land.hs3, NEW)) == ("completed", 500)

    def test_above_the_limit_it_waits_for_three_days(self, land: Money) -> None:
        land.move()
        land.advance(7)
        for payee in (ALICE, NEW):
            assert refusal(land.hs2, "POST", "payments", BOB, order(1, payee, 1_001)) == (403, "MOVED_RECENTLY")
        assert land.pay(NEW, 1_000)["state"] == "completed"
        land.advance(72 * HOUR_S)
        assert land.pay(NEW, 1_001)["state"] == "completed"

    def test_a_refund_goes_back_to_where_it_was_paid_from(self, land: Money) -> None:
        land.hs1.call("POST", "admin/issue", "@admin:hs1.test", issue(ALICE))
        land.hs1.call("POST", "payments", ALICE, order(7, BOB))
        land.move()
        land.advance(7)
        before = received(land.hs1, ALICE)
        body = {"payment_id": f"{8:032x}"}
        refund = land.hs2.call("POST", f"payments/{7:032x}/refund", BOB, body, {"payer": ALICE})
        assert (refund["state"], received(land.hs1, ALICE)) == ("completed", before + 500)

    def test_what_cannot_be_confirmed_is_refused_and_told_where(self, land: Money) -> None:
        land.move()
        land.hs2.reachable.pop(HS3)
        land.advance(61)
        assert refusal(land.hs2, "POST", "payments", BOB, order(1, ALICE)) == (410, "PAYEE_MOVED")


CALLS: dict[str, Any] = {
    "features": {"payments": False, "web": False, "assistant": False},
    "directory": FEATURES["directory"],
    "calls": {"default_who": ["everyone"]},
}


class TestRinging:
    def test_a_call_to_the_old_handle_rings_at_the_new_place(self) -> None:
        land = Land(config=CALLS)
        dora = land.hs1.register("dora")
        land.move()
        land.advance(7)
        for homeserver, caller in ((land.hs2, BOB), (land.hs1, dora), (land.hs3, land.mallory)):
            body = {"call_id": f"call-{homeserver.server_name}", "callee": ALICE, "media": "audio"}
            begun = homeserver.call("POST", "calls", caller, body)
            assert (begun["callee"], begun["state"]) == (NEW, "ringing")
            assert homeserver.memberships(begun["room_id"]) == {caller: "join", NEW: "invite"}
            (ring,) = homeserver.sent(begun["room_id"], EventType.CALL_RING)
            assert ring.content["call_id"] == body["call_id"]

    def test_where_only_the_old_homeserver_says_so_nobody_is_rung(self) -> None:
        land = Land(config=CALLS)
        land.move()
        land.hs2.reachable.pop(HS3)
        land.advance(61)
        body = {"call_id": "call-1", "callee": ALICE, "media": "audio"}
        assert refusal(land.hs2, "POST", "calls", BOB, body) == (502, "PEER_UNREACHABLE")
        assert not [event for event in land.hs2.events.values() if event.type == EventType.CALL_RING]


def order(number: int, payee: str, amount: int = 500) -> dict[str, Any]:
    return {"payment_id": f"{number:032x}", "payee": payee, "amount": amount, "currency": "EUR"}


def issue(user_id: str) -> dict[str, Any]:
    return {"user_id": user_id, "amount": 20_000, "currency": "EUR", "reference": user_id}
