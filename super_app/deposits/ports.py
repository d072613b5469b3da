"""What deposits ask of what surrounds them. All calls happen inside the transaction of the ledger's writer."""

from typing import Protocol

from super_app.db import Cursor
from super_app.errors import Refused
from super_app.ids import Acct, UserId
from super_app.money import Money


class Guards(Protocol):
    """Limits, the PIN and the lock. ``super_app.safeguards.service.Safeguards`` is one."""

    def judge_aside(
        self, cur: Cursor, acct: Acct, money: Money, payee: UserId | None, *, proven: bool, now_ms: int
    ) -> Refused | None: ...
