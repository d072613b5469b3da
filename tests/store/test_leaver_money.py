"""The rule for the money of deactivated accounts, in the books of both databases."""

import pytest

from super_app.accounts import store as accounts
from super_app.accounts.model import Genesis
from super_app.db import Cursor, Transaction
from super_app.ids import Acct, ServerName, UserId
from super_app.ledger import operators, service
from super_app.ledger.model import AccountKind, Cause
from super_app.money import AssetCode, Money
from super_app.payments import leaver_store, leaving
from super_app.payments.leavers import LeaverRule, LeftMoney, Then

pytestmark = pytest.mark.packages(
    "super_app.accounts", "super_app.operations", "super_app.ledger", "super_app.clearing", "super_app.payments"
)
EUR, PTS = AssetCode("EUR"), AssetCode("PTS")
BURN = LeaverRule(then=Then.BURN, after_ms=100)
CLAIM = LeaverRule(then=Then.CLAIM, after_ms=100)


def person(cur: Cursor, name: str, **has: int) -> Acct:
    genesis = Genesis(server=ServerName("hs1.test"), localpart=name, created_ms=1, nonce="0" * 32)
    acct = accounts.ensure(cur, UserId(f"@{name}:hs1.test"), genesis).acct
    for code, amount_minor in has.items():
        money = Money(currency=AssetCode(code), amount_minor=amount_minor)
        service.issue(cur, acct, money, reference=f"{name} {code}", operator="@a:hs1.test", now_ms=1)
    return acct


def left(currency: AssetCode, kind: AccountKind, amount_minor: int) -> LeftMoney:
    return LeftMoney(currency=currency, kind=kind, amount_minor=amount_minor)


def test_each_currency_is_taken_when_due_and_comes_back_with_its_owner(transaction: Transaction) -> None:
    def work(cur: Cursor) -> None:
        alice = person(cur, "alice", EUR=500, PTS=7)
        assert leaving.apply(cur, alice, CLAIM, 1_000) == (), "she has not left"
        leaver_store.note(cur, alice, 10)
        leaver_store.note(cur, alice, 50)
        assert leaver_store.left_ms(cur, alice) == 10
        assert leaving.apply(cur, alice, CLAIM, 109) == ()
        taken = leaving.apply(cur, alice, CLAIM, 110)
        assert [(entry.transfer.cause, entry.transfer.amount_minor) for entry in taken] == [
            (Cause.CLAIM, 500),
            (Cause.CLAIM, 7),
        ]
        assert leaving.apply(cur, alice, CLAIM, 110) == ()
        put_by = (left(EUR, AccountKind.CLAIM, 500), left(PTS, AccountKind.CLAIM, 7))
        assert leaver_store.money_of(cur, alice) == put_by
        assert leaver_store.sums(cur) == {EUR: 500, PTS: 7}
        assert len(leaving.come_back(cur, alice, 120)) == 2
        assert leaver_store.money_of(cur, alice) == (
            left(EUR, AccountKind.AVAILABLE, 500),
            left(PTS, AccountKind.AVAILABLE, 7),
        )
        assert leaver_store.left_ms(cur, alice) is None
        assert service.violations(cur) == ()

    transaction(work)


def test_whose_turn_it_is(transaction: Transaction) -> None:
    def work(cur: Cursor) -> None:
        first, second = person(cur, "first", EUR=1), person(cur, "second", EUR=2)
        frozen, poor, here = person(cur, "frozen", EUR=3), person(cur, "poor"), person(cur, "here", EUR=4)
        operators.freeze(cur, frozen, reason="a case", operator="@a:hs1.test", now_ms=1)
        for acct, left_ms in ((second, 20), (first, 10), (frozen, 10), (poor, 10)):
            leaver_store.note(cur, acct, left_ms)
        assert leaver_store.due(cur, 9, 10) == ()
        assert leaver_store.due(cur, 20, 10) == (first, second)
        assert leaver_store.due(cur, 20, 1) == (first,)
        assert leaving.apply(cur, frozen, BURN, 10_000) == ()
        (burnt,) = leaving.apply(cur, first, BURN, 10_000)
        assert (burnt.transfer.cause, burnt.transfer.amount_minor) == (Cause.BURN, 1)
        assert leaver_store.due(cur, 20, 10) == (second,)
        assert here not in leaver_store.due(cur, 10_000, 10)
        everybody = leaver_store.page(cur, None, 10)
        assert {each.acct for each in everybody} == {second, frozen}
        assert leaver_store.page(cur, (everybody[0].left_ms, everybody[0].acct), 10) == everybody[1:]
        assert service.violations(cur) == ()

    transaction(work)


def test_an_operator_pays_out_what_was_put_by(transaction: Transaction) -> None:
    def burn(cur: Cursor, acct: Acct, amount_minor: int, reference: str) -> object:
        money = Money(currency=EUR, amount_minor=amount_minor)
        return operators.burn(cur, acct, money, reference=reference, operator="@a:hs1.test", now_ms=200)

    def work(cur: Cursor) -> None:
        alice = person(cur, "alice", EUR=500)
        leaver_store.note(cur, alice, 0)
        leaving.apply(cur, alice, CLAIM, 100)
        first = burn(cur, alice, 200, "paid out")
        assert burn(cur, alice, 200, "paid out") == first
        leaving.come_back(cur, alice, 150)
        assert burn(cur, alice, 200, "paid out") == first, "a replay is one, wherever the money is by now"
        assert leaver_store.money_of(cur, alice) == (left(EUR, AccountKind.AVAILABLE, 300),)
        assert service.violations(cur) == ()

    transaction(work)
