"""Payments on a homeserver with workers, whose ledger writer is killed, hangs and is stopped while people pay."""

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from claimed_at_once import names_are_claimed_once_at_whichever_process
from counted_guesses import guesses_are_counted_once_at_whichever_process
from steady_payers import AtOnce, SteadyPayer, every_payment_ends, the_books_tell_one_story
from workers_pair import WorkersPair

import super_app
import synapse_super_app
from super_app.names import AccountDataType, EventType
from synapse_super_app.commands.demo_pair import CURRENCY
from synapse_super_app.commands.homeserver_process import Homeserver
from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError, wait_until


@pytest.fixture
def pair(demo_folder: Path) -> Iterator[WorkersPair]:
    with WorkersPair(data=demo_folder) as running:
        yield running


@pytest.mark.timeout(1200)
def test_a_writer_that_dies_hangs_stops_or_is_upgraded_is_replaced_and_no_payment_is_lost_or_doubled(
    pair: WorkersPair, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("next")
    everybody: list[SteadyPayer] = []
    main = pair.sides[0].process
    guesses_are_counted_once_at_whichever_process(pair)
    names_are_claimed_once_at_whichever_process(pair)
    with ExitStack() as clients:

        def pays(payer: str, payee: str, at: Homeserver, count: int) -> SteadyPayer:
            client = clients.enter_context(pair.client_at(at, payer))
            steady = SteadyPayer(client=client, payee=pair.people[payee].handle, amounts=list(range(1, count + 1)))
            everybody.append(steady)
            return steady

        def answered(payer: SteadyPayer) -> bool | None:
            return len(payer.sent) > 2 or None

        # Killed, while orders come in at processes that do not write, and objects of the peer at the main process.
        first, epoch = pair.lease()
        second = pair.other(first)
        payers = [
            pays("alice", "bob", main, 10),
            pays("dave", "carol", pair.workers[second], 10),
            pays("bob", "alice", pair.sides[1].process, 10),
        ]
        with AtOnce(payers):
            for payer in payers:
                wait_until(lambda: answered(payer), timeout_s=120, what="some payments")  # noqa: B023 - asked at once
            pair.workers[first].kill()
            epoch = pair.wait_for_writer(second, epoch)

        # Hung: it takes connections and answers nobody, and then it comes back and believes that it still writes.
        pair.workers[first].start()
        payers = [pays("alice", "bob", main, 6), pays("bob", "alice", pair.sides[1].process, 6)]
        with AtOnce(payers):
            for payer in payers:
                wait_until(lambda: answered(payer), timeout_s=120, what="some payments")  # noqa: B023 - asked at once
            pair.suspend(pair.workers[second])
            epoch = pair.wait_for_writer(first, epoch)
        pair.resume(pair.workers[second])
        pays("dave", "carol", pair.workers[second], 1).pay_all()

        # Stopped in order.
        pair.workers[first].stop()
        pair.wait_for_writer(second, epoch)
        pays("dave", "carol", pair.workers[second], 1).pay_all()

        # Replaced one after the other by a new version, whose migrations come before and after.
        pair.workers[first].start()
        payers = [
            pays("alice", "bob", pair.workers[first], 8),
            pays("dave", "carol", pair.workers[second], 8),
            pays("bob", "alice", pair.sides[1].process, 8),
        ]
        with AtOnce(payers), pytest.MonkeyPatch.context() as patched:
            for payer in payers:
                wait_until(lambda: answered(payer), timeout_s=120, what="some payments")  # noqa: B023 - asked at once
            patched.setenv("PYTHONPATH", str(_next_version(folder)))
            _upgrade_as_the_page_says(pair)
        pays("dave", "carol", pair.workers[second], 1).pay_all()

        _refusals_come_through(everybody[0].client, pair)
        _a_ring_is_silenced_from_a_worker(pair, second)
        every_payment_ends(everybody)
        people = {person.handle: clients.enter_context(pair.client(name)) for name, person in pair.people.items()}
        the_books_tell_one_story(everybody, people, pair.admins)


def _next_version(folder: Path) -> Path:
    """This product with two migrations more: one that only adds, and one that waits for the end of an upgrade."""
    for package in (super_app, synapse_super_app):
        source = Path(package.__path__[0])
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    migrations = folder / "super_app" / "payments" / "migrations"
    number = 1 + max(int(path.name[:4]) for path in migrations.glob("*.sql"))
    added = "ALTER TABLE superapp_payment ADD COLUMN in_two_steps BIGINT;\n"
    (migrations / f"{number:04}_in_two_steps.sql").write_text(added)
    (migrations / f"{number + 1:04}_in_two_steps_again.post.sql").write_text(
        "ALTER TABLE superapp_payment ADD CHECK (in_two_steps IS NULL OR in_two_steps >= 0);\n"
    )
    return folder


def _upgrade_as_the_page_says(pair: WorkersPair) -> None:
    """docs/admin.md, "A new version while people pay", from step 2 on."""
    main, admin = pair.sides[0].process, pair.admins[0]

    def has_run(name: str) -> bool:
        return any(name in row for row in pair.migrations())

    main.stop()
    main.start()
    wait_until(lambda: has_run("_in_two_steps.sql"), timeout_s=120, what="the migration that only adds")
    assert not has_run(".post.sql"), "the workers are old still"
    writer, epoch = pair.lease()
    waiting = pair.other(writer)
    pair.workers[waiting].stop()
    pair.workers[waiting].start()
    pair.workers[writer].stop()
    pair.wait_for_writer(waiting, epoch)
    pair.workers[writer].start()
    (left,) = admin.superapp("GET", "admin/overview")["waiting_migrations"]
    assert left.endswith("_in_two_steps_again.post.sql")
    assert admin.superapp("POST", "admin/migrate")["waiting"] == []
    assert has_run(left)


def _refusals_come_through(alice: MatrixClient, pair: WorkersPair) -> None:
    """By the API and by the gate of a process that does not write."""
    order = {"payment_id": "0" * 32, "payee": pair.people["bob"].user_id, "amount": 1_000_000, "currency": CURRENCY}
    for ask in (
        lambda: alice.pay(pair.people["bob"].handle, 1_000_000, CURRENCY),
        lambda: alice.send(pair.room_id, "org.superapp.payment", order),
    ):
        refusal = _refusal_of(ask)
        assert (refusal.status, refusal.errcode) == (402, "ORG.SUPERAPP.INSUFFICIENT_FUNDS")
        assert refusal.body["available"] == alice.available(CURRENCY)


def _a_ring_is_silenced_from_a_worker(pair: WorkersPair, worker: str) -> None:
    """The main process writes push rules, and the ring comes in at another one."""
    with pair.client("alice") as alice, pair.client_at(pair.workers[worker], "dave") as dave:
        third = pair.admins[0]
        room = dave.create_room(invite=[alice.user_id, third.user_id])
        alice.join(room)
        third.join(room)
        alice.set_account_data(AccountDataType.CALL_POLICY, {"v": 1, "who": ["nobody"]})

        def is_known() -> bool:
            # The worker hears of account data and members by replication.
            rules = alice.matrix("GET", "pushrules/")["global"]["override"]
            if any(rule["rule_id"].startswith("org.superapp.silence.") for rule in rules):
                return True
            dave.send(room, EventType.CALL_RING, {"call_id": f"group-{secrets.token_hex(4)}", "media": "audio"})
            return False

        wait_until(is_known, timeout_s=60, what="a push rule that silences the ring")


def _refusal_of(ask: Callable[[], object]) -> MatrixError:
    """What it is refused with, asked again while the payee's homeserver is too busy to be asked."""

    def refused() -> MatrixError | None:
        with pytest.raises(MatrixError) as refusal:
            ask()
        return refusal.value if refusal.value.status < 500 else None

    return wait_until(refused, timeout_s=120, what="a refusal")
