"""Calls of many on a real LiveKit: five who hear each other, kicks, leave events, the proxy, another homeserver."""

import asyncio
import itertools
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from livekit import rtc
from livekit.rtc.participant import PublishTrackError
from livekit_server import KEY, SECRET, Peer, program, running
from lone import LoneHomeserver

from synapse_super_app.commands import loopback
from synapse_super_app.commands.certificates import ThrowAwayCa
from synapse_super_app.commands.checkup import livekit as checkup
from synapse_super_app.commands.checkup.findings import Verdict
from synapse_super_app.commands.homeserver_config import HomeserverConfig
from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError, quoted, wait_until
from synapse_super_app.config import parse_config

SERVICE = "/_synapse/client/superapp/livekit"
MEMBER = "org.matrix.msc3401.call.member"
SLOT = "m.call#ROOM"
LOSES_MEDIA_S = 2.0
SILENCE_S = 1.0


@dataclass
class Stage:
    """A homeserver with its SFU."""

    homeserver: LoneHomeserver
    url: str
    closing: ExitStack
    ca: ThrowAwayCa

    def account(self, name: str) -> MatrixClient:
        return _account(self.homeserver, name, self.closing)

    def token(self, client: MatrixClient, room: str, device: str = "DEV", **more: Any) -> str:
        """As Element Call asks today: the service of this homeserver, whatever homeserver the person is of."""
        openid = client.matrix("POST", f"user/{client.user_id}/openid/request_token", {})
        body = {"room": room, "openid_token": openid, "device_id": device, **more}
        with self.homeserver.anybody() as anybody:
            answer = anybody.request("POST", f"{SERVICE}/sfu/get", body)
        assert answer["url"] == self.url
        return str(answer["jwt"])


def _account(homeserver: LoneHomeserver, name: str, closing: ExitStack) -> MatrixClient:
    return closing.enter_context(homeserver.account(f"{name}-{secrets.token_hex(3)}"))


def _with_sfu(folder: Path, port: int, url: str, federation: loopback.Federation) -> LoneHomeserver:
    """A homeserver whose clients find an SFU at a URL."""
    (folder / "sfu_secret").write_text(SECRET)
    registration: dict[str, Any] = {
        "id": "livekit",
        "url": None,
        "as_token": secrets.token_hex(16),
        "hs_token": secrets.token_hex(16),
        "sender_localpart": "livekit",
        "namespaces": {},
        "io.element.msc4512.proxy_prefix": "rtc/livekit",
        "io.element.msc4512.proxy_url": loopback.client_url(port) + SERVICE,
    }
    (folder / "registration.yaml").write_text(yaml.safe_dump(registration))
    calls = {
        "default_who": ["everyone"],
        "livekit": {"url": url, "key": KEY, "secret_path": str(folder / "sfu_secret")},
    }
    return LoneHomeserver(
        folder,
        {"features": {"payments": False, "web": False, "assistant": False}, "calls": calls},
        port=port,
        federation=federation,
        config={
            "experimental_features": {"msc4143_enabled": True, "msc4512_enabled": True, "msc4140_enabled": True},
            "app_service_config_files": [str(folder / "registration.yaml")],
        },
    )


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    program()
    folder = tmp_path_factory.mktemp("livekit")
    port = loopback.free_ports(5)
    url = f"ws://{loopback.ADDRESS}:{port + 1}"
    ca = ThrowAwayCa(folder)
    federation = loopback.Federation(port=port + 4, certificate=ca.issue("stage", loopback.ADDRESS))
    homeserver = _with_sfu(folder, port, url, federation)
    webhook = f"{loopback.client_url(port)}{SERVICE}/sfu_webhook"
    with homeserver, running(folder, webhook, port + 1), ExitStack() as closing:
        yield Stage(homeserver, url, closing, ca)


@pytest.fixture
def elsewhere(stage: Stage, tmp_path: Path) -> Iterator[LoneHomeserver]:
    """Another homeserver, which names an SFU of its own that nobody needs to reach."""
    port = loopback.free_ports(3)
    federation = loopback.Federation(port=port + 1, certificate=stage.ca.issue("elsewhere", loopback.ADDRESS))
    with _with_sfu(tmp_path, port, f"ws://{loopback.ADDRESS}:{port + 2}", federation) as homeserver:
        yield homeserver


def test_five_hear_each_other_and_who_is_kicked_loses_it_within_two_seconds_and_stays_out(stage: Stage) -> None:
    people = [stage.account(name) for name in ("anna", "ben", "cleo", "dora", "emil")]
    host, *others = people
    room = host.create_room(invite=[each.user_id for each in others])
    for each in others:
        each.join(room)
    tokens = [stage.token(each, room) for each in people]

    async def loses_media(peers: list[Peer], number: int) -> float:
        """Kick one; for how long they go on hearing one who stays, and being heard by them."""
        kicked, stays = peers[number], peers[0]
        identity = kicked.room.local_participant.identity
        other = stays.room.local_participant.identity
        host.matrix("POST", f"rooms/{room}/kick", {"user_id": people[number].user_id})
        began_s = time.monotonic()
        await kicked.is_removed()
        last_s = [await kicked.fell_silent(other, for_s=SILENCE_S), await stays.fell_silent(identity, for_s=SILENCE_S)]
        return max(last_s) - began_s

    async def call() -> None:
        peers = [await Peer(each.user_id).enter(stage.url, token) for each, token in zip(people, tokens, strict=True)]
        for peer in peers:
            await peer.speak()
        for peer in peers:
            await peer.hears(*(other for other in peers if other is not peer))
        rest = peers[:2]
        # The quickest of three, since a machine may be busy; who waited for a look every 15 seconds would take longer.
        assert min([await loses_media(peers, number) for number in (2, 3, 4)]) <= LOSES_MEDIA_S
        with pytest.raises(MatrixError) as refused:
            stage.token(people[-1], room)
        assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")
        # The token of before opens the door, and the homeserver shows them out again.
        again = Peer("again")
        try:
            await again.enter(stage.url, tokens[-1])
        except rtc.ConnectError:
            again.gone.set()
        await again.is_removed()
        # The others go on: sound goes on arriving.
        before = dict(rest[0].heard)
        identity = rest[1].room.local_participant.identity
        await rest[0].hears(rest[1], at_least=before[identity] + 20)
        for peer in peers:
            await peer.leave()

    asyncio.run(call())


def test_a_room_exists_only_for_who_was_let_in_and_a_leave_event_follows_its_device(stage: Stage) -> None:
    anna, ben = stage.account("anna"), stage.account("ben")
    room = anna.create_room(invite=[ben.user_id])
    ben.join(room)
    key = f"_{anna.user_id}_DEV_m.call"
    anna.send_state(room, MEMBER, {"application": "m.call"}, key)
    delayed = anna.matrix(
        "PUT", f"rooms/{room}/state/{MEMBER}/{key}", {}, query={"org.matrix.msc4140.delay": 3_600_000}
    )
    token = stage.token(anna, room, delay_id=delayed["delay_id"], delay_timeout=3_600_000)

    async def call() -> None:
        peer = await Peer("anna").enter(stage.url, token)
        await peer.leave()

    asyncio.run(call())

    def has_left() -> bool:
        return anna.matrix("GET", f"rooms/{room}/state/{MEMBER}/{key}") == {}

    # The delay is an hour: it is the SFU's word that ends the membership.
    wait_until(has_left, timeout_s=60, what="the membership to end")


def test_synapse_announces_the_sfu_and_passes_on_who_asks_for_a_token(stage: Stage) -> None:
    anna, ben = stage.account("anna"), stage.account("ben")
    room = anna.create_room()
    found = anna.request("GET", "/_matrix/client/unstable/org.matrix.msc4143/rtc/transports")["rtc_transports"]
    assert {"type": "m.livekit", "url": stage.url} in found
    well_known = stage.homeserver.answer("/.well-known/matrix/client")
    (focus,) = well_known["org.matrix.msc4143.rtc_foci"]
    assert focus["livekit_service_url"] == stage.homeserver.process.client_url + SERVICE
    path = "/_matrix/client/unstable/io.element.msc4195/rtc/livekit/get_token"
    body = {"url": stage.url, "room_id": room, "slot_id": SLOT, "member_id": "M1"}
    token = anna.request("POST", path, body)["jwt"]

    async def call() -> None:
        peer = await Peer("anna").enter(stage.url, token)
        await peer.leave()

    asyncio.run(call())
    with pytest.raises(MatrixError) as refused:
        ben.request("POST", path, body)
    assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")


def test_people_of_another_homeserver_listen_by_msc4195_speak_as_todays_clients_do_and_are_out_when_kicked(
    stage: Stage, elsewhere: LoneHomeserver
) -> None:
    with ExitStack() as closing:
        anna, ben, carol = stage.account("anna"), *(_account(elsewhere, each, closing) for each in ("ben", "carol"))
        room = anna.create_room(invite=[ben.user_id])

        def has_joined() -> bool:
            try:
                ben.join(room, via=stage.homeserver.name)
            except MatrixError:  # the invitation is still on its way
                return False
            return ben.user_id in anna.joined_members(room)

        wait_until(has_joined, timeout_s=60, what="somebody of the other homeserver to join")

        def asks_at_home(person: MatrixClient) -> str:
            """Their own homeserver fetches the token from the one of the SFU."""
            path = "/_matrix/client/unstable/io.element.msc4195/rtc/livekit/get_token"
            body = {"url": stage.url, "room_id": room, "slot_id": SLOT, "member_id": "M1"}
            return str(person.request("POST", path, {**body, "server_name": stage.homeserver.name})["jwt"])

        listening, speaking, hers = asks_at_home(ben), stage.token(ben, room), stage.token(anna, room)

        async def call() -> None:
            host, listener, speaker = [
                await Peer(name).enter(stage.url, token)
                for name, token in (("anna", hers), ("ben", listening), ("ben too", speaking))
            ]
            await host.speak()
            await listener.hears(host)
            with pytest.raises(PublishTrackError):
                await listener.speak()
            await speaker.speak()
            await host.hears(speaker)
            anna.matrix("POST", f"rooms/{room}/kick", {"user_id": ben.user_id})
            await asyncio.gather(listener.is_removed(), speaker.is_removed())
            for peer in (host, listener, speaker):
                await peer.leave()

        asyncio.run(call())
        for person, asks in itertools.product((ben, carol), (asks_at_home, lambda each: stage.token(each, room))):
            with pytest.raises(MatrixError) as refused:
                asks(person)
            assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")


def test_on_a_stage_listeners_only_listen_until_they_are_promoted(stage: Stage) -> None:
    host, guest = stage.account("host"), stage.account("guest")
    made = host.superapp("POST", "call_links", {"title": "Live", "stage": True, "screen_share": "hosts"})
    joined = guest.superapp("POST", f"call_links/{quoted(made['link'])}/join")
    room = joined["room_id"]
    tokens = [stage.token(each, room) for each in (host, guest)]
    role = f"call_rooms/{quoted(room)}/roles/{quoted(guest.user_id)}"

    async def call() -> None:
        speaks, listens = [await Peer(name).enter(stage.url, token) for name, token in zip("hg", tokens, strict=True)]
        await speaks.speak()
        await listens.hears(speaks)
        with pytest.raises(PublishTrackError):
            await listens.speak()
        host.superapp("PUT", role, {"role": "speaker"})
        await listens.may_speak(True)
        await listens.speak()
        await speaks.hears(listens)
        # A screen is for hosts.
        assert set(listens.room.local_participant.permissions.can_publish_sources) == {
            rtc.TrackSource.SOURCE_CAMERA,
            rtc.TrackSource.SOURCE_MICROPHONE,
        }
        host.superapp("PUT", role, {"role": "listener"})
        await listens.may_speak(False)
        await speaks.hears_no_more(listens)
        for peer in (speaks, listens):
            await peer.leave()

    asyncio.run(call())


def test_the_doctor_sees_that_it_takes_our_key_and_no_other(stage: Stage, tmp_path: Path) -> None:
    for secret, verdict in ((SECRET, Verdict.GOOD), ("of-something-else-than-this-one-here", Verdict.BAD)):
        path = tmp_path / "secret"
        path.write_text(secret)
        sfu = {"url": stage.url, "key": KEY, "secret_path": str(path)}
        module = parse_config({"calls": {"livekit": sfu}})
        config = HomeserverConfig(path=tmp_path / "homeserver.yaml", folder=tmp_path, content={})
        seen = {each.check: each.verdict for each in checkup.look(config, module)}
        assert seen == {"livekit.url": Verdict.GOOD, "livekit.key": verdict}
