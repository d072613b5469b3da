"""Search for people by handle: at our own route, and in Synapse's user directory, which every client asks.

Only what is replicated is searched, so nothing leaves this homeserver while somebody types; a full handle of another
server, which a person has typed to its end, is asked for. In the user directory an error of ours falls back to
Synapse's own results.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import Any, Final

from prometheus_client import Counter

from super_app.db import Cursor
from super_app.directory import search, search_store, vouching
from super_app.directory.guess_store import Allowance
from super_app.directory.model import DAY_MS, AskedBy, Discover, Record, Status, full
from super_app.directory.naming import NamePolicy, normalise
from super_app.directory.search_model import Hit, Match, Question, Term
from super_app.directory.search_rules import is_exact
from super_app.directory.shown import Standing, shown, standing_of
from super_app.errors import Refused
from super_app.ids import Handle, ServerName, UserId, localpart_of, parse_user_id, server_of
from synapse_super_app.directory.budget import Guesses
from synapse_super_app.directory.heads import Heads
from synapse_super_app.directory.people import DirectoryPeople
from synapse_super_app.private_api import Profile, Seen, UserSearch
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_MAX_AGE_MS: Final = 300_000
_TIMEOUT_MS: Final = 2_000
_MOVED_AGE_MS: Final = 7 * DAY_MS
"""A move is final, so what was replicated of it stays true."""

_searches = Counter("superapp_directory_searches_total", "Searches for people by handle.")
_too_slow = Counter("superapp_directory_search_parts_too_slow_total", "Searches for parts of names that were stopped.")
_failed = Counter("superapp_directory_search_errors_total", "Searches in the user directory that fell back.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One person, as results show them."""

    hit: Hit
    profile: Profile


class Search:
    """Searches handles, local and replicated."""

    def __init__(self, runtime: Runtime, people: DirectoryPeople, known: Heads) -> None:
        self._runtime = runtime
        self._people = people
        self._heads = known
        self._has_parts = False
        self._guesses = Guesses(runtime, each=Allowance(name="search", burst=300, every_ms=2_000))
        settings = runtime.config.directory
        self._policy = NamePolicy(min_length=settings.min_length, reserved=settings.reserved)

    async def start(self) -> None:
        """Find out what the database can do, and let the main process make what is missing."""
        database = self._runtime.database
        if self._runtime.is_main:
            try:
                await database.run("directory_parts", search_store.prepare_parts)
            except Exception as error:  # noqa: BLE001 - each driver has its own class
                logger.warning(
                    "Searches find no parts of names, since the extension pg_trgm could not be made (%s); create it "
                    "in the homeserver's database and start again",
                    str(error).strip().partition("\n")[0],
                )
        self._has_parts = await database.run("directory_parts", search_store.has_parts)

    async def search(self, asker: UserId, text: str, limit: int) -> list[Found]:
        """People whom ``text`` (``alice``, ``@alice`` or ``@alice:server``) finds, best first."""
        return await self._search(asker, text, limit, await self._runtime.private.ignored_either_way(asker))

    async def _search(self, asker: UserId, text: str, limit: int, hidden: Collection[str]) -> list[Found]:
        _searches.inc()
        term = read_term(text)
        if term is None or limit < 1:
            return []
        question = Question(
            asker=asker,
            term=term,
            own_server=self._runtime.server_name,
            hidden=hidden,
            now_ms=self._runtime.now_ms(),
            limit=limit,
            whole=await self._guesses.spent(asker, self._runtime.now_ms()) is None,
            parts=self._has_parts,
        )
        found = await self._find(question)
        # Most of what is typed is half a name; only whoever tries names by the hundred runs out.
        exact = is_exact([each.hit for each in found])
        await self._guesses.judge(asker, question.now_ms, found=exact, known_anyway=exact)
        if not is_exact([each.hit for each in found]):
            found = [*await self._asked_for(asker, term, hidden), *found][:limit]
        found = await self._led_on(asker, found, hidden)
        frozen = await self._heads.frozen()
        found = [each for each in found if server_of(each.hit.handle) not in frozen]
        hidden_by_modules = self._runtime.private.is_hidden_by_modules
        kept = [each for each in found if not await hidden_by_modules(asker, each.hit.user_id, each.profile)]
        return [self._believable(each) for each in kept]

    async def _led_on(self, asker: UserId, found: Sequence[Found], hidden: Collection[str]) -> list[Found]:
        """With people who moved where they are now, if both homeservers say so; without them otherwise."""
        there = {each.hit.user_id for each in found if not each.hit.moved}
        kept: list[Found] = []
        for each in found:
            if not each.hit.moved:
                kept.append(each)
                continue
            now = await self._new_place(asker, each.hit.handle)
            if now is not None and now.hit.user_id not in {*there, *hidden}:
                there.add(now.hit.user_id)
                kept.append(now)
        return kept

    async def _new_place(self, asker: UserId, handle: Handle) -> Found | None:
        """Whom a handle leads to whose owner moved. What is replicated is good enough, so mostly nobody is asked."""
        person = await self._people.resolve(handle, asker=asker, max_age_ms=_MOVED_AGE_MS, timeout_ms=_TIMEOUT_MS)
        if isinstance(person, Refused) or person.was is None or person.acct is None:
            return None
        hit = Hit(
            handle=person.handle or Handle(person.user_id),
            user_id=person.user_id,
            acct=person.acct,
            match=Match.EXACT,
            local=server_of(person.user_id) == self._runtime.server_name,
            primary=True,
            badges=tuple(badge.content for badge in await self._people.badges_of(person.user_id)),
        )
        return await self._with_profile(asker, hit)

    async def _with_profile(self, asker: UserId, hit: Hit) -> Found:
        work = partial(self._runtime.private.seen, asker=asker, others=[hit.user_id])
        seen = await self._runtime.database.run("directory_profile", work)
        return Found(hit=hit, profile=_profile(seen.get(hit.user_id)))

    def _believable(self, found: Found) -> Found:
        """With a display name that vouches for nothing that was not verified."""
        standing = standing_of(found.hit.badges, self._runtime.server_name)
        name = shown(found.profile.display_name, localpart_of(found.hit.handle), standing, self._policy)
        return replace(found, profile=replace(found.profile, display_name=name))

    async def _find(self, question: Question) -> list[Found]:
        """In one transaction, with what this homeserver has seen of people's profiles."""
        database = self._runtime.database
        if question.parts:
            found = await database.run_within("directory_search", self._work(question))
            if found is not None:
                return found
            _too_slow.inc()
        return await database.run("directory_search", self._work(replace(question, parts=False)))

    def _work(self, question: Question) -> Callable[[Cursor], list[Found]]:
        private, house = self._runtime.private, self._people.house()

        def work(cur: Cursor) -> list[Found]:
            seen: dict[UserId, Seen] = {}

            def mutual_of(cur: Cursor, others: Collection[UserId], /) -> Collection[UserId]:
                seen.update(private.seen(cur, question.asker, others))
                return [user_id for user_id, each in seen.items() if each.in_private_room]

            def believed_of(cur: Cursor, hit: Hit, /) -> Sequence[Mapping[str, Any]]:
                found = vouching.believed(cur, house, hit.badges, hit.handle, hit.acct, question.now_ms)
                return [badge.content for badge in found]

            hits = search.find(cur, question, mutual_of, believed_of)
            return [Found(hit=hit, profile=_profile(seen.get(hit.user_id))) for hit in hits]

        return work

    async def _asked_for(self, asker: UserId, term: Term, hidden: Collection[str]) -> list[Found]:
        """The one person of a full handle of another server that is not replicated, if that server tells."""
        if term.server is None or term.server == self._runtime.server_name:
            return []
        handle = full(term.name, ServerName(term.server))
        # Most of what is typed after the colon is half a name; without a dot or a port it is no server to ask.
        if parse_user_id(handle) is None or not ({".", ":"} & set(term.server)):
            return []
        found = await self._people.remote(
            handle, AskedBy.HANDLE, asker=asker, max_age_ms=_MAX_AGE_MS, timeout_ms=_TIMEOUT_MS
        )
        if not isinstance(found, Record) or found.discover is Discover.NONE:
            return []
        if found.status is Status.MOVED:
            now = await self._new_place(asker, found.handle)
            return [] if now is None or now.hit.user_id in hidden else [now]
        if found.status is not Status.ACTIVE:
            return []
        if found.user_id in hidden:
            return []
        hit = Hit(
            handle=found.handle,
            user_id=found.user_id,
            acct=found.acct,
            match=Match.EXACT,
            local=False,
            primary=found.alias_of is None,
            badges=found.badges,
        )
        hit = replace(hit, badges=await self._people.verified(hit))
        return [await self._with_profile(asker, hit)]

    def _neutral(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """A row of Synapse's own results; nobody in it was verified."""
        name = row.get("display_name")
        if not isinstance(name, str):
            return row
        local = localpart_of(UserId(row["user_id"]))
        return {**row, "display_name": shown(name, local, Standing.UNKNOWN, self._policy)}

    # In the user directory.

    def in_user_directory(self, synapse_search: UserSearch) -> UserSearch:
        """Synapse's search with handles first. Fails open: searching for people never breaks because of us."""

        @wraps(synapse_search)
        async def search_users(user_id: str, search_term: str, limit: int) -> Mapping[str, Any]:
            if not self._runtime.rollout.includes(user_id) or not self._people.ready:
                return await synapse_search(user_id, search_term, limit)
            try:
                ignored = await self._runtime.private.ignored_either_way(UserId(user_id))
                # Synapse leaves out the one who asks, too.
                found = await self._search(UserId(user_id), search_term, limit, {*ignored, user_id})
                ours = [_row(each) for each in found]
            except Exception:
                _failed.inc()
                logger.exception("Searching handles failed; the user directory answers alone")
                return await synapse_search(user_id, search_term, limit)
            if len(ours) >= limit:
                return {"limited": True, "results": ours}
            theirs = await synapse_search(user_id, search_term, limit)
            left_out = {row["user_id"] for row in ours} | ignored
            rest = [self._neutral(row) for row in theirs["results"] if row["user_id"] not in left_out]
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


def _profile(seen: Seen | None) -> Profile:
    return Profile(display_name=None, avatar_url=None) if seen is None else seen.profile


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
