"""The OPRF of RFC 9497, mode VOPRF, suite ristretto255-SHA512, batches of one.

``blind`` and ``finalize`` are a client's part, ``evaluate`` is a realm's. Random scalars are arguments.
"""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from super_app.recovery import group
from super_app.recovery.group import Element, Scalar

_CONTEXT: Final = b"OPRFV1-\x01-ristretto255-SHA512"
_TO_ELEMENT: Final = b"HashToGroup-" + _CONTEXT
_TO_SCALAR: Final = b"HashToScalar-" + _CONTEXT
_SEED: Final = b"Seed-" + _CONTEXT
_DERIVE: Final = b"DeriveKeyPair" + _CONTEXT
_MAX_INPUT: Final = 2**16 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """That an element was multiplied with the key of a public key (DLEQ, section 2.2)."""

    challenge: Scalar
    response: Scalar

    def to_bytes(self) -> bytes:
        return self.challenge + self.response

    @staticmethod
    def read(raw: bytes) -> "Proof":
        """Raises ValueError if ``raw`` is no proof."""
        if len(raw) != 2 * group.SIZE:
            raise ValueError("a proof has 64 bytes")
        return Proof(
            challenge=group.read_scalar(raw[: group.SIZE]),
            response=group.read_scalar(raw[group.SIZE :]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    element: Element
    proof: Proof


def derive_key(seed: bytes, info: bytes) -> Scalar:
    """``DeriveKeyPair``, section 3.2.1: a key from 32 random bytes."""
    derived = seed + len(info).to_bytes(2, "big") + info
    for counter in range(256):
        found = group.hash_to_scalar(derived + counter.to_bytes(1, "big"), _DERIVE)
        if found != bytes(group.SIZE):
            return found
    raise ValueError("no key follows from this seed")


def blind(message: bytes, factor: Scalar) -> Element:
    """What is sent of ``message``; it says nothing of it to whoever does not know ``factor``."""
    return group.times(factor, group.hash_to_element(_sized(message), _TO_ELEMENT))


def evaluate(key: Scalar, blinded: Element, nonce: Scalar) -> Evaluation:
    """A realm's answer. ``nonce`` is a fresh random scalar; used twice, it gives the key away."""
    public, element = group.base_times(key), group.times(key, blinded)
    weight = _weight(public, blinded, element)
    m, z = group.times(weight, blinded), group.times(weight, element)
    challenge = _challenge(public, m, z, group.base_times(nonce), group.times(nonce, m))
    response = group.scalar_sub(nonce, group.scalar_mul(challenge, key))
    return Evaluation(element=element, proof=Proof(challenge=challenge, response=response))


def is_right(public: Element, blinded: Element, evaluation: Evaluation) -> bool:
    """Whether whoever answered used the key of ``public``."""
    weight = _weight(public, blinded, evaluation.element)
    m, z = group.times(weight, blinded), group.times(weight, evaluation.element)
    challenge, response = evaluation.proof.challenge, evaluation.proof.response
    t2 = group.add(group.base_times(response), group.times(challenge, public))
    t3 = group.add(group.times(response, m), group.times(challenge, z))
    return hmac.compare_digest(_challenge(public, m, z, t2, t3), challenge)


def finalize(message: bytes, factor: Scalar, element: Element) -> bytes:
    """The 64 bytes of output, from an evaluation under the whole key."""
    return output(message, group.times(group.scalar_invert(factor), element))


def output(message: bytes, unblinded: Element) -> bytes:
    """The last hash of ``Finalize``; with ``unblinded`` the element of ``message`` times the key."""
    return hashlib.sha512(_prefixed(_sized(message)) + _prefixed(unblinded) + b"Finalize").digest()


def direct(key: Scalar, message: bytes) -> bytes:
    """The output for whoever has the whole key (``Evaluate``)."""
    return output(message, group.times(key, group.hash_to_element(_sized(message), _TO_ELEMENT)))


def _weight(public: Element, blinded: Element, element: Element) -> Scalar:
    """The factor of ``ComputeComposites`` for a batch of one, section 2.2.1."""
    seed = hashlib.sha512(_prefixed(public) + _prefixed(_SEED)).digest()
    transcript = _prefixed(seed) + b"\0\0" + _prefixed(blinded) + _prefixed(element) + b"Composite"
    return group.hash_to_scalar(transcript, _TO_SCALAR)


def _challenge(public: Element, m: Element, z: Element, t2: Element, t3: Element) -> Scalar:
    transcript = b"".join(_prefixed(each) for each in (public, m, z, t2, t3)) + b"Challenge"
    return group.hash_to_scalar(transcript, _TO_SCALAR)


def _prefixed(raw: bytes) -> bytes:
    return len(raw).to_bytes(2, "big") + raw


def _sized(message: bytes) -> bytes:
    if len(message) > _MAX_INPUT:
        raise ValueError(f"an input has at most {_MAX_INPUT} bytes")
    return message
