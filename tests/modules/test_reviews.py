"""Names that hold a payment back, and countries that are served, over the API and between two homeservers."""

from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.module_api.errors import ConfigError, SynapseError
from twisted.internet import defer, task

from super_app.ids import UserId
from synapse_super_app.http.resource import ApiResource, answer
from synapse_super_app.module import SuperApp
from synapse_super_app.private_api import Profile

ALICE, DAVE, MALLORY, BOB = "@alice:hs1.test", "@dave:hs1.test", "@mallory:hs1.test", "@bob:hs2.test"
ADMIN = "@admin:hs1.test"
PAYMENTS: dict[str, Any] = {
    "mode": "custodial",
    "acknowledge": {"operator": "a test", "licence": "none"},
    "assets": [{"code": "EUR"}],
}


def homeserver(name: str, payments: dict[str, Any], clock: task.Clock) -> FakeHomeserver:
    features = {"directory": False, "calls": False, "web": False}
    made = FakeHomeserver(name, config={"features": features, "payments": {**PAYMENTS, **payments}}, clock=clock)
    made.start()
    made.register("admin", admin=True)
    return made


class Pair:
    """alice (100.00 EUR), dave and mallory on hs1, which screens names; bob on hs2, which may too."""

    def __init__(
        self, folder: Path, payments: dict[str, Any] | None = None, there: dict[str, Any] | None = None
    ) -> None:
        self.names = folder / "names.txt"
        self.names.write_text("Mallory\nRocket Parts\n")
        screening = {"screening": {"list_path": str(self.names)}}
        clock = task.Clock()
        clock.advance(1_700_000_000)
        self.hs1 = homeserver("hs1.test", screening if payments is None else payments, clock)
        self.hs2 = homeserver("hs2.test", there or {}, clock)
        self.hs1.reachable["hs2.test"], self.hs2.reachable["hs1.test"] = self.hs2, self.hs1
        for name in ("alice", "dave", "mallory"):
            self.hs1.register(name)
        self.hs2.register("bob")
        for each, peer in ((self.hs1, "hs2.test"), (self.hs2, "hs1.test")):
            grant = {"currency": "EUR", "credit_limit_minor": 50_000}
            each.call("POST", "admin/links", f"@admin:{each.server_name}", {"peer": peer, "currencies": [grant]})
        issue = {"user_id": ALICE, "amount": 10_000, "currency": "EUR", "reference": "1"}
        self.hs1.call("POST", "admin/issue", ADMIN, issue)
        self.hs1.advance(5)
        self.hs2.settle()

    def pay(self, number: int, payee: str, memo: str | None = None, payer: str = ALICE) -> str:
        order = {"payment_id": f"{number:032x}", "payee": payee, "amount": 500, "currency": "EUR"}
        body = order if memo is None else {**order, "memo": memo}
        return str(self.hs1.call("POST", "payments", payer, body)["state"])

    def state(self, number: int) -> str:
        return str(self.hs1.call("GET", f"payments/{number:032x}", ALICE)["state"])

    def decide(self, number: int, decision: str) -> dict[str, Any]:
        body = {"decision": decision, "reason": "looked at it"}
        done = self.hs1.call("POST", f"admin/reviews/{number:032x}", ADMIN, body, {"payer": ALICE})
        self.hs1.advance(5)
        self.hs2.settle()
        return done

    def queue(self, state: str = "open") -> list[str]:
        found = self.hs1.call("GET", "admin/reviews", ADMIN, query={"state": state})["reviews"]
        return [each["payment_id"] for each in found]

    def wallet(self, user_id: str) -> tuple[int, int]:
        of = self.hs1 if user_id.endswith("hs1.test") else self.hs2
        accounts = of.call("GET", "wallet", user_id)["accounts"]
        return sum(each["available"] for each in accounts), sum(each["held"] for each in accounts)

    def assert_books_are_right(self) -> None:
        for each in (self.hs1, self.hs2):
            found = each.call("GET", "admin/invariants", f"@admin:{each.server_name}")
            assert found["ok"], found


def code_of(refusal: pytest.ExceptionInfo[SynapseError]) -> str:
    return refusal.value.errcode.removeprefix("ORG.SUPERAPP.")


def test_a_name_of_the_list_holds_a_payment_until_the_operator_lets_it_go_on(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    assert pair.pay(1, DAVE, "lunch") == "completed"
    assert pair.pay(2, MALLORY) == "held"
    assert pair.pay(3, BOB, "rocket-parts") == "held"
    assert pair.wallet(ALICE) == (8_500, 1_000)
    # Neither time nor asking again lets it through.
    pair.hs1.advance(2 * 86_400)
    assert pair.pay(2, MALLORY) == "held"
    assert pair.queue() == [f"{2:032x}", f"{3:032x}"]
    pair.assert_books_are_right()
    released = pair.decide(2, "release")
    assert (released["state"], released["matched"], released["operator"]) == ("released", "Mallory", ADMIN)
    pair.decide(3, "release")
    assert (pair.state(2), pair.state(3)) == ("completed", "completed")
    assert (pair.wallet(MALLORY), pair.wallet(BOB)) == ((500, 0), (500, 0))
    assert pair.queue() == []
    assert pair.decide(2, "release")["state"] == "released"
    with pytest.raises(SynapseError) as refusal:
        pair.decide(2, "deny")
    assert (refusal.value.code, code_of(refusal)) == (409, "ALREADY_DECIDED")
    pair.assert_books_are_right()


def test_what_is_denied_or_taken_back_gives_the_money_back(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    for number, payee in ((1, MALLORY), (2, BOB), (3, BOB)):
        assert pair.pay(number, payee, "rocket parts") == "held"
    pair.decide(1, "deny")
    pair.decide(2, "deny")
    pair.hs1.call("POST", f"payments/{3:032x}/cancel", ALICE)
    assert [pair.state(number) for number in (1, 2, 3)] == ["failed", "failed", "cancelled"]
    assert pair.wallet(ALICE) == (10_000, 0)
    assert pair.queue() == []
    # What its payer took back goes nowhere any more, whatever is decided.
    pair.decide(3, "release")
    assert pair.state(3) == "cancelled"
    assert pair.wallet(BOB) == (0, 0)
    with pytest.raises(SynapseError) as refusal:
        pair.decide(9, "deny")
    assert code_of(refusal) == "UNKNOWN_PAYMENT"
    pair.assert_books_are_right()


def test_the_list_is_read_again_when_it_changes_and_one_that_breaks_stays_in_force(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.names.write_text("Dave # new\n")
    pair.hs1.advance(11)
    assert pair.pay(1, DAVE) == "held"
    assert pair.pay(2, MALLORY) == "completed"
    pair.names.unlink()
    pair.hs1.advance(11)
    assert pair.pay(3, DAVE) == "held"


def test_what_comes_from_another_homeserver_with_a_name_of_the_list_is_not_taken(tmp_path: Path) -> None:
    names = tmp_path / "there.txt"
    names.write_text("@alice:hs1.test\n")
    pair = Pair(tmp_path, payments={}, there={"screening": {"list_path": str(names)}})
    assert pair.pay(1, BOB) == "failed"
    assert pair.wallet(ALICE) == (10_000, 0)
    pair.assert_books_are_right()


@pytest.mark.parametrize("where", ["profile", "room"])
def test_a_name_that_somebody_shows_holds_a_payment_too(tmp_path: Path, where: str) -> None:
    pair = Pair(tmp_path)
    if where == "profile":
        pair.hs1.profiles[DAVE] = Profile(display_name="Rockét  PARTS", avatar_url=None)
    else:
        room = pair.hs1.room(ALICE, DAVE)
        shown = {"membership": "join", "displayname": "Rocket-Parts GmbH"}
        pair.hs1.set_state(room, DAVE, "m.room.member", DAVE, shown)
    assert pair.pay(1, DAVE) == "held"
    assert pair.queue() == [f"{1:032x}"]
    # Whoever bears another name is not taken for them.
    assert pair.pay(2, BOB) == "completed"
    pair.decide(1, "release")
    assert pair.state(1) == "completed"
    pair.assert_books_are_right()


def test_only_people_of_served_countries_send_and_receive(tmp_path: Path) -> None:
    pair = Pair(tmp_path, payments={"jurisdictions": {"allow": ["DE", "FR"]}})

    def put(user_id: str, country: str | None) -> dict[str, Any]:
        return pair.hs1.call("PUT", f"admin/people/{user_id}/country", ADMIN, {"country": country})

    for country in (None, "US"):
        put(ALICE, country)
        with pytest.raises(SynapseError) as refusal:
            pair.pay(1, DAVE)
        assert code_of(refusal) == "PAYEE_LIMIT"
        put(DAVE, "FR")
        with pytest.raises(SynapseError) as refusal:
            pair.pay(1, DAVE)
        assert (refusal.value.code, code_of(refusal)) == (403, "COUNTRY_NOT_SERVED")
        put(DAVE, None)
    assert put(ALICE, "DE") == {"user_id": ALICE, "country": "DE", "served": True}
    with pytest.raises(SynapseError) as refusal:
        pair.pay(1, DAVE)
    assert code_of(refusal) == "PAYEE_LIMIT"
    put(DAVE, "FR")
    assert pair.pay(1, DAVE) == "completed"
    # Whoever is no longer served still gives back what they got.
    put(DAVE, "US")
    back = pair.hs1.call("POST", f"payments/{1:032x}/refund", DAVE, {"payment_id": f"{2:032x}"}, {"payer": ALICE})
    assert back["state"] == "completed"
    with pytest.raises(SynapseError) as refusal:
        put(DAVE, "Germany")
    assert code_of(refusal) == "INVALID_VALUE"


def test_a_list_that_is_not_there_and_a_country_that_is_none_stop_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        Pair(tmp_path, payments={"screening": {"list_path": str(tmp_path / "nowhere")}})
    assert "screening.list_path" in str(refused.value)
    with pytest.raises(ConfigError) as refused:
        SuperApp.parse_config({"payments": {**PAYMENTS, "jurisdictions": {"allow": ["Germany"]}}})
    assert "jurisdictions" in str(refused.value)


def test_two_payments_at_once_do_not_both_fit_into_what_is_left_of_a_limit(tmp_path: Path) -> None:
    limits = {"limits": {"default_tier": "basic", "tiers": {"basic": {"sent": {"EUR": {"day": 900}}}}}}
    pair = Pair(tmp_path, payments=limits)
    resource = next(each for each in pair.hs1.api.web_resources.values() if isinstance(each, ApiResource))
    route, variables = resource.match("POST", "payments")
    outcomes: list[Any] = []
    for number in (1, 2):
        order = {"payment_id": f"{number:032x}", "payee": DAVE, "amount": 500, "currency": "EUR"}
        asked = answer(route, variables, UserId(ALICE), {}, order)
        defer.ensureDeferred(asked).addBoth(outcomes.append)
    pair.hs1.advance(10)
    states = sorted(str(each.get("state")) if isinstance(each, dict) else each.value.errcode for each in outcomes)
    assert states == ["ORG.SUPERAPP.LIMIT_EXCEEDED", "completed"]
    assert pair.wallet(DAVE) == (500, 0)


def test_whoever_is_on_the_list_claims_no_link(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    body = {"claim_id": f"{1:032x}", "amount": 700, "currency": "EUR"}
    link = pair.hs1.call("POST", "claims", ALICE, body)["link"]
    with pytest.raises(SynapseError) as refusal:
        pair.hs1.call("POST", "claims/redeem", MALLORY, {"link": link})
    assert code_of(refusal) == "NOT_ALLOWED"
    assert pair.wallet(MALLORY) == (0, 0)
    assert pair.hs1.call("POST", "claims/redeem", DAVE, {"link": link})["mine"]["amount"] == 700
    assert pair.wallet(DAVE) == (700, 0)
    pair.assert_books_are_right()
