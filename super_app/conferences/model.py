"""Who sits in a room of the SFU: seats, what they allow, and leave events that clients handed over."""

from dataclasses import dataclass
from datetime import tzinfo
from enum import StrEnum
from typing import Final, NewType

from super_app.ids import RoomId, UserId
from super_app.money import Money

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
    grant: Grant | None
    """What the SFU lets them send; None if that is not known, since they may have come with a token of before."""
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


# Who may do what, as the state of the Matrix room says.


class ScreenShare(StrEnum):
    """Who may show their screen, among those who may speak."""

    SPEAKERS = "speakers"
    HOSTS = "hosts"
    NOBODY = "nobody"


class Role(StrEnum):
    HOST = "host"
    SPEAKER = "speaker"
    LISTENER = "listener"


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """``stage``: only hosts and speakers are heard; otherwise everybody is. ``hands``: who asks to speak, in order."""

    stage: bool = False
    audio_only: bool = False
    screen_share: ScreenShare = ScreenShare.SPEAKERS
    hosts: tuple[UserId, ...] = ()
    speakers: tuple[UserId, ...] = ()
    hands: tuple[UserId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """From one minute of the day to another, over midnight if it is the lesser; equal ones are the whole day.

    ``days`` are those on which it begins, 0 for Monday.
    """

    days: frozenset[int]
    from_minute: int
    to_minute: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """When a call is open, by the clock of a zone."""

    zone: tzinfo
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTerms:
    """How one gets into a call by its link. ``most``: how many people are in it at once, 0 for any number.

    ``price`` is what each minute in the call costs whoever is no host of it, and ``payee`` whom they pay: the host who
    made the link. Both stand there, or neither.
    """

    link_id: str
    title: str = ""
    opens_ms: int | None = None
    closes_ms: int | None = None
    hours: Hours | None = None
    waiting_room: bool = False
    most: int = 0
    price: Money | None = None
    payee: UserId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hall:
    """A room's rules for its calls. ``garbled``: some of its state cannot be read."""

    roles: Roles | None = None
    link: LinkTerms | None = None
    garbled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link that somebody here made."""

    link_id: str
    room_id: RoomId
    host: UserId
    made_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """Whether somebody is in the call of a room, as their homeserver or the host's sees it now.

    ``since_ms`` is when they came, ``left_ms`` when they left, each only if the room says so.
    """

    is_in: bool
    since_ms: int | None = None
    left_ms: int | None = None


class GuestState(StrEnum):
    WAITING = "waiting"
    ADMITTED = "admitted"
    AWAY = "away"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    user_id: UserId
    asked_ms: int
    state: GuestState


WAITING_MAX: Final = 500
"""Who may wait at one link."""
LINKS_MAX: Final = 200
"""Links of one person."""
