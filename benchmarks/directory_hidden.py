"""Whether who asks for a handle can tell one that hides from one that nobody has, by answer, size or time.

Accounts of the same homeserver ask in each way that there is, no oftener than guesses are answered. A figure is the
area under the curve of the best of three classifiers: 0.5 is a coin, 1 is certain.
"""

import bisect
import json
import random
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.frame import Context, Row
from benchmarks.homeservers import LoneHomeserver
from super_app.names import CLIENT_API_PREFIX, WEB_PREFIX
from synapse_super_app.commands import loopback
from synapse_super_app.commands.matrix_client import MatrixClient

NAMES: Final = ("directory.hidden",)
_HIDDEN: Final = 100
_SAMPLES_EACH: Final = 2_000
_BY_ONE: Final = 50
"""Fewer than a person may guess in a row."""


@dataclass(frozen=True, slots=True)
class _Way:
    """A question about ``NAME``, and how both kinds are answered."""

    called: str
    method: str
    path: str
    body: str | None
    status: int

    def ask(self, asker: MatrixClient, name: str) -> tuple[int, bytes]:
        body = None if self.body is None else json.loads(self.body.replace("NAME", name))
        return asker.request_raw(self.method, self.path.replace("NAME", name), body)


_WAYS: Final = (
    _Way("handle", "GET", f"{CLIENT_API_PREFIX}/handles/NAME", None, 404),
    _Way("search", "POST", f"{CLIENT_API_PREFIX}/search", '{"term": "NAME"}', 200),
    _Way("dialog", "POST", "/_matrix/client/v3/user_directory/search", '{"search_term": "@NAME", "limit": 10}', 200),
    _Way("page", "GET", f"{WEB_PREFIX}/@NAME", None, 404),
)


@dataclass(frozen=True, slots=True)
class _Answer:
    """``text`` is the whole answer with the name taken out."""

    text: str
    size: int
    ms: float


def run(context: Context) -> Iterator[Row]:
    port = loopback.free_ports(2)
    homeserver = LoneHomeserver(context.folder / "hidden", port, port + 1, {"features": {"payments": False}})
    with homeserver:
        context.say(
            f"directory.hidden: {_HIDDEN} people who hide, {2 * _SAMPLES_EACH} questions in each of {len(_WAYS)} ways"
        )
        hidden = [_name() for _ in range(_HIDDEN)]
        for name in hidden:
            with homeserver.account(name) as person:
                person.superapp("PUT", f"handles/{name}", {"discover": "none"})
        absent = [_name() for _ in range(_HIDDEN)]
        worst = max(_worst(context, way, *_ask(homeserver, way, hidden, absent)) for way in _WAYS)
    yield Row(
        name=NAMES[0],
        value=worst,
        unit="AUC",
        yardstick=None,
        yardstick_value=None,
        goal="<= 0.55",
        n=2 * _SAMPLES_EACH * len(_WAYS),
    )


def _worst(context: Context, way: _Way, there: Sequence[_Answer], absent: Sequence[_Answer]) -> float:
    """What the best of three classifiers makes of one way to ask."""
    said = {answer.text for answer in there}
    areas = {
        "answer": _area([float(each.text in said) for each in there], [float(each.text in said) for each in absent]),
        "size": _area([float(each.size) for each in there], [float(each.size) for each in absent]),
        "time": _area([each.ms for each in there], [each.ms for each in absent]),
    }
    found = ", ".join(f"{how} {area:.3f}" for how, area in areas.items())
    context.say(f"directory.hidden: asked as {way.called}, by {found}")
    return max(areas.values())


def _name() -> str:
    """Of one length, so that the length tells nothing."""
    return "p" + secrets.token_hex(8)


def _ask(
    homeserver: LoneHomeserver, way: _Way, hidden: Sequence[str], absent: Sequence[str]
) -> tuple[list[_Answer], list[_Answer]]:
    """Both kinds in turns of a random order, after each name was asked for once."""
    each = _SAMPLES_EACH // _HIDDEN
    questions = [(name, True) for name in hidden] * each + [(name, False) for name in absent] * each
    random.shuffle(questions)
    questions = [(name, False) for name in (*hidden, *absent)] + questions
    answers: tuple[list[_Answer], list[_Answer]] = ([], [])
    warm_up = len(hidden) + len(absent)
    for begin in range(0, len(questions), _BY_ONE):
        with homeserver.account(f"{way.called}{begin}") as asker:
            # The first request of an account fills caches that have nothing to do with handles.
            asker.whoami()
            for number, (name, hides) in enumerate(questions[begin : begin + _BY_ONE], begin):
                answer = _answer(way, asker, name)
                if number >= warm_up:
                    answers[0 if hides else 1].append(answer)
    return answers


def _answer(way: _Way, asker: MatrixClient, name: str) -> _Answer:
    began_s = time.perf_counter()
    status, body = way.ask(asker, name)
    ms = (time.perf_counter() - began_s) * 1000
    if status != way.status:
        raise RuntimeError(f"asking for {name} was answered {status}: {body[:200]!r}")
    return _Answer(f"{status} {body.decode().replace(name, '')}", len(body), ms)


def _area(ones: Sequence[float], others: Sequence[float]) -> float:
    """The area under the curve of the better of the two thresholds' directions (Mann and Whitney's statistic)."""
    ordered = sorted(others)
    wins = sum((bisect.bisect_left(ordered, one) + bisect.bisect_right(ordered, one)) / 2 for one in ones)
    area = wins / (len(ones) * len(others))
    return max(area, 1 - area)
