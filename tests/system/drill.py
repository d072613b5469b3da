"""``make drill``: lose the database of a homeserver with money, and bring it back from a backup, by the clock.

    make drill ARGS="--payments 200 --publish docs"

Two homeservers federate and people pay one another. One of them is backed up while they do, goes on, is killed and
loses its database; the backup is put back, and its peer tells it what happened since. What everybody has is compared to
the unit with what docs/admin.md promises: payments between the two come back, those at home since the backup are gone.
The exit code is 1 if anything is otherwise.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from test_restore import link_of, lose_database, super_app

from super_app.db import Engine
from synapse_super_app.commands.demo_pair import CURRENCY, PORTS, DemoPair
from synapse_super_app.commands.loopback import free_ports
from synapse_super_app.commands.matrix_client import MatrixClient, MatrixError, UnreachableError, wait_until

PEOPLE: Final = ("alice", "dave", "bob", "carol")
"""The first two live where the database is lost."""
_LIMIT_S: Final = 300.0


@dataclass(slots=True, kw_only=True)
class Drill:
    """``steps`` are what was done, what was said of it, and how many seconds it took."""

    payments: int
    engine: Engine
    steps: list[tuple[str, str, float]] = field(default_factory=list)
    checks: list[tuple[str, str, bool]] = field(default_factory=list)
    down_s: float = 0.0

    @property
    def ok(self) -> bool:
        return all(held for _, _, held in self.checks)

    def step(self, what: str, said: str, took_s: float) -> None:
        self.steps.append((what, said, took_s))
        print(f"drill: {took_s:6.1f} s  {what}: {said}", file=sys.stderr, flush=True)

    def check(self, what: str, found: object, expected: object) -> None:
        told = f"{found}" if found == expected else f"{found}, and not {expected}"
        self.checks.append((what, told, found == expected))

    def command(self) -> str:
        return f'make drill ARGS="--payments {self.payments} --database {self.engine.value}"'


def pay(client: MatrixClient, payee: str, amount: int) -> None:
    paid = client.pay(payee, amount, CURRENCY)
    ended = client.wait_for_payment(paid["payment_id"], timeout_s=_LIMIT_S)
    if ended["state"] != "completed":
        raise RuntimeError(f"a payment ended as {ended['state']}")


def amount_of(place: int, number: int) -> int:
    """Of the couples each pays other sums, so that what one gains is not what another one loses."""
    return (17 - 4 * place) + number % 9


def pay_round(pair: DemoPair, couples: Sequence[tuple[str, str]], times: int) -> None:
    """Each of the couples, payer first, so many times, at once."""
    failed: list[BaseException] = []

    def go(place: int, payer: str, payee: str) -> None:
        try:
            with pair.client(payer) as client:
                for number in range(times):
                    pay(client, pair.people[payee].user_id, amount_of(place, number))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=go, args=(place, *couple)) for place, couple in enumerate(couples)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def balances(pair: DemoPair) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in PEOPLE:
        with pair.client(name) as client:
            found[name] = client.available(CURRENCY)
    return found


def run(folder: Path, drill: Drill) -> None:
    def timed(what: str, said: Callable[[], str]) -> None:
        began_s = time.monotonic()
        told = said()
        drill.step(what, told, time.monotonic() - began_s)

    between = [("alice", "bob"), ("bob", "alice"), ("carol", "dave"), ("dave", "carol")]
    half = max(1, drill.payments // (2 * len(between)))
    with DemoPair(data=folder, port_base=free_ports(PORTS), engine=drill.engine) as pair:
        config = str(pair.sides[0].folder / "homeserver.yaml")
        kept = folder / "backup"

        def before() -> str:
            pay_round(pair, between, half)
            return f"{half * len(between)} payments between the two homeservers"

        def backup() -> str:
            payers = threading.Thread(target=pay_round, args=(pair, between[:2], half))
            payers.start()
            made = super_app("backup", str(kept), "--config", config)
            payers.join()
            _must(made)
            size = sum(path.stat().st_size for path in kept.rglob("*") if path.is_file())
            return f"super-app backup, beside {2 * half} payments, until both were done; {size / 2**20:.1f} MiB"

        def after() -> str:
            pay_round(pair, between, half)
            return f"{half * len(between)} more payments between the two, which the backup does not know"

        def at_home() -> str:
            pay_round(pair, [("alice", "dave")], 5)
            return "5 payments at home, which nobody else knows"

        timed("people pay", before)
        timed("backup", backup)
        timed("people pay on", after)
        timed("and at home", at_home)
        had = balances(pair)
        lost = sum(amount_of(0, number) for number in range(5))

        def lose() -> str:
            pair.sides[0].process.kill()
            pair.admins[0].close()
            lose_database(pair, drill.engine)
            return "kill -9, and the database is gone"

        def restore() -> str:
            _must(super_app("restore", str(kept), "--config", config))
            return "super-app restore"

        def start() -> str:
            pair.sides[0].process.start()
            return "it serves people"

        def open_again() -> str:
            wait_until(lambda: link_of(pair, 0)["state"] == "open", timeout_s=_LIMIT_S, what="the link to come back")
            return "recovering, then open: the peer has told what it holds"

        def first_payment() -> str:
            with pair.client("alice") as alice:
                wait_until(lambda: _paid(alice, pair.people["bob"].user_id), timeout_s=_LIMIT_S, what="a payment")
            return "the first payment between the two is completed"

        began_s = time.monotonic()
        timed("loss", lose)
        timed("restore", restore)
        timed("start", start)
        timed("link", open_again)
        has = balances(pair)
        timed("payment", first_payment)
        drill.down_s = time.monotonic() - began_s

        expected = {**had, "alice": had["alice"] + lost, "dave": had["dave"] - lost}
        drill.check("everybody has what the payments between the two make, without those at home", has, expected)
        then = balances(pair)
        drill.check("the payment afterwards moved one unit", then["alice"], has["alice"] - 1)
        for index, admin in enumerate(pair.admins):
            drill.check(f"invariants of homeserver {index + 1}", admin.invariants()["ok"], True)

        def owed(index: int) -> tuple[int, int]:
            (line,) = [each for each in link_of(pair, index)["currencies"] if each["currency"] == CURRENCY]
            return int(line["due_to_minor"]), int(line["due_from_minor"])

        wait_until(lambda: owed(0) == owed(1)[::-1], timeout_s=_LIMIT_S, what="both books to agree on what is owed")
        drill.check("both books agree on what is owed over the link", owed(0), owed(1)[::-1])


def _paid(payer: MatrixClient, payee: str) -> bool:
    """Whether a payment of one unit went through; one that is refused meanwhile has moved nothing."""
    try:
        paid = payer.pay(payee, 1, CURRENCY)
    except (MatrixError, UnreachableError):
        return False
    return bool(payer.wait_for_payment(paid["payment_id"], timeout_s=_LIMIT_S)["state"] == "completed")


def _must(done: "subprocess.CompletedProcess[str]") -> None:
    if done.returncode != 0:
        raise RuntimeError(done.stderr)


def report(drill: Drill) -> str:
    steps = [f"| {what} | {said} | {took_s:.1f} s |" for what, said, took_s in drill.steps]
    checks = [f"| {what} | {found} | {'yes' if held else '**no**'} |" for what, found, held in drill.checks]
    return "\n".join(
        [
            "# A drill that was run",
            "",
            f"    {drill.command()}",
            "",
            "A homeserver with money loses its database and is brought back from a backup, as",
            "[Backup and restore](admin.md#backup-and-restore) tells it, while its peer lives on. On",
            f"{os.cpu_count()} cores, {drill.engine.value}; amounts are cents.",
            "",
            "| step | what was done | took |",
            "|---|---|---|",
            *steps,
            "",
            f"From the loss to the first payment: {drill.down_s:.0f} s.",
            "",
            "| what must hold | found | held |",
            "|---|---|---|",
            *checks,
            "",
            "What breaks while people use it is in [the soak](soak.md); losses of every kind, in every order, are",
            "searched by the simulator and the models ([testing.md](testing.md)).",
            "",
        ]
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make drill ARGS=…", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument(
        "--payments", type=int, default=200, help="about so many between the two, half after the backup"
    )
    parser.add_argument("--database", type=Engine, choices=list(Engine), default=Engine.POSTGRESQL)
    parser.add_argument("--publish", type=Path, metavar="DIR", help="write drill.md there: docs")
    given = parser.parse_args(arguments)
    drill = Drill(payments=given.payments, engine=given.database)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="superapp-drill-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)
        run(folder, drill)
    text = report(drill)
    print(text)
    if given.publish is not None:
        (given.publish / "drill.md").write_text(text, encoding="utf-8")
    return 0 if drill.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
