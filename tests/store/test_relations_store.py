"""Whom people follow and block, in the database."""

import pytest

from super_app.accounts import follow_word_store, relation_store, store
from super_app.accounts.model import Contact, Genesis, Peer, Unnamed
from super_app.db import Transaction
from super_app.ids import Acct, Handle, ServerName, UserId

pytestmark = pytest.mark.packages("super_app.accounts")

ALICE, BOB, CAROL = (UserId(f"@{name}:hs1.test") for name in ("alice", "bob", "carol"))
DAVE = UserId("@dave:hs2.test")


@pytest.fixture
def accts(transaction: Transaction) -> dict[UserId, Acct]:
    found: dict[UserId, Acct] = {}
    for number, user_id in enumerate((ALICE, BOB, CAROL)):
        genesis = Genesis(server=ServerName("hs1.test"), localpart=user_id, created_ms=1, nonce=f"{number:032x}")
        found[user_id] = transaction(lambda cur, u=user_id, g=genesis: store.ensure(cur, u, g)).acct  # type: ignore[misc]
    return found


def peer(user_id: UserId, acct: str = "", since_ms: int = 1) -> Peer:
    return Peer(acct=Acct(acct), user_id=user_id, handle=Handle(user_id), since_ms=since_ms)


def test_following_is_mutual_when_both_do(transaction: Transaction, accts: dict[UserId, Acct]) -> None:
    transaction(lambda cur: relation_store.follow(cur, accts[ALICE], peer(BOB, accts[BOB])))
    transaction(lambda cur: relation_store.follow(cur, accts[ALICE], peer(DAVE, since_ms=2)))
    (bob, dave) = transaction(lambda cur: relation_store.following(cur, accts[ALICE]))
    assert (bob.user_id, bob.mutual, dave.user_id, dave.mutual) == (BOB, False, DAVE, False)
    transaction(lambda cur: relation_store.follow(cur, accts[BOB], peer(ALICE)))
    (bob, dave) = transaction(lambda cur: relation_store.following(cur, accts[ALICE]))
    assert (bob.mutual, dave.mutual) == (True, False)
    (follower,) = transaction(lambda cur: relation_store.followers(cur, ALICE))
    assert (follower.user_id, follower.acct, follower.mutual) == (BOB, accts[BOB], True)
    assert [each.user_id for each in transaction(lambda cur: relation_store.followers(cur, DAVE))] == [ALICE]
    transaction(lambda cur: relation_store.unfollow(cur, accts[BOB], ALICE))
    assert transaction(lambda cur: relation_store.followers(cur, ALICE)) == ()


def test_following_again_refreshes_and_forgets_no_acct(transaction: Transaction, accts: dict[UserId, Acct]) -> None:
    transaction(lambda cur: relation_store.follow(cur, accts[ALICE], peer(DAVE, "an acct")))
    transaction(lambda cur: relation_store.follow(cur, accts[ALICE], peer(DAVE, "", 9)))
    found = transaction(lambda cur: relation_store.followed(cur, accts[ALICE], DAVE))
    assert found == peer(DAVE, "an acct")
    assert transaction(lambda cur: relation_store.count_following(cur, accts[ALICE])) == 1


def test_a_block_is_one_persons(transaction: Transaction, accts: dict[UserId, Acct]) -> None:
    transaction(lambda cur: relation_store.block(cur, accts[ALICE], peer(DAVE)))
    assert transaction(lambda cur: relation_store.blocks(cur, ALICE, DAVE))
    assert not transaction(lambda cur: relation_store.blocks(cur, BOB, DAVE))
    assert transaction(lambda cur: relation_store.blocked(cur, accts[ALICE], DAVE)) == peer(DAVE)
    transaction(lambda cur: relation_store.unblock(cur, accts[ALICE], DAVE))
    assert transaction(lambda cur: relation_store.blocking(cur, accts[ALICE])) == ()


def test_what_is_kept_about_a_contact_survives_a_refresh(transaction: Transaction, accts: dict[UserId, Acct]) -> None:
    contact = Contact(acct=accts[BOB], user_id=BOB, handle=Handle(BOB), since_ms=1)
    transaction(lambda cur: store.put_contact(cur, accts[ALICE], contact))
    transaction(lambda cur: store.describe_contact(cur, accts[ALICE], BOB, favourite=True, note="tall"))
    again = transaction(lambda cur: store.put_contact(cur, accts[ALICE], contact))
    assert (again.favourite, again.note) == (True, "tall")


DAVES, ERINS = Acct("d" * 43), Acct("e" * 43)
ERIN = UserId("@erin:hs3.test")


def hear(transaction: Transaction, acct: Acct, *, follows: bool = True, peer_acct: Acct = DAVES) -> None:
    transaction(lambda cur: follow_word_store.hear(cur, DAVE, peer_acct, ALICE, acct, follows=follows, now_ms=5))


def test_a_follow_from_elsewhere_counts_for_the_account_that_it_names(
    transaction: Transaction, accts: dict[UserId, Acct]
) -> None:
    hear(transaction, accts[BOB])
    assert transaction(lambda cur: relation_store.followers(cur, ALICE)) == ()
    hear(transaction, accts[ALICE])
    (follower,) = transaction(lambda cur: relation_store.followers(cur, ALICE))
    assert (follower.user_id, follower.acct, follower.mutual) == (DAVE, DAVES, False)
    transaction(lambda cur: relation_store.follow(cur, accts[ALICE], peer(DAVE, DAVES)))
    transaction(lambda cur: relation_store.follow(cur, accts[ALICE], peer(BOB, accts[BOB])))
    assert transaction(lambda cur: follow_word_store.mutual_among(cur, ALICE, [BOB, DAVE])) == {DAVE}
    assert transaction(lambda cur: relation_store.followers(cur, ALICE))[0].mutual
    # Whoever registers a free user id anew is another account.
    hear(transaction, accts[ALICE], peer_acct=ERINS)
    assert transaction(lambda cur: follow_word_store.mutual_among(cur, ALICE, [BOB, DAVE])) == frozenset()
    hear(transaction, accts[ALICE], follows=False)
    assert transaction(lambda cur: relation_store.followers(cur, ALICE)) == ()


def test_there_is_a_limit_of_followers_from_elsewhere(
    transaction: Transaction, accts: dict[UserId, Acct], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_word_store, "MAX_FOLLOWERS", 0)
    hear(transaction, accts[ALICE])
    assert transaction(lambda cur: relation_store.followers(cur, ALICE)) == ()


def test_a_word_is_told_until_it_was_heard_and_later_each_time(
    transaction: Transaction, accts: dict[UserId, Acct]
) -> None:
    def due(now_ms: int) -> list[tuple[UserId, bool]]:
        words = transaction(lambda cur: follow_word_store.due(cur, now_ms, 10))
        return [(word.peer, word.follows) for word in words]

    transaction(lambda cur: follow_word_store.tell(cur, accts[ALICE], DAVE, DAVES, 10))
    assert due(9) == []
    (word,) = transaction(lambda cur: follow_word_store.due(cur, 10, 10))
    transaction(lambda cur: follow_word_store.postpone(cur, word, 20))
    assert (due(60_019), due(60_020)) == ([], [(DAVE, True)])
    transaction(lambda cur: follow_word_store.take_back(cur, accts[ALICE], DAVE, 30))
    # What was said before has been overtaken.
    transaction(lambda cur: follow_word_store.delivered(cur, word))
    assert due(30) == [(DAVE, False)]
    assert transaction(lambda cur: follow_word_store.told(cur, accts[ALICE])) == frozenset()
    (word,) = transaction(lambda cur: follow_word_store.due(cur, 30, 10))
    transaction(lambda cur: follow_word_store.postpone(cur, word, 31 + follow_word_store.GIVE_UP_AFTER_MS))
    assert due(2**50) == []


def test_followers_and_words_go_along_with_who_moves(transaction: Transaction, accts: dict[UserId, Acct]) -> None:
    hear(transaction, accts[ALICE])
    transaction(lambda cur: follow_word_store.tell(cur, accts[BOB], DAVE, DAVES, 10))
    (word,) = transaction(lambda cur: follow_word_store.due(cur, 10, 10))
    transaction(lambda cur: follow_word_store.delivered(cur, word))
    before, after = peer(DAVE, DAVES), peer(ERIN, ERINS, 50)
    transaction(lambda cur: relation_store.moved(cur, before, after, unnamed=Unnamed.GO_ALONG))
    assert [each.user_id for each in transaction(lambda cur: relation_store.followers(cur, ALICE))] == [ERIN]
    (again,) = transaction(lambda cur: follow_word_store.due(cur, 50, 10))
    assert (again.peer, again.peer_acct, again.follows) == (ERIN, ERINS, True)


def test_who_is_erased_leaves_no_follower_and_no_follow_behind(
    transaction: Transaction, accts: dict[UserId, Acct]
) -> None:
    hear(transaction, accts[ALICE])
    transaction(lambda cur: follow_word_store.tell(cur, accts[ALICE], ERIN, ERINS, 10))
    (word,) = transaction(lambda cur: follow_word_store.due(cur, 10, 10))
    transaction(lambda cur: follow_word_store.delivered(cur, word))
    assert transaction(lambda cur: relation_store.erase_person(cur, accts[ALICE])) == 2
    assert transaction(lambda cur: relation_store.followers(cur, ALICE)) == ()
    (word,) = transaction(lambda cur: follow_word_store.due(cur, 10, 10))
    assert (word.peer, word.follows) == (ERIN, False)
    transaction(lambda cur: follow_word_store.delivered(cur, word))
    assert transaction(lambda cur: follow_word_store.due(cur, 2**50, 10)) == ()
    assert transaction(lambda cur: relation_store.erase_person(cur, accts[ALICE])) == 0
