"""What visitors are told of a handle: of a public one who vouches for it, of every other one nothing."""

from typing import Any

import pytest
from test_directory_module import HS2, Pair, refusal
from test_verification_module import later, verify
from test_verification_module import told as domains_of

from super_app.ids import UserId
from synapse_super_app.directory.domains import Word

VISITOR = UserId("")
NOBODY: dict[str, Any] = {"badges": []}


@pytest.fixture
def pair() -> Pair:
    return Pair()


def told(pair: Pair, who: str) -> dict[str, Any]:
    """By the first homeserver."""
    return dict(pair.hs1.call("GET", f"handles/{who}/public", VISITOR))


def test_a_badge_is_told_here_and_on_another_homeserver_until_it_is_taken_away(pair: Pair) -> None:
    admin = pair.hs2.register("admin", admin=True)
    record = verify(pair, admin)
    pair.advance(7)
    badge = {"kind": "operator", "issuer": HS2, "server": HS2, "expires": record["badges"][0]["expires"]}
    shown = {"handle": "@bob:hs2.test", "user_id": pair.bob, "badges": [badge]}
    assert told(pair, "@bob:hs2.test") == shown
    assert pair.hs2.call("GET", "handles/bob/public", VISITOR) == shown
    pair.hs2.call("POST", "admin/handles/bob/unverify", admin, {"reason": "sold"})
    pair.advance(7)
    assert told(pair, "@bob:hs2.test") == {**shown, "badges": []}


def test_a_badge_of_a_domain_that_only_the_other_homeserver_has_heard_is_none(pair: Pair) -> None:
    heard_here = domains_of(pair.hs1)
    domains_of(pair.hs2).words["example.org", "@bob:hs2.test"] = Word.NAMES_IT
    pair.hs2.call("PUT", "handles/bob/domains/example.org", pair.bob)
    pair.advance(7)
    assert told(pair, "@bob:hs2.test")["badges"] == []
    heard_here.words["example.org", "@bob:hs2.test"] = Word.NAMES_IT
    later(pair, 6 * 3_600)
    assert [each["issuer"] for each in told(pair, "@bob:hs2.test")["badges"]] == ["example.org"]


def test_the_address_of_an_account_leads_to_the_handle_that_people_see(pair: Pair) -> None:
    pair.hs2.call("PUT", "handles/bobby", pair.bob, {"discover": "public"})
    pair.advance(7)
    for homeserver in (pair.hs1, pair.hs2):
        found = homeserver.call("GET", f"handles/{pair.bob}/public", VISITOR)
        assert (found["handle"], found["user_id"]) == ("@bobby:hs2.test", pair.bob)
    assert told(pair, "@bobby:hs2.test")["user_id"] == pair.bob


@pytest.mark.parametrize("discover", ["exact", "link", "none"])
def test_who_is_not_public_is_nobody_like_who_is_not_there(pair: Pair, discover: str) -> None:
    pair.hs1.call("PUT", "handles/alice", pair.alice, {"discover": discover})
    pair.hs2.call("PUT", "handles/bob", pair.bob, {"discover": discover})
    pair.advance(7)
    if discover != "none":
        # Whoever has the whole handle was told, so it is kept here.
        assert pair.hs1.call("GET", "handles/@bob:hs2.test", pair.alice)["user_id"] == pair.bob
    for who in ("alice", pair.alice, "@bob:hs2.test", "nobody", "@nobody:hs2.test", "@nobody:unknown.test"):
        assert told(pair, who) == NOBODY, who


def test_who_gave_a_handle_up_is_nobody(pair: Pair) -> None:
    pair.hs2.call("PUT", "handles/bobby", pair.bob, {"discover": "public"})
    pair.advance(7)
    pair.hs2.call("DELETE", "handles/bobby", pair.bob)
    pair.advance(7)
    assert told(pair, "@bobby:hs2.test") == NOBODY
    assert pair.hs2.call("GET", "handles/bobby/public", VISITOR) == NOBODY


def test_what_is_no_handle_is_refused(pair: Pair) -> None:
    assert refusal(pair.hs1, "GET", "handles/@:/public", VISITOR) == (422, "HANDLE_INVALID")
