"""The web app in a real browser, between two homeservers; and as a widget in a page that stands for a client."""

import json
import re
import secrets
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from app_pages import (
    DESKTOP,
    LOOKS,
    PHONE,
    ROOT,
    Page,
    client_address,
    client_page,
    faults,
    look_at,
    settled,
    visiting,
    web_tools,
)
from running_demo import RunningDemo

from super_app.names import AccountDataType
from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError, wait_until

SCREENS = {
    "": "Wallet",
    "activity": "Activity",
    "send": "Send",
    "people": "People",
    "me": "Me",
    "calls": "Calls",
    "profile": "Profile",
    "settings": "Settings",
    "receive": "Receive",
    "requests": "Requests",
    "scan": "Scan",
}


# Those behind "More" and one step into others.
MORE_SCREENS = {
    "more": "More",
    "request": "Request",
    "split": "Split a bill",
    "collect": "Collect",
    "gifts": "Gifts",
    "give": "Give a gift",
    "money-links": "Money links",
    "money-link": "Make a link",
    "claim": "Claim money",
    "schedules": "Pay later",
    "schedule": "Plan a payment",
    "disputes": "Disputes",
    "statements": "Statements",
    "deposits": "Deposits of strangers",
    "safety": "Safety",
    "address-book": "Bring in an address book",
    "new-call-link": "New link into a call",
}

# Those of one thing, which a test below makes; and those that are looked at where it is made.
OF_ONE_THING = {"person/", "payment/", "asked/", "statements/", "year/", "call-link", "room-call"}
WHERE_IT_IS_MADE = {"gift/", "schedules/", "disputes/", "dispute/", "money-links/"}


# By itself.


def test_a_person_signs_in_finds_somebody_on_another_homeserver_and_pays(chromium: Any, pair: RunningDemo) -> None:
    bob_handle = pair.people["bob"].handle
    with visiting(chromium, pair, None) as visit, pair.client("alice") as alice, pair.client("bob") as bob:
        before, bobs = alice.available("EUR"), bob.available("EUR")
        page = visit.open()
        page.get_by_label("User name").fill("alice")
        page.get_by_label("Password").fill("wrong")
        visit.shot("sign-in-phone-light")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text("User name and password do not belong together.").wait_for()
        page.get_by_label("Password").fill(pair.people["alice"].password)
        page.get_by_role("button", name="Sign in").click()
        visit.heading("Wallet")
        page.get_by_role("navigation", name="What you can do").get_by_role("link", name="Send").click()
        page.get_by_role("searchbox", name="Whom do you want to pay?").fill("bob")
        page.get_by_role("link", name=re.compile(re.escape(bob_handle))).click()
        page.get_by_label("Amount in EUR").fill("12,50")
        page.get_by_label("Note").fill("Lunch by the river")
        visit.shot("send-phone-light")
        page.get_by_role("button", name="Next").click()
        page.get_by_text("To exactly this person").wait_for()
        assert page.get_by_role("main").inner_text().count(bob_handle) >= 1
        page.get_by_text("Nobody has verified who is behind this handle").wait_for()
        visit.shot("confirm-phone-light")
        assert alice.available("EUR") == before
        page.get_by_role("button", name="Pay €12.50").click()
        page.get_by_text("Paid", exact=True).wait_for()
        visit.shot("paid-phone-light")
        wait_until(lambda: bob.available("EUR") == bobs + 1250, timeout_s=60, what="bob to be paid")
        assert alice.available("EUR") == before - 1250

        page.get_by_role("navigation", name="Places").get_by_role("link", name="Activity").click()
        page.get_by_role("link", name=re.compile("Lunch by the river")).first.click()
        page.get_by_text("Arrived").wait_for()
        assert visit.complaints == []
        assert visit.hosts == {visit.origin.removeprefix("http://")}


def test_an_answer_that_gets_lost_pays_no_second_time(chromium: Any, pair: RunningDemo) -> None:
    with visiting(chromium, pair, "alice") as visit, pair.client("alice") as alice:
        before = alice.available("EUR")
        page = visit.open(f"send?to={pair.people['dave'].handle}&amount=300&currency=EUR")
        page.get_by_role("button", name="Next").click()
        orders: list[str] = []

        def cut(route: Any) -> None:
            if route.request.method != "POST":
                route.continue_()
                return
            orders.append(route.request.post_data)
            # The homeserver does what it was asked, and nobody hears of it.
            route.fetch()
            route.abort()

        page.route("**/v1/payments", cut)
        page.get_by_role("button", name="Pay €3.00").click()
        page.get_by_text("Asking again pays no second time.").wait_for()
        page.unroute("**/v1/payments")
        page.reload()
        page.get_by_role("button", name="Finish it").click()
        page.get_by_text("Arrived").wait_for()
        assert len(orders) == 1
        assert alice.available("EUR") == before - 300


def test_who_wants_to_be_asked_first_says_so_and_is(chromium: Any, pair: RunningDemo) -> None:
    with visiting(chromium, pair, "carol") as visit, pair.client("carol") as carol, pair.client("dave") as dave:
        page = visit.open("settings")
        try:
            page.get_by_label("Ask me first").check()
            page.get_by_text("Saved").wait_for()
            before = carol.available("EUR")
            paid = dave.pay(pair.people["carol"].handle, 700, "EUR", memo="Tickets")
            visit.open("")
            waiting = page.get_by_role("heading", name="Waiting for your answer")
            wait_until(lambda: page.reload() and waiting.is_visible(), timeout_s=60, what="the payment to wait")
            page.get_by_role("link", name=re.compile("Tickets")).first.click()
            page.get_by_role("button", name="Take €7.00").click()
            page.get_by_text("Arrived").wait_for()
            assert carol.available("EUR") == before + 700

            page.get_by_role("button", name="Give money back").click()
            page.get_by_role("dialog").get_by_label("Amount in EUR").fill("2")
            page.get_by_role("dialog").get_by_role("button", name="Give money back").click()
            wait_until(lambda: carol.available("EUR") == before + 500, timeout_s=60, what="the refund to leave")
            dave.wait_for_payment(paid["payment_id"])
        finally:
            carol.set_account_data(AccountDataType.PAYMENT_POLICY, {})


def test_who_is_asked_for_money_pays_it_from_the_wallet(chromium: Any, pair: RunningDemo) -> None:
    with (
        visiting(chromium, pair, "bob") as visit,
        visiting(chromium, pair, "alice") as other,
        pair.client("bob") as bob,
    ):
        before = bob.available("EUR")
        page = visit.open(f"request?to={pair.people['alice'].handle}")
        page.get_by_label("Amount in EUR").fill("6.40")
        page.get_by_label("Note").fill("Cinema")
        page.get_by_role("button", name="Ask for it").click()
        page.get_by_text("Not answered yet").first.wait_for()
        asked = other.open()
        row = asked.get_by_role("link", name=re.compile("Cinema.*6.40"))
        wait_until(lambda: asked.reload() and row.is_visible(), timeout_s=60, what="the request to arrive")
        other.shot("asked-phone-light")
        row.click()
        asked.get_by_role("button", name="Pay €6.40").click()
        asked.get_by_text("To exactly this person").wait_for()
        asked.get_by_role("button", name="Pay €6.40").click()
        asked.get_by_text("Paid", exact=True).wait_for()
        wait_until(lambda: bob.available("EUR") == before + 640, timeout_s=60, what="bob to be paid")
        page.get_by_text("Paid", exact=True).first.wait_for()


def test_who_may_ring_is_changed_and_what_the_page_does_not_know_stays(chromium: Any, pair: RunningDemo) -> None:
    kept = {"v": 1, "who": ["everyone"], "allow": ["@mum:example.org"], "later": {"unknown": True}}
    with visiting(chromium, pair, "dave") as visit, pair.client("dave") as dave:
        dave.set_account_data(AccountDataType.CALL_POLICY, kept)
        try:
            page = visit.open("calls")
            assert page.get_by_role("radio", name="Everybody").is_checked()
            page.get_by_role("radio", name="Contacts only").check()
            page.get_by_text("Saved").wait_for()
            page.get_by_role("switch", name="Quiet hours").check()
            page.get_by_label("From").wait_for()
            wait_until(
                lambda: "quiet" in (dave.account_data(AccountDataType.CALL_POLICY) or {}),
                timeout_s=30,
                what="quiet hours to be kept",
            )
            policy = dave.account_data(AccountDataType.CALL_POLICY) or {}
            assert policy["who"] == ["contacts"]
            assert policy["quiet"]["windows"] == [{"from": "22:00", "to": "07:00"}]
            assert policy["allow"] == kept["allow"]
            assert policy["later"] == kept["later"]
            page.reload()
            page.get_by_role("radio", name="Contacts only").wait_for()
            assert page.get_by_role("radio", name="Contacts only").is_checked()
        finally:
            dave.set_account_data(AccountDataType.CALL_POLICY, {"v": 1, "who": ["everyone"]})


def test_a_contact_is_added_and_removed(chromium: Any, pair: RunningDemo) -> None:
    with visiting(chromium, pair, "dave", size=DESKTOP, scheme="dark") as visit, pair.client("dave") as dave:
        page = visit.open(f"person/{pair.people['carol'].handle}")
        page.get_by_text("Not verified by anybody.").wait_for()
        page.get_by_role("button", name="Add contact").click()
        page.get_by_role("button", name="Remove contact").wait_for()
        contacts = dave.superapp("GET", "contacts")["contacts"]
        assert [each["user_id"] for each in contacts] == [pair.people["carol"].user_id]
        visit.shot("person-desktop-dark")
        page.get_by_role("button", name="Remove contact").click()
        page.get_by_role("button", name="Add contact").wait_for()
        assert dave.superapp("GET", "contacts")["contacts"] == []


def test_a_code_that_is_shown_can_be_scanned_from_a_picture(chromium: Any, pair: RunningDemo) -> None:
    with visiting(chromium, pair, "bob") as visit, visiting(chromium, pair, "alice") as other:
        page = visit.open("receive")
        page.get_by_text("Ask for an amount").click()
        page.get_by_label("Amount in EUR").fill("4.20")
        page.get_by_label("Note").fill("Coffee & cake")
        picture = page.get_by_role("img", name="QR code that leads to you").screenshot()
        scanned = other.open("scan")
        scanned.locator("#picture").set_input_files({"name": "code.png", "mimeType": "image/png", "buffer": picture})
        other.heading("Send")
        assert scanned.get_by_label("Amount in EUR").input_value() == "4.20"
        assert scanned.get_by_label("Note").input_value() == "Coffee & cake"
        assert pair.people["bob"].handle in scanned.get_by_role("main").inner_text()


def test_without_a_connection_it_says_so_and_goes_on_afterwards(chromium: Any, pair: RunningDemo) -> None:
    with visiting(chromium, pair, "alice") as visit:
        page = visit.open()
        page.get_by_text("Available").wait_for()
        visit.context.set_offline(True)
        page.get_by_text("No connection.").wait_for()
        assert page.get_by_text("Available").is_visible()
        visit.shot("offline-phone-light")
        visit.context.set_offline(False)
        page.get_by_text("No connection.").wait_for(state="detached")


def test_it_opens_without_a_connection_and_keeps_nothing_of_what_people_have(chromium: Any, pair: RunningDemo) -> None:
    with visiting(chromium, pair, "alice", service_workers="allow") as visit:
        page = visit.open()
        page.get_by_text("Available").wait_for()
        page.evaluate("navigator.serviceWorker.ready.then(() => null)")
        page.wait_for_function("navigator.serviceWorker.controller !== null")
        # Now it goes through the worker, which keeps what it hands on.
        page.reload()
        page.get_by_text("Available").wait_for()
        kept = page.evaluate(
            """async () => {
                const stores = await Promise.all((await caches.keys()).map((each) => caches.open(each)));
                const requests = (await Promise.all(stores.map((each) => each.keys()))).flat();
                return requests.map((each) => new URL(each.url).pathname);
            }"""
        )
        assert "/superapp/app/" in kept
        assert all(path == "/superapp/app/" or path.startswith("/superapp/assets/") for path in kept)
        visit.context.set_offline(True)
        page.reload()
        page.get_by_role("heading", name="Your homeserver is away").wait_for()
        visit.context.set_offline(False)
        page.get_by_role("button", name="Try again").click()
        page.get_by_text("Available").wait_for()


def test_a_session_that_was_ended_elsewhere_leads_to_the_door(chromium: Any, pair: RunningDemo) -> None:
    with visiting(chromium, pair, "dave") as visit:
        page = visit.open()
        page.get_by_text("Available").wait_for()
        token = page.evaluate("JSON.parse(localStorage['superapp.session']).token")
        url = pair.homeservers[0]["client_url"]
        with MatrixClient(url, user_id=pair.people["dave"].user_id, access_token=token) as session:
            session.matrix("POST", "logout", {})
        page.reload()
        page.get_by_text("Your session has ended. Sign in again.").wait_for()
        assert page.evaluate("localStorage['superapp.session'] === undefined")
        # Whoever was not looking when it ended is told as well.
        page.reload()
        page.get_by_text("Your session has ended. Sign in again.").wait_for()


def test_a_file_that_gets_lost_on_the_way_leaves_no_page_empty(chromium: Any, pair: RunningDemo) -> None:
    with visiting(chromium, pair, "alice") as visit:
        lost: list[str] = []

        def lose(route: Any) -> None:
            lost.append(route.request.url)
            route.abort()

        visit.page.route("**/assets/shell-*.js", lose, times=1)
        page = visit.open()
        page.get_by_text("Available").wait_for()
        assert len(lost) == 1

        # For good: it is tried again by itself, and then the page offers to.
        page.route("**/assets/shell-*.js", lose)
        page.reload()
        # Before the style sheet has come the link counts as visible, at whichever attempt.
        page.locator(":root[data-late]").wait_for()
        page.get_by_role("link", name="Load again").wait_for()
        assert len(lost) >= 4
        page.unroute("**/assets/shell-*.js")
        page.get_by_role("link", name="Load again").click()
        page.get_by_text("Available").wait_for()


def test_signing_out_ends_the_session_on_the_homeserver(chromium: Any, pair: RunningDemo) -> None:
    with visiting(chromium, pair, "dave") as visit:
        page = visit.open("settings")
        token = page.evaluate("JSON.parse(localStorage['superapp.session']).token")
        page.get_by_role("button", name="Sign out").click()
        page.get_by_text("You are signed out.").wait_for()
        url = pair.homeservers[0]["client_url"]

        def refused() -> bool:
            with MatrixClient(url, user_id=pair.people["dave"].user_id, access_token=token) as session:
                try:
                    session.wallet()
                except MatrixError as error:
                    return error.status == 401
            return False

        wait_until(refused, timeout_s=30, what="the session to be over")


def test_it_speaks_german(chromium: Any, pair: RunningDemo) -> None:
    with visiting(chromium, pair, "alice", locale="de-DE") as visit:
        page = visit.open()
        visit.heading("Geldbeutel")
        page.get_by_text("Verfügbar").wait_for()
        assert page.locator("html").get_attribute("lang") == "de"
        assert re.search(r"\d,\d\d\s€", page.get_by_role("main").inner_text())


def test_the_keyboard_alone_is_enough(chromium: Any, pair: RunningDemo) -> None:
    with visiting(chromium, pair, "alice", size=DESKTOP) as visit:
        page = visit.open()
        page.get_by_text("Available").wait_for()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.innerText") == "Skip to the content"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.innerText.trim()") == "Send"
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        visit.heading("Send")
        page.keyboard.type(pair.people["bob"].handle)
        page.get_by_role("link", name=re.compile(re.escape(pair.people["bob"].handle))).wait_for()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.get_by_label("Amount in EUR").wait_for()
        page.keyboard.type("1.005")
        page.get_by_text("At most 2 digits after the point.").wait_for()


def test_every_screen_is_accessible_and_fits(chromium: Any, pair: RunningDemo, axe: str) -> None:
    found: list[str] = []
    with visiting(chromium, pair, "alice") as visit:
        for address, title in {**SCREENS, **MORE_SCREENS}.items():
            page = visit.open(address)
            visit.heading(title)
            settled(page)
            for size, scheme in LOOKS if address in SCREENS else LOOKS[:2]:
                look_at(page, size, scheme)
                visit.shot(f"{address or 'wallet'}-{'phone' if size == PHONE else 'desktop'}-{scheme}")
                # Contrast is a matter of the scheme and order one of the size; each of both is looked at once.
                if (size, scheme) in LOOKS[:2]:
                    found += [f"{title}: {fault}" for fault in faults(page, axe)]
                overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                assert overflow == 0, (title, size)
        assert visit.complaints == []
    assert found == []


def test_no_screen_that_the_app_knows_is_forgotten_when_screens_are_looked_at() -> None:
    shell = (ROOT / "web" / "src" / "shell.tsx").read_text(encoding="utf-8")
    loaded_later = re.findall(r'^  "?([a-z/-]+)"?(?:: async \(\) => \(await|,$)', shell, re.MULTILINE)
    with_a_part = {"payment", "person"}
    at_once = {f"{name}/" if name in with_a_part else name for name in re.findall(r'first === "([a-z-]+)"', shell)}
    known = {"", *loaded_later, *at_once}
    assert known == SCREENS.keys() | MORE_SCREENS.keys() | OF_ONE_THING | WHERE_IT_IS_MADE


def test_screens_of_one_thing_the_door_and_a_wrong_address_are_accessible_and_fit(
    chromium: Any, pair: RunningDemo, axe: str
) -> None:
    handle = pair.people["bob"].handle
    with pair.client("alice") as api, pair.client("bob") as bob:
        paid = api.pay(handle, 130, "EUR", memo="Tea")
        api.wait_for_payment(str(paid["payment_id"]), timeout_s=60)
        asked = {
            "request_id": secrets.token_hex(16),
            "from": [pair.people["bob"].user_id],
            "amount": 210,
            "currency": "EUR",
        }
        api.superapp("POST", "requests", asked)
        plans = api.superapp("POST", "call_links", {"title": "Plans"})
        guarded = bob.superapp("POST", "call_links", {"title": "Guarded", "waiting_room": True})
    month = time.strftime("%Y-%m", time.gmtime())
    screens = {
        f"send?to={quote(handle, safe='')}": "Send",
        f"person/{quote(handle, safe='')}": "Person",
        f"payment/{paid['payment_id']}": "Payment",
        f"asked/{asked['request_id']}": "Request",
        f"statements/{month}": None,
        f"year/{month[:4]}": None,
        f"room-call/{quote(plans['room_id'], safe='')}": "Group call",
        f"call-link/{quote(guarded['link'], safe='')}": "Group call",
        "nowhere": "Nothing here",
    }
    found: list[str] = []
    with visiting(chromium, pair, "alice") as visit, visiting(chromium, pair, None) as stranger:
        for address, title in screens.items():
            page = visit.open(address)
            if title is None:
                page.get_by_role("heading", level=1, name=re.compile(month[:4])).wait_for()
            else:
                visit.heading(title)
            found += fits_and_is_accessible(visit, axe, address.partition("/")[0])
        stranger.open().get_by_label("Password").wait_for()
        found += fits_and_is_accessible(stranger, axe, "sign-in")
        assert visit.complaints + stranger.complaints == []
    assert found == []


def fits_and_is_accessible(visit: Page, axe: str, name: str) -> list[str]:
    """What is wrong with the screen that is there, on a phone in light and on a desktop in the dark."""
    found: list[str] = []
    for size, scheme in LOOKS[:2]:
        look_at(visit.page, size, scheme)
        visit.shot(f"{name.partition('?')[0]}-of-one-{'phone' if size == PHONE else 'desktop'}-{scheme}")
        found += [f"{name}: {fault}" for fault in faults(visit.page, axe)]
        overflow = visit.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        found += [f"{name}: {overflow} px too wide"] if overflow else []
    return found


# As a widget.


@pytest.fixture(scope="module")
def client() -> Iterator[str]:
    web_tools("host")
    with client_page() as address:
        yield address


def openid(alice: MatrixClient) -> dict[str, Any]:
    return alice.matrix("POST", f"user/{alice.user_id}/openid/request_token", {})


def widget_url(alice: MatrixClient) -> str:
    """The address that stands in alice's account data, where her client finds it."""
    alice.superapp("PUT", "widget")
    (entry,) = (alice.account_data("m.widgets") or {}).values()
    return str(entry["content"]["url"])


class Widget:
    """The widget in its frame, and the client around it."""

    def __init__(self, visit: Page, address: str) -> None:
        visit.page.goto(address)
        self.host = visit.page
        self.frame = visit.page.frame_locator("#widget")
        heading = self.frame.get_by_role("heading", level=1).first
        try:
            heading.wait_for(timeout=40_000)
        except Exception as late:
            # Playwright may be missing where this file is only collected, so its error is known by name.
            if type(late).__name__ != "TimeoutError":
                raise
            # A browser that loses the script of a page on the way leaves it empty, and people load it again.
            print(f"the widget stayed empty: {visit.complaints}")
            visit.page.goto(address)
            heading.wait_for()

    def seen(self, name: str) -> Any:
        return self.host.evaluate(f"window.client.{name}")


def opened(visit: Page, client: str, alice: MatrixClient, room: str, **allowed: str) -> Widget:
    token = allowed.pop("openid", None) or json.dumps(openid(alice))
    return Widget(visit, client_address(client, widget_url(alice), room=room, openid=token, **allowed))


def encrypted_room(pair: RunningDemo, alice: MatrixClient) -> str:
    """One of alice and bob; the homeservers cannot read in it, so nothing here has to."""
    state = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    room = alice.create_room(invite=[pair.people["bob"].user_id], initial_state=[state])
    with pair.client("bob") as bob:
        bob.join(room, via=pair.names[0])
    wait_until(lambda: bob.user_id in alice.joined_members(room), timeout_s=60, what="bob to be in the room")
    return room


def pay_by_widget(visit: Page, widget: Widget, payee: str, amount: str, shown: str) -> str:
    """Enter it in the widget and confirm it in the app; the address under which it was confirmed."""
    widget.frame.get_by_role("navigation", name="What you can do").get_by_role("link", name="Send").click()
    widget.frame.get_by_role("searchbox").fill(payee)
    widget.frame.get_by_role("link", name=re.compile(re.escape(payee))).click()
    widget.frame.get_by_label("Amount in EUR").fill(amount)
    widget.frame.get_by_role("button", name="Next").click()
    confirm = widget.frame.get_by_role("link", name="Confirm in my wallet")
    address = str(confirm.get_attribute("href"))
    with visit.context.expect_page() as popup:
        confirm.click()
    popup.value.get_by_role("button", name=f"Pay {shown}").click()
    popup.value.get_by_text("Paid", exact=True).wait_for()
    widget.frame.get_by_text("Paid", exact=True).wait_for()
    return address


def test_the_widget_pays_by_way_of_the_app_and_posts_a_line_where_the_homeserver_cannot(
    chromium: Any, pair: RunningDemo, client: str
) -> None:
    with visiting(chromium, pair, "alice") as visit, pair.client("alice") as alice:
        before = alice.available("EUR")
        room = encrypted_room(pair, alice)
        widget = opened(visit, client, alice, room, id="of-the-room")
        widget.frame.get_by_text("Available").wait_for()
        visit.shot("widget-light")
        # Nobody is asked to allow anything before there is something to post.
        assert [each for each in widget.seen("asked") if "m.room" in each] == []
        pay_by_widget(visit, widget, pair.people["bob"].handle, "2", "€2.00")
        assert alice.available("EUR") == before - 200

        visit.page.wait_for_function("window.client.sent.length > 0")
        (sent,) = widget.seen("sent")
        # To this room by its name: a client may show another by now.
        assert (sent["room"], sent["type"], sent["content"]["msgtype"]) == (room, "m.room.message", "m.notice")
        assert "€2.00" in sent["content"]["body"]
        (newest, *_) = alice.superapp("GET", "payments")["payments"]
        card = sent["content"]["org.superapp.card"]
        assert (card["payment_id"], card["payer"]) == (newest["payment_id"], alice.user_id)
        assert (newest["room_id"], newest["encrypted"]) == (room, True)


def test_behind_the_sticker_button_it_names_no_room_and_posts_nothing_where_the_homeserver_does(
    chromium: Any, pair: RunningDemo, client: str
) -> None:
    """A client keeps its frame, and so its address, while one goes from room to room."""
    with visiting(chromium, pair, "alice") as visit, pair.client("alice") as alice:
        widget = opened(visit, client, alice, encrypted_room(pair, alice))
        address = pay_by_widget(visit, widget, pair.people["bob"].handle, "1.50", "€1.50")
        assert "room=" not in address
        (newest, *_) = alice.superapp("GET", "payments")["payments"]
        # The direct room of the two.
        assert newest["room_id"] == pair.room_id
        assert "encrypted" not in newest
        assert widget.seen("sent") == []


def test_a_widget_that_may_do_nothing_in_the_room_pays_all_the_same_and_posts_nothing(
    chromium: Any, pair: RunningDemo, client: str
) -> None:
    with visiting(chromium, pair, "alice") as visit, pair.client("alice") as alice:
        widget = opened(visit, client, alice, encrypted_room(pair, alice), id="of-the-room", allow="none")
        pay_by_widget(visit, widget, pair.people["bob"].handle, "1", "€1.00")
        visit.page.wait_for_function("window.client.asked.some((each) => each.includes('timeline'))")
        assert widget.seen("sent") == []


def test_a_client_that_does_not_say_what_the_widget_may_do_is_not_waited_for(
    chromium: Any, pair: RunningDemo, client: str
) -> None:
    with visiting(chromium, pair, "alice") as visit, pair.client("alice") as alice:
        widget = opened(visit, client, alice, pair.room_id, allow="nothing said")
        widget.frame.get_by_text("Available").wait_for()
        assert widget.seen("asked") == []


def test_a_client_that_does_not_say_who_one_is_is_told_what_to_do(
    chromium: Any, pair: RunningDemo, client: str
) -> None:
    with visiting(chromium, pair, "alice") as visit, pair.client("alice") as alice:
        widget = opened(visit, client, alice, pair.room_id, openid="null")
        widget.frame.get_by_text("Your client did not let the wallet know who you are.").wait_for()
        assert widget.frame.get_by_role("link", name="Open the wallet by itself").is_visible()


def test_a_session_that_ends_is_opened_again_with_another_token_of_the_client(
    chromium: Any, pair: RunningDemo, client: str
) -> None:
    with visiting(chromium, pair, "alice") as visit, pair.client("alice") as alice:
        widget = opened(visit, client, alice, pair.room_id)
        widget.frame.get_by_text("Available").wait_for()
        assert widget.seen("openIdAsks") == 1
        assert alice.superapp("DELETE", "sessions")["ended"] >= 1
        widget.frame.get_by_role("link", name="People").click()
        widget.frame.get_by_role("link", name="Wallet").click()
        visit.page.wait_for_function("window.client.openIdAsks === 2")
        widget.frame.get_by_text("Available").wait_for()


def test_a_stolen_openid_token_moves_no_money(pair: RunningDemo) -> None:
    with pair.client("alice") as alice:
        before = alice.wallet()["EUR"]
        stolen = openid(alice)
        with MatrixClient(pair.homeservers[0]["client_url"]) as thief:
            session = thief.superapp("POST", "sessions/openid", stolen)
        url = pair.homeservers[0]["client_url"]
        with MatrixClient(url, user_id=alice.user_id, access_token=session["token"]) as thief:
            # It reads, which is what it is for.
            assert thief.wallet()["EUR"] == before
            bob = pair.people["bob"].handle
            order = {"payment_id": "0" * 31 + "1", "payee": bob, "amount": 100, "currency": "EUR"}
            attempts: tuple[tuple[str, str, object], ...] = (
                ("POST", "payments", order),
                ("PUT", f"contacts/{bob}", None),
                ("DELETE", "sessions", None),
            )
            for method, path, body in attempts:
                with pytest.raises(MatrixError) as refused:
                    thief.superapp(method, path, body)
                assert (refused.value.status, refused.value.errcode) == (403, "ORG.SUPERAPP.SESSION_READS_ONLY")
            # To Matrix itself it is nothing.
            with pytest.raises(MatrixError) as refused:
                thief.whoami()
            assert refused.value.status == 401
        assert alice.wallet()["EUR"] == before
