"""What docs/walkthrough.md tells, performed in a real Element Web that nobody changed: found, chatted with, paid, rung.

``make element ELEMENT=/path/to/webapp`` runs it and keeps the pictures. Without a build of Element these tests are skipped.
"""

import re
import secrets
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import element_web
import pytest
from element_web import WINDOW
from running_demo import RunningDemo

from synapse_super_app.commands import loopback
from synapse_super_app.commands.matrix_client import MatrixClient, wait_until

PATIENCE_MS = 120_000
CARD = "paid @bob"


@pytest.fixture(scope="module")
def elements(pair: RunningDemo) -> Iterator[tuple[str, str]]:
    """The addresses of an Element for each of the two homeservers."""
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

    def allow(self, picture: str) -> None:
        identity = self.page.get_by_text("Allow this widget to verify your identity")
        identity.wait_for()
        self.page.get_by_text("Remember this").click()
        self.page.get_by_role("button", name="Continue").click()
        self.page.get_by_role("button", name="Approve").wait_for()
        self.shot(picture)
        self.page.get_by_role("button", name="Approve").click()


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
    """Through the widget as far as it goes, and confirmed in the wallet by itself, where one signs in the first time."""
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


def encrypted_room(pair: RunningDemo) -> str:
    """One of alice and bob, in which the homeservers cannot read."""
    state = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    with pair.client("alice") as alice, pair.client("bob") as bob:
        room = alice.create_room(name="Between us", invite=[bob.user_id], initial_state=[state], is_direct=True)
        bob.join(room, via=pair.names[0])
        # What clients do when they open such a room: it is the direct room of the two from now on.
        for one, other in ((alice, bob), (bob, alice)):
            rooms = one.account_data("m.direct") or {}
            one.set_account_data("m.direct", {**rooms, str(other.user_id): [room, *rooms.get(str(other.user_id), [])]})
    return room


def test_alice_finds_bob_pays_him_from_the_composer_and_both_see_the_card(
    chromium: Any, pair: RunningDemo, elements: tuple[str, str]
) -> None:
    bob_id = pair.people["bob"].user_id
    password = pair.people["alice"].password
    with (
        signed_in(chromium, elements[0], "alice", password) as alice,
        signed_in(chromium, elements[1], "bob", pair.people["bob"].password) as bob,
        pair.client("alice") as api,
    ):
        before = api.available("EUR")
        alice.find("@bob", bob_id, "find")
        alice.page.get_by_text("This is the beginning of your direct message history").wait_for()
        widget = alice.wallet()
        alice.allow_identity("identity")
        alice.reopen(widget)
        alice.shot("wallet")
        pay_from(alice, widget, "@bob", "12.50", "Lunch by the river", password, "confirm")
        alice.timeline("Lunch by the river").wait_for()
        alice.close_wallet()
        alice.shot("card")
        assert api.available("EUR") == before - 1250
        bob.open("alice")
        bob.timeline("Lunch by the river").wait_for()
        bob.shot("card-of-bob")

        # In an encrypted room, where the widget says it through Element, which asks the first time.
        encrypted_room(pair)
        alice.open("Between us")
        alice.page.get_by_text("Encryption enabled").wait_for()
        alice.reopen(alice.wallet())
        pay_from(alice, widget, "@bob", "7", "Concert", password, "confirm-encrypted")
        alice.page.get_by_role("button", name="Approve").wait_for()
        alice.shot("permission")
        alice.page.get_by_role("button", name="Approve").click()
        alice.timeline("€7.00").wait_for()
        alice.close_wallet()
        alice.shot("card-encrypted")
        bob.open("Between us")
        bob.timeline("€7.00").wait_for()
        bob.shot("card-encrypted-of-bob")
        assert api.available("EUR") == before - 1950
