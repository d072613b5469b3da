"""Two homeservers that pay each other, lose requests and run on old backups: nobody's money is lost or doubled.

Every seed is another history. What is checked after each of them: the invariants on both sides, that both books mirror
each other, that nothing stays held, and that every payment ended for both sides alike.
"""

from random import Random

import pytest
from nodes import Node, advance, deliver, exchange, linked
from restores import backup, restore, suspense
from world import new_disk

from super_app.clearing import rules
from super_app.clearing.model import LinkPhase, Trouble
from super_app.errors import Refused

SEEDS = 10
PEOPLE = ("ann", "ben")


def make_pair() -> tuple[Node, Node]:
    hs1, hs2 = Node("hs1.test", new_disk()), Node("hs2.test", new_disk())
    for node in (hs1, hs2):
        node.create()
    linked(hs1, hs2)
    for node in (hs1, hs2):
        for person in PEOPLE:
            node.issue(node.user(person), 100_000)
    return hs1, hs2


def some_traffic(random: Random, hs1: Node, hs2: Node, steps: int) -> None:
    """Payments both ways, over a path on which requests and answers are lost."""
    for _ in range(steps):
        sender, receiver = random.choice([(hs1, hs2), (hs2, hs1)])
        match random.randrange(5):
            case 0:
                payer, amount_minor = sender.user(random.choice(PEOPLE)), random.randint(1, 99)
                sender.pay(sender.order(payer, receiver.user("ann"), amount_minor))
            case 1 if random.random() < 0.2:
                advance(random.choice([1_000, 20_000, 700_000]), hs1, hs2)
                hs1.tick()
                hs2.tick()
            case _:
                for errand in sender.errands(receiver)[:2]:
                    match random.randrange(8):
                        case 0:
                            sender.failed(errand, Trouble.UNREACHABLE)
                        case 1:
                            receiver.receive(sender, errand.body)
                            sender.failed(errand, Trouble.UNREACHABLE)
                        case _:
                            deliver(sender, receiver, errand)


def come_to_rest(hs1: Node, hs2: Node) -> None:
    for _ in range(6):
        exchange(hs1, hs2, rounds=400)
        for node in (hs1, hs2):
            node.tick()
        advance(rules.RETRY_MS[-1], hs1, hs2)
    exchange(hs1, hs2, rounds=400)


def finish(hs1: Node, hs2: Node) -> None:
    """Until neither is on its way back any more."""
    for _ in range(200):
        if LinkPhase.RECOVERING not in (hs1.link(hs2).phase, hs2.link(hs1).phase):
            return
        for sender, receiver in ((hs1, hs2), (hs2, hs1)):
            for errand in sender.errands(receiver)[:1]:
                deliver(sender, receiver, errand)
        advance(rules.RETRY_MS[0], hs1, hs2)
    raise AssertionError("a link does not come back")


def check(hs1: Node, hs2: Node) -> None:
    for node, peer in ((hs1, hs2), (hs2, hs1)):
        assert node.violations() == []
        assert node.link(peer).phase is LinkPhase.OPEN, node.link(peer)
        assert node.due_to(peer) == peer.due_from(node)
        assert node.tx(node.undone) == []
        assert [node.held(node.user(person)) for person in PEOPLE] == [0, 0]
        total = sum(node.available(node.user(person)) for person in PEOPLE)
        assert total + node.due_to(peer) - node.due_from(peer) + suspense(node) == 200_000


def come_and_go(seed: int, *, one_at_a_time: bool) -> tuple[Node, Node]:
    """Some payments, and some restores of one or both; whether each waits until the other has come back."""
    random = Random(seed)
    hs1, hs2 = make_pair()
    some_traffic(random, hs1, hs2, random.randint(0, 40))
    copies = {node.name: [backup(node)] for node in (hs1, hs2)}
    for number in range(random.randint(1, 3)):
        some_traffic(random, hs1, hs2, random.randint(1, 60))
        for node in random.choice([(hs1,), (hs2,), (hs1, hs2)]):
            # What was copied after the copy that now runs is of a life that was given up.
            chosen = random.randrange(len(copies[node.name]))
            del copies[node.name][chosen + 1 :]
            restore(node, copies[node.name][chosen], boot=f"{node.name} {number}")
        some_traffic(random, hs1, hs2, random.choice([0, 3, 20, 200]))
        if one_at_a_time and number < 2:
            finish(hs1, hs2)
        for node in (hs1, hs2):
            copies[node.name].append(backup(node))
    come_to_rest(hs1, hs2)
    check(hs1, hs2)
    return hs1, hs2


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nobodys_money_is_lost_or_doubled_by_a_restore(seed: int) -> None:
    hs1, hs2 = come_and_go(seed, one_at_a_time=True)
    # And it goes on.
    before = hs2.available(hs2.user("ann"))
    assert not isinstance(hs1.pay(hs1.order(hs1.user("ann"), hs2.user("ann"), 7)), Refused)
    come_to_rest(hs1, hs2)
    assert hs2.available(hs2.user("ann")) == before + 7
    check(hs1, hs2)


@pytest.mark.parametrize("seed", [88, 120, 151, 241])
def test_a_restore_while_the_peer_still_recovers_ends_well(seed: int) -> None:
    """Each of these seeds had once ended halted, stuck, or with an answer that nobody could take."""
    come_and_go(seed, one_at_a_time=False)
