"""What an account and a contact are."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from super_app.ids import Acct, Handle, ServerName, UserId
from super_app.signing import digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Genesis:
    """The first operation of an account. Its hash is the ``acct``, fixed at first use."""

    server: ServerName
    localpart: str
    created_ms: int
    nonce: str
    """128 random bits as hex, so that an acct cannot be guessed from a user id."""
    recovery_key: str | None = None

    def content(self) -> dict[str, object]:
        """The object that is hashed; a missing recovery key is left out."""
        fields: dict[str, object] = {
            "v": 1,
            "server": self.server,
            "localpart": self.localpart,
            "created_ms": self.created_ms,
            "nonce": self.nonce,
        }
        return fields if self.recovery_key is None else {**fields, "recovery_key": self.recovery_key}

    def acct(self) -> Acct:
        return Acct(digest(self.content()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    acct: Acct
    user_id: UserId
    created_ms: int
    used: bool
    """Whether anybody was given the acct or keeps something under it, so that it cannot change any more."""


ANNOUNCED_FOR_MS: Final = 1_800_000
"""How long after somebody said that they will sign in again a new device counts as one that has just done so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """Somebody said that they will sign in again. ``devices`` are those that they had then.

    With delegated sign-in the homeserver does not know when a session began; a device that is none of these shows it.
    """

    asked_ms: int
    devices: frozenset[str]

    def is_followed_by(self, device_id: str, now_ms: int) -> bool:
        """Whether a device came by signing in since."""
        return bool(device_id) and now_ms - self.asked_ms < ANNOUNCED_FOR_MS and device_id not in self.devices


MAX_CONTACTS: Final = 2_000
"""They are mirrored into one account data event, which every client of the person loads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """Somebody in a person's address book. ``acct`` is empty while their homeserver runs no directory."""

    acct: Acct
    user_id: UserId
    handle: Handle
    since_ms: int
    favourite: bool = False
    note: str = ""
    """What the owner wrote down about them; nobody else sees it."""


MAX_NOTE: Final = 2_000
MAX_FOLLOWS: Final = 2_000
MAX_BLOCKS: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Somebody whom a person follows or blocks, as they were known when that began."""

    acct: Acct
    user_id: UserId
    handle: Handle
    since_ms: int
    mutual: bool = False
    """They follow each other, as far as this homeserver knows: its own people's follows, and those that it was told."""


class Unnamed(Enum):
    """What becomes of relations without an acct, from a time when no directory told one, when somebody moves."""

    GO_ALONG = "go_along"  # their own homeserver said that they moved
    STAY = "stay"  # all there is is the word of a recovery key, which speaks for an acct and not for a user id


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedRelations:
    """Whose relations to somebody went along with them: who has them as a contact, and who blocks them."""

    contacts: tuple[UserId, ...] = ()
    blocks: tuple[UserId, ...] = ()
