"""A real LiveKit on loopback, and peers that send and hear sound through it."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from livekit import rtc

from synapse_super_app.commands import loopback, tied_child
from synapse_super_app.commands.matrix_client import wait_until

VERSION: Final = "1.13.5"
KEY: Final = "APIonthismachine"
SECRET: Final = "only-on-this-machine-and-nowhere-else"
_RATE: Final = 48_000
_FRAME: Final = 480
_LOUD: Final = 1_000
_PATIENCE_S: Final = 60.0


def program() -> Path:
    """The LiveKit that is there; where there is none the test is skipped and says so."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    named = os.environ.get("SUPER_APP_LIVEKIT")
    found = Path(named) if named else cache / "super-app" / f"livekit-{VERSION}" / "livekit-server"
    if not found.exists():
        pytest.skip("there is no LiveKit; build it with: make livekit (or name one with SUPER_APP_LIVEKIT)")
    return found


@contextmanager
def running(folder: Path, webhook_url: str, port: int) -> Generator[str]:
    """LiveKit with rooms made by nobody who enters; the URL at which clients connect. Needs two more ports after it."""
    config = {
        "port": port,
        "bind_addresses": [loopback.ADDRESS],
        "keys": {KEY: SECRET},
        "room": {"auto_create": False},
        "rtc": {
            "tcp_port": port + 1,
            "udp_port": port + 2,
            "use_external_ip": False,
            "node_ip": loopback.ADDRESS,
            "enable_loopback_candidate": True,
        },
        "webhook": {"api_key": KEY, "urls": [webhook_url]},
        "logging": {"level": "warn"},
    }
    path = folder / "livekit.yaml"
    path.write_text(yaml.safe_dump(config))
    binary = program()
    with (folder / "livekit.log").open("wb") as log:
        tied = [sys.executable, tied_child.__file__, str(os.getpid())]
        process = subprocess.Popen([*tied, str(binary), "--config", str(path)], stdout=log, stderr=log)
    try:
        wait_until(lambda: _answers(port) or process.poll() is not None, timeout_s=60, what="LiveKit to listen")
        assert process.poll() is None, (folder / "livekit.log").read_text()
        yield f"ws://{loopback.ADDRESS}:{port}"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((loopback.ADDRESS, port)) == 0


class Peer:
    """Somebody in a room of LiveKit, who counts the frames of sound that each of the others is heard by."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.room = rtc.Room()
        self.heard: dict[str, int] = {}
        self.last_heard_s: dict[str, float] = {}
        """When each of the others was heard last, by ``time.monotonic``. Silence is not heard."""
        self.gone = asyncio.Event()
        self._frame = asyncio.Condition()
        self._changed = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self.room.on("track_subscribed", self._on_track)
        for change in ("participant_permissions_changed", "track_unpublished", "track_unsubscribed"):
            self.room.on(change, lambda *_: self._tasks.append(asyncio.create_task(self._tell())))
        self.room.on("disconnected", lambda *_: self.gone.set())

    async def enter(self, url: str, token: str) -> "Peer":
        await asyncio.wait_for(self.room.connect(url, token), _PATIENCE_S)
        return self

    async def speak(self, source: Any = rtc.TrackSource.SOURCE_MICROPHONE) -> None:
        """Publish a track with sound in it until one leaves."""
        audio = rtc.AudioSource(_RATE, 1)
        track = rtc.LocalAudioTrack.create_audio_track(f"of {self.name}", audio)
        options = rtc.TrackPublishOptions(source=source)
        await asyncio.wait_for(self.room.local_participant.publish_track(track, options), _PATIENCE_S)
        self._tasks.append(asyncio.create_task(self._sound(audio)))

    async def hears(self, *others: "Peer", at_least: int = 20) -> None:
        """Wait until enough frames of each of the others came."""
        wanted = [other.room.local_participant.identity for other in others]
        async with asyncio.timeout(_PATIENCE_S), self._frame:
            await self._frame.wait_for(lambda: all(self.heard.get(identity, 0) >= at_least for identity in wanted))

    async def may_speak(self, may: bool) -> None:
        """Wait until the SFU lets them speak, or no more."""
        async with self._changed:
            wait = self._changed.wait_for(lambda: self.room.local_participant.permissions.can_publish is may)
            await asyncio.wait_for(wait, _PATIENCE_S)

    async def hears_no_more(self, other: "Peer") -> None:
        """Wait until the other's track is gone."""
        async with self._changed:
            identity = other.room.local_participant.identity
            wait = self._changed.wait_for(lambda: not self._tracks_of(identity))
            await asyncio.wait_for(wait, _PATIENCE_S)

    def _tracks_of(self, identity: str) -> bool:
        participant = self.room.remote_participants.get(identity)
        return participant is not None and bool(participant.track_publications)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def is_removed(self) -> None:
        await asyncio.wait_for(self.gone.wait(), _PATIENCE_S)

    async def fell_silent(self, identity: str, *, for_s: float) -> float:
        """Wait until nothing was heard of somebody for so long; when they were heard last."""
        async with asyncio.timeout(_PATIENCE_S):
            while True:
                last_s = self.last_heard_s[identity]
                remaining_s = last_s + for_s - time.monotonic()
                if remaining_s <= 0:
                    return last_s
                await asyncio.sleep(remaining_s)

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.room.disconnect()

    def _on_track(self, track: rtc.Track, _publication: Any, participant: rtc.RemoteParticipant) -> None:
        self._tasks.append(asyncio.create_task(self._count(track, participant.identity)))

    async def _count(self, track: rtc.Track, identity: str) -> None:
        stream = rtc.AudioStream(track)
        try:
            async for event in stream:
                # Where nothing arrives any more, the decoder goes on with silence.
                if max(event.frame.data) < _LOUD:
                    continue
                self.last_heard_s[identity] = time.monotonic()
                self.heard[identity] = self.heard.get(identity, 0) + 1
                async with self._frame:
                    self._frame.notify_all()
        finally:
            await stream.aclose()

    async def _sound(self, audio: rtc.AudioSource) -> None:
        samples = bytes(range(256)) * (_FRAME * 2 // 256 + 1)
        while True:
            await audio.capture_frame(rtc.AudioFrame(samples[: _FRAME * 2], _RATE, 1, _FRAME))
