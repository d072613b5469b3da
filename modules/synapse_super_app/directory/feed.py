"""Replicates the feeds of other homeservers, so that no query leaves this one while somebody types.

Runs on the main process. A peer that the operator named is read every ``feed_interval``, one that merely had to do
with us every minute; failures double the pause, and a peer that asks us something is read at once again.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeGuard, TypeVar, cast

from prometheus_client import Counter, Gauge
from synapse.module_api import make_deferred_yieldable, run_in_background
from twisted.internet.defer import Deferred

from super_app.db import Cursor
from super_app.directory import feed_limits, heads, records, service, store
from super_app.directory.feed_limits import FeedLimits
from super_app.directory.model import FEED_PAGE, Record, Withdrawal
from super_app.errors import Refused
from super_app.ids import ServerName
from super_app.signing import canonical
from synapse_super_app.directory.peers import FeedAnswer, NoDirectory, Peers
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_MET_INTERVAL_MS: Final = 60_000
_MAX_PAUSE_NAMED_MS: Final = 300_000
_MAX_PAUSE_MET_MS: Final = 21_600_000
_PAGES_PER_TURN: Final = 40
_TURN_MS: Final = 60_000
"""A turn ends after the page in which it becomes longer, so that slow peers get no more time than others."""
_MET_AT_ONCE: Final = 20
"""Feeds of servers that nobody named that are read at the same time: three pages of each are in memory."""
_MAX_PEERS: Final = 2_000
_WARN_AGAIN_MS: Final = 3_600_000
_POLLED_NOTE_MS: Final = 20_000
"""An unchanged feed is noted at most this often, well within the minute for which payments trust a record."""

_refused = Counter("superapp_directory_feed_refused_total", "Entries of other servers' feeds that were refused.")
_left_out = Counter(
    "superapp_directory_feed_left_out_total",
    "Handles of other servers for which there was no room, each time they came.",
)
_replicated = Counter("superapp_directory_feed_entries_total", "Entries of other servers' feeds that were kept.")
_failing = Gauge("superapp_directory_peers_failing", "Peers whose feed could not be read the last time.")

_Page = FeedAnswer | NoDirectory | Refused
_T = TypeVar("_T")


@dataclass(slots=True)
class _Pace:
    """When a peer is read next, and how often in a row it failed."""

    due_ms: int = 0
    failures: int = 0
    running: bool = False
    noted_ms: int = 0
    kept: int = 0
    """Entries that the last turn brought."""
    warned_ms: int | None = None
    """When the log last said that there is no room for more handles."""


class FeedReader:
    """Reads feeds into the table of replicas."""

    def __init__(self, runtime: Runtime, peers: Peers, notice: Callable[[Collection[Record]], None]) -> None:
        """``notice`` is shown the records that came, once they are kept."""
        self._runtime = runtime
        self._peers = peers
        self._notice = notice
        self._interval_ms = runtime.config.directory.feed_interval
        own = runtime.server_name
        self._named = tuple(ServerName(name) for name in runtime.config.directory.peers if name != own)
        self._paces: dict[ServerName, _Pace] = {server: _Pace() for server in self._named}
        directory = runtime.config.directory
        most = feed_limits.Most(
            of_peer=directory.handles_per_peer,
            of_stranger=directory.handles_per_stranger,
            of_strangers=directory.handles_of_strangers,
        )
        self._limits = FeedLimits(most, self._named)

    async def start(self) -> None:
        now_ms = self._runtime.now_ms()
        for server in self._named:
            await self._runtime.database.run("directory_meet", partial(store.meet, server=server, now_ms=now_ms))
        await self._look_for_peers()
        self._runtime.api.looping_background_call(
            self._look_for_peers, float(_MET_INTERVAL_MS), desc="superapp_directory_peers"
        )
        step_ms = min(self._interval_ms, 1_000)
        self._runtime.api.looping_background_call(self._turn, float(step_ms), desc="superapp_directory_feed")
        await self._turn()

    def heard(self, server: ServerName) -> None:
        """A server asked us something, so it is up: read it soon, and go on reading it."""
        pace = self._paces.get(server)
        if pace is None:
            if server == self._runtime.server_name or len(self._paces) >= _MAX_PEERS:
                return
            self._paces[server] = _Pace(due_ms=self._runtime.now_ms())
        elif pace.failures:
            pace.failures = 0
            # Not before those that wait already, so that nobody gets in front of them by talking.
            pace.due_ms = min(pace.due_ms, self._runtime.now_ms())

    async def _look_for_peers(self) -> None:
        """Peers that were met by another process of this homeserver, or before the start; without those of long ago.

        Names of servers come cheap, so whoever dealt with us last takes the place of who did not for longest.
        """
        met = await self._runtime.database.run("directory_peers", partial(store.peers, limit=_MAX_PEERS))
        kept = {*self._named, *(peer.server for peer in met)}
        for server, pace in list(self._paces.items()):
            if server not in kept and not pace.running:
                del self._paces[server]
                self._limits.forget(server)
        for peer in met:
            self._paces.setdefault(peer.server, _Pace(due_ms=self._runtime.now_ms()))

    async def _turn(self) -> None:
        now_ms = self._runtime.now_ms()
        places = _MET_AT_ONCE - sum(pace.running for server, pace in self._paces.items() if server not in self._named)
        # Those that have waited longest first.
        for server, pace in sorted(self._paces.items(), key=lambda each: each[1].due_ms):
            if pace.due_ms > now_ms or pace.running:
                continue
            if server not in self._named:
                if places <= 0:
                    continue
                places -= 1
            pace.running = True
            self._runtime.api.run_as_background_process("superapp_directory_poll", self._poll, server, pace)
        _failing.set(sum(pace.failures > 0 for pace in self._paces.values()))

    async def _poll(self, server: ServerName, pace: _Pace) -> None:
        try:
            # A long feed is read on at once while it brings what it promises; pages of nothing wait their turn.
            while await self._read_turn(server, pace) and pace.kept * 2 >= _PAGES_PER_TURN * FEED_PAGE:
                pass
        finally:
            pace.running = False
            pace.due_ms = self._runtime.now_ms() + self._pause_ms(server, pace.failures)

    async def _read_turn(self, server: ServerName, pace: _Pace) -> bool:
        pace.kept = 0
        done = False
        try:
            done = await self.read(server, pace)
        except Exception:
            logger.exception("Reading the feed of %s failed; it is tried again", server)
        pace.failures = 0 if done else pace.failures + 1
        return done

    def _pause_ms(self, server: ServerName, failures: int) -> int:
        named = server in self._named
        pause = self._interval_ms if named else max(self._interval_ms, _MET_INTERVAL_MS)
        longest = max(pause, _MAX_PAUSE_NAMED_MS if named else _MAX_PAUSE_MET_MS)
        # After 20 doublings every pause is at its longest.
        return int(min(pause * 2 ** min(failures, 20), longest))

    async def read(self, server: ServerName, pace: _Pace) -> bool:
        """Read a feed to its end, or some pages of it; False if the peer did not give it."""
        peer = await self._peers.peer(server)
        position = 0 if peer is None else peer.feed_position
        began_ms = self._runtime.now_ms()
        page: _Page | None = None
        writing: Deferred[None] | None = None
        try:
            for left in reversed(range(_PAGES_PER_TURN)):
                if page is None:
                    limit = self._page_size(server)
                    if limit == 0:
                        # It brought all that it may for now.
                        return True
                    page = await self._peers.feed_page(server, position, limit)
                if isinstance(page, Refused | NoDirectory):
                    return False
                content = page.content
                following, head = content.get("next"), content.get("head")
                entries = content.get("entries")
                if type(following) is not int or type(head) is not int or not _is_page(entries):
                    logger.warning("The feed of %s is malformed; it is tried again", server)
                    return False
                if content.get("publishes") is not True:
                    await self._forget(server)
                    # There is nothing to be quick about, so it is asked as rarely as one that fails.
                    return False
                if head < position:
                    logger.warning("The feed of %s went back from %d to %d; it is read anew", server, position, head)
                    page, position = None, 0
                    continue
                # Each entry has a position of its own.
                if following < position + len(entries):
                    logger.warning("The feed of %s does not advance beyond %d; it is tried again", server, position)
                    return False
                now_ms = self._runtime.now_ms()
                self._limits.took(server, len(entries), now_ms)
                # The peer looks for the next page while this one is verified, and the one before is written.
                goes_on = left > 0 and following < head and now_ms - began_ms < _TURN_MS
                limit = self._page_size(server) if goes_on else 0
                ahead = self._ahead(server, following, limit) if limit else None
                try:
                    if following != position or now_ms - pace.noted_ms >= _POLLED_NOTE_MS:
                        kept = await self._verified(server, page, entries, now_ms)
                        if kept is None:
                            return False
                        # In order, so that what is written is always the beginning of the feed.
                        if writing is not None:
                            await _outcome(writing)
                        writing = run_in_background(
                            self._write, server, pace, kept, following, at_end=following >= head, now_ms=now_ms
                        )
                finally:
                    page = None
                    if ahead is not None:
                        page = await _outcome(ahead)
                position = following
                if page is None:
                    break
        finally:
            if writing is not None:
                await _outcome(writing)
        return True

    def _page_size(self, server: ServerName) -> int:
        return min(FEED_PAGE, self._limits.entries(server, self._runtime.now_ms()))

    def _ahead(self, server: ServerName, position: int, limit: int) -> "Deferred[_Page]":
        return run_in_background(self._peers.feed_page, server, position, limit)

    async def _verified(
        self, server: ServerName, page: FeedAnswer, entries: Sequence[object], now_ms: int
    ) -> list[Record | Withdrawal] | None:
        """What of a page is kept; None if nothing of it can be believed."""
        # A page of 500 signatures takes long enough to be noticed by people who chat.
        verified = await self._runtime.api.defer_to_thread(_verified, entries, page, now_ms)
        if isinstance(verified, Refused):
            _refused.inc(len(entries))
            logger.warning("A page of the feed of %s was refused: %s", server, verified.message)
            return None
        refused = [entry for entry in verified if isinstance(entry, Refused)]
        if refused:
            _refused.inc(len(refused))
            logger.warning("%d entries of the feed of %s were refused; the first: %s", len(refused), server, refused[0])
        return [entry for entry in verified if not isinstance(entry, Refused)]

    async def _write(
        self,
        server: ServerName,
        pace: _Pace,
        kept: Sequence[Record | Withdrawal],
        position: int,
        *,
        at_end: bool,
        now_ms: int,
    ) -> None:
        done = await self._runtime.database.run(
            "directory_replicate",
            partial(
                service.replicate,
                server=server,
                entries=kept,
                position=position,
                at_end=at_end,
                now_ms=now_ms,
                room=await self._room(server, sum(isinstance(entry, Record) for entry in kept)),
            ),
        )
        self._limits.add(server, done.added)
        if done.rewritten:
            logger.error(
                "%d names of %s changed hands when it was restored from a backup and are refused; GET "
                "admin/directory/evidence has the proof",
                len(done.rewritten),
                server,
            )
        if done.left_out:
            self._tell_of_left_out(server, pace, done.left_out, now_ms)
        self._notice([entry for entry in kept if isinstance(entry, Record)])
        _replicated.inc(len(kept) - done.left_out)
        pace.kept += len(kept) - done.left_out
        pace.noted_ms = now_ms

    async def _room(self, server: ServerName, coming: int) -> int | None:
        """For how many handles more of a server there is room; None where it is enough for those that are coming."""
        now_ms = self._runtime.now_ms()
        if self._limits.is_due(now_ms, short=self._limits.room(server) < coming):
            self._limits.counted(await self._runtime.database.run("directory_replicas", store.count_replicas), now_ms)
        room = self._limits.room(server)
        return room if room < coming else None

    def _tell_of_left_out(self, server: ServerName, pace: _Pace, left_out: int, now_ms: int) -> None:
        _left_out.inc(left_out)
        if pace.warned_ms is None or now_ms - pace.warned_ms >= _WARN_AGAIN_MS:
            pace.warned_ms = now_ms
            logger.warning(
                "There is no room for more handles of %s than are kept of it; handles_per_peer, handles_per_stranger "
                "and handles_of_strangers of the directory's config say how many there are",
                server,
            )

    async def _forget(self, server: ServerName) -> None:
        """The peer publishes no feed (any more)."""
        gone = await self._runtime.database.run("directory_unpublish", partial(_forget_feed, server=server))
        if gone:
            logger.info("%s publishes no feed any more; %d records were forgotten", server, gone)


async def _outcome(running: "Deferred[_T]") -> _T:
    outcome: _T = await make_deferred_yieldable(running)
    return outcome


def _is_page(entries: object) -> TypeGuard[list[object]]:
    return isinstance(entries, list) and len(cast(list[object], entries)) <= FEED_PAGE


def _forget_feed(cur: Cursor, server: ServerName) -> int:
    store.set_feed_position(cur, server, 0)
    store.set_polled(cur, server, 0)
    return store.forget_feed_of(cur, server)


def _verified(
    entries: Sequence[object], page: FeedAnswer, now_ms: int
) -> list[Record | Withdrawal | Refused] | Refused:
    """What of a page can be kept, or why nothing can."""
    server = page.key.server
    read = [records.read_feed_entry(entry, server, page.key.public_key, now_ms) for entry in entries]
    if page.proof is None or page.head is None:
        return []
    # As they came: what this version cannot read may be in the log all the same.
    texts = [_text_of(entry, found) for entry, found in zip(entries, read, strict=True)]
    are_in = heads.check_page(texts, page.proof, page.head)
    if isinstance(are_in, Refused):
        return are_in
    return [
        heads.not_in_log(server) if isinstance(each, Record) and not is_in else each
        for each, is_in in zip(read, are_in, strict=True)
    ]


def _text_of(entry: object, found: Record | Withdrawal | Refused) -> bytes | None:
    """An entry in canonical JSON; None for what has none."""
    if isinstance(found, Record):
        return found.text.encode()
    try:
        return canonical(cast(object, entry)) if isinstance(entry, dict) else None
    except (ValueError, TypeError):
        return None
