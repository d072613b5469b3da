"""Whatever people and operators do, and in whatever order objects arrive: no money is made or lost by settling."""

from typing import Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nodes import EUR, Node, advance, deliver, exchange, linked
from settling import act, choose, issued, moving, propose, sound
from world import new_disk

from super_app.clearing import settlement_store
from super_app.clearing.settlement_model import SettlementState, Way
from super_app.errors import Refused

HOUR_MS: Final = 3_600_000
FUNDS_MINOR: Final = 5_000
ACTS: Final = ("agree", "refuse", "cancel", "sent", "received", "not_received")

_side = st.integers(0, 1)
_minor = st.integers(1, 3_000)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("pay"), _side, _minor),
        st.tuples(st.just("propose"), _side, st.one_of(st.none(), _minor)),
        st.tuples(st.sampled_from(ACTS), _side, st.integers(0, 20), st.one_of(st.none(), _minor)),
        st.tuples(st.just("run"), _side, _minor, st.integers(0, 3), st.one_of(st.none(), _minor)),
        st.tuples(st.just("terms"), _side, _minor),
        st.tuples(st.just("deliver"), _side, st.integers(0, 20)),
        st.tuples(st.just("exchange")),
        st.tuples(st.just("time"), st.sampled_from([1, 30, 200])),
    ),
    min_size=1,
    max_size=25,
)


class Play:
    """Two linked homeservers, each with a person who has 50.00 EUR."""

    def __init__(self) -> None:
        self.nodes = (Node("hs1.test", new_disk()), Node("hs2.test", new_disk()))
        for node in self.nodes:
            node.create()
        linked(*self.nodes, 4_000)
        for node in self.nodes:
            node.issue(node.user("ann"), FUNDS_MINOR)

    def step(self, step: tuple[object, ...]) -> None:
        match step:
            case ("pay", int(side), int(minor)):
                node, peer = self._from(side)
                node.pay(node.order(node.user("ann"), peer.user("ann"), minor))
            case ("propose", int(side), None | int() as minor):
                propose(*self._from(side), minor)
            case ("run", int(side), int(minor), int(far), None | int() as arrived):
                self._run(side, minor, far, arrived)
            case ("terms", int(side), int(minor)):
                choose(*self._from(side), threshold_minor=minor, agree_up_to_minor=minor)
            case ("deliver", int(side), int(number)):
                node, peer = self._from(side)
                errands = node.errands(peer)
                if errands:
                    deliver(node, peer, errands[number % len(errands)])
            case ("exchange",):
                exchange(*self.nodes)
            case ("time", int(hours)):
                advance(hours * HOUR_MS, *self.nodes)
                for node in self.nodes:
                    node.tick()
            case (str(name), int(side), int(number), None | int() as minor):
                self._act(name, side, number, minor)
            case _:
                raise AssertionError(f"no such step: {step}")

    def _act(self, name: str, side: int, number: int, minor: int | None) -> None:
        node, peer = self._from(side)
        known = node.tx(lambda cur: settlement_store.newest(cur, None, 100))
        if known:
            chosen = known[number % len(known)]
            more = (minor,) if name == "received" else ()
            outcome = act(node, peer, name, chosen, *more)
            # Nobody can say what the other side has to say.
            assert isinstance(outcome, Refused) or outcome.way is (Way.OUT if name in ("cancel", "sent") else Way.IN)

    def _run(self, side: int, minor: int, far: int, arrived: int | None) -> None:
        """A debt, and a settlement of it, so far as is asked."""
        node, peer = self._from(side)
        node.pay(node.order(node.user("ann"), peer.user("ann"), minor))
        exchange(node, peer)
        known = propose(node, peer, minor)
        exchange(node, peer)
        if isinstance(known, Refused):
            return
        acts = ((peer, node, "agree"), (node, peer, "sent"), (peer, node, "received" if arrived else "not_received"))
        for one, other, name in acts[:far]:
            more = (min(arrived or 0, minor),) if name == "received" else ()
            act(one, other, name, known, *more)
            exchange(one, other)

    def check(self) -> None:
        sound(*self.nodes)
        one, other = self.nodes
        people = sum(sum(node.wallet(node.user("ann"), EUR)) for node in self.nodes)
        between = sum(
            node.due_to(peer) + moving(node, peer) - node.due_from(peer) for node, peer in ((one, other), (other, one))
        )
        assert people + between == issued(one) + issued(other)

    def end(self) -> None:
        """Everybody says what there is to say, and nothing is in transit any more."""
        for _ in range(2):
            exchange(*self.nodes)
            for node, peer in (self.nodes, self.nodes[::-1]):
                choose(node, peer)
                for each in node.tx(lambda cur: settlement_store.newest(cur, None, 100)):
                    if each.way is Way.IN and each.state in (SettlementState.SENT, SettlementState.DISPUTED):
                        act(node, peer, "received", each)
            exchange(*self.nodes)
        for node, peer in (self.nodes, self.nodes[::-1]):
            assert moving(node, peer) == 0
            assert node.due_to(peer) == peer.due_from(node)
            people = sum(node.wallet(node.user("ann"), EUR))
            assert people + node.due_to(peer) - node.due_from(peer) == issued(node)

    def _from(self, side: int) -> tuple[Node, Node]:
        return self.nodes[side], self.nodes[1 - side]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_steps)
def test_settling_makes_and_loses_no_money(steps: list[tuple[object, ...]]) -> None:
    play = Play()
    for step in steps:
        play.step(step)
        play.check()
    play.end()
    play.check()
