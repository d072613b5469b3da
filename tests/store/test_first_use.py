"""A recovery key becomes part of an account that nobody has used yet, on both databases."""

from dataclasses import replace

import pytest
from directory_books import Directory

from super_app.accounts import store as accounts
from super_app.accounts.model import Genesis
from super_app.db import Transaction
from super_app.directory import first_use, store
from super_app.directory.model import Name
from super_app.errors import Reason, Refused
from super_app.ids import ServerName, UserId

pytestmark = pytest.mark.packages("super_app.accounts", "super_app.directory")

ALICE = UserId("@alice:hs1.test")
GENESIS = Genesis(
    server=ServerName("hs1.test"), localpart="alice", created_ms=5_000, nonce="11" * 16, recovery_key="A" * 43
)


def test_the_first_handle_goes_to_the_new_acct_and_nothing_of_the_old_one_stays(transaction: Transaction) -> None:
    directory = Directory(run=transaction)
    before = directory.register("alice")
    done = transaction(lambda cur: first_use.set_recovery_key(cur, ALICE, GENESIS))
    assert not isinstance(done, Refused)
    assert (done.acct, done.used) == (GENESIS.acct(), False)
    assert transaction(lambda cur: accounts.by_user_id(cur, ALICE)) == done
    assert transaction(lambda cur: accounts.by_acct(cur, before)) is None
    held = transaction(lambda cur: store.holding(cur, Name("alice")))
    assert held is not None
    assert (held.acct, held.user_id) == (GENESIS.acct(), ALICE)
    assert transaction(lambda cur: accounts.genesis_of(cur, ALICE)) == GENESIS.content()


def test_an_account_in_use_keeps_its_acct(transaction: Transaction) -> None:
    directory = Directory(run=transaction)
    acct = directory.register("alice")
    directory.record_of(acct, "alice")
    refused = transaction(lambda cur: first_use.set_recovery_key(cur, ALICE, GENESIS))
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.CONFLICT
    assert transaction(lambda cur: accounts.by_user_id(cur, ALICE)) is not None
    assert transaction(lambda cur: store.acct_of(cur, ALICE)) == acct


def test_who_read_the_account_before_uses_it_under_its_new_acct(transaction: Transaction) -> None:
    Directory(run=transaction).register("alice")
    read = transaction(lambda cur: accounts.by_user_id(cur, ALICE))
    assert read is not None
    transaction(lambda cur: first_use.set_recovery_key(cur, ALICE, GENESIS))
    assert transaction(lambda cur: accounts.use(cur, read)) == GENESIS.acct()
    assert transaction(lambda cur: accounts.use(cur, replace(read, acct=GENESIS.acct()))) == GENESIS.acct()
    again = replace(GENESIS, recovery_key="B" * 43)
    assert isinstance(transaction(lambda cur: first_use.set_recovery_key(cur, ALICE, again)), Refused)
