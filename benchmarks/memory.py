"""Whether the homeserver's memory grows with the payments that it has made.

One homeserver with its own PostgreSQL; people pay one another in rooms through the API, several at a time. Resident
memory is looked at a hundred times, and the figure is the slope over the second half, when caches are full. Each look
is after the same number of payments, so Synapse's own growth counts too: what an order and its receipt cost as events.

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
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
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
        homeserver = stack.enter_context(
            LoneHomeserver(
                context.folder / "memory", loopback.free_ports(1), loopback.free_ports(1), _CONFIG, more=_MORE
            )
        )
        couples = _couples(stack, homeserver)
        pool = stack.enter_context(ThreadPoolExecutor(_COUPLES))
        paid: list[float] = []
        resident: list[float] = []
        began_s = time.monotonic()
        each = max(1, _PAYMENTS // (_LOOKS * _COUPLES))
        for look in range(1, _LOOKS + 1):
            list(pool.map(lambda couple: couple.pay(each), couples))
            paid.append(look * each * _COUPLES)
            resident.append(_resident_bytes(homeserver.process.pid))
            if look % 10 == 0:
                rate = paid[-1] / (time.monotonic() - began_s)
                context.say(
                    f"memory.payments: {paid[-1]:,.0f} payments, {resident[-1] / 2**20:.1f} MiB, {rate:.0f} payments/s"
                )
        checked = couples[0].admin.invariants()
        if not checked["ok"]:
            raise RuntimeError(f"the benchmark broke the books: {checked}")
    half = len(paid) // 2
    found = slope(paid[half:], resident[half:])
    context.say(
        f"memory.payments: {found.value:+.0f} ± {found.half_width:.0f} bytes per payment over the last"
        f" {paid[-1] - paid[half - 1]:,.0f}: {'not ' if found.least <= 0 else ''}distinguishable from growth"
    )
    yield Row(
        name="memory.payments",
        value=found.least,
        unit="bytes/payment at least",
        yardstick=None,
        yardstick_value=None,
        goal="<= 0",
        n=int(paid[-1]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Couple:
    """Two people with a room, who pay each other in turns."""

    clients: tuple[MatrixClient, MatrixClient]
    room: str
    admin: MatrixClient

    def pay(self, times: int) -> None:
        for number in range(times):
            payer, payee = self.clients[number % 2], self.clients[1 - number % 2]
            payment = payer.pay(payee.user_id, 1, _CURRENCY, room_id=self.room)
            if payment["state"] != "completed":
                payer.wait_for_payment(payment["payment_id"])


def _couples(stack: ExitStack, homeserver: LoneHomeserver) -> list[_Couple]:
    admin = stack.enter_context(homeserver.account("admin", admin=True))
    couples: list[_Couple] = []
    for number in range(_COUPLES):
        one, other = (stack.enter_context(homeserver.account(f"{name}{number}")) for name in ("payer", "payee"))
        for client in (one, other):
            admin.issue(client.user_id, 1_000_000, _CURRENCY, f"benchmark {client.user_id}")
        room = one.create_room(preset="private_chat", invite=[other.user_id], is_direct=True)
        other.join(room)
        couples.append(_Couple(clients=(one, other), room=room, admin=admin))
    return couples


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
