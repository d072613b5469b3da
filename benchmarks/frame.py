"""What a benchmark gets and what it gives: a module of benchmarks has ``NAMES``, and ``run(context)`` yields rows.

A figure is compared with a yardstick that is measured in the same run, in turns with it, so that a slow or busy machine
slows both. Values are medians of at least three rounds.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

_TOP: Final = Path(__file__).resolve().parent.parent
YARDSTICKS: Final = _TOP / "benchmarks" / "yardsticks"
RESULT: Final = _TOP / "build" / "bench.json"


class Goal(NamedTuple):
    comparison: Literal["<=", ">="]
    bound: float

    @staticmethod
    def parse(text: str) -> "Goal":
        """Read ``<= 1.05``, ``>= 2`` or ``<= 300 s``."""
        comparison, _, rest = text.partition(" ")
        if comparison not in ("<=", ">="):
            raise ValueError(f"a goal begins with <= or >=, not {text!r}")
        return Goal("<=" if comparison == "<=" else ">=", float(rest.split()[0]))

    def met_by(self, figure: float) -> bool:
        return figure <= self.bound if self.comparison == "<=" else figure >= self.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the result. The goal is about the ratio, or about the value where there is no yardstick.

    A figure for the reader alone has none.
    """

    name: str
    value: float
    unit: str
    yardstick: str | None
    yardstick_value: float | None
    goal: str | None
    n: int
    """Measurements that ``value`` stands for."""

    @property
    def ratio(self) -> float | None:
        return None if self.yardstick_value is None else self.value / self.yardstick_value

    @property
    def goal_met(self) -> bool | None:
        if self.goal is None:
            return None
        return Goal.parse(self.goal).met_by(self.value if self.ratio is None else self.ratio)

    def to_json(self) -> dict[str, str | float | int | None]:
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "yardstick": self.yardstick,
            "yardstick_value": self.yardstick_value,
            "ratio": self.ratio,
            "goal": self.goal,
            "n": self.n,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """``folder`` is an empty one for data, removed at the end; ``only`` the beginning of the names that are wanted."""

    folder: Path
    only: str = ""

    def wants(self, name: str) -> bool:
        return name.startswith(self.only)

    def say(self, line: str) -> None:
        print(f"bench: {line}", file=sys.stderr, flush=True)


def table(rows: Sequence[Row]) -> str:
    """The rows for people."""
    heading = ("name", "value", "unit", "yardstick", "ratio", "goal", "met", "n")
    lines = [heading, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        _figure(row.value),
        row.unit,
        "" if row.yardstick_value is None else _figure(row.yardstick_value),
        "" if row.ratio is None else f"{row.ratio:.2f}",
        row.goal or "",
        "" if row.goal_met is None else "yes" if row.goal_met else "no",
        str(row.n),
    )


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
