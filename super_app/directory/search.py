"""The search for people by handle, inside the caller's transaction; it writes nothing.

The index of parts of names is asked last, because it alone may take long: it gives itself a limit, and whoever runs the
transaction asks again without parts where the database stopped it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from super_app.accounts import follow_word_store
from super_app.db import Cursor
from super_app.directory import search_rules as rules
from super_app.directory import search_store as store
from super_app.directory.naming import one_edit_away
from super_app.directory.search_model import Hit, Question
from super_app.ids import UserId


class MutualOf(Protocol):
    """Which of some people are in a private room with whoever asks."""

    def __call__(self, cur: Cursor, others: Collection[UserId], /) -> Collection[UserId]: ...


class BelievedOf(Protocol):
    """The badges of a hit that can be believed."""

    def __call__(self, cur: Cursor, hit: Hit, /) -> Sequence[Mapping[str, Any]]: ...


_MOST_JUDGED: Final = 60
"""Whose badges are judged, the best hits by all else first: signatures take time, and names with badges are cheap."""


def find(cur: Cursor, question: Question, mutual_of: MutualOf, believed_of: BelievedOf) -> tuple[Hit, ...]:
    """The best hits among local and replicated handles, with the badges that can be believed."""
    term, limit = question.term, question.limit
    hits = _shown(
        question, store.by_beginning(cur, question) if term.server is None else store.by_handle(cur, question)
    )
    if rules.looks_for_mistypes(term, _people(hits), limit):
        hits += _shown(question, store.by_names(cur, question, one_edit_away(term.name)))
    if question.parts and rules.looks_for_parts(term, _people(hits), limit):
        hits += _shown(question, store.by_part(cur, question))
    others = sorted({hit.user_id for hit in hits} - {question.asker})
    mutual = {*(mutual_of(cur, others) if others else ()), *_follow_each_other(cur, question, hits)}
    known = [replace(hit, mutual=True) if hit.user_id in mutual else hit for hit in hits]
    return rules.rank(_judged(cur, known, believed_of), limit, now_ms=question.now_ms)


def _follow_each_other(cur: Cursor, question: Question, hits: Collection[Hit]) -> Collection[UserId]:
    return follow_word_store.mutual_among(cur, question.asker, {hit.user_id for hit in hits if hit.followed})


def _judged(cur: Cursor, hits: Collection[Hit], believed_of: BelievedOf) -> list[Hit]:
    """Badges as records show them count for nothing; what is not judged has none."""
    judged = [
        replace(hit, badges=tuple(believed_of(cur, hit)) if at < _MOST_JUDGED else ())
        for at, hit in enumerate(sorted((hit for hit in hits if hit.badges), key=rules.nearness))
    ]
    return [*(hit for hit in hits if not hit.badges), *judged]


def _shown(question: Question, hits: Collection[Hit]) -> list[Hit]:
    return [hit for hit in hits if hit.user_id not in question.hidden]


def _people(hits: Collection[Hit]) -> int:
    return len({hit.user_id for hit in hits})
