"""What people do with money together, in a real browser between two homeservers."""

import re
from typing import Any

from app_pages import DESKTOP, LOOKS, Page, faults, look_at, settled, visiting
from running_demo import RunningDemo

from synapse_super_app.commands.matrix_client import wait_until


def test_money_under_a_link_is_claimed_by_somebody_who_signs_in_first(
    chromium: Any, pair: RunningDemo, axe: str
) -> None:
    with visiting(chromium, pair, "bob") as visit, visiting(chromium, pair, None) as other, pair.client("dave") as dave:
        before = dave.available("EUR")
        page = visit.open("money-link")
        page.get_by_label("Amount in EUR").fill("2.50")
        page.get_by_label("Note").fill("Welcome")
        page.get_by_role("button", name="Put €2.50 under a link").click()
        page.get_by_role("img", name="QR code of the link").wait_for()
        assert looked_at(visit, axe, "money-link") == []
        with pair.client("bob") as bob:
            made = page.evaluate("location.hash").rpartition("/")[2]
            link = str(bob.superapp("GET", f"claims/{made}")["link"])

        # The page that the link leads to is for whoever knows nothing of us, and leads on with it.
        token = link.partition("#")[2]
        claimed = other.page
        claimed.goto(f"{other.origin}/superapp/claim/#{token}")
        claimed.get_by_role("link", name="Open your wallet").click()
        claimed.get_by_label("User name").fill("dave")
        claimed.get_by_label("Password").fill(pair.people["dave"].password)
        claimed.get_by_role("button", name="Sign in").click()
        claimed.get_by_role("button", name="Take €2.50").click()
        claimed.get_by_text("Yours.").wait_for()
        wait_until(lambda: dave.available("EUR") == before + 250, timeout_s=60, what="dave to have it")
        page.get_by_text("Claimed", exact=True).wait_for()
        assert visit.complaints + other.complaints == []


def test_a_bill_is_split_and_shows_who_has_paid(chromium: Any, pair: RunningDemo) -> None:
    with visiting(chromium, pair, "alice", size=DESKTOP) as visit, pair.client("bob") as bob:
        page = visit.open(f"split?room={pair.room_id}")
        page.get_by_label("Amount in EUR").fill("9")
        page.get_by_label("Note").fill("Pizza")
        page.get_by_role("button", name="Everybody in the room").click()
        page.get_by_role("button", name="By shares").or_(page.get_by_text("By shares")).first.click()
        page.get_by_label(f"Shares of {pair.people['bob'].user_id}").fill("2")
        page.get_by_role("button", name="Ask for €6.00").click()
        page.get_by_text("€0.00 of €6.00").wait_for()

        def asked() -> Any:
            found = bob.superapp("GET", "requests")["requests"]
            return next((each for each in found if each.get("memo") == "Pizza"), None)

        request = wait_until(asked, timeout_s=60, what="bob to be asked")
        assert request["amount"] == 600
        page.get_by_role("button", name="Remind").click()
        page.get_by_text("Those who have not answered are reminded.").wait_for()
        order = {
            "payment_id": "5" * 32,
            "payee": pair.people["alice"].user_id,
            "amount": 600,
            "currency": "EUR",
            "request": request["request_id"],
            "room_id": request["room_id"],
        }
        bob.superapp("POST", "payments", order)
        page.get_by_text("€6.00 of €6.00").wait_for()
        visit.shot("split-paid-desktop-light")
        assert visit.complaints == []


def test_a_deposit_is_asked_put_down_where_one_wants_to_reach_somebody_and_given_back(
    chromium: Any, pair: RunningDemo
) -> None:
    with visiting(chromium, pair, "alice") as visit, visiting(chromium, pair, "carol", size=DESKTOP) as other:
        asking = other.open("deposits")
        asking.get_by_label("Deposit", exact=True).fill("2")
        asking.get_by_role("button", name="Ask for it").click()
        asking.get_by_text("You ask strangers for €2.00.").wait_for()

        # Whoever pays somebody for the first time needs a room with them, and so hears of it there.
        page = visit.open(f"send?to={pair.people['carol'].handle}&currency=EUR&decimal=1")
        page.get_by_role("button", name="Next").click()
        page.get_by_role("button", name="Pay €1.00").click()
        page.get_by_text("asks strangers to put down €2.00").wait_for()
        visit.shot("deposit-phone-light")
        page.get_by_role("button", name="Put it down and pay").click()
        page.get_by_role("link", name="Done").wait_for()

        asking.get_by_role("button", name="Give back").wait_for()
        other.shot("deposits-desktop-light")
        asking.get_by_role("button", name="Give back").click()
        asking.get_by_text("Given back").wait_for()
        asking.get_by_role("button", name="Ask for nothing any more").click()
        asking.get_by_text("You ask strangers for nothing.").wait_for()
        assert visit.complaints + other.complaints == []


def looked_at(visit: Page, axe: str, name: str) -> list[str]:
    """What axe finds on the screen that is there, on a phone in light and on a desktop in the dark."""
    found: list[str] = []
    for size, scheme in LOOKS[:2]:
        look_at(visit.page, size, scheme)
        visit.shot(f"{name}-{scheme}")
        found += [f"{name}: {fault}" for fault in faults(visit.page, axe)]
    return found


def test_gifts_collections_standing_orders_and_disputes_between_two_homeservers(
    chromium: Any, pair: RunningDemo, axe: str
) -> None:
    found: list[str] = []
    with (
        visiting(chromium, pair, "alice") as visit,
        visiting(chromium, pair, "bob") as other,
        pair.client("alice") as alice,
        pair.client("bob") as bob,
    ):
        page, theirs, before = visit.open(f"give?room={pair.room_id}"), other.page, bob.available("EUR")
        page.get_by_label("Amount in EUR").fill("3")
        page.get_by_label("Note").fill("For the garden")
        page.get_by_role("button", name="Give €3.00").click()
        page.get_by_text("Your gift").wait_for()
        gift = page.evaluate("location.hash").rpartition("/")[2]
        other.open(f"gift/{gift}?giver={pair.people['alice'].user_id}")
        settled(theirs)
        found += looked_at(other, axe, "gift-closed")
        theirs.get_by_role("button", name="Open", exact=True).click()
        theirs.get_by_text("Yours.").wait_for()
        wait_until(lambda: bob.available("EUR") == before + 300, timeout_s=60, what="bob to have his share")
        page.get_by_text("1 of 1 opened").wait_for()
        found += looked_at(visit, axe, "gift-opened")

        visit.open(f"collect?room={pair.room_id}")
        page.get_by_label("Goal").fill("8")
        page.get_by_label("Note").fill("A tent")
        page.get_by_role("button", name="Begin to collect").click()
        page.get_by_text("€0.00 of €8.00").wait_for()
        found += looked_at(visit, axe, "collection")
        other.open("collect")
        row = theirs.get_by_role("link", name=re.compile("A tent"))
        wait_until(lambda: theirs.reload() and row.is_visible(), timeout_s=60, what="the collection to arrive")
        row.click()
        theirs.get_by_role("button", name="Put in").click()
        theirs.get_by_role("dialog").get_by_label("Amount in EUR").fill("8")
        theirs.get_by_role("dialog").get_by_role("button", name="Next").click()
        theirs.get_by_role("button", name="Pay €8.00").click()
        page.get_by_text("The goal is reached").wait_for()

        visit.open(f"schedule?to={pair.people['bob'].handle}")
        page.get_by_label("Amount in EUR").fill("1")
        page.get_by_role("button", name="Pay €1.00, every month").click()
        page.get_by_text("Next: ").wait_for()
        (planned,) = [each for each in alice.superapp("GET", "schedules")["schedules"] if each["state"] == "active"]
        page.get_by_role("button", name="Skip the next").click()
        path = f"schedules/{planned['schedule_id']}"
        wait_until(
            lambda: alice.superapp("GET", path)["next_ts"] > planned["next_ts"], timeout_s=60, what="a month more"
        )
        page.get_by_role("button", name="Pause").click()
        page.get_by_role("button", name="Go on").wait_for()
        found += looked_at(visit, axe, "schedule")
        page.get_by_role("button", name="Cancel").click()
        page.get_by_text("Cancelled", exact=True).wait_for()
        assert alice.superapp("GET", path)["state"] == "cancelled"

        paid = alice.pay(pair.people["bob"].handle, 250, "EUR", memo="A lamp")
        alice.wait_for_payment(paid["payment_id"])
        visit.open(f"dispute/{paid['payment_id']}")
        page.get_by_role("radio", name="Not received").check()
        page.get_by_label("Your statement").fill("It never came.")
        found += looked_at(visit, axe, "dispute-opening")
        page.get_by_role("button", name="Dispute it").click()
        page.get_by_text("Both sides are heard").wait_for()
        other.open("disputes")
        case = theirs.locator(f"a[href*='{paid['payment_id']}']")
        wait_until(lambda: theirs.reload() and case.is_visible(), timeout_s=60, what="the dispute to arrive")
        case.click()
        theirs.get_by_text("It never came.").wait_for()
        theirs.get_by_label("Your statement").fill("It was left at the door.")
        theirs.get_by_role("button", name="Add it").click()
        page.get_by_text("It was left at the door.").wait_for()
        found += looked_at(visit, axe, "dispute")
        page.get_by_role("button", name="Withdraw it").click()
        page.get_by_text("Withdrawn", exact=True).wait_for()
        theirs.get_by_text("Withdrawn", exact=True).wait_for()
        assert visit.complaints + other.complaints == []
    assert found == []
