"""Another implementation of clearing, written in JavaScript from docs/clearing.md alone, and a real homeserver of ours.

They open a link, pay each other, take payments back, and go on after a restart. The planted bad examples of the page
are refused by both: by the other implementation from the file, by ours when they are sent to it.
"""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from node_peer import HERE, CommandError, NodePeer, node

from synapse_super_app.commands import loopback
from synapse_super_app.commands.certificates import ThrowAwayCa
from synapse_super_app.commands.homeserver_process import Homeserver, write_config
from synapse_super_app.commands.matrix_client import Json, MatrixClient, wait_until

_CURRENCY: Final = "EUR"
_LIMIT_MINOR: Final = 1_000_00
_PATIENCE_S: Final = 60.0
_VECTORS: Final = Path(__file__).parents[2] / "docs" / "clearing-vectors.json"
_MODULE: Final[dict[str, Any]] = {
    "features": {"directory": False, "calls": False, "payments": True, "web": False},
    "on_private_api_change": "refuse_start",
    "payments": {
        "mode": "custodial",
        "assets": [{"code": _CURRENCY}],
        "acknowledge": {"operator": "nobody, this is a test", "licence": "none, this money is not real"},
    },
}


@dataclass(slots=True, kw_only=True)
class World:
    """Ours and theirs, with an open link: alice lives on ours, nora on theirs."""

    ours: Homeserver
    name: str
    admin: MatrixClient
    alice: MatrixClient
    node: NodePeer

    @property
    def nora(self) -> str:
        return self.node.user_id("nora")

    def link(self) -> Json:
        (link,) = self.admin.superapp("GET", "admin/links")["links"]
        found: Json = link
        return found

    def shown(self) -> Json:
        found: Json = self.node("show", peer=self.name)
        return found

    def position(self) -> tuple[int, int]:
        """What we owe them and they owe us, by our books."""
        (line,) = self.link()["currencies"]
        return line["due_to_minor"], line["due_from_minor"]

    def be_at_rest(self) -> None:
        """Until both books tell one story and nothing is left to send."""

        def agree() -> bool:
            shown = self.shown()
            theirs = shown["dueFrom"].get(_CURRENCY, 0), shown["dueTo"].get(_CURRENCY, 0)
            return self.position() == theirs and not shown["unsent"]

        wait_until(agree, timeout_s=_PATIENCE_S, what="both books to agree")
        assert self.admin.invariants()["ok"]
        assert (self.shown()["evidence"], self.link()["evidence"]) == ([], {})
        assert self.shown()["stopped"] is None

    def pay_theirs(self, amount: int) -> str:
        return str(self.alice.pay(self.nora, amount, _CURRENCY)["payment_id"])

    def pay_ours(self, amount: int) -> str:
        payment = {"payer": self.nora, "payee": self.alice.user_id, "amount": amount, "currency": _CURRENCY, "scale": 2}
        return str(self.node("pay", peer=self.name, memo="from the other side", **payment))

    def wait_for_theirs(self, side: str, wire_id: str, state: str) -> None:
        def reached() -> bool:
            return bool(self.shown()[side][wire_id]["state"] == state)

        wait_until(reached, timeout_s=_PATIENCE_S, what=f"payment {wire_id} to be {state} there")

    def asked_of_theirs(self) -> str:
        def asked() -> str | None:
            waiting = [wire_id for wire_id, each in self.shown()["in"].items() if each["state"] == "asked"]
            return waiting[0] if waiting else None

        return wait_until(asked, timeout_s=_PATIENCE_S, what="nora to be asked")

    def restart(self) -> None:
        self.ours.kill()
        self.admin.close()
        self.alice.close()
        self.ours.start()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    node()
    folder = tmp_path_factory.mktemp("interop")
    ports = loopback.free_ports(3)
    ca = ThrowAwayCa(folder)
    config = loopback.synapse_config(
        folder=folder,
        client_port=ports,
        database=loopback.sqlite(folder),
        module_config=_MODULE,
        federation=loopback.Federation(port=ports + 1, certificate=ca.issue("ours", loopback.ADDRESS)),
    )
    write_config(folder / "homeserver.yaml", config)
    ours = Homeserver(
        config_path=folder / "homeserver.yaml",
        client_url=loopback.client_url(ports),
        console_path=folder / "homeserver.log",
    )
    ours.spawn()
    try:
        with NodePeer(folder, ports + 2, ca) as peer:
            ours.wait_until_healthy()
            made = World(
                ours=ours,
                name=loopback.server_name(ports + 1),
                admin=_account(ours, "operator", admin=True),
                alice=_account(ours, "alice"),
                node=peer,
            )
            made.admin.issue(made.alice.user_id, 100_00, _CURRENCY, "alice's")
            peer("person", name="nora", balance=100_00)
            _open_the_link(made)
            yield made
            made.alice.close()
            made.admin.close()
    finally:
        ours.kill()


def _account(ours: Homeserver, name: str, *, admin: bool = False) -> MatrixClient:
    with MatrixClient(ours.client_url) as client:
        secret = loopback.REGISTRATION_SECRET
        return client.signed_in(client.register_with_secret(secret, name, f"{name}-password", admin=admin))


def _open_the_link(world: World) -> None:
    """Our operator first, who then waits for theirs."""
    terms = [{"currency": _CURRENCY, "credit_limit_minor": _LIMIT_MINOR}]
    world.admin.superapp("POST", "admin/links", {"peer": world.node.name, "currencies": terms})
    assert world.link()["state"] != "open"
    world.node("link", peer=world.name, currencies=[{"currency": _CURRENCY, "scale": 2, "limit": _LIMIT_MINOR}])
    wait_until(lambda: world.link()["state"] == "open", timeout_s=_PATIENCE_S, what="the link to open here")
    wait_until(lambda: world.shown()["isOpen"], timeout_s=_PATIENCE_S, what="the link to open there")


def _balances(world: World) -> tuple[int, int]:
    return world.alice.available(_CURRENCY), int(world.node("person", name="nora")["available"])


def test_it_agrees_with_every_example_and_refuses_every_planted_bad_one() -> None:
    checked = subprocess.run(
        [node(), str(HERE / "check_vectors.mjs"), str(_VECTORS)], check=True, capture_output=True, text=True
    )
    found = json.loads(checked.stdout)
    assert found["failed"] == []
    assert found["passed"] > 50
    planted = json.loads(_VECTORS.read_text(encoding="utf-8"))["refused"]
    assert found["refused"] == {each["because"]: each["errcode"] for each in planted}


def test_they_pay_each_other(world: World) -> None:
    ours, theirs = _balances(world)
    payment_id = world.pay_theirs(250)
    assert world.alice.wait_for_payment(payment_id, timeout_s=_PATIENCE_S)["state"] == "completed"
    wire_id = world.pay_ours(120)
    world.wait_for_theirs("out", wire_id, "completed")
    world.be_at_rest()
    assert _balances(world) == (ours - 250 + 120, theirs + 250 - 120)
    received = world.alice.superapp("GET", "payments")["payments"]
    assert any(each["payer"] == world.nora and each["memo"] == "from the other side" for each in received)


@pytest.mark.parametrize("deed", ["accept", "decline", "cancel"])
@pytest.mark.parametrize("payer", ["alice", "nora"])
def test_a_payee_who_is_asked_takes_it_or_the_money_goes_back(world: World, payer: str, deed: str) -> None:
    ours, theirs = _balances(world)
    if payer == "alice":
        world.node("person", name="nora", asks=True)
        payment_id = world.pay_theirs(30)
        wire_id = world.asked_of_theirs()
        if deed == "cancel":
            world.alice.superapp("POST", f"payments/{payment_id}/cancel", {})
        else:
            world.node("decide", peer=world.name, wireId=wire_id, deed=deed)
        ended = world.alice.wait_for_payment(payment_id, timeout_s=_PATIENCE_S)["state"]
        world.node("person", name="nora")
    else:
        world.alice.set_account_data("org.superapp.payment.policy", {"v": 1, "accept": "ask"})
        wire_id = world.pay_ours(30)
        world.wait_for_theirs("out", wire_id, "asked")
        (waiting,) = [
            each
            for each in world.alice.superapp("GET", "payments")["payments"]
            if each["state"] == "awaiting_acceptance"
        ]
        payment_id = waiting["payment_id"]
        if deed == "cancel":
            world.node("cancel", peer=world.name, wireId=wire_id)
        else:
            world.alice.superapp("POST", f"payments/{payment_id}/{deed}", {}, {"payer": world.nora})
        ended = world.alice.wait_for_payment(payment_id, payer=world.nora, timeout_s=_PATIENCE_S)["state"]
        world.alice.set_account_data("org.superapp.payment.policy", {"v": 1})
    assert ended == {"accept": "completed", "decline": "declined", "cancel": "cancelled"}[deed]
    world.be_at_rest()
    moved = 30 if deed == "accept" else 0
    moved = moved if payer == "alice" else -moved
    assert _balances(world) == (ours - moved, theirs + moved)


def test_a_commit_that_cannot_be_credited_is_void_and_the_money_goes_back(world: World) -> None:
    before = _balances(world)
    world.node("person", name="nora", isFrozen=True)
    payment_id = world.pay_theirs(40)
    assert world.alice.wait_for_payment(payment_id, timeout_s=_PATIENCE_S)["state"] == "failed"
    world.node("person", name="nora")
    world.be_at_rest()
    assert _balances(world) == before


def test_they_go_on_after_ours_was_killed_and_what_was_sent_meanwhile_arrives(world: World) -> None:
    ours, theirs = _balances(world)
    world.ours.kill()
    world.admin.close()
    world.alice.close()
    wire_id = world.pay_ours(10)
    world.ours.start()
    world.wait_for_theirs("out", wire_id, "completed")
    payment_id = world.pay_theirs(15)
    assert world.alice.wait_for_payment(payment_id, timeout_s=_PATIENCE_S)["state"] == "completed"
    world.be_at_rest()
    assert _balances(world) == (ours + 10 - 15, theirs - 10 + 15)


def test_a_link_that_theirs_suspends_takes_nothing_until_it_resumes(world: World) -> None:
    before = _balances(world)
    world.node("say", peer=world.name, type="SUSPEND", fields={"reason": "maintenance"})
    wait_until(lambda: not world.shown()["unsent"], timeout_s=_PATIENCE_S, what="SUSPEND to arrive")
    with pytest.raises(Exception, match="LINK_SUSPENDED"):
        world.pay_theirs(5)
    world.node("say", peer=world.name, type="RESUME", fields={})
    wait_until(lambda: not world.shown()["unsent"], timeout_s=_PATIENCE_S, what="RESUME to arrive")
    payment_id = world.pay_theirs(5)
    assert world.alice.wait_for_payment(payment_id, timeout_s=_PATIENCE_S)["state"] == "completed"
    world.be_at_rest()
    assert _balances(world) == (before[0] - 5, before[1] + 5)


def test_a_link_that_ours_suspends_gives_nothing_until_it_resumes(world: World) -> None:
    before = _balances(world)
    world.admin.superapp("POST", f"admin/links/{world.node.name}/suspend", {})
    wait_until(lambda: world.shown()["standing"] == "suspended", timeout_s=_PATIENCE_S, what="SUSPEND to arrive")
    with pytest.raises(CommandError, match="takes no payments"):
        world.pay_ours(5)
    world.admin.superapp("POST", f"admin/links/{world.node.name}/resume", {})
    wait_until(lambda: world.shown()["standing"] == "ready", timeout_s=_PATIENCE_S, what="RESUME to arrive")
    world.wait_for_theirs("out", world.pay_ours(5), "completed")
    world.be_at_rest()
    assert _balances(world) == (before[0] + 5, before[1] - 5)


def test_both_replace_their_payment_keys_and_go_on(world: World) -> None:
    before = _balances(world)
    keys = world.shown()["theirTypes"].count("KEY")
    world.admin.superapp("POST", "admin/payment-key", {})
    wait_until(lambda: world.shown()["theirTypes"].count("KEY") > keys, timeout_s=_PATIENCE_S, what="KEY to arrive")
    payment_id = world.pay_theirs(7)
    assert world.alice.wait_for_payment(payment_id, timeout_s=_PATIENCE_S)["state"] == "completed"
    world.node("renewKey", peer=world.name)
    world.wait_for_theirs("out", world.pay_ours(2), "completed")
    world.be_at_rest()
    assert _balances(world) == (before[0] - 7 + 2, before[1] + 7 - 2)


class Settling:
    """One settlement, as both sides see it. Both find it by the reference, which they compute each for itself."""

    def __init__(self, world: World, debtor: str) -> None:
        self._world = world
        self._debtor = debtor
        self.reference = ""

    def ours(self) -> Json:
        found = self._world.admin.superapp("GET", "admin/settlements")["settlements"]
        return next((each for each in found if each["reference"] == self.reference), {})

    def theirs(self) -> Json:
        found = self._world.shown()["settlements"]
        return next((each for each in found if each["reference"] == self.reference), {})

    def wait_for(self, state: str) -> None:
        def stands_so() -> bool:
            return self.ours().get("state") == self.theirs().get("state") == state

        wait_until(stands_so, timeout_s=_PATIENCE_S, what=f"the settlement to be {state} on both sides")

    def we_say(self, what: str, **body: Any) -> None:
        path = f"admin/links/{self._world.node.name}/settlements/{self.ours()['settlement_id']}/{what}"
        self._world.admin.superapp("POST", path, body)

    def they_say(self, kind: str, **fields: Any) -> None:
        said = {"debtor": self._debtor, "settlementId": self.theirs()["settlement_id"], "type": kind, "fields": fields}
        self._world.node("settle", peer=self._world.name, **said)


@pytest.mark.parametrize("arrived", [True, False], ids=["received", "not received"])
def test_what_we_owe_them_is_settled(world: World, arrived: bool) -> None:
    payment_id = world.pay_theirs(60)
    assert world.alice.wait_for_payment(payment_id, timeout_s=_PATIENCE_S)["state"] == "completed"
    world.be_at_rest()
    owed = world.position()[0]
    settling = Settling(world, world.name)
    body = {"currency": _CURRENCY, "amount_minor": 60}
    proposed = world.admin.superapp("POST", f"admin/links/{world.node.name}/settlements", body)
    settling.reference = proposed["reference"]
    settling.wait_for("proposed")
    settling.they_say("SETTLE_AGREE", pay_to="payto://iban/DE75512108001245126199")
    settling.wait_for("agreed")
    settling.we_say("sent", bank_reference="E2E 1")
    settling.wait_for("sent")
    if arrived:
        settling.they_say("SETTLE_RECEIVED", received=60)
    else:
        settling.they_say("SETTLE_NOT_RECEIVED", reason="nothing_came")
    settling.wait_for("received" if arrived else "not_received")
    world.be_at_rest()
    assert world.position()[0] == (owed - 60 if arrived else owed)


def test_what_they_owe_us_is_settled_in_part(world: World) -> None:
    world.wait_for_theirs("out", world.pay_ours(50), "completed")
    world.be_at_rest()
    owed = world.position()[1]
    settling = Settling(world, world.node.name)
    world.node("propose", peer=world.name, amount=50, currency=_CURRENCY, scale=2)
    settling.reference = world.shown()["settlements"][-1]["reference"]
    settling.wait_for("proposed")
    settling.we_say("agree", pay_to="payto://iban/DE75512108001245126199")
    settling.wait_for("agreed")
    settling.they_say("SETTLE_SENT", reference="E2E 2")
    settling.wait_for("sent")
    settling.we_say("received", amount_minor=40)
    settling.wait_for("received")
    world.be_at_rest()
    assert world.position()[1] == owed - 40


_NOT_OURS: Final = "@nobody:elsewhere.example"


def _planted(world: World) -> dict[str, Json]:
    """For each bad example of the page, how the other implementation makes the same mistake on a live link."""
    somebody = {"user_id": _NOT_OURS, "acct": ""}
    return {
        "the amount is a string": {"afterwards": {"amount": "100"}},
        "the amount is a bool": {"afterwards": {"amount": True}},
        "the amount is zero": {"afterwards": {"amount": 0}},
        "the amount is 2^53": {"afterwards": {"amount": 2**53}},
        "the version is a bool": {"fields": {"v": True}},
        "a field is unknown": {"fields": {"room_id": "!room:elsewhere.example"}},
        "an optional field is null": {"fields": {"e2e_id": None}},
        "the object was changed after signing": {"afterwards": {"amount": 99}},
        "another key signed it": {"signer": "another"},
        "the sender is not the origin": {"fields": {"from_server": world.name, "to_server": world.node.name}},
        "the link is of other servers": {"fields": {"link_id": "A" * 43}},
        "the opening is missing": {"isBare": True},
        "the opening is another's": {"foreignOpening": {"payment_id": "f" * 32}},
        "the payer is of another server": {"opening": {"payer": {**somebody, "acct": "A" * 43}}},
        "the payee is of another server": {"opening": {"payee": somebody}},
        "the epoch is not open": {"fields": {"epoch": 2}},
        "it answers a payment that was never offered": {"type": "ACCEPT"},
        "the settlement was never proposed": {"type": "SETTLE_SENT"},
        "more is received than was sent": {"type": "SETTLE_RECEIVED", "fields": {"received": 101}},
        "the account is no payto: URI": {"type": "SETTLE_AGREE", "fields": {"pay_to": "mailto:x"}},
    }


def test_ours_refuses_every_planted_bad_one_and_goes_on(world: World) -> None:
    before = _balances(world)
    expected = {
        each["because"]: each["errcode"] for each in json.loads(_VECTORS.read_text(encoding="utf-8"))["refused"]
    }
    told = {"peer": world.name, "payer": world.nora, "payee": world.alice.user_id}
    answers = {because: world.node("plant", **told, **how) for because, how in _planted(world).items()}
    assert {because: answer["content"].get("errcode") for because, answer in answers.items()} == expected
    wire_id = world.pay_ours(1)
    world.wait_for_theirs("out", wire_id, "completed")
    world.be_at_rest()
    assert _balances(world) == (before[0] + 1, before[1] - 1)
