"""The assistant on a fake homeserver: who it is, what it hears, and what it does through the client API."""

from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.module_api.errors import SynapseError

from super_app.names import CARD_KEY

SERVER = "hs1.test"
ASSISTANT = f"@assistant:{SERVER}"
CONFIG: dict[str, Any] = {
    "features": {"assistant": True},
    "payments": {
        "mode": "custodial",
        "assets": [{"code": "EUR"}],
        "acknowledge": {"operator": "nobody", "licence": "none"},
    },
    "directory": {"existing_users": {"discover": "public"}, "new_users": {"discover": "public"}},
}


class Town(FakeHomeserver):
    """A homeserver with alice, bob and money, and ways to talk to the assistant."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(SERVER, config=config or CONFIG)
        self.register("admin", admin=True)
        for name in ("alice", "bob"):
            self.register(name)
        self.start()
        self.advance(2)
        for name in ("alice", "bob"):
            self.issue(f"@{name}:{SERVER}")

    def issue(self, user_id: str) -> None:
        body = {"user_id": user_id, "amount": 10_000, "currency": "EUR", "reference": f"opening {user_id}"}
        self.call("POST", "admin/issue", f"@admin:{SERVER}", body)

    def own_room(self, user_id: str) -> str:
        """The room in which the assistant and somebody talk."""
        rows = self.query("SELECT room_id FROM superapp_assistant_room WHERE user_id = ? AND own = 1", user_id)
        assert rows, f"the assistant has no room with {user_id}"
        return str(rows[0][0])

    def meet(self, user_id: str) -> str:
        """Write to the assistant for the first time, as from a client: in a room that the person makes."""
        room = self.room(user_id, invited=(ASSISTANT,))
        self.advance(4)
        assert self.memberships(room)[ASSISTANT] == "join"
        assert self.own_room(user_id) == room
        return room

    def heard(self, user_id: str) -> list[dict[str, Any]]:
        """What the assistant has said to somebody, oldest first."""
        room = self.own_room(user_id)
        sent = self.sent(room, "m.room.message")
        return [event.get_dict()["content"] for event in sent if event.sender == ASSISTANT]

    def tell(self, user_id: str, text: str, *, wait_s: float = 4, reply_to: str | None = None) -> str:
        """Say something to the assistant and give its answer."""
        before = len(self.heard(user_id))
        content: dict[str, Any] = {"msgtype": "m.text", "body": text}
        if reply_to is not None:
            content["m.relates_to"] = {"m.in_reply_to": {"event_id": reply_to}}
        self.send(user_id, self.own_room(user_id), "m.room.message", content)
        self.advance(wait_s)
        said = self.heard(user_id)[before:]
        return "\n".join(each["body"] for each in said)

    def available(self, user_id: str) -> int:
        return int(self.call("GET", "wallet", user_id)["accounts"][0]["available"])


@pytest.fixture
def town() -> Town:
    return Town()


ALICE, BOB = f"@alice:{SERVER}", f"@bob:{SERVER}"


# Who it is.


def test_the_account_is_made_once_and_found_again(town: Town) -> None:
    assert ASSISTANT in town.users
    town.restart()
    town.advance(2)
    town.meet(ALICE)
    assert "100.00" in town.tell(ALICE, "balance")


def test_an_account_of_that_name_that_is_somebodys_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    homeserver = FakeHomeserver(SERVER, config=CONFIG)
    somebody = homeserver.register("assistant")
    alice = homeserver.register("alice")
    homeserver.start()
    lines = [
        each.message for each in caplog.records if "assistant" in each.message.casefold() and each.levelname == "ERROR"
    ]
    assert len(lines) == 1
    assert "assistant.localpart" in lines[0]
    room = homeserver.room(alice, invited=(somebody,))
    homeserver.send(alice, room, "m.room.message", {"msgtype": "m.text", "body": "!balance"})
    homeserver.advance(10)
    assert homeserver.memberships(room)[somebody] == "invite"
    assert homeserver.query("SELECT * FROM superapp_assistant_task") == []


def test_existing_people_are_not_written_to(town: Town) -> None:
    town.advance(60)
    assert town.query("SELECT * FROM superapp_assistant_room") == []


def test_who_registers_is_greeted_with_their_handle_and_three_things_to_try(town: Town) -> None:
    carol = town.register_as_synapse("carol")
    town.advance(10)
    (greeting,) = town.heard(carol)
    assert carol in greeting["body"]
    assert greeting["body"].count("• ") == 3
    assert greeting["msgtype"] == "m.notice"
    assert town.memberships(town.own_room(carol)) == {ASSISTANT: "join", carol: "join"}
    assert town.account_data[carol, "m.direct"][ASSISTANT] == [town.own_room(carol)]
    assert ("m.room.encryption", "") not in town.rooms[town.own_room(carol)].state


# What it hears.


def test_written_to_in_an_encrypted_room_it_answers_with_a_room_of_its_own(town: Town) -> None:
    room = town.room(ALICE, invited=(ASSISTANT,), encrypted=True)
    town.advance(5)
    own = town.own_room(ALICE)
    assert own != room
    assert town.memberships(own)[ALICE] == "join"
    pointing = [event for event in town.sent(room, "m.room.message") if event.sender == ASSISTANT]
    assert "encrypted" in pointing[0].content["body"]
    before = len(town.heard(ALICE))
    town.send(ALICE, room, "m.room.encrypted", {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x"})
    town.advance(5)
    assert len(town.heard(ALICE)) == before + 1


def test_a_message_is_answered_once_however_often_it_is_handed_over(town: Town) -> None:
    town.meet(ALICE)
    town.tell(ALICE, "balance")
    before = len(town.heard(ALICE))
    town.query("UPDATE superapp_follower SET position = 0")
    town.restart()
    town.advance(10)
    assert len(town.heard(ALICE)) == before


def test_notices_edits_and_strangers_are_not_answered(town: Town) -> None:
    town.meet(ALICE)
    room = town.own_room(ALICE)
    before = len(town.heard(ALICE))
    town.send(ALICE, room, "m.room.message", {"msgtype": "m.notice", "body": "balance"})
    edit = {"rel_type": "m.replace", "event_id": "$x"}
    town.send(ALICE, room, "m.room.message", {"msgtype": "m.text", "body": "balance", "m.relates_to": edit})
    town.set_state(room, ASSISTANT, "m.room.member", "@eve:elsewhere.test", {"membership": "join"})
    town.receive("@eve:elsewhere.test", room, "m.room.message", {"msgtype": "m.text", "body": "!balance"})
    town.advance(10)
    assert len(town.heard(ALICE)) == before


def test_who_floods_is_told_once_and_then_not_heard(town: Town) -> None:
    town.meet(ALICE)
    room, before = town.own_room(ALICE), len(town.heard(ALICE))
    for _ in range(40):
        town.send(ALICE, room, "m.room.message", {"msgtype": "m.text", "body": "help"})
    town.advance(5)
    said = [each["body"] for each in town.heard(ALICE)[before:]]
    assert len(said) <= 23
    assert sum("a lot at once" in each for each in said) == 1


def test_nothing_that_somebody_wrote_is_echoed_as_html(town: Town) -> None:
    town.meet(ALICE)
    town.tell(ALICE, "find <img/src=x>&co")
    (answer,) = [each for each in town.heard(ALICE) if "nobody called" in each["body"]]
    assert "<img" in answer["body"]
    assert "<img" not in answer["formatted_body"]
    assert "&lt;img/src=x&gt;&amp;co" in answer["formatted_body"]


def test_ordinary_messages_are_not_picked_by_the_follower(town: Town) -> None:
    town.meet(ALICE)
    room = town.room(ALICE, BOB)
    before = town.query("SELECT COUNT(*) FROM superapp_assistant_task")
    town.send(ALICE, room, "m.room.message", {"msgtype": "m.text", "body": "balance"})
    town.send(ALICE, room, "m.room.message", {"msgtype": "m.text", "body": "!unrelated bot command"})
    town.advance(5)
    assert town.query("SELECT COUNT(*) FROM superapp_assistant_task") == before


# Paying.


def test_somebody_new_is_paid_after_a_yes_and_ten_seconds(town: Town) -> None:
    town.meet(ALICE)
    asked = town.tell(ALICE, "pay @bob 5,50 € lunch")
    assert BOB in asked
    assert "5.50" in asked
    assert "lunch" in asked
    soon = town.tell(ALICE, "yes")
    assert "10 seconds" in soon
    assert town.available(BOB) == 10_000
    town.advance(12)
    assert town.available(BOB) == 10_550
    assert "Paid" in town.heard(ALICE)[-1]["body"]


def test_who_is_known_is_not_confirmed_again_but_can_be_undone(town: Town) -> None:
    town.meet(ALICE)
    town.call("PUT", "contacts/bob", ALICE)
    assert "10 seconds" in town.tell(ALICE, "pay @bob 5")
    assert "Stopped" in town.tell(ALICE, "undo")
    town.advance(30)
    assert town.available(BOB) == 10_000
    town.tell(ALICE, "pay bob 7")
    town.advance(12)
    assert town.available(BOB) == 10_700


def test_a_no_pays_nothing(town: Town) -> None:
    town.meet(ALICE)
    town.tell(ALICE, "pay @bob 5")
    town.tell(ALICE, "no")
    assert "did not understand" in town.tell(ALICE, "yes")
    town.advance(30)
    assert town.available(BOB) == 10_000


def test_an_order_survives_a_restart_and_is_paid_once(town: Town) -> None:
    town.meet(ALICE)
    town.call("PUT", "contacts/bob", ALICE)
    town.tell(ALICE, "pay @bob 5")
    town.restart()
    town.advance(20)
    assert town.available(BOB) == 10_500
    town.query("UPDATE superapp_assistant_task SET due_ms = 1 WHERE kind = 'order'")
    town.advance(20)
    assert town.available(BOB) == 10_500


def test_what_cannot_be_paid_is_said_with_what_to_do(town: Town) -> None:
    town.meet(ALICE)
    town.call("PUT", "contacts/bob", ALICE)
    town.tell(ALICE, "pay @bob 500 EUR")
    town.advance(12)
    said = town.heard(ALICE)[-1]["body"]
    assert "was not paid" in said
    assert "100.00" in said
    assert "1234.50" in town.tell(ALICE, "pay @bob 1.234")
    assert "EUR" in town.tell(ALICE, "pay @bob 5 USD")
    assert "nobody called" in town.tell(ALICE, "pay @nobodyhere 5")
    assert "That is you" in town.tell(ALICE, f"pay {ALICE} 5", wait_s=6) + town.tell(ALICE, "yes", wait_s=15)


def test_in_another_room_an_order_with_a_mark_means_the_other_person(town: Town) -> None:
    town.meet(ALICE)
    town.call("PUT", "contacts/bob", ALICE)
    room = town.room(ALICE, BOB)
    town.send(ALICE, room, "m.room.message", {"msgtype": "m.text", "body": "!pay 3 coffee"})
    town.advance(15)
    assert town.available(BOB) == 10_300
    (payment,) = town.sent(room, "org.superapp.payment")
    assert payment.content["memo"] == "coffee"
    assert "Paid" in town.heard(ALICE)[-1]["body"]
    assert [event for event in town.sent(room, "m.room.message") if event.sender == ASSISTANT] == []


# What happened meanwhile.


def test_being_paid_notifies_with_a_link_to_the_place(town: Town) -> None:
    room = town.room(ALICE, BOB)
    order = {"payment_id": "ab" * 16, "payee": BOB, "amount": 500, "currency": "EUR", "memo": "thanks"}
    town.send(ALICE, room, "org.superapp.payment", order)
    town.advance(10)
    (told,) = town.heard(BOB)
    assert told["msgtype"] == "m.text"
    assert ALICE in told["body"]
    assert "thanks" in told["body"]
    assert "https://matrix.to/#/" in told["body"]
    assert told[CARD_KEY]["payment_id"] == "ab" * 16
    assert town.query("SELECT * FROM superapp_assistant_room WHERE user_id = ?", ALICE) == []


def test_who_wants_to_be_asked_accepts_or_declines_by_replying(town: Town) -> None:
    town.account_data[BOB, "org.superapp.payment.policy"] = {"v": 1, "accept": "ask"}
    room = town.room(ALICE, BOB)
    for number in ("aa", "bb"):
        order = {"payment_id": number * 16, "payee": BOB, "amount": 500, "currency": "EUR"}
        town.send(ALICE, room, "org.superapp.payment", order)
        town.advance(10)
    first, second = town.heard(BOB)
    assert "accept" in first["body"]
    sent = town.sent(town.own_room(BOB), "m.room.message")
    assert "took" in town.tell(BOB, "accept", reply_to=sent[0].event_id)
    assert town.available(BOB) == 10_500
    assert "goes back" in town.tell(BOB, "decline")
    assert town.call("GET", "payments/" + second[CARD_KEY]["payment_id"], ALICE)["state"] == "declined"
    assert "nothing that waits" in town.tell(BOB, "accept")
    assert "did not take" in town.heard(ALICE)[-1]["body"]


def test_several_that_wait_are_numbered(town: Town) -> None:
    town.account_data[BOB, "org.superapp.payment.policy"] = {"v": 1, "accept": "ask"}
    room = town.room(ALICE, BOB)
    for number, amount in (("aa", 500), ("bb", 700)):
        order = {"payment_id": number * 16, "payee": BOB, "amount": amount, "currency": "EUR"}
        town.send(ALICE, room, "org.superapp.payment", order)
    town.advance(10)
    assert "1. " in town.tell(BOB, "accept")
    town.tell(BOB, "1")
    assert town.available(BOB) in (10_500, 10_700)


def test_a_request_is_told_answered_and_paid_by_talking(town: Town) -> None:
    town.meet(ALICE)
    town.call("PUT", "contacts/bob", ALICE)
    town.call("PUT", "contacts/alice", BOB)
    assert "Asked" in town.tell(ALICE, "request @bob 5 lunch")
    (asked,) = town.heard(BOB)
    assert asked["msgtype"] == "m.text"
    assert "lunch" in asked["body"]
    assert "10 seconds" in town.tell(BOB, "accept")
    town.advance(12)
    assert town.available(ALICE) == 10_500
    assert "paid you" in town.heard(ALICE)[-1]["body"]
    town.tell(ALICE, "request bob 7")
    assert "declined" in town.tell(BOB, "decline")
    assert "declined" in town.heard(ALICE)[-1]["body"]
    town.tell(ALICE, "request bob 9")
    assert "taken back" in town.tell(ALICE, "cancel")
    assert "nothing that waits" in town.tell(BOB, "accept")


def test_who_left_the_room_is_not_followed_by_news(town: Town) -> None:
    town.meet(BOB)
    own = town.own_room(BOB)
    town.set_state(own, BOB, "m.room.member", BOB, {"membership": "leave"})
    room = town.room(ALICE, BOB)
    order = {"payment_id": "ab" * 16, "payee": BOB, "amount": 500, "currency": "EUR"}
    town.send(ALICE, room, "org.superapp.payment", order)
    town.advance(10)
    assert town.own_room(BOB) == own
    assert town.memberships(own)[BOB] == "leave"


# The rest.


def test_it_speaks_the_language_that_was_written_or_chosen(town: Town) -> None:
    town.meet(ALICE)
    assert "Du hast" in town.tell(ALICE, "guthaben")
    assert "You have" in town.tell(ALICE, "balance")
    assert "Deutsch" in town.tell(ALICE, "lang de")
    assert town.account_data[ALICE, "org.superapp.preferences"] == {"v": 1, "language": "de"}
    assert "Du hast 100,00" in town.tell(ALICE, "balance")
    assert "English" in town.tell(ALICE, "sprache english")


def test_policies_are_shown_and_chosen_without_losing_the_rest(town: Town) -> None:
    town.meet(ALICE)
    town.account_data[ALICE, "org.superapp.call.policy"] = {"v": 1, "deny": ["@eve:x.test"]}
    assert "contacts" in town.tell(ALICE, "call policy")
    town.tell(ALICE, "call policy nobody")
    assert town.account_data[ALICE, "org.superapp.call.policy"] == {"v": 1, "deny": ["@eve:x.test"], "who": ["nobody"]}
    town.tell(ALICE, "who may pay me contacts, shared rooms ask")
    assert town.account_data[ALICE, "org.superapp.payment.policy"] == {
        "v": 1,
        "from": ["contacts", "shared_rooms"],
        "accept": "ask",
    }


def test_people_are_followed_and_no_more_in_either_language(town: Town) -> None:
    town.meet(ALICE)
    town.meet(BOB)
    assert "You follow nobody yet" in town.tell(ALICE, "follow")
    assert f"You follow {BOB} now." in town.tell(ALICE, "follow @bob")
    listed = town.tell(BOB, "followers")
    assert "1 person follows you" in listed
    assert ALICE in listed
    assert "and they follow you" in town.tell(BOB, "follow @alice")
    assert f"You follow {BOB} no more." in town.tell(ALICE, "unfollow @bob")
    assert "do not follow" in town.tell(ALICE, "stop following @bob")
    assert f"Du folgst jetzt {BOB}" in town.tell(ALICE, "folge @bob")
    assert "Du folgst 1 Person" in town.tell(ALICE, "wem folge ich")
    assert f"Du folgst {BOB} nicht mehr." in town.tell(ALICE, "folge @bob nicht mehr")


def test_people_handles_contacts_calls_and_history_are_answered(town: Town) -> None:
    town.meet(ALICE)
    assert BOB in town.tell(ALICE, "find bob")
    assert ALICE in town.tell(ALICE, "handle")
    assert "no contacts" in town.tell(ALICE, "contacts")
    assert BOB in town.tell(ALICE, "contacts add @bob")
    assert BOB in town.tell(ALICE, "contacts")
    assert "no longer" in town.tell(ALICE, "contacts remove @bob")
    assert "no calls" in town.tell(ALICE, "call")
    assert "matrix.to" in town.tell(ALICE, "call @bob")
    assert "no payments" in town.tell(ALICE, "history")
    assert "`balance`" in town.tell(ALICE, "help")
    assert "did not understand" in town.tell(ALICE, "what is the weather?")


def test_links_into_calls_are_made_and_listed_and_a_wish_to_be_called_back_is_left(town: Town) -> None:
    town.meet(ALICE)
    assert "no links into calls" in town.tell(ALICE, "call links")
    assert "/superapp/app/#/call-link/" in town.tell(ALICE, "call link Plans for May")
    assert "Plans for May" in town.tell(ALICE, "call links")
    assert "listens in your live room" in town.tell(ALICE, "live room A reading")
    (made,) = [each for each in town.call("GET", "call_links", ALICE)["links"] if each["title"] == "A reading"]
    live = town.call("GET", f"call_rooms/{made['room_id']}", ALICE)
    assert (live["stage"], live["media"], live["screen_share"], live["hosts"]) == (True, "audio", "hosts", [ALICE])
    assert "called nobody in vain" in town.tell(ALICE, "call back")

    policy = {"v": 1, "who": ["nobody"], "offers": ["callback"]}
    town.account_data[BOB, "org.superapp.call.policy"] = policy
    with pytest.raises(SynapseError):
        town.send(ALICE, town.room(ALICE, BOB), "org.superapp.call.ring", {"call_id": "c-1", "media": "audio"})
    assert "called nobody in vain" in town.tell(ALICE, "call back @carol")
    assert "has been asked to call you back" in town.tell(ALICE, "call back @bob")
    (record,) = town.call("GET", "calls", BOB)["calls"]
    assert record["callback_ts"] > record["ring_ts"]


def test_features_that_are_off_are_not_offered() -> None:
    config = {**CONFIG, "features": {"assistant": True, "payments": False, "calls": False}}
    homeserver = FakeHomeserver(SERVER, config=config)
    alice = homeserver.register("alice")
    homeserver.start()
    homeserver.advance(2)
    room = homeserver.room(alice, invited=(ASSISTANT,))
    homeserver.advance(4)
    (row,) = homeserver.query("SELECT room_id FROM superapp_assistant_room WHERE own = 1")
    for text in ("balance", "pay @bob 5", "call", "call policy", "help"):
        homeserver.send(alice, row[0], "m.room.message", {"msgtype": "m.text", "body": text})
        homeserver.advance(4)
    said = [event.content["body"] for event in homeserver.sent(row[0], "m.room.message") if event.sender == ASSISTANT]
    assert sum("does not offer" in each for each in said) == 4
    assert "balance" not in said[-1]
    assert homeserver.memberships(room)[ASSISTANT] == "join"


def test_being_rung_in_vain_is_told(town: Town) -> None:
    town.account_data[BOB, "org.superapp.call.policy"] = {"v": 1, "who": ["everyone"]}
    room = town.room(ALICE, BOB)
    ring = {"call_id": "c1", "media": "audio", "lifetime": 10_000}
    town.send(ALICE, room, "org.superapp.call.ring", ring)
    town.advance(60)
    (told,) = town.heard(BOB)
    assert told["msgtype"] == "m.text"
    assert "missed a call" in told["body"]
    assert town.query("SELECT * FROM superapp_assistant_room WHERE user_id = ?", ALICE) == []


def test_a_move_is_explained_announced_and_taken_back(town: Town) -> None:
    town.meet(ALICE)
    assert "super-app move account" in town.tell(ALICE, "move")
    assert "@alice:one.example" in town.tell(ALICE, "move from @alice:one.example")
    assert "@alice:one.example" in town.tell(ALICE, "move")
    assert "super-app move account" in town.tell(ALICE, "move cancel")
    assert "announced no move" in town.tell(ALICE, "move cancel")


@pytest.mark.parametrize(("said", "answered"), [("recovery", "another PIN"), ("Wiederherstellung", "andere PIN")])
def test_whoever_lost_their_devices_is_led_to_the_page_of_the_recovery_pin(said: str, answered: str) -> None:
    guards = {"realms": [{"server": f"{name}.example", "operator": f"{name}'s people"} for name in ("one", "two")]}
    town = Town({**CONFIG, "features": {"assistant": True, "recovery": True}, "recovery": guards})
    town.meet(ALICE)
    answer = town.tell(ALICE, said)
    assert "/superapp/recover/" in answer
    assert answered in answer
    assert "`recovery`" in town.tell(ALICE, "help")


def test_where_there_is_no_recovery_pin_the_assistant_says_so(town: Town) -> None:
    town.meet(ALICE)
    assert "does not offer that" in town.tell(ALICE, "recovery")
    assert "`recovery`" not in town.tell(ALICE, "help")
