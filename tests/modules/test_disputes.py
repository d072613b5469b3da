"""Disputes as both sides and operators meet them, on one homeserver and between two."""

from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.module_api.errors import SynapseError
from twisted.internet import task

from super_app.ids import ServerName
from super_app.names import DISPUTES_PATH
from super_app.signing import generate_key, signed
from synapse_super_app.clearing.identity import payment_keys

CONFIG: dict[str, Any] = {
    "features": {"directory": False, "calls": False, "web": False},
    "payments": {
        "mode": "custodial",
        "acknowledge": {"operator": "a test", "licence": "none"},
        "assets": [{"code": "EUR"}],
    },
}
ALICE, BOB, DAVE, EVE = "@alice:hs1.test", "@bob:hs2.test", "@dave:hs1.test", "@eve:hs1.test"
ID = f"{1:032x}"
DAY_S = 86_400.0


class Pair:
    """alice and dave on hs1, bob on hs2; alice has paid ``payee`` 5.00 EUR."""

    def __init__(self, payee: str) -> None:
        clock = task.Clock()
        clock.advance(1_700_000_000)
        self.hs1 = FakeHomeserver("hs1.test", config=CONFIG, clock=clock)
        self.hs2 = FakeHomeserver("hs2.test", config=CONFIG, clock=clock)
        self.connect()
        for homeserver in (self.hs1, self.hs2):
            homeserver.start()
            homeserver.register("admin", admin=True)
        for name in ("alice", "dave", "eve"):
            self.hs1.register(name)
        self.hs2.register("bob")
        for homeserver, peer in ((self.hs1, "hs2.test"), (self.hs2, "hs1.test")):
            grant = {"currency": "EUR", "credit_limit_minor": 50_000}
            body = {"peer": peer, "currencies": [grant]}
            homeserver.call("POST", "admin/links", f"@admin:{homeserver.server_name}", body)
        issue = {"user_id": ALICE, "amount": 10_000, "currency": "EUR", "reference": "1"}
        self.hs1.call("POST", "admin/issue", "@admin:hs1.test", issue)
        self.advance(5)
        order = {"payment_id": ID, "payee": payee, "amount": 500, "currency": "EUR"}
        assert self.hs1.call("POST", "payments", ALICE, order)["state"] == "completed"
        self.payee = payee

    def connect(self) -> None:
        self.hs1.reachable["hs2.test"], self.hs2.reachable["hs1.test"] = self.hs2, self.hs1

    def of(self, user_id: str) -> FakeHomeserver:
        return self.hs1 if user_id.endswith("hs1.test") else self.hs2

    def advance(self, seconds: float) -> None:
        self.hs1.advance(seconds)
        self.hs2.settle()

    def open(self, **more: Any) -> dict[str, Any]:
        body = {"ground": "not_received", "statement": "Nothing came.", **more}
        found: dict[str, Any] = self.hs1.call("POST", f"payments/{ID}/dispute", ALICE, body)
        return found

    def state(self, user_id: str, text: str, number: int = 1) -> dict[str, Any]:
        body = {"statement_id": f"{number:032x}", "text": text}
        query = {} if user_id == ALICE else {"payer": ALICE}
        found: dict[str, Any] = self.of(user_id).call("POST", f"disputes/{ID}/statements", user_id, body, query)
        return found

    def seen(self, user_id: str) -> dict[str, Any]:
        query = {} if user_id == ALICE else {"payer": ALICE}
        found: dict[str, Any] = self.of(user_id).call("GET", f"disputes/{ID}", user_id, query=query)
        return found

    def said(self, user_id: str) -> list[tuple[str, str]]:
        return [(each["author"], each["act"]) for each in self.seen(user_id)["timeline"]]

    def decide(self, **body: Any) -> dict[str, Any]:
        query = {"payer": ALICE}
        found: dict[str, Any] = self.hs1.call("POST", f"admin/disputes/{ID}/decide", "@admin:hs1.test", body, query)
        return found

    def refund(self) -> dict[str, Any]:
        homeserver = self.of(self.payee)
        admin = f"@admin:{homeserver.server_name}"
        found: dict[str, Any] = homeserver.call("POST", f"admin/disputes/{ID}/refund", admin, None, {"payer": ALICE})
        return found

    def give_back(self, number: int, amount: int) -> None:
        body = {"payment_id": f"{number:032x}", "amount": amount}
        homeserver = self.of(self.payee)
        done = homeserver.call("POST", f"payments/{ID}/refund", self.payee, body, {"payer": ALICE})
        assert done["state"] == "completed"

    def has(self, user_id: str) -> int:
        accounts: list[dict[str, int]] = self.of(user_id).call("GET", "wallet", user_id)["accounts"]
        return sum(each["available"] + each["held"] for each in accounts)

    def assert_books_are_right(self) -> None:
        for homeserver in (self.hs1, self.hs2):
            found = homeserver.call("GET", "admin/invariants", f"@admin:{homeserver.server_name}")
            assert found["ok"], found


@pytest.fixture(params=[DAVE, BOB], ids=["here", "elsewhere"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(request.param)


@pytest.fixture
def far() -> Pair:
    return Pair(BOB)


@pytest.fixture
def near() -> Pair:
    return Pair(DAVE)


def code_of(refusal: pytest.ExceptionInfo[SynapseError]) -> str:
    return refusal.value.errcode.removeprefix("ORG.SUPERAPP.")


def test_both_sides_are_heard_and_the_operator_decides_and_money_comes_back_by_a_payment(pair: Pair) -> None:
    opened = pair.open()
    assert (opened["state"], opened["wanted"], opened["side"]) == ("open", 500, "payer")
    assert pair.open() == opened
    pair.advance(3)
    assert pair.seen(pair.payee)["side"] == "payee"
    pair.state(pair.payee, "I sent it on Monday.")
    pair.advance(3)
    pair.state(ALICE, "To the wrong house.")
    pair.advance(3)
    expected = [("payer", "opened"), ("payee", "stated"), ("payer", "stated")]
    assert pair.said(ALICE) == pair.said(pair.payee) == expected
    assert not any("pending" in entry for entry in pair.seen(pair.payee)["timeline"])
    granted = pair.decide(decision="grant", amount=300, reason="The parcel went astray.")
    assert (granted["state"], granted["granted"]) == ("granted", 300)
    assert (pair.has(ALICE), pair.has(pair.payee)) == (9_500, 500), "a decision moves no money"
    pair.advance(3)
    pair.refund()
    pair.advance(3)
    assert (pair.has(ALICE), pair.has(pair.payee)) == (9_800, 200)
    for user_id in (ALICE, pair.payee):
        assert pair.seen(user_id)["state"] == "settled"
        assert pair.said(user_id) == [*expected, ("operator", "granted"), ("payee", "refunded")]
    with pytest.raises(SynapseError) as refusal:
        pair.refund()
    assert code_of(refusal) == "DISPUTE_CLOSED"
    pair.assert_books_are_right()


def test_a_payee_who_gives_it_back_settles_it_without_a_decision(pair: Pair) -> None:
    pair.give_back(7, 100)
    pair.open(amount=250)
    pair.advance(3)
    # What came back before it was opened does not count.
    pair.give_back(8, 200)
    pair.advance(3)
    assert pair.seen(ALICE)["state"] == "open"
    pair.give_back(9, 50)
    pair.advance(3)
    assert pair.seen(ALICE)["state"] == pair.seen(pair.payee)["state"] == "settled"
    with pytest.raises(SynapseError) as refusal:
        pair.state(ALICE, "More!")
    assert (refusal.value.code, code_of(refusal)) == (409, "DISPUTE_CLOSED")


def test_refund_after_refund_never_exceeds_the_payment(pair: Pair) -> None:
    pair.open()
    pair.decide(decision="grant", reason="Granted in full.")
    pair.advance(3)
    pair.give_back(7, 400)
    pair.advance(3)
    pair.refund()
    pair.advance(3)
    assert (pair.has(ALICE), pair.has(pair.payee)) == (10_000, 0)
    assert pair.seen(ALICE)["state"] == "settled"
    with pytest.raises(SynapseError) as refusal:
        pair.give_back(8, 1)
    assert code_of(refusal) == "REFUND_EXCEEDS_PAYMENT"
    pair.assert_books_are_right()


def test_a_rejected_or_withdrawn_one_stays_so(pair: Pair) -> None:
    pair.open()
    pair.advance(3)
    assert pair.decide(decision="reject", reason="It was delivered.")["state"] == "rejected"
    assert pair.decide(decision="reject", reason="It was delivered.")["state"] == "rejected"
    pair.advance(3)
    for user_id in (ALICE, pair.payee):
        assert pair.seen(user_id)["state"] == "rejected"
        with pytest.raises(SynapseError) as refusal:
            pair.state(user_id, "But …")
        assert code_of(refusal) == "DISPUTE_CLOSED"
    with pytest.raises(SynapseError) as refusal:
        pair.decide(decision="grant", reason="On second thoughts.")
    assert code_of(refusal) == "DISPUTE_CLOSED"
    with pytest.raises(SynapseError) as refusal:
        pair.hs1.call("POST", f"disputes/{ID}/withdraw", ALICE)
    assert code_of(refusal) == "DISPUTE_CLOSED"
    with pytest.raises(SynapseError) as refusal:
        pair.refund()
    assert code_of(refusal) == "DISPUTE_CLOSED"
    with pytest.raises(SynapseError) as refusal:
        pair.open(statement="Once more.")
    assert code_of(refusal) == "CONFLICT"


def test_what_cannot_be_disputed_is_refused(near: Pair) -> None:
    for body, code in (
        ({"amount": 501}, "REFUND_EXCEEDS_PAYMENT"),
        ({"amount": 0}, "INVALID_VALUE"),
        ({"statement": ""}, "INVALID_VALUE"),
        ({"statement": " "}, "INVALID_VALUE"),
        ({"statement": "x" * 2_001}, "INVALID_VALUE"),
        ({"ground": "because"}, "INVALID_VALUE"),
    ):
        with pytest.raises(SynapseError) as refusal:
            near.open(**body)
        assert code_of(refusal) == code, body
    for user_id, path, code in (
        (EVE, f"payments/{ID}/dispute", "UNKNOWN_PAYMENT"),
        (ALICE, f"payments/{2:032x}/dispute", "UNKNOWN_PAYMENT"),
    ):
        with pytest.raises(SynapseError) as refusal:
            near.hs1.call("POST", path, user_id, {"ground": "other", "statement": "?"})
        assert code_of(refusal) == code
    with pytest.raises(SynapseError) as refusal:
        near.decide(decision="reject", reason="There is none.")
    assert code_of(refusal) == "UNKNOWN_DISPUTE"
    near.hs1.advance(180 * DAY_S + 1)
    with pytest.raises(SynapseError) as refusal:
        near.open()
    assert (refusal.value.code, code_of(refusal)) == (410, "EXPIRED")


def test_a_stranger_sees_and_says_nothing(near: Pair) -> None:
    near.open()
    assert near.hs1.call("GET", "disputes", EVE) == {"disputes": []}
    for method, path, body in (
        ("GET", f"disputes/{ID}", None),
        ("POST", f"disputes/{ID}/statements", {"statement_id": f"{1:032x}", "text": "me too"}),
    ):
        with pytest.raises(SynapseError) as refusal:
            near.hs1.call(method, path, EVE, body, {"payer": ALICE})
        assert (refusal.value.code, code_of(refusal)) == (404, "UNKNOWN_DISPUTE")


def test_each_side_speaks_so_often_and_ids_are_its_own(pair: Pair) -> None:
    pair.open()
    pair.advance(3)
    for number in range(20):
        pair.state(ALICE, f"Point {number}", number)
    assert len(pair.state(ALICE, "Point 3", 3)["timeline"]) == 21
    with pytest.raises(SynapseError) as refusal:
        pair.state(ALICE, "Point 4, changed", 4)
    assert code_of(refusal) == "CONFLICT"
    with pytest.raises(SynapseError) as refusal:
        pair.state(ALICE, "One more", 99)
    assert code_of(refusal) == "LIMIT_EXCEEDED"
    # The other side is not out of words because of that, and its ids are not taken.
    pair.advance(60)
    assert pair.state(pair.payee, "Enough.", 3)["timeline"][-1]["text"] == "Enough."


def test_only_the_operator_of_the_payer_decides_and_only_that_of_the_payee_gives_back(far: Pair) -> None:
    far.open()
    far.advance(3)
    with pytest.raises(SynapseError) as refusal:
        far.hs2.call(
            "POST",
            f"admin/disputes/{ID}/decide",
            "@admin:hs2.test",
            {"decision": "reject", "reason": "No."},
            {"payer": ALICE},
        )
    assert (refusal.value.code, code_of(refusal)) == (403, "NOT_ALLOWED")
    with pytest.raises(SynapseError) as refusal:
        far.refund()
    assert code_of(refusal) == "CONFLICT", "it is not decided yet"
    far.decide(decision="grant", reason="Granted.")
    with pytest.raises(SynapseError) as refusal:
        far.hs1.call("POST", f"admin/disputes/{ID}/refund", "@admin:hs1.test", None, {"payer": ALICE})
    assert code_of(refusal) == "NOT_ALLOWED"
    (waiting,) = far.hs1.call("GET", "admin/disputes", "@admin:hs1.test", query={"state": "granted"})["disputes"]
    assert waiting["side"] == "operator"


def test_what_is_said_while_the_other_homeserver_is_away_arrives_later_in_order(far: Pair) -> None:
    far.hs1.reachable.clear()
    far.open()
    far.state(ALICE, "first", 1)
    far.state(ALICE, "second", 2)
    far.advance(30)
    with pytest.raises(SynapseError):
        far.seen(BOB)
    far.hs1.restart()
    far.connect()
    far.advance(600)
    assert [entry.get("text") for entry in far.seen(BOB)["timeline"]] == ["Nothing came.", "first", "second"]


def test_what_the_payee_says_is_pending_until_it_has_its_place(far: Pair) -> None:
    far.open()
    far.advance(3)
    far.hs2.reachable.clear()
    far.state(BOB, "I was away.")
    far.advance(3)
    assert far.seen(BOB)["timeline"][-1]["pending"]
    far.connect()
    far.advance(600)
    assert far.seen(ALICE)["timeline"][-1]["text"] == "I was away."
    assert "pending" not in far.seen(BOB)["timeline"][-1]


def told(**more: Any) -> dict[str, Any]:
    """What hs1 would tell hs2."""
    return {
        "type": "org.superapp.dispute",
        "v": 1,
        "from_server": "hs1.test",
        "to_server": "hs2.test",
        "payer": ALICE,
        "payee": BOB,
        "payment_id": ID,
        "ground": "other",
        "currency": "EUR",
        "wanted": 500,
        "opened_ms": 1,
        "entry_id": "ab" * 16,
        "number": 1,
        "author": "payer",
        "act": "opened",
        "text": "x",
        "made_ms": 1,
        **more,
    }


FORGED: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("hs3.test", {}, "WRONG_ORIGIN"),
    ("hs3.test", {"from_server": "hs3.test", "payer": "@alice:hs3.test"}, "NO_LINK"),
    ("hs1.test", {"from_server": "hs3.test"}, "WRONG_ORIGIN"),
    ("hs1.test", {"to_server": "hs3.test"}, "WRONG_ORIGIN"),
    ("hs1.test", {"payee": "@bob:hs3.test"}, "WRONG_ORIGIN"),
    ("hs1.test", {"payer": BOB, "payee": ALICE, "act": "granted", "author": "operator"}, "WRONG_ORIGIN"),
    ("hs1.test", {"number": 0}, "WRONG_ORIGIN"),
    ("hs1.test", {"gift": True}, "UNKNOWN_FIELD"),
    ("hs1.test", {}, "BAD_SIGNATURE"),
)


def test_others_speak_for_themselves_alone(far: Pair) -> None:
    for origin, more, code in FORGED:
        body = signed(told(**more), generate_key(b"9" * 32))
        with pytest.raises(SynapseError) as refusal:
            far.hs2.result(far.hs2.private.put_handlers[DISPUTES_PATH](ServerName(origin), "x", body))
        assert code_of(refusal) == code, more
    assert far.hs2.call("GET", "disputes", BOB) == {"disputes": []}


def test_a_homeserver_with_the_right_key_still_tells_of_real_payments_only(far: Pair) -> None:
    key, _, _ = payment_keys(far.hs1.module.runtime)
    for more, code in (
        ({"payment_id": f"{5:032x}"}, "UNKNOWN_PAYMENT"),
        ({"wanted": 501}, "REFUND_EXCEEDS_PAYMENT"),
        ({"number": 2, "act": "granted", "author": "operator", "amount": 500}, "UNKNOWN_DISPUTE"),
    ):
        body = signed(told(**more), key)
        with pytest.raises(SynapseError) as refusal:
            far.hs2.result(far.hs2.private.put_handlers[DISPUTES_PATH](ServerName("hs1.test"), "x", body))
        assert code_of(refusal) == code, more
    body = signed(told(), key)
    for _ in range(2):
        far.hs2.result(far.hs2.private.put_handlers[DISPUTES_PATH](ServerName("hs1.test"), "x", body))
    assert len(far.seen(BOB)["timeline"]) == 1
