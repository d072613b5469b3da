"""The people of a soak: what each of them does, and what each remembers of it, to be compared with the books later.

Everything that they do is done until it is answered, under the same id, as a client does. What came in between is
counted by name.
"""

import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Literal

from super_app.names import EventType
from synapse_super_app.commands.demo_pair import CURRENCY
from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError, UnreachableError

Deed = Literal["chat", "search", "ring", "pay"]
DEEDS: Final[dict[Deed, int]] = {"chat": 55, "search": 15, "ring": 10, "pay": 20}
"""Of a hundred things that people do."""
_RING_LIFETIME_MS: Final = 5_000
_PAUSE_S: Final = 0.2
_TEMPORARY: Final = frozenset({404, 429, 500, 502, 503, 504})
"""What a homeserver says while a part of it, or the other one, is away: 404 is a payee who cannot be resolved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One thing that somebody did: when it began and how long the answer took, in seconds since the soak began."""

    deed: Deed
    at_s: float
    took_s: float
    tries: int


@dataclass(slots=True, kw_only=True)
class Ring:
    """``room`` is the direct room in which it rang; both hang up at the end, whatever they heard."""

    call_id: str
    room: str
    caller: "Person"
    callee: "Person"


@dataclass(slots=True, kw_only=True)
class Paid:
    payee: str
    amount_minor: int


class Notes:
    """What all people together noticed. Any thread may write."""

    def __init__(self) -> None:
        self.begin()
        self.done: list[Done] = []
        self.hindered: list[tuple[float, str]] = []
        """When something did not work at first, and what was said."""
        self.strange: list[str] = []
        """What should never have been said."""
        self.rings: list[Ring] = []
        self._lock = threading.Lock()

    def begin(self) -> None:
        self.began_s = time.monotonic()
        self.began_at = time.time()

    def now_s(self) -> float:
        return time.monotonic() - self.began_s

    def hinder(self, what: str) -> None:
        with self._lock:
            self.hindered.append((self.now_s(), what))

    def wonder(self, what: str) -> None:
        with self._lock:
            self.strange.append(what)

    def did(self, done: Done) -> None:
        with self._lock:
            self.done.append(done)

    def rang(self, ring: Ring) -> None:
        with self._lock:
            self.rings.append(ring)

    def counts(self) -> Counter[str]:
        return Counter(done.deed for done in self.done)


@dataclass(slots=True, kw_only=True)
class Person:
    """``urls`` are the processes that serve people here; who gets no answer turns to the next one."""

    name: str
    user_id: str
    token: str
    homeserver: int
    urls: Sequence[str]
    notes: Notes
    chance: random.Random
    partner: "Person | None" = None
    direct_room: str = ""
    group_room: str = ""
    group: list["Person"] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    """Event ids of messages that were acknowledged, in the group's room."""
    paid: dict[str, Paid] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    """Ids of payments that the homeserver took; of others that it was asked for, it may or may not know."""
    _client: MatrixClient | None = None
    _turn: int = 0

    def client(self) -> MatrixClient:
        if self._client is None:
            url = self.urls[self._turn % len(self.urls)]
            self._client = MatrixClient(url, user_id=self.user_id, access_token=self.token, timeout_s=30)
        return self._client

    def turn_away(self) -> None:
        """To another process of the same homeserver, from now on."""
        self.close()
        self._turn += 1

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def insist(self, ask: Callable[[MatrixClient], Any], give_up_s: float) -> tuple[Any, int]:
        """The answer, and how often it was asked. Raises what is refused for good; MatrixError."""
        tries = 0
        while True:
            tries += 1
            try:
                return ask(self.client()), tries
            except UnreachableError as error:
                self.notes.hinder(f"no answer: {str(error).partition(': ')[2] or error}")
                self.turn_away()
            except MatrixError as error:
                if error.status not in _TEMPORARY:
                    raise
                self.notes.hinder(f"{error.status} {error.errcode}")
                if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    self.turn_away()
            if time.monotonic() > give_up_s:
                raise TimeoutError(f"{self.user_id} was not answered in time")
            time.sleep(_PAUSE_S)

    # What people do. ``give_up_s`` is on the monotonic clock.

    def act(self, give_up_s: float, deed: Deed | None = None) -> None:
        """Do something until it is answered: ``deed``, or what chance says."""
        deed = deed or self.chance.choices(list(DEEDS), list(DEEDS.values()))[0]
        at_s, began_s = self.notes.now_s(), time.monotonic()
        try:
            tries = {"chat": self.chat, "search": self.search, "ring": self.ring, "pay": self.pay}[deed](give_up_s)
        except MatrixError as error:
            self.notes.wonder(f"{deed} of {self.user_id}: {error}")
            return
        self.notes.did(Done(deed=deed, at_s=at_s, took_s=time.monotonic() - began_s, tries=tries))

    def chat(self, give_up_s: float) -> int:
        transaction_id, text = secrets.token_hex(8), f"{self.name} says {self.chance.random()}"
        content = {"msgtype": "m.text", "body": text}
        event_id, tries = self.insist(
            lambda client: client.send(self.group_room, "m.room.message", content, transaction_id=transaction_id),
            give_up_s,
        )
        self.said.append(event_id)
        return tries

    def search(self, give_up_s: float) -> int:
        """For somebody whom one knows to be there: the whole name, or its beginning."""
        wanted = self.chance.choice(self.group)
        term = wanted.name[: self.chance.randint(3, len(wanted.name))]
        found, tries = self.insist(lambda client: client.search_people(term), give_up_s)
        if not found:
            self.notes.wonder(f"{self.user_id} searched for {term!r} and found nobody")
        return tries

    def ring(self, give_up_s: float) -> int:
        callee = self.partner
        if callee is None:
            raise RuntimeError("everybody has a partner")
        ring = Ring(call_id=secrets.token_hex(8), room=self.direct_room, caller=self, callee=callee)
        content = {"call_id": ring.call_id, "media": "audio", "callee": callee.user_id, "lifetime": _RING_LIFETIME_MS}
        transaction_id = secrets.token_hex(8)
        try:
            _, tries = self.insist(
                lambda client: client.send(
                    self.direct_room, EventType.CALL_RING, content, transaction_id=transaction_id
                ),
                give_up_s,
            )
        except MatrixError as error:
            # Whoever is in a call is not rung a second time by the same person.
            if error.status == HTTPStatus.CONFLICT:
                self.notes.hinder(f"ring: {error.errcode}")
                return 1
            raise
        self.notes.rang(ring)
        what = self.chance.random()
        if what < 0.4:
            self._signal("m.call.answer", ring, give_up_s, answer={"type": "answer", "sdp": "v=0"})
            self._signal("m.call.hangup", ring, give_up_s)
        elif what < 0.6:
            self._signal("m.call.hangup", ring, give_up_s)
        return tries

    def _signal(self, event_type: str, ring: Ring, give_up_s: float, **more: Any) -> None:
        """As the callee who answers, or as the caller who hangs up."""
        speaker = ring.callee if event_type == "m.call.answer" else ring.caller
        with MatrixClient(
            self.chance.choice(speaker.urls), user_id=speaker.user_id, access_token=speaker.token, timeout_s=30
        ) as client:
            content = {"call_id": ring.call_id, "party_id": "soak", "version": "1", **more}
            while True:
                try:
                    client.send(ring.room, event_type, content)
                    return
                except (UnreachableError, MatrixError) as error:
                    self.notes.hinder(f"{event_type}: {type(error).__name__}")
                    if time.monotonic() > give_up_s or (isinstance(error, MatrixError) and error.status < 500):
                        return  # it rings until its time is over, and hangs up at the end
                    time.sleep(_PAUSE_S)

    def pay(self, give_up_s: float) -> int:
        payee = self.chance.choice([each for each in self.group if each is not self])
        payment_id, amount = secrets.token_hex(16), self.chance.randint(1, 99)
        self.paid[payment_id] = Paid(payee=payee.user_id, amount_minor=amount)
        try:
            _, tries = self.insist(
                lambda client: client.pay(
                    payee.user_id, amount, CURRENCY, payment_id=payment_id, room_id=self.group_room
                ),
                give_up_s,
            )
        except MatrixError as error:
            if error.status != HTTPStatus.PAYMENT_REQUIRED:
                raise
            return 1
        self.answered.add(payment_id)
        return tries


class Crowd:
    """Some of the people act at a time, each on a thread that takes whoever is free."""

    def __init__(self, people: Sequence[Person], *, at_once: int, until_s: float, give_up_s: float) -> None:
        self._free = list(people)
        self._chance = random.Random(len(people))
        self._lock = threading.Lock()
        self._until_s = until_s
        self._give_up_s = give_up_s
        self.failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._go, daemon=True) for _ in range(at_once)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _go(self) -> None:
        # However short it is and however long things are broken, somebody pays.
        deed: Deed | None = "pay"
        while time.monotonic() < self._until_s:
            with self._lock:
                person = self._free.pop(self._chance.randrange(len(self._free)))
            try:
                person.act(self._give_up_s, deed)
            except Exception as error:
                self.failures.append(error)
            finally:
                deed = None
                with self._lock:
                    self._free.append(person)
