"""Payments over a database without a homeserver: what their ports need, told by the test."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from super_app.accounts import store as accounts
from super_app.accounts.model import Genesis
from super_app.clearing.model import WireId
from super_app.clearing.ports import Incoming, Party
from super_app.clearing.ports import Order as ClearingOrder
from super_app.db import Cursor, Transaction
from super_app.errors import Reason, Refused
from super_app.ids import Acct, EventId, PaymentId, RoomId, ServerName, UserId, localpart_of, server_of
from super_app.ledger import service as ledger
from super_app.ledger.model import AccountKind, Cause, Transfer, TransferId, available, due_from, due_to, house
from super_app.money import Asset, AssetCode, Money
from super_app.payments.fees import Fee
from super_app.payments.model import Order, PayerKey, Payment, PaymentKey, Placement, Receipt, Salts, Venue
from super_app.payments.ports import Resident
from super_app.payments.service import Payments
from super_app.safeguards.model import Settings
from super_app.safeguards.service import Safeguards

PACKAGES = ("super_app.accounts", "super_app.ledger", "super_app.payments", "super_app.safeguards")
HERE = ServerName("hs1.test")
EUR = AssetCode("EUR")
SCALES = {"EUR": 2, "PTS": 0, "JPY": 0, "BHD": 3, "KWD": 3}
ASSETS = {AssetCode(code): Asset(code=AssetCode(code), scale=scale) for code, scale in SCALES.items()}
SALTS = Salts(wire="00" * 16, parties=("11" * 16, "22" * 16, "33" * 16), room="44" * 16)
ROOM = RoomId("!room:hs1.test")
EVENT = EventId("$event")
NOW_MS = 1_700_000_000_000


@dataclass
class ToldHomeserver:
    """``super_app.payments.ports.Homeserver`` as the test tells it."""

    residents: dict[UserId, Resident] = field(default_factory=dict)
    sharing: set[tuple[UserId, UserId]] = field(default_factory=set)
    joined: set[tuple[UserId, RoomId]] = field(default_factory=set)
    blocked: set[tuple[UserId, UserId]] = field(default_factory=set)
    halted: bool = False

    def resident(self, cur: Cursor, user_id: UserId) -> Resident | None:
        return self.residents.get(user_id)

    def share_a_room(self, cur: Cursor, resident: UserId, other: UserId) -> bool:
        return (resident, other) in self.sharing

    def blocks(self, cur: Cursor, resident: UserId, other: UserId) -> bool:
        return (resident, other) in self.blocked

    def is_joined(self, cur: Cursor, resident: UserId, room_id: RoomId) -> bool:
        return (resident, room_id) in self.joined

    def payments_are_halted(self) -> bool:
        return self.halted


@dataclass
class ToldClearing:
    """``Clears`` that sends nothing: the test plays the other homeserver through ``Books.hears_*``."""

    books: "Books | None" = None
    links: set[ServerName] = field(default_factory=lambda: {ServerName("hs2.test")})
    unsure: set[ServerName] = field(default_factory=set)
    offer_refused: Refused | None = None
    offers: list[ClearingOrder] = field(default_factory=list)
    answers: list[tuple[ServerName, WireId, Reason | None]] = field(default_factory=list)
    answer_refused: Refused | None = None

    def can_pay(self, cur: Cursor, to_server: ServerName, money: Money) -> Refused | None:
        if to_server in self.links:
            return None
        return Refused(reason=Reason.NO_LINK, message=f"There is no link with {to_server}; ask the operator for one.")

    def is_unsure(self, cur: Cursor, to_server: ServerName) -> bool:
        return to_server in self.unsure

    def offer(self, cur: Cursor, order: ClearingOrder, to_server: ServerName, now_ms: int) -> WireId | Refused:
        if self.offer_refused is not None:
            return self.offer_refused
        self.offers.append(order)
        return WireId(f"wire {order.payment_id} {to_server}")

    def cancel(self, cur: Cursor, payer: Acct, payment_id: PaymentId, reason: Reason, now_ms: int) -> Refused | None:
        assert self.books is not None
        self.books.abort(cur, payer, payment_id, reason, now_ms)
        return None

    def accept(self, cur: Cursor, from_server: ServerName, wire_id: WireId, now_ms: int) -> Refused | None:
        self.answers.append((from_server, wire_id, None))
        return self.answer_refused

    def refuse(
        self, cur: Cursor, from_server: ServerName, wire_id: WireId, reason: Reason, now_ms: int
    ) -> Refused | None:
        self.answers.append((from_server, wire_id, reason))
        return self.answer_refused


@dataclass
class HeardChanges:
    payments: list[Payment] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)

    def payment_changed(self, payment: Payment) -> None:
        self.payments.append(payment)

    def receipt_owed(self, receipt: Receipt) -> None:
        self.receipts.append(receipt)


class Books:
    """One homeserver's payments and ledger. People of it have accounts from ``open_account`` on."""

    def __init__(self, transaction: Transaction, settings: Settings | None = None, fees: Sequence[Fee] = ()) -> None:
        self.transaction = transaction
        self.homeserver = ToldHomeserver()
        self.clearing = ToldClearing(books=self)
        self.changes = HeardChanges()
        self.safeguards = Safeguards(assets=ASSETS, settings=settings or Settings())
        self.payments = Payments(
            server_name=HERE,
            assets=ASSETS,
            homeserver=self.homeserver,
            guards=self.safeguards,
            changes=self.changes,
            fees=fees,
        )
        self.payments.clear_through(self.clearing)
        self.now_ms = NOW_MS

    def open_account(self, name: str, minor: int = 0) -> Acct:
        user_id = UserId(f"@{name}:{HERE}")
        self.homeserver.residents[user_id] = Resident(user_id=user_id, deactivated=False, policy=None)
        genesis = Genesis(server=HERE, localpart=name, created_ms=0, nonce=name)
        acct = self.transaction(lambda cur: accounts.ensure(cur, user_id, genesis)).acct
        if minor:
            self.issue(acct, minor)
        return acct

    def issue(self, acct: Acct, minor: int, currency: AssetCode = EUR) -> None:
        self.transaction(
            lambda cur: ledger.issue(
                cur,
                acct,
                Money(amount_minor=minor, currency=currency),
                reference=f"{acct} {minor}",
                operator="@admin:hs1.test",
                now_ms=self.now_ms,
            )
        )

    def set_policy(self, name: str, policy: object) -> None:
        user_id = UserId(f"@{name}:{HERE}")
        self.homeserver.residents[user_id] = Resident(user_id=user_id, deactivated=False, policy=policy)

    def deactivate(self, name: str) -> None:
        user_id = UserId(f"@{name}:{HERE}")
        self.homeserver.residents[user_id] = Resident(user_id=user_id, deactivated=True, policy=None)

    def account(self, user_id: UserId) -> str:
        """The acct of a resident, "" for others."""
        if server_of(user_id) != HERE:
            return ""
        return Genesis(server=HERE, localpart=localpart_of(user_id), created_ms=0, nonce=localpart_of(user_id)).acct()

    def order(
        self,
        number: int,
        payer: str,
        payee: str,
        minor: int,
        *,
        memo: str | None = None,
        refund_of: PaymentId | None = None,
        currency: AssetCode = EUR,
        fee_minor: int | None = None,
    ) -> Order:
        payer_id = UserId(f"@{payer}:{HERE}")
        payee_id = UserId(payee if ":" in payee else f"@{payee}:{HERE}")
        return Order(
            payment_id=payment_id(number),
            payer_acct=Acct(self.account(payer_id)),
            payer=payer_id,
            payee=Party(user_id=payee_id, acct=self.account(payee_id), handle=None),
            money=Money(amount_minor=minor, currency=currency),
            memo=memo,
            refund_of=refund_of,
            fee_minor=fee_minor,
        )

    def place(self, order: Order, *, proven: bool = False) -> Payment | Refused:
        placement = Placement(room_id=ROOM, venue=Venue.OPEN, payee_joined=True, position=7)
        return self.transaction(
            lambda cur: self.payments.place(cur, order, placement, SALTS, self.now_ms, proven=proven)
        )

    def bind(self, order: Order, event_id: EventId = EVENT) -> Payment | None:
        return self.transaction(lambda cur: self.payments.bind(cur, key_of(order), ROOM, event_id, self.now_ms))

    def pay(self, order: Order) -> Payment:
        placed = self.place(order)
        assert isinstance(placed, Payment), placed
        bound = self.bind(order)
        assert bound is not None
        return bound

    def find(self, order: Order) -> Payment:
        found = self.transaction(lambda cur: self.payments.find(cur, order.payer_acct, order.payment_id, None))
        assert isinstance(found, Payment)
        return found

    def accept(self, order: Order) -> Payment | Refused:
        payment, payee = self.find(order), Acct(order.payee.acct)
        return self.transaction(lambda cur: self.payments.accept(cur, payee, payment, self.now_ms))

    def decline(self, order: Order) -> Payment | Refused:
        payment = self.find(order)
        return self.transaction(lambda cur: self.payments.decline(cur, payment, self.now_ms))

    def cancel(self, order: Order) -> Payment | Refused:
        return self.transaction(lambda cur: self.payments.cancel(cur, order.payer_acct, order.payment_id, self.now_ms))

    def release(self, order: Order) -> Payment | None:
        return self.transaction(lambda cur: self.payments.release(cur, key_of(order), self.now_ms))

    def expire(self, order: Order) -> Payment | None:
        return self.transaction(lambda cur: self.payments.expire(cur, key_of(order), self.now_ms))

    def wallet(self, acct: Acct) -> tuple[int, int]:
        """Available and held EUR."""
        balances = self.transaction(lambda cur: ledger.wallet(cur, acct))
        for balance in balances:
            if balance.currency == EUR:
                return balance.available_minor, balance.held_minor
        return 0, 0

    def house_fees(self) -> int:
        return self.transaction(lambda cur: ledger.balance(cur, house(AccountKind.FEES, EUR)))

    def violations(self) -> tuple[object, ...]:
        return self.transaction(lambda cur: (*self.payments.violations(cur), *ledger.violations(cur)))

    # What clearing does to the ledger before it calls back.

    def abort(self, cur: Cursor, payer: Acct, payment_id: PaymentId, reason: Reason, now_ms: int) -> None:
        found = self.payments.find(cur, payer, payment_id, None)
        assert isinstance(found, Payment)
        ledger.void_hold(cur, found.hold_id, now_ms)
        self.payments.failed(cur, payer, payment_id, reason, now_ms)

    def hears_commit(self, order: Order) -> None:
        def work(cur: Cursor) -> None:
            ledger.post_hold(
                cur,
                order.hold_id,
                credit=due_to(server_of(order.payee.user_id), EUR),
                cause=Cause.COMMIT,
                reference=order.hold_id,
                now_ms=self.now_ms,
            )
            self.payments.committed(cur, order.payer_acct, order.payment_id, self.now_ms)

        self.transaction(work)

    def hears_receipt(self, order: Order, signed: dict[str, object]) -> None:
        self.transaction(
            lambda cur: self.payments.completed(cur, order.payer_acct, order.payment_id, signed, self.now_ms)
        )

    def hears_void(self, order: Order, reason: Reason) -> None:
        """RECEIPT(void) after COMMIT: the debt to the peer goes back to the payer."""

        def work(cur: Cursor) -> None:
            undo = Transfer(
                transfer_id=TransferId(f"undo:{order.hold_id}"),
                debit=due_to(server_of(order.payee.user_id), EUR),
                credit=available(order.payer_acct, EUR),
                amount_minor=order.money.amount_minor,
                cause=Cause.UNDO,
                reference=order.hold_id,
            )
            assert not isinstance(ledger.transfer(cur, undo, self.now_ms), Refused)
            self.payments.failed(cur, order.payer_acct, order.payment_id, reason, self.now_ms)

        self.transaction(work)

    def offer_again(self, order: Order) -> Payment | None:
        return self.transaction(lambda cur: self.payments.offer_again(cur, key_of(order), self.now_ms))

    def hears_abort(self, order: Order, reason: Reason) -> None:
        self.transaction(lambda cur: self.abort(cur, order.payer_acct, order.payment_id, reason, self.now_ms))

    def hears_credit(self, incoming: Incoming, payee: Acct, signed: dict[str, object]) -> None:
        def work(cur: Cursor) -> None:
            posted = ledger.transfer(cur, ledger_credit(incoming, payee), self.now_ms)
            assert not isinstance(posted, Refused), posted
            self.payments.credited(cur, incoming, signed, self.now_ms)

        self.transaction(work)


def ledger_credit(incoming: Incoming, payee: Acct) -> Transfer:
    return Transfer(
        transfer_id=TransferId(f"credit:{incoming.wire_id}"),
        debit=due_from(incoming.from_server, EUR),
        credit=available(payee, EUR),
        amount_minor=incoming.money.amount_minor,
        cause=Cause.CREDIT,
        reference=incoming.wire_id,
    )


def payment_id(number: int) -> PaymentId:
    return PaymentId(f"{number:032x}")


def key_of(order: Order) -> PaymentKey:
    return PaymentKey(payer_key=PayerKey(order.payer_acct), payment_id=order.payment_id)


def incoming(
    number: int,
    payee: str,
    minor: int,
    *,
    payer: str = "@zoe:hs2.test",
    wire_id: str = "",
    refund_of: PaymentId | None = None,
) -> Incoming:
    return Incoming(
        wire_id=WireId(wire_id or f"wire-{number}"),
        from_server=server_of(UserId(payer)),
        payment_id=payment_id(number),
        payer=Party(user_id=UserId(payer), acct="acct-over-there", handle=None),
        payee=Party(user_id=UserId(f"@{payee}:{HERE}"), acct="", handle=None),
        money=Money(amount_minor=minor, currency=EUR),
        memo="for you",
        room_id=ROOM,
        event_id=EVENT,
        refund_of=refund_of,
    )
