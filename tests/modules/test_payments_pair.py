"""Payments between two homeservers with a link and one clock: who is asked, who posts the receipt, what time does."""

from typing import Any

import pytest
from fake_api import FakeHomeserver, FakeRoom
from synapse.api.room_versions import RoomVersions
from synapse.events import make_event_from_dict
from synapse.module_api.errors import SynapseError
from twisted.internet import task

from super_app.errors import Reason
from super_app.ids import UserId
from synapse_super_app.payments.receipts import Receipts

ALICE, BOB, CAROL = "@alice:hs1.test", "@bob:hs2.test", "@carol:hs3.test"
PAYMENT, RECEIPT, POLICY = "org.superapp.payment", "org.superapp.payment.receipt", "org.superapp.payment.policy"
ID = f"{1:032x}"
PATIENCE_S, GRACE_S, DAY_S = 62.0, 610.0, 86_400.0
CONFIG: dict[str, Any] = {
    "features": {"directory": False, "calls": False, "web": False},
    "payments": {
        "mode": "custodial",
        "acknowledge": {"operator": "a test", "licence": "none"},
        "assets": [{"code": "EUR"}],
    },
}


class Pair:
    """alice (100.00 EUR) on hs1 and bob on hs2 in a room that both homeservers hold; its events are carried by hand."""

    def __init__(self, *, bob_joined: bool = True, encrypted: bool = False) -> None:
        clock = task.Clock()
        clock.advance(1_700_000_000)
        self.hs1 = FakeHomeserver("hs1.test", config=CONFIG, clock=clock)
        self.hs2 = FakeHomeserver("hs2.test", config=CONFIG, clock=clock)
        self.hs1.reachable["hs2.test"], self.hs2.reachable["hs1.test"] = self.hs2, self.hs1
        for homeserver in (self.hs1, self.hs2):
            homeserver.start()
            homeserver.register("admin", admin=True)
        self.hs1.register("alice")
        self.hs2.register("bob")
        for homeserver, peer in ((self.hs1, "hs2.test"), (self.hs2, "hs1.test")):
            grant = {"currency": "EUR", "credit_limit_minor": 50_000}
            self.call(homeserver, "POST", "admin/links", "admin", {"peer": peer, "currencies": [grant]})
        issue = {"user_id": ALICE, "amount": 10_000, "currency": "EUR", "reference": "1"}
        self.call(self.hs1, "POST", "admin/issue", "admin", issue)
        self.advance(5)
        if bob_joined:
            self.room = self.hs1.room(ALICE, BOB, encrypted=encrypted)
            self.hs2.rooms[self.room] = FakeRoom()
            self.carry()
        else:
            self.room = self.hs1.room(ALICE, invited=(BOB,))

    @staticmethod
    def call(homeserver: FakeHomeserver, method: str, path: str, name: str, body: Any = None, **query: str) -> Any:
        return homeserver.call(method, path, f"@{name}:{homeserver.server_name}", body, query)

    def advance(self, seconds: float) -> None:
        self.hs1.advance(seconds)
        self.hs2.settle()

    def carry(self) -> None:
        """Federation: what stands in the room on one side and not on the other arrives there."""
        for source, target in ((self.hs1, self.hs2), (self.hs2, self.hs1)):
            for event in list(source.rooms[self.room].timeline):
                if event.event_id not in target.events:
                    copy = make_event_from_dict(event.get_dict(), RoomVersions.V1, {})
                    target.result(target.gate(copy))
                    target._persist(copy)
                    target.settle()

    def pay(self, **fields: Any) -> dict[str, Any]:
        order = {"payment_id": ID, "payee": BOB, "amount": 500, "currency": "EUR", **fields}
        answer: dict[str, Any] = self.call(self.hs1, "POST", "payments", "alice", order)
        return answer

    def seen_by_alice(self) -> dict[str, Any]:
        return self.hs1.call("GET", f"payments/{ID}", ALICE)

    def seen_by_bob(self) -> dict[str, Any]:
        return self.hs2.call("GET", f"payments/{ID}", BOB, query={"payer": ALICE})

    def receipts(self, homeserver: FakeHomeserver) -> list[tuple[str, dict[str, Any]]]:
        return [(event.sender, event.get_dict()["content"]) for event in homeserver.sent(self.room, RECEIPT)]

    def available(self) -> tuple[int, int]:
        alice = self.hs1.call("GET", "wallet", ALICE)["accounts"][0]
        bob = self.hs2.call("GET", "wallet", BOB)["accounts"][0]
        assert alice["held"] == bob["held"] == 0
        return alice["available"], bob["available"]

    def assert_books_are_right(self) -> None:
        for homeserver in (self.hs1, self.hs2):
            found = self.call(homeserver, "GET", "admin/invariants", "admin")
            assert found["ok"], found
            assert found["checked"]["links"] == 1


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_a_replay_is_answered_although_the_payees_homeserver_is_away(pair: Pair) -> None:
    answer = pair.pay()
    assert answer["state"] == "completed"
    pair.hs1.reachable.clear()
    pair.hs1.restart()
    assert pair.pay() == answer
    with pytest.raises(SynapseError) as refusal:
        pair.pay(amount=501)
    assert refusal.value.code in (409, 503)
    assert pair.available() == (9_500, 500)


class TestReceipt:
    def test_the_payees_homeserver_posts_it_once_the_payment_event_is_there(self, pair: Pair) -> None:
        answer = pair.pay()
        assert (answer["state"], pair.seen_by_bob()["state"]) == ("completed", "completed")
        assert pair.available() == (9_500, 500)
        pair.advance(3)
        assert pair.receipts(pair.hs2) == [], "the payment event has not arrived there"
        pair.carry()
        ((sender, content),) = pair.receipts(pair.hs2)
        assert sender == BOB
        assert content["m.relates_to"]["event_id"] == answer["event_id"]
        assert (content["outcome"], content["amount"]) == ("completed", 500)
        assert (content["signed"]["type"], content["signed"]["from_server"]) == ("RECEIPT", "hs2.test")
        pair.carry()
        pair.advance(2 * GRACE_S)
        assert len(pair.receipts(pair.hs1)) == 1, "the payer's homeserver sees it and adds none"
        pair.assert_books_are_right()

    def test_it_is_posted_under_no_event_but_the_payments_own(self, pair: Pair) -> None:
        pair.pay()
        work = pair.hs2.room(BOB)
        chat = pair.hs2.send(BOB, work, "m.room.message", {"msgtype": "m.text", "body": "hello"})
        # What a payer's homeserver could have written into the opening.
        pair.hs2._database.execute("UPDATE superapp_payment_receipt SET room_id = ?, event_id = ?", (work, chat))
        pair.hs2.clock.advance(5)
        pair.advance(70)
        assert pair.hs2.sent(work, RECEIPT) == []

    def test_where_none_comes_the_payers_homeserver_posts_one(self, pair: Pair) -> None:
        pair.pay()
        pair.advance(GRACE_S - 20)
        assert pair.receipts(pair.hs1) == []
        pair.advance(40)
        ((sender, content),) = pair.receipts(pair.hs1)
        assert (sender, content["outcome"]) == (ALICE, "completed")
        pair.carry()
        pair.advance(2 * GRACE_S)
        pair.carry()
        assert len(pair.receipts(pair.hs2)) == 1, "the payee's homeserver sees it and adds none"

    def test_a_payee_who_is_only_invited_says_nothing(self) -> None:
        pair = Pair(bob_joined=False)
        pair.pay()
        assert [sender for sender, _ in pair.receipts(pair.hs1)] == [ALICE]
        assert pair.hs2.query("SELECT COUNT(*) FROM superapp_payment_receipt") == [(0,)]

    def test_other_homeservers_in_the_room_see_no_amount(self, pair: Pair) -> None:
        pair.hs1.set_state(pair.room, ALICE, "m.room.member", CAROL, {"membership": "join"})
        pair.pay(room_id=pair.room)
        pair.carry()
        ((_, content),) = pair.receipts(pair.hs2)
        assert set(content) == {"m.relates_to", "payment_id", "outcome", "commitment"}

    def test_in_an_encrypted_room_nobody_sees_one(self) -> None:
        pair = Pair(encrypted=True)
        pair.pay(memo="between us")
        pair.carry()
        (event,) = pair.hs2.sent(pair.room, PAYMENT)
        assert set(event.content) == {"payment_id", "commitment"}
        ((sender, content),) = pair.receipts(pair.hs2)
        assert sender == BOB
        assert set(content) == {"m.relates_to", "payment_id", "outcome", "commitment"}
        assert pair.seen_by_bob()["memo"] == "between us"

    def test_an_event_that_is_not_the_payments_own_gets_none(self, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
        pair.pay()
        chat = pair.hs1.send(ALICE, pair.room, "m.room.message", {"body": "hello"})
        pair.hs2._database.execute("UPDATE superapp_payment_receipt SET event_id = ?", (chat,))
        pair.carry()
        pair.advance(130)
        assert pair.receipts(pair.hs2) == []
        assert pair.hs2.query("SELECT due_ms FROM superapp_payment_receipt") == [(None,)]

    def test_it_is_given_up_after_about_a_week(self, pair: Pair) -> None:
        pair.pay()
        pair.advance(130)
        ((attempts,),) = pair.hs2.query("SELECT attempts FROM superapp_payment_receipt")
        assert attempts >= 3
        pair.hs2._database.execute("UPDATE superapp_payment_receipt SET attempts = 170, due_ms = 1")
        pair.advance(130)
        assert pair.hs2.query("SELECT due_ms, receipt_event_id FROM superapp_payment_receipt") == [(None, None)]


class TestAsking:
    @pytest.fixture
    def asked(self, pair: Pair) -> Pair:
        pair.hs2.account_data[(BOB, POLICY)] = {"v": 1, "accept": "ask"}
        assert pair.pay()["state"] == "awaiting_acceptance"
        assert pair.seen_by_bob()["state"] == "awaiting_acceptance"
        return pair

    def test_yes(self, asked: Pair) -> None:
        answer = asked.call(asked.hs2, "POST", f"payments/{ID}/accept", "bob", payer=ALICE)
        assert answer["state"] == "completed", "the answer waits for the payer's homeserver"
        assert asked.seen_by_alice()["state"] == "completed"
        assert asked.available() == (9_500, 500)
        asked.assert_books_are_right()

    def test_no(self, asked: Pair) -> None:
        assert asked.call(asked.hs2, "POST", f"payments/{ID}/decline", "bob")["state"] == "declined"
        asked.advance(1)
        assert asked.seen_by_alice()["state"] == "declined"
        assert asked.available() == (10_000, 0)
        assert [(s, c["outcome"], c["reason"]) for s, c in asked.receipts(asked.hs1)] == [
            (ALICE, "declined", "declined")
        ]
        asked.assert_books_are_right()

    def test_the_payer_takes_it_back(self, asked: Pair) -> None:
        assert asked.call(asked.hs1, "POST", f"payments/{ID}/cancel", "alice")["state"] == "cancelled"
        asked.advance(1)
        assert asked.seen_by_bob()["state"] == "cancelled"
        assert asked.available() == (10_000, 0)
        with pytest.raises(SynapseError) as refusal:
            asked.call(asked.hs2, "POST", f"payments/{ID}/accept", "bob")
        assert refusal.value.errcode == "ORG.SUPERAPP.ALREADY_DECIDED"

    def test_no_answer_in_a_day(self, asked: Pair) -> None:
        asked.advance(DAY_S + 5)
        assert (asked.seen_by_alice()["state"], asked.seen_by_bob()["state"]) == ("expired", "expired")
        assert asked.available() == (10_000, 0)
        assert [(s, c["outcome"]) for s, c in asked.receipts(asked.hs1)] == [(ALICE, "expired")]
        asked.assert_books_are_right()


class TestFailure:
    def test_a_payees_homeserver_that_is_away_costs_a_minute_and_no_money(self, pair: Pair) -> None:
        pair.hs1.reachable.clear()
        assert pair.pay()["state"] == "held"
        pair.advance(PATIENCE_S)
        assert (pair.seen_by_alice()["state"], pair.seen_by_alice()["reason"]) == ("expired", "expired")
        assert [(s, c["outcome"]) for s, c in pair.receipts(pair.hs1)] == [(ALICE, "expired")]
        with pytest.raises(SynapseError) as refusal:
            pair.hs2.call("GET", f"payments/{ID}", BOB, query={"payer": ALICE})
        assert refusal.value.errcode == "ORG.SUPERAPP.UNKNOWN_PAYMENT"
        assert pair.available() == (10_000, 0)

    @pytest.mark.parametrize(
        ("policy", "deactivated", "reason"),
        [({"v": 1, "from": "contacts"}, False, Reason.NOT_ALLOWED), (None, True, Reason.PAYEE_GONE)],
        ids=["policy", "deactivated"],
    )
    def test_a_payee_who_takes_nothing_gives_it_back_at_once(
        self, pair: Pair, policy: Any, deactivated: bool, reason: Reason
    ) -> None:
        pair.hs2.account_data[(BOB, POLICY)] = policy
        if deactivated:
            pair.hs2.deactivated.add(UserId(BOB))
        answer = pair.pay()
        assert (answer["state"], answer["reason"]) == ("failed", reason.value)
        assert pair.available() == (10_000, 0)
        assert [(s, c["outcome"], c["reason"]) for s, c in pair.receipts(pair.hs1)] == [(ALICE, "failed", reason.value)]

    def test_more_than_the_credit_of_the_link_fails(self, pair: Pair) -> None:
        grant = {"currency": "EUR", "credit_limit_minor": 100}
        pair.call(pair.hs2, "POST", "admin/links", "admin", {"peer": "hs1.test", "currencies": [grant]})
        answer = pair.pay()
        assert (answer["state"], answer["reason"]) == ("failed", "credit_limit")
        assert pair.available() == (10_000, 0)

    def test_a_restart_before_the_receipt_posts_it_after(self, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
        async def die(*_: object) -> None:
            return None

        with monkeypatch.context() as patched:
            patched.setattr(Receipts, "_post", die)
            pair.pay()
            pair.carry()
        assert pair.receipts(pair.hs2) == []
        pair.hs2.restart()
        pair.hs1.reachable["hs2.test"] = pair.hs2
        pair.advance(5)
        assert len(pair.receipts(pair.hs2)) == 1


def test_a_payee_who_cannot_be_invited_now_is_paid_later_under_the_same_id(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(*_: object, **__: object) -> Any:
        raise SynapseError(502, "Failed to invite", "M_UNKNOWN")

    with monkeypatch.context() as patched:
        patched.setattr(pair.hs1.api, "create_room", unreachable)
        with pytest.raises(SynapseError) as refusal:
            pair.pay(payee="@nobody:hs2.test")
    assert (refusal.value.code, refusal.value.errcode) == (502, "ORG.SUPERAPP.PEER_UNREACHABLE")
    assert alices_wallet(pair) == (9_500, 500)
    answer = pair.pay(payee="@nobody:hs2.test")
    assert answer["event_id"], "the order went on from where it was"
    assert (answer["state"], answer["reason"]) == ("failed", "unknown_payee")
    assert alices_wallet(pair) == (10_000, 0)


def test_a_payee_who_cannot_be_invited_within_the_hour_costs_nothing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(*_: object, **__: object) -> Any:
        raise SynapseError(502, "Failed to invite", "M_UNKNOWN")

    monkeypatch.setattr(pair.hs1.api, "create_room", unreachable)
    with pytest.raises(SynapseError):
        pair.pay(payee="@nobody:hs2.test")
    pair.advance(2 * 3_600)
    assert alices_wallet(pair) == (10_000, 0)


def alices_wallet(pair: Pair) -> tuple[int, int]:
    """Available and held."""
    (account,) = pair.hs1.call("GET", "wallet", ALICE)["accounts"]
    return account["available"], account["held"]
