import json

import pytest

from super_app.errors import Reason, Refused
from super_app.ids import Acct
from super_app.ledger import rules
from super_app.ledger.model import (
    MAX_BALANCE_MINOR,
    Account,
    AccountKey,
    AccountKind,
    Archived,
    Cause,
    Entry,
    Head,
    Hold,
    HoldId,
    HoldState,
    Posted,
    Transfer,
    TransferId,
    available,
    held,
    house,
)
from super_app.money import MAX_AMOUNT_MINOR, Asset, AssetCode, Money
from super_app.signing import digest

EUR = AssetCode("EUR")
ALICE, BOB = available(Acct("alice"), EUR), available(Acct("bob"), EUR)
EMPTY = Head(epoch=1, seq=0, entry_hash="")


def order(
    transfer_id: str = "t1",
    debit: AccountKey = ALICE,
    credit: AccountKey = BOB,
    amount_minor: int = 1,
    cause: Cause = Cause.PAYMENT,
    reference: str = "p1",
) -> Transfer:
    return Transfer(
        transfer_id=TransferId(transfer_id),
        debit=debit,
        credit=credit,
        amount_minor=amount_minor,
        cause=cause,
        reference=reference,
    )


def entry(transfer: Transfer, seq: int = 1, previous: str = "") -> Entry:
    return rules.chained(previous, seq, transfer, (0, 1), (0, 0), posted_ms=5)


def account(account_id: int, balance_minor: int) -> Account:
    return Account(account_id=account_id, balance_minor=balance_minor, last_seq=0)


@pytest.mark.parametrize("amount_minor", [0, -1, MAX_AMOUNT_MINOR + 1])
def test_a_transfer_of_no_amount_or_too_much_is_a_bug(amount_minor: int) -> None:
    with pytest.raises(ValueError, match="minor units"):
        order(amount_minor=amount_minor)


@pytest.mark.parametrize("credit", [ALICE, available(Acct("bob"), AssetCode("USD"))])
def test_a_transfer_needs_two_accounts_of_one_currency(credit: AccountKey) -> None:
    with pytest.raises(ValueError, match="two accounts of one currency"):
        order(credit=credit)


@pytest.mark.parametrize("kind", AccountKind)
def test_a_debit_beyond_zero_is_refused_where_a_balance_is_never_negative(kind: AccountKind) -> None:
    left = rules.after(order(debit=house(kind, EUR), amount_minor=6), 5, 0)
    if kind.sign > 0:
        assert isinstance(left, Refused)
        assert left.reason is Reason.INSUFFICIENT_FUNDS
        assert left.fields == {"available": 5, "currency": EUR}
    else:
        assert left == (-1, 6)


@pytest.mark.parametrize("kind", AccountKind)
def test_a_credit_beyond_zero_is_refused_where_a_balance_is_never_positive(kind: AccountKind) -> None:
    left = rules.after(order(credit=house(kind, EUR), amount_minor=6), 10, -5)
    if kind.sign < 0:
        assert isinstance(left, Refused)
        assert left.reason is Reason.INSUFFICIENT_FUNDS
        assert left.fields == {"available": 5, "currency": EUR}
    else:
        assert left == (4, 1)


def test_the_last_minor_unit_can_be_spent() -> None:
    assert rules.after(order(amount_minor=5), 5, 0) == (0, 5)
    for kind in AccountKind:
        assert rules.after(order(credit=house(kind, EUR), amount_minor=5), 5, -5) == (0, 0)


def test_an_order_stands_on_what_both_accounts_have() -> None:
    accounts = {
        ALICE: Account(account_id=1, balance_minor=9, last_seq=3),
        BOB: Account(account_id=2, balance_minor=4, last_seq=2),
    }
    made = rules.decide([order(amount_minor=5)], EMPTY, accounts, {}, 5).entries[0]
    assert (made.debit_after_minor, made.debit_prev_seq) == (4, 3)
    assert (made.credit_after_minor, made.credit_prev_seq) == (9, 2)


@pytest.mark.parametrize(("kind", "place"), [(AccountKind.AVAILABLE, ""), (AccountKind.HELD, " in held")])
def test_the_account_that_lacks_money_is_named_where_it_is_not_the_one_that_people_see(
    kind: AccountKind, place: str
) -> None:
    left = rules.after(order(debit=house(kind, EUR), amount_minor=6), 5, 0)
    assert isinstance(left, Refused)
    assert left.message == f"There is not enough money{place}: 5 minor units of EUR are available."


def test_no_balance_grows_beyond_what_json_can_carry() -> None:
    full = rules.after(order(amount_minor=1), 5, MAX_BALANCE_MINOR)
    assert isinstance(full, Refused)
    assert full.reason is Reason.LIMIT_EXCEEDED
    assert full.fields == {"limit": MAX_BALANCE_MINOR, "currency": EUR}
    assert rules.after(order(amount_minor=1), 5, MAX_BALANCE_MINOR - 1) == (4, MAX_BALANCE_MINOR)
    issued = rules.after(order(debit=house(AccountKind.ISSUED, EUR), amount_minor=1), -MAX_BALANCE_MINOR, 0)
    assert isinstance(issued, Refused)
    assert issued.reason is Reason.LIMIT_EXCEEDED
    house_account = order(debit=house(AccountKind.ISSUED, EUR), amount_minor=1)
    assert rules.after(house_account, 1 - MAX_BALANCE_MINOR, 0) == (-MAX_BALANCE_MINOR, 1)


@pytest.mark.parametrize(
    ("other", "field"),
    [
        (order(), None),
        (order(debit=held(Acct("alice"), EUR)), "debit"),
        (order(credit=held(Acct("bob"), EUR)), "credit"),
        (order(amount_minor=2), "amount"),
        (order(cause=Cause.ISSUE), "cause"),
        (order(reference="p2"), "reference"),
    ],
)
def test_the_differing_field_of_a_replay_is_named(other: Transfer, field: str | None) -> None:
    assert rules.differing_field(other, order()) == field


def test_two_transfers_of_different_ids_are_no_replay() -> None:
    with pytest.raises(ValueError, match="not two of one id"):
        rules.differing_field(order("t2"), order("t1"))


@pytest.mark.parametrize(
    ("owner", "money", "field"),
    [
        ("alice", Money(amount_minor=5, currency=EUR), None),
        ("bob", Money(amount_minor=5, currency=EUR), "owner"),
        ("alice", Money(amount_minor=5, currency=AssetCode("USD")), "currency"),
        ("alice", Money(amount_minor=6, currency=EUR), "amount"),
    ],
)
def test_the_differing_field_of_a_hold_is_named(owner: str, money: Money, field: str | None) -> None:
    stored = Hold(
        hold_id=HoldId("h"), owner=Acct("alice"), money=Money(amount_minor=5, currency=EUR), state=HoldState.OPEN
    )
    assert rules.differing_hold_field(owner, money, stored) == field


def test_the_hash_of_an_entry_is_that_of_a_canonical_json_list() -> None:
    odd = order('quo"te\\', reference="ü\n\u2028", debit=available(Acct('al"ice'), EUR), amount_minor=7)
    made = rules.chained("before", 9, odd, (-3, 4), (1, 2), posted_ms=1_700_000_000_000)
    assert made.entry_hash == digest(
        [
            "superapp-entry-1",
            "before",
            9,
            'quo"te\\',
            "EUR",
            'al"ice',
            "available",
            1,
            -3,
            "bob",
            "available",
            2,
            4,
            7,
            "payment",
            "ü\n\u2028",
            1_700_000_000_000,
        ]
    )


def test_an_entry_is_linked_to_the_one_before_it_alone() -> None:
    made = entry(order(), previous="before")
    assert rules.is_linked(made, "before")
    assert not rules.is_linked(made, "another")


def test_each_order_of_a_batch_stands_on_what_those_before_it_leave() -> None:
    orders = [
        order("t1", amount_minor=8),
        order("t2", amount_minor=3),  # 2 are left
        order("t3", debit=BOB, credit=ALICE, amount_minor=5),
        order("t4", amount_minor=7),
    ]
    decision = rules.decide(orders, EMPTY, {ALICE: account(1, 10), BOB: account(2, 0)}, {}, 5)
    first, second, third, fourth = decision.verdicts
    assert isinstance(first, Posted)
    assert isinstance(second, Refused)
    assert second.fields["available"] == 2
    assert isinstance(third, Posted)
    assert isinstance(fourth, Posted)
    assert [each.transfer.transfer_id for each in decision.entries] == ["t1", "t3", "t4"]
    assert [(each.debit_after_minor, each.credit_after_minor) for each in decision.entries] == [(2, 8), (3, 7), (0, 10)]
    assert [(each.debit_prev_seq, each.credit_prev_seq) for each in decision.entries] == [(0, 0), (1, 1), (2, 2)]
    assert decision.balances == {ALICE: (0, 3), BOB: (10, 3)}


def test_entries_of_a_batch_are_chained_to_the_head_and_to_each_other() -> None:
    head = Head(epoch=1, seq=41, entry_hash="head")
    decision = rules.decide([order("t1"), order("t2")], head, {ALICE: account(1, 9)}, {}, 5)
    first, second = decision.entries
    assert (first.seq, second.seq) == (42, 43)
    assert rules.is_linked(first, "head")
    assert rules.is_linked(second, first.entry_hash)


def test_the_same_order_twice_in_a_batch_is_posted_once() -> None:
    decision = rules.decide([order(), order()], EMPTY, {ALICE: account(1, 1)}, {}, 5)
    first, second = decision.verdicts
    assert isinstance(first, Posted)
    assert isinstance(second, Posted)
    assert (first.replayed, second.replayed) == (False, True)
    assert first.entry == second.entry
    assert len(decision.entries) == 1


def test_one_id_with_two_bodies_in_a_batch_is_a_conflict_that_names_the_field() -> None:
    decision = rules.decide([order(), order(amount_minor=2)], EMPTY, {ALICE: account(1, 9)}, {}, 5)
    second = decision.verdicts[1]
    assert isinstance(second, Refused)
    assert second.reason is Reason.CONFLICT
    assert second.fields == {"field": "amount"}
    assert second.message.startswith("This transfer id was already used with another amount")


def test_an_id_that_stands_is_a_replay_even_when_the_money_is_gone() -> None:
    stands = entry(order())
    decision = rules.decide([order()], EMPTY, {ALICE: account(1, 0)}, {TransferId("t1"): stands}, 5)
    assert decision.verdicts == [Posted(entry=stands, replayed=True)]
    assert not decision.entries


def test_an_id_of_an_archived_entry_is_refused_by_its_place_and_stops_no_other_order() -> None:
    gone = Archived(transfer_id=TransferId("t1"), seq=3)
    decision = rules.decide([order("t1"), order("t2")], EMPTY, {ALICE: account(1, 9)}, {gone.transfer_id: gone}, 5)
    first, second = decision.verdicts
    assert isinstance(first, Refused)
    assert first.reason is Reason.ENTRY_ARCHIVED
    assert first.fields == {"seq": 3}
    assert isinstance(second, Posted)


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize(
    ("frozen", "cause", "side"),
    [
        ({"alice"}, Cause.PAYMENT, "payer"),
        ({"bob"}, Cause.PAYMENT, "payee"),
        ({"alice", "bob"}, Cause.PAYMENT, "payer"),
        ({"carol"}, Cause.PAYMENT, None),
        ({"alice", "bob"}, Cause.UNDO, None),
        (set(), Cause.PAYMENT, None),
    ],
)
def test_a_freeze_stops_payments_of_its_account_and_nothing_else(
    frozen: set[str], cause: Cause, side: str | None, linked: bool
) -> None:
    decide = rules.decide_linked if linked else rules.decide
    verdict = decide([order(cause=cause)], EMPTY, {ALICE: account(1, 9)}, {}, 5, frozen).verdicts[0]
    if side is None:
        assert isinstance(verdict, Posted)
    else:
        assert isinstance(verdict, Refused)
        assert verdict.reason is Reason.ACCOUNT_FROZEN
        assert verdict.fields == {"side": side}
        assert "frozen" in verdict.message


def test_an_order_that_is_refused_stops_none_after_it() -> None:
    orders = [order("t1"), order("t2", debit=BOB, credit=available(Acct("carol"), EUR))]
    decision = rules.decide(orders, EMPTY, {ALICE: account(1, 9), BOB: account(2, 9)}, {}, 5, {"alice"})
    assert [type(verdict) for verdict in decision.verdicts] == [Refused, Posted]


def test_linked_orders_are_refused_together() -> None:
    orders = [order("t1", amount_minor=8), order("t2", amount_minor=3)]
    decision = rules.decide_linked(orders, EMPTY, {ALICE: account(1, 10)}, {}, 5)
    assert decision.entries == ()
    assert decision.balances == {}
    assert {each.reason for each in decision.verdicts if isinstance(each, Refused)} == {Reason.INSUFFICIENT_FUNDS}
    assert len(decision.verdicts) == 2


def test_linked_orders_of_which_only_some_stand_are_a_conflict() -> None:
    orders = [order("t1"), order("t2")]
    decision = rules.decide_linked(orders, EMPTY, {ALICE: account(1, 10)}, {TransferId("t1"): entry(orders[0])}, 5)
    assert decision.entries == ()
    assert decision.balances == {}
    assert len(decision.verdicts) == 2
    for verdict in decision.verdicts:
        assert isinstance(verdict, Refused)
        assert verdict.reason is Reason.CONFLICT
        assert verdict.fields == {"field": "linked"}


def test_linked_orders_that_can_all_be_posted_are_those_of_a_batch() -> None:
    orders = [order("t1"), order("t2")]
    head = Head(epoch=1, seq=41, entry_hash="head")
    accounts = {ALICE: account(1, 10)}
    linked = rules.decide_linked(orders, head, accounts, {}, 5)
    assert linked == rules.decide(orders, head, accounts, {}, 5)
    assert [(each.seq, each.posted_ms) for each in linked.entries] == [(42, 5), (43, 5)]


def test_linked_orders_that_all_stand_are_replays() -> None:
    orders = [order("t1"), order("t2")]
    stand = {each.transfer_id: entry(each) for each in orders}
    decision = rules.decide_linked(orders, EMPTY, {ALICE: account(1, 0)}, stand, 5)
    assert decision.verdicts == [Posted(entry=each, replayed=True) for each in stand.values()]


def test_a_hold_is_not_posted_beyond_what_was_set_aside() -> None:
    stored = Hold(
        hold_id=HoldId("h"), owner=Acct("alice"), money=Money(amount_minor=5, currency=EUR), state=HoldState.OPEN
    )
    refused = rules.hold_exceeded(6, stored)
    assert refused.reason is Reason.HOLD_EXCEEDED
    assert refused.fields == {"held": 5}


HELD, ISSUED, FEES = held(Acct("alice"), EUR), house(AccountKind.ISSUED, EUR), house(AccountKind.FEES, EUR)
PEER = AccountKey(owner="peer.test", currency=EUR, kind=AccountKind.DUE_TO)


@pytest.mark.parametrize(
    ("cause", "debit", "credit", "back"),
    [
        (Cause.PAYMENT, ALICE, BOB, ALICE),
        (Cause.PAYMENT, HELD, BOB, ALICE),
        (Cause.FEE, HELD, FEES, ALICE),
        (Cause.ISSUE, ISSUED, ALICE, ISSUED),
        (Cause.BURN, ALICE, ISSUED, ALICE),
        (Cause.CORRECT, BOB, ALICE, BOB),
        (Cause.HOLD, ALICE, HELD, None),
        (Cause.VOID, HELD, ALICE, None),
        (Cause.COMMIT, HELD, PEER, None),
        (Cause.PAYMENT, HELD, ALICE, None),  # it would go back to where it is
        (Cause.PAYMENT, ALICE, PEER, None),
        (Cause.PAYMENT, PEER, ALICE, None),
    ],
)
def test_what_a_correction_takes_back_and_where_it_goes(
    cause: Cause, debit: AccountKey, credit: AccountKey, back: AccountKey | None
) -> None:
    moved = entry(order(debit=debit, credit=credit, amount_minor=7, cause=cause), seq=4)
    made = rules.correction_of(moved, TransferId("t9"), None, 2)
    if back is None:
        assert isinstance(made, Refused)
        assert made.reason is Reason.NOT_CORRECTABLE
        assert made.fields == {"cause": cause.value}
    else:
        assert made == order("t9", credit, back, 5, Cause.CORRECT, "entry:4")


@pytest.mark.parametrize(("amount_minor", "corrected"), [(5, 2), (3, 2), (1, 6), (7, 0)])
def test_a_correction_of_part_is_of_so_much(amount_minor: int, corrected: int) -> None:
    made = rules.correction_of(entry(order(amount_minor=7)), TransferId("t9"), amount_minor, corrected)
    assert isinstance(made, Transfer)
    assert made.amount_minor == amount_minor


@pytest.mark.parametrize(
    ("amount_minor", "corrected", "left"), [(6, 2, 5), (0, 2, 5), (-1, 2, 5), (None, 7, 0), (1, 7, 0)]
)
def test_corrections_add_up_to_the_entry_and_not_to_more(amount_minor: int | None, corrected: int, left: int) -> None:
    made = rules.correction_of(entry(order(amount_minor=7)), TransferId("t9"), amount_minor, corrected)
    assert isinstance(made, Refused)
    assert made.reason is Reason.CORRECTION_EXCEEDS_ENTRY
    assert made.fields == {"correctable": left}


@pytest.mark.parametrize(
    ("seq", "reason"),
    [
        (0, Reason.UNKNOWN_ENTRY),
        (1, Reason.ENTRY_ARCHIVED),
        (9, Reason.ENTRY_ARCHIVED),
        (10, Reason.UNKNOWN_ENTRY),
    ],
)
def test_an_entry_that_is_not_there_is_archived_or_unknown(seq: int, reason: Reason) -> None:
    refused = rules.unknown_entry(seq, 9)
    assert refused.reason is reason
    assert refused.fields == ({"seq": seq} if reason is Reason.ENTRY_ARCHIVED else {})
    assert str(seq) in refused.message


def test_an_asset_whose_scale_was_changed_is_named_with_the_scale_of_its_balances() -> None:
    refused = rules.differing_scale(Asset(code=EUR, scale=3), 2)
    assert refused.reason is Reason.PAYMENTS_HALTED
    assert refused.fields == {"currency": EUR, "scale": 2}


def test_the_line_of_an_archive_is_the_text_of_the_hash() -> None:
    made = rules.chained("before", 9, order(), (-3, 4), (1, 2), posted_ms=8)
    assert digest(json.loads(rules.archive_line("before", made))) == made.entry_hash


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [
        ("synchronous", "run SQLite with PRAGMA synchronous = FULL"),
        ("synchronous_commit", "remove synchronous_commit: false from the database section of homeserver.yaml"),
        ("fsync", "set fsync = on in postgresql.conf"),
    ],
)
def test_what_endangers_commits_is_named_with_its_remedy(setting: str, remedy: str) -> None:
    refused = rules.not_durable(setting)
    assert refused.reason is Reason.PAYMENTS_HALTED
    assert refused.fields == {"setting": setting}
    assert refused.message.endswith(f": {remedy}.")
