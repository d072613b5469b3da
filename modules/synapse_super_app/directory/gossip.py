"""Homeservers tell each other which heads of others they have seen, and witness each other's.

A server that shows one log to us and another one to somebody else is found out when the two of us compare. Runs on the
main process.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final, cast

from prometheus_client import Counter, Gauge

from super_app.db import Cursor
from super_app.directory import heads, heads_store, log
from super_app.directory.heads import MAX_SIZES, Evidence, SeenHead
from super_app.directory.heads_store import Cosigned
from super_app.directory.log import origin_of
from super_app.directory.model import DirectoryKey
from super_app.errors import Refused
from super_app.ids import ServerName
from super_app.signing import from_b64
from super_app.transparency import checkpoint
from synapse_super_app.directory.generations import OwnGenerations
from synapse_super_app.directory.heads import Heads
from synapse_super_app.directory.peers import Peers, Said
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_MAX_COMPARED: Final = 20_000
_PEERS_PER_ROUND: Final = 50

_compared = Counter("superapp_directory_heads_compared_total", "Heads of servers that another server has seen.")
_behind = Gauge(
    "superapp_directory_own_log_behind", "Leaves of our own log that a witness has seen and this database lacks."
)


class Gossip:
    """Compares what others have seen with what we have."""

    def __init__(self, runtime: Runtime, peers: Peers, known: Heads, own: OwnGenerations) -> None:
        self._runtime = runtime
        self._peers = peers
        self._heads = known
        self._own = own
        self._compared: set[tuple[ServerName, int, bytes]] = set()
        self._next = 0

    async def round(self) -> None:
        """Ask the servers whose heads we know, some at a time, for those that they know."""
        told = [each["server"] for each in await self._heads.told() if each["server"] != self._runtime.server_name]
        if not told:
            return
        begin = self._next % len(told)
        chosen = (told[begin:] + told[:begin])[:_PEERS_PER_ROUND]
        self._next = begin + len(chosen)
        for server in chosen:
            try:
                await self.listen(ServerName(server))
            except Exception:
                logger.exception("Comparing heads with %s failed; it is tried again", server)

    async def listen(self, witness: ServerName) -> None:
        """Ask one server which heads it has seen, and compare."""
        for each in await self._peers.told(witness):
            if not isinstance(each, dict):
                continue
            entry = cast(Mapping[str, Any], each)
            server, note = entry.get("server"), entry.get("checkpoint")
            if not isinstance(server, str) or not isinstance(note, str):
                continue
            if server == self._runtime.server_name:
                await self._witnessed_by(witness, note)
            elif server != witness:
                await self.compare(ServerName(server), note)

    async def compare(self, server: ServerName, note: str) -> Refused | None:
        """Whether a head that somebody else has seen fits what we have seen; the refusal if it is frozen now."""
        known = await self._heads.known(server)
        key = await self._key_of(server)
        if known is None or key is None or await self._heads.is_frozen(server):
            return None
        told = heads.read_old_head(note, key)
        if told is None or (server, told.size, told.root) in self._compared:
            return None
        _compared.inc()
        begun = await self._heads.last_generation(server)
        if begun is not None and told.time_s * 1000 < begun.generation.declared_ms:
            # From before a restore that it declared, and so compared with what was known then.
            before = heads.read_old_head(begun.before_note, key)
            lied = None if before is None else _contradiction(told, before)
            self._note(told)
            return None if lied is None else await self._heads.accuse(lied)
        found = _contradiction(told, known)
        if found is not None:
            return await self._heads.accuse(found)
        if told.size != known.size and told.size > 0:
            refused = await self._compare_grown(server, told, known)
            if refused is not None:
                return refused if refused.reason is heads.frozen_refusal(server).reason else None
        self._note(told)
        return None

    async def _compare_grown(self, server: ServerName, told: SeenHead, known: SeenHead) -> Refused | None:
        """One tree has to have both as its beginning. What is not proved now is compared again the next time."""
        said = await self._peers.head(server, sorted({told.size, known.size})[:MAX_SIZES])
        if not isinstance(said, Said):
            return said if isinstance(said, Refused) else heads.frozen_refusal(server)
        now = await self._heads.see_statement(said.key, known, said.statement, said.content)
        if isinstance(now, Refused):
            return now
        shown = heads.read_head(said.statement.checkpoint, said.key, self._runtime.now_ms())
        if isinstance(shown, Refused):
            return shown
        verdict = heads.judge(told, shown, said.statement.growth_from(told.size))
        if isinstance(verdict, Evidence):
            return await self._heads.accuse(verdict)
        return verdict if isinstance(verdict, Refused) else None

    async def _witnessed_by(self, witness: ServerName, note: str) -> None:
        """A server has cosigned a checkpoint of ours."""
        key = await self._key_of(witness)
        read = checkpoint.read_note(note)
        found = None if read is None else checkpoint.read_checkpoint(read)
        if key is None or read is None or found is None or found.origin != origin_of(self._runtime.server_name):
            return
        name, public = origin_of(witness), from_b64(key.public_key)
        cosigned = checkpoint.cosignature_of(read, name, public)
        if cosigned is None:
            return
        line = next(each.line() for each in read.signatures if each.name == name)
        kept = Cosigned(witness=witness, size=found.size, root=found.root, line=line, time_s=cosigned.time_s)

        def work(cur: Cursor) -> int | None:
            """How many leaves we lack; None if the checkpoint is of no tree that we ever had."""
            size = log.size(cur)
            if found.size > size:
                return found.size - size
            if found.size and not log.is_ours(cur, found.size, found.root):
                return None
            heads_store.put_cosignature(cur, kept)
            return 0

        lacking = await self._runtime.database.run("directory_cosigned", work)
        if lacking == 0:
            return
        # The checkpoint may be forged, as the witness gives it; only what our key signed says anything of us.
        ours = await self._ours(found.origin, note)
        if not ours or await self._own.heard(found.size, found.root):
            return
        _behind.set(lacking or 0)
        logger.error(
            "%s has seen a checkpoint of our own log with %d leaves that this database does not have. It is an older "
            "copy, or our directory key is in other hands. Other homeservers will freeze this one until their "
            "operators lift it",
            witness,
            found.size,
        )

    async def _ours(self, name: str, note: str) -> bool:
        read = checkpoint.read_note(note)
        keys = await self._runtime.database.run("directory_keys", heads_store.own_keys)
        return read is not None and any(checkpoint.is_signed_by(read, name, from_b64(each)) for each, _ in keys)

    async def _key_of(self, server: ServerName) -> DirectoryKey | None:
        peer = await self._peers.peer(server)
        return None if peer is None else peer.key

    def _note(self, told: SeenHead) -> None:
        if len(self._compared) >= _MAX_COMPARED:
            self._compared.clear()
        self._compared.add((told.server, told.size, told.root))


def _contradiction(told: SeenHead, known: SeenHead) -> Evidence | None:
    """What two heads of one server prove by themselves, whichever of them was seen first."""
    first, second = sorted((told, known), key=lambda each: (each.time_s, each.size))
    found = heads.judge(first, second, heads.Growth())
    return found if isinstance(found, Evidence) else None
