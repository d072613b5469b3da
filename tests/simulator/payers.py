"""A homeserver of the simulator whose people pay through the real payments service instead of ``Till``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, LiteralString

from nodes import ASSETS, Node

from super_app.accounts import store as accounts
from super_app.accounts.model import Genesis
from super_app.clearing.ports import Accept, Ask, Order, Party, WireId
from super_app.db import Cursor, Transaction
from super_app.errors import Refused
from super_app.ids import Acct, EventId, PaymentId, RoomId, ServerName, UserId, localpart_of, server_of
from super_app.money import Money
from super_app.payments import model
from super_app.payments import store as payments_store
from super_app.payments.ports import Resident
from super_app.payments.service import Payments

ROOM = RoomId("!room:hs1.test")

# The rooms as Synapse stores them: the events of payments, and how far the follower has come.
_ROOM_SCHEMA: Final[tuple[LiteralString, ...]] = (
    (
        "CREATE TABLE room_event (position INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE,"
        " payer_acct TEXT NOT NULL, payment_id TEXT NOT NULL)"
    ),
    "CREATE TABLE room_cursor (position INTEGER NOT NULL)",
    "INSERT INTO room_cursor (position) VALUES (0)",
)


@dataclass
class Residents:
    """``Homeserver`` of payments: everybody of this server exists and shares a room with everybody."""

    node: "PayingNode"

    def resident(self, cur: Cursor, user_id: UserId) -> Resident | None:
        if server_of(user_id) != self.node.name:
            return None
        match self.node.till.answers.get(user_id):
            case Ask():
                policy: dict[str, object] | None = {"v": 1, "accept": "ask"}
            case Refused():
                policy = {"v": 1, "from": ["nobody"]}
            case Accept() | None:
                policy = None
        return Resident(user_id=user_id, deactivated=False, policy=policy)

    def share_a_room(self, cur: Cursor, resident: UserId, other: UserId) -> bool:
        return True

    def blocks(self, cur: Cursor, resident: UserId, other: UserId) -> bool:
        return False

    def is_joined(self, cur: Cursor, resident: UserId, room_id: RoomId) -> bool:
        return True

    def payments_are_halted(self) -> bool:
        return False


class Unheard:
    """``Changes`` that nobody listens to."""

    def payment_changed(self, payment: model.Payment) -> None:
        pass

    def receipt_owed(self, receipt: model.Receipt) -> None:
        pass


class Unguarded:
    """``Guards`` of people who have set nothing, under an operator who limits nothing."""

    def judge_order(self, cur: Cursor, order: model.Order, *, proven: bool, now_ms: int) -> Refused | None:
        return None

    def judge_receiving(self, cur: Cursor, payee: Acct, money: Money, now_ms: int) -> Refused | None:
        return None


class PayingNode(Node):
    def __init__(self, name: str, transaction: Transaction, *, seed: int = 0, boot: str = "1") -> None:
        self.payments: Payments
        super().__init__(name, transaction, seed=seed, boot=boot)

    def start(self, boot: str) -> None:
        self.payments = Payments(
            server_name=self.name, assets=ASSETS, homeserver=Residents(self), guards=Unguarded(), changes=Unheard()
        )
        super().start(boot)
        self.payments.clear_through(self.clearing)

    def above(self) -> Payments:
        return self.payments

    def create(self) -> None:
        super().create()
        for statement in _ROOM_SCHEMA:
            self.tx(lambda cur, s=statement: cur.execute(s))  # type: ignore[misc]
        for person in ("alice", "bob"):
            user_id = self.user(person)
            genesis = _genesis(user_id)
            self.tx(lambda cur, u=user_id, g=genesis: accounts.ensure(cur, u, g))  # type: ignore[misc]

    def acct(self, user_id: str) -> Acct:
        return _genesis(UserId(user_id)).acct()

    def hold(self, cur: Cursor, order: Order) -> Refused | None:
        payee = order.payee.user_id
        acct = self.acct(payee) if server_of(payee) == self.name else ""
        ordered = model.Order(
            payment_id=order.payment_id,
            payer_acct=Acct(order.payer.acct),
            payer=order.payer.user_id,
            payee=Party(user_id=payee, acct=acct, handle=None),
            money=order.money,
            memo=order.memo,
            refund_of=order.refund_of,
        )
        cur.execute("SELECT COALESCE(MAX(position), 0) FROM room_event")
        position = int((cur.fetchone() or (0,))[0] or 0)
        placement = model.Placement(room_id=ROOM, venue=model.Venue.OPEN, payee_joined=True, position=position)
        salts = model.Salts(wire=order.wire_salt, parties=order.salts, room="0" * 32)
        placed = self.payments.place(cur, ordered, placement, salts, self.now_ms)
        return placed if isinstance(placed, Refused) else None

    def persist(self, cur: Cursor, order: Order, event_id: EventId) -> None:
        cur.execute(
            "INSERT INTO room_event (event_id, payer_acct, payment_id) VALUES (?, ?, ?)",
            (event_id, order.payer.acct, order.payment_id),
        )

    def chores(self, cur: Cursor, orders: Sequence[Order]) -> list[Callable[[Cursor], object]]:
        """The follower goes through new events, the deadlines through payments whose time has come."""
        cur.execute(
            "SELECT position, event_id, payer_acct, payment_id FROM room_event"
            " WHERE position > (SELECT position FROM room_cursor) ORDER BY position"
        )
        found: list[Callable[[Cursor], object]] = []
        for position, event_id, payer, payment_id in cur.fetchall():
            key = model.PaymentKey(payer_key=model.PayerKey(str(payer)), payment_id=PaymentId(str(payment_id)))
            found += [
                partial(self._bind, key=key, event_id=EventId(str(event_id))),
                partial(_move_cursor, position=int(position or 0)),
            ]
        due = payments_store.due(cur, self.now_ms, 100)
        return [*found, *(partial(self._act_on, payment=payment) for payment in due)]

    def _bind(self, cur: Cursor, key: model.PaymentKey, event_id: EventId) -> object:
        return self.payments.bind(cur, key, ROOM, event_id, self.now_ms)

    def _act_on(self, cur: Cursor, payment: model.Payment) -> object:
        """As the shell does when the time of a payment has come."""
        if payment.state is model.State.AWAITING_ACCEPTANCE:
            return self.payments.expire(cur, payment.key, self.now_ms)
        if payment.waits_for_link:
            return self.payments.offer_again(cur, payment.key, self.now_ms)
        cur.execute(
            "SELECT event_id FROM room_event WHERE position > ? AND payer_acct = ? AND payment_id = ?"
            " ORDER BY position LIMIT 1",
            (payment.position, payment.payer_key, payment.payment_id),
        )
        row = cur.fetchone()
        if row is not None:
            return self._bind(cur, payment.key, EventId(str(row[0])))
        return self.payments.release(cur, payment.key, self.now_ms)

    def refundable(self, cur: Cursor) -> list[model.Payment]:
        """Payments to people here that were completed, oldest first."""
        cur.execute(
            "SELECT payer_key, payment_id FROM superapp_payment"
            " WHERE payee_acct IS NOT NULL AND state = 'completed' AND refund_of IS NULL"
            " ORDER BY created_ms, payer_key, payment_id"
        )
        keys = [
            model.PaymentKey(payer_key=model.PayerKey(str(row[0])), payment_id=PaymentId(str(row[1])))
            for row in cur.fetchall()
        ]
        return [payment for payment in (payments_store.find(cur, key) for key in keys) if payment is not None]

    def cancel(self, cur: Cursor, order: Order) -> None:
        self.payments.cancel(cur, Acct(order.payer.acct), order.payment_id, self.now_ms)

    def asked_here(self, cur: Cursor) -> list[tuple[ServerName, WireId]]:
        cur.execute(
            "SELECT payer_user_id, wire_id FROM superapp_payment"
            " WHERE payer_acct IS NULL AND state = 'awaiting_acceptance' ORDER BY wire_id"
        )
        return [(server_of(UserId(str(row[0]))), WireId(str(row[1]))) for row in cur.fetchall()]

    def answer(self, cur: Cursor, peer: ServerName, wire_id: WireId, *, yes: bool) -> None:
        cur.execute("SELECT payer_key, payment_id FROM superapp_payment WHERE wire_id = ?", (wire_id,))
        row = cur.fetchone()
        if row is None:
            return
        key = model.PaymentKey(payer_key=model.PayerKey(str(row[0])), payment_id=PaymentId(str(row[1])))
        payment = payments_store.find(cur, key)
        if payment is None or payment.payee_acct is None:
            raise RuntimeError("a payment that waits for its payee has one")
        if yes:
            self.payments.accept(cur, payment.payee_acct, payment, self.now_ms)
        else:
            self.payments.decline(cur, payment, self.now_ms)

    def undone(self, cur: Cursor) -> list[str]:
        cur.execute(
            "SELECT payer_key, payment_id, state FROM superapp_payment"
            " WHERE state IN ('held', 'awaiting_acceptance', 'committed') ORDER BY payer_key, payment_id"
        )
        return [f"{row[0]} {row[1]} {row[2]}" for row in cur.fetchall()]

    def violations(self) -> list[object]:
        return [*super().violations(), *self.tx(self.payments.violations)]


def _move_cursor(cur: Cursor, position: int) -> None:
    cur.execute("UPDATE room_cursor SET position = ? WHERE position < ?", (position, position))


def _genesis(user_id: UserId) -> Genesis:
    return Genesis(server=server_of(user_id), localpart=localpart_of(user_id), created_ms=0, nonce=user_id)
