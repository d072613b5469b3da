"""What the assistant hears: turns persisted events into tasks, each once, and does nothing else.

Told by the follower, which must not wait: what there is to do may itself wait for the follower. The assistant answers
people of its own homeserver only, and neither notices (bots answer bots with them) nor itself nor application services.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from synapse.module_api import EventBase

from super_app.assistant import parsing, store
from super_app.assistant.amounts import locale_of
from super_app.assistant.model import Kind, OwnRoom, Task, TaskId
from super_app.assistant.words import SOURCE_LANGUAGE
from super_app.ids import RoomId, UserId
from synapse_super_app.assistant.account import Account
from synapse_super_app.directory.budget import Budget
from synapse_super_app.follower import EventHandler
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

MESSAGE: Final = "m.room.message"
ENCRYPTED: Final = "m.room.encrypted"
MEMBER: Final = "m.room.member"
_OLD_MS: Final = 3_600_000
"""What was said longer ago, before a long stop, is not answered any more: nobody waits for it."""


class Ears:
    def __init__(self, runtime: Runtime, account: Account, add: Callable[[tuple[Task, ...]], Awaitable[None]]) -> None:
        self._runtime = runtime
        self._account = account
        self._add = add
        self._budget = Budget(burst=20, every_ms=2_000)

    def register(self) -> None:
        handlers: Mapping[str, EventHandler] = {
            MESSAGE: self._on_message,
            ENCRYPTED: self._on_encrypted,
            MEMBER: self._on_member,
        }
        followed_by = store.followed_by(self._account.user_id, self._runtime.server_name)
        self._runtime.follower.pick(handlers, store.FOLLOWED, followed_by)

    async def _on_message(self, event: EventBase) -> None:
        content = event.get_dict()["content"]
        if not await self._is_for_us(event) or content.get("msgtype") not in ("m.text", "m.emote"):
            return
        if (content.get("m.relates_to") or {}).get("rel_type") == "m.replace":
            # What was said first has been answered, or paid.
            return
        room = await self._room(event)
        if room is None or room.user_id != event.sender:
            if not _is_aside(content):
                return
            await self._heard(event, "aside")
            return
        await self._heard(event, "message")

    async def _on_encrypted(self, event: EventBase) -> None:
        room = await self._room(event)
        if room is not None and room.user_id == event.sender and await self._is_for_us(event):
            await self._heard(event, "encrypted")

    async def _on_member(self, event: EventBase) -> None:
        if event.state_key != self._account.user_id:
            return
        match event.content.get("membership"):
            case "invite" if await self._is_for_us(event):
                await self._heard(event, "invited")
            case "leave" | "ban" if self._account.is_ready:
                room_id = RoomId(event.room_id)
                await self._runtime.database.run("assistant_room_forget", lambda cur: store.forget_room(cur, room_id))
            case _:
                pass

    async def _is_for_us(self, event: EventBase) -> bool:
        own, now_ms = self._account, self._runtime.now_ms()
        if not own.is_ready or event.sender == own.user_id or not self._runtime.api.is_mine(event.sender):
            return False
        if event.origin_server_ts < now_ms - _OLD_MS:
            return False
        if not self._runtime.rollout.includes(event.sender):
            return False
        user = await self._runtime.api.get_userinfo_by_id(event.sender)
        return user is not None and user.appservice_id is None and not user.is_guest

    async def _room(self, event: EventBase) -> OwnRoom | None:
        room_id = RoomId(event.room_id)
        return await self._runtime.database.run("assistant_room_of", lambda cur: store.room(cur, room_id))

    async def _heard(self, event: EventBase, what: str) -> None:
        user_id, now_ms = UserId(event.sender), self._runtime.now_ms()
        if self._budget.take(user_id, now_ms) is not None:
            minute = now_ms // 60_000
            await self._add((_task(f"fast:{user_id}:{minute}", user_id, {"what": "fast"}, now_ms),))
            return
        content = {"what": what, "event_id": event.event_id, "room_id": event.room_id}
        place = event.internal_metadata.stream_ordering or 0
        await self._add((_task(f"heard:{place:018}:{event.event_id}", user_id, content, now_ms),))


def _task(task_id: str, user_id: UserId, content: Mapping[str, Any], now_ms: int) -> Task:
    return Task(
        task_id=TaskId(task_id), user_id=user_id, kind=Kind.HEARD, content=content, made_ms=now_ms, due_ms=now_ms
    )


def _is_aside(content: Mapping[str, Any]) -> bool:
    """Whether a message in another room is meant for the assistant. Other bots have commands with ``!`` too."""
    body = content.get("body")
    if not isinstance(body, str):
        return False
    return parsing.read_aside(parsing.text_of(body), {}, locale_of(SOURCE_LANGUAGE)) is not None
