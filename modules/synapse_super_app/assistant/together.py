"""What the assistant does about money among several: gifts, links, splits, collections and reminders.

Each command goes through the client API as its person, like those in ``conversation``, under the id of the message.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from super_app.assistant.amounts import Wrong
from super_app.assistant.model import Outcome
from super_app.assistant.words import Command
from super_app.errors import Reason, Refused
from super_app.ids import RoomId, UserId, parse_user_id
from super_app.money import AssetCode, Money
from super_app.pots.model import PotId
from synapse_super_app.assistant.conversation import Heard, refusing, saying
from synapse_super_app.assistant.rooms import Rooms
from synapse_super_app.http.inside import Inside, Json, part

NewestGifts = Callable[[RoomId], Awaitable[Sequence[tuple[UserId, PotId]]]]
"""The gifts of a room, newest first."""

_EQUAL: Final = frozenset({"equal", "equally", "gleich", "gleichmäßig"})


class Together:
    def __init__(self, *, inside: Inside, rooms: Rooms, newest_gifts: NewestGifts) -> None:
        self._inside = inside
        self._rooms = rooms
        self._newest_gifts = newest_gifts

    def answers(self) -> Mapping[Command, Callable[[Heard], Awaitable[Outcome]]]:
        return {
            Command.GIFT: self._gift,
            Command.CLAIM: self._claim,
            Command.LINK: self._link,
            Command.SPLIT: self._split,
            Command.COLLECT: self._collect,
            Command.REMIND: self._remind,
        }

    async def _gift(self, heard: Heard) -> Outcome:
        intent, money = heard.intent, heard.intent.amount
        if isinstance(money, Wrong):
            return saying(heard, heard.speech.wrong_amount(money))
        if heard.aside is None or money is None:
            return saying(heard, heard.speech.how_to_give())
        words = intent.rest.split()
        equal = bool(words) and words[0].casefold() in _EQUAL
        memo = " ".join(words[1:]) if equal else intent.rest
        body: Json = {
            "gift_id": heard.number,
            "room_id": heard.aside,
            "amount": money.amount_minor,
            "currency": money.currency,
            "shares": intent.number or 1,
            "split": "equal" if equal else "random",
        }
        if memo:
            body["memo"] = memo
        if intent.people:
            body["for"] = intent.people[0]
        made = await self._inside.ask(heard.user_id, "POST", "gifts", body)
        if isinstance(made, Refused):
            return refusing(heard, made)
        return saying(heard, heard.speech.gave(money, made["shares"]))

    async def _claim(self, heard: Heard) -> Outcome:
        typed = heard.intent.rest.strip()
        if typed:
            done = await self._inside.ask(heard.user_id, "POST", "claims/redeem", {"link": typed.split()[0]})
            return self._claimed(heard, done)
        if heard.card is not None and heard.card.get("kind") == "gift":
            giver, gift_id = str(heard.card.get("giver")), str(heard.card.get("gift_id"))
            return self._claimed(heard, await self._claim_gift(heard, giver, gift_id))
        if heard.aside is None:
            return saying(heard, heard.speech.what_to_claim())
        refused: Refused | None = None
        for giver, pot_id in await self._newest_gifts(heard.aside):
            done = await self._claim_gift(heard, giver, pot_id)
            if not isinstance(done, Refused):
                return self._claimed(heard, done)
            # An older one may still be open; of the newest it is said why not.
            refused = refused or done
        return saying(heard, heard.speech.what_to_claim()) if refused is None else refusing(heard, refused)

    async def _claim_gift(self, heard: Heard, giver: str, gift_id: str) -> Json | Refused:
        return await self._inside.ask(heard.user_id, "POST", f"gifts/{part(gift_id)}/claim", query={"giver": giver})

    def _claimed(self, heard: Heard, done: Json | Refused) -> Outcome:
        if isinstance(done, Refused):
            return refusing(heard, done)
        mine, giver = done["mine"], done.get("giver") or done["payer"]
        money = Money(amount_minor=mine["amount"], currency=AssetCode(done["currency"]))
        return saying(heard, heard.speech.claimed(giver, money, mine["state"]))

    async def _link(self, heard: Heard) -> Outcome:
        money = heard.intent.amount
        if isinstance(money, Wrong):
            return saying(heard, heard.speech.wrong_amount(money))
        if money is None:
            return saying(heard, heard.speech.how_to_link())
        body: Json = {"claim_id": heard.number, "amount": money.amount_minor, "currency": money.currency}
        if heard.intent.rest:
            body["memo"] = heard.intent.rest
        if heard.intent.people:
            body["to"] = heard.intent.people[0]
        made = await self._inside.ask(heard.user_id, "POST", "claims", body)
        if isinstance(made, Refused):
            return refusing(heard, made)
        told = made["to"] if made.get("told") else None
        return saying(heard, heard.speech.linked(money, made["link"], told, made["expires_ts"]))

    async def _split(self, heard: Heard) -> Outcome:
        intent, money = heard.intent, heard.intent.amount
        if isinstance(money, Wrong):
            return saying(heard, heard.speech.wrong_amount(money))
        if heard.aside is None or money is None:
            return saying(heard, heard.speech.how_to_split())
        everybody = sorted(await self._rooms.joined(heard.aside) - {heard.user_id})
        asked = [each for each in map(parse_user_id, intent.people) if each is not None] or everybody
        if not asked:
            return saying(heard, heard.speech.how_to_split())
        body: Json = {
            "request_id": heard.number,
            "room_id": heard.aside,
            "from": asked,
            "amount": money.amount_minor,
            "currency": money.currency,
            "split": {"how": "equal", "mine": 1},
        }
        return await self._ask_for(heard, body, money)

    async def _collect(self, heard: Heard) -> Outcome:
        money = heard.intent.amount
        if isinstance(money, Wrong):
            return saying(heard, heard.speech.wrong_amount(money))
        if heard.aside is None or money is None:
            return saying(heard, heard.speech.how_to_collect())
        body: Json = {
            "request_id": heard.number,
            "room_id": heard.aside,
            "amount": money.amount_minor,
            "currency": money.currency,
            "goal": True,
        }
        return await self._ask_for(heard, body, money)

    async def _ask_for(self, heard: Heard, body: Json, money: Money) -> Outcome:
        if heard.intent.rest:
            body["memo"] = heard.intent.rest
        made = await self._inside.ask(heard.user_id, "POST", "requests", body)
        if isinstance(made, Refused):
            return refusing(heard, made)
        parts = [
            (each["user_id"], Money(amount_minor=each["amount"], currency=money.currency)) for each in made["from"]
        ]
        return saying(heard, heard.speech.asked_together(money, parts))

    async def _remind(self, heard: Heard) -> Outcome:
        """Remind those of the newest request that is open, or of the one whose card this answers."""
        page = await self._inside.ask(heard.user_id, "GET", "requests", query={"limit": "100"})
        if isinstance(page, Refused):
            return refusing(heard, page)
        wanted = None if heard.card is None else heard.card.get("request_id")
        refused: Refused | None = None
        for each in page["requests"]:
            if each["direction"] != "outgoing" or (wanted is not None and each["request_id"] != wanted):
                continue
            if wanted is None and each["state"] not in ("open", "paying"):
                continue
            done = await self._inside.ask(heard.user_id, "POST", f"requests/{part(each['request_id'])}/remind")
            if not isinstance(done, Refused):
                return saying(heard, heard.speech.reminded())
            if done.reason is not Reason.REMINDED_RECENTLY:
                return refusing(heard, done)
            refused = refused or done
        return saying(heard, heard.speech.nobody_to_remind()) if refused is None else refusing(heard, refused)
