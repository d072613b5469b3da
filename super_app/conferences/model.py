"""Who sits in a room of the SFU: seats, what they allow, and leave events that clients handed over."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NewType

from super_app.ids import RoomId, UserId

SfuRoom = NewType("SfuRoom", str)
"""The name of a room at the SFU. It tells the SFU neither the Matrix room nor the slot."""
Identity = NewType("Identity", str)
"""Names one device in one call at the SFU. It is what the clients of the others derive too."""

ROOM_SLOT: Final = "m.call#ROOM"
"""The slot of a room's own call: the one that clients mean which know of no slots."""
REFRESHED_MS: Final = 15 * 60_000
"""The SFU gives whoever is connected tokens of its own that last ten minutes: so long somebody can come back."""
ROOM_KNOWN_MS: Final = 60_000
"""For so long after it was made, or seen with somebody in it, a room of the SFU is there without asking."""
EMPTY_S: Final = 300
"""How long the SFU keeps a room that nobody has entered."""
DEPARTED_S: Final = 120
"""How long it keeps one that everybody has left. More than ``ROOM_KNOWN_MS``."""
MIN_DELAY_MS: Final = 5_000
"""A leave event that is due sooner cannot be kept back reliably."""
CONNECT_MS: Final = 120_000
"""Who handed a leave event over and is not connected by then is not coming."""


class Source(StrEnum):
    """What somebody sends, in the SFU's words."""

    CAMERA = "camera"
    MICROPHONE = "microphone"
    SCREEN_SHARE = "screen_share"
    SCREEN_SHARE_AUDIO = "screen_share_audio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a seat allows: to listen always, and to send ``sources``, None for all."""

    can_publish: bool
    sources: frozenset[Source] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """One device that was given a token. ``publishes_here``: its media belongs on this SFU, if its role allows any."""

    sfu_room: SfuRoom
    identity: Identity
    room_id: RoomId
    user_id: UserId
    publishes_here: bool
    grant: Grant
    until_ms: int
    participant: str | None = None
    """The SFU's name of the connection; None while there is none."""
    barred: bool = False
    """The SFU was told to remove it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """A delayed leave event that the homeserver looks after."""

    sfu_room: SfuRoom
    identity: Identity
    delay_id: str
    delay_ms: int
    delegated_ms: int
    restarted_ms: int
    was_connected: bool
    is_connected: bool


class Care(StrEnum):
    """What to do with a leave event now."""

    WAIT = "wait"
    RESTART = "restart"
    SEND = "send"
    GIVE_UP = "give_up"
