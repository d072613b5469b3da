"""SQL of the assistant."""

import json
from collections.abc import Sequence
from typing import Final, LiteralString

from super_app.assistant.model import QUESTION_MS, Kind, OwnRoom, Question, Task, TaskId
from super_app.db import Cursor, Row
from super_app.ids import RoomId, ServerName, UserId

_TASK: Final = "task_id, user_id, kind, content, made_ms, due_ms, attempts"

FOLLOWED: Final[LiteralString] = (
    "(events.type IN ('m.room.message', 'm.room.encrypted', 'm.room.member') AND EXISTS ("
    "SELECT 1 FROM superapp_assistant_room room WHERE room.room_id = events.room_id))"
    " OR (events.type = 'm.room.member' AND events.state_key = ?)"
    " OR (events.type = 'm.room.message' AND events.sender LIKE ? AND EXISTS ("
    "SELECT 1 FROM event_json source WHERE source.event_id = events.event_id"
    " AND source.json LIKE ?))"
)
"""Which of Synapse's events concern the assistant: what is said in its rooms, who invites it, and what local people
begin with ``!`` elsewhere. Its parameters are ``followed_by``."""


def followed_by(assistant: UserId, server: ServerName) -> tuple[str, str, str]:
    # Synapse writes events without spaces (canonical JSON).
    return assistant, f"%:{server}", '%"body":"!%'


# The account.


def is_ours(cur: Cursor, localpart: str) -> bool:
    cur.execute("SELECT 1 FROM superapp_assistant_account WHERE localpart = ?", (localpart,))
    return cur.fetchone() is not None


def note_account(cur: Cursor, localpart: str, now_ms: int) -> None:
    cur.execute(
        "INSERT INTO superapp_assistant_account (localpart, made_ms) VALUES (?, ?) ON CONFLICT (localpart) DO NOTHING",
        (localpart, now_ms),
    )


def forget_account(cur: Cursor, localpart: str) -> None:
    cur.execute("DELETE FROM superapp_assistant_account WHERE localpart = ?", (localpart,))


# Rooms.


def room(cur: Cursor, room_id: RoomId) -> OwnRoom | None:
    cur.execute("SELECT room_id, user_id, own FROM superapp_assistant_room WHERE room_id = ?", (room_id,))
    row = cur.fetchone()
    return None if row is None else _room(row)


def own_room(cur: Cursor, user_id: UserId) -> RoomId | None:
    cur.execute("SELECT room_id FROM superapp_assistant_room WHERE user_id = ? AND own = 1", (user_id,))
    row = cur.fetchone()
    return None if row is None else RoomId(str(row[0]))


def put_room(cur: Cursor, room_id: RoomId, user_id: UserId, now_ms: int, *, own: bool) -> None:
    """Remember a room. A new own one takes the place of the one before."""
    if own:
        cur.execute("UPDATE superapp_assistant_room SET own = 0 WHERE user_id = ? AND own = 1", (user_id,))
    cur.execute(
        "INSERT INTO superapp_assistant_room (room_id, user_id, own, since_ms) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (room_id) DO UPDATE SET user_id = excluded.user_id, own = excluded.own",
        (room_id, user_id, int(own), now_ms),
    )


def forget_room(cur: Cursor, room_id: RoomId) -> None:
    cur.execute("DELETE FROM superapp_assistant_room WHERE room_id = ?", (room_id,))


# Tasks.


def add(cur: Cursor, tasks: Sequence[Task]) -> int:
    """Add tasks; those that are known stay as they are. How many are new."""
    added = 0
    for task in tasks:
        cur.execute(
            "INSERT INTO superapp_assistant_task (task_id, user_id, kind, content, made_ms, due_ms, attempts)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (task_id) DO NOTHING",
            (
                task.task_id,
                task.user_id,
                task.kind,
                json.dumps(dict(task.content)),
                task.made_ms,
                task.due_ms,
                task.attempts,
            ),
        )
        added += cur.rowcount
    return added


def due_users(cur: Cursor, now_ms: int, limit: int) -> tuple[UserId, ...]:
    cur.execute(
        "SELECT user_id, MIN(due_ms) FROM superapp_assistant_task WHERE due_ms <= ?"
        " GROUP BY user_id ORDER BY MIN(due_ms), user_id LIMIT ?",
        (now_ms, limit),
    )
    return tuple(UserId(str(row[0])) for row in cur.fetchall())


def due_tasks(cur: Cursor, user_id: UserId, now_ms: int, limit: int) -> tuple[Task, ...]:
    """What is due for a person, in order."""
    cur.execute(
        "SELECT " + _TASK + " FROM superapp_assistant_task WHERE user_id = ? AND due_ms <= ?"
        " ORDER BY made_ms, task_id LIMIT ?",
        (user_id, now_ms, limit),
    )
    return tuple(_task(row) for row in cur.fetchall())


def next_due_ms(cur: Cursor) -> int | None:
    cur.execute("SELECT MIN(due_ms) FROM superapp_assistant_task WHERE due_ms IS NOT NULL")
    row = cur.fetchone()
    return None if row is None or row[0] is None else int(row[0])


def take(cur: Cursor, task: Task, until_ms: int) -> bool:
    """Begin a task, which nobody else begins until ``until_ms``. False if it is no longer as ``task`` says."""
    cur.execute(
        "UPDATE superapp_assistant_task SET due_ms = ?, attempts = attempts + 1"
        " WHERE task_id = ? AND due_ms = ? AND attempts = ?",
        (until_ms, task.task_id, task.due_ms, task.attempts),
    )
    return cur.rowcount == 1


def put_off(cur: Cursor, task_id: TaskId, due_ms: int) -> None:
    cur.execute(
        "UPDATE superapp_assistant_task SET due_ms = ? WHERE task_id = ? AND due_ms IS NOT NULL", (due_ms, task_id)
    )


def done(cur: Cursor, task_id: TaskId) -> None:
    cur.execute("UPDATE superapp_assistant_task SET due_ms = NULL WHERE task_id = ?", (task_id,))


def waiting_orders(cur: Cursor, user_id: UserId) -> tuple[Task, ...]:
    """Payments of a person that have not begun, newest first."""
    cur.execute(
        "SELECT " + _TASK + " FROM superapp_assistant_task WHERE user_id = ? AND due_ms IS NOT NULL"
        " AND kind = 'order' AND attempts = 0 ORDER BY made_ms DESC, task_id",
        (user_id,),
    )
    return tuple(_task(row) for row in cur.fetchall())


def undo(cur: Cursor, task_id: TaskId) -> bool:
    """Stop an order that has not begun. False if it has."""
    cur.execute(
        "UPDATE superapp_assistant_task SET due_ms = NULL WHERE task_id = ? AND due_ms IS NOT NULL AND attempts = 0",
        (task_id,),
    )
    return cur.rowcount == 1


def knows(cur: Cursor, task_id: TaskId) -> bool:
    cur.execute("SELECT 1 FROM superapp_assistant_task WHERE task_id = ?", (task_id,))
    return cur.fetchone() is not None


def forget_done(cur: Cursor, before_ms: int) -> None:
    cur.execute("DELETE FROM superapp_assistant_task WHERE due_ms IS NULL AND made_ms < ?", (before_ms,))


# Questions.


def question(cur: Cursor, user_id: UserId, now_ms: int) -> Question | None:
    """What a person was asked last, while an answer still counts."""
    cur.execute("SELECT content, asked_ms FROM superapp_assistant_question WHERE user_id = ?", (user_id,))
    row = cur.fetchone()
    if row is None or int(row[1] or 0) <= now_ms - QUESTION_MS:
        return None
    return Question(content=json.loads(str(row[0])), asked_ms=int(row[1] or 0))


def ask(cur: Cursor, user_id: UserId, content: object, now_ms: int) -> None:
    cur.execute(
        "INSERT INTO superapp_assistant_question (user_id, content, asked_ms) VALUES (?, ?, ?)"
        " ON CONFLICT (user_id) DO UPDATE SET content = excluded.content, asked_ms = excluded.asked_ms",
        (user_id, json.dumps(content), now_ms),
    )


def ask_nothing(cur: Cursor, user_id: UserId) -> None:
    cur.execute("DELETE FROM superapp_assistant_question WHERE user_id = ?", (user_id,))


def _room(row: Row) -> OwnRoom:
    return OwnRoom(room_id=RoomId(str(row[0])), user_id=UserId(str(row[1])), own=bool(row[2]))


def _task(row: Row) -> Task:
    return Task(
        task_id=TaskId(str(row[0])),
        user_id=UserId(str(row[1])),
        kind=Kind(str(row[2])),
        content=json.loads(str(row[3])),
        made_ms=int(row[4] or 0),
        due_ms=int(row[5] or 0),
        attempts=int(row[6] or 0),
    )


def erase_person(cur: Cursor, user_id: UserId) -> int:
    """Forget what somebody said to the assistant and was about to be told; how much. Its room is Synapse's."""
    cur.execute("DELETE FROM superapp_assistant_task WHERE user_id = ?", (user_id,))
    erased = cur.rowcount
    cur.execute("DELETE FROM superapp_assistant_question WHERE user_id = ?", (user_id,))
    return erased + cur.rowcount
