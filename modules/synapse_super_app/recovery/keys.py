"""The realm's key: one secret in a file beside Synapse's signing key, from which both of its keys follow.

With one it signs what it tells other realms of its shares; for the other, shares are sealed. Without the file the
shares in the database are of no use to anybody, so a backup needs it.
"""

import hmac
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nacl.signing import SigningKey

from super_app.ids import ServerName
from super_app.recovery import sealing
from super_app.signing import to_b64
from synapse_super_app import key_files

_LABEL: Final = b"org.superapp.recovery.v1 realm"


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmKey:
    signing: SigningKey
    sealing: bytes
    """The private key of HPKE. Secret."""

    @property
    def public(self) -> str:
        return to_b64(sealing.public_of(self.sealing))


def key_path(folder: Path, server: ServerName, configured: str | None) -> Path:
    return Path(configured) if configured is not None else folder / f"{server}.superapp.recovery.key"


def realm_key(path: Path) -> RealmKey:
    """Made at the first start."""
    key_files.make_if_missing(path)
    signing = key_files.read(path)
    return RealmKey(signing=signing, sealing=hmac.digest(bytes(signing), _LABEL, "sha256"))
