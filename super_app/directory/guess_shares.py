"""Whose turn it is where all together may guess so often: who took little comes before who took much.

Whoever took more of late has to leave more of it to the others. So a few who take all they get come to a halt at a
level at which those who ask seldom are served as ever, and for as long as that goes on. Of many names that take a
little each nobody can tell honest servers, and names come cheap; what all of them get together is the same whatever
their number.
"""

import math
from typing import Final

_FADES_MS: Final = 6 * 3_600_000
"""After this time half of what somebody took is forgotten."""
_LITTLE: Final = 100
"""Whoever took so many of late has to leave half of what is kept back."""
_KEPT_BACK: Final = 0.9
"""Of all that is there at once, what nobody gets who took very many."""
_LONG_AGO_MS: Final = 10 * _FADES_MS


def kept_back(burst: int, taken: float) -> int:
    """How many of ``burst`` have to stay for others when somebody takes one who took ``taken`` of late."""
    return int(_KEPT_BACK * burst * taken / (taken + _LITTLE))


# What somebody took of late is kept as one number: the time at which it will have faded to one.


def taken(faded_ms: int | None, now_ms: int) -> float:
    return 0 if faded_ms is None else float(2 ** ((faded_ms - now_ms) / _FADES_MS))


def after_one_more(faded_ms: int | None, now_ms: int) -> int:
    return now_ms + round(_FADES_MS * math.log2(taken(faded_ms, now_ms) + 1))


def of_nobody(now_ms: int) -> int:
    """The time of somebody who took none."""
    return now_ms - _LONG_AGO_MS
