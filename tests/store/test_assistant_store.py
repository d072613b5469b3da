"""What the assistant remembers: rooms, tasks and questions, on both databases."""

from collections.abc import Callable

import pytest

from super_app.assistant import store
from super_app.assistant.model import QUESTION_MS, Kind, Task, TaskId
from super_app.db import Transaction
from super_app.ids import RoomId, UserId

pytestmark = pytest.mark.packages("super_app.accounts", "super_app.assistant")

ALICE, BOB = UserId("@alice:hs1.test"), UserId("@bob:hs1.test")
FIRST, SECOND = RoomId("!first:hs1.test"), RoomId("!second:hs1.test")
NOW_MS = 1_700_000_000_000


def task(name: str, *, user_id: UserId = ALICE, due_ms: int = NOW_MS, kind: Kind = Kind.NEWS, made_ms: int = 0) -> Task:
    return Task(
        task_id=TaskId(name),
        user_id=user_id,
        kind=kind,
        content={"says": "grüß dich ✓"},
        made_ms=made_ms,
        due_ms=due_ms,
    )


def add(transaction: Transaction, *tasks: Task) -> int:
    return transaction(lambda cur: store.add(cur, tasks))


def due(transaction: Transaction, user_id: UserId = ALICE, now_ms: int = NOW_MS) -> list[str]:
    return [each.task_id for each in transaction(lambda cur: store.due_tasks(cur, user_id, now_ms, 10))]


class TestAccount:
    def test_it_is_ours_from_the_note_until_it_is_taken_back(self, transaction: Transaction) -> None:
        assert not transaction(lambda cur: store.is_ours(cur, "assistant"))
        transaction(lambda cur: store.note_account(cur, "assistant", NOW_MS))
        transaction(lambda cur: store.note_account(cur, "assistant", NOW_MS + 1))
        assert transaction(lambda cur: store.is_ours(cur, "assistant"))
        assert not transaction(lambda cur: store.is_ours(cur, "helper"))
        transaction(lambda cur: store.forget_account(cur, "assistant"))
        assert not transaction(lambda cur: store.is_ours(cur, "assistant"))


class TestRooms:
    def test_a_person_has_one_own_room_and_a_new_one_takes_its_place(self, transaction: Transaction) -> None:
        def put(room_id: RoomId, *, own: bool) -> None:
            transaction(lambda cur: store.put_room(cur, room_id, ALICE, NOW_MS, own=own))

        put(FIRST, own=True)
        put(SECOND, own=False)
        assert transaction(lambda cur: store.own_room(cur, ALICE)) == FIRST
        put(SECOND, own=True)
        assert transaction(lambda cur: store.own_room(cur, ALICE)) == SECOND
        former = transaction(lambda cur: store.room(cur, FIRST))
        assert former is not None
        assert not former.own
        transaction(lambda cur: store.forget_room(cur, SECOND))
        assert transaction(lambda cur: store.own_room(cur, ALICE)) is None
        assert transaction(lambda cur: store.own_room(cur, BOB)) is None


class TestTasks:
    def test_the_same_thing_is_noted_once(self, transaction: Transaction) -> None:
        assert add(transaction, task("a"), task("b")) == 2
        later = task("a", due_ms=NOW_MS + 1)
        assert add(transaction, later, task("c")) == 1
        assert due(transaction) == ["a", "b", "c"]
        (first, *_) = transaction(lambda cur: store.due_tasks(cur, ALICE, NOW_MS, 10))
        assert first == task("a")

    def test_people_come_by_what_is_due_longest_and_tasks_in_the_order_they_were_made(
        self, transaction: Transaction
    ) -> None:
        add(
            transaction,
            task("late", made_ms=2, due_ms=NOW_MS - 9),
            task("early", made_ms=1),
            task("not yet", due_ms=NOW_MS + 1),
            task("bobs", user_id=BOB, due_ms=NOW_MS - 20),
        )
        assert transaction(lambda cur: store.due_users(cur, NOW_MS, 10)) == (BOB, ALICE)
        assert transaction(lambda cur: store.due_users(cur, NOW_MS, 1)) == (BOB,)
        assert due(transaction) == ["early", "late"]
        assert transaction(store.next_due_ms) == NOW_MS - 20

    @pytest.mark.runs_once
    def test_of_two_who_take_a_task_one_has_it(self, transaction: Transaction) -> None:
        add(transaction, task("a"))
        (seen,) = transaction(lambda cur: store.due_tasks(cur, ALICE, NOW_MS, 10))
        assert transaction(lambda cur: store.take(cur, seen, NOW_MS + 60))
        assert not transaction(lambda cur: store.take(cur, seen, NOW_MS + 60))
        assert due(transaction) == []
        assert due(transaction, now_ms=NOW_MS + 60) == ["a"]

    def test_two_at_once_do_not_both_take_a_task(self, two_connections: tuple[Transaction, Transaction]) -> None:
        here, there = two_connections
        add(here, task("a"))
        (seen,) = there(lambda cur: store.due_tasks(cur, ALICE, NOW_MS, 10))
        taken = [each(lambda cur: store.take(cur, seen, NOW_MS + 60)) for each in (here, there)]
        assert sorted(taken) == [False, True]

    def test_what_is_done_stays_known_until_it_is_old(self, transaction: Transaction) -> None:
        add(transaction, task("a", made_ms=5), task("open", made_ms=5))
        transaction(lambda cur: store.done(cur, TaskId("a")))
        assert due(transaction) == ["open"]
        # Nothing brings it back.
        transaction(lambda cur: store.put_off(cur, TaskId("a"), NOW_MS))
        assert add(transaction, task("a")) == 0
        assert due(transaction) == ["open"]
        transaction(lambda cur: store.forget_done(cur, 5))
        assert transaction(lambda cur: store.knows(cur, TaskId("a")))
        transaction(lambda cur: store.forget_done(cur, 6))
        assert not transaction(lambda cur: store.knows(cur, TaskId("a")))
        assert transaction(lambda cur: store.knows(cur, TaskId("open")))

    @pytest.mark.runs_once
    def test_an_order_is_undone_until_it_has_begun(self, transaction: Transaction) -> None:
        orders = [task(name, kind=Kind.ORDER, made_ms=made) for name, made in (("old", 1), ("new", 2), ("begun", 3))]
        add(transaction, *orders, task("news"))
        assert transaction(lambda cur: store.take(cur, orders[2], NOW_MS + 60))
        waiting = transaction(lambda cur: store.waiting_orders(cur, ALICE))
        assert [each.task_id for each in waiting] == ["new", "old"]
        assert transaction(lambda cur: store.undo(cur, TaskId("new")))
        assert not transaction(lambda cur: store.undo(cur, TaskId("new")))
        assert not transaction(lambda cur: store.undo(cur, TaskId("begun")))
        assert due(transaction) == ["news", "old"]


class TestQuestions:
    @pytest.fixture
    def asked(self, transaction: Transaction) -> Callable[[int], object]:
        def look(now_ms: int) -> object:
            found = transaction(lambda cur: store.question(cur, ALICE, now_ms))
            return None if found is None else found.content

        return look

    def test_the_last_one_counts_for_a_while(self, transaction: Transaction, asked: Callable[[int], object]) -> None:
        assert asked(NOW_MS) is None
        for content in ({"ask": "person"}, {"ask": "confirm", "people": ["@é:hs1.test"]}):
            transaction(lambda cur, content=content: store.ask(cur, ALICE, content, NOW_MS))  # type: ignore[misc]
        assert asked(NOW_MS + QUESTION_MS - 1) == {"ask": "confirm", "people": ["@é:hs1.test"]}
        assert asked(NOW_MS + QUESTION_MS) is None
        transaction(lambda cur: store.ask_nothing(cur, ALICE))
        assert asked(NOW_MS) is None
