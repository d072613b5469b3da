"""What a look at one thing found: how it stands, in a sentence, and what to do. Looks at nothing itself."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Verdict(StrEnum):
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    UNSEEN = "unseen"
    """Could not be looked at from here; the sentence says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``check`` is a stable name for programs (``database.fsync``); ``sentence`` and ``remedy`` are for people."""

    check: str
    verdict: Verdict
    sentence: str
    remedy: str = ""


_WORST_FIRST: Final = (Verdict.BAD, Verdict.UNSEEN, Verdict.WARNING, Verdict.GOOD)


def good(check: str, sentence: str) -> Finding:
    return Finding(check=check, verdict=Verdict.GOOD, sentence=sentence)


def warning(check: str, sentence: str, remedy: str) -> Finding:
    return Finding(check=check, verdict=Verdict.WARNING, sentence=sentence, remedy=remedy)


def bad(check: str, sentence: str, remedy: str) -> Finding:
    return Finding(check=check, verdict=Verdict.BAD, sentence=sentence, remedy=remedy)


def unseen(check: str, sentence: str, remedy: str = "") -> Finding:
    return Finding(check=check, verdict=Verdict.UNSEEN, sentence=sentence, remedy=remedy)


def worst(findings: list[Finding]) -> Verdict:
    """The worst of them; what could not be looked at weighs less than what is bad and more than a warning."""
    found = {finding.verdict for finding in findings}
    return next((verdict for verdict in _WORST_FIRST if verdict in found), Verdict.GOOD)
