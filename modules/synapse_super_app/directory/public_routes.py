"""What anybody may know of a public handle: how it is written, whose it is, and who vouches for it.

For pages that show people and have no session to ask with, such as the module of Element. Nobody else is asked, only
what is kept here is told, and who hides cannot be told from who is not there.
"""

from collections.abc import Sequence
from functools import partial

from pydantic import BaseModel

from super_app.db import Cursor
from super_app.directory import heads_store, rules, service, store, vouching
from super_app.directory.badges import Badge
from super_app.directory.model import AskedBy, State, full
from super_app.directory.naming import normalise, split
from super_app.directory.vouching import House
from super_app.errors import Reason, Refused
from super_app.ids import Handle, ServerName, UserId
from synapse_super_app.directory.badge_routes import BelievedBadge
from synapse_super_app.directory.people import DirectoryPeople
from synapse_super_app.http.routes import Auth, Call, Route
from synapse_super_app.runtime import Runtime


class PublicHandle(BaseModel):
    """Without ``handle`` and ``user_id`` there is no public handle like this, or nobody is to know."""

    handle: str | None = None
    user_id: str | None = None
    badges: list[BelievedBadge] = []


class PublicRoutes:
    """Handlers."""

    def __init__(self, runtime: Runtime, people: DirectoryPeople) -> None:
        self._runtime = runtime
        self._people = people

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="handles/{handle}/public",
                handler=self.told,
                response=PublicHandle,
                auth=Auth.PUBLIC,
                summary="How a public handle, or that of a user id, is written, and who vouches for it",
                reasons=(Reason.HANDLE_INVALID,),
            ),
        )

    async def told(self, call: Call) -> PublicHandle | Refused:
        parts = split(call.path["handle"], self._runtime.server_name)
        if isinstance(parts, Refused):
            return parts
        text, server = parts
        work = partial(_public, text=text, server=server, house=self._people.house(), now_ms=self._runtime.now_ms())
        return await self._runtime.database.run("directory_public", work)


def _public(cur: Cursor, *, text: str, server: ServerName, house: House, now_ms: int) -> PublicHandle:
    if server == house.server:
        # As one asks by user id, so that the account's name leads to the handle that people see.
        held = service.find(cur, text, AskedBy.USER_ID)
        if held is None or held.state is not State.ACTIVE or not rules.in_feed(held):
            return PublicHandle()
        handle = full(held.name, server)
        badges = vouching.believed(cur, house, held.badges, handle, held.acct, now_ms)
        return _told(handle, held.user_id, badges)
    user_id, name = UserId(f"@{text}:{server}"), normalise(text)
    handle = Handle(user_id) if isinstance(name, Refused) else full(name, server)
    record = store.known_in_public(cur, user_id, handle, now_ms)
    if heads_store.is_frozen(cur, server) or record is None:
        return PublicHandle()
    badges = vouching.believed(cur, house, record.badges, record.handle, record.acct, now_ms)
    return _told(record.handle, record.user_id, badges)


def _told(handle: Handle, user_id: UserId, badges: Sequence[Badge]) -> PublicHandle:
    return PublicHandle(
        handle=handle,
        user_id=user_id,
        badges=[
            BelievedBadge(kind=each.kind.value, issuer=each.issuer, server=each.server, expires=each.expires_ms)
            for each in badges
        ],
    )
