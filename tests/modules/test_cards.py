"""Cards: what people see in rooms whose client does not show our events."""

import unicodedata
from html.parser import HTMLParser
from typing import Any, Final

import pytest
from fake_api import FakeHomeserver

from super_app.names import CARD_KEY

ALICE, BOB = "@alice:hs1.test", "@bob:hs1.test"
PAYMENT, POLICY = "org.superapp.payment", "org.superapp.payment.policy"
ID = "c" * 32
ORDER: dict[str, Any] = {"payment_id": ID, "payee": BOB, "amount": 500, "currency": "EUR", "memo": "lunch <b>"}


# What clients let through of HTML (Matrix specification, "m.room.message msgtypes"); Cinny and Element take no more.
_ALLOWED: Final = frozenset(
    (
        *("del", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "p", "a", "ul", "ol", "sup", "sub", "li", "b", "i"),
        *("u", "strong", "em", "s", "code", "hr", "br", "div", "table", "thead", "tbody", "tr", "th", "td", "caption"),
        *("pre", "span", "img", "details", "summary"),
    )
)
_ISOLATES: Final = frozenset("\u2066\u2067\u2068\u2069")


class Rendered(HTMLParser):
    """The text that is left of a card in a client that shows HTML, and what such a client would throw away."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.lost: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == [], html

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _ALLOWED or any((tag, name) != ("a", "href") for name, _ in attrs):
            self.lost.append(tag)
        if tag == "br":
            self.text += "\n"
        else:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def is_readable(content: dict[str, Any]) -> None:
    """A terminal shows the plain text, other clients the HTML without what they do not allow: both say the same."""
    plain, rendered = content["body"], Rendered(content["formatted_body"])
    assert rendered.lost == []
    assert rendered.text.split() == plain.split()
    # Names of any direction stand by themselves, and nothing in the text can drive a terminal.
    assert plain.count("\u2068") == plain.count("\u2069")
    odd = [each for each in plain if unicodedata.category(each) in ("Cc", "Cf") and each not in {"\n", *_ISOLATES}]
    assert odd == []


class Street(FakeHomeserver):
    """alice (100.00 EUR) and bob in a room, with cards on."""

    def __init__(self, *, cards: bool = True, encrypted: bool = False) -> None:
        super().__init__(
            config={
                "features": {"directory": False, "web": False, "cards": cards},
                "calls": {"default_who": ["everyone"]},
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
        self.register("bob")
        self.advance(2)
        issue = {"user_id": ALICE, "amount": 10_000, "currency": "EUR", "reference": "1"}
        self.call("POST", "admin/issue", admin, issue)
        self.direct = self.room(ALICE, BOB, encrypted=encrypted)

    def cards(self) -> list[dict[str, Any]]:
        sent = self.sent(self.direct, "m.room.message")
        assert all(event.content["msgtype"] == "m.notice" for event in sent)
        for event in sent:
            content = event.get_dict()["content"]
            is_readable(content.get("m.new_content", content))
        return [{"sender": event.sender, "id": event.event_id, **event.get_dict()["content"]} for event in sent]


@pytest.fixture
def street() -> Street:
    return Street()


def test_a_payment_that_is_made_at_once_has_one_card_by_its_payer(street: Street) -> None:
    event_id = street.send(ALICE, street.direct, PAYMENT, ORDER)
    street.advance(10)
    (card,) = street.cards()
    assert card["sender"] == ALICE
    assert "€5.00" in card["body"]
    assert "paid" in card["body"]
    assert "lunch <b>" in card["body"]
    assert "lunch &lt;b&gt;" in card["formatted_body"]
    terms = {"amount": 500, "currency": "EUR", "scale": 2, "memo": "lunch <b>", "state": "completed"}
    pointing = {"payment_id": ID, "payer": ALICE, "payee": BOB, "event_id": event_id}
    assert card[CARD_KEY] == {"v": 1, "kind": "payment", **pointing, **terms}
    assert card["m.mentions"] == {}


def test_a_note_from_right_to_left_stands_by_itself_in_every_client(street: Street) -> None:
    street.send(ALICE, street.direct, PAYMENT, {**ORDER, "memo": "שלום"})
    street.advance(10)
    (card,) = street.cards()
    for said in (card["body"], card["formatted_body"]):
        assert "\u2068שלום\u2069" in said


def test_a_card_is_edited_in_place_as_its_payment_goes_on(street: Street) -> None:
    street.account_data[BOB, POLICY] = {"v": 1, "accept": "ask"}
    street.send(ALICE, street.direct, PAYMENT, ORDER)
    street.advance(10)
    (waiting,) = street.cards()
    assert "not answered" in waiting["body"]
    street.call("POST", f"payments/{ID}/decline", BOB, query={"payer": ALICE})
    street.advance(10)
    _, edit = street.cards()
    assert edit["m.relates_to"] == {"rel_type": "m.replace", "event_id": waiting["id"]}
    assert "declined" in edit["m.new_content"]["body"]
    assert waiting[CARD_KEY]["state"] == "awaiting_acceptance"
    assert edit["m.new_content"][CARD_KEY] == {**waiting[CARD_KEY], "state": "declined"}


def test_a_request_has_a_card_until_it_is_paid_or_expires(street: Street) -> None:
    ask = {"request_id": ID, "from": [ALICE], "amount": 500, "currency": "EUR"}
    street.call("POST", "requests", BOB, ask)
    street.advance(5)
    (card,) = street.cards()
    assert (card["sender"], card[CARD_KEY]["kind"]) == (BOB, "request")
    assert (card[CARD_KEY]["payers"], card[CARD_KEY]["state"]) == ([ALICE], "open")
    street.call("POST", "payments", ALICE, {**ORDER, "request": ID})
    street.advance(10)
    edits = [each["m.new_content"]["body"] for each in street.cards() if "m.new_content" in each]
    assert "paid" in edits[-1]
    short = {**ask, "request_id": "d" * 32, "expires_ms": street.now_ms() + 30_000}
    street.call("POST", "requests", BOB, short)
    street.advance(60)
    assert "expired" in street.cards()[-1]["m.new_content"]["body"]


def test_a_call_that_nobody_answered_has_a_card_by_its_caller(street: Street) -> None:
    ring = {"call_id": "c1", "media": "audio", "lifetime": 10_000}
    street.send(ALICE, street.direct, "org.superapp.call.ring", ring)
    street.advance(60)
    (card,) = street.cards()
    assert card["sender"] == ALICE
    assert "nobody answered" in card["body"]


def test_a_shared_contact_has_one_card_by_who_shares_it() -> None:
    only = {"calls": False, "payments": False, "web": False, "cards": True}
    homeserver = FakeHomeserver(config={"features": only})
    homeserver.start()
    alice, bob = homeserver.register("alice"), homeserver.register("bob")
    room = homeserver.room(alice, bob)
    homeserver.call("PUT", "handles/alice", alice, {"discover": "public"})
    shared = homeserver.call("GET", "handles/alice/card", bob)
    event_id = homeserver.send(bob, room, "org.superapp.contact", shared)
    homeserver.advance(10)
    homeserver.restart()
    homeserver.advance(10)
    (card,) = homeserver.sent(room, "m.room.message")
    content = card.get_dict()["content"]
    is_readable(content)
    assert (card.sender, content["msgtype"]) == (bob, "m.notice")
    assert content["body"] == f"👤 {bob} shares a contact: {alice}"
    assert content[CARD_KEY] == {"v": 1, "kind": "contact", "sharer": bob, "handle": alice, "event_id": event_id}


def test_nothing_is_sent_where_it_is_switched_off_or_could_be_read_by_the_server_alone(street: Street) -> None:
    street.account_data[ALICE, "org.superapp.preferences"] = {"v": 1, "cards": False}
    off, hidden = Street(cards=False), Street(encrypted=True)
    for each in (street, off):
        each.send(ALICE, each.direct, PAYMENT, ORDER)
    hidden.call("POST", "payments", ALICE, {**ORDER, "room_id": hidden.direct})
    for each in (street, off, hidden):
        each.advance(10)
        assert len(each.sent(each.direct, PAYMENT)) == 1
        assert each.cards() == []


def test_a_card_is_sent_once_although_the_process_restarts(street: Street) -> None:
    street.send(ALICE, street.direct, PAYMENT, ORDER)
    street.restart()
    street.advance(20)
    street.restart()
    street.advance(20)
    assert len(street.cards()) == 1


def card_of(street: Street, room: str, kind: str) -> list[dict[str, Any]]:
    """The cards of a kind in a room, each edit in place of what it changes."""
    sent = [event.get_dict()["content"] for event in street.sent(room, "m.room.message")]
    found: list[dict[str, Any]] = []
    for content in sent:
        is_readable(content.get("m.new_content", content))
        if content[CARD_KEY]["kind"] == kind:
            is_edit = content.get("m.relates_to", {}).get("rel_type") == "m.replace"
            found = [*(found[:-1] if is_edit else found), content.get("m.new_content", content)]
    return found


PRICED: dict[str, Any] = {"v": 1, "who": ["contacts"], "price": {"amount": 60, "currency": "EUR", "per": "minute"}}


def test_a_paid_call_has_one_card_that_says_at_last_what_it_came_to(street: Street) -> None:
    street.account_data[BOB, "org.superapp.call.policy"] = PRICED
    fare_id = "a" * 32
    street.call("POST", "paid_calls", ALICE, {"fare_id": fare_id, "callee": BOB, "amount": 60, "currency": "EUR"})
    street.send(ALICE, street.direct, "org.superapp.call.ring", {"call_id": "c-1", "media": "audio"})
    street.advance(5)
    assert card_of(street, street.direct, "paid_call") == [], "nobody has answered"
    street.send(BOB, street.direct, "m.call.answer", {"call_id": "c-1", "version": "1", "answer": {}})
    street.send(ALICE, street.direct, "m.call.select_answer", {"call_id": "c-1", "version": "1"})
    street.advance(30)
    (running,) = card_of(street, street.direct, "paid_call")
    assert (running[CARD_KEY]["state"], running[CARD_KEY]["amount"], "€0.60" in running["body"]) == (
        "running",
        60,
        True,
    )
    street.advance(30)
    street.send(ALICE, street.direct, "m.call.hangup", {"call_id": "c-1", "version": "1"})
    street.advance(5)
    (ended,) = card_of(street, street.direct, "paid_call")
    assert (ended[CARD_KEY]["state"], ended[CARD_KEY]["paid"], "1:00" in ended["body"]) == ("ended", 60, True)
    assert (ended[CARD_KEY]["call_id"], ended[CARD_KEY]["caller"], ended[CARD_KEY]["callee"]) == ("c-1", ALICE, BOB)


def test_a_visit_to_a_call_by_a_link_with_a_price_has_its_card_in_the_room_of_the_call(street: Street) -> None:
    made = street.call("POST", "call_links", BOB, {"title": "Hour", "price": {"amount": 60, "currency": "EUR"}})
    body = {"fare_id": "b" * 32, "link": made["link"], "amount": 60, "currency": "EUR"}
    street.call("POST", "paid_calls", ALICE, body)
    street.call("POST", f"call_links/{made['link']}/join", ALICE)
    member = "org.matrix.msc3401.call.member"
    street.send(ALICE, made["room_id"], member, {"application": "m.call"}, state_key=f"_{ALICE}_A")
    street.advance(20)
    street.send(ALICE, made["room_id"], member, {}, state_key=f"_{ALICE}_A")
    street.advance(6)
    (ended,) = card_of(street, made["room_id"], "paid_call")
    assert (ended[CARD_KEY]["state"], 19 <= ended[CARD_KEY]["paid"] <= 21) == ("ended", True)


def test_nobody_else_in_the_room_of_a_call_by_a_link_reads_what_somebody_paid(street: Street) -> None:
    made = street.call("POST", "call_links", BOB, {"title": "Hour", "price": {"amount": 60, "currency": "EUR"}})
    room = made["room_id"]
    street.set_state(room, "@zed:hs9.test", "m.room.member", "@zed:hs9.test", {"membership": "join"})
    body = {"fare_id": "b" * 32, "link": made["link"], "amount": 60, "currency": "EUR"}
    street.call("POST", "paid_calls", ALICE, body)
    street.call("POST", f"call_links/{made['link']}/join", ALICE)
    member = "org.matrix.msc3401.call.member"
    street.send(ALICE, room, member, {"application": "m.call"}, state_key=f"_{ALICE}_A")
    street.advance(20)
    street.send(ALICE, room, member, {}, state_key=f"_{ALICE}_A")
    street.advance(6)
    assert street.call("GET", f"paid_calls/{'b' * 32}", ALICE)["paid"] >= 19
    assert card_of(street, room, "paid_call") == []


@pytest.mark.parametrize(
    ("answer", "state", "said"), [("accept", "returned", "came back"), ("spam", "kept", "was kept")]
)
def test_a_deposit_has_one_card_once_there_is_a_room_and_it_says_what_became_of_it(
    street: Street, answer: str, state: str, said: str
) -> None:
    street.set_state(street.direct, BOB, "m.room.member", BOB, {"membership": "leave"})
    street.call("PUT", "deposit_policy", BOB, {"amount": 200, "currency": "EUR"})
    deposit_id = "d" * 32
    body = {"deposit_id": deposit_id, "recipient": BOB, "amount": 200, "currency": "EUR"}
    street.call("POST", "deposits", ALICE, body)
    street.advance(20)
    room = street.room(ALICE, invited=(BOB,))
    street.advance(40)
    (down,) = card_of(street, room, "deposit")
    assert (down[CARD_KEY]["state"], "€2.00" in down["body"]) == ("open", True)
    street.call("POST", f"deposits/{deposit_id}/{answer}", BOB, query={"payer": ALICE})
    street.advance(20)
    (ended,) = card_of(street, room, "deposit")
    assert (ended[CARD_KEY]["state"], said in ended["body"]) == (state, True)
    assert ended[CARD_KEY]["deposit_id"] == deposit_id
