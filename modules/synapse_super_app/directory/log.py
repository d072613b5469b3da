"""The homeserver's log in the shell: checkpoints when they are asked for, proofs, and the files of the tree.

Any process may sign a checkpoint; the database lets one at a time.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, Final, TypeVar

from synapse.module_api import DirectServeJsonResource

from super_app.db import Cursor
from super_app.directory import heads_store, log, log_store
from super_app.directory.log import Head
from super_app.names import LOG_PREFIX
from super_app.signing import digest
from super_app.transparency.tiles import read_path
from synapse_super_app.directory.description import SelfDescription
from synapse_super_app.directory.generations import OwnGenerations
from synapse_super_app.directory.own import OwnHandles
from synapse_super_app.http.guards import AddressLimit
from synapse_super_app.runtime import Runtime

_MAX_WITNESSES: Final = 50
_MOMENT: Final = "no-cache"
_FOR_EVER: Final = "public, max-age=31536000, immutable"

T = TypeVar("T")


class OwnLog:
    """Checkpoints and proofs of the log of this homeserver."""

    def __init__(self, runtime: Runtime, own: OwnHandles) -> None:
        self._runtime = runtime
        self._own = own

    async def head(self, covering: int = 0) -> Head:
        """A checkpoint of now over at least ``covering`` leaves."""
        while True:
            work = partial(
                log.head,
                server=self._runtime.server_name,
                key=self._own.signer.key,
                covering=covering,
                now_ms=self._runtime.now_ms(),
            )
            found = await self._runtime.database.run("directory_checkpoint", work)
            if found.size >= covering:
                return found

    async def newest(self) -> Head:
        """A checkpoint over all that was issued until now."""
        return await self.head(await self._runtime.database.run("directory_log_size", log.size))

    async def proof_of(self, subject: str, record: Mapping[str, Any], since: int) -> dict[str, Any] | None:
        """That a record is in the log, and that the log of size ``since`` is its beginning; None if it was replaced."""
        record_digest = digest(dict(record))
        leaf = await self._runtime.database.run(
            "directory_logged", partial(log.logged, subject=subject, record_digest=record_digest)
        )
        if leaf is None:
            return None
        now = await self.head(leaf.number + 1)

        def work(cur: Cursor) -> dict[str, Any]:
            return {**log.inclusion(cur, leaf, now), **log.consistency(cur, since, now)}

        return await self._runtime.database.run("directory_prove", work)

    async def page_proof(self, digests: Sequence[tuple[str, str] | None], since: int) -> dict[str, Any]:
        """One proof for a page of the feed: names with hashes of their records, None for what is no record."""
        names = [each[0] for each in digests if each is not None]

        def work(cur: Cursor, now_ms: int) -> tuple[int, dict[str, Any]]:
            leaves = log_store.logged(cur, names)
            # A record that was replaced in this moment comes again, at a later position.
            current = [
                leaf
                if each is not None and (leaf := leaves.get(each[0])) is not None and leaf.digest == each[1]
                else None
                for each in digests
            ]
            wanted = [leaf for leaf in current if leaf is not None]
            covering = max((leaf.number + 1 for leaf in wanted), default=0)
            now = log.head(
                cur,
                server=self._runtime.server_name,
                key=self._own.signer.key,
                covering=covering,
                now_ms=now_ms,
            )
            if now.size < covering:
                return covering, {}
            return 0, {
                "leaves": [None if leaf is None else {"index": leaf.number, "salt": leaf.salt} for leaf in current],
                "inclusion": log.batch(cur, wanted, now) if wanted else [],
                "checkpoint": now.note,
                **log.consistency(cur, since, now),
            }

        while True:
            # All in one transaction, since a feed of a million takes two thousand of these.
            proved = partial(work, now_ms=self._runtime.now_ms())
            covering, proof = await self._runtime.database.run("directory_prove_page", proved)
            if not covering:
                return proof
            # Very many leaves are new, and the tree grows by so many at a time.
            await self.head(covering)

    async def growths(self, sizes: Sequence[int]) -> tuple[Head, list[dict[str, Any]]]:
        """The newest checkpoint, and that the log of each of these sizes is its beginning."""
        now = await self.newest()

        def work(cur: Cursor) -> list[dict[str, Any]]:
            return [found for found in (log.consistency(cur, size, now) for size in sizes) if found]

        return now, await self._runtime.database.run("directory_consistency", work)

    async def cosigned(self, now: Head) -> str:
        """A checkpoint with the cosignatures of its witnesses."""
        found = await self._runtime.database.run(
            "directory_witnesses",
            partial(heads_store.cosignatures, size=now.size, root=now.root, limit=_MAX_WITNESSES),
        )
        return now.note + "".join(each.line for each in found)

    async def file(self, path: str) -> bytes | None:
        """A tile or a bundle of entries (C2SP tlog-tiles); None if there is none of that name."""
        read = read_path(path)
        if read is None:
            return None
        tile, entries = read
        work: Callable[..., bytes | None] = log.entry_bundle if entries else log.tile
        return await self._runtime.database.run("directory_tile", partial(work, wanted=tile))


class LogFiles(DirectServeJsonResource):
    """``checkpoint``, ``key``, ``server.json``, ``generation.json``, ``tile/…`` below ``LOG_PREFIX``, for everybody."""

    isLeaf = True  # noqa: N815 - Twisted's name

    def __init__(
        self,
        own: OwnHandles,
        own_log: OwnLog,
        described: SelfDescription,
        generations: OwnGenerations,
        limit: AddressLimit,
    ) -> None:
        super().__init__()
        self._limit = limit
        self._own = own
        self._log = own_log
        self._self = described
        self._generations = generations

    async def _async_render_GET(self, request: Any) -> None:  # noqa: N802 - Synapse's name
        """``request`` is a ``twisted.web.http.Request``, whose methods have no types."""
        self._limit.check(request)
        path = request.path.decode("ascii", errors="replace").removeprefix(LOG_PREFIX).strip("/")
        status, content, cached = await self.answer(path)
        request.setResponseCode(status)
        is_tile = path.startswith("tile/") and status == HTTPStatus.OK
        kind = b"application/octet-stream" if is_tile else b"text/plain; charset=utf-8"
        for name, value in (
            (b"Content-Type", kind),
            (b"Cache-Control", cached.encode()),
            (b"Access-Control-Allow-Origin", b"*"),
            (b"X-Content-Type-Options", b"nosniff"),
            (b"Content-Length", b"%d" % len(content)),
        ):
            request.setHeader(name, value)
        if request.method != b"HEAD":
            request.write(content)
        request.finish()

    async def answer(self, path: str) -> tuple[HTTPStatus, bytes, str]:
        """Status, content and how long it may be kept."""
        if not self._own.ready or await self._generations.is_settling():
            return HTTPStatus.SERVICE_UNAVAILABLE, b"The server is starting; try again in a moment.\n", _MOMENT
        if path == "checkpoint":
            return HTTPStatus.OK, (await self._log.cosigned(await self._log.newest())).encode(), _MOMENT
        if path == "server.json":
            record = await self._self.current()
            return HTTPStatus.OK, json.dumps(record, ensure_ascii=False, indent=1).encode() + b"\n", _MOMENT
        if path == "generation.json":
            restored = await self._generations.statement()
            return HTTPStatus.OK, json.dumps(restored or {}, indent=1).encode() + b"\n", _MOMENT
        if path == "key":
            public = bytes(self._own.signer.key.verify_key)
            return HTTPStatus.OK, (log.key_of_log(self._own.issuer.server, public) + "\n").encode(), _MOMENT
        found = await self._log.file(path)
        if found is None:
            return HTTPStatus.NOT_FOUND, b"There is no such file in the log.\n", _MOMENT
        return HTTPStatus.OK, found, _FOR_EVER
