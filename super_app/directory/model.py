"""Handles, the records that vouch for them, and what is known of other servers' handles."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NewType

from super_app.ids import Acct, Handle, ServerName, UserId

Name = NewType("Name", str)
"""The part of a handle between ``@`` and ``:``, normalised. The whole handle is a ``super_app.ids.Handle``."""

DAY_MS: Final = 86_400_000

TIDY_MS: Final = 600_000
"""How often what has had its time is swept away."""
RECORD_LIFETIME_MS: Final = 30 * DAY_MS
RENEW_AFTER_MS: Final = 20 * DAY_MS
"""A record is issued anew ten days before it would expire, so that a long outage of the issuer harms nobody."""
FEED_PAGE: Final = 500


def full(name: Name, server: ServerName) -> Handle:
    return Handle(f"@{name}:{server}")


class Discover(StrEnum):
    """Who finds a handle. The choice is the person's, per handle."""

    PUBLIC = "public"  # in the feed and in every search
    EXACT = "exact"  # whoever knows the whole name
    LINK = "link"  # whoever has the full handle with its server; no search
    NONE = "none"  # nobody, but servers with a room in common may still ask by user id


class Status(StrEnum):
    """What a record says about its handle."""

    ACTIVE = "active"
    MOVED = "moved"
    RELEASED = "released"
    FROZEN = "frozen"


class Origin(StrEnum):
    """How an account came by a name."""

    LOCALPART = "localpart"  # its first handle, reserved for it for ever
    CLAIMED = "claimed"
    GRANTED = "granted"  # by the operator, whatever the form


class State(StrEnum):
    """What a name is, at home."""

    ACTIVE = "active"
    MOVED = "moved"  # its account went to another homeserver, and this one says where
    RELEASED = "released"  # its owner's for 30 days, nobody's until 90
    FROZEN = "frozen"
    FREE = "free"  # remembered only so that its records stay one chain


class FrozenFor(StrEnum):
    AMBIGUOUS = "ambiguous"  # an account with this localpart came to exist all the same
    DISPUTE = "dispute"  # somebody says that it is theirs
    OPERATOR = "operator"


class KeptFor(StrEnum):
    """Why a name that was given up is never free again."""

    PAID = "paid"  # people were paid under it
    VERIFIED = "verified"
    REVOKED = "revoked"  # the operator took it away


class Role(StrEnum):
    PRIMARY = "primary"
    ALIAS = "alias"


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedTo:
    """Where somebody went, as their former homeserver says; ``accept`` is the word of the new one at that time."""

    user_id: UserId
    acct: Acct
    handle: Handle
    since_ms: int
    accept: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedFrom:
    """Where somebody came from, as their homeserver says; ``claim`` if the word of a recovery key is all there is."""

    user_id: UserId
    acct: Acct
    since_ms: int
    claim: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A name at its home server. ``digest`` is the hash of the newest record, ``record`` that record as JSON."""

    name: Name
    acct: Acct
    user_id: UserId
    origin: Origin
    state: State
    frozen_for: FrozenFor | None
    contested_by: UserId | None
    discover: Discover
    chosen: bool
    """Whether the person chose ``discover``; otherwise it is the operator's default."""
    primary: bool
    since_ms: int
    released_ms: int | None
    seq: int
    digest: str | None
    record: str | None
    renew_ms: int
    kept_for: KeptFor | None = None
    badges: tuple[Mapping[str, Any], ...] = ()
    """Signed badges, as they stand in the record."""
    moved_to: Mapping[str, Any] | None = None
    """Where its account went, as it stands in the record; None too once this homeserver forwards no more."""
    moved_from: Mapping[str, Any] | None = None

    @property
    def status(self) -> Status:
        match self.state:
            case State.ACTIVE:
                return Status.ACTIVE
            case State.MOVED:
                return Status.MOVED
            case State.FROZEN:
                return Status.FROZEN
            case State.RELEASED | State.FREE:
                return Status.RELEASED


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An account's names and its renaming so far. ``last_primary`` is what it last chose, even if released since."""

    acct: Acct
    user_id: UserId
    holdings: tuple[Holding, ...]
    primary: Name | None
    last_primary: Name | None
    renamed_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAccount:
    """An account of this homeserver that gets its first handle. ``genesis`` is canonical JSON, ``acct`` its hash."""

    user_id: UserId
    acct: Acct
    genesis: str
    name: Name
    discover: Discover
    created_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a record says besides the handle: the cross-signing master key, and the services of the homeserver."""

    msk: str | None
    services: Mapping[str, bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A verified record. ``content`` is the signed object as it came, fields that we do not know included.

    ``text`` is the same in canonical JSON.
    """

    handle: Handle
    server: ServerName
    acct: Acct
    user_id: UserId
    seq: int
    status: Status
    frozen_for: str | None
    discover: Discover
    alias_of: Handle | None
    issued_ms: int
    expires_ms: int
    badges: tuple[Mapping[str, Any], ...]
    content: Mapping[str, Any]
    text: str
    moved_to: MovedTo | None = None
    """With the status ``moved`` only."""
    moved_from: MovedFrom | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """A record left the feed; whoever replicated it forgets it."""

    handle: Handle
    server: ServerName
    seq: int
    issued_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicesPart:
    """What a server with a room in common learns about a hidden person: enough to pay and to ring them."""

    server: ServerName
    acct: Acct
    user_id: UserId
    issued_ms: int
    expires_ms: int
    moved_to: MovedTo | None = None
    moved_from: MovedFrom | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """The server says, signed, that there is nobody (or nobody for you)."""

    server: ServerName
    issued_ms: int


Answer = Record | ServicesPart | Absent


class AskedBy(StrEnum):
    HANDLE = "handle"
    USER_ID = "user_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryKey:
    """A server's directory key. ``certificate`` is the object that the server's Matrix key signed."""

    server: ServerName
    key_id: str
    public_key: str
    certificate: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another homeserver that runs a directory. ``polled_ms`` is when its feed was last read to the end."""

    server: ServerName
    key: DirectoryKey | None
    feed_position: int
    polled_ms: int
    met_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A record of another server as it is kept here, and when it was last known to be current."""

    record: Record
    current_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedPage:
    """Entries after ``since``, in order. ``next_position`` is where to go on, ``head`` where the feed ends now."""

    entries: tuple[str, ...]
    next_position: int
    head: int
