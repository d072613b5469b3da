"""What a search for people is asked and what it finds."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from super_app.directory.model import Name
from super_app.ids import Acct, Handle, ServerName, UserId


class Match(IntEnum):
    """How well a name fits what was typed, best first."""

    EXACT = 0
    BEGINNING = 1
    MISTYPED = 2  # one edit away
    PART = 3  # what was typed is somewhere in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """What somebody typed, read as a handle: a name, and the server as far as it was typed (None: no colon yet)."""

    name: Name
    server: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Who looks for whom, and when. People in ``hidden`` are left out."""

    asker: UserId
    term: Term
    own_server: ServerName
    hidden: Collection[str]
    now_ms: int
    limit: int
    whole: bool
    """Whether to find those who are found by their whole name only; not for somebody who has guessed too often."""
    parts: bool
    """Whether to look for parts of names too; only where ``search_store.has_parts`` says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """Somebody who was found, and what they are to the one who searches."""

    handle: Handle
    user_id: UserId
    acct: Acct
    match: Match
    local: bool
    primary: bool
    moved: bool = False
    """Their owner went to another homeserver; whoever shows hits leads on from these."""
    contact: bool = False
    followed: bool = False
    mutual: bool = False
    """Whether the two are in a private room together, or follow each other."""
    badges: tuple[Mapping[str, Any], ...] = ()
