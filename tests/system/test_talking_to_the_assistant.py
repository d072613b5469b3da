"""The assistant and cards through an SDK client (matrix-nio) on real homeservers: what people with any client see."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar

import pytest

# The SDK ships no types; its few uses are typed here.
# pyright: reportMissingTypeStubs=none
from nio import AsyncClient, RoomMessage, SyncResponse
from running_demo import RunningDemo

pytestmark = pytest.mark.on("postgresql")

T = TypeVar("T")

_LIMIT_S = 60.0


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

    async def sync(self, timeout_ms: int = 1_000) -> None:
        answer = await self.client.sync(timeout_ms, full_state=self.client.next_batch == "")
        assert isinstance(answer, SyncResponse), answer
        for room_id, room in answer.rooms.join.items():
            found = [event for event in room.timeline.events if isinstance(event, RoomMessage)]
            self.seen += [(room_id, event) for event in found]

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
        """What the assistant says with one of these words in it."""

        def look() -> Any:
            said = [event for _, event in self.seen[since:] if event.sender == self.assistant]
            return next((event for event in said if any(each in event.body for each in words)), None)

        event = await self.until(look, " or ".join(words))
        assert isinstance(event, kind), event
        return event

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


def test_written_to_in_an_encrypted_room_it_shows_the_way_to_its_own(demo: RunningDemo) -> None:
    async def talk() -> None:
        async with people(demo, "carol") as (carol,):
            own = await carol.room()
            encryption = {
                "type": "m.room.encryption",
                "state_key": "",
                "content": {"algorithm": "m.megolm.v1.aes-sha2"},
            }
            made = await carol.client.room_create(is_direct=True, invite=[carol.assistant], initial_state=[encryption])
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
