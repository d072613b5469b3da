"""The values of a realm: what it is given, how it stands, and what it answers."""

import hashlib
import hmac
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Final, NewType

from nacl.signing import SigningKey
from pydantic import Field

from super_app.errors import Reason, Refused
from super_app.ids import ServerName, UserId
from super_app.recovery import group
from super_app.recovery.group import Element, Scalar
from super_app.recovery.voprf import Proof
from super_app.signing import from_b64, public_b64, sign, to_b64, verify
from super_app.wire import Text, WireModel

Version = NewType("Version", int)
"""Of one account's sets of shares: 1 for the first, and each later one higher."""
AttemptId = NewType("AttemptId", str)
"""128 random bits as 32 lower-case hex digits, made by the client; one a guess, the same at all realms."""

GUESSES: Final = 10
"""Wrong ones after which a share is destroyed."""
MAX_REALMS: Final = 9
MIN_REALMS: Final = 3
MIN_THRESHOLD: Final = 2
MAX_VERSION: Final = 2**53 - 1
_LABEL: Final = b"org.superapp.recovery.v1"
_KEY: Final = 32


class State(StrEnum):
    """Of one share. Only the first two hold it; of the others the row is left, so that the version never comes back."""

    PENDING = "pending"  # stored; the set it belongs to is not in use yet
    ACTIVE = "active"
    SPENT = "spent"  # destroyed by guesses
    RETIRED = "retired"  # a newer version is in use, or the person gave it up

    @property
    def held(self) -> bool:
        return self in (State.PENDING, State.ACTIVE)


class DealJson(WireModel):
    v: Annotated[int, Field(ge=1, le=1)]
    user_id: Annotated[Text, Field(max_length=255)]
    version: Annotated[int, Field(ge=1, le=MAX_VERSION)]
    realm: Annotated[Text, Field(max_length=255)]
    index: Annotated[int, Field(ge=1, le=MAX_REALMS)]
    threshold: Annotated[int, Field(ge=MIN_THRESHOLD, le=MAX_REALMS)]
    realms: Annotated[list[Text], Field(min_length=MIN_REALMS, max_length=MAX_REALMS)]
    share: Annotated[str, Field(max_length=64)]
    unlock_key: Annotated[str, Field(max_length=64)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deal:
    """What is sealed for one realm. Secret."""

    user_id: UserId
    version: Version
    realm: ServerName
    index: int
    threshold: int
    realms: tuple[ServerName, ...]
    share: Scalar
    unlock_key: bytes

    def to_json(self) -> dict[str, object]:
        return {
            "v": 1,
            "user_id": self.user_id,
            "version": self.version,
            "realm": self.realm,
            "index": self.index,
            "threshold": self.threshold,
            "realms": list(self.realms),
            "share": to_b64(self.share),
            "unlock_key": to_b64(self.unlock_key),
        }

    @staticmethod
    def read(content: object) -> "Deal | Refused":
        """From JSON that was sealed for us. What a refusal says shows nothing of it."""
        body = DealJson.parse(content)
        if isinstance(body, Refused):
            return body
        try:
            share, unlock_key = group.read_scalar(from_b64(body.share)), from_b64(body.unlock_key)
        except ValueError:
            return Refused(reason=Reason.INVALID_VALUE, message="share or unlock_key is not what it should be.")
        realms = tuple(ServerName(each) for each in body.realms)
        if (
            len(unlock_key) != _KEY
            or len(set(realms)) != len(realms)
            or body.threshold > len(realms)
            or body.index > len(realms)
            or realms[body.index - 1] != body.realm
        ):
            return Refused(reason=Reason.INVALID_VALUE, message="realms, index and threshold do not fit together.")
        return Deal(
            user_id=UserId(body.user_id),
            version=Version(body.version),
            realm=ServerName(body.realm),
            index=body.index,
            threshold=body.threshold,
            realms=realms,
            share=share,
            unlock_key=unlock_key,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share as its realm's database has it: sealed, so that the database alone is of no use."""

    user_id: UserId
    version: Version
    state: State
    sealed: str | None
    """None once it is destroyed."""
    sealed_hash: str
    threshold: int
    realms: tuple[ServerName, ...]
    epoch: int
    """Rises with each guess and each right PIN; the other realms remember the highest they were told."""
    guesses: int
    """Since the last right PIN."""
    guessed_ms: int | None
    stored_ms: int
    claimed_by: AttemptId | None = None
    """The guess that the other realms are being told of now."""
    claimed_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a realm has told another of one of its shares."""

    realm: ServerName
    user_id: UserId
    version: Version
    epoch: int
    guesses: int
    attempt_id: AttemptId | None
    """The guess that brought it here; None after a right PIN."""
    gone: bool
    """The share was destroyed or given up."""
    signature: str = ""
    """Of ``realm``, so that whoever keeps it cannot make one up."""

    def _said(self) -> dict[str, object]:
        return {
            "type": "org.superapp.recovery.mark",
            "realm": self.realm,
            "user_id": self.user_id,
            "version": self.version,
            "epoch": self.epoch,
            "guesses": self.guesses,
            "attempt_id": self.attempt_id,
            "gone": self.gone,
        }

    def signed(self, key: SigningKey) -> "Mark":
        return replace(self, signature=sign(self._said(), key))

    def is_signed_by(self, key: SigningKey) -> bool:
        return verify({**self._said(), "signature": self.signature}, public_b64(key))


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """One that was let through."""

    attempt_id: AttemptId
    blinded: str | None
    """None while it is only begun: counted, and nothing evaluated."""
    nonce: str
    """Base64url of 32 random bytes of the realm, so that an unlock fits this guess alone."""
    begun_ms: int | None = None
    """When it was begun; None if it came with what was to be evaluated."""
    settled_ms: int | None = None
    """When a right PIN, by this guess or another one, made it count no more. It resets no count from then on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A guess that may be made: what to tell the other realms before it counts here."""

    share: Share
    mark: Mark
    again: Guess | None
    """The same guess was let through before, begun only or with its answer lost: it counts once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    element: Element
    proof: Proof
    nonce: str
    guesses_left: int


class Busy(StrEnum):
    """Another guess is being told to the other realms, by another process maybe: wait for its end."""

    BUSY = "busy"


class Wiped(StrEnum):
    """A share that the guess just asked for found spent, so it was destroyed."""

    WIPED = "wiped"


def framed(*parts: bytes) -> bytes:
    """Parts that cannot be mistaken for other ones: two bytes of length before each."""
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def seal_info(realm: ServerName, user_id: UserId, version: Version) -> bytes:
    """What a sealed share is bound to."""
    return framed(_LABEL, b"share", realm.encode(), user_id.encode(), str(version).encode())


def unlock_tag(
    unlock_key: bytes, realm: ServerName, user_id: UserId, version: Version, attempt_id: str, nonce: bytes
) -> bytes:
    """What shows a realm that the PIN was right, for one guess."""
    bound = framed(
        _LABEL, b"unlock", realm.encode(), user_id.encode(), str(version).encode(), attempt_id.encode(), nonce
    )
    return hmac.digest(unlock_key, bound, "sha256")


def hash_of(sealed: str) -> str:
    return to_b64(hashlib.sha256(sealed.encode()).digest())
