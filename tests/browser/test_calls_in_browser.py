"""A call between two people in two browsers, on two homeservers: the ring, the answer, media, and the end."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from app_pages import DESKTOP, Page, visiting
from running_demo import RunningDemo

from synapse_super_app.commands.matrix_client import MatrixClient, wait_until

_LIMIT_S = 120.0
# Chromium shows its test picture and beeps. Without a network there are only loopback addresses to connect over.
_MEDIA = (
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--allow-loopback-in-peer-connection",
)
# Keeps every connection that the page makes, to look at what flows in it.
_KEEPS = """
    window.connections = [];
    window.RTCPeerConnection = class extends RTCPeerConnection {
        constructor(...config) { super(...config); window.connections.push(this); }
    };
"""
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
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    browser = chromium.browser_type.launch(executable_path=program, args=list(_MEDIA))
    yield browser
    browser.close()


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
            each.page.add_init_script(_KEEPS)
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
    everyone = {"v": 1, "who": ["everyone"]}
    with (
        visiting(phones, pair, "alice") as caller,
        visiting(phones, pair, "bob") as callee,
        pair.client("bob") as bob,
    ):
        bob.set_account_data("org.superapp.call.policy", {"v": 1, "who": ["nobody"]})
        try:
            ready(callee)
            page = caller.open(f"person/{pair.people['bob'].handle}")
            page.get_by_role("button", name="Call", exact=True).click()
            page.get_by_role("region", name="Call").get_by_text("Not available for calls now.").wait_for()
            records(bob, outcome="screened", screened_by="who")
            assert callee.page.get_by_role("region", name="Call").count() == 0
        finally:
            bob.set_account_data("org.superapp.call.policy", everyone)
