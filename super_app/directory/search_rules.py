"""In which order people are found, and when a search looks further. Pure."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from super_app.directory.naming import MAX_LENGTH
from super_app.directory.search_model import Hit, Match, Term
from super_app.ids import UserId

_MIN_MISTYPED: Final = 4
"""Shorter names have so many neighbours that a typing error in them says nothing."""
_MIN_PART: Final = 3
"""What the index of three letters in a row can answer."""


_PLAIN: Final = re.compile(r"[A-Za-z0-9._=/+-]+")
"""What names are made of, those of old accounts included."""


def looks_for_mistypes(term: Term, found: int, limit: int) -> bool:
    return found < limit and _MIN_MISTYPED <= len(term.name) <= MAX_LENGTH and _is_name(term)


def looks_for_parts(term: Term, found: int, limit: int) -> bool:
    return found < limit and _MIN_PART <= len(term.name) <= MAX_LENGTH and _is_name(term)


def _is_name(term: Term) -> bool:
    return term.server is None and _PLAIN.fullmatch(term.name) is not None


def rank(hits: Iterable[Hit], limit: int, *, now_ms: int) -> tuple[Hit, ...]:
    """The best hits, one a person: by how well the name fits, then by who it is. Their badges are judged already.

    Contacts come first, then people of one's own server, verified ones, those with whom one shares a room or whom one
    follows and who follow one, the rest; among equals primary handles before aliases, then shorter names.
    """
    found = list(hits)
    # One person's handles come from several tables, and not each of those knows what they are to the searcher.
    contacts = {hit.user_id for hit in found if hit.contact}
    best: dict[UserId, Hit] = {}
    ordered = sorted(
        found,
        key=lambda hit: (
            hit.match,
            hit.moved,
            hit.user_id not in contacts,
            not hit.local,
            not is_verified(hit.badges, now_ms),
            not hit.mutual,
            not hit.primary,
            len(hit.handle),
            hit.handle,
            # The same handle as a contact and as a record: the record has the badges.
            -len(hit.badges),
        ),
    )
    for hit in ordered:
        best.setdefault(hit.user_id, hit if hit.contact else replace(hit, contact=hit.user_id in contacts))
    return tuple(best.values())[:limit]


def nearness(hit: Hit) -> tuple[int, bool, bool, bool]:
    """How soon a hit is looked at more closely: by what is known of it before its badges are judged."""
    return hit.match, not hit.contact, not hit.local, not hit.mutual


def is_verified(badges: Collection[Mapping[str, Any]], now_ms: int) -> bool:
    """Whether a badge is still good; one without an end is not believed."""
    return any(type(badge.get("expires")) is int and badge["expires"] > now_ms for badge in badges)


def is_exact(hits: Collection[Hit]) -> bool:
    return any(hit.match is Match.EXACT for hit in hits)
