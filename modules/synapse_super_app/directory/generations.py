"""Generations of our own log: after a restore peers are asked what they have seen of it, and that is given up by name.

Until then nobody is answered: what we would show contradicts what we showed before the restore, and a peer that sees
that unexplained freezes us. A peer that could not be asked is heard later, when it says what it has seen (``gossip``).
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, cast

from prometheus_client import Gauge

from super_app.db import Cursor
from super_app.directory import generation_store, generations, heads_store, log, store
from super_app.directory.generation_store import OwnGeneration, Restore
from super_app.directory.log import origin_of
from super_app.signing import from_b64, key_id_of
from super_app.transparency import checkpoint
from synapse_super_app.directory.own import OwnHandles
from synapse_super_app.directory.peers import Peers
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_MAX_ASKED: Final = 200
_LOOK_AGAIN_MS: Final = 5_000

_number = Gauge("superapp_directory_log_generation", "Which generation our log is, counted from 0 by restores.")


class OwnGenerations:
    """What this homeserver says about restores of its own."""

    def __init__(self, runtime: Runtime, own: OwnHandles, peers: Peers) -> None:
        self._runtime = runtime
        self._own = own
        self._peers = peers
        self._settled = False
        self._looked_ms = -_LOOK_AGAIN_MS
        self._said: dict[str, Any] | None = None
        self._said_at_ms = -_LOOK_AGAIN_MS

    async def is_settling(self) -> bool:
        """Whether the peers are still being asked. A restore takes a restart, so once settled it stays so."""
        now_ms = self._runtime.now_ms()
        if not self._settled and now_ms - self._looked_ms >= _LOOK_AGAIN_MS:
            self._settled = not await self._runtime.database.run("directory_settling", generation_store.is_settling)
            self._looked_ms = now_ms
        return not self._settled

    async def settle(self) -> None:
        """Ask all peers what they have seen of our log, and declare what was lost; at the start of the main process."""
        database = self._runtime.database
        restores = await database.run("directory_restores", generation_store.restores)
        if not any(each.settled_ms is None for each in restores):
            self._settled = True
            return
        peers = await database.run("directory_peers", partial(store.peers, limit=_MAX_ASKED))
        lost: set[tuple[int, bytes]] = set()
        asked = 0
        for peer in peers:
            if peer.key is None:
                continue
            try:
                found = await self._lost_at(await self._peers.told(peer.server))
            except Exception:
                logger.exception("Asking %s what it has seen of our log failed", peer.server)
                continue
            asked += 1
            lost |= found
        # Also where nothing is known to be lost: whoever could not be asked is told that there was a restore.
        await self._declare(restores[-1], lost)
        await database.run("directory_settled", partial(generation_store.settle, now_ms=self._runtime.now_ms()))
        self._settled = True
        logger.warning(
            "This homeserver was restored from a backup. %d of its peers were asked: %s",
            asked,
            f"they have seen up to {max(size for size, _ in lost)} records, some of them lost; they are told so"
            if lost
            else "they have seen nothing of our log that is lost",
        )

    async def heard(self, size: int, root: bytes) -> bool:
        """A peer has seen a checkpoint that we signed and do not have. Whether a restore explains that; it says so."""
        restores = await self._runtime.database.run("directory_restores", generation_store.restores)
        if not restores:
            return False
        await self._declare(restores[-1], {(size, root)})
        return True

    async def statement(self) -> dict[str, Any] | None:
        """What goes with every answer: the newest generation, if there was a restore that lost something."""
        now_ms = self._runtime.now_ms()
        if now_ms - self._said_at_ms >= _LOOK_AGAIN_MS:
            found = await self._runtime.database.run("directory_own_generation", generation_store.own)
            if found is not None and found.statement["key_id"] != key_id_of(self._own.signer.key):
                found = await self._sign(found)
            self._said = None if found is None else found.statement
            self._said_at_ms = now_ms
            _number.set(0 if found is None else found.number)
        return self._said

    async def _lost_at(self, told: Sequence[object]) -> set[tuple[int, bytes]]:
        """The checkpoints of ours, by our signature, that a peer has seen and that our log does not have."""
        name = origin_of(self._runtime.server_name)
        keys = await self._runtime.database.run("directory_keys", heads_store.own_keys)
        found: set[tuple[int, bytes]] = set()
        for each in told:
            entry = cast(dict[str, Any], each) if isinstance(each, dict) else {}
            note = checkpoint.read_note(str(entry.get("checkpoint", "")))
            head = None if note is None else checkpoint.read_checkpoint(note)
            if note is None or head is None or head.origin != name or head.size == 0:
                continue
            if any(checkpoint.is_signed_by(note, name, from_b64(key)) for key, _ in keys):
                is_ours = partial(log.is_ours, old_size=head.size, root=head.root)
                if not await self._runtime.database.run("directory_is_ours", is_ours):
                    found.add((head.size, head.root))
        return found

    async def _declare(self, restore: Restore, lost: set[tuple[int, bytes]]) -> None:
        key, server = self._own.signer.key, self._runtime.server_name

        def work(cur: Cursor) -> None:
            generation_store.lock(cur)
            known = generation_store.own(cur)
            before = () if known is None else known.given_up
            # The same restore, of which one more peer was heard, or the next one.
            number = 1 if known is None else known.number + (known.declared_ms != restore.restored_ms)
            given_up = sorted({*before, *lost}, reverse=True)[: generations.MAX_GIVEN_UP]
            if known is not None and number == known.number and set(given_up) == set(before):
                return
            statement = generations.statement(
                key,
                server,
                number=number,
                base=(restore.base_size, restore.base_root),
                base_s=restore.base_s,
                declared_ms=restore.restored_ms,
                given_up=given_up,
            )
            found = OwnGeneration(
                number=number,
                base=(restore.base_size, restore.base_root),
                base_s=restore.base_s,
                declared_ms=restore.restored_ms,
                given_up=tuple(given_up),
                statement=statement,
            )
            generation_store.put_own(cur, found)

        await self._runtime.database.run("directory_declare", work)
        self._said_at_ms = -_LOOK_AGAIN_MS

    async def _sign(self, found: OwnGeneration) -> OwnGeneration:
        """The same under the directory key of now, which replaced another one."""
        statement = generations.statement(
            self._own.signer.key,
            self._runtime.server_name,
            number=found.number,
            base=found.base,
            base_s=found.base_s,
            declared_ms=found.declared_ms,
            given_up=found.given_up,
        )
        fresh = replace(found, statement=statement)
        await self._runtime.database.run("directory_resign", partial(generation_store.put_own, found=fresh))
        return fresh
