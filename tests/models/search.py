"""Exhaustive search: all states that a system can reach from one, and what can be reached from each of them."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Generic[S]):
    """Something that may happen next: who acts (``A``, ``B``), what happens, and the state after it."""

    actor: str
    what: str
    after: S


class Violated(AssertionError):
    """A state that must not be. ``str()`` says what is wrong and the shortest way to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explored(Generic[S]):
    """All reachable states by their key, breadth first, with what may happen in each."""

    states: dict[Hashable, S]
    steps: dict[Hashable, tuple[tuple[str, Hashable], ...]]
    came_from: dict[Hashable, tuple[Hashable, str]]

    def trace(self, key: Hashable) -> str:
        """The shortest way to a state."""
        lines: list[str] = []
        while key in self.came_from:
            key, line = self.came_from[key]
            lines.append(line)
        return "\n  ".join(reversed(lines))

    def cannot_reach(self, goal: Callable[[S], bool], actors: Iterable[str]) -> list[Hashable]:
        """The states from which no state of ``goal`` can be reached by what these actors do."""
        allowed = frozenset(actors)
        before: dict[Hashable, list[Hashable]] = {}
        for key, steps in self.steps.items():
            for actor, after in steps:
                if actor in allowed:
                    before.setdefault(after, []).append(key)
        waiting = [key for key, state in self.states.items() if goal(state)]
        good = set(waiting)
        while waiting:
            for key in before.get(waiting.pop(), ()):
                if key not in good:
                    good.add(key)
                    waiting.append(key)
        return [key for key in self.states if key not in good]


def explore(
    start: S,
    *,
    key_of: Callable[[S], Hashable],
    steps_of: Callable[[S], Iterable[Step[S]]],
    check: Callable[[S], Iterable[str]],
    at_most: int,
) -> Explored[S]:
    """Visit every state that can be reached from ``start``, the nearest first, and check each.

    States with one key count as one; the first that is found stands for all. ``at_most`` is a guard against a key that
    tells states apart which behave alike.

    Raises:
        Violated: ``check`` found something.
    """
    first = key_of(start)
    found: Explored[S] = Explored(states={first: start}, steps={}, came_from={})
    waiting = deque([first])
    while waiting:
        key = waiting.popleft()
        state = found.states[key]
        for wrong in check(state):
            raise Violated(f"{wrong}; it happens by\n  {found.trace(key)}")
        steps: list[tuple[str, Hashable]] = []
        for step in steps_of(state):
            after = key_of(step.after)
            if after == key:
                continue
            steps.append((step.actor, after))
            if after not in found.states:
                found.states[after] = step.after
                found.came_from[after] = (key, f"{step.actor}: {step.what}")
                waiting.append(after)
        found.steps[key] = tuple(steps)
        if len(found.states) > at_most:
            raise Violated(f"more than {at_most} states; the last is reached by\n  {found.trace(key)}")
    return found
