"""A hundred payments between two homeservers while one or the other is killed (SIGKILL), ten times, at any moment."""

import random
import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import Final

import pytest

from synapse_super_app.commands.demo_pair import CURRENCY, DemoPair
from synapse_super_app.commands.matrix_client import (
    FINAL_STATES,
    MatrixClient,
    MatrixError,
    UnreachableError,
)

_PAYMENTS_EACH_WAY: Final = 50
_KILLS: Final = 10
_OPENING_MINOR: Final = 100_00
_GIVE_UP_S: Final = 240.0


@dataclass
class _Payer:
    """Pays one person again and again, and asks again under the same id until it has an answer."""

    client: MatrixClient
    payee: str
    amounts: list[int]
    sent: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def pay_all(self) -> None:
        for amount in self.amounts:
            payment_id = secrets.token_hex(16)
            self.sent[payment_id] = amount
            self._pay(payment_id, amount)

    def _pay(self, payment_id: str, amount: int) -> None:
        give_up_s = time.monotonic() + _GIVE_UP_S
        while time.monotonic() < give_up_s:
            try:
                self.client.pay(self.payee, amount, CURRENCY, payment_id=payment_id)
                return
            except UnreachableError:
                time.sleep(0.1)  # its homeserver is down, or died while it answered
            except MatrixError as error:
                if error.status == 402:
                    self.refused[payment_id] = error.errcode
                    return
                if error.status not in (404, 429, 500, 502, 503, 504):
                    raise
                time.sleep(0.1)  # the payee's homeserver is down, so the payee cannot be resolved
        raise TimeoutError(f"payment {payment_id} got no answer within {_GIVE_UP_S:g} s")


@pytest.mark.timeout(600)
def test_nothing_is_lost_and_nothing_is_paid_twice(fresh_demo: DemoPair) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    pair = fresh_demo
    payers = [
        _Payer(
            client=pair.client(payer),
            payee=pair.people[payee].handle,
            amounts=[chance.randint(1, 99) for _ in range(_PAYMENTS_EACH_WAY)],
        )
        for payer, payee in (("alice", "bob"), ("bob", "alice"))
    ]
    threads = [threading.Thread(target=payer.pay_all, daemon=True) for payer in payers]
    for thread in threads:
        thread.start()
    for _ in range(_KILLS):
        victim = pair.sides[chance.randrange(2)]
        time.sleep(chance.uniform(0.2, 1.5))
        victim.process.kill()
        time.sleep(chance.uniform(0.0, 0.5))
        victim.process.start()
    for thread in threads:
        thread.join(_GIVE_UP_S)
        assert not thread.is_alive(), "a payer still waits for an answer"

    _every_payment_ends(payers)
    _the_books_tell_one_story(pair, payers)
    for payer in payers:
        payer.client.close()


def _every_payment_ends(payers: list[_Payer]) -> None:
    for payer in payers:
        assert len(payer.sent) == _PAYMENTS_EACH_WAY
        assert not payer.refused, "nobody spends more than they have here"
        for payment_id in payer.sent:
            payment = payer.client.wait_for_payment(payment_id, timeout_s=120)
            assert payment["state"] in FINAL_STATES
            assert payment["amount"] == payer.sent[payment_id]


def _the_books_tell_one_story(pair: DemoPair, payers: list[_Payer]) -> None:
    alice, bob = payers
    paid = [_completed_minor(payer, other) for payer, other in ((alice, bob), (bob, alice))]
    assert alice.client.available(CURRENCY) == _OPENING_MINOR - paid[0] + paid[1]
    assert bob.client.available(CURRENCY) == _OPENING_MINOR - paid[1] + paid[0]
    assert alice.client.wallet()[CURRENCY]["held"] == 0
    assert bob.client.wallet()[CURRENCY]["held"] == 0
    for admin in pair.admins:
        answer = admin.invariants()
        assert answer["ok"], answer


def _completed_minor(payer: _Payer, payee: _Payer) -> int:
    """What arrived. Both homeservers must say the same of each payment, and the payee may not know of others."""
    total = 0
    for payment_id, amount in payer.sent.items():
        here = payer.client.payment(payment_id)
        if here["state"] == "completed":
            there = payee.client.payment(payment_id, payer=payer.client.user_id)
            assert there["state"] == "completed"
            total += amount
            continue
        assert _state_at_payee(payer, payee, payment_id) != "completed"
    assert total > 0, "with two homeservers that come back, most payments arrive"
    return total


def _state_at_payee(payer: _Payer, payee: _Payer, payment_id: str) -> str | None:
    try:
        return str(payee.client.payment(payment_id, payer=payer.client.user_id)["state"])
    except MatrixError as error:
        if error.status == 404:
            return None
        raise
