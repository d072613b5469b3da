"""Accounts and contacts in the database."""

from functools import partial

import pytest

from super_app.accounts import store
from super_app.accounts.model import Account, Contact, Genesis
from super_app.db import Cursor, Transaction
from super_app.ids import Acct, Handle, ServerName, UserId

pytestmark = pytest.mark.packages("super_app.accounts")

ALICE = UserId("@alice:hs1.test")
BOB = UserId("@bob:hs2.test")
GENESIS = Genesis(server=ServerName("hs1.test"), localpart="alice", created_ms=1_000, nonce="00" * 16)
LATER_GENESIS = Genesis(server=ServerName("hs1.test"), localpart="alice", created_ms=2_000, nonce="11" * 16)


def contact(user_id: UserId, *, handle: str = "@bob:hs2.test", acct: str = "", since_ms: int = 5_000) -> Contact:
    return Contact(acct=Acct(acct), user_id=user_id, handle=Handle(handle), since_ms=since_ms)


@pytest.fixture
def alice(transaction: Transaction) -> Acct:
    return transaction(lambda cur: store.ensure(cur, ALICE, GENESIS)).acct


def test_an_account_is_found_by_its_user_id_and_by_its_acct(transaction: Transaction) -> None:
    made = transaction(lambda cur: store.ensure(cur, ALICE, GENESIS))

    assert made == Account(acct=GENESIS.acct(), user_id=ALICE, created_ms=1_000, used=True)
    assert transaction(lambda cur: store.by_user_id(cur, ALICE)) == made
    assert transaction(lambda cur: store.by_acct(cur, made.acct)) == made


def test_who_never_used_the_product_has_no_account(transaction: Transaction) -> None:
    assert transaction(lambda cur: store.by_user_id(cur, ALICE)) is None
    assert transaction(lambda cur: store.by_acct(cur, GENESIS.acct())) is None


def test_the_first_use_fixes_the_acct_for_ever(transaction: Transaction) -> None:
    first = transaction(lambda cur: store.ensure(cur, ALICE, GENESIS))
    assert transaction(lambda cur: store.ensure(cur, ALICE, LATER_GENESIS)) == first


def test_an_account_is_made_once_when_two_ask_for_it_at_the_same_time(
    two_connections: tuple[Transaction, Transaction],
) -> None:
    one, other = two_connections
    first = one(lambda cur: store.ensure(cur, ALICE, GENESIS))
    assert other(lambda cur: store.ensure(cur, ALICE, LATER_GENESIS)) == first


def test_contacts_come_oldest_first(transaction: Transaction, alice: Acct) -> None:
    newer = contact(BOB, since_ms=7_000)
    older = contact(UserId("@carol:hs2.test"), handle="@carol:hs2.test", since_ms=6_000)
    assert transaction(lambda cur: store.put_contact(cur, alice, newer)) == newer
    assert transaction(lambda cur: store.put_contact(cur, alice, older)) == older

    assert transaction(lambda cur: store.contacts(cur, alice)) == (older, newer)
    assert transaction(lambda cur: store.contact_of(cur, alice, BOB)) == newer


def test_adding_a_contact_again_refreshes_it_and_keeps_since_when(transaction: Transaction, alice: Acct) -> None:
    transaction(lambda cur: store.put_contact(cur, alice, contact(BOB, since_ms=5_000)))
    renamed = contact(BOB, handle="@robert:hs2.test", acct="acct-of-bob", since_ms=9_000)

    stored = transaction(lambda cur: store.put_contact(cur, alice, renamed))

    assert stored == contact(BOB, handle="@robert:hs2.test", acct="acct-of-bob", since_ms=5_000)
    assert transaction(lambda cur: store.contacts(cur, alice)) == (stored,)


def test_a_contact_is_deleted_once(transaction: Transaction, alice: Acct) -> None:
    transaction(lambda cur: store.put_contact(cur, alice, contact(BOB)))

    assert transaction(lambda cur: store.delete_contact(cur, alice, BOB))
    assert not transaction(lambda cur: store.delete_contact(cur, alice, BOB))
    assert transaction(lambda cur: store.contacts(cur, alice)) == ()


def test_one_persons_contacts_are_not_anothers(transaction: Transaction, alice: Acct) -> None:
    dave_genesis = Genesis(server=ServerName("hs1.test"), localpart="dave", created_ms=1, nonce="22" * 16)
    dave = transaction(lambda cur: store.ensure(cur, UserId("@dave:hs1.test"), dave_genesis)).acct
    transaction(lambda cur: store.put_contact(cur, alice, contact(BOB)))

    assert transaction(lambda cur: store.contacts(cur, dave)) == ()
    assert transaction(lambda cur: store.contact_of(cur, dave, BOB)) is None
    assert not transaction(lambda cur: store.delete_contact(cur, dave, BOB))


def test_nobody_without_an_account_has_contacts(transaction: Transaction) -> None:
    def add(cur: Cursor) -> Contact:
        return store.put_contact(cur, Acct("nobody"), contact(BOB))

    with pytest.raises(Exception, match=r"(?i)foreign key"):
        transaction(add)


def test_a_refresh_without_an_acct_does_not_forget_it(transaction: Transaction, alice: Acct) -> None:
    transaction(lambda cur: store.put_contact(cur, alice, contact(BOB, acct="acct-of-bob")))
    assert transaction(lambda cur: store.put_contact(cur, alice, contact(BOB))).acct == "acct-of-bob"


def test_a_contact_is_called_by_user_id_or_by_handle_the_user_id_first(transaction: Transaction, alice: Acct) -> None:
    bob = contact(BOB, handle="@robert:hs2.test")
    robert = contact(UserId("@robert:hs2.test"), handle="@bobby:hs2.test")
    for each in (bob, robert):
        transaction(partial(store.put_contact, owner=alice, contact=each))
    assert transaction(lambda cur: store.contact_called(cur, alice, "@bob:hs2.test")) == bob
    assert transaction(lambda cur: store.contact_called(cur, alice, "@robert:hs2.test")) == robert
    assert transaction(lambda cur: store.contact_called(cur, alice, "@bobby:hs2.test")) == robert
    assert transaction(lambda cur: store.contact_called(cur, alice, "@carol:hs2.test")) is None
    assert transaction(lambda cur: store.count_contacts(cur, alice)) == 2
