"""Asking other homeservers' directories, and believing only what verifies.

A server's directory key is pinned on first use, when its Matrix key certifies it. Another key later is refused until
the operator forgets the pin: it may be a server name that changed hands.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

from prometheus_client import Counter

from super_app.db import Cursor
from super_app.directory import generations, heads, heads_store, keys, records, store
from super_app.directory.generations import Generation
from super_app.directory.heads import Growth, HeadStatement, LogProof, PageProof, SeenHead
from super_app.directory.model import Answer, AskedBy, DirectoryKey, Peer, Record
from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from super_app.names import FederationQuery
from synapse_super_app.directory.heads import Heads
from synapse_super_app.private_api import NoAnswer
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_MEET_AGAIN_MS: Final = 3_600_000
_MAX_REMEMBERED: Final = 10_000
_FEED_TIMEOUT_MS: Final = 30_000
_HEAD_TIMEOUT_MS: Final = 10_000
_SUSPECT_AGAIN_MS: Final = 60_000
_MAX_TOLD: Final = 500
_TRIES: Final = 3
"""How often a question is asked again because another process saw a newer head of that server meanwhile."""

_asked = Counter("superapp_directory_asked_total", "Questions to other directories by outcome.", ["outcome"])
_distrusted = Counter("superapp_directory_distrusted_total", "Answers of other directories that did not verify.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved:
    """A verified answer as it came (``content``), and what it was judged by; ``proof`` for a record alone."""

    answer: Answer
    content: Mapping[str, Any]
    key: DirectoryKey
    known: SeenHead | None
    proof: LogProof | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedAnswer:
    """A page of a feed. ``proof`` and ``head`` are None where the server publishes none."""

    content: Mapping[str, Any]
    key: DirectoryKey
    proof: PageProof | None
    head: SeenHead | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A server's signed word about its log, as it signed it (``content``), and all of its answer."""

    key: DirectoryKey
    statement: HeadStatement
    content: Mapping[str, Any]
    answer: Mapping[str, Any]


class NoDirectory:
    """A server answered that it runs no directory: its people are user ids."""


NO_DIRECTORY: Final = NoDirectory()


class Peers:
    """The directories of other homeservers."""

    def __init__(self, runtime: Runtime, heads: Heads) -> None:
        self._runtime = runtime
        self._heads = heads
        self._met: dict[ServerName, int] = {}
        self._suspected: dict[ServerName, int] = {}

    async def ask(self, server: ServerName, asked: str, by: AskedBy, timeout_ms: int) -> Answer | NoDirectory | Refused:
        """Who ``asked`` is, in a verified answer of its server."""
        proved = await self.prove(server, asked, by, timeout_ms)
        answer = proved.answer if isinstance(proved, Proved) else proved
        outcome = "answered"
        if isinstance(answer, NoDirectory):
            outcome = "no_directory"
        elif isinstance(answer, Refused):
            outcome = answer.reason.value
        _asked.labels(outcome).inc()
        return answer

    async def prove(
        self, server: ServerName, asked: str, by: AskedBy, timeout_ms: int
    ) -> Proved | NoDirectory | Refused:
        """As ``ask``, with all that verified the answer."""
        if await self._heads.is_frozen(server):
            return heads.frozen_refusal(server)
        for _ in range(_TRIES):
            known = await self._heads.known(server)
            arguments = {by.value: asked, "from": str(0 if known is None else known.size)}
            content = await self._query(server, FederationQuery.DIRECTORY_RESOLVE, arguments, timeout_ms)
            if not isinstance(content, Mapping):
                return content
            key = await self.trusted_key(server, content)
            if isinstance(key, Refused):
                return key
            answer = records.read_answer(
                content.get("answer"), server, key.public_key, asked=asked, by=by, now_ms=self._runtime.now_ms()
            )
            if isinstance(answer, Refused):
                return self._distrust(server, answer)
            if not isinstance(answer, Record):
                return Proved(answer=answer, content=content, key=key, known=known, proof=None)
            proof = heads.read_log_proof(content.get("log"), server)
            if isinstance(proof, Refused):
                return self._distrust(server, proof)
            head = await self._seen(key, known, proof.checkpoint, proof, content.get("generation"))
            if head is None:
                continue
            outside = head if isinstance(head, Refused) else heads.check_inclusion(answer.content, proof, head)
            if outside is not None:
                return self._distrust(server, outside)
            return Proved(answer=answer, content=content, key=key, known=known, proof=proof)
        return _busy(server)

    async def feed_page(self, server: ServerName, since: int, limit: int) -> FeedAnswer | NoDirectory | Refused:
        """A page of a server's feed, its entries not yet verified, and what to verify them with."""
        if server in await self._heads.frozen():
            return heads.frozen_refusal(server)
        for _ in range(_TRIES):
            known = await self._heads.known(server)
            arguments = {"since": str(since), "limit": str(limit), "from": str(0 if known is None else known.size)}
            content = await self._query(server, FederationQuery.DIRECTORY_FEED, arguments, _FEED_TIMEOUT_MS)
            if not isinstance(content, Mapping):
                return content
            key = await self.trusted_key(server, content)
            if isinstance(key, Refused):
                return key
            if content.get("publishes") is not True:
                return FeedAnswer(content=content, key=key, proof=None, head=None)
            proof = heads.read_page_proof(content.get("log"), server)
            if isinstance(proof, Refused):
                return self._distrust(server, proof)
            head = await self._seen(key, known, proof.checkpoint, proof, content.get("generation"))
            if isinstance(head, Refused):
                return self._distrust(server, head)
            if head is not None:
                return FeedAnswer(content=content, key=key, proof=proof, head=head)
        return _busy(server)

    async def _seen(
        self, key: DirectoryKey, known: SeenHead | None, note: str, growth: Growth, declaration: object
    ) -> SeenHead | Refused | None:
        """A checkpoint judged by what is known. A server that shows what cannot be believed is asked for its word.

        ``declaration`` is what it says of having been restored from a backup.
        """
        declared = None if known is None else generations.read(declaration, key.server, key.public_key)
        if declared is not None and known is not None and declared.gives_up(known):
            begun = await self._begin(key, known, declared)
            if not (isinstance(begun, Refused) and begun.reason is Reason.BAD_RECORD):
                # Otherwise it is judged as if nothing had been declared.
                # The answer is judged by what is known from now on, so it is asked for again.
                return begun if isinstance(begun, Refused) else None
            declared = None
        found = await self._heads.see(key, known, note, growth, declared)
        if isinstance(found, Refused) and found.reason is Reason.BAD_RECORD and known is not None and declared is None:
            now_ms = self._runtime.now_ms()
            if now_ms - self._suspected.get(key.server, -_SUSPECT_AGAIN_MS) >= _SUSPECT_AGAIN_MS:
                if len(self._suspected) >= _MAX_REMEMBERED:
                    self._suspected.clear()
                self._suspected[key.server] = now_ms
                said = await self.head(key.server, [known.size])
                if isinstance(said, Said):
                    judged = await self._heads.see_statement(said.key, known, said.statement, said.content)
                    # Its word may be good where the answer was not; then only the answer is refused.
                    return judged if isinstance(judged, Refused) else found
        return found

    async def _begin(self, key: DirectoryKey, known: SeenHead, declared: Generation) -> SeenHead | Refused | None:
        """Ask a server that was restored for its log of now, and that this grew out of the backup."""
        said = await self.head(key.server, [declared.base_size])
        if isinstance(said, NoDirectory):
            return _busy(key.server)
        if isinstance(said, Refused):
            return said
        fresh = heads.read_head(said.statement.checkpoint, said.key, self._runtime.now_ms())
        if isinstance(fresh, Refused):
            return fresh
        return await self._heads.begin(known, fresh, said.statement.growth_from(declared.base_size), declared)

    async def head(
        self, server: ServerName, sizes: Sequence[int], timeout_ms: int = _HEAD_TIMEOUT_MS
    ) -> Said | NoDirectory | Refused:
        """What a server says its log is now, with proofs that it grew out of those of ``sizes``. Nothing is judged."""
        arguments = {"from": ",".join(str(size) for size in sizes)}
        content = await self._query(server, FederationQuery.DIRECTORY_HEAD, arguments, timeout_ms)
        if not isinstance(content, Mapping):
            return content
        key = await self.trusted_key(server, content)
        if isinstance(key, Refused):
            return key
        signed = content.get("head")
        said = heads.read_head_statement(signed, server, key.public_key)
        if isinstance(said, Refused):
            return self._distrust(server, said)
        return Said(key=key, statement=said, content=cast(Mapping[str, Any], signed), answer=content)

    async def advance(self, server: ServerName) -> SeenHead | NoDirectory | Refused:
        """The newest head of a server, asked for now and judged by what is known."""
        for _ in range(_TRIES):
            known = await self._heads.known(server)
            said = await self.head(server, [0 if known is None else known.size])
            if not isinstance(said, Said):
                return said
            head = await self._heads.see_statement(said.key, known, said.statement, said.content)
            if isinstance(head, Refused):
                return self._distrust(server, head)
            if head is not None:
                return head
        return _busy(server)

    async def move(
        self, server: ServerName, arguments: Mapping[str, str], timeout_ms: int
    ) -> Mapping[str, Any] | NoDirectory | Refused:
        """Ask the homeserver to which somebody of ours moves; nothing of the answer is verified yet."""
        if await self._heads.is_frozen(server):
            return heads.frozen_refusal(server)
        return await self._query(server, FederationQuery.DIRECTORY_MOVE, arguments, timeout_ms)

    async def told(self, server: ServerName) -> Sequence[object]:
        """The heads of servers that another one has seen; none if it does not say."""
        content = await self._query(server, FederationQuery.DIRECTORY_PEERS, {}, _HEAD_TIMEOUT_MS)
        found = content.get("peers") if isinstance(content, Mapping) else None
        return cast(list[object], found)[:_MAX_TOLD] if isinstance(found, list) else []

    async def trusted_key(self, server: ServerName, answer: Mapping[str, Any]) -> DirectoryKey | Refused:
        """The key that goes with an answer, if it is the pinned one, or leads there, or is the first.

        The first one and one that another rotated to have to be certified by the server's Matrix key.
        """
        key = records.read_certificate(answer.get("certificate"), server)
        if isinstance(key, Refused):
            return self._distrust(server, key)
        peer = await self.peer(server)
        pinned = None if peer is None else peer.key
        if pinned is not None and pinned.public_key == key.public_key:
            return pinned
        if pinned is not None and not keys.leads_to(pinned.public_key, answer.get("rotations"), key):
            return self._distrust(server, _untrusted(server, "its directory key is not the one that it had before"))
        if not await self._runtime.private.is_signed_by(server, key.certificate, self._runtime.now_ms()):
            return self._distrust(server, _untrusted(server, "its Matrix key did not certify its directory key"))
        if pinned is None:
            found = await self._runtime.database.run("directory_pin", partial(self._pin, key=key))
            logger.info("Pinned the directory key %s of %s on first use", found.key_id, server)
        else:
            repin = partial(store.repin, before=pinned, after=key)
            found = await self._runtime.database.run("directory_repin", repin)
            logger.info("%s replaced its directory key %s by %s", server, pinned.key_id, found.key_id)
        if found.public_key != key.public_key:
            return self._distrust(server, _untrusted(server, "its directory key is not the one that it had before"))
        return found

    async def peer(self, server: ServerName) -> Peer | None:
        return await self._runtime.database.run("directory_peer", partial(store.peer, server=server))

    async def meet(self, server: ServerName) -> bool:
        """Remember a server that has to do with us; whether that was worth writing down."""
        now_ms = self._runtime.now_ms()
        if now_ms - self._met.get(server, -_MEET_AGAIN_MS) < _MEET_AGAIN_MS:
            return False
        if len(self._met) >= _MAX_REMEMBERED:
            self._met.clear()
        self._met[server] = now_ms
        await self._runtime.database.run("directory_meet", partial(store.meet, server=server, now_ms=now_ms))
        return True

    async def forget_pin(self, server: ServerName) -> bool:
        """Trust the next key that the server's Matrix key certifies, and its log anew; whether there was a pin."""

        def work(cur: Cursor) -> bool:
            heads_store.forget_head(cur, server)
            return store.unpin(cur, server)

        return await self._runtime.database.run("directory_unpin", work)

    def _pin(self, cur: Cursor, key: DirectoryKey) -> DirectoryKey:
        store.meet(cur, key.server, self._runtime.now_ms())
        return store.pin(cur, key)

    async def _query(
        self, server: ServerName, name: FederationQuery, arguments: Mapping[str, str], timeout_ms: int
    ) -> Mapping[str, Any] | NoDirectory | Refused:
        try:
            return await self._runtime.private.query(server, name, arguments, timeout_ms)
        except NoAnswer as error:
            logger.debug("%s of %s: %s", name, server, error)
            if error.status == 404:
                return NO_DIRECTORY
            if error.status == 429:
                return Refused(
                    reason=Reason.TOO_MANY_REQUESTS,
                    message=f"The directory of {server} was asked too often; try again in a minute.",
                    fields={"retry_after_ms": 60_000},
                )
            return Refused(
                reason=Reason.PEER_UNREACHABLE,
                message=f"The homeserver {server} does not answer now; check the spelling, or try again later.",
            )

    @staticmethod
    def _distrust(server: ServerName, refused: Refused) -> Refused:
        _distrusted.inc()
        logger.warning("Distrusting the directory of %s: %s", server, refused.message)
        return refused


def _busy(server: ServerName) -> Refused:
    return Refused(
        reason=Reason.PEER_UNREACHABLE, message=f"The directory of {server} changes in this moment; try again."
    )


def _untrusted(server: ServerName, why: str) -> Refused:
    return Refused(
        reason=Reason.BAD_RECORD,
        message=(
            f"The directory of {server} cannot be trusted: {why}. Ask its operator; when it is right, the operator "
            "of this homeserver can forget the old key."
        ),
    )
