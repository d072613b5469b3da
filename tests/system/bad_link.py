"""A link to a server of UDP that can be made bad: what is sent through it is lost now and then, and comes late."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from synapse_super_app.commands import loopback

_SEED: Final = 5
Address = tuple[str, int]


class BadLink(asyncio.DatagramProtocol):
    """Passes datagrams on in both directions, each client by a socket of its own. Good until it is made bad."""

    def __init__(self, server: Address) -> None:
        self.passed = 0
        self.lost = 0
        self.late_ms = 0.0
        """The longest that a datagram was kept back."""
        self._server = server
        self._random = random.Random(_SEED)
        self._loss = 0.0
        self._jitter_ms = 0.0
        self._clients: dict[Address, asyncio.Task[asyncio.DatagramTransport]] = {}
        self._near: asyncio.DatagramTransport | None = None

    def make_bad(self, *, loss: float, jitter_ms: float) -> None:
        self._loss, self._jitter_ms = loss, jitter_ms
        self.passed = self.lost = 0

    @property
    def port(self) -> int:
        assert self._near is not None
        port: int = self._near.get_extra_info("sockname")[1]
        return port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._near = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Address | Any) -> None:
        if addr not in self._clients:
            self._clients[addr] = asyncio.create_task(self._far_end(addr))
        far = self._clients[addr]
        self._pass_on(lambda: far.add_done_callback(lambda done: done.result().sendto(data)))

    async def _far_end(self, client: Address) -> asyncio.DatagramTransport:
        """What the server sees of a client."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: _FarEnd(self, client), remote_addr=self._server)
        return transport

    def back(self, data: bytes, client: Address) -> None:
        near = self._near
        assert near is not None
        self._pass_on(lambda: near.sendto(data, client))

    def _pass_on(self, send: Any) -> None:
        if self._random.random() < self._loss:
            self.lost += 1
            return
        self.passed += 1
        delay_ms = self._random.uniform(0, self._jitter_ms)
        self.late_ms = max(self.late_ms, delay_ms)
        if delay_ms:
            asyncio.get_running_loop().call_later(delay_ms / 1000, self._unless_closed, send)
        else:
            send()

    def _unless_closed(self, send: Any) -> None:
        if self._near is not None and not self._near.is_closing():
            send()

    async def close(self) -> None:
        assert self._near is not None
        self._near.close()
        for far in await asyncio.gather(*self._clients.values()):
            far.close()


class _FarEnd(asyncio.DatagramProtocol):
    def __init__(self, link: BadLink, client: Address) -> None:
        self._link = link
        self._client = client

    def datagram_received(self, data: bytes, addr: Address | Any) -> None:
        self._link.back(data, self._client)


@asynccontextmanager
async def bad_link(server: Address) -> AsyncGenerator[BadLink]:
    _, link = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: BadLink(server), local_addr=(loopback.ADDRESS, 0)
    )
    try:
        yield link
    finally:
        await link.close()
