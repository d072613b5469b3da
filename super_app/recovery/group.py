"""The group ristretto255 (RFC 9496) with hashing to it (RFC 9497, section 4.1), on libsodium, in constant time.

Scalars and elements are their canonical encodings. Whatever came from outside passes ``read_scalar`` or
``read_element`` first; the other functions are given nothing else and check nothing.
"""

import hashlib
import hmac
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NewType

import rbcl  # pyright: ignore[reportMissingTypeStubs]


def _tidy() -> None:
    """rbcl brings libsodium as text and loads it by way of a temporary file, which it leaves behind at each start."""
    left = Path(str(getattr(getattr(rbcl, "_sodium", None), "_name", "")))
    if left.parent == Path(tempfile.gettempdir()) and left.name.startswith(tempfile.gettempprefix()):
        left.unlink(missing_ok=True)


_tidy()

Scalar = NewType("Scalar", bytes)
"""32 bytes, little-endian, below the group's order."""
Element = NewType("Element", bytes)
"""32 bytes, the encoding of an element other than the identity."""

SIZE: Final = 32
ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_WIDE: Final = 64
_HASH_BLOCK: Final = 128
"""Bytes of a block of SHA-512 (RFC 9380, ``s_in_bytes``)."""

one: Final = Scalar((1).to_bytes(SIZE, "little"))


def read_scalar(raw: bytes) -> Scalar:
    """A scalar other than zero.

    Raises:
        ValueError: it is none, or not its one canonical encoding.
    """
    # By libsodium, since a comparison of numbers would take a time that depends on them.
    if (
        len(raw) != SIZE
        or hmac.compare_digest(raw, bytes(SIZE))
        or not hmac.compare_digest(raw, rbcl.crypto_core_ristretto255_scalar_reduce(raw + bytes(SIZE)))
    ):
        raise ValueError("not the encoding of a scalar other than zero")
    return Scalar(raw)


def read_element(raw: bytes) -> Element:
    """An element other than the identity.

    Raises:
        ValueError: it is none, or not its one canonical encoding.
    """
    if len(raw) != SIZE or raw == bytes(SIZE) or not rbcl.crypto_core_ristretto255_is_valid_point(raw):
        raise ValueError("not the encoding of a group element other than the identity")
    return Element(raw)


def scalar_of(number: int) -> Scalar:
    """A small public number as a scalar."""
    return Scalar((number % ORDER).to_bytes(SIZE, "little"))


def scalar_from_wide(raw: bytes) -> Scalar:
    """A scalar from 64 bytes, uniform if they are."""
    if len(raw) != _WIDE:
        raise ValueError(f"a scalar is drawn from {_WIDE} bytes")
    return Scalar(rbcl.crypto_core_ristretto255_scalar_reduce(raw))


def scalar_add(a: Scalar, b: Scalar) -> Scalar:
    return Scalar(rbcl.crypto_core_ristretto255_scalar_add(a, b))


def scalar_sub(a: Scalar, b: Scalar) -> Scalar:
    return Scalar(rbcl.crypto_core_ristretto255_scalar_sub(a, b))


def scalar_mul(a: Scalar, b: Scalar) -> Scalar:
    return Scalar(rbcl.crypto_core_ristretto255_scalar_mul(a, b))


def scalar_invert(a: Scalar) -> Scalar:
    return Scalar(rbcl.crypto_core_ristretto255_scalar_invert(a))


def base_times(scalar: Scalar) -> Element:
    return Element(rbcl.crypto_scalarmult_ristretto255_base(scalar))


def times(scalar: Scalar, element: Element) -> Element:
    return Element(rbcl.crypto_scalarmult_ristretto255(scalar, element))


def add(a: Element, b: Element) -> Element:
    return Element(rbcl.crypto_core_ristretto255_add(a, b))


def total(elements: Iterable[Element]) -> Element:
    """The sum of at least one element."""
    first, *rest = elements
    for each in rest:
        first = add(first, each)
    return first


def hash_to_element(message: bytes, tag: bytes) -> Element:
    return Element(rbcl.crypto_core_ristretto255_from_hash(expand(message, tag, _WIDE)))


def hash_to_scalar(message: bytes, tag: bytes) -> Scalar:
    return scalar_from_wide(expand(message, tag, _WIDE))


def expand(message: bytes, tag: bytes, size: int) -> bytes:
    """``expand_message_xmd`` with SHA-512 (RFC 9380, section 5.3.1), for at most one block of 64 bytes."""
    if size > _WIDE or len(tag) > 255:
        raise ValueError("more than is asked of it here")
    suffix = tag + len(tag).to_bytes(1, "big")
    first = hashlib.sha512(bytes(_HASH_BLOCK) + message + size.to_bytes(2, "big") + b"\0" + suffix).digest()
    return hashlib.sha512(first + b"\1" + suffix).digest()[:size]
