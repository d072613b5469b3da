"""Pure decisions of conferences: names at the SFU, what a token says, and what becomes of a leave event."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import jwt

from super_app.conferences.model import (
    CONNECT_MS,
    Care,
    Grant,
    Hall,
    Hours,
    Identity,
    Leave,
    LinkTerms,
    Role,
    Roles,
    ScreenShare,
    SfuRoom,
    Source,
)
from super_app.errors import Reason, Refused
from super_app.ids import RoomId, UserId
from super_app.money import Money
from super_app.signing import canonical

_ALGORITHM: Final = "HS256"
_SERVICE_TTL_S: Final = 60
_TOLERANCE_S: Final = 60
"""How far the clock of the SFU may be from ours."""


def sfu_room_of(room_id: RoomId, slot_id: str) -> SfuRoom:
    """One room per slot (MSC4195), by a name from which nobody learns the Matrix room."""
    return SfuRoom(_hash([room_id, slot_id]))


def identity_of(user_id: UserId, member_id: str) -> Identity:
    """The identity of MSC4195: other clients derive it from the sender and the ``member.id`` of a membership."""
    return Identity(_hash([user_id, member_id]))


def identity_of_device(user_id: UserId, device_id: str, member_id: str) -> Identity:
    """The identity of the service's own ``get_token``, before MSC4195 left the device out."""
    return Identity(_hash([user_id, device_id, member_id]))


def plain_identity_of(user_id: UserId, device_id: str) -> Identity:
    """The identity of ``sfu/get``."""
    return Identity(f"{user_id}:{device_id}")


def _hash(parts: list[str]) -> str:
    return base64.b64encode(hashlib.sha256(canonical(parts)).digest()).rstrip(b"=").decode("ascii")


def participant_token(
    key: str, secret: str, sfu_room: SfuRoom, identity: Identity, grant: Grant, *, now_ms: int, ttl_ms: int
) -> str:
    """The token with which one device enters one room."""
    video: dict[str, Any] = {
        "room": sfu_room,
        "roomJoin": True,
        "roomCreate": False,
        "canPublish": grant.can_publish,
        "canPublishData": grant.can_publish,
        "canSubscribe": True,
        "canUpdateOwnMetadata": False,
        "hidden": False,
    }
    if grant.sources is not None:
        video["canPublishSources"] = sorted(grant.sources)
    now_s = now_ms // 1000
    return jwt.encode(
        {"iss": key, "sub": identity, "nbf": now_s, "exp": now_s + ttl_ms // 1000, "video": video}, secret, _ALGORITHM
    )


def service_token(key: str, secret: str, video: Mapping[str, Any], now_ms: int) -> str:
    """A token for one request of the homeserver to the SFU."""
    now_s = now_ms // 1000
    claims = {"iss": key, "nbf": now_s - _TOLERANCE_S, "exp": now_s + _SERVICE_TTL_S, "video": dict(video)}
    return jwt.encode(claims, secret, _ALGORITHM)


def is_from_sfu(authorization: str, body: bytes, key: str, secret: str, now_ms: int) -> bool:
    """Whether a webhook comes from the SFU that shares our secret, and its body is the one that was signed."""
    try:
        claims = jwt.decode(
            authorization.removeprefix("Bearer "),
            secret,
            algorithms=[_ALGORITHM],
            # Time is the caller's.
            options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False},
        )
    except jwt.InvalidTokenError:
        return False
    now_s, until_s, from_s = now_ms // 1000, claims.get("exp"), claims.get("nbf", 0)
    if claims.get("iss") != key or type(until_s) is not int or type(from_s) is not int:
        return False
    if now_s > until_s + _TOLERANCE_S or now_s < from_s - _TOLERANCE_S:
        return False
    said = claims.get("sha256")
    found = base64.b64encode(hashlib.sha256(body).digest()).decode("ascii")
    return isinstance(said, str) and hmac.compare_digest(said.encode(), found.encode())


def care_of(leave: Leave, now_ms: int) -> Care:
    """A leave event is kept back while its device is connected, or may yet connect, and sent when it is gone."""
    if leave.was_connected and not leave.is_connected:
        return Care.SEND
    if not leave.is_connected and now_ms - leave.delegated_ms > CONNECT_MS:
        return Care.GIVE_UP
    return Care.RESTART if now_ms - leave.restarted_ms >= leave.delay_ms // 3 else Care.WAIT


# Roles and links.

_SCREEN: Final = frozenset({Source.SCREEN_SHARE, Source.SCREEN_SHARE_AUDIO})
EVERYTHING: Final = frozenset(Source)


def role_of(roles: Roles | None, user_id: UserId) -> Role:
    if roles is not None and user_id in roles.hosts:
        return Role.HOST
    if roles is None or not roles.stage or user_id in roles.speakers:
        return Role.SPEAKER
    return Role.LISTENER


def grant_of(hall: Hall, user_id: UserId, *, publishes_here: bool) -> Grant:
    """What a person's role lets them send. Where the rules cannot be read, nothing."""
    if hall.garbled or not publishes_here:
        return Grant(can_publish=False)
    role = role_of(hall.roles, user_id)
    if role is Role.LISTENER:
        return Grant(can_publish=False)
    if hall.roles is None:
        return Grant(can_publish=True)
    sources = EVERYTHING
    if not _may_share(hall.roles.screen_share, role):
        sources -= _SCREEN
    if hall.roles.audio_only:
        sources -= {Source.CAMERA}
    return Grant(can_publish=True, sources=None if sources == EVERYTHING else sources)


def _may_share(screen_share: ScreenShare, role: Role) -> bool:
    match screen_share:
        case ScreenShare.SPEAKERS:
            return True
        case ScreenShare.HOSTS:
            return role is Role.HOST
        case ScreenShare.NOBODY:
            return False


def with_role(roles: Roles, user_id: UserId, role: Role) -> Roles | Refused:
    """The roles after somebody was promoted or demoted; their hand goes down."""
    if role is not Role.HOST and roles.hosts == (user_id,):
        return Refused(
            reason=Reason.CONFLICT, message="A call needs a host: make somebody else one before you step down."
        )
    hosts = tuple(each for each in roles.hosts if each != user_id)
    speakers = tuple(each for each in roles.speakers if each != user_id)
    return replace(
        roles,
        hosts=(*hosts, user_id) if role is Role.HOST else hosts,
        speakers=(*speakers, user_id) if role is Role.SPEAKER and roles.stage else speakers,
        hands=tuple(each for each in roles.hands if each != user_id),
    )


def with_hand(roles: Roles, user_id: UserId, *, raised: bool, most: int) -> Roles:
    """The roles after a hand went up or down. Those of who may speak anyway, and of too many, stay down."""
    others = tuple(each for each in roles.hands if each != user_id)
    if not raised or role_of(roles, user_id) is not Role.LISTENER or len(others) >= most:
        return replace(roles, hands=others)
    return roles if user_id in roles.hands else replace(roles, hands=(*others, user_id))


def may_enter(hall: Hall, user_id: UserId, now_ms: int, others: int) -> Refused | None:
    """Whether somebody in the room gets into its call now; hosts always do. ``others``: how many are in it."""
    if hall.garbled:
        return None
    if hall.link is None or role_of(hall.roles, user_id) is Role.HOST:
        return None
    closed = closed_until(hall.link, now_ms)
    if closed is not None:
        return closed
    if hall.link.most and others >= hall.link.most:
        return Refused(
            reason=Reason.CALL_FULL,
            message=f"This call takes {hall.link.most} people, and they are in it; try again when somebody has left.",
        )
    return None


def price_unconfirmed(price: Money) -> Refused:
    """Nobody comes into a call that costs money before they have said that they know what it costs."""
    return Refused(
        reason=Reason.PRICE_NOT_CONFIRMED,
        message=f"This call costs {price.amount_minor} minor units of {price.currency} a minute. Confirm the price in "
        "your wallet or with the assistant, then come in again.",
        fields={"amount": price.amount_minor, "currency": price.currency, "per": "minute"},
    )


def closed_until(link: LinkTerms, now_ms: int) -> Refused | None:
    """Why a call is not open now; None if it is."""
    if link.closes_ms is not None and now_ms >= link.closes_ms:
        return Refused(reason=Reason.CALL_CLOSED, message="This call is over; ask its host for another one.")
    opens_ms = link.opens_ms if link.opens_ms is not None and now_ms < link.opens_ms else None
    if opens_ms is None and link.hours is not None and not is_open(link.hours, now_ms):
        opens_ms = opens_next(link.hours, now_ms)
        if opens_ms is None:
            return Refused(reason=Reason.CALL_CLOSED, message="This call is not open; ask its host when it is.")
    if opens_ms is None:
        return None
    return Refused(
        reason=Reason.CALL_CLOSED,
        message=f"This call is not open yet; come back at {_utc(opens_ms)}.",
        fields={"opens_ts": opens_ms},
    )


def is_open(hours: Hours, now_ms: int) -> bool:
    """Whether it is within opening hours by the zone's clock, which daylight saving moves."""
    local = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(hours.zone)
    minute = local.hour * 60 + local.minute
    today, yesterday = local.weekday(), (local - timedelta(days=1)).weekday()
    for window in hours.windows:
        over_midnight = window.to_minute <= window.from_minute
        if today in window.days and minute >= window.from_minute and (over_midnight or minute < window.to_minute):
            return True
        if over_midnight and yesterday in window.days and minute < window.to_minute:
            return True
    return False


def opens_next(hours: Hours, now_ms: int) -> int | None:
    """When a window begins next; None if none ever does."""
    local = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(hours.zone)
    found: list[int] = []
    for ahead in range(8):
        day = local.date() + timedelta(days=ahead)
        for window in hours.windows:
            if day.weekday() in window.days:
                at = datetime(
                    day.year, day.month, day.day, window.from_minute // 60, window.from_minute % 60, tzinfo=hours.zone
                )
                found.append(int(at.timestamp() * 1000))
    return min((at_ms for at_ms in found if at_ms > now_ms), default=None)


def _utc(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
