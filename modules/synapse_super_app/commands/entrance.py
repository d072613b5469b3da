"""The one door to a homeserver with workers on one machine: an HTTP proxy that chooses a process for each request.

It is for trying workers out. On a server that is a reverse proxy's work: docker/nginx has the same routes for nginx.
One request per connection, so that what follows a request is never read as another one. Bodies pass through as they
are, in both directions, and a connection that either side closes is closed on the other.
"""

import asyncio
import hashlib
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from synapse_super_app.commands import worker_routes

_HEAD_MAX_BYTES: Final = 64 * 1024
_PIECE_BYTES: Final = 64 * 1024
_HEAD_TIMEOUT_S: Final = 60.0
_CONNECT_TIMEOUT_S: Final = 5.0
_START_TIMEOUT_S: Final = 30.0
_HOST: Final = "127.0.0.1"
_ASKED_AGAIN: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""What another process is asked when one dies without a word: it changes nothing."""
_NEVER_PASSED_ON: Final = frozenset({"connection", "keep-alive", "proxy-connection", "upgrade"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Request line and headers, without the empty line."""

    method: str
    target: str
    version: str
    headers: tuple[tuple[str, str], ...]

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def value(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


def parse_head(raw: bytes) -> Head | None:
    """What ``raw`` says, up to and with the empty line; None if it is no HTTP/1 request that may be passed on."""
    lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or parts[2] not in ("HTTP/1.0", "HTTP/1.1") or not parts[1].startswith("/"):
        return None
    headers: list[tuple[str, str]] = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        # A line that continues the one before it, or a name with a space, is read in more than one way.
        if not colon or not name or name != name.strip() or any(each in line for each in "\r\n\0"):
            return None
        headers.append((name, value.strip()))
    return Head(method=parts[0], target=parts[1], version=parts[2], headers=tuple(headers))


def passed_on(head: Head, address: str, *, trusts_forwarded: bool, is_secure: bool = False) -> bytes:
    """The head as a process gets it. Where the client is, we say, unless whoever asks us is a proxy that is trusted."""
    told = head.value("x-forwarded-for") if trusts_forwarded else None
    scheme = head.value("x-forwarded-proto") if trusts_forwarded else None
    kept = [
        (name, value)
        for name, value in head.headers
        if name.lower() not in _NEVER_PASSED_ON and not name.lower().startswith("x-forwarded-")
    ]
    kept += [
        ("X-Forwarded-For", told or address),
        ("X-Forwarded-Proto", scheme or ("https" if is_secure else "http")),
        ("Connection", "close"),
    ]
    lines = [f"{head.method} {head.target} {head.version}", *(f"{name}: {value}" for name, value in kept)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Entrance:
    """``ports`` of ``workers`` share what generic workers may answer; ``main`` has the rest, and all when none runs.

    With ``tls`` it speaks TLS to whoever comes, and plain HTTP to the processes.
    """

    def __init__(
        self,
        *,
        addresses: Sequence[str],
        port: int,
        main: int,
        workers: Sequence[int],
        trusts_forwarded: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._addresses = list(addresses)
        self._port = port
        self._main = main
        self._workers = tuple(workers)
        self._trusts_forwarded = trusts_forwarded
        self._tls = tls
        self._next = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="entrance", daemon=True)
        self._listens = threading.Event()
        self._fault: OSError | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Return once it takes connections.

        Raises:
            OSError: it cannot have the port.
        """
        self._thread.start()
        if not self._listens.wait(_START_TIMEOUT_S):
            raise TimeoutError(f"the entrance at port {self._port} did not open in time")
        if self._fault is not None:
            raise self._fault

    def stop(self) -> None:
        if self._thread.is_alive() and self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def candidates(self, head: Head) -> tuple[int, ...]:
        """The ports that may answer, the best first."""
        if not worker_routes.is_for_workers(head.path) or not self._workers:
            return (self._main,)
        if worker_routes.is_sync(head.path):
            # The same process for the same session, which then has in memory what it needs.
            digest = hashlib.sha256((head.value("authorization") or head.target).encode("utf-8", "replace")).digest()
            first = digest[0] % len(self._workers)
        else:
            self._next = first = (self._next + 1) % len(self._workers)
        return (*self._workers[first:], *self._workers[:first], self._main)

    def _run(self) -> None:
        loop = self._loop = asyncio.new_event_loop()
        try:
            opening = asyncio.start_server(
                self._serve, self._addresses, self._port, limit=_HEAD_MAX_BYTES, ssl=self._tls
            )
            server = loop.run_until_complete(opening)
        except OSError as fault:
            self._fault = fault
            self._listens.set()
            loop.close()
            return
        self._listens.set()
        loop.run_forever()
        server.close()
        for task in (open_ones := asyncio.all_tasks(loop)):
            task.cancel()
        loop.run_until_complete(asyncio.gather(*open_ones, return_exceptions=True))
        loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # Whoever asked has gone, or never said what they want.
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _HEAD_TIMEOUT_S)
        head = parse_head(raw)
        if head is None:
            await _say(writer, "400 Bad Request", "M_UNRECOGNIZED", "This is no HTTP request.")
            return
        for port in self.candidates(head):
            try:
                opened = asyncio.open_connection(_HOST, port, limit=_HEAD_MAX_BYTES)
                answers, asks = await asyncio.wait_for(opened, _CONNECT_TIMEOUT_S)
            except (OSError, TimeoutError):
                continue
            try:
                peer = writer.get_extra_info("peername")
                asks.write(
                    passed_on(
                        head,
                        str(peer[0]),
                        trusts_forwarded=self._trusts_forwarded,
                        is_secure=self._tls is not None,
                    )
                )
                answered = await _both_ways(reader, writer, answers, asks)
            finally:
                asks.close()
            if answered:
                return
            if head.method not in _ASKED_AGAIN:
                # It died with the request, which may have been carried out.
                break
        await _say(writer, "502 Bad Gateway", "M_UNKNOWN", "No process of the homeserver answers; try again soon.")


async def _both_ways(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    answers: asyncio.StreamReader,
    asks: asyncio.StreamWriter,
) -> bool:
    """Pass the body on, and the answer back; over when the answer is. False if the process said nothing at all."""
    body = asyncio.ensure_future(_pass(reader, asks))
    answer = asyncio.ensure_future(_pass(answers, writer))
    try:
        # A client that goes away ends its long poll too. A process that reads no more may still be answering.
        await asyncio.wait({body, answer}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done() and body.exception() is None:
            return True
        return await answer > 0
    except ConnectionError:
        return False
    finally:
        body.cancel()
        answer.cancel()
        await asyncio.gather(body, answer, return_exceptions=True)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    """The bytes that went through."""
    passed = 0
    while piece := await reader.read(_PIECE_BYTES):
        writer.write(piece)
        passed += len(piece)
        await writer.drain()
    return passed


async def _say(writer: asyncio.StreamWriter, status: str, errcode: str, sentence: str) -> None:
    body = f'{{"errcode": "{errcode}", "error": "{sentence}"}}'.encode()
    headers = ("Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close")
    writer.write("\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode("ascii") + body)
    await writer.drain()
