"""What the assistant does about statements, payments to come, and disputes; and what it tells people of the latter two.

Each command goes through the client API as its person, like those in ``conversation``, under the id of the message.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from super_app.assistant import store
from super_app.assistant.amounts import Wrong
from super_app.assistant.model import Kind, Outcome, Task, TaskId
from super_app.assistant.speech import Speech
from super_app.assistant.text import Text, lines
from super_app.assistant.words import Command
from super_app.db import Cursor
from super_app.disputes.model import Act, Author, Case, Entry
from super_app.errors import Reason, Refused
from super_app.ids import UserId
from super_app.money import Asset, AssetCode, Money
from super_app.names import WEB_PREFIX, AccountDataType
from super_app.schedules.model import Happening
from synapse_super_app.assistant.conversation import Heard, refusing, saying
from synapse_super_app.assistant.people import Whom
from synapse_super_app.http.inside import Inside, Json, part
from synapse_super_app.runtime import Runtime

_EVERY: Final[Mapping[str, str]] = {
    "daily": "daily",
    "weekly": "weekly",
    "monthly": "monthly",
    "once": "once",
    "täglich": "daily",
    "wöchentlich": "weekly",
    "monatlich": "monthly",
    "einmal": "once",
}
_DEEDS: Final[Mapping[str, str]] = {
    "cancel": "cancel",
    "skip": "skip",
    "pause": "pause",
    "resume": "resume",
    "beende": "cancel",
    "beenden": "cancel",
    "überspringe": "skip",
    "überspringen": "skip",
    "pausiere": "pause",
    "fortsetzen": "resume",
}
_TOMORROW: Final = frozenset({"tomorrow", "morgen"})
_FILLERS: Final = frozenset({"from", "on", "ab", "am", "starting", "every"})
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_MONTH: Final = re.compile(r"\d{4}-\d{2}")
_SHOWN: Final = 10
_PAUSE_MS: Final = 500
"""What happens within this time is told together."""


class Later:
    def __init__(self, *, runtime: Runtime, inside: Inside, whom: Whom) -> None:
        self._runtime = runtime
        self._inside = inside
        self._whom = whom
        self._assets = runtime.config.payments.by_code()

    def answers(self) -> Mapping[Command, Callable[[Heard], Awaitable[Outcome]]]:
        return {
            Command.STATEMENT: self._statement,
            Command.SCHEDULE: self._schedule,
            Command.DISPUTE: self._dispute,
        }

    # Statements.

    async def _statement(self, heard: Heard) -> Outcome:
        zone = await self._zone(heard.user_id)
        now = datetime.fromtimestamp(self._runtime.now_ms() / 1000, UTC).astimezone(ZoneInfo(zone))
        found = _MONTH.search(heard.intent.rest)
        month = now.strftime("%Y-%m") if found is None else found[0]
        shown: list[Text] = []
        for code, asset in self._assets.items():
            query = {"currency": code, "tz": zone}
            told = await self._inside.ask(heard.user_id, "GET", f"statements/{part(month)}", query=query)
            if isinstance(told, Refused):
                return refusing(heard, told)
            if told["lines"] or told["opening"]:
                shown.append(_statement_line(heard.speech, told, asset))
        if not shown:
            return saying(heard, heard.speech.statement_is_empty(month))
        url = self._runtime.api.public_baseurl.rstrip("/") + f"{WEB_PREFIX}/"
        return saying(heard, lines([heard.speech.statement_of(month), *shown, heard.speech.statement_files(url)]))

    # Payments to come.

    async def _schedule(self, heard: Heard) -> Outcome:
        words = heard.intent.rest.split()
        spoken = [word.casefold() for word in words]
        money = heard.intent.amount
        deed = next((_DEEDS[word] for word in [*spoken, str(heard.intent.person).casefold()] if word in _DEEDS), None)
        if deed is not None and not isinstance(money, Money):
            more = money.text if isinstance(money, Wrong) else ""
            return await self._change(heard, deed, [*words, str(heard.intent.person or ""), more])
        if isinstance(money, Money) and deed is not None:
            # In "schedule skip 2" the place reads like an amount.
            return await self._change(
                heard, deed, [str(money.amount_minor // 10 ** self._assets[money.currency].scale)]
            )
        if isinstance(money, Wrong):
            return saying(heard, heard.speech.wrong_amount(money))
        if money is None or heard.intent.person is None:
            return await self._list(heard)
        return await self._make(heard, heard.intent.person, money, words)

    async def _make(self, heard: Heard, typed: str, money: Money, words: list[str]) -> Outcome:
        people = await self._whom.meant(heard.user_id, typed)
        if isinstance(people, Refused):
            return refusing(heard, people)
        if len(people) != 1:
            return saying(heard, heard.speech.found_nobody(typed) if not people else heard.speech.how_to_schedule())
        zone = await self._zone(heard.user_id)
        today = datetime.fromtimestamp(self._runtime.now_ms() / 1000, UTC).astimezone(ZoneInfo(zone)).date()
        every, first, memo = "once", today + timedelta(days=1), list[str]()
        for word in words:
            folded = word.casefold().strip(",.")
            if folded in _EVERY:
                every = _EVERY[folded]
            elif _DAY.fullmatch(folded):
                try:
                    first = date.fromisoformat(folded)
                except ValueError:
                    return saying(heard, heard.speech.how_to_schedule())
            elif folded not in _TOMORROW and (memo or folded not in _FILLERS):
                memo.append(word)
        person = people[0]
        body: Json = {
            "schedule_id": heard.number,
            "payee": person.address,
            "amount": money.amount_minor,
            "currency": money.currency,
            "every": every,
            "first": first.isoformat(),
            "tz": zone,
        }
        if memo:
            body["memo"] = " ".join(memo)
        fee_minor = 0
        if self._runtime.config.payments.fees:
            asked: Json = {name: body[name] for name in ("payee", "amount", "currency")}
            quote = await self._inside.ask(heard.user_id, "POST", "payments/quote", asked)
            if isinstance(quote, Refused):
                return refusing(heard, quote)
            fee_minor = body["fee"] = quote["fee"]
        made = await self._inside.ask(heard.user_id, "POST", "schedules", body)
        if isinstance(made, Refused):
            if made.reason is Reason.PIN_REQUIRED:
                url = self._runtime.api.public_baseurl.rstrip("/") + f"{WEB_PREFIX}/"
                return saying(heard, heard.speech.needs_confirmation(person.said(), money, url))
            return refusing(heard, made)
        said = heard.speech.scheduled(person.said(), money, every, first.isoformat(), made["at"], zone)
        # Nothing is paid before tomorrow, and a day before it is said again.
        return saying(heard, lines([said, heard.speech.costs(money, fee_minor)]))

    async def _list(self, heard: Heard) -> Outcome:
        found = await self._open(heard.user_id)
        if isinstance(found, Refused):
            return refusing(heard, found)
        shown = [
            heard.speech.schedule_line(place, each["payee"], _money(each), each["every"], each.get("next_ts"))
            for place, each in enumerate(found, start=1)
        ]
        return saying(heard, heard.speech.schedules(shown))

    async def _change(self, heard: Heard, deed: str, words: list[str]) -> Outcome:
        found = await self._open(heard.user_id)
        if isinstance(found, Refused):
            return refusing(heard, found)
        places = [int(word) for word in words if word.isdecimal() and len(word) < 4]
        place = places[0] if places else (1 if len(found) == 1 else 0)
        if not 1 <= place <= len(found):
            return await self._list(heard)
        schedule = found[place - 1]
        path = f"schedules/{part(schedule['schedule_id'])}/{deed}"
        done = await self._inside.ask(heard.user_id, "POST", path)
        if isinstance(done, Refused):
            return refusing(heard, done)
        return saying(heard, heard.speech.schedule_is(done["payee"], _money(done), done["state"], done.get("next_ts")))

    async def _open(self, user_id: UserId) -> list[Json] | Refused:
        found = await self._inside.ask(user_id, "GET", "schedules")
        if isinstance(found, Refused):
            return found
        return [each for each in found["schedules"] if each["state"] in ("active", "paused")][:_SHOWN]

    # Disputes.

    async def _dispute(self, heard: Heard) -> Outcome:
        card, text = heard.card, heard.intent.rest.strip()
        if card is None or card.get("kind") != "payment" or not text:
            return await self._list_disputes(heard)
        payment_id, payer = part(str(card.get("payment_id"))), str(card.get("payer"))
        if payer == heard.user_id:
            body: Json = {"ground": "other", "statement": text}
            done = await self._inside.ask(heard.user_id, "POST", f"payments/{payment_id}/dispute", body)
            if isinstance(done, Refused) and done.reason is Reason.CONFLICT:
                done = await self._say(heard, payment_id, payer, text)
        else:
            done = await self._say(heard, payment_id, payer, text)
        if isinstance(done, Refused):
            return refusing(heard, done)
        other = done["payee"] if done["side"] == "payer" else done["payer"]
        return saying(heard, heard.speech.dispute_heard(other, _wanted(done), done["state"]))

    async def _say(self, heard: Heard, payment_id: str, payer: str, text: str) -> Json | Refused:
        body: Json = {"statement_id": heard.number, "text": text}
        path = f"disputes/{payment_id}/statements"
        return await self._inside.ask(heard.user_id, "POST", path, body, {"payer": payer})

    async def _list_disputes(self, heard: Heard) -> Outcome:
        found = await self._inside.ask(heard.user_id, "GET", "disputes")
        if isinstance(found, Refused):
            return refusing(heard, found)
        shown = [
            heard.speech.dispute_line(
                each["payee"] if each["side"] == "payer" else each["payer"], _wanted(each), each["state"]
            )
            for each in found["disputes"][:_SHOWN]
        ]
        return saying(heard, heard.speech.disputes(shown))

    async def _zone(self, user_id: UserId) -> str:
        """The time zone that a person has set, UTC if none."""
        manager = self._runtime.api.account_data_manager
        found = await manager.get_global(user_id, AccountDataType.PREFERENCES.value)
        name = None if found is None else found.get("time_zone")
        try:
            return ZoneInfo(name).key if isinstance(name, str) and name else "UTC"
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return "UTC"


# What people are told of. Written down in the transaction in which it happens.


def note_schedule(cur: Cursor, happening: Happening, now_ms: int) -> None:
    schedule = happening.schedule
    task = Task(
        task_id=TaskId(
            f"news:schedule:{schedule.acct}:{schedule.schedule_id}:{schedule.number}:{happening.event}"
            f":{schedule.attempts}"
        ),
        user_id=schedule.payer,
        kind=Kind.NEWS,
        content={
            "about": "schedule",
            "event": happening.event.value,
            "payee": schedule.payee_written,
            "amount": schedule.money.amount_minor,
            "currency": schedule.money.currency,
            "due_ms": schedule.due_ms,
            "reason": None if happening.reason is None else happening.reason.value,
            "again_ms": happening.again_ms,
        },
        made_ms=now_ms,
        due_ms=now_ms + _PAUSE_MS,
    )
    store.add(cur, (task,))


def note_dispute(cur: Cursor, case: Case, entry: Entry, now_ms: int) -> None:
    """Tell the side that has not said it; both of what the operator decides."""
    sides = (
        (Author.PAYER, case.payer, case.payer_acct, case.payee),
        (Author.PAYEE, case.payee, case.payee_acct, case.payer),
    )
    tasks = tuple(
        Task(
            task_id=TaskId(f"news:dispute:{case.key.payer_key}:{case.key.payment_id}:{entry.entry_id}:{side}"),
            user_id=user_id,
            kind=Kind.NEWS,
            content={
                "about": "dispute",
                "act": entry.act.value,
                "other": other,
                "amount": case.wanted_minor if entry.amount_minor is None else entry.amount_minor,
                "currency": case.currency,
                "text": entry.text,
                "payment_id": case.key.payment_id,
                "payer": case.payer,
            },
            made_ms=now_ms,
            due_ms=now_ms + _PAUSE_MS,
        )
        for side, user_id, acct, other in sides
        # Of a refund its payee hears as of any payment.
        if acct is not None and entry.author is not side and entry.act is not Act.REFUNDED
    )
    store.add(cur, tasks)


def told_of_schedule(content: Mapping[str, Any], speech: Speech) -> Text:
    reason, again_ms = content["reason"], content["again_ms"]
    why = None if reason is None else speech.refused(Refused(reason=Reason(reason), message=reason.replace("_", " ")))
    return speech.schedule_news(content["event"], content["payee"], _money(content), content["due_ms"], why, again_ms)


def told_of_dispute(content: Mapping[str, Any], speech: Speech) -> tuple[Text, Json]:
    card: Json = {"v": 1, "kind": "payment", "payment_id": content["payment_id"], "payer": content["payer"]}
    return speech.dispute_news(content["act"], content["other"], _money(content), content["text"]), card


def _statement_line(speech: Speech, told: Json, asset: Asset) -> Text:
    changes = [line["change"] for line in told["lines"]]
    came, went = sum(each for each in changes if each > 0), -sum(each for each in changes if each < 0)
    return speech.statement_line(asset, told["opening"], came, went, told["closing"])


def _money(found: Mapping[str, Any]) -> Money:
    return Money(amount_minor=found["amount"], currency=AssetCode(found["currency"]))


def _wanted(case: Json) -> Money:
    return Money(amount_minor=case["wanted"], currency=AssetCode(case["currency"]))
