"""The directory's part of the client API."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from super_app.directory.model import Discover, Holding, Role, State, full
from super_app.directory.naming import split
from super_app.directory.rules import OWNER_MAY_TAKE_BACK_MS
from super_app.directory.service import Wish
from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from super_app.wire import WireModel
from synapse_super_app.directory.answers import Answers
from synapse_super_app.directory.budget import Budget
from synapse_super_app.directory.own import OwnHandles
from synapse_super_app.directory.peers import Peers
from synapse_super_app.directory.people import DirectoryPeople
from synapse_super_app.directory.search import Search, shown_name
from synapse_super_app.http.routes import Auth, Call, Route, Sessions
from synapse_super_app.runtime import Runtime

_MAX_RESULTS: Final = 50


class HandleRecord(BaseModel):
    """A signed record (docs/directory.md). Fields that are not listed belong to it too: the signature covers them."""

    model_config = ConfigDict(extra="allow")

    type: str
    v: int
    handle: str
    server: str
    acct: str
    user_id: str
    msk: str | None = None
    seq: int
    prev: str | None = None
    status: Literal["active", "moved", "released", "frozen"]
    issued: int
    expires: int
    discover: Literal["public", "exact", "link", "none"]
    services: dict[str, bool]
    badges: list[dict[str, Any]]
    alias_of: str | None = None
    frozen_for: str | None = None
    moved_to: dict[str, Any] | None = None
    """With the status ``moved``: where its owner went (``user_id``, ``acct``, ``handle``, ``since``, ``accept``)."""
    moved_from: dict[str, Any] | None = None
    """For a year after a move: where its owner came from (``user_id``, ``acct``, ``since``, ``claim``)."""
    key_id: str
    signature: str


class HandleWish(WireModel):
    """What to do with a handle besides holding it. The body may be left out."""

    discover: Literal["public", "exact", "link", "none"] | None = None
    """Who finds it; left out, a new handle is as discoverable as the primary one."""
    role: Annotated[Literal["primary", "alias"] | None, Field(alias="as")] = None
    """Left out, a new handle becomes the primary one and the former one an alias."""


class OwnHandle(BaseModel):
    handle: str
    primary: bool
    status: Literal["active", "moved", "released", "frozen"]
    discover: Literal["public", "exact", "link", "none"]
    chosen: bool
    """Whether you chose ``discover``, or it is this homeserver's default."""
    since: int
    take_back_until: int | None = None
    """For a released handle: until when only you can have it back, in milliseconds since 1970."""


class OwnHandleList(BaseModel):
    handles: list[OwnHandle]


class ReservedHandle(BaseModel):
    handle: str
    until: int
    """Until when nobody else can take it, in milliseconds since 1970."""


class SearchTerm(WireModel):
    term: Annotated[str, Field(max_length=300)]
    limit: Annotated[int, Field(ge=1)] = 10
    """At most 50 are given."""


class SearchResult(BaseModel):
    handle: str
    user_id: str
    display_name: str
    badges: list[dict[str, Any]]
    contact: bool


class SearchResults(BaseModel):
    results: list[SearchResult]


class DirectoryKeyCertificate(BaseModel):
    """A server's directory key, signed by its Matrix key (docs/directory.md)."""

    model_config = ConfigDict(extra="allow")

    type: str
    v: int
    server: str
    key_id: str
    public_key: str
    issued: int
    signatures: dict[str, dict[str, str]]


class Forgotten(BaseModel):
    server: str


_NAMING: Final = (
    Reason.HANDLE_INVALID,
    Reason.HANDLE_RESERVED,
    Reason.HANDLE_TAKEN,
    Reason.HANDLE_LOOKALIKE,
)
_ELSEWHERE: Final = (Reason.PEER_UNREACHABLE, Reason.BAD_RECORD, Reason.TOO_MANY_REQUESTS)


class DirectoryRoutes:
    """Handlers. Each reads its path, asks the part that knows, and shapes the answer."""

    def __init__(
        self, runtime: Runtime, own: OwnHandles, peers: Peers, people: DirectoryPeople, search: Search, answers: Answers
    ) -> None:
        self._runtime = runtime
        self._own = own
        self._peers = peers
        self._people = people
        self._search = search
        self._answers = answers
        self._claims = Budget(burst=60, every_ms=10_000)
        self._searches = Budget(burst=500, every_ms=50)

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="handles",
                sessions=Sessions.READ,
                handler=self.mine,
                response=OwnHandleList,
                summary="Your own handles, released ones included",
            ),
            Route(
                method="PUT",
                path="handles/{handle}",
                handler=self.put,
                response=HandleRecord,
                body=HandleWish,
                summary="Claim a handle, take a released one back, or change one of yours",
                reasons=(
                    *_NAMING,
                    Reason.HANDLE_FROZEN,
                    Reason.NOT_ALLOWED,
                    Reason.TOO_MANY_HANDLES,
                    Reason.RENAMED_RECENTLY,
                    Reason.TOO_MANY_REQUESTS,
                ),
            ),
            Route(
                method="POST",
                path="handles/{handle}/reserve",
                handler=self.reserve,
                response=ReservedHandle,
                summary="Hold a handle for ten minutes while you decide; PUT confirms it",
                reasons=(
                    *_NAMING,
                    Reason.HANDLE_FROZEN,
                    Reason.NOT_ALLOWED,
                    Reason.TOO_MANY_HANDLES,
                    Reason.RENAMED_RECENTLY,
                    Reason.TOO_MANY_REQUESTS,
                ),
            ),
            Route(
                method="DELETE",
                path="handles/{handle}",
                handler=self.release,
                response=HandleRecord,
                summary="Release a handle: yours for 30 days, free for others after 90",
                reasons=(Reason.HANDLE_INVALID, Reason.UNKNOWN_HANDLE, Reason.HANDLE_FROZEN, Reason.NOT_ALLOWED),
            ),
            Route(
                method="GET",
                path="handles/{handle}",
                sessions=Sessions.READ,
                handler=self.get,
                response=HandleRecord,
                summary="The signed record of a handle (bob, @bob or @bob:other.example)",
                reasons=(Reason.HANDLE_INVALID, Reason.UNKNOWN_HANDLE, *_ELSEWHERE),
            ),
            Route(
                method="POST",
                path="search",
                sessions=Sessions.READ,
                handler=self.find,
                response=SearchResults,
                body=SearchTerm,
                summary="Find people by handle, here and on replicated homeservers",
                reasons=(Reason.TOO_MANY_REQUESTS,),
            ),
            Route(
                method="GET",
                path="directory/keys/{server}",
                handler=self.key,
                response=DirectoryKeyCertificate,
                summary="The directory key that this homeserver trusts for a server",
                reasons=(Reason.UNKNOWN_PEER,),
            ),
            Route(
                method="DELETE",
                path="admin/directory/keys/{server}",
                handler=self.forget_key,
                response=Forgotten,
                auth=Auth.ADMIN,
                summary="Forget the pinned directory key of a server, whose operator told you of a new one",
                reasons=(Reason.UNKNOWN_PEER,),
            ),
        )

    async def mine(self, call: Call) -> OwnHandleList:
        holdings = await self._own.holdings(call.user_id)
        return OwnHandleList(handles=[self._own_handle(held) for held in holdings])

    async def put(self, call: Call) -> HandleRecord | Refused:
        spent = self._claims.take(call.user_id, self._runtime.now_ms())
        name = self._own_name(call.path["handle"])
        if spent is not None:
            return spent
        if isinstance(name, Refused):
            return name
        body: HandleWish = call.body
        wish = Wish(
            role=None if body.role is None else Role(body.role),
            discover=None if body.discover is None else Discover(body.discover),
        )
        return _shown(await self._own.put(call.user_id, name, wish, call.address))

    async def reserve(self, call: Call) -> ReservedHandle | Refused:
        spent = self._claims.take(call.user_id, self._runtime.now_ms())
        name = self._own_name(call.path["handle"])
        if spent is not None:
            return spent
        if isinstance(name, Refused):
            return name
        reserved = await self._own.reserve(call.user_id, name, call.address)
        if isinstance(reserved, Refused):
            return reserved
        return ReservedHandle(handle=full(reserved.name, self._runtime.server_name), until=reserved.until_ms)

    async def release(self, call: Call) -> HandleRecord | Refused:
        name = self._own_name(call.path["handle"])
        return name if isinstance(name, Refused) else _shown(await self._own.release(call.user_id, name))

    async def get(self, call: Call) -> HandleRecord | Refused:
        parts = split(call.path["handle"], self._runtime.server_name)
        if isinstance(parts, Refused):
            return parts
        name, server = parts
        return _shown(await self._people.record(name, server, asker=call.user_id))

    async def find(self, call: Call) -> SearchResults | Refused:
        body: SearchTerm = call.body
        spent = self._searches.take(call.user_id, self._runtime.now_ms())
        if spent is not None:
            return spent
        found = await self._search.search(call.user_id, body.term, min(body.limit, _MAX_RESULTS))
        return SearchResults(
            results=[
                SearchResult(
                    handle=each.hit.handle,
                    user_id=each.hit.user_id,
                    display_name=shown_name(each),
                    badges=[dict(badge) for badge in each.hit.badges],
                    contact=each.hit.contact,
                )
                for each in found
            ]
        )

    async def key(self, call: Call) -> DirectoryKeyCertificate | Refused:
        server = ServerName(call.path["server"])
        if server == self._runtime.server_name:
            return DirectoryKeyCertificate.model_validate(self._answers.certificate())
        peer = await self._peers.peer(server)
        if peer is None or peer.key is None:
            return _unknown_peer(server)
        return DirectoryKeyCertificate.model_validate(dict(peer.key.certificate))

    async def forget_key(self, call: Call) -> Forgotten | Refused:
        server = ServerName(call.path["server"])
        return Forgotten(server=server) if await self._peers.forget_pin(server) else _unknown_peer(server)

    def _own_name(self, text: str) -> str | Refused:
        return own_name(text, self._runtime.server_name)

    def _own_handle(self, held: Holding) -> OwnHandle:
        released_ms = held.released_ms if held.state is State.RELEASED else None
        return OwnHandle(
            handle=full(held.name, self._runtime.server_name),
            primary=held.primary,
            status=held.status.value,
            discover=held.discover.value,
            chosen=held.chosen,
            since=held.since_ms,
            take_back_until=None if released_ms is None else released_ms + OWNER_MAY_TAKE_BACK_MS,
        )


def own_name(text: str, server_name: ServerName) -> str | Refused:
    """The name of a handle of this homeserver."""
    parts = split(text, server_name)
    if isinstance(parts, Refused):
        return parts
    name, server = parts
    if server != server_name:
        return Refused(
            reason=Reason.HANDLE_INVALID,
            message=f"{text[:255]!a} is of another homeserver; yours end in :{server_name}.",
        )
    return name


def _shown(content: Mapping[str, Any] | Refused) -> HandleRecord | Refused:
    return content if isinstance(content, Refused) else HandleRecord.model_validate(dict(content))


def _unknown_peer(server: ServerName) -> Refused:
    return Refused(
        reason=Reason.UNKNOWN_PEER,
        message=f"No directory key of {server[:255]!a} is known here; nobody has asked that server yet.",
    )
