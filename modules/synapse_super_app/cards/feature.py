"""Cards in the homeserver: a notice for each payment, request, missed call and shared contact, edited as that changes.

Written down in the transaction that changes the thing, sent a moment later by the process that follows events, as the
person who began it, in rooms that are not encrypted. Clients that show our events hide cards by ``org.superapp.card``.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from synapse.module_api.errors import SynapseError

from super_app.accounts import store as accounts
from super_app.assistant.speech import Speech
from super_app.assistant.text import Text
from super_app.calls import store as calls
from super_app.calls.model import Direction, Record, Session, SessionId
from super_app.calls.model import State as CallState
from super_app.cards import store
from super_app.cards.store import Card, Kind
from super_app.db import Cursor
from super_app.deposits import store as deposits
from super_app.deposits.model import Deposit, DepositKey, DepositState
from super_app.deposits.rules import is_deposit
from super_app.fares import store as fares
from super_app.fares.model import Fare, FareId, FareKey, FareState
from super_app.ids import Acct, EventId, PaymentId, RoomId, UserId, parse_user_id
from super_app.money import Money
from super_app.names import CARD_KEY, AccountDataType, EventType
from super_app.payments import store as payments
from super_app.payments.model import PayerKey, Payment, PaymentKey, Venue
from super_app.payments.model import State as PaymentState
from super_app.pots import rules as pot_rules
from super_app.pots import store as pots
from super_app.pots.model import Kind as PotKind
from super_app.pots.model import Pot, PotId, PotState, Share, ShareState
from super_app.requests import rules as request_rules
from super_app.requests import store as requests
from super_app.requests.model import Answer, Request, RequestId, RequestKey
from super_app.requests.model import Kind as RequestKind
from super_app.requests.model import State as RequestState
from synapse_super_app.assistant.catalogues import catalogue
from synapse_super_app.calls.feature import CallsFeature
from synapse_super_app.config import FeatureName
from synapse_super_app.http.routes import Route
from synapse_super_app.payments.feature import PaymentsFeature
from synapse_super_app.runtime import Runtime

if TYPE_CHECKING:
    from synapse.module_api import EventBase

logger = logging.getLogger(__name__)

_TICK_MS: Final = 500.0
_RELOAD_MS: Final = 10_000
_PAUSE_MS: Final = 1_500
"""Most payments have ended by then, so that their card is sent once and says how."""
_PAUSES_MS: Final = (2_000, 10_000, 60_000, 600_000)
_ATTEMPTS_MAX: Final = 10
_PAGE: Final = 20
_FORBIDDEN: Final = 403
_ENCRYPTION: Final = "m.room.encryption"
_MEMBER: Final = "m.room.member"
_TOGETHER_MS: Final = 2_000
_NO_ROOM_YET_MS: Final = 15_000
_NO_ROOM_MS: Final = 3_600_000
"""Whoever puts a deposit down invites whom it is for soon, or not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """What a card says, where and as whom. ``again_ms`` is when it changes by itself."""

    room_id: RoomId
    sender: UserId
    said: Text
    key: dict[str, Any]
    again_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Nowhere:
    """There is no room yet in which a card could be shown; look again then."""

    again_ms: int


class CardsFeature:
    name = FeatureName.CARDS
    packages = ("super_app.accounts", "super_app.cards")

    def __init__(self, runtime: Runtime, payments_feature: PaymentsFeature | None, calls: CallsFeature | None) -> None:
        self._runtime = runtime
        language = runtime.config.assistant.language
        self._assets = runtime.config.payments.by_code()
        self._speech = Speech(language, catalogue(language), self._assets)
        self._next_ms = 0
        self._busy = False
        if payments_feature is not None:
            payments_feature.while_committing(self._payments_changed, self._noted)
            payments_feature.requests.while_changing(self._request_changed, self._noted)
            payments_feature.pots.while_changing(self._pot_changed, self._noted)
            payments_feature.deposits.deposits.while_changing(self._deposit_ended)
            if payments_feature.fares is not None:
                payments_feature.fares.while_changing(self._fare_changed, self._noted)
        if calls is not None:
            calls.when_reached(self._calls_reached)
        if runtime.config.features.directory:
            # The gate lets our people share no contact that is forged.
            runtime.follower.register({EventType.CONTACT: self._contact_shared})
        runtime.follower.when_started(self._begin)

    def routes(self) -> Sequence[Route]:
        return ()

    async def start(self) -> None:
        self._runtime.api.looping_background_call(
            self._tick, _TICK_MS, desc="superapp_cards", run_on_all_instances=True
        )

    # What is to be shown.

    def _payments_changed(self, cur: Cursor, changed: Sequence[Payment], now_ms: int) -> bool:
        shown = [
            each
            for each in changed
            if each.payer_acct is not None and each.event_id is not None and each.venue is Venue.OPEN
        ]
        for payment in shown:
            subject = {"payer_key": payment.payer_key, "payment_id": payment.payment_id}
            due_ms = now_ms if payment.state.final else now_ms + _PAUSE_MS
            store.owe(cur, f"payment:{payment.payer_key}:{payment.payment_id}", Kind.PAYMENT, subject, due_ms)
        put_down = {key for each in changed if (key := self._deposit_of(cur, each)) is not None}
        for key in sorted(put_down):
            subject = {"payer_key": key.payer_key, "payment_id": key.payment_id}
            store.owe(cur, f"deposit:{key.payer_key}:{key.payment_id}", Kind.DEPOSIT, subject, now_ms + _PAUSE_MS)
        return bool(shown or put_down)

    @staticmethod
    def _deposit_of(cur: Cursor, payment: Payment) -> PaymentKey | None:
        """The deposit of somebody here that a payment is, or gives back."""
        if payment.state is not PaymentState.COMPLETED:
            return None
        if payment.payer_acct is not None and is_deposit(payment):
            return payment.key
        if payment.payee_acct is None or payment.refund_of is None:
            return None
        key = PaymentKey(payer_key=PayerKey(payment.payee_acct), payment_id=PaymentId(payment.refund_of))
        original = payments.find(cur, key)
        return key if original is not None and is_deposit(original) else None

    def _deposit_ended(self, cur: Cursor, deposit: Deposit) -> None:
        account = accounts.by_user_id(cur, deposit.payer)
        if account is not None and self._runtime.api.is_mine(deposit.payer):
            subject = {"payer_key": account.acct, "payment_id": deposit.payment_id}
            now_ms = self._runtime.now_ms()
            store.owe(cur, f"deposit:{account.acct}:{deposit.payment_id}", Kind.DEPOSIT, subject, now_ms)
            self._noted()

    def _fare_changed(self, cur: Cursor, fare: Fare) -> None:
        if fare.answer_ms is not None:
            subject = {"owner": fare.owner, "fare_id": fare.fare_id}
            store.owe(cur, f"fare:{fare.owner}:{fare.fare_id}", Kind.PAID_CALL, subject, self._runtime.now_ms())

    def _request_changed(self, cur: Cursor, request: Request, now_ms: int) -> None:
        if request.event_id is not None and self._runtime.api.is_mine(request.requester):
            subject = {"requester": request.requester, "request_id": request.request_id}
            card_id = f"request:{request.requester}:{request.request_id}"
            store.owe(cur, card_id, Kind.REQUEST, subject, self._runtime.now_ms())

    def _pot_changed(self, cur: Cursor, pot: Pot, now_ms: int) -> None:
        if pot.event_id is None or pot.kind is not PotKind.GIFT:
            return
        # Many claim at once; the card shows them together, every two seconds at most, and the end at once.
        due_ms = now_ms
        if pot.state is PotState.OPEN and pot.shares > 1:
            due_ms = now_ms - now_ms % _TOGETHER_MS + _TOGETHER_MS
        subject = {"giver": pot.giver, "gift_id": pot.pot_id}
        store.owe(cur, f"gift:{pot.giver}:{pot.pot_id}", Kind.GIFT, subject, due_ms)

    async def _calls_reached(self, reached: Sequence[Record]) -> None:
        for record in reached:
            if record.direction is Direction.OUTGOING and record.state is CallState.MISSED:
                subject = {"session_id": record.session_id, "caller": record.user_id}
                now_ms = self._runtime.now_ms()

                def note(cur: Cursor, card_id: str = f"call:{record.session_id}", about: Any = subject) -> None:
                    store.owe(cur, card_id, Kind.CALL, about, self._runtime.now_ms())

                await self._runtime.database.run("card_owe", note)
                self._next_ms = min(self._next_ms, now_ms)

    async def _contact_shared(self, event: "EventBase") -> None:
        record = event.get_dict()["content"].get("record")
        handle = record.get("handle") if isinstance(record, dict) else None
        if event.is_state() or not self._runtime.api.is_mine(event.sender):
            return
        if not isinstance(handle, str) or parse_user_id(handle) is None:
            return
        subject = {"event_id": event.event_id, "room_id": event.room_id, "sharer": event.sender, "handle": handle}
        now_ms = self._runtime.now_ms()
        card_id = f"contact:{event.event_id}"
        await self._runtime.database.run("card_owe", lambda cur: store.owe(cur, card_id, Kind.CONTACT, subject, now_ms))
        self._noted()

    # Sending.

    def _begin(self) -> None:
        self._next_ms = 0

    def _noted(self) -> None:
        self._next_ms = min(self._next_ms, self._runtime.now_ms())

    async def _tick(self) -> None:
        now_ms = self._runtime.now_ms()
        if self._busy or now_ms < self._next_ms or not self._runtime.follower.follows:
            return
        self._busy = True
        try:
            self._next_ms = now_ms + _RELOAD_MS
            due_ms = await self._runtime.database.run("cards_next", store.next_due_ms)
            if due_ms is not None and due_ms <= now_ms:
                for card in await self._runtime.database.run("cards_due", lambda cur: store.due(cur, now_ms, _PAGE)):
                    await self._show(card)
                due_ms = await self._runtime.database.run("cards_next", store.next_due_ms)
            if due_ms is not None:
                self._next_ms = min(self._next_ms, max(due_ms, now_ms))
        finally:
            self._busy = False

    async def _show(self, card: Card) -> None:
        if not self._runtime.follower.follows:
            # It stays due, where the follower is now.
            return
        try:
            found = await self._face(card)
            face = found if isinstance(found, Face) else None
            text = None if face is None else face.said.plain
            event_id = card.event_id
            if face is not None and text != card.shown and await self._is_wanted(face):
                event_id = await self._send(card, face)
            again_ms = None if found is None else found.again_ms
            await self._runtime.database.run("card_shown", lambda cur: store.shown(cur, card, event_id, text, again_ms))
        except Exception as error:
            final = isinstance(error, SynapseError) and error.code == _FORBIDDEN
            if final or card.attempts >= _ATTEMPTS_MAX:
                # They have left the room, or may not write there.
                logger.info("The card %s is given up: %s", card.card_id, error)
                due_ms = None
            else:
                logger.warning("The card %s could not be shown and is tried again", card.card_id, exc_info=error)
                due_ms = self._runtime.now_ms() + _PAUSES_MS[min(card.attempts, len(_PAUSES_MS) - 1)]
            await self._runtime.database.run("card_put_off", lambda cur: store.put_off(cur, card, due_ms))

    async def _is_wanted(self, face: Face) -> bool:
        """Whether the person lets cards be sent for them, and the room is one where they can be read."""
        accounts = self._runtime.api.account_data_manager
        preferences = await accounts.get_global(face.sender, AccountDataType.PREFERENCES.value)
        if preferences is not None and preferences.get("cards") is False:
            return False
        return not await self._runtime.api.get_room_state(face.room_id, [(_ENCRYPTION, "")])

    async def _send(self, card: Card, face: Face) -> EventId:
        content = _notice(face.said, face.key)
        if card.event_id is not None:
            edited = Text(plain=f"* {face.said.plain}", html=f"* {face.said.html}")
            content = {
                **_notice(edited, face.key),
                "m.new_content": content,
                "m.relates_to": {"rel_type": "m.replace", "event_id": card.event_id},
            }
        event = await self._runtime.api.create_and_send_event_into_room(
            {"type": "m.room.message", "room_id": face.room_id, "sender": face.sender, "content": content}
        )
        # Edits are made to the first one.
        return card.event_id or EventId(event.event_id)

    async def _face(self, card: Card) -> Face | Nowhere | None:
        match card.kind:
            case Kind.PAYMENT:
                return await self._payment(card)
            case Kind.REQUEST:
                return await self._request(card)
            case Kind.CALL:
                return await self._call(card)
            case Kind.GIFT:
                return await self._gift(card)
            case Kind.DEPOSIT:
                return await self._deposit(card)
            case Kind.PAID_CALL:
                return await self._paid_call(card)
            case Kind.CONTACT:
                return self._contact(card)

    def _contact(self, card: Card) -> Face:
        sharer, handle = UserId(card.subject["sharer"]), str(card.subject["handle"])
        return Face(
            room_id=RoomId(card.subject["room_id"]),
            sender=sharer,
            said=self._speech.card_of_contact(sharer, handle),
            key=_key("contact", EventId(card.subject["event_id"]), {"sharer": sharer, "handle": handle}),
        )

    async def _payment(self, card: Card) -> Face | None:
        key = PaymentKey(
            payer_key=PayerKey(card.subject["payer_key"]), payment_id=PaymentId(card.subject["payment_id"])
        )
        payment = await self._runtime.database.run("card_payment", lambda cur: payments.find(cur, key))
        if payment is None or payment.room_id is None or payment.event_id is None:
            return None
        said = self._speech.card_of_payment(
            payment.payer, payment.payee.user_id, payment.money, payment.memo or "", payment.state.value
        )
        pointing = {
            "payment_id": payment.payment_id,
            "payer": payment.payer,
            "payee": payment.payee.user_id,
            **self._terms(payment.money, payment.memo, payment.state.value),
        }
        return Face(
            room_id=payment.room_id, sender=payment.payer, said=said, key=_key("payment", payment.event_id, pointing)
        )

    async def _request(self, card: Card) -> Face | None:
        key = RequestKey(requester=UserId(card.subject["requester"]), request_id=RequestId(card.subject["request_id"]))
        request = await self._runtime.database.run("card_request", lambda cur: requests.find(cur, key))
        if request is None or request.event_id is None:
            return None
        now_ms = self._runtime.now_ms()
        state = request_rules.state_of(request, request.requester, now_ms)
        said = await self._say_request(request, state)
        pointing = {
            "request_id": request.request_id,
            "requester": request.requester,
            "payers": [payer.user_id for payer in request.payers],
            **({} if request.kind is RequestKind.EACH else {"split": request.kind.value, "paid": request.paid_minor}),
            **self._terms(request.money, request.memo, state.value),
        }
        return Face(
            room_id=request.room_id,
            sender=request.requester,
            said=said,
            key=_key("request", request.event_id, pointing),
            again_ms=request.expires_ms if state is RequestState.OPEN else None,
        )

    def _terms(self, money: Money, memo: str | None, state: str) -> dict[str, Any]:
        """The same that the text says, for clients that draw a card of their own."""
        asset = self._assets.get(money.currency)
        scale = {} if asset is None else {"scale": asset.scale}
        said = {"memo": memo} if memo else {}
        return {"amount": money.amount_minor, "currency": money.currency, **scale, **said, "state": state}

    async def _say_request(self, request: Request, state: RequestState) -> Text:
        memo = request.memo or ""
        match request.kind:
            case RequestKind.EACH:
                asked = [payer.user_id for payer in request.payers]
                return self._speech.card_of_request(request.requester, asked, request.money, memo, state.value)
            case RequestKind.SPLIT:
                people = [(_MEMBER, payer.user_id) for payer in request.payers]
                members = await self._runtime.api.get_room_state(request.room_id, people)
                there = {user for (_, user), event in members.items() if event.content.get("membership") == "join"}
                parts = [
                    (
                        payer.user_id,
                        request.due_of(payer),
                        "left" if payer.answer is Answer.OPEN and payer.user_id not in there else payer.answer.value,
                    )
                    for payer in request.payers
                ]
                return self._speech.card_of_split(
                    request.requester, parts, request.money, request.paid_minor, memo, state.value
                )
            case RequestKind.GOAL:
                people_in = len({each.payer for each in request.contributions if each.paid})
                return self._speech.card_of_goal(
                    request.requester, request.money, request.paid_minor, people_in, memo, state.value
                )

    async def _gift(self, card: Card) -> Face | None:
        giver, pot_id = UserId(card.subject["giver"]), PotId(card.subject["gift_id"])

        def look(cur: Cursor) -> tuple[Pot, tuple[Share, ...]] | None:
            found = pots.named(cur, giver, pot_id)
            return None if found is None else (found, pots.shares(cur, found.key))

        found = await self._runtime.database.run("card_gift", look)
        if found is None or found[0].room_id is None or found[0].event_id is None:
            return None
        (pot, shares), room_id = found, found[0].room_id
        got = sorted(
            (share for share in shares if share.state is ShareState.TAKEN), key=lambda share: share.claimed_ms or 0
        )
        best = pot_rules.luckiest(pot.split, shares) if pot.state is not PotState.OPEN else None
        said = self._speech.card_of_gift(
            giver,
            pot.money,
            pot.shares,
            [
                (share.claimer or "", Money(amount_minor=share.amount_minor, currency=pot.money.currency))
                for share in got
            ],
            pot.memo or "",
            pot.state.value,
            None if best is None else best.claimer,
        )
        return Face(
            room_id=room_id,
            sender=giver,
            said=said,
            key=_key(
                "gift",
                pot.event_id,
                {
                    "gift_id": pot.pot_id,
                    "giver": giver,
                    "shares": pot.shares,
                    "taken": len(got),
                    **self._terms(pot.money, pot.memo, pot.state.value),
                },
            ),
        )

    async def _call(self, card: Card) -> Face | None:
        session_id = SessionId(card.subject["session_id"])
        session = await self._runtime.database.run("card_call", lambda cur: calls.locked(cur, session_id))
        if session is None:
            return None
        pointing: dict[str, Any] = {"call_id": session.call_id, "caller": session.caller}
        return Face(
            room_id=session.room_id,
            sender=session.caller,
            said=self._speech.card_of_missed_call(session.caller, session.ring_ms),
            key=_key("call", session.superapp_event_id, pointing),
        )

    async def _deposit(self, card: Card) -> Face | Nowhere | None:
        key = PaymentKey(
            payer_key=PayerKey(card.subject["payer_key"]), payment_id=PaymentId(card.subject["payment_id"])
        )

        def look(cur: Cursor) -> tuple[Payment, str, RoomId | None] | None:
            payment = payments.find(cur, key)
            if payment is None or payment.payer_acct is None:
                return None
            rooms = self._runtime.private.common_rooms(cur, payment.payer, payment.payee.user_id)
            room_id = next((each.room_id for each in rooms if each.only_two and not each.encrypted), None)
            return payment, self._state_of_deposit(cur, payment), room_id

        found = await self._runtime.database.run("card_deposit", look)
        if found is None:
            return None
        payment, state, room_id = found
        if room_id is None:
            now_ms = self._runtime.now_ms()
            is_late = now_ms > payment.created_ms + _NO_ROOM_MS
            return None if is_late else Nowhere(again_ms=now_ms + _NO_ROOM_YET_MS)
        said = self._speech.card_of_deposit(payment.payer, payment.payee.user_id, payment.money, state)
        pointing = {
            "deposit_id": payment.payment_id,
            "payer": payment.payer,
            "recipient": payment.payee.user_id,
            **self._terms(payment.money, None, state),
        }
        return Face(room_id=room_id, sender=payment.payer, said=said, key=_key("deposit", None, pointing))

    @staticmethod
    def _state_of_deposit(cur: Cursor, payment: Payment) -> str:
        """As far as the payer's homeserver knows: that it was kept only where it is the recipient's too."""
        if payments.refunded_minor(cur, payment, None) > 0:
            return DepositState.RETURNED.value
        kept = deposits.find(cur, DepositKey(payer=payment.payer, payment_id=payment.payment_id))
        return "kept" if kept is not None and kept.state is DepositState.KEPT else "open"

    async def _paid_call(self, card: Card) -> Face | None:
        key = FareKey(owner=Acct(card.subject["owner"]), fare_id=FareId(card.subject["fare_id"]))

        def look(cur: Cursor) -> tuple[Fare, Session | None] | None:
            fare = fares.find(cur, key)
            if fare is None or (fare.link_id is not None and not self._is_between_two(cur, fare)):
                return None
            return fare, None if fare.session_id is None else calls.locked(cur, fare.session_id)

        found = await self._runtime.database.run("card_fare", look)
        if found is None:
            return None
        fare, session = found
        room_id = fare.room_id if session is None else session.room_id
        if room_id is None or fare.answer_ms is None:
            return None
        is_over = fare.state is FareState.ENDED
        talked_ms = fare.talked_ms or 0
        said = self._speech.card_of_paid_call(
            fare.caller, fare.callee, fare.price, talked_ms, fare.paid_minor, is_over=is_over
        )
        over = {"talked_ms": talked_ms, "paid": fare.paid_minor} if is_over else {}
        pointing = {
            "fare_id": fare.fare_id,
            "caller": fare.caller,
            "callee": fare.callee,
            "per": "minute",
            **({} if session is None else {"call_id": session.call_id}),
            **over,
            **self._terms(fare.price, None, "ended" if is_over else "running"),
        }
        event_id = None if session is None else session.superapp_event_id
        return Face(room_id=room_id, sender=fare.caller, said=said, key=_key("paid_call", event_id, pointing))

    def _is_between_two(self, cur: Cursor, fare: Fare) -> bool:
        """Whether only they who have to do with it read what is said in the room of a call behind a link."""
        rooms = self._runtime.private.common_rooms(cur, fare.caller, fare.callee)
        return any(each.only_two and each.room_id == fare.room_id for each in rooms)


def _key(kind: str, event_id: EventId | None, pointing: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"v": 1, "kind": kind, **pointing}
    return found if event_id is None else {**found, "event_id": event_id}


def _notice(said: Text, key: dict[str, Any]) -> dict[str, Any]:
    return {
        "msgtype": "m.notice",
        "body": said.plain,
        "format": "org.matrix.custom.html",
        "formatted_body": said.html,
        # Nobody is mentioned: a card calls for nobody's attention.
        "m.mentions": {},
        CARD_KEY: key,
    }
