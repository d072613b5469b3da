"""The only file that touches Synapse below its ModuleApi.

``USES`` lists every private symbol with the features that need it and the reason why ModuleApi does not do. At start
each is looked up; when one moved, the features that need it go off (or the start is refused, as configured) and chat
goes on. ``tests/modules/test_frame.py`` fails when a symbol moves.
"""

# Using what Synapse keeps to itself is what this file is for.
# pyright: reportPrivateUsage=none

import importlib
import inspect
import io
import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, LiteralString, TypeVar, cast
from urllib.parse import urlsplit

from synapse.module_api import ModuleApi, run_in_background

from super_app.db import Cursor, Engine
from super_app.ids import Acct, EventId, RoomId, ServerName, UserId
from super_app.names import AccountDataType, EventType, FederationQuery
from synapse_super_app.answer_parser import AnswerParser
from synapse_super_app.config import FeatureName

if TYPE_CHECKING:
    from synapse.events import EventBase
    from synapse.server import HomeServer
    from twisted.internet.defer import Deferred

CORE: Final = frozenset(FeatureName)
"""Needed by every feature: when it moved, all go off."""


_MARK: Final = "superapp_marks_events"
_CHECKED: Final[ContextVar[str | None]] = ContextVar("superapp_checked", default=None)
"""The event of another homeserver that is being checked. By its id, since what is begun meanwhile keeps the context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateUse:
    """One private symbol: where it is (``module:attribute.path``), who needs it, and why."""

    symbol: str
    features: frozenset[FeatureName]
    reason: str


USES: Final[tuple[PrivateUse, ...]] = (
    PrivateUse(
        symbol="synapse.storage.engines._base:IsolationLevel.READ_COMMITTED",
        features=CORE,
        reason="ModuleApi hands an isolation level on and does not name any",
    ),
    PrivateUse(
        symbol="synapse.logging.opentracing:start_active_span",
        # Without it steps of ours are missing in traces, and nothing else.
        features=frozenset(),
        reason="the tracer that Synapse was configured with; ModuleApi does not hand it on",
    ),
    PrivateUse(
        symbol="synapse.logging.context:PreserveLoggingContext",
        features=frozenset({FeatureName.PAYMENTS, FeatureName.RECOVERY}),
        reason="to fire the Deferreds of others by the rules of log contexts; ModuleApi has the other half",
    ),
    PrivateUse(
        symbol="synapse.logging.context:set_current_context",
        features=frozenset({FeatureName.PAYMENTS}),
        reason="to wait in the ledger's queue without what make_deferred_yieldable does for debugging",
    ),
    PrivateUse(
        symbol="synapse.config.database:DatabaseConnectionConfig",
        features=frozenset({FeatureName.PAYMENTS}),
        reason="how to reach the database, for the connection of the ledger's writer; ModuleApi has the pool alone",
    ),
    PrivateUse(
        symbol="synapse.server:HomeServer.get_reactor",
        features=frozenset({FeatureName.PAYMENTS}),
        reason="waits on that connection; ModuleApi waits on threads only",
    ),
    PrivateUse(
        symbol="synapse.server:HomeServer.get_datastores",
        features=CORE,
        reason="ModuleApi reads no single event and no stream position",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.stream:StreamWorkerStore.get_room_max_stream_ordering",
        features=CORE,
        reason="the position up to which every writer has persisted, for the durable cursor",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.events_worker:EventsWorkerStore.get_event",
        features=CORE,
        reason="the follower reads persisted events by id",
    ),
    PrivateUse(
        symbol="synapse.notifier:Notifier.add_replication_callback",
        features=CORE,
        reason="wakes the follower when events were persisted, without a hook on each event",
    ),
    PrivateUse(
        symbol="synapse.api.constants:StickyEvent.EVENT_FIELD_NAME",
        features=frozenset({FeatureName.PAYMENTS, FeatureName.CALLS}),
        reason="to refuse a payment or a ring that was sent as a sticky event (MSC4354)",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.events_worker:EventRedactBehaviour.as_is",
        features=frozenset({FeatureName.PAYMENTS}),
        reason="a payment event that is redacted before it is followed still binds its order",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.registration:RegistrationWorkerStore.get_access_token_last_validated",
        features=CORE,
        reason="the table of access tokens says when one signed in, to ask for it anew; ModuleApi does not",
    ),
    PrivateUse(
        symbol="synapse.federation.federation_base:FederationBase._check_sigs_and_hash",
        features=CORE,
        reason="the gate is asked in the same way about an event that is being made here and about one of our own"
        " people that comes back from another homeserver, as after a restore; ModuleApi tells nobody which it is",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.user_erasure_store:UserErasureWorkerStore.is_user_erased",
        features=CORE,
        reason="the table that it reads, erased_users; ModuleApi tells that an account was deactivated and not this",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.devices:DeviceWorkerStore.get_devices_by_user",
        features=CORE,
        reason="the table of devices shows which one is new, where sign-in is delegated; ModuleApi does not",
    ),
    PrivateUse(
        symbol="synapse.handlers.device:DeviceHandler.delete_all_devices_for_user",
        features=frozenset({FeatureName.PAYMENTS}),
        reason="ends the other sessions of a person who lost a device; ModuleApi ends one whose token it is given",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.roommember:RoomMemberWorkerStore.get_current_hosts_in_room",
        features=frozenset({FeatureName.PAYMENTS}),
        reason="which homeservers can read a receipt; ModuleApi would load every member event of the room",
    ),
    PrivateUse(
        symbol="synapse.config._base:read_config_files",
        features=frozenset({FeatureName.DIRECTORY, FeatureName.PAYMENTS, FeatureName.RECOVERY}),
        reason="where the signing key is, to keep our keys beside it; Synapse does not remember the path",
    ),
    PrivateUse(
        symbol="synapse.crypto.keyring:Keyring.verify_json_for_server",
        features=frozenset({FeatureName.DIRECTORY, FeatureName.PAYMENTS}),
        reason="the Matrix key of a server certifies its other keys, and the keyring knows Matrix keys",
    ),
    PrivateUse(
        symbol="synapse.config.key:KeyConfig.read_signing_keys",
        features=frozenset({FeatureName.DIRECTORY, FeatureName.PAYMENTS}),
        reason="our Matrix key, which this reads into HomeServer.signing_key, certifies our other keys",
    ),
    PrivateUse(
        symbol="synapse.federation.transport.server:SERVLET_GROUPS",
        features=frozenset({FeatureName.PAYMENTS, FeatureName.RECOVERY}),
        reason="signed objects arrive by PUT on a federation path, which no web resource of a module can have",
    ),
    PrivateUse(
        symbol="synapse.federation.transport.server._base:BaseFederationServlet.RATELIMIT",
        features=frozenset({FeatureName.PAYMENTS, FeatureName.RECOVERY}),
        reason="authenticates those requests by X-Matrix; they have a limit of their own instead of rc_federation",
    ),
    PrivateUse(
        symbol="synapse.http.matrixfederationclient:MatrixFederationHttpClient.put_json",
        features=frozenset({FeatureName.PAYMENTS, FeatureName.RECOVERY}),
        reason="to send signed objects to other servers; clearing keeps its own pauses",
    ),
    PrivateUse(
        symbol="synapse.server:HomeServer.get_instance_name",
        features=frozenset({FeatureName.PAYMENTS, FeatureName.CALLS}),
        reason="which process this is; ModuleApi names workers only, and one of all processes writes the ledger",
    ),
    PrivateUse(
        symbol="synapse.config.workers:MAIN_PROCESS_INSTANCE_NAME",
        features=frozenset({FeatureName.PAYMENTS, FeatureName.CALLS}),
        reason="the main process has another name inside Synapse than in its config",
    ),
    PrivateUse(
        symbol="synapse.replication.http:ReplicationRestResource.register_servlets",
        features=frozenset({FeatureName.PAYMENTS, FeatureName.CALLS}),
        reason="to be asked by other processes of this homeserver, at the listeners that they have for each other",
    ),
    PrivateUse(
        symbol="synapse.replication.http._base:ReplicationEndpoint.make_client",
        features=frozenset({FeatureName.PAYMENTS, FeatureName.CALLS}),
        reason="to ask other processes, as Synapse's own do",
    ),
    PrivateUse(
        symbol="synapse.server:HomeServer.get_reactor",
        features=frozenset({FeatureName.PAYMENTS}),
        reason="to give up the ledger's lease before the process ends",
    ),
    PrivateUse(
        symbol="synapse.federation.federation_server:FederationHandlerRegistry.register_query_handler",
        features=frozenset({FeatureName.DIRECTORY}),
        reason="other servers ask by federation queries, which authenticate them",
    ),
    PrivateUse(
        symbol="synapse.http.matrixfederationclient:MatrixFederationHttpClient.get_json",
        features=frozenset({FeatureName.DIRECTORY}),
        reason="to ask other servers, with a timeout of our own",
    ),
    PrivateUse(
        symbol="synapse.http.matrixfederationclient:ByteParser.MAX_RESPONSE_SIZE",
        features=frozenset({FeatureName.DIRECTORY}),
        reason="its own parser takes 100 MB, which are gigabytes in memory",
    ),
    PrivateUse(
        symbol="synapse.util.async_helpers:timeout_deferred",
        features=frozenset({FeatureName.DIRECTORY}),
        reason="the client's timeout holds for each attempt, and a person waits for all of them",
    ),
    PrivateUse(
        symbol="synapse.handlers.register:RegistrationHandler.check_username",
        features=frozenset({FeatureName.DIRECTORY}),
        reason="a localpart that is somebody's handle is not available; the callback alone is asked too late",
    ),
    PrivateUse(
        symbol="synapse.handlers.user_directory:UserDirectoryHandler.search_users",
        features=frozenset({FeatureName.DIRECTORY}),
        reason="handles are found where every client searches for people",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.account_data:AccountDataWorkerStore.ignored_users",
        features=frozenset({FeatureName.DIRECTORY}),
        reason="whom a user ignores, from the cache: ModuleApi parses the account data each time",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.account_data:AccountDataWorkerStore.ignored_by",
        features=frozenset({FeatureName.DIRECTORY}),
        reason="who ignores a user, so that neither finds the other; ModuleApi does not tell",
    ),
    PrivateUse(
        symbol=(
            "synapse.module_api.callbacks.spamchecker_callbacks:SpamCheckerModuleApiCallbacks.check_username_for_spam"
        ),
        features=frozenset({FeatureName.DIRECTORY}),
        reason="results that we add pass the filters of other modules as Synapse's own do",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.openid:OpenIdStore.get_user_id_for_open_id_token",
        features=frozenset({FeatureName.WEB}),
        reason="whose OpenID token a widget brings; over HTTP that is a question to oneself, on the federation port",
    ),
    PrivateUse(
        symbol="synapse.server:HomeServer.get_proxied_blocklisted_http_client",
        features=frozenset({FeatureName.DIRECTORY}),
        reason="asks the web server of a domain whom it names; ModuleApi's client reaches private networks too",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.profile:ProfileWorkerStore.get_profile_field",
        features=frozenset({FeatureName.DIRECTORY}),
        reason="whether a profile shows the handle already",
    ),
    PrivateUse(
        symbol="synapse.handlers.profile:ProfileHandler.dispatch_set_profile_field",
        features=frozenset({FeatureName.DIRECTORY}),
        reason="shows a public handle in the profile; ModuleApi sets display names only",
    ),
    PrivateUse(
        symbol="synapse.handlers.profile:ProfileHandler.dispatch_delete_profile_field",
        features=frozenset({FeatureName.DIRECTORY}),
        reason="the same, when the handle is public no more",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.end_to_end_keys:EndToEndKeyWorkerStore.get_e2e_cross_signing_key",
        features=frozenset({FeatureName.DIRECTORY}),
        reason="a record names the person's cross-signing master key",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.roommember:RoomMemberWorkerStore.get_rooms_for_user",
        features=frozenset({FeatureName.DIRECTORY}),
        reason="whether another server has a room in common with a person who is hidden",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.roommember:RoomMemberWorkerStore.is_host_joined",
        features=frozenset({FeatureName.DIRECTORY}),
        reason="the same",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.roommember:RoomMemberWorkerStore.get_room_summary",
        features=frozenset({FeatureName.CALLS}),
        reason="whether a room is a direct one; ModuleApi would load every member event of the room",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.roommember:RoomMemberWorkerStore.get_users_in_room",
        features=frozenset({FeatureName.CALLS}),
        reason="whom a ring in a group is for; ModuleApi would load their member events",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.roommember:RoomMemberWorkerStore.get_rooms_for_user",
        features=frozenset({FeatureName.CALLS}),
        reason="whether caller and callee share a room, for call policies; ModuleApi lists nobody's rooms",
    ),
    PrivateUse(
        symbol=(
            "synapse.storage.databases.main.account_data:AccountDataWorkerStore"
            ".get_global_account_data_by_type_for_user"
        ),
        features=frozenset({FeatureName.CALLS}),
        reason="the cached object itself, whose identity says whether a policy changed; ModuleApi copies it each time",
    ),
    PrivateUse(
        symbol="synapse.storage.invite_rule:MSC4155InviteRulesConfig.get_invite_rule",
        features=frozenset({FeatureName.CALLS}),
        reason="who may not invite may not ring, by the same rules as Synapse's",
    ),
    PrivateUse(
        symbol="synapse.storage.invite_rule:MSC4380InviteRulesConfig.from_account_data",
        features=frozenset({FeatureName.CALLS}),
        reason="the same",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.push_rule:PushRulesWorkerStore.add_push_rule",
        features=frozenset({FeatureName.CALLS}),
        reason="rings in groups are silenced for one person by push rules; ModuleApi changes rules that exist only",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.push_rule:PushRulesWorkerStore.delete_push_rule",
        features=frozenset({FeatureName.CALLS}),
        reason="the same, when the ring is over",
    ),
    PrivateUse(
        symbol="synapse.handlers.push_rules:PushRulesHandler.notify_user",
        features=frozenset({FeatureName.CALLS}),
        reason="wakes the person's clients for the new rule",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.appservice:ApplicationServiceWorkerStore.get_app_services",
        features=frozenset({FeatureName.CALLS}),
        reason="the token by which Synapse's own proxy for MatrixRTC (MSC4512) shows that it authenticated somebody",
    ),
    PrivateUse(
        symbol="synapse.rest.client.appservice_proxy:proxy_request_to_appservice",
        features=frozenset({FeatureName.CALLS}),
        reason="what Synapse would pass on to itself (MSC4512) is answered without a second HTTP request",
    ),
    PrivateUse(
        symbol="synapse.federation.transport.server.appservice_proxy:proxy_request_to_appservice",
        features=frozenset({FeatureName.CALLS}),
        reason="the same for what other homeservers ask",
    ),
    PrivateUse(
        symbol="synapse.util.caches.stream_change_cache:StreamChangeCache.has_entity_changed",
        features=frozenset({FeatureName.CALLS}),
        reason="whether the state of a room has changed, so that its rules need not be read for each token",
    ),
    PrivateUse(
        symbol="synapse.handlers.worker_lock:WorkerLocksHandler.acquire_lock",
        features=frozenset({FeatureName.CALLS}),
        reason="what is read from room state and written back is done by one at a time, in whichever process",
    ),
    PrivateUse(
        symbol="synapse.http.server:respond_with_json",
        features=frozenset({FeatureName.CALLS}),
        reason="to answer those requests",
    ),
    PrivateUse(
        symbol="synapse.config.matrixrtc:MatrixRtcConfig",
        features=frozenset({FeatureName.CALLS}),
        reason="where Synapse announces the transports of MatrixRTC; ModuleApi announces nothing",
    ),
    PrivateUse(
        symbol="synapse.rest.well_known:WellKnownBuilder.get_well_known",
        features=frozenset({FeatureName.CALLS}),
        reason="the same, for clients that look into .well-known",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.openid:OpenIdStore.get_user_id_for_open_id_token",
        features=frozenset({FeatureName.CALLS}),
        reason="whose OpenID token Element Call brings",
    ),
    PrivateUse(
        symbol="synapse.http.matrixfederationclient:MatrixFederationHttpClient.get_json",
        features=frozenset({FeatureName.CALLS}),
        reason="to ask another homeserver whose OpenID token it is",
    ),
    PrivateUse(
        symbol="synapse.http.matrixfederationclient:MatrixFederationHttpClient.post_json",
        features=frozenset({FeatureName.CALLS}),
        reason="to ask another homeserver for a token of its SFU (MSC4195)",
    ),
    PrivateUse(
        symbol="synapse.util.async_helpers:timeout_deferred",
        features=frozenset({FeatureName.CALLS}),
        reason="people wait for those answers, and for the SFU's",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.roommember:RoomMemberWorkerStore.is_host_joined",
        features=frozenset({FeatureName.CALLS}),
        reason="no other homeserver is asked about a token that is not in the room",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.delayed_events:DelayedEventsStore.restart_delayed_event",
        features=frozenset({FeatureName.CALLS}),
        reason="leave events that clients hand over (MSC4195) are restarted; over HTTP that is a question to oneself",
    ),
    PrivateUse(
        symbol="synapse.storage.databases.main.delayed_events:DelayedEventsStore.process_target_delayed_event",
        features=frozenset({FeatureName.CALLS}),
        reason="the same, to send one",
    ),
    PrivateUse(
        symbol="synapse.handlers.delayed_events:DelayedEventsHandler._send_event",
        features=frozenset({FeatureName.CALLS}),
        reason="the same",
    ),
    PrivateUse(
        symbol="synapse.rest.client.voip:VoipRestServlet.on_GET",
        features=frozenset({FeatureName.CALLS}),
        reason="Synapse's own TURN credentials have no limit per person",
    ),
)


ProxiedAnswer = Callable[[str, str, dict[str, str], bytes], Awaitable[tuple[int, dict[str, Any]]]]
"""Method, path, headers and body of a request that was passed on; the status and the JSON of the answer."""

_ENDPOINT: Final = "superapp"
"""Where processes of one homeserver ask each other, if nothing else is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonRoom:
    """A room of two people, the first of them joined."""

    room_id: RoomId
    other_joined: bool
    """False where the other is invited."""
    only_two: bool
    """Nobody else is joined or invited."""
    encrypted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SynapseAccount:
    """An account of this homeserver as Synapse keeps it."""

    user_id: UserId
    created_ms: int
    deactivated: bool
    ghost: bool
    """It belongs to an application service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    display_name: str | None
    avatar_url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Somebody as this homeserver has seen them in rooms, and whether the asker is in a private one with them."""

    profile: Profile
    in_private_room: bool


class NoAnswer(Exception):
    """Another homeserver did not answer a query. ``status`` is what it answered instead, None if nothing at all."""

    def __init__(self, status: int | None, what: str, answer: Mapping[str, Any] | None = None) -> None:
        super().__init__(what)
        self.status = status
        self.answer: Mapping[str, Any] = answer or {}
        """The JSON of its answer, where that is kept."""


class PutFailed(Exception):
    """Another homeserver did not take a PUT. ``status`` and ``errcode`` are of its answer, None if there was none."""

    def __init__(self, what: str, status: int | None = None, answer: Mapping[str, Any] | None = None) -> None:
        super().__init__(what)
        self.status = status
        self.answer: Mapping[str, Any] = answer or {}

    @property
    def errcode(self) -> str | None:
        found = self.answer.get("errcode")
        return found if isinstance(found, str) else None


class InstanceSilent(Exception):
    """Another process of this homeserver gave no answer."""


InstanceHandler = Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]
"""Answers what another process of this homeserver asks, JSON both ways. It must not raise."""

PutHandler = Callable[[ServerName, str, Mapping[str, Any]], Awaitable[dict[str, Any]]]
"""The authenticated origin, the last part of the path, and the body; returns the answer or raises SynapseError."""


UserSearch = Callable[[str, str, int], Awaitable[Mapping[str, Any]]]
"""The signature of Synapse's user directory search: user id, term, limit."""


T = TypeVar("T")


def read_committed() -> int:
    """Synapse's name for READ COMMITTED, for ``run_db_interaction``."""
    return int(_module("synapse.storage.engines._base").IsolationLevel.READ_COMMITTED)


def outside_log_context() -> AbstractContextManager[None]:
    """In it, Deferreds are fired for whoever waits for them, without lending them the log context of here."""
    context: AbstractContextManager[None] = _module("synapse.logging.context").PreserveLoggingContext()
    return context


def yieldable(done: "Deferred[T]") -> "Deferred[T]":
    """``make_deferred_yieldable`` without its bookkeeping for debugging, which costs more than a queue does."""
    contexts = _module("synapse.logging.context")
    calling = contexts.current_context()
    if calling:
        contexts.set_current_context(contexts.SENTINEL_CONTEXT)

        def restore(result: T) -> T:
            contexts.set_current_context(calling)
            return result

        done.addBoth(restore)
    return done


def span(step: str, **tags: str) -> AbstractContextManager[object]:
    """A step of ours in the trace that Synapse makes of a request, where an operator has it trace (OpenTracing).

    ``tags`` name kinds of things and homeservers, never people, rooms or amounts.
    """
    try:
        start = _module("synapse.logging.opentracing").start_active_span
    except (ImportError, AttributeError):
        # Nothing depends on being watched.
        return nullcontext()
    started: AbstractContextManager[object] = start(
        f"superapp.{step}", tags={f"superapp.{name}": value for name, value in tags.items()}
    )
    return started


@cache
def _module(name: str) -> Any:
    """Imported at first use, so that one that moved switches off what needs it and nothing else."""
    return importlib.import_module(name)


def missing(uses: Collection[PrivateUse] = USES) -> Mapping[FeatureName, PrivateUse]:
    """For each feature that cannot run on this Synapse, the first private symbol that it misses."""
    lost: dict[FeatureName, PrivateUse] = {}
    for use in uses:
        if not _exists(use.symbol):
            for feature in use.features:
                lost.setdefault(feature, use)
    return lost


def _exists(symbol: str) -> bool:
    module_name, _, path = symbol.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in path.split("."):
            # Protocol members and attrs fields stand in __annotations__ rather than on the class.
            if part in getattr(found, "__annotations__", {}):
                return True
            # Not bound: Synapse's caching descriptors refuse to be read from a class.
            found = inspect.getattr_static(found, part)
    except (ImportError, AttributeError):
        return False
    return True


class PrivateApi:
    """Typed doors to those symbols. Constructing it touches nothing that the enabled features do not need."""

    def __init__(self, api: ModuleApi) -> None:
        self._hs: HomeServer = api._hs
        self._store = self._hs.get_datastores().main
        self._api = api
        self._ask: dict[str, Any] = {}

    @property
    def engine(self) -> Engine:
        return Engine.POSTGRESQL if self._store.db_pool.engine.__class__.__name__ == "PostgresEngine" else Engine.SQLITE

    # The processes of this homeserver.

    def instance_name(self) -> str:
        """The name of this process in ``homeserver.yaml``: that of the worker, or ``main``."""
        return _in_config(self._hs.get_instance_name())

    def instances(self) -> frozenset[str]:
        """The processes that this one can ask, by their names in ``homeserver.yaml``; itself may be among them."""
        return frozenset(_in_config(name) for name in self._hs.config.worker.instance_map)

    def answer_instances(self, handler: InstanceHandler, endpoint: str = _ENDPOINT) -> None:
        """Answer other processes at an endpoint. To be called while the module is built, before listeners.

        It is at the listeners with ``replication`` among their resources, which are not for the public.
        """
        from synapse.replication.http import ReplicationRestResource

        homeserver = self._hs
        ours = _instance_endpoint(handler, endpoint)
        register_servlets = ReplicationRestResource.register_servlets

        @wraps(register_servlets)
        def with_ours(resource: Any, hs: Any) -> None:
            register_servlets(resource, hs)
            if hs is homeserver:
                ours(hs).register(resource)

        cast(Any, ReplicationRestResource).register_servlets = with_ours

    async def ask_instance(self, name: str, request: Mapping[str, Any], endpoint: str = _ENDPOINT) -> Mapping[str, Any]:
        """Ask another process of this homeserver, once.

        Raises:
            InstanceSilent: it is away, stopped before it answered, or does not run this module.
        """
        from synapse.api.errors import SynapseError
        from synapse.config.workers import MAIN_PROCESS_INSTANCE_NAME

        if name not in self.instances():
            raise InstanceSilent(f"{name} is not in instance_map")
        if endpoint not in self._ask:
            self._ask[endpoint] = _instance_endpoint(None, endpoint).make_client(self._hs)
        target = MAIN_PROCESS_INSTANCE_NAME if name == _MAIN else name
        try:
            answer: Mapping[str, Any] = await self._ask[endpoint](instance_name=target, request=dict(request))
        except SynapseError as error:
            raise InstanceSilent(f"{name} did not answer: {error}") from error
        return answer

    def on_shutdown(self, stop: Callable[[], Awaitable[None]]) -> None:
        """Await ``stop()`` before this process ends in order, while its database is still there."""
        # Synapse's own handlers are not waited for. zope.interface declares the methods of the reactor without self.
        reactor: Any = self._hs.get_reactor()
        reactor.addSystemEventTrigger(
            "before", "shutdown", lambda: self._api.run_as_background_process("superapp_shutdown", stop)
        )

    # Its database, for the connection of the ledger's writer.

    def connection_arguments(self) -> dict[str, Any]:
        """What psycopg2 connects to this homeserver's database with. Holds the password; on SQLite it is the file."""
        databases = self._hs.config.database.databases
        arguments: dict[str, Any] = next(each for each in databases if "main" in each.databases).config["args"]
        return {key: value for key, value in arguments.items() if not key.startswith("cp_")}

    def reactor(self) -> Any:
        """Twisted's reactor, as this homeserver has it."""
        return self._hs.get_reactor()

    # The event stream (follower).

    def persisted_up_to(self) -> int:
        """The stream position up to which every event persister has committed."""
        return self._store.get_room_max_stream_ordering()

    def on_replication(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever this process learns of new events. It must return at once."""
        self._hs.get_notifier().add_replication_callback(wake)

    async def get_event(self, event_id: EventId) -> "EventBase | None":
        """A persisted event, or None if it is unknown here, rejected or soft-failed."""
        event = await self._store.get_event(event_id, allow_none=True)
        return None if event is None or event.internal_metadata.is_soft_failed() else event

    # How an event was sent (gate).

    @staticmethod
    def is_delayed(event: "EventBase") -> bool:
        """Whether a local event comes from the queue of delayed events (MSC4140)."""
        return getattr(event.internal_metadata, "delay_id", None) is not None

    @staticmethod
    def is_sticky(event: "EventBase") -> bool:
        """Whether an event was sent as a sticky one (MSC4354)."""
        from synapse.api.constants import StickyEvent

        return StickyEvent.EVENT_FIELD_NAME in event.get_dict()

    # Users, rooms and events of payments. The cursor methods read Synapse's own tables inside a transaction of ours,
    # so that a decision stands on what is true when it is written. They write nothing.

    def is_deactivated(self, cur: Cursor, user_id: UserId) -> bool | None:
        """Whether a user of this homeserver is deactivated, None if there is no such user."""
        cur.execute("SELECT deactivated FROM users WHERE name = ?", (user_id,))
        row = cur.fetchone()
        return None if row is None else bool(row[0])

    def tell_apart_what_came_over_federation(self) -> None:
        """From now on ``came_over_federation`` knows. Once for all homeservers of this process."""
        from synapse.federation.federation_base import FederationBase

        check = FederationBase._check_sigs_and_hash
        if getattr(check, _MARK, False):
            return

        @wraps(check)
        async def marked(base: Any, room_version: Any, pdu: "EventBase", *args: Any, **kwargs: Any) -> Any:
            _CHECKED.set(pdu.event_id)
            return await check(base, room_version, pdu, *args, **kwargs)

        setattr(marked, _MARK, True)
        cast(Any, FederationBase)._check_sigs_and_hash = marked

    def came_over_federation(self, event: "EventBase") -> bool:
        """Whether the gate is asked about an event that another homeserver has handed to us, whoever sent it."""
        return _CHECKED.get() == event.event_id

    def wants_erasure(self, cur: Cursor, user_id: UserId) -> bool:
        """Whether a user of this homeserver was deactivated with the wish to be erased."""
        cur.execute("SELECT 1 FROM erased_users WHERE user_id = ?", (user_id,))
        return cur.fetchone() is not None

    def erased_and_not_by_us(self, cur: Cursor, limit: int) -> tuple[UserId, ...]:
        """Users with an account of ours whom Synapse has erased and we have not."""
        cur.execute(
            "SELECT known.user_id FROM superapp_account AS known"
            " JOIN erased_users ON erased_users.user_id = known.user_id"
            " LEFT JOIN superapp_erasure AS done ON done.acct = known.acct WHERE done.acct IS NULL LIMIT ?",
            (limit,),
        )
        return tuple(UserId(str(row[0])) for row in cur.fetchall())

    def left_and_not_noted(self, cur: Cursor, limit: int) -> tuple[UserId, ...]:
        """Deactivated users with an account of ours whom ``superapp_leaver`` does not have."""
        cur.execute(
            "SELECT known.user_id FROM superapp_account AS known JOIN users ON users.name = known.user_id"
            " LEFT JOIN superapp_leaver AS gone ON gone.acct = known.acct"
            " WHERE users.deactivated = 1 AND gone.acct IS NULL LIMIT ?",
            (limit,),
        )
        return tuple(UserId(str(row[0])) for row in cur.fetchall())

    def noted_and_back(self, cur: Cursor, limit: int) -> tuple[Acct, ...]:
        """Who is in ``superapp_leaver`` and whose account is in use."""
        cur.execute(
            "SELECT gone.acct FROM superapp_leaver AS gone JOIN superapp_account AS known ON known.acct = gone.acct"
            " JOIN users ON users.name = known.user_id WHERE users.deactivated = 0 LIMIT ?",
            (limit,),
        )
        return tuple(Acct(str(row[0])) for row in cur.fetchall())

    def signed_in_ms(self, cur: Cursor, access_token_id: int) -> int | None:
        """When somebody signed in and was given an access token.

        None for one that was given without: in exchange for a refresh token, or to an admin.
        """
        cur.execute(
            "SELECT last_validated FROM access_tokens WHERE id = ? AND puppets_user_id IS NULL AND NOT EXISTS"
            " (SELECT 1 FROM refresh_tokens WHERE next_token_id = access_tokens.refresh_token_id)",
            (access_token_id,),
        )
        row = cur.fetchone()
        return None if row is None or row[0] is None else int(row[0])

    async def end_sessions(self, user_id: UserId, but_device_id: str) -> bool:
        """End all sessions of a user but that of one device ("" for none).

        False where sign-in is delegated: there the account service ends them, and would bring the devices back.
        """
        if self._hs.config.mas.enabled:
            return False
        await self._hs.get_device_handler().delete_all_devices_for_user(user_id, but_device_id or None)
        return True

    def devices(self, cur: Cursor, user_id: UserId) -> frozenset[str]:
        """The devices of a user of this homeserver."""
        cur.execute("SELECT device_id FROM devices WHERE user_id = ?", (user_id,))
        return frozenset(str(row[0]) for row in cur.fetchall())

    def resident(self, cur: Cursor, user_id: UserId, data_type: AccountDataType) -> tuple[bool, object] | None:
        """Whether a user of this homeserver is deactivated, and the content of one of their global account data.

        None if there is no such user; no content where they have none.
        """
        cur.execute(
            "SELECT users.deactivated, stored.content FROM users LEFT JOIN account_data AS stored"
            " ON stored.user_id = users.name AND stored.account_data_type = ? WHERE users.name = ?",
            (data_type, user_id),
        )
        row = cur.fetchone()
        if row is None:
            return None
        return bool(row[0]), None if row[1] is None else json.loads(str(row[1]))

    def ignores(self, cur: Cursor, user_id: UserId, other: UserId) -> bool:
        """Whether somebody is on the ignore list of a user of this homeserver."""
        cur.execute("SELECT 1 FROM ignored_users WHERE ignorer_user_id = ? AND ignored_user_id = ?", (user_id, other))
        return cur.fetchone() is not None

    def is_joined(self, cur: Cursor, user_id: UserId, room_id: RoomId) -> bool:
        """Whether a user of this homeserver is joined to a room."""
        cur.execute(
            "SELECT 1 FROM local_current_membership WHERE user_id = ? AND room_id = ? AND membership = 'join'",
            (user_id, room_id),
        )
        return cur.fetchone() is not None

    def is_member(self, cur: Cursor, user_id: UserId, room_id: RoomId) -> bool:
        """Whether anybody, of whatever homeserver, is joined to a room that this homeserver is in."""
        cur.execute(
            "SELECT 1 FROM current_state_events WHERE room_id = ? AND type = 'm.room.member' AND state_key = ?"
            " AND membership = 'join'",
            (room_id, user_id),
        )
        return cur.fetchone() is not None

    def share_a_room(self, cur: Cursor, user_id: UserId, other: UserId) -> bool:
        """Whether a user of this homeserver is joined to some room with somebody else."""
        cur.execute(
            "SELECT 1 FROM local_current_membership AS own JOIN current_state_events AS theirs"
            " ON theirs.room_id = own.room_id AND theirs.type = 'm.room.member' AND theirs.state_key = ?"
            " AND theirs.membership = 'join'"
            " WHERE own.user_id = ? AND own.membership = 'join' LIMIT 1",
            (other, user_id),
        )
        return cur.fetchone() is not None

    def common_rooms(self, cur: Cursor, user_id: UserId, other: UserId) -> tuple[CommonRoom, ...]:
        """The rooms to which a user of this homeserver is joined and somebody else is joined or invited.

        In the order in which the user joined.
        """
        # Counting stops at three: only whether there are exactly two matters.
        cur.execute(
            "SELECT own.room_id, theirs.membership, (SELECT COUNT(*) FROM (SELECT 1 FROM current_state_events AS member"
            " WHERE member.room_id = own.room_id AND member.type = 'm.room.member'"
            " AND member.membership IN ('join', 'invite') LIMIT 3) AS counted),"
            " EXISTS (SELECT 1 FROM current_state_events AS secret WHERE secret.room_id = own.room_id"
            " AND secret.type = 'm.room.encryption' AND secret.state_key = '')"
            " FROM local_current_membership AS own JOIN events ON events.event_id = own.event_id"
            " JOIN current_state_events AS theirs"
            " ON theirs.room_id = own.room_id AND theirs.type = 'm.room.member' AND theirs.state_key = ?"
            " AND theirs.membership IN ('join', 'invite')"
            " WHERE own.user_id = ? AND own.membership = 'join' ORDER BY events.stream_ordering",
            (other, user_id),
        )
        return tuple(
            CommonRoom(
                room_id=RoomId(str(row[0])),
                other_joined=row[1] == "join",
                only_two=row[2] == 2,
                encrypted=bool(row[3]),
            )
            for row in cur.fetchall()
        )

    def display_names(self, cur: Cursor, user_id: UserId) -> tuple[str, ...]:
        """The names that somebody shows now: in the profile, if they are of here, and in the rooms that are known here.

        Anybody can show another name in each room.
        """
        cur.execute(
            "SELECT displayname FROM profiles WHERE full_user_id = ? UNION"
            " SELECT shown.display_name FROM room_memberships AS shown JOIN current_state_events AS now"
            " ON now.event_id = shown.event_id WHERE shown.user_id = ? AND now.membership IN ('join', 'invite')",
            (user_id, user_id),
        )
        return tuple(sorted(str(row[0]) for row in cur.fetchall() if row[0]))

    def events_of(
        self, cur: Cursor, room_id: RoomId, sender: UserId, event_type: EventType, after: int
    ) -> tuple[EventId, ...]:
        """Persisted events of one type and sender in a room above a stream position, in stream order."""
        cur.execute(
            "SELECT event_id FROM events WHERE room_id = ? AND stream_ordering > ? AND type = ? AND sender = ?"
            " AND rejection_reason IS NULL ORDER BY stream_ordering",
            (room_id, after, event_type, sender),
        )
        return tuple(EventId(str(row[0])) for row in cur.fetchall())

    def references_to(
        self, cur: Cursor, event_id: EventId, event_type: EventType
    ) -> tuple[tuple[EventId, UserId], ...]:
        """Events of one type that refer to an event (``m.reference``), with their senders."""
        cur.execute(
            "SELECT events.event_id, events.sender FROM event_relations JOIN events"
            " ON events.event_id = event_relations.event_id"
            " WHERE event_relations.relates_to_id = ? AND event_relations.relation_type = 'm.reference'"
            " AND events.type = ? ORDER BY events.stream_ordering",
            (event_id, event_type),
        )
        return tuple((EventId(str(row[0])), UserId(str(row[1]))) for row in cur.fetchall())

    async def get_original(self, event_id: EventId) -> "EventBase | None":
        """A persisted event as it was sent, whether it was redacted since or not."""
        from synapse.storage.databases.main.events_worker import EventRedactBehaviour

        event = await self._store.get_event(event_id, redact_behaviour=EventRedactBehaviour.as_is, allow_none=True)
        return None if event is None or event.internal_metadata.is_soft_failed() else event

    async def servers_in_room(self, room_id: RoomId) -> frozenset[ServerName]:
        """The homeservers that have somebody joined to a room."""
        # Synapse's caching decorator is typed as if it were not bound.
        hosts = await cast(Any, self._store).get_current_hosts_in_room(room_id)
        return frozenset(ServerName(host) for host in hosts)

    # Names and queries of the directory.

    def key_folder(self) -> Path:
        """The folder of Synapse's signing key, or of its config where the key stands in the config itself."""
        from synapse.config._base import read_config_files

        files = self._hs.config.config_files
        path = read_config_files(files).get("signing_key_path")
        return Path(path).resolve().parent if path else Path(files[-1]).resolve().parent

    def signed_by_server(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """``value`` with this homeserver's signature (Matrix spec, appendices, "Signing JSON")."""
        from signedjson.sign import sign_json

        signed: dict[str, Any] = sign_json(dict(value), self._hs.hostname, self._hs.signing_key)
        return signed

    async def is_signed_by(self, server: ServerName, value: Mapping[str, Any], now_ms: int) -> bool:
        """Whether a homeserver's Matrix key, valid now, signed ``value``. False also if its key cannot be had."""
        from synapse.api.errors import SynapseError

        try:
            await self._hs.get_keyring().verify_json_for_server(server, dict(value), now_ms)
        except SynapseError:
            return False
        return True

    def answer_query(
        self, name: FederationQuery, handler: Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]
    ) -> None:
        """Answer a federation query. ``origin`` among the arguments is authenticated; all values are strings."""
        self._hs.get_federation_registry().register_query_handler(name, handler)

    async def query(
        self, server: ServerName, name: FederationQuery, arguments: Mapping[str, str], timeout_ms: int
    ) -> Mapping[str, Any]:
        """Ask another homeserver, whatever Synapse thinks of its health: our callers have pauses of their own.

        Raises:
            NoAnswer: it answered with an error, with more than ``AnswerParser`` takes, or not at all.
        """
        from synapse.api.errors import HttpResponseException, RequestSendFailed, SynapseError
        from synapse.logging.context import make_deferred_yieldable
        from synapse.util.async_helpers import timeout_deferred
        from twisted.internet import defer

        request = run_in_background(
            self._hs.get_federation_http_client().get_json,
            parser=cast(Any, AnswerParser()),
            destination=server,
            path=f"/_matrix/federation/v1/query/{name}",
            args=dict(arguments),
            retry_on_dns_fail=False,
            timeout=timeout_ms,
            ignore_backoff=True,
        )
        timed = timeout_deferred(deferred=request, timeout=timeout_ms / 1000, clock=self._hs.get_clock())
        try:
            answer = await make_deferred_yieldable(timed)
        except HttpResponseException as error:
            raise NoAnswer(error.code, str(error), _json_object(error.response)) from error
        except (RequestSendFailed, SynapseError, defer.TimeoutError, OSError, ValueError) as error:
            raise NoAnswer(None, f"{type(error).__name__}: {error}") from error
        return answer

    def answer_put(self, group: str, path: str, handler: PutHandler) -> None:
        """Answer ``PUT {path}/{…}`` of other homeservers. To be called while the module is built, before listeners."""
        from synapse.federation.transport.server import SERVLET_GROUPS
        from synapse.federation.transport.server._base import BaseFederationServlet

        class Servlet(BaseFederationServlet):
            PREFIX = path
            PATH = "/(?P<last_part>[^/]*)"
            RATELIMIT = False
            CATEGORY = "Super App"

            async def on_PUT(  # noqa: N802 - Synapse's name
                self, origin: str, content: Mapping[str, Any], query: object, last_part: str
            ) -> tuple[int, dict[str, Any]]:
                return 200, await handler(ServerName(origin), last_part, content)

        SERVLET_GROUPS[group] = (Servlet,)

    async def put(self, server: ServerName, path: str, body: Mapping[str, Any], timeout_ms: int) -> Mapping[str, Any]:
        """PUT to another homeserver once, whatever Synapse thinks of its health: our callers have pauses of their own.

        Raises:
            PutFailed: it answered with an error, or not at all.
        """
        from synapse.api.errors import HttpResponseException, RequestSendFailed, SynapseError

        try:
            # With a timeout of its own a request is tried once.
            answer: Mapping[str, Any] = await self._hs.get_federation_http_client().put_json(
                destination=server, path=path, data=dict(body), timeout=timeout_ms, ignore_backoff=True
            )
        except (HttpResponseException, RequestSendFailed) as error:
            inner = error.inner_exception if isinstance(error, RequestSendFailed) else error
            if isinstance(inner, HttpResponseException):
                raise PutFailed(str(inner), inner.code, _json_object(inner.response)) from error
            raise PutFailed(f"{type(inner).__name__}: {inner}") from error
        except (SynapseError, OSError, ValueError) as error:
            raise PutFailed(f"{type(error).__name__}: {error}") from error
        return answer

    def guard_usernames(self, guard: Callable[[str], Awaitable[None]]) -> None:
        """Ask ``guard`` about each localpart that Synapse found available; it raises SynapseError if it is not."""
        handler = self._hs.get_registration_handler()
        check_username = handler.check_username

        @wraps(check_username)
        async def guarded(localpart: str, *args: Any, **kwargs: Any) -> None:
            await check_username(localpart, *args, **kwargs)
            await guard(localpart)

        cast(Any, handler).check_username = guarded

    def wrap_user_search(self, wrap: Callable[[UserSearch], UserSearch]) -> None:
        """Put ``wrap`` of Synapse's user directory search in its place."""
        handler = self._hs.get_user_directory_handler()
        cast(Any, handler).search_users = wrap(handler.search_users)

    async def is_hidden_by_modules(self, asker: UserId, user_id: UserId, profile: Profile) -> bool:
        """Whether a spam checker of another module keeps somebody out of ``asker``'s search results."""
        spam_checker = self._hs.get_module_api_callbacks().spam_checker
        shown = {"user_id": user_id, "display_name": profile.display_name, "avatar_url": profile.avatar_url}
        return await spam_checker.check_username_for_spam(cast(Any, shown), asker)

    def seen(self, cur: Cursor, asker: UserId, others: Collection[UserId]) -> dict[UserId, Seen]:
        """Those of ``others`` whom this homeserver has seen in rooms; asks no other server."""
        if not others:
            return {}
        marks: list[LiteralString] = ["?" for _ in others]
        cur.execute(
            "SELECT d.user_id, d.display_name, d.avatar_url, CASE WHEN EXISTS (SELECT 1 FROM"
            " users_who_share_private_rooms AS s WHERE s.user_id = ? AND s.other_user_id = d.user_id) THEN 1 ELSE 0 END"
            " FROM user_directory AS d WHERE d.user_id IN (" + ", ".join(marks) + ")",
            (asker, *others),
        )
        return {
            UserId(str(row[0])): Seen(
                profile=Profile(
                    display_name=None if row[1] is None else str(row[1]),
                    avatar_url=None if row[2] is None else str(row[2]),
                ),
                in_private_room=row[3] == 1,
            )
            for row in cur.fetchall()
        }

    async def ignored_either_way(self, user_id: UserId) -> frozenset[str]:
        """Whom a user ignores, and the users of this homeserver who ignore them."""
        store = cast(Any, self._store)
        ignored: frozenset[str] = await store.ignored_users(user_id)
        ignoring: frozenset[str] = await store.ignored_by(user_id)
        return ignored | ignoring

    async def fetch(self, url: str, max_bytes: int, timeout_ms: int) -> bytes | None:
        """What a public web server has at a URL; None if it has nothing, too much, or cannot be reached.

        Addresses of private networks are refused, as Synapse's own previews refuse them.
        """
        from synapse.api.errors import SynapseError
        from synapse.logging.context import make_deferred_yieldable
        from synapse.util.async_helpers import timeout_deferred
        from twisted.internet import defer
        from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost, DNSLookupError
        from twisted.web.client import ResponseFailed

        into = io.BytesIO()
        request = run_in_background(
            self._hs.get_proxied_blocklisted_http_client().get_file, url, into, max_size=max_bytes
        )
        timed = timeout_deferred(deferred=request, timeout=timeout_ms / 1000, clock=self._hs.get_clock())
        try:
            _, _, _, code = await make_deferred_yieldable(timed)
        except (
            SynapseError,
            ResponseFailed,
            ConnectError,
            ConnectionDone,
            ConnectionLost,
            DNSLookupError,
            defer.TimeoutError,
            OSError,
            ValueError,
        ):
            return None
        return into.getvalue() if code == 200 else None

    async def show_in_profile(self, user_id: UserId, name: str, value: str | None) -> None:
        """Set a custom field of a local user's profile (MSC4133), or take it out."""
        from synapse.api.errors import StoreError
        from synapse.types import UserID, create_requester

        target = UserID.from_string(user_id)
        try:
            shown = await self._store.get_profile_field(target, name)
        except StoreError:
            shown = None
        if shown == value:
            return
        handler, requester = self._hs.get_profile_handler(), create_requester(target)
        if value is None:
            await handler.dispatch_delete_profile_field(target_user=target, requester=requester, field_name=name)
        else:
            await handler.dispatch_set_profile_field(
                target_user=target, requester=requester, field_name=name, new_value=value
            )

    async def master_key(self, user_id: UserId) -> str | None:
        """The public cross-signing master key of a local user, unpadded base64."""
        found = await self._store.get_e2e_cross_signing_key(user_id, "master")
        keys = {} if found is None else found.get("keys", {})
        return next(iter(keys.values()), None)

    async def user_of_openid_token(self, token: str, now_ms: int) -> UserId | None:
        """The local user who had this homeserver issue an OpenID token that still holds."""
        found = await self._store.get_user_id_for_open_id_token(token, now_ms)
        return None if found is None else UserId(found)

    async def is_in_our_rooms(self, user_id: UserId) -> bool:
        """Whether a user of another homeserver is joined to a room that this one is in."""
        return bool(await cast(Any, self._store).get_rooms_for_user(user_id))

    async def shares_a_room(self, user_id: UserId, server: ServerName) -> bool:
        """Whether somebody of ``server`` is joined to a room with a user."""
        store = cast(Any, self._store)  # the caching decorator is typed as if it were not bound
        for room_id in await store.get_rooms_for_user(user_id):
            if await store.is_host_joined(room_id, server):
                return True
        return False

    def accounts_since(self, cur: Cursor, created_s: int, after: str, limit: int) -> tuple[SynapseAccount, ...]:
        """Accounts, guests excepted, that were made at or after a time (in seconds), by user id."""
        cur.execute(
            "SELECT name, creation_ts, deactivated, appservice_id FROM users"
            " WHERE is_guest = 0 AND creation_ts >= ? AND name > ? ORDER BY name LIMIT ?",
            (created_s, after, limit),
        )
        return tuple(
            SynapseAccount(
                user_id=UserId(str(row[0])),
                created_ms=int(row[1] or 0) * 1000,
                deactivated=bool(row[2]),
                ghost=row[3] is not None,
            )
            for row in cur.fetchall()
        )

    # Who is where (call screening).

    async def members(self, room_id: RoomId, at_most: int) -> tuple[frozenset[UserId], frozenset[UserId]] | None:
        """Those who joined a room and those who are invited, or None if they are more than ``at_most``."""
        store = cast(Any, self._store)
        summary = await store.get_room_summary(room_id)
        parts = [summary[membership] for membership in ("join", "invite") if membership in summary]
        if sum(part.count for part in parts) > at_most:
            return None
        named = {
            membership: frozenset(UserId(user_id) for user_id, _ in summary[membership].members)
            for membership in ("join", "invite")
            if membership in summary
        }
        joined, invited = named.get("join", frozenset()), named.get("invite", frozenset())
        if len(joined) + len(invited) < sum(part.count for part in parts):
            # The summary names the first few only. Who is invited to a group is not rung, so those suffice of them.
            joined = frozenset(UserId(user_id) for user_id in await store.get_users_in_room(room_id))
        return joined, invited

    async def account_data_of(self, user_id: UserId, data_type: str) -> Mapping[str, Any] | None:
        """A local user's global account data as Synapse's cache holds it: the same object until it changes."""
        store = cast(Any, self._store)  # the caching decorator is typed as if it were not bound
        content: Mapping[str, Any] | None = await store.get_global_account_data_by_type_for_user(
            user_id, str(data_type)
        )
        return content

    @staticmethod
    def blocks_invites(data_type: str, content: Mapping[str, Any], inviter: UserId) -> bool:
        """Whether account data on invitations (MSC4380 or MSC4155, by its type) turns an inviter away."""
        from synapse.storage.invite_rule import InviteRule, MSC4155InviteRulesConfig, MSC4380InviteRulesConfig

        config: Any = (
            MSC4155InviteRulesConfig(content)
            if "msc4155" in data_type
            else MSC4380InviteRulesConfig.from_account_data(content)
        )
        return bool(config.get_invite_rule(inviter) is not InviteRule.ALLOW)

    async def has_spoken(self, room_id: RoomId, user_id: UserId) -> bool:
        """Whether somebody has sent a message into a room."""

        def spoken(txn: Any) -> bool:
            txn.execute(
                "SELECT 1 FROM events WHERE room_id = ? AND sender = ?"
                " AND type IN ('m.room.message', 'm.room.encrypted') AND rejection_reason IS NULL LIMIT 1",
                (room_id, user_id),
            )
            return txn.fetchone() is not None

        return await self._api.run_db_interaction("superapp_has_spoken", spoken)

    @property
    def has_workers(self) -> bool:
        """Whether other processes of this homeserver see events as well."""
        return bool(self._hs.config.worker.instance_map)

    @property
    def writes_push_rules(self) -> bool:
        """Whether this process is the one that may change push rules."""
        return self._hs.get_instance_name() in self._hs.config.worker.writers.push_rules

    @property
    def push_rule_writer(self) -> str:
        """The process that may change push rules, by its name in the config."""
        return _in_config(self._hs.config.worker.writers.push_rules[0])

    async def silence(self, user_id: UserId, rule_id: str, properties: Mapping[str, str]) -> None:
        """Add a push rule: events with these properties notify this local user of nothing."""
        conditions = [{"kind": "event_property_is", "key": key, "value": value} for key, value in properties.items()]
        await self._hs.get_datastores().main.add_push_rule(
            user_id=user_id,
            rule_id=f"global/override/{rule_id}",
            priority_class=_OVERRIDE_RULES,
            conditions=conditions,
            actions=[],
        )
        self._hs.get_push_rules_handler().notify_user(user_id)

    async def unsilence(self, user_id: UserId, rule_id: str) -> None:
        """Take such a rule back; one that the person removed is gone already."""
        from synapse.api.errors import StoreError

        try:
            await self._hs.get_datastores().main.delete_push_rule(user_id, f"global/override/{rule_id}")
        except StoreError as error:
            if error.code != 404:
                raise
        self._hs.get_push_rules_handler().notify_user(user_id)

    def limit_turn_server(self, guard: Callable[[UserId], Awaitable[None]]) -> None:
        """Ask ``guard`` before somebody gets TURN credentials of Synapse's own; it raises SynapseError to refuse.

        Synapse makes them first, which keeps nothing: it notes on the request who asks, and a request takes that once.
        """
        from synapse.rest.client.voip import VoipRestServlet

        homeserver = self._hs
        on_get = VoipRestServlet.on_GET

        @wraps(on_get)
        async def guarded(servlet: Any, request: Any) -> Any:
            answer = await on_get(servlet, request)
            if servlet.hs is homeserver:
                await guard(UserId(request.requester.user.to_string()))
            return answer

        cast(Any, VoipRestServlet).on_GET = guarded

    # Conferences.

    def joined_of(self, cur: Cursor, room_id: RoomId, people: Collection[UserId]) -> frozenset[UserId]:
        """Those of some people, of whatever homeserver, who are joined to a room now."""
        if not people:
            return frozenset()
        marks: list[LiteralString] = ["?" for _ in people]
        cur.execute(
            "SELECT state_key FROM current_state_events WHERE room_id = ? AND type = 'm.room.member'"
            " AND membership = 'join' AND state_key IN (" + ", ".join(marks) + ")",
            (room_id, *people),
        )
        return frozenset(UserId(str(row[0])) for row in cur.fetchall())

    def state_ids(
        self, cur: Cursor, event_types: Collection[EventType], room_ids: Collection[RoomId]
    ) -> dict[tuple[RoomId, str], EventId]:
        """The events of state types, without a state key, that hold in some rooms now, by room and type."""
        if not room_ids:
            return {}
        types: list[LiteralString] = ["?" for _ in event_types]
        rooms: list[LiteralString] = ["?" for _ in room_ids]
        cur.execute(
            "SELECT room_id, type, event_id FROM current_state_events WHERE state_key = ''"
            " AND type IN (" + ", ".join(types) + ") AND room_id IN (" + ", ".join(rooms) + ")",
            (*event_types, *room_ids),
        )
        return {(RoomId(str(row[0])), str(row[1])): EventId(str(row[2])) for row in cur.fetchall()}

    def one_at_a_time(self, what: str, key: str) -> AbstractAsyncContextManager[object]:
        """A lock of the whole homeserver, over all its processes. Not to be asked for again by who has it."""
        return self._hs.get_worker_locks_handler().acquire_lock(f"superapp_{what}", key)

    def state_changed_since(self, room_id: RoomId, position: int) -> bool:
        """Whether the state of a room may have changed after a stream position. Asks nothing of the database."""
        changed: bool = self._store._curr_state_delta_stream_cache.has_entity_changed(room_id, position)
        return changed

    async def is_in_room(self, server: ServerName, room_id: RoomId) -> bool:
        """Whether somebody of a homeserver is joined to a room."""
        found: bool = await cast(Any, self._store).is_host_joined(room_id, server)
        return found

    def proxy_token(self, prefix: str) -> str | None:
        """The token with which Synapse passes requests below ``rtc/…`` on (MSC4512); None if it passes none on."""
        if not self._hs.config.experimental.msc4512_enabled:
            return None
        services = self._hs.get_datastores().main.get_app_services()
        found = next((each for each in services if getattr(each, "proxy_prefix", None) == prefix), None)
        return None if found is None else found.hs_token

    def answer_proxied(self, prefix: str, own_path: str, answer: ProxiedAnswer) -> None:
        """Answer in this process what Synapse would pass on below ``rtc/…`` (MSC4512) to ``own_path`` of itself.

        ``answer`` gets what the second request would have had: method, path below ``own_path``, headers, body. Where
        the operator has somebody else answer (another ``proxy_url``), Synapse goes on passing on.
        """
        from synapse.federation.transport.server import appservice_proxy as of_servers
        from synapse.http.server import respond_with_json
        from synapse.rest.client import appservice_proxy as of_clients

        homeserver = self._hs

        def answering(pass_on: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
            @wraps(pass_on)
            async def answered(
                request: Any,
                hs: Any,
                service: Any,
                body: Any,
                extra_request_headers: Mapping[bytes, bytes] | None = None,
            ) -> None:
                is_ours = hs is homeserver and service.proxy_prefix == prefix
                if not is_ours or urlsplit(service.proxy_url).path.rstrip("/") != own_path:
                    await pass_on(request, hs, service, body, extra_request_headers)
                    return
                headers = {
                    name.decode("ascii"): each.decode("ascii") for name, each in (extra_request_headers or {}).items()
                }
                headers["Authorization"] = f"Bearer {service.hs_token}"
                # Read already where a signature was checked over it.
                request.content.seek(0)
                path = request.path.decode("ascii", errors="replace").strip("/")
                status, said = await answer(request.method.decode("ascii"), path, headers, request.content.read())
                respond_with_json(request, status, said, send_cors=True)

            return answered

        for module in (of_clients, of_servers):
            where = cast(Any, module)
            where.proxy_request_to_appservice = answering(where.proxy_request_to_appservice)

    def announce_transports(self, transports: list[dict[str, str]]) -> None:
        """Have Synapse announce transports of MatrixRTC, unless its operator wrote down some.

        To be called while the module is built, before listeners.
        """
        config = self._hs.config
        if not config.matrix_rtc.transports:
            config.matrix_rtc.transports = list(transports)
        said = dict(config.server.extra_well_known_client_content or {})
        if _RTC_FOCI not in said:
            foci = [each for each in transports if each["type"] == "livekit"]
            config.server.extra_well_known_client_content = {**said, _RTC_FOCI: foci}

    async def openid_user_at(self, server: ServerName, token: str, timeout_ms: int) -> UserId | None:
        """Whose OpenID token it is, as another homeserver says; None if it is nobody's.

        Raises:
            NoAnswer: it did not answer.
        """
        path = "/_matrix/federation/v1/openid/userinfo"
        request = run_in_background(
            self._hs.get_federation_http_client().get_json,
            destination=server,
            path=path,
            args={"access_token": token},
            retry_on_dns_fail=False,
            timeout=timeout_ms,
            ignore_backoff=True,
        )
        try:
            answer = await self._within(request, timeout_ms)
        except NoAnswer as error:
            if error.status is not None and 400 <= error.status < 500:
                return None
            raise
        said = answer.get("sub")
        return UserId(said) if isinstance(said, str) else None

    async def post_to_server(
        self, server: ServerName, path: str, body: Mapping[str, Any], timeout_ms: int
    ) -> Mapping[str, Any]:
        """Ask another homeserver something with a body.

        Raises:
            NoAnswer: it refused, or did not answer.
        """
        request = run_in_background(
            self._hs.get_federation_http_client().post_json,
            destination=server,
            path=path,
            data=dict(body),
            timeout=timeout_ms,
            ignore_backoff=True,
        )
        return await self._within(request, timeout_ms)

    async def post_json(self, url: str, token: str, body: Mapping[str, Any], timeout_ms: int) -> Mapping[str, Any]:
        """Ask a service of the operator's own something.

        Raises:
            NoAnswer: it refused, or did not answer.
        """
        request = run_in_background(
            self._api.http_client.post_json_get_json, url, dict(body), {"Authorization": [f"Bearer {token}"]}
        )
        return await self._within(request, timeout_ms)

    async def _within(self, request: "Deferred[Any]", timeout_ms: int) -> Mapping[str, Any]:
        from synapse.api.errors import HttpResponseException, RequestSendFailed, SynapseError
        from synapse.logging.context import make_deferred_yieldable
        from synapse.util.async_helpers import timeout_deferred
        from twisted.internet import defer
        from twisted.internet.error import ConnectError, ConnectionClosed
        from twisted.web.client import ResponseFailed

        timed = timeout_deferred(deferred=request, timeout=timeout_ms / 1000, clock=self._hs.get_clock())
        try:
            answer = await make_deferred_yieldable(timed)
        except HttpResponseException as error:
            raise NoAnswer(error.code, str(error), _json_object(error.response)) from error
        except (
            RequestSendFailed,
            SynapseError,
            ConnectError,
            ConnectionClosed,
            ResponseFailed,
            defer.TimeoutError,
            OSError,
            ValueError,
        ) as error:
            raise NoAnswer(None, f"{type(error).__name__}: {error}") from error
        if not isinstance(answer, dict):
            raise NoAnswer(None, "the answer is no JSON object")
        return cast(Mapping[str, Any], answer)

    @property
    def sends_delayed_events(self) -> bool:
        """Whether this process is the one that sends delayed events."""
        return self._hs.config.worker.worker_app is None

    def delayed_event(self, cur: Cursor, user_id: UserId, delay_id: str) -> tuple[RoomId, int] | None:
        """The room and the delay of a delayed event of a local user that was not sent yet."""
        cur.execute(
            "SELECT room_id, delay FROM delayed_events WHERE user_localpart = ? AND delay_id = ? AND NOT is_processed",
            (user_id.partition(":")[0].removeprefix("@"), delay_id),
        )
        row = cur.fetchone()
        return None if row is None else (RoomId(str(row[0])), int(row[1] or 0))

    async def restart_delayed(self, delay_id: str, now_ms: int) -> bool:
        """Begin the delay of a delayed event anew. False if there is none."""
        from synapse.api.errors import NotFoundError

        try:
            await self._hs.get_datastores().main.restart_delayed_event(delay_id, cast(Any, now_ms))
        except NotFoundError:
            return False
        return True

    async def send_delayed(self, delay_id: str) -> bool:
        """Send a delayed event now, where ``sends_delayed_events``. False if there is none."""
        from synapse.api.errors import NotFoundError

        try:
            event, _ = await self._hs.get_datastores().main.process_target_delayed_event(delay_id)
        except NotFoundError:
            return False
        await self._hs.get_delayed_events_handler()._send_event(event)
        return True

    async def rooms_of(self, user_id: UserId) -> frozenset[str]:
        """The rooms that anybody, of whatever homeserver, has joined, as far as this homeserver is in them."""
        rooms: frozenset[str] = await cast(Any, self._store).get_rooms_for_user(user_id)
        return rooms


_OVERRIDE_RULES: Final = 5
"""The class of push rules that come before all others (``synapse.push.rulekinds``)."""

_RTC_FOCI: Final = "org.matrix.msc4143.rtc_foci"
"""Where clients find the transports of MatrixRTC in ``.well-known/matrix/client``."""

_MAIN: Final = "main"
"""The main process in ``homeserver.yaml``; inside Synapse it has another name."""


def _in_config(instance: str) -> str:
    return _MAIN if instance == _module("synapse.config.workers").MAIN_PROCESS_INSTANCE_NAME else instance


def _instance_endpoint(handler: InstanceHandler | None, endpoint: str) -> Any:
    """An endpoint of ours among those by which Synapse's processes ask each other."""
    from synapse.replication.http._base import ReplicationEndpoint

    class Endpoint(ReplicationEndpoint):
        NAME = endpoint
        PATH_ARGS = ()
        METHOD = "POST"
        # Whoever asks has an id in what it asks, and decides itself when and whom to ask again.
        CACHE = False
        RETRY_ON_TIMEOUT = False
        RETRY_ON_CONNECT_ERROR = False

        @staticmethod
        async def _serialize_payload(request: dict[str, Any]) -> dict[str, Any]:  # type: ignore[override]
            return {"request": request}

        async def _handle_request(  # type: ignore[override]
            self, request: object, content: Mapping[str, Any]
        ) -> tuple[int, dict[str, Any]]:
            if handler is None:
                raise RuntimeError("the asking side is not registered")
            return 200, dict(await handler(content["request"]))

    return Endpoint


def _json_object(text: bytes) -> Mapping[str, Any]:
    """The JSON object of an error's body; empty where it is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return cast(Mapping[str, Any], found) if isinstance(found, dict) else {}
