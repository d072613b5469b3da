"""SUSPEND, RESUME, CLOSE and KEY from a homeserver with a mind of its own. Real domain code, SQLite in memory."""

from typing import Any

import pytest
from nacl.signing import SigningKey
from nodes import Node, exchange, forge, linked, offer_of
from world import new_disk

from super_app.clearing import objects, store
from super_app.clearing.model import EvidenceKind, LinkPhase, MessageType, Received, Standing
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.signing import key_id_of, public_b64

Pair = tuple[Node, Node]
STANDINGS = (MessageType.SUSPEND, MessageType.RESUME, MessageType.CLOSE)


@pytest.fixture
def pair() -> Pair:
    """Two linked homeservers; alice on the first has 100.00 EUR."""
    hs1, hs2 = Node("hs1.test", new_disk()), Node("hs2.test", new_disk())
    for node in (hs1, hs2):
        node.create()
    linked(hs1, hs2)
    hs1.issue(hs1.user("alice"), 10_000)
    return hs1, hs2


def refused(node: Node, origin: Node, body: object, reason: Reason) -> None:
    """Send, and expect a refusal that has written nothing."""
    before = dump(node)
    answer = node.receive(origin, body)
    assert isinstance(answer, Refused), answer
    assert answer.reason is reason, answer
    assert dump(node) == before


def dump(node: Node) -> list[str]:
    return list(node.tx.connection.iterdump())  # type: ignore[attr-defined]


def frozen_by(node: Node, peer: Node, body: object, kind: EvidenceKind) -> None:
    answer = node.receive(peer, body)
    assert isinstance(answer, Received)
    assert [alarm.kind for alarm in answer.alarms] == [kind]
    assert node.link(peer).phase is LinkPhase.FROZEN
    assert node.link(peer).evidence == {kind: 1}


def new_key(number: int) -> SigningKey:
    return SigningKey(bytes([number]) * 32)


def rotate(node: Node, peer: Node, number: int = 1) -> SigningKey:
    """A new key, said to the peer. Gives the old one."""
    old = node.key
    node.key = new_key(number)
    node.clearing = node.clearing_with(retired=(*node.retired, old))
    node.retired = (*node.retired, old)
    assert not isinstance(node.tx(lambda cur: node.clearing.say_key(cur, peer.name, node.now_ms)), Refused)
    return old


def key_object(sender: Node, receiver: Node, new: SigningKey, **changes: Any) -> dict[str, Any]:
    certificate = sender.certify(objects.certificate_fields(sender.name, new))
    return forge(
        sender, receiver, MessageType.KEY, **{"key": objects.key_fields(public_b64(new), certificate), **changes}
    )


# How a side stands.


@pytest.mark.parametrize("kind", STANDINGS)
def test_how_a_side_stands_is_signed_by_its_key(pair: Pair, kind: MessageType) -> None:
    hs1, hs2 = pair
    content = forge(hs1, hs2, kind)
    unsigned = {name: value for name, value in content.items() if name not in ("key_id", "signature")}
    refused(hs2, hs1, {"object": objects.seal(unsigned, hs2.key)}, Reason.BAD_SIGNATURE)
    assert hs2.link(hs1).their_standing is Standing.READY


@pytest.mark.parametrize("kind", STANDINGS)
def test_how_a_side_stands_has_no_other_fields(pair: Pair, kind: MessageType) -> None:
    hs1, hs2 = pair
    refused(hs2, hs1, {"object": forge(hs1, hs2, kind, until=5)}, Reason.UNKNOWN_FIELD)
    refused(hs2, hs1, {"object": forge(hs1, hs2, kind), "opening": {}}, Reason.INVALID_VALUE)


@pytest.mark.parametrize("reason", ["", "Because", "two words", "x" * 65, 5, ["a"]])
def test_a_reason_is_a_word(pair: Pair, reason: object) -> None:
    hs1, hs2 = pair
    for kind in (MessageType.SUSPEND, MessageType.CLOSE):
        refused(hs2, hs1, {"object": forge(hs1, hs2, kind, reason=reason)}, Reason.INVALID_VALUE)


def test_a_resumption_gives_no_reason(pair: Pair) -> None:
    hs1, hs2 = pair
    refused(hs2, hs1, {"object": forge(hs1, hs2, MessageType.RESUME, reason="again")}, Reason.UNKNOWN_FIELD)


def test_a_server_speaks_for_itself_only(pair: Pair) -> None:
    hs1, hs2 = pair
    view = hs2.tx(lambda cur: hs2.clearing.suspend(cur, hs1.name, "", hs2.now_ms))
    assert not isinstance(view, Refused)
    exchange(hs1, hs2)
    # What hs2 said cannot be taken back by hs1, neither in its own name nor in that of the other.
    assert isinstance(hs2.receive(hs1, {"object": forge(hs1, hs2, MessageType.RESUME)}), Received)
    assert hs2.link(hs1).our_standing is Standing.SUSPENDED
    assert hs2.link(hs1).phase is LinkPhase.SUSPENDED
    forged = forge(hs1, hs2, MessageType.RESUME, from_server=hs2.name, to_server=hs1.name)
    refused(hs2, hs1, {"object": forged}, Reason.WRONG_ORIGIN)


def test_two_objects_in_one_place_freeze_the_link_whatever_they_say(pair: Pair) -> None:
    hs1, hs2 = pair
    assert isinstance(hs2.receive(hs1, {"object": forge(hs1, hs2, MessageType.SUSPEND, seq=2)}), Received)
    changes: dict[str, Any] = {"seq": 2, "prev_hash": hs1.chain(hs2)[0] and objects.message_id_of(hs1.chain(hs2)[0])}
    frozen_by(hs2, hs1, {"object": forge(hs1, hs2, MessageType.CLOSE, **changes)}, EvidenceKind.EQUIVOCATION)


def test_an_old_suspension_again_changes_nothing(pair: Pair) -> None:
    hs1, hs2 = pair
    suspend = {"object": forge(hs1, hs2, MessageType.SUSPEND)}
    assert isinstance(hs2.receive(hs1, suspend), Received)
    assert isinstance(hs2.receive(hs1, {"object": forge(hs1, hs2, MessageType.RESUME)}), Received)
    before = dump(hs2)
    assert isinstance(hs2.receive(hs1, suspend), Received)
    assert dump(hs2) == before
    assert hs2.link(hs1).phase is LinkPhase.OPEN


def test_an_offer_by_the_side_that_suspended_is_rejected(pair: Pair) -> None:
    hs1, hs2 = pair
    assert isinstance(hs2.receive(hs1, {"object": forge(hs1, hs2, MessageType.SUSPEND)}), Received)
    order = hs1.order(hs1.user("alice"), hs2.user("bob"), 500)
    answer = hs2.receive(hs1, offer_of(hs1, hs2, order))
    assert isinstance(answer, Received)
    assert [(each["type"], each["reason"]) for each in answer.objects] == [("REJECT", "link_suspended")]


@pytest.mark.parametrize("kind", [*STANDINGS, MessageType.KEY])
def test_what_speaks_of_a_link_that_was_never_opened_is_refused(pair: Pair, kind: MessageType) -> None:
    _, hs2 = pair
    stranger = Node("hs3.test", new_disk())
    stranger.create()
    link_id = objects.link_id_of(stranger.name, hs2.name)
    fields: dict[str, Any] = {
        "v": 1,
        "type": kind.value,
        "link_id": link_id,
        "epoch": 1,
        "seq": 1,
        "prev_hash": "",
        "from_server": stranger.name,
        "to_server": hs2.name,
        "seen": {"seq": 0, "hash": "", "signature": ""},
    }
    if kind is MessageType.KEY:
        certificate = objects.certificate_fields(stranger.name, new_key(9))
        fields["key"] = objects.key_fields(public_b64(new_key(9)), certificate)
    refused(hs2, stranger, {"object": objects.seal(fields, stranger.key)}, Reason.NO_LINK)


@pytest.mark.parametrize(("outcome", "ends"), [("credited", (9_500, 500)), ("void", (10_000, 0))])
def test_a_frozen_link_takes_the_receipt_of_what_was_committed(pair: Pair, outcome: str, ends: tuple[int, int]) -> None:
    hs1, hs2 = pair
    order = hs1.order(hs1.user("alice"), hs2.user("bob"), 500)
    assert not isinstance(hs1.pay(order), Refused)
    (offer,) = hs1.errands(hs2)
    accepted = hs2.receive(hs1, offer.body)
    assert isinstance(accepted, Received)
    hs1.delivered(offer, accepted.objects)
    assert hs1.due_to(hs2) == 500
    # The peer contradicts itself, and only then says what became of the payment.
    frozen_by(hs1, hs2, {"object": forge(hs2, hs1, MessageType.RESUME, seq=2)}, EvidenceKind.EQUIVOCATION)
    terms = objects.terms_fields(objects.terms_of(order, 2))
    receipt = forge(hs2, hs1, MessageType.RECEIPT, **terms, reason=outcome)
    assert isinstance(hs1.receive(hs2, {"object": receipt}), Received)
    assert (hs1.available(hs1.user("alice")), hs1.due_to(hs2)) == ends
    assert hs1.link(hs2).phase is LinkPhase.FROZEN
    assert hs1.violations() == []
    # Anything else is refused as before.
    refused(hs1, hs2, {"object": forge(hs2, hs1, MessageType.SUSPEND)}, Reason.LINK_HALTED)


# Keys.


def test_a_key_is_signed_by_the_one_that_it_replaces(pair: Pair) -> None:
    hs1, hs2 = pair
    new = new_key(9)
    content = key_object(hs1, hs2, new)
    unsigned = {name: value for name, value in content.items() if name not in ("key_id", "signature")}
    refused(hs2, hs1, {"object": objects.seal(unsigned, new)}, Reason.BAD_SIGNATURE)


def test_the_certificate_of_a_new_key_is_verified(pair: Pair) -> None:
    hs1, hs2 = pair
    body = {"object": key_object(hs1, hs2, new_key(9))}
    answer = hs2.tx(lambda cur: hs2.clearing.receive(cur, hs1.name, body, hs2.now_ms))
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.BAD_SIGNATURE
    for certificate in (
        hs1.certify(objects.certificate_fields(hs2.name, new_key(9))),
        hs1.certify(objects.certificate_fields(hs1.name, new_key(8))),
        {},
    ):
        named = objects.key_fields(public_b64(new_key(9)), certificate)
        refused(hs2, hs1, {"object": key_object(hs1, hs2, new_key(9), key=named)}, Reason.BAD_SIGNATURE)


@pytest.mark.parametrize("public_key", ["A" * 42 + "B", "short", "A" * 44, 5, None])
def test_a_key_is_a_public_key(pair: Pair, public_key: Any) -> None:
    hs1, hs2 = pair
    certificate = {"type": objects.CERTIFICATE_TYPE, "server": hs1.name, "public_key": public_key}
    key = {"public_key": public_key, "certificate": certificate}
    refused(hs2, hs1, {"object": key_object(hs1, hs2, new_key(9), key=key)}, Reason.INVALID_VALUE)


def test_a_key_is_not_used_twice(pair: Pair) -> None:
    hs1, hs2 = pair
    refused(hs2, hs1, {"object": key_object(hs1, hs2, hs1.key)}, Reason.INVALID_VALUE)
    first = rotate(hs1, hs2)
    exchange(hs1, hs2)
    refused(hs2, hs1, {"object": key_object(hs1, hs2, first)}, Reason.INVALID_VALUE)


def test_a_key_has_no_other_fields(pair: Pair) -> None:
    hs1, hs2 = pair
    refused(hs2, hs1, {"object": key_object(hs1, hs2, new_key(9), reason="lost")}, Reason.UNKNOWN_FIELD)
    refused(hs2, hs1, {"object": key_object(hs1, hs2, new_key(9), key=None)}, Reason.INVALID_VALUE)


def test_the_new_key_signs_only_behind_its_key_object(pair: Pair) -> None:
    hs1, hs2 = pair
    old, hs1.key = hs1.key, new_key(1)
    refused(hs2, hs1, {"object": forge(hs1, hs2, MessageType.RESUME)}, Reason.BAD_SIGNATURE)
    hs1.key = old
    key = key_object(hs1, hs2, new_key(1), seq=5, prev_hash="A" * 43)
    assert isinstance(hs2.receive(hs1, {"object": key}), Received)
    hs1.key = new_key(1)
    refused(hs2, hs1, {"object": forge(hs1, hs2, MessageType.RESUME, seq=2)}, Reason.BAD_SIGNATURE)
    behind = forge(hs1, hs2, MessageType.RESUME, seq=6, prev_hash=objects.message_id_of(key))
    assert isinstance(hs2.receive(hs1, {"object": behind}), Received)


def test_an_object_behind_a_key_by_the_key_that_it_retired_freezes_the_link(pair: Pair) -> None:
    hs1, hs2 = pair
    old = rotate(hs1, hs2)
    exchange(hs1, hs2)
    hs1.key = old
    order = hs1.order(hs1.user("alice"), hs2.user("bob"), 500)
    frozen_by(hs2, hs1, offer_of(hs1, hs2, order), EvidenceKind.RETIRED_KEY)
    (kept,) = hs2.tx(lambda cur: hs2.clearing.evidence(cur, hs1.name, 9))
    assert store.content_of(kept.first)["type"] == "KEY"
    assert store.content_of(kept.second)["type"] == "OFFER"


def test_a_key_that_comes_after_what_its_predecessor_signed_behind_it_freezes_the_link(pair: Pair) -> None:
    hs1, hs2 = pair
    key = key_object(hs1, hs2, new_key(9))
    behind = forge(hs1, hs2, MessageType.RESUME, seq=3, prev_hash=objects.message_id_of(key))
    assert isinstance(hs2.receive(hs1, {"object": behind}), Received)
    frozen_by(hs2, hs1, {"object": key}, EvidenceKind.RETIRED_KEY)


def test_two_keys_in_one_place_freeze_the_link(pair: Pair) -> None:
    hs1, hs2 = pair
    one, other = key_object(hs1, hs2, new_key(8)), key_object(hs1, hs2, new_key(9))
    assert isinstance(hs2.receive(hs1, {"object": one}), Received)
    frozen_by(hs2, hs1, {"object": other}, EvidenceKind.EQUIVOCATION)


def test_a_key_again_is_a_replay(pair: Pair) -> None:
    hs1, hs2 = pair
    rotate(hs1, hs2)
    (key,) = hs1.errands(hs2)
    for _ in range(2):
        assert isinstance(hs2.receive(hs1, key.body), Received)
    exchange(hs1, hs2)
    assert hs2.link(hs1).phase is LinkPhase.OPEN


def test_a_database_from_before_the_key_was_replaced_signs_nothing(pair: Pair) -> None:
    """The peer shows an object of the new key, which the old database does not know: its own signature all the same."""
    hs1, hs2 = pair
    old = rotate(hs1, hs2)
    assert not isinstance(hs1.pay(hs1.order(hs1.user("alice"), hs2.user("bob"), 500)), Refused)
    exchange(hs1, hs2)

    def forget(cur: Cursor) -> None:
        cur.execute("DELETE FROM superapp_clearing_outbox")
        cur.execute("DELETE FROM superapp_clearing_object WHERE sender = 'ours' AND seq > 1")
        cur.execute("DELETE FROM superapp_clearing_key WHERE sender = 'ours' AND key_id = ?", (key_id_of(hs1.key),))
        cur.execute(
            "UPDATE superapp_clearing_link SET our_seq = 1, our_hash = 'x', our_key_id = ?, key_unsent_seq = 0",
            (key_id_of(old),),
        )

    hs1.tx(forget)
    hs1.start("2")
    exchange(hs1, hs2)
    assert hs1.link(hs2).phase is LinkPhase.HALTED
    assert hs1.link(hs2).evidence == {EvidenceKind.PEER_AHEAD: 1}
