"""Checkpoints: what a log says of itself, signed, in the C2SP forms (signed-note, tlog-checkpoint, tlog-cosignature).

A *note* is text with signature lines below it. A *checkpoint* is a note whose text names a log, its size and its root.
A *cosignature* is a witness's word that, at a time, this was the largest tree it had seen, grown out of all before it.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from super_app.transparency.tree import HASH_BYTES
from super_app.wire import is_text

MAX_NOTE_BYTES: Final = 65_536
MAX_SIGNATURES: Final = 100
_ED25519: Final = b"\x01"
_COSIGNATURE: Final = b"\x04"
_KEY_ID_BYTES: Final = 4
_TIME_BYTES: Final = 8
_SIGNATURE_BYTES: Final = 64
_MAX_TIME_S: Final = (1 << 63) - 1
_NAME: Final = re.compile(r"[^\s+]+")
_SIGNATURE_LINE: Final = re.compile(r"\u2014 (?P<name>[^\s+]+) (?P<value>[A-Za-z0-9+/]+={0,2})")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state of a log: ``origin`` names it, ``size`` is its number of leaves, ``root`` the hash over them."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode('ascii')}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSignature:
    """One signature line. ``value`` begins with four bytes that tell keys of one name apart."""

    name: str
    value: bytes

    def line(self) -> str:
        return f"\u2014 {self.name} {base64.b64encode(self.value).decode('ascii')}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    text: str
    signatures: tuple[NoteSignature, ...]

    def dump(self) -> str:
        return self.text + "\n" + "".join(each.line() for each in self.signatures)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosignature:
    """Who witnessed, and when: seconds since 1970, by the witness's clock."""

    name: str
    time_s: int


def read_note(text: str) -> Note | None:
    """A note by its form; None if it is none. Nothing is verified."""
    if not is_text(text) or len(text.encode()) > MAX_NOTE_BYTES or any(char < " " and char != "\n" for char in text):
        return None
    body, found, lines = text.rpartition("\n\n")
    if not found or not body or not lines.endswith("\n"):
        return None
    signatures: list[NoteSignature] = []
    for line in lines[:-1].split("\n"):
        match = _SIGNATURE_LINE.fullmatch(line)
        value = None if match is None else _from_base64(match["value"])
        if match is None or value is None or len(value) <= _KEY_ID_BYTES:
            return None
        signatures.append(NoteSignature(name=match["name"], value=value))
    if not 1 <= len(signatures) <= MAX_SIGNATURES:
        return None
    return Note(text=body + "\n", signatures=tuple(signatures))


def read_checkpoint(note: Note) -> Checkpoint | None:
    """The checkpoint that a note is; None if it is another one. Lines that extend it are skipped."""
    lines = note.text.split("\n")
    if len(lines) < len(("origin", "size", "root", "")):
        return None
    origin, size, root = lines[0], lines[1], _from_base64(lines[2])
    if not origin or not _SIZE.fullmatch(size) or root is None or len(root) != HASH_BYTES:
        return None
    return Checkpoint(origin=origin, size=int(size), root=root)


def sign(text: str, name: str, key: SigningKey) -> NoteSignature:
    """The signature of the log itself."""
    public = bytes(key.verify_key)
    return NoteSignature(name=name, value=_key_id(name, _ED25519, public) + key.sign(text.encode()).signature)


def is_signed_by(note: Note, name: str, public: bytes) -> bool:
    """Whether a note has a valid signature of this name and key, and no false one that claims to be."""
    values = _values(note, name, _ED25519, public)
    return bool(values) and all(_verifies(note.text, each, public) for each in values)


def cosign(text: str, name: str, key: SigningKey, time_s: int) -> NoteSignature:
    """A witness's signature, at a time."""
    signed = key.sign(_cosigned(text, time_s)).signature
    key_id = _key_id(name, _COSIGNATURE, bytes(key.verify_key))
    return NoteSignature(name=name, value=key_id + time_s.to_bytes(_TIME_BYTES, "big") + signed)


def cosignature_of(note: Note, name: str, public: bytes) -> Cosignature | None:
    """The newest valid cosignature of a witness on a note; None if it has none."""
    times: list[int] = []
    for value in _values(note, name, _COSIGNATURE, public):
        time_s = int.from_bytes(value[:_TIME_BYTES], "big")
        signature = value[_TIME_BYTES:]
        if time_s <= _MAX_TIME_S and _verifies_bytes(_cosigned(note.text, time_s), signature, public):
            times.append(time_s)
    return Cosignature(name=name, time_s=max(times)) if times else None


def is_name(text: str) -> bool:
    """Whether a name may stand on a signature line."""
    return _NAME.fullmatch(text) is not None


def _key_id(name: str, kind: bytes, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + kind + public).digest()[:_KEY_ID_BYTES]


def _values(note: Note, name: str, kind: bytes, public: bytes) -> list[bytes]:
    """What signature lines of this name and key hold, without the id of the key."""
    key_id = _key_id(name, kind, public)
    return [
        each.value[_KEY_ID_BYTES:]
        for each in note.signatures
        if each.name == name and each.value[:_KEY_ID_BYTES] == key_id
    ]


def _cosigned(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def _verifies(text: str, signature: bytes, public: bytes) -> bool:
    return _verifies_bytes(text.encode(), signature, public)


def _verifies_bytes(message: bytes, signature: bytes, public: bytes) -> bool:
    if len(signature) != _SIGNATURE_BYTES:
        return False
    try:
        VerifyKey(public).verify(message, signature)
    except BadSignatureError:
        return False
    return True


def _from_base64(text: str) -> bytes | None:
    """The bytes of standard base64 with padding; None for anything else, or for a second spelling of the same."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode("ascii") == text else None
