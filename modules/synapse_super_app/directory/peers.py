"""Asking other homeservers' directories, and believing only what verifies.

A server's directory key is pinned on first use, when its Matrix key certifies it. Another key later is refused until
the operator forgets the pin: it may be a server name that changed hands.
"""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from prometheus_client import Counter

from super_app.db import Cursor
from super_app.directory import records, store
from super_app.directory.model import Answer, AskedBy, DirectoryKey, Peer
from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from super_app.names import FederationQuery
from synapse_super_app.private_api import NoAnswer
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_MEET_AGAIN_MS: Final = 3_600_000
_MAX_REMEMBERED: Final = 10_000
_FEED_TIMEOUT_MS: Final = 30_000

_asked = Counter("superapp_directory_asked_total", "Questions to other directories by outcome.", ["outcome"])
_distrusted = Counter("superapp_directory_distrusted_total", "Answers of other directories that did not verify.")


class NoDirectory:
    """A server answered that it runs no directory: its people are user ids."""


NO_DIRECTORY: Final = NoDirectory()


class Peers:
    """The directories of other homeservers."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._met: dict[ServerName, int] = {}

    async def ask(self, server: ServerName, asked: str, by: AskedBy, timeout_ms: int) -> Answer | NoDirectory | Refused:
        """Who ``asked`` is, in a verified answer of its server."""
        answer = await self._ask(server, asked, by, timeout_ms)
        outcome = "answered"
        if isinstance(answer, NoDirectory):
            outcome = "no_directory"
        elif isinstance(answer, Refused):
            outcome = answer.reason.value
        _asked.labels(outcome).inc()
        return answer

    async def _ask(
        self, server: ServerName, asked: str, by: AskedBy, timeout_ms: int
    ) -> Answer | NoDirectory | Refused:
        content = await self._query(server, FederationQuery.DIRECTORY_RESOLVE, {by.value: asked}, timeout_ms)
        if not isinstance(content, Mapping):
            return content
        key = await self.trusted_key(server, content.get("certificate"))
        if isinstance(key, Refused):
            return key
        answer = records.read_answer(
            content.get("answer"), server, key.public_key, asked=asked, by=by, now_ms=self._runtime.now_ms()
        )
        return self._distrust(server, answer) if isinstance(answer, Refused) else answer

    async def feed_page(
        self, server: ServerName, since: int, limit: int
    ) -> tuple[Mapping[str, Any], DirectoryKey] | NoDirectory | Refused:
        """A page of a server's feed, its entries not yet verified, and the key to verify them with."""
        arguments = {"since": str(since), "limit": str(limit)}
        content = await self._query(server, FederationQuery.DIRECTORY_FEED, arguments, _FEED_TIMEOUT_MS)
        if not isinstance(content, Mapping):
            return content
        key = await self.trusted_key(server, content.get("certificate"))
        return key if isinstance(key, Refused) else (content, key)

    async def trusted_key(self, server: ServerName, certificate: object) -> DirectoryKey | Refused:
        """The key of a certificate, if it is the pinned one, or the first and the server's Matrix key signed it."""
        key = records.read_certificate(certificate, server)
        if isinstance(key, Refused):
            return self._distrust(server, key)
        peer = await self.peer(server)
        pinned = None if peer is None else peer.key
        if pinned is None:
            if not await self._runtime.private.is_signed_by(server, key.certificate, self._runtime.now_ms()):
                return self._distrust(server, _untrusted(server, "its Matrix key did not certify its directory key"))
            pinned = await self._runtime.database.run("directory_pin", partial(self._pin, key=key))
            logger.info("Pinned the directory key %s of %s on first use", pinned.key_id, server)
        if pinned.public_key != key.public_key:
            return self._distrust(server, _untrusted(server, "its directory key is not the one that it had before"))
        return pinned

    async def peer(self, server: ServerName) -> Peer | None:
        return await self._runtime.database.run("directory_peer", partial(store.peer, server=server))

    async def meet(self, server: ServerName) -> bool:
        """Remember a server that has to do with us; whether that was worth writing down."""
        now_ms = self._runtime.now_ms()
        if now_ms - self._met.get(server, -_MEET_AGAIN_MS) < _MEET_AGAIN_MS:
            return False
        if len(self._met) >= _MAX_REMEMBERED:
            self._met.clear()
        self._met[server] = now_ms
        await self._runtime.database.run("directory_meet", partial(store.meet, server=server, now_ms=now_ms))
        return True

    async def forget_pin(self, server: ServerName) -> bool:
        """Trust the next key that the server's Matrix key certifies; whether there was a pin."""
        return await self._runtime.database.run("directory_unpin", partial(store.unpin, server=server))

    def _pin(self, cur: Cursor, key: DirectoryKey) -> DirectoryKey:
        store.meet(cur, key.server, self._runtime.now_ms())
        return store.pin(cur, key)

    async def _query(
        self, server: ServerName, name: FederationQuery, arguments: Mapping[str, str], timeout_ms: int
    ) -> Mapping[str, Any] | NoDirectory | Refused:
        try:
            return await self._runtime.private.query(server, name, arguments, timeout_ms)
        except NoAnswer as error:
            logger.debug("%s of %s: %s", name, server, error)
            if error.status == 404:
                return NO_DIRECTORY
            if error.status == 429:
                return Refused(
                    reason=Reason.TOO_MANY_REQUESTS,
                    message=f"The directory of {server} was asked too often; try again in a minute.",
                    fields={"retry_after_ms": 60_000},
                )
            return Refused(
                reason=Reason.PEER_UNREACHABLE,
                message=f"The homeserver {server} does not answer now; check the spelling, or try again later.",
            )

    @staticmethod
    def _distrust(server: ServerName, refused: Refused) -> Refused:
        _distrusted.inc()
        logger.warning("Distrusting the directory of %s: %s", server, refused.message)
        return refused


def _untrusted(server: ServerName, why: str) -> Refused:
    return Refused(
        reason=Reason.BAD_RECORD,
        message=(
            f"The directory of {server} cannot be trusted: {why}. Ask its operator; when it is right, the operator "
            "of this homeserver can forget the old key."
        ),
    )
