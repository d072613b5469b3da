"""What the assistant does when somebody writes to it: one method a command.

Everything goes through the client API as that person, so its limits and refusals are theirs. Nothing here sends: what
there is to say, and what is to be done later, is handed back as tasks, which are written down with the note that the
message was heard. A command that is heard again does the same thing again under the same id.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from synapse.module_api.errors import SynapseError

from super_app.assistant import store
from super_app.assistant.amounts import Wrong
from super_app.assistant.model import Kind, Outcome, Question, Task, TaskId
from super_app.assistant.parsing import Intent
from super_app.assistant.speech import Balance, CallLine, Line, Speech
from super_app.assistant.text import Text, value
from super_app.assistant.words import ADD_WORDS, ASK_WORDS, AUTO_WORDS, LANGUAGES, REMOVE_WORDS, WHO, Command
from super_app.errors import Reason, Refused
from super_app.ids import RoomId, UserId
from super_app.money import Asset, AssetCode, Money
from super_app.names import WEB_PREFIX, AccountDataType
from synapse_super_app.assistant.people import Somebody, Whom
from synapse_super_app.assistant.rooms import Rooms
from synapse_super_app.config import FeatureName
from synapse_super_app.http.inside import Inside, Json, NotOffered, part
from synapse_super_app.runtime import Runtime

_SHOWN: Final = 10
_LATEST: Final = "100"
_CALL_WHO: Final = ("everyone", "contacts", "following", "verified", "shared_rooms", "nobody")
_PAY_WHO: Final = ("everyone", "contacts", "shared_rooms", "nobody")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One message, as it is answered. ``aside`` is the room of a ``!`` command, where others are about."""

    task: Task
    user_id: UserId
    speech: Speech
    intent: Intent
    question: Question | None
    aside: RoomId | None
    card: Mapping[str, Any] | None
    """The card that the message is a reply to."""

    @property
    def number(self) -> str:
        """128 bits that are this message's: the id of what it orders."""
        return hashlib.sha256(f"assistant:{self.task.task_id}".encode()).hexdigest()[:32]


class Conversation:
    def __init__(
        self,
        *,
        runtime: Runtime,
        inside: Inside,
        whom: Whom,
        rooms: Rooms,
        offered: frozenset[FeatureName],
        speech_in: Callable[[str], Speech],
    ) -> None:
        self._runtime = runtime
        self._inside = inside
        self._whom = whom
        self._rooms = rooms
        self._offered = offered
        self._speech_in = speech_in
        self._assets = runtime.config.payments.by_code() if FeatureName.PAYMENTS in offered else {}
        self._undo_ms = runtime.config.assistant.undo
        self._answers: dict[Command, Callable[[Heard], Awaitable[Outcome]]] = {
            Command.BALANCE: self._balance,
            Command.PAY: self._pay,
            Command.REQUEST: self._request,
            Command.ACCEPT: self._accept,
            Command.DECLINE: self._decline,
            Command.CANCEL: self._cancel,
            Command.HISTORY: self._history,
            Command.FIND: self._find,
            Command.HANDLE: self._handle,
            Command.CONTACTS: self._contacts,
            Command.CALL: self._call,
            Command.CALL_POLICY: self._call_policy,
            Command.PAY_POLICY: self._pay_policy,
            Command.LOST: self._lost,
            Command.RECOVERY: self._recovery,
            Command.HELP: self._help,
            Command.LANGUAGE: self._language,
            Command.YES: self._yes,
            Command.NO: self._no,
            Command.CHOICE: self._choice,
            Command.UNKNOWN: self._unknown,
        }

    def also(self, answers: Mapping[Command, Callable[[Heard], Awaitable[Outcome]]]) -> None:
        """Commands that stand in a file of their own."""
        self._answers.update(answers)

    async def answer(self, heard: Heard) -> Outcome:
        try:
            answer = self._answers.get(heard.intent.command)
            if answer is None:
                raise NotOffered(heard.intent.command)
            return await answer(heard)
        except NotOffered:
            return saying(heard, heard.speech.feature_off())
        except SynapseError as error:
            # The homeserver's own no: no power to write in a room, a room that is gone.
            return saying(heard, value(error.msg))

    # Money.

    async def _balance(self, heard: Heard) -> Outcome:
        wallet = await self._inside.ask(heard.user_id, "GET", "wallet")
        if isinstance(wallet, Refused):
            return refusing(heard, wallet)
        balances = [
            Balance(
                asset=Asset(code=AssetCode(each["currency"]), scale=each["scale"]),
                available_minor=each["available"],
                held_minor=each["held"] + each.get("aside", 0),
            )
            for each in wallet["accounts"]
        ]
        return saying(heard, heard.speech.balances(balances, frozen="frozen_since" in wallet))

    async def _pay(self, heard: Heard) -> Outcome:
        if FeatureName.PAYMENTS not in self._offered:
            raise NotOffered("payments")
        if heard.card is not None and heard.intent.amount is None:
            return await self._accept(heard)
        return await self._with_person_and_money(heard, heard.speech.whom_to_pay(), self._pay_person)

    async def _request(self, heard: Heard) -> Outcome:
        if FeatureName.PAYMENTS not in self._offered:
            raise NotOffered("payments")
        return await self._with_person_and_money(heard, heard.speech.whom_to_ask(), self._request_from)

    async def _with_person_and_money(
        self, heard: Heard, missing: Text, go_on: Callable[[Heard, Somebody, Money], Awaitable[Outcome]]
    ) -> Outcome:
        intent, money = heard.intent, heard.intent.amount
        if isinstance(money, Wrong):
            return saying(heard, heard.speech.wrong_amount(money))
        typed = intent.person
        if typed is None or intent.is_guess:
            other = await self._other_in(heard)
            if other is not None:
                rest = intent.rest if typed is None else f"{typed} {intent.rest}".strip()
                typed, intent = other, replace(intent, person=other, rest=rest)
                heard = replace(heard, intent=intent)
        if typed is None or money is None:
            return saying(heard, missing)
        people = await self._whom.meant(heard.user_id, typed)
        if isinstance(people, Refused):
            return refusing(heard, people)
        match people:
            case []:
                return saying(heard, heard.speech.found_nobody(typed))
            case [one]:
                return await go_on(heard, one, money)
            case several:
                asked = {
                    "ask": "person",
                    "command": intent.command.value,
                    "people": [each.as_json() for each in several],
                    "amount": money.amount_minor,
                    "currency": money.currency,
                    "memo": intent.rest,
                    "room_id": heard.aside,
                }
                return saying(heard, heard.speech.choose([each.said() for each in several]), question=asked)

    async def _other_in(self, heard: Heard) -> str | None:
        """The other person of the direct room in which a ``!`` command was given."""
        if heard.aside is None:
            return None
        others = await self._rooms.members(heard.aside) - {heard.user_id}
        return next(iter(others)) if len(others) == 1 else None

    async def _pay_person(self, heard: Heard, person: Somebody, money: Money) -> Outcome:
        order: Json = {
            "payee": person.address,
            "amount": money.amount_minor,
            "currency": money.currency,
            "memo": heard.intent.rest,
            "room_id": heard.aside,
        }
        return await self._order(heard, person, order)

    async def _order(self, heard: Heard, person: Somebody, order: Json) -> Outcome:
        """Pay somebody after a while in which it can be undone.

        First ask, if they are new whether it is them, and if it costs a fee whether it is to be paid.
        """
        money, memo = _money(order), order.get("memo") or ""
        fee_minor = 0
        if self._runtime.config.payments.fees:
            asked: Json = {"payee": person.address, "amount": money.amount_minor, "currency": money.currency}
            quote = await self._inside.ask(heard.user_id, "POST", "payments/quote", asked)
            if isinstance(quote, Refused):
                return refusing(heard, quote)
            fee_minor = quote["fee"]
            order = {**order, "fee": fee_minor}
        wanted = {"person": person.as_json(), "order": order}
        is_known = await self._whom.is_known(heard.user_id, person)
        if fee_minor or not is_known:
            said = heard.speech.confirm_payment(person.said(), money, memo, is_known=is_known, fee_minor=fee_minor)
            return saying(heard, said, question={"ask": "confirm", **wanted})
        return self._scheduled(heard, person, order)

    def _scheduled(self, heard: Heard, person: Somebody, order: Json) -> Outcome:
        now_ms = self._runtime.now_ms()
        task = Task(
            task_id=TaskId(f"order:{heard.task.task_id}"),
            user_id=heard.user_id,
            kind=Kind.ORDER,
            content={"person": person.as_json(), "order": {**order, "payment_id": heard.number}},
            made_ms=now_ms,
            due_ms=now_ms + self._undo_ms,
        )
        said = heard.speech.paying_soon(person.said(), _money(order), order.get("memo") or "", self._undo_ms // 1000)
        outcome = saying(heard, said)
        return replace(outcome, tasks=(*outcome.tasks, task))

    async def carry_out(self, task: Task, speech: Speech) -> Outcome:
        """Make a payment whose time to undo is over."""
        person, order = Somebody.of(task.content["person"]), dict(task.content["order"])
        money = _money(order)
        body = {name: each for name, each in order.items() if each not in (None, "")}
        try:
            answer = await self._inside.ask(task.user_id, "POST", "payments", body)
        except SynapseError as error:
            return _said(task, speech.not_paid(person.said(), money, value(error.msg)))
        if isinstance(answer, Refused):
            if answer.reason is Reason.PIN_REQUIRED:
                return _said(task, speech.needs_confirmation(person.said(), money, self._wallet_url()))
            return _said(task, speech.not_paid(person.said(), money, speech.refused(answer)))
        return _said(task, speech.payment_is(person.said(), money, answer["state"]))

    def _wallet_url(self) -> str:
        return self._runtime.api.public_baseurl.rstrip("/") + f"{WEB_PREFIX}/"

    async def _request_from(self, heard: Heard, person: Somebody, money: Money) -> Outcome:
        body: Json = {
            "request_id": heard.number,
            "from": [person.address],
            "amount": money.amount_minor,
            "currency": money.currency,
        }
        if heard.intent.rest:
            body["memo"] = heard.intent.rest
        if heard.aside is not None:
            body["room_id"] = heard.aside
        made = await self._inside.ask(heard.user_id, "POST", "requests", body)
        if isinstance(made, Refused):
            return refusing(heard, made)
        return saying(heard, heard.speech.requested(person.said(), money))

    async def _history(self, heard: Heard) -> Outcome:
        page = await self._inside.ask(heard.user_id, "GET", "payments", query={"limit": str(_SHOWN)})
        if isinstance(page, Refused):
            return refusing(heard, page)
        shown = [
            Line(
                incoming=each["direction"] == "incoming",
                other=each["payer"] if each["direction"] == "incoming" else each["payee"],
                money=_money(each),
                state=each["state"],
                memo=each.get("memo"),
                at_ms=each["created_ts"],
            )
            for each in page["payments"]
        ]
        return saying(heard, heard.speech.history(shown))

    # Answers to what waits.

    async def _accept(self, heard: Heard) -> Outcome:
        return await self._one_of(heard, await self._waiting(heard), "accept", heard.speech.nothing_to_answer())

    async def _decline(self, heard: Heard) -> Outcome:
        return await self._one_of(heard, await self._waiting(heard), "decline", heard.speech.nothing_to_answer())

    async def _cancel(self, heard: Heard) -> Outcome:
        scheduled = await self._runtime.database.run(
            "assistant_orders", lambda cur: store.waiting_orders(cur, heard.user_id)
        )
        for task in scheduled if heard.card is None else ():
            if await self._runtime.database.run("assistant_undo", partial(store.undo, task_id=task.task_id)):
                person = Somebody.of(task.content["person"])
                return saying(heard, heard.speech.undone(person.said(), _money(task.content["order"])))
        return await self._one_of(heard, await self._cancellable(heard), "cancel", heard.speech.nothing_to_cancel())

    async def _one_of(self, heard: Heard, items: list[Json], deed: str, nothing: Text) -> Outcome:
        """Do it to the one thing that is meant; ask which, if there are several."""
        meant = [each for each in items if _is_of_card(each, heard.card)]
        match meant:
            case []:
                return saying(heard, nothing)
            case [one]:
                return await self._do(heard, deed, one)
            case several:
                shown = several[:_SHOWN]
                said = heard.speech.which_one([self._named(heard.speech, each) for each in shown])
                return saying(heard, said, question={"ask": "which", "deed": deed, "items": shown})

    async def _waiting(self, heard: Heard) -> list[Json]:
        """Payments that wait for this person, and requests to them."""
        found: list[Json] = []
        page = await self._inside.ask(heard.user_id, "GET", "payments", query={"limit": _LATEST})
        if not isinstance(page, Refused):
            found += [
                {**each, "kind": "payment"}
                for each in page["payments"]
                if each["direction"] == "incoming" and each["state"] == "awaiting_acceptance"
            ]
        return found + await self._requests(heard, "incoming")

    async def _cancellable(self, heard: Heard) -> list[Json]:
        found: list[Json] = []
        page = await self._inside.ask(heard.user_id, "GET", "payments", query={"limit": _LATEST})
        if not isinstance(page, Refused):
            found += [
                {**each, "kind": "payment"}
                for each in page["payments"]
                if each["direction"] == "outgoing" and each["state"] in ("held", "awaiting_acceptance")
            ]
        return found + await self._requests(heard, "outgoing")

    async def _requests(self, heard: Heard, direction: str) -> list[Json]:
        try:
            page = await self._inside.ask(heard.user_id, "GET", "requests", query={"limit": _LATEST})
        except NotOffered:
            return []
        if isinstance(page, Refused):
            return []
        return [
            {**each, "kind": "request"}
            for each in page["requests"]
            if each["direction"] == direction and each["state"] == "open"
        ]

    async def _do(self, heard: Heard, deed: str, item: Json) -> Outcome:
        speech, money = heard.speech, _money(item)
        if item["kind"] == "request":
            return await self._do_request(heard, deed, item)
        incoming = item["direction"] == "incoming"
        path = f"payments/{item['payment_id']}/{deed}"
        query = {"payer": item["payer"]} if incoming else None
        done = await self._inside.ask(heard.user_id, "POST", path, query=query)
        if isinstance(done, Refused):
            return refusing(heard, done)
        person = (await self._whom.named(heard.user_id, item["payer"] if incoming else item["payee"])).said()
        match deed:
            case "accept":
                return saying(heard, speech.accepted(person, money, done["state"]))
            case "decline":
                return saying(heard, speech.declined(person, money))
            case _:
                return saying(heard, speech.payment_is(person, money, done["state"]))

    async def _do_request(self, heard: Heard, deed: str, item: Json) -> Outcome:
        money, request_id = _money(item), item["request_id"]
        if deed == "cancel":
            done = await self._inside.ask(heard.user_id, "POST", f"requests/{part(request_id)}/cancel")
            return (
                refusing(heard, done)
                if isinstance(done, Refused)
                else saying(heard, heard.speech.request_cancelled(money))
            )
        person = await self._whom.named(heard.user_id, item["requester"])
        if deed == "decline":
            query = {"requester": item["requester"]}
            done = await self._inside.ask(heard.user_id, "POST", f"requests/{part(request_id)}/decline", query=query)
            return (
                refusing(heard, done)
                if isinstance(done, Refused)
                else saying(heard, heard.speech.request_declined_by_you(person.said(), money))
            )
        order: Json = {
            "payee": item["requester"],
            "amount": money.amount_minor,
            "currency": money.currency,
            "memo": item.get("memo"),
            "request": request_id,
        }
        return await self._order(heard, person, order)

    def _named(self, speech: Speech, item: Json) -> Text:
        if item["kind"] == "request":
            other = (
                item["requester"]
                if item["direction"] == "incoming"
                else ", ".join(each["user_id"] for each in item["from"])
            )
            incoming = item["direction"] == "outgoing"
        else:
            incoming = item["direction"] == "incoming"
            other = item["payer"] if incoming else item["payee"]
        name = speech.payment_from if incoming else speech.payment_to
        return name(other, _money(item))

    async def _yes(self, heard: Heard) -> Outcome:
        match heard.question:
            case Question(content={"ask": "confirm", "person": dict() as person, "order": dict() as order}):
                return self._scheduled(heard, Somebody.of(person), order)
            case Question(content={"ask": "lost"}):
                lost = await self._inside.ask(heard.user_id, "POST", "wallet/lost")
                if isinstance(lost, Refused):
                    return refusing(heard, lost)
                return saying(heard, heard.speech.locked(sessions_ended=lost["sessions_ended"]))
            case _:
                return (
                    await self._accept(heard)
                    if heard.card is not None
                    else saying(heard, heard.speech.not_understood(), keeps=True)
                )

    async def _lost(self, heard: Heard) -> Outcome:
        if FeatureName.PAYMENTS not in self._offered:
            raise NotOffered("payments")
        return saying(heard, heard.speech.confirm_lost(), question={"ask": "lost"})

    async def _no(self, heard: Heard) -> Outcome:
        if heard.question is not None:
            return saying(heard, heard.speech.not_doing())
        if heard.card is not None:
            return await self._decline(heard)
        return await self._cancel(heard)

    async def _choice(self, heard: Heard) -> Outcome:
        place = (heard.intent.number or 0) - 1
        match heard.question:
            case Question(content={"ask": "which", "deed": str() as deed, "items": list() as items}) if (
                0 <= place < len(items)
            ):
                return await self._do(heard, deed, items[place])
            case Question(content={"ask": "person", "people": list() as people} as asked) if 0 <= place < len(people):
                money = Money(amount_minor=asked["amount"], currency=AssetCode(asked["currency"]))
                intent = Intent(command=Command(asked["command"]), rest=asked["memo"])
                again = replace(heard, intent=intent, aside=asked["room_id"])
                go_on = self._pay_person if intent.command is Command.PAY else self._request_from
                return await go_on(again, Somebody.of(people[place]), money)
            case _:
                return saying(heard, heard.speech.not_understood(), keeps=True)

    # People.

    async def _find(self, heard: Heard) -> Outcome:
        term = heard.intent.person or heard.intent.rest.strip()
        if not term:
            return saying(heard, heard.speech.whom_to_find())
        found = await self._whom.search(heard.user_id, term)
        if isinstance(found, Refused):
            return refusing(heard, found)
        if not found:
            return saying(heard, heard.speech.found_nobody(term))
        return saying(heard, heard.speech.found([each.said() for each in found]))

    async def _handle(self, heard: Heard) -> Outcome:
        return saying(heard, heard.speech.handles(await self.handles(heard.user_id)))

    async def handles(self, user_id: UserId) -> list[str]:
        """The handles of a person, the one that is shown first; their user id where there is none."""
        try:
            found = await self._inside.ask(user_id, "GET", "handles")
        except NotOffered:
            return [user_id]
        if isinstance(found, Refused):
            return [user_id]
        active = [each for each in found["handles"] if each["status"] == "active"]
        return [each["handle"] for each in sorted(active, key=lambda each: not each["primary"])] or [user_id]

    async def _contacts(self, heard: Heard) -> Outcome:
        words = [word.casefold() for word in heard.intent.rest.split()]
        person = heard.intent.person
        if person is not None and any(word in REMOVE_WORDS for word in words):
            removed = await self._inside.ask(heard.user_id, "DELETE", f"contacts/{part(person)}")
            if isinstance(removed, Refused):
                return refusing(heard, removed)
            return saying(heard, heard.speech.contact_removed(removed["handle"]))
        if person is not None and (any(word in ADD_WORDS for word in words) or len(words) == 1):
            added = await self._inside.ask(heard.user_id, "PUT", f"contacts/{part(person)}")
            if isinstance(added, Refused):
                return refusing(heard, added)
            return saying(heard, heard.speech.contact_added(added["handle"]))
        listed = await self._inside.ask(heard.user_id, "GET", "contacts")
        if isinstance(listed, Refused):
            return refusing(heard, listed)
        return saying(heard, heard.speech.contacts([each["handle"] for each in listed["contacts"]]))

    # Calls.

    async def _call(self, heard: Heard) -> Outcome:
        typed = heard.intent.person or heard.intent.rest.strip()
        if typed:
            people = await self._whom.meant(heard.user_id, typed)
            if isinstance(people, Refused):
                return refusing(heard, people)
            if not people:
                return saying(heard, heard.speech.found_nobody(typed))
            if len(people) > 1:
                return saying(heard, heard.speech.found([each.said() for each in people]))
            url = f"https://matrix.to/#/{part(people[0].user_id)}"
            return saying(heard, heard.speech.call_from(people[0].said(), url))
        page = await self._inside.ask(heard.user_id, "GET", "calls", query={"limit": str(_SHOWN)})
        if isinstance(page, Refused):
            return refusing(heard, page)
        shown = [
            CallLine(
                incoming=each["direction"] == "incoming",
                other=each.get("peer_handle") or each["peer"],
                outcome=each["outcome"],
                at_ms=each["ring_ts"],
            )
            for each in page["calls"]
        ]
        return saying(heard, heard.speech.calls(shown))

    async def _call_policy(self, heard: Heard) -> Outcome:
        if FeatureName.CALLS not in self._offered:
            raise NotOffered("calls")
        policy = await self._account_data(heard.user_id, AccountDataType.CALL_POLICY)
        who = _who(heard.intent.rest, _CALL_WHO)
        if not who:
            now = policy.get("who")
            shown = list(now) if isinstance(now, list | tuple) else list(self._runtime.config.calls.default_who)
            return saying(heard, heard.speech.call_policy([str(each) for each in shown]))
        done = await self._inside.ask(heard.user_id, "PUT", "call_policy", {"v": 1, "who": who})
        if isinstance(done, Refused):
            return refusing(heard, done)
        return saying(heard, heard.speech.call_policy_set(who))

    async def _pay_policy(self, heard: Heard) -> Outcome:
        if FeatureName.PAYMENTS not in self._offered:
            raise NotOffered("payments")
        policy = await self._account_data(heard.user_id, AccountDataType.PAYMENT_POLICY)
        words = {word.casefold() for word in heard.intent.rest.split()}
        who = _who(heard.intent.rest, _PAY_WHO)
        now = policy.get("from")
        shown = [str(each) for each in now] if isinstance(now, list | tuple) and now else ["everyone"]
        asks = policy.get("accept") == "ask"
        if not who and not words & (ASK_WORDS | AUTO_WORDS):
            return saying(heard, heard.speech.pay_policy(shown, asks=asks))
        asks = bool(words & ASK_WORDS) or (asks and not words & AUTO_WORDS)
        wanted = {**policy, "v": 1, "from": who or shown, "accept": "ask" if asks else "auto"}
        await self._put(heard.user_id, AccountDataType.PAYMENT_POLICY, wanted)
        return saying(heard, heard.speech.pay_policy_set(who or shown, asks=asks))

    async def _account_data(self, user_id: UserId, data_type: AccountDataType) -> Json:
        found = await self._runtime.api.account_data_manager.get_global(user_id, data_type.value)
        return dict(found) if found is not None else {}

    async def _put(self, user_id: UserId, data_type: AccountDataType, content: Json) -> None:
        await self._runtime.api.account_data_manager.put_global(user_id, data_type.value, content)

    # The assistant itself.

    async def _help(self, heard: Heard) -> Outcome:
        return saying(
            heard,
            heard.speech.help(
                payments=FeatureName.PAYMENTS in self._offered,
                directory=FeatureName.DIRECTORY in self._offered,
                calls=FeatureName.CALLS in self._offered,
                recovery=FeatureName.RECOVERY in self._offered,
            ),
        )

    async def _recovery(self, heard: Heard) -> Outcome:
        if FeatureName.RECOVERY not in self._offered or not self._runtime.config.recovery.realms:
            raise NotOffered(heard.intent.command)
        return saying(heard, heard.speech.how_to_recover(self._wallet_url() + "recover/"))

    async def _language(self, heard: Heard) -> Outcome:
        wanted = heard.intent.rest.strip().casefold()
        by_name = {name.casefold(): tag for tag, name in LANGUAGES.items()}
        tag = by_name.get(wanted, wanted.partition("-")[0].partition("_")[0])
        if tag not in LANGUAGES:
            return saying(heard, heard.speech.languages())
        preferences = await self._account_data(heard.user_id, AccountDataType.PREFERENCES)
        await self._put(heard.user_id, AccountDataType.PREFERENCES, {**preferences, "v": 1, "language": tag})
        return saying(heard, self._speech_in(tag).language_set())

    async def _unknown(self, heard: Heard) -> Outcome:
        return saying(heard, heard.speech.not_understood(), keeps=True)


def message(task: Task, said: Text, number: int = 0, **more: Any) -> Task:
    """Something to say because of a task."""
    return Task(
        task_id=TaskId(f"{task.task_id}:said:{number}"),
        user_id=task.user_id,
        kind=Kind.MESSAGE,
        content={"plain": said.plain, "html": said.html, **more},
        made_ms=task.made_ms,
        due_ms=0,
    )


def saying(heard: Heard, said: Text, *, question: Mapping[str, Any] | None = None, keeps: bool = False) -> Outcome:
    return Outcome(tasks=(message(heard.task, said, asked=True),), question=question, keeps_question=keeps)


def _said(task: Task, said: Text) -> Outcome:
    return Outcome(tasks=(message(task, said, asked=True),), keeps_question=True)


def refusing(heard: Heard, refused: Refused) -> Outcome:
    return saying(heard, heard.speech.refused(refused))


def _money(found: Mapping[str, Any]) -> Money:
    return Money(amount_minor=found["amount"], currency=AssetCode(found["currency"]))


def _who(text: str, allowed: tuple[str, ...]) -> list[str]:
    named = [WHO.get(word.strip(",.").casefold(), "") for word in text.split()]
    return [each for each in dict.fromkeys(named) if each in allowed]


def _is_of_card(item: Json, card: Mapping[str, Any] | None) -> bool:
    if card is None:
        return True
    if card.get("kind") != item["kind"]:
        return False
    if item["kind"] == "payment":
        return bool(card.get("payment_id") == item["payment_id"])
    return bool(card.get("request_id") == item["request_id"])
