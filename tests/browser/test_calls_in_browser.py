"""A call between two people in two browsers, on two homeservers: the ring, the answer, media, and the end."""

import re
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from app_pages import DESKTOP, KEEPS_CONNECTIONS, Page, visiting, with_media
from phones import Phone, beside, is_of_call
from running_demo import RunningDemo

from synapse_super_app.commands.matrix_client import MatrixClient, quoted, wait_until

_LIMIT_S = 120.0
_POLICY = "org.superapp.call.policy"
_EVERYONE = {"v": 1, "who": ["everyone"]}
_FLOWS = """
    async () => {
        const connection = window.connections.at(-1);
        if (connection === undefined) return {};
        const reports = [...(await connection.getStats()).values()];
        const heard = reports.filter((each) => each.type === "inbound-rtp");
        return Object.fromEntries(heard.map((each) => [each.kind, each.framesDecoded ?? each.totalSamplesReceived]));
    }
"""


@pytest.fixture(scope="module")
def phones(chromium: Any) -> Iterator[Any]:
    """A browser with a camera and a microphone that are always allowed."""
    with with_media(chromium) as browser:
        yield browser


def records(person: MatrixClient, **wanted: object) -> dict[str, Any]:
    """The newest call in somebody's own history, once it is as wanted."""

    def newest() -> dict[str, Any] | None:
        calls = person.superapp("GET", "calls")["calls"]
        return calls[0] if calls and all(calls[0].get(key) == value for key, value in wanted.items()) else None

    return wait_until(newest, timeout_s=_LIMIT_S, what=f"{person.user_id} to record {wanted}")


def ready(visit: Page) -> None:
    """The page listens for rings: it has been told where events begin."""
    with visit.page.expect_response(lambda answer: "/v3/sync?" in answer.url and answer.ok):
        visit.open()


@contextmanager
def back_to_everyone(person: MatrixClient) -> Generator[None]:
    """Whoever may ring somebody in a test, everybody may ring them in the next one, also if it fails."""
    try:
        yield
    finally:
        person.set_account_data(_POLICY, _EVERYONE)


def flows(page: Any, *kinds: str) -> None:
    """Media of these kinds arrives, and goes on arriving."""
    begun = page.evaluate(_FLOWS)

    def more() -> bool:
        now = page.evaluate(_FLOWS)
        return all(now.get(kind, 0) > begun.get(kind, 0) for kind in kinds)

    wait_until(more, timeout_s=_LIMIT_S, what="media to flow")


def test_two_people_on_two_homeservers_see_and_hear_each_other(phones: Any, pair: RunningDemo) -> None:
    with (
        visiting(phones, pair, "alice", size=DESKTOP) as caller,
        visiting(phones, pair, "bob", scheme="dark") as callee,
        pair.client("alice") as alice,
        pair.client("bob") as bob,
    ):
        for each in (caller, callee):
            each.page.add_init_script(KEEPS_CONNECTIONS)
        ready(callee)
        page, other = caller.open(f"person/{pair.people['bob'].handle}"), callee.page
        page.get_by_role("button", name="Video call").click()
        phone, other_phone = page.get_by_role("region", name="Call"), other.get_by_role("region", name="Call")
        other_phone.get_by_text("rings you with video").wait_for()
        assert pair.people["alice"].handle in other_phone.inner_text()
        callee.shot("call-ringing-phone-dark")
        other_phone.get_by_role("button", name="Answer").click()
        for each in (phone, other_phone):
            each.get_by_text("Connected").wait_for()
        for each in (page, other):
            flows(each, "audio", "video")
        caller.shot("call-desktop-light")

        phone.get_by_role("button", name="Mute").click()
        sent = page.evaluate("connections.at(-1).getSenders().map(({track}) => [track.kind, track.enabled])")
        assert sent == [["audio", False], ["video", True]]
        phone.get_by_role("button", name="Hang up").click()
        for each in (phone, other_phone):
            each.get_by_text("The call is over.").wait_for()
        for person, direction in ((alice, "outgoing"), (bob, "incoming")):
            record = records(person, direction=direction, outcome="answered", ended_by=alice.user_id)
            assert record["media"] == "video"
            assert record["media_ts"] <= record["end_ts"]
        # The page does not speak MatrixRTC: nobody is to join a call there and find nobody in it.
        sent = {event["type"] for event in alice.messages(record["room_id"], 100)}
        assert sent >= {"org.superapp.call.ring", "m.call.invite", "m.call.answer", "m.call.hangup"}
        assert sent.isdisjoint({"org.matrix.msc3401.call.member", "org.matrix.msc4075.rtc.notification"})
        assert caller.complaints + callee.complaints == []


def said(person: MatrixClient, room: str, event_type: str, call_id: str) -> list[dict[str, Any]]:
    """The contents of what came in a call, the oldest first."""
    wanted = is_of_call(event_type, call_id)
    return [event["content"] for event in reversed(person.messages(room, 100)) if wanted(event)]


@pytest.mark.skipif(shutil.which("turnserver") is None, reason="there is no coturn; on Debian: apt-get install coturn")
def test_a_browser_and_an_end_of_another_make_hear_and_see_each_other_through_the_relay(
    phones: Any, pair: RunningDemo
) -> None:
    with (
        visiting(phones, pair, "alice", size=DESKTOP) as caller,
        pair.client("bob") as bob,
        pair.client("alice") as alice,
        beside() as do,
    ):
        caller.page.add_init_script(KEEPS_CONNECTIONS)
        page = caller.open(f"person/{pair.people['bob'].handle}")
        page.get_by_role("button", name="Video call").click()
        region = page.get_by_role("region", name="Call")
        rung = records(bob, direction="incoming", outcome="ringing")
        room, call_id = str(rung["room_id"]), str(rung["call_id"])
        (invite,) = wait_until(
            lambda: said(bob, room, "m.call.invite", call_id) or None, timeout_s=_LIMIT_S, what="the offer to arrive"
        )

        async def make(credentials: dict[str, Any]) -> Phone:
            return Phone(credentials)

        phone: Phone = do(make(bob.superapp("GET", f"calls/{call_id}/turn")))
        try:
            answer = do(phone.answer(invite["offer"]["sdp"]))
            assert "typ relay" in answer
            assert "typ host" not in answer
            reply = {"version": "1", "party_id": "B", "answer": {"type": "answer", "sdp": answer}}
            bob.send(room, "m.call.answer", {"call_id": call_id, **reply})
            known = 0

            def connected() -> bool:
                nonlocal known
                found = said(bob, room, "m.call.candidates", call_id)
                for content in found[known:]:
                    do(phone.reaches(content["candidates"]))
                known = len(found)
                return bool(region.get_by_text("Connected").count() == 1)

            wait_until(connected, timeout_s=_LIMIT_S, what="the call to connect")
            do(phone.hears_and_sees(10))
            flows(page, "audio", "video")
            region.get_by_role("button", name="Hang up").click()
            region.get_by_text("The call is over.").wait_for()
        finally:
            do(phone.hang_up())
        for person, direction in ((alice, "outgoing"), (bob, "incoming")):
            record = records(person, direction=direction, outcome="answered", ended_by=alice.user_id)
            assert (record["call_id"], record["media"]) == (call_id, "video")
        assert caller.complaints == []


def test_the_price_of_a_call_is_set_seen_confirmed_and_counted_as_one_talks(phones: Any, pair: RunningDemo) -> None:
    with (
        visiting(phones, pair, "alice") as caller,
        visiting(phones, pair, "bob") as callee,
        pair.client("alice") as alice,
        pair.client("bob") as bob,
        back_to_everyone(bob),
    ):
        had = bob.available("EUR")
        other = callee.open("calls")
        # Both are keys of the policy, and neither waits for the other.
        other.get_by_label("Contacts only").click()
        other.get_by_label("Price of a minute").fill("60")
        other.get_by_role("button", name="Ask this price").click()
        other.get_by_text("You ask €60.00 a minute.").wait_for()
        other.get_by_text("Saved").wait_for()
        policy = bob.account_data(_POLICY) or {}
        assert (policy["who"], policy["price"]["amount"]) == (["contacts"], 6_000)
        ready(callee)

        page = caller.open(f"person/{pair.people['bob'].handle}")
        page.get_by_text("a minute of a call costs you €60.00").wait_for()
        page.get_by_role("button", name="Call", exact=True).click()
        phone, other_phone = page.get_by_role("region", name="Call"), other.get_by_role("region", name="Call")
        phone.get_by_label("How long it may take").wait_for()
        assert alice.superapp("GET", "paid_calls")["calls"] == []
        # What 100.00 EUR do not cover is refused, and nothing rings.
        phone.get_by_role("button", name="Ring for €60.00 a minute").click()
        phone.get_by_role("alert").wait_for()
        bob.superapp("PUT", "call_price", {"amount": 60, "currency": "EUR"})
        # The price has changed since it was shown: the new one is shown, and has to be confirmed itself.
        phone.get_by_role("button", name="Ring for €60.00 a minute").click()
        phone.get_by_role("button", name="Ring for €0.60 a minute").wait_for()
        caller.shot("call-price-phone-light")
        phone.get_by_role("button", name="Ring for €0.60 a minute").click()

        other_phone.get_by_role("button", name="Answer").click()
        phone.get_by_text("Connected").wait_for()
        phone.get_by_text("Costs so far").wait_for()
        # Some seconds at a cent each, counted by the page; how many, a busy machine says.
        phone.get_by_text(re.compile(r"€(0\.0[2-9]|0\.[1-9]|[1-9])")).wait_for()
        phone.get_by_role("button", name="Hang up").click()
        phone.get_by_text("It cost").wait_for()
        (fare,) = alice.superapp("GET", "paid_calls")["calls"]
        assert (fare["state"], fare["aside"]) == ("ended", 0), fare
        assert phone.get_by_text(f"€{fare['paid'] / 100:.2f}").count() == 1
        wait_until(lambda: bob.available("EUR") == had + fare["paid"], timeout_s=_LIMIT_S, what="bob to be paid")

        callee.open("calls").get_by_role("button", name="Ask nothing any more").click()
        other.get_by_text("You ask no price for calls.").wait_for()
        assert caller.complaints + callee.complaints == []


def test_the_price_of_a_link_is_made_seen_confirmed_and_counted_while_one_is_in_the_call(
    phones: Any, pair: RunningDemo
) -> None:
    with (
        visiting(phones, pair, "bob") as guest,
        visiting(phones, pair, "alice", size=DESKTOP) as host,
        pair.client("alice") as alice,
        pair.client("bob") as bob,
    ):
        had, before = alice.available("EUR"), {each["fare_id"] for each in bob.superapp("GET", "paid_calls")["calls"]}
        page, other = host.open("new-call-link"), guest.page
        page.get_by_label("What it is for").fill("Lesson")
        page.get_by_role("switch", name="A price by the minute").check()
        page.get_by_role("button", name="Make the link").click()
        page.get_by_text("Enter an amount").wait_for()
        page.get_by_label("Price of a minute").fill("6")
        page.get_by_role("button", name="Make the link").click()
        # Hosts come in for nothing.
        page.get_by_role("button", name="Join with sound").click()
        page.get_by_text("Nobody else is here yet.").wait_for()
        (made,) = [each for each in alice.superapp("GET", "call_links")["links"] if each["title"] == "Lesson"]
        assert made["price"] == {"amount": 600, "currency": "EUR"}

        guest.open(f"call-link/{quoted(made['link'])}")
        other.get_by_text("A minute costs €6.00 with").wait_for()
        guest.shot("call-link-price-phone-light")
        other.get_by_role("button", name="Come in for €6.00 a minute").click()
        other.get_by_role("button", name="Join with sound").click()
        for each in (page, other):
            each.get_by_text("Others in the call: 1").wait_for()
        other.get_by_text("Costs so far").wait_for()
        other.get_by_text(re.compile(r"€(0\.[1-9]|[1-9])")).wait_for()
        other.get_by_role("button", name="Hang up").click()
        other.get_by_text("It cost").wait_for()

        def paid() -> int | None:
            (fare,) = [each for each in bob.superapp("GET", "paid_calls")["calls"] if each["fare_id"] not in before]
            return int(fare["paid"]) if fare["state"] == "ended" else None

        came_to = wait_until(paid, timeout_s=_LIMIT_S, what="the call to be paid")
        wait_until(lambda: alice.available("EUR") == had + came_to, timeout_s=_LIMIT_S, what="alice to be paid")
        # Coming in again is confirmed again.
        other.get_by_role("button", name="Come in for €6.00 a minute").wait_for()
        page.get_by_role("button", name="Hang up").click()
        assert host.complaints + guest.complaints == []


def test_a_ring_that_is_declined_or_given_up_ends_on_both_sides(phones: Any, pair: RunningDemo) -> None:
    with (
        visiting(phones, pair, "bob") as caller,
        visiting(phones, pair, "alice") as callee,
        pair.client("bob") as bob,
    ):
        ready(callee)
        page = caller.open(f"person/{pair.people['alice'].handle}")
        phone, other_phone = page.get_by_role("region", name="Call"), callee.page.get_by_role("region", name="Call")
        page.get_by_role("button", name="Call", exact=True).click()
        other_phone.get_by_role("button", name="Decline").click()
        phone.get_by_text("Declined.").wait_for()
        records(bob, direction="outgoing", outcome="declined")

        phone.get_by_role("button", name="Close").click()
        page.get_by_role("button", name="Call", exact=True).click()
        other_phone.get_by_text("rings you").wait_for()
        # A page that is closed in the middle tells the other side.
        caller.page.goto("about:blank")
        other_phone.get_by_text("Nobody answered.").wait_for()
        records(bob, direction="outgoing", outcome="cancelled")


def test_who_is_not_to_be_reached_does_not_ring(phones: Any, pair: RunningDemo) -> None:
    with (
        visiting(phones, pair, "alice") as caller,
        visiting(phones, pair, "bob") as callee,
        pair.client("bob") as bob,
        back_to_everyone(bob),
    ):
        bob.set_account_data(_POLICY, {"v": 1, "who": ["nobody"]})
        ready(callee)
        page = caller.open(f"person/{pair.people['bob'].handle}")
        page.get_by_role("button", name="Call", exact=True).click()
        page.get_by_role("region", name="Call").get_by_text("Not available for calls now.").wait_for()
        records(bob, outcome="screened", screened_by="who")
        assert callee.page.get_by_role("region", name="Call").count() == 0


_OTHERS = """
    async () => {
        const found = [];
        for (const connection of window.connections) {
            if (connection.connectionState !== "connected") continue;
            const reports = [...(await connection.getStats()).values()];
            const pair = reports.find((each) => each.type === "candidate-pair" && each.nominated);
            const local = reports.find((each) => each.id === pair?.localCandidateId);
            const heard = reports.filter((each) => each.type === "inbound-rtp");
            const count = (kind) => heard.find((each) => each.kind === kind);
            found.push({
                way: local?.candidateType,
                audio: count("audio")?.totalSamplesReceived ?? 0,
                video: count("video")?.framesDecoded ?? 0,
            });
        }
        return found;
    }
"""
_MEMBER = "org.matrix.msc3401.call.member"


def hears_and_sees(page: Any, heard: int, seen: int) -> list[str]:
    """Sound of so many others arrives, and pictures of so many; over which ways."""

    def all_do() -> list[str] | None:
        found = page.evaluate(_OTHERS)
        enough = sum(each["audio"] > 0 for each in found) == heard and sum(each["video"] > 0 for each in found) == seen
        return [each["way"] for each in found] if enough else None

    try:
        return wait_until(all_do, timeout_s=_LIMIT_S, what=f"sound of {heard} and pictures of {seen}")
    except TimeoutError as error:
        states = page.evaluate("connections.map((each) => each.connectionState)")
        raise AssertionError(f"{error}: {page.evaluate(_OTHERS)}, {states}, {page.inner_text('main')!r}") from None


def test_three_people_of_two_homeservers_come_by_a_link_and_call_each_other_without_an_sfu(
    phones: Any, pair: RunningDemo
) -> None:
    with (
        visiting(phones, pair, "alice", size=DESKTOP) as alice,
        visiting(phones, pair, "bob") as bob,
        visiting(phones, pair, "dave", scheme="dark") as dave,
        pair.client("alice") as host,
        pair.client("bob") as hidden,
        back_to_everyone(hidden),
    ):
        for each in (alice, bob, dave):
            each.page.add_init_script(KEEPS_CONNECTIONS)
        made = host.superapp("POST", "call_links", {"title": "Plans", "waiting_room": True})
        room, link = made["room_id"], made["link"]
        if shutil.which("turnserver") is not None:
            hidden.set_account_data(_POLICY, {**_EVERYONE, "relay_only": True})
        alice.open(f"room-call/{quoted(room)}")
        bob.open(f"call-link/{quoted(link)}")
        dave.open("calls").get_by_label("A link that somebody sent you").fill(f"come to {link}")
        dave.page.get_by_role("button", name="Enter").click()
        for guest in ("bob", "dave"):
            alice.page.get_by_role("button", name=f"Let {pair.people[guest].user_id} in").click()
        alice.page.get_by_role("button", name="Join with picture").click()
        for each in (bob, dave):
            each.page.get_by_role("button", name="Join with sound").click()
        ways = {each: hears_and_sees(each.page, 2, 0 if each is alice else 1) for each in (alice, bob, dave)}
        if shutil.which("turnserver") is not None:
            # Who hides their address is reached over the relay alone.
            assert ways[bob] == ["relay", "relay"]
        for each in (alice, bob, dave):
            each.page.get_by_text("Others in the call: 2").wait_for()
        alice.shot("group-call-desktop-light")
        bob.page.get_by_role("button", name="Hang up").click()
        for each in (alice, dave):
            each.page.get_by_text("Others in the call: 1").wait_for()
        # A page that is closed leaves the call.
        dave.page.goto("about:blank")
        alice.page.get_by_text("Nobody else is here yet.").wait_for()
        alice.page.get_by_role("button", name="Hang up").click()

        for number in range(4):
            device = f"DEVICE{number}"
            said = {"application": "m.call", "call_id": "", "scope": "m.room", "device_id": device}
            host.send_state(room, _MEMBER, said, f"_{host.user_id}_{device}_m.call")
        alice.page.get_by_role("button", name="Join with sound").click()
        alice.page.get_by_text("Four people are in this call already").wait_for()
        assert alice.complaints + bob.complaints + dave.complaints == []
