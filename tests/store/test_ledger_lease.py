"""The lease: taken by compare and set, timed by the database, and compared in every batch."""

import threading
from collections.abc import Callable

import psycopg2
import pytest
from ledger_writers import WriterUnderTest, answer_of, outcome_of

from super_app.db import Cursor, Engine, Transaction
from super_app.ids import Acct
from super_app.ledger import lease, service, store
from super_app.ledger.lease import LEASE_MS, NotTheWriter
from super_app.ledger.model import Cause, Posted, Transfer, TransferId, available
from super_app.money import AssetCode, Money

pytestmark = pytest.mark.packages("super_app.ledger")

EUR = AssetCode("EUR")


def take(cur: Cursor, by: str, *, was_mine: set[int] | None = None, lasts_ms: int = LEASE_MS) -> int | None:
    return lease.take(cur, by=by, was_mine=was_mine, lasts_ms=lasts_ms)


def holder(cur: Cursor) -> tuple[str, int]:
    found = lease.read(cur)
    return found.holder, found.epoch


def run_out(cur: Cursor) -> None:
    """Let the lease be one that ran out a moment ago."""
    cur.execute("UPDATE superapp_ledger_lease SET expires_ms = expires_ms - ?", (LEASE_MS + 1,))


def fund(cur: Cursor) -> None:
    for name in ("alice", "bob"):
        money = Money(amount_minor=1_000, currency=EUR)
        service.issue(cur, Acct(name), money, reference=name, operator="@a", now_ms=1)


def pay(transfer_id: str) -> Transfer:
    return Transfer(
        transfer_id=TransferId(transfer_id),
        debit=available(Acct("alice"), EUR),
        credit=available(Acct("bob"), EUR),
        amount_minor=1,
        cause=Cause.PAYMENT,
        reference=transfer_id,
    )


def balance(cur: Cursor) -> int:
    return service.balance(cur, available(Acct("bob"), EUR))


# Taking, keeping, giving up.


def test_a_stand_in_is_relieved_at_any_time_and_nobody_else_is(transaction: Transaction) -> None:
    def relieve(cur: Cursor) -> int | None:
        return lease.take(cur, by="worker", was_mine=None, lasts_ms=LEASE_MS, stand_in="main")

    assert transaction(lambda cur: take(cur, "other")) is not None
    assert transaction(relieve) is None
    transaction(run_out)
    epoch = transaction(lambda cur: take(cur, "main"))
    assert epoch is not None
    assert transaction(relieve) == epoch + 1
    assert transaction(holder) == ("worker", epoch + 1)


def test_nobody_has_the_lease_of_a_new_database_and_the_first_gets_it(transaction: Transaction) -> None:
    assert transaction(holder) == ("", 1)
    assert transaction(lambda cur: take(cur, "one")) == 2
    assert transaction(holder) == ("one", 2)
    assert transaction(store.head).epoch == 2


def test_while_a_lease_runs_others_do_not_get_it(transaction: Transaction) -> None:
    transaction(lambda cur: take(cur, "one"))
    assert transaction(lambda cur: take(cur, "two")) is None
    assert transaction(holder) == ("one", 2)
    assert transaction(store.head).epoch == 2


def test_a_lease_that_ran_out_goes_to_the_first_who_takes_it(transaction: Transaction) -> None:
    transaction(lambda cur: take(cur, "one"))
    transaction(run_out)
    assert transaction(lambda cur: take(cur, "two")) == 3
    assert transaction(lambda cur: take(cur, "three")) is None
    assert transaction(holder) == ("two", 3)


@pytest.mark.runs_once
def test_a_lease_runs_by_the_clock_of_the_database(transaction: Transaction) -> None:
    transaction(lambda cur: take(cur, "one"))
    assert 0 < transaction(lease.read).left_ms <= LEASE_MS
    transaction(run_out)
    assert -LEASE_MS <= transaction(lease.read).left_ms < 0


def test_one_process_among_none_promises_nothing_and_holds_all_the_same(transaction: Transaction) -> None:
    transaction(lambda cur: take(cur, "main", lasts_ms=0))
    assert transaction(lambda cur: lease.demand(cur, 2)) is None
    assert transaction(lambda cur: take(cur, "other")) == 3


def test_a_process_that_starts_again_takes_its_old_lease_at_once(transaction: Transaction) -> None:
    transaction(lambda cur: take(cur, "one"))
    assert transaction(lambda cur: take(cur, "one", was_mine=None)) == 3


def test_two_processes_of_one_name_do_not_take_it_from_each_other_for_ever(transaction: Transaction) -> None:
    transaction(lambda cur: take(cur, "one"))
    transaction(lambda cur: take(cur, "one"))
    assert transaction(lambda cur: take(cur, "one", was_mine={2})) is None
    assert transaction(lambda cur: take(cur, "one", was_mine={3})) == 4


def test_renewing_keeps_it(transaction: Transaction) -> None:
    transaction(lambda cur: take(cur, "one"))
    transaction(run_out)
    assert transaction(lambda cur: lease.renew(cur, 2))
    assert transaction(lambda cur: take(cur, "two")) is None


def test_what_somebody_else_has_taken_cannot_be_renewed_or_given_up(transaction: Transaction) -> None:
    transaction(lambda cur: take(cur, "one"))
    transaction(run_out)
    transaction(lambda cur: take(cur, "two"))
    assert not transaction(lambda cur: lease.renew(cur, 2))
    transaction(lambda cur: lease.give_up(cur, 2))
    assert transaction(lambda cur: take(cur, "three")) is None


def test_what_is_given_up_is_free_at_once(transaction: Transaction) -> None:
    transaction(lambda cur: take(cur, "one"))
    transaction(lambda cur: lease.give_up(cur, 2))
    assert transaction(lambda cur: take(cur, "two")) == 3


# Fencing.


@pytest.fixture
def books(transaction: Transaction) -> Transaction:
    transaction(fund)
    transaction(lambda cur: take(cur, "one"))
    return transaction


def opened(books: Transaction) -> tuple[WriterUnderTest, list[str]]:
    """A writer in the epoch that is now, and what it says when it has lost the lease."""
    under_test, said = WriterUnderTest(books), list[str]()
    under_test.writer.open(books(store.head).epoch, lambda: said.append("lost"))
    return under_test, said


def overtaken(cur: Cursor) -> None:
    run_out(cur)
    assert take(cur, "two") is not None


def test_a_former_writer_writes_nothing(books: Transaction) -> None:
    under_test, said = opened(books)
    books(overtaken)
    done = [outcome_of(under_test.writer.transfer(pay(f"t{number}"))) for number in range(3)]
    work = outcome_of(under_test.writer.run("work", fund))
    under_test.finish()
    for each in done:
        with pytest.raises(NotTheWriter):
            answer_of(each)
    with pytest.raises(NotTheWriter):
        answer_of(work)
    assert said == ["lost"]
    assert books(balance) == 1_000


def test_what_a_former_writer_has_decided_ahead_is_not_written_either(books: Transaction) -> None:
    under_test, said = opened(books)
    first = outcome_of(under_test.writer.transfer(pay("t1")))
    under_test.finish()
    assert isinstance(answer_of(first), Posted)
    # It knows the head and both accounts now, and they stay as they are.
    books(overtaken)
    done = outcome_of(under_test.writer.transfer(pay("t2")))
    under_test.finish()
    with pytest.raises(NotTheWriter):
        answer_of(done)
    assert said == ["lost"]
    assert books(balance) == 1_001


def test_a_writer_that_has_the_lease_again_writes_again(books: Transaction) -> None:
    under_test, said = opened(books)
    books(overtaken)
    books(run_out)
    epoch = books(lambda cur: take(cur, "one"))
    assert epoch is not None
    under_test.writer.open(epoch, lambda: said.append("lost again"))
    done = outcome_of(under_test.writer.transfer(pay("t1")))
    under_test.finish()
    assert isinstance(answer_of(done), Posted)
    assert said == []


def test_a_closed_writer_refuses_what_waits_and_what_comes(books: Transaction) -> None:
    under_test, said = opened(books)
    running = outcome_of(under_test.writer.transfer(pay("t1")))
    waiting = outcome_of(under_test.writer.transfer(pay("t2")))
    under_test.writer.close()
    under_test.finish()
    assert isinstance(answer_of(running), Posted)
    late = outcome_of(under_test.writer.transfer(pay("t3")))
    under_test.finish()
    for each in (waiting, late):
        with pytest.raises(NotTheWriter):
            answer_of(each)
    assert said == []


def test_a_batch_of_unknown_outcome_is_not_tried_again_by_a_former_writer(books: Transaction) -> None:
    under_test, _ = opened(books)

    def committed_and_lost(run: Callable[[], object]) -> object:
        run()
        books(overtaken)
        raise psycopg2.OperationalError("server closed the connection unexpectedly")

    under_test.database.troubles.append(committed_and_lost)
    done = outcome_of(under_test.writer.transfer(pay("t1")))
    under_test.finish()
    with pytest.raises(NotTheWriter):
        answer_of(done)
    # It did happen; whoever asks the new writer under the same id is told so.
    replay = books(lambda cur: service.transfer(cur, pay("t1"), 5))
    assert isinstance(replay, Posted)
    assert replay.replayed
    assert books(balance) == 1_001


# Two connections.


def test_a_takeover_waits_for_the_batch_that_is_being_written(two_connections: tuple[Transaction, Transaction]) -> None:
    one, other = two_connections
    one(fund)
    one(lambda cur: take(cur, "one", lasts_ms=0))
    taken: list[int | None] = []
    taker = threading.Thread(target=lambda: taken.append(other(lambda cur: take(cur, "two"))))

    def batch(cur: Cursor) -> None:
        lease.demand(cur, 2)
        taker.start()
        _wait_for_a_lock(cur)
        assert taken == []
        assert isinstance(service.transfer(cur, pay("t1"), 2), Posted)

    one(batch)
    taker.join(60)
    assert taken == [3]
    assert one(balance) == 1_001
    with pytest.raises(NotTheWriter):
        one(lambda cur: lease.demand(cur, 2))


def test_a_batch_that_waited_for_a_takeover_finds_itself_overtaken(
    two_connections: tuple[Transaction, Transaction],
) -> None:
    one, other = two_connections
    one(fund)
    one(lambda cur: take(cur, "one", lasts_ms=0))
    refused: list[Exception] = []

    def batch(cur: Cursor) -> None:
        lease.demand(cur, 2)
        service.transfer(cur, pay("t1"), 2)

    def late() -> None:
        try:
            other(batch)
        except NotTheWriter as error:
            refused.append(error)

    writer = threading.Thread(target=late)

    def takeover(cur: Cursor) -> None:
        assert take(cur, "two") == 3
        writer.start()
        _wait_for_a_lock(cur)

    one(takeover)
    writer.join(60)
    assert len(refused) == 1
    assert one(balance) == 1_000


def test_of_two_that_take_it_at_once_one_gets_it(two_connections: tuple[Transaction, Transaction]) -> None:
    one, other = two_connections
    taken: list[int | None] = []
    second = threading.Thread(target=lambda: taken.append(other(lambda cur: take(cur, "two"))))

    def first(cur: Cursor) -> int | None:
        epoch = take(cur, "one")
        second.start()
        _wait_for_a_lock(cur)
        return epoch

    assert one(first) == 2
    second.join(60)
    assert taken == [None]
    assert one(holder) == ("one", 2)


def test_who_says_nothing_while_it_holds_the_head_loses_it(two_connections: tuple[Transaction, Transaction]) -> None:
    """The server ends such a transaction: the setting is there in each that holds the head, and gone after it."""
    one, _ = two_connections
    one(fund)
    keys = [available(Acct("alice"), EUR), available(Acct("bob"), EUR)]
    head, accounts = one(store.head), one(lambda cur: store.accounts(cur, keys))
    prepared = service.prepare([pay("t1")], 2, head, accounts, Engine.POSTGRESQL)
    assert prepared is not None

    def decided_here(cur: Cursor) -> str:
        store.lock(cur)
        return _patience(cur)

    def decided_ahead(cur: Cursor) -> str:
        assert service.carry_out(cur, prepared)
        return _patience(cur)

    def moved(cur: Cursor) -> str:
        assert not service.carry_out(cur, prepared)
        return _patience(cur)

    assert one(_patience) == "0"
    assert one(decided_here) == one(decided_ahead) == one(moved) == "5s"
    assert one(_patience) == "0"


def test_a_transaction_that_the_server_ended_so_is_tried_again(books: Transaction) -> None:
    class IdleInTransactionSessionTimeout(psycopg2.InternalError):
        pgcode = "25P03"

    under_test, _ = opened(books)

    def stopped(_: Callable[[], object]) -> object:
        raise IdleInTransactionSessionTimeout("terminating connection due to idle-in-transaction timeout")

    under_test.database.troubles.append(stopped)
    done = outcome_of(under_test.writer.transfer(pay("t1")))
    under_test.finish()
    assert isinstance(answer_of(done), Posted)


def _patience(cur: Cursor) -> str:
    cur.execute("SELECT current_setting('idle_in_transaction_session_timeout')")
    row = cur.fetchone()
    assert row is not None
    return str(row[0])


def _wait_for_a_lock(cur: Cursor) -> None:
    """Until another connection waits for a lock that this transaction has."""
    give_up = threading.Event()
    timer = threading.Timer(60, give_up.set)
    timer.daemon = True
    timer.start()
    try:
        while not give_up.is_set():
            cur.execute(
                "SELECT COUNT(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
            )
            row = cur.fetchone()
            if row is not None and row[0]:
                return
    finally:
        timer.cancel()
    raise TimeoutError("nobody came to wait")
