"""Other servers' logs: whether a checkpoint grew out of the one before, and the proof if a server contradicts itself.

Pure. A server whose signed words cannot all be true has equivocated, whoever is shown them; what merely cannot be
believed (no proof, an old checkpoint) is refused and proves nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, TypeVar, cast

from pydantic import Field, ValidationError

from super_app.directory.log import entry_of, origin_of
from super_app.directory.model import DirectoryKey
from super_app.directory.records import read_certificate
from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from super_app.names import NAMESPACE
from super_app.signing import canonical, digest, digest_of, from_b64, to_b64, verify
from super_app.transparency import checkpoint, tree
from super_app.wire import OpenWireModel

MAX_AGE_S: Final = 900
"""A checkpoint whose own time is further back is an old one that is shown again. Servers renew theirs each minute."""
CLOCK_SKEW_S: Final = 300
HEAD_TYPE: Final = f"{NAMESPACE}.directory.head"
EVIDENCE_TYPE: Final = f"{NAMESPACE}.directory.evidence"
_REPLAYED_AFTER_MS: Final = 600_000
"""A head that was said so much later than a larger checkpoint is no answer that was slow."""
_MAX_HASHES: Final = 20_000
_MAX_LEAVES: Final = 500
MAX_SIZES: Final = 16
"""From how many sizes one question about a log may ask for proofs."""

M = TypeVar("M", bound=OpenWireModel)
Size = Annotated[int, Field(ge=0, le=2**53 - 1)]


class Kind(StrEnum):
    """How a server contradicted itself."""

    SPLIT = "split"  # two checkpoints of one size
    FORK = "fork"  # a larger tree that did not grow out of the smaller one
    ROLLBACK = "rollback"  # a smaller tree, signed as the whole log at a later time
    REPLAY = "replay"  # an old checkpoint, given as the log of now
    REWRITE = (
        "rewrite"  # a name that changed its owner on the way through a restore; the name is refused, not the server
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenHead:
    """A verified checkpoint of another server. ``time_s`` is by its own cosignature: when this was all of its log."""

    server: ServerName
    size: int
    root: bytes
    note: str
    time_s: int
    key: DirectoryKey

    @property
    def text(self) -> str:
        return self.note.partition("\n\n")[0] + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A portable proof: ``content`` has all that a stranger needs to check it (``verify_evidence``)."""

    server: ServerName
    kind: Kind
    content: Mapping[str, Any]

    @property
    def evidence_id(self) -> str:
        return digest(dict(self.content))


class _Leaf(OpenWireModel):
    index: Size
    salt: str


class Growth(OpenWireModel):
    """That the checkpoint's tree begins with the one of size ``from``, whose root is ``from_root``."""

    since: Annotated[Size | None, Field(alias="from")] = None
    from_root: str | None = None
    consistency: Annotated[list[str], Field(max_length=200)] = []


class LogProof(Growth):
    """``log`` in the answer to ``resolve``."""

    checkpoint: str
    index: Size
    salt: str
    inclusion: Annotated[list[str], Field(max_length=64)]


class PageProof(Growth):
    """``log`` in a page of the feed."""

    checkpoint: str
    leaves: Annotated[list[_Leaf | None], Field(max_length=_MAX_LEAVES)]
    inclusion: Annotated[list[str], Field(max_length=_MAX_HASHES)]


class HeadStatement(OpenWireModel):
    """The answer to ``head``, signed: what the server says is its log now, and what it grew out of."""

    type: Literal["org.superapp.directory.head"]
    v: Literal[1]
    server: str
    issued: Size
    checkpoint: str
    growths: Annotated[list[Growth], Field(max_length=MAX_SIZES)]
    key_id: str
    signature: str

    def growth_from(self, size: int) -> Growth:
        return next((each for each in self.growths if each.since == size), Growth())


# Reading.


def read_log_proof(content: object, server: ServerName) -> LogProof | Refused:
    return _parsed(LogProof, content, server)


def read_page_proof(content: object, server: ServerName) -> PageProof | Refused:
    return _parsed(PageProof, content, server)


def read_head_statement(content: object, server: ServerName, public_key: str) -> HeadStatement | Refused:
    found = _parsed(HeadStatement, content, server)
    if isinstance(found, Refused):
        return found
    if found.server != server or not verify(cast(Mapping[str, Any], content), public_key):
        return _bad(server, "its word about its log is not signed by it")
    return found


def _parsed(model: type[M], content: object, server: ServerName) -> M | Refused:
    try:
        return model.model_validate(content)
    except ValidationError:
        return _bad(server, "it gives no proof that its answer is in its log")


def read_old_head(note: str, key: DirectoryKey) -> SeenHead | None:
    """A checkpoint that the server signed at whatever time, as others tell of it."""
    return _signed_head(note, key)


def read_head(note: str, key: DirectoryKey, now_ms: int) -> SeenHead | Refused:
    """A checkpoint that the server signed, and that was all of its log until a moment ago."""
    head = _signed_head(note, key)
    if head is None:
        return _bad(key.server, "the checkpoint of its log is not signed by it")
    now_s = now_ms // 1000
    if not now_s - MAX_AGE_S <= head.time_s <= now_s + CLOCK_SKEW_S:
        return _bad(key.server, "the checkpoint of its log is not of now; it is shown again, or the clocks differ")
    return head


def _signed_head(note: str, key: DirectoryKey) -> SeenHead | None:
    read = checkpoint.read_note(note)
    found = None if read is None else checkpoint.read_checkpoint(read)
    if read is None or found is None:
        return None
    name, public = origin_of(key.server), from_b64(key.public_key)
    cosigned = checkpoint.cosignature_of(read, name, public)
    if found.origin != name or cosigned is None or not checkpoint.is_signed_by(read, name, public):
        return None
    # Signatures of others stay away: who they are is not for the server to say.
    own = checkpoint.Note(text=read.text, signatures=tuple(each for each in read.signatures if each.name == name))
    return SeenHead(
        server=key.server, size=found.size, root=found.root, note=own.dump(), time_s=cosigned.time_s, key=key
    )


# Judging.


def judge(known: SeenHead | None, fresh: SeenHead, growth: Growth) -> SeenHead | Refused | Evidence:
    """What to remember after a checkpoint was shown: it, or what is known. ``growth`` should begin at ``known``."""
    if known is None:
        return fresh
    if fresh.size == known.size:
        if fresh.root != known.root:
            return _evidence(Kind.SPLIT, known, fresh)
        return fresh if fresh.time_s > known.time_s else known
    if fresh.size < known.size:
        if fresh.time_s > known.time_s:
            return _evidence(Kind.ROLLBACK, known, fresh)
        return _bad(known.server, "it shows a checkpoint of its log that is older than one it showed before")
    grown = root_before(known.size, fresh, growth)
    if grown is None:
        return _bad(known.server, "it does not prove that its log only grew")
    if grown != known.root:
        more = {"from_root": to_b64(grown), "consistency": list(growth.consistency)}
        return _evidence(Kind.FORK, known, fresh, **more)
    return fresh


def judge_statement(
    known: SeenHead, said: HeadStatement, content: Mapping[str, Any], key: DirectoryKey
) -> Evidence | None:
    """Whether a server's word about its log now is that of an old one."""
    shown = _signed_head(said.checkpoint, key)
    if shown is None or shown.size >= known.size or said.issued < known.time_s * 1000 + _REPLAYED_AFTER_MS:
        return None
    return Evidence(
        server=known.server,
        kind=Kind.REPLAY,
        content={**_common(Kind.REPLAY, known, key), "second": dict(content)},
    )


def root_before(size: int, fresh: SeenHead, growth: Growth) -> bytes | None:
    """The root that the first ``size`` leaves of a checkpoint's tree have, as its proof shows."""
    root, proof = _hash(growth.from_root), _hashes(growth.consistency)
    if growth.since != size or root is None or proof is None:
        return None
    return root if tree.verify_consistency(size, root, fresh.size, fresh.root, proof) else None


def _common(kind: Kind, first: SeenHead, key: DirectoryKey) -> dict[str, Any]:
    return {
        "type": EVIDENCE_TYPE,
        "v": 1,
        "kind": kind.value,
        "server": first.server,
        "certificates": [dict(first.key.certificate), dict(key.certificate)],
        "first": first.note,
    }


def _evidence(kind: Kind, first: SeenHead, second: SeenHead, **more: Any) -> Evidence:
    content = {**_common(kind, first, second.key), "second": second.note, **more}
    return Evidence(server=first.server, kind=kind, content=content)


def verify_evidence(content: Mapping[str, Any]) -> Evidence | None:
    """The proof that an object is, if it is one. Whether its two certificates are the server's is for a keyring."""
    server = ServerName(str(content.get("server")))
    found_keys: object = content.get("certificates")
    certificates = cast(list[object], found_keys) if isinstance(found_keys, list) else []
    if content.get("type") != EVIDENCE_TYPE or len(certificates) != 2:
        return None
    first_key, second_key = (read_certificate(each, server) for each in certificates)
    if isinstance(first_key, Refused) or isinstance(second_key, Refused):
        return None
    first = _signed_head(str(content.get("first")), first_key)
    if first is None:
        return None
    second = content.get("second")
    found: object
    if isinstance(second, dict):
        second = cast(dict[str, Any], second)
        said = read_head_statement(second, server, second_key.public_key)
        found = None if isinstance(said, Refused) else judge_statement(first, said, second, second_key)
    else:
        shown = _signed_head(str(second), second_key)
        growth = _parsed(Growth, {**content, "from": first.size}, server)
        found = None if shown is None or isinstance(growth, Refused) else judge(first, shown, growth)
    if not isinstance(found, Evidence) or found.kind.value != content.get("kind"):
        return None
    return Evidence(server=server, kind=found.kind, content=content)


# Inclusion.


def check_inclusion(record: Mapping[str, Any], proof: LogProof, head: SeenHead) -> Refused | None:
    """Whether a record is in the log that a checkpoint is of."""
    leaf, hashes = leaf_of(record, proof.salt), _hashes(proof.inclusion)
    if leaf is None or hashes is None or not tree.verify_inclusion(leaf, proof.index, head.size, hashes, head.root):
        return _bad(head.server, "a record is not in its log")
    return None


def not_in_log(server: ServerName) -> Refused:
    """What is said of a record of a feed that comes without its place in the log."""
    return _bad(server, "a record of its feed is not in its log")


def check_page(texts: Sequence[bytes | None], proof: PageProof, head: SeenHead) -> list[bool] | Refused:
    """Which entries of a page of the feed, in canonical JSON, are in the log; None stands for one that is no record."""
    if len(texts) != len(proof.leaves):
        return _bad(head.server, "a page of its feed has another number of leaves than of entries")
    leaves: dict[int, bytes] = {}
    are_in: list[bool] = []
    for text, place in zip(texts, proof.leaves, strict=True):
        leaf = None if text is None or place is None else _leaf_of(text, place.salt)
        if leaf is not None and place is not None and leaves.setdefault(place.index, leaf) != leaf:
            # Only one of them would be looked for in the tree.
            return _bad(head.server, "two entries of its feed are said to be the same leaf of its log")
        are_in.append(leaf is not None)
    hashes = _hashes(proof.inclusion)
    if leaves and (hashes is None or not tree.verify_batch(leaves, head.size, hashes, head.root)):
        return _bad(head.server, "records of its feed are not in its log")
    return are_in


def leaf_of(record: Mapping[str, Any], salt: str) -> bytes | None:
    """The leaf's hash of a record; None for a salt that is none, or for what cannot be canonical JSON."""
    try:
        return _leaf_of(canonical(dict(record)), salt)
    except (ValueError, TypeError):
        return None


def _leaf_of(text: bytes, salt: str) -> bytes | None:
    raw = _hash(salt)
    return None if raw is None else tree.leaf_hash(entry_of(raw, digest_of(text)))


def frozen_refusal(server: ServerName) -> Refused:
    return Refused(
        reason=Reason.SERVER_FROZEN,
        message=(
            f"The homeserver {server} has signed two accounts of its directory that contradict each other, so nobody "
            "is paid or found there until the operator of this homeserver has looked into it."
        ),
    )


def _hash(text: str | None) -> bytes | None:
    try:
        raw = from_b64(text or "")
    except ValueError:
        return None
    return raw if len(raw) == tree.HASH_BYTES else None


def _hashes(texts: Sequence[str]) -> list[bytes] | None:
    found = [_hash(text) for text in texts]
    return None if None in found else [each for each in found if each is not None]


def _bad(server: ServerName, what: str) -> Refused:
    return Refused(
        reason=Reason.BAD_RECORD,
        message=f"The directory of {server} cannot be trusted with this answer: {what}. Its operator has to look.",
    )
