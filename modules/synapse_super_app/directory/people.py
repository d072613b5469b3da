"""``People`` with the directory on: the port through which payments, calls and contacts ask who somebody is.

Our own people come from the database. Other servers' come from replicated records while these are as fresh as the
asker needs, and otherwise from their server, in a verified answer.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from super_app.directory import generations, moving, rules, service, store
from super_app.directory import moves as rules_of_moves
from super_app.directory.badges import Badge
from super_app.directory.guess_store import Allowance
from super_app.directory.heads import frozen_refusal
from super_app.directory.model import (
    Absent,
    AskedBy,
    Discover,
    FrozenFor,
    Holding,
    Known,
    Record,
    ServicesPart,
    State,
    Status,
    full,
)
from super_app.directory.moves import Stop
from super_app.directory.naming import normalise
from super_app.directory.search_model import Hit
from super_app.directory.vouching import House
from super_app.errors import Reason, Refused
from super_app.ids import Handle, ServerName, UserId, localpart_of, parse_user_id, server_of
from synapse_super_app.directory.budget import Budget, Guesses
from synapse_super_app.directory.heads import Heads
from synapse_super_app.directory.kept import KeptRecords
from synapse_super_app.directory.moves import Moves, nobody, stop_of
from synapse_super_app.directory.own import OwnHandles
from synapse_super_app.directory.peers import NoDirectory, Peers
from synapse_super_app.directory.verifying import Verifying
from synapse_super_app.directory.vouching import Vouching
from synapse_super_app.people import Person
from synapse_super_app.runtime import Runtime

_MAX_REMEMBERED: Final = 10_000
_UNREACHABLE_FOR_MS: Final = 5_000
_OTHERWISE_FOR_MS: Final = 30_000
"""How long what is no record is remembered: enough for a gate that asks five times, little for a new handle."""

A = TypeVar("A", bound=ServicesPart | Person | Refused)


class DirectoryPeople:
    """Implements ``synapse_super_app.people.People``."""

    def __init__(
        self,
        runtime: Runtime,
        own: OwnHandles,
        peers: Peers,
        known: Heads,
        verifying: Verifying,
        vouching: Vouching,
        moves: Moves,
    ) -> None:
        self._runtime = runtime
        self._own = own
        self._peers = peers
        self._heads = known
        self._verifying = verifying
        self._vouching = vouching
        self._moves = moves
        self._questions = Budget(burst=100, every_ms=1_000)
        self._misses = Budget(burst=60, every_ms=10_000)
        self._guesses = Guesses(runtime, each=Allowance(name="people", burst=60, every_ms=10_000))
        self._kept = KeptRecords(runtime.database)
        self._remembered: dict[tuple[str, AskedBy], tuple[int, ServicesPart | Person | Refused]] = {}

    # The port.

    async def resolve(self, who: str, *, asker: UserId, max_age_ms: int, timeout_ms: int = 2_000) -> Person | Refused:
        user_id = parse_user_id(who)
        if user_id is None:
            return Refused(
                reason=Reason.UNKNOWN_HANDLE,
                message=f"{who[:255]!a} is no full handle or user id; write it as @bob:example.org.",
            )
        if server_of(user_id) == self._runtime.server_name:
            return await self._local(user_id, asker, max_age_ms, timeout_ms)
        known_here = await self._runtime.private.is_in_our_rooms(user_id)
        found = await self._answer(
            user_id,
            AskedBy.USER_ID if known_here else AskedBy.HANDLE,
            asker=asker,
            max_age_ms=max_age_ms,
            timeout_ms=timeout_ms,
        )
        if isinstance(found, Record | ServicesPart) and found.moved_to is not None:
            return await self._follow(stop_of(found), asker, max_age_ms, timeout_ms)
        if isinstance(found, Refused) and found.reason in (Reason.UNKNOWN_HANDLE, Reason.PEER_UNREACHABLE):
            # Their homeserver is gone, or forwards no more; a move that was seen here in time is not forgotten.
            return await self._led_on(user_id, asker, max_age_ms, timeout_ms) or found
        match found:
            case Record():
                return _person(found, who)
            case ServicesPart():
                return _hidden_person(found)
            case _:
                return found

    # Moves.

    async def _follow(self, start: Stop, asker: UserId, max_age_ms: int, timeout_ms: int) -> Person | Refused:
        """The person at the end of a way that begins where somebody was asked for."""

        async def look(user_id: UserId) -> Stop | Refused:
            return await self._stop(user_id, asker, max_age_ms, timeout_ms)

        end = await self._moves.follow(start, look)
        if isinstance(end, Refused):
            return end
        return _person_at(end, start)

    async def _led_on(self, user_id: UserId, asker: UserId, max_age_ms: int, timeout_ms: int) -> Person | None:
        """The person at the end of a way that was verified before, if they are there now."""
        after, visited = await self._moves.forwarded(user_id), {user_id}
        while after is not None and after not in visited and len(visited) <= rules_of_moves.MAX_HOPS:
            visited.add(after)
            stop = await self._stop(after, asker, max_age_ms, timeout_ms)
            if isinstance(stop, Stop):
                found = await self._follow(stop, asker, max_age_ms, timeout_ms)
                return None if isinstance(found, Refused) else replace(found, was=user_id)
            after = await self._moves.forwarded(after)
        return None

    async def _stop(self, user_id: UserId, asker: UserId, max_age_ms: int, timeout_ms: int) -> Stop | Refused:
        if server_of(user_id) == self._runtime.server_name:
            return await self._moves.local(user_id)
        found = await self._answer(user_id, AskedBy.USER_ID, asker=asker, max_age_ms=max_age_ms, timeout_ms=timeout_ms)
        if isinstance(found, Refused):
            return found
        return nobody(user_id) if isinstance(found, Person) else stop_of(found)

    async def handle_of(self, user_id: UserId) -> Handle | None:
        if server_of(user_id) == self._runtime.server_name:
            held = await self._runtime.database.run("directory_primary", partial(store.primary_of, user_id=user_id))
            return None if held is None or held.discover is Discover.NONE else full(held.name, server_of(user_id))
        known = await self._known(user_id, AskedBy.USER_ID)
        return None if known is None or known.record.status is not Status.ACTIVE else known.record.handle

    async def badges_of(self, user_id: UserId) -> tuple[Badge, ...]:
        return await self._verifying.badges_of(user_id)

    @property
    def ready(self) -> bool:
        """Whether this process has what it signs and judges with, a moment after it has begun to answer requests."""
        return self._own.ready

    def house(self) -> House:
        """By what badges are judged here."""
        return self._vouching.house()

    async def verified(self, hit: Hit) -> tuple[Mapping[str, Any], ...]:
        """The badges of somebody who was found that can be believed."""
        if not hit.badges:
            return ()
        return tuple(each.content for each in await self._vouching.believed(hit.badges, hit.handle, hit.acct))

    async def _local(self, who: UserId, asker: UserId, max_age_ms: int, timeout_ms: int) -> Person | Refused:
        held = await self._own.find(localpart_of(who), AskedBy.USER_ID)
        person = await self._local_person(held, who, asker)
        if held is not None and held.moved_to is not None and held.state is State.MOVED and isinstance(person, Person):
            # Whoever may see them here is led on.
            start = moving.stop_of(held, self._runtime.server_name)
            return await self._follow(start, asker, max_age_ms, timeout_ms)
        now_ms = self._runtime.now_ms()
        known_anyway = held is not None and (held.user_id == asker or rules.in_feed(held))
        if not known_anyway and await self._guesses.spent(asker, now_ms) is not None:
            known_anyway = await self._share_a_room(asker, who)
        found = not (isinstance(person, Refused) and person.reason is Reason.UNKNOWN_HANDLE)
        spent = await self._guesses.judge(asker, now_ms, found=found, known_anyway=known_anyway)
        return spent or person

    async def _local_person(self, held: Holding | None, who: UserId, asker: UserId) -> Person | Refused:
        name = localpart_of(who)
        if held is None:
            return rules.no_such_handle(who)
        if held.state is State.FROZEN:
            return rules.frozen_refusal(held.frozen_for, who)
        by = AskedBy.USER_ID if localpart_of(held.user_id) == name else AskedBy.HANDLE
        is_owner = held.user_id == asker
        shares_room = not is_owner and held.discover is Discover.NONE and await self._share_a_room(asker, held.user_id)
        sight = rules.sight_of(held, by, is_owner=is_owner, shares_room=shares_room)
        if sight is rules.Sight.NOTHING:
            return rules.no_such_handle(who)
        # Whoever asks will keep the acct, so it is in use; its owner may have changed it until this moment.
        acct = await self._runtime.accounts.acct_of(held.user_id)
        handle = full(held.name, self._runtime.server_name) if sight is rules.Sight.RECORD else None
        came = moving.stop_of(held, self._runtime.server_name).moved_from
        return Person(user_id=held.user_id, acct=acct, handle=handle, moved_ms=None if came is None else came.since_ms)

    async def _share_a_room(self, asker: UserId, other: UserId) -> bool:
        private = self._runtime.private
        return await self._runtime.database.run(
            "directory_share", partial(private.share_a_room, user_id=asker, other=other)
        )

    # Records.

    async def record(self, text: str, server: ServerName, *, asker: UserId) -> Mapping[str, Any] | Refused:
        """The signed record of a handle, as ``asker`` may see it. ``text`` is the name as typed."""
        if server == self._runtime.server_name:
            held, record = await self._own_record(text)
            if held is not None and held.discover is Discover.NONE and _sees(held, asker):
                record = await self._own.record(held)
            found = record if held is not None and _sees(held, asker) else None
            known_anyway = held is not None and (held.user_id == asker or rules.in_feed(held))
            spent = await self._guesses.judge(
                asker, self._runtime.now_ms(), found=found is not None, known_anyway=known_anyway
            )
            return spent or found or rules.no_such_handle(f"@{text}:{server}")
        name = normalise(text)
        if isinstance(name, Refused):
            return name
        asked = full(name, server)
        found_there = await self.remote(asked, AskedBy.HANDLE, asker=asker, max_age_ms=60_000, timeout_ms=5_000)
        match found_there:
            case Record(status=Status.ACTIVE | Status.FROZEN | Status.MOVED):
                return found_there.content
            case Refused():
                return found_there
            case _:
                return rules.no_such_handle(asked)

    async def _own_record(self, text: str) -> tuple[Holding | None, Mapping[str, Any] | None]:
        """A holding of this homeserver and its record, whoever may see it; of who hides from everyone, no record."""
        now_ms = self._runtime.now_ms()
        kept = self._kept.get(text, now_ms)
        if kept is not None and kept.record.get("msk") == await self._runtime.private.master_key(kept.held.user_id):
            return kept.held, kept.record
        changes = self._kept.changes
        held = await self._own.find(text, AskedBy.HANDLE)
        # No work for a hidden one that there is not for an absent one.
        if held is None or not _sees(held, held.user_id) or held.discover is Discover.NONE:
            return held, None
        record = await self._own.record(held)
        if record is not None:
            self._kept.keep(text, held, record, changes=changes, now_ms=now_ms)
        return held, record

    async def remote(
        self, asked: str, by: AskedBy, *, asker: UserId, max_age_ms: int, timeout_ms: int
    ) -> Record | Person | Refused:
        """Somebody of another server: a record, or a person of whom there is none to be had."""
        found = await self._answer(asked, by, asker=asker, max_age_ms=max_age_ms, timeout_ms=timeout_ms)
        return _hidden_person(found) if isinstance(found, ServicesPart) else found

    async def _answer(
        self, asked: str, by: AskedBy, *, asker: UserId, max_age_ms: int, timeout_ms: int
    ) -> Record | ServicesPart | Person | Refused:
        now_ms = self._runtime.now_ms()
        server = server_of(Handle(asked))
        if await self._heads.is_frozen(server):
            return frozen_refusal(server)
        known = await self._known(asked, by)
        if known is not None and now_ms - known.current_ms <= max_age_ms:
            return known.record
        kept_until_ms, kept = self._remembered.get((asked, by), (0, None))
        if kept is not None and now_ms < kept_until_ms:
            return kept
        spent = self._questions.take(asker, now_ms) or self._misses.spent(asker, now_ms)
        if spent is not None:
            return spent
        answer = await self._peers.ask(server, asked, by, timeout_ms)
        match answer:
            case Record():
                keep = partial(service.keep_records, server=server, found=[answer], now_ms=now_ms)
                if await self._runtime.database.run("directory_keep", keep):
                    return generations.changed_hands(answer.handle)
                self._moves.notice([answer])
                return answer
            case ServicesPart():
                return self._remember(asked, by, answer, _OTHERWISE_FOR_MS)
            case Absent():
                self._misses.take(asker, now_ms)
                await self._runtime.database.run(
                    "directory_forget", partial(store.forget_replica, handle=Handle(asked))
                )
                return self._remember(asked, by, rules.no_such_handle(asked), _OTHERWISE_FOR_MS)
            case NoDirectory():
                return self._remember(asked, by, _plain(asked, known), _OTHERWISE_FOR_MS)
            case Refused(reason=Reason.PEER_UNREACHABLE):
                self._misses.take(asker, now_ms)
                return self._remember(asked, by, answer, _UNREACHABLE_FOR_MS)
            case Refused():
                return answer

    async def _known(self, asked: str, by: AskedBy) -> Known | None:
        now_ms = self._runtime.now_ms()
        if by is AskedBy.USER_ID:
            work = partial(store.known_by_user_id, user_id=UserId(asked), now_ms=now_ms)
            return await self._runtime.database.run("directory_known_user", work)
        work = partial(store.known_by_handle, handle=Handle(asked), now_ms=now_ms)
        return await self._runtime.database.run("directory_known", work)

    def _remember(self, asked: str, by: AskedBy, answer: A, for_ms: int) -> A:
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[asked, by] = (self._runtime.now_ms() + for_ms, answer)
        return answer


def _sees(held: Holding, asker: UserId) -> bool:
    is_owner = held.user_id == asker
    return rules.sight_of(held, AskedBy.HANDLE, is_owner=is_owner, shares_room=False) is rules.Sight.RECORD


def _person(record: Record, who: str) -> Person | Refused:
    match record.status:
        case Status.ACTIVE:
            moved_ms = None if record.moved_from is None else record.moved_from.since_ms
            return Person(user_id=record.user_id, acct=record.acct, handle=record.handle, moved_ms=moved_ms)
        case Status.FROZEN:
            ambiguous = record.frozen_for == FrozenFor.AMBIGUOUS
            return rules.frozen_refusal(FrozenFor.AMBIGUOUS if ambiguous else None, who)
        case Status.RELEASED | Status.MOVED:
            return rules.no_such_handle(who)


def _hidden_person(part: ServicesPart) -> Person:
    moved_ms = None if part.moved_from is None else part.moved_from.since_ms
    return Person(user_id=part.user_id, acct=part.acct, moved_ms=moved_ms)


def _person_at(end: Stop, start: Stop) -> Person | Refused:
    match end.status:
        case Status.ACTIVE:
            since = [each.since_ms for each in (start.moved_to, end.moved_from) if each is not None]
            return Person(
                user_id=end.user_id,
                acct=end.acct,
                handle=end.handle,
                moved_ms=max(since, default=None),
                was=None if end.user_id == start.user_id else start.user_id,
            )
        case Status.FROZEN:
            return rules.frozen_refusal(None, end.user_id)
        case Status.RELEASED | Status.MOVED:
            return rules.no_such_handle(end.user_id)


def _plain(asked: str, known: Known | None) -> Person | Refused:
    """Somebody of a server without a directory: the user id itself, unless the string was a handle of somebody else."""
    user_id = parse_user_id(asked)
    if user_id is None or (known is not None and known.record.user_id != user_id):
        return Refused(
            reason=Reason.PEER_UNREACHABLE,
            message=f"The directory of {server_of(Handle(asked))} is switched off now; try again later.",
        )
    return Person(user_id=user_id)
