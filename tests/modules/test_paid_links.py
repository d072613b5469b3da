"""A price in a link into a call: confirmed before one comes in, paid by the second, between two homeservers."""

from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeRoom
from fake_livekit import FakeLiveKit
from synapse.module_api.errors import SynapseError
from test_conferences import config_of, sfu_get
from test_paid_calls import CAROL, ID, OTHER_ID, CallingPair, House, code_of
from test_payments_pair import ALICE, BOB, POLICY

from super_app.ids import ServerName
from super_app.names import FARES_PATH

MEMBER, LINK, ROLES = "org.matrix.msc3401.call.member", "org.superapp.call.link", "org.superapp.call.roles"
PRICE = {"amount": 60, "currency": "EUR"}


class LinkPair(CallingPair):
    """bob on hs2 has a link into a call, for 0.60 a minute; alice on hs1 comes by it."""

    def __init__(self, **more: Any) -> None:
        super().__init__()
        self.hs2.account_data[(BOB, POLICY)] = {"v": 1, "accept": "ask"}
        made = self.hs2.call("POST", "call_links", BOB, {"title": "Hour", "price": PRICE, **more})
        self.link, self.room = made["link"], made["room_id"]
        self.hs1.rooms[self.room] = FakeRoom()
        self.carry()

    def pay(self, **fields: Any) -> dict[str, Any]:
        body = {"fare_id": ID, "link": self.link, **PRICE, **fields}
        answer: dict[str, Any] = self.call(self.hs1, "POST", "paid_calls", "alice", body)
        return answer

    def knock(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.hs1.call("POST", f"call_links/{self.link}/join", ALICE)
        self.carry()
        if answer["state"] == "joined":
            # Events are carried without their order: the invitation may have come after the join that answers it.
            self.hs1.set_state(self.room, ALICE, "m.room.member", ALICE, {"membership": "join"})
            self.carry()
        return answer

    def come(self, device: str = "A") -> None:
        """Into the call itself, as a device says it."""
        content = {"application": "m.call", "device_id": device}
        self.hs1.send(ALICE, self.room, MEMBER, content, state_key=f"_{ALICE}_{device}")
        self.carry()

    def go(self, device: str = "A") -> None:
        self.hs1.send(ALICE, self.room, MEMBER, {}, state_key=f"_{ALICE}_{device}")
        self.carry()

    def settle(self) -> None:
        for _ in range(8):
            self.advance(1)
            self.carry()

    def left_by(self) -> list[str]:
        return [event.sender for event in self.hs1.sent(self.room, MEMBER) if not event.content]


@pytest.fixture
def pair() -> LinkPair:
    return LinkPair()


class TestBetweenTwoHomeservers:
    def test_the_price_is_shown_and_nobody_comes_in_before_they_confirm_it(self, pair: LinkPair) -> None:
        assert pair.hs1.call("GET", f"call_links/{pair.link}", ALICE)["price"] == PRICE
        with pytest.raises(SynapseError) as error:
            pair.knock()
        assert code_of(error) == ("PRICE_NOT_CONFIRMED", 402)
        said = error.value.error_dict(None)
        assert (said["amount"], said["currency"], said["per"]) == (60, "EUR", "minute")
        assert ALICE not in pair.hs2.memberships(pair.room)

    def test_it_is_paid_by_the_second_from_coming_in_to_leaving(self, pair: LinkPair) -> None:
        agreed = pair.pay()
        assert (agreed["state"], agreed["aside"], agreed["link"], agreed["callee"]) == ("agreed", 180, pair.link, BOB)
        assert pair.pay() == agreed, "the same again changes nothing"
        assert pair.knock()["room_id"] == pair.room
        pair.talk(40)
        assert pair.fare()["state"] == "agreed", "who is only in the room is not in the call"
        pair.come()
        pair.talk(64)
        assert pair.hs2.call("GET", "wallet", BOB)["accounts"][0]["available"] == 60
        pair.talk(10)
        pair.go()
        pair.settle()
        ended = pair.fare()
        assert (ended["state"], ended["aside"], ended["room_id"]) == ("ended", 0, pair.room), ended
        assert 73 <= ended["paid"] <= 76
        assert pair.available() == (10_000 - ended["paid"], ended["paid"])
        pair.assert_books_are_right()

    def test_who_is_in_the_room_already_is_let_into_the_call_only_for_a_confirmed_price(self, pair: LinkPair) -> None:
        pair.pay()
        pair.knock()
        pair.come()
        pair.talk(2)
        pair.go()
        pair.settle()
        with pytest.raises(SynapseError) as error:
            pair.come()
        assert code_of(error) == ("PRICE_NOT_CONFIRMED", 402)
        asks = pair.hs1.call("GET", f"call_rooms/{pair.room}", ALICE)["asks"]
        assert asks == {**PRICE, "payee": BOB, "link": pair.link}
        assert pair.pay(fare_id=OTHER_ID)["state"] == "agreed"
        assert pair.hs1.call("GET", f"call_rooms/{pair.room}", ALICE).get("asks") is None
        pair.come()
        pair.talk(3)
        assert pair.hs1.call("GET", f"paid_calls/{OTHER_ID}", ALICE)["state"] == "running"

    def test_it_ends_politely_when_what_was_confirmed_is_used_up(self, pair: LinkPair) -> None:
        pair.pay(minutes=1)
        pair.knock()
        pair.come()
        pair.come("B")
        pair.talk(57)
        assert pair.left_by() == []
        pair.settle()
        assert pair.left_by() == [ALICE, ALICE], "both devices say that they left"
        pair.settle()
        assert (pair.fare()["reason"], pair.fare()["state"]) == ("used_up", "ended")
        assert pair.available() == (9_940, 60)
        assert pair.hs1.memberships(pair.room)[ALICE] == "join", "they may go on writing"
        pair.assert_books_are_right()

    def test_a_price_that_rises_between_confirmation_and_coming_in_keeps_them_out_and_costs_nothing(
        self, pair: LinkPair
    ) -> None:
        pair.pay()
        pair.knock()
        (terms,) = pair.hs2.sent(pair.room, LINK)
        dearer = {**terms.get_dict()["content"], "price": {**PRICE, "amount": 90, "payee": BOB}}
        pair.hs2.send(BOB, pair.room, LINK, dearer, state_key="")
        pair.carry()
        with pytest.raises(SynapseError) as error:
            pair.come()
        assert (code_of(error), error.value.error_dict(None)["amount"]) == (("PRICE_NOT_CONFIRMED", 402), 90)
        assert pair.hs1.call("POST", f"paid_calls/{ID}/cancel", ALICE)["state"] == "ended"
        assert pair.available() == (10_000, 0)

    def test_one_that_rises_while_somebody_is_in_the_call_does_not_concern_them(self, pair: LinkPair) -> None:
        pair.pay()
        pair.knock()
        pair.come()
        pair.talk(3)
        (terms,) = pair.hs2.sent(pair.room, LINK)
        dearer = {**terms.get_dict()["content"], "price": {**PRICE, "amount": 6_000, "payee": BOB}}
        pair.hs2.send(BOB, pair.room, LINK, dearer, state_key="")
        pair.carry()
        pair.come()
        pair.talk(7)
        pair.go()
        pair.settle()
        assert 9 <= pair.fare()["paid"] <= 12

    @pytest.mark.parametrize("wrong", [{"amount": 59}, {"amount": 61}])
    def test_another_price_than_the_one_that_stands_sets_nothing_aside(
        self, pair: LinkPair, wrong: dict[str, int]
    ) -> None:
        with pytest.raises(SynapseError) as error:
            pair.pay(**wrong)
        assert (code_of(error), error.value.error_dict(None)["amount"]) == (("PRICE_CHANGED", 409), 60)
        assert pair.available() == (10_000, 0)

    def test_it_is_for_a_ring_or_for_a_link_and_for_the_link_that_was_named(self, pair: LinkPair) -> None:
        with pytest.raises(SynapseError) as error:
            pair.pay(callee=BOB)
        assert code_of(error) == ("INVALID_VALUE", 422)
        with pytest.raises(SynapseError) as error:
            pair.pay(link=f"{'f' * 32}@hs2.test")
        assert code_of(error) == ("UNKNOWN_CALL_LINK", 404)
        pair.pay()
        with pytest.raises(SynapseError) as error:
            pair.pay(minutes=2)
        assert code_of(error) == ("CONFLICT", 409)

    def test_who_waits_in_vain_has_their_money_back_after_half_an_hour(self) -> None:
        pair = LinkPair(waiting_room=True)
        pair.pay()
        assert pair.knock() == {"state": "waiting"}
        pair.advance(1_799)
        assert pair.fare()["state"] == "agreed"
        pair.advance(40)
        assert (pair.fare()["state"], pair.fare()["reason"]) == ("ended", "expired")
        assert pair.available() == (10_000, 0)

    def test_whom_a_host_admits_is_charged_from_when_they_come_in(self) -> None:
        pair = LinkPair(waiting_room=True)
        pair.pay()
        pair.knock()
        pair.advance(200)
        pair.hs2.call("POST", f"call_links/{pair.link}/admit", BOB, {"user_id": ALICE})
        pair.carry()
        pair.knock()
        pair.come()
        pair.talk(30)
        pair.go()
        pair.settle()
        assert 29 <= pair.fare()["paid"] <= 32
        pair.assert_books_are_right()

    def test_whom_a_host_turned_away_hears_that_and_of_no_price(self) -> None:
        pair = LinkPair(waiting_room=True)
        pair.hs2.call("POST", f"call_links/{pair.link}/turn_away", BOB, {"user_id": ALICE})
        with pytest.raises(SynapseError) as error:
            pair.knock()
        assert code_of(error) == ("TURNED_AWAY", 403)

    def test_a_restart_in_the_middle_charges_what_was_used(self, pair: LinkPair) -> None:
        pair.pay()
        pair.knock()
        pair.come()
        pair.talk(20)
        # It goes down, and they leave when it is there again.
        pair.hs1.restart()
        pair.talk(10)
        pair.go()
        pair.settle()
        assert (pair.fare()["state"], 29 <= pair.fare()["paid"] <= 33) == ("ended", True), pair.fare()
        pair.assert_books_are_right()

    def test_a_membership_that_nobody_renews_is_charged_to_its_end(self, pair: LinkPair) -> None:
        pair.pay()
        pair.knock()
        content = {"application": "m.call", "device_id": "A", "expires": 25_000}
        pair.hs1.send(ALICE, pair.room, MEMBER, content, state_key=f"_{ALICE}_A")
        pair.carry()
        pair.talk(40)
        pair.settle()
        assert (pair.fare()["state"], pair.fare()["paid"]) == ("ended", 25)

    def test_who_leaves_the_room_has_left_the_call(self, pair: LinkPair) -> None:
        pair.pay()
        pair.knock()
        pair.come()
        pair.talk(15)
        pair.hs1.set_state(pair.room, ALICE, "m.room.member", ALICE, {"membership": "leave"})
        pair.carry()
        pair.talk(20)
        pair.settle()
        assert (pair.fare()["state"], 15 <= pair.fare()["paid"] <= 17) == ("ended", True), pair.fare()

    def test_who_does_not_pay_is_shown_out_by_the_homeserver_of_the_link(self, pair: LinkPair) -> None:
        pair.pay()
        pair.knock()
        pair.come()
        pair.talk(2)
        pair.hs1.suspend()
        for _ in range(17):
            pair.hs2.advance(10)
        assert pair.hs2.memberships(pair.room)[ALICE] == "join"
        for _ in range(2):
            pair.hs2.advance(10)
        assert pair.hs2.memberships(pair.room)[ALICE] == "leave"

    def test_whom_another_homeserver_lets_in_unpaid_is_shown_out_at_once(self, pair: LinkPair) -> None:
        mallory = "@mallory:hs3.test"
        pair.hs2.set_state(pair.room, BOB, "m.room.member", mallory, {"membership": "join"})
        pair.hs2.receive(mallory, pair.room, MEMBER, {"application": "m.call"}, state_key=f"_{mallory}_M")
        pair.hs2.advance(3)
        assert pair.hs2.memberships(pair.room)[mallory] == "leave"

    def test_a_price_that_was_confirmed_anew_is_the_only_one_that_is_charged(self, pair: LinkPair) -> None:
        pair.pay()
        pair.knock()
        (terms,) = pair.hs2.sent(pair.room, LINK)
        dearer = {**terms.get_dict()["content"], "price": {**PRICE, "amount": 90, "payee": BOB}}
        pair.hs2.send(BOB, pair.room, LINK, dearer, state_key="")
        pair.carry()
        pair.pay(fare_id=OTHER_ID, amount=90)
        assert pair.fare()["state"] == "ended"
        pair.come()
        pair.talk(20)
        pair.go()
        pair.settle()
        assert 28 <= pair.available()[1] <= 34
        pair.assert_books_are_right()

    @pytest.mark.parametrize("rest", [None, {"title": "Hour"}], ids=["link deleted", "price taken off"])
    def test_what_costs_nothing_any_more_is_not_charged(self, pair: LinkPair, rest: dict[str, Any] | None) -> None:
        pair.pay()
        pair.knock()
        (terms,) = pair.hs2.sent(pair.room, LINK)
        free = {} if rest is None else {"link_id": terms.get_dict()["content"]["link_id"], **rest}
        pair.hs2.send(BOB, pair.room, LINK, free, state_key="")
        pair.carry()
        pair.come()
        pair.talk(10)
        pair.go()
        pair.settle()
        pair.advance(1_830)
        assert pair.available() == (10_000, 0)

    def test_no_other_homeserver_says_which_room_is_paid_for(self, pair: LinkPair) -> None:
        # alice is in the call of another room, which costs nothing.
        other = pair.hs1.room(ALICE)
        pair.hs1.send(ALICE, other, MEMBER, {"application": "m.call"}, state_key=f"_{ALICE}_A")
        pair.pay()
        pair.hs1.call("GET", f"call_rooms/{other}", ALICE)
        pair.advance(20)
        assert (pair.fare()["state"], pair.fare().get("room_id")) == ("agreed", None)

    def test_whose_homeserver_says_that_they_left_and_who_stays_is_shown_out(self, pair: LinkPair) -> None:
        pair.pay()
        pair.knock()
        pair.come()
        pair.talk(2)
        pair.hs1.suspend()
        body = {"caller": ALICE, "callee": BOB, "fare_id": ID}
        handler = pair.hs2.private.put_handlers[FARES_PATH]
        pair.hs2.result(handler(ServerName("hs1.test"), "ended", body))
        for _ in range(7):
            pair.hs2.advance(10)
        assert pair.hs2.memberships(pair.room)[ALICE] == "leave"

    def test_in_a_dry_run_nobody_is_shown_out(self, pair: LinkPair) -> None:
        pair.hs2.module.runtime.rollout.dry_run = True
        mallory = "@mallory:hs3.test"
        pair.hs2.set_state(pair.room, BOB, "m.room.member", mallory, {"membership": "join"})
        pair.hs2.receive(mallory, pair.room, MEMBER, {"application": "m.call"}, state_key=f"_{mallory}_M")
        pair.hs2.advance(3)
        assert pair.hs2.memberships(pair.room)[mallory] == "join"

    def test_hosts_come_in_for_nothing(self, pair: LinkPair) -> None:
        pair.hs2.send(BOB, pair.room, MEMBER, {"application": "m.call"}, state_key=f"_{BOB}_B")
        assert pair.hs2.call("GET", f"call_rooms/{pair.room}", BOB).get("asks") is None
        (roles,) = pair.hs2.sent(pair.room, ROLES)
        pair.hs2.send(BOB, pair.room, ROLES, {**roles.get_dict()["content"], "hosts": [BOB, ALICE]}, state_key="")
        pair.carry()
        pair.knock()
        pair.come()
        assert pair.hs2.memberships(pair.room)[ALICE] == "join"
        pair.talk(5)
        assert pair.available() == (10_000, 0)

    def test_what_is_confirmed_for_a_link_lets_nobody_ring_and_a_ring_lets_nobody_in(self, pair: LinkPair) -> None:
        pair.hs2.account_data[(BOB, "org.superapp.call.policy")] = {
            "v": 1,
            "who": ["nobody"],
            "price": {**PRICE, "per": "minute"},
        }
        pair.pay()
        direct = pair.hs1.room(ALICE, BOB)
        with pytest.raises(SynapseError) as error:
            pair.hs1.send(ALICE, direct, "org.superapp.call.ring", {"call_id": "c", "media": "audio"})
        assert code_of(error) == ("PRICE_NOT_CONFIRMED", 402)
        pair.hs1.call("POST", f"paid_calls/{ID}/cancel", ALICE)
        # The price of a ring is confirmed; the link still asks for its own.
        body = {"fare_id": OTHER_ID, "callee": BOB, **PRICE}
        assert pair.hs1.call("POST", "paid_calls", ALICE, body)["state"] == "agreed"
        pair.advance(1_900)
        with pytest.raises(SynapseError) as error:
            pair.knock()
        assert code_of(error) == ("PRICE_NOT_CONFIRMED", 402)

    def test_a_closed_call_sets_nothing_aside(self) -> None:
        opens = 1_800_000_000_000
        pair = LinkPair(opens_ts=opens)
        with pytest.raises(SynapseError) as error:
            pair.pay()
        assert (code_of(error), error.value.error_dict(None)["opens_ts"]) == (("CALL_CLOSED", 403), opens)
        assert pair.available() == (10_000, 0)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(calls={"livekit": config_of(tmp_path)["calls"]["livekit"]})


class TestOnOneHomeserver:
    """alice pays carol of the same homeserver, through its own SFU."""

    def made(self, house: House, **more: Any) -> dict[str, Any]:
        return house.call("POST", "call_links", CAROL, {"title": "Hour", "price": PRICE, **more})

    def pay(self, house: House, link: str, **more: Any) -> dict[str, Any]:
        return house.call("POST", "paid_calls", ALICE, {"fare_id": ID, "link": link, **PRICE, **more})

    def test_no_token_without_a_confirmed_price_and_out_of_the_sfu_when_it_is_used_up(self, house: House) -> None:
        sfu = FakeLiveKit(house)
        made = self.made(house)
        room = made["room_id"]
        house.set_state(room, CAROL, "m.room.member", ALICE, {"membership": "join"})
        with pytest.raises(SynapseError) as error:
            sfu_get(house, ALICE, room)
        assert (error.value.code, "60 minor units of EUR a minute" in error.value.msg) == (403, True)
        hers = sfu.enter(sfu_get(house, CAROL, room))
        self.pay(house, made["link"], minutes=1)
        his = sfu.enter(sfu_get(house, ALICE, room))
        house.advance(30)
        assert sfu.people() == {hers, his}
        # Who is connected is in the call, whatever they say in the room.
        assert house.fare()["state"] == "running"
        for _ in range(36):
            house.advance(1)
        assert sfu.people() == {hers}
        assert (house.fare()["reason"], house.has(CAROL)) == ("used_up", 60)
        with pytest.raises(SynapseError):
            sfu_get(house, ALICE, room)
        house.assert_books_are_right()

    def test_who_was_invited_by_hand_pays_as_well(self, house: House) -> None:
        made = self.made(house)
        self.pay(house, made["link"])
        house.set_state(made["room_id"], CAROL, "m.room.member", ALICE, {"membership": "join"})
        house.send(ALICE, made["room_id"], MEMBER, {"application": "m.call"}, state_key=f"_{ALICE}_A")
        house.advance(30)
        assert (house.fare()["state"], house.fare()["cost"] >= 29) == ("running", True)

    def test_who_has_come_in_takes_nothing_back_though_the_meter_has_not_looked_yet(self, house: House) -> None:
        made = self.made(house)
        self.pay(house, made["link"])
        house.call("POST", f"call_links/{made['link']}/join", ALICE)
        house.send(ALICE, made["room_id"], MEMBER, {"application": "m.call"}, state_key=f"_{ALICE}_A")
        with pytest.raises(SynapseError) as error:
            house.call("POST", f"paid_calls/{ID}/cancel", ALICE)
        assert code_of(error) == ("ALREADY_DECIDED", 409)
        house.advance(30)
        assert (house.fare()["state"], house.fare()["cost"] >= 29) == ("running", True)

    def test_who_takes_it_back_when_the_gate_has_let_them_pass_is_taken_out_of_the_call(self, house: House) -> None:
        made = self.made(house)
        room = made["room_id"]
        self.pay(house, made["link"])
        house.call("POST", f"call_links/{made['link']}/join", ALICE)
        assert house.call("POST", f"paid_calls/{ID}/cancel", ALICE)["state"] == "ended"
        # The gate has passed it before; it is stored only now.
        house.set_state(room, ALICE, MEMBER, f"_{ALICE}_A", {"application": "m.call"})
        house.advance(3)
        assert [event.content for event in house.sent(room, MEMBER)][-1] == {}
        assert house.has(ALICE) == 10_000

    def test_a_token_of_the_sfu_is_void_when_the_price_was_taken_back(self, house: House) -> None:
        sfu = FakeLiveKit(house)
        made = self.made(house)
        self.pay(house, made["link"])
        house.call("POST", f"call_links/{made['link']}/join", ALICE)
        token = sfu_get(house, ALICE, made["room_id"])
        house.advance(1)
        house.call("POST", f"paid_calls/{ID}/cancel", ALICE)
        house.advance(1)
        sfu.enter(token)
        house.advance(3)
        assert sfu.people() == set()

    def test_it_is_listed_with_its_price_and_paid_within_a_homeserver(self, house: House) -> None:
        made = self.made(house)
        assert house.call("GET", "call_links", CAROL)["links"][0]["price"] == PRICE
        self.pay(house, made["link"])
        house.call("POST", f"call_links/{made['link']}/join", ALICE)
        house.send(ALICE, made["room_id"], MEMBER, {"application": "m.call"}, state_key=f"_{ALICE}_A")
        house.advance(90)
        house.send(ALICE, made["room_id"], MEMBER, {}, state_key=f"_{ALICE}_A")
        house.advance(3)
        fare = house.fare()
        assert (fare["state"], 89 <= fare["paid"] <= 91, fare["aside"]) == ("ended", True, 0), fare
        assert (house.has(ALICE), house.has(CAROL)) == (10_000 - fare["paid"], fare["paid"])
        house.assert_books_are_right()

    @pytest.mark.parametrize(
        ("price", "reason"),
        [
            ({"amount": 60, "currency": "XXX"}, "UNKNOWN_CURRENCY"),
            ({"amount": 10**14, "currency": "EUR"}, "INVALID_VALUE"),
            ({"amount": 0, "currency": "EUR"}, "INVALID_VALUE"),
        ],
    )
    def test_a_price_that_nobody_could_pay_makes_no_link(
        self, house: House, price: dict[str, Any], reason: str
    ) -> None:
        with pytest.raises(SynapseError) as error:
            self.made(house, price=price)
        assert code_of(error)[0] == reason
        assert house.call("GET", "call_links", CAROL)["links"] == []

    def test_more_than_one_has_is_refused_and_nobody_is_let_in(self, house: House) -> None:
        made = self.made(house, price={"amount": 5_000, "currency": "EUR"})
        with pytest.raises(SynapseError) as error:
            house.call(
                "POST", "paid_calls", ALICE, {"fare_id": ID, "link": made["link"], "amount": 5_000, "currency": "EUR"}
            )
        assert code_of(error) == ("INSUFFICIENT_FUNDS", 402)
        with pytest.raises(SynapseError) as error:
            house.call("POST", f"call_links/{made['link']}/join", ALICE)
        assert code_of(error) == ("PRICE_NOT_CONFIRMED", 402)
