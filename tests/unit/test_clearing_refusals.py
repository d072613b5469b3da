"""What another homeserver may send that is wrong, and that it moves no money. Real domain code, SQLite in memory."""

from typing import Any

import pytest
from nodes import EUR, PTS, Node, acct_of, advance, dump, exchange, forge, grant_of, linked, offer_of
from world import new_disk

from super_app.clearing import objects, rules, store
from super_app.clearing.links import MAX_UNWANTED
from super_app.clearing.model import (
    EvidenceKind,
    Grant,
    LinkPhase,
    LinkTerms,
    MessageType,
    Received,
    Trouble,
)
from super_app.clearing.ports import Ask, WireId
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct, PaymentId, ServerName
from super_app.signing import digest

Pair = tuple[Node, Node]


@pytest.fixture
def pair() -> Pair:
    """Two linked homeservers; alice on the first has 100.00 EUR."""
    hs1, hs2 = Node("hs1.test", new_disk()), Node("hs2.test", new_disk())
    for node in (hs1, hs2):
        node.create()
    linked(hs1, hs2)
    hs1.issue(hs1.user("alice"), 10_000)
    return hs1, hs2


def refused(node: Node, origin: Node, body: object, reason: Reason) -> Refused:
    """Send, and expect a refusal that has written nothing."""
    before = dump(node)
    answer = node.receive(origin, body)
    assert isinstance(answer, Refused), answer
    assert answer.reason is reason, answer
    assert dump(node) == before
    return answer


def order_of(hs1: Node, hs2: Node, amount_minor: int = 500, **more: Any) -> Any:
    return hs1.order(hs1.user("alice"), hs2.user("bob"), amount_minor, **more)


def offered(hs1: Node, hs2: Node, amount_minor: int = 500) -> tuple[WireId, dict[str, Any]]:
    """Alice pays bob, and the OFFER has been delivered; what bob's server answered is still in its outbox."""
    wire_id = hs1.pay(order_of(hs1, hs2, amount_minor))
    assert not isinstance(wire_id, Refused)
    body = hs1.errands(hs2)[-1].body
    assert isinstance(hs2.receive(hs1, body), Received)
    return wire_id, body


def accepted_and_committed(hs1: Node, hs2: Node) -> tuple[WireId, dict[str, Any]]:
    wire_id = hs1.pay(order_of(hs1, hs2))
    assert not isinstance(wire_id, Refused)
    exchange(hs1, hs2)
    return wire_id, hs1.chain(hs2)[-1]


def terms_in(content: dict[str, Any]) -> dict[str, Any]:
    names = ("wire_id", "payer_commit", "payee_commit", "memo_commit", "amount", "currency", "scale")
    return {name: content[name] for name in names}


# Form.


@pytest.mark.parametrize(
    "body", [None, [], {}, {"object": None}, {"object": []}, {"object": {}}, {"object": {"type": 1}}]
)
def test_a_body_that_is_no_object_is_refused(pair: Pair, body: object) -> None:
    refused(pair[1], pair[0], body, Reason.INVALID_VALUE)


def test_unknown_fields_are_refused(pair: Pair) -> None:
    hs1, hs2 = pair
    body = offer_of(hs1, hs2, order_of(hs1, hs2))
    refused(hs2, hs1, {**body, "more": 1}, Reason.UNKNOWN_FIELD)
    refused(hs2, hs1, offer_of(hs1, hs2, order_of(hs1, hs2), tip=1), Reason.UNKNOWN_FIELD)


def test_an_unknown_type_is_refused(pair: Pair) -> None:
    hs1, hs2 = pair
    body = offer_of(hs1, hs2, order_of(hs1, hs2))
    refused(hs2, hs1, {"object": {**body["object"], "type": "GIFT"}}, Reason.INVALID_VALUE)


@pytest.mark.parametrize(
    "amount", [0, -1, 2**53, 1.0, 0.5, "500", True, None, [], 10**30], ids=lambda value: f"{value!r}"
)
def test_an_amount_that_is_not_exactly_a_whole_number_in_range_is_refused(pair: Pair, amount: object) -> None:
    hs1, hs2 = pair
    body = offer_of(hs1, hs2, order_of(hs1, hs2))
    refused(hs2, hs1, {**body, "object": {**body["object"], "amount": amount}}, Reason.INVALID_AMOUNT)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("v", 2),
        ("v", True),
        ("epoch", 0),
        ("seq", 0),
        ("seq", "2"),
        ("seq", 2.0),
        ("scale", 9),
        ("scale", False),
        ("currency", "eur"),
        ("currency", "EUR\n"),
        ("wire_id", "short"),
        ("wire_id", "=" * 43),
        ("ttl_ms", 0),
        ("ttl_ms", rules.MAX_ASK_MS + 1),
        ("signature", "x"),
        ("key_id", "rsa:1"),
        ("prev_hash", "x"),
        ("seen", {"seq": 1, "hash": "", "signature": ""}),
        ("seen", {"seq": 0, "hash": "x", "signature": ""}),
        ("e2e_id", None),
        ("e2e_id", ""),
        ("inner", {}),
        ("inner", None),
    ],
)
def test_a_field_of_the_wrong_type_or_range_is_refused(pair: Pair, field: str, value: object) -> None:
    hs1, hs2 = pair
    body = offer_of(hs1, hs2, order_of(hs1, hs2))
    refused(hs2, hs1, {**body, "object": {**body["object"], field: value}}, Reason.INVALID_VALUE)


@pytest.mark.parametrize("field", ["v", "link_id", "epoch", "seq", "prev_hash", "seen", "key_id", "signature", "scale"])
def test_a_missing_field_is_refused(pair: Pair, field: str) -> None:
    hs1, hs2 = pair
    body = offer_of(hs1, hs2, order_of(hs1, hs2))
    content = {name: value for name, value in body["object"].items() if name != field}
    refused(hs2, hs1, {**body, "object": content}, Reason.INVALID_VALUE)


def test_what_has_no_canonical_json_is_refused(pair: Pair) -> None:
    hs1, hs2 = pair
    body = offer_of(hs1, hs2, order_of(hs1, hs2))
    deep: dict[str, Any] = {}
    for _ in range(5_000):
        deep = {"a": deep}
    for inner in ({"a": "\ud800"}, {"a": 0.5}, {"a": 2**53}, {"a": [{"b": 1e300}]}, deep):
        refused(hs2, hs1, {**body, "object": {**body["object"], "inner": inner}}, Reason.INVALID_VALUE)


def test_an_object_has_at_most_32_kib(pair: Pair) -> None:
    hs1, hs2 = pair
    inner = {"pad": "x" * objects.MAX_OBJECT_BYTES}
    refused(hs2, hs1, offer_of(hs1, hs2, order_of(hs1, hs2), inner=inner), Reason.INVALID_VALUE)


def test_the_path_names_the_object(pair: Pair) -> None:
    hs1, hs2 = pair
    body = offer_of(hs1, hs2, order_of(hs1, hs2))

    def receive(cur: Cursor) -> Received | Refused:
        return hs2.clearing.receive(cur, hs1.name, body, hs2.now_ms, message_id=digest(body["object"]))

    answer = hs2.tx(receive)
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.INVALID_VALUE


# Who sends.


def test_an_object_comes_from_its_own_server_and_to_us(pair: Pair) -> None:
    hs1, hs2 = pair
    order = order_of(hs1, hs2)
    refused(hs2, hs1, offer_of(hs1, hs2, order, from_server="hs3.test"), Reason.WRONG_ORIGIN)
    refused(hs2, hs1, offer_of(hs1, hs2, order, to_server="hs3.test"), Reason.WRONG_ORIGIN)
    answer = hs2.receive(ServerName("hs3.test"), offer_of(hs1, hs2, order))
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.WRONG_ORIGIN


def test_the_link_is_that_of_the_two_servers(pair: Pair) -> None:
    hs1, hs2 = pair
    refused(hs2, hs1, offer_of(hs1, hs2, order_of(hs1, hs2), link_id=digest("else")), Reason.UNKNOWN_LINK)


def test_without_a_link_an_offer_is_refused(pair: Pair) -> None:
    hs1, hs2 = pair
    stranger = Node("hs3.test", new_disk())
    stranger.create()
    order = stranger.order(stranger.user("mallory"), hs2.user("bob"), 500)
    link_id = objects.link_id_of(stranger.name, hs2.name)
    body = offer_of(hs1, hs2, order, link_id=link_id, from_server=stranger.name)
    refused(hs2, stranger, {**body, "object": objects.seal(unsigned(body["object"]), stranger.key)}, Reason.NO_LINK)


def unsigned(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in ("key_id", "signature")}


@pytest.mark.parametrize("field", ["amount", "seq", "ttl_ms", "payee_commit"])
def test_a_changed_object_has_a_wrong_signature(pair: Pair, field: str) -> None:
    hs1, hs2 = pair
    body = offer_of(hs1, hs2, order_of(hs1, hs2))
    changed = digest("else") if field == "payee_commit" else body["object"][field] + 1
    refused(hs2, hs1, {**body, "object": {**body["object"], field: changed}}, Reason.BAD_SIGNATURE)


def test_a_key_that_is_not_pinned_signs_nothing(pair: Pair) -> None:
    hs1, hs2 = pair
    body = offer_of(hs1, hs2, order_of(hs1, hs2))
    forged = objects.seal(unsigned(body["object"]), hs2.key)
    refused(hs2, hs1, {**body, "object": forged}, Reason.BAD_SIGNATURE)


def test_a_server_offers_payments_of_its_own_users_only(pair: Pair) -> None:
    hs1, hs2 = pair
    for payer in (hs2.user("bob"), "@carol:hs3.test"):
        order = hs1.order(payer, hs2.user("bob"), 500)
        refused(hs2, hs1, offer_of(hs1, hs2, order), Reason.WRONG_ORIGIN)


def test_a_server_offers_payments_to_our_users_only(pair: Pair) -> None:
    hs1, hs2 = pair
    order = hs1.order(hs1.user("alice"), "@carol:hs3.test", 500)
    refused(hs2, hs1, offer_of(hs1, hs2, order), Reason.UNKNOWN_PAYEE)


def test_a_server_cannot_decide_payments_that_are_ours_to_decide(pair: Pair) -> None:
    hs1, hs2 = pair
    hs2.issue(hs2.user("bob"), 500)
    wire_id = hs2.pay(hs2.order(hs2.user("bob"), hs1.user("alice"), 500))
    assert not isinstance(wire_id, Refused)
    offer = hs2.chain(hs1)[-1]
    # The payee's server signs a COMMIT for bob's payment: in its own direction there is none of this id.
    answer = hs2.receive(hs1, {"object": forge(hs1, hs2, MessageType.COMMIT, **terms_in(offer))})
    assert isinstance(answer, Received)
    assert answer.objects == ()
    exchange(hs1, hs2)
    assert (hs2.held(hs2.user("bob")), hs2.available(hs2.user("bob")), hs2.due_from(hs1)) == (500, 0, 0)


# Openings.


def test_an_offer_comes_with_its_opening(pair: Pair) -> None:
    hs1, hs2 = pair
    body = offer_of(hs1, hs2, order_of(hs1, hs2))
    refused(hs2, hs1, {"object": body["object"]}, Reason.INVALID_VALUE)
    refused(hs2, hs1, {**body, "opening": []}, Reason.INVALID_VALUE)


def test_an_opening_goes_with_an_offer_only(pair: Pair) -> None:
    hs1, hs2 = pair
    _, commit = accepted_and_committed(hs1, hs2)
    opening = objects.opening_of(order_of(hs1, hs2))
    refused(hs2, hs1, {"object": commit, "opening": opening}, Reason.INVALID_VALUE)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("payer", "user_id"), "@mallory:hs1.test"),
        (("payer", "acct"), "x" * 43),
        (("payer", "handle"), "@mallory:hs1.test"),
        (("payee", "user_id"), "@carol:hs2.test"),
        (("payment_id",), "f" * 32),
        (("memo",), "something else"),
        (("refund_of",), "f" * 32),
        (("salts", "payer"), "0" * 32),
        (("salts", "wire"), "0" * 32),
    ],
)
def test_an_opening_is_what_the_offer_commits_to(pair: Pair, path: tuple[str, ...], value: str) -> None:
    hs1, hs2 = pair
    body = offer_of(hs1, hs2, order_of(hs1, hs2))
    place = body["opening"]
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    refused(hs2, hs1, body, Reason.BAD_COMMITMENT)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("payment_id", "not hex", Reason.INVALID_VALUE),
        ("refund_of", "not hex", Reason.INVALID_VALUE),
        ("memo", "x" * 513, Reason.INVALID_VALUE),
        ("memo", None, Reason.INVALID_VALUE),
        ("memo", "nobody can keep a \0", Reason.INVALID_VALUE),
        ("memo", "nor sign a \ud800", Reason.INVALID_VALUE),
        ("event_id", "$\0", Reason.INVALID_VALUE),
        ("payer", {"user_id": "alice", "acct": ""}, Reason.INVALID_VALUE),
        ("payer", {"user_id": "@alice:hs1.test", "acct": "", "handle": "@alice:hs2.test"}, Reason.INVALID_VALUE),
        ("salts", {"payer": "0" * 32}, Reason.INVALID_VALUE),
        ("tip", 1, Reason.UNKNOWN_FIELD),
        ("room_id", "!" + "x" * 20_000, Reason.INVALID_VALUE),
    ],
)
def test_a_malformed_opening_is_refused(pair: Pair, field: str, value: object, reason: Reason) -> None:
    hs1, hs2 = pair
    body = offer_of(hs1, hs2, order_of(hs1, hs2))
    body["opening"][field] = value
    refused(hs2, hs1, body, reason)


# Places in a chain.


def test_an_object_of_another_epoch_is_refused(pair: Pair) -> None:
    hs1, hs2 = pair
    refused(hs2, hs1, offer_of(hs1, hs2, order_of(hs1, hs2), epoch=2), Reason.INVALID_VALUE)


def test_an_object_far_ahead_is_refused(pair: Pair) -> None:
    hs1, hs2 = pair
    ahead = 1 + rules.MAX_SEQ_AHEAD + 1
    refused(hs2, hs1, offer_of(hs1, hs2, order_of(hs1, hs2), seq=ahead), Reason.TOO_MANY_REQUESTS)
    # Nor can it be walked to: what counts is where nothing is missing, and not the newest.
    near = forge(hs1, hs2, MessageType.RESUME, seq=ahead - 1)
    assert isinstance(hs2.receive(hs1, {"object": near}), Received)
    refused(hs2, hs1, offer_of(hs1, hs2, order_of(hs1, hs2), seq=ahead), Reason.TOO_MANY_REQUESTS)


def test_a_replay_changes_nothing_and_is_answered_as_before(pair: Pair) -> None:
    hs1, hs2 = pair
    hs1.pay(order_of(hs1, hs2))
    exchange(hs1, hs2)
    before = dump(hs2)
    for content in hs1.chain(hs2):
        answer = hs2.receive(hs1, {"object": content})
        assert isinstance(answer, Received)
        kinds = {each["type"] for each in answer.objects}
        assert (
            kinds
            == {"LINK_OPEN": {"LINK_OPEN"}, "OFFER": {"ACCEPT", "RECEIPT"}, "COMMIT": {"RECEIPT"}}[content["type"]]
        )
        assert all(each in hs2.chain(hs1) for each in answer.objects)
    assert dump(hs2) == before


# Conflicts.


def test_one_id_with_another_body_is_a_conflict_for_ever(pair: Pair) -> None:
    hs1, hs2 = pair
    _, body = offered(hs1, hs2)
    for amount in (499, 500):
        again = forge(hs1, hs2, MessageType.OFFER, **{**terms_in(body["object"]), "amount": amount, "ttl_ms": 1_000})
        refused(hs2, hs1, {"object": again, "opening": body["opening"]}, Reason.CONFLICT)


@pytest.mark.parametrize("kind", [MessageType.COMMIT, MessageType.ABORT])
def test_a_decision_of_another_amount_is_a_conflict(pair: Pair, kind: MessageType) -> None:
    hs1, hs2 = pair
    _, body = offered(hs1, hs2)
    reason = "cancelled" if kind is MessageType.ABORT else None
    decision = forge(hs1, hs2, kind, **{**terms_in(body["object"]), "amount": 501, "reason": reason})
    refused(hs2, hs1, {"object": decision}, Reason.CONFLICT)


def test_a_second_commit_is_a_conflict(pair: Pair) -> None:
    hs1, hs2 = pair
    _, commit = accepted_and_committed(hs1, hs2)
    refused(hs2, hs1, {"object": forge(hs1, hs2, MessageType.COMMIT, **terms_in(commit))}, Reason.CONFLICT)
    assert hs2.available(hs2.user("bob")) == 500


def test_a_second_answer_to_an_offer_is_a_conflict(pair: Pair) -> None:
    hs1, hs2 = pair
    _, commit = accepted_and_committed(hs1, hs2)
    reject = forge(hs2, hs1, MessageType.REJECT, **terms_in(commit), reason="declined")
    refused(hs1, hs2, {"object": reject}, Reason.CONFLICT)
    accept = forge(hs2, hs1, MessageType.ACCEPT, **terms_in(commit), valid_ms=600_000)
    refused(hs1, hs2, {"object": accept}, Reason.CONFLICT)


def test_a_second_receipt_is_a_conflict(pair: Pair) -> None:
    hs1, hs2 = pair
    _, commit = accepted_and_committed(hs1, hs2)
    receipt = forge(hs2, hs1, MessageType.RECEIPT, **terms_in(commit), reason="credited")
    refused(hs1, hs2, {"object": receipt}, Reason.CONFLICT)


def test_a_receipt_before_our_decision_is_a_conflict(pair: Pair) -> None:
    hs1, hs2 = pair
    _, body = offered(hs1, hs2)
    receipt = forge(hs2, hs1, MessageType.RECEIPT, **terms_in(body["object"]), reason="void")
    refused(hs1, hs2, {"object": receipt}, Reason.CONFLICT)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (MessageType.PENDING, {"ttl_ms": 1_000}),
        (MessageType.ACCEPT, {"valid_ms": 600_000}),
        (MessageType.REJECT, {"reason": "declined"}),
        (MessageType.RECEIPT, {"reason": "credited"}),
    ],
)
def test_an_answer_to_a_payment_that_we_never_offered_is_refused(
    pair: Pair, kind: MessageType, fields: dict[str, Any]
) -> None:
    hs1, hs2 = pair
    terms = objects.terms_fields(objects.terms_of(order_of(hs1, hs2), EUR.scale))
    refused(hs1, hs2, {"object": forge(hs2, hs1, kind, **terms, **fields)}, Reason.UNKNOWN_PAYMENT)


def test_an_answer_with_other_terms_is_a_conflict(pair: Pair) -> None:
    hs1, hs2 = pair
    _, body = offered(hs1, hs2)
    accept = forge(hs2, hs1, MessageType.ACCEPT, **{**terms_in(body["object"]), "amount": 1}, valid_ms=600_000)
    refused(hs1, hs2, {"object": accept}, Reason.CONFLICT)


# Offers that are answered with a REJECT.


def rejected_with(hs1: Node, hs2: Node, body: dict[str, Any]) -> str:
    answer = hs2.receive(hs1, body)
    assert isinstance(answer, Received), answer
    (reject,) = answer.objects
    assert reject["type"] == "REJECT"
    reason: str = reject["reason"]
    return reason


def test_an_offer_in_a_currency_that_we_do_not_grant_is_rejected(pair: Pair) -> None:
    hs1, hs2 = pair
    assert rejected_with(hs1, hs2, offer_of(hs1, hs2, order_of(hs1, hs2), currency="USD")) == "unknown_currency"
    assert rejected_with(hs1, hs2, offer_of(hs1, hs2, order_of(hs1, hs2), scale=3)) == "unknown_currency"


def test_an_offer_above_the_limit_is_rejected(pair: Pair) -> None:
    hs1, hs2 = pair
    order = order_of(hs1, hs2, 1_000_001)
    assert rejected_with(hs1, hs2, offer_of(hs1, hs2, order)) == "credit_limit"
    assert not isinstance(hs2.receive(hs1, offer_of(hs1, hs2, order_of(hs1, hs2, 1_000_000))), Refused)
    assert hs2.link(hs1).exposures[0].reserved_minor == 1_000_000
    assert rejected_with(hs1, hs2, offer_of(hs1, hs2, order_of(hs1, hs2, 1))) == "credit_limit"


def test_more_in_flight_than_granted_is_rejected(pair: Pair) -> None:
    hs1, hs2 = pair
    assert not isinstance(hs2.open_link(hs1, 1_000_000, max_count=1), Refused)
    hs2.till.answers[hs2.user("bob")] = Ask(acct=acct_of(hs2.user("bob")), until_ms=60_000)
    offered(hs1, hs2)
    assert rejected_with(hs1, hs2, offer_of(hs1, hs2, order_of(hs1, hs2))) == "too_many_requests"


def test_a_routed_offer_is_rejected(pair: Pair) -> None:
    hs1, hs2 = pair
    body = offer_of(hs1, hs2, order_of(hs1, hs2), e2e_id=digest("end to end"), inner={"type": "OFFER"})
    assert rejected_with(hs1, hs2, body) == "not_allowed"


def test_a_payee_may_refuse(pair: Pair) -> None:
    hs1, hs2 = pair
    hs2.till.answers[hs2.user("bob")] = Refused(reason=Reason.PAYEE_GONE, message="gone")
    wire_id = hs1.pay(order_of(hs1, hs2))
    exchange(hs1, hs2)
    assert not isinstance(wire_id, Refused)
    assert hs1.tx(lambda cur: hs1.till.state(cur, "out", f"{2:032x}")) == ("failed", "payee_gone")
    assert hs1.available(hs1.user("alice")) == 10_000


# What stops a link.


def evidence(node: Node, peer: Node) -> list[EvidenceKind]:
    return [each.kind for each in node.tx(lambda cur: node.clearing.evidence(cur, peer.name, 100))]


def stopped(node: Node, peer: Node, body: object, kind: EvidenceKind, phase: LinkPhase = LinkPhase.FROZEN) -> None:
    """Send, and expect the link to stop with both objects kept and the operator told."""
    answer = node.receive(peer, body)
    assert isinstance(answer, Received)
    assert answer.refused is not None
    assert answer.refused.reason is Reason.LINK_HALTED
    assert [alarm.kind for alarm in answer.alarms] == [kind]
    assert evidence(node, peer) == [kind]
    view = node.link(peer)
    assert view.phase is phase
    assert view.why
    # Nothing new is agreed on it.
    order = node.order(node.user("alice"), peer.user("bob"), 1)
    money = order.money
    no = node.tx(lambda cur: node.clearing.can_pay(cur, peer.name, money))
    assert no is not None
    assert no.reason is Reason.LINK_HALTED


def test_two_objects_in_one_place_freeze_the_link(pair: Pair) -> None:
    hs1, hs2 = pair
    offered(hs1, hs2)
    other = offer_of(hs1, hs2, order_of(hs1, hs2, 400), seq=2, prev_hash=objects.message_id_of(hs1.chain(hs2)[0]))
    stopped(hs2, hs1, other, EvidenceKind.EQUIVOCATION)
    (kept,) = hs2.tx(lambda cur: hs2.clearing.evidence(cur, hs1.name, 10))
    assert store.content_of(kept.first) == hs1.chain(hs2)[1]
    assert store.content_of(kept.second) == other["object"]


@pytest.mark.parametrize("order", ["forward", "backward"])
def test_hashes_that_contradict_each_other_freeze_the_link(pair: Pair, order: str) -> None:
    hs1, hs2 = pair
    first = offer_of(hs1, hs2, order_of(hs1, hs2))
    second = offer_of(hs1, hs2, order_of(hs1, hs2), seq=3, prev_hash=digest("not the first"))
    bodies = [first, second] if order == "forward" else [second, first]
    assert isinstance(hs2.receive(hs1, bodies[0]), Received)
    stopped(hs2, hs1, bodies[1], EvidenceKind.BROKEN_CHAIN)


@pytest.mark.parametrize("place", [{"seq": 2}, {"epoch": 2}, {"prev_hash": digest("x")}])
def test_a_link_is_opened_by_the_first_object_of_a_chain(place: dict[str, Any]) -> None:
    hs1, hs2 = Node("hs1.test", new_disk()), Node("hs2.test", new_disk())
    for node in (hs1, hs2):
        node.create()
    hs1.open_link(hs2)
    hs1.delivered(hs1.errands(hs2)[0], ())
    (opening,) = hs1.chain(hs2)
    refused(hs2, hs1, {"object": objects.seal({**unsigned(opening), **place}, hs1.key)}, Reason.INVALID_VALUE)


def test_a_link_open_that_has_seen_us_shows_a_server_that_it_forgot_the_link() -> None:
    hs1, hs2 = Node("hs1.test", new_disk()), Node("hs2.test", new_disk())
    for node in (hs1, hs2):
        node.create()
    assert not isinstance(hs2.open_link(hs1), Refused)
    exchange(hs1, hs2)
    assert not isinstance(hs1.open_link(hs2), Refused)
    exchange(hs1, hs2)
    forgetful = Node("hs2.test", new_disk())
    forgetful.create()
    answer = forgetful.receive(hs1, {"object": hs1.chain(hs2)[0]})
    assert isinstance(answer, Received)
    assert [alarm.kind for alarm in answer.alarms] == [EvidenceKind.PEER_AHEAD]
    assert forgetful.link(hs1).phase is LinkPhase.HALTED


@pytest.mark.parametrize("first", [MessageType.COMMIT, MessageType.ABORT])
def test_commit_and_abort_of_one_payment_freeze_the_link(pair: Pair, first: MessageType) -> None:
    hs1, hs2 = pair
    _, body = offered(hs1, hs2)
    terms = terms_in(body["object"])
    commit = {"object": forge(hs1, hs2, MessageType.COMMIT, **terms)}
    abort = {"object": forge(hs1, hs2, MessageType.ABORT, **terms, reason="cancelled")}
    bodies = [commit, abort] if first is MessageType.COMMIT else [abort, commit]
    assert isinstance(hs2.receive(hs1, bodies[0]), Received)
    place = {"seq": 4, "prev_hash": objects.message_id_of(bodies[0]["object"])}
    second = objects.seal({**unsigned(bodies[1]["object"]), **place}, hs1.key)
    stopped(hs2, hs1, {"object": second}, EvidenceKind.COMMIT_AND_ABORT)


def test_credited_and_void_for_one_payment_freeze_the_link(pair: Pair) -> None:
    hs1, hs2 = pair
    _, commit = accepted_and_committed(hs1, hs2)
    void = forge(hs2, hs1, MessageType.RECEIPT, **terms_in(commit), reason="void")
    stopped(hs1, hs2, {"object": void}, EvidenceKind.CREDITED_AND_VOID)
    assert hs1.due_to(hs2) == 500


def test_void_and_then_credited_for_one_payment_freeze_the_link(pair: Pair) -> None:
    hs1, hs2 = pair
    hs1.pay(order_of(hs1, hs2))
    (errand,) = hs1.errands(hs2)
    answer = hs2.receive(hs1, errand.body)
    assert isinstance(answer, Received)
    hs1.delivered(errand, answer.objects)
    commit = hs1.chain(hs2)[-1]
    void = forge(hs2, hs1, MessageType.RECEIPT, **terms_in(commit), reason="void")
    assert isinstance(hs1.receive(hs2, {"object": void}), Received)
    assert (hs1.due_to(hs2), hs1.available(hs1.user("alice"))) == (0, 10_000)
    credited = forge(hs2, hs1, MessageType.RECEIPT, **terms_in(commit), reason="credited")
    stopped(hs1, hs2, {"object": credited}, EvidenceKind.CREDITED_AND_VOID)


def test_a_receipt_for_what_we_never_committed_freezes_the_link(pair: Pair) -> None:
    hs1, hs2 = pair
    wire_id, body = offered(hs1, hs2)
    receipt = forge(hs2, hs1, MessageType.RECEIPT, **terms_in(body["object"]), reason="credited")
    stopped(hs1, hs2, {"object": receipt}, EvidenceKind.UNFOUNDED_RECEIPT)
    # The hold is not lost: what is undecided is still aborted when its time is over.
    assert hs1.held(hs1.user("alice")) == 500
    advance(rules.OFFER_TTL_MS, hs1)
    hs1.tick()
    assert (hs1.held(hs1.user("alice")), hs1.available(hs1.user("alice"))) == (0, 10_000)
    assert hs1.chain(hs2)[-1]["type"] == "ABORT"
    assert hs1.chain(hs2)[-1]["wire_id"] == wire_id


def test_a_seen_that_we_never_signed_is_a_lie_and_the_link_goes_on(pair: Pair) -> None:
    hs1, hs2 = pair
    lie = {"seq": 77, "hash": digest("never"), "signature": "A" * 86}
    answer = hs2.receive(hs1, offer_of(hs1, hs2, order_of(hs1, hs2), seen=lie))
    assert isinstance(answer, Received)
    assert [alarm.kind for alarm in answer.alarms] == [EvidenceKind.FALSE_SEEN]
    assert answer.objects[0]["type"] == "ACCEPT"
    assert evidence(hs2, hs1) == [EvidenceKind.FALSE_SEEN]
    assert hs2.link(hs1).phase is LinkPhase.OPEN


def test_a_false_seen_of_a_place_that_we_have_acknowledges_nothing(pair: Pair) -> None:
    hs1, hs2 = pair
    lie = {"seq": 1, "hash": digest("never"), "signature": "A" * 86}
    answer = hs2.receive(hs1, offer_of(hs1, hs2, order_of(hs1, hs2), seen=lie))
    assert isinstance(answer, Received)
    assert [alarm.kind for alarm in answer.alarms] == [EvidenceKind.FALSE_SEEN]


def test_a_seen_ahead_of_us_with_our_signature_halts_the_link(pair: Pair) -> None:
    hs1, hs2 = pair
    # What hs2 would have signed in a life that its database has forgotten.
    lost = objects.seal({**unsigned(hs2.chain(hs1)[0]), "seq": 9, "prev_hash": digest("x")}, hs2.key)
    seen = {"seq": 9, "hash": objects.message_id_of(lost), "signature": lost["signature"]}
    body = offer_of(hs1, hs2, order_of(hs1, hs2), seen=seen)
    stopped(hs2, hs1, body, EvidenceKind.PEER_AHEAD, LinkPhase.HALTED)
    assert "old copy" in hs2.link(hs1).why
    before = hs2.chain(hs1)
    advance(rules.ACCEPT_VALID_MS, hs2)
    hs2.tick()
    assert hs2.chain(hs1) == before
    assert hs2.errands(hs1) == ()


def test_a_seen_of_another_object_in_a_place_of_ours_halts_the_link(pair: Pair) -> None:
    hs1, hs2 = pair
    fork = objects.seal(
        {**unsigned(hs2.chain(hs1)[0]), "prev_hash": ""}
        | {"seen": {"seq": 0, "hash": "", "signature": ""}, "currencies": []},
        hs2.key,
    )
    seen = {"seq": 1, "hash": objects.message_id_of(fork), "signature": fork["signature"]}
    body = offer_of(hs1, hs2, order_of(hs1, hs2), seen=seen)
    stopped(hs2, hs1, body, EvidenceKind.FORKED, LinkPhase.HALTED)


def test_nothing_is_taken_on_a_stopped_link_and_stored_answers_are_given(pair: Pair) -> None:
    hs1, hs2 = pair
    _, body = offered(hs1, hs2)
    other = offer_of(hs1, hs2, order_of(hs1, hs2, 400), seq=2, prev_hash=objects.message_id_of(hs1.chain(hs2)[0]))
    hs2.receive(hs1, other)
    refused(hs2, hs1, offer_of(hs1, hs2, order_of(hs1, hs2)), Reason.LINK_HALTED)
    again = hs2.receive(hs1, body)
    assert isinstance(again, Received)
    assert [each["type"] for each in again.objects] == ["ACCEPT"]


# Tombstones.


def test_an_abort_before_its_offer_leaves_a_tombstone_that_the_offer_does_not_revive(pair: Pair) -> None:
    hs1, hs2 = pair
    order = order_of(hs1, hs2)
    wire_id = hs1.pay(order)
    assert not isinstance(wire_id, Refused)
    acct, payment_id = Acct(order.payer.acct), order.payment_id
    hs1.tx(lambda cur: hs1.clearing.cancel(cur, acct, payment_id, Reason.CANCELLED, hs1.now_ms))
    (abort,) = hs1.errands(hs2)
    assert abort.type is MessageType.ABORT
    answer = hs2.receive(hs1, abort.body)
    assert isinstance(answer, Received)
    assert [(each["type"], each["reason"]) for each in answer.objects] == [("RECEIPT", "void")]
    assert hs2.link(hs1).tombstones == 1
    exchange(hs1, hs2)
    assert hs2.link(hs1).tombstones == 0
    assert hs2.link(hs1).exposures[0].reserved_minor == 0
    assert hs2.tx(lambda cur: hs2.till.state(cur, "in", wire_id)) is None


def test_tombstones_are_limited(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_TOMBSTONES", 1)
    hs1, hs2 = pair

    def abort(seq: int, prev_hash: str) -> dict[str, Any]:
        terms = objects.terms_fields(objects.terms_of(order_of(hs1, hs2), EUR.scale))
        return forge(hs1, hs2, MessageType.ABORT, **terms, reason="cancelled", seq=seq, prev_hash=prev_hash)

    first = abort(2, objects.message_id_of(hs1.chain(hs2)[0]))
    assert isinstance(hs2.receive(hs1, {"object": first}), Received)
    no = refused(hs2, hs1, {"object": abort(3, objects.message_id_of(first))}, Reason.TOO_MANY_REQUESTS)
    assert no.fields["retry_after_ms"] == rules.RETRY_MS[2]


# Opening links.


def test_a_link_open_needs_a_certificate_that_was_verified(pair: Pair) -> None:
    _, hs2 = pair
    stranger = Node("hs3.test", new_disk())
    stranger.create()
    stranger.open_link(hs2)
    head = stranger.errands(hs2)[0]
    answer = hs2.receive(stranger, head.body)
    assert isinstance(answer, Received)
    stranger.delivered(head, answer.objects)
    body = stranger.errands(hs2)[0].body

    def receive(cur: Cursor) -> Received | Refused:
        return hs2.clearing.receive(cur, stranger.name, body, hs2.now_ms)

    unverified = hs2.tx(receive)
    assert isinstance(unverified, Refused)
    assert unverified.reason is Reason.BAD_SIGNATURE
    assert not isinstance(hs2.receive(stranger, body), Refused)


def test_a_link_open_certifies_the_key_that_it_brings() -> None:
    hs1, hs2 = Node("hs1.test", new_disk()), Node("hs2.test", new_disk(), seed=1)
    for node in (hs1, hs2):
        node.create()
    hs1.open_link(hs2)
    exchange(hs1, hs2)
    (opening,) = hs1.chain(hs2)
    key = opening["key"]
    for forged in (
        {**key, "certificate": {**key["certificate"], "server": "hs3.test"}},
        {**key, "certificate": {**key["certificate"], "public_key": digest("x")}},
        {**key, "public_key": digest("x")},
    ):
        fresh = Node("hs2.test", new_disk())
        fresh.create()
        body = {"object": objects.seal({**unsigned(opening), "key": forged}, hs1.key)}
        refused(fresh, hs1, body, Reason.BAD_SIGNATURE)


def test_another_key_after_the_link_is_open_is_refused(pair: Pair) -> None:
    hs1, hs2 = pair
    other = Node("hs1.test", new_disk(), seed=5)
    other.create()
    other.open_link(hs2)
    head = other.errands(hs2)[0]
    other.delivered(head, ())
    refused(hs2, hs1, other.errands(hs2)[0].body, Reason.BAD_SIGNATURE)


def test_links_that_nobody_asked_for_are_limited(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    _, hs2 = pair
    assert MAX_UNWANTED > 10
    monkeypatch.setattr("super_app.clearing.links.MAX_UNWANTED", 1)
    bodies = []
    for name in ("hs3.test", "hs4.test"):
        stranger = Node(name, new_disk())
        stranger.create()
        stranger.open_link(hs2)
        stranger.delivered(stranger.errands(hs2)[0], ())
        bodies.append((stranger, stranger.errands(hs2)[0].body))
    (first, opening), (second, another) = bodies
    assert not isinstance(hs2.receive(first, opening), Refused)
    refused(hs2, second, another, Reason.TOO_MANY_REQUESTS)


def test_operators_cannot_open_nonsense(pair: Pair) -> None:
    hs1, hs2 = pair

    def opened(peer: ServerName, *grants: Any) -> Reason:
        answer = hs1.tx(lambda cur: hs1.clearing.open_link(cur, LinkTerms(peer=peer, grants=grants), hs1.now_ms))
        assert isinstance(answer, Refused)
        return answer.reason

    assert opened(hs1.name, grant_of(1)) is Reason.INVALID_VALUE
    assert opened(hs2.name) is Reason.INVALID_VALUE
    assert opened(hs2.name, grant_of(1), grant_of(2)) is Reason.INVALID_VALUE
    assert opened(hs2.name, Grant(currency=PTS.code, scale=3, limit_minor=1)) is Reason.UNKNOWN_CURRENCY


# What payments are told.


def test_a_payment_over_no_link_is_refused(pair: Pair) -> None:
    hs1, _ = pair
    wire_id = hs1.pay(hs1.order(hs1.user("alice"), "@carol:hs3.test", 1))
    assert isinstance(wire_id, Refused)
    assert wire_id.reason is Reason.NO_LINK


def test_a_payment_in_a_currency_that_the_link_does_not_carry_is_refused(pair: Pair) -> None:
    hs1, hs2 = pair
    hs1.issue(hs1.user("alice"), 10, PTS)
    wire_id = hs1.pay(order_of(hs1, hs2, 1, asset=PTS))
    assert isinstance(wire_id, Refused)
    assert wire_id.reason is Reason.UNKNOWN_CURRENCY


def test_another_order_under_the_same_id_is_a_conflict_and_the_same_is_not(pair: Pair) -> None:
    hs1, hs2 = pair
    order = order_of(hs1, hs2, 500, number=7)
    wire_id = hs1.pay(order)
    assert hs1.tx(lambda cur: hs1.clearing.offer(cur, order, hs2.name, hs1.now_ms)) == wire_id
    other = order_of(hs1, hs2, 499, number=7)
    answer = hs1.tx(lambda cur: hs1.clearing.offer(cur, other, hs2.name, hs1.now_ms))
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.CONFLICT


def test_cancelling(pair: Pair) -> None:
    hs1, hs2 = pair
    order = order_of(hs1, hs2)
    acct = Acct(order.payer.acct)

    def cancel(payment_id: PaymentId) -> Refused | None:
        return hs1.tx(lambda cur: hs1.clearing.cancel(cur, acct, payment_id, Reason.CANCELLED, hs1.now_ms))

    unknown = cancel(PaymentId("f" * 32))
    assert unknown is not None
    assert unknown.reason is Reason.UNKNOWN_PAYMENT
    hs1.pay(order)
    assert cancel(order.payment_id) is None
    assert cancel(order.payment_id) is None
    assert hs1.available(hs1.user("alice")) == 10_000
    committed = order_of(hs1, hs2)
    hs1.pay(committed)
    exchange(hs1, hs2)
    late = cancel(committed.payment_id)
    assert late is not None
    assert late.reason is Reason.ALREADY_DECIDED


def test_answers_of_the_payee(pair: Pair) -> None:
    hs1, hs2 = pair
    hs2.till.answers[hs2.user("bob")] = Ask(acct=acct_of(hs2.user("bob")), until_ms=60_000)
    wire_id, _ = offered(hs1, hs2)

    def accept(wire: str, server: ServerName = hs1.name) -> Reason | None:
        answer = hs2.tx(lambda cur: hs2.clearing.accept(cur, server, WireId(wire), hs2.now_ms))
        return None if answer is None else answer.reason

    def refuse(wire: str) -> Reason | None:
        answer = hs2.tx(lambda cur: hs2.clearing.refuse(cur, hs1.name, WireId(wire), Reason.DECLINED, hs2.now_ms))
        return None if answer is None else answer.reason

    assert accept(wire_id, ServerName("hs3.test")) is Reason.NO_LINK
    assert accept(digest("x")) is Reason.UNKNOWN_PAYMENT
    assert refuse(digest("x")) is Reason.UNKNOWN_PAYMENT
    assert not isinstance(hs2.open_link(hs1, 499), Refused)
    assert accept(wire_id) is Reason.CREDIT_LIMIT
    assert not isinstance(hs2.open_link(hs1, 500), Refused)
    advance(60_000, hs2)
    assert accept(wire_id) is Reason.EXPIRED
    advance(-1, hs2)
    assert accept(wire_id) is None
    assert accept(wire_id) is Reason.ALREADY_DECIDED
    assert refuse(wire_id) is Reason.ALREADY_DECIDED
    hs2.start("another run")
    assert accept(wire_id) is Reason.LINK_HALTED
    assert refuse(wire_id) is Reason.LINK_HALTED


def test_an_offer_that_the_peer_refuses_outright_is_aborted_at_once(pair: Pair) -> None:
    hs1, hs2 = pair
    order = order_of(hs1, hs2)
    hs1.pay(order)
    (errand,) = hs1.errands(hs2)
    hs1.failed(errand, Trouble.REFUSED, Reason.UNKNOWN_PAYEE)
    assert hs1.available(hs1.user("alice")) == 10_000
    assert hs1.tx(lambda cur: hs1.till.state(cur, "out", order.payment_id)) == ("failed", "unknown_payee")
