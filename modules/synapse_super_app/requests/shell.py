"""Requests for money in the homeserver: routes, gate, follower, and the events that it owes to rooms.

What changes a request runs in the process that writes the ledger, as the payments that answer it do. Local senders
fail closed at the gate; events of other homeservers always pass, and are believed about their sender alone.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from synapse.module_api import NOT_SPAM, EventBase
from synapse.module_api.errors import SynapseError

from super_app.assistant.speech import Speech
from super_app.db import Cursor
from super_app.errors import Reason, Refused
from super_app.ids import EventId, PaymentId, RoomId, UserId, parse_user_id, server_of
from super_app.money import Money
from super_app.names import EventType
from super_app.payments.service import Payments
from super_app.requests import rules, store
from super_app.requests.model import (
    Answer,
    EndContent,
    Kind,
    Outgoing,
    Payer,
    Request,
    RequestContent,
    RequestId,
    RequestKey,
)
from super_app.requests.service import Note, Requests, key_of
from synapse_super_app.assistant.catalogues import catalogue
from synapse_super_app.gate import Verdict
from synapse_super_app.http.refusals import error_of
from synapse_super_app.http.routes import Call, Route, Sessions
from synapse_super_app.payments import metrics
from synapse_super_app.payments.announced import Announced
from synapse_super_app.payments.commits import PaymentsWriter
from synapse_super_app.payments.orders import not_a_message
from synapse_super_app.payments.rooms import Rooms
from synapse_super_app.people import People
from synapse_super_app.requests import bodies
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_MEMBER: Final = "m.room.member"
_MESSAGE: Final = "m.room.message"
_ENCRYPTION: Final = "m.room.encryption"
_TICK_MS: Final = 1_000.0
_RELOAD_MS: Final = 30_000
_PAUSES_MS: Final = (1_000, 5_000, 30_000, 120_000, 600_000, 3_600_000)
_ATTEMPTS_MAX: Final = 50
_FORBIDDEN: Final = 403
_FIRST_SERVER_ERROR: Final = 500
_TOO_MANY: Final = 429
_JOIN_PAUSE_MS: Final = 3_000
_MAX_AGE_MS: Final = 60_000


class _NotYetError(Exception):
    """Who is asked has not joined the room."""

    def __init__(self, due_ms: int) -> None:
        super().__init__(due_ms)
        self.due_ms = due_ms


class RequestsShell:
    def __init__(
        self,
        *,
        runtime: Runtime,
        payments: Payments,
        writer: PaymentsWriter,
        people: People,
        rooms: Rooms,
        announced: Announced,
    ) -> None:
        self._runtime = runtime
        self._payments = payments
        self._writer = writer
        self._people = people
        self._rooms = rooms
        self._announced = announced
        self._assets = runtime.config.payments.by_code()
        language = runtime.config.assistant.language
        self._speech = Speech(language, catalogue(language), self._assets)
        self.requests = Requests(runtime.api.is_mine)
        payments.answer_requests(self.requests)
        self._noted: list[Callable[[], None]] = []
        self._next_ms = 0
        self._sending = False
        runtime.gate.register(
            {EventType.PAYMENT_REQUEST: self._gate_request, EventType.PAYMENT_REQUEST_END: self._gate_end}
        )
        runtime.follower.register(
            {EventType.PAYMENT_REQUEST: self._request_persisted, EventType.PAYMENT_REQUEST_END: self._end_persisted}
        )

    def while_changing(self, note: Note, noted: Callable[[], None]) -> None:
        """Call ``note`` inside each transaction that changes a request, and ``noted`` when one has committed."""
        self.requests.while_changing(note)
        self._noted.append(noted)

    def start(self) -> None:
        self._runtime.api.looping_background_call(
            self._tick, _TICK_MS, desc="superapp_requests", run_on_all_instances=True
        )

    def routes(self) -> Sequence[Route]:
        answers = (Reason.UNKNOWN_REQUEST, Reason.CONFLICT, Reason.REQUEST_CLOSED)
        return (
            Route(
                method="POST",
                path="requests",
                handler=self._make,
                response=bodies.RequestJson,
                summary="Ask people for money, each for the whole amount; the same request again gives it as it is",
                body=bodies.MakeBody,
                reasons=(
                    Reason.INVALID_AMOUNT,
                    Reason.UNKNOWN_CURRENCY,
                    Reason.MEMO_TOO_LONG,
                    Reason.UNKNOWN_PAYEE,
                    Reason.AMBIGUOUS_PAYEE,
                    Reason.PAYEE_IS_SELF,
                    Reason.PAYEE_GONE,
                    Reason.PAYEE_NOT_IN_ROOM,
                    Reason.NOT_IN_ROOM,
                    Reason.NOT_ALLOWED,
                    Reason.ROOM_ENCRYPTED,
                    Reason.PEER_UNREACHABLE,
                    Reason.DEPOSIT_REQUIRED,
                    Reason.CONFLICT,
                    Reason.LIMIT_EXCEEDED,
                ),
            ),
            Route(
                method="GET",
                path="requests",
                sessions=Sessions.READ,
                handler=self._page,
                response=bodies.RequestsPage,
                summary="Requests that you made or are asked by, newest first",
                query=bodies.PageQuery,
            ),
            Route(
                method="GET",
                path="requests/{request_id}",
                sessions=Sessions.READ,
                handler=self._one,
                response=bodies.RequestJson,
                summary="One request; if somebody else made it, name them",
                query=bodies.RequesterQuery,
                reasons=(Reason.UNKNOWN_REQUEST, Reason.CONFLICT),
            ),
            Route(
                method="POST",
                path="requests/{request_id}/decline",
                handler=self._decline,
                response=bodies.RequestJson,
                summary="Say no to a request",
                query=bodies.RequesterQuery,
                reasons=answers,
            ),
            Route(
                method="POST",
                path="requests/{request_id}/remind",
                handler=self._remind,
                response=bodies.RequestJson,
                summary="Remind those who have not answered yet, in the room, once a day at the most",
                reasons=(*answers, Reason.REMINDED_RECENTLY),
            ),
            Route(
                method="POST",
                path="requests/{request_id}/excuse",
                handler=self._excuse,
                response=bodies.RequestJson,
                summary="Let somebody off who is asked; the others still are",
                body=bodies.ExcuseBody,
                reasons=answers,
            ),
            Route(
                method="POST",
                path="requests/{request_id}/cancel",
                handler=self._cancel,
                response=bodies.RequestJson,
                summary="Take back a request of yours that nobody has paid",
                reasons=answers,
            ),
        )

    # Routes.

    async def _make(self, call: Call) -> bodies.RequestJson | Refused:
        body: bodies.MakeBody = call.body
        requester = call.user_id
        known = await self._known(requester, RequestId(body.request_id))
        content = RequestContent.parse(
            {
                name: value
                for name, value in body.model_dump(by_alias=True, exclude_none=True).items()
                if name not in ("room_id", "from", "split", "goal")
            }
        )
        if isinstance(content, Refused):
            return content
        money = rules.read_money(content, self._assets)
        if isinstance(money, Refused):
            return money
        asked = _whom(body)
        if isinstance(asked, Refused):
            return asked
        payers = await self._payers(requester, asked, money)
        if isinstance(payers, Refused):
            return payers
        is_doubled = body.split is not None and len(payers) < len(asked)
        parts = _doubled() if is_doubled else _parts(body, money, len(payers))
        if isinstance(parts, Refused):
            return parts
        room_id = await self._room(requester, payers, body.room_id, known)
        if isinstance(room_id, Refused):
            return room_id
        now_ms = self._runtime.now_ms()
        wanted = Request(
            requester=requester,
            request_id=RequestId(body.request_id),
            money=money if parts is None else replace(money, amount_minor=sum(parts)),
            memo=content.memo or None,
            room_id=room_id,
            event_id=None,
            payers=_asked(payers, parts),
            kind=Kind.GOAL if body.goal else Kind.EACH if parts is None else Kind.SPLIT,
            cancelled_ms=None,
            created_ms=now_ms,
            expires_ms=rules.expiry_ms(content.expires_ms, now_ms),
        )
        made = await self._writer.run("request_make", lambda cur: self.requests.make(cur, wanted, now_ms))
        if isinstance(made, Refused):
            return made
        if made.event_id is None and await self._is_heard(made):
            made = await self._send_request(made)
        elif made.event_id is None:
            # Their homeserver hears nothing of the room until they join it.
            waiting = replace(_outgoing(made), due_ms=now_ms + _JOIN_PAUSE_MS)
            await self._writer.run("request_wait", lambda cur: store.post(cur, waiting))
            self._next_ms = min(self._next_ms, waiting.due_ms)
        self._tell()
        return bodies.RequestJson.of(made, requester, now_ms)

    async def _known(self, requester: UserId, request_id: RequestId) -> Request | None:
        key = RequestKey(requester=requester, request_id=request_id)
        return await self._runtime.database.run("request_find", lambda cur: store.find(cur, key))

    async def _payers(self, requester: UserId, asked: list[str], money: Money) -> tuple[UserId, ...] | Refused:
        found: dict[UserId, None] = {}
        for who in asked:
            person = await self._people.resolve(who, asker=requester, max_age_ms=_MAX_AGE_MS)
            if isinstance(person, Refused):
                unknown = person.reason in (Reason.UNKNOWN_HANDLE, Reason.HANDLE_INVALID)
                return replace(person, reason=Reason.UNKNOWN_PAYEE) if unknown else person
            user_id = person.user_id
            if user_id == requester:
                return Refused(
                    reason=Reason.PAYEE_IS_SELF, message="You cannot ask yourself for money; name somebody else."
                )
            if self._runtime.api.is_mine(user_id):
                refused = await self._runtime.database.run(
                    "request_policy",
                    partial(self._payments.judge_asker, asked=user_id, asker=requester, money=money),
                )
                if refused is not None:
                    return refused
            found[user_id] = None
        return tuple(found)

    async def _room(
        self, requester: UserId, payers: tuple[UserId, ...], wanted: str | None, known: Request | None
    ) -> RoomId | Refused:
        """The room to ask in: the one that was named, or the direct room of two."""
        if wanted is None and known is not None:
            return known.room_id
        if wanted is None and not payers:
            return Refused(reason=Reason.INVALID_VALUE, message="room_id is missing; a goal is collected in a room.")
        if wanted is None:
            first, *others = payers
            if not others:
                return await self._rooms.open_direct(requester, first)
            return Refused(
                reason=Reason.INVALID_VALUE, message="room_id is missing; several people are asked in a room of theirs."
            )
        room_id = RoomId(wanted)
        people = [(_MEMBER, each) for each in (requester, *payers)]
        state = await self._runtime.api.get_room_state(room_id, [*people, (_ENCRYPTION, "")])
        joined = {each for (_, each), event in state.items() if event.content.get("membership") == "join"}
        if requester not in joined:
            return Refused(
                reason=Reason.NOT_IN_ROOM, message="You are not in that room; join it, or leave room_id out."
            )
        absent = next((each for each in payers if each not in joined), None)
        if absent is not None:
            return Refused(
                reason=Reason.PAYEE_NOT_IN_ROOM, message=f"{absent} is not in that room; ask them elsewhere."
            )
        return _room_encrypted() if (_ENCRYPTION, "") in state else room_id

    async def _send_request(self, request: Request) -> Request:
        try:
            event_id = await self._send(_outgoing(request))
        except SynapseError as error:
            if error.code < _FIRST_SERVER_ERROR and error.code != _TOO_MANY:
                # It was refused before it existed, and would be again.
                await self._writer.run("request_withdraw", lambda cur: self.requests.withdraw(cur, request.key))
            raise
        now_ms = self._runtime.now_ms()
        await self._writer.run("request_sent", lambda cur: self.requests.stands(cur, request.key, event_id, now_ms))
        return replace(request, event_id=event_id)

    async def _page(self, call: Call) -> bodies.RequestsPage | Refused:
        query: bodies.PageQuery = call.query
        before = query.before()
        if isinstance(before, Refused):
            return before
        page = await self._runtime.database.run(
            "requests_page", lambda cur: self.requests.page(cur, call.user_id, before, query.limit)
        )
        now_ms = self._runtime.now_ms()
        return bodies.RequestsPage(
            requests=[bodies.RequestJson.of(each, call.user_id, now_ms) for each in page.requests],
            next=bodies.page_token(page.requests[-1]) if page.more else None,
        )

    async def _one(self, call: Call) -> bodies.RequestJson | Refused:
        request_id, requester = RequestId(call.path["request_id"]), _requester(call)

        def look(cur: Cursor) -> Request | Refused:
            found = self.requests.find(cur, call.user_id, request_id, requester)
            if isinstance(found, Refused) and requester is not None:
                goal = self.requests.goal(cur, RequestKey(requester=requester, request_id=request_id))
                # Nobody is asked by name: whoever is in the room sees how far it is.
                if goal is not None and self._runtime.private.joined_of(cur, goal.room_id, (call.user_id,)):
                    return goal
            return found

        found = await self._runtime.database.run("request_one", look)
        return (
            found if isinstance(found, Refused) else bodies.RequestJson.of(found, call.user_id, self._runtime.now_ms())
        )

    async def _decline(self, call: Call) -> bodies.RequestJson | Refused:
        request_id, requester, now_ms = RequestId(call.path["request_id"]), _requester(call), self._runtime.now_ms()

        def work(cur: Cursor) -> Request | Refused:
            found = self.requests.find(cur, call.user_id, request_id, requester)
            if isinstance(found, Refused):
                return found
            if found.requester == call.user_id:
                return rules.unknown(request_id)
            return self.requests.decline(cur, found, call.user_id, now_ms)

        return await self._done("request_decline", work, call.user_id)

    async def _remind(self, call: Call) -> bodies.RequestJson | Refused:
        key = RequestKey(requester=call.user_id, request_id=RequestId(call.path["request_id"]))
        now_ms = self._runtime.now_ms()
        known = await self._known(*_parts_of(key))
        message = None if known is None else await self._reminder(known)

        def work(cur: Cursor) -> Request | Refused:
            reminded = self.requests.remind(cur, key, now_ms)
            if isinstance(reminded, Request) and message is not None and reminded.event_id is not None:
                outbox_id = f"{key.requester}:{key.request_id}:remind:{now_ms}"
                store.post(
                    cur,
                    Outgoing(
                        outbox_id=outbox_id,
                        room_id=reminded.room_id,
                        sender=key.requester,
                        event_type=_MESSAGE,
                        content=message,
                        attempts=0,
                        due_ms=now_ms,
                    ),
                )
            return reminded

        return await self._done("request_remind", work, call.user_id)

    async def _reminder(self, request: Request) -> dict[str, Any]:
        """A message to those who have not answered and are still in the room; it notifies them."""
        waiting = [payer.user_id for payer in request.payers if payer.answer is Answer.OPEN]
        state = await self._runtime.api.get_room_state(request.room_id, [(_MEMBER, each) for each in waiting])
        there = [each for each in waiting if (event := state.get((_MEMBER, each))) is not None and _is_present(event)]
        said = self._speech.reminder(there, request.money, request.paid_minor, request.memo or "")
        content: dict[str, Any] = {
            "msgtype": "m.text",
            "body": said.plain,
            "format": "org.matrix.custom.html",
            "formatted_body": said.html,
            "m.mentions": {"user_ids": there},
        }
        if request.event_id is not None:
            content["m.relates_to"] = {"m.in_reply_to": {"event_id": request.event_id}}
        return content

    async def _excuse(self, call: Call) -> bodies.RequestJson | Refused:
        key = RequestKey(requester=call.user_id, request_id=RequestId(call.path["request_id"]))
        payer, now_ms = UserId(call.body.payer), self._runtime.now_ms()
        return await self._done(
            "request_excuse", lambda cur: self.requests.excuse(cur, key, payer, now_ms), call.user_id
        )

    async def _cancel(self, call: Call) -> bodies.RequestJson | Refused:
        key = RequestKey(requester=call.user_id, request_id=RequestId(call.path["request_id"]))
        now_ms = self._runtime.now_ms()
        return await self._done("request_cancel", lambda cur: self.requests.cancel(cur, key, now_ms), call.user_id)

    async def _done(
        self, name: Any, work: Callable[[Cursor], Request | Refused], viewer: UserId
    ) -> bodies.RequestJson | Refused:
        done = await self._writer.run(name, work)
        if isinstance(done, Refused):
            return metrics.count(done)
        self._tell()
        self._send_soon()
        return bodies.RequestJson.of(done, viewer, self._runtime.now_ms())

    # The gate.

    async def _gate_request(self, event: EventBase) -> Verdict:
        if not self._runtime.api.is_mine(event.sender):
            self._runtime.follower.expect()
            return NOT_SPAM
        refused = await self._judge_event(event)
        if refused is not None:
            raise error_of(metrics.count(refused))
        self._runtime.follower.expect()
        return NOT_SPAM

    async def _judge_event(self, event: EventBase) -> Refused | None:
        private = self._runtime.private
        if event.is_state() or private.is_sticky(event) or private.is_delayed(event):
            return not_a_message()
        raw = event.get_dict()["content"]
        if self._announced.includes(event.sender, event.room_id, EventType.PAYMENT_REQUEST, raw):
            return None
        content = RequestContent.parse(raw)
        if isinstance(content, Refused):
            return content
        money = rules.read_money(content, self._assets)
        if isinstance(money, Refused):
            return money
        state = await self._runtime.api.get_room_state(event.room_id, [(_ENCRYPTION, "")])
        if state:
            return _room_encrypted()
        kind = rules.read_kind(content, money)
        if isinstance(kind, Refused):
            return kind
        known = await self._known(UserId(event.sender), RequestId(content.request_id))
        if known is not None:
            return Refused(
                reason=Reason.CONFLICT,
                message=f"You have used request_id {content.request_id} already; make a new id for a new request.",
            )
        return None

    async def _gate_end(self, event: EventBase) -> Verdict:
        if not self._runtime.api.is_mine(event.sender):
            self._runtime.follower.expect()
            return NOT_SPAM
        content = event.get_dict()["content"]
        if not event.is_state() and self._announced.includes(
            event.sender, event.room_id, EventType.PAYMENT_REQUEST_END, content
        ):
            return NOT_SPAM
        refused = Refused(
            reason=Reason.SERVER_ONLY,
            message="Only homeservers say how a request ended; use POST requests/{request_id}/decline or /cancel.",
        )
        raise error_of(metrics.count(refused))

    # What stands in rooms.

    async def _request_persisted(self, event: EventBase) -> None:
        if event.is_state():
            return
        content = RequestContent.parse(event.get_dict()["content"])
        if isinstance(content, Refused):
            return
        money = rules.read_money(content, self._assets)
        if isinstance(money, Refused):
            return
        kind = rules.read_kind(content, money)
        if isinstance(kind, Refused):
            return
        requester, now_ms = UserId(event.sender), self._runtime.now_ms()
        payers = () if kind is Kind.GOAL else await self._asked_by(event, content)
        parts = dict(zip(content.asked or (), content.parts or (), strict=False))
        request = Request(
            requester=requester,
            request_id=RequestId(content.request_id),
            money=money,
            memo=content.memo or None,
            room_id=RoomId(event.room_id),
            event_id=EventId(event.event_id),
            payers=tuple(Payer(user_id=each, part_minor=parts.get(each)) for each in payers),
            cancelled_ms=None,
            created_ms=now_ms,
            expires_ms=rules.expiry_ms(content.expires_ms, now_ms),
            kind=kind,
        )
        if not payers and kind is not Kind.GOAL:
            return

        def work(cur: Cursor) -> Request | None:
            kept = tuple(
                payer
                for payer in request.payers
                if not self._runtime.api.is_mine(payer.user_id)
                or self._payments.judge_asker(cur, payer.user_id, requester, money) is None
            )
            if not kept and kind is not Kind.GOAL:
                return None
            return self.requests.seen(cur, replace(request, payers=kept), now_ms)

        await self._writer.run("request_seen", work)
        self._tell()

    async def _asked_by(self, event: EventBase, content: RequestContent) -> tuple[UserId, ...]:
        """Who is asked: those who are named, or the other one of a room of two."""
        if content.asked is not None:
            named = [parse_user_id(each) for each in content.asked]
            wanted = [each for each in dict.fromkeys(named) if each is not None and each != event.sender]
            state = await self._runtime.api.get_room_state(event.room_id, [(_MEMBER, each) for each in wanted])
            there = {each for (_, each), member in state.items() if _is_present(member)}
            return tuple(each for each in wanted if each in there)
        state = await self._runtime.api.get_room_state(event.room_id, [(_MEMBER, None)])
        others = [UserId(each) for (_, each), member in state.items() if _is_present(member) and each != event.sender]
        return tuple(others) if len(others) == 1 else ()

    async def _end_persisted(self, event: EventBase) -> None:
        if event.is_state() or self._runtime.api.is_mine(event.sender):
            return
        content = EndContent.parse(event.get_dict()["content"])
        requester = None if isinstance(content, Refused) else parse_user_id(content.requester)
        if isinstance(content, Refused) or requester is None:
            return
        key = RequestKey(requester=requester, request_id=RequestId(content.request_id))
        payer = None if content.payer is None else parse_user_id(content.payer)
        sender, room_id, now_ms = UserId(event.sender), RoomId(event.room_id), self._runtime.now_ms()
        await self._writer.run(
            "request_ended",
            lambda cur: self.requests.ended_elsewhere(cur, key, sender, room_id, content.outcome, now_ms, payer),
        )
        self._tell()

    async def payment_persisted(self, event: EventBase) -> None:
        """A payment event stands in a room. One of another homeserver may name a request of ours."""
        if event.is_state() or self._runtime.api.is_mine(event.sender):
            return
        content = event.get_dict()["content"]
        request_id, payment_id, payee = content.get("request"), content.get("payment_id"), content.get("payee")
        if not (isinstance(request_id, str) and isinstance(payment_id, str) and isinstance(payee, str)):
            return
        person = await self._people.resolve(payee, asker=UserId(event.sender), max_age_ms=_MAX_AGE_MS * 60)
        if isinstance(person, Refused) or not self._runtime.api.is_mine(person.user_id):
            return
        payment = key_of(UserId(event.sender), PaymentId(payment_id))
        now_ms = self._runtime.now_ms()
        await self._writer.run(
            "request_named",
            lambda cur: self.requests.named_by(cur, RequestId(request_id), person.user_id, payment, now_ms),
        )
        self._tell()

    async def room_of(self, payer: UserId, payee: UserId, request_id: str) -> RoomId | Refused | None:
        """Where a request is paid: its room, which who pays it joins. UNKNOWN_REQUEST where ``payer`` is not asked."""
        key = RequestKey(requester=payee, request_id=RequestId(request_id))
        found = await self._runtime.database.run("request_room", lambda cur: store.find(cur, key))
        if found is None or (found.payer(payer) is None and found.kind is not Kind.GOAL):
            return rules.unknown(request_id)
        view = await self._rooms.look(found.room_id, payer, payee)
        if view.payer == "invite":
            try:
                await self._runtime.api.update_room_membership(
                    payer, payer, found.room_id, "join", remote_room_hosts=[server_of(payee)]
                )
            except SynapseError as error:
                logger.info("%s could not join the room of a request: %s", payer, error.msg)
                return None
            view = await self._rooms.look(found.room_id, payer, payee)
        return found.room_id if view.payer == view.payee == "join" else None

    # The outbox.

    def _tell(self) -> None:
        for noted in self._noted:
            noted()

    def _send_soon(self) -> None:
        self._next_ms = 0
        self._runtime.api.run_as_background_process("superapp_requests_send", self._send_owed)

    async def _tick(self) -> None:
        if self._runtime.follower.follows and self._runtime.now_ms() >= self._next_ms:
            await self._send_owed()

    async def _send_owed(self) -> None:
        if self._sending or not self._runtime.follower.follows:
            return
        self._sending = True
        try:
            now_ms = self._runtime.now_ms()
            self._next_ms = now_ms + _RELOAD_MS
            for outgoing in await self._runtime.database.run("requests_owed", lambda cur: store.owed(cur, now_ms, 50)):
                await self._try(outgoing)
        finally:
            self._sending = False

    async def _is_heard(self, request: Request) -> bool:
        """Whether everybody who is asked will hear of it: of another homeserver, those who have joined the room."""
        state = await self._runtime.api.get_room_state(
            request.room_id, [(_MEMBER, payer.user_id) for payer in request.payers]
        )
        joined = {user_id for (_, user_id), event in state.items() if event.content.get("membership") == "join"}
        return all(self._runtime.api.is_mine(each.user_id) or each.user_id in joined for each in request.payers)

    async def _try_request(self, outgoing: Outgoing) -> None:
        """Send a request that waited for somebody to join; while they have not, it goes on waiting."""
        now_ms = self._runtime.now_ms()
        request = await self._known(outgoing.sender, RequestId(outgoing.content["request_id"]))
        is_over = request is None or request.event_id is not None or request.cancelled_ms is not None
        if request is None or is_over or now_ms >= request.expires_ms:
            return
        if not await self._is_heard(request):
            due_ms = now_ms + _JOIN_PAUSE_MS
            self._next_ms = min(self._next_ms, due_ms)
            raise _NotYetError(due_ms)
        await self._send_request(request)
        self._tell()

    async def _try(self, outgoing: Outgoing) -> None:
        try:
            if outgoing.event_type == EventType.PAYMENT_REQUEST:
                await self._try_request(outgoing)
            else:
                await self._send(outgoing)
        except _NotYetError as later:
            due_ms = later.due_ms
            await self._runtime.database.run(
                "requests_wait", lambda cur: store.put_off(cur, outgoing.outbox_id, due_ms)
            )
            return
        except Exception as error:  # noqa: BLE001 - whatever it was, it is tried again and seen
            final = isinstance(error, SynapseError) and error.code == _FORBIDDEN
            if not final and outgoing.attempts < _ATTEMPTS_MAX:
                logger.warning("%s could not be sent and is tried again: %s", outgoing.outbox_id, error)
                pause_ms = _PAUSES_MS[min(outgoing.attempts, len(_PAUSES_MS) - 1)]
                due_ms = self._runtime.now_ms() + pause_ms
                self._next_ms = min(self._next_ms, due_ms)
                await self._runtime.database.run(
                    "requests_put_off", lambda cur: store.put_off(cur, outgoing.outbox_id, due_ms)
                )
                return
            logger.info("%s cannot be sent: %s", outgoing.outbox_id, error)
        await self._runtime.database.run("requests_sent", lambda cur: store.sent(cur, outgoing.outbox_id))

    async def _send(self, outgoing: Outgoing) -> EventId:
        if outgoing.event_type == _MESSAGE:
            message = await self._runtime.api.create_and_send_event_into_room(
                {
                    "type": _MESSAGE,
                    "room_id": outgoing.room_id,
                    "sender": outgoing.sender,
                    "content": outgoing.content,
                }
            )
            return EventId(message.event_id)
        event_type = EventType(outgoing.event_type)
        with self._announced.sending(outgoing.sender, outgoing.room_id, event_type, outgoing.content):
            event = await self._runtime.api.create_and_send_event_into_room(
                {
                    "type": event_type,
                    "room_id": outgoing.room_id,
                    "sender": outgoing.sender,
                    "content": outgoing.content,
                }
            )
        return EventId(event.event_id)


def _outgoing(request: Request) -> Outgoing:
    return Outgoing(
        outbox_id=f"{request.requester}:{request.request_id}",
        room_id=request.room_id,
        sender=request.requester,
        event_type=EventType.PAYMENT_REQUEST,
        content=_content(request),
        attempts=0,
        due_ms=0,
    )


def _content(request: Request) -> dict[str, Any]:
    content: dict[str, Any] = {
        "request_id": request.request_id,
        "amount": request.money.amount_minor,
        "currency": request.money.currency,
        "expires_ms": request.expires_ms,
    }
    if request.kind is Kind.GOAL:
        content["goal"] = True
    else:
        content["from"] = [payer.user_id for payer in request.payers]
    if request.kind is Kind.SPLIT:
        content["parts"] = [request.due_of(payer).amount_minor for payer in request.payers]
    return content if request.memo is None else {**content, "memo": request.memo}


def _parts_of(key: RequestKey) -> tuple[UserId, RequestId]:
    return key.requester, key.request_id


def _whom(body: bodies.MakeBody) -> list[str] | Refused:
    if body.goal and (body.asked is not None or body.split is not None):
        return Refused(
            reason=Reason.INVALID_VALUE, message="A goal asks everybody in the room; leave from and split out."
        )
    if body.asked is None and not body.goal:
        return Refused(reason=Reason.INVALID_VALUE, message="from is missing.")
    return body.asked or []


def _parts(body: bodies.MakeBody, money: Money, payers: int) -> tuple[int, ...] | Refused | None:
    """What each of those who are asked owes of a split; None where it is no split."""
    split = body.split
    if split is None:
        return None
    if split.how == "equal":
        if split.parts is not None or split.mine > 1:
            return Refused(reason=Reason.INVALID_VALUE, message="split: an equal one has no parts, and mine is 0 or 1.")
        return rules.split_equally(money.amount_minor, payers, with_requester=bool(split.mine))
    if split.parts is None or len(split.parts) != payers:
        return Refused(reason=Reason.INVALID_VALUE, message="split: parts has one number for each of from.")
    if split.how == "shares":
        return rules.split_by_weight(money.amount_minor, split.parts, mine=split.mine)
    return rules.split_by_amount(money.amount_minor, split.parts)


def _doubled() -> Refused:
    return Refused(reason=Reason.INVALID_VALUE, message="from names somebody twice; name each person once.")


def _asked(payers: Sequence[UserId], parts: Sequence[int] | None) -> tuple[Payer, ...]:
    if parts is None:
        return tuple(Payer(user_id=each) for each in payers)
    return tuple(Payer(user_id=each, part_minor=part) for each, part in zip(payers, parts, strict=True))


def _is_present(member: EventBase) -> bool:
    return member.content.get("membership") in ("join", "invite")


def _requester(call: Call) -> UserId | None:
    # What is no user id has asked for nothing.
    return None if call.query.requester is None else parse_user_id(call.query.requester) or UserId("")


def _room_encrypted() -> Refused:
    return Refused(
        reason=Reason.ROOM_ENCRYPTED,
        message="This room is encrypted and a request is not; leave room_id out, and a direct room that is not "
        "encrypted is used.",
    )
