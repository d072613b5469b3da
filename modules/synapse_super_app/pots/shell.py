"""Gifts and links in the homeserver: routes, the gate, what stands in rooms, other homeservers, and time.

The giver's homeserver decides all about a pot, in the process that writes the ledger. One of its own people claims by
the API or by an event; somebody of another homeserver claims at theirs, which asks over federation, authenticated by
X-Matrix, so that each homeserver speaks for its own people only. Fails closed: what cannot be decided is refused, and
the money lies where it lay.
"""

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import SystemRandom
from typing import Any, Final

from pydantic import ValidationError
from synapse.module_api import NOT_SPAM, EventBase
from synapse.module_api.errors import SynapseError

from super_app.assistant.speech import Speech
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import EventId, PaymentId, RoomId, ServerName, UserId, parse_user_id, server_of
from super_app.money import Money, check_money
from super_app.names import ERRCODE_PREFIX, POTS_PATH, WEB_PREFIX, EventType
from super_app.payments.model import MEMO_MAX_CHARACTERS, PayerKey, Payment, PaymentKey, Salts, State
from super_app.payments.service import Payments
from super_app.pots import rules, store
from super_app.pots.model import (
    GIFT_MS,
    Claim,
    Claimed,
    Kind,
    Pot,
    PotId,
    PotKey,
    PotState,
    Share,
    ShareState,
    Split,
)
from super_app.pots.service import Note, Pots
from super_app.safeguards.passkeys import about_payment
from super_app.safeguards.service import Safeguards
from super_app.wire import is_text
from synapse_super_app.assistant.catalogues import catalogue
from synapse_super_app.gate import Verdict
from synapse_super_app.http.at_once import AtOnce
from synapse_super_app.http.refusals import error_of
from synapse_super_app.http.routes import Call, Route, Sessions
from synapse_super_app.ledger.relay import Relay, refused_from, refused_json
from synapse_super_app.payments import metrics
from synapse_super_app.payments.announced import Announced
from synapse_super_app.payments.commits import PaymentsWriter
from synapse_super_app.payments.follow import Wakes
from synapse_super_app.payments.orders import not_a_message
from synapse_super_app.payments.residents import Residents
from synapse_super_app.payments.rooms import Rooms
from synapse_super_app.payments.watch import Watch, is_settled
from synapse_super_app.people import People
from synapse_super_app.pots import bodies
from synapse_super_app.private_api import PutFailed
from synapse_super_app.runtime import Runtime
from synapse_super_app.safeguards.pins import Pins

logger = logging.getLogger(__name__)

_MEMBER: Final = "m.room.member"
_ENCRYPTION: Final = "m.room.encryption"
_SERVLET_GROUP: Final = "superapp_pots"
_RELAYED: Final = "pots"
_RELAYED_CLAIM: Final = "pot_claim"
_SALT_BYTES: Final = 16
_TICK_MS: Final = 1_000.0
_RELOAD_MS: Final = 30_000
_PAGE: Final = 50
_ASK_TIMEOUT_MS: Final = 10_000
_PATIENCE_MS: Final = 2_000
_MAX_AGE_MS: Final = 60_000
_MAX_UNDER_WAY: Final = 1_000
"""Requests of one origin at a time."""
_SEEN_KEPT_MS: Final = 2 * GIFT_MS
_TELL_MS: Final = 7 * 86_400_000
"""How long after its time the end of a gift is tried to be told."""
_FORGET_MS: Final = 3_600_000.0
_SENTENCE_MAX: Final = 500
_FIRST_SERVER_ERROR: Final = 500
_TOO_MANY: Final = 429
_FORBIDDEN: Final = 403
_END_MAX_CHARACTERS: Final = 40_000
"""Of the list of claimers in the event of an end; a longer one is left out, and stands in ``GET gifts``."""

_GIFT_REASONS: Final = (Reason.UNKNOWN_GIFT,)
_CLAIM_REASONS: Final = (
    Reason.WRONG_CLAIMER,
    Reason.PAYEE_IS_SELF,
    Reason.EXPIRED,
    Reason.CANCELLED,
    Reason.GIFT_GONE,
    Reason.NOT_ALLOWED,
    Reason.NO_LINK,
    Reason.LINK_HALTED,
    Reason.PEER_UNREACHABLE,
    Reason.PAYEE_LIMIT,
    Reason.PAYEE_GONE,
    Reason.ACCOUNT_FROZEN,
    Reason.PAYMENTS_HALTED,
    Reason.TOO_MANY_REQUESTS,
)
_MAKE_REASONS: Final = (
    Reason.INVALID_AMOUNT,
    Reason.UNKNOWN_CURRENCY,
    Reason.MEMO_TOO_LONG,
    Reason.CONFLICT,
    Reason.INSUFFICIENT_FUNDS,
    Reason.ACCOUNT_FROZEN,
    Reason.LIMIT_EXCEEDED,
    Reason.WALLET_LOCKED,
    Reason.PIN_NOT_SET,
    Reason.PIN_REQUIRED,
    Reason.PIN_WRONG,
    Reason.PIN_LOCKED,
    Reason.PASSKEY_REFUSED,
    Reason.PAYMENTS_HALTED,
)


_Done = tuple[Claimed, tuple[Share, ...], tuple[int, int] | None]
"""What a claim got, the shares that are to be shown, and how many others are free and what they come to."""


class Members:
    """``super_app.pots.ports.Members``, from Synapse's own tables."""

    def __init__(self, runtime: Runtime, residents: Residents) -> None:
        self._private = runtime.private
        self._residents = residents

    def is_member(self, cur: Cursor, user_id: UserId, room_id: RoomId) -> bool:
        return self._private.is_member(cur, user_id, room_id)

    def blocks(self, cur: Cursor, resident: UserId, other: UserId) -> bool:
        return self._residents.blocks(cur, resident, other)


class PotsShell:
    def __init__(
        self,
        *,
        runtime: Runtime,
        payments: Payments,
        safeguards: Safeguards,
        residents: Residents,
        writer: PaymentsWriter,
        people: People,
        rooms: Rooms,
        announced: Announced,
        watch: Watch,
        relay: Relay,
        clearing: Wakes,
        pins: Pins,
    ) -> None:
        self._runtime = runtime
        self._writer = writer
        self._people = people
        self._rooms = rooms
        self._announced = announced
        self._watch = watch
        self._relay = relay
        self._clearing = clearing
        self._pins = pins
        self._assets = runtime.config.payments.by_code()
        language = runtime.config.assistant.language
        self._speech = Speech(language, catalogue(language), self._assets)
        self._random = SystemRandom()
        self.pots = Pots(
            payments=payments,
            guards=safeguards,
            members=Members(runtime, residents),
            is_halted=residents.payments_are_halted,
        )
        payments.pay_out_of(self.pots)
        safeguards.count_aside(self.pots.aside_minor)
        self.pots.while_changing(self._changed)
        self._noted: list[Callable[[], None]] = []
        self._at_once = AtOnce(_MAX_UNDER_WAY)
        self._sending: set[PotKey] = set()
        self._next_ms = 0
        self._busy = False
        relay.serve(_RELAYED, self._asked_relayed)
        relay.serve(_RELAYED_CLAIM, self._claim_relayed)
        runtime.private.answer_put(_SERVLET_GROUP, POTS_PATH, self._put)
        runtime.gate.register(
            {
                EventType.GIFT: self._gate_ours,
                EventType.GIFT_END: self._gate_ours,
                EventType.GIFT_CLAIM: self._gate_claim,
            }
        )
        runtime.follower.register({EventType.GIFT: self._gift_persisted})

    def while_changing(self, note: Note, noted: Callable[[], None]) -> None:
        """Call ``note`` inside each transaction that changes a pot, and ``noted`` when one may have committed."""
        self.pots.while_changing(note)
        self._noted.append(noted)

    def start(self) -> None:
        api = self._runtime.api
        api.looping_background_call(self._tick, _TICK_MS, desc="superapp_pots", run_on_all_instances=True)
        api.looping_background_call(self._forget, _FORGET_MS, desc="superapp_pots_seen", run_on_all_instances=True)

    def routes(self) -> Sequence[Route]:
        return (*self._gift_routes(), *self._link_routes())

    def _gift_routes(self) -> Sequence[Route]:
        return (
            Route(
                method="POST",
                path="gifts",
                handler=self._post_gift,
                response=bodies.GiftJson,
                summary="Give money to the people of a room, in shares that they claim; the same again changes nothing",
                body=bodies.GiftBody,
                reasons=(
                    *_MAKE_REASONS,
                    Reason.NOT_IN_ROOM,
                    Reason.ROOM_ENCRYPTED,
                    Reason.PAYEE_NOT_IN_ROOM,
                    Reason.PAYEE_IS_SELF,
                    Reason.UNKNOWN_PAYEE,
                ),
            ),
            Route(
                method="GET",
                path="gifts",
                sessions=Sessions.READ,
                handler=self._get_gifts,
                response=bodies.GiftsPage,
                summary="The gifts that you have given, newest first",
                query=bodies.PageQuery,
            ),
            Route(
                method="GET",
                path="gifts/{gift_id}",
                sessions=Sessions.READ,
                handler=self._get_gift,
                response=bodies.GiftJson,
                summary="One gift, and what was drawn once it is over; if somebody else gave it, name them",
                query=bodies.GiverQuery,
                reasons=(*_GIFT_REASONS, Reason.PEER_UNREACHABLE),
            ),
            Route(
                method="POST",
                path="gifts/{gift_id}/claim",
                handler=self._claim_gift,
                response=bodies.GiftJson,
                summary="Claim your share of a gift; again it gives what you have got",
                query=bodies.GiverQuery,
                reasons=(*_GIFT_REASONS, Reason.NOT_IN_ROOM, *_CLAIM_REASONS),
            ),
            Route(
                method="POST",
                path="gifts/{gift_id}/cancel",
                handler=self._cancel_gift,
                response=bodies.GiftJson,
                summary="Take back what nobody has claimed of a gift of yours",
                reasons=(*_GIFT_REASONS, Reason.ALREADY_DECIDED),
            ),
        )

    def _link_routes(self) -> Sequence[Route]:
        return (
            Route(
                method="POST",
                path="claims",
                handler=self._post_link,
                response=bodies.LinkJson,
                summary="Put money under a link that somebody claims, who may have no account with us yet",
                body=bodies.LinkBody,
                reasons=(*_MAKE_REASONS, Reason.PAYEE_IS_SELF),
            ),
            Route(
                method="GET",
                # Not for sessions that only read: it shows the links, and whoever has a link has the money.
                path="claims",
                handler=self._get_links,
                response=bodies.LinksPage,
                summary="The links that you have handed out, newest first",
                query=bodies.PageQuery,
            ),
            Route(
                method="GET",
                path="claims/{claim_id}",
                handler=self._get_link,
                response=bodies.LinkJson,
                summary="One of your links",
                reasons=(Reason.UNKNOWN_CLAIM,),
            ),
            Route(
                method="POST",
                path="claims/{claim_id}/cancel",
                handler=self._cancel_link,
                response=bodies.LinkJson,
                summary="Take the money of a link back that nobody has claimed",
                reasons=(Reason.UNKNOWN_CLAIM, Reason.ALREADY_DECIDED),
            ),
            Route(
                method="POST",
                path="claims/look",
                handler=self._look_at_link,
                response=bodies.LinkJson,
                summary="What is to be had under a link, wherever it is from",
                body=bodies.RedeemBody,
                reasons=(Reason.UNKNOWN_CLAIM, Reason.PEER_UNREACHABLE),
            ),
            Route(
                method="POST",
                path="claims/redeem",
                handler=self._redeem,
                response=bodies.LinkJson,
                summary="Claim the money under a link; again it gives what you have got",
                body=bodies.RedeemBody,
                reasons=(Reason.UNKNOWN_CLAIM, *_CLAIM_REASONS),
            ),
        )

    # Gifts.

    async def _post_gift(self, call: Call) -> bodies.GiftJson | Refused:
        body: bodies.GiftBody = call.body
        giver = call.user_id
        money = _money(body.amount, body.currency, body.memo, self._assets)
        if isinstance(money, Refused):
            return metrics.count(money)
        refused = rules.judge_count(money, body.shares)
        if refused is not None:
            return metrics.count(refused)
        acct = await self._runtime.accounts.acct_of(giver)
        key = PotKey(giver_acct=acct, pot_id=PotId(body.gift_id))
        only = await self._meant(giver, body.only)
        if isinstance(only, Refused):
            return metrics.count(only)
        known = await self._find(key)
        room_id = RoomId(body.room_id)
        if known is None:
            refused = await self._judge_room(room_id, giver, only)
            if refused is not None:
                return metrics.count(refused)
        split = Split(body.split)
        amounts = self._draw(money.amount_minor, body.shares, split)
        salt, now_ms = secrets.token_hex(_SALT_BYTES), self._runtime.now_ms()
        pot = Pot(
            giver_acct=acct,
            pot_id=key.pot_id,
            giver=giver,
            kind=Kind.GIFT,
            split=split,
            money=money,
            shares=body.shares,
            memo=body.memo or None,
            room_id=room_id,
            event_id=None,
            only=only,
            secret=None,
            salt=salt,
            commitment=rules.commitment(key.pot_id, salt, amounts),
            state=PotState.OPEN,
            told=False,
            created_ms=now_ms,
            expires_ms=now_ms + GIFT_MS,
        )
        made = await self._make(pot, amounts, body.pin, body.passkey)
        if isinstance(made, Refused):
            return metrics.count(made)
        if made.event_id is None and made.state is PotState.OPEN and key not in self._sending:
            self._sending.add(key)
            try:
                await self._send_gift(made)
            finally:
                self._sending.discard(key)
        return await self._shown_gift(giver, giver, key.pot_id)

    def _draw(self, total_minor: int, count: int, split: Split) -> tuple[int, ...]:
        if split is Split.EQUAL:
            return rules.equal_shares(total_minor, count)
        return rules.random_shares(total_minor, self._random.sample(range(1, total_minor), count - 1))

    async def _send_gift(self, pot: Pot) -> None:
        room_id = pot.room_id
        if room_id is None:
            raise RuntimeError(f"gift {pot.key} has no room")
        content: dict[str, Any] = {
            "gift_id": pot.pot_id,
            "amount": pot.money.amount_minor,
            "currency": pot.money.currency,
            "shares": pot.shares,
            "split": pot.split.value,
            "commitment": pot.commitment,
            "expires_ms": pot.expires_ms,
        }
        if pot.memo is not None:
            content["memo"] = pot.memo
        if pot.only is not None:
            content["for"] = pot.only
        try:
            event_id = await self._send(pot.giver, room_id, EventType.GIFT, content)
        except SynapseError as error:
            if error.code < _FIRST_SERVER_ERROR and error.code != _TOO_MANY:
                # It was refused before it existed, and would be again: nobody could claim it.
                now_ms = self._runtime.now_ms()
                await self._writer.run("pot_cancel", lambda cur: self.pots.cancel(cur, Kind.GIFT, pot.key, now_ms))
            raise
        await self._stands(pot.key, room_id, event_id)

    async def _stands(self, key: PotKey, room_id: RoomId, event_id: EventId) -> None:
        now_ms = self._runtime.now_ms()
        await self._writer.run("pot_stands", lambda cur: self.pots.stands(cur, key, room_id, event_id, now_ms))
        self._tell()

    async def _judge_room(self, room_id: RoomId, giver: UserId, only: UserId | None) -> Refused | None:
        people = [(_MEMBER, giver), *([] if only is None else [(_MEMBER, only)])]
        state = await self._runtime.api.get_room_state(room_id, [*people, (_ENCRYPTION, "")])
        joined = {each for (_, each), event in state.items() if event.content.get("membership") == "join"}
        if giver not in joined:
            return Refused(reason=Reason.NOT_IN_ROOM, message="You are not in that room; join it, then give.")
        if only is not None and only not in joined:
            return Refused(
                reason=Reason.PAYEE_NOT_IN_ROOM, message=f"{only} is not in that room; give where both of you are."
            )
        if (_ENCRYPTION, "") in state:
            return Refused(
                reason=Reason.ROOM_ENCRYPTED,
                message="This room is encrypted and a gift is not; give in a room that is not encrypted.",
            )
        return None

    async def _meant(self, giver: UserId, typed: str | None) -> UserId | Refused | None:
        if typed is None:
            return None
        person = await self._people.resolve(typed, asker=giver, max_age_ms=_MAX_AGE_MS)
        if isinstance(person, Refused):
            unknown = person.reason in (Reason.UNKNOWN_HANDLE, Reason.HANDLE_INVALID)
            return replace(person, reason=Reason.UNKNOWN_PAYEE) if unknown else person
        return _self(giver, person.user_id) or person.user_id

    async def _get_gifts(self, call: Call) -> bodies.GiftsPage | Refused:
        found = await self._page(call, Kind.GIFT)
        if isinstance(found, Refused):
            return found
        pots, following = found
        return bodies.GiftsPage(
            gifts=[bodies.gift_json(pot, shares, call.user_id) for pot, shares in pots], next=following
        )

    async def _page(self, call: Call, kind: Kind) -> tuple[Sequence[tuple[Pot, Sequence[Share]]], str | None] | Refused:
        query: bodies.PageQuery = call.query
        before = query.before()
        if isinstance(before, Refused):
            return before
        acct = await self._runtime.accounts.acct_of(call.user_id)
        pots, more = await self._runtime.database.run(
            "pots_page", lambda cur: self.pots.page(cur, acct, kind, before, query.limit)
        )
        return pots, bodies.page_token(pots[-1][0]) if more else None

    async def _get_gift(self, call: Call) -> bodies.GiftJson | Refused:
        giver = _giver(call)
        return await self._shown_gift(giver, call.user_id, PotId(call.path["gift_id"]))

    async def _shown_gift(self, giver: UserId, viewer: UserId, pot_id: PotId) -> bodies.GiftJson | Refused:
        if not self._runtime.api.is_mine(giver):
            answer = await self._ask(giver, viewer, "look", {"kind": "gift", "pot_id": pot_id})
            return answer if isinstance(answer, Refused) else _read_gift(answer, giver)
        found = await self._runtime.database.run(
            "pot_look", lambda cur: self.pots.look(cur, Kind.GIFT, giver, pot_id, viewer, None)
        )
        return found if isinstance(found, Refused) else bodies.gift_json(*found, viewer)

    async def _claim_gift(self, call: Call) -> bodies.GiftJson | Refused:
        giver, pot_id = _giver(call), PotId(call.path["gift_id"])
        answer = await self._claim(giver, pot_id, Kind.GIFT, call.user_id, None)
        if isinstance(answer, Refused):
            return metrics.count(answer)
        return _read_gift(answer, giver)

    async def _cancel_gift(self, call: Call) -> bodies.GiftJson | Refused:
        pot_id = PotId(call.path["gift_id"])
        cancelled = await self._cancel(Kind.GIFT, call.user_id, pot_id)
        if isinstance(cancelled, Refused):
            return metrics.count(cancelled)
        return await self._shown_gift(call.user_id, call.user_id, pot_id)

    # Links.

    async def _post_link(self, call: Call) -> bodies.LinkJson | Refused:
        body: bodies.LinkBody = call.body
        payer, now_ms = call.user_id, self._runtime.now_ms()
        money = _money(body.amount, body.currency, body.memo, self._assets)
        if isinstance(money, Refused):
            return metrics.count(money)
        to = None if body.to is None else parse_user_id(body.to)
        if body.to is not None and to is None:
            return Refused(reason=Reason.INVALID_VALUE, message=f"to: {body.to[:255]!a} is no Matrix id.")
        refused = None if to is None else _self(payer, to)
        acct = await self._runtime.accounts.acct_of(payer)
        key = PotKey(giver_acct=acct, pot_id=PotId(body.claim_id))
        known = await self._find(key)
        if refused is not None:
            return metrics.count(refused)
        expires_ms = known.expires_ms if known is not None else rules.link_expiry_ms(body.expires_ms, now_ms)
        if isinstance(expires_ms, Refused):
            return metrics.count(expires_ms)
        salt = secrets.token_hex(_SALT_BYTES)
        amounts = (money.amount_minor,)
        pot = Pot(
            giver_acct=acct,
            pot_id=key.pot_id,
            giver=payer,
            kind=Kind.LINK,
            split=Split.EQUAL,
            money=money,
            shares=1,
            memo=body.memo or None,
            room_id=None,
            event_id=None,
            only=to,
            secret=secrets.token_hex(_SALT_BYTES),
            salt=salt,
            commitment=rules.commitment(key.pot_id, salt, amounts),
            state=PotState.OPEN,
            told=False,
            created_ms=now_ms,
            expires_ms=expires_ms,
        )
        made = await self._make(pot, amounts, body.pin, body.passkey)
        if isinstance(made, Refused):
            return metrics.count(made)
        if made.only is not None and made.event_id is None and made.state is PotState.OPEN:
            await self._tell_invited(made, made.only)
        return await self._shown_link(payer, made.pot_id)

    async def _tell_invited(self, pot: Pot, to: UserId) -> None:
        """Write to who is invited, in plain words. Where they cannot be reached the link can still be handed out."""
        if pot.key in self._sending:
            return
        self._sending.add(pot.key)
        try:
            room_id = await self._rooms.open_direct(pot.giver, to)
            if isinstance(room_id, Refused):
                logger.info("Nobody was told of a link: %s", room_id.message)
                return
            said = self._speech.claim_invitation(pot.giver, pot.money, pot.memo or "", self._url(pot), pot.expires_ms)
            event = await self._runtime.api.create_and_send_event_into_room(
                {
                    "type": "m.room.message",
                    "room_id": room_id,
                    "sender": pot.giver,
                    "content": {
                        "msgtype": "m.text",
                        "body": said.plain,
                        "format": "org.matrix.custom.html",
                        "formatted_body": said.html,
                    },
                }
            )
        except SynapseError as error:
            logger.info("Nobody was told of a link: %s", error.msg)
            return
        finally:
            self._sending.discard(pot.key)
        await self._stands(pot.key, room_id, EventId(event.event_id))

    def _url(self, pot: Pot) -> str:
        return f"{self._runtime.api.public_baseurl.rstrip('/')}{WEB_PREFIX}/claim/#{bodies.link_token(pot)}"

    async def _get_links(self, call: Call) -> bodies.LinksPage | Refused:
        found = await self._page(call, Kind.LINK)
        if isinstance(found, Refused):
            return found
        pots, following = found
        # A session that only reads has no business with what claims money.
        return bodies.LinksPage(
            claims=[bodies.link_json(pot, shares, call.user_id, None) for pot, shares in pots], next=following
        )

    async def _get_link(self, call: Call) -> bodies.LinkJson | Refused:
        return await self._shown_link(call.user_id, PotId(call.path["claim_id"]))

    async def _shown_link(self, payer: UserId, pot_id: PotId) -> bodies.LinkJson | Refused:
        found = await self._runtime.database.run("pot_find", lambda cur: self.pots.find(cur, Kind.LINK, payer, pot_id))
        if isinstance(found, Refused):
            return found
        return bodies.link_json(*found, payer, self._url(found[0]))

    async def _cancel_link(self, call: Call) -> bodies.LinkJson | Refused:
        pot_id = PotId(call.path["claim_id"])
        cancelled = await self._cancel(Kind.LINK, call.user_id, pot_id)
        if isinstance(cancelled, Refused):
            return metrics.count(cancelled)
        return await self._shown_link(call.user_id, pot_id)

    async def _look_at_link(self, call: Call) -> bodies.LinkJson | Refused:
        read = bodies.read_link(call.body.link)
        if isinstance(read, Refused):
            return read
        payer, pot_id, secret = read
        if not self._runtime.api.is_mine(payer):
            wanted = {"kind": "link", "pot_id": pot_id, "secret": secret}
            answer = await self._ask(payer, call.user_id, "look", wanted)
            return answer if isinstance(answer, Refused) else _read_link(answer, payer)
        found = await self._runtime.database.run(
            "pot_look", lambda cur: self.pots.look(cur, Kind.LINK, payer, pot_id, call.user_id, secret)
        )
        return found if isinstance(found, Refused) else bodies.link_json(*found, call.user_id, None)

    async def _redeem(self, call: Call) -> bodies.LinkJson | Refused:
        read = bodies.read_link(call.body.link)
        if isinstance(read, Refused):
            return metrics.count(read)
        payer, pot_id, secret = read
        answer = await self._claim(payer, pot_id, Kind.LINK, call.user_id, secret)
        return metrics.count(answer) if isinstance(answer, Refused) else _read_link(answer, payer)

    # What both share.

    async def _find(self, key: PotKey) -> Pot | None:
        return await self._runtime.database.run("pot_find", lambda cur: store.find(cur, key))

    async def _make(
        self, pot: Pot, amounts: Sequence[int], pin: str | None, passkey: Mapping[str, Any] | None
    ) -> Pot | Refused:
        made = await self._put_aside(pot, amounts, proven=False)
        if isinstance(made, Refused) and made.reason is Reason.PIN_REQUIRED and (pin or passkey):
            about = about_payment(pot.only, pot.money, 0)
            unproven = await self._pins.confirm(pot.giver_acct, pin=pin, passkey=passkey, about=about)
            made = unproven or await self._put_aside(pot, amounts, proven=True)
        if isinstance(made, Pot):
            self._next_ms = min(self._next_ms, made.expires_ms)
        return made

    async def _put_aside(self, pot: Pot, amounts: Sequence[int], *, proven: bool) -> Pot | Refused:
        now_ms = self._runtime.now_ms()
        return await self._writer.run("pot_make", lambda cur: self.pots.make(cur, pot, amounts, now_ms, proven=proven))

    async def _cancel(self, kind: Kind, giver: UserId, pot_id: PotId) -> Pot | Refused:
        key = PotKey(giver_acct=await self._runtime.accounts.acct_of(giver), pot_id=pot_id)
        now_ms = self._runtime.now_ms()
        cancelled = await self._writer.run("pot_cancel", lambda cur: self.pots.cancel(cur, kind, key, now_ms))
        self._tell()
        return cancelled

    async def _claim(
        self, giver: UserId, pot_id: PotId, kind: Kind, claimer: UserId, secret: str | None
    ) -> Mapping[str, Any] | Refused:
        """Claim for one of ours, here or at the giver's homeserver. What comes of it, as JSON."""
        if self._runtime.api.is_mine(giver):
            claim = Claim(
                giver=giver,
                pot_id=pot_id,
                kind=kind,
                claimer=claimer,
                claimer_acct=await self._runtime.accounts.acct_of(claimer),
                payment_id=PaymentId(secrets.token_hex(_SALT_BYTES)),
                secret=secret,
            )
            return await self._claim_here(claim)
        answer = await self._claim_elsewhere(giver, pot_id, kind, claimer, secret)
        if isinstance(answer, Refused) and answer.reason is Reason.CONFLICT:
            # The payment of an earlier try came to nothing over there before anything of it was written down here.
            await self._forget_claim(giver, claimer, pot_id)
            answer = await self._claim_elsewhere(giver, pot_id, kind, claimer, secret)
        return answer

    async def _forget_claim(self, giver: UserId, claimer: UserId, pot_id: PotId) -> None:
        await self._writer.run("pot_unexpect", lambda cur: store.forget_expected(cur, giver, claimer, pot_id))

    async def _claim_elsewhere(
        self, giver: UserId, pot_id: PotId, kind: Kind, claimer: UserId, secret: str | None
    ) -> Mapping[str, Any] | Refused:
        payment_id, now_ms = PaymentId(secrets.token_hex(_SALT_BYTES)), self._runtime.now_ms()
        expected = await self._writer.run(
            "pot_expect", lambda cur: self.pots.expect(cur, giver, pot_id, claimer, payment_id, now_ms)
        )
        key = PaymentKey(payer_key=PayerKey(giver), payment_id=expected)
        # Listening first: the payment may be here before the answer is.
        with self._watch.listening(key, is_settled) as listening:
            wanted = {"kind": kind.value, "pot_id": pot_id, "payment_id": expected, "secret": secret}
            answer = await self._ask(giver, claimer, "claim", wanted)
            if isinstance(answer, Refused):
                return answer
            arrived = await self._arrived(giver, claimer, expected)
            if _may_still_come(answer) and (arrived is None or not is_settled(arrived)):
                await listening.until(_PATIENCE_MS)
                arrived = await self._arrived(giver, claimer, expected)
        return _with_arrival(answer, arrived)

    async def _arrived(self, giver: UserId, claimer: UserId, payment_id: PaymentId) -> Payment | None:
        return await self._runtime.database.run(
            "pot_arrived", lambda cur: self.pots.arrived(cur, giver, claimer, payment_id)
        )

    async def _claim_here(self, claim: Claim) -> Mapping[str, Any] | Refused:
        salts, now_ms = _fresh_salts(), self._runtime.now_ms()

        def work(cur: Cursor) -> _Done | Refused:
            claimed = self.pots.claim(cur, claim, salts, now_ms)
            if isinstance(claimed, Refused):
                return claimed
            key = claimed.pot.key
            if claimed.failed is not None or claimed.pot.state is not PotState.OPEN or claimed.pot.shares == 1:
                return claimed, store.shares(cur, key), None
            # Hundreds claim at once; each hears of what is left, and need not read who else has what.
            counts, _, free_minor = store.standing(cur, key)
            return claimed, (claimed.share,), (counts.get(ShareState.FREE, 0), free_minor)

        done: _Done | Refused
        if claim.claimer_acct:
            done = await self._writer.run("pot_claim", work)
        else:
            done = await self._clearing.run_and_send("pot_claim", work, _peer_of)
        if isinstance(done, Refused):
            return done
        self._tell()
        claimed, shares, left = done
        failed_share = None if claimed.failed is None else claimed.share
        if claim.kind is Kind.GIFT:
            shown: Any = bodies.gift_json(claimed.pot, shares, claim.claimer, claimed.failed, failed_share, left)
        else:
            shown = bodies.link_json(claimed.pot, shares, claim.claimer, None, claimed.failed, failed_share)
        found: Mapping[str, Any] = shown.model_dump(mode="json", exclude_none=True, by_alias=True)
        return found

    # Other homeservers.

    async def _ask(
        self, giver: UserId, claimer: UserId, deed: str, wanted: Mapping[str, Any]
    ) -> Mapping[str, Any] | Refused:
        body = {"giver": giver, "claimer": claimer, **{name: each for name, each in wanted.items() if each is not None}}
        server = server_of(giver)
        try:
            return await self._runtime.private.put(server, f"{POTS_PATH}/{deed}", body, _ASK_TIMEOUT_MS)
        except PutFailed as failure:
            return _refusal_of(failure, server)

    async def _put(self, origin: ServerName, deed: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Another homeserver asks for one of its people."""
        with self._at_once.one_of(origin):
            return await self._relay.at_writer(
                _RELAYED,
                lambda: {"origin": origin, "deed": deed, "body": dict(body)},
                lambda: self._asked(origin, deed, body),
                dict,
            )

    async def _asked_relayed(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return await self._asked(ServerName(arguments["origin"]), arguments["deed"], arguments["body"])

    async def _asked(self, origin: str, deed: str, body: Mapping[str, Any]) -> dict[str, Any]:
        wanted = bodies.WantedJson.parse(dict(body))
        if isinstance(wanted, Refused):
            raise error_of(wanted)
        answer = await self._answered(origin, deed, wanted)
        if isinstance(answer, Refused):
            raise error_of(metrics.count(answer))
        return dict(answer)

    async def _answered(self, origin: str, deed: str, wanted: bodies.WantedJson) -> Mapping[str, Any] | Refused:
        giver, claimer = parse_user_id(wanted.giver), parse_user_id(wanted.claimer)
        kind, pot_id = Kind(wanted.kind), PotId(wanted.pot_id)
        if claimer is None or server_of(claimer) != origin:
            return Refused(
                reason=Reason.WRONG_ORIGIN, message="A homeserver claims for its own people only; ask for one of yours."
            )
        if giver is None or not self._runtime.api.is_mine(giver):
            return rules.unknown(kind, wanted.pot_id)
        if deed == "look":
            found = await self._runtime.database.run(
                "pot_look", lambda cur: self.pots.look(cur, kind, giver, pot_id, claimer, wanted.secret)
            )
            if isinstance(found, Refused):
                return found
            pot, shares = found
            shown: Any = (
                bodies.gift_json(pot, shares, claimer)
                if kind is Kind.GIFT
                else bodies.link_json(pot, shares, claimer, None)
            )
            return dict(shown.model_dump(mode="json", exclude_none=True, by_alias=True))
        if deed != "claim" or wanted.payment_id is None:
            return Refused(reason=Reason.INVALID_VALUE, message="Ask to look at it or to claim it, with a payment_id.")
        claim = Claim(
            giver=giver,
            pot_id=pot_id,
            kind=kind,
            claimer=claimer,
            claimer_acct="",
            payment_id=PaymentId(wanted.payment_id),
            secret=wanted.secret,
        )
        return await self._claim_here(claim)

    # The gate.

    async def _gate_ours(self, event: EventBase) -> Verdict:
        if not self._runtime.api.is_mine(event.sender):
            self._runtime.follower.expect()
            return NOT_SPAM
        content, event_type = event.get_dict()["content"], EventType(event.type)
        if not event.is_state() and self._announced.includes(event.sender, event.room_id, event_type, content):
            self._runtime.follower.expect()
            return NOT_SPAM
        refused = Refused(
            reason=Reason.SERVER_ONLY,
            message="Only homeservers draw gifts and say how they ended; use POST gifts. Nothing was given.",
        )
        raise error_of(metrics.count(refused))

    async def _gate_claim(self, event: EventBase) -> Verdict:
        """A client claims by an event. It stands in the room where the claim was good, and moves nothing itself."""
        if not self._runtime.api.is_mine(event.sender):
            return NOT_SPAM
        private = self._runtime.private
        if event.is_state() or private.is_sticky(event) or private.is_delayed(event):
            raise error_of(metrics.count(not_a_message()))
        content = event.get_dict()["content"]
        giver, gift_id = content.get("giver"), content.get("gift_id")
        user_id = parse_user_id(giver) if isinstance(giver, str) else None
        if user_id is None or not isinstance(gift_id, str) or not is_text(gift_id) or len(gift_id) > 32:
            refused: Refused | None = Refused(
                reason=Reason.INVALID_VALUE, message="A claim names giver and gift_id, as the gift's event has them."
            )
        else:
            refused = await self._claim_by_event(UserId(event.sender), user_id, PotId(gift_id))
        if refused is not None:
            raise error_of(metrics.count(refused))
        return NOT_SPAM

    async def _claim_by_event(self, claimer: UserId, giver: UserId, pot_id: PotId) -> Refused | None:
        async def here() -> Refused | None:
            answer = await self._claim(giver, pot_id, Kind.GIFT, claimer, None)
            return answer if isinstance(answer, Refused) else None

        return await self._relay.at_writer(
            _RELAYED_CLAIM,
            lambda: {"claimer": claimer, "giver": giver, "pot_id": pot_id},
            here,
            lambda found: refused_from(found["refused"]) if "refused" in found else None,
        )

    async def _claim_relayed(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        claimer, giver, pot_id = (arguments[name] for name in ("claimer", "giver", "pot_id"))
        answer = await self._claim(UserId(giver), PotId(pot_id), Kind.GIFT, UserId(claimer), None)
        return {"refused": refused_json(answer)} if isinstance(answer, Refused) else {}

    # What stands in rooms.

    async def _gift_persisted(self, event: EventBase) -> None:
        if event.is_state():
            return
        gift_id = event.get_dict()["content"].get("gift_id")
        if not isinstance(gift_id, str) or not is_text(gift_id) or len(gift_id) != 32:
            return
        now_ms = self._runtime.now_ms()
        await self._writer.run(
            "pot_see",
            lambda cur: store.see(
                cur,
                RoomId(event.room_id),
                UserId(event.sender),
                PotId(gift_id),
                EventId(event.event_id),
                now_ms,
            ),
        )

    async def newest_in(self, room_id: RoomId) -> Sequence[tuple[UserId, PotId]]:
        """The gifts of a room of the last day, newest first."""
        since_ms = self._runtime.now_ms() - GIFT_MS
        return await self._runtime.database.run("pots_seen", lambda cur: store.seen_in(cur, room_id, since_ms, 5))

    # Time.

    def _changed(self, cur: Cursor, pot: Pot, now_ms: int) -> None:
        if pot.state is not PotState.OPEN and not pot.told:
            self._next_ms = 0

    def _tell(self) -> None:
        for noted in self._noted:
            noted()

    async def _tick(self) -> None:
        now_ms = self._runtime.now_ms()
        if self._busy or now_ms < self._next_ms or not self._runtime.follower.follows:
            return
        self._busy = True
        try:
            self._next_ms = now_ms + _RELOAD_MS
            await self._end_what_is_over(now_ms)
            for pot in await self._runtime.database.run("pots_untold", lambda cur: store.untold(cur, _PAGE)):
                await self._say_end(pot)
            due_ms = await self._runtime.database.run("pots_next", store.next_expiry_ms)
            if due_ms is not None:
                self._next_ms = min(self._next_ms, max(due_ms, now_ms))
        finally:
            self._busy = False

    async def _end_what_is_over(self, now_ms: int) -> None:
        over = await self._runtime.database.run("pots_over", lambda cur: store.over(cur, now_ms, _PAGE))
        for pot in over:
            key = pot.key

            def expire(cur: Cursor, key: PotKey = key) -> Pot | None:
                return self.pots.expire(cur, key, now_ms)

            try:
                await self._writer.run("pot_expire", expire)
            except Exception:
                # It is tried again; the others' money does not wait for it.
                logger.exception("Gift or link %s could not be ended", pot.pot_id)
        if over:
            self._tell()

    async def _say_end(self, pot: Pot) -> None:
        """Tell the room of a gift how it ended, with what was drawn."""
        shares = await self._runtime.database.run("pot_shares", lambda cur: store.shares(cur, pot.key))
        if pot.room_id is not None and pot.event_id is not None and pot.kind is Kind.GIFT:
            try:
                await self._send(pot.giver, pot.room_id, EventType.GIFT_END, _end_content(pot, shares))
            except Exception as error:  # noqa: BLE001 - whatever it was, others' ends are told all the same
                final = isinstance(error, SynapseError) and error.code == _FORBIDDEN
                if not final and self._runtime.now_ms() < pot.expires_ms + _TELL_MS:
                    logger.warning("The end of gift %s could not be told and is tried again: %s", pot.pot_id, error)
                    return
                logger.info("The end of gift %s cannot be told: %s", pot.pot_id, error)
        await self._writer.run("pot_told", lambda cur: store.set_told(cur, pot.key))

    async def _send(self, sender: UserId, room_id: RoomId, event_type: EventType, content: dict[str, Any]) -> EventId:
        with self._announced.sending(sender, room_id, event_type, content):
            event = await self._runtime.api.create_and_send_event_into_room(
                {"type": event_type, "room_id": room_id, "sender": sender, "content": content}
            )
        return EventId(event.event_id)

    async def _forget(self) -> None:
        if self._runtime.follower.follows:
            now_ms = self._runtime.now_ms()
            memos_ms = now_ms - self._runtime.config.retention.memos

            def forget(cur: Cursor) -> None:
                store.forget_seen(cur, now_ms - _SEEN_KEPT_MS)
                store.erase(cur, memos_ms)

            await self._writer.run("pots_forget", forget)


def _money(amount: object, currency: object, memo: str | None, assets: Mapping[Any, Any]) -> Money | Refused:
    if memo is not None and len(memo) > MEMO_MAX_CHARACTERS:
        return Refused(
            reason=Reason.MEMO_TOO_LONG,
            message=f"The memo has {len(memo)} characters; {MEMO_MAX_CHARACTERS} are the most. Shorten it.",
            fields={"limit": MEMO_MAX_CHARACTERS},
        )
    if memo is not None and not is_text(memo):
        return Refused(
            reason=Reason.INVALID_VALUE, message="memo contains a NUL character or half a surrogate pair; remove it."
        )
    return check_money(amount, currency, assets)


def _self(giver: UserId, other: UserId) -> Refused | None:
    if giver != other:
        return None
    return Refused(reason=Reason.PAYEE_IS_SELF, message="You cannot give to yourself; name somebody else.")


def _giver(call: Call) -> UserId:
    # What is no user id has given nothing.
    return call.user_id if call.query.giver is None else parse_user_id(call.query.giver) or UserId("@:")


def _peer_of(done: _Done | Refused) -> ServerName | None:
    """The homeserver that the payment of a share goes to."""
    if isinstance(done, Refused) or done[0].share.claimer is None:
        return None
    return server_of(done[0].share.claimer)


def _fresh_salts() -> Salts:
    wire, payer, payee, memo, room = (secrets.token_hex(_SALT_BYTES) for _ in range(5))
    return Salts(wire=wire, parties=(payer, payee, memo), room=room)


def _may_still_come(answer: Mapping[str, Any]) -> bool:
    mine = answer.get("mine")
    return isinstance(mine, dict) and mine.get("state") == "on_its_way"


def _with_arrival(answer: Mapping[str, Any], arrived: Payment | None) -> Mapping[str, Any]:
    """What another homeserver answered, with what of it has come here: that counts, and nothing that it says."""
    mine = answer.get("mine")
    if not isinstance(mine, dict):
        return answer
    state = "on_its_way" if mine.get("state") == "paid" else mine.get("state")
    if arrived is not None and arrived.state is State.COMPLETED:
        state = "paid"
    elif arrived is not None and arrived.state.final:
        state = "failed"
    return {**answer, "mine": {**mine, "state": state}}


def _read_gift(answer: Mapping[str, Any], giver: UserId) -> bodies.GiftJson | Refused:
    try:
        found = bodies.GiftJson.model_validate(dict(answer))
    except ValidationError:
        return _strange(giver)
    return found if found.giver == giver else _strange(giver)


def _read_link(answer: Mapping[str, Any], payer: UserId) -> bodies.LinkJson | Refused:
    try:
        found = bodies.LinkJson.model_validate(dict(answer))
    except ValidationError:
        return _strange(payer)
    return found if found.payer == payer else _strange(payer)


def _strange(giver: UserId) -> Refused:
    return Refused(
        reason=Reason.PEER_UNREACHABLE,
        message=f"{server_of(giver)} gave an answer that cannot be read; try again later.",
    )


def _refusal_of(failure: PutFailed, server: ServerName) -> Refused:
    """What another homeserver said, in its words where it is one of ours to say."""
    answer = failure.answer or {}
    errcode, message = answer.get("errcode"), answer.get("error")
    if isinstance(errcode, str) and errcode.startswith(ERRCODE_PREFIX) and isinstance(message, str):
        try:
            reason = Reason(errcode.removeprefix(ERRCODE_PREFIX).lower())
        except ValueError:
            reason = Reason.PEER_UNREACHABLE
        return Refused(reason=reason, message=message[:_SENTENCE_MAX])
    logger.info("%s could not be asked: %s", server, failure)
    return Refused(
        reason=Reason.PEER_UNREACHABLE, message=f"{server} does not answer; try again later. Nothing was claimed."
    )


def _end_content(pot: Pot, shares: Sequence[Share]) -> dict[str, Any]:
    """Content of ``org.superapp.gift.end``: enough for anybody to check the draw."""
    best = rules.luckiest(pot.split, shares)
    content: dict[str, Any] = {
        "m.relates_to": {"rel_type": "m.reference", "event_id": pot.event_id},
        "gift_id": pot.pot_id,
        "outcome": pot.state.value,
        "amount": pot.money.amount_minor,
        "currency": pot.money.currency,
        "split": pot.split.value,
        "commitment": pot.commitment,
        "salt": pot.salt,
        "shares": [share.amount_minor for share in shares],
    }
    if best is not None:
        content["luckiest"] = best.claimer
    claimers = [share.claimer if share.state is ShareState.TAKEN else None for share in shares]
    if sum(len(each or "") for each in claimers) <= _END_MAX_CHARACTERS:
        content["claimers"] = claimers
    return content
