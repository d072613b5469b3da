"""STATEMENT: two honest homeservers never differ, whatever is lost, late or overtakes, and one that lies is found."""

import random
from typing import Any

import pytest
from nodes import EUR, PTS, Node, acct_of, advance, deliver, exchange, forge, grant_of, linked
from world import new_disk

from super_app.clearing import objects, rules, statements, store
from super_app.clearing.model import (
    Errand,
    EvidenceKind,
    LinkPhase,
    LinkTerms,
    MessageType,
    Received,
    StatementState,
    Trouble,
)
from super_app.clearing.ports import Ask
from super_app.db import Cursor
from super_app.errors import Reason, Refused

Pair = tuple[Node, Node]
DAY_MS = statements.STATEMENT_EVERY_MS


@pytest.fixture
def pair() -> Pair:
    return make_pair()


def make_pair() -> Pair:
    """Two linked homeservers; alice on the first and bob on the second have 100.00 EUR each."""
    hs1, hs2 = Node("hs1.test", new_disk()), Node("hs2.test", new_disk())
    for node in (hs1, hs2):
        node.create()
    linked(hs1, hs2)
    hs1.issue(hs1.user("alice"), 10_000)
    hs2.issue(hs2.user("bob"), 10_000)
    return hs1, hs2


def pay(hs1: Node, hs2: Node, amount_minor: int = 500) -> None:
    order = hs1.order(hs1.user("alice"), hs2.user("bob"), amount_minor)
    assert not isinstance(hs1.pay(order), Refused)


def a_day(*nodes: Node) -> None:
    advance(DAY_MS, *nodes)
    for node in nodes:
        node.tick()
    exchange(*nodes)


def said(node: Node, peer: Node) -> list[Any]:
    return [each["positions"] for each in node.chain(peer) if each["type"] == "STATEMENT"]


def state(node: Node, peer: Node) -> StatementState | None:
    found = node.link(peer).their_statement
    return None if found is None else found.state


def position(due_to: int = 0, due_from: int = 0, unreceipted: int = 0, currency: str = "EUR") -> dict[str, Any]:
    return {
        "currency": currency,
        "due_to": due_to,
        "due_from": due_from,
        "unreceipted": unreceipted,
        "reserved": 0,
    }


def statement_of(sender: Node, receiver: Node, *positions: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What ``sender`` says next, having seen all that ``receiver`` has signed."""
    chain = receiver.chain(sender)
    seen = {
        "seq": len(chain),
        "hash": objects.message_id_of(chain[-1]),
        "signature": chain[-1]["signature"],
    }
    content = {"positions": list(positions), "seen": seen, **changes}
    return {"object": forge(sender, receiver, MessageType.STATEMENT, **content)}


def test_each_side_states_its_books_once_a_day(pair: Pair) -> None:
    hs1, hs2 = pair
    pay(hs1, hs2)
    exchange(hs1, hs2)
    advance(DAY_MS - 1, hs1, hs2)
    assert hs1.tick() == hs1.now_ms + 1
    assert said(hs1, hs2) == []
    advance(1, hs1, hs2)
    hs1.tick()
    hs2.tick()
    exchange(hs1, hs2)
    assert said(hs1, hs2) == [[position(due_to=500)]]
    assert said(hs2, hs1) == [[position(due_from=500)]]
    assert (state(hs1, hs2), state(hs2, hs1)) == (StatementState.SAME, StatementState.SAME)
    hs1.tick()
    assert len(said(hs1, hs2)) == 1


def test_many_objects_bring_a_statement_sooner(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    hs1, hs2 = pair
    monkeypatch.setattr(statements, "STATEMENT_EVERY", 5)
    for _ in range(2):
        pay(hs1, hs2)
        exchange(hs1, hs2)
    hs1.tick()
    assert said(hs1, hs2) == [[position(due_to=1_000)]]
    hs1.tick()
    assert len(said(hs1, hs2)) == 1


def test_a_clock_that_went_back_does_not_keep_a_statement_for_years(pair: Pair) -> None:
    hs1, hs2 = pair
    advance(1_000 * DAY_MS, hs1)
    hs1.tick()
    exchange(hs1, hs2)
    advance(-999 * DAY_MS, hs1)
    hs1.tick()
    assert len(said(hs1, hs2)) == 2


def test_a_statement_waits_for_what_is_missing_and_is_compared_then(pair: Pair) -> None:
    hs1, hs2 = pair
    pay(hs1, hs2)
    exchange(hs1, hs2)
    hs1.open_link(hs2, 5)
    (limit,) = hs1.errands(hs2)
    advance(DAY_MS, hs1)
    hs1.tick()
    statement = next(each for each in hs1.errands(hs2) if each.type is MessageType.STATEMENT)
    deliver(hs1, hs2, statement)
    assert state(hs2, hs1) is StatementState.WAITS
    deliver(hs1, hs2, limit)
    assert state(hs2, hs1) is StatementState.SAME


def test_no_statement_is_signed_while_something_of_the_peer_is_missing(pair: Pair) -> None:
    hs1, hs2 = pair
    assert isinstance(hs1.receive(hs2, {"object": forge(hs2, hs1, MessageType.RESUME, seq=4)}), Received)
    advance(DAY_MS, hs1)
    hs1.tick()
    assert said(hs1, hs2) == []


def test_an_older_statement_that_comes_late_is_not_taken_for_the_newest(pair: Pair) -> None:
    hs1, hs2 = pair
    for _ in range(2):
        advance(DAY_MS, hs1)
        hs1.tick()
    older, newer = hs1.errands(hs2)
    deliver(hs1, hs2, newer)
    deliver(hs1, hs2, older)
    found = hs2.link(hs1).their_statement
    assert found is not None
    assert (found.seq, found.state) == (newer.seq, StatementState.SAME)


@pytest.mark.parametrize("seed", range(6))
def test_honest_books_never_differ(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Payments both ways, asked, declined, lapsed and void, with objects that are lost, doubled and overtake."""
    monkeypatch.setattr(statements, "STATEMENT_EVERY", 4)
    chance = random.Random(seed)
    hs1, hs2 = make_pair()
    hs2.till.answers[hs2.user("carol")] = Ask(acct=acct_of(hs2.user("carol")), until_ms=100_000)
    hs1.open_link(hs2, 2_000)
    exchange(hs1, hs2)
    for _ in range(60):
        node, peer = (hs1, hs2) if chance.random() < 0.5 else (hs2, hs1)
        match chance.randrange(6):
            case 0 | 1:
                payer = node.user("alice" if node is hs1 else "bob")
                payee = peer.user(chance.choice(["bob", "carol"] if peer is hs2 else ["alice"]))
                node.pay(node.order(payer, payee, chance.randrange(1, 900)))
            case 2:
                node.tick()
            case 3:
                advance(chance.choice([2_000, 20_000, 700_000]), node)
            case 4:
                answer_all(node, yes=chance.random() < 0.7)
            case _:
                errands = list(node.errands(peer))
                chance.shuffle(errands)
                for errand in errands[: chance.randrange(1, 4)]:
                    send(chance, node, peer, errand)
    advance(DAY_MS, hs1, hs2)
    for _ in range(3):
        for node in (hs1, hs2):
            node.tick()
        exchange(hs1, hs2)
        advance(3_600_000, hs1, hs2)
    for node, peer in ((hs1, hs2), (hs2, hs1)):
        assert node.link(peer).evidence == {}
        assert state(node, peer) is StatementState.SAME
        assert said(node, peer) != []
        assert node.violations() == []


def answer_all(node: Node, *, yes: bool) -> None:
    def answer(cur: Cursor) -> None:
        for server, wire_id in node.asked_here(cur):
            node.answer(cur, server, wire_id, yes=yes)

    node.tx(answer)


def send(chance: random.Random, node: Node, peer: Node, errand: Errand) -> None:
    luck = chance.random()
    if luck < 0.2:
        node.failed(errand, Trouble.UNREACHABLE)
    elif luck < 0.5:
        # It arrived, and the answer was lost.
        peer.receive(node, errand.body)
        node.failed(errand, Trouble.UNREACHABLE)
    else:
        deliver(node, peer, errand)


def test_a_payment_that_became_void_and_whose_receipt_is_on_its_way_is_no_difference(pair: Pair) -> None:
    hs1, hs2 = pair
    pay(hs1, hs2)
    (offer,) = hs1.errands(hs2)
    accepted = hs2.receive(hs1, offer.body)
    assert isinstance(accepted, Received)
    # The reservation lapses, and the limit no longer allows it when the COMMIT comes.
    advance(rules.ACCEPT_VALID_MS, hs2)
    hs2.tick()
    hs2.open_link(hs1, 5)
    hs1.delivered(offer, accepted.objects)
    (commit,) = hs1.errands(hs2)
    assert isinstance(hs2.receive(hs1, commit.body), Received)
    hs1.failed(commit, Trouble.UNREACHABLE)
    hs2.open_link(hs1, 6)
    advance(DAY_MS, hs1)
    hs1.tick()
    statement = next(each for each in hs1.errands(hs2) if each.type is MessageType.STATEMENT)
    assert said(hs1, hs2) == [[position(due_to=500, unreceipted=500)]]
    deliver(hs1, hs2, statement)
    assert state(hs2, hs1) is StatementState.SAME
    exchange(hs1, hs2)
    assert (hs1.due_to(hs2), hs1.available(hs1.user("alice"))) == (0, 10_000)


# What a hostile or broken server says.


@pytest.mark.parametrize(
    ("positions", "differences"),
    [
        ([position(due_to=501)], [("EUR", "due_to", 501, 500)]),
        ([position(due_to=500, due_from=7)], [("EUR", "due_from", 7, 0)]),
        ([position(due_to=500, unreceipted=500)], [("EUR", "unreceipted", 500, 0)]),
        ([], [("EUR", "due_to", 0, 500)]),
        ([position(due_to=500), position(due_to=1, currency="PTS")], [("PTS", "due_to", 1, 0)]),
    ],
)
def test_a_difference_is_recorded_and_shown_and_moves_nothing(
    pair: Pair, positions: list[dict[str, Any]], differences: list[tuple[str, str, int, int]]
) -> None:
    hs1, hs2 = pair
    pay(hs1, hs2)
    exchange(hs1, hs2)
    before = (hs2.available(hs2.user("bob")), hs2.due_from(hs1), hs2.due_to(hs1))
    answer = hs2.receive(hs1, statement_of(hs1, hs2, *positions))
    assert isinstance(answer, Received)
    (alarm,) = answer.alarms
    assert alarm.kind is EvidenceKind.STATEMENT_DIFFERS
    for code, name, there, here in differences:
        assert f"{code} {name} {there} there and {here} here" in alarm.message
    assert state(hs2, hs1) is StatementState.DIFFERS
    assert hs2.link(hs1).evidence == {EvidenceKind.STATEMENT_DIFFERS: 1}
    assert hs2.link(hs1).phase is LinkPhase.OPEN
    assert (hs2.available(hs2.user("bob")), hs2.due_from(hs1), hs2.due_to(hs1)) == before
    (kept,) = hs2.tx(lambda cur: hs2.clearing.evidence(cur, hs1.name, 9))
    recorded = store.content_of(kept.first)["differences"]
    assert [(each["currency"], each["field"], each["said"], each["here"]) for each in recorded] == differences
    assert store.content_of(kept.second)["type"] == "STATEMENT"
    # And the next one may be right again.
    assert isinstance(hs2.receive(hs1, statement_of(hs1, hs2, position(due_to=500))), Received)
    assert state(hs2, hs1) is StatementState.SAME


def test_a_statement_with_a_false_seen_is_compared_with_nothing(pair: Pair) -> None:
    hs1, hs2 = pair
    seen = {"seq": 1, "hash": "A" * 43, "signature": "A" * 86}
    answer = hs2.receive(hs1, statement_of(hs1, hs2, position(due_to=9), seen=seen))
    assert isinstance(answer, Received)
    assert [alarm.kind for alarm in answer.alarms] == [EvidenceKind.FALSE_SEEN]
    assert state(hs2, hs1) is StatementState.NOT_COMPARED


def test_a_statement_of_long_ago_is_compared_with_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    hs1, hs2 = pair
    monkeypatch.setattr(statements, "MAX_LATER", 2)
    body = statement_of(hs1, hs2)
    for limit_minor in range(5, 9):
        hs2.open_link(hs1, limit_minor)
    assert isinstance(hs2.receive(hs1, body), Received)
    assert state(hs2, hs1) is StatementState.NOT_COMPARED


def test_so_many_differences_are_kept_and_no_more(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    hs1, hs2 = pair
    monkeypatch.setattr(statements, "MAX_LIES", 2)
    for wrong in range(1, 5):
        answer = hs2.receive(hs1, statement_of(hs1, hs2, position(due_to=wrong)))
        assert isinstance(answer, Received)
        assert len(answer.alarms) == 1
    assert hs2.link(hs1).evidence == {EvidenceKind.STATEMENT_DIFFERS: 2}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"positions": [{**position(), "due_to": -1}]}, Reason.INVALID_VALUE),
        ({"positions": [{**position(), "due_to": 2**53}]}, Reason.INVALID_VALUE),
        ({"positions": [{**position(), "due_from": True}]}, Reason.INVALID_VALUE),
        ({"positions": [{**position(), "reserved": "5"}]}, Reason.INVALID_VALUE),
        ({"positions": [position(currency="eur")]}, Reason.INVALID_VALUE),
        ({"positions": [position(), position()]}, Reason.INVALID_VALUE),
        ({"positions": [{**position(), "net": 5}]}, Reason.UNKNOWN_FIELD),
        ({"positions": [position(currency=f"A{number:02}") for number in range(65)]}, Reason.INVALID_VALUE),
        ({"positions": None}, Reason.INVALID_VALUE),
        ({"at": 5}, Reason.UNKNOWN_FIELD),
    ],
)
def test_a_malformed_statement_is_refused(pair: Pair, change: dict[str, Any], reason: Reason) -> None:
    hs1, hs2 = pair
    answer = hs2.receive(hs1, statement_of(hs1, hs2, **change))
    assert isinstance(answer, Refused)
    assert answer.reason is reason
    assert hs2.link(hs1).their_statement is None


def test_a_statement_is_signed_by_its_side(pair: Pair) -> None:
    hs1, hs2 = pair
    content = statement_of(hs1, hs2)["object"]
    unsigned = {name: value for name, value in content.items() if name not in ("key_id", "signature")}
    answer = hs2.receive(hs1, {"object": objects.seal(unsigned, hs2.key)})
    assert isinstance(answer, Refused)
    assert answer.reason is Reason.BAD_SIGNATURE


def test_a_currency_that_only_one_side_carries_is_stated_too(pair: Pair) -> None:
    hs1, hs2 = pair
    more = LinkTerms(peer=hs2.name, grants=(grant_of(9, PTS),))
    assert not isinstance(hs1.tx(lambda cur: hs1.clearing.open_link(cur, more, hs1.now_ms)), Refused)
    exchange(hs1, hs2)
    a_day(hs1, hs2)
    assert [each["currency"] for each in said(hs1, hs2)[0]] == [EUR.code, PTS.code]
    assert (state(hs1, hs2), state(hs2, hs1)) == (StatementState.SAME, StatementState.SAME)


def test_a_peer_that_grants_a_hundred_currencies_leaves_our_statement_readable(pair: Pair) -> None:
    hs1, hs2 = pair
    pay(hs1, hs2)
    exchange(hs1, hs2)
    for number in range(100):
        grant = {"currency": f"A{number:02}", "scale": 2, "limit": 1, "max_count": 1, "max_sum": 1}
        answer = hs1.receive(hs2, {"object": forge(hs2, hs1, MessageType.LIMIT, **grant)})
        assert not isinstance(answer, Refused)
    advance(DAY_MS, hs1)
    hs1.tick()
    assert said(hs1, hs2) == [[position(due_to=500)]]
    assert not isinstance(objects.read_object(hs1.chain(hs2)[-1]), Refused)
