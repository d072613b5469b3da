"""The lease: which process writes, since when, and until when it need not be asked again. All SQL of it.

The lease has a row of its own, and its epoch also stands in the row that every batch locks first. A takeover locks that
row too and raises the epoch, so a batch of whoever wrote before is either done or finds another epoch and writes
nothing. Time is the database's own; no process compares its clock with another's.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, LiteralString

from super_app.db import Cursor, Engine
from super_app.ledger import store

LEASE_MS: Final = 6_000
"""How long a writer that says nothing is left alone, if there are others."""

_POSTGRESQL_NOW: Final[LiteralString] = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
_SQLITE_NOW: Final[LiteralString] = "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"


class NotTheWriter(Exception):
    """This process does not hold the lease, or no longer. Nothing was written; whoever asked asks the one that does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """``left_ms`` is how long it runs from now on; not above 0 for one that has run out."""

    epoch: int
    holder: str
    """Name of the process, empty before the first."""
    left_ms: int


def read(cur: Cursor) -> Lease:
    """The lease as it stands, without taking it."""
    cur.execute(
        "SELECT epoch, holder, expires_ms - " + _now(cur) + " FROM superapp_ledger_lease WHERE singleton = 1",
    )
    row = cur.fetchone()
    if row is None:
        raise RuntimeError("there is no lease; have the ledger's migrations run?")
    return Lease(epoch=int(row[0] or 0), holder=str(row[1]), left_ms=int(row[2] or 0))


def is_free(lease: Lease, *, by: str, was_mine: Collection[int] | None, stand_in: str | None = None) -> bool:
    """Whether ``by`` may take the lease. From a ``stand_in`` it is taken at any time.

    A lease under its own name is free for it too, if it is one of an earlier run: ``was_mine`` None says that this
    process has just started, so whoever held it under that name is gone. Later it is free only with an epoch that this
    process held itself; otherwise two processes that were given one name would take it from each other for ever.
    """
    if lease.left_ms <= 0 or lease.holder == stand_in:
        return True
    return lease.holder == by and (was_mine is None or lease.epoch in was_mine)


def take(
    cur: Cursor, *, by: str, was_mine: Collection[int] | None, lasts_ms: int, stand_in: str | None = None
) -> int | None:
    """Take over: compare and set, which raises the epoch. The new epoch, or None if somebody else was faster.

    Waits for a batch that is being written. ``lasts_ms`` 0 is for who has no others to fear.
    """
    head = store.lock(cur)
    if not is_free(read(cur), by=by, was_mine=was_mine, stand_in=stand_in):
        return None
    epoch = head.epoch + 1
    cur.execute("UPDATE superapp_ledger_head SET epoch = ? WHERE singleton = 1", (epoch,))
    cur.execute(
        "UPDATE superapp_ledger_lease SET epoch = ?, holder = ?, expires_ms = " + _now(cur) + " + ?"
        " WHERE singleton = 1",
        (epoch, by, lasts_ms),
    )
    return epoch


def renew(cur: Cursor, epoch: int) -> bool:
    """Go on for ``LEASE_MS`` from now. False if somebody else has taken over."""
    cur.execute(
        "UPDATE superapp_ledger_lease SET expires_ms = " + _now(cur) + " + ? WHERE singleton = 1 AND epoch = ?",
        (LEASE_MS, epoch),
    )
    return cur.rowcount == 1


def give_up(cur: Cursor, epoch: int) -> None:
    """Let others have it at once. A batch of ours that is still being written is waited for by who takes over."""
    cur.execute("UPDATE superapp_ledger_lease SET expires_ms = 0 WHERE singleton = 1 AND epoch = ?", (epoch,))


def demand(cur: Cursor, epoch: int) -> None:
    """Take the row that every batch takes, until the transaction ends.

    Raises:
        NotTheWriter: somebody else has taken over since ``epoch``.
    """
    found = store.lock(cur).epoch
    if found != epoch:
        raise NotTheWriter(f"the lease is at epoch {found}, and this process had {epoch}")


def _now(cur: Cursor) -> LiteralString:
    return _POSTGRESQL_NOW if cur.engine is Engine.POSTGRESQL else _SQLITE_NOW
