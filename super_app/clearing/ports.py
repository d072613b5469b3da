"""What clearing must ask of whoever owns payments. All calls happen inside clearing's transaction."""

from dataclasses import dataclass
from typing import Protocol

from super_app.clearing.model import OutState, WireId
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct, EventId, Handle, PaymentId, RoomId, ServerName, UserId
from super_app.ledger.model import HoldId
from super_app.money import Money

__all__ = ["Accept", "Ask", "Incoming", "Order", "Party", "Payee", "Payer", "WireId"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """One end of a payment as the opening names it. ``acct`` is empty for a payee whose server runs no directory."""

    user_id: UserId
    acct: str
    handle: Handle | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A payment to another homeserver. ``salts`` (payer, payee, memo) and ``wire_salt`` are 128 random bits as hex."""

    payment_id: PaymentId
    hold_id: HoldId
    payer: Party
    payee: Party
    money: Money
    memo: str | None
    room_id: RoomId | None
    event_id: EventId | None
    refund_of: PaymentId | None
    wire_salt: str
    salts: tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A payment that another homeserver offers, checked: its commitments open, and the payer is of ``from_server``."""

    wire_id: WireId
    from_server: ServerName
    payment_id: PaymentId
    payer: Party
    payee: Party
    money: Money
    memo: str | None
    room_id: RoomId | None
    event_id: EventId | None
    refund_of: PaymentId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept:
    """The payee takes it; credit goes to this account of ours."""

    acct: Acct


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """The payee is asked and has until ``until_ms`` to answer."""

    acct: Acct
    until_ms: int


class Payee(Protocol):
    """The payee's side. Reasons to refuse are among UNKNOWN_PAYEE, PAYEE_GONE, NOT_ALLOWED, PAYMENTS_HALTED, …"""

    def offered(self, cur: Cursor, incoming: Incoming, now_ms: int) -> Accept | Ask | Refused: ...

    def recalled(self, cur: Cursor, incoming: Incoming, now_ms: int) -> Acct | None:
        """We accepted it before a restore, and these books do not know it: note it, whatever we would say today.

        Gives the payee's account, None where there is none.
        """
        ...

    def restored_received(
        self, cur: Cursor, incoming: Incoming, reason: Reason | None, signed: dict[str, object] | None, now_ms: int
    ) -> None:
        """It had ended before a restore: without a reason credited, and ``signed`` is our RECEIPT. Nobody is told."""
        ...

    def credited(self, cur: Cursor, incoming: Incoming, signed: dict[str, object], now_ms: int) -> None:
        """The money is in the payee's account; ``signed`` is our RECEIPT(credited)."""
        ...

    def ended(self, cur: Cursor, incoming: Incoming, reason: Reason, now_ms: int) -> None:
        """It ended without credit: aborted by the payer's server, expired while the payee was asked, or void.

        A reservation that lapses has not ended: a late COMMIT may still be credited, and if not, this is called then.
        Not called after a refusal that ``offered`` or ``Clearing.refuse`` gave.
        """
        ...


class Payer(Protocol):
    """The payer's side."""

    def asked(self, cur: Cursor, payer: Acct, payment_id: PaymentId, until_ms: int, now_ms: int) -> None: ...

    def committed(self, cur: Cursor, payer: Acct, payment_id: PaymentId, now_ms: int) -> None: ...

    def completed(
        self, cur: Cursor, payer: Acct, payment_id: PaymentId, signed: dict[str, object], now_ms: int
    ) -> None:
        """The peer's RECEIPT(credited) arrived: ``signed``."""
        ...

    def restored_sent(
        self,
        cur: Cursor,
        order: Order,
        state: OutState,
        reason: Reason | None,
        signed: dict[str, object] | None,
        now_ms: int,
    ) -> None:
        """It was decided before a restore, and these books may not know it at all. Nobody is told.

        ``signed`` is the peer's RECEIPT(credited).
        """
        ...

    def failed(self, cur: Cursor, payer: Acct, payment_id: PaymentId, reason: Reason, now_ms: int) -> None:
        """It ended without credit and the money is back in ``available``: our ABORT, or RECEIPT(void).

        Called for every such end, also from inside ``Clearing.cancel``.
        """
        ...
