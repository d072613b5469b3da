"""Ends of a call that send real sound and a real picture, and count what they hear and see (aiortc)."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamTrack, VideoStreamTrack
from aiortc.rtcconfiguration import RTCIceTransportPolicy
from aiortc.sdp import candidate_from_sdp

from synapse_super_app.commands import loopback

PATIENCE_S: Final = 90.0

Json = dict[str, Any]


def is_of_call(event_type: str, call_id: str) -> Callable[[Json], bool]:
    return lambda event: event["type"] == event_type and event["content"].get("call_id") == call_id


def relayed_over(credentials: Json, port: int) -> Json:
    """The same credentials for a relay that is reached over another port, where a link to it is."""
    return {**credentials, "uris": [f"turn:{loopback.ADDRESS}:{port}?transport=udp" for _ in credentials["uris"]]}


class Phone:
    """One side of a call: sends sound and a picture, and counts what it hears and sees."""

    def __init__(self, credentials: Json | None) -> None:
        """``credentials``: as ``GET calls/{call_id}/turn`` gives them, to be relayed only. None: directly."""
        self.connection = RTCPeerConnection(_configuration(credentials))
        self.frames: Counter[str] = Counter()
        self.first_s: dict[str, float] = {}
        """When the first frame of each kind was there, by ``time.perf_counter``."""
        self._arrived = asyncio.Condition()
        self._listening: list[asyncio.Task[None]] = []
        self.connection.on("track", self._on_track)
        self.connection.addTrack(AudioStreamTrack())
        self.connection.addTrack(VideoStreamTrack())

    def _on_track(self, track: MediaStreamTrack) -> None:
        self._listening.append(asyncio.create_task(self._count(track)))

    async def _count(self, track: MediaStreamTrack) -> None:
        while True:
            await track.recv()
            self.frames[track.kind] += 1
            self.first_s.setdefault(track.kind, time.perf_counter())
            async with self._arrived:
                self._arrived.notify_all()

    async def offer(self) -> str:
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return str(self.connection.localDescription.sdp)

    async def answer(self, offer: str) -> str:
        await self.connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await self.connection.setLocalDescription(await self.connection.createAnswer())
        return str(self.connection.localDescription.sdp)

    async def reaches(self, candidates: Sequence[Json]) -> None:
        """What the other sends in ``m.call.candidates``: more ways to them."""
        for each in candidates:
            line = str(each["candidate"]).removeprefix("candidate:")
            if not line or ".local " in line:  # the end of them, or a name that only the other's network knows
                continue
            candidate = candidate_from_sdp(line)
            candidate.sdpMid, candidate.sdpMLineIndex = each.get("sdpMid"), each.get("sdpMLineIndex")
            await self.connection.addIceCandidate(candidate)

    async def hears_and_sees(self, frames: int) -> None:
        """Wait for so many frames of sound and of pictures from now on."""
        wanted = {kind: self.frames[kind] + frames for kind in ("audio", "video")}
        async with asyncio.timeout(PATIENCE_S), self._arrived:
            await self._arrived.wait_for(lambda: all(self.frames[kind] >= most for kind, most in wanted.items()))

    async def hang_up(self) -> None:
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)
        await self.connection.close()


@contextmanager
def beside() -> Generator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Runs what phones do on a loop of its own, for tests whose thread has another one already."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _configuration(credentials: Json | None) -> RTCConfiguration:
    if credentials is None:
        return RTCConfiguration(iceServers=[])
    server = RTCIceServer(credentials["uris"], credentials["username"], credentials["password"])
    return RTCConfiguration(iceServers=[server], iceTransportPolicy=RTCIceTransportPolicy.RELAY)
