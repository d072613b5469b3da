"""Settlements in the homeserver: the operators' routes on both sides, what goes by itself, who is told of a dispute."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from fake_api import FakeHomeserver
from prometheus_client import REGISTRY
from synapse.module_api.errors import SynapseError

from synapse_super_app.http.resource import ApiResource
from synapse_super_app.http.routes import Auth

HS1, HS2 = "hs1.test", "hs2.test"
DAY_S: Final = 86_400
CONFIG: dict[str, Any] = {
    "features": {"directory": False, "calls": False, "web": False},
    "payments": {
        "mode": "custodial",
        "acknowledge": {"operator": "a test", "licence": "none"},
        "assets": [{"code": "EUR"}],
    },
}


class House(FakeHomeserver):
    """A homeserver with an admin and one person."""

    def __init__(self, name: str, person: str) -> None:
        super().__init__(name, config=CONFIG)
        self.admin = self.register("admin", admin=True)
        self.person = self.register(person)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None, **query: str) -> dict[str, Any]:
        return self.call(method, f"admin/{path}", self.admin, body, query)

    def act(self, known: dict[str, Any], name: str, **body: Any) -> dict[str, Any]:
        peer = HS2 if self.server_name == HS1 else HS1
        return self.ask("POST", f"links/{peer}/settlements/{known['settlement_id']}/{name}", body)

    def settlement(self, known: dict[str, Any]) -> dict[str, Any]:
        found: list[dict[str, Any]] = self.ask("GET", "settlements")["settlements"]
        return next(each for each in found if each["settlement_id"] == known["settlement_id"])

    def exposure(self) -> dict[str, Any]:
        (link,) = self.ask("GET", "links")["links"]
        exposure: dict[str, Any] = link["currencies"][0]
        return exposure

    def waits(self) -> list[str]:
        (link,) = self.ask("GET", "links")["links"]
        waits: list[str] = link["waits"]
        return waits


Pair = tuple[House, House]


def propose(hs1: House, hs2: House, **body: Any) -> dict[str, Any]:
    proposed = hs1.ask("POST", f"links/{HS2}/settlements", {"currency": "EUR", **body})
    both(hs1, hs2)
    return proposed


def both(*houses: House, seconds: float = 3) -> None:
    for _ in range(2):
        for house in houses:
            house.advance(seconds / 2)


@pytest.fixture
def pair() -> Pair:
    """Two homeservers with an open link; alice of the first has paid bob of the second 60.00 EUR."""
    hs1, hs2 = House(HS1, "alice"), House(HS2, "bob")
    hs1.reachable, hs2.reachable = {HS2: hs2}, {HS1: hs1}
    for house, peer in ((hs1, HS2), (hs2, HS1)):
        house.start()
        house.ask("POST", "links", {"peer": peer, "currencies": [{"currency": "EUR", "credit_limit_minor": 10_000}]})
    both(hs1, hs2)
    hs1.ask("POST", "issue", {"user_id": hs1.person, "amount": 9_000, "currency": "EUR", "reference": "start"})
    room = hs1.room(hs1.person, hs2.person)
    hs2.rooms[room] = hs1.rooms[room]
    order = {"payment_id": f"{1:032x}", "payee": hs2.person, "amount": 6_000, "currency": "EUR"}
    hs1.call("POST", "payments", hs1.person, order)
    both(hs1, hs2)
    assert hs2.exposure()["due_from_minor"] == 6_000
    return hs1, hs2


@contextmanager
def refused(errcode: str, status: int) -> Generator[None]:
    with pytest.raises(SynapseError) as refusal:
        yield
    assert (refusal.value.errcode, refusal.value.code) == (f"ORG.SUPERAPP.{errcode}", status), refusal.value.msg
    assert refusal.value.msg.endswith(".")


def test_two_operators_settle_a_debt(pair: Pair) -> None:
    hs1, hs2 = pair
    assert (hs1.exposure()["settle_net_minor"], hs2.exposure()["used_minor"]) == (6_000, 6_000)
    known = propose(hs1, hs2)
    assert (known["amount_minor"], known["way"], known["state"], known["waits_for"]) == (
        6_000,
        "out",
        "proposed",
        "peer",
    )
    theirs = hs2.settlement(known)
    assert (theirs["way"], theirs["waits_for"], theirs["reference"]) == ("in", "us", known["reference"])
    assert hs2.waits() == [f"waits for you to agree that {HS1} pays you 60.00 EUR"]
    hs2.act(known, "agree", pay_to="payto://iban/DE75512108001245126199?receiver-name=Hs2&amount=EUR:1.00")
    both(hs1, hs2)
    agreed = hs1.settlement(known)
    assert agreed["pay_to"] == (
        f"payto://iban/DE75512108001245126199?receiver-name=Hs2&amount=EUR:60.00&message={known['reference']}"
    )
    hs1.act(known, "sent", bank_reference="E2E 17")
    both(hs1, hs2)
    assert hs1.waits() == [f"waits for the operator of {HS2} to say whether 60.00 EUR arrived"]
    assert hs2.settlement(known)["bank_reference"] == "E2E 17"
    assert (hs1.exposure()["in_transit_minor"], hs2.exposure()["used_minor"]) == (6_000, 6_000)
    assert hs2.act(known, "received", amount_minor=5_900)["state"] == "received"
    both(hs1, hs2)
    assert (hs1.settlement(known)["received_minor"], hs1.exposure()["due_to_minor"]) == (5_900, 100)
    assert (hs2.exposure()["used_minor"], hs1.waits(), hs2.waits()) == (100, [], [])
    for house in pair:
        assert house.ask("GET", "invariants")["ok"] is True


def test_each_refusal_of_an_act(pair: Pair) -> None:
    hs1, hs2 = pair
    with refused("EXCEEDS_DEBT", 409):
        propose(hs1, hs2, amount_minor=6_001)
    with refused("UNKNOWN_PEER", 404):
        hs1.ask("POST", "links/hs3.test/settlements", {"currency": "EUR"})
    with refused("UNKNOWN_PEER", 404):
        hs1.ask("GET", "settlements", peer="hs3.test")
    with refused("UNKNOWN_CURRENCY", 422):
        propose(hs1, hs2, currency="USD")
    with refused("UNKNOWN_SETTLEMENT", 404):
        hs1.act({"settlement_id": "A" * 43}, "sent")
    with refused("INVALID_VALUE", 422):
        propose(hs1, hs2, settlement_id="short")
    known = propose(hs1, hs2, settlement_id="B" * 43)
    with refused("CONFLICT", 409):
        propose(hs1, hs2, settlement_id="B" * 43, amount_minor=1)
    with refused("ALREADY_DECIDED", 409):
        hs1.act(known, "sent")
    with refused("INVALID_VALUE", 422):
        hs2.act(known, "agree", pay_to="mailto:bob")
    with refused("INVALID_VALUE", 422):
        hs1.act(known, "cancel", reason="No Money!")
    hs2.act(known, "refuse", reason="too_large")
    both(hs1, hs2)
    assert (hs1.settlement(known)["state"], hs1.settlement(known)["reason"]) == ("refused", "too_large")


def test_what_did_not_arrive_and_what_was_taken_back(pair: Pair) -> None:
    hs1, hs2 = pair
    lost, kept = propose(hs1, hs2, amount_minor=1_000), propose(hs1, hs2, amount_minor=2_000)
    for each in (lost, kept):
        hs2.act(each, "agree")
    both(hs1, hs2)
    assert "pay_to" not in hs1.settlement(lost)
    hs1.act(kept, "cancel")
    hs1.act(lost, "sent")
    both(hs1, hs2)
    hs2.act(lost, "not-received")
    both(hs1, hs2)
    for house in pair:
        assert [house.settlement(each)["state"] for each in (lost, kept)] == ["not_received", "cancelled"]
    assert hs1.exposure()["due_to_minor"] == 6_000


def test_two_servers_settle_by_themselves_up_to_the_payment(pair: Pair) -> None:
    hs1, hs2 = pair
    terms = hs2.ask(
        "PUT",
        f"links/{HS1}/settlement-terms/EUR",
        {"agree_up_to_minor": 6_000, "pay_to": "payto://iban/DE75512108001245126199"},
    )
    assert (terms["agree_up_to_minor"], terms["every"], "next_ts" in terms) == (6_000, "never", False)
    terms = hs1.ask("PUT", f"links/{HS2}/settlement-terms/EUR", {"threshold_minor": 6_000})
    assert hs1.ask("GET", "settlements")["terms"] == [terms]
    both(hs1, hs2)
    (proposed,) = hs1.ask("GET", "settlements")["settlements"]
    assert (proposed["state"], proposed["amount_minor"], proposed["waits_for"]) == ("agreed", 6_000, "us")
    assert proposed["pay_to"].startswith("payto://iban/DE75512108001245126199?amount=EUR:60.00&message=RF")


def test_a_schedule_has_its_turn(pair: Pair) -> None:
    hs1, hs2 = pair
    terms = hs1.ask("PUT", f"links/{HS2}/settlement-terms/EUR", {"every": "week", "weekday": 5, "time": "17:30"})
    assert (terms["weekday"], terms["time"]) == (5, "17:30")
    assert hs1.ask("GET", "settlements")["settlements"] == []
    hs1.advance((terms["next_ts"] - hs1.now_ms()) / 1_000 + 1)
    both(hs1, hs2)
    assert [each["amount_minor"] for each in hs1.ask("GET", "settlements")["settlements"]] == [6_000]


def test_terms_of_no_link_and_of_no_currency_are_refused(pair: Pair) -> None:
    hs1, _ = pair
    with refused("UNKNOWN_PEER", 404):
        hs1.ask("PUT", "links/hs3.test/settlement-terms/EUR", {})
    with refused("UNKNOWN_CURRENCY", 422):
        hs1.ask("PUT", f"links/{HS2}/settlement-terms/USD", {})
    with refused("INVALID_VALUE", 422):
        hs1.ask("PUT", f"links/{HS2}/settlement-terms/EUR", {"time": "24:00"})


def test_the_operator_is_told_of_a_dispute_once(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    hs1, hs2 = pair
    known = propose(hs1, hs2)
    hs2.act(known, "agree")
    both(hs1, hs2)
    hs1.act(known, "sent")
    both(hs1, hs2)
    with caplog.at_level(logging.ERROR, logger="synapse_super_app.clearing.shell"):
        hs1.advance(7 * DAY_S + 120)
        hs1.advance(120)
    told = [each.getMessage() for each in caplog.records if "settlement" in each.getMessage()]
    assert len(told) == 1
    assert "disputed" in told[0]
    assert "60.00 EUR" in told[0]
    labels = {"way": "out", "state": "disputed"}
    assert REGISTRY.get_sample_value("superapp_clearing_settlements", labels) == 1
    assert hs1.settlement(known)["state"] == "disputed"


def test_only_admins_settle(pair: Pair) -> None:
    hs1, _ = pair
    resource = next(each for each in hs1.api.web_resources.values() if isinstance(each, ApiResource))
    acts = ("agree", "refuse", "cancel", "sent", "received", "not-received")
    for method, path in (
        ("GET", "admin/settlements"),
        ("POST", f"admin/links/{HS2}/settlements"),
        ("PUT", f"admin/links/{HS2}/settlement-terms/EUR"),
        *(("POST", f"admin/links/{HS2}/settlements/{'A' * 43}/{act}") for act in acts),
    ):
        assert resource.match(method, path)[0].auth is Auth.ADMIN, path
