"""What a call is: sessions, the records that people keep of them, who may ring, and what is owed to a room.

A session is one call as this homeserver saw it. A record is one local person's view of it; both sides of a call between
two homeservers keep their own, and neither believes the other's durations.
"""

from dataclasses import dataclass
from datetime import tzinfo
from enum import Enum, StrEnum
from typing import Any, Final, NewType

from super_app.ids import Acct, EventId, Handle, RoomId, ServerName, UserId

CallId = NewType("CallId", str)
"""A caller's own name for a call, unique per room and caller. For MatrixRTC the id of the event that it refers to."""
SessionId = NewType("SessionId", str)
"""Names a session: unpadded base64url of a hash over room, caller and call id, so two processes find the same one."""

DEFAULT_LIFETIME_MS: Final = 60_000
"""How long a ring lasts that does not say."""
MIN_LIFETIME_MS: Final = 1_000
MAX_LIFETIME_MS: Final = 120_000
"""No ring lasts longer, whatever it says."""
RING_GRACE_MS: Final = 1_000
"""An answer that was under way when the ring ended still counts."""
MEDIA_MS: Final = 15_000
"""An answer that nobody confirms, and after which no client reports media, is over after this time."""
LEAVE_MS: Final = 8_000
"""Who left a MatrixRTC call and is back within this time has not left: connections break, and clients rejoin."""
LONGEST_CALL_MS: Final = 24 * 3_600_000
"""An answered call whose end nobody told us of is over by then."""
LATE_RING_MS: Final = 24 * 3_600_000
"""A ring that reaches us late, but not later than this, is recorded as missed; an older one is history."""
CLOCK_TOLERANCE_MS: Final = 20_000
"""How far a sender's clock may be off (the figure of MSC4075)."""
SAME_RTC_CALL_MS: Final = 10_000
"""MatrixRTC rings of one caller in one room within this time are one call (clients send a deprecated twin)."""
REFUSAL_PAUSE_MS: Final = 10 * 60_000
"""A caller is told politely at most once in this time."""
MAX_RUNG: Final = 32
"""A ring for everybody in a larger room is an announcement: nobody's record."""
SCREENED_RECORDS_MAX: Final = 100
"""Screened rings of one homeserver that a person's history keeps per window; what is above is only counted."""
SCREENED_RECORDS_WINDOW_MS: Final = 3_600_000
OUTBOX_ATTEMPTS_MAX: Final = 5


class Media(StrEnum):
    AUDIO = "audio"
    VIDEO = "video"


class Protocol(StrEnum):
    """Which events a ring came in."""

    SUPERAPP = "superapp"
    LEGACY = "legacy"
    MATRIXRTC = "matrixrtc"


class Direction(StrEnum):
    INCOMING = "incoming"
    OUTGOING = "outgoing"


class State(StrEnum):
    """``new -> screened | ringing -> answered | declined | missed | cancelled | busy | failed``; answered -> ended.

    NEW is known to the gate only: the event does not exist yet, and may never.
    """

    NEW = "new"
    RINGING = "ringing"
    ANSWERED = "answered"
    ENDED = "ended"
    SCREENED = "screened"
    DECLINED = "declined"
    MISSED = "missed"
    CANCELLED = "cancelled"
    BUSY = "busy"
    FAILED = "failed"

    @property
    def is_open(self) -> bool:
        """Whether something can still happen. Every other state absorbs."""
        return self in _OPEN


_OPEN: Final = frozenset({State.NEW, State.RINGING, State.ANSWERED})


class Rule(StrEnum):
    """The rules of screening, in the order in which they speak."""

    IGNORED = "ignored"
    INVITES = "invites"  # Matrix's own blocking of invitations
    ALLOW = "allow"
    DENY = "deny"
    SERVERS = "servers"
    ROOMS = "rooms"
    RATE = "rate"
    DO_NOT_DISTURB = "do_not_disturb"
    QUIET = "quiet"
    WHO = "who"
    PRICE = "price"


class Who(StrEnum):
    EVERYONE = "everyone"
    CONTACTS = "contacts"
    FOLLOWING = "following"
    VERIFIED = "verified"
    SHARED_ROOMS = "shared_rooms"
    NOBODY = "nobody"


class Refusal(StrEnum):
    POLITE = "polite"
    SILENT = "silent"


class Offer(StrEnum):
    """What a caller who was not answered may do instead."""

    MESSAGE = "message"
    VOICEMAIL = "voicemail"
    CALLBACK = "callback"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietWindow:
    """From one minute of the day to another, over midnight if it is the lesser; equal ones mean the whole day.

    ``days`` are those on which it begins, 0 for Monday.
    """

    days: frozenset[int]
    from_minute: int
    to_minute: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietHours:
    """``repeat_ms``: a second ring of the same person within this time gets through; 0 for never."""

    zone: tzinfo
    windows: tuple[QuietWindow, ...]
    repeat_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """How many rings are shown per window; 0 for any number.

    ``caller``: of one person. ``server``: of one homeserver, ``strangers``: of all together; these two hold for callers
    whom the person does not know, so that a flood of strangers keeps nobody else out.
    """

    caller: int
    server: int
    window_ms: int
    strangers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLists:
    """Server names and patterns such as ``*.example.org``. ``allow`` None means any that is not denied."""

    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomChecks:
    """Which rooms ring. ``prior_conversation``: only those in which the person has said something before."""

    prior_conversation: bool = False
    groups: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DoNotDisturb:
    """Nobody rings until then; None for until it is taken back."""

    until_ms: int | None


class Per(StrEnum):
    """What a price is for: to ring once, paid before, or each minute of the call, confirmed before."""

    RING = "ring"
    MINUTE = "minute"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a caller whom ``who`` keeps out pays to ring, in minor units."""

    amount_minor: int
    currency: str
    per: Per = Per.RING


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Who may ring somebody. ``allow`` and ``deny`` hold user ids and full handles.

    ``issuers`` are those whose badges count for ``verified``; empty for this homeserver's own operator alone.
    """

    who: frozenset[Who]
    rate: RateLimit
    allow: frozenset[str] = frozenset()
    deny: frozenset[str] = frozenset()
    servers: ServerLists = ServerLists()
    quiet: QuietHours | None = None
    refusal: Refusal = Refusal.POLITE
    rooms: RoomChecks = RoomChecks()
    do_not_disturb: DoNotDisturb | None = None
    issuers: frozenset[str] = frozenset()
    price: Price | None = None
    offers: frozenset[Offer] = frozenset({Offer.MESSAGE})
    relay_only: bool = False
    """Media of this person goes over the TURN server, so that nobody they talk to learns their address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What the homeserver knows of caller and callee beside the calls tables."""

    ignored: bool = False
    invites_blocked: bool = False
    """The callee takes no invitations of the caller."""
    shares_room: bool = False
    """They are both in a room other than the one that rings."""
    handle: Handle | None = None
    """The caller's, as far as it is known here."""
    follows: bool = False
    """The callee follows the caller."""
    verified: bool = False
    """The caller has a badge of an issuer that the policy names."""
    conversed: bool = False
    """The callee has said something in the room that rings."""
    is_group: bool = False
    """More than two are in the room that rings."""
    has_paid: bool = False
    """The caller has paid the policy's price for this ring, or agreed to pay it by the minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that a screening decision stands on, at one instant."""

    caller: UserId
    circumstances: Circumstances
    contact: bool
    known: bool
    """A contact, or somebody with whom the callee has talked before or whom the callee has rung."""
    shown_of_caller: int
    shown_of_server: int
    shown_of_strangers: int
    previous_ring_ms: int | None
    now_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentRing:
    """A ring that somebody here got lately."""

    ring_ms: int
    caller: UserId
    shown: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """What screening must know of a callee's past: rings since a time, whom they know, their contacts."""

    rings: tuple[RecentRing, ...]
    known: frozenset[UserId]
    contacts: frozenset[UserId]
    blocked: frozenset[UserId] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether a ring is shown, and the rule that said so."""

    shown: bool
    rule: Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """An account of this homeserver that takes part."""

    acct: Acct
    user_id: UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class Callee:
    """An account of this homeserver that is rung, and what screening must know of it."""

    local: Local
    policy: Policy
    circumstances: Circumstances


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Who is in the room that rings. ``joined`` and ``invited`` are complete only up to ``MAX_RUNG`` members."""

    joined: frozenset[UserId]
    invited: frozenset[UserId]
    is_complete: bool

    @property
    def is_direct(self) -> bool:
        """Exactly two members joined or invited."""
        return self.is_complete and len(self.joined | self.invited) == 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """A ring, whatever events it came in.

    ``call_id`` is None for MatrixRTC, which names calls by ``reference``, the caller's call.member event.
    ``callees`` is None when the ring names nobody and so means everybody. ``start_ms`` is when it began, on our clock
    as far as that can be known. ``answer_version`` is the version that a legacy answer must carry.
    """

    room_id: RoomId
    event_id: EventId
    caller: UserId
    protocol: Protocol
    call_id: CallId | None
    reference: EventId | None
    media: Media
    lifetime_ms: int
    callees: frozenset[UserId] | None
    start_ms: int
    answer_version: str = "1"
    party_id: str = ""
    """The caller's device in a legacy call."""
    event_type: str = ""


class Act(StrEnum):
    """What an event after the ring says."""

    ANSWER = "answer"
    CONFIRM = "confirm"  # the caller's client picked an answer
    DECLINE = "decline"
    BUSY = "busy"
    FAIL = "fail"
    HANG_UP = "hang_up"
    GIVE_UP = "give_up"  # nobody answered in time
    SCREEN = "screen"
    OFFER = "offer"  # the callee's homeserver says that it rings, and what there is instead of an answer
    JOIN = "join"  # MatrixRTC
    LEAVE = "leave"


class Side(Enum):
    """Who may say it."""

    CALLER = "caller"
    CALLEE = "callee"
    EITHER = "either"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """An event after the ring. It names the call by id, or by an event that it refers to, or (JOIN, LEAVE) by room."""

    act: Act
    side: Side
    room_id: RoomId
    event_id: EventId
    sender: UserId
    call_id: CallId | None = None
    reference: EventId | None = None
    member: "StickyMember | None" = None
    """The membership of JOIN and LEAVE in its sticky form."""
    awaits_confirmation: bool = False
    """An ANSWER that the caller's client has to pick (legacy calls of version 1)."""
    offers: frozenset[Offer] = frozenset()
    """What the callee's homeserver offers the caller instead of an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StickyMember:
    """A MatrixRTC membership that is no room state but an event that lasts a while (MSC4354), named by a key."""

    key: str
    until_ms: int
    """When it ends by itself, our clock; of no meaning once it was left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One call. ``callee`` is None where a group is rung. ``peer`` of the caller's record is the callee or the room."""

    session_id: SessionId
    room_id: RoomId
    call_id: CallId
    caller: UserId
    callee: UserId | None
    protocol: Protocol
    media: Media
    ring_ms: int
    ring_until_ms: int
    due_ms: int | None
    """When something happens by itself; None once nothing is open here."""
    rtc_event_id: EventId | None
    """The caller's call.member event, where MatrixRTC memberships tell who answers and leaves."""
    superapp_event_id: EventId | None
    """The org.superapp.call.ring; without one, none of our events are sent about this call."""
    rtc_ring_id: EventId | None = None
    """The MatrixRTC notification, if it rang that way."""
    legacy_party: str | None = None
    """The caller's party id in ``m.call.invite``, if it rang that way; empty in version 0."""
    offers: frozenset[Offer] = frozenset()
    """What the callee's homeserver offers the caller, as far as it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One local person's view of a session. Times are this homeserver's clock."""

    session_id: SessionId
    owner: Acct
    user_id: UserId
    direction: Direction
    peer: str
    """The other person; for an outgoing ring to a group the room."""
    peer_server: ServerName
    state: State
    ring_ms: int
    answer_ms: int | None = None
    end_ms: int | None = None
    ended_by: UserId | None = None
    screened_by: Rule | None = None
    media_ms: int | None = None
    """When media was known to flow."""
    media_by_ms: int | None = None
    """When the call is over unless media was known to flow."""
    left_ms: int | None = None
    """When somebody left who may yet come back."""
    left_by: UserId | None = None
    callback_ms: int | None = None
    """When the caller asked to be called back."""
    quality: "Quality | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What a person's client measured of a call. Shares are in thousandths, times in milliseconds."""

    loss_permille: int | None = None
    jitter_ms: int | None = None
    round_trip_ms: int | None = None
    relayed: bool | None = None
    rating: int | None = None
    """1 (bad) to 5, by the person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """A record with what its session knows."""

    record: Record
    session: Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of history, newest first. ``next_token`` is None on the last one."""

    entries: tuple[HistoryEntry, ...]
    next_token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """An event that this homeserver sends into a room as one of its accounts."""

    outbox_id: str
    due_ms: int
    attempts: int
    room_id: RoomId
    sender: UserId
    event_type: str
    content: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Relayed:
    """A name under which somebody holds credentials of the TURN server until ``until_ms``.

    It is for one call, or for the call of one room from browser to browser: ``place`` is a session or a room.
    """

    name: str
    owner: Acct
    user_id: UserId
    place: "SessionId | RoomPlace"
    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomPlace:
    room_id: RoomId
