"""Moves between homeservers: both ends of them, and following those of others.

What another homeserver says is asked of that homeserver itself, verified as any answer is. A move is followed when both
halves were seen: the old homeserver's record says where, and the new one's says from where. Each is fetched, judged and
only then written; nothing is asked inside a transaction.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Any, Final, TypeVar

from prometheus_client import Counter, Gauge

from super_app.accounts import relation_store
from super_app.accounts.model import MovedRelations
from super_app.db import Cursor
from super_app.directory import generations, move_store, moves, moving, records, service, store
from super_app.directory.model import (
    Absent,
    AskedBy,
    Discover,
    MovedFrom,
    Record,
    ServicesPart,
    Status,
)
from super_app.directory.move_model import Arrival, Departure, Recovery
from super_app.directory.moves import Stop
from super_app.directory.naming import split
from super_app.errors import Reason, Refused
from super_app.ids import Acct, ServerName, UserId, localpart_of, parse_user_id, server_of
from super_app.names import FederationQuery
from synapse_super_app.directory.budget import Budget
from synapse_super_app.directory.own import OwnHandles
from synapse_super_app.directory.peers import NoDirectory, Peers
from synapse_super_app.http.refusals import error_of
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

T = TypeVar("T")

_TIMEOUT_MS: Final = 10_000
_PAGE: Final = 100
_FORWARD_PAGE: Final = 50

_steps = Counter(
    "superapp_directory_moves_total", "Steps of moves between homeservers, by outcome.", ["step", "outcome"]
)
_waiting = Gauge("superapp_directory_recoveries", "Words of recovery keys that wait for a silent homeserver.")

Look = Callable[[UserId], Awaitable[Stop | Refused]]
"""How somebody who follows a move asks where its next place is."""


class Moves:
    """``when_moved`` is told of each move that changed relations of people here."""

    def __init__(self, runtime: Runtime, own: OwnHandles, peers: Peers) -> None:
        self._runtime = runtime
        self._own = own
        self._peers = peers
        self._when_moved: Callable[[UserId, MovedRelations], Awaitable[None]] | None = None
        self._told = Budget(burst=100, every_ms=1_000)
        self._noticing: set[UserId] = set()

    def when_moved(self, listener: Callable[[UserId, MovedRelations], Awaitable[None]]) -> None:
        self._when_moved = listener

    def register(self) -> None:
        self._runtime.private.answer_query(FederationQuery.DIRECTORY_MOVE, self.answer)

    # The person's own moves.

    async def announce(self, user_id: UserId, come_from: str) -> Arrival | Refused:
        """Here is who will arrive: the new homeserver's side."""
        before = self._elsewhere(come_from)
        if isinstance(before, Refused):
            return before
        acct = await self._own.acct_of(user_id)
        now_ms = self._runtime.now_ms()
        work = partial(moving.announce, acct=acct, come_from=before, now_ms=now_ms)
        return self._counted("announce", await self._runtime.database.run("directory_announce", work))

    async def recover(self, user_id: UserId, come_from: str, claim: Mapping[str, Any]) -> Arrival | Refused:
        """The former homeserver is gone; a recovery key speaks for it."""
        before = self._elsewhere(come_from)
        if isinstance(before, Refused):
            return before
        acct = await self._own.acct_of(user_id)
        now_ms = self._runtime.now_ms()
        read = moves.read_claim(claim, to_user_id=user_id, to_acct=acct, now_ms=now_ms)
        if isinstance(read, Refused):
            return self._counted("recover", read)
        if read.user_id != before:
            return Refused(
                reason=Reason.INVALID_VALUE, message=f"from: the claim is about {read.user_id}, not {before}."
            )
        answer = await self._peers.ask(server_of(before), before, AskedBy.USER_ID, _TIMEOUT_MS)
        if is_answer(answer):
            return self._counted("recover", still_there(before))
        facts = await self._own.facts(user_id)
        issuer = self._own.issuer
        work = partial(moving.recover, issuer=issuer, acct=acct, claim=read, facts=facts, now_ms=now_ms)
        done = await self._runtime.database.run("directory_recover", work)
        self._own.renew_soon()
        return self._counted("recover", done)

    async def cancel(self, user_id: UserId) -> Arrival | Refused:
        acct = await self._own.acct_of(user_id)
        facts = await self._own.facts(user_id)
        issuer, now_ms = self._own.issuer, self._runtime.now_ms()
        work = partial(moving.cancel, issuer=issuer, acct=acct, facts=facts, now_ms=now_ms)
        return self._counted("cancel", await self._runtime.database.run("directory_move_cancel", work))

    async def depart(self, user_id: UserId, to: str) -> Departure | Refused:
        """Move an account of ours: the old homeserver's side. Again, it is the same departure."""
        after = self._elsewhere(to)
        if isinstance(after, Refused):
            return after
        acct = await self._own.acct_of(user_id)
        known = await self._runtime.database.run("directory_departing", partial(moving.may_depart, acct=acct, to=after))
        if isinstance(known, Refused):
            return self._counted("depart", known)
        if known is not None:
            return known
        accepted = await self._acceptance(user_id, acct, after)
        if isinstance(accepted, Refused):
            return self._counted("depart", accepted)
        facts = await self._own.facts(user_id)
        issuer, now_ms = self._own.issuer, self._runtime.now_ms()
        work = partial(moving.depart, issuer=issuer, acct=acct, accepted=accepted, facts=facts, now_ms=now_ms)
        done = await self._runtime.database.run("directory_depart", work)
        if isinstance(done, Refused):
            return self._counted("depart", done)
        gone, went = done
        logger.info("%s moved to %s; this homeserver forwards for a year", user_id, gone.to_user_id)
        self._own.show_handle(user_id)
        await self._has_moved(gone.to_user_id, went)
        await self._tell(gone)
        return self._counted("depart", gone)

    async def state(self, user_id: UserId) -> tuple[Departure | None, Arrival | None, Recovery | None]:
        acct = await self._own.acct_of(user_id)

        def work(cur: Cursor) -> tuple[Departure | None, Arrival | None, Recovery | None]:
            arrival = move_store.arrival(cur, acct)
            claimed = None if arrival is None or not arrival.recovering else arrival.from_acct
            recovery = None if claimed is None else move_store.recovery(cur, claimed)
            return move_store.departure(cur, acct), arrival, recovery

        return await self._runtime.database.run("directory_moves_of", work)

    def _elsewhere(self, text: str) -> UserId | Refused:
        """The user id of an account, as its owner types it."""
        parts = split(text, self._runtime.server_name)
        user_id = None if isinstance(parts, Refused) else parse_user_id(text if text.startswith("@") else f"@{text}")
        if user_id is None:
            return Refused(
                reason=Reason.INVALID_VALUE,
                message=f"{text[:255]!a} is no user id; write the whole one, as in @alice:example.org.",
            )
        return user_id

    async def _acceptance(self, user_id: UserId, acct: Acct, to: UserId) -> moves.Accepted | Refused:
        server = server_of(to)
        arguments = {"step": "accept", "user_id": to, "from": user_id, "acct": acct}
        content = await self._peers.move(server, arguments, _TIMEOUT_MS)
        if isinstance(content, NoDirectory):
            return Refused(
                reason=Reason.PEER_UNREACHABLE,
                message=f"{server} runs no directory, so nobody can move there; ask its operator.",
            )
        if isinstance(content, Refused):
            return content
        key = await self._peers.trusted_key(server, content)
        if isinstance(key, Refused):
            return key
        if "accept" not in content:
            return moving.not_announced(user_id, to)
        read = moves.read_acceptance(
            content["accept"],
            server,
            key.public_key,
            from_user_id=user_id,
            from_acct=acct,
            now_ms=self._runtime.now_ms(),
        )
        if isinstance(read, moves.Accepted) and read.user_id != to:
            return moving.not_announced(user_id, to)
        return read

    async def _tell(self, gone: Departure) -> None:
        """Have the new homeserver look. If it does not hear us now, upkeep tells it again, and it asks by itself."""
        arguments = {"step": "moved", "user_id": gone.to_user_id, "from": gone.user_id, "acct": gone.acct}
        content = await self._peers.move(server_of(gone.to_user_id), arguments, _TIMEOUT_MS)
        if isinstance(content, Mapping) and content.get("done") is True:
            now_ms = self._runtime.now_ms()
            await self._runtime.database.run(
                "directory_told", partial(move_store.set_told, acct=gone.acct, now_ms=now_ms)
            )

    # What other homeservers ask.

    async def answer(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """``step=accept``: our acceptance of somebody of the asking homeserver. ``step=moved``: it has moved them here.

        Whoever asks learns of its own people alone: without an announcement the answer is empty, whoever is there.
        """
        if not self._own.ready:
            raise error_of(Refused(reason=Reason.STARTING, message="The server is starting; try again in a moment."))
        origin = ServerName(str(arguments["origin"]))
        spent = self._told.take(origin, self._runtime.now_ms())
        if spent is not None:
            raise error_of(spent)
        user_id, come_from = parse_user_id(str(arguments.get("user_id"))), parse_user_id(str(arguments.get("from")))
        acct = str(arguments.get("acct", ""))
        if (
            user_id is None
            or come_from is None
            or server_of(user_id) != self._runtime.server_name
            or server_of(come_from) != origin
            or not records.is_acct(acct)
        ):
            raise error_of(
                Refused(
                    reason=Reason.INVALID_VALUE,
                    message=f"Ask for user_id of {self._runtime.server_name}, and from and acct of your own people.",
                )
            )
        common = {"v": records.VERSION, "server": self._runtime.server_name, **await self._own.signer.identity()}
        arrival = await self._runtime.database.run("directory_arrival", partial(move_store.arrival_of, user_id=user_id))
        if arrival is None or arrival.from_user_id != come_from:
            return common
        if arguments.get("step") == "moved":
            return {**common, "done": await self._arrived(arrival, user_id)}
        work = partial(
            moving.accept,
            issuer=self._own.issuer,
            acct=arrival.acct,
            from_user_id=come_from,
            from_acct=Acct(acct),
            now_ms=self._runtime.now_ms(),
        )
        accepted = await self._runtime.database.run("directory_accept", work)
        return common if isinstance(accepted, Refused) else {**common, "accept": accepted}

    async def _arrived(self, arrival: Arrival, user_id: UserId) -> bool:
        """Look whether the former homeserver moved somebody here, and say so from now on if it did."""
        before = await self.look(arrival.from_user_id)
        if isinstance(before, Refused):
            logger.info("Whether %s moved to %s is not known yet: %s", arrival.from_user_id, user_id, before.message)
            return False
        facts = await self._own.facts(user_id)
        issuer, now_ms = self._own.issuer, self._runtime.now_ms()
        work = partial(moving.arrive, issuer=issuer, acct=arrival.acct, before=before, facts=facts, now_ms=now_ms)
        done = await self._runtime.database.run("directory_arrive", work)
        self._counted("arrive", done)
        if isinstance(done, Refused):
            return False
        logger.info("%s moved here from %s", user_id, arrival.from_user_id)
        await self._has_moved(user_id, done)
        self._own.renew_soon()
        return True

    # Following others.

    async def look(self, user_id: UserId) -> Stop | Refused:
        """Where somebody is, by the word of their own homeserver now."""
        if server_of(user_id) == self._runtime.server_name:
            return await self.local(user_id)
        answer = await self._peers.ask(server_of(user_id), user_id, AskedBy.USER_ID, _TIMEOUT_MS)
        if isinstance(answer, Refused):
            return answer
        if isinstance(answer, Record):
            now_ms = self._runtime.now_ms()
            keep = partial(service.keep_records, server=answer.server, found=[answer], now_ms=now_ms)
            if await self._runtime.database.run("directory_keep", keep):
                return generations.changed_hands(answer.handle)
        return stop_of(answer) if isinstance(answer, Record | ServicesPart) else nobody(user_id)

    async def local(self, user_id: UserId) -> Stop | Refused:
        held = await self._own.find(localpart_of(user_id), AskedBy.USER_ID)
        if held is None or held.user_id != user_id:
            return nobody(user_id)
        return moving.stop_of(held, self._runtime.server_name)

    async def follow(self, start: Stop, look: Look | None = None) -> Stop | Refused:
        """From a place that somebody left to where they are now, over three homeservers at most.

        Each step is written down as it is verified, and relations of people here go along.
        """
        before, visited = start, frozenset({start.acct})
        while before.moved_to is not None:
            if len(visited) > moves.MAX_HOPS:
                return self._counted("follow", moves.going_around(start.user_id))
            after = await (look or self.look)(before.moved_to.user_id)
            if isinstance(after, Refused):
                # The old homeserver's word alone is not followed; it is said, so that the person can be asked.
                _steps.labels("follow", after.reason.value).inc()
                return moves.unconfirmed(before.user_id, before.moved_to)
            refused = moves.judge_hop(before, after, visited)
            if refused is not None and look is not None:
                # What is known of the new place may be older than the move.
                now = await self.look(before.moved_to.user_id)
                after, refused = (now, moves.judge_hop(before, now, visited)) if isinstance(now, Stop) else (after, now)
            if refused is not None:
                logger.warning("A move of %s is not followed: %s", before.user_id, refused.message)
                return self._counted("follow", refused)
            await self._write(before, after)
            before, visited = after, visited | {after.acct}
        return before

    async def _write(self, before: Stop, after: Stop) -> None:
        now_ms = self._runtime.now_ms()
        work = partial(moving.follow, before=before, after=after, now_ms=now_ms)
        await self._has_moved(after.user_id, await self._runtime.database.run("directory_follow", work))

    async def forwarded(self, user_id: UserId) -> UserId | None:
        """Where somebody is who was followed before, if their former homeserver says so no more."""
        known = await self._runtime.database.run("directory_forward", partial(move_store.forward_of, user_id=user_id))
        return None if known is None else known.to_user_id

    def notice(self, found: Collection[Record]) -> None:
        """Records that a feed or an answer brought: people here may know somebody who moved."""
        for record in found:
            other = self._other_end(record)
            if other is None or record.user_id in self._noticing or len(self._noticing) >= _PAGE:
                continue
            self._noticing.add(record.user_id)
            self._runtime.api.run_as_background_process("superapp_directory_noticed", self._noticed, record)

    @staticmethod
    def _other_end(record: Record) -> UserId | None:
        if record.moved_to is not None:
            return record.moved_to.user_id
        return None if record.moved_from is None else record.moved_from.user_id

    async def _noticed(self, record: Record) -> None:
        try:
            if record.moved_to is not None:
                if await self._is_known(record.user_id):
                    await self.follow(stop_of(record))
            elif record.moved_from is not None and record.moved_from.claim is not None:
                await self._notice_claim(record, record.moved_from)
            elif record.moved_from is not None and await self._is_known(record.moved_from.user_id):
                before = await self.look(record.moved_from.user_id)
                if isinstance(before, Stop):
                    await self.follow(before)
        except Exception:
            logger.exception(
                "Looking whether %s moved failed; it is looked again with their next record", record.user_id
            )
        finally:
            self._noticing.discard(record.user_id)

    async def _is_known(self, user_id: UserId) -> bool:
        """Whether somebody here has to do with a user id, and the move of it was not followed yet."""
        return await self._runtime.database.run("directory_knows", partial(relation_store.knows, user_id=user_id))

    async def _notice_claim(self, record: Record, came: MovedFrom) -> None:
        now_ms = self._runtime.now_ms()
        claim = moves.read_claim(came.claim, to_user_id=record.user_id, to_acct=record.acct, now_ms=now_ms)
        if isinstance(claim, Refused) or (claim.user_id, claim.acct) != (came.user_id, came.acct):
            logger.warning("%s claims to have been %s, and proves it badly", record.user_id, came.user_id)
            return
        work = partial(moving.notice, claim=claim, now_ms=now_ms)
        if await self._runtime.database.run("directory_notice", work) is not None:
            logger.info("%s says by recovery key that they were %s", record.user_id, came.user_id)

    # Upkeep, by the main process.

    async def upkeep(self) -> None:
        """What the network kept from happening at once, and what takes its time."""
        database = self._runtime.database
        for gone in await database.run("directory_untold", partial(move_store.untold, limit=_PAGE)):
            await self._tell(gone)
        for arrival in await database.run("directory_awaited", partial(move_store.awaited, limit=_PAGE)):
            user_id = await database.run("directory_whose", partial(store.user_of, acct=arrival.acct))
            await self._arrived(arrival, user_id)
        await self._ask_silent()
        await self._end_forwarding()
        await database.run("directory_moves_tidy", partial(moving.tidy, now_ms=self._runtime.now_ms()))

    async def _ask_silent(self) -> None:
        database = self._runtime.database
        waiting = await database.run(
            "directory_recoveries", partial(moving.recoveries_to_ask, now_ms=self._runtime.now_ms())
        )
        _waiting.set(len(waiting))
        for found in waiting:
            answer = await self._peers.ask(server_of(found.user_id), found.user_id, AskedBy.USER_ID, _TIMEOUT_MS)
            now_ms = self._runtime.now_ms()
            if is_answer(answer):
                await self._contested(found, now_ms)
                continue
            if isinstance(answer, Refused) and answer.reason is Reason.TOO_MANY_REQUESTS:
                continue
            after = await self.look(found.to_user_id)
            came = None if isinstance(after, Refused) else after.moved_from
            if isinstance(after, Refused) or came is None or came.claim is None or came.acct != found.acct:
                # Whoever claimed it says so no more, or cannot be asked; it is looked again in an hour.
                await database.run("directory_asked", partial(move_store.set_asked, acct=found.acct, now_ms=now_ms))
                continue
            work = partial(moving.silent, found=found, after=after, now_ms=now_ms)
            went = await database.run("directory_silent", work)
            if went is not None:
                logger.info("%s was %s, by their recovery key; that homeserver is silent", after.user_id, found.user_id)
                await self._has_moved(after.user_id, went)

    async def _contested(self, found: Recovery, now_ms: int) -> None:
        facts: dict[Acct, Any] = {}
        if server_of(found.to_user_id) == self._runtime.server_name:
            facts[found.to_acct] = await self._own.facts(found.to_user_id)
        logger.warning(
            "%s says by recovery key that they were %s, whose homeserver is there and says otherwise; nobody follows",
            found.to_user_id,
            found.user_id,
        )
        issuer = self._own.issuer
        work = partial(moving.contested, issuer=issuer, found=found, facts=facts, now_ms=now_ms)
        await self._runtime.database.run("directory_contested", work)

    async def _end_forwarding(self) -> None:
        now_ms = self._runtime.now_ms()
        database = self._runtime.database
        before_ms = now_ms - moves.FORWARD_MS
        ended = await database.run(
            "directory_forwarded", partial(move_store.departures_before, before_ms=before_ms, limit=_FORWARD_PAGE)
        )
        for gone in ended:
            facts = await self._own.facts(gone.user_id)
            issuer = self._own.issuer
            work = partial(moving.end_forwarding, issuer=issuer, gone=gone, facts=facts, now_ms=now_ms)
            await database.run("directory_forward_end", work)
        for acct, _ in await database.run("directory_came", partial(move_store.arrivals_before, before_ms=before_ms)):
            await database.run("directory_came_end", partial(move_store.set_moved_from, acct=acct, content=None))
        self._own.renew_soon()

    async def _has_moved(self, user_id: UserId, went: MovedRelations) -> None:
        if self._when_moved is not None and (went.contacts or went.blocks):
            await self._when_moved(user_id, went)

    @staticmethod
    def _counted(step: str, outcome: T) -> T:
        _steps.labels(step, outcome.reason.value if isinstance(outcome, Refused) else "done").inc()
        return outcome


def stop_of(found: Record | ServicesPart) -> Stop:
    """A verified answer as a place on somebody's way."""
    if isinstance(found, Record):
        return Stop(
            user_id=found.user_id,
            acct=found.acct,
            handle=None if found.discover is Discover.NONE else found.handle,
            status=found.status,
            moved_to=found.moved_to,
            moved_from=found.moved_from,
        )
    return Stop(
        user_id=found.user_id,
        acct=found.acct,
        handle=None,
        status=Status.ACTIVE if found.moved_to is None else Status.MOVED,
        moved_to=found.moved_to,
        moved_from=found.moved_from,
    )


def is_answer(answer: object) -> bool:
    """Whether a homeserver spoke, under the key that is pinned: it is there, whatever it said."""
    return isinstance(answer, Record | ServicesPart | Absent)


def nobody(user_id: UserId) -> Refused:
    return Refused(reason=Reason.UNKNOWN_HANDLE, message=f"{server_of(user_id)} knows nobody as {user_id} now.")


def still_there(user_id: UserId) -> Refused:
    return Refused(
        reason=Reason.NOT_ALLOWED,
        message=(
            f"The homeserver of {user_id} answers, so move there: a recovery key speaks only for a homeserver that has "
            "been silent for 72 hours."
        ),
    )
