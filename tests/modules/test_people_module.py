"""What people are to each other, through the routes: details, imports, follows, blocks, cards, the profile field."""

from typing import Any

import pytest
from fake_api import FakeHomeserver
from synapse.api.errors import Codes, SynapseError
from test_directory_module import HS2, Pair, refusal

from super_app.names import HANDLE_FIELD, EventType, FederationQuery
from synapse_super_app import contacts as contacts_module
from synapse_super_app import relation_routes
from synapse_super_app.contacts import ContactsFeature

IGNORED = "m.ignored_user_list"


@pytest.fixture
def pair() -> Pair:
    return Pair()


def relations(homeserver: FakeHomeserver) -> Any:
    return next(each for each in homeserver.module.features if isinstance(each, ContactsFeature)).relations


class TestContacts:
    def test_favourites_and_notes_are_the_owners_and_stay(self, pair: Pair) -> None:
        pair.hs1.call("PUT", "contacts/@bob:hs2.test", pair.alice)
        changed = pair.hs1.call("POST", "contacts/@bob:hs2.test", pair.alice, {"favourite": True, "note": "tall"})
        assert (changed["favourite"], changed["note"]) == (True, "tall")
        assert pair.hs1.call("POST", "contacts/@bob:hs2.test", pair.alice, {"favourite": False})["note"] == "tall"
        mirrored = pair.hs1.account_data[pair.alice, "org.superapp.contacts"]["contacts"][0]
        assert (mirrored.get("favourite"), mirrored["note"]) == (None, "tall")
        assert refusal(pair.hs1, "POST", "contacts/nobody", pair.alice, {"note": "x"}) == (404, "UNKNOWN_CONTACT")
        too_long = {"note": "x" * 2_001}
        assert refusal(pair.hs1, "POST", "contacts/@bob:hs2.test", pair.alice, too_long) == (422, "INVALID_VALUE")


class TestImport:
    def test_people_with_a_matrix_address_are_added_and_nobody_else_is_asked_for(self, pair: Pair) -> None:
        pair.hs1.call("PUT", "contacts/@carol:hs2.test", pair.alice)
        asked = len(pair.hs1.asked)
        book = "".join(
            f"BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Somebody\r\n{line}\r\nEND:VCARD\r\n"
            for line in (
                "X-MATRIX:@bob:hs2.test",
                "IMPP:matrix:u/carol:hs2.test",
                "X-MATRIX:@alice:hs1.test",
                "X-MATRIX:@nobody:hs2.test",
                "X-MATRIX:@somebody:down.test",
                "X-MATRIX:@another:down.test",
                "EMAIL:secret@example.org",
                "TEL:+1 555 0100",
            )
        )
        done = pair.hs1.call("POST", "contacts/import", pair.alice, {"vcard": book})
        assert [each["handle"] for each in done.pop("added")] == ["@bob:hs2.test"]
        assert done == {"cards": 8, "known": 2, "not_found": 1, "later": 2}
        assert "secret" not in str(pair.hs1.asked[asked:])
        assert "555" not in str(pair.hs1.asked[asked:])
        again = pair.hs1.call("POST", "contacts/import", pair.alice, {"vcard": book})
        assert (again["added"], again["known"]) == ([], 3)

    def test_what_is_no_address_book_is_refused(self, pair: Pair) -> None:
        assert refusal(pair.hs1, "POST", "contacts/import", pair.alice, {"vcard": "name,phone"}) == (
            422,
            "INVALID_VALUE",
        )

    def test_a_full_address_book_takes_no_more(self, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(contacts_module, "MAX_CONTACTS", 0)
        book = {"vcard": "BEGIN:VCARD\nX-MATRIX:@bob:hs2.test\nEND:VCARD\n"}
        assert pair.hs1.call("POST", "contacts/import", pair.alice, book)["later"] == 1


class TestFollowing:
    def test_who_follows_each_other_is_mutual(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "follows/carol", pair.bob)
        assert pair.hs2.call("PUT", "follows/@bob:hs2.test", pair.carol)["mutual"] is True
        listed = pair.hs2.call("GET", "follows", pair.bob)
        assert [(each["user_id"], each["mutual"]) for each in listed["following"]] == [(pair.carol, True)]
        assert [each["user_id"] for each in listed["followers"]] == [pair.carol]
        assert pair.hs2.result(relations(pair.hs2).follows(pair.bob, pair.carol))
        pair.hs2.call("DELETE", "follows/carol", pair.bob)
        assert not pair.hs2.result(relations(pair.hs2).follows(pair.bob, pair.carol))
        assert refusal(pair.hs2, "DELETE", "follows/carol", pair.bob) == (404, "UNKNOWN_CONTACT")

    def test_people_of_other_homeservers_are_followed_too(self, pair: Pair) -> None:
        assert pair.hs1.call("PUT", "follows/@bob:hs2.test", pair.alice)["user_id"] == pair.bob
        assert refusal(pair.hs1, "PUT", "follows/alice", pair.alice) == (422, "INVALID_VALUE")
        assert refusal(pair.hs1, "PUT", "follows/nobody", pair.alice) == (404, "UNKNOWN_HANDLE")

    def test_there_is_a_limit(self, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(relation_routes, "MAX_FOLLOWS", 1)
        pair.hs1.call("PUT", "follows/@bob:hs2.test", pair.alice)
        pair.hs1.call("PUT", "follows/@bob:hs2.test", pair.alice)
        assert refusal(pair.hs1, "PUT", "follows/@carol:hs2.test", pair.alice) == (429, "LIMIT_EXCEEDED")


class TestFollowsElsewhere:
    def tell(self, pair: Pair, *, tell: bool = True) -> dict[str, Any]:
        told = pair.hs1.call("PUT", "follows/@bob:hs2.test", pair.alice, {"tell": tell})
        pair.advance(2)
        return dict(told)

    def followers(self, pair: Pair) -> list[str]:
        return [each["user_id"] for each in pair.hs2.call("GET", "follows", pair.bob)["followers"]]

    def test_nobody_is_told_unless_their_follower_says_so(self, pair: Pair) -> None:
        asked = len(pair.hs1.asked)
        assert pair.hs1.call("PUT", "follows/@bob:hs2.test", pair.alice)["told"] is False
        pair.advance(120)
        assert FederationQuery.FOLLOW not in {query for _, query, _ in pair.hs1.asked[asked:]}
        assert self.followers(pair) == []

    def test_two_who_let_each_other_know_are_mutual_on_both_homeservers(self, pair: Pair) -> None:
        assert self.tell(pair)["told"] is True
        assert self.followers(pair) == [pair.alice]
        back = pair.hs2.call("PUT", "follows/@alice:hs1.test", pair.bob)
        # bob knows of both follows; alice of her own alone, until bob tells her.
        assert back["mutual"] is True
        (mine,) = pair.hs1.call("GET", "follows", pair.alice)["following"]
        assert (mine["mutual"], mine["told"]) == (False, True)
        pair.hs2.call("PUT", "follows/@alice:hs1.test", pair.bob, {"tell": True})
        pair.hs2.advance(2)
        (mine,) = pair.hs1.call("GET", "follows", pair.alice)["following"]
        assert mine["mutual"] is True

    def test_mutual_follows_come_before_strangers_in_searches(self, pair: Pair) -> None:
        for name in ("zoe1", "zoe2"):
            pair.hs2.register(name)
            pair.hs2.call("PUT", f"handles/{name}", f"@{name}:hs2.test", {"discover": "public"})
        pair.advance(60)
        assert pair.found_by_alice("zoe") == ["@zoe1:hs2.test", "@zoe2:hs2.test"]
        pair.hs1.call("PUT", "follows/@zoe2:hs2.test", pair.alice)
        assert pair.found_by_alice("zoe") == ["@zoe1:hs2.test", "@zoe2:hs2.test"]
        pair.hs2.call("PUT", "follows/@alice:hs1.test", "@zoe2:hs2.test", {"tell": True})
        pair.hs2.advance(2)
        assert pair.found_by_alice("zoe") == ["@zoe2:hs2.test", "@zoe1:hs2.test"]

    def test_it_is_taken_back_by_word_by_unfollowing_and_by_blocking(self, pair: Pair) -> None:
        self.tell(pair)
        assert self.tell(pair, tell=False)["told"] is False
        assert self.followers(pair) == []
        for undo in ("follows", "blocks"):
            self.tell(pair)
            assert self.followers(pair) == [pair.alice]
            pair.hs1.call("DELETE" if undo == "follows" else "PUT", f"{undo}/@bob:hs2.test", pair.alice)
            pair.advance(2)
            assert self.followers(pair) == []

    def test_who_is_blocked_is_no_follower_and_cannot_tell(self, pair: Pair) -> None:
        self.tell(pair)
        pair.hs2.call("PUT", "blocks/@alice:hs1.test", pair.bob)
        assert self.followers(pair) == []
        self.tell(pair, tell=False)
        self.tell(pair)
        assert self.followers(pair) == []

    def test_what_the_network_swallows_is_told_later(self, pair: Pair) -> None:
        pair.hs1.call("PUT", "follows/@bob:hs2.test", pair.alice)
        pair.disconnect()
        self.tell(pair)
        pair.connect()
        assert self.followers(pair) == []
        pair.advance(180)
        assert self.followers(pair) == [pair.alice]

    def test_a_homeserver_speaks_for_its_own_people_and_learns_nothing(self, pair: Pair) -> None:
        tell = pair.hs2.private.queries[FederationQuery.FOLLOW]
        bob = pair.hs2.call("GET", "handles/bob", pair.bob)["acct"]
        word = {"follower": pair.alice, "follower_acct": "A" * 43, "user_id": pair.bob, "acct": bob, "follows": "1"}
        forged: list[dict[str, str]] = [
            {"origin": "hs3.test"},
            {"user_id": "@bob:hs3.test"},
            {"follows": "2"},
            {"acct": "x"},
            {"follower": "alice"},
        ]
        for change in forged:
            with pytest.raises(SynapseError) as refused:
                pair.hs2.result(tell({"origin": "hs1.test", **word, **change}))
            assert refused.value.code == 422
        answers = [
            pair.hs2.result(tell({"origin": "hs1.test", **word, **change}))
            for change in ({}, {"acct": "E" * 43}, {"user_id": "@nobody:hs2.test"})
        ]
        assert answers == [{"v": 1}] * 3
        assert self.followers(pair) == [pair.alice]
        # The first of the forged words was of another homeserver, which has a budget of its own.
        for _ in range(201 - len(forged) - len(answers)):
            pair.hs2.result(tell({"origin": "hs1.test", **word}))
        with pytest.raises(SynapseError) as refused:
            pair.hs2.result(tell({"origin": "hs1.test", **word}))
        assert refused.value.code == 429

    def test_nobody_is_told_where_no_directory_runs(self, pair: Pair) -> None:
        del pair.hs2.private.queries[FederationQuery.DIRECTORY_RESOLVE]
        wish = {"tell": True}
        assert refusal(pair.hs1, "PUT", "follows/@erin:hs2.test", pair.alice, wish) == (422, "INVALID_VALUE")
        assert pair.hs1.call("PUT", "follows/@erin:hs2.test", pair.alice)["acct"] == ""


class TestBlocking:
    def test_a_block_is_on_the_matrix_ignore_list_too_and_ends_on_both(self, pair: Pair) -> None:
        pair.hs1.account_data[pair.alice, IGNORED] = {"ignored_users": {"@pest:hs9.test": {}}, "else": 1}
        pair.hs1.call("PUT", "blocks/@bob:hs2.test", pair.alice)
        kept = {"ignored_users": {"@pest:hs9.test": {}, pair.bob: {}}, "else": 1}
        assert pair.hs1.account_data[pair.alice, IGNORED] == kept
        assert [each["user_id"] for each in pair.hs1.call("GET", "blocks", pair.alice)["blocked"]] == [pair.bob]
        pair.hs1.call("DELETE", "blocks/@bob:hs2.test", pair.alice)
        assert pair.hs1.account_data[pair.alice, IGNORED]["ignored_users"] == {"@pest:hs9.test": {}}
        assert refusal(pair.hs1, "DELETE", "blocks/@bob:hs2.test", pair.alice) == (404, "UNKNOWN_CONTACT")

    def test_either_list_is_enough(self, pair: Pair) -> None:
        of_hs1 = relations(pair.hs1)
        pair.hs1.call("PUT", "blocks/@bob:hs2.test", pair.alice)
        pair.hs1.account_data[pair.alice, IGNORED] = {"ignored_users": {pair.carol: {}}}
        assert pair.hs1.result(of_hs1.blocks(pair.alice, pair.bob))
        assert pair.hs1.result(of_hs1.blocks(pair.alice, pair.carol))
        assert not pair.hs1.result(of_hs1.blocks(pair.alice, "@dave:hs2.test"))

    def test_who_is_blocked_is_not_found_not_followed_and_finds_nobody_here(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "follows/carol", pair.bob)
        pair.hs2.call("PUT", "follows/bob", pair.carol)
        pair.hs2.call("PUT", "blocks/carol", pair.bob)
        assert pair.hs2.call("POST", "search", pair.bob, {"term": "carol"})["results"] == []
        assert pair.hs2.call("POST", "search", pair.carol, {"term": "bob"})["results"] == []
        assert pair.hs2.call("GET", "follows", pair.bob) == {"following": [], "followers": []}
        assert refusal(pair.hs2, "PUT", "follows/carol", pair.bob) == (403, "NOT_ALLOWED")

    @pytest.mark.parametrize("local", [True, False])
    def test_their_invitations_are_refused(self, pair: Pair, local: bool) -> None:
        inviter, invitee = (pair.carol, pair.bob) if local else (pair.alice, pair.bob)
        pair.hs2.call("PUT", f"blocks/{inviter}", pair.bob)
        if local:
            judge, *_ = pair.hs2.api.callbacks["user_may_invite"]
            verdicts = [
                pair.hs2.result(judge(*pairing, "!a:hs2.test")) for pairing in ((inviter, invitee), (invitee, inviter))
            ]
        else:
            (judge,) = pair.hs2.api.callbacks["federated_user_may_invite"]
            event = type("Invite", (), {"sender": inviter, "state_key": invitee})()
            other = type("Invite", (), {"sender": "@dave:hs1.test", "state_key": invitee})()
            verdicts = [pair.hs2.result(judge(each)) for each in (event, other)]
        assert verdicts == [Codes.FORBIDDEN, "NOT_SPAM"]

    def test_inviting_goes_on_when_we_cannot_answer(self, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
        async def broken(*_: Any) -> bool:
            raise RuntimeError("the database is away")

        monkeypatch.setattr(relations(pair.hs2), "blocks", broken)
        judge, *_ = pair.hs2.api.callbacks["user_may_invite"]
        assert pair.hs2.result(judge(pair.carol, pair.bob, "!a:hs2.test")) == "NOT_SPAM"

    def test_who_hides_or_is_unreachable_is_blocked_by_their_user_id(self, pair: Pair) -> None:
        blocked = pair.hs1.call("PUT", "blocks/@pest:down.test", pair.alice)
        assert (blocked["user_id"], blocked["acct"]) == ("@pest:down.test", "")
        assert refusal(pair.hs1, "PUT", "blocks/alice", pair.alice) == (422, "INVALID_VALUE")

    def test_there_is_a_limit(self, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(relation_routes, "MAX_BLOCKS", 1)
        pair.hs1.call("PUT", "blocks/@bob:hs2.test", pair.alice)
        pair.hs1.call("PUT", "blocks/@bob:hs2.test", pair.alice)
        assert refusal(pair.hs1, "PUT", "blocks/@carol:hs2.test", pair.alice) == (429, "LIMIT_EXCEEDED")
        assert pair.carol not in pair.hs1.account_data[pair.alice, IGNORED]["ignored_users"]

    def test_their_payments_are_refused_with_the_sentence_that_strangers_read(self) -> None:
        payments = {"assets": [{"code": "PTS", "scale": 0}]}
        house = FakeHomeserver(config={"features": {"calls": False, "web": False}, "payments": payments})
        house.start()
        alice, bob = house.register("alice"), house.register("bob")
        admin = house.register("admin", admin=True)
        house.room(alice, bob)
        house.call("POST", "admin/issue", admin, {"user_id": alice, "amount": 9, "currency": "PTS", "reference": "r"})
        house.call("PUT", "blocks/alice", bob)
        order = {"payment_id": "0" * 32, "payee": bob, "amount": 1, "currency": "PTS"}
        with pytest.raises(SynapseError, match="does not take payments from you") as refused:
            house.call("POST", "payments", alice, order)
        assert (refused.value.code, refused.value.errcode) == (403, "ORG.SUPERAPP.NOT_ALLOWED")
        house.call("DELETE", "blocks/alice", bob)
        assert house.call("POST", "payments", alice, {**order, "payment_id": "1" * 32})["state"] == "completed"


class TestCards:
    def test_a_card_made_here_is_checked_there_without_asking(self, pair: Pair) -> None:
        card = pair.hs2.call("GET", "handles/bob/card", pair.bob)
        pair.disconnect()
        checked = pair.hs1.call("POST", "cards/check", pair.alice, {"card": card})
        assert (checked["valid"], checked["handle"], checked["user_id"]) == (True, "@bob:hs2.test", pair.bob)
        assert pair.hs2.call("POST", "cards/check", pair.carol, {"card": card})["valid"] is True

    @pytest.mark.parametrize("field", ["user_id", "acct", "discover", "expires"])
    def test_a_card_that_was_changed_is_not_valid(self, pair: Pair, field: str) -> None:
        card = pair.hs2.call("GET", "handles/bob/card", pair.bob)
        card["record"][field] = card["record"][field] + 1 if field == "expires" else "x" * 43
        checked = pair.hs1.call("POST", "cards/check", pair.alice, {"card": card})
        assert checked["valid"] is False
        assert checked["why"]

    def test_a_card_of_a_server_with_another_key_and_an_expired_one_are_not_valid(self, pair: Pair) -> None:
        card = pair.hs2.call("GET", "handles/bob/card", pair.bob)
        impostor = FakeHomeserver(HS2, config={"features": {"calls": False, "payments": False, "web": False}})
        impostor.start()
        forger = impostor.register("bob")
        forged = impostor.call("GET", "handles/bob/card", forger)
        assert pair.hs1.call("POST", "cards/check", pair.alice, {"card": forged})["valid"] is False
        pair.hs1.clock.advance(31 * 86_400)
        assert pair.hs1.call("POST", "cards/check", pair.alice, {"card": card})["valid"] is False
        for nonsense in ({}, {"v": 1, "record": {}, "certificate": {}}):
            assert pair.hs1.call("POST", "cards/check", pair.alice, {"card": nonsense})["valid"] is False

    def test_only_its_owner_shares_a_handle_that_is_not_public(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/bob", pair.bob, {"discover": "link"})
        assert pair.hs2.call("GET", "handles/bob/card", pair.bob)["record"]["discover"] == "link"
        assert refusal(pair.hs2, "GET", "handles/bob/card", pair.carol) == (403, "NOT_ALLOWED")
        public = pair.hs1.call("GET", "handles/@carol:hs2.test/card", pair.alice)
        assert pair.hs1.call("POST", "cards/check", pair.alice, {"card": public}).get("why") is None
        assert refusal(pair.hs1, "GET", "handles/nobody/card", pair.alice) == (404, "UNKNOWN_HANDLE")

    def test_a_card_is_shared_in_a_room_and_a_forged_one_is_not(self, pair: Pair) -> None:
        room = pair.hs2.room(pair.bob, pair.carol)
        card = pair.hs2.call("GET", "handles/bob/card", pair.bob)
        pair.hs2.send(pair.bob, room, EventType.CONTACT, card)
        forged = {**card, "record": {**card["record"], "user_id": pair.carol}}
        for content in (forged, {"v": 1}, {}):
            with pytest.raises(SynapseError) as refused:
                pair.hs2.send(pair.carol, room, EventType.CONTACT, content)
            assert refused.value.errcode == "ORG.SUPERAPP.INVALID_VALUE"
        with pytest.raises(SynapseError) as refused:
            pair.hs2.send(pair.bob, room, EventType.CONTACT, card, state_key="")
        assert refused.value.errcode == "ORG.SUPERAPP.NOT_A_MESSAGE"


class TestProfileField:
    def test_a_public_handle_is_shown_and_goes_when_it_is_public_no_more(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/bobby", pair.bob)
        assert pair.hs2.profile_fields[pair.bob] == {HANDLE_FIELD: "@bobby:hs2.test"}
        pair.hs2.call("PUT", "handles/bobby", pair.bob, {"discover": "exact"})
        assert pair.hs2.profile_fields[pair.bob] == {}

    def test_an_operators_act_shows_too(self, pair: Pair) -> None:
        pair.hs2.call("PUT", "handles/bobby", pair.bob)
        admin = pair.hs2.register("admin", admin=True)
        pair.hs2.call("POST", "admin/handles/bobby/freeze", admin, {"reason": "a letter"})
        assert pair.hs2.profile_fields[pair.bob] == {}

    def test_the_operator_can_switch_it_off(self) -> None:
        pair = Pair(second={"profile_field": False})
        pair.hs2.call("PUT", "handles/bobby", pair.bob)
        assert pair.hs2.profile_fields == {}
