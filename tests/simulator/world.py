"""A federation in one process, all of it from a seed: homeservers, people, a network, clocks, crashes.

The homeservers run the real ledger and the real clearing on SQLite in memory; ``Process`` does what the shell does
around them (an outbox loop for each peer, timers, HTTP answers) on a simulated clock. The network drops, doubles,
delays and so reorders, and partitions; a process crashes between any two durable steps and comes back; clocks jump.
After every event the invariants of ``docs/clearing.md`` are checked on all homeservers at once. The same seed gives
the same run, to the byte.
"""

import heapq
import itertools
import random
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, LiteralString, TypeVar, cast

from nodes import EUR, PACKAGES, PTS, START_MS, Misused, Node, acct_of, certified_in

from super_app.clearing.model import Agenda, Errand, EvidenceKind, Grant, LinkTerms, MessageId, Received, Trouble
from super_app.clearing.ports import Accept, Ask, Order
from super_app.db import Cursor, Engine, Row, SqlValue, migrations
from super_app.errors import Reason, Refused
from super_app.ids import ServerName
from super_app.ledger import service as ledger
from super_app.ledger.model import due_from, due_to
from super_app.money import Asset

T = TypeVar("T")

WINDOW: Final = 4
TIMEOUT_MS: Final = 10_000
_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS
_DAY_MS: Final = 24 * _HOUR_MS


class Violated(AssertionError):
    """An invariant does not hold, or something that must end does not."""


class Crashed(Exception):
    """The process died here. What it had committed is there, and nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What happens in a run, drawn from its seed."""

    homeservers: int
    payments: int
    limit_minor: int
    loss: float
    doubling: float
    crash: float
    sever: float
    """Chance that the two sides of a payment are cut apart while it is under way."""
    clock_jumps: int
    restores: int = 0
    ask: float = 0.2
    refuse: float = 0.05
    cancel: float = 0.1
    span_ms: int = _HOUR_MS


def draw_plan(random_: random.Random) -> Plan:
    calm = random_.random() < 0.2
    return Plan(
        homeservers=random_.choice((2, 2, 2, 3, 4)),
        payments=random_.randint(4, 14),
        limit_minor=random_.choice((600, 1_500, 100_000)),
        loss=0.0 if calm else random_.choice((0.02, 0.1, 0.3)),
        doubling=random_.choice((0.0, 0.1, 0.3)),
        crash=0.0 if calm else random_.choice((0.0, 0.01, 0.04)),
        sever=0.0 if calm else random_.choice((0.0, 0.1, 0.4)),
        clock_jumps=random_.choice((0, 0, 1, 3)),
        span_ms=random_.choice((2 * _MINUTE_MS, 20 * _MINUTE_MS, 3 * _HOUR_MS)),
    )


class Disk:
    """A database in memory, one connection, the SQL that the homeserver would run."""

    engine = Engine.SQLITE

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.connection.execute("PRAGMA foreign_keys = ON")
        self._cursor = connection.cursor()
        self.be_calm()

    def be_calm(self) -> None:
        """Let nothing happen around transactions."""
        self.before_commit: Callable[[Cursor], None] = _nothing_before
        self.after_commit: Callable[[], None] = _nothing_after

    def __call__(self, work: Callable[[Cursor], T]) -> T:
        self._cursor.execute("BEGIN IMMEDIATE")
        try:
            answer = work(self)
            self.before_commit(self)
        except BaseException:
            self._cursor.execute("ROLLBACK")
            raise
        self._cursor.execute("COMMIT")
        self.after_commit()
        return answer

    def look(self, work: Callable[[Cursor], T]) -> T:
        """Read what is committed, without a transaction."""
        return work(self)

    def copy(self) -> sqlite3.Connection:
        taken = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.backup(taken)
        return taken

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    def execute(self, sql: LiteralString, parameters: Sequence[SqlValue] = ()) -> None:
        self._cursor.execute(sql, parameters)

    def execute_many(self, sql: LiteralString, rows: Iterable[Sequence[SqlValue]]) -> None:
        self._cursor.executemany(sql, rows)

    def execute_values(self, sql: LiteralString, rows: Sequence[Sequence[SqlValue]]) -> list[Row]:
        if not rows:
            return []
        one_row = "(" + ", ".join("?" * len(rows[0])) + ")"
        self._cursor.execute(
            sql.replace("VALUES ?", "VALUES " + ", ".join([one_row] * len(rows)), 1),
            [value for row in rows for value in row],
        )
        return self.fetchall() if self._cursor.description is not None else []

    def fetchone(self) -> Row | None:
        return cast(Row | None, self._cursor.fetchone())

    def fetchall(self) -> list[Row]:
        return cast(list[Row], self._cursor.fetchall())


_empty: list[sqlite3.Connection] = []


def new_disk() -> Disk:
    """A database with all tables. They are made once and copied."""
    if not _empty:
        made = Disk(sqlite3.connect(":memory:", isolation_level=None))
        made(migrations.prepare)
        for package in PACKAGES:
            for migration in migrations.load(package, Engine.SQLITE):
                made(partial(migrations.apply, migration=migration))
        _empty.append(made.connection)
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    _empty[0].backup(fresh)
    return Disk(fresh)


def _nothing_before(cur: Cursor) -> None:
    pass


def _nothing_after() -> None:
    pass


@dataclass(slots=True, eq=False)
class Process:
    """One homeserver and the shell around it."""

    node: Node
    disk: Disk
    skew_ms: int = 0
    up: bool = False
    boots: Any = field(default_factory=lambda: itertools.count(1))
    under_way: dict[ServerName, set[MessageId]] = field(default_factory=dict)
    snapshot: sqlite3.Connection | None = None
    restored: bool = False

    checked_changes: int = -1

    @property
    def name(self) -> ServerName:
        return self.node.name

    def has_changed(self) -> bool:
        """Whether anything was written since this was last asked."""
        before, self.checked_changes = self.checked_changes, self.disk.connection.total_changes
        return before != self.checked_changes


class World:
    """One run. ``run`` raises ``Violated`` with the seed and the trace where something is wrong."""

    def __init__(
        self,
        seed: int,
        plan: Plan | None = None,
        *,
        node: type[Node] = Node,
        send_before_commit: bool = False,
    ) -> None:
        self.seed = seed
        self.node = node
        self.random = random.Random(seed)
        self.plan = plan or draw_plan(self.random)
        self.send_before_commit = send_before_commit
        self.now_ms = START_MS
        self.steps = 0
        self.trace: list[str] = []
        self._events: list[tuple[int, int, str, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._cut: set[frozenset[ServerName]] = set()
        self._calm = False
        self._orders: dict[ServerName, list[Order]] = defaultdict(list)
        self._used: dict[tuple[ServerName, ServerName, str], int] = {}
        self.processes = {
            process.name: process for process in (self._process(index) for index in range(self.plan.homeservers))
        }

    # Building.

    def _process(self, index: int) -> Process:
        disk = new_disk()
        process = Process(node=self.node(f"hs{index + 1}.test", disk, seed=self.seed), disk=disk)
        process.node.create()
        for person in ("alice", "bob"):
            for asset in (EUR, PTS):
                process.node.issue(process.node.user(person), 1_000, asset)
        return process

    def _limits(self, peer: ServerName, limit_minor: int) -> LinkTerms:
        return LinkTerms(
            peer=peer,
            grants=tuple(
                Grant(currency=asset.code, scale=asset.scale, limit_minor=limit_minor) for asset in (EUR, PTS)
            ),
        )

    # Running.

    def run(self) -> None:
        try:
            self._schedule_all()
            self._drain(until_ms=START_MS + self.plan.span_ms)
            self._settle()
        except (Violated, Misused, RuntimeError, sqlite3.Error) as error:
            raise Violated(f"seed {self.seed}: {error}\n" + "\n".join(self.trace[-40:])) from error

    def _schedule_all(self) -> None:
        plan, names = self.plan, list(self.processes)
        for name in names:
            self._at(0, f"{name} starts", partial(self._start, name))
        for one, other in itertools.permutations(names, 2):
            self._at(
                self._moment(plan.span_ms // 40),
                f"{one} opens its side to {other}",
                partial(self._limit, one, other, plan.limit_minor),
            )
        # People pay in bursts, so that payments meet on a link.
        bursts = [self._moment(plan.span_ms) for _ in range(max(1, plan.payments // 4))]
        for number in range(plan.payments):
            begin = self.random.choice(bursts) + self.random.randrange(300)
            self._at(begin, f"payment {number}", partial(self._pay, number))
        for _ in range(plan.clock_jumps):
            name = self.random.choice(names)
            jump = self.random.choice((-_DAY_MS, -_HOUR_MS, -90_000, 90_000, _HOUR_MS, _DAY_MS))
            self._at(self._moment(plan.span_ms), f"{name}'s clock jumps by {jump}", partial(self._jump, name, jump))
        for _ in range(plan.restores):
            name, burst = self.random.choice(names), self.random.choice(bursts)
            taken = max(1, burst - 1_000 + self.random.randrange(2_000))
            self._at(taken, f"{name} is backed up", partial(self._back_up, name))
            restored = taken + self.random.choice((200, 2_000, 60_000))
            self._at(restored, f"{name} is restored", partial(self._restore, name))
        for _ in range(self.random.randint(0, 2)):
            one, other = self.random.sample(names, 2)
            limit = self.random.choice((0, 300, plan.limit_minor * 2))
            self._at(
                self._moment(plan.span_ms),
                f"{one} limits {other} to {limit}",
                partial(self._limit, one, other, limit),
            )

    def _moment(self, span_ms: int) -> int:
        return self.random.randrange(1, span_ms)

    def _at(self, delay_ms: int, what: str, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now_ms + max(0, delay_ms), next(self._numbers), what, do))

    def _drain(self, until_ms: int) -> None:
        while self._events and self._events[0][0] <= until_ms:
            self.now_ms, _, what, do = heapq.heappop(self._events)
            self.steps += 1
            if self.steps > 200_000:
                raise Violated("the run does not end")
            self.trace.append(f"{self.now_ms - START_MS:>12} {what}")
            do()
            self._check()
        self.now_ms = max(self.now_ms, until_ms)

    def _settle(self) -> None:
        """No more trouble from outside: within three days everything must have ended."""
        self._calm = True
        self._cut.clear()
        for name, process in self.processes.items():
            if not process.up:
                self._at(0, f"{name} starts", partial(self._start, name))
        for one, other in itertools.permutations(self.processes, 2):
            # An operator whose command met a server that was down gives it again.
            self._at(_HOUR_MS, f"{one} opens", partial(self._open_again, one, other))
        for name, orders in self._orders.items():
            for order in orders:
                follow = partial(self._follow_order, order=order)
                self._at(2 * _HOUR_MS, f"{name} follows", partial(self._act, name, follow))
        self._drain(until_ms=self.now_ms + 3 * _DAY_MS)
        self._check_rest()

    # What processes do.

    def _start(self, name: ServerName) -> None:
        process = self.processes[name]
        if process.up:
            return
        process.up = True
        process.under_way = {}
        process.node.start(f"{name} {next(process.boots)}")

        def work() -> None:
            self._tx(process, lambda cur: process.node.clearing.started(cur, self._clock(process)))
            self._tick(process)
            self._look_everywhere(process)
            # The follower finds orders again whose hold was placed and whose offer was not written.
            for order in self._orders[name]:
                self._follow_order(process, order)

        self._guarded(process, work)

    def _act(self, name: ServerName, do: Callable[[Process], None]) -> None:
        """Something that people or operators do, if the process is there for it."""
        process = self.processes[name]
        if process.up:
            self._guarded(process, lambda: do(process))

    def _guarded(self, process: Process, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except Crashed:
            self._crash(process)
            return None

    def _crash(self, process: Process) -> None:
        self.trace.append(f"{'':>12} {process.name} dies")
        process.up = False
        process.disk.be_calm()
        delay = self.random.choice((500, 5_000, 60_000, 15 * _MINUTE_MS))
        self._at(delay, f"{process.name} starts", lambda: self._start(process.name))

    def _tx(self, process: Process, work: Callable[[Cursor], T]) -> T:
        """One transaction, around which the process may die."""
        process.node.now_ms = self._clock(process)
        chance = 0.0 if self._calm else self.plan.crash
        die_before, die_after = self.random.random() < chance / 2, self.random.random() < chance / 2

        def before(cur: Cursor) -> None:
            if die_before and self.send_before_commit:
                self._leak(process, cur)
            if die_before:
                raise Crashed

        def after() -> None:
            if die_after:
                raise Crashed

        process.disk.before_commit, process.disk.after_commit = before, after
        try:
            return process.disk(work)
        finally:
            process.disk.be_calm()

    def _clock(self, process: Process) -> int:
        return self.now_ms + process.skew_ms

    def _open(self, process: Process, peer: ServerName, limit_minor: int) -> None:
        self._tx(
            process,
            lambda cur: process.node.clearing.open_link(cur, self._limits(peer, limit_minor), self._clock(process)),
        )
        self._look(process, peer)

    def _limit(self, name: ServerName, peer: ServerName, limit_minor: int) -> None:
        self._act(name, lambda process: self._open(process, peer, limit_minor))

    def _open_again(self, name: ServerName, peer: ServerName) -> None:
        if peer not in self.processes[name].node.tx(self.processes[name].node.clearing.peers):
            self._limit(name, peer, self.plan.limit_minor)

    def _pay(self, number: int) -> None:
        payer_at, payee_at = self.random.sample(list(self.processes), 2)
        payer, payee = self.processes[payer_at], self.processes[payee_at]
        who = payer.node.user(self.random.choice(("alice", "bob")))
        whom = payee.node.user(self.random.choice(("alice", "bob")))
        asset = self.random.choice((EUR, EUR, PTS))
        amount_minor = self.random.choice((1, 99, 300, 600))
        cancel = self.random.random() < self.plan.cancel
        cancel_after = self.random.choice((1, 200, 5_000, _HOUR_MS))
        order = payer.node.order(who, whom, amount_minor, number=number, asset=asset)
        fate = self.random.random()
        if fate < self.plan.refuse:
            payee.node.till.answers[whom] = Refused(reason=Reason.NOT_ALLOWED, message="no")
        elif fate < self.plan.refuse + self.plan.ask:
            until_ms = self.random.choice((30_000, _HOUR_MS, _DAY_MS))
            payee.node.till.answers[whom] = Ask(acct=acct_of(whom), until_ms=until_ms)
        else:
            payee.node.till.answers[whom] = Accept(acct=acct_of(whom))
        self.trace.append(f"{'':>12} {who} pays {whom} {amount_minor} {asset.code} ({order.payment_id[-2:]})")

        def pay(process: Process) -> None:
            if isinstance(self._tx(process, lambda cur: process.node.hold(cur, order)), Refused):
                return
            self._tx(process, lambda cur: process.node.offer(cur, order))
            self._look(process, payee_at)
            self._time(process)

        self._orders[payer_at].append(order)
        self._act(payer_at, pay)
        if self.random.random() < self.plan.sever:
            pair = frozenset((payer_at, payee_at))
            length = self.random.choice((5_000, 90_000, 12 * _MINUTE_MS, 12 * _MINUTE_MS))
            begin = self.random.choice((10, 30, 60, 100, 150))
            self._at(begin, f"{payer_at} and {payee_at} apart", lambda: self._cut.add(pair))
            self._at(begin + length, f"{payer_at} and {payee_at} again", lambda: self._cut.discard(pair))
            if self.random.random() < 0.3:
                # A cautious operator meanwhile.
                limit = self.random.choice((0, 300))
                self._at(length // 2, f"{payee_at} limits", lambda: self._limit(payee_at, payer_at, limit))
                self._at(
                    2 * length, f"{payee_at} limits", lambda: self._limit(payee_at, payer_at, self.plan.limit_minor)
                )
        for delay in (30_000, 5 * _MINUTE_MS):
            self._at(delay, f"{payer_at} follows", lambda: self._act(payer_at, lambda p: self._follow_order(p, order)))
        if cancel:
            self._at(
                cancel_after,
                f"{who} cancels {order.payment_id[-2:]}",
                lambda: self._cancel(payer_at, order),
            )
        for delay in (4_000, 40 * _MINUTE_MS):
            self._at(delay + self._moment(10_000), f"{whom} answers", lambda: self._answer(payee_at))

    def _follow_order(self, process: Process, order: Order) -> None:
        """The follower and the reconciler come by, whatever has become of the order."""
        self._tx(process, lambda cur: process.node.follow(cur, order))
        self._look_everywhere(process)
        self._time(process)

    def _cancel(self, name: ServerName, order: Order) -> None:
        def cancel(process: Process) -> None:
            self._tx(process, lambda cur: process.node.cancel(cur, order))
            self._look_everywhere(process)

        self._act(name, cancel)

    def _answer(self, name: ServerName) -> None:
        """Somebody who was asked answers, or not."""

        def answer(process: Process) -> None:
            for peer, wire_id in process.disk.look(process.node.asked_here):
                fate = self.random.random()
                if fate < 0.8:
                    self._tx(process, partial(process.node.answer, peer=peer, wire_id=wire_id, yes=fate < 0.6))
                self._look(process, peer)
                self._time(process)

        self._act(name, answer)

    def _jump(self, name: ServerName, by_ms: int) -> None:
        process = self.processes[name]
        process.skew_ms += by_ms
        self._act(name, self._tick)
        self._act(name, self._look_everywhere)

    def _back_up(self, name: ServerName) -> None:
        process = self.processes[name]
        if not process.restored:
            process.snapshot = process.disk.copy()

    def _restore(self, name: ServerName) -> None:
        process = self.processes[name]
        if process.snapshot is None or process.restored:
            return
        process.restored = True
        process.disk = Disk(process.snapshot)
        process.node.tx = process.disk
        process.up = False
        # What it had on its way died with its connections; what had been answered is known to its peers.
        self._events = [each for each in self._events if not each[2].startswith(f"{name} ->")]
        heapq.heapify(self._events)
        self._at(1_000, f"{name} starts", lambda: self._start(name))

    # Sending, as the shell's Sender does it.

    def _look_everywhere(self, process: Process) -> None:
        for peer in process.disk.look(process.node.clearing.peers):
            self._look(process, peer)

    def _look(self, process: Process, peer: ServerName) -> None:
        under_way = process.under_way.setdefault(peer, set())
        agenda = process.disk.look(
            lambda cur: process.node.clearing.due(
                cur, peer, self._clock(process), limit=WINDOW, under_way=frozenset(under_way)
            )
        )
        self._follow(process, peer, agenda)

    def _follow(self, process: Process, peer: ServerName, agenda: Agenda) -> None:
        under_way = process.under_way.setdefault(peer, set())
        for errand in agenda.errands:
            if errand.message_id not in under_way:
                under_way.add(errand.message_id)
                self._send(process, errand)
        if agenda.wake_ms is not None:
            boot = process.node.boot
            delay = max(1, agenda.wake_ms - self._clock(process))
            self._at(
                delay,
                f"{process.name} looks at {peer}",
                lambda: self._if_same(process, boot, lambda: self._look(process, peer)),
            )

    def _if_same(self, process: Process, boot: str, work: Callable[[], None]) -> None:
        if process.up and process.node.boot == boot:
            self._guarded(process, work)

    def _latency(self) -> int:
        return (
            self.random.choice((5, 20, 50)) if self.random.random() < 0.9 else self.random.randrange(50, 3 * _MINUTE_MS)
        )

    def _loses(self, one: ServerName, other: ServerName) -> bool:
        if frozenset((one, other)) in self._cut:
            return True
        return not self._calm and self.random.random() < self.plan.loss

    def _send(self, process: Process, errand: Errand) -> None:
        name = f"{process.name} -> {errand.peer} {_label(errand)}"
        boot = process.node.boot
        copies = 1 + (not self._calm and self.random.random() < self.plan.doubling)
        done: list[bool] = []

        def fail() -> None:
            if not done:
                done.append(True)
                self._if_same(process, boot, lambda: self._failed(process, errand, Trouble.UNREACHABLE, None, None))

        for _ in range(copies):
            if not self._loses(process.name, errand.peer):
                self._at(self._latency(), name, lambda: self._arrive(process, boot, errand, done))
        self._at(TIMEOUT_MS, f"{name} times out", fail)

    def _leak(self, process: Process, cur: Cursor) -> None:
        """The planted bug of sending what is not committed yet."""
        for peer in process.node.clearing.peers(cur):
            for errand in process.node.clearing.due(cur, peer, self._clock(process), limit=WINDOW).errands:
                self._at(
                    1,
                    f"{process.name} -> {peer} early {_label(errand)}",
                    partial(self._arrive, process, "", errand, [True]),
                )

    def _arrive(self, process: Process, boot: str, errand: Errand, done: list[bool]) -> None:
        peer = self.processes[errand.peer]
        if not peer.up:
            return
        body = errand.body

        def receive() -> Received | Refused:
            certified = certified_in(body)
            return self._tx(
                peer,
                lambda cur: peer.node.clearing.receive(cur, process.name, body, self._clock(peer), certified=certified),
            )

        received = self._guarded(peer, receive)
        if received is None:
            return
        if isinstance(received, Received):
            self._alarms(peer, received)
            if received.moved:
                self._guarded(peer, lambda: self._look_everywhere(peer))
                self._time(peer)
        elif received.reason is Reason.LINK_HALTED:
            self._guarded(peer, lambda: self._look(peer, process.name))
        if not self._loses(process.name, errand.peer):
            name = f"{process.name} <- {errand.peer} {_label(errand)}"
            self._at(self._latency(), name, lambda: self._answered(process, boot, errand, received, done))

    def _answered(
        self, process: Process, boot: str, errand: Errand, answer: Received | Refused, done: list[bool]
    ) -> None:
        if done:
            return
        done.append(True)
        refused = answer if isinstance(answer, Refused) else answer.refused
        if refused is not None:
            trouble = Trouble.UNREACHABLE if refused.reason in _AWAY else Trouble.REFUSED
            retry_after = refused.fields.get("retry_after_ms")
            self._if_same(
                process,
                boot,
                lambda: self._failed(process, errand, trouble, refused.reason, cast(int | None, retry_after)),
            )
        elif isinstance(answer, Received):
            self._if_same(process, boot, lambda: self._delivered(process, errand, answer.objects))

    def _delivered(self, process: Process, errand: Errand, objects: Sequence[object]) -> None:
        certified = frozenset[MessageId]().union(*(certified_in({"object": each}) for each in objects))
        under_way = process.under_way.setdefault(errand.peer, set())

        def work(cur: Cursor) -> tuple[Received, Agenda]:
            now_ms = self._clock(process)
            received = process.node.clearing.delivered(cur, errand, objects, now_ms, certified=certified)
            busy = frozenset(under_way - {errand.message_id})
            return received, process.node.clearing.due(cur, errand.peer, now_ms, limit=WINDOW, under_way=busy)

        received, agenda = self._tx(process, work)
        under_way.discard(errand.message_id)
        self._alarms(process, received)
        self._follow(process, errand.peer, agenda)
        self._time(process)

    def _failed(
        self, process: Process, errand: Errand, trouble: Trouble, reason: Reason | None, retry_after_ms: int | None
    ) -> None:
        self._tx(
            process,
            lambda cur: process.node.clearing.failed(
                cur,
                errand,
                trouble,
                self._clock(process),
                error=trouble.value,
                reason=reason,
                retry_after_ms=retry_after_ms,
            ),
        )
        process.under_way.setdefault(errand.peer, set()).discard(errand.message_id)
        self._look(process, errand.peer)

    # Time.

    def _time(self, process: Process) -> None:
        next_ms = process.disk.look(process.node.clearing.next_tick_ms)
        if next_ms is not None:
            boot = process.node.boot
            delay = max(1, next_ms - self._clock(process))
            self._at(delay, f"{process.name} ticks", lambda: self._if_same(process, boot, lambda: self._tick(process)))

    def _tick(self, process: Process) -> None:
        next_ms = process.disk.look(process.node.clearing.next_tick_ms)
        if next_ms is None or next_ms > self._clock(process):
            # An earlier tick did it, or the clock went back.
            self._time(process)
            return
        self._tx(process, lambda cur: process.node.clearing.tick(cur, self._clock(process)))
        self._look_everywhere(process)
        self._time(process)

    # Checking.

    def _alarms(self, process: Process, received: Received) -> None:
        for alarm in received.alarms:
            self.trace.append(f"{'':>12} {process.name}: {alarm.message}")
            if not (process.restored and alarm.kind in (EvidenceKind.PEER_AHEAD, EvidenceKind.FORKED)):
                raise Violated(f"{process.name} has evidence against an honest {alarm.peer}: {alarm.kind}")

    def _check(self) -> None:
        changed = [process for process in self.processes.values() if process.has_changed()]
        if not changed:
            return
        for process in changed:
            process.disk.look(partial(self._check_one, process))
        if not any(process.restored for process in self.processes.values()):
            for one, other in itertools.permutations(self.processes.values(), 2):
                if one in changed or other in changed:
                    self._check_pair(one, other)

    def _check_one(self, process: Process, cur: Cursor) -> None:
        cur.execute("SELECT currency, SUM(balance_minor) FROM superapp_ledger_account GROUP BY currency")
        for currency, total in cur.fetchall():
            self._demand(total == 0, f"I1, I6: {process.name} {currency} sums to {total}")
        cur.execute(
            "SELECT COUNT(*) FROM superapp_ledger_account WHERE kind IN ('available', 'held') AND balance_minor < 0"
        )
        self._demand(cur.fetchone() == (0,), f"I2: {process.name} has a negative balance")
        cur.execute(
            "SELECT (SELECT COALESCE(SUM(balance_minor), 0) FROM superapp_ledger_account WHERE kind = 'held')"
            " - (SELECT COALESCE(SUM(amount_minor), 0) FROM superapp_ledger_hold WHERE state = 'open')"
        )
        self._demand(cur.fetchone() == (0,), f"I2: {process.name}'s held is not its open holds")
        cur.execute(
            "SELECT l.peer, c.currency, c.our_limit_minor,"
            " COALESCE((SELECT -a.balance_minor FROM superapp_ledger_account AS a WHERE a.owner = l.peer"
            "  AND a.currency = c.currency AND a.kind = 'due_from'), 0)"
            " + COALESCE((SELECT SUM(p.amount_minor) FROM superapp_clearing_in AS p WHERE p.link_id = l.link_id"
            "  AND p.currency = c.currency AND p.state = 'accepted'), 0)"
            " - COALESCE((SELECT SUM(p.amount_minor) FROM superapp_clearing_out AS p WHERE p.link_id = l.link_id"
            "  AND p.currency = c.currency AND p.state = 'completed'), 0)"
            " FROM superapp_clearing_currency AS c JOIN superapp_clearing_link AS l ON l.link_id = c.link_id"
        )
        for peer, currency, limit_minor, used in cur.fetchall():
            key = (process.name, ServerName(str(peer)), str(currency))
            used_minor = max(0, int(used or 0))
            grew = used_minor > self._used.get(key, 0)
            self._demand(
                not grew or used_minor <= int(limit_minor or 0) or process.restored,
                f"I5: {process.name} lets {peer} use {used_minor} of {limit_minor} {currency}",
            )
            self._used[key] = used_minor

    def _check_pair(self, payer: Process, payee: Process) -> None:
        """The two books against each other, while objects may be under way."""
        for asset in (EUR, PTS):
            owed, owing = _books(payer, payee, asset)
            self._demand(
                owed >= owing >= 0, f"I3: {payer.name} owes {payee.name} {owed}, which counts on {owing} {asset.code}"
            )
        theirs = payer.disk.look(_out_states(payee.name))
        ours = payee.disk.look(_in_states(payer.name))
        for wire_id, (state, has_accept) in ours.items():
            out = theirs.get(wire_id)
            self._demand(out is not None, f"I4: {payee.name} has a payment that {payer.name} never offered")
            if state == "credited":
                self._demand(
                    out in ("committed", "completed") and has_accept,
                    f"I4: {payee.name} credited what is {out} at {payer.name}",
                )
        for wire_id, out in theirs.items():
            if out == "completed":
                state = ours.get(wire_id, ("unknown", False))[0]
                self._demand(state == "credited", f"I4: completed at {payer.name}, {state} at {payee.name}")
            if out == "committed":
                has_accept = ours.get(wire_id, ("unknown", False))[1]
                self._demand(has_accept, f"I4: {payer.name} committed what {payee.name} never accepted")
        newest_theirs, newest_known = payer.disk.look(_our_head(payee.name)), payee.disk.look(_their_newest(payer.name))
        self._demand(
            newest_known is None or newest_known in newest_theirs,
            f"{payee.name} holds an object of {payer.name} that {payer.name} does not have",
        )

    def _check_rest(self) -> None:
        self.trace.append("at rest")
        restored = any(process.restored for process in self.processes.values())
        for process in self.processes.values():
            violations = process.node.violations()
            self._demand(not violations, f"{process.name}: {violations}")
            if restored:
                continue
            undone = process.disk.look(_undone)
            self._demand(not undone, f"{process.name} still has {undone}")
        if restored:
            return
        for payer, payee in itertools.permutations(self.processes.values(), 2):
            for asset in (EUR, PTS):
                owed, owing = _books(payer, payee, asset)
                self._demand(owed == owing, f"I3 at rest: {payer.name} owes {owed}, {payee.name} counts on {owing}")

    def _demand(self, holds: bool, what: str) -> None:
        if not holds:
            raise Violated(what)


_AWAY: Final = frozenset({Reason.LINK_HALTED, Reason.STARTING, Reason.TOO_MANY_REQUESTS})


def _label(errand: Errand) -> str:
    wire_id = str(errand.body["object"].get("wire_id", ""))[:6]
    return f"{errand.type.value} {errand.seq} {wire_id}".strip()


def _books(payer: Process, payee: Process, asset: Asset) -> tuple[int, int]:
    owed = payer.disk.look(lambda cur: ledger.balance(cur, due_to(payee.name, asset.code)))
    owing = -payee.disk.look(lambda cur: ledger.balance(cur, due_from(payer.name, asset.code)))
    return owed, owing


def _out_states(peer: ServerName) -> Callable[[Cursor], dict[str, str]]:
    def read(cur: Cursor) -> dict[str, str]:
        cur.execute(
            "SELECT p.wire_id, p.state FROM superapp_clearing_out AS p JOIN superapp_clearing_link AS l"
            " ON l.link_id = p.link_id WHERE l.peer = ?",
            (peer,),
        )
        return {str(row[0]): str(row[1]) for row in cur.fetchall()}

    return read


def _in_states(peer: ServerName) -> Callable[[Cursor], dict[str, tuple[str, bool]]]:
    def read(cur: Cursor) -> dict[str, tuple[str, bool]]:
        cur.execute(
            "SELECT p.wire_id, p.state, EXISTS (SELECT 1 FROM superapp_clearing_object AS o"
            " WHERE o.link_id = p.link_id AND o.wire_id = p.wire_id AND o.sender = 'ours' AND o.type = 'ACCEPT')"
            " FROM superapp_clearing_in AS p JOIN superapp_clearing_link AS l ON l.link_id = p.link_id"
            " WHERE l.peer = ?",
            (peer,),
        )
        return {str(row[0]): (str(row[1]), bool(row[2])) for row in cur.fetchall()}

    return read


def _our_head(peer: ServerName) -> Callable[[Cursor], set[str]]:
    def read(cur: Cursor) -> set[str]:
        cur.execute(
            "SELECT o.message_id FROM superapp_clearing_object AS o JOIN superapp_clearing_link AS l"
            " ON l.link_id = o.link_id WHERE l.peer = ? AND o.sender = 'ours'",
            (peer,),
        )
        return {str(row[0]) for row in cur.fetchall()}

    return read


def _their_newest(peer: ServerName) -> Callable[[Cursor], str | None]:
    def read(cur: Cursor) -> str | None:
        cur.execute(
            "SELECT o.message_id FROM superapp_clearing_object AS o JOIN superapp_clearing_link AS l"
            " ON l.link_id = o.link_id WHERE l.peer = ? AND o.sender = 'theirs'"
            " ORDER BY o.epoch DESC, o.seq DESC LIMIT 1",
            (peer,),
        )
        row = cur.fetchone()
        return None if row is None else str(row[0])

    return read


def _undone(cur: Cursor) -> list[str]:
    """What has not ended: undecided payments, holds, gaps, and objects that were never acknowledged."""
    found: list[str] = []
    cur.execute("SELECT wire_id, state FROM superapp_clearing_out WHERE state IN ('offered', 'asked', 'committed')")
    found += [f"payment {row[0]} {row[1]}" for row in cur.fetchall()]
    cur.execute("SELECT wire_id, state FROM superapp_clearing_in WHERE state IN ('asked', 'accepted', 'doubt')")
    found += [f"incoming {row[0]} {row[1]}" for row in cur.fetchall()]
    cur.execute("SELECT hold_id FROM superapp_ledger_hold WHERE state = 'open'")
    found += [f"hold {row[0]}" for row in cur.fetchall()]
    cur.execute("SELECT type, seq FROM superapp_clearing_outbox")
    found += [f"unsent {row[0]} {row[1]}" for row in cur.fetchall()]
    cur.execute("SELECT peer FROM superapp_clearing_link WHERE gap_due_ms IS NOT NULL OR tombstones <> 0")
    found += [f"gap or tombstone with {row[0]}" for row in cur.fetchall()]
    return found
