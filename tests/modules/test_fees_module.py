"""Fees through the API of two homeservers: looked up, confirmed, taken by the payer's own, said where people look."""

from typing import Any

import pytest
from fake_api import FakeHomeserver, FakeRoom
from synapse.module_api.errors import SynapseError
from twisted.internet import task

from synapse_super_app.statements.pdf import texts_of

ALICE, BOB, CAROL = "@alice:hs1.test", "@bob:hs2.test", "@carol:hs1.test"
FEES = [
    {"currency": "EUR", "reach": "elsewhere", "fixed": 10, "basis_points": 100, "at_most": 50},
    {"currency": "EUR", "reach": "here", "fixed": 1, "free_up_to": 100},
]


def config(fees: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "features": {"directory": True, "calls": False, "web": False, "assistant": False, "cards": False},
        "payments": {
            "mode": "custodial",
            "acknowledge": {"operator": "a test", "licence": "none"},
            "assets": [{"code": "EUR"}],
            "fees": fees,
        },
    }


class Pair:
    """alice (100.00 EUR) and carol on hs1, which takes fees, bob on hs2, which takes none; one room and one clock."""

    def __init__(self) -> None:
        clock = task.Clock()
        clock.advance(1_700_000_000)
        self.hs1 = FakeHomeserver("hs1.test", config=config(FEES), clock=clock)
        self.hs2 = FakeHomeserver("hs2.test", config=config([]), clock=clock)
        self.hs1.reachable["hs2.test"], self.hs2.reachable["hs1.test"] = self.hs2, self.hs1
        for homeserver in (self.hs1, self.hs2):
            homeserver.start()
            homeserver.register("admin", admin=True)
        self.hs1.register("alice")
        self.hs1.register("carol")
        self.hs2.register("bob")
        for homeserver, peer in ((self.hs1, "hs2.test"), (self.hs2, "hs1.test")):
            grant = {"currency": "EUR", "credit_limit_minor": 50_000}
            self.admin(homeserver, "POST", "admin/links", {"peer": peer, "currencies": [grant]})
        issue = {"user_id": ALICE, "amount": 10_000, "currency": "EUR", "reference": "1"}
        self.admin(self.hs1, "POST", "admin/issue", issue)
        self.hs1.advance(5)
        self.hs2.settle()
        self.room = self.hs1.room(ALICE, BOB)
        self.hs2.rooms[self.room] = FakeRoom()
        self.hs1.room(ALICE, CAROL)

    @staticmethod
    def admin(homeserver: FakeHomeserver, method: str, path: str, body: Any = None) -> Any:
        return homeserver.call(method, path, f"@admin:{homeserver.server_name}", body)

    def quote(self, payee: str, amount: int) -> dict[str, Any]:
        wanted = {"payee": payee, "amount": amount, "currency": "EUR"}
        answer: dict[str, Any] = self.hs1.call("POST", "payments/quote", ALICE, wanted)
        return answer

    def pay(self, number: int, payee: str, amount: int, **more: Any) -> dict[str, Any]:
        order = {"payment_id": f"{number:032x}", "payee": payee, "amount": amount, "currency": "EUR", **more}
        answer: dict[str, Any] = self.hs1.call("POST", "payments", ALICE, order)
        return answer

    def available(self) -> tuple[int, int]:
        alice = self.hs1.call("GET", "wallet", ALICE)["accounts"][0]
        bob = self.hs2.call("GET", "wallet", BOB)["accounts"][0]
        assert alice["held"] == bob["held"] == 0
        return alice["available"], bob["available"]

    def house_fees(self) -> int:
        (euros,) = self.admin(self.hs1, "GET", "admin/trial_balance")["currencies"]
        return sum(line["balance"] for line in euros["lines"] if line["kind"] == "fees")

    def assert_books_are_right(self) -> None:
        for homeserver in (self.hs1, self.hs2):
            found = self.admin(homeserver, "GET", "admin/invariants")
            assert found["ok"], found


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_what_is_looked_up_is_what_is_charged_and_by_the_payers_homeserver_alone(pair: Pair) -> None:
    quote = pair.quote(BOB, 1_000)
    assert (quote["payee_user_id"], quote["amount"], quote["fee"], quote["total"]) == (BOB, 1_000, 20, 1_020)
    answer = pair.pay(1, BOB, 1_000, fee=quote["fee"])
    assert answer["state"] == "completed"
    assert pair.available() == (8_980, 1_000)
    assert pair.house_fees() == 20
    seen = pair.hs1.call("GET", f"payments/{1:032x}", ALICE)
    assert (seen["amount"], seen["fee"]) == (1_000, 20)
    assert "fee" not in pair.hs2.call("GET", f"payments/{1:032x}", BOB, query={"payer": ALICE})
    pair.assert_books_are_right()


def test_a_price_that_changed_since_it_was_shown_is_a_refusal_with_the_new_one(pair: Pair) -> None:
    shown = pair.quote(BOB, 1_000)["fee"]
    pair.hs1._config = config([{"currency": "EUR", "fixed": 70}])
    pair.hs1.restart()
    pair.hs1.advance(5)
    with pytest.raises(SynapseError) as refusal:
        pair.pay(1, BOB, 1_000, fee=shown)
    assert (refusal.value.code, refusal.value.errcode) == (409, "ORG.SUPERAPP.FEE_NOT_CONFIRMED")
    assert refusal.value.error_dict(None)["fee"] == 70
    assert "0.70 EUR" in refusal.value.msg
    assert pair.available() == (10_000, 0)
    assert pair.pay(1, BOB, 1_000, fee=70)["state"] == "completed", "the id was not used up by the refusal"
    pair.assert_books_are_right()


def test_nobody_pays_a_fee_that_they_were_not_shown(pair: Pair) -> None:
    with pytest.raises(SynapseError) as refusal:
        pair.pay(1, BOB, 1_000)
    assert refusal.value.errcode == "ORG.SUPERAPP.FEE_NOT_CONFIRMED"
    order = {"payment_id": f"{2:032x}", "payee": BOB, "amount": 1_000, "currency": "EUR"}
    with pytest.raises(SynapseError) as refusal:
        pair.hs1.send(ALICE, pair.room, "org.superapp.payment", order)
    assert refusal.value.errcode == "ORG.SUPERAPP.FEE_NOT_CONFIRMED", "an event can confirm none"
    assert pair.available() == (10_000, 0)


def test_a_payment_that_is_taken_back_gives_the_fee_back(pair: Pair) -> None:
    pair.hs2.account_data[(BOB, "org.superapp.payment.policy")] = {"v": 1, "accept": "ask"}
    waiting = pair.pay(1, BOB, 1_000, fee=20)
    assert waiting["state"] == "awaiting_acceptance"
    assert pair.hs1.call("GET", "wallet", ALICE)["accounts"][0]["held"] == 1_020
    pair.hs1.call("POST", f"payments/{1:032x}/cancel", ALICE)
    pair.hs1.advance(5)
    assert pair.available() == (10_000, 0)
    assert pair.house_fees() == 0
    pair.assert_books_are_right()


def test_a_schedule_pays_the_fee_that_was_confirmed_with_it_and_no_other(pair: Pair) -> None:
    wanted = {"payee": CAROL, "amount": 500, "currency": "EUR", "every": "daily", "first": "2023-11-16"}
    with pytest.raises(SynapseError) as refusal:
        pair.hs1.call("POST", "schedules", ALICE, {**wanted, "schedule_id": "a" * 32})
    assert refusal.value.errcode == "ORG.SUPERAPP.FEE_NOT_CONFIRMED"
    made = pair.hs1.call("POST", "schedules", ALICE, {**wanted, "schedule_id": "a" * 32, "fee": 1})
    assert made["fee"] == 1
    pair.hs1.advance(2 * 86_400)
    assert pair.available() == (9_499, 0)
    pair.hs1._config = config([{"currency": "EUR", "fixed": 2}])
    pair.hs1.restart()
    pair.hs1.advance(86_400)
    pair.hs1.advance(43_200)
    assert pair.available() == (9_499, 0)
    past = pair.hs1.call("GET", f"schedules/{'a' * 32}", ALICE)["past"]
    assert "fee_not_confirmed" in [each.get("reason") for each in past]
    pair.assert_books_are_right()


def test_the_server_record_names_the_fees_and_a_quote_goes_by_where_the_payee_is(pair: Pair) -> None:
    prices = [(BOB, 100, 11), (BOB, 99, 10), (BOB, 9_000, 50), (CAROL, 100, 0), (CAROL, 101, 1)]
    assert [(payee, amount, pair.quote(payee, amount)["fee"]) for payee, amount, _ in prices] == prices
    found = pair.hs1.call("GET", "directory/servers/hs1.test", ALICE)["payments"]["fees"]
    assert [(each["reach"], each["fixed"], each["basis_points"]) for each in found] == [
        ("elsewhere", 10, 100),
        ("here", 1, 0),
    ]


def test_the_payers_receipt_shows_the_fee_and_the_payees_does_not(pair: Pair) -> None:
    pair.pay(1, CAROL, 1_000, fee=1)
    path = f"payments/{1:032x}/receipt/file"
    hers = texts_of(pair.hs1.download(path, ALICE).content)
    assert {"€0.01 to hs1.test", "€10.01", "The fee is not part of the proof."} <= set(hers)
    theirs = texts_of(pair.hs1.download(path, CAROL, {"payer": ALICE}).content)
    assert not any("0.01" in text or "10.01" in text for text in theirs)
    assert "€10.00" in theirs


def test_statements_name_the_fee_in_every_form(pair: Pair) -> None:
    pair.pay(1, BOB, 1_000, fee=20)
    month = pair.hs1.call("GET", "statements/2023-11", ALICE, query={"currency": "EUR"})
    assert [(each["kind"], each["change"], each.get("other")) for each in month["lines"]][1:] == [
        ("payment", -1_000, BOB),
        ("fee", -20, BOB),
    ]
    forms = {
        form: pair.hs1.download("statements/2023-11/file", ALICE, {"currency": "EUR", "format": form}).content
        for form in ("csv", "pdf", "camt.053")
    }
    assert b",fee," in forms["csv"]
    assert any(text.startswith("Fee, ") for text in texts_of(forms["pdf"]))
    assert b"<SubFmlyCd>CHRG</SubFmlyCd>" in forms["camt.053"]
    year = pair.hs1.call("GET", "summaries/2023", ALICE, query={"currency": "EUR"})
    assert year["kinds"]["fee"]["went_out"] == 20


def test_what_was_earned_is_paid_out_to_a_person_with_a_line_in_the_operators_log(pair: Pair) -> None:
    pair.pay(1, BOB, 1_000, fee=20)
    assert pair.admin(pair.hs1, "GET", "admin/fees")["fees"] == [{"currency": "EUR", "scale": 2, "amount": 20}]
    body = {"user_id": CAROL, "amount": 15, "currency": "EUR", "reference": "november"}
    entry = pair.admin(pair.hs1, "POST", "admin/fees/pay", body)
    assert pair.admin(pair.hs1, "POST", "admin/fees/pay", body) == entry
    assert pair.hs1.call("GET", "wallet", CAROL)["accounts"][0]["available"] == 15
    assert pair.house_fees() == 5
    for wrong, reason in (
        ({"amount": 6, "reference": "more"}, "INSUFFICIENT_FUNDS"),
        ({"amount": 14}, "CONFLICT"),
        ({"user_id": BOB, "reference": "elsewhere"}, "UNKNOWN_PAYEE"),
    ):
        with pytest.raises(SynapseError) as refusal:
            pair.admin(pair.hs1, "POST", "admin/fees/pay", {**body, **wrong})
        assert refusal.value.errcode == f"ORG.SUPERAPP.{reason}"
    act = pair.admin(pair.hs1, "GET", "admin/acts")["acts"][0]
    assert (act["deed"], act["operator"], act["reason"]) == ("pay_fees", "@admin:hs1.test", "november")
    pair.assert_books_are_right()
