"""In which order people are found, and when a search looks further."""

from typing import Any

import pytest

from super_app.directory.model import Name
from super_app.directory.search_model import Hit, Match, Term
from super_app.directory.search_rules import is_verified, looks_for_mistypes, looks_for_parts, rank
from super_app.ids import Acct, Handle, UserId

NOW_MS = 1_700_000_000_000
BADGE = {"expires": NOW_MS + 1}


def hit(handle: str, user: str | None = None, **changes: Any) -> Hit:
    fields: dict[str, Any] = {"match": Match.BEGINNING, "local": False, "primary": True}
    user_id = UserId(f"@{user or handle.removeprefix('@').partition(':')[0]}:x.test")
    return Hit(handle=Handle(handle), user_id=user_id, acct=Acct("A" * 43), **{**fields, **changes})


def ranked(*hits: Hit, limit: int = 10) -> tuple[Hit, ...]:
    return rank(hits, limit, now_ms=NOW_MS)


def test_contacts_come_before_ones_own_server_verified_people_shared_rooms_and_the_rest() -> None:
    rest = hit("@a:x.test")
    mutual = hit("@aa:x.test", mutual=True)
    verified = hit("@aaa:x.test", badges=(BADGE,))
    near = hit("@aaaa:x.test", local=True)
    friend = hit("@aaaaa:x.test", contact=True)
    assert ranked(rest, mutual, verified, near, friend) == (friend, near, verified, mutual, rest)


def test_how_well_a_name_fits_comes_before_who_it_is() -> None:
    exact = hit("@d:x.test", match=Match.EXACT)
    begins = hit("@c:x.test", match=Match.BEGINNING)
    mistyped = hit("@b:x.test", match=Match.MISTYPED, local=True)
    part = hit("@a:x.test", match=Match.PART, contact=True, local=True)
    assert ranked(part, mistyped, begins, exact) == (exact, begins, mistyped, part)


def test_among_equals_primary_handles_come_before_aliases_and_shorter_ones_first() -> None:
    long, short, alias = hit("@abcd:x.test"), hit("@abc:x.test"), hit("@ab:x.test", primary=False)
    assert ranked(alias, long, short) == (short, long, alias)


def test_a_person_is_shown_once_under_the_best_of_their_names_and_as_a_contact_under_each() -> None:
    alias = hit("@alias:x.test", "one", primary=False, match=Match.EXACT)
    primary = hit("@primary:x.test", "one", contact=True)
    assert [(each.handle, each.contact) for each in ranked(primary, alias)] == [("@alias:x.test", True)]


def test_a_contact_keeps_the_badges_of_its_record() -> None:
    as_contact = hit("@ali:x.test", contact=True)
    as_record = hit("@ali:x.test", badges=(BADGE,))
    assert [each.badges for each in ranked(as_contact, as_record)] == [(BADGE,)]


def test_no_more_than_asked_for() -> None:
    assert len(ranked(*(hit(f"@ali{n}:x.test") for n in range(9)), limit=3)) == 3


@pytest.mark.parametrize(
    ("badge", "good"),
    [({"expires": NOW_MS + 1}, True), ({"expires": NOW_MS}, False), ({}, False), ({"expires": "never"}, False)],
)
def test_a_badge_is_good_until_it_expires_and_one_without_an_end_never(badge: dict[str, Any], good: bool) -> None:
    assert is_verified([badge], NOW_MS) is good


@pytest.mark.parametrize(
    ("name", "server", "found", "mistypes", "parts"),
    [
        ("alice", None, 9, True, True),
        ("alice", None, 10, False, False),
        ("alice", "hs2", 0, False, False),
        ("ali", None, 0, False, True),
        ("al", None, 0, False, False),
        ("a" * 32, None, 0, True, True),
        ("a" * 33, None, 0, False, False),
        ('a","b', None, 0, False, False),
        ("a{b}c", None, 0, False, False),
        ("a\\bcd", None, 0, False, False),
        ("\u0430\u043b\u0438\u0441\u0430", None, 0, False, False),
        ("A=l/i+c-e._0", None, 0, True, True),
    ],
)
def test_a_search_looks_further_when_there_is_room_and_the_term_can_be_a_name(
    name: str, server: str | None, found: int, mistypes: bool, parts: bool
) -> None:
    term = Term(name=Name(name), server=server)
    assert (looks_for_mistypes(term, found, 10), looks_for_parts(term, found, 10)) == (mistypes, parts)
