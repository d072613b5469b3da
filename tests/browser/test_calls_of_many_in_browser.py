"""Calls of many in real browsers over a real LiveKit: everybody hears and sees, a live room with its roles, a kick.

Skipped where there is no LiveKit (`make livekit`), and then without starting anything.
"""

import json
import secrets
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from app_pages import DESKTOP, KEEPS_CONNECTIONS, PHONE, Page, with_media
from livekit_server import KEY, SECRET, program, running
from lone import LoneHomeserver

from synapse_super_app.commands import loopback
from synapse_super_app.commands.matrix_client import MatrixClient, quoted, wait_until

_LIMIT_S = 120.0
_SERVICE = "/_synapse/client/superapp/livekit"
_MEMBER = "org.matrix.msc3401.call.member"
_ASKS = """
    window.asked = 0;
    const media = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = (wanted) => { window.asked += 1; return media(wanted); };
"""
# How much of each kind has arrived over all connections.
_ARRIVED = """
    async () => {
        const found = {audio: 0, video: 0};
        for (const connection of window.connections) {
            if (connection.connectionState === "closed") continue;
            for (const each of (await connection.getStats()).values())
                if (each.type === "inbound-rtp") found[each.kind] += each.framesDecoded ?? each.packetsReceived ?? 0;
        }
        return found;
    }
"""


@dataclass
class Person:
    client: MatrixClient
    visit: Page


@pytest.fixture(scope="module")
def homeserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneHomeserver]:
    program()
    folder = tmp_path_factory.mktemp("many")
    port = loopback.free_ports(4)
    url = f"ws://{loopback.ADDRESS}:{port + 1}"
    (folder / "secret").write_text(SECRET)
    calls = {
        "default_who": ["everyone"],
        "livekit": {"url": url, "key": KEY, "secret_path": str(folder / "secret")},
    }
    config = {"experimental_features": {"msc4140_enabled": True}}
    lone = LoneHomeserver(folder, {"features": {"assistant": False}, "calls": calls}, port=port, config=config)
    webhook = f"{loopback.client_url(port)}{_SERVICE}/sfu_webhook"
    with lone, running(folder, webhook, port + 1):
        yield lone


@pytest.fixture(scope="module")
def phones(homeserver: LoneHomeserver, chromium: Any) -> Iterator[Any]:
    assert homeserver.process.client_url
    with with_media(chromium, "--auto-select-desktop-capture-source=Entire screen") as browser:
        yield browser


@contextmanager
def somebody(
    phones: Any, homeserver: LoneHomeserver, name: str, size: tuple[int, int], scheme: str = "light"
) -> Generator[Person]:
    with homeserver.account(f"{name}-{secrets.token_hex(3)}") as client:
        origin = homeserver.process.client_url
        session = {"kind": "matrix", "userId": client.user_id, "deviceId": "PAGE", "token": client.access_token}
        stored = [{"name": "superapp.session", "value": json.dumps(session)}]
        context = phones.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,
            locale="en-GB",
            service_workers="block",
            storage_state={"cookies": [], "origins": [{"origin": origin, "localStorage": stored}]},
        )
        try:
            visit = Page(context, origin)
            visit.page.add_init_script(KEEPS_CONNECTIONS + _ASKS)
            yield Person(client, visit)
        finally:
            context.close()


def arrives(page: Any, *kinds: str) -> None:
    """Media of these kinds goes on arriving."""
    begun = page.evaluate(_ARRIVED)

    def more() -> bool:
        now = page.evaluate(_ARRIVED)
        return all(now[kind] > begun[kind] for kind in kinds)

    try:
        wait_until(more, timeout_s=_LIMIT_S, what=f"{kinds} to arrive")
    except TimeoutError as error:
        states = page.evaluate("connections.map((each) => each.connectionState)")
        raise AssertionError(f"{error}: {page.evaluate(_ARRIVED)}, {states}, {page.inner_text('main')!r}") from None


def memberships(client: MatrixClient, room: str) -> list[dict[str, Any]]:
    """What the room's state says of who is in its call; empty for who has left."""
    _, raw = client.request_raw("GET", f"/_matrix/client/v3/rooms/{quoted(room)}/state")
    return [each["content"] for each in json.loads(raw) if each["type"] == _MEMBER]


def test_a_call_goes_over_the_call_server_and_who_is_kicked_is_out(phones: Any, homeserver: LoneHomeserver) -> None:
    with (
        somebody(phones, homeserver, "anna", DESKTOP) as anna,
        somebody(phones, homeserver, "ben", PHONE, "dark") as ben,
    ):
        made = anna.client.superapp("POST", "call_links", {"title": "Plans"})
        room = str(made["room_id"])
        anna.visit.open(f"room-call/{quoted(room)}")
        page, other = anna.visit.page, ben.visit.page
        page.get_by_role("button", name="Join with picture").click()
        page.get_by_text("Nobody else is here yet.").wait_for()
        ben.visit.open(f"call-link/{quoted(made['link'])}")
        other.get_by_role("button", name="Join with sound").click()
        for each in (page, other):
            each.get_by_text("Others in the call: 1").wait_for()
        arrives(page, "audio")
        arrives(other, "audio", "video")
        # No more connections than to the call server, and other clients find the call where it is.
        (focus,) = {
            (said["focus_active"]["type"], said["foci_preferred"][0]["livekit_service_url"])
            for said in memberships(anna.client, room)
            if said
        }
        assert focus == ("livekit", homeserver.process.client_url + _SERVICE)

        page.get_by_role("button", name="Show your screen").click()
        other.get_by_label(f"Screen of {anna.client.user_id}").wait_for()
        anna.visit.shot("conference-desktop-light")
        page.get_by_role("button", name="Show your screen").click()
        other.get_by_label(f"Screen of {anna.client.user_id}").wait_for(state="detached")

        anna.client.matrix("POST", f"rooms/{room}/kick", {"user_id": ben.client.user_id})
        other.get_by_text("You were removed from this call.").wait_for()
        page.get_by_text("Nobody else is here yet.").wait_for()
        page.get_by_role("button", name="Hang up").click()

        wait_until(lambda: {} in memberships(anna.client, room), timeout_s=_LIMIT_S, what="anna to have left the call")
        # Ben, who was kicked, could not say that he left; he is not waited for.
        page.get_by_role("button", name="Join with sound").click()
        page.get_by_text("Nobody else is here yet.").wait_for()
        assert anna.visit.complaints == []


def test_in_a_live_room_one_waits_listens_raises_a_hand_and_speaks(phones: Any, homeserver: LoneHomeserver) -> None:
    with (
        somebody(phones, homeserver, "host", DESKTOP) as host,
        somebody(phones, homeserver, "guest", PHONE, "dark") as guest,
    ):
        page, other = host.visit.open("new-call-link"), guest.visit.page
        page.get_by_label("What it is for").fill("Evening talk")
        page.get_by_role("radio", name="Live room").check()
        page.get_by_role("switch", name="Waiting room").check()
        page.get_by_label("So many people at most").fill("20")
        page.get_by_role("button", name="Make the link").click()
        page.get_by_role("button", name="Join with sound").click()
        page.get_by_text("You are a host of this call.").wait_for()
        (made,) = host.client.superapp("GET", "call_links")["links"]
        assert (made["title"], made["waiting_room"], made["max"]) == ("Evening talk", True, 20)

        guest.visit.open(f"call-link/{quoted(made['link'])}")
        other.get_by_text("You come in as soon as they let you.").wait_for()
        page.get_by_role("button", name=f"Let {guest.client.user_id} in").click()
        other.get_by_role("button", name="Enter the room").click()
        other.get_by_text("You are listening.").wait_for()
        arrives(other, "audio")
        # Who listens is asked for no microphone.
        assert other.evaluate("window.asked") == 0
        assert other.get_by_role("button", name="Speak").count() == 0

        other.get_by_role("button", name="Raise your hand").click()
        page.get_by_text("asks to speak").wait_for()
        host.visit.shot("live-room-desktop-light")
        guest.visit.shot("live-room-phone-dark")
        page.get_by_role("button", name=f"Let {guest.client.user_id} speak").click()
        other.get_by_role("button", name="Speak").click()
        other.get_by_text("You may speak.").wait_for()
        arrives(page, "audio")

        page.get_by_role("button", name=f"Make {guest.client.user_id} a listener").click()
        other.get_by_text("You are listening.").wait_for()
        other.get_by_role("button", name="Mute").wait_for(state="detached")
        assert host.visit.complaints + guest.visit.complaints == []
