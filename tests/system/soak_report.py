"""What a soak found: lines for a terminal, a page with plots, docs/soak.md.

The page is HTML with SVG in it, and nothing from elsewhere.
"""

import math
import os
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

from soak_people import DEEDS

from benchmarks.memory import Slope, slope

if TYPE_CHECKING:
    from soak import Look, Outcome, Verdict

_WIDTH: Final = 900
_HEIGHT: Final = 240
_LEFT: Final = 60
_BOTTOM: Final = 26
_COLOURS: Final = ("#1f6feb", "#d1571f", "#2a8a4a", "#8a3ffc", "#b8860b", "#c2185b", "#00838f", "#5d4037")
_LIFE_MIN: Final = 60
"""How many looks at a process, a second apart, its slope takes."""
_RESAMPLES: Final = 1_000
_ERROR_SLOT_S: Final = 5.0
_ABOUT_SLOPES: Final = (
    "How fast each process grows in the second half of its longest life, with the 95 % interval. What was started "
    "again fills its caches anew, so this is no verdict; the comparison above is."
)
_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#1b1b1b;background:#fff}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}table{border-collapse:collapse}
td,th{padding:.2em .8em .2em 0;text-align:left;vertical-align:top}
td.n,th.n{text-align:right}.no{color:#b00020;font-weight:600}.yes{color:#1b6e35;font-weight:600}
svg text{font:11px system-ui,sans-serif;fill:#555}code{font-size:.92em}
"""


def lines(outcome: "Outcome") -> list[str]:
    found = [
        f"{'wrong' if verdict.wrong else 'holds'}  {verdict.name} ({verdict.looked_at})" for verdict in outcome.verdicts
    ]
    found += [f"       {each}" for verdict in outcome.verdicts for each in verdict.wrong]
    found += [f"{count:6d}  errors in logs: {cause}" for cause, count in outcome.causes.most_common()]
    found += [f"{count:6d}  asked again: {what}" for what, count in _hindrances(outcome).most_common(12)]
    found += [_deed_line(deed, took) for deed, took in _latencies(outcome).items() if took]
    found += [f"{took_s:6.0f}  s {name}" for name, took_s in outcome.took_s.items()]
    found += [_memory_line(process, found_slope) for process, found_slope in memory_slopes(outcome.looks).items()]
    return found


def page(outcome: "Outcome") -> str:
    size = outcome.size
    verdicts = "".join(_verdict(each) for each in outcome.verdicts)
    parts = [
        f"<h1>Soak: {size.people} people, {size.minutes:g} minutes</h1>",
        f"<p><code>{escape(command_of(outcome))}</code></p>",
        _about(outcome),
        "<h2>What must hold</h2>",
        f"<table><tr><th></th><th></th><th>looked at</th></tr>{verdicts}</table>",
        "<h2>What was broken, and how long people waited</h2>",
        latency_plot(outcome),
        _table(
            ("after", "what", "where", "mended after"),
            [(f"{f.at_s:.0f} s", f.kind, f.what, f"{f.until_s - f.at_s:.0f} s") for f in outcome.faults],
        ),
        "<h2>Answers</h2>",
        _table(
            ("deed", "answers", "p50", "p95", "slowest"),
            [
                (
                    deed,
                    str(len(took)),
                    *(f"{value * 1000:.0f} ms" for value in (_at(took, 0.5), _at(took, 0.95), took[-1])),
                )
                for deed, took in _latencies(outcome).items()
                if took
            ],
        ),
    ]
    if outcome.compared:
        parts += [
            "<h2>A plain message, with the modules and without</h2>",
            "<p>Two pairs of homeservers of the same layout, in turns, before anything is broken.</p>",
            distribution_plot(outcome.compared),
            rounds_plot(outcome.compared),
            "<p>What the processes of each pair together hold in memory after each of these rounds:</p>",
            beside_plot(outcome.beside),
        ]
    parts += [
        "<h2>Memory while things are broken</h2>",
        memory_plot(outcome.looks),
        f"<p>{_ABOUT_SLOPES}</p>",
        slopes_plot(outcome.looks),
        _table(
            ("process", "lived", "in the end", "slope of the second half, KiB a minute", "growth"),
            [
                (
                    name,
                    f"{life:.0f} s",
                    f"{last / 2**20:.0f} MiB",
                    f"{s.value * 60 / 1024:+.0f} ± {s.half_width * 60 / 1024:.0f}",
                    "seen" if s.least > 0 else "not seen",
                )
                for name, (life, last, s) in memory_slopes(outcome.looks).items()
            ],
        ),
        "<h2>Why people asked again, and what stands in the logs</h2>",
        errors_plot(outcome),
        _table(("times", "what"), [(str(count), what) for what, count in _hindrances(outcome).most_common()]),
        _table(("errors", "cause"), [(str(count), cause) for cause, count in outcome.causes.most_common()]),
    ]
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Soak</title>'
        f"<style>{_STYLE}</style>\n{body}\n</html>\n"
    )


def _about(outcome: "Outcome") -> str:
    size = outcome.size
    workers = f"{size.workers} generic workers and three with duties" if size.special else "one worker"
    return (
        f"<p>Seed {size.seed}, {size.at_once} people at a time, {workers} at each homeserver, {os.cpu_count()} cores;"
        f" {len(outcome.faults)} faults. {escape(_parts_line(outcome))}</p>"
    )


def _parts_line(outcome: "Outcome") -> str:
    told = "; ".join(f"{name} took {took_s:.0f} s" for name, took_s in outcome.took_s.items())
    return told[:1].upper() + told[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Medians with and without in seconds, their ratio, and between what 95 % of its resamples lie."""

    mine_s: float
    theirs_s: float
    value: float
    least: float
    most: float

    @property
    def told(self) -> str:
        return (
            f"{self.mine_s * 1000:.1f} ms with the modules and {self.theirs_s * 1000:.1f} ms without (medians); ratio"
            f" {self.value:.3f}, 95 % of resamples between {self.least:.3f} and {self.most:.3f}"
        )


def compared(outcome: "Outcome") -> Ratio | None:
    """Bootstrap over the rounds, since what disturbs one message disturbs its neighbours, and both of a round."""
    mine, theirs = outcome.compared.get("with", []), outcome.compared.get("without", [])
    if not mine or not theirs:
        return None
    chance = random.Random(outcome.size.seed)
    ratios: list[float] = []
    for _ in range(_RESAMPLES):
        rounds = chance.choices(range(len(mine)), k=len(mine))
        ratios.append(_median(mine[each] for each in rounds) / _median(theirs[each] for each in rounds))
    ratios.sort()
    value = _median(mine) / _median(theirs)
    least, most = ratios[int(0.025 * _RESAMPLES)], ratios[int(0.975 * _RESAMPLES) - 1]
    return Ratio(mine_s=_median(mine), theirs_s=_median(theirs), value=value, least=least, most=most)


def _median(rounds: Iterable[Sequence[float]]) -> float:
    return statistics.median(chain.from_iterable(rounds))


def growth_beside(outcome: "Outcome") -> Slope | None:
    """Bytes a plain message by which the pair with the modules grows beyond the one without, over the second half."""
    mine, theirs = outcome.beside.get("with", []), outcome.beside.get("without", [])
    half = len(mine) // 2
    if len(mine) - half < 3:
        return None
    written = [0.0]
    for took in outcome.compared["with"]:
        written.append(written[-1] + len(took))
    beyond = [float(own - other) for own, other in zip(mine, theirs, strict=True)]
    return slope(written[1:][half:], beyond[half:])


def _verdict(verdict: "Verdict") -> str:
    holds = "no" if verdict.wrong else "yes"
    wrong = "".join(f"<br><code>{escape(what)}</code>" for what in verdict.wrong)
    return (
        f"<tr><td class={holds}>{holds}</td><td>{escape(verdict.name)}{wrong}</td>"
        f"<td>{escape(verdict.looked_at)}</td></tr>"
    )


def memory_slopes(looks: Sequence["Look"]) -> dict[str, tuple[float, float, Slope]]:
    """Of the longest life of each process: seconds, bytes in the end, and bytes a second over its second half."""
    lives: defaultdict[tuple[str, int], list[Look]] = defaultdict(list)
    for look in looks:
        lives[look.process, look.pid].append(look)
    found: dict[str, tuple[float, float, Slope]] = {}
    for (process, _), seen in sorted(lives.items(), key=lambda each: (each[0][0], len(each[1]))):
        if len(seen) < _LIFE_MIN:
            continue
        half = seen[len(seen) // 2 :]
        rise = slope([look.at_s for look in half], [float(look.size_bytes) for look in half])
        found[process] = (seen[-1].at_s - seen[0].at_s, float(seen[-1].size_bytes), rise)
    return found


# For docs/.


def publish(outcome: "Outcome", folder: Path) -> None:
    """Write ``soak.md`` into a folder and its pictures into ``pictures`` there."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    drawn = {
        "soak-answers": latency_plot(outcome),
        "soak-memory": memory_plot(outcome.looks),
        "soak-slopes": slopes_plot(outcome.looks),
        "soak-errors": errors_plot(outcome),
    }
    if outcome.compared:
        drawn |= {
            "soak-compared": distribution_plot(outcome.compared),
            "soak-rounds": rounds_plot(outcome.compared),
            "soak-beside": beside_plot(outcome.beside),
        }
    shown = {name: drawing for name, drawing in drawn.items() if drawing.startswith("<svg")}
    for name, drawing in shown.items():
        (pictures / f"{name}.svg").write_text(drawing + "\n", encoding="utf-8")
    (folder / "soak.md").write_text(markdown(outcome, frozenset(shown)), encoding="utf-8")


def command_of(outcome: "Outcome") -> str:
    """What does the same again, with the same faults at about the same times."""
    size = outcome.size
    only = f" --faults {' '.join(repr(kind) for kind in size.only)}" if size.only else ""
    return (
        f'make soak ARGS="--people {size.people} --minutes {size.minutes:g} --workers {size.workers} --at-once'
        f' {size.at_once} --compare {size.compare_rounds} --every {size.every_s:g} --seed {size.seed}{only}"'
    )


def markdown(outcome: "Outcome", pictures: frozenset[str]) -> str:
    size = outcome.size
    verdicts = [
        (verdict.name, verdict.looked_at, "**no**, see below" if verdict.wrong else "yes")
        for verdict in outcome.verdicts
    ]
    wrong = [f"- {verdict.name}: {_in_line(each)}" for verdict in outcome.verdicts for each in verdict.wrong]

    def picture(name: str, says: str) -> list[str]:
        return [f"![{says}](pictures/{name}.svg)", ""] if name in pictures else []

    paragraphs = [
        "# A soak that was run",
        "",
        f"    {command_of(outcome)}",
        "",
        "What it does and what must hold is in [testing.md](testing.md#the-soak). Two homeservers of a main process,",
        f"{size.workers} generic workers, an event persister, a federation sender and a ledger writer each, one",
        f"PostgreSQL for both and a Redis each, on {os.cpu_count()} cores, with everybody who acts on that machine.",
        f"{size.people} people did {len(outcome.notes.done)} things in {size.minutes:g} minutes, {size.at_once} at a",
        f"time, while {len(outcome.faults)} things were broken.",
        f"{_parts_line(outcome)}.",
        "",
        *_rows(("what must hold", "looked at", "held"), verdicts),
        *([*wrong, ""] if wrong else []),
        "## How long people waited",
        "",
        *picture("soak-answers", "Median seconds until an answer, for each deed, over time; faults are grey"),
        *_rows(
            ("deed", "answers", "p50", "p95", "slowest"),
            [
                (
                    deed,
                    str(len(took)),
                    *(f"{value * 1000:,.0f} ms" for value in (_at(took, 0.5), _at(took, 0.95), took[-1])),
                )
                for deed, took in _latencies(outcome).items()
                if took
            ],
        ),
        *_rows(
            ("after", "what was broken", "where", "all healthy again after"),
            [(f"{f.at_s:.0f} s", f.kind, f.what, f"{f.until_s - f.at_s:.0f} s") for f in outcome.faults],
        ),
        *(["## With the modules and without", ""] if outcome.compared else []),
        *picture(
            "soak-compared", "Share of plain messages that were answered within a time, with the modules and without"
        ),
        *picture("soak-rounds", "Median time of a plain message in each round, with the modules and without"),
        *picture("soak-beside", "Memory of all processes after each round, with the modules and without"),
        "## Memory while things were broken",
        "",
        *picture("soak-memory", "Anonymous memory of each process over time"),
        _ABOUT_SLOPES,
        "",
        *picture("soak-slopes", "Slope of the memory of each process in KiB a minute, with its 95 % interval"),
        "## Errors in the logs by their cause, and why people asked again",
        "",
        *picture("soak-errors", "Errors in the logs over time by their cause; faults are grey"),
        *_rows(("errors", "cause"), [(str(count), cause) for cause, count in outcome.causes.most_common()]),
        *_rows(
            ("times", "what people were told"),
            [(str(count), _in_line(what)) for what, count in _hindrances(outcome).most_common(12)],
        ),
    ]
    return "\n".join(paragraphs).rstrip() + "\n"


def _rows(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table, or nothing where it has no rows."""
    if not rows:
        return []
    lines = [heads, ["---"] * len(heads), *rows]
    return [*("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines), ""]


def _in_line(text: str) -> str:
    return "`" + " ".join(text.replace("`", "'").split())[:300] + "`"


# Plots. Each is an SVG of its own, so that it can stand in a file of its own too.


def latency_plot(outcome: "Outcome") -> str:
    """The median and the slowest of each two seconds, for each deed; faults are bars behind."""
    end_s = max((done.at_s + done.took_s for done in outcome.notes.done), default=1.0)
    top = max((done.took_s for done in outcome.notes.done), default=1.0)
    drawing = _Axes(end_s, top, "seconds until the answer", "seconds since the start", logarithmic=True)
    _draw_faults(outcome, drawing)
    for colour, deed in zip(_COLOURS, DEEDS, strict=False):
        slots: defaultdict[int, list[float]] = defaultdict(list)
        for done in outcome.notes.done:
            if done.deed == deed:
                slots[int(done.at_s / 2)].append(done.took_s)
        drawing.line([(slot * 2 + 1, statistics.median(slots[slot])) for slot in sorted(slots)], colour, deed)
    return drawing.svg("Median seconds until an answer, for each deed, over time; faults are grey")


def memory_plot(looks: Sequence["Look"]) -> str:
    end_s = max((look.at_s for look in looks), default=1.0)
    top = max((look.size_bytes / 2**20 for look in looks), default=1.0)
    drawing = _Axes(end_s, top, "MiB", "seconds since the start")
    by_process: defaultdict[str, list[Look]] = defaultdict(list)
    for look in looks:
        by_process[look.process].append(look)
    for number, (process, seen) in enumerate(sorted(by_process.items())):
        pids = list(dict.fromkeys(look.pid for look in seen))
        for pid in pids:
            points = [(look.at_s, look.size_bytes / 2**20) for look in seen if look.pid == pid]
            drawing.line(points, _COLOURS[number % len(_COLOURS)], process if pid == pids[0] else "")
    return drawing.svg("Anonymous memory of each process over time")


def distribution_plot(compared_s: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """How many of the messages were answered within a time."""
    ordered = {name: sorted(chain.from_iterable(rounds)) for name, rounds in sorted(compared_s.items())}
    most_ms = max(_at(took, 0.98) for took in ordered.values()) * 1000
    drawing = _Axes(most_ms, 1.0, "part of the messages", "answered within milliseconds")
    for colour, (name, took) in zip(_COLOURS, ordered.items(), strict=False):
        points = [(each * 1000, (place + 1) / len(took)) for place, each in enumerate(took)]
        drawing.line([point for point in points if point[0] <= most_ms], colour, f"{name} modules")
    return drawing.svg("Share of plain messages that were answered within a time, with the modules and without")


def rounds_plot(compared_s: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """The median of each round, of both."""
    medians = {name: [statistics.median(took) * 1000 for took in rounds] for name, rounds in sorted(compared_s.items())}
    top = max(chain.from_iterable(medians.values()))
    drawing = _Axes(max(len(each) for each in medians.values()), top, "milliseconds", "rounds, in turns")
    for colour, (name, found) in zip(_COLOURS, medians.items(), strict=False):
        drawing.line([(number + 1, median) for number, median in enumerate(found)], colour, f"{name} modules")
    return drawing.svg("Median time of a plain message in each round, with the modules and without")


def beside_plot(beside: Mapping[str, Sequence[int]]) -> str:
    top = max(chain.from_iterable(beside.values())) / 2**20
    drawing = _Axes(max(len(sizes) for sizes in beside.values()), top, "MiB, all processes", "rounds")
    for colour, (name, sizes) in zip(_COLOURS, sorted(beside.items()), strict=False):
        points = [(number + 1, size / 2**20) for number, size in enumerate(sizes)]
        drawing.line(points, colour, f"{name} modules")
    return drawing.svg("Anonymous memory of both homeservers after each round, with the modules and without")


def slopes_plot(looks: Sequence["Look"]) -> str:
    """A bar for each process: its slope in KiB a minute, and the interval."""
    found = memory_slopes(looks)
    if not found:
        return "<p>No process lived long enough.</p>"
    per_minute = {name: (s.value * 60 / 1024, s.half_width * 60 / 1024) for name, (_, _, s) in found.items()}
    reach = max(1.0, *(abs(value) + half for value, half in per_minute.values()))
    row, left = 18, 190
    height = row * len(per_minute) + 40

    def x(value: float) -> float:
        return left + (value / reach + 1) / 2 * (_WIDTH - left)

    marks: list[str] = []
    for tick in (-reach, -reach / 2, 0.0, reach / 2, reach):
        place, colour = f"{x(tick):.1f}", "#999" if tick == 0 else "#eee"
        marks.append(f'<text x="{place}" y="{height - 8}" text-anchor="middle">{tick:+.0f}</text>')
        marks.append(f'<line x1="{place}" x2="{place}" y1="4" y2="{height - 24}" stroke="{colour}"/>')
    for number, (name, (value, half)) in enumerate(per_minute.items()):
        y = 14 + row * number
        colour = "#b00020" if value - half > 0 else "#1b6e35"
        ends = f'x1="{x(value - half):.1f}" x2="{x(value + half):.1f}" y1="{y}" y2="{y}"'
        marks.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        marks.append(f'<line {ends} stroke="{colour}" stroke-width="3"/>')
        marks.append(f'<circle cx="{x(value):.1f}" cy="{y}" r="4" fill="{colour}"/>')
    title = "Slope of the memory of each process in KiB a minute, with its 95 % interval"
    return (
        f'<svg font-family="sans-serif" font-size="11" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {_WIDTH + 30} {height}" width="100%" role="img"><title>{title}</title>{"".join(marks)}</svg>'
    )


def errors_plot(outcome: "Outcome") -> str:
    """Errors in the logs of each five seconds by their cause, with the faults behind."""
    during = [(at_s, cause) for at_s, cause in outcome.errors if at_s >= 0]
    if not during:
        return "<p>No error was logged while people soaked.</p>"
    slots: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for at_s, cause in during:
        slots[cause][int(at_s / _ERROR_SLOT_S)] += 1
    ends_s = [at_s for at_s, _ in during] + [done.at_s for done in outcome.notes.done]
    last = int(max(ends_s + [fault.until_s for fault in outcome.faults]) / _ERROR_SLOT_S) + 1
    top = max(chain.from_iterable(counts.values() for counts in slots.values()))
    drawing = _Axes(last * _ERROR_SLOT_S, top, "errors in 5 s", "seconds since the start", legend_columns=2)
    _draw_faults(outcome, drawing)
    for colour, (cause, counts) in zip(_COLOURS, sorted(slots.items()), strict=False):
        points = [(slot * _ERROR_SLOT_S + _ERROR_SLOT_S / 2, counts[slot]) for slot in range(last)]
        drawing.line(points, colour, cause)
    return drawing.svg("Errors in the logs over time by their cause; faults are grey")


def _draw_faults(outcome: "Outcome", drawing: "_Axes") -> None:
    for fault in outcome.faults:
        drawing.bar(fault.at_s, fault.until_s, f"{fault.kind}: {fault.what}")


class _Axes:
    def __init__(
        self,
        x_max: float,
        y_max: float,
        y_name: str,
        x_name: str,
        *,
        logarithmic: bool = False,
        legend_columns: int = 7,
    ) -> None:
        self._columns = legend_columns
        self._x_max, self._y_max = x_max or 1.0, y_max or 1.0
        self._logarithmic = logarithmic
        self._names = (x_name, y_name)
        self._behind: list[str] = []
        self._lines: list[str] = []
        self._legend: list[tuple[str, str]] = []

    def line(self, points: Sequence[tuple[float, float]], colour: str, name: str) -> None:
        if points:
            path = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in points)
            self._lines.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{path}"/>')
            if name:
                self._legend.append((name, colour))

    def bar(self, from_x: float, to_x: float, name: str) -> None:
        left, right = self._x(from_x), self._x(to_x)
        self._behind.append(
            f'<rect x="{left:.1f}" y="8" width="{max(1.0, right - left):.1f}" height="{_HEIGHT - 8}" fill="#ddd">'
            f"<title>{escape(name)}</title></rect>"
        )

    def svg(self, description: str) -> str:
        ticks = [self._x_max * part / 5 for part in range(6)]
        marks = [
            f'<text x="{self._x(tick):.0f}" y="{_HEIGHT + 14}" text-anchor="middle">{tick:.0f}</text>' for tick in ticks
        ]
        for value in self._y_ticks():
            y = self._y(value)
            marks.append(f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#eee"/>')
            marks.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        wide = (_WIDTH - _LEFT) // self._columns - 8
        names = [
            f'<text x="{_LEFT + 8 + wide * (n % self._columns)}" '
            f'y="{_HEIGHT + _BOTTOM + 18 + 14 * (n // self._columns)}" style="fill:{colour}">'
            f"● {escape(name)}</text>"
            for n, (name, colour) in enumerate(self._legend)
        ]
        height = _HEIGHT + _BOTTOM + 24 + 14 * max(0, (len(self._legend) - 1) // self._columns + 1)
        return (
            f'<svg font-family="sans-serif" font-size="11" xmlns="http://www.w3.org/2000/svg" '
            f'viewBox="0 0 {_WIDTH + 10} {height}" width="100%" role="img">'
            f"<title>{escape(description)}</title>{''.join(self._behind)}{''.join(marks)}{''.join(self._lines)}"
            f'<text x="{_WIDTH}" y="{_HEIGHT + _BOTTOM + 2}" text-anchor="end">{self._names[0]}</text>'
            f'<text x="0" y="8">{self._names[1]}</text>{"".join(names)}</svg>'
        )

    def _y_ticks(self) -> Iterable[float]:
        if not self._logarithmic:
            return [self._y_max * part / 4 for part in range(5)]
        return [tick for tick in (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100) if tick <= self._y_max]

    def _x(self, value: float) -> float:
        return _LEFT + value / self._x_max * (_WIDTH - _LEFT)

    def _y(self, value: float) -> float:
        part = value / self._y_max
        if self._logarithmic:
            least = 0.01
            part = math.log(max(value, least) / least) / math.log(max(self._y_max, 2 * least) / least)
        return _HEIGHT - part * (_HEIGHT - 14)


def _latencies(outcome: "Outcome") -> dict[str, list[float]]:
    return {deed: sorted(done.took_s for done in outcome.notes.done if done.deed == deed) for deed in DEEDS}


def _hindrances(outcome: "Outcome") -> Counter[str]:
    return Counter(what for _, what in outcome.notes.hindered)


def _at(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def _deed_line(deed: str, took: Sequence[float]) -> str:
    return (
        f"{len(took):6d}  {deed}: p50 {_at(took, 0.5) * 1000:.0f} ms, p95 {_at(took, 0.95) * 1000:.0f} ms,"
        f" slowest {took[-1]:.1f} s"
    )


def _memory_line(process: str, found: tuple[float, float, Slope]) -> str:
    life_s, last, rise = found
    return (
        f"memory of {process} over {life_s:.0f} s: {last / 2**20:.0f} MiB, {rise.value * 60 / 1024:+.0f} ±"
        f" {rise.half_width * 60 / 1024:.0f} KiB a minute, growth {'seen' if rise.least > 0 else 'not seen'}"
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
