"""Does what the assistant has to do, person by person, in the one process that follows events.

Each task is begun by one process, and done once it and what follows from it are written in one transaction. One that
fails, or whose process dies, is begun again: the ids of what it orders are its own, so nothing is paid twice.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

from super_app.assistant import store
from super_app.assistant.model import ATTEMPTS_MAX, KEPT_MS, Kind, Outcome, Task
from super_app.db import Cursor
from super_app.ids import UserId
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_TICK_MS: Final = 500.0
_RELOAD_MS: Final = 5_000
"""Other processes write down who registered; that is found after this long."""
_LEASE_MS: Final = 120_000
_AT_ONCE: Final = 16
_PAGE: Final = 20
_PAUSES_MS: Final = (1_000, 5_000, 30_000, 120_000, 600_000)
_FORGET_MS: Final = 3_600_000.0

Doer = Callable[[Sequence[Task]], Awaitable[Outcome]]
"""Does tasks of one kind and person, in order: as many as it is given."""


class Tasks:
    def __init__(self, runtime: Runtime, doers: Mapping[Kind, Doer], together: frozenset[Kind]) -> None:
        """``together`` are the kinds of which all that is due is done at once."""
        self._runtime = runtime
        self._doers = doers
        self._together = together
        self._next_ms = 0
        self._reload_ms = 0
        self._looking = False
        self._again = False
        self._serving: set[UserId] = set()

    def start(self) -> None:
        """Look regularly, in whatever process; only the one that follows finds something to do."""
        api = self._runtime.api
        api.looping_background_call(self._tick, _TICK_MS, desc="superapp_assistant", run_on_all_instances=True)
        api.looping_background_call(self._forget, _FORGET_MS, desc="superapp_assistant_forget")

    def begin(self) -> None:
        """This process follows from now on."""
        self._next_ms = self._reload_ms = 0

    async def add(self, tasks: tuple[Task, ...]) -> None:
        """Write tasks down, and see to those that are due."""
        if not tasks:
            return
        if await self._runtime.database.run("assistant_add", lambda cur: store.add(cur, tasks)):
            self.noted(min(task.due_ms for task in tasks))

    def noted(self, due_ms: int) -> None:
        """Something was written down that is due then."""
        self._next_ms = min(self._next_ms, due_ms)
        if due_ms <= self._runtime.now_ms() and self._runtime.follower.follows:
            self._look_soon()

    async def _tick(self) -> None:
        now_ms = self._runtime.now_ms()
        if self._runtime.follower.follows and now_ms >= min(self._next_ms, self._reload_ms):
            self._look_soon()

    def _look_soon(self) -> None:
        self._again = True
        if not self._looking:
            self._looking = True
            self._runtime.api.run_as_background_process("superapp_assistant_look", self._look)

    async def _look(self) -> None:
        try:
            while self._again and self._runtime.follower.follows:
                self._again = False
                now_ms = self._runtime.now_ms()
                self._next_ms = self._reload_ms = now_ms + _RELOAD_MS
                due_ms = await self._runtime.database.run("assistant_next_due", store.next_due_ms)
                if due_ms is None:
                    continue
                if due_ms > now_ms:
                    self._next_ms = min(self._next_ms, due_ms)
                    continue
                for user_id in await self._runtime.database.run(
                    "assistant_due_users", partial(store.due_users, now_ms=now_ms, limit=_AT_ONCE * 2)
                ):
                    if user_id not in self._serving and len(self._serving) < _AT_ONCE:
                        self._serving.add(user_id)
                        self._runtime.api.run_as_background_process("superapp_assistant_serve", self._serve, user_id)
        finally:
            self._looking = False

    async def _serve(self, user_id: UserId) -> None:
        """Do all that is due for a person, one after the other."""
        try:
            while self._runtime.follower.follows and await self._serve_some(user_id):
                pass
        except Exception:
            logger.exception("Serving %s failed; what is due stays so", user_id)
        finally:
            self._serving.discard(user_id)
            # Meanwhile something may have become due, and others may have waited for their turn.
            self._next_ms = min(self._next_ms, self._runtime.now_ms() + int(_TICK_MS))

    async def _serve_some(self, user_id: UserId) -> bool:
        now_ms = self._runtime.now_ms()
        due = await self._runtime.database.run(
            "assistant_due", lambda cur: store.due_tasks(cur, user_id, now_ms, _PAGE)
        )
        if not due:
            return False
        first = due[0]
        group = [task for task in due if task.kind is first.kind] if first.kind in self._together else [first]
        taken = await self._runtime.database.run(
            "assistant_take", lambda cur: [task for task in group if store.take(cur, task, now_ms + _LEASE_MS)]
        )
        if taken:
            await self._do(taken)
        return True

    async def _do(self, tasks: Sequence[Task]) -> None:
        try:
            outcome = await self._doers[tasks[0].kind](tasks)
        except Exception as error:  # noqa: BLE001 - whatever it was, it is tried again and seen
            if self._runtime.follower.follows:
                await self._failed(tasks, error)
            return
        now_ms = self._runtime.now_ms()

        def finish(cur: Cursor) -> None:
            store.add(cur, outcome.tasks)
            for task in tasks:
                store.done(cur, task.task_id)
            user_id = tasks[0].user_id
            if outcome.question is not None:
                store.ask(cur, user_id, dict(outcome.question), now_ms)
            elif not outcome.keeps_question:
                store.ask_nothing(cur, user_id)

        await self._runtime.database.run("assistant_done", finish)

    async def _failed(self, tasks: Sequence[Task], error: Exception) -> None:
        now_ms = self._runtime.now_ms()
        for task in tasks:
            if task.attempts + 1 >= ATTEMPTS_MAX:
                logger.error("%s could not be done and is given up", task.task_id, exc_info=error)
                await self._runtime.database.run("assistant_give_up", partial(store.done, task_id=task.task_id))
                continue
            logger.warning("%s could not be done and is tried again", task.task_id, exc_info=error)
            due_ms = now_ms + _PAUSES_MS[min(task.attempts, len(_PAUSES_MS) - 1)]
            await self._runtime.database.run(
                "assistant_put_off", partial(store.put_off, task_id=task.task_id, due_ms=due_ms)
            )

    async def _forget(self) -> None:
        before_ms = self._runtime.now_ms() - KEPT_MS
        await self._runtime.database.run("assistant_forget", lambda cur: store.forget_done(cur, before_ms))
