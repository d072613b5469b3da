"""Orders on their way in: through the gate, when a client sends the event, and through ``POST payments``.

All is decided in the process that writes; the gate of another one asks it (``at_writer``).

Both place the same hold. What the API orders passes the gate by being announced there, since its hold stands already.
Local senders fail closed: any refusal, and any error, is the HTTP answer and nothing moves. Events of other
homeservers always pass, because nothing moves on them.
"""

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from synapse.module_api import NOT_SPAM, EventBase
from synapse.module_api.errors import SynapseError

from super_app.clearing.ports import Party
from super_app.directory import moves
from super_app.errors import Reason, Refused
from super_app.ids import EventId, Handle, RoomId, ServerName, UserId, parse_user_id, server_of
from super_app.money import AssetCode, format_money
from super_app.names import EventType
from super_app.payments import rules, store
from super_app.payments.model import (
    Intent,
    Order,
    PayerKey,
    Payment,
    PaymentContent,
    PaymentKey,
    Placement,
    Salts,
    State,
    Venue,
)
from super_app.payments.service import Payments, payee_gone, payee_moved
from super_app.safeguards.passkeys import about_payment
from synapse_super_app.gate import Verdict
from synapse_super_app.http.refusals import error_of
from synapse_super_app.ledger.relay import Relay, refused_from, refused_json
from synapse_super_app.payments import metrics
from synapse_super_app.payments.announced import Announced
from synapse_super_app.payments.commits import PaymentsWriter
from synapse_super_app.payments.rooms import Rooms, RoomView
from synapse_super_app.payments.watch import Condition, Watch, is_bound, is_settled
from synapse_super_app.people import People, Person
from synapse_super_app.runtime import Runtime
from synapse_super_app.safeguards.pins import Pins

_PAYEE_MAX_AGE_MS: Final = 60_000
_PATIENCE_MS: Final = 2_000
"""How long an answer may wait to be able to say how the payment went."""
_SALT_BYTES: Final = 16
_JOIN: Final = "join"
_INVITE: Final = "invite"
_FIRST_SERVER_ERROR: Final = 500
_TOO_MANY: Final = 429
_RELAYED: Final = "order"
_SETTLING_PAUSE_S: Final = 0.1


class Settles(Protocol):
    """Clearing, which cannot sign before its peers have answered."""

    @property
    def is_settling(self) -> bool: ...


class AskedIn(Protocol):
    """Requests for money, which are paid in the room in which they were made."""

    async def room_of(self, payer: UserId, payee: UserId, request_id: str) -> RoomId | Refused | None:
        """None where ``payer`` cannot get into the room."""
        ...


class Orders:
    def __init__(
        self,
        *,
        runtime: Runtime,
        payments: Payments,
        writer: PaymentsWriter,
        people: People,
        rooms: Rooms,
        announced: Announced,
        watch: Watch,
        relay: Relay,
        clearing: Settles,
        pins: Pins,
        after_move: Mapping[AssetCode, int],
    ) -> None:
        self._runtime = runtime
        self._payments = payments
        self._writer = writer
        self._people = people
        self._rooms = rooms
        self._announced = announced
        self._watch = watch
        self._assets = runtime.config.payments.by_code()
        self._sending: set[PaymentKey] = set()
        self._relay = relay
        self._clearing = clearing
        self._pins = pins
        self._after_move = after_move
        self._requests: AskedIn | None = None
        relay.serve(_RELAYED, self._judge_relayed)

    def answer_requests(self, requests: AskedIn) -> None:
        self._requests = requests

    # The gate.

    async def gate_payment(self, event: EventBase) -> Verdict:
        if not self._runtime.api.is_mine(event.sender):
            # It moves nothing here, but the receipt of a payment to one of ours may be waiting for it.
            self._runtime.follower.expect()
            return NOT_SPAM
        refused = await self._judge_event(event)
        if refused is not None:
            raise error_of(metrics.count(refused))
        self._runtime.follower.expect()
        return NOT_SPAM

    async def gate_receipt(self, event: EventBase) -> Verdict:
        if not self._runtime.api.is_mine(event.sender):
            return NOT_SPAM
        if not event.is_state() and self._is_announced(event, EventType.PAYMENT_RECEIPT):
            return NOT_SPAM
        refused = Refused(
            reason=Reason.SERVER_ONLY,
            message="Only homeservers say how a payment ended; look at your wallet for what you have.",
        )
        raise error_of(metrics.count(refused))

    async def _judge_event(self, event: EventBase) -> Refused | None:
        private = self._runtime.private
        if event.is_state() or private.is_sticky(event) or private.is_delayed(event):
            return not_a_message()
        if self._is_announced(event, EventType.PAYMENT):
            return None
        content = event.get_dict()["content"]
        return await self._relay.at_writer(
            _RELAYED,
            lambda: {"sender": event.sender, "room_id": event.room_id, "content": content},
            lambda: self._judge(UserId(event.sender), RoomId(event.room_id), content),
            lambda found: refused_from(found["refused"]) if "refused" in found else None,
        )

    async def _judge_relayed(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        refused = await self._judge(UserId(arguments["sender"]), RoomId(arguments["room_id"]), arguments["content"])
        if refused is not None:
            return {"refused": refused_json(refused)}
        # The event is about to be persisted somewhere, and is followed here.
        self._runtime.follower.expect()
        return {}

    async def _judge(self, sender: UserId, room_id: RoomId, content: dict[str, Any]) -> Refused | None:
        """Place the hold of an order that is about to be an event."""
        intent = rules.read_content(content, self._assets)
        if isinstance(intent, Refused):
            return intent
        order = await self._resolve(sender, intent)
        if isinstance(order, Refused):
            return order
        if _was_led_on(intent, order):
            # The event says another payee than would be paid, and nobody can change it.
            return payee_moved(intent.payee, order.payee.handle or Handle(order.payee.user_id))
        view = await self._rooms.look(room_id, order.payer, order.payee.user_id)
        refused = _judge_membership(view, order)
        if refused is None and view.venue is Venue.HIDDEN:
            refused = Refused(
                reason=Reason.ROOM_ENCRYPTED,
                message="This room is encrypted and a payment event is not; pay with POST payments, which puts only a "
                "commitment into the room.",
            )
        if refused is not None:
            return refused
        placed = await self._place(order, self._placement(room_id, view))
        return placed if isinstance(placed, Refused) else None

    def _is_announced(self, event: EventBase, event_type: EventType) -> bool:
        return self._announced.includes(event.sender, event.room_id, event_type, event.get_dict()["content"])

    # The API.

    async def pay(
        self,
        payer: UserId,
        content: PaymentContent,
        room_id: RoomId | None,
        pin: str | None = None,
        *,
        passkey: Mapping[str, Any] | None = None,
        fee_minor: int | None = None,
        proven: bool = False,
    ) -> Payment | Refused:
        """Order a payment and wait a moment for what becomes of it. ``pin`` is looked at only where it is asked for.

        ``passkey`` is the answer of one to the challenge of just this payment, in the place of the PIN. ``fee_minor``
        is the fee that the person was shown and has confirmed.

        ``proven`` says that the person has confirmed just this before, with the PIN where it takes one.

        The same order again gives the payment as it now is, and sends its event again only where none stands.

        Raises:
            SynapseError: the homeserver refused the event (no power to write in the room, …).
        """
        intent = rules.read_order(content, self._assets)
        if isinstance(intent, Refused):
            return intent
        own = PaymentKey(payer_key=PayerKey(await self._runtime.accounts.acct_of(payer)), payment_id=intent.payment_id)
        known = await self.find(own)
        if (
            known is not None
            and is_bound(known)
            and rules.repeats(known, intent, fee_minor)
            and room_id in (None, known.room_id)
        ):
            # An answer about what stands depends on nobody else: not on the link, not on the payee's homeserver.
            return self._as_it_is(known)
        order = await self._resolve(payer, intent)
        if isinstance(order, Refused):
            return order
        order = replace(order, fee_minor=fee_minor)
        if known is not None:
            return await self._replay(known, order, intent, room_id)
        if order.request is not None and room_id is None and self._requests is not None:
            asked_in = await self._requests.room_of(payer, order.payee.user_id, order.request)
            if isinstance(asked_in, Refused):
                return asked_in
            room_id = asked_in
        placement = await self._choose_room(order, room_id)
        if isinstance(placement, Refused):
            return placement
        placed = await self._place(order, placement, proven=proven)
        if isinstance(placed, Refused) and placed.reason is Reason.PIN_REQUIRED and (pin or passkey):
            about = about_payment(order.payee.user_id, order.money, order.fee_minor or 0)
            unproven = await self._pins.confirm(order.payer_acct, pin=pin, passkey=passkey, about=about)
            placed = unproven or await self._place(order, placement, proven=True)
        if isinstance(placed, Refused):
            return placed
        carried = await self._carry(placed, order, intent)
        if isinstance(carried, Payment) and carried.reason is Reason.PAYEE_MOVED:
            # What was known of them here was old; with this it is not, and the next order goes to the new place.
            await self._people.resolve(intent.payee, asker=payer, max_age_ms=0)
        return carried

    async def resolve(self, payer: UserId, content: PaymentContent) -> Order | Refused:
        """The order as it would be placed now; nothing is paid."""
        intent = rules.read_order(content, self._assets)
        return intent if isinstance(intent, Refused) else await self._resolve(payer, intent)

    def fee_minor(self, order: Order) -> int:
        """What it would cost its payer now, besides the amount."""
        return self._payments.fee_minor(order)

    async def find(self, key: PaymentKey) -> Payment | None:
        return await self._runtime.database.run("payment_find", lambda cur: store.find(cur, key))

    async def wait(self, key: PaymentKey, condition: Condition) -> Payment:
        """A payment that exists, once it fulfils ``condition``; as it is then where that takes too long."""
        # Listening first: what is committed while the database is read would be missed otherwise.
        with self._watch.listening(key, condition) as listening:
            payment = await self.find(key)
            if payment is None:
                raise RuntimeError(f"{key} was placed and is not there")
            if condition(payment):
                return payment
            return await listening.until(_PATIENCE_MS) or await self.find(key) or payment

    async def _replay(
        self, existing: Payment, order: Order, intent: Intent, room_id: RoomId | None
    ) -> Payment | Refused:
        refused = rules.conflict(existing, order)
        if refused is not None:
            return refused
        if room_id is not None and existing.room_id is not None and room_id != existing.room_id:
            return Refused(
                reason=Reason.CONFLICT,
                message=f"Payment {existing.payment_id} was ordered in another room; leave room_id as it was.",
            )
        if is_bound(existing):
            return self._as_it_is(existing)
        # Its event may be about to be seen. Otherwise it never came to exist, and is sent now.
        latest = await self.wait(existing.key, is_bound)
        return latest if is_bound(latest) else await self._carry(latest, order, intent)

    def _as_it_is(self, existing: Payment) -> Payment | Refused:
        if existing.state is State.EXPIRED and not existing.is_bound:
            return rules.spent(existing) or existing
        return existing

    async def _choose_room(self, order: Order, room_id: RoomId | None) -> Placement | Refused:
        if room_id is not None:
            view = await self._rooms.look(room_id, order.payer, order.payee.user_id)
            return _judge_membership(view, order) or self._placement(room_id, view)
        direct = await self._rooms.direct(order.payer, order.payee.user_id)
        if direct is None:
            return self._placement(None, RoomView(payer=None, payee=None, venue=Venue.OPEN))
        return self._placement(direct, await self._rooms.look(direct, order.payer, order.payee.user_id))

    async def _carry(self, payment: Payment, order: Order, intent: Intent) -> Payment | Refused:
        """Send the event of a placed order, once at a time, and wait until the payment is settled."""
        key = payment.key
        if key not in self._sending:
            self._sending.add(key)
            try:
                sent = await self._send(payment, order, intent)
            finally:
                self._sending.discard(key)
            if isinstance(sent, Refused):
                # Time cures it, so the order stays: the same one again goes on from here.
                return sent
        return await self.wait(key, is_settled)

    async def _send(self, payment: Payment, order: Order, intent: Intent) -> EventId | Refused:
        placed = payment if payment.room_id is not None else await self._make_room(payment, order)
        if isinstance(placed, Refused):
            return placed
        if placed.salts is None or placed.room_id is None:
            raise RuntimeError(f"{placed.key} has no room or no salts")
        written = (order.payee.handle or order.payee.user_id) if _was_led_on(intent, order) else intent.payee
        content: dict[str, Any] = {**order.content(), "payee": written}
        if placed.venue is Venue.HIDDEN:
            content = {"payment_id": order.payment_id, "commitment": order.commitment(placed.salts)}
        try:
            with self._announced.sending(order.payer, placed.room_id, EventType.PAYMENT, content):
                event = await self._runtime.api.create_and_send_event_into_room(
                    {
                        "type": EventType.PAYMENT,
                        "room_id": placed.room_id,
                        "sender": order.payer,
                        "content": content,
                    }
                )
        except SynapseError as error:
            if error.code < _FIRST_SERVER_ERROR and error.code != _TOO_MANY:
                # It was refused before it existed, and would be again; no need to hold the money for an hour.
                now_ms = self._runtime.now_ms()
                await self._writer.run(
                    "payment_cancel",
                    lambda cur: self._payments.cancel(cur, order.payer_acct, order.payment_id, now_ms),
                )
            raise
        return EventId(event.event_id)

    async def _make_room(self, payment: Payment, order: Order) -> Payment | Refused:
        # Another order may have made the room meanwhile.
        payee = order.payee.user_id
        room_id = await self._rooms.direct(order.payer, payee) or await self._rooms.make_direct(order.payer, payee)
        if isinstance(room_id, Refused):
            return room_id
        placement = self._placement(room_id, await self._rooms.look(room_id, order.payer, payee))
        return await self._writer.run("payment_move", lambda cur: self._payments.move(cur, payment.key, placement))

    # What both share.

    async def _resolve(self, payer: UserId, intent: Intent) -> Order | Refused:
        server = ServerName(intent.payee.partition(":")[2])
        if server and server != self._runtime.server_name:
            # Before anything is asked over the network: without a link there is nothing to ask for.
            refused = await self._can_reach(server, intent)
            if refused is not None:
                return refused
        person = await self._people.resolve(intent.payee, asker=payer, max_age_ms=_PAYEE_MAX_AGE_MS)
        if isinstance(person, Refused):
            if person.reason not in (Reason.UNKNOWN_HANDLE, Reason.HANDLE_INVALID):
                return person
            return await self._gone(intent.payee) or Refused(reason=Reason.UNKNOWN_PAYEE, message=person.message)
        if person.was is not None and intent.refund_of is not None:
            # What was paid from there goes back there, and from there only.
            person = Person(user_id=person.was)
        refused = rules.is_self(payer, person.user_id) or self._judge_moved(person, intent)
        if refused is not None:
            return refused
        accounts = self._runtime.accounts
        is_ours = person.server == self._runtime.server_name
        acct: str = await accounts.acct_of(person.user_id) if is_ours else person.acct or ""
        return Order(
            payment_id=intent.payment_id,
            payer_acct=await accounts.acct_of(payer),
            payer=payer,
            payee=Party(user_id=person.user_id, acct=acct, handle=person.handle),
            money=intent.money,
            memo=intent.memo,
            request=intent.request,
            refund_of=intent.refund_of,
            invoice=intent.invoice,
        )

    def _judge_moved(self, person: Person, intent: Intent) -> Refused | None:
        """Whether a payment to somebody who has just moved waits: it may not be they who moved."""
        now_ms = self._runtime.now_ms()
        if person.moved_ms is None or intent.refund_of is not None or not moves.is_careful(person.moved_ms, now_ms):
            return None
        asset = self._assets[intent.money.currency]
        most_minor = self._after_move.get(asset.code, 0)
        if intent.money.amount_minor <= most_minor:
            return None
        wait_ms = person.moved_ms + moves.CAREFUL_MS - now_ms
        return Refused(
            reason=Reason.MOVED_RECENTLY,
            message=(
                f"{person.handle or person.user_id} moved between homeservers less than 72 hours ago. Until then a "
                f"payment to them may be {format_money(most_minor, asset)} at the most; ask them whether it was they, "
                "and pay later."
            ),
            fields={"limit": most_minor, "currency": asset.code, "retry_after_ms": wait_ms},
        )

    async def _can_reach(self, server: ServerName, intent: Intent) -> Refused | None:
        while True:
            refused = await self._runtime.database.run(
                "payment_link", lambda cur: self._payments.can_reach(cur, server, intent.money)
            )
            if refused is None or refused.reason is not Reason.LINK_HALTED or not self._clearing.is_settling:
                return refused
            # The writer has just begun, perhaps in the middle of this order: the peer is being asked what it knows.
            await self._runtime.api.sleep(_SETTLING_PAUSE_S)

    async def _gone(self, payee: str) -> Refused | None:
        """PAYEE_GONE where nobody is found because an account of ours was deactivated."""
        user_id = parse_user_id(payee)
        if user_id is None or not self._runtime.api.is_mine(user_id):
            return None
        user = await self._runtime.api.get_userinfo_by_id(user_id)
        return payee_gone(user_id) if user is not None and user.is_deactivated else None

    async def _place(self, order: Order, placement: Placement, *, proven: bool = False) -> Payment | Refused:
        salts = _fresh_salts()
        now_ms = self._runtime.now_ms()
        return await self._writer.run(
            "payment_place", lambda cur: self._payments.place(cur, order, placement, salts, now_ms, proven=proven)
        )

    def _placement(self, room_id: RoomId | None, view: RoomView) -> Placement:
        return Placement(
            room_id=room_id,
            venue=view.venue,
            payee_joined=view.payee == _JOIN,
            position=self._runtime.private.persisted_up_to(),
        )


def _was_led_on(intent: Intent, order: Order) -> bool:
    """Whether the payee moved: a handle and its account are of one homeserver."""
    return intent.payee.partition(":")[2] != server_of(order.payee.user_id)


def not_a_message() -> Refused:
    return Refused(
        reason=Reason.NOT_A_MESSAGE,
        message="A payment is an ordinary message event: not state, not sticky, not delayed, not part of the initial "
        "state of a room. Nothing was paid; send it as a message.",
    )


def _judge_membership(view: RoomView, order: Order) -> Refused | None:
    if view.payer != _JOIN:
        return Refused(reason=Reason.NOT_IN_ROOM, message="You are not in that room; join it, or leave room_id out.")
    if view.payee != _JOIN:
        return Refused(
            reason=Reason.PAYEE_NOT_IN_ROOM,
            message=f"{order.payee.user_id} is not in that room; pay where both of you are, or with POST payments "
            "without room_id.",
        )
    return None


def _fresh_salts() -> Salts:
    wire, payer, payee, memo, room = (secrets.token_hex(_SALT_BYTES) for _ in range(5))
    return Salts(wire=wire, parties=(payer, payee, memo), room=room)
