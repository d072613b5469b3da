"""What is kept of moves between homeservers."""

from dataclasses import dataclass
from enum import StrEnum

from super_app.ids import Acct, Handle, UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """An account of this homeserver that moved away. ``told_ms`` is when the new homeserver had heard of it."""

    acct: Acct
    user_id: UserId
    to_user_id: UserId
    to_acct: Acct
    to_handle: Handle
    moved_ms: int
    told_ms: int | None = None
    ended_ms: int | None = None


class ArrivalState(StrEnum):
    ANNOUNCED = "announced"  # the person said here where they come from
    ACCEPTED = "accepted"  # the former homeserver has asked, and may move them
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An account of this homeserver whose owner says that they were somebody elsewhere.

    ``recovering`` if all there is is the word of a recovery key.
    """

    acct: Acct
    from_user_id: UserId
    from_acct: Acct | None
    recovering: bool
    state: ArrivalState
    announced_ms: int
    done_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """A move that was verified here."""

    user_id: UserId
    acct: Acct
    to_user_id: UserId
    to_acct: Acct
    moved_ms: int
    seen_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """The word of a recovery key, as it waits here until the former homeserver has been silent for long enough."""

    acct: Acct
    user_id: UserId
    to_user_id: UserId
    to_acct: Acct
    first_seen_ms: int
    contested_ms: int | None = None
