"""What the assistant has to do, and what it waits to hear."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NewType

from super_app.ids import RoomId, UserId

TaskId = NewType("TaskId", str)
"""Says what the task is about, so that the same thing makes the same task however often it is heard of."""

KEPT_MS: Final = 7 * 86_400_000
"""How long a task that is done is remembered."""
QUESTION_MS: Final = 600_000
"""How long an answer to a question counts as one."""
ATTEMPTS_MAX: Final = 12


class Kind(StrEnum):
    HEARD = "heard"  # somebody wrote something
    GREET = "greet"
    ORDER = "order"  # a payment that can still be undone until it is due
    NEWS = "news"  # something happened that its person should know
    MESSAGE = "message"  # to be sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One thing to do for a person. ``attempts`` counts those that were begun."""

    task_id: TaskId
    user_id: UserId
    kind: Kind
    content: Mapping[str, Any]
    made_ms: int
    due_ms: int
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a person was asked. ``content`` is what to go on with when they answer."""

    content: Mapping[str, Any]
    asked_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRoom:
    room_id: RoomId
    user_id: UserId
    own: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What becomes of a task once it is done: further tasks, and a question. ``question`` None asks nothing more."""

    tasks: tuple[Task, ...] = ()
    question: Mapping[str, Any] | None = None
    keeps_question: bool = False
    """Whether what was asked before is still waited for."""
