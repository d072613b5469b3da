"""Search for people by handle: at our own route, and in Synapse's user directory, which every client asks.

Only what is replicated is searched, so nothing leaves this homeserver while somebody types; a full handle of another
server, which a person has typed to its end, is asked for. In the user directory an error of ours falls back to
Synapse's own results.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, Final

from prometheus_client import Counter

from super_app.directory import service
from super_app.directory.model import AskedBy, Discover, Hit, Record, Status, full
from super_app.directory.naming import normalise
from super_app.directory.service import Term
from super_app.errors import Refused
from super_app.ids import ServerName, UserId, localpart_of, parse_user_id
from synapse_super_app.directory.own import OwnHandles
from synapse_super_app.directory.people import DirectoryPeople
from synapse_super_app.private_api import Profile, UserSearch
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_IGNORED_USERS: Final = "m.ignored_user_list"
_MAX_AGE_MS: Final = 300_000
_TIMEOUT_MS: Final = 2_000

_searches = Counter("superapp_directory_searches_total", "Searches for people by handle.")
_failed = Counter("superapp_directory_search_errors_total", "Searches in the user directory that fell back.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One person, as results show them."""

    hit: Hit
    profile: Profile
    contact: bool


class Search:
    """Searches handles, local and replicated."""

    def __init__(self, runtime: Runtime, own: OwnHandles, people: DirectoryPeople) -> None:
        self._runtime = runtime
        self._own = own
        self._people = people

    async def search(self, asker: UserId, text: str, limit: int) -> list[Found]:
        """People whom ``text`` (``alice``, ``@alice`` or ``@alice:server``) finds, best first."""
        _searches.inc()
        term = read_term(text)
        if term is None or limit < 1:
            return []
        acct = await self._own.acct_of(asker)
        server = self._runtime.server_name
        work = partial(
            service.search, asker=acct, term=term, own_server=server, now_ms=self._runtime.now_ms(), limit=limit
        )
        hits, contacts = await self._runtime.database.run("directory_search", work)
        if not any(hit.exact for hit in hits):
            hits = (*await self._asked_for(asker, term), *hits)[:limit]
        ignored = await self._ignored_by(asker)
        found: list[Found] = []
        for hit in hits:
            profile = await self._runtime.private.profile_seen(hit.user_id)
            if hit.user_id in ignored or await self._runtime.private.is_hidden_by_modules(asker, hit.user_id, profile):
                continue
            found.append(Found(hit=hit, profile=profile, contact=hit.user_id in contacts))
        return found

    async def _asked_for(self, asker: UserId, term: Term) -> tuple[Hit, ...]:
        """The one person of a full handle of another server that is not replicated, if that server tells."""
        if term.server is None or term.server == self._runtime.server_name:
            return ()
        handle = full(term.name, ServerName(term.server))
        # Most of what is typed after the colon is half a name; without a dot or a port it is no server to ask.
        if parse_user_id(handle) is None or not ({".", ":"} & set(term.server)):
            return ()
        found = await self._people.remote(
            handle, AskedBy.HANDLE, asker=asker, max_age_ms=_MAX_AGE_MS, timeout_ms=_TIMEOUT_MS
        )
        if not isinstance(found, Record) or found.status is not Status.ACTIVE or found.discover is Discover.NONE:
            return ()
        return (
            Hit(
                handle=found.handle,
                user_id=found.user_id,
                acct=found.acct,
                exact=True,
                local=False,
                primary=found.alias_of is None,
                badges=found.badges,
            ),
        )

    async def _ignored_by(self, asker: UserId) -> frozenset[str]:
        content = await self._runtime.api.account_data_manager.get_global(asker, _IGNORED_USERS)
        ignored = None if content is None else content.get("ignored_users")
        return frozenset(ignored) if isinstance(ignored, Mapping) else frozenset()

    # In the user directory.

    def in_user_directory(self, synapse_search: UserSearch) -> UserSearch:
        """Synapse's search with handles first. Fails open: searching for people never breaks because of us."""

        @wraps(synapse_search)
        async def search_users(user_id: str, search_term: str, limit: int) -> Mapping[str, Any]:
            try:
                found = await self.search(UserId(user_id), search_term, limit)
                # Synapse leaves out the one who asks, too.
                ours = [_row(each) for each in found if each.hit.user_id != user_id]
            except Exception:
                _failed.inc()
                logger.exception("Searching handles failed; the user directory answers alone")
                return await synapse_search(user_id, search_term, limit)
            if len(ours) >= limit:
                return {"limited": True, "results": ours}
            theirs = await synapse_search(user_id, search_term, limit)
            shown = {row["user_id"] for row in ours}
            rest = [row for row in theirs["results"] if row["user_id"] not in shown]
            room = limit - len(ours)
            return {"limited": bool(theirs["limited"]) or len(rest) > room, "results": [*ours, *rest[:room]]}

        return search_users


def read_term(text: str) -> Term | None:
    """What was typed, read as a handle or the start of one; None if no handle begins like this."""
    typed, colon, server = text.strip().removeprefix("@").partition(":")
    name = normalise(typed)
    if isinstance(name, Refused):
        return None
    return Term(name=name, server=server if colon else None)


def shown_name(found: Found) -> str:
    """The display name in results: it names the handle wherever the user id, which clients show beside, does not."""
    name = found.profile.display_name or localpart_of(found.hit.handle)
    handle: str = found.hit.handle
    return name if handle == found.hit.user_id else f"{name} ({handle})"


def _row(found: Found) -> dict[str, Any]:
    return {
        "user_id": found.hit.user_id,
        "display_name": shown_name(found),
        "avatar_url": found.profile.avatar_url,
    }
