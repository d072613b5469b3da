"""Harm done to real homeservers at every point of a payment; whatever it was, nobody's money is lost or doubled.

A payment takes its course while one thing happens to it: a homeserver is killed (SIGKILL) just before or just after it
commits a step, or a message or its answer is lost on the way. Then everything must end as if nothing had happened:
the payment in its final state on both homeservers, the money where it belongs, the books mirroring each other.
"""

import secrets
import threading
from collections.abc import Callable, Generator, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final, TypeVar

import pytest
from faults import LIMIT_S, FaultyPair, Hit

from super_app.db import Engine
from synapse_super_app.commands.demo_pair import CURRENCY
from synapse_super_app.commands.matrix_client import (
    FINAL_STATES,
    Json,
    MatrixClient,
    MatrixError,
    UnreachableError,
    wait_until,
)

T = TypeVar("T")

_POLICY: Final = "org.superapp.payment.policy"
_CURABLE: Final = frozenset({404, 429, 500, 502, 503, 504})
"""Answers that a payer's client tries again after: a homeserver is down or starting, or does not know yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How a payment goes. ``steps`` are what homeservers commit for it, ``messages`` what travels by a request."""

    payee: str
    end: str
    steps: tuple[str, ...]
    messages: tuple[str, ...]
    deed: str | None = None
    """What the payee, or for ``cancel`` the payer, does once the payee is asked."""


COURSES: Final = {
    "taken at once": Course(
        payee="bob",
        end="completed",
        steps=("place", "bind", "OFFER", "answer to OFFER", "COMMIT", "answer to COMMIT"),
        messages=("OFFER", "COMMIT"),
    ),
    "asked and taken": Course(
        payee="carol",
        deed="accept",
        end="completed",
        steps=("OFFER", "answer to OFFER", "accept", "ACCEPT", "answer to ACCEPT", "RECEIPT", "answer to RECEIPT"),
        messages=("ACCEPT", "RECEIPT"),
    ),
    "asked and declined": Course(
        payee="carol",
        deed="decline",
        end="declined",
        steps=("decline", "REJECT", "answer to REJECT", "RECEIPT", "answer to RECEIPT"),
        messages=("REJECT", "RECEIPT"),
    ),
    "asked and taken back": Course(
        payee="carol",
        deed="cancel",
        end="cancelled",
        steps=("cancel", "ABORT", "answer to ABORT"),
        messages=("ABORT",),
    ),
}


class Pair(FaultyPair):
    """The pair, and what one may ask of it while it suffers."""

    def start(self) -> None:
        super().start()
        with self.client("carol") as carol:
            carol.set_account_data(_POLICY, {"v": 1, "accept": "ask"})
        for person in self.people.values():
            self.admins[person.homeserver].issue(person.user_id, 1_000_000, CURRENCY, f"for faults: {person.name}")

    def insist(self, name: str, ask: Callable[[MatrixClient], T | None], what: str) -> T:
        """Ask as somebody until there is an answer, and bring back whoever dies meanwhile."""

        def once() -> T | None:
            self.revive()
            with self.client(name) as client:
                try:
                    return ask(client)
                except UnreachableError:
                    return None
                except MatrixError as error:
                    if error.status not in _CURABLE:
                        raise
                    return None

        return wait_until(once, timeout_s=LIMIT_S, what=what)

    def available(self, name: str) -> int:
        return self.insist(name, lambda client: client.available(CURRENCY), f"the balance of {name}")


@pytest.fixture(scope="module")
def pairs(folders: Callable[[], AbstractContextManager[Path]]) -> Iterator[Callable[[Engine], Pair]]:
    with ExitStack() as stack:
        running: dict[Engine, Pair] = {}

        def get(engine: Engine) -> Pair:
            if engine not in running:
                running[engine] = stack.enter_context(Pair(stack.enter_context(folders()), engine))
            return running[engine]

        yield get


@pytest.fixture(params=list(Engine), ids=lambda engine: engine.value)
def pair(request: pytest.FixtureRequest, pairs: Callable[[Engine], Pair]) -> Generator[Pair]:
    """A pair that is whole before each test, and whose books are right after it."""
    pair = pairs(request.param)
    pair.wire.heal()
    pair.revive()
    yield pair
    pair.wire.heal()
    pair.revive()
    _the_books_tell_one_story(pair)


@dataclass(slots=True)
class Ordered:
    """A payment under way, and what both had before it."""

    course: Course
    amount: int
    payment_id: str
    before: tuple[int, int]


def order(pair: Pair, course: Course, amount: int) -> Ordered:
    """Order a payment from alice; ask again under the same id until there is an answer, as clients do."""
    payment = Ordered(course, amount, secrets.token_hex(16), (pair.available("alice"), pair.available(course.payee)))

    def pay(alice: MatrixClient) -> Json:
        return alice.pay(pair.people[course.payee].user_id, amount, CURRENCY, payment_id=payment.payment_id)

    pair.insist("alice", pay, "an answer to the order")
    return payment


def see_to_its_end(pair: Pair, payment: Ordered) -> None:
    course, payment_id = payment.course, payment.payment_id
    payer = pair.people["alice"].user_id
    if course.deed is not None:
        who = "alice" if course.deed == "cancel" else course.payee
        query = {} if who == "alice" else {"payer": payer}

        def is_asked(client: MatrixClient) -> bool | None:
            return client.payment(payment_id, payer=payer)["state"] != "held" or None

        def act(client: MatrixClient) -> bool:
            try:
                client.superapp("POST", f"payments/{payment_id}/{course.deed}", {}, query)
            except MatrixError as error:
                if error.status != 409:
                    raise
                # What was asked for before it died was done.
            return True

        for name in ("alice", course.payee):
            pair.insist(name, is_asked, f"{course.payee} to be asked")
        pair.insist(who, act, f"{who} to {course.deed}")

    def ended(client: MatrixClient) -> Json | None:
        found = client.payment(payment_id, payer=payer)
        return found if found["state"] in FINAL_STATES else None

    for name in ("alice", course.payee):
        assert pair.insist(name, ended, f"the payment to end for {name}")["state"] == course.end


def see_the_money(pair: Pair, payment: Ordered) -> None:
    moved = payment.amount if payment.course.end == "completed" else 0
    after = (pair.available("alice"), pair.available(payment.course.payee))
    assert after == (payment.before[0] - moved, payment.before[1] + moved)
    assert pair.insist("alice", lambda alice: alice.wallet()[CURRENCY], "the wallet")["held"] == 0


def _the_books_tell_one_story(pair: Pair) -> None:
    def figures(index: int) -> tuple[int, int] | None:
        links: list[Json] = pair.admins[index].superapp("GET", "admin/links")["links"]
        (link,) = links
        if link["state"] != "open":
            return None
        (line,) = [each for each in link["currencies"] if each["currency"] == CURRENCY]
        return line["due_to_minor"], line["due_from_minor"]

    def agree() -> bool:
        one, other = figures(0), figures(1)
        return one is not None and other is not None and one == other[::-1]

    wait_until(agree, timeout_s=LIMIT_S, what="both books to agree")
    for admin in pair.admins:
        answer = admin.invariants()
        assert answer["ok"], answer


AMOUNTS: Final = count(100)
"""By its amount each payment of these tests is known in every object of it."""


def play(pair: Pair, course: Course, amount: int) -> None:
    """A whole payment, to its end on both homeservers and in both wallets."""
    payment = order(pair, course, amount)
    see_to_its_end(pair, payment)


@contextmanager
def playing(pair: Pair) -> Generator[Callable[[Course, int], None]]:
    """Starts payments that go on while the block runs. All have ended after it."""
    ends: list[Future[None]] = []
    with ThreadPoolExecutor(max_workers=16) as threads:
        yield lambda course, amount: ends.append(threads.submit(play, pair, course, amount))
        for end in ends:
            end.result(3 * LIMIT_S)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("course", COURSES.values(), ids=COURSES)
def test_a_homeserver_killed_just_before_it_commits_a_step(pair: Pair, course: Course) -> None:
    for step in course.steps:
        amount = next(AMOUNTS)
        rule = pair.points.arm("committing", step, amount_minor=amount, do=pair.kill)
        payment = order(pair, course, amount)
        see_to_its_end(pair, payment)
        rule.wait()
        pair.revive()
        see_the_money(pair, payment)


_STEPS_OF_PAYERS: Final = frozenset(
    ("place", "bind", "answer to OFFER", "answer to COMMIT", "ACCEPT", "REJECT", "RECEIPT", "cancel", "answer to ABORT")
)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", [0, 1], ids=["the payers'", "the payees'"])
def test_a_homeserver_killed_with_every_step_committed_and_nobody_told(pair: Pair, victim: int) -> None:
    """Payments stop one step further each, right after its commit; then all is lost that is not on disk."""
    steps = [
        (course, step)
        for course in COURSES.values()
        for step in course.steps
        if (step in _STEPS_OF_PAYERS) == (victim == 0)
    ]
    # Whoever waits there keeps the follower, and so all that begin later.
    steps.sort(key=lambda each: each[1] == "bind")
    before = {name: pair.available(name) for name in ("alice", "bob", "carol")}
    dead = threading.Event()
    with playing(pair) as start:
        for course, step in steps:
            amount = next(AMOUNTS)
            rule = pair.points.arm("committed", step, amount_minor=amount, do=lambda _: wait_for(dead))
            start(course, amount)
            rule.wait_until_taken()
            if course.end == "completed":
                before["alice"] -= amount
                before[course.payee] += amount
        pair.sides[victim].process.kill()
        dead.set()
    assert {name: pair.available(name) for name in before} == before


def wait_for(event: threading.Event) -> None:
    if not event.wait(LIMIT_S):
        raise TimeoutError("the test has forgotten somebody at a point")


# What the network does is the same to both databases, so each kind of harm is done on one of them.
_BOTH_WAYS: Final = [(Engine.SQLITE, "cut"), (Engine.POSTGRESQL, "silence")]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("course", COURSES.values(), ids=COURSES)
@pytest.mark.parametrize(("pair", "how"), _BOTH_WAYS, indirect=["pair"], ids=str)
def test_a_message_or_its_answer_that_is_lost(pair: Pair, course: Course, how: str) -> None:
    points = [(point, message) for message in course.messages for point in ("sending", "answering")]
    for point, message in points:
        amount = next(AMOUNTS)
        rule = pair.points.arm(point, message, amount_minor=amount, do=getattr(pair, how))
        payment = order(pair, course, amount)
        see_to_its_end(pair, payment)
        rule.wait()
        see_the_money(pair, payment)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("pair", [Engine.SQLITE], indirect=True, ids=str)
@pytest.mark.parametrize("point", ["sending", "answering"])
def test_a_pending_or_its_answer_that_is_lost(pair: Pair, point: str) -> None:
    """PENDING travels by itself only where the answer that carried it was lost, and its OFFER does not come again."""
    course, amount = COURSES["asked and taken"], next(AMOUNTS)
    lost = pair.points.arm(point, "PENDING", amount_minor=amount, do=pair.cut)

    def lose_the_answer(hit: Hit) -> None:
        pair.points.arm("sending", "OFFER", amount_minor=amount, do=lambda _: lost.wait())
        pair.cut(hit)

    pair.points.arm("answering", "OFFER", amount_minor=amount, do=lose_the_answer)
    payment = order(pair, course, amount)
    see_to_its_end(pair, payment)
    lost.wait()
    see_the_money(pair, payment)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("pair", "how"), _BOTH_WAYS, indirect=["pair"], ids=str)
@pytest.mark.parametrize("point", ["sending", "answering"])
def test_a_question_after_the_restart_or_its_answer_that_is_lost(pair: Pair, point: str, how: str) -> None:
    """Nothing is signed before HEAD? has been answered."""
    rule = pair.points.arm(point, "HEAD?", do=getattr(pair, how))
    pair.sides[0].process.kill()
    payment = order(pair, COURSES["taken at once"], next(AMOUNTS))
    rule.wait()
    see_to_its_end(pair, payment)
    see_the_money(pair, payment)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("pair", [Engine.POSTGRESQL], indirect=True, ids=str)
@pytest.mark.parametrize("point", ["sending", "answering"])
def test_a_question_for_what_is_missing_or_its_answer_that_is_lost(pair: Pair, point: str) -> None:
    """The first OFFER is late, so that the second leaves a gap before it."""
    course, amount = COURSES["taken at once"], next(AMOUNTS)
    overtaken = threading.Event()
    late = pair.points.arm("sending", "OFFER", amount_minor=amount, do=lambda _: wait_for(overtaken))
    lost = pair.points.arm(point, "RANGE?", do=pair.cut)
    answered = pair.points.arm("committed", "answer to RANGE?", do=lambda _: None)
    with playing(pair) as start:
        start(course, amount)
        late.wait_until_taken()
        play(pair, course, next(AMOUNTS))
        lost.wait()
        answered.wait()
        overtaken.set()


_CRASHES: Final = 3
_PAYMENTS_PER_CRASH: Final = 6


@pytest.mark.timeout(600)
@pytest.mark.parametrize("pair", [Engine.POSTGRESQL], indirect=True, ids=["postgresql"])
def test_a_database_that_crashes_again_and_again_under_payments(pair: Pair) -> None:
    """PostgreSQL ends at once, with all connections and whatever was not yet committed, and recovers."""
    ways = (("alice", "bob"), ("bob", "alice"), ("dave", "bob"), ("bob", "dave"))
    names = ("alice", "bob", "dave")
    before = {name: pair.available(name) for name in names}
    ordered: list[tuple[str, str, int, str]] = []
    over = threading.Event()

    def pay_on(payer: str, payee: str) -> None:
        while not over.is_set():
            amount, payment_id = next(AMOUNTS), secrets.token_hex(16)
            ordered.append((payer, payee, amount, payment_id))
            pair.insist(payer, partial(_pay, pair.people[payee].user_id, amount, payment_id), "an answer to the order")

    with ThreadPoolExecutor(max_workers=len(ways)) as threads:
        payers = [threads.submit(pay_on, *way) for way in ways]
        try:
            for crash in range(1, _CRASHES + 1):
                enough = crash * _PAYMENTS_PER_CRASH
                wait_until(partial(_has, ordered, enough), timeout_s=LIMIT_S, what=f"{enough} payments")
                pair.postgres.crash()
                pair.postgres.start()
        finally:
            over.set()
        for each in payers:
            each.result(LIMIT_S)
    for payer, payee, amount, payment_id in ordered:
        for name in (payer, payee):
            assert pair.insist(name, partial(_ended, payment_id, pair.people[payer].user_id), "its end") == "completed"
        before[payer] -= amount
        before[payee] += amount
    assert {name: pair.available(name) for name in names} == before


def _has(found: Sized, enough: int) -> bool:
    return len(found) >= enough


def _pay(payee: str, amount: int, payment_id: str, payer: MatrixClient) -> Json:
    return payer.pay(payee, amount, CURRENCY, payment_id=payment_id)


def _ended(payment_id: str, payer: str, viewer: MatrixClient) -> str | None:
    state = str(viewer.payment(payment_id, payer=payer)["state"])
    return state if state in FINAL_STATES else None


_ENOUGH_TO_FILL_PAGES: Final = 400


@pytest.mark.timeout(600)
def test_a_full_disk_is_said_and_what_was_under_way_goes_on_once_there_is_room(pair: Pair) -> None:
    """The payer's homeserver cannot grow its database any more, in the middle of payments in both directions."""
    if pair.disk is None:
        pytest.skip("no file system may be mounted here, so none can be filled (docker: --cap-add SYS_ADMIN)")
    names = ("alice", "bob")
    before = {name: pair.available(name) for name in names}
    asked: list[tuple[str, str, int, str]] = []
    codes: set[str] = set()
    pair.disk.fill()
    with pair.client("alice") as alice, pair.client("bob") as bob:
        for _ in range(_ENOUGH_TO_FILL_PAGES):
            for payer, payee, client in (("alice", "bob", alice), ("bob", "alice", bob)):
                amount, payment_id = next(AMOUNTS), secrets.token_hex(16)
                asked.append((payer, payee, amount, payment_id))
                try:
                    _pay(pair.people[payee].user_id, amount, payment_id, client)
                except MatrixError as error:
                    codes.add(error.errcode)
            if "ORG.SUPERAPP.DISK_FULL" in codes:
                break
        # Its hold may still find room where its event does not, so this one too is asked again below.
        asked.append(("alice", "bob", next(AMOUNTS), secrets.token_hex(16)))
        with pytest.raises(MatrixError) as refusal:
            _pay(pair.people["bob"].user_id, asked[-1][2], asked[-1][3], alice)
        assert (refusal.value.status, refusal.value.errcode) == (503, "ORG.SUPERAPP.DISK_FULL")
        assert "disk" in refusal.value.error
    pair.disk.make_room()
    for payer, payee, amount, payment_id in asked:
        pair.insist(payer, partial(_pay, pair.people[payee].user_id, amount, payment_id), "an answer to the order")
        for name in (payer, payee):
            end = pair.insist(name, partial(_ended, payment_id, pair.people[payer].user_id), "its end")
            assert end in ("completed", "failed", "expired")
        if end == "completed":
            before[payer] -= amount
            before[payee] += amount
    assert {name: pair.available(name) for name in names} == before
