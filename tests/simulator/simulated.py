"""One homeserver of the simulator: its node, its disk, and what its process keeps in memory."""

import itertools
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from disks import Disk
from hostile import Mind
from nodes import Node

from super_app.clearing.model import MessageId
from super_app.ids import ServerName


class Violated(AssertionError):
    """An invariant does not hold, or something that must end does not."""


class Crashed(Exception):
    """The process died here. What it had committed is there, and nothing else."""


@dataclass(slots=True, eq=False)
class Process:
    """``mind`` is that of a hostile homeserver. ``forgetful``: its database has at some time lost what it had said."""

    node: Node
    disk: Disk
    mind: Mind | None = None
    skew_ms: int = 0
    up: bool = False
    boots: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    under_way: dict[ServerName, set[MessageId]] = field(default_factory=dict)
    alarm: dict[ServerName | None, int] = field(default_factory=dict)
    """When it looks again at each peer, and at None for time itself: the newest timer counts."""
    ordered: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    """What its people have ordered: of whom, currency and amount."""
    snapshot: sqlite3.Connection | None = None
    forgetful: bool = False
    repins: bool = False
    """Whether operators pin payment keys anew in this run."""
    checked_changes: int = -1

    @property
    def name(self) -> ServerName:
        return self.node.name

    @property
    def honest(self) -> bool:
        return self.mind is None

    def has_changed(self) -> bool:
        """Whether anything was written since this was last asked."""
        before, self.checked_changes = self.checked_changes, self.disk.connection.total_changes
        return before != self.checked_changes

    def replace_disk(self, connection: sqlite3.Connection) -> None:
        """Another copy of its database, in which some of the newest is missing."""
        self.forgetful = True
        self.disk = Disk(connection)
        self.node.tx = self.disk
        self.checked_changes = -1
