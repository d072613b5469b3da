"""How long a payment takes beside a plain message on the same pair of federated homeservers.

They take turns, one by one. Before each the homeservers have time for what the one before has set off: the receipt of a
payment, and the assistant's line to the payee, which comes up to a second later.
"""

import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Final

from benchmarks.frame import Context, Row
from benchmarks.watch import Watch, message_ms
from super_app.db import Engine
from super_app.names import EventType
from synapse_super_app.commands import loopback
from synapse_super_app.commands.demo_pair import CURRENCY, PORTS, DemoPair
from synapse_super_app.commands.matrix_client import Json, MatrixClient

NAMES: Final = ("payment.local", "payment.federated")
_GOALS: Final = {"payment.local": "<= 2.2", "payment.federated": "<= 1.5"}
_ROUNDS: Final = 5
_EACH: Final = 8
_WARM_UP: Final = 4
_BALANCE_MINOR: Final = 1_000_000
_CALM_S: Final = 1.2


def run(context: Context) -> Iterator[Row]:
    pair = DemoPair(data=context.folder / "payment", port_base=loopback.free_ports(PORTS), engine=Engine.POSTGRESQL)
    with pair:
        alice = pair.client("alice")
        pair.admins[0].issue(alice.user_id, _BALANCE_MINOR, CURRENCY, "benchmark")
        if context.wants("payment.local"):
            dave = pair.client("dave")
            room = alice.create_room(preset="private_chat", invite=[dave.user_id], is_direct=True)
            dave.join(room)
            yield _measure(context, "payment.local", alice, dave, room, _until_receipt)
        if context.wants("payment.federated"):
            yield _measure(context, "payment.federated", alice, pair.client("bob"), pair.room_id, _until_credited)


def _measure(
    context: Context,
    name: str,
    payer: MatrixClient,
    payee: MatrixClient,
    room: str,
    pay: "Callable[[Watch, MatrixClient, str], float]",
) -> Row:
    watch = Watch(payee, room)
    context.say(f"{name}: {_ROUNDS} rounds of {_EACH} payments and {_EACH} messages in turns")
    messages: list[float] = []
    payments: list[float] = []
    for round_number in range(_ROUNDS + 1):
        each = _EACH if round_number else _WARM_UP
        texts: list[float] = []
        paid: list[float] = []
        for _ in range(each):
            time.sleep(_CALM_S)
            texts.append(message_ms(watch, payer, room))
            time.sleep(_CALM_S)
            paid.append(pay(watch, payer, room))
        if round_number:
            messages.append(statistics.median(texts))
            payments.append(statistics.median(paid))
    return Row(
        name=name,
        value=statistics.median(payments),
        unit="ms p50",
        yardstick="plain message to the payee's /sync",
        yardstick_value=statistics.median(messages),
        goal=_GOALS[name],
        n=_ROUNDS * _EACH,
    )


def _until_receipt(watch: Watch, payer: MatrixClient, room: str) -> float:
    """From the order, a plain room event, to its receipt in the payee's ``/sync``."""
    payment_id = secrets.token_hex(16)
    order = {"payment_id": payment_id, "payee": watch.client.user_id, "amount": 1, "currency": CURRENCY}
    began_s = time.perf_counter()
    payer.send(room, EventType.PAYMENT, order)
    watch.until(lambda event: _is_receipt_of(event, payment_id))
    return (time.perf_counter() - began_s) * 1000


def _until_credited(watch: Watch, payer: MatrixClient, room: str) -> float:
    """From the order to the answer that it is completed, which is later than the credit by the way back."""
    began_s = time.perf_counter()
    payment = payer.pay(watch.client.user_id, 1, CURRENCY, room_id=room)
    if payment["state"] != "completed":
        payer.wait_for_payment(payment["payment_id"])
    took_ms = (time.perf_counter() - began_s) * 1000
    watch.until(lambda event: _is_receipt_of(event, payment["payment_id"]))
    return took_ms


def _is_receipt_of(event: Json, payment_id: str) -> bool:
    return bool(event["type"] == EventType.PAYMENT_RECEIPT and event["content"].get("payment_id") == payment_id)
