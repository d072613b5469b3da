"""``make soak``: people chat, search, ring and pay on two homeservers with workers while all of it is broken.

    make soak ARGS="--people 1000 --minutes 10 --workers 3"

It prints what holds and what does not, writes a page with plots to ``build/soak.html``, and its exit code is 1 if a
payment was lost or doubled, a call never ended, an invariant did not hold, or something was said that has no named
cause. Latency and memory are figures for the reader; they depend on what else the machine does. A seed decides which
faults come when.
"""

import argparse
import os
import random
import re
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Self, TypeVar, cast

import soak_report
from soak_pair import MAIN, SoakPair, roles
from soak_people import Crowd, Notes, Person, Ring

from super_app.names import AccountDataType
from synapse_super_app.commands import loopback
from synapse_super_app.commands.demo_pair import CURRENCY
from synapse_super_app.commands.homeserver_process import Homeserver, HomeserverDied
from synapse_super_app.commands.matrix_client import (
    FINAL_STATES,
    Json,
    MatrixClient,
    MatrixError,
    UnreachableError,
    wait_until,
)

_T = TypeVar("_T")
OPENING_MINOR: Final = 1_000_00
_GROUP: Final = 10
_MOVERS: Final = 12
"""How many people move in at a time."""
_TELL_EVERY: Final = 100
_WARM_UP_ROUNDS: Final = 4
_WARM_UP_MESSAGES: Final = 500
_ROUND_MESSAGES: Final = 25
SLOWER_AT_MOST: Final = 1.05
"""How many times as long a plain message may take with the modules."""
UNNAMED: Final = "no cause that we know"
_CALM_S: Final = 300.0
"""How long things may take to end once nothing is broken any more."""
_WATCH_PAUSE_S: Final = 1.0
_ASK_EVERY_S: Final = 5.0
_REPORT: Final = Path(__file__).parents[2] / "build" / "soak.html"
_HANG_S: Final = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """``faults`` counts those that are not in ``only``, if that is not empty."""

    people: int = 100
    minutes: float = 5.0
    workers: int = 2
    at_once: int = 12
    every_s: float = 15.0
    compare_rounds: int = 0
    seed: int = 0
    special: bool = True
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    kind: str
    what: str
    at_s: float
    until_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Anonymous memory of one process, in bytes, seconds after the soak began."""

    process: str
    pid: int
    at_s: float
    size_bytes: int


@dataclass(slots=True, kw_only=True)
class Verdict:
    """One thing that must hold, what was looked at, and what is wrong, if anything is."""

    name: str
    looked_at: str
    wrong: list[str] = field(default_factory=list)
    is_about_what_is_kept: bool = True
    """Or about how things went meanwhile, which a machine that is much too slow makes worse without any fault."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """All that a soak found."""

    size: Size
    notes: Notes
    faults: list[Fault] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    causes: Counter[str] = field(default_factory=Counter)
    errors: list[tuple[float, str]] = field(default_factory=list)
    """When something was an error in a log, in seconds since the soak began, and the name of its cause."""
    compared: dict[str, list[list[float]]] = field(default_factory=dict)
    """Seconds from sending a plain message to its answer, with the modules and without, round by round."""
    beside: dict[str, list[int]] = field(default_factory=dict)
    """Anonymous memory of all processes of the two pairs after each of these rounds, in bytes."""
    took_s: dict[str, float] = field(default_factory=dict)
    """How long each part of the soak took."""

    @property
    def ok(self) -> bool:
        return not any(verdict.wrong for verdict in self.verdicts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why an error may stand in a log: what it looks like there, and which faults bring it about."""

    name: str
    looks_like: str
    faults: frozenset[str]

    def explains(self, error: str, breaking: frozenset[str]) -> bool:
        return bool(self.faults & breaking) and re.search(self.looks_like, error) is not None


_DATABASE: Final = frozenset({"PostgreSQL crashed"})
_HOMESERVER: Final = frozenset({"main process killed", "homeserver killed"})
_PROCESS: Final = frozenset({"worker killed", "worker hung", *_HOMESERVER})
_LINK: Final = frozenset({"link cut", "link silent", *_HOMESERVER})
CAUSES: Final = (
    Cause(
        name="PostgreSQL was away, and a transaction or a connection ended with it",
        looks_like=r"psycopg2\.(Operational|Interface)Error|psycopg2\.errors\.(AdminShutdown|CrashShutdown|CannotConnectNow)"
        r"|in recovery mode|starting up|shutting down|server closed the connection|connection already closed"
        r"|terminating connection|wrong connection for thread",
        faults=_DATABASE,
    ),
    Cause(
        name="a lock of Synapse's could not be given back, since PostgreSQL was away or a process hung; it lapses",
        looks_like=r"Lock for .* dropped without being released|Lock .* lost",
        faults=_DATABASE | {"worker hung"},
    ),
    Cause(name="Redis was away", looks_like=r"[Rr]edis", faults=frozenset({"Redis killed"})),
    Cause(
        name="a process of the same homeserver was away or hung",
        looks_like=r"Connection ?Refused|Connection(Lost|Done)|ConnectError|ResponseNeverReceived|Failed to talk to"
        r"|TimeoutError|[Tt]imed out|RequestTimedOut|synapse\.http\.client|CancelledError",
        faults=_PROCESS | _DATABASE,
    ),
    Cause(
        name="the other homeserver was away",
        looks_like=r"RequestSendFailed|Connection(Lost|Done|Refused)|TimeoutError|[Tt]imed out|HttpResponseException",
        faults=_LINK | _DATABASE,
    ),
)
AFTERMATH_S: Final = 60.0
"""How long after a fault what it broke may still be noticed: timeouts of Synapse's are up to a minute."""


class Soak:
    """Use as a context. ``run`` does all of it; tests call its parts."""

    def __init__(self, folder: Path, size: Size, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._size = size
        self._say = say
        self._chance = random.Random(size.seed)
        self.pair = SoakPair(data=folder / "with", workers=roles(size.workers, special=size.special))
        self.notes = Notes()
        self.people: list[Person] = []
        self.outcome = Outcome(size=size, notes=self.notes)
        self._watched = threading.Event()

    def __enter__(self) -> Self:
        self._say("starting two homeservers with workers")
        self.pair.start()
        return self

    def __exit__(self, *_: object) -> None:
        for person in self.people:
            person.close()
        self.pair.stop()

    def run(self) -> Outcome:
        parts = {"moving in": self.settle_in, "comparing": self._compare, "soaking": self.soak, "looking": self.end}
        if not self._size.compare_rounds:
            del parts["comparing"]
        for name, part in parts.items():
            began_s = time.monotonic()
            part()
            self.outcome.took_s[name] = time.monotonic() - began_s
        return self.outcome

    # People, their rooms and their money.

    def settle_in(self) -> None:
        self._say(f"{self._size.people} people move in")
        with ThreadPoolExecutor(_MOVERS) as pool:
            self.people += self._told(
                pool.map(partial(self._moves_in, self.pair, True), range(self._size.people)), "people"
            )
            list(self._told(pool.map(_meets, self._groups()), "rooms of ten"))
            list(self._told(pool.map(self._pairs_up, self.people[0::2], self.people[1::2]), "rooms of two"))
        for person in self.people:
            person.close()

    def _told(self, done: Iterable[_T], what: str) -> Iterator[_T]:
        """The same, with a line now and then, since a thousand people take minutes."""
        for number, each in enumerate(done, 1):
            yield each
            if number % _TELL_EVERY == 0:
                self._say(f"{number} {what} are there")

    def _moves_in(self, pair: SoakPair, with_money: bool, number: int) -> Person:
        index = number % 2
        name = f"{_name(number)}"
        with pair.sides[index].client() as anybody:
            session = anybody.register_with_secret(loopback.REGISTRATION_SECRET, name, name)
        person = Person(
            name=name,
            user_id=session.user_id,
            token=session.access_token,
            homeserver=index,
            urls=pair.urls(index),
            notes=self.notes,
            chance=random.Random(self._size.seed * 100_003 + number),
        )
        if with_money:
            with MatrixClient(
                pair.sides[index].client_url, user_id=person.user_id, access_token=person.token
            ) as client:
                client.set_account_data(AccountDataType.CALL_POLICY, {"v": 1, "who": ["everyone"]})
            admin = pair.admins[index]
            with MatrixClient(admin.base_url, user_id=admin.user_id, access_token=admin.access_token) as operator:
                operator.issue(person.user_id, OPENING_MINOR, CURRENCY, f"soak {person.user_id}")
        return person

    def _pairs_up(self, one: Person, other: Person) -> None:
        one.partner, other.partner = other, one
        one.direct_room = other.direct_room = _room([one, other], is_direct=True)

    # The comparison with homeservers of the same layout that lack the module.

    def _compare(self) -> None:
        self._say("starting the same two homeservers without the module, to compare")
        bare = SoakPair(
            data=self._folder / "without",
            workers=roles(self._size.workers, special=self._size.special),
            with_module=False,
        )
        bare.start()
        try:
            count = min(len(self.people), 2 * _GROUP)
            strangers = [self._moves_in(bare, False, number) for number in range(count)]
            for first in range(0, count, _GROUP):
                _meets(strangers[first : first + _GROUP])
            both = {"with": self.people[:count], "without": strangers}
            # The other pair has had all its people move in; this one is as new, and what is new grows.
            _write(strangers, messages=_WARM_UP_MESSAGES, at_once=4)
            pairs = {"with": self.pair, "without": bare}
            found: dict[str, list[list[float]]] = {name: [] for name in both}
            beside: dict[str, list[int]] = {name: [] for name in both}
            for round_number in range(self._size.compare_rounds + _WARM_UP_ROUNDS):
                # In turns, and the first to begin changes, so that whatever else the machine does meets both.
                for name in sorted(both, reverse=round_number % 2 == 1):
                    took = _write(both[name], messages=_ROUND_MESSAGES, at_once=4)
                    if round_number >= _WARM_UP_ROUNDS:
                        found[name].append(took)
                for name, pair in pairs.items():
                    if round_number >= _WARM_UP_ROUNDS:
                        beside[name].append(sum(filter(None, map(anonymous_bytes, pair.pids().values()))))
            self.outcome.compared, self.outcome.beside = found, beside
            for person in strangers:
                person.close()
        finally:
            bare.stop()
        self._check_comparison()
        for verdict in self.outcome.verdicts:
            self._say(f"{verdict.name}: {verdict.looked_at}")

    def _check_comparison(self) -> None:
        """Whether chat is slower or leaves more behind with the modules, as far as this run can tell."""
        ratio, growth = soak_report.compared(self.outcome), soak_report.growth_beside(self.outcome)
        if ratio is not None:
            shown = "" if ratio.most <= SLOWER_AT_MOST else "; this run cannot show that it is no more"
            self.outcome.verdicts.append(
                Verdict(
                    name="a plain message with the modules takes at most 5 % longer",
                    looked_at=ratio.told + shown,
                    wrong=[f"at least {ratio.least:.3f} times as long"] if ratio.least > SLOWER_AT_MOST else [],
                    is_about_what_is_kept=False,
                )
            )
        if growth is not None:
            slope = f"{growth.value:+.0f} ± {growth.half_width:.0f} bytes a message beyond homeservers without them"
            if growth.value + growth.half_width < 0:
                slope += ", which are younger and still grew"
            self.outcome.verdicts.append(
                Verdict(
                    name="memory grows no more with the modules than without",
                    looked_at=f"{slope}, over the second half of {self._size.compare_rounds} rounds",
                    wrong=[f"at least {growth.least:.0f} bytes a message"] if growth.least > 0 else [],
                    is_about_what_is_kept=False,
                )
            )

    # The soak itself.

    def soak(self) -> None:
        minutes = self._size.minutes
        self._say(f"{minutes:g} minutes of chats, searches, rings and payments, with faults of seed {self._size.seed}")
        self.notes.begin()
        until_s = time.monotonic() + minutes * 60
        crowd = Crowd(self.people, at_once=self._size.at_once, until_s=until_s, give_up_s=until_s + _CALM_S)
        watchers = [threading.Thread(target=self._look_at_memory, daemon=True)]
        watchers += [threading.Thread(target=self._ask_for_invariants, args=(index,), daemon=True) for index in (0, 1)]
        for watcher in watchers:
            watcher.start()
        crowd.start()
        self._break_things(until_s)
        self._heal()
        crowd.join()
        self._watched.set()
        for watcher in watchers:
            watcher.join()
        for failure in crowd.failures:
            self.notes.wonder(f"{type(failure).__name__}: {failure}")
        self._say(f"done: {dict(self.notes.counts())}, hindered {len(self.notes.hindered)} times")

    def faults(self) -> dict[str, Callable[[], str]]:
        """Each breaks something and says what; ``_heal`` mends all."""
        return {
            "worker killed": lambda: self._kill(self._some_worker()),
            "worker hung": self._hang,
            "main process killed": lambda: self._kill((self._chance.randrange(2), MAIN)),
            "homeserver killed": self._kill_homeserver,
            "link cut": lambda: self._wire(self.pair.wire.cut),
            "link silent": lambda: self._wire(self.pair.wire.silence),
            "Redis killed": self._kill_redis,
            "PostgreSQL crashed": self._crash_database,
        }

    def _break_things(self, until_s: float) -> None:
        kinds = [kind for kind in self.faults() if not self._size.only or kind in self._size.only]
        order: list[str] = []
        pause_s = min(self._size.every_s, self._size.minutes * 60 / 3)
        # The last part belongs to what has been started last: people go on, and nothing breaks.
        while time.monotonic() + 2 * pause_s < until_s:
            time.sleep(pause_s * self._chance.uniform(0.4, 0.8))
            if not order:
                order = self._chance.sample(kinds, len(kinds))
            kind = order.pop()
            at_s = self.notes.now_s()
            what = self.faults()[kind]()
            self._say(f"{at_s:6.1f} s: {kind} ({what})")
            time.sleep(_HANG_S if kind == "worker hung" else self._chance.uniform(0.5, min(4.0, pause_s / 2)))
            self._heal()
            self.outcome.faults.append(Fault(kind=kind, what=what, at_s=at_s, until_s=self.notes.now_s()))
        time.sleep(max(0.0, until_s - time.monotonic()))

    def _heal(self) -> None:
        self.pair.wire.heal()
        for processes in self.pair.processes:
            for process in processes.values():
                if process.running:
                    os.kill(process.pid, signal.SIGCONT)
        give_up_s = time.monotonic() + _CALM_S
        while True:
            self.pair.revive()
            try:
                self.pair.wait_until_healthy()
            except HomeserverDied as death:
                # One that met a database which was still away, as a service manager would see it too.
                self.notes.hinder(f"ended by itself: {str(death).splitlines()[0]}")
                if time.monotonic() > give_up_s:
                    raise
            else:
                return

    def _some_worker(self) -> tuple[int, str]:
        index = self._chance.randrange(2)
        return index, self._chance.choice([name for name in self.pair.processes[index] if name != MAIN])

    def _process(self, where: tuple[int, str]) -> Homeserver:
        return self.pair.processes[where[0]][where[1]]

    def _kill(self, where: tuple[int, str]) -> str:
        self._process(where).kill()
        return f"{where[0] + 1}.{where[1]}"

    def _hang(self) -> str:
        where = self._some_worker()
        os.kill(self._process(where).pid, signal.SIGSTOP)
        return f"{where[0] + 1}.{where[1]}"

    def _kill_homeserver(self) -> str:
        index = self._chance.randrange(2)
        for process in self.pair.processes[index].values():
            process.kill()
        return f"all of {index + 1}"

    def _wire(self, harm: Callable[[], None]) -> str:
        harm()
        return "between the two"

    def _kill_redis(self) -> str:
        index = self._chance.randrange(2)
        self.pair.redis[index].crash()
        return f"that of {index + 1}"

    def _crash_database(self) -> str:
        self.pair.server.crash()
        return "that of both"

    # Who watches meanwhile.

    def _look_at_memory(self) -> None:
        while not self._watched.wait(_WATCH_PAUSE_S):
            for process, pid in self.pair.pids().items():
                size_bytes = anonymous_bytes(pid)
                if size_bytes is not None:
                    look = Look(process=process, pid=pid, at_s=self.notes.now_s(), size_bytes=size_bytes)
                    self.outcome.looks.append(look)

    def _ask_for_invariants(self, index: int) -> None:
        verdict = Verdict(name=f"invariants of homeserver {index + 1} throughout", looked_at="")
        asked = 0
        admin = self.pair.admins[index]
        with MatrixClient(
            admin.base_url, user_id=admin.user_id, access_token=admin.access_token, timeout_s=30
        ) as operator:
            while not self._watched.wait(min(_ASK_EVERY_S, self._size.minutes * 6)):
                try:
                    answer = operator.request("GET", "/_synapse/client/superapp/v1/admin/invariants")
                except (MatrixError, UnreachableError):
                    continue
                asked += 1
                if not answer["ok"]:
                    verdict.wrong.append(f"after {self.notes.now_s():.0f} s: {answer}")
        verdict.looked_at = f"asked and answered {asked} times"
        if not asked:
            verdict.wrong.append("nobody answered")
        self.outcome.verdicts.append(verdict)

    # What must be true in the end.

    def end(self) -> None:
        self._say("hanging up, and waiting for what is under way")
        for person in self.people:
            person.close()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self._hangs_up, self.notes.rings))
            # Who is to be paid may not have heard of it yet; once all that was sent is over, everybody has.
            list(pool.map(self._payments_of, self.people))
            self._check_payments(list(pool.map(self._payments_of, self.people)))
            self._check_calls(list(pool.map(self._calls_of, self.people)))
            self._check_messages(list(pool.map(self._messages_of, self._groups())))
        for index, admin in enumerate(self.pair.admins):
            admin.close()
            answer = admin.invariants()
            wrong = [] if answer["ok"] else [str(answer)]
            self.outcome.verdicts.append(
                Verdict(name=f"invariants of homeserver {index + 1} in the end", looked_at="asked once", wrong=wrong)
            )
        self._check_logs()
        self._check_answers()

    def _groups(self) -> list[list[Person]]:
        return [self.people[first : first + _GROUP] for first in range(0, len(self.people), _GROUP)]

    def _hangs_up(self, ring: Ring) -> None:
        content = {"call_id": ring.call_id, "party_id": "soak", "version": "1"}
        for person in (ring.caller, ring.callee):
            with MatrixClient(person.urls[0], user_id=person.user_id, access_token=person.token) as client:
                client.send(ring.room, "m.call.hangup", content)

    def _payments_of(self, person: Person) -> dict[tuple[str, str], Json]:
        """All payments in which a person has a part, by direction and id, once all of them are over."""
        found: dict[tuple[str, str], Json] = {}

        def over() -> bool:
            found.clear()
            for payment in _pages(client, "payments"):
                found[payment["direction"], payment["payment_id"]] = payment
            return all(payment["state"] in FINAL_STATES for payment in found.values())

        with MatrixClient(person.urls[0], user_id=person.user_id, access_token=person.token) as client:
            try:
                wait_until(over, timeout_s=_CALM_S, what=f"the payments of {person.user_id} to end")
            except TimeoutError as late:
                self.notes.wonder(str(late))
        return found

    def _check_payments(self, listed: Sequence[Mapping[tuple[str, str], Json]]) -> None:
        """Each payment has one end, the same for both; and everybody has what that makes."""
        wrong: list[str] = []
        lists = dict(zip((person.user_id for person in self.people), listed, strict=True))
        has = {person.user_id: OPENING_MINOR for person in self.people}
        ends: Counter[str] = Counter()
        for person in self.people:
            there = {payment_id for direction, payment_id in lists[person.user_id] if direction == "outgoing"}
            lost, never_made = person.answered - there, there - set(person.paid)
            wrong += [f"{person.user_id} has no payment {each}, and was told of one" for each in lost]
            wrong += [f"{person.user_id} has a payment {each} that nobody made" for each in never_made]
            for payment_id in there - never_made:
                paid, payment = person.paid[payment_id], lists[person.user_id]["outgoing", payment_id]
                ends[payment["state"]] += 1
                other = lists[paid.payee].get(("incoming", payment_id))
                if payment["amount"] != paid.amount_minor:
                    wrong.append(f"{payment_id} is of {payment['amount']}, and {paid.amount_minor} was ordered")
                if payment["state"] == "completed":
                    has[person.user_id] -= paid.amount_minor
                    has[paid.payee] += paid.amount_minor
                if (payment["state"] == "completed") != (other is not None and other["state"] == "completed"):
                    wrong.append(f"{payment_id} is {payment['state']} for its payer, and {other} for its payee")
        for person in self.people:
            with MatrixClient(person.urls[0], user_id=person.user_id, access_token=person.token) as client:
                account = client.wallet()[CURRENCY]
            if (account["available"], account["held"]) != (has[person.user_id], 0):
                wrong.append(f"{person.user_id} has {account}, and should have {has[person.user_id]}")
        if not ends["completed"]:
            wrong.append("no payment was completed")
        self.outcome.verdicts.append(
            Verdict(
                name="no payment lost or doubled", looked_at=f"{sum(ends.values())} payments: {dict(ends)}", wrong=wrong
            )
        )

    def _calls_of(self, person: Person) -> list[str]:
        """What is still open among the calls of a person after a while."""
        is_open: list[str] = []

        def over() -> bool:
            is_open.clear()
            for call in _pages(client, "calls"):
                outcome, ended = call["outcome"], call.get("end_ts") is not None
                if outcome in ("new", "ringing") or (outcome == "answered" and not ended):
                    is_open.append(f"{person.user_id}: {call}")
            return not is_open

        with MatrixClient(person.urls[0], user_id=person.user_id, access_token=person.token) as client:
            try:
                wait_until(over, timeout_s=90, what="calls to end")
            except TimeoutError:
                return list(is_open)
        return []

    def _check_calls(self, still_open: Sequence[list[str]]) -> None:
        wrong = [each for of_person in still_open for each in of_person]
        self.outcome.verdicts.append(
            Verdict(name="every call record is final", looked_at=f"{len(self.notes.rings)} rings", wrong=wrong)
        )

    def _messages_of(self, group: Sequence[Person]) -> tuple[int, list[str]]:
        """Which acknowledged messages are not in the room, as the homeserver has it to which they were said."""
        missing: list[str] = []
        for index in (0, 1):
            here = [person for person in group if person.homeserver == index]
            said = {event_id for person in here for event_id in person.said}
            with MatrixClient(here[0].urls[0], user_id=here[0].user_id, access_token=here[0].token) as client:
                start: str | None = None
                while said:
                    query: dict[str, str | int] = {"dir": "b", "limit": 500}
                    if start is not None:
                        query["from"] = start
                    page = client.matrix("GET", f"rooms/{here[0].group_room}/messages", None, query)
                    said -= {event["event_id"] for event in page["chunk"]}
                    start = page.get("end")
                    if start is None:
                        break
            missing += sorted(said)
        return sum(len(person.said) for person in group), missing

    def _check_messages(self, found: Sequence[tuple[int, list[str]]]) -> None:
        wrong = [f"{event_id} was acknowledged and is gone" for _, missing in found for event_id in missing]
        count = sum(said for said, _ in found)
        self.outcome.verdicts.append(
            Verdict(name="no message lost that was acknowledged", looked_at=f"{count} messages", wrong=wrong)
        )

    def breaking(self, at_s: float) -> frozenset[str]:
        """The faults that may still be noticed at a time."""
        return frozenset(
            fault.kind for fault in self.outcome.faults if fault.at_s - 1 <= at_s <= fault.until_s + AFTERMATH_S
        )

    def _check_logs(self) -> None:
        unnamed: list[str] = []
        lines = 0
        for index, processes in enumerate(self.pair.processes):
            for name, process in processes.items():
                for error in errors_in(process.console_path.read_text(encoding="utf-8", errors="replace")):
                    lines += 1
                    at_s = said_at(error) - self.notes.began_at
                    cause = cause_of(error, self.breaking(at_s))
                    self.outcome.errors.append((at_s, UNNAMED if cause is None else cause.name))
                    if cause is None:
                        unnamed.append(f"{index + 1}.{name}: {gist(error)}")
                    else:
                        self.outcome.causes[cause.name] += 1
        self.outcome.verdicts.append(
            Verdict(
                name="no error in a log without a named cause",
                looked_at=f"{lines} errors, of which {lines - len(unnamed)} have one",
                wrong=unnamed[:20],
                is_about_what_is_kept=False,
            )
        )

    def _check_answers(self) -> None:
        """Whoever had to ask again did so while something was broken, or right after."""
        unasked = [
            f"after {at_s:.1f} s, with nothing broken: {what}"
            for at_s, what in self.notes.hindered
            if not self.breaking(at_s)
        ]
        self.outcome.verdicts.append(
            Verdict(
                name="nobody was told what has no cause",
                looked_at=f"{len(self.notes.done)} answers, {len(self.notes.hindered)} times asked again",
                wrong=[*self.notes.strange, *unasked][:20],
                is_about_what_is_kept=False,
            )
        )


def anonymous_bytes(pid: int) -> int | None:
    """The memory of a process that no file stands behind; None if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return None
    _, found, rest = status.partition("RssAnon:")
    return int(rest.split()[0]) * 1024 if found else None


_LINE: Final = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - ", re.MULTILINE)


def errors_in(log: str) -> list[str]:
    """The entries of a log that are errors, each with the lines that follow it, such as a traceback."""
    starts = [*(found.start() for found in _LINE.finditer(log)), len(log)]
    entries = [log[start:end] for start, end in pairwise(starts)]
    return [entry for entry in entries if re.match(r"\S+ \S+ - \S+ - \d+ - (ERROR|CRITICAL) - ", entry)]


def gist(error: str) -> str:
    """What was said, and the end of the traceback, if there is one, which names the exception."""
    said = error.splitlines()
    return "\n".join(said if len(said) <= 12 else [said[0], "…", *said[-10:]])


def said_at(error: str) -> float:
    """When an entry was written, in seconds of the wall clock. Synapse writes local time."""
    return datetime.strptime(error[:23], "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp()


def cause_of(error: str, breaking: frozenset[str]) -> Cause | None:
    return next((cause for cause in CAUSES if cause.explains(error, breaking)), None)


def _name(number: int) -> str:
    """Names of their own, so that a search finds whom one means."""
    syllables = ("ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru")
    return "".join(syllables[int(digit)] for digit in f"{number:04d}")


def _room(members: Sequence[Person], *, is_direct: bool) -> str:
    """Made by the first, joined by all of them; over federation where that is needed."""
    first, others = members[0], members[1:]
    server = first.user_id.partition(":")[2]
    with MatrixClient(first.urls[0], user_id=first.user_id, access_token=first.token) as client:
        room = client.create_room(
            preset="trusted_private_chat" if is_direct else "public_chat",
            is_direct=is_direct,
            invite=[other.user_id for other in others] if is_direct else [],
        )
    for other in others:
        with MatrixClient(other.urls[0], user_id=other.user_id, access_token=other.token) as client:
            wait_until(partial(_joined, client, room, server), timeout_s=120, what=f"{other.user_id} to join")
    everybody = frozenset(member.user_id for member in members)
    for member in members:
        with MatrixClient(member.urls[-1], user_id=member.user_id, access_token=member.token) as client:
            # Each homeserver must have heard of the joins at the other one.
            seen = partial(_sees, client, room, everybody)
            wait_until(seen, timeout_s=120, what=f"{member.user_id} to see all members of {room}")
    return room


def _sees(client: MatrixClient, room: str, everybody: frozenset[str]) -> bool:
    return client.joined_members(room) == everybody


def _joined(client: MatrixClient, room: str, via: str) -> bool:
    try:
        client.join(room, via=via)
    except MatrixError:
        return False
    return True


def _meets(group: Sequence[Person]) -> None:
    room = _room(group, is_direct=False)
    for person in group:
        person.group_room, person.group = room, list(group)


def _write(people: Sequence[Person], *, messages: int, at_once: int) -> list[float]:
    """How long each of so many messages took, written by some at a time."""

    def one(number: int) -> float:
        person = people[number % len(people)]
        content = {"msgtype": "m.text", "body": f"message {number}"}
        began_s = time.monotonic()
        with_client = MatrixClient(person.urls[0], user_id=person.user_id, access_token=person.token)
        with with_client as client:
            client.send(person.group_room, "m.room.message", content)
        return time.monotonic() - began_s

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, range(messages)))


def _pages(client: MatrixClient, path: str) -> list[Json]:
    found: list[Json] = []
    since: str | None = None
    while True:
        query: dict[str, str | int] = {"limit": 100}
        if since is not None:
            query["since"] = since
        page: Mapping[str, Any] = client.superapp("GET", path, None, query)
        found += cast(list[Json], page[path])
        since = page.get("next")
        if since is None:
            return found


def _size_from(arguments: Sequence[str]) -> tuple[Size, Path, Path | None]:
    parser = argparse.ArgumentParser(prog="make soak ARGS=…", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--people", type=int, default=100, help="half of them on each homeserver")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument(
        "--workers", type=int, default=2, help="generic workers of each homeserver; three more have duties"
    )
    parser.add_argument("--at-once", type=int, default=12, help="how many people act at a time")
    parser.add_argument("--every", type=float, default=15.0, metavar="SECONDS", help="a fault about so often")
    parser.add_argument(
        "--compare",
        type=int,
        default=40,
        metavar="ROUNDS",
        help=f"of {_ROUND_MESSAGES} messages, with and without; 0 for none",
    )
    parser.add_argument("--seed", type=int, default=secrets.randbits(31))
    parser.add_argument("--report", type=Path, default=_REPORT)
    parser.add_argument("--publish", type=Path, metavar="DIR", help="write soak.md and its pictures there too: docs")
    parser.add_argument("--faults", nargs="*", default=[], metavar="KIND", help="only these kinds")
    given = parser.parse_args(arguments)
    if given.people < 2 * _GROUP or given.people % _GROUP:
        parser.error(f"--people is a multiple of {_GROUP}, {2 * _GROUP} at least")
    size = Size(
        people=given.people,
        minutes=given.minutes,
        workers=given.workers,
        at_once=given.at_once,
        every_s=given.every,
        compare_rounds=given.compare,
        seed=given.seed,
        only=tuple(given.faults),
    )
    return size, given.report, given.publish


def main(arguments: Sequence[str]) -> int:
    size, report, publish = _size_from(arguments)
    began_s = time.monotonic()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="superapp-soak-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)

        def say(line: str) -> None:
            print(f"soak: {time.monotonic() - began_s:6.1f} s  {line}", file=sys.stderr, flush=True)

        outcome = stack.enter_context(Soak(folder, size, say)).run()
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(soak_report.page(outcome), encoding="utf-8")
    if publish is not None:
        soak_report.publish(outcome, publish)
    for line in soak_report.lines(outcome):
        print(line)
    print(f"The report is {report}.")
    return 0 if outcome.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
