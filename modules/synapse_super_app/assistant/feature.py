"""The assistant in the homeserver: puts its parts together and connects them to what they hear of."""

import logging
from collections.abc import Sequence
from typing import Any, Final

from super_app.assistant import parsing, store
from super_app.assistant.model import Kind, Outcome, Task, TaskId
from super_app.assistant.speech import Speech
from super_app.assistant.words import LANGUAGES
from super_app.calls.model import Record
from super_app.db import Cursor
from super_app.disputes.model import Case, Entry
from super_app.ids import EventId, RoomId, UserId
from super_app.names import CARD_KEY, AccountDataType
from super_app.schedules.model import Happening
from synapse_super_app.assistant.account import Account
from synapse_super_app.assistant.calling import Calling
from synapse_super_app.assistant.catalogues import catalogue
from synapse_super_app.assistant.conversation import Conversation, Heard, message
from synapse_super_app.assistant.ears import Ears
from synapse_super_app.assistant.following import Following
from synapse_super_app.assistant.later import Later, note_dispute, note_schedule
from synapse_super_app.assistant.leaving import Leaving
from synapse_super_app.assistant.news import NEWS_PAUSE_MS, News
from synapse_super_app.assistant.people import Whom
from synapse_super_app.assistant.reach import Reach
from synapse_super_app.assistant.rooms import Rooms
from synapse_super_app.assistant.tasks import Tasks
from synapse_super_app.assistant.together import Together
from synapse_super_app.calls.feature import CallsFeature
from synapse_super_app.config import FeatureName
from synapse_super_app.fares.shell import Ending
from synapse_super_app.http.inside import Inside
from synapse_super_app.http.resource import ApiResource
from synapse_super_app.http.routes import Route
from synapse_super_app.payments.feature import PaymentsFeature
from synapse_super_app.runtime import Runtime

logger = logging.getLogger(__name__)

_ATTENTION_MS: Final = 60_000
"""Who has just said something often goes on; for so long they are heard sooner."""


class AssistantFeature:
    name = FeatureName.ASSISTANT
    packages = ("super_app.accounts", "super_app.assistant")

    def __init__(
        self,
        runtime: Runtime,
        offered: frozenset[FeatureName],
        payments: PaymentsFeature | None,
        calls: CallsFeature | None,
    ) -> None:
        self._runtime = runtime
        self._offered = offered
        self._assets = runtime.config.payments.by_code() if FeatureName.PAYMENTS in offered else {}
        self._inside = Inside()
        self._account = Account(runtime)
        self._rooms = Rooms(runtime, self._account)
        whom = Whom(runtime, self._inside)
        self._conversation = Conversation(
            runtime=runtime,
            inside=self._inside,
            whom=whom,
            rooms=self._rooms,
            offered=offered,
            speech_in=self._speech_in,
        )
        self._conversation.also(Following(self._inside).answers())
        if FeatureName.DIRECTORY in offered:
            self._conversation.also(Leaving(self._inside).answers())
        if FeatureName.CALLS in self._offered:
            self._conversation.also(Calling(runtime, self._inside).answers())
        if payments is not None:
            pots = payments.pots
            together = Together(inside=self._inside, rooms=self._rooms, newest_gifts=pots.newest_in)
            self._conversation.also(together.answers())
            self._conversation.also(Reach(inside=self._inside).answers())
            self._conversation.also(Later(runtime=runtime, inside=self._inside, whom=whom).answers())
        self._news = News(runtime, self._inside, whom, self._account)
        self._tasks = Tasks(
            runtime,
            {
                Kind.HEARD: self._hear,
                Kind.GREET: self._greet,
                Kind.ORDER: self._carry_out,
                Kind.NEWS: self._tell,
                Kind.MESSAGE: self._send,
            },
            together=frozenset({Kind.NEWS}),
        )
        Ears(runtime, self._account, self._tasks.add).register()
        runtime.follower.when_started(self._tasks.begin)
        if payments is not None:
            payments.while_committing(self._news.payments_changed, self._something_happened)
            payments.requests.while_changing(self._news.request_changed, self._something_happened)
            if payments.fares is not None:
                payments.fares.when_ending(self._call_ending)
            payments.schedules.while_changing(self._schedule_happened, self._something_happened)
            payments.disputes.while_changing(self._dispute_changed, self._something_happened)
        if calls is not None:
            calls.when_reached(self._calls_reached)
        if runtime.config.assistant.greet_new_users:
            runtime.api.register_account_validity_callbacks(on_user_registration=self._registered)

    def connect(self, resource: ApiResource) -> None:
        """The routes that it asks are known."""
        self._inside.connect(resource)

    def routes(self) -> Sequence[Route]:
        return ()

    async def start(self) -> None:
        if self._runtime.is_main:
            await self._account.make()
        else:
            self._runtime.api.run_as_background_process("superapp_assistant_account", self._account.wait)
        self._tasks.start()

    def _something_happened(self) -> None:
        """What was noted is due in a moment."""
        self._tasks.noted(self._runtime.now_ms() + NEWS_PAUSE_MS)

    def _schedule_happened(self, cur: Cursor, happening: Happening, now_ms: int) -> None:
        if self._account.is_ready:
            note_schedule(cur, happening, now_ms)

    def _dispute_changed(self, cur: Cursor, case: Case, entry: Entry, now_ms: int) -> None:
        if self._account.is_ready:
            note_dispute(cur, case, entry, now_ms)

    async def _calls_reached(self, reached: Sequence[Record]) -> None:
        await self._tasks.add(self._news.of_calls(reached, self._runtime.now_ms()))

    async def _call_ending(self, ending: Ending) -> None:
        """The money of a call by the minute is nearly used up: say so to those of the two who are here."""
        fare, now_ms = ending.fare, self._runtime.now_ms()
        if not self._account.is_ready:
            return
        for user_id, other in ((fare.caller, fare.callee), (fare.callee, fare.caller)):
            if self._runtime.api.is_mine(user_id):
                said = (await self._speech_for(user_id)).call_is_ending(other, ending.left_ms // 1_000)
                task = Task(
                    task_id=TaskId(f"fare:{fare.fare_id}:{fare.moves}:{user_id}"),
                    user_id=user_id,
                    kind=Kind.MESSAGE,
                    content={"plain": said.plain, "html": said.html},
                    made_ms=now_ms,
                    due_ms=now_ms,
                )
                await self._tasks.add((task,))

    async def tell_of_recovery(self, user_id: UserId, happened: str, device_id: str) -> None:
        """Somebody tried a person's recovery PIN in vain, or set one up."""
        await self._tasks.add(self._news.of_recovery(user_id, happened, device_id, self._runtime.now_ms()))

    async def _registered(self, user_id: str) -> None:
        """Somebody registered, in this process. Fails open: they are not greeted."""
        try:
            if user_id == self._account.user_id or not self._account.is_ready:
                return
            if not self._runtime.rollout.includes(user_id):
                return
            user = await self._runtime.api.get_userinfo_by_id(user_id)
            if user is None or user.appservice_id is not None or user.is_guest:
                return
            now_ms = self._runtime.now_ms()
            task = Task(
                task_id=TaskId(f"greet:{user_id}"),
                user_id=UserId(user_id),
                kind=Kind.GREET,
                content={},
                made_ms=now_ms,
                due_ms=now_ms,
            )
            await self._tasks.add((task,))
        except Exception:
            logger.exception("%s could not be noted to be greeted", user_id)

    # What there is to do.

    async def _hear(self, tasks: Sequence[Task]) -> Outcome:
        task = tasks[0]
        speech = await self._speech_for(task.user_id)
        match task.content["what"]:
            case "fast":
                return Outcome(tasks=(message(task, speech.too_fast(), asked=True),), keeps_question=True)
            case "invited" | "encrypted":
                return await self._show_own_room(task, speech)
            case what:
                return await self._answer(task, speech, aside=what == "aside")

    async def _answer(self, task: Task, speech: Speech, *, aside: bool) -> Outcome:
        event = await self._runtime.private.get_event(EventId(task.content["event_id"]))
        if event is None:
            return Outcome(keeps_question=True)
        content = event.get_dict()["content"]
        text = parsing.text_of(str(content.get("body", "")), _formatted(content))
        read = parsing.read_aside if aside else parsing.read
        intent = read(text, self._assets, speech.locale)
        if intent is None:
            return Outcome(keeps_question=True)
        if intent.language is not None and await self._language_of(task.user_id) is None:
            # Until they choose, they are answered in the language that they write.
            speech = self._speech_in(intent.language)
            intent = read(text, self._assets, speech.locale) or intent
        now_ms = self._runtime.now_ms()
        question = await self._runtime.database.run(
            "assistant_question", lambda cur: store.question(cur, task.user_id, now_ms)
        )
        heard = Heard(
            task=task,
            user_id=task.user_id,
            speech=speech,
            intent=intent,
            question=question,
            aside=RoomId(event.room_id) if aside else None,
            card=await self._card_replied_to(content),
        )
        return await self._conversation.answer(heard)

    async def _card_replied_to(self, content: dict[str, Any]) -> dict[str, Any] | None:
        relation = content.get("m.relates_to")
        reply = relation.get("m.in_reply_to") if isinstance(relation, dict) else None
        event_id = reply.get("event_id") if isinstance(reply, dict) else None
        if not isinstance(event_id, str):
            return None
        event = await self._runtime.private.get_event(EventId(event_id))
        card = None if event is None else event.get_dict()["content"].get(CARD_KEY)
        return card if isinstance(card, dict) else None

    async def _show_own_room(self, task: Task, speech: Speech) -> Outcome:
        """Somebody has invited it, or written to it where it cannot read."""
        room_id = RoomId(task.content["room_id"])
        if task.content["what"] == "invited":
            if await self._rooms.join(room_id, task.user_id):
                return Outcome(tasks=(message(task, speech.here_i_am(), asked=True),), keeps_question=True)
            if len(await self._rooms.members(room_id)) > 2:
                # Among others it has nothing to say, and what is said there is not for it.
                await self._rooms.leave(room_id)
                return Outcome(tasks=(message(task, speech.here_i_am(), asked=True),), keeps_question=True)
        pointing = message(task, speech.unread_encrypted(), 1, room_id=room_id)
        return Outcome(tasks=(message(task, speech.here_i_am(), asked=True), pointing), keeps_question=True)

    async def _greet(self, tasks: Sequence[Task]) -> Outcome:
        task = tasks[0]
        speech = await self._speech_for(task.user_id)
        handle = (await self._conversation.handles(task.user_id))[0]
        said = speech.greeting(
            handle,
            payments=FeatureName.PAYMENTS in self._offered,
            directory=FeatureName.DIRECTORY in self._offered,
            calls=FeatureName.CALLS in self._offered,
        )
        return Outcome(tasks=(message(task, said, asked=True),), keeps_question=True)

    async def _carry_out(self, tasks: Sequence[Task]) -> Outcome:
        return await self._conversation.carry_out(tasks[0], await self._speech_for(tasks[0].user_id))

    async def _tell(self, tasks: Sequence[Task]) -> Outcome:
        return await self._news.tell(tasks, await self._speech_for(tasks[0].user_id))

    async def _send(self, tasks: Sequence[Task]) -> Outcome:
        task, said = tasks[0], tasks[0].content
        content: dict[str, Any] = {
            "msgtype": "m.text" if said.get("notifies") else "m.notice",
            "body": said["plain"],
            "format": "org.matrix.custom.html",
            "formatted_body": said["html"],
            "m.mentions": {},
        }
        if said.get("card") is not None:
            content[CARD_KEY] = said["card"]
        if said.get("room_id") is not None:
            await self._rooms.say_in(RoomId(said["room_id"]), content)
        else:
            await self._rooms.say(task.user_id, content, reopens=bool(said.get("asked")))
        self._runtime.follower.attend(_ATTENTION_MS)
        return Outcome(keeps_question=True)

    # Languages.

    def _speech_in(self, language: str) -> Speech:
        return Speech(language, catalogue(language), self._assets)

    async def _speech_for(self, user_id: UserId) -> Speech:
        return self._speech_in(await self._language_of(user_id) or self._runtime.config.assistant.language)

    async def _language_of(self, user_id: UserId) -> str | None:
        """The language that a person has chosen, if we speak it."""
        accounts = self._runtime.api.account_data_manager
        found = await accounts.get_global(user_id, AccountDataType.PREFERENCES.value)
        language = None if found is None else found.get("language")
        return language if isinstance(language, str) and language in LANGUAGES else None


def _formatted(content: dict[str, Any]) -> str | None:
    found = content.get("formatted_body")
    return found if content.get("format") == "org.matrix.custom.html" and isinstance(found, str) else None
