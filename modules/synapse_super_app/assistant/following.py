"""What the assistant does about following people: whom one follows, who follows one, and whether they are told."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from super_app.assistant.model import Outcome
from super_app.assistant.words import QUIETLY_WORDS, TELL_WORDS, Command
from super_app.errors import Reason, Refused
from synapse_super_app.assistant.conversation import Heard, refusing, saying
from synapse_super_app.http.inside import Inside, part

_NO_MORE: Final = "nicht mehr"
"""As in ``folge @bob nicht mehr``."""


class Following:
    def __init__(self, inside: Inside) -> None:
        self._inside = inside

    def answers(self) -> Mapping[Command, Callable[[Heard], Awaitable[Outcome]]]:
        return {Command.FOLLOW: self._follow, Command.UNFOLLOW: self._unfollow}

    async def _follow(self, heard: Heard) -> Outcome:
        person, words = heard.intent.person, heard.intent.rest.casefold()
        if person is None:
            return await self._shown(heard)
        if _NO_MORE in words:
            return await self._unfollow(heard)
        tell = _wish(words.split())
        done = await self._inside.ask(
            heard.user_id, "PUT", f"follows/{part(person)}", {} if tell is None else {"tell": tell}
        )
        if isinstance(done, Refused):
            return refusing(heard, done)
        return saying(heard, heard.speech.followed(done["handle"], is_mutual=done["mutual"]))

    async def _unfollow(self, heard: Heard) -> Outcome:
        if heard.intent.person is None:
            return await self._shown(heard)
        done = await self._inside.ask(heard.user_id, "DELETE", f"follows/{part(heard.intent.person)}")
        if isinstance(done, Refused):
            # To people, contacts and those whom they follow are two things.
            unknown = done.reason is Reason.UNKNOWN_CONTACT
            return saying(heard, heard.speech.not_followed()) if unknown else refusing(heard, done)
        return saying(heard, heard.speech.unfollowed(done["handle"]))

    async def _shown(self, heard: Heard) -> Outcome:
        found = await self._inside.ask(heard.user_id, "GET", "follows")
        if isinstance(found, Refused):
            return refusing(heard, found)
        following, followers = ([each["handle"] for each in found[way]] for way in ("following", "followers"))
        return saying(heard, heard.speech.follows(following, followers))


def _wish(words: list[str]) -> bool | None:
    """Whether the person may know; None leaves that as it is."""
    if any(word.strip(".,!") in QUIETLY_WORDS for word in words):
        return False
    return True if any(word.strip(".,!") in TELL_WORDS for word in words) else None
