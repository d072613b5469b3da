"""The directory key of this homeserver, as its file holds it now: another process may have replaced it."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey

from super_app.directory import records
from super_app.directory.service import Issuer
from super_app.signing import key_id_of
from synapse_super_app import key_files
from synapse_super_app.runtime import Runtime


class Signer:
    """Signs in the name of the homeserver. Main process and workers read the same file."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._path = key_files.key_path(
            runtime.private.key_folder(), runtime.server_name, runtime.config.directory.key_path
        )
        if runtime.is_main:
            key_files.make_if_missing(self._path)
        self._read_at = (0, 0)
        self._key: SigningKey | None = None
        self._certificate: dict[str, Any] = {}

    @property
    def path(self) -> Path:
        return self._path

    @property
    def key(self) -> SigningKey:
        """The key; read again when its file was replaced, which a rename does and so changes the inode."""
        found = self._path.stat()
        if self._key is None or self._read_at != (found.st_ino, found.st_mtime_ns):
            self._key = key_files.read(self._path)
            self._read_at = (found.st_ino, found.st_mtime_ns)
        return self._key

    def issuer(self) -> Issuer:
        """For one transaction: each has salts of its own."""
        return Issuer(server=self._runtime.server_name, key=self.key, salt_seed=secrets.token_bytes(32))

    def replace(self) -> None:
        """A new key in the file; the one before is kept beside it."""
        key_files.replace(self._path)

    def retired(self) -> Sequence[SigningKey]:
        return key_files.read_retired(self._path)

    def certificate(self) -> dict[str, Any]:
        """The directory key, certified by the Matrix key."""
        key = self.key
        if self._certificate.get("key_id") != key_id_of(key):
            content = records.certificate(self._runtime.server_name, key, issued_ms=self._runtime.now_ms())
            self._certificate = self._runtime.private.signed_by_server(content)
        return self._certificate
