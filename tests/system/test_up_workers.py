"""``super-app up --workers``: one homeserver as many processes, met at one door, of which any may die."""

import json
import os
import re
import signal
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import Command, wait_until_gone
from steady_payers import AtOnce, SteadyPayer, every_payment_ends

from synapse_super_app.commands import worker_routes
from synapse_super_app.commands.certificates import ThrowAwayCa
from synapse_super_app.commands.demo_pair import CURRENCY
from synapse_super_app.commands.loopback import REGISTRATION_SECRET, free_ports
from synapse_super_app.commands.matrix_client import MatrixClient, wait_until
from synapse_super_app.commands.workers import LEDGER, ports_of

SHIPPED = Path(__file__).parents[2] / "homeserver.yaml"
_PROCESS = re.compile(r"^ {2}(?P<name>\w+) +process (?P<pid>\d+), port (?P<port>\d+)$", re.MULTILINE)
_MONEY = {"mode": "custodial", "assets": [{"code": CURRENCY}], "acknowledge": {"operator": "a test", "licence": "none"}}


@dataclass(frozen=True)
class Workers:
    command: Command
    url: str
    federation_url: str
    authority: Path

    def pids(self) -> dict[str, int]:
        return {found["name"]: int(found["pid"]) for found in _PROCESS.finditer(self.command.stdout)}

    def ports(self) -> dict[str, int]:
        return {found["name"]: int(found["port"]) for found in _PROCESS.finditer(self.command.stdout)}

    def account(self, name: str, *, admin: bool = False) -> MatrixClient:
        with MatrixClient(self.url) as client:
            session = client.register_with_secret(REGISTRATION_SECRET, name, name, admin=admin)
            return client.signed_in(session)


@pytest.fixture
def running(demo_folder: Path) -> Iterator[Workers]:
    content: dict[str, Any] = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    del content["registration_shared_secret_path"]
    content |= {"registration_shared_secret": REGISTRATION_SECRET, "bcrypt_rounds": 4}
    content["modules"][0]["config"]["payments"] = _MONEY
    content["modules"][0]["config"]["calls"] = {"default_who": ["everyone"]}
    content["rc_message"] = {"per_second": 1000, "burst_count": 1000}
    port = free_ports(2 + ports_of(2))
    federation_port = port + 1 + ports_of(2)
    certificate = ThrowAwayCa(demo_folder).issue("server", "127.0.0.1")
    content["listeners"] = [
        {**content["listeners"][0], "resources": [{"names": ["client"]}]},
        {
            "port": federation_port,
            "bind_addresses": ["127.0.0.1"],
            "type": "http",
            "tls": True,
            "resources": [{"names": ["federation"]}],
        },
    ]
    content |= {
        "tls_certificate_path": str(certificate.certificate_path),
        "tls_private_key_path": str(certificate.key_path),
    }
    (demo_folder / "homeserver.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with Command(["up", "--workers", "2", "--port", str(port)], folder=demo_folder) as up:

        def said_so() -> bool:
            assert up.process.poll() is None, up.stderr
            return "Ctrl-C stops it." in up.stdout

        wait_until(said_so, timeout_s=300, what="super-app up --workers to say that it runs")
        yield Workers(
            command=up,
            url=f"http://localhost:{port}",
            federation_url=f"https://127.0.0.1:{federation_port}",
            authority=certificate.ca_path,
        )


@pytest.mark.timeout(600)
def test_workers_share_one_homeserver_and_one_that_dies_is_replaced_with_nothing_lost(running: Workers) -> None:
    assert running.pids().keys() == {"main", "worker1", "worker2", "federation_sender1", "event_persister1", LEDGER}
    _every_route_that_workers_get_is_served_by_one(running)
    _federation_comes_in_over_tls(running)
    with ExitStack() as stack:
        operator, alice, bob = (
            stack.enter_context(running.account(name, admin=name == "operator"))
            for name in ("operator", "alice", "bob")
        )
        for person in (alice, bob):
            operator.issue(person.user_id, 100_00, CURRENCY, f"opening balance of {person.user_id}")

        # The directory, through whichever worker: claimed at one, found by the other person at any.
        alice.superapp("PUT", "handles/wonder", {"discover": "public"})
        for _ in range(3):
            assert [found["user_id"] for found in bob.search_people("wonder")] == [alice.user_id]
        # The assistant has heard of both, who registered at the main process, and has written to them.
        wait_until(lambda: bool(bob.joined_rooms()), timeout_s=120, what="the assistant to greet bob")
        # A call rings, and its record is there for both.
        room_id = bob.create_room(preset="trusted_private_chat", is_direct=True, invite=[alice.user_id])
        alice.join(room_id)
        version = {"call_id": "call-1", "version": "1", "party_id": "B"}
        offer = {**version, "lifetime": 60_000, "offer": {"type": "offer", "sdp": "v=0"}}
        bob.send(room_id, "m.call.invite", offer)
        for person in (alice, bob):
            wait_until(lambda: person.superapp("GET", "calls")["calls"], timeout_s=120, what="the call's record")  # noqa: B023

        # The ledger's writer dies while people pay at both workers. It is the worker that is there for that.
        log = running.authority.parent / "data" / "workers" / f"{LEDGER}.log"
        wait_until(lambda: "writes the ledger from now on" in log.read_text(), timeout_s=120, what=f"{LEDGER} to write")
        killed = running.pids()[LEDGER]
        payers = [
            SteadyPayer(client=stack.enter_context(_again(person, running)), payee=payee.user_id, amounts=[7] * 8)
            for person, payee in ((alice, bob), (bob, alice))
        ]
        with AtOnce(payers):
            for payer in payers:
                wait_until(lambda: len(payer.sent) > 2, timeout_s=120, what="some payments")  # noqa: B023 - asked at once
            os.kill(killed, signal.SIGKILL)
        every_payment_ends(payers)
        assert alice.available(CURRENCY) == bob.available(CURRENCY) == 100_00
        assert operator.invariants()["ok"]
        # A worker that is away is passed by.
        os.kill(running.pids()["worker1"], signal.SIGKILL)
        assert all("v1.11" in operator.versions()["versions"] for _ in range(6))
        wait_until(lambda: f"replaced  {LEDGER}: " in running.command.stderr, timeout_s=60, what="its replacement")

    children = running.command.children()
    assert killed not in children
    running.command.signal(signal.SIGTERM)
    assert running.command.wait() == 0
    assert wait_until_gone(children) == frozenset()


def _again(person: MatrixClient, running: Workers) -> MatrixClient:
    """The same person on a connection of their own."""
    return MatrixClient(running.url, user_id=person.user_id, access_token=person.access_token, timeout_s=60)


def paths_of(pattern: str) -> list[str]:
    """One path for each alternative of a pattern of ``worker_routes``; of versions the stable one."""
    pattern = pattern.replace("(/.*)?", "").replace("[^/]+", "x").replace("\\.", ".")
    paths = [""]
    for piece in re.split(r"(\([^()]*\)\??)", pattern):
        choices = piece.removesuffix("?").strip("()").split("|") if piece.startswith("(") else [piece]
        if {"v3", "v1"} & set(choices):
            choices = ["v3" if "v3" in choices else "v1"]
        paths = [path + choice for path in paths for choice in choices]
    return paths


def _every_route_that_workers_get_is_served_by_one(running: Workers) -> None:
    """Asked without a token it refuses, or asks for something else; what it does not know is M_UNRECOGNIZED 404."""
    with MatrixClient(f"http://127.0.0.1:{running.ports()['worker1']}") as worker:

        def knows(path: str) -> bool:
            answers = [worker.request_raw(method, path, {}) for method in ("GET", "PUT", "POST")]
            return any(status not in (404, 405) or b"M_UNRECOGNIZED" not in body for status, body in answers)

        for pattern in (*worker_routes.CLIENTS, *worker_routes.FEDERATION):
            for path in paths_of(pattern):
                # How many parts follow is each route's own affair.
                forms = [path.replace(".+", parts) for parts in ("x", "x/y", "x/y/z")] if ".+" in path else [path]
                assert all(worker_routes.is_for_workers(form) for form in forms), pattern
                assert any(knows(form) for form in forms), f"a worker does not know {forms}"
        for path in (
            "/_synapse/client/superapp/v1/wallet",
            "/superapp/",
            "/_matrix/federation/unstable/org.superapp/clearing/x",
        ):
            assert worker_routes.is_for_workers(path)
            assert knows(path), path
        assert not knows("/_matrix/client/v3/nothing/of/that/name")


def _federation_comes_in_over_tls(running: Workers) -> None:
    """Of workers what they may answer, of the main process its key; and nobody who does not believe the authority."""
    believing = ssl.create_default_context(cafile=str(running.authority))
    for path, says in (("/_matrix/federation/v1/version", "server"), ("/_matrix/key/v2/server", "verify_keys")):
        with urllib.request.urlopen(running.federation_url + path, context=believing, timeout=60) as answer:
            assert says in json.load(answer)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(running.federation_url + "/_matrix/key/v2/server", timeout=60)


def test_a_folder_with_people_in_sqlite_is_not_started_empty_with_workers(tmp_path: Path) -> None:
    content: dict[str, Any] = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    (tmp_path / "homeserver.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "homeserver.db").write_bytes(b"somebody lives here")
    with Command(["up", "--workers", "1", "--port", str(free_ports(9))], folder=tmp_path) as up:
        assert up.wait() == 1
        assert "SQLite serves one process only" in up.stderr


def test_and_one_with_people_in_the_postgresql_of_workers_is_not_started_empty_without(tmp_path: Path) -> None:
    (tmp_path / "homeserver.yaml").write_text(SHIPPED.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "data" / "postgresql").mkdir(parents=True)
    with Command(["up", "--port", str(free_ports(1))], folder=tmp_path) as up:
        assert up.wait() == 1
        assert "was used with --workers" in up.stderr
