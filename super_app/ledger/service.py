"""The ledger's operations. Each runs inside the caller's transaction, which the one ledger writer opened.

The writer holds the lease row, so no two transactions decide at once. A refusal has written nothing.
"""

from collections.abc import Sequence

from super_app.db import Cursor
from super_app.errors import Refused
from super_app.ids import Acct
from super_app.ledger.model import AccountKey, Balance, Cause, Hold, HoldId, Posted, Transfer, Violation
from super_app.money import Money


def transfer(cur: Cursor, order: Transfer, now_ms: int) -> Posted | Refused:
    """Post one transfer. Refusals: INSUFFICIENT_FUNDS (``available``), CONFLICT (id exists with another body)."""
    raise NotImplementedError


def transfer_many(cur: Cursor, orders: Sequence[Transfer], now_ms: int) -> list[Posted | Refused]:
    """Post many, in order, each with its own verdict; a constant number of statements whatever their number."""
    raise NotImplementedError


def place_hold(cur: Cursor, hold_id: HoldId, owner: Acct, money: Money, now_ms: int) -> Hold | Refused:
    """available -> held. The same hold again gives it as it now is; with another owner or amount CONFLICT."""
    raise NotImplementedError


def post_hold(
    cur: Cursor, hold_id: HoldId, *, credit: AccountKey, cause: Cause, reference: str, now_ms: int
) -> Posted | Refused:
    """held -> ``credit``, the whole of it. ALREADY_DECIDED if the hold was voided or posted elsewhere."""
    raise NotImplementedError


def void_hold(cur: Cursor, hold_id: HoldId, now_ms: int) -> Hold | Refused:
    """held -> available. ALREADY_DECIDED if it was posted; voiding again changes nothing."""
    raise NotImplementedError


def balance(cur: Cursor, key: AccountKey) -> int:
    """Minor units; 0 for an account that no transfer has touched."""
    raise NotImplementedError


def wallet(cur: Cursor, owner: Acct) -> tuple[Balance, ...]:
    """The currencies that an owner has ever had, by code."""
    raise NotImplementedError


def violations(cur: Cursor) -> tuple[Violation, ...]:
    """I1, I2 and I6 of clearing.md, checked over the whole ledger."""
    raise NotImplementedError
