"""How a share travels: HPKE (RFC 9180), base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.

A realm keeps the sealed share as it came and opens it for each guess, so its database alone holds no share.
"""

import hmac
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEM: Final = b"KEM" + (0x0020).to_bytes(2, "big")
_SUITE: Final = b"HPKE" + b"".join(each.to_bytes(2, "big") for each in (0x0020, 0x0001, 0x0002))
_VERSION: Final = b"HPKE-v1"
_KEY: Final = 32
_NONCE: Final = 12


class Unreadable(Exception):
    """It was not sealed for this key and this purpose, or was changed since."""


def public_of(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def seal(public: bytes, info: bytes, plaintext: bytes, ephemeral: bytes) -> bytes:
    """``ephemeral`` is a fresh random private key."""
    ours = X25519PrivateKey.from_private_bytes(ephemeral)
    sent = ours.public_key().public_bytes_raw()
    shared = _shared(ours.exchange(X25519PublicKey.from_public_bytes(public)), sent + public)
    key, nonce = _schedule(shared, info)
    return sent + AESGCM(key).encrypt(nonce, plaintext, b"")


def unseal(private: bytes, info: bytes, sealed: bytes) -> bytes:
    """Raises Unreadable."""
    ours = X25519PrivateKey.from_private_bytes(private)
    sent, ciphertext = sealed[:_KEY], sealed[_KEY:]
    try:
        dh = ours.exchange(X25519PublicKey.from_public_bytes(sent))
        key, nonce = _schedule(_shared(dh, sent + ours.public_key().public_bytes_raw()), info)
        return AESGCM(key).decrypt(nonce, ciphertext, b"")
    except (InvalidTag, ValueError) as error:
        raise Unreadable("what is sealed does not open") from error


def _shared(dh: bytes, context: bytes) -> bytes:
    secret = _extract(_KEM, b"", b"eae_prk", dh)
    return _expand(_KEM, secret, b"shared_secret", context, _KEY)


def _schedule(shared: bytes, info: bytes) -> tuple[bytes, bytes]:
    context = b"\0" + _extract(_SUITE, b"", b"psk_id_hash", b"") + _extract(_SUITE, b"", b"info_hash", info)
    secret = _extract(_SUITE, shared, b"secret", b"")
    return _expand(_SUITE, secret, b"key", context, _KEY), _expand(_SUITE, secret, b"base_nonce", context, _NONCE)


def _extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or bytes(sha256().digest_size), _VERSION + suite + label + ikm, "sha256")


def _expand(suite: bytes, secret: bytes, label: bytes, info: bytes, size: int) -> bytes:
    # At most one block of SHA-256 is asked for.
    labeled = size.to_bytes(2, "big") + _VERSION + suite + label + info
    return hmac.digest(secret, labeled + b"\1", "sha256")[:size]
