"""The search for people by handle, inside the caller's transaction; it writes nothing.

The index of parts of names is asked last and apart, because it alone may take long: whoever runs that transaction
stops it in time.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Final, Protocol

from super_app.db import Cursor
from super_app.directory import search_rules as rules
from super_app.directory import search_store as store
from super_app.directory.naming import one_edit_away
from super_app.directory.search_model import Hit, Term
from super_app.ids import ServerName, UserId

_SPARE: Final = 20
"""Rows fetched beyond the limit, since several handles may be one person's, and some people are left out."""


class Acquainted(Protocol):
    """Which of some people are in a private room with somebody."""

    def __call__(self, cur: Cursor, user_id: UserId, others: Collection[UserId], /) -> Collection[UserId]: ...


def find(
    cur: Cursor,
    asker: UserId,
    term: Term,
    own_server: ServerName,
    acquainted: Acquainted,
    *,
    hidden: Collection[str],
    now_ms: int,
    limit: int,
) -> tuple[Hit, ...]:
    """The best hits among local and replicated handles, without those of the people in ``hidden``."""
    rows = limit + _SPARE
    if term.server is None:
        hits = store.by_beginning(cur, asker, term.name, own_server, now_ms=now_ms, limit=rows)
    else:
        hits = store.by_handle(cur, asker, term.name, term.server, own_server, now_ms=now_ms, limit=rows)
    hits = _shown(hits, hidden)
    if rules.looks_for_mistypes(term, len({hit.user_id for hit in hits}), limit):
        mistyped = store.by_names(cur, asker, one_edit_away(term.name), own_server, now_ms=now_ms, limit=rows)
        hits += _shown(mistyped, hidden)
    return rules.rank(_with_mutuals(cur, asker, hits, acquainted), limit, now_ms=now_ms)


def find_parts(
    cur: Cursor,
    asker: UserId,
    term: Term,
    own_server: ServerName,
    acquainted: Acquainted,
    *,
    hidden: Collection[str],
    now_ms: int,
    limit: int,
) -> tuple[Hit, ...]:
    """Handles that have what was typed somewhere in them; only to be called where ``store.has_parts`` says so."""
    hits = _shown(store.by_part(cur, asker, term.name, own_server, now_ms=now_ms, limit=limit + _SPARE), hidden)
    return rules.rank(_with_mutuals(cur, asker, hits, acquainted), limit, now_ms=now_ms)


def _shown(hits: Collection[Hit], hidden: Collection[str]) -> list[Hit]:
    return [hit for hit in hits if hit.user_id not in hidden]


def _with_mutuals(cur: Cursor, asker: UserId, hits: Collection[Hit], acquainted: Acquainted) -> Collection[Hit]:
    others = sorted({hit.user_id for hit in hits} - {asker})
    mutual = acquainted(cur, asker, others) if others else ()
    return [replace(hit, mutual=True) if hit.user_id in mutual else hit for hit in hits]
