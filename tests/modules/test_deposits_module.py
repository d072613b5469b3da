"""Deposits of strangers: invitations that wait for one, within a homeserver and between two, until it goes back."""

from typing import Any
from urllib.parse import urlsplit

import pytest
from authenticator import Authenticator
from fake_api import FakeHomeserver
from synapse.module_api import NOT_SPAM
from synapse.module_api.errors import Codes, SynapseError
from test_payments_pair import ALICE, BOB, CONFIG, Pair

from super_app.ids import ServerName
from super_app.names import DEPOSITS_PATH
from synapse_super_app.deposits import shell
from synapse_super_app.private_api import PutFailed

CAROL = "@carol:hs1.test"
POLICY = "org.superapp.attention.policy"
ASKS: dict[str, Any] = {"v": 1, "deposit": {"amount": 200, "currency": "EUR"}, "days": 3}
ID = "c" * 32
MONEY = {"amount": 200, "currency": "EUR"}


def code_of(error: pytest.ExceptionInfo[SynapseError]) -> tuple[str, int]:
    return error.value.errcode.removeprefix("ORG.SUPERAPP."), error.value.code


def invite(homeserver: FakeHomeserver, inviter: str, invitee: str) -> Any:
    verdict: Any = NOT_SPAM
    for judge in homeserver.api.callbacks["user_may_invite"]:
        verdict = homeserver.result(judge(inviter, invitee, "!new:hs1.test"))
        if verdict != NOT_SPAM:
            break
    return verdict


class House(FakeHomeserver):
    """alice (100.00 EUR) and carol, who asks 2.00 EUR of strangers."""

    def __init__(self, *, calls: bool = False) -> None:
        super().__init__(config={**CONFIG, "features": {**CONFIG["features"], "calls": calls}})
        self.start()
        admin = self.register("admin", admin=True)
        self.register("alice")
        self.register("carol")
        self.advance(2)
        issue = {"amount": 10_000, "currency": "EUR", "user_id": ALICE, "reference": "1"}
        self.call("POST", "admin/issue", admin, issue)
        self.account_data[(CAROL, POLICY)] = ASKS

    def put_down(self, **fields: Any) -> dict[str, Any]:
        body = {"deposit_id": ID, "recipient": CAROL, **MONEY, **fields}
        answer: dict[str, Any] = self.call("POST", "deposits", ALICE, body)
        return answer

    def has(self, who: str) -> int:
        return int(self.call("GET", "wallet", who)["accounts"][0]["available"])

    def deposit(self) -> dict[str, Any]:
        (found,) = self.call("GET", "deposits", CAROL)["deposits"]
        return dict(found)

    def assert_books_are_right(self) -> None:
        found = self.call("GET", "admin/invariants", "@admin:hs1.test")
        assert found["ok"], found


@pytest.fixture
def house() -> House:
    return House()


class TestHere:
    def test_a_stranger_cannot_invite_and_reads_the_amount_and_how_to_pay(self, house: House) -> None:
        with pytest.raises(SynapseError) as error:
            invite(house, ALICE, CAROL)
        assert code_of(error) == ("DEPOSIT_REQUIRED", 402)
        said = error.value.error_dict(None)
        assert (said["amount"], said["currency"]) == (200, "EUR")
        assert "POST deposits" in said["error"]
        assert house.call("GET", f"deposit_terms/{CAROL}", ALICE) == {"recipient": CAROL, **MONEY}

    def test_with_a_deposit_down_they_can_and_it_comes_back_with_the_first_answer(self, house: House) -> None:
        assert house.put_down()["state"] == "completed"
        assert house.put_down()["state"] == "completed", "the same again changes nothing"
        assert (house.has(ALICE), house.deposit()["state"]) == (9_800, "open")
        assert invite(house, ALICE, CAROL) == NOT_SPAM
        room = house.room(ALICE, CAROL)
        house.advance(40)
        assert house.deposit()["state"] == "open", "to join is no answer"
        house.send(CAROL, room, "m.room.message", {"msgtype": "m.text", "body": "hello"})
        house.advance(40)
        assert (house.deposit()["state"], house.deposit()["cue"], house.has(ALICE)) == ("returned", "answer", 10_000)
        assert invite(house, ALICE, CAROL) == NOT_SPAM, "they are no stranger any more"
        house.assert_books_are_right()

    def test_it_comes_back_by_itself_after_its_days(self, house: House) -> None:
        house.put_down()
        house.advance(3 * 86_400 - 60)
        assert house.deposit()["state"] == "open"
        house.advance(120)
        assert (house.deposit()["cue"], house.has(ALICE)) == ("time", 10_000)
        with pytest.raises(SynapseError):
            invite(house, ALICE, CAROL)
        house.assert_books_are_right()

    def test_many_at_once_keep_nobody_waiting(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shell, "_LOOKED_AT", 2)
        people = [house.register(f"stranger{number}") for number in range(5)]
        for number, stranger in enumerate(people):
            issue = {"amount": 200, "currency": "EUR", "user_id": stranger, "reference": stranger}
            house.call("POST", "admin/issue", "@admin:hs1.test", issue)
            house.call("POST", "deposits", stranger, {"deposit_id": f"{number:032x}", "recipient": CAROL, **MONEY})
        house.advance(3 * 86_400 + 60)
        for _ in range(10):
            house.advance(5)
        found = house.call("GET", "deposits", CAROL)["deposits"]
        assert [each["state"] for each in found] == ["returned"] * 5
        house.assert_books_are_right()

    def test_it_is_given_back_or_kept_at_a_word(self, house: House) -> None:
        house.put_down()
        accepted = house.call("POST", f"deposits/{ID}/accept", CAROL, query={"payer": ALICE})
        assert (accepted["state"], house.has(ALICE)) == ("returned", 10_000)
        with pytest.raises(SynapseError) as error:
            house.call("POST", f"deposits/{ID}/spam", CAROL, query={"payer": ALICE})
        assert code_of(error) == ("ALREADY_DECIDED", 409)
        with pytest.raises(SynapseError) as error:
            house.call("POST", f"deposits/{'d' * 32}/spam", CAROL, query={"payer": ALICE})
        assert code_of(error) == ("UNKNOWN_DEPOSIT", 404)

    def test_spam_is_kept_and_does_not_open_the_door_again(self, house: House) -> None:
        house.put_down()
        kept = house.call("POST", f"deposits/{ID}/spam", CAROL, query={"payer": ALICE})
        assert (kept["state"], house.has(ALICE), house.has(CAROL)) == ("kept", 9_800, 200)
        with pytest.raises(SynapseError):
            invite(house, ALICE, CAROL)
        house.assert_books_are_right()

    def test_friends_need_none(self, house: House) -> None:
        house.room(CAROL, ALICE)
        assert invite(house, ALICE, CAROL) == NOT_SPAM
        with pytest.raises(SynapseError) as error:
            house.put_down()
        assert code_of(error) == ("PRICE_CHANGED", 409)
        assert house.has(ALICE) == 10_000

    def test_what_one_asks_is_set_shown_and_taken_back(self, house: House) -> None:
        body = {**MONEY, "days": 5, "spam_to": ALICE, "shared_rooms": True}
        assert house.call("PUT", "deposit_policy", CAROL, body) == body
        assert house.call("GET", "deposit_policy", CAROL) == body
        with pytest.raises(SynapseError) as error:
            house.call("PUT", "deposit_policy", CAROL, {**MONEY, "spam_to": "nobody"})
        assert code_of(error)[0] == "INVALID_VALUE"
        house.call("DELETE", "deposit_policy", CAROL)
        assert invite(house, ALICE, CAROL) == NOT_SPAM


class TestWithoutARoom:
    """Who pays, asks or rings somebody without having a room with them hears of the deposit too, not of an outage."""

    CALLED: dict[str, Any] = {"call_id": "a" * 32, "callee": CAROL, "media": "audio"}
    PAID: dict[str, Any] = {"payment_id": "1" * 32, "payee": CAROL, "amount": 500, "currency": "EUR"}
    ASKED: dict[str, Any] = {"request_id": "2" * 32, "from": [CAROL], "amount": 500, "currency": "EUR"}

    @pytest.mark.parametrize(("path", "body"), [("payments", PAID), ("requests", ASKED), ("calls", CALLED)])
    def test_the_deposit_is_named_and_after_it_the_same_goes_through(self, path: str, body: dict[str, Any]) -> None:
        house = House(calls=True)
        house.account_data[(CAROL, "org.superapp.call.policy")] = {"v": 1, "who": ["everyone"]}
        with pytest.raises(SynapseError) as error:
            house.call("POST", path, ALICE, body)
        assert code_of(error) == ("DEPOSIT_REQUIRED", 402)
        assert error.value.error_dict(None)["amount"] == 200
        house.put_down()
        house.call("POST", path, ALICE, body)
        house.assert_books_are_right()


def test_a_passkey_puts_a_deposit_down_just_that_one() -> None:
    house = House()
    house.call("PUT", "wallet/pin", ALICE, {"pin": "2580"})
    parts = urlsplit(house.api.public_baseurl)
    device = Authenticator(parts.hostname or "", f"{parts.scheme}://{parts.netloc}")
    options = house.call("POST", "wallet/passkeys/begin", ALICE, {"pin": "2580"})["public_key"]
    house.call("POST", "wallet/passkeys", ALICE, {"name": "phone", "credential": device.create(options)})
    for other in ({"amount": 201}, {"payee": "@admin:hs1.test"}):
        about = {"payee": CAROL, **MONEY, **other}
        wrong = device.get(house.call("POST", "payments/challenge", ALICE, about)["public_key"])
        with pytest.raises(SynapseError) as error:
            house.put_down(passkey=wrong)
        assert code_of(error) == ("PASSKEY_REFUSED", 403)
    right = house.call("POST", "payments/challenge", ALICE, {"payee": CAROL, **MONEY})["public_key"]
    assert house.put_down(passkey=device.get(right))["state"] == "completed"


class TestElsewhere:
    @pytest.fixture
    def pair(self) -> Pair:
        pair = Pair(bob_joined=False)
        pair.hs2.account_data[(BOB, POLICY)] = ASKS
        return pair

    def put_down(self, pair: Pair, **fields: Any) -> dict[str, Any]:
        body = {"deposit_id": ID, "recipient": BOB, **MONEY, **fields}
        answer: dict[str, Any] = pair.call(pair.hs1, "POST", "deposits", "alice", body)
        return answer

    def test_their_own_homeserver_tells_the_stranger_what_to_put_down_and_the_other_one_turns_them_away(
        self, pair: Pair
    ) -> None:
        with pytest.raises(SynapseError) as error:
            invite(pair.hs1, ALICE, BOB)
        assert code_of(error) == ("DEPOSIT_REQUIRED", 402)
        assert invite(pair.hs2, ALICE, BOB) == (Codes.FORBIDDEN, {"org.superapp.deposit": MONEY})

    def test_it_is_put_down_there_and_comes_back_as_a_refund(self, pair: Pair) -> None:
        assert self.put_down(pair)["state"] in ("held", "committed", "completed")
        pair.advance(3)
        assert pair.hs1.call("GET", "wallet", ALICE)["accounts"][0]["available"] == 9_800
        assert invite(pair.hs1, ALICE, BOB) == invite(pair.hs2, ALICE, BOB) == NOT_SPAM
        pair.call(pair.hs2, "POST", f"deposits/{ID}/accept", "bob", payer=ALICE)
        pair.advance(5)
        (deposit,) = pair.call(pair.hs2, "GET", "deposits", "bob")["deposits"]
        assert (deposit["state"], deposit["cue"]) == ("returned", "accept")
        assert pair.available() == (10_000, 0)
        pair.assert_books_are_right()

    def test_a_changed_amount_is_refused_with_the_new_one_and_nothing_is_paid(self, pair: Pair) -> None:
        with pytest.raises(SynapseError) as error:
            self.put_down(pair, amount=100)
        assert code_of(error) == ("PRICE_CHANGED", 409)
        assert error.value.error_dict(None)["amount"] == 200
        assert pair.hs1.call("GET", "wallet", ALICE)["accounts"][0]["available"] == 10_000

    def test_whoever_cannot_be_asked_is_invited_all_the_same(self, pair: Pair) -> None:
        pair.hs1.reachable.clear()
        assert invite(pair.hs1, ALICE, BOB) == NOT_SPAM
        with pytest.raises(SynapseError) as error:
            self.put_down(pair)
        assert code_of(error) == ("PEER_UNREACHABLE", 502)

    def test_a_homeserver_asks_for_its_own_people_only(self, pair: Pair) -> None:
        def ask(deed: str, payer: str = ALICE, recipient: str = BOB) -> Any:
            body = {"payer": payer, "recipient": recipient}
            put = pair.hs1.private.put(ServerName("hs2.test"), f"{DEPOSITS_PATH}/{deed}", body, 1_000)
            return pair.hs1.result(put)

        assert ask("terms") == MONEY
        assert ask("terms", recipient="@nobody:hs2.test") == {}
        for deed, payer, code in (("terms", "@mallory:hs3.test", "WRONG_ORIGIN"), ("steal", ALICE, "INVALID_VALUE")):
            with pytest.raises(PutFailed) as failed:
                ask(deed, payer)
            assert failed.value.errcode == f"ORG.SUPERAPP.{code}"
