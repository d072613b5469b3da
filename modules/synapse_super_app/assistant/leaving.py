"""What the assistant does about moves between homeservers: says what is known, announces and cancels.

It moves nobody away: that takes a session that has just begun, which a message does not come from.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from super_app.assistant.model import Outcome
from super_app.assistant.words import Command
from super_app.errors import Refused
from synapse_super_app.assistant.conversation import Heard, refusing, saying
from synapse_super_app.http.inside import Inside

_CANCEL: Final = frozenset({"cancel", "stop", "abbrechen", "abbruch", "zurück"})


class Leaving:
    def __init__(self, inside: Inside) -> None:
        self._inside = inside

    def answers(self) -> Mapping[Command, Callable[[Heard], Awaitable[Outcome]]]:
        return {Command.MOVE: self._move}

    async def _move(self, heard: Heard) -> Outcome:
        words = heard.intent.rest.split()
        come_from = next((word.rstrip(",.") for word in words if word.startswith("@")), None)
        if come_from is not None:
            done = await self._inside.ask(heard.user_id, "PUT", "account/arrival", {"from": come_from})
        elif any(word.casefold() in _CANCEL for word in words):
            done = await self._inside.ask(heard.user_id, "DELETE", "account/arrival")
        else:
            done = await self._inside.ask(heard.user_id, "GET", "account/move")
        if isinstance(done, Refused):
            return refusing(heard, done)
        gone, arrival = done.get("departure"), done.get("arrival")
        if gone is not None:
            return saying(heard, heard.speech.moved_away(gone["to_handle"]))
        if arrival is None:
            return saying(heard, heard.speech.how_to_move())
        return saying(heard, heard.speech.arriving(arrival["from"], heard.user_id, arrival["state"]))
