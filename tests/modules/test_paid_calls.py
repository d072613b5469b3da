"""Calls by the minute: within a homeserver and between two, from the price to the last second that is paid."""

import copy
from typing import Any
from urllib.parse import urlsplit

import pytest
from authenticator import Authenticator
from fake_api import FakeHomeserver
from synapse.module_api.errors import SynapseError
from test_payments_pair import ALICE, BOB, CONFIG, Pair

from super_app.ids import ServerName
from super_app.names import FARES_PATH
from synapse_super_app.fares import shell
from synapse_super_app.private_api import PutFailed

RING, ANSWER, HANGUP = "org.superapp.call.ring", "m.call.answer", "m.call.hangup"
POLICY = "org.superapp.call.policy"
ID, OTHER_ID = "a" * 24 + "0" * 8, "b" * 24 + "0" * 8
CAROL = "@carol:hs1.test"
PRICED: dict[str, Any] = {"v": 1, "who": ["contacts"], "price": {"amount": 60, "currency": "EUR", "per": "minute"}}


def code_of(error: pytest.ExceptionInfo[SynapseError]) -> tuple[str, int]:
    return error.value.errcode.removeprefix("ORG.SUPERAPP."), error.value.code


class House(FakeHomeserver):
    """alice (100.00 EUR) and carol, who asks 0.60 a minute, in their direct room."""

    def __init__(self, **more: Any) -> None:
        config = {**copy.deepcopy(CONFIG), **more}
        config["features"]["calls"] = True
        super().__init__(config=config)
        self.start()
        admin = self.register("admin", admin=True)
        self.register("alice")
        self.register("carol")
        self.advance(2)
        issue = {"amount": 10_000, "currency": "EUR", "user_id": ALICE, "reference": "1"}
        self.call("POST", "admin/issue", admin, issue)
        self.account_data[(CAROL, POLICY)] = PRICED
        self.direct = self.room(ALICE, CAROL)

    def confirm(self, **fields: Any) -> dict[str, Any]:
        body = {"fare_id": ID, "callee": CAROL, "amount": 60, "currency": "EUR", **fields}
        answer: dict[str, Any] = self.call("POST", "paid_calls", ALICE, body)
        return answer

    def ring(self, call_id: str = "call-1") -> str:
        return self.send(ALICE, self.direct, RING, {"call_id": call_id, "media": "audio"})

    def has(self, who: str) -> int:
        return int(self.call("GET", "wallet", who)["accounts"][0]["available"])

    def fare(self, fare_id: str = ID) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"paid_calls/{fare_id}", ALICE)
        return found

    def assert_books_are_right(self) -> None:
        found = self.call("GET", "admin/invariants", "@admin:hs1.test")
        assert found["ok"], found


@pytest.fixture
def house() -> House:
    return House()


class TestHere:
    def test_a_ring_without_a_confirmed_price_is_refused_with_the_price_and_is_nobodys_record(
        self, house: House
    ) -> None:
        with pytest.raises(SynapseError) as error:
            house.ring()
        assert code_of(error) == ("PRICE_NOT_CONFIRMED", 402)
        said = error.value.error_dict(None)
        assert (said["amount"], said["currency"], said["per"]) == (60, "EUR", "minute")
        assert house.call("GET", "calls", CAROL)["calls"] == []
        assert house.call("GET", f"call_prices/{CAROL}", ALICE) == {
            "callee": CAROL,
            "amount": 60,
            "currency": "EUR",
            "first": 180,
        }

    def test_it_is_confirmed_rung_answered_and_paid_by_the_second(self, house: House) -> None:
        agreed = house.confirm()
        assert (agreed["state"], agreed["aside"], agreed["most"]) == ("agreed", 180, 1_800)
        assert house.confirm() == agreed, "the same again changes nothing"
        house.ring()
        house.advance(4)
        house.send(CAROL, house.direct, ANSWER, {"call_id": "call-1", "version": "1", "answer": {}})
        house.send(ALICE, house.direct, "m.call.select_answer", {"call_id": "call-1", "version": "1"})
        house.advance(90)
        running = house.fare()
        assert (running["state"], running["cost"], running["paid"]) == ("running", 90, 0)
        assert running["ends_ts"] == running["answer_ts"] + 1_800_000
        house.send(ALICE, house.direct, HANGUP, {"call_id": "call-1", "version": "1"})
        house.advance(2)
        ended = house.fare()
        assert (ended["state"], ended["cost"], ended["paid"], ended["aside"]) == ("ended", 90, 90, 0)
        assert (house.has(ALICE), house.has(CAROL)) == (9_910, 90)
        (paid,) = house.call("GET", "payments", CAROL)["payments"]
        assert paid["memo"] == "☎ 1:30"
        house.assert_books_are_right()

    def test_a_confirmed_price_is_for_one_ring(self, house: House) -> None:
        house.confirm()
        house.ring()
        house.advance(2)
        house.send(CAROL, house.direct, "m.call.reject", {"call_id": "call-1", "version": "1"})
        house.advance(2)
        assert (house.fare()["state"], house.has(ALICE)) == ("ended", 10_000)
        with pytest.raises(SynapseError) as error:
            house.ring("call-2")
        assert code_of(error) == ("PRICE_NOT_CONFIRMED", 402)

    def test_another_price_than_the_one_that_stands_is_refused_with_the_new_one(self, house: House) -> None:
        with pytest.raises(SynapseError) as error:
            house.confirm(amount=59)
        assert code_of(error) == ("PRICE_CHANGED", 409)
        assert error.value.error_dict(None)["amount"] == 60
        house.account_data[(CAROL, POLICY)] = {"v": 1, "who": ["everyone"]}
        with pytest.raises(SynapseError) as error:
            house.confirm()
        assert code_of(error) == ("PRICE_CHANGED", 409)
        assert "amount" not in error.value.error_dict(None)
        assert house.has(ALICE) == 10_000

    def test_a_price_that_rises_between_confirmation_and_ring_refuses_the_ring(self, house: House) -> None:
        house.confirm()
        house.call("PUT", "call_price", CAROL, {"amount": 90, "currency": "EUR"})
        with pytest.raises(SynapseError) as error:
            house.ring()
        assert code_of(error)[1] in (402, 403)
        house.call("POST", f"paid_calls/{ID}/cancel", ALICE)
        assert house.has(ALICE) == 10_000
        house.assert_books_are_right()

    def test_whom_who_lets_through_rings_without_a_price(self, house: House) -> None:
        house.account_data[(CAROL, POLICY)] = {**PRICED, "allow": [ALICE]}
        house.ring()
        assert "amount" not in house.call("GET", f"call_prices/{CAROL}", ALICE)

    def test_it_ends_politely_when_the_confirmed_minutes_are_over(self, house: House) -> None:
        house.confirm(minutes=1)
        house.ring()
        house.send(CAROL, house.direct, ANSWER, {"call_id": "call-1", "version": "1", "answer": {}})
        house.send(ALICE, house.direct, "m.call.select_answer", {"call_id": "call-1", "version": "1"})
        house.advance(58)
        assert house.sent(house.direct, HANGUP) == []
        house.advance(5)
        (hangup,) = house.sent(house.direct, HANGUP)
        assert hangup.sender == ALICE
        house.advance(3)
        assert (house.fare()["reason"], house.has(CAROL)) == ("used_up", 60)
        house.assert_books_are_right()

    def test_a_restart_in_the_middle_of_a_call_charges_what_was_talked(self, house: House) -> None:
        house.confirm()
        house.ring()
        house.send(CAROL, house.direct, ANSWER, {"call_id": "call-1", "version": "1", "answer": {}})
        house.send(ALICE, house.direct, "m.call.select_answer", {"call_id": "call-1", "version": "1"})
        house.advance(30)
        house.restart()
        house.advance(15)
        house.send(CAROL, house.direct, HANGUP, {"call_id": "call-1", "version": "1"})
        house.advance(5)
        assert (house.fare()["state"], house.has(ALICE), house.has(CAROL)) == ("ended", 9_955, 45)
        house.assert_books_are_right()

    def test_a_price_is_set_shown_and_taken_back_and_the_rest_of_the_policy_stays(self, house: House) -> None:
        house.account_data[(CAROL, POLICY)] = {"v": 1, "who": ["contacts"]}
        assert house.call("GET", "call_price", CAROL) == {}
        price = {"amount": 70, "currency": "EUR", "per": "minute"}
        assert house.call("PUT", "call_price", CAROL, {"amount": 70, "currency": "EUR"}) == price
        assert house.account_data[(CAROL, POLICY)] == {"v": 1, "who": ["contacts"], "price": price}
        with pytest.raises(SynapseError) as error:
            house.call("PUT", "call_price", CAROL, {"amount": 70, "currency": "XXX"})
        assert code_of(error)[0] == "UNKNOWN_CURRENCY"
        assert house.call("DELETE", "call_price", CAROL) == {}
        assert house.account_data[(CAROL, POLICY)] == {"v": 1, "who": ["contacts"]}


def test_a_passkey_confirms_a_call_and_the_most_that_it_may_come_to(house: House) -> None:
    house.call("PUT", "wallet/pin", ALICE, {"pin": "2580"})
    parts = urlsplit(house.api.public_baseurl)
    device = Authenticator(parts.hostname or "", f"{parts.scheme}://{parts.netloc}")
    options = house.call("POST", "wallet/passkeys/begin", ALICE, {"pin": "2580"})["public_key"]
    house.call("POST", "wallet/passkeys", ALICE, {"name": "phone", "credential": device.create(options)})
    about = {"payee": CAROL, "amount": 10 * 60, "currency": "EUR"}
    with pytest.raises(SynapseError) as error:
        house.confirm(minutes=10)
    assert code_of(error) == ("PIN_REQUIRED", 403)
    longer = device.get(house.call("POST", "payments/challenge", ALICE, about)["public_key"])
    with pytest.raises(SynapseError) as error:
        house.confirm(minutes=11, passkey=longer)
    assert code_of(error) == ("PASSKEY_REFUSED", 403)
    right = device.get(house.call("POST", "payments/challenge", ALICE, about)["public_key"])
    assert (house.confirm(minutes=10, passkey=right)["most"], house.has(ALICE)) == (600, 10_000 - 180)


class CallingPair(Pair):
    """alice on hs1 rings bob on hs2, who asks 0.60 a minute; both homeservers run calls and payments."""

    def __init__(self) -> None:
        CONFIG["features"]["calls"] = True
        try:
            super().__init__()
        finally:
            CONFIG["features"]["calls"] = False
        self.hs2.account_data[(BOB, POLICY)] = PRICED

    def confirm(self, **fields: Any) -> dict[str, Any]:
        body = {"fare_id": ID, "callee": BOB, "amount": 60, "currency": "EUR", **fields}
        answer: dict[str, Any] = self.call(self.hs1, "POST", "paid_calls", "alice", body)
        return answer

    def ring(self, call_id: str = "call-1") -> None:
        self.hs1.send(ALICE, self.room, RING, {"call_id": call_id, "media": "audio"})
        self.carry()

    def answer(self, call_id: str = "call-1") -> None:
        self.hs2.send(BOB, self.room, ANSWER, {"call_id": call_id, "version": "1", "answer": {}})
        self.carry()
        self.hs1.send(ALICE, self.room, "m.call.select_answer", {"call_id": call_id, "version": "1"})
        self.carry()

    def talk(self, seconds: int) -> None:
        for _ in range(seconds):
            self.advance(1)
        self.carry()

    def hang_up(self, call_id: str = "call-1") -> None:
        self.hs1.send(ALICE, self.room, HANGUP, {"call_id": call_id, "version": "1"})
        self.carry()

    def fare(self) -> dict[str, Any]:
        return self.hs1.call("GET", f"paid_calls/{ID}", ALICE)


@pytest.fixture
def pair() -> CallingPair:
    return CallingPair()


class TestElsewhere:
    def test_a_ring_without_a_confirmed_price_is_refused_by_the_callers_own_homeserver(self, pair: CallingPair) -> None:
        with pytest.raises(SynapseError) as error:
            pair.ring()
        assert code_of(error) == ("PRICE_NOT_CONFIRMED", 402)
        assert error.value.error_dict(None)["amount"] == 60
        assert pair.call(pair.hs2, "GET", "calls", "bob")["calls"] == []

    def test_one_ring_in_the_words_of_several_protocols_takes_one_confirmation(self, pair: CallingPair) -> None:
        pair.confirm()
        pair.ring()
        # The first event has used what was confirmed before the next ones are sent.
        pair.advance(2)
        assert pair.fare()["state"] == "agreed"
        invite = {"call_id": "call-1", "version": "1", "lifetime": 60_000, "offer": {"type": "offer", "sdp": ""}}
        heard = pair.hs1.send(ALICE, pair.room, "m.call.invite", invite)
        pair.carry()
        assert heard in [event.event_id for event in pair.hs2.sent(pair.room, "m.call.invite")]
        with pytest.raises(SynapseError) as error:
            pair.hs1.send(ALICE, pair.room, "m.call.invite", {**invite, "call_id": "call-2"})
        assert code_of(error) == ("PRICE_NOT_CONFIRMED", 402)
        (call,) = pair.call(pair.hs2, "GET", "calls", "bob")["calls"]
        assert (call["call_id"], call["outcome"]) == ("call-1", "ringing")

    def test_it_is_paid_minute_by_minute_and_to_the_second_at_the_end(self, pair: CallingPair) -> None:
        assert pair.confirm()["aside"] == 180
        pair.ring()
        pair.advance(2)
        pair.answer()
        pair.talk(64)
        assert pair.hs2.call("GET", "wallet", BOB)["accounts"][0]["available"] == 60
        pair.talk(10)
        pair.hang_up()
        pair.talk(4)
        ended = pair.fare()
        assert (ended["state"], ended["aside"]) == ("ended", 0), ended
        assert 74 <= ended["paid"] <= 76
        assert pair.available() == (10_000 - ended["paid"], ended["paid"])
        pair.assert_books_are_right()

    def test_a_price_that_changed_since_it_was_shown_refuses_with_the_new_one_and_holds_nothing(
        self, pair: CallingPair
    ) -> None:
        pair.call(pair.hs2, "PUT", "call_price", "bob", {"amount": 90, "currency": "EUR"})
        with pytest.raises(SynapseError) as error:
            pair.confirm()
        assert code_of(error) == ("PRICE_CHANGED", 409)
        assert error.value.error_dict(None)["amount"] == 90
        assert pair.available() == (10_000, 0)

    def test_what_the_callees_homeserver_does_not_hear_of_sets_nothing_aside(self, pair: CallingPair) -> None:
        pair.hs1.reachable.clear()
        with pytest.raises(SynapseError) as error:
            pair.confirm()
        assert code_of(error) == ("PEER_UNREACHABLE", 502)
        assert pair.hs1.call("GET", "wallet", ALICE)["accounts"][0]["available"] == 10_000

    def test_a_callee_who_is_not_paid_is_hung_up_for(self, pair: CallingPair) -> None:
        pair.confirm()
        pair.ring()
        pair.answer()
        # The caller's homeserver talks on and pays nothing.
        pair.hs1.suspend()
        for _ in range(186):
            pair.hs2.advance(1)
        assert [event.sender for event in pair.hs2.sent(pair.room, HANGUP)][:1] == [BOB]

    def test_a_homeserver_that_does_not_answer_delays_no_other_call(
        self, pair: CallingPair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put, asked = pair.hs1.private.put, []

        async def silent(server: ServerName, path: str, body: dict[str, Any], timeout_ms: int) -> Any:
            if not path.endswith("/ended"):
                return await put(server, path, body, timeout_ms)
            asked.append(body["fare_id"])
            await pair.hs1.api.sleep(timeout_ms / 1_000)
            raise PutFailed("it is silent")

        pair.confirm()
        pair.ring()
        pair.answer()
        pair.talk(20)
        monkeypatch.setattr(pair.hs1.private, "put", silent)
        pair.hang_up()
        pair.advance(1)
        assert (pair.fare()["state"], asked) == ("owing", [ID])
        pair.confirm(fare_id=OTHER_ID)
        pair.ring("call-2")
        pair.answer("call-2")
        pair.advance(2)
        assert pair.hs1.call("GET", f"paid_calls/{OTHER_ID}", ALICE)["state"] == "running", "while it is asked"
        pair.talk(31)
        assert asked == [ID], "and not again at once"
        monkeypatch.setattr(pair.hs1.private, "put", put)
        pair.talk(5)
        assert (pair.fare()["state"], pair.fare()["paid"]) == ("ended", 20)

    def test_prices_that_were_asked_are_forgotten_some_day(
        self, pair: CallingPair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = pair.hs2.private.put_handlers[FARES_PATH]
        prices: list[str] = []

        async def counted(origin: ServerName, deed: str, body: dict[str, Any]) -> Any:
            prices.append(deed)
            return await asked(origin, deed, body)

        monkeypatch.setattr(shell, "_PRICES_MAX", 1)
        monkeypatch.setitem(pair.hs2.private.put_handlers, FARES_PATH, counted)
        pair.hs2.register("yan")
        for who in (BOB, "@yan:hs2.test"):
            pair.hs1.call("GET", f"call_prices/{who}", ALICE)
        with pytest.raises(SynapseError):
            pair.ring()
        assert prices == ["price"] * 3, "that of bob has made room"

    def test_a_homeserver_asks_for_its_own_people_only(self, pair: CallingPair) -> None:
        def ask(deed: str, **body: Any) -> Any:
            put = pair.hs1.private.put(ServerName(pair.hs2.server_name), f"{FARES_PATH}/{deed}", body, 1_000)
            return pair.hs1.result(put)

        with pytest.raises(PutFailed) as failed:
            ask("price", caller="@mallory:hs3.test", callee=BOB)
        assert failed.value.errcode == "ORG.SUPERAPP.WRONG_ORIGIN"
        assert ask("price", caller=ALICE, callee="@nobody:hs2.test") == {}
        assert ask("price", caller=ALICE, callee=BOB) == {"amount": 60, "currency": "EUR"}
        assert ask("agree", caller=ALICE, callee=BOB, fare_id=ID, amount=59, currency="EUR") == {
            "amount": 60,
            "currency": "EUR",
        }
        assert ask("ended", caller=ALICE, callee=BOB, fare_id=OTHER_ID) == {}
        with pytest.raises(PutFailed) as failed:
            ask("steal", caller=ALICE, callee=BOB)
        assert failed.value.errcode == "ORG.SUPERAPP.INVALID_VALUE"
