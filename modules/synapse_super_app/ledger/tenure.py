"""Whether this process writes: takes the lease, keeps it, gives it up, and starts and stops what belongs to the writer.

Any number of processes may be named as writers; one of them has the lease. It says every two seconds that it is there;
one that says nothing for six is replaced by the next that looks, which the others do every second. A process that
starts again under its own name takes its old lease at once, and one that is stopped gives it up. The main process,
which starts before all others and has other work, is a stand-in: a worker that starts takes the lease from it. Where
only one process is named there is nobody to compete with, so nothing is asked of the database between start and end.

What a tenure is for the money: an epoch that the database compares in each batch (``super_app.ledger.lease``). All that
is decided here may therefore be late or wrong, and costs time but nothing else.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from prometheus_client import Counter, Gauge
from synapse.module_api import ModuleApi

from super_app.ledger import lease
from super_app.ledger.lease import LEASE_MS
from synapse_super_app.ledger.writer import WriterDatabase

logger = logging.getLogger(__name__)

_TURN_MS: Final = 1_000.0
_RENEW_MS: Final = 2_000
_SEAT_MAX_AGE_MS: Final = 1_000
_MAIN: Final = "main"
_STOP_PAUSE_S: Final = 0.05
_STOP_LOOKS: Final = 40
"""How often a process that ends looks whether its turn at the lease, which is under way, is over."""

_holds = Gauge("superapp_ledger_writer", "1 in the process that writes, 0 in those that could.")
_epoch_seen = Gauge("superapp_ledger_epoch", "The epoch of the lease under which this process writes or wrote.")
_takeovers_total = Counter("superapp_ledger_takeovers_total", "How often this process took the lease.")
_lost_total = Counter("superapp_ledger_lease_lost_total", "How often another process took the lease from this one.")

Begin = Callable[[int], Awaitable[None]]
End = Callable[[], None]


class Opens(Protocol):
    """What it needs of ``synapse_super_app.ledger.writer.LedgerWriter``."""

    def open(self, epoch: int, on_lost: Callable[[], None] | None = None) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Which process writes, and under which epoch."""

    holder: str
    epoch: int


class Tenure:
    """One in each process. ``own`` is its name, ``writers`` are those that may write."""

    def __init__(
        self, *, api: ModuleApi, database: WriterDatabase, writer: Opens, own: str, writers: Sequence[str]
    ) -> None:
        self._api = api
        self._database = database
        self._writer = writer
        self.own = own
        self._may_write = own in writers
        self._competes = len(writers) > 1
        self._begins: list[Begin] = []
        self._ends: list[End] = []
        # The lease of this process, and the same once all that belongs to it has begun.
        self._taken: int | None = None
        self._epoch: int | None = None
        # None until this process has had the lease: then one under its name is that of a run that is over.
        self._was_mine: set[int] | None = None
        self._busy = False
        self._begins_now = False
        self._stopped = False
        self.started = False
        """The tables are there."""
        self._renewed_ms = 0
        self._patient_until_ms = 0
        self._seat: Seat | None = None
        self._seat_read_ms: int | None = None

    def while_held(self, begin: Begin, end: End) -> None:
        """Call ``begin`` with the epoch, in the order of these calls, whenever a tenure begins, and ``end`` after it.

        The writer is open when a tenure begins. ``end`` returns at once, and may come after a ``begin`` that failed. A
        tenure that is lost while it begins is ended at once, and again as soon as the ``begin`` under way is done.
        """
        self._begins.append(begin)
        self._ends.append(end)

    @property
    def holds(self) -> bool:
        """Whether this process writes, as far as it knows, and all that belongs to it has begun.

        One that hung does not know for how long, so it waits for its next renewal before it decides anything.
        """
        if self._epoch is None:
            return False
        return not self._competes or 0 <= self._api.get_current_time_msec() - self._renewed_ms < LEASE_MS

    async def start(self) -> None:
        """Compete for the lease from now on, if this process may."""
        self.started = True
        if not self._may_write:
            return
        _holds.set(0)
        await self._turn()
        # Synapse runs loops on its background worker only, unless told so.
        self._api.looping_background_call(
            self._turn, _TURN_MS, desc="superapp_ledger_tenure", run_on_all_instances=True
        )

    async def stop(self) -> None:
        """This process ends: whoever else may write can do so at once."""
        self._stopped = True
        for _ in range(_STOP_LOOKS):
            if not self._busy:
                break
            # It may be about to get the lease, which it then gives up.
            await self._api.sleep(_STOP_PAUSE_S)
        epoch = self._taken
        if epoch is None:
            return
        self._end()
        await self._give_up(epoch)

    async def _give_up(self, epoch: int) -> None:
        if self._competes:
            await self._database.run("lease_give_up", lambda cur: lease.give_up(cur, epoch))
            logger.info("Gave up the ledger's lease of epoch %d", epoch)

    async def seat(self, *, fresh: bool = False) -> Seat | None:
        """Who writes now; None if nobody does. A second old at most, or read now if ``fresh``."""
        now_ms = self._api.get_current_time_msec()
        if fresh or self._seat_read_ms is None or not 0 <= now_ms - self._seat_read_ms < _SEAT_MAX_AGE_MS:
            found = await self._database.run("lease_look", lease.read)
            self._seat = Seat(holder=found.holder, epoch=found.epoch) if found.holder else None
            self._seat_read_ms = now_ms
        return self._seat

    async def _turn(self) -> None:
        if self._busy or self._stopped:
            return
        self._busy = True
        try:
            now_ms = self._api.get_current_time_msec()
            if self._taken is not None:
                if self._competes and not 0 <= now_ms - self._renewed_ms < _RENEW_MS:
                    await self._renew(self._taken)
            elif not self._begins_now and not 0 < self._patient_until_ms - now_ms <= LEASE_MS:
                await self._compete()
        except Exception:
            # The database is away, for all of them. Batches wait for it by themselves.
            logger.exception("The ledger's lease could not be looked after; it is tried again")
        finally:
            self._busy = False

    async def _renew(self, epoch: int) -> None:
        asked_ms = self._api.get_current_time_msec()
        if await self._database.run("lease_renew", lambda cur: lease.renew(cur, epoch)):
            self._renewed_ms = asked_ms
        elif self._taken == epoch:
            self._lost()

    async def _compete(self) -> None:
        found = await self._database.run("lease_look", lease.read)
        # Once it has written it waits like all others, or it and the main process would take turns.
        stand_in = _MAIN if self.own != _MAIN and self._was_mine is None else None
        if not lease.is_free(found, by=self.own, was_mine=self._was_mine, stand_in=stand_in):
            return
        lasts_ms = LEASE_MS if self._competes else 0
        self._renewed_ms = self._api.get_current_time_msec()
        epoch = await self._database.run(
            "lease_take",
            partial(lease.take, by=self.own, was_mine=self._was_mine, lasts_ms=lasts_ms, stand_in=stand_in),
        )
        if epoch is None:
            return
        if self._stopped:
            # Nobody here will write, so nobody else need wait until it expires.
            await self._give_up(epoch)
            return
        self._taken = epoch
        self._was_mine = {*(self._was_mine or ()), epoch}
        _takeovers_total.inc()
        _epoch_seen.set(epoch)
        logger.info(
            "%s writes the ledger from now on, epoch %d (before: %s)", self.own, epoch, found.holder or "nobody"
        )
        # In the background, because the lease is renewed meanwhile.
        self._api.run_as_background_process("superapp_ledger_begin", self._begin, epoch)

    async def _begin(self, epoch: int) -> None:
        def lost() -> None:
            if self._taken == epoch:
                self._lost()

        self._begins_now = True
        self._writer.open(epoch, lost)
        try:
            for begin in self._begins:
                await begin(epoch)
                if self._taken != epoch:
                    # Lost meanwhile: what has begun since is ended too, and the rest does not begin.
                    self._end()
                    return
        except Exception:
            logger.exception("The ledger's writer could not begin; it is tried again")
            # Also after a loss: the part that failed may have begun in half since then.
            self._end()
            return
        finally:
            # Only now may this process compete again, so that no two tenures begin at once.
            self._begins_now = False
        self._epoch = epoch
        self._seat_read_ms = None
        _holds.set(1)

    def _lost(self) -> None:
        logger.warning(
            "Another process has taken the ledger's lease from %s, which had said nothing for too long or stood in for "
            "it; what was not committed is asked of that one",
            self.own,
        )
        _lost_total.inc()
        if not self._competes:
            # Each believes to be the only one, or has the name of the other. They shall not take turns at every batch.
            self._patient_until_ms = self._api.get_current_time_msec() + LEASE_MS
        self._end()

    def _end(self) -> None:
        self._taken = self._epoch = self._seat_read_ms = None
        _holds.set(0)
        self._writer.close()
        for end in self._ends:
            end()
