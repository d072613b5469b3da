"""Whom people follow and block, in the database."""

import pytest

from super_app.accounts import relation_store, store
from super_app.accounts.model import Contact, Genesis, Peer
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
