"""Gathers all by which a record can be checked, for whoever wants to check it: ``super_app.directory.chain`` does."""

from collections.abc import Mapping
from typing import Any, Final

from super_app.directory import heads
from super_app.directory.model import AskedBy, Record, full
from super_app.directory.naming import normalise
from super_app.directory.rules import Sight, no_such_handle, sight_of
from super_app.errors import Reason, Refused
from super_app.ids import ServerName, UserId
from super_app.transparency import checkpoint
from synapse_super_app.directory.heads import Heads
from synapse_super_app.directory.log import OwnLog
from synapse_super_app.directory.own import OwnHandles
from synapse_super_app.directory.peers import NoDirectory, Peers, Proved, Said
from synapse_super_app.runtime import Runtime

_TIMEOUT_MS: Final = 10_000


class Chains:
    def __init__(self, runtime: Runtime, own: OwnHandles, peers: Peers, known: Heads, own_log: OwnLog) -> None:
        self._runtime = runtime
        self._own = own
        self._peers = peers
        self._heads = known
        self._log = own_log

    async def of(self, text: str, server: ServerName, *, asker: UserId) -> dict[str, Any] | Refused:
        """The chain of a handle, asked for now. What does not verify is refused as everywhere."""
        if server == self._runtime.server_name:
            return await self._own_chain(text, asker)
        name = normalise(text)
        return name if isinstance(name, Refused) else await self._chain_of(full(name, server), server)

    async def _own_chain(self, text: str, asker: UserId) -> dict[str, Any] | Refused:
        server = self._runtime.server_name
        held = await self._own.find(text, AskedBy.HANDLE)
        is_owner = held is not None and held.user_id == asker
        if held is None or sight_of(held, AskedBy.HANDLE, is_owner=is_owner, shares_room=False) is not Sight.RECORD:
            return no_such_handle(f"@{text}:{server}")
        record = await self._own.record(held)
        proof = None if record is None else await self._log.proof_of(held.name, record, 0)
        if record is None or proof is None:
            return Refused(reason=Reason.STARTING, message="That handle changes in this moment; ask again.")
        identity = await self._own.signer.identity()
        cosigned = await self._log.cosigned(await self._log.newest())
        return {
            "server": server,
            "record": dict(record),
            **identity,
            "matrix_key_signed": True,
            "pinned_before": identity["certificate"]["public_key"],
            "log": proof,
            "witnesses": await self._witnesses(server, cosigned),
            "frozen": False,
        }

    async def _chain_of(self, asked: str, server: ServerName) -> dict[str, Any] | Refused:
        peer = await self._peers.peer(server)
        found = await self._peers.prove(server, asked, AskedBy.HANDLE, _TIMEOUT_MS)
        if isinstance(found, NoDirectory):
            return Refused(
                reason=Reason.PEER_UNREACHABLE, message=f"{server[:255]!a} runs no directory, so nobody vouches there."
            )
        if not isinstance(found, Proved):
            return found
        if not isinstance(found.answer, Record) or found.proof is None:
            return no_such_handle(asked)
        said = await self._peers.head(server, [0], _TIMEOUT_MS)
        cosigned = str(said.answer.get("cosigned")) if isinstance(said, Said) else ""
        signed = await self._runtime.private.is_signed_by(server, found.key.certificate, self._runtime.now_ms())
        rotations = found.content.get("rotations")
        return {
            "server": server,
            "record": dict(found.answer.content),
            "certificate": dict(found.key.certificate),
            **({"rotations": rotations} if isinstance(rotations, list) else {}),
            "matrix_key_signed": signed,
            **({} if peer is None or peer.key is None else {"pinned_before": peer.key.public_key}),
            "log": found.content["log"],
            **_seen(found.known),
            "witnesses": [*await self._ours(server), *await self._witnesses(server, cosigned)],
            "frozen": await self._heads.is_frozen(server),
        }

    async def _ours(self, server: ServerName) -> list[Mapping[str, Any]]:
        """Our own word as a witness."""
        seen = await self._heads.witnessed(server)
        if seen is None:
            return []
        certificate = self._own.signer.certificate()
        note = seen.head.note + seen.cosignature
        return [{"server": self._runtime.server_name, "certificate": certificate, "checkpoint": note}]

    async def _witnesses(self, server: ServerName, cosigned: str) -> list[Mapping[str, Any]]:
        """The witnesses of a checkpoint whose keys we know, each with its certificate."""
        note = checkpoint.read_note(cosigned)
        suffix = "/superapp/directory"
        names = [] if note is None else [each.name for each in note.signatures if each.name.endswith(suffix)]
        found: list[Mapping[str, Any]] = []
        for name in dict.fromkeys(names):
            witness = ServerName(name.removesuffix(suffix))
            peer = None if witness in (server, self._runtime.server_name) else await self._peers.peer(witness)
            if peer is not None and peer.key is not None:
                certificate = dict(peer.key.certificate)
                found.append({"server": witness, "certificate": certificate, "checkpoint": cosigned})
        return found


def _seen(known: heads.SeenHead | None) -> dict[str, Any]:
    if known is None:
        return {}
    return {"seen_before": known.note, "seen_certificate": dict(known.key.certificate)}
