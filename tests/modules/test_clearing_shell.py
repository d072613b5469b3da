"""Clearing in the homeserver: federation in and out, the payment key, time, and what operators see and do."""

import logging
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeHomeserver
from prometheus_client import REGISTRY
from signedjson.key import generate_signing_key
from synapse.module_api.errors import SynapseError
from twisted.internet.defer import Deferred

from super_app.clearing import objects, rules
from super_app.clearing.model import MessageType
from super_app.clearing.store import content_of
from super_app.ids import ServerName
from super_app.names import CLEARING_PATH
from synapse_super_app import key_files
from synapse_super_app.clearing import shell
from synapse_super_app.clearing.identity import key_path

ALICE, BOB = "@alice:hs1.test", "@bob:hs2.test"
CONFIG: dict[str, Any] = {
    "features": {"directory": False, "calls": False, "web": False},
    "payments": {
        "mode": "custodial",
        "acknowledge": {"operator": "a test", "licence": "none"},
        "assets": [{"code": "EUR"}],
    },
}


class House(FakeHomeserver):
    """A homeserver with an admin and one person, who has 100.00 EUR."""

    def __init__(self, name: str, person: str, **payments: Any) -> None:
        super().__init__(name, config={**CONFIG, "payments": {**CONFIG["payments"], **payments}})
        self.admin = self.register("admin", admin=True)
        self.person = self.register(person)

    def open(self, peer: str, limit_minor: int = 100_000) -> dict[str, Any]:
        body = {"peer": peer, "currencies": [{"currency": "EUR", "credit_limit_minor": limit_minor}]}
        return self.call("POST", "admin/links", self.admin, body)

    def link(self, peer: str) -> dict[str, Any]:
        links: list[dict[str, Any]] = self.call("GET", "admin/links", self.admin)["links"]
        return next(each for each in links if each["peer"] == peer)

    def issue(self) -> None:
        body = {"user_id": self.person, "amount": 10_000, "currency": "EUR", "reference": "start"}
        self.call("POST", "admin/issue", self.admin, body)

    def wallet(self) -> tuple[int, int]:
        accounts = self.call("GET", "wallet", self.person)["accounts"]
        return (accounts[0]["available"], accounts[0]["held"]) if accounts else (0, 0)

    def pay(self, number: int, payee: str, minor: int = 500) -> dict[str, Any]:
        body = {"payment_id": f"{number:032x}", "payee": payee, "amount": minor, "currency": "EUR"}
        return self.call("POST", "payments", self.person, body)

    def payment(self, number: int) -> dict[str, Any]:
        return self.call("GET", f"payments/{number:032x}", self.person)

    def put(self, to: "House", content: dict[str, Any], path: str | None = None, **more: Any) -> dict[str, Any]:
        """PUT an object to another homeserver, as this one. Raises the SynapseError of the answer."""
        message_id = objects.message_id_of(content) if path is None else path
        handler = to.private.put_handlers[CLEARING_PATH]
        origin = ServerName(self.server_name)
        return to.result(handler(origin, message_id, {"object": content, **more}))


Pair = tuple[House, House]


@pytest.fixture
def apart() -> Pair:
    """Two homeservers that reach each other and have no link."""
    hs1, hs2 = House("hs1.test", "alice"), House("hs2.test", "bob")
    hs1.reachable, hs2.reachable = {"hs2.test": hs2}, {"hs1.test": hs1}
    for house in (hs1, hs2):
        house.start()
        house.issue()
    return hs1, hs2


@pytest.fixture
def pair(apart: Pair) -> Pair:
    """Two homeservers with an open link, and the room of alice and bob on both."""
    hs1, hs2 = apart
    hs1.open("hs2.test")
    hs2.open("hs1.test")
    for house in apart:
        house.advance(3)
    assert hs1.link("hs2.test")["state"] == "open"
    room = hs1.room(ALICE, BOB)
    hs2.rooms[room] = hs1.rooms[room]
    return apart


@contextmanager
def refused(errcode: str, status: int) -> Generator[None]:
    with pytest.raises(SynapseError) as refusal:
        yield
    assert (refusal.value.errcode, refusal.value.code) == (errcode, status), refusal.value.msg
    assert refusal.value.msg.endswith(".")


def chain(house: House, sender: str = "ours") -> list[str]:
    return [
        row[0]
        for row in house.query(f"SELECT type FROM superapp_clearing_object WHERE sender = '{sender}' ORDER BY seq")
    ]


def bodies(house: House) -> list[dict[str, Any]]:
    rows = house.query("SELECT body FROM superapp_clearing_object WHERE sender = 'ours' ORDER BY seq")
    return [content_of(row[0]) for row in rows]


def head() -> dict[str, Any]:
    """hs1 asks hs2 what it holds."""
    one, other = ServerName("hs1.test"), ServerName("hs2.test")
    return objects.query_fields(MessageType.HEAD, objects.link_id_of(one, other), one, other)


# Links.


def test_operators_see_what_waits_for_whom(apart: Pair) -> None:
    hs1, hs2 = apart
    opened = hs1.open("hs2.test", 700)
    assert (opened["state"], opened["waits_for"]) == ("waiting_for_peer", "peer")
    assert (hs2.link("hs1.test")["state"], hs2.link("hs1.test")["waits_for"]) == ("waiting_for_us", "us")
    assert hs2.link("hs1.test")["currencies"][0]["received_minor"] == 700
    hs2.open("hs1.test", 900)
    for house, peer, granted, received in ((hs1, "hs2.test", 700, 900), (hs2, "hs1.test", 900, 700)):
        link = house.link(peer)
        assert (link["state"], link.get("waits_for"), link["evidence"]) == ("open", None, {})
        (euros,) = link["currencies"]
        assert (euros["granted_minor"], euros["received_minor"], euros["usable"]) == (granted, received, True)


def test_opening_again_changes_nothing_and_another_limit_reaches_the_peer(pair: Pair) -> None:
    hs1, hs2 = pair
    hs1.open("hs2.test")
    assert chain(hs1) == ["LINK_OPEN"]
    hs1.open("hs2.test", 5)
    assert chain(hs1) == ["LINK_OPEN", "LIMIT"]
    assert hs2.link("hs1.test")["currencies"][0]["received_minor"] == 5


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({"peer": "hs2.test", "currencies": []}, "ORG.SUPERAPP.INVALID_VALUE"),
        (
            {"peer": "no server", "currencies": [{"currency": "EUR", "credit_limit_minor": 1}]},
            "ORG.SUPERAPP.INVALID_VALUE",
        ),
        (
            {"peer": "hs1.test", "currencies": [{"currency": "EUR", "credit_limit_minor": 1}]},
            "ORG.SUPERAPP.INVALID_VALUE",
        ),
        (
            {"peer": "hs2.test", "currencies": [{"currency": "USD", "credit_limit_minor": 1}]},
            "ORG.SUPERAPP.UNKNOWN_CURRENCY",
        ),
        (
            {"peer": "hs2.test", "currencies": [{"currency": "EUR", "credit_limit_minor": -1}]},
            "ORG.SUPERAPP.INVALID_VALUE",
        ),
        (
            {"peer": "hs2.test", "currencies": [{"currency": "EUR", "credit_limit_minor": 1.0}]},
            "ORG.SUPERAPP.INVALID_VALUE",
        ),
        (
            {"peer": "hs2.test", "currencies": [{"currency": "EUR", "credit_limit_minor": 1}], "x": 1},
            "ORG.SUPERAPP.UNKNOWN_FIELD",
        ),
    ],
)
def test_operators_cannot_open_nonsense(apart: Pair, body: dict[str, Any], errcode: str) -> None:
    with refused(errcode, 422):
        apart[0].call("POST", "admin/links", apart[0].admin, body)


def test_a_peer_that_is_down_opens_later(apart: Pair) -> None:
    hs1, hs2 = apart
    hs1.reachable = {}
    hs1.open("hs2.test")
    link = hs1.link("hs2.test")
    assert link["state"] == "waiting_for_peer"
    assert "hs2.test is down" in link["last_error"]
    hs1.reachable = {"hs2.test": hs2}
    hs1.advance(rules.RETRY_MS[0] / 1_000 + 1)
    assert hs2.link("hs1.test")["state"] == "waiting_for_us"


# Payments.


def test_a_payment_reaches_the_payee_of_another_homeserver(pair: Pair) -> None:
    hs1, hs2 = pair
    paid = hs1.pay(1, BOB)
    assert paid["state"] == "completed"
    assert (hs1.wallet(), hs2.wallet()) == ((9_500, 0), (10_500, 0))
    assert chain(hs1) == ["LINK_OPEN", "OFFER", "COMMIT"]
    assert chain(hs2) == ["LINK_OPEN", "ACCEPT", "RECEIPT"]
    (owed,), (owing,) = hs1.link("hs2.test")["currencies"], hs2.link("hs1.test")["currencies"]
    assert (owed["due_to_minor"], owing["due_from_minor"], owing["used_minor"]) == (500, 500, 500)
    for house in pair:
        house.advance(3)
        assert house.link("hs2.test" if house is hs1 else "hs1.test")["unsent"] == 0
        assert house.call("GET", "admin/invariants", house.admin)["ok"]


def test_a_payment_to_a_server_without_a_link_is_refused(apart: Pair) -> None:
    hs1, hs2 = apart
    room = hs1.room(ALICE, BOB)
    hs2.rooms[room] = hs1.rooms[room]
    with refused("ORG.SUPERAPP.NO_LINK", 403):
        hs1.pay(1, BOB)


def test_a_payment_to_a_server_that_is_down_expires_and_the_money_is_back(pair: Pair) -> None:
    hs1, hs2 = pair
    hs1.reachable = {}
    hs1.pay(1, BOB)
    assert hs1.wallet() == (9_500, 500)
    hs1.advance(rules.OFFER_TTL_MS / 1_000 + 2)
    assert (hs1.payment(1)["state"], hs1.wallet()) == ("expired", (10_000, 0))
    # Once it is back, both chains are whole again and nothing was paid.
    hs1.reachable = {"hs2.test": hs2}
    hs1.advance(3_700)
    assert chain(hs2, "theirs") == chain(hs1) == ["LINK_OPEN", "OFFER", "ABORT"]
    assert hs2.wallet() == (10_000, 0)
    assert hs1.link("hs2.test")["unsent"] == 0


def test_a_payment_under_way_goes_on_after_a_restart(pair: Pair) -> None:
    hs1, hs2 = pair
    hs1.reachable = {}
    hs1.pay(1, BOB)
    hs1.reachable = {"hs2.test": hs2}
    hs1.restart()
    hs1.advance(1)
    assert (hs1.payment(1)["state"], hs2.wallet()) == ("completed", (10_500, 0))


def test_an_answer_that_was_lost_is_sent_by_the_outbox(pair: Pair) -> None:
    hs1, hs2 = pair
    hs2.reachable = {}
    handler = hs2.private.put_handlers[CLEARING_PATH]

    async def deaf(*request: Any) -> dict[str, Any]:
        await handler(*request)
        raise SynapseError(502, "the proxy lost it", "M_UNKNOWN")

    hs2.private.put_handlers[CLEARING_PATH] = deaf
    hs1.pay(1, BOB)
    assert chain(hs2) == ["LINK_OPEN", "ACCEPT"]
    hs2.reachable = {"hs1.test": hs1}
    hs2.private.put_handlers[CLEARING_PATH] = handler
    hs2.advance(3)
    hs1.advance(3)
    assert hs1.payment(1)["state"] == "completed"


def test_a_failing_database_loses_nothing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hs1, hs2 = pair
    transact = hs1.transact

    def failing(desc: str, func: Any, *args: Any, **kwargs: Any) -> Any:
        if desc == "superapp_clearing_delivered":
            raise RuntimeError("disk full")
        return transact(desc, func, *args, **kwargs)

    monkeypatch.setattr(hs1, "transact", failing)
    hs1.pay(1, BOB)
    assert chain(hs1)[-1] == "OFFER"
    assert "Sending OFFER to hs2.test failed; it is tried again" in caplog.text
    monkeypatch.setattr(hs1, "transact", transact)
    hs1.advance(6)
    assert (hs1.payment(1)["state"], hs2.wallet()) == ("completed", (10_500, 0))


# What arrives.


def test_until_the_tables_are_there_a_peer_is_told_to_wait(apart: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    hs1, _ = apart
    starting = House("hs2.test", "bob")

    def never(*_: Any, **__: Any) -> Deferred[Any]:
        return Deferred()

    monkeypatch.setattr(starting, "transact", never)
    starting.start()
    with pytest.raises(SynapseError) as refusal:
        hs1.put(starting, head())
    assert (refusal.value.errcode, refusal.value.code) == ("ORG.SUPERAPP.STARTING", 503)
    assert refusal.value.error_dict(None)["retry_after_ms"] == 2_000


def test_the_path_must_name_the_object(pair: Pair) -> None:
    hs1, hs2 = pair
    with refused("ORG.SUPERAPP.INVALID_VALUE", 422):
        hs1.put(hs2, bodies(hs1)[0], path="x" * 43)
    assert hs1.put(hs2, bodies(hs1)[0])["objects"] == [bodies(hs2)[0]]


def test_refusals_have_their_wire_form(pair: Pair) -> None:
    hs1, hs2 = pair
    opening = bodies(hs1)[0]
    with refused("ORG.SUPERAPP.WRONG_ORIGIN", 403):
        hs2.put(hs1, opening)
    with refused("ORG.SUPERAPP.INVALID_VALUE", 422):
        hs1.put(hs2, {**opening, "seq": 0})
    with refused("ORG.SUPERAPP.UNKNOWN_FIELD", 422):
        hs1.put(hs2, opening, tip=1)
    with refused("ORG.SUPERAPP.BAD_SIGNATURE", 403):
        hs1.put(hs2, commit_after(opening))
    with refused("ORG.SUPERAPP.UNKNOWN_LINK", 404):
        hs1.put(hs2, {**opening, "link_id": "x" * 43})
    with refused("ORG.SUPERAPP.INVALID_AMOUNT", 422):
        hs1.put(hs2, {**commit_after(opening), "amount": 0})


def commit_after(opening: dict[str, Any]) -> dict[str, Any]:
    """A COMMIT with the signature of something else."""
    frame = {name: value for name, value in opening.items() if name not in ("currencies", "key")}
    hashes = dict.fromkeys(("wire_id", "payer_commit", "payee_commit", "memo_commit"), "x" * 43)
    return {**frame, **hashes, "type": "COMMIT", "seq": 2, "amount": 1, "currency": "EUR", "scale": 2}


def test_a_payment_key_that_the_matrix_key_did_not_certify_opens_no_link(apart: Pair) -> None:
    hs1, hs2 = apart
    forger = House("hs1.test", "alice")
    forger.reachable = {"hs2.test": hs2}
    forger.start()
    forger.matrix_key = generate_signing_key("a_forger")
    forger.open("hs2.test")
    assert "certificate" in forger.link("hs2.test")["last_error"]
    assert hs2.call("GET", "admin/links", hs2.admin)["links"] == []
    assert hs1.call("GET", "admin/links", hs1.admin)["links"] == []


def test_servers_without_a_link_are_limited_together(apart: Pair) -> None:
    hs1, hs2 = apart
    for _ in range(shell._STRANGERS_BURST):
        assert hs1.put(hs2, head()) == {"objects": []}
    with refused("ORG.SUPERAPP.TOO_MANY_REQUESTS", 429):
        hs1.put(hs2, head())
    hs2.advance(1)
    assert hs1.put(hs2, head()) == {"objects": []}


def test_one_origin_has_so_many_requests_at_a_time(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    hs1, hs2 = pair
    monkeypatch.setattr(shell, "_MAX_UNDER_WAY", 0)
    with refused("ORG.SUPERAPP.TOO_MANY_REQUESTS", 429):
        hs1.put(hs2, bodies(hs1)[0])


# What stops a link.


def test_an_old_database_stops_the_link_and_tells_the_operator(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    hs1, hs2 = pair
    hs1.pay(1, BOB)
    old = House("hs1.test", "alice")
    # The same keys over an empty database.
    old.folder, old.matrix_key = hs1.folder, hs1.matrix_key
    old.reachable["hs2.test"] = hs2
    old.start()
    before = (
        REGISTRY.get_sample_value("superapp_clearing_alarms_total", {"kind": "peer_ahead", "peer": "hs2.test"}) or 0
    )
    with caplog.at_level(logging.ERROR):
        old.open("hs2.test")
    assert "our database is an old copy" in caplog.text
    link = old.link("hs2.test")
    assert (link["state"], link["waits_for"], link["evidence"]) == ("halted", "us", {"peer_ahead": 1})
    assert "restore the newest database" in link["reason"]
    after = REGISTRY.get_sample_value("superapp_clearing_alarms_total", {"kind": "peer_ahead", "peer": "hs2.test"})
    assert after == before + 1
    (kept,) = old.call("GET", "admin/links/hs2.test/evidence", old.admin)["evidence"]
    assert (kept["kind"], kept["first"]) == ("peer_ahead", "")
    assert '"type":"COMMIT"' in kept["second"]
    caplog.clear()
    with caplog.at_level(logging.ERROR):
        old.restart()
    assert "Payments with hs2.test are stopped" in caplog.text
    assert REGISTRY.get_sample_value("superapp_clearing_links", {"phase": "halted"}) == 1


def test_evidence_of_an_unknown_peer_is_unknown(pair: Pair) -> None:
    with refused("ORG.SUPERAPP.UNKNOWN_PEER", 404):
        pair[0].call("GET", "admin/links/hs9.test/evidence", pair[0].admin)


# The payment key.


def test_the_payment_key_is_made_once_and_is_its_owners_alone(pair: Pair) -> None:
    hs1, _ = pair
    path = hs1.folder / "hs1.test.superapp.payment.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_text()
    hs1.restart()
    hs1.advance(1)
    assert path.read_text() == before
    assert hs1.link("hs2.test")["state"] == "open"


def test_the_payment_key_may_lie_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.key"
    House("hs1.test", "alice", key_path=str(path)).start()
    assert path.exists()
    assert key_path(tmp_path, "hs1.test", None) == tmp_path / "hs1.test.superapp.payment.key"


def test_a_lost_payment_key_stops_its_links_and_says_so(pair: Pair) -> None:
    hs1, _ = pair
    (hs1.folder / "hs1.test.superapp.payment.key").unlink()
    hs1.restart()
    hs1.advance(1)
    link = hs1.link("hs2.test")
    assert link["state"] == "halted"
    assert "Put its file back" in link["reason"]
    assert "super-app link repin hs2.test" in link["reason"]
    with refused("ORG.SUPERAPP.LINK_HALTED", 503):
        hs1.pay(1, BOB)


def test_a_lost_payment_key_is_pinned_anew_by_both_operators(pair: Pair) -> None:
    hs1, hs2 = pair
    hs1.pay(1, BOB)
    (hs1.folder / "hs1.test.superapp.payment.key").unlink()
    hs1.restart()
    hs1.advance(1)

    def repin(house: House, peer: str, fingerprint: str) -> dict[str, Any]:
        body = {"fingerprint": fingerprint}
        return house.call("POST", f"admin/links/{peer}/repin", house.admin, body)

    present = hs1.link("hs2.test")["present_fingerprint"]
    assert present != hs1.link("hs2.test")["our_fingerprint"]
    link = repin(hs1, "hs2.test", hs1.link("hs2.test")["their_fingerprint"])
    assert (link["state"], link["waits_for"]) == ("recovering", "peer")
    hs1.advance(3)
    link = hs2.link("hs1.test")
    assert (link["state"], link["waits_for"], link["asked_fingerprint"]) == ("open", "us", present)
    assert hs1.link("hs2.test")["last_error"].startswith("The operator of this server has not confirmed")
    repin(hs2, "hs1.test", present.upper())
    for _ in range(20):
        hs1.advance(2)
        hs2.advance(2)
    for house, peer in ((hs1, "hs2.test"), (hs2, "hs1.test")):
        assert (house.link(peer)["state"], house.link(peer)["waits"]) == ("open", [])
    assert hs2.link("hs1.test")["their_fingerprint"] == present
    hs1.pay(2, BOB)
    assert hs1.payment(2)["state"] == "completed"
    with refused("ORG.SUPERAPP.INVALID_VALUE", 422):
        repin(hs2, "hs1.test", "1234")


def rotate(house: House) -> dict[str, Any]:
    return house.call("POST", "admin/payment-key", house.admin)


def test_the_payment_key_is_replaced_while_payments_go_on(pair: Pair) -> None:
    hs1, hs2 = pair
    hs1.pay(1, BOB)
    path = hs1.folder / "hs1.test.superapp.payment.key"
    before = path.read_text()
    answer = rotate(hs1)
    hs1.pay(2, BOB)
    assert [hs1.payment(number)["state"] for number in (1, 2)] == ["completed", "completed"]
    assert path.read_text() != before
    (kept,) = hs1.folder.glob(f"{path.name}.retired-*")
    assert kept.read_text() == before
    assert [each["our_fingerprint"] for each in answer["links"]] == [answer["fingerprint"]]
    assert hs2.link("hs1.test")["their_fingerprint"] == answer["fingerprint"]
    # And after a start, from the file.
    hs1.restart()
    hs1.advance(1)
    hs1.pay(3, BOB)
    assert hs1.payment(3)["state"] == "completed"


def test_a_key_file_that_was_replaced_before_a_crash_is_said_after_it(pair: Pair) -> None:
    hs1, hs2 = pair
    # The process died between the file and the transaction that says KEY.
    key_files.replace(hs1.folder / "hs1.test.superapp.payment.key")
    hs1.restart()
    hs1.advance(1)
    hs1.pay(1, BOB)
    assert hs1.payment(1)["state"] == "completed"
    assert [each["type"] for each in bodies(hs1)] == ["LINK_OPEN", "KEY", "OFFER", "COMMIT"]
    assert hs2.link("hs1.test")["their_fingerprint"] == hs1.link("hs2.test")["our_fingerprint"]


def test_a_key_that_the_matrix_key_did_not_certify_is_not_taken(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    hs1, hs2 = pair
    before = hs2.link("hs1.test")["their_fingerprint"]

    async def not_signed(*_: object) -> bool:
        return False

    monkeypatch.setattr(hs2.private, "is_signed_by", not_signed)
    rotate(hs1)
    assert "certificate" in hs1.link("hs2.test")["last_error"]
    assert hs2.link("hs1.test")["their_fingerprint"] == before


# The life of a link.


def test_operators_suspend_resume_and_close_a_link_and_see_what_it_waits_for(pair: Pair) -> None:
    hs1, hs2 = pair

    def act(house: House, peer: str, word: str, **body: Any) -> dict[str, Any]:
        return house.call("POST", f"admin/links/{peer}/{word}", house.admin, body)

    link = act(hs1, "hs2.test", "suspend", reason="maintenance")
    assert (link["state"], link["our_standing"], link["waits_for"]) == ("suspended", "suspended", "us")
    link = hs2.call("GET", "admin/links/hs1.test", hs2.admin)
    assert (link["state"], link["their_standing"], link["waits_for"]) == ("suspended", "suspended", "peer")
    assert link["waits"] == ["waits for the operator of hs1.test to resume (maintenance)"]
    with refused("ORG.SUPERAPP.LINK_SUSPENDED", 503):
        hs1.pay(1, BOB)
    assert act(hs1, "hs2.test", "resume")["state"] == "open"
    # The refusal wrote nothing, so that the same payment goes now.
    assert hs1.pay(1, BOB)["state"] == "completed"
    assert act(hs2, "hs1.test", "close", reason="moving")["state"] == "closing"
    hs1.advance(3)
    hs2.advance(3)
    assert hs1.link("hs2.test")["waits"] == ["waits for a settlement of what is owed in EUR"]
    assert hs1.link("hs2.test")["currencies"][0]["net_minor"] == -500
    with refused("ORG.SUPERAPP.NO_LINK", 403):
        hs1.pay(2, BOB)
    with refused("ORG.SUPERAPP.ALREADY_DECIDED", 409):
        act(hs2, "hs1.test", "suspend")
    with refused("ORG.SUPERAPP.INVALID_VALUE", 422):
        act(hs1, "hs2.test", "suspend", reason="Two words")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), *(("POST", f"/{word}") for word in ("suspend", "resume", "close", "fence"))]
)
def test_a_link_that_is_not_there_is_unknown(pair: Pair, method: str, path: str) -> None:
    with refused("ORG.SUPERAPP.UNKNOWN_PEER", 404):
        pair[0].call(method, f"admin/links/hs9.test{path}", pair[0].admin, {} if method == "POST" else None)
