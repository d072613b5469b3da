"""Whether the homeserver's memory grows with the payments that it has made.

Two homeservers, each with its own PostgreSQL and with small caches that are soon full. On one, people pay one another
in rooms through the API, several at a time. On the other, which runs without our module, as many people write two
messages for each payment, since a payment is two events, an order and a receipt; they send them without a transaction
id, because Synapse remembers each of those for half an hour. Anonymous memory of both is looked at a hundred times,
after the same number of steps, and the figure is the slope of the difference over the second half, when caches are
full: what payments leave behind beyond what Synapse leaves of two messages. The slopes of both are printed too.

The difference is what counts, since Synapse's own growth is no less: what both still gain when their caches are full
was the same, some 60 bytes a step, in pages of the allocator that are touched for the first time.

``PAYMENT_MEMORY_PAYMENTS`` in the environment sets the number of payments. The goal of the design is about 100 000,
which takes hours; the usual number shows a leak of some hundred bytes per payment.
"""

import math
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.frame import Context, Row
from benchmarks.homeservers import LoneHomeserver
from synapse_super_app.commands import loopback
from synapse_super_app.commands.matrix_client import MatrixClient

NAMES: Final = ("memory.payments",)
_PAYMENTS: Final = int(os.environ.get("PAYMENT_MEMORY_PAYMENTS", "4000"))
_LOOKS: Final = 100
_COUPLES: Final = 8
_CURRENCY: Final = "PTS"
_CONFIG: Final[dict[str, Any]] = {"payments": {"mode": "credits", "assets": [{"code": _CURRENCY, "scale": 0}]}}
_MORE: Final[dict[str, Any]] = {
    # Full well before the half of a short run, so that what still grows then is no cache.
    "event_cache_size": 200,
    "caches": {"global_factor": 0.02},
}
_KIB: Final = 1024
_CONFIDENCE: Final = 1.96
"""Standard errors to either side for 95 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """By how much ``y`` rises per unit of ``x``, and the half width of its 95 % confidence interval."""

    value: float
    half_width: float

    @property
    def least(self) -> float:
        return self.value - self.half_width


def slope(xs: Sequence[float], ys: Sequence[float]) -> Slope:
    """Least squares, with the standard error of Newey and West (1987), since memory wanders and does not jitter."""
    middle_x, middle_y = statistics.fmean(xs), statistics.fmean(ys)
    spread = sum((x - middle_x) ** 2 for x in xs)
    value = sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True)) / spread
    moments = [(x - middle_x) * (y - middle_y - value * (x - middle_x)) for x, y in zip(xs, ys, strict=True)]
    lags = math.ceil(4 * (len(xs) / 100) ** (2 / 9)) + 4
    variance = sum(moment**2 for moment in moments)
    for lag in range(1, min(lags, len(xs) - 1) + 1):
        together = sum(moments[place] * moments[place - lag] for place in range(lag, len(moments)))
        variance += 2 * (1 - lag / (lags + 1)) * together
    return Slope(value=value, half_width=_CONFIDENCE * math.sqrt(max(0.0, variance)) / spread)


def run(context: Context) -> Iterator[Row]:
    with ExitStack() as stack:
        paying = _start(stack, context, "paying", _CONFIG)
        writing = _start(stack, context, "writing", None)
        payers, writers = _payers(stack, paying), _couples(stack, writing)
        pool = stack.enter_context(ThreadPoolExecutor(_COUPLES))
        done: list[float] = []
        anonymous: dict[str, list[float]] = {"payments": [], "messages": []}
        began_s = time.monotonic()
        each = max(1, _PAYMENTS // (_LOOKS * _COUPLES))
        for look in range(1, _LOOKS + 1):
            list(pool.map(lambda couple: couple.pay(each), payers))
            list(pool.map(lambda couple: couple.write(2 * each), writers))
            done.append(look * each * _COUPLES)
            for name, homeserver in (("payments", paying), ("messages", writing)):
                anonymous[name].append(_anonymous_bytes(homeserver.process.pid))
            if look % 10 == 0:
                rate = done[-1] / (time.monotonic() - began_s)
                mib = ", ".join(f"{name} {seen[-1] / 2**20:.1f} MiB" for name, seen in anonymous.items())
                context.say(f"memory.payments: {done[-1]:,.0f} payments, {mib}, {rate:.0f} payments/s")
        checked = payers[0].admin.invariants()
        if not checked["ok"]:
            raise RuntimeError(f"the benchmark broke the books: {checked}")
    half = len(done) // 2
    for name, seen in anonymous.items():
        own = slope(done[half:], seen[half:])
        context.say(f"memory.payments: {name}: {own.value:+.0f} ± {own.half_width:.0f} bytes per step")
    beyond = [mine - theirs for mine, theirs in zip(*anonymous.values(), strict=True)]
    found = slope(done[half:], beyond[half:])
    context.say(
        f"memory.payments: {found.value:+.0f} ± {found.half_width:.0f} bytes per payment beyond two messages, over"
        f" the last {done[-1] - done[half - 1]:,.0f}: {'not ' if found.least <= 0 else ''}distinguishable from growth"
    )
    yield Row(
        name="memory.payments",
        value=found.least,
        unit="bytes/payment at least",
        yardstick=None,
        yardstick_value=None,
        goal="<= 0",
        n=int(done[-1]),
    )


def _start(stack: ExitStack, context: Context, name: str, module_config: dict[str, Any] | None) -> LoneHomeserver:
    return stack.enter_context(
        LoneHomeserver(
            context.folder / f"memory-{name}",
            loopback.free_ports(1),
            loopback.free_ports(1),
            module_config,
            more=_MORE,
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Couple:
    """Two people with a room, who pay each other, or write, in turns."""

    clients: tuple[MatrixClient, MatrixClient]
    room: str
    admin: MatrixClient

    def pay(self, times: int) -> None:
        for number in range(times):
            payer, payee = self.clients[number % 2], self.clients[1 - number % 2]
            payment = payer.pay(payee.user_id, 1, _CURRENCY, room_id=self.room)
            if payment["state"] != "completed":
                payer.wait_for_payment(payment["payment_id"])

    def write(self, times: int) -> None:
        for number in range(times):
            message = {"msgtype": "m.text", "body": f"message {number}"}
            self.clients[number % 2].request(
                "POST", f"/_matrix/client/v3/rooms/{self.room}/send/m.room.message", message
            )


def _couples(stack: ExitStack, homeserver: LoneHomeserver) -> list[_Couple]:
    admin = stack.enter_context(homeserver.account("admin", admin=True))
    couples: list[_Couple] = []
    for number in range(_COUPLES):
        one, other = (stack.enter_context(homeserver.account(f"{name}{number}")) for name in ("payer", "payee"))
        room = one.create_room(preset="private_chat", invite=[other.user_id], is_direct=True)
        other.join(room)
        couples.append(_Couple(clients=(one, other), room=room, admin=admin))
    return couples


def _payers(stack: ExitStack, homeserver: LoneHomeserver) -> list[_Couple]:
    """Couples with money."""
    couples = _couples(stack, homeserver)
    for couple in couples:
        for client in couple.clients:
            couple.admin.issue(client.user_id, 1_000_000, _CURRENCY, f"benchmark {client.user_id}")
    return couples


def _anonymous_bytes(pid: int) -> int:
    """Resident memory that is no file: the first use of code counts there as well."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("RssAnon:")[2].split()[0]) * _KIB
