"""A LiveKit that keeps rooms and participants, carries no media, and believes no request whose token is not right.

``FakeLiveKit`` answers what the homeserver asks of the RoomService, lets participants enter with their tokens as the
real one does, and sends webhooks, signed. ``tests/system/test_livekit.py`` holds the real one to the same.
"""

import base64
import hashlib
import itertools
import json
from collections.abc import Callable
from typing import Any

import jwt
from fake_api import FakeHomeserver

KEY = "APItest"
SECRET = "a-secret-of-the-sfu-that-is-long-enough"
URL = "wss://sfu.hs1.test"
_TWIRP = "/twirp/livekit.RoomService/"
_KNOWN = {"iss", "sub", "nbf", "exp", "video"}


class Refused(Exception):
    """The SFU lets somebody not in."""


class FakeLiveKit:
    def __init__(self, homeserver: FakeHomeserver) -> None:
        self._homeserver = homeserver
        self.rooms: dict[str, dict[str, dict[str, Any]]] = {}
        """By name: participants by identity, with ``sid`` and ``permission``."""
        self.limits: dict[str, int] = {}
        self.requests: list[str] = []
        self.is_up = True
        self.webhooks = True
        self._ids = itertools.count(1)
        homeserver.services["https://sfu.hs1.test"] = self._answer

    # What the homeserver asks.

    def _answer(self, path: str, token: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        method = path.removeprefix(_TWIRP)
        self.requests.append(method)
        if not self.is_up:
            return 503, {"code": "unavailable"}
        claims = self._claims(token)
        video = {} if claims is None else claims["video"]
        match method:
            case "CreateRoom" if video == {"roomCreate": True}:
                self.rooms.setdefault(body["name"], {})
                self.limits[body["name"]] = body["max_participants"]
                return 200, {"name": body["name"], "sid": "RM_1"}
            case _ if video != {"roomAdmin": True, "room": body.get("room")}:
                return 401, {"code": "unauthenticated"}
            case "RemoveParticipant":
                if body["identity"] not in self.rooms.get(body["room"], {}):
                    return 404, {"code": "not_found"}
                self.leave(body["room"], body["identity"], "PARTICIPANT_REMOVED")
                return 200, {}
            case "UpdateParticipant":
                if body["identity"] not in self.rooms.get(body["room"], {}):
                    return 404, {"code": "not_found"}
                self.rooms[body["room"]][body["identity"]]["permission"] = body["permission"]
                return 200, {}
            case "ListParticipants":
                people = self.rooms.get(body["room"], {}).items()
                return 200, {"participants": [{"identity": name, "sid": each["sid"]} for name, each in people]}
            case _:
                return 404, {"code": "bad_route"}

    def _claims(self, token: str) -> dict[str, Any] | None:
        try:
            claims: dict[str, Any] = jwt.decode(
                token, SECRET, algorithms=["HS256"], options={"verify_exp": False, "verify_nbf": False}
            )
        except jwt.InvalidTokenError:
            return None
        now_s = self._homeserver.now_ms() / 1000
        is_valid = claims["iss"] == KEY and claims["nbf"] <= now_s <= claims["exp"] and claims.keys() <= _KNOWN
        return claims if is_valid else None

    # What clients do.

    def enter(self, token: str) -> str:
        """Connect with a token. The identity that it gives; raises Refused as the real one closes the connection."""
        claims = self._claims(token)
        if claims is None or not claims["video"]["roomJoin"]:
            raise Refused("the token is not right")
        room, identity = claims["video"]["room"], claims["sub"]
        if room not in self.rooms:
            raise Refused("there is no such room, and rooms are not made by who enters")
        if self.limits[room] and len(self.rooms[room]) >= self.limits[room]:
            raise Refused("the room is full")
        video = claims["video"]
        permission = {"can_publish": video["canPublish"], "can_publish_sources": video.get("canPublishSources", [])}
        before = self.rooms[room].get(identity)
        self.rooms[room][identity] = {"sid": f"PA_{next(self._ids)}", "permission": permission}
        self._tell("participant_joined", room, identity, self.rooms[room][identity]["sid"])
        if before is not None:
            # The same identity again takes the place of the first.
            self._tell("participant_left", room, identity, before["sid"])
        return str(identity)

    def leave(self, room: str, identity: str, reason: str = "CLIENT_INITIATED") -> None:
        gone = self.rooms[room].pop(identity)
        self._tell("participant_left", room, identity, gone["sid"], reason)

    def people(self) -> set[str]:
        return {identity for room in self.rooms.values() for identity in room}

    def webhook(
        self, said: dict[str, Any], *, secret: str = SECRET, key: str = KEY, age_s: int = 0
    ) -> tuple[str, bytes]:
        """The authorisation and the body of a webhook."""
        body = json.dumps(said).encode()
        now_s = self._homeserver.now_ms() // 1000 - age_s
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        return jwt.encode({"iss": key, "nbf": now_s, "exp": now_s + 300, "sha256": digest}, secret, "HS256"), body

    def _tell(self, event: str, room: str, identity: str, sid: str, reason: str = "") -> None:
        if not self.webhooks:
            return
        participant = {"sid": sid, "identity": identity, "disconnectReason": reason}
        authorization, body = self.webhook({"event": event, "room": {"name": room}, "participant": participant})
        asks(self._homeserver, "sfu_webhook", body, Authorization=authorization)


def resource_of(homeserver: FakeHomeserver) -> Any:
    return homeserver.api.web_resources["/_synapse/client/superapp/livekit"]


def asks(homeserver: FakeHomeserver, path: str, body: object, **headers: str) -> dict[str, Any]:
    """POST to the service. Raises the SynapseError that the asker would see."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"Authorization": "", "X-Matrix-User-Identifier": "", "X-Matrix-Origin": ""}
    named.update({name.replace("_", "-"): value for name, value in headers.items()})
    answer: Callable[..., Any] = resource_of(homeserver).answer
    status, content = homeserver.result(answer("POST", path, named, raw))
    assert status == 200
    homeserver.settle()
    found: dict[str, Any] = content
    return found
