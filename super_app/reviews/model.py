"""A payment that waits for the operator: why, since when, and what was decided."""

from dataclasses import dataclass
from enum import StrEnum

from super_app.payments.model import Payment


class ReviewState(StrEnum):
    OPEN = "open"
    RELEASED = "released"
    DENIED = "denied"


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """``matched`` is the entry of the list that was found in the payment. ``payment`` as it now is."""

    payment: Payment
    matched: str
    state: ReviewState
    noted_ms: int
    operator: str | None = None
    reason: str | None = None
    decided_ms: int | None = None
