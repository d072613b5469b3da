"""Forty payments between two homeservers while one or the other is killed (SIGKILL), four times, at any moment."""

import random
import secrets
import time
from typing import Final

import pytest
from steady_payers import AtOnce, SteadyPayer, every_payment_ends, the_books_tell_one_story

from synapse_super_app.commands.demo_pair import DemoPair

_PAYMENTS_EACH_WAY: Final = 20
_KILLS: Final = 4


@pytest.mark.on("postgresql")
@pytest.mark.timeout(600)
def test_nothing_is_lost_and_nothing_is_paid_twice(fresh_demo: DemoPair) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    pair = fresh_demo
    payers = [
        SteadyPayer(
            client=pair.client(payer),
            payee=pair.people[payee].handle,
            amounts=[chance.randint(1, 99) for _ in range(_PAYMENTS_EACH_WAY)],
        )
        for payer, payee in (("alice", "bob"), ("bob", "alice"))
    ]
    with AtOnce(payers):
        for _ in range(_KILLS):
            victim = pair.sides[chance.randrange(2)]
            time.sleep(chance.uniform(0.2, 1.5))
            victim.process.kill()
            time.sleep(chance.uniform(0.0, 0.5))
            victim.process.start()

    every_payment_ends(payers)
    people = {pair.people[name].handle: payer.client for name, payer in zip(("alice", "bob"), payers, strict=True)}
    the_books_tell_one_story(payers, people, pair.admins)
    for payer in payers:
        payer.client.close()
