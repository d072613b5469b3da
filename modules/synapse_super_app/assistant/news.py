"""What happened to people while they did not ask: who paid them, who asks them, who rang in vain.

Written down in the transaction in which it happens, told a moment later, several things in one message. The message is
an ``m.text``, so it notifies; everything else that the assistant says is a notice.
"""

from collections.abc import Sequence
from typing import Any, Final

from super_app.assistant import store
from super_app.assistant.model import Kind, Outcome, Task, TaskId
from super_app.assistant.speech import Speech
from super_app.assistant.text import Text, lines
from super_app.calls.model import Direction, Record
from super_app.calls.model import State as CallState
from super_app.db import Cursor
from super_app.errors import Refused
from super_app.ids import UserId
from super_app.money import AssetCode, Money
from super_app.payments.model import Payment, State
from super_app.requests.model import Answer, Request
from synapse_super_app.assistant.account import Account
from synapse_super_app.assistant.conversation import message
from synapse_super_app.assistant.later import told_of_dispute, told_of_schedule
from synapse_super_app.assistant.people import Whom
from synapse_super_app.http.inside import Inside, Json, part
from synapse_super_app.runtime import Runtime

NEWS_PAUSE_MS: Final = 500
"""What happens within this time is told together."""
_MATRIX_TO: Final = "https://matrix.to/#/"


class News:
    def __init__(self, runtime: Runtime, inside: Inside, whom: Whom, account: Account) -> None:
        self._runtime = runtime
        self._account = account
        self._inside = inside
        self._whom = whom

    def payments_changed(self, cur: Cursor, payments: Sequence[Payment], now_ms: int) -> bool:
        """Note what people should know of these, inside the transaction that changed them. Whether there is any."""
        if not self._account.is_ready:
            return False
        tasks = [task for payment in payments for task in self._of_payment(payment, now_ms)]
        return bool(tasks) and store.add(cur, tasks) > 0

    def _of_payment(self, payment: Payment, now_ms: int) -> list[Task]:
        found: list[Task] = []
        state = payment.state
        if payment.payee_acct is not None and (
            state is State.COMPLETED or (state is State.AWAITING_ACCEPTANCE and not payment.answered)
        ):
            found.append(_task(payment, payment.payee.user_id, now_ms))
        if payment.payer_acct is not None and state in (State.DECLINED, State.EXPIRED):
            found.append(_task(payment, payment.payer, now_ms))
        return found

    def request_changed(self, cur: Cursor, request: Request, now_ms: int) -> None:
        """Note what people should know of a request, inside the transaction that changed it."""
        if not self._account.is_ready or request.event_id is None:
            return
        is_mine = self._runtime.api.is_mine
        asked = {
            payer.user_id: "asked"
            for payer in request.payers
            if payer.answer is Answer.OPEN and request.cancelled_ms is None and is_mine(payer.user_id)
        }
        declined = [payer.user_id for payer in request.payers if payer.answer is Answer.DECLINED]
        tasks = [_request_task(request, user_id, user_id, what, now_ms) for user_id, what in asked.items()]
        if is_mine(request.requester):
            tasks += [_request_task(request, request.requester, payer, "declined", now_ms) for payer in declined]
        store.add(cur, tasks)

    def of_calls(self, reached: Sequence[Record], now_ms: int) -> tuple[Task, ...]:
        """Who was rung in vain. A ring that was screened is none of these: they did not want to hear of it."""
        if not self._account.is_ready:
            return ()
        return tuple(
            Task(
                task_id=TaskId(f"news:call:{record.session_id}:{record.owner}"),
                user_id=record.user_id,
                kind=Kind.NEWS,
                content={"about": "call", "peer": record.peer, "ring_ms": record.ring_ms},
                made_ms=now_ms,
                due_ms=now_ms + NEWS_PAUSE_MS,
            )
            for record in reached
            if record.direction is Direction.INCOMING and record.state in (CallState.MISSED, CallState.CANCELLED)
        )

    def of_recovery(self, user_id: UserId, happened: str, device_id: str, now_ms: int) -> tuple[Task, ...]:
        """``happened`` is ``wrong:`` or ``set:`` and an id of it."""
        if not self._account.is_ready:
            return ()
        content = {"about": "recovery", "what": happened.partition(":")[0], "device_id": device_id}
        task = Task(
            task_id=TaskId(f"news:recovery:{user_id}:{happened}"),
            user_id=user_id,
            kind=Kind.NEWS,
            content=content,
            made_ms=now_ms,
            due_ms=now_ms + NEWS_PAUSE_MS,
        )
        return (task,)

    async def _tell_of_call(self, task: Task, speech: Speech) -> tuple[Text, Json | None, bool] | None:
        content = task.content
        page = await self._inside.ask(task.user_id, "GET", "calls", query={"limit": "50"})
        found: list[Json] = [] if isinstance(page, Refused) else page["calls"]
        call = next(
            (each for each in found if (each["peer"], each["ring_ts"]) == (content["peer"], content["ring_ms"])), None
        )
        if call is None:
            return None
        caller = (await self._whom.named(task.user_id, content["peer"])).said()
        card = {"v": 1, "kind": "call", "call_id": call["call_id"], "caller": content["peer"]}
        return speech.you_missed_a_call(caller, content["ring_ms"], self._place(speech, call)), card, True

    async def tell(self, tasks: Sequence[Task], speech: Speech) -> Outcome:
        told = [each for task in tasks if (each := await self._tell(task, speech)) is not None]
        if not told:
            return Outcome(keeps_question=True)
        cards = [card for _, card, _ in told]
        said = lines(text for text, _, _ in told)
        notifies = any(notifies for _, _, notifies in told)
        answer = message(tasks[-1], said, card=cards[0] if len(cards) == 1 else None, notifies=notifies)
        return Outcome(tasks=(answer,), keeps_question=True)

    async def _tell(self, task: Task, speech: Speech) -> tuple[Text, Json | None, bool] | None:
        match task.content["about"]:
            case "payment":
                return await self._tell_of_payment(task, speech)
            case "request":
                return await self._tell_of_request(task, speech)
            case "call":
                return await self._tell_of_call(task, speech)
            case "schedule":
                return told_of_schedule(task.content, speech), None, True
            case "dispute":
                said, card = told_of_dispute(task.content, speech)
                return said, card, True
            case "recovery":
                device_id = task.content["device_id"]
                if task.content["what"] == "set":
                    return speech.recovery_pin_was_set(device_id), None, True
                return speech.recovery_pin_was_wrong(device_id), None, True
            case _:
                return None

    async def _tell_of_request(self, task: Task, speech: Speech) -> tuple[Text, Json | None, bool] | None:
        content = task.content
        found = await self._inside.ask(
            task.user_id, "GET", f"requests/{content['request_id']}", query={"requester": content["requester"]}
        )
        if isinstance(found, Refused):
            return None
        money = Money(amount_minor=found["amount"], currency=AssetCode(found["currency"]))
        card = {"v": 1, "kind": "request", "request_id": found["request_id"], "requester": found["requester"]}
        if content["what"] == "declined":
            payer = (await self._whom.named(task.user_id, content["payer"])).said()
            return speech.request_was_declined(payer, money), card, False
        if found["state"] != "open":
            return None
        requester = (await self._whom.named(task.user_id, found["requester"])).said()
        said = speech.you_are_asked(requester, money, found.get("memo") or "", self._place(speech, found))
        return said, card, True

    async def _tell_of_payment(self, task: Task, speech: Speech) -> tuple[Text, Json | None, bool] | None:
        content = task.content
        found = await self._inside.ask(
            task.user_id, "GET", f"payments/{content['payment_id']}", query={"payer": content["payer"]}
        )
        if isinstance(found, Refused):
            return None
        money = Money(amount_minor=found["amount"], currency=AssetCode(found["currency"]))
        incoming = found["direction"] == "incoming"
        person = (await self._whom.named(task.user_id, found["payer" if incoming else "payee"])).said()
        card = {"v": 1, "kind": "payment", "payment_id": found["payment_id"], "payer": found["payer"]}
        memo, place = found.get("memo") or "", self._place(speech, found)
        if not incoming:
            return speech.payment_is(person, money, found["state"]), card, False
        if content["state"] == State.AWAITING_ACCEPTANCE:
            if found["state"] != State.AWAITING_ACCEPTANCE:
                return None
            return speech.you_are_offered(person, money, memo, place), card, True
        deposit = await self._deposit(task, found)
        if deposit is not None:
            # It lies aside, so nobody has been paid anything; one that is decided already is no news.
            return (speech.deposit_waits(found["payer"], money), card, True) if deposit["state"] == "open" else None
        return speech.you_were_paid(person, money, memo, place), card, True

    async def _deposit(self, task: Task, payment: Json) -> Json | None:
        """The deposit that a payment is."""
        page = await self._inside.ask(task.user_id, "GET", "deposits")
        named = (payment["payment_id"], payment["payer"])
        deposits: list[Json] = [] if isinstance(page, Refused) else page["deposits"]
        return next((each for each in deposits if (each["deposit_id"], each["payer"]) == named), None)

    def _place(self, speech: Speech, found: Json) -> Text:
        """The link to where it happened."""
        room_id, event_id = found.get("room_id"), found.get("event_id")
        if room_id is None:
            return Text(plain="", html="")
        url = _MATRIX_TO + part(room_id) + (f"/{part(event_id)}" if event_id else "")
        server = self._runtime.server_name
        return speech.place(f"{url}?via={part(server)}")


def _request_task(request: Request, user_id: UserId, payer: UserId, what: str, now_ms: int) -> Task:
    return Task(
        task_id=TaskId(f"news:{request.requester}:{request.request_id}:{what}:{payer}"),
        user_id=user_id,
        kind=Kind.NEWS,
        content={
            "about": "request",
            "what": what,
            "request_id": request.request_id,
            "requester": request.requester,
            "payer": payer,
        },
        made_ms=now_ms,
        due_ms=now_ms + NEWS_PAUSE_MS,
    )


def _task(payment: Payment, user_id: UserId, now_ms: int) -> Task:
    content: dict[str, Any] = {
        "about": "payment",
        "payment_id": payment.payment_id,
        "payer": payment.payer,
        "state": payment.state.value,
    }
    return Task(
        task_id=TaskId(f"news:{payment.payer_key}:{payment.payment_id}:{payment.state}:{user_id}"),
        user_id=user_id,
        kind=Kind.NEWS,
        content=content,
        made_ms=now_ms,
        due_ms=now_ms + NEWS_PAUSE_MS,
    )
