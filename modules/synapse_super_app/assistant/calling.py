"""What the assistant does about calls beside listing them: links into calls, and wishes to be called back.

Each command goes through the client API as its person, like those in ``conversation``.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from super_app.assistant.model import Outcome
from super_app.assistant.words import Command
from super_app.errors import Refused
from super_app.names import WEB_PREFIX
from synapse_super_app.assistant.conversation import Heard, refusing, saying
from synapse_super_app.http.inside import Inside, Json, part
from synapse_super_app.runtime import Runtime

_RECENT: Final = 50
_CALLBACK: Final = "callback"


class Calling:
    def __init__(self, runtime: Runtime, inside: Inside) -> None:
        self._runtime = runtime
        self._inside = inside

    def answers(self) -> Mapping[Command, Callable[[Heard], Awaitable[Outcome]]]:
        return {
            Command.CALL_LINK: self._make,
            Command.CALL_LINKS: self._list,
            Command.LIVE_ROOM: self._go_live,
            Command.CALL_BACK: self._ask_back,
        }

    async def _make(self, heard: Heard) -> Outcome:
        body: Json = {"title": heard.intent.rest.strip()[:200]}
        made = await self._inside.ask(heard.user_id, "POST", "call_links", body)
        if isinstance(made, Refused):
            return refusing(heard, made)
        return saying(heard, heard.speech.call_link(self._url(made)))

    async def _go_live(self, heard: Heard) -> Outcome:
        """A room of sound in which only they are heard until they let somebody else speak."""
        body: Json = {
            "title": heard.intent.rest.strip()[:200],
            "stage": True,
            "media": "audio",
            "screen_share": "hosts",
        }
        made = await self._inside.ask(heard.user_id, "POST", "call_links", body)
        if isinstance(made, Refused):
            return refusing(heard, made)
        return saying(heard, heard.speech.live_room(self._url(made)))

    async def _list(self, heard: Heard) -> Outcome:
        found = await self._inside.ask(heard.user_id, "GET", "call_links")
        if isinstance(found, Refused):
            return refusing(heard, found)
        return saying(heard, heard.speech.call_links([(each["title"], self._url(each)) for each in found["links"]]))

    async def _ask_back(self, heard: Heard) -> Outcome:
        """About the newest call of theirs in vain whose callee offers it, or the newest to whom they name."""
        page = await self._inside.ask(heard.user_id, "GET", "calls", query={"limit": str(_RECENT)})
        if isinstance(page, Refused):
            return refusing(heard, page)
        whom = heard.intent.person
        for each in page["calls"]:
            names = (each["peer"], each.get("peer_handle"))
            is_meant = whom is None or any(name == whom or (name or "").startswith(f"{whom}:") for name in names)
            if is_meant and each.get("callback_ts") is None and _CALLBACK in (each.get("offers") or ()):
                done = await self._inside.ask(heard.user_id, "POST", f"calls/{part(each['call_id'])}/callback")
                if isinstance(done, Refused):
                    return refusing(heard, done)
                return saying(heard, heard.speech.asked_back(each.get("peer_handle") or each["peer"]))
        return saying(heard, heard.speech.nobody_calls_back())

    def _url(self, link: Json) -> str:
        """The page of the web app that leads into the call."""
        base = self._runtime.api.public_baseurl.rstrip("/")
        return f"{base}{WEB_PREFIX}/app/#/call-link/{part(link['link'])}"
