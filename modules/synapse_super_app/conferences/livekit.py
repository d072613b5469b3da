"""LiveKit's server API (Twirp over JSON): rooms are made here and nowhere else, and people are removed from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from super_app.conferences import rules
from super_app.conferences.model import DEPARTED_S, EMPTY_S, Grant, Identity, SfuRoom, Source
from synapse_super_app.config import LiveKitConfig
from synapse_super_app.private_api import NoAnswer, PrivateApi
from synapse_super_app.runtime import Runtime

_TIMEOUT_MS: Final = 5_000
MIN_SECRET: Final = 32
_NOT_FOUND: Final = 404
_PEOPLE: Final = ("STANDARD", 0, None)
"""The kind of participant that people are; the others are LiveKit's own recorders and agents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """Somebody in a room of the SFU. ``participant`` names the connection."""

    identity: Identity
    participant: str
    is_person: bool


class LiveKit:
    def __init__(self, runtime: Runtime, config: LiveKitConfig, secret: str) -> None:
        self._private: PrivateApi = runtime.private
        self._now_ms = runtime.now_ms
        self.config = config
        self._secret = secret
        self._api_url = api_url(config)

    @staticmethod
    def configured(runtime: Runtime) -> "LiveKit | None":
        """The SFU that the config names, or None.

        Raises:
            ValueError: one line about the file of the secret.
        """
        config = runtime.config.calls.livekit
        if config is None:
            return None
        key = "config.calls.livekit.secret_path"
        try:
            secret = Path(config.secret_path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{key}: cannot read {config.secret_path}: {error}") from None
        if len(secret) < MIN_SECRET:
            raise ValueError(
                f"{key}: the secret in {config.secret_path} has {len(secret)} characters; it needs at least "
                f"{MIN_SECRET}, as from: openssl rand -hex 32"
            )
        return LiveKit(runtime, config, secret)

    def token(self, sfu_room: SfuRoom, identity: Identity, grant: Grant) -> str:
        return rules.participant_token(
            self.config.key,
            self._secret,
            sfu_room,
            identity,
            grant,
            now_ms=self._now_ms(),
            ttl_ms=self.config.token_ttl,
        )

    def is_webhook(self, authorization: str, body: bytes) -> bool:
        return rules.is_from_sfu(authorization, body, self.config.key, self._secret, self._now_ms())

    async def make_room(self, sfu_room: SfuRoom, most: int) -> None:
        """Make a room; one that exists stays as it is. ``most``: how many it takes, 0 for any number.

        Raises:
            NoAnswer: the SFU refused, or did not answer.
        """
        room = {"name": sfu_room, "empty_timeout": EMPTY_S, "departure_timeout": DEPARTED_S, "max_participants": most}
        await self._ask("CreateRoom", {"roomCreate": True}, room)

    async def remove(self, sfu_room: SfuRoom, identity: Identity) -> None:
        """Remove somebody; who is not there is removed.

        Raises:
            NoAnswer: the SFU refused, or did not answer.
        """
        await self._of_participant("RemoveParticipant", sfu_room, identity, {})

    async def regrant(self, sfu_room: SfuRoom, identity: Identity, grant: Grant) -> None:
        """Change what somebody in a room may do; what they send beyond it stops.

        Raises:
            NoAnswer: the SFU refused, or did not answer.
        """
        sources = [] if grant.sources is None else sorted(grant.sources)
        permission = {
            "can_subscribe": True,
            "can_publish": grant.can_publish,
            "can_publish_data": grant.can_publish,
            "can_publish_sources": [_TRACK_SOURCES[Source(each)] for each in sources],
        }
        await self._of_participant("UpdateParticipant", sfu_room, identity, {"permission": permission})

    async def present(self, sfu_room: SfuRoom) -> tuple[Present, ...]:
        """Who is in a room.

        Raises:
            NoAnswer: the SFU refused, or did not answer.
        """
        try:
            answer = await self._ask("ListParticipants", _admin_of(sfu_room), {"room": sfu_room})
        except NoAnswer as error:
            if error.status == _NOT_FOUND:
                return ()
            raise
        return tuple(present_of(each) for each in answer.get("participants", ()))

    async def _of_participant(
        self, method: str, sfu_room: SfuRoom, identity: Identity, more: Mapping[str, Any]
    ) -> None:
        try:
            await self._ask(method, _admin_of(sfu_room), {"room": sfu_room, "identity": identity, **more})
        except NoAnswer as error:
            if error.status != _NOT_FOUND:
                raise

    async def _ask(self, method: str, video: Mapping[str, Any], body: Mapping[str, Any]) -> Mapping[str, Any]:
        token = rules.service_token(self.config.key, self._secret, video, self._now_ms())
        url = f"{self._api_url}/twirp/livekit.RoomService/{method}"
        return await self._private.post_json(url, token, body, _TIMEOUT_MS)


def api_url(config: LiveKitConfig) -> str:
    """Where the homeserver reaches its API."""
    return (config.api_url or config.url.replace("ws", "http", 1)).rstrip("/")


def present_of(said: Mapping[str, Any]) -> Present:
    """A participant as LiveKit describes one, in answers and in webhooks."""
    return Present(
        identity=Identity(str(said.get("identity", ""))),
        participant=str(said.get("sid", "")),
        is_person=said.get("kind") in _PEOPLE,
    )


_TRACK_SOURCES: Final = {
    Source.CAMERA: "CAMERA",
    Source.MICROPHONE: "MICROPHONE",
    Source.SCREEN_SHARE: "SCREEN_SHARE",
    Source.SCREEN_SHARE_AUDIO: "SCREEN_SHARE_AUDIO",
}


def _admin_of(sfu_room: SfuRoom) -> dict[str, Any]:
    return {"roomAdmin": True, "room": sfu_room}
