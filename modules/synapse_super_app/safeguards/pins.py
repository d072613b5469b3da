"""Compares PINs with their hashes, which takes time and memory by design, so on threads.

argon2id by libsodium, which Synapse has through PyNaCl. A try counts in the database before it is compared, so that
many devices at once have no more tries than one.
"""

from collections.abc import Mapping
from typing import Any

from nacl.exceptions import InvalidkeyError
from nacl.pwhash import argon2id

from super_app.errors import Refused
from super_app.ids import Acct
from super_app.safeguards import rules
from super_app.safeguards.service import Safeguards
from synapse_super_app.ledger.writer import LedgerWriter
from synapse_super_app.runtime import Runtime
from synapse_super_app.safeguards.passkeys import Passkeys


class Pins:
    def __init__(self, runtime: Runtime, writer: LedgerWriter, safeguards: Safeguards, passkeys: Passkeys) -> None:
        self._runtime = runtime
        self._writer = writer
        self._safeguards = safeguards
        self._passkeys = passkeys

    async def confirm(
        self, acct: Acct, *, pin: str | None, passkey: Mapping[str, Any] | None, about: str
    ) -> Refused | None:
        """None if the person has confirmed ``about`` with a passkey, or anything at all with the PIN."""
        if passkey is not None:
            return await self._passkeys.prove(acct, passkey, about)
        return rules.no_pin() if pin is None else await self.prove(acct, pin)

    async def hashed(self, pin: str) -> str:
        return await self._runtime.api.defer_to_thread(_hash, pin)

    async def prove(self, acct: Acct, pin: str) -> Refused | None:
        """None if it is the person's PIN; else PIN_NOT_SET, PIN_WRONG or PIN_LOCKED."""
        now_ms = self._runtime.now_ms()
        tried = await self._writer.run("pin_begin_try", lambda cur: self._safeguards.begin_try(cur, acct, now_ms))
        if isinstance(tried, Refused):
            return tried
        if not await self._runtime.api.defer_to_thread(_is_of, pin, tried.hash):
            return rules.wrong_pin(tried.tries, tried.locked_until_ms, now_ms)
        await self._writer.run("pin_end_try", lambda cur: self._safeguards.end_try(cur, acct, tried))
        return None


def _hash(pin: str) -> str:
    hashed = argon2id.str(pin.encode(), opslimit=argon2id.OPSLIMIT_INTERACTIVE, memlimit=argon2id.MEMLIMIT_INTERACTIVE)
    return hashed.decode("ascii")


def _is_of(pin: str, hashed: str) -> bool:
    try:
        return argon2id.verify(hashed.encode("ascii"), pin.encode())
    except InvalidkeyError:
        return False
