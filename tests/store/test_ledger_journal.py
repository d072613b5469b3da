"""The journal read back: snapshots, statements over time, verification, archives."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final, LiteralString

import pytest
from engines import Database

from super_app.db import Cursor, Engine, Transaction
from super_app.errors import Reason, Refused
from super_app.ids import Acct
from super_app.ledger import journal, operators, service, store
from super_app.ledger.archive_file import check_lines, header_line
from super_app.ledger.model import (
    Archive,
    Cause,
    Entry,
    HoldId,
    Posted,
    Snapshot,
    Statement,
    Stretch,
    Transfer,
    TransferId,
    Violation,
    available,
    held,
)
from super_app.money import AssetCode, Money

pytestmark = pytest.mark.packages("super_app.ledger")

EUR, PTS = AssetCode("EUR"), AssetCode("PTS")
ALICE, BOB, CAROL = Acct("alice"), Acct("bob"), Acct("carol")
KEY = available(ALICE, EUR)
ADMIN: Final = "@admin:hs1"
DIGEST: Final = "d" * 43


def eur(amount_minor: int) -> Money:
    return Money(amount_minor=amount_minor, currency=EUR)


def pay(cur: Cursor, number: int, payer: Acct, payee: Acct, amount_minor: int, now_ms: int) -> None:
    order = Transfer(
        transfer_id=TransferId(f"t{number}"),
        debit=available(payer, EUR),
        credit=available(payee, EUR),
        amount_minor=amount_minor,
        cause=Cause.PAYMENT,
        reference=f"p{number}",
    )
    assert isinstance(service.transfer(cur, order, now_ms), Posted)


def fill(cur: Cursor) -> None:
    """alice: 100 at 10, 90 at 20, 95 at 30, 75 at 40, 74 at 50; entries 1 to 7, one of them not hers."""
    service.issue(cur, ALICE, eur(100), reference="r1", operator=ADMIN, now_ms=10)
    pay(cur, 2, ALICE, BOB, 10, 20)
    pay(cur, 3, BOB, ALICE, 5, 30)
    pay(cur, 4, BOB, CAROL, 1, 35)
    pay(cur, 5, ALICE, CAROL, 20, 40)
    pay(cur, 6, ALICE, BOB, 1, 50)
    service.issue(cur, BOB, Money(amount_minor=3, currency=PTS), reference="r2", operator=ADMIN, now_ms=60)


@pytest.fixture
def books(transaction: Transaction) -> Transaction:
    transaction(fill)
    return transaction


def statement(
    books: Transaction,
    from_ms: int | None = None,
    until_ms: int | None = None,
    since: int | None = None,
    limit: int = 10,
    *,
    key: object = KEY,
) -> Statement:
    found = books(
        partial(journal.statement, key=key, from_ms=from_ms, until_ms=until_ms, since=since, limit=limit)  # type: ignore[arg-type]
    )
    assert isinstance(found, Statement), found
    return found


def snapshots(books: Transaction, every: int) -> list[int]:
    taken: list[int] = []
    while (snapshot := books(partial(journal.take_snapshot, now_ms=99, every=every))) is not None:
        taken.append(snapshot.seq)
    return taken


# Snapshots.


def test_a_snapshot_is_taken_every_so_many_entries(books: Transaction) -> None:
    assert snapshots(books, 3) == [3, 6]
    assert snapshots(books, 3) == []
    books(partial(pay, number=8, payer=ALICE, payee=BOB, amount_minor=1, now_ms=99))
    books(partial(pay, number=9, payer=ALICE, payee=BOB, amount_minor=1, now_ms=99))
    assert snapshots(books, 3) == [9]
    assert books(service.violations) == ()


def test_a_snapshot_is_taken_when_what_it_would_cover_is_a_day_old(books: Transaction) -> None:
    late = 10 + journal.SNAPSHOT_MS
    assert books(partial(journal.take_snapshot, now_ms=late - 1)) is None
    taken = books(partial(journal.take_snapshot, now_ms=late))
    head = books(store.head)
    assert taken == Snapshot(seq=7, entry_hash=head.entry_hash, posted_ms=60)
    assert books(partial(journal.take_snapshot, now_ms=late + journal.SNAPSHOT_MS)) is None


def test_empty_books_need_no_snapshot(transaction: Transaction) -> None:
    assert transaction(partial(journal.take_snapshot, now_ms=10**12)) is None


def test_a_snapshot_costs_a_constant_number_of_statements_and_rows_for_those_who_moved(books: Transaction) -> None:
    assert snapshots(books, 6) == [6]
    books(partial(pay, number=8, payer=ALICE, payee=BOB, amount_minor=1, now_ms=99))
    assert snapshots(books, 2) == [8]

    def rows(cur: Cursor) -> list[object]:
        cur.execute(
            "SELECT account.owner, account.currency, base.balance_minor FROM superapp_ledger_snapshot_balance AS base"
            " JOIN superapp_ledger_account AS account ON account.account_id = base.account_id WHERE base.seq = 8"
            " ORDER BY account.owner, account.currency"
        )
        return list(cur.fetchall())

    assert books(rows) == [("alice", "EUR", 73), ("bob", "EUR", 6), ("bob", "PTS", 3), ("house", "PTS", -3)]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO superapp_ledger_snapshot VALUES (5, 'other', 40, 99)",
        "INSERT INTO superapp_ledger_snapshot SELECT seq, hash, 41, 99 FROM superapp_ledger_entry WHERE seq = 5",
        "INSERT INTO superapp_ledger_snapshot SELECT 8, hash, posted_ms, 99 FROM superapp_ledger_entry WHERE seq = 5",
        "UPDATE superapp_ledger_snapshot SET taken_ms = 1",
        "DELETE FROM superapp_ledger_snapshot",
        "UPDATE superapp_ledger_snapshot_balance SET balance_minor = 1",
        "DELETE FROM superapp_ledger_snapshot_balance",
        (
            "INSERT INTO superapp_ledger_snapshot_balance SELECT account_id, 3, 3, 1000 FROM superapp_ledger_account"
            " WHERE kind = 'available' AND owner = 'carol'"
        ),
        (
            "INSERT INTO superapp_ledger_snapshot_balance SELECT account_id, 3, 4, 1 FROM superapp_ledger_account"
            " WHERE kind = 'available' AND owner = 'carol'"
        ),
    ],
)
def test_a_snapshot_says_what_entries_say_and_stays(books: Transaction, statement: LiteralString) -> None:
    snapshots(books, 3)
    with pytest.raises(Exception, match=r"superapp_ledger|FOREIGN KEY|foreign key"):
        books(lambda cur: cur.execute(statement))


# Statements.


def ids(found: Statement) -> list[str]:
    return [entry.transfer.transfer_id for entry in found.entries]


def test_a_statement_has_all_entries_newest_first_and_the_balances_at_its_ends(books: Transaction) -> None:
    found = statement(books)
    assert ids(found) == ["t6", "t5", "t3", "t2", "issue:r1"]
    assert (found.opening_minor, found.closing_minor, found.following, found.archived) == (0, 74, None, None)


@pytest.mark.parametrize("every", [None, 1, 2, 3])
@pytest.mark.parametrize(
    ("from_ms", "until_ms", "expected", "opening", "closing"),
    [
        (20, 41, ["t5", "t3", "t2"], 100, 75),
        (21, 40, ["t3"], 90, 95),
        (31, 40, [], 95, 95),
        (None, 30, ["t2", "issue:r1"], 0, 90),
        (40, None, ["t6", "t5"], 95, 74),
        (51, None, [], 74, 74),
        (None, 10, [], 0, 0),
        (None, 9, [], 0, 0),
    ],
)
def test_a_statement_of_a_time_range(
    books: Transaction,
    every: int | None,
    from_ms: int | None,
    until_ms: int | None,
    expected: list[str],
    opening: int,
    closing: int,
) -> None:
    """Whether it is found along the account alone or from a snapshot."""
    if every is not None:
        snapshots(books, every)
    found = statement(books, from_ms, until_ms)
    assert ids(found) == expected
    assert (found.opening_minor, found.closing_minor) == (opening, closing)


def test_a_statement_comes_in_pages_with_the_same_ends(books: Transaction) -> None:
    seen: list[str] = []
    since: int | None = None
    while True:
        page = statement(books, 20, 51, since, 1)
        assert (page.opening_minor, page.closing_minor) == (100, 74)
        seen += ids(page)
        if page.following is None:
            break
        since = page.following
    assert seen == ["t6", "t5", "t3", "t2"]


@pytest.mark.parametrize("since", [4, 99, 0, -1])
def test_a_page_begins_at_an_entry_of_the_account(books: Transaction, since: int) -> None:
    refused = books(partial(journal.statement, key=KEY, from_ms=None, until_ms=None, since=since, limit=5))
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.INVALID_VALUE


def test_the_statement_of_an_account_that_never_was_is_empty(books: Transaction) -> None:
    found = statement(books, key=available(Acct("nobody"), EUR))
    assert (found.entries, found.opening_minor, found.closing_minor) == ((), 0, 0)


# Verification.

TRIGGERS_OFF: Final[dict[Engine, tuple[LiteralString, ...]]] = {
    Engine.POSTGRESQL: (
        "ALTER TABLE superapp_ledger_account DISABLE TRIGGER USER",
        "ALTER TABLE superapp_ledger_entry DISABLE TRIGGER USER",
        "ALTER TABLE superapp_ledger_head DISABLE TRIGGER USER",
        "ALTER TABLE superapp_ledger_snapshot_balance DISABLE TRIGGER USER",
    ),
    Engine.SQLITE: (
        "DROP TRIGGER superapp_ledger_account_fold_only",
        "DROP TRIGGER superapp_ledger_head_fold_only",
        "DROP TRIGGER superapp_ledger_entry_no_update",
        "DROP TRIGGER superapp_ledger_entry_leaves_to_archive",
        "DROP TRIGGER superapp_ledger_snapshot_balance_no_update",
        "DROP TRIGGER superapp_ledger_snapshot_balance_no_delete",
    ),
}


def force(books: Transaction, engine: Engine, tampering: LiteralString) -> None:
    for statement in (*TRIGGERS_OFF[engine], tampering):
        books(lambda cur, text=statement: cur.execute(text))  # type: ignore[misc]


def verified(books: Transaction, *, everything: bool = True, limit: int = 2) -> set[Violation]:
    """Page by page, from where it begins to the head."""
    found: list[Violation] = []
    after = books(partial(journal.verify_from, everything=everything))
    while True:
        page = books(partial(journal.verify, after_seq=after, limit=limit))
        assert page.after_seq == after
        found += page.violations
        if page.through_seq == page.head_seq:
            return set(found)
        after = page.through_seq


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_a_ledger_that_was_only_used_verifies(books: Transaction, limit: int) -> None:
    assert verified(books, limit=limit) == set()
    snapshots(books, 2)
    assert verified(books, limit=limit) == set()
    assert verified(books, everything=False, limit=limit) == set()


def test_verifying_begins_at_the_newest_snapshot_unless_all_is_wanted(books: Transaction) -> None:
    assert books(partial(journal.verify_from, everything=False)) == 0
    snapshots(books, 3)
    assert books(partial(journal.verify_from, everything=False)) == 6
    assert books(partial(journal.verify_from, everything=True)) == 0


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        ("UPDATE superapp_ledger_entry SET reference = 'x' WHERE seq = 2", {("chain", "entry 2")}),
        (
            "UPDATE superapp_ledger_entry SET debit_after_minor = 91 WHERE seq = 2",
            {("chain", "entry 2"), ("balance", "entry 2"), ("balance", "entry 3")},
        ),
        (
            "UPDATE superapp_ledger_entry SET credit_prev_seq = 1 WHERE seq = 3",
            {("chain", "entry 3"), ("balance", "entry 3")},
        ),
        ("UPDATE superapp_ledger_head SET hash = 'other'", {("chain", "head")}),
        (
            "UPDATE superapp_ledger_snapshot_balance SET balance_minor = 1 WHERE seq = 3 AND balance_minor = 5",
            {("snapshot", "entry 3")},
        ),
        (
            "DELETE FROM superapp_ledger_snapshot_balance WHERE seq = 6 AND balance_minor = 74",
            {("snapshot", "entry 6"), ("fold", "alice EUR available")},
        ),
        (
            "UPDATE superapp_ledger_account SET balance_minor = 1000 WHERE balance_minor = 74",
            {("I1", "EUR"), ("fold", "alice EUR available")},
        ),
    ],
)
def test_verifying_finds_what_was_changed_by_force(
    books: Transaction, engine: Engine, tampering: LiteralString, found: set[tuple[str, str]]
) -> None:
    snapshots(books, 3)
    force(books, engine, tampering)
    assert {(each.invariant, each.where) for each in verified(books)} == found


def test_the_checks_read_no_entry_that_a_snapshot_covers(books: Transaction, engine: Engine) -> None:
    """An old entry that was changed by force is found by verifying all, not by the hourly checks."""
    snapshots(books, 3)
    for number in range(8, 10):
        books(partial(pay, number=number, payer=ALICE, payee=BOB, amount_minor=1, now_ms=99))
    force(books, engine, "UPDATE superapp_ledger_entry SET amount_minor = 11 WHERE seq = 2")
    assert "fold" not in {each.invariant for each in books(service.violations)}
    assert ("balance", "entry 2") in {(each.invariant, each.where) for each in verified(books)}


# Archives.


def exported(books: Transaction, stretch: Stretch) -> list[str]:
    lines: list[str] = []
    while stretch.after_seq + len(lines) < stretch.through_seq:
        left = stretch.through_seq - stretch.after_seq - len(lines)
        after = stretch.after_seq + len(lines)
        lines += books(partial(journal.archive_lines, after_seq=after, limit=min(2, left)))
    return lines


def planned(books: Transaction, until_ms: int) -> Stretch:
    stretch = books(partial(journal.plan_archive, until_ms=until_ms))
    assert isinstance(stretch, Stretch), stretch
    return stretch


def archive_of(stretch: Stretch, file_name: str = "a.jsonl") -> Archive:
    return Archive(stretch=stretch, file_name=file_name, file_digest=DIGEST, archived_ms=100)


def record(cur: Cursor, wanted: Archive) -> tuple[Archive, int] | Refused:
    return journal.record_archive(cur, wanted, reason="the year is over", operator=ADMIN, now_ms=100)


def archived(books: Transaction, until_ms: int, *, drop: int = 2) -> tuple[Stretch, list[str]]:
    """All before a time written to a file, and dropped."""
    stretch = planned(books, until_ms)
    lines = exported(books, stretch)
    assert books(partial(journal.prepare_archive, through_seq=stretch.through_seq, now_ms=100)) is None
    done = books(partial(record, wanted=archive_of(stretch)))
    assert not isinstance(done, Refused), done
    while books(partial(journal.drop_archived, limit=drop)):
        pass
    return stretch, lines


def state(cur: Cursor) -> object:
    cur.execute("SELECT owner, currency, kind, balance_minor, last_seq FROM superapp_ledger_account ORDER BY 1, 2, 3")
    accounts = cur.fetchall()
    cur.execute("SELECT seq, hash FROM superapp_ledger_entry ORDER BY seq")
    entries = cur.fetchall()
    cur.execute("SELECT through_seq FROM superapp_ledger_archive ORDER BY 1")
    return store.head(cur), accounts, entries, cur.fetchall(), store.acts(cur, None, 100)


@pytest.mark.parametrize("every", [None, 2, 3])
def test_the_oldest_entries_go_to_a_file_and_all_balances_stay(books: Transaction, every: int | None) -> None:
    if every is not None:
        snapshots(books, every)
    before = books(state)
    stretch, lines = archived(books, 36)
    assert (stretch.after_seq, stretch.before_hash, stretch.through_seq, stretch.posted_ms) == (0, "", 4, 35)
    assert check_lines([header_line("hs1.test", stretch), *lines]) == stretch
    after = books(state)
    assert (after[0], after[1]) == (before[0], before[1])  # type: ignore[index]
    assert [entry[0] for entry in after[2]] == [5, 6, 7]  # type: ignore[index]
    assert books(service.violations) == ()
    assert verified(books) == set()
    assert verified(books, everything=False) == set()


def test_the_books_go_on_after_an_archive_and_so_does_the_next_one(books: Transaction) -> None:
    first, _ = archived(books, 36)
    books(partial(pay, number=8, payer=CAROL, payee=ALICE, amount_minor=2, now_ms=70))
    books(partial(pay, number=9, payer=ALICE, payee=BOB, amount_minor=1, now_ms=80))
    second, lines = archived(books, 61)
    assert (second.after_seq, second.before_hash, second.through_seq) == (4, first.entry_hash, 7)
    assert check_lines([header_line("hs1.test", second), *lines]) == second
    assert [each.stretch for each in books(journal.archives)] == [first, second]
    assert verified(books) == set()
    everything, _ = archived(books, 1_000)
    assert everything.through_seq == books(store.head).seq == 9
    assert verified(books) == set()
    books(partial(pay, number=10, payer=ALICE, payee=BOB, amount_minor=1, now_ms=90))
    assert verified(books) == set()
    assert books(partial(service.balance, key=KEY)) == 74


def test_an_archived_id_stays_taken_and_nothing_is_done_again(books: Transaction) -> None:
    archived(books, 36)
    before = books(state)
    again = books(lambda cur: service.issue(cur, ALICE, eur(100), reference="r1", operator=ADMIN, now_ms=99))
    assert isinstance(again, Refused)
    assert again.reason is Reason.ENTRY_ARCHIVED
    assert again.fields == {"seq": 1}
    order = Transfer(
        transfer_id=TransferId("t2"),
        debit=available(ALICE, EUR),
        credit=available(BOB, EUR),
        amount_minor=10,
        cause=Cause.PAYMENT,
        reference="p2",
    )
    refused = books(lambda cur: service.transfer(cur, order, 99))
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.ENTRY_ARCHIVED
    fresh = replace(order, transfer_id=TransferId("t20"))
    verdicts = books(lambda cur: service.transfer_many(cur, [order, fresh], 99))
    assert [isinstance(each, Posted) for each in verdicts] == [False, True]
    assert books(state)[2][:3] == before[2]  # type: ignore[index]


def test_an_archived_entry_is_not_corrected_any_more(books: Transaction) -> None:
    archived(books, 36)
    refused = books(lambda cur: operators.correct(cur, 2, None, reference="c", reason="r", operator=ADMIN, now_ms=99))
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.fields) == (Reason.ENTRY_ARCHIVED, {"seq": 2})


def test_a_used_burn_or_correction_whose_entry_is_archived_is_not_done_again(books: Transaction) -> None:
    def correct(cur: Cursor) -> Entry | Refused:
        return operators.correct(cur, 6, None, reference="c", reason="r", operator=ADMIN, now_ms=70)

    assert isinstance(books(correct), Entry)
    archived(books, 1_000)
    again = books(correct)
    assert isinstance(again, Refused)
    assert (again.reason, again.fields) == (Reason.ENTRY_ARCHIVED, {"seq": 8})


def test_an_open_hold_outlives_the_archive_of_its_entry(books: Transaction) -> None:
    hold_id = HoldId("alice:h")
    books(lambda cur: service.place_hold(cur, hold_id, ALICE, eur(10), 65))
    archived(books, 1_000)
    assert books(service.violations) == ()
    posted = books(
        lambda cur: service.post_hold(
            cur, hold_id, credit=available(BOB, EUR), cause=Cause.PAYMENT, reference="p", now_ms=99
        )
    )
    assert isinstance(posted, Posted)
    assert books(partial(service.balance, key=held(ALICE, EUR))) == 0
    assert verified(books) == set()
    archived(books, 2_000)
    late = books(
        lambda cur: service.post_hold(
            cur, hold_id, credit=available(BOB, EUR), cause=Cause.PAYMENT, reference="p", now_ms=99
        )
    )
    assert isinstance(late, Refused)
    assert late.reason is Reason.ENTRY_ARCHIVED


@pytest.mark.parametrize("drop", [True, False])
def test_a_statement_that_reaches_into_the_archive_says_so(books: Transaction, drop: bool) -> None:
    """As soon as the archive is recorded, whether its entries are still in the database or not."""
    if drop:
        archived(books, 36)
    else:
        stretch = planned(books, 36)
        books(partial(journal.prepare_archive, through_seq=stretch.through_seq, now_ms=100))
        books(partial(record, wanted=archive_of(stretch)))
    found = statement(books)
    assert ids(found) == ["t6", "t5"]
    assert (found.opening_minor, found.closing_minor) == (95, 74)
    assert found.archived is not None
    assert (found.archived.through_seq, found.archived.file_name) == (4, "a.jsonl")
    recent = statement(books, 36)
    assert (ids(recent), recent.opening_minor, recent.archived) == (["t6", "t5"], 95, None)
    old = statement(books, None, 30)
    assert (ids(old), old.archived is not None) == ([], True)
    points = statement(books, key=available(BOB, PTS))
    assert (ids(points), points.archived) == (["issue:r2"], None)


def test_recording_the_same_archive_again_changes_nothing(books: Transaction) -> None:
    stretch, _ = archived(books, 36)
    before = books(state)
    assert books(partial(record, wanted=archive_of(stretch))) == (archive_of(stretch), 0)
    assert books(state) == before
    other = replace(archive_of(stretch), file_digest="e" * 43)
    refused = books(partial(record, wanted=other))
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.fields) == (Reason.CONFLICT, {"field": "file_digest"})
    assert books(state) == before


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"entry_hash": "x" * 43}, Reason.ARCHIVE_MISMATCH),
        ({"after_seq": 1}, Reason.ARCHIVE_MISMATCH),
        ({"before_hash": "x"}, Reason.ARCHIVE_MISMATCH),
        ({"posted_ms": 1}, Reason.ARCHIVE_MISMATCH),
        ({"through_seq": 99}, Reason.UNKNOWN_ENTRY),
    ],
    ids=str,
)
def test_a_file_that_does_not_hold_what_the_journal_says_is_not_recorded(
    books: Transaction, wrong: dict[str, object], reason: Reason
) -> None:
    stretch = planned(books, 36)
    assert books(partial(journal.prepare_archive, through_seq=4, now_ms=100)) is None
    before = books(state)
    refused = books(partial(record, wanted=archive_of(replace(stretch, **wrong))))  # type: ignore[arg-type]
    assert isinstance(refused, Refused)
    assert refused.reason is reason
    assert books(state) == before


def test_books_whose_snapshot_is_wrong_are_not_archived(books: Transaction, engine: Engine) -> None:
    snapshots(books, 3)
    force(books, engine, "DELETE FROM superapp_ledger_snapshot_balance WHERE seq = 3 AND balance_minor = 95")
    refused = books(partial(journal.prepare_archive, through_seq=6, now_ms=100))
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.ARCHIVE_MISMATCH


def test_there_is_nothing_to_archive_from_before_the_first_entry_or_twice(books: Transaction) -> None:
    for until_ms in (0, 10):
        refused = books(partial(journal.plan_archive, until_ms=until_ms))
        assert isinstance(refused, Refused)
        assert refused.reason is Reason.UNKNOWN_ENTRY
    archived(books, 36)
    refused = books(partial(journal.plan_archive, until_ms=36))
    assert isinstance(refused, Refused)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM superapp_ledger_entry WHERE seq = 5",
        "DELETE FROM superapp_ledger_entry",
        "UPDATE superapp_ledger_entry SET reference = 'x' WHERE seq = 4",
        "INSERT INTO superapp_ledger_archived VALUES ('fresh', 4)",
        "INSERT INTO superapp_ledger_archived VALUES ('t5', 5)",
        "DELETE FROM superapp_ledger_archived",
        "UPDATE superapp_ledger_archived SET transfer_id = 'x'",
        "DELETE FROM superapp_ledger_archive",
        "UPDATE superapp_ledger_archive SET through_seq = 7",
        (
            "INSERT INTO superapp_ledger_archive SELECT 7, 4, archive.hash, entry.hash, entry.posted_ms, 'f',"
            " archive.file_digest, 1 FROM superapp_ledger_archive AS archive, superapp_ledger_entry AS entry"
            " WHERE entry.seq = 7"
        ),  # without a snapshot there
        (
            "INSERT INTO superapp_ledger_archive SELECT 6, 3, archive.hash, snapshot.hash, snapshot.posted_ms, 'f',"
            " archive.file_digest, 1 FROM superapp_ledger_archive AS archive, superapp_ledger_snapshot AS snapshot"
            " WHERE snapshot.seq = 6"
        ),  # not where the one before ends
        (
            "INSERT INTO superapp_ledger_archive SELECT 6, 4, 'other', snapshot.hash, snapshot.posted_ms, 'f',"
            " archive.file_digest, 1 FROM superapp_ledger_archive AS archive, superapp_ledger_snapshot AS snapshot"
            " WHERE snapshot.seq = 6"
        ),
    ],
)
def test_nothing_leaves_the_journal_by_another_way(books: Transaction, statement: LiteralString) -> None:
    snapshots(books, 6)
    stretch = planned(books, 36)
    books(partial(journal.prepare_archive, through_seq=stretch.through_seq, now_ms=100))
    books(partial(record, wanted=archive_of(stretch)))
    books(partial(journal.drop_archived, limit=2))
    before = books(state)
    with pytest.raises(Exception, match=r"superapp_ledger"):
        books(lambda cur: cur.execute(statement))
    assert books(state) == before


def test_an_archive_in_the_right_form_is_taken_by_the_database(books: Transaction) -> None:
    """The counterpart of the refusals above: what they differ in is what they are refused for."""
    snapshots(books, 6)
    archived(books, 36)
    books(
        lambda cur: cur.execute(
            "INSERT INTO superapp_ledger_archive SELECT 6, 4, archive.hash, snapshot.hash, snapshot.posted_ms, 'f',"
            " archive.file_digest, 1 FROM superapp_ledger_archive AS archive, superapp_ledger_snapshot AS snapshot"
            " WHERE snapshot.seq = 6"
        )
    )
    assert [each.through_seq for each in books(journal.archives)] == [4, 6]


def test_an_archived_id_cannot_be_written_again_behind_the_ledgers_back(books: Transaction) -> None:
    archived(books, 36)

    def forge(cur: Cursor) -> None:
        head = store.head(cur)
        keys = [available(ALICE, EUR), available(BOB, EUR)]
        found = store.accounts(cur, keys)
        alice, bob = found[keys[0]], found[keys[1]]
        cur.execute(
            "INSERT INTO superapp_ledger_entry VALUES (?, 't2', ?, ?, ?, ?, ?, ?, 1, 'payment', 'p', 1, ?)",
            (
                head.seq + 1,
                alice.account_id,
                alice.last_seq,
                alice.balance_minor - 1,
                bob.account_id,
                bob.last_seq,
                bob.balance_minor + 1,
                "h" * 43,
            ),
        )

    with pytest.raises(Exception, match="superapp_ledger"):
        books(forge)


def test_an_archive_has_at_most_so_many_entries(books: Transaction, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_ARCHIVED", 3)
    assert planned(books, 1_000).through_seq == 3


def test_two_journals_with_the_same_acts_have_the_same_archive(open_database: Callable[..., Database]) -> None:
    first, second = (open_database("super_app.ledger").connect(rerun=True) for _ in range(2))
    first(fill)
    second(fill)
    assert archived(first, 36) == archived(second, 36, drop=1)
