"""Sound and pictures between people of two homeservers, through coturn, with the credentials of their call."""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import turn_server
from aioice import stun, turn
from aiortc import RTCSessionDescription
from bad_link import bad_link
from phones import Phone, is_of_call, relayed_over
from running_demo import RunningDemo
from test_calls import direct_room

from super_app.calls.model import SessionId
from super_app.ids import Acct
from synapse_super_app.calls.coturn import Coturn
from synapse_super_app.calls.turn import TTL_S, Turn, TurnCredentials, name_in
from synapse_super_app.commands import loopback
from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError, quoted, wait_until

PATIENCE_S: Final = 90.0
FRAMES: Final = 10
BAD_FRAMES: Final = 60
LOSS: Final = 0.05
JITTER_MS: Final = 100.0
INVITE: Final = "m.call.invite"
ANSWER: Final = "m.call.answer"
HANGUP: Final = "m.call.hangup"

Json = dict[str, Any]


@pytest.fixture
def relay(demo: RunningDemo, tmp_path: Path) -> Iterator[tuple[str, int]]:
    assert demo.turn is not None
    with turn_server.running(tmp_path, demo.turn[0]) as server:
        yield server


def event_of(client: MatrixClient, room: str, event_type: str, call_id: str) -> Json:
    """What the other sent, once it has arrived."""
    wanted = is_of_call(event_type, call_id)

    def found() -> Json | None:
        return next((each for each in client.messages(room) if wanted(each)), None)

    return wait_until(found, timeout_s=PATIENCE_S, what=f"{event_type} to arrive")


@pytest.mark.on("postgresql")
def test_two_people_of_two_homeservers_hear_and_see_each_other_through_the_relay_on_a_bad_link_too(
    demo: RunningDemo, relay: tuple[str, int]
) -> None:
    """What is relayed under the credentials of a call ends with it; for the call of a room one is in, it goes on."""
    with demo.client("alice") as alice, demo.client("bob") as bob:
        room, call_id = direct_room(alice, bob), f"media-{time.time_ns()}"
        alice.superapp("POST", "calls", {"call_id": call_id, "callee": bob.user_id, "media": "video", "room_id": room})
        of_room = alice.superapp("GET", f"call_rooms/{quoted(room)}/turn")
        asyncio.run(_talk(alice, bob, room, call_id, relay, of_room))

        def has_ended() -> bool:
            return "end_ts" in bob.superapp("GET", f"calls/{call_id}")

        wait_until(has_ended, timeout_s=PATIENCE_S, what="the call to end")
        for person in (alice, bob):
            record = person.superapp("GET", f"calls/{call_id}")
            assert (record["outcome"], record["media"]) == ("answered", "video")
            # The call is over, and so is what it gives a right to.
            with pytest.raises(MatrixError) as refused:
                person.superapp("GET", f"calls/{call_id}/turn")
            assert (refused.value.status, refused.value.errcode) == (404, "ORG.SUPERAPP.UNKNOWN_CALL")


async def _talk(
    alice: MatrixClient, bob: MatrixClient, room: str, call_id: str, relay: tuple[str, int], of_room: Json
) -> None:
    def ask(person: MatrixClient) -> Json:
        return person.superapp("GET", f"calls/{call_id}/turn")

    def rings() -> Json | None:
        try:
            return ask(bob)
        except MatrixError:  # the ring is still on its way
            return None

    his = await asyncio.to_thread(lambda: wait_until(rings, timeout_s=PATIENCE_S, what="the ring to arrive"))
    hers = ask(alice)
    assert hers["username"] != his["username"]
    assert not any(person.user_id in credentials["username"] for person in (alice, bob) for credentials in (hers, his))
    assert hers["uris"] == his["uris"] == [f"turn:{loopback.ADDRESS}:{relay[1]}?transport=udp"]
    async with bad_link(relay) as link:
        caller, callee = Phone(relayed_over(hers, link.port)), Phone(relayed_over(his, link.port))
        try:
            await _connect(alice, bob, room, call_id, caller, callee)
            await asyncio.gather(*(phone.hears_and_sees(FRAMES) for phone in (caller, callee)))
            link.make_bad(loss=LOSS, jitter_ms=JITTER_MS)
            await asyncio.gather(*(phone.hears_and_sees(BAD_FRAMES) for phone in (caller, callee)))
            assert link.lost > 0
            assert link.late_ms > JITTER_MS / 2
            kept = [await _allocated(relay, TurnCredentials.model_validate(each)) for each in (hers, his, of_room)]
            for each in kept:
                assert await _code_of(each.channel_bind(0x4000, (loopback.ADDRESS, 9))) is None
            alice.send(room, HANGUP, {"call_id": call_id, "version": "1", "party_id": "A", "reason": "user_hangup"})
        finally:
            await caller.hang_up()
            await callee.hang_up()
    # Each homeserver shows its own people out of what they kept, and again who allocates anew.
    for each in kept[:2]:
        await _is_shown_out(each)
    kept.append(await _allocated(relay, TurnCredentials.model_validate(hers)))
    await _is_shown_out(kept[-1])
    assert await _code_of(kept[2].channel_bind(0x4000, (loopback.ADDRESS, 9))) is None
    for each in kept:
        await each.delete()


async def _connect(
    alice: MatrixClient, bob: MatrixClient, room: str, call_id: str, caller: Phone, callee: Phone
) -> None:
    """Offer and answer as stock clients send them."""
    offer = await caller.offer()
    assert "typ relay" in offer
    assert "typ host" not in offer
    said = {"version": "1", "party_id": "A", "lifetime": 60_000, "offer": {"type": "offer", "sdp": offer}}
    alice.send(room, INVITE, {"call_id": call_id, **said})
    invite = await asyncio.to_thread(event_of, bob, room, INVITE, call_id)
    answer = await callee.answer(invite["content"]["offer"]["sdp"])
    reply = {"version": "1", "party_id": "B", "answer": {"type": "answer", "sdp": answer}}
    bob.send(room, ANSWER, {"call_id": call_id, **reply})
    answered = await asyncio.to_thread(event_of, alice, room, ANSWER, call_id)
    sdp = answered["content"]["answer"]["sdp"]
    await caller.connection.setRemoteDescription(RTCSessionDescription(sdp, "answer"))


@pytest.fixture
def lone_relay(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Without homeservers."""
    with turn_server.running(tmp_path, turn_server.place(tmp_path)[0]) as server:
        yield server


def test_the_relay_reaches_nothing_private(lone_relay: tuple[str, int]) -> None:
    credentials = Turn(("",), turn_server.SECRET).credentials(SessionId("s"), Acct("a"), _now_ms())

    def code(address: str) -> int | None:
        return asyncio.run(_code_of_permission(lone_relay, credentials.username, credentials.password, address))

    for address in ("10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "127.0.0.2", "0.0.0.0"):
        assert code(address) == 403, address
    assert code("127.0.0.1") is None


def test_credentials_are_refused_when_their_ten_minutes_are_over(lone_relay: tuple[str, int]) -> None:
    known = Turn(("",), turn_server.SECRET)
    for age_ms, code in ((0, None), (TTL_S * 1_000 + 5_000, 401)):
        old = known.credentials(SessionId("s"), Acct("a"), _now_ms() - age_ms)
        assert asyncio.run(_code_of_permission(lone_relay, old.username, old.password, "127.0.0.1")) == code
    forged = Turn(("",), "another secret").credentials(SessionId("s"), Acct("a"), _now_ms())
    assert asyncio.run(_code_of_permission(lone_relay, forged.username, forged.password, "127.0.0.1")) == 401


def test_who_is_shown_out_relays_no_more_and_others_do(lone_relay: tuple[str, int]) -> None:
    address, port = lone_relay
    uri = f"turn:{address}:{port}"
    server = Coturn(f"{address}:{turn_server.cli_port(uri)}", turn_server.SECRET)
    known = Turn((uri,), turn_server.SECRET)
    leaver, stays = (known.credentials(SessionId("s"), Acct(acct), _now_ms()) for acct in ("a", "b"))
    unwanted = name_in(leaver.username)
    assert unwanted is not None

    def relays(*wanted: TurnCredentials) -> None:
        names = {name_in(each.username) for each in wanted}
        wait_until(lambda: server.show_out(()).names >= names, timeout_s=PATIENCE_S, what="coturn to know who relays")

    async def relay() -> None:
        out, on = await _allocated(lone_relay, leaver), await _allocated(lone_relay, stays)
        try:
            await asyncio.to_thread(relays, leaver, stays)
            assert (await asyncio.to_thread(server.show_out, {unwanted})).removed == 1
            await _is_shown_out(out)
            assert await _code_of(on.channel_bind(0x4000, (loopback.ADDRESS, 9))) is None
            # Credentials that have not ended yet open the door again, so it is looked again.
            again = await _allocated(lone_relay, leaver)
            await asyncio.to_thread(relays, leaver)
            assert (await asyncio.to_thread(server.show_out, {unwanted})).removed == 1
            await _is_shown_out(again)
            await again.delete()
        finally:
            await out.delete()
            await on.delete()

    asyncio.run(relay())
    with pytest.raises(ValueError, match="refuses the password"):
        Coturn(server.place, "another").show_out({unwanted})


async def _allocated(server: tuple[str, int], credentials: TurnCredentials) -> turn.TurnClientUdpProtocol:
    loop = asyncio.get_running_loop()
    _, client = await loop.create_datagram_endpoint(
        lambda: turn.TurnClientUdpProtocol(
            server,
            username=credentials.username,
            password=credentials.password,
            lifetime=600,
            channel_refresh_time=500,
        ),
        remote_addr=server,
    )
    await client.connect()
    return client


async def _is_shown_out(client: turn.TurnClientUdpProtocol) -> None:
    """The relay ends a session a moment after it was told to."""
    async with asyncio.timeout(PATIENCE_S):
        while await _code_of(client.channel_bind(0x4000, (loopback.ADDRESS, 9))) is None:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.1)


async def _code_of(request: Coroutine[Any, Any, None]) -> int | None:
    """The error that the relay answers, or None."""
    try:
        await request
    except stun.TransactionFailed as failed:
        return int(failed.response.attributes["ERROR-CODE"][0])
    return None


async def _code_of_permission(server: tuple[str, int], username: str, password: str, address: str) -> int | None:
    """What the relay says to somebody who wants to send to an address: an error's code, or None."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_datagram_endpoint(
        lambda: turn.TurnClientUdpProtocol(
            server, username=username, password=password, lifetime=600, channel_refresh_time=500
        ),
        remote_addr=server,
    )
    try:
        await client.connect()
        await client.channel_bind(0x4000, (address, 9))
    except stun.TransactionFailed as failed:
        return int(failed.response.attributes["ERROR-CODE"][0])
    finally:
        await client.delete()
    return None


def _now_ms() -> int:
    return int(time.time() * 1000)
