"""The directory key of this homeserver, as its file holds it now: another process may have replaced it."""

import json
import logging
import secrets
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey

from super_app.db import Cursor
from super_app.directory import heads_store, keys, records
from super_app.directory.service import Issuer
from super_app.signing import canonical, key_id_of, public_b64
from synapse_super_app import key_files
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)


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
        self._rotations: tuple[str, list[dict[str, Any]]] = ("", [])

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

    async def settle(self) -> None:
        """Write down which key is used now, and have the one before sign that it is.

        What a crash between the two left undone, the next call does: the key before is kept beside the file.
        """
        key, now_ms = self.key, self._runtime.now_ms()
        public, server = public_b64(key), self._runtime.server_name
        retired = {public_b64(each): each for each in key_files.read_retired(self._path)}

        def work(cur: Cursor) -> bool:
            known = heads_store.own_keys(cur)
            if known and known[-1][0] == public:
                return True
            before = retired.get(known[-1][0]) if known else None
            signed = "" if before is None else canonical(keys.rotation(server, before, key, issued_ms=now_ms)).decode()
            heads_store.add_own_key(cur, len(known) + 1, public, signed, now_ms)
            return before is not None or not known

        if not await self._runtime.database.run("directory_key", work):
            logger.error(
                "The directory key is another one than before, and the one before is not beside it (%s.retired-…). "
                "Other homeservers refuse it until their operators forget the old one",
                self._path,
            )

    async def identity(self) -> dict[str, Any]:
        """What goes with every answer: the certified key, and the chain of rotations that led to it."""
        certificate = self.certificate()
        key_id, rotations = self._rotations
        if key_id != certificate["key_id"]:
            known = await self._runtime.database.run("directory_keys", heads_store.own_keys)
            rotations = [json.loads(signed) for _, signed in known if signed]
            if known and known[-1][0] == certificate["public_key"]:
                self._rotations = (certificate["key_id"], rotations)
        return {"certificate": certificate, **({"rotations": rotations} if rotations else {})}

    def certificate(self) -> dict[str, Any]:
        """The directory key, certified by the Matrix key."""
        key = self.key
        if self._certificate.get("key_id") != key_id_of(key):
            content = records.certificate(self._runtime.server_name, key, issued_ms=self._runtime.now_ms())
            self._certificate = self._runtime.private.signed_by_server(content)
        return self._certificate
