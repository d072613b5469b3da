"""What operators do with the ledger, and what a freeze stops."""

from functools import partial
from typing import LiteralString

import pytest

from super_app.db import Cursor, Engine, Transaction
from super_app.errors import Reason, Refused
from super_app.ids import Acct, ServerName
from super_app.ledger import operators, service, store
from super_app.ledger.model import (
    AccountKey,
    AccountKind,
    Cause,
    Entry,
    Freeze,
    Hold,
    HoldId,
    HoldState,
    Part,
    Posted,
    Transfer,
    TransferId,
    available,
    due_from,
    due_to,
    held,
    house,
)
from super_app.money import Asset, AssetCode, Money

pytestmark = pytest.mark.packages("super_app.ledger")

EUR, PTS = AssetCode("EUR"), AssetCode("PTS")
ALICE, BOB = Acct("alice"), Acct("bob")
PEER = ServerName("hs2.example")
HOLD = HoldId("alice:p1")
ADMIN = "@admin:hs1"


def eur(amount_minor: int) -> Money:
    return Money(amount_minor=amount_minor, currency=EUR)


def transfer(
    transfer_id: str, debit: AccountKey, credit: AccountKey, amount_minor: int, cause: Cause = Cause.PAYMENT
) -> Transfer:
    return Transfer(
        transfer_id=TransferId(transfer_id),
        debit=debit,
        credit=credit,
        amount_minor=amount_minor,
        cause=cause,
        reference="p1",
    )


def burn(cur: Cursor, amount_minor: int, reference: str = "b1", owner: Acct = ALICE) -> Entry | Refused:
    return operators.burn(cur, owner, eur(amount_minor), reference=reference, operator=ADMIN, now_ms=5)


def correct(cur: Cursor, seq: int, amount_minor: int | None = None, reference: str = "c1") -> Entry | Refused:
    return operators.correct(cur, seq, amount_minor, reference=reference, reason="a mistake", operator=ADMIN, now_ms=6)


def refused(answer: object, reason: Reason) -> Refused:
    assert isinstance(answer, Refused), answer
    assert answer.reason is reason
    return answer


def state(cur: Cursor) -> list[object]:
    """All that a refusal or a replay must leave as it is."""
    tables: tuple[LiteralString, ...] = (
        "SELECT seq, hash FROM superapp_ledger_head",
        "SELECT owner, currency, kind, balance_minor FROM superapp_ledger_account ORDER BY 1, 2, 3",
        "SELECT hold_id, state, decided_seq, posted_minor FROM superapp_ledger_hold ORDER BY 1",
        "SELECT deed, operator, reason, owner, transfer_id FROM superapp_ledger_act ORDER BY act_id",
        "SELECT transfer_id, corrects_seq, amount_minor FROM superapp_ledger_correction ORDER BY 1",
        "SELECT owner, since_ms FROM superapp_ledger_frozen ORDER BY 1",
    )
    found: list[object] = []
    for table in tables:
        cur.execute(table)
        found.append(cur.fetchall())
    return found


@pytest.fixture
def books(transaction: Transaction) -> Transaction:
    """alice was issued 100 EUR (entry 1) and paid bob 40 of them (entry 2)."""

    def fill(cur: Cursor) -> None:
        service.issue(cur, ALICE, eur(100), reference="r1", operator=ADMIN, now_ms=1)
        paid = service.transfer(cur, transfer("t1", available(ALICE, EUR), available(BOB, EUR), 40), 2)
        assert isinstance(paid, Posted)

    transaction(fill)
    return transaction


def balance(books: Transaction, key: AccountKey) -> int:
    return books(partial(service.balance, key=key))


# Fees.


def earn(cur: Cursor, amount_minor: int) -> object:
    order = transfer("earned", available(ALICE, EUR), house(AccountKind.FEES, EUR), amount_minor, Cause.FEE)
    return service.transfer(cur, order, 3)


def pay_fees(cur: Cursor, amount_minor: int, owner: Acct = BOB, reference: str = "f1") -> Entry | Refused:
    return operators.pay_fees(cur, owner, eur(amount_minor), reference=reference, operator=ADMIN, now_ms=5)


def test_fees_that_were_earned_go_to_a_person_once_and_no_more_than_there_are(books: Transaction) -> None:
    assert books(operators.fees) == {}
    books(partial(earn, amount_minor=20))
    assert books(operators.fees) == {EUR: 20}
    had = balance(books, available(BOB, EUR))
    entry = books(partial(pay_fees, amount_minor=15))
    assert books(partial(pay_fees, amount_minor=15)) == entry
    assert (balance(books, available(BOB, EUR)), books(operators.fees)) == (had + 15, {EUR: 5})
    refused(books(partial(pay_fees, amount_minor=14)), Reason.CONFLICT)
    assert (
        refused(books(partial(pay_fees, amount_minor=6, reference="f2")), Reason.INSUFFICIENT_FUNDS).fields["available"]
        == 5
    )
    newest = books(partial(operators.acts, before=None, limit=1))[0]
    assert (newest.deed, newest.operator, newest.reason, newest.owner) == ("pay_fees", ADMIN, "f1", BOB)
    assert books(service.violations) == ()


# Burn.


def test_burnt_money_is_gone_and_no_longer_issued(books: Transaction) -> None:
    entry = books(partial(burn, amount_minor=25))
    assert isinstance(entry, Entry)
    assert balance(books, available(ALICE, EUR)) == 35
    assert balance(books, house(AccountKind.ISSUED, EUR)) == -75
    assert books(service.violations) == ()


def test_the_same_burn_again_changes_nothing_and_gives_the_entry(books: Transaction) -> None:
    first = books(partial(burn, amount_minor=60))
    before = books(state)
    assert books(partial(burn, amount_minor=60)) == first
    assert books(state) == before


@pytest.mark.parametrize(
    ("owner", "amount_minor", "field"), [(BOB, 25, "debit"), (ALICE, 26, "amount")], ids=["owner", "amount"]
)
def test_a_burn_with_a_used_reference_and_another_body_is_a_conflict(
    books: Transaction, owner: Acct, amount_minor: int, field: str
) -> None:
    books(partial(burn, amount_minor=25))
    before = books(state)
    assert refused(books(partial(burn, amount_minor=amount_minor, owner=owner)), Reason.CONFLICT).fields == {
        "field": field
    }
    assert books(state) == before


def test_no_more_is_burnt_than_there_is(books: Transaction) -> None:
    before = books(state)
    assert refused(books(partial(burn, amount_minor=61)), Reason.INSUFFICIENT_FUNDS).fields["available"] == 60
    assert books(state) == before


# Correct.


def test_a_correction_is_a_new_entry_that_takes_back_the_old_one_and_names_it(books: Transaction) -> None:
    old = books(lambda cur: store.entry(cur, 2))
    entry = books(partial(correct, seq=2))
    assert isinstance(entry, Entry)
    assert (entry.transfer.cause, entry.transfer.reference) == (Cause.CORRECT, "entry:2")
    assert balance(books, available(ALICE, EUR)) == 100
    assert balance(books, available(BOB, EUR)) == 0
    assert books(lambda cur: store.entry(cur, 2)) == old
    assert books(service.violations) == ()


def test_the_same_correction_again_changes_nothing_and_gives_the_entry(books: Transaction) -> None:
    first = books(partial(correct, seq=2, amount_minor=30))
    before = books(state)
    assert books(partial(correct, seq=2, amount_minor=30)) == first
    assert books(partial(correct, seq=2)) == first
    assert books(state) == before


@pytest.mark.parametrize(("seq", "amount_minor", "field"), [(1, None, "seq"), (2, 31, "amount")])
def test_a_correction_with_a_used_reference_and_another_body_is_a_conflict(
    books: Transaction, seq: int, amount_minor: int | None, field: str
) -> None:
    books(partial(correct, seq=2, amount_minor=30))
    before = books(state)
    again = books(partial(correct, seq=seq, amount_minor=amount_minor))
    assert refused(again, Reason.CONFLICT).fields == {"field": field}
    assert books(state) == before


def test_an_entry_is_taken_back_no_further_than_it_went(books: Transaction) -> None:
    assert isinstance(books(partial(correct, seq=2, amount_minor=30)), Entry)
    before = books(state)
    too_much = books(partial(correct, seq=2, amount_minor=11, reference="c2"))
    assert refused(too_much, Reason.CORRECTION_EXCEEDS_ENTRY).fields == {"correctable": 10}
    assert books(state) == before
    assert isinstance(books(partial(correct, seq=2, reference="c2")), Entry)
    assert balance(books, available(BOB, EUR)) == 0
    nothing_left = books(partial(correct, seq=2, reference="c3"))
    assert refused(nothing_left, Reason.CORRECTION_EXCEEDS_ENTRY).fields == {"correctable": 0}


def test_what_was_spent_meanwhile_cannot_be_taken_back(books: Transaction) -> None:
    books(partial(burn, amount_minor=1, owner=BOB))
    before = books(state)
    assert refused(books(partial(correct, seq=2)), Reason.INSUFFICIENT_FUNDS).fields["available"] == 39
    assert books(state) == before


def test_an_entry_that_is_not_there_cannot_be_corrected(books: Transaction) -> None:
    before = books(state)
    refused(books(partial(correct, seq=3)), Reason.UNKNOWN_ENTRY)
    refused(books(partial(correct, seq=0)), Reason.UNKNOWN_ENTRY)
    assert books(state) == before


def test_issue_burn_and_correction_can_be_corrected(books: Transaction) -> None:
    assert isinstance(books(partial(correct, seq=1, amount_minor=10)), Entry)
    assert balance(books, house(AccountKind.ISSUED, EUR)) == -90
    burnt = books(partial(burn, amount_minor=5))
    assert isinstance(burnt, Entry)
    assert isinstance(books(partial(correct, seq=burnt.seq, reference="c2")), Entry)
    assert balance(books, house(AccountKind.ISSUED, EUR)) == -90
    assert isinstance(books(partial(correct, seq=3, reference="c3")), Entry)
    assert balance(books, house(AccountKind.ISSUED, EUR)) == -100
    assert books(service.violations) == ()


def test_what_a_hold_or_another_homeserver_counts_on_is_not_taken_back_alone(books: Transaction) -> None:
    def more(cur: Cursor) -> None:
        assert isinstance(service.place_hold(cur, HOLD, ALICE, eur(10), 3), Hold)
        assert isinstance(
            service.post_hold(cur, HOLD, credit=due_to(PEER, EUR), cause=Cause.COMMIT, reference="w1", now_ms=4), Posted
        )
        credit = transfer("c", due_from(PEER, EUR), available(BOB, EUR), 7, Cause.CREDIT)
        assert isinstance(service.transfer(cur, credit, 5), Posted)
        odd = transfer("s", available(BOB, EUR), house(AccountKind.SUSPENSE, EUR), 1)
        assert isinstance(service.transfer(cur, odd, 5), Posted)

    books(more)
    before = books(state)
    for seq, cause in ((3, "hold"), (4, "commit"), (5, "credit"), (6, "payment")):
        assert refused(books(partial(correct, seq=seq)), Reason.NOT_CORRECTABLE).fields == {"cause": cause}
    assert books(state) == before


def test_a_payment_from_a_hold_is_taken_back_to_what_can_be_spent(books: Transaction) -> None:
    def pay(cur: Cursor) -> None:
        service.place_hold(cur, HOLD, ALICE, eur(10), 3)
        service.post_hold(cur, HOLD, credit=available(BOB, EUR), cause=Cause.PAYMENT, reference="p", now_ms=4)

    books(pay)
    assert isinstance(books(partial(correct, seq=4)), Entry)
    assert balance(books, available(ALICE, EUR)) == 60
    assert balance(books, held(ALICE, EUR)) == 0
    assert books(service.violations) == ()


# Freeze.


def freeze(cur: Cursor, owner: Acct = ALICE, now_ms: int = 9) -> object:
    return operators.freeze(cur, owner, reason="a court order", operator=ADMIN, now_ms=now_ms)


def unfreeze(cur: Cursor, owner: Acct = ALICE) -> object:
    return operators.unfreeze(cur, owner, reason="lifted", operator=ADMIN, now_ms=10)


@pytest.mark.parametrize(
    ("owner", "side", "attempt"),
    [
        pytest.param(
            ALICE, "payer", lambda cur: service.place_hold(cur, HoldId("h2"), ALICE, eur(1), 9), id="a hold is placed"
        ),
        pytest.param(
            ALICE,
            "payer",
            lambda cur: service.transfer(cur, transfer("t2", available(ALICE, EUR), available(BOB, EUR), 1), 9),
            id="it pays",
        ),
        pytest.param(
            BOB,
            "payee",
            lambda cur: service.transfer(cur, transfer("t2", available(ALICE, EUR), available(BOB, EUR), 1), 9),
            id="it is paid",
        ),
        pytest.param(
            BOB,
            "payee",
            lambda cur: service.transfer(
                cur, transfer("t2", available(ALICE, PTS), available(BOB, PTS), 1, Cause.CREDIT), 9
            ),
            id="it is paid in a currency that it never had",
        ),
        pytest.param(
            BOB,
            "payee",
            lambda cur: service.transfer(
                cur, transfer("t2", due_from(PEER, EUR), available(BOB, EUR), 1, Cause.CREDIT), 9
            ),
            id="another homeserver pays it",
        ),
        pytest.param(
            ALICE,
            "payer",
            lambda cur: service.post_hold(
                cur, HOLD, credit=available(BOB, EUR), cause=Cause.PAYMENT, reference="p", now_ms=9
            ),
            id="its hold is posted",
        ),
        pytest.param(
            BOB,
            "payee",
            lambda cur: service.post_hold(
                cur, HOLD, credit=available(BOB, EUR), cause=Cause.PAYMENT, reference="p", amount_minor=3, now_ms=9
            ),
            id="a part of a hold is posted to it",
        ),
        pytest.param(
            ALICE,
            "payer",
            lambda cur: service.post_hold(
                cur, HOLD, credit=due_to(PEER, EUR), cause=Cause.COMMIT, reference="w", now_ms=9
            ),
            id="its hold is committed",
        ),
    ],
)
def test_a_frozen_account_neither_pays_nor_is_paid(
    books: Transaction, owner: Acct, side: str, attempt: "partial[object]"
) -> None:
    books(lambda cur: service.place_hold(cur, HOLD, ALICE, eur(10), 3))
    books(partial(freeze, owner=owner))
    before = books(state)
    refusal = refused(books(attempt), Reason.ACCOUNT_FROZEN)
    assert refusal.fields == {"side": side}
    assert books(state) == before
    books(partial(unfreeze, owner=owner))
    again = books(attempt)
    assert not isinstance(again, Refused) or again.reason is Reason.INSUFFICIENT_FUNDS


def test_others_of_the_batch_are_not_hindered_by_a_frozen_account(books: Transaction) -> None:
    books(freeze)
    orders = [
        transfer("t2", available(ALICE, EUR), available(BOB, EUR), 1),
        transfer("t3", available(BOB, EUR), house(AccountKind.FEES, EUR), 2, Cause.FEE),
    ]
    verdicts = books(lambda cur: service.transfer_many(cur, orders, 9))
    refused(verdicts[0], Reason.ACCOUNT_FROZEN)
    assert isinstance(verdicts[1], Posted)


def test_linked_transfers_fall_together_with_a_frozen_account(books: Transaction) -> None:
    books(partial(freeze, owner=BOB))
    orders = [
        transfer("t2", available(ALICE, EUR), house(AccountKind.FEES, EUR), 2, Cause.FEE),
        transfer("t3", available(ALICE, EUR), available(BOB, EUR), 1),
    ]
    before = books(state)
    refused(books(lambda cur: service.transfer_linked(cur, orders, 9)), Reason.ACCOUNT_FROZEN)
    assert books(state) == before


def test_a_freeze_stops_nothing_that_gives_back_and_nothing_that_an_operator_does(books: Transaction) -> None:
    books(lambda cur: service.place_hold(cur, HOLD, ALICE, eur(10), 3))
    books(freeze)
    voided = books(lambda cur: service.void_hold(cur, HOLD, 9))
    assert isinstance(voided, Hold)
    assert voided.state is HoldState.VOIDED
    assert isinstance(books(partial(burn, amount_minor=5)), Entry)
    assert isinstance(books(partial(correct, seq=2)), Entry)
    undone = transfer("u", house(AccountKind.SUSPENSE, EUR), available(ALICE, EUR), 1, Cause.UNDO)
    assert isinstance(books(lambda cur: service.transfer(cur, undone, 9)), Posted)
    issued = books(lambda cur: service.issue(cur, ALICE, eur(1), reference="r9", operator=ADMIN, now_ms=9))
    assert isinstance(issued, Entry)


def test_a_replay_is_answered_though_the_account_was_frozen_since(books: Transaction) -> None:
    books(freeze)
    again = books(lambda cur: service.transfer(cur, transfer("t1", available(ALICE, EUR), available(BOB, EUR), 40), 9))
    assert isinstance(again, Posted)
    assert again.replayed


def test_what_was_prepared_before_a_freeze_is_not_written_after_it(books: Transaction, engine: Engine) -> None:
    head = books(store.head)
    accounts = books(lambda cur: store.accounts(cur, [available(ALICE, EUR), available(BOB, EUR)]))
    order = transfer("t2", available(ALICE, EUR), available(BOB, EUR), 1)
    prepared = service.prepare([order], 3, head, accounts, engine)
    assert prepared is not None
    books(freeze)
    before = books(state)
    assert not books(lambda cur: service.carry_out(cur, prepared))
    assert books(state) == before


def test_freezing_again_changes_nothing_and_so_does_unfreezing(books: Transaction) -> None:
    first = books(freeze)
    before = books(state)
    assert books(partial(freeze, now_ms=99)) == first == Freeze(owner=ALICE, since_ms=9)
    assert books(state) == before
    assert books(unfreeze) == Freeze(owner=ALICE, since_ms=None)
    before = books(state)
    assert books(unfreeze) == Freeze(owner=ALICE, since_ms=None)
    assert books(state) == before


# The operators' log.


def test_the_log_says_who_did_what_to_whom_and_why(books: Transaction) -> None:
    books(partial(burn, amount_minor=5))
    books(partial(correct, seq=2))
    books(freeze)
    books(unfreeze)
    log = books(lambda cur: operators.acts(cur, None, 10))
    assert [(act.deed, act.operator, act.reason, act.owner, act.transfer_id) for act in log] == [
        ("unfreeze", ADMIN, "lifted", "alice", None),
        ("freeze", ADMIN, "a court order", "alice", None),
        ("correct", ADMIN, "a mistake", "bob", "correct:c1"),
        ("burn", ADMIN, "b1", "alice", "burn:b1"),
        ("issue", ADMIN, "r1", "alice", "issue:r1"),
    ]
    assert books(lambda cur: operators.acts(cur, log[2].act_id, 1)) == (log[3],)


# Trial balance.


def test_the_trial_balance_sums_to_zero_in_each_currency(books: Transaction) -> None:
    books(
        lambda cur: service.issue(
            cur, BOB, Money(amount_minor=7, currency=PTS), reference="r2", operator="@a", now_ms=1
        )
    )
    credit = transfer("c", due_from(PEER, EUR), available(BOB, EUR), 7, Cause.CREDIT)
    books(lambda cur: service.transfer(cur, credit, 5))
    found = books(operators.trial_balance)
    assert found.seq == 4
    assert found.entry_hash == books(store.head).entry_hash
    assert [(line.currency, line.kind, line.owner, line.accounts, line.balance_minor) for line in found.lines] == [
        ("EUR", "available", "", 2, 107),
        ("EUR", "due_from", "hs2.example", 1, -7),
        ("EUR", "issued", "house", 1, -100),
        ("PTS", "available", "", 1, 7),
        ("PTS", "issued", "house", 1, -7),
    ]


def test_empty_books_have_an_empty_trial_balance(transaction: Transaction) -> None:
    found = transaction(operators.trial_balance)
    assert (found.seq, found.lines) == (0, ())


# Assets.


def test_the_scale_of_an_asset_is_fixed_at_its_first_use(transaction: Transaction) -> None:
    points, euros = Asset(code=PTS, scale=0), Asset(code=EUR, scale=2)
    assert transaction(lambda cur: operators.fix_scales(cur, [points])) is None
    assert transaction(lambda cur: operators.fix_scales(cur, [points, euros])) is None
    assert transaction(operators.scales) == {PTS: 0, EUR: 2}
    other = [Asset(code=AssetCode("NEW"), scale=1), Asset(code=PTS, scale=3)]
    refusal = refused(transaction(lambda cur: operators.fix_scales(cur, other)), Reason.PAYMENTS_HALTED)
    assert refusal.fields == {"currency": "PTS", "scale": 0}
    assert transaction(operators.scales) == {PTS: 0, EUR: 2}


# Holds that are posted in part.


def test_what_a_post_in_part_leaves_goes_back(books: Transaction) -> None:
    books(lambda cur: service.place_hold(cur, HOLD, ALICE, eur(10), 3))

    def post(cur: Cursor) -> Posted | Refused:
        return service.post_hold(
            cur, HOLD, credit=available(BOB, EUR), cause=Cause.PAYMENT, reference="p", amount_minor=7, now_ms=4
        )

    posted = books(post)
    assert isinstance(posted, Posted)
    assert balance(books, available(ALICE, EUR)) == 53
    assert balance(books, available(BOB, EUR)) == 47
    assert books(lambda cur: service.hold_of(cur, HOLD)) == Hold(
        hold_id=HOLD, owner=ALICE, money=eur(10), state=HoldState.POSTED, posted_minor=7
    )
    before = books(state)
    again = books(post)
    assert isinstance(again, Posted)
    assert (again.entry, again.replayed) == (posted.entry, True)
    assert books(state) == before
    assert books(service.violations) == ()


def parts(fee_minor: int) -> list[Part]:
    return [
        Part(credit=available(BOB, EUR), amount_minor=7, cause=Cause.PAYMENT, reference="p"),
        Part(credit=house(AccountKind.FEES, EUR), amount_minor=fee_minor, cause=Cause.FEE, reference="p"),
    ]


def test_a_payment_and_its_fee_leave_a_hold_together(books: Transaction) -> None:
    books(lambda cur: service.place_hold(cur, HOLD, ALICE, eur(10), 3))
    posted = books(lambda cur: service.post_hold_in_parts(cur, HOLD, parts(2), 4))
    assert isinstance(posted, list)
    assert [(each.transfer.cause, each.transfer.amount_minor) for each in posted] == [("payment", 7), ("fee", 2)]
    assert balance(books, house(AccountKind.FEES, EUR)) == 2
    assert balance(books, available(ALICE, EUR)) == 51
    assert balance(books, held(ALICE, EUR)) == 0
    again = books(lambda cur: service.post_hold_in_parts(cur, HOLD, parts(2), 5))
    assert isinstance(again, list)
    assert all(each.replayed for each in again)
    other = books(lambda cur: service.post_hold_in_parts(cur, HOLD, parts(3), 5))
    assert refused(other, Reason.ALREADY_DECIDED).fields == {"state": "posted", "field": "amount"}
    fewer = books(lambda cur: service.post_hold_in_parts(cur, HOLD, parts(2)[:1], 5))
    assert refused(fewer, Reason.ALREADY_DECIDED).fields == {"state": "posted", "field": "amount"}


def test_no_more_is_posted_than_was_set_aside(books: Transaction) -> None:
    books(lambda cur: service.place_hold(cur, HOLD, ALICE, eur(10), 3))
    books(lambda cur: service.place_hold(cur, HoldId("h2"), ALICE, eur(10), 3))
    before = books(state)
    too_much = books(lambda cur: service.post_hold_in_parts(cur, HOLD, parts(4), 4))
    assert refused(too_much, Reason.HOLD_EXCEEDED).fields == {"held": 10}
    assert books(state) == before
