"""Odd payments: in currencies without minor units and with three, PINs tried from many devices, spite for a cent."""

import csv
import io
from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.module_api.errors import SynapseError
from twisted.internet import defer, task

from super_app.ids import UserId
from synapse_super_app.http.resource import ApiResource, answer

ALICE, CAROL, BOB = "@alice:hs1.test", "@carol:hs1.test", "@bob:hs2.test"
CURRENCIES = ("EUR", "JPY", "KWD", "BHD")
PAYMENTS: dict[str, Any] = {
    "mode": "custodial",
    "acknowledge": {"operator": "a test", "licence": "none"},
    "assets": [{"code": code} for code in CURRENCIES],
}
FEATURES = {"directory": False, "calls": False, "web": False, "cards": True}
HAS_MINOR = 10_001


class Pair:
    """alice and carol on hs1, bob on hs2; alice has 10001 minor units of each currency."""

    def __init__(self) -> None:
        clock = task.Clock()
        clock.advance(1_700_000_000)
        config = {"features": FEATURES, "payments": PAYMENTS}
        self.hs1 = FakeHomeserver("hs1.test", config=config, clock=clock)
        self.hs2 = FakeHomeserver("hs2.test", config=config, clock=clock)
        self.hs1.reachable["hs2.test"], self.hs2.reachable["hs1.test"] = self.hs2, self.hs1
        grants = [{"currency": code, "credit_limit_minor": 50_000} for code in CURRENCIES]
        for each, peer in ((self.hs1, "hs2.test"), (self.hs2, "hs1.test")):
            each.start()
            each.register("admin", admin=True)
            each.call("POST", "admin/links", f"@admin:{each.server_name}", {"peer": peer, "currencies": grants})
        for name in ("alice", "carol"):
            self.hs1.register(name)
        self.hs2.register("bob")
        for code in CURRENCIES:
            issue = {"user_id": ALICE, "amount": HAS_MINOR, "currency": code, "reference": code}
            self.hs1.call("POST", "admin/issue", "@admin:hs1.test", issue)
        self.group = self.hs1.room(ALICE, CAROL)
        self.settle()

    def settle(self) -> None:
        for _ in range(3):
            self.hs1.advance(2)
            self.hs2.settle()

    def pay(self, number: int, payee: str, minor: int, currency: str, **more: Any) -> dict[str, Any]:
        body = {"payment_id": f"{number:032x}", "payee": payee, "amount": minor, "currency": currency, **more}
        done = self.hs1.call("POST", "payments", ALICE, body)
        self.settle()
        return done

    def has(self, who: str, currency: str) -> int:
        of = self.hs1 if who.endswith("hs1.test") else self.hs2
        accounts = of.call("GET", "wallet", who)["accounts"]
        return sum(each["available"] + each["held"] for each in accounts if each["currency"] == currency)

    def assert_books_are_right(self) -> None:
        for each in (self.hs1, self.hs2):
            found = each.call("GET", "admin/invariants", f"@admin:{each.server_name}")
            assert found["ok"], found


def refused(do: Any) -> tuple[int, str]:
    with pytest.raises(SynapseError) as refusal:
        do()
    return refusal.value.code, refusal.value.errcode.removeprefix("ORG.SUPERAPP.")


@pytest.mark.parametrize(("currency", "written"), [("JPY", "1001"), ("KWD", "1.001"), ("BHD", "1.001")])
def test_yen_without_minor_units_and_dinars_with_three_go_through_whole_flows(currency: str, written: str) -> None:
    pair = Pair()
    # Paid to another homeserver, and given back in part and then the rest.
    pair.pay(1, BOB, 1_001, currency)
    assert pair.has(BOB, currency) == 1_001
    back = {"payment_id": "f" * 32, "amount": 1}
    pair.hs2.call("POST", f"payments/{1:032x}/refund", BOB, back, {"payer": ALICE})
    pair.settle()
    pair.hs2.call("POST", f"payments/{1:032x}/refund", BOB, {"payment_id": "e" * 32}, {"payer": ALICE})
    pair.settle()
    assert (pair.has(ALICE, currency), pair.has(BOB, currency)) == (HAS_MINOR, 0)
    # A bill that does not divide: to the last unit, and the odd one is the asker's.
    split = {"request_id": "1" * 32, "room_id": pair.group, "from": [CAROL], "amount": 1_001, "currency": currency}
    asked = pair.hs1.call("POST", "requests", ALICE, {**split, "split": {"how": "equal", "mine": 1}})
    assert asked["total"] == 500
    # A gift of which one finds an odd share, money under a link, and the statement of all of it.
    gift = {"gift_id": "2" * 32, "room_id": pair.group, "amount": 1_001, "currency": currency}
    pair.hs1.call("POST", "gifts", ALICE, {**gift, "shares": 2, "split": "equal"})
    pair.settle()
    pair.hs1.call("POST", f"gifts/{'2' * 32}/claim", CAROL, query={"giver": ALICE})
    pair.settle()
    assert pair.has(CAROL, currency) == 501
    link = pair.hs1.call("POST", "claims", ALICE, {"claim_id": "3" * 32, "amount": 1_001, "currency": currency})["link"]
    pair.hs2.call("POST", "claims/redeem", BOB, {"link": link})
    pair.settle()
    assert pair.has(BOB, currency) == 1_001
    query = {"currency": currency, "format": "csv", "tz": "UTC"}
    file = pair.hs1.download("statements/2023-11/file", ALICE, query).content.decode()
    assert any(written in (each.strip("-") for each in row) for row in csv.reader(io.StringIO(file))), file
    pair.assert_books_are_right()


def test_a_pin_that_is_tried_from_many_devices_at_once_has_five_tries_in_all() -> None:
    pair = Pair()
    pair.hs1.call("PUT", "wallet/pin", ALICE, {"pin": "2580"})
    resource = next(each for each in pair.hs1.api.web_resources.values() if isinstance(each, ApiResource))
    route, variables = resource.match("POST", "payments")
    outcomes: list[Any] = []
    # The right one is among the guesses, behind five wrong ones: it finds the PIN locked already.
    for number, pin in enumerate([*(f"11{number:02}" for number in range(20)), "2580", "2581"]):
        order = {"payment_id": f"{number:032x}", "payee": CAROL, "amount": 100, "currency": "EUR", "pin": pin}
        asked = answer(route, variables, UserId(ALICE), {}, order)
        defer.ensureDeferred(asked).addBoth(outcomes.append)
    pair.settle()
    codes = [each.value.errcode.removeprefix("ORG.SUPERAPP.") for each in outcomes]
    assert len(codes) == 22
    assert codes.count("PIN_WRONG") == 4
    assert codes.count("PIN_LOCKED") == 18
    assert (pair.has(ALICE, "EUR"), pair.has(CAROL, "EUR")) == (HAS_MINOR, 0)


def test_a_cent_with_spite_from_a_stranger_mentions_nobody_and_is_kept_away_by_a_minimum_contacts_or_a_block() -> None:
    pair = Pair()
    spite = '@room @carol:hs1.test <a href="https://evil.example">shame on you</a>\u202e'
    assert pair.pay(1, CAROL, 1, "EUR", memo=spite)["state"] == "completed"
    (paid,) = pair.hs1.call("GET", "payments", CAROL)["payments"]
    pair.hs1.advance(5)
    cards = [
        event.get_dict()["content"]
        for room in pair.hs1.rooms.values()
        for event in room.timeline
        if event.type == "m.room.message" and "shame" in str(event.get_dict()["content"])
    ]
    assert cards, "the card of a payment shows its memo"
    for card in cards:
        assert "<a href" not in card.get("formatted_body", ""), "what somebody writes is text and nothing else"
        assert "room" not in card.get("m.mentions", {})
    # Whoever had enough of it has three ways, and none of them tells the stranger which it was.
    told: set[tuple[int, str]] = set()
    policy = "org.superapp.payment.policy"
    minimum: dict[str, Any] = {"amount": 100, "currency": "EUR"}
    rules: tuple[dict[str, Any], ...] = ({"minimum": minimum}, {"from": ["contacts"]}, {"from": ["nobody"]})
    for number, rule in enumerate(rules, start=2):
        pair.hs1.account_data[(CAROL, policy)] = {"v": 1, **rule}
        told.add(refused(lambda each=number: pair.pay(each, CAROL, 1, "EUR", memo=spite)))
    pair.hs1.account_data[(CAROL, policy)] = {"v": 1}
    pair.hs1.call("PUT", f"blocks/{ALICE}", CAROL)
    told.add(refused(lambda: pair.pay(9, CAROL, 1, "EUR", memo=spite)))
    assert len(told) == 1, told
    # What had come before can be given back all the same.
    assert pair.has(CAROL, "EUR") == 1
    body = {"payment_id": "d" * 32}
    pair.hs1.call("POST", f"payments/{paid['payment_id']}/refund", CAROL, body, {"payer": ALICE})
    pair.settle()
    assert (pair.has(ALICE, "EUR"), pair.has(CAROL, "EUR")) == (HAS_MINOR, 0)
    pair.assert_books_are_right()
