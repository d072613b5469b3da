"""Money that several owe or collect: splits, goals, reminders, cards; and what the assistant does about them."""

from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.module_api.errors import SynapseError
from test_payments_pair import ALICE, BOB, Pair

REQUEST, END, MESSAGE = "org.superapp.payment.request", "org.superapp.payment.request.end", "m.room.message"
ID, OTHER_ID = "a" * 32, "b" * 32
CAROL, DAVE = "@carol:hs1.test", "@dave:hs1.test"
ASSISTANT = "@assistant:hs1.test"


class House(FakeHomeserver):
    """alice, carol and dave with 100.00 EUR each, in one room, with cards and the assistant."""

    def __init__(self) -> None:
        super().__init__(
            config={
                "features": {"directory": False, "calls": False, "web": False, "cards": True, "assistant": True},
                "payments": {
                    "mode": "custodial",
                    "acknowledge": {"operator": "a test", "licence": "none"},
                    "assets": [{"code": "EUR"}],
                },
            }
        )
        admin = self.register("admin", admin=True)
        for name in ("alice", "carol", "dave"):
            self.register(name)
        self.start()
        self.advance(2)
        for who in (ALICE, CAROL, DAVE):
            issue = {"amount": 10_000, "currency": "EUR", "user_id": who, "reference": who}
            self.call("POST", "admin/issue", admin, issue)
        self.group = self.room(ALICE, CAROL, DAVE)

    def ask(self, **fields: Any) -> dict[str, Any]:
        body = {"request_id": ID, "amount": 1_000, "currency": "EUR", "memo": "dinner", "room_id": self.group, **fields}
        answer = self.call("POST", "requests", ALICE, body)
        self.advance(3)
        return answer

    def pay(self, who: str, amount: int, payment_id: str = ID) -> dict[str, Any]:
        order = {"payment_id": payment_id, "payee": ALICE, "amount": amount, "currency": "EUR", "request": ID}
        answer = self.call("POST", "payments", who, order)
        self.advance(3)
        return answer

    def look(self, who: str = ALICE) -> dict[str, Any]:
        return self.call("GET", f"requests/{ID}", who, query={"requester": ALICE})

    def card(self) -> str:
        """What the newest card of the request says."""
        cards = [
            event.get_dict()["content"]
            for event in self.sent(self.group, MESSAGE)
            if event.content["msgtype"] == "m.notice"
            and event.content["org.superapp.card"]["kind"] in ("request", "gift")
        ]
        return str(cards[-1].get("m.new_content", cards[-1])["body"])

    def say(self, who: str, text: str) -> str:
        """Write something into the group and give what the assistant answers in its own room."""
        self.send(who, self.group, MESSAGE, {"msgtype": "m.text", "body": text})
        self.advance(6)
        (found,) = self.query("SELECT room_id FROM superapp_assistant_room WHERE user_id = ? AND own = 1", who)
        sent = [each for each in self.sent(str(found[0]), MESSAGE) if each.sender == ASSISTANT]
        return str(sent[-1].get_dict()["content"]["body"])


@pytest.fixture
def house() -> House:
    return House()


def code_of(error: pytest.ExceptionInfo[SynapseError]) -> tuple[str, int]:
    return error.value.errcode.removeprefix("ORG.SUPERAPP."), error.value.code


def test_a_split_asks_each_for_their_part_and_its_card_shows_how_far_it_is(house: House) -> None:
    made = house.ask(**{"from": [CAROL, DAVE]}, split={"how": "equal", "mine": 1})
    (event,) = house.sent(house.group, REQUEST)
    content = event.get_dict()["content"]
    assert (content["amount"], content["from"], content["parts"]) == (666, [CAROL, DAVE], [333, 333])
    assert (made["kind"], made["total"], made["paid"]) == ("split", 666, 0)
    assert house.look(CAROL)["amount"] == 333
    assert "▱▱▱▱▱▱▱▱▱▱" in house.card()
    with pytest.raises(SynapseError) as error:
        house.pay(CAROL, 666)
    assert code_of(error) == ("REQUEST_MISMATCH", 409)
    assert error.value.error_dict(None)["amount"] == 333
    assert house.pay(CAROL, 333)["state"] == "completed"
    assert (house.look()["paid"], house.look()["state"], house.look(CAROL)["state"]) == (333, "open", "paid")
    assert "✅ @carol:hs1.test" in house.card()
    assert "▰▰▰▰▰▱▱▱▱▱" in house.card()
    house.pay(DAVE, 333)
    assert house.look()["state"] == "paid"
    cards = [e for e in house.sent(house.group, MESSAGE) if e.content["org.superapp.card"]["kind"] == "request"]
    assert len([each for each in cards if "m.new_content" not in each.content]) == 1


def test_a_no_leaves_the_others_and_somebody_can_be_let_off(house: House) -> None:
    house.ask(**{"from": [CAROL, DAVE]}, split={"how": "amounts", "parts": [600, 300]})
    assert house.look()["total"] == 900
    house.call("POST", f"requests/{ID}/decline", DAVE, query={"requester": ALICE})
    assert house.look()["state"] == "open"
    excused = house.call("POST", f"requests/{ID}/excuse", ALICE, {"payer": CAROL})
    house.advance(3)
    assert excused["state"] == "declined"
    (_, end) = house.sent(house.group, END)
    assert (end.content["outcome"], end.content["payer"], end.sender) == ("excused", CAROL, ALICE)
    with pytest.raises(SynapseError) as error:
        house.pay(CAROL, 600)
    assert code_of(error) == ("REQUEST_CLOSED", 409)
    with pytest.raises(SynapseError) as error:
        house.call("POST", f"requests/{ID}/excuse", CAROL, {"payer": CAROL})
    assert code_of(error) == ("UNKNOWN_REQUEST", 404)


def test_who_left_the_room_is_shown_so_and_can_still_pay(house: House) -> None:
    house.ask(**{"from": [CAROL, DAVE]}, split={"how": "shares", "parts": [3, 1]})
    house.set_state(house.group, DAVE, "m.room.member", DAVE, {"membership": "leave"})
    house.pay(CAROL, 750)
    assert "(left the room)" in house.card()
    with_mention = house.call("POST", f"requests/{ID}/remind", ALICE)
    house.advance(3)
    assert with_mention["state"] == "open"
    (reminder,) = [each for each in house.sent(house.group, MESSAGE) if each.content["msgtype"] == "m.text"]
    assert reminder.content["m.mentions"] == {"user_ids": []}
    # In the room of the two, since the other one is no longer theirs.
    assert house.pay(DAVE, 250)["state"] == "completed"
    assert house.look()["state"] == "paid"


def test_a_reminder_mentions_who_has_not_answered_once_a_day(house: House) -> None:
    house.ask(**{"from": [CAROL, DAVE]}, split={"how": "equal"})
    house.pay(CAROL, 500)
    house.call("POST", f"requests/{ID}/remind", ALICE)
    house.advance(3)
    (reminder,) = [each for each in house.sent(house.group, MESSAGE) if each.content["msgtype"] == "m.text"]
    assert (reminder.sender, reminder.content["m.mentions"]) == (ALICE, {"user_ids": [DAVE]})
    assert "€5.00 of €10.00" in reminder.content["body"]
    with pytest.raises(SynapseError) as error:
        house.call("POST", f"requests/{ID}/remind", ALICE)
    assert code_of(error) == ("REMINDED_RECENTLY", 429)
    house.pay(DAVE, 500)
    house.advance(86_400.0)
    with pytest.raises(SynapseError) as error:
        house.call("POST", f"requests/{ID}/remind", ALICE)
    assert code_of(error) == ("REQUEST_CLOSED", 409)
    with pytest.raises(SynapseError) as error:
        house.call("POST", f"requests/{OTHER_ID}/remind", ALICE)
    assert code_of(error) == ("UNKNOWN_REQUEST", 404)


def test_a_goal_is_collected_in_whatever_amounts_until_it_is_reached(house: House) -> None:
    made = house.ask(goal=True)
    (event,) = house.sent(house.group, REQUEST)
    assert (event.content["goal"], "from" in event.content, made["kind"]) == (True, False, "goal")
    seen = house.call("GET", f"requests/{ID}", CAROL, query={"requester": ALICE})
    assert (seen["direction"], seen["amount"], seen["paid"], seen["state"]) == ("incoming", made["amount"], 0, "open")
    with pytest.raises(SynapseError) as error:
        house.call("GET", f"requests/{ID}", "@stranger:hs1.test", query={"requester": ALICE})
    assert code_of(error) == ("UNKNOWN_REQUEST", 404)
    house.pay(CAROL, 200)
    house.pay(CAROL, 100, OTHER_ID)
    assert (house.look()["paid"], house.look()["state"]) == (300, "open")
    assert "1 person" in house.card()
    with pytest.raises(SynapseError) as error:
        house.call(
            "POST",
            "payments",
            CAROL,
            {"payment_id": "c" * 32, "payee": DAVE, "amount": 5, "currency": "EUR", "request": ID},
        )
    assert code_of(error) == ("UNKNOWN_REQUEST", 404)
    house.pay(DAVE, 800)
    shown = house.look()
    assert (shown["paid"], shown["state"], len(shown["contributions"])) == (1_100, "paid", 3)
    with pytest.raises(SynapseError) as error:
        house.pay(DAVE, 1, OTHER_ID)
    assert code_of(error) == ("REQUEST_CLOSED", 409)
    assert [each["request_id"] for each in house.call("GET", "requests", DAVE)["requests"]] == [ID]


def test_malformed_splits_ask_nobody(house: House) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "INVALID_VALUE"),
        ({"goal": True, "from": [CAROL]}, "INVALID_VALUE"),
        ({"from": [CAROL, CAROL], "split": {"how": "equal"}}, "INVALID_VALUE"),
        ({"from": [CAROL], "split": {"how": "equal", "mine": 2}}, "INVALID_VALUE"),
        ({"from": [CAROL], "split": {"how": "shares"}}, "INVALID_VALUE"),
        ({"from": [CAROL], "split": {"how": "amounts", "parts": [1_001]}}, "INVALID_AMOUNT"),
        ({"from": [CAROL, DAVE], "amount": 1, "split": {"how": "equal"}}, "INVALID_AMOUNT"),
        ({"goal": True, "room_id": None}, "INVALID_VALUE"),
    ]
    for fields, code in cases:
        with pytest.raises(SynapseError) as error:
            house.ask(**{name: each for name, each in fields.items() if each is not None} | _without(fields))
        assert code_of(error) == (code, 422)
    assert house.sent(house.group, REQUEST) == []


def _without(fields: dict[str, Any]) -> dict[str, Any]:
    return {"room_id": None} if "room_id" in fields else {}


def test_a_split_and_a_goal_are_paid_from_another_homeserver() -> None:
    pair = Pair()
    carol = pair.hs1.register("carol")
    pair.hs1.set_state(pair.room, carol, "m.room.member", carol, {"membership": "join"})
    pair.carry()
    body = {"request_id": ID, "room_id": pair.room, "currency": "EUR"}
    split = {"amount": 1_000, "from": [ALICE, BOB], "split": {"how": "amounts", "parts": [400, 600]}}
    pair.hs1.call("POST", "requests", carol, {**body, **split})
    pair.hs1.call("POST", "requests", carol, {**body, "request_id": OTHER_ID, "amount": 900, "goal": True})
    pair.carry()
    goal = pair.hs2.call("GET", f"requests/{OTHER_ID}", BOB, query={"requester": carol})
    assert (goal["kind"], goal["direction"], goal["state"]) == ("goal", "incoming", "open")
    asked = pair.hs2.call("GET", f"requests/{ID}", BOB, query={"requester": carol})
    assert (asked["amount"], asked["total"], asked["state"]) == (600, 1_000, "open")
    pair.hs2.call(
        "POST", "admin/issue", "@admin:hs2.test", {"user_id": BOB, "amount": 2_000, "currency": "EUR", "reference": "b"}
    )
    for payment_id, amount, request_id in (("1" * 32, 600, ID), ("2" * 32, 250, OTHER_ID)):
        order = {"payment_id": payment_id, "payee": carol, "amount": amount, "currency": "EUR", "request": request_id}
        pair.hs2.call("POST", "payments", BOB, order)
        pair.advance(3)
        pair.carry()
        pair.advance(3)
    assert pair.hs1.call("GET", f"requests/{ID}", carol)["paid"] == 600
    assert pair.hs1.call("GET", f"requests/{OTHER_ID}", carol)["paid"] == 250
    pair.hs1.call("POST", f"requests/{ID}/excuse", carol, {"payer": ALICE})
    assert pair.hs1.call("GET", f"requests/{ID}", carol)["state"] == "paid"
    pair.assert_books_are_right()


class TestAssistant:
    def test_a_split_a_collection_and_a_reminder_are_said_in_the_room(self, house: House) -> None:
        said = house.say(ALICE, "!split 10 dinner")
        assert "€3.33" in said
        assert "@dave:hs1.test" in said
        (asked,) = house.call("GET", "requests", DAVE)["requests"]
        assert (asked["amount"], asked["memo"]) == (333, "dinner")
        assert "reminded" in house.say(ALICE, "!remind")
        assert "200,00" in house.say(ALICE, "!sammle 200 für das Boot")
        (_, goal) = house.sent(house.group, REQUEST)
        assert goal.content["goal"] is True
        assert "!teile 40" in house.say(ALICE, "!teile")

    def test_a_gift_is_given_and_claimed_in_the_room_and_its_card_shows_it(self, house: House) -> None:
        assert "2 shares" in house.say(ALICE, "!gift 10 in 2 equal happy new year")
        assert "0 of 2" in house.card()
        assert "!claim" in house.card()
        assert "€5.00" in house.say(CAROL, "!claim")
        assert "@carol:hs1.test" in house.card()
        assert "€5.00" in house.say(DAVE, "!abholen")
        assert "happy new year" in house.card()
        assert "2 of 2" in house.card()
        house.say(ALICE, "!gift 10 in 2")
        house.say(CAROL, "!claim")
        house.say(DAVE, "!claim")
        assert "was the luckiest" in house.card()

    def test_a_link_is_handed_out_and_claimed_by_words(self, house: House) -> None:
        said = house.say(ALICE, "!link 20 welcome")
        link = next(word for word in said.split() if "/superapp/claim/#" in word)
        assert "€20.00" in house.say(CAROL, f"!claim {link}")
        assert house.call("GET", "wallet", CAROL)["accounts"][0]["available"] == 12_000
        assert "written to @new:elsewhere.test" in house.say(ALICE, "!invite @new:elsewhere.test 5")
        assert "no gift to claim" in house.say(DAVE, "!claim")
