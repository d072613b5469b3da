"""The client API's part about whom this homeserver trusts: evidence against servers, server records, its own key."""

from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from super_app.directory import server_record
from super_app.directory.naming import split
from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from synapse_super_app.directory.budget import Budget
from synapse_super_app.directory.chains import Chains
from synapse_super_app.directory.description import SelfDescription
from synapse_super_app.directory.heads import Heads
from synapse_super_app.directory.own import OwnHandles
from synapse_super_app.directory.peers import NoDirectory, Peers, Said
from synapse_super_app.http.routes import Auth, Call, Route
from synapse_super_app.runtime import Runtime

_TIMEOUT_MS: Final = 5_000


class EvidenceItem(BaseModel):
    server: str
    kind: str
    """``split``: two logs of one size; ``fork``: one that did not grow out of the other; ``rollback``: a smaller one
    later; ``replay``: an old one given as that of now; ``rewrite``: a name that changed hands on the way through a
    restore (only the name is refused)."""
    found: int
    lifted: int | None = None
    lifted_by: str | None = None
    evidence: dict[str, Any]
    """The proof, to hand on as it is (docs/directory.md)."""


class DeclaredRestore(BaseModel):
    """A homeserver was restored from a backup, declared it, and its log went on from there."""

    server: str
    number: int
    begun: int
    kept: int
    """How many records of its log the backup had."""
    declaration: dict[str, Any]
    before: str
    """The checkpoint that was known until then, of a log that counts no more."""


class EvidenceList(BaseModel):
    evidence: list[EvidenceItem]
    restores: list[DeclaredRestore]


class Lifted(BaseModel):
    server: str


class ServerDescription(BaseModel):
    """A server record (docs/directory.md), signed. Fields that are not listed belong to it too."""

    model_config = ConfigDict(extra="allow")

    type: str
    v: int
    server: str
    seq: int
    directory_key: str
    features: dict[str, bool]
    issued: int
    expires: int
    key_id: str
    signature: str


class Chain(BaseModel):
    """From a record down to the Matrix key (docs/directory.md): what a client checks itself, link by link."""

    server: str
    record: dict[str, Any]
    certificate: dict[str, Any]
    rotations: list[dict[str, Any]] = []
    matrix_key_signed: bool
    """Whether this homeserver found a Matrix key of that server that certifies the directory key."""
    pinned_before: str | None = None
    log: dict[str, Any]
    seen_before: str | None = None
    """The checkpoint that this homeserver had seen before it asked, and the certificate of the key that signed it."""
    seen_certificate: dict[str, Any] | None = None
    witnesses: list[dict[str, Any]]
    frozen: bool


class RotatedKey(BaseModel):
    key_id: str
    public_key: str


class TrustRoutes:
    def __init__(
        self, runtime: Runtime, own: OwnHandles, peers: Peers, known: Heads, described: SelfDescription, chains: Chains
    ) -> None:
        self._runtime = runtime
        self._own = own
        self._peers = peers
        self._heads = known
        self._self = described
        self._chains = chains
        # As slow as asking for handles that nobody has, since that is what it can be used for.
        self._questions = Budget(burst=60, every_ms=10_000)

    def routes(self) -> Sequence[Route]:
        return (
            Route(
                method="GET",
                path="directory/servers/{server}",
                handler=self.server,
                response=ServerDescription,
                summary="What a homeserver says of itself, signed: keys, features, fees, links",
                reasons=(Reason.PEER_UNREACHABLE, Reason.BAD_RECORD, Reason.UNKNOWN_PEER, Reason.SERVER_FROZEN),
            ),
            Route(
                method="GET",
                path="directory/verify/{handle}",
                handler=self.verify,
                response=Chain,
                summary="All by which the record of a handle can be checked, asked for now",
                reasons=(
                    Reason.HANDLE_INVALID,
                    Reason.UNKNOWN_HANDLE,
                    Reason.PEER_UNREACHABLE,
                    Reason.BAD_RECORD,
                    Reason.SERVER_FROZEN,
                    Reason.TOO_MANY_REQUESTS,
                ),
            ),
            Route(
                method="GET",
                path="admin/directory/evidence",
                handler=self.evidence,
                response=EvidenceList,
                auth=Auth.ADMIN,
                summary="Proofs that servers contradicted themselves, the newest first",
            ),
            Route(
                method="DELETE",
                path="admin/directory/evidence/{server}",
                handler=self.lift,
                response=Lifted,
                auth=Auth.ADMIN,
                summary="Lift the freeze of a server: deal with it again, from the log that it shows now",
                reasons=(Reason.UNKNOWN_PEER,),
            ),
            Route(
                method="POST",
                path="admin/directory/rotate-key",
                handler=self.rotate,
                response=RotatedKey,
                auth=Auth.ADMIN,
                summary="Replace the directory key of this homeserver by a new one, which the old one signs",
            ),
        )

    async def server(self, call: Call) -> ServerDescription | Refused:
        server = ServerName(call.path["server"])
        if server == self._runtime.server_name:
            return ServerDescription.model_validate(await self._self.current())
        if await self._peers.peer(server) is None:
            return _unknown(server)
        said = await self._peers.head(server, [0], _TIMEOUT_MS)
        if isinstance(said, NoDirectory):
            return _unknown(server)
        if not isinstance(said, Said):
            return said
        found = server_record.read(said.answer.get("record"), server, said.key.public_key, self._runtime.now_ms())
        return found if isinstance(found, Refused) else ServerDescription.model_validate(dict(found.content))

    async def verify(self, call: Call) -> Chain | Refused:
        spent = self._questions.take(call.user_id, self._runtime.now_ms())
        parts = split(call.path["handle"], self._runtime.server_name)
        if spent is not None:
            return spent
        if isinstance(parts, Refused):
            return parts
        found = await self._chains.of(*parts, asker=call.user_id)
        return found if isinstance(found, Refused) else Chain.model_validate(found)

    async def evidence(self, call: Call) -> EvidenceList:
        return EvidenceList(
            restores=[
                DeclaredRestore(
                    server=each.generation.server,
                    number=each.generation.number,
                    begun=each.begun_ms,
                    kept=each.generation.base_size,
                    declaration=dict(each.generation.content),
                    before=each.before_note,
                )
                for each in await self._heads.generations()
            ],
            evidence=[
                EvidenceItem(
                    server=each.evidence.server,
                    kind=each.evidence.kind.value,
                    found=each.found_ms,
                    lifted=each.lifted_ms,
                    lifted_by=each.lifted_by,
                    evidence=dict(each.evidence.content),
                )
                for each in await self._heads.evidence()
            ],
        )

    async def lift(self, call: Call) -> Lifted | Refused:
        server = ServerName(call.path["server"])
        if await self._heads.lift(server, call.user_id):
            return Lifted(server=server)
        return Refused(
            reason=Reason.UNKNOWN_PEER,
            message=f"{server[:255]!a} is not frozen; GET admin/directory/evidence lists all.",
        )

    async def rotate(self, call: Call) -> RotatedKey:
        await self._own.rotate_key()
        certificate = self._own.signer.certificate()
        return RotatedKey(key_id=certificate["key_id"], public_key=certificate["public_key"])


def _unknown(server: ServerName) -> Refused:
    return Refused(
        reason=Reason.UNKNOWN_PEER,
        message=f"{server[:255]!a} is no homeserver with a directory that this one has dealt with.",
    )
