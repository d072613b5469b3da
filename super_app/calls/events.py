"""Room events about calls: how three protocols become rings and signals, and what we send ourselves.

Read here: our own ``org.superapp.call.*``; legacy ``m.call.*`` (Matrix spec, "Voice over IP"); MatrixRTC with its rings
(MSC4075, and the deprecated ``call.notify`` that clients still send beside it), declines (MSC4310) and memberships
(MSC3401 state events, in the form of MSC4143; and the sticky events of MSC4354 that replace them). Candidates and
renegotiations are no concern of ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal, TypeGuard, cast

from pydantic import Field

from super_app.calls.model import (
    CLOCK_TOLERANCE_MS,
    DEFAULT_LIFETIME_MS,
    LATE_RING_MS,
    MAX_LIFETIME_MS,
    MIN_LIFETIME_MS,
    Act,
    CallId,
    Media,
    Offer,
    Protocol,
    Ring,
    Side,
    Signal,
    State,
    StickyMember,
)
from super_app.errors import Reason, Refused
from super_app.ids import EventId, RoomId, UserId, parse_user_id
from super_app.names import EventType
from super_app.wire import WireModel

INVITE: Final = "m.call.invite"
ANSWER: Final = "m.call.answer"
SELECT_ANSWER: Final = "m.call.select_answer"
REJECT: Final = "m.call.reject"
HANGUP: Final = "m.call.hangup"
RTC_NOTIFICATION: Final = "org.matrix.msc4075.rtc.notification"
RTC_NOTIFICATIONS: Final = frozenset({RTC_NOTIFICATION, "m.rtc.notification"})
RTC_NOTIFIES: Final = frozenset({"org.matrix.msc4075.call.notify", "m.call.notify"})
RTC_DECLINE: Final = "org.matrix.msc4310.rtc.decline"
RTC_DECLINES: Final = frozenset({RTC_DECLINE, "m.rtc.decline"})
CALL_MEMBER: Final = "org.matrix.msc3401.call.member"
RTC_MEMBERS: Final = frozenset({"org.matrix.msc4143.rtc.member", "m.rtc.member"})
MEMBER_TYPES: Final = frozenset({CALL_MEMBER}) | RTC_MEMBERS
"""Memberships of MatrixRTC: CALL_MEMBER is room state, the others are state or sticky."""
STICKY_FIELD: Final = "msc4354_sticky"
"""The field of an event, beside its content, that says how long it sticks."""

RING_TYPES: Final = frozenset({EventType.CALL_RING.value, INVITE}) | RTC_NOTIFICATIONS | RTC_NOTIFIES
SERVER_TYPES: Final = frozenset({EventType.CALL_RINGING.value, EventType.CALL_SCREENED.value, EventType.CALL_END.value})
"""Those of ours that only homeservers send."""
SIGNAL_TYPES: Final = (
    frozenset(
        {
            ANSWER,
            SELECT_ANSWER,
            REJECT,
            HANGUP,
            EventType.CALL_RINGING.value,
            EventType.CALL_SCREENED.value,
            EventType.CALL_END.value,
        }
    )
    | RTC_DECLINES
    | MEMBER_TYPES
)

VOICEMAIL_KEY: Final = "org.superapp.call.voicemail"
CALLBACK_KEY: Final = "org.superapp.call.callback"
"""Keys in messages about a call that was not answered."""

PARTY_ID: Final = "org.superapp"
"""Our party id in ``m.call.reject``: no device of the callee."""

_NAME_MAX: Final = 255
CALL_ID_PATTERN: Final = r"^[0-9A-Za-z._~-]{1,255}$"  # the grammar of opaque identifiers (Matrix spec, appendices)
_BUSY: Final = "user_busy"
_GAVE_UP: Final = "invite_timeout"
_STICKY_KEYS: Final = ("msc4354_sticky_key", "sticky_key")
_MEMBERSHIP_MS: Final = 4 * 3_600_000  # the default of MSC4143 for memberships that do not say
_STICKY_MAX_MS: Final = 3_600_000  # MSC4354 lets no event stick longer
_FAILURES: Final = frozenset({"ice_failed", "ice_timeout", "user_media_failed", "unknown_error"})


class _Relation(WireModel):
    rel_type: Literal["m.reference"]
    event_id: str


class _Mentions(WireModel):
    user_ids: Annotated[list[str] | None, Field(max_length=100)] = None
    room: bool = False


class RingContent(WireModel):
    """Content of ``org.superapp.call.ring``. ``lifetime`` is in milliseconds, as in the other protocols' rings."""

    call_id: Annotated[str, Field(pattern=CALL_ID_PATTERN)]
    media: Literal["audio", "video"]
    callee: str | None = None
    lifetime: Annotated[int, Field(ge=MIN_LIFETIME_MS, le=MAX_LIFETIME_MS)] = DEFAULT_LIFETIME_MS
    relates_to: Annotated[_Relation | None, Field(alias="m.relates_to")] = None
    mentions: Annotated[_Mentions | None, Field(alias="m.mentions")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomEvent:
    """A room event as it is read here. ``arrived_ms`` is when this homeserver got or made it, on its own clock."""

    event_id: EventId
    event_type: str
    room_id: RoomId
    sender: UserId
    content: Mapping[str, Any]
    is_state: bool
    origin_server_ts: int
    age_ts: int | None
    """The sender's homeserver said, when it sent this, that the event was that old; our clock."""
    arrived_ms: int
    sticky_ms: int | None = None
    """How long it sticks, if it is a sticky event (MSC4354)."""

    @property
    def start_ms(self) -> int:
        """When it was sent: the later of what its sender and its sender's homeserver say, and never in the future."""
        return min(self.arrived_ms, max(self.origin_server_ts, self.age_ts or 0))


# Reading.


def read_ring(event: RoomEvent) -> Ring | Refused | None:
    """The ring in an event. A refusal is for our own type only; a stock event that makes no sense is None."""
    if event.is_state:
        return None
    if event.event_type == EventType.CALL_RING:
        return _superapp_ring(event)
    if event.event_type == INVITE:
        return _legacy_ring(event)
    if event.event_type in RTC_NOTIFICATIONS:
        return _rtc_ring(event)
    if event.event_type in RTC_NOTIFIES:
        return _rtc_notify(event)
    return None


def is_late(ring: Ring, now_ms: int) -> bool:
    """Whether it was over before it reached us, so that no client rings."""
    return now_ms > ring.start_ms + ring.lifetime_ms + CLOCK_TOLERANCE_MS


def is_history(ring: Ring, now_ms: int) -> bool:
    """Whether it is so old that it is nobody's missed call, only history that a server caught up on."""
    return now_ms > ring.start_ms + LATE_RING_MS


def _superapp_ring(event: RoomEvent) -> Ring | Refused:
    content = RingContent.parse(dict(event.content))
    if isinstance(content, Refused):
        return content
    callee = None if content.callee is None else parse_user_id(content.callee)
    if content.callee is not None and (callee is None or callee == event.sender):
        return Refused(
            reason=Reason.INVALID_VALUE,
            message="callee must be the user id of another member of the room, such as @bob:example.org.",
        )
    return Ring(
        room_id=event.room_id,
        event_id=event.event_id,
        event_type=event.event_type,
        caller=event.sender,
        protocol=Protocol.SUPERAPP,
        call_id=CallId(content.call_id),
        reference=None if content.relates_to is None else EventId(content.relates_to.event_id),
        media=Media(content.media),
        lifetime_ms=content.lifetime,
        callees=None if callee is None else frozenset({callee}),
        start_ms=event.start_ms,
    )


def _legacy_ring(event: RoomEvent) -> Ring | None:
    call_id = _call_id(event.content)
    if call_id is None:
        return None
    offer = _object(event.content, "offer").get("sdp")
    invitee = event.content.get("invitee")
    callee = parse_user_id(invitee) if isinstance(invitee, str) else None
    return Ring(
        room_id=event.room_id,
        event_id=event.event_id,
        event_type=event.event_type,
        caller=event.sender,
        protocol=Protocol.LEGACY,
        call_id=call_id,
        reference=None,
        media=Media.VIDEO if isinstance(offer, str) and "m=video" in offer else Media.AUDIO,
        lifetime_ms=_lifetime_ms(event.content),
        callees=None if callee is None else frozenset({callee}),
        start_ms=event.start_ms,
        # Version 0 knows no reject: there a callee says no with a hangup.
        answer_version="0" if event.content.get("version") in (0, "0") else "1",
        party_id=_name(event.content.get("party_id")),
    )


def _rtc_ring(event: RoomEvent) -> Ring | None:
    if event.content.get("notification_type") != "ring":
        return None
    mentions = _object(event.content, "m.mentions")
    named = [parse_user_id(each) for each in _list(mentions, "user_ids") if isinstance(each, str)]
    callees = frozenset(callee for callee in named if callee is not None)
    return _rtc(event, None if mentions.get("room") is True or not callees else callees)


def _rtc_notify(event: RoomEvent) -> Ring | None:
    return _rtc(event, None) if event.content.get("notify_type") == "ring" else None


def _rtc(event: RoomEvent, callees: frozenset[UserId] | None) -> Ring:
    return Ring(
        room_id=event.room_id,
        event_id=event.event_id,
        event_type=event.event_type,
        caller=event.sender,
        protocol=Protocol.MATRIXRTC,
        call_id=None,
        reference=_reference(event.content),
        media=_rtc_media(event.content),
        lifetime_ms=_lifetime_ms(event.content),
        callees=callees,
        start_ms=event.start_ms,
    )


def ring_of_membership(event: RoomEvent, membership: RoomEvent) -> Ring:
    """The ring in an encrypted event that refers to its sender's membership, which says what is known of it."""
    return Ring(
        room_id=event.room_id,
        event_id=event.event_id,
        event_type=event.event_type,
        caller=event.sender,
        protocol=Protocol.MATRIXRTC,
        call_id=None,
        reference=membership.event_id,
        media=_rtc_media(membership.content),
        lifetime_ms=DEFAULT_LIFETIME_MS,
        callees=None,
        start_ms=event.start_ms,
    )


def _rtc_media(content: Mapping[str, Any]) -> Media:
    return Media.AUDIO if content.get("m.call.intent") in ("audio", "voice") else Media.VIDEO


def read_signal(event: RoomEvent) -> Signal | None:
    """What an event after the ring says, or None if it says nothing that we understand."""
    if event.event_type in MEMBER_TYPES:
        return _membership(event)
    if event.is_state:
        return None
    if event.event_type in RTC_DECLINES:
        reference = _reference(event.content)
        return None if reference is None else _signal(event, Act.DECLINE, Side.CALLEE, reference=reference)
    call_id = _call_id(event.content)
    if call_id is None:
        return None
    reason = event.content.get("reason")
    match event.event_type:
        case "m.call.answer":
            # Version 0 knows no select_answer, so there the answer is all there is.
            waits = event.content.get("version") not in (0, "0", None)
            return replace(_signal(event, Act.ANSWER, Side.CALLEE, call_id=call_id), awaits_confirmation=waits)
        case "m.call.select_answer":
            return _signal(event, Act.CONFIRM, Side.CALLER, call_id=call_id)
        case "m.call.reject":
            act = Act.BUSY if reason == _BUSY else Act.DECLINE
            return _signal(event, act, Side.CALLEE, call_id=call_id)
        case "m.call.hangup":
            return _signal(event, _hangup_act(reason), Side.EITHER, call_id=call_id)
        case EventType.CALL_SCREENED:
            return replace(_signal(event, Act.SCREEN, Side.CALLEE, call_id=call_id), offers=_offers(event.content))
        case EventType.CALL_RINGING:
            return replace(_signal(event, Act.OFFER, Side.CALLEE, call_id=call_id), offers=_offers(event.content))
        case EventType.CALL_END:
            # Of the outcome only this much is believed: whether the ring ran out or was taken back.
            act = Act.GIVE_UP if event.content.get("outcome") == State.MISSED else Act.HANG_UP
            return _signal(event, act, Side.CALLER, call_id=call_id)
        case _:
            return None


def _hangup_act(reason: object) -> Act:
    if reason == _GAVE_UP:
        return Act.GIVE_UP
    if reason == _BUSY:
        return Act.BUSY
    return Act.FAIL if isinstance(reason, str) and reason in _FAILURES else Act.HANG_UP


def _membership(event: RoomEvent) -> Signal | None:
    # One membership per state key or sticky key, empty once it is left; older clients keep a list of them.
    joined = "application" in event.content or bool(_list(event.content, "memberships"))
    signal = _signal(event, Act.JOIN if joined else Act.LEAVE, Side.EITHER)
    if event.is_state:
        return signal
    key = next((name for each in _STICKY_KEYS if (name := _name(event.content.get(each)))), "")
    if not key or event.event_type not in RTC_MEMBERS:
        return None
    lasts_ms = min(event.sticky_ms or _STICKY_MAX_MS, _STICKY_MAX_MS)
    return replace(signal, member=StickyMember(key=key, until_ms=event.start_ms + lasts_ms))


def left_sticky(key: str) -> dict[str, Any]:
    """What a sticky membership of this key holds once it is left."""
    return dict.fromkeys(_STICKY_KEYS, key)


def membership_until_ms(event: RoomEvent) -> int:
    """When a membership in room state ends unless it is renewed: clients that crash leave theirs behind."""
    expires, created = event.content.get("expires"), event.content.get("created_ts")
    lasts_ms = expires if type(expires) is int and expires > 0 else _MEMBERSHIP_MS
    # A time of the future is somebody's wrong clock, or a wish to be in the call for ever.
    since_ms = min(created, event.origin_server_ts) if type(created) is int else event.origin_server_ts
    return since_ms + lasts_ms


def _offers(content: Mapping[str, Any]) -> frozenset[Offer]:
    named = [each for each in _list(content, "offers") if isinstance(each, str)]
    return frozenset(offer for offer in Offer if offer.value in named)


def _signal(
    event: RoomEvent,
    act: Act,
    side: Side,
    *,
    call_id: CallId | None = None,
    reference: EventId | None = None,
) -> Signal:
    return Signal(
        act=act,
        side=side,
        room_id=event.room_id,
        event_id=event.event_id,
        sender=event.sender,
        call_id=call_id,
        reference=reference,
    )


def _call_id(content: Mapping[str, Any]) -> CallId | None:
    value = content.get("call_id")
    return CallId(value) if _is_name(value) else None


def _reference(content: Mapping[str, Any]) -> EventId | None:
    relation = _object(content, "m.relates_to")
    event_id = relation.get("event_id")
    return EventId(event_id) if _is_name(event_id) else None


def _name(value: object) -> str:
    return value if _is_name(value) else ""


def _is_name(value: object) -> TypeGuard[str]:
    # What is not printable (a zero byte, half a surrogate) is no id, and some databases do not store it.
    return isinstance(value, str) and 0 < len(value) <= _NAME_MAX and value.isprintable()


def _lifetime_ms(content: Mapping[str, Any]) -> int:
    value = content.get("lifetime")
    return min(max(value, MIN_LIFETIME_MS), MAX_LIFETIME_MS) if type(value) is int else DEFAULT_LIFETIME_MS


def _object(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key)
    return cast(Mapping[str, Any], value) if isinstance(value, Mapping) else {}


def _list(content: Mapping[str, Any], key: str) -> list[object]:
    value = content.get(key)
    return cast(list[object], value) if isinstance(value, list) else []


# Writing. Each event names the call, and refers to the ring where there is one to refer to.


def ringing_content(call_id: CallId, ring: EventId, offers: frozenset[Offer]) -> dict[str, Any]:
    return {"call_id": call_id, **_offered(offers), "m.relates_to": _refers_to(ring)}


def screened_content(call_id: CallId, ring: EventId, offers: frozenset[Offer]) -> dict[str, Any]:
    """The one reason there is: it says nothing of the rule that spoke, and neither do the offers, which are for all."""
    return {
        "call_id": call_id,
        "reason": Reason.NOT_AVAILABLE.value,
        **_offered(offers),
        "m.relates_to": _refers_to(ring),
    }


def _offered(offers: frozenset[Offer]) -> dict[str, Any]:
    return {"offers": sorted(offers)} if offers else {}


def ring_content(
    call_id: CallId, media: Media, callee: UserId, lifetime_ms: int, membership: EventId | None
) -> dict[str, Any]:
    """A ring of ours for one person."""
    relation = {} if membership is None else {"m.relates_to": _refers_to(membership)}
    return {
        "call_id": call_id,
        "media": media.value,
        "callee": callee,
        "lifetime": lifetime_ms,
        "m.mentions": {"user_ids": [callee]},
        **relation,
    }


def invite_content(call_id: CallId, party_id: str, callee: UserId, lifetime_ms: int, sdp: str) -> dict[str, Any]:
    """A legacy ring with the caller's offer."""
    return {
        "call_id": call_id,
        "version": "1",
        "party_id": party_id,
        "invitee": callee,
        "lifetime": lifetime_ms,
        "offer": {"type": "offer", "sdp": sdp},
    }


def notification_content(
    media: Media, callee: UserId, lifetime_ms: int, membership: EventId, sent_ms: int
) -> dict[str, Any]:
    """A MatrixRTC ring (MSC4075)."""
    return {
        "notification_type": "ring",
        "sender_ts": sent_ms,
        "lifetime": lifetime_ms,
        "m.call.intent": media.value,
        "m.mentions": {"user_ids": [callee], "room": False},
        "m.relates_to": _refers_to(membership),
    }


def membership_content(device_id: str, media: Media, lasts_ms: int, now_ms: int) -> dict[str, Any]:
    """One device's membership of a room's MatrixRTC call, as room state (MSC4143)."""
    return {
        "application": "m.call",
        "call_id": "",
        "scope": "m.room",
        "device_id": device_id,
        "created_ts": now_ms,
        "expires": lasts_ms,
        "m.call.intent": media.value,
        "focus_active": {"type": "livekit", "focus_selection": "oldest_membership"},
        "foci_preferred": [],
    }


def voicemail_content(
    call_id: CallId, url: str, mimetype: str, duration_ms: int, size_bytes: int | None
) -> dict[str, Any]:
    """A voice message (MSC3245) that says which call it is about."""
    info = {"mimetype": mimetype, "duration": duration_ms, **({} if size_bytes is None else {"size": size_bytes})}
    return {
        "msgtype": "m.audio",
        "body": "Voicemail",
        "url": url,
        "info": info,
        "org.matrix.msc1767.audio": {"duration": duration_ms},
        "org.matrix.msc3245.voice": {},
        VOICEMAIL_KEY: {"call_id": call_id},
    }


def callback_content(call_id: CallId) -> dict[str, Any]:
    """A message that asks to be called back."""
    return {"msgtype": "m.text", "body": "Please call me back.", CALLBACK_KEY: {"call_id": call_id}}


def selected_answer(call_id: CallId, party_id: str) -> tuple[str, dict[str, Any]]:
    """What stops legacy rings on the callee's other devices after an answer by another protocol: none of them is it."""
    return SELECT_ANSWER, {
        "call_id": call_id,
        "version": "1",
        "party_id": party_id or PARTY_ID,
        "selected_party_id": PARTY_ID,
    }


def rtc_decline(ring: EventId) -> tuple[str, dict[str, Any]]:
    return RTC_DECLINE, {"m.relates_to": _refers_to(ring)}


def end_content(call_id: CallId, ring: EventId, outcome: State) -> dict[str, Any]:
    return {"call_id": call_id, "outcome": outcome.value, "m.relates_to": _refers_to(ring)}


def stock_decline(ring: Ring, call_id: CallId) -> tuple[str, dict[str, Any]]:
    """The event, type and content, by which clients that know nothing of us learn that the callee says no."""
    if ring.protocol is Protocol.MATRIXRTC:
        return rtc_decline(ring.event_id)
    if ring.answer_version == "0":
        return HANGUP, {"call_id": call_id, "version": 0}
    return REJECT, {"call_id": call_id, "version": "1", "party_id": PARTY_ID}


def _refers_to(event_id: EventId) -> dict[str, str]:
    return {"rel_type": "m.reference", "event_id": event_id}
