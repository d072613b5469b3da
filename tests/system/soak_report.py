"""What a soak found, as lines for a terminal and as a page with plots (HTML with SVG in it, nothing from elsewhere)."""

import os
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
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
    ratio = compared(outcome)
    if ratio is not None:
        found.append(_compared_line(ratio))
    found += [_memory_line(process, found_slope) for process, found_slope in memory_slopes(outcome.looks).items()]
    return found


def page(outcome: "Outcome", arguments: str) -> str:
    size = outcome.size
    verdicts = "".join(_verdict(each) for each in outcome.verdicts)
    parts = [
        f"<h1>Soak: {size.people} people, {size.minutes:g} minutes</h1>",
        f"<p><code>make soak ARGS=&quot;{escape(arguments)}&quot;</code></p>",
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
    ratio = compared(outcome)
    if ratio is not None:
        parts += [
            "<h2>A plain message, with the module and without</h2>",
            "<p>Homeservers of the same layout, in turns, nothing broken.</p>",
            f"<p>{escape(_compared_line(ratio))}</p>",
            distribution_plot(outcome.compared),
        ]
    parts += [
        "<h2>Memory</h2>",
        memory_plot(outcome.looks),
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
        f" {len(outcome.faults)} faults.</p>"
    )


def _compared_line(ratio: tuple[float, float, float, float, float]) -> str:
    return (
        f"a message takes {ratio[0] * 1000:.1f} ms with the module and {ratio[1] * 1000:.1f} ms without (medians);"
        f" ratio {ratio[2]:.3f}, 95 % of resamples between {ratio[3]:.3f} and {ratio[4]:.3f}"
    )


def _verdict(verdict: "Verdict") -> str:
    holds = "no" if verdict.wrong else "yes"
    wrong = "".join(f"<br><code>{escape(what)}</code>" for what in verdict.wrong)
    return (
        f"<tr><td class={holds}>{holds}</td><td>{escape(verdict.name)}{wrong}</td>"
        f"<td>{escape(verdict.looked_at)}</td></tr>"
    )


def compared(outcome: "Outcome") -> tuple[float, float, float, float, float] | None:
    """Medians with and without in seconds, their ratio, and between what 95 % of its resamples lie (bootstrap)."""
    if not outcome.compared:
        return None
    import random

    chance = random.Random(outcome.size.seed)
    took, bare = outcome.compared["with"], outcome.compared["without"]
    ratios = sorted(
        statistics.median(chance.choices(took, k=len(took))) / statistics.median(chance.choices(bare, k=len(bare)))
        for _ in range(1000)
    )
    mine, theirs = statistics.median(took), statistics.median(bare)
    return mine, theirs, mine / theirs, ratios[24], ratios[974]


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


# Plots. Each is an SVG of its own, so that it can stand in a file of its own too.


def latency_plot(outcome: "Outcome") -> str:
    """The median and the slowest of each two seconds, for each deed; faults are bars behind."""
    end_s = max((done.at_s + done.took_s for done in outcome.notes.done), default=1.0)
    top = max((done.took_s for done in outcome.notes.done), default=1.0)
    drawing = _Axes(end_s, top, "seconds until the answer", "seconds since the start", logarithmic=True)
    for fault in outcome.faults:
        drawing.bar(fault.at_s, fault.until_s, f"{fault.kind}: {fault.what}")
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


def distribution_plot(compared_s: Mapping[str, Sequence[float]]) -> str:
    """How many of the messages were answered within a time."""
    most_ms = max(_at(sorted(took), 0.98) for took in compared_s.values()) * 1000
    drawing = _Axes(most_ms, 1.0, "part of the messages", "answered within milliseconds")
    for colour, (name, took) in zip(_COLOURS, sorted(compared_s.items()), strict=False):
        ordered = sorted(took)
        points = [(each * 1000, (place + 1) / len(ordered)) for place, each in enumerate(ordered)]
        drawing.line([point for point in points if point[0] <= most_ms], colour, f"{name} the module")
    return drawing.svg("Share of messages that were answered within a time, with the module and without")


class _Axes:
    def __init__(self, x_max: float, y_max: float, y_name: str, x_name: str, *, logarithmic: bool = False) -> None:
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
        names = [
            f'<text x="{_LEFT + 8 + 110 * (n % 7)}" y="{_HEIGHT + _BOTTOM + 18 + 14 * (n // 7)}" style="fill:{colour}">'
            f"● {escape(name)}</text>"
            for n, (name, colour) in enumerate(self._legend)
        ]
        height = _HEIGHT + _BOTTOM + 24 + 14 * max(0, (len(self._legend) - 1) // 7 + 1)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH + 10} {height}" width="100%" role="img">'
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
        import math

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
