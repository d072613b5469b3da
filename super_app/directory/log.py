"""The homeserver's own log: every record that it issues is a leaf of one RFC 6962 tree that only grows.

A leaf is appended in the transaction that issues the record, as a salted hash: whoever has the record and the salt can
find it in the tree, and the tree by itself names nobody. Tiles and the signed checkpoint follow when somebody asks for
them, in whatever process; a crash in between leaves leaves that the next checkpoint covers.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final

from nacl.signing import SigningKey

from super_app.db import Cursor
from super_app.directory import log_store
from super_app.directory.log_store import Log, Logged, Tiles
from super_app.ids import ServerName
from super_app.signing import from_b64, key_id_of, to_b64
from super_app.transparency import checkpoint, tiles, tree
from super_app.transparency.checkpoint import Checkpoint, Note
from super_app.transparency.tiles import Tile

SALT_BYTES: Final = 32
SERVER_RECORD: Final = ""
"""The subject of the server record among the names."""
_LEAVES_AT_ONCE: Final = 65_536
_COSIGN_AGAIN_S: Final = 60
"""How old the time of a checkpoint may be when it is given out; see ``heads.MAX_AGE_S`` for what readers accept."""


def origin_of(server: ServerName) -> str:
    """The name of a server's log, and of its keys, in checkpoints."""
    return f"{server}/superapp/directory"


def entry_of(salt: bytes, record_digest: str) -> bytes:
    """The leaf of a record: SHA-256 of the salt and the record's hash. Says nothing to who has not both."""
    return sha256(salt + from_b64(record_digest)).digest()


def append(cur: Cursor, subject: str, record_digest: str, salt_seed: bytes) -> None:
    """Append the newest record of a subject. ``salt_seed`` is random and made for this transaction."""
    salt = sha256(salt_seed + from_b64(record_digest)).digest()
    number = log_store.append(cur, entry_of(salt, record_digest))
    log_store.set_logged(cur, subject, record_digest, number, salt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A checkpoint of the log, and how far it reaches."""

    size: int
    root: bytes
    note: str


def head(cur: Cursor, server: ServerName, key: SigningKey, *, covering: int, now_ms: int) -> Head:
    """A checkpoint of now that covers the first ``covering`` leaves, or some of them if there are very many new ones.

    Two processes that sign at once do it one after the other, so that sizes and times never contradict.
    """
    log = log_store.read(cur)
    now_s = now_ms // 1000
    if not _is_good(log, key, covering, now_s):
        log = log_store.lock(cur)
        if not _is_good(log, key, covering, now_s):
            log = _signed(_grown(cur, log), server, key, now_s)
            log_store.set_checkpoint(cur, log)
    return Head(size=log.tree_size, root=log.root, note=log.note)


def _is_good(log: Log, key: SigningKey, covering: int, now_s: int) -> bool:
    return log.tree_size >= covering and log.key_id == key_id_of(key) and now_s - log.time_s < _COSIGN_AGAIN_S


def _grown(cur: Cursor, log: Log) -> Log:
    """The log with its new leaves in the tiles."""
    size = min(log.size, log.tree_size + _LEAVES_AT_ONCE)
    if size == log.tree_size:
        return log
    fresh = [tree.leaf_hash(entry) for entry in log_store.entries(cur, log.tree_size, size)]
    if len(fresh) != size - log.tree_size:
        raise RuntimeError(f"the log has {len(fresh)} leaves after {log.tree_size} where it should have {size}")
    border = Tiles(cur).tiles(tiles.border_of(log.tree_size))
    log_store.put_tiles(cur, tiles.grown(log.tree_size, border, fresh))
    return replace(log, tree_size=size, root=tiles.root(Tiles(cur), size))


def _signed(log: Log, server: ServerName, key: SigningKey, now_s: int) -> Log:
    time_s = max(now_s, log.time_s)
    name = origin_of(server)
    text = Checkpoint(origin=name, size=log.tree_size, root=log.root).text()
    # The log cosigns itself, which says when this was all of it.
    note = Note(
        text=text, signatures=(checkpoint.sign(text, name, key), checkpoint.cosign(text, name, key, time_s))
    ).dump()
    return replace(log, note=note, key_id=key_id_of(key), time_s=time_s)


# Proofs.


def logged(cur: Cursor, subject: str, record_digest: str) -> Logged | None:
    """The leaf of a record, if it is the subject's newest."""
    found = log_store.logged(cur, [subject]).get(subject)
    return found if found is not None and found.digest == record_digest else None


def size(cur: Cursor) -> int:
    """How many leaves there are, those that no checkpoint covers yet included."""
    return log_store.read(cur).size


def inclusion(cur: Cursor, leaf: Logged, now: Head) -> dict[str, Any]:
    """The leaf of a record and the proof that it is in the tree, as they go over the wire."""
    proof = tiles.hashes(Tiles(cur), tree.inclusion_parts(leaf.number, now.size))
    return {"index": leaf.number, "salt": leaf.salt, "inclusion": _on_the_wire(proof), "checkpoint": now.note}


def batch(cur: Cursor, leaves: Sequence[Logged], now: Head) -> list[str]:
    """One proof for several leaves."""
    indexes = sorted({leaf.number for leaf in leaves})
    return _on_the_wire(tiles.hashes(Tiles(cur), tree.batch_parts(indexes, now.size)))


def consistency(cur: Cursor, old_size: int, now: Head) -> dict[str, Any]:
    """That the tree of ``old_size`` is the beginning of this one; nothing where this one is not larger or as large."""
    if old_size > now.size:
        return {}
    store = Tiles(cur)
    proof = tiles.hashes(store, tree.consistency_parts(old_size, now.size))
    root = tiles.root(store, old_size) if old_size else tree.EMPTY_ROOT
    return {"from": old_size, "from_root": to_b64(root), "consistency": _on_the_wire(proof)}


def is_ours(cur: Cursor, old_size: int, root: bytes) -> bool:
    """Whether this log was ever of that size with that root."""
    if not 0 < old_size <= log_store.read(cur).tree_size:
        return False
    return tiles.root(Tiles(cur), old_size) == root


def _on_the_wire(hashes: Sequence[bytes]) -> list[str]:
    return [to_b64(each) for each in hashes]


# Files (C2SP tlog-tiles).


def tile(cur: Cursor, wanted: Tile) -> bytes | None:
    """The hashes of a tile, None where the tree is not that large yet."""
    found = Tiles(cur).tiles([(wanted.level, wanted.number)]).get((wanted.level, wanted.number), b"")
    length = wanted.width * tree.HASH_BYTES
    return found[:length] if len(found) >= length else None


def entry_bundle(cur: Cursor, wanted: Tile) -> bytes | None:
    begin = wanted.number * tiles.WIDTH
    end = begin + wanted.width
    return tiles.bundle(log_store.entries(cur, begin, end)) if end <= log_store.read(cur).tree_size else None


def key_of_log(server: ServerName, public_key: bytes) -> str:
    """The verifier key of the log in the form of C2SP (signed-note), for tools that follow logs."""
    name = origin_of(server)
    key_id = sha256(name.encode() + b"\n\x01" + public_key).hexdigest()[:8]
    return f"{name}+{key_id}+{base64.b64encode(bytes([1]) + public_key).decode('ascii')}"
