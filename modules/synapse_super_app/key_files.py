"""Files of the directory and payment keys: made at the first start, in Synapse's own form, for their owner alone.

A key that is replaced stays beside the new one, in a file that ends in its name.
"""

import fcntl
import glob
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from nacl.signing import SigningKey
from unpaddedbase64 import decode_base64, encode_base64

from super_app.ids import ServerName
from super_app.signing import generate_key, key_id_of

_ALGORITHM: Final = "ed25519"
_RETIRED: Final = ".retired-"
"""Between the name of a key's file and that of a key which was in it before."""
_ASKED: Final = ".replaced-by"
"""Behind the name of a key's file: who asked last for another key, and which one was there then."""


def key_path(folder: Path, server: ServerName, configured: str | None) -> Path:
    return Path(configured) if configured is not None else folder / f"{server}.superapp.directory.key"


def make_if_missing(path: Path) -> None:
    """Write a new key where there is none. Two processes that start at once end with one key."""
    if path.exists():
        return
    fresh = _write_fresh(path)
    try:
        # Unlike a rename, a link does not replace the key that another process was faster to write.
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    _sync_folder(path)


def replace(path: Path, request_id: str | None = None) -> SigningKey:
    """Put a new key in the place of the one that is there, which is kept. Durable when this returns.

    The newest ``request_id`` is remembered in a file beside it: the same one again replaces nothing.

    A crash leaves either key in place, and the one that was there in its own file as well. Who replaces it at the same
    time, in whatever process, does so after that: otherwise the key of one of them would be kept nowhere.
    """
    with _alone(path):
        before = read(path)
        if request_id is not None:
            asked = path.with_name(f"{path.name}{_ASKED}")
            last = asked.read_text(encoding="ascii").split() if asked.exists() else []
            if last[:1] == [request_id] and last[1] != _version_of(before):
                return before
            _write_synced(asked, f"{request_id} {_version_of(before)}\n")
        kept = path.with_name(f"{path.name}{_RETIRED}{_version_of(before)}")
        if not kept.exists():
            os.link(path, kept)
            _sync_folder(path)
        _write_fresh(path).replace(path)
        _sync_folder(path)
        return read(path)


def read_retired(path: Path) -> tuple[SigningKey, ...]:
    """The keys that were replaced, in no particular order.

    Raises:
        ValueError: one of their files is not a key file; the message names it.
    """
    return tuple(read(each) for each in sorted(path.parent.glob(f"{glob.escape(path.name + _RETIRED)}*")))


def read(path: Path) -> SigningKey:
    """The key of a file.

    Raises:
        ValueError: the file is not a key file; the message names it.
    """
    words = path.read_text(encoding="ascii").split()
    if len(words) != 3 or words[0] != _ALGORITHM:
        raise ValueError(f"{path} is not a key file: it should hold one line, 'ed25519 <name> <key>'")
    return SigningKey(decode_base64(words[2]))


def _write_fresh(path: Path) -> Path:
    """A new key in a file of its own beside ``path``, on the disk before this returns."""
    key = generate_key(secrets.token_bytes(32))
    return _write_beside(path, f"{_ALGORITHM} {_version_of(key)} {encode_base64(bytes(key))}\n")


def _write_synced(path: Path, text: str) -> None:
    """The whole text under this name, or what was there before."""
    _write_beside(path, text).replace(path)
    _sync_folder(path)


def _write_beside(path: Path, text: str) -> Path:
    """The text in a file of its own beside ``path``, for its owner alone, on the disk before this returns."""
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return fresh


@contextmanager
def _alone(path: Path) -> Generator[None]:
    """Wait for the others that replace a key in this folder. The lock goes with its descriptor, so also in a crash."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _version_of(key: SigningKey) -> str:
    return key_id_of(key).partition(":")[2]


def _sync_folder(path: Path) -> None:
    """Names of files are on the disk only once their folder is."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
