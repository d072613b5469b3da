"""Files of the directory and payment keys: made at the first start, in Synapse's own form, for their owner alone."""

import os
import secrets
from pathlib import Path
from typing import Final

from nacl.signing import SigningKey
from unpaddedbase64 import decode_base64, encode_base64

from super_app.ids import ServerName
from super_app.signing import generate_key, key_id_of

_ALGORITHM: Final = "ed25519"


def key_path(folder: Path, server: ServerName, configured: str | None) -> Path:
    return Path(configured) if configured is not None else folder / f"{server}.superapp.directory.key"


def make_if_missing(path: Path) -> None:
    """Write a new key where there is none. Two processes that start at once end with one key."""
    if path.exists():
        return
    key = generate_key(secrets.token_bytes(32))
    version = key_id_of(key).partition(":")[2]
    line = f"{_ALGORITHM} {version} {encode_base64(bytes(key))}\n"
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename, a link does not replace the key that another process was faster to write.
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()


def read(path: Path) -> SigningKey:
    """The key of a file.

    Raises:
        ValueError: the file is not a key file; the message names it.
    """
    words = path.read_text(encoding="ascii").split()
    if len(words) != 3 or words[0] != _ALGORITHM:
        raise ValueError(f"{path} is not a key file: it should hold one line, 'ed25519 <name> <key>'")
    return SigningKey(decode_base64(words[2]))
