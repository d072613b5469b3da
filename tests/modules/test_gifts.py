"""Gifts in rooms and money under links: within a homeserver and between two, from giving to the end and its proof."""

import json
from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.module_api.errors import SynapseError
from test_payments_pair import ALICE, BOB, Pair

from super_app.ids import ServerName
from super_app.names import POTS_PATH
from super_app.pots.model import Split
from super_app.pots.rules import check_reveal
from super_app.signing import canonical, from_b64, to_b64
from synapse_super_app.private_api import PutFailed

GIFT, CLAIM, END = "org.superapp.gift", "org.superapp.gift.claim", "org.superapp.gift.end"
ID, OTHER_ID = "a" * 32, "b" * 32
CAROL, DAVE = "@carol:hs1.test", "@dave:hs1.test"
DAY_S, WEEK_S = 86_400.0, 604_800.0


class House(FakeHomeserver):
    """alice (100.00 EUR), carol and dave in one room of a homeserver."""

    def __init__(self) -> None:
        super().__init__(
            config={
                "features": {"directory": False, "calls": False, "web": False},
                "payments": {
                    "mode": "custodial",
                    "acknowledge": {"operator": "a test", "licence": "none"},
                    "assets": [{"code": "EUR"}, {"code": "JPY"}],
                },
            }
        )
        self.start()
        admin = self.register("admin", admin=True)
        for name in ("alice", "carol", "dave"):
            self.register(name)
        self.advance(2)
        issue = {"amount": 10_000, "currency": "EUR", "user_id": ALICE, "reference": "1"}
        self.call("POST", "admin/issue", admin, issue)
        self.group = self.room(ALICE, CAROL, DAVE)

    def give(self, **fields: Any) -> dict[str, Any]:
        body = {"gift_id": ID, "room_id": self.group, "amount": 1_000, "currency": "EUR", "shares": 2, **fields}
        answer = self.call("POST", "gifts", ALICE, body)
        self.advance(1)
        return answer

    def claim(self, who: str) -> dict[str, Any]:
        answer = self.call("POST", f"gifts/{ID}/claim", who, query={"giver": ALICE})
        self.advance(3)
        return answer

    def look(self, who: str = ALICE) -> dict[str, Any]:
        return self.call("GET", f"gifts/{ID}", who, query={"giver": ALICE})

    def has(self, who: str) -> int:
        return int(self.call("GET", "wallet", who)["accounts"][0]["available"])

    def assert_books_are_right(self) -> None:
        assert self.call("GET", "admin/invariants", "@admin:hs1.test")["ok"]


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def pair() -> Pair:
    return Pair()


def code_of(error: pytest.ExceptionInfo[SynapseError]) -> tuple[str, int]:
    return error.value.errcode.removeprefix("ORG.SUPERAPP."), error.value.code


class TestGift:
    def test_it_stands_in_its_room_and_its_draw_can_be_checked_at_the_end(self, house: House) -> None:
        made = house.give(memo="Happy new year")
        (event,) = house.sent(house.group, GIFT)
        content = event.get_dict()["content"]
        assert event.sender == ALICE
        assert content == {
            "gift_id": ID,
            "amount": 1_000,
            "currency": "EUR",
            "shares": 2,
            "split": "random",
            "commitment": made["commitment"],
            "expires_ms": made["expires_ts"],
            "memo": "Happy new year",
        }
        assert (made["state"], made["left"], made["shares_left"], made["event_id"]) == (
            "open",
            1_000,
            2,
            event.event_id,
        )
        assert "reveal" not in made
        assert house.has(ALICE) == 9_000
        assert house.call("GET", "wallet", ALICE)["accounts"][0]["aside"] == 1_000

        first = house.claim(CAROL)
        assert first["mine"]["state"] == "paid"
        assert "reveal" not in first
        house.claim(DAVE)
        assert house.has(CAROL) + house.has(DAVE) == 1_000
        (end,) = house.sent(house.group, END)
        said = end.get_dict()["content"]
        assert (said["outcome"], said["claimers"]) == ("emptied", [CAROL, DAVE])
        assert said["shares"] == [house.has(CAROL), house.has(DAVE)]
        assert said["luckiest"] == (CAROL if house.has(CAROL) >= house.has(DAVE) else DAVE)
        wrong = check_reveal(ID, 1_000, Split.RANDOM, content["commitment"], said["salt"], said["shares"])
        assert wrong is None
        ended = house.look(DAVE)
        assert (ended["state"], ended["reveal"]) == ("emptied", {"salt": said["salt"], "shares": said["shares"]})
        assert "aside" not in house.call("GET", "wallet", ALICE)["accounts"][0]
        house.assert_books_are_right()

    def test_the_same_gift_again_is_the_same_and_is_sent_once(self, house: House) -> None:
        first = house.give()
        assert house.give() == first
        assert len(house.sent(house.group, GIFT)) == 1
        with pytest.raises(SynapseError) as error:
            house.give(amount=900)
        assert code_of(error) == ("CONFLICT", 409)
        assert house.call("GET", "gifts", ALICE)["gifts"] == [first]
        assert house.call("GET", "gifts", CAROL)["gifts"] == []

    def test_pages_of_gifts_go_from_new_to_old(self, house: House) -> None:
        house.give()
        house.give(gift_id=OTHER_ID)
        newest = house.call("GET", "gifts", ALICE, query={"limit": "1"})
        assert [each["gift_id"] for each in newest["gifts"]] == [OTHER_ID]
        rest = house.call("GET", "gifts", ALICE, query={"limit": "1", "since": newest["next"]})
        assert ([each["gift_id"] for each in rest["gifts"]], "next" in rest) == ([ID], False)
        with pytest.raises(SynapseError) as error:
            house.call("GET", "gifts", ALICE, query={"since": "nonsense"})
        assert code_of(error) == ("INVALID_VALUE", 422)

    def test_a_client_claims_by_an_event_too_and_draws_no_gift_by_one(self, house: House) -> None:
        house.give(split="equal")
        claim = {"gift_id": ID, "giver": ALICE}
        house.send(CAROL, house.group, CLAIM, claim)
        assert house.has(CAROL) == 500
        house.register("eve")
        with pytest.raises(SynapseError) as error:
            house.gate_only("@eve:hs1.test", house.group, CLAIM, claim)
        assert code_of(error) == ("NOT_IN_ROOM", 403)
        with pytest.raises(SynapseError) as error:
            house.gate_only(CAROL, house.group, CLAIM, {"gift_id": ID})
        assert code_of(error) == ("INVALID_VALUE", 422)
        for event_type in (GIFT, END):
            with pytest.raises(SynapseError) as error:
                house.gate_only(CAROL, house.group, event_type, {"gift_id": OTHER_ID})
            assert code_of(error) == ("SERVER_ONLY", 403)

    def test_what_is_left_after_a_day_goes_back_and_the_room_hears_of_it(self, house: House) -> None:
        house.give(split="equal")
        house.claim(CAROL)
        house.advance(DAY_S + 2)
        assert (house.has(ALICE), house.look()["state"]) == (9_500, "expired")
        (end,) = house.sent(house.group, END)
        assert (end.content["outcome"], end.content["claimers"]) == ("expired", [CAROL, None])
        with pytest.raises(SynapseError) as error:
            house.claim(DAVE)
        assert code_of(error) == ("EXPIRED", 410)
        house.assert_books_are_right()

    def test_the_giver_takes_back_what_is_left(self, house: House) -> None:
        house.give(split="equal")
        house.claim(CAROL)
        answer = house.call("POST", f"gifts/{ID}/cancel", ALICE)
        assert (answer["state"], house.has(ALICE)) == ("cancelled", 9_500)
        with pytest.raises(SynapseError) as error:
            house.claim(DAVE)
        assert code_of(error) == ("CANCELLED", 410)
        with pytest.raises(SynapseError) as error:
            house.call("POST", f"gifts/{ID}/cancel", CAROL)
        assert code_of(error) == ("UNKNOWN_GIFT", 404)

    def test_refusals_of_a_gift_move_nothing(self, house: House) -> None:
        cases: list[tuple[dict[str, Any], str, int]] = [
            ({"shares": 0}, "INVALID_VALUE", 422),
            ({"shares": 501}, "INVALID_VALUE", 422),
            ({"amount": 1}, "INVALID_AMOUNT", 422),
            ({"amount": 1.5}, "INVALID_AMOUNT", 422),
            ({"currency": "USD"}, "UNKNOWN_CURRENCY", 422),
            ({"memo": "x" * 513}, "MEMO_TOO_LONG", 422),
            ({"memo": "a\0b"}, "INVALID_VALUE", 422),
            ({"amount": 20_000}, "INSUFFICIENT_FUNDS", 402),
            ({"room_id": "!nowhere:hs1.test"}, "NOT_IN_ROOM", 403),
            ({"for": ALICE}, "PAYEE_IS_SELF", 422),
            ({"for": "@admin:hs1.test"}, "PAYEE_NOT_IN_ROOM", 403),
            ({"for": "@nobody:hs1.test"}, "UNKNOWN_PAYEE", 404),
        ]
        for fields, code, status in cases:
            with pytest.raises(SynapseError) as error:
                house.give(**fields)
            assert code_of(error) == (code, status)
        assert house.has(ALICE) == 10_000

    def test_an_encrypted_room_has_no_gifts(self, house: House) -> None:
        room_id = house.room(ALICE, CAROL, encrypted=True)
        with pytest.raises(SynapseError) as error:
            house.give(room_id=room_id)
        assert code_of(error) == ("ROOM_ENCRYPTED", 403)

    def test_a_pin_is_asked_for_where_it_is_set(self, house: House) -> None:
        house.call("PUT", "wallet/pin", ALICE, {"pin": "8351"})
        with pytest.raises(SynapseError) as error:
            house.give()
        assert code_of(error) == ("PIN_REQUIRED", 403)
        with pytest.raises(SynapseError) as error:
            house.give(pin="1111")
        assert code_of(error) == ("PIN_WRONG", 403)
        assert house.give(pin="8351")["state"] == "open"

    def test_claiming_too_late_oneself_or_what_is_not_there_is_refused(self, house: House) -> None:
        house.give(shares=1)
        for who, code, status in ((ALICE, "PAYEE_IS_SELF", 422), ("@admin:hs1.test", "NOT_IN_ROOM", 403)):
            with pytest.raises(SynapseError) as error:
                house.claim(who)
            assert code_of(error) == (code, status)
        house.claim(CAROL)
        with pytest.raises(SynapseError) as error:
            house.claim(DAVE)
        assert code_of(error) == ("GIFT_GONE", 410)
        with pytest.raises(SynapseError) as error:
            house.call("POST", f"gifts/{OTHER_ID}/claim", DAVE, query={"giver": ALICE})
        assert code_of(error) == ("UNKNOWN_GIFT", 404)
        # Who is not of the room learns nothing of it.
        with pytest.raises(SynapseError) as error:
            house.look("@admin:hs1.test")
        assert code_of(error) == ("UNKNOWN_GIFT", 404)

    def test_a_gift_that_cannot_be_shown_is_not_given(self, house: House) -> None:
        room_id = house.group
        original = house.api.create_and_send_event_into_room

        async def refused(event_dict: dict[str, Any]) -> Any:
            if event_dict["type"] == GIFT:
                raise SynapseError(403, "You may not write here.")
            return await original(event_dict)

        house.api.create_and_send_event_into_room = refused  # type: ignore[method-assign]
        with pytest.raises(SynapseError):
            house.give(room_id=room_id)
        assert house.has(ALICE) == 10_000

    def test_the_end_that_could_not_be_told_is_told_later(self, house: House) -> None:
        house.give(shares=1)
        original = house.api.create_and_send_event_into_room
        failing = [True]

        async def unsure(event_dict: dict[str, Any]) -> Any:
            if event_dict["type"] == END and failing:
                raise SynapseError(500, "The database is away.")
            return await original(event_dict)

        house.api.create_and_send_event_into_room = unsure  # type: ignore[method-assign]
        house.claim(CAROL)
        assert house.sent(house.group, END) == []
        failing.clear()
        house.advance(31)
        assert len(house.sent(house.group, END)) == 1


class TestAcross:
    def give(self, pair: Pair, **fields: Any) -> dict[str, Any]:
        body = {
            "gift_id": ID,
            "room_id": pair.room,
            "amount": 1_000,
            "currency": "EUR",
            "shares": 2,
            "split": "equal",
            **fields,
        }
        answer: dict[str, Any] = pair.hs1.call("POST", "gifts", ALICE, body)
        pair.carry()
        return answer

    def claim(self, pair: Pair, giver: str = ALICE) -> dict[str, Any]:
        return pair.hs2.call("POST", f"gifts/{ID}/claim", BOB, query={"giver": giver})

    def test_somebody_of_another_homeserver_claims_at_theirs_and_has_the_money(self, pair: Pair) -> None:
        self.give(pair)
        answer = self.claim(pair)
        pair.advance(5)
        assert answer["mine"]["amount"] == 500
        assert self.claim(pair)["mine"] == {**answer["mine"], "state": "paid"}
        assert pair.available() == (9_000, 500)
        seen = pair.hs2.call("GET", f"gifts/{ID}", BOB, query={"giver": ALICE})
        assert (seen["left"], seen["claims"][0]["user_id"]) == (500, BOB)
        pair.hs1.call("POST", f"gifts/{ID}/cancel", ALICE)
        pair.assert_books_are_right()
        assert pair.available() == (9_500, 500)

    def test_a_claimers_policy_lets_in_what_they_claim(self, pair: Pair) -> None:
        policy = {"v": 1, "from": ["nobody"], "accept": "ask"}
        pair.hs2.account_data[BOB, "org.superapp.payment.policy"] = policy
        self.give(pair)
        self.claim(pair)
        pair.advance(5)
        assert pair.available() == (9_000, 500)

    def test_who_could_not_be_paid_claims_again_later(self, pair: Pair) -> None:
        self.give(pair)
        freeze = {"reason": "an order"}
        pair.hs2.call("POST", f"admin/accounts/{BOB}/freeze", "@admin:hs2.test", freeze)
        self.claim(pair)
        pair.advance(5)
        # Their homeserver takes no payment for them, so the share is free again.
        assert pair.available() == (9_000, 0)
        assert self.look(pair)["shares_left"] == 2
        pair.hs2.call("POST", f"admin/accounts/{BOB}/unfreeze", "@admin:hs2.test", freeze)
        self.claim(pair)
        pair.advance(5)
        assert pair.available() == (9_000, 500)
        assert self.look(pair)["shares_left"] == 1
        pair.assert_books_are_right()

    def look(self, pair: Pair) -> dict[str, Any]:
        return pair.hs1.call("GET", f"gifts/{ID}", ALICE)

    def test_a_homeserver_that_is_away_is_said_to_be(self, pair: Pair) -> None:
        self.give(pair)
        pair.hs2.reachable.clear()
        with pytest.raises(SynapseError) as error:
            self.claim(pair)
        assert code_of(error) == ("PEER_UNREACHABLE", 502)

    def test_refusals_of_the_givers_homeserver_come_through(self, pair: Pair) -> None:
        with pytest.raises(SynapseError) as error:
            self.claim(pair)
        assert code_of(error) == ("UNKNOWN_GIFT", 404)
        self.give(pair)
        pair.advance(DAY_S + 2)
        with pytest.raises(SynapseError) as error:
            self.claim(pair)
        assert code_of(error) == ("EXPIRED", 410)

    def test_a_homeserver_claims_for_its_own_people_only(self, pair: Pair) -> None:
        self.give(pair)
        carol = pair.hs1.register("carol")
        wanted = {"giver": ALICE, "pot_id": ID, "kind": "gift", "claimer": carol, "payment_id": OTHER_ID}
        for body, code in (
            (wanted, "WRONG_ORIGIN"),
            ({**wanted, "claimer": "nobody"}, "WRONG_ORIGIN"),
            ({**wanted, "claimer": BOB, "giver": "@x:hs2.test"}, "UNKNOWN_GIFT"),
            ({**wanted, "claimer": BOB, "payment_id": None}, "INVALID_VALUE"),
            ({**wanted, "claimer": BOB, "more": 1}, "UNKNOWN_FIELD"),
        ):
            with pytest.raises(PutFailed) as failure:
                pair.hs2.result(pair.hs2.private.put(ServerName("hs1.test"), f"{POTS_PATH}/claim", body, 1_000))
            assert failure.value.errcode == f"ORG.SUPERAPP.{code}"

    def test_an_answer_that_is_no_gift_is_not_believed(self, pair: Pair) -> None:
        async def strange(*_: object) -> dict[str, Any]:
            return {"gift_id": ID, "mine": {"amount": 1, "state": "paid"}}

        pair.hs1.private.put_handlers[POTS_PATH] = strange
        with pytest.raises(SynapseError) as error:
            self.claim(pair)
        assert code_of(error) == ("PEER_UNREACHABLE", 502)


class TestLink:
    def make(self, house: FakeHomeserver, **fields: Any) -> dict[str, Any]:
        body = {"claim_id": ID, "amount": 700, "currency": "EUR", "memo": "welcome", **fields}
        return house.call("POST", "claims", ALICE, body)

    def redeem(self, house: FakeHomeserver, who: str, link: str) -> dict[str, Any]:
        return house.call("POST", "claims/redeem", who, {"link": link})

    def test_whoever_brings_the_link_has_the_money_once(self, house: House) -> None:
        made = self.make(house)
        assert (made["state"], house.has(ALICE)) == ("open", 9_300)
        assert made["link"].startswith("https://hs1.test/superapp/claim/#")
        seen = house.call("POST", "claims/look", CAROL, {"link": made["link"]})
        assert (seen["payer"], seen["amount"], seen["memo"], seen["state"]) == (ALICE, 700, "welcome", "open")
        assert "link" not in seen
        assert self.redeem(house, CAROL, made["link"])["mine"]["state"] == "paid"
        # The bare end of it is enough, and again it is the same.
        assert self.redeem(house, CAROL, made["link"].partition("#")[2])["mine"]["amount"] == 700
        with pytest.raises(SynapseError) as error:
            self.redeem(house, DAVE, made["link"])
        assert code_of(error) == ("GIFT_GONE", 410)
        shown = house.call("GET", f"claims/{ID}", ALICE)
        assert (shown["state"], shown["claimed_by"]) == ("claimed", CAROL)
        (listed,) = house.call("GET", "claims", ALICE)["claims"]
        assert "link" not in listed
        house.assert_books_are_right()

    def test_what_is_no_link_is_refused(self, house: House) -> None:
        for link in ("nonsense", "https://hs1.test/superapp/claim/#AAAA", "#W10", "#WzEsMiwzXQ"):
            with pytest.raises(SynapseError) as error:
                self.redeem(house, CAROL, link)
            assert code_of(error) == ("UNKNOWN_CLAIM", 404)

    def test_who_is_invited_gets_a_plain_message_with_the_link(self, house: House) -> None:
        made = self.make(house, to="@newcomer:elsewhere.test")
        assert made["told"] is True
        assert house.memberships(made["room_id"])["@newcomer:elsewhere.test"] == "invite"
        (message,) = house.sent(made["room_id"], "m.room.message")
        assert message.sender == ALICE
        assert message.content["msgtype"] == "m.text"
        assert made["link"] in message.content["body"]
        assert "7.00" in message.content["body"]
        assert self.make(house, to="@newcomer:elsewhere.test")["event_id"] == message.event_id
        assert len(house.sent(made["room_id"], "m.room.message")) == 1
        # They have registered here under another name, and bring the link.
        assert self.redeem(house, CAROL, made["link"])["mine"]["amount"] == 700

    def test_the_wrong_person_is_refused(self, house: House) -> None:
        made = self.make(house, to=CAROL)
        token = made["link"].partition("#")[2]

        payer, claim_id, _ = json.loads(from_b64(token))
        forged = to_b64(canonical([payer, claim_id, "0" * 32]))
        with pytest.raises(SynapseError) as error:
            self.redeem(house, DAVE, forged)
        assert code_of(error) == ("WRONG_CLAIMER", 403)
        with pytest.raises(SynapseError) as error:
            house.call("POST", "claims/look", DAVE, {"link": forged})
        assert code_of(error) == ("UNKNOWN_CLAIM", 404)
        with pytest.raises(SynapseError) as error:
            self.redeem(house, ALICE, made["link"])
        assert code_of(error) == ("PAYEE_IS_SELF", 422)
        with pytest.raises(SynapseError) as error:
            self.make(house, claim_id=OTHER_ID, to=ALICE)
        assert code_of(error) == ("PAYEE_IS_SELF", 422)
        with pytest.raises(SynapseError) as error:
            self.make(house, claim_id=OTHER_ID, to="carol")
        assert code_of(error) == ("INVALID_VALUE", 422)

    def test_its_time_is_the_payers_and_cancelling_takes_it_back(self, house: House) -> None:
        made = self.make(house, expires_ms=house.now_ms() + 60_000)
        house.advance(59)
        assert house.call("POST", "claims/look", CAROL, {"link": made["link"]})["state"] == "open"
        house.advance(2)
        with pytest.raises(SynapseError) as error:
            self.redeem(house, CAROL, made["link"])
        assert code_of(error) == ("EXPIRED", 410)
        assert house.has(ALICE) == 10_000
        other = self.make(house, claim_id=OTHER_ID)
        assert house.call("POST", f"claims/{OTHER_ID}/cancel", ALICE)["state"] == "cancelled"
        with pytest.raises(SynapseError) as error:
            self.redeem(house, CAROL, other["link"])
        assert code_of(error) == ("CANCELLED", 410)
        with pytest.raises(SynapseError) as error:
            self.make(house, claim_id="c" * 32, expires_ms=house.now_ms() - 1)
        assert code_of(error) == ("INVALID_VALUE", 422)

    def test_one_is_claimed_at_another_homeserver(self, pair: Pair) -> None:
        made = self.make(pair.hs1, to=BOB)
        assert pair.hs2.call("POST", "claims/look", BOB, {"link": made["link"]})["amount"] == 700
        self.redeem(pair.hs2, BOB, made["link"])
        pair.advance(5)
        assert self.redeem(pair.hs2, BOB, made["link"])["mine"]["state"] == "paid"
        assert pair.available() == (9_300, 700)
        pair.assert_books_are_right()
