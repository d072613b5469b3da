"""A federation in one process, all of it from a seed: homeservers, people, a network, clocks, disks, crashes, lies.

The homeservers run the real ledger, the real clearing and, in half of the runs, the real payments on SQLite in memory;
the world does what the shell does around them (an outbox loop for each peer, timers, HTTP answers, the follower and the
deadlines) on a simulated clock. The network drops, doubles, delays and so reorders, and partitions; a process crashes
between any two durable steps and comes back; a disk loses its newest commits; clocks differ and jump; old backups come
back; some homeservers are against all others. After every event the invariants of ``docs/clearing.md`` are checked on
all honest homeservers at once. The same seed gives the same run, to the byte.
"""

import hashlib
import heapq
import itertools
import random
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar, cast

from bank import Bank
from checks import Auditor, Checks
from disks import Disk, new_disk
from hostile import Corpus, Mind
from nacl.signing import SigningKey
from nodes import EUR, PTS, START_MS, Node, acct_of, certified_in
from payers import PayingNode
from plans import DAY_MS, HOUR_MS, MINUTE_MS, Plan, draw_plan
from simulated import Crashed, Process, Violated

from super_app.clearing import objects, recovery_store
from super_app.clearing.model import (
    Agenda,
    Errand,
    EvidenceKind,
    Grant,
    LinkPhase,
    LinkTerms,
    MessageId,
    Received,
    Trouble,
)
from super_app.clearing.ports import Accept, Ask, Order
from super_app.clearing.recovery_model import RestoreId
from super_app.clearing.settlement_model import AutoSettle, Settlement, SettlementState, Way
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import EventId, ServerName
from super_app.ledger import service as ledger
from super_app.ledger.model import Cause, Transfer, TransferId, available
from super_app.money import Asset
from super_app.signing import public_b64

__all__ = ["Disk", "Plan", "Violated", "World", "draw_plan", "new_disk"]

T = TypeVar("T")

WINDOW: Final = 4
TIMEOUT_MS: Final = 10_000
MAX_STEPS: Final = 200_000
ISSUED_MINOR: Final = 1_000
PEOPLE: Final = ("alice", "bob")


class World:
    """One run. ``run`` raises ``Violated`` with the seed and the end of the trace where something is wrong."""

    send_before_commit = False
    """A planted bug: what is to be sent leaves before its transaction is written."""

    def __init__(self, seed: int, plan: Plan | None = None) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.plan = plan or draw_plan(self.random)
        self.now_ms = START_MS
        self.steps = 0
        self.trace: list[str] = [str(self.plan)]
        self._events: list[tuple[int, int, str, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._orders_made = itertools.count(self.plan.payments)
        self._cut: set[frozenset[ServerName]] = set()
        self._calm = False
        self._orders: dict[ServerName, list[Order]] = defaultdict(list)
        self._corpus = Corpus()
        self._auditor = Auditor()
        names = [ServerName(f"hs{index + 1}.test") for index in range(self.plan.homeservers)]
        self.processes = {name: self._process(name, names) for name in names}
        issued: dict[tuple[str, str], int] = {
            (name, asset.code): ISSUED_MINOR * len(PEOPLE) for name in names for asset in (EUR, PTS)
        }
        self._bank = Bank()
        self._checks = Checks(self.processes, issued, self._bank)
        self._linked = self._draw_links(names)

    # Building.

    def _process(self, name: ServerName, names: list[ServerName]) -> Process:
        disk = new_disk()
        kind: type[Node] = PayingNode if self.plan.paying else Node
        honest = names[: len(names) - self.plan.hostile]
        hostile = name not in honest
        process = Process(
            node=kind(name, disk, seed=self.seed),
            disk=disk,
            mind=Mind(f"{self.seed} {name}", honest, self._corpus, self._throw) if hostile else None,
            skew_ms=self.random.randrange(-DAY_MS, DAY_MS) if self.plan.skewed else 0,
        )
        process.repins = self.plan.repins > 0
        process.node.create()
        for person in PEOPLE:
            for asset in (EUR, PTS):
                process.node.issue(process.node.user(person), ISSUED_MINOR, asset)
        if not hostile and names.index(name) < self.plan.lying_disks:
            disk.lie(self.random)
        return process

    def _draw_links(self, names: list[ServerName]) -> list[tuple[ServerName, ServerName]]:
        """Who has a link with whom: everybody in a small federation, two neighbours each or more in a large one."""
        pairs = [(one, other) for one, other in itertools.combinations(names, 2) if self.processes[one].honest]
        if len(names) <= 4:
            return pairs
        ring = [
            (one, other) for one, other in pairs if abs(names.index(one) - names.index(other)) in (1, len(names) - 1)
        ]
        return ring + self.random.sample([each for each in pairs if each not in ring], 2)

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
        except (AssertionError, RuntimeError, ValueError, sqlite3.Error) as error:
            ends = "\n".join(self.trace[-40:])
            raise Violated(f"seed {self.seed}: {type(error).__name__}: {error}\n{ends}") from error

    def digest(self) -> str:
        """What the run was, in a few characters."""
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()[:16]

    def _schedule_all(self) -> None:
        plan, names = self.plan, list(self.processes)
        for name in names:
            self._at(0, f"{name} starts", partial(self._start, name))
        for pair in self._linked:
            for one, other in (pair, pair[::-1]):
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
            jump = self.random.choice((-DAY_MS, -HOUR_MS, -90_000, 90_000, HOUR_MS, DAY_MS))
            self._at(self._moment(plan.span_ms), f"{name}'s clock jumps by {jump}", partial(self._jump, name, jump))
        honest = names[: len(names) - plan.hostile]
        for _ in range(plan.restores):
            name, burst = self.random.choice(honest), self.random.choice(bursts)
            taken = max(1, burst - 1_000 + self.random.randrange(2_000))
            self._at(taken, f"{name} is backed up", partial(self._back_up, name))
            restored = taken + self.random.choice((200, 2_000, 60_000))
            self._at(restored, f"{name} is restored", partial(self._restore, name))
        for _ in range(plan.lowers):
            one, other = self.random.choice(self._linked)
            limit = self.random.choice((0, 300, plan.limit_minor * 2))
            self._at(
                self.random.choice((*bursts, self._moment(plan.span_ms))) + self.random.randrange(2_000),
                f"{one} limits {other} to {limit}",
                partial(self._limit, one, other, limit),
            )
        for _ in range(plan.stands):
            one, other = self.random.choice(self._linked)
            if self.random.random() < 0.5:
                one, other = other, one
            self._at(self._moment(plan.span_ms), f"{one}'s operator", partial(self._stand, one, other))
        for _ in range(plan.settlements):
            one, other = self.random.choice(self._linked)
            self._at(self._moment(plan.span_ms), f"{one} proposes", partial(self._propose, one, other))
            self._at(self._moment(plan.span_ms), f"{other} proposes", partial(self._propose, other, one))
            for name in names:
                self._at(self._moment(plan.span_ms), f"{name} settles", partial(self._act, name, self._desk))
        for _ in range(plan.renewals):
            name = self.random.choice(honest)
            self._at(self._moment(plan.span_ms), f"{name} gets another key", partial(self._renew, name))
        for _ in range(plan.repins):
            pairs = [pair for pair in self._linked if set(pair) <= set(honest)]
            one, other = self.random.choice(pairs)
            at = self._moment(plan.span_ms)
            loses = self.random.random() < 0.7
            self._at(at, f"{one} pins keys anew with {other}", partial(self._repin, one, other, loses=loses))
            later = at + self.random.choice((1_000, 60_000, HOUR_MS))
            self._at(later, f"{other} pins keys anew with {one}", partial(self._repin, other, one, loses=False))
        for _ in range(plan.advances):
            one, other = self.random.choice(self._linked)
            if self.random.random() < 0.5:
                one, other = other, one
            near = self.random.choice(bursts) + self.random.choice((200, 2_000, MINUTE_MS, 20 * MINUTE_MS))
            self._at(near, f"{one} gives back", partial(self._act, one, partial(self._give_back, peer=other)))
        for process in self.processes.values():
            if process.mind is not None and plan.fences:
                process.mind.may_fence()
            if process.mind is not None:
                process.mind.lists_falsely = plan.false_lists
        for name in names:
            for _ in range(plan.batches):
                self._at(self._moment(plan.span_ms), f"{name} posts a batch", partial(self._act, name, self._batch))
            for _ in range(plan.moves if self.processes[name].mind is not None else 0):
                near = self.random.choice((*bursts, self._moment(plan.span_ms))) + self.random.randrange(5_000)
                self._at(near, f"{name} does as it likes", partial(self._move, name))

    def _moment(self, span_ms: int) -> int:
        return self.random.randrange(1, span_ms)

    def _at(self, delay_ms: int, what: str, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now_ms + max(0, delay_ms), next(self._numbers), what, do))

    def _note(self, what: str) -> None:
        self.trace.append(f"{'':>12} {what}")

    def _drain(self, until_ms: int) -> None:
        while self._events and self._events[0][0] <= until_ms:
            self.now_ms, _, what, do = heapq.heappop(self._events)
            self.steps += 1
            if self.steps > MAX_STEPS:
                raise Violated("the run does not end")
            self.trace.append(f"{self.now_ms - START_MS:>12} {what}")
            do()
            self._checks.step()
        self.now_ms = max(self.now_ms, until_ms)

    def _settle(self) -> None:
        """No more trouble from outside: within three days everything must have ended."""
        self._calm = True
        self._cut.clear()
        for name, process in self.processes.items():
            process.disk.be_honest()
            if process.mind is not None:
                process.mind.retire(process)
                # For good: whoever still waits for it must do without.
                self._at(6 * HOUR_MS, f"{name} goes", partial(self._go, process))
            if not process.up:
                self._at(0, f"{name} starts", partial(self._start, name))
        for pair in self._linked:
            for one, other in (pair, pair[::-1]):
                # An operator whose command met a server that was down gives it again.
                self._at(HOUR_MS, f"{one} opens", partial(self._open_again, one, other))
        for name in self.processes:
            for hours in (2, 4, 27, 52):
                self._at(hours * HOUR_MS, f"{name} follows", partial(self._act, name, self._chores))
            for hours in (1, 2, 8):
                self._at(hours * HOUR_MS, f"{name} fences", partial(self._act, name, self._unhalt))
            for hours in (1, 2, 3) if self.plan.repins else ():
                self._at(hours * HOUR_MS, f"{name} is told", partial(self._act, name, self._confirm))
            for hours in (3, 5, 7, 28, 55, 58, 61, 64, 67, 70):
                self._at(hours * HOUR_MS, f"{name} settles", partial(self._act, name, self._desk))
        self._drain(until_ms=self.now_ms + 3 * DAY_MS)
        self.trace.append("at rest")
        self._checks.rest()

    def _go(self, process: Process) -> None:
        process.up = False

    # What processes do.

    def _start(self, name: ServerName) -> None:
        process = self.processes[name]
        if process.up:
            return
        process.up = True
        process.under_way = {}
        process.alarm = {}
        process.node.start(f"{name} {next(process.boots)}")

        def work() -> None:
            self._tx(process, lambda cur: process.node.clearing.started(cur, self._clock(process)))
            self._tick(process)
            self._look_everywhere(process)
            # The follower finds orders again whose hold was placed and whose offer was not written.
            self._chores(process)

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
        except (AssertionError, RuntimeError, ValueError, sqlite3.Error) as error:
            # What a hostile homeserver has done to its own books is its own affair.
            if process.honest or isinstance(error, Violated):
                raise
            self._note(f"{process.name} stumbles over itself")
        return None

    def _crash(self, process: Process) -> None:
        self._note(f"{process.name} dies")
        process.up = False
        process.disk.be_calm()
        synced = process.disk.lose_tail()
        if synced is not None:
            if synced.total_changes != process.disk.connection.total_changes:
                self._note(f"{process.name} loses what it committed last")
            self._lose(process, synced)
            process.disk.lie(self.random)
        delay = self.random.choice((500, 5_000, 60_000, 15 * MINUTE_MS))
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
        process.disk.twice = self.random.random() < self.plan.rerun
        try:
            return process.disk(work)
        finally:
            process.disk.be_calm()

    def _clock(self, process: Process) -> int:
        return self.now_ms + process.skew_ms

    def _limit(self, name: ServerName, peer: ServerName, limit_minor: int) -> None:
        def limit(process: Process) -> None:
            terms = self._limits(peer, limit_minor)
            self._tx(process, lambda cur: process.node.clearing.open_link(cur, terms, self._clock(process)))
            self._look(process, peer)

        self._act(name, limit)

    def _stand(self, name: ServerName, peer: ServerName) -> None:
        """An operator suspends or closes a link, and mostly takes it back after a while."""
        act = self.random.choice(("suspend", "close"))
        resumes = self.random.random() < 0.7
        later = self.random.choice((5_000, 2 * MINUTE_MS, HOUR_MS))

        def stand(process: Process, how: str) -> None:
            clearing, now_ms = process.node.clearing, self._clock(process)
            self._note(f"{name} does {how} the link with {peer}")
            match how:
                case "suspend":
                    self._tx(process, lambda cur: clearing.suspend(cur, peer, "maintenance", now_ms))
                case "close":
                    self._tx(process, lambda cur: clearing.close(cur, peer, "", now_ms))
                case _:
                    self._tx(process, lambda cur: clearing.resume(cur, peer, now_ms))
            self._look_everywhere(process)

        self._act(name, partial(stand, how=act))
        if resumes:
            self._at(later, f"{name}'s operator", lambda: self._act(name, partial(stand, how="resume")))

    def _propose(self, name: ServerName, peer: ServerName) -> None:
        """An operator settles, or lets it happen by itself from now on."""
        currency = self.random.choice((EUR.code, EUR.code, PTS.code))
        amount_minor = self.random.choice((None, None, 40, 300))
        auto = AutoSettle(currency=currency, threshold_minor=self.random.choice((None, 200)), agree_up_to_minor=250)

        def propose(process: Process) -> None:
            desk, now_ms = process.node.clearing.settlements, self._clock(process)
            if self.random.random() < 0.2:
                self._tx(process, lambda cur: desk.choose(cur, peer, auto, now_ms))
            else:
                self._tx(process, lambda cur: desk.propose(cur, peer, currency, amount_minor, now_ms))
            self._look_everywhere(process)
            self._time(process)

        self._act(name, propose)

    def _give_back(self, process: Process, peer: ServerName) -> None:
        """The operator does not want to wait any longer for what a peer says to a payment."""
        waiting = process.disk.look(lambda cur: process.node.clearing.waiting(cur, peer, 10))
        if isinstance(waiting, Refused) or not waiting:
            return
        wire_id, now_ms = self.random.choice(waiting).payment.terms.wire_id, self._clock(process)
        clearing = process.node.clearing
        given = self._tx(
            process,
            lambda cur: clearing.give_back(
                cur, peer, wire_id, reason="they are gone", operator="@admin", now_ms=now_ms
            ),
        )
        self._note(f"{process.name} gives {wire_id[:6]} back: {'no' if isinstance(given, Refused) else 'yes'}")
        self._look_everywhere(process)
        self._time(process)

    def _unhalt(self, process: Process) -> None:
        """The operator knows that there is no newer database any more, and says so."""
        for view in process.disk.look(process.node.clearing.links):
            if view.phase is LinkPhase.HALTED:
                name = RestoreId(f"{process.name} {next(self._numbers)}")
                self._note(f"{process.name} fences its link with {view.peer}")
                self._tx(process, partial(self._fence, process=process, peer=view.peer, name=name))
        self._look_everywhere(process)
        self._time(process)

    def _fence(self, cur: Cursor, process: Process, peer: ServerName, name: RestoreId) -> None:
        process.node.clearing.fence(cur, peer, name, self._clock(process))

    def _desk(self, process: Process) -> None:
        """The operator goes through the settlements that are not ended. In the end none is left lying."""
        found = process.disk.look(lambda cur: process.node.clearing.settlements.newest(cur, None, 100))
        for known in found if not isinstance(found, Refused) else ():
            act = self._settles(process, known) if known.state.is_open else None
            if act is not None:
                self._tx(process, act)
        self._look_everywhere(process)
        self._time(process)

    def _settles(self, process: Process, known: Settlement) -> Callable[[Cursor], object] | None:
        """What the operator says of one settlement. Who is hostile pays nothing and denies what arrived."""
        desk, now_ms, peer = process.node.clearing.settlements, self._clock(process), known.peer
        id_, terms = known.terms.settlement_id, known.terms
        fate = self.random.random() if not self._calm else 0.5
        hostile = process.mind is not None and self.random.random() < 0.5
        match known.way, known.state:
            case Way.IN, SettlementState.PROPOSED if fate < 0.7:
                return lambda cur: desk.agree(cur, peer, id_, "", now_ms)
            case Way.IN, SettlementState.PROPOSED if fate < 0.85:
                return lambda cur: desk.refuse(cur, peer, id_, "not_now", now_ms)
            case Way.IN, (SettlementState.SENT | SettlementState.DISPUTED):
                arrived = self._bank.arrived.get((peer, process.name, id_), 0)
                if arrived == 0 or hostile:
                    return lambda cur: desk.not_received(cur, peer, id_, "no_transfer", now_ms)
                return lambda cur: desk.received(cur, peer, id_, arrived, now_ms)
            case Way.OUT, SettlementState.PROPOSED if fate < 0.1:
                return lambda cur: desk.cancel(cur, peer, id_, "changed_mind", now_ms)
            case Way.OUT, SettlementState.AGREED:
                name = (process.name, peer, id_)
                if name not in self._bank.sent and fate < 0.1:
                    return lambda cur: desk.cancel(cur, peer, id_, "changed_mind", now_ms)
                if name not in self._bank.sent and not hostile:
                    # Banks take fees, and sometimes nothing comes of it.
                    whole = terms.amount_minor
                    arriving = self.random.choice((whole, whole, whole, whole // 2, 0))
                    self._bank.pay(name, terms.currency, whole, arriving)
                return lambda cur: desk.sent(cur, peer, id_, "", now_ms)
            case _:
                return None

    def _renew(self, name: ServerName) -> None:
        """The operator puts another payment key in place and starts the process again."""
        process = self.processes[name]
        process.node.renew_key(SigningKey(self.random.randbytes(32)))
        process.up = False
        self._at(2_000, f"{name} starts", partial(self._start, name))

    def _repin(self, name: ServerName, peer: ServerName, *, loses: bool) -> None:
        """The operator pins the keys of a link anew, having lost the one of this side or not."""
        process = self.processes[name]
        if loses:
            process.node.key, process.node.retired = SigningKey(self.random.randbytes(32)), ()
            process.up = False
            # Every link was signed by the key that is lost.
            for pair in self._linked:
                if name in pair:
                    other = pair[0] if pair[1] == name else pair[1]
                    self._at(4_000, f"{name} pins keys anew with {other}", partial(self._order_repin, name, other))
            self._at(2_000, f"{name} starts", partial(self._start, name))
        else:
            self._order_repin(name, peer)

    def _order_repin(self, name: ServerName, peer: ServerName) -> None:
        def order(process: Process) -> None:
            shown, number = self._read_out(peer, name), RestoreId(f"repin {next(self._numbers)}")
            self._tx(
                process,
                lambda cur: process.node.clearing.repin(
                    cur, peer, shown, number, self._clock(process), take_back=False
                ),
            )
            self._look_everywhere(process)
            self._time(process)

        self._act(name, order)

    def _read_out(self, name: ServerName, to: ServerName) -> str:
        """The fingerprint that an operator reads to another one."""
        clearing = self.processes[name].node.clearing
        shown = {view.peer: view.shown_fingerprint for view in self.processes[name].disk.look(clearing.links)}
        # Where there is no link yet, an operator has the key file.
        return shown.get(to, objects.fingerprint_of(public_b64(self.processes[name].node.key)))

    def _confirm(self, process: Process) -> None:
        """The operator looks at what waits for them, and asks the others for the fingerprints of their keys."""
        for view in process.disk.look(process.node.clearing.links):
            stands = view.phase in (LinkPhase.HALTED, LinkPhase.RECOVERING)
            lost = stands and "if it is lost" in f"{view.why} {view.waits}"
            if view.asked_fingerprint or lost:
                self._order_repin(process.name, view.peer)

    def _open_again(self, name: ServerName, peer: ServerName) -> None:
        process = self.processes[name]
        if peer not in process.disk.look(process.node.clearing.peers):
            self._limit(name, peer, self.plan.limit_minor)

    def _jump(self, name: ServerName, by_ms: int) -> None:
        process = self.processes[name]
        process.skew_ms += by_ms
        self._act(name, self._tick)
        self._act(name, self._look_everywhere)

    def _back_up(self, name: ServerName) -> None:
        process = self.processes[name]
        if not process.forgetful:
            process.snapshot = process.disk.copy()

    def _restore(self, name: ServerName) -> None:
        process = self.processes[name]
        if process.snapshot is None or process.forgetful:
            return
        process.up = False
        self._lose(process, process.snapshot)
        if self.random.random() < 0.5:
            # Restored by the command, which leaves word of it; otherwise it finds out, and its operator says so.
            process.disk(lambda cur: recovery_store.mark(cur, RestoreId(f"restore of {name}"), self._clock(process)))
        self._at(1_000, f"{name} starts", lambda: self._start(name))

    def _lose(self, process: Process, connection: sqlite3.Connection) -> None:
        """It goes on with an older database. What it had on its way has died with its connections."""
        process.replace_disk(connection)
        name = process.name
        ends = (f"{name} ->", f"<- {name} ")
        self._events = [each for each in self._events if not (each[2].startswith(ends[0]) or ends[1] in each[2])]
        heapq.heapify(self._events)

    # What people do.

    def _pay(self, number: int) -> None:
        payer_at, payee_at = self._ends()
        payer, payee = self.processes[payer_at], self.processes[payee_at]
        who = payer.node.user(self.random.choice(PEOPLE))
        whom = payee.node.user(self.random.choice(PEOPLE))
        if who == whom:
            whom = payee.node.user(next(each for each in PEOPLE if payee.node.user(each) != who))
        asset = self.random.choice((EUR, EUR, PTS))
        # No two of one payer are alike, so that one which is paid twice does not pass for another.
        amount_minor = self.random.choice((50, 99, 300, 600)) - number % 40
        cancel = self.random.random() < self.plan.cancel
        cancel_after = self.random.choice((1, 200, 5_000, HOUR_MS))
        order = payer.node.order(who, whom, amount_minor, number=number, asset=asset)
        fate = self.random.random()
        if fate < self.plan.refuse:
            payee.node.till.answers[whom] = Refused(reason=Reason.NOT_ALLOWED, message="no")
        elif fate < self.plan.refuse + self.plan.ask:
            until_ms = self.random.choice((30_000, HOUR_MS, DAY_MS))
            payee.node.till.answers[whom] = Ask(acct=acct_of(whom), until_ms=until_ms)
        else:
            payee.node.till.answers[whom] = Accept(acct=acct_of(whom))
        self._order(payer_at, order)
        if self.random.random() < self.plan.sever:
            self._sever(payer_at, payee_at)
        for delay in (30_000, 5 * MINUTE_MS, 62 * MINUTE_MS):
            self._at(delay, f"{payer_at} follows", partial(self._act, payer_at, self._chores))
        if self.random.random() < self.plan.repeat:
            later = self.random.choice((1, 150, 3_000, 65 * MINUTE_MS))
            self._at(later, f"{who} orders {number} again", lambda: self._order_again(payer_at, order))
        if self.random.random() < self.plan.refund:
            later = self.random.choice((2_000, 10 * MINUTE_MS))
            for _ in range(self.random.choice((1, 2, 3))):
                self._at(later, f"{payee_at} refunds", lambda: self._refund(payee_at))
        if cancel:
            self._at(
                cancel_after,
                f"{who} cancels {number}",
                lambda: self._cancel(payer_at, order),
            )
        for delay in (4_000, 40 * MINUTE_MS):
            self._at(delay + self._moment(10_000), f"{whom} answers", lambda: self._answer(payee_at))

    def _ends(self) -> tuple[ServerName, ServerName]:
        """Whose people pay whose."""
        if self.random.random() < self.plan.local:
            name = self.random.choice(list(self.processes))
            return name, name
        one, other = self.random.choice(self._linked)
        return (one, other) if self.random.random() < 0.5 else (other, one)

    def _order(self, name: ServerName, order: Order) -> None:
        money = order.money
        self._note(f"{order.payer.user_id} pays {order.payee.user_id} {money.amount_minor} {money.currency}")
        self.processes[name].ordered[order.payer.acct, money.currency, money.amount_minor] += 1
        self._orders[name].append(order)
        eventless = self.random.random() < self.plan.eventless
        self._act(name, lambda process: self._carry(process, order, order.event_id, eventless=eventless))

    def _order_again(self, name: ServerName, order: Order) -> None:
        """A client that heard no answer, or a delayed event, which no gate sees."""
        again = EventId(f"{order.event_id}-{next(self._numbers)}")
        gated = self.random.random() < 0.7
        self._act(name, lambda process: self._carry(process, order, again, gated=gated))

    def _carry(
        self,
        process: Process,
        order: Order,
        event_id: EventId | None,
        *,
        gated: bool = True,
        eventless: bool = False,
    ) -> None:
        """The gate sets the money aside, Synapse stores the event, the follower finds it."""
        attempt = replace(order, event_id=event_id)
        if gated and isinstance(self._tx(process, lambda cur: process.node.hold(cur, attempt)), Refused):
            return
        if eventless or event_id is None:
            return
        self._tx(process, lambda cur: process.node.persist(cur, order, event_id))
        self._chores(process)

    def _chores(self, process: Process) -> None:
        """The follower and the deadlines come by, whatever has become of the orders."""
        process.node.now_ms = self._clock(process)
        orders = self._orders[process.name]
        for chore in process.disk.look(lambda cur: process.node.chores(cur, orders)):
            self._tx(process, chore)
        self._look_everywhere(process)
        self._time(process)

    def _sever(self, one: ServerName, other: ServerName) -> None:
        pair = frozenset((one, other))
        length = self.random.choice((5_000, 90_000, 12 * MINUTE_MS, 12 * MINUTE_MS))
        begin = self.random.choice((10, 30, 60, 100, 150))
        self._at(begin, f"{one} and {other} apart", lambda: self._cut.add(pair))
        self._at(begin + length, f"{one} and {other} again", lambda: self._cut.discard(pair))
        if one != other and self.random.random() < self.plan.cautious:
            # A cautious operator meanwhile.
            limit = self.random.choice((0, 300))
            self._at(length // 2, f"{other} limits", lambda: self._limit(other, one, limit))
            self._at(2 * length, f"{other} limits", lambda: self._limit(other, one, self.plan.limit_minor))

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

    def _refund(self, name: ServerName) -> None:
        process = self.processes[name]
        paid = process.disk.look(process.node.refundable) if isinstance(process.node, PayingNode) else []
        if not paid:
            return
        # The newest, so that one payment is refunded several times.
        original = paid[-1] if self.random.random() < 0.7 else self.random.choice(paid)
        whole = original.money.amount_minor
        amount_minor = max(1, self.random.choice((whole, whole, whole // 2, whole // 2 + 1, whole + 1)))
        asset: Asset = EUR if original.money.currency == EUR.code else PTS
        order = process.node.order(
            original.payee.user_id, original.payer, amount_minor, number=next(self._orders_made), asset=asset
        )
        self._order(name, replace(order, refund_of=original.payment_id))

    def _batch(self, process: Process) -> None:
        """Transfers of one moment, as the ledger's writer posts them: each caller gets the verdict on its own."""
        orders: list[Transfer] = []
        for number in range(self.random.randint(2, 6)):
            from_, to = self.random.sample([process.node.acct(process.node.user(each)) for each in PEOPLE], 2)
            asset = self.random.choice((EUR, PTS))
            amount_minor = self.random.choice((1, 7, 5_000))
            orders.append(
                Transfer(
                    transfer_id=TransferId(f"batch {process.node.boot} {self.steps} {number}"),
                    debit=available(from_, asset.code),
                    credit=available(to, asset.code),
                    amount_minor=amount_minor,
                    cause=Cause.PAYMENT,
                    reference="batch",
                )
            )
            process.ordered[from_, asset.code, amount_minor] += 1
        again = self.random.sample(orders, 1) if self.random.random() < 0.5 else []
        verdicts = self._tx(process, lambda cur: ledger.transfer_many(cur, [*orders, *again], self._clock(process)))
        told = {
            order.transfer_id: None if isinstance(verdict, Refused) else verdict.entry.transfer.transfer_id
            for order, verdict in zip([*orders, *again], verdicts, strict=True)
        }
        for order in orders:
            process.disk.execute("SELECT 1 FROM superapp_ledger_entry WHERE transfer_id = ?", (order.transfer_id,))
            stands = order.transfer_id if process.disk.fetchone() is not None else None
            if told[order.transfer_id] != stands:
                raise Violated(f"{process.name} told {told[order.transfer_id]} to whom {stands} happened")

    # Sending, as the shell's Sender does it.

    def _look_everywhere(self, process: Process) -> None:
        for peer in process.disk.look(process.node.clearing.peers):
            self._look(process, peer)

    def _look(self, process: Process, peer: ServerName) -> None:
        under_way = process.under_way.setdefault(peer, set())
        limit = WINDOW - len(under_way)
        if limit <= 0:
            return
        agenda = process.disk.look(
            lambda cur: process.node.clearing.due(
                cur, peer, self._clock(process), limit=limit, under_way=frozenset(under_way)
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
            self._arm(
                process, peer, agenda.wake_ms, f"{process.name} looks at {peer}", lambda: self._look(process, peer)
            )

    def _arm(
        self, process: Process, which: ServerName | None, when_ms: int, name: str, work: Callable[[], None]
    ) -> None:
        """Set a timer of the process; the one that was set before for the same is cancelled."""
        number = process.alarm[which] = process.alarm.get(which, 0) + 1
        boot = process.node.boot

        def ring() -> None:
            if process.alarm.get(which) == number:
                self._if_same(process, boot, work)

        self._at(max(1, when_ms - self._clock(process)), name, ring)

    def _if_same(self, process: Process, boot: str, work: Callable[[], None]) -> None:
        if process.up and process.node.boot == boot:
            self._guarded(process, work)

    def _latency(self) -> int:
        return (
            self.random.choice((5, 20, 50)) if self.random.random() < 0.9 else self.random.randrange(50, 3 * MINUTE_MS)
        )

    def _loses(self, one: ServerName, other: ServerName) -> bool:
        if frozenset((one, other)) in self._cut:
            return True
        return not self._calm and self.random.random() < self.plan.loss

    def _send(self, process: Process, errand: Errand) -> None:
        self._auditor.sent(process, errand.peer, errand.body["object"])
        self._corpus.hear(errand.body["object"])
        name = f"{process.name} -> {errand.peer} {_label(errand)}"
        boot = process.node.boot
        copies = 1 + (not self._calm and self.random.random() < self.plan.doubling)
        done: list[bool] = []

        def fail() -> None:
            if not done:
                done.append(True)
                self._if_same(process, boot, lambda: self._failed(process, errand, Trouble.UNREACHABLE, None, None))

        bodies = [errand.body] if process.mind is None else process.mind.outgoing(process, errand.body)
        for body in bodies * copies:
            if not self._loses(process.name, errand.peer):
                self._at(self._latency(), name, partial(self._arrive, process, boot, errand, body, done))
        self._at(TIMEOUT_MS, f"{name} times out", fail)

    def _throw(self, process: Process, peer: ServerName, body: Any) -> None:
        """Something that a hostile homeserver sends past its own outbox."""

        def arrive() -> None:
            to = self.processes[peer]
            if to.up and to.honest:
                answer = self._guarded(to, lambda: self._receive(to, process.name, body))
                for content in answer.objects if isinstance(answer, Received) else ():
                    self._corpus.hear(content)

        self._at(self._latency(), f"{process.name} throws something at {peer}", arrive)

    def _leak(self, process: Process, cur: Cursor) -> None:
        """The planted bug of sending what is not committed yet."""
        for peer in process.node.clearing.peers(cur):
            for errand in process.node.clearing.due(cur, peer, self._clock(process), limit=WINDOW).errands:
                self._at(
                    1,
                    f"{process.name} -> {peer} early {_label(errand)}",
                    partial(self._arrive, process, "", errand, errand.body, [True]),
                )

    def _receive(self, peer: Process, origin: ServerName, body: Any) -> Received | Refused:
        """A request in its handler: what it does, and what there is to do afterwards."""
        certified = certified_in(body)
        received = self._tx(
            peer,
            lambda cur: peer.node.clearing.receive(cur, origin, body, self._clock(peer), certified=certified),
        )
        self._audit_answer(peer, origin, received)
        self._noticed(peer, origin, body.get("object") if isinstance(body, dict) else None)
        return received

    def _noticed(self, process: Process, peer: ServerName, content: Any) -> None:
        if process.honest and not self.processes[peer].honest:
            self._checks.noticed(process, peer, content)

    def _audit_answer(self, peer: Process, origin: ServerName, received: Received | Refused) -> None:
        if isinstance(received, Received):
            self._alarms(peer, received)
            for content in received.objects:
                self._auditor.sent(peer, origin, content)
                self._corpus.hear(content)

    def _arrive(self, process: Process, boot: str, errand: Errand, body: Any, done: list[bool]) -> None:
        peer = self.processes[errand.peer]
        if not peer.up or (peer.mind is not None and peer.mind.is_silent(self.now_ms)):
            return

        received = self._guarded(peer, lambda: self._receive(peer, process.name, body))
        if peer.mind is not None:
            mind = peer.mind
            received = mind.answer(peer, body, received if received is not None else Received())
            self._guarded(peer, lambda: mind.heard(peer, process.name, body.get("object")))
        if received is None:
            return
        if isinstance(received, Received):
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
            self._if_same(process, boot, lambda: self._delivered(process, errand, answer))

    def _delivered(self, process: Process, errand: Errand, answer: Received) -> None:
        objects: Sequence[object] = answer.objects
        certified = frozenset[MessageId]().union(*(certified_in({"object": each}) for each in objects))
        under_way = process.under_way.setdefault(errand.peer, set())

        def work(cur: Cursor) -> tuple[Received, Agenda]:
            now_ms = self._clock(process)
            received = process.node.clearing.delivered(
                cur, errand, objects, now_ms, openings=answer.openings, certified=certified
            )
            busy = frozenset(under_way - {errand.message_id})
            return received, process.node.clearing.due(cur, errand.peer, now_ms, limit=WINDOW, under_way=busy)

        received, agenda = self._tx(process, work)
        under_way.discard(errand.message_id)
        self._alarms(process, received)
        for content in objects:
            self._noticed(process, errand.peer, content)
            if process.mind is not None:
                process.mind.heard(process, errand.peer, content)
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
                # As the shell has it: the peer may ask for patience, and not for ever.
                retry_after_ms=None if retry_after_ms is None else max(0, min(retry_after_ms, HOUR_MS)),
            ),
        )
        process.under_way.setdefault(errand.peer, set()).discard(errand.message_id)
        self._look(process, errand.peer)

    # Time.

    def _time(self, process: Process) -> None:
        next_ms = process.disk.look(process.node.clearing.next_tick_ms)
        if next_ms is not None:
            self._arm(process, None, next_ms, f"{process.name} ticks", lambda: self._tick(process))

    def _tick(self, process: Process) -> None:
        next_ms = process.disk.look(process.node.clearing.next_tick_ms)
        if next_ms is None or next_ms > self._clock(process):
            # An earlier tick did it, or the clock went back.
            self._time(process)
            return
        self._tx(process, lambda cur: process.node.clearing.tick(cur, self._clock(process)))
        self._look_everywhere(process)
        self._time(process)

    # Malice.

    def _move(self, name: ServerName) -> None:
        def move(process: Process) -> None:
            if process.mind is not None:
                self._note(f"{name} {process.mind.act(process, self.now_ms)}")
                self._look_everywhere(process)

        self._act(name, move)

    # Checking.

    def _alarms(self, process: Process, received: Received) -> None:
        for alarm in received.alarms:
            self._note(f"{process.name}: {alarm.message}")
            if not process.honest or not self.processes[alarm.peer].honest:
                continue
            if not (process.forgetful and alarm.kind in (EvidenceKind.PEER_AHEAD, EvidenceKind.FORKED)):
                raise Violated(f"{process.name} has evidence against an honest {alarm.peer}: {alarm.kind}")


_AWAY: Final = frozenset({Reason.LINK_HALTED, Reason.STARTING, Reason.TOO_MANY_REQUESTS})


def _label(errand: Errand) -> str:
    wire_id = str(errand.body["object"].get("wire_id", ""))[:6]
    return f"{errand.type.value} {errand.seq} {wire_id}".strip()
