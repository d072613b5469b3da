"""What goes wrong in a run, and how often: drawn from its seed, or fixed by a test."""

import random
from dataclasses import dataclass, replace
from typing import Final

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Chances are between 0 and 1, each for the thing that it names."""

    homeservers: int
    payments: int
    limit_minor: int
    loss: float
    doubling: float
    crash: float
    sever: float
    """That the two sides of a payment are cut apart while it is under way."""
    clock_jumps: int
    skewed: bool = False
    """Whether clocks start up to a day apart."""
    paying: bool = False
    """Whether the real payments service stands above clearing, with rooms, a follower and a reconciler."""
    hostile: int = 0
    """How many of the homeservers, the last ones, are against everybody else."""
    moves: int = 0
    """How often each of these does something of its own accord; it also lies when it answers."""
    restores: int = 0
    lying_disks: int = 0
    """How many of the honest homeservers may lose what they committed last when they crash."""
    rerun: float = 0.0
    """That the database makes a transaction run twice."""
    cautious: float = 0.3
    """That the payee's operator lowers the limit while they are apart."""
    ask: float = 0.2
    refuse: float = 0.05
    cancel: float = 0.1
    local: float = 0.0
    """That payer and payee are of one homeserver."""
    repeat: float = 0.0
    """That a client sends the same order again, as another event."""
    eventless: float = 0.0
    """That the event of an order never comes to exist."""
    refund: float = 0.0
    """That somebody who was paid gives some of it back."""
    batches: int = 0
    """Batches of transfers that each homeserver posts, as the ledger's writer does."""
    stands: int = 0
    """How often an operator suspends or closes a link."""
    lowers: int = 0
    """How often an operator changes a limit, mostly to less than is used."""
    settlements: int = 0
    """How often an operator proposes to settle; the others look at what is proposed as often."""
    renewals: int = 0
    """How often a homeserver gets another payment key."""
    span_ms: int = HOUR_MS
    repins: int = 0
    """How often operators pin the payment keys of a link anew, mostly because a key was lost."""
    fences: bool = False
    """Whether those who are against everybody open new epochs as they like."""
    advances: int = 0
    """How often an operator gives a payer the money of a payment back that has not ended."""
    false_lists: bool = False
    """Whether those who are against everybody answer a FENCE with what they do not hold, or without what they do."""


def draw_plan(random_: random.Random) -> Plan:
    """Everything that can go wrong, in all combinations."""
    plan = _draw(random_)
    # Drawn apart, so that they leave the runs of which they are no part as they are.
    apart = random.Random(str(plan))
    can_repin = plan.homeservers - plan.hostile > 1 and plan.restores == plan.lying_disks == 0
    return replace(
        plan,
        repins=apart.choice((0, 0, 1, 2)) if can_repin else 0,
        fences=plan.hostile > 0 and apart.random() < 0.3,
    )


def _draw(random_: random.Random) -> Plan:
    calm = random_.random() < 0.15
    hostile = random_.choice((0, 0, 0, 1, 1, 2))
    paying = random_.random() < 0.5
    homeservers = max(random_.choice((2, 2, 2, 3, 3, 4, 6, 8)), 2 if hostile == 0 else hostile + 1)
    return Plan(
        homeservers=homeservers,
        payments=random_.randint(4, 10 + 2 * homeservers),
        limit_minor=random_.choice((600, 1_500, 100_000)),
        loss=0.0 if calm else random_.choice((0.02, 0.1, 0.3)),
        doubling=random_.choice((0.0, 0.1, 0.3)),
        crash=0.0 if calm else random_.choice((0.0, 0.01, 0.04)),
        sever=0.0 if calm else random_.choice((0.0, 0.1, 0.4)),
        clock_jumps=random_.choice((0, 0, 1, 3)),
        skewed=random_.random() < 0.5,
        paying=paying,
        hostile=hostile,
        moves=random_.choice((4, 12, 30)),
        restores=random_.choice((0, 0, 0, 0, 1)),
        lying_disks=random_.choice((0, 0, 0, 0, 1)),
        rerun=random_.choice((0.0, 0.1)),
        local=0.2 if paying else 0.0,
        repeat=0.2 if paying else 0.0,
        eventless=0.1 if paying else 0.0,
        refund=random_.choice((0.0, 0.5)) if paying else 0.0,
        batches=random_.choice((0, 2)),
        stands=random_.choice((0, 0, 1, 3)),
        lowers=random_.randint(0, 2),
        settlements=random_.choice((0, 4, 10)),
        renewals=random_.choice((0, 0, 1)),
        span_ms=random_.choice((2 * MINUTE_MS, 20 * MINUTE_MS, 3 * HOUR_MS)),
    )
