"""A homeserver small enough for a unit test: a fake ModuleApi and PrivateApi over in-memory SQLite and a fake clock.

``test_fake_api.py`` compares every method here with the real signature, so the fake cannot drift. Each transaction
function runs twice, first rolled back, since Synapse may run it up to five times. The gate runs twice per send, with
two event ids, since Synapse may run it five times.

    hs = FakeHomeserver("hs1.test", config={"payments": {...}})
    hs.start()                                  # builds SuperApp on it, migrates, opens the gate
    hs.register("alice"); room = hs.room("@alice:hs1.test", "@bob:hs1.test")
    event_id = hs.send("@alice:hs1.test", room, "org.superapp.payment", {...})   # raises SynapseError if refused
    hs.call("GET", "wallet", "@alice:hs1.test")                                  # through the routes
    hs.advance(60.0)                                                             # seconds on the fake clock
"""

import copy
import itertools
import json
import shutil
import sqlite3
import tempfile
import weakref
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from signedjson.key import generate_signing_key, get_verify_key
from signedjson.sign import SignatureVerifyException, sign_json, verify_signed_json
from synapse.api.errors import SynapseError
from synapse.api.room_versions import RoomVersions
from synapse.events import EventBase, make_event_from_dict
from synapse.events.utils import prune_event
from synapse.module_api import NOT_SPAM
from synapse.spam_checker_api import RegistrationBehaviour
from synapse.storage.database import LoggingTransaction
from synapse.storage.engines.sqlite import Sqlite3Engine
from synapse.types import UserID
from twisted.internet import defer, task
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from super_app.db import Cursor, Engine, migrations
from super_app.ids import Acct, EventId, RoomId, ServerName, UserId
from super_app.names import AccountDataType, EventType, FederationQuery
from synapse_super_app.http.resource import ApiResource, answer, answer_any
from synapse_super_app.http.routes import Auth, FileAnswer
from synapse_super_app.module import SuperApp
from synapse_super_app.private_api import (
    CommonRoom,
    InstanceHandler,
    InstanceSilent,
    NoAnswer,
    PrivateApi,
    Profile,
    ProxiedAnswer,
    PutFailed,
    PutHandler,
    Seen,
    SynapseAccount,
    UserSearch,
)

T = TypeVar("T")

START_S = 1_700_000_000.0

_MIGRATING = "superapp_migrat"
_TABLES: dict[str, tuple[dict[str, tuple[migrations.Migration, ...]], sqlite3.Connection]] = {}
"""By config: the migrations that ran on an empty database, and what they made of it."""


class FakeAccountData:
    """Stands for AccountDataManager."""

    def __init__(self, homeserver: "FakeHomeserver") -> None:
        self._homeserver = homeserver

    async def get_global(self, user_id: str, data_type: str) -> Any:
        return self._homeserver.account_data.get((user_id, data_type))

    async def put_global(self, user_id: str, data_type: str, new_data: dict[str, Any]) -> None:
        if user_id not in self._homeserver.users:
            raise ValueError(f"User {user_id} does not exist on this server.")
        self._homeserver.account_data[(user_id, data_type)] = new_data


class FakeModuleApi:
    """The part of ModuleApi that the module uses. Callbacks that were registered stand in ``callbacks``."""

    def __init__(self, homeserver: "FakeHomeserver") -> None:
        self._homeserver = homeserver
        self.dead = False
        """Killed: its timers do nothing, its transactions never end and nobody is answered."""
        self.stopped = False
        """As if the process hung; what it was doing comes to its end later."""
        self.callbacks: dict[str, list[Callable[..., Any]]] = defaultdict(list)
        self.web_resources: dict[str, Any] = {}
        self._account_data = FakeAccountData(homeserver)

    @property
    def server_name(self) -> str:
        return self._homeserver.server_name

    @property
    def public_baseurl(self) -> str:
        return f"https://{self._homeserver.server_name}/"

    @property
    def worker_name(self) -> str | None:
        return None if self._homeserver.process == "main" else self._homeserver.process

    @property
    def account_data_manager(self) -> FakeAccountData:
        return self._account_data

    def _register(self, callbacks: dict[str, Any]) -> None:
        for name, callback in callbacks.items():
            if callback is not None:
                self.callbacks[name].append(callback)

    def register_spam_checker_callbacks(self, **callbacks: Any) -> None:
        self._register(callbacks)

    def register_third_party_rules_callbacks(self, **callbacks: Any) -> None:
        self._register(callbacks)

    def register_account_data_callbacks(self, **callbacks: Any) -> None:
        self._register(callbacks)

    def register_account_validity_callbacks(self, **callbacks: Any) -> None:
        self._register(callbacks)

    async def defer_to_thread(self, f: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        return f(*args, **kwargs)

    def register_web_resource(self, path: str, resource: Any) -> None:
        self.web_resources[path] = resource

    def is_mine(self, id: Any) -> bool:
        return str(id).partition(":")[2] == self._homeserver.server_name

    async def is_user_admin(self, user_id: str) -> bool:
        return user_id in self._homeserver.admins

    def get_qualified_user_id(self, username: str) -> str:
        return username if username.startswith("@") else f"@{username}:{self.server_name}"

    def check_user_exists(self, user_id: str) -> "defer.Deferred[str | None]":
        return defer.succeed(user_id if user_id in self._homeserver.users else None)

    async def get_userinfo_by_id(self, user_id: str) -> Any:
        if user_id not in self._homeserver.users:
            return None
        from synapse.types import UserInfo

        return UserInfo(
            user_id=UserID.from_string(user_id),
            is_admin=user_id in self._homeserver.admins,
            is_guest=False,
            consent_server_notice_sent=None,
            consent_ts=None,
            consent_version=None,
            appservice_id=None,
            creation_ts=self._homeserver.created_s(user_id),
            user_type=None,
            is_deactivated=user_id in self._homeserver.deactivated,
            locked=False,
            is_shadow_banned=False,
            approved=True,
            suspended=False,
        )

    def run_db_interaction(self, desc: str, func: Callable[..., T], *args: Any, **kwargs: Any) -> "defer.Deferred[T]":
        kwargs.pop("isolation_level", None)
        if self.dead:
            return defer.Deferred()
        return self._homeserver.transact(desc, func, *args, **kwargs)

    def get_current_time_msec(self) -> int:
        return self._homeserver.now_ms()

    def should_run_background_tasks(self) -> bool:
        return self._homeserver.process == "main"

    def looping_background_call(
        self,
        f: Callable[..., Any],
        msec: float,
        *args: object,
        desc: str | None = None,
        run_on_all_instances: bool = False,
        **kwargs: Any,
    ) -> None:
        if not run_on_all_instances and not self.should_run_background_tasks():
            return

        def run() -> "defer.Deferred[Any] | None":
            hangs = self.dead or self.stopped
            return None if hangs else self.run_as_background_process(desc or "", f, *args, **kwargs)

        loop = task.LoopingCall(run)
        loop.clock = cast(IReactorTime, self._homeserver.clock)
        loop.start(msec / 1000, now=False)

    def delayed_background_call(
        self, msec: float, f: Callable[..., Any], *args: object, desc: str | None = None, **kwargs: Any
    ) -> Any:
        return self._homeserver.clock.callLater(
            msec / 1000,
            lambda: None if self.dead else self.run_as_background_process(desc or "", f, *args, **kwargs),
        )

    def run_as_background_process(
        self, desc: str, func: Callable[..., Any], *args: Any, bg_start_span: bool = True, **kwargs: Any
    ) -> "defer.Deferred[Any]":
        deferred = defer.maybeDeferred(lambda: _as_deferred(func(*args, **kwargs)))
        deferred.addErrback(self._homeserver.background_failed, desc)
        return deferred

    async def sleep(self, seconds: float) -> None:
        await task.deferLater(cast(IReactorTime, self._homeserver.clock), seconds)
        if self.dead:
            await defer.Deferred()

    async def create_and_send_event_into_room(self, event_dict: dict[str, Any]) -> EventBase:
        return await self._homeserver.send_async(
            event_dict["sender"],
            event_dict["room_id"],
            event_dict["type"],
            event_dict["content"],
            state_key=event_dict.get("state_key"),
            sticky="msc4354_sticky" in event_dict,
        )

    async def get_room_state(
        self, room_id: str, event_filter: Iterable[tuple[str, str | None]] | None = None
    ) -> dict[tuple[str, str], EventBase]:
        wanted = None if event_filter is None else list(event_filter)
        room = self._homeserver.rooms.get(room_id)
        state = {} if room is None else room.state
        return {
            key: event
            for key, event in state.items()
            if wanted is None or any(key[0] == kind and name in (None, key[1]) for kind, name in wanted)
        }

    def register_user(
        self,
        localpart: str,
        displayname: str | None = None,
        emails: list[str] | None = None,
        admin: bool = False,
    ) -> "defer.Deferred[str]":
        async def register() -> str:
            user_id = f"@{localpart}:{self.server_name}"
            if user_id in self._homeserver.users:
                raise SynapseError(400, "User ID already taken.", "M_USER_IN_USE")
            for callback in self.callbacks["check_registration_for_spam"]:
                await callback(None, localpart, [], None)
            self._homeserver.register(localpart, admin=admin)
            self._homeserver.registered_s[user_id] = self._homeserver.now_ms() // 1000
            for callback in self.callbacks["on_user_registration"]:
                await callback(user_id)
            return user_id

        return defer.ensureDeferred(register())

    async def update_room_membership(
        self,
        sender: str,
        target: str,
        room_id: str,
        new_membership: str,
        content: dict[str, Any] | None = None,
        remote_room_hosts: list[str] | None = None,
    ) -> EventBase:
        membership = {**(content or {}), "membership": new_membership}
        self._homeserver.set_state(room_id, sender, "m.room.member", target, membership)
        return self._homeserver.rooms[room_id].state["m.room.member", target]

    async def create_room(
        self,
        user_id: str,
        config: dict[str, Any],
        ratelimit: bool = True,
        creator_join_profile: dict[str, Any] | None = None,
    ) -> tuple[str, str | None]:
        for invitee in config.get("invite", ()):
            await self._judge_invite(user_id, invitee)
        room_id = self._homeserver.room(user_id, invited=tuple(config.get("invite", ())))
        return room_id, None

    async def _judge_invite(self, inviter: str, invitee: str) -> None:
        """As Synapse asks: what a callback raises goes up, a code is a refusal of Synapse's own."""
        for judge in self.callbacks["user_may_invite"]:
            verdict = await judge(inviter, invitee, "!new:" + inviter.partition(":")[2])
            if verdict != NOT_SPAM:
                code, fields = verdict if isinstance(verdict, tuple) else (verdict, {})
                raise SynapseError(403, "not allowed to invite", code, fields)


class FakePrivateApi:
    """Stands for PrivateApi; its methods are compared with the real one's as well."""

    engine = Engine.SQLITE

    def __init__(self, homeserver: "FakeHomeserver") -> None:
        self._homeserver = homeserver
        self._wakers: list[Callable[[], None]] = []
        self.put_handlers: dict[str, PutHandler] = {}
        self.queries: dict[FederationQuery, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]] = {}
        self.username_guards: list[Callable[[str], Awaitable[None]]] = []
        self.user_search: UserSearch = self._synapse_search

    async def _synapse_search(self, user_id: str, search_term: str, limit: int) -> Mapping[str, Any]:
        rows = self._homeserver.user_directory
        found = [row for row in rows if search_term.lstrip("@").casefold() in str(row["display_name"]).casefold()]
        return {"limited": len(found) > limit, "results": found[:limit]}

    def instance_name(self) -> str:
        return self._homeserver.process

    def instances(self) -> frozenset[str]:
        return frozenset(self._homeserver.instance_map)

    def answer_instances(self, handler: InstanceHandler, endpoint: str = "superapp") -> None:
        if endpoint != "superapp":
            self._homeserver.endpoints[self._homeserver.process, endpoint] = handler
            return
        self._homeserver.listening[self._homeserver.process] = handler

    async def ask_instance(
        self, name: str, request: Mapping[str, Any], endpoint: str = "superapp"
    ) -> Mapping[str, Any]:
        if endpoint != "superapp":
            if (name, endpoint) not in self._homeserver.endpoints:
                raise InstanceSilent(f"{name} is not there")
            self._homeserver.relayed.append((name, str(request["operation"])))
            return await self._homeserver.endpoints[name, endpoint](json.loads(json.dumps(request)))
        if name not in self._homeserver.listening or name not in self._homeserver.instance_map:
            raise InstanceSilent(f"{name} is not there")
        self._homeserver.relayed.append((name, str(request["operation"])))
        if name in self._homeserver.hanging:
            await defer.Deferred()
        answer = await self._homeserver.listening[name](json.loads(json.dumps(request)))
        if name not in self._homeserver.listening:
            raise InstanceSilent(f"{name} died before it answered")
        # What crosses the wire is JSON.
        loaded: Mapping[str, Any] = json.loads(json.dumps(answer))
        return loaded

    def on_shutdown(self, stop: Callable[[], Awaitable[None]]) -> None:
        self._homeserver.at_shutdown.append(stop)

    def persisted_up_to(self) -> int:
        return self._homeserver.stream_position

    def on_replication(self, wake: Callable[[], None]) -> None:
        self._wakers.append(wake)

    def replicate(self) -> None:
        for wake in self._wakers:
            wake()

    async def get_event(self, event_id: EventId) -> EventBase | None:
        event = self._homeserver.events.get(event_id)
        return None if event is None or event.internal_metadata.is_soft_failed() else event

    @staticmethod
    def is_delayed(event: EventBase) -> bool:
        return getattr(event.internal_metadata, "delay_id", None) is not None

    @staticmethod
    def is_sticky(event: EventBase) -> bool:
        return "msc4354_sticky" in event.get_dict()

    async def members(self, room_id: RoomId, at_most: int) -> tuple[frozenset[UserId], frozenset[UserId]] | None:
        memberships = self._homeserver.memberships(room_id)
        joined = frozenset(UserId(each) for each, membership in memberships.items() if membership == "join")
        invited = frozenset(UserId(each) for each, membership in memberships.items() if membership == "invite")
        return None if len(joined | invited) > at_most else (joined, invited)

    async def rooms_of(self, user_id: UserId) -> frozenset[str]:
        rooms = self._homeserver.rooms
        return frozenset(each for each in rooms if self._homeserver.memberships(each).get(user_id) == "join")

    @property
    def has_workers(self) -> bool:
        return len(self._homeserver.instance_map) > 1

    @property
    def push_rule_writer(self) -> str:
        return "main"

    @property
    def writes_push_rules(self) -> bool:
        return self._homeserver.process == "main"

    @property
    def sends_delayed_events(self) -> bool:
        return self._homeserver.process == "main"

    def joined_of(self, cur: Cursor, room_id: RoomId, people: Collection[UserId]) -> frozenset[UserId]:
        if room_id not in self._homeserver.rooms:
            return frozenset()
        memberships = self._homeserver.memberships(room_id)
        return frozenset(each for each in people if memberships.get(each) == "join")

    def state_ids(
        self, cur: Cursor, event_types: Collection[EventType], room_ids: Collection[RoomId]
    ) -> dict[tuple[RoomId, str], EventId]:
        states = {room_id: self._homeserver.rooms[room_id].state for room_id in room_ids}
        return {
            (room_id, event_type.value): EventId(state[event_type, ""].event_id)
            for room_id, state in states.items()
            for event_type in event_types
            if (event_type, "") in state
        }

    @asynccontextmanager
    async def one_at_a_time(self, what: str, key: str) -> AsyncGenerator[None]:
        lock = self._homeserver.locks.setdefault((what, key), defer.DeferredLock())
        await lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def state_changed_since(self, room_id: RoomId, position: int) -> bool:
        state = self._homeserver.rooms[room_id].state.values()
        return any((event.internal_metadata.stream_ordering or 0) > position for event in state)

    async def is_in_room(self, server: ServerName, room_id: RoomId) -> bool:
        return room_id in self._homeserver.rooms and server in await self.servers_in_room(room_id)

    def proxy_token(self, prefix: str) -> str | None:
        return self._homeserver.proxy_tokens.get(prefix)

    def answer_proxied(self, prefix: str, own_path: str, answer: ProxiedAnswer) -> None:
        self._homeserver.proxied[prefix] = answer

    def announce_transports(self, transports: list[dict[str, str]]) -> None:
        self._homeserver.transports = transports

    async def openid_user_at(self, server: ServerName, token: str, timeout_ms: int) -> UserId | None:
        self._homeserver.asked.append((server, "openid", {"access_token": token}))
        user_id, until_ms = self._homeserver.reach(server).openid_tokens.get(token, (UserId(""), 0))
        return user_id if self._homeserver.now_ms() <= until_ms else None

    async def post_to_server(
        self, server: ServerName, path: str, body: Mapping[str, Any], timeout_ms: int
    ) -> Mapping[str, Any]:
        return await self._homeserver.reach(server).take_post(self._homeserver.server_name, path, body)

    async def post_json(self, url: str, token: str, body: Mapping[str, Any], timeout_ms: int) -> Mapping[str, Any]:
        for prefix, service in self._homeserver.services.items():
            if url.startswith(prefix):
                # What crosses the wire is JSON.
                status, answer = service(url.removeprefix(prefix), token, json.loads(json.dumps(body)))
                if status != 200:
                    raise NoAnswer(status, f"{status}", answer)
                return answer
        raise NoAnswer(None, f"nobody listens at {url}")

    def delayed_event(self, cur: Cursor, user_id: UserId, delay_id: str) -> tuple[RoomId, int] | None:
        owner, room_id, delay_ms = self._homeserver.delayed.get(delay_id, (None, RoomId(""), 0))
        return (room_id, delay_ms) if owner == user_id else None

    async def restart_delayed(self, delay_id: str, now_ms: int) -> bool:
        if delay_id not in self._homeserver.delayed:
            return False
        self._homeserver.restarts.append((delay_id, now_ms))
        return True

    async def send_delayed(self, delay_id: str) -> bool:
        if self._homeserver.delayed.pop(delay_id, None) is None:
            return False
        self._homeserver.sent_delayed.append(delay_id)
        return True

    async def account_data_of(self, user_id: UserId, data_type: str) -> Mapping[str, Any] | None:
        content: Mapping[str, Any] | None = self._homeserver.account_data.get((user_id, data_type))
        return content

    @staticmethod
    def blocks_invites(data_type: str, content: Mapping[str, Any], inviter: UserId) -> bool:
        return PrivateApi.blocks_invites(data_type, content, inviter)

    async def has_spoken(self, room_id: RoomId, user_id: UserId) -> bool:
        timeline = self._homeserver.rooms[room_id].timeline
        return any(each.sender == user_id and each.type == "m.room.message" for each in timeline)

    async def silence(self, user_id: UserId, rule_id: str, properties: Mapping[str, str]) -> None:
        self._homeserver.push_rules[(user_id, rule_id)] = dict(properties)

    async def unsilence(self, user_id: UserId, rule_id: str) -> None:
        self._homeserver.push_rules.pop((user_id, rule_id), None)

    def limit_turn_server(self, guard: Callable[[UserId], Awaitable[None]]) -> None:
        self._homeserver.turn_guards.append(guard)

    def tell_apart_what_came_over_federation(self) -> None:
        return

    def came_over_federation(self, event: Any) -> bool:
        return event.event_id in self._homeserver.pulled

    def wants_erasure(self, cur: Cursor, user_id: UserId) -> bool:
        return user_id in self._homeserver.erased

    def erased_and_not_by_us(self, cur: Cursor, limit: int) -> tuple[UserId, ...]:
        done = "SELECT a.user_id FROM superapp_account AS a JOIN superapp_erasure AS e ON e.acct = a.acct"
        cur.execute(done)
        erased = {str(row[0]) for row in cur.fetchall()}
        cur.execute("SELECT user_id FROM superapp_account")
        known = {str(row[0]) for row in cur.fetchall()}
        return tuple(UserId(each) for each in sorted((self._homeserver.erased & known) - erased))[:limit]

    def left_and_not_noted(self, cur: Cursor, limit: int) -> tuple[UserId, ...]:
        cur.execute(
            "SELECT user_id FROM superapp_account WHERE acct NOT IN (SELECT acct FROM superapp_leaver) ORDER BY user_id"
        )
        known = [UserId(str(row[0])) for row in cur.fetchall()]
        return tuple(each for each in known if each in self._homeserver.deactivated)[:limit]

    def noted_and_back(self, cur: Cursor, limit: int) -> tuple[Acct, ...]:
        cur.execute("SELECT acct, user_id FROM superapp_account WHERE acct IN (SELECT acct FROM superapp_leaver)")
        noted = [(Acct(str(row[0])), str(row[1])) for row in cur.fetchall()]
        return tuple(acct for acct, user_id in noted if user_id not in self._homeserver.deactivated)[:limit]

    def is_deactivated(self, cur: Cursor, user_id: UserId) -> bool | None:
        return user_id in self._homeserver.deactivated if user_id in self._homeserver.users else None

    def signed_in_ms(self, cur: Cursor, access_token_id: int) -> int | None:
        return self._homeserver.signed_in_ms.get(access_token_id)

    async def end_sessions(self, user_id: UserId, but_device_id: str) -> bool:
        if self._homeserver.delegates_sign_in:
            return False
        kept = self._homeserver.devices.get(user_id, set()) & {but_device_id}
        self._homeserver.devices[user_id] = kept
        return True

    def devices(self, cur: Cursor, user_id: UserId) -> frozenset[str]:
        return frozenset(self._homeserver.devices.get(user_id, ()))

    def resident(self, cur: Cursor, user_id: UserId, data_type: AccountDataType) -> tuple[bool, object] | None:
        if user_id not in self._homeserver.users:
            return None
        return user_id in self._homeserver.deactivated, self._homeserver.account_data.get((user_id, data_type))

    def ignores(self, cur: Cursor, user_id: UserId, other: UserId) -> bool:
        content = self._homeserver.account_data.get((user_id, "m.ignored_user_list"), {})
        return other in content.get("ignored_users", {})

    def is_joined(self, cur: Cursor, user_id: UserId, room_id: RoomId) -> bool:
        return room_id in self._homeserver.rooms and self._homeserver.memberships(room_id).get(user_id) == "join"

    def is_member(self, cur: Cursor, user_id: UserId, room_id: RoomId) -> bool:
        return self.is_joined(cur, user_id, room_id)

    def share_a_room(self, cur: Cursor, user_id: UserId, other: UserId) -> bool:
        each_room = (self._homeserver.memberships(room_id) for room_id in self._homeserver.rooms)
        return any(room.get(user_id) == room.get(other) == "join" for room in each_room)

    def common_rooms(self, cur: Cursor, user_id: UserId, other: UserId) -> tuple[CommonRoom, ...]:
        found: list[CommonRoom] = []
        for room_id, room in self._homeserver.rooms.items():
            members = self._homeserver.memberships(room_id)
            present = [name for name, membership in members.items() if membership in ("join", "invite")]
            if members.get(user_id) == "join" and other in present:
                found.append(
                    CommonRoom(
                        room_id=RoomId(room_id),
                        other_joined=members[other] == "join",
                        only_two=len(present) == 2,
                        encrypted=("m.room.encryption", "") in room.state,
                    )
                )
        return tuple(found)

    def display_names(self, cur: Cursor, user_id: UserId) -> tuple[str, ...]:
        profile = self._homeserver.profiles.get(user_id)
        members = [room.state.get(("m.room.member", user_id)) for room in self._homeserver.rooms.values()]
        shown = {event.content.get("displayname") for event in members if event is not None}
        own = None if profile is None else profile.display_name
        return tuple(sorted(str(name) for name in {*shown, own} if name))

    def events_of(
        self, cur: Cursor, room_id: RoomId, sender: UserId, event_type: EventType, after: int
    ) -> tuple[EventId, ...]:
        return tuple(
            EventId(event.event_id)
            for event in self._homeserver.rooms[room_id].timeline
            if (event.sender, event.type) == (sender, event_type)
            and (event.internal_metadata.stream_ordering or 0) > after
        )

    def references_to(
        self, cur: Cursor, event_id: EventId, event_type: EventType
    ) -> tuple[tuple[EventId, UserId], ...]:
        relation = {"rel_type": "m.reference", "event_id": event_id}
        return tuple(
            (EventId(event.event_id), UserId(event.sender))
            for event in self._homeserver.events.values()
            if event.type == event_type and event.content.get("m.relates_to") == relation
        )

    async def get_original(self, event_id: EventId) -> EventBase | None:
        return self._homeserver.originals.get(event_id) or await self.get_event(event_id)

    async def servers_in_room(self, room_id: RoomId) -> frozenset[ServerName]:
        members = self._homeserver.memberships(room_id).items()
        return frozenset(ServerName(name.partition(":")[2]) for name, membership in members if membership == "join")

    def key_folder(self) -> Path:
        return self._homeserver.folder

    def signed_by_server(self, value: Mapping[str, Any]) -> dict[str, Any]:
        signed: dict[str, Any] = sign_json(dict(value), self._homeserver.server_name, self._homeserver.matrix_key)
        return signed

    async def is_signed_by(self, server: ServerName, value: Mapping[str, Any], now_ms: int) -> bool:
        other = self._homeserver.reach(server)
        try:
            verify_signed_json(dict(value), server, get_verify_key(other.matrix_key))
        except SignatureVerifyException:
            return False
        return True

    def answer_query(
        self, name: FederationQuery, handler: Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]
    ) -> None:
        self.queries[name] = handler

    async def query(
        self, server: ServerName, name: FederationQuery, arguments: Mapping[str, str], timeout_ms: int
    ) -> Mapping[str, Any]:
        self._homeserver.asked.append((server, name, dict(arguments)))
        handler = self._homeserver.reach(server).private.queries.get(name)
        if handler is None:
            raise NoAnswer(404, "no handler for this query")
        try:
            answered = await handler({**arguments, "origin": self._homeserver.server_name})
        except SynapseError as error:
            raise NoAnswer(error.code, error.msg, error.error_dict(None)) from error
        # What crosses the wire is JSON.
        loaded: Mapping[str, Any] = json.loads(json.dumps(answered))
        return loaded

    def guard_usernames(self, guard: Callable[[str], Awaitable[None]]) -> None:
        self.username_guards.append(guard)

    def wrap_user_search(self, wrap: Callable[[UserSearch], UserSearch]) -> None:
        self.user_search = wrap(self.user_search)

    async def is_hidden_by_modules(self, asker: UserId, user_id: UserId, profile: Profile) -> bool:
        return user_id in self._homeserver.hidden_by_modules

    def seen(self, cur: Cursor, asker: UserId, others: Collection[UserId]) -> dict[UserId, Seen]:
        profiles = self._homeserver.profiles
        return {
            other: Seen(
                profile=profiles.get(other, Profile(display_name=None, avatar_url=None)),
                in_private_room=self.share_a_room(cur, asker, other),
            )
            for other in others
            if other in profiles or self.share_a_room(cur, asker, other)
        }

    async def ignored_either_way(self, user_id: UserId) -> frozenset[str]:
        lists = {
            user: frozenset(content.get("ignored_users", {}))
            for (user, data_type), content in self._homeserver.account_data.items()
            if data_type == "m.ignored_user_list"
        }
        return lists.get(user_id, frozenset()) | {user for user, ignored in lists.items() if user_id in ignored}

    async def fetch(self, url: str, max_bytes: int, timeout_ms: int) -> bytes | None:
        found = self._homeserver.web_pages.get(url)
        return None if found is None or len(found) > max_bytes else found

    async def show_in_profile(self, user_id: UserId, name: str, value: str | None) -> None:
        fields = self._homeserver.profile_fields.setdefault(user_id, {})
        if value is None:
            fields.pop(name, None)
        else:
            fields[name] = value

    async def master_key(self, user_id: UserId) -> str | None:
        return self._homeserver.master_keys.get(user_id)

    async def user_of_openid_token(self, token: str, now_ms: int) -> UserId | None:
        user_id, until_ms = self._homeserver.openid_tokens.get(token, (UserId(""), 0))
        return user_id if now_ms <= until_ms else None

    async def is_in_our_rooms(self, user_id: UserId) -> bool:
        return bool(await self.rooms_of(user_id))

    async def shares_a_room(self, user_id: UserId, server: ServerName) -> bool:
        rooms = [self._homeserver.memberships(room_id) for room_id in await self.rooms_of(user_id)]
        return any(
            membership == "join" and each.endswith(f":{server}") for room in rooms for each, membership in room.items()
        )

    def accounts_since(self, cur: Cursor, created_s: int, after: str, limit: int) -> tuple[SynapseAccount, ...]:
        homeserver = self._homeserver
        found = [each for each in sorted(homeserver.users) if each > after and homeserver.created_s(each) >= created_s]
        return tuple(
            SynapseAccount(
                user_id=UserId(each),
                created_ms=homeserver.created_s(each) * 1000,
                deactivated=each in homeserver.deactivated,
                ghost=False,
            )
            for each in found[:limit]
        )

    def answer_put(self, group: str, path: str, handler: PutHandler) -> None:
        self.put_handlers[path] = handler

    async def put(self, server: ServerName, path: str, body: Mapping[str, Any], timeout_ms: int) -> Mapping[str, Any]:
        try:
            handlers = self._homeserver.reach(server).private.put_handlers
        except NoAnswer as error:
            raise PutFailed(str(error)) from error
        if not body:
            # Synapse sends nothing at all for an empty object.
            raise PutFailed("400: Content not JSON", 400, {"errcode": "M_NOT_JSON"})
        prefix, _, last_part = path.rpartition("/")
        if prefix not in handlers:
            raise PutFailed("no handler for this path", 404, {"errcode": "M_UNRECOGNIZED"})
        try:
            answered = await handlers[prefix](
                ServerName(self._homeserver.server_name), last_part, json.loads(json.dumps(body))
            )
        except SynapseError as error:
            raise PutFailed(error.msg, error.code, error.error_dict(None)) from error
        # What crosses the wire is JSON.
        loaded: Mapping[str, Any] = json.loads(json.dumps(answered))
        return loaded


class FakeRoom:
    def __init__(self) -> None:
        self.state: dict[tuple[str, str], EventBase] = {}
        self.timeline: list[EventBase] = []


class FakeHomeserver:
    """Users, rooms and events in memory; the module's tables in an in-memory SQLite database."""

    def __init__(
        self, server_name: str = "hs1.test", config: dict[str, Any] | None = None, clock: task.Clock | None = None
    ) -> None:
        self.server_name = server_name
        self.users: set[str] = set()
        self.admins: set[str] = set()
        self.deactivated: set[str] = set()
        self.pulled: set[str] = set()
        """Ids of events that come from another homeserver, whoever sent them."""
        self.erased: set[str] = set()
        """Who was deactivated with the wish to be erased."""
        self.devices: dict[str, set[str]] = {}
        self.delegates_sign_in = False
        self.signed_in_ms: dict[int, int] = {}
        """When the session of an access token began, by its id."""
        self.account_data: dict[tuple[str, str], Any] = {}
        self.rooms: dict[str, FakeRoom] = {}
        self.events: dict[str, EventBase] = {}
        self.originals: dict[str, EventBase] = {}
        """What redacted events were before."""
        self.folder = Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.matrix_key = generate_signing_key("a_fake")
        self.reachable: dict[str, FakeHomeserver] = {}
        """Other homeservers that answer queries; all others are silent."""
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        """The queries that this one sent."""
        self.profiles: dict[str, Profile] = {}
        self.master_keys: dict[str, str] = {}
        self.openid_tokens: dict[str, tuple[UserId, int]] = {}
        """Whose each is, and until when it holds."""
        self.web_pages: dict[str, bytes] = {}
        """What web servers have, by URL."""
        self.profile_fields: dict[str, dict[str, str]] = {}
        self.hidden_by_modules: set[str] = set()
        self.push_rules: dict[tuple[str, str], dict[str, str]] = {}
        """By person and name: the properties of events that a rule silences."""
        self.turn_guards: list[Callable[[UserId], Awaitable[None]]] = []
        self.sticks_ms = 1_000
        """How long sticky events stick."""
        self.proxy_tokens: dict[str, str] = {}
        """By prefix, the tokens with which Synapse passes requests on."""
        self.locks: dict[tuple[str, str], defer.DeferredLock] = {}
        self.proxied: dict[str, ProxiedAnswer] = {}
        """By prefix, what Synapse asks in the place of passing requests on."""
        self.transports: list[dict[str, str]] = []
        """What Synapse announces of MatrixRTC."""
        self.services: dict[str, Callable[[str, str, dict[str, Any]], tuple[int, dict[str, Any]]]] = {}
        """Services of the operator's own, by the beginning of their URLs; they get path, token and body."""
        self.delayed: dict[str, tuple[UserId, RoomId, int]] = {}
        """Delayed events: whose, where, and their delay."""
        self.restarts: list[tuple[str, int]] = []
        self.sent_delayed: list[str] = []
        self.take_post: Callable[[str, str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]] = _no_post
        """Answers POSTs of other homeservers: their name, the path, the body."""
        self.user_directory: list[dict[str, Any]] = []
        """The rows among which Synapse's own user search looks."""
        self.registered_s: dict[str, int] = {}
        self._stream = {"position": 0}
        self.process = "main"
        self.processes: list[FakeHomeserver] = [self]
        """All that run; ``worker`` makes more."""
        self.instance_map: set[str] = set()
        self.listening: dict[str, InstanceHandler] = {}
        """What each process of this homeserver that runs answers to the others."""
        self.endpoints: dict[tuple[str, str], InstanceHandler] = {}
        """The same at other endpoints than the usual one."""
        self.hanging: set[str] = set()
        """Processes that take requests and answer none."""
        self.relayed: list[tuple[str, str]] = []
        """What processes asked of each other."""
        self.at_shutdown: list[Callable[[], Awaitable[None]]] = []
        self.background_errors: list[tuple[str, Failure]] = []
        self.clock = clock or task.Clock()
        if clock is None:
            self.clock.advance(START_S)
        self._ids = itertools.count(1)
        self._starts_as: str | None = None
        """Where the tables that the first start makes are to be kept for others; None once they are made."""
        self._database = sqlite3.connect(":memory:", isolation_level=None)
        self._database.execute("PRAGMA foreign_keys = ON")
        # Time is the database's own for leases, so here it must be the fake clock's.
        self._database.create_function("julianday", 1, lambda _: self.clock.seconds() / 86_400 + 2_440_587.5)
        self._database.execute(
            "CREATE TABLE events (stream_ordering INTEGER PRIMARY KEY, event_id TEXT, type TEXT,"
            " rejection_reason TEXT, room_id TEXT, sender TEXT, state_key TEXT)"
        )
        self._database.execute("CREATE TABLE event_json (event_id TEXT PRIMARY KEY, json TEXT)")
        self._engine = Sqlite3Engine({"args": {"database": ":memory:"}})
        self.api = FakeModuleApi(self)
        self.private = FakePrivateApi(self)
        self.statements: list[str] = []
        # What speaks by itself is on where a test asks for it: others count rooms and events.
        self._config = {**(config or {})}
        # Tests ask as fast as they can.
        unlimited = dict.fromkeys(("reads", "writes", "public", "admin"), 0)
        self._config["requests"] = {**unlimited, **self._config.get("requests", {})}
        self._config["features"] = {"assistant": False, "cards": False, **self._config.get("features", {})}

    # Processes.

    def worker(self, name: str) -> "FakeHomeserver":
        """One more process of this homeserver, on the same database, rooms and clock; ``start`` it."""
        process = copy.copy(self)
        process.process = name
        process.at_shutdown = []
        process.api = FakeModuleApi(process)
        process.private = FakePrivateApi(process)
        self.instance_map.update(("main", name))
        self.processes.append(process)
        return process

    def kill(self) -> None:
        """This process is gone, in the middle of whatever it does."""
        self.api.dead = True
        self.processes.remove(self)
        self.listening.pop(self.process, None)

    def suspend(self) -> None:
        """This process hangs: it takes requests, answers none, and does nothing by itself."""
        self.api.stopped = True
        self.hanging.add(self.process)

    def resume(self) -> None:
        self.api.stopped = False
        self.hanging.discard(self.process)

    def stop(self) -> None:
        """This process ends in order."""
        for stop in self.at_shutdown:
            self.result(stop())
        self.kill()

    @property
    def stream_position(self) -> int:
        return self._stream["position"]

    # Starting.

    def start(self) -> SuperApp:
        """Build the module on this homeserver, as Synapse would, and wait until it is ready."""
        if self.query("SELECT count(*) FROM sqlite_master WHERE name LIKE 'superapp%'") == [(0,)]:
            self._begin_with_tables()
        self.module = SuperApp(SuperApp.parse_config(self._config), self.api, private=self.private)  # type: ignore[arg-type]
        self.settle()
        return self.module

    def _begin_with_tables(self) -> None:
        """Take what migrations made of an empty database before, for the same config; they find nothing to do then."""
        if self.query("SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM event_json)") != [(0,)]:
            return
        key = json.dumps(self._config, sort_keys=True, default=str)
        known = _TABLES.get(key)
        # A test may have migrations of its own.
        if known is not None and all(found == migrations.load(name, Engine.SQLITE) for name, found in known[0].items()):
            known[1].backup(self._database)
        else:
            self._starts_as = key

    def _keep_tables(self, key: str) -> None:
        ran = self.query("SELECT package, max(number) FROM superapp_migration GROUP BY package")
        found = {str(package): migrations.load(package, Engine.SQLITE) for package, _ in ran}
        if all(len(found[str(package)]) == number for package, number in ran):
            kept = sqlite3.connect(":memory:")
            self._database.backup(kept)
            _TABLES[key] = (found, kept)

    def restart(self) -> SuperApp:
        """The process dies and a new one starts on the same database: callbacks and timers are gone."""
        for call in list(cast(list[Any], self.clock.getDelayedCalls())):
            call.cancel()
        self.api = FakeModuleApi(self)
        self.private = FakePrivateApi(self)
        return self.start()

    def register(self, localpart: str, *, admin: bool = False) -> UserId:
        user_id = f"@{localpart}:{self.server_name}"
        self.users.add(user_id)
        if admin:
            self.admins.add(user_id)
        return UserId(user_id)

    def register_as_synapse(self, localpart: str) -> UserId:
        """Register as a client does: through the guards and callbacks. Raises the SynapseError that it would see."""
        for guard in self.private.username_guards:
            self.result(guard(localpart))
        for callback in self.api.callbacks["check_registration_for_spam"]:
            assert self.result(callback(None, localpart, [], None)) is RegistrationBehaviour.ALLOW
        user_id = self.register(localpart)
        self.registered_s[user_id] = self.now_ms() // 1000
        for callback in self.api.callbacks["on_user_registration"]:
            self.result(callback(user_id))
        self.settle()
        return user_id

    def created_s(self, user_id: str) -> int:
        """When an account was made; those that ``register`` made have always been there."""
        return self.registered_s.get(user_id, 0)

    def reach(self, server: str) -> "FakeHomeserver":
        """A homeserver on the network. Raises NoAnswer if it is not reachable now."""
        if server == self.server_name:
            return self
        if server not in self.reachable:
            raise NoAnswer(None, f"{server} is down")
        return self.reachable[server]

    # Time and transactions.

    def now_ms(self) -> int:
        return int(self.clock.seconds() * 1000)

    def advance(self, seconds: float) -> None:
        """Move the clock in small steps, so that what one timer arms can fire too."""
        steps = max(1, min(200, int(seconds * 2)))
        for _ in range(steps):
            self.clock.advance(seconds / steps)
        self.settle()

    def settle(self) -> None:
        """Let everything run that waits for no clock, and fail on what failed in the background."""
        self.clock.advance(0)
        if self.background_errors:
            desc, failure = self.background_errors[0]
            raise AssertionError(f"background process {desc} failed") from failure.value

    def background_failed(self, failure: Any, desc: str) -> None:
        self.background_errors.append((desc, failure))

    def transact(self, desc: str, func: Callable[..., T], *args: Any, **kwargs: Any) -> "defer.Deferred[T]":
        self.statements.append(desc)
        if self._starts_as is not None and not desc.startswith(_MIGRATING):
            key, self._starts_as = self._starts_as, None
            self._keep_tables(key)
        for attempt in ("rolled back", "committed"):
            cursor = self._database.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            txn = LoggingTransaction(
                txn=cursor,  # pyright: ignore[reportArgumentType]  # typeshed has its arguments positional-only
                name=desc,
                server_name=self.server_name,
                database_engine=self._engine,
                after_callbacks=[],
                async_after_callbacks=[],
                exception_callbacks=[],
            )
            try:
                result = func(txn, *args, **kwargs)
            except Exception:
                failed = defer.fail()
                if self._database.in_transaction:
                    cursor.execute("ROLLBACK")
                return failed
            if attempt == "committed":
                cursor.execute("COMMIT")
                return defer.succeed(result)
            cursor.execute("ROLLBACK")
        raise AssertionError("unreachable")

    def fill_disk(self) -> None:
        """From now on the database cannot grow."""
        (pages,) = self.query("PRAGMA page_count")[0]
        self._database.execute(f"PRAGMA max_page_count = {pages}")

    def make_room_on_disk(self) -> None:
        self._database.execute("PRAGMA max_page_count = 1000000")

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self._database.execute(sql, parameters).fetchall()

    # Rooms and events.

    def redact(self, event_id: str) -> None:
        """The content goes, as after a redaction."""
        event = self.originals[event_id] = self.events[event_id]
        self.events[event_id] = prune_event(event)

    def room(self, creator: str, *joined: str, invited: tuple[str, ...] = (), encrypted: bool = False) -> str:
        room_id = f"!room{next(self._ids)}:{self.server_name}"
        self.rooms[room_id] = FakeRoom()
        for user_id in (creator, *joined):
            self.set_state(room_id, creator, "m.room.member", user_id, {"membership": "join"})
        for user_id in invited:
            self.set_state(room_id, creator, "m.room.member", user_id, {"membership": "invite", "is_direct": True})
        if encrypted:
            self.set_state(room_id, creator, "m.room.encryption", "", {"algorithm": "m.megolm.v1.aes-sha2"})
        return room_id

    def memberships(self, room_id: str) -> dict[str, str]:
        state = self.rooms[room_id].state.items()
        return {name: event.content["membership"] for (kind, name), event in state if kind == "m.room.member"}

    def set_state(self, room_id: str, sender: str, event_type: str, state_key: str, content: dict[str, Any]) -> None:
        event = self._event(sender, room_id, event_type, content, state_key=state_key)
        self._persist(event)

    def send(
        self,
        sender: str,
        room_id: str,
        event_type: str,
        content: dict[str, Any],
        *,
        state_key: str | None = None,
        delayed: bool = False,
        sticky: bool = False,
    ) -> str:
        """Send as a local client. Raises the SynapseError that the client would see."""
        sent = self.result(
            self.send_async(sender, room_id, event_type, content, state_key=state_key, delayed=delayed, sticky=sticky)
        )
        self.settle()
        return str(sent.event_id)

    async def send_async(
        self,
        sender: str,
        room_id: str,
        event_type: str,
        content: dict[str, Any],
        *,
        state_key: str | None = None,
        delayed: bool = False,
        sticky: bool = False,
    ) -> EventBase:
        member = self.rooms[room_id].state.get(("m.room.member", sender))
        if member is None or member.content["membership"] != "join":
            raise SynapseError(403, f"User {sender} not in room {room_id}", "M_FORBIDDEN")
        event = None
        for _ in range(2):
            event = self._event(
                sender, room_id, event_type, content, state_key=state_key, delayed=delayed, sticky=sticky
            )
            verdict = await self.gate(event)
            if verdict != NOT_SPAM:
                raise SynapseError(403, f"refused with {verdict!r}", "M_FORBIDDEN")
        assert event is not None
        self._persist(event)
        return event

    def gate_only(self, sender: str, room_id: str, event_type: str, content: dict[str, Any]) -> None:
        """The gate says yes (or raises) and then the event never comes to exist."""
        verdict = self.result(self.gate(self._event(sender, room_id, event_type, content)))
        assert verdict == NOT_SPAM
        self.settle()

    def receive(
        self,
        sender: str,
        room_id: str,
        event_type: str,
        content: dict[str, Any],
        *,
        state_key: str | None = None,
        sticky: bool = False,
    ) -> str:
        """An event arrives over federation. A gate that says no soft-fails it."""
        event = self._event(sender, room_id, event_type, content, state_key=state_key, sticky=sticky)
        self.pulled.add(str(event.event_id))
        if self.result(self.gate(event)) != NOT_SPAM:
            event.internal_metadata.soft_failed = True
        self._persist(event)
        self.settle()
        return str(event.event_id)

    async def gate(self, event: EventBase) -> Any:
        for callback in self.api.callbacks["check_event_for_spam"]:
            verdict = await callback(event)
            if verdict != NOT_SPAM:
                return verdict
        return NOT_SPAM

    def sent(self, room_id: str, event_type: str) -> list[EventBase]:
        """The events of a type in a room's timeline, oldest first."""
        return [event for event in self.rooms[room_id].timeline if event.type == event_type]

    # The client API.

    def call(
        self, method: str, path: str, user_id: str = "", body: Any = None, query: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Call a route below the API prefix. Raises the SynapseError that the client would see."""
        resource = next(each for each in self.api.web_resources.values() if isinstance(each, ApiResource))
        route, variables = resource.match(method, path)
        if route.auth is Auth.ADMIN:
            assert user_id in self.admins, "the fake does not authenticate: call admin routes as an admin"
        content = {} if body is None and route.body is not None else body
        result = self.result(answer(route, variables, UserId(user_id), query or {}, content))
        self.settle()
        return result

    def download(self, path: str, user_id: str, query: dict[str, str] | None = None) -> FileAnswer:
        """The file that a route gives."""
        resource = next(each for each in self.api.web_resources.values() if isinstance(each, ApiResource))
        route, variables = resource.match("GET", path)
        found = self.result(answer_any(route, variables, UserId(user_id), query or {}, None))
        assert isinstance(found, FileAnswer)
        return found

    def result(self, awaitable: Awaitable[T]) -> T:
        """The result of something that waits for nothing but clocks; the clock is advanced for it."""
        deferred = _as_deferred(awaitable)
        outcome: list[Any] = []
        deferred.addBoth(outcome.append)
        for _ in range(400):
            if outcome:
                break
            self.clock.advance(0.05)
        if not outcome:
            raise AssertionError("still waiting after 20 s on the fake clock")
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        return outcome[0]  # type: ignore[no-any-return]

    def _event(
        self,
        sender: str,
        room_id: str,
        event_type: str,
        content: dict[str, Any],
        *,
        state_key: str | None = None,
        delayed: bool = False,
        sticky: bool = False,
    ) -> EventBase:
        number = next(self._ids)
        fields: dict[str, Any] = {
            "type": event_type,
            "room_id": room_id,
            "sender": sender,
            "content": content,
            "event_id": f"$event{number}:{self.server_name}",
            "origin_server_ts": self.now_ms(),
            "depth": number,
            "prev_events": [],
            "auth_events": [],
            "hashes": {"sha256": ""},
            "signatures": {},
            "unsigned": {},
        }
        if state_key is not None:
            fields["state_key"] = state_key
        if sticky:
            fields["msc4354_sticky"] = {"duration_ms": self.sticks_ms}
        event = make_event_from_dict(fields, RoomVersions.V1, {})
        if delayed:
            event.internal_metadata.delay_id = "delay"
        return event

    def _persist(self, event: EventBase) -> None:
        self._stream["position"] += 1
        event.internal_metadata.stream_ordering = self.stream_position
        self.events[event.event_id] = event
        room = self.rooms[event.room_id]
        room.timeline.append(event)
        if event.is_state():
            room.state[(event.type, event.state_key)] = event
        self._database.execute(
            "INSERT INTO events VALUES (?, ?, ?, NULL, ?, ?, ?)",
            (
                self.stream_position,
                event.event_id,
                event.type,
                event.room_id,
                event.sender,
                event.state_key if event.is_state() else None,
            ),
        )
        if event.type == "m.room.message":
            # The sources of others are not read.
            source = json.dumps(event.get_dict(), separators=(",", ":"), ensure_ascii=False)
            self._database.execute("INSERT INTO event_json VALUES (?, ?)", (event.event_id, source))
        for process in self.processes:
            process.private.replicate()


async def _no_post(_origin: str, _path: str, _body: Mapping[str, Any]) -> Mapping[str, Any]:
    raise NoAnswer(404, "no handler for this path", {"errcode": "M_UNRECOGNIZED"})


def _as_deferred(value: Any) -> "defer.Deferred[Any]":
    if isinstance(value, defer.Deferred):
        return value
    if isinstance(value, Coroutine):
        return defer.ensureDeferred(value)
    if isinstance(value, Awaitable):

        async def wait() -> Any:
            return await value

        return defer.ensureDeferred(wait())
    return defer.succeed(value)
