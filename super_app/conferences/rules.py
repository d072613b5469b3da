"""Pure decisions of conferences: names at the SFU, what a token says, and what becomes of a leave event."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Final

import jwt

from super_app.conferences.model import CONNECT_MS, Care, Grant, Identity, Leave, SfuRoom
from super_app.ids import RoomId, UserId
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
