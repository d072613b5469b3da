"""What pots ask of what surrounds them. All calls happen inside the transaction of the ledger's writer."""

from typing import Protocol

from super_app.db import Cursor
from super_app.errors import Refused
from super_app.ids import Acct, RoomId, UserId
from super_app.money import Money


class Members(Protocol):
    """Who is in a room of this homeserver, wherever they are from."""

    def is_member(self, cur: Cursor, user_id: UserId, room_id: RoomId) -> bool: ...

    def blocks(self, cur: Cursor, resident: UserId, other: UserId) -> bool:
        """Whether a resident wants nothing of somebody."""
        ...


class Guards(Protocol):
    """Limits, the PIN and the lock. ``super_app.safeguards.service.Safeguards`` is one."""

    def judge_aside(
        self, cur: Cursor, acct: Acct, money: Money, payee: UserId | None, *, proven: bool, now_ms: int
    ) -> Refused | None: ...
