"""Requests for money: within a homeserver and between two, from the ask to the payment that answers it."""

from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.module_api.errors import SynapseError
from test_payments_pair import ALICE, BOB, Pair

REQUEST, END, PAYMENT = (
    "org.superapp.payment.request",
    "org.superapp.payment.request.end",
    "org.superapp.payment",
)
ID, OTHER_ID = "a" * 32, "b" * 32
CAROL = "@carol:hs1.test"
DAY_S = 86_400.0
ASK: dict[str, Any] = {"request_id": ID, "from": [ALICE], "amount": 500, "currency": "EUR", "memo": "lunch"}

ISSUE: dict[str, Any] = {"amount": 10_000, "currency": "EUR"}


class House(FakeHomeserver):
    """alice (100.00 EUR) and carol on one homeserver."""

    def __init__(self) -> None:
        super().__init__(
            config={
                "features": {"directory": False, "calls": False, "web": False},
                "payments": {
                    "mode": "custodial",
                    "acknowledge": {"operator": "a test", "licence": "none"},
                    "assets": [{"code": "EUR"}],
                },
            }
        )
        self.start()
        admin = self.register("admin", admin=True)
        self.register("alice")
        self.register("carol")
        self.advance(2)
        self.call("POST", "admin/issue", admin, {**ISSUE, "user_id": ALICE, "reference": "1"})
        self.direct = self.room(ALICE, CAROL)

    def ask(self, **fields: Any) -> dict[str, Any]:
        answer = self.call("POST", "requests", CAROL, {**ASK, **fields})
        self.advance(3)
        return answer

    def pay(self, payment_id: str = ID, **fields: Any) -> dict[str, Any]:
        order = {"payment_id": payment_id, "payee": CAROL, "amount": 500, "currency": "EUR", "request": ID, **fields}
        answer = self.call("POST", "payments", ALICE, order)
        self.advance(3)
        return answer

    def states(self) -> tuple[str, str]:
        """How the request stands for who asks and for who is asked."""
        asked = self.call("GET", f"requests/{ID}", ALICE, query={"requester": CAROL})["state"]
        return str(self.call("GET", f"requests/{ID}", CAROL)["state"]), str(asked)


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def pair() -> Pair:
    return Pair()


def code_of(error: pytest.ExceptionInfo[SynapseError]) -> tuple[str, int]:
    return error.value.errcode.removeprefix("ORG.SUPERAPP."), error.value.code


def test_a_request_stands_in_the_direct_room_and_is_seen_by_both(house: House) -> None:
    made = house.ask()
    assert (made["state"], made["direction"], made["room_id"]) == ("open", "outgoing", house.direct)
    (event,) = house.sent(house.direct, REQUEST)
    assert event.sender == CAROL
    assert event.get_dict()["content"] == {
        "request_id": ID,
        "from": [ALICE],
        "amount": 500,
        "currency": "EUR",
        "memo": "lunch",
        "expires_ms": made["expires_ts"],
    }
    (asked,) = house.call("GET", "requests", ALICE)["requests"]
    assert (asked["direction"], asked["requester"], asked["state"]) == ("incoming", CAROL, "open")
    assert asked["event_id"] == event.event_id
    assert house.call("GET", "requests", "@admin:hs1.test") == {"requests": []}


def test_the_same_request_again_is_the_same_and_another_under_its_id_is_refused(house: House) -> None:
    first = house.ask()
    assert house.ask()["event_id"] == first["event_id"]
    assert len(house.sent(house.direct, REQUEST)) == 1
    with pytest.raises(SynapseError) as error:
        house.ask(amount=700)
    assert code_of(error) == ("CONFLICT", 409)


def test_a_payment_that_names_a_request_answers_it_once(house: House) -> None:
    house.ask()
    assert house.pay()["state"] == "completed"
    assert house.states() == ("paid", "paid")
    (payment,) = house.sent(house.direct, PAYMENT)
    assert payment.content["request"] == ID
    with pytest.raises(SynapseError) as error:
        house.pay(OTHER_ID)
    assert code_of(error) == ("REQUEST_CLOSED", 409)
    # The same order again is no second payment.
    assert house.pay()["state"] == "completed"
    assert house.call("GET", "wallet", CAROL)["accounts"][0]["available"] == 500


@pytest.mark.parametrize("fields", [{"amount": 400}, {"amount": 600}])
def test_another_amount_does_not_answer_a_request(house: House, fields: dict[str, Any]) -> None:
    house.ask()
    with pytest.raises(SynapseError) as error:
        house.pay(**fields)
    assert code_of(error) == ("REQUEST_MISMATCH", 409)
    assert house.states() == ("open", "open")


def test_a_request_is_paid_in_its_room_which_who_is_invited_joins(house: House) -> None:
    dave = house.register("dave")
    made = house.ask(**{"from": [dave]})
    assert house.memberships(made["room_id"])[dave] == "invite"
    house.call("POST", "admin/issue", "@admin:hs1.test", {**ISSUE, "user_id": dave, "reference": "2"})
    order = {"payment_id": ID, "payee": CAROL, "amount": 500, "currency": "EUR", "request": ID}
    assert house.call("POST", "payments", dave, order)["state"] == "completed"
    assert house.memberships(made["room_id"])[dave] == "join"
    assert len(house.sent(made["room_id"], PAYMENT)) == 1


def test_one_who_is_not_asked_cannot_pay_it(house: House) -> None:
    house.ask()
    dave = house.register("dave")
    order = {"payment_id": ID, "payee": CAROL, "amount": 500, "currency": "EUR", "request": ID}
    with pytest.raises(SynapseError) as error:
        house.call("POST", "payments", dave, order)
    assert code_of(error) == ("UNKNOWN_REQUEST", 404)


def test_a_payment_that_comes_to_nothing_leaves_the_request_open(house: House) -> None:
    house.account_data[CAROL, "org.superapp.payment.policy"] = {"v": 1, "accept": "ask"}
    house.ask()
    assert house.pay()["state"] == "awaiting_acceptance"
    assert house.states() == ("paying", "paying")
    with pytest.raises(SynapseError) as error:
        house.pay(OTHER_ID)
    assert code_of(error) == ("REQUEST_CLOSED", 409)
    house.call("POST", f"payments/{ID}/cancel", ALICE)
    assert house.states() == ("open", "open")
    assert house.pay(OTHER_ID)["state"] == "awaiting_acceptance"
    house.call("POST", f"payments/{OTHER_ID}/accept", CAROL, query={"payer": ALICE})
    assert house.states() == ("paid", "paid")


def test_a_no_and_a_withdrawal_end_it_and_stand_in_the_room(house: House) -> None:
    house.ask()
    declined = house.call("POST", f"requests/{ID}/decline", ALICE, query={"requester": CAROL})
    assert declined["state"] == "declined"
    assert house.states() == ("declined", "declined")
    house.ask(request_id=OTHER_ID)
    assert house.call("POST", f"requests/{OTHER_ID}/cancel", CAROL)["state"] == "cancelled"
    house.advance(3)
    ends = [(event.sender, event.content["outcome"]) for event in house.sent(house.direct, END)]
    assert ends == [(ALICE, "declined"), (CAROL, "cancelled")]
    # Said again, each changes nothing.
    house.call("POST", f"requests/{ID}/decline", ALICE, query={"requester": CAROL})
    house.call("POST", f"requests/{OTHER_ID}/cancel", CAROL)
    house.advance(3)
    assert len(house.sent(house.direct, END)) == 2
    with pytest.raises(SynapseError) as error:
        house.pay()
    assert code_of(error) == ("REQUEST_CLOSED", 409)
    with pytest.raises(SynapseError) as error:
        house.call("POST", f"requests/{ID}/cancel", CAROL)
    assert code_of(error) == ("REQUEST_CLOSED", 409)


def test_an_expired_request_is_not_paid(house: House) -> None:
    house.ask(expires_ms=house.now_ms() + 60_000)
    house.advance(70)
    assert house.states() == ("expired", "expired")
    with pytest.raises(SynapseError) as error:
        house.pay()
    assert code_of(error) == ("REQUEST_CLOSED", 409)


def test_what_a_client_sends_itself_counts_as_well(house: House) -> None:
    house.send(CAROL, house.direct, REQUEST, {"request_id": ID, "amount": 500, "currency": "EUR"})
    house.advance(3)
    assert house.states() == ("open", "open")
    assert house.pay()["state"] == "completed"
    assert house.states() == ("paid", "paid")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ({"request_id": "x", "amount": 500, "currency": "EUR"}, "INVALID_VALUE"),
        ({"request_id": ID, "amount": 0, "currency": "EUR"}, "INVALID_AMOUNT"),
        ({"request_id": ID, "amount": 5, "currency": "XXX"}, "UNKNOWN_CURRENCY"),
        ({"request_id": ID, "amount": 5, "currency": "EUR", "memo": "x" * 513}, "MEMO_TOO_LONG"),
        ({"request_id": ID, "amount": 5, "currency": "EUR", "from": ["bob"]}, "INVALID_VALUE"),
        ({"request_id": ID, "amount": 5, "currency": "EUR", "extra": 1}, "UNKNOWN_FIELD"),
    ],
)
def test_a_malformed_request_does_not_come_into_the_room(house: House, content: dict[str, Any], code: str) -> None:
    with pytest.raises(SynapseError) as error:
        house.send(CAROL, house.direct, REQUEST, content)
    assert error.value.errcode == f"ORG.SUPERAPP.{code}"
    assert house.sent(house.direct, REQUEST) == []


def test_clients_do_not_say_how_a_request_ended_nor_ask_by_state_or_where_it_is_encrypted(house: House) -> None:
    content = {"request_id": ID, "requester": CAROL, "outcome": "cancelled"}
    with pytest.raises(SynapseError) as error:
        house.send(CAROL, house.direct, END, content)
    assert code_of(error) == ("SERVER_ONLY", 403)
    ask = {"request_id": ID, "amount": 500, "currency": "EUR"}
    with pytest.raises(SynapseError) as error:
        house.send(CAROL, house.direct, REQUEST, ask, state_key="")
    assert code_of(error) == ("NOT_A_MESSAGE", 422)
    hidden = house.room(ALICE, CAROL, encrypted=True)
    with pytest.raises(SynapseError) as error:
        house.send(CAROL, hidden, REQUEST, ask)
    assert code_of(error) == ("ROOM_ENCRYPTED", 403)
    with pytest.raises(SynapseError) as error:
        house.ask(room_id=hidden)
    assert code_of(error) == ("ROOM_ENCRYPTED", 403)


def test_who_lets_nobody_pay_them_is_not_asked_either(house: House) -> None:
    house.account_data[ALICE, "org.superapp.payment.policy"] = {"v": 1, "from": ["contacts"]}
    with pytest.raises(SynapseError) as error:
        house.ask()
    assert code_of(error) == ("NOT_ALLOWED", 403)
    house.call("PUT", "contacts/carol", ALICE)
    assert house.ask()["state"] == "open"


def test_oneself_and_nobody_are_not_asked(house: House) -> None:
    for asked, code in ((CAROL, ("PAYEE_IS_SELF", 422)), ("@nobody:hs1.test", ("UNKNOWN_PAYEE", 404))):
        with pytest.raises(SynapseError) as error:
            house.ask(**{"from": [asked]})
        assert code_of(error) == code


def test_nobody_is_asked_more_than_twenty_things_at_once(house: House) -> None:
    for number in range(20):
        house.call("POST", "requests", CAROL, {**ASK, "request_id": f"{number:032x}"})
    with pytest.raises(SynapseError) as error:
        house.ask(request_id=OTHER_ID)
    assert code_of(error) == ("LIMIT_EXCEEDED", 429)


def test_several_are_asked_in_their_room_and_each_answers_alone(house: House) -> None:
    dave = house.register("dave")
    group = house.room(CAROL, ALICE, dave)
    with pytest.raises(SynapseError) as error:
        house.ask(**{"from": [ALICE, dave]})
    assert code_of(error) == ("INVALID_VALUE", 422)
    house.ask(**{"from": [ALICE, dave], "room_id": group})
    house.pay()
    assert house.states() == ("open", "paid")
    house.call("POST", f"requests/{ID}/decline", dave, query={"requester": CAROL})
    assert house.states() == ("declined", "paid")
    shown = house.call("GET", f"requests/{ID}", CAROL)["from"]
    assert {each["user_id"]: each["state"] for each in shown} == {ALICE: "paid", dave: "declined"}


def test_pages_of_requests_hang_together(house: House) -> None:
    for number in range(5):
        house.call("POST", "requests", CAROL, {**ASK, "request_id": f"{number:032x}"})
    found: list[str] = []
    since: dict[str, str] = {}
    while True:
        page = house.call("GET", "requests", ALICE, query={"limit": "2", **since})
        found += [each["request_id"] for each in page["requests"]]
        if "next" not in page:
            break
        since = {"since": page["next"]}
    assert sorted(found) == [f"{number:032x}" for number in range(5)]


# Between homeservers.


def ask_across(pair: Pair, **fields: Any) -> None:
    """bob on hs2 asks alice on hs1."""
    pair.call(pair.hs2, "POST", "requests", "bob", {**ASK, "room_id": pair.room, **fields})
    pair.advance(3)
    pair.carry()
    pair.advance(3)


def states_across(pair: Pair) -> tuple[str, str]:
    asked = pair.hs1.call("GET", f"requests/{ID}", ALICE, query={"requester": BOB})["state"]
    return str(pair.hs2.call("GET", f"requests/{ID}", BOB)["state"]), str(asked)


@pytest.mark.parametrize("money_first", [True, False])
def test_a_request_of_another_homeserver_is_paid(pair: Pair, money_first: bool) -> None:
    ask_across(pair)
    assert states_across(pair) == ("open", "open")
    if money_first:
        assert pair.pay(request=ID)["state"] == "completed"
        pair.advance(3)
        assert states_across(pair) == ("open", "paid")
    else:
        assert pair.pay(request=ID)["state"] == "completed"
    pair.carry()
    pair.advance(5)
    assert states_across(pair) == ("paid", "paid")
    pair.assert_books_are_right()


def test_what_another_homeserver_says_of_a_payment_counts_for_nothing_until_the_money_is_here(pair: Pair) -> None:
    ask_across(pair)
    order = {"payment_id": OTHER_ID, "payee": BOB, "amount": 500, "currency": "EUR", "request": ID}
    pair.hs2.receive(ALICE, pair.room, PAYMENT, order)
    pair.advance(3)
    assert states_across(pair) == ("open", "open")
    # A payment of less, under the same name, does not answer it either.
    assert pair.pay(amount=400, payment_id=OTHER_ID)["state"] == "completed"
    pair.advance(3)
    assert states_across(pair)[0] == "open"


def test_a_request_waits_until_who_is_invited_has_joined(pair: Pair) -> None:
    pair.room = pair.hs2.room(BOB, invited=(ALICE,))
    for room_id in list(pair.hs2.rooms):
        if room_id != pair.room:
            del pair.hs2.rooms[room_id]
    made = pair.call(pair.hs2, "POST", "requests", "bob", ASK)
    assert "event_id" not in made
    pair.hs2.advance(20)
    assert pair.hs2.sent(pair.room, REQUEST) == []
    pair.hs2.set_state(pair.room, ALICE, "m.room.member", ALICE, {"membership": "join"})
    pair.hs2.advance(20)
    assert len(pair.hs2.sent(pair.room, REQUEST)) == 1
    assert "event_id" in pair.hs2.call("GET", f"requests/{ID}", BOB)


def test_where_the_other_homeserver_could_not_read_it_a_request_is_not_paid(pair: Pair) -> None:
    ask_across(pair)
    hidden = pair.hs1.room(ALICE, BOB, encrypted=True)
    with pytest.raises(SynapseError) as error:
        pair.pay(request=ID, room_id=hidden)
    assert code_of(error) == ("REQUEST_MISMATCH", 409)


def test_a_no_and_a_withdrawal_reach_the_other_homeserver(pair: Pair) -> None:
    ask_across(pair)
    pair.hs1.call("POST", f"requests/{ID}/decline", ALICE, query={"requester": BOB})
    pair.advance(3)
    pair.carry()
    pair.advance(3)
    assert states_across(pair) == ("declined", "declined")
    ask_across(pair, request_id=OTHER_ID)
    pair.hs2.call("POST", f"requests/{OTHER_ID}/cancel", BOB)
    pair.advance(3)
    pair.carry()
    pair.advance(3)
    assert pair.hs1.call("GET", f"requests/{OTHER_ID}", ALICE)["state"] == "cancelled"


def test_nobody_ends_a_request_for_somebody_else(pair: Pair) -> None:
    ask_across(pair)
    end = {"request_id": ID, "requester": BOB}
    pair.hs1.receive("@eve:hs3.test", pair.room, END, {**end, "outcome": "cancelled"})
    pair.hs1.receive("@eve:hs3.test", pair.room, END, {**end, "outcome": "declined"})
    pair.hs2.receive(ALICE, pair.room, END, {**end, "outcome": "cancelled"})
    elsewhere = pair.hs1.room(ALICE)
    pair.hs1.receive(BOB, elsewhere, END, {**end, "outcome": "cancelled"})
    pair.advance(5)
    assert states_across(pair) == ("open", "open")


def test_a_request_in_anothers_name_or_to_who_is_not_there_is_not_shown(pair: Pair) -> None:
    stranger = pair.hs1.register("stranger")
    ask = {"request_id": OTHER_ID, "amount": 500, "currency": "EUR", "from": [stranger]}
    pair.hs1.receive(BOB, pair.room, REQUEST, ask)
    pair.hs1.account_data[ALICE, "org.superapp.payment.policy"] = {"v": 1, "from": ["nobody"]}
    pair.hs1.receive(BOB, pair.room, REQUEST, {**ask, "request_id": ID, "from": [ALICE]})
    pair.advance(5)
    assert pair.hs1.call("GET", "requests", stranger) == {"requests": []}
    assert pair.hs1.call("GET", "requests", ALICE) == {"requests": []}
