"""A client's part, in the words of ``docs/recovery.md``: what the page does in TypeScript, and what holds it in place.

Owns no randomness and no network: random values are arguments, answers of realms are given.
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.bindings import crypto_pwhash_alg, crypto_pwhash_ALG_ARGON2ID13

from super_app.ids import ServerName, UserId
from super_app.recovery import group, sealing, threshold, voprf
from super_app.recovery.group import Element, Scalar
from super_app.recovery.model import Deal, Version, framed, seal_info, unlock_tag
from super_app.signing import canonical, to_b64

KDF: Final = "argon2id-v19-3-32768-1"
"""How a PIN is stretched: algorithm, version, passes, KiB, lanes. A set names it; a client refuses any other."""
ARGON_PASSES: Final = 3
ARGON_KIB: Final = 32 * 1024
_LABEL: Final = b"org.superapp.recovery.v1"
_KEY: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """To what everything is bound."""

    user_id: UserId
    version: Version


def stretched(purpose: Purpose, pin: str) -> bytes:
    """The PIN, made dear: argon2id with one lane."""
    salt = hashlib.sha256(_bound(b"pin", purpose)).digest()[:16]
    return crypto_pwhash_alg(_KEY, pin.encode(), salt, ARGON_PASSES, ARGON_KIB * 1024, crypto_pwhash_ALG_ARGON2ID13)


def oprf_input(purpose: Purpose, stretched_pin: bytes) -> bytes:
    return _bound(b"input", purpose) + framed(stretched_pin)


def derived(purpose: Purpose, output: bytes, label: bytes, realm: str = "") -> bytes:
    """A key of 32 bytes from the 64 of the OPRF: HKDF-SHA512 with no salt, one block."""
    extracted = hmac.digest(bytes(64), output, "sha512")
    info = _bound(label, purpose) + framed(realm.encode())
    return hmac.digest(extracted, info + b"\1", "sha512")[:_KEY]


def deal(
    purpose: Purpose,
    pin_stretched: bytes,
    key: Scalar,
    coefficients: Sequence[Scalar],
    realms: Sequence[ServerName],
) -> tuple[dict[ServerName, Deal], dict[ServerName, Element], bytes]:
    """What each realm is given, the public key of each share, and the key that encrypts the recovery key."""
    output = voprf.direct(key, oprf_input(purpose, pin_stretched))
    shares = threshold.split(key, coefficients, len(realms))
    deals = {
        realm: Deal(
            user_id=purpose.user_id,
            version=purpose.version,
            realm=realm,
            index=index,
            threshold=len(coefficients) + 1,
            realms=tuple(realms),
            share=shares[index],
            unlock_key=derived(purpose, output, b"unlock", realm),
        )
        for index, realm in enumerate(realms, 1)
    }
    publics = {realm: group.base_times(each.share) for realm, each in deals.items()}
    return deals, publics, derived(purpose, output, b"key")


def sealed(each: Deal, realm_key: bytes, ephemeral: bytes) -> str:
    info = seal_info(each.realm, each.user_id, each.version)
    return to_b64(sealing.seal(realm_key, info, canonical(each.to_json()), ephemeral))


def locked(content_key: bytes, header: Mapping[str, object], iv: bytes, recovery_key: bytes) -> bytes:
    """The recovery key for the account data: AES-256-GCM, bound to all that the set says of itself (``header``)."""
    return AESGCM(content_key).encrypt(iv, recovery_key, canonical(header))


def unlocked(content_key: bytes, header: Mapping[str, object], iv: bytes, ciphertext: bytes) -> bytes | None:
    """None if the PIN was wrong, or the set was changed since."""
    try:
        return AESGCM(content_key).decrypt(iv, ciphertext, canonical(header))
    except InvalidTag:
        return None


def opened(
    purpose: Purpose,
    pin_stretched: bytes,
    factor: Scalar,
    answers: Mapping[int, Element],
) -> bytes:
    """The output of the OPRF from as many right answers as the threshold."""
    return voprf.finalize(oprf_input(purpose, pin_stretched), factor, threshold.combine(answers))


def tag(purpose: Purpose, output: bytes, realm: ServerName, attempt_id: str, nonce: bytes) -> bytes:
    unlock_key = derived(purpose, output, b"unlock", realm)
    return unlock_tag(unlock_key, realm, purpose.user_id, purpose.version, attempt_id, nonce)


def _bound(label: bytes, purpose: Purpose) -> bytes:
    return framed(_LABEL, label, purpose.user_id.encode(), str(purpose.version).encode())
