"""The drill of docs/admin.md on two real homeservers: back up while people pay, lose the database, restore, go on."""

import contextlib
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread
from typing import Any, cast

import psycopg2
import pytest

from super_app.db import Engine
from synapse_super_app.commands.demo_pair import CURRENCY, PORTS, DemoPair
from synapse_super_app.commands.loopback import free_ports
from synapse_super_app.commands.matrix_client import Json, wait_until

START_MINOR = 10_000


def super_app(*arguments: str) -> subprocess.CompletedProcess[str]:
    main = "import sys; from synapse_super_app.commands.main import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", main, *arguments], capture_output=True, text=True, check=False)


def link_of(pair: DemoPair, index: int) -> Json:
    (link,) = cast(list[Json], pair.admins[index].superapp("GET", "admin/links")["links"])
    return link


def pay(pair: DemoPair, payer: str, payee: str, amount: int) -> None:
    with pair.client(payer) as client:
        paid = client.pay(pair.people[payee].user_id, amount, CURRENCY)
        assert client.wait_for_payment(paid["payment_id"])["state"] == "completed"


def available(pair: DemoPair, name: str) -> int:
    with pair.client(name) as client:
        return client.available(CURRENCY)


def lose_database(pair: DemoPair, engine: Engine) -> None:
    """The disk of the first homeserver is gone, and an empty one is there."""
    if engine is Engine.SQLITE:
        for path in pair.sides[0].folder.glob("homeserver.db*"):
            path.unlink()
        return
    postgres = pair.postgres
    assert postgres is not None
    with contextlib.closing(psycopg2.connect(postgres.dsn("postgres"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("DROP DATABASE homeserver1 WITH (FORCE)")
    postgres.create_database("homeserver1")


@pytest.mark.parametrize("engine", list(Engine), ids=lambda engine: engine.value)
def test_a_restored_homeserver_gets_back_what_its_peer_knows_and_pays_on(demo_folder: Path, engine: Engine) -> None:
    with DemoPair(data=demo_folder, port_base=free_ports(PORTS), engine=engine) as pair:
        config = str(pair.sides[0].folder / "homeserver.yaml")
        kept = demo_folder / "backup"
        pay(pair, "alice", "bob", 300)

        # While people pay.
        done = Event()
        trouble: list[BaseException] = []

        def keep_paying() -> None:
            try:
                while not done.is_set():
                    pay(pair, "alice", "bob", 1)
            except BaseException as error:
                trouble.append(error)

        payer = Thread(target=keep_paying)
        payer.start()
        try:
            made = super_app("backup", str(kept), "--config", config)
        finally:
            done.set()
            payer.join(timeout=60)
        assert made.returncode == 0, made.stderr
        assert not trouble
        assert "exists" in super_app("backup", str(kept), "--config", config).stderr

        # What the backup does not know.
        pay(pair, "alice", "bob", 500)
        pay(pair, "bob", "alice", 70)
        before = [available(pair, name) for name in ("alice", "bob")]
        assert sum(before) == 2 * START_MINOR

        pair.sides[0].process.kill()
        pair.admins[0].close()
        assert "overwrites nothing" in super_app("restore", str(kept), "--config", config).stderr
        lose_database(pair, engine)
        restored = super_app("restore", str(kept), "--config", config)
        assert restored.returncode == 0, restored.stderr
        pair.sides[0].process.start()

        wait_until(lambda: link_of(pair, 0)["state"] == "open", timeout_s=60, what="the link to come back")
        assert [available(pair, name) for name in ("alice", "bob")] == before
        pay(pair, "alice", "bob", 25)
        pay(pair, "bob", "alice", 5)
        assert [available(pair, name) for name in ("alice", "bob")] == [before[0] - 20, before[1] + 20]
        assert all(admin.invariants()["ok"] for admin in pair.admins)

        def figures(index: int) -> tuple[Any, Any]:
            (line,) = [each for each in link_of(pair, index)["currencies"] if each["currency"] == CURRENCY]
            return line["due_to_minor"], line["due_from_minor"]

        wait_until(lambda: figures(0) == figures(1)[::-1], timeout_s=10, what="both books to agree")
        log = (pair.sides[0].folder / "homeserver.log").read_text(encoding="utf-8")
        assert "is being fetched from the peer" in log
