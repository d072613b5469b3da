"""The assistant and cards through an SDK client (matrix-nio) on real homeservers: what people with any client see."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar
from urllib.parse import unquote

import pytest

# The SDK ships no types; its few uses are typed here.
# pyright: reportMissingTypeStubs=none
from nio import AsyncClient, RoomMessage, RoomMessageNotice, RoomMessageText, SyncResponse
from running_demo import RunningDemo

from super_app.names import CARD_KEY, EventType
from synapse_super_app.commands.matrix_client import wait_until

pytestmark = pytest.mark.on("postgresql")

T = TypeVar("T")

_LIMIT_S = 120.0
ENCRYPTED = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}


class Someone:
    """One of the four, at an SDK client, as it syncs."""

    def __init__(self, demo: RunningDemo, name: str) -> None:
        person = demo.people[name]
        self.user_id = person.user_id
        self.assistant = f"@assistant:{demo.names[person.homeserver]}"
        url = str(demo.homeservers[person.homeserver]["client_url"])
        self.client: Any = AsyncClient(url, person.user_id)
        self.client.access_token = person.access_token
        self.client.user_id = person.user_id
        self.client.device_id = "SDK"
        self.seen: list[tuple[str, Any]] = []
        self.orders: dict[str, dict[str, Any]] = {}
        """Events of payments by the id of the payment."""

    async def sync(self, timeout_ms: int = 1_000) -> None:
        answer = await self.client.sync(timeout_ms, full_state=self.client.next_batch == "")
        assert isinstance(answer, SyncResponse), answer
        for room_id in answer.rooms.invite:
            # Whom one was paid by or is asked by, one lets in.
            await self.client.join(room_id)
        for room_id, room in answer.rooms.join.items():
            found = [event for event in room.timeline.events if isinstance(event, RoomMessage)]
            self.seen += [(room_id, event) for event in found]
            for event in room.timeline.events:
                if event.source["type"] == EventType.PAYMENT:
                    self.orders[event.source["content"]["payment_id"]] = {**event.source, "room_id": room_id}

    async def until(self, look: Callable[[], T | None], what: str) -> T:
        """Sync until ``look`` finds what is waited for."""
        async with asyncio.timeout(_LIMIT_S):
            while (found := look()) is None:
                await self.sync()
        assert found is not None, what
        return found

    async def room(self) -> str:
        """The assistant's own room, which it has opened itself."""

        def look() -> str | None:
            rooms = self.client.rooms.values()
            own = [each for each in rooms if self.assistant in each.users and not each.encrypted]
            return own[0].room_id if own else None

        return await self.until(look, "the assistant's room")

    async def up_to_date(self) -> int:
        """How much has been seen until now."""
        await self.sync(0)
        return len(self.seen)

    async def hear(self, *words: str, kind: Any = RoomMessage, since: int = 0) -> Any:
        """What the assistant says with all these words in it."""

        def look() -> Any:
            said = [event for _, event in self.seen[since:] if event.sender == self.assistant]
            return next((event for event in said if all(each in event.body for each in words)), None)

        event = await self.until(look, " and ".join(words))
        assert isinstance(event, kind), event
        return event

    async def card(self, kind: str, words: str, *, of: "Someone", since: int) -> Any:
        """The content of a card that somebody's homeserver has sent for them."""

        def look() -> Any:
            sent = [event.source["content"] for _, event in self.seen[since:] if event.sender == of.user_id]
            cards = (each for each in sent if each.get(CARD_KEY, {}).get("kind") == kind)
            return next((each for each in cards if words in each["body"]), None)

        return await self.until(look, f"the card of a {kind} of {words}")

    async def ask(self, text: str, *words: str, reply_to: str | None = None) -> Any:
        """Say something, and hear what the assistant answers."""
        since = await self.up_to_date()
        content: dict[str, Any] = {"msgtype": "m.text", "body": text}
        if reply_to is not None:
            content["m.relates_to"] = {"m.in_reply_to": {"event_id": reply_to}}
        await self.client.room_send(await self.room(), "m.room.message", content)
        return await self.hear(*words, since=since)


@contextlib.asynccontextmanager
async def people(demo: RunningDemo, *names: str) -> AsyncGenerator[list[Someone]]:
    async with contextlib.AsyncExitStack() as stack:
        found = [Someone(demo, name) for name in names]
        for each in found:
            stack.push_async_callback(each.client.close)
            await each.sync(0)
        yield found


def test_a_person_pays_another_homeserver_by_talking_and_a_request_is_answered(demo: RunningDemo) -> None:
    async def talk() -> None:
        async with people(demo, "dave", "carol") as (dave, carol):
            since = (await dave.up_to_date(), await carol.up_to_date())
            said = await dave.ask("pay @carol 5,53 € lunch", "€5.53")
            assert demo.people["carol"].handle in said.body
            if "10 seconds" not in said.body:
                # Nothing moves to somebody whom one has not paid before until one has seen exactly who it is.
                await dave.ask("yes", "€5.53", "10 seconds")
            # Being paid notifies: it is a message, and all else that the assistant says is a notice.
            await carol.hear("paid you €5.53", kind=RoomMessageText, since=since[1])
            await dave.hear("Paid €5.53", kind=RoomMessageNotice, since=since[0])
            shown = await dave.card("payment", "5.53", of=dave, since=since[0])
            assert shown["msgtype"] == "m.notice"

            # Both are in a room together now; carol asks there, and dave pays by answering what he is told.
            await carol.ask("request @dave 2.07 EUR coffee", "Asked")
            told = await dave.hear("asks you for €2.07", kind=RoomMessageText, since=since[0])
            await dave.card("request", "2.07", of=carol, since=since[0])
            await dave.ask("accept", "€2.07", "10 seconds", reply_to=told.event_id)
            await carol.hear("paid you €2.07", kind=RoomMessageText, since=since[1])

    with demo.client("dave") as dave_api, demo.client("carol") as carol_api:
        before = (dave_api.available("EUR"), carol_api.available("EUR"))
        asyncio.run(talk())
        assert (dave_api.available("EUR"), carol_api.available("EUR")) == (before[0] - 760, before[1] + 760)
        wait_until(
            lambda: carol_api.superapp("GET", "requests")["requests"][0]["state"] == "paid",
            timeout_s=_LIMIT_S,
            what="the request to be paid",
        )


def test_in_an_encrypted_room_a_payment_shows_nothing_and_the_assistant_tells_of_it(demo: RunningDemo) -> None:
    def pay(room_id: str, amount: int) -> str:
        with demo.client("dave") as client:
            handle = demo.people["carol"].handle
            paid = client.pay(handle, amount, "EUR", memo="between us", room_id=room_id)
            return str(paid["payment_id"])

    async def pay_in_both() -> None:
        async with people(demo, "dave", "carol") as (dave, carol):
            rooms: list[str] = []
            for state in ([ENCRYPTED], []):
                made = await dave.client.room_create(invite=[carol.user_id], initial_state=state)
                rooms.append(made.room_id)
            await carol.until(lambda: set(rooms) <= set(carol.client.rooms) or None, "both rooms")
            hidden, plain = rooms
            own = await carol.room()
            since = (await dave.up_to_date(), await carol.up_to_date())
            before = carol.client.rooms[own].unread_notifications
            payment_id = await asyncio.to_thread(pay, hidden, 321)
            told = await carol.hear("paid you €3.21", kind=RoomMessageText, since=since[1])
            # In the assistant's own room, with the memo, and a way to where it happened.
            assert (own, told) in carol.seen
            assert "between us" in told.body
            assert hidden in unquote(told.formatted_body)
            order = await carol.until(lambda: carol.orders.get(payment_id), "the payment in the room")
            assert order["room_id"] == hidden
            assert set(order["content"]) == {"payment_id", "commitment"}

            # Where it may be read, there is a card; one of the first payment would have come before it.
            await asyncio.to_thread(pay, plain, 7)
            await carol.card("payment", "0.07", of=dave, since=since[1])
            await dave.sync()
            for each in (dave, carol):
                assert [event for room_id, event in each.seen if room_id == hidden] == []
            # Her homeserver's push rules notify her of what the assistant tells, and of no order, receipt or card.
            assert carol.client.rooms[own].unread_notifications > before
            assert [carol.client.rooms[each].unread_notifications for each in rooms] == [0, 0]

    asyncio.run(pay_in_both())


def test_written_to_in_an_encrypted_room_it_shows_the_way_to_its_own(demo: RunningDemo) -> None:
    async def talk() -> None:
        async with people(demo, "carol") as (carol,):
            own = await carol.room()
            made = await carol.client.room_create(is_direct=True, invite=[carol.assistant], initial_state=[ENCRYPTED])
            await carol.hear("cannot read encrypted")
            since = await carol.up_to_date()
            ciphertext = {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x"}
            await carol.client.room_send(made.room_id, "m.room.encrypted", ciphertext)
            here = await carol.hear("Here I am", since=since)
            assert (own, here) in carol.seen

    asyncio.run(talk())


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_the_demo_keeps_its_one_direct_room_of_alice_and_bob(demo: RunningDemo, name: str) -> None:
    with demo.client(name) as client:
        direct = client.account_data("m.direct") or {}
        other = demo.people["bob" if name == "alice" else "alice"].user_id
        assert demo.room_id in direct[other]
        assert any(each.startswith("@assistant:") for each in direct)
