"""Clearing on real homeservers: who may PUT objects, what a hostile peer can say, and whether both books agree."""

import json
import secrets
import sqlite3
import ssl
import stat
from collections.abc import Callable, Generator
from contextlib import closing
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any, cast

import pytest
from nacl.signing import SigningKey
from running_demo import RunningDemo
from signedjson.key import decode_signing_key_base64
from signedjson.sign import sign_json

from super_app.clearing import objects
from super_app.clearing.model import LinkId, MessageType
from super_app.db import Engine
from super_app.ids import PaymentId, ServerName
from super_app.names import CLEARING_PATH, ERRCODE_PREFIX
from super_app.signing import digest
from synapse_super_app import key_files
from synapse_super_app.clearing.identity import key_path
from synapse_super_app.commands.demo_pair import CURRENCY, PORTS, DemoPair
from synapse_super_app.commands.loopback import free_ports
from synapse_super_app.commands.matrix_client import Json, MatrixError, wait_until


class Impostor:
    """Who holds all keys of one homeserver of the demo and says to the other what it likes."""

    def __init__(self, demo: RunningDemo, index: int) -> None:
        self.folder = demo.folder / "demo" / f"homeserver{index + 1}"
        self.name, self.peer = ServerName(demo.names[index]), ServerName(demo.names[1 - index])
        self.link_id: LinkId = objects.link_id_of(self.name, self.peer)
        self.payment_key: SigningKey = key_files.read(key_path(self.folder, self.name, None))
        words = (self.folder / "signing.key").read_text(encoding="ascii").split()
        self._matrix_key = decode_signing_key_base64(*words)
        context = ssl.create_default_context(cafile=str(demo.folder / "demo" / "ca.crt"))
        self._peer = HTTPSConnection(self.peer, context=context, timeout=30)

    def put(self, content: Json, *, signed: bool = True, named: str | None = None, **more: Any) -> list[Json]:
        """PUT an object as the homeserver would, and give the objects of the answer."""
        path = f"{CLEARING_PATH}/{named or objects.message_id_of(content)}"
        body = {"object": content, **more}
        headers = {"Content-Type": "application/json"}
        if signed:
            request = {"method": "PUT", "uri": path, "origin": self.name, "destination": self.peer, "content": body}
            ((key_id, signature),) = sign_json(request, self.name, self._matrix_key)["signatures"][self.name].items()
            headers["Authorization"] = (
                f'X-Matrix origin="{self.name}",destination="{self.peer}",key="{key_id}",sig="{signature}"'
            )
        self._peer.request("PUT", path, json.dumps(body), headers)
        response = self._peer.getresponse()
        answer: Json = json.loads(response.read())
        if response.status != 200:
            raise MatrixError(response.status, answer)
        found: list[Json] = answer["objects"]
        return found

    def query(self, kind: MessageType, **fields: Any) -> list[Json]:
        return self.put({**objects.query_fields(kind, self.link_id, self.name, self.peer), **fields})

    def next_object(self, kind: MessageType, **fields: Any) -> Json:
        """An object in the next free place of the homeserver's chain, as the peer knows it; rightly signed."""
        newest = next(each for each in self.query(MessageType.HEAD) if each["from_server"] == self.name)
        frame = {
            "v": 1,
            "type": kind.value,
            "link_id": self.link_id,
            "epoch": 1,
            "seq": newest["seq"] + 1,
            "prev_hash": objects.message_id_of(newest),
            "from_server": self.name,
            "to_server": self.peer,
            "seen": {"seq": 0, "hash": "", "signature": ""},
        }
        return objects.seal({**frame, **fields}, self.payment_key)

    def offer(self, payer: str, payee: str, amount: Any = 100) -> tuple[Json, Json]:
        """An OFFER and its opening."""
        salts = {name: secrets.token_hex(16) for name in ("payer", "payee", "memo", "wire")}
        payment_id = PaymentId(secrets.token_hex(16))
        opening: Json = {
            "payer": {"user_id": payer, "acct": digest(payer)},
            "payee": {"user_id": payee, "acct": ""},
            "payment_id": payment_id,
            "salts": salts,
        }
        terms = {
            "wire_id": objects.wire_id_of(digest(payer), payment_id, salts["wire"]),
            "payer_commit": digest([payer, digest(payer), None, salts["payer"]]),
            "payee_commit": digest([payee, "", None, salts["payee"]]),
            "memo_commit": digest([None, None, salts["memo"]]),
            "amount": amount,
            "currency": CURRENCY,
            "scale": 2,
        }
        return self.next_object(MessageType.OFFER, **terms, ttl_ms=60_000), opening

    def close(self) -> None:
        self._peer.close()


@pytest.fixture
def impostor(demo: RunningDemo) -> Generator[Impostor]:
    """The first homeserver's keys in other hands."""
    made = Impostor(demo, 0)
    yield made
    made.close()


def code_of(attempt: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(MatrixError) as refusal:
        attempt()
    return refusal.value.status, refusal.value.errcode.removeprefix(ERRCODE_PREFIX)


def test_both_books_mirror_each_other(demo: RunningDemo) -> None:
    with demo.client("alice") as alice, demo.client("bob") as bob:
        for payer, payee, amount in ((alice, "bob", 120), (bob, "alice", 50)):
            paid = payer.pay(demo.people[payee].handle, amount, CURRENCY)
            assert payer.wait_for_payment(paid["payment_id"])["state"] == "completed"

    def figures(index: int) -> tuple[int, int]:
        links: list[Json] = demo.admins[index].superapp("GET", "admin/links")["links"]
        (link,) = [each for each in links if each["peer"] == demo.names[1 - index]]
        (line,) = [each for each in link["currencies"] if each["currency"] == CURRENCY]
        return line["due_to_minor"], line["due_from_minor"]

    wait_until(lambda: figures(0) == figures(1)[::-1], timeout_s=10, what="both books to agree")
    assert all(admin.invariants()["ok"] for admin in demo.admins)


def test_requests_without_a_homeservers_signature_are_refused(impostor: Impostor) -> None:
    head = objects.query_fields(MessageType.HEAD, impostor.link_id, impostor.name, impostor.peer)
    assert code_of(lambda: impostor.put(head, signed=False)) == (401, "M_UNAUTHORIZED")
    assert {each["from_server"] for each in impostor.put(head)} == {impostor.name, impostor.peer}


def test_what_a_hostile_peer_says_moves_no_money(demo: RunningDemo, impostor: Impostor) -> None:
    alice, bob = demo.people["alice"].user_id, demo.people["bob"].user_id
    carol = demo.people["carol"].user_id
    before = [client_available(demo, name) for name in ("alice", "bob", "carol")]

    def put_offer(payer: str, payee: str, **changes: Any) -> object:
        offer, opening = impostor.offer(payer, payee)
        # A fraction has no digest.
        named = objects.message_id_of(offer) if changes.get("amount") == 1.5 else None
        return impostor.put({**offer, **changes}, named=named, opening=opening)

    assert code_of(lambda: put_offer(carol, bob)) == (403, "WRONG_ORIGIN")
    assert code_of(lambda: put_offer(alice, alice)) == (404, "UNKNOWN_PAYEE")
    assert code_of(lambda: put_offer(alice, bob, amount=99)) == (403, "BAD_SIGNATURE")
    assert code_of(lambda: put_offer(alice, bob, amount=True)) == (422, "INVALID_AMOUNT")
    assert code_of(lambda: put_offer(alice, bob, amount=1.5)) == (422, "INVALID_AMOUNT")
    assert code_of(lambda: put_offer(alice, bob, link_id=digest("x"))) == (404, "UNKNOWN_LINK")
    assert code_of(lambda: put_offer(alice, bob, from_server=impostor.peer)) == (403, "WRONG_ORIGIN")
    offer, opening = impostor.offer(alice, bob)
    foreign = {**opening, "payment_id": "f" * 32}
    assert code_of(lambda: impostor.put(offer, opening=foreign)) == (403, "BAD_COMMITMENT")
    accept = {name: offer[name] for name in ("wire_id", "payer_commit", "payee_commit", "memo_commit")}
    accept |= {"amount": 100, "currency": CURRENCY, "scale": 2, "valid_ms": 600_000}
    unasked = impostor.next_object(MessageType.ACCEPT, **accept)
    assert code_of(lambda: impostor.put(unasked)) == (404, "UNKNOWN_PAYMENT")
    assert [client_available(demo, name) for name in ("alice", "bob", "carol")] == before
    # Nothing of it was kept, so the real homeserver goes on in the same place.
    with demo.client("alice") as client:
        paid = client.pay(demo.people["bob"].handle, 1, CURRENCY)
        assert client.wait_for_payment(paid["payment_id"])["state"] == "completed"


def client_available(demo: RunningDemo, name: str) -> int:
    with demo.client(name) as client:
        return client.available(CURRENCY)


def test_a_homeserver_on_an_old_copy_of_its_database_pays_nothing_and_says_why(demo_folder: Path) -> None:
    """Its peer holds a COMMIT that the copy has forgotten; whatever it signed now could contradict that."""
    with DemoPair(data=demo_folder, port_base=free_ports(PORTS), engine=Engine.SQLITE) as pair:
        database = pair.sides[0].folder / "homeserver.db"
        copy = demo_folder / "old.db"

        def state() -> Json:
            (link,) = cast(list[Json], pair.admins[0].superapp("GET", "admin/links")["links"])
            return link

        restarted(pair, lambda: copy_database(database, copy))
        wait_until(lambda: state()["state"] == "open", timeout_s=30, what="the peer to answer after the restart")
        with pair.client("alice") as alice:
            paid = alice.pay(pair.people["bob"].user_id, 100, CURRENCY)
            assert alice.wait_for_payment(paid["payment_id"])["state"] == "completed"
        restarted(pair, lambda: copy_database(copy, database))
        wait_until(lambda: state()["state"] == "halted", timeout_s=30, what="the link to halt")
        assert "restore the newest database" in state()["reason"]
        assert state()["evidence"] == {"peer_ahead": 1}
        with pair.client("alice") as alice:
            assert code_of(lambda: alice.pay(pair.people["bob"].user_id, 100, CURRENCY)) == (503, "LINK_HALTED")
        log = (pair.sides[0].folder / "homeserver.log").read_text(encoding="utf-8")
        assert "our database is an old copy" in log


def restarted(pair: DemoPair, between: Callable[[], None]) -> None:
    """Stop the first homeserver, do something to its files, and start it again."""
    pair.sides[0].process.kill()
    # Its connections are gone.
    pair.admins[0].close()
    between()
    pair.sides[0].process.start()


def copy_database(source: Path, target: Path) -> None:
    """As a backup would: with what is still in the write-ahead log."""
    for old in target.parent.glob(f"{target.name}-*"):
        old.unlink()
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)


def test_the_payment_key_is_readable_by_its_owner_only(demo: RunningDemo) -> None:
    for index, name in enumerate(demo.names):
        path: Path = key_path(demo.folder / "demo" / f"homeserver{index + 1}", name, None)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
