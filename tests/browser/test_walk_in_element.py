"""What docs/walkthrough.md tells, performed in a real Element Web that nobody changed: found, chatted with, paid, rung.

``make element ELEMENT=/path/to/webapp`` runs it and keeps the pictures. Without a build of Element it is skipped.
"""

import re
import secrets
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import element_web
import pytest
from app_pages import with_media
from element_web import WINDOW
from running_demo import RunningDemo

from super_app.names import AccountDataType, EventType
from synapse_super_app.commands import loopback
from synapse_super_app.commands.matrix_client import MatrixClient, wait_until

pytestmark = element_web.needs_element

PATIENCE_MS = 120_000
SOON_MS = 10_000


@pytest.fixture(scope="module")
def telephone(chromium: Any) -> Iterator[Any]:
    """A browser with a microphone and a camera that everybody may use, so that one can call."""
    element_web.folder()
    with with_media(chromium) as browser:
        yield browser


@pytest.fixture(scope="module")
def elements(telephone: Any, pair: RunningDemo) -> Iterator[tuple[str, str]]:
    """The addresses of an Element for each of the two homeservers."""
    assert telephone.is_connected()
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(element_web.served(str(each["client_url"]), str(each["name"])))
            for each in pair.homeservers
        )
        yield first, second


class Person:
    """Somebody in front of Element, signed in with a password."""

    def __init__(self, context: Any, address: str, name: str, password: str) -> None:
        context.set_default_timeout(PATIENCE_MS)
        self.context = context
        self.page = context.new_page()
        self.page.goto(f"{address}/#/login")
        self.page.get_by_label("Username").fill(name)
        self.page.get_by_label("Password", exact=True).fill(password)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_text(re.compile("^Welcome ")).wait_for()
        self.wave_away("Dismiss")

    def wave_away(self, name: str) -> None:
        """What Element asks every newcomer, where it does."""
        button = self.page.get_by_role("button", name=name, exact=True)
        if button.count():
            button.first.click()

    def shot(self, name: str) -> None:
        element_web.SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        if self.page.get_by_role("dialog").count() == 0:
            self.wave_away("Dismiss")
        self.page.screenshot(path=element_web.SCREENSHOTS / f"{name}.png", animations="disabled")

    def open(self, room: str) -> None:
        self.page.get_by_role("option", name=re.compile(re.escape(room))).first.click()

    def say(self, text: str) -> None:
        composer = self.page.get_by_role("textbox", name=re.compile("message"))
        composer.fill(text)
        composer.press("Enter")

    def timeline(self, text: str | re.Pattern[str]) -> Any:
        return self.page.locator(".mx_RoomView_timeline").get_by_text(text).last

    def find(self, term: str, user_id: str, picture: str) -> None:
        """Look for somebody in the start-chat dialog, and go to the chat with them."""
        self.page.get_by_role("button", name="Send a Direct Message").click()
        self.page.get_by_test_id("invite-dialog-input").fill(term)
        found = self.page.get_by_role("button", name=re.compile(re.escape(user_id)))
        found.wait_for()
        self.shot(picture)
        found.click()
        self.page.get_by_role("button", name="Go", exact=True).click()

    def wallet(self) -> Any:
        """The wallet from the composer; the first time Element asks whether it may know who one is, and post."""
        self.page.get_by_role("button", name="More options").last.click()
        self.page.get_by_text("Sticker", exact=True).click()
        return self.page.frame_locator("iframe[src*='/superapp/widget/']")

    def allow_identity(self, picture: str) -> None:
        self.page.get_by_text("Allow this widget to verify your identity").wait_for()
        self.page.get_by_role("switch", name="Remember this").click()
        self.shot(picture)
        self.page.get_by_role("button", name="Continue").click()

    def reopen(self, widget: Any) -> None:
        """Element closes the wallet while it asks something."""
        heading = widget.get_by_role("heading", level=1).first
        try:
            heading.wait_for(timeout=SOON_MS)
        except Exception as late:
            # Playwright may be missing where this file is only collected, so its error is known by name.
            if type(late).__name__ != "TimeoutError":
                raise
            self.wallet()
            heading.wait_for()

    def close_wallet(self) -> None:
        self.page.keyboard.press("Escape")


@contextmanager
def signed_in(chromium: Any, address: str, name: str, password: str) -> Generator[Person]:
    context = chromium.new_context(
        viewport={"width": WINDOW[0], "height": WINDOW[1]}, locale="en-GB", permissions=["microphone", "camera"]
    )
    try:
        yield Person(context, address, name, password)
    finally:
        context.close()


def pay_from(person: Person, widget: Any, payee: str, amount: str, memo: str, password: str, picture: str) -> None:
    """Through the widget as far as it goes, and confirmed in the wallet by itself, where one signs in at first."""
    widget.get_by_role("navigation", name="What you can do").get_by_role("link", name="Send").click()
    widget.get_by_role("searchbox").fill(payee)
    widget.get_by_role("link", name=re.compile(re.escape(payee))).first.click()
    widget.get_by_label("Amount in EUR").fill(amount)
    widget.get_by_label("Note").fill(memo)
    widget.get_by_role("button", name="Next").click()
    with person.context.expect_page() as popup:
        widget.get_by_role("link", name="Confirm in my wallet").click()
    wallet = popup.value
    wallet.set_viewport_size({"width": 420, "height": 800})
    pay = wallet.get_by_role("button", name=re.compile("^Pay €"))
    wallet.get_by_label("Password").or_(pay).first.wait_for()
    if wallet.get_by_label("Password").count():
        wallet.get_by_label("User name").fill(re.sub(r"^@|:.*", "", person_name(person)))
        wallet.get_by_label("Password").fill(password)
        wallet.get_by_role("button", name="Sign in").click()
    pay.wait_for()
    wallet.screenshot(path=element_web.SCREENSHOTS / f"{picture}.png")
    pay.click()
    wallet.get_by_text("Paid", exact=True).wait_for()
    wallet.close()


def person_name(person: Person) -> str:
    return str(person.page.evaluate("localStorage['mx_user_id']"))


@pytest.fixture(scope="module")
def two(telephone: Any, pair: RunningDemo, elements: tuple[str, str]) -> Iterator[tuple[Person, Person]]:
    """Alice and bob, each in front of an Element of their own homeserver."""
    with (
        signed_in(telephone, elements[0], "alice", pair.people["alice"].password) as alice,
        signed_in(telephone, elements[1], "bob", pair.people["bob"].password) as bob,
    ):
        yield alice, bob


def test_a_newcomer_is_greeted_finds_bob_on_the_other_homeserver_and_chats_with_him(
    telephone: Any, pair: RunningDemo, elements: tuple[str, str], two: tuple[Person, Person]
) -> None:
    _, bob = two
    name, password = f"erin-{secrets.token_hex(2)}", secrets.token_hex(8)
    with MatrixClient(str(pair.homeservers[0]["client_url"])) as nobody:
        nobody.register_with_secret(loopback.REGISTRATION_SECRET, name, password)
    with signed_in(telephone, elements[0], name, password) as erin:
        # Nobody she shares a room with: her homeserver knows him from the other's feed.
        erin.find("@bob", pair.people["bob"].user_id, "find")
        erin.say("Hello bob, it is me")
        erin.timeline("Hello bob, it is me").wait_for()
        erin.page.get_by_text("Encryption enabled").wait_for()
        erin.shot("chat")
        invitation = bob.page.get_by_role("option", name=re.compile(name))
        invitation.first.click()
        bob.page.get_by_role("button", name=re.compile("Start chatting|Accept")).click()
        bob.timeline("Hello bob, it is me").wait_for()

        erin.open("Assistant")
        erin.timeline(re.compile(f"@{name}:")).wait_for()
        erin.shot("greeting")


def test_alice_pays_bob_from_the_composer_and_both_see_the_card(pair: RunningDemo, two: tuple[Person, Person]) -> None:
    alice, bob = two
    password = pair.people["alice"].password
    with pair.client("alice") as api, pair.client("bob") as bobs:
        before = api.available("EUR")
        alice.open("bob")
        alice.timeline("This is the beginning of your direct message history").wait_for()
        widget = alice.wallet()
        alice.allow_identity("identity")
        alice.reopen(widget)
        widget.get_by_text("Available").first.wait_for()
        alice.shot("wallet")
        pay_from(alice, widget, "@bob", "12.50", "Lunch by the river", password, "confirm")
        alice.timeline("Lunch by the river").wait_for()
        alice.close_wallet()
        alice.shot("card")
        assert api.available("EUR") == before - 1250
        bob.open("alice")
        bob.timeline("Lunch by the river").wait_for()
        bob.shot("card-of-bob")

        # In an encrypted room the widget says it through Element, which asks once for each room.
        kept = {each: each.account_data("m.direct") or {} for each in (api, bobs)}
        try:
            encrypted_room(api, bobs, pair.names[0])
            alice.open("Between us")
            alice.page.get_by_text("Encryption enabled").wait_for()
            alice.reopen(alice.wallet())
            widget.get_by_role("link", name="Done").click()
            pay_from(alice, widget, "@bob", "7", "Concert", password, "confirm-encrypted")
            alice.page.get_by_role("button", name="Approve").wait_for()
            alice.shot("permission")
            alice.page.get_by_role("button", name="Approve").click()
            alice.timeline("Concert").wait_for()
            alice.close_wallet()
            alice.shot("card-encrypted")
            bob.open("Between us")
            bob.timeline("Concert").wait_for()
            bob.shot("card-encrypted-of-bob")
            assert api.available("EUR") == before - 1950
        finally:
            for each, rooms in kept.items():
                each.set_account_data("m.direct", rooms)


def encrypted_room(one: MatrixClient, other: MatrixClient, via: str) -> None:
    """The direct room of the two from now on, as when their clients had made it. The homeservers cannot read in it."""
    state = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    room = one.create_room(name="Between us", invite=[other.user_id], initial_state=[state], is_direct=True)
    other.join(room, via=via)
    for client, with_whom in ((one, other), (other, one)):
        rooms = client.account_data("m.direct") or {}
        client.set_account_data("m.direct", {**rooms, str(with_whom.user_id): [room]})
    wait_until(lambda: other.user_id in one.joined_members(room), timeout_s=60, what="both to be in the room")


def test_alice_talks_to_the_assistant_and_bob_is_told(pair: RunningDemo, two: tuple[Person, Person]) -> None:
    alice, bob = two
    with pair.client("bob") as api:
        before = api.available("EUR")
        alice.open("Assistant")
        alice.say("balance")
        alice.timeline(re.compile("You have €")).wait_for()
        alice.say("pay @bob 3,20 tea")
        asked = alice.timeline(re.compile("Answer yes or no|10 seconds"))
        asked.wait_for()
        if "10 seconds" not in asked.inner_text():
            alice.say("yes")
        alice.timeline(re.compile("^Paid €3.20")).wait_for()
        alice.shot("assistant")
        wait_until(lambda: api.available("EUR") == before + 320, timeout_s=60, what="bob to be paid")
        bob.open("Assistant")
        bob.timeline(re.compile("paid you €3.20")).wait_for()
        bob.shot("assistant-of-bob")


def test_bob_is_rung_in_his_element_and_whom_he_lets_in_nobody_rings(
    pair: RunningDemo, two: tuple[Person, Person]
) -> None:
    alice, bob = two
    with pair.client("bob") as api:
        alice.open("bob")
        alice.page.get_by_role("button", name="Voice call").click()
        accept = bob.page.get_by_role("button", name="Accept")
        accept.wait_for()
        bob.shot("ring")
        accept.click()
        hang_up = alice.page.get_by_role("button", name="Hangup")
        hang_up.wait_for()
        bob.page.get_by_role("button", name="Hangup").wait_for()
        alice.shot("call")
        # Buttons of a call hide behind its picture until somebody moves the mouse.
        hang_up.dispatch_event("click")
        wait_until(
            lambda: [each for each in api.superapp("GET", "calls")["calls"] if each["outcome"] == "answered"],
            timeout_s=60,
            what="the call to be among bob's",
        )
        try:
            api.set_account_data(AccountDataType.CALL_POLICY, {"v": 1, "who": ["nobody"]})
            alice.page.get_by_role("button", name="Voice call").click()
            wait_until(
                lambda: [each for each in api.superapp("GET", "calls")["calls"] if each["outcome"] == "screened"],
                timeout_s=120,
                what="the second call to be screened",
            )
            assert bob.page.get_by_role("button", name="Accept").count() == 0
            alice.shot("screened")
        finally:
            api.set_account_data(AccountDataType.CALL_POLICY, {"v": 1, "who": ["everyone"]})


@pytest.fixture
def verified_carol(pair: RunningDemo) -> Iterator[None]:
    """The operator of her homeserver vouches for carol, and the other homeserver knows of it."""
    handle, operator = pair.people["carol"].handle, pair.admins[1]
    reason = {"reason": "She showed her passport"}
    operator.superapp("POST", f"admin/handles/{handle}/verify", reason)
    try:
        with pair.client("dave") as dave:
            public = f"handles/{handle}/public"
            wait_until(lambda: dave.superapp("GET", public)["badges"], timeout_s=60, what="the badge to be known here")
        yield
    finally:
        operator.superapp("POST", f"admin/handles/{handle}/unverify", reason)


@pytest.mark.usefixtures("verified_carol")
def test_our_module_draws_cards_and_badges_in_elements_timeline(telephone: Any, pair: RunningDemo) -> None:
    """With the module named in ``config.json``, which is all that whoever hosts Element does."""
    first, handle = pair.homeservers[0], pair.people["carol"].handle
    with pair.client("dave") as api, pair.client("carol") as other:
        paid = api.pay(handle, 460, "EUR", memo="Cinema")
        room = str(api.wait_for_payment(str(paid["payment_id"]), timeout_s=60)["room_id"])
        other.join(room, via=pair.names[0])
        asked = {"request_id": secrets.token_hex(16), "from": [api.user_id], "amount": 230, "currency": "EUR"}
        other.superapp("POST", "requests", {**asked, "memo": "Popcorn", "room_id": room})
        other.send(room, EventType.CONTACT, other.superapp("GET", f"handles/{handle}/card"))
    with (
        element_web.served(str(first["client_url"]), str(first["name"]), with_module=True) as address,
        signed_in(telephone, address, "dave", pair.people["dave"].password) as dave,
    ):
        dave.open("carol")
        drawn = {"Payment": "€4.60", "Request for money": "€2.30", "Contact": handle}
        cards = {name: dave.page.get_by_role("group", name=name).last for name in drawn}
        for name, card in cards.items():
            card.get_by_text(drawn[name]).first.wait_for()
            # Beside her handle who vouches for her; for dave nobody does.
            card.get_by_role("img", name=f"{handle}, verified by {pair.names[1]}").wait_for()
            assert card.get_by_text("✓").count() == 1
        cards["Request for money"].get_by_role("button", name="Pay or decline").wait_for()
        dave.shot("module")
        for name, button, screen in (
            ("Payment", "Open in the wallet", "payment"),
            ("Contact", "See who verified them", "person"),
        ):
            with dave.context.expect_page() as opened:
                cards[name].get_by_role("button", name=button).click()
            assert opened.value.url.startswith(f"{first['client_url']}/superapp/app/#/{screen}/")
