"""People who pay again and again while things break around them, and what must be true in the end."""

import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from synapse_super_app.commands.demo_pair import CURRENCY
from synapse_super_app.commands.matrix_client import FINAL_STATES, MatrixClient, MatrixError, UnreachableError

OPENING_MINOR: Final = 100_00
GIVE_UP_S: Final = 240.0


@dataclass
class SteadyPayer:
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
        give_up_s = time.monotonic() + GIVE_UP_S
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
        raise TimeoutError(f"payment {payment_id} got no answer within {GIVE_UP_S:g} s")


class AtOnce:
    """All of them pay, each on a thread of its own, until the block has ended and everybody is answered."""

    def __init__(self, payers: Sequence[SteadyPayer]) -> None:
        self._threads = [threading.Thread(target=payer.pay_all, daemon=True) for payer in payers]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, kind: object, *_: object) -> None:
        for thread in self._threads:
            thread.join(GIVE_UP_S)
            assert kind is not None or not thread.is_alive(), "a payer still waits for an answer"


def every_payment_ends(payers: Sequence[SteadyPayer]) -> None:
    for payer in payers:
        assert len(payer.sent) == len(payer.amounts)
        assert not payer.refused, "nobody spends more than they have here"
        for payment_id in payer.sent:
            payment = payer.client.wait_for_payment(payment_id, timeout_s=120)
            assert payment["state"] in FINAL_STATES
            assert payment["amount"] == payer.sent[payment_id]


def the_books_tell_one_story(
    payers: Sequence[SteadyPayer], handles: Mapping[str, MatrixClient], admins: Sequence[MatrixClient]
) -> None:
    """``handles`` are all people concerned, who had ``OPENING_MINOR`` each and pay in no other way."""
    expected = dict.fromkeys(handles, OPENING_MINOR)
    by_user = {client.user_id: handle for handle, client in handles.items()}
    for payer in payers:
        arrived = _completed_minor(payer, handles[payer.payee])
        expected[by_user[payer.client.user_id]] -= arrived
        expected[payer.payee] += arrived
    for handle, client in handles.items():
        assert client.wallet()[CURRENCY]["held"] == 0
        assert client.available(CURRENCY) == expected[handle], handle
    for admin in admins:
        answer = admin.invariants()
        assert answer["ok"], answer


def _completed_minor(payer: SteadyPayer, payee: MatrixClient) -> int:
    """What arrived. Both homeservers must say the same of each payment, and the payee may not know of others."""
    total = 0
    for payment_id, amount in payer.sent.items():
        here = payer.client.payment(payment_id)
        if here["state"] == "completed":
            there = payee.payment(payment_id, payer=payer.client.user_id)
            assert there["state"] == "completed"
            total += amount
            continue
        assert _state_at_payee(payer, payee, payment_id) != "completed"
    assert total > 0, "with homeservers that come back, most payments arrive"
    return total


def _state_at_payee(payer: SteadyPayer, payee: MatrixClient, payment_id: str) -> str | None:
    try:
        return str(payee.payment(payment_id, payer=payer.client.user_id)["state"])
    except MatrixError as error:
        if error.status == 404:
            return None
        raise
