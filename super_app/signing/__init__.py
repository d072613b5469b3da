"""Canonical JSON, hashes and ed25519 signatures, in the forms of the Matrix spec (appendices, "Signing JSON").

A *signed object* here is flat: ``key_id`` and ``signature`` are fields of the object and the signature covers the
canonical JSON of the rest (clearing.md). Keys are those of ``signedjson``, so an operator has one kind of key file.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, cast

from canonicaljson import encode_canonical_json
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

__all__ = [
    "canonical",
    "digest",
    "from_b64",
    "generate_key",
    "key_id_of",
    "public_b64",
    "sign",
    "signed",
    "to_b64",
    "verify",
]

_KEY_ID_LENGTH: Final = 8
_PLAIN: Final = frozenset({str, int, bool, type(None)})


def canonical(value: object) -> bytes:
    """Canonical JSON. Refuses floats outright, as canonical JSON of Matrix has none."""
    _refuse_floats(value)
    return encode_canonical_json(value)


def digest(value: object) -> str:
    """Unpadded base64url of the SHA-256 of the canonical JSON: the form of ``acct``, ``message_id``, ``wire_id``."""
    return to_b64(hashlib.sha256(canonical(value)).digest())


def to_b64(raw: bytes) -> str:
    """Unpadded base64url."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def from_b64(text: str) -> bytes:
    """The bytes of unpadded base64url.

    Raises:
        ValueError: ``text`` is not base64url, or not its one canonical spelling.
    """
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if to_b64(raw) != text:
        raise ValueError("not canonical unpadded base64url")
    return raw


def generate_key(seed: bytes) -> SigningKey:
    """An ed25519 key from 32 bytes of seed; the caller brings the randomness."""
    return SigningKey(seed)


def public_b64(key: SigningKey | VerifyKey) -> str:
    verify_key = key.verify_key if isinstance(key, SigningKey) else key
    return to_b64(bytes(verify_key))


def key_id_of(key: SigningKey | VerifyKey) -> str:
    """A name for a key that follows from the key: ``ed25519:`` and the start of its hash."""
    verify_key = key.verify_key if isinstance(key, SigningKey) else key
    return "ed25519:" + to_b64(hashlib.sha256(bytes(verify_key)).digest())[:_KEY_ID_LENGTH]


def sign(value: Mapping[str, Any], key: SigningKey) -> str:
    """The signature (base64url) over the canonical JSON of ``value`` without its ``signature``."""
    return to_b64(key.sign(canonical(_unsigned(value))).signature)


def signed(value: Mapping[str, Any], key: SigningKey) -> dict[str, Any]:
    """``value`` with ``key_id`` and ``signature`` set."""
    named = {**value, "key_id": key_id_of(key)}
    return {**named, "signature": sign(named, key)}


def verify(value: Mapping[str, Any], public_key_b64: str) -> bool:
    """Whether ``value["signature"]`` is this key's over the rest. False for anything malformed, never an exception."""
    signature = value.get("signature")
    if not isinstance(signature, str):
        return False
    try:
        _verify_key(public_key_b64).verify(canonical(_unsigned(value)), from_b64(signature))
    except (BadSignatureError, ValueError, TypeError):
        return False
    return True


@lru_cache(maxsize=1_024)
def _verify_key(public_key_b64: str) -> VerifyKey:
    """One key signs a feed of a million records."""
    return VerifyKey(from_b64(public_key_b64))


def _unsigned(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item for name, item in value.items() if name != "signature"}


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        raise ValueError("canonical JSON has no floats")
    items: Iterable[object] = ()
    if isinstance(value, dict):
        items = cast(dict[object, object], value).values()
    elif isinstance(value, list | tuple):
        items = cast(Iterable[object], value)
    for item in items:
        # Most values are none of what could be or hold a float, and a call for each would take longer than signing.
        if type(item) not in _PLAIN:
            _refuse_floats(item)
