"""What payments ask of what surrounds them. All calls happen inside the transaction of the ledger's writer."""

from dataclasses import dataclass
from typing import Protocol

from super_app.clearing.ports import Order as ClearingOrder
from super_app.clearing.ports import WireId
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import Acct, Handle, PaymentId, RoomId, ServerName, UserId
from super_app.money import Money
from super_app.payments.model import Order, Payment, PaymentKey, Receipt, Venue


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A user of this homeserver. ``policy`` is the content of their payment policy, as they wrote it, or None."""

    user_id: UserId
    deactivated: bool
    policy: object
    moved_to: Handle | None = None
    """Where they are now, if they moved to another homeserver."""


class Homeserver(Protocol):
    """What the homeserver knows of its users and rooms."""

    def resident(self, cur: Cursor, user_id: UserId) -> Resident | None: ...

    def share_a_room(self, cur: Cursor, resident: UserId, other: UserId) -> bool:
        """Whether both are joined to some room."""
        ...

    def blocks(self, cur: Cursor, resident: UserId, other: UserId) -> bool:
        """Whether a resident wants nothing of somebody."""
        ...

    def is_joined(self, cur: Cursor, resident: UserId, room_id: RoomId) -> bool: ...

    def payments_are_halted(self) -> bool:
        """The operator's kill switch: holds stay and what has begun ends, nothing new starts."""
        ...


class Guards(Protocol):
    """What keeps a person's money from leaving too fast, or in others' hands. ``super_app.safeguards`` is one."""

    def judge_order(self, cur: Cursor, order: Order, *, proven: bool, now_ms: int) -> Refused | None:
        """Whether the payer may send it; ``proven`` says that the right PIN came with the order."""
        ...

    def judge_receiving(self, cur: Cursor, payee: Acct, money: Money, now_ms: int) -> Refused | None:
        """Whether the payee may have that much more."""
        ...


class Clears(Protocol):
    """How a payment reaches a payee on another homeserver, and how the payee of one from elsewhere answers.

    ``super_app.clearing.service.Clearing`` is one.
    """

    def can_pay(self, cur: Cursor, to_server: ServerName, money: Money) -> Refused | None: ...

    def is_unsure(self, cur: Cursor, to_server: ServerName) -> bool:
        """Whether this database is an old copy as far as that server is concerned, and may lack what was paid there."""
        ...

    def offer(self, cur: Cursor, order: ClearingOrder, to_server: ServerName, now_ms: int) -> WireId | Refused: ...

    def cancel(
        self, cur: Cursor, payer: Acct, payment_id: PaymentId, reason: Reason, now_ms: int
    ) -> Refused | None: ...

    def accept(self, cur: Cursor, from_server: ServerName, wire_id: WireId, now_ms: int) -> Refused | None: ...

    def refuse(
        self, cur: Cursor, from_server: ServerName, wire_id: WireId, reason: Reason, now_ms: int
    ) -> Refused | None: ...


class Requests(Protocol):
    """Requests for money, which an order can answer. ``super_app.requests.service.Requests`` is one."""

    def judge(self, cur: Cursor, order: Order, venue: Venue, now_ms: int) -> Refused | None:
        """Whether an order may answer the request that it names, in such a room."""
        ...

    def changed(self, cur: Cursor, payment: Payment, now_ms: int) -> None:
        """A payment is new or has moved; it may answer a request."""
        ...


class Pots(Protocol):
    """Money put aside for others. ``super_app.pots.service.Pots`` is one, ``super_app.fares.service.Fares`` another."""

    def changed(self, cur: Cursor, payment: Payment, now_ms: int) -> None:
        """A payment of ours that may pay a share out is new or has moved."""
        ...

    def expects(self, cur: Cursor, payee: UserId, payer: UserId, payment_id: PaymentId, now_ms: int) -> bool:
        """Whether the payee has claimed a payment that is offered by another homeserver."""
        ...


class Reviews(Protocol):
    """Payments that have to wait for the operator. ``super_app.reviews.service.Reviews`` is one."""

    def wants(self, cur: Cursor, payment: Payment, now_ms: int) -> bool:
        """Whether a payment whose event stands has to wait; remembers it."""
        ...

    def waits(self, cur: Cursor, key: PaymentKey) -> bool:
        """Whether it still waits."""
        ...

    def judge_claim(self, cur: Cursor, order: Order) -> bool:
        """Whether somebody may not claim what was put aside for them."""
        ...

    def judge_incoming(self, cur: Cursor, payment: Payment) -> bool:
        """Whether a payment from another homeserver is not to be taken."""
        ...


class Changes(Protocol):
    """Hears what a transaction did, so that the edge can carry on once it has committed.

    A transaction may run again or be rolled back; whoever implements this keeps what it hears for the attempt that
    commits.
    """

    def payment_changed(self, payment: Payment) -> None: ...

    def receipt_owed(self, receipt: Receipt) -> None: ...
