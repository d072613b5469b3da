"""Two homeservers on one link as a system to search: the real clearing and ledger, put back to any state they were in.

A state is the databases of both and all objects that either ever signed: the network may deliver any of them at any
time, again, in any order or never, so loss, repetition, delay and reordering need nothing of their own. A crash needs
nothing either, since a step is one transaction. Clocks need not move: a timer may fire whenever it is set, and an
answer may come early or late.

States are told apart by what decides about money. Where a place in a chain, a hash or a time is all that differs, they
behave alike and count as one; that chains themselves are kept is the matter of other tests.
"""

import hashlib
import re
import sqlite3
import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, cast

from nodes import EUR, START_MS, Misused, Node, advance, deliver, linked
from search import Explored, Step, explore
from world import Disk, new_disk

from super_app.clearing import objects, recovery_store, rules, store
from super_app.clearing.model import LinkId, LinkPhase, LinkState, MessageType, Sender, SettlementId
from super_app.clearing.ports import Accept, Ask, Order
from super_app.clearing.recovery_model import RestoreId
from super_app.db import Cursor
from super_app.errors import Refused
from super_app.ids import ServerName, UserId
from super_app.ledger import service as ledger
from super_app.ledger.model import AccountKind
from super_app.signing import digest

LATE_MS: Final = START_MS + 7 * 86_400_000
"""When every timer that was set at the start has long been due."""

_RECOVERY_ROUNDS: Final = 60

_PASSING: Final = re.compile(
    r"(.*_ms|.*_?seq|.*_?hash|.*signature|.*_newest|.*attempts|message_id|last_error|body|.*_id|rowid)"
)
"""Columns that say where, when and by which digest; ``_KEPT`` are those that name a thing of people."""
_KEPT: Final = frozenset({"wire_id", "hold_id", "payment_id", "settlement_id"})
_PASSING_TABLES: Final = re.compile(
    r"sqlite_.*|superapp_migration|superapp_ledger_(entry|head|transfer).*|superapp_clearing_(object|outbox|opening|key|statement)"
)


class Message(NamedTuple):
    """A signed object on its way, and what of it decides."""

    sender: int
    message_id: str
    label: str


@dataclass(frozen=True, slots=True)
class State:
    """``a`` and ``b`` number the databases of the two machines."""

    a: int
    b: int
    net: frozenset[Message]
    backup: int | None = None
    """The database of the side that is restored, as it was when it was copied."""
    restored: bool = False

    def of(self, side: int) -> int:
        return (self.a, self.b)[side]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What one database says."""

    key: bytes
    signed: frozenset[Message]
    holds: frozenset[str]
    outgoing: dict[str, str]
    incoming: dict[str, str]
    settlements: tuple[tuple[str, str, int], ...]
    """Each settlement's id, its state, and what was received of it."""
    due_to_minor: int
    in_transit_minor: int
    due_from_minor: int
    reserved_minor: int
    recovers: bool
    """Whether it runs on a backup and does not yet know what the other side holds."""
    suspense_minor: int
    wrong: tuple[str, ...]


class Machine:
    """One homeserver whose database can be put back to any state that it has been in."""

    def __init__(self, side: int, name: str) -> None:
        self.side = side
        self.disk: Disk = new_disk()
        self.node = Node(name, self.disk)
        self.node.create()
        self._images: list[bytes] = []
        self._numbers: dict[bytes, int] = {}
        self._facts: dict[int, Facts] = {}
        self._steps: dict[tuple[int, str], int] = {}
        self._loaded = -1
        self._boots: list[str] = []
        self.bodies: dict[str, dict[str, Any]] = {}
        """Everything that it ever signed, by message id, as the body of a request."""

    def snapshot(self) -> int:
        """The number of the database as it is now."""
        image = self.disk.connection.serialize()
        mark = hashlib.sha256(image + self.node.boot.encode()).digest()
        if mark not in self._numbers:
            self._numbers[mark] = len(self._images)
            self._boots.append(self.node.boot)
            # Mostly empty pages.
            self._images.append(zlib.compress(image, 1))
        self._loaded = self._numbers[mark]
        return self._loaded

    def step(self, number: int, what: str, act: Callable[[Node], object]) -> int:
        """The number of the database after ``act``, done where it was ``number``. ``what`` names the act for good."""
        known = self._steps.get((number, what))
        if known is None:
            self.load(number)
            act(self.node)
            known = self._steps[number, what] = self.snapshot()
        return known

    def facts(self, number: int, peer: Node) -> Facts:
        if number not in self._facts:
            self.load(number)
            self._facts[number] = self.disk(lambda cur: self._read(cur, peer))
        return self._facts[number]

    def load(self, number: int) -> None:
        """Put the homeserver back to where it was."""
        if number != self._loaded:
            # A connection of its own: statements that one has prepared do not survive another database under it.
            self.disk.connection.close()
            connection = sqlite3.connect(":memory:", isolation_level=None)
            connection.deserialize(zlib.decompress(self._images[number]))
            self.disk = self.node.tx = Disk(connection)
            self._loaded = number
            if self.node.boot != self._boots[number]:
                self.node.start(self._boots[number])

    def _read(self, cur: Cursor, peer: Node) -> Facts:
        link_id = objects.link_id_of(self.node.name, peer.name)
        wrong = [str(each) for each in (*ledger.violations(cur), *self.node.clearing.violations(cur))]
        return Facts(
            key=_key_of(cur),
            signed=frozenset(self._signed(cur, link_id)),
            holds=frozenset(_column(cur, "SELECT message_id FROM superapp_clearing_object WHERE sender = 'theirs'")),
            outgoing=_pairs(cur, "SELECT wire_id, state FROM superapp_clearing_out"),
            incoming=_pairs(cur, "SELECT wire_id, state FROM superapp_clearing_in"),
            settlements=_settlements(cur),
            due_to_minor=_balance(cur, AccountKind.DUE_TO),
            in_transit_minor=_balance(cur, AccountKind.IN_TRANSIT),
            due_from_minor=-_balance(cur, AccountKind.DUE_FROM),
            reserved_minor=sum(line.reserved_minor for line in store.lines(cur, link_id)),
            recovers=any(link.state is LinkState.RECOVERING for link in store.links(cur)),
            suspense_minor=_balance(cur, AccountKind.SUSPENSE),
            wrong=tuple(wrong),
        )

    def _signed(self, cur: Cursor, link_id: LinkId) -> Iterator[Message]:
        cur.execute("SELECT MAX(epoch) FROM superapp_clearing_object WHERE sender = 'ours'")
        row = cur.fetchone()
        for epoch in range(1, (int(row[0]) if row is not None and row[0] is not None else 0) + 1):
            for each in store.objects_between(cur, link_id, Sender.OURS, epoch, 1, 1_000_000, 1_000_000):
                if each.type is MessageType.STATEMENT:
                    # It moves nothing; that it is lost is one of the ways in which things go.
                    continue
                content = store.content_of(each.body)
                if each.message_id not in self.bodies:
                    body: dict[str, Any] = {"object": content}
                    if each.type is MessageType.OFFER and each.wire_id is not None:
                        body["opening"] = store.opening(cur, link_id, Sender.OURS, each.wire_id)
                    self.bodies[each.message_id] = body
                yield Message(self.side, each.message_id, _label(epoch, each.type, content))


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What people, operators or timers of one side may do in any state; it changes nothing where it makes no sense."""

    side: int
    what: str
    do: Callable[[Node], object]


@dataclass(slots=True, kw_only=True)
class Pair:
    """A pays B. Amounts are minor units; each payment is offered at most once."""

    amounts: tuple[int, ...]
    limit_minor: int = 1_000_000
    funds_minor: int = 1_000
    payee: Accept | Ask | Refused | None = None
    """What the payee says, where not an automatic yes."""
    lower_to_minor: int | None = None
    """The limit that B's operator may go down to at any moment."""
    replays: bool = False
    """Whether what has arrived arrives again."""
    calm: bool = False
    """Without cancelling, and without timers: every payment that is offered is paid."""
    restores: int | None = None
    """The side whose database is copied at any moment, and later runs on that copy."""
    marked: bool = True
    """Whether the copy is known to be one, as ``super-app restore`` sees to."""
    settlements: int = 0
    """How many settlements A may propose, each of all that it owes at that moment."""
    machines: tuple[Machine, Machine] = field(init=False)
    orders: tuple[Order, ...] = field(init=False)
    _recoveries: dict[tuple[int, int], tuple[int, int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.machines = (Machine(0, "hs1.test"), Machine(1, "hs2.test"))
        a, b = self.a, self.b
        a.issue(a.user("alice"), self.funds_minor)
        if self.payee is not None:
            b.till.answers[UserId("@bob:hs2.test")] = self.payee
        linked(a, b, self.limit_minor)
        self.orders = tuple(
            a.order(a.user("alice"), b.user("bob"), amount, number=number)
            for number, amount in enumerate(self.amounts, 1)
        )

    @property
    def a(self) -> Node:
        return self.machines[0].node

    @property
    def b(self) -> Node:
        return self.machines[1].node

    def start(self) -> State:
        a, b = (machine.snapshot() for machine in self.machines)
        return self._state(State(a=a, b=b, net=frozenset()), a, b)

    def explore(self, *, at_most: int) -> Explored[State]:
        return explore(self.start(), key_of=self.key, steps_of=self.steps, check=self.check, at_most=at_most)

    def key(self, state: State) -> Hashable:
        a, b = self.facts(state)
        saved = None if state.backup is None else self._facts_of(self.restores or 0, state.backup).key
        return a.key, b.key, tuple(sorted((each.sender, each.label) for each in state.net)), saved, state.restored

    def facts(self, state: State) -> tuple[Facts, Facts]:
        return self._facts_of(0, state.a), self._facts_of(1, state.b)

    def _facts_of(self, side: int, number: int) -> Facts:
        return self.machines[side].facts(number, self.machines[1 - side].node)

    def steps(self, state: State) -> Iterator[Step[State]]:
        facts = self.facts(state)
        for message in state.net:
            side = 1 - message.sender
            if self.replays or message.message_id not in facts[side].holds:
                yield from self._arrivals(state, message, side)
        for act in self.acts():
            yield self._after(state, act.side, act.what, act.do)
        if self.restores is not None:
            yield from self._restoring(state, self.restores)

    def _restoring(self, state: State, side: int) -> Iterator[Step[State]]:
        actor = "AB"[side]
        if state.backup is None:
            yield Step(actor=actor, what="a copy is made", after=replace(state, backup=state.of(side)))
        elif not state.restored:
            number = self.machines[side].step(
                state.backup, "runs on the copy", lambda node: _run_on_copy(node, marked=self.marked)
            )
            yield Step(actor=actor, what="runs on the copy", after=self._moved(state, side, number, restored=True))
        elif self.facts(state)[side].recovers:
            a, b = self._recovered(state)
            yield Step(actor="AB", what="the copy is brought up to date", after=self._state(state, a, b))

    def _recovered(self, state: State) -> tuple[int, int]:
        """Both after all that a recovery asks and is answered, at once."""
        known = self._recoveries.get((state.a, state.b))
        if known is None:
            for machine, number in zip(self.machines, (state.a, state.b), strict=True):
                machine.load(number)
            nodes = (self.a, self.b)
            node, peer = nodes if self.restores == 0 else nodes[::-1]
            for _ in range(_RECOVERY_ROUNDS):
                if node.link(peer).phase is not LinkPhase.RECOVERING:
                    break
                for errand in node.errands(peer)[:1]:
                    deliver(node, peer, errand)
                advance(rules.RETRY_MS[0], *nodes)
            for each in nodes:
                each.now_ms = START_MS
            a, b = (machine.snapshot() for machine in self.machines)
            known = self._recoveries[state.a, state.b] = (a, b)
        return known

    def acts(self) -> Iterator[Act]:
        for number, order in enumerate(self.orders):
            yield Act(side=0, what=f"order {number}", do=lambda node, order=order: _order_once(node, order))  # type: ignore[misc]
            if not self.calm:
                yield Act(
                    side=0,
                    what=f"cancel {number}",
                    do=lambda node, order=order: node.tx(lambda cur: node.cancel(cur, order)),  # type: ignore[misc]
                )
        if isinstance(self.payee, Ask):
            for yes in (True, False):
                yield Act(side=1, what=f"the payee says {yes}", do=lambda node, yes=yes: _answer_first(node, yes))  # type: ignore[misc]
        for side in () if self.calm else (0, 1):
            yield Act(side=side, what="all timers fire", do=lambda node: _at(node, LATE_MS, node.tick))
        for number in range(self.settlements):
            yield from _settling(SettlementId(digest(["settlement", number])), f"settlement {number}")
        if self.lower_to_minor is not None:
            limit_minor = self.lower_to_minor
            yield Act(side=1, what="the limit is lowered", do=lambda node: node.open_link(self.a, limit_minor))

    def check(self, state: State) -> Iterable[str]:
        a, b = self.facts(state)
        yield from (f"A: {each}" for each in a.wrong)
        yield from (f"B: {each}" for each in b.wrong)
        if a.recovers or b.recovers:
            # One of them is not yet what its own signatures have made of it.
            return
        for wire_id in a.outgoing.keys() | b.incoming.keys():
            out, into = a.outgoing.get(wire_id), b.incoming.get(wire_id)
            if into == "credited" and out not in ("committed", "completed"):
                yield f"B credited what A has as {out}"
            if out == "completed" and into != "credited":
                yield f"A has it as completed, B as {into}"
            if out == "committed" and into == "rejected":
                yield "A committed what B rejected"
        if a.due_to_minor + a.in_transit_minor < b.due_from_minor:
            yield f"A owes {a.due_to_minor} + {a.in_transit_minor}, B claims {b.due_from_minor}"
        there = {each[0]: each for each in a.settlements}
        for settlement_id, became, received_minor in b.settlements:
            mine = there.get(settlement_id)
            if mine is None or (mine[1] in ("received", "not_received") and mine[1:] != (became, received_minor)):
                yield f"B has settlement {settlement_id} as {became} ({received_minor}), A as {mine}"
        if self.lower_to_minor is None and b.due_from_minor + b.reserved_minor > self.limit_minor:
            yield f"B gave credit of {b.due_from_minor} + {b.reserved_minor} under a limit of {self.limit_minor}"

    def is_at_rest(self, state: State) -> bool:
        """Whether all that was offered has ended for good on both sides."""
        a, b = self.facts(state)
        if a.recovers or b.recovers:
            return False
        return {"completed", "voided", "aborted"}.issuperset(a.outgoing.values()) and all(
            b.incoming.get(wire_id) in ("credited", "void") for wire_id in a.outgoing
        )

    def _arrivals(self, state: State, message: Message, side: int) -> Iterator[Step[State]]:
        body = self.machines[message.sender].bodies[message.message_id]
        origin = self.machines[message.sender].node

        def arrive(node: Node) -> None:
            node.receive(origin, body)

        yield self._after(state, side, f"gets {message.label} {message.message_id}", arrive)
        if message.label.startswith(("1 ACCEPT", "1 PENDING")):
            yield self._after(
                state,
                side,
                f"gets {message.label} {message.message_id} late",
                lambda node: _at(node, LATE_MS, lambda: arrive(node)),
            )

    def _after(self, state: State, side: int, what: str, do: Callable[[Node], object]) -> Step[State]:
        machine = self.machines[side]
        try:
            number = machine.step(state.of(side), what, do)
        except Misused as misused:
            raise Misused(f"{what}: {misused}") from misused
        return Step(actor="AB"[side], what=what, after=self._moved(state, side, number))

    def _moved(self, state: State, side: int, number: int, *, restored: bool = False) -> State:
        numbers = [state.a, state.b]
        numbers[side] = number
        return replace(self._state(state, *numbers), restored=state.restored or restored)

    def _state(self, before: State, a: int, b: int) -> State:
        signed = self._facts_of(0, a).signed | self._facts_of(1, b).signed
        return replace(before, a=a, b=b, net=before.net | signed)


def _order_once(node: Node, order: Order) -> None:
    if node.tx(lambda cur: node.till.state(cur, "out", order.payment_id)) is None:
        # Salts are drawn for each order; a homeserver that has forgotten one does not draw the same again.
        fresh = digest([order.wire_salt, node.boot])
        node.pay(order if node.boot == "1" else replace(order, wire_salt=fresh.encode().hex()[:32]))


def _answer_first(node: Node, yes: bool) -> None:
    def answer(cur: Cursor) -> None:
        for peer, wire_id in node.asked_here(cur)[:1]:
            node.answer(cur, peer, wire_id, yes=yes)

    node.tx(answer)


def _settling(settlement_id: SettlementId, name: str) -> Iterator[Act]:
    """What the two operators may do about one settlement. What makes no sense is refused."""
    a, b = ServerName("hs1.test"), ServerName("hs2.test")
    debtor: dict[str, Callable[[Node, Cursor], object]] = {
        "propose": lambda node, cur: node.clearing.settlements.propose(
            cur, b, EUR.code, None, START_MS, settlement_id=settlement_id
        ),
        "cancel": lambda node, cur: node.clearing.settlements.cancel(cur, b, settlement_id, "no", START_MS),
        "pay": lambda node, cur: node.clearing.settlements.sent(cur, b, settlement_id, "", START_MS),
    }
    creditor: dict[str, Callable[[Node, Cursor], object]] = {
        "agree to": lambda node, cur: node.clearing.settlements.agree(cur, a, settlement_id, "", START_MS),
        "refuse": lambda node, cur: node.clearing.settlements.refuse(cur, a, settlement_id, "no", START_MS),
        "receive all of": lambda node, cur: node.clearing.settlements.received(cur, a, settlement_id, None, START_MS),
        "receive 1 of": lambda node, cur: node.clearing.settlements.received(cur, a, settlement_id, 1, START_MS),
        "not receive": lambda node, cur: node.clearing.settlements.not_received(cur, a, settlement_id, "no", START_MS),
    }
    for side, acts in ((0, debtor), (1, creditor)):
        for what, act in acts.items():
            yield Act(
                side=side,
                what=f"{what} {name}",
                do=lambda node, act=act: node.tx(lambda cur: act(node, cur)),  # type: ignore[misc]
            )


def _settlements(cur: Cursor) -> tuple[tuple[str, str, int], ...]:
    _execute(cur, "SELECT settlement_id, state, received_minor FROM superapp_clearing_settlement ORDER BY 1")
    return tuple((str(row[0]), str(row[1]), int(cast(int, row[2]))) for row in cur.fetchall())


def _run_on_copy(node: Node, *, marked: bool) -> None:
    """What ``super-app restore`` and the start after it do."""
    if marked:
        node.tx(lambda cur: recovery_store.mark(cur, RestoreId("restore"), START_MS))
    node.start("2")
    node.tx(lambda cur: node.clearing.started(cur, START_MS))


def _at(node: Node, now_ms: int, do: Callable[[], object]) -> None:
    node.now_ms = now_ms
    try:
        do()
    finally:
        node.now_ms = START_MS


def _label(epoch: int, kind: MessageType, content: dict[str, Any]) -> str:
    words = (epoch, kind.value, content.get("wire_id", ""), content.get("reason", ""), content.get("limit", ""))
    return " ".join(str(word) for word in words if word != "")


def _key_of(cur: Cursor) -> bytes:
    """A digest of what the database says, without what passes by."""
    lines: list[str] = []
    for table in sorted(_column(cur, "SELECT name FROM sqlite_master WHERE type = 'table'")):
        if _PASSING_TABLES.fullmatch(table):
            continue
        names = _column(cur, "SELECT name FROM pragma_table_info(?)", table)
        kept = [name for name in names if name in _KEPT or not _PASSING.fullmatch(name)]
        if kept:
            _execute(cur, f"SELECT {', '.join(kept)} FROM {table}")
            lines.append(f"{table} {sorted(map(repr, cur.fetchall()))}")
    return hashlib.sha256("\n".join(lines).encode()).digest()


def _execute(cur: Cursor, statement: str) -> None:
    cast(Any, cur).execute(statement)


def _column(cur: Cursor, statement: str, *parameters: str) -> list[str]:
    cast(Any, cur).execute(statement, parameters)
    return [str(row[0]) for row in cur.fetchall()]


def _pairs(cur: Cursor, statement: str) -> dict[str, str]:
    _execute(cur, statement)
    return {str(row[0]): str(row[1]) for row in cur.fetchall()}


def _balance(cur: Cursor, kind: AccountKind) -> int:
    cur.execute("SELECT COALESCE(SUM(balance_minor), 0) FROM superapp_ledger_account WHERE kind = ?", (kind.value,))
    row = cur.fetchone()
    return 0 if row is None else int(cast(int, row[0]))
