"""A homeserver of the simulator whose people pay through the real payments service instead of ``Till``."""

from dataclasses import dataclass
from typing import Any

from nodes import ASSETS, Node

from super_app.accounts import store as accounts
from super_app.accounts.model import Genesis
from super_app.clearing import objects
from super_app.clearing.ports import Accept, Ask, Order, Party, WireId
from super_app.clearing.service import Clearing
from super_app.db import Cursor, Transaction
from super_app.errors import Refused
from super_app.ids import Acct, PaymentId, RoomId, ServerName, UserId, localpart_of, server_of
from super_app.payments import model
from super_app.payments import store as payments_store
from super_app.payments.ports import Resident
from super_app.payments.service import Payments

ROOM = RoomId("!room:hs1.test")


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


class PayingNode(Node):
    def __init__(self, name: str, transaction: Transaction, *, seed: int = 0, boot: str = "1") -> None:
        self.payments: Payments
        super().__init__(name, transaction, seed=seed, boot=boot)

    def start(self, boot: str) -> None:
        self.boot = boot
        self.payments = Payments(server_name=self.name, assets=ASSETS, homeserver=Residents(self), changes=Unheard())
        self.clearing = Clearing(
            server=self.name,
            key=self.key,
            certificate=self.certify(objects.certificate_fields(self.name, self.key)),
            boot=boot,
            assets=ASSETS,
            payee=self.payments,
            payer=self.payments,
        )
        self.payments.clear_through(self.clearing)

    def create(self) -> None:
        super().create()
        for person in ("alice", "bob"):
            user_id = self.user(person)
            genesis = _genesis(user_id)
            self.tx(lambda cur, u=user_id, g=genesis: accounts.ensure(cur, u, g))  # type: ignore[misc]

    def acct(self, user_id: str) -> Acct:
        return _genesis(UserId(user_id)).acct()

    def hold(self, cur: Cursor, order: Order) -> Refused | None:
        ordered = model.Order(
            payment_id=order.payment_id,
            payer_acct=Acct(order.payer.acct),
            payer=order.payer.user_id,
            payee=Party(user_id=order.payee.user_id, acct="", handle=None),
            money=order.money,
            memo=order.memo,
        )
        placement = model.Placement(room_id=ROOM, venue=model.Venue.OPEN, payee_joined=True, position=1)
        salts = model.Salts(wire=order.wire_salt, parties=order.salts, room="0" * 32)
        placed = self.payments.place(cur, ordered, placement, salts, self.now_ms)
        return placed if isinstance(placed, Refused) else None

    def offer(self, cur: Cursor, order: Order) -> Any:
        if order.event_id is None:
            raise RuntimeError("an order of the simulator has an event")
        return self.payments.bind(cur, _key_of(order), ROOM, order.event_id, self.now_ms)

    def follow(self, cur: Cursor, order: Order) -> None:
        self.offer(cur, order)
        self.payments.offer_again(cur, _key_of(order), self.now_ms)

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


def _genesis(user_id: UserId) -> Genesis:
    return Genesis(server=server_of(user_id), localpart=localpart_of(user_id), created_ms=0, nonce=user_id)


def _key_of(order: Order) -> model.PaymentKey:
    return model.PaymentKey(payer_key=model.PayerKey(order.payer.acct), payment_id=order.payment_id)
