"""Canonical JSON, hashes and ed25519 signatures, in the forms of the Matrix spec (appendices, "Signing JSON").

A *signed object* here is flat: ``key_id`` and ``signature`` are fields of the object and the signature covers the
canonical JSON of the rest (clearing.md). Keys are those of ``signedjson``, so an operator has one kind of key file.
"""

import binascii
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, cast

from canonicaljson import encode_canonical_json
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

__all__ = [
    "Spelled",
    "canonical",
    "digest",
    "digest_of",
    "from_b64",
    "generate_key",
    "key_id_of",
    "public_b64",
    "sign",
    "signed",
    "spell",
    "to_b64",
    "verify",
]

_KEY_ID_LENGTH: Final = 8
_PLAIN: Final = frozenset({str, int, bool, type(None)})
_SIGNATURE: Final = "signature"
# The two characters in which base64url differs from base64.
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL: Final = bytes.maketrans(b"-_", b"+/")


def canonical(value: object) -> bytes:
    """Canonical JSON. Refuses floats outright, as canonical JSON of Matrix has none."""
    _refuse_floats(value)
    return encode_canonical_json(value)


def digest(value: object) -> str:
    """Unpadded base64url of the SHA-256 of the canonical JSON: the form of ``acct``, ``message_id``, ``wire_id``."""
    return digest_of(canonical(value))


def digest_of(text: bytes) -> str:
    """``digest`` of an object whose canonical JSON is at hand."""
    return to_b64(hashlib.sha256(text).digest())


def to_b64(raw: bytes) -> str:
    """Unpadded base64url."""
    return binascii.b2a_base64(raw, newline=False).translate(_TO_URL).rstrip(b"=").decode("ascii")


def from_b64(text: str) -> bytes:
    """The bytes of unpadded base64url.

    Raises:
        ValueError: ``text`` is not base64url, or not its one canonical spelling.
    """
    raw = binascii.a2b_base64(text.encode("ascii").translate(_FROM_URL) + b"=" * (-len(text) % 4))
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelled:
    """A signed object in canonical JSON, spelled once for all that wants it: checks, hashes, the database.

    ``whole`` is all of it, and ``covered`` what its signature is over: the same without ``signature``.
    """

    whole: bytes
    covered: bytes
    signature: str

    def is_signed_by(self, public_key_b64: str) -> bool:
        """Whether the signature is this key's. False for anything malformed, never an exception."""
        try:
            _verify_key(public_key_b64).verify(self.covered, from_b64(self.signature))
        except (BadSignatureError, ValueError, TypeError):
            return False
        return True


def spell(value: Mapping[str, Any]) -> Spelled | None:
    """``value`` in canonical JSON, with and without its signature; None if it has none that is a string.

    Raises:
        ValueError, TypeError: it cannot be canonical JSON.
    """
    signature = value.get(_SIGNATURE)
    if not isinstance(signature, str):
        return None
    whole = canonical(value)
    # Keys are in order in canonical JSON, so it ends with the signature and what comes after that. What looks like the
    # signature may be elsewhere in it too.
    after = encode_canonical_json({name: item for name, item in value.items() if name > _SIGNATURE})[1:]
    end = b'"signature":' + encode_canonical_json(signature) + (b"," if len(after) > 1 else b"") + after
    before = whole.removesuffix(end)
    return Spelled(
        whole=whole,
        covered=(before if len(after) > 1 else before.removesuffix(b",")) + after,
        signature=signature,
    )


def verify(value: Mapping[str, Any], public_key_b64: str) -> bool:
    """Whether ``value["signature"]`` is this key's over the rest. False for anything malformed, never an exception."""
    try:
        spelled = spell(value)
    except (ValueError, TypeError):
        return False
    return spelled is not None and spelled.is_signed_by(public_key_b64)


@lru_cache(maxsize=1_024)
def _verify_key(public_key_b64: str) -> VerifyKey:
    """One key signs a feed of a million records."""
    return VerifyKey(from_b64(public_key_b64))


def _unsigned(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: item for name, item in value.items() if name != _SIGNATURE}


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
