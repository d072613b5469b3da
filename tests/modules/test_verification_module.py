"""Verification through the routes: operator, domain, organisation; what readers believe and what they show."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.api.errors import SynapseError
from test_directory_module import HS1, HS2, Pair, refusal

from super_app.directory import vouching
from super_app.directory.badges import Kind, badge
from super_app.directory.model import DAY_MS
from super_app.errors import Reason
from super_app.ids import Acct, Handle, ServerName, UserId
from super_app.names import FederationQuery
from synapse_super_app.directory.domains import Domains, Word, is_domain
from synapse_super_app.directory.feature import DirectoryFeature
from synapse_super_app.private_api import Profile


class Told:
    """Domains that say what the test tells them to."""

    def __init__(self) -> None:
        self.words: dict[tuple[str, str], Word] = {}
        self.asked: list[tuple[str, str]] = []

    async def ask(self, domain: str, handle: str) -> Word:
        self.asked.append((domain, handle))
        return self.words.get((domain, handle), Word.SILENT)


def directory(homeserver: FakeHomeserver) -> Any:
    return next(each for each in homeserver.module.features if isinstance(each, DirectoryFeature))


def told(homeserver: FakeHomeserver) -> Told:
    domains = Told()
    directory(homeserver)._verifying._domains = directory(homeserver)._vouching._domains = domains
    return domains


def badges(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(each["kind"], each["issuer"]) for each in record["badges"]]


@pytest.fixture
def pair() -> Pair:
    return Pair()


@pytest.fixture
def admin(pair: Pair) -> str:
    return pair.hs2.register("admin", admin=True)


def verify(pair: Pair, admin: str, name: str = "bob", **more: int) -> dict[str, Any]:
    return pair.hs2.call("POST", f"admin/handles/{name}/verify", admin, {"reason": "a passport", **more})


def found(pair: Pair, term: str = "bob") -> dict[str, Any]:
    (only,) = pair.hs1.call("POST", "search", pair.alice, {"term": term})["results"]
    return dict(only)


def later(pair: Pair, seconds: float) -> None:
    """In one step, since homeservers do something every second; with the round that asks about badges of others."""
    pair.hs1.clock.advance(seconds)
    pair.hs1.result(directory(pair.hs1)._vouching.round())
    pair.advance(7)


class TestOperator:
    def test_a_badge_reaches_other_homeservers_and_their_searches(self, pair: Pair, admin: str) -> None:
        pair.hs1.profiles[pair.bob] = Profile(display_name="Bob", avatar_url=None)
        assert badges(verify(pair, admin)) == [("operator", HS2)]
        pair.advance(7)
        shown = found(pair)
        assert badges(shown) == [("operator", HS2)]
        assert shown["display_name"] == "Bob \u2713"
        (badge,) = pair.hs1.result(directory(pair.hs1).people.badges_of(pair.bob))
        assert (badge.issuer, badge.kind) == (HS2, "operator")
        assert pair.hs2.call("GET", "admin/handles", admin)["deeds"][0]["act"] == "verify"

    def test_only_badges_that_hold_are_called_believed(self, pair: Pair, admin: str) -> None:
        record = verify(pair, admin)
        path = "handles/@bob:hs2.test/badges"
        pair.advance(7)
        (badge,) = pair.hs1.call("GET", path, pair.alice)["badges"]
        assert badge == {"kind": "operator", "issuer": HS2, "server": HS2, "expires": record["badges"][0]["expires"]}
        # A homeserver may write into its records what another one never signed.
        forged = {**record["badges"][0], "kind": "organisation", "issuer": "@bank:hs1.test", "server": "hs1.test"}
        shown = {**record, "badges": [forged]}
        people = directory(pair.hs1).people

        async def told(*_: object, **__: object) -> dict[str, Any]:
            return shown

        people.record = told
        assert pair.hs1.call("GET", path, pair.alice)["badges"] == []
        assert pair.hs1.call("GET", "handles/@bob:hs2.test", pair.alice)["badges"] == [forged]
        del people.record
        assert refusal(pair.hs1, "GET", "handles/@nobody:hs2.test/badges", pair.alice) == (404, "UNKNOWN_HANDLE")
        assert refusal(pair.hs1, "GET", "handles/@:/badges", pair.alice) == (422, "HANDLE_INVALID")

    def test_it_ends_when_it_expires_or_is_taken_away(self, pair: Pair, admin: str) -> None:
        verify(pair, admin, days=1)
        pair.hs2.call("POST", "admin/handles/bob/unverify", admin, {"reason": "sold"})
        assert refusal(pair.hs2, "POST", "admin/handles/bob/unverify", admin, {"reason": "x"}) == (422, "INVALID_VALUE")
        verify(pair, admin, days=1)
        pair.advance(7)
        assert found(pair)["badges"]
        pair.hs1.clock.advance(86_400)
        assert found(pair)["badges"] == []
        pair.hs2.result(directory(pair.hs2)._verifying.recheck())
        assert pair.hs2.call("GET", "handles/bob", pair.bob)["badges"] == []

    def test_it_drops_on_a_rename_and_with_the_name(self, pair: Pair, admin: str) -> None:
        verify(pair, admin)
        pair.hs2.call("PUT", "handles/bobby", pair.bob)
        assert pair.hs2.call("GET", "handles/bob", pair.bob)["badges"] == []
        verify(pair, admin, "bobby")
        pair.hs2.call("DELETE", "handles/bobby", pair.bob)
        file = pair.hs2.call("GET", "admin/handles/bobby", admin)
        assert (file["state"], file["kept_for"]) == ("released", "verified")
        assert pair.hs2.call("PUT", "handles/bobby", pair.bob)["badges"] == []

    def test_nobody_verifies_a_name_that_nobody_has(self, pair: Pair, admin: str) -> None:
        assert refusal(pair.hs2, "POST", "admin/handles/nobody/verify", admin, {"reason": "x"}) == (
            404,
            "UNKNOWN_HANDLE",
        )


class TestDomains:
    def test_both_directions_are_needed(self, pair: Pair) -> None:
        domains = told(pair.hs2)
        told(pair.hs1).words["example.org", "@bob:hs2.test"] = Word.NAMES_IT
        path = "handles/bob/domains/Example.org"
        assert refusal(pair.hs2, "PUT", path, pair.bob) == (403, "NOT_ALLOWED")
        domains.words["example.org", "@bob:hs2.test"] = Word.NAMES_IT
        assert refusal(pair.hs2, "PUT", path, pair.carol) == (404, "UNKNOWN_HANDLE")
        assert badges(pair.hs2.call("PUT", path, pair.bob)) == [("domain", "example.org")]
        pair.advance(7)
        assert badges(found(pair)) == [("domain", "example.org")]
        (badge,) = pair.hs1.result(directory(pair.hs1).people.badges_of(pair.bob))
        assert badge.vouched_by == {HS2, "example.org"}
        for nonsense in ("localhost", "a b.example", "example.org:8448", "-.example"):
            assert refusal(pair.hs2, "PUT", f"handles/bob/domains/{nonsense}", pair.bob) == (422, "INVALID_VALUE")

    def test_it_is_asked_again_and_renewed_dropped_or_kept_while_it_is_silent(self, pair: Pair) -> None:
        domains, verifying = told(pair.hs2), directory(pair.hs2)._verifying
        domains.words["example.org", "@bob:hs2.test"] = Word.NAMES_IT
        first = pair.hs2.call("PUT", "handles/bob/domains/example.org", pair.bob)["badges"][0]
        pair.hs2.clock.advance(5 * 86_400)
        pair.hs2.result(verifying.recheck())
        (renewed,) = pair.hs2.call("GET", "handles/bob", pair.bob)["badges"]
        assert renewed["expires"] >= first["expires"] + 5 * DAY_MS
        domains.words["example.org", "@bob:hs2.test"] = Word.SILENT
        pair.hs2.result(verifying.recheck())
        assert pair.hs2.call("GET", "handles/bob", pair.bob)["badges"] == [renewed]
        domains.words["example.org", "@bob:hs2.test"] = Word.NAMES_OTHERS
        pair.hs2.result(verifying.recheck())
        assert pair.hs2.call("GET", "handles/bob", pair.bob)["badges"] == []

    def test_its_owner_drops_it(self, pair: Pair) -> None:
        told(pair.hs2).words["example.org", "@bob:hs2.test"] = Word.NAMES_IT
        pair.hs2.call("PUT", "handles/bob/domains/example.org", pair.bob)
        assert pair.hs2.call("DELETE", "handles/bob/badges/domain/example.org", pair.bob)["badges"] == []
        again = "handles/bob/badges/domain/example.org"
        assert refusal(pair.hs2, "DELETE", again, pair.bob) == (422, "INVALID_VALUE")
        assert refusal(pair.hs2, "DELETE", "handles/bob/badges/other/x", pair.bob) == (422, "INVALID_VALUE")

    def test_there_is_room_for_eight_and_nobody_asks_for_many(self, pair: Pair) -> None:
        domains = told(pair.hs2)
        for number in range(10):
            domains.words[f"d{number}.example", "@bob:hs2.test"] = Word.NAMES_IT
        for number in range(8):
            pair.hs2.call("PUT", f"handles/bob/domains/d{number}.example", pair.bob)
        assert refusal(pair.hs2, "PUT", "handles/bob/domains/d8.example", pair.bob) == (429, "LIMIT_EXCEEDED")
        pair.hs2.call("PUT", "handles/bob/domains/d0.example", pair.bob)
        assert refusal(pair.hs2, "PUT", "handles/bob/domains/d9.example", pair.bob) == (429, "TOO_MANY_REQUESTS")

    def test_web_and_name_servers_are_asked_for_real(self) -> None:
        probe = Path(__file__).parent / "domain_probe.py"
        run = subprocess.run([sys.executable, probe], capture_output=True, text=True, timeout=120, check=True)
        assert json.loads(run.stdout.splitlines()[-1]) == {
            "txt": "NAMES_IT",
            "txt of others": "NAMES_OTHERS",
            "nothing": "SILENT",
            "web": "NAMES_IT",
            "web of others": "NAMES_OTHERS",
            "a private network": "SILENT",
        }

    @pytest.mark.parametrize("page", [b"[" * 60_000, b'{"handles": 1}', b"\xff", b'{"handles": [["@x:y"], 1]}', b"1"])
    def test_a_page_of_nonsense_names_nobody(self, pair: Pair, page: bytes) -> None:
        async def fetch(*_: object) -> bytes:
            return page

        async def no_txt(_: str) -> frozenset[str]:
            return frozenset()

        domains: Any = Domains(SimpleNamespace(fetch=fetch), ())  # type: ignore[arg-type]
        domains._txt = no_txt
        assert pair.hs1.result(domains.ask("example.org", "@x:y")) in (Word.SILENT, Word.NAMES_OTHERS)

    @pytest.mark.parametrize(
        ("text", "is_one"),
        [
            ("example.org", True),
            (f"{'a' * 63}.example", True),
            (f"{'a' * 64}.example", False),
            (".".join(["a" * 48] * 5), False),
            ("10.0.0.1:80", False),
            ("ex_ample.org", False),
            ("example.org.", False),
            ("Example.org", False),
        ],
    )
    def test_what_the_dns_could_not_hold_is_no_domain(self, text: str, is_one: bool) -> None:
        assert is_domain(text) is is_one


class TestOrganisations:
    def give(self, pair: Pair, admin: str) -> dict[str, Any]:
        """bob's handle is an organisation, and alice of the other homeserver its member."""
        verify(pair, admin)
        badge = pair.hs2.call("PUT", "handles/bob/members/@alice:hs1.test", pair.bob)["badge"]
        return dict(badge)

    def test_a_member_shows_the_badge_that_the_organisation_gave(self, pair: Pair, admin: str) -> None:
        badge = self.give(pair, admin)
        record = pair.hs1.call("POST", "handles/alice/badges", pair.alice, {"badge": badge})
        assert badges(record) == [("organisation", "@bob:hs2.test")]
        pair.advance(7)
        (shown,) = pair.hs2.call("POST", "search", pair.carol, {"term": "alice"})["results"]
        assert badges(shown) == [("organisation", "@bob:hs2.test")]
        members = pair.hs2.call("GET", "handles/bob/members", pair.bob)["members"]
        assert [each["handle"] for each in members] == ["@alice:hs1.test"]

    def test_only_who_is_verified_vouches_and_only_for_who_is_a_member(self, pair: Pair, admin: str) -> None:
        path = "handles/bob/members/@alice:hs1.test"
        assert refusal(pair.hs2, "PUT", path, pair.bob) == (403, "NOT_ALLOWED")
        badge = self.give(pair, admin)
        carols = "handles/carol/badges"
        assert refusal(pair.hs2, "POST", carols, pair.carol, {"badge": badge}) == (403, "NOT_ALLOWED")
        assert refusal(pair.hs2, "POST", carols, pair.carol, {"badge": {}}) == (422, "INVALID_VALUE")
        assert refusal(pair.hs2, "DELETE", "handles/bob/members/carol", pair.bob) == (404, "UNKNOWN_CONTACT")
        pair.disconnect()
        assert refusal(pair.hs1, "POST", "handles/alice/badges", pair.alice, {"badge": badge})[1] == "PEER_UNREACHABLE"

    def test_who_is_dismissed_loses_it_at_once_at_home_and_with_the_next_check_elsewhere(
        self, pair: Pair, admin: str
    ) -> None:
        pair.hs1.call("POST", "handles/alice/badges", pair.alice, {"badge": self.give(pair, admin)})
        at_home = pair.hs2.call("PUT", "handles/bob/members/carol", pair.bob)["badge"]
        pair.hs2.call("POST", "handles/carol/badges", pair.carol, {"badge": at_home})
        for member in ("carol", "@alice:hs1.test"):
            pair.hs2.call("DELETE", f"handles/bob/members/{member}", pair.bob)
        assert pair.hs2.call("GET", "handles/carol", pair.carol)["badges"] == []
        assert pair.hs1.call("GET", "handles/alice", pair.alice)["badges"]
        pair.hs1.result(directory(pair.hs1)._verifying.recheck())
        assert pair.hs1.call("GET", "handles/alice", pair.alice)["badges"] == []

    def test_an_answer_that_another_key_signed_is_not_believed(self, pair: Pair, admin: str) -> None:
        badge = self.give(pair, admin)
        pair.intercept(FederationQuery.DIRECTORY_BADGE, lambda said: {**said, "badge": {**said["badge"], "acct": "x"}})
        assert refusal(pair.hs1, "POST", "handles/alice/badges", pair.alice, {"badge": badge}) == (403, "NOT_ALLOWED")


class TestElsewhere:
    """Badges of another homeserver's people: what it signs is its word, and not yet that of who it says has spoken."""

    def claim(self, pair: Pair) -> dict[str, Any]:
        """hs2 shows a badge of example.org on bob, whatever that domain says to others."""
        told(pair.hs2).words["example.org", "@bob:hs2.test"] = Word.NAMES_IT
        return dict(pair.hs2.call("PUT", "handles/bob/domains/example.org", pair.bob))

    def test_a_domain_is_believed_once_it_named_the_handle_to_us(self, pair: Pair) -> None:
        domains = told(pair.hs1)
        self.claim(pair)
        pair.advance(7)
        assert found(pair)["badges"] == []
        assert pair.hs1.call("GET", "handles/@bob:hs2.test/badges", pair.alice)["badges"] == []
        domains.words["example.org", "@bob:hs2.test"] = Word.NAMES_IT
        later(pair, 6 * 3_600)
        assert badges(found(pair)) == [("domain", "example.org")]

    def test_one_that_names_it_no_more_is_believed_no_more_the_next_day_though_its_server_shows_it(
        self, pair: Pair
    ) -> None:
        domains = told(pair.hs1)
        domains.words["example.org", "@bob:hs2.test"] = Word.NAMES_IT
        self.claim(pair)
        pair.advance(7)
        assert found(pair)["badges"]
        domains.words["example.org", "@bob:hs2.test"] = Word.NAMES_OTHERS
        later(pair, 86_400)
        assert found(pair)["badges"] == []
        assert pair.hs1.call("GET", "handles/@bob:hs2.test", pair.alice)["badges"]

    def test_one_that_falls_silent_is_believed_for_two_weeks(self, pair: Pair) -> None:
        domains = told(pair.hs1)
        domains.words["example.org", "@bob:hs2.test"] = Word.NAMES_IT
        self.claim(pair)
        pair.advance(7)
        domains.words.clear()
        later(pair, 13 * 86_400)
        assert found(pair)["badges"]
        later(pair, 2 * 86_400)
        assert found(pair)["badges"] == []

    def test_what_a_domain_said_of_a_handle_counts_for_no_other_account(self, pair: Pair) -> None:
        told(pair.hs1).words["example.org", "@bob:hs2.test"] = Word.NAMES_IT
        record = self.claim(pair)
        pair.advance(7)
        believed = directory(pair.hs1)._vouching.believed
        assert pair.hs1.result(believed(record["badges"], "@bob:hs2.test", record["acct"]))
        other = badge(
            Kind.DOMAIN,
            "example.org",
            ServerName(HS2),
            Handle("@bob:hs2.test"),
            Acct("x" * 43),
            pair.key_of_hs2,
            issued_ms=record["badges"][0]["issued"],
            expires_ms=record["badges"][0]["expires"],
        )
        assert pair.hs1.result(believed([other], "@bob:hs2.test", "x" * 43)) == ()

    def test_one_domain_that_breaks_the_asking_keeps_no_other_badge_waiting(self, pair: Pair) -> None:
        domains, there = told(pair.hs1), told(pair.hs2)
        domains.words["b.example", "@bob:hs2.test"] = Word.NAMES_IT
        honest = domains.ask

        async def ask(domain: str, handle: str) -> Word:
            if domain == "a.example":
                raise RecursionError
            return await honest(domain, handle)

        domains.ask = ask  # type: ignore[method-assign]
        for domain in ("a.example", "b.example"):
            there.words[domain, "@bob:hs2.test"] = Word.NAMES_IT
            pair.hs2.call("PUT", f"handles/bob/domains/{domain}", pair.bob)
        pair.advance(7)
        assert badges(found(pair)) == [("domain", "b.example")]

    def test_nobody_is_asked_because_somebody_searches(self, pair: Pair) -> None:
        domains = told(pair.hs1)
        self.claim(pair)
        pair.advance(7)
        asked = len(domains.asked)
        assert asked
        for _ in range(3):
            found(pair)
            pair.hs1.call("GET", "handles/@bob:hs2.test/badges", pair.alice)
        assert len(domains.asked) == asked

    def test_a_server_has_us_ask_about_a_thousand_badges_at_most(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(vouching, "MAX_CLAIMS", 2)
        domains = told(pair.hs1)
        for number in range(4):
            told_there = directory(pair.hs2)._verifying._domains
            if not isinstance(told_there, Told):
                told_there = told(pair.hs2)
            told_there.words[f"d{number}.example", "@bob:hs2.test"] = Word.NAMES_IT
            pair.hs2.call("PUT", f"handles/bob/domains/d{number}.example", pair.bob)
        pair.advance(7)
        assert len(set(domains.asked)) == 2

    def test_an_organisation_counts_while_it_is_verified_itself(self, pair: Pair, admin: str) -> None:
        dave = pair.hs1.register("dave")
        pair.hs1.call("PUT", "handles/dave", dave, {"discover": "public"})
        verify(pair, admin)
        given = pair.hs2.call("PUT", "handles/bob/members/carol", pair.bob)["badge"]
        pair.hs2.call("POST", "handles/carol/badges", pair.carol, {"badge": given})
        pair.advance(7)
        assert badges(found(pair, "carol")) == [("organisation", "@bob:hs2.test")]
        # A server that forgets to take its badge away, from an organisation that nobody stands by any more.
        directory(pair.hs2)._verifying._renewed = self.forgetful
        pair.hs2.call("POST", "admin/handles/bob/unverify", admin, {"reason": "closed down"})
        later(pair, 86_400)
        assert found(pair, "carol")["badges"] == []
        assert pair.hs1.call("GET", "handles/@carol:hs2.test", pair.alice)["badges"]

    async def forgetful(self, *_: object) -> bool:
        return True

    def test_who_is_a_member_is_told_to_their_homeserver_and_to_who_saw_the_badge(self, pair: Pair, admin: str) -> None:
        verify(pair, admin)
        given = pair.hs2.call("PUT", "handles/bob/members/@alice:hs1.test", pair.bob)["badge"]
        ask = pair.hs2.private.queries[FederationQuery.DIRECTORY_BADGE]
        question = {"organisation": "@bob:hs2.test", "handle": "@alice:hs1.test"}
        assert "badge" in pair.hs2.result(ask({**question, "origin": HS1}))
        assert "badge" not in pair.hs2.result(ask({**question, "origin": "hs3.test"}))
        assert "badge" in pair.hs2.result(ask({**question, "origin": "hs3.test", "shown": json.dumps(given)}))
        for forged in ("", "[]", "{", json.dumps({**given, "acct": "x" * 43}), json.dumps({**given, "issuer": "@x:y"})):
            assert "badge" not in pair.hs2.result(ask({**question, "origin": "hs3.test", "shown": forged}))

    def test_a_member_shows_the_badge_under_the_organisations_new_key_with_the_next_check(
        self, pair: Pair, admin: str
    ) -> None:
        verify(pair, admin)
        given = pair.hs2.call("PUT", "handles/bob/members/@alice:hs1.test", pair.bob)["badge"]
        pair.hs1.call("POST", "handles/alice/badges", pair.alice, {"badge": given})
        pair.hs2.call("POST", "admin/directory/rotate-key", admin)
        pair.hs1.result(directory(pair.hs1)._verifying.recheck())
        (shown,) = pair.hs1.call("GET", "handles/alice", pair.alice)["badges"]
        assert shown["key_id"] != given["key_id"]
        assert [each["issuer"] for each in pair.hs1.call("GET", "handles/alice/badges", pair.alice)["badges"]] == [
            "@bob:hs2.test"
        ]

    def test_badges_are_signed_anew_with_a_new_key(self, pair: Pair, admin: str) -> None:
        told(pair.hs1).words["example.org", "@bob:hs2.test"] = Word.NAMES_IT
        before = self.claim(pair)["badges"][0]
        verify(pair, admin)
        pair.advance(7)
        assert len(found(pair)["badges"]) == 2
        pair.hs2.call("POST", "admin/directory/rotate-key", admin)
        pair.advance(60)
        pair.hs2.advance(60)
        pair.advance(60)
        after = {each["kind"]: each for each in found(pair)["badges"]}
        assert sorted(after) == ["domain", "operator"]
        assert after["domain"]["key_id"] != before["key_id"]
        assert after["domain"]["expires"] == before["expires"]


class TestShowing:
    def test_another_operator_makes_nobody_our_support(self, pair: Pair, admin: str) -> None:
        pair.hs1.profiles[pair.bob] = Profile(display_name="Support", avatar_url=None)
        verify(pair, admin)
        pair.advance(7)
        assert badges(found(pair)) == [("operator", HS2)]
        assert found(pair)["display_name"] == "bob \u2713"

    def test_our_operator_decides_who_bears_a_name_of_the_house(self, pair: Pair) -> None:
        admin = pair.hs1.register("root", admin=True)
        pair.hs1.register("helga")
        pair.hs1.call("PUT", "handles/helga", "@helga:hs1.test", {"discover": "public"})
        pair.hs1.profiles[UserId("@helga:hs1.test")] = Profile(display_name="Support", avatar_url=None)
        assert found(pair, "helga")["display_name"] == "helga"
        pair.hs1.call("POST", "admin/handles/helga/verify", admin, {"reason": "works here"})
        assert found(pair, "helga")["display_name"] == "Support \u2713"

    def test_badges_that_nobody_stands_by_lead_no_search(self, pair: Pair, admin: str) -> None:
        told(pair.hs1)
        told(pair.hs2).words["bank.example", "@bobby2:hs2.test"] = Word.NAMES_IT
        for name in ("bobby1", "bobby2"):
            pair.hs2.register(name)
            pair.hs2.call("PUT", f"handles/{name}", f"@{name}:hs2.test", {"discover": "public"})
        pair.hs2.call("PUT", "handles/bobby2/domains/bank.example", "@bobby2:hs2.test")
        pair.advance(60)
        results = pair.hs1.call("POST", "search", pair.alice, {"term": "bobby"})["results"]
        assert [each["handle"] for each in results] == ["@bobby1:hs2.test", "@bobby2:hs2.test"]
        told(pair.hs1).words["bank.example", "@bobby2:hs2.test"] = Word.NAMES_IT
        later(pair, 6 * 3_600)
        results = pair.hs1.call("POST", "search", pair.alice, {"term": "bobby"})["results"]
        assert [each["handle"] for each in results] == ["@bobby2:hs2.test", "@bobby1:hs2.test"]

    def test_forged_badges_are_not_shown(self, pair: Pair, admin: str) -> None:
        verify(pair, admin)
        pair.advance(7)
        (row,) = pair.hs1.query("SELECT record FROM superapp_directory_replica WHERE handle = '@bob:hs2.test'")
        record = json.loads(row[0])
        for change in ({"acct": "x" * 43}, {"issuer": HS1}, {"server": HS1, "issuer": HS1}, {"signature": "x"}):
            forged = [{**record["badges"][0], **change}]
            shown = pair.hs1.result(directory(pair.hs1)._verifying.verified(forged, "@bob:hs2.test", record["acct"]))
            assert shown == ()

    @pytest.mark.parametrize(
        ("display_name", "shown"),
        [
            ("Bob \u2713", "Bob"),
            ("Bob \u2705\ufe0f", "Bob"),
            ("\u202eboB", "boB"),
            ("Support", "bob"),
            ("Offici\u0430l Team", "bob"),
            ("Bob of Hamburg", "Bob of Hamburg"),
            ("Bob \U0001f535", "Bob"),
            ("Alice (@alice:hs1.test)", "bob"),
            ("Alice \uff20alice\uff1ahs1.test", "bob"),
        ],
    )
    def test_a_display_name_that_would_deceive_is_neutralised(self, pair: Pair, display_name: str, shown: str) -> None:
        pair.hs1.profiles[pair.bob] = Profile(display_name=display_name, avatar_url=None)
        assert found(pair)["display_name"] == shown

    def test_synapses_own_results_are_neutralised_too(self, pair: Pair) -> None:
        row = {"user_id": "@zoe:hs9.test", "display_name": "Zoe \u2713 Support", "avatar_url": None}
        pair.hs1.user_directory.append(row)
        answer = pair.hs1.result(pair.hs1.private.user_search(pair.alice, "zoe", 5))
        assert [each["display_name"] for each in answer["results"]] == ["zoe"]


def test_the_query_for_badges_waits_for_the_start() -> None:
    homeserver = FakeHomeserver(HS2, config={"features": {"calls": False, "payments": False, "web": False}})
    homeserver.start()
    directory(homeserver)._own._signer = None
    with pytest.raises(SynapseError) as refused:
        homeserver.result(homeserver.private.queries[FederationQuery.DIRECTORY_BADGE]({"origin": HS1}))
    assert refused.value.errcode == f"ORG.SUPERAPP.{Reason.STARTING.name}"
