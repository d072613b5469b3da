"""What this homeserver has seen of other servers' logs: the head of each, our cosignature on it, and evidence.

A server against which there is evidence is frozen: it is not believed, found or paid until an admin lifts it.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from prometheus_client import Counter, Gauge

from super_app.db import Cursor
from super_app.directory import generation_store, generations, heads, heads_store, store
from super_app.directory.generations import Begun, Generation
from super_app.directory.heads import Evidence, Growth, HeadStatement, SeenHead
from super_app.directory.heads_store import Kept, Witnessed
from super_app.directory.log import origin_of
from super_app.directory.model import DirectoryKey
from super_app.errors import Refused
from super_app.ids import ServerName
from super_app.transparency import checkpoint
from synapse_super_app.directory.own import OwnHandles
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_MAX_TOLD: Final = 500
_MAX_EVIDENCE: Final = 1_000
_LOOK_AGAIN_MS: Final = 10_000

_evidence = Counter(
    "superapp_directory_evidence_total", "Proofs that a server contradicted itself, by what it did.", ["kind"]
)
_frozen = Gauge("superapp_directory_frozen_servers", "Servers that are frozen because of evidence against them.")


class Heads:
    """Judges what other servers show of their logs, and remembers it."""

    def __init__(self, runtime: Runtime, own: OwnHandles) -> None:
        self._runtime = runtime
        self._own = own
        self._frozen: frozenset[ServerName] = frozenset()
        self._looked_ms = -_LOOK_AGAIN_MS

    async def known(self, server: ServerName) -> SeenHead | None:
        found = await self.witnessed(server)
        return None if found is None else found.head

    async def witnessed(self, server: ServerName) -> Witnessed | None:
        return await self._runtime.database.run("directory_head", partial(heads_store.head, server=server))

    async def see(
        self,
        key: DirectoryKey,
        known: SeenHead | None,
        note: str,
        growth: Growth,
        declared: Generation | None = None,
    ) -> SeenHead | Refused | None:
        """A checkpoint that a server shows now, judged by what is known; None if that changed meanwhile: ask again.

        ``declared`` is a restore that the server declared beside it, without naming what is known here.
        """
        now_ms = self._runtime.now_ms()
        fresh = heads.read_head(note, key, now_ms)
        if isinstance(fresh, Refused):
            return fresh
        verdict = heads.judge(known, fresh, growth)
        if isinstance(verdict, Evidence):
            excused = declared is not None and await self._is_excused(declared)
            return generations.not_named(key.server) if excused else await self.accuse(verdict)
        if isinstance(verdict, Refused) or verdict is known:
            return verdict
        remember = partial(
            heads_store.replace_head,
            known=known,
            fresh=verdict,
            cosignature=self._cosigned(verdict, now_ms),
            now_ms=now_ms,
        )
        return verdict if await self._runtime.database.run("directory_see", remember) else None

    async def see_statement(
        self, key: DirectoryKey, known: SeenHead | None, said: HeadStatement, content: Mapping[str, Any]
    ) -> SeenHead | Refused | None:
        """As ``see``, for a server's signed word about its log, which is evidence itself if it is an old one."""
        found = None if known is None else heads.judge_statement(known, said, content, key)
        if found is not None:
            return await self.accuse(found)
        return await self.see(key, known, said.checkpoint, said.growth_from(0 if known is None else known.size))

    async def _is_excused(self, declared: Generation) -> bool:
        now_ms = self._runtime.now_ms()

        def work(cur: Cursor) -> bool:
            last = generation_store.last(cur, declared.server)
            if last is not None and declared.number <= last.generation.number:
                return False
            return generations.is_excused(generation_store.see(cur, declared, now_ms), now_ms)

        return await self._runtime.database.run("directory_excused", work)

    async def begin(
        self, known: SeenHead, fresh: SeenHead, growth: Growth, declared: Generation
    ) -> SeenHead | Refused | None:
        """Go on with the log of a server that was restored; the refusal if what it declares is none."""
        now_ms = self._runtime.now_ms()
        cosignature = self._cosigned(fresh, now_ms)

        def work(cur: Cursor) -> SeenHead | Refused | None:
            last = generation_store.last(cur, declared.server)
            refused = generations.judge(declared, known, fresh, growth, last, now_ms)
            if refused is not None:
                return refused
            if not heads_store.replace_head(cur, known, fresh, cosignature, now_ms):
                return None
            generation_store.begin(cur, declared, known.note, now_ms)
            # Its feed counts from where its backup did.
            store.set_feed_position(cur, declared.server, 0)
            store.set_polled(cur, declared.server, 0)
            return fresh

        found = await self._runtime.database.run("directory_begin", work)
        if isinstance(found, SeenHead):
            logger.warning(
                "The homeserver %s was restored from a backup of %d records and says so; %d that were seen here count "
                "no more. GET admin/directory/evidence shows what it signed",
                declared.server,
                declared.base_size,
                known.size - declared.base_size,
            )
        return found

    async def last_generation(self, server: ServerName) -> Begun | None:
        return await self._runtime.database.run("directory_generation", partial(generation_store.last, server=server))

    async def generations(self) -> Sequence[Begun]:
        """The restores of other homeservers with which we went on."""
        return await self._runtime.database.run(
            "directory_generations", partial(generation_store.all_begun, limit=_MAX_EVIDENCE)
        )

    async def accuse(self, evidence: Evidence) -> Refused:
        """Keep the proof, freeze the server and tell the operator."""
        add = partial(heads_store.add_evidence, evidence=evidence, now_ms=self._runtime.now_ms())
        if await self._runtime.database.run("directory_accuse", add):
            _evidence.labels(evidence.kind.value).inc()
            logger.error(
                "The homeserver %s has equivocated (%s): what it signed about its directory contradicts itself. Nobody "
                "is found or paid there from now on. GET admin/directory/evidence has the proof; DELETE "
                "admin/directory/evidence/%s deals with it again",
                evidence.server,
                evidence.kind,
                evidence.server,
            )
        await self.frozen(at_once=True)
        return heads.frozen_refusal(evidence.server)

    async def is_frozen(self, server: ServerName) -> bool:
        return await self._runtime.database.run("directory_frozen", partial(heads_store.is_frozen, server=server))

    async def frozen(self, *, at_once: bool = False) -> frozenset[ServerName]:
        """The servers that are frozen; what another process has found is known within ten seconds."""
        now_ms = self._runtime.now_ms()
        if at_once or now_ms - self._looked_ms >= _LOOK_AGAIN_MS:
            self._frozen = await self._runtime.database.run("directory_frozen_all", heads_store.frozen)
            self._looked_ms = now_ms
            _frozen.set(len(self._frozen))
        return self._frozen

    async def evidence(self) -> Sequence[Kept]:
        return await self._runtime.database.run(
            "directory_evidence", partial(heads_store.evidence, limit=_MAX_EVIDENCE)
        )

    async def lift(self, server: ServerName, by: str) -> bool:
        """Deal with a server again; its feed is read anew. False if it was not frozen."""
        now_ms = self._runtime.now_ms()

        def work(cur: Cursor) -> bool:
            if not heads_store.lift(cur, server, by, now_ms):
                return False
            store.set_feed_position(cur, server, 0)
            store.set_polled(cur, server, 0)
            return True

        lifted = await self._runtime.database.run("directory_lift", work)
        if lifted:
            logger.warning("%s lifted the freeze of %s", by, server)
        await self.frozen(at_once=True)
        return lifted

    async def told(self) -> list[dict[str, Any]]:
        """The heads that we have seen, with our cosignature: what ``peers`` answers."""
        found = await self._runtime.database.run("directory_heads", partial(heads_store.heads, limit=_MAX_TOLD))
        return [{"server": each.head.server, "checkpoint": each.head.note + each.cosignature} for each in found]

    def _cosigned(self, head: SeenHead, now_ms: int) -> str:
        """Our word as a witness that we have seen the log grow into this."""
        name = origin_of(self._runtime.server_name)
        return checkpoint.cosign(head.text, name, self._own.signer.key, now_ms // 1000).line()
